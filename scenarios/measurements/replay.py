"""Replaying a measurement through the simulator: what it predicts for each row of the log."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from analysis.metrics import RequestLatencies
from latency_models.errors import InputError, invalid
from scenarios.measurements.conversations import ConversationTraffic
from scenarios.measurements.logs import Log, RequestTable, RunTable
from scenarios.measurements.measurement_files import with_values
from scenarios.measurements.schema import AggregatesLog, ClosedLoopLog, ConversationsLog, Measurement, Metric
from scenarios.measurements.sheets import Rows
from scenarios.model_section import cluster_of
from scenarios.workloads.closed_loop import ClosedLoopTraffic
from scenarios.workloads.generators import Bounds
from scenarios.workloads.lengths import IndependentLengths, UniformLength
from scenarios.workloads.request_chunks import make_chunk
from scenarios.workloads.think_times import ConstantTime
from sim.cluster import simulate
from sim.cluster_spec import RunSpec
from sim.random_streams import seed_sequence
from sim.results import Floats, Ints, SimulationResult
from sim.workload import OpenTraffic, Segment, Traffic

_STATISTICS: dict[str, Callable[[Floats], Any]] = {"mean": np.nanmean, "median": np.nanmedian, "longest": np.nanmax}

Progress = Callable[[int, int], None]
"""Called with the number of simulations done and of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What the simulator predicts.

    Attributes
    ----------
    predicted : mapping of str to ndarray
        ``ttft``, ``tpot``, ``e2e`` in seconds for each row of the log, shape (n,); NaN where a request never came so
        far or has no such latency.
    result : SimulationResult, optional
        The simulation behind a log of requests; runs of a sweep keep none.
    log_row : ndarray, optional
        Row of the log for each request of ``result``.
    """

    predicted: Mapping[Metric, Floats]
    result: SimulationResult | None = None
    log_row: Ints | None = None


def replay(
    measurement: Measurement,
    log: Log,
    progress: Progress | None = None,
    *,
    until_s: float = math.inf,
    rows: Rows | None = None,
) -> Replay:
    """Simulate what a log was sent.

    Parameters
    ----------
    measurement : Measurement
        The server.
    log : RequestTable or RunTable
        What :func:`scenarios.measurements.logs.read_log` read for it.
    progress : callable, optional
        See :data:`Progress`.
    until_s : float
        In an open loop of requests, send only those that arrive up to this time of the log.
    rows : ndarray of bool, shape (n,), optional
        In a log of runs, simulate only these; default all.

    Raises
    ------
    InputError
        If the server could not have served what the log says.
    """
    if isinstance(log, RequestTable):
        return _replay_requests(measurement, log, until_s)
    section = measurement.log
    if not isinstance(section, AggregatesLog | ClosedLoopLog):
        raise InputError(f"log.kind {section.kind} has no runs; read its own log")
    means: dict[Metric, Floats] = {metric: np.full(len(log), np.nan) for metric in log.measured}
    chosen = range(len(log)) if rows is None else np.flatnonzero(rows).tolist()
    for done, row in enumerate(chosen, start=1):
        changed = {key: yaml.safe_load(log.cells[column][row]) for key, column in section.settings.items()}
        server = with_values(measurement, changed) if changed else measurement
        if isinstance(section, AggregatesLog):
            assert log.requests is not None
            one = _replay_requests(server, log.requests[row], math.inf).predicted
            per_token = section.tpot == "per-token"
            found = _means(one, log.requests[row].output_tokens if per_token else None)
        else:
            found = _replay_level(server, section, log, row)
        for metric, values in means.items():
            values[row] = found[metric]
        if progress is not None:
            progress(done, len(chosen))
    return Replay(predicted=means)


def _replay_requests(measurement: Measurement, table: RequestTable, until_s: float) -> Replay:
    section = measurement.log
    if isinstance(section, ConversationsLog):
        traffic: Traffic = ConversationTraffic(
            table,
            reuse_answers=section.reuse_answers,
            template_tokens=section.template_tokens,
            template_tokens_per_message=section.template_tokens_per_message,
        )
        result = _simulate(measurement, traffic, shared_content=True)
        assert result.requests.request_id is not None
        row_of = np.array([int(name) for name in result.requests.request_id])
    else:
        row_of = np.argsort(table.arrival_s, kind="stable")
        row_of = row_of[table.arrival_s[row_of] <= until_s]
        prefix = getattr(section, "shared_prefix_tokens", 0)
        content = _content(table, prefix, getattr(section, "new_prefix_rows", ()))
        chunk = make_chunk(
            table.arrival_s[row_of],
            table.prompt_tokens[row_of],
            table.output_tokens[row_of],
            content=None if content is None else [content[row] for row in row_of.tolist()],
        )
        result = _simulate(measurement, OpenTraffic([chunk]), shared_content=content is not None)
    latencies = RequestLatencies.of(result.requests)
    predicted: dict[Metric, Floats] = {}
    columns: tuple[tuple[Metric, Floats], ...] = (
        ("ttft", latencies.ttft_s),
        ("tpot", latencies.tpot_s),
        ("e2e", latencies.e2e_s),
    )
    for metric, values in columns:
        predicted[metric] = np.full(len(table), np.nan)
        predicted[metric][row_of] = values
    return Replay(predicted=predicted, result=result, log_row=row_of)


def _replay_level(measurement: Measurement, section: ClosedLoopLog, log: RunTable, row: int) -> dict[Metric, float]:
    """What the table holds of one level of concurrency."""
    assert log.concurrency is not None
    assert log.prompt_tokens is not None
    assert log.output_tokens is not None
    users = int(log.concurrency[row])
    traffic = ClosedLoopTraffic(
        users=users,
        think_time=ConstantTime(value_s=0.0),
        lengths=IndependentLengths(
            prompt=_lengths(int(log.prompt_tokens[row]), section), output=_lengths(int(log.output_tokens[row]), section)
        ),
        bounds=Bounds(requests=users * section.requests_per_client),
        seed=seed_sequence(measurement.seed, 0, "workload"),
    )
    latencies = RequestLatencies.of(_simulate(measurement, traffic, shared_content=False).requests)
    statistic = _STATISTICS[section.statistic]
    return {
        "ttft": float(statistic(latencies.ttft_s)),
        "tpot": float(statistic(latencies.tpot_s)),
        "e2e": float(statistic(latencies.e2e_s)),
    }


def _lengths(tokens: int, section: ClosedLoopLog) -> UniformLength:
    ratio = section.length_ratio
    longest = tokens if section.lengths_are == "longest" else 2.0 * tokens / (1.0 + ratio)
    return UniformLength(minimum=max(1, round(ratio * longest)), maximum=max(1, round(longest)))


def _means(predicted: Mapping[Metric, Floats], tokens: Any) -> dict[Metric, float]:
    """Means over requests; TPOT weighted by tokens if their numbers are given."""
    found: dict[Metric, float] = {metric: float(np.nanmean(values)) for metric, values in predicted.items()}
    if tokens is not None:
        tpot_s = predicted["tpot"]
        found["tpot"] = float(np.nansum(tpot_s * (tokens - 1)) / (tokens - 1).sum())
    return found


def _content(
    table: RequestTable, prefix_tokens: int, new_prefix_rows: Sequence[int]
) -> list[tuple[Segment, ...]] | None:
    """What prompts have in common: a prefix, or everything with those of the same name."""
    if not prefix_tokens and table.prompt is None:
        return None
    if new_prefix_rows and new_prefix_rows[-1] >= len(table):
        raise invalid("log.new_prefix_rows", new_prefix_rows[-1], f"rows of the log, which has {len(table)}")
    contents: list[tuple[Segment, ...]] = []
    for row, tokens in enumerate(table.prompt_tokens.tolist()):
        prefix = min(prefix_tokens, tokens)
        name = f"prefix:{bisect_right(new_prefix_rows, row)}"
        content: list[Segment] = [(name, prefix)] if prefix else []
        if table.prompt is not None and tokens > prefix:
            content.append((f"prompt:{table.prompt[row]}", tokens - prefix))
        contents.append(tuple(content))
    return contents


def _simulate(measurement: Measurement, traffic: Traffic, *, shared_content: bool) -> SimulationResult:
    cluster = cluster_of(measurement.name, measurement, measurement.gpu_memory_gib)
    return simulate(cluster, traffic, RunSpec(seed=measurement.seed, shared_content=shared_content))
