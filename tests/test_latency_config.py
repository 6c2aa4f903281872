import pytest
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from latency_models.config import BUILT_IN, LatencyConfig, build_step_time
from latency_models.laws.linear import LinearStepTime
from latency_models.step_time import STEP_TIME_MODELS, UNLIMITED_STEPS
from latency_models.tables.piecewise import PiecewiseStepTime

ADAPTER = TypeAdapter(LatencyConfig)

PIECEWISE = """
kind: piecewise
decode:
  - {batch: 1, context_tokens: [1, 4096], step_s: [0.010, 0.012]}
  - {batch: 8, context_tokens: [8, 32768], step_s: [0.011, 0.020]}
prefill: {tokens: [1, 2048], step_s: [0.010, 0.150]}
pad_batch_to: [1, 2, 4, 8]
"""


class ConstantStepTime:
    def __init__(self, *, seconds: float, jitter_s: float = 0.0) -> None:
        self.seconds = seconds

    def step_s(self, tokens, prefill_seqs, prefill_context, prefill_work, decode_seqs, decode_context, sampled):
        return self.seconds

    def decode_run(self, seqs, context):
        return self.seconds, 0.0, UNLIMITED_STEPS


@pytest.fixture
def constant_plugin(monkeypatch):
    monkeypatch.setitem(STEP_TIME_MODELS._built_in, "constant", ConstantStepTime)


def parse(text):
    return ADAPTER.validate_python(yaml.safe_load(text))


def message_of(text):
    with pytest.raises(ValidationError) as caught:
        parse(text)
    return str(caught.value)


def test_linear_yaml_becomes_the_linear_law():
    model = build_step_time(parse("{kind: linear, base_s: 0.01, per_token_s: 1.0e-4}"))
    assert model == LinearStepTime(base_s=0.01, per_token_s=1e-4)


def test_piecewise_yaml_becomes_the_table():
    model = build_step_time(parse(PIECEWISE))
    assert isinstance(model, PiecewiseStepTime)
    assert model.decode_run(8, 32768)[0] == pytest.approx(0.020)
    assert model.decode_run(7, 700)[0] == model.decode_run(8, 700)[0]


@pytest.mark.usefixtures("constant_plugin")
def test_a_registered_kind_gets_its_options_as_keyword_arguments():
    model = build_step_time(parse("{kind: constant, seconds: 0.25}"))
    assert isinstance(model, ConstantStepTime)
    assert model.decode_run(3, 30) == (0.25, 0.0, UNLIMITED_STEPS)


@pytest.mark.usefixtures("constant_plugin")
@pytest.mark.parametrize("options", ["", "seconds: 1, second: 2"])
def test_a_plugin_refuses_missing_and_unknown_options(options):
    text = message_of(f"{{kind: constant, {options}}}")
    assert "'constant' does not take these options" in text
    assert "seconds" in text


def test_a_plugin_without_the_methods_is_refused(monkeypatch):
    monkeypatch.setitem(STEP_TIME_MODELS._built_in, "hollow", type("Hollow", (), {}))
    assert "has no method step_s" in message_of("{kind: hollow}")


def test_an_unknown_kind_lists_the_choices_and_the_nearest():
    text = message_of("{kind: linaer, base_s: 1}")
    assert "unknown latency model 'linaer'; did you mean 'linear'? (choices: " in text
    assert f"{', '.join(sorted({*BUILT_IN, *STEP_TIME_MODELS.names()}))})" in text
    for kind, nearest in (("filee", "file"), ("oprators", "operators"), ("replya", "replay")):
        assert f"unknown latency model {kind!r}; did you mean {nearest!r}?" in message_of(f"{{kind: {kind}}}")


@pytest.mark.parametrize("text", ["{base_s: 1}", "{kind: 3}", "[]", "null"])
def test_a_section_without_a_kind_says_what_it_needs(text):
    assert f"must name a latency model: {', '.join(BUILT_IN)} or a plug-in" in message_of(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{kind: linear, base_s: 1, per_tokens_s: 1}", "per_tokens_s"),
        ("{kind: linear, base_s: -1}", "base_s"),
        ("{kind: linear, base_s: .nan}", "base_s"),
        ("{kind: linear, base_s: .inf}", "base_s"),
        ("{kind: linear, base_s: true}", "True is no number"),
        ("{kind: linear, base_s: 1.0e+300}", "less than or equal to 100"),
        ("{kind: corrected, factor: true, base: {kind: linear, base_s: 1}}", "True is no number"),
        ("{kind: linear}", "take no time"),
        (PIECEWISE.replace("batch: 1,", "batch: 0,"), "decode.0.batch"),
        (PIECEWISE.replace("batch: 1,", "batch: true,"), "decode.0.batch"),
        (PIECEWISE.replace("batch: 1,", "batch: 9,"), "ascending order of batch"),
        (PIECEWISE.replace("[0.010, 0.012]", "[0.010, 0]"), "decode.0.step_s.1"),
        (PIECEWISE.replace("[0.010, 0.012]", "[0.010]"), "decode.0.step_s"),
        (PIECEWISE.replace("[0.010, 0.012]", "[0.010, 0.011, 0.012]"), "one step_s each"),
        (PIECEWISE.replace("[1, 2, 4, 8]", "[4, 2]"), "ascending batch sizes"),
        (PIECEWISE.replace("prefill:", "prefil:"), "prefil"),
    ],
)
def test_bad_sections_are_refused_where_the_fault_is(text, named):
    assert named in message_of(text)


def test_a_step_of_seconds_is_noted():
    for seconds, told in (("8", 1), ("0.008", 0), ("8e-3", 0)):
        section = parse(f"{{kind: corrected, base: {{kind: linear, base_s: {seconds}}}}}")
        assert len([note for note in section.notes() if "are these milliseconds?" in note]) == told


def test_sections_are_frozen():
    section = parse("{kind: linear, base_s: 0.01}")
    with pytest.raises(ValidationError, match="frozen"):
        section.base_s = 1.0


def test_it_serves_as_a_field_and_has_a_json_schema():
    class Model(BaseModel):
        latency: LatencyConfig

    section = Model.model_validate({"latency": {"kind": "linear", "base_s": 1.0}}).latency
    assert build_step_time(section) == LinearStepTime(base_s=1.0)
    assert Model.model_validate({"latency": section}).latency == section
    assert {"LinearLatency", "PiecewiseLatency", "PluginLatency"} <= set(Model.model_json_schema()["$defs"])


def test_a_section_survives_dump_and_load():
    section = parse(PIECEWISE)
    assert ADAPTER.validate_python(section.model_dump(mode="json")) == section


ROOFLINE = "{kind: roofline, gpu: h100-80gb, model: llama-3.1-70b, tp: 4, weights: fp8}"
STEPS = "{kind: steps, gpu: h100-80gb, model: llama-3.1-8b}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{kind: linear, base_s: 0.01}", 0),
        (ROOFLINE, 1),
        (f"{{kind: corrected, factor: 1.1, base: {ROOFLINE}}}", 1),
        (f"{{kind: share, share: 0.2, base: {ROOFLINE}}}", 2),
        ("{kind: steps, gpu: a100-80gb, model: llama-7b}", 0),
        (STEPS, 2),
    ],
)
def test_sections_tell_what_is_synthetic_scaled_or_extrapolated(text, told):
    assert len(parse(text).notes()) == told


@pytest.mark.parametrize("text", [ROOFLINE, STEPS])
def test_some_sections_follow_the_number_of_shards(text):
    section = parse(text)
    wider = section.at_tp(8)
    assert (wider.tp, wider.model) == (8, section.model)
    prefill = (8000, 1, 8000, 8000**2 / 2, 0, 0, 1)
    assert wider.build().step_s(*prefill) < section.build().step_s(*prefill)
    assert parse("{kind: linear, base_s: 0.01}").at_tp(8) is None
