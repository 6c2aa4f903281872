"""The trying of blocks can fail: each way in which a page may be wrong is seen."""

import pytest
from documented_blocks import blocks_in
from page_runner import PageRunner


@pytest.fixture
def tried(tmp_path, monkeypatch):
    return lambda text: PageRunner(tmp_path, monkeypatch).run(list(blocks_in(text, "page.md")))


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("```sh\nrouterwise run nothing\n```\n", r"page.md:1: routerwise run nothing ended with 2.*unknown scenario"),
        ("```sh\ntrue\nfalse\n```\n", "page.md:1: status 1"),
        ("```sh\n# nothing\n```\n", "no command"),
        ("```sh\necho 1\n```\n\n```text\n2\n```\n", "do not print '2'"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "do not print '2'"),
        ("```python\n>>> 1 + 1\n3\n```\n", "page.md:1"),
        ("```python\nassert 1 == 2\n```\n", ""),
        ("```yaml\nworkload: {kind: trace}\n```\n", "path"),
        ("```yaml\nrun: {repetitions: 3}\n```\n", "repetitions"),
        ("```yaml\nnobody: knows\n```\n", "say what this is"),
        ("```json\n{1: 2}\n```\n", "property name"),
        ("```csv\na,b\n1\n```\n", "rows of different lengths"),
    ],
)
def test_wrong_blocks_are_seen(tried, page, message):
    with pytest.raises(Exception, match=f"(?s){message}"):
        tried(page)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("```\necho\n```\n", "the language is ''"),
        ("```fortran\nEND\n```\n", "the language is 'fortran'"),
        ("```sh\necho\n", "never ends"),
        ("```{code-block} python\n1 / 0\n```\n", "write a plain fence"),
        ("<!-- test: {skipped: because} -->\n```sh\nfalse\n```\n", "allowed: file, exit"),
        ("<!-- test: {skip: true} -->\n```sh\nfalse\n```\n", "skip is True"),
    ],
)
def test_wrong_pages_are_seen(page, message):
    with pytest.raises(AssertionError, match=message):
        list(blocks_in(page, "page.md"))


def test_a_replacement_must_be_of_something(tried):
    with pytest.raises(AssertionError, match="'replace' names 'nothing'"):
        tried("<!-- test: {replace: {nothing: something}} -->\n```sh\necho\n```\n")


def test_what_comments_say_is_done(tried, tmp_path):
    tried(
        "```sh\ncat later.txt\n```\n\n```text\nwritten\n```\n\n"
        "<!-- test: {file: later.txt} -->\n```text\nwritten\n```\n\n"
        "<!-- test: {exit: [3, 4]} -->\n```sh\nexit 3\n```\n\n"
        "<!-- test: {replace: {'false': 'true'}} -->\n```sh\nfalse\n```\n\n"
        "<!-- test: {skip: it would fail} -->\n```sh\nfalse\n```\n\n"
        "```python\nx = 1\n```\n\n  ```python\n  print(x + 1)\n  ```\n\n```text\n2\n```\n"
    )
    assert (tmp_path / "later.txt").read_text() == "written\n"
