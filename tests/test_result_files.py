"""The files of a run directory, read back by independent readers."""

import csv
import importlib.util
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_results import make_result

from analysis.metrics import RequestLatencies
from analysis.result_files import (
    REQUEST_COLUMNS,
    TIMESERIES_COLUMNS,
    replacing,
    write_requests_csv,
    write_requests_parquet,
    write_summary,
    write_timeseries_csv,
)
from latency_models.errors import InputError
from sim.results import Status

TIMES = ("arrival_s", "scheduled_s", "first_token_s", "last_token_s", "finish_s")


@st.composite
def tables(draw):
    rows = []
    for _ in range(draw(st.integers(0, 6))):
        # A request gets as far as `stages` events; the rest never happened.
        stages = draw(st.integers(1, 5))
        times = sorted(draw(st.lists(st.floats(0, 1e6), min_size=5, max_size=5)))
        row = {name: time if i < stages else math.nan for i, (name, time) in enumerate(zip(TIMES, times, strict=True))}
        routed = draw(st.integers(-1, 1))
        row |= {
            "model": routed,
            "replica": routed,
            "request_class": draw(st.integers(0, 1)),
            "status": Status.FINISHED if stages == 5 else draw(st.sampled_from(list(Status)[1:])),
            "generated_tokens": draw(st.integers(0, 3)),
            "request_id": draw(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=4)),
            "session": draw(st.none() | st.sampled_from(["s1", 'a "b", c', "line\nbreak", "nan"])),
        }
        rows.append(row)
    named = draw(st.booleans())
    return make_result(rows, named=named, sessions=named, models=("a,b", 'quo"te'), classes=("nan", "code"))


def read(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@given(tables())
def test_requests_csv_reads_back(tmp_path_factory, result):
    path = tmp_path_factory.mktemp("csv") / "requests.csv"
    write_requests_csv(path, result)
    lines = read(path)
    requests, latencies = result.requests, RequestLatencies.of(result.requests)
    assert len(lines) == len(requests)
    for row, line in enumerate(lines):
        assert tuple(line) == REQUEST_COLUMNS
        model = int(requests.model[row])
        assert line["request_id"] == (requests.request_id[row] if requests.request_id else str(row))
        assert line["session"] == ((requests.session[row] or "") if requests.session else "")
        assert line["model"] == ("" if model < 0 else result.models[model])
        assert line["replica"] == ("" if model < 0 else result.replicas[model].name)
        assert line["class"] == result.classes[int(requests.request_class[row])]
        assert line["status"] == Status(requests.status[row]).name.lower()
        assert float(line["arrival_s"]) == pytest.approx(requests.arrival_s[row], abs=1e-9)
        assert int(line["generated_tokens"]) == requests.generated_tokens[row]
        for name in ("queue_s", "ttft_s", "tpot_s", "e2e_s"):
            value = float(getattr(latencies, name)[row])
            if math.isnan(value):
                assert line[name] == ""
            else:
                assert float(line[name]) == pytest.approx(value, abs=1e-9)


@given(tables())
def test_parquet_holds_the_same_table(tmp_path_factory, result):
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path_factory.mktemp("parquet")
    write_requests_parquet(folder / "requests.parquet", result)
    write_requests_csv(folder / "requests.csv", result)
    table = parquet.read_table(folder / "requests.parquet")
    assert tuple(table.column_names) == REQUEST_COLUMNS
    for line, row in zip(read(folder / "requests.csv"), table.to_pylist(), strict=True):
        for name, value in row.items():
            if value is None:
                assert line[name] == ""
            elif isinstance(value, float):
                assert float(line[name]) == pytest.approx(value, abs=1e-9)
            else:
                assert line[name] == str(value)


def test_more_rows_than_a_chunk(tmp_path):
    rows = [{"arrival_s": i / 10, "scheduled_s": i / 10 + 0.25} for i in range(45_000)]
    path = tmp_path / "requests.csv"
    write_requests_csv(path, make_result(rows))
    lines = read(path)
    assert [line["request_id"] for line in lines] == [str(i) for i in range(45_000)]
    assert lines[44_999]["arrival_s"] == "4499.900000000"
    assert {line["queue_s"] for line in lines} == {"0.250000000"}
    parquet = pytest.importorskip("pyarrow.parquet")
    write_requests_parquet(tmp_path / "requests.parquet", make_result(rows))
    assert parquet.read_table(tmp_path / "requests.parquet")["request_id"].to_pylist() == [
        str(i) for i in range(45_000)
    ]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install pyarrow"):
        write_requests_parquet(tmp_path / "requests.parquet", make_result([], end_s=1.0))
    assert list(tmp_path.iterdir()) == []


def test_timeseries(tmp_path):
    samples = [[1.0, 0, 3, 2, 25, 100, 0.5], [1.0, 1, 0, 0, 0, 0, 0.0]]
    write_timeseries_csv(tmp_path / "timeseries.csv", make_result([], samples=samples, models=("a,b", "large")))
    lines = read(tmp_path / "timeseries.csv")
    assert tuple(lines[0]) == TIMESERIES_COLUMNS
    assert list(lines[0].values()) == ["1.000000000", "a,b", "a,b-0", "3", "2", "0.250000", "0.500000"]
    assert lines[1]["kv_used_frac"] == "0.000000"


def test_summary_json_refuses_what_json_cannot_hold(tmp_path):
    write_summary(tmp_path / "summary.json", {"a": {"b": 1.5, "c": None}})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"a": {"b": 1.5, "c": None}}
    assert (tmp_path / "summary.json").read_text().endswith("}\n")
    with pytest.raises(ValueError, match="JSON"):
        write_summary(tmp_path / "other.json", {"a": math.nan})
    assert not (tmp_path / "other.json").exists()


def test_replacing_is_all_or_nothing(tmp_path):
    path = tmp_path / "file.txt"
    with replacing(path) as stream:
        stream.write("first")
    assert path.read_text() == "first"

    def fail_midway():
        with replacing(path) as stream:
            stream.write("second")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_midway()
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_os_error(tmp_path):
    for write in (write_requests_csv, write_timeseries_csv, write_requests_parquet):
        with pytest.raises(FileNotFoundError):
            write(tmp_path / "missing" / "file", make_result([]))
