"""Figures with their confidence intervals, as summaries and other results keep them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure; of several replications their mean, and its confidence interval."""

    value: float
    low: float | None = None
    high: float | None = None


def estimate_of(content: Any) -> Estimate | None:
    """A figure as it is stored.

    Parameters
    ----------
    content : float, dict or None
        A number, or ``mean`` or ``estimate`` with ``low`` and ``high``.

    Returns
    -------
    Estimate or None
        ``None`` where there is no figure.
    """
    if isinstance(content, Mapping):
        value = content.get("mean", content.get("estimate"))
        return None if value is None else Estimate(value=value, low=content.get("low"), high=content.get("high"))
    return None if content is None else Estimate(value=float(content))


def value_of(content: Any) -> float | None:
    """The same without its interval."""
    found = estimate_of(content)
    return None if found is None else found.value


def simulated_estimate(figure: Mapping[str, Any]) -> Estimate:
    """What came out of a figure that a plan promised, if its ``simulated`` is not ``None``.

    Such figures are in :attr:`analysis.stored.run.StoredRun.promise`, and in documents of ``routerwise validate``.
    """
    return Estimate(value=figure["simulated"], low=figure["low"], high=figure["high"])
