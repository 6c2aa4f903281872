"""What a latency model costs: building it, and each of the two questions that the engine asks it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.figures import Figure
from benchmarks.yardstick import beside_yardstick
from latency_models.config import build_step_time, parse_latency
from latency_models.step_time import StepTimeModel

SECTION = "latency models"
SHIPPED: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear", "base_s": 0.006, "per_token_s": 2e-5, "per_context_token_s": 1e-8},
    "roofline": {"kind": "roofline", "gpu": "h100-80gb", "model": "llama-3.1-8b"},
    "steps": {"kind": "file", "name": "llama-7b-a100-80gb-tp1"},
    "steps, half of the GPU": {
        "kind": "share",
        "share": 0.5,
        "base": {"kind": "file", "name": "llama-7b-a100-80gb-tp1"},
    },
}
"""Models that need no data."""
PUBLISHED: dict[str, dict[str, Any]] = {
    "layers": {
        "kind": "layers",
        "path": "data/llmservingsim_vllm/profile_RTXPRO6000_Llama-3.1-8B_tp1",
        "layers": 32,
    },
    "operators": {
        "kind": "operators",
        "path": "data/aiconfigurator_vllm_ops/h100_sxm",
        "model": "llama-3.1-70b",
        "tp": 4,
        "gemm": "fp8",
    },
}
"""Models made of published tables, below the folder that ``ROUTERWISE_DATA`` names."""


def latency_model_figures(calls: int, *, repeats: int) -> Iterator[Figure]:
    """Cost of building each model, and of asking it, in timeouts per call."""
    sections = dict(SHIPPED)
    folder = os.environ.get("ROUTERWISE_DATA")
    if folder:
        sections |= {name: {**section, "path": f"{folder}/{section['path']}"} for name, section in PUBLISHED.items()}
    for name, section in sections.items():
        began = time.perf_counter()
        model = build_step_time(parse_latency(section))
        built_s = time.perf_counter() - began
        yield Figure(section=SECTION, case=name, quantity="s to build", value=built_s, detail="the first time")
        for question, ask in (("decode_run", _decode_runs), ("step_s", _mixed_steps)):
            timing = beside_yardstick([ask(model, calls)] * repeats)
            each_us = timing.best_s(calls) * 1e6
            yield Figure(
                section=SECTION,
                case=name,
                quantity=f"timeouts per {question}",
                value=timing.timeouts(calls),
                detail=f"{each_us:.2f} us",
            )


def _decode_runs(model: StepTimeModel, calls: int) -> Callable[[], None]:
    def work() -> None:
        for call in range(calls):
            seqs = 1 + call % 60
            model.decode_run(seqs, seqs * (200 + call % 1000))

    return work


def _mixed_steps(model: StepTimeModel, calls: int) -> Callable[[], None]:
    def work() -> None:
        for call in range(calls):
            seqs = 1 + call % 60
            chunk = 100 + call % 900
            model.step_s(seqs + chunk, 1, chunk, chunk * chunk / 2.0, seqs, seqs * 500, seqs + 1)

    return work
