"""Crashes by hand: one step a second, and what becomes of whom."""

import math
from dataclasses import replace

import numpy as np
import pytest
from cluster_cases import GROWING, cluster_of, one_replica, traffic
from invariants import check_all, run_log

from latency_models.errors import InputError
from latency_models.laws.linear import LinearStepTime
from sim.cluster import simulate
from sim.cluster_spec import AdmissionLimit, ClusterSpec, ModelSpec, PolicySpec, ReplicaSpec, RunSpec
from sim.fault_spec import Crash, FaultSpec, RandomCrashes
from sim.prompt_table import PromptTable
from sim.prompts import PromptSpec
from sim.results import Status
from sim.routing.policies import BALANCERS, DOWN, Decision
from sim.settings import EngineSettings
from sim.stage import StageSpec
from sim.workload import RequestSpec

SECOND = LinearStepTime(base_s=1.0)
"""Every step takes a second."""


def model(replicas=1, name="m", first_gpu=0, **options):
    settings = EngineSettings(max_num_seqs=8, enable_prefix_caching=options.pop("prefix_caching", False))
    placed = tuple(ReplicaSpec(gpus=(first_gpu + number,), settings=settings) for number in range(replicas))
    return ModelSpec(
        name=name, step_time=SECOND, replicas=placed, **{"balancer": PolicySpec(kind="round-robin"), **options}
    )


def cluster(*models, router="round-robin", **options):
    gpus = 1 + max(gpu for entry in models for placed in entry.replicas for gpu in placed.gpus)
    return ClusterSpec(gpus=gpus, models=models, router=PolicySpec(kind=router), **options)


def run(spec, *requests, **options):
    asked = [RequestSpec(*request) if isinstance(request, tuple) else request for request in requests]
    result = simulate(spec, traffic(asked), RunSpec(**options))
    check_all(result, spec, asked)
    reference = simulate(spec, traffic(asked), RunSpec(**options | {"mode": "reference"}))
    for name in ("status", "replica", "first_token_s", "finish_s", "retries"):
        np.testing.assert_array_equal(getattr(result.requests, name), getattr(reference.requests, name))
    return result


def row(result, number):
    """(status, replica, retries, tokens, first token, finish) of a request."""
    columns = result.requests
    return (
        Status(columns.status[number]),
        int(columns.replica[number]),
        int(columns.retries[number]),
        int(columns.generated_tokens[number]),
        float(columns.first_token_s[number]),
        float(columns.finish_s[number]),
    )


def crash(at_s=2.5, **options):
    return FaultSpec(load_s=(options.pop("load_s", 0.0),), crashes=(Crash(at_s=at_s, model=0),), **options)


# ---------------------------------------------------------------------- one replica


def test_a_lost_request_waits_for_its_replica_and_starts_anew():
    spec = cluster(model(), faults=crash(restart_s=3.0, load_s=4.0))
    result = run(spec, (0.0, 4, 4))
    # Two tokens are there at 2.5 s, and void; the replica is back at 9.5 s.
    assert row(result, 0) == (Status.FINISHED, 0, 1, 4, 10.5, 13.5)
    assert result.outages.tolist() == [[0.0, 2.5, 9.5]]


def test_the_step_in_flight_is_busy_time_without_a_token():
    result = run(cluster(model(), faults=crash(restart_s=3.0)), (0.0, 4, 4))
    log = run_log(result, 0)
    assert log[:, [0, 3, 5]].tolist() == [[0.0, 1, 4], [1.0, 1, 1], [2.0, 1, 0], [5.5, 1, 4], [6.5, 3, 1]]
    assert log[2, 1] == 0.5
    assert result.busy_s[0] == 6.5


def test_a_request_that_is_to_fail_keeps_what_it_got():
    result = run(
        cluster(model(), faults=crash(restart_s=3.0, lost_requests="fail")), (0.0, 4, 4), (3.0, 4, 1), (9.0, 4, 1)
    )
    assert row(result, 0) == (Status.FAILED, 0, 0, 2, 1.0, 2.5)
    # Nobody answers at 3 s either.
    assert row(result, 1)[0] == Status.FAILED
    assert row(result, 1)[5] == 3.0
    assert row(result, 2) == (Status.FINISHED, 0, 0, 1, 10.0, 10.0)


def test_who_loses_its_replica_too_often_fails():
    crashes = tuple(Crash(at_s=at_s, model=0) for at_s in (2.5, 5.5, 8.5))
    faults = FaultSpec(load_s=(0.0,), crashes=crashes, most_retries=2)
    assert row(run(cluster(model(), faults=faults), (0.0, 4, 4)), 0)[:3] == (Status.FAILED, 0, 2)
    patient = replace(faults, most_retries=3)
    assert row(run(cluster(model(), faults=patient), (0.0, 4, 4)), 0) == (Status.FINISHED, 0, 3, 4, 9.5, 12.5)


def test_nobody_waits_for_a_replica_that_never_returns():
    result = run(cluster(model(), faults=crash(restart_s=math.inf)), (0.0, 4, 4), (5.0, 4, 4))
    assert [row(result, number)[0] for number in (0, 1)] == [Status.FAILED, Status.FAILED]
    crashes = (Crash(at_s=2.5, model=0), Crash(at_s=4.0, model=0, restart_s=math.inf))
    later = run(cluster(model(), faults=FaultSpec(load_s=(9.0,), crashes=crashes)), (0.0, 4, 4))
    assert row(later, 0)[0] == Status.FAILED
    assert row(later, 0)[5] == 4.0


def test_patience_ends_while_a_request_waits_for_a_replica():
    spec = cluster(model(), faults=crash(restart_s=30.0))
    late = RequestSpec(0.0, 4, 4, deadline_s=8.0)
    gone = RequestSpec(1.0, 4, 4, cancel_after_s=8.0)
    result = run(spec, late, gone)
    assert row(result, 0)[0] == Status.TIMED_OUT
    assert row(result, 0)[5] == 8.0
    assert row(result, 1)[0] == Status.ABORTED
    assert result.end_s == 9.0


def test_a_cold_replica_answers_when_it_has_loaded():
    faults = FaultSpec(load_s=(6.0,), cold_models=(0,))
    result = run(cluster(model(), faults=faults), (0.0, 4, 1), (7.0, 4, 1))
    assert row(result, 0) == (Status.FINISHED, 0, 0, 1, 7.0, 7.0)
    assert row(result, 1)[5] == 8.0
    assert result.outages.tolist() == [[0.0, 0.0, 6.0]]


def test_requests_in_the_stages_around_the_engine_are_lost_too():
    stages = {"api_server": StageSpec(per_request_s=2.0), "detokenise": StageSpec(per_request_s=2.0)}
    faults = FaultSpec(load_s=(0.0,), crashes=(Crash(at_s=1.0, model=0), Crash(at_s=4.5, model=0)), restart_s=0.5)
    result = run(cluster(model(**stages), faults=faults), (0.0, 4, 1))
    # Tokenised from 0, lost at 1; from 1.5 to 3.5, its token at 4.5 is lost with the crash of that very instant.
    assert row(result, 0) == (Status.FINISHED, 0, 2, 1, 8.0, 10.0)


def test_the_prefix_cache_is_lost():
    asked = [
        RequestSpec(at_s, 40, 1, f"r{number}", content=(("system", 32),)) for number, at_s in enumerate((0.0, 2.0, 9.0))
    ]
    warm = run(cluster(model(prefix_caching=True)), *asked)
    cold = run(cluster(model(prefix_caching=True), faults=crash(at_s=5.0)), *asked)
    assert warm.requests.cached_tokens.tolist() == [0, 32, 32]
    assert cold.requests.cached_tokens.tolist() == [0, 32, 0]


def test_down_while_down_lasts_longer():
    crashes = (Crash(at_s=1.0, model=0, restart_s=5.0), Crash(at_s=2.0, model=0, restart_s=9.0))
    result = run(cluster(model(), faults=FaultSpec(load_s=(0.0,), crashes=crashes)), (0.0, 4, 1), (3.0, 4, 1))
    assert result.outages.tolist() == [[0.0, 1.0, 11.0]]
    assert row(result, 1)[5] == 12.0


# ---------------------------------------------------------------------- several replicas and models


@pytest.mark.parametrize(
    "balancer", ["round-robin", "random", "least-requests", "least-tokens", "power-of-two", "prefix-affinity"]
)
def test_no_balancer_sends_to_a_replica_that_is_down(balancer):
    faults = FaultSpec(load_s=(0.0,), crashes=(Crash(at_s=0.5, model=0, replica=1, restart_s=50.0),))
    spec = cluster(model(3, balancer=PolicySpec(kind=balancer)), faults=faults)
    result = run(spec, *[RequestSpec(float(number), 4, 2, session=f"{number % 2}") for number in range(1, 30)])
    assert set(result.requests.replica.tolist()) == {0, 2}
    assert (result.requests.status == Status.FINISHED).all()


def test_a_balancer_sees_who_is_down(monkeypatch):
    seen = []

    class Spy:
        def choose(self, request, load):
            seen.append((list(load.requests), list(load.prompt_tokens), load.kv_used(1)))
            return Decision(1, "wrong")

    monkeypatch.setitem(BALANCERS._built_in, "spy", lambda context, options: Spy())
    faults = FaultSpec(load_s=(0.0,), crashes=(Crash(at_s=0.5, model=0, replica=1, restart_s=50.0),))
    result = run(cluster(model(3, balancer=PolicySpec(kind="spy")), faults=faults), (1.0, 4, 9), (2.0, 4, 9))
    assert seen[0] == ([0, DOWN, 0], [0, DOWN, 0], 1.0)
    # It insists on the wrong one; the least loaded ones get the requests.
    assert result.requests.replica.tolist() == [0, 2]


def test_lost_requests_go_to_another_replica():
    result = run(cluster(model(2), faults=crash(restart_s=math.inf)), (0.0, 4, 4), (0.25, 4, 4), (5.0, 4, 1))
    assert row(result, 0)[:3] == (Status.FINISHED, 1, 1)
    assert row(result, 1)[:3] == (Status.FINISHED, 1, 0)
    assert row(result, 2)[1] == 1


def test_a_gpu_takes_all_its_shards_with_it():
    settings = EngineSettings()
    half = {"settings": settings, "memory_share": 0.5}
    spread = ModelSpec(name="a", step_time=SECOND, replicas=(ReplicaSpec(gpus=(0, 1), **half),))
    beside = ModelSpec(
        name="b", step_time=SECOND, replicas=(ReplicaSpec(gpus=(1,), **half), ReplicaSpec(gpus=(2,), **half))
    )
    spec = cluster(
        spread,
        beside,
        router="pinned",
        faults=FaultSpec(load_s=(1.0, 2.0), crashes=(Crash(at_s=0.5, gpu=1, restart_s=3.0),)),
    )
    result = run(spec, RequestSpec(1.0, 4, 1, model="a"), *[RequestSpec(1.0, 4, 1, model="b")] * 2)
    assert result.outages.tolist() == [[0.0, 0.5, 4.5], [1.0, 0.5, 5.5]]
    assert row(result, 0)[5] == 5.5
    assert result.requests.replica.tolist() == [0, 2, 2]


def two_models(**options):
    return model(1, "a"), model(1, "b", first_gpu=1, **options)


def test_another_model_answers_if_none_of_the_own_is_up():
    down = {"load_s": (0.0, 0.0), "crashes": (Crash(at_s=0.5, model=0, restart_s=50.0),)}
    asked = [RequestSpec(1.0, 4, 1, model="a"), RequestSpec(2.0, 4, 1, model="b")]
    waiting = run(cluster(*two_models(), router="pinned", faults=FaultSpec(**down)), *asked)
    assert waiting.requests.model.tolist() == [0, 1]
    assert row(waiting, 0)[5] == 51.5
    other = run(cluster(*two_models(), router="pinned", faults=FaultSpec(**down, lost_requests="reroute")), *asked)
    assert other.requests.model.tolist() == [1, 1]
    assert row(other, 0)[5] == 2.0


def test_the_router_chooses_the_other_model_by_score_and_its_lengths_hold():
    table = PromptTable(
        models=("a", "b", "c"),
        predicted=np.array([[0.9, 0.2, 0.5]]),
        outcomes=np.array([[1.0, 0.0, 1.0]]),
        output_tokens=np.array([[1.0, 2.0, 3.0]]),
    )
    spec = cluster(
        *two_models(),
        model(1, "c", first_gpu=2),
        router="price",
        prompts=PromptSpec(table=table, lengths="table"),
        faults=FaultSpec(
            load_s=(0.0,) * 3, crashes=(Crash(at_s=0.5, model=0, restart_s=50.0),), lost_requests="reroute"
        ),
    )
    asked = [RequestSpec(0.0, 4, 7), RequestSpec(1.0, 4, 7)]
    result = simulate(spec, traffic(asked), RunSpec())
    assert result.requests.model.tolist() == [2, 2]
    assert result.requests.output_tokens.tolist() == [3, 3]
    assert row(result, 0) == (Status.FINISHED, 2, 1, 3, 1.5, 3.5)


def test_random_crashes_do_not_depend_on_what_else_there_is():
    rule = RandomCrashes(each="replica", mean_time_between_s=20.0)
    busy = [(float(number), 4, 3) for number in range(100)]
    alone = run(cluster(model(), faults=FaultSpec(load_s=(1.0,), random_crashes=(rule,))), *busy)
    pair = run(cluster(model(2), faults=FaultSpec(load_s=(1.0,), random_crashes=(rule,))), *busy)
    first = pair.outages[pair.outages[:, 0] == 0]
    assert len(first) >= 2
    np.testing.assert_array_equal(alone.outages[: len(first), 1], first[: len(alone.outages), 1])
    other = run(cluster(model(), faults=FaultSpec(load_s=(1.0,), random_crashes=(rule,))), *busy, replication=1)
    assert other.outages[0, 1] != alone.outages[0, 1]


def test_random_crashes_are_exponential():
    rule = RandomCrashes(each="gpu", mean_time_between_s=5.0)
    spec = cluster_of(
        one_replica(step_time=GROWING), faults=FaultSpec(load_s=(2.0,), restart_s=1.0, random_crashes=(rule,))
    )
    result = simulate(spec, traffic([RequestSpec(0.0, 4, 1), RequestSpec(8000.0, 4, 1)]), RunSpec())
    lengths = result.outages[:, 2] - result.outages[:, 1]
    np.testing.assert_allclose(lengths[:-1], 3.0)
    ups = result.outages[1:, 1] - result.outages[:-1, 2]
    assert len(ups) > 800
    assert ups.mean() == pytest.approx(5.0, rel=0.1)
    assert ups.std() == pytest.approx(5.0, rel=0.15)


# ---------------------------------------------------------------------- admission by class


def test_a_class_has_a_limit_of_its_own():
    limit = AdmissionLimit(max_queue_requests=4, by_class={"batch": AdmissionLimit(max_queue_requests=1)})
    settings = EngineSettings(max_num_seqs=1)
    spec = cluster(
        ModelSpec(name="m", step_time=SECOND, replicas=(ReplicaSpec(gpus=(0,), settings=settings),), admission=limit)
    )
    classes = ["chat", "batch", "batch", "chat", None, "chat"]
    result = run(spec, *[RequestSpec(0.1 * number, 4, 4, request_class=name) for number, name in enumerate(classes)])
    statuses = [Status(status).name for status in result.requests.status]
    # The second batch request finds one of its own waiting; the last one finds three, and may wait.
    assert statuses == ["FINISHED", "FINISHED", "REJECTED", "FINISHED", "FINISHED", "FINISHED"]


def test_a_class_has_a_limit_of_tokens():
    limit = AdmissionLimit(by_class={"default": AdmissionLimit(max_queue_tokens=10)})
    settings = EngineSettings(max_num_seqs=1)
    spec = cluster(
        ModelSpec(name="m", step_time=SECOND, replicas=(ReplicaSpec(gpus=(0,), settings=settings),), admission=limit)
    )
    result = run(
        spec, (0.0, 4, 4), (0.1, 6, 1), (0.2, 5, 1), (0.3, 4, 1), RequestSpec(0.4, 50, 1, request_class="chat")
    )
    assert [Status(status).name for status in result.requests.status] == [
        "FINISHED", "FINISHED", "REJECTED", "FINISHED", "FINISHED",
    ]  # fmt: skip


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Crash(at_s=-1.0, model=0), "faults.crashes.at_s"),
        (lambda: Crash(at_s=math.nan, model=0), "faults.crashes.at_s"),
        (lambda: Crash(at_s=1.0), "give one of model and gpu"),
        (lambda: Crash(at_s=1.0, model=0, gpu=0), "give one of model and gpu"),
        (lambda: Crash(at_s=1.0, gpu=0, restart_s=-1.0), "restart_s"),
        (lambda: Crash(at_s=1.0, gpu=0, restart_s=math.nan), "restart_s"),
        (lambda: RandomCrashes(each="rack", mean_time_between_s=1.0), "did you mean|choices: gpu, replica"),
        (lambda: RandomCrashes(each="gpu", mean_time_between_s=0.0), "mean_time_between_s"),
        (lambda: RandomCrashes(each="gpu", mean_time_between_s=1.0, model=0), "each: replica"),
        (lambda: RandomCrashes(each="gpu", mean_time_between_s=1.0, restart_s=math.inf), "restart_s"),
        (lambda: FaultSpec(load_s=(-1.0,)), "load_s"),
        (lambda: FaultSpec(load_s=(1.0,), lost_requests="forget"), "lost_requests"),
        (lambda: FaultSpec(load_s=(1.0,), most_retries=-1), "most_retries"),
        (
            lambda: FaultSpec(
                load_s=(1.0,), restart_s=math.inf, random_crashes=(RandomCrashes(each="gpu", mean_time_between_s=1.0),)
            ),
            "finite",
        ),
        (lambda: cluster(model(), faults=FaultSpec(load_s=(1.0, 1.0))), "1 numbers"),
        (lambda: cluster(model(), faults=FaultSpec(load_s=(1.0,), crashes=(Crash(at_s=1.0, gpu=1),))), "crashes.gpu"),
        (lambda: cluster(model(), faults=FaultSpec(load_s=(1.0,), crashes=(Crash(at_s=1.0, model=1),))), "model"),
        (
            lambda: cluster(model(), faults=FaultSpec(load_s=(1.0,), crashes=(Crash(at_s=1.0, model=0, replica=1),))),
            "crashes.replica",
        ),
        (lambda: cluster(model(), faults=FaultSpec(load_s=(1.0,), cold_models=(3,))), "model"),
        (
            lambda: AdmissionLimit(
                by_class={"a": AdmissionLimit(by_class={"b": AdmissionLimit(max_queue_requests=1)})}
            ),
            "by_class",
        ),
    ],
)
def test_faults_that_make_no_sense_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
