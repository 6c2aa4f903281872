"""Routers and balancers: the contract that every policy keeps, and what each built-in one is for."""

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from cluster_cases import EXACT, cluster_of, traffic
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_models.contract import ContractError
from latency_models.errors import InputError
from sim.cluster import simulate
from sim.cluster_spec import ModelSpec, PolicySpec, ReplicaSpec, RunSpec
from sim.routing.balancers import LeastRequests
from sim.routing.policies import BALANCERS, MODEL_ROUTERS, BalancerContext, Decision, RequestView, RouterContext
from sim.routing.policy_contract import check_balancer, check_model_router
from sim.settings import EngineSettings
from sim.workload import RequestSpec


def view(row=0, *, model=None, session=None, content=None):
    return RequestView(row, 0.0, 10, model, None, session, 0, content)


def load(*requests, prompt_tokens=None):
    return SimpleNamespace(requests=requests, prompt_tokens=prompt_tokens or requests, kv_used=lambda replica: 0.0)


def balancer(kind, replicas, seed=0, **options):
    return BALANCERS.get(kind)(BalancerContext(replicas=replicas, rng=np.random.default_rng(seed)), options)


def router(kind, models, seed=0, **options):
    return MODEL_ROUTERS.get(kind)(RouterContext(models=tuple(models), rng=np.random.default_rng(seed)), options)


def chosen(policy, count, *, loads=None):
    return [policy.choose(view(row), loads).target for row in range(count)]


# ---------------------------------------------------------------------- the contract


def one_share(models):
    return {"fractions": {models[0]: 1.0}, "variant": "random"}


@pytest.mark.parametrize("kind", BALANCERS.names())
def test_built_in_balancers_keep_the_contract(kind):
    check_balancer(BALANCERS.get(kind))


@pytest.mark.parametrize("options", [{"remembered": 1}, {"max_imbalance": 1.0, "slack_requests": 0}])
def test_prefix_affinity_keeps_the_contract_with_tight_options(options):
    check_balancer(BALANCERS.get("prefix-affinity"), options)


def test_random_fractions_keep_the_contract_with_a_single_share():
    check_model_router(MODEL_ROUTERS.get("fractions"), one_share)


def test_the_contract_passes_on_wrong_options_as_such():
    with pytest.raises(InputError, match="unknown option of the random balancer 'sede'"):
        check_balancer(BALANCERS.get("random"), {"sede": 1})


def always(value):
    return lambda request, load: value


def drawn_globally(request, load):
    return Decision(random.randrange(len(load.requests)), "chance")


def sorting(request, load):
    if isinstance(load.requests, list):
        load.requests.sort(reverse=True)
    return Decision(0, "after sorting")


def peeking(request, load):
    return Decision(int(request.output_tokens > 5), "knows too much")


def only_lists(request, load):
    return Decision(load.requests.copy().index(min(load.requests)), "least")


BROKEN = {
    "allowed: an int from 0 to": always(Decision(99, "far")),
    "chose -1": always(Decision(-1, "last")),
    "chose True": always(Decision(True, "yes")),
    r"chose np.int64\(0\)|chose 0 ": always(Decision(np.int64(0), "typed")),
    "the reason '  '": always(Decision(0, "  ")),
    "the reason None": always(Decision(0, None)),
    "returned 0 ": always(0),
    "decides differently the second time": drawn_globally,
    "changed the loads": sorting,
    "has no attribute 'output_tokens'": peeking,
    "has no attribute 'copy'": only_lists,
}


@pytest.mark.parametrize(("message", "decide"), BROKEN.items(), ids=list(BROKEN))
def test_the_contract_notices_a_broken_balancer(message, decide):
    with pytest.raises(ContractError, match=message):
        check_balancer(lambda context, options: SimpleNamespace(choose=decide))


@pytest.mark.parametrize(
    ("message", "decide"),
    [
        ("allowed: an int from 0 to", always(Decision(8, "far"))),
        ("the reason ''", always(Decision(0, ""))),
        ("has no attribute 'output_tokens'", lambda request, loads: Decision(request.output_tokens, "knows")),
        ("decides differently", lambda request, loads: Decision(random.randrange(len(loads)), "chance")),
        ("without a model", lambda request, loads: Decision(int(request.model[-1]), "by name")),
    ],
)
def test_the_contract_notices_a_broken_router(message, decide):
    with pytest.raises(ContractError, match=message):
        check_model_router(lambda context, options: SimpleNamespace(route=decide))


def test_the_contract_notices_state_outside_the_policy():
    shared = balancer("round-robin", 3)
    with pytest.raises(ContractError, match="decides differently"):
        check_balancer(lambda context, options: shared if context.replicas == 3 else LeastRequests(context.replicas))


# ---------------------------------------------------------------------- model routers


@settings(max_examples=150)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda weights: sum(weights) > 1e-3))
def test_low_discrepancy_counts_are_never_off_by_one(weights):
    total = sum(weights)
    shares = {f"m{index}": weight / total for index, weight in enumerate(weights)}
    policy = router("fractions", shares, fractions=shares)
    counts = np.zeros(len(weights))
    fractions = np.array(list(shares.values()))
    for row in range(1, 301):
        counts[policy.route(view(row), ()).target] += 1
        assert np.abs(counts - row * fractions).max() < 1 + 1e-6


def test_equal_fractions_take_turns():
    policy = router("fractions", "abc", fractions={"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    targets = [policy.route(view(row), ()).target for row in range(12)]
    assert all(sorted(targets[start : start + 3]) == [0, 1, 2] for start in range(0, 12, 3))


@pytest.mark.parametrize("variant", ["low-discrepancy", "random"])
def test_a_model_without_a_share_gets_nothing(variant):
    policy = router("fractions", "abc", fractions={"b": 1.0}, variant=variant)
    assert {policy.route(view(row), ()).target for row in range(3000)} == {1}


def test_the_random_variant_has_the_right_frequencies():
    shares = {"a": 0.2, "b": 0.0, "c": 0.5, "d": 0.3}
    policy = router("fractions", shares, fractions=shares, variant="random")
    counts = Counter(policy.route(view(row), ()).target for row in range(40_000))
    assert counts[1] == 0
    for index, share in ((0, 0.2), (2, 0.5), (3, 0.3)):
        # Four standard deviations of a binomial count.
        assert abs(counts[index] - 40_000 * share) < 4 * (40_000 * share * (1 - share)) ** 0.5


def test_the_random_variant_is_independent_between_requests():
    policy = router("fractions", "ab", fractions={"a": 0.5, "b": 0.5}, variant="random")
    targets = np.array([policy.route(view(row), ()).target for row in range(20_000)])
    assert abs(np.mean(targets[1:] == targets[:-1]) - 0.5) < 0.02


def test_pinned_follows_the_name_and_helps_when_there_is_none():
    policy = router("pinned", ["llama-7b", "llama-13b"])
    assert policy.route(view(model="llama-13b"), ()).target == 1
    with pytest.raises(InputError, match="unknown model of a request 'llama-14b'; did you mean 'llama-13b'"):
        policy.route(view(model="llama-14b"), ())
    with pytest.raises(InputError, match="request 4 names no model, but routing is 'pinned'"):
        policy.route(view(4), ())


def test_round_robin_over_models():
    policy = router("round-robin", "abc")
    assert [policy.route(view(row), ()).target for row in range(7)] == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "routing.fractions is None; allowed: a mapping"),
        ({"fractions": [0.5, 0.5]}, "allowed: a mapping"),
        ({"fractions": {"a": 0.5, "b": 0.4}}, "sum of routing.fractions is 0.9; allowed: 1"),
        ({"fractions": {}}, "sum of routing.fractions is 0.0"),
        ({"fractions": {"a": 1.5, "b": -0.5}}, "routing.fractions.a is 1.5; allowed: a number between 0 and 1"),
        ({"fractions": {"a": float("nan"), "b": 1.0}}, "routing.fractions.a is nan"),
        ({"fractions": {"a": float("inf")}}, "routing.fractions.a is inf"),
        ({"fractions": {"a": True}}, "routing.fractions.a is True"),
        ({"fractions": {"a": "half", "b": 0.5}}, "routing.fractions.a is 'half'"),
        ({"fractions": {"A": 1.0}}, "unknown model in routing.fractions 'A'"),
        ({"fractions": {"a": 1.0}, "variant": "randm"}, "unknown variant of .* 'randm'; did you mean 'random'"),
        ({"fractions": {"a": 1.0}, "varant": "random"}, "unknown option .* 'varant'; did you mean 'variant'"),
    ],
)
def test_wrong_fractions_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        router("fractions", "ab", **options)


@pytest.mark.parametrize("kind", ["pinned", "round-robin"])
def test_routers_without_options_refuse_any(kind):
    with pytest.raises(InputError, match=r"unknown option of the .* router 'weight'"):
        router(kind, "ab", weight=1)


# ---------------------------------------------------------------------- balancers


def test_round_robin_over_replicas():
    assert chosen(balancer("round-robin", 3), 7) == [0, 1, 2, 0, 1, 2, 0]


def test_random_is_uniform():
    counts = Counter(chosen(balancer("random", 4), 20_000))
    assert all(abs(counts[replica] - 5000) < 4 * (20_000 * 0.25 * 0.75) ** 0.5 for replica in range(4))


def test_least_requests_takes_equals_in_turn():
    policy = balancer("least-requests", 4)
    assert policy.choose(view(), load(3, 1, 2, 1)).target == 1
    assert [policy.choose(view(), load(0, 0, 0, 0)).target for _ in range(3)] == [2, 3, 0]
    assert policy.choose(view(), load(9, 9, 9, 8, prompt_tokens=(1, 1, 1, 99))).target == 3


def test_least_tokens_counts_tokens():
    policy = balancer("least-tokens", 3)
    assert policy.choose(view(), load(1, 5, 9, prompt_tokens=(900, 80, 80))).target == 1


def test_power_of_two_takes_the_lesser_of_two_different_replicas():
    policy = balancer("power-of-two", 4)
    targets = chosen(policy, 4000, loads=load(4, 3, 2, 1))
    # Of the six pairs, replica 3 wins three, 2 wins two, 1 wins one, and 0, the worst, none.
    counts = Counter(targets)
    assert counts[0] == 0
    for replica, share in ((1, 1 / 6), (2, 2 / 6), (3, 3 / 6)):
        assert abs(counts[replica] - 4000 * share) < 4 * (4000 * share * (1 - share)) ** 0.5


def test_power_of_two_with_two_replicas_always_takes_the_lesser():
    assert set(chosen(balancer("power-of-two", 2), 500, loads=load(7, 6))) == {1}
    assert set(chosen(balancer("power-of-two", 1), 5, loads=load(7))) == {0}


def test_power_of_two_is_uniform_among_equals():
    counts = Counter(chosen(balancer("power-of-two", 3), 9000, loads=load(1, 1, 1)))
    assert all(abs(counts[replica] - 3000) < 4 * (9000 * 2 / 9) ** 0.5 for replica in range(3))


SYSTEM, FIRST, SECOND = ("system", 100), ("question 1", 20), ("question 2", 30)


def test_prefix_affinity_stays_with_the_prefix():
    policy = balancer("prefix-affinity", 3)
    assert policy.choose(view(content=(SYSTEM, FIRST)), load(5, 2, 5)) == (
        1,
        "no known prefix: fewest unfinished requests",
    )
    assert policy.choose(view(content=(SYSTEM, SECOND)), load(0, 3, 0)) == (1, "longest known prefix")
    assert policy.choose(view(content=(("other", 100),)), load(0, 3, 0)).target == 0
    assert policy.choose(view(), load(4, 3, 2)).target == 2


def test_prefix_affinity_prefers_the_longest_prefix():
    policy = balancer("prefix-affinity", 2, slack_requests=0)
    assert policy.choose(view(content=(SYSTEM, FIRST)), load(0, 1)).target == 0
    # Replica 0 is too busy now, so this longer prompt lives on replica 1 from here on.
    assert policy.choose(view(content=(SYSTEM, FIRST, SECOND)), load(9, 1)).target == 1
    assert policy.choose(view(content=(SYSTEM, FIRST, SECOND, ("more", 5))), load(1, 1)).target == 1


def test_prefix_affinity_spills_beyond_its_limit():
    policy = balancer("prefix-affinity", 2, max_imbalance=2.0, slack_requests=3)
    assert policy.choose(view(content=(SYSTEM,)), load(0, 0)).target == 0
    assert policy.choose(view(content=(SYSTEM,)), load(11, 4)).target == 0
    assert policy.choose(view(content=(SYSTEM,)), load(12, 4)) == (1, "its prefix is on a replica that is too busy")
    assert policy.choose(view(content=(SYSTEM,)), load(0, 3)).target == 1


def test_prefix_affinity_keeps_sessions_together_when_there_is_no_content():
    policy = balancer("prefix-affinity", 2)
    assert policy.choose(view(session="s1"), load(1, 0)).target == 1
    assert policy.choose(view(session="s1"), load(0, 1)).target == 1
    assert policy.choose(view(session="s2"), load(0, 1)).target == 0


def test_prefix_affinity_forgets_the_oldest():
    policy = balancer("prefix-affinity", 2, remembered=1)
    policy.choose(view(content=(SYSTEM,)), load(1, 0))
    policy.choose(view(content=(FIRST,)), load(1, 0))
    assert policy.choose(view(content=(FIRST,)), load(0, 1)).target == 1
    assert policy.choose(view(content=(SYSTEM,)), load(0, 1)).target == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_imbalance", 0.99),
        ("max_imbalance", float("nan")),
        ("max_imbalance", float("inf")),
        ("slack_requests", -1),
        ("slack_requests", 1.5),
        ("remembered", 0),
    ],
)
def test_prefix_affinity_refuses_wrong_options(option, value):
    with pytest.raises(InputError, match=f"balancer.{option} is {value!r}; allowed: "):
        balancer("prefix-affinity", 2, **{option: value})


@pytest.mark.parametrize("kind", BALANCERS.names())
def test_balancers_refuse_unknown_options(kind):
    with pytest.raises(InputError, match=f"unknown option of the {kind} balancer 'color'"):
        balancer(kind, 2, color="red")


def test_an_unknown_policy_suggests_the_nearest():
    with pytest.raises(InputError, match="unknown replica balancer 'least-request'; did you mean 'least-requests'"):
        BALANCERS.get("least-request")
    with pytest.raises(InputError, match=r"unknown model router 'roundrobin'; did you mean 'round-robin'\? \(choices:"):
        MODEL_ROUTERS.get("roundrobin")


# ---------------------------------------------------------------------- what balancers see in a cluster


def replicas_chosen(requests, *, staleness_s=0.0, kind="least-requests", replicas=3):
    model = ModelSpec(
        name="m",
        step_time=EXACT,
        replicas=tuple(ReplicaSpec(gpus=(0,), settings=EngineSettings()) for _ in range(replicas)),
        balancer=PolicySpec(kind=kind),
        staleness_s=staleness_s,
    )
    return simulate(cluster_of(model), traffic(requests), RunSpec()).requests.replica.tolist()


def test_a_live_view_counts_requests_of_the_same_instant():
    assert replicas_chosen([RequestSpec(0.0, 10, 10) for _ in range(6)]) == [0, 1, 2, 0, 1, 2]


def test_a_stale_view_does_not_see_what_it_sent_until_it_is_refreshed():
    times_s = (0.0, 0.01, 0.04, 0.05, 0.06, 0.1)
    requests = [RequestSpec(arrival_s, 10, 1000) for arrival_s in times_s]
    # Seen at 0: nothing, so each in turn. Seen at 0.05, and still at 0.06: (2, 1). Seen at 0.1: (2, 3).
    assert replicas_chosen(requests, replicas=2, staleness_s=0.05) == [0, 1, 0, 1, 1, 0]


def test_finished_requests_no_longer_count():
    requests = [RequestSpec(0.0, 10, 1), RequestSpec(0.0, 10, 50), RequestSpec(0.1, 10, 1), RequestSpec(0.1, 10, 1)]
    assert replicas_chosen(requests, replicas=2) == [0, 1, 0, 1]


def test_least_tokens_sees_prompt_tokens():
    requests = [RequestSpec(0.0, 1000, 50), RequestSpec(0.0, 10, 50), RequestSpec(0.0, 10, 50)]
    assert replicas_chosen(requests, kind="least-tokens", replicas=2) == [0, 1, 1]
