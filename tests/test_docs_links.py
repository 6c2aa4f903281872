"""Links between pages, and to files of the repository, lead somewhere; every page is in the site's contents."""

import re
import sys

import pytest
from documented_blocks import ROOT, pages

_FENCED = re.compile(r"^ *(`{3,}).*?^ *\1$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_MADE = ROOT / "docs" / "generated"
PAGES = [*pages(), ROOT / "CHANGELOG.md"]


def without_code(page):
    return _CODE.sub("", _FENCED.sub("", page.read_text(encoding="utf-8")))


def anchors(page):
    """Anchors of a page's headings, as GitHub and MyST make them."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#{1,4} +(.*?)\s*$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links(page):
    broken = []
    for target in _LINK.findall(without_code(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if _MADE in file.parents:
            continue  # made by the build, which checks these itself
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_every_page_is_in_the_contents_once():
    listed = []
    for index in (ROOT / "docs").rglob("*.md"):
        if _MADE in index.parents or "_build" in index.parts:
            continue
        for toctree in re.findall(r"^```\{toctree\}\n(.*?)^```", index.read_text(encoding="utf-8"), re.M | re.S):
            for entry in toctree.split():
                found = sorted(index.parent.glob(f"{entry}.md")) if not entry.startswith(":") else []
                listed += [path.resolve() for path in found]
    expected = [page for page in pages() if (ROOT / "docs") in page.parents and page != ROOT / "docs" / "index.md"]
    expected = [page for page in expected if page.name != "README.md"]
    assert sorted(set(expected) - set(listed)) == []
    assert [path for path in listed if listed.count(path) > 1 and _MADE not in path.parents] == []


def test_a_page_that_loads_from_elsewhere_is_seen(tmp_path):
    pytest.importorskip("sphinx")
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    from offline import loads_in

    (tmp_path / "a.html").write_text('<a href="https://x.org">x</a><link rel="canonical" href="https://x.org">')
    (tmp_path / "a.css").write_text("a { background: url(data:image/png;base64,AA) }")
    assert loads_in(tmp_path) == []
    (tmp_path / "b.html").write_text('<script defer src="https://cdn.org/x.js"></script><img src="//x.org/a.png">')
    (tmp_path / "b.css").write_text('@import "https://fonts.org/x.css";')
    assert len(loads_in(tmp_path)) == 3


def test_every_page_of_the_contents_is_there():
    for index in (ROOT / "docs" / "index.md", *(ROOT / "docs" / "reference").glob("*.md")):
        for toctree in re.findall(r"^```\{toctree\}\n(.*?)^```", index.read_text(encoding="utf-8"), re.M | re.S):
            for entry in (line for line in toctree.split("\n") if line and line[0] != ":" and "generated/" not in line):
                assert list(index.parent.glob(f"{entry}.md")), f"{index.name} lists {entry}, which is no page"
