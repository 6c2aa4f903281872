"""How long a model would take now to the first token, told from nothing but what its router has seen."""

from __future__ import annotations

import math
from typing import NamedTuple

_FORGETTING = 0.99
"""Weight of an observation against the next one: the last hundred or so count."""


class _Sent(NamedTuple):
    sent_s: float
    prompt_tokens: int
    ahead_tokens: float


class TtftEstimate:
    """Predicted time to first token of one model.

    A router knows which of its requests have no first token yet.  The prompt tokens of those, own request included and
    per replica, are the work ahead.  The prediction is ``a + b ahead`` by least squares over past requests (b >= 0,
    exponential forgetting), and at least as long as the oldest of those requests has waited already.  A model that was
    never asked, or not lately, is taken to be as quick as one may wish, so that it gets its chance.  How far requests
    were from their predictions gives a standard deviation, for who wants to be on the safe side.

    Parameters
    ----------
    memory_s : float
        After how many seconds without a request and without a first token nothing is known any more.
    """

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._open: dict[int, _Sent] = {}
        self._open_tokens = 0
        self._heard_s = -float("inf")
        self._weight = 0.0
        self._mean_ahead = 0.0
        self._mean_ttft_s = 0.0
        self._spread = 0.0
        self._joint = 0.0
        self._mean_square = 0.0

    def predict_s(self, now_s: float, prompt_tokens: int, replicas: int, deviations: float = 0.0) -> float:
        """Time to first token of a request that is sent now, plus so many deviations; 0 if nothing is known."""
        waited_s = 0.0
        if self._open:
            waited_s = now_s - next(iter(self._open.values())).sent_s
        elif now_s - self._heard_s > self._memory_s:
            return 0.0
        if not self._weight:
            return waited_s
        expected_s = self._expected_s(self._ahead(prompt_tokens, replicas))
        if deviations:
            expected_s += deviations * math.sqrt(self._mean_square)
        return max(expected_s, waited_s)

    def sent(self, row: int, now_s: float, prompt_tokens: int, replicas: int) -> None:
        """A request is sent to the model."""
        self._open[row] = _Sent(now_s, prompt_tokens, self._ahead(prompt_tokens, replicas))
        self._open_tokens += prompt_tokens

    def first_token(self, row: int, now_s: float) -> None:
        """A request has got its first token."""
        sent = self._close(row)
        if sent is None:
            return
        if now_s - self._heard_s > self._memory_s:
            self._weight = self._spread = self._joint = self._mean_square = 0.0
        self._heard_s = now_s
        ttft_s = now_s - sent.sent_s
        missed_s = ttft_s - self._expected_s(sent.ahead_tokens) if self._weight else 0.0
        # Weighted means and products of deviations, one observation at a time (West, CACM 22, 1979).
        old = self._weight * _FORGETTING
        self._weight = old + 1.0
        from_ahead = sent.ahead_tokens - self._mean_ahead
        from_ttft_s = ttft_s - self._mean_ttft_s
        share = 1.0 / self._weight
        self._spread = self._spread * _FORGETTING + old * share * from_ahead * from_ahead
        self._joint = self._joint * _FORGETTING + old * share * from_ahead * from_ttft_s
        self._mean_ahead += share * from_ahead
        self._mean_ttft_s += share * from_ttft_s
        self._mean_square += share * (missed_s * missed_s - self._mean_square)

    def ended(self, row: int) -> None:
        """A request has left the model without a first token."""
        self._close(row)

    def _expected_s(self, ahead_tokens: float) -> float:
        slope = max(self._joint / self._spread, 0.0) if self._spread > 0 else 0.0
        return max(self._mean_ttft_s + slope * (ahead_tokens - self._mean_ahead), 0.0)

    def _ahead(self, prompt_tokens: int, replicas: int) -> float:
        return self._open_tokens / replicas + prompt_tokens

    def _close(self, row: int) -> _Sent | None:
        sent = self._open.pop(row, None)
        if sent is not None:
            self._open_tokens -= sent.prompt_tokens
        return sent
