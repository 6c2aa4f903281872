"""Plans in scenarios: what they replace, what is refused, and their promise next to the outcome."""

import json

import numpy as np
import pytest
from planned_cases import FRACTION, PRICE, pair, pair_file, pair_plan, queue, queue_plan

from analysis.summary import summarise
from latency_models.errors import InputError
from scenarios.cli import main
from scenarios.plans.deployment import deployed, routing_at
from scenarios.plans.promise_table import print_promises
from scenarios.plans.promises import promised_figures, promised_load
from scenarios.replicated import PreparedScenario, simulate_replication
from scenarios.summary_table import results_console


def planned(**changes):
    """A plan whose values at the given path (a__b) are others."""

    def change(values):
        for path, value in changes.items():
            *parents, last = path.split("__")
            place = values
            for part in parents:
                place = place[int(part)] if part.isdigit() else place[part]
            place[last] = value

    return pair_plan(change=change)


def test_a_plan_says_what_runs_where(tmp_path):
    plan = planned(
        models__large={"tp": 1, "compute_share": 1.0, "memory_share": 0.4, "replicas": [[0], [1]]},
        models__small={"tp": 1, "compute_share": 1.0, "memory_share": 0.5, "replicas": [[1]]},
        packing="memory",
    )
    cluster = deployed(pair(tmp_path), plan).cluster()
    small, large = cluster.models
    assert [(replica.gpus, replica.memory_share) for replica in small.replicas] == [((1,), 0.5)]
    assert [(replica.gpus, replica.memory_share) for replica in large.replicas] == [((0,), 0.4), ((1,), 0.4)]
    assert cluster.gpus == 2
    assert cluster.router.kind == "price"
    assert cluster.router.options["prices"] == {"small": 0.0, "large": PRICE}


def test_engine_settings_of_the_plan_go_before_those_of_the_scenario(tmp_path):
    one = {"tp": 1, "compute_share": 1.0, "memory_share": 1.0, "replicas": [[0]]}
    plan = planned(models__small={**one, "engine": {"max_num_seqs": 7}})
    settings = deployed(pair(tmp_path), plan).cluster().models[0].replicas[0].settings
    assert (settings.max_num_seqs, settings.num_gpu_blocks) == (7, 5000)


def test_models_that_the_plan_leaves_out_do_not_run(tmp_path):
    def with_third(values):
        values["models"]["third"] = {**values["models"]["small"], "scores": "small"}
        values["prompts"]["score_bias"] = {"third": 0.5, "large": 0.0}

    scenario = deployed(pair(tmp_path, with_third), pair_plan())
    assert [model.name for model in scenario.cluster().models] == ["small", "large"]
    assert scenario.prompts.score_bias == {"large": 0.0}


def test_requests_go_where_the_prices_send_them(tmp_path):
    scenario = deployed(pair(tmp_path), pair_plan())
    result = simulate_replication(PreparedScenario.of(scenario), 0)
    # The first prompts of the table are those that the large model answers much better.
    to_large = result.requests.prompt < FRACTION * 100
    assert np.array_equal(result.requests.model == 1, to_large)
    assert np.array_equal(result.requests.output_tokens, np.where(to_large, 30, 6))


def test_ties_are_split_so_that_the_fractions_hold(tmp_path):
    plan = planned(routing__0__prices={"small": 0.0, "large": 0.4})
    scenario = pair(tmp_path)
    rows = [line.split(",") for line in (tmp_path / "prompts.csv").read_text().splitlines()]
    for row in rows[1:]:
        row[2] = f"{float(row[1]) + 0.4:.6f}"
    (tmp_path / "prompts.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
    result = simulate_replication(PreparedScenario.of(deployed(scenario, plan)), 0)
    assert np.mean(result.requests.model == 1) == pytest.approx(FRACTION, abs=0.01)


def test_one_model_needs_no_prompts(tmp_path):
    assert deployed(queue(tmp_path), queue_plan()).cluster().prompts is None


def test_a_plan_with_several_loads_needs_to_know_which():
    def two(values):
        routing = {**values["routing"][0], "weight": 0.5}
        values["routing"] = [routing, {**routing, "rate_per_s": 30.0}]

    plan = pair_plan(change=two)
    assert routing_at(plan, 30.0).rate_per_s == 30.0
    with pytest.raises(InputError, match=r"routings for the loads \[20.0, 30.0\] requests/s; say which one \(--rate\)"):
        routing_at(plan)
    with pytest.raises(InputError, match=r"load is 25.0; allowed: one of the loads"):
        routing_at(plan, 25.0)
    with pytest.raises(InputError, match="promises nothing at 30 requests/s"):
        promised_load(plan, 30.0)


def without_prompts(values):
    del values["prompts"]


def one_gpu(values):
    values["gpus"]["count"] = 1


def renamed(values):
    values["models"]["larg"] = values["models"].pop("large")
    values["models"]["larg"]["scores"] = "large"


def noisy(values):
    values["prompts"]["score_noise"] = 0.5


@pytest.mark.parametrize(
    ("change", "plan", "message"),
    [
        (renamed, {}, "unknown model of plan both 'large'; did you mean 'larg'"),
        (one_gpu, {}, "gpus.count is 1; allowed: at least the 2 GPUs of plan both"),
        (without_prompts, {}, "scenario pair has no prompts section; add one"),
        (
            None,
            {"routing__0__fractions": {"small": 0.2, "large": 0.8}},
            "fraction of small in plan both is 0.2; allowed",
        ),
        (
            None,
            {"routing__0__prices": {"small": 0.0, "large": 0.9}},
            "what its prices give on the prompts of pair: 1.000",
        ),
        (
            None,
            {"models__small": {"tp": 2, "compute_share": 1.0, "memory_share": 0.5, "replicas": [[0, 1]]}}
            | {"models__large__memory_share": 0.5, "packing": "memory"},
            "models.small: latency is 'that of tp 1'; allowed: one that can tell tp 2",
        ),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(tmp_path, change, plan, message):
    with pytest.raises(InputError, match=message):
        deployed(pair(tmp_path, change), planned(**plan)).cluster()


def test_what_routers_see_does_not_matter_for_whether_prices_and_fractions_agree(tmp_path):
    deployed(pair(tmp_path, noisy), pair_plan())


def test_the_promise_is_held_against_a_summary(tmp_path):
    plan = pair_plan(target_s=0.5)
    result = simulate_replication(PreparedScenario.of(deployed(pair(tmp_path), plan)), 0)
    summary = summarise(result, warmup_s=1.0)
    figures = {figure.name: figure for figure in promised_figures(plan, summary)}
    assert figures["score, predicted"].simulated == summary["overall"]["quality"]["predicted"]
    assert figures["score, achieved"].promised == 0.25
    assert figures["load"].promised == 20.0
    assert figures["all models: TTFT mean"].limit == 0.5
    assert figures["large: fraction"].simulated == pytest.approx(FRACTION, abs=0.1)
    assert figures["small: TTFT mean"].simulated == summary["by_model"]["small"]["ttft_s"]["mean"]
    console = results_console()
    with console.capture() as shown:
        print_promises(list(figures.values()), console)
    assert "all models: TTFT mean (ms)" in shown.get()
    assert promised_figures(plan.model_copy(update={"promise": None}), summary) == []


def test_run_shows_the_promise_of_a_plan(tmp_path, capsys):
    (tmp_path / "plan.json").write_text(pair_plan().to_json())
    path = pair_file(tmp_path)
    main(["run", str(path), "--plan", str(tmp_path / "plan.json"), "--out", str(tmp_path / "run")])
    assert "promised" in capsys.readouterr().out
    arguments = ["--replications", "2", "--overwrite", "--json", "--out", str(tmp_path / "run")]
    main(["run", str(path), "--plan", str(tmp_path / "plan.json"), *arguments])
    promise = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["promise"]}
    assert promise["score, achieved"]["low"] <= 0.5 * promise["score, predicted"]["simulated"]
    assert "prices:" in (tmp_path / "run" / "scenario.yaml").read_text()


def test_run_takes_one_of_several_loads(tmp_path, capsys):
    def two(values):
        routing = {**values["routing"][0], "weight": 0.5}
        values["routing"] = [routing, {**routing, "rate_per_s": 30.0}]
        loads = values["promise"]["loads"]
        loads.append({**loads[0], "rate_per_s": 30.0})

    (tmp_path / "plan.json").write_text(pair_plan(change=two).to_json())
    arguments = ["run", str(pair_file(tmp_path)), "--out", str(tmp_path / "run"), "--json"]
    main([*arguments, "--plan", str(tmp_path / "plan.json"), "--rate", "30"])
    promise = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["promise"]}
    assert promise["load"]["promised"] == 30.0
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--rate", "30"])
    assert ended.value.code == 2
    assert "--rate names a load of a plan; give --plan too" in capsys.readouterr().err
