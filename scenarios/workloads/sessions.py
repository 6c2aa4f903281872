"""Multi-turn sessions: each turn's prompt is the conversation so far plus a new message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from latency_models.errors import InputError, check_count, check_finite
from scenarios.workloads.arrival_processes import ArrivalProcess
from scenarios.workloads.generators import PrefixPool, RequestLabels, SharedPrefix
from scenarios.workloads.lengths import MAX_TOKENS, JointLengths, LengthDistribution
from scenarios.workloads.request_chunks import Ints, chunk_of
from scenarios.workloads.think_times import ThinkTime
from sim.random_streams import named_generator
from sim.workload import RequestChunk, RequestSpec, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionBounds:
    """Where session traffic ends: after ``sessions`` sessions, or with the last arrival before ``duration_s``.

    ``max_prompt_tokens`` ends a session before the turn whose prompt would be longer.
    """

    sessions: int | None = None
    duration_s: float | None = None
    max_prompt_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.sessions is not None:
            check_count("sessions", self.sessions)
        if self.duration_s is not None:
            check_finite("duration_s", self.duration_s, exclusive=True)
        if self.max_prompt_tokens is not None:
            check_count("max_prompt_tokens", self.max_prompt_tokens)
        if self.sessions is None and self.duration_s is None:
            raise InputError("endless sessions need a bound; give sessions or duration_s")


class _Session:
    """One conversation under way: what was drawn for its turns, and its content so far."""

    __slots__ = ("content", "name", "output", "prompt_tokens", "think_s", "turn", "user")

    def __init__(self, name: str, system: tuple[Segment, ...], user: Ints, output: Ints, think_s: list[float]) -> None:
        self.name = name
        self.user: list[int] = user.tolist()
        self.output: list[int] = output.tolist()
        self.think_s = think_s
        self.turn = 0
        self.content = system
        self.prompt_tokens = sum(tokens for _, tokens in system)


class SessionTraffic:
    """Conversations that start by an arrival process and grow turn by turn.

    The prompt of turn k is the session's system prompt, every earlier message and answer, and a new message.  Turn
    k + 1 arrives a think time after turn k ended, however it ended: the source does not know whether it was answered.

    Parameters
    ----------
    arrivals : ArrivalProcess
        Starts of sessions.
    turns : LengthDistribution
        Number of turns of a session, each at least 1.
    lengths : JointLengths
        Tokens of the new message and of the answer, per turn.
    think_time : ThinkTime
        Time from the end of a turn to the arrival of the next.
    bounds : SessionBounds
        Where the traffic ends.
    seed : numpy.random.SeedSequence
        Parent of the streams ``arrivals``, ``turns``, ``lengths``, ``think times`` and ``prefixes``.
    system_prompt : SharedPrefix, optional
        Pool of system prompts, one per session.
    pool_seed, labels
        As for :func:`scenarios.workloads.generators.open_loop`.
    client : str
        First part of the request ids; no two clients of a run may have the same.
    """

    def __init__(
        self,
        *,
        arrivals: ArrivalProcess,
        turns: LengthDistribution,
        lengths: JointLengths,
        think_time: ThinkTime,
        bounds: SessionBounds,
        seed: np.random.SeedSequence,
        system_prompt: SharedPrefix | None = None,
        pool_seed: np.random.SeedSequence | None = None,
        labels: RequestLabels | None = None,
        client: str = "client",
    ) -> None:
        self._arrivals = arrivals.arrivals(named_generator(seed, "arrivals"))
        self._turns = turns
        self._lengths = lengths
        self._think_time = think_time
        self._labels = labels or RequestLabels()
        self._client = client
        self._bounds = bounds
        self._end_s = float("inf") if bounds.duration_s is None else bounds.duration_s
        self._longest = MAX_TOKENS if bounds.max_prompt_tokens is None else bounds.max_prompt_tokens
        self._rngs = {name: named_generator(seed, name) for name in ("turns", "lengths", "think times", "prefixes")}
        self._pool = PrefixPool(system_prompt, client, pool_seed or seed) if system_prompt else None
        self._running: dict[str, _Session] = {}

    def chunks(self) -> Iterator[RequestChunk]:
        """The first turn of every session, by arrival."""
        started = 0
        for times in self._arrivals:
            rows = int(np.searchsorted(times, self._end_s, side="left"))
            if self._bounds.sessions is not None:
                rows = min(rows, self._bounds.sessions - started)
            sessions = self._draw_sessions(len(times), rows, started)
            specs = [
                spec
                for time, session in zip(times[:rows].tolist(), sessions, strict=True)
                if (spec := self._next(session, time)) is not None
            ]
            if specs:
                yield chunk_of(specs)
            started += rows
            if rows < len(times) or started == self._bounds.sessions:
                return

    def follow_ups(self, request_id: str, ended_s: float) -> Iterable[RequestSpec]:
        """The session's next turn, after a think time."""
        session = self._running.pop(request_id, None)
        if session is None or session.turn == len(session.user):
            return ()
        spec = self._next(session, ended_s + session.think_s[session.turn - 1])
        return () if spec is None else (spec,)

    def _draw_sessions(self, drawn: int, used: int, first: int) -> list[_Session]:
        """Sessions numbered from ``first`` on; draws for ``drawn`` of them, so that ``used`` shifts no later draw."""
        turns = self._turns.sample(self._rngs["turns"], drawn)
        ends = np.cumsum(turns)
        total = int(ends[-1])
        user, output = self._lengths.sample(self._rngs["lengths"], total)
        think_s = self._think_time.sample(self._rngs["think times"], total)
        chosen = None if self._pool is None else self._pool.choose(self._rngs["prefixes"], drawn).tolist()
        sessions = []
        for row in range(used):
            rows = slice(int(ends[row] - turns[row]), int(ends[row]))
            system = () if self._pool is None or chosen is None else (self._pool.segments[chosen[row]],)
            name = f"{self._client}:s{first + row}"
            sessions.append(_Session(name, system, user[rows], output[rows], think_s[rows].tolist()))
        return sessions

    def _next(self, session: _Session, arrival_s: float) -> RequestSpec | None:
        """The session's next turn, arriving at ``arrival_s``; ``None`` beyond the bounds."""
        turn = session.turn
        message, answer = session.user[turn], session.output[turn]
        prompt_tokens = session.prompt_tokens + message
        if arrival_s >= self._end_s or prompt_tokens > self._longest:
            return None
        request_id = f"{session.name}:{turn}"
        content = (*session.content, (f"in:{request_id}", message))
        session.turn = turn + 1
        session.content = (*content, (f"out:{request_id}", answer))
        session.prompt_tokens = prompt_tokens + answer
        self._running[request_id] = session
        labels = self._labels
        return RequestSpec(
            arrival_s,
            prompt_tokens,
            answer,
            request_id,
            labels.model,
            labels.request_class,
            session.name,
            labels.priority,
            content,
            labels.deadline_s,
            labels.cancel_after_s,
        )
