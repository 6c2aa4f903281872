"""A stretch of a simulation as a Chrome trace, for ui.perfetto.dev and chrome://tracing.

Each model is a process whose requests are async slices with their stages inside; each replica is a process with its
steps as slices and counters beside them.  The format is Google's "Trace Event Format": JSON objects with ``ph``, ``ts``
and ``dur`` in microseconds, ``pid`` and ``tid``; async events pair by ``cat``, ``pid`` and ``id2``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from analysis.exports.lives import Lives, LoadSteps
from analysis.exports.request_slices import request_events, requests_within
from analysis.exports.steps import Runs, engine_steps
from analysis.exports.trace_events import counter, metadata, microseconds
from analysis.exports.window import Window
from analysis.result_files import replacing
from latency_models.errors import InputError, check_finite
from sim.results import Floats, SimulationResult

MAX_BYTES = 200e6
"""Largest file by default: what a browser still loads within seconds."""

_STEP_BYTES, _RUN_BYTES, _REQUEST_BYTES, _PAUSE_BYTES = 200, 340, 2100, 500
"""Most that a step, the counters of a run, a request, and each of its preemptions take, names of requests aside."""
_NAMES_PER_REQUEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContents:
    """What was written."""

    window: Window
    steps: int
    requests: int
    bytes: int


def write_perfetto(
    path: Path,
    result: SimulationResult,
    *,
    window: Window | None = None,
    max_bytes: float = MAX_BYTES,
    about: Mapping[str, Any] | None = None,
) -> TraceContents:
    """Write a stretch of a simulation; the file appears complete or not at all.

    Parameters
    ----------
    path : Path
        File to write; replaced if it exists.
    result : SimulationResult
        What the simulation left behind; it may end with the window.
    window : Window, optional
        Which stretch; the whole run by default.
    max_bytes : float
        Largest file.
    about : mapping, optional
        What the file says about itself, under ``otherData``.

    Raises
    ------
    InputError
        The window begins after the run, or the file would be larger than allowed; the message says which window would
        fit.
    OSError
        If the file cannot be written.
    """
    check_finite("max_bytes", max_bytes, exclusive=True)
    window = (window or Window()).within(result.end_s)
    runs = [Runs.of(result, replica, window) for replica in range(len(result.replicas))]
    lives = Lives.of(result)
    loads = [
        LoadSteps.of(lives.at(replica), result.preemptions[result.preemptions[:, 0] == replica])
        for replica in range(len(result.replicas))
    ]
    _check_size(result, window, runs, max_bytes)
    header = {"window_s": [window.from_s, window.to_s], **(about or {})}
    steps = 0
    with replacing(path) as stream:
        stream.write(f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(header)}, "traceEvents": [\n')
        stream.write(",\n".join(_process_events(result)))
        for event in request_events(result, window, partial(_model_process, result)):
            stream.write(",\n" + event)
        for replica in range(len(result.replicas)):
            for event in _step_events(result, replica, runs[replica], window):
                stream.write(",\n" + event)
                steps += 1
            for event in _counter_events(result, replica, runs[replica], loads[replica], window):
                stream.write(",\n" + event)
        stream.write("\n]}\n")
    return TraceContents(
        window=window, steps=steps, requests=len(requests_within(result, window)), bytes=path.stat().st_size
    )


# ------------------------------------------------------------------ processes

_STEPS_THREAD = 1


def _replica_process(replica: int) -> int:
    return replica + 1


def _model_process(result: SimulationResult, model: int) -> int:
    """Process of a model's requests; that of -1 has the requests that the router never sent on."""
    return len(result.replicas) + 2 + model


def _process_events(result: SimulationResult) -> Iterator[str]:
    names = {_model_process(result, model): f"{name}: requests" for model, name in enumerate(result.models)}
    if (result.requests.model < 0).any():
        names[_model_process(result, -1)] = "router: requests not sent on"
    for number, replica in enumerate(result.replicas):
        gpus = ", ".join(map(str, replica.gpus))
        process = _replica_process(number)
        names[process] = f"{replica.name} on GPU{'s' if len(replica.gpus) > 1 else ''} {gpus}"
        yield metadata("thread_name", process, {"name": "steps"}, thread=_STEPS_THREAD)
    for process, name in names.items():
        yield metadata("process_name", process, {"name": name})
        yield metadata("process_sort_index", process, {"sort_index": process})


# ------------------------------------------------------------------ replicas


def _step_events(result: SimulationResult, replica: int, runs: Runs, window: Window) -> Iterator[str]:
    process = _replica_process(replica)
    names = _request_names(result)
    # Steps that follow each other must not overlap by a rounding; one that runs at an end of the window is cut there.
    free_ns, until_ns = round(window.from_s * 1e9), round(window.to_s * 1e9)
    for step in engine_steps(result, replica, runs, window):
        begin_ns = max(round(step.start_s * 1e9), free_ns)
        free_ns = end_ns = max(min(round(step.end_s * 1e9), until_ns), begin_ns)
        args = f'"batch": {step.sequences}, "tokens": {step.tokens}'
        if step.prefilling is not None:
            args += f', "prefilling": {step.prefilling}, "decoding": {step.sequences - step.prefilling}'
        if step.kv_blocks is not None:
            args += f', "kv_blocks": {step.kv_blocks}'
        if step.first_tokens:
            args += f', "first_token_of": {json.dumps([names(row) for row in step.first_tokens])}'
        if step.last_tokens:
            args += f', "last_token_of": {json.dumps([names(row) for row in step.last_tokens])}'
        yield (
            f'{{"ph": "X", "cat": "step", "name": "{step.kind}", "pid": {process}, "tid": {_STEPS_THREAD}, '
            f'"ts": {microseconds(begin_ns)}, "dur": {microseconds(end_ns - begin_ns)}, "args": {{{args}}}}}'
        )


def _counter_events(
    result: SimulationResult, replica: int, runs: Runs, load: LoadSteps, window: Window
) -> Iterator[str]:
    process = _replica_process(replica)

    def requests(time_s: float) -> str:
        running, waiting = load.at(time_s)
        return counter("requests", process, time_s, {"running": running, "waiting": waiting})

    yield requests(window.from_s)
    for time_s in load.time_s[(load.time_s > window.from_s) & (load.time_s < window.to_s)].tolist():
        yield requests(time_s)
    starts_s, ends_s = runs.start_s.tolist(), runs.end_s.tolist()
    for index, (sequences, blocks) in enumerate(runs.rows[:, [4, 6]].astype(np.int64).tolist()):
        begin_s = max(starts_s[index], window.from_s)
        yield counter("batch", process, begin_s, {"sequences": sequences})
        yield counter("KV blocks", process, begin_s, {"used": blocks})
        following_s = starts_s[index + 1] if index + 1 < len(starts_s) else math.inf
        end_s = ends_s[index]
        if end_s < window.to_s and following_s > end_s + 1e-6:
            yield counter("batch", process, end_s, {"sequences": 0})
            if load.at(end_s)[0] == 0:
                yield counter("KV blocks", process, end_s, {"used": 0})
    of_replica = result.samples[result.samples[:, 1] == replica]
    for time_s, _, _, _, used, *_ in of_replica.tolist():
        # A run of many steps takes blocks on its way.
        if window.from_s < time_s < window.to_s:
            yield counter("KV blocks", process, time_s, {"used": int(used)})


def _request_names(result: SimulationResult) -> Callable[[int], str]:
    given = result.requests.request_id
    return str if given is None else given.__getitem__


# ------------------------------------------------------------------ size


def _check_size(result: SimulationResult, window: Window, runs: list[Runs], max_bytes: float) -> None:
    """Refuse what would be too large, before it is written."""
    rows = requests_within(result, window)
    names = _request_names(result)
    named: Floats = np.array([len(json.dumps(names(row))) + 2.0 for row in rows.tolist()])
    times_s: list[Floats] = [np.maximum(result.requests.arrival_s[rows], window.from_s)]
    weights: list[Floats] = [
        (_REQUEST_BYTES + _NAMES_PER_REQUEST * named) * np.maximum(result.requests.stages[rows], 1)
        + _PAUSE_BYTES * result.requests.preemptions[rows]
    ]
    for its in runs:
        # A run may reach out of the window at both ends: its steps count with the share of its time that is inside.
        begin_s, end_s = np.maximum(its.start_s, window.from_s), np.minimum(its.end_s, window.to_s)
        share = (end_s - begin_s) / (its.end_s - its.start_s)
        times_s.append(begin_s)
        weights.append(_RUN_BYTES + _STEP_BYTES * (its.steps * share + 1))
    order = np.argsort(np.concatenate(times_s), kind="stable")
    until_s = np.concatenate(times_s)[order]
    sizes = np.cumsum(np.concatenate(weights)[order])
    if not len(sizes) or sizes[-1] <= max_bytes:
        return
    fits_s = float(until_s[np.searchsorted(sizes, max_bytes)])
    whole_s = (math.ceil((fits_s - window.from_s) * 1000) - 1) / 1000
    if whole_s > 0:
        hint = f"{Window(from_s=window.from_s, to_s=round(window.from_s + whole_s, 3))} fits"
    else:
        hint = "choose a shorter one"
    raise InputError(
        f"a trace of the window {window} takes up to {sizes[-1] / 1e6:,.1f} MB, more than {max_bytes / 1e6:g} MB; "
        f"{hint}, or allow more with --max-mb"
    )
