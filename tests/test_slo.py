"""Service level objectives: how they are written, and who meets them."""

import math

import pytest
from synthetic_results import make_columns

from analysis.metrics import RequestLatencies
from analysis.slo import Slo
from latency_models.errors import InputError
from sim.results import Status


def test_parse_reads_milliseconds_in_any_order():
    assert Slo.parse("tpot:50  ttft:500 e2el:10000.5") == Slo(ttft_s=0.5, tpot_s=0.05, e2el_s=10.0005)
    assert Slo.parse("ttft:1e3") == Slo(ttft_s=1.0)
    assert str(Slo.parse("e2el:10000 ttft:500")) == "ttft:500 e2el:10000"
    assert Slo.parse("e2el:10000 ttft:500").limits_s == {"ttft": 0.5, "e2e": 10.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tppt:50", "did you mean 'tpot'"),
        ("itl:50", "choices: e2el, tpot, ttft"),
        ("ttft", "METRIC:MILLISECONDS"),
        ("ttft:", "positive finite"),
        ("ttft:fast", "positive finite"),
        ("ttft:0", "positive finite"),
        ("ttft:-5", "positive finite"),
        ("ttft:nan", "positive finite"),
        ("ttft:inf", "positive finite"),
        ("ttft:5 ttft:6", "each metric once"),
        ("", "at least one limit"),
    ],
)
def test_parse_refuses(text, message):
    with pytest.raises(InputError, match=message):
        Slo.parse(text)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan, math.inf])
def test_constructor_refuses(limit):
    with pytest.raises(InputError, match="tpot_s"):
        Slo(tpot_s=limit)


def _latencies(**changes):
    row = {
        "arrival_s": 1.0,
        "scheduled_s": 1.1,
        "first_token_s": 1.5,
        "last_token_s": 2.5,
        "finish_s": 2.75,
        "generated_tokens": 11,
        **changes,
    }
    return RequestLatencies.of(make_columns([row]))


@pytest.mark.parametrize(
    ("slo", "met"),
    [
        (Slo(ttft_s=0.5), True),
        (Slo(ttft_s=0.499), False),
        (Slo(tpot_s=0.1), True),
        (Slo(tpot_s=0.0999), False),
        (Slo(e2el_s=1.75), True),
        (Slo(e2el_s=1.7499), False),
        (Slo(ttft_s=0.5, tpot_s=0.1, e2el_s=1.75), True),
        (Slo(ttft_s=0.5, tpot_s=0.1, e2el_s=1.0), False),
    ],
)
def test_limits_are_inclusive_and_all_must_hold(slo, met):
    assert slo.met(_latencies()).tolist() == [met]


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.FINISHED])
def test_whoever_did_not_finish_missed(status):
    assert not Slo(ttft_s=100.0).met(_latencies(status=status)).any()


def test_a_single_token_has_no_tpot_to_miss():
    assert Slo(tpot_s=1e-6).met(_latencies(generated_tokens=1, last_token_s=1.5)).all()
