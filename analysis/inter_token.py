"""Inter-token latencies (ITL): exact statistics over all requests, and the token times of single ones.

Nothing is expanded for the statistics: they cost a few seconds for millions of runs, however many tokens those hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.progressions import BinRows, Histogram, Ranks
from analysis.token_runs import Cells, Runs, elapsed_s, last_tokens_s, read_runs, token_progressions
from latency_models.errors import check_count, invalid
from sim.results import Floats, SimulationResult

PERCENTILES = (50.0, 90.0, 95.0, 99.0)
"""Percentiles of every latency that the project reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyDistribution:
    """Summary of a set of latencies; NaN everywhere if there are none."""

    count: int
    mean_s: float
    std_s: float
    """Population standard deviation."""
    min_s: float
    max_s: float
    percentiles_s: Mapping[float, float]
    """Percentile (0 to 100) to its value, by linear interpolation between order statistics (numpy's default)."""

    @classmethod
    def of(cls, samples: Floats, percentiles: Sequence[float] = PERCENTILES) -> LatencyDistribution:
        """Summary of plain samples; NaN means that the request has no such latency and is left out."""
        count = len(samples) - int(np.count_nonzero(np.isnan(samples)))
        if not count:
            return cls.empty(percentiles)
        ranks = {q: Ranks.of(q, count) for q in percentiles}
        # Only the wanted ranks fall into place, which is several times faster than sorting.  NaN goes last.
        kth = sorted({index for rank in ranks.values() for index in (rank.lower, rank.upper)} | {count - 1})
        placed = np.partition(samples, kth)[:count]
        return cls(
            count=count,
            mean_s=float(placed.mean()),
            std_s=float(placed.std()),
            min_s=float(placed.min()),
            max_s=float(placed.max()),
            percentiles_s={
                q: rank.mix(float(placed[rank.lower]), float(placed[rank.upper])) for q, rank in ranks.items()
            },
        )

    @classmethod
    def empty(cls, percentiles: Sequence[float] = PERCENTILES) -> LatencyDistribution:
        """Summary of no samples."""
        nan = math.nan
        return cls(count=0, mean_s=nan, std_s=nan, min_s=nan, max_s=nan, percentiles_s=dict.fromkeys(percentiles, nan))


class InterTokenLatencies(NamedTuple):
    """Distribution of the inter-token latencies: of all requests, and of groups of them by index."""

    overall: LatencyDistribution
    by_model: dict[int, LatencyDistribution]
    by_class: dict[int, LatencyDistribution]
    by_model_and_class: dict[tuple[int, int], LatencyDistribution]


def inter_token_latencies(
    result: SimulationResult,
    *,
    selected: NDArray[np.bool_] | None = None,
    percentiles: Sequence[float] = PERCENTILES,
) -> InterTokenLatencies:
    """Exact distributions of the times between consecutive tokens of a request.

    A request with n tokens contributes n - 1 latencies.  The percentiles equal ``numpy.percentile`` of the expanded
    samples.  Groups without a token are absent.

    Parameters
    ----------
    result : SimulationResult
        What the simulation left behind; its step logs are read twice, in chunks.
    selected : array of bool, shape (requests,), optional
        Which requests count; all if not given.
    percentiles : sequence of float
        Between 0 and 100.

    Raises
    ------
    InputError
        If a percentile is out of range.
    RouterwiseError
        If the step log and the requests contradict each other.
    """
    for percent in percentiles:
        if not 0 <= percent <= 100:
            raise invalid("percentiles", percent, "numbers between 0 and 100")
    cells = Cells.of(result, selected)
    groups = _Groups.of(cells)
    histogram = Histogram(len(cells.pairs))
    for rows in token_progressions(result, cells):
        histogram.add(rows)
    targets = [_targets(histogram, members, percentiles) for members in groups.members]
    chosen = {bin_ for ranks in targets for bin_, _ in ranks}
    kept = BinRows(chosen, len(cells.pairs))
    cell_counts = histogram.counts.sum(axis=1)
    means = histogram.total_s / np.maximum(cell_counts, 1)
    squares: Floats = np.zeros(len(cells.pairs))
    for rows in token_progressions(result, cells):
        kept.add(rows)
        n, g = rows.steps, rows.growth
        # Sum of (first - mean + k g)**2 over k < n, around each cell's mean so that no digits cancel.
        for cell, weight in enumerate(rows.weights):
            d = rows.first - means[cell]
            squares[cell] += weight @ (n * d * d + d * g * n * (n - 1) + g * g * (n - 1) * n * (2 * n - 1) / 6)
    kept.prepare()
    distributions = [
        _distribution(histogram, kept, squares, members, ranks, percentiles)
        for members, ranks in zip(groups.members, targets, strict=True)
    ]
    return groups.arrange(distributions, percentiles)


class _Groups(NamedTuple):
    """The sets of cells that are reported: everything, each model, each class, each pair."""

    members: list[list[int]]
    keys: list[tuple[int | None, int | None]]

    @classmethod
    def of(cls, cells: Cells) -> _Groups:
        groups: dict[tuple[int | None, int | None], list[int]] = {}
        for cell, (model, class_) in enumerate(cells.pairs):
            for key in ((None, None), (model, None), (None, class_), (model, class_)):
                groups.setdefault(key, []).append(cell)
        return cls(list(groups.values()), list(groups))

    def arrange(self, found: list[LatencyDistribution], percentiles: Sequence[float]) -> InterTokenLatencies:
        table = InterTokenLatencies(LatencyDistribution.empty(percentiles), {}, {}, {})
        for (model, class_), distribution in zip(self.keys, found, strict=True):
            if model is not None and class_ is not None:
                table.by_model_and_class[model, class_] = distribution
            elif model is not None:
                table.by_model[model] = distribution
            elif class_ is not None:
                table.by_class[class_] = distribution
            else:
                table = table._replace(overall=distribution)
        return table


def _targets(histogram: Histogram, members: list[int], percentiles: Sequence[float]) -> list[tuple[int, int]]:
    """Bin and rank within the bin of the two samples that each percentile mixes."""
    ends = np.cumsum(histogram.counts[members].sum(axis=0))
    count = int(ends[-1])
    targets = []
    for percent in percentiles if count else ():
        ranks = Ranks.of(percent, count)
        for rank in (ranks.lower, ranks.upper):
            bin_ = int(np.searchsorted(ends, rank, side="right"))
            targets.append((bin_, rank - (int(ends[bin_ - 1]) if bin_ else 0)))
    return targets


def _distribution(
    histogram: Histogram,
    kept: BinRows,
    squares: Floats,
    members: list[int],
    targets: list[tuple[int, int]],
    percentiles: Sequence[float],
) -> LatencyDistribution:
    counts = histogram.counts[members].sum(axis=1)
    count = int(counts.sum())
    if not count:
        return LatencyDistribution.empty(percentiles)
    samples: dict[tuple[int, int], float] = {}
    for bin_ in {bin_ for bin_, _ in targets}:
        ranks = sorted({rank for other, rank in targets if other == bin_})
        values = kept.select(members, bin_, ranks)
        samples.update({(bin_, rank): value for rank, value in zip(ranks, values, strict=True)})
    mean = float(histogram.total_s[members].sum() / count)
    cell_means = histogram.total_s[members] / np.maximum(counts, 1)
    variance = float((squares[members].sum() + (counts * (cell_means - mean) ** 2).sum()) / count)
    pairs = zip(percentiles, targets[::2], targets[1::2], strict=True)
    return LatencyDistribution(
        count=count,
        mean_s=mean,
        std_s=math.sqrt(max(variance, 0.0)),
        min_s=float(histogram.least[members].min()),
        max_s=float(histogram.greatest[members].max()),
        percentiles_s={q: Ranks.of(q, count).mix(samples[low], samples[high]) for q, low, high in pairs},
    )


class RequestTokens(NamedTuple):
    """The tokens of one request."""

    times_s: Floats
    """When each token came out, from the first on."""
    itls_s: Floats
    """The times between them: one less than tokens."""


class TokenClock:
    """Token times of single requests; holds the step log of each replica that it was asked about (32 bytes a run)."""

    def __init__(self, result: SimulationResult) -> None:
        self._result = result
        self._logs: dict[int, Runs] = {}
        order = np.lexsort((result.gaps[:, 2], result.gaps[:, 1]))
        self._gaps = result.gaps[order]

    def tokens(self, row: int) -> RequestTokens:
        """Tokens of the request in ``row``; none if it received none."""
        requests = self._result.requests
        first_s = float(requests.first_token_s[row])
        if math.isnan(first_s):
            return RequestTokens(np.empty(0), np.empty(0))
        last_s = float(last_tokens_s(requests, np.array([row]))[0])
        log = self._log(int(requests.replica[row]))
        begin = max(int(np.searchsorted(log.start_s, first_s, side="right")) - 1, 0)
        end = max(int(np.searchsorted(log.start_s, last_s, side="left")), begin)
        start, first, growth, steps = (column[begin:end] for column in log)
        repeats = steps.astype(np.int64)
        run = np.repeat(np.arange(len(start)), repeats)
        k = np.arange(len(run)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        itls = first[run] + k * growth[run]
        times = start[run] + elapsed_s(first[run], growth[run], (k + 1).astype(np.float64))
        # The middle of a step tells on which side of a boundary it lies, whatever the last bit of the boundary.
        middles = times - itls / 2
        taken = (middles > first_s) & (middles < last_s)
        gap_begin, gap_end = np.searchsorted(self._gaps[:, 1], [row, row + 1])
        for from_s, to_s in self._gaps[gap_begin:gap_end, 2:]:
            taken &= (middles < from_s) | (middles > (math.inf if math.isnan(to_s) else to_s))
        gaps = self._gaps[gap_begin:gap_end]
        gaps = gaps[np.isfinite(gaps[:, 3])]
        times = np.concatenate([times[taken], gaps[:, 3]])
        itls = np.concatenate([itls[taken], gaps[:, 3] - gaps[:, 2]])
        order = np.argsort(times, kind="stable")
        return RequestTokens(np.concatenate([[first_s], times[order]]), itls[order])

    def _log(self, replica: int) -> Runs:
        if replica not in self._logs:
            blocks = list(read_runs(self._result, replica, 1 << 20)) or [Runs(*(np.empty(0) for _ in range(4)))]
            self._logs[replica] = Runs(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))
        return self._logs[replica]


def request_token_times(result: SimulationResult, row: int) -> Floats:
    """When each token of the request in ``row`` came out; many requests are cheaper through one :class:`TokenClock`."""
    return TokenClock(result).tokens(_row(result, row)).times_s


def request_itls(result: SimulationResult, row: int) -> Floats:
    """Inter-token latencies of the request in ``row``, in order; empty with fewer than two tokens."""
    return TokenClock(result).tokens(_row(result, row)).itls_s


def _row(result: SimulationResult, row: int) -> int:
    if check_count("row", row, minimum=0) >= len(result.requests):
        raise invalid("row", row, f"a request's row, 0 to {len(result.requests) - 1}")
    return row
