"""KV capacity derived from names, against what engines logged."""

import json

import pytest

from latency_models.catalogue.architectures import find_architecture
from latency_models.catalogue.engines import find_engine
from latency_models.catalogue.gpus import find_gpu
from latency_models.errors import InputError
from latency_models.memory.kv_capacity import activation_peak_bytes, kv_blocks_on
from latency_models.memory.kv_memory import GIB
from scenarios.latency_notes import latency_notes
from scenarios.scenario_files import dump_scenario, load_scenario
from sim.settings import EngineSettings

BLOCK = 16
BY_NAME = "models.server.memory={model: codellama-34b, gpu: h100-80gb, weights: bf16, vllm: '0.11'}"
SCENARIO = {
    "name": "small",
    "models": {"server": {"latency": {"kind": "linear", "base_s": 0.01}, "engine": {"max_num_batched_tokens": 4096}}},
    "workload": {
        "kind": "synthetic",
        "arrivals": {"kind": "poisson", "rate_per_s": 5},
        "lengths": {"prompt": {"kind": "constant", "tokens": 100}, "output": {"kind": "constant", "tokens": 10}},
        "requests": 10,
    },
}


def tokens_on(gpu, model, version, budget, seqs, **options):
    blocks = kv_blocks_on(
        find_gpu(gpu),
        find_architecture(model),
        engine=find_engine(version),
        max_num_batched_tokens=budget,
        max_num_seqs=seqs,
        **options,
    )
    return blocks * BLOCK


@pytest.mark.parametrize(("budget", "seqs", "logged"), [(4096, 256, 40_592), (64, 32, 44_640)])
def test_codellama_on_h100(budget, seqs, logged):
    """Logged by vLLM 0.11 (BLIS, inference-sim)."""
    assert tokens_on("h100-80gb", "codellama-34b", "0.11", budget, seqs) == pytest.approx(logged, rel=0.015)


@pytest.mark.parametrize(("seqs", "logged"), [(16, 782_160), (64, 782_176), (256, 780_992)])
def test_llama_in_four_bits_on_b200(seqs, logged):
    """Logged by vLLM 0.15 (InferenceX)."""
    tokens = tokens_on("b200", "llama-3.3-70b", "0.15", 8192, seqs, weights="nvfp4", kv_dtype="fp8")
    assert tokens == pytest.approx(logged, rel=0.01)


def test_opt_on_a100():
    """DistServe's flags leave about 63k tokens, by its authors' own sum."""
    tokens = tokens_on("a100-80gb", "opt-13b", "0.2", 16384, 1024, utilisation=0.95)
    assert tokens == pytest.approx(63_000, rel=0.03)


def test_which_a100_argonne_measured(data_root):
    """Doubling a batch doubles its time once it no longer fits: that is where 40 GB are full, not 80."""
    import pandas as pd

    log = pd.read_csv(data_root / "data" / "argonne_llm_inference_bench" / "a100_h100_vllm_trtllm.csv")
    log = log[(log.framework == "vLLM") & (log.hardware == "Nvidia A100 GPU") & (log.num_devices == 1)]
    seconds = log[log.model == "meta-llama/Llama-2-7b-hf"].groupby(["in_out_len", "batch"]).latency_s.median()
    full_small, full_large = (tokens_on(gpu, "llama-2-7b", "0.4", 4096, 256) for gpu in ("a100-40gb", "a100-80gb"))
    assert full_small < 64 * 2 * 512 < full_large
    for length, batch in ((512, 64), (1024, 32), (1024, 64)):
        assert batch * 2 * length > full_small
        assert seconds[length, batch] / seconds[length, batch // 2] > 1.8
    for length, batch in ((256, 64), (512, 32)):
        assert batch * 2 * length < full_small
        assert seconds[length, batch] / seconds[length, batch // 2] < 1.5


@pytest.mark.parametrize(
    ("model", "name", "weights", "version"),
    [
        ("meta-llama/Llama-3.1-70B", "llama-3.1-70b", "fp8", "0.11"),
        ("Qwen/Qwen3-32B", "qwen3-32b", "bf16", "0.12"),
    ],
)
def test_closed_loops_queue_where_their_contexts_no_longer_fit(data_root, model, name, weights, version):
    """Nothing is fitted on these sweeps: first tokens take seconds once the mean contexts exceed the capacity."""
    import pandas as pd

    log = pd.read_csv(data_root / "data" / "aiconfigurator_silicon_e2e" / "h100_sxm_agg.csv")
    log = log[(log.backend == "vllm") & (log.model_path == model) & (log.tp_size > 1)]
    outcomes = set()
    for row in log.itertuples():
        capacity = tokens_on("h100-80gb", name, version, 8192, 256, tp=int(row.tp_size), weights=weights)
        load = row.batch_size * (row.isl + row.osl / 2) / capacity
        if not 0.95 < load < 1.2:
            assert (row.silicon_ttft_ms > 5000) == (load > 1), row
            outcomes.add(load > 1)
    assert outcomes == {True, False}


def test_the_larger_of_a_layer_and_the_sampler_decides():
    llama = find_architecture("llama-3.1-8b")

    def peak(tokens, seqs, tp=1):
        return activation_peak_bytes(llama, tp=tp, max_num_batched_tokens=tokens, max_num_seqs=seqs)

    assert peak(8192, 1) == 8192 * (3 * 14336 + 3 * 4096) * 2
    assert peak(8192, 1, tp=2) == 8192 * (3 * 14336 / 2 + 3 * 4096) * 2
    assert peak(512, 256) == 256 * 128256 * 48
    assert peak(128, 256) == peak(128, 128)
    with pytest.raises(InputError, match="max_num_seqs is 0"):
        peak(512, 0)
    # Eight experts of width 768 per token, each with an output of the model's width.
    mixture = find_architecture("qwen3-30b-a3b")
    width = 8 * (2048 + 768) + 3 * 2048
    assert activation_peak_bytes(mixture, tp=1, max_num_batched_tokens=8192, max_num_seqs=1) == 8192 * width * 2


def test_what_leaves_less_room():
    base = tokens_on("h100", "llama-3.1-8b", "0.19", 8192, 256)
    assert tokens_on("h100", "llama-3.1-8b", "0.19", 16384, 256) < base
    assert tokens_on("h100", "llama-3.1-8b", "0.19", 8192, 1024) < base
    assert tokens_on("h100", "llama-3.1-8b", "0.19", 8192, 256, memory_share=0.5) < base / 2
    assert tokens_on("h100", "llama-3.1-8b", "0.19", 8192, 256, kv_dtype="fp8") == pytest.approx(2 * base, rel=1e-3)
    two = tokens_on("h100", "llama-3.1-8b", "0.19", 8192, 256, tp=2)
    assert 2.1 * base < two < 2.5 * base
    # Counting CUDA graphs takes 0.6 GiB, at the same utilisation.
    lost = base - tokens_on("h100", "llama-3.1-8b", "0.32", 8192, 256, utilisation=0.9)
    assert lost * 131_072 == pytest.approx(0.6 * GIB, rel=0.01)


def test_a_model_that_does_not_fit():
    with pytest.raises(InputError, match=r"llama-3.1-70b does not fit: it has .* raise tp to 2"):
        tokens_on("h100", "llama-3.1-70b", "0.11", 2048, 256)
    assert tokens_on("h100", "llama-3.1-70b", "0.11", 2048, 256, tp=4) > 100_000


# ------------------------------------------------------------------ in a scenario


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(SCENARIO))

    def load(*overrides):
        return load_scenario(str(path), overrides)

    return load


def blocks_of(loaded):
    return loaded.cluster().models[0].replicas[0].settings.num_gpu_blocks


ROOFLINE = "models.server.latency={{kind: roofline, gpu: {gpu}, model: {model}}}"


def notes_of(loaded):
    section = loaded.models["server"]
    return " ".join(latency_notes(section.latency, EngineSettings(num_gpu_blocks=2000), section.memory))


def test_notes_on_what_latency_and_memory_say_of_one_server(scenario):
    alike = ROOFLINE.format(gpu="NVIDIA H100 80GB HBM3", model="codellama/CodeLlama-34b-Instruct-hf")
    assert "memory has" not in notes_of(scenario(BY_NAME, alike))
    for change, told in (
        ("models.server.memory.weights=fp8", "memory has weights fp8, and the latency section bf16"),
        ("models.server.latency.kv_cache=fp8", "memory has kv_cache bf16, and the latency section fp8"),
        ("models.server.memory.vllm='9.9'", "vLLM 9.9 is not known here (the newest is 0.32); the defaults of 0.21"),
    ):
        assert told in notes_of(scenario(BY_NAME, alike, change))
    blocks = "models.server.engine.num_gpu_blocks=2000"
    large = scenario(blocks, ROOFLINE.format(gpu="h100", model="llama-3.1-70b"))
    assert "weights of llama-3.1-70b take 131 GiB of each GPU (tp 1), and h100-80gb has 79.2 GiB" in notes_of(large)
    small = scenario(blocks, ROOFLINE.format(gpu="h100", model="llama-3.1-8b"))
    assert "GiB of each GPU" not in notes_of(small)


def error_of(scenario, *overrides):
    with pytest.raises(InputError) as caught:
        scenario(*overrides).cluster()
    return str(caught.value)


def test_a_memory_section_of_names(scenario, tmp_path):
    loaded = scenario(BY_NAME)
    assert blocks_of(loaded) * BLOCK == pytest.approx(40_592, rel=0.015)
    (tmp_path / "again.yaml").write_text(dump_scenario(loaded))
    assert load_scenario(str(tmp_path / "again.yaml")) == loaded
    assert blocks_of(scenario(BY_NAME, "models.server.memory.kv_cache=fp8")) == pytest.approx(
        2 * blocks_of(loaded), rel=1e-3
    )
    assert blocks_of(scenario(BY_NAME, "models.server.memory.utilisation=0.92")) > blocks_of(loaded)


def test_a_config_json_in_a_memory_section(scenario, tmp_path):
    config = {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    named = scenario("models.server.memory={model: llama-3.1-8b, gpu: l40s}")
    server = SCENARIO["models"]["server"] | {"memory": {"model": {"path": "config.json"}, "gpu": "l40s"}}
    # A path is relative to the scenario.
    (tmp_path / "by_file.yaml").write_text(json.dumps(SCENARIO | {"models": {"server": server}}))
    assert blocks_of(load_scenario(str(tmp_path / "by_file.yaml"))) == blocks_of(named)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((BY_NAME, "models.server.memory.weights_gib=62"), "null removes one: weights_gib: null"),
        (
            (BY_NAME, ROOFLINE.format(gpu="a100-80gb", model="codellama-34b")),
            "memory.gpu is 'h100-80gb'; allowed: the GPU",
        ),
        ((BY_NAME, ROOFLINE.format(gpu="h100", model="llama-3.1-8b")), "memory.model is 'codellama-34b'; allowed: the"),
        (
            (BY_NAME, "models.server.latency={kind: corrected, base: {kind: file, name: llama-7b-a100-80gb-tp1}}"),
            "models.server: memory.model is 'codellama-34b'; allowed: the model of the latency section, llama-7b",
        ),
        (("models.server.memory={model: {path: c.yaml}, gpu: h100}",), "cannot read catalogue"),
        (("models.server.memory={model: codellama-34b}",), "gpu is missing"),
        (("models.server.memory={weights_gib: 62}",), "kv is missing"),
        (("models.server.memory={utilisation: 0.9}",), "weights_gib is missing"),
        ((BY_NAME, "gpus.memory_gib=80"), "nothing beside memory.gpu"),
        ((BY_NAME, "models.server.engine.num_gpu_blocks=2000"), "nothing beside engine.num_gpu_blocks"),
        ((BY_NAME, "models.server.memory.gpu=h10"), "unknown GPU 'h10'"),
        ((BY_NAME, "models.server.memory.weights=fp2"), "unknown weight format 'fp2'"),
        (
            (BY_NAME, "models.server.memory.vllm=0.11"),
            "memory.vllm is 0.11; allowed: a version in quotes, such as '0.11'",
        ),
        ((BY_NAME, "models.server.memory.gpu=l40s"), "codellama-34b does not fit"),
        ((BY_NAME, "models.server.engine.max_model_len=100000"), "lower max_model_len to"),
    ],
)
def test_memory_sections_that_make_no_sense(scenario, overrides, expected):
    assert expected in error_of(scenario, *overrides)


def test_a_latency_model_of_other_shards_than_the_replica(scenario):
    blocks = "models.server.engine.num_gpu_blocks=2000"
    roofline = "models.server.latency={kind: roofline, gpu: h100, model: llama-3.1-70b, tp: 4}"
    assert "latency.tp is 4; allowed: the number of GPUs of every replica, here 1" in error_of(
        scenario, blocks, roofline
    )
    corrected = "models.server.latency={kind: corrected, factor: 1.1, base: {kind: roofline, gpu: h100, model: toys}}"
    scenario(blocks, corrected).cluster()
    assert "latency.tp is 1" in error_of(scenario, blocks, corrected, "models.server.tp=2")
    assert len(scenario(blocks, roofline, "models.server.tp=4").cluster().models[0].replicas[0].gpus) == 4


def test_a_run_on_synthetic_latencies_says_so(scenario):
    from scenarios.runner import RunOptions, run_scenario

    notes = []
    loaded = scenario("models.server.latency={kind: roofline, gpu: h100, model: codellama-34b}", BY_NAME)
    run_scenario(loaded, RunOptions(), note=notes.append)
    blocks = loaded.cluster().models[0].replicas[0].settings.num_gpu_blocks
    assert notes == [
        "server: step times are synthetic (latency kind roofline), not measured",
        f"server: {blocks:,} KV blocks, {blocks * 16:,} tokens, derived from memory",
    ]
