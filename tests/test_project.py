import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = sorted(pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"])


def public_modules():
    """Paths from the root of all modules whose names do not start with an underscore."""
    files = (file.relative_to(ROOT) for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return sorted(file.as_posix() for file in files if not any(part.startswith("_") for part in file.parts))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_exists_is_typed_and_is_on_the_design_page(package):
    assert (ROOT / package / "__init__.py").is_file()
    assert (ROOT / package / "py.typed").is_file()
    assert f"{package}/" in (ROOT / "docs" / "design.md").read_text(encoding="utf-8")


def test_every_public_module_is_on_the_design_page():
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    modules = public_modules()
    assert "latency_models/laws/linear.py" in modules
    assert [module for module in modules if module not in design] == []


def test_the_design_page_names_no_module_that_is_gone():
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    named = set(re.findall(rf"\b(?:{'|'.join(PACKAGES)})/[\w/]+\.py\b", design))
    assert [module for module in sorted(named) if not (ROOT / module).is_file()] == []


def test_every_package_is_checked_by_types_and_layers():
    assert sorted(PROJECT["tool"]["mypy"]["packages"]) == PACKAGES
    assert sorted(PROJECT["tool"]["importlinter"]["root_packages"]) == PACKAGES
    layers = next(c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    assert sorted(layers["layers"]) == PACKAGES


def test_no_module_is_longer_than_400_lines_or_named_after_nothing():
    for module in public_modules():
        assert len((ROOT / module).read_text(encoding="utf-8").splitlines()) <= 400, module
        assert Path(module).stem not in {"utils", "common", "helpers"}, module


def test_the_newest_version_in_the_changelog_is_the_project_s():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, flags=re.MULTILINE)
    assert versions[0] == PROJECT["project"]["version"]


def test_every_make_target_says_what_it_does():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    for target in phony.group(1).split():
        assert re.search(rf"^{target}:.*## \w", makefile, flags=re.MULTILINE), target
