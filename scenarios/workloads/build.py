"""The traffic that a ``workload:`` section describes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from latency_models.errors import InputError, unknown_name
from scenarios.traces.formats import FORMATS, find_format
from scenarios.traces.readers import ReadOptions, ReadReport, read_trace
from scenarios.workloads.closed_loop import ClosedLoopTraffic
from scenarios.workloads.config import (
    Client,
    ClosedLoopWorkload,
    Lengths,
    MixtureWorkload,
    SessionsWorkload,
    SyntheticWorkload,
    TraceLengths,
    TraceWorkload,
    WorkloadConfig,
    client_name,
    clients_of,
)
from scenarios.workloads.generators import MixtureTraffic, open_loop
from scenarios.workloads.lengths import JointLengths, PairTable
from scenarios.workloads.request_chunks import ChunkSource, label, output_lengths, prompt_lengths, rename
from scenarios.workloads.sessions import SessionBounds, SessionTraffic
from scenarios.workloads.think_times import ConstantTime, ThinkTime
from scenarios.workloads.transforms import transformed
from sim.random_streams import named_generator, named_seed
from sim.workload import OpenTraffic, RequestChunk, Traffic


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
                _client_traffic(client, seed, base_dir, client_name(client, index), mixed=True)
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


def _trace_source(
    config: TraceWorkload, seed: np.random.SeedSequence, base_dir: Path, report: ReadReport | None = None
) -> ChunkSource:
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
        rng = named_generator(seed, "spread arrivals")
        chunks = read_trace(path, config.format, options=options, rng=rng, report=report)
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
    for client in clients_of(config):
        if isinstance(client, TraceWorkload):
            paths.append(base_dir / client.path)
        elif isinstance(client.lengths, TraceLengths):
            paths.append(base_dir / client.lengths.path)
    return list(dict.fromkeys(paths))


def trace_digests(config: WorkloadConfig, base_dir: Path = Path()) -> dict[str, str]:
    """SHA-256 of the files that the workload reads, by path."""
    digests: dict[str, str] = {}
    for path in trace_paths(config, base_dir):
        with path.open("rb") as stream:
            digests[str(path)] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadFacts:
    """What is known of a workload before it is sent."""

    shares_content: bool
    """Whether requests may share prompt content: named prefixes, conversations, or a trace with prefix blocks."""
    unused_columns: dict[Path, list[str]]
    """Columns of traces that mean nothing here, such as misspelt ones."""


def inspect_workload(config: WorkloadConfig, base_dir: Path = Path()) -> WorkloadFacts:
    """Look at the sections of a workload and at the beginning of its traces."""
    shares = False
    unused: dict[Path, list[str]] = {}
    for client in clients_of(config):
        if isinstance(client, TraceWorkload):
            # A column that a format has is there from the first chunk on.
            report = ReadReport()
            source = _trace_source(
                client.model_copy(update={"transforms": ()}), np.random.SeedSequence(0), base_dir, report
            )
            first = next(source(), None)
            shares |= first is not None and first.content is not None
            if report.ignored_columns:
                unused[base_dir / client.path] = list(report.ignored_columns)
        else:
            shares |= isinstance(client, SessionsWorkload) or client.shared_prefix is not None
    return WorkloadFacts(shares_content=shares, unused_columns=unused)
