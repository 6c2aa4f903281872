"""Tables of requests and of sweeps: which column is which, and the server that they are replayed on."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latency_models.errors import InputError, invalid
from scenarios.measurements.schema import Measurement

ALIASES: Mapping[str, tuple[str, ...]] = {
    "arrival": ("arrival", "arrival_time", "arrived", "start_time", "start", "submitted"),
    "prompt_tokens": ("prompt_tokens", "prompt_len", "input_len", "input_tokens", "isl", "num_prefill_tokens"),
    "output_tokens": ("output_tokens", "output_len", "osl", "generated_tokens", "num_decode_tokens"),
    "ttft": ("ttft", "mean_ttft", "ttft_mean"),
    "tpot": ("tpot", "mean_tpot", "tpot_mean"),
    "e2e": ("e2e", "e2el", "latency", "e2e_latency", "mean_e2el", "mean_e2e"),
    "first_token": ("first_token", "first_token_time"),
    "finish": ("finish", "finish_time", "finished_at"),
    "concurrency": ("concurrency", "max_concurrency", "users"),
    "rate": ("rate", "request_rate", "rate_per_s", "qps"),
}
"""Names, without a unit, under which the columns of a file are recognised."""

_OF_REQUESTS = ("arrival", "prompt_tokens", "output_tokens", "ttft", "tpot", "e2e", "first_token", "finish")
_OF_SWEEP = ("prompt_tokens", "output_tokens", "ttft", "tpot", "e2e")
AMPLE_BLOCKS = 200_000
"""KV blocks of a server of which nobody said how many it has."""


def recognised_columns(path: Path, kind: str, given: Mapping[str, str]) -> dict[str, str]:
    """Our names and those of the file, as given or recognised.

    Parameters
    ----------
    path : Path
        CSV with a header.
    kind : {"requests", "sweep"}
        What the file is.
    given : mapping of str to str
        Columns that the user named, by our name.

    Raises
    ------
    InputError
        If the file cannot be read, or a column that is needed is not recognised.
    """
    header = _header(path)
    for name, theirs in given.items():
        if name not in ALIASES:
            raise invalid("--column", f"{name}={theirs}", f"NAME=COLUMN with a name of {', '.join(ALIASES)}")
        if theirs not in header:
            raise invalid(f"--column {name}", theirs, f"a column of {path}: {', '.join(header)}")
    bare: dict[str, list[str]] = {}
    for theirs in header:
        bare.setdefault(without_unit(theirs), []).append(theirs)
    found = dict(given)
    wanted = [*(_OF_REQUESTS if kind == "requests" else _OF_SWEEP)]
    if kind == "sweep":
        wanted += [name for name in ("concurrency", "rate") if name not in found]
    for name in wanted:
        known = [bare[alias] for alias in ALIASES[name] if alias in bare]
        if name not in found and known:
            found[name] = _only(path, name, known[0])
    required = ["prompt_tokens", "output_tokens"] + (["arrival"] if kind == "requests" else [])
    missing = [name for name in required if name not in found]
    if kind == "sweep" and not {"concurrency", "rate"} & set(found):
        missing.append("concurrency or rate")
    if not {"ttft", "tpot", "e2e", "first_token", "finish"} & set(found):
        missing.append("ttft, tpot, e2e, first_token or finish")
    if missing:
        raise InputError(
            f"{path} has no column recognised as {', '.join(missing)}; it has {', '.join(header)}. Name it: "
            "--column NAME=COLUMN"
        )
    if "concurrency" in found:
        found.pop("rate", None)
    return found


def _only(path: Path, name: str, columns: list[str]) -> str:
    if len(columns) > 1:
        raise InputError(
            f"{path} has {name} more than once: {', '.join(columns)}; say which one: --column {name}={columns[0]}"
        )
    return columns[0]


def _header(path: Path) -> list[str]:
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8", newline="") as stream:
            return next(csv.reader(stream), [])
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from None


def without_unit(name: str) -> str:
    """A column's name without the unit that it may end in."""
    stem, _, unit = name.rpartition("_")
    return stem if unit in ("s", "ms", "us", "ns") else name


def server_of(log: Mapping[str, Any], engine: Mapping[str, Any]) -> Measurement:
    """A measurement file for a server of which only engine settings and a log are known."""
    values = {
        "name": "calibrated",
        "source": "given on the command line",
        "model": "unknown",
        "gpu": "unknown",
        "engine_version": "unknown",
        "latency": {"kind": "linear", "base_s": 1.0},
        "engine": {"num_gpu_blocks": AMPLE_BLOCKS, **engine},
        "log": dict(log),
    }
    return Measurement.model_validate(values)


def unit_of(unit: str | None) -> dict[str, str]:
    """The key of a log's unit, if the user named one; what is named is believed."""
    return {} if unit is None else {"unit": unit}


def engine_note(engine: Mapping[str, Any]) -> str:
    """What was assumed about the engine."""
    given = ", ".join(f"{name} {value}" for name, value in engine.items()) or "none"
    memory = "" if "num_gpu_blocks" in engine else ", and a KV cache in which everything fits"
    return f"engine settings given: {given}; the others are taken to be a server's defaults{memory}"
