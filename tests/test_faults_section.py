"""The ``faults:`` section, and other trouble in scenarios: limits by class, longer answers, drift of the prompts."""

import math

import numpy as np
import pytest
from planned_cases import PAIR, pair, queue

from latency_models.errors import InputError
from scenarios.prompts_section import DriftSection
from scenarios.replicated import scenario_json
from scenarios.scenario_files import dump_scenario
from scenarios.schema import Scenario
from scenarios.workloads.transforms import ScaleLengths
from sim.cluster_spec import AdmissionLimit
from sim.fault_spec import Crash, FaultSpec, RandomCrashes
from sim.prompt_table import PromptTable
from sim.workload import RequestChunk


def with_faults(**faults):
    def change(values):
        values["faults"] = faults

    return change


def test_a_section_says_all_that_a_spec_can(tmp_path):
    scenario = pair(
        tmp_path,
        with_faults(
            load_s={"small": 5, "large": 60},
            restart_s=10,
            cold_start=["large"],
            lost_requests="reroute",
            most_retries=1,
            crashes=[
                {"at_s": 3, "model": "large"},
                {"at_s": 4, "gpu": 1, "restart_s": 300},
                {"at_s": 5, "model": "small", "replica": 0, "restart_s": "never"},
            ],
            random_crashes=[
                {"each": "gpu", "mean_time_between_s": 3600},
                {"each": "replica", "model": "large", "mean_time_between_s": 60, "restart_s": 1},
            ],
        ),
    )
    expected = FaultSpec(
        load_s=(5.0, 60.0),
        restart_s=10.0,
        crashes=(
            Crash(at_s=3.0, model=1),
            Crash(at_s=4.0, gpu=1, restart_s=300.0),
            Crash(at_s=5.0, model=0, restart_s=math.inf),
        ),
        random_crashes=(
            RandomCrashes(each="gpu", mean_time_between_s=3600.0),
            RandomCrashes(each="replica", mean_time_between_s=60.0, model=1, restart_s=1.0),
        ),
        cold_models=(1,),
        lost_requests="reroute",
        most_retries=1,
    )
    assert scenario.cluster().faults == expected
    assert Scenario.model_validate_json(scenario_json(scenario)) == scenario
    assert "never" in dump_scenario(scenario)


def test_one_number_and_true_are_for_all_models(tmp_path):
    faults = pair(tmp_path, with_faults(load_s=7, cold_start=True)).cluster().faults
    assert (faults.load_s, faults.cold_models, faults.most_retries) == ((7.0, 7.0), (0, 1), 3)
    assert pair(tmp_path).cluster().faults is None


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({"cold_start": True}, "load_s"),
        ({"load_s": 5}, "nothing fails"),
        ({"load_s": -1, "cold_start": True}, "load_s"),
        ({"load_s": float("nan"), "cold_start": True}, "load_s"),
        ({"load_s": {"small": 1}, "cold_start": True}, "also for large"),
        ({"load_s": {"small": 1, "large": 1, "lage": 1}, "cold_start": True}, "did you mean 'large'"),
        ({"load_s": 1, "cold_start": ["lage"]}, "did you mean 'large'"),
        ({"load_s": 1, "crashes": [{"at_s": 1, "model": "lage"}]}, "did you mean 'large'"),
        ({"load_s": 1, "crashes": [{"at_s": 1}]}, "a replica or of a GPU"),
        ({"load_s": 1, "crashes": [{"at_s": 1, "gpu": 0, "model": "large"}]}, "a replica or of a GPU"),
        ({"load_s": 1, "crashes": [{"at_s": 1, "gpu": 0, "replica": 1}]}, "no effect beside gpu"),
        ({"load_s": 1, "crashes": [{"at_s": 1, "gpu": 9}]}, "0 to 1"),
        ({"load_s": 1, "crashes": [{"at_s": 1, "model": "large", "replica": 3}]}, "0 to 0, a replica of the model"),
        ({"load_s": 1, "crashes": [{"at_s": 1, "gpu": 0, "restart_s": "soon"}]}, "restart_s"),
        ({"load_s": 1, "random_crashes": [{"each": "rack", "mean_time_between_s": 1}]}, "gpu"),
        ({"load_s": 1, "random_crashes": [{"each": "gpu", "mean_time_between_s": 0}]}, "mean_time_between_s"),
        ({"load_s": 0, "random_crashes": [{"each": "gpu", "mean_time_between_s": 1e-9}]}, "equal to 0.001"),
        ({"load_s": 1, "cold_start": "large"}, "cold_start is 'large'; allowed: a valid boolean or a list"),
        ({"load_s": 1, "random_crashes": [{"each": "gpu", "model": "large", "mean_time_between_s": 9}]}, "each: gpu"),
        ({"load_s": 1, "cold_start": True, "lost_requests": "forget"}, "retry"),
        ({"load_s": 1, "cold_start": True, "lost_requests": "fail", "most_retries": 3}, "no effect"),
        ({"load_s": 1, "cold_start": True, "most_retrys": 3}, "most_retries"),
    ],
)
def test_faults_that_make_no_sense_are_refused(tmp_path, faults, message):
    with pytest.raises(InputError, match=message):
        pair(tmp_path, with_faults(**faults)).cluster()


# ---------------------------------------------------------------------- admission by class


def limited(**by_class):
    def change(values):
        values["models"]["server"]["admission"] = {"max_queue_requests": 9, "by_class": by_class}
        values["workload"]["class"] = "batch"

    return change


def test_limits_by_class(tmp_path):
    scenario = queue(tmp_path, limited(batch={"max_queue_requests": 1, "max_queue_tokens": 50}))
    assert scenario.cluster().models[0].admission == AdmissionLimit(
        max_queue_requests=9, by_class={"batch": AdmissionLimit(max_queue_requests=1, max_queue_tokens=50)}
    )
    assert Scenario.model_validate_json(scenario_json(scenario)) == scenario


@pytest.mark.parametrize(
    ("by_class", "message"),
    [
        ({"batch": {}}, "limits nothing"),
        ({"batch": {"max_queue_requests": 0}}, "max_queue_requests"),
        ({"batch": {"by_class": {}}}, "by_class"),
        ({"bacth": {"max_queue_requests": 2}}, "no client sends requests of class 'bacth'"),
    ],
)
def test_limits_by_class_that_make_no_sense_are_refused(tmp_path, by_class, message):
    with pytest.raises(InputError, match=message):
        queue(tmp_path, limited(**by_class))


# ---------------------------------------------------------------------- answers and prompts


def test_answers_are_scaled_and_never_empty():
    chunk = RequestChunk([0.0, 1.0, 2.0], [5, 5, 5], [1, 10, 100])
    (longer,) = ScaleLengths(output_factor=1.5).apply(lambda: iter([chunk]), np.random.SeedSequence(0))
    assert longer.output_tokens.tolist() == [2, 15, 150]
    (shorter,) = ScaleLengths(output_factor=0.01).apply(lambda: iter([chunk]), np.random.SeedSequence(0))
    assert shorter.output_tokens.tolist() == [1, 1, 1]
    for factor in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="output_factor"):
            ScaleLengths(output_factor=factor)


def test_the_lengths_of_a_prompt_table_are_scaled(tmp_path):
    plain = pair(tmp_path).cluster().prompts.table.output_tokens

    def longer(values):
        values["prompts"] = {**PAIR["prompts"], "length_factor": 2.5}

    np.testing.assert_allclose(pair(tmp_path, longer).cluster().prompts.table.output_tokens, 2.5 * plain)

    def without_effect(values):
        values["prompts"] = {"table": {"path": "prompts.csv"}, "length_factor": 2.5}

    with pytest.raises(InputError, match="no effect with lengths: workload"):
        pair(tmp_path, without_effect)


def test_drift_makes_hard_or_long_prompts_more_frequent():
    table = PromptTable(
        models=("a", "b"),
        predicted=np.full((3, 2), 0.5),
        outcomes=np.array([[0.0, 0.2], [0.5, 0.7], [1.0, 1.0]]),
        output_tokens=np.array([[10.0, 10.0], [20.0, 20.0], [90.0, 90.0]]),
    )
    hard = DriftSection(towards="hard", strength=1.0).weights(table)
    assert hard[0] > hard[1] > hard[2]
    assert math.log(hard[0] / hard[2]) == pytest.approx(0.9 / np.std([0.1, 0.6, 1.0]))
    long = DriftSection(towards="long", strength=1.0).weights(table)
    assert long[0] < long[1] < long[2]
    np.testing.assert_allclose(DriftSection(towards="hard", strength=0.0).weights(table), 1.0)
    # Without outcomes the predictions say what is hard; where all are alike, nothing changes.
    alike = PromptTable(models=("a",), predicted=np.full((3, 1), 0.5))
    np.testing.assert_allclose(DriftSection(towards="hard", strength=3.0).weights(alike), 1.0)
    with pytest.raises(InputError, match="no output_tokens"):
        DriftSection(towards="long", strength=1.0).weights(alike)


def test_drift_reaches_the_simulation(tmp_path):
    def drift(values):
        values["prompts"]["drift"] = {"towards": "long", "strength": 2.0}

    weights = pair(tmp_path, drift).cluster().prompts.weights
    assert weights.max() > 2 * weights.min() > 0

    def wrong(values):
        values["prompts"]["drift"] = {"towards": "lon", "strength": 2.0}

    with pytest.raises(InputError, match="long"):
        pair(tmp_path, wrong)
