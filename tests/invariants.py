"""What holds in every simulation, as checks of a result and of the specs that went in.

Each check raises an AssertionError that names the first offender.  They use nothing but the public result.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sim.cluster_spec import ClusterSpec
from sim.prompts import PromptSpec
from sim.results import Floats, SimulationResult, Status
from sim.workload import RequestSpec

SAME_S = 1e-9
"""Times that the step log repeats by another formula agree within this."""

IDLE_SLEEP_S = 0.001
"""vLLM's loop may sleep this long beside waiting requests, after an iteration that executed nothing."""


def check_all(result: SimulationResult, cluster: ClusterSpec, requests: Sequence[RequestSpec]) -> None:
    """All invariants of one run; ``requests`` are its arrivals in order."""
    check_conservation(result, requests, cluster.prompts)
    check_causality(result)
    check_tokens(result, cluster)
    check_kv(result)
    check_work_conservation(result)
    check_faults(result, cluster)


def check_faults(result: SimulationResult, cluster: ClusterSpec) -> None:
    """Only what crashes fails, nobody is started again too often, and a replica that is down computes nothing."""
    columns, faults = result.requests, cluster.faults
    if faults is None:
        assert not (columns.status == Status.FAILED).any(), "a request failed without faults"
        assert not columns.retries.any(), "a request was started again without faults"
        assert not len(result.outages), "a replica was down without faults"
        return
    assert columns.retries.max(initial=0) <= faults.most_retries
    assert ((columns.retries == 0) | (faults.lost_requests != "fail")).all()
    for number in range(len(result.replicas)):
        log = run_log(result, number)
        ends = row_ends(log)
        for from_s, to_s in result.outages[result.outages[:, 0] == number][:, 1:]:
            assert from_s <= to_s <= result.end_s
            running = (log[:, 0] < to_s - SAME_S) & (ends > from_s + SAME_S)
            assert not running.any(), f"replica {number} computes while it is down from {from_s} to {to_s}"
            got_first = columns.first_token_s[columns.replica == number]
            assert not ((got_first > from_s) & (got_first < to_s)).any(), f"replica {number} answers while it is down"


def run_log(result: SimulationResult, replica: int) -> Floats:
    """The step log of a replica, shape (n, 7)."""
    chunks = list(result.runs[replica].chunks())
    return np.concatenate(chunks) if chunks else np.empty((0, 7))


def step_ends(log: Floats) -> Floats:
    """End of every single step of a step log, in order."""
    counts = log[:, 3].astype(np.int64)
    if not len(counts):
        return np.empty(0)
    row = np.repeat(np.arange(len(log)), counts)
    done = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    return log[row, 0] + done * log[row, 1] + log[row, 2] * (done * (done - 1) / 2)


def row_ends(log: Floats) -> Floats:
    """End of each row of a step log."""
    steps = log[:, 3]
    return log[:, 0] + steps * log[:, 1] + log[:, 2] * (steps * (steps - 1) / 2)


def check_conservation(
    result: SimulationResult, requests: Sequence[RequestSpec], prompts: PromptSpec | None = None
) -> None:
    """Every arrival until the end has one row, with what was asked for and one status."""
    columns = result.requests
    arrived = [request for request in requests if request.arrival_s <= result.end_s]
    assert len(columns) == len(arrived), f"{len(columns)} rows for {len(arrived)} arrivals"
    asked = np.array([(spec.arrival_s, spec.prompt_tokens, spec.output_tokens) for spec in arrived]).reshape(-1, 3)
    np.testing.assert_array_equal(columns.arrival_s, asked[:, 0])
    np.testing.assert_array_equal(columns.prompt_tokens, asked[:, 1])
    if prompts is None or prompts.lengths == "workload":
        np.testing.assert_array_equal(columns.output_tokens, asked[:, 2])
    elif prompts.lengths == "table":
        lengths = np.maximum(1, np.rint(prompts.table.output_tokens))
        routed = columns.model >= 0
        answers = lengths[columns.prompt[routed], columns.model[routed]]
        np.testing.assert_array_equal(columns.output_tokens[routed], answers)
    if columns.request_id is not None:
        names = [str(row) if spec.request_id is None else spec.request_id for row, spec in enumerate(arrived)]
        assert list(columns.request_id) == names
    assert set(columns.status.tolist()) <= set(Status)
    for row, spec in enumerate(arrived):
        status = Status(columns.status[row])
        if status == Status.TIMED_OUT:
            assert spec.deadline_s is not None, f"request {row} timed out without a deadline"
        if status == Status.ABORTED:
            assert spec.cancel_after_s is not None, f"request {row} was aborted, but nobody cancelled it"
    by_status = np.bincount(columns.status, minlength=len(Status))
    assert by_status.sum() == len(arrived)
    model_of = np.array([replica.model for replica in result.replicas])
    np.testing.assert_array_equal(np.append(model_of, -1)[columns.replica], columns.model)
    assert (columns.status[columns.replica < 0] != Status.FINISHED).all(), "finished without a replica"
    rejected = np.bincount(result.rejected_answers[:, 0].astype(np.int64), minlength=len(columns))
    sent = (columns.replica >= 0) & (columns.stages > 0)
    np.testing.assert_array_equal(columns.stages, rejected + sent, err_msg="models asked")


def check_causality(result: SimulationResult) -> None:
    """From arrival to finish every instant comes after the one before it, none after the end; logs never run back."""
    columns = result.requests
    stages = (
        "arrival_s", "asked_s", "started_s", "queued_s", "scheduled_s", "first_token_s", "last_token_s", "finish_s",
    )  # fmt: skip
    for row in range(len(columns)):
        reached = [(name, getattr(columns, name)[row]) for name in stages]
        reached = [(name, time_s) for name, time_s in reached if not np.isnan(time_s)]
        for (before, before_s), (after, after_s) in pairwise(reached):
            assert before_s <= after_s, f"request {row}: {before} is {before_s!r} but {after} is {after_s!r}"
        assert reached[-1][1] <= result.end_s, f"request {row}: {reached[-1]} lies after the end {result.end_s!r}"
        missing = {name for name in stages if np.isnan(getattr(columns, name)[row])}
        status = Status(columns.status[row])
        if status == Status.FINISHED:
            assert not missing, f"request {row} has finished without {missing}"
        if status == Status.REJECTED:
            assert {"scheduled_s", "first_token_s", "last_token_s"} <= missing, f"request {row} was rejected yet served"
        assert ("finish_s" in missing) == (status == Status.UNFINISHED), f"request {row} is {status!r}"
    for replica in range(len(result.replicas)):
        log = run_log(result, replica)
        assert np.isfinite(log).all()
        assert (row_ends(log) > log[:, 0]).all(), "a step takes no time"
        late = log[1:, 0] - row_ends(log)[:-1]
        assert (late > -SAME_S).all(), f"replica {replica}: steps overlap by {-late.min()} s"
    assert (result.gaps[:, 2] < result.gaps[:, 3]).all(), "a gap runs back"
    assert not (result.preemptions[:, 2] > result.preemptions[:, 3]).any(), "a wait after a preemption runs back"
    assert (np.diff(result.samples[:, 0]) >= 0).all(), "samples run back"


def check_tokens(result: SimulationResult, cluster: ClusterSpec) -> None:
    """A finished request got exactly its tokens: one at the end of each step from its first to its last, less gaps."""
    columns = result.requests
    settings = [replica.settings for model in cluster.models for replica in model.replicas]
    ends = [step_ends(run_log(result, replica)) for replica in range(len(result.replicas))]
    for row in range(len(columns)):
        limits = settings[columns.replica[row]]
        most = min(columns.output_tokens[row], limits.max_model_len - columns.prompt_tokens[row])
        generated = columns.generated_tokens[row]
        if columns.status[row] != Status.FINISHED:
            assert 0 <= generated <= max(most, 0), f"request {row} got {generated} of {most} tokens"
            continue
        assert generated == most, f"request {row} has finished with {generated} tokens instead of {most}"
        own = ends[columns.replica[row]]
        skipped = result.gaps[result.gaps[:, 1] == row][:, 2:]
        tokens = _between(own, columns.first_token_s[row] - SAME_S, columns.last_token_s[row] + SAME_S)
        tokens -= sum(_between(own, from_s + SAME_S, to_s - SAME_S) for from_s, to_s in skipped)
        assert tokens == generated, f"request {row} was given {tokens} tokens in {generated} steps"
        assert columns.cached_tokens[row] < columns.prompt_tokens[row], f"request {row} computed nothing of its prompt"
    for row, model, replica, queued_s, scheduled_s, first_s, last_s, tokens in result.rejected_answers:
        times = [columns.arrival_s[int(row)], queued_s, scheduled_s, first_s, last_s, result.end_s]
        assert times == sorted(times), f"an answer to request {row:g} runs back: {times}"
        assert result.replicas[int(replica)].model == model
        steps = _between(ends[int(replica)], first_s - SAME_S, last_s + SAME_S)
        assert 1 <= tokens <= steps, f"an answer to request {row:g} has {tokens} tokens in {steps} steps"


def check_kv(result: SimulationResult) -> None:
    """Blocks in use stay within the pool, and none is in use where nothing runs."""
    for number, replica in enumerate(result.replicas):
        used = run_log(result, number)[:, 6]
        assert ((used >= 1) & (used <= replica.total_blocks)).all(), f"{replica.name} uses {used.min()} to {used.max()}"
        samples = result.samples[result.samples[:, 1] == number]
        running, held, total = samples[:, 2], samples[:, 4], samples[:, 5]
        np.testing.assert_array_equal(total, replica.total_blocks)
        assert ((held >= 0) & (held <= total)).all(), f"{replica.name} holds {held.min()} to {held.max()} blocks"
        assert (held[running == 0] == 0).all(), f"{replica.name} is empty but holds blocks"


def check_work_conservation(result: SimulationResult) -> None:
    """No replica idles longer than its loop's sleep while one of its requests waits or runs."""
    columns = result.requests
    gone_s = np.fmin(columns.finish_s, columns.last_token_s)
    gone_s = np.where(np.isnan(gone_s), result.end_s, gone_s)
    inside = ~np.isnan(columns.queued_s) & (columns.status != Status.REJECTED)
    answers = result.rejected_answers
    for number in range(len(result.replicas)):
        earlier = answers[answers[:, 2] == number]
        log = run_log(result, number)
        own = inside & (columns.replica == number)
        # A step in flight at the end is not in the log, but it is in busy_s.
        in_flight_s = result.busy_s[number] - (row_ends(log) - log[:, 0]).sum()
        assert in_flight_s > -SAME_S, "the log has more time than the replica was busy"
        idle_from = np.concatenate(([0.0], row_ends(log)))
        idle_to = np.concatenate((log[:, 0], [result.end_s - in_flight_s]))
        for from_s, to_s in zip(idle_from, idle_to, strict=True):
            if to_s - from_s <= SAME_S:
                continue
            held_s = np.minimum(to_s, earlier[:, 6]) - np.maximum(from_s, earlier[:, 3])
            assert held_s.max(initial=0.0) <= IDLE_SLEEP_S + SAME_S, f"replica {number} idles with an answer inside"
            held_s = np.minimum(to_s, gone_s[own]) - np.maximum(from_s, columns.queued_s[own])
            if len(held_s):
                row = np.flatnonzero(own)[held_s.argmax()]
                assert held_s.max() <= IDLE_SLEEP_S + SAME_S, (
                    f"replica {number} idles from {from_s!r} to {to_s!r} with request {row} inside"
                )
    assert (result.busy_s <= result.end_s + SAME_S).all(), "busier than there was time"


def _between(times_s: Floats, from_s: float, to_s: float) -> int:
    return int(np.searchsorted(times_s, to_s) - np.searchsorted(times_s, from_s))
