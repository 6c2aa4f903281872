import csv
import gzip
import math

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from latency_models.config import LatencyConfig
from latency_models.contract import check_step_time_model
from latency_models.errors import InputError
from latency_models.tables.layer_profile import LayerProfile
from latency_models.tables.layers import AllReduce, ExpertLayer, LayersStepTime
from latency_models.yaml_files import anchor_paths
from sim.cluster import simulate
from sim.cluster_spec import ClusterSpec, ModelSpec, PolicySpec, ReplicaSpec, RunSpec
from sim.settings import EngineSettings
from sim.workload import OpenTraffic, RequestChunk

TOKENS = (1.0, 8.0, 64.0, 512.0)
CONTEXTS = (16.0, 256.0, 4096.0)
DENSE = {
    "embedding": 1.0,
    "final_layernorm": 2.0,
    "layernorm": 3.0,
    "qkv_proj": 40.0,
    "rotary_emb": 4.0,
    "o_proj": 30.0,
    "gate_up_proj": 100.0,
    "act_fn": 5.0,
    "down_proj": 60.0,
}
LAYERS = 4
PER_LAYER_US = 2 * 3.0 + 40.0 + 4.0 + 30.0 + 100.0 + 5.0 + 60.0
CONTRACT = {"batches": (1, 2, 7, 32, 63), "mean_contexts": (1, 16, 100, 1000), "chunks": (1, 17, 256, 448)}


def decode_attention_us(n, kv):
    return 8.0 + 0.001 * n * kv


def mixed_attention_us(chunk, cached, n, kv):
    return 10.0 + 1e-4 * chunk * (cached + chunk / 2.0) + decode_attention_us(n, kv)


def attention_rows():
    decodes = [(0.0, 0.0, n, kv, decode_attention_us(n, kv)) for n in (1.0, 8.0, 64.0) for kv in CONTEXTS]
    mixed = [
        (chunk, cached, n, kv, mixed_attention_us(chunk, cached, n, kv))
        for chunk in (16.0, 128.0, 256.0)
        for cached in (0.0, 512.0, 4096.0)
        for n in (0.0, 1.0, 8.0, 64.0)
        for kv in (CONTEXTS if n else (0.0,))
    ]
    return decodes + mixed


def parts(**changes):
    """Kernels that grow by 1 % per token, LM head and sampler by 1 % per sequence."""
    kernels = {name: [(t, us * (1.0 + 0.01 * t)) for t in TOKENS] for name, us in DENSE.items()}
    sequences = {name: [(s, 50.0 * (1.0 + 0.01 * s)) for s in (1.0, 64.0)] for name in ("lm_head", "sampler")}
    return {"dense": kernels, "attention": attention_rows(), "per_sequence": sequences, **changes}


def profile(**changes):
    return LayerProfile(**parts(**changes))


def model(**options):
    return LayersStepTime(**{"profile": profile(), "layers": LAYERS, **options})


def expected_s(tokens, sequences, attention_us):
    dense_us = (1.0 + 2.0 + LAYERS * PER_LAYER_US) * (1.0 + 0.01 * tokens)
    return (dense_us + 2 * 50.0 * (1.0 + 0.01 * sequences) + LAYERS * attention_us) * 1e-6


def test_a_decode_step_is_the_sum_of_its_kernels_as_often_as_each_runs():
    assert model().decode_run(8, 8 * 256)[0] == pytest.approx(expected_s(8, 8, decode_attention_us(8, 256)))


def test_a_prefill_step_pays_attention_by_chunk_and_cached_context():
    step = (128, 1, 640, 128 * (512 + 64), 0, 0, 1)
    assert model().step_s(*step) == pytest.approx(expected_s(128, 1, mixed_attention_us(128, 512, 0, 0)))


def test_a_mixed_step_looks_prefill_and_decodes_up_together():
    step = (16 + 8, 1, 16, 16 * 8, 8, 8 * 256, 9)
    assert model().step_s(*step) == pytest.approx(expected_s(24, 9, mixed_attention_us(16, 0, 8, 256)))


def test_prefill_measured_alone_does_not_stand_for_prefill_with_decodes():
    alone = [(256.0, 2048.0, 0.0, 0.0, mixed_attention_us(256, 2048, 0, 0))]
    step = (256 + 8, 1, 256, 256 * (1280 + 128), 8, 8 * 256, 9)
    assert model(profile=profile(attention=attention_rows() + alone)).step_s(*step) == model().step_s(*step)


def test_chunks_without_short_contexts_do_not_stand_for_them():
    long_only = [(64.0, 0.0, 8.0, kv, mixed_attention_us(64, 0, 8, kv)) for kv in (256.0, 4096.0)]
    finer = model(profile=profile(attention=attention_rows() + long_only))
    short, long = ((64 + 8, 1, 64, 64 * 32, 8, 8 * kv, 9) for kv in (100, 1000))
    assert finer.step_s(*short) == model().step_s(*short)
    assert finer.step_s(*long) == pytest.approx(expected_s(72, 9, mixed_attention_us(64, 0, 8, 1000)))


def test_the_lm_head_also_runs_for_prefills_that_emit_nothing():
    assert model().step_s(16, 1, 16, 128.0, 0, 0, 0) == model().step_s(16, 1, 16, 128.0, 0, 0, 1)


def test_a_step_of_decodes_alone_is_the_same_by_both_methods():
    assert model().step_s(8, 0, 0, 0.0, 8, 800, 8) == model().decode_run(8, 800)[0]


def test_several_chunks_count_as_the_one_with_as_many_tokens_and_pairs():
    pairs = 2 * 64 * (1000 + 32)
    cached = pairs / 128 - 64
    alone_s = model().step_s(128, 1, 1064, pairs, 0, 0, 1)
    assert model().step_s(128, 2, 2 * 1064, pairs, 0, 0, 2) - alone_s == pytest.approx(2 * 50.0 * 0.01 * 1e-6)
    assert cached > 0.0


def test_chunks_without_cached_context_count_as_the_one_with_as_many_pairs():
    pairs = 4 * 32 * 16
    step_s = model(extrapolate=True).step_s(128, 4, 128, pairs, 0, 0, 4)
    # The table's chunk axis has 16 and 128 around sqrt(2 * pairs) = 64.
    attention = [mixed_attention_us(chunk, 0, 0, 0) for chunk in (16, 128)]
    share = (64 - 16) / (128 - 16)
    assert step_s == pytest.approx(expected_s(128, 4, attention[0] + share * (attention[1] - attention[0])))


def test_a_chunk_larger_than_measured_is_the_sum_of_its_pieces():
    step_s = model().step_s(512, 1, 512, 512 * 256, 0, 0, 1)
    # The cached context of 256 of the second piece lies half-way between those measured at 0 and 512.
    second = (mixed_attention_us(256, 0, 0, 0) + mixed_attention_us(256, 512, 0, 0)) / 2
    assert step_s == pytest.approx(expected_s(512, 1, mixed_attention_us(256, 0, 0, 0) + second))


def test_a_decode_run_ends_on_the_next_measured_context():
    first_s, growth_s, steps = model().decode_run(8, 8 * 250)
    assert steps == 7, "mean contexts 250 to 256"
    assert growth_s == pytest.approx(LAYERS * 0.008 * 1e-6)
    assert model().decode_run(8, 8 * 256)[0] == pytest.approx(first_s + 6 * growth_s)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pad_tokens_to": (1, 4, 16, 64)},
        {"longest_sequences": 0.8, "unsplit_seqs": 2, "extrapolate": True},
        {"tp": 2, "all_reduce": AllReduce(hidden_size=4096)},
    ],
)
def test_the_model_keeps_the_contract(options):
    check_step_time_model(model(**options), **CONTRACT)


def test_padding_rounds_dense_kernels_up_and_nothing_else():
    padded = model(pad_tokens_to=(1, 4, 16)).decode_run(5, 5 * 256)[0]
    attention = (8.0 - 5.0) / 7.0 * decode_attention_us(1, 256) + (5.0 - 1.0) / 7.0 * decode_attention_us(8, 256)
    dense_us = (3.0 + LAYERS * PER_LAYER_US) * 1.16
    assert padded == pytest.approx((dense_us + 100.0 * 1.05 + LAYERS * attention) * 1e-6)
    assert model(pad_tokens_to=(1, 4)).decode_run(5, 500) == model().decode_run(5, 500), "no size is large enough"


def test_outside_the_profile_a_step_is_refused_or_prolonged():
    with pytest.raises(InputError, match="kv_decode is 5000"):
        model().decode_run(1, 5000)
    with pytest.raises(InputError, match="tokens is 600"):
        model().step_s(600, 1, 600, 600 * 300, 0, 0, 1)
    with pytest.raises(InputError, match="n_decode is 65"):
        model().decode_run(65, 6500)
    prolonged = model(extrapolate=True)
    inside = expected_s(1, 1, decode_attention_us(1, 4096))
    assert prolonged.decode_run(1, 2 * 4096)[0] == pytest.approx(inside + LAYERS * decode_attention_us(1, 4096) * 1e-6)


def test_tensor_parallelism_adds_two_all_reduces_per_layer():
    link = AllReduce(hidden_size=4096, latency_s=1e-5, bytes_per_s=1e10)
    parallel = model(tp=4, all_reduce=link)
    once_s = 6 * 1e-5 + 1.5 * (8 * 4096 * 2) / 1e10
    assert parallel.decode_run(8, 800)[0] - model().decode_run(8, 800)[0] == pytest.approx(2 * LAYERS * once_s)


MOE = [(e, t, 10.0 * e + t) for t in (1.0, 8.0, 64.0, 512.0) for e in (8.0, 64.0, 128.0) if e <= 8 * t]


def test_experts_are_activated_as_uniform_routing_does():
    experts = ExpertLayer(MOE, "refuse")
    assert experts.microseconds(1) == pytest.approx(81.0)
    active = 128 * (1 - (1 - 8 / 128) ** 64)
    assert experts.microseconds(64) == pytest.approx(10.0 * active + 64.0)


def test_a_moe_profile_takes_the_place_of_the_mlp():
    kernels = {
        name: rows for name, rows in parts()["dense"].items() if name not in ("gate_up_proj", "act_fn", "down_proj")
    }
    mixture = {"profile": profile(dense=kernels, experts=MOE)}
    mlp_us = (100.0 + 5.0 + 60.0) * 1.01
    difference_s = model(**mixture).decode_run(1, 100)[0] - model().decode_run(1, 100)[0]
    assert difference_s == pytest.approx(LAYERS * (81.0 - mlp_us) * 1e-6)
    halved_s = model(**mixture, expert_shards=2).decode_run(1, 100)[0]
    assert model(**mixture).decode_run(1, 100)[0] - halved_s == pytest.approx(LAYERS * 40.5 * 1e-6)
    check_step_time_model(model(**mixture), **CONTRACT)


def test_unequal_contexts_lie_between_the_mean_and_the_longest():
    spread = model(longest_sequences=2.0, unsplit_seqs=8)
    first_s, growth_s, _ = spread.decode_run(8, 800, 180)
    mean_us, longest_us = decode_attention_us(8, 100), decode_attention_us(8, 180)
    assert first_s == pytest.approx(expected_s(8, 8, mean_us + 0.25 * (longest_us - mean_us)))
    assert first_s + growth_s == pytest.approx(spread.decode_run(8, 808, 181)[0])
    batch = (24, 1, 16, 128.0, 8, 800, 9)
    mixed_s = spread.step_s(*batch, 180)
    assert mixed_s - spread.step_s(*batch) == pytest.approx(LAYERS * 0.25 * (longest_us - mean_us) * 1e-6)


def test_contexts_of_few_sequences_are_split_unless_there_is_a_prompt():
    spread = model(longest_sequences=2.0, unsplit_seqs=9)
    assert spread.decode_run(8, 800, 180) == spread.decode_run(8, 800)
    batch = (24, 1, 16, 128.0, 8, 800, 9)
    assert spread.step_s(*batch, 180) > spread.step_s(*batch)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dense": {}}, "layers of the dense profile"),
        ({"dense": {**parts()["dense"], "qkv_porj": [(1.0, 1.0)]}}, "did you mean 'qkv_proj'"),
        ({"dense": {k: v for k, v in parts()["dense"].items() if k != "act_fn"}}, "no act_fn"),
        ({"experts": MOE}, "no MLP kernels beside a moe profile"),
        ({"per_sequence": {"lm_head": [(1.0, 5.0)]}}, "no sampler"),
        ({"attention": []}, "prefill_chunk of the attention profile"),
        ({"attention": [row for row in attention_rows() if row[0] == 0.0]}, "at least one above 0"),
        ({"attention": [row for row in attention_rows() if row[0] > 0.0]}, "0 .decodes only."),
        ({"attention": [row for row in attention_rows() if row[0] == 0.0 or row[2] > 0.0]}, "n_decode"),
        ({"attention": [row for row in attention_rows() if row[0] == 0.0 or row[2] == 0.0]}, "n_decode"),
    ],
)
def test_an_incomplete_profile_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        profile(**changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 0}, "latency.layers is 0"),
        ({"layers": 2.5}, "latency.layers is 2.5"),
        ({"tp": 2}, "given if and only if tp is above 1"),
        ({"all_reduce": AllReduce(hidden_size=64)}, "given if and only if tp is above 1"),
        ({"expert_shards": 0}, "latency.expert_shards"),
        ({"pad_tokens_to": (8, 4)}, "latency.pad_tokens_to"),
        ({"pad_tokens_to": (0, 4)}, "latency.pad_tokens_to"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        model(**options)


def test_times_in_another_unit_are_noticed():
    def scaled(factor):
        dense = {name: [(t, us * factor) for t, us in rows] for name, rows in parts()["dense"].items()}
        return model(profile=profile(dense=dense))

    with pytest.raises(InputError, match="must be in microseconds"):
        scaled(1e6)
    tiny = parts()
    tiny = {
        "dense": {name: [(t, us * 1e-3) for t, us in rows] for name, rows in tiny["dense"].items()},
        "per_sequence": {name: [(s, us * 1e-3) for s, us in rows] for name, rows in tiny["per_sequence"].items()},
        "attention": [(*row[:-1], row[-1] * 1e-3) for row in tiny["attention"]],
    }
    with pytest.raises(InputError, match="must be in microseconds"):
        model(profile=profile(**tiny))


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_bad_parameters_are_refused(value):
    for build in (
        lambda: model(longest_sequences=value),
        lambda: AllReduce(hidden_size=64, latency_s=value),
        lambda: AllReduce(hidden_size=64, bytes_per_s=value),
    ):
        with pytest.raises(InputError):
            build()
    with pytest.raises(InputError, match=r"latency\.unsplit_seqs is 0"):
        model(unsplit_seqs=0)
    with pytest.raises(InputError, match="tokens of the moe profile"):
        ExpertLayer([(8.0, 2.0, 5.0)], "refuse")


def write_profile(folder, **changes):
    """The profile as files, with the attention compressed."""
    content = parts(**changes)
    for what, column in (("dense", "tokens"), ("per_sequence", "sequences")):
        lines = [f"{name},{at:g},{us}" for name, rows in content[what].items() for at, us in rows]
        (folder / f"p_{what}.csv").write_text("\n".join([f"layer,{column},time_us", *lines]))
    header = "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us"
    with gzip.open(folder / "p_attention.csv.gz", "wt") as file:
        file.write("\n".join([header, *(",".join(map(str, row)) for row in content["attention"])]))
    if "experts" in changes:
        lines = [f"{tokens},{experts},{us}" for experts, tokens, us in changes["experts"]]
        (folder / "p_moe.csv").write_text("\n".join(["tokens,activated_experts,time_us", *lines]))
    return folder / "p"


def section(**keys):
    return TypeAdapter(LatencyConfig).validate_python({"kind": "layers", "layers": LAYERS, **keys})


def test_the_section_reads_the_files_and_passes_every_option_on(tmp_path):
    built = section(
        path=str(write_profile(tmp_path)),
        tp=2,
        all_reduce={"hidden_size": 64, "latency_s": 1e-6},
        longest_sequences=3.0,
        unsplit_seqs=7,
        extrapolate=True,
        pad_tokens_to=[1, 8],
    ).build()
    assert built == model(
        tp=2,
        all_reduce=AllReduce(hidden_size=64, latency_s=1e-6),
        longest_sequences=3.0,
        unsplit_seqs=7,
        extrapolate=True,
        pad_tokens_to=(1, 8),
    )


def test_the_moe_file_can_come_from_another_profile(tmp_path):
    kernels = {
        name: rows for name, rows in parts()["dense"].items() if name not in ("gate_up_proj", "act_fn", "down_proj")
    }
    prefix = write_profile(tmp_path, dense=kernels, experts=MOE)
    (tmp_path / "p_moe.csv").rename(tmp_path / "other_moe.csv")
    with pytest.raises(ValidationError, match="no gate_up_proj"):
        section(path=str(prefix))
    built = section(path=str(prefix), experts={"path": str(tmp_path / "other"), "shards": 2}).build()
    assert built == model(profile=profile(dense=kernels, experts=MOE), expert_shards=2)


def test_a_section_without_its_files_or_with_wrong_keys_is_refused(tmp_path):
    with pytest.raises(ValidationError, match="there is no layer profile"):
        section(path=str(tmp_path / "none"))
    prefix = write_profile(tmp_path)
    with pytest.raises(ValidationError, match="layerz"):
        section(path=str(prefix), layerz=3)
    (tmp_path / "p_dense.csv").write_text("tokens,time_us\n1,5\n")
    with pytest.raises(ValidationError, match="a column 'layer'"):
        section(path=str(prefix))


FOLDER = "data/llmservingsim_vllm"
PROFILES = {
    "RTX4090_Llama-3.1-8B_tp1": {"layers": 32},
    "RTXPRO6000_Llama-3.1-8B_tp1": {"layers": 32},
    "RTXPRO6000_Llama-3.1-8B_tp2": {"layers": 32, "tp": 2, "all_reduce": {"hidden_size": 4096}},
    "RTXPRO6000_Qwen3-30B-A3B-Instruct-2507_tp1": {"layers": 48},
    "RTXPRO6000_Qwen3-30B-A3B-Instruct-2507_tp2": {
        "layers": 48,
        "tp": 2,
        "all_reduce": {"hidden_size": 2048},
        "experts": {"path": "profile_RTXPRO6000_Qwen3-30B-A3B-Instruct-2507_tp1", "shards": 2},
    },
    "RTXPRO6000_Qwen3-32B_tp1": {"layers": 64},
    "RTXPRO6000_Qwen3-32B_tp2": {"layers": 64, "tp": 2, "all_reduce": {"hidden_size": 5120}},
}


@pytest.mark.parametrize("name", PROFILES)
def test_every_recorded_profile_makes_a_sound_model(data_root, name):
    keys = {"kind": "layers", "path": f"profile_{name}", "extrapolate": True, **PROFILES[name]}
    anchor_paths(keys, data_root / FOLDER)
    built = TypeAdapter(LatencyConfig).validate_python(keys).build()
    check_step_time_model(
        built,
        batches=(1, 3, 48, 128, 300),
        mean_contexts=(16, 900, 20000),
        chunks=(1, 300, 2048, 6000),
        longest_run=600,
    )


def test_a_whole_run_follows_from_its_layer_profile(data_root):
    """Llama-3.1-8B on an RTX PRO 6000: nothing is fitted on the run."""
    with (data_root / FOLDER / "RTXPRO6000_Llama-3.1-8B.requests.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["arrival_s"]))
    column = {name: [float(row[name]) for row in rows] for name in ("arrival_s", "first_token_s", "last_token_s")}
    prompts, outputs = ([int(row[name]) for row in rows] for name in ("input_toks", "output_toks"))
    step_time = section(
        path=str(data_root / FOLDER / "profile_RTXPRO6000_Llama-3.1-8B_tp1"),
        layers=32,
        longest_sequences=3.2,
    ).build()
    settings = EngineSettings(
        max_num_seqs=128, max_model_len=131072, num_gpu_blocks=28000, async_scheduling=True, enable_prefix_caching=False
    )
    replica = ReplicaSpec(gpus=(0,), settings=settings)
    served = ModelSpec(name="llama", step_time=step_time, replicas=(replica,))
    cluster = ClusterSpec(gpus=1, models=(served,), router=PolicySpec(kind="round-robin"))
    traffic = OpenTraffic([RequestChunk(column["arrival_s"], prompts, outputs)])
    requests = simulate(cluster, traffic, RunSpec(shared_content=False)).requests

    arrival, first, last = (np.array(column[name]) for name in ("arrival_s", "first_token_s", "last_token_s"))
    further = np.array(outputs) - 1
    error = {
        "ttft": np.mean(requests.first_token_s - arrival) / np.mean(first - arrival) - 1,
        "tpot": np.mean((requests.last_token_s - requests.first_token_s) / further) / np.mean((last - first) / further)
        - 1,
        "e2e": np.mean(requests.last_token_s - arrival) / np.mean(last - arrival) - 1,
    }
    assert abs(error["tpot"]) < 0.01, error
    assert abs(error["e2e"]) < 0.01, error
    assert abs(error["ttft"]) < 0.04, error
