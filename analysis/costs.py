"""What a run costs: dollars and energy per hour, token, answer and good answer.

All GPUs of the cluster are paid for, busy or not, and a GPU that several replicas share is paid for once.  Rates are
those of the summary: per second of the measured time, of what left after the warm-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.metrics import RequestLatencies
from analysis.slo import Slo
from analysis.summary import Summary
from analysis.token_runs import elapsed_s
from latency_models.catalogue.gpus import check_idle_power
from latency_models.errors import check_finite
from sim.results import Floats, SimulationResult

_HOUR_S = 3600.0
_KWH_J = 3.6e6

BY_BUSY_TIME = "idle power, and board power while computing: an upper bound, as few steps draw the board power"
AT_BOARD_POWER = "board power all the time, as the idle power is not known: an upper bound"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCost:
    """What one GPU of a cluster costs and draws; ``None`` where it is not known.

    Raises
    ------
    InputError
        A figure is not positive and finite, or the idle power exceeds the board power.
    """

    name: str | None = None
    price_per_hour_usd: float | None = None
    price_source: str = ""
    """Who asks that price, and when."""
    power_w: float | None = None
    """Most that the board draws."""
    idle_power_w: float | None = None

    def __post_init__(self) -> None:
        for key in ("price_per_hour_usd", "power_w", "idle_power_w"):
            if (value := getattr(self, key)) is not None:
                check_finite(f"gpus.{key}", value, exclusive=True)
        check_idle_power("gpus", power_w=self.power_w, idle_power_w=self.idle_power_w)


def cost_summary(
    result: SimulationResult,
    summary: Summary,
    *,
    gpus: int,
    gpu: GpuCost,
    slo: Slo | None = None,
    warmup_s: float = 0.0,
) -> Summary:
    """Cost and energy of a run.

    Parameters
    ----------
    result : SimulationResult
        What the simulation left behind.
    summary : dict
        Its summary, of :func:`analysis.summary.summarise` with the same SLO and warm-up.
    gpus : int
        GPUs of the cluster, used or not.
    gpu : GpuCost
        What each costs and draws.
    slo : Slo, optional
        Without one every answer is in time.
    warmup_s : float
        What is left out.

    Returns
    -------
    dict
        ``gpu``, ``gpus``, ``price_per_gpu_hour_usd``, ``price_source``; ``per_hour_usd`` of the cluster,
        ``per_million_output_tokens_usd``, ``per_million_tokens_usd`` (prompt and output), ``per_1000_answers_usd``,
        ``per_1000_in_time_usd`` (within the SLO), ``per_1000_correct_usd`` (answers weighted with their true scores)
        and ``per_1000_good_usd`` (both, where both are known; otherwise the one that is); ``good_answers_per_s``;
        ``power_w`` of the cluster, ``joules_per_answer``, ``kwh_per_million_output_tokens``,
        ``kwh_per_million_tokens`` and ``energy_model``.  ``None`` is what cannot be known.
    """
    overall = summary["overall"]
    tokens_per_s = (overall["prompt_tokens_per_s"] or 0.0) + (overall["output_tokens_per_s"] or 0.0)
    in_time_per_s, correct_per_s, good_per_s = _good_rates(result, slo, warmup_s)
    per_hour = None if gpu.price_per_hour_usd is None else gpus * gpu.price_per_hour_usd
    power_w, model = _power(result, gpus, gpu, warmup_s)

    def usd(amount: float, per_s: float | None) -> float | None:
        return _per(per_hour, amount, None if per_s is None else per_s * _HOUR_S)

    def kwh(amount: float, per_s: float | None) -> float | None:
        return _per(power_w, amount / _KWH_J, per_s)

    return {
        "gpu": gpu.name,
        "gpus": gpus,
        "price_per_gpu_hour_usd": gpu.price_per_hour_usd,
        "price_source": gpu.price_source or None,
        "per_hour_usd": per_hour,
        "per_million_output_tokens_usd": usd(1e6, overall["output_tokens_per_s"]),
        "per_million_tokens_usd": usd(1e6, tokens_per_s),
        "per_1000_answers_usd": usd(1e3, overall["requests_per_s"]),
        "per_1000_in_time_usd": usd(1e3, in_time_per_s),
        "per_1000_correct_usd": usd(1e3, correct_per_s),
        "per_1000_good_usd": usd(1e3, good_per_s),
        "good_answers_per_s": good_per_s,
        "power_w": power_w,
        "joules_per_answer": _per(power_w, 1.0, overall["requests_per_s"]),
        "kwh_per_million_output_tokens": kwh(1e6, overall["output_tokens_per_s"]),
        "kwh_per_million_tokens": kwh(1e6, tokens_per_s),
        "energy_model": model,
    }


def gpu_busy_s(result: SimulationResult, gpus: int, *, warmup_s: float = 0.0) -> list[float]:
    """Seconds of the measured time in which each GPU computes for at least one replica.

    Parameters
    ----------
    result : SimulationResult
        What the simulation left behind.
    gpus : int
        GPUs of the cluster.
    warmup_s : float
        Where the measured time starts.
    """
    tenants: dict[tuple[int, ...], float] = {}
    busy: list[float] = []
    for gpu in range(gpus):
        here = tuple(index for index, replica in enumerate(result.replicas) if gpu in replica.gpus)
        if here not in tenants:
            tenants[here] = _covered_s(result, here, warmup_s)
        busy.append(tenants[here])
    return busy


def _covered_s(result: SimulationResult, replicas: Sequence[int], warmup_s: float) -> float:
    """Seconds in which at least one of the replicas computes."""
    spans: list[Floats] = []
    for replica in replicas:
        for runs in result.runs[replica].chunks():
            ends = runs[:, 0] + elapsed_s(runs[:, 1], runs[:, 2], runs[:, 3])
            spans.append(np.clip(np.column_stack([runs[:, 0], ends]), warmup_s, result.end_s))
    if not spans:
        return 0.0
    table = np.concatenate(spans)
    starts, ends = table[np.argsort(table[:, 0], kind="stable")].T
    covered_to = np.concatenate([[warmup_s], np.maximum.accumulate(ends)[:-1]])
    return float(np.clip(ends - np.maximum(starts, covered_to), 0.0, None).sum())


def _power(result: SimulationResult, gpus: int, gpu: GpuCost, warmup_s: float) -> tuple[float, str] | tuple[None, None]:
    """Mean power of the cluster, and where it is from."""
    if gpu.power_w is None:
        return None, None
    measured_s = result.end_s - warmup_s
    if gpu.idle_power_w is None or measured_s <= 0:
        return gpus * gpu.power_w, AT_BOARD_POWER
    busy = sum(gpu_busy_s(result, gpus, warmup_s=warmup_s)) / measured_s
    return gpus * gpu.idle_power_w + busy * (gpu.power_w - gpu.idle_power_w), BY_BUSY_TIME


def _good_rates(
    result: SimulationResult, slo: Slo | None, warmup_s: float
) -> tuple[float | None, float | None, float | None]:
    """Answers per second in time, correct, and both; ``None`` where nothing says what that is."""
    requests, table = result.requests, result.prompts
    latencies = RequestLatencies.of(requests)
    answered = latencies.finished & (requests.finish_s >= warmup_s)
    measured_s = result.end_s - warmup_s
    if measured_s <= 0:
        return None, None, None
    in_time: Floats | None = None if slo is None else (answered & slo.met(latencies)).astype(np.float64)
    correct: Floats | None = None
    if table is not None and table.outcomes is not None:
        rows = np.flatnonzero(answered)
        correct = np.zeros(len(answered))
        correct[rows] = table.outcomes[requests.prompt[rows], requests.model[rows]]
    good = correct if in_time is None else in_time
    if in_time is not None and correct is not None:
        good = in_time * correct

    def rate(amounts: Floats | None) -> float | None:
        return None if amounts is None else float(amounts.sum()) / measured_s

    return rate(in_time), rate(correct), rate(good)


def _per(spent: float | None, amount: float, per: float | None) -> float | None:
    """What an amount costs, if ``spent`` buys ``per`` of it."""
    return None if spent is None or not per else spent * amount / per
