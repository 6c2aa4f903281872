"""Figures in words: units, as many digits as a figure is good for, and its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from analysis.stored.run import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """How a kind of figure is shown.

    Intervals by Student's t do not know that there is no negative waiting time and no share above 100 %; what lies
    beyond ``least`` and ``most`` is cut off.
    """

    name: str = ""
    """Written after the figure, and in the headings of tables."""
    before: str = ""
    factor: float = 1.0
    """From the unit of the results to this one."""
    least: float = 0.0
    most: float = math.inf
    digits: int = 3
    """Significant digits of a figure without an interval."""
    decimals: int = 4
    """Most decimals."""
    least_decimals: int = 0
    """Of a figure that is no whole number."""
    difference: str = ""
    """Name of the unit of differences, where it is another one."""


MILLISECONDS = Unit(name="ms", factor=1e3, decimals=2)
SECONDS = Unit(name="s", decimals=2)
SHARE = Unit(name="%", factor=100.0, most=100.0, decimals=2, least_decimals=1, difference="points")
SCORE = Unit(least=-math.inf, digits=4, least_decimals=4)
RATE = Unit(name="/s", decimals=2)
COUNT = Unit(decimals=2)
DOLLARS = Unit(before="$", decimals=3)

UNITS = {"s": MILLISECONDS, "share": SHARE, "score": SCORE, "requests/s": RATE}
"""By the names that promises and gaps use."""


def bare(estimate: Estimate, unit: Unit, *, signed: bool = False) -> tuple[str, str]:
    """A figure without its unit, and its interval.

    With an interval, a figure is good for one or two digits of the interval's half-width, as the first one is large or
    small; without, for the unit's number of significant digits.

    Parameters
    ----------
    estimate : Estimate
        In the unit of the results.
    unit : Unit
        To show it in.
    signed : bool
        Whether it is a difference: shown with its sign, and not bounded by the unit.

    Returns
    -------
    figure, interval
        Such as ``("138", "[93, 182]")``; the interval is empty where there is none or it has no width.
    """
    value = round(estimate.value * unit.factor, 9)  # 0.07 is not quite 7 %
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return _number(value, _plain_decimals(value, unit), signed=signed), ""
    low, high = estimate.low * unit.factor, estimate.high * unit.factor
    # A third of the half-width: two digits of one that begins with 1 or 2, one digit of others.
    decimals = min(max(_decimals((high - low) / 6, 1), unit.least_decimals), unit.decimals)
    if not signed:
        low, high = max(low, unit.least), min(high, unit.most)
    return (
        _number(value, decimals, signed=signed),
        f"[{_number(low, decimals, signed=signed)}, {_number(high, decimals, signed=signed)}]",
    )


def worded(estimate: Estimate, unit: Unit, *, signed: bool = False) -> str:
    """A figure with its unit and interval, such as ``138 ms [93, 182]``."""
    figure, interval = bare(estimate, unit, signed=signed)
    if signed and unit.difference:
        unit = replace(unit, name=unit.difference)
    return " ".join(part for part in (with_unit(figure, unit), interval) if part)


def with_unit(figure: str, unit: Unit) -> str:
    """The text of a figure with its unit around it."""
    space = "" if unit.name in ("", "/s") else "\N{NO-BREAK SPACE}"
    return f"{unit.before}{figure}{space}{unit.name}"


def percent(share: float) -> str:
    """A round share, such as a confidence."""
    return f"{100 * share:.3g}\N{NO-BREAK SPACE}%"


def plural(count: float, one: str, many: str | None = None) -> str:
    """A count with its noun, such as ``1 replication`` or ``12,000 requests``."""
    words = one if count == 1 else many or f"{one}s"
    return f"{_number(count, 0 if count == int(count) else 1)} {words}"


def _plain_decimals(value: float, unit: Unit) -> int:
    if value == int(value):
        return 0
    if math.isfinite(unit.most) and unit.least < value < unit.most:
        # 99.97 % is not 100 %: near an end of a scale it is the distance to it that counts.
        return min(max(unit.least_decimals, _decimals(min(value - unit.least, unit.most - value), 1)), unit.decimals)
    return min(_decimals(value, unit.digits), unit.decimals)


def _decimals(value: float, digits: int) -> int:
    """Decimals with which a number has so many significant digits."""
    return 0 if value == 0 or not math.isfinite(value) else max(0, digits - 1 - math.floor(math.log10(abs(value))))


def _number(value: float, decimals: int, *, signed: bool = False) -> str:
    text = f"{value:{'+' if signed else ''},.{decimals}f}"
    bare_zero = not text.strip("+-0.,")
    return text.lstrip("+-") if bare_zero else text.replace("-", "\N{MINUS SIGN}")
