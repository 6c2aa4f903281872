"""Transforms: what each keeps and what it changes, independent of how the stream is cut into chunks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_models.errors import InputError
from scenarios.traces.statistics import dispersion
from scenarios.workloads.request_chunks import concatenate, make_chunk, slice_rows
from scenarios.workloads.transforms import (
    Cap,
    MagnifyBursts,
    PoissonGaps,
    Repeat,
    ScaleRate,
    Window,
    cut_content,
    merge,
    spread_arrivals,
    transformed,
)

SEED = np.random.SeedSequence(5)


def chunk_from(times, **columns):
    times = np.asarray(times, np.float64)
    numbers = np.arange(1, len(times) + 1)
    return make_chunk(times, numbers, numbers * 10, **columns)


def cut(chunk, size):
    return lambda: (slice_rows(chunk, start, start + size) for start in range(0, len(chunk.arrival_s), size))


def run(transform, chunk, size=7):
    chunks = list(transform.apply(cut(chunk, size), SEED))
    return concatenate(chunks) if chunks else None


times_lists = st.lists(st.floats(0, 1000), min_size=1, max_size=60).map(sorted)
sizes = st.integers(1, 70)


def poisson(n=3000, rate=10.0, seed=1):
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n))


@given(times_lists, sizes, st.floats(0, 900), st.floats(0.1, 500))
def test_window(times, size, start, length):
    out = run(Window(start_s=start, end_s=start + length), chunk_from(times), size)
    kept = [(i + 1, time - start) for i, time in enumerate(times) if start <= time < start + length]
    found = [] if out is None else list(zip(out.prompt_tokens.tolist(), out.arrival_s.tolist(), strict=True))
    assert found == kept


def test_window_reads_no_further_than_its_end():
    def endless():
        start = 0.0
        while True:
            assert start < 100
            yield chunk_from(np.arange(10) + start)
            start += 10

    assert len(concatenate(list(Window(end_s=25.0).apply(endless, SEED))).arrival_s) == 25


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_compress(factor):
    times = poisson()
    out = run(ScaleRate(factor=factor), chunk_from(times))
    np.testing.assert_allclose(out.arrival_s, times / factor)
    assert out.prompt_tokens.tolist() == list(range(1, 3001))


def test_thin():
    times = poisson(20_000)
    transform = ScaleRate(factor=0.3, method="thin")
    out = run(transform, chunk_from(times), 999)
    assert len(out.arrival_s) == pytest.approx(6000, abs=5 * math.sqrt(20_000 * 0.21))
    np.testing.assert_array_equal(out.arrival_s, times[out.prompt_tokens - 1])
    np.testing.assert_array_equal(out.arrival_s, run(transform, chunk_from(times), 50).arrival_s)


@given(times_lists, sizes, st.floats(0, 5), st.floats(1, 300))
def test_magnified_bursts_stay_in_their_window(times, size, factor, window):
    out = run(MagnifyBursts(factor=factor, window_s=window), chunk_from(times), size)
    assert out.prompt_tokens.tolist() == list(range(1, len(times) + 1))
    assert (np.diff(out.arrival_s) >= 0).all()
    assert out.arrival_s[-1] == pytest.approx(times[-1])
    start = np.floor_divide(times, window) * window
    assert (out.arrival_s >= start - 1e-9).all()
    assert (out.arrival_s <= start + window + 1e-9).all()


def test_magnify_bursts_changes_the_burstiness_only():
    times = poisson(20_000)
    chunk = chunk_from(times)
    spread = {factor: run(MagnifyBursts(factor=factor), chunk, 1000).arrival_s for factor in (0.0, 1.0, 2.0)}
    np.testing.assert_allclose(spread[1.0], times)
    # Squared exponential gaps are Weibull with shape 1/2, whose CV is sqrt(5).
    gaps = np.diff(spread[2.0])
    assert gaps.std() / gaps.mean() == pytest.approx(math.sqrt(5), rel=0.1)
    assert dispersion(spread[2.0], 1.0) > 2 * dispersion(times, 1.0)
    assert dispersion(spread[0.0], 1.0) < 0.2
    edges = np.arange(0, times[-1], 300.0)
    for moved in spread.values():
        np.testing.assert_array_equal(np.histogram(moved, edges)[0][:-1], np.histogram(times, edges)[0][:-1])


def test_poisson_gaps_keep_the_requests_and_forget_the_bursts():
    times = np.sort(np.concatenate([poisson(5000), np.floor(poisson(5000))]))
    out = run(PoissonGaps(rate_per_s=4.0), chunk_from(times), 100)
    assert out.prompt_tokens.tolist() == list(range(1, len(times) + 1))
    gaps = np.diff(out.arrival_s)
    assert gaps.mean() == pytest.approx(0.25, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, rel=0.05)
    assert dispersion(out.arrival_s, 10.0) == pytest.approx(1.0, abs=0.2)
    np.testing.assert_allclose(run(PoissonGaps(rate_per_s=4.0), chunk_from(times), 7).arrival_s, out.arrival_s)
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="rate_per_s"):
            PoissonGaps(rate_per_s=wrong)


def test_repeat():
    chunk = chunk_from(
        [0, 1, 2], request_id=["a", "b", "c"], session=["s", None, "s"], content=[(("p", 1),), None, None]
    )
    out = run(Repeat(times=3), chunk, 2)
    # The mean gap separates the copies.
    assert out.arrival_s.tolist() == list(range(9))
    assert out.request_id == ["a", "b", "c", "a#2", "b#2", "c#2", "a#3", "b#3", "c#3"]
    assert out.session[3:6] == ["s#2", None, "s#2"]
    assert out.content[3] == (("p#2", 1),)
    same = run(Repeat(times=2, period_s=10, same_content=True), chunk, 2)
    assert same.arrival_s.tolist() == [0, 1, 2, 10, 11, 12]
    assert same.content[3] == (("p", 1),)
    with pytest.raises(InputError, match="period_s"):
        run(Repeat(times=2, period_s=1), chunk)


def test_cap():
    chunk = chunk_from(range(10), content=[(("p", 1), ("q", i)) for i in range(10)])
    out = run(Cap(requests=8, prompt_tokens=3, output_tokens=40), chunk, 3)
    assert out.prompt_tokens.tolist() == [1, 2, 3, 3, 3, 3, 3, 3]
    assert out.output_tokens.tolist() == [10, 20, 30, 40, 40, 40, 40, 40]
    assert out.content[5] == (("p", 1), ("q", 2))
    assert cut_content((("p", 3), ("q", 2)), 3) == (("p", 3),)
    assert cut_content(None, 3) is None


@given(st.lists(st.tuples(times_lists, sizes), max_size=4))
def test_merge(streams):
    merged = list(merge([cut(chunk_from(times), size)() for times, size in streams]))
    found = [time for chunk in merged for time in chunk.arrival_s.tolist()]
    assert found == sorted(time for times, _ in streams for time in times)
    lengths = sorted(value for chunk in merged for value in chunk.prompt_tokens.tolist())
    assert lengths == sorted(i + 1 for times, _ in streams for i in range(len(times)))


def test_merge_fills_fields_that_some_streams_lack():
    first = chunk_from([0, 2], model=["m", "m"], priority=[1, 2])
    out = concatenate(list(merge([iter([first]), iter([chunk_from([1])])])))
    assert out.model == ["m", None, "m"]
    assert out.priority.tolist() == [1, 0, 2]
    assert out.session is None


@given(times_lists, sizes, st.floats(0.1, 100))
def test_spread_keeps_all_in_order(times, size, spread):
    out = concatenate(list(spread_arrivals(cut(chunk_from(times), size)(), spread, np.random.default_rng(1))))
    assert sorted(out.prompt_tokens.tolist()) == list(range(1, len(times) + 1))
    assert (np.diff(out.arrival_s) >= 0).all()
    delay = out.arrival_s - np.array(times)[out.prompt_tokens - 1]
    assert delay.min() >= -1e-9
    assert delay.max() <= spread + 1e-9


def test_chains_run_in_order_and_reproduce():
    steps = [ScaleRate(factor=0.5, method="thin"), Window(end_s=100.0), Repeat(times=2), Cap(requests=700)]
    source = transformed(cut(chunk_from(poisson()), 100), steps, SEED)
    first, second = concatenate(list(source())), concatenate(list(source()))
    np.testing.assert_array_equal(first.arrival_s, second.arrival_s)
    assert len(first.arrival_s) == 700
    assert (np.diff(first.arrival_s) >= 0).all()
    once = int((first.arrival_s < 100).sum())
    # Thinning draws the same for both copies.
    np.testing.assert_array_equal(first.prompt_tokens[once:], first.prompt_tokens[: 700 - once])


@pytest.mark.parametrize(
    "build",
    [
        *(lambda value=value: ScaleRate(factor=value) for value in (0, -1, math.nan, math.inf)),
        *(lambda value=value: MagnifyBursts(factor=value) for value in (-1, math.nan, math.inf, 11)),
        *(lambda value=value: MagnifyBursts(factor=1, window_s=value) for value in (0, -1, math.nan, math.inf)),
        *(lambda value=value: Window(start_s=5, end_s=value) for value in (5, 0, -1, math.nan, math.inf)),
        lambda: Window(start_s=-1, end_s=1),
        lambda: ScaleRate(factor=1.5, method="thin"),
        lambda: ScaleRate(factor=0.5, method="drop"),
        lambda: Repeat(times=0),
        lambda: Repeat(times=2, period_s=0),
        Cap,
        lambda: Cap(requests=0),
        lambda: Cap(prompt_tokens=-1),
    ],
)
def test_bad_settings(build):
    with pytest.raises(InputError):
        build()
