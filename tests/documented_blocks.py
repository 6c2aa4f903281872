"""Fenced blocks of the pages: finding them, and what the comments above them say about trying them.

CONTRIBUTING.md, section Documentation, describes both for writers.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ("sh", "python", "yaml", "json", "toml", "csv", "text")
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[^\s`]*)[^`]*$")
_DIRECTIVE = re.compile(r"<!-- test:(?P<settings>(?:(?!-->).)*)-->\s*\Z", re.DOTALL)
_SETTINGS = {"file": str, "exit": (int, list), "replace": dict, "as": str, "skip": str}


def pages():
    """Every page with blocks to try: README, CONTRIBUTING, docs/ and the pages of the lessons."""
    made = ("_build", "generated")
    written = [path for path in (ROOT / "docs").rglob("*.md") if path.relative_to(ROOT / "docs").parts[0] not in made]
    lessons = (ROOT / "scenarios" / "lessons").glob("*/page.md")
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(written), *sorted(lessons)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block, with the settings of the comment above it."""

    page: str
    line: int
    language: str
    text: str
    settings: dict = field(default_factory=dict)

    @property
    def place(self):
        return f"{self.page}:{self.line}"

    @property
    def changed(self):
        """The text with the settings that tests use."""
        text = self.text
        for old, new in self.settings.get("replace", {}).items():
            assert str(old) in text, f"{self.place}: 'replace' names {old!r}, which the block does not have"
            text = text.replace(str(old), str(new))
        return text

    @property
    def statuses(self):
        """Exit statuses with which a command may end."""
        given = self.settings.get("exit", 0)
        return {0, *(given if isinstance(given, list) else [given])}


def blocks_of(page):
    """The blocks of a page in order."""
    return list(blocks_in(page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()))


def blocks_in(text, page):
    """The blocks of a page's text in order; those of MyST directives (``{note}``) are Sphinx's."""
    lines = text.splitlines()
    row = 0
    while row < len(lines):
        opening = _FENCE.match(lines[row])
        row += 1
        if opening is None:
            continue
        first, indent, fence = row, opening["indent"], opening["fence"]
        while row < len(lines) and lines[row].strip() != fence:
            row += 1
        assert row < len(lines), f"{page}:{first}: the block never ends"
        inside = "\n".join(line.removeprefix(indent) for line in lines[first:row]) + "\n"
        row += 1
        language = opening["language"]
        assert not language.startswith("{code"), f"{page}:{first}: write a plain fence, which is tried, not {language}"
        if language.startswith("{"):
            continue
        assert language in LANGUAGES, f"{page}:{first}: the language is {language!r}; allowed: {', '.join(LANGUAGES)}"
        settings = _settings("\n".join(lines[: first - 1]), f"{page}:{first}")
        yield Block(page=page, line=first, language=language, text=inside, settings=settings)


def _settings(above, place):
    comment = _DIRECTIVE.search(above)
    if comment is None:
        return {}
    settings = yaml.safe_load(comment["settings"])
    assert isinstance(settings, dict), f"{place}: the comment above is no YAML mapping"
    for name, value in settings.items():
        assert name in _SETTINGS, f"{place}: the comment has {name!r}; allowed: {', '.join(_SETTINGS)}"
        assert isinstance(value, _SETTINGS[name]), f"{place}: {name} is {value!r}"
    return settings
