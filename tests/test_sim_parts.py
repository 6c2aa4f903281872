"""Clock, queues, stages, random streams and the recorder: the small parts, by hand."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_models.errors import InputError
from sim.clock import ARRIVAL, CONTROL, OBSERVER, REPLICA, Clock
from sim.random_streams import stream
from sim.recorder import Recorder
from sim.request import Request
from sim.results import SAMPLE_COLUMNS, Status
from sim.stage import Stage, StageSpec
from sim.vllm.waiting import PriorityQueue, waiting_queue
from sim.workload import OpenTraffic, RequestChunk, RequestSpec

NOT_COUNTS = [0, -1, 1.5, True, float("nan"), float("inf")]
NOT_TIMES = [-0.001, float("nan"), float("inf")]


# ---------------------------------------------------------------------- clock


def test_events_come_by_time_then_priority_then_creation():
    clock = Clock()
    seen = []

    def note(event):
        seen.append((clock.now, event.payload))

    for time_s, priority, name in [
        (2.0, OBSERVER, "sampler"),
        (2.0, REPLICA + 1, "replica 1"),
        (2.0, REPLICA, "replica 0"),
        (2.0, REPLICA, "replica 0 again"),
        (2.0, CONTROL, "abort"),
        (2.0, ARRIVAL, "arrival"),
        (1.0, OBSERVER, "earlier"),
    ]:
        clock.at(time_s, priority, note, name)
    clock.drive()
    assert seen == [(1.0, "earlier")] + [
        (2.0, name) for name in ("arrival", "abort", "replica 0", "replica 0 again", "replica 1", "sampler")
    ]
    assert clock.events == 7


def test_absolute_times_are_kept_to_the_bit():
    clock = Clock()
    seen = []
    clock.at(0.1, ARRIVAL, lambda event: clock.at(0.1 + 0.2, ARRIVAL, lambda event: seen.append(clock.now)))
    clock.drive()
    assert seen == [0.1 + 0.2]


def test_the_clock_stops_at_its_end_and_goes_on_from_there():
    clock = Clock()
    seen = []
    for time_s in (1.0, 2.0, 3.0):
        clock.at(time_s, ARRIVAL, lambda event: seen.append(clock.now))
    clock.drive(until_s=2.0)
    assert (seen, clock.now) == ([1.0, 2.0], 2.0)
    clock.drive(until_s=2.5)
    assert (seen, clock.now) == ([1.0, 2.0], 2.5)
    clock.drive()
    assert seen == [1.0, 2.0, 3.0]


def test_the_clock_stops_when_told():
    clock = Clock()
    clock.at(1.0, ARRIVAL, lambda event: clock.stop())
    clock.at(2.0, ARRIVAL, lambda event: pytest.fail("after the stop"))
    clock.drive()
    assert clock.now == 1.0


# ---------------------------------------------------------------------- waiting queues


def request(name, priority=0, arrival_s=0.0):
    return Request(0, RequestSpec(arrival_s, 1, 1, priority=priority), arrival_s, 100, name)


def test_priority_queue_orders_by_priority_then_arrival_then_name():
    expected = [request("z", 0, 5.0), request("b", 1, 1.0), request("a", 1, 2.0), request("b2", 1, 2.0)]
    queue = PriorityQueue()
    for index in (2, 0, 3, 1):
        queue.append(expected[index])
    assert len(queue) == 4
    assert queue[0] is expected[0]
    assert [queue.popleft() for _ in range(4)] == expected
    assert len(queue) == 0


def test_a_preempted_request_takes_its_old_rank_in_a_priority_queue():
    early, late = request("early", 1, 0.0), request("late", 1, 9.0)
    queue = PriorityQueue()
    queue.append(early)
    queue.appendleft(late)
    assert queue.popleft() is early


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=12), st.data())
def test_priority_queue_stays_in_order_when_one_is_removed(ranks, data):
    requests = [request(f"r{number:02}", priority, arrival_s) for number, (priority, arrival_s) in enumerate(ranks)]
    queue = PriorityQueue()
    for one in requests:
        queue.append(one)
    gone = data.draw(st.sampled_from(requests))
    queue.remove(gone)
    left = sorted(
        (one for one in requests if one is not gone), key=lambda one: (one.priority, one.spec.arrival_s, one.name)
    )
    assert [queue.popleft() for _ in range(len(queue))] == left


def test_first_come_first_served_takes_preempted_requests_back_in_front():
    queue = waiting_queue("fcfs")
    assert isinstance(queue, deque)
    first, second = request("first"), request("second")
    queue.append(second)
    queue.appendleft(first)
    assert queue.popleft() is first
    assert isinstance(waiting_queue("priority"), PriorityQueue)


# ---------------------------------------------------------------------- stages


def test_two_workers_serve_in_order_of_arrival():
    stage = Stage(StageSpec(workers=2, per_request_s=1.0, per_token_s=0.5))
    # 2 s, 6 s, then the first worker is free at 2.
    assert [stage.leave_time(now_s, tokens) for now_s, tokens in [(0.0, 2), (0.0, 10), (1.0, 4), (20.0, 0)]] == [
        2.0, 6.0, 5.0, 21.0,
    ]  # fmt: skip


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 9)), min_size=1, max_size=25),
)
def test_a_stage_is_a_fifo_queue_with_several_servers(workers, arrivals):
    stage = Stage(StageSpec(workers=workers, per_request_s=0.25, per_token_s=0.125))
    now_s = 0.0
    leaving: list[float] = []
    for wait_s, tokens in arrivals:
        now_s += wait_s
        # It starts when fewer than `workers` of the earlier ones are left.
        start_s = now_s
        if len(leaving) >= workers:
            start_s = max(now_s, sorted(leaving)[-workers])
        leaves_s = stage.leave_time(now_s, tokens)
        assert leaves_s == start_s + 0.25 + 0.125 * tokens
        leaving.append(leaves_s)


def test_a_stage_without_work_is_free():
    assert StageSpec().is_free
    assert StageSpec(workers=3).is_free
    assert not StageSpec(per_request_s=0.1).is_free
    assert not StageSpec(per_token_s=0.1).is_free


@pytest.mark.parametrize("value", NOT_COUNTS)
def test_stage_workers_are_checked(value):
    with pytest.raises(InputError, match=r"stage.workers is .*; allowed: an integer >= 1"):
        StageSpec(workers=value)


@pytest.mark.parametrize("name", ["per_request_s", "per_token_s"])
@pytest.mark.parametrize("value", NOT_TIMES)
def test_stage_times_are_checked(name, value):
    with pytest.raises(InputError, match=rf"stage.{name} is .*; allowed: a finite number >= 0"):
        StageSpec(**{name: value})


# ---------------------------------------------------------------------- random streams


def test_streams_differ_by_seed_replication_and_name_and_by_nothing_else():
    draws = {
        key: tuple(stream(*key).random(4))
        for key in [(0, 0, "router"), (1, 0, "router"), (0, 1, "router"), (0, 0, "balancer of a")]
    }
    assert len(set(draws.values())) == 4
    assert tuple(stream(0, 0, "router").random(4)) == draws[0, 0, "router"]


# ---------------------------------------------------------------------- workload columns


def test_a_chunk_gives_plain_values_and_defaults():
    chunk = RequestChunk(np.array([0.5, 1.5]), np.array([3, 4]), [5, 6], priority=np.array([1, 2]))
    first, second = chunk.specs()
    assert first == RequestSpec(0.5, 3, 5, priority=1)
    assert second == RequestSpec(1.5, 4, 6, priority=2)
    assert type(first.prompt_tokens) is int
    assert list(OpenTraffic([chunk]).chunks()) == [chunk]
    assert list(OpenTraffic([]).follow_ups("r0", 1.0)) == []


def test_columns_of_different_lengths_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        list(RequestChunk([0.5, 1.5], [3], [5, 6]).specs())


# ---------------------------------------------------------------------- recorder


def ended(recorder, row, *, status=Status.FINISHED, request_class=None, finish_s=9.0):
    one = Request(row, RequestSpec(float(row), 10 + row, 5), float(row), 100, row)
    one.outputs_delivered = 5
    one.request_class = recorder.class_index(request_class)
    recorder.end(one, 1, 2, finish_s, status)


def test_rows_come_out_by_arrival_whenever_they_ended():
    recorder = Recorder()
    for row in (2, 0, 1):
        ended(recorder, row, status=Status(row), request_class=(None, "code", "code")[row], finish_s=10.0 - row)
    columns = recorder.columns()
    assert columns.arrival_s.tolist() == [0.0, 1.0, 2.0]
    assert columns.prompt_tokens.tolist() == [10, 11, 12]
    assert columns.finish_s.tolist() == [10.0, 9.0, 8.0]
    assert columns.status.tolist() == [0, 1, 2]
    assert columns.status.dtype == columns.model.dtype == np.int64
    assert recorder.classes() == ("code", "default")
    assert columns.request_class.tolist() == [1, 0, 0]
    assert (columns.model.tolist(), columns.replica.tolist()) == ([1] * 3, [2] * 3)
    assert np.isnan(columns.scheduled_s).all()
    assert columns.request_id is None
    assert columns.session is None


def test_names_and_sessions_may_begin_in_the_middle():
    recorder = Recorder()
    for row, (name, session) in enumerate([(None, None), ("x", None), (None, "s"), (None, None)]):
        recorder.name(row, name, session)
        ended(recorder, row)
    columns = recorder.columns()
    assert columns.request_id == ("0", "x", "2", "3")
    assert columns.session == (None, None, "s", None)


def test_an_empty_recorder_has_empty_columns():
    recorder = Recorder()
    assert len(recorder.columns()) == 0
    assert recorder.classes() == ("default",)
    assert recorder.gaps().shape == (0, 4)
    assert recorder.samples().shape == (0, len(SAMPLE_COLUMNS))
    assert recorder.samples_taken() == 0


def test_thinning_keeps_every_other_sample_and_averages_the_busy_share():
    recorder = Recorder()
    for time_s, busy in ((0.0, 0.0), (1.0, 0.25), (2.0, 0.75), (3.0, 1.0), (4.0, 0.0)):
        recorder.sample([time_s, 0, 1, 2, 3, 9, busy, time_s, 1, 5, 6, 7, 9, busy / 2])
    assert recorder.samples_taken() == 5
    recorder.thin_samples()
    assert recorder.samples_taken() == 3
    assert recorder.samples().tolist() == [
        [0.0, 0, 1, 2, 3, 9, 0.0],
        [0.0, 1, 5, 6, 7, 9, 0.0],
        [2.0, 0, 1, 2, 3, 9, 0.5],
        [2.0, 1, 5, 6, 7, 9, 0.25],
        [4.0, 0, 1, 2, 3, 9, 0.5],
        [4.0, 1, 5, 6, 7, 9, 0.25],
    ]


def test_gaps_are_kept_in_order():
    recorder = Recorder()
    recorder.gap(1, 7, 0.5, 0.75)
    recorder.gap(0, 3, 0.6, 0.9)
    assert recorder.gaps().tolist() == [[1, 7, 0.5, 0.75], [0, 3, 0.6, 0.9]]
