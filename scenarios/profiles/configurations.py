"""From a profile file to configurations: every model alone, at each tp, compute share and number of replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic import ValidationError

from latency_models.config import LatencyConfig, parse_latency
from latency_models.curves.load_latency import Configuration
from latency_models.errors import InputError, invalid, unknown_name
from scenarios.profiles.offered_load import workload_for
from scenarios.profiles.schema import ProfileSection, ProfileSpec
from scenarios.schema import AdmissionSection, GpuSection, ModelSection, ReplicaSection, RunSection, Scenario


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
        for tp, share, replicas in product(profile.tp or (_own_tp(section),), profile.compute_shares, profile.replicas):
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
            degrees = profile.tp or (_own_tp(section),)
            for tp in by_tp:
                if tp not in degrees:
                    raise InputError(
                        f"profile.{key}.{name}.{tp} has no effect, as profile.tp is {list(degrees)}; "
                        f"add {tp} there, or leave it out here"
                    )
            if key == "num_gpu_blocks_by_tp":
                _check_blocks_count(name, section, profile.num_gpu_blocks_by_tp[name])


def _check_blocks_count(name: str, section: ModelSection, by_tp: Mapping[int, int]) -> None:
    own = _own_tp(section)
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


def _own_tp(section: ModelSection) -> int:
    """The degree that the model's latency section describes."""
    if isinstance(section.replicas, int):
        return section.tp or 1
    degrees = {len(replica.gpus) for replica in section.replicas}
    if len(degrees) > 1:
        raise invalid("number of GPUs of the replicas", sorted(degrees), "one tp for all replicas of a model")
    return degrees.pop()


def _configured(profile: ProfileSection, section: ModelSection, configuration: Configuration) -> ModelSection:
    if section.admission != AdmissionSection():
        raise InputError(
            f"models.{configuration.model}.admission is given; allowed in a profile: no limits, since requests "
            "that are turned away hide a growing backlog. Set them to null"
        )
    tp = configuration.tp
    changes: dict[str, Any] = {
        "latency": _at_share(_latency(profile, section, configuration), configuration),
        "replicas": tuple(
            _replica(section).model_copy(update={"gpus": tuple(range(number * tp, (number + 1) * tp))})
            for number in range(configuration.replicas)
        ),
        "tp": None,
    }
    if tp != _own_tp(section) and getattr(section.engine, "num_gpu_blocks", None) is not None:
        blocks = profile.num_gpu_blocks_by_tp.get(configuration.model, {}).get(tp)
        if blocks is None:
            raise InputError(
                f"profile.num_gpu_blocks_by_tp.{configuration.model}.{tp} is missing; engine.num_gpu_blocks is that of "
                f"tp {_own_tp(section)}. Give it, or a memory section instead of engine.num_gpu_blocks"
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
    given = profile.latency_by_tp.get(configuration.model, {})
    if configuration.tp in given:
        return given[configuration.tp]
    if configuration.tp == _own_tp(section):
        return section.latency
    try:
        derived = section.latency.at_tp(configuration.tp)
    except ValidationError as error:
        raise InputError(f"{configuration}: {_reasons(error)}") from None
    if derived is not None:
        return derived
    raise InputError(
        f"profile.latency_by_tp.{configuration.model}.{configuration.tp} is missing; "
        f"models.{configuration.model}.latency is that of tp {_own_tp(section)}. "
        f"Give the latency section of a step on {configuration.tp} GPUs"
    )


def _at_share(latency: LatencyConfig, configuration: Configuration) -> LatencyConfig:
    if configuration.compute_share == 1.0:
        return latency
    base = latency.model_dump(mode="json", by_alias=True, exclude_none=True)
    try:
        return parse_latency({"kind": "share", "share": configuration.compute_share, "base": base})
    except ValidationError as error:
        raise InputError(f"{configuration}: {_reasons(error)}") from None


def _reasons(error: ValidationError) -> str:
    return "; ".join(str(fault["msg"]).removeprefix("Value error, ") for fault in error.errors())
