"""Figures as text: units, and as many digits as a figure is good for.

Sentences, charts and pages write a figure with its interval in brackets (:func:`worded`), or the two apart
(:func:`bare`); labels have no room for the interval (:func:`brief`). Columns of a terminal have a fixed number of
decimals (:func:`in_column`), so that figures can be compared down the column, and half the interval behind a ± sign
(:func:`plus_minus`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from analysis.estimates import Estimate

NONE = "-"
"""Where there is no figure."""

_MOST_DECIMALS = 6


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
    decimals: int = 2
    """Most decimals; a figure that has no two significant digits then has more."""
    least_decimals: int = 0
    """Of a figure that is no whole number."""
    difference: str = ""
    """Name of the unit of differences, where it is another one."""
    columns: tuple[tuple[float, int], ...] = ((1000.0, 0), (10.0, 1))
    """In columns: from which figure on how many decimals, largest first; below, ``digits`` without zeros at the end."""
    column_mark: str = ""
    """Written after the figure in columns, where the name is in the heading."""
    counts: bool = False
    """Whether whole numbers have no decimals in columns either."""
    larger: Unit | None = None
    """Takes over where a figure is at least 1 of it, if it is not written apart from its unit."""

    def at(self, value: float) -> Unit:
        """The unit for a figure: this one, or a larger one."""
        larger = self.larger
        return self if larger is None or not abs(value * larger.factor) >= 1.0 else larger


MILLISECONDS = Unit(name="ms", factor=1e3, columns=((100.0, 0), (0.0, 1)))
SECONDS = Unit(name="s")
DURATION = replace(MILLISECONDS, larger=SECONDS)
SHARE = Unit(
    name="%", factor=100.0, most=100.0, least_decimals=1, difference="points", columns=((0.0, 1),), column_mark="%"
)
SCORE = Unit(least=-math.inf, digits=4, decimals=4, least_decimals=4, columns=((0.0, 4),))
RATE = Unit(name="/s")
NUMBER = Unit()
"""A mean number of things, or of anything whose unit is in the heading."""
COUNT = Unit(columns=((0.0, 1),), counts=True)
"""A number of things: a whole one, unless it is a mean."""
DOLLARS = Unit(before="$", decimals=3, least_decimals=2, columns=((1.0, 2),))

UNITS = {
    "s": MILLISECONDS, "share": SHARE, "score": SCORE, "requests/s": RATE, "rate": NUMBER, "number": NUMBER,
}  # fmt: skip
"""By the names that promises, gaps and comparisons use; the title of a compared rate says what it is of."""


# ---------------------------------------------------------------------- in sentences, charts and pages


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
    if not math.isfinite(estimate.value):
        return NONE, ""
    value = round(estimate.value * unit.factor, 9)  # 0.07 is not quite 7 %
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return _number(value, _decimals_alone(value, unit), signed=signed), ""
    low, high = estimate.low * unit.factor, estimate.high * unit.factor
    # A third of the half-width: two digits of one that begins with 1 or 2, one digit of others.
    decimals = min(max(_decimals((high - low) / 6, 1), unit.least_decimals), _most_decimals(value, unit))
    if not signed:
        low, high = max(low, unit.least), min(high, unit.most)
    return (
        _number(value, decimals, signed=signed),
        f"[{_number(low, decimals, signed=signed)}, {_number(high, decimals, signed=signed)}]",
    )


def worded(estimate: Estimate | None, unit: Unit, *, signed: bool = False) -> str:
    """A figure with its unit and interval, such as ``138 ms [93, 182]``; a dash where there is none."""
    if estimate is None:
        return NONE
    unit = unit.at(estimate.value)
    figure, interval = bare(estimate, unit, signed=signed)
    if signed and unit.difference:
        unit = replace(unit, name=unit.difference)
    return " ".join(part for part in (with_unit(figure, unit), interval) if part)


def brief(estimate: Estimate | float, unit: Unit) -> str:
    """A figure with its unit, where there is no room for its interval; the digits are those of :func:`worded`."""
    if not isinstance(estimate, Estimate):
        estimate = Estimate(value=estimate)
    unit = unit.at(estimate.value)
    return with_unit(bare(estimate, unit)[0], unit)


def setting(value: float, unit: Unit) -> str:
    """A figure that somebody chose, such as a limit, with all its digits and its unit."""
    unit = unit.at(value)
    text = f"{value * unit.factor:,.{_MOST_DECIMALS}f}"
    return with_unit(text.rstrip("0").rstrip("."), unit)


def with_unit(figure: str, unit: Unit) -> str:
    """The text of a figure with its unit around it."""
    if figure == NONE:
        return NONE
    space = "" if unit.name in ("", "/s") else "\N{NO-BREAK SPACE}"
    return f"{unit.before}{figure}{space}{unit.name}"


def percent(share: float) -> str:
    """A round share, such as a confidence."""
    return f"{100 * share:.3g}\N{NO-BREAK SPACE}%"


def plural(count: float, one: str, many: str | None = None) -> str:
    """A count with its noun, such as ``1 replication`` or ``12,000 requests``."""
    words = one if count == 1 else many or f"{one}s"
    return f"{_number(count, 0 if count == int(count) else 1)} {words}"


def listed(parts: Sequence[str]) -> str:
    """Parts of a sentence, such as ``a, b and c``."""
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def ranges(numbers: Iterable[int], separator: str = ", ") -> str:
    """Whole numbers with neighbours joined, such as ``0-3, 6`` for 0, 1, 2, 3 and 6."""
    parts: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1] = (parts[-1][0], number)
        else:
            parts.append((number, number))
    return separator.join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


# ---------------------------------------------------------------------- in columns of a terminal


def in_column(value: float | None, unit: Unit) -> str:
    """A figure alone; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NONE
    value = round(value * unit.factor, _MOST_DECIMALS)  # half-widths of what never varies are not quite 0
    if unit.counts and value == int(value):
        text = _number(value, 0)
    else:
        decimals = next((decimals for least, decimals in unit.columns if abs(value) >= least), None)
        text = _significant(value, unit.digits) if decimals is None else _number(value, decimals)
    return f"{unit.before}{text}{unit.column_mark}"


def plus_minus(estimate: Estimate | None, unit: Unit) -> str:
    """A figure, with half its interval where it has one."""
    if estimate is None:
        return NONE
    text = in_column(estimate.value, unit)
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} ± {in_column((estimate.high - estimate.low) / 2, unit)}"


# ---------------------------------------------------------------------- digits


def _decimals_alone(value: float, unit: Unit) -> int:
    if value == int(value):
        return 0
    if math.isfinite(unit.most) and unit.least < value < unit.most:
        # 99.97 % is not 100 %: near an end of a scale it is the distance to it that counts.
        distance = min(value - unit.least, unit.most - value)
        return min(max(unit.least_decimals, _decimals(distance, 1)), _MOST_DECIMALS)
    return min(_decimals(value, unit.digits), _most_decimals(value, unit))


def _most_decimals(value: float, unit: Unit) -> int:
    return min(max(unit.decimals, _decimals(value, 2)), _MOST_DECIMALS)


def _decimals(value: float, digits: int) -> int:
    """Decimals with which a number has so many significant digits."""
    return 0 if value == 0 or not math.isfinite(value) else max(0, digits - 1 - math.floor(math.log10(abs(value))))


def _significant(value: float, digits: int) -> str:
    text = _number(value, _decimals(value, digits))
    return text.rstrip("0").rstrip(".") if "." in text else text


def _number(value: float, decimals: int, *, signed: bool = False) -> str:
    text = f"{value:{'+' if signed else ''},.{decimals}f}"
    bare_zero = not text.strip("+-0.,")
    return text.lstrip("+-") if bare_zero else text.replace("-", "\N{MINUS SIGN}")
