"""What each axis of stress does to a scenario."""

import numpy as np
import pytest
from planned_cases import pair, pair_plan, queue, queue_plan
from test_replicated import trace

from latency_models.errors import InputError
from scenarios.plans.deployment import deployed
from scenarios.stress.axes import AXES
from scenarios.workloads.arrival_processes import (
    MMPP2,
    Deterministic,
    Diurnal,
    Gamma,
    Poisson,
    Spikes,
    SpikeWindow,
    Weibull,
    at_rate_times,
)
from scenarios.workloads.transforms import MagnifyBursts, ScaleLengths, ScaleRate


def times_until(process, end_s):
    found = []
    for chunk in process.arrivals(np.random.default_rng(5)):
        found.append(chunk[chunk < end_s])
        if chunk[-1] >= end_s:
            break
    return np.concatenate(found)


PROCESSES = [
    Poisson(rate_per_s=20.0),
    Gamma(rate_per_s=20.0, cv=2.0),
    Weibull(rate_per_s=20.0, cv=2.0),
    Deterministic(rate_per_s=20.0),
    MMPP2(rates_per_s=(40.0, 5.0), sojourns_s=(3.0, 4.0)),
    Diurnal(profile=((0.0, 5.0), (50.0, 40.0), (100.0, 5.0))),
    Spikes(
        base=MMPP2(rates_per_s=(40.0, 5.0), sojourns_s=(3.0, 4.0)),
        windows=(SpikeWindow(start_s=50.0, end_s=60.0, extra_rate_per_s=90.0),),
    ),
]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.kind)
def test_rates_are_multiplied_everywhere(process):
    once, twice = times_until(process, 300.0), times_until(at_rate_times(process, 2.0), 300.0)
    # In each tenth of the time, so that bursts keep their places and durations.
    expected = np.histogram(once, bins=10, range=(0.0, 300.0))[0] * 2.0
    counted = np.histogram(twice, bins=10, range=(0.0, 300.0))[0]
    np.testing.assert_allclose(counted, expected, rtol=0.35 if process.kind in ("gamma", "weibull") else 0.2)
    assert len(twice) == pytest.approx(2 * len(once), rel=0.1)


def test_the_same_random_numbers_give_the_same_requests_earlier():
    once, twice = times_until(PROCESSES[0], 100.0), times_until(at_rate_times(PROCESSES[0], 2.0), 50.0)
    np.testing.assert_allclose(twice, once / 2.0)


def test_load_of_every_kind_of_workload(tmp_path):
    planned = deployed(queue(tmp_path), queue_plan())
    assert AXES["load"].at(planned, 3.0).workload.arrivals == Poisson(rate_per_s=15.0)
    recorded = deployed(trace(tmp_path), queue_plan())
    assert AXES["load"].at(recorded, 3.0).workload.transforms == (ScaleRate(factor=3.0),)

    def mixed(values):
        one = values["workload"]
        sessions = {
            "kind": "sessions", "arrivals": one["arrivals"], "lengths": one["lengths"], "sessions": 9,
            "turns": {"kind": "constant", "tokens": 2}, "think_time_s": 1,
        }  # fmt: skip
        values["workload"] = {"kind": "mixture", "clients": [one, sessions]}

    both = AXES["load"].at(deployed(queue(tmp_path, mixed), queue_plan()), 3.0)
    assert [client.arrivals for client in both.workload.clients] == [Poisson(rate_per_s=15.0)] * 2
    with pytest.raises(InputError, match="kind sessions, which takes no transforms"):
        AXES["bursts"].at(deployed(queue(tmp_path, mixed), queue_plan()), 3.0)
    with pytest.raises(InputError, match="kind sessions, which takes no transforms"):
        AXES["outputs"].at(deployed(queue(tmp_path, mixed), queue_plan()), 3.0)


def test_bursts_and_outputs_are_transforms(tmp_path):
    planned = deployed(queue(tmp_path), queue_plan())
    assert AXES["bursts"].at(planned, 3.0).workload.transforms == (MagnifyBursts(factor=3.0),)
    longer = AXES["outputs"].at(planned, 3.0)
    assert longer.workload.transforms == (ScaleLengths(output_factor=3.0),)
    assert longer.run.oversized == "reject"


def test_outputs_of_a_prompt_table_are_those_of_the_table(tmp_path):
    longer = AXES["outputs"].at(deployed(pair(tmp_path), pair_plan()), 3.0)
    assert longer.prompts.length_factor == 3.0
    assert longer.workload.transforms == ()


def test_a_slow_gpu_slows_what_sits_on_it(tmp_path):
    planned = deployed(pair(tmp_path), pair_plan())
    slow = AXES["slower-gpu"].at(AXES["slower-gpu"].at(planned, 2.0, "1"), 1.5, "1")
    assert [model.replicas[0].slowdown for model in slow.models.values()] == [1.0, 3.0]


def test_losses_join_the_faults_that_there_are(tmp_path):
    def failing(values):
        values["faults"] = {"load_s": 7, "crashes": [{"at_s": 1, "gpu": 0}], "lost_requests": "fail"}

    planned = deployed(pair(tmp_path, failing), pair_plan())
    lost = AXES["gpu-loss"].at(planned, 30.0, "1").faults
    # The warm-up is 1 s; the loss comes 10 s after it.
    assert [(crash.at_s, crash.gpu, crash.restart_s) for crash in lost.crashes] == [(1, 0, None), (11.0, 1, 30.0)]
    assert (lost.load_s, lost.lost_requests) == (7, "fail")
    replica = AXES["replica-loss"].at(deployed(pair(tmp_path), pair_plan()), 30.0, "large/0").faults
    assert (replica.load_s, replica.crashes[0].model, replica.crashes[0].replica) == (0.0, "large", 0)
    cold = AXES["cold-start"].at(planned, 30.0)
    assert (cold.faults.load_s, cold.faults.cold_start, cold.run.warmup) == (30.0, True, 0.0)
    assert len(cold.faults.crashes) == 1
    assert AXES["cold-start"].at(planned, 0.0) == AXES["gpu-loss"].at(planned, 0.0, "1") == planned


def test_biases_add_up(tmp_path):
    def biased(values):
        values["prompts"]["score_bias"] = {"large": 0.2}

    planned = deployed(pair(tmp_path, biased), pair_plan())
    assert AXES["score-bias"].at(planned, 0.3, "large").prompts.score_bias == {"large": pytest.approx(0.5)}
    with pytest.raises(InputError, match="at most 1, together"):
        AXES["score-bias"].at(planned, 0.9, "large")
    with pytest.raises(InputError, match="did you mean 'large'"):
        AXES["score-bias"].at(planned, 0.1, "lage")


def test_a_drift_is_not_replaced(tmp_path):
    def drifting(values):
        values["prompts"]["drift"] = {"towards": "hard", "strength": 1.0}

    planned = deployed(pair(tmp_path, drifting), pair_plan())
    for axis in ("hard-prompts", "long-prompts"):
        with pytest.raises(InputError, match=r"has a prompts\.drift already"):
            AXES[axis].at(planned, 1.0)


def test_lengths_of_the_workload_do_not_depend_on_the_prompt(tmp_path):
    def plain(values):
        values["prompts"]["lengths"] = "workload"

    with pytest.raises(InputError, match=r"set prompts\.lengths to table"):
        AXES["long-prompts"].at(deployed(pair(tmp_path, plain), pair_plan()), 1.0)
