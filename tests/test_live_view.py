"""The display of a long run: what it says and when, that it changes nothing, and that it is silent in a pipe."""

import io
import os
import pty
import sys
from functools import partial

import numpy as np
import pytest
from rich.console import Console

from scenarios.live_display import Extent, LiveDisplay, LiveFigures, live_display, live_lines
from scenarios.replicated import PreparedScenario, simulate_replication
from scenarios.scenario_files import load_scenario

FIGURES = {
    "replication": 1,
    "replications": 5,
    "share": 0.25,
    "elapsed_s": 30.0,
    "now_s": 1234.5,
    "ended": 60_000,
    "running": 115,
    "waiting": 3,
    "ttft_p95_s": 0.1884,
}


class FakeRun:
    """A simulation that is as far as one says."""

    def __init__(self, now_s=10.0, arrived=100, ended=90, ttft_s=(0.1, 0.2)):
        self.now_s, self.arrived, self.ended = now_s, arrived, ended
        self.running, self.waiting = 7, 3
        self._ttft_s = np.array(ttft_s)

    def recent_ttft_s(self, last):
        return self._ttft_s[:last]


class FakeClock:
    """Real time that passes when one says so."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def terminal(width=80):
    stream = io.StringIO()
    return stream, Console(
        file=stream, width=width, force_terminal=True, color_system=None, markup=False, highlight=False
    )


# ------------------------------------------------------------------ what it says


def test_lines():
    first, second = live_lines(LiveFigures(**FIGURES))
    assert first.startswith("replication 2/5  ━━━━━━╌")
    assert first.endswith(" 25%  2,000 requests/s  1:30 min left")
    assert second == "simulated 1,234 s  TTFT P95 188 ms (last 1,000)  115 running  3 waiting"


def test_one_replication_of_unknown_length():
    changes = {"replication": 0, "replications": 1, "share": None, "ttft_p95_s": None, "elapsed_s": 3700.0}
    first, second = live_lines(LiveFigures(**FIGURES | changes))
    assert first == "16 requests/s  1:01 h so far"
    assert "TTFT P95 -" in second


@pytest.mark.parametrize("elapsed_s", [0.0, 1e-9])
def test_nothing_is_divided_by_zero(elapsed_s):
    assert live_lines(LiveFigures(**FIGURES | {"elapsed_s": elapsed_s, "share": 0.0, "ended": 0}))


@pytest.mark.parametrize(
    ("name", "overrides", "seconds", "requests"),
    [
        ("chat-steady", (), 1800.0, None),
        ("mm1", (), None, 20_000),
        ("mm1", ("run.until_s=60",), 60.0, 20_000),
        ("demo", (), 1800.0, None),
        ("demo", ("workload.transforms=[{kind: scale-rate, factor: 2}]",), None, None),
        ("demo", ("workload.transforms=[{kind: scale-rate, factor: 2}]", "run.until_s=9"), 9.0, None),
    ],
)
def test_extent(name, overrides, seconds, requests):
    extent = Extent.of(load_scenario(name, overrides))
    assert (extent.seconds, extent.requests) == (seconds, requests)


def test_share_of_all_replications():
    extent = Extent(replications=4, seconds=100.0, requests=1000)
    assert extent.share(0, 0.0, 0) == 0.0
    assert extent.share(1, 20.0, 500) == pytest.approx(1.5 / 4), "what is further along counts"
    assert extent.share(3, 250.0, 10) == 1.0, "requests that arrived are still being answered"
    assert Extent(replications=2).share(1, 5.0, 5) is None
    assert Extent(replications=1, seconds=float("inf")).share(0, 5.0, 5) is None


# ------------------------------------------------------------------ when it says it


def test_short_runs_show_nothing_and_updates_are_rare():
    clock, (stream, console) = FakeClock(), terminal()
    display = LiveDisplay(console, Extent(replications=1, seconds=100.0), clock)
    display(0, FakeRun())
    display.close()
    assert stream.getvalue() == ""
    clock.now_s += 1.0
    for _ in range(120):
        display(0, FakeRun())
        clock.now_s += 0.01
    assert stream.getvalue().count("requests/s") == 3
    display.close()


def test_requests_of_earlier_replications_count():
    clock, (stream, console) = FakeClock(), terminal()
    display = LiveDisplay(console, Extent(replications=2), clock)
    display(0, FakeRun(ended=500))
    clock.now_s += 10.0
    display(1, FakeRun(ended=100))
    display.close()
    assert "60 requests/s" in stream.getvalue()
    assert "replication 2/2" in stream.getvalue()


def test_a_narrow_terminal_cuts_lines():
    clock, (stream, console) = FakeClock(), terminal(width=30)
    display = LiveDisplay(console, Extent(replications=1, seconds=100.0), clock)
    clock.now_s += 1.0
    display(0, FakeRun())
    display.close()
    assert "…" in stream.getvalue()


def test_ascii_where_a_terminal_has_nothing_else():
    clock = FakeClock()
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    display = LiveDisplay(
        Console(file=stream, width=40, force_terminal=True), Extent(replications=1, seconds=20), clock
    )
    clock.now_s += 1.0
    display(0, FakeRun())
    display.close()
    stream.flush()
    assert b"############------------ 50%" in stream.buffer.getvalue()


# ------------------------------------------------------------------ real simulations


def simulated(progress=None):
    scenario = load_scenario("chat-steady", ["workload.duration_s=120"])
    return simulate_replication(PreparedScenario.of(scenario), 0, progress=progress)


def test_looking_changes_nothing_and_figures_are_true():
    seen = []

    def look(run):
        seen.append((run.now_s, run.arrived, run.ended, run.running, run.waiting, run.recent_ttft_s(10)))

    watched, alone = simulated(look), simulated()
    for column in ("first_token_s", "finish_s", "status"):
        assert np.array_equal(getattr(watched.requests, column), getattr(alone.requests, column))
    requests = alone.requests
    for now_s, arrived, ended, running, waiting, ttft_s in seen:
        assert arrived == np.count_nonzero(requests.arrival_s <= now_s)
        assert ended == np.count_nonzero(requests.finish_s <= now_s)
        assert running + waiting == arrived - ended
        left = np.argsort(requests.finish_s, kind="stable")[:ended][-10:]
        expected = (requests.first_token_s - requests.arrival_s)[left]
        assert np.allclose(np.sort(ttft_s), np.sort(expected))
    assert len(seen) > 100


def test_requests_without_a_token_are_no_latencies():
    scenario = load_scenario("mm1", ["workload.requests=50", "models.server.admission={max_queue_requests: 1}"])
    seen = []

    def look(run):
        seen.append((run.ended, len(run.recent_ttft_s())))

    result = simulate_replication(PreparedScenario.of(scenario), 0, progress=look)
    assert (result.requests.status == 1).any()
    ended, latencies = seen[-1]
    assert 0 < latencies < ended


def test_silent_in_a_pipe(capsys):
    with live_display(Extent(replications=1)) as display:
        assert display is None
    assert capsys.readouterr() == ("", "")


def everything_on(controller):
    """What was written to a terminal that nobody writes to any more."""
    found = b""
    with os.fdopen(controller, "rb", buffering=0) as terminal:
        while True:
            try:
                part = terminal.read(4096)
            except OSError:
                return found.decode()
            if not part:
                return found.decode()
            found += part


def test_shown_on_a_terminal_and_taken_away(monkeypatch):
    controller, device = pty.openpty()
    with os.fdopen(device, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr("scenarios.live_display._QUIET_S", 0.0)
        with live_display(Extent(replications=1, seconds=120.0)) as display:
            simulated(partial(display, 0))
    shown = everything_on(controller)
    assert "requests/s" in shown
    assert "TTFT P95" in shown
    assert "\x1b[2K" in shown.split("waiting")[-1], "the last lines are erased"
