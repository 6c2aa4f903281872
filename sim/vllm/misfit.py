"""Requests that make no sense, and those that a replica could never finish, however long they waited."""

from __future__ import annotations

from latency_models.errors import InputError, invalid
from sim.settings import EngineSettings
from sim.workload import RequestSpec


def misfit(spec: RequestSpec, settings: EngineSettings, name: str | int) -> InputError | None:
    """Why a replica with these settings could never finish the request, or ``None`` if it can.

    vLLM refuses a prompt that leaves no room for an output within ``max_model_len``; and a sequence that needs more KV
    blocks than there are would preempt itself for ever.
    """
    if spec.prompt_tokens >= settings.max_model_len:
        return invalid(
            f"prompt tokens of request {name}",
            spec.prompt_tokens,
            f"less than engine.max_model_len ({settings.max_model_len})",
            "Raise max_model_len, cap the prompts, or, in a scenario, set run.oversized: reject.",
        )
    # The last token is sampled but never needs a slot.
    longest = min(spec.prompt_tokens + spec.output_tokens, settings.max_model_len) - 1
    if longest > settings.longest_sequence:
        return invalid(
            f"prompt and output tokens of request {name}",
            spec.prompt_tokens + spec.output_tokens,
            f"at most {settings.longest_sequence + 1}, what the {settings.usable_blocks} usable KV blocks can hold",
            "Raise engine.num_gpu_blocks, cap the requests, or, in a scenario, set run.oversized: reject.",
        )
    return None


def check_request(spec: RequestSpec, row: int) -> None:
    """Raise :class:`InputError` if a request makes no sense."""
    if spec.prompt_tokens < 1 or spec.output_tokens < 1:
        lengths = (spec.prompt_tokens, spec.output_tokens)
        raise invalid(f"prompt and output tokens of request {row}", lengths, "at least 1 each")
    if spec.content is not None and sum(length for _, length in spec.content) > spec.prompt_tokens:
        raise invalid(f"content of request {row}", spec.content, f"at most its {spec.prompt_tokens} prompt tokens")
    for name, patience_s in (("deadline_s", spec.deadline_s), ("cancel_after_s", spec.cancel_after_s)):
        if patience_s is not None and not patience_s > 0:
            raise invalid(f"{name} of request {row}", patience_s, "seconds > 0")
