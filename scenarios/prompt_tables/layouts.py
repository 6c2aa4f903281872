"""What the columns of a prompt table mean: our own layout, RouterBench's, and outcomes in wide or long form.

=============  ==============================================================================================
layout         columns
=============  ==============================================================================================
routerwise     ``prompt_id``, and for each model ``predicted.MODEL``, ``outcome.MODEL``, ``output_tokens.MODEL``
routerbench    ``sample_id``, ``prompt``, ``eval_name``, and for each model ``MODEL`` (score), ``MODEL|...``
wide           ``question_id`` or ``prompt_id``, and for each model ``MODEL`` (outcome, empty: not evaluated)
long           ``prompt_id``, ``model``, ``correct``, optional ``output_tokens``; one row per prompt and model
=============  ==============================================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from latency_models.errors import InputError, invalid, unknown_name
from scenarios.prompt_tables.columns import Columns, numbers, read_columns
from sim.prompt_table import Floats, PromptTable

Layout = Literal["routerwise", "routerbench", "wide", "long"]

_IDS = ("prompt_id", "question_id", "sample_id")
_TEXTS = ("prompt", "question")
_PREDICTED, _OUTCOME, _TOKENS = "predicted.", "outcome.", "output_tokens."
_DESCRIPTIONS = (*_IDS, *_TEXTS, "category", "src", "task", "question_tokens", "prompt_tokens", "answer", "eval_name")
"""Columns of wide tables that are no models."""
_ROUTERBENCH_MARK = "|"
"""In the names of its columns of answers and costs, which are large and of no use here."""
_ROUTERBENCH_DESCRIPTIONS = (*_DESCRIPTIONS, "oracle_model_to_route_to")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreFile:
    """What a file says of its prompts; predictions, lengths and texts may be missing.

    Parameters
    ----------
    layout : str
        Which layout was recognised.
    models, prompt_ids : tuple of str
        Names of the M models and N prompts.
    predicted, outcomes, output_tokens : array, shape (N, M), optional
        As in :class:`sim.prompt_table.PromptTable`.
    texts : tuple of str, length N, optional
        The prompts themselves.
    left_out : int
        Prompts that were left out, as some model was not evaluated on them.
    """

    layout: Layout
    models: tuple[str, ...]
    prompt_ids: tuple[str, ...]
    predicted: Floats | None = None
    outcomes: Floats | None = None
    output_tokens: Floats | None = None
    texts: tuple[str, ...] | None = None
    left_out: int = 0

    def table(self, *, oracle: bool = False) -> PromptTable:
        """The prompt table.

        Parameters
        ----------
        oracle : bool
            Take the outcomes for predictions: a router that knows each answer's score beforehand.

        Raises
        ------
        InputError
            There are no predictions (or no outcomes for the oracle), or values that are no scores.
        """
        if oracle and self.outcomes is None:
            raise InputError("the prompt table has no outcomes, which an oracle needs; leave predicted: outcomes out")
        predicted = self.outcomes if oracle else self.predicted
        if predicted is None:
            raise InputError(
                f"the prompt table (layout {self.layout}) has outcomes but no predicted scores; make predictions with "
                "`routerwise scores fit`, or say predicted: outcomes for a router that knows every outcome"
            )
        return PromptTable(
            models=self.models,
            predicted=predicted,
            outcomes=self.outcomes,
            output_tokens=self.output_tokens,
            prompt_ids=self.prompt_ids,
        )


def read_score_file(path: Path, models: Sequence[str] | None = None, *, tokens: Path | None = None) -> ScoreFile:
    """Read a table in any of the layouts.

    Parameters
    ----------
    path : Path
        The file.
    models : sequence of str, optional
        Models to keep, in this order; default: all of the file.
    tokens : Path, optional
        Output tokens, in a file of the wide layout with the same prompts.

    Raises
    ------
    InputError
        The file cannot be read, its layout is not known, a model has no column, or a cell is no number.
    """
    columns = read_columns(path, without=_ROUTERBENCH_MARK)
    layout = recognise(path, columns)
    read = {"routerwise": _own, "long": _long}.get(layout, _wide)
    found = read(path, columns, models, layout)
    if tokens is None:
        return found
    if found.output_tokens is not None:
        raise InputError(f"{path} has output tokens already; leave out the file {tokens}")
    return _with_tokens(found, tokens)


def recognise(path: Path, columns: Columns) -> Layout:
    """Which layout the columns are of."""
    if any(name.startswith((_PREDICTED, _OUTCOME)) for name in columns):
        return "routerwise"
    if {"prompt_id", "model", "correct"} <= set(columns):
        return "long"
    if {"sample_id", "eval_name"} <= set(columns):
        return "routerbench"
    if any(name in columns for name in _IDS):
        return "wide"
    raise InputError(
        f"{path} is no prompt table: columns {', '.join(list(columns)[:8])}; allowed: prompt_id with predicted.MODEL, "
        "outcome.MODEL and output_tokens.MODEL columns, or one of the layouts in docs/optimizer.md"
    )


def read_texts(path: Path, prompt_ids: Sequence[str]) -> tuple[str, ...]:
    """Texts of the prompts, from a file with an id and a ``prompt`` or ``question`` column.

    Raises
    ------
    InputError
        A column or a prompt is missing.
    """
    columns = read_columns(path)
    name = next((name for name in _TEXTS if name in columns), None)
    if name is None:
        raise InputError(f"{path} has no texts: columns {', '.join(columns)}; allowed: one of {', '.join(_TEXTS)}")
    by_id = dict(zip(_ids(path, columns), map(str, columns[name]), strict=True))
    missing = next((prompt for prompt in prompt_ids if prompt not in by_id), None)
    if missing is not None:
        raise InputError(f"{path} has no text of prompt {missing}; allowed: a text for every prompt of the outcomes")
    return tuple(by_id[prompt] for prompt in prompt_ids)


def _own(path: Path, columns: Columns, models: Sequence[str] | None, layout: Layout) -> ScoreFile:
    named = [name.split(".", 1)[1] for name in columns if name.startswith((_PREDICTED, _OUTCOME))]
    kept = _chosen(path, list(dict.fromkeys(named)), models)
    tables: dict[str, Floats | None] = {}
    for prefix in (_PREDICTED, _OUTCOME, _TOKENS):
        present = [name for name in kept if prefix + name in columns]
        if present and len(present) < len(kept):
            missing = next(name for name in kept if name not in present)
            raise InputError(f"{path} has no column {prefix}{missing}; allowed: {prefix}MODEL for all models or none")
        tables[prefix] = _matrix(path, columns, [prefix + name for name in kept]) if present else None
    return ScoreFile(
        layout=layout,
        models=kept,
        prompt_ids=_ids(path, columns),
        predicted=tables[_PREDICTED],
        outcomes=tables[_OUTCOME],
        output_tokens=tables[_TOKENS],
        texts=_texts(columns),
    )


def _wide(path: Path, columns: Columns, models: Sequence[str] | None, layout: Layout) -> ScoreFile:
    other = _ROUTERBENCH_DESCRIPTIONS if layout == "routerbench" else _DESCRIPTIONS
    kept = _chosen(path, [name for name in columns if name not in other], models)
    return _complete(
        path,
        ScoreFile(
            layout=layout,
            models=kept,
            prompt_ids=_ids(path, columns),
            outcomes=_matrix(path, columns, kept, empty_is_nan=True),
            texts=_texts(columns),
        ),
    )


def _long(path: Path, columns: Columns, models: Sequence[str] | None, layout: Layout) -> ScoreFile:
    of_model = [str(name) for name in columns["model"]]
    kept = _chosen(path, list(dict.fromkeys(of_model)), models)
    of_prompt = [str(name) for name in columns["prompt_id"]]
    ids = tuple(dict.fromkeys(of_prompt))
    row_of, column_of = {name: i for i, name in enumerate(ids)}, {name: i for i, name in enumerate(kept)}
    values = {"correct": np.full((len(ids), len(kept)), np.nan)}
    if "output_tokens" in columns:
        values["output_tokens"] = np.full((len(ids), len(kept)), np.nan)
    for what, table in values.items():
        cells = numbers(f"{path}, column {what}", columns[what])
        for prompt, model, cell in zip(of_prompt, of_model, cells.tolist(), strict=True):
            if model not in column_of:
                continue
            if not np.isnan(table[row_of[prompt], column_of[model]]):
                raise InputError(f"{path} has prompt {prompt} twice for model {model}; allowed: once")
            table[row_of[prompt], column_of[model]] = cell
    return _complete(
        path,
        ScoreFile(
            layout=layout,
            models=kept,
            prompt_ids=ids,
            outcomes=values["correct"],
            output_tokens=values.get("output_tokens"),
        ),
    )


def _complete(path: Path, found: ScoreFile) -> ScoreFile:
    """Only the prompts on which every model was evaluated."""
    assert found.outcomes is not None
    keep = np.isfinite(found.outcomes).all(axis=1)
    if not keep.any():
        raise InputError(
            f"{path} has no prompt on which all of {', '.join(found.models)} were evaluated; leave some out"
        )
    rows = np.flatnonzero(keep)
    return replace(
        found,
        prompt_ids=tuple(found.prompt_ids[row] for row in rows),
        outcomes=found.outcomes[rows],
        output_tokens=None if found.output_tokens is None else found.output_tokens[rows],
        texts=None if found.texts is None else tuple(found.texts[row] for row in rows),
        left_out=len(found.prompt_ids) - len(rows),
    )


def _with_tokens(found: ScoreFile, path: Path) -> ScoreFile:
    columns = read_columns(path)
    row_of = {name: row for row, name in enumerate(_ids(path, columns))}
    _chosen(path, [name for name in columns if name not in _DESCRIPTIONS], found.models)
    missing = next((prompt for prompt in found.prompt_ids if prompt not in row_of), None)
    if missing is not None:
        raise InputError(f"{path} has no row for prompt {missing}; allowed: one for every prompt of the outcomes")
    rows = [row_of[prompt] for prompt in found.prompt_ids]
    table = _matrix(path, {name: [columns[name][row] for row in rows] for name in found.models}, found.models)
    return replace(found, output_tokens=table)


def _chosen(path: Path, available: list[str], models: Sequence[str] | None) -> tuple[str, ...]:
    if not available:
        raise InputError(f"{path} has no model columns; see the layouts in docs/optimizer.md")
    for name in models or ():
        if name not in available:
            raise unknown_name(f"model in {path.name}", name, available)
    return tuple(models or available)


def _matrix(path: Path, columns: Columns, names: Sequence[str], *, empty_is_nan: bool = False) -> Floats:
    return np.column_stack(
        [numbers(f"{path}, column {name}", columns[name], empty_is_nan=empty_is_nan) for name in names]
    )


def _ids(path: Path, columns: Columns) -> tuple[str, ...]:
    name = next((name for name in _IDS if name in columns), None)
    if name is None:
        raise InputError(f"{path} has no column prompt_id; columns: {', '.join(list(columns)[:8])}")
    nameless = next((row for row, value in enumerate(columns[name], start=1) if value in ("", None)), None)
    if nameless is not None:
        raise invalid(f"{path}, column {name}, row {nameless}", columns[name][nameless - 1], "the name of a prompt")
    ids = tuple(str(value) for value in columns[name])
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise invalid(f"{path}: {name}", twice, "each prompt once")
    return ids


def _texts(columns: Columns) -> tuple[str, ...] | None:
    return tuple(str(value) for value in columns["prompt"]) if "prompt" in columns else None
