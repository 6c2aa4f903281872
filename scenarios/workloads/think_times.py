"""Random durations in seconds: how long a user thinks between an answer and the next request."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import Field

from latency_models.errors import check_finite, invalid
from scenarios.workloads.request_chunks import Floats

_STRICT: dict[str, Any] = {"extra": "forbid"}


class ThinkTime(Protocol):
    """Distribution of a duration."""

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """Durations in seconds, shape (n,), none negative."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantTime:
    """Always ``value_s``."""

    kind: Literal["constant"] = "constant"
    value_s: float
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("value_s", self.value_s)

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """Durations in seconds, shape (n,)."""
        return np.full(n, float(self.value_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialTime:
    """Exponential with mean ``mean_s``."""

    kind: Literal["exponential"] = "exponential"
    mean_s: float
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("mean_s", self.mean_s, exclusive=True)

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """Durations in seconds, shape (n,)."""
        return rng.exponential(self.mean_s, n)


@dataclass(frozen=True, slots=True, kw_only=True)
class LognormalTime:
    """Lognormal with mean ``mean_s`` and coefficient of variation ``cv``."""

    kind: Literal["lognormal"] = "lognormal"
    mean_s: float
    cv: float
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("mean_s", self.mean_s, exclusive=True)
        check_finite("cv", self.cv, exclusive=True)

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """Durations in seconds, shape (n,)."""
        variance = math.log1p(self.cv * self.cv)
        return rng.lognormal(math.log(self.mean_s) - 0.5 * variance, math.sqrt(variance), n)


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformTime:
    """Uniform from ``low_s`` to ``high_s``."""

    kind: Literal["uniform"] = "uniform"
    low_s: float
    high_s: float
    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        check_finite("low_s", self.low_s)
        if check_finite("high_s", self.high_s) < self.low_s:
            raise invalid("high_s", self.high_s, f"a number >= low_s ({self.low_s:g})")

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """Durations in seconds, shape (n,)."""
        return rng.uniform(self.low_s, self.high_s, n)


AnyThinkTime = Annotated[ConstantTime | ExponentialTime | LognormalTime | UniformTime, Field(discriminator="kind")]
"""Any duration, told apart by ``kind``."""
