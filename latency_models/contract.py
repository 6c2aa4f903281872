"""What every step-time model must keep to, as a check that a third party's tests can call."""

from __future__ import annotations

import math
from collections.abc import Sequence

from latency_models.errors import RouterwiseError
from latency_models.step_time import StepTimeModel

_SAME = 1e-9
"""Relative difference up to which two durations count as equal: a run sums what a single step multiplies."""


class ContractError(RouterwiseError):
    """A plug-in does not do what its protocol says."""


def check_step_time_model(
    model: StepTimeModel,
    *,
    batches: Sequence[int] = (1, 2, 3, 7, 8, 31, 64),
    mean_contexts: Sequence[int] = (16, 100, 513, 2048),
    chunks: Sequence[int] = (1, 16, 500, 2048),
    longest_run: int = 4096,
) -> None:
    """Check a step-time model on a grid of steps.

    The rules: a step takes a positive, finite time; the same step always takes the same time; the law of a run gives
    what each of its steps takes alone, for as long as ``decode_run`` says that it holds.

    Parameters
    ----------
    model : StepTimeModel
        The model.
    batches : sequence of int
        Decoding sequences to try.
    mean_contexts : sequence of int
        Contexts per sequence to try.
    chunks : sequence of int
        Prefill chunks to try, alone and together with each decode batch.
    longest_run : int
        How far into a run to look, in steps.

    Raises
    ------
    ContractError
        Naming the rule, the call and the result.
    """
    for chunk in chunks:
        _check_step(model, (chunk, 1, chunk, chunk * chunk / 2.0, 0, 0, 1))
    for seqs in batches:
        for mean in mean_contexts:
            _check_run(model, (seqs, seqs * mean), longest_run)
            if getattr(model, "uses_longest_context", False):
                _check_run(model, (seqs, seqs * mean, min(seqs, 3) * mean), longest_run)
            for chunk in chunks:
                _check_step(model, (seqs + chunk, 1, chunk, chunk * chunk / 2.0, seqs, seqs * mean, seqs + 1))


def _check_step(model: StepTimeModel, step: tuple[int, int, int, float, int, int, int]) -> None:
    duration_s = model.step_s(*step)
    if not (math.isfinite(duration_s) and duration_s > 0.0):
        raise ContractError(f"step_s{step} is {duration_s!r}; allowed: a finite time > 0")
    if model.step_s(*step) != duration_s:
        raise ContractError(f"step_s{step} is not the same twice; allowed: a pure function of the step")


def _check_run(model: StepTimeModel, batch: tuple[int, ...], longest_run: int) -> None:
    """Check the law of a batch: sequences, the sum of their contexts, and perhaps the longest of them."""
    call = f"decode_run{batch}"
    first_s, growth_s, steps = law = model.decode_run(*batch)
    if model.decode_run(*batch) != law:
        raise ContractError(f"{call} is not the same twice; allowed: a pure function of the batch")
    if not isinstance(steps, int) or steps < 1:
        raise ContractError(f"{call} holds for {steps!r} steps; allowed: an integer >= 1")
    seqs, context, *longest = batch
    reach = min(steps, longest_run)
    for step in sorted({0, 1, reach // 2, reach - 1}):
        if step >= reach:
            continue
        by_law_s = first_s + growth_s * step
        if not (math.isfinite(by_law_s) and by_law_s > 0.0):
            raise ContractError(f"{call} gives {by_law_s!r} s for step {step}; allowed: a finite time > 0")
        alone_s = model.decode_run(seqs, context + step * seqs, *(entry + step for entry in longest))[0]
        if abs(alone_s - by_law_s) > _SAME * by_law_s:
            raise ContractError(
                f"{call} gives {by_law_s!r} s for step {step}, but that step alone takes {alone_s!r} s; "
                "allowed: the same. Return fewer steps"
            )
