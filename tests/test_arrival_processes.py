"""Arrival processes: rates, variability and profiles, within what sampling theory allows."""

import math
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_models.errors import InputError
from scenarios.traces.mmpp_fit import mmpp_dispersion
from scenarios.traces.statistics import dispersion
from scenarios.workloads.arrival_processes import (
    MMPP2,
    Deterministic,
    Diurnal,
    Gamma,
    Poisson,
    Spikes,
    SpikeWindow,
    Weibull,
    merge_times,
    weibull_shape,
)


def draw(process, count, seed=1):
    parts, have = [], 0
    for part in process.arrivals(np.random.default_rng(seed)):
        parts.append(part)
        have += len(part)
        if have >= count:
            break
    return np.concatenate(parts)[:count]


def until(process, end, seed=1):
    parts = []
    for part in process.arrivals(np.random.default_rng(seed)):
        parts.append(part[part < end])
        if part[-1] >= end:
            break
    return np.concatenate(parts)


ALL = [
    Poisson(rate_per_s=3),
    Gamma(rate_per_s=3, cv=2.5),
    Gamma(rate_per_s=3, cv=0.3),
    Weibull(rate_per_s=3, cv=2),
    Weibull(rate_per_s=3, shape=2.0),
    Deterministic(rate_per_s=3),
    MMPP2(rates_per_s=(10, 0), sojourns_s=(2, 5)),
    Diurnal(profile=((0, 1), (10, 5), (20, 0))),
    Spikes(base=Poisson(rate_per_s=1), windows=(SpikeWindow(start_s=5, end_s=9, extra_rate_per_s=20),)),
]


@pytest.mark.parametrize("process", ALL, ids=lambda process: process.kind)
def test_times_do_not_fall_and_repeat_with_the_seed(process):
    times = draw(process, 20_000)
    assert times[0] >= 0
    assert (np.diff(times) >= 0).all()
    assert np.isfinite(times).all()
    np.testing.assert_array_equal(times, draw(process, 20_000))
    np.testing.assert_array_equal(times[:100], draw(process, 100))
    if process.kind != "deterministic":
        assert (draw(process, 100, seed=2) != times[:100]).any()


@pytest.mark.parametrize(
    ("process", "cv"),
    [
        (Poisson(rate_per_s=4), 1.0),
        (Gamma(rate_per_s=4, cv=3), 3.0),
        (Gamma(rate_per_s=4, cv=0.5), 0.5),
        (Weibull(rate_per_s=4, cv=2), 2.0),
        (Weibull(rate_per_s=4, shape=1.0), 1.0),
        (Deterministic(rate_per_s=4), 0.0),
    ],
)
def test_renewal_rate_and_variability(process, cv):
    count = 200_000
    gaps = np.diff(draw(process, count))
    # The mean of n gaps has standard error cv / sqrt(n), relative to the mean.
    assert gaps.mean() * 4 == pytest.approx(1, abs=5 * cv / math.sqrt(count) + 1e-9)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05, abs=1e-6)


@given(st.floats(0.02, 100))
def test_weibull_shape_gives_the_cv(cv):
    shape = weibull_shape(cv)
    moment = math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape)
    assert math.sqrt(math.expm1(moment)) == pytest.approx(cv, rel=1e-6)


def test_deterministic_times_are_exact():
    times = draw(Deterministic(rate_per_s=10), 5000)
    np.testing.assert_array_equal(times, np.arange(5000) / 10)


def test_mmpp_rate_and_dispersion_match_theory():
    process = MMPP2(rates_per_s=(20, 1), sojourns_s=(3, 9))
    times = draw(process, 400_000)
    mean = (20 * 3 + 1 * 9) / 12
    # Counts over T have variance IDC(infinity) * mean * T.
    tolerance = 5 * math.sqrt(mmpp_dispersion(process, 1e9) / len(times))
    assert len(times) / times[-1] == pytest.approx(mean, rel=tolerance)
    for window in (0.5, 5.0, 50.0):
        assert dispersion(times, window) == pytest.approx(mmpp_dispersion(process, window), rel=0.1)


def test_mmpp_is_silent_in_a_state_without_arrivals():
    times = draw(MMPP2(rates_per_s=(100, 0), sojourns_s=(1, 50)), 50_000)
    gaps = np.diff(times)
    assert (gaps > 10).sum() > 100
    assert np.median(gaps) == pytest.approx(math.log(2) / 100, rel=0.05)


def test_diurnal_follows_its_profile():
    process = Diurnal(profile=((0, 0), (10, 100), (10, 20), (30, 20)))
    periods = 300
    times = until(process, 30 * periods)
    phase = times % 30
    counts = np.histogram(phase, bins=[0, 5, 10, 30])[0]
    expected = np.array([125, 375, 400]) * periods
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
    # Within the linear part the phase has density proportional to it: mean 2/3 of its length.
    ramp = phase[phase < 10]
    assert ramp.mean() == pytest.approx(20 / 3, abs=5 * ramp.std() / math.sqrt(len(ramp)))
    # Whole periods are independent Poisson counts, so their dispersion is 1 with standard error sqrt(2 / n).
    whole = np.histogram(times, bins=np.arange(periods + 1) * 30)[0]
    assert whole.var() / whole.mean() == pytest.approx(1, abs=5 * math.sqrt(2 / periods))


def test_diurnal_without_repeat_holds_or_ends():
    holding = Diurnal(profile=((0, 10), (10, 40)), repeat=False)
    tail = until(holding, 1000)
    assert ((tail > 500).sum()) == pytest.approx(20_000, abs=5 * math.sqrt(20_000))
    ending = np.concatenate(list(Diurnal(profile=((0, 10), (10, 0)), repeat=False).arrivals(np.random.default_rng(1))))
    assert len(ending) == pytest.approx(50, abs=5 * math.sqrt(50))
    assert ending.max() <= 10


def test_spikes_add_to_the_unchanged_base():
    base = Gamma(rate_per_s=5, cv=2)
    windows = (
        SpikeWindow(start_s=100, end_s=200, extra_rate_per_s=50),
        SpikeWindow(start_s=150, end_s=200, extra_rate_per_s=50),
    )
    times = until(Spikes(base=base, windows=windows), 1000)
    own = until(base, 1000)
    assert np.isin(own, times).all()
    extra = np.setdiff1d(times, own)
    assert extra.min() >= 100
    assert extra.max() < 200
    assert (extra < 150).sum() == pytest.approx(2500, abs=250)
    assert (extra >= 150).sum() == pytest.approx(5000, abs=354)


@given(st.lists(st.lists(st.lists(st.floats(0, 100), min_size=1, max_size=4), max_size=4), max_size=4))
def test_merge_times_keeps_all_in_order(streams):
    cut = [[sorted(part) for part in stream] for stream in streams]
    flat = [sorted(time for part in stream for time in part) for stream in cut]
    chunks = []
    for stream, times in zip(cut, flat, strict=True):
        remaining = iter(times)
        chunks.append(iter([np.array(list(islice(remaining, len(part)))) for part in stream]))
    merged = [time for part in merge_times(*chunks) for time in part.tolist()]
    assert merged == sorted(time for times in flat for time in times)


BAD_NUMBERS = [0.0, -1.0, math.nan, math.inf]


@pytest.mark.parametrize("value", BAD_NUMBERS)
def test_bad_rates(value):
    for build in (
        lambda: Poisson(rate_per_s=value),
        lambda: Gamma(rate_per_s=value, cv=1),
        lambda: Gamma(rate_per_s=1, cv=value),
        lambda: Weibull(rate_per_s=value, cv=1),
        lambda: Weibull(rate_per_s=1, cv=value),
        lambda: Weibull(rate_per_s=1, shape=value),
        lambda: Deterministic(rate_per_s=value),
        lambda: MMPP2(rates_per_s=(1, 2), sojourns_s=(1, value)),
        lambda: Diurnal(profile=((0, 1), (value, 1))),
        lambda: SpikeWindow(start_s=0, end_s=1, extra_rate_per_s=value),
        lambda: SpikeWindow(start_s=0, end_s=value, extra_rate_per_s=1),
    ):
        with pytest.raises(InputError):
            build()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Weibull(rate_per_s=1),
        lambda: Weibull(rate_per_s=1, cv=1, shape=1),
        lambda: MMPP2(rates_per_s=(0, 0), sojourns_s=(1, 1)),
        lambda: MMPP2(rates_per_s=(1, 1), sojourns_s=(1e-6, 1e-6)),
        lambda: Diurnal(profile=((0, 1),)),
        lambda: Diurnal(profile=((1, 1), (2, 1))),
        lambda: Diurnal(profile=((0, 1), (5, 1), (3, 1))),
        lambda: Diurnal(profile=((0, 0), (5, 0))),
        lambda: Diurnal(profile=((0, 1), (5, -1))),
        lambda: Spikes(base=Poisson(rate_per_s=1), windows=()),
    ],
)
def test_bad_settings(build):
    with pytest.raises(InputError):
        build()
