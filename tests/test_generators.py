"""Generated traffic: open loop, closed loop, sessions, mixtures; determinism and separate random streams."""

import heapq
import math
from collections import defaultdict
from itertools import count, pairwise

import numpy as np
import pytest

from latency_models.errors import InputError
from scenarios.workloads.arrival_processes import Deterministic, Diurnal, Poisson
from scenarios.workloads.closed_loop import ClosedLoopTraffic
from scenarios.workloads.generators import Bounds, MixtureTraffic, RequestLabels, SharedPrefix, open_loop
from scenarios.workloads.lengths import ConstantLength, GeometricLength, IndependentLengths, UniformLength
from scenarios.workloads.request_chunks import concatenate
from scenarios.workloads.sessions import SessionBounds, SessionTraffic
from scenarios.workloads.think_times import ConstantTime, ExponentialTime, LognormalTime, UniformTime
from sim.workload import OpenTraffic

LENGTHS = IndependentLengths(prompt=UniformLength(minimum=10, maximum=99), output=GeometricLength(mean=30))


def seed(value=1):
    return np.random.SeedSequence(value)


def serve(traffic, latency_s, limit=100_000):
    """All requests by arrival, where request number n takes ``latency_s(n)`` seconds."""
    served, heap, order = [], [], count()
    for chunk in traffic.chunks():
        for spec in chunk.specs():
            heapq.heappush(heap, (spec.arrival_s, next(order), spec))
    while heap:
        arrival, _, spec = heapq.heappop(heap)
        served.append(spec)
        assert len(served) < limit
        ended = arrival + latency_s(len(served))
        for follow_up in traffic.follow_ups(spec.request_id, ended):
            assert follow_up.arrival_s >= ended
            heapq.heappush(heap, (follow_up.arrival_s, next(order), follow_up))
    return served


def open_chunk(**changes):
    settings = {
        "arrivals": Poisson(rate_per_s=10),
        "lengths": LENGTHS,
        "bounds": Bounds(requests=1000),
        "seed": seed(),
    } | changes
    return concatenate(list(open_loop(**settings)))


def test_open_loop_bounds():
    assert len(open_chunk().arrival_s) == 1000
    by_time = open_chunk(bounds=Bounds(duration_s=20.0))
    assert by_time.arrival_s[-1] < 20
    assert len(by_time.arrival_s) == pytest.approx(200, abs=5 * math.sqrt(200))
    # An arrival at the end is outside.
    exact = open_chunk(arrivals=Deterministic(rate_per_s=1), bounds=Bounds(duration_s=3.0))
    assert exact.arrival_s.tolist() == [0, 1, 2]
    both = open_chunk(arrivals=Deterministic(rate_per_s=1), bounds=Bounds(duration_s=3.0, requests=2))
    assert both.arrival_s.tolist() == [0, 1]


def test_arrivals_that_end_end_the_traffic():
    chunk = open_chunk(arrivals=Diurnal(profile=((0, 5), (10, 0)), repeat=False), bounds=Bounds(requests=10**6))
    assert 5 < len(chunk.arrival_s) < 60


@pytest.mark.parametrize("requests", [1, 255, 256, 257, 5000])
def test_a_longer_run_extends_a_shorter_one(requests):
    prefix = SharedPrefix(prefixes=5, tokens=100)
    short = open_chunk(bounds=Bounds(requests=requests), shared_prefix=prefix)
    long = open_chunk(bounds=Bounds(requests=6000), shared_prefix=prefix)
    assert list(short.specs()) == list(long.specs())[:requests]


def test_labels():
    chunk = open_chunk(
        labels=RequestLabels(model="m", request_class="chat", priority=3, deadline_s=9.0, cancel_after_s=4.0)
    )
    spec = next(chunk.specs())
    assert (spec.model, spec.request_class, spec.priority) == ("m", "chat", 3)
    assert (spec.deadline_s, spec.cancel_after_s) == (9.0, 4.0)
    assert spec.request_id is None


def test_shared_prefix_is_zipf_and_adds_to_the_prompt():
    rows = 20_000
    plain = open_chunk(bounds=Bounds(requests=rows))
    chunk = open_chunk(bounds=Bounds(requests=rows), shared_prefix=SharedPrefix(prefixes=3, tokens=64, zipf=1.0))
    np.testing.assert_array_equal(chunk.prompt_tokens, plain.prompt_tokens + 64)
    np.testing.assert_array_equal(chunk.arrival_s, plain.arrival_s)
    counts = defaultdict(int)
    for ((name, tokens),) in chunk.content:
        assert tokens == 64
        counts[name] += 1
    weights = np.array([1, 1 / 2, 1 / 3]) / (1 + 1 / 2 + 1 / 3)
    for index, weight in enumerate(weights):
        tolerance = 5 * math.sqrt(weight * (1 - weight) / rows)
        assert counts[f"prefix:client:{index}"] / rows == pytest.approx(weight, abs=tolerance)


def test_clients_of_one_pool_share_content_and_lengths():
    pool = SharedPrefix(prefixes=4, tokens=UniformLength(minimum=10, maximum=1000), pool="system")
    settings = {"shared_prefix": pool, "pool_seed": seed(9)}
    first = {content[0] for content in open_chunk(seed=seed(1), client="a", **settings).content}
    second = {content[0] for content in open_chunk(seed=seed(2), client="b", **settings).content}
    assert first == second
    assert len({tokens for _, tokens in first}) > 1


def closed(users=5, seed_value=1, **changes):
    settings = {
        "think_time": ExponentialTime(mean_s=2.0),
        "lengths": LENGTHS,
        "bounds": Bounds(requests=400),
        "client": "c",
    } | changes
    return ClosedLoopTraffic(users=users, seed=seed(seed_value), **settings)


def test_closed_loop_has_at_most_one_request_per_user():
    latency = 1.5
    served = serve(closed(), lambda n: latency)
    assert len(served) == 400
    by_user = defaultdict(list)
    for spec in served:
        by_user[spec.session].append(spec)
    assert len(by_user) == 5
    thinks = []
    for user, specs in by_user.items():
        assert [spec.request_id for spec in specs] == [f"{user}:{turn}" for turn in range(len(specs))]
        thinks += [specs[0].arrival_s]
        thinks += [b.arrival_s - a.arrival_s - latency for a, b in pairwise(specs)]
    assert min(thinks) >= -1e-9
    assert np.mean(thinks) == pytest.approx(2.0, abs=5 * 2.0 / math.sqrt(len(thinks)))


def test_what_a_user_does_depends_on_no_latency():
    fast, slow = serve(closed(), lambda n: 0.01), serve(closed(), lambda n: 1 + n % 7)
    asked = {spec.request_id: (spec.prompt_tokens, spec.output_tokens) for spec in fast}
    common = [spec for spec in slow if spec.request_id in asked]
    assert len(common) > 300
    assert all(asked[spec.request_id] == (spec.prompt_tokens, spec.output_tokens) for spec in common)


def test_closed_loop_bounds():
    assert len(serve(closed(users=50, bounds=Bounds(requests=7)), lambda n: 1.0)) == 7
    served = serve(closed(bounds=Bounds(duration_s=100.0)), lambda n: 1.0)
    assert max(spec.arrival_s for spec in served) < 100
    # Five users with cycles of 3 s on average.
    assert len(served) == pytest.approx(5 * 100 / 3, rel=0.25)
    constant = closed(users=3, think_time=ConstantTime(value_s=1.0), bounds=Bounds(duration_s=1.0))
    assert list(constant.chunks()) == []


def test_closed_loop_ignores_other_ids():
    traffic = closed()
    chunk = concatenate(list(traffic.chunks()))
    assert list(traffic.follow_ups("nobody", 1.0)) == []
    assert len(list(traffic.follow_ups(chunk.request_id[0], 5.0))) == 1
    assert list(traffic.follow_ups(chunk.request_id[0], 5.0)) == []


def test_closed_loop_with_prefixes_and_labels():
    prefix = SharedPrefix(prefixes=2, tokens=50)
    served = serve(closed(shared_prefix=prefix, labels=RequestLabels(model="m", priority=1)), lambda n: 1.0)
    assert {spec.content[0] for spec in served} == {("prefix:c:0", 50), ("prefix:c:1", 50)}
    assert all(spec.prompt_tokens >= 60 and spec.model == "m" and spec.priority == 1 for spec in served)


def sessions(seed_value=1, **changes):
    settings = {
        "arrivals": Poisson(rate_per_s=1),
        "turns": GeometricLength(mean=4),
        "lengths": LENGTHS,
        "think_time": ExponentialTime(mean_s=3.0),
        "bounds": SessionBounds(sessions=300),
        "client": "chat",
        "system_prompt": SharedPrefix(prefixes=3, tokens=128),
    } | changes
    return SessionTraffic(seed=seed(seed_value), **settings)


def test_sessions_grow_by_every_message_and_answer():
    served = serve(sessions(), lambda n: 2.0)
    by_session = defaultdict(list)
    for spec in served:
        by_session[spec.session].append(spec)
    assert len(by_session) == 300
    turns = np.array([len(specs) for specs in by_session.values()])
    assert turns.mean() == pytest.approx(4, abs=5 * math.sqrt(12 / 300))
    for name, specs in by_session.items():
        for turn, spec in enumerate(specs):
            assert spec.request_id == f"{name}:{turn}"
            assert sum(tokens for _, tokens in spec.content) == spec.prompt_tokens
            assert spec.content[0][0].startswith("prefix:chat:")
            assert spec.content[-1][0] == f"in:{spec.request_id}"
        for before, after in pairwise(specs):
            answer = (f"out:{before.request_id}", before.output_tokens)
            assert after.content[: len(before.content) + 1] == (*before.content, answer)


def test_sessions_depend_on_no_latency():
    def asked(latency):
        served = serve(sessions(), latency)
        return {spec.request_id: (spec.prompt_tokens, spec.output_tokens, spec.content) for spec in served}

    assert asked(lambda n: 0.0) == asked(lambda n: n % 13)


def test_session_bounds():
    served = serve(sessions(bounds=SessionBounds(duration_s=60.0)), lambda n: 2.0)
    assert max(spec.arrival_s for spec in served) < 60
    limited = serve(sessions(bounds=SessionBounds(sessions=300, max_prompt_tokens=400)), lambda n: 2.0)
    assert max(spec.prompt_tokens for spec in limited) <= 400
    assert len(limited) > 300
    assert serve(sessions(bounds=SessionBounds(sessions=5, max_prompt_tokens=100)), lambda n: 2.0) == []
    first = {
        spec.session: spec.prompt_tokens for spec in serve(sessions(turns=ConstantLength(tokens=1)), lambda n: 1.0)
    }
    assert len(first) == 300


def mixture(*extra):
    clients = [
        OpenTraffic(open_loop(arrivals=Poisson(rate_per_s=5), lengths=LENGTHS, bounds=Bounds(requests=500),
                              seed=seed(3), labels=RequestLabels(request_class="open"))),
        closed(labels=RequestLabels(request_class="closed")),
        sessions(labels=RequestLabels(request_class="sessions")),
    ]  # fmt: skip
    return MixtureTraffic([*clients, *extra])


def test_mixture_serves_every_client_and_one_more_changes_no_other():
    alone = serve(mixture(), lambda n: 1.0)
    more = serve(mixture(closed(client="d", labels=RequestLabels(request_class="extra"))), lambda n: 1.0)
    kept = [spec for spec in more if spec.request_class != "extra"]
    assert sorted(alone) == sorted(kept) or sorted(map(repr, alone)) == sorted(map(repr, kept))
    counts = defaultdict(int)
    for spec in more:
        counts[spec.request_class] += 1
    assert counts["open"] == 500
    assert counts["closed"] == counts["extra"] == 400
    arrivals = [time for chunk in mixture().chunks() for time in np.asarray(chunk.arrival_s).tolist()]
    assert arrivals == sorted(arrivals)


@pytest.mark.parametrize(
    ("time", "mean", "std"),
    [
        (ConstantTime(value_s=2), 2, 0),
        (ExponentialTime(mean_s=2), 2, 2),
        (LognormalTime(mean_s=2, cv=0.5), 2, 1),
        (UniformTime(low_s=1, high_s=3), 2, 2 / math.sqrt(12)),
    ],
)
def test_think_times(time, mean, std):
    drawn = time.sample(np.random.default_rng(1), 50_000)
    assert drawn.min() >= 0
    assert drawn.mean() == pytest.approx(mean, abs=5 * std / math.sqrt(50_000) + 1e-12)
    assert drawn.std() == pytest.approx(std, rel=0.05, abs=1e-12)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_bad_settings(value):
    for build in (
        lambda: Bounds(duration_s=value),
        lambda: RequestLabels(deadline_s=value),
        lambda: SharedPrefix(tokens=5, zipf=value),
        lambda: ConstantTime(value_s=value),
        lambda: ExponentialTime(mean_s=value),
        lambda: LognormalTime(mean_s=1, cv=value),
        lambda: UniformTime(low_s=0, high_s=value),
        lambda: SessionBounds(duration_s=value),
    ):
        with pytest.raises(InputError):
            build()


def test_missing_bounds_and_zeros():
    for build in (
        Bounds,
        SessionBounds,
        lambda: Bounds(requests=0),
        lambda: SessionBounds(sessions=0),
        lambda: SessionBounds(sessions=1, max_prompt_tokens=0),
        lambda: SharedPrefix(tokens=0),
        lambda: SharedPrefix(prefixes=0, tokens=1),
        lambda: SharedPrefix(prefixes=10**9, tokens=1),
        lambda: closed(users=0),
        lambda: UniformTime(low_s=2, high_s=1),
    ):
        with pytest.raises(InputError):
            build()
