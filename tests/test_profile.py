"""Profiles: curves from the simulator, held against queueing theory; grids, stability limit, cache and command."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import yaml

from analysis.queueing.single_server import md1, mm1, mm1_sojourn_quantile_s
from latency_models.curves.load_latency_files import read_curves
from latency_models.errors import InputError
from scenarios.profiles.cache import ResultCache, code_digest, content_key, default_cache_dir
from scenarios.profiles.configurations import configurations_of
from scenarios.profiles.grid import next_rates
from scenarios.profiles.offered_load import LONE_GAP_S, Load, mean_rate_per_s, offered, shortest_duration_s
from scenarios.profiles.replication import RunFigures, backlog_growth, run_at
from scenarios.profiles.runner import ProfileOptions, run_profile
from scenarios.profiles.schema import load_profile
from scenarios.profiles.stability import Verdict, find_limit, judge
from scenarios.workloads.config import parse_workload
from sim.random_streams import seed_sequence

HERE = ProfileOptions()
SHORT = ("profile.requests=300", "profile.points=4", "profile.replications=3")
LISTED = ("profile.requests=300", "profile.replications=3", "profile.rates=[0.4, 5]")


def profiled(name, *overrides):
    return run_profile(load_profile(name, overrides), HERE)


# ---------------------------------------------------------------------- queueing theory


def assert_covers(curve, statistic, rate, theory, within):
    index = curve.rates_per_s.index(rate)
    low, high = curve.intervals[statistic][index]
    # Half as wide again as the 95 % interval: 99.6 % with eight replications.
    low, high = low - (high - low) / 4, high + (high - low) / 4
    assert low <= theory <= high, f"{statistic} at {rate}: theory {theory:.4g}, simulation {low:.4g} to {high:.4g}"
    assert high - low <= within * theory, f"{statistic} at {rate}: {low:.4g} to {high:.4g} is too wide to tell"


@pytest.fixture(scope="module")
def md1_curve():
    (curve,) = profiled("md1", "profile.requests=2000", "profile.replications=8", "profile.rates=[0.3, 0.6, 0.8]")
    return curve


def test_the_curve_of_md1_is_that_of_pollaczek_and_khinchine(md1_curve):
    assert md1_curve.at(0.0, "ttft_mean_s") == pytest.approx(1.0)
    for rate, within in ((0.3, 0.1), (0.6, 0.15), (0.8, 0.5)):
        assert_covers(md1_curve, "ttft_mean_s", rate, md1(rate, 1.0).mean_sojourn_s, within)
        assert_covers(md1_curve, "utilisation", rate, rate, 0.1)
        assert_covers(md1_curve, "requests_per_s", rate, rate, 0.1)
    assert md1_curve.statistics["utilisation"][0] == 0.0


def test_the_stability_limit_of_md1_is_its_service_rate(md1_curve):
    low, high = md1_curve.stability_per_s
    assert 0.95 < low < 1.005
    assert 0.995 < high < 1.06


def test_mm1_has_the_known_percentiles_and_limit():
    service_s = 1.0005
    (curve,) = profiled("mm1", "profile.requests=2000", "profile.replications=8", "profile.rates=[0.5]")
    assert_covers(curve, "e2e_mean_s", 0.5, mm1(0.5, service_s).mean_sojourn_s, 0.25)
    for percentile in (50, 90, 95, 99):
        theory = mm1_sojourn_quantile_s(0.5, service_s, percentile / 100)
        assert_covers(curve, f"e2e_p{percentile}_s", 0.5, theory, 0.4)
    low, high = curve.stability_per_s
    assert 0.9 < low < 1.005
    assert 0.995 < high < 1.1


def test_burstier_arrivals_wait_longer_at_the_same_load():
    ttft_s = {}
    for kind, arrivals in {"poisson": "", "gamma": "workload.arrivals={kind: gamma, cv: 3, rate_per_s: 7}"}.items():
        (entry,) = configurations_of(load_profile("md1", [arrivals] if arrivals else []))
        for rate in (0.0, 0.6):
            run = run_at(entry.scenario, Load(rate_per_s=rate, requests=4000), 0, [50.0])
            ttft_s[kind, rate] = run.statistics["ttft_mean_s"]
    assert ttft_s["gamma", 0.6] > 2 * ttft_s["poisson", 0.6]
    assert ttft_s["gamma", 0.0] == pytest.approx(ttft_s["poisson", 0.0]) == pytest.approx(1.0)


# ---------------------------------------------------------------------- offered load


SYNTHETIC = {
    "kind": "synthetic",
    "arrivals": {"kind": "poisson", "rate_per_s": 3.0},
    "lengths": {"prompt": {"kind": "constant", "tokens": 10}, "output": {"kind": "constant", "tokens": 2}},
    "requests": 5,
}


def arrivals_at(section, rate, requests=20_000):
    workload = parse_workload(section)
    load = Load(rate_per_s=rate, requests=requests)
    traffic = offered(workload, load, seed_sequence(1, 0, "workload"))
    return np.concatenate([np.asarray(chunk.arrival_s) for chunk in traffic.chunks()])


@pytest.mark.parametrize(
    "arrivals",
    [
        {"kind": "poisson", "rate_per_s": 3.0},
        {"kind": "gamma", "rate_per_s": 3.0, "cv": 2.0},
        {"kind": "weibull", "rate_per_s": 3.0, "cv": 0.5},
        {"kind": "deterministic", "rate_per_s": 3.0},
        {"kind": "mmpp2", "rates_per_s": [2.0, 5.0], "sojourns_s": [2.0, 1.0]},
    ],
)
def test_every_process_takes_the_offered_rate(arrivals):
    section = SYNTHETIC | {"arrivals": arrivals}
    assert mean_rate_per_s(parse_workload(section)) == pytest.approx(3.0)
    times = arrivals_at(section, 12.0)
    assert len(times) == 20_000
    assert len(times) / times[-1] == pytest.approx(12.0, rel=0.06)
    gaps = np.diff(times)
    if "cv" in arrivals:
        assert gaps.std() / gaps.mean() == pytest.approx(arrivals["cv"], rel=0.05)


def test_bursts_keep_their_duration():
    section = SYNTHETIC | {"arrivals": {"kind": "mmpp2", "rates_per_s": [0.0, 5.0], "sojourns_s": [20.0, 10.0]}}
    lulls = {rate: np.sort(np.diff(arrivals_at(section, rate)))[-5:].mean() for rate in (5.0, 50.0)}
    assert lulls[50.0] > 20.0
    assert shortest_duration_s(parse_workload(section)) == 600.0
    assert shortest_duration_s(parse_workload(SYNTHETIC)) == 0.0


def test_a_mixture_keeps_its_mix():
    clients = [
        SYNTHETIC | {"class": "a", "arrivals": {"kind": "poisson", "rate_per_s": 1.0}},
        SYNTHETIC | {"class": "b", "arrivals": {"kind": "poisson", "rate_per_s": 3.0}},
    ]
    workload = parse_workload({"kind": "mixture", "clients": clients})
    traffic = offered(workload, Load(rate_per_s=40.0, requests=8000), seed_sequence(1, 0, "workload"))
    chunks = list(traffic.chunks())
    classes = [name for chunk in chunks for name in chunk.request_class]
    assert len(classes) == pytest.approx(8000, rel=0.05)
    assert classes.count("b") / len(classes) == pytest.approx(0.75, abs=0.02)
    assert chunks[-1].arrival_s[-1] == pytest.approx(200.0, rel=0.01)


def test_transforms_of_the_rate_are_part_of_it():
    (entry,) = configurations_of(load_profile("md1", ["workload.transforms=[{kind: scale-rate, factor: 2}]"]))
    assert mean_rate_per_s(entry.scenario.workload) == pytest.approx(1.2)
    assert entry.scenario.workload.transforms == ()


def test_without_load_each_request_is_alone():
    assert arrivals_at(SYNTHETIC, 0.0, 4).tolist() == [0.0, LONE_GAP_S, 2 * LONE_GAP_S, 3 * LONE_GAP_S]


def test_a_latency_that_looks_wrong_is_noticed():
    spec = load_profile("md1", ["models.server.latency.per_token_s=2.0"])
    with pytest.raises(InputError, match="a request alone takes 2000 s"):
        run_profile(spec, HERE)


# ---------------------------------------------------------------------- stability


def growth_of(*values):
    return [RunFigures(statistics={}, growth=value) for value in values]


def test_the_backlog_of_an_overload_grows_by_what_is_not_served():
    (entry,) = configurations_of(load_profile("md1"))
    run = run_at(entry.scenario, Load(rate_per_s=2.0, requests=4000), 0, [50.0])
    assert run.growth == pytest.approx(0.5, abs=0.02)
    calm = run_at(entry.scenario, Load(rate_per_s=0.5, requests=4000), 0, [50.0])
    assert abs(calm.growth) < 2e-3


def test_three_verdicts():
    assert judge(growth_of(0.001, -0.002, 0.0), 5000) is Verdict.STABLE
    assert judge(growth_of(0.1, 0.12, 0.11), 5000) is Verdict.GROWING
    assert judge(growth_of(-0.1, 0.12, 0.01), 5000) is Verdict.UNDECIDED


def test_growth_that_every_start_shows_is_no_verdict():
    runs = growth_of(0.022, 0.024, 0.023)
    assert judge(runs, 1000) is Verdict.UNDECIDED
    assert judge(runs, 4000) is Verdict.GROWING


def limit_of(capacity, start, blur=0.0, asked_for=None):
    """Drive the search with a system whose backlog grows as theory says.

    Within ``blur`` of the limit runs cannot tell; the more requests, the smaller it is, as in heavy traffic.
    """

    def runs(load):
        growth = max(0.0, 1 - capacity / load.rate_per_s)
        unclear = abs(load.rate_per_s / capacity - 1) < blur * (10_000 / load.requests) ** 0.5
        noise = 2.0 if unclear else 0.0
        return growth_of(growth - noise, growth + noise, growth)

    def load_at(rate, doublings=0):
        return Load(rate_per_s=rate, requests=10_000 * 2**doublings)

    search = find_limit(start, load_at, load_at)
    asked = next(search)
    while True:
        if asked_for is not None:
            asked_for.extend(asked)
        try:
            asked = search.send([runs(load) for load in asked])
        except StopIteration as finished:
            return finished.value


@pytest.mark.parametrize("start", [1e-4, 3.0, 77.0, 5e4])
def test_bisection_finds_the_limit(start):
    limit = limit_of(77.0, start)
    assert limit.stable_per_s <= 77.0 * 1.011
    assert limit.growing_per_s >= 77.0
    assert limit.growing_per_s - limit.stable_per_s < 0.03 * 77.0
    assert (limit.wide, limit.lengthening, limit.run_requests) == (False, 1.0, 10_000)


def test_the_limit_is_an_interval_if_runs_cannot_tell():
    limit = limit_of(77.0, 300.0, blur=0.06)
    assert limit.stable_per_s == pytest.approx(77.0 * 0.94, rel=0.02)
    assert limit.growing_per_s == pytest.approx(77.0 * 1.06, rel=0.02)
    assert not limit.wide


def test_runs_are_made_longer_while_the_interval_is_wide():
    loads = []
    limit = limit_of(77.0, 300.0, blur=0.12, asked_for=loads)
    assert limit.stable_per_s > 77.0 * 0.9
    assert limit.growing_per_s < 77.0 * 1.1
    assert {load.requests for load in loads} == {10_000, 20_000, 40_000}
    assert not limit.wide
    assert limit.run_requests == 40_000


def test_a_limit_that_the_longest_runs_leave_open_is_wide():
    limit = limit_of(77.0, 300.0, blur=0.5)
    assert limit.stable_per_s < 77.0 * 0.76
    assert limit.growing_per_s > 77.0 * 1.24
    assert limit.wide
    narrow = limit_of(77.0, 300.0, blur=0.5 / limit.lengthening**0.5)
    assert not narrow.wide


def test_a_limit_that_cannot_be_found():
    with pytest.raises(InputError, match="does not even grow"):
        limit_of(1e300, 1.0)
    limit = limit_of(77.0, 3e3, blur=2.5)
    assert limit.stable_per_s == 0.0
    assert limit.wide


# ---------------------------------------------------------------------- grid


def test_loads_are_added_where_the_curve_bends():
    rates = [0.0, 0.3, 0.6, 0.8, 0.9]
    while len(rates) < 14:
        rates = sorted(rates + next_rates(rates, [[1 / (1 - rate) for rate in rates]], 14 - len(rates)))
    assert len(rates) == 14
    middles = [(a + b) / 2 for a, b in pairwise(rates)]
    worst = max(abs(np.interp(m, rates, [1 / (1 - r) for r in rates]) * (1 - m) - 1) for m in middles)
    even = np.linspace(0, 0.9, 14)
    worst_even = max(abs(np.interp(m, even, 1 / (1 - even)) * (1 - m) - 1) for m in (even[1:] + even[:-1]) / 2)
    assert worst < 0.6 * worst_even


def test_the_grid_ends_when_there_is_no_room():
    assert next_rates([0.0, 0.5, 1.0], [[1.0, 2.0, 9.0]], 0) == []
    assert next_rates([0.98, 0.99, 1.0], [[1.0, 2.0, 9.0]], 5) == []


# ---------------------------------------------------------------------- spec and configurations


def test_all_combinations_in_the_order_of_the_file():
    spec = load_profile(
        "chat-steady",
        [
            "profile.tp=[1, 2]",
            "profile.replicas=[1, 3]",
            "profile.latency_by_tp={llama-7b: {2: {kind: linear, base_s: 0.008}}}",
        ],
    )
    found = configurations_of(spec)
    assert [(c.configuration.tp, c.configuration.replicas) for c in found] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    first, last = found[0].scenario.cluster(), found[-1].scenario.cluster()
    assert [replica.gpus for replica in last.models[0].replicas] == [(0, 1), (2, 3), (4, 5)]
    assert last.models[0].step_time.base_s == 0.008
    # Two GPUs hold more keys and values than twice those of one, as the weights are split too.
    blocks = [cluster.models[0].replicas[0].settings.num_gpu_blocks for cluster in (first, last)]
    assert blocks[1] > 2 * blocks[0]


def test_a_latency_that_knows_its_shards_needs_no_other():
    overrides = ["models={m: {latency: {kind: roofline, gpu: h100-80gb, model: llama-3.1-8b}, "
                 "memory: {model: llama-3.1-8b, gpu: h100-80gb}}}", "profile.tp=[1, 2]"]  # fmt: skip
    one, two = (entry.scenario.cluster().models[0] for entry in configurations_of(load_profile("md1", overrides)))
    assert (one.step_time.tp, two.step_time.tp) == (1, 2)
    with pytest.raises(InputError, match=r"tp 3, .* a divisor of the 32 heads"):
        configurations_of(load_profile("md1", [*overrides, "profile.tp=[3]"]))


def test_a_compute_share_slows_the_model_down():
    whole, part = configurations_of(load_profile("chat-steady", ["profile.compute_shares=[1.0, 0.5]"]))
    assert (whole.configuration.compute_share, part.configuration.compute_share) == (1.0, 0.5)
    steps = [entry.scenario.cluster().models[0].step_time for entry in (whole, part)]
    prefill_s = [step.step_s(512, 1, 512, 512 * 256.0, 0, 0, 1) for step in steps]
    assert prefill_s[1] > 1.2 * prefill_s[0]


def test_an_extrapolated_share_is_noted():
    measured, beyond = configurations_of(load_profile("chat-steady", ["profile.compute_shares=[0.5, 0.1]"]))
    assert len(beyond.notes) == len(measured.notes) + 1


def test_each_model_is_alone_with_its_clients():
    names = [entry.configuration.model for entry in configurations_of(load_profile("long-prompts"))]
    assert names == ["mistral-7b"]
    spec = load_profile("demo", ["profile.models=[small-7b]"])
    (entry,) = configurations_of(spec)
    assert list(entry.scenario.models) == ["small-7b"]


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("md1", ["profile.model=[server]"], "unknown key 'profile.model' .*did you mean 'models'"),
        ("md1", ["profile.models=[servr]"], "unknown model in profile 'servr'; did you mean 'server'"),
        ("md1", ["profile.rates=[1, -1]"], r"profile.rates: \[1, -1\]; allowed: auto, or a list of loads above 0"),
        ("md1", ["profile.rates=[0]"], "profile.rates: .* a list of loads above 0"),
        ("md1", ["profile.rates=[.nan]"], "profile.rates: .* a list of loads above 0"),
        ("md1", ["profile.rates=[]"], "profile.rates: .* a list of loads above 0"),
        ("md1", ["profile.rates=atuo"], "profile.rates: 'atuo'; allowed: auto, or a list"),
        ("md1", ["profile.rates=[1, 1]"], "each value once"),
        ("md1", ["profile.rates=[1]", "profile.points=9"], "points has no effect"),
        ("md1", ["profile.compute_shares=[50]"], "profile.compute_shares"),
        ("md1", ["profile.tp=[0]"], "profile.tp"),
        ("md1", ["profile.requests=1"], "profile.requests"),
        ("md1", ["profile.replications=1"], "profile.replications"),
        ("md1", ["profile.percentiles=[100]"], "profile.percentiles"),
        ("md1", ["profile.percentiles=[50, 0.99]"], "profile.percentiles: 0.99; .* per cent: is 99 meant"),
        ("md1", ["profile.percentiles=[0]"], "profile.percentiles"),
        ("md1", ["profile.tp=[2]"], "profile.latency_by_tp.server.2 is missing"),
        ("md1", ["profile.latency_by_tp={server: {4: {kind: linear, base_s: 1}}}"], "server.4 has no effect"),
        ("md1", ["profile.num_gpu_blocks_by_tp={server: {1: 99}}"], "is the model's own tp"),
        ("md1", ["profile.tp=[1, 2]", "profile.num_gpu_blocks_by_tp={server: {4: 99}}"], r"as profile.tp is \[1, 2\]"),
        ("chat-steady", ["profile.num_gpu_blocks_by_tp={llama-7b: {1: 99}}"], "num_gpu_blocks is not given"),
        (
            "demo",
            ["profile.models=[small-7b]", "profile.latency_by_tp={large-34b: {2: {kind: linear, base_s: 1}}}"],
            "large-34b has no effect, as large-34b is not among profile.models",
        ),
        (
            "md1",
            ["profile.tp=[2]", "profile.latency_by_tp={server: {2: {kind: linear, base_s: 1}}}"],
            "profile.num_gpu_blocks_by_tp.server.2 is missing",
        ),
        ("co-tenant", [], "speed_changes is given"),
        ("overload-drain-limits", [], "allowed in a profile"),
        ("shared-prefix-chat", ["workload={kind: closed-loop, users: 2, think_time_s: 1, requests: 9, "
         "lengths: {prompt: {kind: constant, tokens: 9}, output: {kind: constant, tokens: 9}}}"], "kind closed-loop"),
        ("md1", ["workload.arrivals={kind: diurnal, profile: [[0, 1], [9, 2]]}"], "change with the time of day"),
        ("md1", ["workload.deadline_s=3"], "hide a growing backlog"),
        ("md1", ["models.server.admission.max_queue_requests=3"], "hide a growing backlog"),
        ("md1", ["workload.transforms=[{kind: repeat, times: 2}]"], "transform of kind repeat"),
        ("md1", ["workload.model=server2"], "no client of the workload sends requests to server"),
        ("md1", ["models.server.engine.num_gpu_blocks=2"], "1001; allowed: at most 17"),
    ],
)  # fmt: skip
def test_what_cannot_be_profiled_is_refused(name, overrides, message):
    with pytest.raises(InputError, match=message):
        run_profile(load_profile(name, overrides), HERE)


# ---------------------------------------------------------------------- runner and cache


def test_results_do_not_depend_on_processes_or_cache(tmp_path):
    spec = load_profile("md1", [*SHORT, "profile.requests=100", "profile.replicas=[1, 2]"])
    states = []
    alone = run_profile(spec, replace(HERE, cache_dir=tmp_path), lambda state: states.append(state.runs_from_cache))
    assert states[-1] == 0
    again = run_profile(spec, replace(HERE, cache_dir=tmp_path), lambda state: states.append(state.runs_from_cache))
    assert again == alone
    assert states[-1] == len(list(tmp_path.rglob("*.json"))) > 20
    assert run_profile(spec, ProfileOptions(jobs=2)) == alone
    assert [len(curve.rates_per_s) for curve in alone] == [4, 4]
    assert [curve.rates_per_s[0] for curve in alone] == [0.0, 0.0]
    assert alone[1].stability_per_s[0] > 1.6 * alone[0].stability_per_s[0]


def test_an_interrupted_profile_goes_on_where_it_was(tmp_path):
    spec = load_profile("md1", SHORT)

    class Interrupted(Exception):
        pass

    def interrupt(state):
        if state.runs_done == 7:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_profile(spec, replace(HERE, cache_dir=tmp_path), interrupt)
    kept = len(list(tmp_path.rglob("*.json")))
    assert kept >= 7
    states = []
    run_profile(spec, replace(HERE, cache_dir=tmp_path), lambda state: states.append(state.runs_from_cache))
    assert states[-1] == kept


def test_rates_beyond_the_limit_are_left_out():
    (curve,) = profiled("md1", *LISTED)
    assert curve.rates_per_s == (0.0, 0.4)
    assert curve.provenance["rates_beyond_limit_per_s"] == [5.0]


def test_the_key_follows_content(tmp_path):
    file = tmp_path / "lengths.csv"
    file.write_text("1,2\n", encoding="utf-8")
    values = {"load": 1.0, "workload": [{"path": str(file)}]}
    assert content_key(values) == content_key(json.loads(json.dumps(values)))
    assert content_key(values) != content_key(values | {"load": 1.1})
    other = tmp_path / "other.csv"
    other.write_text("1,3\n", encoding="utf-8")
    assert content_key(values) != content_key({"load": 1.0, "workload": [{"path": str(other)}]})
    assert len(code_digest()) == 64
    assert default_cache_dir().name == "profiles"


def test_a_spoiled_cache_file_counts_as_none(tmp_path):
    cache = ResultCache(tmp_path)
    figures = RunFigures(statistics={"ttft_mean_s": 0.25}, growth=0.0).as_dict()
    cache.put("abcd", figures)
    assert cache.get("abcd") == figures
    for text in ("{", "[]", "{}"):
        (tmp_path / "ab" / "abcd.json").write_text(text, encoding="utf-8")
        assert cache.get("abcd") is None
    assert cache.get("ffff") is None
    assert ResultCache(None).get("abcd") is None


def test_growth_needs_no_departures():
    (entry,) = configurations_of(load_profile("md1"))

    class Requests:
        arrival_s = np.arange(100.0)
        finish_s = np.full(100, np.inf)

    assert entry.scenario.name == "md1"
    assert backlog_growth(type("Result", (), {"requests": Requests})) == pytest.approx(1.0)


# ---------------------------------------------------------------------- command


def test_the_command_writes_curves_and_a_picture(routerwise, tmp_path):
    spec = tmp_path / "spec.yaml"
    profile = {"requests": 300, "replications": 3, "rates": [0.3, 0.6, 4]}
    spec.write_text(yaml.safe_dump({"extends": "md1", "profile": profile}), encoding="utf-8")
    out, picture = tmp_path / "out", tmp_path / "curves.png"
    command = ("profile", spec, "--out", out, "--cache", tmp_path / "cache", "--jobs", 1, "--plot", picture)
    status, text, err = routerwise(*command)
    assert (status, err) == (0, "")
    assert "server tp 1, share 1, replicas 1" in text
    assert "left out, not known to be stable: 4 requests/s" in text
    assert picture.stat().st_size > 10_000
    (curve,) = read_curves(out / "curves.json")
    (from_csv,) = read_curves(out / "curves.csv")
    assert curve.rates_per_s == (0.0, 0.3, 0.6)
    assert curve.provenance["profile"] == "spec"
    assert from_csv.statistics["ttft_mean_s"] == pytest.approx(curve.statistics["ttft_mean_s"])
    status, _, err = routerwise(*command)
    assert (status, err.count("\n")) == (2, 1)
    assert "exists already" in err
    before = (out / "curves.json").read_bytes()
    assert routerwise(*command, "--overwrite")[0] == 0
    assert (out / "curves.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "{tmp}/none/curves.json"), "does not exist"),
        (("--out", "{tmp}/file"), "is a file"),
        (("--out", "{tmp}/out", "--plot", "{tmp}/curves.jpeg"), "--plot"),
        (("--out", "{tmp}/out", "--plot", "{tmp}/none/curves.png"), "does not exist"),
        (("--out", "{tmp}/out", "--cache", "{tmp}", "--no-cache"), "--cache has no effect"),
        (("--out", "{tmp}/out", "--cache", "{tmp}/file/cache"), "--cache {tmp}/file/cache: no file can be written"),
        (("--out", "{tmp}/file/out"), "--out {tmp}/file/out: no file can be written"),
        (("--out", "{tmp}/out", "--set", "profile.tp=[2]"), "latency_by_tp"),
    ],
)
def test_the_command_refuses_before_it_simulates(routerwise, tmp_path, options, message):
    (tmp_path / "file").write_text("", encoding="utf-8")
    status, _, err = routerwise("profile", "md1", *(option.format(tmp=tmp_path) for option in options))
    assert status == 2
    assert message.format(tmp=tmp_path) in err
    assert not (tmp_path / "out").exists()
