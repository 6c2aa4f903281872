import dataclasses

import numpy as np
import pytest

from latency_models.errors import InputError
from latency_models.fits.fitting import fit_linear
from latency_models.fits.step_sweep import read_batch_sweep
from latency_models.fits.step_table import StepTable
from latency_models.laws.linear import LinearStepTime

TRUTH = LinearStepTime(
    base_s=0.012,
    per_token_s=7e-5,
    per_sequence_s=2e-5,
    per_context_token_s=3e-7,
    per_prefill_pair_s=3e-9,
)
HEADER = "model,tp,sm_pct,batch,seqlen,prefill_ms,decode_ms,status\n"


def predicted_s(law, table):
    return np.array(
        [
            law.step_s(row[0], row[1], row[2], row[3], 0, 0, row[4])
            for row in zip(table.tokens, table.sequences, table.context, table.prefill_work, table.sampled, strict=True)
        ]
    )


def measured(law=TRUTH):
    """Steps that tell all five terms apart: prefills of many shapes, and decodes."""
    batch, length = (grid.ravel() for grid in np.meshgrid([1, 2, 8, 32, 128], [16, 128, 1024, 4096]))
    ones = np.ones(len(batch))
    shape = StepTable.concatenate(
        [StepTable.of_prefills(batch, length, ones), StepTable.of_decodes(batch, length, ones)]
    )
    return dataclasses.replace(shape, duration_s=predicted_s(law, shape))


def coefficients(law):
    return dataclasses.asdict(law)


def test_exact_steps_give_the_coefficients_back():
    fit = fit_linear(measured())
    assert coefficients(fit.model) == pytest.approx(coefficients(TRUTH), rel=1e-6)
    assert fit.steps == 40
    assert fit.p90_relative_error < 1e-9


def test_gross_outliers_do_not_move_the_fit():
    table = measured()
    rng = np.random.default_rng(7)
    noisy_s = table.duration_s * rng.normal(1.0, 0.01, len(table))
    bad = rng.choice(len(table), 6, replace=False)
    noisy_s[bad] *= [3.0, 4.0, 5.0, 3.0, 0.4, 2.5]
    fit = fit_linear(dataclasses.replace(table, duration_s=noisy_s))
    assert fit.model.base_s == pytest.approx(TRUTH.base_s, rel=0.03)
    assert fit.model.per_token_s == pytest.approx(TRUTH.per_token_s, rel=0.05)
    assert fit.model.per_context_token_s == pytest.approx(TRUTH.per_context_token_s, rel=0.05)
    assert fit.median_relative_error < 0.02
    assert set(np.flatnonzero(np.abs(fit.relative_errors) > 0.3)) == set(bad)


def test_no_coefficient_is_negative_though_plain_least_squares_would_make_one_so():
    law = LinearStepTime(base_s=0.02, per_token_s=1e-4)
    table = measured(law)
    bent = dataclasses.replace(table, duration_s=table.duration_s - 2e-7 * np.minimum(table.context, 5e4))
    fit = fit_linear(bent)
    assert min(coefficients(fit.model).values()) >= 0.0
    assert fit.model.per_context_token_s == 0.0


def test_fixed_coefficients_are_kept_and_taken_off():
    fit = fit_linear(measured(), fixed={"per_prefill_pair_s": 3e-9})
    assert fit.model.per_prefill_pair_s == 3e-9
    assert coefficients(fit.model) == pytest.approx(coefficients(TRUTH), rel=1e-6)


def test_only_the_asked_terms_are_fitted():
    fit = fit_linear(measured(LinearStepTime(base_s=0.01, per_token_s=1e-4)), terms=("base_s", "per_token_s"))
    assert coefficients(fit.model) == pytest.approx(coefficients(LinearStepTime(base_s=0.01, per_token_s=1e-4)))


def test_an_unknown_term_suggests_the_nearest():
    with pytest.raises(InputError, match="'per_tokens_s'; did you mean 'per_token_s'"):
        fit_linear(measured(), terms=("per_tokens_s",))
    with pytest.raises(InputError, match="unknown term"):
        fit_linear(measured(), fixed={"overhead": 1.0})


def test_too_few_steps_are_refused():
    with pytest.raises(InputError, match=r"has 2 rows; allowed: at least 5"):
        fit_linear(StepTable.of_decodes([1, 2], [10, 10], [0.1, 0.1]))


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_bad_durations_are_refused_by_row(value):
    with pytest.raises(InputError, match="step table row 1, duration_s is"):
        StepTable.of_decodes([1, 2], [10, 10], [0.1, value])


def test_columns_of_different_length_are_refused():
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        StepTable.of_decodes([1, 2], [10, 10], [0.1, 0.2, 0.3])


def test_a_sweep_is_read_with_prefills_first_and_missing_steps_left_out(tmp_path):
    path = tmp_path / "sweep.csv"
    path.write_text(
        HEADER
        + "a,1,100,2,32,20.0,10.0,ok\n"
        + "a,1,100,4,64,,12.0,not_run\n"
        + "a,1,50,2,32,99.0,99.0,ok\n"
        + "b,1,100,2,32,88.0,88.0,ok\n"
    )
    table = read_batch_sweep(path, model="a", tp=1)
    assert table.tokens.tolist() == [64, 2, 4]
    assert table.context.tolist() == [64, 64, 256]
    assert table.prefill_work.tolist() == [1024, 0, 0]
    assert table.duration_s == pytest.approx([0.020, 0.010, 0.012])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no \['model'"),
        ("model,tp\na,1\n", "header of"),
        (HEADER, "allowed: none"),
        (HEADER + "b,1,100,2,32,20,10,ok\n", "allowed: b tp 1 sm_pct 100"),
        (HEADER + "a,1,100,2,32,20,fast,ok\n", "line 2, decode_ms is 'fast'"),
        (HEADER + "a,1,100,2,32,-20,10,ok\n", "line 2, prefill_ms is '-20'"),
        (HEADER + "a,1,100,0,32,20,10,ok\n", "line 2, batch is '0'"),
        (HEADER + "a,1,100,nan,32,20,10,ok\n", "line 2, batch is 'nan'"),
    ],
)
def test_a_bad_sweep_is_refused(tmp_path, text, message):
    path = tmp_path / "sweep.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_batch_sweep(path, model="a", tp=1)


def test_an_unreadable_sweep_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_batch_sweep(tmp_path / "none.csv", model="a", tp=1)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read"):
        read_batch_sweep(tmp_path / "binary.csv", model="a", tp=1)


@pytest.mark.parametrize(
    ("model", "tp", "lightest_ms"),
    # The last column is the decode of one short sequence in the file: what the law's constant must come out at.
    [("llama-7b", 1, 11.3), ("llama-13b", 1, 19.8), ("llama-13b", 2, 15.9), ("llama-65b", 4, 33.1)],
)
def test_measured_a100_steps_follow_the_linear_law(data_root, model, tp, lightest_ms):
    path = data_root / "data" / "muxserve_a100_steptime" / "steptime_llama_a100.csv"
    fit = fit_linear(read_batch_sweep(path, model=model, tp=tp))
    assert fit.steps > 80
    assert fit.median_relative_error < 0.06
    assert fit.p90_relative_error < 0.20
    assert fit.model.base_s * 1e3 == pytest.approx(lightest_ms, rel=0.08)
