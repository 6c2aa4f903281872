"""Prompts of simulated requests: which one each has, what routers believe of it, how long the answers are."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.quality import quality
from latency_models.errors import InputError
from sim.prompt_table import PromptTable
from sim.prompts import Prompts, PromptSpec

TABLE = PromptTable(
    models=("a", "b"),
    predicted=np.array([[0.1, 0.9], [0.5, 0.5], [0.8, 0.2], [0.3, 0.4]]),
    outcomes=np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
    output_tokens=np.array([[0.0, 5.0], [2.4, 6.0], [3.0, 7.0], [4.0, 8.0]]),
)


def prompts(seed=0, **options):
    draws, errors, order = np.random.default_rng(seed).spawn(3)
    return Prompts(PromptSpec(table=TABLE, **options), draws=draws, errors=errors, order=order)


def counts(drawn):
    return np.bincount(drawn, minlength=TABLE.prompts).tolist()


def test_all_prompts_come_about_equally_often():
    found = prompts()
    share = np.array(counts([found.draw() for _ in range(20_000)])) / 20_000
    assert share == pytest.approx([0.25] * 4, abs=0.02)


def test_in_turn_every_prompt_comes_equally_often_in_another_order_each_time():
    found = prompts(draws="in-turn")
    passes = [[found.draw() for _ in range(4)] for _ in range(50)]
    assert all(sorted(one) == [0, 1, 2, 3] for one in passes)
    assert len({tuple(one) for one in passes}) > 10


@pytest.mark.parametrize("draws", ["independent", "in-turn"])
def test_weights_say_how_often_a_prompt_comes(draws):
    found = prompts(draws=draws, weights=np.array([2.0, 0.0, 1.0, 1.0]))
    share = np.array(counts([found.draw() for _ in range(20_000)])) / 20_000
    assert share == pytest.approx([0.5, 0.0, 0.25, 0.25], abs=0.02 if draws == "independent" else 1e-9)


def test_routers_see_the_predictions():
    assert prompts().scores(0) == pytest.approx([0.1, 0.9])


def test_a_bias_shifts_what_routers_see_within_the_range_of_scores():
    found = prompts(score_bias=(0.3, -0.3))
    assert found.scores(0) == pytest.approx([0.4, 0.6])
    assert found.scores(2) == pytest.approx([1.0, 0.0])


def test_noise_differs_by_request_and_model_and_has_its_size():
    found = prompts(score_noise=0.05)
    seen = np.array([found.scores(1) for _ in range(5000)])
    assert seen.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.005)
    assert seen.std(axis=0) == pytest.approx([0.05, 0.05], rel=0.05)
    assert abs(np.corrcoef(seen.T)[0, 1]) < 0.05
    wild = prompts(score_noise=1.0)
    extremes = np.array([wild.scores(0) for _ in range(200)])
    assert (extremes.min(), extremes.max()) == (0.0, 1.0)


def test_lengths_are_those_of_prompt_and_model_and_at_least_one_token():
    found = prompts(lengths="table")
    assert [[found.output_tokens(p, m) for m in (0, 1)] for p in range(4)] == [[1, 5], [2, 6], [3, 7], [4, 8]]
    assert prompts(lengths="workload").output_tokens(0, 0) is None


def test_shuffled_lengths_are_the_models_own_in_another_order():
    found = prompts(lengths="shuffled", seed=3)
    lengths = [[found.output_tokens(p, m) for p in range(4)] for m in (0, 1)]
    assert [sorted(own) for own in lengths] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert lengths != [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": "tabel"}, "did you mean 'table'"),
        ({"draws": "in turn"}, "did you mean 'in-turn'"),
        ({"score_noise": -0.1}, "prompts.score_noise is -0.1"),
        ({"score_noise": float("nan")}, "prompts.score_noise is nan"),
        ({"score_bias": (0.1,)}, "allowed: 2 numbers, one per model"),
        ({"weights": np.array([1.0, 1.0])}, "allowed: 4 weights"),
        ({"weights": np.array([1.0, -1.0, 1.0, 1.0])}, "allowed: 4 weights"),
        ({"weights": np.zeros(4)}, "not all 0"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        prompts(**options)


def test_lengths_need_a_table_that_has_them():
    with pytest.raises(InputError, match="the prompt table has no output_tokens"):
        PromptSpec(table=replace(TABLE, output_tokens=None), lengths="shuffled")


def test_a_prompt_that_the_workload_names_must_exist():
    assert prompts().check(3, row=0) == 3
    with pytest.raises(InputError, match=r"prompt of request 7 is 4; allowed: 0 to 3"):
        prompts().check(4, row=7)


def test_quality_counts_an_answer_that_never_came_as_zero(tmp_path):
    from planned_cases import pair

    from scenarios.replicated import PreparedScenario, simulate_replication

    # A replica that takes one request at a time and has room for one more turns the others away.
    def crowded(values):
        values["routing"] = {"kind": "fractions", "fractions": {"small": 1.0}}
        values["models"]["small"]["engine"] = {"num_gpu_blocks": 500, "max_num_seqs": 1}
        values["models"]["small"]["admission"] = {"max_queue_requests": 1}

    result = simulate_replication(PreparedScenario.of(pair(tmp_path, crowded)), 0)
    rows = np.arange(len(result.requests))
    found = quality(result, rows)
    outcomes = result.prompts.outcomes[result.requests.prompt, 0]
    finished = result.requests.status == 0
    assert 0.0 < finished.mean() < 0.9
    assert found.achieved == pytest.approx((outcomes * finished).mean())
    assert found.achieved_of_answered == pytest.approx(outcomes[finished].mean())
    assert found.predicted == pytest.approx(result.prompts.predicted[result.requests.prompt, 0].mean())
