"""What a scenario can name because it registered itself: model routers, balancers, contention models."""

import inspect
import re

from file_reference import markdown
from numpydoc.docscrape import NumpyDocString

import sim.routing.gateway  # noqa: F401  (registers the built-in routers and balancers)
from sim.routing.policies import BALANCERS, MODEL_ROUTERS
from sim.sharing.contention import CONTENTION_MODELS

_KINDS = (
    (
        MODEL_ROUTERS,
        "routing",
        "Model routers",
        "Which model answers a request; [the guide](../../routing.md) compares them.",
    ),
    (BALANCERS, "models.NAME.balancer", "Replica balancers", "Which replica of the model serves it."),
    (
        CONTENTION_MODELS,
        "contention",
        "Contention models",
        "How replicas on one GPU slow each other down; `isolated`, the default, means that they do not. "
        "[The guide](../../contention.md) says what they were checked against.",
    ),
)
_INTRODUCTION = """\
# Policies

Each of these is named by `kind` in a section of a [scenario](scenario.md); a name alone will do where no option is
needed. A package can add more ([Contributing](../project/contributing.md#adding-a-plug-in)). Latency models have
[sections of their own](latency.md).
"""


def pages():
    """The page by file name."""
    lines = [_INTRODUCTION]
    for registry, key, title, about in _KINDS:
        lines += [f"## {title}", "", f"`{key}: {{kind: ...}}`. {about}", ""]
        for name in registry.names():
            lines += [f"### `{name}`", "", described(registry.get(name)), ""]
    return {"files/policies.md": "\n".join(lines)}


def described(plugin):
    """The words of a plug-in's docstring as Markdown, its options last."""
    parsed = NumpyDocString(inspect.getdoc(plugin) or "")
    words = [*parsed["Summary"], "", *parsed["Extended Summary"]]
    options = [f"- `{entry.name}` ({entry.type}): {' '.join(entry.desc)}" for entry in parsed["Parameters"]]
    return markdown("\n".join([*words, "", *options]))


def options_named_in_code(factory):
    """Options that a factory takes, as its code names them."""
    source = inspect.getsource(factory)
    return set(re.findall(r"options(?:\.get\(|\[)\"(\w+)\"", source)) | set(re.findall(r"\"(\w+)\" in options", source))
