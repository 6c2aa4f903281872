"""Measured times of the kernels of one transformer layer, as vLLM profilers write them, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from latency_models.errors import InputError, invalid, unknown_name
from latency_models.tables.grids import Row, read_rows

ONCE = ("embedding", "final_layernorm")
"""Dense kernels that run once per step."""

PER_LAYER = {
    "layernorm": 2,
    "qkv_proj": 1,
    "qk_norm": 1,
    "rotary_emb": 1,
    "o_proj": 1,
    "gate_up_proj": 1,
    "act_fn": 1,
    "down_proj": 1,
}
"""Dense kernels that run in every transformer layer, and how often: one norm precedes attention, one the MLP."""

ATTENTION_AXES = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
EXPERT_AXES = ("activated_experts", "tokens")

_REQUIRED = ("embedding", "final_layernorm", "layernorm", "qkv_proj", "rotary_emb", "o_proj")
_MLP = ("gate_up_proj", "act_fn", "down_proj")
_PER_SEQUENCE = ("lm_head", "sampler")
_TIME = "time_us"
_ENDINGS = (".csv", ".csv.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProfile:
    """Kernel times of one model on one GPU at one tensor-parallel size, in microseconds.

    Parameters
    ----------
    dense : mapping of str to sequence of (tokens, us)
        Kernels by name: those of :data:`ONCE` and :data:`PER_LAYER`.
    attention : sequence of (prefill_chunk, kv_prefill, n_decode, kv_decode, us)
        Attention of one layer over a prefill chunk (0: none) behind ``kv_prefill`` cached tokens, together with
        ``n_decode`` decodes of context ``kv_decode``.
    per_sequence : mapping of str to sequence of (sequences, us)
        ``lm_head`` and ``sampler``.
    experts : sequence of (activated_experts, tokens, us)
        MoE part of one layer, which takes the place of the MLP's kernels; empty if the model is dense.

    Raises
    ------
    InputError
        If a kernel is missing or unknown, or attention was not measured for both decodes and prefill.
    """

    dense: Mapping[str, Sequence[Row]]
    attention: Sequence[Row]
    per_sequence: Mapping[str, Sequence[Row]]
    experts: Sequence[Row] = ()

    def __post_init__(self) -> None:
        needed = _REQUIRED if self.experts else (*_REQUIRED, *_MLP)
        _check_names("dense", self.dense, needed, (*ONCE, *PER_LAYER))
        _check_names("per_sequence", self.per_sequence, _PER_SEQUENCE, _PER_SEQUENCE)
        if self.experts and any(name in self.dense for name in _MLP):
            raise invalid("layers of the dense profile", sorted(self.dense), "no MLP kernels beside a moe profile")
        if not self.decode_rows or not self.chunk_rows:
            chunks = sorted({row[0] for row in self.attention})
            raise invalid("prefill_chunk of the attention profile", chunks, "0 (decodes only) and at least one above 0")
        decodes = sorted({row[2] for row in self.chunk_rows})
        if decodes[0] > 0.0 or len(decodes) == 1:
            raise invalid("n_decode of the attention profile with prefill", decodes, "0 and at least one above 0")

    @property
    def decode_rows(self) -> list[Row]:
        """Attention of decodes alone: (n_decode, kv_decode, us)."""
        return [row[2:] for row in self.attention if row[0] == 0.0]

    @property
    def chunk_rows(self) -> list[Row]:
        """Attention with a prefill chunk: (prefill_chunk, kv_prefill, n_decode, kv_decode, us)."""
        return [row for row in self.attention if row[0] > 0.0]

    @classmethod
    def read(cls, prefix: Path, *, experts_prefix: Path | None = None) -> LayerProfile:
        """Read the files ``<prefix>_dense``, ``_attention``, ``_per_sequence`` and, if it exists, ``_moe``.

        Each ends in ``.csv`` or ``.csv.gz``.  Their columns are ``layer, tokens, time_us``; ``prefill_chunk,
        kv_prefill, n_decode, kv_decode, time_us``; ``layer, sequences, time_us``; ``tokens, activated_experts,
        time_us``.

        Parameters
        ----------
        prefix : Path
            What the names of the files begin with.
        experts_prefix : Path, optional
            Where to take the ``_moe`` file from instead.

        Raises
        ------
        InputError
            If a file is missing or bad.
        """
        moe = _find(prefix, "moe") if experts_prefix is None else _existing(experts_prefix, "moe")
        return cls(
            dense=read_rows(_existing(prefix, "dense"), ("tokens", _TIME), label=_layer),
            attention=read_rows(_existing(prefix, "attention"), (*ATTENTION_AXES, _TIME)).get("", []),
            per_sequence=read_rows(_existing(prefix, "per_sequence"), ("sequences", _TIME), label=_layer),
            experts=() if moe is None else read_rows(moe, (*EXPERT_AXES, _TIME)).get("", []),
        )


def _layer(cells: dict[str, str]) -> str:
    try:
        return cells["layer"]
    except KeyError:
        raise invalid("columns of a profile by layer", list(cells), "a column 'layer'") from None


def _find(prefix: Path, part: str) -> Path | None:
    for ending in _ENDINGS:
        path = prefix.with_name(f"{prefix.name}_{part}{ending}")
        if path.exists():
            return path
    return None


def _existing(prefix: Path, part: str) -> Path:
    path = _find(prefix, part)
    if path is None:
        raise InputError(
            f"there is no layer profile {prefix}_{part}{' or '.join(_ENDINGS)}; "
            "allowed: a prefix to which _dense.csv, _attention.csv and _per_sequence.csv (or .csv.gz) can be added"
        )
    return path


def _check_names(what: str, given: Mapping[str, object], needed: Sequence[str], known: Sequence[str]) -> None:
    missing = [name for name in needed if name not in given]
    if missing:
        raise invalid(f"layers of the {what} profile", sorted(given), f"{', '.join(needed)} (no {', '.join(missing)})")
    for name in given:
        if name not in known:
            raise unknown_name(f"layer of the {what} profile", name, known)
