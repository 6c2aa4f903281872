"""How many tokens a request has: distributions of prompt and output lengths.

A marginal distribution draws one length; a joint one draws pairs (prompt, output), which matters because long prompts
tend to have answers of another length than short ones.  Every drawn length is an integer of at least 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import Field

from latency_models.errors import InputError, check_count, check_finite, invalid
from scenarios.workloads.request_chunks import Floats, Ints

MAX_TOKENS = 2**31 - 1
"""Longest length that is accepted from outside or drawn."""

_STRICT: dict[str, Any] = {"extra": "forbid"}


class LengthDistribution(Protocol):
    """Distribution of one length."""

    def sample(self, rng: np.random.Generator, n: int) -> Ints:
        """Lengths in tokens, shape (n,), each at least 1."""
        ...


class JointLengths(Protocol):
    """Distribution of a request's two lengths."""

    def sample(self, rng: np.random.Generator, n: int) -> tuple[Ints, Ints]:
        """Prompt and output lengths in tokens, both of shape (n,), each at least 1."""
        ...


def _clip(values: Floats, minimum: int, maximum: int | None) -> Ints:
    top = MAX_TOKENS if maximum is None else maximum
    lengths: Ints = np.clip(np.rint(values), minimum, top).astype(np.int64)
    return lengths


def _check_clip(minimum: int, maximum: int | None) -> None:
    check_count("minimum", minimum)
    if maximum is not None and check_count("maximum", maximum) < minimum:
        raise invalid("maximum", maximum, f"an integer >= minimum ({minimum})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantLength:
    """Always ``tokens``."""

    kind: Literal["constant"] = "constant"
    tokens: int
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_count("tokens", self.tokens)

    def sample(self, rng: np.random.Generator, n: int) -> Ints:
        """Lengths in tokens, shape (n,)."""
        return np.full(n, self.tokens, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class LognormalLength:
    """Lognormal, by ``mean`` and ``cv`` or by ``median`` and ``sigma``, rounded and clipped.

    ``mean`` and ``cv`` (or the others) are those before clipping to ``minimum`` and ``maximum``.
    """

    kind: Literal["lognormal"] = "lognormal"
    mean: float | None = None
    cv: float | None = None
    median: float | None = None
    sigma: float | None = None
    minimum: int = 1
    maximum: int | None = None
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        given = {name for name in ("mean", "cv", "median", "sigma") if getattr(self, name) is not None}
        if given not in ({"mean", "cv"}, {"median", "sigma"}):
            raise InputError(f"lognormal lengths need mean and cv, or median and sigma; got {sorted(given) or 'none'}")
        for name in sorted(given):
            check_finite(name, getattr(self, name), exclusive=name in ("mean", "median"))
        _check_clip(self.minimum, self.maximum)

    def _parameters(self) -> tuple[float, float]:
        if self.median is not None and self.sigma is not None:
            return math.log(self.median), self.sigma
        mean, cv = self.mean or 0.0, self.cv or 0.0
        variance = math.log1p(cv * cv)
        return math.log(mean) - 0.5 * variance, math.sqrt(variance)

    def sample(self, rng: np.random.Generator, n: int) -> Ints:
        """Lengths in tokens, shape (n,)."""
        location, sigma = self._parameters()
        return _clip(rng.lognormal(location, sigma, n), self.minimum, self.maximum)


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalLength:
    """Normal with ``mean`` and ``std``, rounded and clipped to ``minimum`` and ``maximum``."""

    kind: Literal["normal"] = "normal"
    mean: float
    std: float
    minimum: int = 1
    maximum: int | None = None
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("mean", self.mean, exclusive=True)
        check_finite("std", self.std)
        _check_clip(self.minimum, self.maximum)

    def sample(self, rng: np.random.Generator, n: int) -> Ints:
        """Lengths in tokens, shape (n,)."""
        return _clip(rng.normal(self.mean, self.std, n), self.minimum, self.maximum)


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformLength:
    """Any integer from ``minimum`` to ``maximum``, both included."""

    kind: Literal["uniform"] = "uniform"
    minimum: int
    maximum: int
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        _check_clip(self.minimum, self.maximum)

    def sample(self, rng: np.random.Generator, n: int) -> Ints:
        """Lengths in tokens, shape (n,)."""
        return rng.integers(self.minimum, self.maximum, n, dtype=np.int64, endpoint=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeometricLength:
    """Geometric on 1, 2, ... with mean ``mean``: every token is the last one with the same probability."""

    kind: Literal["geometric"] = "geometric"
    mean: float
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("mean", self.mean, minimum=1.0)

    def sample(self, rng: np.random.Generator, n: int) -> Ints:
        """Lengths in tokens, shape (n,)."""
        return np.minimum(rng.geometric(1.0 / self.mean, n), MAX_TOKENS).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialLength:
    """Exponential with mean ``mean``, rounded up: the drawn mean is about half a token more."""

    kind: Literal["exponential"] = "exponential"
    mean: float
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("mean", self.mean, exclusive=True)

    def sample(self, rng: np.random.Generator, n: int) -> Ints:
        """Lengths in tokens, shape (n,)."""
        return _clip(np.ceil(rng.exponential(self.mean, n)), 1, None)


Quantiles = tuple[tuple[float, float], ...]
"""Pairs (probability, tokens), from probability 0 to 1, neither falling; linear in between."""


def _quantile_table(field: str, quantiles: Quantiles) -> tuple[Floats, Floats]:
    """Check a quantile table and return its two columns."""
    if len(quantiles) < 2:
        raise invalid(field, quantiles, "at least two pairs [probability, tokens]")
    for probability, tokens in quantiles:
        check_finite(f"{field} probability", probability)
        check_finite(f"{field} tokens", tokens, minimum=1.0)
    probabilities, lengths = np.array(quantiles, np.float64).T
    if probabilities[0] != 0 or probabilities[-1] != 1 or (np.diff(probabilities) < 0).any():
        raise invalid(field, probabilities.tolist(), "probabilities that start at 0, do not fall, and end at 1")
    if (np.diff(lengths) < 0).any():
        raise invalid(field, lengths.tolist(), "lengths that do not fall with the probability")
    return probabilities, lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class EmpiricalLength:
    """Distribution given by ``quantiles``, pairs [probability, tokens] from probability 0 to 1, linear in between."""

    kind: Literal["empirical"] = "empirical"
    quantiles: Quantiles
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        _quantile_table("quantiles", self.quantiles)

    def sample(self, rng: np.random.Generator, n: int) -> Ints:
        """Lengths in tokens, shape (n,)."""
        probabilities, lengths = np.array(self.quantiles, np.float64).T
        return _clip(np.interp(rng.random(n), probabilities, lengths), 1, None)


AnyLength = Annotated[
    ConstantLength
    | LognormalLength
    | NormalLength
    | UniformLength
    | GeometricLength
    | ExponentialLength
    | EmpiricalLength,
    Field(discriminator="kind"),
]
"""Any distribution of one length, told apart by ``kind``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndependentLengths:
    """Lengths of ``prompt`` and ``output`` drawn independently."""

    kind: Literal["independent"] = "independent"
    prompt: AnyLength
    output: AnyLength
    __pydantic_config__: ClassVar[Any] = _STRICT

    def sample(self, rng: np.random.Generator, n: int) -> tuple[Ints, Ints]:
        """Prompt and output lengths in tokens, both of shape (n,)."""
        return self.prompt.sample(rng, n), self.output.sample(rng, n)


@dataclass(frozen=True, slots=True, kw_only=True)
class JointPairs:
    """Pairs drawn from a list, with equal or given ``weights``.

    ``pairs`` lists (prompt, output) in tokens.
    """

    kind: Literal["joint"] = "joint"
    pairs: tuple[tuple[int, int], ...]
    weights: tuple[float, ...] | None = None
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        if not self.pairs:
            raise invalid("pairs", [], "at least one pair [prompt_tokens, output_tokens]")
        for prompt, output in self.pairs:
            check_count("pairs prompt_tokens", prompt)
            check_count("pairs output_tokens", output)
        if self.weights is None:
            return
        if len(self.weights) != len(self.pairs):
            raise invalid("weights", f"{len(self.weights)} numbers", f"one number per pair ({len(self.pairs)})")
        for weight in self.weights:
            check_finite("weights", weight)
        if not 0 < sum(self.weights) < math.inf:
            raise invalid("weights", self.weights, "weights with a positive, finite sum")

    def sample(self, rng: np.random.Generator, n: int) -> tuple[Ints, Ints]:
        """Prompt and output lengths in tokens, both of shape (n,)."""
        weights = np.ones(len(self.pairs)) if self.weights is None else np.array(self.weights, np.float64)
        return PairTable(np.array(self.pairs, np.int64), weights).sample(rng, n)


class PairTable:
    """Pairs of lengths, for drawing from many.

    Parameters
    ----------
    pairs : ndarray of shape (m, 2)
        Prompt and output tokens, each at least 1.
    weights : ndarray of shape (m,)
        How likely each is, up to a factor.
    """

    def __init__(self, pairs: Ints, weights: Floats) -> None:
        self._prompt, self._output = np.ascontiguousarray(pairs.T)
        self._cumulative = np.cumsum(weights)

    def sample(self, rng: np.random.Generator, n: int) -> tuple[Ints, Ints]:
        """Prompt and output lengths in tokens, both of shape (n,)."""
        level = rng.random(n) * self._cumulative[-1]
        rows = np.searchsorted(self._cumulative, level, side="right")
        return self._prompt[rows], self._output[rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionalLengths:
    """``prompt`` from a quantile table, output from a quantile table that depends on the prompt's rank.

    ``output_given_prompt`` holds one table per class of prompts; the classes are equally likely and go from the
    shortest prompts to the longest.
    """

    kind: Literal["conditional"] = "conditional"
    prompt: Quantiles
    output_given_prompt: tuple[Quantiles, ...]
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        _quantile_table("prompt", self.prompt)
        if not self.output_given_prompt:
            raise invalid("output_given_prompt", [], "at least one quantile table")
        for table in self.output_given_prompt:
            _quantile_table("output_given_prompt", table)

    def sample(self, rng: np.random.Generator, n: int) -> tuple[Ints, Ints]:
        """Prompt and output lengths in tokens, both of shape (n,)."""
        rank = rng.random(n)
        level = rng.random(n)
        prompt = np.interp(rank, *np.array(self.prompt, np.float64).T)
        classes = len(self.output_given_prompt)
        own = (rank * classes).astype(np.int64)
        output = np.empty(n)
        for index, table in enumerate(self.output_given_prompt):
            rows = own == index
            output[rows] = np.interp(level[rows], *np.array(table, np.float64).T)
        return _clip(prompt, 1, None), _clip(output, 1, None)
