"""What a validation keeps of one simulation: counts and sums for the SLOs, scores, what a plan promises figures of.

A request that was not answered (rejected, timed out, aborted, or still there in the end) missed every SLO.  For a mean
that is not enough: such a request may have no latency.  If it waited, it counts with the time that it waited, which is
less than its latency would have been; if it was rejected, it counts in the share of unanswered requests only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.metrics import RequestLatencies
from analysis.quality import quality
from analysis.slo import ROUNDING_S
from analysis.summary import Summary, plain
from latency_models.errors import invalid
from optimizer.problem import SloTarget
from scenarios.replicated import warmup_s
from scenarios.schema import Scenario
from sim.results import Floats, Ints, SimulationResult, Status

_PERCENTILES = (90, 95, 99)
_SETTLING = 0.25
"""Share of the time after the warm-up that is left out besides, to see what the empty start does."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SloFigures:
    """One replication's requests that an SLO is about."""

    requests: int
    missed: int
    """Slower than the target, or not answered."""
    unanswered: int
    timed: int
    """Requests with a latency, or a time that they waited in vain."""
    latency_sum_s: float
    """Of those."""
    latencies_s: Floats
    """Of every request for a percentile, infinite where there is none; empty for a mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFigures:
    """Scores of one replication's requests; shares of all of them, so one that was not answered has score 0."""

    predicted: float
    """Mean predicted score of the model that each request was sent to."""
    achieved: float
    """Mean true outcome; NaN if the prompts have none."""
    achieved_if_right: float
    """Mean outcome if every answer were as good as predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanFigures:
    """Figures of the requests that arrived within some time."""

    slos: tuple[SloFigures, ...]
    """In the order of the targets."""
    score: ScoreFigures | None
    """``None`` if requests have no prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Figures of one replication."""

    whole: SpanFigures
    """After the warm-up."""
    settled: SpanFigures
    """Without the first quarter of it too: what is left of the start is small there."""
    arrivals: int
    arriving_s: float
    """Time from 0 to the last arrival."""
    summary: Summary
    """The part of :func:`analysis.summary.summarise` that a plan's promise is held against, after the warm-up; each
    model has besides its ``fraction`` of the requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMeasure:
    """Reduces a simulation to what its SLOs need; see :data:`scenarios.replicated.Measure`."""

    targets: tuple[SloTarget, ...]

    def __call__(self, scenario: Scenario, result: SimulationResult) -> RunFigures:
        """Figures of one replication.

        Raises
        ------
        InputError
            No request arrives after the warm-up.
        """
        arrival_s = result.requests.arrival_s
        last_s = float(arrival_s[-1])
        begin_s = warmup_s(scenario, result)
        if begin_s > 0.0 and begin_s >= last_s:
            raise invalid(
                "warm-up (run.warmup)",
                begin_s,
                f"less than the {last_s:g} s in which requests arrive",
                "Lower it, or use a longer workload, trace or window.",
            )
        found = _Found(result, self.targets)
        settled_s = begin_s + _SETTLING * (last_s - begin_s)
        everyone = np.arange(len(arrival_s))
        rows = everyone[arrival_s >= begin_s]
        return RunFigures(
            whole=found.span(rows),
            settled=found.span(everyone[arrival_s >= settled_s]),
            arrivals=len(arrival_s),
            arriving_s=last_s,
            summary=found.summary(rows, last_s - begin_s),
        )


class _Found:
    """Latencies of all requests of a simulation, and what they come to for some of them."""

    def __init__(self, result: SimulationResult, targets: tuple[SloTarget, ...]) -> None:
        self._result = result
        self._targets = targets
        requests = result.requests
        latencies = RequestLatencies.of(requests)
        self._answered: NDArray[np.bool_] = latencies.finished
        self._latencies_s = {"ttft": latencies.ttft_s, "tpot": latencies.tpot_s, "e2e": latencies.e2e_s}
        left_s = np.where(np.isnan(requests.finish_s), result.end_s, requests.finish_s)
        waiting = ~latencies.finished & (requests.status != Status.REJECTED)
        self._waited_s = np.where(waiting, left_s - requests.arrival_s, np.nan)

    def span(self, rows: Ints) -> SpanFigures:
        """Figures of the requests in ``rows``."""
        return SpanFigures(slos=tuple(self._slo(target, rows) for target in self._targets), score=self._score(rows))

    def _slo(self, target: SloTarget, rows: Ints) -> SloFigures:
        if target.model is not None:
            rows = rows[self._result.requests.model[rows] == self._result.models.index(target.model)]
        latency_s = self._latencies_s[target.metric][rows]
        answered = self._answered[rows]
        # An answer of a single token has no time per output token, and keeps every limit on it.
        missed = ~answered | (latency_s > target.target_s + ROUNDING_S)
        if target.metric == "tpot":
            timed_s = latency_s
        else:
            timed_s = np.where(np.isnan(latency_s), self._waited_s[rows], latency_s)
        of_all = np.zeros(0)
        if target.statistic != "mean":
            no_time = 0.0 if target.metric == "tpot" else np.inf
            of_all = np.where(answered, np.where(np.isnan(latency_s), no_time, latency_s), np.inf)
        timed = ~np.isnan(timed_s)
        return SloFigures(
            requests=len(rows),
            missed=int(np.count_nonzero(missed)),
            unanswered=int(np.count_nonzero(~answered)),
            timed=int(np.count_nonzero(timed)),
            latency_sum_s=float(timed_s[timed].sum()),
            latencies_s=of_all,
        )

    def _score(self, rows: Ints) -> ScoreFigures | None:
        table = self._result.prompts
        if table is None:
            return None
        found = quality(self._result, rows)
        answered = rows[self._answered[rows]]
        requests = self._result.requests
        promised = table.predicted[requests.prompt[answered], requests.model[answered]]
        return ScoreFigures(
            predicted=found.predicted,
            achieved=found.achieved,
            achieved_if_right=float(promised.sum()) / len(rows) if len(rows) else np.nan,
        )

    def summary(self, rows: Ints, arriving_s: float) -> Summary:
        """See :attr:`RunFigures.summary`."""
        model = self._result.requests.model[rows]
        by_model = {}
        for index, name in enumerate(self._result.models):
            own = rows[model == index]
            by_model[name] = {**self._group(own, arriving_s), "fraction": len(own) / len(rows)}
        return {"overall": self._group(rows, arriving_s), "by_model": by_model}

    def _group(self, rows: Ints, arriving_s: float) -> Summary:
        group: Summary = {
            "requests": {"total": len(rows), "unanswered": int(np.count_nonzero(~self._answered[rows]))},
            "offered_per_s": len(rows) / arriving_s if arriving_s > 0.0 else None,
        }
        for metric, latencies_s in self._latencies_s.items():
            present = latencies_s[rows]
            present = present[~np.isnan(present)]
            group[f"{metric}_s"] = _statistics(present)
        if self._result.prompts is not None:
            group["quality"] = plain(asdict(quality(self._result, rows)))
        return group


def _statistics(values: Floats) -> Summary:
    names = [f"p{rank}" for rank in _PERCENTILES]
    if not len(values):
        return dict.fromkeys(("mean", *names))
    found = np.percentile(values, _PERCENTILES).tolist()
    return {"mean": float(values.mean()), **dict(zip(names, found, strict=True))}
