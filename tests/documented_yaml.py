"""A YAML block of a page is loaded as what it is: a whole file, or some sections of one."""

import re

import yaml
from pydantic import TypeAdapter

from latency_models.catalogue.entries import read_catalogue
from latency_models.config import parse_latency
from latency_models.contract import check_step_time_model
from scenarios.comparisons.policies import chosen_policies
from scenarios.measurements.measurement_files import read_measurement
from scenarios.measurements.schema import Measurement
from scenarios.model_section import ModelSection
from scenarios.optimisation.problem_file import load_problem
from scenarios.optimisation.problem_schema import ProblemFile
from scenarios.profiles.schema import ProfileSpec, load_profile
from scenarios.scenario_files import load_scenario
from scenarios.schema import Scenario
from scenarios.workloads.arrival_processes import AnyArrivals
from scenarios.workloads.config import WorkloadConfig
from scenarios.workloads.lengths import AnyLength

_LEFT_OUT = re.compile(r"\{\.\.\.\}|\[\.\.\.\]|\.\.\.")
_WHOLE = {"scenario": Scenario, "problem": ProblemFile, "profile": ProfileSpec, "measurement": Measurement}
_PARTS = {"arrivals": AnyArrivals, "lengths": AnyLength, "workload": WorkloadConfig, "model": ModelSection}


def check_yaml(text, kind, folder, place):
    """Fail unless the text is what ``kind`` says, or what its keys show.

    A file that misses required keys, or has ``...`` in place of a section, is checked section by section.
    """
    values = yaml.safe_load(text)
    kind = kind or kind_of(values)
    assert kind is not None, f"{place}: say what this is: <!-- test: {{as: ...}} -->"
    path = folder / "block.yaml"
    path.write_text(text, encoding="utf-8")
    if kind in _WHOLE:
        model = _WHOLE[kind]
        required = {name for name, entry in model.model_fields.items() if entry.is_required()} - {"name"}
        complete = "extends" in values or required <= set(values)
        if complete and not _LEFT_OUT.search(text):
            _load_whole(kind, path)
        else:
            _check_sections(model, values, place)
    elif kind == "latency":
        check_step_time_model(
            parse_latency(values).build(), batches=(1, 2, 7), mean_contexts=(200, 999), chunks=(16, 999)
        )
    elif kind == "catalogue":
        (section,) = values
        assert read_catalogue(path, section)
    elif kind == "policies":
        assert chosen_policies(load_scenario("plan-demo"), str(path), ())
    elif kind in _PARTS:
        TypeAdapter(_PARTS[kind]).validate_python(values)
    else:
        assert kind == "yaml", f"{place}: 'as' is {kind!r}"


def kind_of(values):
    """What a mapping is, from its keys; ``None`` if they do not tell."""
    keys = set(values) if isinstance(values, dict) else set()
    if "kind" in keys:
        return "latency"
    for kind, telling in (
        ("problem", {"loads", "slos", "curves"}),
        ("measurement", {"log", "fit"}),
        ("profile", {"profile"}),
        ("policies", {"policies"}),
    ):
        if keys & telling:
            return kind
    if keys == {"gpus"} and all(isinstance(entry, dict) for entry in values["gpus"].values()):
        return "catalogue"
    return "scenario" if keys & (set(Scenario.model_fields) | {"extends"}) else None


def _load_whole(kind, path):
    if kind == "scenario":
        load_scenario(str(path)).cluster()
    elif kind == "profile":
        load_profile(str(path))
    elif kind == "measurement":
        read_measurement(str(path))
    else:
        load_problem(str(path))


def _check_sections(model, values, place):
    for name, value in values.items():
        if name == "extends":
            continue
        assert name in model.model_fields, f"{place}: {name} is no key of the {model.__name__} schema"
        if _LEFT_OUT.search(str(value)) or value == {"...": None}:
            continue
        TypeAdapter(model.model_fields[name].annotation).validate_python(value)
