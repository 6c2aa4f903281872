"""Measured steps with the model and the GPUs that ran each of them, as a law in physical terms needs to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from latency_models.catalogue.architectures import find_architecture
from latency_models.errors import InputError, check_count, invalid, unknown_name
from latency_models.fits.fit_quality import Ints
from latency_models.fits.step_sweep import SweepGroup, read_step_sweep
from latency_models.fits.step_table import Floats, StepTable
from scenarios.calibration.measured_steps import MeasuredSteps, check_step_unit
from scenarios.calibration.sources import GRID_UNIT, Reading, read_steps

_GRID_COLUMNS = ("model", "tp", "sm_pct")
_MANY = 10
"""Configurations from which on they are resampled and left out as a whole, not step by step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What ran some of the steps."""

    model: str
    """Name of the catalogue of models, or the path of a ``config.json``."""
    tp: int
    compute_share: float = 1.0

    def group(self, table: StepTable) -> SweepGroup:
        """Its steps in the form that the fit of the law takes."""
        return SweepGroup(model=self.model, tp=self.tp, compute_share=self.compute_share, table=table)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredSteps:
    """Steps of one or several configurations.

    Attributes
    ----------
    measured : MeasuredSteps
        The steps, those of a configuration next to each other.
    configurations : sequence of Configuration
        In the order of their steps.
    configuration_of : ndarray, shape (n,)
        Number of each step's configuration, ascending.
    target : Configuration
        For which the law is written down.
    """

    measured: MeasuredSteps
    configurations: Sequence[Configuration]
    configuration_of: Ints
    target: Configuration

    def groups(self, chosen: Any = slice(None)) -> list[SweepGroup]:
        """Some of the steps by configuration; ``chosen`` is a mask or an ascending index."""
        table, numbers = self.measured.table.rows(chosen), self.configuration_of[chosen]
        return [self.configurations[number].group(table.rows(numbers == number)) for number in np.unique(numbers)]

    def with_durations(self, durations_s: Floats) -> ConfiguredSteps:
        """The same steps, as if they had taken this long; shape (n,)."""
        table = replace(self.measured.table, duration_s=durations_s)
        return replace(self, measured=replace(self.measured, table=table))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNames:
    """What ``--model`` says."""

    target: str | None
    """Model that the law is written down for."""
    of_file: Mapping[str, str]
    """Names of the catalogue by the names in a grid."""


def model_names(texts: Sequence[str]) -> ModelNames:
    """Take ``--model NAME`` and ``--model NAME_IN_FILE=NAME`` apart.

    Raises
    ------
    InputError
        If two models are named as the law's.
    """
    pairs = [text.partition("=") for text in texts]
    targets = [name for name, separator, _ in pairs if not separator]
    if len(targets) > 1:
        raise invalid("--model", targets, "one model that the law is written for, and any number of NAME_IN_FILE=NAME")
    for name, separator, known in pairs:
        if separator and not (name and known):
            raise invalid("--model", f"{name}={known}", "NAME, or NAME_IN_FILE=NAME")
    return ModelNames(
        target=targets[0] if targets else None,
        of_file={name: known for name, separator, known in pairs if separator},
    )


def read_configured_steps(
    kind: str, paths: Sequence[Path], reading: Reading, names: ModelNames, tp: int | None
) -> ConfiguredSteps:
    """Read steps together with what ran them.

    Parameters
    ----------
    kind : str
        One of :data:`scenarios.calibration.sources.STEP_KINDS`.
    paths : sequence of Path
        Files of that kind.  A grid says what ran each step; of the others all steps are of one server.
    reading : Reading
        How to read them.
    names : ModelNames
        The model of that server, or that the law is written for, and what a grid's names mean.
    tp : int, optional
        Its tensor-parallel shards.

    Raises
    ------
    InputError
        A file is not of that kind or holds bad values, a model is unknown, or it is not clear which one is meant.
    """
    if tp is not None:
        check_count("--tp", tp)
    if kind == "grid":
        return _of_grid(paths, reading, names, tp)
    if names.of_file:
        raise invalid("--model", dict(names.of_file), f"one name of the catalogue; {kind} names no models")
    if names.target is None:
        raise InputError("--model is missing; allowed with --law steps: the model of the server that was measured")
    find_architecture(names.target)
    only = Configuration(model=names.target, tp=tp or 1)
    measured = read_steps(kind, paths, reading)
    return ConfiguredSteps(
        measured=measured,
        configurations=[only],
        configuration_of=np.zeros(len(measured.table), dtype=np.int64),
        target=only,
    )


def _of_grid(paths: Sequence[Path], reading: Reading, names: ModelNames, tp: int | None) -> ConfiguredSteps:
    if reading.unit is not None:
        raise invalid("--unit", reading.unit, "none with a grid, which has milliseconds")
    read = [group for path in paths for group in read_step_sweep(path)]
    if not read:
        raise InputError(
            f"{', '.join(map(str, paths))} has no step; allowed: a row with prefill_ms or decode_ms for each"
        )
    in_file = dict.fromkeys(group.model for group in read)
    for name in names.of_file:
        if name not in in_file:
            raise unknown_name("model of the grid in --model", name, in_file)
    groups = _chosen(read, reading.where)
    configurations = [
        Configuration(model=_in_catalogue(group.model, names.of_file), tp=group.tp, compute_share=group.compute_share)
        for group in groups
    ]
    table = StepTable.concatenate(group.table for group in groups)
    check_step_unit(", ".join(map(str, paths)), table.duration_s, advice=GRID_UNIT)
    configuration_of = np.repeat(np.arange(len(groups)), [len(group.table) for group in groups])
    left_out = sum(len(group.table) for group in read) - len(table)
    measured = MeasuredSteps(
        table=table,
        groups=configuration_of if len(groups) >= _MANY else np.arange(len(table)),
        rows_read=len(table) + left_out,
        dropped={"steps that --where leaves out": left_out} if left_out else {},
        consecutive=False,
    )
    return ConfiguredSteps(
        measured=measured,
        configurations=configurations,
        configuration_of=configuration_of,
        target=_target(configurations, names.target, tp),
    )


def _chosen(groups: Sequence[SweepGroup], where: Mapping[str, str]) -> list[SweepGroup]:
    """Groups that ``--where`` names."""
    for name in where:
        if name not in _GRID_COLUMNS:
            raise unknown_name("column in --where", name, _GRID_COLUMNS)

    def cells(group: SweepGroup) -> dict[str, str]:
        return {"model": group.model, "tp": str(group.tp), "sm_pct": f"{100.0 * group.compute_share:g}"}

    chosen = [group for group in groups if all(cells(group)[name] == value for name, value in where.items())]
    if not chosen:
        there = {name: ", ".join(dict.fromkeys(cells(group)[name] for group in groups)) for name in _GRID_COLUMNS}
        allowed = "; ".join(f"{name} of {values}" for name, values in there.items())
        raise invalid("--where", dict(where), f"rows that are in the grid: {allowed}")
    return chosen


def _in_catalogue(name: str, of_file: Mapping[str, str]) -> str:
    known = of_file.get(name, name)
    try:
        find_architecture(known)
    except InputError as error:
        if name in of_file:
            raise
        raise InputError(
            f"{error} If it has another name there, say so: --model {name}=NAME; if not, leave it out with --where"
        ) from None
    return known


def _target(configurations: Sequence[Configuration], model: str | None, tp: int | None) -> Configuration:
    """For what the law is written down: what was asked for, otherwise the only one there is."""
    models = list(dict.fromkeys(each.model for each in configurations))
    if model is None:
        if len(models) > 1:
            raise InputError(
                f"the grid has the models {', '.join(models)}; say with --model NAME for which one to write the law, "
                "or take one with --where model=NAME. All of them are fitted together"
            )
        model = models[0]
    find_architecture(model)
    shards = list(dict.fromkeys(each.tp for each in configurations if each.model == model or model not in models))
    if tp is None:
        if len(shards) > 1:
            raise InputError(
                f"the grid has tp {', '.join(map(str, shards))}; say with --tp N for which one to write the law, or "
                "take one with --where tp=N. All of them are fitted together"
            )
        tp = shards[0]
    return Configuration(model=model, tp=tp)
