"""``routerwise stress``: files, exit statuses, and one line for every mistake."""

import csv
import json

import pytest
from planned_cases import pair_plan, queue_file, queue_plan

from scenarios.cli import main


def short(values):
    values["workload"]["requests"] = 300


@pytest.fixture
def stress(tmp_path, capsys):
    """Stress a plan of the queue in this process; returns status, output and errors."""

    def run(*arguments, plan=None, scenario=None):
        (tmp_path / "plan.json").write_text((plan or queue_plan(0.3)).to_json())
        path = scenario or queue_file(tmp_path, short)
        with pytest.raises(SystemExit) as ended:
            main(["stress", str(tmp_path / "plan.json"), str(path), "--jobs", "1", *map(str, arguments)])
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run


FEW = ("--most", 5, "--points", 3)


def test_files_and_the_sentence(stress, tmp_path):
    out = tmp_path / "stressed"
    code, text, _ = stress("--axis", "load", "--map", "load,cold-start", "--map-points", 2, "--out", out, *FEW)
    assert code == 0
    assert "plan one on queue, as it is: holds (5 replications, 95% confidence)" in text
    assert "load " in text
    assert "cold-start (s) down, load (x) across" in text
    values = json.loads((out / "stress.json").read_text())
    assert (values["plan"], values["scenario"], values["schema_version"]) == ("one", "queue", 2)
    assert [entry["axis"] for entry in values["axes"]] == ["load", "cold-start"]
    assert values["axes"][0]["verdict"] in text
    with (out / "points.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["axis"] for row in rows} == {"load", "cold-start"}
    assert float(rows[0]["statistic_low_s"]) <= float(rows[0]["statistic_s"])
    with (out / "map.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 4
    for picture in ("stress.png", "map.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    code, _, error = stress("--axis", "load", "--out", out, *FEW)
    assert (code, error.count("\n")) == (2, 1)
    assert "exists already" in error


def test_json_is_the_same_for_any_number_of_processes(stress):
    _, alone, _ = stress("--axis", "load", "--json", *FEW)
    _, two, _ = stress("--axis", "load", "--json", "--jobs", 2, *FEW)
    assert json.loads(alone) == json.loads(two)


def test_the_exit_status_is_that_of_the_plan_as_it_is(stress):
    code, text, _ = stress("--axis", "load", *FEW, plan=queue_plan(0.101))
    assert code == 3
    assert "as it is: broken" in text
    code, text, _ = stress("--axis", "load", *FEW, plan=queue_plan(0.15))
    assert code == 5
    assert "as it is: undecided" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--axis", "loud"), "did you mean 'load'"),
        (("--axis", "gpu-loss:9"), "one that the plan uses: 0"),
        (("--axis", "replica-loss:server"), "allowed: MODEL/N. Such as server/0"),
        (("--axis", "load", "--up-to", "bursts=2"), "axes that are searched: load"),
        (("--axis", "load", "--map-points", "3"), "give --map too"),
        (("--first", "8", "--most", "2"), "--first is 8; allowed: at most --most, 2"),
        (("--map", "load"), "two axes with a comma"),
        (("--map", "load,load"), "two different axes"),
        (("--map", "load,loud"), "did you mean 'load'"),
        (("--up-to", "load"), "an axis and a number"),
        (("--up-to", "load=fast"), "an axis and a number"),
        (("--up-to", "load=0.5"), "above 1"),
        (("--up-to", "load=nan"), "largest value of load"),
        (("--resolution", "0"), "resolution"),
        (("--resolution", "nan"), "resolution"),
        (("--confidence", "1"), "confidence"),
        (("--slo", "metric: tfft, target_ms: 3"), "--slo"),
    ],
)
def test_every_mistake_is_one_line(stress, arguments, message):
    code, out, error = stress(*arguments)
    assert (code, out) == (2, "")
    assert error.count("\n") == 1
    assert message in error


def test_a_plan_of_other_models_is_refused(stress):
    code, _, error = stress("--axis", "load", plan=pair_plan())
    assert (code, error.count("\n")) == (2, 1)
    assert "model of plan both" in error
