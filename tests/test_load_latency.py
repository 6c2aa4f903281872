"""Load-latency curves: interpolation without extrapolation, convexity, and files."""

import json
import math
from pathlib import Path

import pytest

from latency_models.curves.load_latency import Configuration, LoadLatencyCurve, is_latency
from latency_models.curves.load_latency_files import curves_to_csv, curves_to_json, read_curves, read_measured_curves
from latency_models.errors import InputError

CHAT = Configuration(model="chat", tp=2, compute_share=0.5, replicas=3)


def curve(rates=(0.0, 1.0, 3.0), values=(0.1, 0.2, 0.6), **changes):
    settings = {"configuration": CHAT, "rates_per_s": rates, "statistics": {"ttft_mean_s": values}}
    return LoadLatencyCurve(**(settings | changes))


# ---------------------------------------------------------------------- evaluation


def test_a_curve_is_linear_between_its_loads():
    assert [curve().at(rate, "ttft_mean_s") for rate in (0, 0.5, 1.0, 2.5, 3.0)] == pytest.approx(
        [0.1, 0.15, 0.2, 0.5, 0.6]
    )


def test_beyond_the_last_load_there_is_nothing():
    with pytest.raises(InputError, match=r"rate_per_s for chat tp 2.* is 3.1; allowed: 0 to 3"):
        curve().at(3.1, "ttft_mean_s")
    assert curve().at_or_infinity(3.1, "ttft_mean_s") == math.inf
    assert curve().at_or_infinity(3.0, "ttft_mean_s") == 0.6


def test_the_stability_limit_ends_a_curve():
    limited = curve(stability_per_s=(2.0, 2.5))
    assert limited.highest_rate_per_s == 2.0
    assert limited.at(2.0, "ttft_mean_s") == pytest.approx(0.4)
    assert limited.at_or_infinity(2.01, "ttft_mean_s") == math.inf
    with pytest.raises(InputError, match="allowed: 0 to 2, the loads of its curve"):
        limited.at(2.01, "ttft_mean_s")


def test_below_the_first_load_there_is_nothing_even_for_planners():
    measured = curve(rates=(1.0, 2.0, 3.0))
    for ask in (measured.at, measured.at_or_infinity):
        with pytest.raises(InputError, match="allowed: 1 to 3"):
            ask(0.5, "ttft_mean_s")


@pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf])
def test_a_load_is_a_number(rate):
    for ask in (curve().at, curve().at_or_infinity):
        with pytest.raises(InputError, match="rate_per_s"):
            ask(rate, "ttft_mean_s")


def test_an_unknown_statistic_names_the_known_ones():
    for ask in (curve().at, curve().at_or_infinity):
        with pytest.raises(InputError, match=r"unknown statistic .*'ttft_men_s'; did you mean 'ttft_mean_s'"):
            ask(9.0, "ttft_men_s")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rates": ()}, "rates_per_s"),
        ({"rates": (0.0, 1.0, 1.0)}, "each above the one before"),
        ({"rates": (0.0, math.nan, 1.0)}, "rate_per_s is nan"),
        ({"rates": (-1.0, 0.0, 1.0)}, "rate_per_s is -1.0"),
        ({"values": (0.1, 0.2)}, "number of values of .* is 2; allowed: 3"),
        ({"values": (0.1, -0.2, 0.3)}, "ttft_mean_s is -0.2"),
        ({"values": (0.1, 0.0, 0.3)}, "ttft_mean_s is 0.0"),
        ({"values": (0.1, math.inf, 0.3)}, "ttft_mean_s is inf"),
        ({"statistics": {}}, "statistics"),
        ({"intervals": {"e2e_mean_s": ((0, 1),) * 3}}, "e2e_mean_s"),
        ({"intervals": {"ttft_mean_s": ((0, 1), (2, 1), (0, 1))}}, r"is \[2, 1\]; allowed: two finite"),
        ({"intervals": {"ttft_mean_s": ((0, 1),)}}, "intervals of ttft_mean_s is 1; allowed: 3"),
        ({"stability_per_s": (2.0, 1.0)}, "low <= high"),
    ],
)
def test_a_wrong_curve_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        curve(**changes)


@pytest.mark.parametrize(
    "changes", [{"model": ""}, {"tp": 0}, {"tp": 1.5}, {"compute_share": 50.0}, {"compute_share": 0}, {"replicas": 0}]
)
def test_a_wrong_configuration_is_refused(changes):
    with pytest.raises(InputError):
        Configuration(**({"model": "chat"} | changes))


def test_a_rate_is_no_latency():
    assert is_latency("ttft_p99.9_s")
    assert not is_latency("requests_per_s")
    assert not is_latency("utilisation")
    curve(statistics={"requests_per_s": (0.0, 1.0, 3.0)})


# ---------------------------------------------------------------------- convexity


def test_a_queue_s_curve_is_convex():
    rates = tuple(0.05 * number for number in range(20))
    queue = curve(rates=rates, values=tuple(1 / (1 - rate) for rate in rates))
    found = queue.convexity("ttft_mean_s")
    assert found.convex
    assert (found.worst_violation, found.at_rate_per_s, found.significant) == (0.0, None, False)


def test_a_straight_contribution_is_convex():
    assert curve(values=(0.2, 0.2, 0.2)).convexity("ttft_mean_s").convex


def test_the_worst_violation_is_found():
    # r * l(r) = 0, 1, 2, 2.4, 4: on the chord at 1; at 2 above it by 2 - (1 + 2.4) / 2 = 0.3; below it at 3.
    dented = curve(rates=(0.0, 1.0, 2.0, 3.0, 4.0), values=(1.0, 1.0, 1.0, 0.8, 1.0))
    found = dented.convexity("ttft_mean_s")
    assert not found.convex
    assert found.significant
    assert found.at_rate_per_s == 2.0
    assert found.worst_violation == pytest.approx(0.15)


@pytest.mark.parametrize(("noise", "significant"), [(0.01, True), (0.2, False)])
def test_a_violation_within_the_intervals_is_noise(noise, significant):
    values = (1.0, 1.0, 1.0, 0.8, 1.0)
    intervals = {"ttft_mean_s": tuple((value - noise, value + noise) for value in values)}
    found = curve(rates=(0.0, 1.0, 2.0, 3.0, 4.0), values=values, intervals=intervals).convexity("ttft_mean_s")
    assert found.worst_violation == pytest.approx(0.15)
    assert found.significant is significant


# ---------------------------------------------------------------------- JSON


def test_json_keeps_everything(tmp_path):
    full = curve(
        statistics={"ttft_mean_s": (0.1, 0.2, 1 / 3), "utilisation": (0.0, 0.5, 0.9)},
        intervals={"ttft_mean_s": ((0.0, 0.2), (0.1, 0.3), (0.2, 0.4))},
        stability_per_s=(3.0, 3.5),
        provenance={"source": "simulation", "seed": 1},
    )
    file = tmp_path / "curves.json"
    file.write_text(curves_to_json([full, curve(configuration=Configuration(model="code"))]), encoding="utf-8")
    first, second = read_curves(file)
    assert first == full
    assert second.configuration == Configuration(model="code")
    assert second.stability_per_s is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda layout: layout.update(schema_version=99),
        lambda layout: layout.pop("curves"),
        lambda layout: layout["curves"][0].pop("rates_per_s"),
        lambda layout: layout["curves"][0]["statistics"].update(ttft_mean_s=[0.1, "fast", 0.2]),
        lambda layout: layout["curves"][0].update(intervals={"ttft_mean_s": [[1], [2], [3]]}),
        lambda layout: layout["curves"].append(layout["curves"][0]),
    ],
)
def test_spoiled_json_is_refused(tmp_path, spoil):
    layout = json.loads(curves_to_json([curve()]))
    spoil(layout)
    file = tmp_path / "curves.json"
    file.write_text(json.dumps(layout), encoding="utf-8")
    with pytest.raises(InputError):
        read_curves(file)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_file_of_curves_is_refused(tmp_path, text):
    (tmp_path / "curves.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="curves"):
        read_curves(tmp_path / "curves.json")
    with pytest.raises(InputError, match="cannot read"):
        read_curves(tmp_path / "missing.json")


# ---------------------------------------------------------------------- measured curves

CSV = """\
rate_per_s,ttft_mean_ms,tpot_p95_s,model,tp,compute_share,replicas
4,120,0.03,"chat, large",2,0.5,1
1,100,0.02,"chat, large",2,0.5,1
1,90,0.01,code,1,1,2
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "measured.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_measured_curves_come_in_any_order_and_unit(tmp_path):
    chat, code = read_curves(written(tmp_path, CSV))
    assert chat.configuration == Configuration(model="chat, large", tp=2, compute_share=0.5)
    assert chat.rates_per_s == (1.0, 4.0)
    assert chat.statistics == {"ttft_mean_s": pytest.approx((0.1, 0.12)), "tpot_p95_s": (0.02, 0.03)}
    assert code.configuration == Configuration(model="code", replicas=2)
    assert code.provenance == {"source": "measured", "file": "measured.csv"}


def test_keys_that_are_left_out_are_one(tmp_path):
    (found,) = read_measured_curves(written(tmp_path, "rate_per_s,model,e2e_mean_s\n2,chat,1.5\n"))
    assert found.configuration == Configuration(model="chat")


def test_what_is_written_as_csv_can_be_read(tmp_path):
    curves = read_measured_curves(written(tmp_path, CSV))
    again = read_measured_curves(written(tmp_path, curves_to_csv(curves)))
    for found, original in zip(again, curves, strict=True):
        assert found.statistics.keys() == original.statistics.keys()
        for name, values in original.statistics.items():
            assert found.statistics[name] == pytest.approx(values)
    assert [found.configuration for found in again] == [found.configuration for found in curves]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column rate_per_s"),
        ("rate_per_s,ttft_mean_ms\n1,100\n", "no column model"),
        ("rate_per_s,model\n1,chat\n", "has no statistic"),
        ("rate_per_s,model,ttft_mean_ms\n", "has no rows"),
        ("rate_per_s,model,ttft_mean\n1,chat,100\n", "column is 'ttft_mean'"),
        ("rate_per_s,model,latency_ms\n1,chat,100\n", "column is 'latency_ms'"),
        ("rate_per_s,model,ttft_mean_ms,ttft_mean_s\n1,chat,100,0.1\n", "each statistic in one unit"),
        ("rate_per_s,model,model,ttft_mean_ms\n1,chat,chat,100\n", "each column once"),
        ("rate_per_s,model,ttft_mean_ms\n1,chat,nan\n", "line 2, ttft_mean_ms is 'nan'"),
        ("rate_per_s,model,ttft_mean_ms\n1,chat,\n", "line 2, ttft_mean_ms is ''"),
        ("rate_per_s,model,ttft_mean_ms\n1,chat,-3\n", "line 2, ttft_mean_ms is '-3'.*unit looks wrong"),
        ("rate_per_s,model,ttft_mean_ms\n1,chat,0.03\n", "line 2, ttft_mean_ms is '0.03'.*unit looks wrong"),
        ("rate_per_s,model,ttft_mean_s\n1,chat,250000\n", "line 2, ttft_mean_s is '250000'.*unit looks wrong"),
        ("rate_per_s,model,ttft_mean_ms\n-1,chat,100\n", "rate_per_s is -1.0"),
        ("rate_per_s,model,ttft_mean_ms\n1,chat,100\n1,chat,110\n", "line 3, rate_per_s is 1.0; allowed: each load"),
        ("rate_per_s,model,ttft_mean_ms\n1,chat\n", "line 2 does not have 3 columns"),
        ("rate_per_s,model,ttft_mean_ms\n1,chat,2,3\n", "line 2 does not have 3 columns"),
        ("rate_per_s,model,tp,ttft_mean_ms\n1,chat,1.5,100\n", "line 2, tp is '1.5'; allowed: an integer"),
        ("rate_per_s,model,compute_share,ttft_mean_ms\n1,chat,50,100\n", "line 2: compute_share is 50.0.*not per cent"),
    ],
)
def test_wrong_measurements_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_curves(written(tmp_path, text))
