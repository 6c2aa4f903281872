"""How figures are written: units, digits, intervals."""

import math

import pytest

from analysis.estimates import Estimate, estimate_of, simulated_estimate, value_of
from analysis.wording import (
    COUNT,
    DOLLARS,
    DURATION,
    MILLISECONDS,
    NUMBER,
    RATE,
    SCORE,
    SECONDS,
    SHARE,
    bare,
    brief,
    in_column,
    listed,
    percent,
    plural,
    plus_minus,
    ranges,
    setting,
    worded,
)

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


def estimate(value, low=None, high=None):
    return Estimate(value=value, low=low, high=high)


def plain(text):
    return text.replace(NBSP, " ").replace(MINUS, "-")


# ---------------------------------------------------------------------- in sentences, charts and pages


@pytest.mark.parametrize(
    ("figure", "unit", "text"),
    [
        (estimate(0.13756, 0.0934, 0.1817), MILLISECONDS, "138 ms [93, 182]"),
        (estimate(0.1424, 0.1396, 0.1453), MILLISECONDS, "142.4 ms [139.6, 145.3]"),
        (estimate(0.0279188, 0.024238, 0.0315993), MILLISECONDS, "28 ms [24, 32]"),
        (estimate(0.00234), MILLISECONDS, "2.34 ms"),
        (estimate(0.000049), MILLISECONDS, "0.049 ms"),
        (estimate(2.5), MILLISECONDS, "2,500 ms"),
        (estimate(2.7849), DURATION, "2.78 s"),
        (estimate(0.9), DURATION, "900 ms"),
        (estimate(1234.5678), DURATION, "1,235 s"),
        (estimate(-0.05), DURATION, "-50 ms"),
        (estimate(0.9476, 0.9064, 0.9888), SHARE, "94.8 % [90.6, 98.9]"),
        (estimate(0.98, 0.95, 1.03), SHARE, "98.0 % [95.0, 100.0]"),
        (estimate(0.01, -0.01, 0.03), SHARE, "1.0 % [0.0, 3.0]"),
        (estimate(0.9997), SHARE, "99.97 %"),
        (estimate(0.99999), SHARE, "99.999 %"),
        (estimate(0.00002), SHARE, "0.002 %"),
        (estimate(0.5371), SHARE, "53.7 %"),
        (estimate(1.0), SHARE, "100 %"),
        (estimate(0.07), SHARE, "7 %"),
        (estimate(0.0), SHARE, "0 %"),
        (estimate(1.0, 1.0, 1.0), SHARE, "100 %"),
        (estimate(0.39417, 0.39056, 0.39778), SCORE, "0.3942 [0.3906, 0.3978]"),
        (estimate(51.0), RATE, "51/s"),
        (estimate(0.0294), RATE, "0.029/s"),
        (estimate(0.0294, 0.0284, 0.0304), NUMBER, "0.029 [0.028, 0.030]"),
        (estimate(39.94), NUMBER, "39.9"),
        (estimate(0.4356), DOLLARS, "$0.436"),
        (estimate(13769.0), COUNT, "13,769"),
        (estimate(0.0), COUNT, "0"),
        (estimate(1e-12), COUNT, "0"),
        (estimate(math.nan), MILLISECONDS, "-"),
        (estimate(math.inf), SHARE, "-"),
        (None, SHARE, "-"),
    ],
)
def test_a_figure_has_as_many_digits_as_it_is_good_for(figure, unit, text):
    assert plain(worded(figure, unit)) == text


def test_differences_have_a_sign_and_shares_differ_in_points():
    assert plain(worded(estimate(-0.033, -0.038, -0.027), SHARE, signed=True)) == "-3.3 points [-3.8, -2.7]"
    assert plain(worded(estimate(0.14, -0.013, 0.292), MILLISECONDS, signed=True)) == "+140 ms [-13, +292]"
    assert bare(estimate(-0.00001, -0.01, 0.01), SHARE, signed=True)[0] == "0.0", "no sign where nothing is left"


def test_a_label_has_the_digits_of_the_interval_without_the_interval():
    assert plain(brief(estimate(0.13756, 0.0934, 0.1817), DURATION)) == "138 ms"
    assert plain(brief(estimate(0.9476, 0.9064, 0.9888), SHARE)) == "94.8 %"
    assert plain(brief(0.9476, SHARE)) == "94.8 %"
    assert brief(math.nan, DOLLARS) == "-"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.3, DURATION, "300 ms"), (2.0, DURATION, "2 s"), (1.2345, DURATION, "1.2345 s"), (0.1, SHARE, "10 %"),
        (0.1234, MILLISECONDS, "123.4 ms"), (1000.0, MILLISECONDS, "1,000,000 ms"), (0.0125, SHARE, "1.25 %"),
        (0.15, SECONDS, "0.15 s"), (100.0, NUMBER, "100"), (0.0, NUMBER, "0"),
    ],
)  # fmt: skip
def test_what_somebody_chose_keeps_its_digits(value, unit, text):
    assert plain(setting(value, unit)) == text


def test_counts_have_their_noun():
    assert plural(1, "replication") == "1 replication"
    assert plural(12000, "request") == "12,000 requests"
    assert plural(2, "axis", "axes") == "2 axes"
    assert plain(percent(0.95)) == "95 %"
    assert plain(percent(0.995)) == "99.5 %"


def test_neighbouring_numbers_are_joined():
    assert ranges([0, 1, 2, 3, 6]) == "0-3, 6"
    assert ranges([6, 1, 0], ",") == "0-1,6"
    assert ranges([]) == ""


# ---------------------------------------------------------------------- in columns


@pytest.mark.parametrize(
    ("figure", "unit", "text"),
    [
        (estimate(0.0529), MILLISECONDS, "52.9"), (estimate(0.05), MILLISECONDS, "50.0"),
        (estimate(0.1534), MILLISECONDS, "153"), (estimate(9.3971, 8.387, 10.407), MILLISECONDS, "9,397 ± 1,010"),
        (estimate(0.602, 0.572, 0.632), SHARE, "60.2% ± 3.0%"), (estimate(1.0), SHARE, "100.0%"),
        (estimate(0.4385), SCORE, "0.4385"), (estimate(0.44, 0.43, 0.45), SCORE, "0.4400 ± 0.0100"),
        (estimate(0.874, 0.8086, 0.9394), NUMBER, "0.874 ± 0.0654"), (estimate(2.5), NUMBER, "2.5"),
        (estimate(51.0), NUMBER, "51.0"), (estimate(12_400.0), NUMBER, "12,400"), (estimate(0.0), NUMBER, "0"),
        (estimate(3374.1, 3195.4, 3552.8), SECONDS, "3,374 ± 178.7"), (estimate(12.0), COUNT, "12"),
        (estimate(1715.67, 1661.67, 1769.67), COUNT, "1,715.7 ± 54"), (estimate(1855.42), DOLLARS, "$1,855.42"),
        (estimate(1.86, 1.759, 1.961), DOLLARS, "$1.86 ± $0.101"), (estimate(0.4), DOLLARS, "$0.4"),
        (estimate(1.0, 1.0 - 8.88e-16, 1.0 + 8.88e-16), NUMBER, "1 ± 0"), (None, SHARE, "-"),
        (estimate(math.nan), MILLISECONDS, "-"),
    ],
)  # fmt: skip
def test_figures_of_a_column_can_be_compared(figure, unit, text):
    assert plus_minus(figure, unit) == text


def test_a_column_may_leave_intervals_out():
    assert in_column(0.0529, MILLISECONDS) == "52.9"
    assert in_column(None, MILLISECONDS) == in_column(math.inf, MILLISECONDS) == "-"


# ---------------------------------------------------------------------- as stored


def test_figures_as_results_keep_them():
    assert estimate_of(None) is estimate_of({"mean": None, "low": None, "high": None}) is None
    assert estimate_of({"estimate": 1.0, "low": 0.5, "high": 2.0}) == estimate(1.0, 0.5, 2.0)
    assert estimate_of({"mean": 1.0, "low": None, "high": None}) == estimate_of(1) == estimate(1.0)
    assert value_of({"mean": 3.0, "low": 2.0, "high": 4.0}) == value_of(3) == 3.0
    assert value_of(None) is None
    promised = {"name": "load", "promised": 1.0, "simulated": 2.0, "low": 1.0, "high": 3.0, "limit": None}
    assert simulated_estimate(promised) == estimate(2.0, 1.0, 3.0)


def test_parts_of_a_sentence():
    parts = ["a", "b", "c"]
    assert [listed(parts[:count]) for count in range(4)] == ["", "a", "a and b", "a, b and c"]
