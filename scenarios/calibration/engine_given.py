"""Engine settings of a calibration: from a file, and from ``--set``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from latency_models.errors import invalid
from latency_models.yaml_files import read_yaml
from sim.settings import EngineSettings


def engine_given(file: Path | None, assignments: Sequence[str]) -> dict[str, Any]:
    """Settings that a user gave, checked, by name.

    Parameters
    ----------
    file : Path, optional
        YAML or JSON: the settings, or a mapping that has them under ``engine``.
    assignments : sequence of str
        ``engine.NAME=VALUE``, applied last.

    Raises
    ------
    InputError
        The file cannot be read, or a setting is unknown or out of range.
    """
    values: dict[str, Any] = {}
    if file is not None:
        content = read_yaml(file, "engine settings")
        inner = content.get("engine", content)
        if not isinstance(inner, dict):
            raise invalid(f"{file}: engine", inner, "a mapping of engine settings")
        values.update(inner)
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        section, _, name = key.partition(".")
        if not separator or section != "engine" or not name:
            raise invalid("--set", assignment, "engine.NAME=VALUE, e.g. engine.max_num_batched_tokens=8192")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise invalid("--set", assignment, "a value that is valid YAML") from None
    EngineSettings.from_mapping(values)
    return values
