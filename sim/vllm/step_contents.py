"""Which requests a step computes, read from the scheduler right after its decision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from sim.request import Request
from sim.vllm.scheduler_base import Scheduler
from sim.vllm.step import Step


class StepItem(NamedTuple):
    """One request in a step."""

    request: Request
    tokens: int
    before: int
    """Tokens whose KV was computed before."""
    kind: Literal["P", "p", "d"]
    """``P``: the last chunk of a prompt, which emits a token; ``p``: another chunk of it; ``d``: decode."""


def step_items(scheduler: Scheduler, step: Step, index: int) -> Iterator[StepItem]:
    """What step ``index`` of ``step``, just decided, computes, in the order of the running list.

    A resumed request that has one token left to compute counts as decoding, as in vLLM.  Older engines decode nobody in
    a step with prompts.
    """
    chunks = {chunk[0]: chunk for chunk in step.prefills or ()} if index == 0 else {}
    for request in scheduler.running:
        if request in chunks:
            _, tokens, before, emits = chunks[request]
            if tokens == 1 and before >= request.prompt_tokens:
                yield StepItem(request, 1, before, "d")
            else:
                yield StepItem(request, tokens, before, "P" if emits else "p")
        elif step.decode_size and request.decoding and not scheduler.was_skipped(request):
            yield StepItem(request, 1, request.base + scheduler.batch.steps - 1, "d")
