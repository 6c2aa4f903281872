"""Macro-stepping changes nothing, and neither does counting blocks where nothing can be shared."""

from dataclasses import fields, replace

import numpy as np
import pytest
from cluster_cases import (
    EXACT,
    GROWING,
    PIECEWISE,
    TICK_S,
    Case,
    cases,
    cluster_of,
    crowds,
    engine_settings,
    one_replica,
    traffic,
    workloads,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.cluster import simulate
from sim.cluster_spec import ClusterSpec, ModelSpec, PolicySpec, ReplicaSpec, RunSpec, SpeedChange
from sim.results import SimulationResult
from sim.routing.policies import BALANCERS, Decision
from sim.settings import EngineSettings
from sim.vllm.step import Step
from sim.workload import RequestChunk, RequestSpec


def steps(result: SimulationResult, replica: int) -> np.ndarray:
    chunks = list(result.runs[replica].chunks())
    return np.concatenate(chunks) if chunks else np.empty((0, 7))


def assert_same(one: SimulationResult, other: SimulationResult) -> None:
    """Everything but the number of events is equal, to the last bit."""
    for field in fields(one.requests):
        left, right = getattr(one.requests, field.name), getattr(other.requests, field.name)
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right, err_msg=field.name)
        else:
            assert left == right, field.name
    assert (one.models, one.classes, one.replicas) == (other.models, other.classes, other.replicas)
    for replica in range(len(one.replicas)):
        np.testing.assert_array_equal(steps(one, replica), steps(other, replica), err_msg=f"run log {replica}")
    np.testing.assert_array_equal(one.gaps, other.gaps, err_msg="gaps")
    np.testing.assert_array_equal(one.preemptions, other.preemptions, err_msg="preemptions")
    np.testing.assert_array_equal(one.rejected_answers, other.rejected_answers, err_msg="rejected answers")
    np.testing.assert_array_equal(one.samples, other.samples, err_msg="samples")
    np.testing.assert_array_equal(one.busy_s, other.busy_s, err_msg="busy_s")
    np.testing.assert_array_equal(one.outages, other.outages, err_msg="outages")
    assert one.end_s == other.end_s


def in_mode(case: Case, mode: str) -> SimulationResult:
    return simulate(case.cluster, case.traffic(), replace(case.run, mode=mode))


@settings(max_examples=300)
@given(cases())
def test_macro_mode_is_reference_mode_bit_for_bit(case):
    assert_same(in_mode(case, "macro"), in_mode(case, "reference"))


def step_ends(result: SimulationResult, replica: int) -> list[float]:
    """Every end of a step, to the bit, of a replica at constant speed."""
    ends = []
    for start_s, first_s, growth_s, count, *_ in steps(result, replica).tolist():
        run = Step(0, 1, 0, first_s, growth_s, int(count))
        run.start(start_s, 1.0)
        ends += [run.end_of(done) for done in range(int(count) + 1)]
    return ends


@st.composite
def meddled(draw):
    """One replica, and then the same again with something happening exactly at ends of its steps."""
    model = one_replica(draw(engine_settings()), draw(st.sampled_from([EXACT, GROWING, PIECEWISE])))
    requests = draw(workloads(models=("m",), patience=False) | crowds(models=("m",)))
    cluster = cluster_of(model, oversized="reject")
    ends = step_ends(simulate(cluster, traffic(requests), RunSpec()), 0) or [0.5]
    moment = st.sampled_from(ends).flatmap(
        lambda end_s: st.sampled_from([end_s, end_s, np.nextafter(end_s, 9e9).item(), np.nextafter(end_s, 0).item()])
    )
    late = tuple(
        RequestSpec(draw(moment), draw(st.integers(1, 20)), draw(st.integers(1, 20)), f"late{number}", content=())
        for number in range(draw(st.integers(0, 3)))
    )
    cancelled = []
    for request in requests:
        at_s = draw(st.none() | moment)
        wait_s = None if at_s is None or at_s <= request.arrival_s else at_s - request.arrival_s
        field = draw(st.sampled_from(["cancel_after_s", "deadline_s"]))
        cancelled.append(request._replace(**{field: wait_s}))
    changes = tuple(
        SpeedChange(at_s=draw(moment), model=0, replica=0, slowdown=draw(st.sampled_from([0.5, 1.0, 3.7])))
        for _ in range(draw(st.integers(0, 2)))
    )
    run = RunSpec(until_s=draw(st.just(np.inf) | moment.filter(lambda time_s: time_s > 0)), sample_interval_s=TICK_S)
    every = tuple(sorted((*cancelled, *late), key=lambda request: request.arrival_s))
    return Case(cluster=replace(cluster, speed_changes=changes), requests=every, run=run)


@settings(max_examples=150)
@given(meddled())
def test_modes_agree_when_things_happen_exactly_at_ends_of_steps(case):
    assert_same(in_mode(case, "macro"), in_mode(case, "reference"))


def test_modes_agree_when_speed_changes_and_an_abort_comes_just_after_the_end_of_a_step():
    """A change of speed starts a new sum, whose rounding must not move an end that is past."""
    asked = RequestSpec(0.0, 14, 30)
    alone = cluster_of(one_replica(step_time=GROWING))
    ends = step_ends(simulate(alone, traffic([asked]), RunSpec()), 0)[1:]
    for end_s in ends:
        after_s = np.nextafter(end_s, 9e9).item()
        change = SpeedChange(at_s=after_s, model=0, replica=0, slowdown=0.5)
        requests = (asked._replace(cancel_after_s=after_s),)
        case = Case(cluster=replace(alone, speed_changes=(change,)), requests=requests, run=RunSpec())
        assert_same(in_mode(case, "macro"), in_mode(case, "reference"))


@settings(max_examples=150)
@given(st.data())
def test_counting_blocks_is_exact_where_no_content_is_shared(data):
    chosen = data.draw(engine_settings())
    step_time = data.draw(st.sampled_from([EXACT, GROWING]))
    cluster = cluster_of(one_replica(chosen, step_time), oversized="reject")
    requests = data.draw(workloads(models=("m",), content=False) | crowds(models=("m",), content=False))
    mode = data.draw(st.sampled_from(["macro", "reference"]))
    counted = simulate(cluster, traffic(requests), RunSpec(mode=mode, shared_content=False))
    identified = simulate(cluster, traffic(requests), RunSpec(mode=mode, shared_content=True))
    assert_same(counted, identified)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("caching", [False, True])
def test_counting_blocks_is_exact_under_pressure(asynchronous, caching):
    """A pool that is far too small: many preemptions, and requests that find their own blocks again."""
    chosen = EngineSettings(
        num_gpu_blocks=24, block_size=4, max_num_seqs=8, async_scheduling=asynchronous, enable_prefix_caching=caching
    )
    rng = np.random.default_rng(5)
    requests = [
        RequestSpec(float(arrival_s), int(prompt), int(output))
        for arrival_s, prompt, output in zip(
            np.sort(rng.uniform(0, 2, 60)), rng.integers(1, 40, 60), rng.integers(1, 50, 60), strict=True
        )
    ]
    cluster = cluster_of(one_replica(chosen, GROWING))
    counted = simulate(cluster, traffic(requests), RunSpec(shared_content=False))
    assert counted.requests.preemptions.sum() > 50
    assert_same(counted, simulate(cluster, traffic(requests), RunSpec(shared_content=True)))


class Users:
    """A few users who each send the next request in the very moment that the last one ended."""

    def __init__(self, lengths):
        self._lengths = lengths

    def chunks(self):
        requests = [RequestSpec(0.0, 3, lengths[0], f"{user}/0") for user, lengths in enumerate(self._lengths)]
        yield RequestChunk(*map(list, zip(*requests, strict=True)))

    def follow_ups(self, request_id, ended_s):
        user, turn = map(int, request_id.split("/"))
        lengths = self._lengths[user]
        if turn + 1 < len(lengths):
            yield RequestSpec(ended_s, 3, lengths[turn + 1], f"{user}/{turn + 1}")


class FullestCache:
    """Sends requests where most KV blocks are in use, and notes what it saw."""

    def __init__(self):
        self.seen = []

    def choose(self, request, load):
        used = [load.kv_used(replica) for replica in range(len(load.requests))]
        self.seen.append((request.now_s, *used))
        return Decision(used.index(max(used)), "most blocks in use")


@settings(max_examples=100)
@given(
    lengths=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=5),
    replicas=st.integers(1, 3),
    asynchronous=st.booleans(),
    by_cache=st.booleans(),
)
def test_modes_agree_when_requests_follow_upon_others_between_two_steps(lengths, replicas, asynchronous, by_cache):
    """All replicas end their steps at the same moments, and one answer's end is the next request's arrival."""
    chosen = EngineSettings(block_size=1, async_scheduling=asynchronous)
    replica = ReplicaSpec(gpus=(0,), settings=chosen)
    with pytest.MonkeyPatch.context() as patch:
        balancers = []

        def fullest_cache(context, options):
            balancers.append(FullestCache())
            return balancers[-1]

        patch.setitem(BALANCERS._built_in, "fullest-cache", fullest_cache)
        model = ModelSpec(
            name="m",
            step_time=EXACT,
            replicas=(replica,) * replicas,
            balancer=PolicySpec(kind="fullest-cache" if by_cache else "round-robin"),
        )
        results = [simulate(cluster_of(model), Users(lengths), RunSpec(mode=mode)) for mode in ("macro", "reference")]
    assert len(results[0].requests) == sum(map(len, lengths))
    assert_same(*results)
    if by_cache:
        assert balancers[0].seen == balancers[1].seen


def test_macro_mode_needs_far_fewer_events():
    replica = ReplicaSpec(gpus=(0,), settings=EngineSettings())
    cluster = ClusterSpec(
        gpus=1,
        models=(ModelSpec(name="m", step_time=GROWING, replicas=(replica,)),),
        router=cluster_of(one_replica()).router,
    )
    requests = [RequestSpec(0.0, 10, 2000), RequestSpec(0.0, 10, 1000)]
    events = {mode: simulate(cluster, traffic(requests), RunSpec(mode=mode)).events for mode in ("macro", "reference")}
    assert events["reference"] > 2000
    assert events["macro"] < 60


def test_the_comparison_notices_a_difference_in_the_last_bit():
    cluster = cluster_of(one_replica(step_time=GROWING))
    one = simulate(cluster, traffic([RequestSpec(0.0, 10, 5)]), RunSpec())
    other = simulate(cluster, traffic([RequestSpec(0.0, 10, 5)]), RunSpec())
    assert_same(one, other)
    other.requests.finish_s[0] = np.nextafter(other.requests.finish_s[0], 9e9)
    with pytest.raises(AssertionError, match="finish_s"):
        assert_same(one, other)
