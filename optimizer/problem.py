"""The problem that is solved: which GPUs, which ways to run each model, which prompts, which load, which SLOs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from latency_models.curves.load_latency import LoadLatencyCurve
from latency_models.errors import InputError, check_count, check_finite, invalid, unknown_name
from sim.prompt_table import PromptTable

Metric = Literal["ttft", "tpot", "e2e"]
Statistic = Literal["mean", "p90", "p95", "p99"]
Packing = Literal["compute", "memory"]

Setup = tuple[int, ...]
"""Index of the option of each model; :data:`LEFT_OUT` for a model that does not run."""

LEFT_OUT = -1

LONGEST_TARGET_S = 3600.0
_SHORTEST_TARGET_S = 1e-6
_MOST_GPUS = 10_000
_WEIGHT_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to run a model.

    Parameters
    ----------
    tp : int
        GPUs of each replica (tensor parallel).
    compute_share : float
        Share of the compute units of each of these GPUs, 0 < share <= 1.
    replicas : int
        Copies of the model.
    memory_share : float
        Share of each GPU's memory that one shard takes, 0 < share <= 1.
    curve : LoadLatencyCurve
        Latency over the requests/s of all replicas together.
    """

    tp: int
    compute_share: float = 1.0
    replicas: int = 1
    memory_share: float
    curve: LoadLatencyCurve

    def __post_init__(self) -> None:
        check_count("tp", self.tp)
        check_count("replicas", self.replicas)
        for field in ("compute_share", "memory_share"):
            value = getattr(self, field)
            if check_finite(field, value, exclusive=True) > 1:
                raise invalid(field, value, "a share of each GPU, 0 < share <= 1, not per cent")

    @property
    def compute(self) -> float:
        """GPUs' worth of compute that all shards take."""
        return self.tp * self.compute_share * self.replicas

    @property
    def shards(self) -> int:
        """GPUs on which the model has a shard; no two are on one GPU."""
        return self.tp * self.replicas

    def __str__(self) -> str:
        copies = f" x {self.replicas}" if self.replicas > 1 else ""
        return f"tp {self.tp} at {self.compute_share:.0%}{copies}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """A model and the ways to run it; an ``optional`` one may be left out altogether."""

    name: str
    options: tuple[Option, ...]
    optional: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise invalid("model name", self.name, "a name")
        if not self.options:
            raise InputError(f"model {self.name} has no options; allowed: at least one way to run it")
        keys = [(option.tp, option.compute_share, option.replicas) for option in self.options]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise invalid(f"options of {self.name}", twice, "each (tp, compute_share, replicas) once")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCase:
    """A load that the setup must carry, and how much its score counts; routing follows the load, the setup does not."""

    rate_per_s: float
    """Requests/s of all models together."""
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_finite("rate_per_s", self.rate_per_s)
        if check_finite("weight", self.weight, exclusive=True) > 1:
            raise invalid("weight", self.weight, "a share of 1, such as 0.25")


@dataclass(frozen=True, slots=True, kw_only=True)
class SloTarget:
    """A limit on a statistic of a latency, over the requests of one model, or of all models together."""

    metric: Metric
    statistic: Statistic = "mean"
    target_s: float
    model: str | None = None

    def __post_init__(self) -> None:
        if self.metric not in get_args(Metric):
            raise unknown_name("metric of an SLO", str(self.metric), get_args(Metric))
        if self.statistic not in get_args(Statistic):
            raise unknown_name("statistic of an SLO", str(self.statistic), get_args(Statistic))
        target = check_finite("target_s", self.target_s, exclusive=True)
        if target > LONGEST_TARGET_S:
            raise invalid("target_s", target, f"up to {LONGEST_TARGET_S:g} s", "The unit looks wrong.")
        if target < _SHORTEST_TARGET_S:
            raise invalid("target_s", target, f"from {_SHORTEST_TARGET_S:g} s", "The unit looks wrong.")

    @property
    def curve_statistic(self) -> str:
        """Name of the limited statistic in a load-latency curve, such as ``ttft_mean_s``."""
        return f"{self.metric}_{self.statistic}_s"

    @property
    def late_share(self) -> float | None:
        """Share of the requests that may be slower than the target; ``None`` for a mean."""
        return None if self.statistic == "mean" else round(1.0 - int(self.statistic[1:]) / 100.0, 10)

    def __str__(self) -> str:
        statistic = "mean" if self.statistic == "mean" else self.statistic.upper()
        whose = f" of {self.model}" if self.model else ""
        return f"{statistic} {self.metric.upper()}{whose} <= {1e3 * self.target_s:g} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Choose an option for every model, and the routing, so that the mean predicted score is as high as the SLOs allow.

    Parameters
    ----------
    gpus : int
        GPUs, all alike.
    models : tuple of ModelOptions, length M
        Models, in the order of the columns of ``table``.
    table : PromptTable
        Scores; its prompts stand for the traffic.
    loads : tuple of LoadCase
        One load, or several whose weights sum to 1.
    slos : tuple of SloTarget
        Targets, all of which hold at every load.
    packing : {"compute", "memory"}
        What the shards on a GPU share without exceeding it: memory and compute shares, or memory alone.

    Raises
    ------
    InputError
        Parts contradict each other, a curve lacks a statistic, or a model that must run fits on no set of GPUs.
    """

    gpus: int
    models: tuple[ModelOptions, ...]
    table: PromptTable
    loads: tuple[LoadCase, ...]
    slos: tuple[SloTarget, ...]
    packing: Packing = "compute"

    def __post_init__(self) -> None:
        if check_count("gpus", self.gpus) > _MOST_GPUS:
            raise invalid("gpus", self.gpus, f"1 to {_MOST_GPUS}")
        names = [model.name for model in self.models]
        if not names:
            raise InputError("the problem has no models; allowed: at least one")
        if len(set(names)) < len(names):
            raise invalid("models", names, "each name once")
        if tuple(names) != self.table.models:
            raise invalid("models of the prompt table", list(self.table.models), f"{names}, in this order")
        if self.packing not in get_args(Packing):
            raise unknown_name("packing", str(self.packing), get_args(Packing))
        _check_loads(self.loads)
        _check_slos(self.slos, self.models)
        for model in self.models:
            least = min(option.shards for option in model.options)
            if least > self.gpus and not model.optional:
                raise invalid(
                    "gpus",
                    self.gpus,
                    f"at least {least}, the fewest GPUs of {model.name}",
                    "Add GPUs or smaller options.",
                )
        if all(option.shards > self.gpus for model in self.models for option in model.options):
            raise invalid("gpus", self.gpus, "enough for at least one option of one model")


def _check_loads(loads: Sequence[LoadCase]) -> None:
    if not loads:
        raise InputError("the problem has no loads; allowed: at least one")
    total = math.fsum(load.weight for load in loads)
    if abs(total - 1.0) > _WEIGHT_ROUNDING:
        raise invalid("sum of the weights of the loads", total, "1")
    rates = [load.rate_per_s for load in loads]
    if len(set(rates)) < len(rates):
        raise invalid("rates of the loads", rates, "each rate once")


def _check_slos(slos: Sequence[SloTarget], models: Sequence[ModelOptions]) -> None:
    if not slos:
        raise InputError("the problem has no SLOs; allowed: at least one")
    keys = [(slo.metric, slo.statistic, slo.model) for slo in slos]
    if len(set(keys)) < len(keys):
        twice = next(slo for slo, key in zip(slos, keys, strict=True) if keys.count(key) > 1)
        raise InputError(f"slos has two targets like {twice}; allowed: one for each metric, statistic and model")
    for slo in slos:
        if slo.model is not None and slo.model not in [model.name for model in models]:
            raise unknown_name("model of an SLO", slo.model, [model.name for model in models])
        for model in models:
            if slo.model not in (None, model.name):
                continue
            for option in model.options:
                if slo.curve_statistic not in option.curve.statistics:
                    raise unknown_name(
                        f"statistic in the curve of {model.name}, {option}",
                        slo.curve_statistic,
                        option.curve.statistics,
                    )
