"""What every source of a calibration turns into: measured steps, how they group, and what was left out on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from latency_models.errors import InputError
from latency_models.fits.fit_quality import Ints
from latency_models.fits.step_table import Floats, StepTable

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Units of time that files may use, in seconds."""

_PLAUSIBLE_STEP_S = (20e-6, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """Part of each step that the engine's CPU took: schedule, update, outputs, and the gap before the next step."""

    sequences: Floats
    cpu_s: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSteps:
    """Steps from one or several files of one kind."""

    table: StepTable
    groups: Ints
    """Group of each step, for resampling: a block of consecutive steps, or a cell of a grid."""
    rows_read: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Rows that are not in the table, by reason."""
    notes: tuple[str, ...] = ()
    """What the source does not say and was assumed."""
    cpu: CpuTimes | None = None
    """For each step, where the source separates it."""
    consecutive: bool = True
    """Whether the steps followed each other, as in a log."""
    recorded: str | None = None
    """When it was measured, if the source says so."""

    @classmethod
    def joined(cls, parts: Sequence[MeasuredSteps]) -> MeasuredSteps:
        """Several files as one; no group spans two of them."""
        if len(parts) == 1:
            return parts[0]
        groups, taken = [], 0
        for part in parts:
            groups.append(part.groups + taken)
            taken += int(part.groups.max()) + 1
        dropped: dict[str, int] = {}
        for part in parts:
            for reason, count in part.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + count
        cpus = [part.cpu for part in parts if part.cpu is not None]
        together = None
        if len(cpus) == len(parts):
            together = CpuTimes(
                sequences=np.concatenate([cpu.sequences for cpu in cpus]),
                cpu_s=np.concatenate([cpu.cpu_s for cpu in cpus]),
            )
        return cls(
            table=StepTable.concatenate(part.table for part in parts),
            groups=np.concatenate(groups),
            rows_read=sum(part.rows_read for part in parts),
            dropped=dropped,
            notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
            cpu=together,
            consecutive=all(part.consecutive for part in parts),
            recorded="; ".join(dict.fromkeys(part.recorded for part in parts if part.recorded)) or None,
        )


def check_step_unit(where: str, durations_s: Floats, unit: str | None = None, *, advice: str | None = None) -> None:
    """Refuse durations that no engine has, which means that their unit is not the assumed one.

    Parameters
    ----------
    where : str
        Name of the file.
    durations_s : ndarray, shape (n,)
        Durations of its steps.
    unit : str, optional
        Unit that the user named, who is then believed.
    advice : str, optional
        What to do about a file whose unit cannot be named.

    Raises
    ------
    InputError
        If there are none, or no unit was named and their median is outside 20 us to 2 s.
    """
    if not len(durations_s):
        raise InputError(f"{where} has no step that can be used; allowed: at least one per coefficient")
    median_s = float(np.median(durations_s))
    low_s, high_s = _PLAUSIBLE_STEP_S
    if unit is not None or low_s <= median_s <= high_s:
        return
    refusal = f"{where}: the median step takes {median_s:g} s; allowed: 20 us to 2 s"
    if advice is not None:
        raise InputError(f"{refusal}. {advice}")
    fits = [unit for unit, size in UNITS.items() if unit != "s" and low_s <= median_s * size <= high_s]
    unit_advice = (
        f"If its times are in another unit, say so: --unit {fits[0]}" if fits else "Check the unit of its times"
    )
    raise InputError(f"{refusal}. {unit_advice}; if they are in seconds, --unit s")
