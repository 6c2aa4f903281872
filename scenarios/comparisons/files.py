"""A comparison of policies as files: figures of every replication, their means and differences, all of it as JSON."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analysis.result_files import write_summary
from analysis.statistics import Interval
from analysis.stored.json_files import RESULT_SCHEMA_VERSION
from scenarios.comparisons.compare import PolicyComparison, PolicyOutcome
from scenarios.comparisons.measure import METRICS
from scenarios.studies.setup_tables import write_csv
from sim.routing.policies import MODEL_ROUTERS, is_oracle


def write_comparison(folder: Path, found: PolicyComparison, sources: Mapping[str, Any]) -> None:
    """Write ``comparison.csv``, ``replications.csv``, ``comparison.json`` and ``manifest.json``.

    Parameters
    ----------
    folder : Path
        An existing folder.
    found : PolicyComparison
        What to write.
    sources : mapping
        What the comparison was made from, for the manifest; ready for JSON.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    write_csv(folder / "comparison.csv", _mean_rows(found))
    write_csv(folder / "replications.csv", _replication_rows(found))
    write_summary(folder / "comparison.json", comparison_json(found))
    versions = {name: version(name) for name in ("routerwise", "simpy", "numpy", "pydantic")}
    manifest = {
        "schema_version": RESULT_SCHEMA_VERSION,
        "command": "compare",
        **sources,
        "versions": {"python": platform.python_version()} | versions,
    }
    write_summary(folder / "manifest.json", manifest)


def comparison_json(found: PolicyComparison) -> dict[str, Any]:
    """The comparison as nested dictionaries, with ``None`` where there is no number."""
    return {
        "scenario": found.scenario,
        "slo": found.slo,
        "reference": found.reference,
        "replications": found.replications,
        "confidence": found.confidence,
        "metrics": [asdict(metric) for metric in found.metrics],
        "policies": {policy.label: _policy_json(found, policy) for policy in found.policies},
    }


def _policy_json(found: PolicyComparison, policy: PolicyOutcome) -> dict[str, Any]:
    return {
        "kind": policy.kind,
        "oracle": is_oracle(MODEL_ROUTERS.get(policy.kind)),
        "options": dict(policy.options),
        "fractions": dict(zip(found.models, policy.fractions, strict=True)),
        "figures": {name: _interval(interval) for name, interval in policy.intervals.items()},
        "differences": {
            name: {
                **_interval(pair.difference.interval),
                "adjusted_p_value": pair.adjusted_p_value,
                "significant": pair.significant,
            }
            for name, pair in policy.differences.items()
        },
    }


def _interval(interval: Interval) -> dict[str, float | None]:
    return {"mean": _number(interval.estimate), "low": _number(interval.low), "high": _number(interval.high)}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _mean_rows(found: PolicyComparison) -> list[dict[str, Any]]:
    rows = []
    for policy in found.policies:
        for metric in found.metrics:
            interval = policy.intervals[metric.name]
            pair = policy.differences.get(metric.name)
            apart = None if pair is None else pair.difference.interval
            rows.append(
                {
                    "policy": policy.label,
                    "metric": metric.name,
                    "mean": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "difference": "" if apart is None else apart.estimate,
                    "difference_low": "" if apart is None else apart.low,
                    "difference_high": "" if apart is None else apart.high,
                    "adjusted_p_value": "" if pair is None else pair.adjusted_p_value,
                    "significant": "" if pair is None else pair.significant,
                }
            )
    return rows


def _replication_rows(found: PolicyComparison) -> list[dict[str, Any]]:
    return [
        {
            "policy": policy.label,
            "replication": number,
            **{metric.name: _cell(run.values[metric.name]) for metric in METRICS},
            **{f"fraction {name}": share for name, share in zip(found.models, run.fractions, strict=True)},
        }
        for policy in found.policies
        for number, run in enumerate(policy.runs)
    ]


def _cell(value: float) -> float | str:
    return value if math.isfinite(value) else ""
