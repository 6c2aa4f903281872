"""What a router's scorer thinks of an answer that it can read."""

from __future__ import annotations

import numpy as np

from latency_models.errors import InputError, invalid
from sim.prompt_table import PromptTable
from sim.routing.policies import RequestView

_BLOCK = 4096


class AnswerScorer:
    """Scores answers: some by their true outcome, the others by what was predicted of them.

    A real scorer (the distilled regression model of FrugalGPT, arXiv:2305.05076, section 3) is right about some answers
    and knows no better than before about others.  Here it recognises the outcome of a share of the answers; which ones,
    is drawn for each request, so that one scorer that is informed better than another knows all that the other knows.

    Parameters
    ----------
    table : PromptTable, optional
        The prompts; without, no answer has a score.
    informed : float
        Share of the answers whose outcome it recognises, 0 (it goes by predicted scores alone) to 1 (the truth).
    rng : numpy.random.Generator
        Its own stream.

    Raises
    ------
    InputError
        The share is none, or there are no outcomes to recognise.
    """

    def __init__(self, table: PromptTable | None, informed: float, rng: np.random.Generator) -> None:
        if not 0 <= informed <= 1:
            raise invalid("informed", informed, "a share of the answers, 0 <= informed <= 1")
        if informed > 0 and (table is None or table.outcomes is None):
            raise InputError(
                f"informed is {informed}, but there are no outcomes to recognise; add a prompts section whose table "
                "has outcomes, or set informed: 0"
            )
        self._outcomes = None if table is None or table.outcomes is None or not informed else table.outcomes
        self._informed = informed
        self._rng = rng
        self._draws: list[float] = []

    def score(self, request: RequestView, model: int) -> float | None:
        """Score of the answer of ``model``; ``None`` if requests have no scores."""
        if request.scores is None or request.prompt is None:
            return None
        if self._outcomes is not None and self._draw(request.row) < self._informed:
            return float(self._outcomes[request.prompt, model])
        return request.scores[model]

    def _draw(self, row: int) -> float:
        """A uniform number that belongs to the request, whenever its answers come."""
        while row >= len(self._draws):
            self._draws += self._rng.random(_BLOCK).tolist()
        return self._draws[row]
