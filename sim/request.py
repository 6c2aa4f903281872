"""One request while it is inside a replica: the mutable record that scheduler, KV cache and engine share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sim.workload import RequestSpec, Segment

if TYPE_CHECKING:
    from sim.kv_cache.content_keys import KeyChain
    from sim.routing.policies import RequestView
    from sim.vllm.step import Step

WAITING, RUNNING, PREEMPTED, DONE = range(4)


class Request:
    """A request inside one replica.

    While a request decodes steadily its own fields stand still: ``base`` plus the batch's step counter is the number
    of computed tokens, and ``finish_at`` the counter value at which it has got all its steps (see
    :class:`sim.vllm.decoding.DecodingBatch`).
    """

    __slots__ = (
        "answers_in_prompt",
        "base",
        "block_ids",
        "cached_on_resume",
        "cached_tokens",
        "cancelled",
        "computed",
        "content",
        "decoding",
        "finish_at",
        "finish_step",
        "first_scheduled_s",
        "first_step",
        "first_token_s",
        "freed_at",
        "freed_blocks",
        "gap_after",
        "held",
        "keys",
        "last_token_s",
        "max_outputs",
        "name",
        "order",
        "outputs_delivered",
        "paused_after",
        "pauses",
        "place",
        "preemptions",
        "priority",
        "prompt_tokens",
        "queued_s",
        "registered",
        "request_class",
        "retries",
        "row",
        "sent_s",
        "shareable_blocks",
        "spec",
        "stage",
        "state",
        "target",
        "view",
    )

    def __init__(self, row: int, spec: RequestSpec, queued_s: float, max_model_len: int, name: str | int) -> None:
        self.row = row
        self.spec = spec
        self.name = name
        self.place = 0
        """Index of its replica within its model."""
        self.priority = spec.priority
        self.prompt_tokens = spec.prompt_tokens
        # vLLM stops a sequence whose length reaches max_model_len.
        self.max_outputs = min(spec.output_tokens, max_model_len - spec.prompt_tokens)
        self.content: tuple[Segment, ...] | None = spec.content
        self.queued_s = queued_s
        self.state = WAITING
        self.order = -1
        """Position in the running list: grows with every admission."""
        self.computed = 0
        """Tokens whose KV is computed or scheduled (while not decoding steadily)."""
        self.target = spec.prompt_tokens
        """Tokens to compute before the next token can be sampled: prompt plus outputs so far."""
        self.decoding = False
        self.base = 0
        self.finish_at = -1
        self.held = 0
        """KV blocks held (while not decoding steadily)."""
        self.outputs_delivered = 0
        """Output tokens that came out, once it has left."""
        self.cancelled = False
        """Somebody gave it up; what the engine still does with it until the next step is of no interest."""
        self.preemptions = 0
        self.paused_after: Step | None = None
        """The replica's last step before it was preempted, while it waits to be admitted again."""
        self.pauses: list[tuple[float, float]] | None = None
        """From when to when it waited after each preemption: last step's end, and admission; ``None``: never."""
        self.retries = 0
        """How often it was started again because its replica crashed."""
        self.view: RequestView | None = None
        """What policies see of it."""
        self.request_class = 0
        self.sent_s = math.nan
        """When it was sent to its replica."""
        self.stage = 0
        """How many models have been asked, this one included."""
        self.cached_tokens = 0
        self.cached_on_resume = 0
        self.first_scheduled_s = math.nan
        self.first_token_s = math.nan
        self.last_token_s = math.nan
        self.first_step = -1
        self.finish_step = -1
        self.gap_after: Step | None = None
        """Last step that gave it a token before it was preempted or skipped, until it gets the next one."""
        # Places in the free queue of a block counter (sim.kv_cache.block_counter), valid while preempted.
        self.freed_at = 0
        self.freed_blocks = 0
        # Block identities (sim.kv_cache.prefix_cache), filled only there.
        self.block_ids: list[int] = []
        self.keys: KeyChain | None = None
        self.answers_in_prompt: tuple[str, ...] | None = None
        self.registered = 0
        """Blocks whose content has been recorded."""
        self.shareable_blocks = -1
        """Blocks whose content others may have; below zero: not counted yet."""

    @property
    def outputs_scheduled(self) -> int:
        """Output tokens sampled or about to be, while running and past its prefill."""
        return self.computed + 1 - self.prompt_tokens
