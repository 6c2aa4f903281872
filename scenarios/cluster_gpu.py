"""Which GPU a scenario's cluster is made of, and what it costs."""

from __future__ import annotations

from analysis.costs import GpuCost
from latency_models.catalogue.gpus import GpuSpec
from latency_models.sections.catalogue import gpu_of
from scenarios.latency_notes import named_gpus, same_datasheet
from scenarios.schema import Scenario


def cluster_gpu(scenario: Scenario) -> GpuSpec | None:
    """The GPU: that of ``gpus.type``, or the one that every model's latency or memory section names.

    Returns
    -------
    GpuSpec or None
        ``None`` if a model names none, or they name different ones.
    """
    if scenario.gpus.type is not None:
        return gpu_of(scenario.gpus.type)
    named = [named_gpus(model.latency, model.memory) for model in scenario.models.values()]
    found = {gpu for gpus in named for gpu in gpus}
    return found.pop() if all(named) and len(found) == 1 else None


def gpu_cost(scenario: Scenario) -> GpuCost | None:
    """What each GPU costs and draws: the ``gpus:`` section goes before the catalogue.

    Returns
    -------
    GpuCost or None
        ``None`` if neither a price nor a power is known.

    Raises
    ------
    InputError
        ``gpus.power_w`` is less than the GPU draws without work.
    """
    section, gpu = scenario.gpus, cluster_gpu(scenario)
    price = section.price_per_hour_usd
    source = "gpus.price_per_hour_usd of the scenario"
    power_w = section.power_w
    if gpu is not None:
        if price is None:
            price, source = gpu.price_per_hour_usd, ", ".join(filter(None, (gpu.price_source, gpu.price_date)))
        power_w = gpu.power_w if power_w is None else power_w
    if price is None and power_w is None:
        return None
    return GpuCost(
        name=None if gpu is None else gpu.name,
        price_per_hour_usd=price,
        price_source="" if price is None else source,
        power_w=power_w,
        idle_power_w=None if gpu is None else gpu.idle_power_w,
    )


def cost_notes(scenario: Scenario) -> list[str]:
    """What a user should know of the GPU before believing the costs."""
    if scenario.gpus.type is None:
        return []
    priced = gpu_of(scenario.gpus.type)
    return [
        f"{name}: costs are those of {priced.name} (gpus.type), and step times those of {gpu.name}"
        for name, model in scenario.models.items()
        for gpu in named_gpus(model.latency, model.memory)
        if not same_datasheet(gpu, priced)
    ]
