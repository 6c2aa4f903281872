import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_models.contract import check_step_time_model
from latency_models.errors import InputError
from latency_models.laws.linear import LinearStepTime
from latency_models.step_time import STEP_TIME_MODELS, UNLIMITED_STEPS

LAW = LinearStepTime(
    base_s=1e-2,
    per_token_s=1e-4,
    per_sequence_s=1e-5,
    per_context_token_s=1e-6,
    per_prefill_pair_s=1e-7,
    per_sample_s=1e-3,
)
COEFFICIENTS = ["base_s", "per_token_s", "per_sequence_s", "per_context_token_s", "per_prefill_pair_s", "per_sample_s"]


def test_a_mixed_step_is_the_sum_of_its_terms():
    duration_s = LAW.step_s(
        tokens=103,
        prefill_seqs=1,
        prefill_context=150,
        prefill_work=100 * (50 + 50),
        decode_seqs=3,
        decode_context=900,
        sampled=4,
    )
    assert duration_s == pytest.approx(1e-2 + 103e-4 + 4e-5 + 1050e-6 + 10_000e-7 + 4e-3)


@pytest.mark.parametrize(
    ("coefficient", "expected_s"),
    [
        ("base_s", 1.0),
        ("per_token_s", 7.0),
        ("per_sequence_s", 5.0),
        ("per_context_token_s", 110.0),
        ("per_prefill_pair_s", 12.5),
        ("per_sample_s", 4.0),
    ],
)
def test_each_coefficient_multiplies_its_own_quantity(coefficient, expected_s):
    base_s = 0.5
    law = LinearStepTime(**{"base_s": base_s, coefficient: 1.0})
    duration_s = law.step_s(7, 2, 60, 12.5, 3, 50, 4)
    assert duration_s == (expected_s if coefficient == "base_s" else base_s + expected_s)


@given(seqs=st.integers(1, 512), context_each=st.integers(1, 8192), step=st.integers(0, 1000))
def test_a_decode_run_is_the_same_as_its_steps(seqs, context_each, step):
    context = seqs * context_each
    first_s, growth_s, steps = LAW.decode_run(seqs, context)
    assert steps == UNLIMITED_STEPS
    alone_s = LAW.step_s(seqs, 0, 0, 0.0, seqs, context + step * seqs, seqs)
    assert first_s + step * growth_s == pytest.approx(alone_s, rel=1e-12)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf, -math.inf])
def test_a_bad_coefficient_is_refused_by_name(coefficient, value):
    with pytest.raises(InputError, match=rf"latency\.{coefficient} is .*allowed: a finite number >= 0"):
        LinearStepTime(**{"base_s": 1e-2, coefficient: value})


@pytest.mark.parametrize("only", [{}, {"per_prefill_pair_s": 1.0}, {"per_sample_s": 1.0}])
def test_a_law_under_which_some_step_takes_no_time_is_refused(only):
    with pytest.raises(InputError, match="take no time"):
        LinearStepTime(**only)


@pytest.mark.parametrize("only", ["base_s", "per_token_s", "per_sequence_s", "per_context_token_s"])
def test_one_coefficient_that_every_step_pays_is_enough(only):
    law = LinearStepTime(**{only: 1e-3})
    assert law.decode_run(1, 1)[0] > 0.0
    assert law.step_s(1, 1, 1, 0.5, 0, 0, 0) > 0.0


def test_it_is_registered_under_its_name():
    assert STEP_TIME_MODELS.get("linear") is LinearStepTime


LONGEST = LinearStepTime(base_s=0.01, per_context_token_s=1e-6, per_longest_token_s=2e-5, unsplit_seqs=4)


@pytest.mark.parametrize(
    ("seqs", "context", "longest", "attention_s"),
    [(3, 3000, 2000, 0.003), (4, 3000, 2000, 0.04), (4, 300_000, 2000, 0.3), (4, 3000, 0, 0.003)],
)
def test_a_step_lasts_as_long_as_its_longest_context_if_that_is_not_split(seqs, context, longest, attention_s):
    assert LONGEST.decode_run(seqs, context, longest)[0] == pytest.approx(0.01 + attention_s)
    mixed = (seqs + 10, 1, 10, 50.0, seqs, context, seqs + 1)
    assert LONGEST.step_s(*mixed, longest) == pytest.approx(0.01 + 1e-5 + attention_s)


@pytest.mark.parametrize(("seqs", "context", "longest"), [(64, 60_000, 3001), (64, 64_000, 3000), (4, 400_000, 20_000)])
def test_the_law_changes_where_the_longest_context_is_caught_up(seqs, context, longest):
    first_s, growth_s, steps = LONGEST.decode_run(seqs, context, longest)
    for step in {0, min(steps, 5000) // 2, min(steps, 5000) - 1}:
        alone_s = LONGEST.decode_run(seqs, context + step * seqs, longest + step)[0]
        assert first_s + growth_s * step == pytest.approx(alone_s, rel=1e-12)
    check_step_time_model(LONGEST)
