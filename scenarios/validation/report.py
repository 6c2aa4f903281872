"""A validation as text on the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.statistics import Interval
from analysis.summary import Summary, plain
from analysis.verdicts import Outcome
from scenarios.plans.promises import PromisedFigure
from scenarios.summary_table import results_console
from scenarios.validation.slo_verdicts import SloVerdict
from scenarios.validation.validate import EXIT_STATUS, Validation


def print_validation(names: str, validation: Validation, console: Console | None = None) -> None:
    """Print the verdicts, and the scores by model."""
    console = console or results_console()
    count, requests = len(validation.runs), sum(run.arrivals for run in validation.runs)
    console.print(f"{names}: {count} replications, {requests:,} requests, {validation.confidence:.0%} confidence\n")
    table = Table(box=None, pad_edge=False)
    table.add_column("SLO")
    table.add_column("verdict")
    for heading in ("simulated (ms)", "late or unanswered", "unanswered", "more replications"):
        table.add_column(heading, justify="right")
    for verdict in validation.slos:
        table.add_row(
            str(verdict.target),
            verdict.outcome.value,
            _milliseconds(verdict.statistic_s),
            _percent(verdict.missed),
            _percent(verdict.unanswered),
            _further(verdict),
        )
    console.print(table)
    scores = _score_table(validation.summary)
    if scores is not None:
        console.print()
        console.print(scores)


def verdict_line(validation: Validation) -> str:
    """The outcome in one line."""
    outcome = validation.outcome
    if outcome is not Outcome.UNDECIDED:
        return f"The plan {'holds' if outcome is Outcome.HOLDS else 'does not hold: it is broken'}."
    many = validation.further
    advice = (
        "the SLO is too close to its limit to tell how many more replications would do"
        if many is None
        else f"about {many} more replications would decide it (--most {len(validation.runs) + many})"
    )
    return f"Undecided after {len(validation.runs)} replications; {advice}."


def validation_json(validation: Validation, promise: Sequence[PromisedFigure]) -> dict[str, Any]:
    """The validation as plain values; what is not finite is ``None``."""
    return {
        "outcome": validation.outcome.value,
        "exit_status": EXIT_STATUS[validation.outcome],
        "replications": len(validation.runs),
        "requests": sum(run.arrivals for run in validation.runs),
        "confidence": validation.confidence,
        "further_replications": validation.further,
        "slos": [_verdict_json(verdict) for verdict in validation.slos],
        "promise": [asdict(figure) for figure in promise],
        "simulated": validation.summary,
    }


def interval_json(interval: Interval | None) -> dict[str, float | None] | None:
    """An interval as plain values."""
    if interval is None:
        return None
    return plain({"estimate": interval.estimate, "low": interval.low, "high": interval.high})


def _verdict_json(verdict: SloVerdict) -> dict[str, Any]:
    return {
        "slo": str(verdict.target),
        **asdict(verdict.target),
        "outcome": verdict.outcome.value,
        "statistic_s": interval_json(verdict.statistic_s),
        "missed": interval_json(verdict.missed),
        "unanswered": interval_json(verdict.unanswered),
        "tolerated_unanswered": verdict.tolerance,
        "confidence": verdict.statistic_s.confidence,
        "further_replications": verdict.further,
    }


def _score_table(summary: Summary) -> Table | None:
    """Scores by model and in total; ``None`` if requests have no prompts."""
    groups = {**summary["by_model"], "all": summary["overall"]}
    if "quality" not in summary["overall"]:
        return None
    table = Table(box=None, pad_edge=False)
    table.add_column("score")
    for name in groups:
        table.add_column(name, justify="right")
    rows = {"predicted": "predicted", "achieved": "achieved", "achieved_of_answered": "achieved, of answered"}
    for key, label in rows.items():
        table.add_row(label, *(_score(group["quality"][key]) for group in groups.values()))
    return table


def _score(value: dict[str, float] | None) -> str:
    if value is None:
        return "-"
    half = "" if value["low"] is None else f" ± {(value['high'] - value['low']) / 2:.4f}"
    return f"{value['mean']:.4f}{half}"


def _milliseconds(interval: Interval) -> str:
    return f"{_ms(interval.estimate)} [{_ms(interval.low)}, {_ms(interval.high)}]"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f}" if abs(seconds) < float("inf") else "none" if seconds > 0 else "0"


def _percent(interval: Interval) -> str:
    return f"{interval.estimate:.2%} [{interval.low:.2%}, {interval.high:.2%}]"


def _further(verdict: SloVerdict) -> str:
    if verdict.outcome is not Outcome.UNDECIDED:
        return ""
    return "cannot tell" if verdict.further is None else f"about {verdict.further}"
