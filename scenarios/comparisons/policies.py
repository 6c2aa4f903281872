"""Which policies are compared, as users name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from latency_models.errors import InputError, invalid
from latency_models.yaml_files import read_yaml
from scenarios.model_section import PolicySection
from scenarios.schema import Scenario
from scenarios.schema_errors import describe
from sim.routing.gateway import check_router
from sim.routing.policies import MODEL_ROUTERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy under the name that tables have for it."""

    label: str
    routing: PolicySection
    scenario: Scenario
    """The scenario, routed so."""


def chosen_policies(scenario: Scenario, names: str | None, single: Sequence[str]) -> tuple[Policy, ...]:
    """The policies that options name.

    A policy without options that is of the scenario's own kind has the scenario's options; ``fractions`` without
    options has those of the scenario's routing.

    Parameters
    ----------
    scenario : Scenario
        What is routed.
    names : str, optional
        Names with commas between them, or the path of a YAML file with a mapping ``policies`` of label to options.
    single : sequence of str
        YAML, each: a name, or a mapping of label to options.  The option ``kind`` names the policy; default: the label.

    Raises
    ------
    InputError
        Nothing is named, a label comes twice, or a policy or its options do not exist.
    """
    found: dict[str, Mapping[str, Any]] = {}
    entries: list[tuple[str, Any]] = []
    if names is not None and names.endswith((".yaml", ".yml")):
        entries += _of_file(Path(names))
    elif names is not None:
        entries += [(name.strip(), None) for name in names.split(",")]
    for text in single:
        entries += _of_text(text)
    for label, options in entries:
        if label in found:
            raise invalid("policies", label, "each label once", f"Call one of them '{label}-2: {{kind: ...}}'.")
        if options is not None and not isinstance(options, Mapping):
            raise invalid(f"policy {label}", options, "a mapping of options, such as {budget: 0.3}")
        found[label] = options or {}
    if len(found) < 2:
        raise InputError(
            f"policies named: {len(found)}; allowed: at least two to compare, for example --policies price,threshold"
        )
    scenario.cluster()  # what is wrong with the scenario is no policy's fault
    return tuple(_policy(scenario, label, options) for label, options in found.items())


def _of_file(path: Path) -> list[tuple[str, Any]]:
    values = read_yaml(path, "policies")
    policies = values.get("policies")
    if set(values) != {"policies"} or not isinstance(policies, Mapping):
        raise InputError(f"policies {path}: allowed: one key, policies, with a mapping of label to options")
    return [(str(label), options) for label, options in policies.items()]


def _of_text(text: str) -> list[tuple[str, Any]]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--policy {text!r} is not valid YAML: {' '.join(str(error).split())}") from None
    if isinstance(value, str) and value:
        return [(value, None)]
    if isinstance(value, Mapping) and value:
        return [(str(label), options) for label, options in value.items()]
    raise invalid("--policy", text, "a name, or 'LABEL: {option: value}'")


def _policy(scenario: Scenario, label: str, options: Mapping[str, Any]) -> Policy:
    kind = options.get("kind", label)
    given = {key: value for key, value in options.items() if key != "kind"}
    try:
        if not isinstance(kind, str):
            raise invalid("kind", kind, "the name of a model router")
        MODEL_ROUTERS.get(kind)
        own = PolicySection(kind="round-robin") if scenario.routing is None else scenario.routing
        own = PolicySection(kind=own) if isinstance(own, str) else own
        if not given:
            given = _inherited(kind, own)
        routing = PolicySection.model_validate({"kind": kind, **given})
        return Policy(label=label, routing=routing, scenario=_routed(scenario, routing))
    except InputError as error:
        raise InputError(f"policy {label}: {error}") from None


def _inherited(kind: str, own: PolicySection) -> dict[str, Any]:
    """Options of the scenario's routing that a policy of this kind takes over."""
    if kind == own.kind:
        return dict(own.model_extra or {})
    fractions = (own.model_extra or {}).get("fractions")
    return {"fractions": fractions} if kind == "fractions" and fractions else {}


def _routed(scenario: Scenario, routing: PolicySection) -> Scenario:
    """The scenario with this routing, checked as if a file said so."""
    values = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
    values["routing"] = routing.model_dump()
    try:
        routed = Scenario.model_validate(values)
    except ValidationError as error:
        raise InputError(describe(error, Scenario, values, scenario.name)) from None
    check_router(routed.cluster())
    return routed
