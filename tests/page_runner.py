"""Tries the blocks of one page in order, in one folder."""

import contextlib
import doctest
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

from documented_blocks import ROOT
from documented_yaml import check_yaml
from small_problem import write_problem

from scenarios.cli import main

_SHELL = re.compile(r"[|<>&;$`*(){}]")
_WIDTH = "160"  # of the tables that commands print


class PageRunner:
    """What the blocks of one page share: the folder, the names of Python blocks, what the last commands printed."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        for linked in ("docs/examples", "tests/fixtures"):
            (folder / linked).parent.mkdir()
            (folder / linked).symlink_to(ROOT / linked)
        (folder / "small").mkdir()
        write_problem(folder / "small")
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("COLUMNS", _WIDTH)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / ".cache"))
        self._names = {"__name__": "__main__"}
        self._printed = None

    def run(self, blocks):
        """Try all blocks; a file may be used by a command above the block that shows it."""
        tried = [block for block in blocks if "skip" not in block.settings]
        for block in reversed(tried):
            self._write(block)
        for block in tried:
            self._write(block)
            getattr(self, f"_try_{block.language}")(block)
            if block.language not in ("sh", "python", "text"):
                self._printed = None

    def _write(self, block):
        if "file" in block.settings:
            path = self.folder / block.settings["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.changed, encoding="utf-8")

    def _try_sh(self, block):
        text = block.changed
        commands = [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines()]
        commands = [words for words in commands if words]
        assert commands, f"{block.place}: no command"
        plain = all(words[0] == "routerwise" for words in commands) and not _SHELL.search(_unquoted(text))
        printed = "".join(map(self._in_process(block), commands)) if plain else self._in_shell(block, text)
        self._printed = printed if text == block.text else None

    def _in_process(self, block):
        def run(words):
            out, err, status = io.StringIO(), io.StringIO(), 0
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main(words[1:])
                except SystemExit as finished:
                    status = finished.code or 0
            assert status in block.statuses, f"{block.place}: {shlex.join(words)} ended with {status}: {err.getvalue()}"
            return out.getvalue()

        return run

    def _in_shell(self, block, text):
        """Whatever needs a shell, and programs other than our own."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode in block.statuses, (
            f"{block.place}: status {done.returncode}: {done.stderr or done.stdout}"
        )
        return done.stdout

    def _try_python(self, block):
        out = io.StringIO()
        text = block.changed
        with contextlib.redirect_stdout(out):
            if text.lstrip().startswith(">>>"):
                examples = doctest.DocTestParser().get_doctest(text, self._names, block.page, block.page, block.line)
                runner = doctest.DocTestRunner(verbose=False)
                runner.run(examples, out=out.write, clear_globs=False)
                self._names.update(examples.globs)
                assert runner.failures == 0, f"{block.place}: {out.getvalue()}"
                self._printed = None
                return
            # Blank lines before it, so that a traceback names the line of the page.
            exec(compile("\n" * block.line + text, block.page, "exec"), self._names)
        self._printed = out.getvalue() if text == block.text else None

    def _try_text(self, block):
        """What the commands right above printed, if they ran as the page has them."""
        if self._printed is None:
            return
        printed = {_squeezed(line) for line in self._printed.splitlines()}
        for line in map(_squeezed, block.text.splitlines()):
            cut = line.removesuffix("...").rstrip()
            found = line in printed or (cut != line and any(shown.startswith(cut) for shown in printed))
            assert not line or found, f"{block.place}: the commands above do not print {line!r}, but:\n{self._printed}"

    def _try_yaml(self, block):
        check_yaml(block.changed, block.settings.get("as"), self.folder, block.place)

    def _try_json(self, block):
        json.loads(block.changed)

    def _try_toml(self, block):
        tomllib.loads(block.changed)

    def _try_csv(self, block):
        rows = [line.split(",") for line in block.changed.strip().splitlines()]
        assert len({len(row) for row in rows}) == 1, f"{block.place}: rows of different lengths"


def _unquoted(text):
    """The text without what quotes hide from a shell, and without comments."""
    bare = re.sub(r"'[^']*'|\"[^\"$`]*\"", "", text)
    return re.sub(r"#.*", "", bare)


def _squeezed(line):
    return " ".join(line.split())
