"""From measured operator shapes to times over the size of a step, for the shapes of one model.

Shapes between the measured ones
--------------------------------
A matrix product of m x n x k is interpolated linearly in n, then k, then m.  Its two limits, reading n k weights and
computing m n k products, are both linear in each of them, so this is exact in either limit.  Attention is interpolated
linearly in the heads.  More key-value heads than measured are more sequences: B sequences of r h heads keep a GPU
as busy as r B sequences of h heads.

Outliers
--------
Single cells of the tables are several times too slow.  Two bounds hold for any kernel: computing more rows cannot be
faster, and m rows can be computed as parts of a smaller size.  A cell beyond a bound by more than half is put there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Literal

from latency_models.errors import invalid, unknown_name
from latency_models.tables.grids import Curve, Law, Row, build_grid
from latency_models.tables.operator_tables import OperatorTables

_SUSPICIOUS = 1.5
"""How far beyond a bound a time is an outlier; waves of thread blocks and clock speeds explain less than that."""

_NO_WINDOW = 0
"""Label of attention to the whole context among the tables with a sliding window."""

Points = dict[float, float]
"""Times by one coordinate."""

AttentionOperator = Literal["context_attention", "generation_attention"]
"""Prefill and decode attention."""


class MatrixProducts:
    """Times of matrix products with weights of one format.

    Parameters
    ----------
    tables : OperatorTables
        Measured operators.
    weights : str
        Format of weights and activations as the tables name it: ``bfloat16``, ``fp8``, ``fp8_block``, ...

    Raises
    ------
    InputError
        If the tables have no such format.
    """

    def __init__(self, tables: OperatorTables, weights: str) -> None:
        groups = tables.groups("gemm")
        if weights not in groups:
            raise unknown_name(f"weight format of {tables.name}", weights, groups)
        shapes: dict[tuple[float, float], Points] = {}
        for n, k, m, time_s in groups[weights]:
            _keep_shortest(shapes.setdefault((n, k), {}), m, time_s)
        rows: list[Row] = []
        for (n, k), points in shapes.items():
            rows += [(n, k, m, time_s) for m, time_s in without_outliers(points).items()]
        self._times = build_grid(("n", "k", "tokens"), rows, beyond="prolong")
        self.sizes = sorted({row[2] for row in rows})
        self.narrowest = min(row[0] for row in rows)
        """Fewest outputs measured."""
        self.shortest_s = min(row[3] for row in rows)
        """The least that a product takes: starting its kernels."""
        self.weights_per_s = max(n * k / time_s for n, k, m, time_s in rows if m == self.sizes[0])
        """Weights read per second by the best product of the fewest rows."""
        self.products_per_s = max(n * k * m / time_s for n, k, m, time_s in rows)
        """Multiplications per second of the best product."""

    def time_s(self, tokens: float, n: float, k: float) -> float:
        """Seconds to multiply ``tokens`` rows of k inputs by k x n weights."""
        return self._times.law(n, k, tokens)[0]


class Attention:
    """Times of one attention operator over (sequences, tokens) for the heads of one shard.

    Parameters
    ----------
    tables : OperatorTables
        Measured operators.
    operator : AttentionOperator
        Prefill or decode.
    kv_cache : str
        Format of the KV cache as the tables name it: ``bfloat16`` or ``fp8``.
    head_dim, heads, kv_heads : int
        Shape of the shard's attention.
    combine_s : float, optional
        Lets contexts be split, and is what it takes to combine the parts; see :func:`split_contexts`.
    """

    def __init__(
        self,
        tables: OperatorTables,
        operator: AttentionOperator,
        *,
        kv_cache: str,
        head_dim: int,
        heads: int,
        kv_heads: int,
        combine_s: float | None = None,
    ) -> None:
        groups = tables.groups(operator)
        key = f"{kv_cache}/{head_dim}/{_NO_WINDOW}"
        if key not in groups:
            raise unknown_name(f"{operator} (KV format / head size / window) of {tables.name}", key, groups)
        by_heads: dict[tuple[float, float], dict[float, Points]] = {}
        for measured_heads, measured_kv, batch, tokens, time_s in groups[key]:
            rows = by_heads.setdefault((measured_heads, measured_kv or measured_heads), {})
            _keep_shortest(rows.setdefault(batch, {}), tokens, time_s)
        known_kv = max((kv for _, kv in by_heads if kv <= kv_heads and kv_heads % kv == 0), default=0.0)
        self._fold = kv_heads / known_kv if known_kv else 0.0
        around = _neighbours(heads / self._fold if self._fold else 0.0, [h for h, kv in by_heads if kv == known_kv])
        if not around:
            raise invalid(
                f"heads / KV heads of a shard ({operator})",
                f"{heads} / {kv_heads}",
                f"between the measured ones of {tables.name}: "
                + ", ".join(f"{h:g} / {kv:g}" for h, kv in sorted(by_heads)),
            )
        parts = [(complete(by_heads[h, known_kv]), share) for h, share in around]
        times = {
            batch: {
                tokens: sum((share * part[batch][tokens] for part, share in parts), 0.0)
                for tokens in points
                if all(tokens in part[batch] for part, _ in parts)
            }
            for batch, points in parts[0][0].items()
            if all(batch in part for part, _ in parts)
        }
        if combine_s is not None:
            times = split_contexts(times, combine_s)
        self._rows: list[Row] = [
            (b, tokens, time_s) for b, points in times.items() for tokens, time_s in points.items()
        ]
        self._times = build_grid(("sequences", "tokens"), self._rows, beyond="prolong")
        self.longest = max(tokens for _, tokens, _ in self._rows)
        """Most tokens measured."""

    def law(self, sequences: float, tokens: float) -> Law:
        """Seconds, their growth per token, and how many tokens on that growth holds."""
        return self._times.law(self._fold * sequences, tokens)

    def shortest_pair_s(self) -> float:
        """Seconds per query-key pair of one sequence in the best prefill call."""
        return self._fold * min(2.0 * time_s / (batch * tokens**2) for batch, tokens, time_s in self._rows if tokens)


def all_reduce_times(tables: OperatorTables, *, gpus: int) -> Points:
    """Seconds of one all-reduce by the number of its elements, as part of a CUDA graph.

    Outside of graphs the tables add the launch, which the engine hides as it launches ahead of the GPU.

    Parameters
    ----------
    tables : OperatorTables
        Measured operators.
    gpus : int
        How many reduce.
    """
    groups = tables.groups("allreduce")
    key = f"{gpus}/vllm_graph"
    if key not in groups:
        raise unknown_name(f"all-reduce (GPUs / backend) of {tables.name}", key, groups)
    points: Points = {}
    for size, time_s in groups[key]:
        _keep_shortest(points, size, time_s)
    return without_outliers(points)


def expert_times(
    tables: OperatorTables,
    *,
    weights: str,
    hidden: int,
    intermediate: int,
    chosen: int,
    experts: int,
    tp: int,
    ep: int,
    distribution: str,
) -> Points:
    """Seconds of one mixture-of-experts layer by the tokens of the step.

    Parameters
    ----------
    tables : OperatorTables
        Measured operators.
    weights : str
        Format of the experts' weights as the tables name it.
    hidden, intermediate, chosen, experts : int
        Width of the model and of an expert, experts per token, and experts.
    tp, ep : int
        Over how many GPUs each expert is split, and over how many the experts are distributed.
    distribution : str
        How unevenly tokens choose experts, as the tables name it: ``balanced``, ``power_law_1.2``, ...
    """
    groups = tables.groups("moe")
    key = "/".join(map(str, (weights, hidden, intermediate, chosen, experts, tp, ep, distribution)))
    if key not in groups:
        alike = [name for name in groups if name.split("/")[1:5] == key.split("/")[1:5]] or sorted(
            {"/".join(name.split("/")[:5]) for name in groups}
        )
        raise unknown_name(
            f"experts (format / hidden / width / chosen / experts / tp / ep / choice) of {tables.name}", key, alike
        )
    points: Points = {}
    for tokens, time_s in groups[key]:
        _keep_shortest(points, tokens, time_s)
    return without_outliers(points)


def curve_of(axis: str, points: Points) -> Curve:
    """The curve through ascending points, in proportion beyond the last."""
    return Curve(axis, list(points), list(points.values()), beyond="prolong")


def without_outliers(points: Mapping[float, float]) -> Points:
    """Put times that no kernel needs where the others say that they can be at most; ascending.

    Parameters
    ----------
    points : mapping of float to float
        Times over a size to which the work is proportional.
    """
    ordered = sorted(points.items())
    bounds = dict(ordered)
    at_most = float("inf")
    for size, time_s in reversed(ordered):
        bounds[size] = at_most = min(at_most, time_s)
    per_unit = float("inf")
    for size, time_s in ordered:
        if size > 0.0:
            per_unit = min(per_unit, time_s / size)
            bounds[size] = min(bounds[size], size * per_unit)
    return {size: bounds[size] if time_s > _SUSPICIOUS * bounds[size] else time_s for size, time_s in ordered}


def complete(by_batch: Mapping[float, Points]) -> dict[float, Points]:
    """Fill in the long sequences that large batches were not measured with, after cleaning both axes.

    From the last measured length on, a batch grows as the next smaller batch does, in proportion to its size: beyond
    the start of the kernel, attention costs the same for each token of each sequence.

    Parameters
    ----------
    by_batch : mapping of float to dict
        Times over tokens, by number of sequences.
    """
    lengths = sorted({tokens for points in by_batch.values() for tokens in points})
    columns: dict[float, Points] = {
        tokens: without_outliers({batch: points[tokens] for batch, points in by_batch.items() if tokens in points})
        for tokens in lengths
    }
    filled: dict[float, Points] = {}
    below: Points = {}
    below_batch = 0.0
    for batch in sorted(by_batch):
        row: Points = {}
        for before, tokens in pairwise([-1.0, *lengths]):
            measured = columns[tokens].get(batch)
            if measured is not None:
                row[tokens] = measured
            elif before in row and tokens in below:
                row[tokens] = row[before] + (below[tokens] - below[before]) * batch / below_batch
        if row:
            filled[batch] = row
            below, below_batch = row, batch
    return filled


def split_contexts(by_batch: Mapping[float, Points], combine_s: float) -> dict[float, Points]:
    """Times when long contexts may be split into parts that are worked on side by side, and combined.

    A few sequences alone cannot keep a GPU busy, and the tables were timed with little splitting.  B sequences of S
    tokens in r parts each are as much work, in the same shape, as r B sequences of S / r tokens (flash decoding: Dao et
    al., "Flash-Decoding for long-context inference", 2023); they need not take longer than that.

    Parameters
    ----------
    by_batch : mapping of float to dict
        Times over tokens, by number of sequences.
    combine_s : float
        Seconds to combine the parts.
    """
    curves = {batch: curve_of("tokens", points) for batch, points in by_batch.items()}
    return {
        batch: {
            tokens: min(
                [time_s]
                + [curve.law(tokens * batch / more)[0] + combine_s for more, curve in curves.items() if more > batch]
            )
            for tokens, time_s in points.items()
        }
        for batch, points in by_batch.items()
    }


def _neighbours(at: float, known: Iterable[float]) -> list[tuple[float, float]]:
    """The one or two nearest known values around ``at``, with their shares; empty outside."""
    ordered = sorted(set(known))
    if at in ordered:
        return [(at, 1.0)]
    for low, high in pairwise(ordered):
        if low < at < high:
            share = (at - low) / (high - low)
            return [(low, 1.0 - share), (high, share)]
    return []


def _keep_shortest(points: Points, at: float, time_s: float) -> None:
    """Of repeated measurements keep the shortest: noise and slower kernels that vLLM does not choose only add."""
    points[at] = min(points.get(at, time_s), time_s)
