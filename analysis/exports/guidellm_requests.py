"""Requests as GuideLLM's reports have them: status, instants as Unix time, and the figures derived from these."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.exports.guidellm_distributions import STATUSES
from sim.results import Floats, Ints, SimulationResult, Status

_GROUP_OF_STATUS = {
    Status.FINISHED: "successful",
    Status.UNFINISHED: "incomplete",
    Status.ABORTED: "incomplete",
    Status.REJECTED: "errored",
    Status.TIMED_OUT: "errored",
    Status.FAILED: "errored",
}
_STATUS_NAMES = {"successful": "completed", "incomplete": "cancelled", "errored": "errored"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GuideRequests:
    """Columns over requests.

    Attributes
    ----------
    result : SimulationResult
        Where they come from.
    epoch_s : float
        Unix time at which the simulation clock reads zero.
    begin_s, end_s, first_token_s, last_token_s : array, shape (requests,)
        Unix times: arrival, leaving (or the end of the run), first and last token (NaN: none).
    groups : dict
        Rows by GuideLLM's status.
    """

    result: SimulationResult
    epoch_s: float
    begin_s: Floats
    end_s: Floats
    first_token_s: Floats
    last_token_s: Floats
    groups: dict[str, Ints]

    @classmethod
    def of(cls, result: SimulationResult, epoch_s: float) -> GuideRequests:
        """Read a result."""
        requests = result.requests
        groups = {
            name: np.flatnonzero(
                np.isin(requests.status, [code for code, its in _GROUP_OF_STATUS.items() if its == name])
            )
            for name in STATUSES
        }
        answered = requests.generated_tokens > 0
        return cls(
            result=result,
            epoch_s=epoch_s,
            begin_s=epoch_s + requests.arrival_s,
            end_s=epoch_s + np.where(np.isnan(requests.finish_s), result.end_s, requests.finish_s),
            first_token_s=np.where(answered, epoch_s + requests.first_token_s, np.nan),
            last_token_s=np.where(answered, epoch_s + requests.last_token_s, np.nan),
            groups=groups,
        )

    @property
    def prompt_tokens(self) -> Floats:
        """Tokens of the prompts."""
        return self.result.requests.prompt_tokens.astype(np.float64)

    @property
    def output_tokens(self) -> Floats:
        """Tokens that came out."""
        return self.result.requests.generated_tokens.astype(np.float64)

    @property
    def latency_s(self) -> Floats:
        """From arrival to leaving."""
        return self.end_s - self.begin_s

    @property
    def ttft_ms(self) -> Floats:
        """From arrival to the first token; NaN: none."""
        return 1e3 * (self.first_token_s - self.begin_s)

    @property
    def inter_token_ms(self) -> Floats:
        """Mean time between tokens; NaN with fewer than two."""
        later = self.output_tokens - 1
        span_ms = 1e3 * (self.last_token_s - self.first_token_s)
        found: Floats = np.divide(span_ms, later, out=np.full(len(later), np.nan), where=later > 0)
        return found

    @property
    def per_token_ms(self) -> Floats:
        """Time from arrival to the last token per output token, as GuideLLM defines TPOT; NaN without tokens."""
        tokens = self.output_tokens
        until_s = np.where(np.isnan(self.last_token_s), self.end_s, self.last_token_s)
        spent_ms = 1e3 * (until_s - self.begin_s)
        found: Floats = np.divide(spent_ms, tokens, out=np.full(len(tokens), np.nan), where=tokens > 0)
        return found

    def overlapping(self, window_s: tuple[float, float]) -> dict[str, Ints]:
        """Rows by status of the requests in the system at some time of a window."""
        inside = (self.end_s >= window_s[0]) & (self.begin_s <= window_s[1])
        return {status: rows[inside[rows]] for status, rows in self.groups.items()}

    def described(self, row: int) -> dict[str, Any]:
        """One request's entry; what does not apply, and what is GuideLLM's default, is left out."""
        requests = self.result.requests
        group = _GROUP_OF_STATUS[Status(int(requests.status[row]))]
        name = str(row) if requests.request_id is None else requests.request_id[row]
        begin_s, end_s = float(self.begin_s[row]), float(self.end_s[row])
        tokens = int(requests.generated_tokens[row])
        prompt_tokens = int(requests.prompt_tokens[row])
        timings: dict[str, Any] = dict.fromkeys(
            ("targeted_start", "queued", "dequeued", "scheduled_at", "resolve_start", "request_start"), begin_s
        )
        first_s, last_s = float(self.first_token_s[row]), float(self.last_token_s[row])
        if tokens and not math.isnan(first_s):
            for kind in ("first_request_iteration", "first_token_iteration", "first_output_token_iteration"):
                timings[kind] = first_s
            for kind in ("last_token_iteration", "last_request_iteration"):
                timings[kind] = last_s
        timings |= {"request_iterations": tokens, "token_iterations": tokens}
        timings |= dict.fromkeys(("request_end", "resolve_end", "finalized"), end_s)
        info: dict[str, Any] = {"request_id": name, "status": _STATUS_NAMES[group], "timings": timings}
        info |= {"scheduler_start_time": self.epoch_s, "started_at": begin_s, "completed_at": end_s}
        if requests.session is not None and requests.session[row] is not None:
            info["conversation_id"] = requests.session[row]
        if group == "errored":
            info["error"] = Status(int(requests.status[row])).name.lower().replace("_", " ")
        latency_s = end_s - begin_s
        derived = {
            "request_start_time": begin_s,
            "request_end_time": end_s,
            "request_latency": latency_s,
            "request_dispatch_delay": 0.0,
            "prompt_tokens": prompt_tokens,
            "cached_tokens": int(requests.cached_tokens[row]),
            "output_tokens": tokens,
            "total_tokens": prompt_tokens + tokens,
            "time_to_first_token_ms": _or_none(self.ttft_ms_of(row)),
            "inter_token_latency_ms": 1e3 * (last_s - first_s) / (tokens - 1) if tokens > 1 else None,
            "time_per_output_token_ms": 1e3 * (last_s - begin_s) / tokens if tokens else None,
            "tokens_per_second": (prompt_tokens + tokens) / latency_s if latency_s else None,
            "output_tokens_per_second": tokens / latency_s if latency_s else None,
        }
        return {
            "type_": "generative_request_stats",
            "request_id": name,
            "info": info,
            "input_metrics": {"text_tokens": prompt_tokens, "cached_tokens": int(requests.cached_tokens[row])},
            "output_metrics": {"text_tokens": tokens},
            **derived,
        }

    def ttft_ms_of(self, row: int) -> float:
        """TTFT of one request; NaN: none."""
        return 1e3 * float(self.first_token_s[row] - self.begin_s[row])


def request_counts(groups: Mapping[str, Ints]) -> dict[str, int]:
    """How many requests have each status, and all."""
    counts = {status: len(groups[status]) for status in STATUSES}
    return {**counts, "total": sum(counts.values())}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
