"""How busy replicas were: utilisation, batch sizes and KV use, from step logs and samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.token_runs import elapsed_s
from sim.results import Floats, SimulationResult

_BLOCK_ROWS = 1 << 17


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaLoad:
    """Averages of one replica over the measured time; NaN where nothing was there to average."""

    busy_s: float
    utilisation: float
    """Share of the measured time spent computing."""
    steps: float
    """Engine steps; not whole if the warm-up ends inside a step."""
    computed_tokens: float
    """Tokens of all steps, prefill and decode."""
    mean_batch_size: float
    """Sequences in a step, averaged over the time spent computing."""
    mean_batch_size_per_token: float
    """Sequences in the step of a token, averaged over computed tokens: the batch that a typical token sees."""
    mean_kv_used_frac: float
    """Share of the KV blocks in use, averaged over the measured time: from the samples, which see blocks grow; without
    samples from the step log, which has them at the start of each run only."""
    mean_running: float
    """Requests admitted and not gone, averaged over the measured time; one that is preempted meanwhile counts."""
    mean_waiting: float
    """Requests that wait for their first admission, averaged over the measured time."""
    max_waiting: float
    """Most of them at any instant."""


def replica_load(result: SimulationResult, replica: int, *, warmup_s: float = 0.0) -> ReplicaLoad:
    """Load of one replica from ``warmup_s`` to the end.

    A run that the warm-up's end cuts counts by the share of its duration that lies behind.
    """
    totals = np.zeros(6)
    for chunk in result.runs[replica].chunks():
        for begin in range(0, len(chunk), _BLOCK_ROWS):
            totals += _run_totals(chunk[begin : begin + _BLOCK_ROWS], warmup_s, result.end_s)
    busy_s, steps, tokens, seqs_by_time, seqs_by_token, blocks_by_time = (float(total) for total in totals)
    measured_s = result.end_s - warmup_s
    total_blocks = result.replicas[replica].total_blocks
    samples = result.samples[(result.samples[:, 1] == replica) & (result.samples[:, 0] >= warmup_s)]
    if len(samples):
        kv_used_frac = float(_shares(samples[:, 4], samples[:, 5]).mean())
    else:
        kv_used_frac = _ratio(blocks_by_time, measured_s * total_blocks)
    queued_s, first_s, left_s = _presence(result, replica)
    return ReplicaLoad(
        busy_s=busy_s,
        utilisation=_ratio(busy_s, measured_s),
        steps=steps,
        computed_tokens=tokens,
        mean_batch_size=_ratio(seqs_by_time, busy_s),
        mean_batch_size_per_token=_ratio(seqs_by_token, tokens),
        mean_kv_used_frac=kv_used_frac,
        mean_running=_mean_present(first_s, left_s, warmup_s, result.end_s),
        mean_waiting=_mean_present(queued_s, first_s, warmup_s, result.end_s),
        max_waiting=_most_present(queued_s, first_s, warmup_s, result.end_s),
    )


def _presence(result: SimulationResult, replica: int) -> tuple[Floats, Floats, Floats]:
    """When requests came into the replica's queue, were first admitted, and left; those with a rejected answer too."""
    requests = result.requests
    here = requests.replica == replica
    left_s = np.where(np.isnan(requests.finish_s[here]), result.end_s, requests.finish_s[here])
    # Whoever never reached the scheduler was never in its queue.
    queued_s = np.where(np.isnan(requests.queued_s[here]), left_s, requests.queued_s[here])
    never_admitted = np.isnan(requests.scheduled_s[here])
    first_s = np.where(never_admitted, left_s, requests.scheduled_s[here])
    rejected = result.rejected_answers[result.rejected_answers[:, 2] == replica]
    return (
        np.concatenate([queued_s, rejected[:, 3]]),
        np.concatenate([first_s, rejected[:, 4]]),
        np.concatenate([left_s, rejected[:, 6]]),
    )


def _mean_present(from_s: Floats, to_s: Floats, begin_s: float, end_s: float) -> float:
    """Mean number of requests that are present, each from ``from_s`` to ``to_s``, between two times."""
    inside = np.minimum(to_s, end_s) - np.maximum(from_s, begin_s)
    return _ratio(float(np.clip(inside, 0.0, None).sum()), end_s - begin_s)


def _most_present(from_s: Floats, to_s: Floats, begin_s: float, end_s: float) -> float:
    """Most requests present at any instant; one that comes and goes in the same instant does not count."""
    counted = (to_s > from_s) & (to_s > begin_s) & (from_s <= end_s)
    times = np.concatenate([np.maximum(from_s[counted], begin_s), to_s[counted]])
    changes = np.concatenate([np.ones(counted.sum()), -np.ones(counted.sum())])
    # Who leaves at an instant leaves before who comes.
    order = np.lexsort((changes, times))
    return float(np.cumsum(changes[order]).max(initial=0.0))


def _run_totals(runs: Floats, warmup_s: float, end_s: float) -> Floats:
    start, first, growth, steps, sequences, tokens, blocks = runs.T
    duration = elapsed_s(first, growth, steps)
    inside = np.clip(np.minimum(start + duration, end_s) - np.maximum(start, warmup_s), 0.0, duration)
    # A step without duration counts if it starts in the measured time.
    share = np.divide(inside, duration, out=(start >= warmup_s).astype(np.float64), where=duration > 0)
    counted = steps * share
    return np.array(
        [
            inside.sum(),
            counted.sum(),
            counted @ tokens,
            inside @ sequences,
            counted @ (tokens * sequences),
            inside @ blocks,
        ]
    )


def _shares(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
