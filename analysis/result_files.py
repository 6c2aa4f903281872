"""The files of a run directory: requests, time series, summary.

Writers take a path and stream; a full disk surfaces as :class:`OSError` for whoever owns the directory.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from analysis.metrics import RequestLatencies
from latency_models.errors import InputError
from sim.prompt_table import PromptTable
from sim.results import OUTAGE_COLUMNS, Floats, Ints, RequestColumns, SimulationResult, Status

REQUEST_COLUMNS = (
    "request_id",
    "arrival_s",
    "model",
    "replica",
    "class",
    "session",
    "prompt_tokens",
    "output_tokens",
    "generated_tokens",
    "status",
    "queue_s",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "preemptions",
    "cached_tokens",
    "retries",
)
"""Columns of the request table, in order."""

PROMPT_COLUMNS = ("prompt", "predicted_score", "outcome", "stages")
"""Further columns where requests have prompts: the prompt's name, the predicted score of the model that answered, the
true outcome of the answer (empty where there was none), and how many models were asked."""

TIMESERIES_COLUMNS = ("time_s", "model", "replica", "running", "waiting", "kv_used_frac", "busy")
"""Columns of the time series, in order."""

_CHUNK_ROWS = 20_000
_STATUS_NAMES = [code.name.lower() for code in Status]
_SAMPLE_LAYOUT = "%.9f,%s,%d,%d,%.6f,%.6f\n"  # the old format operator is the fastest way to print a million lines
_LATENCIES = ("queue_s", "ttft_s", "tpot_s", "e2e_s")


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Open a text file that takes the place of ``path`` when the block ends well, and leaves no trace otherwise."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with beside.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_requests_csv(path: Path, result: SimulationResult) -> None:
    """Write one line per request, with the columns :data:`REQUEST_COLUMNS`, and :data:`PROMPT_COLUMNS` with prompts.

    Times are rounded to 1e-9 s; what never happened is empty.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with_prompts = result.prompts is not None
    layouts = [_request_layout(missing, with_prompts) for missing in range(1 << len(_LATENCIES))]
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(",".join(_request_header(result)) + "\n")
        for rows in _chunks(len(result.requests)):
            columns, latencies = _request_columns(result, rows)
            absent: Ints = np.zeros(len(latencies[0]), dtype=np.int64)
            for bit, values in enumerate(latencies):
                absent += np.isnan(values).astype(np.int64) << bit
            lines = zip(*columns, strict=True)
            stream.write(
                "".join([layouts[missing] % line for missing, line in zip(absent.tolist(), lines, strict=True)])
            )


def require_pyarrow(purpose: str) -> None:
    """Raise :class:`InputError` if the optional package pyarrow is missing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{purpose} needs pyarrow, which is not installed; install it with: pip install pyarrow")


def write_requests_parquet(path: Path, result: SimulationResult) -> None:
    """Write the same table as :func:`write_requests_csv` as a Parquet file, unrounded, with nulls where empty.

    Raises
    ------
    InputError
        If pyarrow is not installed.
    OSError
        If the file cannot be written.
    """
    require_pyarrow("writing Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    names = pa.dictionary(pa.int32(), text)
    types = {"request_id": text, "session": text, "model": names, "replica": names, "class": names, "status": names}
    types["prompt"] = text
    tokens = ("prompt_tokens", "output_tokens", "generated_tokens", "cached_tokens")
    types |= dict.fromkeys((*tokens, "preemptions", "retries", "stages"), pa.int64())
    schema = pa.schema([(name, types.get(name, pa.float64())) for name in _request_header(result)])
    with pq.ParquetWriter(path, schema) as writer:
        for rows in _chunks(len(result.requests)):
            columns, _ = _request_columns(result, rows, quoted=False)
            arrays = [_parquet_array(pa, values, field) for values, field in zip(columns, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def write_timeseries_csv(path: Path, result: SimulationResult) -> None:
    """Write one line per sample, with the columns :data:`TIMESERIES_COLUMNS`; times rounded to 1e-9 s.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    places = [f"{_quoted(result.models[r.model])},{_quoted(r.name)}" for r in result.replicas]
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(",".join(TIMESERIES_COLUMNS) + "\n")
        for rows in _chunks(len(result.samples)):
            time_s, replica, running, waiting, used, total, busy = result.samples[rows].T
            used_frac = np.divide(used, total, out=np.zeros(len(used)), where=total > 0)
            lines = zip(
                time_s.tolist(),
                [places[index] for index in replica.astype(np.int64).tolist()],
                running.tolist(),
                waiting.tolist(),
                used_frac.tolist(),
                busy.tolist(),
                strict=True,
            )
            stream.write("".join([_SAMPLE_LAYOUT % line for line in lines]))


def write_outages_csv(path: Path, result: SimulationResult) -> None:
    """Write one line per time that a replica was down, with the columns :data:`OUTAGE_COLUMNS`.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(",".join(OUTAGE_COLUMNS) + "\n")
        for replica, from_s, to_s in result.outages.tolist():
            stream.write(f"{_quoted(result.replicas[int(replica)].name)},{from_s:.9f},{to_s:.9f}\n")


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write a summary as indented JSON.

    Raises
    ------
    ValueError
        If it holds a number that JSON does not have (NaN, infinity).
    OSError
        If the file cannot be written.
    """
    path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _chunks(rows: int) -> Iterator[slice]:
    for begin in range(0, rows, _CHUNK_ROWS):
        yield slice(begin, min(begin + _CHUNK_ROWS, rows))


def _request_header(result: SimulationResult) -> tuple[str, ...]:
    return REQUEST_COLUMNS if result.prompts is None else REQUEST_COLUMNS + PROMPT_COLUMNS


def _request_layout(missing: int, with_prompts: bool) -> str:
    """Format of a line; the latencies whose bit is set in ``missing`` print nothing."""
    latencies = ["%.0s" if missing >> bit & 1 else "%.9f" for bit in range(len(_LATENCIES))]
    prompts = ["%s,%s,%s,%d"] if with_prompts else []
    return ",".join(["%s", "%.9f", "%s,%s,%s,%s", "%d,%d,%d", "%s", *latencies, "%d,%d,%d", *prompts]) + "\n"


def _request_columns(
    result: SimulationResult, rows: slice, *, quoted: bool = True
) -> tuple[list[Sequence[Any]], list[Floats]]:
    """Columns of the request table for some rows, as plain Python values, and the latencies among them as arrays."""
    requests = result.requests
    found = RequestLatencies.of(requests, rows)
    latencies = [found.queue_s, found.ttft_s, found.tpot_s, found.e2e_s]
    text = _quoted if quoted else str
    ids: Sequence[Any] = range(rows.start, rows.stop)
    if requests.request_id is not None:
        ids = [text(name) for name in requests.request_id[rows]]
    elif not quoted:
        ids = [str(number) for number in ids]
    none = "" if quoted else None
    sessions: Sequence[Any] = [none] * len(ids)
    if requests.session is not None:
        sessions = [none if name is None else text(name) for name in requests.session[rows]]
    # Index -1, "never routed", reads the entry at the end of the list.
    model_names: list[str | None] = [*map(text, result.models), none]
    replica_names: list[str | None] = [*(text(replica.name) for replica in result.replicas), none]
    class_names = [text(name) for name in result.classes]
    columns: list[Sequence[Any]] = [
        ids,
        requests.arrival_s[rows].tolist(),
        [model_names[index] for index in requests.model[rows].tolist()],
        [replica_names[index] for index in requests.replica[rows].tolist()],
        [class_names[index] for index in requests.request_class[rows].tolist()],
        sessions,
        requests.prompt_tokens[rows].tolist(),
        requests.output_tokens[rows].tolist(),
        requests.generated_tokens[rows].tolist(),
        [_STATUS_NAMES[code] for code in requests.status[rows].tolist()],
        *(values.tolist() for values in latencies),
        requests.preemptions[rows].tolist(),
        requests.cached_tokens[rows].tolist(),
        requests.retries[rows].tolist(),
    ]
    if result.prompts is not None:
        columns += _prompt_columns(requests, result.prompts, rows, quoted=quoted)
    return columns, latencies


def _prompt_columns(requests: RequestColumns, table: PromptTable, rows: slice, *, quoted: bool) -> list[Sequence[Any]]:
    prompt, model = requests.prompt[rows], requests.model[rows]
    text = _quoted if quoted else str
    predicted = np.where(model >= 0, table.predicted[prompt, model], np.nan)
    outcome = np.full(len(prompt), np.nan)
    if table.outcomes is not None:
        answered = requests.status[rows] == Status.FINISHED
        outcome[answered] = table.outcomes[prompt[answered], model[answered]]
    scores = [predicted.tolist(), outcome.tolist()]
    return [
        [text(table.prompt_ids[number]) for number in prompt.tolist()],
        *([["" if value != value else f"{value:.6g}" for value in column] for column in scores] if quoted else scores),
        requests.stages[rows].tolist(),
    ]


def _parquet_array(pa: Any, values: Sequence[Any], field: Any) -> Any:
    if pa.types.is_dictionary(field.type):
        return pa.array(values, pa.string()).dictionary_encode().cast(field.type)
    return pa.array(values, field.type, from_pandas=True)  # from_pandas: NaN becomes null


def _quoted(text: str) -> str:
    """A field of a CSV line, quoted where its content needs it."""
    if any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
