"""Policies on the same arrivals, prompts and random numbers, replication by replication."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.comparisons import Comparison, compare_with
from analysis.statistics import Interval, mean_interval
from latency_models.errors import check_count, invalid, unknown_name
from scenarios.comparisons.measure import METRICS, Metric, PolicyFigures, PolicyMeasure
from scenarios.comparisons.policies import Policy
from scenarios.replicated import Replicator, Report, trace_windows
from sim.cluster_spec import ClusterSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOutcome:
    """What one policy came to."""

    label: str
    kind: str
    options: Mapping[str, object]
    runs: tuple[PolicyFigures, ...]
    """By replication."""
    intervals: Mapping[str, Interval]
    """Of the mean over the replications, by metric that all policies have."""
    differences: Mapping[str, Comparison]
    """From the reference, by metric; none for the reference itself."""

    @property
    def fractions(self) -> tuple[float, ...]:
        """Mean share of the requests of each model."""
        return tuple(np.mean([run.fractions for run in self.runs], axis=0).tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyComparison:
    """Outcomes of all policies."""

    scenario: str
    slo: str | None
    models: tuple[str, ...]
    reference: str
    replications: int
    confidence: float
    metrics: tuple[Metric, ...]
    """Those that all policies have."""
    policies: tuple[PolicyOutcome, ...]


def compare(
    policies: Sequence[Policy],
    replicator: Replicator,
    *,
    replications: int = 5,
    reference: str | None = None,
    window_s: float | None = None,
    confidence: float = 0.95,
    report: Report | None = None,
) -> PolicyComparison:
    """Simulate every policy in every replication and compare all with one.

    Parameters
    ----------
    policies : sequence of Policy
        At least two.
    replicator : Replicator
        Who simulates.
    replications : int
        At least two; replication k has the same requests and random numbers for every policy.
    reference : str, optional
        Label of the policy that the others are compared with; default: the first.
    window_s : float, optional
        Length of the parts of a trace that stand for replications.
    confidence : float
        Of the intervals; those of the differences of a metric hold all together.
    report : callable, optional
        Told how many runs are done, and of how many.

    Raises
    ------
    InputError
        A number is out of range, the reference is none of the policies, or a policy cannot route the workload.
    """
    check_count("replications", replications, minimum=2)
    labels = [policy.label for policy in policies]
    reference = labels[0] if reference is None else reference
    if reference not in labels:
        raise unknown_name("reference", reference, labels)
    first = policies[0].scenario
    if window_s is not None and replications > (windows := trace_windows(first, window_s)):
        allowed = f"at most {windows}, the number of windows of {window_s:g} s"
        raise invalid("replications", replications, allowed)
    scenarios = [policy.scenario for policy in policies]
    measure = PolicyMeasure(gpus=_gpus(first.cluster()))
    found = replicator.run(scenarios, range(replications), measure, window_s=window_s, report=report)
    columns = {
        metric.name: {
            label: [run.values[metric.name] for run in runs] for label, runs in zip(labels, found, strict=True)
        }
        for metric in METRICS
    }
    metrics = tuple(metric for metric in METRICS if np.isfinite(list(columns[metric.name].values())).all())
    pairs = {
        metric.name: {
            pair.other: pair for pair in compare_with(columns[metric.name], reference, confidence=confidence).pairs
        }
        for metric in metrics
    }
    return PolicyComparison(
        scenario=first.name,
        slo=first.slo,
        models=tuple(first.models),
        reference=reference,
        replications=replications,
        confidence=confidence,
        metrics=metrics,
        policies=tuple(
            PolicyOutcome(
                label=policy.label,
                kind=policy.routing.kind,
                options=dict(policy.routing.model_extra or {}),
                runs=tuple(runs),
                intervals={
                    metric.name: mean_interval(columns[metric.name][policy.label], confidence=confidence)
                    for metric in metrics
                },
                differences={
                    name: by_label[policy.label] for name, by_label in pairs.items() if policy.label in by_label
                },
            )
            for policy, runs in zip(policies, found, strict=True)
        ),
    )


def _gpus(cluster: ClusterSpec) -> tuple[float, ...]:
    return tuple(len(replica.gpus) * replica.compute_share for model in cluster.models for replica in model.replicas)
