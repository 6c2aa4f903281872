"""`routerwise calibrate --law steps`: the law in physical terms, from grids of many configurations and from logs."""

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from latency_models.catalogue.architectures import find_architecture
from latency_models.catalogue.gpus import find_gpu
from latency_models.config import parse_latency
from latency_models.errors import InputError
from latency_models.fits.step_table import StepTable
from latency_models.laws.steps import StepsCoefficients, StepsStepTime
from scenarios.cli import cli

FITTED = {"step_s": 0.0012, "sequence_s": 2e-5, "layer_launch_s": 1.1e-4, "compute": 0.7, "memory": 0.85, "kv": 0.6}
TRUTH = StepsCoefficients(**FITTED)
STEPS = "n_tokens,n_prefill_tokens,n_prefill_seqs,n_decode,sum_context,prefill_work,duration\n"
GRID = "model,tp,sm_pct,batch,seqlen,prefill_ms,decode_ms\n"
H100 = ("--law", "steps", "--gpu", "h100-80gb")
A100 = ("--law", "steps", "--gpu", "a100-80gb")


def law(model, gpu, **options):
    return StepsStepTime(architecture=find_architecture(model), gpu=find_gpu(gpu), coefficients=TRUTH, **options)


def measured_s(model, table, rng, noise):
    return model.table_s(table) * rng.lognormal(0.0, noise, len(table))


def write_step_log(path, *, noise, seed, model="llama-3.1-8b", tp=1, steps=400):
    """Steps of a busy server: one in four computes a chunk of a prompt beside the decodes."""
    rng = np.random.default_rng(seed)
    decodes = rng.integers(1, 200, steps)
    chunks = np.where(rng.random(steps) < 0.25, rng.integers(16, 2048, steps), 0)
    decode_context = decodes * rng.integers(100, 4000, steps)
    columns = {
        "tokens": decodes + chunks,
        "sequences": decodes + (chunks > 0),
        "context": decode_context + chunks,
        "prefill_work": chunks**2 / 2,
        "sampled": decodes + (chunks > 0),
        "decode_seqs": decodes,
        "decode_context": decode_context,
        "duration_s": np.ones(steps),
    }
    table = StepTable(**{name: column.astype(np.float64) for name, column in columns.items()})
    seconds = measured_s(law(model, "h100-80gb", tp=tp), table, rng, noise)
    # The context of the prefill is not separated in such a log where decodes are in the step, and prompts begin at 0.
    lines = [
        f"{decodes[row] + chunks[row]},{chunks[row]},{int(chunks[row] > 0)},{decodes[row]},"
        f"{decode_context[row] + chunks[row]},{chunks[row] ** 2 / 2},{seconds[row]!r}"
        for row in range(steps)
    ]
    path.write_text(STEPS + "\n".join(lines).replace("np.float64(", "").replace(")", "") + "\n")
    return path


def write_grid(path, configurations, *, noise=0.02, names=None):
    rng = np.random.default_rng(7)
    batches, lengths = (each.ravel() for each in np.meshgrid([1, 4, 16, 64], [32, 128, 512]))
    lines = []
    for model, tp, share in configurations:
        truth = law(model, "a100-80gb", tp=tp, compute_share=share)
        once = np.ones(len(batches))
        prefill_s = measured_s(truth, StepTable.of_prefills(batches, lengths, once), rng, noise)
        decode_s = measured_s(truth, StepTable.of_decodes(batches, lengths, once), rng, noise)
        name = (names or {}).get(model, model)
        lines += [
            f"{name},{tp},{100 * share:g},{batch},{length},{1e3 * prefill:.6f},{1e3 * decode:.6f}"
            for batch, length, prefill, decode in zip(batches, lengths, prefill_s, decode_s, strict=True)
        ]
    path.write_text(GRID + "\n".join(lines) + "\n")
    return path


def run(*arguments):
    return CliRunner().invoke(cli, ["calibrate", *map(str, arguments)])


def fitted(tmp_path, *arguments):
    result = run(*arguments, "--out", tmp_path / "model.yaml")
    assert result.exit_code == 0, (result.output, result.exception)
    return yaml.safe_load((tmp_path / "model.yaml").read_text()), result.output


def refused(tmp_path, *arguments):
    before = sorted(tmp_path.iterdir())
    result = run(*arguments, "--out", tmp_path / "model.yaml")
    assert isinstance(result.exception, InputError), result.output
    assert sorted(tmp_path.iterdir()) == before
    return str(result.exception)


def assert_holds_the_truth(values, names):
    for name in names:
        low, high = values["intervals"][name]
        assert low <= FITTED[name] <= high, (name, low, values["latency"]["coefficients"][name], high)


def test_a_step_log_gives_the_coefficients_back(tmp_path):
    noise = 0.01
    log = write_step_log(tmp_path / "steps.csv", noise=noise, seed=1)
    values, output = fitted(tmp_path, log, *H100, "--model", "llama-3.1-8b")
    assert_holds_the_truth(values, ("step_s", "sequence_s", "compute", "memory", "kv"))
    # Decodes of a model of 8B outlast the launch of their kernels, and nothing is known of other GPUs.
    assert "layer_launch_s" not in values["intervals"]
    assert "parallel_launch_s (the same, more with tensor parallelism) is not told by these steps" in output
    assert values["latency"]["coefficients"]["attention"] == StepsCoefficients().attention
    assert any(note.startswith("held at the shipped fit") and "attention" in note for note in values["notes"])
    assert values["errors"]["all"]["median"] < 0.8 * noise + 1e-3
    model = parse_latency({"kind": "file", "path": str(tmp_path / "model.yaml")}).build()
    assert model.fitted_gpu == "h100-80gb"
    assert model.notes == ()


def test_launches_are_told_by_small_models(tmp_path):
    log = write_step_log(tmp_path / "steps.csv", noise=0.02, seed=3, model="gemma-2-2b")
    values, _ = fitted(tmp_path, log, *H100, "--model", "gemma-2-2b")
    assert_holds_the_truth(values, ("layer_launch_s",))


def test_a_grid_is_fitted_with_all_its_configurations(tmp_path):
    configurations = [
        (model, tp, share) for model in ("llama-7b", "llama-13b") for tp in (1, 2) for share in (0.5, 1.0)
    ]
    grid = write_grid(tmp_path / "grid.csv", configurations, names={"llama-13b": "big"})
    named = ("--model", "big=llama-13b")
    assert "say with --model NAME for which one" in refused(tmp_path, grid, *A100, *named)
    assert "say with --tp N for which one" in refused(tmp_path, grid, *A100, *named, "--model", "llama-7b")
    values, output = fitted(tmp_path, grid, *A100, *named, "--model", "codellama-34b", "--tp", "2")
    for name, tolerance in {"compute": 0.03, "memory": 0.03, "kv": 0.05, "layer_launch_s": 0.1}.items():
        assert values["latency"]["coefficients"][name] == pytest.approx(FITTED[name], rel=tolerance)
        assert name in values["intervals"]
    assert (values["latency"]["model"], values["latency"]["tp"]) == ("codellama-34b", 2)
    assert values["latency"]["fitted_models"] == ["llama-7b", "llama-13b"]
    assert values["valid_range"]["compute_share"] == [0.5, 1.0]
    assert values["provenance"]["rows_used"] == 8 * 24
    assert "codellama-34b was not measured" in output


def test_rows_of_a_grid_are_chosen(tmp_path):
    configurations = [("llama-7b", tp, 1.0) for tp in (1, 2)]
    grid = write_grid(tmp_path / "grid.csv", configurations)
    values, output = fitted(tmp_path, grid, *A100, "--where", "tp=2", "--plot", tmp_path / "errors.png")
    assert values["latency"]["tp"] == 2
    assert values["provenance"]["rows_used"] == 24
    assert "left out: 24 steps that --where leaves out" in output
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")


def test_a_coefficient_at_its_bound_is_told(tmp_path):
    """A GPU that is said to be slower than it is reads memory faster than its datasheet says."""
    log = write_step_log(tmp_path / "steps.csv", noise=0.01, seed=2)
    values, output = fitted(tmp_path, log, "--law", "steps", "--gpu", "a100-80gb", "--model", "llama-3.1-8b")
    assert "at its bound, 1" in output
    assert any("Check that the model" in warning for warning in values["warnings"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--law", "steps"], "--gpu is missing"),
        ([*H100], "--model is missing"),
        ([*H100, "--model", "llama-9b"], "unknown model architecture"),
        ([*H100, "--model", "mixtral-8x7b"], "a model without experts"),
        ([*H100, "--model", "llama-7b", "--tp", "3"], "a divisor of the 32 heads"),
        ([*H100, "--model", "a=llama-7b"], "steps names no models"),
        ([*H100, "--model", "llama-7b", "--model", "llama-13b"], "one model that the law is written for"),
        ([*H100, "--model", "=llama-7b"], "NAME, or NAME_IN_FILE=NAME"),
        ([*H100, "--model", "llama-7b", "--where", "tp=1"], "only with a grid"),
        (["--law", "steps", "--gpu", "h1000", "--model", "llama-7b"], "unknown GPU"),
        (["--gpu", "h100-80gb"], "only with --law steps"),
        (["--tp", "2"], "only with --law steps"),
    ],
)
def test_what_the_law_lacks_or_does_not_take_is_refused(tmp_path, options, message):
    log = write_step_log(tmp_path / "steps.csv", noise=0.01, seed=1, steps=30)
    assert message in refused(tmp_path, log, *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--where", "model=llama-9b"], "model of llama-7b, own; tp of 1; sm_pct of 100"),
        (["--where", "batch=1"], "unknown column in --where 'batch'"),
        (["--model", "x=llama-7b"], "unknown model of the grid"),
        (["--model", "llama-7b"], "say so: --model own=NAME"),
        (["--unit", "ms", "--model", "own=llama-13b"], "none with a grid"),
        (["--model", "own=llama-13b", "--model", "llama-7b", "--noise"], "needs a few hundred consecutive steps"),
    ],
)
def test_what_a_grid_lacks_is_refused(tmp_path, options, message):
    grid = write_grid(tmp_path / "grid.csv", [("llama-7b", 1, 1.0), ("llama-13b", 1, 1.0)], names={"llama-13b": "own"})
    assert message in refused(tmp_path, grid, *A100, *options)


def test_latencies_of_requests_do_not_tell_the_law(tmp_path):
    (tmp_path / "requests.csv").write_text("arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n0,1,1,0.1,0.1\n")
    assert "steps is fitted where steps are measured" in refused(
        tmp_path, tmp_path / "requests.csv", *H100, "--model", "llama-7b"
    )


def test_grid_of_a_real_gpu(data_root, tmp_path):
    path = data_root / "data" / "muxserve_a100_steptime" / "steptime_llama_a100.csv"
    values, _ = fitted(tmp_path, path, *A100, "--where", "model=llama-13b", "--where", "tp=1", "--where", "sm_pct=100")
    assert values["errors"]["all"]["median"] < 0.04
    assert 0.7 < values["latency"]["coefficients"]["compute"] < 1.0
