"""The ``prompts:`` section of a scenario: what requests ask, and what routers believe of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from latency_models.errors import unknown_name
from scenarios.prompt_tables.sections import AnyPrompts, prompt_table
from scenarios.section import Section
from sim.prompts import AnswerLengths, PromptSpec


class ScenarioPrompts(Section):
    """Every request has a prompt of a table, drawn with replacement."""

    table: AnyPrompts
    """``builtin``, or ``{path: prompts.csv}``, as in the file of ``routerwise optimize``."""
    lengths: AnswerLengths = "workload"
    """Lengths of the answers: the workload's; or the table's, by prompt and model (``table``); or the table's of that
    model, of a random prompt (``shuffled``)."""
    score_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Standard deviation of an error of each predicted score that routers see."""
    score_bias: dict[str, Annotated[float, Field(ge=-1, le=1)]] = Field(default_factory=dict)
    """By model: added to the predicted scores that routers see."""

    @model_validator(mode="before")
    @classmethod
    def _table_alone(cls, value: object) -> object:
        # `prompts: builtin` and `prompts: {path: ...}` are the table and nothing else, as in a problem file.
        is_table = isinstance(value, str) or (isinstance(value, dict) and ("path" in value or "builtin" in value))
        return {"table": value} if is_table else value

    def spec(self, columns: Mapping[str, str]) -> PromptSpec:
        """The prompts, with a column for each model.

        Parameters
        ----------
        columns : mapping of str to str
            Column of each model in the table.

        Raises
        ------
        InputError
            The table cannot be read, lacks a column or lengths, or a bias is of an unknown model.
        """
        for name in self.score_bias:
            if name not in columns:
                raise unknown_name("model in prompts.score_bias", name, columns)
        table, _ = prompt_table(self.table, columns)
        bias = tuple(self.score_bias.get(name, 0.0) for name in columns) if self.score_bias else ()
        return PromptSpec(table=table, lengths=self.lengths, score_noise=self.score_noise, score_bias=bias)
