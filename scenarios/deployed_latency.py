"""A model's latency section at the tp and the compute share that it is deployed with."""

from __future__ import annotations

from pydantic import ValidationError

from latency_models.config import LatencyConfig, parse_latency
from latency_models.errors import InputError, invalid
from scenarios.model_section import ModelSection


def own_tp(section: ModelSection) -> int:
    """The degree that the model's latency section describes.

    Raises
    ------
    InputError
        Its replicas differ in it.
    """
    if isinstance(section.replicas, int):
        return section.tp or 1
    degrees = {len(replica.gpus) for replica in section.replicas}
    if len(degrees) > 1:
        raise invalid("number of GPUs of the replicas", sorted(degrees), "one tp for all replicas of a model")
    return degrees.pop()


def latency_at_tp(section: ModelSection, tp: int) -> LatencyConfig | None:
    """The model's latency section at another degree; ``None`` if it cannot tell.

    Raises
    ------
    InputError
        The model cannot be split so.
    """
    if tp == own_tp(section):
        return section.latency
    try:
        return section.latency.at_tp(tp)
    except ValidationError as error:
        raise InputError(_reasons(error)) from None


def at_share(latency: LatencyConfig, share: float) -> LatencyConfig:
    """The section when each shard has a share of its GPU's compute units.

    Raises
    ------
    InputError
        The kind cannot tell how it slows down.
    """
    if share == 1.0:
        return latency
    base = latency.model_dump(mode="json", by_alias=True, exclude_none=True)
    try:
        return parse_latency({"kind": "share", "share": share, "base": base})
    except ValidationError as error:
        raise InputError(_reasons(error)) from None


def _reasons(error: ValidationError) -> str:
    return "; ".join(str(fault["msg"]).removeprefix("Value error, ") for fault in error.errors())
