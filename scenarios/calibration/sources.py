"""Which kind of measurement a file is, and reading those that are made of steps."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from latency_models.errors import InputError, invalid
from latency_models.fits.step_sweep import read_batch_sweep
from scenarios.calibration.bench_steps import read_bench_steps
from scenarios.calibration.iteration_log import LINE, read_iteration_log
from scenarios.calibration.measured_steps import MeasuredSteps, check_step_unit
from scenarios.calibration.request_columns import ALIASES, without_unit
from scenarios.calibration.step_rows import COUNTS, read_step_rows
from sim.settings import EngineSettings

KINDS = ("steps", "iteration-log", "vllm-bench", "requests", "grid", "sweep")
"""Forms of measurement, by the name that ``--from`` gives them."""
STEP_KINDS = ("steps", "iteration-log", "vllm-bench", "grid")
"""Those whose steps can be read; the others need the simulator."""

_GRID_COLUMNS = ("model", "tp", "sm_pct")
_HEAD_BYTES = 200_000
_SHOWN = 80
GRID_UNIT = "prefill_ms and decode_ms are milliseconds; are these seconds?"
"""What to say to a grid whose times are implausible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How to read a source."""

    engine: EngineSettings = field(default_factory=EngineSettings)
    given: frozenset[str] = frozenset()
    """Engine settings that the user gave."""
    unit: str | None = None
    """Unit of times whose columns do not name one."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Rows of a grid to take."""


def kind_of(path: Path, named: Collection[str] = ()) -> str:
    """Recognise a file by its beginning.

    Parameters
    ----------
    path : Path
        The file.
    named : collection of str
        Our names of the columns that the user named; a table whose arrivals or levels are named is recognised by them.

    Raises
    ------
    InputError
        If it cannot be read or is none of :data:`KINDS`.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except (OSError, EOFError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    if not head.strip():
        raise InputError(f"{path} is empty; allowed: {', '.join(KINDS)}, see docs/calibrate.md")
    if head.lstrip().startswith("{"):
        return "vllm-bench"
    if LINE.search(head):
        return "iteration-log"
    header = set(next(csv.reader(head.splitlines()), []))
    if header.issuperset(COUNTS):
        return "steps"
    if header.issuperset(("prefill_ms", "decode_ms")):
        return "grid"
    if "concurrency" in header or not {"concurrency", "rate"}.isdisjoint(named):
        return "sweep"
    bare = {without_unit(name) for name in header}
    if any("arrival" in name for name in header) or "arrival" in named or not bare.isdisjoint(ALIASES["arrival"]):
        return "requests"
    if not bare.isdisjoint((*ALIASES["concurrency"], *ALIASES["rate"])):
        return "sweep"
    if "\0" in head:
        raise InputError(f"{path} is a binary file; allowed: CSV, JSON, logs of vLLM, and these packed with gzip")
    raise InputError(
        f"{path} is not recognised by its first line, {_shown(head)}; looked for, separated by commas: "
        f"{', '.join(COUNTS)} (steps); prefill_ms, decode_ms (grid); a column of concurrency or rate, as "
        f"{', '.join((*ALIASES['concurrency'], *ALIASES['rate']))} (sweep); a column of arrivals, as "
        f"{', '.join(ALIASES['arrival'])} (requests). If yours has another name, say --column arrival=COLUMN, "
        "concurrency=COLUMN or rate=COLUMN; --from names the kind, see docs/calibrate.md"
    )


def _shown(head: str) -> str:
    first = (head.splitlines() or [""])[0]
    return repr(first if len(first) <= _SHOWN else f"{first[:_SHOWN]}...")


def read_steps(kind: str, paths: Sequence[Path], reading: Reading) -> MeasuredSteps:
    """Read the steps of all files.

    Parameters
    ----------
    kind : str
        One of :data:`STEP_KINDS`.
    paths : sequence of Path
        Files of that kind.
    reading : Reading
        How to read them.

    Raises
    ------
    InputError
        A file is not of that kind, holds bad values, or a setting has no effect on its kind.
    """
    if reading.where and kind != "grid":
        raise invalid("--where", dict(reading.where), f"only with a grid of steps; these are {kind}")
    if reading.unit is not None and kind in ("iteration-log", "grid"):
        raise invalid(
            "--unit", reading.unit, f"only where a file does not name the unit itself; {kind} has milliseconds"
        )
    return MeasuredSteps.joined([_read(kind, path, reading) for path in paths])


def _read(kind: str, path: Path, reading: Reading) -> MeasuredSteps:
    if kind == "steps":
        return read_step_rows(path, unit=reading.unit)
    if kind == "iteration-log":
        blocks = "num_gpu_blocks" in reading.given
        kv_tokens = reading.engine.num_gpu_blocks * reading.engine.block_size if blocks else None
        return read_iteration_log(path, kv_tokens=kv_tokens)
    if kind == "vllm-bench":
        return read_bench_steps(path, token_budget=reading.engine.max_num_batched_tokens, unit=reading.unit)
    return _read_grid(path, reading.where)


def _read_grid(path: Path, where: Mapping[str, str]) -> MeasuredSteps:
    unknown = [name for name in where if name not in _GRID_COLUMNS]
    if unknown or "model" not in where or "tp" not in where:
        raise invalid("--where", dict(where), "model=NAME and tp=N, and sm_pct=N for a share other than 100")
    numbers: dict[str, int] = {}
    for name in ("tp", "sm_pct"):
        text = where.get(name, "100")
        if not text.isdigit() or int(text) == 0:
            raise invalid(f"--where {name}", text, "a whole number > 0")
        numbers[name] = int(text)
    table = read_batch_sweep(path, model=where["model"], tp=numbers["tp"], sm_pct=numbers["sm_pct"])
    check_step_unit(str(path), table.duration_s, advice=GRID_UNIT)
    return MeasuredSteps(table=table, groups=np.arange(len(table)), rows_read=len(table), consecutive=False)
