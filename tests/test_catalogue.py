"""Catalogues of GPUs, architectures and engines, and the work that follows from them."""

import json
import re

import pytest

from latency_models.catalogue.architectures import architecture_of, find_architecture
from latency_models.catalogue.engines import find_engine
from latency_models.catalogue.entries import shipped
from latency_models.catalogue.gpus import GpuSpec, find_gpu
from latency_models.catalogue.model_work import ModelWork, kv_shape
from latency_models.catalogue.weight_formats import format_of
from latency_models.errors import InputError
from latency_models.memory.kv_memory import GIB

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 1000,
}
MIXTURE = LLAMA | {
    "model_type": "qwen3_moe",
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "mlp_only_layers": [0],
}
GPU = {
    "memory_gb": 80,
    "driver_memory_gib": 79,
    "bandwidth_gb_per_s": 2000,
    "bf16_tflops": 300,
    "sms": 100,
    "link_gb_per_s": 300,
    "source": "a test",
}


def error_of(call, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# ------------------------------------------------------------------ architectures


# Parameter counts from the models' cards, apart from those in the catalogue.
PUBLISHED = {
    "llama-65b": 65.2e9,
    "llama-3.1-8b": 8.03e9,
    "llama-3.1-70b": 70.6e9,
    "llama-3.1-405b": 405.9e9,
    "codellama-34b": 33.7e9,
    "qwen2.5-72b": 72.7e9,
    "qwen3-32b": 32.8e9,
    "qwen3-30b-a3b": 30.5e9,
    "mixtral-8x7b": 46.7e9,
    "gpt-oss-120b": 116.8e9,
    "opt-66b": 66e9,
    "gemma-2-27b": 27.2e9,
}


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_parameters_are_the_published_ones(name, parameters):
    assert find_architecture(name).parameters == pytest.approx(parameters, rel=0.01)


@pytest.mark.parametrize("name", shipped("architectures"))
def test_every_architecture_counts_what_its_entry_says_and_names_its_source(name):
    architecture = find_architecture(name)
    entry = shipped("architectures")[name]
    assert architecture.source
    assert architecture.parameters == pytest.approx(entry.get("parameters", architecture.parameters), rel=0.01)


def test_a_token_of_a_mixture_uses_few_of_its_parameters():
    # "A3B" and "5.1B active": without embeddings, which are looked up.
    for name, active in (("qwen3-30b-a3b", 3.3e9), ("gpt-oss-120b", 5.1e9), ("mixtral-8x7b", 12.9e9)):
        work = ModelWork.of(find_architecture(name))
        assert (work.flops_per_token + work.head_flops) / 2 == pytest.approx(active, rel=0.1)


def test_names_aliases_and_case():
    assert find_architecture("meta-llama/llama-3.1-8B").name == "llama-3.1-8b"
    assert "did you mean 'qwen3-32b'" in error_of(find_architecture, "qwen3-32")


def test_a_config_json_of_hugging_face(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA | {"torch_dtype": "bfloat16", "rope_scaling": None}))
    found = find_architecture(path)
    # By hand: attention 64 * 16 * (8 + 4) = 12288, MLP 3 * 64 * 128 = 24576, two tables of 64000, five norms of 64.
    assert found.parameters == 2 * (12288 + 24576) + 2 * 64000 + 5 * 64
    assert found.head_dim == 16
    path.write_text("{")
    assert "cannot read model config" in error_of(find_architecture, path)
    assert "cannot read model config" in error_of(find_architecture, tmp_path / "none.json")


def test_a_mixture_with_a_dense_layer():
    found = architecture_of(MIXTURE, "m")
    assert (found.moe_layers, found.experts, found.intermediate) == (1, 8, 128)
    # The mixture: 8 experts of 3 * 64 * 32, and a router of 64 * 8.
    assert found.parameters == 2 * 12288 + 24576 + 8 * 6144 + 512 + 2 * 64000 + 5 * 64


def test_tied_embeddings_are_counted_once():
    tied = architecture_of(LLAMA | {"tie_word_embeddings": True}, "m")
    assert architecture_of(LLAMA, "m").parameters - tied.parameters == 64000


def test_sliding_windows():
    base = LLAMA | {"model_type": "gemma2", "sliding_window": 32}
    assert architecture_of(base, "m").window_layers == 1
    kinds = ["sliding_attention", "sliding_attention"]
    assert architecture_of(base | {"layer_types": kinds}, "m").window_layers == 2
    assert architecture_of(base | {"use_sliding_window": False}, "m").window == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model_type": "mamba2"}, "m: model_type is 'mamba2'; allowed: one of gemma"),
        ({"model_type": "deepseek_v3", "kv_lora_rank": 512}, "m: kv_lora_rank is 512"),
        ({"is_encoder_decoder": True}, "an encoder-decoder is not supported"),
        ({"state_size": 16}, "a state space is not supported"),
        ({"vision_config": {"depth": 32}}, "m: vision_config is 'a section'; allowed: no such key, as a vision"),
        ({"text_config": LLAMA}, "take its text_config"),
        ({"num_local_experts": 8}, "m: num_local_experts is 8; allowed: no such key with model_type llama"),
        ({"attn_layer_period": 8}, "m: attn_layer_period is 8; allowed: no such key with model_type llama"),
        ({"layers_block_type": ["mamba"]}, "m: layers_block_type is 'a list'; allowed: no such key"),
        ({"hidden_size": None}, "m: the key 'hidden_size' is missing"),
        ({"vocab_size": 0}, "m: vocab_size is 0; allowed: an integer >= 1"),
        ({"num_hidden_layers": 2.5}, "m: num_hidden_layers is 2.5"),
        ({"num_key_value_heads": 3}, "m: kv_heads is 3; allowed: a divisor of the 4 heads"),
        ({"hidden_size": 66}, "m: hidden_size is 66; allowed: a multiple of num_attention_heads, 4"),
        ({"quantization_config": {"quant_method": "quip"}}, "m: quantization_config.quant_method is 'quip'"),
    ],
)
def test_configs_that_are_not_supported_name_the_key(change, expected):
    assert expected in error_of(architecture_of, LLAMA | change, "m")


def test_llama_is_not_suggested_for_other_layers():
    plain = error_of(architecture_of, LLAMA | {"model_type": "mine"}, "m")
    assert "set model_type to llama" in plain
    for key in ("attn_layer_period", "num_experts", "conv_kernel", "use_mamba"):
        other = error_of(architecture_of, LLAMA | {"model_type": "jamba", key: 4 if key != "use_mamba" else True}, "m")
        assert "model_type is 'jamba'" in other
        assert "set model_type" not in other
    assert architecture_of(LLAMA | {"num_experts": 1}, "m").moe_layers == 0


def test_gemma_3():
    config = {
        "model_type": "gemma3_text",
        "hidden_size": 1152,
        "num_hidden_layers": 26,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "intermediate_size": 6912,
        "vocab_size": 262144,
        "sliding_window": 512,
    }
    found = architecture_of(config, "m")
    # The technical report on Gemma 3 1B: 302 million of embeddings and 698 million besides.
    assert found.parameters == pytest.approx(1.0e9, rel=0.001)
    assert found.head_dim == 256
    # Every sixth of the 26 layers sees everything.
    assert (found.window, found.window_layers) == (512, 22)
    assert architecture_of(config | {"sliding_window_pattern": 2}, "m").window_layers == 13


def test_a_config_json_with_a_key_twice(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA)[:-1] + ', "vocab_size": 5}')
    assert "key 'vocab_size' is there twice" in error_of(find_architecture, path)


def test_a_config_that_is_none():
    assert "the keys of a Hugging Face config.json" in error_of(architecture_of, [1], "m")
    too_many = MIXTURE | {"num_experts_per_tok": 9}
    assert "experts_per_token is 9; allowed: at most 8" in error_of(architecture_of, too_many, "m")


@pytest.mark.parametrize(
    ("quantisation", "expected"),
    [
        (None, "bf16"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "g": {"weights": {"num_bits": 8, "type": "float"}, "input_activations": {"num_bits": 8}}
                },
            },
            "fp8",
        ),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "g": {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8}}
                },
            },
            "w8a8",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}, "input_activations": None}},
            },
            "int8",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": {"weights": {"num_bits": 4, "type": "float"}, "input_activations": None}},
            },
            "nvfp4a16",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
            },
            "int4",
        ),
    ],
)
def test_formats_of_quantised_checkpoints(quantisation, expected):
    assert format_of(quantisation, "m") == expected


@pytest.mark.parametrize(
    "quantisation",
    [
        {"quant_method": "gptq", "bits": 3},
        {"quant_method": "modelopt", "quant_algo": "W4A8"},
        {"quant_method": "compressed-tensors"},
        {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": None}}},
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}, "input_activations": {"num_bits": 8}}},
        },
        "fp8",
    ],
)
def test_formats_that_are_not_known(quantisation):
    assert "m: quantization_config" in error_of(format_of, quantisation, "m")


# ------------------------------------------------------------------ work


def test_weights_of_formats():
    llama = find_architecture("llama-3.3-70b")
    assert ModelWork.of(llama).weight_bytes == pytest.approx(2 * llama.parameters)
    # NVIDIA's checkpoint of this model in NVFP4 takes 42.7 GB: embeddings and LM head stay in 16 bits.
    assert ModelWork.of(llama, weights="nvfp4").weight_bytes == pytest.approx(42.7e9, rel=0.01)
    # The card of gpt-oss-120b says 60.8 GiB: only its experts are in MXFP4.
    gpt = ModelWork.of(find_architecture("gpt-oss-120b"))
    assert gpt.weight_bytes == pytest.approx(60.8 * GIB, rel=0.02)


def test_shards_share_the_work():
    llama = find_architecture("llama-3.1-8b")
    one, four, sixteen = (ModelWork.of(llama, tp=tp) for tp in (1, 4, 16))
    assert four.flops_per_token == pytest.approx(one.flops_per_token / 4)
    assert four.weight_bytes * 4 == pytest.approx(one.weight_bytes)
    assert (one.all_reduces, four.all_reduces) == (0, 65)
    # Eight key-value heads on 16 shards: every head is kept twice.
    assert sixteen.kv_bytes_per_token == pytest.approx(one.kv_bytes_per_token / 8)
    assert kv_shape(llama).bytes_per_token() == one.kv_bytes_per_token == 131_072
    assert "tp is 3; allowed: a divisor of the 32 heads" in error_of(ModelWork.of, llama, tp=3)
    assert "unknown weight format 'fp7'" in error_of(ModelWork.of, llama, weights="fp7")
    assert "unknown KV cache type" in error_of(ModelWork.of, llama, kv_dtype="int3")


def test_more_tokens_touch_more_experts():
    mixture = ModelWork.of(architecture_of(MIXTURE, "m"))
    assert mixture.weights_read(1) == pytest.approx(mixture.dense_bytes + 2 * mixture.expert_bytes)
    assert mixture.weights_read(2) == pytest.approx(mixture.dense_bytes + 3.5 * mixture.expert_bytes)
    assert mixture.weights_read(1000) == pytest.approx(mixture.dense_bytes + 8 * mixture.expert_bytes)


# ------------------------------------------------------------------ GPUs


@pytest.mark.parametrize("name", shipped("gpus"))
def test_every_gpu_is_whole_and_names_its_sources(name):
    gpu = find_gpu(name)
    assert gpu.source
    assert gpu.driver_memory_source
    assert gpu.memory_bytes < gpu.memory_gb * GIB
    assert gpu.flops_per_s("fp8") >= gpu.flops_per_s("bf16")


def test_weights_alone_in_eight_bits_are_multiplied_in_sixteen():
    llama = find_architecture("llama-3.1-8b")
    alone, both = (ModelWork.of(llama, weights=name) for name in ("int8", "w8a8"))
    assert (alone.math_format, both.math_format) == ("bf16", "fp8")
    assert alone.weight_bytes == both.weight_bytes


def test_formats_that_a_gpu_lacks_are_computed_in_bf16():
    assert find_gpu("a100-80gb").flops_per_s("fp8") == 312e12
    assert find_gpu("h100").flops_per_s("fp4") == pytest.approx(989.4e12)
    assert find_gpu("NVIDIA B200").flops_per_s("fp4") == 9e15


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"bandwidth_gb_per_s": 3.35}, "bandwidth_gb_per_s is 3.35; allowed: 50 to 100000 GB/s. Check its unit"),
        ({"bf16_tflops": 3e14}, "bf16_tflops is 300000000000000.0"),
        ({"memory_gb": float("nan")}, "memory_gb is nan"),
        ({"driver_memory_gib": 8.5e10}, "Give what torch.cuda.mem_get_info() reports"),
        ({"sms": 0}, "sms is 0"),
        ({"fp8_tflops": -1}, "fp8_tflops is -1"),
        ({"source": 3}, "source is 3"),
    ],
)
def test_gpu_figures_out_of_range(change, expected):
    assert expected in error_of(lambda: GpuSpec(name="x", **GPU | change))


# ------------------------------------------------------------------ files of users


def test_a_users_catalogues(tmp_path):
    gpus = tmp_path / "gpus.yaml"
    gpus.write_text(json.dumps({"gpus": {"mine": GPU | {"aliases": ["My Card"]}, "h100-80gb": GPU}}))
    assert find_gpu("my card", gpus).name == "mine"
    assert find_gpu("h100-80gb", gpus).sms == 100
    assert find_gpu("b200", gpus).sms == 148
    # YAML 1.1 takes an exponent without a sign for a text.
    gpus.write_text(gpus.read_text().replace('"bf16_tflops": 300', '"bf16_tflops": 3.0e2'))
    assert find_gpu("my card", gpus).bf16_tflops == 300
    models = tmp_path / "models.yaml"
    models.write_text(json.dumps({"architectures": {"tiny": {"config": LLAMA, "source": "me", "parameters": 202048}}}))
    assert find_architecture("tiny", models).source == "me"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"gpu": {}}, "the one key 'gpus'"),
        ({"gpus": {"mine": 3}}, "gpus.mine is 3"),
        ({"gpus": {"mine": GPU | {"bandwith": 3}}}, "unknown key of GPU mine 'bandwith'; did you mean 'bandwidth"),
        ({"gpus": {"mine": {key: value for key, value in GPU.items() if key != "sms"}}}, "lacks the key 'sms'"),
        ({"gpus": {"mine": GPU | {"aliases": "x"}}}, "gpus.mine.aliases is 'x'"),
    ],
)
def test_wrong_catalogues(tmp_path, content, expected):
    path = tmp_path / "gpus.yaml"
    path.write_text(json.dumps(content))
    assert expected in error_of(find_gpu, "mine", path)


def test_wrong_architecture_entries(tmp_path):
    path = tmp_path / "models.yaml"
    for entry, expected in (
        ({"config": LLAMA, "parameters": 1e6}, "within 2 % of 202048, which follows from its config"),
        ({"config": LLAMA, "layers": 3}, "allowed: the keys config, parameters, source"),
        ({"source": "me"}, "tiny: config is None"),
    ):
        path.write_text(json.dumps({"architectures": {"tiny": entry}}))
        assert expected in error_of(find_architecture, "tiny", path)


# ------------------------------------------------------------------ engines


def test_defaults_by_version(tmp_path):
    old, middle, new = find_engine("0.5.4"), find_engine("0.11.0"), find_engine()
    assert (old.scheduler, middle.scheduler, new.scheduler) == ("vllm-v0", "vllm-v1", "vllm-v1")
    assert (middle.gpu_memory_utilization, new.gpu_memory_utilization) == (0.9, 0.92)
    assert (middle.async_scheduling, find_engine("v0.15.0").async_scheduling) == (False, True)
    assert find_engine("0.32").token_budget(find_gpu("h100")) == 8192
    assert find_engine("0.32").token_budget(find_gpu("a100-80gb")) == 2048
    assert find_engine("0.32").token_budget(find_gpu("l40s")) == 2048
    assert find_engine("0.32").token_budget(find_gpu("b200")) == 16384
    assert find_engine("0.5").token_budget(find_gpu("b200")) == 2048
    assert "allowed: version 0.1 or later" in error_of(find_engine, "0.0")
    assert "a version such as '0.11'" in error_of(find_engine, "latest")
    path = tmp_path / "engines.yaml"
    path.write_text(json.dumps({"engines": {"0.40": {"scheduler": "vllm-v1"}}}))
    assert re.search("engine 0.40 lacks the key", error_of(find_engine, "0.41", path))
    assert find_engine("0.39", path) == new
    path.write_text(json.dumps({"engines": {"0.40": shipped("engines")["0.21"] | {"gpu_memory_utilization": 92}}}))
    assert "gpu_memory_utilization is 92; allowed: a share" in error_of(find_engine, "0.40", path)
    for budgets in ({}, {"0": 2048}, 2048):
        path.write_text(json.dumps({"engines": {"0.40": shipped("engines")["0.21"] | {"token_budgets": budgets}}}))
        assert "token_budgets is" in error_of(find_engine, "0.40", path)
