"""Latency kind ``operators``: composition, interpolation, outliers, sources, bad input, and the real tables."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from latency_models.catalogue.architectures import Architecture
from latency_models.config import build_step_time, parse_latency
from latency_models.contract import check_step_time_model
from latency_models.errors import InputError
from latency_models.tables.operator_composition import OperatorSetup, compose_operators
from latency_models.tables.operator_curves import Attention, MatrixProducts, complete, split_contexts, without_outliers
from latency_models.tables.operator_tables import CsvTables, PackageTables

# A GPU of round numbers: kernels of 2 us, 1e12 weights (2 bytes each) and 4e14 multiplications a second.
START_S = 2e-6
WEIGHTS_PER_S = 1e12
PRODUCTS_PER_S = 4e14
QUANTISE_S = 5e-6

SIZES = (1, 8, 64, 512, 4096)
WIDTHS = (64, 128, 256, 512, 1024, 4096)
LENGTHS = (1, 16, 128, 1024, 4096)
BATCHES = (1, 4, 16, 64)
HEADS = ((1, 1), (2, 1), (2, 2), (4, 2), (8, 2))

TINY = Architecture(
    name="tiny", layers=4, hidden=512, heads=4, kv_heads=2, head_dim=128, intermediate=1024, vocabulary=4096
)
MIXED = replace(
    TINY, name="mixed", intermediate=0, moe_layers=4, experts=64, experts_per_token=2, expert_intermediate=256
)


def product_s(m: float, n: float, k: float, weights: str = "bfloat16") -> float:
    faster = 1.0 if weights == "bfloat16" else 2.0
    return START_S + n * k / WEIGHTS_PER_S / faster + m * n * k / PRODUCTS_PER_S / faster


def prefill_s(batch: float, tokens: float, heads: float) -> float:
    return START_S + batch * tokens**2 / 2.0 * heads * 1e-12


def decode_s(batch: float, tokens: float, kv_heads: float) -> float:
    return START_S + batch * tokens * kv_heads * 1e-9


def reduce_s(elements: float) -> float:
    return 3e-6 + elements * 1e-11


def tables_as_rows() -> dict[str, tuple[str, list[str]]]:
    """Header and lines of every operator's file."""
    gemm = [
        f"{kind},{m},{n},{k},{1e3 * (product_s(m, n, k, kind) + (QUANTISE_S if kind == 'fp8' else 0.0))}"
        for kind in ("bfloat16", "fp8")
        for m in SIZES
        for n in WIDTHS
        for k in WIDTHS
    ]
    context = [
        f"bfloat16,{kind},{b},{length},{h},{kv},128,0,{1e3 * prefill_s(b, length, h)}"
        for kind in ("bfloat16", "fp8")
        for b in BATCHES
        for length in LENGTHS
        for h, kv in HEADS
        if b * length <= 16384
    ]
    generation = [
        f"bfloat16,{kind},{b},1,{h},{kv},128,{length},{1e3 * decode_s(b, length, kv)}"
        for kind in ("bfloat16", "fp8")
        for b in BATCHES
        for length in LENGTHS
        for h, kv in HEADS
        if b * length <= 65536
    ]
    attention = "attn_dtype,kv_cache_dtype,batch_size,isl,num_heads,num_key_value_heads,head_dim,step,latency_ms"
    allreduce = [
        f"bfloat16,{gpus},{1 << bits},vllm_graph,{1e3 * reduce_s(1 << bits)}"
        for gpus in (2, 4)
        for bits in range(7, 24)
    ]
    moe = [
        f"bfloat16,{tokens},512,256,2,64,{tp},{ep},power_law_1.2,{1e3 * (1e-5 + 1e-8 * tokens)}"
        for tokens in SIZES
        for tp, ep in ((1, 1), (2, 1), (1, 2))
    ]
    return {
        "gemm": ("gemm_dtype,m,n,k,latency_ms", gemm),
        "context_attention": (attention, context),
        "generation_attention": (attention, generation),
        "allreduce": ("allreduce_dtype,num_gpus,message_size,backend,latency_ms", allreduce),
        "moe": (
            "moe_dtype,num_tokens,hidden_size,inter_size,topk,num_experts,moe_tp_size,moe_ep_size,distribution,latency_ms",
            moe,
        ),
    }


def write_tables(folder: Path, *, change: Callable[[str, str], str] = lambda _, text: text) -> Path:
    prefix = folder / "gpu"
    for operator, (header, lines) in tables_as_rows().items():
        text = change(operator, "\n".join([header, *lines, ""]))
        if operator == "allreduce":
            (folder / "gpu_allreduce.csv").write_text(text)
        else:
            (folder / f"gpu_{operator}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return prefix


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def tables(prefix: Path) -> CsvTables:
    return CsvTables(prefix=prefix)


def layer_s(tokens: int, tp: int, products: float) -> float:
    """Everything of a layer of the tiny model but attention."""
    heads, kv_heads, width = 4 // tp, max(2 // tp, 1), 1024 // tp
    projected = (heads + 2 * kv_heads) * 128
    moved = 8 * 512 + 2 * projected + 2 * kv_heads * 128 + 3 * width
    best_read = 4096 * 4096 / product_s(1, 4096, 4096)
    element_wise = 5 * product_s(1, 64, 64) + moved * tokens / best_read
    return products + element_wise + (2 * reduce_s(tokens * 512) if tp > 1 else 0.0)


# -- composition -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tp", [1, 2])
def test_a_decode_step_is_the_sum_of_its_operators(tables: CsvTables, tp: int) -> None:
    model = compose_operators(tables, TINY, OperatorSetup(tp=tp, sustained=1e6))
    heads, kv_heads, width = 4 // tp, max(2 // tp, 1), 1024 // tp
    shapes = [((heads + 2 * kv_heads) * 128, 512), (512, heads * 128), (2 * width, 512), (512, width)]
    products = sum(product_s(8, n, k) for n, k in shapes)
    # 129 tokens of context: 128 are in the cache when the step begins.
    attention = decode_s(8, 128, kv_heads)
    expected = 4 * (layer_s(8, tp, products) + attention) + product_s(8, 4096 / tp, 512)
    assert model.decode_run(8, 8 * 129)[0] == pytest.approx(expected, rel=1e-3)


def test_a_prefill_step_adds_up_and_samples_only_what_ends(tables: CsvTables) -> None:
    model = compose_operators(tables, TINY, OperatorSetup(tp=1, sustained=1e6))
    whole = (512, 4, 512, 4 * 128**2 / 2.0, 0, 0)
    shapes = [(1024, 512), (512, 512), (2048, 512), (512, 1024)]
    expected = 4 * (layer_s(512, 1, sum(product_s(512, n, k) for n, k in shapes)) + prefill_s(4, 128, 4))
    assert model.step_s(*whole, 0) == pytest.approx(expected, rel=1e-3)
    assert model.step_s(*whole, 8) - model.step_s(*whole, 0) == pytest.approx(product_s(8, 4096, 512), rel=1e-3)


def test_a_chunk_behind_context_pays_for_its_pairs(tables: CsvTables) -> None:
    model = compose_operators(tables, TINY, OperatorSetup(tp=1))
    first = model.step_s(1024, 1, 1024, 1024**2 / 2.0, 0, 0, 0)
    second = model.step_s(1024, 1, 2048, 1024 * (1024 + 512.0), 0, 0, 0)
    pair_s = min(2.0 * prefill_s(b, n, 4) / (b * n**2) for b in BATCHES for n in LENGTHS if b * n <= 16384)
    assert second - first == pytest.approx(4 * 1024 * 1024 * pair_s, rel=0.05)
    # A chunk of one token is bound by reading the keys and values of its context.
    short = model.step_s(1, 1, 1025, 1024 + 0.5, 0, 0, 0) - model.step_s(1, 1, 1, 0.5, 0, 0, 0)
    best_bytes_per_s = 2 * 4096 * 4096 / product_s(1, 4096, 4096)
    assert short == pytest.approx(4 * 1024 * (2 * 2 * 128 * 2) / best_bytes_per_s, rel=1e-6)


def test_chunks_longer_than_measured_pay_for_their_pairs(tables: CsvTables) -> None:
    model = compose_operators(tables, TINY, OperatorSetup(tp=1))
    dense_only = compose_operators(tables, replace(TINY, window=1, window_layers=4), OperatorSetup(tp=1))
    attention = [
        model.step_s(n, 1, n, n**2 / 2.0, 0, 0, 0) - dense_only.step_s(n, 1, n, n**2 / 2.0, 0, 0, 0)
        for n in (4096, 16384)
    ]
    assert attention[1] == pytest.approx(16 * attention[0], rel=0.2)


def test_mixed_steps_pay_for_both_kinds(tables: CsvTables) -> None:
    model = compose_operators(tables, TINY, OperatorSetup(tp=1))
    prefill = (128, 1, 128, 128**2 / 2.0, 0, 0, 1)
    mixed = (128 + 16, 1, 128, 128**2 / 2.0, 16, 16 * 1025, 17)
    assert model.step_s(*mixed) - model.step_s(*prefill) >= 4 * decode_s(16, 1024, 2)


def test_runs_of_decode_steps_are_exact(tables: CsvTables) -> None:
    for setup in (OperatorSetup(tp=1), OperatorSetup(tp=2, gemm="fp8", kv_cache="fp8")):
        check_step_time_model(compose_operators(tables, TINY, setup))
    check_step_time_model(compose_operators(tables, replace(TINY, window=100, window_layers=2), OperatorSetup(tp=1)))


def test_a_run_ends_at_the_next_measured_context(tables: CsvTables) -> None:
    model = compose_operators(tables, TINY, OperatorSetup(tp=1))
    assert model.decode_run(4, 4 * 101)[2] == 128 - 100 + 1
    assert model.decode_run(4, 4 * 100_000)[2] > 10**9


def test_fp8_is_faster_and_its_quantisation_is_fused(tables: CsvTables) -> None:
    plain = MatrixProducts(tables, "bfloat16")
    fp8 = MatrixProducts(tables, "fp8")
    assert fp8.time_s(8, 1024, 512) - product_s(8, 1024, 512, "fp8") == pytest.approx(QUANTISE_S, rel=1e-6)
    bf16_s = compose_operators(tables, TINY, OperatorSetup(tp=1)).decode_run(8, 8 * 100)[0]
    fp8_s = compose_operators(tables, TINY, OperatorSetup(tp=1, gemm="fp8")).decode_run(8, 8 * 100)[0]
    assert plain.time_s(8, 1024, 512) > 0.0
    assert fp8_s < bf16_s


def test_long_steps_do_not_beat_what_the_gpu_sustains(tables: CsvTables) -> None:
    step = (4096, 1, 4096, 4096**2 / 2.0, 0, 0, 0)
    free = compose_operators(tables, TINY, OperatorSetup(tp=1, sustained=1e6)).step_s(*step)
    half = compose_operators(tables, TINY, OperatorSetup(tp=1, sustained=0.5)).step_s(*step)
    best = MatrixProducts(tables, "bfloat16").products_per_s
    shapes = [(1024, 512), (512, 512), (2048, 512), (512, 1024)]
    slower = sum(4096 * n * k / (0.5 * best) - product_s(4096, n, k) for n, k in shapes)
    assert half - free == pytest.approx(4 * slower, rel=1e-3)
    # Decodes read weights, which is not limited by power.
    decode = [
        compose_operators(tables, TINY, OperatorSetup(tp=1, sustained=share)).decode_run(4, 400)[0]
        for share in (0.5, 1e6)
    ]
    assert decode[0] == decode[1]


def test_mixtures_run_their_experts_and_router(tables: CsvTables) -> None:
    model = compose_operators(tables, MIXED, OperatorSetup(tp=2, ep=2))
    dense = compose_operators(tables, replace(TINY, intermediate=64), OperatorSetup(tp=2))
    router_s, expert_s = product_s(8, 64, 512), 1e-5 + 1e-8 * 8
    mlp_s = product_s(8, 64, 512) + product_s(8, 512, 32)
    added = model.decode_run(8, 800)[0] - dense.decode_run(8, 800)[0]
    assert added == pytest.approx(4 * (router_s + expert_s - mlp_s), rel=0.05)


def test_a_window_bounds_what_decodes_read(tables: CsvTables) -> None:
    windowed = compose_operators(tables, replace(TINY, window=128, window_layers=4), OperatorSetup(tp=1))
    near, growth_s, _ = windowed.decode_run(4, 4 * 129)
    assert growth_s == 0.0
    assert windowed.decode_run(4, 4 * 4000)[0] == near
    whole = compose_operators(tables, TINY, OperatorSetup(tp=1))
    step = (4096, 1, 4096, 4096**2 / 2.0, 0, 0, 0)
    assert windowed.step_s(*step) < whole.step_s(*step)


# -- interpolation and outliers ----------------------------------------------------------------------------------------


def test_products_between_measured_shapes_are_exact_in_both_limits(tables: CsvTables) -> None:
    products = MatrixProducts(tables, "bfloat16")
    for m, n, k in ((1, 300, 700), (100, 300, 700), (4096, 2000, 3000), (6000, 4000, 3000), (4096, 9000, 512)):
        assert products.time_s(m, n, k) == pytest.approx(product_s(m, n, k), rel=0.06), (m, n, k)


def test_heads_between_measured_ones_and_more_kv_heads_than_measured(tables: CsvTables) -> None:
    def decode(heads: int, kv_heads: int) -> Attention:
        return Attention(
            tables, "generation_attention", kv_cache="bfloat16", head_dim=128, heads=heads, kv_heads=kv_heads
        )

    assert decode(6, 2).law(4, 1024)[0] == pytest.approx(decode_s(4, 1024, 2), rel=1e-6)
    # Eight sequences of 2 KV heads each work like two of 8.
    assert decode(32, 8).law(4, 1024)[0] == pytest.approx(decode(8, 2).law(16, 1024)[0], rel=1e-9)
    with pytest.raises(InputError, match="heads / KV heads"):
        decode(64, 2)


def test_outliers_move_to_what_the_other_times_allow() -> None:
    clean = {1.0: 10.0, 2.0: 11.0, 4.0: 13.0, 8.0: 20.0}
    assert without_outliers(clean) == clean
    assert without_outliers({**clean, 4.0: 90.0})[4.0] == 20.0
    assert without_outliers({**clean, 8.0: 400.0})[8.0] == 26.0
    assert without_outliers({**clean, 4.0: 19.0})[4.0] == 19.0


def test_missing_long_contexts_grow_like_those_of_smaller_batches() -> None:
    filled = complete({1.0: {1.0: 5.0, 10.0: 6.0, 100.0: 16.0}, 4.0: {1.0: 5.0, 10.0: 9.0}})
    assert filled[4.0][100.0] == pytest.approx(9.0 + 4 * (16.0 - 6.0))
    assert filled[1.0] == {1.0: 5.0, 10.0: 6.0, 100.0: 16.0}


def test_few_sequences_may_split_their_contexts() -> None:
    times = {1.0: {1.0: 5.0, 400.0: 100.0}, 4.0: {1.0: 5.0, 100.0: 20.0, 400.0: 110.0}}
    split = split_contexts(times, 2.0)
    assert split[1.0][400.0] == 22.0
    assert split[1.0][1.0] == 5.0
    assert split[4.0] == times[4.0]


# -- sections and sources ----------------------------------------------------------------------------------------------


def section(prefix: Path, **changes: Any) -> dict[str, Any]:
    values = {"kind": "operators", "path": str(prefix), "model": "llama-3.1-8b", "tp": 1, **changes}
    return {key: value for key, value in values.items() if value is not None}


@pytest.fixture
def model_file(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "config.json"
    path.write_text(
        '{"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 512, "num_attention_heads": 4, '
        '"num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 1024, "vocab_size": 4096}'
    )
    return {"path": str(path)}


def test_the_section_builds_the_model(prefix: Path, tables: CsvTables, model_file: dict[str, str]) -> None:
    built = build_step_time(parse_latency(section(prefix, model=model_file, tp=2, gemm="fp8")))
    expected = compose_operators(tables, TINY, OperatorSetup(tp=2, gemm="fp8"))
    assert built.decode_run(8, 800) == expected.decode_run(8, 800)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tp": 3}, "latency.tp is 3; allowed: such that the 4 heads of .* divide by 3"),
        ({"tp": 2, "ep": 2}, "latency.ep is 2; allowed: 1, as .* has no experts"),
        ({"experts": "fp8"}, "latency.experts is 'fp8'; allowed: nothing"),
        ({"expert_choice": "balanced"}, "latency.expert_choice is 'balanced'; allowed: nothing"),
        ({"tp": 0}, "greater than or equal to 1"),
        ({"gemm": "fp7"}, "unknown format in latency.gemm 'fp7'"),
        ({"gemm": "nvfp4"}, "unknown weight format"),
        ({"kv_cache": "int4"}, "unknown format in latency.kv_cache"),
        ({"experts": "int2"}, "unknown format in latency.experts"),
        ({"ep": 2}, "latency.ep is 2; allowed: a divisor of tp"),
        ({"sustained": 0.0}, "greater than 0"),
        ({"sustained": float("nan")}, "finite number"),
        ({"path": "/nowhere/gpu"}, "there is no /nowhere/gpu_gemm.csv.gz or gpu_gemm.csv"),
        ({"path": None}, "give either path or system"),
        ({"system": "h100_sxm"}, "give either path or system"),
        ({"version": "0.14.0"}, "version has no effect with path"),
        ({"model": "no-such-model"}, "unknown model architecture"),
        ({"speed": 2}, "Extra inputs"),
    ],
)
def test_bad_sections_are_refused(
    prefix: Path, model_file: dict[str, str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        parse_latency(section(prefix, **{"model": model_file, **changes}))


def test_experts_that_were_not_measured_are_named(tables: CsvTables) -> None:
    with pytest.raises(InputError, match=r"unknown experts .*'bfloat16/512/512/2/64/1/1/power_law_1.2'.*512/256/2/64"):
        compose_operators(tables, replace(MIXED, expert_intermediate=512), OperatorSetup(tp=1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gemm_dtype,m,", "gemm_dtype,tokens,", "header of .*gemm"),
        ("gemm_dtype,m,", "format,m,", "gemm_dtype"),
        ("bfloat16,8,64,64,", "bfloat16,8,64,64,-", "a finite number >= 0"),
        ("bfloat16,8,64,64,", "bfloat16,8,64,64,nan", "a finite number >= 0"),
        ("bfloat16,8,64,64,", "bfloat16,8,64,64,0\nbfloat16,8,64,64,", "a finite number > 0"),
        ("bfloat16,8,64,64,", "bfloat16,-8,64,64,", "a finite number >= 0"),
        ("bfloat16,8,64,64,", ",8,64,64,", "gemm_dtype"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    damaged = write_tables(
        tmp_path, change=lambda operator, text: text.replace(old, new) if operator == "gemm" else text
    )
    with pytest.raises(InputError, match=message):
        compose_operators(CsvTables(prefix=damaged), TINY, OperatorSetup(tp=1))


def test_without_the_package_a_system_is_refused(monkeypatch: pytest.MonkeyPatch, prefix: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValidationError, match=r"Install routerwise\[aiconfigurator\]"):
        parse_latency(section(prefix, path=None, system="h100_sxm"))


def test_the_packages_tables_fall_back_to_older_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: CsvTables
) -> None:
    write_package(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    newest = PackageTables(system="my_gpu")
    assert newest.groups("gemm").keys() == tables.groups("gemm").keys()
    for setup in (OperatorSetup(tp=1), OperatorSetup(tp=2, gemm="fp8", kv_cache="fp8")):
        run = compose_operators(newest, TINY, setup).decode_run(8, 800)
        assert run == pytest.approx(compose_operators(tables, TINY, setup).decode_run(8, 800))
    # Version 0.13 has no all-reduce: the one of 0.12 stands in; and there is nothing older.
    assert PackageTables(system="my_gpu", version="0.13.5").groups("allreduce")
    with pytest.raises(InputError, match=r"latency.version is '0.12.9'; allowed: at least one with a gemm table"):
        PackageTables(system="my_gpu", version="0.12.9").groups("gemm")
    with pytest.raises(InputError, match="unknown system of aiconfigurator-core 'my_gp'; did you mean 'my_gpu'"):
        PackageTables(system="my_gp").groups("gemm")


def write_package(folder: Path) -> None:
    """The package's folders, with vLLM 0.13.0 tables of everything but the all-reduce, which is of 0.12.0."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    arrow = pytest.importorskip("pyarrow")
    places = {
        "gemm": "gemm/vllm/0.13.0/gemm_perf.parquet",
        "context_attention": "attention/vllm/0.13.0/context_attention_perf.parquet",
        "generation_attention": "attention/vllm/0.13.0/generation_attention_perf.parquet",
        "allreduce": "comm/vllm/0.12.0/custom_allreduce_perf.parquet",
        "moe": "moe/vllm/0.13.0/moe_perf.parquet",
    }
    for operator, (header, lines) in tables_as_rows().items():
        names = header.replace("latency_ms", "latency").split(",")
        columns = dict(zip(names, zip(*(line.split(",") for line in lines), strict=True), strict=True))
        typed: dict[str, list[Any]] = {
            name: [number_or_name(cell) for cell in cells] for name, cells in columns.items()
        }
        if "attention" in operator:
            typed["window_size"] = [0] * len(lines)
        path = folder / "aiconfigurator_core/systems/data/my_gpu" / places[operator]
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(arrow.table(typed), path)
    (folder / "aiconfigurator_core/__init__.py").touch()


def number_or_name(cell: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


# -- the real tables ---------------------------------------------------------------------------------------------------

DATA = os.environ.get("ROUTERWISE_DATA")


@pytest.mark.skipif(DATA is None, reason="ROUTERWISE_DATA is not set")
@pytest.mark.parametrize(
    ("model", "gemm", "tp", "clients", "tpot_s"),
    # TPOT of closed loops of 1024 prompt and output tokens, whose prefills disturb few of the steps.
    [
        ("llama-3.1-70b", "fp8", 2, 4, 17.41e-3),
        ("llama-3.1-70b", "fp8", 8, 8, 9.36e-3),
        ("qwen3-32b", "bf16", 2, 8, 15.90e-3),
        ("qwen3-32b", "bf16", 8, 8, 7.96e-3),
    ],
)
def test_real_operators_are_just_below_the_measured_step(
    model: str, gemm: str, tp: int, clients: int, tpot_s: float
) -> None:
    path = f"{DATA}/data/aiconfigurator_vllm_ops/h100_sxm"
    built = build_step_time(parse_latency(section(Path(path), model=model, tp=tp, gemm=gemm)))
    check_step_time_model(built)
    # Between them is what the tables leave out: the engine, the sampler, and the prefills.
    assert 0.75 * tpot_s < built.decode_run(clients, clients * 1500)[0] < tpot_s


@pytest.mark.skipif(DATA is None, reason="ROUTERWISE_DATA is not set")
@pytest.mark.parametrize(
    ("gpu", "model", "tp"),
    [("a100_sxm", "llama-3.1-8b", 1), ("h100_sxm", "qwen3-30b-a3b", 2), ("a100_sxm", "llama-13b", 1)],
)
def test_other_models_and_gpus_compose(gpu: str, model: str, tp: int) -> None:
    path = f"{DATA}/data/aiconfigurator_vllm_ops/{gpu}"
    built = build_step_time(parse_latency(section(Path(path), model=model, tp=tp)))
    check_step_time_model(built)
    assert 1e-3 < built.decode_run(8, 8 * 1000)[0] < 50e-3
