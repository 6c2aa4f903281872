"""How much of an outcome each of a few on/off causes explains, from paired runs.

Every replication is run with all causes at work, with each one removed alone, and with all removed, on common random
numbers.  The effect of a cause is what removing it changes; what all together change beyond the sum of their single
effects is the interaction.  (Shares that leave no interaction, such as Shapley's, need a run for every subset of
causes.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.statistics import (
    Interval,
    Series,
    Values,
    check_paired,
    check_probability,
    finite_values,
    mean_interval,
    ratio_interval,
)
from latency_models.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a cause adds to the outcome."""

    interval: Interval
    """In the unit of the outcome."""
    share: Interval | None
    """Of the total effect (Fieller); ``None`` where the total is not told from zero.  Causes can cancel each other, so
    a share can be negative or above 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseEffects:
    """Effects that add up: ``total`` is the sum of ``causes`` and ``interaction``, estimate by estimate."""

    total: Effect
    """Of all causes together; its share is 1."""
    causes: Mapping[str, Effect]
    interaction: Effect
    """What they do together beyond the sum of what each does alone."""
    confidence: float
    """That all intervals of the effects hold together (Bonferroni), and likewise all shares."""


def cause_effects(
    baseline: Series, without: Mapping[str, Series], without_all: Series, *, confidence: float = 0.95
) -> CauseEffects:
    """Attribute the difference between two outcomes to the causes that were removed.

    What is left between ``without_all`` and a promise that no cause explains is
    ``mean_interval(np.asarray(without_all) - promise)``.

    Parameters
    ----------
    baseline : sequence of float
        Outcome of each replication with all causes at work; at least two.
    without : mapping of str to sequence of float
        Outcome of each replication with one cause removed, by the cause's name; at least one cause.
    without_all : sequence of float
        Outcome of each replication with all of them removed.
    confidence : float
        Of all intervals together, between 0 and 1.

    Raises
    ------
    InputError
        If columns differ in length, are too short, or hold a value that is not finite: where nothing was served there
        is no effect to tell.
    """
    if not without:
        raise InputError("no cause to attribute the difference to; remove at least one")
    check_probability("confidence", confidence)
    base = finite_values("baseline", baseline, at_least=2)
    columns = {name: _paired_with(base, f"without {name}", values) for name, values in without.items()}
    total = base - _paired_with(base, "without_all", without_all)
    causes = {name: base - column for name, column in columns.items()}
    interaction = total - np.sum(list(causes.values()), axis=0)
    each = 1 - (1 - confidence) / (len(causes) + 2)
    clear = not mean_interval(total, confidence=each).contains(0.0)

    def effect(values: Values) -> Effect:
        return Effect(
            interval=mean_interval(values, confidence=each),
            share=ratio_interval(values, total, confidence=each) if clear else None,
        )

    return CauseEffects(
        total=effect(total),
        causes={name: effect(values) for name, values in causes.items()},
        interaction=effect(interaction),
        confidence=confidence,
    )


def _paired_with(base: Values, field: str, values: Series) -> Values:
    data = finite_values(field, values, at_least=2)
    check_paired("baseline", base, field, data)
    return data
