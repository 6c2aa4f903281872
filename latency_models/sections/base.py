"""What the sections of the latency models share: their base class and the types of their numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from latency_models.errors import InputError
from latency_models.step_time import StepTimeModel

BUILT_IN = ("corrected", "file", "layers", "linear", "operators", "piecewise", "replay", "roofline", "share", "steps")
"""Kinds of latency models with a section of their own."""

MOST_SECONDS = 100.0
"""No step takes as long: a larger figure has another unit."""


def _is_no_truth_value(value: object) -> object:
    # pydantic takes true for 1.
    if isinstance(value, bool):
        raise ValueError(f"{value} is no number")
    return value


Number = Annotated[float, BeforeValidator(_is_no_truth_value), Field(allow_inf_nan=False)]
"""A finite number, also ``1e-3``, which is a text to YAML 1.1."""
Seconds = Annotated[Number, Field(ge=0.0, le=MOST_SECONDS)]
PositiveSeconds = Annotated[Number, Field(gt=0.0, le=MOST_SECONDS)]
Factor = Annotated[Number, Field(gt=0.0)]
Share = Annotated[Number, Field(gt=0.0, le=1.0)]
# Strict, as pydantic would otherwise take true for 1 and "8" for 8.
Count = Annotated[int, Field(ge=1, strict=True)]
Tokens = Annotated[int, Field(ge=0, strict=True)]


class Section(BaseModel):
    """A part of the schema: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LatencySection(Section, ABC):
    """A ``latency:`` section; a wrapping one has the wrapped one in ``base``."""

    @abstractmethod
    def build(self) -> StepTimeModel:
        """The step-time model."""

    def notes(self) -> tuple[str, ...]:
        """What a user should know of the model: that it is synthetic, scaled or extrapolated."""
        base = getattr(self, "base", None)
        return () if base is None else tuple(base.notes())

    def at_tp(self, tp: int) -> Self | None:
        """The section for another number of shards; ``None`` if it describes one number only."""
        return None


def refuse_in_pydantic(build: Callable[[], object]) -> None:
    """Turn our error into the kind that pydantic reports together with the place of the section."""
    try:
        build()
    except InputError as error:
        raise ValueError(str(error)) from error
