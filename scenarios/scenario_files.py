"""Reading scenario files: YAML, ``extends``, ``--set`` overrides, and errors that name the key."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from latency_models.errors import InputError, invalid, unknown_name
from latency_models.yaml_files import anchor_paths, read_yaml
from scenarios.schema import Scenario
from scenarios.schema_errors import describe

Kind = TypeVar("Kind", bound=Scenario)

LIBRARY = Path(str(files("scenarios") / "library"))
"""Folder of the scenarios that come with the package."""

_MOST_EXTENDS = 20
_WITH_PATHS = ("gpus", "workload", "models", "prompts", "profile")


def library_names() -> list[str]:
    """Names of the scenarios that come with the package."""
    return sorted(path.stem for path in LIBRARY.glob("*.yaml"))


def library_description(name: str) -> str:
    """What a library scenario shows, on one line; its traces need not be there."""
    return " ".join(str(read_yaml(LIBRARY / f"{name}.yaml", "scenario").get("description", "")).split())


def find_scenario(name: str, base_dir: Path = Path()) -> Path:
    """The file of a scenario given by path or by library name.

    Raises
    ------
    InputError
        Neither exists; the nearest library name is suggested.
    """
    path = base_dir / name
    if path.suffix in {".yaml", ".yml"} or os.sep in name:
        if path.is_file():
            return path
        raise invalid("scenario", name, "an existing YAML file, or a name from `routerwise scenarios`")
    if name in library_names():
        return LIBRARY / f"{name}.yaml"
    if path.is_file():
        return path
    raise unknown_name("scenario", name, library_names())


def load_scenario(name: str, overrides: Sequence[str] = ()) -> Scenario:
    """Read, resolve and validate a scenario.

    Parameters
    ----------
    name : str
        Path of a YAML file, or name of a library scenario.
    overrides : sequence of str
        ``a.b=value`` assignments, applied last; the value is YAML.

    Raises
    ------
    InputError
        The file cannot be read or does not follow the schema; every fault is named by its key.
    """
    return load_as(Scenario, name, overrides)


def load_as(kind: type[Kind], name: str, overrides: Sequence[str]) -> Kind:
    """Read, resolve and validate a file that is a scenario and perhaps more; see :func:`load_scenario`."""
    path = find_scenario(name)
    values = _resolved(path, ())
    for override in overrides:
        _assign(values, override)
    values.setdefault("name", path.stem)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(describe(error, kind, values, str(path))) from None


def dump_scenario(scenario: Scenario) -> str:
    """The resolved scenario as YAML."""
    plain = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)


def _resolved(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    """A file's values over those of the file that it extends."""
    path = path.resolve()
    if path in below or len(below) > _MOST_EXTENDS:
        chain = " -> ".join(str(entry) for entry in (*below, path))
        raise InputError(f"extends goes in a circle: {chain}")
    values = {key: _own(value) for key, value in read_yaml(path, "scenario").items()}
    for section in _WITH_PATHS:
        anchor_paths(values.get(section), path.parent)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise invalid(f"{path}: extends", base, "the path or library name of one scenario")
    merged = _resolved(find_scenario(base, path.parent), (*below, path))
    merged.pop("name", None)
    return _merge(merged, values)


def _own(value: Any) -> Any:
    """A copy in which no two places share a section, as they do under a YAML alias: --set is to change one of them."""
    if isinstance(value, dict):
        return {key: _own(entry) for key, entry in value.items()}
    return [_own(entry) for entry in value] if isinstance(value, list) else value


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` on top of ``base``: sections are merged key by key; one that names its kind replaces the old one."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict) and "kind" not in value
        merged[key] = _merge(old, value) if both and isinstance(old, dict) else value
    return merged


def _assign(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise invalid("--set", override, "key.subkey=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise invalid("--set", override, "a value that is valid YAML") from None
    *parents, last = key.split(".")
    place: Any = values
    for part in parents:
        if isinstance(place, list):
            place = place[_list_index(place, part, override)]
        elif isinstance(place, dict):
            place = place.setdefault(part, {})
        if not isinstance(place, dict | list):
            raise invalid("--set", override, f"a key below a section, but {part!r} is a value")
    if isinstance(place, list):
        place[_list_index(place, last, override)] = value
    else:
        place[last] = value
        section = key.split(".")[0]
        if section in _WITH_PATHS:
            anchor_paths(values.get(section), Path.cwd())


def _list_index(place: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(place):
        raise invalid("--set", override, f"an index from 0 to {len(place) - 1} in place of {part!r}")
    return int(part)
