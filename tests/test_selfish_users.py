"""The router of the lesson on tolls: users who choose their own route."""

import numpy as np
import pytest

from latency_models.errors import InputError
from scenarios.lessons.prices_as_tolls.selfish_users import selfish_users
from sim.results import Status
from sim.routing.policies import Answer, Feedback, RequestView, RouterContext
from sim.routing.policy_contract import check_model_router


def users(**options):
    context = RouterContext(models=("shared", "remote"), rng=np.random.default_rng(1))
    return selfish_users(context, {"routes": [["shared"], ["remote"]], **options})


def view(row):
    return RequestView(row, float(row), 10, None, None, None, 0, None)


def heard(router, model, latency_s, row=0):
    router.on_end(Feedback(row, model, 0, latency_s, 0.0, 10, 1, Status.FINISHED))


def share_of_shared(router, requests):
    chosen = []
    for row in range(requests):
        chosen.append(router.route(view(row), []).target)
        assert router.review(view(row), Answer(chosen[-1], 1, 1, None), []) is None
    return chosen.count(0) / requests


@pytest.mark.parametrize("learning", [0, 0.1])
def test_it_is_a_proper_router(learning):
    check_model_router(
        selfish_users, lambda names: {"routes": [[name] for name in names], "learning": learning}, most_models=3
    )


def test_shares_hold_without_learning():
    assert share_of_shared(users(shares=[3, 1]), 4000) == pytest.approx(0.75, abs=0.03)
    assert share_of_shared(users(), 4000) == pytest.approx(0.5, abs=0.03)


def test_everybody_ends_where_it_is_cheapest():
    router = users(learning=0.01)
    heard(router, 0, 0.4)
    heard(router, 1, 1.0)
    assert share_of_shared(router, 2000) > 0.9


def test_a_toll_turns_users_away():
    router = users(learning=0.01, tolls_s={"shared": 0.7})
    heard(router, 0, 0.4)
    heard(router, 1, 1.0)
    assert share_of_shared(router, 2000) < 0.1


def test_a_route_asks_its_models_in_turn():
    router = users(routes=[["remote", "shared", "remote"]])
    targets = [router.route(view(0), []).target]
    for stage in (1, 2):
        targets.append(router.review(view(0), Answer(targets[-1], stage, 1, None), []).target)
    assert targets == [1, 0, 1]
    assert router.review(view(0), Answer(1, 3, 1, None), []) is None


@pytest.mark.parametrize(
    "options",
    [
        {"shares": [1.0]},
        {"shares": [0, 0]},
        {"shares": [-1, 2]},
        {"shares": [float("nan"), 1]},
        {"learning": -0.1},
        {"learning": 1.5},
        {"tolls_s": {"shared": float("inf")}},
        {"tolls_s": {"sharde": 1.0}},
        {"routes": []},
        {"routes": [["sharde"]]},
        {"routes": [[]]},
        {"speed": 3},
    ],
)
def test_options_that_mean_nothing(options):
    with pytest.raises(InputError):
        users(**options)
