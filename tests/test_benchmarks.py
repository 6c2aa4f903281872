"""The pure parts of the benchmarks: ratios, targets, tables, files.  Nothing here looks at a clock."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chat import chat_scenario
from benchmarks.figures import Figure, Target, change, load, save, verdict
from benchmarks.loads import LOADS, long_output_load, streamed
from benchmarks.speed import flatness
from benchmarks.tables import aligned, figure_table, number
from benchmarks.whole_command import run_command
from benchmarks.yardstick import Timing, beside_yardstick
from latency_models.errors import InputError
from scenarios.schema import Scenario

ROOT = Path(__file__).resolve().parents[1]


def figure(value=10.0, target=None, **changes):
    values = {"section": "cost", "case": "chat", "quantity": "timeouts", "value": value, "target": target or Target()}
    return Figure(**(values | changes))


def test_cost_in_timeouts_is_the_median_of_the_repeats_own_ratios():
    # Ratios 10, 20 and 60; a machine that slows down for both changes nothing.
    timing = Timing(work_s=(10.0, 40.0, 60.0), timeout_s=(1.0, 2.0, 1.0))
    assert timing.timeouts(1) == 20.0
    assert timing.timeouts(4) == 5.0
    assert timing.best_s(4) == 2.5


def test_a_timing_needs_a_yardstick_for_every_repeat():
    with pytest.raises(ValueError, match="yardstick"):
        Timing(work_s=(), timeout_s=())
    with pytest.raises(ValueError, match="yardstick"):
        Timing(work_s=(1.0, 2.0), timeout_s=(1.0,))


def test_each_piece_of_work_runs_once_and_in_order():
    done = []
    timing = beside_yardstick([lambda: done.append("a"), lambda: done.append("b")])
    assert done == ["a", "b"]
    assert len(timing.work_s) == len(timing.timeout_s) == 2
    assert min(timing.timeout_s) > 0


@pytest.mark.parametrize(
    ("value", "target", "expected"),
    [
        (15.0, Target(at_most=40, aim=15), "aim met"),
        (15.1, Target(at_most=40, aim=15), "within"),
        (40.0, Target(at_most=40, aim=15), "within"),
        (40.1, Target(at_most=40, aim=15), "MISSED"),
        (1.31, Target(at_most=1.3), "MISSED"),
        (9.9, Target(at_least=10), "MISSED"),
        (10.0, Target(at_least=10), "within"),
        (1e9, Target(), ""),
        (math.nan, Target(at_most=40), "MISSED"),
    ],
)
def test_verdict(value, target, expected):
    assert verdict(figure(value, target)) == expected


def test_change_is_now_over_earlier_and_nan_without_an_earlier():
    assert change(3.0, 2.0) == 1.5
    assert math.isnan(change(3.0, 0.0))
    assert math.isnan(change(3.0, math.nan))
    assert math.isnan(change(math.inf, 1.0))


def test_flatness_is_dearest_over_cheapest():
    assert flatness([2.0, 3.0, 2.5]) == 1.5
    for bad in ([], [1.0, 0.0], [-1.0]):
        with pytest.raises(ValueError, match="above zero"):
            flatness(bad)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.0, "0.00"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (-12.34, "-12.3"),
        (math.nan, "nan"),
    ],
)
def test_numbers_have_three_digits_or_so(value, text):
    assert number(value) == text


def test_columns_are_aligned_and_lines_have_no_trailing_blanks():
    assert aligned([("a", "1", ""), ("bbb", "22", "x")], right=[1]) == ["a     1", "bbb  22  x"]
    assert aligned([]) == []
    with pytest.raises(ValueError, match="zip"):
        aligned([("a",), ("a", "b")])


def test_the_table_shows_target_verdict_and_change():
    lines = figure_table([figure(30.0, Target(at_most=40, aim=15))], {("cost", "chat", "timeouts"): 60.0})
    assert lines[0].split() == ["case", "quantity", "value", "x", "earlier", "at", "most", "aim", "detail"]
    assert lines[1].split() == ["chat", "timeouts", "30.0", "0.50", "40.0", "15.0", "within"]
    unknown = figure_table([figure(30.0)], {("other", "chat", "timeouts"): 60.0})
    assert unknown[1].split() == ["chat", "timeouts", "30.0"]


def test_figures_come_back_from_disk(tmp_path):
    figures = [figure(1.25, Target(at_most=2.0)), figure(3.0, case="light", detail="20,000 requests")]
    save(tmp_path / "figures.json", figures, {"python": "3"})
    assert load(tmp_path / "figures.json") == figures


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"version": 0, "figures": []}',
        '{"version": 1}',
        '{"version": 1, "figures": 3}',
        '{"version": 1, "figures": [3]}',
        '{"version": 1, "figures": [{"value": "much", "target": {}}]}',
        '{"version": 1, "figures": [{"section": "a", "case": "b", "quantity": "c", "value": 1, "target": {"x": 1}}]}',
    ],
)
def test_a_file_without_figures_is_an_input_error_that_names_it(tmp_path, content):
    path = tmp_path / "figures.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"figures\.json"):
        load(path)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"none\.json"):
        load(tmp_path / "none.json")


def test_the_command_s_scenario_is_valid_and_is_the_chat_that_runs_in_the_process():
    parsed = Scenario.model_validate(json.loads(json.dumps(chat_scenario(100, 2))))
    chat = LOADS[0].config(100)
    assert parsed.workload.lengths == chat.lengths
    assert parsed.workload.arrivals.rate_per_s == 2 * chat.arrivals.rate_per_s
    spec = parsed.cluster()
    assert len(spec.models[0].replicas) == 2
    assert spec.models[0].replicas[0].settings.num_gpu_blocks == 20_000


def test_the_command_is_run_to_its_end_and_a_failure_is_told():
    done = run_command(50, 2)
    assert done.requests_lines == 50
    assert done.peak_mib > 10
    assert done.cpu_s > 0
    with pytest.raises(InputError, match=r"status 2: Error: .*requests"):
        run_command(0, 1)


@pytest.mark.parametrize("case", LOADS, ids=lambda case: case.name)
def test_every_load_finishes_all_it_is_sent(case):
    config = case.config(60)
    result = case.run(streamed(config), config)
    assert 10 <= len(result.requests) <= 300
    assert (result.requests.status == 0).all()
    if case.open_loop:
        assert len(result.requests) == 60


def test_conversations_hit_the_prefix_cache():
    conversations = next(case for case in LOADS if not case.open_loop)
    config = conversations.config(100)
    result = conversations.run(streamed(config), config)
    assert result.requests.cached_tokens.sum() > 0.5 * result.requests.prompt_tokens.sum()


def test_equal_utilisation_means_fewer_of_the_longer_answers():
    short, long = (long_output_load(tokens, 0.5, 10).config() for tokens in (64, 4096))
    assert short.arrivals.rate_per_s > 10 * long.arrivals.rate_per_s


def test_bad_input_of_the_command_is_one_line_and_status_2(tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    command = [sys.executable, "-m", "benchmarks", "--against", str(tmp_path / "bad.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
