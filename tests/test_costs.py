"""Dollars and energy: definitions on hand-made results, GPUs that are shared or unused, and where prices come from."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from synthetic_results import make_result

from analysis.cost_lines import cost_lines
from analysis.costs import AT_BOARD_POWER, BY_BUSY_TIME, GpuCost, cost_summary, gpu_busy_s
from analysis.slo import Slo
from analysis.summary import summarise
from latency_models.catalogue.entries import shipped
from latency_models.catalogue.gpus import GpuSpec, find_gpu
from latency_models.errors import InputError
from scenarios.cluster_gpu import cluster_gpu, cost_notes, gpu_cost
from scenarios.scenario_files import load_scenario
from scenarios.schema import Scenario
from sim.prompt_table import PromptTable
from sim.results import Status

GPU = GpuCost(name="card", price_per_hour_usd=3.6, power_w=300.0, idle_power_w=100.0)
SLO = Slo(ttft_s=1.0)


def request(arrival_s, ttft_s, finish_s, **values):
    """A request of 100 prompt and 10 output tokens."""
    times = {"scheduled_s": arrival_s, "first_token_s": arrival_s + ttft_s, "last_token_s": finish_s}
    sizes = {"prompt_tokens": 100, "output_tokens": 10, "generated_tokens": 10}
    return {"arrival_s": arrival_s, "finish_s": finish_s, **times, **sizes, **values}


def steps(*spans):
    """A step log with one step for each (start, end)."""
    return [[start, end - start, 0.0, 1, 1, 1, 1] for start, end in spans]


def costs(result, *, gpus=2, gpu=GPU, slo=SLO, warmup_s=0.0):
    summary = summarise(result, slo=slo, warmup_s=warmup_s)
    return summary, cost_summary(result, summary, gpus=gpus, gpu=gpu, slo=slo, warmup_s=warmup_s)


FOUR = [
    request(0.0, 0.5, 2.0),
    request(1.0, 0.5, 3.0, model=1, replica=1),
    request(2.0, 1.5, 4.0),
    request(3.0, np.nan, np.nan, generated_tokens=0, status=Status.REJECTED),
]


def test_dollars_by_hand():
    """Two GPUs at $3.6 an hour for 10 s cost 2 cents; three answers, two in time, 300 prompt and 30 output tokens."""
    _, cost = costs(make_result(FOUR, end_s=10.0))
    spent = 2 * 3.6 * 10 / 3600
    assert cost["per_hour_usd"] == pytest.approx(7.2)
    assert cost["per_million_output_tokens_usd"] == pytest.approx(spent / 30 * 1e6)
    assert cost["per_million_tokens_usd"] == pytest.approx(spent / 330 * 1e6)
    assert cost["per_1000_answers_usd"] == pytest.approx(spent / 3 * 1e3)
    assert cost["per_1000_in_time_usd"] == cost["per_1000_good_usd"] == pytest.approx(spent / 2 * 1e3)
    assert cost["per_1000_correct_usd"] is None
    assert cost["good_answers_per_s"] == pytest.approx(0.2)


def test_in_time_is_goodput():
    summary, cost = costs(make_result(FOUR, end_s=10.0), warmup_s=2.5)
    assert cost["good_answers_per_s"] == pytest.approx(summary["overall"]["goodput_per_s"])


def with_scores(outcomes):
    result = make_result([row | {"prompt": min(i, 2)} for i, row in enumerate(FOUR)], end_s=10.0)
    table = PromptTable(
        models=("small", "large"),
        predicted=np.full((3, 2), 0.5),
        outcomes=outcomes,
        prompt_ids=("a", "b", "c"),
        output_tokens=None,
    )
    return replace(result, prompts=table)


def test_good_answers_are_correct_and_in_time():
    """Scores 0.2 (small), 0.9 (large) and 0.4 (small, late): 1.5 correct answers, 1.1 of them in time."""
    result = with_scores(np.array([[0.2, 1.0], [1.0, 0.9], [0.4, 1.0]]))
    spent = 2 * 3.6 * 10 / 3600
    _, cost = costs(result)
    assert cost["per_1000_correct_usd"] == pytest.approx(spent / 1.5 * 1e3)
    assert cost["per_1000_good_usd"] == pytest.approx(spent / 1.1 * 1e3)
    _, without_slo = costs(result, slo=None)
    assert without_slo["per_1000_in_time_usd"] is None
    assert without_slo["per_1000_good_usd"] == without_slo["per_1000_correct_usd"] == cost["per_1000_correct_usd"]
    _, predicted_only = costs(with_scores(None))
    assert predicted_only["per_1000_correct_usd"] is None
    assert predicted_only["per_1000_good_usd"] == predicted_only["per_1000_in_time_usd"]


def test_a_shared_gpu_is_busy_once_and_paid_once():
    """Two replicas on GPU 0, busy for 0-4 and 3-6 s; GPU 1 is unused: 6 s of 10 at 300 W, the rest at 100 W."""
    result = make_result(FOUR, end_s=10.0, runs=[steps((0, 1), (1, 4)), steps((3, 6))])
    shared = replace(result, replicas=tuple(replace(replica, gpus=(0,)) for replica in result.replicas))
    assert gpu_busy_s(shared, 2) == pytest.approx([6.0, 0.0])
    assert gpu_busy_s(shared, 2, warmup_s=3.5) == pytest.approx([2.5, 0.0])
    _, cost = costs(shared)
    assert cost["power_w"] == pytest.approx(2 * 100 + 0.6 * 200)
    assert cost["per_hour_usd"] == pytest.approx(7.2)
    assert cost["joules_per_answer"] == pytest.approx(320 * 10 / 3)
    assert cost["kwh_per_million_tokens"] == pytest.approx(320 * 10 / 3.6e6 / 330 * 1e6)
    assert cost["energy_model"] == BY_BUSY_TIME


def test_every_shard_of_a_replica_is_busy():
    result = make_result(FOUR, end_s=10.0, runs=[steps((0, 2)), steps((1, 6))])
    wide = replace(result, replicas=(replace(result.replicas[0], gpus=(0, 1)), replace(result.replicas[1], gpus=(1,))))
    assert gpu_busy_s(wide, 3) == pytest.approx([2.0, 6.0, 0.0])


def test_what_is_not_known_is_none():
    result = make_result(FOUR, end_s=10.0)
    _, no_idle = costs(result, gpu=replace(GPU, idle_power_w=None))
    assert no_idle["power_w"] == 600.0
    assert no_idle["energy_model"] == AT_BOARD_POWER
    _, priced = costs(result, gpu=replace(GPU, power_w=None, idle_power_w=None))
    assert priced["per_hour_usd"] == 7.2
    assert {priced[key] for key in ("power_w", "joules_per_answer", "energy_model")} == {None}
    _, powered = costs(result, gpu=replace(GPU, price_per_hour_usd=None))
    assert {value for key, value in powered.items() if key.endswith("_usd")} == {None}
    assert powered["joules_per_answer"] > 0
    assert len(list(cost_lines(priced))) == len(list(cost_lines(powered))) == 1
    assert list(cost_lines(None)) == []


def test_nothing_answered_has_no_price_per_answer():
    refused = [request(3.0, np.nan, np.nan, generated_tokens=0, status=Status.REJECTED)]
    _, cost = costs(make_result(refused, end_s=10.0))
    assert cost["per_hour_usd"] == 7.2
    unknown = ("per_1000_answers_usd", "per_1000_good_usd", "per_million_output_tokens_usd", "joules_per_answer")
    assert {cost[key] for key in unknown} == {None}
    assert len(list(cost_lines(cost))) == 2


@pytest.mark.parametrize("key", ["price_per_hour_usd", "power_w", "idle_power_w"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_figures_out_of_range(key, value):
    with pytest.raises(InputError, match=key):
        GpuCost(**{key: value})


# ------------------------------------------------------------------ where prices come from


@pytest.mark.parametrize("name", shipped("gpus"))
def test_every_price_says_whose_and_of_when_it_is(name):
    gpu = find_gpu(name)
    assert gpu.power_w is not None
    assert (gpu.price_per_hour_usd is None) == (gpu.price_source == "") == (gpu.price_date == "")
    assert (gpu.idle_power_w is None) == (gpu.idle_power_source == "")
    assert gpu.idle_power_w is None or gpu.idle_power_w < gpu.power_w / 4


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"price_per_hour_usd": 0}, "price_per_hour_usd is 0; allowed: 0.01 to 1000 USD for one hour of one GPU"),
        ({"price_per_hour_usd": float("nan")}, "price_per_hour_usd is nan"),
        ({"power_w": 0.7}, "power_w is 0.7; allowed: 10 to 10000 W. Check its unit"),
        ({"power_w": 50, "idle_power_w": 60}, "power_w is 50; allowed: at least idle_power_w, the 60 W"),
        ({"price_source": 3}, "price_source is 3"),
        ({"price_date": 2026}, "a day in quotes"),
    ],
)
def test_catalogue_figures_out_of_range(change, expected):
    entry = {key: value for key, value in shipped("gpus")["l40s"].items() if key != "aliases"}
    with pytest.raises(InputError) as caught:
        GpuSpec(name="x", **entry | change)
    assert expected in str(caught.value)


def scenario(*overrides) -> Scenario:
    return load_scenario("mm1", overrides)


STEPS = "models.server.latency={kind: steps, model: llama-7b, gpu: a100-80gb}"


def test_the_gpu_is_named_or_follows_from_the_models():
    assert gpu_cost(scenario()) is None
    assert cluster_gpu(scenario(STEPS)).name == "a100-80gb"
    shipped_file = "models.server.latency={kind: file, name: llama-7b-a100-80gb-tp1}"
    assert cluster_gpu(scenario(shipped_file)).name == "a100-80gb"
    named = scenario("gpus.type=NVIDIA H200")
    assert gpu_cost(named).price_per_hour_usd == find_gpu("h200").price_per_hour_usd
    assert find_gpu("h200").price_date in gpu_cost(named).price_source
    assert cost_notes(named) == []
    assert "step times those of a100-80gb" in cost_notes(scenario(STEPS, "gpus.type=h200"))[0]


def test_models_on_different_gpus_have_no_common_price():
    two = scenario(STEPS).model_dump(mode="json", exclude_none=True, by_alias=True)
    two["models"]["other"] = json.loads(json.dumps(two["models"]["server"]))
    two["routing"] = "round-robin"
    assert cluster_gpu(Scenario.model_validate(two)).name == "a100-80gb"
    two["models"]["other"]["latency"]["gpu"] = "h200"
    assert cluster_gpu(Scenario.model_validate(two)) is None
    two["models"]["other"]["latency"] = {"kind": "linear", "per_token_s": 1e-3}
    assert cluster_gpu(Scenario.model_validate(two)) is None


def test_the_scenario_overrides_the_catalogue(tmp_path):
    found = gpu_cost(scenario(STEPS, "gpus.price_per_hour_usd=9", "gpus.power_w=123"))
    assert (found.price_per_hour_usd, found.power_w) == (9.0, 123.0)
    assert found.idle_power_w == find_gpu("a100").idle_power_w
    assert gpu_cost(scenario("gpus.price_per_hour_usd=9")).name is None
    with pytest.raises(InputError, match=r"gpus.power_w is 20.0; allowed: at least idle_power_w"):
        gpu_cost(scenario(STEPS, "gpus.power_w=20"))
    entry = shipped("gpus")["a100-80gb"] | {"price_per_hour_usd": 1.01}
    (tmp_path / "ours.yaml").write_text(yaml.safe_dump({"gpus": {"ours": entry}}))
    (tmp_path / "s.yaml").write_text("extends: mm1\ngpus: {type: {path: ours.yaml, name: ours}}\n")
    ours = load_scenario(str(tmp_path / "s.yaml"), [STEPS])
    assert gpu_cost(ours).price_per_hour_usd == 1.01
    # The same card at another price.
    assert cost_notes(ours) == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("gpus.type=h1000", "unknown GPU 'h1000'"),
        ("gpus.price_per_hour_usd=0", "gpus.price_per_hour_usd"),
        ("gpus.price_per_hour_usd=-2", "gpus.price_per_hour_usd"),
        ("gpus.power_w=.nan", "gpus.power_w"),
    ],
)
def test_bad_input(routerwise, tmp_path, override, expected):
    status, _, errors = routerwise("run", "mm1", "--set", override, "--out", tmp_path / "out")
    assert status == 2
    assert expected in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


SMALL = ("--set", "workload.requests=200", "--set", "run.warmup=0")


def test_run_writes_and_prints_costs(routerwise, tmp_path):
    options = ("--set", "gpus.type=h100", *SMALL, "--replications", 2, "--out", tmp_path / "out")
    status, output, _ = routerwise("run", "mm1", *options)
    assert status == 0
    assert "Cost: $3.99 per hour (1 x h100-80gb)" in output
    assert "Energy, at most (by busy time)" in output
    cost = json.loads((tmp_path / "out" / "summary.json").read_text())["cost"]
    assert cost["gpu"] == "h100-80gb"
    assert cost["gpus"]["mean"] == 1
    assert cost["per_1000_answers_usd"]["low"] < cost["per_1000_answers_usd"]["mean"]


def test_without_a_gpu_the_cost_is_null(routerwise, tmp_path):
    status, output, _ = routerwise("run", "mm1", *SMALL, "--out", tmp_path / "out", "--json")
    assert status == 0
    assert json.loads(output)["cost"] is None


def test_board_power_bounds_what_servers_drew(data_root):
    """The energy of 175 saturated vLLM servers on A100 and H100, over their time: always below board power."""
    import pandas as pd

    table = pd.read_csv(data_root / "data" / "mlenergy_v2" / "vllm_a100_h100_batch_tpot.csv")
    per_request_s = table.avg_output_tokens / table.token_throughput_tok_s
    drawn_w = table.energy_per_request_J / per_request_s / (table.tp * table.pp)
    names = {"NVIDIA A100-SXM4-40GB": "a100-40gb", "NVIDIA H100 80GB HBM3": "h100-80gb"}
    board_w = table.gpu.map({gpu: find_gpu(name).power_w for gpu, name in names.items()})
    idle_w = table.gpu.map({gpu: find_gpu(name).idle_power_w for gpu, name in names.items()})
    assert (drawn_w < board_w).all()
    assert (drawn_w > idle_w).all()
    assert 0.25 < (drawn_w / board_w).median() < 0.6
