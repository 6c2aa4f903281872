"""From a profile file to configurations: every model alone, at each tp, compute share and number of replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from latency_models.config import LatencyConfig
from latency_models.curves.load_latency import Configuration
from latency_models.errors import InputError, unknown_name
from scenarios.deployed_latency import at_share, latency_at_tp, own_tp
from scenarios.model_section import AdmissionSection, ModelSection, ReplicaSection
from scenarios.profiles.offered_load import workload_for
from scenarios.profiles.schema import ProfileSection, ProfileSpec
from scenarios.schema import GpuSection, RunSection, Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledConfiguration:
    """A configuration and the scenario in which it stands alone."""

    configuration: Configuration
    scenario: Scenario

    @property
    def notes(self) -> tuple[str, ...]:
        """What the latency section has to say of itself, such as that it is extrapolated."""
        return self.scenario.models[self.configuration.model].latency.notes()


def configurations_of(spec: ProfileSpec) -> list[ProfiledConfiguration]:
    """All configurations of a profile, in the order of the file.

    Raises
    ------
    InputError
        A model, a latency or a KV capacity is missing, or the scenario holds what no curve can describe.
    """
    profile = spec.profile
    for name in (*(profile.models or ()), *profile.latency_by_tp, *profile.num_gpu_blocks_by_tp):
        if name not in spec.models:
            raise unknown_name("model in profile", name, spec.models)
    if spec.speed_changes:
        raise InputError(
            "speed_changes is given; allowed in a profile: none, since a curve is of a constant speed. Set it to []"
        )
    _check_by_tp(spec)
    found: list[ProfiledConfiguration] = []
    for name in profile.models or tuple(spec.models):
        section = spec.models[name]
        for tp, share, replicas in product(profile.tp or (own_tp(section),), profile.compute_shares, profile.replicas):
            configuration = Configuration(model=name, tp=tp, compute_share=share, replicas=replicas)
            scenario = _alone(spec, name, _configured(profile, section, configuration))
            try:
                scenario.cluster()
            except InputError as error:
                raise InputError(f"{configuration}: {error}") from None
            found.append(ProfiledConfiguration(configuration=configuration, scenario=scenario))
    return found


def _check_by_tp(spec: ProfileSpec) -> None:
    """Refuse what is given for a degree or a model that has no curve."""
    profile = spec.profile
    for key, given in (
        ("latency_by_tp", profile.latency_by_tp),
        ("num_gpu_blocks_by_tp", profile.num_gpu_blocks_by_tp),
    ):
        for name, by_tp in given.items():
            section = spec.models[name]
            if profile.models is not None and name not in profile.models:
                raise InputError(
                    f"profile.{key}.{name} has no effect, as {name} is not among profile.models "
                    f"({', '.join(profile.models)}); add it there, or leave it out here"
                )
            degrees = profile.tp or (own_tp(section),)
            for tp in by_tp:
                if tp not in degrees:
                    raise InputError(
                        f"profile.{key}.{name}.{tp} has no effect, as profile.tp is {list(degrees)}; "
                        f"add {tp} there, or leave it out here"
                    )
            if key == "num_gpu_blocks_by_tp":
                _check_blocks_count(name, section, profile.num_gpu_blocks_by_tp[name])


def _check_blocks_count(name: str, section: ModelSection, by_tp: Mapping[int, int]) -> None:
    own = own_tp(section)
    if getattr(section.engine, "num_gpu_blocks", None) is None:
        raise InputError(
            f"profile.num_gpu_blocks_by_tp.{name} has no effect, as models.{name}.engine.num_gpu_blocks is not given; "
            "leave it out"
        )
    if own in by_tp:
        raise InputError(
            f"profile.num_gpu_blocks_by_tp.{name}.{own} has no effect, as {own} is the model's own tp; set "
            f"models.{name}.engine.num_gpu_blocks instead"
        )


def _alone(spec: ProfileSpec, name: str, section: ModelSection) -> Scenario:
    """The model as a scenario of its own; what does not shape its curve is left out, as it would change its hash."""
    return Scenario(
        name=spec.name,
        seed=spec.seed,
        gpus=GpuSection(memory_gib=spec.gpus.memory_gib),
        models={name: section},
        workload=workload_for(spec.workload, name),
        run=RunSection(engine_mode=spec.run.engine_mode, oversized=spec.run.oversized),
    )


def _configured(profile: ProfileSection, section: ModelSection, configuration: Configuration) -> ModelSection:
    if section.admission != AdmissionSection():
        raise InputError(
            f"models.{configuration.model}.admission is given; allowed in a profile: no limits, since requests "
            "that are turned away hide a growing backlog. Set them to null"
        )
    tp = configuration.tp
    changes: dict[str, Any] = {
        "latency": _latency(profile, section, configuration),
        "replicas": tuple(
            _replica(section).model_copy(update={"gpus": tuple(range(number * tp, (number + 1) * tp))})
            for number in range(configuration.replicas)
        ),
        "tp": None,
    }
    if tp != own_tp(section) and getattr(section.engine, "num_gpu_blocks", None) is not None:
        blocks = profile.num_gpu_blocks_by_tp.get(configuration.model, {}).get(tp)
        if blocks is None:
            raise InputError(
                f"profile.num_gpu_blocks_by_tp.{configuration.model}.{tp} is missing; engine.num_gpu_blocks is that of "
                f"tp {own_tp(section)}. Give it, or a memory section instead of engine.num_gpu_blocks"
            )
        changes["engine"] = section.engine.model_copy(update={"num_gpu_blocks": blocks})
    return section.model_copy(update=changes)


def _replica(section: ModelSection) -> ReplicaSection:
    """What each replica is like, on whatever GPUs."""
    if isinstance(section.replicas, int):
        return ReplicaSection(gpus=(0,))
    first, *others = section.replicas
    if any((other.memory_share, other.slowdown) != (first.memory_share, first.slowdown) for other in others):
        raise InputError(
            "the replicas differ in memory_share or slowdown; allowed in a profile: replicas that are alike"
        )
    return first


def _latency(profile: ProfileSection, section: ModelSection, configuration: Configuration) -> LatencyConfig:
    try:
        whole = profile.latency_by_tp.get(configuration.model, {}).get(configuration.tp)
        if whole is None:
            whole = latency_at_tp(section, configuration.tp)
        if whole is not None:
            return at_share(whole, configuration.compute_share)
    except InputError as error:
        raise InputError(f"{configuration}: {error}") from None
    raise InputError(
        f"profile.latency_by_tp.{configuration.model}.{configuration.tp} is missing; "
        f"models.{configuration.model}.latency is that of tp {own_tp(section)}. "
        f"Give the latency section of a step on {configuration.tp} GPUs"
    )
