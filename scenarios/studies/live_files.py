"""The live study as rows, as a table on the terminal, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.pictures import logarithmic, picture
from scenarios.studies.live_study import LiveRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]

_PANEL_IN = (3.4, 3.2)
_MOST_COLUMNS = 3
_MARKERS = "osD^v"


def live_rows(rows: Sequence[LiveRow]) -> list[Row]:
    """One plain row per system and case; what there is none of is empty."""
    return [
        {
            "gpus": row.case.gpus,
            "rate_per_s": row.case.rate_per_s,
            "target_ms": round(1e3 * row.case.target_s, 6),
            "system": row.system,
            "promised_ms": "" if row.promised_s is None else round(1e3 * row.promised_s, 3),
            "ttft_mean_ms": "" if row.ttft_s is None else round(1e3 * row.ttft_s.estimate, 3),
            "ttft_half_width_ms": "" if row.ttft_s is None else round(1e3 * row.ttft_s.half_width, 3),
            "achieved": "" if row.achieved is None else round(row.achieved.estimate, 5),
            "achieved_half_width": "" if row.achieved is None else round(row.achieved.half_width, 5),
            "verdict": "" if row.outcome is None else str(row.outcome),
            "note": row.note,
        }
        for row in rows
    ]


def printed_live(rows: Sequence[LiveRow]) -> str:
    """A line per system and case for the terminal."""
    lines = [f"{'case':22}{'system':30}{'promised':>10}{'mean TTFT':>18}{'achieved':>18}  verdict"]
    for row in rows:
        promised = "-" if row.promised_s is None else f"{1e3 * row.promised_s:,.0f} ms"
        ttft = achieved = "-"
        if row.ttft_s is not None:
            ttft = f"{1e3 * row.ttft_s.estimate:,.0f} ± {1e3 * row.ttft_s.half_width:,.0f} ms"
        if row.achieved is not None:
            achieved = f"{row.achieved.estimate:.4f} ± {row.achieved.half_width:.4f}"
        outcome = "" if row.outcome is None else str(row.outcome)
        lines.append(f"{row.case!s:22}{row.system:30}{promised:>10}{ttft:>18}{achieved:>18}  {outcome}")
        lines.append(f"{'':22}  {row.note}")
    return "\n".join(lines)


def plot_live(rows: Sequence[LiveRow], path: Path) -> None:
    """Draw mean TTFT over achieved score, a panel for each case that anything ran in, with the target as a line."""
    systems = list(dict.fromkeys(row.system for row in rows))
    drawn = [row for row in rows if row.ttft_s is not None]
    cases = list(dict.fromkeys(row.case for row in drawn)) or [rows[0].case]
    columns = min(_MOST_COLUMNS, len(cases))
    lines = -(-len(cases) // columns)
    with picture(path, lines, columns, size=_PANEL_IN) as (figure, axes):
        panels = [panel for line in axes for panel in line]
        for panel in panels[len(cases) :]:
            panel.set_visible(False)
        for case, panel in zip(cases, panels, strict=False):
            for row in drawn:
                if row.case == case:
                    _draw(panel, row, systems.index(row.system))
            panel.axhline(case.target_s, color="0.3", linestyle="--", linewidth=1)
            panel.set(xlabel="achieved score", ylabel="mean TTFT (s)", title=str(case))
            logarithmic(panel, y=True)
        handles = {
            label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=3,
            title="dashed: target",
            frameon=False,
        )


def _draw(panel: Axes, row: LiveRow, number: int) -> None:
    assert row.ttft_s is not None
    assert row.achieved is not None
    low = max(row.ttft_s.low, 0.1 * row.ttft_s.estimate)
    panel.errorbar(
        row.achieved.estimate,
        row.ttft_s.estimate,
        xerr=row.achieved.half_width,
        yerr=[[row.ttft_s.estimate - low], [row.ttft_s.half_width]],
        fmt=_MARKERS[number % len(_MARKERS)],
        color=f"C{number}",
        label=row.system,
        capsize=2,
    )
