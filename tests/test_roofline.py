"""The synthetic step-time model: its limits, its breakpoints, and how far it is from real engines."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from latency_models.catalogue.architectures import architecture_of, find_architecture
from latency_models.catalogue.gpus import find_gpu
from latency_models.catalogue.model_work import ModelWork
from latency_models.config import build_step_time, parse_latency
from latency_models.contract import check_step_time_model
from latency_models.errors import InputError
from latency_models.laws.roofline import RooflineStepTime

H100 = find_gpu("h100-80gb")


def roofline(**options):
    section = {"kind": "roofline", "gpu": "h100-80gb", "model": "llama-3.1-8b"}
    return build_step_time(parse_latency(section | options))


def prefill_s(model, tokens):
    return model.step_s(tokens, 1, tokens, tokens * tokens / 2, 0, 0, 1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model": "qwen3-30b-a3b", "tp": 2, "compute_share": 0.3},
        # Windows of 128 and of 4096 tokens: runs end where they fill.
        {"model": "gpt-oss-120b"},
        {"model": "mistral-7b-v0.1", "tp": 8},
        {"model": "llama-3.3-70b", "gpu": "b200", "weights": "nvfp4", "kv_cache": "fp8"},
        # Launching takes longer than the work of small steps.
        {"model": "toys", "kernel_s": 2e-6, "overhead_s": 0},
        {"model": "gemma-2-2b", "kernel_s": 2e-5},
    ],
)
def test_the_contract_of_step_time_models(options):
    check_step_time_model(roofline(**options), longest_run=20_000)


@given(
    seqs=st.integers(1, 300),
    mean=st.integers(1, 6000),
    kernel_s=st.floats(0, 1e-4),
    name=st.sampled_from(["gpt-oss-20b", "mistral-7b-v0.1", "llama-3.1-8b"]),
)
def test_a_run_says_what_its_steps_take_one_by_one(seqs, mean, kernel_s, name):
    model = RooflineStepTime(gpu=H100, work=ModelWork.of(find_architecture(name)), kernel_s=kernel_s)
    first_s, growth_s, steps = model.decode_run(seqs, seqs * mean)
    for step in {0, min(steps, 10_000) // 2, min(steps, 10_000) - 1}:
        alone_s = model.step_s(seqs, 0, 0, 0.0, seqs, seqs * (mean + step), seqs)
        assert first_s + growth_s * step == pytest.approx(alone_s, rel=1e-9)


def test_a_decode_step_reads_the_weights_and_a_long_prefill_multiplies():
    work = ModelWork.of(find_architecture("llama-3.1-8b"))
    model = RooflineStepTime(
        gpu=H100, work=work, compute_efficiency=1, memory_efficiency=1, kernel_s=0, overhead_s=0.5e-3
    )
    # By hand: 32 layers of 218.1 million weights and the head of 525.3 million, 16 bits each, at 3.35 TB/s.
    read_s = 2 * (32 * 218.1e6 + 525.3e6) / 3.35e12
    assert model.decode_run(1, 1)[0] == pytest.approx(0.5e-3 + read_s, rel=1e-3)
    multiply_s = 2 * 32 * 218.1e6 * 8192 / 989.4e12
    pairs_s = 32 * 4 * 4096 * 8192**2 / 2 / 989.4e12
    head_s = 2 * 525.3e6 / 3.35e12
    assert prefill_s(model, 8192) == pytest.approx(0.5e-3 + multiply_s + pairs_s + head_s, rel=1e-3)


def test_fewer_bits_and_more_shards_and_a_better_gpu_are_faster():
    base = roofline(kernel_s=0)
    for options in ({"weights": "fp8"}, {"tp": 2}, {"gpu": "h200"}):
        faster = roofline(kernel_s=0, **options)
        assert faster.decode_run(8, 8000)[0] < base.decode_run(8, 8000)[0]
        assert prefill_s(faster, 4096) <= prefill_s(base, 4096)
    assert roofline(kv_cache="fp8").decode_run(64, 640_000)[1] == pytest.approx(
        roofline().decode_run(64, 640_000)[1] / 2
    )
    # An A100 multiplies FP8 weights in bf16: it reads less, and computes no faster.
    on_a100 = [prefill_s(roofline(gpu="a100-80gb", weights=name), 8192) for name in ("bf16", "fp8")]
    assert on_a100[0] == pytest.approx(on_a100[1])


def test_a_share_of_the_sms_slows_prefill_and_then_decode():
    whole, half, fifth = (roofline(compute_share=share, kernel_s=0, overhead_s=0) for share in (1.0, 0.5, 0.2))
    assert prefill_s(half, 8192) == pytest.approx(2 * prefill_s(whole, 8192), rel=0.02)
    assert 1.1 < half.decode_run(1, 100)[0] / whole.decode_run(1, 100)[0] < 1.3
    assert fifth.decode_run(1, 100)[0] > 1.5 * whole.decode_run(1, 100)[0]


def test_a_window_bounds_the_context_that_is_read():
    llama = {
        "model_type": "mistral",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 32000,
    }
    windowed, full = (
        RooflineStepTime(gpu=H100, work=ModelWork.of(architecture_of(llama | {"sliding_window": window}, "m")))
        for window in (1000, None)
    )
    assert windowed.decode_run(16, 16 * 900)[0] == full.decode_run(16, 16 * 900)[0]
    assert windowed.decode_run(16, 16 * 900)[2] == 101
    assert windowed.decode_run(16, 16 * 5000)[:2] == (windowed.decode_run(16, 16 * 1000)[0], 0.0)
    assert prefill_s(windowed, 8000) < prefill_s(full, 8000)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"gpu": "h1000"}, "unknown GPU 'h1000'; did you mean 'h100"),
        ({"model": "llama-9-8b"}, "unknown model architecture 'llama-9-8b'"),
        ({"weights": "fp3"}, "unknown weight format 'fp3'"),
        ({"kv_cache": "fp3"}, "unknown KV cache type 'fp3'"),
        ({"tp": 3}, "tp is 3; allowed: a divisor of the 32 heads"),
        ({"compute_share": 0}, "compute_share"),
        ({"memory_efficiency": 1.2}, "memory_efficiency"),
        ({"compute_efficiency": math.nan}, "compute_efficiency"),
        ({"overhead_s": 5}, "overhead_s is 5.0; allowed: seconds, below 1. Are these milliseconds?"),
        ({"kernel_s": -1e-6}, "kernel_s"),
        ({"model": {"path": "nowhere/config.json"}}, "cannot read model config nowhere/config.json"),
        ({"model": {"path": "models.yaml"}}, "cannot read catalogue models.yaml"),
        ({"model": {"path": "."}}, "path is '.'; allowed: a YAML catalogue (with name), or a model's config.json"),
        ({"gpu": {"path": "config.json"}}, "allowed: a YAML catalogue of GPUs"),
    ],
)
def test_sections_that_make_no_sense(options, expected):
    with pytest.raises((ValidationError, InputError)) as caught:
        roofline(**options)
    assert expected in str(caught.value)


def test_a_lone_client_of_codellama_on_h100(data_root):
    """Defaults only, nothing fitted on this log: the model is for comparing designs, so 10 % is close."""
    import pandas as pd

    log = pd.read_csv(data_root / "data" / "blis_vllm_h100" / "codellama34b_tp1_train.csv").head(20)
    decode_s = (log.decode_s / (log.output_tokens - 1)).median()
    prefill_per_token_s = (log.prefill_s / log.prompt_tokens).median()
    model = roofline(model="codellama-34b")
    assert model.decode_run(1, 3500)[0] == pytest.approx(decode_s, rel=0.1)
    assert prefill_s(model, 3000) / 3000 == pytest.approx(prefill_per_token_s, rel=0.1)
