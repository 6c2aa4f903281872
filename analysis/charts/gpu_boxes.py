"""GPUs as boxes with the shards in them: shares of compute and memory as widths, shards of one replica linked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.charts.chart import Panel
from analysis.charts.deployment import DeployedReplica, Deployment
from analysis.charts.style import GRID, INK, MUTED, SMALL, colours, told_apart
from analysis.wording import percent, ranges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

_WIDTH_IN = 4.8
_GAP_IN = 0.09
_HEADER_IN, _LABEL_IN, _BAR_IN, _PAD_IN = 0.22, 0.17, 0.22, 0.07
_LABEL_POINTS = SMALL - 0.5
_LINK_IN = 0.11
_MOST_SINGLE = 16
"""GPUs that are all drawn; of more, equal ones share a box."""
_CHARACTER_IN = 0.078
"""Width of a character of small text, on the safe side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    """GPUs with the same shards on them; often just one."""

    numbers: tuple[int, ...]
    shards: tuple[DeployedReplica, ...]
    """Of the first of the GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Where boxes are, in inches from the lower left corner of the panel."""

    columns: int
    box_in: float
    detailed: bool
    """Whether there is room for words on the bars."""

    @property
    def height_in(self) -> float:
        """Height of a box."""
        labels = 2 * _LABEL_IN if self.detailed else 0.06
        return _HEADER_IN + labels + 2 * _BAR_IN + _PAD_IN


def gpu_panel(deployment: Deployment, title: str) -> Panel:
    """All GPUs of a cluster, as high as they need.

    Up to 16 GPUs have a box each; of more, those with equal shards share one, which says which they are.
    """
    boxes = _boxes(deployment)
    grouped = any(len(box.numbers) > 1 for box in boxes)
    columns = min(len(boxes), 2 if grouped and len(boxes) <= 6 else 4 if len(boxes) <= 16 else 8)
    box_in = min(2.3, (_WIDTH_IN - 0.1 - _GAP_IN * (columns - 1)) / columns)
    grid = _Grid(columns=columns, box_in=box_in, detailed=box_in >= 0.9)
    rows = [boxes[first : first + columns] for first in range(0, len(boxes), columns)]
    links = [_links(row, deployment) for row in rows]
    heights = [grid.height_in + _GAP_IN + _LINK_IN * _levels(found) for found in links]
    key_in = 0.2 * math.ceil(len(_key(deployment)) / 2) + 0.06
    total = sum(heights) + key_in
    return Panel(
        title=title,
        draw=partial(_draw, deployment=deployment, rows=rows, links=links, heights=heights, grid=grid, total=total),
        size_in=(_WIDTH_IN, total + 0.15),
        group=deployment.name,
    )


def _boxes(deployment: Deployment) -> list[_Box]:
    on_gpu: list[list[DeployedReplica]] = [[] for _ in range(deployment.gpus)]
    for replica in deployment.replicas:
        for gpu in replica.gpus:
            on_gpu[gpu].append(replica)
    if deployment.gpus <= _MOST_SINGLE:
        return [_Box(numbers=(gpu,), shards=tuple(shards)) for gpu, shards in enumerate(on_gpu)]
    alike: dict[tuple[tuple[object, ...], ...], list[int]] = {}
    for gpu, shards in enumerate(on_gpu):
        content = tuple((one.model, len(one.gpus), one.compute_share, one.memory_share) for one in shards)
        alike.setdefault(content, []).append(gpu)
    return [_Box(numbers=tuple(gpus), shards=tuple(on_gpu[gpus[0]])) for gpus in alike.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """Shards of one replica that are in one row of boxes."""

    replica: DeployedReplica
    places: tuple[int, ...]
    """Of their boxes in the row."""
    level: int


def _links(row: Sequence[_Box], deployment: Deployment) -> list[_Link]:
    found: list[_Link] = []
    if any(len(box.numbers) > 1 for box in row):
        return found
    for replica in deployment.replicas:
        places = tuple(place for place, box in enumerate(row) if box.numbers[0] in replica.gpus)
        if len(replica.gpus) < 2 or not places:
            continue
        taken = {link.level for link in found if link.places[0] <= places[-1] and places[0] <= link.places[-1]}
        level = next(level for level in range(len(found) + 1) if level not in taken)
        found.append(_Link(replica=replica, places=places, level=level))
    return found


def _levels(links: Sequence[_Link]) -> int:
    return 1 + max(link.level for link in links) if links else 0


def _key(deployment: Deployment) -> list[str]:
    return [model for model in deployment.models if deployment.replicas_of(model)]


def _draw(
    axes: Axes,
    *,
    deployment: Deployment,
    rows: Sequence[Sequence[_Box]],
    links: Sequence[Sequence[_Link]],
    heights: Sequence[float],
    grid: _Grid,
    total: float,
) -> None:
    axes.set_xlim(-0.05, _WIDTH_IN - 0.05)
    axes.set_ylim(0.0, total)
    axes.set_aspect("equal", anchor="NW")
    axes.set_axis_off()
    top = total
    for row, linked, height in zip(rows, links, heights, strict=True):
        for place, box in enumerate(row):
            _draw_box(axes, box, place * (grid.box_in + _GAP_IN), top, deployment, grid)
        for link in linked:
            _draw_link(axes, link, row, top - grid.height_in, deployment, grid)
        top -= height
    palette, names = colours(deployment.models), told_apart(deployment.models)
    for place, model in enumerate(_key(deployment)):
        x, y = (place % 2) * _WIDTH_IN / 2, top - 0.1 - 0.2 * (place // 2)
        axes.add_patch(_rectangle(x, y - 0.06, 0.18, 0.12, facecolor=palette[model], alpha=0.45))
        axes.text(x + 0.26, y, f"{deployment.letter(model)}  {names[model]}", va="center", fontsize=SMALL)


def _draw_box(axes: Axes, box: _Box, left: float, top: float, deployment: Deployment, grid: _Grid) -> None:
    axes.add_patch(
        _rectangle(
            left, top - grid.height_in, grid.box_in, grid.height_in, facecolor="none", edgecolor=MUTED, linewidth=1
        )
    )
    axes.text(
        left + _PAD_IN, top - _HEADER_IN / 2, _box_words(box, grid), va="center", fontsize=SMALL, fontweight="bold"
    )
    y = top - _HEADER_IN
    for name in ("compute", "memory"):
        shares = [getattr(shard, f"{name}_share") for shard in box.shards]
        if grid.detailed:
            words = f"{name} {percent(sum(shares)) if shares else 'free'}"
            axes.text(left + _PAD_IN, y - _LABEL_IN / 2, words, va="center", fontsize=_LABEL_POINTS, color=MUTED)
            y -= _LABEL_IN
        _draw_bar(axes, box, shares, left + _PAD_IN, y, grid.box_in - 2 * _PAD_IN, deployment)
        y -= _BAR_IN + (0.0 if grid.detailed else 0.03)


def _box_words(box: _Box, grid: _Grid) -> str:
    if len(box.numbers) == 1:
        return f"GPU {box.numbers[0]}" if grid.box_in >= 0.6 else str(box.numbers[0])
    words = f"{len(box.numbers)} GPUs: {ranges(box.numbers)}"
    room = round(grid.box_in / (_CHARACTER_IN * 1.1)) - 1
    if grid.box_in < 0.6:
        words = ranges(box.numbers)
    return words if len(words) <= room else f"{words[: max(room - 1, 4)]}…"


def _draw_bar(
    axes: Axes, box: _Box, shares: Sequence[float], left: float, top: float, width: float, deployment: Deployment
) -> None:
    """Shares side by side; what is unused stays empty, and caps of more than all there is are squeezed into it."""
    palette = colours(deployment.models)
    scale = width / max(1.0, sum(shares))
    height = _BAR_IN - 0.04
    axes.add_patch(_rectangle(left, top - height, width, height, facecolor="none", edgecolor=GRID, linewidth=0.8))
    x = left
    for shard, share in zip(box.shards, shares, strict=True):
        length = share * scale
        axes.add_patch(_rectangle(x, top - height, length, height, facecolor=palette[shard.model], alpha=0.45))
        axes.add_patch(
            _rectangle(x, top - height, length, height, facecolor="none", edgecolor=palette[shard.model], linewidth=1)
        )
        single = len(box.numbers) == 1
        name = deployment.short_name(shard) if single else deployment.letter(shard.model)
        for words in (f"{name} {percent(share)}", name):
            if len(words) * _CHARACTER_IN <= length:
                axes.text(x + length / 2, top - height / 2, words, va="center", ha="center", fontsize=SMALL, color=INK)
                break
        x += length


def _draw_link(
    axes: Axes, link: _Link, row: Sequence[_Box], bottom: float, deployment: Deployment, grid: _Grid
) -> None:
    """A line under the boxes that joins the shards of a replica."""
    colour = colours(deployment.models)[link.replica.model]
    y = bottom - _LINK_IN * (link.level + 0.7)
    ends = []
    for place in link.places:
        box = row[place]
        shares = [shard.memory_share for shard in box.shards]
        scale = (grid.box_in - 2 * _PAD_IN) / max(1.0, sum(shares))
        before = box.shards.index(link.replica)
        x = place * (grid.box_in + _GAP_IN) + _PAD_IN + scale * (sum(shares[:before]) + shares[before] / 2)
        ends.append(x)
        axes.plot([x, x], [y, bottom + _PAD_IN + 0.03], color=colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot([ends[0], ends[-1]], [y, y], color=colour, linewidth=1.6)


def _rectangle(left: float, bottom: float, width: float, height: float, **look: Any) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((left, bottom), width, height, **({"linewidth": 0.0} | look))
