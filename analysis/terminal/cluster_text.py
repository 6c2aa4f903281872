"""The cluster of a run: which share of which GPU each model has, and how busy its replicas were."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from analysis.estimates import value_of
from analysis.stored.run import StoredRun
from analysis.terminal.text_graphics import Canvas, in_columns
from analysis.terminal.verdict_text import heading, plain_table
from analysis.wording import COUNT, NUMBER, SHARE, in_column, ranges

_COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red")
_MOST_ROWS = 16
_NAME_WIDTH = 19


def cluster_text(run: StoredRun, canvas: Canvas) -> Iterator[RenderableType]:
    """GPUs with the shares of compute and memory that models have on them, drawn with a letter for each model."""
    gpus, replicas = int(run.cluster["gpus"]["count"]), run.cluster["replicas"]
    letters = dict(zip(run.models, _letters(), strict=False))
    cost = run.summary.get("cost")
    kind = cost["gpu"] if cost and cost["gpu"] else "GPU"
    yield heading(f"Cluster: {gpus} x {kind}, router {run.cluster['router']}")
    width = (canvas.width - 12) // 2
    yield Text(f"{'GPU':<8}{'compute':<{width + 2}}memory", "dim")
    groups = _alike(gpus, replicas)
    for numbers, tenants in list(groups.items())[:_MOST_ROWS]:
        given = sum(tenant["compute_share"] for tenant in tenants)
        line = Text((numbers if given < 1.005 else f"{numbers} {given:.0%}").ljust(8))
        for share in ("compute_share", "memory_share"):
            line.append_text(_shares(run.models, letters, tenants, share, width))
            line.append("  ")
        line.rstrip()
        yield line
    if len(groups) > _MOST_ROWS:
        yield Text(f"... and {len(groups) - _MOST_ROWS} more", "dim")
    yield ""
    table = plain_table("  replica", "GPUs", "compute", "memory", "busy", "batch", "KV", "waiting", "most")
    names = in_columns((replica["name"] for replica in replicas), _NAME_WIDTH)
    for replica in replicas[:_MOST_ROWS]:
        load = run.summary["replicas"][replica["name"]]
        table.add_row(
            Text.assemble(
                (letters[replica["model"]], _style(run.models, replica["model"])),
                f" {names[replica['name']].rstrip()}",
            ),
            ranges(replica["gpus"], ","),
            f"{replica['compute_share']:.0%}",
            f"{replica['memory_share']:.0%}",
            *(
                in_column(value_of(load[key]), unit)
                for key, unit in (
                    ("utilisation", SHARE),
                    ("mean_batch_size", NUMBER),
                    ("mean_kv_used_frac", SHARE),
                    ("mean_waiting", NUMBER),
                    ("max_waiting", COUNT),
                )
            ),
        )
    yield table
    if len(replicas) > _MOST_ROWS:
        yield Text(f"... and {len(replicas) - _MOST_ROWS} more replicas", "dim")


def _letters() -> str:
    return string.ascii_lowercase + string.ascii_uppercase + "?" * 10_000


def _style(models: Sequence[str], model: str) -> str:
    return _COLOURS[models.index(model) % len(_COLOURS)]


def _alike(gpus: int, replicas: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """GPUs that hold shards of the same models with the same shares, as one row; by numbers such as ``0-3``."""
    found: dict[tuple[Any, ...], tuple[list[int], list[Mapping[str, Any]]]] = {}
    for gpu in range(gpus):
        tenants = [replica for replica in replicas if gpu in replica["gpus"]]
        key = tuple((tenant["model"], tenant["compute_share"], tenant["memory_share"]) for tenant in tenants)
        found.setdefault(key, ([], tenants))[0].append(gpu)
    return {ranges(numbers, ","): tenants for numbers, tenants in found.values()}


def _shares(
    models: Sequence[str],
    letters: Mapping[str, str],
    tenants: Sequence[Mapping[str, Any]],
    share: str,
    width: int,
) -> Text:
    """A bar in which each model fills its share with its letter; shares that sum to more than 1 fill it all."""
    whole = max(1.0, sum(tenant[share] for tenant in tenants))
    line = Text()
    reached = 0.0
    for tenant in tenants:
        begin, reached = reached, reached + tenant[share] / whole * width
        line.append(letters[tenant["model"]] * (round(reached) - round(begin)), _style(models, tenant["model"]))
    line.append("." * (width - len(line)), "dim")
    return line
