"""What a run directory says: limits kept or missed, quality and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from analysis.estimates import Estimate, simulated_estimate
from analysis.findings.bottlenecks import run_reasons
from analysis.findings.finding import KeyFigure, Standing, Verdict, judged, worst
from analysis.findings.validations import promised_figure
from analysis.slo import Slo
from analysis.stored.run import StoredRun
from analysis.wording import (
    DOLLARS,
    MILLISECONDS,
    RATE,
    SCORE,
    SHARE,
    UNITS,
    Unit,
    bare,
    brief,
    listed,
    percent,
    plural,
    setting,
    with_unit,
    worded,
)

_TOLERATED_UNANSWERED = 0.01
"""Share of requests without an answer up to which latencies of the others may show that a limit holds; as in
``routerwise validate``."""


def run_verdict(run: StoredRun) -> Verdict:
    """Verdict on a run: on what its plan promised, if it has one, and on its SLO otherwise."""
    limits = [figure for figure in run.promise if figure["limit"] is not None and figure["simulated"] is not None]
    headline, standing = _on_promise(run, limits) if limits else _on_slo(run)
    reasons = () if standing == "holds" or _all_met(run) else tuple(run_reasons(run))
    return Verdict(
        subject=f"Run {run.name}" + (f" of plan {run.plan['name']}" if run.plan else ""),
        source=_source(run),
        standing=standing,
        headline=headline,
        figures=tuple(_figures(run, limits)),
        reasons=reasons,
        caveats=tuple(_caveats(run)),
    )


def limits_in_words(slo: Slo) -> str:
    """The limits of a request, such as ``TTFT 300 ms and TPOT 60 ms``."""
    parts = [f"{latency.upper()} {setting(limit, MILLISECONDS)}" for latency, limit in slo.limits_s.items()]
    return listed(parts)


def _source(run: StoredRun) -> str:
    total = run.estimate("overall", "requests", "total")
    requests = "requests" if total is None else plural(round(total.value), "request")
    if run.replications == 1:
        return f"one replication, {requests}"
    confidence = run.summary.get("confidence", 0.95)
    return f"{plural(run.replications, 'replication')} of {requests} on average, {percent(confidence)} confidence"


# ---------------------------------------------------------------------- headlines


def _on_promise(run: StoredRun, limits: list[dict[str, Any]]) -> tuple[str, Standing]:
    standings = [_standing(run, figure) for figure in limits]
    together = worst(standings)
    worst_of = limits[standings.index(together)]
    words = _limit_words(worst_of)
    if together == "measured":
        over = [figure for figure in limits if figure["simulated"] > figure["limit"]]
        start = "In this one replication the plan's SLO was " + ("missed" if over else "kept")
        return f"{start}: {_limit_words(over[0] if over else worst_of)}.", together
    start = {
        "holds": "The plan keeps its SLO here" if len(limits) == 1 else f"The plan keeps its {len(limits)} SLOs here",
        "broken": "The plan breaks its SLO here",
        "undecided": "This run does not decide whether the plan keeps its SLO",
    }[together]
    return f"{start}: {words}.", together


def _standing(run: StoredRun, figure: Mapping[str, Any]) -> Standing:
    found = judged(simulated_estimate(figure), figure["limit"])
    # Turning requests away makes the others fast.
    return "undecided" if found == "holds" and _unanswered_share(run) > _TOLERATED_UNANSWERED else found


def _limit_words(figure: Mapping[str, Any]) -> str:
    unit = UNITS[figure["unit"]]
    limit = setting(figure["limit"], unit)
    return f"{_named(figure['name'])} is {worded(simulated_estimate(figure), unit)}, with a limit of {limit}"


def _named(name: str) -> str:
    """Name of a promised figure, ``all models: TTFT mean``, as in a sentence."""
    of, _, what = name.rpartition(": ")
    return f"{what} of {of}" if of else what


def _on_slo(run: StoredRun) -> tuple[str, Standing]:
    slo, attainment = run.slo, run.estimate("overall", "slo_attainment")
    requests = run.estimate("overall", "requests", "total")
    if requests is None or requests.value == 0:
        return "No request arrived after the warm-up: there is nothing to judge.", "measured"
    if slo is None or attainment is None:
        ttft = run.estimate("overall", "ttft_s", "mean")
        found = "" if ttft is None else f": the first token came after {worded(ttft, MILLISECONDS)} on average"
        return f"No SLO was set, so there is none to keep{found}.", "measured"
    if _all_met(run):
        return f"Every request kept its limits, {limits_in_words(slo)}.", "measured"
    return f"{worded(attainment, SHARE)} of all requests kept their limits, {limits_in_words(slo)}.", "measured"


def _all_met(run: StoredRun) -> bool:
    attainment = run.estimate("overall", "slo_attainment")
    return attainment is not None and attainment.value == 1.0


def _unanswered_share(run: StoredRun) -> float:
    total, finished = (run.estimate("overall", "requests", name) for name in ("total", "finished"))
    if total is None or finished is None or total.value == 0:
        return 0.0
    return 1.0 - finished.value / total.value


# ---------------------------------------------------------------------- figures


def _figures(run: StoredRun, limits: list[dict[str, Any]]) -> Iterator[KeyFigure]:
    for figure in limits:
        unit = UNITS[figure["unit"]]
        value, interval = bare(simulated_estimate(figure), unit)
        yield KeyFigure(
            label=_named(figure["name"]),
            value=with_unit(value, unit),
            interval=interval,
            detail=f"at most {setting(figure['limit'], unit)}",
            standing=_standing(run, figure),
        )
    slo, attainment = run.slo, run.estimate("overall", "slo_attainment")
    if slo is not None and attainment is not None:
        yield _key_figure("requests that kept their limits", attainment, SHARE, limits_in_words(slo))
    else:
        for name, statistic in (("TTFT P95", "ttft_s"), ("TPOT P95", "tpot_s")):
            if (found := run.estimate("overall", statistic, "p95")) is not None:
                yield _key_figure(name, found, MILLISECONDS)
    yield from _score(run)
    yield from _cost(run)
    if (offered := run.estimate("overall", "offered_per_s")) is not None:
        yield _key_figure("requests offered", offered, RATE)


def _key_figure(label: str, estimate: Estimate, unit: Unit, note: str = "") -> KeyFigure:
    value, interval = bare(estimate, unit)
    return KeyFigure(label=label, value=with_unit(value, unit), interval=interval, detail=note)


def _score(run: StoredRun) -> Iterator[KeyFigure]:
    """The achieved score, or the predicted one where no true scores are known; with the promise, if there is one."""
    promised = {figure["name"]: figure for figure in run.promise if figure["unit"] == "score"}
    for kind in ("achieved", "predicted"):
        name = f"score, {kind}"
        if name in promised and promised[name]["simulated"] is not None:
            yield promised_figure(promised[name])
            return
        if (found := run.estimate("overall", "quality", kind)) is not None:
            yield _key_figure(name, found, SCORE)
            return


def _cost(run: StoredRun) -> Iterator[KeyFigure]:
    per_tokens = run.estimate("cost", "per_million_output_tokens_usd")
    if per_tokens is None:
        return
    per_hour = run.estimate("cost", "per_hour_usd")
    note = "" if per_hour is None else f"{brief(per_hour, DOLLARS)} per hour"
    yield _key_figure("cost per million output tokens", per_tokens, DOLLARS, note)
    if (good := run.estimate("cost", "per_1000_good_usd")) is not None:
        yield _key_figure("cost per 1,000 good answers", good, DOLLARS)


# ---------------------------------------------------------------------- caveats


def _caveats(run: StoredRun) -> Iterator[str]:
    if run.replications == 1:
        yield "One replication has no confidence interval: another seed may show other figures."
    if (share := _unanswered_share(run)) > 0:
        yield (
            f"{brief(share, SHARE)} of the requests were not answered. They count as misses of the "
            "SLO, but latencies are of the requests that have them."
        )
    if shared := _shared_without_contention(run):
        yield (
            f"Replicas that share a GPU ({shared}) do not slow each other down in this scenario (contention: "
            "isolated); real ones may."
        )
    if not any(run.warmup_s):
        yield "No warm-up was left out: the start from an empty system is in all figures."
    if (cut := run.estimate("overall", "cut_short")) is not None and cut.value > 0:
        yield f"{plural(cut.value, 'answer')} reached max_model_len and ended there."


def _shared_without_contention(run: StoredRun) -> str:
    """GPUs with shards of several replicas, if the scenario lets them run as if alone."""
    contention = run.scenario.get("contention")
    if isinstance(contention, Mapping) and contention.get("kind", "isolated") != "isolated":
        return ""
    shards = Counter(gpu for replica in run.cluster["replicas"] for gpu in replica["gpus"])
    shared = sorted(gpu for gpu, count in shards.items() if count > 1)
    return f"GPU {', '.join(map(str, shared[:8]))}{', ...' if len(shared) > 8 else ''}" if shared else ""
