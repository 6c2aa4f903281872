"""How sections name a GPU or a model: a name of the catalogue, or a file of the user."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from latency_models.catalogue.architectures import Architecture, find_architecture
from latency_models.catalogue.gpus import GpuSpec, find_gpu
from latency_models.errors import InputError, invalid
from latency_models.sections.base import Section, refuse_in_pydantic
from latency_models.yaml_files import read_yaml


class CatalogueEntry(Section):
    """An entry of a user's catalogue, or a model's ``config.json``."""

    path: str = Field(description="YAML catalogue of the same form as the shipped one, or (models) a config.json.")
    name: str | None = Field(default=None, description="Entry of the catalogue; none for a config.json.")

    @model_validator(mode="after")
    def _a_catalogue_needs_a_name(self) -> CatalogueEntry:
        is_config = self.path.endswith(".json")
        if is_config and self.name is not None:
            raise ValueError("name goes with a YAML catalogue, whose entry it names, and not with a config.json")
        if not is_config and self.name is None:
            refuse_in_pydantic(self._ask_for_a_name)
        return self

    def _ask_for_a_name(self) -> None:
        path = Path(self.path)
        if path.suffix not in (".yaml", ".yml"):
            raise invalid("path", self.path, "a YAML catalogue (with name), or a model's config.json")
        entries = [
            name for section in read_yaml(path, "catalogue").values() if isinstance(section, dict) for name in section
        ]
        raise InputError(
            f"name is missing; give name: one of {', '.join(map(str, entries)) or 'the entries'} in {path}"
        )


def gpu_of(named: str | CatalogueEntry) -> GpuSpec:
    """The GPU that a section names; an unknown one is an InputError."""
    if isinstance(named, str):
        return find_gpu(named)
    if named.name is None:
        raise InputError(f"gpu.path is {named.path!r}; allowed: a YAML catalogue of GPUs, and the name of one in it")
    return find_gpu(named.name, Path(named.path))


def architecture_named(named: str | CatalogueEntry) -> Architecture:
    """The architecture that a section names; an unknown or unsupported one is an InputError."""
    if isinstance(named, str):
        return find_architecture(named)
    if named.name is None:
        return find_architecture(named.path)
    return find_architecture(named.name, Path(named.path))
