"""The lessons: their lecture pages with exercises, and their notebooks as they run.

Nothing of them is stored under ``docs/``; they live in ``scenarios/lessons``.
"""

import base64
import hashlib
import json
import re
import shutil
import tempfile
from pathlib import Path

from scenarios.lessons.lesson import lesson_names, load_lesson
from scenarios.lessons.student_folder import COPIED, execute_notebook
from scenarios.profiles.cache import code_digest

_CACHE = Path(__file__).resolve().parents[1] / "_build" / "notebooks"
_INDEX = """\
# Lessons

A course in queueing on LLM servers. Each lesson starts from a question, sets theory beside simulation, and ends in
exercises; `routerwise teach NAME` has the same in the terminal and checks answers ([the guide](../../teach.md)).
"""


def pages():
    """The pages and pictures by file name; the list alone if there is no lesson."""
    lessons = [load_lesson(name) for name in lesson_names()]
    found = {}
    for lesson in lessons:
        found[f"lessons/{lesson.name}.md"] = _lecture(lesson)
        found |= _notebook_pages(lesson.name, _executed(lesson))
    rows = [
        f"| [{lesson.about.title}]({lesson.name}.md) | {lesson.about.question} | {lesson.about.minutes} |"
        for lesson in lessons
    ]
    table = ["| lesson | question | minutes |", "|---|---|---|", *rows] if rows else ["No lesson is installed."]
    toctree = ["```{toctree}", ":hidden:", "", *(lesson.name for lesson in lessons), "```"]
    found["lessons/index.md"] = "\n".join([_INDEX, *table, "", *toctree, ""])
    return found


def _lecture(lesson):
    page = re.sub(r"\]\((?:\.\./)+docs/", "](../../", lesson.page)
    lines = [page.rstrip(), "", "## Exercises", ""]
    for number, exercise in enumerate(lesson.about.exercises, start=1):
        unit = f" (in {exercise.unit})" if exercise.unit else ""
        answer = f"{exercise.answer:,.6g} {exercise.unit}".strip()
        lines += [
            f"**{number}.** {exercise.text.strip()}{unit}",
            "",
            "<details><summary>Hint and solution</summary>",
            "",
        ]
        lines += [exercise.hint.strip(), "", f"*Answer: {answer}.* {exercise.solution.strip()}", "", "</details>", ""]
    lines += ["## Notebook", "", f"[As it runs]({lesson.name}-notebook.md); its file, and the scenario, come with"]
    lines += ["", "```sh", f"routerwise teach {lesson.name.replace('_', '-')} --out lesson", "```", ""]
    return "\n".join([*lines, "```{toctree}", ":hidden:", "", f"{lesson.name}-notebook", "```", ""])


def _executed(lesson):
    """The lesson's notebook with its outputs; run again when the lesson or the program has changed."""
    key = hashlib.sha256(code_digest().encode())
    for name in COPIED:
        key.update((lesson.folder / name).read_bytes())
    kept = _CACHE / f"{lesson.name}-{key.hexdigest()[:16]}.ipynb"
    if not kept.is_file():
        with tempfile.TemporaryDirectory() as folder:
            for name in COPIED:
                shutil.copyfile(lesson.folder / name, Path(folder) / name)
            execute_notebook(Path(folder) / "notebook.py", Path(folder) / "notebook.ipynb")
            _CACHE.mkdir(parents=True, exist_ok=True)
            for outdated in _CACHE.glob(f"{lesson.name}-*.ipynb"):
                outdated.unlink(missing_ok=True)
            shutil.move(Path(folder) / "notebook.ipynb", kept)
    return json.loads(kept.read_text(encoding="utf-8"))


def _notebook_pages(name, notebook):
    """The notebook as a Markdown page, and its pictures."""
    lines, pictures = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            lines += [source, ""]
            continue
        if source.startswith('"""') and source.endswith('"""') and source.count('"""') == 2:
            continue  # the file's docstring, which the title repeats
        lines += ["```python", source, "```", ""]
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                file = f"{name}-notebook-{len(pictures) + 1}.png"
                pictures[f"lessons/{file}"] = base64.b64decode(data["image/png"])
                lines += [f"![What the cell above draws]({file})", ""]
            elif shown := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                lines += ["```text", shown, "```", ""]
    return {f"lessons/{name}-notebook.md": "\n".join(lines), **pictures}
