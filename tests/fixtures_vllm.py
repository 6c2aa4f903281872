"""Recorded runs of vLLM's own scheduler: reading them, and comparing a replay with them."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_models.laws.linear import LinearStepTime
from sim.settings import EngineSettings
from sim.workload import RequestSpec

FIXTURES = Path(__file__).parent / "fixtures" / "vllm_scheduler"

TIME_TOLERANCE_S = 1.01e-8
"""1e-8 s, and a little for the 8 to 9 decimals of the recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One recorded case: what went in, and what vLLM did."""

    requests: list[RequestSpec]
    settings: EngineSettings
    step_time: LinearStepTime
    idle_sleep_s: float
    step_rows: list[dict[str, str]]
    request_rows: list[dict[str, str]]
    free_queues: list[list[int]] | None


def case_names(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(".settings.json") for path in folder.glob("*.settings.json"))


def read_recording(folder: Path, name: str) -> Recording:
    settings = json.loads((folder / f"{name}.settings.json").read_text(encoding="utf-8"))
    formula = settings["step_time"]
    queues = folder / f"{name}.freeq.jsonl.gz"
    return Recording(
        requests=[_request(json.loads(line)) for line in _lines(folder / f"{name}.workload.jsonl.gz")],
        settings=EngineSettings.from_mapping(settings["engine"]),
        step_time=LinearStepTime(
            base_s=formula["a"],
            per_token_s=formula["b"],
            per_sequence_s=formula["c"],
            per_context_token_s=formula["d"],
        ),
        idle_sleep_s=settings["idle_sleep_s"],
        step_rows=list(csv.DictReader(_lines(folder / f"{name}.steps.csv.gz"))),
        request_rows=list(csv.DictReader(_lines(folder / f"{name}.requests.csv.gz"))),
        free_queues=[json.loads(line) for line in _lines(queues)] if queues.exists() else None,
    )


def differences(got: list[dict[str, Any]], recorded: list[dict[str, str]]) -> list[str]:
    """What differs between replayed and recorded rows, cell by cell; empty if nothing does."""
    found = [] if len(got) == len(recorded) else [f"{len(got)} rows instead of {len(recorded)}"]
    for number, (row, expected) in enumerate(zip(got, recorded, strict=False)):
        if missing := expected.keys() - row.keys():
            found.append(f"row {number} lacks {sorted(missing)}")
        found += [
            f"row {number} {column}: {row[column]!r} instead of {text!r}"
            for column, text in expected.items()
            if column in row and not _same(row[column], text)
        ]
    return found


def _same(value: object, text: str) -> bool:
    if isinstance(value, float):
        # Written so that NaN differs.
        return text != "" and abs(value - float(text)) <= TIME_TOLERANCE_S
    return str(value) == text


def _lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        return stream.read().splitlines()


def _request(row: dict[str, Any]) -> RequestSpec:
    content = None
    if "segments" in row:
        content = tuple((name, tokens) for name, tokens in row["segments"])
    elif row.get("prefix_len"):
        content = ((f"prefix:{row['prefix_id']}", row["prefix_len"]),)
    return RequestSpec(
        arrival_s=row["arrival"],
        prompt_tokens=row["prompt_len"],
        output_tokens=row["output_len"],
        request_id=row["id"],
        priority=row.get("priority", 0),
        content=content,
    )
