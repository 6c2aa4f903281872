"""What results say in words: verdicts, reasons and caveats."""

import json
import shutil
from pathlib import Path

import pytest

from analysis.estimates import Estimate
from analysis.findings.bottlenecks import PART_WORDS, run_reasons
from analysis.findings.deployments import run_verdict
from analysis.findings.finding import judged, overlap, worst
from analysis.findings.studies import comparison_verdict, frontier_verdict, plan_verdict, stress_verdict
from analysis.findings.validations import validation_verdict
from analysis.findings.verdicts import verdicts
from analysis.stored.results import Results, StoredDocument
from analysis.stored.run import StoredRun
from analysis.time_parts import TTFT_PARTS
from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import load_scenario

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


def estimate(value, low=None, high=None):
    return Estimate(value=value, low=low, high=high)


def plain(text):
    return text.replace(NBSP, " ").replace(MINUS, "-")


def test_standings():
    assert judged(estimate(0.1, 0.09, 0.11), 0.15) == "holds"
    assert judged(estimate(0.2, 0.16, 0.24), 0.15) == "broken"
    assert judged(estimate(0.14, 0.12, 0.16), 0.15) == "undecided"
    assert judged(estimate(0.1), 0.15) == "measured", "one replication decides nothing"
    assert worst(["holds", "undecided", "broken"]) == "broken"
    assert overlap(estimate(1, 0, 2), estimate(3, 2, 4)) is True
    assert overlap(estimate(1, 0, 2), estimate(3, 2.1, 4)) is False
    assert overlap(estimate(1), estimate(3, 2, 4)) is None


# ---------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("findings")
    short = ["workload.duration_s=40", "slo='ttft:150 tpot:60'", "run.warmup=5"]
    run_scenario(load_scenario("plan-demo", short), RunOptions(out=place / "one"))
    run_scenario(load_scenario("plan-demo", [*short, "run.replications=3"]), RunOptions(out=place / "three"))
    return place


@pytest.fixture
def changed(folder, tmp_path):
    """A copy of a run whose stored files are changed by functions of their contents."""

    def change(name="three", **changes):
        shutil.copytree(folder / name, tmp_path / "run", dirs_exist_ok=True)
        for file, edit in changes.items():
            path = tmp_path / "run" / f"{file}.json"
            content = json.loads(path.read_text()) if path.exists() else {}
            edit(content)
            path.write_text(json.dumps(content))
        return StoredRun(tmp_path / "run")

    return change


def promised(low, high, *, limit=0.15, unit="s"):
    figure = {
        "name": "all models: TTFT mean",
        "unit": unit,
        "promised": 0.11,
        "simulated": (low + high) / 2 if high else low,
    }
    figure |= {"low": low if high else None, "high": high, "limit": limit}
    return lambda content: content.update(figures=[figure])


def test_a_run_without_a_plan_says_what_share_kept_its_limits(folder):
    run = StoredRun(folder / "three")
    verdict = run_verdict(run)
    attainment = run.estimate("overall", "slo_attainment")
    assert verdict.standing == "measured", "no share was asked for, so none can hold"
    assert plain(verdict.headline).startswith(f"{100 * attainment.value:.1f} % [")
    assert "TTFT 150 ms and TPOT 60 ms" in plain(verdict.headline)
    assert verdict.source.startswith("3 replications")
    assert not any("One replication" in caveat for caveat in verdict.caveats)
    labels = [figure.label for figure in verdict.figures]
    assert "requests that kept their limits" in labels
    assert "score, achieved" in labels


def test_one_replication_claims_nothing_beyond_itself(folder):
    verdict = run_verdict(StoredRun(folder / "one"))
    assert "[" not in verdict.headline
    assert any("no confidence interval" in caveat for caveat in verdict.caveats)


@pytest.mark.parametrize(
    ("low", "high", "standing", "words"),
    [
        (0.10, 0.13, "holds", "The plan keeps its SLO here: TTFT mean of all models is 115 ms [100, 130]"),
        (0.16, 0.20, "broken", "The plan breaks its SLO here"),
        (0.13, 0.17, "undecided", "does not decide"),
        (0.20, None, "measured", "In this one replication the plan's SLO was missed"),
        (0.10, None, "measured", "In this one replication the plan's SLO was kept"),
    ],
)
def test_a_run_of_a_plan_is_held_against_its_promise(changed, low, high, standing, words):
    verdict = run_verdict(changed(promise=promised(low, high)))
    assert verdict.standing == standing
    assert words in plain(verdict.headline)
    assert "limit of 150 ms" in plain(verdict.headline)
    assert verdict.figures[0].label == "TTFT mean of all models"


def test_fast_answers_to_few_show_nothing(changed):
    def reject(summary):
        requests = summary["overall"]["requests"]
        requests["finished"] = {"mean": 0.9 * requests["total"]["mean"], "low": None, "high": None}
        requests["rejected"] = {"mean": 0.1 * requests["total"]["mean"], "low": None, "high": None}

    verdict = run_verdict(changed(summary=reject, promise=promised(0.10, 0.13)))
    assert verdict.standing == "undecided"
    assert any("10 % of the requests were not answered" in plain(caveat) for caveat in verdict.caveats)
    assert any("rejected" in reason for reason in verdict.reasons)


def test_a_late_share_is_held_against_its_limit(changed):
    verdict = run_verdict(changed(promise=promised(0.06, 0.08, limit=0.05, unit="share")))
    assert verdict.standing == "broken"
    assert "7.0 % [6.0, 8.0], with a limit of 5 %" in plain(verdict.headline)


def test_every_request_in_time_needs_no_reason(changed):
    def perfect(summary):
        summary["overall"]["slo_attainment"] = {"mean": 1.0, "low": 1.0, "high": 1.0}

    verdict = run_verdict(changed(summary=perfect))
    assert verdict.headline.startswith("Every request kept its limits")
    assert verdict.reasons == ()


def test_nothing_arrived(changed):
    def empty(summary):
        summary["overall"]["requests"] = dict.fromkeys(summary["overall"]["requests"], 0)
        summary["overall"]["slo_attainment"] = None

    assert "nothing to judge" in run_verdict(changed("one", summary=empty)).headline


def test_without_an_slo_none_is_kept(changed):
    verdict = run_verdict(changed("one", summary=lambda summary: summary.update(slo=None)))
    assert verdict.headline.startswith("No SLO was set")
    assert {"TTFT P95", "TPOT P95"} <= {figure.label for figure in verdict.figures}


def test_neighbours_without_contention_are_a_caveat(changed):
    def share(cluster):
        for replica in cluster["replicas"]:
            replica["gpus"] = [0]

    texts = run_verdict(changed(cluster=share)).caveats
    assert any("share a GPU (GPU 0) do not slow each other down" in text for text in texts)


# ---------------------------------------------------------------------- reasons


def test_reasons_name_limits_models_and_the_longest_queue(folder):
    run = StoredRun(folder / "three")
    reasons = [plain(reason) for reason in run_reasons(run)]
    late = (run.requests["ttft_s"] > 0.15).groupby(run.requests["replication"]).mean().mean()
    assert any(f"{100 * late:.1f} %" in reason and "TTFT limit of 150 ms" in reason for reason in reasons)
    shares = {name: run.number("by_model", name, "slo_attainment") for name in run.models}
    weakest = min(shares, key=shares.get)
    assert any(reason.startswith(f"By model, limits are kept least by {weakest}") for reason in reasons)
    waiting = {name: run.number("replicas", name, "mean_waiting") for name in run.summary["replicas"]}
    assert any(f"at {max(waiting, key=waiting.get)}:" in reason for reason in reasons)


def test_what_of_a_replica_is_exhausted(changed):
    def fill(summary):
        for load in summary["replicas"].values():
            load |= {
                "mean_waiting": 9.0,
                "mean_running": 255.0,
                "mean_kv_used_frac": 0.97,
                "utilisation": 1.0,
                "down_s": 12.0,
            }
        for group in summary["by_model"].values():
            group["preempted_requests"] = group["requests"]["total"]["mean"] / 4

    reasons = " ".join(map(plain, run_reasons(changed(summary=fill))))
    assert "its batch is full most of the time" in reasons
    assert "its KV memory is full most of the time" in reasons
    assert "25 % of the requests" in reasons
    assert "was down for 12 s" in reasons


def test_every_part_of_a_ttft_has_words():
    assert set(PART_WORDS) == set(TTFT_PARTS)


def test_the_largest_part_of_the_wait(changed):
    def parts(summary):
        mean = {
            "waiting": {"mean": 0.09, "low": 0.08, "high": 0.10},
            "prefill": {"mean": 0.03, "low": 0.02, "high": 0.04},
        }
        summary["overall"]["ttft_parts_s"] = {"mean": mean, "slowest": mean}

    reasons = " ".join(map(plain, run_reasons(changed(summary=parts))))
    assert "TTFT of all requests is waiting to be scheduled: 90 ms [80, 100] of 120 ms on average, 75 %" in reasons


# ---------------------------------------------------------------------- documents


def document(content, name="demo"):
    return StoredDocument(path=Path(f"{name}.json"), name=name, content=content)


def interval(value, low, high):
    return {"estimate": value, "low": low, "high": high}


def mean(value, low, high):
    return {"mean": value, "low": low, "high": high}


def validation(outcome="broken", *, effect=(0.12, 0.08, 0.16), gap=True):
    slo = {
        "slo": "mean TTFT <= 150 ms", "metric": "ttft", "statistic": "mean", "target_s": 0.15, "model": None,
        "outcome": outcome, "statistic_s": interval(0.289, 0.257, 0.321), "missed": interval(0.4, 0.3, 0.5),
        "unanswered": interval(0.002, 0.001, 0.003), "tolerated_unanswered": 0.01,
    }  # fmt: skip
    score = {"name": "score, achieved", "unit": "score", "promised": 0.4395, "simulated": 0.439, "low": 0.4364}
    groups = {
        "small": {"ttft_s": {"mean": mean(0.1, 0.09, 0.11)}},
        "large": {"ttft_s": {"mean": mean(0.3, 0.28, 0.32)}},
    }
    content = {
        "plan": "demo", "scenario": "bursts", "outcome": outcome, "replications": 10, "requests": 151333,
        "confidence": 0.95, "further_replications": None, "slos": [slo],
        "promise": [{**score, "high": 0.4416, "limit": None}], "simulated": {"by_model": groups},
    }  # fmt: skip
    if gap:
        causes = {"bursts": {"effect": interval(*effect)}, "load": {"effect": interval(-0.01, -0.02, 0.0)}}
        gap = {
            "name": "mean TTFT", "unit": "s", "promised": 0.15, "simulated": interval(0.283, 0.25, 0.31),
            "left_over": interval(-0.006, -0.007, -0.004), "effects": {"causes": causes},
        }  # fmt: skip
        content["gap"] = {"gaps": [gap], "explanations": {"bursts": "Poisson arrivals"}}
    return content


def test_a_broken_plan_and_why():
    verdict = validation_verdict(document(validation()))
    assert verdict.standing == "broken"
    assert plain(verdict.headline) == (
        "The plan does not hold: mean TTFT is 289 ms [257, 321], with a limit of 150 ms."
    )
    assert plain(verdict.source) == "validated with 10 replications, 151,333 requests, 95 % confidence"
    reasons = " ".join(map(plain, verdict.reasons))
    assert "longest at large, 300 ms [280, 320], and shortest at small, 100 ms [90, 110]." in reasons
    assert "The largest cause is bursts: +120 ms [+80, +160] against runs without it (Poisson arrivals)." in reasons
    assert "never answered" in reasons


def test_a_cause_that_may_be_nothing_is_not_called_one():
    reasons = " ".join(validation_verdict(document(validation(effect=(0.12, -0.01, 0.25)))).reasons)
    assert "The largest cause" not in reasons
    assert "the interval contains 0" in reasons


def test_without_a_gap_report_it_is_said_how_to_get_one():
    reasons = validation_verdict(document(validation(gap=False))).reasons
    assert any("--gap" in reason for reason in reasons)


def test_a_plan_that_holds_needs_no_reasons():
    verdict = validation_verdict(document(validation("holds")))
    assert verdict.headline.startswith("The plan holds")
    assert verdict.reasons == ()


def test_several_slos_are_counted_worst_first():
    content = validation("undecided")
    first = content["slos"][0]
    content["slos"] = [{**first, "outcome": "holds", "slo": "p95 TTFT <= 400 ms"}, first, first]
    verdict = validation_verdict(document(content))
    assert "2 of 3 SLOs are undecided" in verdict.headline
    assert [figure.standing for figure in verdict.figures[:3]] == ["undecided", "undecided", "holds"]


def test_an_slo_on_requests_that_were_never_answered():
    content = validation()
    content["slos"][0]["statistic_s"] = None
    verdict = validation_verdict(document(content))
    assert "never answered" in verdict.headline
    assert verdict.figures[0].value == "never"


def plan(proof=None):
    slo = {"metric": "ttft", "statistic": "mean", "model": None, "target_s": 0.15, "value": 0.11, "limit": 0.15}
    late = {"metric": "tpot", "statistic": "p95", "model": "a", "target_s": 0.06, "value": 0.04, "limit": 0.05}
    promise = {"score": 0.44, "bound": 0.45, "gap": 0.01, "loads": [{"rate_per_s": 50.0, "slos": [slo, late]}]}
    return {"promise": promise, "provenance": {"proof": proof} if proof else {}}


def test_a_promise_is_not_sold_as_a_proof():
    verdict = plan_verdict(document(plan()))
    assert verdict.standing == "promised"
    assert "2 SLOs at 50 requests/s" in verdict.headline
    assert [plain(figure.value) for figure in verdict.figures] == ["110 ms", "4 %", "0.4400"]
    assert any("no test" in caveat for caveat in verdict.caveats)
    proven = plan_verdict(document(plan(proof="seed 1: holds")))
    assert proven.reasons == ("Proof: seed 1: holds.",)
    assert proven.caveats == ()
    assert "promises nothing" in plan_verdict(document({})).headline


def test_stress_frontier_and_comparison():
    axis = {"axis": "load", "target": None, "verdict": "holds to 1.2x the load", "breaks_first": {"slo": "x"}}
    never = {"axis": "gpu-loss", "target": "0", "verdict": "holds to 60 s", "breaks_first": None}
    stress = {
        "plan": "demo", "scenario": "s", "confidence": 0.95, "baseline": {"outcome": "holds"}, "axes": [axis, never],
        "left_out": {"drift": "there are no prompts"},
    }  # fmt: skip
    found = stress_verdict(document(stress))
    assert found.standing == "holds"
    assert "2 things that got worse, 1 broke it" in found.headline
    assert found.reasons[:2] == ("load: holds to 1.2x the load.", "gpu-loss:0: holds to 60 s.")
    assert "nothing that was tried" in stress_verdict(document({**stress, "axes": [never]})).headline

    def difference(low, high, significant=True):
        return {"attainment": {**mean((low + high) / 2, low, high), "significant": significant}}

    policies = {
        "price": {"differences": {}},
        "better": {"differences": difference(0.01, 0.05)},
        "touching": {"differences": difference(-0.001, 0.05)},
        "same": {"differences": difference(0.01, 0.02, significant=False)},
    }
    metrics = [{"name": "attainment", "title": "SLO attainment", "unit": "share"}]
    comparison = {"scenario": "s", "replications": 5, "confidence": 0.95, "reference": "price"}
    found = comparison_verdict(document({**comparison, "policies": policies, "metrics": metrics}))
    better, *others = map(plain, found.reasons)
    assert better == "better against price: SLO attainment +3.0 points [+1.0, +5.0]."
    assert all("was not told from price" in reason for reason in others)

    points = [
        {"sweep": "target", "target_ms": "100.0", "rate_per_s": "50", "feasible": "True", "score": "0.4"},
        {"sweep": "target", "target_ms": "45.0", "rate_per_s": "50", "feasible": "False", "score": ""},
        {"sweep": "target", "target_ms": "300.0", "rate_per_s": "50", "feasible": "True", "score": "0.47"},
    ]
    found = frontier_verdict(document({"points": points, "manifest": {}}))
    assert found.reasons == (
        "Over SLO targets, the best score goes from 0.4000 at 100 ms to 0.4700 at 300 ms.",
        "No plan keeps the SLOs at 45 ms.",
    )


def test_a_plan_that_a_run_deploys_speaks_through_the_run(changed):
    content = plan()
    run = changed(plan=lambda stored: stored.update(content, name="demo"))
    same = document({**content, "name": "demo"})
    other = document(plan(proof="other"))
    found = verdicts(Results(runs=(run,), plans=(same, other), validations=(document(validation()),)))
    assert [verdict.standing for verdict in found] == ["broken", "measured", "promised"]
    assert found[1].subject == "Run plan-demo of plan demo"
