"""The axes of stress by name."""

from __future__ import annotations

from latency_models.errors import invalid, unknown_name
from scenarios.schema import Scenario
from scenarios.stress.axis import Axis
from scenarios.stress.fault_axes import (
    first_replicas,
    gpus_in_use,
    with_cold_start,
    with_gpu_lost,
    with_replica_lost,
    with_slower_gpu,
)
from scenarios.stress.prompt_axes import biased_models, with_harder_prompts, with_longer_prompts, with_score_bias
from scenarios.stress.traffic_axes import with_bursts, with_load, with_longer_outputs

AXES = {
    axis.name: axis
    for axis in (
        Axis(
            name="load", words="the load", unit="x", neutral=1.0, furthest=3.0, limit=100.0, least=0.05,
            stressed=with_load, compresses_time=True,
        ),
        Axis(
            name="bursts", words="the bursts", unit="x", neutral=1.0, furthest=5.0, limit=10.0, stressed=with_bursts,
        ),
        Axis(
            name="outputs", words="the length of answers", unit="x", neutral=1.0, furthest=4.0, limit=100.0,
            stressed=with_longer_outputs,
        ),
        Axis(
            name="hard-prompts", words="of drift towards hard prompts", unit="", neutral=0.0, furthest=3.0, limit=10.0,
            stressed=with_harder_prompts,
        ),
        Axis(
            name="long-prompts", words="of drift towards long answers", unit="", neutral=0.0, furthest=3.0, limit=10.0,
            stressed=with_longer_prompts,
        ),
        Axis(
            name="score-bias", words="too much believed of", unit="", neutral=0.0, furthest=0.5, limit=1.0,
            stressed=with_score_bias, targets=biased_models,
        ),
        Axis(
            name="slower-gpu", words="slower steps on GPU", unit="x", neutral=1.0, furthest=4.0, limit=100.0,
            stressed=with_slower_gpu, targets=gpus_in_use,
        ),
        Axis(
            name="gpu-loss", words="without GPU", unit="s", neutral=0.0, furthest=60.0, limit=86_400.0,
            stressed=with_gpu_lost, targets=gpus_in_use,
        ),
        Axis(
            name="replica-loss", words="without replica", unit="s", neutral=0.0, furthest=60.0, limit=86_400.0,
            stressed=with_replica_lost, targets=first_replicas,
        ),
        Axis(
            name="cold-start", words="of cold start", unit="s", neutral=0.0, furthest=60.0, limit=86_400.0,
            stressed=with_cold_start,
        ),
    )
}  # fmt: skip
"""In the order in which they are tried and shown."""


def find_axis(text: str) -> tuple[Axis, str]:
    """The axis that a user names, with its target: ``load``, ``gpu-loss:2``; the target is empty if none is given.

    Raises
    ------
    InputError
        There is no such axis, or it has no targets.
    """
    name, colon, target = text.partition(":")
    if name not in AXES:
        raise unknown_name("axis", name, AXES)
    axis = AXES[name]
    if colon and axis.targets is None:
        raise invalid("axis", text, f"{name}, which has no targets", f"The largest value is --up-to {name}=VALUE.")
    if colon and not target:
        raise invalid("axis", text, f"{name} for all targets, or a target after the colon")
    return axis, target


def targets_of(axis: Axis, target: str, deployed: Scenario) -> list[str]:
    """What an axis is to be tried on: the target that the user named, or all that there are."""
    if target or axis.targets is None:
        return [target]
    return list(axis.targets(deployed))
