"""Plans, validations, comparisons, stress tests and frontiers on the terminal: what their verdict does not say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from analysis.estimates import Estimate, estimate_of
from analysis.stored.results import StoredDocument
from analysis.terminal.text_graphics import Canvas
from analysis.terminal.verdict_text import heading, plain_table, wrap_last
from analysis.wording import MILLISECONDS, NONE, SCORE, SHARE, UNITS, Unit, bare, in_column, worded

_Values = Mapping[str, Any]
_PROMISED = {"ttft_mean_s": "TTFT mean", "ttft_p95_s": "TTFT P95", "tpot_mean_s": "TPOT mean", "e2e_p95_s": "E2E P95"}
_COMPARED = {
    "achieved": "score",
    "predicted": "predicted",
    "attainment": "in SLO",
    "ttft_mean_s": "TTFT mean",
    "ttft_p95_s": "TTFT P95",
    "goodput_per_s": "goodput/s",
}


def plan_text(document: StoredDocument, canvas: Canvas) -> Iterator[RenderableType]:
    """What runs where, and which requests it gets."""
    plan = document.content
    yield heading(f"Setup on {plan['gpus']['count']} GPUs")
    table = plain_table("model", "tp", "compute", "memory", "replicas", "GPUs of each")
    for name, model in plan["models"].items():
        table.add_row(
            name,
            str(model["tp"]),
            f"{model['compute_share']:.0%}",
            f"{model['memory_share']:.0%}",
            str(len(model["replicas"])),
            " | ".join(",".join(map(str, gpus)) for gpus in model["replicas"]),
        )
    yield table
    if plan.get("left_out"):
        yield f"left out: {', '.join(plan['left_out'])}"
    loads = (plan.get("promise") or {}).get("loads") or [{}] * len(plan["routing"])
    for routing, promised in zip(plan["routing"], loads, strict=True):
        yield from _routing(routing, promised)
    if plan.get("provenance"):
        yield from _provenance(plan["provenance"])


def _routing(routing: _Values, promised: _Values) -> Iterator[RenderableType]:
    yield heading(f"Routing at {routing['rate_per_s']:g} requests/s ({routing['policy']}), promised latencies in ms")
    latencies: Mapping[str, _Values] = promised.get("latency_s") or {}
    shown = [key for key in _PROMISED if any(key in latency for latency in latencies.values())]
    table = plain_table("model", "fraction", "price", *(_PROMISED[key] for key in shown))
    for name, fraction in routing["fractions"].items():
        cells = [in_column(latencies.get(name, {}).get(key), MILLISECONDS) for key in shown]
        table.add_row(name, in_column(fraction, SHARE), f"{routing['prices'][name]:+.4f}", *cells)
    yield table


def validation_text(document: StoredDocument, canvas: Canvas) -> Iterator[RenderableType]:
    """Every SLO with its verdict, and what the gap to the promise is made of."""
    found = document.content
    yield heading("SLOs")
    table = plain_table("SLO", "verdict", "simulated", "late or unanswered")
    for slo in found["slos"]:
        simulated, missed = (
            worded(estimate_of(slo["statistic_s"]), MILLISECONDS),
            worded(estimate_of(slo["missed"]), SHARE),
        )
        table.add_row(slo["slo"], slo["outcome"], simulated, missed)
    yield table
    for gap in (found.get("gap") or {}).get("gaps", ()):
        yield heading(f"From the promised {gap['name']} to the simulated")
        yield _gap(gap, canvas)


def _gap(gap: _Values, canvas: Canvas) -> Table:
    unit = UNITS[gap["unit"]]
    widest = max((abs(step["effect"]["estimate"]) for step in gap["steps"]), default=0.0) or 1.0
    table = plain_table("", f"effect ({unit.name})" if unit.name else "effect", "interval", "")
    table.columns[3].justify = "left"
    table.add_row("promised", *bare(Estimate(value=gap["promised"]), unit))
    for step in gap["steps"]:
        bar = canvas.bar(abs(step["effect"]["estimate"]) / widest, max(8, canvas.width - 64))
        table.add_row(step["name"], *_apart(step["effect"], unit, signed=True), bar)
    table.add_row("simulated", *_apart(gap["simulated"], unit))
    return table


def _apart(content: _Values, unit: Unit, *, signed: bool = False) -> tuple[str, str]:
    """A figure and its interval, in columns of their own."""
    found = estimate_of(content)
    return (NONE, NONE) if found is None else bare(found, unit, signed=signed)


def comparison_text(document: StoredDocument, canvas: Canvas) -> Iterator[RenderableType]:
    """A row for each policy; ``*`` where it differs from the reference beyond chance."""
    found = document.content
    metrics = {metric["name"]: metric for metric in found["metrics"]}
    shown = [name for name in _COMPARED if name in metrics]
    yield heading(
        f"Policies (latencies in ms; * differs from {found['reference']}, {found['confidence']:.0%} confidence)"
    )
    table = plain_table("policy", *(_COMPARED[name] for name in shown))
    for label, policy in found["policies"].items():
        cells = []
        for name in shown:
            value = policy["figures"][name]["mean"]
            differs = (policy["differences"] or {}).get(name, {}).get("significant")
            cells.append(in_column(value, UNITS[metrics[name]["unit"]]) + ("*" if differs else " "))
        table.add_row(label, *cells)
    yield table


def stress_text(document: StoredDocument, canvas: Canvas) -> Iterator[RenderableType]:
    """What was tried along each axis, and how much of the limit was used up there."""
    found = document.content
    for axis in found["axes"]:
        unit = f" ({axis['unit']})" if axis["unit"] else ""
        yield heading(":".join(filter(None, (axis["axis"], axis["target"]))) + unit)
        table = plain_table("value", "verdict", "replications", "score", "of the limit", "")
        table.columns[5].justify = "left"
        for point in sorted(axis["points"], key=lambda point: point["value"]):
            strain = point["strain"]
            table.add_row(
                f"{point['value']:.4g}",
                point["outcome"],
                str(point["replications"]),
                in_column(point["achieved_score"], SCORE),
                "-" if strain is None else f"{strain:,.0%}",
                "" if strain is None else canvas.bar(strain / 2, 24) + (" >" if strain > 2 else ""),
            )
        yield table
    for name, reason in (found["left_out"] or {}).items():
        yield f"left out: {name} ({reason})"


def frontier_text(document: StoredDocument, canvas: Canvas) -> Iterator[RenderableType]:
    """The best score over the target, and over the load."""
    points: Sequence[_Values] = document.content["points"]
    for sweep, column, words in (("target", "target_ms", "SLO target (ms)"), ("load", "rate_per_s", "requests/s")):
        rows = [row for row in points if row["sweep"] == sweep]
        if not rows:
            continue
        yield heading(f"Best score over {words}")
        highest = max((float(row["score"]) for row in rows if row["score"]), default=1.0)
        table = wrap_last(plain_table(words, "score", "", "setup"))
        table.columns[2].justify = "left"
        for row in rows:
            score = float(row["score"]) if row["score"] else None
            bar = "" if score is None else canvas.bar(score / highest, 16)
            setup = _without_left_out(row["setup"]) if score is not None else "no plan keeps the SLO"
            table.add_row(f"{float(row[column]):g}", in_column(score, SCORE), bar, setup)
        yield table


def _without_left_out(setup: str) -> str:
    return "; ".join(model for model in setup.split("; ") if not model.endswith(": left out"))


def _provenance(provenance: _Values) -> Iterator[RenderableType]:
    yield heading("Where this comes from")
    table = wrap_last(plain_table("", ""))
    table.show_header = False
    for name, text in provenance.items():
        table.add_row(name, str(text)[:16] if "sha256" in name else str(text))
    yield table
