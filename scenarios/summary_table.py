"""The summary of a run as a table on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.cost_lines import cost_lines
from analysis.figure_texts import figure_text, point
from analysis.summary import Summary

_HIDDEN_AT_ZERO = ("misses", "hits")

_ROWS: tuple[tuple[str, Callable[[Summary], Any], str], ...] = (
    ("requests", lambda group: group["requests"]["total"], "count"),
    ("  finished", lambda group: group["requests"]["finished"], "count"),
    ("  rejected", lambda group: group["requests"]["rejected"], "misses"),
    ("  timed out", lambda group: group["requests"]["timed_out"], "misses"),
    ("  aborted", lambda group: group["requests"]["aborted"], "misses"),
    ("  unfinished", lambda group: group["requests"]["unfinished"], "misses"),
    ("  failed", lambda group: group["requests"]["failed"], "misses"),
    ("  cut at max_model_len", lambda group: group["cut_short"], "misses"),
    ("requests/s", lambda group: group["requests_per_s"], "rate"),
    ("output tokens/s", lambda group: group["output_tokens_per_s"], "rate"),
    ("TTFT mean (ms)", lambda group: group["ttft_s"]["mean"], "ms"),
    ("TTFT P50", lambda group: group["ttft_s"]["p50"], "ms"),
    ("TTFT P95", lambda group: group["ttft_s"]["p95"], "ms"),
    ("TTFT P99", lambda group: group["ttft_s"]["p99"], "ms"),
    ("TPOT mean (ms)", lambda group: group["tpot_s"]["mean"], "ms"),
    ("TPOT P99", lambda group: group["tpot_s"]["p99"], "ms"),
    ("ITL P50 (ms)", lambda group: group["itl_s"]["p50"], "ms"),
    ("ITL P99", lambda group: group["itl_s"]["p99"], "ms"),
    ("E2E mean (ms)", lambda group: group["e2e_s"]["mean"], "ms"),
    ("E2E P99", lambda group: group["e2e_s"]["p99"], "ms"),
    ("answers not passed on", lambda group: group["rejected_answers"], "misses"),
    ("starts again after crashes", lambda group: group["retries"], "misses"),
    ("preemptions", lambda group: group["preemptions"], "misses"),
    ("prefix cache hits", lambda group: group["prefix_cache_hit_ratio"], "hits"),
    ("goodput (requests/s)", lambda group: group["goodput_per_s"], "rate"),
    ("SLO attainment", lambda group: group["slo_attainment"], "share"),
    ("predicted score", lambda group: _quality(group)["predicted"], "score"),
    ("achieved score", lambda group: _quality(group)["achieved"], "score"),
)


def _quality(group: Summary) -> Summary:
    """Quality of the answers; ``None`` for all where requests have no prompts."""
    return group.get("quality") or {"predicted": None, "achieved": None}


def print_summary(name: str, summary: Summary, console: Console | None = None) -> None:
    """Print one column per model, and one for all when there are several.

    Parameters
    ----------
    name : str
        Title.
    summary : dict
        Of one run, or of several replications (then every figure is shown with half its confidence interval).
    console : rich.console.Console, optional
        Where to print; default: standard output, without wrapping when it is not a terminal.
    """
    groups = dict(summary["by_model"])
    if len(groups) > 1:
        groups["all"] = summary["overall"]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for heading in groups:
        table.add_column(heading, justify="right")
    for label, pick, unit in _ROWS:
        values = [pick(group) for group in groups.values()]
        if all(value is None or (unit in _HIDDEN_AT_ZERO and not point(value)) for value in values):
            continue
        table.add_row(label, *(figure_text(value, unit) for value in values))
    if console is None:
        console = results_console()
    console.print(_title(name, summary))
    for part in (table, _replica_table(summary)):
        console.print()
        console.print(part)
    console.print()
    lines = list(cost_lines(summary.get("cost")))
    for line in lines:
        console.print(line)
    if lines:
        console.print()


def results_console() -> Console:
    """Standard output; lines are not wrapped in a pipe or a file, and names in brackets are no markup."""
    terminal = Console(highlight=False, markup=False, emoji=False)
    return terminal if terminal.is_terminal else Console(highlight=False, markup=False, emoji=False, width=1000)


def _title(name: str, summary: Summary) -> str:
    parts = [f"{name}: {figure_text(summary['end_s'], 'seconds')} s simulated"]
    if point(summary["warmup_s"]):
        parts.append(f"the first {figure_text(summary['warmup_s'], 'seconds')} s left out")
    if "replications" in summary:
        parts.append(f"{summary['replications']} replications, {summary['confidence']:.0%} confidence")
    if summary["slo"]:
        parts.append(f"SLO {summary['slo']} ms")
    return ", ".join(parts)


def _replica_table(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("replica")
    for heading in ("utilisation", "batch", "KV used", "waiting", "most waiting"):
        table.add_column(heading, justify="right")
    for name, load in list(summary["replicas"].items())[:16]:
        table.add_row(
            name,
            figure_text(load["utilisation"], "share"),
            figure_text(load["mean_batch_size"], "rate"),
            figure_text(load["mean_kv_used_frac"], "share"),
            figure_text(load["mean_waiting"], "rate"),
            figure_text(load["max_waiting"], "count"),
        )
    if len(summary["replicas"]) > 16:
        table.add_row(f"... and {len(summary['replicas']) - 16} more, see summary.json")
    return table
