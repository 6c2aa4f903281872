"""Calibrated models as YAML files: a ``latency`` section, and what is known about how it was fitted.

The other keys describe: ``intervals`` of the coefficients, ``errors`` by regime, the ``valid_range`` of the measured
steps, ``provenance``, ``notes``, and ``warnings`` about what the data could not tell.  ``engine_overhead`` and
``noise`` hold keys for the model's section of a scenario.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from latency_models.errors import InputError, invalid, unknown_name
from latency_models.yaml_files import anchor_paths, read_yaml

SHIPPED = Path(str(files("latency_models") / "calibrated"))
"""Folder of the models that come with the package."""

_IN_WORDS = {
    "tokens": "tokens in a step",
    "sequences": "sequences in a step",
    "context_per_sequence": "tokens of context per sequence",
}

KEYS = ("latency", "engine_overhead", "noise", "intervals", "errors", "valid_range", "provenance", "notes", "warnings")
"""Keys that a model file may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A calibrated model as its file has it."""

    path: Path
    latency: Mapping[str, Any]
    """The ``latency:`` section, not validated; its paths are absolute."""
    valid_range: Mapping[str, tuple[float, float]]
    """Smallest and largest value of each quantity among the measured steps."""
    notes: tuple[str, ...]


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def shipped_model(name: str) -> Path:
    """The file of a model that comes with the package; an unknown name is an InputError."""
    if name not in shipped_models():
        raise unknown_name("calibrated model", name, shipped_models())
    return SHIPPED / f"{name}.yaml"


def read_model_file(path: Path) -> ModelFile:
    """Read a calibrated model.

    Raises
    ------
    InputError
        The file cannot be read, has no ``latency`` section, or a key that is none of :data:`KEYS`.
    """
    values = read_yaml(path, "calibrated model")
    for key in values:
        if key not in KEYS:
            raise unknown_name(f"key in {path}", str(key), KEYS)
    latency = values.get("latency")
    if not isinstance(latency, dict):
        raise invalid(f"{path}: latency", latency, "a latency section, as `routerwise calibrate --out` writes it")
    if latency.get("kind") == "file":
        raise invalid(f"{path}: latency.kind", "file", "a model, not the name of another file")
    anchor_paths(latency, path.parent)
    notes = values.get("notes") or []
    if not isinstance(notes, list):
        raise invalid(f"{path}: notes", notes, "a list of sentences")
    return ModelFile(
        path=path,
        latency=latency,
        valid_range=_valid_range(path, values.get("valid_range") or {}),
        notes=tuple(map(str, notes)),
    )


def _valid_range(path: Path, values: Any) -> dict[str, tuple[float, float]]:
    if not isinstance(values, dict):
        raise invalid(f"{path}: valid_range", values, "a mapping of quantities to [smallest, largest]")
    found: dict[str, tuple[float, float]] = {}
    for name, ends in values.items():
        numbers = isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, int | float) for end in ends)
        if not numbers or not all(map(math.isfinite, ends)) or ends[0] > ends[1]:
            raise invalid(f"{path}: valid_range.{name}", ends, "[smallest, largest], two finite numbers in order")
        found[str(name)] = (float(ends[0]), float(ends[1]))
    return found


def range_notes(model: ModelFile, limits: Mapping[str, float]) -> list[str]:
    """A sentence on each limit of an engine that lies beyond what a model was measured for.

    Parameters
    ----------
    model : ModelFile
        The model.
    limits : mapping of str to float
        Most that the engine may do of a quantity of ``valid_range``, e.g. ``{"sequences": 256, "tokens": 2048}``.
    """
    return [
        f"{model.path.name} was measured up to {model.valid_range[name][1]:g} {_IN_WORDS.get(name, name)}, and the "
        f"engine allows {limit:g}: beyond, its law is extrapolated"
        for name, limit in limits.items()
        if name in model.valid_range and limit > model.valid_range[name][1]
    ]


def check_model_name(path: str | None, name: str | None) -> Path:
    """The file that a section means by a path or by the name of a shipped model."""
    if (path is None) == (name is None):
        raise InputError("give either path, of a file that `routerwise calibrate` wrote, or name, of a shipped model")
    return Path(path) if path is not None else shipped_model(str(name))
