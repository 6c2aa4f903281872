"""Reading catalogues: the YAML files of known GPUs, architectures and engines, and files of the same form by users."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any

from latency_models.errors import InputError, invalid, unknown_name
from latency_models.yaml_files import read_yaml

_FOLDER = Path(__file__).parent


def read_catalogue(path: Path, section: str) -> dict[str, dict[str, Any]]:
    """Entries of one catalogue file by name.

    Parameters
    ----------
    path : Path
        The file.
    section : str
        Its one key, which holds the entries: ``"gpus"``.

    Raises
    ------
    InputError
        The file cannot be read, or is no catalogue of this kind.
    """
    values = read_yaml(path, "catalogue")
    if list(values) != [section] or not isinstance(values[section], dict):
        raise invalid(f"catalogue {path}", list(values), f"the one key {section!r} with named entries below it")
    for name, entry in values[section].items():
        if not isinstance(name, str) or not isinstance(entry, dict):
            raise invalid(f"catalogue {path}, {section}.{name}", entry, "a name (in quotes, if it is a number): keys")
    return dict(values[section])


def find_entry(section: str, kind: str, name: str, extra: Path | None) -> tuple[str, dict[str, Any]]:
    """The catalogue entry of a name or alias, in any case; a user's file goes before the shipped one.

    Returns
    -------
    tuple of str and dict
        The entry's own name, and its keys without ``aliases``.

    Raises
    ------
    InputError
        No catalogue has it: the choices are named.
    """
    known: list[str] = []
    own = {} if extra is None else read_catalogue(extra, section)
    for entries in (own, shipped(section)):
        for entry_name, entry in entries.items():
            if name.lower() in {called.lower() for called in _names(section, entry_name, entry)}:
                return entry_name, {key: _number(value) for key, value in entry.items() if key != "aliases"}
            known.append(entry_name)
    raise unknown_name(kind, name, known)


def _number(value: Any) -> Any:
    """The number that a person means by ``9.0e11``, which to YAML 1.1 is a text for want of the sign in ``9.0e+11``."""
    is_exponent = isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value)
    return float(value) if is_exponent else value


@cache
def shipped(section: str) -> dict[str, dict[str, Any]]:
    """Entries of the catalogue that comes with the package; not to be changed."""
    return read_catalogue(_FOLDER / f"{section}.yaml", section)


def _names(section: str, name: str, entry: dict[str, Any]) -> Iterator[str]:
    yield name
    aliases = entry.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise invalid(f"{section}.{name}.aliases", aliases, "a list of names")
    yield from aliases


def check_keys(cls: type, kind: str, name: str, entry: dict[str, Any]) -> None:
    """Compare an entry's keys with the fields of its dataclass (``name`` is not one of its keys).

    Raises
    ------
    InputError
        A key is missing or unknown.
    """
    known = {field.name: field for field in fields(cls) if field.name != "name"}
    for key in entry:
        if key not in known:
            raise unknown_name(f"key of {kind} {name}", key, known)
    missing = [
        key
        for key, field in known.items()
        if key not in entry and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise InputError(f"{kind} {name} lacks the key {missing[0]!r}; needed: {', '.join(missing)}")
