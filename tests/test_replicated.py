"""Replications: the same for any number of processes, paired over scenarios, and windows of a trace."""

import numpy as np
import pytest
from planned_cases import pair, queue

from latency_models.errors import InputError
from scenarios.replicated import is_trace, replicating, scenario_json, trace_windows
from scenarios.schema import Scenario


def arrivals(scenario, result):
    return scenario.name, result.requests.arrival_s.tolist(), result.requests.prompt.tolist()


def short(values):
    values["workload"]["requests"] = 50


def trace(folder, gaps_s=(1.0,) * 40):
    """A scenario that replays a trace."""
    times = np.cumsum(gaps_s)
    lines = ["arrival_s,prompt_tokens,output_tokens", *(f"{time:.3f},10,1" for time in times)]
    (folder / "trace.csv").write_text("\n".join(lines) + "\n")

    def change(values):
        values["workload"] = {"kind": "trace", "path": str(folder / "trace.csv")}
        values["run"] = {}

    return queue(folder, change)


def run(scenarios, numbers, measure=arrivals, jobs=1, **options):
    with replicating(jobs) as replicator:
        return replicator.run(scenarios, numbers, measure, **options)


def test_results_do_not_depend_on_the_number_of_processes(tmp_path):
    scenarios = [queue(tmp_path, short), pair(tmp_path, short)]
    alone = run(scenarios, range(3))
    assert run(scenarios, range(3), jobs=2) == alone
    assert [[entry[0] for entry in row] for row in alone] == [["queue"] * 3, ["pair"] * 3]


def test_replications_are_numbered_and_paired(tmp_path):
    scenario = pair(tmp_path, short)
    renamed = scenario.model_copy(update={"name": "other"})
    first, second = run([scenario, renamed], [0, 1])
    assert first[0][1:] == second[0][1:]
    assert first[0][1:] != first[1][1:]
    assert run([scenario], [1])[0][0] == first[1]


def test_progress_counts_every_run(tmp_path):
    told = []
    run([queue(tmp_path, short)] * 2, range(2), report=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_windows_are_disjoint_parts_of_the_trace(tmp_path):
    scenario = trace(tmp_path)
    assert trace_windows(scenario, 10.0) == 4
    (parts,) = run([scenario], range(4), window_s=10.0)
    assert [len(times) for _, times, _ in parts] == [9, 10, 10, 10]
    assert parts[2][1] == pytest.approx(np.arange(10.0))


@pytest.mark.parametrize(
    ("window_s", "message"), [(25.0, "at most 20 s"), (0.0, "window is 0.0"), (float("nan"), "window is nan")]
)
def test_windows_must_fit_the_trace(tmp_path, window_s, message):
    with pytest.raises(InputError, match=message):
        trace_windows(trace(tmp_path), window_s)


def test_only_a_trace_has_windows(tmp_path):
    assert is_trace(trace(tmp_path).workload)
    scenario = queue(tmp_path)
    assert not is_trace(scenario.workload)
    with pytest.raises(InputError, match="with a workload of kind synthetic"):
        trace_windows(scenario, 10.0)


def test_a_scenario_survives_the_way_to_another_process(tmp_path):
    scenario = pair(tmp_path)
    assert Scenario.model_validate_json(scenario_json(scenario)) == scenario


@pytest.mark.parametrize("jobs", [0, -1, 1.5])
def test_numbers_of_processes_that_make_no_sense(jobs):
    with pytest.raises(InputError, match="jobs is"), replicating(jobs):
        pass


def test_a_mistake_in_a_worker_is_one_line(tmp_path):
    def nothing(values):
        values["workload"] |= {"requests": None, "duration_s": 1e-9}

    with pytest.raises(InputError, match="the workload sent no request"):
        run([queue(tmp_path, nothing)], range(2), jobs=2)
    with pytest.raises(InputError, match="replication is -1"):
        run([queue(tmp_path, short)], [-1])
