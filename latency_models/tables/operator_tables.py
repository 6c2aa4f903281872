"""Measured times of single operators, as rows: from CSV files, or from the package ``aiconfigurator-core``.

Both hold the micro-benchmarks of AIConfigurator (github.com/ai-dynamo/aiconfigurator, Apache-2.0): one row per shape of
a matrix product, an attention call, an all-reduce or a mixture-of-experts layer, timed on one kind of GPU with the
kernels of one vLLM version.
"""

from __future__ import annotations

import importlib.util
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

from latency_models.errors import InputError, invalid, unknown_name
from latency_models.tables.grids import Row, read_rows

Operator = Literal["gemm", "context_attention", "generation_attention", "allreduce", "moe"]

Groups = dict[str, list[Row]]
"""Rows by label; each row holds the coordinates of :attr:`OperatorLayout.coordinates`, then seconds."""

PACKAGE = "aiconfigurator_core"

_LABEL_DEFAULTS = {"window_size": "0"}
"""What a column that a table leaves out says; 0 is attention to the whole context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorLayout:
    """Columns of an operator's table.

    Parameters
    ----------
    labels : tuple of str
        Columns with names or kinds; their values, joined by ``/``, label a group of rows.
    coordinates : tuple of str
        Columns with the numbers that describe a shape.
    family, file : str
        Folder and file of the operator in the package.
    """

    labels: tuple[str, ...]
    coordinates: tuple[str, ...]
    family: str
    file: str


_ATTENTION = ("num_heads", "num_key_value_heads", "batch_size")

LAYOUTS: dict[Operator, OperatorLayout] = {
    "gemm": OperatorLayout(
        labels=("gemm_dtype",), coordinates=("n", "k", "m"), family="gemm", file="gemm_perf.parquet"
    ),
    "context_attention": OperatorLayout(
        labels=("kv_cache_dtype", "head_dim", "window_size"),
        coordinates=(*_ATTENTION, "isl"),
        family="attention",
        file="context_attention_perf.parquet",
    ),
    "generation_attention": OperatorLayout(
        labels=("kv_cache_dtype", "head_dim", "window_size"),
        coordinates=(*_ATTENTION, "step"),
        family="attention",
        file="generation_attention_perf.parquet",
    ),
    "allreduce": OperatorLayout(
        labels=("num_gpus", "backend"),
        coordinates=("message_size",),
        family="comm",
        file="custom_allreduce_perf.parquet",
    ),
    "moe": OperatorLayout(
        labels=(
            "moe_dtype",
            "hidden_size",
            "inter_size",
            "topk",
            "num_experts",
            "moe_tp_size",
            "moe_ep_size",
            "distribution",
        ),
        coordinates=("num_tokens",),
        family="moe",
        file="moe_perf.parquet",
    ),
}


class OperatorTables(Protocol):
    """Where operator times come from; hashable, and read once per process."""

    @property
    def name(self) -> str:
        """What they are, for messages and provenance."""
        ...

    def groups(self, operator: Operator) -> Groups:
        """All rows of an operator, by label."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvTables:
    """Files ``<prefix>_gemm.csv.gz``, ``<prefix>_allreduce.csv`` and so on, plain or compressed.

    Parameters
    ----------
    prefix : Path
        Folder and first part of the file names, e.g. ``tables/h100_sxm``.
    """

    prefix: Path

    @property
    def name(self) -> str:
        """The prefix."""
        return str(self.prefix)

    def groups(self, operator: Operator) -> Groups:
        """All rows of an operator, by label.

        Raises
        ------
        InputError
            If there is no such file, or it lacks a column or holds a bad number.
        """
        candidates = [self.prefix.with_name(f"{self.prefix.name}_{operator}{end}") for end in (".csv.gz", ".csv")]
        for path in candidates:
            if path.is_file():
                return _csv_groups(path, operator)
        raise invalid(
            "latency.path",
            str(self.prefix),
            f"the first part of the names of operator tables; there is no {candidates[0]} or {candidates[1].name}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageTables:
    """Tables that come with the Python package ``aiconfigurator-core``.

    Parameters
    ----------
    system : str
        Its name for the GPU, e.g. ``h200_sxm``.
    version : str, optional
        Highest vLLM version to use; default the newest.  An operator without a table of that version takes the newest
        table before it.
    """

    system: str
    version: str | None = None

    @property
    def name(self) -> str:
        """Package, GPU and version."""
        return f"{PACKAGE} {self.system} vLLM {self.version or 'newest'}"

    def groups(self, operator: Operator) -> Groups:
        """All rows of an operator, by label.

        Raises
        ------
        InputError
            If the package is not installed, or has no such table.
        """
        return _parquet_groups(self._file(operator), operator)

    def _file(self, operator: Operator) -> Path:
        data = _package_folder() / "systems" / "data"
        systems = sorted(folder.name for folder in data.iterdir() if (folder / "gemm" / "vllm").is_dir())
        if self.system not in systems:
            raise unknown_name("system of aiconfigurator-core", self.system, systems)
        layout = LAYOUTS[operator]
        files = sorted(
            (data / self.system / layout.family / "vllm").glob(f"*/{layout.file}"),
            key=lambda file: _version_key(file.parent.name),
        )
        usable = [f for f in files if self.version is None or _version_key(f.parent.name) <= _version_key(self.version)]
        if not usable:
            versions = ", ".join(file.parent.name for file in files) or "none"
            raise invalid(
                "latency.version", self.version, f"at least one with a {operator} table of {self.system} ({versions})"
            )
        return usable[-1]


@lru_cache(maxsize=16)
def _csv_groups(path: Path, operator: Operator) -> Groups:
    layout = LAYOUTS[operator]

    def label(cells: dict[str, str]) -> str:
        for name in layout.labels:
            if not cells.get(name) and name not in _LABEL_DEFAULTS:
                raise invalid(f"{path}, {name}", cells.get(name), f"a value in each of {', '.join(layout.labels)}")
        return "/".join(cells.get(name) or _LABEL_DEFAULTS[name] for name in layout.labels)

    groups = read_rows(path, (*layout.coordinates, "latency_ms"), label=label)
    if not groups:
        raise invalid(f"rows of {path}", "none", "at least one")
    return {key: _in_seconds(rows) for key, rows in groups.items()}


@lru_cache(maxsize=16)
def _parquet_groups(path: Path, operator: Operator) -> Groups:
    import pyarrow.parquet as parquet

    layout = LAYOUTS[operator]
    file = parquet.ParquetFile(path)
    there = set(file.schema_arrow.names)
    missing = {*layout.labels, *layout.coordinates, "latency"} - there - _LABEL_DEFAULTS.keys()
    if missing:
        raise invalid(f"columns of {path}", sorted(there), f"also {', '.join(sorted(missing))}")
    labels = [name for name in layout.labels if name in there]
    table = file.read(columns=[*labels, *layout.coordinates, "latency"])
    keys = zip(*(table[name].to_pylist() for name in labels), strict=True)
    rows = zip(*(table[name].to_pylist() for name in layout.coordinates), strict=True)
    collected: dict[tuple[Any, ...], list[Row]] = {}
    for key, row, time_ms in zip(keys, rows, table["latency"].to_pylist(), strict=True):
        if not 0.0 < time_ms < math.inf:
            raise invalid(f"{path}, latency", time_ms, "a finite number > 0")
        collected.setdefault(key, []).append((*row, time_ms / 1e3))
    groups: Groups = {}
    for key, group in collected.items():
        values = _LABEL_DEFAULTS | dict(zip(labels, key, strict=True))
        groups["/".join(str(values[name]) for name in layout.labels)] = group
    return groups


def _in_seconds(rows: list[Row]) -> list[Row]:
    return [(*row[:-1], row[-1] / 1e3) for row in rows]


def _package_folder() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    missing = [name for name in (PACKAGE, "pyarrow") if importlib.util.find_spec(name) is None]
    if found is None or found.origin is None or missing:
        raise InputError(
            f"operator tables by system need the Python packages aiconfigurator-core and pyarrow ({', '.join(missing)} "
            "is not installed). Install routerwise[aiconfigurator], or give latency.path instead of latency.system"
        )
    return Path(found.origin).parent


def _version_key(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
