"""Bad measurements are refused with what is allowed and the fix, and nothing is written."""

import json
import re

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from latency_models.config import parse_latency
from latency_models.errors import InputError
from latency_models.fits.model_files import range_notes, read_model_file, shipped_models
from latency_models.sections.file import FileLatency
from scenarios.calibration.sources import kind_of
from scenarios.calibration.speed_change import speed_change_note
from scenarios.cli import cli
from scenarios.latency_notes import latency_notes
from sim.settings import EngineSettings

STEPS = "n_tokens,n_prefill_tokens,n_prefill_seqs,n_decode,sum_context,duration\n"
REQUESTS = "arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n"
GRID = "model,tp,sm_pct,batch,seqlen,prefill_ms,decode_ms\n"


def decode_steps(count=40, duration=lambda row: 0.01 + 0.0001 * (row % 7)):
    return "".join(f"{1 + row % 7},0,0,{1 + row % 7},{100 * (1 + row % 5)},{duration(row)}\n" for row in range(count))


def request_rows(count=40, unit=1.0):
    return "".join(f"{row},100,20,{0.1 * unit},{(0.1 + 19 * 0.02) * unit}\n" for row in range(count))


def bench(**changed):
    values = {
        "start_times": [0.0, 0.1],
        "input_lens": [100, 50],
        "output_lens": [3, 3],
        "ttfts": [0.05, 0.05],
        "itls": [[0.02, 0.02], [0.02, 0.02]],
    }
    return json.dumps(values | changed)


def failing(tmp_path, name, text, *options):
    """Message of a calibration that must fail, and leave nothing behind."""
    source = tmp_path / name
    if text is not None:
        source.write_text(text)
    before = sorted(tmp_path.iterdir())
    result = CliRunner().invoke(cli, ["calibrate", str(source), "--out", str(tmp_path / "model.yaml"), *options])
    assert isinstance(result.exception, InputError), result.output
    assert sorted(tmp_path.iterdir()) == before
    return str(result.exception)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.csv", None, "does not exist; check the path"),
        ("other.csv", "a,b\n1,2\n", "not recognised by its first line"),
        ("steps.csv", STEPS, "has a header and no rows"),
        ("steps.csv", STEPS + decode_steps(3), "only 3 steps can be used; allowed: at least 10"),
        ("steps.csv", STEPS + "1,0,0,1,100,nan\n", "line 2, duration is 'nan'"),
        ("steps.csv", STEPS + decode_steps(5) + "1,0,0,1,100,0\n", "line 7, duration is '0'"),
        ("steps.csv", STEPS + "1,0,0,1,-5,0.01\n", "line 2, sum_context is '-5'"),
        ("steps.csv", STEPS.replace("duration", "took") + decode_steps(), "a time of each step"),
        ("steps.csv", STEPS + decode_steps(duration=lambda _: 12.5), "say so: --unit ms"),
        ("steps.csv", STEPS + decode_steps(duration=lambda _: 9500), "say so: --unit us"),
        ("steps.csv", STEPS + decode_steps(duration=lambda _: 1e-7), "allowed: 20 us to 2 s"),
        ("steps.csv", "", "is empty"),
        ("steps.csv", "\0\1\2", "is a binary file"),
        ("steps.csv", (STEPS + decode_steps()).replace(",", ";"), "separated by commas"),
        ("steps.csv", STEPS + "5,0,0,9,100,0.01\n", "n_prefill_tokens + n_decode, which is 9"),
        ("steps.csv", STEPS.replace("sum", "duration,sum") + decode_steps(), "column 'duration' more than once"),
        ("steps.csv", STEPS.replace("duration", "duration,duration_ms") + "1,0,0,1,9,1,10\n", "one duration of each"),
        ("steps.csv", STEPS.replace("duration", "took_ms") + decode_steps(), "what --unit says"),
        ("requests.csv", REQUESTS.replace("e2e_s", "ttft_ms") + request_rows(), "ttft more than once: ttft_s, ttft_ms"),
        ("requests.csv", REQUESTS + request_rows().replace(",100,", ",0,", 1), "line 2, prompt_tokens is '0'"),
        ("requests.csv", "t,a,b\n1,2,3\n", "a column of arrivals, as arrival, arrival_time"),
        ("bench.json", "{", "cannot read"),
        ("bench.json", bench(start_times=None), "vLLM 0.15"),
        ("bench.json", bench(itls=[None, [0.02, 0.02]]), "request 0, itls is None"),
        ("bench.json", "{}", "Run it with --save-result --save-detailed"),
        ("bench.json", bench(itls=[[0.02, 0.02]]), "one entry for each request"),
        ("bench.json", bench(errors=["refused", "refused"]), "no finished request"),
        ("bench.json", bench(itls=[[0.02], [0.02]]), "2 with several tokens in one message"),
        ("bench.json", bench(ttfts=[-0.05, 0.05]), "request 0, ttfts is -0.05"),
        ("bench.json", bench(itls=[[0.02, float("nan")], [0.02, 0.02]]), "request 0, itls is nan"),
        ("bench.json", bench(output_lens=[1, 1], itls=[[], []]), "outputs of several tokens"),
        ("requests.csv", REQUESTS + request_rows(5), "has 5 requests to use; allowed: at least 20"),
        ("requests.csv", REQUESTS.replace("e2e_s", "end") + request_rows(), "no TTFT, or neither an end nor a TPOT"),
        ("requests.csv", "arrival_s,prompt_tokens,ttft_s\n0,1,1\n", "no column recognised as output_tokens"),
        ("requests.csv", REQUESTS.replace("_s", "") + request_rows(unit=1e3), "from column"),
        (
            "sweep.csv",
            "concurrency,isl,osl,ttft_ms\n1,100,10,50\n2,100,10,60\n",
            "has 2 rows to use; allowed: at least 5",
        ),
        ("grid.csv", GRID + "a,1,100,1,32,20,10\n", "model=NAME and tp=N"),
    ],
)
def test_bad_sources_are_refused(tmp_path, name, text, message):
    assert message in failing(tmp_path, name, text)


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("steps.csv", STEPS + decode_steps(), ["--where", "a=b"], "only with a grid"),
        ("steps.csv", STEPS + decode_steps(), ["--set", "engine.max_num_seqs=8"], "none with steps"),
        ("steps.csv", STEPS + decode_steps(), ["--column", "ttft=x"], "only with requests and sweeps"),
        ("steps.csv", STEPS + decode_steps(), ["--separate-overhead"], "needs steps whose CPU time is known"),
        ("steps.csv", STEPS + decode_steps(), ["--noise"], "needs a few hundred consecutive steps"),
        ("steps.csv", STEPS + decode_steps(), ["--plot", "residuals.txt"], "ends in .png, .svg, .pdf"),
        ("steps.csv", STEPS + decode_steps(), ["--from", "iteration-log"], "--enable-logging-iteration-details"),
        ("steps.csv", STEPS + decode_steps(), ["--from", "grid", "--unit", "ms"], "grid has milliseconds"),
        ("bench.json", bench(), ["--set", "max_num_seqs=8"], "engine.NAME=VALUE"),
        ("bench.json", bench(), ["--set", "engine.max_seqs=8"], "did you mean 'max_num_seqs'"),
        ("bench.json", bench(), ["--set", "engine.max_num_batched_tokens=0"], "an integer >= 1"),
        ("requests.csv", REQUESTS + request_rows(), ["--noise"], "only where steps are measured"),
        ("requests.csv", REQUESTS + request_rows(), ["--plot", "a.txt"], "ends in .png, .svg, .pdf"),
        ("requests.csv", REQUESTS + request_rows(), ["--column", "ttft=none"], "a column of"),
        ("requests.csv", REQUESTS + request_rows(), ["--column", "first=ttft_s"], "a name of arrival"),
        ("requests.csv", REQUESTS + request_rows(), ["--column", "ttft"], "not of the form NAME=VALUE"),
    ],
)
def test_options_without_effect_or_sense_are_refused(tmp_path, name, text, options, message):
    assert message in failing(tmp_path, name, text, *options)


def test_a_source_is_not_overwritten(tmp_path):
    source = tmp_path / "s.csv"
    source.write_text(STEPS + decode_steps())
    result = CliRunner().invoke(cli, ["calibrate", str(source), "--out", str(source)])
    assert "another file; this one is a source" in str(result.exception)
    assert source.read_text() == STEPS + decode_steps()


def test_earlier_results_are_not_overwritten_unasked(tmp_path):
    source, model, plot = (tmp_path / name for name in ("s.csv", "model.yaml", "plot.png"))
    source.write_text(STEPS + decode_steps())
    for earlier in (model, plot):
        earlier.write_text("mine")
        arguments = ["calibrate", str(source), "--out", str(model), "--plot", str(plot)]
        result = CliRunner().invoke(cli, arguments)
        assert f"{earlier} exists already" in str(result.exception)
        assert earlier.read_text() == "mine"
        result = CliRunner().invoke(cli, [*arguments, "--overwrite"])
        assert result.exit_code == 0, result.exception
        model.unlink()


def test_a_place_that_takes_no_file_is_named_with_its_option(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    message = failing(tmp_path, "s.csv", STEPS + decode_steps())
    assert message.startswith("--out: nothing can be written to")
    assert "Read-only file system" in message


def test_a_duration_may_name_its_unit(tmp_path):
    (tmp_path / "steps.csv").write_text(
        STEPS.replace("duration", "duration_ms") + decode_steps(duration=lambda _: 12.5)
    )
    result = CliRunner().invoke(cli, ["calibrate", str(tmp_path / "steps.csv"), "--out", str(tmp_path / "model.yaml")])
    assert result.exit_code == 0, result.exception
    assert yaml.safe_load((tmp_path / "model.yaml").read_text())["latency"]["base_s"] == pytest.approx(0.0125)


def test_a_named_column_is_enough_to_recognise_a_table(tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("t_s,prompt_tokens,output_tokens,ttft_s\n0,1,1,0.1\n")
    with pytest.raises(InputError, match="not recognised"):
        kind_of(table)
    assert kind_of(table, ["arrival"]) == "requests"
    assert kind_of(table, ["rate"]) == "sweep"


def test_a_change_of_speed_is_told_with_its_place():
    rng = np.random.default_rng(1)
    noise = rng.normal(0.0, 0.04, 2000)
    assert speed_change_note(noise) is None
    note = speed_change_note(noise + np.where(np.arange(2000) < 700, 0.08, -0.06))
    near = int(re.search(r"near step ([\d,]+) of 2,000", note)[1].replace(",", ""))
    assert abs(near - 700) < 20
    # Hiccups of single steps are none.
    assert speed_change_note(noise + 5.0 * (np.arange(2000) % 400 == 0)) is None


def test_two_kinds_of_sources_or_a_missing_folder_are_refused(tmp_path):
    (tmp_path / "bench.json").write_text(bench())
    assert "one kind in a calibration" in failing(
        tmp_path, "s.csv", STEPS + decode_steps(), str(tmp_path / "bench.json")
    )
    result = CliRunner().invoke(cli, ["calibrate", str(tmp_path / "s.csv"), "--out", str(tmp_path / "no" / "m.yaml")])
    assert "does not exist; create it first" in str(result.exception)


def test_a_named_unit_is_believed(tmp_path):
    (tmp_path / "steps.csv").write_text(STEPS + decode_steps(duration=lambda row: 10 + row % 7))
    model = tmp_path / "model.yaml"
    result = CliRunner().invoke(cli, ["calibrate", str(tmp_path / "steps.csv"), "--unit", "ms", "--out", str(model)])
    assert result.exit_code == 0, result.exception
    assert "per_prefill_pair_s (the time per query-key pair of prefill attention) is not in the data" in result.output
    values = yaml.safe_load(model.read_text())
    assert values["latency"]["base_s"] == pytest.approx(0.009, rel=0.2)
    assert "per_prefill_pair_s" not in values["intervals"]
    assert any("not in the data" in note for note in values["warnings"])


# ---------------------------------------------------------------------- model files


LAW = "latency: {kind: linear, base_s: 0.01}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("notes: []\n", "latency is None"),
        (LAW + "latancy: 1\n", "unknown key in"),
        ("latency: {kind: file, path: model.yaml}\n", "not the name of another file"),
        ("latency: {kind: linear, base_s: -1}\n", "latency.linear.base_s"),
        ("latency: {kind: linear}\n", "some steps take no time"),
        (LAW + "valid_range: {tokens: [5, 1]}\n", "two finite numbers in order"),
        (LAW + "valid_range: {tokens: [1, .inf]}\n", "two finite numbers in order"),
        (LAW + "notes: all well\n", "a list of sentences"),
    ],
)
def test_bad_model_files_are_refused(tmp_path, text, message):
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(ValueError, match="Value error") as caught:
        FileLatency(kind="file", path=str(tmp_path / "model.yaml"))
    assert message in str(caught.value)


def test_a_file_section_names_one_file():
    for keys in ({}, {"path": "a.yaml", "name": "b"}):
        with pytest.raises(ValueError, match="give either path"):
            FileLatency(kind="file", **keys)
    with pytest.raises(ValueError, match="unknown calibrated model 'gpt'"):
        FileLatency(kind="file", name="gpt")


def test_every_shipped_model_can_be_built():
    for name in shipped_models():
        assert FileLatency(kind="file", name=name).build().step_s(100, 1, 100, 5000.0, 0, 0, 1) > 0.0


def test_limits_beyond_the_measured_range_are_told(tmp_path):
    (tmp_path / "model.yaml").write_text(LAW + "valid_range: {tokens: [1, 512], sequences: [1, 8]}\n")
    model = read_model_file(tmp_path / "model.yaml")
    (note,) = range_notes(model, {"tokens": 2048, "sequences": 8, "context": 100})
    assert note.startswith("model.yaml was measured up to 512 tokens in a step, and the engine allows 2048")


def test_a_scenario_is_told_what_its_models_are_not_measured_for(tmp_path):
    (tmp_path / "model.yaml").write_text(LAW + "valid_range: {tokens: [1, 512]}\nnotes: [Measured at night.]\n")
    base = {"kind": "file", "path": str(tmp_path / "model.yaml")}
    for section in (base, {"kind": "corrected", "factor": 1.1, "base": base}):
        notes = latency_notes(parse_latency(section), EngineSettings(max_num_batched_tokens=2048))
        assert any("up to 512 tokens in a step, and the engine allows 2048" in note for note in notes)
    assert "Measured at night." in latency_notes(parse_latency(base), EngineSettings())
    assert latency_notes(parse_latency({"kind": "linear", "base_s": 0.01}), EngineSettings()) == []
