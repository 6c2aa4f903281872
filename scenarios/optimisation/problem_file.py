"""From a problem file to a problem: its curves, its prompt table, and the memory of its shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from latency_models.curves.load_latency import Configuration, LoadLatencyCurve
from latency_models.curves.load_latency_files import read_curves
from latency_models.errors import InputError, invalid, unknown_name
from latency_models.memory.kv_memory import GIB
from latency_models.sections.catalogue import gpu_of
from latency_models.yaml_files import anchor_paths, read_yaml
from optimizer.delays.monotone_curves import monotone
from optimizer.problem import LoadCase, ModelOptions, Option, Packing, Problem, SloTarget
from scenarios.optimisation.problem_schema import ProblemFile, ProblemModel
from scenarios.optimisation.shards import engine_settings, shard_gib
from scenarios.prompt_tables.sections import PathSection, prompt_table
from scenarios.schema_errors import describe
from sim.prompt_table import PromptTable

PROBLEMS = Path(str(files("scenarios") / "problems"))
"""Folder of the problems that come with the package."""

_SHARE_DIGITS = 9
_WITH_PATHS = ("gpus", "models", "curves", "prompts")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProblem:
    """A problem, where it comes from, and what its user should know.

    Parameters
    ----------
    name : str
        Of the file.
    problem : Problem
        What is solved.
    gpu_memory_gib : float
        Memory of each GPU that engines may take together.
    notes : tuple of str
        Changes to the curves, options that were left out, where the scores come from.
    engines : mapping of str to mapping of int to mapping
        Engine settings by model and tp, where the file gives them.
    sources : mapping of str to str
        Provenance: hashes of the resolved file, the curves and the prompt table.
    """

    name: str
    problem: Problem
    gpu_memory_gib: float
    notes: tuple[str, ...]
    engines: Mapping[str, Mapping[int, Mapping[str, Any]]]
    sources: Mapping[str, str]


def problem_names() -> list[str]:
    """Names of the problems that come with the package."""
    return sorted(path.stem for path in PROBLEMS.glob("*.yaml"))


def load_problem(name: str, *, packing: Packing | None = None, strict: bool = False) -> ReadProblem:
    """Read a problem.

    Parameters
    ----------
    name : str
        Path of a YAML file, or name of a problem that comes with the package.
    packing : {"compute", "memory"}, optional
        Instead of what the file says.
    strict : bool
        Refuse curves in which latency falls with load, instead of making them monotone.

    Raises
    ------
    InputError
        The file, a file that it names, or what they describe is wrong.
    """
    path = _find(name)
    values = read_yaml(path, "problem")
    for section in _WITH_PATHS:
        anchor_paths(values.get(section), path.parent)
    return build_problem(_validated(values, str(path)), default_name=path.stem, packing=packing, strict=strict)


def build_problem(
    file: ProblemFile, *, default_name: str = "problem", packing: Packing | None = None, strict: bool = False
) -> ReadProblem:
    """Build what a validated problem file describes; parameters and errors as in :func:`load_problem`."""
    memory_gib = file.gpus.memory_gib
    if file.gpus.type is not None:
        memory_gib = gpu_of(file.gpus.type).memory_bytes / GIB
    assert memory_gib is not None
    usable_gib = memory_gib * file.gpus.usable
    metrics = {slo.metric for slo in file.slos}
    curves = _curves(file)
    repaired: dict[Configuration, tuple[LoadLatencyCurve, dict[str, float]]] = {}
    notes: list[str] = []
    models = []
    for name, section in file.models.items():
        chosen = _chosen(name, section, curves, notes)
        for curve in chosen:
            repaired[curve.configuration] = monotone(curve, metrics, strict=strict)
        options = tuple(
            Option(
                tp=configuration.tp,
                compute_share=configuration.compute_share,
                replicas=configuration.replicas,
                memory_share=memory / usable_gib,
                curve=repaired[configuration][0],
            )
            for configuration in (curve.configuration for curve in chosen)
            if (memory := shard_gib(f"models.{name}.memory", section.memory, configuration.tp)) <= usable_gib
        )
        if len(options) < len(chosen):
            notes.append(f"{name}: {len(chosen) - len(options)} options left out, a shard exceeds {usable_gib:.1f} GiB")
        if not options:
            raise InputError(
                f"models.{name}: no option fits; a shard of any tp takes more than the {usable_gib:.1f} GiB that a GPU "
                "has for engines. Use more shards, bigger GPUs, or smaller memory.kv_gib"
            )
        models.append(ModelOptions(name=name, options=options, optional=section.optional))
    notes.extend(_repair_notes({key: changes for key, (_, changes) in repaired.items() if changes}))
    columns = {name: section.scores or name for name, section in file.models.items()}
    table, table_notes = prompt_table(file.prompts, columns)
    loads = _loads(file)
    problem = Problem(
        gpus=file.gpus.count,
        models=tuple(models),
        table=table,
        loads=loads,
        slos=tuple(
            SloTarget(metric=slo.metric, statistic=slo.statistic, target_s=slo.target_ms * 1e-3, model=slo.model)
            for slo in file.slos
        ),
        packing=packing or file.packing,
    )
    return ReadProblem(
        name=file.name or default_name,
        problem=problem,
        gpu_memory_gib=usable_gib,
        notes=(*notes, *table_notes),
        engines={
            model.name: {
                tp: engine_settings(f"models.{model.name}", section, tp)
                for tp in sorted({option.tp for option in model.options})
            }
            for model, section in zip(models, file.models.values(), strict=True)
            if section.engine is not None
        },
        sources=_sources(file, table),
    )


def _find(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix in {".yaml", ".yml"} or path.parent != Path():
        raise invalid("problem", name, f"an existing YAML file, or one of: {', '.join(problem_names())}")
    if name not in problem_names():
        raise unknown_name("problem", name, problem_names())
    return PROBLEMS / f"{name}.yaml"


def _validated(values: dict[str, Any], where: str) -> ProblemFile:
    try:
        return ProblemFile.model_validate(values)
    except ValidationError as error:
        raise InputError(describe(error, ProblemFile, values, where)) from None


def _curve_paths(file: ProblemFile) -> tuple[Path, ...]:
    sections = (file.curves,) if isinstance(file.curves, PathSection) else file.curves
    return tuple(Path(section.path) for section in sections)


def _curves(file: ProblemFile) -> dict[Configuration, LoadLatencyCurve]:
    found: dict[Configuration, LoadLatencyCurve] = {}
    for path in _curve_paths(file):
        for curve in read_curves(path):
            key = replace(curve.configuration, compute_share=round(curve.configuration.compute_share, _SHARE_DIGITS))
            if key in found:
                raise InputError(f"{path} has a curve of {key}, as an earlier file has; allowed: one per configuration")
            found[key] = replace(curve, configuration=key)
    return found


def _chosen(
    name: str, section: ProblemModel, curves: Mapping[Configuration, LoadLatencyCurve], notes: list[str]
) -> list[LoadLatencyCurve]:
    """The curves of a model's options, by tp, compute share and replicas."""
    source = section.curves or name
    if source not in {key.model for key in curves}:
        raise unknown_name(f"model in the curves (models.{name}.curves)", source, {key.model for key in curves})
    own = {(key.tp, key.compute_share, key.replicas): curve for key, curve in curves.items() if key.model == source}
    axes: list[list[Any]] = []
    for position, field in enumerate(("tp", "compute_shares", "replicas")):
        available = sorted({key[position] for key in own})
        given = getattr(section, field)
        wanted = available if given is None else [round(value, _SHARE_DIGITS) for value in given]
        for value in wanted:
            if value not in available:
                raise invalid(f"models.{name}.{field}", value, f"{available}, which its curves have", "Profile it too.")
        axes.append(wanted)
    found = [own[key] for key in product(*axes) if key in own]
    missing = len(list(product(*axes))) - len(found)
    if not found:
        raise InputError(f"models.{name}: no curve has one of the listed tp, compute_shares and replicas together")
    if missing and any(getattr(section, field) is not None for field in ("tp", "compute_shares", "replicas")):
        notes.append(
            f"{name}: {missing} combinations of tp, compute share and replicas have no curve and are no option"
        )
    return found


def _repair_notes(changes: Mapping[Configuration, Mapping[str, float]]) -> list[str]:
    if not changes:
        return []
    worst, statistic, size = max(
        ((key, name, size) for key, found in changes.items() for name, size in found.items()),
        key=lambda entry: entry[2],
    )
    return [
        f"{len(changes)} curves were made monotone in load: latencies raised by up to {size:.1%} ({worst}, "
        f"{statistic}); --strict refuses them"
    ]


def _loads(file: ProblemFile) -> tuple[LoadCase, ...]:
    if isinstance(file.loads, float | int):
        return (LoadCase(rate_per_s=float(file.loads)),)
    total = sum(load.weight for load in file.loads)
    return tuple(LoadCase(rate_per_s=load.rate_per_s, weight=load.weight / total) for load in file.loads)


def _sources(file: ProblemFile, table: PromptTable) -> dict[str, str]:
    import hashlib

    paths = _curve_paths(file)
    return {
        "problem_sha256": hashlib.sha256(file.model_dump_json(exclude={"curves", "prompts"}).encode()).hexdigest(),
        **{f"curves_sha256 {path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
        "prompts_sha256": table.content_hash(),
    }
