"""Engine settings of one replica, named as vLLM names them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from latency_models.errors import check_count, check_finite, invalid, unknown_name

_SWITCHES = (
    "long_prefill_token_threshold_adaptive",
    "enable_chunked_prefill",
    "enable_prefix_caching",
    "scheduler_reserve_full_isl",
    "async_scheduling",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What vLLM's command line would say.  Defaults are those of the scheduler (vLLM 0.32), not of the server.

    Raises
    ------
    InputError
        A field is out of range, or two fields contradict each other.
    """

    scheduler: Literal["vllm-v1", "vllm-v0"] = "vllm-v1"
    """``vllm-v1``: one token budget for prefill and decode.  ``vllm-v0``: older engines, prefill first, no chunking."""
    max_num_seqs: int = 256
    """Most sequences in a step."""
    max_num_batched_tokens: int = 2048
    """Token budget of a step."""
    max_model_len: int = 8192
    """Most tokens of prompt and answer together."""
    block_size: int = 16
    """Tokens of a KV block."""
    num_gpu_blocks: int = 4096
    """KV blocks; one of them is vLLM's null block and never used."""
    long_prefill_token_threshold: int = 0
    """Most tokens of one prefill chunk while other requests are in the system; 0 is off."""
    long_prefill_token_threshold_adaptive: bool = False
    """Or the step's token budget divided by the requests in the system, if that is more."""
    enable_chunked_prefill: bool = True
    """Prefill long prompts in parts, beside decoding."""
    enable_prefix_caching: bool = True
    """Reuse the blocks of equal prefixes."""
    scheduling_policy: Literal["fcfs", "priority"] = "fcfs"
    """First come first served, or by the requests' priority."""
    watermark: float = 0.0
    """Share of blocks kept free when a waiting request is admitted beside running ones."""
    scheduler_reserve_full_isl: bool = True
    """Admit only if the whole sequence would fit."""
    max_num_active_seqs: int | None = None
    """Most sequences that may run at all; default: as many as in a step."""
    async_scheduling: bool = False
    """Schedule the next step while one runs."""

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "block_size"):
            check_count(f"engine.{name}", getattr(self, name))
        check_count("engine.num_gpu_blocks", self.num_gpu_blocks, minimum=2)
        check_count("engine.long_prefill_token_threshold", self.long_prefill_token_threshold, minimum=0)
        if self.max_num_active_seqs is not None:
            check_count("engine.max_num_active_seqs", self.max_num_active_seqs)
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise invalid(f"engine.{name}", getattr(self, name), "true or false")
        if check_finite("engine.watermark", self.watermark) >= 1:
            raise invalid("engine.watermark", self.watermark, "a share of the KV blocks, 0 <= watermark < 1")
        for name, choices in (("scheduler", ("vllm-v1", "vllm-v0")), ("scheduling_policy", ("fcfs", "priority"))):
            if getattr(self, name) not in choices:
                raise unknown_name(f"engine.{name}", getattr(self, name), choices)
        if self.scheduler == "vllm-v0":
            self._check_v0()
        if not self.enable_chunked_prefill and self.max_num_batched_tokens < self.max_model_len:
            raise invalid(
                "engine.max_num_batched_tokens",
                self.max_num_batched_tokens,
                f"at least max_model_len ({self.max_model_len}) when chunked prefill is off",
                "A prompt must fit into one step; raise it, or lower max_model_len.",
            )

    def _check_v0(self) -> None:
        for name, needed in (
            ("enable_prefix_caching", False),
            ("async_scheduling", False),
            ("enable_chunked_prefill", False),
            ("scheduling_policy", "fcfs"),
            ("long_prefill_token_threshold", 0),
            ("max_num_active_seqs", None),
        ):
            if getattr(self, name) != needed:
                raise invalid(f"engine.{name}", getattr(self, name), f"{needed!r} with scheduler vllm-v0")

    @property
    def usable_blocks(self) -> int:
        """KV blocks that requests can hold; V1 keeps one as its null block."""
        return self.num_gpu_blocks if self.scheduler == "vllm-v0" else self.num_gpu_blocks - 1

    @property
    def watermark_blocks(self) -> int:
        """KV blocks kept free at admission."""
        return int(self.watermark * self.num_gpu_blocks)

    @property
    def longest_sequence(self) -> int:
        """Most tokens whose KV one request alone can hold and, once preempted, get back."""
        kept_free = max(1, self.watermark_blocks) if self.scheduler == "vllm-v0" else 0
        return (self.usable_blocks - kept_free) * self.block_size

    @property
    def safe_tokens(self) -> int:
        """A request of at most this many tokens, prompt and output together, always fits."""
        return min(self.max_model_len, self.longest_sequence)

    @property
    def seat_limit(self) -> int:
        """Most requests in the running list."""
        return self.max_num_seqs if self.max_num_active_seqs is None else self.max_num_active_seqs

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> EngineSettings:
        """Build settings from a mapping; an unknown key names the nearest known one."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise unknown_name("engine setting", key, known)
        return cls(**values)
