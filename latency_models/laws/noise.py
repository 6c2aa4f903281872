"""Noise of step times: factors on what a model says, as a function of the number of the step.

What is realistic was estimated on a real vLLM 0.32 engine on a CPU (8-layer Llama, two cores): 600 equal decode steps,
and the residuals of 18,000 steps of three live runs around the linear law fitted to each.

- The logarithm of (measured / law) has a standard deviation of 0.07 to 0.13 (from its median absolute deviation; 0.09
  for equal steps), with a longer tail upwards: its 99th percentile is at +0.33 to +0.49, its first at -0.13 to -0.25.
- It is strongly correlated: 0.5 to 0.8 from one step to the next, 0.1 to 0.5 over 16 steps, 0.1 to 0.5 over 64.  The
  mean of 16 steps varies two to three times as much as that of 16 independent ones would: by 0.04 to 0.10.
- So ``LognormalNoise(sigma=0.08, correlation_steps=16, persistence=0.8)`` gives the slow part, which is what moves a
  request's latency; the fast part averages out within a request.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latency_models.errors import check_count, check_finite, invalid

_FEWEST_FACTORS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LognormalNoise:
    """Lognormal factors with mean 1, constant over blocks of steps and correlated between neighbouring blocks.

    The factor of block b is ``exp(sigma * z_b - sigma ** 2 / 2)`` with the autoregressive Gaussian
    ``z_b = persistence * z_(b-1) + sqrt(1 - persistence ** 2) * e_b``, which is stationary with variance 1.

    Parameters
    ----------
    sigma : float
        Standard deviation of the factor's logarithm; 0 is no noise.
    correlation_steps : int
        Steps of a block.
    persistence : float
        Correlation of neighbouring blocks' Gaussians, 0 <= persistence < 1.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    sigma: float
    correlation_steps: int = 16
    persistence: float = 0.8

    def __post_init__(self) -> None:
        if check_finite("noise.sigma", self.sigma) > 1.0:
            raise invalid("noise.sigma", self.sigma, "0 to 1, a standard deviation of logarithms (0.1 is about 10 %)")
        check_count("noise.correlation_steps", self.correlation_steps)
        if check_finite("noise.persistence", self.persistence) >= 1.0:
            raise invalid("noise.persistence", self.persistence, "0 <= persistence < 1")

    def stream(self, seed: np.random.SeedSequence) -> LognormalStream:
        """Factors of one replica."""
        return LognormalStream(self, seed)


class LognormalStream:
    """The factors of one replica under :class:`LognormalNoise`; steps are asked for in ascending order."""

    def __init__(self, noise: LognormalNoise, seed: np.random.SeedSequence) -> None:
        self._noise = noise
        self._innovation = math.sqrt(1.0 - noise.persistence**2)
        self._draw = np.random.default_rng(seed).standard_normal
        self._block = 0
        self._gaussian = float(self._draw())

    def factor(self, step: int) -> tuple[float, int]:
        """Factor of a step, and for how many steps from it on it holds."""
        noise = self._noise
        block, place = divmod(step, noise.correlation_steps)
        _check_order(block, self._block)
        while self._block < block:
            self._gaussian = noise.persistence * self._gaussian + self._innovation * float(self._draw())
            self._block += 1
        return math.exp(noise.sigma * (self._gaussian - noise.sigma / 2.0)), noise.correlation_steps - place


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedNoise:
    """Factors drawn from a recorded log in blocks of consecutive steps, which keeps their distribution and correlation.

    This is the moving-block bootstrap of Künsch, "The Jackknife and the Bootstrap for General Stationary Observations",
    Annals of Statistics 17 (1989).  Each step has a factor of its own, so every step of a run is an event.

    Parameters
    ----------
    factors : sequence of float, shape (n,), n >= 2
        Measured over predicted time of each recorded step, in order.  Their mean is kept: it is 1 only if the
        prediction is right on average.
    block_steps : int
        Steps of a block; at most n.

    Raises
    ------
    InputError
        If a factor is not positive and finite, or there are fewer than the block needs.
    """

    factors: Sequence[float]
    block_steps: int = 256

    def __post_init__(self) -> None:
        check_count("noise.block_steps", self.block_steps)
        if len(self.factors) < max(_FEWEST_FACTORS, self.block_steps):
            allowed = f"at least {max(_FEWEST_FACTORS, self.block_steps)} (noise.block_steps is {self.block_steps})"
            raise invalid("number of recorded steps", len(self.factors), allowed)
        for factor in self.factors:
            if not 0.0 < factor < math.inf:
                raise invalid("recorded noise factor", factor, "a finite number > 0")

    def stream(self, seed: np.random.SeedSequence) -> RecordedStream:
        """Factors of one replica."""
        return RecordedStream(self, seed)


class RecordedStream:
    """The factors of one replica under :class:`RecordedNoise`; steps are asked for in ascending order."""

    def __init__(self, noise: RecordedNoise, seed: np.random.SeedSequence) -> None:
        self._noise = noise
        self._draw = np.random.default_rng(seed).integers
        self._starts = len(noise.factors) - noise.block_steps + 1
        self._block = 0
        self._start = int(self._draw(self._starts))

    def factor(self, step: int) -> tuple[float, int]:
        """Factor of a step, which holds for it alone."""
        block, place = divmod(step, self._noise.block_steps)
        _check_order(block, self._block)
        while self._block < block:
            self._start = int(self._draw(self._starts))
            self._block += 1
        return self._noise.factors[self._start + place], 1


def _check_order(block: int, current: int) -> None:
    if block < current:
        raise ValueError("noise is drawn in the order of the steps; a step before the last one was asked for")
