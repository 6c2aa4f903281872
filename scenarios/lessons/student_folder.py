"""The folder that a student works in: page, scenario and notebook, executed where Jupyter is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from latency_models.errors import InputError, RouterwiseError
from scenarios.lessons.exercises import exercises_page
from scenarios.lessons.lesson import Lesson
from scenarios.run_directory import run_directory

JUPYTER_PACKAGES = ("jupytext", "nbclient", "ipykernel")
"""Packages of the extra ``teach``, which an executed notebook needs."""

COPIED = ("page.md", "scenario.yaml", "notebook.py")
"""What a student gets of a lesson's files."""

SCHEMA_VERSION = 1
"""Of the folder's manifest."""

_MOST_SECONDS = 600


def missing_packages() -> list[str]:
    """Which of :data:`JUPYTER_PACKAGES` are not installed."""
    return [name for name in JUPYTER_PACKAGES if importlib.util.find_spec(name) is None]


def write_student_folder(lesson: Lesson, out: Path, *, overwrite: bool) -> Path | None:
    """Write the folder; nothing of it stays if something goes wrong.

    Parameters
    ----------
    lesson : Lesson
        Which.
    out : Path
        The folder; it must not exist unless it is empty or ``overwrite``.
    overwrite : bool
        Replace an earlier such folder.

    Returns
    -------
    Path or None
        The executed notebook; ``None`` if packages for it are missing (:func:`missing_packages`).

    Raises
    ------
    InputError
        The folder is in the way.
    NotebookFailed
        A cell of the notebook failed.
    """
    executable = not missing_packages()
    with run_directory(out, overwrite=overwrite) as folder:
        assert folder is not None
        for name in COPIED:
            shutil.copyfile(lesson.folder / name, folder / name)
        (folder / "exercises.md").write_text(exercises_page(lesson, solutions=False), encoding="utf-8")
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "command": "teach",
            "lesson": lesson.name,
            "routerwise": version("routerwise"),
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if executable:
            execute_notebook(folder / "notebook.py", folder / "notebook.ipynb")
    return out / "notebook.ipynb" if executable else None


class NotebookFailed(RouterwiseError):
    """A cell of a notebook raised an error."""


def execute_notebook(source: Path, target: Path) -> None:
    """Run a notebook in percent format in its folder and write it with its outputs.

    Parameters
    ----------
    source, target : Path
        ``notebook.py`` and the ``.ipynb`` to write.

    Raises
    ------
    InputError
        A package is missing.
    NotebookFailed
        A cell failed; the message has its last line.
    """
    if missing := missing_packages():
        raise InputError(f"executing notebooks needs {', '.join(missing)}; install: pip install 'routerwise[teach]'")
    from asyncio import CancelledError

    import jupytext
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    notebook: Any = jupytext.read(source)
    client = NotebookClient(
        notebook,
        timeout=_MOST_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(source.parent)}},
    )
    try:
        # The kernel is a process of its own; without this it would look for a display that is not there.
        # What it writes to standard error is of the machine, not of the lesson; errors of cells come as messages.
        client.execute(
            env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}, stderr=subprocess.DEVNULL
        )
    except (AssertionError, CancelledError):
        # nbclient takes Ctrl-C for a reason to end the kernel, and then misses it when it would end it once more, or
        # waits for it.
        raise KeyboardInterrupt from None
    except DeadKernelError:
        # On Ctrl-C nbclient ends the kernel, keeps what it does then under this name, and may find the kernel dead.
        if getattr(client, "_async_cleanup_kernel_future", None) is not None:
            raise KeyboardInterrupt from None
        raise NotebookFailed(f"{source.name}: the Jupyter kernel died; run python {source.name} to see why") from None
    except CellExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from None
        raise NotebookFailed(f"{source.name}: {str(error).strip().splitlines()[-1]}") from None
    jupytext.write(notebook, target)
