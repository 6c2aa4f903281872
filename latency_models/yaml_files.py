"""Reading YAML files that users write: no key twice, paths relative to the file, errors that name it."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from latency_models.errors import InputError


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML would silently drop one."""


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is there twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it is, for messages: ``"scenario"``.

    Raises
    ------
    InputError
        The file cannot be read, is no valid YAML, holds a key twice, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {what} {path}: {error}") from None
    try:
        values = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise InputError(f"{what} {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        kind = {"NoneType": "empty", "list": "a list"}.get(type(values).__name__, "a single value")
        raise InputError(f"{what} {path} is {kind}; allowed: a mapping of keys to values")
    return values


def anchor_paths(section: Any, folder: Path) -> None:
    """Make every ``path`` below a section absolute: relative to ``folder``, with environment variables filled in.

    Raises
    ------
    InputError
        If an environment variable is not set.
    """
    if isinstance(section, dict):
        for key, value in section.items():
            if key == "path" and isinstance(value, str):
                section[key] = str(folder / _expanded(value))
            else:
                anchor_paths(value, folder)
    elif isinstance(section, list):
        for value in section:
            anchor_paths(value, folder)


def _expanded(path: str) -> str:
    expanded = os.path.expanduser(os.path.expandvars(path))
    missing = re.search(r"\$\{?(\w+)", expanded)
    if missing:
        raise InputError(f"path {path!r} needs the environment variable {missing.group(1)}, which is not set")
    return expanded
