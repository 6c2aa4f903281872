"""Traces of real traffic as streams of request chunks, in constant memory.

Azure LLM 2023 and 2024, BurstGPT, Mooncake, results of ``vllm bench serve``, and plain tables are read unchanged; see
:mod:`scenarios.traces.formats`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import InputError, check_count, check_finite, invalid, unknown_name
from scenarios.traces.formats import BLOCK_TOKENS, TraceFormat, find_format, locate_columns
from scenarios.traces.sources import Table
from scenarios.workloads.lengths import MAX_TOKENS
from scenarios.workloads.request_chunks import (
    ROWS_PER_CHUNK,
    Floats,
    Ints,
    arrivals,
    concatenate,
    make_chunk,
    resize,
    sort_by_arrival,
    with_columns,
)
from scenarios.workloads.transforms import spread_arrivals
from sim.workload import RequestChunk, Segment

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class ReadReport:
    """What a reader found, filled while it reads."""

    format: str = ""
    rows: int = 0
    """Rows read, skipped ones included."""
    failed: int = 0
    """Rows skipped because the request had failed (no output, in formats that record failures so)."""
    dropped_empty: int = 0
    """Rows dropped by the option ``drop_empty``."""
    ignored_columns: list[str] = field(default_factory=list)
    """Columns that mean nothing here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read a trace.

    Attributes
    ----------
    sort
        Load the whole trace and sort it by arrival; otherwise a row out of order is an error.
    drop_empty
        Drop rows with a prompt or output of 0 tokens; otherwise they are an error (or counted as failures, in formats
        that record failures so).
    rebase
        Make the first arrival time 0.  Default: what is right for the format (absolute clocks are shifted).
    where
        Read only rows whose columns have these values, compared as text.
    block_tokens
        Tokens per block of prompt content, in traces that list blocks.  Default: 512.
    spread_s
        Delay every request by a random time below this, for traces with a coarse clock (Mooncake: 3 s).  0: off.
    """

    sort: bool = False
    drop_empty: bool = False
    rebase: bool | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    block_tokens: int | None = None
    spread_s: float = 0.0

    def __post_init__(self) -> None:
        check_finite("spread_s", self.spread_s)
        if self.block_tokens is not None:
            check_count("block_tokens", self.block_tokens)


def read_trace(
    path: str | Path,
    format: str = "auto",
    *,
    options: ReadOptions | None = None,
    rng: np.random.Generator | None = None,
    rows_per_chunk: int = ROWS_PER_CHUNK,
    report: ReadReport | None = None,
) -> Iterator[RequestChunk]:
    """Read a trace as a stream of chunks.

    Parameters
    ----------
    path : str or Path
        The file; gzip is recognised by its content.
    format : str
        ``"auto"`` or a name of :data:`scenarios.traces.formats.FORMATS`.
    options : ReadOptions, optional
        See there.
    rng : numpy.random.Generator, optional
        Needed with ``spread_s``.
    rows_per_chunk : int
        Rows read at once.
    report : ReadReport, optional
        Filled with counts while the stream is read.

    Returns
    -------
    Iterator[RequestChunk]
        Requests by arrival.

    Raises
    ------
    InputError
        At once if the file cannot be read or its format is wrong; from the stream if a row is.
    """
    options = options or ReadOptions()
    check_count("rows_per_chunk", rows_per_chunk)
    layout = find_format(Path(path), format)
    if options.rebase is False and layout.clock == "date":
        raise invalid("rebase", False, f"true with dates as in format {layout.name}")
    report = report if report is not None else ReadReport()
    report.format = layout.name
    chunks = _TraceReader(Path(path), layout, options, report).chunks(rows_per_chunk)
    if options.spread_s > 0:
        if rng is None:
            raise InputError("spread_s needs a random generator; pass rng")
        chunks = spread_arrivals(chunks, options.spread_s, rng)
    return chunks


class _TraceReader:
    """State of reading one file: where its clock starts and how far it got."""

    def __init__(self, path: Path, layout: TraceFormat, options: ReadOptions, report: ReadReport) -> None:
        self._path = path
        self._layout = layout
        self._options = options
        self._report = report
        self._rebase = layout.absolute if options.rebase is None else options.rebase
        self._sort = options.sort or layout.sort
        self._origin: float | np.int64 | None = None
        self._last = -np.inf

    def chunks(self, rows: int) -> Iterator[RequestChunk]:
        """The file's requests by arrival."""
        stream = self._in_file_order(rows)
        if self._sort:
            held = list(stream)
            if held:
                whole = sort_by_arrival(concatenate(held))
                if self._rebase:
                    times = arrivals(whole)
                    whole = with_columns(whole, arrival_s=times - times[0])
                yield from resize([whole], rows)
        else:
            empty = True
            for chunk in stream:
                empty = False
                yield chunk
            if not empty:
                return
            held = []
        if not held:
            skipped = f" ({self._report.rows} rows were skipped)" if self._report.rows else ""
            raise InputError(f"trace file {self._path} holds no request{skipped}; allowed: at least one")

    def _in_file_order(self, rows: int) -> Iterator[RequestChunk]:
        for table in self._layout.tables(self._path, rows):
            located = locate_columns(table.columns, self._layout, self._path)
            used = {*located.values(), *self._options.where}
            for name in table.columns:
                if name not in used and name not in self._report.ignored_columns:
                    self._report.ignored_columns.append(name)
            if self._options.block_tokens is not None and "blocks" not in located:
                raise InputError(f"block_tokens is given, but trace file {self._path} lists no blocks; remove it")
            self._report.rows += len(table.lines)
            table = self._filtered(table)
            if table.lines:
                chunk = self._chunk(table, located)
                if len(chunk.arrival_s):
                    yield chunk

    def _filtered(self, table: Table) -> Table:
        """Rows that the option ``where`` selects."""
        for column, wanted in self._options.where.items():
            if column not in table.columns:
                raise unknown_name(f"column in {self._path.name}", column, table.columns)
            rows = [row for row, value in enumerate(table.columns[column]) if str(value) == str(wanted)]
            table = _rows(table, rows)
        return table

    def _chunk(self, table: Table, located: Mapping[str, str]) -> RequestChunk:
        """Checked requests of one batch."""
        prompt = self._lengths(table, located["prompt_tokens"])
        output = self._lengths(table, located["output_tokens"])
        keep = self._not_empty(table, located, prompt, output)
        if not keep.all():
            table = _rows(table, np.flatnonzero(keep).tolist())
            prompt, output = prompt[keep], output[keep]
        if not table.lines:
            return RequestChunk((), (), ())
        columns = {name: table.columns[column] for name, column in located.items()}
        return make_chunk(
            arrival_s=self._arrivals(table, located["arrival_s"]),
            prompt_tokens=prompt,
            output_tokens=output,
            request_id=_texts(columns.get("request_id")),
            model=_texts(columns.get("model")),
            request_class=_texts(columns.get("class")),
            session=_texts(columns.get("session")),
            priority=self._priorities(table, located.get("priority")),
            content=self._content(table, located.get("blocks"), prompt),
            deadline_s=self._delays(table, located.get("deadline_s")),
            cancel_after_s=self._delays(table, located.get("cancel_after_s")),
            prompt=self._prompts(table, located.get("prompt")),
        )

    def _where(self, table: Table, row: int, column: str) -> str:
        return f"{self._path} {self._layout.row} {table.lines[row]}, {column}"

    def _numbers(self, table: Table, column: str, values: Sequence[Any]) -> Floats:
        """The column as finite floats."""
        try:
            numbers = np.fromiter(map(float, values), np.float64, len(values))
        except (TypeError, ValueError, OverflowError):
            numbers = np.array([_number(value) for value in values])
        wrong = np.flatnonzero(~np.isfinite(numbers))
        if wrong.size:
            row = int(wrong[0])
            raise invalid(self._where(table, row, column), values[row], "a finite number")
        return numbers

    def _lengths(self, table: Table, column: str) -> Ints:
        values = table.columns[column]
        numbers = self._numbers(table, column, values)
        wrong = np.flatnonzero((numbers < 0) | (numbers > MAX_TOKENS) | (numbers != np.floor(numbers)))
        if wrong.size:
            row = int(wrong[0])
            raise invalid(self._where(table, row, column), values[row], f"an integer from 1 to {MAX_TOKENS}")
        return numbers.astype(np.int64)

    def _not_empty(self, table: Table, located: Mapping[str, str], prompt: Ints, output: Ints) -> NDArray[np.bool_]:
        """Which rows to keep: not failures, not empty."""
        keep: NDArray[np.bool_] = np.ones(len(output), np.bool_)
        if self._layout.failures:
            keep = output > 0
            self._report.failed += int((~keep).sum())
        empty = keep & ((prompt == 0) | (output == 0))
        if empty.any():
            if not self._options.drop_empty:
                row = int(np.flatnonzero(empty)[0])
                column = located["prompt_tokens" if prompt[row] == 0 else "output_tokens"]
                raise invalid(
                    self._where(table, row, column), 0, "an integer >= 1", "Set drop_empty to leave such rows out."
                )
            self._report.dropped_empty += int(empty.sum())
        kept: NDArray[np.bool_] = keep & ~empty
        return kept

    def _arrivals(self, table: Table, column: str) -> Floats:
        values = table.columns[column]
        if self._layout.clock == "date":
            stamps = self._dates(table, column, values)
            if self._origin is None:
                self._origin = stamps[0]
            # Exact in integers: a float of seconds since 1970 resolves only a quarter of a microsecond.
            times: Floats = (stamps - self._origin) / 1e9
        else:
            times = self._numbers(table, column, values) / (1e3 if self._layout.clock == "ms" else 1.0)
            if self._rebase:
                self._origin = times[0] if self._origin is None else self._origin
                times = times - self._origin
            elif (wrong := np.flatnonzero(times < 0)).size:
                row = int(wrong[0])
                raise invalid(self._where(table, row, column), values[row], "a time >= 0", "Set rebase to shift times.")
        if not self._sort:
            falling = np.flatnonzero(np.diff(times, prepend=self._last) < 0)
            if falling.size:
                row = int(falling[0])
                advice = "Set sort to load and sort the whole trace."
                if "run" in table.columns:
                    advice = "Select one run with where: {run: NAME}, or set sort to mix them."
                raise invalid(
                    self._where(table, row, column), values[row], "a time not before the previous row's", advice
                )
            self._last = float(times[-1])
        return times

    def _dates(self, table: Table, column: str, values: Sequence[Any]) -> Ints:
        """Dates as nanoseconds since 1970."""
        try:
            texts = [value.removesuffix("Z").removesuffix("+00:00") for value in values]
            if all(text[:4].isdigit() and "+" not in text and text.count("-") == 2 for text in texts):
                stamps = np.array(texts, "datetime64[ns]")
                if not np.isnat(stamps).any():
                    return stamps.astype(np.int64)
        except (AttributeError, ValueError):
            pass
        nanoseconds: list[int] = []
        for row, value in enumerate(values):
            try:
                parsed = datetime.fromisoformat(value)
            except (TypeError, ValueError):
                raise invalid(
                    self._where(table, row, column), value, "a date and time like 2023-11-16 18:17:03.9799600"
                ) from None
            moment = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
            nanoseconds.append((moment - _EPOCH) // timedelta(microseconds=1) * 1000)
        return np.array(nanoseconds, np.int64)

    def _priorities(self, table: Table, column: str | None) -> Ints | None:
        if column is None:
            return None
        values = [0 if value in (None, "") else value for value in table.columns[column]]
        numbers = self._numbers(table, column, values)
        wrong = np.flatnonzero((numbers != np.floor(numbers)) | (np.abs(numbers) > MAX_TOKENS))
        if wrong.size:
            raise invalid(self._where(table, int(wrong[0]), column), values[int(wrong[0])], "an integer")
        return numbers.astype(np.int64)

    def _prompts(self, table: Table, column: str | None) -> list[int | None] | None:
        """Rows of the prompt table; where none is named one is drawn."""
        if column is None:
            return None
        given = [value not in (None, "") for value in table.columns[column]]
        values = [value if named else 0 for value, named in zip(table.columns[column], given, strict=True)]
        numbers = self._numbers(table, column, values)
        wrong = np.flatnonzero((numbers != np.floor(numbers)) | (numbers < 0) | (numbers > MAX_TOKENS))
        if wrong.size:
            row = int(wrong[0])
            raise invalid(self._where(table, row, column), values[row], "a row of the prompt table, an integer from 0")
        rows = numbers.astype(np.int64).tolist()
        return [row if named else None for row, named in zip(rows, given, strict=True)]

    def _delays(self, table: Table, column: str | None) -> list[float | None] | None:
        if column is None:
            return None
        values = table.columns[column]
        given = [row for row, value in enumerate(values) if value not in (None, "")]
        numbers = self._numbers(_rows(table, given), column, [values[row] for row in given])
        delays: list[float | None] = [None] * len(values)
        for row, number in zip(given, numbers.tolist(), strict=True):
            if number <= 0:
                raise invalid(self._where(table, row, column), values[row], "a time > 0 after arrival")
            delays[row] = number
        return delays

    def _content(self, table: Table, column: str | None, prompt: Ints) -> list[tuple[Segment, ...] | None] | None:
        """Blocks of the prompt as segments; the last one holds what is left of the prompt."""
        if column is None:
            return None
        size = self._options.block_tokens or BLOCK_TOKENS
        content: list[tuple[Segment, ...] | None] = []
        for row, (value, tokens) in enumerate(zip(table.columns[column], prompt.tolist(), strict=True)):
            if value is not None and not isinstance(value, str | list | tuple):
                raise invalid(self._where(table, row, column), value, "a list of block ids")
            ids = value.split() if isinstance(value, str) else value or ()
            left = tokens - (len(ids) - 1) * size
            if ids and left <= 0:
                raise invalid(
                    self._where(table, row, column),
                    f"{len(ids)} blocks",
                    f"at most {-(-tokens // size)} blocks of {size} for a prompt of {tokens} tokens",
                    "Set block_tokens if the blocks have another size.",
                )
            segments = [(f"h{key}", size) for key in ids]
            if ids:
                segments[-1] = (segments[-1][0], min(left, size))
            content.append(tuple(segments) or None)
        return content


def _rows(table: Table, rows: Sequence[int]) -> Table:
    """Some rows of a table."""
    columns = {name: [column[row] for row in rows] for name, column in table.columns.items()}
    return Table([table.lines[row] for row in rows], columns)


def _number(value: Any) -> float:
    """The value as a float; NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _texts(column: Sequence[Any] | None) -> list[str | None] | None:
    """The column as texts; empty cells are ``None``, and a column of nothing else is left out."""
    if column is None:
        return None
    texts = [None if value in (None, "") else str(value) for value in column]
    return texts if any(text is not None for text in texts) else None
