"""Holding the simulator against measurement files: read, fit if asked to, replay, compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scenarios.measurements.comparison import Comparison, compare, judged_rows
from scenarios.measurements.fit import SimulatorFit, fit_measurement
from scenarios.measurements.held_out_steps import StepsEvaluation, check_steps, evaluate_steps
from scenarios.measurements.logs import Log, RequestTable, read_log, rows_of
from scenarios.measurements.measurement_files import load_measurement, read_measurement
from scenarios.measurements.replay import Replay, replay
from scenarios.measurements.schema import Measurement, StepsMeasurement
from scenarios.model_section import cluster_of

Progress = Callable[[str], None]
"""Told what is being done, a few words at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A measurement and how well the simulator predicts it."""

    measurement: Measurement
    """With the fitted values."""
    log: Log
    replayed: Replay
    comparison: Comparison
    fit: SimulatorFit | None

    @property
    def unit(self) -> str:
        """What a row of the log is."""
        return "request" if isinstance(self.log, RequestTable) else "run"

    @property
    def fitted_on(self) -> str:
        """What was fitted on, in words."""
        section = self.measurement.fit
        if section is None:
            return "other data, see the file" if self.measurement.fitted else "nothing"
        if section.files:
            return ", ".join(Path(name).stem for name in section.files)
        return f"{0 if self.fit is None else self.fit.rows} other rows of the same log"

    def missed(self) -> dict[str, tuple[float, float]]:
        """Figures that are worse than the file expects: name to (error, allowed)."""
        return self.comparison.missed(self.measurement.expect)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenMeasurement:
    """A measurement file whose data were found to be there and sound."""

    measurement: Measurement | StepsMeasurement
    log: Log | None
    """``None`` for single steps."""

    def evaluate(self, progress: Progress | None = None) -> Evaluation | StepsEvaluation:
        """Compare; see :func:`evaluate` and :func:`scenarios.measurements.held_out_steps.evaluate_steps`."""
        if isinstance(self.measurement, StepsMeasurement):
            if progress is not None:
                progress(f"{self.measurement.name}: fitting")
            return evaluate_steps(self.measurement)
        assert self.log is not None
        return evaluate(self.measurement, self.log, progress)


def open_measurement(name: str) -> OpenMeasurement:
    """Read a measurement file and its log, and find whatever is wrong with them before anything is simulated.

    Raises
    ------
    InputError
        The file or the log is wrong, or the server that it describes cannot exist.
    """
    measurement = read_measurement(name)
    if isinstance(measurement, StepsMeasurement):
        check_steps(measurement)
        return OpenMeasurement(measurement=measurement, log=None)
    log = read_log(measurement.log)
    judged_rows(measurement, log)
    cluster_of(measurement.name, measurement, measurement.gpu_memory_gib)
    if measurement.fit is not None:
        for other in measurement.fit.files:
            rows_of(read_log(load_measurement(other).log), measurement.fit.part)
    return OpenMeasurement(measurement=measurement, log=log)


def evaluate(measurement: Measurement, log: Log, progress: Progress | None = None) -> Evaluation:
    """Fit what the file asks for, replay its log, and compare.

    Parameters
    ----------
    measurement : Measurement
        The server.
    log : RequestTable or RunTable
        Its log.
    progress : callable, optional
        See :data:`Progress`.

    Raises
    ------
    InputError
        If the server could not have served what the log says, or the fit cannot be done.
    """
    name = measurement.name

    def on_fit(simulations: int) -> None:
        if progress is not None:
            progress(f"{name}: fitting, {simulations} simulations")

    def on_replay(done: int, of: int) -> None:
        if progress is not None:
            progress(f"{name}: run {done} of {of}")

    if progress is not None:
        progress(name)
    fitted, fit = fit_measurement(measurement, log, on_fit)
    replayed = replay(fitted, log, on_replay)
    comparison = compare(fitted, log, replayed, judged_rows(fitted, log))
    return Evaluation(measurement=fitted, log=log, replayed=replayed, comparison=comparison, fit=fit)
