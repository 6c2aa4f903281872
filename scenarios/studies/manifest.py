"""Where the files of a study come from."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analysis.stored.json_files import RESULT_SCHEMA_VERSION
from scenarios.optimisation.problem_file import ReadProblem

_PACKAGES = ("routerwise", "numpy", "scipy", "pydantic")


def write_manifest(folder: Path, command: str, read: ReadProblem, settings: Mapping[str, Any]) -> None:
    """Write ``manifest.json``: the command and its settings, hashes of its inputs, notes on them, and versions."""
    content = {
        "schema_version": RESULT_SCHEMA_VERSION,
        "command": command,
        "problem": read.name,
        "settings": dict(settings),
        "sources": dict(read.sources),
        "notes": list(read.notes),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
    }
    (folder / "manifest.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
