"""What holds in every run, on generated clusters; and that the checks of it can fail."""

import hashlib
import os
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from cluster_cases import BALANCERS, GROWING, cases, cluster_of, one_replica, traffic
from hypothesis import given, settings
from invariants import (
    check_all,
    check_causality,
    check_conservation,
    check_kv,
    check_tokens,
    check_work_conservation,
    run_log,
)

from sim.cluster import simulate
from sim.cluster_spec import ModelSpec, PolicySpec, ReplicaSpec, RunSpec
from sim.results import SimulationResult, Status
from sim.routing.balancers import LeastRequests
from sim.routing.policies import BALANCERS as BALANCER_REGISTRY
from sim.routing.policies import MODEL_ROUTERS, Decision, RequestView
from sim.settings import EngineSettings
from sim.workload import OpenTraffic, RequestChunk, RequestSpec

ROOT = Path(__file__).parents[1]


def test_invariants_of_generated_clusters():
    seen = Counter()

    @settings(max_examples=300)
    @given(cases())
    def check(case):
        result = simulate(case.cluster, case.traffic(), case.run)
        check_all(result, case.cluster, case.requests)
        seen.update(Status(status).name for status in set(result.requests.status.tolist()))
        seen["retried"] += result.requests.retries.any()
        seen["preempted"] += result.requests.preemptions.any()
        seen["cached"] += result.requests.cached_tokens.any()
        seen["gaps"] += len(result.gaps) > 0
        seen["rejected answers"] += len(result.rejected_answers) > 0
        seen["never routed"] += (result.requests.replica < 0).any()

    check()
    # The clusters are worth checking: these are the numbers of runs in which such a thing happens.
    statuses = ("FINISHED", "REJECTED", "ABORTED", "TIMED_OUT", "UNFINISHED", "FAILED")
    for what in (*statuses, "retried", "preempted", "cached", "gaps", "rejected answers", "never routed"):
        assert seen[what] >= 15, f"{what} in {seen[what]} runs only"


@pytest.mark.parametrize("seed", range(40))
def test_invariants_when_resumed_requests_are_preempted_again_at_once(seed):
    """Asynchronous scheduling: the next preemption may come while the first token after the last one is on the way."""
    tight = EngineSettings(
        max_num_seqs=5,
        max_num_batched_tokens=16,
        max_model_len=48,
        block_size=1,
        num_gpu_blocks=49,
        long_prefill_token_threshold=4,
        scheduler_reserve_full_isl=False,
        async_scheduling=True,
    )
    rng = np.random.default_rng(seed)
    requests = [
        RequestSpec(0.0, int(rng.integers(3, 20)), int(rng.integers(1, 28)), f"r{number}", content=(("system", 3),))
        for number in range(int(rng.integers(3, 7)))
    ]
    cluster = cluster_of(one_replica(tight, GROWING))
    check_all(simulate(cluster, traffic(requests), RunSpec()), cluster, requests)


# ---------------------------------------------------------------------- the checks themselves can fail


@pytest.fixture
def sound():
    """A run with waiting, preemption and idleness that satisfies all invariants."""
    tight = EngineSettings(num_gpu_blocks=16, block_size=4, max_num_seqs=3, enable_prefix_caching=False)
    cluster = cluster_of(one_replica(tight, GROWING))
    requests = [RequestSpec(0.01 * row, 12, 20, f"r{row}") for row in range(6)] + [RequestSpec(9.0, 5, 5, "late")]
    result = simulate(cluster, traffic(requests), RunSpec(sample_interval_s=0.02))
    assert result.requests.preemptions.sum() > 0
    assert len(result.gaps) > 0
    check_all(result, cluster, requests)
    return result, cluster, requests


class Rows:
    """A step log in memory."""

    def __init__(self, rows):
        self.rows = rows

    def chunks(self):
        yield self.rows


def with_log(result: SimulationResult, rows: np.ndarray) -> SimulationResult:
    return replace(result, runs=(Rows(rows),))


def test_a_lost_request_is_noticed(sound):
    result, _, requests = sound
    with pytest.raises(AssertionError, match="7 rows for 8 arrivals"):
        check_conservation(result, [*requests, RequestSpec(9.0, 1, 1)])


def test_an_abort_that_nobody_asked_for_is_noticed(sound):
    result, _, requests = sound
    result.requests.status[2] = Status.ABORTED
    with pytest.raises(AssertionError, match="request 2 was aborted"):
        check_conservation(result, requests)


@pytest.mark.parametrize("column", ["queued_s", "scheduled_s", "first_token_s", "last_token_s", "finish_s"])
def test_an_effect_before_its_cause_is_noticed(sound, column):
    result, _, _ = sound
    getattr(result.requests, column)[3] = 0.0
    with pytest.raises(AssertionError, match="request 3"):
        check_causality(result)


def test_overlapping_steps_are_noticed(sound):
    result, _, _ = sound
    rows = run_log(result, 0)
    rows[5, 0] -= 1e-4
    with pytest.raises(AssertionError, match="overlap"):
        check_causality(with_log(result, rows))


def test_a_missing_token_is_noticed(sound):
    result, cluster, _ = sound
    rows = run_log(result, 0)
    longest = rows[:, 3].argmax()
    rows[longest, 3] -= 1
    with pytest.raises(AssertionError, match="was given"):
        check_tokens(with_log(result, rows), cluster)
    with pytest.raises(AssertionError, match="was given"):
        check_tokens(replace(result, gaps=result.gaps[1:]), cluster)
    result.requests.generated_tokens[0] -= 1
    with pytest.raises(AssertionError, match="request 0 has finished with 19 tokens"):
        check_tokens(result, cluster)


def test_a_leaked_block_is_noticed(sound):
    result, _, _ = sound
    empty = np.flatnonzero(result.samples[:, 2] == 0)[-1]
    result.samples[empty, 4] = 1
    with pytest.raises(AssertionError, match="empty but holds"):
        check_kv(result)


def test_too_many_blocks_are_noticed(sound):
    result, _, _ = sound
    rows = run_log(result, 0)
    rows[3, 6] = 16
    with pytest.raises(AssertionError, match="uses"):
        check_kv(with_log(result, rows))


def test_idling_beside_work_is_noticed(sound):
    result, _, _ = sound
    rows = run_log(result, 0)
    gone = with_log(result, np.delete(rows, 4, axis=0))
    gone.busy_s[0] -= rows[4, 1] * rows[4, 3] + rows[4, 2] * rows[4, 3] * (rows[4, 3] - 1) / 2
    with pytest.raises(AssertionError, match="idles from"):
        check_work_conservation(gone)


# ---------------------------------------------------------------------- determinism


def fingerprint(result: SimulationResult) -> str:
    """Hash over the bytes of everything in a result."""
    digest = hashlib.sha256()
    for field in fields(result.requests):
        column = getattr(result.requests, field.name)
        digest.update(column.tobytes() if isinstance(column, np.ndarray) else repr(column).encode())
    for replica in range(len(result.replicas)):
        digest.update(run_log(result, replica).tobytes())
    for table in (result.gaps, result.samples, result.busy_s):
        digest.update(table.tobytes())
    digest.update(repr((result.end_s, result.events, result.models, result.classes, result.replicas)).encode())
    return digest.hexdigest()


def busy_cluster(balancer: str = "power-of-two"):
    """Two models, three replicas each, random policies, shared prefixes, and more than they can serve at once."""
    tight = EngineSettings(num_gpu_blocks=40, block_size=4, max_num_seqs=4)
    models = tuple(
        ModelSpec(
            name=name,
            step_time=GROWING,
            replicas=tuple(ReplicaSpec(gpus=(0,), settings=tight, memory_share=1.0) for _ in range(3)),
            balancer=PolicySpec(kind=balancer),
        )
        for name in ("a", "b")
    )
    router = PolicySpec(kind="fractions", options={"fractions": {"a": 0.4, "b": 0.6}, "variant": "random"})
    return cluster_of(*models, router=router)


def busy_requests():
    rng = np.random.default_rng(11)
    count = 80
    return [
        RequestSpec(
            float(arrival_s),
            int(prompt),
            int(output),
            f"r{row}",
            content=((f"system {row % 3}", 8),),
            session=f"{row % 5}",
        )
        for row, arrival_s, prompt, output in zip(
            range(count),
            np.sort(rng.uniform(0, 1, count)),
            rng.integers(8, 40, count),
            rng.integers(1, 30, count),
            strict=True,
        )
    ]


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not():
    first = fingerprint(simulate(busy_cluster(), traffic(busy_requests()), RunSpec(seed=3)))
    assert fingerprint(simulate(busy_cluster(), traffic(busy_requests()), RunSpec(seed=3))) == first
    assert fingerprint(simulate(busy_cluster(), traffic(busy_requests(), chunk=80), RunSpec(seed=3))) == first
    assert fingerprint(simulate(busy_cluster(), traffic(busy_requests()), RunSpec(seed=4))) != first
    assert fingerprint(simulate(busy_cluster(), traffic(busy_requests()), RunSpec(seed=3, replication=1))) != first


def test_global_random_state_is_neither_read_nor_touched():
    np.random.seed(1)
    before = np.random.get_state()[1].tobytes()
    first = fingerprint(simulate(busy_cluster(), traffic(busy_requests()), RunSpec()))
    assert np.random.get_state()[1].tobytes() == before
    np.random.seed(2)
    assert fingerprint(simulate(busy_cluster(), traffic(busy_requests()), RunSpec())) == first


def test_two_simulations_in_one_process_do_not_touch_each_other():
    """Two threads hand the turn to each other at every arrival."""
    alone = {
        seed: fingerprint(simulate(busy_cluster(), traffic(busy_requests()), RunSpec(seed=seed))) for seed in (1, 2)
    }
    turn = threading.Barrier(2, timeout=20)
    found: dict[int, str] = {}

    def taking_turns():
        for request in busy_requests():
            turn.wait()
            yield RequestChunk(*([value] for value in request))

    def run(seed: int) -> None:
        found[seed] = fingerprint(simulate(busy_cluster(), OpenTraffic(taking_turns()), RunSpec(seed=seed)))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_a_simulation_inside_the_traffic_of_another_changes_nothing():
    alone = fingerprint(simulate(busy_cluster(), traffic(busy_requests()), RunSpec()))

    def interrupted():
        for row, request in enumerate(busy_requests()):
            if row % 40 == 7:
                simulate(busy_cluster(), traffic(busy_requests()[:20]), RunSpec())
            yield RequestChunk(*([value] for value in request))

    assert fingerprint(simulate(busy_cluster(), OpenTraffic(interrupted()), RunSpec())) == alone


def test_hash_randomisation_changes_nothing():
    script = (
        "from test_sim_invariants import *\n"
        "result = simulate(busy_cluster('prefix-affinity'), traffic(busy_requests()), RunSpec())\n"
        "assert result.requests.cached_tokens.sum() > 0\n"
        "print(fingerprint(result))\n"
    )
    here = fingerprint(simulate(busy_cluster("prefix-affinity"), traffic(busy_requests()), RunSpec()))
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "12345"}
    process = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.stdout.strip() == here, process.stderr


# ---------------------------------------------------------------------- what policies may not know


def test_a_request_view_has_no_answer_length():
    assert RequestView._fields == (
        "row", "now_s", "prompt_tokens", "model", "request_class", "session", "priority", "content", "prompt", "scores",
    )  # fmt: skip


class Spy:
    """Notes everything that a policy can reach from what it is given."""

    def __init__(self):
        self.seen = []

    def route(self, request, loads):
        self.seen.append((tuple(request), [(tuple(load.requests), tuple(load.prompt_tokens)) for load in loads]))
        return Decision(0, "spied")

    def choose(self, request, load):
        self.seen.append((tuple(request), tuple(load.requests), tuple(load.prompt_tokens), load.kv_used(0)))
        return LeastRequests(len(load.requests)).choose(request, load)


def test_policies_see_requests_and_loads_but_no_answer_length(monkeypatch):
    spy = Spy()
    monkeypatch.setitem(MODEL_ROUTERS._built_in, "spy", lambda context, options: spy)
    monkeypatch.setitem(BALANCER_REGISTRY._built_in, "spy", lambda context, options: spy)
    cluster = cluster_of(one_replica(step_time=GROWING, balancer=PolicySpec(kind="spy")), router=PolicySpec(kind="spy"))
    lengths = (7001, 7002, 7003)
    requests = [
        RequestSpec(float(row), 10 + row, length, f"r{row}", session="s", priority=row, request_class="chat")
        for row, length in enumerate(lengths)
    ]
    simulate(cluster, traffic(requests), RunSpec())
    assert len(spy.seen) == 6
    assert [seen[0][0] for seen in spy.seen] == [0, 0, 1, 1, 2, 2]
    assert spy.seen[4][0] == (2, 2.0, 12, None, "chat", "s", 2, None, None, None)
    assert spy.seen[5][1:3] == ((2,), (21,))
    assert spy.seen[5][3] > 0
    assert not any(str(length) in repr(spy.seen) for length in lengths)


@pytest.mark.parametrize("balancer", BALANCERS)
def test_decisions_do_not_depend_on_answers_that_nobody_has_seen(balancer):
    """Requests that all arrive before the first token go to the same replicas whatever their answers' lengths."""

    def chosen(lengths):
        requests = [
            request._replace(arrival_s=0.0, output_tokens=length)
            for request, length in zip(busy_requests(), lengths, strict=True)
        ]
        return simulate(busy_cluster(balancer), traffic(requests), RunSpec()).requests.replica

    np.testing.assert_array_equal(chosen([1] * 80), chosen(range(20, 100)))
