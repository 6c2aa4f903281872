"""Steps from a CSV with one row per step: logs of engines, and sweeps of single steps.

``n_tokens, n_prefill_tokens, n_prefill_seqs, n_decode, sum_context`` say what a step computed, ``items``
(``id:tokens:computed before:kind``, joined by ``;``) who computed what.  Its time is one of: ``t_start, t_end``; the
five times of an engine's loop; four durations of that loop; or ``duration``, which may name its unit (``duration_ms``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latency_models.errors import InputError, invalid
from latency_models.fits.fit_quality import Ints, consecutive_blocks
from latency_models.fits.step_table import Floats, StepTable
from scenarios.calibration.measured_steps import UNITS, CpuTimes, MeasuredSteps, check_step_unit

if TYPE_CHECKING:
    import pandas as pd

COUNTS = ("n_tokens", "n_prefill_tokens", "n_prefill_seqs", "n_decode", "sum_context")
"""Columns that every such file has."""

_LOOP_TIMES = ("t_sched_start", "t_sched_end", "t_exec_end", "t_update_end", "t_step_end")
_LOOP_DURATIONS = ("schedule_s", "execute_s", "update_s", "output_s")
_DURATIONS = {"duration": None, **{f"duration_{unit}": unit for unit in UNITS}}
"""Columns of a step's duration, and the units that they name."""
_CELL = ("phase", "chunk", "batch", "ctx0")
"""Columns that a sweep names its cells by; steps of one cell are repetitions."""

_WHOLE_PROMPTS = (
    "the step rows do not say where each prefill chunk begins; prefills are taken as whole prompts of equal length"
)


def read_step_rows(path: Path, *, unit: str | None = None) -> MeasuredSteps:
    """Read a CSV of steps; ``.gz`` is unpacked.

    Parameters
    ----------
    path : Path
        The file.
    unit : {"s", "ms", "us", "ns"}, optional
        Unit of its times; seconds by default.

    Raises
    ------
    InputError
        The file cannot be read, lacks a column, holds a bad number, or its times cannot be in that unit.
    """
    frame = read_frame(path)
    missing = [name for name in COUNTS if name not in frame.columns]
    if missing:
        raise invalid(f"header of {path}", list(frame.columns), f"steps with {', '.join(COUNTS)} (no {missing})")
    rows_read = len(frame)
    frame = frame[column(path, frame, "n_tokens") > 0]
    duration_s, cpu_s = _durations(path, frame, 1.0 if unit is None else UNITS[unit])
    check_step_unit(str(path), duration_s, unit)
    counts = {name: column(path, frame, name) for name in COUNTS}
    _check_sum(path, frame, counts)
    prefill_seqs, decode_seqs = counts["n_prefill_seqs"], counts["n_decode"]
    notes: list[str] = []
    if "items" in frame.columns:
        work, prefill_context, emitting = _from_items(path, frame["items"])
    else:
        work, prefill_context, emitting, note = _without_items(path, frame, counts)
        notes += [note] if note else []
    table = StepTable(
        tokens=counts["n_tokens"],
        sequences=prefill_seqs + decode_seqs,
        context=counts["sum_context"],
        prefill_work=work,
        sampled=decode_seqs + emitting,
        decode_seqs=decode_seqs,
        decode_context=counts["sum_context"] - prefill_context,
        duration_s=duration_s,
    )
    dropped = {"steps without tokens": rows_read - len(frame)} if rows_read > len(frame) else {}
    return MeasuredSteps(
        table=table,
        groups=_groups(frame),
        rows_read=rows_read,
        dropped=dropped,
        notes=tuple(notes),
        consecutive="phase" not in frame.columns,
        cpu=None if cpu_s is None else CpuTimes(sequences=table.sequences, cpu_s=cpu_s),
    )


def read_frame(path: Path) -> pd.DataFrame:
    """Read a CSV as text columns; ``.gz`` is unpacked.

    Raises
    ------
    InputError
        If the file cannot be read or has no row.
    """
    import pandas as pd

    try:
        # pandas would rename a second column of the same name, so the header is read by itself.
        header = (
            pd.read_csv(path, dtype=str, header=None, nrows=1, keep_default_na=False, encoding="utf-8-sig")
            .iloc[0]
            .tolist()
        )
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise InputError(f"{path} has the column {doubled[0]!r} more than once; take one of them out, or rename it")
    if frame.empty:
        raise InputError(f"{path} has a header and no rows; allowed: at least one row per coefficient")
    return frame


def column(path: Path, frame: pd.DataFrame, name: str, *, positive: bool = False) -> Floats:
    """A column as numbers >= 0 (or > 0); shape (n,).

    Raises
    ------
    InputError
        Naming the line of the first cell that is none.
    """
    import pandas as pd

    values = np.asarray(pd.to_numeric(frame[name], errors="coerce"), dtype=np.float64)
    wrong = ~np.isfinite(values) | ((values <= 0.0) if positive else (values < 0.0))
    if wrong.any():
        row = int(np.argmax(wrong))
        # The header is line 1, and frames keep the numbers of their rows when some are left out.
        line = int(frame.index[row]) + 2
        allowed = f"a finite number {'>' if positive else '>='} 0"
        raise invalid(f"{path} line {line}, {name}", frame[name].iloc[row], allowed)
    return values


def _check_sum(path: Path, frame: pd.DataFrame, counts: dict[str, Floats]) -> None:
    """Refuse steps whose tokens are not those of their prefills and one for each decoding sequence."""
    wrong = counts["n_tokens"] != counts["n_prefill_tokens"] + counts["n_decode"]
    if wrong.any():
        row = int(np.argmax(wrong))
        raise invalid(
            f"{path} line {int(frame.index[row]) + 2}, n_tokens",
            frame["n_tokens"].iloc[row],
            f"n_prefill_tokens + n_decode, which is {counts['n_prefill_tokens'][row] + counts['n_decode'][row]:g}",
            "Steps that decode several tokens of a sequence at once are not supported.",
        )


def _durations(path: Path, frame: pd.DataFrame, unit_s: float) -> tuple[Floats, Floats | None]:
    """What each step took, and the part of the engine's CPU where the file separates it, in seconds."""
    names = set(frame.columns)
    if names.issuperset(_LOOP_DURATIONS):
        schedule_s, execute_s, update_s, output_s = (unit_s * column(path, frame, name) for name in _LOOP_DURATIONS)
        cpu_s = schedule_s + update_s + output_s
        return _positive(path, frame, execute_s + cpu_s, "execute_s"), cpu_s
    if names.issuperset(_LOOP_TIMES):
        return _of_loop(path, frame, [unit_s * column(path, frame, name) for name in _LOOP_TIMES])
    if names.issuperset(("t_start", "t_end")):
        spent_s = unit_s * (column(path, frame, "t_end") - column(path, frame, "t_start"))
        return _positive(path, frame, spent_s, "t_end"), None
    named = [name for name in _DURATIONS if name in names]
    if len(named) > 1:
        raise invalid(f"header of {path}", named, "one duration of each step", "Take the others out.")
    if named:
        suffix = _DURATIONS[named[0]]
        size_s = unit_s if suffix is None else UNITS[suffix]
        return size_s * column(path, frame, named[0], positive=True), None
    raise invalid(
        f"header of {path}",
        list(frame.columns),
        f"a time of each step: t_start and t_end; or {', '.join(_LOOP_TIMES)}; or {', '.join(_LOOP_DURATIONS)}; or "
        f"{', '.join(_DURATIONS)}",
        "Their unit is seconds, or what --unit says; duration may also name it.",
    )


def _of_loop(path: Path, frame: pd.DataFrame, times_s: list[Floats]) -> tuple[Floats, Floats]:
    """A step lasts until the next begins, if the engine had work left; otherwise its gap is the usual one."""
    begin_s, scheduled_s, executed_s, _, end_s = times_s
    _positive(path, frame, end_s - begin_s, "t_step_end")
    gap_s = np.append(begin_s[1:] - end_s[:-1], np.inf)
    left = np.ones(len(frame), dtype=bool)
    if {"running", "waiting", "finished"}.issubset(frame.columns):
        done = np.array([len(names.split()) for names in frame["finished"]])
        left = column(path, frame, "running") - done + column(path, frame, "waiting") > 0
    direct = left & (gap_s >= 0.0) & np.isfinite(gap_s)
    usual_s = float(np.median(gap_s[direct])) if direct.any() else 0.0
    # A gap as long as a step is a wait for work that the counts do not show.
    direct &= gap_s <= end_s - begin_s
    gap_s = np.where(direct, gap_s, usual_s)
    cpu_s = (scheduled_s - begin_s) + (end_s - executed_s) + gap_s
    return end_s - begin_s + gap_s, cpu_s


def _positive(path: Path, frame: pd.DataFrame, durations_s: Floats, name: str) -> Floats:
    wrong = durations_s <= 0.0
    if wrong.any():
        row = int(np.argmax(wrong))
        raise invalid(
            f"{path} line {int(frame.index[row]) + 2}, {name}",
            frame[name].iloc[row],
            "a value that makes the step > 0 s",
        )
    return durations_s


def _from_items(path: Path, items: pd.Series[str]) -> tuple[Floats, Floats, Floats]:
    """Query-key pairs, context and emitting sequences of each step's prefills."""
    work, context, emitting = (np.zeros(len(items)) for _ in range(3))
    for row, text in enumerate(items):
        for item in text.split(";"):
            try:
                _, tokens, before, kind = item.rsplit(":", 3)
                if kind == "d":
                    continue
                chunk, computed = int(tokens), int(before)
            except ValueError:
                line = int(items.index[row]) + 2
                raise invalid(f"{path} line {line}, items", item, "id:tokens:computed before:kind") from None
            work[row] += chunk * (computed + chunk / 2)
            context[row] += computed + chunk
            emitting[row] += kind == "P"
    return work, context, emitting


def _without_items(
    path: Path, frame: pd.DataFrame, counts: dict[str, Floats]
) -> tuple[Floats, Floats, Floats, str | None]:
    """The same from the counts alone, and what was assumed for it."""
    tokens, sequences = counts["n_prefill_tokens"], counts["n_prefill_seqs"]
    alone = counts["n_decode"] == 0
    # With nothing else in the step, the context tells how much of the prompt was there before.
    context = np.where(alone & (sequences > 0), counts["sum_context"], tokens)
    if "prefill_work" in frame.columns:
        return column(path, frame, "prefill_work"), context, sequences, None
    mean = tokens / np.maximum(sequences, 1.0)
    before = context / np.maximum(sequences, 1.0) - mean
    assumed = bool(((sequences > 1) | ((sequences > 0) & ~alone)).any())
    return tokens * (before + mean / 2), context, sequences, _WHOLE_PROMPTS if assumed else None


def _groups(frame: pd.DataFrame) -> Ints:
    cell = [name for name in _CELL if name in frame.columns]
    if "phase" not in cell:
        return consecutive_blocks(len(frame))
    return np.asarray(frame.groupby(cell, sort=False).ngroup(), dtype=np.int64)
