"""Figures of a summary as text: one number, or a mean with half its confidence interval."""

from __future__ import annotations

from typing import Any

_MS = 1000.0


def figure_text(value: Any, unit: str) -> str:
    """A figure of a summary as text.

    Parameters
    ----------
    value : float, dict or None
        A number, or ``mean``, ``low`` and ``high`` over replications.
    unit : {"count", "misses", "rate", "seconds", "ms", "share", "hits", "score", "usd"}
        What it is.
    """
    if value is None:
        return "-"
    if isinstance(value, dict):
        text = _number(value["mean"], unit)
        if value["low"] is None:
            return text
        return f"{text} ± {_number((value['high'] - value['low']) / 2, unit)}"
    return _number(value, unit)


def point(value: Any) -> float:
    """A figure of a summary as one number; 0 if there is none."""
    if value is None:
        return 0.0
    return float(value["mean"] if isinstance(value, dict) else value)


def _number(value: float, unit: str) -> str:
    if unit in ("share", "hits"):
        return f"{value:.1%}"
    if unit == "score":
        return f"{value:.4f}"
    if unit == "ms":
        value *= _MS
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    if unit in ("rate", "seconds"):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 10 else f"{value:.1f}"
    if unit == "usd":
        return f"${value:,.2f}" if value >= 1 else f"${value:.3g}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
