"""``routerwise run`` as users start it: wall time and peak memory of a process of its own.

A child inherits the peak of its parent until it has started, so these run before this process has grown.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chat import chat_scenario
from benchmarks.figures import NO_TARGET, Figure, Target
from latency_models.errors import InputError

_ROOT = Path(__file__).resolve().parents[1]
_PROGRAM = "from scenarios.cli import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRun:
    """What one command took."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    requests_lines: int
    """Lines of requests.csv, without the heading."""


def run_command(requests: int, replicas: int) -> CommandRun:
    """Run the command once, into a folder that is gone afterwards.

    Raises
    ------
    InputError
        The command failed; its own message is in the error.
    """
    with tempfile.TemporaryDirectory(prefix="routerwise-bench-") as name:
        folder = Path(name)
        # YAML reads JSON too.
        (folder / "chat.yaml").write_text(json.dumps(chat_scenario(requests, replicas)), encoding="utf-8")
        arguments = [sys.executable, "-c", _PROGRAM, "run", str(folder / "chat.yaml"), "--out", str(folder / "run")]
        with (folder / "messages.txt").open("wb") as messages:
            began = time.perf_counter()
            process = subprocess.Popen(arguments, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=messages)
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said = (folder / "messages.txt").read_text(encoding="utf-8", errors="replace").strip()
            raise InputError(f"routerwise run ended with status {process.returncode}: {said}")
        with (folder / "run" / "requests.csv").open("rb") as stream:
            lines = sum(1 for _ in stream) - 1
    # Linux counts in KiB, macOS in bytes.
    peak_mib = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return CommandRun(wall_s=wall_s, cpu_s=usage.ru_utime + usage.ru_stime, peak_mib=peak_mib, requests_lines=lines)


def command_figures(requests: int, *, repeats: int) -> Iterator[Figure]:
    """Wall time and peak memory of the whole command on 1 and on 16 replicas; the targets are for 20,000 requests."""
    for replicas, limit_s, limit_mib in ((1, 2.0, 160.0), (16, 2.5, None)):
        runs = [run_command(requests, replicas) for _ in range(repeats)]
        best = min(runs, key=lambda run: run.wall_s)
        case = f"{requests:,} chat requests, {replicas} replica{'s' if replicas > 1 else ''}"
        yield Figure(
            section="whole command",
            case=case,
            quantity="s",
            value=best.wall_s,
            target=Target(at_most=limit_s),
            detail=f"wall time, best of {repeats}; {best.cpu_s:.2f} s of CPU; {best.requests_lines:,} lines written",
        )
        yield Figure(
            section="whole command",
            case=case,
            quantity="MiB",
            value=max(run.peak_mib for run in runs),
            target=NO_TARGET if limit_mib is None else Target(at_most=limit_mib),
            detail="peak memory",
        )


def memory_figures(requests: int) -> Iterator[Figure]:
    """Peak memory of many requests whose results go to disk; the target is for 1,000,000."""
    run = run_command(requests, 1)
    yield Figure(
        section="memory",
        case=f"{requests:,} chat requests, results written",
        quantity="MiB",
        value=run.peak_mib,
        target=Target(at_most=600),
        detail=f"peak memory (the target is for 1,000,000); {run.wall_s:.1f} s, {run.requests_lines:,} lines written",
    )
