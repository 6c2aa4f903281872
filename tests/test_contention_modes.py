"""Replicas that share GPUs: macro-stepping stays exact, every invariant holds, and nobody pays who shares nothing."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from cluster_cases import GROWING, TICK_S, Case, cases, cluster_of, one_replica, traffic
from hypothesis import given, settings
from hypothesis import strategies as st
from invariants import check_all, run_log
from test_sim_modes import assert_same, in_mode

from sim.cluster import simulate
from sim.cluster_spec import ClusterSpec, ModelSpec, PolicySpec, ReplicaSpec, RunSpec, SpeedChange
from sim.fault_spec import Crash, FaultSpec
from sim.settings import EngineSettings
from sim.sharing.contention import BandwidthContention, CappedContention, Demand
from sim.sharing.shared_gpus import shared_gpus
from sim.workload import RequestSpec


class Halving:
    """Exact in binary: with n busy tenants everything takes n times as long."""

    def slowdowns(self, tenants):
        return [float(len(tenants))] * len(tenants)


class PrefillHurts:
    """Only neighbours that compute a prompt are felt, and they do not feel each other."""

    def slowdowns(self, tenants: list[Demand]):
        hurting = [tenant.compute > tenant.memory for tenant in tenants]
        return [1.0 + (sum(hurting) - own) * 0.7 for own in hurting]


MODELS = (Halving(), PrefillHurts(), CappedContention(), BandwidthContention(reach=0.4), BandwidthContention())


@st.composite
def shared(draw: st.DrawFn) -> Case:
    """A small cluster of two models whose replicas sit on three GPUs, some of them on two."""
    case = draw(cases().filter(lambda case: len(case.cluster.models) == 2))
    models = []
    for model in case.cluster.models:
        first = draw(st.sampled_from([0, 0, 1]))
        wide = len(model.replicas) == 1 and draw(st.booleans())
        replicas = tuple(
            replace(
                replica,
                gpus=(first, first + 1) if wide else ((first + number) % 3,),
                memory_share=0.5,
                compute_share=draw(st.sampled_from([1.0, 0.5])),
            )
            for number, replica in enumerate(model.replicas)
        )
        models.append(replace(model, replicas=replicas))
    cluster = replace(
        case.cluster,
        gpus=max(case.cluster.gpus, 3),
        models=tuple(models),
        contention=draw(st.sampled_from(MODELS)),
    )
    return replace(case, cluster=cluster)


@settings(max_examples=80)
@given(shared())
def test_macro_mode_is_reference_mode_bit_for_bit(case):
    assert_same(in_mode(case, "macro"), in_mode(case, "reference"))


def test_the_invariants_hold_on_shared_gpus():
    seen = Counter()

    @settings(max_examples=60)
    @given(shared())
    def check(case):
        result = simulate(case.cluster, case.traffic(), case.run)
        check_all(result, case.cluster, case.requests)
        alone = simulate(replace(case.cluster, contention=None), case.traffic(), case.run)
        seen["felt"] += not np.array_equal(result.requests.finish_s, alone.requests.finish_s, equal_nan=True)

    check()
    assert seen["felt"] >= 15


def two_tenants(contention, *, step_time=GROWING, **options) -> ClusterSpec:
    """Two models on one GPU, requests to each by name."""
    models = tuple(
        ModelSpec(
            name=name,
            step_time=step_time,
            replicas=(ReplicaSpec(gpus=(0,), settings=EngineSettings(), memory_share=0.5),),
        )
        for name in ("a", "b")
    )
    return ClusterSpec(gpus=1, models=models, router=PolicySpec(kind="pinned"), contention=contention, **options)


def test_neighbours_that_begin_and_end_are_felt_from_that_instant_on():
    """a runs alone, then beside b, then alone again: the time it loses is what b was busy, halved."""
    requests = [RequestSpec(0.0, 10, 200, model="a"), RequestSpec(0.5, 10, 40, model="b")]
    alone = simulate(two_tenants(None), traffic(requests), RunSpec()).requests
    beside = simulate(two_tenants(Halving()), traffic(requests), RunSpec()).requests
    busy_s = beside.finish_s[1] - 0.5
    assert busy_s == pytest.approx(2 * (alone.finish_s[1] - 0.5), rel=1e-12)
    assert beside.finish_s[0] == pytest.approx(alone.finish_s[0] + busy_s / 2, rel=1e-12)


def test_a_run_stays_one_event_while_neighbours_do_not_change():
    requests = [RequestSpec(0.0, 10, 2000, model="a"), RequestSpec(0.0, 10, 1000, model="b")]
    events = {
        kind: simulate(two_tenants(model), traffic(requests), RunSpec(sample_interval_s=100.0)).events
        for kind, model in (("isolated", None), ("shared", Halving()))
    }
    # One event more for each time that a run is planned anew: b's prefill, a's, and b's end.
    assert events["shared"] <= events["isolated"] + 8


def test_speed_changes_and_neighbours_multiply():
    requests = [RequestSpec(0.0, 10, 100, model="a"), RequestSpec(0.0, 10, 4000, model="b")]
    slowed = two_tenants(Halving(), speed_changes=(SpeedChange(at_s=0.0, model=0, replica=0, slowdown=3.0),))
    alone_s = simulate(two_tenants(None), traffic(requests), RunSpec()).requests.finish_s[0]
    assert simulate(slowed, traffic(requests), RunSpec()).requests.finish_s[0] == pytest.approx(6 * alone_s, rel=1e-12)
    # Beside its neighbour it has done half of 0.3 s of its work when it is slowed down.
    late = replace(slowed, speed_changes=(SpeedChange(at_s=0.3, model=0, replica=0, slowdown=3.0),))
    expected_s = 0.3 + 6 * (alone_s - 0.15)
    assert simulate(late, traffic(requests), RunSpec()).requests.finish_s[0] == pytest.approx(expected_s, rel=1e-12)


def test_a_crash_leaves_the_gpu_to_the_neighbour():
    requests = [RequestSpec(0.0, 10, 200, model="a"), RequestSpec(0.0, 10, 4000, model="b")]
    faults = FaultSpec(load_s=(0.0, 0.0), crashes=(Crash(at_s=0.4, model=1, replica=0, restart_s=np.inf),))
    alone_s = simulate(two_tenants(None), traffic(requests), RunSpec()).requests.finish_s[0]
    crashed = simulate(two_tenants(Halving(), faults=faults), traffic(requests), RunSpec(until_s=60.0)).requests
    assert crashed.finish_s[0] == pytest.approx(alone_s + 0.2, rel=1e-12)


def test_a_replica_over_several_gpus_is_as_slow_as_its_slowest_shard():
    wide = one_replica(step_time=GROWING, name="wide")
    narrow = one_replica(step_time=GROWING, name="narrow")
    on = [
        replace(wide, replicas=(ReplicaSpec(gpus=(0, 1), settings=EngineSettings(), memory_share=0.4),)),
        replace(narrow, replicas=(ReplicaSpec(gpus=(1,), settings=EngineSettings(), memory_share=0.4),)),
        replace(narrow, name="other", replicas=(ReplicaSpec(gpus=(1,), settings=EngineSettings(), memory_share=0.2),)),
        replace(narrow, name="apart", replicas=(ReplicaSpec(gpus=(0,), settings=EngineSettings(), memory_share=0.2),)),
    ]
    cluster = ClusterSpec(gpus=2, models=tuple(on), router=PolicySpec(kind="pinned"), contention=Halving())
    requests = [RequestSpec(0.0, 10, 50, model=name) for name in ("wide", "narrow", "other", "apart")]
    alone = simulate(replace(cluster, contention=None), traffic(requests), RunSpec()).requests
    found = simulate(cluster, traffic(requests), RunSpec()).requests
    np.testing.assert_allclose(found.finish_s, np.array([3, 3, 3, 2]) * alone.finish_s)


def test_two_modes_agree_when_neighbours_start_exactly_at_ends_of_steps():
    """Step ends are exact in binary and fall together; each neighbour begins in the instant in which a step ends."""
    cluster = two_tenants(Halving(), step_time=one_replica().step_time)
    rng = np.random.default_rng(3)
    for asynchronous in (False, True):
        chosen = EngineSettings(async_scheduling=asynchronous)
        models = tuple(
            replace(model, replicas=(replace(model.replicas[0], settings=chosen),)) for model in cluster.models
        )
        ticks = np.sort(rng.integers(0, 400, 60)).tolist()
        lengths = rng.integers(1, 30, (60, 2)).tolist()
        requests = tuple(
            RequestSpec(tick * TICK_S, *tokens, model="ab"[row % 2])
            for row, (tick, tokens) in enumerate(zip(ticks, lengths, strict=True))
        )
        case = Case(cluster=replace(cluster, models=models), requests=requests, run=RunSpec())
        assert_same(in_mode(case, "macro"), in_mode(case, "reference"))


def test_isolated_replicas_and_lonely_ones_have_no_neighbours():
    """So they run the plain engine and nothing is paid: neither without contention nor on a GPU of one's own."""
    assert shared_gpus(two_tenants(None)) == {}
    assert list(shared_gpus(two_tenants(Halving()))) == [0, 1]
    apart = replace(cluster_of(one_replica(), one_replica(name="b")), contention=Halving())
    assert shared_gpus(apart) == {}


def test_the_step_log_shows_the_time_that_was_taken():
    requests = [RequestSpec(0.0, 10, 30, model="a"), RequestSpec(0.05, 10, 30, model="b")]
    result = simulate(two_tenants(Halving()), traffic(requests), RunSpec())
    for replica in range(2):
        log = run_log(result, replica)
        assert log[:, 3].sum() == 30
        taken_s = (log[:, 3] * log[:, 1] + log[:, 2] * log[:, 3] * (log[:, 3] - 1) / 2).sum()
        assert taken_s == pytest.approx(result.busy_s[replica], rel=1e-9)
