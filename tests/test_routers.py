"""Model routers that go by scores: each one's rule, what it refuses, and the contract."""

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from latency_models.contract import ContractError
from latency_models.errors import InputError
from sim.prompt_table import PromptTable
from sim.results import Status
from sim.routing.adaptive_routers import AdaptivePrice, SloAware
from sim.routing.latency_estimate import TtftEstimate
from sim.routing.policies import (
    MODEL_ROUTERS,
    Answer,
    Decision,
    Feedback,
    RequestView,
    RouterContext,
    oracle,
)
from sim.routing.policy_contract import check_model_router

PREDICTED = np.array([[0.2, 0.3, 0.9], [0.5, 0.5, 0.6], [0.8, 0.7, 0.8], [0.1, 0.6, 0.5]])
OUTCOMES = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
NAMES = ("small", "medium", "large")


def table(**changes):
    return PromptTable(**{"models": NAMES, "predicted": PREDICTED, "outcomes": OUTCOMES, **changes})


def router(kind, *, prompts=None, ttft_limit_s=None, models=NAMES, **options):
    prompts = table() if prompts is None else prompts
    seen = prompts if kind == "oracle" else prompts.without_truth()
    context = RouterContext(models=models, rng=np.random.default_rng(0), table=seen, ttft_limit_s=ttft_limit_s)
    return MODEL_ROUTERS.get(kind)(context, options)


def view(prompt=0, *, row=0, now_s=0.0, tokens=100, scores=None):
    scores = PREDICTED[prompt].tolist() if scores is None else scores
    return RequestView(row, now_s, tokens, None, None, None, 0, None, prompt, scores)


def loads(*unfinished):
    return [SimpleNamespace(requests=counts, prompt_tokens=counts) for counts in unfinished or ((0,), (0,), (0,))]


def target(policy, *args, **kwargs):
    return policy.route(view(*args, **kwargs), loads()).target


# ---------------------------------------------------------------------- the contract


OPTIONS = {
    "fractions": lambda models: {"fractions": {name: 1 / len(models) for name in models}},
    "price": lambda models: {"prices": {models[0]: 0.2}},
    "cascade": lambda models: {"order": list(models)[::-1], "threshold": 0.7},
}


@pytest.mark.parametrize("kind", MODEL_ROUTERS.names())
def test_built_in_routers_keep_the_contract(kind):
    fewest = 2 if kind == "threshold" else 1
    check_model_router(MODEL_ROUTERS.get(kind), OPTIONS.get(kind), fewest_models=fewest, most_models=5, requests=100)


class Cheating:
    def __init__(self, context):
        self.outcomes = context.table.outcomes.tolist()

    def route(self, request, loads):
        return Decision(int(np.argmax(self.outcomes[request.prompt])), "knows")


def test_the_contract_notices_who_looks_at_outcomes_undeclared():
    with pytest.raises(ContractError, match=r"decorated with sim\.routing\.policies\.oracle"):
        check_model_router(lambda context, options: Cheating(context))


def test_a_declared_oracle_may_look():
    @oracle
    def factory(context, options):
        if context.table is None:
            raise InputError("needs outcomes")
        return Cheating(context)

    check_model_router(factory)


class Reviewing:
    informed = 0.0

    def __init__(self, next_model):
        self.next_model = next_model

    def route(self, request, loads):
        return Decision(0, "first")

    def review(self, request, answer, loads):
        return self.next_model(answer, len(loads))


@pytest.mark.parametrize(
    ("message", "next_model"),
    [
        ("goes on after 50 answers", lambda answer, models: Decision((answer.model + 1) % models, "on")),
        ("asks model 0 again", lambda answer, models: Decision(answer.model, "again")),
        ("chose 99", lambda answer, models: Decision(99, "far")),
        ("has no attribute 'outcome'", lambda answer, models: answer.outcome),
    ],
)
def test_the_contract_notices_wrong_reviews(message, next_model):
    with pytest.raises(ContractError, match=message):
        check_model_router(lambda context, options: Reviewing(next_model), fewest_models=2)


def test_the_contract_notices_a_router_that_stumbles_over_feedback():
    class Forgetful:
        def __init__(self):
            self.sent = {}

        def route(self, request, loads):
            self.sent[request.row] = request.now_s
            return Decision(0, "always")

        def on_end(self, feedback):
            del self.sent[feedback.row]

    with pytest.raises(ContractError, match="raised KeyError"):
        check_model_router(lambda context, options: Forgetful())


def test_the_router_of_the_documentation_keeps_the_contract():
    text = (Path(__file__).parents[1] / "docs" / "routing.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    try:
        exec(compile(code, "docs/routing.md", "exec"), {})
        assert "least-open" in MODEL_ROUTERS.names()
    finally:
        MODEL_ROUTERS._built_in.pop("least-open", None)


# ---------------------------------------------------------------------- by scores alone


def test_threshold_sends_those_with_the_largest_gain_to_the_strong_model():
    policy = router("threshold", budget=0.25)
    # Gains of large over small: 0.7, 0.1, 0.0, 0.4.
    assert [target(policy, prompt) for prompt in (0, 1, 2, 3)] == [2, 0, 0, 0]
    assert [target(router("threshold", threshold=0.3), prompt) for prompt in (0, 1, 2, 3)] == [2, 0, 0, 2]
    between = router("threshold", threshold=0.05, strong="medium", weak="small")
    assert [target(between, prompt) for prompt in (0, 1, 2, 3)] == [1, 0, 0, 1]


@pytest.mark.parametrize("budget", [0.0, 0.1, 0.37, 0.5, 0.93, 1.0])
def test_threshold_keeps_its_budget_with_ties(budget):
    rng = np.random.default_rng(2)
    prompts = table(predicted=rng.integers(0, 4, (200, 3)) / 4, outcomes=None)
    policy = router("threshold", prompts=prompts, budget=budget, strong="large", weak="small")
    order = rng.integers(0, 200, 20_000)
    rows = prompts.predicted.tolist()
    strong = np.mean([target(policy, 0, scores=rows[prompt]) == 2 for prompt in order])
    assert abs(strong - budget) < 4 * (0.25 / len(order)) ** 0.5


def test_threshold_equals_prices_that_differ_by_it():
    rng = np.random.default_rng(3)
    by_gain = router("threshold", threshold=0.15, strong="large", weak="small")
    by_price = router("price", prices={"large": 0.15, "medium": 9.0})
    for _ in range(500):
        scores = rng.uniform(0, 1, 3).tolist()
        assert target(by_gain, scores=scores) == target(by_price, scores=scores)


def test_best_single_and_random():
    assert {target(router("best-single"), prompt) for prompt in range(4)} == {2}
    assert {target(router("best-single", model="small"), prompt) for prompt in range(4)} == {0}
    policy = router("random")
    counts = Counter(target(policy) for _ in range(30_000))
    assert all(abs(counts[model] - 10_000) < 4 * (30_000 * 2 / 9) ** 0.5 for model in range(3))


def test_the_oracle_takes_the_best_outcome_and_among_equals_the_least_load():
    policy = router("oracle")
    assert policy.route(view(1), loads((5, 5), (0,), (0,))).target == 0
    assert policy.route(view(0), loads((0,), (4,), (4, 2))).target == 2
    assert policy.route(view(3), loads((1,), (1,), (0, 1))).target == 2


# ---------------------------------------------------------------------- cascades


def test_a_cascade_goes_on_until_the_scorer_is_content():
    policy = router("cascade", threshold={"small": 0.4, "medium": 0.8})
    assert policy.route(view(), loads()).target == 0
    review = lambda model, score: policy.review(view(), Answer(model, 1, 9, score), loads())  # noqa: E731
    assert review(0, 0.39).target == 1
    assert review(0, 0.4) is None
    assert review(1, 0.79).target == 2
    assert review(2, 0.0) is None


def test_a_cascade_may_leave_models_out():
    policy = router("cascade", order=["medium", "small"], threshold=1.0)
    assert policy.route(view(), loads()).target == 1
    assert policy.review(view(), Answer(1, 1, 9, 0.5), loads()).target == 0
    assert policy.review(view(), Answer(0, 2, 9, 0.5), loads()) is None


# ---------------------------------------------------------------------- latency as routers see it


def served(estimate, row, sent_s, tokens, ttft_s, replicas=1):
    estimate.sent(row, sent_s, tokens, replicas)
    estimate.first_token(row, sent_s + ttft_s)


def test_the_estimate_learns_a_law_of_the_work_ahead():
    estimate = TtftEstimate(memory_s=30)
    rng = np.random.default_rng(1)
    for row in range(300):
        tokens = int(rng.integers(50, 500))
        served(estimate, row, row * 1.0, tokens, 0.03 + 2e-4 * tokens)
    assert estimate.predict_s(300.5, 1000, 1) == pytest.approx(0.03 + 0.2, rel=1e-6)
    for row in range(5):
        estimate.sent(1000 + row, 300.5, 200, 1)
    assert estimate.predict_s(300.5, 1000, 1) == pytest.approx(0.03 + 0.4, rel=1e-6)
    # Two replicas share the work ahead.
    assert estimate.predict_s(300.5, 1000, 2) == pytest.approx(0.03 + 0.3, rel=1e-6)


def test_the_estimate_is_at_least_what_the_oldest_has_waited():
    estimate = TtftEstimate(memory_s=30)
    estimate.sent(0, 10.0, 100, 1)
    assert estimate.predict_s(17.0, 100, 1) == 7.0
    estimate.ended(0)
    assert estimate.predict_s(17.0, 100, 1) == 0.0


def test_the_estimate_forgets_a_model_that_was_not_asked_for_long():
    estimate = TtftEstimate(memory_s=5)
    served(estimate, 0, 0.0, 100, 2.0)
    assert estimate.predict_s(3.0, 100, 1) == 2.0
    assert estimate.predict_s(7.5, 100, 1) == 0.0
    served(estimate, 1, 8.0, 100, 0.1)
    assert estimate.predict_s(8.5, 100, 1) == pytest.approx(0.1)


def test_the_estimate_is_never_negative():
    estimate = TtftEstimate(memory_s=30)
    for row, (tokens, ttft_s) in enumerate([(100, 1.0), (200, 0.1), (300, 0.01)]):
        served(estimate, row, float(row), tokens, ttft_s)
    assert estimate.predict_s(3.0, 10_000, 1) >= 0.0


def first_token(policy, row, model, now_s, sent_s):
    policy.on_first_token(Feedback(row, model, 0, now_s, sent_s, 100, 1, None))


def test_slo_aware_takes_the_best_score_that_fits():
    policy = SloAware(3, ttft_s=0.5, deviations=0.0, memory_s=30)
    # Nothing is known yet: the best score.
    assert policy.route(view(0, row=0), loads()).target == 2
    first_token(policy, 0, 2, 0.9, 0.0)
    # The large model took 0.9 s.
    assert policy.route(view(0, row=1, now_s=1.0), loads()).target == 1
    first_token(policy, 1, 1, 1.7, 1.0)
    assert policy.route(view(0, row=2, now_s=2.0), loads()).target == 0
    first_token(policy, 2, 0, 2.6, 2.0)
    decision = policy.route(view(0, row=3, now_s=3.0), loads())
    assert decision == (0, "none keeps the limit: the quickest")


def test_a_request_that_was_routed_again_no_longer_waits_at_the_first_model():
    policy = SloAware(3, ttft_s=0.5, deviations=0.0, memory_s=30)
    assert policy.route(view(0, row=0), loads()).target == 2
    # A gateway whose large model is down asks again, with scores that rule it out.
    assert policy.route(view(0, row=0, scores=[0.2, 0.3, -1e9]), loads()).target == 1
    first_token(policy, 0, 0, 0.3, 0.0)
    assert policy.predict_s(view(0, row=1, now_s=90.0), loads()) == [0.0, 0.0, 0.0]


def adaptive(**changes):
    options = {"ttft_s": 0.5, "late_share": None, "beta": 0.1, "step": 0.01, "max_beta": 2.0, "memory_s": 30.0}
    return AdaptivePrice(3, **{**options, **changes})


def test_beta_rises_while_the_mean_is_too_long_and_falls_otherwise():
    policy = adaptive()
    first_token(policy, 0, 0, 1.0, 0.0)
    assert policy.beta == pytest.approx(0.11)
    first_token(policy, 1, 0, 1.25, 1.0)
    assert policy.beta == pytest.approx(0.105)
    first_token(policy, 2, 0, 500.0, 1.0)
    assert policy.beta == pytest.approx(0.105 + 0.09)


def test_beta_stays_within_its_limits():
    policy = adaptive(step=1.0)
    first_token(policy, 0, 0, 90.0, 0.0)
    assert policy.beta == 2.0
    for row in range(3):
        first_token(policy, row, 0, 0.0, 0.0)
    assert policy.beta == 0.0


def test_beta_is_at_rest_where_the_share_of_late_ones_is_just_kept():
    policy = adaptive(late_share=0.1, beta=1.0)
    for row in range(100):
        first_token(policy, row, 0, 0.6 if row % 10 == 0 else 0.4, 0.0)
    assert policy.beta == pytest.approx(1.0)


def test_a_request_that_leaves_without_a_first_token_counts_as_late():
    policy = adaptive()
    policy.route(view(0, row=7), loads())
    policy.on_end(Feedback(7, 2, 0, 0.1, 0.0, 100, 0, Status.REJECTED))
    assert policy.beta == pytest.approx(0.19)
    policy.on_end(Feedback(7, 2, 0, 0.1, 0.0, 100, 0, Status.REJECTED))
    assert policy.beta == pytest.approx(0.19)


def test_prices_follow_the_work_ahead():
    policy = adaptive(beta=0.5, step=1e-9)
    scores = [0.5, 0.5, 0.8]
    for row in range(50):
        assert policy.route(view(row=row, now_s=row * 1.0, scores=scores), loads()).target == 2
        first_token(policy, row, 2, row + 0.1, row * 1.0)
    # 0.8 - 0.5 * 0.1 / 0.5 is still best; once one has waited for 0.4 s it no longer is.
    assert policy.route(view(row=60, now_s=60.0, scores=scores), loads()).target == 2
    assert policy.route(view(row=61, now_s=60.4, scores=scores), loads()).target == 0


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "kind", ["price", "price-adaptive", "slo-aware", "threshold", "best-single", "cascade", "oracle"]
)
def test_routers_that_need_scores_say_so(kind):
    with pytest.raises(InputError, match=f"{kind} router goes by predicted scores, and the workload has none; add a"):
        MODEL_ROUTERS.get(kind)(RouterContext(models=NAMES, rng=None, ttft_limit_s=1.0), {})


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("threshold", {"budget": 1.1}, "routing.budget is 1.1; allowed: a share"),
        ("threshold", {"budget": -0.1}, "routing.budget is -0.1"),
        ("threshold", {"budget": float("nan")}, "routing.budget is nan"),
        ("threshold", {"threshold": 2}, "routing.threshold is 2; allowed: a difference of scores"),
        ("threshold", {"budget": 0.1, "threshold": 0.1}, "leave one of them out"),
        ("threshold", {"strong": "larg"}, "unknown model in routing.strong 'larg'; did you mean 'large'"),
        ("threshold", {"strong": "small", "weak": "small"}, "routing.weak is 'small'; allowed: another model"),
        ("threshold", {"budgt": 0.1}, "unknown option of the threshold router 'budgt'; did you mean 'budget'"),
        ("cascade", {"order": "small"}, "routing.order is 'small'; allowed: a list"),
        ("cascade", {"order": []}, "allowed: a list of model names"),
        ("cascade", {"order": ["small", "small"]}, "allowed: each model once"),
        ("cascade", {"order": ["smal"]}, "unknown model in routing.order 'smal'; did you mean 'small'"),
        ("cascade", {"threshold": 1.5}, "routing.threshold is 1.5; allowed: a score"),
        ("cascade", {"threshold": {"small": 1.5}}, "routing.threshold is 1.5"),
        ("cascade", {"threshold": {"tiny": 0.5}}, "unknown model in routing.threshold 'tiny'"),
        ("cascade", {"threshold": "high"}, "routing.threshold is 'high'"),
        ("cascade", {"informed": 2}, "routing.informed is 2.0; allowed: a share"),
        ("cascade", {"informed": float("inf")}, "routing.informed is inf"),
        ("best-single", {"model": "huge"}, "unknown model in routing.model 'huge'"),
        ("price-adaptive", {"ttft_s": 0}, "routing.ttft_s is 0"),
        ("price-adaptive", {"ttft_s": 500, "step": 0}, "routing.step is 0"),
        ("price-adaptive", {"ttft_s": 0.5, "late_share": 1.0}, "routing.late_share is 1.0; allowed: a share"),
        ("price-adaptive", {"ttft_s": 0.5, "beta": 3}, r"routing.beta is 3.*; allowed: at most max_beta \(2\)"),
        ("price-adaptive", {}, "routing.ttft_s is missing"),
        ("slo-aware", {}, "routing.ttft_s is missing"),
        ("slo-aware", {"ttft_s": float("nan")}, "routing.ttft_s is nan"),
        ("slo-aware", {"ttft_s": 1, "memory_s": 0}, "routing.memory_s is 0"),
        ("oracle", {"noise": 1}, "unknown option of the oracle router 'noise'"),
        ("random", {"seed": 1}, "unknown option of the random router 'seed'"),
    ],
)
def test_wrong_options_are_refused(kind, options, message):
    with pytest.raises(InputError, match=message):
        router(kind, **options)


def test_the_limit_of_the_scenario_is_the_default():
    router("slo-aware", ttft_limit_s=0.5)
    router("price-adaptive", ttft_limit_s=0.5)


def test_a_threshold_needs_two_models():
    alone = PromptTable(models=("small",), predicted=PREDICTED[:, :1])
    with pytest.raises(InputError, match="a strong and a weak one, at least two"):
        router("threshold", prompts=alone, models=("small",))


def test_an_oracle_needs_outcomes():
    with pytest.raises(InputError, match="needs the true outcomes"):
        router("oracle", prompts=table(outcomes=None))
