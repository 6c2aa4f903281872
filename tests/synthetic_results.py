"""Small hand-made simulation results, and the token times that they mean, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim.results import ReplicaInfo, RequestColumns, SimulationResult, Status

_FLOAT_COLUMNS = ("arrival_s", "queued_s", "scheduled_s", "first_token_s", "last_token_s", "finish_s")
_DEFAULTS = {
    "arrival_s": 0.0,
    "model": 0,
    "replica": 0,
    "request_class": 0,
    "prompt_tokens": 10,
    "output_tokens": 1,
    "generated_tokens": 1,
    "queued_s": None,
    "scheduled_s": np.nan,
    "first_token_s": np.nan,
    "last_token_s": np.nan,
    "finish_s": np.nan,
    "preemptions": 0,
    "cached_tokens": 0,
    "status": Status.FINISHED,
    "prompt": -1,
    "retries": 0,
    "stages": 1,
}


class ListedRuns:
    """A step log in memory, handed out in chunks."""

    def __init__(self, rows: list[list[float]], chunk_rows: int = 1 << 20) -> None:
        self._rows = np.array(rows, dtype=np.float64).reshape(-1, 7)
        self._chunk_rows = chunk_rows

    def chunks(self):
        for begin in range(0, len(self._rows), self._chunk_rows):
            yield self._rows[begin : begin + self._chunk_rows]


def make_columns(rows: list[dict[str, Any]], *, named: bool = False, sessions: bool = False) -> RequestColumns:
    columns: dict[str, Any] = {}
    for name, default in _DEFAULTS.items():
        values = [row.get(name, default) for row in rows]
        if name == "queued_s":
            values = [row["arrival_s"] if value is None else value for value, row in zip(values, rows, strict=True)]
        columns[name] = np.array(values, dtype=np.float64 if name in _FLOAT_COLUMNS else np.int64)
    return RequestColumns(
        **columns,
        asked_s=columns["arrival_s"],
        started_s=columns["arrival_s"],
        request_id=tuple(row.get("request_id", f"r{i}") for i, row in enumerate(rows)) if named else None,
        session=tuple(row.get("session") for row in rows) if sessions else None,
    )


def make_result(
    rows: list[dict[str, Any]],
    *,
    runs: list[list[list[float]]] | None = None,
    chunk_rows: int = 1 << 20,
    gaps: list[list[float]] | None = None,
    samples: list[list[float]] | None = None,
    models: tuple[str, ...] = ("small", "large"),
    classes: tuple[str, ...] = ("chat", "code"),
    replica_models: tuple[int, ...] = (0, 1),
    end_s: float = 10.0,
    **column_options: bool,
) -> SimulationResult:
    logs = runs or [[] for _ in replica_models]
    return SimulationResult(
        models=models,
        classes=classes,
        replicas=tuple(
            ReplicaInfo(name=f"{models[m]}-{i}", model=m, gpus=(i,), total_blocks=100)
            for i, m in enumerate(replica_models)
        ),
        requests=make_columns(rows, **column_options),
        runs=tuple(ListedRuns(log, chunk_rows) for log in logs),
        gaps=np.array(gaps or [], dtype=np.float64).reshape(-1, 4),
        samples=np.array(samples or [], dtype=np.float64).reshape(-1, 7),
        busy_s=np.zeros(len(replica_models)),
        end_s=end_s,
        events=0,
    )


@dataclass
class StepLog:
    """Step log of one replica, and what happens in each of its steps, one by one."""

    rows: list[list[float]] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)

    def add_run(self, first_s: float, growth_s: float, steps: int, *, idle_s: float = 0.0, **columns: float) -> None:
        start_s = (self.ends_s[-1] if self.ends_s else 0.0) + idle_s
        self.rows.append(
            [start_s, first_s, growth_s, steps, *(columns.get(name, 1) for name in ("sequences", "tokens", "blocks"))]
        )
        for k in range(steps):
            n = k + 1
            self.durations_s.append(first_s + k * growth_s)
            self.ends_s.append(start_s + (n * first_s + growth_s * (n * (n - 1) / 2)))
