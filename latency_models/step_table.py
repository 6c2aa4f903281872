"""Measured engine steps as columns: what was in each step and how long it took."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency_models.errors import InputError, invalid

Floats = NDArray[np.float64]

_SWEEP_COLUMNS = ("model", "tp", "sm_pct", "batch", "seqlen", "prefill_ms", "decode_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTable:
    """Steps that were measured, one row each; all columns have shape (n,).

    Parameters
    ----------
    tokens : ndarray
        Tokens computed.
    sequences : ndarray
        Sequences scheduled, prefill and decode.
    context : ndarray
        Sum of their contexts after the step, in tokens.
    prefill_work : ndarray
        Query-key pairs of the prefill chunks, ``n * (c + n / 2)`` for n tokens behind c computed ones.
    sampled : ndarray
        Sequences that emitted a token.
    duration_s : ndarray
        What the step took, in seconds.

    Raises
    ------
    InputError
        If columns differ in length, a value is not finite or negative, or a step took no time.
    """

    tokens: Floats
    sequences: Floats
    context: Floats
    prefill_work: Floats
    sampled: Floats
    duration_s: Floats

    def __post_init__(self) -> None:
        rows = len(self.duration_s)
        for field in fields(self):
            column = getattr(self, field.name)
            if column.shape != (rows,):
                raise invalid(f"step table column {field.name}", column.shape, f"shape ({rows},) as duration_s has")
            positive = field.name in ("tokens", "sequences", "duration_s")
            wrong = ~np.isfinite(column) | (column <= 0.0 if positive else column < 0.0)
            if wrong.any():
                row = int(np.argmax(wrong))
                allowed = "finite numbers > 0" if positive else "finite numbers >= 0"
                raise invalid(f"step table row {row}, {field.name}", float(column[row]), allowed)

    def __len__(self) -> int:
        return len(self.duration_s)

    @classmethod
    def of_prefills(cls, batch: ArrayLike, prompt_tokens: ArrayLike, duration_s: ArrayLike) -> StepTable:
        """Steps that each compute ``batch`` whole prompts of ``prompt_tokens`` tokens."""
        sequences, length = _floats(batch), _floats(prompt_tokens)
        return cls(
            tokens=sequences * length,
            sequences=sequences,
            context=sequences * length,
            prefill_work=sequences * length**2 / 2.0,
            sampled=sequences,
            duration_s=_floats(duration_s),
        )

    @classmethod
    def of_decodes(cls, batch: ArrayLike, context_per_sequence: ArrayLike, duration_s: ArrayLike) -> StepTable:
        """Steps that each compute one token for ``batch`` sequences of the given context."""
        sequences = _floats(batch)
        return cls(
            tokens=sequences,
            sequences=sequences,
            context=sequences * _floats(context_per_sequence),
            prefill_work=np.zeros_like(sequences),
            sampled=sequences,
            duration_s=_floats(duration_s),
        )

    @classmethod
    def concatenate(cls, tables: Iterable[StepTable]) -> StepTable:
        """The rows of several tables, one after the other."""
        parts = list(tables)
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


def read_batch_sweep(path: Path, *, model: str, tp: int, sm_pct: int = 100) -> StepTable:
    """Read one model's steps from a sweep over batch and length.

    The file is CSV with the columns ``model, tp, sm_pct, batch, seqlen, prefill_ms, decode_ms`` (others are
    ignored).  A row is up to two steps: the prefill of ``batch`` prompts of ``seqlen`` tokens, and a decode of
    ``batch`` sequences with a context of ``seqlen``; an empty time is a step that was not run.

    Parameters
    ----------
    path : Path
        The file.
    model : str
        Rows of this model only.
    tp : int
        Rows of this many tensor-parallel GPUs only.
    sm_pct : int
        Rows of this share of the GPU's multiprocessors only, in percent.

    Returns
    -------
    StepTable
        All prefills, then all decodes, each in the order of the file.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, holds a bad number, or has no row of that model.
    """
    prefills: list[tuple[float, float, float]] = []
    decodes: list[tuple[float, float, float]] = []
    seen: set[str] = set()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _SWEEP_COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise invalid(
                    f"header of {path}", list(reader.fieldnames or ()), f"{', '.join(_SWEEP_COLUMNS)} (no {missing})"
                )
            for row in reader:
                seen.add(f"{row['model']} tp {row['tp']} sm_pct {row['sm_pct']}")
                if (row["model"], row["tp"], row["sm_pct"]) != (model, str(tp), str(sm_pct)):
                    continue
                place = f"{path} line {reader.line_num}"
                batch, length = (_number(place, name, row[name]) for name in ("batch", "seqlen"))
                for name, steps in (("prefill_ms", prefills), ("decode_ms", decodes)):
                    if row[name]:
                        steps.append((batch, length, _number(place, name, row[name]) / 1e3))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not prefills and not decodes:
        raise invalid(f"rows of {path}", f"{model} tp {tp} sm_pct {sm_pct}", ", ".join(sorted(seen)) or "none")
    return StepTable.concatenate(
        [
            StepTable.of_prefills(*np.reshape(prefills, (-1, 3)).T),
            StepTable.of_decodes(*np.reshape(decodes, (-1, 3)).T),
        ]
    )


def _floats(values: ArrayLike) -> Floats:
    return np.atleast_1d(np.asarray(values, dtype=np.float64))


def _number(place: str, name: str, text: str | None) -> float:
    """A number > 0 from a cell, or an error that names the line."""
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not 0.0 < value < float("inf"):
        raise invalid(f"{place}, {name}", text, "a finite number > 0")
    return value
