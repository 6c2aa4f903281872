"""Faults that pydantic finds, worded as ours: the key as the user wrote it, its value, what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

_MOST_FAULTS = 5
_MISSING = ("missing", "missing_argument")
_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
_CONTAINER = re.compile(r"(?:Tuple|List|Dictionary) should have at (least|most) (\d+) items?")
_OTHER_BRANCH = ("int_type", "float_type", "string_type", "tuple_type", "too_short", "literal_error")
"""What the other branches of a union say of a value that one branch has looked into."""


class _Fault(NamedTuple):
    key: str
    type: str
    problem: str
    """Key and value, or the whole line."""
    allowed: str
    branch: tuple[str, ...] = ()
    """Location of the branch of a union that says so, if one does."""


def describe(error: ValidationError, model: type[BaseModel], values: Mapping[str, Any], where: str) -> str:
    """One line for all faults.

    Parameters
    ----------
    error : pydantic.ValidationError
        What pydantic found.
    model : type of pydantic.BaseModel
        Schema that the values were held against.
    values : mapping
        The values.
    where : str
        Name of the file that they come from.
    """
    schema = model.model_json_schema()
    faults = [_fault(dict(found), schema, values) for found in error.errors(include_url=False)]
    lines: dict[str, list[str]] = {}
    for fault in _of_meant_branches(faults):
        looked_into = any(
            other.key.startswith(f"{fault.key}.") or (other.key == fault.key and other.type == "value_error")
            for other in faults
        )
        if not (looked_into and fault.type in _OTHER_BRANCH):
            lines.setdefault(fault.problem, []).append(fault.allowed)
    texts = [
        problem + (f"; allowed: {' or '.join(dict.fromkeys(allowed))}" if any(allowed) else "")
        for problem, allowed in lines.items()
    ]
    more = f" (and {len(texts) - _MOST_FAULTS} more)" if len(texts) > _MOST_FAULTS else ""
    return f"{where}: {'; '.join(texts[:_MOST_FAULTS])}{more}"


def _of_meant_branches(faults: Sequence[_Fault]) -> list[_Fault]:
    """Without the sections of a union that do not know a key, where another one knows all of them."""
    strange = {fault.branch for fault in faults if fault.branch and fault.type in _UNKNOWN_KEY}
    known = {fault.branch[:-1] for fault in faults if fault.branch not in strange and _is_inside(fault)}
    return [fault for fault in faults if fault.branch not in strange or fault.branch[:-1] not in known]


def _is_inside(fault: _Fault) -> bool:
    """Whether a branch has looked into the value."""
    return bool(fault.branch) and fault.key != ".".join(fault.branch[:-1])


def _fault(found: Mapping[str, Any], schema: Mapping[str, Any], values: Mapping[str, Any]) -> _Fault:
    location = [str(part) for part in found["loc"]]
    key = _key(location, values, last_is_key=found["type"] in _MISSING)
    upto = (tuple(location[:end]) for end in range(1, len(location) + 1))
    branch = next((part for part in upto if not f"{key}.".startswith(".".join(part) + ".")), ())
    return _worded(found, location, key, schema)._replace(branch=branch)


def _worded(found: Mapping[str, Any], location: list[str], key: str, schema: Mapping[str, Any]) -> _Fault:
    kind: str = found["type"]
    if kind in _MISSING:
        return _Fault(key, kind, f"{key} is missing", "")
    if kind in _UNKNOWN_KEY:
        known = _known_keys(schema, location[:-1])
        nearest = _nearest(location[-1], known)
        return _Fault(key, kind, f"unknown key {key!r}{nearest}", "" if nearest else ", ".join(known))
    context = found.get("ctx", {})
    if kind == "union_tag_invalid":
        choices = [name.strip().strip("'") for name in str(context["expected_tags"]).split(",")]
        return _Fault(
            key, kind, f"{key}.kind is {context['tag']!r}", ", ".join(choices) + _nearest(context["tag"], choices)
        )
    if kind == "union_tag_not_found":
        return _Fault(key, kind, f"{key}.kind is missing", "")
    message = str(found["msg"])
    if kind == "value_error":
        return _Fault(key, kind, f"{key}: {message.removeprefix('Value error, ')}" if key else message[13:], "")
    shown = found.get("input")
    value = f" is {shown!r}" if shown is None or isinstance(shown, str | int | float) else " is wrong"
    if isinstance(shown, list | tuple | dict) and not shown:
        value = " is empty"
    suggestion = _nearest(shown, _quoted(message)) if kind == "literal_error" and isinstance(shown, str) else ""
    return _Fault(key, kind, f"{key}{value}", _allowed(message) + suggestion)


def _allowed(message: str) -> str:
    """Pydantic's sentence as what may stand there."""
    for plain in ("a valid dictionary", "a valid mapping"):
        if plain in message:
            return "a section of keys and values"
    text = message.removeprefix("Input should be ").replace("valid tuple", "list")
    text = text.split(", unable to ")[0].split(" after validation")[0]
    text = _CONTAINER.sub(lambda found: f"at {found[1]} {found[2]} {'entry' if found[2] == '1' else 'entries'}", text)
    return text[0].lower() + text[1:] if text.startswith("String") else text


def _quoted(message: str) -> list[str]:
    return message.split("'")[1::2]


def _nearest(name: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


def _key(location: Sequence[str], values: Any, *, last_is_key: bool) -> str:
    """The dotted key, without the parts of pydantic's location that name a branch of a union."""
    parts: list[str] = []
    entered = False
    for number, part in enumerate(location):
        if entered and isinstance(values, Mapping) and values.get("kind") == part:
            # The branch, even if the section has a key of the same name, as kind share has.
            entered = False
            continue
        entered = True
        if isinstance(values, Mapping) and part in values:
            values = values[part]
        elif isinstance(values, list | tuple) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        elif not (last_is_key and number == len(location) - 1):
            continue
        parts.append(part)
    return ".".join(parts)


def _known_keys(schema: Mapping[str, Any], location: Sequence[str]) -> list[str]:
    """Keys of the section at a location of pydantic's."""
    definitions = schema.get("$defs", {})
    nodes = [schema]
    for part in location:
        nodes = [child for node in nodes for child in _children(node, part, definitions)]
    options = [option for node in nodes for option in _options(node, definitions)]
    return sorted({key for option in options for key in option.get("properties", {})})


def _children(node: Mapping[str, Any], part: str, definitions: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    options = _options(node, definitions)
    found: list[Mapping[str, Any]] = []
    for option in options:
        properties = option.get("properties", {})
        if part in properties:
            found.append(properties[part])
        elif isinstance(option.get("additionalProperties"), dict):
            found.append(option["additionalProperties"])
        elif part.isdigit() and isinstance(option.get("items"), dict):
            found.append(option["items"])
    # Otherwise the part names a branch of a union: by its kind, by its class, or by a description of its type.
    branches = [
        option
        for option in options
        if option.get("properties", {}).get("kind", {}).get("const") == part or option.get("title") == part
    ]
    if len(options) > 1 and branches:
        return branches
    return found or branches or [node]


def _options(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if "$ref" in node:
        return _options(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
    branches = [*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())]
    return [option for branch in branches for option in _options(branch, definitions)] if branches else [node]
