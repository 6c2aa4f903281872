"""Why requests of a run missed their limits: which limit, which model, which part of the wait, which replica."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.estimates import Estimate
from analysis.findings.finding import overlap
from analysis.slo import ROUNDING_S
from analysis.statistics import mean_interval
from analysis.stored.run import StoredRun
from analysis.wording import COUNT, MILLISECONDS, NUMBER, SECONDS, SHARE, bare, brief, listed, setting, worded

PART_WORDS = {
    "earlier_models": "answers of models that were asked before",
    "outages": "outages, of starts that a crash made void and of waiting for a replica",
    "router_and_api": "the router and the API server",
    "waiting": "waiting to be scheduled",
    "preempted": "waiting again after a preemption",
    "prefill": "the prefill of the prompt itself",
    "interference": "other work in the steps of the prefill",
}
"""Parts of a TTFT in words."""

_NOT_ANSWERED = {
    "rejected": "rejected",
    "timed_out": "timed out",
    "aborted": "cancelled by the client",
    "failed": "lost in a crash",
    "unfinished": "still unfinished at the end",
}
_BUSY = 0.95
_FULL = 0.9


def run_reasons(run: StoredRun) -> Iterator[str]:
    """Sentences on why limits were missed, or what takes the time where there is no limit."""
    yield from _missed_limits(run)
    yield from _not_answered(run)
    yield from _weakest(run, "by_model", run.used_models)
    yield from _weakest(run, "by_class", run.classes)
    yield from _largest_part(run)
    yield from _bottleneck(run)
    yield from _outages(run)


def _missed_limits(run: StoredRun) -> Iterator[str]:
    """Shares of the requests that were slower than each limit; a request may miss several."""
    slo = run.slo
    if slo is None or run.requests.empty:
        return
    parts = []
    for latency, limit in slo.limits_s.items():
        missed = run.requests[f"{latency}_s"] > limit + ROUNDING_S
        shares = missed.groupby(run.requests["replication"]).mean().to_numpy()
        if shares.any():
            limit_words = setting(limit, MILLISECONDS)
            parts.append(
                f"{worded(_mean(shares), SHARE)} took longer than the {latency.upper()} limit of {limit_words}"
            )
    if parts:
        yield f"Of the requests, {listed(parts)}."


def _mean(values: Any) -> Estimate:
    if len(values) < 2:
        return Estimate(value=float(values[0]))
    found = mean_interval(values)
    return Estimate(value=found.estimate, low=found.low, high=found.high)


def _not_answered(run: StoredRun) -> Iterator[str]:
    parts = []
    for status, words in _NOT_ANSWERED.items():
        found = run.estimate("overall", "requests", status)
        if found is not None and found.value > 0:
            parts.append(f"{bare(found, COUNT)[0]} were {words}")
    if parts:
        each = "" if run.replications == 1 else " in an average replication"
        yield f"Not answered{each}: {', '.join(parts)}."


def _weakest(run: StoredRun, group: str, names: list[str]) -> Iterator[str]:
    """The model or class that fared worst, beside the best."""
    if len(names) < 2:
        return
    kind = "model" if group == "by_model" else "class"
    if run.slo is not None:
        found = {name: run.estimate(group, name, "slo_attainment") for name in names}
        words, unit, sign = f"By {kind}, limits are kept least by", SHARE, 1.0
    else:
        found = {name: run.estimate(group, name, "ttft_s", "mean") for name in names}
        words, unit, sign = f"By {kind}, the mean TTFT is longest at", MILLISECONDS, -1.0
    known = {name: estimate for name, estimate in found.items() if estimate is not None}
    if len(known) < 2:
        return
    weakest, *_, best = sorted(known, key=lambda name: sign * known[name].value)
    if known[weakest].value == known[best].value:
        return
    overlapping = "; the intervals overlap" if overlap(known[weakest], known[best]) else ""
    yield (
        f"{words} {weakest}, {worded(known[weakest], unit)}; the other end is {best}, {worded(known[best], unit)}"
        f"{overlapping}."
    )


def _largest_part(run: StoredRun) -> Iterator[str]:
    for group, words in (("mean", "all requests"), ("slowest", "the 5 % with the longest TTFT")):
        known = run.estimates("overall", "ttft_parts_s", group)
        whole_s = sum(part.value for part in known.values())
        if not known or whole_s <= 0:
            continue
        name = max(known, key=lambda part: known[part].value)
        yield (
            f"The largest part of the TTFT of {words} is {PART_WORDS.get(name, name)}: "
            f"{worded(known[name], MILLISECONDS)} of {brief(whole_s, MILLISECONDS)} on average, "
            f"{brief(known[name].value / whole_s, SHARE)}."
        )


def _bottleneck(run: StoredRun) -> Iterator[str]:
    """The replica where most requests wait, or the busiest if none wait, and what of it is exhausted."""
    replicas: Mapping[str, Any] = run.summary["replicas"]
    if not replicas:
        return
    waiting = {name: _value(run, name, "mean_waiting") for name in replicas}
    busy = {name: _value(run, name, "utilisation") for name in replicas}
    queued = max(waiting.values()) >= 0.1
    name = max(replicas, key=lambda replica: (waiting if queued else busy)[replica])
    longest = f"{_value(run, name, 'max_waiting'):,.0f}"
    mean_waiting = run.estimate("replicas", name, "mean_waiting")
    if queued and mean_waiting is not None:
        most = " among the replicas" if len(replicas) > 1 else ""
        yield (
            f"The longest queue{most} is at {name}: {worded(mean_waiting, NUMBER)} requests wait on average, {longest} "
            f"at most. {_exhausted(run, name)}"
        )
    else:
        yield f"Hardly a request waits for admission; the busiest replica is {name}. {_exhausted(run, name)}"


def _exhausted(run: StoredRun, name: str) -> str:
    model = run.summary["replicas"][name]["model"]
    busy, kv = _value(run, name, "utilisation"), _value(run, name, "mean_kv_used_frac")
    running = _value(run, name, "mean_running")
    slots = ((run.scenario.get("models") or {}).get(model, {}).get("engine") or {}).get("max_num_seqs")
    state = f"It computes {brief(busy, SHARE)} of the time"
    state += f", with {brief(running, NUMBER)}"
    state += f" of at most {slots:,} requests running" if slots else " requests running"
    state += f" and {brief(kv, SHARE)} of its KV blocks in use on average"
    limits = []
    if slots and running >= _FULL * slots:
        limits.append("its batch is full most of the time")
    if kv >= _FULL:
        limits.append("its KV memory is full most of the time")
    if preempted := _preempted(run, model):
        limits.append(f"KV memory ran out at times, {preempted}")
    if not limits and busy >= _BUSY:
        limits.append("it hardly ever idles, while batch and KV memory have room on average")
    return f"{state}{': ' if limits else ''}{listed(limits)}."


def _preempted(run: StoredRun, model: str) -> str:
    found = run.estimate("by_model", model, "preempted_requests")
    total = run.number("by_model", model, "requests", "total")
    if found is None or found.value <= 0 or total <= 0:
        return ""
    return f"so that {brief(found.value / total, SHARE)} of the requests of {model} were preempted"


def _outages(run: StoredRun) -> Iterator[str]:
    for name in run.summary["replicas"]:
        found = run.estimate("replicas", name, "down_s")
        if found is not None and found.value > 0:
            yield f"{name} was down for {brief(found, SECONDS)}."


def _value(run: StoredRun, replica: str, figure: str) -> float:
    found = run.estimate("replicas", replica, figure)
    return 0.0 if found is None else found.value
