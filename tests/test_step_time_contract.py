import math

import pytest

from latency_models.contract import ContractError, check_step_time_model
from latency_models.laws.linear import LinearStepTime
from latency_models.step_time import UNLIMITED_STEPS
from latency_models.tables.piecewise import DecodeRow, PiecewiseStepTime, PrefillTable

TABLE = {
    "decode": (
        DecodeRow(batch=1, context_tokens=(1, 500, 9000), step_s=(0.010, 0.011, 0.020)),
        DecodeRow(batch=64, context_tokens=(64, 6400, 576_000), step_s=(0.02, 0.03, 0.3)),
    ),
    "prefill": PrefillTable(tokens=(1, 2048), step_s=(0.01, 0.2)),
}


class Quadratic:
    """A model whose steps are not linear in the context, for ever."""

    steps = UNLIMITED_STEPS
    sign = 1.0

    def step_s(self, tokens, prefill_seqs, prefill_context, prefill_work, decode_seqs, decode_context, sampled):
        return self.sign

    def decode_run(self, seqs, context):
        return 1.0 + 1e-9 * context**2, 2e-9 * context * seqs, self.steps


class Careful(Quadratic):
    steps = 1


class NoSteps(Quadratic):
    steps = 0


class Negative(Careful):
    sign = -1.0


class NotANumber(Careful):
    sign = math.nan


class Forgetful(Careful):
    """A model that remembers how often it was asked."""

    calls = 0

    def step_s(self, *step):
        self.calls += 1
        return float(self.calls)


@pytest.mark.parametrize(
    "model",
    [
        LinearStepTime(base_s=0.01, per_token_s=1e-4, per_context_token_s=1e-6, per_prefill_pair_s=1e-9),
        PiecewiseStepTime(**TABLE),
        PiecewiseStepTime(**TABLE, pad_batch_to=(1, 2, 4, 8, 16, 64)),
        Careful(),
    ],
    ids=["linear", "piecewise", "padded", "one step at a time"],
)
def test_models_that_keep_the_contract_pass(model):
    check_step_time_model(model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Quadratic(), "that step alone takes"),
        (NoSteps(), "holds for 0 steps"),
        (Negative(), "is -1.0; allowed: a finite time > 0"),
        (NotANumber(), "is nan; allowed: a finite time > 0"),
        (Forgetful(), "not the same twice"),
    ],
)
def test_each_broken_rule_is_named(model, message):
    with pytest.raises(ContractError, match=message):
        check_step_time_model(model)
