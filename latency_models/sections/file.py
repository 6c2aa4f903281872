"""``latency: {kind: file, ...}``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError, model_validator

from latency_models.errors import InputError
from latency_models.fits.model_files import ModelFile, check_model_name, read_model_file, shipped_models
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
        return _read(*self._version())

    def notes(self) -> tuple[str, ...]:
        """What the file says that its user should know, and what is extrapolated."""
        return (*self.read().notes, *super().notes())

    def at_tp(self, tp: int) -> FileLatency | None:
        """The model that is called the same but for the number after ``-tp``, if there is one.

        Shipped models are called so; for a file it is one beside it, such as ``mine-tp2.yaml`` for ``mine-tp1.yaml``.
        """
        given = Path(self.path) if self.path is not None else None
        stem, of_tp, _ = (str(self.name) if given is None else given.stem).rpartition("-tp")
        name = f"{stem}{of_tp}{tp}"
        if not of_tp:
            return None
        if given is None:
            return FileLatency(kind="file", name=name) if name in shipped_models() else None
        beside = given.with_stem(name)
        return FileLatency(kind="file", path=str(beside)) if beside.is_file() else None

    def build(self) -> StepTimeModel:
        """The step-time model."""
        return self.base.build()

    @property
    def base(self) -> LatencyConfig:
        """The latency section in the file."""
        return _section(*self._version())

    def _version(self) -> tuple[Path, int]:
        """The file and when it was written; 0 if it is not there, which reading it says."""
        path = check_model_name(self.path, self.name)
        return path, path.stat().st_mtime_ns if path.is_file() else 0


# A section is asked for its file again and again, by its checks, its notes and everything that wraps it.
@lru_cache(maxsize=128)
def _read(path: Path, written_ns: int) -> ModelFile:
    return read_model_file(path)


@lru_cache(maxsize=128)
def _section(path: Path, written_ns: int) -> LatencyConfig:
    from latency_models.config import parse_latency  # which knows this section, so it cannot be imported above

    file = _read(path, written_ns)
    try:
        return parse_latency(dict(file.latency))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in ("latency", *first["loc"]))
        raise InputError(f"{file.path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
