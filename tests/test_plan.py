"""Plans: from a solution, to JSON and back, and what is refused."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from setup_cases import setups_problem

from latency_models.errors import InputError
from optimizer.plan import Plan, make_plan, promised_latency_s, read_plan
from optimizer.problem import LEFT_OUT, LoadCase, SloTarget
from optimizer.search import Optimum, optimise
from sim.prompt_table import PromptTable


@pytest.fixture(scope="module")
def solved():
    problem = setups_problem(target_s=0.1, packing="compute")
    scores = problem.table.predicted
    table = PromptTable(models=problem.table.models, predicted=scores, outcomes=(scores > 0.5).astype(float))
    problem = setups_problem(target_s=0.1, packing="compute", table=table)
    return problem, optimise(problem)


@pytest.fixture
def plan(solved):
    problem, optimum = solved
    return make_plan(problem, optimum, name="case", usable_memory_gib=72.0, provenance={"method": "exact"})


def test_a_plan_holds_what_was_found(solved, plan):
    problem, optimum = solved
    best = optimum.best
    names = [model.name for model in problem.models]
    used = [name for name, option in zip(names, best.setup, strict=True) if option != LEFT_OUT]
    assert list(plan.models) == used
    assert set(plan.left_out) == set(names) - set(used)
    for index, name in enumerate(names):
        if name not in used:
            continue
        option, model = problem.models[index].options[best.setup[index]], plan.models[name]
        assert (model.tp, model.compute_share, model.memory_share) == (
            option.tp,
            option.compute_share,
            option.memory_share,
        )
        assert tuple(gpu for gpus in model.replicas for gpu in gpus) == best.gpus[index]
        assert len(model.replicas) == option.replicas
    assert plan.promise.score == optimum.score
    assert plan.promise.bound == optimum.bound
    assert plan.promise.gap == optimum.gap
    assert plan.provenance == {"method": "exact"}


def test_engine_settings_are_those_of_the_tp(solved):
    problem, optimum = solved
    engines = {model.name: {tp: {"max_num_seqs": 10 * tp} for tp in (1, 2, 4)} for model in problem.models[:1]}
    plan = make_plan(problem, optimum, name="case", engines=engines)
    for name, model in plan.models.items():
        assert model.engine == ({"max_num_seqs": 10 * model.tp} if name == "m0" else None)


def test_promised_latencies_add_up_to_what_the_target_limits(solved, plan):
    problem, _ = solved
    routing, promised = plan.routing[0], plan.promise.loads[0]
    mean = sum(routing.fractions[name] * values["ttft_mean_s"] for name, values in promised.latency_s.items())
    assert mean == pytest.approx(promised.slos[0].value, abs=1e-6)
    assert mean <= 0.1 + 1e-9
    for index, model in enumerate(problem.models):
        if model.name in promised.latency_s:
            option = model.options[solved[1].best.setup[index]]
            rate = 50.0 * routing.fractions[model.name]
            assert promised.latency_s[model.name] == {"ttft_mean_s": option.curve.at(rate, "ttft_mean_s")}
            assert promised_latency_s(option, rate) == promised.latency_s[model.name]


def test_prices_give_the_fractions_the_score_and_the_outcome(solved, plan):
    table = solved[0].table.select(tuple(plan.models))
    routing, promised = plan.routing[0], plan.promise.loads[0]
    assert min(routing.prices.values()) == 0.0
    model = (table.predicted - list(routing.prices.values())).argmax(axis=1)
    shares = np.bincount(model, minlength=len(plan.models)) / table.prompts
    # Only prompts that are tied may differ.
    assert shares == pytest.approx(list(routing.fractions.values()), abs=3 / table.prompts)
    rows = range(table.prompts)
    assert table.predicted[rows, model].mean() == pytest.approx(promised.score, abs=3 / table.prompts)
    assert table.outcomes[rows, model].mean() == pytest.approx(promised.outcome, abs=6 / table.prompts)


def test_a_plan_comes_back_from_json_as_it_was(plan, tmp_path):
    (tmp_path / "plan.json").write_text(plan.to_json())
    assert read_plan(tmp_path / "plan.json") == plan
    assert read_plan(tmp_path / "plan.json").to_json() == plan.to_json()


def test_a_target_of_a_model_that_is_left_out_is_no_promise(solved):
    problem, optimum = solved
    setup = (LEFT_OUT, *optimum.best.setup[1:])
    own = SloTarget(metric="ttft", target_s=0.2, model="m0")
    outcomes = [replace(load.slos[0], slo=own) for load in optimum.best.routing.loads]
    loads = tuple(
        replace(load, slos=(*load.slos, outcome), fractions=(0.0, 0.5, 0.5))
        for load, outcome in zip(optimum.best.routing.loads, outcomes, strict=True)
    )
    best = replace(optimum.best, setup=setup, routing=replace(optimum.best.routing, loads=loads))
    plan = make_plan(problem, replace(optimum, best=best), name="case")
    assert plan.left_out == ("m0",)
    assert [slo.model for slo in plan.promise.loads[0].slos] == [None]


def test_without_a_proof_there_is_no_bound_and_without_a_solution_no_plan(solved):
    problem, optimum = solved
    counts = {"considered": 1, "pruned": 0, "solved": 1, "unplaceable": 0, "wall_s": 0.1}
    plan = make_plan(problem, Optimum(best=optimum.best, bound=np.inf, **counts), name="case")
    assert (plan.promise.bound, plan.promise.gap) == (None, None)
    with pytest.raises(InputError, match="no setup was found"):
        make_plan(problem, Optimum(best=None, bound=-1.0, **counts), name="case")


def test_each_load_has_its_routing_and_weight():
    loads = (LoadCase(rate_per_s=20.0, weight=0.25), LoadCase(rate_per_s=50.0, weight=0.75))
    problem = setups_problem(target_s=0.1, packing="compute", loads=loads)
    optimum = optimise(problem)
    plan = make_plan(problem, optimum, name="case")
    assert [(routing.rate_per_s, routing.weight) for routing in plan.routing] == [(20.0, 0.25), (50.0, 0.75)]
    scores = [promised.score for promised in plan.promise.loads]
    assert scores[0] > scores[1]
    assert 0.25 * scores[0] + 0.75 * scores[1] == pytest.approx(plan.promise.score)
    assert plan.promise.loads[0].outcome is None


BY_HAND = {
    "schema_version": 1,
    "name": "by hand",
    "gpus": {"count": 3},
    "models": {
        "a": {"tp": 2, "compute_share": 0.5, "memory_share": 0.4, "replicas": [[0, 1]]},
        "b": {
            "tp": 1,
            "compute_share": 0.5,
            "memory_share": 0.6,
            "replicas": [[1], [2]],
            "engine": {"max_num_seqs": 64},
        },
    },
    "routing": [{"rate_per_s": 5, "prices": {"a": 0.1, "b": 0}, "fractions": {"a": 0.25, "b": 0.75}}],
}


def changed(*keys, value):
    values = copy.deepcopy(BY_HAND)
    place = values
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return values


SLO = {"metric": "ttft", "target_s": 1, "statistic": "mean", "value": 0.5, "limit": 1, "beta": 0, "score_per_s": 0}


def promising(**changes):
    load = {"rate_per_s": 5, "score": 0.5, "latency_s": {}, "slos": []} | changes
    return {"score": 0.5, "bound": None, "gap": None, "loads": [load]}


def test_a_plan_for_more_gpus_than_anyone_has_is_read_at_once(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps(changed("gpus", "count", value=10**15)))
    assert read_plan(tmp_path / "plan.json").gpus.count == 10**15


def test_a_plan_can_be_written_by_hand(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps(BY_HAND))
    plan = read_plan(tmp_path / "plan.json")
    assert plan.promise is None
    assert plan.models["b"].engine == {"max_num_seqs": 64}
    assert plan.packing == "compute"
    # Packed by memory, compute shares may exceed a GPU: MPS shares are caps.
    crowded = changed("models", "a", "compute_share", value=0.9)
    assert Plan.model_validate({**crowded, "packing": "memory"}).models["a"].compute_share == 0.9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (changed("schema_version", value=2), "schema_version"),
        (changed("gpus", "count", value=2), "models.b is on GPU 2; allowed: 0 to 1"),
        (changed("models", value={}), "models"),
        (changed("models", "a", "tp", value=1), r"models.a: replica on GPUs \[0, 1\]; allowed: 1 GPUs"),
        (changed("models", "a", "replicas", value=[[0, 0]]), "each GPU once per model"),
        (changed("models", "b", "replicas", value=[[1], [1]]), "each GPU once per model"),
        (changed("models", "a", "replicas", value=[[0, -1]]), "models.a.replicas.0.1"),
        (changed("models", "a", "memory_share", value=0.5), "memory_share on GPU 1 sums to 1.1"),
        (changed("models", "a", "compute_share", value=0.6), "compute_share on GPU 1 sums to 1.1"),
        (changed("models", "a", "compute_share", value=60), "models.a.compute_share"),
        (changed("models", "a", "speed", value=1), "models.a.speed"),
        (changed("models", "b", "engine", value={"max_seqs": 4}), "models.b: unknown engine setting 'max_seqs'"),
        (changed("models", "b", "engine", value={"max_num_seqs": 0}), "models.b: engine.max_num_seqs is 0"),
        (changed("left_out", value=["a"]), "left_out names 'a'"),
        (changed("routing", value=[]), "routing"),
        (changed("routing", 0, "fractions", value={"a": 0.5, "b": 0.4}), "sum to 0.9; allowed: 1"),
        (changed("routing", 0, "fractions", value={"a": 1.0}), "routing.fractions is of"),
        (changed("routing", 0, "prices", value={"a": 1.0, "c": 0.0}), "routing.prices is of"),
        (changed("routing", 0, "weight", value=0.5), "weights of the routings sum to 0.5"),
        (changed("routing", 0, "policy", value="magic"), "routing.0.policy"),
        (
            changed("routing", 0, "rate_per_s", value=-1),
            "routing.0.rate_per_s is -1; allowed: greater than or equal to 0",
        ),
        (changed("routing", value=[BY_HAND["routing"][0] | {"weight": 0.5}] * 2), "each load once"),
        (
            changed("promise", value=promising(latency_s={"c": {}})),
            "promise.loads names model 'c'; allowed: .*'a', 'b'",
        ),
        (
            changed("promise", value=promising(latency_s={"a": {"ttft_p50_s": 1}})),
            "latency 'ttft_p50_s'; allowed: ttft",
        ),
        (changed("promise", value=promising(slos=[SLO | {"model": "c"}])), "promise.loads names model 'c'"),
        ({key: BY_HAND[key] for key in ("name", "gpus", "models")}, "routing is missing"),
    ],
)
def test_plans_that_are_refused(tmp_path, values, message):
    (tmp_path / "plan.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=message):
        read_plan(tmp_path / "plan.json")


def test_the_plan_on_the_page_is_one(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "optimizer.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "plan.json").write_text(example)
    assert set(read_plan(tmp_path / "plan.json").models) == {"small", "large"}
    (program,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    found = {}
    exec(program, found)
    assert found["plan"].name == "demo"
    assert found["optimum"].gap <= 1e-6


def test_files_that_are_no_plans(tmp_path):
    with pytest.raises(InputError, match="allowed: a JSON file"):
        read_plan(tmp_path / "none.json")
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(InputError, match="the plan: Invalid JSON"):
        read_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text(json.dumps(BY_HAND).replace("0.25", "NaN"))
    with pytest.raises(InputError, match=r"routing.0.fractions.a"):
        read_plan(tmp_path / "plan.json")
