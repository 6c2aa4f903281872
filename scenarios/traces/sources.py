"""Raw tables from trace files: text or gzip, CSV, JSON lines, one JSON document, or Parquet, in batches of rows.

Nothing here knows what a column means.  Whatever is wrong with a file itself becomes one :class:`InputError`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from latency_models.errors import InputError

HEAD_BYTES = 65_536
"""How much of a file is looked at to recognise its format."""

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"


class Table(NamedTuple):
    """A batch of rows as raw columns of equal length, with the number of each row's line in the file."""

    lines: Sequence[int]
    columns: Mapping[str, Sequence[Any]]


class FileHead(NamedTuple):
    """Start of a file: whether it is Parquet, and otherwise its text."""

    parquet: bool
    text: str


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while reading ``path`` into an :class:`InputError`."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"trace file {path} does not exist; check the path") from None
    except IsADirectoryError:
        raise InputError(f"trace file {path} is a directory; name a file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"trace file {path} is truncated or damaged gzip ({error}); copy it again") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"trace file {path} is not text (byte {error.start} is not UTF-8); "
            "allowed: CSV, JSON, JSON lines, each plain or gzip, or Parquet"
        ) from error
    except csv.Error as error:
        raise InputError(f"trace file {path} is not valid CSV: {error}") from error
    except OSError as error:
        raise InputError(f"trace file {path} cannot be read: {error.strerror or error}") from error


@contextmanager
def _open_text(path: Path) -> Iterator[IO[str]]:
    """Open ``path`` as UTF-8 text; gzip is recognised by its first bytes, whatever the name says."""
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        stream: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            yield text


def read_head(path: Path) -> FileHead:
    """First part of the file, to recognise its format by."""
    with _readable(path):
        with path.open("rb") as raw:
            if raw.read(4) == _PARQUET:
                return FileHead(True, "")
        with _open_text(path) as text:
            return FileHead(False, text.read(HEAD_BYTES))


def csv_tables(path: Path, rows: int) -> Iterator[Table]:
    """Batches of a CSV file with a header line; every row must have as many fields as the header."""
    with _readable(path), _open_text(path) as text:
        reader = csv.reader(text, strict=True)
        header = [name.strip() for name in next(reader, [])]
        doubled = sorted({name for name in header if header.count(name) > 1})
        if doubled:
            raise InputError(f"trace file {path} has the column {doubled[0]!r} more than once; rename one")
        width = len(header)
        while True:
            batch: list[list[str]] = []
            lines: list[int] = []
            before = reader.line_num
            for row in islice(reader, rows):
                if len(row) != width:
                    if not row:
                        continue
                    raise InputError(
                        f"{path} line {reader.line_num} has {len(row)} fields; the header has {width}. "
                        "Is the file truncated?"
                    )
                batch.append(row)
                lines.append(reader.line_num)
            if reader.line_num == before:
                return
            if batch:
                yield Table(lines, dict(zip(header, zip(*batch, strict=True), strict=True)))


def json_line_tables(path: Path, rows: int) -> Iterator[Table]:
    """Batches of a file with one JSON object per line; a key that a line lacks is ``None`` there."""
    with _readable(path), _open_text(path) as text:
        numbered = ((number, line) for number, line in enumerate(text, start=1) if not line.isspace())
        while batch := list(islice(numbered, rows)):
            objects: list[dict[str, Any]] = []
            for number, line in batch:
                try:
                    parsed = json.loads(line)
                except ValueError as error:
                    raise InputError(
                        f"{path} line {number} is not valid JSON ({error}). Is the file truncated?"
                    ) from error
                if not isinstance(parsed, dict):
                    raise InputError(
                        f"{path} line {number} is {line.strip()[:40]!r}; allowed: one JSON object per line"
                    )
                objects.append(parsed)
            keys = dict.fromkeys(key for parsed in objects for key in parsed)
            columns = {key: [parsed.get(key) for parsed in objects] for key in keys}
            yield Table([number for number, _ in batch], columns)


def json_document(path: Path) -> dict[str, Any]:
    """The JSON object that the whole file holds."""
    with _readable(path), _open_text(path) as text:
        try:
            document = json.load(text)
        except ValueError as error:
            raise InputError(f"trace file {path} is not valid JSON ({error}). Is it truncated?") from error
    if not isinstance(document, dict):
        raise InputError(f"trace file {path} holds a JSON {type(document).__name__}; allowed: an object")
    return document


def parquet_tables(path: Path, rows: int) -> Iterator[Table]:
    """Batches of a Parquet file; lines are row numbers from 1."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise InputError(
            f"reading {path} needs pyarrow, which is not installed; install it with: pip install pyarrow"
        ) from error
    with _readable(path):
        try:
            with ParquetFile(path) as file:
                row = 1
                for batch in file.iter_batches(batch_size=rows):
                    yield Table(range(row, row + batch.num_rows), batch.to_pydict())
                    row += batch.num_rows
        except (ArrowException, OSError) as error:
            raise InputError(f"trace file {path} is not a readable Parquet file: {error}") from error
