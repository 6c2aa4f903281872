"""A run directory on the terminal: from its cluster to where it came from."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from analysis.cost_lines import cost_lines
from analysis.estimates import estimate_of, value_of
from analysis.stored.run import StoredRun
from analysis.summary import Summary
from analysis.terminal.cluster_text import cluster_text
from analysis.terminal.latency_text import latency_text
from analysis.terminal.text_graphics import Canvas
from analysis.terminal.timeline_text import timeline_text
from analysis.terminal.verdict_text import heading, plain_table, wrap_last
from analysis.time_parts import SLOWEST_SHARE, part_name
from analysis.wording import COUNT, MILLISECONDS, SCORE, SHARE, in_column, plural, plus_minus

_LEAST_PART = 1e-3
"""Share of a latency below which a part of it is not worth a line."""


def run_text(run: StoredRun, canvas: Canvas) -> Iterator[RenderableType]:
    """Everything about a run but its verdict; parts that the run has no data for are left out."""
    yield from cluster_text(run, canvas)
    yield from latency_text(run, canvas)
    yield from timeline_text(run, canvas)
    yield from _time_parts(run, canvas)
    yield from _classes(run)
    yield from _quality(run)
    yield from _cost(run)
    yield from _provenance(run)


def _time_parts(run: StoredRun, canvas: Canvas) -> Iterator[RenderableType]:
    """Where the time to the first token goes: on average, and for the slowest requests."""
    found = {which: run.estimates("overall", "ttft_parts_s", which) for which in ("mean", "slowest")}
    parts = {which: {name: part.value for name, part in known.items()} for which, known in found.items() if known}
    wholes_s = {which: sum(known.values()) for which, known in parts.items()}
    if not any(wholes_s.values()):
        return
    yield heading("Where the TTFT goes (ms)")
    bar_width = min(24, (canvas.width - 44) // 2)
    table = plain_table("", "all requests", "", f"slowest {SLOWEST_SHARE:.0%}", "")
    for column in (2, 4):
        table.columns[column].justify = "left"
    for name in next(iter(parts.values())):
        shares = {
            which: known.get(name, 0.0) / wholes_s[which] if wholes_s[which] else 0.0 for which, known in parts.items()
        }
        if max(shares.values()) < _LEAST_PART:
            continue
        cells = [
            (in_column(parts[which].get(name), MILLISECONDS), canvas.bar(shares[which], bar_width)) for which in parts
        ]
        table.add_row(part_name(name), *(text for pair in cells for text in pair))
    yield table


def _classes(run: StoredRun) -> Iterator[RenderableType]:
    """SLO attainment by class of requests, and by model."""
    if run.slo is None or len(run.classes) < 2:
        return
    yield heading(f"SLO attainment by class ({run.summary['slo']} ms)")
    models = run.used_models if len(run.used_models) > 1 else []
    table = plain_table("class", "requests", *models[:6], "all")
    by_pair = run.summary["by_model_and_class"]
    for name in run.classes:
        group = run.summary["by_class"][name]
        cells = [_attainment(by_pair[model].get(name)) for model in models[:6]]
        table.add_row(name, in_column(value_of(group["requests"]["total"]), COUNT), *cells, _attainment(group))
    yield table


def _attainment(group: Summary | None) -> str:
    """Without its interval, for which there is no room beside other models."""
    return in_column(None if group is None else value_of(group["slo_attainment"]), SHARE)


def _quality(run: StoredRun) -> Iterator[RenderableType]:
    """Scores by model, with the share of the requests that each answered."""
    if not run.summary["overall"].get("quality"):
        return
    yield heading("Quality of the answers")
    table = plain_table("", "requests", "predicted score", "achieved score")
    groups = [(name, run.summary["by_model"][name], run.traffic_share(name)) for name in run.used_models]
    for name, group, share in (*groups, ("all", run.summary["overall"], 1.0 if groups else None)):
        scores = (plus_minus(estimate_of(group["quality"][kind]), SCORE) for kind in ("predicted", "achieved"))
        table.add_row(name, in_column(share, SHARE), *scores)
    yield table


def _cost(run: StoredRun) -> Iterator[RenderableType]:
    lines = list(cost_lines(run.summary.get("cost")))
    if not lines:
        return
    yield heading("Cost and energy")
    yield from map(Text, lines)
    source = run.summary["cost"]["price_source"]
    if source:
        yield Text(f"Price: {source}", "dim")


def _provenance(run: StoredRun) -> Iterator[RenderableType]:
    manifest = run.manifest
    yield heading("Where this comes from")
    versions = ", ".join(f"{name} {number}" for name, number in manifest["versions"].items())
    rows = {
        "directory": str(run.path),
        "scenario": f"{run.scenario['name']}, SHA-256 {manifest['scenario_sha256'][:16]}",
        "seed": f"{manifest['seed']}, {plural(run.replications, 'replication')}",
        "simulated": f"{manifest['started']}, in {manifest['wall_s']:,.3g} s, {manifest['events']:,} events",
        "versions": versions,
    }
    for name, digest in manifest["inputs_sha256"].items():
        rows[f"input {name}"] = f"SHA-256 {digest[:16]}"
    table = wrap_last(plain_table("", ""))
    table.show_header = False
    for name, text in rows.items():
        table.add_row(Text(name, "dim"), text)
    yield table
