import os
from pathlib import Path

import pytest
from fixtures_vllm import FIXTURES, TIME_TOLERANCE_S, Recording, case_names, differences, read_recording

from sim.clock import ARRIVAL, Clock
from sim.request import Request
from sim.vllm.engine import Engine
from sim.vllm.engine_trace import REQUEST_FIELDS, STEP_FIELDS, replay
from sim.vllm.schedulers import build_scheduler
from sim.vllm.step_timer import StepTimer

BOTH_MODES = pytest.mark.parametrize("mode", ["macro", "reference"])


def traces_of_the_data_folder():
    """Names of the long traces when real data is at hand; the test itself skips otherwise."""
    named = os.environ.get("ROUTERWISE_DATA")
    return case_names(Path(named) / "vllm_scheduler" / "traces") if named else ["needs ROUTERWISE_DATA"]


def check_conformance(recording: Recording, mode: str) -> None:
    trace = replay(
        recording.requests,
        recording.settings,
        recording.step_time,
        mode=mode,
        idle_sleep_s=recording.idle_sleep_s,
    )
    assert differences(trace.steps, recording.step_rows)[:5] == []
    recorded = {row["id"]: row for row in recording.request_rows}
    assert len(recorded) == len(recording.request_rows)
    in_our_order = [recorded[str(row["id"])] for row in trace.requests]
    assert differences(trace.requests, in_our_order)[:5] == []
    assert len(trace.requests) == len(recording.requests) == len(recorded)


@BOTH_MODES
@pytest.mark.parametrize("name", case_names(FIXTURES))
def test_replay_does_what_vllm_did(name, mode):
    check_conformance(read_recording(FIXTURES, name), mode)


@BOTH_MODES
@pytest.mark.parametrize("name", traces_of_the_data_folder())
def test_replay_does_what_vllm_did_in_long_traces(data_root, name, mode):
    check_conformance(read_recording(data_root / "vllm_scheduler" / "traces", name), mode)


def test_all_fixtures_are_there():
    names = case_names(FIXTURES)
    assert len([name for name in names if name.startswith("fuzz")]) == 40
    assert len([name for name in names if name.startswith("micro_")]) == 3
    files = [path for path in FIXTURES.iterdir() if path.is_file()]
    assert max(path.stat().st_size for path in files) < 1 << 20
    assert sum(path.stat().st_size for path in files) < 3 << 19


def test_the_fixtures_exercise_what_they_are_for():
    recordings = [read_recording(FIXTURES, name) for name in case_names(FIXTURES)]
    assert any(recording.settings.async_scheduling for recording in recordings)
    assert any(recording.settings.scheduling_policy == "priority" for recording in recordings)
    assert any(not recording.settings.enable_chunked_prefill for recording in recordings)
    assert any(row["preempted"] for recording in recordings for row in recording.step_rows)
    assert any(int(row["cached_tokens"]) for recording in recordings for row in recording.request_rows)
    assert any(int(row["cached_tokens_resume"]) for recording in recordings for row in recording.request_rows)


def test_the_trace_has_the_columns_of_the_recording():
    recording = read_recording(FIXTURES, "micro_samestep")
    assert tuple(recording.step_rows[0]) == STEP_FIELDS
    assert tuple(recording.request_rows[0]) == REQUEST_FIELDS


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("t_end", lambda row: float(row["t_end"]) + 2 * TIME_TOLERANCE_S),
        ("t_end", lambda row: float("nan")),
        ("items", lambda row: row["items"].replace("P", "p", 1)),
        ("blocks_used", lambda row: int(row["blocks_used"]) + 1),
        ("preempted", lambda row: "r0"),
    ],
)
def test_the_comparison_notices_one_wrong_cell(column, value):
    recorded = read_recording(FIXTURES, "micro_samestep").step_rows
    assert differences([dict(row) for row in recorded], recorded) == []
    wrong = [dict(row) for row in recorded]
    wrong[0][column] = value(recorded[0])
    (difference,) = differences(wrong, recorded)
    assert difference.startswith(f"row 0 {column}: ")


def test_the_comparison_notices_missing_rows_and_columns():
    recorded = read_recording(FIXTURES, "micro_samestep").step_rows
    assert differences(recorded[:-1], recorded) == [f"{len(recorded) - 1} rows instead of {len(recorded)}"]
    without = [{column: text for column, text in row.items() if column != "waiting"} for row in recorded]
    assert differences(without, recorded)[0] == "row 0 lacks ['waiting']"


class FreeQueueWatcher:
    """Notes the free queue after every schedule call, and is told what becomes of requests."""

    def __init__(self):
        self.scheduler = None
        self.queues = []

    def on_schedule(self, step, index, now_s):
        self.queues.append(self.scheduler.pool.free_queue())

    def on_empty_schedule(self, now_s):
        self.queues.append(self.scheduler.pool.free_queue())

    def on_complete(self, step, index, start_s, end_s):
        pass

    def on_finish(self, request, now_s):
        pass

    def on_gap(self, request, from_s, to_s):
        pass


@BOTH_MODES
@pytest.mark.parametrize("name", [name for name in case_names(FIXTURES) if name.startswith("micro_")])
def test_blocks_are_reused_in_vllms_order(name, mode):
    recording = read_recording(FIXTURES, name)
    clock = Clock()
    watcher = FreeQueueWatcher()
    scheduler = build_scheduler(recording.settings, StepTimer(recording.step_time), shared_content=True)
    watcher.scheduler = scheduler
    engine = Engine(clock, scheduler, watcher, mode=mode, idle_sleep_s=recording.idle_sleep_s, observer=watcher)
    for row, spec in enumerate(recording.requests):
        request = Request(row, spec, spec.arrival_s, recording.settings.max_model_len, spec.request_id)
        clock.at(spec.arrival_s, ARRIVAL, lambda event: engine.submit(event.payload), request)
    clock.drive()
    assert watcher.queues == recording.free_queues
