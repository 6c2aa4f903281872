"""The ``workload:`` section of a scenario: its schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, WrapValidator, model_validator

from latency_models.errors import RouterwiseError
from scenarios.section import Section
from scenarios.workloads.arrival_processes import AnyArrivals
from scenarios.workloads.generators import Bounds, RequestLabels, SharedPrefix
from scenarios.workloads.lengths import (
    MAX_TOKENS,
    AnyLength,
    ConditionalLengths,
    IndependentLengths,
    JointPairs,
)
from scenarios.workloads.think_times import AnyThinkTime
from scenarios.workloads.transforms import AnyTransform


def _explained(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Let the checks of the domain objects report as validation errors, which say where in the file they are."""
    try:
        return validate(value)
    except RouterwiseError as error:
        raise ValueError(str(error)) from None


_Explained = WrapValidator(_explained)


class TraceLengths(Section):
    """Pairs of lengths drawn from those of a trace's requests, each equally likely."""

    kind: Literal["trace"]
    path: Path
    """The trace."""
    format: str = "auto"
    """Its format, as in a workload of kind trace."""
    drop_empty: bool = False
    """Leave out requests without prompt or output."""


def _tag_independent(value: Any) -> Any:
    """Accept ``{prompt: ..., output: ...}`` without a kind."""
    if isinstance(value, dict) and "kind" not in value and {"prompt", "output"} & value.keys():
        return {"kind": "independent", **value}
    return value


def _tagged(value: Any, validate: Callable[[Any], Any]) -> Any:
    return _explained(_tag_independent(value), validate)


Lengths = Annotated[
    Annotated[IndependentLengths | JointPairs | ConditionalLengths | TraceLengths, Field(discriminator="kind")],
    WrapValidator(_tagged),
]
Arrivals = Annotated[AnyArrivals, _Explained]
Length = Annotated[AnyLength, _Explained]
Prefix = Annotated[SharedPrefix, _Explained]
Think = Annotated[float, Field(ge=0)] | Annotated[AnyThinkTime, _Explained]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class _Labelled(Section):
    """Client with a model and a class of its own."""

    name: Annotated[str, Field(min_length=1)] | None = None
    """Name in a mixture: it keeps the client's random streams when others are added; default: its position."""
    model: str | None = None
    """Model that all requests name, for ``routing: pinned``."""
    request_class: str | None = Field(default=None, alias="class")
    """Class of the requests, by which results are split."""


class _Generated(_Labelled):
    """Client whose requests are generated."""

    priority: int = 0
    """Lower goes first, where ``engine.scheduling_policy`` is ``priority``."""
    deadline_s: Positive | None = None
    """Seconds after arrival at which the service gives a request up that has not ended."""
    cancel_after_s: Positive | None = None
    """Seconds after arrival at which the client cancels a request that has not ended."""

    def labels(self) -> RequestLabels:
        """What every request carries."""
        return RequestLabels(
            model=self.model,
            request_class=self.request_class,
            priority=self.priority,
            deadline_s=self.deadline_s,
            cancel_after_s=self.cancel_after_s,
        )


class _Bounded(_Generated):
    """Generated client that ends after some requests or some time."""

    requests: Count | None = None
    """How many requests; this or ``duration_s`` must be given."""
    duration_s: Positive | None = None
    """How long requests arrive, seconds."""

    @model_validator(mode="after")
    def _has_end(self) -> _Bounded:
        if self.requests is None and self.duration_s is None:
            raise ValueError("endless traffic needs a bound; give requests or duration_s")
        return self

    def bounds(self) -> Bounds:
        """Where the traffic ends."""
        return Bounds(requests=self.requests, duration_s=self.duration_s)


class TraceWorkload(_Labelled):
    """A recorded trace; see :class:`scenarios.traces.readers.ReadOptions` for how it is read."""

    kind: Literal["trace"]
    path: Path
    """The file, relative to this one; ``${VARIABLES}`` are filled in."""
    format: Literal["auto", "azure", "burstgpt", "csv", "jsonl", "mooncake", "parquet", "vllm-bench"] = "auto"
    """Default: recognised by its beginning."""
    sort: bool = False
    """Sort by arrival; loads the whole file."""
    drop_empty: bool = False
    """Leave out rows without prompt or output."""
    rebase: bool | None = None
    """Start the clock at the first arrival (default), or keep the trace's."""
    where: dict[str, str | int] = Field(default_factory=dict)
    """Columns and the value that a row must have there."""
    block_tokens: Count | None = None
    """Tokens of the trace's prefix blocks; default: 512."""
    spread_s: Annotated[float, Field(ge=0)] = 0.0
    """Spread arrivals that share a clock tick over so many seconds."""
    models: dict[str, str] = Field(default_factory=dict)
    """Names of models in the trace and what to call them here; with it, every other name is an error."""
    transforms: tuple[Annotated[AnyTransform, _Explained], ...] = ()
    """Changes to the stream, in this order."""

    @model_validator(mode="after")
    def _one_model(self) -> TraceWorkload:
        if self.model is not None and self.models:
            raise ValueError("model and models exclude each other; model replaces every name in the trace")
        return self


class SyntheticWorkload(_Bounded):
    """Open-loop traffic from an arrival process."""

    kind: Literal["synthetic"]
    arrivals: Arrivals
    """When requests arrive."""
    lengths: Lengths
    """Tokens of prompts and answers."""
    shared_prefix: Prefix | None = None
    """Prompts begin with one of a pool of prefixes."""
    transforms: tuple[Annotated[AnyTransform, _Explained], ...] = ()
    """Changes to the stream, in this order."""


class ClosedLoopWorkload(_Bounded):
    """Users who wait for each answer."""

    kind: Literal["closed-loop"]
    users: Annotated[int, Field(ge=1, le=1_000_000)]
    """How many clients there are."""
    think_time_s: Think
    """Seconds between an answer and the next request, or their distribution."""
    lengths: Lengths
    """Tokens of prompts and answers."""
    shared_prefix: Prefix | None = None
    """Prompts begin with one of a pool of prefixes."""


class SessionsWorkload(_Generated):
    """Multi-turn conversations."""

    kind: Literal["sessions"]
    arrivals: Arrivals
    """When sessions start."""
    turns: Length
    """Turns of a session: a distribution of integers, e.g. ``{kind: geometric, mean: 4}``."""
    lengths: Lengths
    """Of the new message and of the answer, per turn."""
    think_time_s: Think
    """Seconds between an answer and the next turn, or their distribution."""
    system_prompt: Prefix | None = None
    """Conversations begin with one of a pool of prompts."""
    max_prompt_tokens: Count | None = None
    """A session ends before a prompt becomes longer."""
    sessions: Count | None = None
    """How many sessions; this or ``duration_s`` must be given."""
    duration_s: Positive | None = None
    """How long sessions start, seconds."""

    @model_validator(mode="after")
    def _has_end(self) -> SessionsWorkload:
        if self.sessions is None and self.duration_s is None:
            raise ValueError("endless sessions need a bound; give sessions or duration_s")
        return self


Client = Annotated[
    TraceWorkload | SyntheticWorkload | ClosedLoopWorkload | SessionsWorkload, Field(discriminator="kind")
]


def _distinct_names(clients: tuple[Client, ...]) -> tuple[Client, ...]:
    names = [client_name(client, index) for index, client in enumerate(clients)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two clients are called {name!r}; allowed: distinct names")
    return clients


def client_name(client: Client, index: int) -> str:
    """The name of a client in a mixture: its own, or its position."""
    return client.name if client.name is not None else f"client-{index}"


class MixtureWorkload(Section):
    """Several clients at once."""

    kind: Literal["mixture"]
    clients: Annotated[tuple[Client, ...], Field(min_length=1), AfterValidator(_distinct_names)]
    """The clients."""


WorkloadConfig = Annotated[
    TraceWorkload | SyntheticWorkload | ClosedLoopWorkload | SessionsWorkload | MixtureWorkload,
    Field(discriminator="kind"),
]
"""The ``workload:`` section, told apart by ``kind``; a field of a pydantic model can have this type."""


def parse_workload(section: object) -> WorkloadConfig:
    """Validate a ``workload:`` section given as plain values.

    Raises
    ------
    pydantic.ValidationError
        If it does not follow the schema.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(WorkloadConfig)
    config: WorkloadConfig = adapter.validate_python(section)
    return config


def clients_of(config: WorkloadConfig) -> tuple[Client, ...]:
    """The clients of a workload: those of a mixture, or the one that it is."""
    return config.clients if isinstance(config, MixtureWorkload) else (config,)
