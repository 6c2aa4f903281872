"""Measured engine steps as columns: what was in each step and how long it took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency_models.errors import invalid
from latency_models.step_time import StepTimeModel

Floats = NDArray[np.float64]


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
    decode_seqs : ndarray
        Of the sequences, those that computed one token of their output; the others computed a prefill chunk.
    decode_context : ndarray
        Of the context, that of the decoding sequences.
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
    decode_seqs: Floats
    decode_context: Floats
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
        for part, whole in (("decode_seqs", "sequences"), ("decode_context", "context")):
            larger = getattr(self, part) > getattr(self, whole)
            if larger.any():
                row = int(np.argmax(larger))
                most = float(getattr(self, whole)[row])
                raise invalid(
                    f"step table row {row}, {part}", float(getattr(self, part)[row]), f"at most {most:g}, its {whole}"
                )

    def __len__(self) -> int:
        return len(self.duration_s)

    @property
    def prefill_seqs(self) -> Floats:
        """Sequences that computed a prefill chunk."""
        return self.sequences - self.decode_seqs

    @property
    def prefill_tokens(self) -> Floats:
        """Tokens of the prefill chunks."""
        return self.tokens - self.decode_seqs

    def rows(self, chosen: NDArray[Any] | slice) -> StepTable:
        """The rows that an index, a mask or a slice chooses, in that order."""
        return StepTable(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def predicted_s(self, model: StepTimeModel) -> Floats:
        """What a model says that each step takes, in seconds; shape (n,).

        Counts are rounded to integers, which measured ones are already.
        """
        columns = (
            self.tokens,
            self.prefill_seqs,
            self.context - self.decode_context,
            self.prefill_work,
            self.decode_seqs,
            self.decode_context,
            self.sampled,
        )
        tokens, prefills, prefill_context, _, decodes, decode_context, sampled = (
            np.rint(column).astype(np.int64).tolist() for column in columns
        )
        works = self.prefill_work.tolist()
        return np.array(
            [
                model.step_s(tokens[row], prefills[row], prefill_context[row], works[row], decodes[row],
                             decode_context[row], sampled[row])
                if prefills[row]
                else model.decode_run(decodes[row], decode_context[row])[0]
                for row in range(len(self))
            ],
            dtype=np.float64,
        )  # fmt: skip

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
            decode_seqs=np.zeros_like(sequences),
            decode_context=np.zeros_like(sequences),
            duration_s=_floats(duration_s),
        )

    @classmethod
    def of_decodes(cls, batch: ArrayLike, context_per_sequence: ArrayLike, duration_s: ArrayLike) -> StepTable:
        """Steps that each compute one token for ``batch`` sequences of the given context."""
        sequences = _floats(batch)
        context = sequences * _floats(context_per_sequence)
        return cls(
            tokens=sequences,
            sequences=sequences,
            context=context,
            prefill_work=np.zeros_like(sequences),
            sampled=sequences,
            decode_seqs=sequences,
            decode_context=context,
            duration_s=_floats(duration_s),
        )

    @classmethod
    def concatenate(cls, tables: Iterable[StepTable]) -> StepTable:
        """The rows of several tables, one after the other."""
        parts = list(tables)
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


def _floats(values: ArrayLike) -> Floats:
    return np.atleast_1d(np.asarray(values, dtype=np.float64))
