"""Reading the log of a measurement into columns: what was sent, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latency_models.errors import InputError, invalid
from scenarios.measurements.plausible_times import check_arrivals, check_latencies
from scenarios.measurements.schema import (
    METRICS,
    TIMES,
    AggregatesLog,
    BenchLog,
    ClosedLoopLog,
    ConversationsLog,
    LogSection,
    MeasuredRows,
    Metric,
    PartSection,
    RequestsLog,
    TimeSeries,
)
from scenarios.measurements.sheets import Rows, Sheet, matching
from scenarios.traces.sources import json_document
from sim.results import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTable:
    """Requests that were measured one by one, in the order of the log; all columns have shape (n,).

    Attributes
    ----------
    arrival_s : ndarray
        Arrivals; the first is 0.
    prompt_tokens, output_tokens : ndarray
        Lengths.
    measured : mapping of str to ndarray
        ``ttft``, ``tpot``, ``e2e`` in seconds, as far as measured; NaN where a request has none.
    cells : mapping of str to sequence of str
        All columns of the file, to select rows by.
    prompt : sequence of str, optional
        Requests with the same value have the same prompt.
    client, conversation : sequence of str, optional
        Who sent the request and which conversation it continues.
    itl_s : ndarray, optional
        Inter-token latencies of all requests together, with the row of each in ``itl_row``.
    """

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    measured: Mapping[Metric, Floats]
    cells: Mapping[str, Sequence[Any]]
    prompt: Sequence[str] | None = None
    client: Sequence[str] | None = None
    conversation: Sequence[str] | None = None
    itl_s: Floats | None = None
    itl_row: Ints | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTable:
    """Runs of which only means were measured, one row each, in the order of the table.

    Attributes
    ----------
    measured : mapping of str to ndarray
        ``ttft``, ``tpot``, ``e2e`` of each run in seconds, shape (n,); NaN where it has none.
    cells : mapping of str to sequence of str
        All columns of the table.
    requests : sequence of RequestTable, optional
        What each run was sent (open loop).
    concurrency, prompt_tokens, output_tokens : ndarray, optional
        Clients of each run and the lengths that they asked for (closed loop).
    """

    measured: Mapping[Metric, Floats]
    cells: Mapping[str, Sequence[Any]]
    requests: Sequence[RequestTable] | None = None
    concurrency: Ints | None = None
    prompt_tokens: Ints | None = None
    output_tokens: Ints | None = None

    def __len__(self) -> int:
        return len(next(iter(self.measured.values())))


Log = RequestTable | RunTable


def read_log(section: LogSection) -> Log:
    """Read the log that a measurement file names.

    Raises
    ------
    InputError
        The file cannot be read, lacks a column, holds a bad number, has no row that was asked for, or its times are
        in another unit than the file says.
    """
    match section:
        case RequestsLog():
            return _read_requests(section)
        case BenchLog():
            return _read_bench(section)
        case ConversationsLog():
            return _read_conversations(section)
        case AggregatesLog():
            return _read_aggregates(section)
        case ClosedLoopLog():
            return _read_sweep(section)


def read_time_series(section: TimeSeries) -> dict[str, Floats]:
    """The measured ``time``, ``running`` and ``waiting``, each of shape (n,).

    Raises
    ------
    InputError
        The file cannot be read, lacks a column, or holds a bad number.
    """
    sheet = Sheet.read(section.path, {}, "s")
    names = {"time": section.time, "running": section.running, "waiting": section.waiting}
    return {name: sheet.seconds(column, minimum=0.0) for name, column in names.items()}


def rows_of(log: Log, part: PartSection) -> Rows:
    """Which rows of a log belong to a part, shape (n,).

    Raises
    ------
    InputError
        If no row does, or a range lies behind the end of the log.
    """
    chosen = matching(log.cells, part.where, len(log), "part")
    if part.rows:
        inside = np.zeros(len(log), dtype=np.bool_)
        for first, end in part.rows:
            if first >= len(log) or (end or 0) > len(log):
                raise invalid("rows", [first, end], f"ranges within the log, which has {len(log)} rows")
            inside[first:end] = True
        chosen &= inside
    if not chosen.any():
        raise InputError(f"no row of the log is in the part {part.model_dump(exclude_unset=True)}; give other rows")
    return chosen


# ---------------------------------------------------------------------- kinds of logs


def _read_requests(section: RequestsLog) -> RequestTable:
    sheet = Sheet.read(section.path, section.where, section.unit)
    return _request_table(sheet, section.columns, unit_given=_unit_given(section))


def _read_conversations(section: ConversationsLog) -> RequestTable:
    sheet = Sheet.read(section.path, section.where, section.unit)
    # Without the template's tokens a client may count 0; an engine always sees some.
    counted_without_template = section.template_tokens + section.template_tokens_per_message > 0
    return _request_table(
        sheet, section.columns, unit_given=_unit_given(section), empty_prompts=counted_without_template
    )


def _read_aggregates(section: AggregatesLog) -> RunTable:
    sheet = Sheet.read(section.path, section.where, section.unit)
    means = Sheet.read(section.measured.path, section.measured.where, section.measured.unit)
    names = means.column(section.measured.key)
    runs = []
    of_request = sheet.column(section.key)
    for name in names:
        rows = [row for row, run in enumerate(of_request) if run == name]
        if not rows:
            raise invalid(f"{section.measured.path}, {section.measured.key}", name, f"a run of {section.path}")
        runs.append(_request_table(sheet.at(rows), section.columns, unit_given=_unit_given(section)))
    measured = _durations(means, section.measured.columns)
    check_latencies(means.path, measured, section.measured.columns, unit_given=_unit_given(section.measured))
    return RunTable(measured=measured, cells=means.cells, requests=runs)


def _read_sweep(section: ClosedLoopLog) -> RunTable:
    sheet = Sheet.read(section.path, section.where, section.unit)
    columns = section.columns
    measured, tokens = _durations(sheet, columns), sheet.counts(columns["output_tokens"])
    # The last request of a batch may be another one than the one whose first token came last.
    told = None if section.statistic == "longest" else tokens
    check_latencies(sheet.path, measured, columns, tokens=told, unit_given=_unit_given(section))
    return RunTable(
        measured=measured,
        cells=sheet.cells,
        concurrency=sheet.counts(columns["concurrency"]),
        prompt_tokens=sheet.counts(columns["prompt_tokens"]),
        output_tokens=tokens,
    )


def _read_bench(section: BenchLog) -> RequestTable:
    path = Path(section.path)
    document = json_document(path)
    names = ("start_times", "input_lens", "output_lens", "ttfts", "itls", "errors")
    for name in names:
        if not isinstance(document.get(name), list):
            raise InputError(
                f"{path} has no list {name!r}; allowed: what vllm bench serve --save-result --save-detailed writes"
            )
    columns = {name: document[name] for name in names}
    if len({len(column) for column in columns.values()}) != 1:
        raise invalid(f"{path}, lengths of its lists", [len(c) for c in columns.values()], "the same number in each")
    done = [row for row, error in enumerate(columns["errors"]) if not error and columns["output_lens"][row]]
    if not done:
        raise InputError(f"{path} has no request that succeeded; measure again")
    cells = {name: [columns[name][row] for row in done] for name in names}
    sheet = Sheet(path=path, lines=[row + 1 for row in done], cells=cells, unit="s")
    itls = [np.asarray(values, dtype=np.float64) for values in cells["itls"]]
    ttft_s = sheet.seconds("ttfts")
    arrival_s = sheet.seconds("start_times")
    tokens = sheet.counts("output_lens")
    decode_s = np.array([values.sum() for values in itls])
    return RequestTable(
        arrival_s=arrival_s - arrival_s.min(),
        prompt_tokens=sheet.counts("input_lens"),
        output_tokens=tokens,
        measured={"ttft": ttft_s, "tpot": _per_later_token(decode_s, tokens), "e2e": ttft_s + decode_s},
        cells={name: values for name, values in cells.items() if name != "itls"},
        itl_s=np.concatenate(itls),
        itl_row=np.repeat(np.arange(len(itls)), [len(values) for values in itls]),
    )


def _unit_given(section: RequestsLog | ConversationsLog | AggregatesLog | ClosedLoopLog | MeasuredRows) -> bool:
    return "unit" in section.model_fields_set


def _request_table(
    sheet: Sheet, columns: Mapping[str, str], *, unit_given: bool, empty_prompts: bool = False
) -> RequestTable:
    """Requests with whatever latencies follow from the columns that there are."""
    times = {name: sheet.seconds(columns[name]) for name in TIMES if name in columns}
    arrival_s = times["arrival"]
    if np.isnan(arrival_s).any():
        raise InputError(f"{sheet.path}: {columns['arrival']} is empty in a row; every request needs its arrival")
    tokens = sheet.counts(columns["output_tokens"])
    measured = _durations(sheet, columns)
    # First what the file has, as what follows from columns in different units may be anything.
    check_latencies(sheet.path, measured, columns, unit_given=unit_given)
    if "ttft" not in measured and "first_token" in times:
        measured["ttft"] = times["first_token"] - arrival_s
    end_s = times.get("finish", times.get("last_token"))
    if "e2e" not in measured and end_s is not None:
        measured["e2e"] = end_s - arrival_s
    if "tpot" not in measured and "ttft" in measured:
        if "last_token" in times:
            measured["tpot"] = _per_later_token(times["last_token"] - arrival_s - measured["ttft"], tokens)
        elif "e2e" in measured:
            measured["tpot"] = _per_later_token(measured["e2e"] - measured["ttft"], tokens)
    for metric, values in measured.items():
        if (values < 0.0).any():
            row = int(np.argmax(values < 0.0))
            raise invalid(
                f"{sheet.path} line {sheet.lines[row]}, {metric}", float(values[row]), "a latency >= 0, in seconds"
            )
    check_latencies(sheet.path, measured, columns, unit_given=unit_given)
    check_arrivals(sheet.path, arrival_s, columns["arrival"])
    prompts = sheet.counts(columns["prompt_tokens"], minimum=0 if empty_prompts else 1)
    return RequestTable(
        arrival_s=arrival_s - arrival_s.min(),
        prompt_tokens=np.maximum(prompts, 1),
        output_tokens=tokens,
        measured={metric: measured[metric] for metric in METRICS if metric in measured},
        cells=sheet.cells,
        prompt=_optional(sheet, columns, "prompt"),
        client=_optional(sheet, columns, "client"),
        conversation=_optional(sheet, columns, "conversation"),
    )


def _optional(sheet: Sheet, columns: Mapping[str, str], name: str) -> Sequence[str] | None:
    return sheet.column(columns[name]) if name in columns else None


def _per_later_token(decode_s: Floats, tokens: Ints) -> Floats:
    """Time per output token after the first; NaN where there is none."""
    tpot_s: Floats = np.divide(decode_s, tokens - 1, out=np.full(len(decode_s), np.nan), where=tokens > 1)
    return tpot_s


def _durations(sheet: Sheet, columns: Mapping[str, str]) -> dict[Metric, Floats]:
    measured: dict[Metric, Floats] = {}
    for metric in METRICS:
        if metric in columns:
            measured[metric] = sheet.seconds(columns[metric], minimum=0.0)
    return measured
