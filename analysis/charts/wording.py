"""Figures as text: as many decimals as mean something, and a unit."""

from __future__ import annotations

import math
from collections.abc import Callable

from analysis.estimates import Estimate

Wording = Callable[[float], str]
"""Writes one figure, given in the unit of the data."""

_NONE = "-"


def seconds_text(value: float) -> str:
    """A duration: milliseconds below a second, seconds above."""
    if not math.isfinite(value):
        return _NONE
    if abs(value) >= 1.0:
        return f"{_three_digits(value)} s"
    return f"{_three_digits(value * 1e3)} ms" if value else "0"


def limit_text(value: float) -> str:
    """A limit, as users write it."""
    return f"{value:,g} s" if value >= 1.0 else f"{value * 1e3:g} ms"


def percent_text(value: float) -> str:
    """A share, in percent."""
    if not math.isfinite(value):
        return _NONE
    percent = 100.0 * value
    # Close to all and close to none, a tenth matters; in between it does not.
    text = f"{percent:.{2 if 0.0 < min(percent, 100.0 - percent) < 0.1 else 1}f}"
    return f"{round(float(text))} %" if float(text) in (0.0, 100.0) else f"{text} %"


def score_text(value: float) -> str:
    """A score between 0 and 1."""
    return f"{value:.3f}" if math.isfinite(value) else _NONE


def rate_text(value: float) -> str:
    """Something per second, or a mean number of things."""
    if not math.isfinite(value):
        return _NONE
    return _three_digits(value) if value else "0"


def count_text(value: float) -> str:
    """A number of things."""
    return f"{value:,.0f}" if math.isfinite(value) else _NONE


def usd_text(value: float) -> str:
    """An amount of money."""
    if not math.isfinite(value):
        return _NONE
    return f"${value:,.2f}" if abs(value) >= 1.0 else f"${value:.3g}"


def estimate_text(estimate: Estimate | None, wording: Wording) -> str:
    """A figure, and its interval in brackets where it has one."""
    if estimate is None:
        return _NONE
    if estimate.low is None or estimate.high is None:
        return wording(estimate.value)
    return f"{wording(estimate.value)} [{wording(estimate.low)}, {wording(estimate.high)}]"


def shortened(name: str, most: int = 22) -> str:
    """A name that fits beside a chart; its end says more than its middle."""
    return name if len(name) <= most else f"{name[: most - 9]}…{name[-8:]}"


def _three_digits(value: float) -> str:
    if abs(value) < 1.0:
        return f"{value:.2g}"
    return f"{value:,.{0 if abs(value) >= 100.0 else 1 if abs(value) >= 10.0 else 2}f}"
