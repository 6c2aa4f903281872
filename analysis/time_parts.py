"""Why a latency is as long as it is: the parts of each request's TTFT and end-to-end time.

What a request would take alone on its replica (:mod:`analysis.alone_times`) is told apart from what others, and the
state of the cluster, add to it.  The parts of a request sum to its latency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.alone_times import AloneTimes
from analysis.metrics import RequestLatencies
from sim.cluster_spec import ClusterSpec
from sim.results import Floats, Ints, SimulationResult

TTFT_PARTS = ("earlier_models", "outages", "router_and_api", "waiting", "preempted", "prefill", "interference")
"""Parts of a TTFT, in the order in which they begin.

``earlier_models``: until the router asked the model that answered in the end (a cascade).  ``outages``: starts that a
crash made void, and waiting for a replica that was down.  ``router_and_api``: from there to the scheduler's queue.
``waiting``: from there to the first scheduling.  ``preempted``: waiting again after a preemption.  ``prefill``: what
its own prefill takes alone, and never more than it took.  ``interference``: what the prefill took beyond that, because
of others in the same steps, neighbours on the GPU, slow-downs, noise, and work that a preemption undid."""

E2E_PARTS = (*TTFT_PARTS, "decode", "decode_interference", "preempted_later", "detokenise")
"""Parts of an end-to-end time: those of the TTFT, and the same for the tokens after the first one.

``decode``: what its own decode steps take alone, and never more than they took.  ``decode_interference``: what they
took beyond that.  ``preempted_later``: waiting again after a preemption.  ``detokenise``: from the last token to the
client."""


def part_name(part: str) -> str:
    """A part as it is shown, such as ``router and API``."""
    return part.replace("_", " ").replace("api", "API")


SLOWEST_SHARE = 0.05
"""Share of a group's requests that count as its slowest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeParts:
    """Parts in seconds by name, arrays of shape (requests,).

    NaN where a request has no such latency, and where the step-time model refuses to say what it would take alone.
    """

    ttft_s: Mapping[str, Floats]
    """:data:`TTFT_PARTS`."""
    e2e_s: Mapping[str, Floats]
    """:data:`E2E_PARTS`."""

    @classmethod
    def of(cls, result: SimulationResult, cluster: ClusterSpec) -> TimeParts:
        """Take the latencies of a simulation apart.

        Parameters
        ----------
        result : SimulationResult
            What the simulation left behind.
        cluster : ClusterSpec
            What was simulated.
        """
        requests = result.requests
        first_s, last_s = requests.first_token_s, requests.last_token_s
        answered = np.flatnonzero(~np.isnan(first_s))
        finished = np.flatnonzero(RequestLatencies.of(requests).finished)
        alone = AloneTimes(cluster)
        prefill_s, decode_s = np.full(len(requests), np.nan), np.full(len(requests), np.nan)
        prefill_s[answered] = alone.prefill_s(
            *(column[answered] for column in (requests.replica, requests.prompt_tokens, requests.cached_tokens))
        )
        decode_s[finished] = alone.decode_s(
            *(column[finished] for column in (requests.replica, requests.prompt_tokens, requests.generated_tokens))
        )
        preempted_s, preempted_later_s = _preempted_s(result)
        prefill_s, interference_s = _told_apart(prefill_s, first_s - requests.scheduled_s - preempted_s)
        decode_s, decode_interference_s = _told_apart(decode_s, last_s - first_s - preempted_later_s)
        ttft = (
            requests.asked_s - requests.arrival_s,
            requests.started_s - requests.asked_s,
            requests.queued_s - requests.started_s,
            requests.scheduled_s - requests.queued_s,
            preempted_s,
            prefill_s,
            interference_s,
        )
        later = (decode_s, decode_interference_s, preempted_later_s, requests.finish_s - last_s)
        return cls(
            ttft_s=_named(TTFT_PARTS, ttft, answered),
            e2e_s=_named(E2E_PARTS, (*ttft, *later), finished),
        )


def mean_parts(parts: Mapping[str, Floats], latency_s: Floats, rows: Ints) -> dict[str, dict[str, float]]:
    """Mean parts of a group of requests, and of its slowest ones.

    Parameters
    ----------
    parts : mapping
        Of :class:`TimeParts`.
    latency_s : array, shape (requests,)
        The latency that they are parts of; NaN for requests without it, which are left out.
    rows : array of int
        The group.

    Returns
    -------
    dict
        ``mean`` and ``slowest`` (over the :data:`SLOWEST_SHARE` of the group with the longest latency, one request at
        least), each with seconds by part; NaN without requests.
    """
    rows = rows[~np.isnan(latency_s[rows])]
    slowest = math.ceil(SLOWEST_SHARE * len(rows))
    longest = rows[np.argpartition(latency_s[rows], -slowest)[-slowest:]] if slowest else rows
    return {"mean": _means(parts, rows), "slowest": _means(parts, longest)}


def _means(parts: Mapping[str, Floats], rows: Ints) -> dict[str, float]:
    return {name: float(values[rows].mean()) if len(rows) else math.nan for name, values in parts.items()}


def _preempted_s(result: SimulationResult) -> tuple[Floats, Floats]:
    """Seconds that each request waited after preemptions, before and after its first token."""
    ended = result.preemptions[~np.isnan(result.preemptions[:, 3])]
    row = ended[:, 1].astype(np.int64)
    waited_s = ended[:, 3] - ended[:, 2]
    before = ended[:, 2] < result.requests.first_token_s[row]
    before_s, later_s = np.zeros(len(result.requests)), np.zeros(len(result.requests))
    np.add.at(before_s, row[before], waited_s[before])
    np.add.at(later_s, row[~before], waited_s[~before])
    return before_s, later_s


def _told_apart(alone_s: Floats, took_s: Floats) -> tuple[Floats, Floats]:
    """Of the time that something took: what it would have taken alone, and the rest.

    Alone is never more than it took: noise, a faster replica, or the prefix cache after a preemption can save time.
    """
    own_s = np.minimum(alone_s, took_s)
    return own_s, took_s - own_s


def _named(names: Sequence[str], columns: Sequence[Floats], rows: Ints) -> dict[str, Floats]:
    kept: dict[str, Floats] = {}
    for name, column in zip(names, columns, strict=True):
        kept[name] = np.full(len(column), np.nan)
        kept[name][rows] = column[rows]
    return kept
