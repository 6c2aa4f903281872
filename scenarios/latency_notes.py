"""What a user should know about the latency models of a scenario before believing its results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from latency_models.catalogue.architectures import Architecture
from latency_models.catalogue.gpus import GpuSpec
from latency_models.catalogue.model_work import ModelWork
from latency_models.config import LatencyConfig
from latency_models.errors import invalid
from latency_models.fits.model_files import range_notes
from latency_models.memory.kv_memory import GIB
from latency_models.sections.catalogue import CatalogueEntry, architecture_named, gpu_of
from latency_models.sections.file import FileLatency
from latency_models.sections.operators import OperatorLatency
from latency_models.sections.roofline import RooflineLatency
from latency_models.sections.steps import StepsLatency
from scenarios.memory_section import MemorySection
from sim.settings import EngineSettings

_WithModel = RooflineLatency | StepsLatency | OperatorLatency


def latency_notes(latency: LatencyConfig, settings: EngineSettings, memory: MemorySection | None = None) -> list[str]:
    """Sentences on a ``latency:`` section and on the sections inside it.

    Parameters
    ----------
    latency : LatencyConfig
        The validated section.
    settings : EngineSettings
        Of the engine that it times; its limits are held against the range that a calibrated model was measured in.
    memory : MemorySection, optional
        Where the engine's KV blocks come from, if they are not given.
    """
    notes = list(latency.notes())
    limits = {
        "tokens": settings.max_num_batched_tokens,
        "sequences": settings.max_num_seqs,
        "context_per_sequence": settings.max_model_len,
    }
    for section in _nested(latency):
        if isinstance(section, FileLatency):
            notes += range_notes(section.read(), limits)
        elif isinstance(section, _WithModel) and memory is not None:
            notes += _format_notes(section, memory)
        elif isinstance(section, RooflineLatency | StepsLatency):
            notes += _size_notes(section)
    return list(dict.fromkeys(notes + list(memory.notes() if memory is not None else ())))


def check_same_server(latency: LatencyConfig, memory: MemorySection) -> None:
    """Compare the model and the GPU that a latency model is of with those that the KV blocks are derived from.

    Raises
    ------
    InputError
        They differ.  Other names of the same sizes do not, nor do other formats of the weights.
    """
    if memory.model is None or memory.gpu is None:
        return
    for section in _nested(latency):
        if not isinstance(section, _WithModel):
            continue
        if _sizes(architecture_named(section.model)) != _sizes(architecture_named(memory.model)):
            raise invalid(
                "memory.model", _name(memory.model), f"the model of the latency section, {_name(section.model)}"
            )
        if isinstance(section, OperatorLatency):
            continue
        if not same_datasheet(gpu_of(section.gpu), gpu_of(memory.gpu)):
            raise invalid("memory.gpu", _name(memory.gpu), f"the GPU of the latency section, {_name(section.gpu)}")


def named_gpus(latency: LatencyConfig, memory: MemorySection | None = None) -> list[GpuSpec]:
    """The GPUs that a model's sections name, each once; a catalogue of the user may give one name several figures."""
    named = [getattr(section, "gpu", None) for section in _nested(latency)]
    named.append(None if memory is None else memory.gpu)
    return list(dict.fromkeys(gpu_of(gpu) for gpu in named if gpu is not None))


def same_datasheet(gpu: GpuSpec, other: GpuSpec) -> bool:
    """Whether two entries of catalogues are as fast and have as much memory, whatever they are called and cost."""
    return _speed_and_memory(gpu) == _speed_and_memory(other)


def _speed_and_memory(gpu: GpuSpec) -> GpuSpec:
    return replace(
        gpu,
        name="",
        source="",
        driver_memory_source="",
        price_per_hour_usd=None,
        price_date="",
        price_source="",
        power_w=None,
        idle_power_w=None,
        idle_power_source="",
    )


def _nested(latency: LatencyConfig) -> Iterator[object]:
    """A section and those inside it."""
    inner: object = latency
    while inner is not None:
        yield inner
        inner = getattr(inner, "base", None)


def _format_notes(section: _WithModel, memory: MemorySection) -> list[str]:
    """Formats that differ: memory would be that of one server, and step times those of another."""
    if memory.model is None:
        return []
    stored = architecture_named(memory.model).weights
    if isinstance(section, OperatorLatency):
        # Operator tables name 16 bits, and blocks of fp8, their own way; their cache has no "auto".
        formats = {"weights": section.gemm.removesuffix("_block"), "kv_cache": section.kv_cache}
    else:
        own = architecture_named(section.model).weights
        formats = {"weights": own if section.weights == "auto" else section.weights, "kv_cache": section.kv_cache}
    kept = {
        "weights": stored if memory.weights in (None, "auto") else str(memory.weights),
        "kv_cache": memory.kv_cache or "auto",
    }
    return [
        f"memory has {key} {_plain(kept[key])}, and the latency section {_plain(formats[key])}"
        for key in formats
        if _plain(kept[key]) != _plain(formats[key])
    ]


def _size_notes(section: RooflineLatency | StepsLatency) -> list[str]:
    """Weights that cannot be there, whatever ``num_gpu_blocks`` says."""
    gpu, architecture = gpu_of(section.gpu), architecture_named(section.model)
    work = ModelWork.of(architecture, tp=section.tp, weights=section.weights, kv_dtype=section.kv_cache)
    if work.weight_bytes <= gpu.memory_bytes:
        return []
    return [
        f"the weights of {architecture.name} take {work.weight_bytes / GIB:.3g} GiB of each GPU (tp {section.tp}), and "
        f"{gpu.name} has {gpu.driver_memory_gib:.3g} GiB: no such server exists, whatever engine.num_gpu_blocks says"
    ]


def _plain(name: str) -> str:
    """One name for 16 bits."""
    return "bf16" if name in ("auto", "fp16") else name


def _name(named: str | CatalogueEntry) -> str:
    return named if isinstance(named, str) else named.name or named.path


def _sizes(architecture: Architecture) -> Architecture:
    return replace(architecture, name="", source="", weights="bf16")
