"""`routerwise compare`: which policies, the figures of each, differences from the reference, files and mistakes."""

import csv
import json
import math

import numpy as np
import pytest
import yaml

from analysis.slo import Slo
from analysis.summary import summarise
from latency_models.errors import InputError
from scenarios.comparisons.compare import compare
from scenarios.comparisons.measure import METRICS, PolicyMeasure
from scenarios.comparisons.policies import chosen_policies
from scenarios.comparisons.table import print_comparison
from scenarios.replicated import PreparedScenario, replicating, simulate_replication
from scenarios.scenario_files import load_scenario

ENGINE = {"num_gpu_blocks": 400, "max_num_seqs": 4}
VALUES = {
    "seed": 4,
    "models": {
        "small": {"latency": {"kind": "linear", "base_s": 0.01}, "engine": ENGINE},
        "large": {"latency": {"kind": "linear", "base_s": 0.03}, "engine": ENGINE, "tp": 2},
    },
    "routing": {"kind": "price", "prices": {"large": 0.2}, "fractions": {"small": 0.7, "large": 0.3}},
    "prompts": {"table": {"path": "prompts.csv"}, "lengths": "table"},
    "workload": {
        "kind": "synthetic",
        "arrivals": {"kind": "poisson", "rate_per_s": 20},
        "lengths": {"prompt": {"kind": "constant", "tokens": 50}, "output": {"kind": "constant", "tokens": 1}},
        "duration_s": 20,
    },
    "slo": "ttft:100",
    "run": {"warmup": 2},
}


@pytest.fixture
def path(tmp_path):
    """A scenario of two models, with 40 prompts."""
    rng = np.random.default_rng(8)
    with (tmp_path / "prompts.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        names = ("small", "large")
        writer.writerow(
            ["prompt_id", *(f"{what}.{m}" for what in ("predicted", "outcome", "output_tokens") for m in names)]
        )
        for number in range(40):
            predicted = [rng.uniform(0.1, 0.7), rng.uniform(0.4, 0.9)]
            outcomes = [int(rng.random() < score) for score in predicted]
            writer.writerow([f"q{number}", *predicted, *outcomes, *rng.integers(2, 12, 2)])
    target = tmp_path / "two.yaml"
    target.write_text(yaml.safe_dump(VALUES, sort_keys=False))
    return target


@pytest.fixture
def scenario(path):
    return load_scenario(str(path), [])


def compared(scenario, *single, names=None, **options):
    with replicating(1) as replicator:
        return compare(chosen_policies(scenario, names, single), replicator, **{"replications": 3, **options})


def mean(found, label, metric):
    policy = next(policy for policy in found.policies if policy.label == label)
    return policy.intervals[metric].estimate


# ---------------------------------------------------------------------- which policies


def test_policies_by_name_take_over_what_the_scenario_says_of_them(scenario):
    policies = chosen_policies(scenario, "price, fractions,random", ())
    assert [policy.label for policy in policies] == ["price", "fractions", "random"]
    assert policies[0].routing == scenario.routing
    assert policies[1].routing.model_extra == {"fractions": {"small": 0.7, "large": 0.3}}
    assert policies[2].scenario.routing.kind == "random"


def test_policies_with_options_and_labels(scenario):
    texts = ("few: {kind: threshold, budget: 0.1}", "{many: {kind: threshold, budget: 0.9}}", "price: {prices: {}}")
    few, many, price = chosen_policies(scenario, None, texts)
    assert (few.label, few.routing.kind, few.routing.model_extra) == ("few", "threshold", {"budget": 0.1})
    assert many.routing.model_extra == {"budget": 0.9}
    assert price.routing.model_extra == {"prices": {}}


def test_policies_from_a_file(scenario, tmp_path):
    file = tmp_path / "policies.yaml"
    file.write_text("policies:\n  price:\n  half: {kind: threshold, budget: 0.5}\n")
    assert [policy.label for policy in chosen_policies(scenario, str(file), ("random",))] == ["price", "half", "random"]


@pytest.mark.parametrize(
    ("names", "single", "message"),
    [
        (None, (), "policies named: 0; allowed: at least two"),
        ("price", (), "policies named: 1; allowed: at least two"),
        ("price,price", (), "policies is 'price'; allowed: each label once"),
        ("price,treshold", (), "policy treshold: unknown model router 'treshold'; did you mean 'threshold'"),
        ("price", ("threshold: {budgt: 1}",), "policy threshold: unknown option of the threshold router 'budgt'"),
        ("price", ("threshold: {budget: 2}",), "policy threshold: routing.budget is 2"),
        ("price", ("a: {kind: [1]}",), "policy a: kind is .*; allowed: the name of a model router"),
        ("price", ("threshold: 0.3",), "policy threshold is 0.3; allowed: a mapping of options"),
        ("price", ("[a, b]",), "--policy is .*; allowed: a name, or"),
        ("price", ("{a: ",), "is not valid YAML"),
        ("price,", (), "unknown model router ''"),
        ("missing.yaml", (), "cannot read policies"),
    ],
)
def test_wrong_policies_are_refused(scenario, names, single, message):
    with pytest.raises(InputError, match=message):
        chosen_policies(scenario, names, single)


def test_a_file_with_other_keys_is_refused(scenario, tmp_path):
    (tmp_path / "wrong.yaml").write_text("price: {}\nrandom: {}\n")
    with pytest.raises(InputError, match="allowed: one key, policies"):
        chosen_policies(scenario, str(tmp_path / "wrong.yaml"), ())


def test_policies_that_need_scores_where_there_are_none(path):
    values = {key: value for key, value in VALUES.items() if key != "prompts"} | {"routing": "round-robin"}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    bare = load_scenario(str(path), [])
    with pytest.raises(
        InputError, match="policy price: the price router goes by predicted scores, and the workload has"
    ):
        chosen_policies(bare, "round-robin,price", ())
    assert len(chosen_policies(bare, "round-robin,random", ())) == 2


# ---------------------------------------------------------------------- figures


def test_figures_agree_with_the_summary_of_a_run(scenario):
    (cascade, _) = chosen_policies(scenario, None, ("cascade: {informed: 1}", "random"))
    result = simulate_replication(PreparedScenario.of(cascade.scenario), 0)
    figures = PolicyMeasure(gpus=(1.0, 2.0))(cascade.scenario, result)
    overall = summarise(result, slo=Slo(ttft_s=0.1), warmup_s=2.0)["overall"]
    values = figures.values
    assert values["predicted"] == pytest.approx(overall["quality"]["predicted"])
    assert values["achieved"] == pytest.approx(overall["quality"]["achieved"])
    assert values["attainment"] == pytest.approx(overall["slo_attainment"])
    assert values["ttft_mean_s"] == pytest.approx(overall["ttft_s"]["mean"])
    assert values["ttft_p99_s"] == pytest.approx(overall["ttft_s"]["p99"])
    assert values["answered"] == 1.0
    assert 1 < values["stages"] < 2
    assert values["gpu_s_per_1000"] == pytest.approx(
        1000 * (result.busy_s[0] + 2 * result.busy_s[1]) / len(result.requests)
    )
    assert sum(figures.fractions) == pytest.approx(1.0)
    assert set(values) == {metric.name for metric in METRICS}


def test_each_policy_is_best_at_what_it_is_for(scenario):
    found = compared(
        scenario,
        "greedy: {kind: price, prices: {}}",
        "oracle",
        "random",
        "cascade: {informed: 1, threshold: 1}",
        "small: {kind: best-single, model: small}",
        names="price",
    )
    labels = [policy.label for policy in found.policies]
    assert max(labels, key=lambda label: mean(found, label, "predicted")) == "greedy"
    # Asking until somebody is right is as good as knowing who will be.
    assert mean(found, "oracle", "achieved") == pytest.approx(mean(found, "cascade", "achieved"))
    assert mean(found, "oracle", "achieved") > mean(found, "random", "achieved") + 0.1
    assert min(labels, key=lambda label: mean(found, label, "gpu_s_per_1000")) == "small"
    assert found.policies[labels.index("small")].fractions == (1.0, 0.0)


def test_differences_are_paired_with_the_reference(scenario):
    found = compared(scenario, names="price,random,fractions", reference="random")
    by_label = {policy.label: policy for policy in found.policies}
    assert by_label["random"].differences == {}
    pair = by_label["price"].differences["predicted"]
    apart = [
        own.values["predicted"] - other.values["predicted"]
        for own, other in zip(by_label["price"].runs, by_label["random"].runs, strict=True)
    ]
    assert pair.difference.interval.estimate == pytest.approx(np.mean(apart))
    assert pair.significant


def test_more_replications_only_add_to_the_first(scenario):
    few, more = compared(scenario, names="price,random", replications=2), compared(scenario, names="price,random")
    for one, other in zip(few.policies, more.policies, strict=True):
        assert [run.values for run in one.runs] == [run.values for run in other.runs][:2]


def test_a_metric_that_some_policy_lacks_is_left_out(path):
    path.write_text(yaml.safe_dump({key: value for key, value in VALUES.items() if key != "slo"}, sort_keys=False))
    found = compared(load_scenario(str(path), []), names="price,random")
    assert not {"attainment", "goodput_per_s"} & {metric.name for metric in found.metrics}
    assert math.isnan(found.policies[0].runs[0].values["attainment"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "pric"}, "unknown reference 'pric'; did you mean 'price'"),
        ({"replications": 1}, "replications is 1"),
        ({"window_s": 5.0}, "window is 5.0; allowed: none with a workload of kind synthetic"),
    ],
)
def test_wrong_settings_are_refused(scenario, options, message):
    with pytest.raises(InputError, match=message):
        compared(scenario, names="price,random", **options)


def test_a_warm_up_longer_than_the_workload_is_refused(path):
    long = load_scenario(str(path), ["run.warmup=500"])
    with pytest.raises(InputError, match=r"warm-up .* is 500.0; allowed: less than the"):
        compared(long, names="price,random")


# ---------------------------------------------------------------------- the command


QUICK = ("--replications", 2, "--jobs", 1)


def test_the_command_prints_tables_and_writes_files(routerwise, path, tmp_path):
    out = tmp_path / "found"
    status, text, _ = routerwise("compare", path, "--policies", "price,random,oracle", *QUICK, "--out", out)
    assert status == 0
    assert "two: 3 policies, 2 replications, the same requests for all, SLO ttft:100" in text
    assert "Difference from price" in text
    assert "models asked" not in text
    names = sorted(file.name for file in out.iterdir())
    assert names == [
        "comparison.csv", "comparison.json", "manifest.json", "quality-attainment.png", "replications.csv",
    ]  # fmt: skip
    values = json.loads((out / "comparison.json").read_text())
    assert list(values["policies"]) == ["price", "random", "oracle"]
    assert values["policies"]["price"]["options"]["prices"] == {"large": 0.2}
    with (out / "comparison.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * len(values["metrics"])
    own = next(row for row in rows if (row["policy"], row["metric"]) == ("random", "achieved"))
    assert float(own["mean"]) == values["policies"]["random"]["figures"]["achieved"]["mean"]
    assert float(own["difference"]) == values["policies"]["random"]["differences"]["achieved"]["mean"]
    with (out / "replications.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 6


def test_the_command_prints_json(routerwise, path):
    arguments = ("compare", path, "--policies", "random", "--policy", "cascade: {informed: 0}", *QUICK, "--json")
    status, text, _ = routerwise(*arguments)
    assert status == 0
    values = json.loads(text)
    assert values["policies"]["cascade"]["options"] == {"informed": 0}
    assert values["policies"]["cascade"]["figures"]["stages"]["mean"] > 1
    assert routerwise(*arguments)[1] == text


def test_the_limits_of_the_command_line_count(routerwise, path):
    status, text, _ = routerwise("compare", path, "--policies", "price,random", *QUICK, "--slo", "ttft:1", "--json")
    assert status == 0
    assert json.loads(text)["policies"]["price"]["figures"]["attainment"]["mean"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policies", "price,randm"), "unknown model router 'randm'; did you mean 'random'"),
        (("--policies", "price"), "at least two"),
        (("--policies", "price,random", "--reference", "oracle"), "unknown reference 'oracle'"),
        (("--policies", "price,random", "--slo", "ttft:0"), "slo"),
        (("--policies", "price,random", "--plan", "missing.json"), "missing.json"),
        (("--policies", "price,random", "--rate", "50"), "--rate names one of a plan's loads; give --plan too"),
        (("--policies", "price,random", "--set", "router.staleness_s=1"), "router.staleness_s has no effect on price"),
    ],
)
def test_mistakes_are_one_line_and_status_2(routerwise, path, arguments, message):
    status, text, err = routerwise("compare", path, *QUICK, *arguments)
    assert status == 2
    assert text == ""
    assert message in err
    assert err.count("\n") == 1


def test_an_existing_folder_is_not_replaced_unasked(routerwise, path, tmp_path):
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "mine.txt").write_text("mine")
    arguments = ("compare", path, "--policies", "price,random", *QUICK, "--out", tmp_path / "found")
    assert routerwise(*arguments)[0] == 2
    assert routerwise(*arguments, "--overwrite")[0] == 2
    assert [file.name for file in (tmp_path / "found").iterdir()] == ["mine.txt"]


def test_the_table_is_silent_on_what_says_nothing(scenario, capsys):
    print_comparison(compared(scenario, names="price,random"))
    text = capsys.readouterr().out
    assert "answered" not in text
    assert "GPU s/1,000" in text
