"""Traffic of recorded conversations: each client takes its turns in order, as fast as answers come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from latency_models.errors import InputError
from scenarios.measurements.logs import RequestTable
from scenarios.workloads.request_chunks import chunk_of
from sim.workload import RequestChunk, RequestSpec, Segment


class ConversationTraffic:
    """Closed loop of recorded clients.

    A client's first turn arrives when it did; each further one arrives the measured gap after its last one ended.
    Requests are named by their row in the log.  The prompt of a turn is all of the conversation so far and a new
    message, so its beginning may still be in the prefix cache.

    Parameters
    ----------
    table : RequestTable
        Turns with ``client``, ``conversation`` and measured ``e2e``.
    reuse_answers : bool
        Whether the history holds the tokens that the server generated.
    template_tokens, template_tokens_per_message : int
        What the chat template adds to a prompt of the log: once, and for each of its messages.
    """

    def __init__(
        self,
        table: RequestTable,
        *,
        reuse_answers: bool,
        template_tokens: int = 0,
        template_tokens_per_message: int = 0,
    ) -> None:
        if table.client is None or table.conversation is None or "e2e" not in table.measured:
            raise InputError("a log of conversations needs client, conversation and e2e; name their columns")
        end_s = table.arrival_s + table.measured["e2e"]
        prompt, output = table.prompt_tokens.tolist(), table.output_tokens.tolist()
        order = np.argsort(table.arrival_s, kind="stable").tolist()
        turns: Counter[str] = Counter()
        for row in order:
            # Before the new message there are a message and an answer of every earlier turn.
            messages = 2 * turns[table.conversation[row]] + 1
            prompt[row] += template_tokens + template_tokens_per_message * messages
            turns[table.conversation[row]] += 1
        contents = _contents(table.conversation, prompt, output, order, reuse_answers=reuse_answers)
        self._specs = [
            RequestSpec(arrival_s, prompt[row], output[row], str(row), session=client, content=contents[row])
            for row, (arrival_s, client) in enumerate(zip(table.arrival_s.tolist(), table.client, strict=True))
        ]
        self._first: list[int] = []
        self._next: dict[str, tuple[int, float]] = {}
        """The same client's next turn, and its gap."""
        last: dict[str, int] = {}
        for row in order:
            client = table.client[row]
            if client in last:
                gap_s = max(0.0, float(table.arrival_s[row] - end_s[last[client]]))
                self._next[str(last[client])] = (row, gap_s)
            else:
                self._first.append(row)
            last[client] = row

    def chunks(self) -> Iterator[RequestChunk]:
        """The first turn of every client, by arrival."""
        yield chunk_of([self._specs[row] for row in self._first])

    def follow_ups(self, request_id: str, ended_s: float) -> Iterable[RequestSpec]:
        """The same client's next turn."""
        if request_id not in self._next:
            return ()
        row, gap_s = self._next[request_id]
        return (self._specs[row]._replace(arrival_s=ended_s + gap_s),)


def _contents(
    conversation: Iterable[str], prompt: list[int], output: list[int], order: list[int], *, reuse_answers: bool
) -> dict[int, tuple[Segment, ...]]:
    """Prompt content of each row."""
    names = list(conversation)
    history: dict[str, tuple[tuple[Segment, ...], int]] = {}
    contents: dict[int, tuple[Segment, ...]] = {}
    for row in order:
        before, tokens = history.get(names[row], ((), 0))
        if prompt[row] < tokens:
            # The client cut the history, so the prompt begins with nothing that was seen before.
            before, tokens = (), 0
        content = before
        if prompt[row] > tokens:
            content = (*before, (f"in:{row}", prompt[row] - tokens))
        contents[row] = content
        answer = f"out:{row}" if reuse_answers else f"history:{row}"
        history[names[row]] = ((*content, (answer, output[row])), prompt[row] + output[row])
    return contents
