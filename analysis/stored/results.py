"""Results on disk, whatever command wrote them: runs, plans, validations, comparisons, stress tests, frontiers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.stored.json_files import RESULT_SCHEMA_VERSION, check_keys, check_version, read_object
from analysis.stored.run import StoredRun
from latency_models.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDocument:
    """A result that is one document."""

    path: Path
    name: str
    """What to call it: of the plan or scenario that it is about."""
    content: Mapping[str, Any]
    """As the command wrote it; of a frontier ``points``, the rows of its table, beside the manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything that was read, by kind, in the order given."""

    runs: tuple[StoredRun, ...] = ()
    plans: tuple[StoredDocument, ...] = ()
    validations: tuple[StoredDocument, ...] = ()
    comparisons: tuple[StoredDocument, ...] = ()
    stresses: tuple[StoredDocument, ...] = ()
    frontiers: tuple[StoredDocument, ...] = ()

    def __bool__(self) -> bool:
        return any((self.runs, self.plans, self.validations, self.comparisons, self.stresses, self.frontiers))


KINDS = (
    "a run directory, a plan, a file of `validate --out`, a folder of `compare`, `stress` or `frontier`, or a folder "
    "with some of these in it"
)

_OF_COMPARISONS = ("scenario", "slo", "reference", "replications", "confidence", "metrics", "policies")
_OF_STRESSES = ("plan", "scenario", "outcome", "confidence", "baseline", "axes", "left_out")
_OF_FRONTIERS = ("sweep", "target_ms", "rate_per_s", "feasible", "score")
_OF_VALIDATIONS = (
    "plan", "scenario", "slos", "outcome", "replications", "requests", "confidence", "further_replications", "promise",
    "simulated",
)  # fmt: skip


def read_results(paths: Sequence[Path]) -> Results:
    """Read results, and folders of results.

    Parameters
    ----------
    paths : sequence of Path
        Each one of: a run directory; a plan; a file of ``validate --out``; a folder of ``compare``, ``stress`` or
        ``frontier``; a folder that holds some of these.

    Raises
    ------
    InputError
        A path is none of these, is empty or incomplete, or has the layout of another version.
    """
    found = Results()
    for path in paths:
        found = _merged(found, _read(path))
    return replace(found, runs=_named(found.runs))


def _read(path: Path) -> Results:
    if not path.exists():
        raise InputError(f"{path} does not exist; wanted: {KINDS}")
    if path.is_file():
        try:
            content = read_object(path)
        except InputError as error:
            raise InputError(f"{error}; wanted: {KINDS}") from None
        if (reader := _file_reader(content)) is None:
            raise InputError(f"{path} is no result of routerwise; wanted: {KINDS}")
        return reader(path, content)
    if (path / "manifest.json").is_file():
        return _folder(path)
    return _collection(path)


def _collection(path: Path) -> Results:
    if (path / "summary.json").is_file():
        raise InputError(
            f"{path} is not a complete run directory: manifest.json is missing; simulate the scenario again"
        )
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if not entries:
        raise InputError(f"{path} is empty; wanted: {KINDS}")
    found = Results()
    for entry in entries:
        if entry.is_dir() and (entry / "manifest.json").is_file():
            found = _merged(found, _folder(entry))
        elif entry.is_file() and entry.suffix == ".json":
            content = _object_or_none(entry)
            reader = None if content is None else _file_reader(content)
            if content is not None and reader is not None:
                found = _merged(found, reader(entry, content))
    if not found:
        raise InputError(f"{path} has no manifest.json, and no results in it; wanted: {KINDS}")
    return found


def _object_or_none(path: Path) -> dict[str, Any] | None:
    try:
        return read_object(path)
    except InputError:
        return None


def _folder(path: Path) -> Results:
    manifest = read_object(path / "manifest.json")
    command = manifest.get("command", "run")
    if command == "run":
        return Results(runs=(StoredRun(path),))
    readers = {"compare": _comparison, "stress": _stress, "frontier": _frontier}
    if command not in readers:
        raise InputError(f"{path} was written by `{command}`, which has no report; wanted: {KINDS}")
    check_version(path, manifest, RESULT_SCHEMA_VERSION)
    return readers[command](path, manifest)


def _comparison(path: Path, manifest: Mapping[str, Any]) -> Results:
    content = _complete(path / "comparison.json", _OF_COMPARISONS)
    return Results(comparisons=(_document(path, content["scenario"], {**content, "manifest": manifest}),))


def _stress(path: Path, manifest: Mapping[str, Any]) -> Results:
    content = _complete(path / "stress.json", _OF_STRESSES)
    return Results(stresses=(_document(path, content["plan"], {**content, "manifest": manifest}),))


def _frontier(path: Path, manifest: Mapping[str, Any]) -> Results:
    import csv

    check_keys(path / "manifest.json", manifest, ("problem",))
    table = path / "frontier.csv"
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            points, columns = list(reader), reader.fieldnames or ()
    except OSError as error:
        raise InputError(f"{table} cannot be read: {error.strerror}") from None
    for column in _OF_FRONTIERS:
        if column not in columns:
            raise InputError(f"{table} lacks the column {column!r}; run the command again that wrote it")
    return Results(frontiers=(_document(path, manifest["problem"], {"points": points, "manifest": manifest}),))


def _complete(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    content = read_object(path)
    check_keys(path, content, keys)
    return content


def _file_reader(content: Mapping[str, Any]) -> Callable[[Path, Mapping[str, Any]], Results] | None:
    if content.get("command") == "validate":
        return _validation
    return _plan if {"models", "routing", "gpus"} <= content.keys() else None


def _validation(path: Path, content: Mapping[str, Any]) -> Results:
    check_version(path, content, RESULT_SCHEMA_VERSION)
    check_keys(path, content, _OF_VALIDATIONS)
    return Results(validations=(_document(path, f"{content['plan']} on {content['scenario']}", content),))


def _plan(path: Path, content: Mapping[str, Any]) -> Results:
    from optimizer.plan import read_plan

    plan = read_plan(path)
    return Results(plans=(_document(path, plan.name, content),))


def _document(path: Path, name: str, content: Mapping[str, Any]) -> StoredDocument:
    return StoredDocument(path=path, name=name, content=content)


def _merged(one: Results, other: Results) -> Results:
    return Results(
        runs=one.runs + other.runs,
        plans=one.plans + other.plans,
        validations=one.validations + other.validations,
        comparisons=one.comparisons + other.comparisons,
        stresses=one.stresses + other.stresses,
        frontiers=one.frontiers + other.frontiers,
    )


def _named(runs: Sequence[StoredRun]) -> tuple[StoredRun, ...]:
    """Tell runs of one scenario apart by the names of their folders, or where these are."""
    scenarios = [run.name for run in runs]
    for place in (os.path.basename, str):
        often = Counter(run.name for run in runs)
        for run, scenario in zip(runs, scenarios, strict=True):
            if often[run.name] > 1:
                run.name = f"{scenario} ({place(os.path.abspath(run.path))})"
    return tuple(runs)
