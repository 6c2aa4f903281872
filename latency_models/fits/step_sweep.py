"""Sweeps of steps over batch and length, of many models, degrees of tensor parallelism and shares of the GPU."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from latency_models.errors import InputError, check_count, invalid
from latency_models.fits.step_table import StepTable
from latency_models.laws.compute_share import check_share

_COLUMNS = ("model", "tp", "sm_pct", "batch", "seqlen", "prefill_ms", "decode_ms")
_Steps = list[tuple[float, float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepGroup:
    """Steps of one model on one configuration of GPUs.

    Parameters
    ----------
    model : str
        Name of the model.
    tp : int
        Tensor-parallel GPUs.
    compute_share : float
        Share of each GPU's multiprocessors, in (0, 1].
    table : StepTable
        The steps.
    """

    model: str
    tp: int
    compute_share: float
    table: StepTable

    def __post_init__(self) -> None:
        check_count("tp", self.tp)
        check_share("compute_share", self.compute_share)


def read_step_sweep(path: Path) -> list[SweepGroup]:
    """Read all steps of a sweep.

    The file is CSV, plain or packed as ``.gz``, with the columns ``model, tp, sm_pct, batch, seqlen, prefill_ms,
    decode_ms`` (others are ignored).  A row is up to two steps: the prefill of ``batch`` prompts of ``seqlen`` tokens,
    and a decode of ``batch`` sequences with a context of ``seqlen``; an empty time is a step that was not run.

    Returns
    -------
    list of SweepGroup
        In the order of the file; in each, all prefills, then all decodes.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column or holds a bad number.
    """
    found: dict[tuple[str, int, float], tuple[_Steps, _Steps]] = {}
    try:
        with _text(path) as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise invalid(
                    f"header of {path}", list(reader.fieldnames or ()), f"{', '.join(_COLUMNS)} (no {missing})"
                )
            for row in reader:
                _add_row(f"{path} line {reader.line_num}", row, found)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return [
        SweepGroup(model=model, tp=tp, compute_share=percent / 100.0, table=_table(*steps))
        for (model, tp, percent), steps in found.items()
        if any(steps)
    ]


def read_batch_sweep(path: Path, *, model: str, tp: int, sm_pct: int = 100) -> StepTable:
    """Read the steps of one model, tensor parallelism and share (in per cent) from a sweep.

    Raises
    ------
    InputError
        As :func:`read_step_sweep`; also if the file has no such steps.
    """
    groups = read_step_sweep(path)
    for group in groups:
        if (group.model, group.tp, round(100.0 * group.compute_share, 6)) == (model, tp, sm_pct):
            return group.table
    raise invalid(f"rows of {path}", f"{model} tp {tp} sm_pct {sm_pct}", ", ".join(_names(groups)) or "none")


def _text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", newline="", encoding="utf-8-sig")
    return path.open(newline="", encoding="utf-8-sig")


def _names(groups: Iterable[SweepGroup]) -> list[str]:
    return sorted(f"{group.model} tp {group.tp} sm_pct {100.0 * group.compute_share:g}" for group in groups)


def _add_row(place: str, row: dict[str, str], found: dict[tuple[str, int, float], tuple[_Steps, _Steps]]) -> None:
    tp, percent = _number(place, "tp", row["tp"]), _number(place, "sm_pct", row["sm_pct"])
    if tp != int(tp):
        raise invalid(f"{place}, tp", row["tp"], "an integer >= 1")
    if percent > 100.0:
        raise invalid(f"{place}, sm_pct", row["sm_pct"], "a percentage, > 0 and <= 100")
    batch, length = (_number(place, name, row[name]) for name in ("batch", "seqlen"))
    prefills_and_decodes = found.setdefault((row["model"], int(tp), percent), ([], []))
    for name, steps in zip(("prefill_ms", "decode_ms"), prefills_and_decodes, strict=True):
        if row[name]:
            steps.append((batch, length, _number(place, name, row[name]) / 1e3))


def _table(prefills: _Steps, decodes: _Steps) -> StepTable:
    return StepTable.concatenate(
        [
            StepTable.of_prefills(*np.reshape(prefills, (-1, 3)).T),
            StepTable.of_decodes(*np.reshape(decodes, (-1, 3)).T),
        ]
    )


def _number(place: str, name: str, text: str | None) -> float:
    """A number > 0 from a cell, or an error that names the line."""
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not 0.0 < value < float("inf"):
        raise invalid(f"{place}, {name}", text, "a finite number > 0")
    return value
