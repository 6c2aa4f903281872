"""Steps recovered from ``vllm bench serve --save-result --save-detailed``: when every token of every request came.

Tokens that leave together belong to one step.  A step of a busy engine lasts from the tokens before it to its own.  The
requests whose first token is among them end their prefill in it, the others decode one token each; prompts longer than
the room that the token budget leaves are traced back over the steps before.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latency_models.errors import InputError, check_finite, invalid
from latency_models.fits.fit_quality import Ints, consecutive_blocks
from latency_models.fits.step_table import Floats, StepTable
from scenarios.calibration.measured_steps import UNITS, MeasuredSteps, check_step_unit

_LISTS = ("start_times", "input_lens", "output_lens", "ttfts", "itls")
_GAP_SHARE = 0.5
"""Share of a short inter-token latency from which on a gap between tokens separates two steps."""
_SHORT_QUANTILE = 0.1

_NOTE = (
    "steps are recovered from the times at which the client got the tokens: they include the engine's CPU time and the "
    "client's jitter, and prompts are taken as computed in full (no prefix-cache hits)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchTokens:
    """Tokens of all finished requests in order of time; columns of tokens have shape (t,), of requests (r,)."""

    time_s: Floats
    request: Ints
    position: Ints
    """0 for a request's first token."""
    start_s: Floats
    """When each request was sent."""
    prompt_tokens: Ints
    output_tokens: Ints
    dropped: dict[str, int]
    recorded: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredSteps:
    """Composition of every recovered step, usable for a fit or not; all columns have shape (s,)."""

    end_s: Floats
    duration_s: Floats
    decode_seqs: Ints
    decode_context: Ints
    prefill_seqs: Ints
    prefill_tokens: Ints
    prefill_context: Ints
    prefill_work: Floats
    ended_prefills: Ints
    busy: Any
    """Whether the engine had work since the step before, so that ``duration_s`` is the step's own."""
    whole: Any
    """Whether all steps since then are seen; a long prompt alone runs through steps without tokens."""


def read_bench_steps(path: Path, *, token_budget: int, unit: str | None = None) -> MeasuredSteps:
    """Recover the steps of one replica from the JSON of a benchmark.

    Parameters
    ----------
    path : Path
        The file.
    token_budget : int
        The engine's ``max_num_batched_tokens``.
    unit : {"s", "ms", "us", "ns"}, optional
        Unit of its times; seconds, which vLLM writes, by default.

    Raises
    ------
    InputError
        The file cannot be read, lacks a list, has no finished request, or its times cannot be in that unit.
    """
    tokens = read_bench_tokens(path, unit=unit)
    steps = recover_steps(tokens, token_budget=token_budget)
    kept = steps.busy & steps.whole
    check_step_unit(str(path), steps.duration_s[kept], unit)
    table = StepTable(
        tokens=_floats(steps.decode_seqs + steps.prefill_tokens),
        sequences=_floats(steps.decode_seqs + steps.prefill_seqs),
        context=_floats(steps.decode_context + steps.prefill_context),
        prefill_work=steps.prefill_work,
        sampled=_floats(steps.decode_seqs + steps.ended_prefills),
        decode_seqs=_floats(steps.decode_seqs),
        decode_context=_floats(steps.decode_context),
        duration_s=steps.duration_s,
    ).rows(kept)
    dropped = {
        "steps of an engine that was idle before": int((~steps.busy).sum()),
        "steps with unseen ones before them": int((steps.busy & ~steps.whole).sum()),
    }
    return MeasuredSteps(
        table=table,
        groups=consecutive_blocks(len(table)),
        rows_read=len(steps.end_s),
        dropped={reason: count for reason, count in (tokens.dropped | dropped).items() if count},
        notes=(_NOTE,),
        recorded=tokens.recorded,
    )


def read_bench_tokens(path: Path, *, unit: str | None = None) -> BenchTokens:
    """Read when every token of a benchmark came; see :func:`read_bench_steps` for the errors."""
    unit_s = 1.0 if unit is None else UNITS[unit]
    values = _load(path)
    columns = [values[name] for name in _LISTS]
    errors = values.get("errors") or [""] * len(columns[0])
    start_s: list[float] = []
    prompts: list[int] = []
    outputs: list[int] = []
    times: list[Floats] = []
    failed = bundled = 0
    for row, (start, prompt, output, ttft, itls) in enumerate(zip(*columns, strict=True)):
        if errors[row] or not output:
            failed += 1
            continue
        if not isinstance(itls, list):
            raise invalid(f"{path}: request {row}, itls", itls, "a list of inter-token latencies")
        if len(itls) != output - 1:
            bundled += 1
            continue
        where = f"{path}: request {row}"
        latencies = [check_finite(f"{where}, ttfts", ttft, exclusive=True)]
        latencies += [check_finite(f"{where}, itls", itl) for itl in itls]
        start_s.append(unit_s * check_finite(f"{where}, start_times", start))
        prompts.append(int(check_finite(f"{where}, input_lens", prompt, exclusive=True)))
        outputs.append(int(output))
        times.append(start_s[-1] + unit_s * np.cumsum(latencies))
    if not times:
        raise InputError(
            f"{path} has no finished request with the times of all its tokens ({failed} failed, {bundled} with several "
            "tokens in one message); allowed: at least one. Steps cannot be told where messages bundle tokens"
        )
    time_s = np.concatenate(times)
    order = np.argsort(time_s, kind="stable")
    date = values.get("date")
    return BenchTokens(
        time_s=time_s[order],
        request=np.repeat(np.arange(len(times)), [len(each) for each in times])[order],
        position=np.concatenate([np.arange(len(each)) for each in times])[order],
        start_s=np.array(start_s),
        prompt_tokens=np.array(prompts, dtype=np.int64),
        output_tokens=np.array(outputs, dtype=np.int64),
        dropped={"failed requests": failed, "requests with several tokens in one message": bundled},
        recorded=date if isinstance(date, str) and date else None,
    )


def recover_steps(tokens: BenchTokens, *, token_budget: int) -> RecoveredSteps:
    """Find the steps behind the tokens.

    Parameters
    ----------
    tokens : BenchTokens
        When every token came.
    token_budget : int
        Most tokens of a step.
    """
    step_of = _group(tokens)
    steps = int(step_of[-1]) + 1
    first = tokens.position == 0
    # The earliest token of a step is the one that the client's own work delays least.
    end_s: Floats = np.full(steps, np.inf)
    np.minimum.at(end_s, step_of, tokens.time_s)
    decode = ~first
    context = tokens.prompt_tokens[tokens.request] + tokens.position
    decode_seqs = np.bincount(step_of[decode], minlength=steps)
    prefills = _Prefills(steps, np.maximum(token_budget - decode_seqs, 1))
    whole = np.ones(steps, dtype=bool)
    sent = np.searchsorted(end_s, tokens.start_s[tokens.request[first]])
    # Steps from the one that runs when a request is sent to the first that can hold it: 1, or 2 when the next step is
    # scheduled while one runs.  Most short prompts show it, as they are computed at once.
    lags = step_of[first] - sent
    telling = (lags > 0) & (tokens.prompt_tokens[tokens.request[first]] <= token_budget / 2)
    lag = int(np.median(lags[telling])) if telling.any() else 1
    for request, step, running in zip(
        tokens.request[first].tolist(), step_of[first].tolist(), sent.tolist(), strict=True
    ):
        whole[step] &= prefills.place(int(tokens.prompt_tokens[request]), step, min(running + lag, step))
    return RecoveredSteps(
        end_s=end_s,
        duration_s=np.diff(end_s, prepend=end_s[0] - 1.0),
        decode_seqs=decode_seqs,
        decode_context=np.bincount(step_of[decode], weights=context[decode], minlength=steps).astype(np.int64),
        prefill_seqs=prefills.seqs,
        prefill_tokens=prefills.tokens,
        prefill_context=prefills.context,
        prefill_work=prefills.work,
        ended_prefills=np.bincount(step_of[first], minlength=steps),
        busy=_busy(tokens, step_of, end_s),
        whole=whole,
    )


class _Prefills:
    """Prefill chunks of each step, filled in from the steps in which prompts end, in order."""

    def __init__(self, steps: int, room: Ints) -> None:
        self.seqs: Ints = np.zeros(steps, dtype=np.int64)
        self.tokens: Ints = np.zeros(steps, dtype=np.int64)
        self.context: Ints = np.zeros(steps, dtype=np.int64)
        self.work: Floats = np.zeros(steps)
        self._room = room.astype(np.int64)

    def place(self, prompt: int, last: int, earliest: int) -> bool:
        """Give a prompt its chunks, the last in step ``last``, none before ``earliest``; False if one is unseen."""
        begin, before = last, 0
        # It took whatever room the earlier steps had; one in which it would have ended did not have it.
        while begin > earliest and before + int(self._room[begin - 1]) < prompt:
            begin -= 1
            before += int(self._room[begin])
        left = prompt - before - int(self._room[last])
        computed = max(left, 0)
        for step in range(begin, last + 1):
            chunk = min(int(self._room[step]), prompt - computed) if step < last else prompt - computed
            if chunk <= 0:
                continue
            self.seqs[step] += 1
            self.tokens[step] += chunk
            self.work[step] += chunk * (computed + chunk / 2)
            computed += chunk
            self.context[step] += computed
            self._room[step] = max(0, self._room[step] - chunk)
        return left <= 0


def _group(tokens: BenchTokens) -> Ints:
    """Step of each token: a new one begins after a gap, and where a request would have two tokens in one."""
    gaps = np.diff(tokens.time_s)
    threshold_s = _GAP_SHARE * _short_latency(tokens)
    separated = gaps > threshold_s
    step_of: Ints = np.zeros(len(tokens.time_s), dtype=np.int64)
    latest: dict[int, int] = {}
    step = 0
    for index, request in enumerate(tokens.request.tolist()):
        if index and (separated[index - 1] or latest.get(request) == step):
            step += 1
        latest[request] = step
        step_of[index] = step
    return step_of


def _short_latency(tokens: BenchTokens) -> float:
    """A short time between two tokens of one request; no step is much shorter."""
    order = np.lexsort((tokens.position, tokens.request))
    between = np.diff(tokens.time_s[order])[tokens.position[order][1:] > 0]
    between = between[between > 0.0]
    if not len(between):
        raise InputError(
            "no request of the benchmark has two tokens at different times; allowed: outputs of several tokens, "
            "without which steps cannot be told apart"
        )
    return float(np.quantile(between, _SHORT_QUANTILE))


def _busy(tokens: BenchTokens, step_of: Ints, end_s: Floats) -> Any:
    """Whether some request was in the system when the step before ended: it has more tokens, or waits for its first."""
    steps = len(end_s)
    requests = len(tokens.start_s)
    last_step: Ints = np.zeros(requests, dtype=np.int64)
    np.maximum.at(last_step, tokens.request, step_of)
    arrived = np.searchsorted(end_s, tokens.start_s)
    change: Ints = np.zeros(steps + 1, dtype=np.int64)
    # Present at the end of the steps from its arrival to the one before its last.
    there = arrived < last_step
    np.add.at(change, arrived[there], 1)
    np.add.at(change, last_step[there], -1)
    present = np.cumsum(change)[:steps] > 0
    return np.concatenate([[False], present[:-1]])


def _load(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
        values = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    lists = values if isinstance(values, dict) else {}
    missing = [name for name in _LISTS if not isinstance(lists.get(name), list)]
    if missing == ["start_times"]:
        raise InputError(
            f"{path} lacks start_times, without which it is not known which tokens came together; allowed: the JSON of "
            "vLLM 0.15 (January 2026) and later, which write them. Run a newer `vllm bench serve` against the same "
            "server, or calibrate on its iteration log"
        )
    if missing:
        raise InputError(
            f"{path} lacks {', '.join(missing)}; allowed: the JSON of vllm bench serve. Run it with --save-result "
            "--save-detailed"
        )
    lengths = {name: len(lists[name]) for name in _LISTS}
    if len(set(lengths.values())) > 1:
        raise invalid(f"{path}: lengths of its lists", lengths, "one entry for each request in all of them")
    return lists


def _floats(values: Ints) -> Floats:
    return values.astype(np.float64)
