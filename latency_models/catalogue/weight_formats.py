"""Formats of weights and of the KV cache: bits per element, and what the matrix units compute in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latency_models.catalogue.gpus import MathFormat
from latency_models.errors import InputError, invalid, unknown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """How the weights of the matrix products are stored.

    Embeddings, the LM head, norms and a mixture's router stay in 16 bits, as in the common checkpoints.

    Parameters
    ----------
    name : str
        Name in scenario files.
    bits : float
        Bits per weight, with the scales of its group.
    math_format : {'bf16', 'fp8', 'fp4'}
        What the products are computed in where the GPU can.
    experts_only : bool
        Only the experts of a mixture are in this format, everything else is in 16 bits.
    """

    name: str
    bits: float
    math_format: MathFormat
    experts_only: bool = False


_FORMATS = (
    WeightFormat(name="bf16", bits=16.0, math_format="bf16"),
    WeightFormat(name="fp8", bits=8.0, math_format="fp8"),
    # 8-bit weights alone are widened, and multiplied by 16-bit activations.
    WeightFormat(name="int8", bits=8.0, math_format="bf16"),
    # With activations in 8-bit integers as well, whose throughput is that of fp8 where a GPU has both.
    WeightFormat(name="w8a8", bits=8.0, math_format="fp8"),
    # A 16-bit scale and a 4-bit zero point for each group of 128 weights.
    WeightFormat(name="int4", bits=4.0 + 20.0 / 128.0, math_format="bf16"),
    # An 8-bit scale for each block of 16 weights.
    WeightFormat(name="nvfp4", bits=4.5, math_format="fp4"),
    WeightFormat(name="nvfp4a16", bits=4.5, math_format="bf16"),
    # An 8-bit exponent for each block of 32 weights (OCP microscaling formats, v1.0).
    WeightFormat(name="mxfp4", bits=4.25, math_format="bf16", experts_only=True),
)
WEIGHT_FORMATS: Mapping[str, WeightFormat] = {entry.name: entry for entry in _FORMATS} | {"fp16": _FORMATS[0]}
"""Formats by the names that scenario files use."""

KV_DTYPE_BYTES: Mapping[str, float] = {"auto": 2.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0}
"""Bytes of an element of the KV cache; ``auto`` is the 16 bits of the activations."""


def weight_format(name: str) -> WeightFormat:
    """The format of a name; an unknown one is an :class:`InputError` with the choices."""
    if name not in WEIGHT_FORMATS:
        raise unknown_name("weight format", name, WEIGHT_FORMATS)
    return WEIGHT_FORMATS[name]


def kv_dtype_bytes(name: str) -> float:
    """Bytes per element of the KV cache; an unknown name is an :class:`InputError` with the choices."""
    if name not in KV_DTYPE_BYTES:
        raise unknown_name("KV cache type", name, KV_DTYPE_BYTES)
    return KV_DTYPE_BYTES[name]


def format_of(quantisation: Mapping[str, Any] | None, model: str) -> str:
    """Name of the weight format that a ``quantization_config`` of a Hugging Face ``config.json`` describes.

    Raises
    ------
    InputError
        For a method that is not known here; the key is named.
    """
    if quantisation is None:
        return "bf16"
    where = f"{model}: quantization_config"
    if not isinstance(quantisation, Mapping):
        raise invalid(where, quantisation, "a mapping")
    method = str(quantisation.get("quant_method", "")).lower()
    if method in ("fp8", "fbgemm_fp8", "mxfp4"):
        return "mxfp4" if method == "mxfp4" else "fp8"
    if method in ("awq", "gptq"):
        return _integers(quantisation.get("bits", quantisation.get("w_bit")), f"{where}.bits")
    if method == "bitsandbytes":
        return "int4" if quantisation.get("load_in_4bit") else "int8"
    if method == "modelopt" or "quant_algo" in quantisation:
        algorithm = str(quantisation.get("quant_algo", "")).upper()
        if "NVFP4" in algorithm or "FP8" in algorithm:
            return "nvfp4" if "NVFP4" in algorithm else "fp8"
        raise invalid(f"{where}.quant_algo", quantisation.get("quant_algo"), "FP8 or NVFP4", _NAME_IT)
    if method in ("compressed-tensors", "compressed_tensors"):
        return _compressed(quantisation, where)
    raise invalid(
        f"{where}.quant_method",
        quantisation.get("quant_method"),
        "fp8, awq, gptq, bitsandbytes, modelopt, mxfp4 or compressed-tensors",
        _NAME_IT,
    )


_NAME_IT = f"Or take the key out and name the format instead (weights: {', '.join(WEIGHT_FORMATS)})"


def _integers(bits: Any, where: str) -> str:
    if bits not in (4, 8):
        raise invalid(where, bits, "4 or 8", _NAME_IT)
    return "int4" if bits == 4 else "int8"


def _compressed(quantisation: Mapping[str, Any], where: str) -> str:
    """All groups must agree: which layers each one covers would need the names of the tensors."""
    groups = quantisation.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise invalid(f"{where}.config_groups", groups, "at least one group with weights", _NAME_IT)
    names = set()
    for key, group in groups.items():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if not isinstance(weights, Mapping):
            raise invalid(f"{where}.config_groups.{key}.weights", weights, "num_bits and type of the weights", _NAME_IT)
        activations = group.get("input_activations")
        names.add(_group_format(weights, activations, f"{where}.config_groups.{key}"))
    if len(names) > 1:
        raise InputError(f"{where}.config_groups mixes {', '.join(sorted(names))}; allowed: one format. {_NAME_IT}")
    return names.pop()


def _group_format(weights: Mapping[str, Any], activations: Any, where: str) -> str:
    """Format of a group's weights; without a format of the activations, these stay in 16 bits."""
    bits = weights.get("num_bits")
    if weights.get("type") == "float" and bits in (4, 8):
        if activations:
            return "nvfp4" if bits == 4 else "fp8"
        # To memory and matrix units, 8 bits are 8 bits.
        return "nvfp4a16" if bits == 4 else "int8"
    alone = _integers(bits, f"{where}.weights.num_bits")
    if not activations:
        return alone
    if bits == 8 and isinstance(activations, Mapping) and activations.get("num_bits") == 8:
        return "w8a8"
    raise invalid(f"{where}.input_activations", "given", f"none, or 8 bits beside weights of 8 (here {bits})", _NAME_IT)
