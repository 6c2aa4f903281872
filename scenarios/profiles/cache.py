"""Runs that were simulated before, found by the hash of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import analysis
import latency_models
import scenarios
import sim
from analysis.result_files import replacing

CACHE_SCHEMA_VERSION = 1
"""Version of what is kept of a run."""

_LIBRARIES = ("numpy", "scipy", "simpy", "pydantic")


def default_cache_dir() -> Path:
    """Where the platform keeps caches of its users' programs."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "routerwise" / "profiles"


def content_key(values: dict[str, Any]) -> str:
    """Hash of plain values, of the files that they name, of this package's code and of the libraries it runs on."""
    files = {path: _file_digest(path) for path in sorted(set(_paths(values)))}
    content = {"schema": CACHE_SCHEMA_VERSION, "code": code_digest(), "files": files, "values": values}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def code_digest() -> str:
    """Hash of the code that a run's figures depend on."""
    digest = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in _LIBRARIES).encode())
    for package in (latency_models, sim, analysis, scenarios):
        folder = Path(str(package.__file__)).parent
        for path in sorted(file for file in folder.rglob("*") if file.suffix in (".py", ".yaml", ".csv", ".json")):
            digest.update(f"{path.relative_to(folder)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _paths(values: Any) -> Iterator[str]:
    """Files that a scenario names: every value called ``path``, at any depth."""
    if isinstance(values, dict):
        for key, value in values.items():
            if key == "path" and isinstance(value, str):
                yield value
            else:
                yield from _paths(value)
    elif isinstance(values, list):
        for value in values:
            yield from _paths(value)


@cache
def _file_digest(path: str) -> str:
    """Hash of a file, or of the files of a folder; empty if there is none, which whoever reads it reports."""
    place = Path(path)
    files = sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
    digest = hashlib.sha256()
    for file in files:
        if not file.is_file():
            return ""
        digest.update(f"{file.name}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


class ResultCache:
    """A folder of JSON files, one per run.  ``None`` as the folder keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, key: str) -> dict[str, Any] | None:
        """What was kept under ``key``; a file that cannot be used counts as none."""
        if self._folder is None:
            return None
        try:
            values = json.loads(self._file(self._folder, key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return values if isinstance(values, dict) and values.keys() == {"statistics", "growth"} else None

    def put(self, key: str, values: dict[str, Any]) -> None:
        """Keep ``values``; the file appears complete or not at all."""
        if self._folder is None:
            return
        file = self._file(self._folder, key)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as stream:
            json.dump(values, stream)

    @staticmethod
    def _file(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.json"
