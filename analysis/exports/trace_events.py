"""Single events of a Chrome trace, as JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def microseconds(nanoseconds: int) -> str:
    """Time as the format has it, exact to the nanosecond."""
    return f"{nanoseconds // 1000}.{nanoseconds % 1000:03d}"


def at(time_s: float) -> str:
    """A time in seconds, in microseconds."""
    return microseconds(round(time_s * 1e9))


def metadata(name: str, process: int, args: Mapping[str, Any], *, thread: int = 0) -> str:
    """What a process or thread is called, or where it stands."""
    return json.dumps({"ph": "M", "name": name, "pid": process, "tid": thread, "args": args})


def counter(name: str, process: int, time_s: float, values: Mapping[str, int]) -> str:
    """Values from a time on."""
    return (
        f'{{"ph": "C", "name": {json.dumps(name)}, "pid": {process}, "tid": 0, "ts": {at(time_s)}, '
        f'"args": {json.dumps(values)}}}'
    )


def async_begin(name: str, process: int, identity: str, time_s: float, args: Mapping[str, Any] | None = None) -> str:
    """Beginning of a slice of category ``request``; slices of equal identity in one process nest."""
    described = f', "args": {json.dumps(args)}' if args else ""
    return (
        f'{{"ph": "b", "cat": "request", "name": {json.dumps(name)}, "id2": {{"local": "{identity}"}}, '
        f'"pid": {process}, "tid": 0, "ts": {at(time_s)}{described}}}'
    )


def async_end(name: str, process: int, identity: str, time_s: float) -> str:
    """End of the innermost open slice of that identity, which has that name."""
    return (
        f'{{"ph": "e", "cat": "request", "name": {json.dumps(name)}, "id2": {{"local": "{identity}"}}, '
        f'"pid": {process}, "tid": 0, "ts": {at(time_s)}}}'
    )
