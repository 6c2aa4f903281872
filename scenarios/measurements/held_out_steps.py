"""Single engine steps of a sweep against a law that was fitted without them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from latency_models.catalogue.gpus import find_gpu
from latency_models.errors import InputError
from latency_models.fits.step_sweep import read_step_sweep
from latency_models.fits.steps_fit import HeldOut, leave_one_out
from scenarios.measurements.comparison import Comparison
from scenarios.measurements.schema import StepsMeasurement


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsEvaluation:
    """A measurement of steps and how well the law predicts those that it was not fitted to."""

    measurement: StepsMeasurement
    comparison: Comparison
    held_out: tuple[HeldOut, ...]
    unit: ClassVar[str] = "step"

    @property
    def fitted_on(self) -> str:
        """What the law was fitted on, in words."""
        return f"the other {self.measurement.log.leave_out}s of the sweep"

    def missed(self) -> dict[str, tuple[float, float]]:
        """Figures that are worse than the file expects: name to (error, allowed)."""
        return self.comparison.missed(self.measurement.expect)


def check_steps(measurement: StepsMeasurement) -> None:
    """Find whatever is wrong with a measurement of steps before anything is fitted.

    Raises
    ------
    InputError
        The sweep cannot be read, the GPU is unknown, or what is to be judged is not in the sweep.
    """
    find_gpu(measurement.log.hardware)
    groups = read_step_sweep(Path(measurement.log.path))
    by_share = measurement.log.leave_out == "share"
    known = {group.compute_share if by_share else group.model for group in groups}
    absent = [value for value in measurement.log.judged if value not in known]
    if absent:
        raise InputError(
            f"{measurement.name}: the sweep has no {measurement.log.leave_out} {absent[0]!r}; "
            f"allowed in log.judged: {', '.join(sorted(map(str, known)))}"
        )


def evaluate_steps(measurement: StepsMeasurement) -> StepsEvaluation:
    """Fit the law without what is judged, and compare.

    Raises
    ------
    InputError
        See :func:`check_steps` and :func:`latency_models.fits.steps_fit.leave_one_out`.
    """
    section = measurement.log
    groups = read_step_sweep(Path(section.path))
    found = leave_one_out(groups, find_gpu(section.hardware), section.leave_out, only=section.judged)
    errors: dict[str, float] = {}
    for name, decode in (("prefill", False), ("decode", True)):
        absolute = np.concatenate([held_out.absolute(decode=decode) for held_out in found])
        if len(absolute):
            errors |= {
                f"{name}_median_error": float(np.median(absolute)),
                f"{name}_p90_error": float(np.percentile(absolute, 90.0)),
            }
    comparison = Comparison(
        rows=sum(len(held_out.relative_errors) for held_out in found),
        rows_in_log=sum(len(group.table) for group in groups),
        unfinished=0,
        figures=(),
        row_errors=errors,
    )
    return StepsEvaluation(measurement=measurement, comparison=comparison, held_out=tuple(found))
