"""Traffic from the router to models and replicas, as bands as wide as their share of the requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from analysis.charts.chart import Panel
from analysis.charts.deployment import Deployment, Traffic
from analysis.charts.style import INK, MUTED, SMALL, colours, told_apart
from analysis.wording import NUMBER, RATE, SHARE, brief

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH_IN = 4.8
_ROUTER_IN, _MIDDLE_IN, _END_IN = 0.85, 1.8, 1.95
"""From the left: end of the router, and where bands arrive."""
_LEAF_IN, _WIDEST_IN = 0.42, 1.3
_MOST_LEAVES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaf:
    """The end of one band."""

    model: str
    title: str
    words: str
    share: float


def traffic_panel(deployment: Deployment, traffic: Traffic, title: str) -> Panel:
    """A band for each model, and for each replica where there are few, as high as they need."""
    leaves = _leaves(deployment, traffic)
    height = max(1.0, _LEAF_IN * len(leaves)) + 0.1
    rate = "" if traffic.rate_per_s is None else f"{brief(traffic.rate_per_s, NUMBER)}\nrequests/s"
    return Panel(
        title=title,
        draw=partial(_draw, leaves=leaves, palette=colours(deployment.models), height=height, rate=rate),
        size_in=(_WIDTH_IN, height + 0.1),
        group=deployment.name,
    )


def _leaves(deployment: Deployment, traffic: Traffic) -> list[_Leaf]:
    single = len(deployment.replicas) <= _MOST_LEAVES and bool(traffic.by_replica)
    found = []
    names = told_apart(deployment.models)
    for model in deployment.models:
        replicas = deployment.replicas_of(model)
        name = f"{deployment.letter(model)}  {names[model]}"
        if single and len(replicas) > 1:
            for replica in replicas:
                share = traffic.by_replica[model, replica.number]
                where = ", ".join(str(gpu) for gpu in replica.gpus)
                place = f"on GPU{'s' if len(replica.gpus) > 1 else ''} {where}"
                title = f"{deployment.short_name(replica)}  {names[model]}"
                found.append(_Leaf(model=model, title=title, words=f"{_amount(share, traffic)}, {place}", share=share))
            continue
        share = traffic.by_model[model]
        tp = {len(replica.gpus) for replica in replicas}
        gpus = f"{min(tp)} GPU{'s' if max(tp) > 1 else ''}" if len(tp) == 1 else f"{min(tp)} to {max(tp)} GPUs"
        size = f"on {gpus}" if len(replicas) == 1 else f"{len(replicas)} replicas, {gpus} each"
        found.append(_Leaf(model=model, title=name, words=f"{_amount(share, traffic)}, {size}", share=share))
    return found


def _amount(share: float, traffic: Traffic) -> str:
    if share == 0.0:
        return "no requests"
    rate = "" if traffic.rate_per_s is None else f", {brief(share * traffic.rate_per_s, RATE)}"
    return brief(share, SHARE) + rate


def _draw(axes: Axes, *, leaves: Sequence[_Leaf], palette: dict[str, str], height: float, rate: str) -> None:
    from matplotlib.patches import PathPatch, Rectangle
    from matplotlib.path import Path

    axes.set_xlim(-0.05, _WIDTH_IN - 0.05)
    axes.set_ylim(0.0, height)
    axes.set_aspect("equal", anchor="NW")
    axes.set_axis_off()
    spacing = height / len(leaves)
    # No band is wider than its row, whatever its share.
    widest = max(leaf.share for leaf in leaves) or 1.0
    scale = min(_WIDEST_IN, 0.86 * spacing / widest, 0.86 * height)
    thickness = sum(leaf.share for leaf in leaves) * scale
    y = height / 2 + thickness / 2
    axes.add_patch(
        Rectangle(
            (0.0, height / 2 - max(thickness, 0.56) / 2 - 0.04), _ROUTER_IN, max(thickness, 0.56) + 0.08,
            facecolor="none", edgecolor=MUTED, linewidth=1,
        )
    )  # fmt: skip
    axes.text(_ROUTER_IN / 2, height / 2, f"router\n{rate}".strip(), va="center", ha="center", fontsize=SMALL)
    for place, leaf in enumerate(leaves):
        width = leaf.share * scale
        middle = height - spacing * (place + 0.5)
        start, end = y - width / 2, middle
        y -= width
        if leaf.share == 0.0:
            axes.plot([_ROUTER_IN, _END_IN], [start, end], color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
        else:
            bend = (_ROUTER_IN + _MIDDLE_IN) / 2
            upper, lower = start + width / 2, start - width / 2
            corners = [
                (_ROUTER_IN, upper), (bend, upper), (bend, end + width / 2), (_MIDDLE_IN, end + width / 2),
                (_END_IN, end), (_MIDDLE_IN, end - width / 2),
                (bend, end - width / 2), (bend, lower), (_ROUTER_IN, lower), (_ROUTER_IN, upper),
            ]  # fmt: skip
            codes = [
                Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4, Path.LINETO, Path.LINETO,
                Path.CURVE4, Path.CURVE4, Path.CURVE4, Path.CLOSEPOLY,
            ]  # fmt: skip
            colour = palette[leaf.model]
            axes.add_patch(PathPatch(Path(corners, codes), facecolor=colour, alpha=0.45, linewidth=0))
            axes.add_patch(PathPatch(Path(corners, codes), facecolor="none", edgecolor=colour, linewidth=0.8))
        axes.text(_END_IN + 0.08, middle + 0.085, leaf.title, va="center", fontsize=SMALL, fontweight="bold", color=INK)
        axes.text(_END_IN + 0.08, middle - 0.085, leaf.words, va="center", fontsize=SMALL, color=MUTED)
