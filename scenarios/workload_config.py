"""The ``workload:`` section of a scenario: its schema, and the traffic that it describes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, WrapValidator, model_validator

from latency_models.errors import InputError, RouterwiseError, unknown_name
from scenarios.arrival_processes import AnyArrivals
from scenarios.child_seeds import named_generator, named_seed
from scenarios.closed_loop import ClosedLoopTraffic
from scenarios.generators import Bounds, MixtureTraffic, RequestLabels, SharedPrefix, open_loop
from scenarios.lengths import (
    MAX_TOKENS,
    AnyLength,
    ConditionalLengths,
    IndependentLengths,
    JointLengths,
    JointPairs,
    PairTable,
)
from scenarios.request_chunks import ChunkSource, label, output_lengths, prompt_lengths, rename
from scenarios.sessions import SessionBounds, SessionTraffic
from scenarios.think_times import AnyThinkTime, ConstantTime, ThinkTime
from scenarios.trace_formats import FORMATS, find_format
from scenarios.trace_readers import ReadOptions, read_trace
from scenarios.transforms import AnyTransform, transformed
from sim.workload import OpenTraffic, RequestChunk, Traffic


def _explained(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Let the checks of the domain objects report as validation errors, which say where in the file they are."""
    try:
        return validate(value)
    except RouterwiseError as error:
        raise ValueError(str(error)) from None


_Explained = WrapValidator(_explained)


class _Section(BaseModel):
    """Base of the schema: unknown keys and infinite numbers are errors, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TraceLengths(_Section):
    """Pairs of lengths drawn from those of a trace's requests, each equally likely."""

    kind: Literal["trace"]
    path: Path
    format: str = "auto"
    drop_empty: bool = False


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


class _Labelled(_Section):
    """Client with a model and a class of its own."""

    name: Annotated[str, Field(min_length=1)] | None = None
    """Name in a mixture: it keeps the client's random streams when others are added; default: its position."""
    model: str | None = None
    request_class: str | None = Field(default=None, alias="class")


class _Generated(_Labelled):
    """Client whose requests are generated."""

    priority: int = 0
    deadline_s: Positive | None = None
    cancel_after_s: Positive | None = None

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
    duration_s: Positive | None = None

    @model_validator(mode="after")
    def _has_end(self) -> _Bounded:
        if self.requests is None and self.duration_s is None:
            raise ValueError("endless traffic needs a bound; give requests or duration_s")
        return self

    def bounds(self) -> Bounds:
        """Where the traffic ends."""
        return Bounds(requests=self.requests, duration_s=self.duration_s)


class TraceWorkload(_Labelled):
    """A recorded trace; see :class:`scenarios.trace_readers.ReadOptions` for how it is read."""

    kind: Literal["trace"]
    path: Path
    format: Literal["auto", "azure", "burstgpt", "csv", "jsonl", "mooncake", "parquet", "vllm-bench"] = "auto"
    sort: bool = False
    drop_empty: bool = False
    rebase: bool | None = None
    where: dict[str, str | int] = Field(default_factory=dict)
    block_tokens: Count | None = None
    spread_s: Annotated[float, Field(ge=0)] = 0.0
    models: dict[str, str] = Field(default_factory=dict)
    """Names of models in the trace and what to call them here; with it, every other name is an error."""
    transforms: tuple[Annotated[AnyTransform, _Explained], ...] = ()

    @model_validator(mode="after")
    def _one_model(self) -> TraceWorkload:
        if self.model is not None and self.models:
            raise ValueError("model and models exclude each other; model replaces every name in the trace")
        return self


class SyntheticWorkload(_Bounded):
    """Open-loop traffic from an arrival process."""

    kind: Literal["synthetic"]
    arrivals: Arrivals
    lengths: Lengths
    shared_prefix: Prefix | None = None
    transforms: tuple[Annotated[AnyTransform, _Explained], ...] = ()


class ClosedLoopWorkload(_Bounded):
    """Users who wait for each answer."""

    kind: Literal["closed-loop"]
    users: Annotated[int, Field(ge=1, le=1_000_000)]
    think_time_s: Think
    lengths: Lengths
    shared_prefix: Prefix | None = None


class SessionsWorkload(_Generated):
    """Multi-turn conversations."""

    kind: Literal["sessions"]
    arrivals: Arrivals
    turns: Length
    """Turns of a session: a distribution of integers, e.g. ``{kind: geometric, mean: 4}``."""
    lengths: Lengths
    """Of the new message and of the answer, per turn."""
    think_time_s: Think
    system_prompt: Prefix | None = None
    max_prompt_tokens: Count | None = None
    sessions: Count | None = None
    duration_s: Positive | None = None

    @model_validator(mode="after")
    def _has_end(self) -> SessionsWorkload:
        if self.sessions is None and self.duration_s is None:
            raise ValueError("endless sessions need a bound; give sessions or duration_s")
        return self


Client = Annotated[
    TraceWorkload | SyntheticWorkload | ClosedLoopWorkload | SessionsWorkload, Field(discriminator="kind")
]


def _distinct_names(clients: tuple[Client, ...]) -> tuple[Client, ...]:
    names = [_client_name(client, index) for index, client in enumerate(clients)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two clients are called {name!r}; allowed: distinct names")
    return clients


def _client_name(client: Client, index: int) -> str:
    return client.name if client.name is not None else f"client-{index}"


class MixtureWorkload(_Section):
    """Several clients at once."""

    kind: Literal["mixture"]
    clients: Annotated[tuple[Client, ...], Field(min_length=1), AfterValidator(_distinct_names)]


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


def build_traffic(config: WorkloadConfig, seed: np.random.SeedSequence, base_dir: Path) -> Traffic:
    """Traffic of one run.

    Parameters
    ----------
    config : WorkloadConfig
        What to send.
    seed : numpy.random.SeedSequence
        Parent of all random streams of the workload; equal seeds give equal traffic.
    base_dir : Path
        Folder that relative paths of traces start from.

    Raises
    ------
    InputError
        If a trace cannot be read or is not of the format; faults of single rows come from the stream later.
    """
    if isinstance(config, MixtureWorkload):
        return MixtureTraffic(
            [
                _client_traffic(client, seed, base_dir, _client_name(client, index), mixed=True)
                for index, client in enumerate(config.clients)
            ]
        )
    return _client_traffic(config, seed, base_dir, config.name or "client", mixed=False)


def _client_traffic(config: Client, root: np.random.SeedSequence, base_dir: Path, name: str, *, mixed: bool) -> Traffic:
    seed = named_seed(root, f"client {name}")
    if isinstance(config, TraceWorkload):
        source = _trace_source(config, seed, base_dir)
        if mixed:
            # Two traces may use the same ids and block names for different things.
            source = partial(_scoped, source, name)
        return OpenTraffic(source())
    lengths = _lengths(config.lengths, base_dir)
    if isinstance(config, SyntheticWorkload):
        generate = partial(
            open_loop,
            arrivals=config.arrivals,
            lengths=lengths,
            bounds=config.bounds(),
            seed=seed,
            pool_seed=root,
            labels=config.labels(),
            shared_prefix=config.shared_prefix,
            client=name,
        )
        return OpenTraffic(transformed(generate, config.transforms, seed)())
    think_time: ThinkTime = (
        ConstantTime(value_s=config.think_time_s)
        if isinstance(config.think_time_s, int | float)
        else config.think_time_s
    )
    if isinstance(config, ClosedLoopWorkload):
        return ClosedLoopTraffic(
            users=config.users,
            think_time=think_time,
            lengths=lengths,
            bounds=config.bounds(),
            seed=seed,
            pool_seed=root,
            labels=config.labels(),
            shared_prefix=config.shared_prefix,
            client=name,
        )
    return SessionTraffic(
        arrivals=config.arrivals,
        turns=config.turns,
        lengths=lengths,
        think_time=think_time,
        bounds=SessionBounds(
            sessions=config.sessions, duration_s=config.duration_s, max_prompt_tokens=config.max_prompt_tokens
        ),
        seed=seed,
        system_prompt=config.system_prompt,
        pool_seed=root,
        labels=config.labels(),
        client=name,
    )


def _trace_source(config: TraceWorkload, seed: np.random.SeedSequence, base_dir: Path) -> ChunkSource:
    options = ReadOptions(
        sort=config.sort,
        drop_empty=config.drop_empty,
        rebase=config.rebase,
        where={column: str(value) for column, value in config.where.items()},
        block_tokens=config.block_tokens,
        spread_s=config.spread_s,
    )

    path = base_dir / config.path
    # A file that cannot be read is an error now, not when the first request is wanted.
    find_format(path, config.format)

    def read() -> Iterator[RequestChunk]:
        chunks = read_trace(path, config.format, options=options, rng=named_generator(seed, "spread arrivals"))
        return (_labelled(chunk, config) for chunk in chunks)

    return transformed(read, config.transforms, seed)


def _labelled(chunk: RequestChunk, config: TraceWorkload) -> RequestChunk:
    """The trace's requests with the models and the class of the scenario."""
    if config.models:
        if chunk.model is None:
            raise InputError(f"models is given, but trace {config.path} names no models; use model instead")
        for model in dict.fromkeys(chunk.model):
            if model not in config.models:
                raise unknown_name(f"model (of trace {config.path}, not in models)", str(model), config.models)
        chunk = chunk._replace(model=[config.models[str(model)] for model in chunk.model])
    return label(chunk, model=config.model, request_class=config.request_class)


def _scoped(source: ChunkSource, name: str) -> Iterator[RequestChunk]:
    for chunk in source():
        yield rename(chunk, lambda key: f"{name}:{key}", content=True)


def _lengths(config: Lengths, base_dir: Path) -> JointLengths:
    if not isinstance(config, TraceLengths):
        return config
    if config.format != "auto" and config.format not in FORMATS:
        raise unknown_name("trace format", config.format, ["auto", *FORMATS])
    counts: dict[tuple[int, int], int] = {}
    # The order of arrival does not matter here, so any trace will do.
    options = ReadOptions(drop_empty=config.drop_empty, sort=True)
    for chunk in read_trace(base_dir / config.path, config.format, options=options):
        pairs = np.stack([prompt_lengths(chunk), output_lengths(chunk)], axis=1)
        unique, repeats = np.unique(pairs, axis=0, return_counts=True)
        for (prompt, output), count in zip(unique.tolist(), repeats.tolist(), strict=True):
            counts[prompt, output] = counts.get((prompt, output), 0) + count
    return PairTable(np.array(list(counts), np.int64), np.array(list(counts.values()), np.float64))


def trace_paths(config: WorkloadConfig, base_dir: Path = Path()) -> list[Path]:
    """Files that the workload reads, in the order of the section."""
    paths: list[Path] = []
    for client in _clients(config):
        if isinstance(client, TraceWorkload):
            paths.append(base_dir / client.path)
        elif isinstance(client.lengths, TraceLengths):
            paths.append(base_dir / client.lengths.path)
    return list(dict.fromkeys(paths))


def shares_content(config: WorkloadConfig, base_dir: Path = Path()) -> bool:
    """Whether requests may share prompt content: named prefixes, conversations, or a trace with prefix blocks."""
    for client in _clients(config):
        if isinstance(client, SessionsWorkload):
            return True
        if isinstance(client, TraceWorkload):
            # A column that a format has is there from the first chunk on.
            root = np.random.SeedSequence(0)
            first = next(_trace_source(client.model_copy(update={"transforms": ()}), root, base_dir)(), None)
            if first is not None and first.content is not None:
                return True
        elif client.shared_prefix is not None:
            return True
    return False


def _clients(config: WorkloadConfig) -> tuple[Client, ...]:
    return config.clients if isinstance(config, MixtureWorkload) else (config,)
