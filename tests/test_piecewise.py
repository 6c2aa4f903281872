import math
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from latency_models.errors import InputError
from latency_models.laws.linear import LinearStepTime
from latency_models.step_time import UNLIMITED_STEPS
from latency_models.tables.piecewise import DecodeRow, PiecewiseStepTime, PrefillTable

PREFILL = PrefillTable(tokens=(1, 128, 2048), step_s=(0.012, 0.015, 0.150))


def row(batch, context_tokens, step_s):
    return DecodeRow(batch=batch, context_tokens=context_tokens, step_s=step_s)


def table(**options):
    rows = (
        row(1, (1, 100, 1000), (0.010, 0.011, 0.016)),
        row(4, (4, 400, 4000), (0.012, 0.014, 0.026)),
        row(16, (16, 800, 16000), (0.016, 0.020, 0.060)),
    )
    return PiecewiseStepTime(**{"decode": rows, "prefill": PREFILL, **options})


def interpolated(model, seqs, context):
    """The table's decode time by the definition: on each row at equal mean context, then between rows."""

    def on_row(r):
        x = context / seqs * r.batch
        for (x0, t0), (x1, t1) in pairwise(zip(r.context_tokens, r.step_s, strict=True)):
            if x <= x1 or x1 == r.context_tokens[-1]:
                return t0 + (t1 - t0) * (x - x0) / (x1 - x0)
        raise AssertionError

    rows = list(model.decode)
    low, high = next((a, b) for a, b in pairwise(rows) if seqs <= b.batch or b is rows[-1])
    weight = (seqs - low.batch) / (high.batch - low.batch)
    return (1 - weight) * on_row(low) + weight * on_row(high)


@pytest.mark.parametrize(("batch", "point"), [(b, p) for b in range(3) for p in range(3)])
def test_measured_points_come_back_exactly(batch, point):
    model = table()
    measured = model.decode[batch]
    first_s, _, _ = model.decode_run(measured.batch, measured.context_tokens[point])
    assert first_s == pytest.approx(measured.step_s[point], rel=1e-12)


def test_between_points_it_is_linear():
    first_s, growth_s, steps = table().decode_run(1, 550)
    assert first_s == pytest.approx(0.0135)
    assert growth_s == pytest.approx(0.005 / 900)
    assert steps == 451, "the step at context 1000 is the last one of the table"


def test_between_batches_it_mixes_rows_at_equal_mean_context():
    first_s, _, _ = table().decode_run(2, 2 * 100)
    assert first_s == pytest.approx(0.011 * 2 / 3 + 0.014 / 3)


@given(
    seqs=st.integers(1, 16),
    mean=st.integers(1, 900),
    slack=st.integers(0, 15),
)
def test_a_run_equals_its_steps_one_by_one(seqs, mean, slack):
    model = table()
    context = seqs * mean + slack % seqs
    first_s, growth_s, steps = model.decode_run(seqs, context)
    assert steps >= 1
    for k in range(steps):
        assert first_s + k * growth_s == pytest.approx(interpolated(model, seqs, context + k * seqs), rel=1e-9)


@given(seqs=st.integers(1, 16), mean=st.integers(1, 900))
def test_a_run_ends_where_the_law_changes(seqs, mean):
    model = table()
    first_s, growth_s, steps = model.decode_run(seqs, seqs * mean)
    following = seqs * (mean + steps)
    if following <= 1000 * seqs:
        next_first_s, next_growth_s, _ = model.decode_run(seqs, following)
        assert next_growth_s != pytest.approx(growth_s, rel=1e-6)
        # Continuous: the first step behind the breakpoint lies between the two lines' values there.
        reach_s = first_s + steps * growth_s
        assert abs(next_first_s - reach_s) <= abs(next_growth_s - growth_s) + 1e-12


@given(seqs=st.integers(1, 16), mean=st.integers(2, 1000))
def test_it_is_continuous_in_the_context(seqs, mean):
    model = table()
    here_s = model.decode_run(seqs, seqs * mean)[0]
    before_s = model.decode_run(seqs, seqs * mean - 1)[0]
    steepest = max(
        abs(t1 - t0) / (x1 - x0) * r.batch
        for r in model.decode
        for (x0, t0), (x1, t1) in pairwise(zip(r.context_tokens, r.step_s, strict=True))
    )
    assert abs(here_s - before_s) <= steepest / seqs + 1e-12


@given(
    base=st.floats(1e-3, 1e-1),
    per_token=st.floats(0, 1e-3),
    per_context=st.floats(0, 1e-5),
    seqs=st.integers(1, 64),
    mean=st.integers(1, 2000),
)
def test_a_table_of_a_linear_law_gives_that_law_back_everywhere(base, per_token, per_context, seqs, mean):
    law = LinearStepTime(base_s=base, per_token_s=per_token, per_context_token_s=per_context)
    rows = [
        row(b, [b * c for c in (16, 128, 512)], [law.decode_run(b, b * c)[0] for c in (16, 128, 512)])
        for b in (1, 5, 20)
    ]
    tokens = (16, 64, 512)
    prefill = PrefillTable(tokens=tokens, step_s=[base + per_token * n for n in tokens])
    model = PiecewiseStepTime(decode=rows, prefill=prefill, shared_s=base, extrapolate=True)
    context = seqs * mean
    assert model.decode_run(seqs, context)[0] == pytest.approx(law.decode_run(seqs, context)[0], rel=1e-6)
    mixed_s = model.step_s(seqs + 100, 1, 100, 5000.0, seqs, context, seqs)
    law_s = base + per_token * (seqs + 100) + per_context * context
    # A prolonged row never takes anything off a step.
    assert mixed_s >= law_s * (1 - 1e-9)
    if law_s - per_token * 100 >= base:
        assert mixed_s == pytest.approx(law_s, rel=1e-6)


def test_prefill_is_read_from_its_own_table():
    assert table().step_s(128, 1, 128, 8192.0, 0, 0, 1) == pytest.approx(0.015)
    assert table().step_s(1088, 2, 1088, 1.0, 0, 0, 1) == pytest.approx(0.0825)


def test_a_mixed_step_pays_the_shared_part_once():
    decode_s = table().decode_run(4, 400)[0]
    by_default = table().step_s(132, 1, 128, 8192.0, 4, 400, 4)
    assert by_default == pytest.approx(0.015 + decode_s - 0.010)
    assert table(shared_s=0.004).step_s(132, 1, 128, 8192.0, 4, 400, 4) == pytest.approx(0.015 + decode_s - 0.004)


def test_a_run_that_starts_on_a_point_goes_on_to_the_next_one():
    assert table().decode_run(1, 100)[1:] == (pytest.approx(0.005 / 900), 901)


def test_a_prolonged_decode_row_takes_nothing_off_the_prefill():
    rows = (row(1, (10, 100), (0.010, 0.020)), row(2, (20, 200), (0.011, 0.021)))
    model = PiecewiseStepTime(decode=rows, prefill=PREFILL, extrapolate=True)
    assert model.decode_run(1, 1)[0] == pytest.approx(0.009)
    assert model.step_s(129, 1, 128, 8192.0, 1, 1, 2) == pytest.approx(0.015)


def test_decode_batches_are_padded_up_but_keep_their_context():
    padded = table(pad_batch_to=(1, 4, 16))
    first_s, growth_s, _ = padded.decode_run(3, 400)
    assert first_s == table().decode_run(4, 400)[0]
    assert growth_s == pytest.approx(table().decode_run(4, 400)[1] * 3 / 4)
    assert padded.decode_run(4, 400) == table().decode_run(4, 400)
    above = table(pad_batch_to=(1, 4))
    assert above.decode_run(5, 500) == table().decode_run(5, 500)


@given(seqs=st.integers(1, 16), mean=st.integers(10, 400))
def test_a_padded_run_equals_its_steps(seqs, mean):
    model = table(pad_batch_to=(1, 2, 4, 8, 16))
    first_s, growth_s, steps = model.decode_run(seqs, seqs * mean)
    for k in {0, 1, steps // 2, steps - 1} & set(range(steps)):
        alone_s = model.decode_run(seqs, seqs * (mean + k))[0]
        assert first_s + k * growth_s == pytest.approx(alone_s, rel=1e-9)


@pytest.mark.parametrize(
    ("seqs", "context", "message"),
    [
        (17, 170, r"decode batch is 17, outside the measured range 1 to 16"),
        (1, 1001, r"mean decode context of a batch of 1 is 1001, outside the measured range 1 to 1000"),
        (8, 8001, r"mean decode context of a batch of 8 is 1000\.12, outside"),
    ],
)
def test_a_point_outside_the_table_is_an_error_naming_point_and_range(seqs, context, message):
    with pytest.raises(InputError, match=message) as caught:
        table().decode_run(seqs, context)
    assert "latency.extrapolate" in str(caught.value)
    assert table(extrapolate=True).decode_run(seqs, context)[0] > 0


def test_prefill_outside_its_table_is_an_error_unless_extrapolated():
    with pytest.raises(InputError, match=r"prefill tokens of a step is 4096, outside the measured range 1 to 2048"):
        table().step_s(4096, 1, 4096, 1.0, 0, 0, 1)
    slope = 0.135 / 1920
    assert table(extrapolate=True).step_s(4096, 1, 4096, 1.0, 0, 0, 1) == pytest.approx(0.150 + slope * 2048)


def test_extrapolation_prolongs_the_last_cell_without_a_breakpoint():
    first_s, growth_s, steps = table(extrapolate=True).decode_run(4, 8000)
    assert (first_s, steps) == (pytest.approx(0.026 + 4000 * 0.012 / 3600), UNLIMITED_STEPS)
    assert growth_s == pytest.approx(4 * 0.012 / 3600)


@given(start=st.integers(11, 60))
def test_a_falling_line_that_is_prolonged_never_gives_a_step_without_time(start):
    rows = (row(1, (1, 11), (0.06, 0.05)), row(2, (2, 22), (0.06, 0.05)))
    model = PiecewiseStepTime(decode=rows, prefill=PREFILL, extrapolate=True)
    first_s, growth_s, steps = model.decode_run(1, start)
    assert first_s > 0
    assert first_s + growth_s * (steps - 1) > 0
    assume(first_s + growth_s * steps < -1e-12)
    with pytest.raises(InputError, match="gives a step of"):
        model.decode_run(1, start + steps)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: table(decode=()), "at least one row"),
        (lambda: table(decode=table().decode[::-1]), "ascending order of batch"),
        (lambda: table(decode=(table().decode[0],) * 2), "ascending order of batch"),
        (lambda: table(decode=table().decode[:1], extrapolate=True), "single decode row"),
        (lambda: table(pad_batch_to=(4, 2)), "pad_batch_to is .*ascending"),
        (lambda: table(pad_batch_to=(0, 2)), "pad_batch_to is 0"),
        (lambda: table(shared_s=0.0101), "shared_s is 0.0101; allowed: at most"),
        (lambda: table(shared_s=-1.0), "shared_s is -1.0"),
        (lambda: table(shared_s=math.nan), "shared_s is nan"),
        (lambda: row(0, (1, 2), (1.0, 1.0)), "batch is 0"),
        (lambda: row(1, (1,), (1.0,)), "two points or more"),
        (lambda: row(1, (1, 2), (1.0,)), "one step_s each"),
        (lambda: row(1, (2, 1), (1.0, 1.0)), "ascending order"),
        (lambda: row(1, (1, 1), (1.0, 1.0)), "ascending order"),
        (lambda: row(1, (-1, 1), (1.0, 1.0)), "context_tokens is -1"),
        (lambda: row(1, (1, 2), (1.0, 0.0)), "step_s of .* is 0.0"),
        (lambda: row(1, (1, 2), (1.0, math.nan)), "step_s of .* is nan"),
        (lambda: PrefillTable(tokens=(1, 2), step_s=(math.inf, 1.0)), "step_s of .* is inf"),
    ],
)
def test_a_bad_table_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
