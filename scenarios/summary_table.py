"""The summary of a run as a table on the terminal."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import TextIOWrapper
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from analysis.cost_lines import cost_lines
from analysis.estimates import estimate_of, value_of
from analysis.summary import Summary
from analysis.wording import COUNT, MILLISECONDS, NUMBER, SCORE, SECONDS, SHARE, Unit, plus_minus

_ROWS: tuple[tuple[str, Callable[[Summary], Any], Unit], ...] = (
    ("requests", lambda group: group["requests"]["total"], COUNT),
    ("  finished", lambda group: group["requests"]["finished"], COUNT),
    ("  rejected", lambda group: group["requests"]["rejected"], COUNT),
    ("  timed out", lambda group: group["requests"]["timed_out"], COUNT),
    ("  aborted", lambda group: group["requests"]["aborted"], COUNT),
    ("  unfinished", lambda group: group["requests"]["unfinished"], COUNT),
    ("  failed", lambda group: group["requests"]["failed"], COUNT),
    ("  cut at max_model_len", lambda group: group["cut_short"], COUNT),
    ("requests/s", lambda group: group["requests_per_s"], NUMBER),
    ("output tokens/s", lambda group: group["output_tokens_per_s"], NUMBER),
    ("TTFT mean (ms)", lambda group: group["ttft_s"]["mean"], MILLISECONDS),
    ("TTFT P50", lambda group: group["ttft_s"]["p50"], MILLISECONDS),
    ("TTFT P95", lambda group: group["ttft_s"]["p95"], MILLISECONDS),
    ("TTFT P99", lambda group: group["ttft_s"]["p99"], MILLISECONDS),
    ("TPOT mean (ms)", lambda group: group["tpot_s"]["mean"], MILLISECONDS),
    ("TPOT P99", lambda group: group["tpot_s"]["p99"], MILLISECONDS),
    ("ITL P50 (ms)", lambda group: group["itl_s"]["p50"], MILLISECONDS),
    ("ITL P99", lambda group: group["itl_s"]["p99"], MILLISECONDS),
    ("E2E mean (ms)", lambda group: group["e2e_s"]["mean"], MILLISECONDS),
    ("E2E P99", lambda group: group["e2e_s"]["p99"], MILLISECONDS),
    ("answers not passed on", lambda group: group["rejected_answers"], COUNT),
    ("starts again after crashes", lambda group: group["retries"], COUNT),
    ("preemptions", lambda group: group["preemptions"], COUNT),
    ("prefix cache hits", lambda group: group["prefix_cache_hit_ratio"], SHARE),
    ("goodput (requests/s)", lambda group: group["goodput_per_s"], NUMBER),
    ("SLO attainment", lambda group: group["slo_attainment"], SHARE),
    ("predicted score", lambda group: _quality(group)["predicted"], SCORE),
    ("achieved score", lambda group: _quality(group)["achieved"], SCORE),
)
_HIDDEN_AT_ZERO = (
    "  rejected", "  timed out", "  aborted", "  unfinished", "  failed", "  cut at max_model_len",
    "answers not passed on", "starts again after crashes", "preemptions", "prefix cache hits",
)  # fmt: skip

_COLUMN_GAP = 2
_PLAIN = {"\N{NO-BREAK SPACE}": " ", "\N{MINUS SIGN}": "-", "\N{PLUS-MINUS SIGN}": "+-", "…": "..."}


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
    rows = {}
    for label, pick, unit in _ROWS:
        values = [pick(group) for group in groups.values()]
        if all(not value_of(value) if label in _HIDDEN_AT_ZERO else value is None for value in values):
            continue
        rows[label] = [plus_minus(estimate_of(value), unit) for value in values]
    if console is None:
        console = results_console()
    console.print(_title(name, summary))
    for part in (*_group_tables(list(groups), rows, console.width), _replica_table(summary)):
        console.print()
        console.print(part)
    console.print()
    lines = list(cost_lines(summary.get("cost")))
    for line in lines:
        console.print(line)
    if lines:
        console.print()


def _group_tables(names: Sequence[str], rows: Mapping[str, Sequence[str]], width: int) -> Iterator[Table]:
    """Tables beneath each other, each with as many groups as fit beside the labels: figures are never cut off."""
    label_width = max(map(cell_len, rows), default=0)
    begin, used = 0, label_width
    for place, name in enumerate(names):
        column = _COLUMN_GAP + max(cell_len(text) for text in (name, *(figures[place] for figures in rows.values())))
        if place > begin and used + column > width:
            yield _group_table(names, rows, slice(begin, place))
            begin, used = place, label_width
        used += column
    yield _group_table(names, rows, slice(begin, None))


def _group_table(names: Sequence[str], rows: Mapping[str, Sequence[str]], shown: slice) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in names[shown]:
        table.add_column(name, justify="right", overflow="fold")
    for label, figures in rows.items():
        table.add_row(label, *figures[shown])
    return table


def results_console() -> Console:
    """Standard output; lines are not wrapped in a pipe or a file, and names in brackets are no markup.

    A terminal that cannot show a character shows a plain one in its place.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        codecs.register_error("plain characters", _plain_characters)
        sys.stdout.reconfigure(errors="plain characters")
    terminal = Console(highlight=False, markup=False, emoji=False)
    return terminal if terminal.is_terminal else Console(highlight=False, markup=False, emoji=False, width=1000)


def _plain_characters(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def _title(name: str, summary: Summary) -> str:
    parts = [f"{name}: {plus_minus(estimate_of(summary['end_s']), SECONDS)} s simulated"]
    if value_of(summary["warmup_s"]):
        parts.append(f"the first {plus_minus(estimate_of(summary['warmup_s']), SECONDS)} s left out")
    if "replications" in summary:
        parts.append(f"{summary['replications']} replications, {summary['confidence']:.0%} confidence")
    if summary["slo"]:
        parts.append(f"SLO {summary['slo']} ms")
    return ", ".join(parts)


def _replica_table(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("replica", overflow="fold")
    for heading in ("utilisation", "batch", "KV used", "waiting", "most waiting"):
        table.add_column(heading, justify="right", overflow="fold")
    for name, load in list(summary["replicas"].items())[:16]:
        table.add_row(
            name,
            plus_minus(estimate_of(load["utilisation"]), SHARE),
            plus_minus(estimate_of(load["mean_batch_size"]), NUMBER),
            plus_minus(estimate_of(load["mean_kv_used_frac"]), SHARE),
            plus_minus(estimate_of(load["mean_waiting"]), NUMBER),
            plus_minus(estimate_of(load["max_waiting"]), COUNT),
        )
    if len(summary["replicas"]) > 16:
        table.add_row(f"... and {len(summary['replicas']) - 16} more, see summary.json")
    return table
