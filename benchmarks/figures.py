"""One measured figure, with what was aimed at; and figures on disk, to compare two runs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from latency_models.errors import InputError

FILE_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a figure should be: ``at_most``, better ``aim``; a speed-up has ``at_least``."""

    at_most: float | None = None
    aim: float | None = None
    at_least: float | None = None


NO_TARGET = Target()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number that was measured."""

    section: str
    case: str
    quantity: str
    """What it is, unit included: ``timeouts per request``, ``MiB``."""
    value: float
    target: Target = NO_TARGET
    detail: str = ""
    """What else is worth knowing about the measurement."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What the figure is called in every run."""
        return self.section, self.case, self.quantity


def verdict(figure: Figure) -> str:
    """Where the figure stands: ``aim met``, ``within``, ``MISSED``, or nothing without a target."""
    target = figure.target
    if target.aim is not None and figure.value <= target.aim:
        return "aim met"
    if target.at_most is not None:
        return "within" if figure.value <= target.at_most else "MISSED"
    if target.at_least is not None:
        return "within" if figure.value >= target.at_least else "MISSED"
    return ""


def save(path: Path, figures: Sequence[Figure], machine: dict[str, str]) -> None:
    """Write figures as JSON."""
    content = {"version": FILE_VERSION, "machine": machine, "figures": [asdict(figure) for figure in figures]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> list[Figure]:
    """Read figures that :func:`save` wrote.

    Raises
    ------
    InputError
        The file cannot be read or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read figures from {path}: {error}") from None
    if not isinstance(content, dict) or content.get("version") != FILE_VERSION:
        raise InputError(f"{path} holds no figures of version {FILE_VERSION}; write some with --json {path}")
    try:
        return [_figure(entry) for entry in content["figures"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds a figure that cannot be read: {error!r}") from None


def _figure(entry: dict[str, Any]) -> Figure:
    known = {field.name for field in fields(Figure)}
    values = {name: value for name, value in entry.items() if name in known}
    values["value"] = float(values["value"])
    values["target"] = Target(**entry["target"])
    return Figure(**values)


def change(now: float, earlier: float) -> float:
    """Ratio of a figure to the earlier one; NaN if there is none."""
    if not (math.isfinite(now) and math.isfinite(earlier)) or earlier == 0:
        return math.nan
    return now / earlier
