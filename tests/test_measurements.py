import csv
import json
import math

import numpy as np
import pytest
import yaml
from measured_logs import ENGINE, REQUESTS, SERVER, opened, requests, write_csv, write_measurement

from latency_models.errors import InputError
from scenarios.measurements.comparison import Figure, compare, first_saturated, judged_rows
from scenarios.measurements.conversations import ConversationTraffic
from scenarios.measurements.evaluation import evaluate, open_measurement
from scenarios.measurements.logs import read_log, rows_of
from scenarios.measurements.measurement_files import find_measurement, load_measurement, with_values
from scenarios.measurements.plots import requests_in_system
from scenarios.measurements.replay import replay
from scenarios.measurements.schema import PartSection

# ---------------------------------------------------------------------- logs of requests


def test_a_log_that_the_simulator_wrote_is_predicted_exactly(measured):
    comparison = open_measurement(str(measured)).evaluate().comparison
    assert {figure.name for figure in comparison.figures} >= {"ttft_mean", "tpot_p99", "e2e_p50", "throughput"}
    assert max(comparison.values().values()) < 1e-9
    assert (comparison.rows, comparison.rows_in_log, comparison.unfinished) == (60, 60, 0)


def test_a_slower_model_shows_as_an_error(measured):
    slower = with_values(load_measurement(str(measured)), {"latency.base_s": 0.012})
    comparison = evaluate(slower, read_log(slower.log)).comparison
    errors = {figure.name: figure.error for figure in comparison.figures}
    assert 0.05 < errors["tpot_mean"] < 0.2
    assert comparison.missed({"tpot_mean": 0.04, "e2e_mean": 0.5}).keys() == {"tpot_mean"}
    with pytest.raises(InputError, match="itl_p99"):
        comparison.missed({"itl_p99": 0.1})


def test_units_come_from_the_columns_names_or_from_the_file(tmp_path):
    rows = [{"at_ms": 1e3 * row["arrival_s"], "p": row["prompt"], "o": row["output"], "end": 9.0} for row in requests()]
    write_csv(tmp_path / "log.csv.gz", rows)
    columns = {"arrival": "at_ms", "prompt_tokens": "p", "output_tokens": "o", "e2e": "end"}
    log = {"kind": "requests", "path": "log.csv.gz", "columns": columns}
    table = read_log(load_measurement(str(write_measurement(tmp_path, log))).log)
    assert table.arrival_s[0] == 0.0
    assert table.arrival_s[-1] == pytest.approx(1e-3 * (rows[-1]["at_ms"] - rows[0]["at_ms"]))
    assert table.measured["e2e"][0] == 9.0
    table = read_log(load_measurement(str(write_measurement(tmp_path, {**log, "unit": "ms"}))).log)
    assert table.measured["e2e"][0] == pytest.approx(0.009)


def test_latencies_follow_from_times_on_the_log_s_clock(tmp_path):
    write_csv(tmp_path / "log.csv", [{"a": 100, "p": 5, "o": 11, "f": 100.5, "l": 102.5, "end": 103}])
    columns = {"arrival": "a", "prompt_tokens": "p", "output_tokens": "o", "first_token": "f"}
    log = {"kind": "requests", "path": "log.csv", "columns": {**columns, "last_token": "l", "finish": "end"}}
    measured = read_log(load_measurement(str(write_measurement(tmp_path, log))).log).measured
    assert (measured["ttft"][0], measured["tpot"][0], measured["e2e"][0]) == pytest.approx((0.5, 0.2, 3.0))


def test_an_empty_cell_is_a_latency_that_a_request_does_not_have(measured):
    text = (measured.parent / "log.csv").read_text().splitlines()
    text[1] = ",".join([*text[1].split(",")[:3], "", *text[1].split(",")[4:]])
    (measured.parent / "log.csv").write_text("\n".join(text) + "\n")
    comparison = open_measurement(str(measured)).evaluate().comparison
    assert comparison.row_errors["ttft_mean_error"] < 1e-9


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("ttft_ms", "-1", "line 3, ttft"),
        ("ttft_ms", "nan", "line 3, ttft_ms is 'nan'"),
        ("ttft_ms", "soon", "line 3, ttft_ms is 'soon'"),
        ("arrival_s", "inf", "line 3, arrival_s is 'inf'"),
        ("arrival_s", "", "every request needs its arrival"),
        ("output", "0", "line 3, output is '0'; allowed: a number of at least 1"),
        ("prompt", "-5", "line 3, prompt is '-5'"),
    ],
)
def test_a_bad_cell_is_named(measured, column, value, message):
    with (measured.parent / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows[1][column] = value
    write_csv(measured.parent / "log.csv", rows)
    with pytest.raises(InputError, match=message):
        open_measurement(str(measured))


def test_a_prompt_of_no_tokens_is_refused(measured):
    with (measured.parent / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows[0]["prompt"] = "0"
    write_csv(measured.parent / "log.csv", rows)
    with pytest.raises(InputError, match="line 2, prompt is '0'; allowed: a number of at least 1"):
        read_log(load_measurement(str(measured)).log)


@pytest.mark.parametrize(("factor", "message"), [(1e-6, "another unit"), (1e8, "another unit")])
def test_a_wrong_unit_is_noticed(measured, factor, message):
    with (measured.parent / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["ttft_ms"] = factor * float(row["ttft_ms"])
    write_csv(measured.parent / "log.csv", rows)
    with pytest.raises(InputError, match=message):
        open_measurement(str(measured))


def test_a_ttft_beyond_the_whole_request_is_a_wrong_unit(measured):
    with (measured.parent / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["ttft_ms"] = 1e3 * float(row["e2e_ms"])
    write_csv(measured.parent / "log.csv", rows)
    with pytest.raises(InputError, match="different units"):
        open_measurement(str(measured))


def test_a_shared_prefix_is_computed_once(measured):
    plain = load_measurement(str(measured))
    log = read_log(plain.log)
    shared = with_values(plain, {"log.shared_prefix_tokens": 320})
    assert replay(shared, log).predicted["ttft"].mean() < 0.8 * replay(plain, log).predicted["ttft"].mean()


def test_equal_prompts_are_found_in_the_prefix_cache(tmp_path):
    rows = [{"a": 10.0 * number, "p": 512, "o": 2, "e": 1.0, "id": number % 2} for number in range(4)]
    write_csv(tmp_path / "log.csv", rows)
    columns = {"arrival": "a", "prompt_tokens": "p", "output_tokens": "o", "e2e": "e", "prompt": "id"}
    path = write_measurement(tmp_path, {"kind": "requests", "path": "log.csv", "columns": columns})
    result = replay(*opened(path)).result
    assert (result.requests.cached_tokens > 0).tolist() == [False, False, True, True]


# ---------------------------------------------------------------------- parts


def test_parts_are_rows_and_values(measured):
    log = read_log(load_measurement(str(measured)).log)
    assert rows_of(log, PartSection(rows=((0, 3), (58, None)))).nonzero()[0].tolist() == [0, 1, 2, 58, 59]
    assert rows_of(log, PartSection(rows=((0, 4),), where={"half": 1})).nonzero()[0].tolist() == [1, 3]
    assert rows_of(log, PartSection(where={"half": (0, "1")})).all()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"rows": [[0, 61]]}, "60 rows"),
        ({"rows": [[60, None]]}, "60 rows"),
        ({"where": {"hlaf": 1}}, "did you mean 'half'"),
        ({"where": {"half": 7}}, "no row"),
    ],
)
def test_a_part_without_rows_is_an_error(measured, part, message):
    log = read_log(load_measurement(str(measured)).log)
    with pytest.raises(InputError, match=message):
        rows_of(log, PartSection.model_validate(part))


def test_rows_that_were_fitted_on_are_not_judged(measured):
    values = yaml.safe_load(measured.read_text())
    values["fit"] = {"parameters": {"latency.base_s": {"start": 0.008}}, "part": {"rows": [[0, 20]]}}
    measured.write_text(yaml.safe_dump(values))
    measurement = load_measurement(str(measured))
    assert judged_rows(measurement, read_log(measurement.log)).sum() == 40
    values["fit"].pop("part")
    measured.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match="nothing is left to judge"):
        open_measurement(str(measured))


# ---------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": None}, "source"),
        ({"log": {**REQUESTS, "kind": "request"}}, "did you mean 'requests'"),
        ({"log": {**REQUESTS, "colums": {}}}, "did you mean 'columns'"),
        (
            {"log": {**REQUESTS, "columns": {"arrival": "arrival_s"}}},
            "names no column for prompt_tokens, output_tokens",
        ),
        ({"log": {**REQUESTS, "columns": {**REQUESTS["columns"], "itl": "x"}}}, "does not know itl"),
        ({"log": {**REQUESTS, "columns": {**REQUESTS["columns"], "ttft": "tft_ms"}}}, "did you mean 'ttft_ms'"),
        ({"log": {**REQUESTS, "path": "nowhere.csv"}}, "does not exist"),
        ({"log": {**REQUESTS, "where": {"half": 3}}}, "values that some row has"),
        ({"expect": {"ttft_average": 0.1}}, "ttft_average"),
        ({"engine": {**ENGINE, "num_gpu_block": 4}}, "did you mean 'num_gpu_blocks'"),
        ({"engine": {}}, "KV capacity is missing"),
        ({"judge": {"rows": [[5, 5]]}}, "holds no row"),
        ({"fit": {"parameters": {}}}, "fit.parameters"),
        ({"fit": {"parameters": {"latency.base_s": {"start": 0}}}}, "Give upper when start is 0"),
        ({"latency": {"kind": "linear", "base_s": math.nan}}, "base_s"),
    ],
)
def test_a_wrong_file_names_the_key(measured, change, message):
    values = yaml.safe_load(measured.read_text()) | change
    measured.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    with pytest.raises(InputError, match=message):
        open_measurement(str(measured))


def test_changing_a_key_that_does_not_exist_names_it(measured):
    measurement = load_measurement(str(measured))
    with pytest.raises(InputError, match="bas_s"):
        with_values(measurement, {"latency.bas_s": 1.0})
    with pytest.raises(InputError, match="name of a section"):
        with_values(measurement, {"latency.base_s.more": 1.0})


def test_an_unknown_measurement_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean 'cpu-toys-heavy'"):
        find_measurement("cpu-toy-heavy")
    with pytest.raises(InputError, match="an existing YAML file"):
        find_measurement("cpu-toys-heavy.yaml")


@pytest.mark.parametrize(
    ("version", "scheduler"), [("vLLM 0.6.0", "vllm-v0"), ("vLLM 0.11.0", None), ("SGLang 0.5", None)]
)
def test_old_versions_schedule_prefills_first(measured, version, scheduler):
    values = yaml.safe_load(measured.read_text())
    values |= {"engine_version": version, "engine": {"num_gpu_blocks": 2000}}
    measured.write_text(yaml.safe_dump(values))
    assert load_measurement(str(measured)).engine.scheduler == scheduler


# ---------------------------------------------------------------------- other kinds of logs


def test_a_vllm_bench_file_is_read_without_its_failures(tmp_path):
    bench = {
        "start_times": [100.0, 101.0, 102.0],
        "input_lens": [20, 30, 40],
        "output_lens": [3, 0, 2],
        "ttfts": [0.05, 0.0, 0.06],
        "itls": [[0.02, 0.04], [], [0.03]],
        "errors": ["", "timed out", ""],
    }
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    path = write_measurement(tmp_path, {"kind": "vllm-bench", "path": "bench.json"})
    measurement, log = opened(path)
    assert log.arrival_s.tolist() == [0.0, 2.0]
    assert log.measured["tpot"].tolist() == pytest.approx([0.03, 0.03])
    assert log.measured["e2e"].tolist() == pytest.approx([0.11, 0.09])
    names = {figure.name: figure for figure in evaluate(measurement, log).comparison.figures}
    assert names["itl_mean"].measured == pytest.approx(0.03)
    assert 0.01 < names["itl_mean"].predicted < 0.012
    bench.pop("itls")
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    with pytest.raises(InputError, match="no list 'itls'"):
        open_measurement(str(path))


def closed_loop(tmp_path, **more):
    rows = [{"clients": clients, "in": 100, "out": 20, "t_ms": 20, "tp": tp} for tp in (1, 2) for clients in (1, 4, 16)]
    write_csv(tmp_path / "sweep.csv", rows)
    columns = {"concurrency": "clients", "prompt_tokens": "in", "output_tokens": "out", "ttft": "t_ms"}
    log = {"kind": "closed-loop", "path": "sweep.csv", "columns": columns, **more}
    return load_measurement(str(write_measurement(tmp_path, log)))


def test_a_sweep_keeps_its_clients_busy(tmp_path):
    measurement = closed_loop(tmp_path, settings={"engine.max_num_seqs": "clients"})
    ttft_s = replay(measurement, read_log(measurement.log)).predicted["ttft"]
    # One client alone: its prefill of 100 tokens. More of them wait for each other's.
    assert ttft_s[0] == pytest.approx(0.01 + 100 * 1e-4 + 100 * 1e-6)
    assert ttft_s[0] < ttft_s[1] < ttft_s[2]
    assert ttft_s[:3].tolist() == ttft_s[3:].tolist()
    narrow = closed_loop(tmp_path)
    seats = with_values(narrow, {"engine.max_num_seqs": 4})
    queued = replay(seats, read_log(seats.log)).predicted["ttft"]
    assert queued[2] > 4 * ttft_s[2]


def test_a_batch_given_at_once_takes_as_long_as_its_longest_request(tmp_path):
    batch = closed_loop(tmp_path, requests_per_client=1, statistic="longest")
    # Two at a time: the last pair of 4 waits for the first, and that of 16 for seven.
    served = with_values(batch, {"engine.max_num_seqs": 2})
    found = replay(served, read_log(served.log)).predicted["ttft"]
    mean = closed_loop(tmp_path, requests_per_client=1)
    means = replay(with_values(mean, {"engine.max_num_seqs": 2}), read_log(mean.log)).predicted["ttft"]
    assert found[0] == means[0]
    assert found[1] > 1.5 * means[1]
    assert found[2] > 6 * found[1]
    # A batch that waits for its turn is no saturated server.
    log = read_log(served.log)
    assert compare(served, log, replay(served, log), np.ones(6, dtype=bool)).saturated_rows == 0


def test_the_longest_request_is_of_one_batch_only(tmp_path):
    with pytest.raises(InputError, match="Give requests_per_client: 1"):
        closed_loop(tmp_path, statistic="longest")


def test_a_fit_simulates_the_runs_that_it_fits_on_only(tmp_path):
    measurement = closed_loop(tmp_path)
    log = read_log(measurement.log)
    rows = np.array([False, True, False, False, True, False])
    found = replay(measurement, log, rows=rows).predicted["ttft"]
    assert np.isnan(found).tolist() == (~rows).tolist()
    assert found[rows].tolist() == replay(measurement, log).predicted["ttft"][rows].tolist()


@pytest.mark.parametrize(("lengths_are", "low", "high"), [("longest", 0.9, 0.9), ("mean", 1.0, 1.0)])
def test_lengths_of_a_sweep_are_drawn_in_a_range(tmp_path, lengths_are, low, high):
    measurement = closed_loop(tmp_path, length_ratio=0.8, lengths_are=lengths_are, requests_per_client=400)
    ttft_s = replay(measurement, read_log(measurement.log)).predicted["ttft"][0]
    assert (ttft_s - 0.01) / 0.0101 == pytest.approx((low + high) / 2, rel=0.01)


def test_saturation_starts_where_the_ttft_jumps(tmp_path):
    assert first_saturated([1.0, 1.5, 9.0, 10.0], 3.0) == 2
    assert first_saturated([1.0, 2.0, 4.0], 3.0) == 3
    measurement = closed_loop(tmp_path, settings={"tp": "tp"})
    log = read_log(measurement.log)
    log.measured["ttft"][:] = [0.02, 0.03, 0.3, 0.02, 0.03, 0.05]
    replayed = replay(measurement, log)
    replayed.predicted["ttft"][:] = [0.02, 0.03, 0.05, 0.02, 0.03, 0.05]
    found = compare(measurement, log, replayed, np.ones(6, dtype=bool))
    assert (found.saturation_steps, found.saturated_rows) == (1, 1)
    # The saturated level is not among the errors.
    assert found.row_errors["ttft_mean_error"] == pytest.approx(0.0)


def test_runs_are_replayed_one_by_one_and_compared_by_their_means(tmp_path):
    rows = [
        {"run": run, "a": 3.0 * number, "p": 50, "o": out} for run, out in (("x", 5), ("y", 50)) for number in (0, 1)
    ]
    write_csv(tmp_path / "requests.csv", rows)
    write_csv(tmp_path / "runs.csv", [{"run": "y", "tpot_s": 0.01}, {"run": "x", "tpot_s": 0.01}])
    log = {
        "kind": "aggregates",
        "path": "requests.csv",
        "key": "run",
        "columns": {"arrival": "a", "prompt_tokens": "p", "output_tokens": "o"},
        "measured": {"path": "runs.csv", "key": "run", "columns": {"tpot": "tpot_s"}},
    }
    measurement, table = opened(write_measurement(tmp_path, log))
    tpot_s = replay(measurement, table).predicted["tpot"]
    # The longer answers have the larger contexts.
    assert tpot_s[0] > tpot_s[1] == pytest.approx(0.01 + 1e-4 + 52.5e-6)
    write_csv(tmp_path / "runs.csv", [{"run": "z", "tpot_s": 0.01}])
    with pytest.raises(InputError, match="run is 'z'"):
        open_measurement(str(tmp_path / "made.yaml"))


def conversations(tmp_path, **more):
    turns = [(0.0, "A", 1, 100, 20), (0.1, "B", 2, 60, 5), (2.0, "A", 1, 170, 10), (5.0, "A", 3, 30, 4)]
    rows = [
        {"start": start, "client": client, "talk": talk, "in": prompt, "out": output, "end_ms": 1500}
        for start, client, talk, prompt, output in turns
    ]
    write_csv(tmp_path / "turns.csv", rows)
    columns = {"client": "client", "conversation": "talk", "arrival": "start", "e2e": "end_ms"}
    columns |= {"prompt_tokens": "in", "output_tokens": "out"}
    log = {"kind": "conversations", "path": "turns.csv", "columns": columns, **more}
    return opened(write_measurement(tmp_path, log))


def test_a_client_s_next_turn_waits_for_the_last_one(tmp_path):
    measurement, log = conversations(tmp_path)
    replayed = replay(measurement, log)
    requests = replayed.result.requests
    arrival_s = dict(zip(replayed.log_row.tolist(), requests.arrival_s.tolist(), strict=True))
    finish_s = dict(zip(replayed.log_row.tolist(), requests.finish_s.tolist(), strict=True))
    # Measured gaps: 2.0 - 1.5 and 5.0 - 3.5 seconds.
    assert arrival_s[2] - finish_s[0] == pytest.approx(0.5)
    assert arrival_s[3] - finish_s[2] == pytest.approx(1.5)
    assert arrival_s[1] == pytest.approx(0.1)


def test_a_turn_s_prompt_begins_with_the_conversation_so_far(tmp_path):
    cached = {}
    for reuse in (True, False):
        replayed = replay(*conversations(tmp_path, reuse_answers=reuse))
        tokens = replayed.result.requests.cached_tokens.tolist()
        cached[reuse] = dict(zip(replayed.log_row.tolist(), tokens, strict=True))
    # 100 tokens of the prompt, and with the answer 119 (its last token was never computed), in blocks of 16.
    assert cached[True] == {0: 0, 1: 0, 2: 112, 3: 0}
    assert cached[False] == {0: 0, 1: 0, 2: 96, 3: 0}


def test_a_client_that_cuts_the_history_starts_anew(tmp_path):
    _, log = conversations(tmp_path)
    log.prompt_tokens[2] = 40
    specs = [spec for chunk in ConversationTraffic(log, reuse_answers=True).chunks() for spec in chunk.specs()]
    assert [spec.request_id for spec in specs] == ["0", "1"]
    (follow_up,) = ConversationTraffic(log, reuse_answers=True).follow_ups("0", 10.0)
    assert follow_up.content == (("in:2", 40),)


# ---------------------------------------------------------------------- small parts


def test_the_error_of_a_figure_is_relative():
    assert Figure(name="ttft_mean", measured=2.0, predicted=2.5).error == 0.25
    assert math.isnan(Figure(name="ttft_mean", measured=0.0, predicted=2.5).error)


def test_requests_in_the_system_count_the_arriving_one():
    assert requests_in_system(np.array([0.0, 1.0, 2.0, 9.0]), np.array([1.5, 5.0, 1.0, 1.0])).tolist() == [1, 2, 2, 1]


# ---------------------------------------------------------------------- single steps


def steps_file(tmp_path, **changes):
    rows = [
        {"model": model, "tp": 1, "sm_pct": share, "batch": batch, "seqlen": 64}
        | {"prefill_ms": 9.0 + batch, "decode_ms": 8.0 + 0.1 * batch}
        for model in ("llama-7b", "llama-13b")
        for share in (50, 100)
        for batch in range(1, 11)
    ]
    write_csv(tmp_path / "steps.csv", rows)
    log = {"kind": "steps", "path": "steps.csv", "hardware": "a100-80gb", "leave_out": "share", "judged": [0.5]}
    about = {key: SERVER[key] for key in ("source", "model", "gpu", "engine_version")}
    path = tmp_path / "steps.yaml"
    path.write_text(yaml.safe_dump({**about, "log": log | changes}))
    return str(path)


def test_single_steps_are_predicted_by_a_law_of_the_others(tmp_path):
    evaluation = open_measurement(steps_file(tmp_path)).evaluate()
    assert (evaluation.comparison.rows, evaluation.comparison.rows_in_log) == (40, 80)
    assert set(evaluation.comparison.row_errors) == {
        f"{kind}_{statistic}_error" for kind in ("prefill", "decode") for statistic in ("median", "p90")
    }
    assert evaluation.fitted_on == "the other shares of the sweep"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judged": [0.6]}, "no share 0.6; allowed in log.judged: 0.5, 1.0"),
        ({"leave_out": "model", "judged": ["llama-70b"]}, "no model 'llama-70b'"),
        ({"leave_out": "tp"}, "log.leave_out is 'tp'"),
        ({"hardware": "a100-80g"}, "did you mean 'a100-80gb'"),
        ({"path": "gone.csv"}, "gone.csv"),
        ({"judged": []}, "log.judged"),
    ],
)
def test_wrong_measurements_of_steps_are_named(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        open_measurement(steps_file(tmp_path, **changes))


def test_single_steps_cannot_be_fitted_on(tmp_path):
    with pytest.raises(InputError, match="measurement of single steps"):
        load_measurement(steps_file(tmp_path))
