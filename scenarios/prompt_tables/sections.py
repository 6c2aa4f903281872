"""How a problem or a scenario names its prompt table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from scenarios.prompt_tables.item_response import built_in_table
from scenarios.prompt_tables.layouts import read_score_file
from scenarios.section import Section
from sim.prompt_table import PromptTable

_BUILT_IN_PROMPTS = 4000


class PathSection(Section):
    """A file, relative to the file that names it."""

    path: str
    """The file."""


class PromptFile(PathSection):
    """A prompt table of the user."""

    tokens: PathSection | None = None
    """Output tokens, where they are in a file of their own."""
    predicted: Literal["predicted", "outcomes"] = "predicted"
    """Route by predicted scores, or, as an oracle, by true outcomes."""


class BuiltInPrompts(Section):
    """The built-in table; a model's ``scores`` says like which recorded model it answers."""

    builtin: Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
    """Number of prompts."""
    seed: Annotated[int, Field(ge=0, strict=True)] = 1
    """Of the drawn prompts."""


def _branch(value: Any) -> str:
    """Which of the spellings a value is meant as, so that a fault is told of that one alone."""
    if isinstance(value, BuiltInPrompts) or (isinstance(value, Mapping) and "builtin" in value):
        return "BuiltInPrompts"
    return "PromptFile" if isinstance(value, PromptFile | Mapping) else "name"


AnyPrompts = Annotated[
    Annotated[Literal["builtin"], Tag("name")]
    | Annotated[BuiltInPrompts, Tag("BuiltInPrompts")]
    | Annotated[PromptFile, Tag("PromptFile")],
    Discriminator(_branch),
]
"""The ``prompts:`` section."""


def prompt_table(prompts: AnyPrompts, columns: Mapping[str, str]) -> tuple[PromptTable, list[str]]:
    """The table with the models of a file, which may share a column.

    Parameters
    ----------
    prompts : section
        Where the table comes from.
    columns : mapping of str to str
        Column of each model.

    Returns
    -------
    PromptTable
        Its columns are the models, in the order of ``columns``.
    list of str
        What the user should know.

    Raises
    ------
    InputError
        The file cannot be read, or has no such columns.
    """
    needed = list(dict.fromkeys(columns.values()))
    notes = []
    if isinstance(prompts, PromptFile):
        tokens = None if prompts.tokens is None else Path(prompts.tokens.path)
        found = read_score_file(Path(prompts.path), needed, tokens=tokens)
        table = found.table(oracle=prompts.predicted == "outcomes")
        if found.left_out:
            notes.append(f"{found.left_out} prompts left out, on which some model was not evaluated")
        if prompts.predicted == "outcomes":
            notes.append("routing knows every outcome (predicted: outcomes): scores are an upper limit, no forecast")
    else:
        table = (
            built_in_table(needed, prompts=_BUILT_IN_PROMPTS)
            if prompts == "builtin"
            else built_in_table(needed, prompts=prompts.builtin, seed=prompts.seed)
        )
        notes.append("prompts are drawn from a model of MMLU-Pro outcomes, not yours")
    where = [needed.index(column) for column in columns.values()]
    return (
        PromptTable(
            models=tuple(columns),
            predicted=table.predicted[:, where],
            outcomes=None if table.outcomes is None else table.outcomes[:, where],
            output_tokens=None if table.output_tokens is None else table.output_tokens[:, where],
            prompt_ids=table.prompt_ids,
        ),
        notes,
    )
