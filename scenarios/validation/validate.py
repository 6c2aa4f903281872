"""Does a deployed plan keep its SLOs?  Replications are added until every SLO's verdict is clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from analysis.looks import Looks
from analysis.replications import combine
from analysis.statistics import check_probability
from analysis.summary import Summary
from analysis.verdicts import Outcome, overall_outcome
from latency_models.errors import check_count, invalid
from optimizer.problem import SloTarget
from scenarios.replicated import Replicator, Report, trace_windows
from scenarios.schema import Scenario
from scenarios.validation.measure import RunFigures, RunMeasure
from scenarios.validation.slo_verdicts import SloVerdict, slo_verdict
from scenarios.validation.targets import check_targets

TOLERATED_UNANSWERED = 0.01
"""Default of :attr:`ValidationOptions.tolerance`."""

EXIT_STATUS = {Outcome.HOLDS: 0, Outcome.BROKEN: 3, Outcome.UNDECIDED: 5}
"""What a command that validates ends with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationOptions:
    """How much evidence is wanted."""

    confidence: float = 0.95
    """That the verdict on an SLO is right, over all looks; it errs on either side with half of the rest."""
    most: int = 40
    """Replications at most."""
    first: int = 5
    """Replications before the first look; with windows at most so many, so that the last look is at nearly all."""
    tolerance: float = TOLERATED_UNANSWERED
    """Greatest share of unanswered requests with which an SLO on a mean can hold."""
    window_s: float | None = None
    """Cut the trace into parts of this length, which stand for replications."""
    from_replication: int = 0
    """Number of the first replication; other numbers are other arrivals of the same kind."""

    def __post_init__(self) -> None:
        check_probability("confidence", self.confidence)
        check_probability("tolerated share of unanswered requests", self.tolerance)
        check_count("most replications", self.most, minimum=2)
        check_count("first look", self.first, minimum=2)
        check_count("from_replication", self.from_replication, minimum=0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Validation:
    """What came out."""

    outcome: Outcome
    """Of all SLOs together: ``holds`` only if each does."""
    slos: tuple[SloVerdict, ...]
    """At the last look, in the order of the targets."""
    runs: tuple[RunFigures, ...]
    """One for each replication."""
    replications: range
    """Their numbers."""
    summary: Summary
    """Means and intervals over the replications of what a promise is held against; see :attr:`RunFigures.summary`."""
    confidence: float
    """Of the verdicts, over all looks."""
    confidence_at_look: float
    """Of the intervals shown, which pay for the looks before."""

    @property
    def further(self) -> int | None:
        """Estimated replications to add until all SLOs are decided; ``None`` if they are, or if that cannot be told."""
        undecided = [slo.further for slo in self.slos if slo.outcome is Outcome.UNDECIDED]
        known = [further for further in undecided if further is not None]
        return max(known) if known and len(known) == len(undecided) else None


def validate(
    scenario: Scenario,
    targets: Sequence[SloTarget],
    replicator: Replicator,
    options: ValidationOptions | None = None,
    report: Report | None = None,
    *,
    probes: Sequence[SloTarget] = (),
) -> Validation:
    """Simulate until every SLO is decided, or the replications are used up.

    Parameters
    ----------
    scenario : Scenario
        With the plan deployed (:func:`scenarios.plans.deployment.deployed`).
    targets : sequence of SloTarget
        The SLOs.
    replicator : Replicator
        Where replications are run.
    options : ValidationOptions, optional
        How much evidence is wanted.
    report : callable, optional
        Told how many replications are done, and at how many the next look is.
    probes : sequence of SloTarget
        Limits that are not judged; the figures of each run have them after those of the SLOs.

    Raises
    ------
    InputError
        An SLO is of an unknown model or cannot be judged, the windows do not fit the trace, or the scenario contradicts
        itself.
    """
    options = options or ValidationOptions()
    check_targets(targets, list(scenario.models))
    looks = _looks(scenario, options)
    measure = RunMeasure(targets=(*targets, *probes))
    runs: list[RunFigures] = []
    verdicts: tuple[SloVerdict, ...] = ()
    outcome, confidence = Outcome.UNDECIDED, options.confidence
    for count in looks.counts:
        numbers = range(options.from_replication + len(runs), options.from_replication + count)
        runs += replicator.run(
            [scenario],
            numbers,
            measure,
            window_s=options.window_s,
            report=None if report is None else partial(_after, report, len(runs)),
        )[0]
        confidence = looks.confidence_at(count)
        verdicts = tuple(
            slo_verdict(
                target,
                [run.whole.slos[index] for run in runs],
                confidence=confidence,
                tolerance=options.tolerance,
            )
            for index, target in enumerate(targets)
        )
        outcome = overall_outcome(verdict.outcome for verdict in verdicts)
        if all(verdict.outcome is not Outcome.UNDECIDED for verdict in verdicts):
            break
    return Validation(
        outcome=outcome,
        slos=verdicts,
        runs=tuple(runs),
        replications=range(options.from_replication, options.from_replication + len(runs)),
        summary=combine([run.summary for run in runs], confidence=options.confidence),
        confidence=options.confidence,
        confidence_at_look=confidence,
    )


def _after(report: Report, before: int, done: int, total: int) -> None:
    report(before + done, before + total)


def _looks(scenario: Scenario, options: ValidationOptions) -> Looks:
    if options.window_s is None:
        return Looks(first=min(options.first, options.most), most=options.most, confidence=options.confidence)
    warmup = scenario.run.warmup
    if warmup != "auto" and warmup >= options.window_s:
        raise invalid("window", options.window_s, f"longer than the warm-up (run.warmup), {warmup:g} s")
    windows = trace_windows(scenario, options.window_s) - options.from_replication
    if windows < 2:
        raise invalid("from_replication", options.from_replication, "less, so that the trace has two windows left")
    most = min(options.most, windows)
    # Looks are at doubling numbers: starting from a half, a quarter ... of the windows, the last is at nearly all.
    first = most
    while first > options.first:
        first = max(2, first // 2)
    return Looks(first=first, most=most, confidence=options.confidence)
