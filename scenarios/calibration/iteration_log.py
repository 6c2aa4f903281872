"""Steps from the log of a vLLM server that runs with ``--enable-logging-iteration-details``.

A line says how many requests and tokens were prefilled and decoded and what the iteration took.  It does not say the
context, which is reckoned from those counts, or from the KV cache usage when the number of blocks is known.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np

from latency_models.errors import InputError
from latency_models.fits.fit_quality import consecutive_blocks
from latency_models.fits.step_table import Floats, StepTable
from scenarios.calibration.measured_steps import MeasuredSteps, check_step_unit

LINE = re.compile(
    r"Iteration\((\d+)\): (\d+) context requests, (\d+) context tokens, (\d+) generation requests, "
    r"(\d+) generation tokens, iteration elapsed time: ([\d.]+) ms(?:.*?KV cache usage: ([\d.]+)%)?"
)
_STAMP = re.compile(r"\b(\d{2}-\d{2} \d{2}:\d{2}:\d{2})\b")

_RECKONED = (
    "the iteration log has no context lengths; they are reckoned from its counts, each finished request taking the "
    "mean context with it. With --set engine.num_gpu_blocks=N and engine.block_size they come from the KV cache usage"
)
_FROM_USAGE = "context lengths are the logged KV cache usage (rounded to 0.1 %) times the KV tokens given"
_ELAPSED = (
    "the iteration log's times leave out scheduling and updating; give what the CPU adds as cpu_overhead_s, or "
    "calibrate on step rows or benchmark JSON"
)
_SPECULATIVE = "iterations that generate more than a token per request (speculative decoding)"
_EMPTY = "iterations without tokens"


def read_iteration_log(path: Path, *, kv_tokens: int | None = None) -> MeasuredSteps:
    """Read the iterations of one engine from a server's log; other lines are skipped, ``.gz`` is unpacked.

    Parameters
    ----------
    path : Path
        The log.
    kv_tokens : int, optional
        Tokens that the KV cache holds, to read contexts from its usage.

    Raises
    ------
    InputError
        The file cannot be read or has no such line.
    """
    found, recorded = _matches(path)
    numbers = np.array([[float(part or "nan") for part in match.groups()] for match in found])
    _, prefill_seqs, prefill_tokens, decode_seqs, decode_tokens, elapsed_ms, usage_pct = numbers.T
    context = _reckoned_context(prefill_seqs, prefill_tokens, decode_seqs)
    notes = [_RECKONED, _ELAPSED]
    if kv_tokens is not None:
        if np.isnan(usage_pct).any():
            raise InputError(f"{path} does not log the KV cache usage; leave out engine.num_gpu_blocks")
        # Usage is logged after a step; at low usage its rounding is larger than the tokens that must be there.
        context = np.maximum(usage_pct / 100.0 * kv_tokens, decode_seqs)
        notes[0] = _FROM_USAGE
    speculative = decode_tokens != decode_seqs
    empty = prefill_seqs + decode_seqs == 0
    kept = ~speculative & ~empty
    per_prompt = prefill_tokens / np.maximum(prefill_seqs, 1.0)
    duration_s = elapsed_ms / 1e3
    kept &= duration_s > 0.0
    dropped = {
        _SPECULATIVE: int(speculative.sum()),
        _EMPTY: int(empty.sum()),
        "iterations of 0 ms": int((duration_s == 0.0).sum()),
    }
    check_step_unit(str(path), duration_s[kept])
    table = StepTable(
        tokens=(prefill_tokens + decode_tokens)[kept],
        sequences=(prefill_seqs + decode_seqs)[kept],
        context=(context + prefill_tokens)[kept],
        prefill_work=(prefill_tokens * per_prompt / 2.0)[kept],
        sampled=(prefill_seqs + decode_seqs)[kept],
        decode_seqs=decode_seqs[kept],
        decode_context=context[kept],
        duration_s=duration_s[kept],
    )
    return MeasuredSteps(
        table=table,
        groups=consecutive_blocks(len(table)),
        rows_read=len(found),
        dropped={reason: count for reason, count in dropped.items() if count},
        notes=tuple(notes),
        recorded=recorded,
    )


def _matches(path: Path) -> tuple[list[re.Match[str]], str | None]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", errors="replace")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except (OSError, EOFError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    found = list(LINE.finditer(text))
    if not found:
        raise InputError(
            f"{path} has no line 'Iteration(N): ... iteration elapsed time: ...'; allowed: the log of a vLLM server "
            "that was started with --enable-logging-iteration-details"
        )
    stamp = _STAMP.search(text)
    return found, stamp.group(1) if stamp else None


def _reckoned_context(prefill_seqs: Floats, prefill_tokens: Floats, decode_seqs: Floats) -> Floats:
    """Total context of the decoding sequences in each iteration, including the token of that iteration."""
    # A step as large as the largest was probably cut off by the token budget: one of its prompts goes on.
    tokens = prefill_tokens + decode_seqs
    goes_on = (tokens == tokens.max()) & (prefill_seqs > 0)
    after = (decode_seqs + prefill_seqs - goes_on).tolist()
    context = np.zeros(len(decode_seqs))
    total, alive = 0.0, 0.0
    for row, (fresh, decoding) in enumerate(zip(prefill_tokens.tolist(), decode_seqs.tolist(), strict=True)):
        if decoding < alive:
            total *= decoding / alive
        total += decoding
        context[row] = max(total, decoding)
        total += fresh
        alive = after[row]
    return context
