"""The measurement file: a real server, what was sent to it, and what was measured there.

Of the server it says what a scenario says of a model (latency, engine, memory, stages), so that the same keys mean the
same.  The ``log`` section says where the measurement is and what its columns mean; ``scenarios/measurements/logs.py``
reads it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from scenarios.model_section import ModelSection
from scenarios.section import Count, Index, NonNegative, Positive

Cell = str | int | float | None
"""A value that a column may have; ``null`` is an empty cell."""

Metric = Literal["ttft", "tpot", "e2e"]
METRICS: tuple[Metric, ...] = ("ttft", "tpot", "e2e")
"""Latencies that are compared, in the order of the tables."""

LENGTHS = ("prompt_tokens", "output_tokens")
TIMES = ("arrival", "first_token", "last_token", "finish")
"""Columns that hold a time on the log's clock."""
DURATIONS = METRICS

_FIGURE = re.compile(
    r"(ttft|tpot|e2e)_(mean|p50|p90|p95|p99|median_error|p90_error|mean_error)|itl_(mean|p50|p90|p95|p99)"
    r"|throughput|saturation_steps|(prefill|decode)_(median_error|p90_error)"
)


class Section(BaseModel):
    """Base of the sections: unknown keys and infinite numbers are errors, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class PartSection(Section):
    """A part of a log: rows that meet all conditions."""

    rows: tuple[tuple[Index, Index | None], ...] = ()
    """Ranges ``[first, end]`` of rows of the log, ``end`` not included and ``null`` for the last; default: all."""
    where: dict[str, Cell | tuple[Cell, ...]] = {}
    """Columns of the file and the value, or the values, that they must have."""

    @model_validator(mode="after")
    def _ranges_hold_rows(self) -> PartSection:
        for first, end in self.rows:
            if end is not None and end <= first:
                raise ValueError(f"the range [{first}, {end}] holds no row; give [first, end] with end > first")
        return self


class _LogFile(Section):
    """What the logs that are tables have in common."""

    path: str
    """CSV, plain or gzip."""
    columns: dict[str, str]
    """Our names and those of the file.  Times are in the unit that the file's name ends in (``_s _ms _us _ns``)."""
    unit: Literal["s", "ms", "us", "ns"] = "s"
    """Unit of the times whose columns do not name one."""
    where: dict[str, Cell | tuple[Cell, ...]] = {}
    """Only rows whose columns have this value, or one of these values."""


def _check_columns(columns: dict[str, str], required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    missing = [name for name in required if name not in columns]
    if missing:
        raise ValueError(f"names no column for {', '.join(missing)}; required: {', '.join(required)}")
    unknown = [name for name in columns if name not in (*required, *optional)]
    if unknown:
        raise ValueError(f"does not know {', '.join(unknown)}; allowed: {', '.join((*required, *optional))}")


class TimeSeries(Section):
    """The server's load over time as it was measured, to draw beside the predicted one."""

    path: str
    """CSV, plain or gzip."""
    time: str
    """Column of the time since the first arrival, in seconds."""
    running: str
    """Column of the requests being served."""
    waiting: str
    """Column of the requests in the queue."""


class RequestsLog(_LogFile):
    """Open loop: every request with its arrival, its lengths and its latencies."""

    kind: Literal["requests"]
    shared_prefix_tokens: Annotated[int, Field(ge=0, strict=True)] = 0
    """Tokens with which every prompt begins."""
    new_prefix_rows: tuple[Index, ...] = ()
    """Rows of the log from which on prompts begin with other tokens than before, as many; a load generator may draw
    them anew for each phase of its sweep."""
    timeseries: TimeSeries | None = None
    """The measured load over time, to draw beside the predicted one."""

    @field_validator("columns")
    @classmethod
    def _known(cls, columns: dict[str, str]) -> dict[str, str]:
        """``prompt`` names what tells equal prompts: requests with the same value there have the same content."""
        measured = (*DURATIONS, "first_token", "last_token", "finish")
        _check_columns(columns, ("arrival", *LENGTHS), (*measured, "prompt"))
        if not any(name in columns for name in measured):
            raise ValueError(f"names nothing that was measured; give at least one of {', '.join(measured)}")
        return columns

    @model_validator(mode="after")
    def _new_prefixes_are_there(self) -> RequestsLog:
        if self.new_prefix_rows and not self.shared_prefix_tokens:
            raise ValueError("new_prefix_rows has no effect without shared_prefix_tokens; leave it out, or give both")
        if list(self.new_prefix_rows) != sorted(set(self.new_prefix_rows)):
            raise ValueError(f"new_prefix_rows {list(self.new_prefix_rows)} must rise; give each row once, in order")
        return self


class BenchLog(Section):
    """Open loop: the JSON of ``vllm bench serve --save-result --save-detailed``; failed requests are left out."""

    kind: Literal["vllm-bench"]
    path: str
    """The JSON file, plain or gzip."""
    shared_prefix_tokens: Annotated[int, Field(ge=0, strict=True)] = 0
    """Tokens with which every prompt begins."""


class MeasuredRows(_LogFile):
    """Where the measured means of each run are."""

    key: str
    """Column that names the run."""

    @field_validator("columns")
    @classmethod
    def _known(cls, columns: dict[str, str]) -> dict[str, str]:
        _check_columns(columns, (), DURATIONS)
        if not columns:
            raise ValueError(f"names nothing that was measured; give at least one of {', '.join(DURATIONS)}")
        return columns


class AggregatesLog(_LogFile):
    """Open loop: the requests of several runs to replay, and measured means of each run."""

    kind: Literal["aggregates"]
    key: str
    """Column that names the run that a request belongs to."""
    measured: MeasuredRows
    tpot: Literal["per-request", "per-token"] = "per-request"
    """Mean TPOT over requests, or over tokens (decode seconds of all requests by their output tokens after the first,
    as the server's own metrics have it)."""
    settings: dict[str, str] = {}
    """Keys of this file that a run changes, and the column of ``measured`` that has their value: ``{tp: tp}``."""

    @field_validator("columns")
    @classmethod
    def _known(cls, columns: dict[str, str]) -> dict[str, str]:
        _check_columns(columns, ("arrival", *LENGTHS), ())
        return columns


class ClosedLoopLog(_LogFile):
    """Closed loop: a table with one row per level of concurrency and the means measured there."""

    kind: Literal["closed-loop"]
    length_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Lengths are drawn uniformly between this share of the row's length and the length itself."""
    lengths_are: Literal["longest", "mean"] = "longest"
    """What a row's length is of the range that lengths are drawn from."""
    requests_per_client: Count = 10
    """Requests of the run, by client; all clients send their first at time 0."""
    statistic: Literal["mean", "median", "longest"] = "mean"
    """What the table holds of each latency.  ``longest`` is that of a batch given at once: until its last request
    has its first token, or is done."""
    settings: dict[str, str] = {}
    """Keys of this file that a row changes, and the column that has their value: ``{tp: tp_size}``."""

    @field_validator("columns")
    @classmethod
    def _known(cls, columns: dict[str, str]) -> dict[str, str]:
        _check_columns(columns, ("concurrency", *LENGTHS), DURATIONS)
        if not any(name in columns for name in DURATIONS):
            raise ValueError(f"names nothing that was measured; give at least one of {', '.join(DURATIONS)}")
        return columns

    @model_validator(mode="after")
    def _the_longest_is_of_one_batch(self) -> ClosedLoopLog:
        if self.statistic == "longest" and self.requests_per_client != 1:
            raise ValueError(
                f"statistic longest with requests_per_client {self.requests_per_client}; allowed: 1, a batch given "
                "at once. Give requests_per_client: 1"
            )
        return self


class ConversationsLog(_LogFile):
    """Closed loop: clients that take one turn after the other; each turn's prompt is the conversation so far and more.

    A client's next turn comes the measured gap after its last one ended.
    """

    kind: Literal["conversations"]
    reuse_answers: bool = True
    """Whether the history in a prompt holds the very tokens that the server generated, so that their blocks are found
    in the prefix cache; otherwise the client put other text in their place."""
    template_tokens: Annotated[int, Field(ge=0, strict=True)] = 0
    """Tokens that the chat template adds to a prompt beyond those that the log counts."""
    template_tokens_per_message: Annotated[int, Field(ge=0, strict=True)] = 0
    """The same for every message in it: the user's, and the answers before."""

    @field_validator("columns")
    @classmethod
    def _known(cls, columns: dict[str, str]) -> dict[str, str]:
        required = ("client", "conversation", "arrival", *LENGTHS, "e2e")
        _check_columns(columns, required, ("ttft", "tpot"))
        return columns


class StepsLog(Section):
    """Steps of a sweep over models, tensor parallelism and shares of the GPU (``latency_models/fits/step_sweep.py``).

    Each value that is judged is predicted by a law that was fitted to the steps of all others.
    """

    kind: Literal["steps"]
    path: str
    """CSV, plain or gzip."""
    hardware: str
    """The GPU's name in the catalogue."""
    leave_out: Literal["share", "model"]
    """What is judged: shares of the GPU's multiprocessors, or models."""
    judged: Annotated[tuple[str | float, ...], Field(min_length=1)]
    """The shares (0 to 1) or the names of the models that are left out, one after the other."""


def _log_kind(section: object) -> str | None:
    kind = section.get("kind") if isinstance(section, dict) else getattr(section, "kind", None)
    return kind if isinstance(kind, str) else None


LogSection = Annotated[
    Annotated[RequestsLog, Tag("requests")]
    | Annotated[BenchLog, Tag("vllm-bench")]
    | Annotated[AggregatesLog, Tag("aggregates")]
    | Annotated[ClosedLoopLog, Tag("closed-loop")]
    | Annotated[ConversationsLog, Tag("conversations")],
    Discriminator(_log_kind),
]
"""The ``log:`` section, one kind per form of measurement."""


class ParameterSection(Section):
    """A number of the measurement file that is fitted."""

    start: NonNegative
    """Where the search begins."""
    lower: NonNegative = 0.0
    """Least value."""
    upper: Positive | None = None
    """Default: a thousand times the start."""

    @model_validator(mode="after")
    def _in_order(self) -> ParameterSection:
        upper = self.highest
        if not self.lower <= self.start <= upper or self.lower == upper:
            raise ValueError(
                f"lower {self.lower:g}, start {self.start:g} and upper {upper:g} are not in order; "
                "allowed: lower <= start <= upper, lower < upper. Give upper when start is 0"
            )
        return self

    @property
    def highest(self) -> float:
        """The upper bound."""
        return 1000.0 * self.start if self.upper is None else self.upper


class FitSection(Section):
    """What is fitted through the simulator before anything is judged, and on which data."""

    parameters: Annotated[dict[str, ParameterSection], Field(min_length=1)]
    """Dotted keys of this file: ``latency.step_s``."""
    files: tuple[str, ...] = ()
    """Other measurement files to fit on, by shipped name or by path; the same keys are set in them.  Default: this
    one."""
    part: PartSection = PartSection()
    """Rows of the logs to fit on."""
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)] = METRICS
    """Latencies whose errors are made small."""

    @model_validator(mode="before")
    @classmethod
    def _other_files_are_called_files(cls, values: Any) -> Any:
        """YAML reads the key ``on`` as the value true, about which no message would help."""
        if isinstance(values, dict) and (True in values or "on" in values):
            raise ValueError("has no key 'on'; the measurement files to fit on are named by 'files'")
        return values


class Described(Section):
    """What every measurement file says about itself."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Default: the file's name."""
    description: str = ""
    """What was measured."""
    source: Annotated[str, Field(min_length=1)]
    """Origin and licence of the measurement."""
    model: str
    """What was served."""
    gpu: str
    """What it was served on."""
    engine_version: str
    """Which engine: ``vLLM 0.11.0``."""
    assumptions: tuple[str, ...] = ()
    """What the source does not say and this file supposes."""
    fitted: str = ""
    """Which of the numbers here come from a fit, and on which data; empty: none."""
    expect: dict[str, NonNegative] = Field(default_factory=dict)
    """Figures that must not get worse, as absolute relative errors: ``{ttft_mean: 0.04}``."""

    @field_validator("expect")
    @classmethod
    def _known_figures(cls, expect: dict[str, float]) -> dict[str, float]:
        for name in expect:
            if not _FIGURE.fullmatch(name):
                raise ValueError(f"does not know the figure {name!r}; allowed: names like ttft_mean, e2e_median_error")
        return expect


class StepsMeasurement(Described):
    """A measurement of single engine steps; the law of kind ``steps`` is fitted to all but what is judged."""

    log: StepsLog
    """Where the measurement is."""


class Measurement(Described, ModelSection):
    """A measurement of a server."""

    gpu_memory_gib: Positive | None = None
    """Memory of a GPU, when the memory section needs it."""
    log: LogSection
    """Where the measurement is, and what its columns mean."""
    fit: FitSection | None = None
    """What is fitted before anything is judged; default: nothing."""
    judge: PartSection = PartSection()
    """Rows that are judged; rows of this log that were fitted on are never judged."""
    saturated_above: Positive = 3.0
    """A level of a sweep is saturated from this ratio of its TTFT to that of the level before."""
    seed: Index = 0
    """Of all random streams."""

    @model_validator(mode="before")
    @classmethod
    def _old_engines_schedule_their_way(cls, values: Any) -> Any:
        """Versions of vLLM before the V1 engine put prefills first; nobody should have to say so again."""
        if not isinstance(values, dict):
            return values
        version = re.fullmatch(r"vLLM 0\.(\d+)(\..*)?", str(values.get("engine_version", "")))
        engine = values.get("engine", {})
        if version and int(version[1]) < _FIRST_V1_MINOR and isinstance(engine, dict) and "scheduler" not in engine:
            return {**values, "engine": {**engine, "scheduler": "vllm-v0"}}
        return values


_FIRST_V1_MINOR = 8
"""vLLM 0.8 made the V1 engine the default."""
