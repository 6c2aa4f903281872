"""The workload section: every kind builds traffic, every option has an effect, everything wrong is rejected."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from latency_models.errors import InputError
from scenarios.workloads.build import build_traffic
from scenarios.workloads.config import WorkloadConfig, parse_workload
from scenarios.workloads.request_chunks import concatenate

LENGTHS = {"prompt": {"kind": "lognormal", "mean": 300, "cv": 1}, "output": {"kind": "geometric", "mean": 50}}
SYNTHETIC = {
    "kind": "synthetic",
    "arrivals": {"kind": "gamma", "rate_per_s": 5, "cv": 2},
    "lengths": LENGTHS,
    "requests": 300,
}
CLOSED = {"kind": "closed-loop", "users": 4, "think_time_s": 1.5, "lengths": LENGTHS, "requests": 20}
SESSIONS = {
    "kind": "sessions",
    "arrivals": {"kind": "poisson", "rate_per_s": 1},
    "turns": {"kind": "geometric", "mean": 3},
    "think_time_s": {"kind": "exponential", "mean_s": 2},
    "lengths": LENGTHS,
    "sessions": 10,
}


@pytest.fixture
def folder(tmp_path):
    lines = [f"{i},{i + 10},{i + 1},m{i % 2},r{i}" for i in range(50)]
    header = "arrival_s,prompt_tokens,output_tokens,model,request_id"
    (tmp_path / "trace.csv").write_text("\n".join([header, *lines]) + "\n")
    return tmp_path


def specs(section, folder, seed=1):
    traffic = build_traffic(parse_workload(section), np.random.SeedSequence(seed), folder)
    return [spec for chunk in traffic.chunks() for spec in chunk.specs()]


TRACE = {"kind": "trace", "path": "trace.csv"}


@pytest.mark.parametrize(
    ("section", "count"),
    [
        (TRACE, 50),
        (SYNTHETIC, 300),
        (CLOSED, 4),
        (SESSIONS, 10),
        ({"kind": "mixture", "clients": [TRACE, SYNTHETIC, CLOSED, SESSIONS]}, 364),
    ],
    ids=["trace", "synthetic", "closed-loop", "sessions", "mixture"],
)
def test_every_kind_builds_reproducible_traffic(folder, section, count):
    first = specs(section, folder)
    assert len(first) == count
    assert [spec.arrival_s for spec in first] == sorted(spec.arrival_s for spec in first)
    assert first == specs(section, folder)
    if section is not TRACE:
        assert first != specs(section, folder, seed=2)


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (SYNTHETIC, {"arrivals": {"kind": "poisson", "rate_per_s": 5}}),
        (SYNTHETIC, {"arrivals": {"kind": "weibull", "rate_per_s": 5, "cv": 2}}),
        (SYNTHETIC, {"arrivals": {"kind": "deterministic", "rate_per_s": 5}}),
        (SYNTHETIC, {"arrivals": {"kind": "mmpp2", "rates_per_s": [9, 1], "sojourns_s": [1, 2]}}),
        (SYNTHETIC, {"arrivals": {"kind": "diurnal", "profile": [[0, 1], [60, 9]], "repeat": False}}),
        (SYNTHETIC, {"arrivals": {"kind": "spikes", "base": {"kind": "poisson", "rate_per_s": 5},
                                  "windows": [{"start_s": 1, "end_s": 2, "extra_rate_per_s": 50}]}}),
        (SYNTHETIC, {"lengths": {"kind": "joint", "pairs": [[10, 5], [20, 6]], "weights": [1, 2]}}),
        (SYNTHETIC, {"lengths": {"kind": "trace", "path": "trace.csv"}}),
        (SYNTHETIC, {"lengths": {"kind": "conditional", "prompt": [[0, 1], [1, 9]],
                                 "output_given_prompt": [[[0, 1], [1, 9]]]}}),
        (SYNTHETIC, {"requests": 200}),
        (SYNTHETIC, {"duration_s": 10}),
        (SYNTHETIC, {"model": "m"}),
        (SYNTHETIC, {"class": "chat"}),
        (SYNTHETIC, {"priority": 2}),
        (SYNTHETIC, {"deadline_s": 20}),
        (SYNTHETIC, {"cancel_after_s": 20}),
        (CLOSED, {"deadline_s": 20, "priority": 1}),
        (SESSIONS, {"cancel_after_s": 20, "class": "chat"}),
        (SYNTHETIC, {"name": "other"}),
        (SYNTHETIC, {"shared_prefix": {"prefixes": 3, "tokens": 64}}),
        (SYNTHETIC, {"shared_prefix": {"tokens": {"kind": "uniform", "minimum": 5, "maximum": 9}, "pool": "p"}}),
        (SYNTHETIC, {"transforms": [{"kind": "scale-rate", "factor": 2}]}),
        (SYNTHETIC, {"transforms": [{"kind": "scale-rate", "factor": 0.5, "method": "thin"}]}),
        (SYNTHETIC, {"transforms": [{"kind": "magnify-bursts", "factor": 2, "window_s": 60}]}),
        (TRACE, {"transforms": [{"kind": "window", "start_s": 5, "end_s": 30}]}),
        (TRACE, {"transforms": [{"kind": "repeat", "times": 2}]}),
        (TRACE, {"transforms": [{"kind": "cap", "requests": 5}]}),
        (TRACE, {"model": "m"}),
        (TRACE, {"class": "chat"}),
        (TRACE, {"models": {"m0": "a", "m1": "b"}}),
        (TRACE, {"where": {"model": "m1"}}),
        (TRACE, {"where": {"arrival_s": 7}}),
        (TRACE, {"where": {"model": "m1"}, "rebase": True}),
        (TRACE, {"spread_s": 0.5}),
        (CLOSED, {"users": 5}),
        (CLOSED, {"think_time_s": 2}),
        (CLOSED, {"think_time_s": {"kind": "uniform", "low_s": 0, "high_s": 3}}),
        (CLOSED, {"requests": 3}),
        (CLOSED, {"duration_s": 1}),
        (CLOSED, {"shared_prefix": {"tokens": 64}}),
        (SESSIONS, {"system_prompt": {"tokens": 64}}),
        (SESSIONS, {"max_prompt_tokens": 200}),
        (SESSIONS, {"sessions": 5}),
        (SESSIONS, {"duration_s": 4}),
    ],
)  # fmt: skip
def test_every_option_has_an_effect(folder, base, change):
    assert specs({**base, **change}, folder) != specs(base, folder)


BAD = [
    {},
    {"kind": "synthetics"},
    SYNTHETIC | {"rate": 5},
    SYNTHETIC | {"requests": None},
    SYNTHETIC | {"requests": 0},
    SYNTHETIC | {"duration_s": float("inf")},
    SYNTHETIC | {"deadline_s": float("nan")},
    SYNTHETIC | {"arrivals": {"kind": "poisson", "rate_per_s": -1}},
    SYNTHETIC | {"arrivals": {"kind": "poisson", "rate_per_s": float("nan")}},
    SYNTHETIC | {"arrivals": {"kind": "poisson", "rate_per_s": 1, "cv": 2}},
    SYNTHETIC | {"arrivals": {"kind": "poison", "rate_per_s": 1}},
    SYNTHETIC | {"arrivals": {"kind": "spikes", "base": {"kind": "poisson", "rate_per_s": 0}, "windows": []}},
    SYNTHETIC | {"lengths": {"prompt": {"kind": "constant", "tokens": 5}}},
    SYNTHETIC | {"lengths": {"kind": "joint", "pairs": []}},
    SYNTHETIC | {"shared_prefix": {"tokens": 0}},
    SYNTHETIC | {"transforms": [{"kind": "scale-rate", "factor": 2, "method": "thin"}]},
    SYNTHETIC | {"transforms": [{"kind": "cap"}]},
    CLOSED | {"users": 0},
    CLOSED | {"think_time_s": -1},
    CLOSED | {"requests": None},
    CLOSED | {"transforms": []},
    SESSIONS | {"sessions": None},
    TRACE | {"format": "azur"},
    TRACE | {"spread_s": -1},
    TRACE | {"model": "m", "models": {"a": "b"}},
    TRACE | {"priority": 1},
    {"kind": "mixture", "clients": []},
    {"kind": "mixture", "clients": [SYNTHETIC | {"name": "a"}, CLOSED | {"name": "a"}]},
    {"kind": "mixture", "clients": [{"kind": "mixture", "clients": [SYNTHETIC]}]},
]


@pytest.mark.parametrize("section", BAD)
def test_bad_sections(section):
    with pytest.raises(ValidationError):
        parse_workload(section)


def test_errors_say_where():
    section = {
        "kind": "mixture",
        "clients": [SYNTHETIC, SYNTHETIC | {"arrivals": {"kind": "poisson", "rate_per_s": 0}}],
    }
    with pytest.raises(ValidationError) as caught:
        parse_workload(section)
    (error,) = caught.value.errors()
    assert error["loc"] == ("mixture", "clients", 1, "synthetic", "arrivals")
    assert "rate_per_s is 0" in error["msg"]


def test_bad_traces(folder):
    with pytest.raises(InputError, match="does not exist"):
        build_traffic(parse_workload(TRACE | {"path": "none.csv"}), np.random.SeedSequence(1), folder)
    with pytest.raises(InputError, match=r"not in models.*'m1'"):
        specs(TRACE | {"models": {"m0": "a"}}, folder)
    (folder / "plain.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n")
    with pytest.raises(InputError, match="names no models"):
        specs(TRACE | {"path": "plain.csv", "models": {"m0": "a"}}, folder)
    with pytest.raises(InputError, match="unknown trace format"):
        specs(SYNTHETIC | {"lengths": {"kind": "trace", "path": "trace.csv", "format": "x"}}, folder)


def test_lengths_of_a_trace_stay_paired(folder):
    drawn = specs(SYNTHETIC | {"lengths": {"kind": "trace", "path": "trace.csv"}}, folder)
    assert all(spec.prompt_tokens == spec.output_tokens + 9 for spec in drawn)
    assert len({spec.prompt_tokens for spec in drawn}) > 30


def test_an_added_client_changes_no_other(folder):
    named = [SYNTHETIC | {"name": "a", "class": "a"}, SESSIONS | {"name": "b", "class": "b"}]
    before = specs({"kind": "mixture", "clients": named}, folder)
    after = specs({"kind": "mixture", "clients": [CLOSED | {"name": "new"}, *named]}, folder)
    assert [spec for spec in after if spec.request_class in ("a", "b")] == before


def test_two_traces_in_a_mixture_do_not_share_ids(folder):
    section = {"kind": "mixture", "clients": [TRACE, TRACE]}
    ids = [spec.request_id for spec in specs(section, folder)]
    assert len(set(ids)) == 100
    assert ids[:2] == ["client-0:r0", "client-1:r0"]


def test_sections_are_frozen_and_have_a_schema():
    config = parse_workload(SYNTHETIC)
    with pytest.raises(ValidationError):
        config.requests = 5
    schema = TypeAdapter(WorkloadConfig).json_schema()
    kinds = set(schema["discriminator"]["mapping"])
    assert kinds == {"trace", "synthetic", "closed-loop", "sessions", "mixture"}


def test_chunks_are_large(folder):
    traffic = build_traffic(parse_workload(SYNTHETIC | {"requests": 100_000}), np.random.SeedSequence(1), folder)
    chunks = list(traffic.chunks())
    assert len(chunks) < 20
    assert len(concatenate(chunks).arrival_s) == 100_000
