import csv
import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from latency_models.catalogue.architectures import find_architecture
from latency_models.catalogue.gpus import find_gpu
from latency_models.config import parse_latency
from latency_models.contract import check_step_time_model
from latency_models.errors import InputError
from latency_models.fits.step_sweep import SweepGroup, read_batch_sweep, read_step_sweep
from latency_models.fits.step_table import StepTable
from latency_models.fits.steps_fit import fit_shares, fit_steps, leave_one_out, model_of
from latency_models.laws.matrix_products import MatrixProduct, head_product, layer_products
from latency_models.laws.share_residuals import FactorTable, ShareResiduals
from latency_models.laws.steps import StepsCoefficients, StepsStepTime
from latency_models.step_time import UNLIMITED_STEPS

A100 = find_gpu("a100-80gb")
HEADER = "model,tp,sm_pct,batch,seqlen,prefill_ms,decode_ms,status\n"


def law(model="llama-13b", **options):
    return StepsStepTime(architecture=find_architecture(model), gpu=A100, **options)


def prefill_s(model, tokens, sequences=1):
    length = tokens // sequences
    return model.step_s(tokens, sequences, tokens, sequences * length**2 / 2, 0, 0, sequences)


# -- matrix products ---------------------------------------------------------------------------------------------------


def test_a_product_takes_whole_waves_of_tiles():
    product = MatrixProduct(columns=5120, depth=5120, count=1)  # 40 tiles across
    assert product.waves(256, 80, 1.0) == 1.0
    assert product.waves(256, 79, 1.0) == 2.0
    assert product.waves(257, 80, 1.0) == 2.0
    # Of few rows, half tiles are cheaper.
    assert product.waves(64, 40, 0.6) == 0.6
    assert product.waves(128, 40, 0.6) == 1.0


@pytest.mark.parametrize(("model", "tp"), [("llama-13b", 1), ("llama-65b", 8), ("codellama-34b", 4), ("opt-13b", 2)])
def test_products_hold_the_weights_of_the_layers(model, tp):
    architecture = find_architecture(model)
    weights = sum(product.count * product.weights for product in layer_products(architecture, tp))
    expected = architecture.layers * (architecture.attention_parameters + architecture.mlp_parameters) / tp
    assert weights == pytest.approx(expected, rel=1e-3)
    assert head_product(architecture, tp).weights * tp == architecture.head_parameters


def test_mixtures_and_heads_that_cannot_be_shared_are_refused():
    with pytest.raises(InputError, match=r"latency\.model is 'mixtral-8x7b'.*without experts"):
        law("mixtral-8x7b")
    with pytest.raises(InputError, match=r"tp is 3; allowed: a divisor of the 40 heads"):
        law(tp=3)


# -- the law -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"tp": 4}, {"compute_share": 0.3}, {"model": "codellama-34b", "tp": 2, "kv_dtype": "fp8", "weights": "fp8"}],
)
def test_it_keeps_the_contract(options):
    check_step_time_model(law(**options))


def test_a_launch_bound_run_ends_where_the_context_outgrows_the_launch():
    model = law("llama-7b", tp=8)
    first_s, growth_s, steps = model.decode_run(32, 32 * 100)
    assert growth_s == 0.0
    assert 1 < steps < UNLIMITED_STEPS
    assert model.decode_run(32, 32 * (100 + steps - 1))[0] == first_s
    later_s, later_growth_s, later_steps = model.decode_run(32, 32 * (100 + steps))
    assert later_s > first_s
    assert later_growth_s > 0.0
    assert later_steps == UNLIMITED_STEPS


def test_a_table_is_predicted_as_step_by_step():
    curve = FactorTable(shares=(0.5, 1.0), tokens=(1, 64, 4096), factors=((1.1, 0.9, 1.0), (1.0, 1.2, 0.8)))
    model = law(tp=2, compute_share=0.7, residuals=ShareResiduals(prefill=curve, decode=curve))
    table = StepTable.concatenate(
        [
            StepTable.of_prefills([1, 4, 16], [37, 512, 2048], np.ones(3)),
            StepTable.of_decodes([1, 7, 300], [10, 600, 60], np.ones(3)),
        ]
    )
    assert model.table_s(table) == pytest.approx(table.predicted_s(model), rel=1e-12)


def test_terms_show_where_physics_has_them():
    whole = law()
    # Compute: twice the tokens, about twice the time; memory: a batch of 8 costs hardly more than one of 1.
    assert prefill_s(whole, 8192, 16) / prefill_s(whole, 4096, 8) == pytest.approx(2.0, rel=0.05)
    assert whole.decode_run(8, 800)[0] < 1.05 * whole.decode_run(1, 100)[0]
    # Cached context: bytes over bandwidth, within the efficiency.
    bytes_of_context = 2 * 40 * 5120 * 2
    growth_s = whole.decode_run(1, 100)[1]
    assert 0.5 < bytes_of_context / A100.bandwidth_bytes_per_s / growth_s < 1.0
    # Sums over the shards: eight small shards are launch-bound, far from an eighth of the time.
    assert law(tp=8).decode_run(1, 100)[0] > 0.6 * whole.decode_run(1, 100)[0]


def test_short_sums_over_the_shards_reach_a_fraction_of_the_links_and_long_ones_start_later():
    # Without any other term of a token than the sums: 161 of them (80 layers and the embedding), of 8192 numbers of
    # 2 bytes a token, each 1.5 times over a link of 300 GB/s with 4 shards.
    own = StepsCoefficients(
        layer_launch_s=0.0, parallel_launch_s=0.0, prefill_launch_s=0.0, hidden_passes=0.0, inner_passes=0.0,
        reduce_s=0.0, sequence_s=0.0, head_start_s=0.0, link=1.0, short_link=0.1, bulk_reduce_s=3e-5,
    )  # fmt: skip
    linked = law("llama-65b", tp=4, coefficients=own)
    fast = dataclasses.replace(own, short_link=1.0, bulk_reduce_s=0.0)
    ideal = law("llama-65b", tp=4, coefficients=fast)
    token_s = 161 * 8192 * 2 * 1.5 / 300e9

    def more_s(tokens):
        return linked.decode_run(tokens, tokens)[0] - ideal.decode_run(tokens, tokens)[0]

    assert more_s(16) == pytest.approx(16 * token_s * 9.0)
    assert more_s(512) == pytest.approx(161 * 3e-5)
    assert law("llama-7b", coefficients=own).decode_run(8, 8) == law("llama-7b", coefficients=fast).decode_run(8, 8)


def test_a_model_with_factors_keeps_the_law_of_all_models():
    groups = sweep_of(TRUTH, [("llama-7b", 1, 0.5), ("llama-7b", 1, 1.0)])
    slow = [
        dataclasses.replace(group, table=dataclasses.replace(group.table, duration_s=1.2 * group.table.duration_s))
        for group in groups
    ]
    found = fit_shares(slow, A100, TRUTH)
    assert found.coefficients == TRUTH
    assert found.compute_share == 1.0
    assert found.at_share(0.7).decode_run(16, 1600)[0] == pytest.approx(
        1.2 * law("llama-7b", compute_share=0.7, coefficients=TRUTH).decode_run(16, 1600)[0], rel=1e-3
    )


def test_factors_apply_between_shares_and_tokens_and_stay_beyond():
    table = FactorTable(shares=(0.5, 1.0), tokens=(16, 64), factors=((1.0, 2.0), (3.0, 4.0)))
    curve = table.at(0.75)
    assert curve.factor(16) == pytest.approx(2.0)
    assert curve.factor(32) == pytest.approx(2.5)
    assert curve.factor(1) == pytest.approx(2.0)
    assert curve.factor(100_000) == pytest.approx(3.0)
    assert table.at(0.1).factor(64) == pytest.approx(2.0)
    plain, scaled = law(), law(residuals=ShareResiduals(prefill=table, decode=table))
    assert scaled.decode_run(32, 3200)[0] == pytest.approx(3.5 * plain.decode_run(32, 3200)[0])


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"shares": (1.0, 0.5)}, "ascending"),
        ({"shares": (0.5, 50.0)}, "Divide a percentage by 100"),
        ({"tokens": ()}, "at least one value"),
        ({"tokens": (0, 4)}, "an integer >= 1"),
        ({"factors": ((1.0, 1.0),)}, "a row of 2"),
        ({"factors": ((1.0, 1.0), (1.0, 0.0))}, "> 0"),
        ({"factors": ((1.0, 1.0), (1.0, float("nan")))}, "factors is nan"),
    ],
)
def test_bad_factors_are_refused(axes, message):
    good = {"shares": (0.5, 1.0), "tokens": (1, 2), "factors": ((1.0, 1.0), (1.0, 1.0))}
    with pytest.raises(InputError, match=message):
        FactorTable(**{**good, **axes})


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ({"step_s": -1.0}, "step_s is -1.0"),
        ({"step_s": float("nan")}, "step_s is nan"),
        ({"step_s": 3.0}, "milliseconds"),
        ({"memory": 1.2}, "memory is 1.2; allowed: a share"),
        ({"compute": 0.0}, "compute is 0.0; allowed: a share"),
        ({"half_tile_cost": 2.0}, r"0\.25 to 1"),
        ({"short_link": 0.0}, "short_link is 0.0; allowed: a share"),
        ({"bulk_reduce_s": -1e-5}, "bulk_reduce_s is -1e-05"),
    ],
)
def test_bad_coefficients_are_refused(coefficients, message):
    with pytest.raises(InputError, match=message):
        StepsCoefficients(**coefficients)


def test_it_says_what_is_scaled():
    assert law().notes == ()
    notes = StepsStepTime(architecture=find_architecture("llama-30b"), gpu=find_gpu("h100"), compute_share=0.2).notes
    assert len(notes) == 3
    assert "0.2 is extrapolated" in notes[0]
    assert "llama-30b are scaled by architecture from those of llama-7b, llama-13b, llama-65b" in notes[1]
    assert "h100-80gb are scaled by its datasheet" in notes[2]


def test_a_section_builds_it_and_refuses_unknown_names():
    section = {"kind": "steps", "model": "llama-7b", "gpu": "a100-80gb", "tp": 2, "coefficients": {"step_s": 0.5}}
    assert parse_latency(section).build().decode_run(1, 10)[0] > 0.5
    for change, message in (
        ({"model": "lama-7b"}, "did you mean"),
        ({"gpu": "a1000"}, "unknown GPU"),
        ({"coefficients": {"steps_s": 1e-3}}, "did you mean 'step_s'"),
        ({"coefficients": {"memory": 7.0}}, "memory is 7.0"),
        ({"tp": 0}, "greater than or equal to 1"),
        ({"weights": "bf17"}, "bf17"),
    ):
        with pytest.raises(ValidationError, match=message):
            parse_latency({**section, **change})


# -- reading sweeps ----------------------------------------------------------------------------------------------------


def test_a_sweep_is_read_group_by_group(tmp_path):
    path = tmp_path / "sweep.csv"
    path.write_text(HEADER + "a,1,100,2,32,20,10,ok\nb,2,50,4,64,,12,not_run\na,1,100,4,32,,,not_run\n")
    first, second = read_step_sweep(path)
    assert (first.model, first.tp, first.compute_share, len(first.table)) == ("a", 1, 1.0, 2)
    assert (second.model, second.tp, second.compute_share, len(second.table)) == ("b", 2, 0.5, 1)
    assert len(read_batch_sweep(path, model="b", tp=2, sm_pct=50)) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [("a,1,150,2,32,20,10,ok", "percentage"), ("a,1.5,50,2,32,20,10,ok", "integer"), ("a,1,0,2,32,20,10,ok", "sm_pct")],
)
def test_a_bad_row_is_refused(tmp_path, row, message):
    path = tmp_path / "sweep.csv"
    path.write_text(HEADER + row + "\n")
    with pytest.raises(InputError, match=f"line 2, .*{message}"):
        read_step_sweep(path)


# -- fitting -----------------------------------------------------------------------------------------------------------

TRUTH = StepsCoefficients(step_s=2e-3, layer_launch_s=1e-4, compute=0.7, memory=0.85, kv=0.6, head_start_s=3e-6)


def sweep_of(truth, configurations, noise=0.0):
    """Steps as the law itself has them."""
    batch, length = (grid.ravel() for grid in np.meshgrid([1, 4, 16, 64, 256], [32, 128, 512]))
    shape = StepTable.concatenate(
        [StepTable.of_prefills(batch, length, np.ones(15)), StepTable.of_decodes(batch, length, np.ones(15))]
    )
    rng = np.random.default_rng(5)
    groups = []
    for model, tp, share in configurations:
        group = SweepGroup(model=model, tp=tp, compute_share=share, table=shape)
        duration_s = model_of(group, A100, truth).table_s(shape) * np.exp(noise * rng.standard_normal(len(shape)))
        groups.append(dataclasses.replace(group, table=dataclasses.replace(shape, duration_s=duration_s)))
    return groups


def test_a_fit_predicts_other_configurations_of_the_same_truth_despite_outliers():
    groups = sweep_of(TRUTH, [("llama-7b", 1, 0.4), ("llama-7b", 1, 1.0), ("llama-13b", 2, 1.0)], noise=0.01)
    spoilt_s = groups[0].table.duration_s.copy()
    spoilt_s[[3, 20]] *= 4.0
    groups[0] = dataclasses.replace(groups[0], table=dataclasses.replace(groups[0].table, duration_s=spoilt_s))
    fit = fit_steps(groups, A100)
    assert fit.coefficients["memory"] == pytest.approx(TRUTH.memory, rel=0.1)
    for unseen in sweep_of(TRUTH, [("llama-13b", 1, 0.6), ("llama-65b", 4, 1.0)]):
        errors = model_of(unseen, A100, fit.model.coefficients).table_s(unseen.table) / unseen.table.duration_s - 1.0
        assert np.median(np.abs(errors)) < 0.03


def test_too_little_to_fit_or_to_leave_out_is_refused():
    (group,) = sweep_of(TRUTH, [("llama-7b", 1, 1.0)])
    few = dataclasses.replace(group, table=group.table.rows(slice(0, 5)))
    with pytest.raises(InputError, match="there are 5 measured steps; allowed: at least 18"):
        fit_steps([few], A100)
    with pytest.raises(InputError, match="one share"):
        leave_one_out([group], A100, "share")
    with pytest.raises(InputError, match=r"share to leave out is 0\.6"):
        leave_one_out([group], A100, "share", only=[0.6])
    with pytest.raises(InputError, match="shares of one model"):
        fit_shares(sweep_of(TRUTH, [("llama-7b", 1, 1.0), ("llama-13b", 1, 1.0)]), A100, TRUTH)


@pytest.fixture(scope="module")
def muxserve(data_root):
    return read_step_sweep(data_root / "data" / "muxserve_a100_steptime" / "steptime_llama_a100.csv")


def quantiles(held_out, *, decode):
    errors = np.concatenate([each.absolute(decode=decode) for each in held_out])
    return np.median(errors), np.quantile(errors, 0.9)


def test_measured_a100_steps_of_a_share_that_was_left_out(muxserve):
    held_out = leave_one_out(muxserve, A100, "share", only=[0.6])
    assert sum(len(each.relative_errors) for each in held_out) > 900
    for decode in (False, True):
        median, p90 = quantiles(held_out, decode=decode)
        assert median <= 0.025
        assert p90 <= 0.10


@pytest.mark.parametrize("model", ["llama-13b", "llama-65b"])
def test_measured_a100_steps_of_a_model_that_was_left_out(muxserve, model):
    held_out = leave_one_out(muxserve, A100, "model", only=[model])
    assert quantiles(held_out, decode=False)[0] <= 0.05
    assert quantiles(held_out, decode=True)[0] <= 0.055
    assert set(held_out[0].regimes) == {"prefill", "decode, batch <= 16", "decode, batch > 16"}


def test_the_default_coefficients_are_the_fit_to_these_steps(muxserve):
    def cost(coefficients):
        errors = [
            model_of(group, A100, coefficients).table_s(group.table) / group.table.duration_s for group in muxserve
        ]
        return np.mean(np.sqrt(1.0 + (np.log(np.concatenate(errors)) / 0.03) ** 2))

    best = cost(StepsCoefficients())
    for name in ("memory", "layer_launch_s", "hidden_passes", "head_start_s", "bandwidth_half_share", "short_link"):
        for factor in (0.9, 1.1):
            moved = dataclasses.replace(StepsCoefficients(), **{name: getattr(StepsCoefficients(), name) * factor})
            assert cost(moved) > best


@pytest.mark.parametrize(("hardware", "tp"), [("a100-80gb", 2), ("h100-80gb", 2), ("h100-80gb", 4)])
def test_another_model_on_another_gpu_and_engine_is_near_with_nothing_fitted(data_root, hardware, tp):
    with (data_root / "data" / "splitwise_profiles" / "perf_llama2_70b.csv").open(newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if (row["hardware"], row["tensor_parallel"]) == (hardware, str(tp))
            and row["batch_size"] == "1"
            and int(row["prompt_size"]) <= 2048
        ]
    model = StepsStepTime(architecture=find_architecture("llama-2-70b"), gpu=find_gpu(hardware), tp=tp)
    prefill, decode = [], []
    for row in rows:
        prompt, context = int(row["prompt_size"]), int(row["prompt_size"]) + int(row["token_size"]) // 2
        prefill.append(prefill_s(model, prompt) * 1e3 / float(row["prompt_time"]) - 1.0)
        decode.append(model.decode_run(1, context)[0] * 1e3 / float(row["token_time"]) - 1.0)
    assert len(rows) >= 5
    assert np.median(np.abs(prefill)) < 0.10
    assert np.median(np.abs(decode)) < 0.08
