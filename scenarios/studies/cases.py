"""The cases of a study: so many GPUs, a load, a target on the mean latency of all requests."""

from __future__ import annotations

from dataclasses import dataclass, replace

from latency_models.errors import InputError, check_count, check_finite, invalid
from optimizer.problem import LoadCase, Metric, Packing, Problem, SloTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case; it replaces the GPUs, the load and the SLOs of a problem."""

    gpus: int
    rate_per_s: float
    target_s: float

    def __post_init__(self) -> None:
        check_count("GPUs of a case", self.gpus)
        check_finite("load of a case, requests/s", self.rate_per_s, exclusive=True)
        check_finite("target of a case, s", self.target_s, exclusive=True)

    def __str__(self) -> str:
        return f"{self.gpus} GPUs, {self.rate_per_s:g}/s, {1e3 * self.target_s:g} ms"

    def of(self, problem: Problem, metric: Metric, packing: Packing) -> Problem:
        """The problem with this case's GPUs, load and target.

        Raises
        ------
        InputError
            A model fits on no such number of GPUs, or the curves do not have the metric.
        """
        return replace(
            problem,
            gpus=self.gpus,
            loads=(LoadCase(rate_per_s=self.rate_per_s),),
            slos=(SloTarget(metric=metric, target_s=self.target_s),),
            packing=packing,
        )


PUBLISHED_CASES = tuple(
    Case(gpus=gpus, rate_per_s=rate, target_s=target)
    for gpus, rate, target in (
        (4, 50.0, 0.8),
        (4, 60.0, 0.5),
        (4, 70.0, 0.5),
        (4, 80.0, 0.5),
        (8, 50.0, 0.4),
        (8, 60.0, 0.5),
        (8, 70.0, 0.4),
        (8, 80.0, 0.5),
    )
)
"""Cases of RouterWise (arXiv:2604.10907): targets are on mean TTFT."""


def parse_case(text: str) -> Case:
    """Read ``GPUS:RATE:TARGET_MS``, such as ``4:50:800``.

    Raises
    ------
    InputError
        The text has another form, or a number makes no sense.
    """
    parts = text.split(":")
    try:
        gpus, rate, target_ms = int(parts[0]), float(parts[1]), float(parts[2])
    except (ValueError, IndexError):
        gpus, rate, target_ms = 0, 0.0, 0.0
    if len(parts) != 3 or gpus < 1:
        raise invalid("--case", text, "GPUS:RATE:TARGET_MS, such as 4:50:800")
    try:
        return Case(gpus=gpus, rate_per_s=rate, target_s=target_ms * 1e-3)
    except InputError as error:
        raise InputError(f"--case {text}: {error}") from None
