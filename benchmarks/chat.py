"""The chat load as plain data, for simulations in the process and for scenario files alike.

The step-time law is that of a small model on one GPU; its coefficients are round numbers, not a measurement.
"""

from __future__ import annotations

from typing import Any

STEP_TIME_COEFFICIENTS = {"base_s": 0.006, "per_token_s": 22e-6, "per_sequence_s": 20e-6, "per_context_token_s": 10e-9}
KV_BLOCKS = 20_000
"""KV blocks of a replica: enough for its 256 seats."""
CAPACITY_PER_S = 20.48
"""Requests that one replica completes per second when it never runs out of them."""
RATE_PER_S = 19.4
"""95 % of :data:`CAPACITY_PER_S`: near the rate at which the queue grows."""


def chat_section(requests: int, rate_per_s: float = RATE_PER_S, output_tokens: int = 512) -> dict[str, Any]:
    """The ``workload:`` section of chat: Poisson arrivals, prompts of 512 +- 256 tokens, answers likewise."""
    return {
        "kind": "synthetic",
        "arrivals": {"kind": "poisson", "rate_per_s": rate_per_s},
        "lengths": {
            "prompt": {"kind": "normal", "mean": 512, "std": 256},
            "output": {"kind": "normal", "mean": output_tokens, "std": output_tokens / 2},
        },
        "requests": requests,
    }


def chat_scenario(requests: int, replicas: int) -> dict[str, Any]:
    """Chat on some replicas as a scenario file."""
    return {
        "name": "chat",
        "seed": 1,
        "models": {
            "model": {
                "latency": {"kind": "linear", **STEP_TIME_COEFFICIENTS},
                "engine": {"num_gpu_blocks": KV_BLOCKS},
                "replicas": replicas,
            }
        },
        "workload": chat_section(requests, rate_per_s=RATE_PER_S * replicas),
        "slo": "ttft:2000 tpot:100",
    }
