"""Requests as slices of a Chrome trace: from arrival to leaving, with their stages and preemptions nested inside."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from analysis.exports.trace_events import async_begin, async_end
from analysis.exports.window import Window
from sim.results import ANSWER_COLUMNS, Ints, SimulationResult, Status

_STAGES = ("earlier models", "outages", "router and API", "waiting", "prefill", "decode", "detokenise")
_ANSWER_STAGES = ("waiting", "prefill", "decode")


class _Slice(NamedTuple):
    name: str
    begin_s: float
    end_s: float

    def cut(self, begin_s: float, end_s: float) -> _Slice:
        """The part of it between two instants."""
        return _Slice(self.name, max(self.begin_s, begin_s), min(self.end_s, end_s))


def requests_within(result: SimulationResult, window: Window) -> Ints:
    """Rows of the requests that are in the system at some time of the window."""
    requests = result.requests
    gone = requests.finish_s < window.from_s
    return np.flatnonzero(~gone & (requests.arrival_s <= window.to_s))


def request_events(result: SimulationResult, window: Window, process_of: Callable[[int], int]) -> Iterator[str]:
    """Begin and end events of the requests in a window, each in the process of its model.

    Slices are cut at the window's ends, so that the window is all that a viewer shows; the whole times are in ``args``.
    """
    rows = requests_within(result, window)
    pauses = _pauses(result)
    for row in rows.tolist():
        yield from _request(result, row, window, process_of, pauses.get(row, []))
    numbers: dict[int, int] = {}
    for answer in result.rejected_answers.tolist():
        found = dict(zip(ANSWER_COLUMNS, answer, strict=True))
        row = int(found["request"])
        numbers[row] = number = numbers.get(row, 0) + 1
        if found["queued_s"] <= window.to_s and found["last_token_s"] >= window.from_s:
            yield from _rejected_answer(result, found, number, window, process_of)


def _request(
    result: SimulationResult, row: int, window: Window, process_of: Callable[[int], int], pauses: list[_Slice]
) -> Iterator[str]:
    requests = result.requests
    columns = (
        requests.arrival_s, requests.asked_s, requests.started_s, requests.queued_s, requests.scheduled_s,
        requests.first_token_s, requests.last_token_s, requests.finish_s,
    )  # fmt: skip
    instants = [float(column[row]) for column in columns]
    if requests.status[row] != Status.FINISHED:
        # Its last token so far is not the last one that it was to get.
        instants[-2] = math.nan
    left_s = result.end_s if math.isnan(instants[-1]) else instants[-1]
    whole = _Slice("request", instants[0], left_s)
    inside: list[_Slice] = []
    for stage in _stages(_STAGES, instants, left_s):
        inside.append(stage)
        if stage.name in ("prefill", "decode"):
            inside += [pause.cut(stage.begin_s, stage.end_s) for pause in pauses]
    yield from _nested(whole, inside, window, process_of(int(requests.model[row])), str(row), _described(result, row))


def _rejected_answer(
    result: SimulationResult,
    answer: dict[str, float],
    number: int,
    window: Window,
    process_of: Callable[[int], int],
) -> Iterator[str]:
    """An answer that the router did not pass on: a slice at the model that gave it."""
    row = int(answer["request"])
    instants = [answer[name] for name in ("queued_s", "scheduled_s", "first_token_s", "last_token_s")]
    args = {
        "id": _name(result, row),
        "replica": result.replicas[int(answer["replica"])].name,
        "generated_tokens": int(answer["tokens"]),
    }
    whole = _Slice("answer not passed on", instants[0], instants[-1])
    stages = list(_stages(_ANSWER_STAGES, instants, instants[-1]))
    yield from _nested(whole, stages, window, process_of(int(answer["model"])), f"{row}.{number}", args)


def _nested(
    whole: _Slice, inside: list[_Slice], window: Window, process: int, identity: str, args: dict[str, Any]
) -> Iterator[str]:
    """A slice with slices inside, of which each either follows those before it or lies within the one before it."""
    shown = whole.cut(window.from_s, window.to_s)
    if shown != whole:
        args = {**args, "cut_by_window": True}
    yield async_begin(whole.name, process, identity, shown.begin_s, args)
    open_ = [shown]
    for part in inside:
        cut = part.cut(shown.begin_s, shown.end_s)
        if cut.begin_s >= cut.end_s:
            continue
        while len(open_) > 1 and open_[-1].end_s <= cut.begin_s:
            ended = open_.pop()
            yield async_end(ended.name, process, identity, ended.end_s)
        yield async_begin(cut.name, process, identity, cut.begin_s)
        open_.append(cut)
    for ended in reversed(open_):
        yield async_end(ended.name, process, identity, ended.end_s)


def _stages(names: tuple[str, ...], instants: list[float], left_s: float) -> Iterator[_Slice]:
    """The stages that took time; the one in which it left is the last."""
    for name, begin_s, end_s in zip(names, instants, instants[1:], strict=True):
        if math.isnan(begin_s):
            return
        end_s = left_s if math.isnan(end_s) else end_s
        if end_s > begin_s:
            yield _Slice(name, begin_s, end_s)
        if end_s >= left_s:
            return


def _pauses(result: SimulationResult) -> dict[int, list[_Slice]]:
    found: dict[int, list[_Slice]] = {}
    for _, row, from_s, to_s in result.preemptions.tolist():
        found.setdefault(int(row), []).append(_Slice("preempted", from_s, math.inf if math.isnan(to_s) else to_s))
    return found


def _described(result: SimulationResult, row: int) -> dict[str, Any]:
    requests = result.requests
    replica = int(requests.replica[row])
    args: dict[str, Any] = {
        "id": _name(result, row),
        "status": Status(int(requests.status[row])).name.lower(),
        "class": result.classes[int(requests.request_class[row])],
        "replica": result.replicas[replica].name if replica >= 0 else None,
        "prompt_tokens": int(requests.prompt_tokens[row]),
        "cached_tokens": int(requests.cached_tokens[row]),
        "output_tokens": int(requests.output_tokens[row]),
        "generated_tokens": int(requests.generated_tokens[row]),
        "preemptions": int(requests.preemptions[row]),
        "retries": int(requests.retries[row]),
    }
    arrival_s = float(requests.arrival_s[row])
    args["arrival_s"] = round(arrival_s, 9)
    for name, until_s in (("ttft_ms", requests.first_token_s[row]), ("e2e_ms", requests.finish_s[row])):
        args[name] = None if np.isnan(until_s) else round(1e3 * (float(until_s) - arrival_s), 6)
    if requests.session is not None and requests.session[row] is not None:
        args["session"] = requests.session[row]
    return args


def _name(result: SimulationResult, row: int) -> str:
    given = result.requests.request_id
    return str(row) if given is None else given[row]
