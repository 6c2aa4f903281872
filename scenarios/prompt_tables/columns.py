"""Tables of a user as columns: CSV (plain or compressed), JSON lines or Parquet; never a pickle, which can run code."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import InputError, invalid
from sim.prompt_table import Floats

_PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"
_PICKLES = (".pkl", ".pickle", ".pkl.gz", ".pickle.gz", ".pt", ".joblib")
_PICKLE_MARK = b"\x80"
"""First byte of a binary pickle; it starts neither UTF-8 text nor Parquet."""

Columns = dict[str, list[Any]]
"""Values by column: text from CSV, plain values from JSON lines and Parquet; an empty cell is ``""`` or ``None``."""


def read_columns(path: Path, *, without: str = "\n") -> Columns:
    """Read a table whose first line (CSV), keys (``.jsonl``) or schema (Parquet) name its columns.

    Parameters
    ----------
    path : Path
        The file.
    without : str
        Columns with this in their name are not kept.

    Raises
    ------
    InputError
        The file cannot be read, is a pickle, or has no rows.
    """
    name = path.name.lower()
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
        if name.endswith(_PICKLES) or head.startswith(_PICKLE_MARK):
            raise _refused(path)
        if head == _PARQUET:
            columns = _parquet(path, without)
        else:
            text = _text(path, head)
            columns = _json_lines(path, text) if ".jsonl" in name else _csv(path, text, without)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise InputError(f"cannot read prompt table {path}: {error}") from None
    if not columns or not next(iter(columns.values())):
        raise InputError(f"prompt table {path} has no rows; allowed: one per prompt")
    return columns


def numbers(where: str, values: list[Any], *, empty_is_nan: bool = False) -> Floats:
    """One column as floats.

    Parameters
    ----------
    where : str
        File and column, for messages.
    values : list
        Its values.
    empty_is_nan : bool
        Whether an empty cell is allowed, and becomes NaN; a cell that says ``nan`` never is.

    Raises
    ------
    InputError
        Naming the row.
    """
    found: NDArray[np.float64] = np.empty(len(values))
    for row, value in enumerate(values):
        if empty_is_nan and value in ("", None):
            found[row] = np.nan
            continue
        try:
            found[row] = float(value)
        except (TypeError, ValueError, OverflowError):
            found[row] = np.nan
        if not np.isfinite(found[row]):
            raise invalid(f"{where}, row {row + 1}", value, "a finite number")
    return found


def _refused(path: Path) -> InputError:
    target = path.with_suffix(".parquet").name
    return InputError(
        f"{path} is a pickle, which can run code when it is read; if you trust whoever made it, convert it "
        f"yourself: python -c \"import pandas; pandas.read_pickle('{path.name}').to_parquet('{target}')\""
    )


def _text(path: Path, head: bytes) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if head.startswith(_GZIP) else raw).decode("utf-8-sig")


def _csv(path: Path, text: str, without: str) -> Columns:
    # Prompts and answers may be longer than the csv module's limit, which holds for the whole process.
    before = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        return _csv_columns(path, text, without)
    finally:
        csv.field_size_limit(before)


def _csv_columns(path: Path, text: str, without: str) -> Columns:
    rows = csv.reader(io.StringIO(text, newline=""))
    header = [name.strip() for name in next(rows, [])]
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise invalid(f"{path}: column", twice, "each column once")
    kept = [(index, name) for index, name in enumerate(header) if without not in name]
    columns: Columns = {name: [] for _, name in kept}
    for row in rows:
        if not row:  # a blank line
            continue
        if len(row) != len(header):
            raise InputError(
                f"{path} line {rows.line_num} has {len(row)} cells; allowed: {len(header)}, one per column"
            )
        for index, name in kept:
            columns[name].append(row[index])
    return columns


def _json_lines(path: Path, text: str) -> Columns:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number} is not a JSON object")
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet(path: Path, without: str) -> Columns:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            f"{path} is Parquet, which needs pyarrow; install `routerwise[parquet]`, or give CSV"
        ) from None
    try:
        names = [name for name in pyarrow.parquet.read_schema(path).names if without not in name]
        table = pyarrow.parquet.read_table(path, columns=names)
    except pyarrow.ArrowException as error:
        raise InputError(f"{path} is damaged Parquet: {error}") from None
    return {name: table.column(name).to_pylist() for name in table.column_names}
