import pytest
from cluster_cases import BlockFactors

from latency_models.laws.linear import LinearStepTime
from latency_models.tables.piecewise import DecodeRow, PiecewiseStepTime, PrefillTable
from sim.vllm.step_timer import EngineOverhead, StepTimer

GROWING = LinearStepTime(base_s=1.0, per_token_s=0.25, per_context_token_s=0.125)
SHRINKING = PiecewiseStepTime(
    decode=[DecodeRow(batch=1, context_tokens=[0, 100], step_s=[3.0, 2.0])],
    prefill=PrefillTable(tokens=[0, 100], step_s=[2.0, 3.0]),
)


def by_law(timer: StepTimer, seqs: int, context: int, steps: int) -> list[float]:
    """Durations of a run, taken from as few laws as there are."""
    durations: list[float] = []
    while len(durations) < steps:
        number = len(durations)
        first_s, growth_s, limit = timer.decode_law(number, seqs, context + number * seqs, 0)
        durations += [first_s + k * growth_s for k in range(min(limit, steps - number))]
    return durations


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("model", [GROWING, SHRINKING], ids=["growing", "shrinking"])
@pytest.mark.parametrize("noise", [None, BlockFactors(3, [0.5, 2.0, 1.5, 1.0] * 16)], ids=["quiet", "noisy"])
def test_a_run_takes_what_its_steps_take_alone(model, noise, asynchronous):
    overhead = EngineOverhead(step_s=1.5, per_sequence_s=1.0)
    timer = StepTimer(model, overhead=overhead, asynchronous=asynchronous, noise=noise)
    expected = []
    for step in range(30):
        gpu_s = model.decode_run(1, 10 + step)[0] * (noise.factor(step)[0] if noise else 1.0)
        expected.append(max(gpu_s, 2.5) if asynchronous else gpu_s + 2.5)
    assert by_law(timer, 1, 10, 30) == pytest.approx(expected, rel=1e-12)


def test_a_mixed_step_has_the_noise_of_its_number_and_the_overhead_of_its_sequences():
    noise = BlockFactors(1, [1.0, 3.0] * 32)
    step = (12, 1, 10, 50.0, 2, 30, 3)
    timer = StepTimer(GROWING, overhead=EngineOverhead(step_s=0.5, per_sequence_s=0.25), noise=noise)
    assert timer.mixed_s(1, *step, 0) == 3.0 * GROWING.step_s(*step) + 0.5 + 3 * 0.25
