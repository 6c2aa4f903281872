"""What plans, stress tests, comparisons and frontiers say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.estimates import Estimate, estimate_of
from analysis.findings.finding import KeyFigure, Verdict
from analysis.stored.results import StoredDocument
from analysis.wording import MILLISECONDS, RATE, SCORE, SHARE, UNITS, brief, percent, plural, setting, worded


def plan_verdict(document: StoredDocument) -> Verdict:
    """What a plan promises; nothing about it was tested, save for the proof that it may carry."""
    content = document.content
    promise = content.get("promise")
    subject = f"Plan {document.name} ({document.path.name})"
    if promise is None:
        headline = "This plan promises nothing: it says what runs where, and how requests are routed."
        return Verdict(subject=subject, source="without a promise", standing="promised", headline=headline)
    proof = (content.get("provenance") or {}).get("proof")
    untested = "A promise is no test: validate the plan to find out whether it holds under real arrivals."
    return Verdict(
        subject=subject,
        source=f"{'shown to hold by simulation' if proof else 'read off load-latency curves'} when it was made",
        standing="promised",
        headline=f"The plan promises a score of {brief(promise['score'], SCORE)}{_slo_words(promise)}.",
        figures=tuple(_promised_figures(promise)),
        reasons=(f"Proof: {proof}.",) if proof else (),
        caveats=() if proof else (untested,),
    )


def _slo_words(promise: Mapping[str, Any]) -> str:
    loads = promise["loads"]
    if len(loads) != 1:
        return f" over {len(loads)} loads"
    slos = loads[0]["slos"]
    words = f" and {plural(len(slos), 'SLO')}" if slos else ""
    return f"{words} at {loads[0]['rate_per_s']:,.4g} requests/s"


def _promised_figures(promise: Mapping[str, Any]) -> Iterator[KeyFigure]:
    several = len(promise["loads"]) > 1
    for load in promise["loads"]:
        for slo in load["slos"]:
            late_share = slo["statistic"] != "mean" and slo["limit"] != slo["target_s"]
            unit = SHARE if late_share else MILLISECONDS
            target = setting(slo["target_s"], MILLISECONDS)
            of = f" of {slo['model']}" if slo["model"] else ""
            at = f" at {setting(load['rate_per_s'], RATE)}" if several else ""
            words = f"later than {target} {slo['metric'].upper()}" if late_share else _statistic(slo)
            yield KeyFigure(
                label=f"{words}{of}{at}",
                value=brief(slo["value"], unit),
                detail=f"at most {setting(slo['limit'], unit)}",
                standing="promised",
            )
    bound = promise["bound"]
    detail = "" if bound is None else f"no plan of this problem exceeds {brief(bound, SCORE)}"
    yield KeyFigure(label="score, predicted", value=brief(promise["score"], SCORE), detail=detail, standing="promised")


def _statistic(slo: Mapping[str, Any]) -> str:
    statistic = slo["statistic"] if slo["statistic"] == "mean" else slo["statistic"].upper()
    return f"{statistic} {slo['metric'].upper()}"


def stress_verdict(document: StoredDocument) -> Verdict:
    """How far a plan holds along each axis."""
    content = document.content
    baseline = content["baseline"]
    words = {"holds": "holds", "broken": "is broken", "undecided": "is undecided"}[baseline["outcome"]]
    sentences = [f"{_axis(axis)}: {axis['verdict']}." for axis in content["axes"]]
    left_out = [f"{name} was not tried: {reason}." for name, reason in content["left_out"].items()]
    return Verdict(
        subject=f"Stress test of plan {content['plan']} on {content['scenario']}",
        source=f"{plural(len(content['axes']), 'axis', 'axes')}, {percent(content['confidence'])} confidence a value",
        standing=baseline["outcome"],
        headline=f"As it is, the plan {words}; {_first_to_break(content['axes'])}.",
        reasons=tuple(sentences + left_out),
    )


def _axis(axis: Mapping[str, Any]) -> str:
    return f"{axis['axis']}:{axis['target']}" if axis["target"] else str(axis["axis"])


def _first_to_break(axes: list[Mapping[str, Any]]) -> str:
    limits = [axis for axis in axes if axis["breaks_first"] is not None]
    if not limits:
        return "nothing that was tried breaks it"
    return f"of {plural(len(axes), 'thing')} that got worse, {len(limits)} broke it within the range that was tried"


def comparison_verdict(document: StoredDocument) -> Verdict:
    """Which policies differ from the first, in quality and attainment."""
    content = document.content
    titles = {metric["name"]: metric for metric in content["metrics"]}
    main = [name for name in ("achieved", "attainment", "ttft_mean_s") if name in titles]
    sentences = []
    for label, policy in content["policies"].items():
        told = {name: _told_difference(policy["differences"].get(name)) for name in main}
        parts = [
            f"{titles[name]['title']} {worded(estimate, UNITS[titles[name]['unit']], signed=True)}"
            for name, estimate in told.items()
            if estimate is not None
        ]
        if parts:
            sentences.append(f"{label} against {content['reference']}: {', '.join(parts)}.")
        elif policy["differences"]:
            sentences.append(f"{label} was not told from {content['reference']} in score, SLO attainment or mean TTFT.")
    return Verdict(
        subject=f"Comparison of policies on {content['scenario']}",
        source=f"{plural(content['replications'], 'replication')} on the same requests, "
        f"{percent(content['confidence'])} confidence over all differences of a figure",
        standing="measured",
        headline=f"{plural(len(content['policies']), 'policy', 'policies')} were compared with each other.",
        reasons=tuple(sentences),
    )


def _told_difference(difference: Mapping[str, Any] | None) -> Estimate | None:
    """A difference that test and interval agree on; Holm's test alone is the sharper of the two."""
    estimate = estimate_of(difference)
    if difference is None or estimate is None or estimate.low is None or estimate.high is None:
        return None
    return estimate if difference["significant"] and not estimate.low <= 0 <= estimate.high else None


def frontier_verdict(document: StoredDocument) -> Verdict:
    """What score is possible over SLO targets and loads."""
    points = document.content["points"]
    sentences = []
    for sweep, key, words, unit in (
        ("target", "target_ms", "SLO targets", "ms"),
        ("load", "rate_per_s", "loads", "requests/s"),
    ):
        rows = sorted((row for row in points if row["sweep"] == sweep), key=lambda row: float(row[key]))
        possible = [row for row in rows if row["feasible"] == "True"]
        if possible:
            first, last = (
                f"{brief(float(row['score']), SCORE)} at {float(row[key]):,.4g} {unit}"
                for row in (possible[0], possible[-1])
            )
            sentences.append(f"Over {words}, the best score goes from {first} to {last}.")
        if none := [f"{float(row[key]):,.4g}" for row in rows if row["feasible"] != "True"]:
            sentences.append(f"No plan keeps the SLOs at {', '.join(none)} {unit}.")
    settings = document.content["manifest"].get("settings", {})
    return Verdict(
        subject=f"Frontier of problem {document.name}",
        source=f"{plural(len(points), 'point')}, promised by load-latency curves",
        standing="promised",
        headline=f"The best score for each target and load{_base(settings)}.",
        reasons=tuple(sentences),
    )


def _base(settings: Mapping[str, Any]) -> str:
    return f", around {settings['slo']}" if "slo" in settings else ""
