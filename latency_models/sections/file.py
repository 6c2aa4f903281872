"""``latency: {kind: file, ...}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError, model_validator

from latency_models.errors import InputError
from latency_models.fits.model_files import ModelFile, check_model_name, read_model_file
from latency_models.sections.base import LatencySection, refuse_in_pydantic
from latency_models.step_time import StepTimeModel

if TYPE_CHECKING:
    from latency_models.config import LatencyConfig


class FileLatency(LatencySection):
    """A calibrated model: a file of ``routerwise calibrate``, or one that comes with the package."""

    kind: Literal["file"]
    path: str | None = Field(default=None, description="YAML file, relative to this one.")
    name: str | None = Field(default=None, description="Name of a model that comes with the package.")

    @model_validator(mode="after")
    def _can_be_built(self) -> FileLatency:
        refuse_in_pydantic(self.build)
        return self

    def read(self) -> ModelFile:
        """The file, with its valid range and notes."""
        return read_model_file(check_model_name(self.path, self.name))

    def notes(self) -> tuple[str, ...]:
        """What the file says that its user should know, and what is extrapolated."""
        return (*self.read().notes, *super().notes())

    def build(self) -> StepTimeModel:
        """The step-time model."""
        return self.base.build()

    @property
    def base(self) -> LatencyConfig:
        """The latency section in the file."""
        from latency_models.config import parse_latency  # which knows this section, so it cannot be imported above

        file = self.read()
        try:
            return parse_latency(dict(file.latency))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in ("latency", *first["loc"]))
            raise InputError(f"{file.path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
