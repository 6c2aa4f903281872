"""A recorded step log as a base law and the noise around it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from latency_models.errors import InputError, invalid
from latency_models.fits.fitting import fit_linear
from latency_models.fits.step_table import StepTable
from latency_models.laws.linear import LinearStepTime
from latency_models.tables.grids import read_rows

_COLUMNS = tuple(field.name for field in fields(StepTable))

PLAUSIBLE_STEP_S = (20e-6, 2.0)
"""Between a step of the smallest models and one that still serves anybody; outside, the unit is another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSteps:
    """What a step log says: the linear law fitted to it, and each step's time over that law's.

    Parameters
    ----------
    law : LinearStepTime
        Robust fit, hence the time of a typical step.
    factors : tuple of float, shape (n,)
        Measured over fitted time of each step, in the order of the log.
    """

    law: LinearStepTime
    factors: tuple[float, ...]

    @classmethod
    def read(cls, path: Path) -> RecordedSteps:
        """Fit a step log.

        The file is CSV (also compressed with gzip), one step per row in the order in which they ran, with the columns
        of :class:`latency_models.fits.step_table.StepTable`.

        Raises
        ------
        InputError
            If the file cannot be read, a value is bad, the typical step is no step of an engine, or there are too few
            steps to fit.
        """
        rows = read_rows(path, _COLUMNS).get("", [])
        columns = np.array(rows, dtype=np.float64).reshape(-1, len(_COLUMNS)).T
        if rows:
            _check_unit(path, float(np.median(columns[-1])))
        try:
            fit = fit_linear(StepTable(**dict(zip(_COLUMNS, columns, strict=True))))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return cls(law=fit.model, factors=tuple((1.0 / (1.0 + fit.relative_errors)).tolist()))

    def centred_factors(self) -> tuple[float, ...]:
        """The factors divided by their mean: noise alone, for a law from elsewhere."""
        mean = sum(self.factors) / len(self.factors)
        return tuple(factor / mean for factor in self.factors)


def _check_unit(path: Path, median_s: float) -> None:
    low_s, high_s = PLAUSIBLE_STEP_S
    if not low_s <= median_s <= high_s:
        unit = "milliseconds" if median_s <= high_s * 1e3 else "microseconds"
        advice = f"If these are {unit}, convert them" if median_s > high_s else "Check the unit"
        raise invalid(f"{path}: the median of duration_s", median_s, "seconds, 20 us to 2 s", advice)
