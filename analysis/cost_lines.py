"""What a run costs, in a few lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.costs import BY_BUSY_TIME
from analysis.estimates import estimate_of, value_of
from analysis.summary import Summary
from analysis.wording import COUNT, DOLLARS, NUMBER, Unit, in_column, plus_minus

_KILOWATTS = Unit(factor=1e-3)
_PRICES = (
    ("per_million_output_tokens_usd", "per million output tokens"),
    ("per_1000_answers_usd", "per 1,000 answers"),
)


def cost_lines(cost: Summary | None) -> Iterator[str]:
    """Lines on dollars and on energy; none where nothing is known.

    Parameters
    ----------
    cost : dict or None
        ``cost`` of a summary, see :func:`analysis.costs.cost_summary`.
    """
    if cost is None:
        return
    gpus = f"{in_column(value_of(cost['gpus']), COUNT)} x {cost['gpu'] or 'GPU'}"
    if cost["per_hour_usd"] is not None:
        parts = [f"{in_column(value_of(cost['per_hour_usd']), DOLLARS)} per hour ({gpus})"]
        parts += [_part(cost, key, words) for key, words in _PRICES if cost[key] is not None]
        if cost["per_1000_good_usd"] is not None:
            parts.append(_part(cost, "per_1000_good_usd", f"per 1,000 {good_words(cost)}"))
        yield f"Cost: {', '.join(parts)}"
    if cost["power_w"] is not None:
        parts = [f"{in_column(value_of(cost['power_w']), _KILOWATTS)} kW ({gpus})"]
        if cost["joules_per_answer"] is not None:
            parts.append(f"{plus_minus(estimate_of(cost['joules_per_answer']), NUMBER)} J per answer")
        if cost["kwh_per_million_output_tokens"] is not None:
            energy = plus_minus(estimate_of(cost["kwh_per_million_output_tokens"]), NUMBER)
            parts.append(f"{energy} kWh per million output tokens")
        kind = "by busy time" if cost["energy_model"] == BY_BUSY_TIME else "always busy"
        yield f"Energy, at most ({kind}): {', '.join(parts)}"


def good_words(cost: Summary) -> str:
    """What a good answer is in this run."""
    in_time, correct = (cost[key] is not None for key in ("per_1000_in_time_usd", "per_1000_correct_usd"))
    return "correct answers in time" if in_time and correct else "correct answers" if correct else "answers in time"


def _part(cost: Summary, key: str, words: str) -> str:
    return f"{plus_minus(estimate_of(cost[key]), DOLLARS)} {words}"
