"""A gap report as text on the terminal, and as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.causes import CauseEffects, Effect
from analysis.statistics import Interval
from scenarios.summary_table import results_console
from scenarios.validation.gap import Gap, GapReport
from scenarios.validation.report import interval_json

INTERACTION = "together beyond that"
LEFT_OVER = "left over (curves)"


def print_gaps(report: GapReport, console: Console | None = None) -> None:
    """Print a table for each gap, and what was done to take each cause away."""
    console = console or results_console()
    for gap in report.gaps:
        console.print()
        console.print(_table(gap))
    console.print()
    for name, explanation in report.explanations.items():
        console.print(f"  without {name}: {explanation}")


def gaps_json(report: GapReport) -> dict[str, Any]:
    """The report as plain values; what is not known is ``None``."""
    return {
        "replications": report.replications,
        "explanations": report.explanations,
        "gaps": [
            {
                "name": gap.name,
                "unit": gap.unit,
                "promised": gap.promised,
                "simulated": interval_json(gap.simulated),
                "left_over": interval_json(gap.left_over),
                "steps": [{"name": name, "effect": interval_json(interval)} for name, interval in steps_of(gap)],
                "effects": None if gap.effects is None else _effects_json(gap.effects),
            }
            for gap in report.gaps
        ],
    }


def steps_of(gap: Gap) -> list[tuple[str, Interval]]:
    """What leads from the promise to the simulated figure, in order: the estimates add up."""
    if gap.effects is None or gap.left_over is None:
        return []
    causes = [(name, effect.interval) for name, effect in gap.effects.causes.items()]
    return [(LEFT_OVER, gap.left_over), *causes, (INTERACTION, gap.effects.interaction.interval)]


def scaled(value: float, unit: str) -> float:
    """A figure in the unit that is shown: milliseconds, per cent, or a score."""
    return value * {"s": 1e3, "share": 100.0, "score": 1.0}[unit]


def title(gap: Gap) -> str:
    """What a gap is of, with the unit of :func:`scaled`."""
    return gap.name if gap.unit == "score" else f"{gap.name} ({'ms' if gap.unit == 's' else '%'})"


def _effects_json(effects: CauseEffects) -> dict[str, Any]:
    return {
        "confidence": effects.confidence,
        "total": _effect_json(effects.total),
        "causes": {name: _effect_json(effect) for name, effect in effects.causes.items()},
        "interaction": _effect_json(effects.interaction),
    }


def _effect_json(effect: Effect) -> dict[str, Any]:
    return {"effect": interval_json(effect.interval), "share": interval_json(effect.share)}


def _table(gap: Gap) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(title(gap))
    for heading in ("effect", "interval", "share of the explained"):
        table.add_column(heading, justify="right")
    table.add_row("promised", _number(gap.promised, gap.unit), "", "")
    for name, interval in steps_of(gap):
        table.add_row(f"  {name}", _signed(interval.estimate, gap.unit), _bounds(interval, gap.unit), _share(gap, name))
    if gap.simulated is None:
        table.add_row("simulated", "none", "", "")
    else:
        table.add_row(
            "simulated", _number(gap.simulated.estimate, gap.unit), _bounds(gap.simulated, gap.unit, signed=False), ""
        )
    if gap.effects is None:
        table.add_row("  not attributed: in some run no request has this figure", "", "", "")
    return table


def _share(gap: Gap, name: str) -> str:
    if gap.effects is None or name == LEFT_OVER:
        return ""
    effect = gap.effects.interaction if name == INTERACTION else gap.effects.causes[name]
    if effect.share is None:
        return "-"
    return f"{effect.share.estimate:.0%} [{effect.share.low:.0%}, {effect.share.high:.0%}]"


def _number(value: float, unit: str) -> str:
    return f"{scaled(value, unit):.{_digits(unit)}f}"


def _signed(value: float, unit: str) -> str:
    return f"{scaled(value, unit):+.{_digits(unit)}f}"


def _bounds(interval: Interval, unit: str, *, signed: bool = True) -> str:
    show = _signed if signed else _number
    return f"[{show(interval.low, unit)}, {show(interval.high, unit)}]"


def _digits(unit: str) -> int:
    return {"s": 1, "share": 2, "score": 4}[unit]
