import numpy as np
import pytest
from pydantic import ValidationError

from latency_models.catalogue.architectures import find_architecture
from latency_models.catalogue.gpus import find_gpu
from latency_models.config import parse_latency
from latency_models.contract import check_step_time_model
from latency_models.errors import InputError
from latency_models.fits.model_files import SHIPPED, read_model_file, shipped_models
from latency_models.fits.step_sweep import read_batch_sweep
from latency_models.laws.compute_share import at_share, bandwidth_factor, multiprocessors, share_notes
from latency_models.laws.linear import LinearStepTime
from latency_models.laws.steps import StepsStepTime

LINEAR = {"kind": "linear", "base_s": 0.02, "per_token_s": 1e-4, "per_sequence_s": 1e-5, "per_context_token_s": 3e-7}
ROOFLINE = {"kind": "roofline", "gpu": "a100-80gb", "model": "llama-13b"}
STEPS = {"kind": "steps", "gpu": "a100-80gb", "model": "llama-13b"}
PIECEWISE = {
    "kind": "piecewise",
    "decode": [{"batch": 1, "context_tokens": [1, 100], "step_s": [0.01, 0.02]}],
    "prefill": {"tokens": [1, 100], "step_s": [0.01, 0.02]},
}


def shared(base, share):
    return parse_latency({"kind": "share", "share": share, "base": base}).build()


def prefill_s(model, tokens=4096):
    return model.step_s(tokens, 8, tokens, tokens**2 / 16, 0, 0, 8)


@pytest.mark.parametrize("base", [LINEAR, ROOFLINE, STEPS])
def test_prefill_follows_the_share_and_decode_less_so(base):
    whole, part = shared(base, 1.0), shared(base, 0.3)
    check_step_time_model(part)
    decode = part.decode_run(4, 400)[0] / whole.decode_run(4, 400)[0]
    prefill = prefill_s(part) / prefill_s(whole)
    assert 1.2 < decode < 1.8
    assert 2.2 < prefill < 1 / 0.3 + 1e-9
    assert shared(base, 0.6).decode_run(4, 400)[0] < part.decode_run(4, 400)[0]


@pytest.mark.parametrize("base", [LINEAR, ROOFLINE, STEPS])
def test_the_whole_gpu_is_the_model_itself(base):
    alone = parse_latency(base).build()
    assert shared(base, 1.0).decode_run(7, 700) == pytest.approx(alone.decode_run(7, 700), rel=1e-12)
    assert prefill_s(shared(base, 1.0)) == pytest.approx(prefill_s(alone), rel=1e-12)


def test_what_waits_for_the_host_does_not_slow_down():
    model = StepsStepTime(architecture=find_architecture("llama-7b"), gpu=find_gpu("a100-80gb"), tp=8)
    assert at_share(model, 0.3).decode_run(1, 100)[:2] == pytest.approx(model.decode_run(1, 100)[:2], rel=1e-12)


def test_bandwidth_saturates_and_multiprocessors_are_whole():
    factors = [bandwidth_factor(share) for share in (0.1, 0.3, 0.6, 1.0)]
    assert factors == sorted(factors)
    assert factors[-1] == pytest.approx(1.0)
    assert factors[2] > 0.85
    assert factors[1] > 0.3
    assert [multiprocessors(108, share) for share in (1.0, 0.3, 0.29, 0.001)] == [108, 32, 31, 1]


def test_shares_below_the_measured_ones_are_flagged():
    assert share_notes(0.3) == ()
    assert "0.29 is extrapolated" in share_notes(0.29)[0]
    for base in (LINEAR, ROOFLINE, STEPS):
        own = parse_latency(base).notes()
        for share in (0.1, 0.5):
            section = parse_latency({"kind": "share", "share": share, "base": base})
            assert set(section.notes()) == {*share_notes(share), *own}


def test_a_model_that_knows_nothing_of_shares_says_so():
    with pytest.raises(ValidationError, match="latency kind piecewise cannot tell how it slows down; allowed: 1 with"):
        shared(PIECEWISE, 0.5)
    assert shared(PIECEWISE, 1.0).decode_run(1, 50)[0] > 0.0


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, 50, float("nan"), float("inf")])
def test_bad_shares_are_refused(share):
    with pytest.raises(ValidationError, match="share"):
        shared(LINEAR, share)
    with pytest.raises(InputError, match="share is"):
        at_share(LinearStepTime(base_s=0.01), share)


# -- the models that come with the package -----------------------------------------------------------------------------


def test_shipped_models_load_at_every_share_and_say_what_they_are():
    names = shipped_models()
    assert {"llama-7b-a100-80gb-tp1", "llama-13b-a100-80gb-tp8", "codellama-34b-a100-80gb-tp2"} <= set(names)
    for name in names:
        for share in (0.3, 1.0):
            check_step_time_model(
                shared({"kind": "file", "name": name}, share), batches=(8,), mean_contexts=(100,), chunks=(500,)
            )
        file = read_model_file(SHIPPED / f"{name}.yaml")
        notes = parse_latency({"kind": "share", "share": 1.0, "base": dict(file.latency)}).notes()
        assert bool(notes) == name.startswith("codellama")
        assert any("was not measured" in note for note in file.notes) == name.startswith("codellama")


@pytest.mark.parametrize("percent", [30, 60, 100])
@pytest.mark.parametrize(("model", "tp"), [("llama-7b", 1), ("llama-13b", 2), ("llama-65b", 8)])
def test_shipped_models_follow_the_measured_steps(data_root, model, tp, percent):
    path = data_root / "data" / "muxserve_a100_steptime" / "steptime_llama_a100.csv"
    table = read_batch_sweep(path, model=model, tp=tp, sm_pct=percent)
    law = shared({"kind": "file", "name": f"{model}-a100-80gb-tp{tp}"}, percent / 100)
    assert np.median(np.abs(table.predicted_s(law) / table.duration_s - 1.0)) < 0.03
