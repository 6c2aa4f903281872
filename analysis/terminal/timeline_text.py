"""How a run went over time, as sparklines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from analysis.stored.run import StoredRun
from analysis.terminal.text_graphics import Canvas, in_columns, slots
from analysis.terminal.verdict_text import heading
from sim.results import Floats

_MOST_MODELS = 6
_NAME_WIDTH = 14
_SERIES = (("running", "running", "sum"), ("waiting", "waiting", "sum"), ("KV used", "kv_used_frac", "mean"))


def timeline_text(run: StoredRun, canvas: Canvas, *, replication: int = 0) -> Iterator[RenderableType]:
    """Arrivals, running and waiting requests and KV use of one replication, by model; each line is scaled by itself."""
    table = run.timeseries(replication)
    requests = run.requests_of(replication)
    # Requests may come after the last sample.
    end_s = max(
        (float(times_s.max()) for times_s in (table["time_s"], requests["arrival_s"]) if len(times_s)), default=0.0
    )
    begin_s = min(run.warmup_s[replication], end_s)
    models = run.used_models[:_MOST_MODELS]
    if not end_s > begin_s or not models:
        return
    width = canvas.width - 10 - _NAME_WIDTH - 12
    which = f", replication {replication}" if run.replications > 1 else ""
    scale, unit = (1.0, "s") if end_s < 3 * 3600.0 else (3600.0, "h")
    span = f"{begin_s / scale:,.4g} to {end_s / scale:,.4g} {unit}"
    yield heading(f"Over time{which}: {span}, {(end_s - begin_s) / scale / width:,.3g} {unit} a character")
    yield Text(" " * (10 + _NAME_WIDTH) + "highest".rjust(width + 11), "dim")
    labels = in_columns(models, _NAME_WIDTH - 1)
    for name in models:
        arrivals_s = requests.loc[requests["model"] == name, "arrival_s"].to_numpy(dtype=np.float64)
        counts = np.histogram(arrivals_s, np.linspace(begin_s, end_s, width + 1))[0]
        rates = counts * width / (end_s - begin_s)
        yield _line("arrivals", labels[name], name == models[0], rates, f"{rates.max():,.3g}/s", canvas)
    for words, column, how in _SERIES:
        for name in models:
            of_model = table[table["model"] == name].groupby("time_s")[column]
            series = of_model.sum() if how == "sum" else of_model.mean()
            times_s = series.index.to_numpy(dtype=np.float64)
            values = slots(times_s, series.to_numpy(dtype=np.float64), begin_s, end_s, width)
            highest = float(np.nanmax(values, initial=0.0))
            shown = f"{highest:.0%}" if column == "kv_used_frac" else f"{highest:,.3g}"
            yield _line(words, labels[name], name == models[0], values, shown, canvas)
    yield from _outages(run, begin_s, end_s, width, canvas)


def _outages(run: StoredRun, begin_s: float, end_s: float, width: int, canvas: Canvas) -> Iterator[Text]:
    """A line for each replica that was down, as high as the share of each moment in which it was."""
    outages = run.outages(0)
    edges = np.linspace(begin_s, end_s, width + 1)
    down = dict.fromkeys(outage.replica for outage in outages)
    labels = in_columns(list(down)[:_MOST_MODELS], _NAME_WIDTH - 1)
    for number, replica in enumerate(labels):
        down_s = np.zeros(width)
        for outage in outages:
            if outage.replica == replica:
                down_s += np.clip(np.minimum(outage.to_s, edges[1:]) - np.maximum(outage.from_s, edges[:-1]), 0.0, None)
        shares = down_s * width / (end_s - begin_s)
        yield _line("down", labels[replica], number == 0, shares, f"{down_s.sum():,.3g} s", canvas)


def _line(words: str, label: str, is_first: bool, values: Floats, highest: str, canvas: Canvas) -> Text:
    return Text.assemble(
        (words if is_first else "").ljust(10),
        label,
        " ",
        (canvas.sparkline(values), "cyan"),
        highest.rjust(11),
    )
