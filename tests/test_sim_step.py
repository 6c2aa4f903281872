"""A step or run on the GPU, its log, and the decoding batch, against arithmetic by hand and brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sim.vllm.run_log
from sim.request import Request
from sim.vllm.decoding import DecodingBatch
from sim.vllm.run_log import RunLog
from sim.vllm.step import Step
from sim.workload import RequestSpec


def started(first_s, growth_s, at_s=0.0, slowdown=1.0):
    step = Step(0, 1, 10, first_s, growth_s, 1 << 60)
    step.start(at_s, slowdown)
    return step


def test_ends_of_a_growing_run():
    step = started(1.0, 0.5, at_s=10.0)
    assert [step.end_of(done) for done in range(5)] == [10.0, 11.0, 12.5, 14.5, 17.0]


def test_a_slow_replica_takes_longer():
    step = started(1.0, 0.5, at_s=10.0, slowdown=2.0)
    assert [step.end_of(done) for done in range(4)] == [10.0, 12.0, 15.0, 19.0]


def test_a_change_of_speed_scales_what_is_left():
    step = started(1.0, 0.5, at_s=10.0, slowdown=2.0)
    step.change_speed(12.0, 0.5, 0)
    assert [step.end_of(done) for done in (1, 2, 3)] == [12.0, 12.75, 13.75]
    step.change_speed(12.5, 4.0, 1)
    # Of the second step 1.0 of 1.5 is done.
    assert [step.end_of(done) for done in (2, 3)] == [14.5, 22.5]


def test_an_unchanged_speed_moves_nothing():
    step = started(0.25, 0.125, at_s=1.0)
    step.change_speed(1.5, 1.0, 1)
    assert [step.end_of(done) for done in range(4)] == [1.0, 1.25, 1.625, 2.125]


@given(
    first_s=st.floats(1e-3, 1.0),
    growth_s=st.floats(0, 0.1),
    at_s=st.floats(0, 100),
    slowdown=st.floats(0.1, 10),
    current=st.integers(0, 30),
)
def test_a_change_of_speed_does_not_move_an_end_that_is_reached(first_s, growth_s, at_s, slowdown, current):
    step = started(first_s, growth_s, at_s)
    end_s = step.end_of(current + 1)
    step.change_speed(end_s, slowdown, current)
    assert step.end_of(current + 1) == end_s
    following_s = (first_s + (current + 1) * growth_s) * slowdown
    assert step.end_of(current + 2) == pytest.approx(end_s + following_s, rel=1e-12)


@given(
    first_s=st.floats(1e-4, 2.0),
    growth=st.floats(-1e-3, 1.0),
    slowdown=st.sampled_from([1.0, 0.3, 2.0]),
    lowest=st.integers(1, 5),
    span=st.integers(0, 80),
    data=st.data(),
)
def test_the_first_end_from_a_time_is_the_one_that_a_search_finds(first_s, growth, slowdown, lowest, span, data):
    # A falling run still takes time in its last step.
    step = started(first_s, growth * first_s, at_s=3.0, slowdown=slowdown)
    highest = lowest + span
    beside = data.draw(st.sampled_from([math.inf, -math.inf, None]))
    time_s = data.draw(st.integers(0, highest + 2).map(step.end_of) | st.floats(0, 200))
    time_s = time_s if beside is None else math.nextafter(time_s, beside)
    searched = next((done for done in range(lowest, highest) if step.end_of(done) >= time_s), highest)
    assert step.first_end_from(time_s, lowest, highest) == searched


# ---------------------------------------------------------------------- the step log


def rows(log):
    chunks = list(log.chunks())
    return np.concatenate(chunks).tolist() if chunks else []


def test_a_run_is_one_row():
    log = RunLog()
    step = started(1.0, 0.5, at_s=10.0)
    step.blocks_used = 7
    log.close(step, 3)
    assert rows(log) == [[10.0, 1.0, 0.5, 3, 1, 1, 7]]
    assert log.busy_s == 4.5
    log.close(step, 3)
    assert len(rows(log)) == 1
    log.close(step, 4)
    assert rows(log)[1] == [14.5, 2.5, 0.5, 1, 1, 1, 7]
    assert log.busy_s == 7.0


def test_a_large_log_is_spilled_and_read_back_in_order(monkeypatch):
    monkeypatch.setattr(sim.vllm.run_log, "_SPILL_VALUES", 7 * 4)
    log = RunLog()
    for number in range(11):
        log.close(started(0.5, 0.0, at_s=float(number)), 1)
    for _ in range(2):
        assert [row[0] for row in rows(log)] == [float(number) for number in range(11)]
    log.close(started(0.5, 0.0, at_s=11.0), 1)
    assert [len(chunk) for chunk in log.chunks()] == [4, 4, 4]
    assert RunLog().busy_s == 0
    assert rows(RunLog()) == []


# ---------------------------------------------------------------------- the decoding batch


def request(number):
    made = Request(number, RequestSpec(0.0, 10, 10), 0.0, 1 << 20, number)
    made.order = number
    return made


def batch_of(block_size, sequences, steps_before=0):
    """A batch with the given (computed, remaining) sequences, after some steps of its own."""
    batch = DecodingBatch(block_size, track_identity=True)
    batch.steps = steps_before
    members = [request(number) for number in range(len(sequences))]
    for member, (computed, remaining) in zip(members, sequences, strict=True):
        batch.join(member, computed, remaining)
    return batch, members


SEQUENCES = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 40)), min_size=1, max_size=8)


@given(SEQUENCES, st.integers(1, 17), st.integers(0, 50), st.integers(0, 90))
def test_blocks_needed_is_the_sum_over_the_sequences(sequences, block_size, steps_before, steps):
    batch, _ = batch_of(block_size, sequences, steps_before)
    needed = sum(-(-(computed + steps) // block_size) - -(-computed // block_size) for computed, _ in sequences)
    assert batch.blocks_needed(steps) == needed


@given(SEQUENCES, st.integers(1, 17), st.integers(0, 50), st.integers(0, 60), st.integers(1, 200))
def test_steps_that_fit_is_the_most_whose_blocks_are_free(sequences, block_size, steps_before, free, limit):
    batch, _ = batch_of(block_size, sequences, steps_before)
    searched = max(steps for steps in range(limit + 1) if batch.blocks_needed(steps) <= free)
    assert batch.steps_that_fit(free, limit) == searched


@given(SEQUENCES, st.integers(0, 50), st.lists(st.integers(0, 7)), st.integers(0, 9))
def test_the_longest_is_that_of_the_sequences_that_are_there(sequences, steps_before, leaving, passed):
    batch = DecodingBatch(4, False, track_longest=True)
    batch.steps = steps_before
    present = [request(number) for number in range(len(sequences))]
    for member, (computed, _) in zip(present, sequences, strict=True):
        batch.join(member, computed, 100)
    batch.advance(passed)
    for index in leaving:
        if index < len(present):
            batch.leave(present.pop(index))
        assert batch.longest() == max((member.base + batch.steps for member in present), default=0)
    assert DecodingBatch(4, False).longest() == 0


@given(SEQUENCES, st.integers(1, 5), st.integers(0, 50), st.data())
def test_sequences_leave_when_they_are_due_with_what_they_computed(sequences, block_size, steps_before, data):
    batch, members = batch_of(block_size, sequences, steps_before)
    present = dict(zip(members, sequences, strict=True))
    if data.draw(st.booleans()):
        gone = data.draw(st.sampled_from(members))
        batch.leave(gone)
        assert gone.computed == present.pop(gone)[0]
    passed = 0
    while present:
        due = min(remaining for _, remaining in present.values())
        assert batch.next_due() == steps_before + due
        assert batch.take_due() == []
        batch.advance(due - passed)
        passed = due
        done = batch.take_due()
        assert done == sorted((one for one in present if present[one][1] == due), key=lambda one: one.order)
        for one in done:
            computed, remaining = present.pop(one)
            assert one.computed == computed + remaining
            assert one.held == -(-one.computed // block_size)
            assert not one.decoding
        assert batch.size == len(present)
        assert batch.context == sum(computed + passed for computed, _ in present.values())
    assert batch.crossings == [0] * block_size
    assert batch.members == [[] for _ in range(block_size)]


def test_every_change_of_the_batch_has_a_new_version():
    batch, members = batch_of(16, [(5, 3), (9, 3)])
    versions = [batch.version]
    batch.advance(1)
    assert batch.version == versions[0]
    batch.leave(members[0])
    versions.append(batch.version)
    batch.join(members[0], 6, 2)
    versions.append(batch.version)
    assert len(set(versions)) == 3


def test_members_of_a_phase_are_in_running_order():
    batch, members = batch_of(4, [(4, 9), (8, 9), (12, 9)])
    batch.leave(members[1])
    batch.join(members[1], 8, 9)
    assert batch.members[0] == members


@pytest.mark.parametrize("limit", [0, 5])
def test_an_empty_batch_needs_nothing(limit):
    batch = DecodingBatch(16, track_identity=False)
    assert batch.blocks_needed(limit) == 0
    assert batch.steps_that_fit(0, limit) == limit
