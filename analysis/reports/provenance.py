"""Where results come from: scenario, seed, versions, hashes, time, and how to get them again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.stored.results import Results, StoredDocument
from analysis.stored.run import StoredRun

_MOST_FOLDED = 200_000
"""Characters of a file that a report repeats; longer ones stay where they are."""
_HASH_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one result comes from."""

    title: str
    facts: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...] = ()
    """Names and contents of files, to be folded away."""
    command: str = ""
    """What produces it again."""


def origins(results: Results) -> tuple[Origin, ...]:
    """An entry for each result."""
    return (
        *map(_run_origin, results.runs),
        *(_document_origin("Validation", document) for document in results.validations),
        *(_plan_origin(document) for document in results.plans),
        *(_document_origin("Stress test", document) for document in results.stresses),
        *(_document_origin("Comparison", document) for document in results.comparisons),
        *(_document_origin("Frontier", document) for document in results.frontiers),
    )


def _run_origin(run: StoredRun) -> Origin:
    manifest = run.manifest
    warmup = sorted({f"{value:,.4g} s" for value in run.warmup_s})
    first = {
        "folder": str(run.path),
        "started": str(manifest["started"]).replace("T", " ").replace("Z", " UTC"),
        "took": f"{manifest['wall_s']:,.3g} s, {manifest['events']:,} events",
        "replications": f"{run.replications:,}",
        "warm-up left out": ", ".join(warmup),
    }
    shown = ("schema_version", "command", "started", "wall_s", "events", "replications", "warmup_s")
    rest = {key: value for key, value in manifest.items() if key not in shown}
    files = {"scenario.yaml, resolved": run.path / "scenario.yaml", "plan.json": run.path / "plan.json"}
    texts = {name: _folded(path.read_text(encoding="utf-8")) for name, path in files.items() if path.is_file()}
    return Origin(
        title=f"Run {run.name}",
        facts=(*first.items(), *_facts(rest)),
        files=tuple((name, text) for name, text in texts.items() if text),
        command=f"routerwise run {shlex.quote(str(run.path / 'scenario.yaml'))} --out NEW-FOLDER",
    )


def _document_origin(kind: str, document: StoredDocument) -> Origin:
    content = document.content
    manifest = content.get("manifest", {})
    named = {key: content[key] for key in ("plan", "scenario", "replications") if key in content}
    rest = {key: value for key, value in manifest.items() if key not in ("schema_version", "command", *named)}
    return Origin(title=f"{kind} {document.name}", facts=(("from", str(document.path)), *_facts(named), *_facts(rest)))


def _plan_origin(document: StoredDocument) -> Origin:
    text = _folded(json.dumps(document.content, indent=2))
    return Origin(
        title=f"Plan {document.name}",
        facts=(("file", str(document.path)), *_facts(document.content.get("provenance") or {})),
        files=((document.path.name, text),) if text else (),
    )


def _folded(text: str) -> str:
    return text if len(text) <= _MOST_FOLDED else ""


def _facts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Nested values as pairs of text; hashes by their first digits."""
    for key, value in values.items():
        words = key.replace("_sha256", " (SHA-256)").replace("_s", " (s)") if key.endswith("_s") else key
        words = words.replace("sha256", "SHA-256").replace("_", " ")
        if isinstance(value, Mapping):
            inner = ", ".join(f"{name} {_short(entry)}" for name, entry in value.items())
            if inner:
                yield words, inner
        elif isinstance(value, list):
            if value:
                yield words, ", ".join(map(_short, value))
        elif value is not None:
            yield words, _short(value)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.6g}"
    text = str(value)
    is_hash = len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)
    return f"{text[:_HASH_DIGITS]}…" if is_hash else text
