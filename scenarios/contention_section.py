"""The ``contention:`` section: how replicas that share a GPU slow each other down."""

from __future__ import annotations

from collections import Counter
from functools import partial

from pydantic import BaseModel, ConfigDict, model_validator

from latency_models.sections.base import refuse_in_pydantic
from sim.cluster_spec import ClusterSpec
from sim.sharing.contention import ContentionModel, contention_model

_MOST_NAMED = 8


class ContentionSection(BaseModel):
    """A contention model by name; its other keys are its options.  A name alone will do."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str = "isolated"

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _kind_knows_its_options(self) -> ContentionSection:
        refuse_in_pydantic(partial(contention_model, self.kind, self.model_extra or {}))
        return self

    def build(self) -> ContentionModel | None:
        """The model; ``None`` if neighbours do not matter."""
        return contention_model(self.kind, self.model_extra or {})


def contention_notes(cluster: ClusterSpec) -> tuple[str, ...]:
    """What a user should know: a model of neighbours where there are none, or neighbours without a model."""
    shards = Counter(gpu for model in cluster.models for replica in model.replicas for gpu in replica.gpus)
    shared = sorted(gpu for gpu, number in shards.items() if number > 1)
    if cluster.contention is not None and not shared:
        return ("contention has no effect, as no GPU has shards of two replicas",)
    if cluster.contention is None and shared:
        named = ", ".join(map(str, shared[:_MOST_NAMED])) + (", ..." if len(shared) > _MOST_NAMED else "")
        return (f"replicas that share a GPU ({named}) do not slow each other down, as contention is isolated",)
    return ()
