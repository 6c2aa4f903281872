"""``routerwise show``: pictures of text, what each kind of result shows, and damaged results."""

import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.cells import cell_len
from rich.console import Console

from analysis.stored.results import StoredDocument, read_results
from analysis.stored.run import StoredRun
from analysis.terminal.document_text import comparison_text, frontier_text, plan_text, stress_text, validation_text
from analysis.terminal.run_text import run_text
from analysis.terminal.show import results_canvas, show_results
from analysis.terminal.text_graphics import Canvas, LogAxis, in_columns, slots
from scenarios.cli import main

CANVAS = Canvas(width=80)
ASCII = Canvas(width=80, blocks=False)


def shown(parts, width=80, **options):
    """Parts as a terminal of that width shows them, without colours."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False, **options)
    for part in parts:
        console.print(part)
    return stream.getvalue()


# ------------------------------------------------------------------ pictures of text


def test_sparklines():
    assert CANVAS.sparkline([0, 1, 2, 4, 8]) == " ▁▂▄█"
    assert CANVAS.sparkline([0, 1e-9, 8]) == " ▁█", "what is there shows"
    assert CANVAS.sparkline([1, math.nan, 2], highest=4) == "▂ ▄"
    assert CANVAS.sparkline([0.0, 0.0]) == "  "
    assert CANVAS.sparkline([]) == ""
    assert ASCII.sparkline([0, 4, 8]).isascii()


def test_bars():
    assert [len(CANVAS.bar(share, 10)) for share in (0.0, 1e-6, 0.5, 1.0, 7.0)] == [0, 1, 5, 10, 10]
    assert ASCII.bar(0.5, 4) == "##"


@pytest.mark.parametrize("width", [10, 36, 120])
def test_every_latency_falls_on_the_axis(width):
    values = np.random.default_rng(1).lognormal(4.0, 1.5, 5000)
    axis = LogAxis.over(values, width, also=30_000.0)
    counts = axis.counts(np.append(values, np.nan))
    assert counts.sum() == 5000
    assert len(counts) == width
    for value in (1e-9, *values[:200], 30_000.0, 1e9):
        assert 0 <= axis.place(value) < width
    some = values[(values > axis.low) & (values < axis.high)]
    assert np.array_equal(np.bincount([axis.place(value) for value in some], minlength=width), axis.counts(some))


def test_labels_stand_where_their_values_are():
    axis = LogAxis(low=8.0, high=1300.0, width=40)
    labels = axis.labels()
    for text in labels.split():
        assert labels.index(f" {text}") + 1 == axis.place(float(text.replace(",", ""))) or labels.startswith(text)
    assert {"10", "100"} <= set(labels.split())
    assert len(labels) <= 40
    assert LogAxis(low=110.0, high=140.0, width=20).labels(), "an axis without a round number has a label all the same"


def test_an_axis_needs_values_and_has_a_width():
    assert LogAxis.over(np.array([np.nan, 0.0]), 10) is None
    constant = LogAxis.over(np.full(7, 25.0), 10)
    assert constant.low < 25.0 < constant.high
    assert constant.counts(np.full(7, 25.0)).max() == 7


def test_a_mark_points_at_its_value():
    axis = LogAxis(low=10.0, high=1000.0, width=40)
    for value in (10.0, 100.0, 999.0):
        line = axis.mark(value, "SLO")
        assert line.index("^") == axis.place(value)
        assert len(line) <= 40


@pytest.mark.parametrize("width", [6, 7, 16])
def test_long_names_stay_different(width):
    names = ["model-with-a-long-name-1", "model-with-a-long-name-2", "short"]
    names += [f"org/model-of-{size}-with-a-long-name" for size in ("7b", "13b", "34b")]
    found = in_columns(names, width)
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    assert set(map(len, found.values())) == {width}


def test_names_fill_the_same_columns_in_any_script():
    assert set(
        map(cell_len, in_columns(["chat", "日本語のモデル", "日本語のとても長い名前のモデル"], 16).values())
    ) == {16}


def test_slots_are_means_and_repeat_over_gaps():
    times_s = np.array([0.0, 1.0, 2.0, 7.0])
    assert slots(times_s, np.array([1.0, 3.0, 5.0, 9.0]), 0.0, 8.0, 4).tolist() == [2.0, 5.0, 5.0, 9.0]


# ------------------------------------------------------------------ runs


CLIENT = {
    "kind": "synthetic",
    "arrivals": {"kind": "poisson", "rate_per_s": 6},
    "lengths": {"prompt": {"kind": "constant", "tokens": 200}, "output": {"kind": "constant", "tokens": 60}},
    "duration_s": 40,
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Three models with prompts and an SLO, two classes of requests, two replications."""
    folder = tmp_path_factory.mktemp("show")
    workload = {"kind": "mixture", "clients": [CLIENT | {"class": name} for name in ("[chat]", "code")]}
    changes = {"extends": "plan-demo", "slo": "ttft:200 tpot:60", "workload": workload}
    changes |= {"run": {"replications": 2, "warmup": 5}}
    (folder / "two.yaml").write_text(yaml.safe_dump(changes))
    main(["run", str(folder / "two.yaml"), "--out", str(folder / "run")])
    return folder / "run"


@pytest.fixture
def copied(run_folder, tmp_path):
    return Path(shutil.copytree(run_folder, tmp_path / "copy"))


def test_a_run_has_all_its_parts(run_folder):
    text = shown(run_text(StoredRun(run_folder), CANVAS))
    for part in ("Cluster: 4 x a100-80gb", "Latencies (ms)", "Over time, replication 0", "Quality of the answers"):
        assert part in text
    for part in ("SLO attainment by class", "[chat]", "Cost and energy", "Where this comes from", "SLO 200"):
        assert part in text


@pytest.mark.parametrize("width", [60, 80, 160])
def test_no_line_is_wider_than_the_terminal(run_folder, width):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None, highlight=False, markup=False)
    assert results_canvas(console).width == width
    show_results(read_results([run_folder]), console)
    drawn = [line for line in stream.getvalue().splitlines() if any(block in line for block in "▁▂▃▄▅▆▇█")]
    assert len(drawn) > 15
    assert max(map(len, drawn)) <= width
    assert all("…" not in line for line in drawn)


def test_figures_are_those_of_the_summary(run_folder):
    run = StoredRun(run_folder)
    text = shown(run_text(run, CANVAS))
    p95_ms = run.number("by_model", "llama-7b", "ttft_s", "p95") * 1e3
    line = next(line for line in text.splitlines() if line.startswith("llama-7b  "))
    assert line.split()[3] == (f"{p95_ms:,.0f}" if p95_ms >= 100 else f"{p95_ms:.1f}")
    attainment = run.number("by_class", "code", "slo_attainment")
    line = next(line for line in text.splitlines() if line.startswith("code "))
    assert f"{attainment:.1%}" in line


def test_verdict_first_and_no_colour_in_a_pipe(run_folder, routerwise):
    status, output, errors = routerwise("show", run_folder)
    assert (status, errors) == (0, "")
    assert output.startswith("Run two")
    assert output.index("kept their limits") < output.index("Cluster:")
    assert "\x1b" not in output


def test_ascii_where_blocks_cannot_be_shown(run_folder):
    text = shown(run_text(StoredRun(run_folder), ASCII))
    assert not any(block in text for block in "▁▂▃▄▅▆▇█")
    assert "@" in text


def test_parts_of_the_time_are_shown_where_they_are_known(copied):
    summary = json.loads((copied / "summary.json").read_text())
    figure = {"low": None, "high": None}
    parts = {
        name: {"mean": value, **figure} for name, value in {"waiting": 0.03, "prefill": 0.01, "preempted": 0.0}.items()
    }
    summary["overall"]["ttft_parts_s"] = {"mean": parts, "slowest": parts}
    (copied / "summary.json").write_text(json.dumps(summary))
    text = shown(run_text(StoredRun(copied), CANVAS)).split("Where the TTFT goes")[1].split("SLO attainment")[0]
    waiting = next(line for line in text.splitlines() if line.startswith("waiting "))
    assert waiting.split()[1] == "30.0"
    assert waiting.count("█") > 2 * next(line for line in text.splitlines() if line.startswith("prefill")).count("█")
    assert "preempted" not in text
    del summary["overall"]["ttft_parts_s"]
    (copied / "summary.json").write_text(json.dumps(summary))
    assert "Where the TTFT goes" not in shown(run_text(StoredRun(copied), CANVAS))


def test_shares_of_a_gpu_are_drawn_to_scale(copied):
    cluster = json.loads((copied / "cluster.json").read_text())
    cluster["gpus"]["count"] = 3
    shares = {"llama-7b/0": (0.75, 0.25), "llama-13b/0": (0.25, 0.25), "codellama-34b/0": (1.0, 0.5)}
    for replica in cluster["replicas"]:
        replica["gpus"] = [0, 1] if replica["name"] != "codellama-34b/0" else [1]
        replica["compute_share"], replica["memory_share"] = shares[replica["name"]]
    (copied / "cluster.json").write_text(json.dumps(cluster))
    lines = shown(run_text(StoredRun(copied), CANVAS)).splitlines()
    width = (80 - 12) // 2
    shared, crowded, unused = lines[3:6]
    assert shared.split()[0] == "0"
    assert abs(shared.count("a") - (0.75 + 0.25) * width) <= 1
    assert abs(shared.count("b") - (0.25 + 0.25) * width) <= 1
    assert crowded.startswith("1 200%"), "more is given out than there is"
    assert abs(crowded.count("c") - width) <= 1
    assert unused.split() == ["2", "." * width, "." * width]


def test_outages_are_lines_of_their_own(copied):
    (copied / "replication-0" / "outages.csv").write_text("replica,from_s,to_s\nllama-7b/0,10,20\nllama-7b/0,30,35\n")
    text = shown(run_text(StoredRun(copied), CANVAS))
    down = next(line for line in text.splitlines() if line.startswith("down"))
    assert down.split()[1] == "llama-7b/0"
    assert down.endswith("15 s")
    assert 15 <= sum(mark in "▁▂▃▄▅▆▇█" for mark in down) <= 20


def test_requests_after_the_last_sample_are_in_the_picture(copied):
    path = copied / "replication-0" / "timeseries.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(line for line in lines[1:] if float(line.split(",")[0]) < 20)]) + "\n")
    times_s = [
        float(line.split(",")[1]) for line in (copied / "replication-0" / "requests.csv").read_text().splitlines()[1:]
    ]
    assert max(times_s) > 30
    assert f"Over time, replication 0: 5 to {max(times_s):.4g} s" in shown(run_text(StoredRun(copied), CANVAS))


def test_json_has_verdicts_and_summaries(run_folder, routerwise):
    status, output, _ = routerwise("show", run_folder, "--json")
    assert status == 0
    found = json.loads(output)
    assert found["verdicts"][0]["subject"] == "Run two"
    assert found["runs"][0]["summary"] == json.loads((run_folder / "summary.json").read_text())


def test_several_results_have_a_heading_each(run_folder, copied, routerwise):
    status, output, _ = routerwise("show", run_folder, copied)
    assert status == 0
    assert "run two (run)" in output
    assert "run two (copy)" in output
    assert output.count("Cluster: ") == 2


def test_a_run_that_answered_nothing(routerwise, tmp_path):
    late = ("--set", "run.until_s=0.001", "--set", "run.warmup=0", "--set", "workload.arrivals.rate_per_s=5000")
    status, _, _ = routerwise("run", "mm1", *late, "--slo", "ttft:1", "--out", tmp_path / "run")
    assert status == 0
    status, output, errors = routerwise("show", tmp_path / "run")
    assert (status, errors) == (0, "")
    assert "0\N{NO-BREAK SPACE}% of all requests" in output
    assert "Latencies (ms)" not in output


# ------------------------------------------------------------------ other results


PLAN = {
    "schema_version": 1,
    "name": "by-hand",
    "gpus": {"count": 2, "usable_memory_gib": 70.0},
    "models": {"small": {"tp": 2, "compute_share": 0.4, "memory_share": 0.3, "replicas": [[0, 1]]}},
    "left_out": ["large"],
    "packing": "compute",
    "routing": [
        {"rate_per_s": 5.0, "weight": 1.0, "policy": "price", "prices": {"small": 0.0}, "fractions": {"small": 1.0}}
    ],
}
INTERVAL = {"estimate": 0.2, "low": 0.1, "high": 0.3}
STEP = {"name": "bursts", "effect": {"estimate": 0.1, "low": -0.1, "high": 0.3}}
GAP = {"name": "mean TTFT", "unit": "s", "promised": 0.1, "simulated": INTERVAL, "steps": [STEP]}
SLO = {"slo": "mean TTFT <= 150 ms", "outcome": "undecided", "statistic_s": INTERVAL, "missed": INTERVAL}
POINT = {"value": 1.5, "outcome": "broken", "replications": 5, "achieved_score": None, "strain": None}
AXIS = {"axis": "load", "target": None, "unit": "x", "points": [POINT, POINT | {"value": 1.0, "strain": 0.5}]}
FIGURES = {"achieved": {"mean": 0.5, "low": 0.4, "high": 0.6}}
POLICIES = {
    "price": {"figures": FIGURES, "differences": None},
    "random": {"figures": FIGURES, "differences": {"achieved": {"significant": True}}},
}
METRICS = [{"name": "achieved", "title": "score, achieved", "unit": "score"}]
ROWS = [
    {"sweep": "target", "target_ms": "60.0", "rate_per_s": "50", "score": "0.3", "setup": "a: tp 1; b: left out"},
    {"sweep": "target", "target_ms": "40.0", "rate_per_s": "50", "score": "", "setup": ""},
]
DOCUMENTS = {
    "plan": (plan_text, PLAN, ["small", "0,1", "40%", "100.0%", "left out: large"]),
    "validation": (
        validation_text,
        {"slos": [SLO], "gap": {"gaps": [GAP]}},
        ["undecided", "bursts", "+100", "[100, 300]"],
    ),
    "validation without gap": (validation_text, {"slos": [SLO]}, ["mean TTFT <= 150 ms"]),
    "stress": (
        stress_text,
        {"axes": [AXIS], "left_out": {"drift": "no prompts"}},
        ["load (x)", "50%", "broken", "drift"],
    ),
    "comparison": (
        comparison_text,
        {"metrics": METRICS, "policies": POLICIES, "reference": "price", "confidence": 0.95},
        ["0.5000*", "differs from price"],
    ),
    "frontier": (frontier_text, {"points": ROWS}, ["no plan keeps the SLO", "0.3000", "a: tp 1"]),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_show_their_essentials(name):
    text, content, expected = DOCUMENTS[name]
    found = shown(text(StoredDocument(path=Path("x"), name="x", content=content), CANVAS))
    for words in expected:
        assert words in found, found
    assert max(map(len, found.splitlines())) <= 80


def test_a_plan_is_shown_by_the_command(tmp_path, routerwise):
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    status, output, errors = routerwise("show", tmp_path / "plan.json")
    assert (status, errors) == (0, "")
    assert "Setup on 2 GPUs" in output


# ------------------------------------------------------------------ damaged results


def emptied(path):
    path.write_text("")


def without_keys(path):
    path.write_text("{}")


def removed(path):
    path.unlink()


def of_another_version(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))


def with_words_for_numbers(path):
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(",".join(["x"] * (line.count(",") + 1)) for line in lines[1:3])]))


def without_a_column(path):
    path.write_text(path.read_text().replace("running", "walking").replace("ttft_s", "other"))


@pytest.mark.parametrize(
    ("name", "damage", "expected"),
    [
        *((name, removed, "complete") for name in ("summary.json", "cluster.json", "scenario.yaml", "manifest.json")),
        *((name, emptied, "is not JSON") for name in ("summary.json", "cluster.json", "manifest.json")),
        ("summary.json", without_keys, "lacks the key 'slo'"),
        ("scenario.yaml", without_keys, "lacks the key 'name'"),
        ("cluster.json", without_keys, "lacks the key 'gpus'"),
        ("manifest.json", without_keys, "does not say its layout's version"),
        ("manifest.json", of_another_version, "has layout version 99; this routerwise reads version"),
        *((f"replication-1/{name}.csv", removed, "is not complete") for name in ("requests",)),
        *((f"replication-0/{name}.csv", removed, "is not complete") for name in ("timeseries",)),
        *((f"replication-0/{name}.csv", emptied, "cannot be read") for name in ("requests", "timeseries")),
        *(
            (f"replication-0/{name}.csv", with_words_for_numbers, "cannot be read")
            for name in ("requests", "timeseries")
        ),
        ("replication-0/requests.csv", without_a_column, "lacks the column 'ttft_s'"),
        ("replication-0/timeseries.csv", without_a_column, "lacks the column 'running'"),
    ],
)
def test_damaged_run_directories(copied, routerwise, name, damage, expected):
    damage(copied / name)
    status, _, errors = routerwise("show", copied)
    assert status == 2
    assert expected in errors
    assert len(errors.strip().splitlines()) == 1


def test_what_is_no_result(tmp_path, routerwise):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "other.json").write_text('{"a": 1}')
    for name, expected in {
        "empty": "is empty",
        "list.json": "holds list",
        "other.json": "is no result",
        "gone": "not exist",
    }.items():
        status, output, errors = routerwise("show", tmp_path / name)
        assert (status, output) == (2, "")
        assert expected in errors
        assert len(errors.strip().splitlines()) == 1
