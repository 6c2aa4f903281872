"""What all sections of the files that users write have in common."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Index = Annotated[int, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]


class Section(BaseModel):
    """Base of the schema: unknown keys and infinite numbers are errors, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _no_boolean_is_a_number(cls, values: Any) -> Any:
        """YAML's yes and true would count as 1."""
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if isinstance(value, bool) and name in cls.model_fields:
                scalars = _scalars(cls.model_fields[name].annotation)
                if bool not in scalars and float in scalars:
                    raise ValueError(f"{name} is {value}; allowed: a number")
        return values


def _scalars(annotation: Any) -> list[Any]:
    """Types that a value itself may have, leaving out what containers hold."""
    if get_origin(annotation) is Annotated:
        return _scalars(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [scalar for option in get_args(annotation) for scalar in _scalars(option)]
    return [annotation]
