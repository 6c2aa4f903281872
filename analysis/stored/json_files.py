"""JSON files of results: reading one with clear errors, and the versions of their layouts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from latency_models.errors import InputError

RUN_SCHEMA_VERSION = 2
"""Version of the layout of run directories."""

RESULT_SCHEMA_VERSION = 2
"""Version of the layout of all other results."""


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    InputError
        The file is missing, is no JSON, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds {type(found).__name__}; a result of routerwise is an object, {{...}}")
    return found


def check_version(path: Path, content: Mapping[str, Any], expected: int) -> None:
    """Refuse results in another layout.

    Raises
    ------
    InputError
        The layout's version is missing or another one.
    """
    found = content.get("schema_version")
    if found != expected:
        written = "does not say its layout's version" if found is None else f"has layout version {found!r}"
        raise InputError(
            f"{path} {written}; this routerwise reads version {expected}: run the command again that wrote it"
        )


def check_keys(path: Path, content: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Refuse a file that lacks something that every file of its kind has.

    Raises
    ------
    InputError
        A key is missing.
    """
    for key in keys:
        if key not in content:
            raise InputError(f"{path} lacks the key {key!r}: it is not complete; run the command again that wrote it")
