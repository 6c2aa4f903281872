"""What the sections of the latency models share: their base class and the types of their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from latency_models.errors import InputError

Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
# Strict, as pydantic would otherwise take true for 1 and "8" for 8.
Count = Annotated[int, Field(ge=1, strict=True)]
Tokens = Annotated[int, Field(ge=0, strict=True)]


class Section(BaseModel):
    """A part of the schema: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def refuse_in_pydantic(build: Callable[[], object]) -> None:
    """Turn our error into the kind that pydantic reports together with the place of the section."""
    try:
        build()
    except InputError as error:
        raise ValueError(str(error)) from error
