"""How long a request's own prefill and decode steps would take if nothing else were on the cluster.

Times are those of the scenario's step-time model with the engine's CPU time beside it, at full speed: no other request
in the steps, no neighbour on the GPU, no slow-down, no noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latency_models.errors import InputError
from sim.cluster_spec import ClusterSpec
from sim.results import Floats, Ints
from sim.vllm.step_timer import StepTimer


class _Kind(NamedTuple):
    """Replicas that compute alike."""

    model: int
    token_budget: int
    asynchronous: bool


class AloneTimes:
    """Times of requests that are alone, by the replica that they went to.

    Times outside of what the step-time model was measured for, which it refuses, are NaN.

    Parameters
    ----------
    cluster : ClusterSpec
        The cluster; replicas are numbered as in its results, model by model.
    """

    def __init__(self, cluster: ClusterSpec) -> None:
        self._timers: dict[_Kind, StepTimer] = {}
        kinds: list[_Kind] = []
        for index, model in enumerate(cluster.models):
            for replica in model.replicas:
                settings = replica.settings
                kind = _Kind(index, settings.max_num_batched_tokens, settings.async_scheduling)
                kinds.append(kind)
                if kind not in self._timers:
                    self._timers[kind] = StepTimer(
                        model.step_time, overhead=model.overhead, asynchronous=settings.async_scheduling
                    )
        numbers = {kind: number for number, kind in enumerate(self._timers)}
        self._kind_of_replica: Ints = np.array([numbers[kind] for kind in kinds])

    def prefill_s(self, replica: Ints, prompt_tokens: Ints, cached_tokens: Ints) -> Floats:
        """Time of the prompts' uncached tokens, in chunks of the replica's token budget.

        Parameters
        ----------
        replica, prompt_tokens, cached_tokens : array of int, shape (n,)
            Of each request.

        Returns
        -------
        array, shape (n,)
            In seconds.
        """
        found: Floats = np.empty(len(replica))
        for kind, timer, rows in self._by_kind(replica):
            # One number for each pair, which sorts faster than pairs.
            longest = int(prompt_tokens[rows].max()) + 1
            keys, inverse = np.unique(prompt_tokens[rows] * longest + cached_tokens[rows], return_inverse=True)
            times_s = [_prefill_s(timer, kind.token_budget, *divmod(key, longest)) for key in keys.tolist()]
            found[rows] = np.array(times_s)[inverse]
        return found

    def decode_s(self, replica: Ints, prompt_tokens: Ints, generated_tokens: Ints) -> Floats:
        """Time of all decode steps, which are one less than the tokens generated.

        Parameters
        ----------
        replica, prompt_tokens, generated_tokens : array of int, shape (n,)
            Of each request.

        Returns
        -------
        array, shape (n,)
            In seconds.
        """
        found: Floats = np.empty(len(replica))
        for _, timer, rows in self._by_kind(replica):
            # The k-th decode step (from 1) attends to the prompt and k more tokens.
            first = prompt_tokens[rows] + 1
            behind = prompt_tokens[rows] + np.maximum(generated_tokens[rows], 1)
            lowest = int(first.min())
            steps_s = _decode_steps_s(timer, lowest, int(behind.max()))
            refused = np.isnan(steps_s)
            until_s = np.concatenate([[0.0], np.cumsum(np.where(refused, 0.0, steps_s))])
            refusals = np.concatenate([[0], np.cumsum(refused)])
            begin, end = first - lowest, behind - lowest
            found[rows] = np.where(refusals[end] > refusals[begin], np.nan, until_s[end] - until_s[begin])
        return found

    def _by_kind(self, replica: Ints) -> Iterator[tuple[_Kind, StepTimer, NDArray[np.intp]]]:
        of_request = self._kind_of_replica[replica]
        for number, (kind, timer) in enumerate(self._timers.items()):
            rows = np.flatnonzero(of_request == number)
            if len(rows):
                yield kind, timer, rows


def _prefill_s(timer: StepTimer, token_budget: int, prompt_tokens: int, cached_tokens: int) -> float:
    total_s, before = 0.0, cached_tokens
    try:
        while before < prompt_tokens:
            tokens = min(token_budget, prompt_tokens - before)
            after = before + tokens
            pairs = tokens * (before + tokens / 2)
            total_s += timer.mixed_s(0, tokens, 1, after, pairs, 0, 0, int(after == prompt_tokens), 0)
            before = after
    except InputError:
        return np.nan
    return total_s


def _decode_steps_s(timer: StepTimer, first: int, behind: int) -> Floats:
    """Time of a decode step of one sequence by its context, from ``first`` to ``behind`` - 1 tokens."""
    steps_s: Floats = np.full(behind - first, np.nan)
    context = first
    while context < behind:
        try:
            first_s, growth_s, holds = timer.decode_law(0, 1, context, context)
        except InputError:
            context += 1
            continue
        count = min(holds, behind - context)
        begin = context - first
        steps_s[begin : begin + count] = first_s + growth_s * np.arange(count)
        context += count
    return steps_s
