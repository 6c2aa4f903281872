"""What a validation says: which SLOs of the plan hold, and which causes came between promise and outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.estimates import Estimate, estimate_of, simulated_estimate
from analysis.findings.finding import KeyFigure, Verdict, overlap
from analysis.stored.results import StoredDocument
from analysis.wording import MILLISECONDS, SCORE, SHARE, UNITS, bare, brief, percent, plural, with_unit, worded

_HEADLINES = {
    "holds": "The plan holds",
    "broken": "The plan does not hold",
    "undecided": "Whether the plan holds is not decided yet",
}


def validation_verdict(document: StoredDocument) -> Verdict:
    """Verdict on a plan, from a document of ``routerwise validate``."""
    content = document.content
    slos: Sequence[Mapping[str, Any]] = content["slos"]
    worst_first = sorted(slos, key=lambda slo: ("broken", "undecided", "holds").index(slo["outcome"]))
    headline = _HEADLINES[content["outcome"]]
    if len(slos) == 1:
        headline += f": {_slo_words(slos[0])}"
    elif content["outcome"] != "holds":
        headline += f": {_counted(slos)}; {_slo_words(worst_first[0])}"
    else:
        headline += f": all {len(slos)} SLOs do"
    return Verdict(
        subject=f"Plan {content['plan']} on {content['scenario']}",
        source=f"validated with {plural(content['replications'], 'replication')}, "
        f"{plural(content['requests'], 'request')}, {percent(content['confidence'])} confidence",
        standing=content["outcome"],
        headline=f"{headline}.",
        figures=(*map(_slo_figure, worst_first), *_promised_scores(content)),
        reasons=() if content["outcome"] == "holds" else tuple(_reasons(content, worst_first[0])),
        caveats=tuple(_caveats(slos)),
    )


def _slo_words(slo: Mapping[str, Any]) -> str:
    found = estimate_of(slo["statistic_s"])
    limited, _, limit = slo["slo"].partition(" <= ")
    if found is None:
        return f"{limited} falls on requests that were never answered, with a limit of {limit}"
    return f"{limited} is {worded(found, MILLISECONDS)}, with a limit of {limit}"


def _counted(slos: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for outcome, words in (("broken", "broken"), ("undecided", "undecided")):
        if count := sum(slo["outcome"] == outcome for slo in slos):
            parts.append(f"{count} of {len(slos)} SLOs {'is' if count == 1 else 'are'} {words}")
    return " and ".join(parts)


def _slo_figure(slo: Mapping[str, Any]) -> KeyFigure:
    found = estimate_of(slo["statistic_s"])
    limited, _, limit = slo["slo"].partition(" <= ")
    value, interval = ("never", "") if found is None else bare(found, MILLISECONDS)
    return KeyFigure(
        label=limited,
        value=value if found is None else with_unit(value, MILLISECONDS),
        interval=interval,
        detail=f"at most {limit}",
        standing=slo["outcome"],
    )


def _promised_scores(content: Mapping[str, Any]) -> Iterator[KeyFigure]:
    """The achieved score, or the predicted one where no true scores are known."""
    scores = {figure["name"]: figure for figure in content["promise"] if figure["unit"] == "score"}
    for name in ("score, achieved", "score, predicted"):
        if name in scores and scores[name]["simulated"] is not None:
            yield promised_figure(scores[name])
            return


def promised_figure(figure: Mapping[str, Any]) -> KeyFigure:
    """A promised score next to its outcome."""
    value, interval = bare(simulated_estimate(figure), SCORE)
    detail = f"promised {brief(figure['promised'], SCORE)}"
    return KeyFigure(label=figure["name"], value=value, interval=interval, detail=detail)


def _reasons(content: Mapping[str, Any], slo: Mapping[str, Any]) -> Iterator[str]:
    yield from _slowest_model(content, slo)
    if (unanswered := estimate_of(slo["unanswered"])) and unanswered.value > 0:
        yield f"{worded(unanswered, SHARE)} of the requests that the SLO is about were never answered."
    if "gap" not in content:
        yield "What came between promise and outcome is not in this file; validate with --gap to find out."
        return
    for gap in content["gap"]["gaps"]:
        yield from _gap_reason(gap, content["gap"]["explanations"])
    if (further := content["further_replications"]) is not None:
        yield f"About {plural(further, 'further replication')} would decide it, if the figures stay as they are."


def _slowest_model(content: Mapping[str, Any], slo: Mapping[str, Any]) -> Iterator[str]:
    found: dict[str, Estimate] = {}
    for name, group in content["simulated"]["by_model"].items():
        estimate = estimate_of(group[f"{slo['metric']}_s"].get(slo["statistic"]))
        if estimate is not None:
            found[name] = estimate
    if len(found) < 2:
        return
    slowest, *_, fastest = sorted(found, key=lambda name: -found[name].value)
    limited = slo["slo"].partition(" <= ")[0]
    sentence = (
        f"{limited} by model is longest at {slowest}, {worded(found[slowest], MILLISECONDS)}, and shortest at "
        f"{fastest}, {worded(found[fastest], MILLISECONDS)}"
    )
    overlapping = "; the intervals overlap" if overlap(found[slowest], found[fastest]) else ""
    yield f"{sentence[0].upper()}{sentence[1:]}{overlapping}."


def _gap_reason(gap: Mapping[str, Any], explanations: Mapping[str, str]) -> Iterator[str]:
    """The cause that worsened a figure most, if the figure got worse than promised."""
    simulated = estimate_of(gap["simulated"])
    if gap["effects"] is None or simulated is None:
        return
    unit = UNITS[gap["unit"]]
    worse = -1.0 if gap["unit"] == "score" else 1.0
    if worse * (simulated.value - gap["promised"]) <= 0:
        return
    causes = {name: estimate_of(entry["effect"]) for name, entry in gap["effects"]["causes"].items()}
    causes["left over (curves)"] = estimate_of(gap["left_over"])
    known = {name: effect for name, effect in causes.items() if effect is not None}
    name = max(known, key=lambda cause: worse * known[cause].value)
    effect = known[name]
    if worse * effect.value <= 0:
        return
    promised = brief(gap["promised"], unit)
    start = f"{gap['name'][0].upper()}{gap['name'][1:]}: {promised} promised, {worded(simulated, unit)} simulated. "
    how = f" ({explanations[name]})" if name in explanations else ""
    told = effect.low is not None and effect.high is not None and not effect.low <= 0 <= effect.high
    change = worded(effect, unit, signed=True)
    if told:
        yield f"{start}The largest cause is {name}: {change} against runs without it{how}."
    elif gap["unit"] != "score":  # the score is no SLO: what was not shown about it is no reason
        yield (
            f"{start}The largest estimate is for {name}, {change} against runs without it{how}, but the interval "
            "contains 0: more replications are needed to tell."
        )


def _caveats(slos: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if any(slo["outcome"] == "undecided" for slo in slos):
        yield "An undecided SLO is neither shown to hold nor shown to be broken."
