"""`routerwise theory`: formulas beside simulations, and refusals."""

import json

import pytest

from analysis.queueing.many_servers import mmc
from latency_models.errors import InputError
from scenarios.theory.case import TheoryCase
from scenarios.theory.figures import Figure
from scenarios.theory.many_server_cases import mg_infinity_case, mmc_case
from scenarios.theory.planning_cases import jackson_case, staffing_case
from scenarios.theory.stationary import stationary_runs
from scenarios.theory.table import interval, number

QUICK = ("--replications", "4", "--requests", "2500")
SIMULATED = {
    "mm1": ("--rate", "6", "--service", "0.1"),
    "md1": ("--rate", "6", "--service", "0.1"),
    "mg1": ("--rate", "6", "--service", "0.1", "--service-cv", "0.5"),
    "mmc": ("--rate", "8", "--service", "0.2", "--servers", "3"),
    "mmck": ("--rate", "20", "--service", "0.2", "--servers", "3", "--capacity", "6"),
    "mg-infinity": ("--rate", "20", "--service", "0.5"),
    "processor-sharing": ("--rate", "6", "--service", "0.1", "--service-cv", "0.5"),
    "batch-service": ("--rate", "60", "--service", "0.1", "--batch", "8"),
    "ggc": ("--rate", "6", "--service", "0.1", "--arrival-cv", "2", "--service-cv", "0"),
    "bursts": ("--rates", "2", "6", "--lasting", "4", "2", "--service", "0.1"),
    "choices": ("--rate", "16", "--service", "0.5", "--servers", "12"),
    "staffing": ("--rate", "8", "--service", "0.5", "--wait-probability", "0.3"),
}


@pytest.fixture
def rows(routerwise):
    """Rows of a command as dictionaries by quantity."""

    def run(*arguments):
        status, out, err = routerwise("theory", *arguments, "--json")
        assert status == 0, err
        return {row["quantity"]: row for row in json.loads(out)["rows"]}

    return run


@pytest.mark.parametrize("model", SIMULATED)
def test_theory_and_simulation_agree(model, rows):
    found = rows(model, *SIMULATED[model], *QUICK)
    beside = [row for row in found.values() if row["simulated"] is not None]
    assert len(beside) >= 2
    assert [row["quantity"] for row in beside if not row["holds"]] == []
    if model != "ggc":  # which approximates
        assert [row["claim"] for row in beside] == ["agrees"] * len(beside)


def test_a_wrong_theory_would_be_noticed(rows):
    # Services of one length, held against the simulation of exponential ones.
    simulated = rows("mm1", *SIMULATED["mm1"], *QUICK)["mean wait"]["simulated"]
    wrong = rows("md1", *SIMULATED["md1"], "--no-simulation")["mean wait"]["theory"]
    assert wrong < simulated["low"]


def test_figures_are_those_of_the_formulas(rows):
    found = rows("mmc", *SIMULATED["mmc"], "--no-simulation")
    queue = mmc(8.0, 0.2, 3)
    assert found["mean wait"]["theory"] == queue.mean_wait_s
    assert found["mean time in the system"]["theory"] == queue.mean_sojourn_s
    assert found["utilisation"]["theory"] == pytest.approx(100 * 1.6 / 3)
    assert all(row["simulated"] is None for row in found.values())
    assert rows("erlang-b", "--rate", "20", "--service", "0.5", "--servers", "15")["share turned away"][
        "theory"
    ] == pytest.approx(3.65, abs=0.005)


def test_the_table_has_units_sources_and_intervals(routerwise):
    status, out, err = routerwise("theory", "mm1", *SIMULATED["mm1"], *QUICK)
    assert (status, err) == (0, "")
    for words in ("M/M/1", "simulated (99 %)", "mean wait", "requests", "±", "yes", "Kleinrock"):
        assert words in out
    status, out, _ = routerwise("theory", "mm1", *SIMULATED["mm1"], "--no-simulation")
    assert status == 0
    assert "simulated" not in out


def test_the_same_seed_gives_the_same_figures(rows):
    first, again, other = (rows("mm1", *SIMULATED["mm1"], *QUICK, "--seed", seed) for seed in ("5", "5", "6"))
    assert first == again
    assert first["mean wait"]["simulated"] != other["mean wait"]["simulated"]


def test_a_load_near_one_warns_that_the_queue_does_not_settle(routerwise):
    _, out, _ = routerwise("theory", "mm1", "--rate", "9.9", "--service", "0.1", *QUICK)
    assert "Note: at this load a queue settles in some 100,000 requests" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("mmc", "--rate", "20", "--service", "0.2", "--servers", "3"), "lower the rate, shorten the service or add"),
        (("mm1", "--rate", "10", "--service", "0.1"), "allowed: less than 1"),
        (("mm1", "--rate", "0", "--service", "0.1"), "rate_per_s is 0.0"),
        (("mm1", "--rate", "nan", "--service", "0.1"), "rate_per_s is nan"),
        (("mm1", "--rate", "1", "--service", "inf"), "service_s is inf"),
        (("mm1", "--rate", "1", "--service", "-0.1"), "service_s is -0.1"),
        (("mg1", "--rate", "1", "--service", "0.1", "--service-cv", "-1"), "service_cv is -1.0"),
        (("mmck", "--rate", "1", "--service", "0.1", "--servers", "3", "--capacity", "2"), "capacity is 2"),
        (("erlang-b", "--rate", "-1", "--service", "1", "--servers", "2"), "rate_per_s is -1.0"),
        (("batch-service", "--rate", "90", "--service", "0.1", "--batch", "8"), "less than the batch limit 8"),
        (("ggc", "--rate", "1", "--service", "0.1", "--arrival-cv", "500", "--service-cv", "1"), "arrival_cv is 500"),
        (("bursts", "--rates", "0", "0", "--lasting", "1", "1", "--service", "1"), "rates_per_s"),
        (("bursts", "--rates", "1", "2", "--lasting", "1", "0", "--service", "0.1"), "--lasting is 0.0"),
        (("choices", "--rate", "1", "--service", "0.1", "--servers", "3", "--choices", "4"), "at most the 3 servers"),
        (("staffing", "--rate", "1", "--service", "1"), "--wait-probability"),
        (
            ("staffing", "--rate", "1", "--service", "1", "--wait-probability", "0.1", "--mean-wait", "1"),
            "needs one target",
        ),
        (("staffing", "--rate", "1", "--service", "1", "--wait-probability", "1.5"), "share that may wait) is 1.5"),
        (("mg1", "--rate", "1", "--service", "0.1", "--service-cv", "1e200"), "service_cv is 1e+200"),
        (("ggc", "--rate", "1", "--service", "0.1", "--arrival-cv", "1e200", "--service-cv", "1"), "arrival_cv is 1e+"),
        (("mg-infinity", "--rate", "1e7", "--service", "10", "--replications", "2"), "come within a service time"),
        (("mm1", "--rate", "1", "--service", "0.5", "--no-simulation", "--requests", "500"), "--requests is of"),
        (("jackson", "nowhere.yaml"), "cannot read network"),
    ],
)
def test_bad_input_is_one_line(arguments, expected, routerwise):
    status, out, err = routerwise("theory", *arguments)
    assert status == 2
    assert expected in err
    assert err.count("\n") == 1
    assert out == ""


def test_finite_queues_work_above_load_one(rows):
    lost = rows("mmck", "--rate", "100", "--service", "0.1", "--servers", "2", "--capacity", "9", "--no-simulation")
    assert lost["share turned away"]["theory"] > 79
    assert rows("erlang-b", "--rate", "100", "--service", "0.1", "--servers", "2")["share turned away"]["theory"] > 80


NETWORK = """
stations:
  gateway: {service_s: 0.01, arrivals_per_s: 20, next: {engine: 1}}
  engine: {service_s: 0.4, servers: 12, next: {gateway: 0.2}}
"""


def test_a_network_from_a_file(rows, tmp_path):
    (tmp_path / "network.yaml").write_text(NETWORK)
    found = rows("jackson", tmp_path / "network.yaml")
    assert found["engine: rate"]["theory"] == pytest.approx(25.0)
    assert found["engine: mean wait of a visit"]["theory"] == pytest.approx(mmc(25.0, 0.4, 12).mean_wait_s)
    assert found["mean time in the network"]["theory"] == pytest.approx(
        1.25 * (mmc(25.0, 0.01, 1).mean_sojourn_s + mmc(25.0, 0.4, 12).mean_sojourn_s)
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("next: {engine: 1}", "next: {engin: 1}"), "did you mean 'engine'"),
        (("next: {gateway: 0.2}", "next: {gateway: 1}"), "never leave"),
        (("gateway: 0.2", "gateway: 1.2"), "next.gateway"),
        (("servers: 12", "servers: 2"), "load of station engine"),
        (("servers: 12", "server: 12"), "did you mean 'servers'"),
        (("arrivals_per_s: 20", "arrivals_per_s: 0"), "more than 0"),
        (("service_s: 0.4", "service_s: 0"), "service_s"),
        (("stations:", "station:"), "station"),
    ],
)
def test_wrong_network_files(change, expected, tmp_path):
    text = NETWORK.replace(*change)
    assert text != NETWORK
    (tmp_path / "network.yaml").write_text(text)
    with pytest.raises(InputError, match=expected):
        jackson_case(tmp_path / "network.yaml")


def test_staffing_names_rule_and_exact_number():
    case = staffing_case(9.0, 4.0, wait_probability=0.2)
    figures = {figure.quantity: figure.theory for figure in case.figures}
    assert figures["servers by the square-root rule"] == figures["servers, exactly"] == 43


def test_a_case_asks_for_more_requests_at_higher_load():
    def requests(load):
        return TheoryCase(title="t", figures=(), load=load).requests

    assert requests(0.0) < requests(0.8) < requests(0.9)
    assert requests(0.9) == requests(0.9999999)


def test_a_large_pool_asks_for_more_requests():
    # 800 are in service: fewer requests than several times that never see the pool full.
    assert mg_infinity_case(80.0, 10.0, 1.0).requests == 40_000
    assert mg_infinity_case(80.0, 10.0, 1.0).settling_requests == 2_400
    assert mg_infinity_case(20.0, 10.0, 1.0).requests == 12_000
    assert mmc_case(70.0, 10.0, 1000, 0.95).requests > mmc_case(0.07, 10.0, 1, 0.95).requests


def test_nothing_is_claimed_of_what_is_too_rare_to_be_seen(rows):
    found = rows("mmc", "--rate", "18", "--service", "1", "--servers", "60", *QUICK)["share that waits"]
    assert found["theory"] < 1e-6
    assert found["simulated"]["mean"] == 0
    assert found["claim"] == "none"


def test_a_target_so_strict_that_nobody_waits_at_all():
    assert staffing_case(9.0, 4.0, wait_probability=5e-324).figures[-1].claim == "none"


def test_choices_say_what_the_limit_is_worth(routerwise):
    _, out, _ = routerwise("theory", "choices", "--rate", "8", "--service", "1", "--servers", "10", "--choices", "10")
    assert "here are 10" in out
    assert "so few servers cannot reach that limit" in out
    one = ("choices", "--rate", "8", "--service", "1", "--servers", "10", "--choices", "1", "--no-simulation")
    assert "Note" not in routerwise("theory", *one)[1]


def test_a_figure_without_a_simulation_claims_nothing():
    figure = Figure(quantity="wait", unit="s", theory=1.0, source="x", measure=lambda run: 2.0)
    assert figure.row([]).simulated is None
    assert figure.row([]).claim == "none"


def test_too_few_requests_to_leave_any_out():
    with pytest.raises(InputError, match="at least 3"):
        stationary_runs("mm1", ["workload.requests=1", "run.warmup=0"], replications=2)
    with pytest.raises(InputError, match="replications"):
        stationary_runs("mm1", replications=1)


def test_numbers_are_printed_for_people():
    assert [number(value) for value in (0, 43, 0.0, 100.0, 0.12345, 1234.5, 1e-9, -2.5)] == [
        "0", "43", "0", "100.0", "0.1235", "1,234", "1.000e-09", "-2.500",
    ]  # fmt: skip

    def shown(estimate, half):
        from analysis.statistics import Interval

        return interval(
            Interval(estimate=estimate, low=estimate - half, high=estimate + half, confidence=0.99, count=4)
        )

    assert shown(0.25423, 0.01441) == "0.254 ± 0.014"
    assert shown(1234.5, 56.7) == "1,234 ± 57"
    assert shown(1.0, 0.0) == "1.000 ± 0"
