"""Every scenario that comes with the package runs, keeps the invariants, and shows what its description says."""

import csv
import hashlib
import json
import os
from functools import cache
from pathlib import Path

import pytest
import yaml
from invariants import check_all

from analysis.slo import Slo
from analysis.summary import summarise
from latency_models.errors import InputError
from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import LIBRARY, dump_scenario, library_description, library_names, load_scenario
from scenarios.schema import Scenario
from scenarios.workloads.build import build_traffic, inspect_workload
from sim.cluster import simulate
from sim.random_streams import seed_sequence
from sim.workload import RequestChunk, RequestSpec

FIRST_STEPS = ("workload.requests=60", "run.warmup=0")
SPIKE = "workload.arrivals.windows=[{start_s: 5, end_s: 25, extra_rate_per_s: 9}]"
FEW = "workload.transforms=[{kind: cap, requests: 120, prompt_tokens: 6000}]"
SHORT = {
    "batch-service": FIRST_STEPS,
    "chat-steady": ("workload.duration_s=30", "run.warmup=0"),
    "co-tenant": ("workload.duration_s=20", "speed_changes.0.at_s=5.005", "speed_changes.1.at_s=15"),
    "code-burst": ("workload.duration_s=90",),
    "demo": ("workload.duration_s=150",),
    "kv-pressure": ("workload.duration_s=100", "models.llama-7b.replicas.0.memory_share=0.36"),
    "long-prompts": ("workload.clients.0.duration_s=40", "workload.clients.1.duration_s=40"),
    "md1": FIRST_STEPS,
    "mg-infinity": FIRST_STEPS,
    "mg1": FIRST_STEPS,
    "mm1": FIRST_STEPS,
    "mmc": FIRST_STEPS,
    "mps-pair": ("workload.duration_s=30", "run.warmup=0"),
    "older-engine": ("workload.duration_s=30", "run.warmup=0"),
    "overload-drain": (SPIKE, "workload.duration_s=40"),
    "overload-drain-limits": (SPIKE, "workload.duration_s=40", "workload.deadline_s=20.02"),
    "plan-demo": ("workload.duration_s=20", "run.warmup=0"),
    "plan-demo-bursts": ("workload.duration_s=20", "run.warmup=0"),
    "processor-sharing": FIRST_STEPS,
    "replica-crash": ("workload.duration_s=30", "faults.crashes.0.at_s=10.005", "faults.load_s=5"),
    "shared-prefix-chat": ("workload.duration_s=60",),
    "azure-code": (FEW,),
    "azure-conversation": (FEW,),
    "mooncake-conversation": (FEW,),
}
"""Overrides that keep what is special about a scenario and make it quick."""

NEEDS_DATA = ("azure-code", "azure-conversation", "mooncake-conversation")


@pytest.fixture(params=library_names())
def name(request):
    if request.param in NEEDS_DATA:
        request.getfixturevalue("data_root")
    return request.param


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run directories of shortened scenarios, each made once."""

    @cache
    def run(name: str, *overrides: str) -> Path:
        out = tmp_path_factory.mktemp("runs") / "run"
        run_scenario(load_scenario(name, [*SHORT[name], *overrides]), RunOptions(out=out))
        return out

    return run


def test_every_scenario_has_a_short_form():
    assert sorted(SHORT) == library_names()


def test_every_scenario_says_what_it_shows(name):
    text = library_description(name)
    assert 60 < len(text) < 400
    assert text.endswith(".")
    # A description is not inherited: the file that extends another shows something else.
    own = yaml.safe_load((LIBRARY / f"{name}.yaml").read_text(encoding="utf-8"))
    assert own["name"] == name
    assert "description" in own
    assert ("ROUTERWISE_DATA" in text) == (name in NEEDS_DATA)


def test_scenarios_on_traces_say_which_variable_they_need(monkeypatch):
    monkeypatch.delenv("ROUTERWISE_DATA", raising=False)
    for name in NEEDS_DATA:
        with pytest.raises(InputError, match="environment variable ROUTERWISE_DATA, which is not set"):
            load_scenario(name)


def test_it_loads_and_describes_a_cluster(name):
    scenario = load_scenario(name)
    cluster = scenario.cluster()
    assert scenario.name == name
    assert [model.name for model in cluster.models] == list(scenario.models)


def test_macro_and_reference_agree_to_the_byte(name, run):
    macro = (run(name) / "requests.csv").read_bytes()
    reference = (run(name, "run.engine_mode=reference") / "requests.csv").read_bytes()
    assert macro.count(b"\n") > 30
    assert macro == reference


def test_the_same_scenario_gives_the_same_bytes_again(name, run, tmp_path):
    first = run(name)
    again = tmp_path / "again"
    run_scenario(load_scenario(name, SHORT[name]), RunOptions(out=again))
    for file in ("requests.csv", "timeseries.csv", "summary.json", "scenario.yaml"):
        assert (first / file).read_bytes() == (again / file).read_bytes(), file


def test_another_seed_gives_other_requests(name, run):
    if name in NEEDS_DATA and name != "mooncake-conversation":
        pytest.skip("an uncut trace without generated parts is the same for every seed")
    assert (run(name) / "requests.csv").read_bytes() != (run(name, "seed=2") / "requests.csv").read_bytes()


def test_the_run_directory_is_complete(name, run):
    out = run(name)
    names = {"cluster.json", "manifest.json", "requests.csv", "scenario.yaml", "summary.json", "timeseries.csv"}
    assert {path.name for path in out.iterdir()} == names | ({"outages.csv"} if name == "replica-crash" else set())
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest) == {
        "schema_version", "command", "scenario", "scenario_sha256", "inputs_sha256", "seed", "replications", "versions",
        "started", "wall_s", "events", "warmup_s",
    }  # fmt: skip
    assert (manifest["scenario"], manifest["seed"], manifest["replications"]) == (name, 1, 1)
    assert len(manifest["inputs_sha256"]) == (1 if name in NEEDS_DATA else 0)
    assert manifest["events"] > 0
    with (out / "requests.csv").open(newline="") as stream:
        everyone = list(csv.DictReader(stream))
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    rows = [row for row in everyone if float(row["arrival_s"]) >= summary["warmup_s"] - 1e-9]
    assert len(rows) > len(everyone) / 2
    assert summary["overall"]["requests"]["total"] == len(rows)
    for status in ("finished", "rejected", "timed_out"):
        assert summary["overall"]["requests"][status] == sum(row["status"] == status for row in rows)


def test_the_resolved_scenario_is_the_same_scenario(name, run):
    out = run(name)
    text = (out / "scenario.yaml").read_text(encoding="utf-8")
    reloaded = load_scenario(str(out / "scenario.yaml"))
    assert reloaded == load_scenario(name, SHORT[name])
    assert dump_scenario(reloaded) == text
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["scenario_sha256"] == hashlib.sha256(text.encode()).hexdigest()


class Listening:
    """Traffic that remembers what arrived."""

    def __init__(self, traffic):
        self.traffic = traffic
        self.arrived: list[RequestSpec] = []

    def chunks(self):
        for chunk in self.traffic.chunks():
            specs = list(chunk.specs())
            self.arrived += specs
            yield RequestChunk(*map(list, zip(*specs, strict=True)))

    def follow_ups(self, request_id, ended_s):
        specs = list(self.traffic.follow_ups(request_id, ended_s))
        self.arrived += specs
        return specs


def simulated(name, *overrides):
    scenario = load_scenario(name, overrides)
    traffic = Listening(build_traffic(scenario.workload, seed_sequence(scenario.seed, 0, "workload"), Path()))
    run = scenario.run_spec(0, shared_content=inspect_workload(scenario.workload).shares_content)
    return scenario, traffic, simulate(scenario.cluster(), traffic, run)


def test_the_invariants_hold(name):
    scenario, traffic, result = simulated(name, *SHORT[name])
    arrived = sorted(traffic.arrived, key=lambda spec: spec.arrival_s)
    check_all(result, scenario.cluster(), arrived)


# ---------------------------------------------------------------------- the descriptions are true


@cache
def summary_of(name, *overrides):
    scenario, _, result = simulated(name, *overrides)
    slo = None if scenario.slo is None else Slo.parse(scenario.slo)
    warmup = scenario.run.warmup
    return summarise(result, slo=slo, warmup_s=120.0 if warmup == "auto" else float(warmup))


def test_demo_bursts_hurt_the_large_model():
    summary = summary_of("demo")
    attainment = {model: group["slo_attainment"] for model, group in summary["by_model"].items()}
    assert attainment["small-7b"] > 0.98
    assert 0.55 < attainment["large-34b"] < 0.78
    assert attainment["large-34b"] < attainment["medium-13b"] < attainment["small-7b"]
    assert all(0.2 < replica["utilisation"] < 0.33 for replica in summary["replicas"].values())


def test_chat_steady_is_loaded_to_four_fifths():
    short = ("workload.duration_s=1200",)
    steady = summary_of("chat-steady", *short)
    flooded = summary_of("chat-steady", *short, "workload.arrivals.rate_per_s=8", "run.until_s=1200", "run.warmup=0")
    assert steady["overall"]["slo_attainment"] > 0.98
    load = load_scenario("chat-steady").workload.arrivals.rate_per_s / flooded["overall"]["requests_per_s"]
    assert 0.75 < load < 0.85


@pytest.mark.parametrize(
    ("name", "worse", "figure", "ratio"),
    [
        ("code-burst", "models.llama-7b.balancer=round-robin", ("ttft_s", "p95"), 1.15),
        ("co-tenant", "models.llama-7b.balancer=round-robin", ("ttft_s", "p95"), 50),
        ("shared-prefix-chat", "models.llama-7b.balancer=round-robin", ("ttft_s", "mean"), 1.5),
    ],
)
def test_the_balancer_matters(name, worse, figure, ratio):
    group, entry = figure
    assert summary_of(name, worse)["overall"][group][entry] > ratio * summary_of(name)["overall"][group][entry]


def test_prefix_affinity_finds_more_in_the_cache():
    affinity = summary_of("shared-prefix-chat")["overall"]["prefix_cache_hit_ratio"]
    in_turn = summary_of("shared-prefix-chat", "models.llama-7b.balancer=round-robin")["overall"]
    assert affinity > 0.75
    assert in_turn["prefix_cache_hit_ratio"] < 0.6


def test_the_threshold_lets_short_prompts_through():
    off = summary_of("long-prompts", "models.mistral-7b.engine.long_prefill_token_threshold=0")["by_class"]["chat"]
    on = summary_of("long-prompts")["by_class"]["chat"]
    assert on["ttft_s"]["p95"] < 0.7 * off["ttft_s"]["p95"]


def test_more_memory_ends_the_preemptions():
    assert summary_of("kv-pressure")["overall"]["preemptions"] > 500
    assert summary_of("kv-pressure", "models.llama-7b.replicas.0.memory_share=1")["overall"]["preemptions"] == 0


def test_neighbours_cost_more_than_their_caps():
    """Medians over a GPU for each: the caps alone, what beside them the memory bandwidth costs, and the worst case."""
    short = ("workload.duration_s=150",)
    own_gpus = ("models.one.latency.share=1", "models.other.latency.share=1", "models.other.replicas.0.gpus=[1]")
    apart = summary_of("mps-pair", *short, *own_gpus, "gpus.count=2")["overall"]["tpot_s"]["p50"]
    isolated, bandwidth, capped = (
        summary_of("mps-pair", *short, f"contention={kind}")["overall"]["tpot_s"]["p50"] / apart
        for kind in ("isolated", "bandwidth", "capped")
    )
    assert 1.1 < isolated < 1.18 < bandwidth < 1.25 < capped < 1.5


def test_a_crash_costs_those_who_were_there():
    short = ("workload.duration_s=400",)
    spared, crash, lost = (
        summary_of("replica-crash", *short, *changes)["overall"]
        for changes in (("faults=null",), (), ("faults.lost_requests=fail",))
    )
    assert (spared["retries"], spared["slo_attainment"]) == (0, 1.0)
    assert crash["requests"]["finished"] == crash["requests"]["total"] == spared["requests"]["total"]
    assert 20 < crash["retries"] == lost["requests"]["failed"] < 40
    missed = 1 - crash["slo_attainment"]
    assert missed == pytest.approx(1 - lost["slo_attainment"], rel=0.2)
    assert missed == pytest.approx(crash["retries"] / crash["requests"]["total"], rel=0.2)
    assert crash["ttft_s"]["max"] > 5.0 > 10 * spared["ttft_s"]["max"]


def test_limits_help_those_who_are_let_in():
    free, limited = summary_of("overload-drain")["overall"], summary_of("overload-drain-limits")["overall"]
    assert free["requests"]["rejected"] == free["requests"]["timed_out"] == 0
    assert limited["requests"]["rejected"] > 300
    assert limited["requests"]["timed_out"] > 0
    assert limited["slo_attainment"] > free["slo_attainment"] + 0.1
    assert free["ttft_s"]["p95"] > 100


def test_prompts_first_means_pauses_between_tokens():
    older, current = summary_of("older-engine"), summary_of("chat-steady")
    assert older["overall"]["itl_s"]["p99"] > 1.2 * current["overall"]["itl_s"]["p99"]


@pytest.mark.skipif(not os.environ.get("ROUTERWISE_DATA"), reason="real data is needed: set ROUTERWISE_DATA")
def test_bursts_cost_more_than_load():
    bursty, smooth = summary_of("azure-code"), summary_of("azure-conversation")
    assert smooth["overall"]["slo_attainment"] > 0.98
    assert bursty["overall"]["slo_attainment"] < 0.95
    tokens = "prompt_tokens_per_s"
    assert smooth["overall"][tokens] > bursty["overall"][tokens]


def test_the_json_schema_describes_the_library():
    schema = Scenario.model_json_schema()
    assert schema["additionalProperties"] is False
    for name in library_names():
        own = yaml.safe_load((LIBRARY / f"{name}.yaml").read_text(encoding="utf-8"))
        assert own.keys() - {"extends"} <= schema["properties"].keys(), name
