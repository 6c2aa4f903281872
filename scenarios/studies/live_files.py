"""The live study as rows, as a table on the terminal, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.pictures import logarithmic, picture
from scenarios.studies.live_study import LiveRow

Row = dict[str, Any]

_PANEL_IN = (3.4, 3.2)
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
    """Draw mean TTFT over achieved score, a panel for each case, with the target as a line."""
    cases = list(dict.fromkeys(row.case for row in rows))
    systems = list(dict.fromkeys(row.system for row in rows))
    with picture(path, 1, len(cases), size=_PANEL_IN) as (_, axes):
        for case, panel in zip(cases, axes[0], strict=True):
            for number, system in enumerate(systems):
                for row in rows:
                    if row.case != case or row.system != system or row.ttft_s is None or row.achieved is None:
                        continue
                    panel.errorbar(
                        row.achieved.estimate,
                        row.ttft_s.estimate,
                        xerr=row.achieved.half_width,
                        yerr=min(row.ttft_s.half_width, 0.9 * row.ttft_s.estimate),
                        fmt=_MARKERS[number % len(_MARKERS)],
                        label=system,
                        capsize=2,
                    )
            panel.axhline(case.target_s, color="0.3", linestyle="--", linewidth=1)
            panel.set(xlabel="achieved score", title=str(case))
            logarithmic(panel, y=True)
        axes[0][0].set_ylabel("mean TTFT (s); dashed: target")
        handles = {
            label: handle for panel in axes[0] for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        axes[0][-1].legend(
            list(handles.values()), list(handles), loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False
        )
