"""Files of ``routerwise engine``: workload and settings in, steps and requests out."""

from __future__ import annotations

import csv
import gzip
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.result_files import replacing
from latency_models.errors import InputError, check_finite, invalid, unknown_name
from latency_models.laws.linear import LinearStepTime
from latency_models.step_time import StepTimeModel
from sim.settings import EngineSettings
from sim.vllm.engine_trace import REQUEST_FIELDS, STEP_FIELDS, EngineTrace
from sim.workload import RequestSpec, Segment

_WORKLOAD_KEYS = (
    "id",
    "arrival",
    "arrival_step",
    "prompt_len",
    "output_len",
    "priority",
    "prefix_id",
    "prefix_len",
    "segments",
)
_STEP_TIME_KEYS = {"a": "base_s", "b": "per_token_s", "c": "per_sequence_s", "d": "per_context_token_s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Contents of a settings file."""

    engine: EngineSettings
    step_time: StepTimeModel
    idle_sleep_s: float


def read_engine_settings(path: Path) -> EngineConfig:
    """Read ``{"engine": {...}, "step_time": {"a", "b", "c", "d"}, "idle_sleep_s": ...}``.

    The step time is a + b * tokens + c * requests + d * context after the step, in seconds.

    Raises
    ------
    InputError
        The file cannot be read, or a value is missing, unknown or out of range.
    """
    values = _parse_json(_read_text(path), str(path))
    if not isinstance(values, dict):
        raise invalid(str(path), type(values).__name__, "a JSON object with engine and step_time")
    for key in values:
        if key not in ("engine", "step_time", "idle_sleep_s"):
            raise unknown_name(f"key in {path}", key, ("engine", "step_time", "idle_sleep_s"))
    for key in ("engine", "step_time"):
        if not isinstance(values.get(key), dict):
            raise invalid(f"{path}: {key}", values.get(key), "a JSON object")
    coefficients: dict[str, Any] = {}
    for key, value in values["step_time"].items():
        if key not in _STEP_TIME_KEYS:
            raise unknown_name(f"step_time key in {path}", key, _STEP_TIME_KEYS)
        coefficients[_STEP_TIME_KEYS[key]] = _number(f"{path}: step_time.{key}", value)
    try:
        engine = EngineSettings.from_mapping(values["engine"])
    except TypeError as error:
        raise InputError(f"{path}: engine: {error}") from None
    return EngineConfig(
        engine=engine,
        step_time=LinearStepTime(**coefficients),
        idle_sleep_s=_number(f"{path}: idle_sleep_s", values.get("idle_sleep_s", 0.001), positive=True),
    )


def read_engine_workload(path: Path) -> tuple[list[RequestSpec], dict[int, int]]:
    """Read requests, one JSON object a line, in order of arrival; ``.gz`` is unpacked.

    Returns
    -------
    requests : list of RequestSpec
        With ``arrival_s`` 0 where a step is given instead.
    step_arrivals : dict
        Row number to the step right before which the request is handed over.

    Raises
    ------
    InputError
        A line is not a request; its number is named.
    """
    requests: list[RequestSpec] = []
    steps: dict[int, int] = {}
    names: set[str] = set()
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        values = _parse_json(line, where)
        if not isinstance(values, dict):
            raise invalid(where, line[:60], "a JSON object")
        for key in values:
            if key not in _WORKLOAD_KEYS:
                raise unknown_name(f"key in {where}", key, _WORKLOAD_KEYS)
        spec = _request(values, where)
        if spec.request_id in names:
            raise invalid(f"{where}: id", spec.request_id, "an id that no earlier request has")
        names.add(str(spec.request_id))
        if "arrival_step" in values:
            steps[len(requests)] = _count(f"{where}: arrival_step", values["arrival_step"], minimum=0)
        elif requests and len(requests) - 1 not in steps and spec.arrival_s < requests[-1].arrival_s:
            raise invalid(
                f"{where}: arrival", spec.arrival_s, f"at least {requests[-1].arrival_s}, the arrival before it",
                "Sort the workload by arrival.",
            )  # fmt: skip
        requests.append(spec)
    if not requests:
        raise InputError(f"workload {path} is empty; give it at least one request")
    return requests, steps


def _request(values: Mapping[str, Any], where: str) -> RequestSpec:
    for key in ("id", "prompt_len", "output_len"):
        if key not in values:
            raise InputError(f"{where}: {key} is missing")
    if ("arrival" in values) == ("arrival_step" in values):
        raise InputError(f"{where}: give either arrival (seconds) or arrival_step")
    prompt = _count(f"{where}: prompt_len", values["prompt_len"])
    return RequestSpec(
        arrival_s=_number(f"{where}: arrival", values.get("arrival", 0.0)),
        prompt_tokens=prompt,
        output_tokens=_count(f"{where}: output_len", values["output_len"]),
        request_id=str(values["id"]),
        priority=_count(f"{where}: priority", values.get("priority", 0), minimum=-(1 << 31)),
        content=_content(values, prompt, where),
    )


def _content(values: Mapping[str, Any], prompt: int, where: str) -> tuple[Segment, ...] | None:
    if "segments" in values:
        if "prefix_id" in values:
            raise InputError(f"{where}: segments and prefix_id exclude each other")
        segments = values["segments"]
        if not isinstance(segments, list) or not all(isinstance(part, list) and len(part) == 2 for part in segments):
            raise invalid(f"{where}: segments", segments, "a list of [name, tokens]")
        content = tuple(
            (str(name), _count(f"{where}: tokens of segment {name}", length, minimum=0)) for name, length in segments
        )
        total = sum(length for _, length in content)
        if total != prompt:
            raise invalid(f"{where}: tokens of all segments", total, f"prompt_len ({prompt})")
        return content
    if values.get("prefix_id") is None:
        return None
    length = _count(f"{where}: prefix_len", values.get("prefix_len"), minimum=0)
    if length > prompt:
        raise invalid(f"{where}: prefix_len", length, f"at most prompt_len ({prompt})")
    return ((f"prefix:{values['prefix_id']}", length),) if length else None


def write_engine_trace(out: Path, trace: EngineTrace, *, overwrite: bool) -> None:
    """Write ``steps.csv`` and ``requests.csv`` into the folder ``out``.

    Raises
    ------
    InputError
        The folder has files already and ``overwrite`` is false.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; allowed: a folder")
    present = [name for name in ("steps.csv", "requests.csv") if (out / name).exists()]
    if present and not overwrite:
        raise InputError(f"--out {out} has {' and '.join(present)} already; choose another folder, or give --overwrite")
    created = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        _write_rows(out / "steps.csv", STEP_FIELDS, trace.steps)
        _write_rows(out / "requests.csv", REQUEST_FIELDS, trace.requests)
    except BaseException:
        if created:
            shutil.rmtree(out, ignore_errors=True)
        raise


def _write_rows(path: Path, header: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with replacing(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(
            [round(value, 9) if isinstance(value, float) else value for value in map(row.__getitem__, header)]
            for row in rows
        )


def _read_text(path: Path) -> str:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8") as stream:
                return stream.read()
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{where} is not valid JSON: {error}") from None


def _number(field: str, value: object, *, positive: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise invalid(field, value, "a finite number")
    return check_finite(field, value, exclusive=positive)


def _count(field: str, value: object, *, minimum: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise invalid(field, value, f"an integer >= {minimum}")
    return value
