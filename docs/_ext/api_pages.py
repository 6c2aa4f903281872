"""The Python API: a page for each folder of each package, its modules in order, from their docstrings."""

import importlib
from pathlib import Path

from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]
LAYERS = {
    "latency_models": "how long one engine step takes",
    "sim": "the cluster on a SimPy clock",
    "optimizer": "which models run where, and which prompt goes to which",
    "analysis": "from columns to numbers",
    "scenarios": "what users write, and the command line",
}


def pages():
    """The pages by file name: ``api/sim.vllm.rst`` and, for each layer, the list of its folders."""
    found = {}
    for layer, about in LAYERS.items():
        folders = modules_by_folder(layer)
        for folder, modules in folders.items():
            found[f"api/{folder}.rst"] = _folder_page(folder, modules)
        found[f"api/index-{layer}.rst"] = _layer_page(layer, about, folders)
    return found


def modules_by_folder(layer):
    """Public modules of a package by the package that holds them; lessons have pages of their own."""
    folders = {}
    for path in sorted((ROOT / layer).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if not any(part.startswith("_") for part in parts) and parts[:2] != ("scenarios", "lessons"):
            folders.setdefault(".".join(parts[:-1]), []).append(".".join(parts))
    return folders


def _heading(text, line):
    return [text, line * len(text), ""]


def _folder_page(folder, modules):
    lines = _heading(folder, "=")
    for module in modules:
        lines += [*_heading(module, "-"), f".. automodule:: {module}", ""]
    return "\n".join(lines)


def _layer_page(layer, about, folders):
    lines = [*_heading(layer, "="), f"{about[0].upper()}{about[1:]}.", "", ".. toctree::", "   :maxdepth: 2", ""]
    return "\n".join([*lines, *(f"   {folder}" for folder in folders), ""])


def import_all():
    """Import every module as programs do; autodoc would pretend that a type checker does, which some do not bear."""
    for layer in LAYERS:
        for modules in modules_by_folder(layer).values():
            for module in modules:
                importlib.import_module(module)


def without_schema_signature(app, what, name, obj, options, signature, returns):
    """A class of the schema has its keys listed below; as a signature they are unreadable."""
    is_schema = isinstance(obj, type) and issubclass(obj, BaseModel)
    return ("", None) if is_schema else None
