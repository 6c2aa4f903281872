"""What looking at a run costs: page and terminal view of the demo plan's traffic, as whole commands."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, Target
from benchmarks.validation import demo_plan
from latency_models.errors import InputError
from scenarios.plans.deployment import deployed
from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import load_scenario

SECTION = "reporting"
_PROGRAM = "from scenarios.cli import main; main()"
_MOST_S, _MOST_MB = 10.0, 3.0
"""For the report of 100,000 requests."""


def reporting_figures(requests: int) -> Iterator[Figure]:
    """Wall time of ``report`` and ``show`` on a run of so many requests, and the size of the page."""
    with tempfile.TemporaryDirectory(prefix="routerwise-bench-") as name:
        run, page = Path(name) / "run", Path(name) / "report.html"
        plan = demo_plan()
        changes = [f"workload.requests={requests}", "workload.duration_s=null"]
        scenario = deployed(load_scenario("plan-demo", changes), plan)
        run_scenario(scenario, RunOptions(out=run, plan=plan))
        case = f"demo plan, {requests:,} requests"
        report_s = _command_s("report", str(run), "--out", str(page))
        yield Figure(
            section=SECTION, case=f"report, {case}", quantity="s", value=report_s, target=Target(at_most=_MOST_S)
        )
        size_mb = page.stat().st_size / 1e6
        yield Figure(
            section=SECTION, case=f"report, {case}", quantity="MB", value=size_mb, target=Target(at_most=_MOST_MB)
        )
        yield Figure(section=SECTION, case=f"show, {case}", quantity="s", value=_command_s("show", str(run)))


def _command_s(*arguments: str) -> float:
    began = time.perf_counter()
    ended = subprocess.run([sys.executable, "-c", _PROGRAM, *arguments], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise InputError(f"routerwise {arguments[0]} ended with status {ended.returncode}: {ended.stderr.strip()}")
    return time.perf_counter() - began
