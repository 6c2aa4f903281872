"""``routerwise validate``: exit statuses, JSON, pictures, and one line for every mistake."""

import json
import signal
import time

import pytest
from planned_cases import pair_file, pair_plan, queue_file, queue_plan
from test_cli import started

from scenarios.cli import main


@pytest.fixture
def validate(tmp_path, capsys):
    """Validate a plan of the queue in this process; returns status, output and errors."""

    def run(*arguments, plan=None, scenario=None):
        (tmp_path / "plan.json").write_text((plan or queue_plan()).to_json())
        path = scenario or queue_file(tmp_path)
        with pytest.raises(SystemExit) as ended:
            main(["validate", str(tmp_path / "plan.json"), str(path), "--jobs", "1", *map(str, arguments)])
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("target_s", "status", "says"),
    [(0.25, 0, "The plan holds."), (0.1, 3, "does not hold: it is broken"), (0.1505, 5, "Undecided after 5")],
)
def test_the_exit_status_tells_the_outcome(validate, target_s, status, says):
    code, out, _ = validate("--most", 5, plan=queue_plan(target_s))
    assert code == status
    assert says in out
    assert "all models: TTFT mean (ms)" in out


def test_slos_of_ones_own_replace_the_promised_ones(validate):
    code, out, _ = validate(
        "--slo", "metric: ttft, statistic: p95, target_ms: 600", "--first", 2, plan=queue_plan(0.01)
    )
    assert code == 0
    assert "P95 TTFT <= 600 ms" in out


def test_json_has_everything(validate):
    code, out, _ = validate("--json", "--gap", "--most", 5)
    values = json.loads(out)
    assert (values["plan"], values["scenario"]) == ("one", "queue")
    assert (values["outcome"], values["exit_status"], code) == ("holds", 0, 0)
    assert values["slos"][0]["metric"] == "ttft"
    assert values["slos"][0]["statistic_s"]["low"] < values["slos"][0]["target_s"]
    assert values["gap"]["gaps"][0]["effects"]["causes"]
    assert values["simulated"]["by_model"]["server"]["ttft_s"]["p95"]["mean"] > 0


def test_nothing_served_is_valid_json_too(validate, tmp_path):
    def closed(values):
        values["workload"]["deadline_s"] = 0.01

    code, out, _ = validate("--json", "--most", 2, scenario=queue_file(tmp_path, closed), plan=queue_plan(0.001))
    assert code == 3
    assert json.loads(out)["slos"][0]["unanswered"]["estimate"] == 1.0


def test_the_gap_is_printed_and_drawn(validate, tmp_path):
    scenario = pair_file(tmp_path)
    arguments = ("--gap", "--plot", tmp_path / "gap.png", "--most", 5)
    code, out, _ = validate(*arguments, plan=pair_plan(), scenario=scenario)
    assert code == 0
    for text in ("score", "predicted", "correlated lengths", "left over (curves)", "prediction error"):
        assert text in out
    assert (tmp_path / "gap.png").read_bytes().startswith(b"\x89PNG")


def test_where_nothing_is_answered_there_is_no_picture(validate, tmp_path):
    def hopeless(values):
        values["workload"]["deadline_s"] = 0.01

    slo = "metric: e2e, statistic: p95, target_ms: 100"
    plan = queue_plan(0.1, metric="e2e", statistic="p95")
    arguments = ("--slo", slo, "--gap", "--plot", tmp_path / "gap.png", "--most", 2)
    by_model = plan.promise.loads[0].slos[0].model_copy(update={"model": None, "limit": 0.1})
    load = plan.promise.loads[0].model_copy(update={"slos": (by_model,)})
    plan = plan.model_copy(update={"promise": plan.promise.model_copy(update={"loads": (load,)})})
    code, out, err = validate(*arguments, plan=plan, scenario=queue_file(tmp_path, hopeless))
    assert code == 3
    assert "not attributed" in out
    assert "nothing to plot" in err
    assert not (tmp_path / "gap.png").exists()


def test_the_seed_decides(validate):
    runs = [json.loads(validate("--json", "--most", 2, "--seed", seed)[1])["simulated"] for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def trace_of(tmp_path, rows):
    (tmp_path / "trace.csv").write_text(
        "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{0.5 * row},10,1\n" for row in range(rows))
    )

    def change(values):
        values["workload"] = {"kind": "trace", "path": str(tmp_path / "trace.csv")}
        values["run"] = {"warmup": 5}

    return queue_file(tmp_path, change)


def test_a_trace_is_cut_into_windows(validate, tmp_path):
    code, out, err = validate("--window", 100, scenario=trace_of(tmp_path, 1300))
    assert code == 0
    assert "3 replications, 600 requests" in out
    assert err == ""
    assert "--window cuts it into parts" in validate(scenario=trace_of(tmp_path, 400))[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--plot", "gap.png"), "--plot draws the gap report; give --gap too"),
        (("--gap", "--plot", "gap.txt"), "--plot is 'gap.txt'; allowed: a file name that ends in .pdf, .png, .svg"),
        (("--slo", "ttft:100"), "--slo is 'ttft:100'; allowed: an SLO as in a problem file"),
        (("--slo", "metric: tpot, target_ms: 50"), "no answer has more than one token"),
        (("--slo", "metric: ttft, target_ms: 50, model: sever"), "did you mean 'server'"),
        (("--rate", "7"), "load is 7.0; allowed: one of the loads of plan one"),
        (("--window", "10"), "with a workload of kind synthetic"),
        (("--first", "8", "--most", "2"), "--first is 8; allowed: at most --most, 2"),
        (("--slo", "metric: ttft, target_ms: true"), "target_ms is True; allowed: a number"),
        (("--confidence", "95"), "confidence is 95.0"),
        (("--unanswered", "0"), "unanswered requests is 0.0"),
        (("--set", "run.warmup=10000"), "warm-up (run.warmup) is 10000.0"),
        (("--set", "gpus.count=0"), "gpus.count"),
    ],
)
def test_mistakes_are_one_line(validate, arguments, message):
    code, out, err = validate(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_trace_shorter_than_its_warm_up_is_one_line(validate, tmp_path):
    code, _, err = validate(scenario=trace_of(tmp_path, 8))
    assert code == 2
    assert "warm-up (run.warmup) is 5.0; allowed: less than the 3.5 s" in err


def test_other_models_are_one_line(validate, tmp_path):
    code, _, err = validate(plan=pair_plan())
    assert code == 2
    assert "unknown model of plan both" in err


def test_ctrl_c_does_not_wait_for_long_replications(tmp_path):
    def endless(values):
        values["workload"]["requests"] = 100_000_000

    (tmp_path / "plan.json").write_text(queue_plan().to_json())
    path = queue_file(tmp_path, endless)
    process = started("validate", tmp_path / "plan.json", path, "--jobs", "2")
    try:
        # Long enough for the workers to begin; before that an interrupt is no different.
        time.sleep(4)
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_change_that_the_plan_replaces_is_refused(validate, tmp_path, capsys):
    code, _, err = validate("--set", "routing.kind=random")
    assert (code, err) == (
        2,
        "Error: --set routing.kind has no effect with a plan, which says how to route; leave it out\n",
    )
    plan = str(tmp_path / "plan.json")
    for command in (["run", "plan-demo", "--plan", plan], ["stress", plan, "plan-demo"], ["plan", "demo", "plan-demo"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--set", "routing=random"])
        assert ended.value.code == 2
        assert "--set routing has no effect" in capsys.readouterr().err
