"""The one family of errors that every layer raises, and how they are worded.

A message names the field, the value it had, what is allowed, and the fix.  The command line prints it as one
line and exits with :attr:`RouterwiseError.exit_status`.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any


class RouterwiseError(Exception):
    """Base of all errors that a user can cause or must know about."""

    exit_status = 1


class InputError(RouterwiseError):
    """Something that the user gave is wrong; nothing was computed and nothing is left behind."""

    exit_status = 2


def invalid(field: str, value: object, allowed: str, fix: str = "") -> InputError:
    """Build the error for one bad value.

    Parameters
    ----------
    field : str
        Name of the field as the user wrote it, e.g. ``"engine.block_size"`` or ``"trace.csv line 7, arrival_s"``.
    value : object
        What it was.
    allowed : str
        What it may be, e.g. ``"a positive integer"``.
    fix : str, optional
        What to do about it, when that is not obvious from ``allowed``.
    """
    message = f"{field} is {value!r}; allowed: {allowed}"
    return InputError(f"{message}. {fix}" if fix else message)


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """Build the error for a name that does not exist, with the choices and the nearest of them."""
    known = sorted(choices)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return InputError(f"unknown {kind} {name!r}{hint} (choices: {', '.join(known) or 'none'})")


def check_finite(field: str, value: Any, *, minimum: float = 0.0, exclusive: bool = False) -> float:
    """Return ``value`` as a float if it is finite and not below ``minimum``; raise :class:`InputError` otherwise."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or (value <= minimum if exclusive else value < minimum):
        raise invalid(field, value, f"a finite number {'>' if exclusive else '>='} {minimum:g}")
    return float(value)


def check_count(field: str, value: Any, *, minimum: int = 1) -> int:
    """Return ``value`` if it is an integer of at least ``minimum``; raise :class:`InputError` otherwise."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < minimum:
        raise invalid(field, value, f"an integer >= {minimum}")
    return int(value)
