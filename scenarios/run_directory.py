"""The run directory: it appears complete or not at all, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latency_models.errors import InputError


@contextmanager
def run_directory(out: Path | None, *, overwrite: bool) -> Iterator[Path | None]:
    """A folder beside ``out`` that takes its place when everything is written, and vanishes otherwise.

    Its name has the process's number, so runs at the same time do not meet; what dead processes left is removed, and an
    earlier run that one of them had moved aside comes back.

    Raises
    ------
    InputError
        ``out`` exists already and must not be replaced.
    """
    if out is None:
        yield None
        return
    _check_free(out, overwrite=overwrite)
    out = Path(os.path.abspath(out))  # "." has no name to put others beside
    out.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(out)
    beside, earlier = (out.with_name(f".{out.name}.{os.getpid()}.{what}") for what in ("partial", "earlier"))
    beside.mkdir()
    try:
        yield beside
        _check_free(out, overwrite=overwrite)
        if out.exists():
            out.rename(earlier)
        beside.rename(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        if earlier.exists() and not out.exists():
            earlier.rename(out)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def _clear_leftovers(out: Path) -> None:
    for path in sorted(out.parent.iterdir()):
        start, _, what = path.name.rpartition(".")
        owner, _, process = start.rpartition(".")
        if owner != f".{out.name}" or what not in ("partial", "earlier") or not process.isdigit():
            continue
        if _is_alive(int(process)) or not path.is_dir():
            continue
        if what == "earlier" and not out.exists():
            path.rename(out)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _check_free(out: Path, *, overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"--out {out} is a file; allowed: a folder that does not exist yet")
    if any(out.iterdir()):
        if not overwrite:
            raise InputError(f"--out {out} exists already; choose another folder, or give --overwrite to replace it")
        if not is_run_directory(out):
            raise InputError(
                f"--out {out} is not a run directory, so --overwrite leaves it alone; choose another folder"
            )


def is_run_directory(folder: Path) -> bool:
    """Whether a folder is a complete run directory."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and "schema_version" in manifest
