"""When a run was not itself: warm-up, replicas that were down, and replicas that were slowed down on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from analysis.stored.run import StoredRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """A span of time in the first replication."""

    kind: Literal["warm-up", "down", "slowed"]
    replica: str
    """Empty for the warm-up."""
    from_s: float
    to_s: float


def disturbances(run: StoredRun) -> list[Disturbance]:
    """All of them, warm-up first."""
    found = []
    if run.warmup_s[0] > 0.0:
        found.append(Disturbance(kind="warm-up", replica="", from_s=0.0, to_s=run.warmup_s[0]))
    found += [
        Disturbance(kind="down", replica=outage.replica, from_s=outage.from_s, to_s=outage.to_s)
        for outage in run.outages()
    ]
    end_s = float(run.timeseries()["time_s"].max())
    return found + _slowed(run.scenario.get("speed_changes") or [], end_s)


def _slowed(changes: list[Mapping[str, Any]], end_s: float) -> list[Disturbance]:
    """Spans between the changes of each replica's speed in which it is slower than it was deployed."""
    by_replica: dict[str, list[Mapping[str, Any]]] = {}
    for change in sorted(changes, key=lambda change: float(change["at_s"])):
        by_replica.setdefault(f"{change['model']}/{change['replica']}", []).append(change)
    return [
        Disturbance(kind="slowed", replica=replica, from_s=float(change["at_s"]), to_s=min(until_s, end_s))
        for replica, own in by_replica.items()
        for change, until_s in zip(own, [*(float(later["at_s"]) for later in own[1:]), end_s], strict=True)
        if float(change["slowdown"]) > 1.0 and float(change["at_s"]) < end_s
    ]
