"""``piecewise``: step times read from a table of measurements, linear between the points.

Decode is a table over (batch, total context), prefill one over the tokens of the step.  Inside a cell of the decode
table the step time is exactly linear in the context, and ``decode_run`` ends a run at the last step of the cell, so
macro-stepping stays exact.

How the tables are read
-----------------------
- A decode batch between two measured ones is interpolated between their rows *at the same mean context per sequence*:
  rows are measured over different totals (a batch of 1 never holds what a batch of 64 does), but over similar means.
- A step that mixes prefill with decode takes ``prefill(prefill tokens) + decode(batch, context) - shared_s``: the two
  tables both contain what a step pays once (launching it, reading the weights), so that is taken off once.
- The prefill table knows the number of tokens alone.  It holds for prompts like those measured; the attention of a
  chunk to earlier chunks is not in it (the ``linear`` model has a term for that).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from latency_models.errors import InputError, check_count, check_finite, invalid
from latency_models.step_time import STEP_TIME_MODELS, UNLIMITED_STEPS


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRow:
    """Decode steps measured at one batch size.

    Parameters
    ----------
    batch : int
        Decoding sequences.
    context_tokens : sequence of int, shape (n,), n >= 2
        Total context of the batch at each point, ascending, each including the token of the step.
    step_s : sequence of float, shape (n,)
        Duration of the step at each point, in seconds.
    """

    batch: int
    context_tokens: Sequence[int]
    step_s: Sequence[float]

    def __post_init__(self) -> None:
        check_count("latency.decode batch", self.batch)
        _check_points(f"latency.decode[batch {self.batch}].context_tokens", self.context_tokens, self.step_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillTable:
    """Steps measured with prefill only.

    Parameters
    ----------
    tokens : sequence of int, shape (n,), n >= 2
        Prefill tokens of the step at each point, ascending.
    step_s : sequence of float, shape (n,)
        Duration of the step at each point, in seconds.
    """

    tokens: Sequence[int]
    step_s: Sequence[float]

    def __post_init__(self) -> None:
        _check_points("latency.prefill.tokens", self.tokens, self.step_s)


@STEP_TIME_MODELS.register("piecewise")
@dataclass(frozen=True, slots=True, kw_only=True)
class PiecewiseStepTime:
    """Step times from tables of measurements; see the module's text for how they are read.

    Parameters
    ----------
    decode : sequence of DecodeRow
        One row per measured batch size, by ascending batch.
    prefill : PrefillTable
        Prefill steps.
    shared_s : float, optional
        Part of a step that both tables contain and that a mixed step pays once, in seconds.  The default is the
        smallest decode time of the table; it cannot be larger than that.
    extrapolate : bool
        Whether a point outside the tables is read from the nearest cell, prolonged linearly.  If not, it is an error.
    pad_batch_to : sequence of int
        Batch sizes that a decode-only batch is padded up to (the CUDA graph sizes of the engine), ascending.  A batch
        above the largest is not padded, as the engine then runs without a graph; nor is a step with prefill in it.
        Padding adds no context: the mean context is then the total over the padded batch.

    Raises
    ------
    InputError
        On tables that are not ascending, positive and finite; from the methods also on a point outside the tables.
    """

    decode: Sequence[DecodeRow]
    prefill: PrefillTable
    shared_s: float | None = None
    extrapolate: bool = False
    pad_batch_to: Sequence[int] = ()
    _batches: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _shared_s: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        batches = tuple(row.batch for row in self.decode)
        if not batches:
            raise invalid("latency.decode", [], "at least one row {batch, context_tokens, step_s}")
        if any(a >= b for a, b in pairwise(batches)):
            raise invalid("latency.decode batch", list(batches), "rows in ascending order of batch, each batch once")
        if self.extrapolate and len(batches) < 2:
            raise invalid("latency.extrapolate", True, "false with a single decode row", "Measure a second batch size")
        for size in self.pad_batch_to:
            check_count("latency.pad_batch_to", size)
        if any(a >= b for a, b in pairwise(self.pad_batch_to)):
            raise invalid("latency.pad_batch_to", list(self.pad_batch_to), "ascending batch sizes, each once")
        fastest_s = min(min(row.step_s) for row in self.decode)
        shared_s = fastest_s if self.shared_s is None else check_finite("latency.shared_s", self.shared_s)
        if shared_s > fastest_s:
            raise invalid("latency.shared_s", shared_s, f"at most the smallest decode time, {fastest_s:g} s")
        object.__setattr__(self, "_batches", batches)
        object.__setattr__(self, "_shared_s", shared_s)

    def step_s(
        self,
        tokens: int,
        prefill_seqs: int,
        prefill_context: int,
        prefill_work: float,
        decode_seqs: int,
        decode_context: int,
        sampled: int,
        longest: int = 0,
    ) -> float:
        """Duration of one step; see :meth:`latency_models.step_time.StepTimeModel.step_s`."""
        if decode_seqs == 0:
            return self._prefill_s(tokens)
        if tokens == decode_seqs:
            return self.decode_run(decode_seqs, decode_context)[0]
        decode_s, _, _ = self._decode_law(decode_seqs, decode_seqs, decode_context)
        # A prolonged decode row may fall below what it shares with prefill; it never shortens the step.
        return self._prefill_s(tokens - decode_seqs) + max(decode_s - self._shared_s, 0.0)

    def decode_run(self, seqs: int, context: int, longest: int = 0) -> tuple[float, float, int]:
        """Law of a run of decode-only steps up to the last one in the same cell of the table."""
        place = bisect_right(self.pad_batch_to, seqs - 1)
        padded = self.pad_batch_to[place] if place < len(self.pad_batch_to) else seqs
        return self._decode_law(padded, seqs, context)

    def _decode_law(self, batch: int, seqs: int, context: int) -> tuple[float, float, int]:
        """First duration, growth and length of a run of ``seqs`` sequences, looked up as a batch of ``batch``."""
        first_s = growth_s = 0.0
        steps = UNLIMITED_STEPS
        for row, share in self._rows_around(batch):
            points, times_s = row.context_tokens, row.step_s
            last = len(points) - 1
            # Contexts are compared at equal mean, context / batch; multiplied out, cells and run lengths are exact.
            scaled = context * row.batch
            if not self.extrapolate and not points[0] * batch <= scaled <= points[last] * batch:
                means = [points[0] / row.batch, points[last] / row.batch]
                raise _outside(f"mean decode context of a batch of {batch}", context / batch, means)
            cell = min(max(bisect_right(points, scaled // batch), 1), last) - 1
            slope_s = (times_s[cell + 1] - times_s[cell]) / (points[cell + 1] - points[cell])
            first_s += share * (times_s[cell] + slope_s * (scaled / batch - points[cell]))
            growth_s += share * (slope_s * (seqs * row.batch / batch))
            if cell + 1 < last or not self.extrapolate:
                # A step exactly on the next point is still on this line.
                steps = min(steps, (points[cell + 1] * batch - scaled) // (seqs * row.batch) + 1)
        if first_s <= 0.0:
            raise _not_positive(f"decode batch {batch}, total context {context}", first_s)
        if growth_s < 0.0 and first_s < -growth_s * steps:
            # A falling line that is prolonged reaches 0: the run ends before, and the next one is refused.
            steps = math.ceil(first_s / -growth_s)
        return first_s, growth_s, steps

    def _rows_around(self, batch: int) -> list[tuple[DecodeRow, float]]:
        """The rows that a batch is interpolated from, with their weights."""
        right = bisect_right(self._batches, batch)
        if right and self._batches[right - 1] == batch:
            return [(self.decode[right - 1], 1.0)]
        if not self.extrapolate and not 0 < right < len(self._batches):
            raise _outside("decode batch", batch, self._batches)
        high = min(max(right, 1), len(self._batches) - 1)
        low_row, high_row = self.decode[high - 1], self.decode[high]
        weight = (batch - low_row.batch) / (high_row.batch - low_row.batch)
        return [(low_row, 1.0 - weight), (high_row, weight)]

    def _prefill_s(self, tokens: int) -> float:
        """Duration of a step of ``tokens`` prefill tokens alone."""
        points, times_s = self.prefill.tokens, self.prefill.step_s
        last = len(points) - 1
        if not self.extrapolate and not points[0] <= tokens <= points[last]:
            raise _outside("prefill tokens of a step", tokens, points)
        cell = min(max(bisect_right(points, tokens), 1), last) - 1
        slope_s = (times_s[cell + 1] - times_s[cell]) / (points[cell + 1] - points[cell])
        duration_s = times_s[cell] + slope_s * (tokens - points[cell])
        if duration_s <= 0.0:
            raise _not_positive(f"{tokens} prefill tokens", duration_s)
        return duration_s


def _check_points(field_name: str, points: Sequence[int], step_s: Sequence[float]) -> None:
    """Refuse points that are not ascending counts with one positive time each."""
    if len(points) < 2 or len(points) != len(step_s):
        raise invalid(
            field_name, list(points), f"two points or more, with one step_s each (there are {len(step_s)} of those)"
        )
    for point in points:
        check_count(field_name, point, minimum=0)
    if any(a >= b for a, b in pairwise(points)):
        raise invalid(field_name, list(points), "points in ascending order, each once")
    for duration_s in step_s:
        check_finite(f"step_s of {field_name}", duration_s, exclusive=True)


def _outside(what: str, value: float, points: Sequence[float]) -> InputError:
    return InputError(
        f"{what} is {value:g}, outside the measured range {points[0]:g} to {points[-1]:g} of the piecewise latency "
        "table; measure that range, or set latency.extrapolate to true to prolong the nearest cell"
    )


def _not_positive(point: str, duration_s: float) -> InputError:
    return InputError(
        f"the piecewise latency table prolonged to {point} gives a step of {duration_s:g} s; allowed: > 0. "
        "Add a measured point there"
    )
