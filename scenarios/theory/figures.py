"""What is compared of a queue: figures with their formula, and how each is measured in a stationary run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.queueing.queue import Queue
from scenarios.theory.evidence import Claim, Row, mean_over
from scenarios.theory.stationary import StationaryRun
from sim.results import Floats, Status

_RARE = 1e-3
"""Share of the requests below which a simulation of some ten thousand says little."""

Measure = Callable[[StationaryRun], float]
"""Finds a figure in a replication."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure by theory, and how to measure it; fields as of :class:`~scenarios.theory.evidence.Row`."""

    quantity: str
    unit: str
    theory: float | None
    source: str
    measure: Measure | None = None
    """``None``: it is not simulated."""
    claim: Claim = "agrees"
    tolerance: float = 0.0

    def row(self, runs: list[StationaryRun]) -> Row:
        """The figure beside its measurement; without one if there are no runs."""
        simulated = mean_over(runs, self.measure) if runs and self.measure is not None else None
        return Row(
            quantity=self.quantity,
            unit=self.unit,
            theory=self.theory,
            source=self.source,
            simulated=simulated,
            claim="none" if simulated is None or self.theory is None else self.claim,
            tolerance=self.tolerance,
        )


def queue_figures(
    queue: Queue, source: str, *, claim: Claim = "agrees", tolerance: float = 0.0, delay_s: float = 0.0
) -> list[Figure]:
    """Utilisation, waits, stays and numbers of a queue whose utilisation is a share of time.

    Parameters
    ----------
    queue : Queue
        By theory.
    source : str
        Formula and reference.
    claim : {"agrees", "differs", "none"}
        Of the waits, stays and numbers.
    tolerance : float
        See :class:`~scenarios.theory.evidence.Row`.
    delay_s : float
        Time that an engine adds to every wait because it works in steps; as tolerance.
    """

    def figure(quantity: str, unit: str, theory: float, measure: Measure, delay: float) -> Figure:
        known_off = tolerance + (delay / theory if theory > 0 else 0.0)
        return Figure(
            quantity=quantity, unit=unit, theory=theory, source=source, measure=measure, claim=claim,
            tolerance=known_off,
        )  # fmt: skip

    return [
        figure("mean wait", "s", queue.mean_wait_s, mean_wait_s, delay_s),
        figure("mean time in the system", "s", queue.mean_sojourn_s, mean_sojourn_s, delay_s),
        figure("mean number waiting", "requests", queue.mean_waiting, mean_waiting, delay_s * queue.rate_per_s),
        figure(
            "mean number in the system", "requests", queue.mean_in_system, mean_in_system, delay_s * queue.rate_per_s
        ),
    ]


def utilisation_figure(load: float, *, simulated: bool = True, source: str = "rate x service / servers") -> Figure:
    """Share of the servers' time that is used; if ``simulated``, the share of time that an engine computes."""
    return Figure(
        quantity="utilisation",
        unit="%",
        theory=100 * load,
        source=source,
        measure=(lambda run: 100 * run.busy_share) if simulated else None,
        tolerance=0.002,
    )


def share_figure(
    quantity: str, share: float, source: str, measure: Callable[[StationaryRun], float], *, tolerance: float
) -> Figure:
    """A share of the requests, in per cent; nothing is claimed of one so rare that simulations hardly meet it."""
    return Figure(
        quantity=quantity,
        unit="%",
        theory=100 * share,
        source=source,
        measure=lambda run: 100 * measure(run),
        claim="agrees" if share >= _RARE else "none",
        tolerance=tolerance,
    )


def quantile_figure(quantile: float, theory_s: float, source: str, *, tolerance: float = 0.0) -> Figure:
    """A percentile of the time in the system."""
    return Figure(
        quantity=f"P{100 * quantile:g} time in the system",
        unit="s",
        theory=theory_s,
        source=source,
        measure=lambda run: float(np.quantile(answered(run.sojourn_s), quantile)),
        tolerance=tolerance,
    )


def answered(times: Floats) -> Floats:
    """Times of the requests that came that far."""
    return times[~np.isnan(times)]


def mean_wait_s(run: StationaryRun) -> float:
    """Mean wait of those that were served."""
    return float(answered(run.wait_s).mean())


def mean_sojourn_s(run: StationaryRun) -> float:
    """Mean time in the system of those that were served."""
    return float(answered(run.sojourn_s).mean())


def mean_waiting(run: StationaryRun) -> float:
    """Mean number that wait, at the samples."""
    return float(run.waiting.mean())


def mean_in_system(run: StationaryRun) -> float:
    """Mean number in the system, at the samples."""
    return float(run.in_system.mean())


def rejected_share(run: StationaryRun) -> float:
    """Share of the arrivals that were turned away."""
    return float((run.result.requests.status[run.rows] == Status.REJECTED).mean())
