import numpy as np
import pytest
import yaml
from measured_logs import LATENCY, REQUESTS, opened, requests, write_csv, write_measurement

from latency_models.errors import InputError
from scenarios.measurements.evaluation import open_measurement
from scenarios.measurements.fit import FitTarget, fit_through_simulator
from scenarios.measurements.logs import read_log
from scenarios.measurements.measurement_files import load_measurement, with_values
from scenarios.measurements.replay import replay
from scenarios.measurements.schema import ParameterSection


def test_a_fit_finds_the_parameters_that_made_the_log(measured):
    measurement = with_values(load_measurement(str(measured)), {"latency.base_s": 0.006, "latency.per_token_s": 3e-4})
    log = read_log(measurement.log)
    target = FitTarget(measurement=measurement, log=log, rows=np.arange(len(log)) < 40)
    sections = {
        "latency.base_s": ParameterSection(start=0.006, upper=0.1),
        "latency.per_token_s": ParameterSection(start=3e-4, upper=3e-3),
    }
    fit = fit_through_simulator([target], sections)
    assert fit.values() == pytest.approx({"latency.base_s": 0.01, "latency.per_token_s": 1e-4}, rel=0.02)
    assert all(parameter.identifiable for parameter in fit.parameters)
    assert fit.mean_error < 0.01
    assert fit.rows == 40


CORRECTED = {"kind": "corrected", "per_step_s": 0.002, "base": {**LATENCY, "base_s": 0.004}}


def noisy_target(folder, rows, **changes):
    """A log that the simulator wrote with ``CORRECTED`` and noise of 3 %, and a server with other numbers."""
    rows = [{**row, "ttft_ms": 1, "e2e_ms": 1000} for row in rows]
    write_csv(folder / "log.csv", rows)
    path = write_measurement(folder, REQUESTS, latency=CORRECTED)
    predicted = replay(*opened(path)).predicted
    noise = np.exp(0.03 * np.random.default_rng(0).normal(size=(2, len(rows))))
    for number, row in enumerate(rows):
        e2e_ms = 1e3 * predicted["e2e"][number] * noise[0, number]
        row.update(e2e_ms=e2e_ms, ttft_ms=min(1e3 * predicted["ttft"][number] * noise[1, number], 0.99 * e2e_ms))
    write_csv(folder / "log.csv", rows)
    measurement, log = opened(path)
    changed = with_values(measurement, {f"latency.{key}": value for key, value in changes.items()})
    return FitTarget(measurement=changed, log=log, rows=np.ones(len(log), dtype=bool))


@pytest.mark.parametrize("start", [0.0005, 0.001, 0.004])
def test_a_fit_does_not_stop_where_it_starts(tmp_path, start):
    target = noisy_target(tmp_path, requests(), per_step_s=start)
    section = {"latency.per_step_s": ParameterSection(start=start)}
    fit = fit_through_simulator([target], section, metrics=["ttft", "e2e"])
    (found,) = fit.parameters
    assert found.value == pytest.approx(0.002, rel=0.05)
    assert found.low <= 0.002 <= found.high
    assert fit.warnings == ()


def one_at_a_time(count=15):
    rng = np.random.default_rng(5)
    return [
        {"arrival_s": 3.0 * number, "prompt": int(rng.integers(20, 400)), "output": int(rng.integers(20, 60))}
        for number in range(count)
    ]


def test_parameters_that_rows_cannot_tell_apart_are_named(tmp_path):
    found = []
    for start in (0.5, 2.0):
        target = noisy_target(tmp_path, one_at_a_time(), factor=start)
        sections = {
            "latency.factor": ParameterSection(start=start, lower=0.2, upper=4.0),
            "latency.per_step_s": ParameterSection(start=0.001, upper=0.02),
        }
        fit = fit_through_simulator([target], sections, metrics=["tpot"])
        assert any("latency.factor and latency.per_step_s cannot be told apart" in text for text in fit.warnings)
        truth = {"latency.factor": 1.0, "latency.per_step_s": 0.002}
        assert all(each.low <= truth[each.key] <= each.high for each in fit.parameters)
        found.append(fit.values())
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_requests_that_were_alone_stay_alone_in_a_fit(tmp_path):
    """With pauses of a millisecond, a server that is a little slower would make each request wait for the last."""
    target = noisy_target(tmp_path, one_at_a_time())
    e2e_s = target.log.measured["e2e"]
    target.log.arrival_s[:] = np.cumsum(e2e_s + 1e-3) - (e2e_s + 1e-3)
    section = {"latency.per_step_s": ParameterSection(start=0.006, upper=0.02)}
    fit = fit_through_simulator([target], section)
    assert fit.values()["latency.per_step_s"] == pytest.approx(0.002, rel=0.1)
    assert fit.mean_error < 0.04


def test_a_parameter_without_effect_is_called_unknown(measured):
    measurement = load_measurement(str(measured))
    log = read_log(measurement.log)
    target = FitTarget(measurement=measurement, log=log, rows=np.ones(len(log), dtype=bool))
    fit = fit_through_simulator([target], {"latency.per_prefill_pair_s": ParameterSection(start=0.0, upper=1e-30)})
    assert not fit.parameters[0].identifiable


def test_fitting_on_another_file_judges_all_rows_of_this_one(measured):
    values = yaml.safe_load(measured.read_text())
    values["latency"]["base_s"] = 0.02
    values["fit"] = {"parameters": {"latency.base_s": {"start": 0.02}}, "files": ["made.yaml"]}
    other = measured.with_name("judged.yaml")
    other.write_text(yaml.safe_dump(values))
    evaluation = open_measurement(str(other)).evaluate()
    assert evaluation.comparison.rows == 60
    assert evaluation.measurement.latency.base_s == pytest.approx(0.01, rel=0.01)
    assert evaluation.comparison.values()["e2e_mean"] < 0.01


def test_a_key_that_yaml_reads_as_true_names_no_files_to_fit_on(measured):
    """``on:`` is a truth value to YAML, so that the key is another one."""
    fit = "fit: {parameters: {latency.base_s: {start: 0.02}}, on: [made.yaml]}"
    measured.write_text(measured.read_text() + fit)
    with pytest.raises(InputError, match="fit"):
        load_measurement(str(measured))


def test_more_parameters_than_latencies_are_refused(measured):
    measurement = load_measurement(str(measured))
    log = read_log(measurement.log)
    target = FitTarget(measurement=measurement, log=log, rows=np.arange(len(log)) < 1)
    names = ("base_s", "per_token_s", "per_sequence_s", "per_context_token_s")
    with pytest.raises(InputError, match="cannot tell 4 parameters"):
        fit_through_simulator([target], {f"latency.{name}": ParameterSection(start=1e-3) for name in names})
