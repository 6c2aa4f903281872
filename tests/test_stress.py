"""How far plans hold: against a queue of known waiting times, and against outcomes that are made up."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planned_cases import pair, pair_plan, queue, queue_plan
from test_replicated import trace

from analysis.verdicts import Outcome
from latency_models.errors import InputError
from optimizer.problem import SloTarget
from scenarios.plans.deployment import deployed
from scenarios.replicated import replicating
from scenarios.stress.axes import AXES, find_axis, targets_of
from scenarios.stress.report import map_rows, point_rows, stress_json, verdict
from scenarios.stress.search import Bracket, SearchOptions, find_bracket
from scenarios.stress.stress import StressOptions, stress
from scenarios.validation.validate import ValidationOptions

TTFT = SloTarget(metric="ttft", target_s=0.2)
LOAD_LIMIT = 4 / 3
"""Where the queue's mean time to first token is 0.2 s: 0.1 (1 + rho / (2 (1 - rho))) with rho = 0.5 x."""
SLOWDOWN_LIMIT = 4 - math.sqrt(8)
"""The same where all service times are x times as long: 0.1 x (1 + rho / (2 (1 - rho))) with rho = 0.5 x."""


def stressed(scenario, plan, *axes, targets=(TTFT,), map_axes=None, most=10, window_s=None, **options):
    evidence = ValidationOptions(first=min(5, most), most=most, window_s=window_s)
    with replicating(1) as replicator:
        return stress(
            deployed(scenario, plan),
            targets,
            replicator,
            axes=axes,
            map_axes=map_axes,
            options=StressOptions(evidence=evidence, **options),
        )


def brief(values):
    values["workload"]["requests"] = 600


def ends(entry):
    bracket = entry.bracket
    return (
        None if bracket.holds is None else bracket.holds.value,
        None if bracket.breaks is None else bracket.breaks.value,
    )


# ---------------------------------------------------------------------- against theory


@pytest.mark.parametrize(("axis", "limit"), [("load", LOAD_LIMIT), ("slower-gpu", SLOWDOWN_LIMIT)])
def test_the_bracket_holds_the_limit_of_theory(tmp_path, axis, limit):
    found = stressed(queue(tmp_path), queue_plan(), axis, most=5)
    (entry,) = found.axes
    low, high = ends(entry)
    assert low < limit < high
    assert high - low < 0.5
    assert entry.bracket.estimate == pytest.approx(limit, abs=0.06)
    assert f"holds to {entry.bracket.estimate:.3g}x" in verdict(entry)
    assert "breaks first on mean TTFT" in verdict(entry)


def test_a_plan_that_is_broken_holds_at_less_load(tmp_path):
    strict = (SloTarget(metric="ttft", target_s=0.13),)
    found = stressed(queue(tmp_path), queue_plan(), "load", targets=strict, most=5)
    assert found.baseline.outcome is Outcome.BROKEN
    low, high = ends(found.axes[0])
    # 0.13 = 0.1 (1 + rho / (2 (1 - rho))) at rho = 0.375.
    assert low < 0.75 < high <= 1.0
    elsewhere = stressed(queue(tmp_path), queue_plan(), "bursts", targets=strict, most=5)
    assert ends(elsewhere.axes[0]) == (None, 1.0)
    assert verdict(elsewhere.axes[0]).startswith("broken at 1x the bursts already")


def test_what_holds_everywhere_has_no_upper_end(tmp_path):
    generous = (SloTarget(metric="ttft", target_s=5.0),)
    found = stressed(queue(tmp_path, brief), queue_plan(), "load", targets=generous, most=2, up_to={"load": 1.5})
    (entry,) = found.axes
    assert ends(entry) == (1.5, None)
    assert entry.bracket.estimate is None
    assert verdict(entry) == "holds at 1.5x the load, the most that was tried"


def test_bursts_raise_the_latency_at_the_same_load(tmp_path):
    found = stressed(queue(tmp_path), queue_plan(), "bursts", most=3, up_to={"bursts": 2.0})
    points = found.axes[0].bracket.points
    strains = [point.strain for point in points]
    assert strains == sorted(strains)
    offered = [point.validation.summary["overall"]["offered_per_s"]["mean"] for point in points]
    assert offered == pytest.approx([offered[0]] * len(offered), rel=0.02)


def test_windows_of_a_trace_hold_the_same_requests_at_any_load(tmp_path):
    found = stressed(trace(tmp_path, (0.25,) * 400), queue_plan(), "load", window_s=20.0, up_to={"load": 4.0})
    for point in found.axes[0].bracket.points:
        assert {run.arrivals for run in point.validation.runs} <= {79, 80, 81}, point.value
    assert ends(found.axes[0])[1] is not None


# ---------------------------------------------------------------------- losses


def test_the_gpu_whose_loss_is_worst_is_found(tmp_path):
    def large_matters(values):
        values["models"]["large"]["latency"]["base_s"] = 0.03

    found = stressed(
        pair(tmp_path, large_matters),
        pair_plan(),
        "gpu-loss",
        "slower-gpu",
        targets=(SloTarget(metric="ttft", target_s=0.1),),
        most=3,
        up_to={"gpu-loss": 4.0, "slower-gpu": 3.0},
    )
    by_name = {entry.axis.name: entry for entry in found.axes}
    assert by_name["slower-gpu"].target == "1"
    assert by_name["slower-gpu"].worst_of == 2
    assert "GPU 1 " in verdict(by_name["slower-gpu"])
    assert "slowest at large" in verdict(by_name["slower-gpu"])
    assert by_name["gpu-loss"].bracket.breaks is not None


def test_a_longer_outage_delays_more_requests(tmp_path):
    def steady(values):
        brief(values)
        values["workload"]["arrivals"] = {"kind": "deterministic", "rate_per_s": 5.0}

    found = stressed(
        queue(tmp_path, steady), queue_plan(), "replica-loss:server/0", most=2, up_to={"replica-loss": 20.0}
    )
    points = found.axes[0].bracket.points
    means = [point.validation.slos[0].statistic_s.estimate for point in points]
    assert means == sorted(means)
    # Requests wait for d/2 on average, from the crash on until the backlog is gone: another d, at half the capacity.
    down_s = points[-1].value
    after_warmup = 600 - 25
    assert means[-1] == pytest.approx(0.1 + 5.0 * 2 * down_s * down_s / 2 / after_warmup, rel=0.05)


def test_a_cold_start_is_seen_although_there_is_a_warm_up(tmp_path):
    found = stressed(queue(tmp_path, brief), queue_plan(), "cold-start", most=5, up_to={"cold-start": 30.0})
    low, high = ends(found.axes[0])
    assert low is not None
    assert low < high < 30.0


# ---------------------------------------------------------------------- prompts


def test_a_bias_sends_more_to_the_model_that_is_overrated(tmp_path):
    def slow(values):
        values["models"]["large"]["latency"]["base_s"] = 0.05
        values["workload"]["requests"] = 600

    target = SloTarget(metric="ttft", target_s=0.17)
    found = stressed(pair(tmp_path, slow), pair_plan(), "score-bias:large", targets=(target,), most=5)
    (entry,) = found.axes
    low, high = ends(entry)
    # From a bias of 0.1 on the large model wins all prompts: price 0.2, score higher by 0.1 or by 0.4.
    assert low < 0.1 < high + 0.01
    shares = {
        round(point.validation.summary["by_model"]["large"]["fraction"]["mean"], 1) for point in entry.bracket.points
    }
    assert shares == {0.4, 1.0}


def test_prompts_drift_towards_the_hard_and_the_long(tmp_path):
    plan, scenario = pair_plan(), pair(tmp_path)
    found = stressed(
        scenario, plan, "hard-prompts", "long-prompts", "outputs", most=2, search=SearchOptions(most_points=2)
    )
    for entry in found.axes:
        e2e = [point.validation.summary["overall"]["e2e_s"]["mean"]["mean"] for point in entry.bracket.points]
        score = [point.validation.summary["overall"]["quality"]["achieved"]["mean"] for point in entry.bracket.points]
        if entry.axis.name == "hard-prompts":
            assert score[-1] < score[0]
        else:
            assert e2e[-1] > 1.1 * e2e[0]


# ---------------------------------------------------------------------- the map and the report


def test_a_map_has_all_pairs_and_agrees_with_the_axes(tmp_path):
    found = stressed(
        queue(tmp_path, brief),
        queue_plan(),
        "load",
        "slower-gpu",
        map_axes=("slower-gpu", "load"),
        map_points=3,
        most=5,
        up_to={"load": 3.0, "slower-gpu": 2.0},
    )
    assert found.map is not None
    assert (found.map.x.axis.name, found.map.y.axis.name) == ("slower-gpu", "load")
    assert [len(row) for row in found.map.points] == [3, 3, 3]
    outcomes = [[point.outcome for point in row] for row in found.map.points]
    assert outcomes[0][0] is Outcome.HOLDS
    assert outcomes[-1][-1] is Outcome.BROKEN
    assert outcomes[0][-1] is not Outcome.HOLDS
    assert outcomes[-1][0] is not Outcome.HOLDS
    values = stress_json(found)
    assert values["outcome"] == "holds"
    assert values["map"]["x"]["values"][0] == 1.0
    assert values["map"]["outcomes"][0][0] == "holds"
    assert len(map_rows(found.map)) == 9
    assert {row["axis"] for row in point_rows(found)} == {"load", "slower-gpu"}
    slower = next(entry for entry in values["axes"] if entry["axis"] == "slower-gpu")
    assert slower["breaks_first"]["metric"] == "ttft"


def test_unanswered_requests_are_named_as_what_breaks(tmp_path):
    def impatient(values):
        brief(values)
        values["models"]["server"]["admission"] = {"max_queue_requests": 3}

    generous = (SloTarget(metric="ttft", target_s=0.9),)
    found = stressed(queue(tmp_path, impatient), queue_plan(), "load", targets=generous, most=3)
    assert "breaks first on unanswered requests (" in verdict(found.axes[0])


# ---------------------------------------------------------------------- the search by itself


def made_up(value, outcome, strain):
    return SimpleNamespace(value=value, outcome=outcome, strain=strain)


@given(st.floats(1.01, 2.9), st.floats(0.0, 0.3))
def test_a_bracket_has_the_limit_between_its_ends(limit, band):
    """Up to the limit it holds, beyond the limit and a band it is broken, in between nobody knows."""

    def judge(value):
        outcome = Outcome.HOLDS if value <= limit else Outcome.BROKEN if value > limit + band else Outcome.UNDECIDED
        return made_up(value, outcome, value / (limit + band / 2))

    options = SearchOptions(resolution=0.05, most_points=40)
    bracket = find_bracket(AXES["load"], judge(1.0), judge, furthest=3.0, options=options)
    assert bracket.holds.value <= limit
    assert limit - bracket.holds.value <= 0.05 * 3.0
    if bracket.breaks is None:
        assert limit + band >= 3.0
    else:
        assert bracket.breaks.value > limit + band
        assert bracket.breaks.value - (limit + band) <= 0.05 * bracket.breaks.value + 1e-9
        assert bracket.holds.value <= bracket.estimate <= bracket.breaks.value
        assert bracket.estimate == pytest.approx(limit + band / 2, abs=0.1 + band)
    assert [point.value for point in bracket.points] == sorted(point.value for point in bracket.points)


def test_a_search_stops_at_its_number_of_values():
    tried = []

    def judge(value):
        tried.append(value)
        return made_up(value, Outcome.HOLDS if value <= 1.37 else Outcome.BROKEN, value)

    options = SearchOptions(resolution=1e-6, most_points=6)
    find_bracket(AXES["load"], made_up(1.0, Outcome.HOLDS, 1.0), judge, furthest=3.0, options=options)
    assert len(tried) == 6


def test_the_first_change_is_the_bracket_if_outcomes_come_and_go():
    def judge(value):
        return made_up(value, Outcome.BROKEN if 1.2 < value < 1.4 else Outcome.HOLDS, 0.5)

    bracket = find_bracket(AXES["load"], judge(1.0), judge, furthest=3.0, options=SearchOptions())
    assert isinstance(bracket, Bracket)
    assert bracket.holds.value <= 1.2 < bracket.breaks.value < 1.4


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lod", "unknown axis 'lod'; did you mean 'load'"),
        ("load:3", "axis is 'load:3'; allowed: load, which has no targets. The largest value is --up-to load=VALUE"),
        ("gpu-loss:", "gpu-loss for all targets, or a target after the colon"),
    ],
)
def test_unknown_axes_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        find_axis(text)


@pytest.mark.parametrize(
    ("axis", "change", "message"),
    [
        ("gpu-loss:7", None, "one that the plan uses: 0"),
        ("replica-loss:servr/0", None, "did you mean 'server'"),
        ("replica-loss:server/1", None, "server/0 to server/0"),
        ("hard-prompts", None, "no effect without a prompts section"),
        ("score-bias", None, "no effect with one model"),
        (
            "load",
            {"kind": "closed-loop", "users": 3, "think_time_s": 1.0, "requests": 50},
            "no effect on a closed-loop workload",
        ),
        (
            "bursts",
            {"kind": "closed-loop", "users": 3, "think_time_s": 1.0, "requests": 50},
            "kind closed-loop, which takes no transforms",
        ),
    ],
)
def test_axes_without_an_effect_are_refused_if_named(tmp_path, axis, change, message):
    def other(values):
        if change is not None:
            values["workload"] = {**change, "lengths": values["workload"]["lengths"]}

    with pytest.raises(InputError, match=message):
        stressed(queue(tmp_path, other), queue_plan(), axis)


def test_axes_without_an_effect_are_left_out_with_the_reason(tmp_path):
    def short(values):
        values["workload"]["requests"] = 200

    found = stressed(queue(tmp_path, short), queue_plan(), most=2, search=SearchOptions(most_points=1))
    assert {name for name, _ in found.left_out} == {"hard-prompts", "long-prompts", "score-bias"}
    assert [entry.axis.name for entry in found.axes] == [name for name in AXES if name not in dict(found.left_out)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StressOptions(up_to={"load": 1.0}), "above 1"),
        (lambda: StressOptions(up_to={"load": math.nan}), "largest value of load"),
        (lambda: StressOptions(up_to={"bursts": 11.0}), "up to 10"),
        (lambda: StressOptions(up_to={"gpus": 2.0}), "unknown axis"),
        (lambda: StressOptions(map_points=1), "map_points"),
        (lambda: SearchOptions(resolution=0.0), "resolution"),
        (lambda: SearchOptions(resolution=1.0), "resolution"),
        (lambda: SearchOptions(most_points=0), "most_points"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_values_out_of_range_and_axes_named_twice_are_refused(tmp_path):
    planned = deployed(queue(tmp_path), queue_plan())
    with pytest.raises(InputError, match="value of gpu-loss"):
        AXES["gpu-loss"].at(planned, -1.0, "0")
    assert targets_of(AXES["gpu-loss"], "", planned) == ["0"]
    with pytest.raises(InputError, match="each axis once"):
        stressed(queue(tmp_path), queue_plan(), "gpu-loss:0", "gpu-loss")
    with pytest.raises(InputError, match="two different axes"):
        stressed(queue(tmp_path), queue_plan(), map_axes=("load", "load"))


def test_a_value_that_cannot_be_tried_says_so(tmp_path):
    """In bursts far apart, no request is left for some windows."""
    scenario = trace(tmp_path, ((1.0,) * 20 + (20.0,)) * 12)
    with pytest.raises(InputError, match=r"bursts at .*x: .*search less far: --up-to"):
        stressed(scenario, queue_plan(), "bursts", window_s=30.0, most=8, up_to={"bursts": 10.0})
    found = stressed(
        scenario, queue_plan(), window_s=30.0, most=8, up_to={"bursts": 10.0}, search=SearchOptions(most_points=5)
    )
    assert "search less far" in dict(found.left_out)["bursts"]
    assert "load" in [entry.axis.name for entry in found.axes]
