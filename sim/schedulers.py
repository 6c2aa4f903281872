"""The scheduler that an engine's settings ask for."""

from __future__ import annotations

from latency_models.step_time import StepTimeModel
from sim.scheduler_base import Scheduler
from sim.scheduler_v0 import SchedulerV0
from sim.scheduler_v1 import SchedulerV1
from sim.settings import EngineSettings


def build_scheduler(
    settings: EngineSettings, model: StepTimeModel, *, shared_content: bool, cpu_overhead_s: float = 0.0
) -> Scheduler:
    """A scheduler of the kind ``settings.scheduler``; parameters as for :class:`sim.scheduler_base.Scheduler`."""
    kind = SchedulerV0 if settings.scheduler == "vllm-v0" else SchedulerV1
    return kind(settings, model, shared_content=shared_content, cpu_overhead_s=cpu_overhead_s)
