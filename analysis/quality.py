"""Quality of answers: what the router predicted, and what came out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from latency_models.errors import InputError
from sim.results import Ints, SimulationResult, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Mean scores over some requests; NaN where nothing is known."""

    predicted: float
    """Predicted score of the model that each request was sent to."""
    achieved: float
    """True outcome of the answers; a request that was not answered counts as 0."""
    achieved_of_answered: float
    """True outcome over the answered requests only."""


def quality(result: SimulationResult, rows: Ints) -> Quality:
    """Quality of the answers to some requests.

    Parameters
    ----------
    result : SimulationResult
        Of a simulation whose requests have prompts.
    rows : array of int, shape (n,)
        Rows of the requests.

    Raises
    ------
    InputError
        The requests have no prompts.
    """
    table = result.prompts
    if table is None:
        raise InputError("the requests have no prompts, so their quality is not known; add a prompts section")
    requests = result.requests
    routed = rows[requests.model[rows] >= 0]
    answered = rows[requests.status[rows] == Status.FINISHED]
    achieved, of_answered = math.nan, math.nan
    if table.outcomes is not None:
        outcomes = table.outcomes[requests.prompt[answered], requests.model[answered]]
        achieved = float(outcomes.sum() / len(rows)) if len(rows) else math.nan
        of_answered = float(outcomes.mean()) if len(answered) else math.nan
    predicted = table.predicted[requests.prompt[routed], requests.model[routed]]
    return Quality(
        predicted=float(predicted.mean()) if len(routed) else math.nan,
        achieved=achieved,
        achieved_of_answered=of_answered,
    )
