"""Small pictures of text: sparklines, bars, and axes with logarithmic bins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from rich.cells import cell_len, set_cell_size

from analysis.short_names import short_names
from sim.results import Floats

_BLOCKS = " ▁▂▃▄▅▆▇█"
_LETTERS = " .:-=+*#@"
"""The same eight heights for terminals that cannot show blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """What a terminal can show."""

    width: int = 80
    """Characters in a line."""
    blocks: bool = True
    """Whether it can show block characters, or ASCII only."""

    def sparkline(self, values: Sequence[float] | Floats, *, highest: float | None = None) -> str:
        """One character per value, as high as its share of the highest.

        Parameters
        ----------
        values : sequence of float
            Not negative; NaN is left blank, and anything above zero shows.
        highest : float, optional
            What fills a character; default: the highest of the values.
        """
        known = np.asarray(values, dtype=np.float64)
        if highest is None:
            highest = float(np.nanmax(known, initial=0.0))
        steps = np.zeros(len(known)) if not highest > 0 else np.ceil(8 * known / highest - 1e-9)
        heights = np.nan_to_num(np.clip(steps, known > 0, 8)).astype(int)
        return "".join((_BLOCKS if self.blocks else _LETTERS)[height] for height in heights)

    def bar(self, share: float, width: int) -> str:
        """A bar over a share of ``width``; anything above zero shows."""
        filled = min(width, max(round(share * width), 1)) if share > 0 else 0
        return ("█" if self.blocks else "#") * filled


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAxis:
    """A logarithmic axis of ``width`` characters from ``low`` to ``high``."""

    low: float
    high: float
    width: int

    @classmethod
    def over(cls, values: Floats, width: int, *, also: float | None = None) -> LogAxis | None:
        """An axis over all but the thinnest tails of some values.

        Parameters
        ----------
        values : array of float
            NaN, zero and less are left out.
        width : int
            Characters.
        also : float, optional
            A value that must be on it, such as a limit.

        Returns
        -------
        LogAxis or None
            ``None`` if there is no value.
        """
        positive = values[values > 0]
        if not len(positive):
            return None
        low, high = (float(end) for end in np.quantile(positive, [0.001, 0.999]))
        if also is not None:
            low, high = min(low, also), max(high, also)
        middle = math.sqrt(low * high)
        return cls(low=min(low * 0.98, middle / 1.2), high=max(high * 1.02, middle * 1.2), width=width)

    def place(self, value: float) -> int:
        """The character that a value falls on; what is off the axis is at its end."""
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return min(int(share * self.width), self.width - 1)

    def counts(self, values: Floats) -> Floats:
        """How many values fall on each character, shape (width,)."""
        inside = np.clip(values[~np.isnan(values)], self.low, self.high)
        edges = np.geomspace(self.low, self.high, self.width + 1)
        return np.histogram(inside, np.concatenate([[0.0], edges[1:-1], [math.inf]]))[0].astype(np.float64)

    def labels(self) -> str:
        """Round numbers, each beginning at the character that it falls on."""
        for steps in ((1, 2, 5), (1, 3), (1,)):
            values = [
                step * 10.0**decade
                for decade in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                for step in steps
                if self.low <= step * 10.0**decade <= self.high
            ]
            if line := self._labelled(values):
                return line
        return self._labelled([self.low])

    def _labelled(self, values: Sequence[float]) -> str:
        """The line with these labels, but for those beyond its end; empty if two of them meet."""
        line = ""
        for value in values:
            place, label = self.place(value), f"{value:,.0f}" if value >= 1 else f"{value:.3g}"
            if place + len(label) > self.width:
                break
            if line and place <= len(line):
                return ""
            line = line.ljust(place) + label
        return line

    def mark(self, value: float, words: str) -> str:
        """A line that points at a value from below, with words beside the arrow."""
        place = self.place(value)
        behind = " " * place + f"^ {words}"
        return behind if len(behind) <= self.width else f"{words} ^".rjust(place + 1)


def in_columns(names: Iterable[str], width: int) -> dict[str, str]:
    """Names that appear together, each as wide as so many characters; of those too long, the beginning and the end."""
    short = short_names(names, partial(_cut, width=width), partial(set_cell_size, total=width), gap="..")
    return {name: set_cell_size(text, width) for name, text in short.items()}


def _cut(name: str, width: int) -> str:
    """By columns of the terminal: some characters, such as Japanese ones, take two."""
    if cell_len(name) <= width:
        return name
    end = (width - 2) // 2
    return f"{set_cell_size(name, width - 2 - end)}..{set_cell_size(name[::-1], end)[::-1]}"


def slots(times_s: Floats, values: Floats, begin_s: float, end_s: float, count: int) -> Floats:
    """Means of samples in equal slots of time; an empty slot has the mean of the one before.

    Parameters
    ----------
    times_s, values : array, shape (n,)
        Samples by time.
    begin_s, end_s : float
        What the slots cover.
    count : int
        Number of slots.
    """
    inside = (times_s >= begin_s) & (times_s <= end_s)
    edges = np.linspace(begin_s, end_s, count + 1)
    sums = np.histogram(times_s[inside], edges, weights=values[inside])[0]
    numbers = np.histogram(times_s[inside], edges)[0]
    means = np.divide(sums, numbers, out=np.full(count, np.nan), where=numbers > 0)
    last_known = np.maximum.accumulate(np.where(numbers > 0, np.arange(count), 0))
    filled: Floats = means[last_known]
    return filled
