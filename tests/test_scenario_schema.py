"""The JSON Schema of scenario files."""

import json

import yaml

from scenarios.scenario_files import (
    dump_scenario,
    library_description,
    library_names,
    load_scenario,
)
from scenarios.schema import Scenario


def resolve(schema, node):
    if node is True:
        return {}
    return schema["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node


def test_the_json_schema_is_complete():
    schema = Scenario.model_json_schema()
    json.dumps(schema, allow_nan=False)
    assert schema["additionalProperties"] is False
    assert {"name", "models", "workload", "routing", "slo", "run", "gpus", "speed_changes"} <= schema[
        "properties"
    ].keys()
    model = schema["$defs"]["ModelSection"]
    engine = resolve(schema, model["properties"]["engine"])
    assert {"max_num_seqs", "scheduler", "block_size"} <= engine["properties"].keys()
    assert schema["required"] == ["name", "models", "workload"]


TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}


def accepts(schema, node, value) -> bool:
    """As much of JSON Schema as ours uses: references, unions, objects, arrays, types, constants."""
    node = resolve(schema, node)
    branches = node.get("anyOf") or node.get("oneOf")
    if branches:
        return any(accepts(schema, branch, value) for branch in branches)
    if "const" in node or "enum" in node:
        return value in node.get("enum", [node.get("const")])
    if node.get("type") == "object":
        known, others = node.get("properties", {}), node.get("additionalProperties", True)
        return (
            isinstance(value, dict)
            and set(node.get("required", ())) <= value.keys()
            and all(
                accepts(schema, known[key], entry) if key in known else others and accepts(schema, others, entry)
                for key, entry in value.items()
            )
        )
    if node.get("type") == "array":
        entries = node.get("prefixItems") or [node["items"]] * len(value) if isinstance(value, list) else []
        return isinstance(value, list) and all(map(accepts, [schema] * len(value), entries, value))
    return "type" not in node or isinstance(value, TYPES[node["type"]])


def test_the_json_schema_accepts_the_library_and_nothing_else():
    schema = Scenario.model_json_schema()
    for name in library_names():
        if "ROUTERWISE_DATA" in library_description(name):
            continue
        plain = yaml.safe_load(dump_scenario(load_scenario(name)))
        assert accepts(schema, schema, plain), name
        assert not accepts(schema, schema, plain | {"sed": 1})
        assert not accepts(schema, schema, plain | {"seed": "x"})
        assert not accepts(schema, schema, plain | {"workload": plain["workload"] | {"kind": "other"}})
