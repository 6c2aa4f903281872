"""Why a request waits, in words: the scheduler's own refusal with the figures it was decided on."""

from __future__ import annotations

from collections.abc import Sequence

from scenarios.stepping.step_view import BatchEntry
from sim.settings import EngineSettings
from sim.vllm.scheduler_base import Refusal


def why_refused(refusal: Refusal, settings: EngineSettings, batch: Sequence[BatchEntry]) -> str:
    """What the head of the queue lacked.

    Parameters
    ----------
    refusal : Refusal
        The scheduler's.
    settings : EngineSettings
        The engine's.
    batch : sequence of BatchEntry
        What the step computes instead.
    """
    needed, available = refusal.needed, max(0, refusal.available)
    left = f"{available:,} are left for it{_kept_back(settings)}"
    match refusal.lack:
        case "token budget":
            return f"no token budget left: {_spent(settings, batch)}"
        case "whole prompt":
            return f"its {needed:,} tokens must fit into one step, and {available:,} of the token budget are left"
        case "seat":
            name = "max_num_seqs" if settings.max_num_active_seqs is None else "max_num_active_seqs"
            return f"no seat: {settings.seat_limit:,} running, as many as {name} allows"
        case "blocks of the sequence":
            return f"no free KV blocks: all its tokens need {needed:,}, {left}"
        case "KV blocks":
            return f"no free KV blocks: its next chunk needs {needed:,}, {left}"
        case "preemption":
            return "a step that preempts admits nobody"


def _spent(settings: EngineSettings, batch: Sequence[BatchEntry]) -> str:
    """Who used the token budget up."""
    decodes = sum(entry.kind == "decode" for entry in batch)
    prefills = [entry for entry in batch if entry.kind == "prefill"]
    parts = [f"{decodes:,} by decodes"] if decodes else []
    if prefills:
        longest = max(prefills, key=lambda entry: entry.tokens)
        parts.append(f"{longest.tokens:,} by the prompt of request {longest.request}")
        others = sum(entry.tokens for entry in prefills) - longest.tokens
        if others:
            parts.append(f"{others:,} by other prompts")
    return f"of {settings.max_num_batched_tokens:,}, {', '.join(parts)}"


def _kept_back(settings: EngineSettings) -> str:
    return f" beside the {settings.watermark_blocks:,} of the watermark" if settings.watermark_blocks else ""
