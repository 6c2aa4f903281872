"""The trace formats that are understood: how each is recognised, and what its columns mean."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from latency_models.errors import InputError, unknown_name
from scenarios.traces.sources import (
    Table,
    csv_tables,
    json_document,
    json_line_tables,
    parquet_tables,
    read_head,
)

BLOCK_TOKENS = 512
"""Tokens of a block in traces that list the prompt's content as block hashes."""

PLAIN_COLUMNS: dict[str, tuple[str, ...]] = {
    "arrival_s": (
        "arrival_s",
        "arrival_time_s",
        "arrival_time",
        "arrival",
        "arrived_at",
        "start_s",
        "arrival_timestamp",
    ),
    "prompt_tokens": (
        "prompt_tokens",
        "input_tokens",
        "input_toks",
        "input_num_tokens",
        "input_length",
        "input_len",
        "prompt_len",
        "prompt_length",
        "prompt_size",
        "num_prefill_tokens",
    ),
    "output_tokens": (
        "output_tokens",
        "output_toks",
        "output_num_tokens",
        "output_length",
        "output_len",
        "generated_tokens",
        "completion_tokens",
        "token_size",
        "num_decode_tokens",
    ),
    "model": ("model",),
    "class": ("class", "request_class"),
    "session": ("session", "session_id", "conversation", "conversation_id"),
    "priority": ("priority",),
    "deadline_s": ("deadline_s",),
    "cancel_after_s": ("cancel_after_s",),
    "prompt": ("prompt_row",),
    "request_id": ("request_id", "id"),
    "blocks": ("prefix_block_ids", "hash_ids"),
}
"""Names of columns in plain tables; the first of each is the one to write."""

REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFormat:
    """What one kind of trace file looks like.

    Attributes
    ----------
    container
        How rows are stored.
    columns
        Accepted column names for each field of a request.
    clock
        Unit of the arrival column.
    absolute
        Whether the clock's zero means nothing, so that the first request becomes time 0.
    failures
        Whether rows with an output of 0 tokens are failed requests, which are skipped and counted.
    sort
        Whether rows may lie in another order than that of arrival.
    row
        What a row is called in messages.
    """

    name: str
    container: Literal["csv", "jsonl", "json", "parquet"]
    columns: Mapping[str, tuple[str, ...]]
    clock: Literal["s", "ms", "date"] = "s"
    absolute: bool = False
    failures: bool = False
    sort: bool = False
    row: str = "line"

    def required(self) -> str:
        """The columns that a file of this format must have, for messages."""
        return ", ".join(self.columns[field][0] for field in REQUIRED)

    def tables(self, path: Path, rows: int) -> Iterator[Table]:
        """Raw batches of ``path``."""
        if self.container == "csv":
            return csv_tables(path, rows)
        if self.container == "jsonl":
            return json_line_tables(path, rows)
        if self.container == "parquet":
            return parquet_tables(path, rows)
        return iter([_bench_table(path, json_document(path))])


FORMATS: dict[str, TraceFormat] = {
    known.name: known
    for known in (
        TraceFormat(
            name="azure",
            container="csv",
            columns={
                "arrival_s": ("TIMESTAMP",),
                "prompt_tokens": ("ContextTokens",),
                "output_tokens": ("GeneratedTokens",),
            },
            clock="date",
            absolute=True,
        ),
        TraceFormat(
            name="burstgpt",
            container="csv",
            columns={
                "arrival_s": ("Timestamp",),
                "prompt_tokens": ("Request tokens",),
                "output_tokens": ("Response tokens",),
                "model": ("Model",),
                "class": ("Log Type",),
                "session": ("Session ID",),
            },
            absolute=True,
            failures=True,
        ),
        TraceFormat(
            name="mooncake",
            container="jsonl",
            columns={
                "arrival_s": ("timestamp",),
                "prompt_tokens": ("input_length",),
                "output_tokens": ("output_length",),
                "blocks": ("hash_ids",),
            },
            clock="ms",
        ),
        TraceFormat(
            name="vllm-bench",
            container="json",
            columns={
                "arrival_s": ("start_times",),
                "prompt_tokens": ("input_lens",),
                "output_tokens": ("output_lens",),
            },
            absolute=True,
            failures=True,
            # The benchmark lists requests in the order of its data set; threads may start neighbours the other way.
            sort=True,
            row="request",
        ),
        TraceFormat(name="csv", container="csv", columns=PLAIN_COLUMNS),
        TraceFormat(name="jsonl", container="jsonl", columns=PLAIN_COLUMNS),
        TraceFormat(name="parquet", container="parquet", columns=PLAIN_COLUMNS, row="row"),
    )
}
"""Formats by name."""


def find_format(path: Path, name: str) -> TraceFormat:
    """The format called ``name``; ``auto`` recognises it by the first line."""
    if name != "auto":
        if name not in FORMATS:
            raise unknown_name("trace format", name, ["auto", *FORMATS])
        head = read_head(path)
        if head.parquet != (name == "parquet"):
            found = "Parquet" if head.parquet else "text"
            raise InputError(f"trace file {path} is {found}, not {name}; use format: auto or name the right one")
        return FORMATS[name]
    head = read_head(path)
    if head.parquet:
        return FORMATS["parquet"]
    text = head.text.lstrip()
    if not text:
        raise InputError(f"trace file {path} is empty; allowed: a trace with at least one request")
    if text.startswith("["):
        raise InputError(f"trace file {path} is a JSON array; allowed: one JSON object per line (JSON lines), or CSV")
    first_line = text.splitlines()[0]
    if text.startswith("{"):
        return FORMATS[_json_kind(first_line, text)]
    try:
        columns = {column.strip() for column in next(csv.reader([first_line]), [])}
    except csv.Error:
        columns = set()
    for candidate in ("azure", "burstgpt"):
        accepted = FORMATS[candidate].columns
        if all(accepted[field][0] in columns for field in REQUIRED):
            return FORMATS[candidate]
    return FORMATS["csv"]


def _json_kind(first_line: str, text: str) -> str:
    """Name of the JSON format: lines of objects, or one benchmark result."""
    if '"input_lens"' in text or '"request_throughput"' in text:
        return "vllm-bench"
    try:
        keys = set(json.loads(first_line))
    except ValueError:
        keys = set()
    return "mooncake" if {"timestamp", "input_length", "output_length"} <= keys else "jsonl"


def locate_columns(found: Iterable[str], layout: TraceFormat, path: Path) -> dict[str, str]:
    """Column of ``found`` that holds each field; a missing or ambiguous one is an error that names what was found."""
    names = list(found)
    located: dict[str, str] = {}
    for field, accepted in layout.columns.items():
        present = [name for name in accepted if name in names]
        # The canonical name wins: a file may keep the origin's column beside it.
        if len(present) > 1 and present[0] != accepted[0]:
            raise InputError(
                f"trace file {path} has several columns for {field}: {', '.join(present)}; "
                f"rename the right one to {accepted[0]}"
            )
        if present:
            located[field] = present[0]
    missing = [layout.columns[field][0] for field in REQUIRED if field not in located]
    if missing:
        raise InputError(
            f"trace file {path} has no column {', '.join(missing)}; format {layout.name} needs {layout.required()}, "
            f"found: {', '.join(map(repr, names[:20])) or 'none'}. Name the format, or rename the columns."
        )
    return located


def _bench_table(path: Path, document: dict[str, Any]) -> Table:
    """Requests of a ``vllm bench serve --save-detailed`` result; those that report an error have an output of 0."""
    lists = ("start_times", "input_lens", "output_lens")
    missing = [name for name in lists if not isinstance(document.get(name), list)]
    if missing:
        raise InputError(
            f"trace file {path} has no list {', '.join(missing)}; format vllm-bench needs {', '.join(lists)}. "
            "Record it with vllm bench serve --save-result --save-detailed."
        )
    columns: dict[str, list[Any]] = {name: document[name] for name in lists}
    rows = {name: len(column) for name, column in columns.items()}
    if len(set(rows.values())) > 1:
        raise InputError(f"trace file {path} has lists of different lengths: {rows}; allowed: one entry per request")
    errors = document.get("errors")
    if isinstance(errors, list) and len(errors) == rows["output_lens"]:
        columns["output_lens"] = [
            0 if error else tokens for tokens, error in zip(columns["output_lens"], errors, strict=True)
        ]
    return Table(range(1, rows["start_times"] + 1), columns)
