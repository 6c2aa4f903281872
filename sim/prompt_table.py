"""What is known of every prompt, by model: the score that a router predicts, the true outcome, the answer's length."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import InputError, invalid, unknown_name

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptTable:
    """Scores of N prompts and M models; the arrays are copied and cannot be written to.

    Parameters
    ----------
    models : tuple of str, length M
        Names of the columns.
    predicted : array, shape (N, M)
        Scores in [0, 1] that a router predicts before the answer exists.
    outcomes : array, shape (N, M), optional
        True scores of the answers, in [0, 1].
    output_tokens : array, shape (N, M), optional
        Lengths of the answers.
    prompt_ids : tuple of str, length N
        Names of the prompts; default: their numbers.

    Raises
    ------
    InputError
        A table is empty, of another shape, or holds what is no score or no length; prompt and model are named.
    """

    models: tuple[str, ...]
    predicted: Floats
    outcomes: Floats | None = None
    output_tokens: Floats | None = None
    prompt_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.models or not all(isinstance(name, str) and name for name in self.models):
            raise invalid("models of the prompt table", list(self.models), "at least one name")
        if len(set(self.models)) < len(self.models):
            raise invalid("models of the prompt table", list(self.models), "each name once")
        predicted = _frozen("predicted scores", self.predicted)
        if predicted.ndim != 2 or predicted.shape[0] == 0:
            raise InputError(f"prompt table has no prompts (shape {predicted.shape}); allowed: one row per prompt")
        if predicted.shape[1] != len(self.models):
            raise invalid("columns of the predicted scores", predicted.shape[1], f"{len(self.models)}, one per model")
        ids = tuple(str(name) for name in self.prompt_ids) or tuple(str(number) for number in range(len(predicted)))
        if len(ids) != len(predicted):
            raise invalid("number of prompt_ids", len(ids), f"{len(predicted)}, one per prompt")
        if len(set(ids)) < len(ids):
            twice = next(name for name, count in Counter(ids).items() if count > 1)
            raise invalid("prompt_ids", twice, "each prompt once")
        object.__setattr__(self, "prompt_ids", ids)
        self._store("predicted", "predicted scores", predicted, highest=1.0)
        for field, what, highest in (("outcomes", "outcomes", 1.0), ("output_tokens", "output tokens", np.inf)):
            given = getattr(self, field)
            if given is not None:
                self._store(field, what, _frozen(what, given), highest=highest)

    def _store(self, field: str, what: str, values: Floats, *, highest: float) -> None:
        shape = (len(self.prompt_ids), len(self.models))
        if values.shape != shape:
            raise invalid(f"shape of the {what}", values.shape, f"{shape}, as that of the predicted scores")
        bad = ~(np.isfinite(values) & (values >= 0.0) & (values <= highest))
        if bad.any():
            row, column = (int(index) for index in np.argwhere(bad)[0])
            allowed = "a score from 0 to 1" if highest == 1.0 else "a finite number >= 0"
            more = f" ({int(bad.sum())} such values)" if bad.sum() > 1 else ""
            raise invalid(
                f"{what}: prompt {self.prompt_ids[row]}, model {self.models[column]}",
                float(values[row, column]),
                f"{allowed}{more}",
                "Leave out prompts that were not evaluated, and scale scores to [0, 1].",
            )
        object.__setattr__(self, field, values)

    @property
    def prompts(self) -> int:
        """Number of prompts."""
        return len(self.prompt_ids)

    def select(self, models: Sequence[str]) -> PromptTable:
        """The table of these models, in this order.

        Raises
        ------
        InputError
            A model has no column.
        """
        for name in models:
            if name not in self.models:
                raise unknown_name("model in the prompt table", name, self.models)
        columns = [self.models.index(name) for name in models]
        return PromptTable(
            models=tuple(models),
            predicted=self.predicted[:, columns],
            outcomes=None if self.outcomes is None else self.outcomes[:, columns],
            output_tokens=None if self.output_tokens is None else self.output_tokens[:, columns],
            prompt_ids=self.prompt_ids,
        )

    def without_truth(self) -> PromptTable:
        """The table as a router may see it: predictions only."""
        return PromptTable(models=self.models, predicted=self.predicted, prompt_ids=self.prompt_ids)

    def content_hash(self) -> str:
        """SHA-256 over models, prompts and values, for provenance."""
        digest = hashlib.sha256("\0".join((*self.models, "", *self.prompt_ids)).encode())
        for values in (self.predicted, self.outcomes, self.output_tokens):
            digest.update(b"-" if values is None else values.tobytes())
        return digest.hexdigest()


def _frozen(what: str, values: Any) -> Floats:
    try:
        copy = np.array(values, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} are no table of numbers: {error}") from None
    copy.setflags(write=False)
    return copy
