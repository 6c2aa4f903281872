"""Statistics of traces against known values, and fits that recover what generated the trace."""

import math

import numpy as np
import pytest

from latency_models.errors import InputError
from scenarios.traces.fit import distribution_distance, fit_trace
from scenarios.traces.mmpp_fit import mmpp_dispersion, mmpp_gap_cdf
from scenarios.traces.readers import read_trace
from scenarios.traces.statistics import load_columns, trace_statistics
from scenarios.workloads.arrival_processes import MMPP2, Deterministic, Gamma, Poisson, Weibull
from scenarios.workloads.build import build_traffic
from scenarios.workloads.config import parse_workload
from scenarios.workloads.generators import Bounds, open_loop
from scenarios.workloads.lengths import ConditionalLengths, IndependentLengths, LognormalLength
from scenarios.workloads.request_chunks import make_chunk

SEED = np.random.SeedSequence(11)
LOGNORMAL = IndependentLengths(prompt=LognormalLength(mean=500, cv=1.0), output=LognormalLength(mean=200, cv=0.5))


def chunk_from(times, prompts, outputs, **columns):
    return make_chunk(np.array(times, float), np.array(prompts), np.array(outputs), **columns)


def generated(arrivals, requests=6000, lengths=LOGNORMAL, seed=1):
    seed = np.random.SeedSequence(seed)
    return load_columns(open_loop(arrivals=arrivals, lengths=lengths, bounds=Bounds(requests=requests), seed=seed))


def test_small_trace_by_hand():
    times = [10, 10, 10.5, 11.2, 12.1, 14]
    statistics = trace_statistics([chunk_from(times[:2], [1, 2], [5, 5]), chunk_from(times[2:], [3, 4, 5, 6], [5] * 4)])
    assert statistics.requests == 6
    assert statistics.duration_s == 4
    assert statistics.rate_per_s == 5 / 4
    gaps = np.diff(times)
    assert statistics.interarrival_cv == pytest.approx(gaps.std() / gaps.mean())
    # Seconds from the first arrival on hold 3, 1, 1, 0 requests.
    assert statistics.dispersion_1s == pytest.approx(np.var([3, 1, 1, 0]) / np.mean([3, 1, 1, 0]))
    assert statistics.dispersion_10s is None
    assert statistics.peak_to_mean_10s is None
    assert (statistics.prompt_tokens.mean, statistics.prompt_tokens.p50, statistics.prompt_tokens.maximum) == (
        3.5,
        3.5,
        6,
    )
    assert statistics.output_tokens.std == 0
    assert statistics.shared_prefix_share is None


def test_shared_prefixes():
    a, b, c = ("a", 10), ("b", 5), ("c", 7)
    chunk = chunk_from([0, 1, 2, 3], [20, 20, 20, 20], [1] * 4, content=[(a, b), (a, b, c), (b, c), None])
    # Only the second prompt repeats a prefix: b and c after nothing are other blocks than b and c after a.
    assert trace_statistics([chunk]).shared_prefix_share == pytest.approx(15 / 80)


def test_one_request_and_none():
    statistics = trace_statistics([chunk_from([3], [1], [1])])
    assert (statistics.duration_s, statistics.rate_per_s, statistics.interarrival_cv) == (0, None, None)
    assert statistics.as_dict()["prompt_tokens"]["p99"] == 1
    with pytest.raises(InputError, match="no request"):
        trace_statistics([])


@pytest.mark.parametrize(
    ("process", "cv", "dispersion"),
    [(Poisson(rate_per_s=20), 1, 1), (Gamma(rate_per_s=20, cv=2), 2, 4), (Deterministic(rate_per_s=20), 0, 0)],
)
def test_statistics_of_renewal_processes(process, cv, dispersion):
    statistics = trace_statistics(generated(process, 100_000))
    assert statistics.interarrival_cv == pytest.approx(cv, rel=0.05, abs=1e-6)
    # The dispersion of a renewal process tends to cv ** 2; 500 windows estimate it within about 6 %.
    assert statistics.dispersion_10s == pytest.approx(dispersion, rel=0.35, abs=0.01)


def test_real_traces_have_their_published_figures(data_root):
    folder = data_root / "data/azure_llm_2023"
    code = trace_statistics(read_trace(folder / "azure_2023_code_first35min.csv"))
    assert code.interarrival_cv == pytest.approx(12.8, abs=0.05)
    assert code.dispersion_60s == pytest.approx(162, abs=1)
    assert code.peak_to_mean_10s == pytest.approx(10, abs=0.5)
    chat = trace_statistics(read_trace(folder / "azure_2023_conv_first35min.csv"))
    assert chat.interarrival_cv == pytest.approx(1.08, abs=0.005)
    assert chat.dispersion_60s == pytest.approx(16, abs=0.5)
    mooncake = trace_statistics(read_trace(data_root / "data/mooncake_traces/conversation_first40min.csv.gz"))
    assert mooncake.interarrival_cv == pytest.approx(3.0, abs=0.05)
    assert mooncake.dispersion_60s == pytest.approx(2.9, abs=0.1)
    assert 0.2 < mooncake.shared_prefix_share < 0.6


def test_distribution_distance():
    assert distribution_distance(np.array([1, 2, 3]), np.array([1, 2, 3])) == 0
    assert distribution_distance(np.array([1, 2]), np.array([3, 4])) == 1
    assert distribution_distance(np.array([1.0, 2.0]), np.array([1.0, 3.0])) == pytest.approx(0.5)


def test_mmpp_theory_has_its_limits():
    even = MMPP2(rates_per_s=(5, 5), sojourns_s=(1, 9))
    assert mmpp_dispersion(even, 10.0) == pytest.approx(1)
    gaps = np.linspace(0, 2, 9)
    np.testing.assert_allclose(mmpp_gap_cdf(even, gaps), 1 - np.exp(-5 * gaps), atol=1e-12)
    bursty = MMPP2(rates_per_s=(50, 1), sojourns_s=(2, 6))
    drawn = np.diff(generated(bursty, 100_000).arrival_s)
    levels = np.quantile(drawn, [0.1, 0.5, 0.9, 0.99])
    np.testing.assert_allclose(mmpp_gap_cdf(bursty, levels), [0.1, 0.5, 0.9, 0.99], atol=0.02)


@pytest.mark.parametrize(
    "process", [Poisson(rate_per_s=8), Gamma(rate_per_s=8, cv=2), Weibull(rate_per_s=8, shape=0.6)]
)
def test_fit_recovers_renewal_processes(process):
    columns = generated(process, 20_000)
    fit = fit_trace(columns, SEED)
    fitted = {arrival.process.kind: arrival for arrival in fit.arrivals}
    assert fitted[process.kind].gap_distance < 0.02
    assert fit.arrivals[0].score <= fitted[process.kind].score < 0.3
    if process.kind == "gamma":
        assert fitted["gamma"].process.cv == pytest.approx(2, rel=0.05)
    if process.kind == "weibull":
        assert fitted["weibull"].process.shape == pytest.approx(0.6, rel=0.05)
    for arrival in fit.arrivals[1:]:
        assert arrival.score >= fit.arrivals[0].score


def test_fit_recovers_an_mmpp():
    truth = MMPP2(rates_per_s=(40, 2), sojourns_s=(5, 20))
    fit = fit_trace(generated(truth, 50_000), SEED)
    best = fit.arrivals[0]
    assert best.process.kind == "mmpp2"
    assert best.score < 0.2
    busy, quiet = sorted(best.process.rates_per_s, reverse=True)
    assert busy == pytest.approx(40, rel=0.2)
    assert quiet == pytest.approx(2, rel=0.4)


def test_fit_chooses_lengths_by_their_shape():
    assert fit_trace(generated(Poisson(rate_per_s=8)), SEED).lengths[0].name == "lognormal"
    tables = (((0, 5), (1, 10)), ((0, 500), (1, 900)))
    dependent = ConditionalLengths(prompt=((0, 1), (1, 1000)), output_given_prompt=tables)
    fit = fit_trace(generated(Poisson(rate_per_s=8), lengths=dependent), SEED)
    assert fit.lengths[0].name == "conditional"
    assert fit.dependence > fit.dependence_limit
    assert fit.lengths[0].prompt_distance < 0.03
    assert fit.lengths[0].output_distance < 0.03
    bimodal = ConditionalLengths(
        prompt=((0, 1), (0.5, 9), (0.5, 900), (1, 990)), output_given_prompt=(((0, 4), (1, 8)),)
    )
    assert fit_trace(generated(Poisson(rate_per_s=8), lengths=bimodal), SEED).lengths[0].name == "empirical"


def test_fit_of_a_changing_rate():
    times = np.sort(np.random.default_rng(1).triangular(0, 3600, 3600, 20_000))
    columns = load_columns([chunk_from(times, np.full(20_000, 9), np.full(20_000, 9))])
    fit = fit_trace(columns, SEED, diurnal_points=4)
    (diurnal,) = (arrival for arrival in fit.arrivals if arrival.process.kind == "diurnal")
    profile = diurnal.process.profile
    # A triangular density rises from 0 to 2 n / T at the end.
    assert [time for time, _ in profile] == pytest.approx([0, 1200, 2400, 3600], rel=0.01)
    assert profile[2][1] == pytest.approx(2 * 20_000 / 3600 * 2 / 3, rel=0.05)
    assert diurnal.dispersion[60.0] == pytest.approx(fit.measured_dispersion[60.0], rel=0.2)
    assert diurnal.score < 0.2


@pytest.mark.parametrize("process", [Poisson(rate_per_s=8), MMPP2(rates_per_s=(40, 2), sojourns_s=(5, 20))])
def test_a_fit_is_a_workload_that_behaves_like_the_trace(process, tmp_path):
    columns = generated(process, 20_000)
    section = fit_trace(columns, SEED).workload()
    again = trace_statistics(build_traffic(parse_workload(section), SEED, tmp_path).chunks())
    original = trace_statistics(columns)
    relative = 5 * math.sqrt(original.dispersion_60s / original.requests)
    assert again.rate_per_s == pytest.approx(original.rate_per_s, rel=2 * relative)
    assert again.prompt_tokens.mean == pytest.approx(original.prompt_tokens.mean, rel=0.05)
    assert again.dispersion_10s == pytest.approx(original.dispersion_10s, rel=0.4)


def test_fit_needs_enough():
    with pytest.raises(InputError, match="at least 20"):
        fit_trace([chunk_from(range(5), [1] * 5, [1] * 5)], SEED)
    with pytest.raises(InputError, match="not all at the same time"):
        fit_trace([chunk_from([1] * 50, [1] * 50, [1] * 50)], SEED)


def test_real_trace_fit(data_root):
    fit = fit_trace(read_trace(data_root / "data/azure_llm_2023/azure_2023_code_first35min.csv"), SEED)
    assert fit.arrivals[0].process.kind == "mmpp2"
    for window, measured in fit.measured_dispersion.items():
        assert fit.arrivals[0].dispersion[window] == pytest.approx(measured, rel=0.3)
