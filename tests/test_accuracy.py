import csv
import json
from dataclasses import replace

import pytest
import yaml

from scenarios.cli import main
from scenarios.measurements.evaluation import OpenMeasurement, open_measurement
from scenarios.measurements.measurement_files import WITH_PACKAGE_TABLES, find_measurement, shipped_names, usable_names
from scenarios.measurements.report import markdown, print_tables

MEASUREMENT = {
    "source": "made up, public domain",
    "model": "toy",
    "gpu": "none",
    "engine_version": "vLLM 0.19.0",
    "assumptions": ["nothing"],
    "latency": {"kind": "linear", "base_s": 0.01},
    "engine": {"num_gpu_blocks": 1000},
    "log": {
        "kind": "requests",
        "path": "log.csv",
        "columns": {
            "arrival": "at_s",
            "prompt_tokens": "in",
            "output_tokens": "out",
            "ttft": "ttft_ms",
            "e2e": "e2e_ms",
        },
    },
}


@pytest.fixture
def made(tmp_path):
    with (tmp_path / "log.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["at_s", "in", "out", "ttft_ms", "e2e_ms"])
        # Each alone on the server, which takes 10 ms a step: measured 25 % slower.
        writer.writerows([number, 100, 11, 12.5, 137.5] for number in range(20))
    path = tmp_path / "made.yaml"

    def write(**more):
        path.write_text(yaml.safe_dump(MEASUREMENT | more))
        return str(path)

    return write


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["accuracy", *arguments])
    return ended.value.code


def test_the_table_shows_errors_and_what_was_fitted(made, capsys):
    main(["accuracy", made()])
    out = capsys.readouterr().out
    assert "-20.0 %" in out
    assert "TTFT p99" in out
    assert "Fitted on: nothing" in out
    assert "Assumed: nothing" in out


def test_json_holds_every_figure(made, capsys):
    main(["accuracy", made(), made(), "--format", "json"])
    first, second = json.loads(capsys.readouterr().out)
    assert first == second
    assert first["figures"]["ttft_mean"] == pytest.approx({"measured": 0.0125, "predicted": 0.01, "error": -0.2})
    assert first["row_errors"]["e2e_median_error"] == pytest.approx(0.2)
    assert (first["rows_judged"], first["fit"], first["fitted"]) == (20, None, None)


def test_markdown_goes_to_a_file(made, tmp_path, capsys):
    out = tmp_path / "accuracy.md"
    main(["accuracy", made(), "--format", "markdown", "--out", str(out)])
    assert capsys.readouterr().out == ""
    text = out.read_text()
    assert "| made | 20 of 20 requests | -20.0 % (20.0 %) |" in text
    assert "## made" in text
    assert "- Source: made up, public domain" in text


def test_a_fit_is_reported_with_its_intervals(made, capsys):
    fit = {"parameters": {"latency.base_s": {"start": 0.01}}, "part": {"rows": [[0, 5]]}}
    main(["accuracy", made(fit=fit), "--format", "json"])
    (found,) = json.loads(capsys.readouterr().out)
    parameter = found["fit"]["parameters"]["latency.base_s"]
    assert parameter["value"] == pytest.approx(0.0125, rel=1e-3)
    assert parameter["interval_95"][0] <= 0.0125001
    assert parameter["interval_95"][1] >= 0.0124999
    assert (found["rows_judged"], found["fit"]["rows"]) == (15, 5)
    assert abs(found["figures"]["e2e_mean"]["error"]) < 1e-3
    main(["accuracy", made(fit=fit)])
    assert "5 other rows of the same log" in " ".join(capsys.readouterr().out.split())


def test_figures_that_got_worse_are_named_and_fail(made, capsys):
    assert run(made(expect={"ttft_mean": 0.3, "e2e_mean": 0.1})) == 1
    captured = capsys.readouterr()
    assert "Worse than expected: e2e_mean is 0.2" in captured.out
    assert "ttft_mean is" not in captured.out
    assert "less accurate than their files expect: made" in captured.err


def test_plots_are_drawn(made, tmp_path):
    plots = tmp_path / "plots"
    main(["accuracy", made(), "--plots", str(plots), "--format", "json", "--out", str(tmp_path / "all.json")])
    assert (plots / "made.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_shows_the_pictures(made, tmp_path):
    page = tmp_path / "docs" / "accuracy.md"
    page.parent.mkdir()
    plots = tmp_path / "docs" / "plots"
    main(["accuracy", made(), "--plots", str(plots), "--format", "markdown", "--out", str(page)])
    assert "![made](plots/made.png)" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "an existing YAML file"),
        (["cpu-toys-havy"], "did you mean 'cpu-toys-heavy'"),
        ([], "Missing argument"),
        (["--out", "x.txt"], "--out goes with --format json or markdown"),
        (["--format", "json", "--out", "no/such/folder/x.json"], "create it first"),
    ],
)
def test_bad_input_ends_with_status_2(made, capsys, arguments, message):
    files = [] if arguments in ([], ["nowhere.yaml"], ["cpu-toys-havy"]) else [made()]
    assert run(*files, *arguments) == 2
    assert message in capsys.readouterr().err


def test_an_earlier_result_is_not_overwritten_unasked(made, tmp_path, capsys):
    out = tmp_path / "all.json"
    out.write_text("mine")
    assert run(made(), "--format", "json", "--out", str(out)) == 2
    assert "give --overwrite to replace it" in capsys.readouterr().err
    assert out.read_text() == "mine"
    main(["accuracy", made(), "--format", "json", "--out", str(out), "--overwrite"])
    assert json.loads(out.read_text())[0]["name"] == "made"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"ttft": "ttft", "e2e": "e2e"}, "median tpot in seconds, from columns 'ttft', 'e2e'"),
        ({"arrival": "t_ms"}, "by t_ms, 2,105 requests arrive per second; allowed: at most 1,000"),
    ],
)
def test_implausible_units_are_refused(made, tmp_path, capsys, columns, message):
    (tmp_path / "log.csv").write_text(
        "at_s,t_ms,in,out,ttft_ms,e2e_ms,ttft,e2e\n"
        + "".join(f"{n / 2},{n / 2},100,101,75,2934,75,2934\n" for n in range(20))
    )
    log = {**MEASUREMENT["log"], "columns": {**MEASUREMENT["log"]["columns"], **columns}}
    assert run(made(log=log)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "give unit beside the columns" in err
    if "ttft" in columns:
        main(["accuracy", made(log={**log, "unit": "ms"}), "--format", "json"])
        (found,) = json.loads(capsys.readouterr().out)
        assert found["figures"]["e2e_mean"]["measured"] == pytest.approx(2.934)


def test_an_old_name_of_files_to_fit_on_is_explained(made, tmp_path, capsys):
    path = made(fit={"parameters": {"latency.base_s": {"start": 0.01}}})
    (tmp_path / "made.yaml").write_text((tmp_path / "made.yaml").read_text().replace("fit:\n", "fit:\n  on: [x]\n"))
    assert run(path) == 2
    assert "the measurement files to fit on are named by 'files'" in capsys.readouterr().err


def test_the_summary_fits_a_narrow_terminal(made, tmp_path, capsys):
    name = "h100-llama-3.1-70b-fp8-tp2"
    print_tables([open_measurement(made(name=name)).evaluate()], width=80)
    lines = capsys.readouterr().out.split("Accuracy")[1].splitlines()
    assert max(map(len, lines)) <= 80
    assert any("h100-llama-3.1-70b-" in line and "-20.0 %" in line for line in lines)
    assert any("fp8-tp2" in line and "(20.0 %)" in line for line in lines)
    assert any("requests" in line for line in lines)


def test_ends_of_a_narrow_interval_differ(made, capsys):
    fit = {"parameters": {"latency.base_s": {"start": 0.01}}, "part": {"rows": [[0, 5]]}}
    found = open_measurement(made(fit=fit)).evaluate()
    parameter = replace(found.fit.parameters[0], value=0.008, low=0.00799999, high=0.00800001)
    print_tables([replace(found, fit=replace(found.fit, parameters=(parameter,)))])
    assert "0.00799999 to 0.00800001" in " ".join(capsys.readouterr().out.split())


def test_all_files_are_checked_before_the_first_is_simulated(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(OpenMeasurement, "evaluate", lambda *_: pytest.fail("simulated too early"))
    bad = tmp_path / "bad.yaml"
    bad.write_text(yaml.safe_dump({**MEASUREMENT, "log": {**MEASUREMENT["log"], "path": "gone.csv"}}))
    assert run(made(), str(bad)) == 2
    assert "gone.csv does not exist" in capsys.readouterr().err


def test_a_missing_data_folder_is_named(capsys, monkeypatch):
    monkeypatch.delenv("ROUTERWISE_DATA", raising=False)
    assert run("cpu-toys-heavy") == 2
    err = capsys.readouterr().err
    assert "ROUTERWISE_DATA, which is not set" in err
    assert "try docs/examples/vllm-cpu.measurement.yaml" in err


# ---------------------------------------------------------------------- the measurements that come with the package


def test_files_whose_tables_are_not_installed_are_not_in_all(monkeypatch):
    def without_tables(name):
        return None if name == "aiconfigurator_core" else object()

    monkeypatch.setattr("importlib.util.find_spec", without_tables)
    left_out = set(shipped_names()) - set(usable_names())
    assert left_out == {path.stem for path in WITH_PACKAGE_TABLES.glob("*.yaml")}
    assert left_out
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    assert usable_names() == shipped_names()


# Each of these fits the law of a whole sweep several times; the same is held to its figures in test_steps.
SWEEPS = {"a100-llama-steps-30-percent", "a100-llama-steps-100-percent", "a100-llama-steps-7b-65b"}


@pytest.mark.parametrize("name", [name for name in shipped_names() if name not in SWEEPS])
def test_shipped_measurements_are_predicted_as_well_as_ever(data_root, name):
    if find_measurement(name).parent == WITH_PACKAGE_TABLES:
        pytest.importorskip("aiconfigurator_core", reason="its operator tables are needed: install [aiconfigurator]")
    opened = open_measurement(name)
    assert opened.measurement.expect, "say what it reaches"
    evaluation = opened.evaluate()
    assert evaluation.missed() == {}
    assert opened.measurement.name in markdown([evaluation])
