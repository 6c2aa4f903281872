"""The scheduler that an engine's settings ask for."""

from __future__ import annotations

from sim.settings import EngineSettings
from sim.vllm.scheduler_base import Scheduler
from sim.vllm.scheduler_v0 import SchedulerV0
from sim.vllm.scheduler_v1 import SchedulerV1
from sim.vllm.step_timer import StepTimer


def build_scheduler(settings: EngineSettings, timer: StepTimer, *, shared_content: bool) -> Scheduler:
    """A scheduler of the kind ``settings.scheduler``; parameters as for :class:`sim.vllm.scheduler_base.Scheduler`."""
    kind = SchedulerV0 if settings.scheduler == "vllm-v0" else SchedulerV1
    return kind(settings, timer, shared_content=shared_content)
