"""The ``prompts:`` section of a scenario: what requests ask, and what routers believe of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from latency_models.errors import InputError, unknown_name
from scenarios.prompt_tables.sections import AnyPrompts, prompt_table
from scenarios.section import Section
from sim.prompt_table import Floats, PromptTable
from sim.prompts import AnswerLengths, PromptDraws, PromptSpec


class DriftSection(Section):
    """Some prompts come more often: the harder, or those with longer answers.

    Prompt i comes with a weight of exp(strength z_i), where z is its hardness (less the mean score of all models: true
    outcomes, or predictions if the table has none) or its mean length, standardised over the table: one standard
    deviation more makes a prompt e^strength times as frequent.
    """

    towards: Literal["hard", "long"]
    """What comes more often: hard prompts, or those with long answers."""
    strength: Annotated[float, Field(ge=0, le=10)]
    """Exponent per standard deviation; 0 is no drift."""

    def weights(self, table: PromptTable) -> Floats:
        """How often each prompt comes, shape (N,), in no unit.

        Raises
        ------
        InputError
            The table has no lengths that ``long`` could go by.
        """
        if self.towards == "hard":
            known = table.predicted if table.outcomes is None else table.outcomes
            rising = -known.mean(axis=1)
        elif table.output_tokens is None:
            raise InputError("prompts.drift is towards long, but the prompt table has no output_tokens; use hard")
        else:
            rising = table.output_tokens.mean(axis=1)
        spread = float(rising.std())
        standardised = (rising - rising.mean()) / spread if spread > 0 else np.zeros(len(rising))
        weights: Floats = np.exp(self.strength * (standardised - standardised.max()))
        return weights


class ScenarioPrompts(Section):
    """Every request has a prompt of a table, drawn with replacement."""

    table: AnyPrompts
    """``builtin``, or ``{path: prompts.csv}``, as in the file of ``routerwise optimize``."""
    lengths: AnswerLengths = "workload"
    """Lengths of the answers: the workload's; or the table's, by prompt and model (``table``); or the table's of that
    model, of a random prompt (``shuffled``)."""
    length_factor: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Factor on the lengths of the answers that the table has."""
    drift: DriftSection | None = None
    """Which prompts come more often than others; default: all alike."""
    draws: PromptDraws = "independent"
    """Each request's prompt on its own, or every prompt of the table equally often (``in-turn``)."""
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

    @model_validator(mode="after")
    def _factor_has_an_effect(self) -> ScenarioPrompts:
        if self.length_factor != 1.0 and self.lengths == "workload":
            raise ValueError("length_factor has no effect with lengths: workload; leave it out, or set lengths: table")
        return self

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
        weights = None if self.drift is None else self.drift.weights(table)
        if self.length_factor != 1.0 and table.output_tokens is not None:
            table = replace(table, output_tokens=table.output_tokens * self.length_factor)
        return PromptSpec(
            table=table,
            lengths=self.lengths,
            weights=weights,
            draws=self.draws,
            score_noise=self.score_noise,
            score_bias=bias,
        )
