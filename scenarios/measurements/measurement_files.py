"""Finding, reading and changing measurement files."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from latency_models.errors import InputError, invalid, unknown_name
from latency_models.tables.operator_tables import PACKAGE
from latency_models.yaml_files import anchor_paths, read_yaml
from scenarios.measurements.schema import Measurement, StepsMeasurement
from scenarios.schema_errors import describe

Schema = TypeVar("Schema", Measurement, StepsMeasurement)

SHIPPED = Path(str(files("scenarios") / "measured"))
"""Folder of the measurement files that come with the package."""
WITH_PACKAGE_TABLES = SHIPPED / "aiconfigurator"
"""Folder of those that need the tables of the Python package ``aiconfigurator-core``."""
_DATA = "ROUTERWISE_DATA"
"""Environment variable that most of them find their data by."""


def shipped_names() -> list[str]:
    """Names of the measurement files that come with the package."""
    return sorted(_shipped())


def usable_names() -> list[str]:
    """Those of :func:`shipped_names` whose operator tables are installed."""
    installed = importlib.util.find_spec(PACKAGE) is not None
    return sorted(name for name, path in _shipped().items() if installed or path.parent != WITH_PACKAGE_TABLES)


def _shipped() -> dict[str, Path]:
    return {path.stem: path for folder in (SHIPPED, WITH_PACKAGE_TABLES) for path in folder.glob("*.yaml")}


def find_measurement(name: str, base_dir: Path = Path()) -> Path:
    """The file of a measurement given by path or by shipped name.

    Raises
    ------
    InputError
        Neither exists; the nearest shipped name is suggested.
    """
    path = base_dir / name
    if path.is_file():
        return path
    if path.suffix in {".yaml", ".yml"}:
        raise invalid("measurement file", name, "an existing YAML file, or the name of a shipped one")
    shipped = _shipped()
    if name in shipped:
        return shipped[name]
    raise unknown_name("measurement file", name, sorted(shipped))


def read_measurement(name: str, base_dir: Path = Path()) -> Measurement | StepsMeasurement:
    """Read and validate a measurement file.

    Parameters
    ----------
    name : str
        Path of a YAML file, or name of a shipped one.
    base_dir : Path
        Where a relative path starts.

    Raises
    ------
    InputError
        The file cannot be read or does not follow the schema; every fault is named by its key.
    """
    path = find_measurement(name, base_dir).resolve()
    values = read_yaml(path, "measurement file")
    if path in _shipped().values() and _DATA not in os.environ and f"${{{_DATA}}}" in path.read_text(encoding="utf-8"):
        raise InputError(
            f"{path.stem} needs {_DATA}, which is not set: the measurement files of the package judge published data "
            "that do not come with it. docs/accuracy.md says where each is from; set the variable to the folder that "
            "holds them, or try docs/examples/vllm-cpu.measurement.yaml, whose data are beside it"
        )
    anchor_paths(values, path.parent)
    values.setdefault("name", path.stem)
    log = values.get("log")
    if isinstance(log, dict) and log.get("kind") == "steps":
        return _validated(StepsMeasurement, values, str(path))
    measurement = _validated(Measurement, values, str(path))
    if measurement.fit is None or not measurement.fit.files:
        return measurement
    # Other files are named relative to this one.
    others = tuple(str(find_measurement(other, path.parent)) for other in measurement.fit.files)
    return measurement.model_copy(update={"fit": measurement.fit.model_copy(update={"files": others})})


def load_measurement(name: str, base_dir: Path = Path()) -> Measurement:
    """Read and validate the measurement file of a server; see :func:`read_measurement`.

    Raises
    ------
    InputError
        As there, or if the file is about single steps.
    """
    measurement = read_measurement(name, base_dir)
    if isinstance(measurement, StepsMeasurement):
        raise InputError(f"{name} is a measurement of single steps; allowed: one of a server, with requests or runs")
    return measurement


def with_values(measurement: Measurement, values: Mapping[str, Any]) -> Measurement:
    """The measurement with the values of some dotted keys changed.

    Raises
    ------
    InputError
        A key does not exist in the schema, or the result does not follow it.
    """
    plain = measurement.model_dump(mode="python", by_alias=True, exclude_unset=True)
    for key, value in values.items():
        *parents, last = key.split(".")
        place = plain
        for part in parents:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                raise invalid(f"key {key}", part, "the name of a section of the measurement file")
            place = inner
        place[last] = value
    return _validated(Measurement, plain, f"{measurement.name} with {', '.join(values)} changed")


def _validated(schema: type[Schema], values: dict[str, Any], where: str) -> Schema:
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise InputError(describe(error, schema, values, where)) from None
