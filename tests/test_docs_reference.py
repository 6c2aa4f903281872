"""What the reference is made of is complete: schemas, registries, docstrings."""

import ast
import importlib
import re
import sys

import pytest
from documented_blocks import ROOT

pytest.importorskip("numpydoc")
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

import api_pages
import file_reference
import policy_reference
from numpydoc.validate import validate

from sim.routing.policies import BALANCERS, MODEL_ROUTERS

TOUR = (ROOT / "docs" / "reference" / "api-tour.md").read_text(encoding="utf-8")
ENTRY_POINTS = re.findall(r"\{py:func\}`([\w.]+)`", TOUR)
# Parameters named, described, in order and complete; a return that is described; no unknown sections.
WANTED = {"SS01", "PR01", "PR02", "PR03", "PR04", "PR07", "PR10", "GL06", "GL07", "YD01"}
MODULES = [
    name for layer in api_pages.LAYERS for names in api_pages.modules_by_folder(layer).values() for name in names
]


def test_every_key_of_every_file_is_described():
    assert file_reference.undescribed() == []


def test_the_reference_has_every_kind_of_arrivals_lengths_and_latency():
    workload = file_reference.pages()["files/workload.md"]
    kinds = {"poisson", "gamma", "weibull", "deterministic", "mmpp2", "diurnal", "spikes"}
    kinds |= {"constant", "normal", "lognormal", "uniform", "geometric", "exponential", "empirical"}
    assert [kind for kind in sorted(kinds) if f"kind `{kind}`" not in workload] == []
    assert "| `rate_per_s` | number |" in workload
    latency = file_reference.pages()["files/latency.md"]
    assert [kind for kind in ("linear", "steps", "roofline") if f"kind `{kind}`" not in latency] == []


def test_every_page_of_the_reference_says_what_must_be_given():
    for name, text in file_reference.pages().items():
        assert "**required**" in text or name == "files/profile.md", name


@pytest.mark.parametrize("registry", [MODEL_ROUTERS, BALANCERS], ids=lambda registry: registry.kind)
def test_policies_say_their_rule_and_their_options(registry):
    for name in registry.names():
        factory = registry.get(name)
        said = factory.__doc__ or ""
        assert not said.startswith(("Options", "No options")), f"{registry.kind} {name}: what it does comes first"
        assert [key for key in policy_reference.options_named_in_code(factory) if f"``{key}``" not in said] == [], name


@pytest.mark.parametrize("name", sorted(set(ENTRY_POINTS)))
def test_functions_of_the_tour_document_their_parameters(name):
    assert [f"{code} {text}" for code, text in validate(name)["errors"] if code in WANTED] == []


def test_the_tour_has_what_a_newcomer_calls_first():
    assert len(set(ENTRY_POINTS)) >= 15


def test_every_module_can_be_imported_and_says_what_it_is():
    assert len(MODULES) > 200
    for name in MODULES:
        assert (importlib.import_module(name).__doc__ or "").strip(), name


def undocumented(path):
    """Public classes and functions of a module, and methods of public classes, without a docstring."""

    def inside(node, prefix):
        for child in node.body:
            named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if not named or child.name.startswith("_"):
                continue
            overloaded = any("overload" in ast.unparse(entry) for entry in child.decorator_list)
            if ast.get_docstring(child) is None and not overloaded:
                yield f"{prefix}{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from inside(child, f"{prefix}{child.name}.")

    return list(inside(ast.parse(path.read_text(encoding="utf-8")), f"{path.relative_to(ROOT)}: "))


@pytest.mark.parametrize("layer", api_pages.LAYERS)
def test_nothing_public_is_without_a_docstring(layer):
    assert [name for path in sorted((ROOT / layer).rglob("*.py")) for name in undocumented(path)] == []


def test_a_missing_docstring_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    source = 'class A:\n    """A."""\n    def f(self): ...\n    def _g(self): ...\ndef h(): ...\n'
    (tmp_path / "new.py").write_text(source)
    assert undocumented(tmp_path / "new.py") == ["new.py: A.f", "new.py: h"]
