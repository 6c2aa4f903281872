"""Files of load-latency curves: JSON, which is complete, and CSV, in which measured curves come."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latency_models.curves.load_latency import Configuration, LoadLatencyCurve, is_latency
from latency_models.errors import InputError, invalid

CURVES_SCHEMA_VERSION = 1
"""Version of the JSON layout."""

_KEYS = ("model", "tp", "compute_share", "replicas")
_FIGURES = ("utilisation", "kv_used_frac", "requests_per_s", "output_tokens_per_s")
"""Columns of a CSV that are no latencies."""
_LATENCIES = ("ttft", "tpot", "e2e")
_SCALES = {"s": 1.0, "ms": 1e-3}
"""Units that a column of latencies can have, in seconds."""
_SHORTEST_S, _LONGEST_S = 5e-5, 1e5
"""No user waits for less, or more: a measured latency outside has the wrong unit."""


def curves_to_json(curves: Sequence[LoadLatencyCurve]) -> str:
    """The curves as JSON text, which :func:`read_curves` reads."""
    layout = {"schema_version": CURVES_SCHEMA_VERSION, "curves": [_as_dict(curve) for curve in curves]}
    return json.dumps(layout, indent=1, allow_nan=False) + "\n"


def read_curves(path: Path) -> list[LoadLatencyCurve]:
    """Read curves from JSON (as written by ``routerwise profile``) or, if the name ends in ``.csv``, from measurements.

    Raises
    ------
    InputError
        If the file cannot be read, has another layout, or holds two curves of one configuration.
    """
    if path.suffix == ".csv":
        return read_measured_curves(path)
    try:
        layout = json.loads(_text(path))
        if layout["schema_version"] != CURVES_SCHEMA_VERSION:
            raise invalid(f"{path}: schema_version", layout["schema_version"], str(CURVES_SCHEMA_VERSION))
        curves = [_from_dict(entry) for entry in layout["curves"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a file of load-latency curves: {type(error).__name__}: {error}") from None
    return _distinct(curves, path)


def read_measured_curves(path: Path) -> list[LoadLatencyCurve]:
    """Read measured curves from CSV, one row per configuration and load.

    Columns: ``rate_per_s``, ``model``, optional ``tp``, ``compute_share`` and ``replicas`` (1 if left out), latencies
    called ``ttft_mean_ms``, ``tpot_p95_s``, ``e2e_p99_ms``, ... (the ending is the unit), and any of ``utilisation``,
    ``kv_used_frac``, ``requests_per_s`` and ``output_tokens_per_s``.

    Raises
    ------
    InputError
        Naming the line and the column.
    """
    lines = _text(path).splitlines()
    reader = csv.DictReader(lines)
    columns = _columns(path, reader.fieldnames or ())
    found: dict[Configuration, dict[float, dict[str, float]]] = {}
    for row in reader:
        where = f"{path.name} line {reader.line_num}"
        if None in row or None in row.values():
            raise InputError(f"{where} does not have {len(reader.fieldnames or ())} columns")
        rate = _number(f"{where}, rate_per_s", row["rate_per_s"])
        loads = found.setdefault(_configuration(where, row), {})
        if rate in loads:
            raise invalid(f"{where}, rate_per_s", rate, "each load once per configuration")
        loads[rate] = {
            name: _value(f"{where}, {column}", row[column], name, scale) for column, (name, scale) in columns.items()
        }
    if not found:
        raise InputError(f"{path} has no rows; allowed: one per configuration and load")
    curves: list[LoadLatencyCurve] = []
    for configuration, loads in found.items():
        rates = sorted(loads)
        try:
            curve = LoadLatencyCurve(
                configuration=configuration,
                rates_per_s=tuple(rates),
                statistics={name: tuple(loads[rate][name] for rate in rates) for name in loads[rates[0]]},
                provenance={"source": "measured", "file": path.name},
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        curves.append(curve)
    return curves


def curves_to_csv(curves: Sequence[LoadLatencyCurve]) -> str:
    """The curves as CSV text, as :func:`read_measured_curves` reads it; a statistic that a curve lacks is left out."""
    names = [name for name in curves[0].statistics if all(name in curve.statistics for curve in curves)]
    lines = [",".join((*_KEYS, "rate_per_s", *names))]
    for curve in curves:
        key = [_quoted(curve.configuration.model), *(f"{getattr(curve.configuration, name):g}" for name in _KEYS[1:])]
        for index, rate in enumerate(curve.rates_per_s):
            lines.append(",".join([*key, f"{rate:.9g}", *(f"{curve.statistics[name][index]:.9g}" for name in names)]))
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(mark in name for mark in ',"') else name


def _as_dict(curve: LoadLatencyCurve) -> dict[str, Any]:
    return {
        **asdict(curve.configuration),
        "rates_per_s": list(curve.rates_per_s),
        "stability_per_s": None if curve.stability_per_s is None else list(curve.stability_per_s),
        "statistics": {name: list(values) for name, values in curve.statistics.items()},
        "intervals": {name: [list(bounds) for bounds in values] for name, values in curve.intervals.items()},
        "provenance": dict(curve.provenance),
    }


def _from_dict(entry: Mapping[str, Any]) -> LoadLatencyCurve:
    stability = entry["stability_per_s"]
    return LoadLatencyCurve(
        configuration=Configuration(**{name: entry[name] for name in _KEYS}),
        rates_per_s=tuple(entry["rates_per_s"]),
        statistics={name: tuple(values) for name, values in entry["statistics"].items()},
        intervals={name: tuple((low, high) for low, high in values) for name, values in entry["intervals"].items()},
        stability_per_s=None if stability is None else (stability[0], stability[1]),
        provenance=entry["provenance"],
    )


def _distinct(curves: list[LoadLatencyCurve], path: Path) -> list[LoadLatencyCurve]:
    seen: set[Configuration] = set()
    for curve in curves:
        if curve.configuration in seen:
            raise InputError(f"{path} has two curves of {curve.configuration}; allowed: one per configuration")
        seen.add(curve.configuration)
    return curves


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read curves {path}: {error}") from None


def _columns(path: Path, header: Sequence[str]) -> dict[str, tuple[str, float]]:
    """What each column of a CSV is in a curve, and its factor."""
    if len(set(header)) < len(header):
        raise invalid(f"{path}: columns", list(header), "each column once")
    for needed in ("rate_per_s", "model"):
        if needed not in header:
            raise InputError(f"{path} has no column {needed}; columns: {', '.join(header) or 'none'}")
    columns = {name: _statistic(path, name) for name in header if name not in ("rate_per_s", *_KEYS)}
    names = [name for name, _ in columns.values()]
    if len(set(names)) < len(names):
        raise invalid(f"{path}: columns", list(header), "each statistic in one unit")
    if not names:
        raise InputError(f"{path} has no statistic; allowed: at least one, such as ttft_mean_ms")
    return columns


def _statistic(path: Path, column: str) -> tuple[str, float]:
    if column in _FIGURES:
        return column, 1.0
    stem, _, unit = column.rpartition("_")
    if unit in _SCALES and stem.partition("_")[0] in _LATENCIES and stem.partition("_")[2]:
        return f"{stem}_s", _SCALES[unit]
    raise invalid(
        f"{path}: column",
        column,
        f"rate_per_s, {', '.join(_KEYS)}, {', '.join(_FIGURES)}, or a latency such as ttft_mean_ms, tpot_p95_s",
    )


def _configuration(where: str, row: Mapping[str, str]) -> Configuration:
    try:
        return Configuration(
            model=row["model"],
            tp=_whole(f"{where}, tp", row.get("tp", "1")),
            compute_share=_number(f"{where}, compute_share", row.get("compute_share", "1")),
            replicas=_whole(f"{where}, replicas", row.get("replicas", "1")),
        )
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(where) else f"{where}: {text}") from None


def _whole(where: str, text: str) -> int:
    value = _number(where, text)
    if not value.is_integer():
        raise invalid(where, text, "an integer")
    return int(value)


def _value(where: str, text: str, name: str, scale: float) -> float:
    value = _number(where, text) * scale
    if is_latency(name) and not _SHORTEST_S <= value <= _LONGEST_S:
        raise invalid(
            where, text, f"{_SHORTEST_S:g} to {_LONGEST_S:g} s, in the unit of the column", "The unit looks wrong."
        )
    return value


def _number(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise invalid(where, text, "a finite number")
    return value
