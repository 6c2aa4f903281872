"""What measurements show beyond the ``steps`` law: factors over share and tokens, linear in between.

Libraries choose another kernel for each size and number of SMs, which no law of few parameters has.  A table of
factors, one model and degree of tensor parallelism each, keeps what repeats from share to share.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from latency_models.errors import check_count, check_finite, invalid
from latency_models.laws.compute_share import check_share


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorTable:
    """Measured over predicted time.

    Parameters
    ----------
    shares : sequence of float, shape (s,)
        Shares of the SMs, ascending.
    tokens : sequence of int, shape (n,)
        Tokens of the step, ascending: those of the prompts, or the decoding sequences.
    factors : sequence of sequence of float, shape (s, n)
        Factor of each share and number of tokens, > 0.

    Raises
    ------
    InputError
        On axes that do not ascend, factors that are not positive, or shapes that differ.
    """

    shares: Sequence[float]
    tokens: Sequence[int]
    factors: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        for share in self.shares:
            check_share("latency.residuals shares", share)
        for count in self.tokens:
            check_count("latency.residuals tokens", count)
        for name, axis in (("shares", self.shares), ("tokens", self.tokens)):
            if not axis or any(left >= right for left, right in pairwise(axis)):
                raise invalid(f"latency.residuals {name}", list(axis), "at least one value, ascending, each once")
        if len(self.factors) != len(self.shares) or any(len(row) != len(self.tokens) for row in self.factors):
            raise invalid(
                "latency.residuals factors",
                f"{len(self.factors)} rows of {sorted({len(row) for row in self.factors})}",
                f"a row of {len(self.tokens)} (one per tokens) for each of the {len(self.shares)} shares",
            )
        for row in self.factors:
            for factor in row:
                check_finite("latency.residuals factors", factor, exclusive=True)

    def at(self, share: float) -> FactorCurve:
        """The factors of one share; outside the measured shares, those of the nearest one."""
        row = tuple(_between(self.shares, column, share) for column in zip(*self.factors, strict=True))
        return FactorCurve(log_tokens=tuple(math.log2(count) for count in self.tokens), factors=row)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorCurve:
    """Factors of one share, over the logarithm of the tokens."""

    log_tokens: tuple[float, ...]
    factors: tuple[float, ...]

    def factor(self, tokens: int) -> float:
        """The factor of a step of ``tokens`` tokens; outside the measured sizes, that of the nearest one."""
        return _between(self.log_tokens, self.factors, math.log2(tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareResiduals:
    """Factors of steps with prefill and of steps without."""

    prefill: FactorTable
    decode: FactorTable


def _between(points: Sequence[float], values: Sequence[float], at: float) -> float:
    """Linear interpolation, constant outside."""
    place = bisect_right(points, at)
    if place == 0 or place == len(points):
        return values[0] if place == 0 else values[-1]
    weight = (at - points[place - 1]) / (points[place] - points[place - 1])
    return values[place - 1] * (1.0 - weight) + values[place] * weight
