"""The parts of the published method: projection, dual prices, which setups are retained, ascent and bisection."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_models.errors import InputError
from optimizer.delays.delay import Delay
from optimizer.published.retained import count_setups, first_fit_decreasing, retained_setups
from optimizer.published.routing import PublishedRules, delay_and_slope, optimise_beta
from optimizer.published.simplex import project_on_simplex
from optimizer.published.subgradient import StepRule, dual_prices
from optimizer.splits.assignment import ScoreTable

# ---------------------------------------------------------------------- projection


@pytest.mark.parametrize(
    ("point", "upper", "expected"),
    [
        ([0.2, 0.3, 0.5], None, [0.2, 0.3, 0.5]),
        ([0.5, 0.5, 3.0], None, [0.0, 0.0, 1.0]),
        ([0.6, 0.6], None, [0.5, 0.5]),
        ([-5.0, -5.0], None, [0.5, 0.5]),
        ([7.0], None, [1.0]),
        ([0.0, 0.0], [0.3, 0.7], [0.3, 0.7]),
        ([0.9, 0.1, 0.0], [0.4, 1.0, 1.0], [0.4, 0.35, 0.25]),
    ],
)
def test_projections_worked_out_by_hand(point, upper, expected):
    found = project_on_simplex(np.array(point), None if upper is None else np.array(upper))
    assert found == pytest.approx(expected)


@given(
    st.lists(
        st.tuples(st.floats(-50, 50), st.floats(0, 2)),
        min_size=1,
        max_size=7,
    ).filter(lambda pairs: sum(min(upper, 1.0) for _, upper in pairs) >= 1.0)
)
def test_a_projection_is_feasible_and_one_shift_explains_it(pairs):
    point, upper = (np.array(column) for column in zip(*pairs, strict=True))
    upper = np.minimum(upper, 1.0)
    found = project_on_simplex(point, upper)
    assert found.sum() == pytest.approx(1.0, abs=1e-9)
    assert (found >= 0).all()
    assert (found <= upper).all()
    # KKT: point - w is the shift, above it where w sticks to its upper bound, below it where w is 0.
    moved = point - found
    shift_at_most = moved[found > 1e-9]
    shift_at_least = moved[found < upper - 1e-9]
    if len(shift_at_most) and len(shift_at_least):
        assert shift_at_least.max() <= shift_at_most.min() + 1e-8


def test_fractions_that_cannot_sum_to_one_are_refused():
    with pytest.raises(InputError, match="sum of the upper bounds"):
        project_on_simplex(np.zeros(2), np.array([0.4, 0.5]))
    with pytest.raises(InputError, match="point to project"):
        project_on_simplex(np.array([0.0, np.nan]))


# ---------------------------------------------------------------------- dual prices


def scores(prompts=400, models=3, seed=0):
    return np.random.default_rng(seed).beta(2, 2, (prompts, models)) * np.linspace(0.6, 1.0, models)


def test_dual_prices_bound_the_score_of_every_assignment_and_come_close_to_the_best():
    from scipy.optimize import linear_sum_assignment

    values = scores(prompts=120)
    fractions = np.array([0.25, 0.25, 0.5])
    # An assignment with counts: each model is as many columns as it gets prompts.
    columns = np.repeat(np.arange(3), (fractions * 120).astype(int))
    rows, chosen = linear_sum_assignment(-values[:, columns])
    best = values[rows, columns[chosen]].mean()
    found = dual_prices(ScoreTable(values), fractions, np.zeros(3), StepRule(iterations=2000, tolerance=0.0))
    assert best <= found.bound + 1e-12
    assert found.bound == pytest.approx(best, abs=2e-4)
    assert found.prices.sum() == pytest.approx(0.0)


def test_the_bound_only_gets_lower_with_more_steps():
    table, fractions = ScoreTable(scores()), np.array([0.6, 0.3, 0.1])
    bounds = [
        dual_prices(table, fractions, np.zeros(3), StepRule(iterations=many, tolerance=0.0)).bound
        for many in (1, 5, 50, 500)
    ]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] < bounds[0]


# ---------------------------------------------------------------------- retained setups


@dataclass(frozen=True)
class Footprint:
    compute: float
    shards: int
    memory_share: float


PUBLISHED_GB = (14.5, 26.0, 68.8)


def published_options(weights_gb, shares=range(10, 110, 10)):
    """tp 1, 2, 4 at every compute share; weights split over the shards, 3 GB more for each, 72 GB usable."""
    return [
        Footprint(compute=tp * percent / 100, shards=tp, memory_share=(weights_gb / tp + 3) / 72)
        for tp in (1, 2, 4)
        for percent in shares
    ]


@pytest.mark.parametrize(
    ("weights", "gpus", "within_compute", "retained"),
    [
        (PUBLISHED_GB, 1, 150, 0),
        (PUBLISHED_GB, 2, 579, 178),
        (PUBLISHED_GB, 3, 743, 305),
        (PUBLISHED_GB, 4, 669, 529),
        (PUBLISHED_GB, 5, 576, 576),
        (PUBLISHED_GB, 6, 419, 419),
        (PUBLISHED_GB, 7, 177, 177),
        (PUBLISHED_GB, 8, 141, 141),
        ((*PUBLISHED_GB, 16.0), 2, 6001, 633),
        ((*PUBLISHED_GB, 16.0), 4, 16660, 10750),
        ((*PUBLISHED_GB, 16.0), 6, 15684, 15684),
        ((*PUBLISHED_GB, 16.0), 8, 7764, 7764),
    ],
)
def test_as_many_setups_are_retained_as_the_publication_s_rules_give(weights, gpus, within_compute, retained):
    models = [published_options(weight) for weight in weights]
    counts = count_setups(models, gpus)
    assert (counts.product, counts.within_compute, counts.retained) == (30 ** len(weights), within_compute, retained)
    assert sum(1 for _ in retained_setups(models, gpus)) == retained


def test_retained_setups_are_those_of_a_plain_walk_through_the_product():
    import itertools

    models = [published_options(weight, shares=(30, 70, 100)) for weight in PUBLISHED_GB]
    for least in (0.0, 0.8, 1.0):
        expected = [
            setup
            for setup in itertools.product(*(range(len(options)) for options in models))
            if least * 3 - 1e-9 <= sum(models[i][k].compute for i, k in enumerate(setup)) <= 3 + 1e-9
            and first_fit_decreasing([models[i][k] for i, k in enumerate(setup)], 3) is not None
        ]
        assert list(retained_setups(models, 3, least)) == expected
        assert count_setups(models, 3, least).retained == len(expected) > 0


def test_first_fit_decreasing_places_the_largest_first_and_no_model_twice_on_a_gpu():
    small, large = Footprint(1.0, 2, 0.4), Footprint(1.0, 1, 0.7)
    assert first_fit_decreasing([small, large], 2) is None
    assert first_fit_decreasing([small, large], 3) == ((1, 2), (0,))
    assert first_fit_decreasing([Footprint(1.0, 2, 0.1)], 1) is None
    # 0.1 ten times fills a GPU in spite of rounding.
    assert first_fit_decreasing([Footprint(0.1, 1, 0.1)] * 10, 1) == ((0,),) * 10


@pytest.mark.parametrize("least_compute", [-0.1, 1.1, float("nan")])
def test_a_least_compute_that_is_no_share_is_refused(least_compute):
    with pytest.raises(InputError, match="least_compute"):
        count_setups([published_options(14.5)], 2, least_compute)


def test_a_problem_without_options_is_refused():
    with pytest.raises(InputError, match="models"):
        count_setups([published_options(14.5), []], 2)
    with pytest.raises(InputError, match="gpus"):
        list(retained_setups([published_options(14.5)], 0))


# ---------------------------------------------------------------------- ascent and bisection


def queue_delay(base_s, capacity, rate, target_s):
    """An M/M/1-like curve up to 97 % of its capacity."""
    rates = np.linspace(0.0, 0.97 * capacity, 15)
    latency = base_s / (1.0 - rates / capacity)
    end = min(rate, rates[-1])
    inside = rates < end
    return Delay(
        shares=np.append(rates[inside], end) / rate,
        relative=np.append(latency[inside], np.interp(end, rates, latency))[None] / target_s,
    )


def three_models(rate=50.0, target_s=0.5):
    return [queue_delay(b, c, rate, target_s) for b, c in ((0.05, 60.0), (0.08, 30.0), (0.25, 12.0))]


def test_the_gradient_of_the_delay_is_that_of_finite_differences():
    delays, fractions = three_models(), np.array([0.47, 0.36, 0.17])
    _, slope = delay_and_slope(delays, fractions)
    for model in range(3):
        step = np.zeros(3)
        step[model] = 1e-7
        up, down = (delay_and_slope(delays, fractions + sign * step)[0] for sign in (1, -1))
        assert slope[model] == pytest.approx((up - down) / 2e-7, rel=1e-5)


def test_bisection_ends_close_below_the_target_and_close_to_the_best_score():
    from scipy.optimize import minimize

    values = scores(prompts=2000)
    table, delays = ScoreTable(values), three_models(target_s=0.2)
    found = optimise_beta(table, delays, PublishedRules())
    assert found is not None
    assert found.beta > 0.0
    assert 0.85 < found.delay <= 1.0
    assert found.fractions.sum() == pytest.approx(1.0)
    # Independent: S(w) by its dual, maximised over two fractions by Nelder and Mead with a penalty.
    long = StepRule(iterations=150, tolerance=5e-4)

    def lost(two):
        fractions = np.array([*two, 1.0 - sum(two)])
        if (fractions < 0).any() or any(f > d.highest for f, d in zip(fractions, delays, strict=True)):
            return 10.0
        excess = max(delay_and_slope(delays, fractions)[0] - 1.0, 0.0)
        return 10.0 * excess - dual_prices(table, fractions, np.zeros(3), long).bound

    best = -minimize(lost, [0.5, 0.33], method="Nelder-Mead", options={"maxfev": 80}).fun
    assert found.score == pytest.approx(best, abs=4e-3)


def test_without_a_binding_target_the_price_of_latency_is_zero():
    found = optimise_beta(ScoreTable(scores()), three_models(rate=1.0, target_s=60.0), PublishedRules())
    assert found is not None
    assert found.beta == 0.0
    assert found.score == pytest.approx(scores().max(axis=1).mean(), abs=2e-3)


def test_a_setup_that_cannot_carry_the_load_or_keep_the_target_has_no_split():
    table = ScoreTable(scores())
    assert optimise_beta(table, three_models(rate=200.0), PublishedRules()) is None
    assert optimise_beta(table, three_models(target_s=0.01), PublishedRules()) is None
