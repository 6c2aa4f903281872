import csv
import dataclasses
import math

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from latency_models.config import LatencyConfig
from latency_models.errors import InputError
from latency_models.fits.step_table import StepTable
from latency_models.laws.linear import LinearStepTime
from latency_models.laws.noise import LognormalNoise, RecordedNoise
from latency_models.laws.recorded_steps import RecordedSteps
from latency_models.sections.noise import NoiseConfig

LAW = LinearStepTime(base_s=0.01, per_token_s=1e-4, per_context_token_s=1e-6)


def seed(entropy=1):
    return np.random.SeedSequence(entropy)


def factors(noise, steps, entropy=1):
    """The factor of each step, asked for one by one."""
    stream = noise.stream(seed(entropy))
    return np.array([stream.factor(step)[0] for step in range(steps)])


RECORDED = RecordedNoise(factors=[1.0 + 0.01 * k for k in range(50)], block_steps=7)
KINDS = [LognormalNoise(sigma=0.3, correlation_steps=5, persistence=0.6), RECORDED]


@pytest.mark.parametrize("noise", KINDS)
def test_a_factor_depends_on_the_step_number_alone(noise):
    every = factors(noise, 400)
    stream = noise.stream(seed())
    step, jumps = 0, []
    while step < 400:
        factor, holds = stream.factor(step)
        assert holds >= 1
        assert (every[step : step + holds] == factor).all(), "what a run is told holds for all of its steps"
        jumps.append(step)
        step += holds
    assert len(jumps) == (80 if noise is not RECORDED else 400)
    sparse = noise.stream(seed())
    assert [sparse.factor(step)[0] for step in (0, 3, 3, 100, 399)] == every[[0, 3, 3, 100, 399]].tolist()


@pytest.mark.parametrize("noise", KINDS)
def test_the_same_seed_gives_the_same_factors_and_another_one_others(noise):
    assert (factors(noise, 100) == factors(noise, 100)).all()
    assert (factors(noise, 100) != factors(noise, 100, entropy=2)).any()


@pytest.mark.parametrize("noise", KINDS)
def test_going_back_is_a_mistake_of_the_caller(noise):
    stream = noise.stream(seed())
    stream.factor(100)
    with pytest.raises(ValueError, match="order of the steps"):
        stream.factor(0)


def test_lognormal_factors_have_mean_1_and_the_given_spread_and_correlation():
    noise = LognormalNoise(sigma=0.2, correlation_steps=1, persistence=0.7)
    values = factors(noise, 200_000)
    logs = np.log(values)
    assert values.mean() == pytest.approx(1.0, abs=0.005)
    assert logs.std() == pytest.approx(0.2, rel=0.02)
    for lag in (1, 2, 5):
        assert np.corrcoef(logs[lag:], logs[:-lag])[0, 1] == pytest.approx(0.7**lag, abs=0.03)


def test_lognormal_factors_are_constant_over_a_block():
    noise = LognormalNoise(sigma=0.2, correlation_steps=16)
    values = factors(noise, 160).reshape(10, 16)
    assert (values == values[:, :1]).all()
    assert len(np.unique(values[:, 0])) == 10
    assert noise.stream(seed()).factor(37)[1] == 48 - 37


def test_without_spread_there_is_no_noise():
    assert (factors(LognormalNoise(sigma=0.0), 100) == 1.0).all()


def test_recorded_factors_come_in_consecutive_runs_and_all_of_them_come():
    drawn = factors(RECORDED, 7 * 2000).reshape(2000, 7)
    places = np.rint((drawn - 1.0) / 0.01).astype(int)
    assert (np.diff(places, axis=1) == 1).all()
    assert set(places.ravel()) == set(range(50))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LognormalNoise(sigma=-0.1), "noise.sigma"),
        (lambda: LognormalNoise(sigma=math.nan), "noise.sigma"),
        (lambda: LognormalNoise(sigma=10.0), "0.1 is about 10 %"),
        (lambda: LognormalNoise(sigma=0.1, correlation_steps=0), "noise.correlation_steps"),
        (lambda: LognormalNoise(sigma=0.1, persistence=1.0), "noise.persistence"),
        (lambda: RecordedNoise(factors=[1.0] * 10, block_steps=11), "number of recorded steps is 10"),
        (lambda: RecordedNoise(factors=[1.0], block_steps=1), "at least 2"),
        (lambda: RecordedNoise(factors=[1.0, 0.0], block_steps=1), "recorded noise factor is 0"),
        (lambda: RecordedNoise(factors=[1.0, math.inf], block_steps=1), "recorded noise factor is inf"),
        (lambda: RecordedNoise(factors=[1.0, 1.0], block_steps=0), "noise.block_steps"),
    ],
)
def test_bad_values_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def log(path, wobble=0.0, rows=400):
    """Decode steps of the law, times exp of alternating wobble, as a file."""
    rng = np.random.default_rng(3)
    batch, context = rng.integers(1, 64, rows), rng.integers(10, 2000, rows)
    table = StepTable.of_decodes(batch, context, np.ones(rows))
    signs = np.where(np.arange(rows) % 2 == 0, 1.0, -1.0)
    table = dataclasses.replace(table, duration_s=table.predicted_s(LAW) * np.exp(wobble * signs))
    names = [field.name for field in dataclasses.fields(table)]
    lines = [",".join(map(repr, row)) for row in zip(*(getattr(table, name).tolist() for name in names), strict=True)]
    path.write_text("\n".join([",".join(names), *lines]))
    return path


def test_an_exact_log_gives_the_law_back_and_no_noise(tmp_path):
    recorded = RecordedSteps.read(log(tmp_path / "steps.csv"))
    assert recorded.law.decode_run(8, 800)[0] == pytest.approx(LAW.decode_run(8, 800)[0], rel=1e-4)
    assert np.array(recorded.factors) == pytest.approx(1.0, abs=1e-4)


def test_factors_of_a_noisy_log_are_measured_over_fitted(tmp_path):
    path = log(tmp_path / "steps.csv", wobble=0.1)
    recorded = RecordedSteps.read(path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    for row, factor in zip(rows, recorded.factors, strict=True):
        fitted_s = recorded.law.decode_run(int(float(row["decode_seqs"])), int(float(row["decode_context"])))[0]
        assert factor == pytest.approx(float(row["duration_s"]) / fitted_s)
    assert 0.08 < np.std(recorded.factors) < 0.13
    assert np.mean(recorded.centred_factors()) == pytest.approx(1.0)


def noise_section(**keys):
    return TypeAdapter(NoiseConfig).validate_python(keys)


def latency_section(**keys):
    return TypeAdapter(LatencyConfig).validate_python(keys)


def test_noise_sections_build_what_they_say(tmp_path):
    built = noise_section(kind="lognormal", sigma=0.1, correlation_steps=8, persistence=0.5).build()
    assert built == LognormalNoise(sigma=0.1, correlation_steps=8, persistence=0.5)
    path = log(tmp_path / "steps.csv", wobble=0.1)
    recorded = noise_section(kind="recorded", path=str(path), block_steps=32).build()
    assert recorded == RecordedNoise(factors=RecordedSteps.read(path).centred_factors(), block_steps=32)


def test_a_replay_section_is_the_law_and_its_noise(tmp_path):
    path = log(tmp_path / "steps.csv", wobble=0.1)
    section = latency_section(kind="replay", path=str(path), block_steps=32)
    assert section.build() == RecordedSteps.read(path).law
    assert section.build_noise() == RecordedNoise(factors=RecordedSteps.read(path).factors, block_steps=32)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "lognormal"}, "sigma"),
        ({"kind": "lognormal", "sigma": 1.5}, "sigma"),
        ({"kind": "lognormal", "sigma": 0.1, "persistence": 1.0}, "persistence"),
        ({"kind": "gaussian", "sigma": 0.1}, "gaussian"),
        ({"kind": "lognormal", "sigma": 0.1, "steps": 3}, "steps"),
        ({"kind": "recorded", "path": "/nowhere/steps.csv"}, "cannot read"),
    ],
)
def test_bad_noise_sections_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        noise_section(**keys)


@pytest.mark.parametrize("section", [noise_section, latency_section])
def test_a_log_that_cannot_serve_is_refused_with_its_name(tmp_path, section):
    kind = "recorded" if section is noise_section else "replay"
    short = log(tmp_path / "short.csv", rows=40)
    with pytest.raises(ValidationError, match="number of recorded steps is 40"):
        section(kind=kind, path=str(short))
    few = log(tmp_path / "few.csv", rows=3)
    with pytest.raises(ValidationError, match=r"few\.csv.*at least"):
        section(kind=kind, path=str(few), block_steps=2)
    slow = log(tmp_path / "slow.csv", rows=400)
    rows = [line.rsplit(",", 1) for line in slow.read_text().splitlines()[1:]]
    header = slow.read_text().splitlines()[0]
    assert header.endswith(",duration_s")
    slow.write_text("\n".join([header, *(f"{cells},{1e3 * float(time_s)}" for cells, time_s in rows)]))
    with pytest.raises(ValidationError, match=r"slow\.csv: the median of duration_s is .* If these are milliseconds"):
        section(kind=kind, path=str(slow))
    slow.write_text(slow.read_text().replace("tokens,", "tokens,tokens,", 1))
    with pytest.raises(ValidationError, match="tokens is there twice"):
        section(kind=kind, path=str(slow))
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("tokens,duration_s\n1,0.1\n")
    with pytest.raises(ValidationError, match=r"header of .*wrong\.csv"):
        section(kind=kind, path=str(wrong))
