"""Reading scenario files: inheritance, overrides, and one clear line for every mistake."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from latency_models.errors import InputError
from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import (
    LIBRARY,
    dump_scenario,
    find_scenario,
    load_scenario,
)

SMALL = {
    "name": "small",
    "models": {
        "server": {
            "latency": {"kind": "linear", "base_s": 0.01},
            "engine": {"num_gpu_blocks": 1000, "max_num_seqs": 8},
        }
    },
    "workload": {
        "kind": "synthetic",
        "arrivals": {"kind": "poisson", "rate_per_s": 5},
        "lengths": {"prompt": {"kind": "constant", "tokens": 20}, "output": {"kind": "constant", "tokens": 5}},
        "requests": 10,
    },
}
PAIR = {
    "models": {"large": SMALL["models"]["server"], "small": SMALL["models"]["server"]},
    "routing": {"kind": "fractions", "fractions": {"large": 0.25, "small": 0.75}},
    "workload": SMALL["workload"],
}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "small.yaml", SMALL)
    write(tmp_path / "pair.yaml", PAIR)
    return tmp_path


def write(path: Path, values) -> str:
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return str(path)


def use(path, *overrides, run=False):
    scenario = load_scenario(str(path), overrides)
    scenario.cluster()
    if run:
        run_scenario(scenario, RunOptions())


def error_of(path, *overrides, run=False) -> str:
    """The message for a scenario that is wrong, which is one line."""
    with pytest.raises(InputError) as caught:
        use(path, *overrides, run=run)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------------- finding and inheriting


def test_the_name_defaults_to_the_file_s(folder):
    assert load_scenario(str(folder / "pair.yaml")).name == "pair"
    assert load_scenario(str(folder / "small.yaml")).name == "small"


def test_find_by_library_name_and_by_path(folder, monkeypatch):
    assert find_scenario("demo") == LIBRARY / "demo.yaml"
    monkeypatch.chdir(folder)
    assert find_scenario("small.yaml") == Path("small.yaml")
    write(folder / "plain", SMALL)
    assert find_scenario("plain") == Path("plain")
    # A library name means the library, even beside a file of that name.
    write(folder / "demo", SMALL)
    assert find_scenario("demo") == LIBRARY / "demo.yaml"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("demmo", "unknown scenario 'demmo'; did you mean 'demo'? (choices: azure-code, "),
        ("nowhere.yaml", "scenario is 'nowhere.yaml'; allowed: an existing YAML file"),
        ("no/demo", "scenario is 'no/demo'; allowed: an existing YAML file"),
    ],
)
def test_a_scenario_that_does_not_exist(name, expected):
    assert expected in error_of(name)


def test_extends_merges_sections_and_replaces_values(folder):
    middle = {
        "extends": "small.yaml",
        "description": "middle",
        "models": {"server": {"engine": {"max_num_seqs": 4}}},
        "workload": {"requests": 20},
    }
    write(folder / "middle.yaml", middle)
    top = {
        "extends": "middle.yaml",
        "models": {"other": {**SMALL["models"]["server"], "replicas": 2}},
        "routing": "round-robin",
        "workload": {"arrivals": {"kind": "deterministic", "rate_per_s": 3}},
    }
    scenario = load_scenario(write(folder / "top.yaml", top))
    assert scenario.name == "top"
    assert scenario.description == "middle"
    assert list(scenario.models) == ["server", "other"]
    assert scenario.models["server"].engine.max_num_seqs == 4
    assert scenario.models["server"].engine.num_gpu_blocks == 1000
    assert scenario.workload.requests == 20
    assert scenario.workload.arrivals.kind == "deterministic"


def test_another_kind_replaces_the_whole_section(folder):
    top = {
        "extends": "small.yaml",
        "workload": {"lengths": {"prompt": {"kind": "uniform", "minimum": 1, "maximum": 2}}},
    }
    lengths = load_scenario(write(folder / "top.yaml", top)).workload.lengths
    assert (lengths.prompt.minimum, lengths.prompt.maximum) == (1, 2)
    assert lengths.output.tokens == 5


def test_lists_are_replaced_not_merged(folder):
    write(folder / "two.yaml", SMALL | {"speed_changes": [{"at_s": 1, "model": "server", "slowdown": 2}] * 2})
    top = {"extends": "two.yaml", "speed_changes": [{"at_s": 5, "model": "server", "slowdown": 3}]}
    (change,) = load_scenario(write(folder / "top.yaml", top)).speed_changes
    assert (change.at_s, change.slowdown) == (5, 3)


def test_extends_a_library_scenario_from_another_folder(folder):
    scenario = load_scenario(write(folder / "mine.yaml", {"extends": "demo", "seed": 9}))
    assert (scenario.name, scenario.seed) == ("mine", 9)
    assert list(scenario.models) == list(load_scenario("demo").models)


def test_extends_is_relative_to_its_file(folder, monkeypatch):
    (folder / "below").mkdir()
    write(folder / "below" / "top.yaml", {"extends": "../small.yaml", "seed": 4})
    monkeypatch.chdir(folder / "below")
    assert load_scenario("top.yaml").seed == 4


def test_extends_in_a_circle(folder):
    write(folder / "a.yaml", {"extends": "b.yaml"})
    write(folder / "b.yaml", {"extends": "a.yaml"})
    message = error_of(folder / "a.yaml")
    assert "extends goes in a circle: " in message
    assert message.count("a.yaml") == 2
    assert message.count("b.yaml") == 1
    assert "circle" in error_of(write(folder / "self.yaml", {"extends": "self.yaml"}))


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("gone.yaml", "scenario is 'gone.yaml'; allowed: an existing YAML file"),
        ("demmo", "did you mean 'demo'?"),
        (5, "extends is 5; allowed: the path or library name of one scenario"),
        (["demo"], "extends is ['demo']; allowed: the path"),
    ],
)
def test_extends_something_wrong(folder, base, expected):
    assert expected in error_of(write(folder / "top.yaml", {"extends": base}))


# ---------------------------------------------------------------------- YAML


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1\nseed: 2\n", "key 'seed' is there twice"),
        ("models:\n  a: {tp: 1, tp: 2}\n", "key 'tp' is there twice"),
        ("models: [unclosed\n", "is not valid YAML"),
        ("? [a]\n: 1\n", "['a'] cannot be a key"),
        ("- 1\n", "is a list; allowed: a mapping of keys to values"),
        ("", "is empty; allowed: a mapping"),
        ("gpus: &gpus {count: 1, more: *gpus}\n", "is not valid YAML"),
        ("name: !!python/object:os.system x\n", "is not valid YAML"),
    ],
)
def test_files_that_are_not_scenarios(folder, text, expected):
    message = error_of(write(folder / "bad.yaml", text))
    assert expected in message
    assert "bad.yaml" in message


def test_unreadable_files(folder):
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot read scenario" in error_of(folder / "binary.yaml")
    (folder / "folder.yaml").mkdir()
    assert "an existing YAML file" in error_of(folder / "folder.yaml")


def test_anchors_and_merge_keys_work(folder):
    text = yaml.safe_dump(SMALL) + "routing: round-robin\n"
    text = text.replace("  server:\n", "  server: &server\n")
    text = text.replace("name: small\n", "  second: {<<: *server, replicas: 2}\nname: small\n")
    scenario = load_scenario(write(folder / "anchors.yaml", text))
    assert scenario.models["second"].replicas == 2
    assert scenario.models["second"].latency == scenario.models["server"].latency


def test_set_changes_one_of_the_places_that_share_an_alias(folder):
    aliased = yaml.safe_dump(PAIR)
    assert "*id001" in aliased
    scenario = load_scenario(write(folder / "aliased.yaml", aliased), ["models.large.engine.max_num_seqs=3"])
    assert scenario.models["large"].engine.max_num_seqs == 3
    assert scenario.models["small"].engine.max_num_seqs == 8
    server = SMALL["models"]["server"] | {"replicas": [{"gpus": [0]}]}
    write(folder / "aliased.yaml", PAIR | {"models": {"large": server, "small": dict(server)}})
    scenario = load_scenario(str(folder / "aliased.yaml"), ["models.large.replicas.0.slowdown=2"])
    assert [model.replicas[0].slowdown for model in scenario.models.values()] == [2, 1]


# ---------------------------------------------------------------------- --set


def test_set_changes_nested_keys_and_list_entries():
    overrides = (
        "models.small-7b.engine.max_num_seqs=7",
        "models.small-7b.replicas.0.slowdown=1.5",
        "workload.lengths.prompt={kind: constant, tokens: 3}",
        "workload.transforms.0.factor=0.25",
        "run.replications=3",
        "slo=ttft:100",
    )
    scenario = load_scenario("demo", overrides)
    assert scenario.models["small-7b"].engine.max_num_seqs == 7
    assert scenario.models["small-7b"].replicas[0].slowdown == 1.5
    assert scenario.workload.lengths.prompt.tokens == 3
    assert scenario.workload.transforms[0].factor == 0.25
    assert scenario.run.replications == 3
    assert scenario.slo == "ttft:100"


def test_set_makes_sections_and_the_last_one_counts(folder):
    scenario = load_scenario(str(folder / "small.yaml"), ["gpus.count=4", "gpus.count=5", "run.warmup=auto"])
    assert scenario.gpus.count == 5
    assert scenario.run.warmup == "auto"


def test_set_reads_paths_from_the_working_directory(folder, monkeypatch):
    (folder / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,3,4\n")
    monkeypatch.chdir(folder)
    whole = load_scenario("small.yaml", ["workload={kind: trace, path: t.csv}"])
    assert whole.workload.path == folder / "t.csv"
    nested = load_scenario("small.yaml", ["workload={kind: trace, path: other.csv}", "workload.path=t.csv"])
    assert nested.workload.path == folder / "t.csv"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "--set is 'seed'; allowed: key.subkey=value"),
        ("=5", "--set is '=5'; allowed: key.subkey=value"),
        ("", "--set is ''; allowed: key.subkey=value"),
        ("slo=[1", "allowed: a value that is valid YAML"),
        ("seed.x=1", "a key below a section, but 'seed' is a value"),
        ("models.small-7b.replicas.7.gpus=[1]", "an index from 0 to 0 in place of '7'"),
        ("models.small-7b.replicas.first.gpus=[1]", "an index from 0 to 0 in place of 'first'"),
        ("seed=", "seed is None; allowed: a valid integer"),
        ("run.untl_s=3", "unknown key 'run.untl_s' (did you mean 'until_s'?)"),
        ("workload.duration_s=true", "duration_s is True; allowed: a number"),
        ("run.warmup=yes", "run: warmup is True; allowed: a number"),
        ("seed=true", "seed is True; allowed: a valid integer"),
        ("prompts={table: {builtin: 0}}", ": prompts.table.builtin is 0; allowed: greater than or equal to 1"),
        ("prompts={table: {builtin: 9, sed: 1}}", ": unknown key 'prompts.table.sed' (did you mean 'seed'?)"),
    ],
)
def test_bad_overrides(override, expected):
    assert expected in error_of("demo", override)


# ---------------------------------------------------------------------- environment variables


def test_environment_variables_and_folders_in_paths(folder, monkeypatch):
    monkeypatch.setenv("TRACES", str(folder / "traces"))
    monkeypatch.setenv("HOME", str(folder))
    for path, expected in (
        ("${TRACES}/a.csv", folder / "traces" / "a.csv"),
        ("$TRACES/a.csv", folder / "traces" / "a.csv"),
        ("~/a.csv", folder / "a.csv"),
        ("below/a.csv", folder / "below" / "a.csv"),
        ("/elsewhere/a.csv", Path("/elsewhere/a.csv")),
    ):
        top = {"extends": "small.yaml", "workload": {"kind": "trace", "path": path}}
        assert load_scenario(write(folder / "top.yaml", top)).workload.path == expected


def test_paths_of_mixtures_and_length_tables_too(folder):
    clients = [
        {"kind": "trace", "path": "a.csv"},
        SMALL["workload"] | {"lengths": {"kind": "trace", "path": "b.csv"}},
    ]
    top = {"extends": "small.yaml", "workload": {"kind": "mixture", "clients": clients}}
    workload = load_scenario(write(folder / "top.yaml", top)).workload
    assert workload.clients[0].path == folder / "a.csv"
    assert workload.clients[1].lengths.path == folder / "b.csv"


def test_an_unset_variable_is_named(folder, monkeypatch):
    monkeypatch.delenv("NO_SUCH_PLACE", raising=False)
    top = {"extends": "small.yaml", "workload": {"kind": "trace", "path": "${NO_SUCH_PLACE}/a.csv"}}
    message = error_of(write(folder / "top.yaml", top))
    assert "needs the environment variable NO_SUCH_PLACE, which is not set" in message


# ---------------------------------------------------------------------- unknown keys and bad values


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("mdels.x=1", "unknown key 'mdels' (did you mean 'models'?)"),
        ("gpus.cuont=1", "unknown key 'gpus.cuont' (did you mean 'count'?)"),
        ("models.server.engine.max_num_seq=1", "'models.server.engine.max_num_seq' (did you mean 'max_num_seqs'?)"),
        ("models.server.latency.base=1", "unknown key 'models.server.latency.base' (did you mean 'base_s'?)"),
        (
            "models.server.latency={kind: share, share: 0.5, base: {kind: linear, bse_s: 1}}",
            "unknown key 'models.server.latency.base.bse_s' (did you mean 'base_s'?)",
        ),
        ("models.server.replicas=[{gpus: [0], slow: 1}]", "'models.server.replicas.0.slow' (did you mean 'slowdown'?)"),
        ("models.server.memory={weights_gb: 1}", "'models.server.memory.weights_gb' (did you mean 'weights_gib'?)"),
        ("models.server.admission.max_queue=1", "'models.server.admission.max_queue' (did you mean 'max_queue_"),
        ("models.server.api_server.worker=1", "'models.server.api_server.worker' (did you mean 'workers'?)"),
        ("workload.arrivals.rate=1", "unknown key 'workload.arrivals.rate' (did you mean 'rate_per_s'?)"),
        ("workload.lengths.prompt.token=1", "unknown key 'workload.lengths.prompt.token' (did you mean 'tokens'?)"),
        ("workload.duration=1", "unknown key 'workload.duration' (did you mean 'duration_s'?)"),
        ("workload.transforms=[{kind: cap, request: 1}]", "'workload.transforms.0.request' (did you mean 'requests'?)"),
        ("speed_changes=[{at: 1, model: server, slowdown: 1}]", "'speed_changes.0.at' (did you mean 'at_s'?)"),
        ("run.xyz=1", "unknown key 'run.xyz'; allowed: engine_mode, oversized, replications"),
    ],
)
def test_unknown_keys_name_the_nearest(folder, override, expected):
    assert expected in error_of(folder / "small.yaml", override)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=-1", "seed is -1; allowed: greater than or equal to 0"),
        ("seed=1.5", "seed is 1.5; allowed: a valid integer"),
        ("seed=abc", "seed is 'abc'; allowed: a valid integer"),
        ("name=a b", "name is 'a b'; allowed: "),
        ("models={}", "models is empty; allowed: "),
        ("models=5", "models is 5; allowed: a section of keys and values"),
        ("models.server=null", "models.server is None; allowed: a section of keys and values"),
        ("gpus.count=0", "gpus.count is 0; allowed: greater than or equal to 1"),
        ("gpus.memory_gib=-1", "gpus.memory_gib is -1; allowed: greater than 0"),
        ("gpus.memory_gib=.nan", "gpus.memory_gib is nan; allowed: a finite number"),
        ("models.server.engine.max_num_seqs=0", "models.server: engine.max_num_seqs is 0; allowed: an integer >= 1"),
        ("models.server.engine.max_num_seqs=1.5", "max_num_seqs is 1.5; allowed: a valid integer"),
        ("models.server.engine.max_num_seqs=true", "max_num_seqs is True; allowed: a valid integer"),
        ("models.server.engine.scheduler=vllm", "scheduler is 'vllm'; allowed: 'vllm-v1' or 'vllm-v0' (did you mean"),
        ("models.server.engine.watermark=1", "engine.watermark is 1.0; allowed: a share"),
        ("models.server.latency=null", "models.server.latency is None; allowed: the key 'kind' must name a latency"),
        ("models.server.latency.kind=liner", "unknown latency model 'liner'; did you mean 'linear'?"),
        ("models.server.latency.base_s=-1", "models.server.latency.base_s is -1; allowed: greater than or equal to 0"),
        ("models.server.latency={kind: share, share: 0.5}", "models.server.latency.base is missing"),
        ("models.server.latency.base_s=true", "models.server.latency.base_s: True is no number"),
        ("models.server.replicas=[{gpus: []}]", "models.server.replicas.0.gpus is empty; allowed: at least 1 entry"),
        ("models.server.latency.base_s=.inf", "models.server.latency.base_s is inf; allowed: a finite number"),
        ("models.server.replicas=0", "models.server.replicas is 0; allowed: greater than or equal to 1 or a list"),
        ("models.server.replicas=[]", "models.server.replicas is empty; allowed: "),
        ("models.server.replicas=[{}]", "models.server.replicas.0.gpus is missing"),
        ("models.server.replicas=[{gpus: []}]", "models.server.replicas.0.gpus is empty"),
        ("models.server.replicas=[{gpus: [0, 0]}]", "replica.gpus is [0, 0]; allowed: different GPUs"),
        ("models.server.replicas=[{gpus: [0], slowdown: 0}]", "replicas.0.slowdown is 0; allowed: greater than 0"),
        (
            "models.server.replicas=[{gpus: [0], memory_share: 2}]",
            "memory_share is 2; allowed: less than or equal to 1",
        ),
        ("models.server.cpu_overhead_s=-1", "models.server.cpu_overhead_s is -1; allowed: greater than or equal to 0"),
        (
            "models.server.admission.max_queue_requests=0",
            "max_queue_requests is 0; allowed: greater than or equal to 1",
        ),
        ("models.server.api_server.workers=0", "api_server.workers is 0; allowed: greater than or equal to 1"),
        ("models.server.balancer={kind: random, staleness_s: -1}", "balancer.staleness_s is -1; allowed: greater than"),
        ("models.server.balancer={staleness_s: 1}", "models.server.balancer.kind is missing"),
        ("workload=null", "workload is None; allowed: a section of keys and values"),
        (
            "workload.kind=synthetc",
            "allowed: trace, synthetic, closed-loop, sessions, mixture (did you mean 'synthetic'?)",
        ),
        ("workload.arrivals.kind=poison", "workload.arrivals.kind is 'poison'; allowed: poisson, gamma, "),
        ("workload.arrivals.rate_per_s=0", "workload.arrivals: rate_per_s is 0.0; allowed: a finite number > 0"),
        ("workload.arrivals.rate_per_s=.nan", "workload.arrivals: rate_per_s is nan; allowed: a finite number > 0"),
        ("workload.arrivals.rate_per_s=.inf", "workload.arrivals: rate_per_s is inf; allowed: a finite number > 0"),
        ("workload.lengths.prompt.tokens=0", "tokens is 0; allowed: an integer >= 1"),
        ("workload.requests=null", "endless traffic needs a bound; give requests or duration_s"),
        ("workload.requests=-5", "workload.requests is -5; allowed: greater than or equal to 1"),
        ("speed_changes=[{at_s: -1, model: server, slowdown: 1}]", "speed_changes.0.at_s is -1; allowed: greater than"),
        (
            "speed_changes=[{at_s: 1, model: sever, slowdown: 1}]",
            "unknown model in speed_changes 'sever'; did you mean",
        ),
        ("speed_changes=[{at_s: 1, model: server, replica: 4, slowdown: 1}]", "speed_changes.replica is 4; allowed: 0"),
        ("run.until_s=0", "run.until_s is 0; allowed: greater than 0"),
        ("run.warmup=auot", "run.warmup is 'auot'; allowed: 'auto' (did you mean 'auto'?) or a valid number"),
        ("run.warmup=-1", "run.warmup is -1; allowed: 'auto' or greater than or equal to 0"),
        ("run.replications=0", "run.replications is 0; allowed: greater than or equal to 1"),
        ("run.sample_interval_s=0", "run.sample_interval_s is 0; allowed: greater than 0"),
        ("run.oversized=drop", "run.oversized is 'drop'; allowed: 'error' or 'reject'"),
        ("run=5", "run is 5; allowed: a section of keys and values"),
    ],
)
def test_bad_values_name_key_value_and_what_is_allowed(folder, override, expected):
    message = error_of(folder / "small.yaml", override)
    assert expected in message
    assert "should" not in message.replace("string should match", "").replace("should have at least", "")


def test_all_faults_are_reported_at_once_up_to_a_few(folder):
    message = error_of(folder / "small.yaml", "seed=-1", "run.warmup=-1", "gpus.count=0")
    assert message.count("allowed") == 3
    many = [f"run.x{number}=1" for number in range(9)]
    assert error_of(folder / "small.yaml", *many).endswith("(and 4 more)")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("models.large.balancer=rond-robin", "unknown replica balancer 'rond-robin'; did you mean 'round-robin'?"),
        ("models.large.balancer={kind: random, x: 1}", "unknown option of the random balancer 'x' (choices: none)"),
        ("routing=fractons", "unknown model router 'fractons'; did you mean 'fractions'?"),
        ("routing=fractions", "routing.fractions is None; allowed: a mapping of model name to share"),
        ("routing.variant=randm", "did you mean 'random'?"),
        ("routing.fraction={large: 1}", "unknown option of the fractions router 'fraction'; did you mean 'fractions'?"),
        ("routing.fractions={lage: 1}", "unknown model in routing.fractions 'lage'; did you mean 'large'?"),
        ("routing.fractions.large=0.5", "sum of routing.fractions is 1.25; allowed: 1. Scale the shares"),
        ("routing.fractions.large=-0.25", "routing.fractions.large is -0.25; allowed: a number between 0 and 1"),
        ("routing.fractions.large=.nan", "routing.fractions.large is nan; allowed: a number between 0 and 1"),
        ("routing=pinned", "names no model, but routing is 'pinned' (models: large, small). Add a model column"),
        ("slo=ttf:5", "unknown SLO metric 'ttf'; did you mean 'ttft'?"),
        ("slo=ttft:-5", "slo ttft"),
        ("slo=ttft", "allowed: METRIC:MILLISECONDS"),
        ("workload={kind: trace, path: nowhere.csv}", "nowhere.csv does not exist"),
    ],
)
def test_mistakes_that_only_the_run_can_see(folder, override, expected):
    assert expected in error_of(folder / "pair.yaml", override, run=True)


def test_a_workload_that_names_an_unknown_model(folder):
    message = error_of(folder / "pair.yaml", "workload.model=lrge", "routing=pinned", run=True)
    assert "unknown model of a request 'lrge'; did you mean 'large'?" in message


def test_several_models_need_a_router(folder):
    assert "routing is missing; with several models name a router" in error_of(folder / "pair.yaml", "routing=null")


def test_prompts_that_never_fit(folder):
    long = "workload.lengths.prompt.tokens=9000"
    message = error_of(folder / "small.yaml", long, run=True)
    assert "request 0 is 9000; allowed: less than engine.max_model_len (8192)" in message
    assert "run.oversized: reject" in message
    few = ("workload.lengths.prompt.tokens=4000", "models.server.engine.num_gpu_blocks=100")
    assert "KV" in error_of(folder / "small.yaml", *few, run=True)
    scenario = load_scenario(str(folder / "small.yaml"), [long, "run.oversized=reject"])
    assert run_scenario(scenario, RunOptions())["overall"]["requests"]["rejected"] == 10


# ---------------------------------------------------------------------- GPUs and memory


def test_a_model_that_does_not_fit_its_gpu():
    message = error_of("demo", "models.small-7b.memory.weights_gib=90")
    assert message.startswith("models.small-7b: the model does not fit")
    assert "raise tp to 2" in message
    assert "lower max_model_len to" in error_of("chat-steady", "models.llama-7b.engine.max_model_len=1000000")


def test_gpu_memory_is_given_out_once():
    message = error_of("demo", "models.small-7b.replicas.0.gpus=[1]")
    assert "sum of memory_share on GPU 1 is 2.0; allowed: at most 1" in message
    shared = (
        "models.small-7b.replicas=[{gpus: [1], memory_share: 0.4}]",
        "models.medium-13b.replicas.0.memory_share=0.6",
    )
    cluster = load_scenario("demo", shared).cluster()
    assert [replica.gpus for model in cluster.models for replica in model.replicas] == [(1,), (1,), (2, 3)]


def test_gpus_that_do_not_exist():
    assert "models.small-7b.replicas[0].gpus is 9; allowed: GPU numbers 0 to 3" in error_of(
        "demo", "models.small-7b.replicas.0.gpus=[9]"
    )
    assert "GPU numbers 0 to 1 (gpus.count is 2)" in error_of("demo", "gpus.count=2")


def test_replicas_by_number_take_the_next_gpus(folder):
    overrides = ("models.large.replicas=2", "models.large.tp=2", "models.small.replicas=3")
    cluster = load_scenario(str(folder / "pair.yaml"), overrides).cluster()
    assert [[replica.gpus for replica in model.replicas] for model in cluster.models] == [
        [(0, 1), (2, 3)],
        [(4,), (5,), (6,)],
    ]
    assert cluster.gpus == 7
    listed = ("models.large.replicas=[{gpus: [0]}]", "models.large.tp=2")
    assert "tp goes with a number of replicas" in error_of(folder / "pair.yaml", *listed)


def test_kv_capacity_is_said_once(folder):
    assert "the KV capacity is missing" in error_of(folder / "small.yaml", "models.server.engine.num_gpu_blocks=null")
    memory = "models.server.memory={weights_gib: 1, kv: {layers: 1, kv_heads: 1, head_dim: 8}}"
    assert "nothing beside engine.num_gpu_blocks" in error_of(folder / "small.yaml", memory)
    without = (memory, "models.server.engine.num_gpu_blocks=null")
    assert "gpus.memory_gib is missing" in error_of(folder / "small.yaml", *without)
    cluster = load_scenario(str(folder / "small.yaml"), [*without, "gpus.memory_gib=2"]).cluster()
    assert cluster.models[0].replicas[0].settings.num_gpu_blocks > 1000


def test_older_engines_refuse_what_they_do_not_have(folder):
    older = "models.server.engine.scheduler=vllm-v0"
    settings = load_scenario(str(folder / "small.yaml"), [older]).cluster().models[0].replicas[0].settings
    assert not settings.enable_chunked_prefill
    assert not settings.async_scheduling
    message = error_of(folder / "small.yaml", older, "models.server.engine.enable_prefix_caching=true")
    assert "engine.enable_prefix_caching is True; allowed: False with scheduler vllm-v0" in message


# ---------------------------------------------------------------------- round trip and schema


@pytest.mark.parametrize("values", [SMALL, PAIR])
def test_what_is_dumped_is_the_same_scenario(folder, values):
    scenario = load_scenario(write(folder / "one.yaml", values))
    again = load_scenario(write(folder / "two.yaml", dump_scenario(scenario)))
    assert again == scenario
    assert dump_scenario(again) == dump_scenario(scenario)


def test_scenarios_do_not_change(folder):
    scenario = load_scenario(str(folder / "small.yaml"))
    with pytest.raises(ValueError, match="frozen"):
        scenario.seed = 5


def test_loading_needs_neither_pandas_nor_scipy():
    code = (
        "import sys; from scenarios.scenario_files import load_scenario; load_scenario('demo').cluster();"
        "print(sorted({'pandas', 'scipy', 'matplotlib', 'seaborn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
