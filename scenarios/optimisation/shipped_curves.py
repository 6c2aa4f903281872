"""The curves of the problems that come with the package, and how to make them again.

``python -m scenarios.optimisation.shipped_curves OUT.json CURVES.json ...`` joins files of ``routerwise profile`` into
one that is small enough to ship: latencies only, five digits, no confidence intervals.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.result_files import replacing
from latency_models.curves.load_latency import LoadLatencyCurve, is_latency
from latency_models.curves.load_latency_files import curves_to_json, read_curves

_KEPT_PROVENANCE = ("source", "seed", "replications", "requests", "routerwise", "notes")


def join_curves(paths: Sequence[Path]) -> str:
    """The curves of all files as compact JSON, which :mod:`latency_models.curves.load_latency_files` reads."""
    curves = [_compact(curve) for path in paths for curve in read_curves(path)]
    layout = json.loads(curves_to_json(curves))
    each = [json.dumps(curve, separators=(",", ":")) for curve in layout["curves"]]
    return f'{{"schema_version":{layout["schema_version"]},"curves":[\n' + ",\n".join(each) + "\n]}\n"


def _compact(curve: LoadLatencyCurve) -> LoadLatencyCurve:
    stability = curve.stability_per_s
    return replace(
        curve,
        rates_per_s=_rounded(curve.rates_per_s),
        statistics={
            name: _rounded(values)
            for name, values in curve.statistics.items()
            if is_latency(name) and not name.endswith("_p50_s")
        },
        intervals={},
        stability_per_s=None if stability is None else _pair(_rounded(stability)),
        provenance={name: value for name, value in curve.provenance.items() if name in _KEPT_PROVENANCE},
    )


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values)


def _pair(values: Sequence[float]) -> tuple[float, float]:
    low, high = values
    return low, high


if __name__ == "__main__":
    with replacing(Path(sys.argv[1])) as out:
        out.write(join_curves([Path(name) for name in sys.argv[2:]]))
