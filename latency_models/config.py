"""The ``latency:`` section of a scenario: one kind of section per step-time model.

``kind`` chooses the model.  The built-in kinds are checked field by field (``latency_models/sections``); any other kind
is looked up among the registered plug-ins, whose class gets the section's other keys as keyword arguments.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag, TypeAdapter

from latency_models.sections.base import BUILT_IN
from latency_models.sections.corrected import CorrectedLatency
from latency_models.sections.file import FileLatency
from latency_models.sections.layers import LayersLatency
from latency_models.sections.linear import LinearLatency
from latency_models.sections.operators import OperatorLatency
from latency_models.sections.piecewise import PiecewiseLatency
from latency_models.sections.plugin import PluginLatency
from latency_models.sections.replay import ReplayLatency
from latency_models.sections.roofline import RooflineLatency
from latency_models.sections.share import ShareLatency
from latency_models.sections.steps import StepsLatency
from latency_models.step_time import StepTimeModel


def _kind_of(section: object) -> str | None:
    """Which part of the union a section belongs to; without a ``kind`` there is none."""
    kind = section.get("kind") if isinstance(section, dict) else getattr(section, "kind", None)
    if not isinstance(kind, str):
        return None
    return kind if kind in BUILT_IN else "plugin"


LatencyConfig = Annotated[
    Annotated[CorrectedLatency, Tag("corrected")]
    | Annotated[FileLatency, Tag("file")]
    | Annotated[LayersLatency, Tag("layers")]
    | Annotated[LinearLatency, Tag("linear")]
    | Annotated[OperatorLatency, Tag("operators")]
    | Annotated[PiecewiseLatency, Tag("piecewise")]
    | Annotated[RooflineLatency, Tag("roofline")]
    | Annotated[ReplayLatency, Tag("replay")]
    | Annotated[ShareLatency, Tag("share")]
    | Annotated[StepsLatency, Tag("steps")]
    | Annotated[PluginLatency, Tag("plugin")],
    Discriminator(
        _kind_of,
        custom_error_type="latency_kind",
        custom_error_message=f"the key 'kind' must name a latency model: {', '.join(BUILT_IN)} or a plug-in",
    ),
]
"""Type of the ``latency:`` section, for use as a field of a pydantic model."""

for _wrapper in (CorrectedLatency, ShareLatency):
    _wrapper.model_rebuild(_types_namespace={"LatencyConfig": LatencyConfig})


def parse_latency(section: object) -> LatencyConfig:
    """Validate a ``latency:`` section given as plain values.

    Raises
    ------
    pydantic.ValidationError
        If it does not follow the schema.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(LatencyConfig)
    config: LatencyConfig = adapter.validate_python(section)
    return config


def build_step_time(config: LatencyConfig) -> StepTimeModel:
    """Build the step-time model that a ``latency:`` section describes.

    Returns
    -------
    StepTimeModel
        A pure model; replicas may share it.

    Raises
    ------
    InputError
        If the model refuses its options.
    """
    return config.build()
