"""Coefficients of the linear law from which requests were in the engine at the same time, step by step unseen.

Between its first and its last token a request takes part in one step per token.  The measured times of the others say
how many sequences those steps had, about how long their contexts were, and whose prefills fell among them.  So the time
that a request decodes is nearly linear in the law's coefficients, and so is the TTFT of a request that did not queue
behind another one.  Steps are taken as evenly spread over that time and waiting is left out, so the values are biased;
:mod:`scenarios.calibration.request_fit` takes the bias off by simulating.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from latency_models.errors import InputError
from latency_models.fits.fit_quality import Ints
from latency_models.fits.fitting import DEFAULT_TERMS, robust_non_negative
from latency_models.fits.step_table import Floats
from scenarios.measurements.logs import RequestTable

_SAMPLES = 64
"""Times at which the batch around a request is looked at."""
_ENOUGH_JOINED = 0.2
"""Share of requests that decoded beside others' prefills, from which on TTFTs, with their waiting, are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapRows:
    """Durations that the law explains, as rows of a regression.

    Attributes
    ----------
    design : ndarray, shape (n, terms)
        What each coefficient of :data:`latency_models.fits.fitting.DEFAULT_TERMS` multiplies, over the duration.
    request : ndarray, shape (n,)
        Row of the log that each belongs to.
    """

    design: Floats
    request: Ints

    def coefficients(self, chosen: Any = slice(None)) -> Floats:
        """Robust non-negative fit to the chosen rows; shape (terms,)."""
        design = self.design[chosen]
        return robust_non_negative(design, np.ones(len(design)))


def overlap_rows(log: RequestTable, latencies: Mapping[Any, Floats]) -> OverlapRows:
    """Set up the regression for the requests of a log.

    Parameters
    ----------
    log : RequestTable
        Arrivals and lengths.
    latencies : mapping of str to ndarray
        ``ttft`` and ``e2e`` in seconds, measured or simulated; NaN where there is none.

    Raises
    ------
    InputError
        If there are fewer rows than coefficients.
    """
    first_s = log.arrival_s + latencies["ttft"]
    last_s = log.arrival_s + latencies["e2e"]
    known = np.flatnonzero(np.isfinite(first_s) & np.isfinite(last_s) & (first_s > log.arrival_s) & (last_s >= first_s))
    if len(known) < len(DEFAULT_TERMS):
        raise InputError(
            f"only {len(known)} requests have a TTFT and an end; allowed: at least {len(DEFAULT_TERMS)}. Measure longer"
        )
    arrival_s, first_s, last_s = log.arrival_s[known], first_s[known], last_s[known]
    prompts = log.prompt_tokens[known].astype(np.float64)
    steps = log.output_tokens[known].astype(np.float64) - 1.0
    pairs = prompts**2 / 2.0

    decoding = (steps > 0.0) & (last_s > first_s)
    batch, context = _around(first_s, last_s, prompts, steps, decoding)
    joined, joined_tokens, joined_pairs = _prefills_within(first_s, last_s, (np.ones(len(known)), prompts, pairs))
    decode = [
        steps,
        batch * steps + joined_tokens,
        batch * steps + joined,
        context * steps + joined_tokens,
        joined_pairs,
    ]

    alone = _alone_in_prefill(arrival_s, first_s)
    if (joined[decoding] > 0.0).mean() > _ENOUGH_JOINED:
        alone[:] = False
    beside, beside_context = _at(first_s, last_s, prompts, steps, arrival_s[:, None])
    beside, beside_context = beside[:, 0], beside_context[:, 0]
    prefill = [np.ones(len(known)), beside + prompts, beside + 1.0, beside_context + prompts, pairs]
    return OverlapRows(
        design=np.concatenate(
            [
                np.column_stack(decode)[decoding] / (last_s - first_s)[decoding, None],
                np.column_stack(prefill)[alone] / (first_s - arrival_s)[alone, None],
            ]
        ),
        request=np.concatenate([known[decoding], known[alone]]),
    )


def _alone_in_prefill(arrival_s: Floats, first_s: Floats) -> Any:
    """Requests between whose arrival and first token no other one waited for its first; shape (n,)."""
    order = np.argsort(arrival_s, kind="stable")
    latest_before = np.concatenate([[-np.inf], np.maximum.accumulate(first_s[order])[:-1]])
    next_arrival = np.append(arrival_s[order][1:], np.inf)
    alone = np.empty(len(order), dtype=bool)
    alone[order] = (latest_before <= arrival_s[order]) & (next_arrival >= first_s[order])
    return alone


def _around(first_s: Floats, last_s: Floats, prompts: Floats, steps: Floats, decoding: Any) -> tuple[Floats, Floats]:
    """Mean number of decoding sequences, and mean sum of their contexts, while each request decodes; shape (n,)."""
    shares = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    times = first_s[:, None] + shares * (last_s - first_s)[:, None]
    batch, context = _at(first_s[decoding], last_s[decoding], prompts[decoding], steps[decoding], times)
    return batch.mean(axis=1), context.mean(axis=1)


def _at(first_s: Floats, last_s: Floats, prompts: Floats, steps: Floats, times: Floats) -> tuple[Floats, Floats]:
    """Decoding sequences, and the sum of their contexts, at some times; shapes (n,) and (n, m) -> (n, m)."""
    rate = np.divide(steps, last_s - first_s, out=np.zeros(len(steps)), where=last_s > first_s)
    # A context is prompt + rate * (t - first): a constant and a slope, summed over those who have begun, less those
    # who have ended.
    constant = prompts - rate * first_s
    begun_order, ended_order = np.argsort(first_s, kind="stable"), np.argsort(last_s, kind="stable")
    begun = np.searchsorted(first_s[begun_order], times)
    ended = np.searchsorted(last_s[ended_order], times)
    batch, constants, slopes = (
        _running(values[begun_order])[begun] - _running(values[ended_order])[ended]
        for values in (np.ones(len(prompts)), constant, rate)
    )
    return batch, constants + slopes * times


def _prefills_within(first_s: Floats, last_s: Floats, amounts: tuple[Floats, ...]) -> list[Floats]:
    """Sums of some amounts over the requests that were prefilled while each request decoded; shape (n,) each."""
    order = np.argsort(first_s, kind="stable")
    until = np.searchsorted(first_s[order], last_s, side="right")
    since = np.searchsorted(first_s[order], first_s, side="right")
    return [_running(values[order])[until] - _running(values[order])[since] for values in amounts]


def _running(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])
