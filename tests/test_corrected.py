import math

import pytest
from pydantic import ValidationError

from latency_models.config import build_step_time, parse_latency
from latency_models.contract import check_step_time_model
from latency_models.errors import InputError
from latency_models.laws.corrected import CorrectedStepTime
from latency_models.laws.linear import LinearStepTime
from latency_models.tables.piecewise import DecodeRow, PiecewiseStepTime, PrefillTable

BASE = LinearStepTime(base_s=0.01, per_token_s=1e-4, per_context_token_s=1e-6)
MIXED = (132, 2, 128, 4096.0, 4, 400, 5)


def test_without_parameters_it_is_the_base():
    model = CorrectedStepTime(base=BASE)
    assert model.step_s(*MIXED) == BASE.step_s(*MIXED)
    assert model.decode_run(4, 400) == BASE.decode_run(4, 400)


def test_a_decode_step_is_scaled_and_shifted():
    model = CorrectedStepTime(base=BASE, factor=1.5, per_step_s=0.002, per_sequence_s=1e-4)
    first_s, growth_s, steps = model.decode_run(4, 400)
    assert first_s == pytest.approx(1.5 * (0.01 + 4e-4 + 4e-4) + 0.002 + 4e-4)
    assert growth_s == pytest.approx(1.5 * 4e-6)
    assert steps == BASE.decode_run(4, 400)[2]


def test_only_the_prefill_s_part_of_a_mixed_step_takes_the_prefill_factor():
    model = CorrectedStepTime(base=BASE, factor=1.5, prefill_factor=3.0, per_prefill_step_s=0.001)
    decode_s = BASE.decode_run(4, 400)[0]
    whole_s = BASE.step_s(*MIXED)
    assert model.step_s(*MIXED) == pytest.approx(1.5 * decode_s + 3.0 * (whole_s - decode_s) + 0.001)
    alone = (128, 2, 128, 4096.0, 0, 0, 2)
    assert model.step_s(*alone) == pytest.approx(3.0 * BASE.step_s(*alone) + 0.001)


def test_launching_kernels_hides_short_prefill_and_is_hidden_by_long_prefill():
    model = CorrectedStepTime(base=BASE, factor=2.0, per_step_s=0.003, per_prefill_step_s=0.001, prefill_floor_s=0.05)
    assert BASE.step_s(*MIXED) < 0.025
    assert model.step_s(*MIXED) == pytest.approx(0.05 + 0.003 + 0.001)
    one_token_more = (133, 2, 129, 4225.0, 4, 400, 5)
    assert model.step_s(*one_token_more) == model.step_s(*MIXED)
    long = (2048, 1, 2048, 2_097_152.0, 0, 0, 1)
    assert model.step_s(*long) == pytest.approx(2.0 * BASE.step_s(*long) + 0.003 + 0.001)


def test_the_floor_of_prefill_leaves_decode_alone():
    model = CorrectedStepTime(base=BASE, prefill_factor=1.2, prefill_floor_s=0.05)
    assert model.decode_run(4, 400) == BASE.decode_run(4, 400)
    check_step_time_model(model)


def test_breakpoints_of_the_base_stay():
    table = PiecewiseStepTime(
        decode=(
            DecodeRow(batch=1, context_tokens=(0, 512, 200_000), step_s=(0.01, 0.012, 0.5)),
            DecodeRow(batch=64, context_tokens=(0, 4096, 400_000), step_s=(0.02, 0.03, 1.0)),
        ),
        prefill=PrefillTable(tokens=(1, 4096), step_s=(0.01, 0.2)),
        extrapolate=True,
    )
    model = CorrectedStepTime(base=table, factor=1.1, per_step_s=0.001, per_sequence_s=1e-5, prefill_factor=0.9)
    assert model.decode_run(1, 500)[2] == table.decode_run(1, 500)[2] < 100
    check_step_time_model(model)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("factor", 0.0),
        ("factor", math.nan),
        ("prefill_factor", -1.0),
        ("per_step_s", -1e-3),
        ("per_sequence_s", math.inf),
        ("per_prefill_step_s", math.nan),
        ("prefill_floor_s", -0.05),
        ("prefill_floor_s", math.inf),
    ],
)
def test_bad_parameters_are_named(name, value):
    with pytest.raises(InputError, match=f"latency.{name}"):
        CorrectedStepTime(base=BASE, **{name: value})


def test_the_section_nests():
    section = {
        "kind": "corrected",
        "factor": 2,
        "prefill_floor_s": 0.5,
        "base": {"kind": "corrected", "per_step_s": 0.001, "base": {"kind": "linear", "base_s": 0.01}},
    }
    model = build_step_time(parse_latency(section))
    assert model.decode_run(1, 100)[0] == pytest.approx(2 * 0.011)
    assert model.step_s(8, 1, 8, 32.0, 0, 0, 1) == 0.5


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"kind": "corrected"}, "base"),
        ({"kind": "corrected", "base": {"kind": "linear", "base_s": 0.01}, "factor": 0}, "factor"),
        ({"kind": "corrected", "base": {"kind": "linear", "base_s": 0.01}, "step": 1}, "step"),
        ({"kind": "corrected", "base": {"kind": "linear", "base_s": -1}}, "base_s"),
    ],
)
def test_a_wrong_section_names_the_key(section, key):
    with pytest.raises(ValidationError, match=key):
        parse_latency(section)
