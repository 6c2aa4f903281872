"""Whether a replica turns a request away because too much waits there already."""

from __future__ import annotations

from collections.abc import Iterable

from sim.cluster_spec import AdmissionLimit
from sim.request import Request
from sim.vllm.waiting import WaitingQueue
from sim.workload import RequestSpec

DEFAULT_CLASS = "default"
"""The class of requests that name none."""


def turned_away(limit: AdmissionLimit, waiting: WaitingQueue, spec: RequestSpec) -> bool:
    """Whether the limits of a replica keep a request out: those on everything, or those on its class."""
    if limit.max_queue_requests is not None and len(waiting) >= limit.max_queue_requests:
        return True
    if limit.max_queue_tokens is not None and _tokens(waiting) + spec.prompt_tokens > limit.max_queue_tokens:
        return True
    own = limit.by_class.get(spec.request_class or DEFAULT_CLASS)
    if own is None:
        return False
    alike = [request for request in waiting if request.spec.request_class == spec.request_class]
    if own.max_queue_requests is not None and len(alike) >= own.max_queue_requests:
        return True
    return own.max_queue_tokens is not None and _tokens(alike) + spec.prompt_tokens > own.max_queue_tokens


def _tokens(waiting: Iterable[Request]) -> int:
    return sum(request.prompt_tokens for request in waiting)
