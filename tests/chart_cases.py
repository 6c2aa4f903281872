"""Run directories for tests of charts, and what can be seen in a drawn panel."""

import json
from pathlib import Path

import numpy as np

from analysis.charts.style import chart_style
from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import load_scenario

SHARED_GPUS = ("workload.duration_s=40", "slo='ttft:300 tpot:60'", "run.warmup=5")


def simulated(out: Path, scenario: str, *overrides: str, **options) -> Path:
    """Simulate a scenario of the library into a folder."""
    run_scenario(load_scenario(scenario, list(overrides)), RunOptions(out=out, **options))
    return out


def edited(path: Path, change) -> None:
    """Change a JSON file of a run directory."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def plain(text: str) -> str:
    """A text with the spaces and signs of a keyboard."""
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


class Drawn:
    """A panel after drawing: texts, lines, and whether texts collide."""

    def __init__(self, panel) -> None:
        with chart_style():
            import matplotlib.pyplot as plt

            figure, self.axes = plt.subplots(figsize=panel.size_in, layout="constrained")
            panel.draw(self.axes)
            figure.canvas.draw()
            self.texts = self._all_texts()
            self.lines = {str(line.get_label()): line for line in self.axes.get_lines()}
            self.boxes = [text.get_window_extent() for text in self.axes.texts if text.get_text()]
            self.axes_box = self.axes.get_window_extent()
            legend = self.axes.get_legend()
            self.legend_box = None if legend is None else legend.get_window_extent()
            self.outside = [
                text.get_text()
                for text in self.axes.texts
                if not figure.bbox.padded(2).containsx(text.get_window_extent().x1)
            ]
            plt.close(figure)

    def _all_texts(self) -> list[str]:
        axes = self.axes
        found = [text.get_text() for text in axes.texts]
        found += [axes.get_xlabel(), axes.get_ylabel()]
        found += [tick.get_text() for axis in (axes.xaxis, axes.yaxis) for tick in axis.get_ticklabels()]
        if axes.get_legend() is not None:
            found += [text.get_text() for text in axes.get_legend().get_texts()]
        return [plain(text) for text in found if text]

    def overlaps(self) -> int:
        """Pairs of texts on the axes that cover each other."""
        boxes = [box.shrunk(0.9, 0.8) for box in self.boxes]
        return sum(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])

    def values(self, label: str) -> tuple[np.ndarray, np.ndarray]:
        """Points of the line with this label."""
        return tuple(np.asarray(part, dtype=float) for part in self.lines[label].get_data())
