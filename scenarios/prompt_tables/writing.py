"""Prompt tables as files, in our own layout."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from analysis.result_files import replacing
from latency_models.errors import InputError, invalid
from sim.prompt_table import PromptTable

_DIGITS = ".6g"


def check_table_path(path: Path) -> None:
    """Refuse a name that :func:`write_table` could not write to.

    Raises
    ------
    InputError
        The ending is neither .csv nor .parquet, or pyarrow is missing.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise invalid("--out", str(path), "a name that ends in .csv or .parquet")
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise InputError("Parquet needs pyarrow; install `routerwise[parquet]`, or write CSV") from None


def write_table(path: Path, table: PromptTable) -> None:
    """Write a table as CSV (scores with six digits) or Parquet, by the ending of the name."""
    columns: dict[str, list[float]] = {}
    for prefix, values in (
        ("predicted", table.predicted),
        ("outcome", table.outcomes),
        ("output_tokens", table.output_tokens),
    ):
        if values is not None:
            columns.update({f"{prefix}.{name}": values[:, i].tolist() for i, name in enumerate(table.models)})
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            pyarrow.parquet.write_table(pyarrow.table({"prompt_id": list(table.prompt_ids), **columns}), beside)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        return
    with replacing(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["prompt_id", *columns])
        for name, *row in zip(table.prompt_ids, *columns.values(), strict=True):
            writer.writerow([name, *(format(value, _DIGITS) for value in row)])
