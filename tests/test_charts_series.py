"""Long series as few points, and what disturbed a run."""

import numpy as np
import pytest
from chart_cases import simulated

from analysis.charts.bands import banded, counted, quantile_by_window, window_edges
from analysis.charts.disturbances import disturbances
from analysis.stored.run import StoredRun
from latency_models.errors import InputError


@pytest.mark.parametrize("end_s", [1e-3, 0.7, 59.0, 600.0, 1800.0, 86_400.0, 3.2e7, 1e12])
def test_windows_cover_the_time_and_are_few(end_s):
    edges_s = window_edges(end_s, 120)
    assert edges_s[0] == 0.0
    assert edges_s[-1] >= end_s * (1 - 1e-9)
    assert 1 <= len(edges_s) - 1 <= 121
    assert edges_s[-1] - end_s <= edges_s[1] * (1 + 1e-6)


@pytest.mark.parametrize(("end_s", "width_s"), [(600.0, 5.0), (1800.0, 15.0), (7200.0, 60.0), (86_400.0, 900.0)])
def test_windows_have_widths_of_clocks(end_s, width_s):
    assert window_edges(end_s, 120)[1] == width_s


def test_no_time_at_all_is_one_window():
    assert list(window_edges(0.0, 10)) == [0.0, 1.0]


def test_rates_count_the_part_of_the_last_window_that_was_reached():
    edges_s = np.array([0.0, 10.0, 20.0])
    times_s = np.concatenate([np.linspace(0.0, 9.9, 30), np.linspace(10.0, 15.9, 18)])
    assert list(counted(times_s, edges_s, 16.0).middle) == [3.0, 3.0]
    assert np.isnan(counted(times_s[:31], edges_s, 10.4).middle[1])


def test_a_band_hides_no_peak():
    times_s = np.arange(100_000) * 0.1
    values = np.zeros(len(times_s))
    values[77_777] = 50.0
    band = banded(times_s, values, times_s[-1], 120)
    assert not band.points
    assert len(band.middle) <= 121
    assert np.nanmax(band.high) == 50.0
    assert np.nanmax(band.middle) < 1.0
    assert np.nansum(band.middle > 0.0) == 1


def test_few_samples_are_left_as_they_are():
    times_s, values = np.arange(10.0), np.arange(10.0) ** 2
    band = banded(times_s, values, 9.0, 120)
    assert band.points
    assert band.low is None
    assert list(band.middle) == list(values)


def test_several_samples_of_one_time_are_their_mean_with_bounds():
    band = banded(np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 3.0, 5.0, 5.0]), 1.0, 120)
    assert (list(band.middle), list(band.low), list(band.high)) == ([2.0, 5.0], [1.0, 5.0], [3.0, 5.0])


def test_a_quantile_of_too_few_answers_is_not_known():
    times_s = np.arange(300.0)
    values = np.where(times_s < 100.0, 1.0, np.where(times_s < 110.0, np.inf, 2.0))
    middle = quantile_by_window(times_s, values, np.array([0.0, 100.0, 200.0, 300.0, 400.0]), 0.95).middle
    assert middle[0] == 1.0
    assert np.isnan(middle[1])  # one in ten got none
    assert middle[2] == 2.0
    assert np.isnan(middle[3])  # nobody asked


def test_outages_and_slow_replicas_are_found(tmp_path):
    folder = simulated(
        tmp_path / "run", "co-tenant", "workload.duration_s=60", "run.warmup=5",
        "speed_changes=[{at_s: 20, model: llama-7b, replica: 0, slowdown: 2}, "
        "{at_s: 30, model: llama-7b, replica: 0, slowdown: 1}, {at_s: 50, model: llama-7b, replica: 2, slowdown: 3}]",
        "faults={load_s: 5, crashes: [{at_s: 10, model: llama-7b, replica: 1}]}",
    )  # fmt: skip
    run = StoredRun(folder)
    found = [(one.kind, one.replica, one.from_s, one.to_s) for one in disturbances(run)]
    end_s = run.timeseries()["time_s"].max()
    assert found == [
        ("warm-up", "", 0.0, 5.0),
        ("down", "llama-7b/1", 10.0, 15.0),
        ("slowed", "llama-7b/0", 20.0, 30.0),
        ("slowed", "llama-7b/2", 50.0, end_s),
    ]
    (folder / "outages.csv").write_text("replica\nllama-7b/1\n", encoding="utf-8")
    with pytest.raises(InputError, match="outages"):
        run.outages()


def test_a_run_without_faults_has_no_outages(tmp_path):
    folder = simulated(tmp_path / "run", "mps-pair", "workload.duration_s=20", "run.warmup=0")
    assert not (folder / "outages.csv").exists()
    assert StoredRun(folder).outages() == []
    assert disturbances(StoredRun(folder)) == []
