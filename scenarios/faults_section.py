"""The ``faults:`` section of a scenario: what crashes and when, and what becomes of the requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from latency_models.errors import invalid, unknown_name
from scenarios.section import Index, NonNegative, Section
from sim.fault_spec import MOST_RETRIES, Crash, FaultSpec, LostRequests, RandomCrashes


class CrashSection(Section):
    """A crash at a given time, of a replica or of a GPU with all that has a shard on it."""

    at_s: NonNegative
    """When, seconds from the start."""
    model: str | None = None
    """Whose replica crashes."""
    replica: Index | None = None
    """Of the model; default: the first."""
    gpu: Index | None = None
    """Or which GPU, from 0."""
    restart_s: NonNegative | Literal["never"] | None = None
    """Seconds until what was lost starts again, before the model is loaded; default: the section's."""

    @model_validator(mode="after")
    def _one_thing_crashes(self) -> CrashSection:
        if (self.model is None) == (self.gpu is None):
            raise ValueError("a crash is of a replica or of a GPU; give model (and replica), or gpu")
        if self.gpu is not None and self.replica is not None:
            raise ValueError("replica has no effect beside gpu; leave it out")
        return self


class RandomCrashesSection(Section):
    """Crashes at random times, with exponential times of being up."""

    each: Literal["gpu", "replica"]
    """What crashes: every GPU, or every replica, on its own."""
    mean_time_between_s: Annotated[float, Field(ge=1e-3)]
    """Mean seconds of being up."""
    model: str | None = None
    """Only replicas of this model."""
    restart_s: NonNegative | None = None
    """Seconds from a crash until the loading begins; default: the section's."""

    @model_validator(mode="after")
    def _model_goes_with_replicas(self) -> RandomCrashesSection:
        if self.model is not None and self.each == "gpu":
            raise ValueError("model has no effect with each: gpu; leave it out, or set each: replica")
        return self


class FaultsSection(Section):
    """What fails.

    A replica that crashes loses its requests, keys and values, and answers again when it has restarted and loaded its
    model.
    """

    load_s: NonNegative | dict[str, NonNegative]
    """Seconds that a replica takes to load its model, after a restart and with a cold start; a number, or by model."""
    restart_s: NonNegative = 0.0
    """Seconds from a crash until the loading begins."""
    cold_start: bool | Annotated[tuple[str, ...], Field(min_length=1)] = False
    """Models whose replicas begin to load at time 0, or true for all; others are up from the start."""
    crashes: tuple[CrashSection, ...] = ()
    """Crashes at given times."""
    random_crashes: tuple[RandomCrashesSection, ...] = ()
    """Crashes at random times."""
    lost_requests: LostRequests = "retry"
    """What becomes of requests that lose their replica or find none: another replica of the model answers them from the
    start, or they wait for one (retry); another model answers if none is up (reroute); or they end as failed (fail)."""
    most_retries: Annotated[int, Field(ge=0, le=1000, strict=True)] | None = None
    """How often a request is started again before it has failed; default: 3."""

    @model_validator(mode="after")
    def _something_fails(self) -> FaultsSection:
        if not (self.crashes or self.random_crashes or self.cold_start):
            raise ValueError("nothing fails; give crashes, random_crashes or cold_start, or leave faults out")
        if self.lost_requests == "fail" and self.most_retries is not None:
            raise ValueError("most_retries has no effect with lost_requests: fail; leave it out")
        return self

    def build(self, models: Sequence[str]) -> FaultSpec:
        """The faults of a cluster of these models, in this order.

        Raises
        ------
        InputError
            A model is unknown, or has no loading time.
        """
        if isinstance(self.load_s, dict):
            for name in self.load_s:
                _index("load_s", name, models)
            for name in models:
                if name not in self.load_s:
                    raise invalid("faults.load_s", self.load_s, f"seconds for every model, also for {name}")
            load_s = tuple(self.load_s[name] for name in models)
        else:
            load_s = (self.load_s,) * len(models)
        if isinstance(self.cold_start, bool):
            cold = tuple(range(len(models))) if self.cold_start else ()
        else:
            cold = tuple(_index("cold_start", name, models) for name in self.cold_start)
        return FaultSpec(
            load_s=load_s,
            restart_s=self.restart_s,
            crashes=tuple(
                Crash(
                    at_s=crash.at_s,
                    model=None if crash.model is None else _index("crashes", crash.model, models),
                    replica=crash.replica or 0,
                    gpu=crash.gpu,
                    restart_s=math.inf if crash.restart_s == "never" else crash.restart_s,
                )
                for crash in self.crashes
            ),
            random_crashes=tuple(
                RandomCrashes(
                    each=rule.each,
                    mean_time_between_s=rule.mean_time_between_s,
                    model=None if rule.model is None else _index("random_crashes", rule.model, models),
                    restart_s=rule.restart_s,
                )
                for rule in self.random_crashes
            ),
            cold_models=cold,
            lost_requests=self.lost_requests,
            most_retries=MOST_RETRIES if self.most_retries is None else self.most_retries,
        )


def _index(field: str, name: str, models: Sequence[str]) -> int:
    if name not in models:
        raise unknown_name(f"model in faults.{field}", name, models)
    return models.index(name)
