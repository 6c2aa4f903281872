"""The reference of the files that users write, and of plans, from the schemas that check them.

A page lists the sections of one kind of file; each has a table of its keys.  A section that several kinds of file have
is on the first page that has it, and the others link there.
"""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import dataclass, field, fields

from numpydoc.docscrape import NumpyDocString
from pydantic import TypeAdapter
from sphinx.pycode import ModuleAnalyzer

from latency_models.config import LatencyConfig
from optimizer.plan import Plan
from scenarios.measurements.schema import Measurement, StepsMeasurement
from scenarios.optimisation.problem_schema import ProblemFile
from scenarios.profiles.schema import ProfileSection
from scenarios.schema import Scenario
from scenarios.workloads.config import WorkloadConfig
from sim.settings import EngineSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One page: a kind of file, or a large section that several have."""

    name: str
    title: str
    about: str
    types: dict[str, object]
    """What the page is about, by the place where it stands in a file; ``""`` is the file itself."""


KINDS = (
    Kind(
        name="scenario",
        title="Scenario files",
        about="What `routerwise run` and most other commands read; [the guide](../../scenarios.md) explains it. "
        "`extends: NAME_OR_PATH` at the top starts from another scenario.",
        types={"": Scenario},
    ),
    Kind(
        name="workload",
        title="The workload section",
        about="Who sends what when, in a scenario; [the guide](../../workloads.md) explains it.",
        types={"workload": WorkloadConfig},
    ),
    Kind(
        name="latency",
        title="The latency section",
        about="How long a step takes, in scenarios, measurement files and model files; "
        "[the guide](../../latency-models.md) explains it.",
        types={"latency": LatencyConfig},
    ),
    Kind(
        name="profile",
        title="Profile files",
        about="What `routerwise profile` reads: a [scenario](scenario.md) with a `profile` section more; "
        "[the guide](../../profile.md) explains it.",
        types={"profile": ProfileSection},
    ),
    Kind(
        name="problem",
        title="Problem files",
        about="What `routerwise optimize`, `plan` and `frontier` read; [the guide](../../optimizer.md) explains it.",
        types={"": ProblemFile},
    ),
    Kind(
        name="measurement",
        title="Measurement files",
        about="What `routerwise accuracy` reads; [the guide](../../measurements.md) explains it. A file whose `log` "
        "is of kind `steps` has the keys of the second table.",
        types={"": Measurement, "(steps)": StepsMeasurement},
    ),
    Kind(
        name="plan",
        title="Plans",
        about="JSON that `routerwise optimize` and `plan` write and that most commands take; written by hand, "
        "`models` and `routing` suffice beside `name` and `gpus`. [The guide](../../optimizer.md) explains it.",
        types={"": Plan},
    ),
)


@dataclass(slots=True)
class Sections:
    """All sections of all pages: their schemas, and where each is shown."""

    definitions: dict[str, dict]
    shown: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Page and label of each section that has a place."""


def pages():
    """The pages by file name."""
    roots, definitions = _schemas()
    sections = Sections(definitions=definitions)
    own = {kind.name: _places(kind, roots, sections) for kind in KINDS}
    return {f"files/{kind.name}.md": _page(kind, own[kind.name], sections) for kind in KINDS}


def undescribed():
    """Keys of which neither a description nor the section's own words say what they are: ``["Section.key", ...]``."""
    _, definitions = _schemas()
    return [
        f"{name}.{row['key']}"
        for name, schema in sorted(definitions.items())
        for row in (_rows(name, schema, definitions) if "properties" in schema else ())
        if row["key"] != "kind" and not row["description"]
        if f"``{row['key']}``" not in schema.get("description", "")
    ]


def _schemas():
    """JSON Schemas of all pages by kind and place, and the sections that they share by name."""
    places = [(kind.name, place, what) for kind in KINDS for place, what in kind.types.items()]
    given = [((name, place), "validation", TypeAdapter(what)) for name, place, what in places]
    roots, common = TypeAdapter.json_schemas(given)
    return {place: schema for (place, _), schema in roots.items()}, common["$defs"]


def _places(kind, roots, sections):
    """Sections of this page by name, with the label of the first place where each stands."""
    own = {}
    waiting = [(place, roots[kind.name, place]) for place in kind.types]
    while waiting:
        place, schema = waiting.pop(0)
        for name in _references(schema):
            if name in sections.shown:
                continue
            definition = sections.definitions[name]
            if "properties" not in definition:
                waiting.append((place, definition))
                continue
            chosen = _discriminator(definition)
            label = place if chosen is None else f"{place}, kind {chosen}"
            own[name] = label
            sections.shown[name] = (kind.name, label)
            for key, value in definition["properties"].items():
                if not any(entry.name != kind.name and entry.types.keys() == {key} for entry in KINDS):
                    waiting.append((_below(place, key, value), value))
    return own


def _below(place, key, schema):
    """The label of what stands under a key."""
    label = f"{place}.{key}" if place and not place.startswith("(") else key
    options = [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if any("additionalProperties" in option and isinstance(option["additionalProperties"], dict) for option in options):
        return f"{label}.NAME"
    return f"{label}[]" if any(option.get("type") == "array" for option in options) else label


def _references(schema):
    """Names of the sections that a schema mentions, in order."""
    if isinstance(schema, list):
        return [name for entry in schema for name in _references(entry)]
    if not isinstance(schema, dict):
        return []
    found = [schema["$ref"].rpartition("/")[2]] if "$ref" in schema else []
    below = [entry for key, entry in schema.items() if key not in ("default", "discriminator")]
    return [*found, *_references(below)]


def _discriminator(schema):
    kind = schema["properties"].get("kind", {})
    return kind.get("const") or (" or ".join(kind["enum"]) if "enum" in kind else None)


def _page(kind, own, sections):
    lines = [f"# {kind.title}", "", kind.about, ""]
    for name, label in own.items():
        definition = sections.definitions[name]
        about, _ = _words(definition)
        lines += [f"({_anchor(name)})=", f"## {_heading(kind, label)}", "", markdown(about), ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for row in _rows(name, definition, sections.definitions):
            text = markdown(row["description"]).replace("|", "\\|")
            lines.append(f"| `{row['key']}` | {_type(row['schema'], sections)} | {row['default']} | {text} |")
        lines.append("")
    return "\n".join(lines)


def _heading(kind, label):
    place, _, chosen = label.partition(", kind ")
    if not place or place.startswith("("):
        return {"": "The file", "(steps)": "The file, for steps"}[place]
    return f"`{place}`, kind `{chosen}`" if chosen else f"`{place}`"


def _anchor(name):
    return "file-" + re.sub(r"\W+", "-", name).lower()


def _words(definition):
    """What a section's docstring says of it, and what its Parameters part says of its keys."""
    parsed = NumpyDocString(definition.get("description", ""))
    about = "\n".join([*parsed["Summary"], "", *parsed["Extended Summary"]])
    return about, {entry.name: " ".join(entry.desc) for entry in parsed["Parameters"]}


def _rows(name, definition, definitions):
    engine = _engine_keys() if name == "EngineSection" else {}
    _, words = _words(definition)
    for key, schema in definition["properties"].items():
        below = definitions.get(schema.get("items", schema).get("$ref", "").rpartition("/")[2], {})
        description = schema.get("description") or words.get(key) or below.get("description", "").partition("\n")[0]
        default = schema.get("default")
        description, default = engine.get(key, (description, default))
        if key in definition.get("required", ()):
            shown = "**required**"
        elif default is None or isinstance(default, dict):
            shown = ""
        else:
            shown = f"`{json.dumps(default, ensure_ascii=False)}`".replace('"', "") if default not in ("", []) else ""
        yield {"key": key, "schema": schema, "default": shown, "description": " ".join(description.split())}


def _engine_keys():
    """Description and default of the engine's settings, which the section takes from the simulator's own."""
    words = {
        key: " ".join(text) for (_, key), text in ModuleAnalyzer.for_module("sim.settings").find_attr_docs().items()
    }
    defaults = {entry.name: entry.default for entry in fields(EngineSettings)} | {"async_scheduling": True}
    return {key: (words.get(key, ""), default) for key, default in defaults.items()}


def _type(schema, sections):
    """A type in words, sections as links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in sections.shown:
            return _type(sections.definitions[name], sections)
        page, label = sections.shown[name]
        shown = label.partition(", kind ")[2] or label or page
        return f"[{shown}](#{_anchor(name)})"
    for union in ("anyOf", "oneOf"):
        if union in schema:
            options = [_type(option, sections) for option in schema[union] if option.get("type") != "null"]
            return " or ".join(dict.fromkeys(options))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(_type(entry, sections) for entry in schema['prefixItems'])}]"
        return f"list of {_type(schema.get('items', {}), sections)}"
    if kind == "object":
        below = schema.get("additionalProperties")
        return f"mapping of name to {_type(below, sections)}" if isinstance(below, dict) else "mapping"
    if kind in ("number", "integer"):
        return f"{kind}{_range(schema)}"
    return {"string": "text", "boolean": "true or false", None: "anything"}.get(kind, str(kind))


def _range(schema):
    """What a number may be: `` > 0 and ≤ 1``."""
    signs = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    limits = [f"{sign}\N{NO-BREAK SPACE}{schema[key]:,}" for key, sign in signs if key in schema]
    return " " + " and ".join(limits) if limits else ""


def markdown(text):
    """Docstring words as Markdown: ``code`` and roles as `code`."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", inspect.cleandoc(text).replace("``", "`"))
    return text.replace(" ", " ")
