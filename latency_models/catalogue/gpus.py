"""GPUs: what a datasheet says about one, and what its driver says about its memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latency_models.catalogue.entries import check_keys, find_entry
from latency_models.errors import check_count, check_finite, invalid
from latency_models.memory.kv_memory import GIB

MathFormat = Literal["bf16", "fp8", "fp4"]
"""In what format the matrix units multiply."""

# Orders of magnitude between a small card and anything to come; outside, the figure is in another unit.
_PLAUSIBLE = {
    "memory_gb": (1.0, 2_000.0, "GB"),
    "bandwidth_gb_per_s": (50.0, 100_000.0, "GB/s"),
    "bf16_tflops": (1.0, 100_000.0, "TFLOP/s"),
    "fp8_tflops": (1.0, 100_000.0, "TFLOP/s"),
    "fp4_tflops": (1.0, 100_000.0, "TFLOP/s"),
    "link_gb_per_s": (1.0, 100_000.0, "GB/s"),
    "price_per_hour_usd": (0.01, 1_000.0, "USD for one hour of one GPU"),
    "power_w": (10.0, 10_000.0, "W"),
    "idle_power_w": (1.0, 1_000.0, "W"),
}
_MAY_BE_UNKNOWN = ("fp8_tflops", "fp4_tflops", "price_per_hour_usd", "power_w", "idle_power_w")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSpec:
    """One GPU.

    Parameters
    ----------
    name : str
        Name in the catalogue.
    memory_gb : float
        Memory as it is sold, GB.
    driver_memory_gib : float
        Memory that CUDA reports in total, GiB; what the engine's utilisation is a share of.
    bandwidth_gb_per_s : float
        Memory bandwidth, GB/s (10^9 bytes).
    bf16_tflops, fp8_tflops, fp4_tflops : float
        Dense throughput, 10^12 operations per second; None if the GPU has no matrix units for the format.
    sms : int
        Streaming multiprocessors.
    link_gb_per_s : float
        What one GPU can send to its peers, GB/s in one direction.
    price_per_hour_usd : float
        What one GPU costs for an hour; None where it is not known.
    price_date : str
        Day of that price, such as ``"2026-11-09"``.
    power_w : float
        Most that the board draws (TDP); None where it is not known.
    idle_power_w : float
        What the board draws without work; None where nobody measured it.
    source, driver_memory_source, price_source, idle_power_source : str
        Where the figures are from.

    Raises
    ------
    InputError
        On figures out of range, which mostly have another unit.
    """

    name: str
    memory_gb: float
    driver_memory_gib: float
    bandwidth_gb_per_s: float
    bf16_tflops: float
    fp8_tflops: float | None = None
    fp4_tflops: float | None = None
    sms: int
    link_gb_per_s: float
    source: str
    driver_memory_source: str = ""
    price_per_hour_usd: float | None = None
    price_date: str = ""
    price_source: str = ""
    power_w: float | None = None
    idle_power_w: float | None = None
    idle_power_source: str = ""

    def __post_init__(self) -> None:
        for key, (low, high, unit) in _PLAUSIBLE.items():
            value = getattr(self, key)
            if value is None and key in _MAY_BE_UNKNOWN:
                continue
            if not low <= check_finite(f"gpus.{self.name}.{key}", value) <= high:
                raise invalid(f"gpus.{self.name}.{key}", value, f"{low:g} to {high:g} {unit}", "Check its unit")
        check_count(f"gpus.{self.name}.sms", self.sms)
        shown = check_finite(f"gpus.{self.name}.driver_memory_gib", self.driver_memory_gib, exclusive=True)
        if not 0.5 * self.memory_gb <= shown * GIB / 1e9 <= 1.1 * self.memory_gb:
            raise invalid(
                f"gpus.{self.name}.driver_memory_gib",
                self.driver_memory_gib,
                f"about memory_gb, {self.memory_gb:g}",
                "Give what torch.cuda.mem_get_info() reports in total, in GiB",
            )
        for key in ("source", "driver_memory_source", "price_source", "idle_power_source"):
            if not isinstance(getattr(self, key), str):
                raise invalid(f"gpus.{self.name}.{key}", getattr(self, key), "a text: where the figures are from")
        if not isinstance(self.price_date, str):
            raise invalid(f"gpus.{self.name}.price_date", str(self.price_date), 'a day in quotes: "2026-11-09"')
        check_idle_power(f"gpus.{self.name}", power_w=self.power_w, idle_power_w=self.idle_power_w)

    @property
    def memory_bytes(self) -> float:
        """Memory that the driver reports."""
        return self.driver_memory_gib * GIB

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Memory bandwidth."""
        return self.bandwidth_gb_per_s * 1e9

    @property
    def link_bytes_per_s(self) -> float:
        """What one GPU can send to its peers."""
        return self.link_gb_per_s * 1e9

    def flops_per_s(self, math_format: MathFormat) -> float:
        """Dense throughput in a format; a GPU without it widens the weights and multiplies in bf16, as vLLM does."""
        tflops = {"bf16": self.bf16_tflops, "fp8": self.fp8_tflops, "fp4": self.fp4_tflops}[math_format]
        return (self.bf16_tflops if tflops is None else tflops) * 1e12


def check_idle_power(section: str, *, power_w: float | None, idle_power_w: float | None) -> None:
    """Refuse a board that draws more without work than at most.

    Raises
    ------
    InputError
        Naming ``power_w`` of the section.
    """
    if power_w is not None and idle_power_w is not None and power_w < idle_power_w:
        raise invalid(f"{section}.power_w", power_w, f"at least idle_power_w, the {idle_power_w:g} W without work")


def find_gpu(name: str, extra: Path | None = None) -> GpuSpec:
    """The GPU of a name or alias.

    Parameters
    ----------
    name : str
        Name in the catalogue, or what ``nvidia-smi`` calls it; upper and lower case are the same.
    extra : Path, optional
        A user's catalogue (YAML, key ``gpus``), which goes before the shipped one.

    Raises
    ------
    InputError
        The name is unknown, or the entry is wrong.
    """
    found, entry = find_entry("gpus", "GPU", name, extra)
    check_keys(GpuSpec, "GPU", found, entry)
    return GpuSpec(name=found, **entry)
