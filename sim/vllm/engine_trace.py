"""Replay of a workload on one replica, step by step, in the schema of the recorded vLLM traces.

Used by ``routerwise engine`` and by the conformance tests: the files written here can be compared line by line with
what vLLM's own scheduler did under a virtual clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from latency_models.step_time import StepTimeModel
from sim.clock import ARRIVAL, Clock, Occurrence
from sim.request import Request
from sim.settings import EngineSettings
from sim.vllm.engine import Engine, EngineMode
from sim.vllm.misfit import misfit
from sim.vllm.scheduler_base import Scheduler
from sim.vllm.schedulers import build_scheduler
from sim.vllm.step import Step
from sim.vllm.step_contents import step_items
from sim.vllm.step_timer import StepTimer
from sim.workload import RequestSpec

STEP_FIELDS = (
    "step", "t_sched", "t_start", "t_end", "n_seqs", "n_tokens", "n_prefill_tokens", "n_prefill_seqs", "n_decode",
    "sum_context", "running", "waiting", "blocks_used", "blocks_free", "new", "resumed", "preempted", "finished",
    "items",
)  # fmt: skip
REQUEST_FIELDS = (
    "id", "arrival", "prompt_len", "output_len", "priority", "first_sched", "first_token", "finish", "ttft", "tpot",
    "e2e", "queue_time", "n_output", "n_preemptions", "cached_tokens", "cached_tokens_resume", "first_step",
    "last_step", "finish_reason",
)  # fmt: skip


@dataclass(slots=True)
class EngineTrace:
    """Rows of ``steps.csv`` and ``requests.csv``."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)


class _Recorder:
    """Writes one row per step while the engine runs, and one per request when it ends."""

    def __init__(self) -> None:
        self.trace = EngineTrace()
        self.scheduler: Scheduler
        self.before_next_step: Callable[[int], None] = self._nothing
        self._open: dict[tuple[int, int], dict[str, Any]] = {}

    def _nothing(self, next_step: int) -> None:
        """Nobody is handed over."""

    def on_schedule(self, step: Step, index: int, now_s: float) -> None:
        """Describe the step as vLLM's scheduler output does."""
        scheduler = self.scheduler
        number = len(self.trace.steps)
        items: list[str] = []
        prefills = prefill_tokens = decodes = context = 0
        for request, tokens, before, kind in step_items(scheduler, step, index):
            items.append(f"{request.name}:{tokens}:{before}:{kind}")
            context += before + tokens
            if kind == "d":
                decodes += 1
            else:
                prefills += 1
                prefill_tokens += tokens
        admitted = scheduler.admitted if index == 0 else []
        for request in admitted:
            if request.first_step < 0:
                request.first_step = number
        pool = scheduler.pool
        row: dict[str, Any] = {
            "step": number,
            "t_sched": now_s,
            "n_seqs": len(items),
            "n_tokens": prefill_tokens + decodes,
            "n_prefill_tokens": prefill_tokens,
            "n_prefill_seqs": prefills,
            "n_decode": decodes,
            "sum_context": context,
            "running": len(scheduler.running),
            "waiting": len(scheduler.waiting),
            "blocks_used": pool.total - pool.free,
            "blocks_free": pool.free,
            "new": _names(request for request in admitted if not request.preemptions),
            "resumed": _names(request for request in admitted if request.preemptions),
            "preempted": _names(scheduler.preempted) if index == 0 else "",
            "finished": "",
            "items": ";".join(items),
        }
        self._open[id(step), index] = row
        self.trace.steps.append(row)
        self.before_next_step(number + 1)

    def on_empty_schedule(self, now_s: float) -> None:
        """A schedule without tokens is no step."""

    def on_complete(self, step: Step, index: int, start_s: float, end_s: float) -> None:
        """Add when the step ran."""
        row = self._open.pop((id(step), index))
        row["t_start"] = start_s
        row["t_end"] = end_s
        self._row = row

    def on_finish(self, request: Request, now_s: float) -> None:
        """Add the request to its last step and write its row."""
        row = self._row
        row["finished"] = f"{row['finished']} {request.name}".strip()
        arrival_s = request.spec.arrival_s
        outputs = request.max_outputs
        decode_s = now_s - request.first_token_s
        self.trace.requests.append(
            {
                "id": request.name,
                "arrival": arrival_s,
                "prompt_len": request.prompt_tokens,
                "output_len": request.spec.output_tokens,
                "priority": request.priority,
                "first_sched": request.first_scheduled_s,
                "first_token": request.first_token_s,
                "finish": now_s,
                "ttft": request.first_token_s - arrival_s,
                "tpot": decode_s / (outputs - 1) if outputs > 1 else "",
                "e2e": now_s - arrival_s,
                "queue_time": request.first_scheduled_s - arrival_s,
                "n_output": outputs,
                "n_preemptions": request.preemptions,
                "cached_tokens": request.cached_tokens,
                "cached_tokens_resume": request.cached_on_resume,
                "first_step": request.first_step,
                "last_step": row["step"],
                "finish_reason": "length",
                "row": request.row,
            }
        )

    def on_abort(self, request: Request, now_s: float) -> None:
        """A replay cancels nothing."""

    def on_gap(self, request: Request, from_s: float, to_s: float) -> None:
        """The step rows say it already."""


def _names(requests: Iterable[Request]) -> str:
    return " ".join(str(request.name) for request in requests)


def replay(
    requests: list[RequestSpec],
    settings: EngineSettings,
    model: StepTimeModel,
    *,
    mode: EngineMode = "macro",
    idle_sleep_s: float = 0.001,
    step_arrivals: Mapping[int, int] | None = None,
) -> EngineTrace:
    """Run requests through one replica and record every step.

    Parameters
    ----------
    requests : list of RequestSpec
        In order of arrival; ``request_id`` is required.
    settings : EngineSettings
        The replica's settings.
    model : StepTimeModel
        Duration of steps.
    mode : {"macro", "reference"}
        See :mod:`sim.vllm.engine`.
    idle_sleep_s : float
        Sleep of vLLM's loop after it executed nothing, seconds.
    step_arrivals : mapping, optional
        Row number to step number, for requests that are handed over right before a step instead of at a time; they
        arrive at once if the replica would run out of work before that step.  Steps are then events of their own.

    Returns
    -------
    EngineTrace
        Steps in the order of their schedule, requests in the order of the workload.
    """
    clock = Clock()
    recorder = _Recorder()
    shared = any(spec.content is not None for spec in requests)
    scheduler = build_scheduler(
        settings, StepTimer(model, asynchronous=settings.async_scheduling), shared_content=shared
    )
    recorder.scheduler = scheduler
    by_step = dict(step_arrivals or {})
    if by_step:
        mode = "reference"
    engine = Engine(clock, scheduler, recorder, mode=mode, idle_sleep_s=idle_sleep_s, observer=recorder)

    def enter(row: int, arrival_s: float) -> Request:
        spec = requests[row]._replace(arrival_s=arrival_s)
        name = spec.request_id if spec.request_id is not None else str(row)
        if (error := misfit(spec, settings, name)) is not None:
            raise error
        return Request(row, spec, arrival_s, settings.max_model_len, name)

    def submit(event: Occurrence) -> None:
        engine.submit(event.payload)

    for row, spec in enumerate(requests):
        if row not in by_step:
            clock.at(spec.arrival_s, ARRIVAL, submit, enter(row, spec.arrival_s))
    handed_over = sorted(by_step, key=lambda row: (by_step[row], row), reverse=True)

    def hand_over(next_step: int) -> None:
        while handed_over and by_step[handed_over[-1]] <= next_step:
            scheduler.add(enter(handed_over.pop(), clock.now_s))

    recorder.before_next_step = hand_over
    clock.drive()
    while handed_over:
        engine.submit(enter(handed_over.pop(), clock.now_s))
        clock.drive()
    trace = recorder.trace
    trace.requests.sort(key=lambda values: int(values["row"]))
    for values in trace.requests:
        del values["row"]
    return trace
