"""`routerwise teach`: list, page, exercises, answers, and a student's folder."""

import asyncio
import importlib.util
import json
import re

import pytest

import scenarios.lessons.student_folder
from latency_models.errors import InputError
from scenarios.lessons.lesson import lesson_names, load_lesson
from scenarios.lessons.student_folder import NotebookFailed, execute_notebook, missing_packages, write_student_folder

WITH_JUPYTER = all(importlib.util.find_spec(name) for name in ("jupytext", "nbclient", "ipykernel"))
needs_jupyter = pytest.mark.skipif(not WITH_JUPYTER, reason="needs the packages of the extra teach")


def test_the_list(routerwise):
    status, out, err = routerwise("teach")
    assert (status, err) == (0, "")
    names = [name.replace("_", "-") for name in lesson_names()]
    listed = re.findall(r"^ *\d+\. ([a-z0-9-]+) +\(\d+ min\)$", out, flags=re.MULTILINE)
    assert listed == names
    assert out.count("?") >= len(names)
    as_json = json.loads(routerwise("teach", "--json")[1])
    assert [entry["lesson"] for entry in as_json] == names
    assert set(as_json[0]) == {"lesson", "title", "question", "minutes", "needs"}


def test_a_page_with_its_experiment(routerwise):
    status, out, err = routerwise("teach", "littles-law", "--replications", "6")
    assert (status, err) == (0, "")
    for words in ("Little's law", "L = λ W", "Pitfalls", "Theory beside simulation", "simulated (99 %)", "no, rightly"):
        assert words in out
    status, page, _ = routerwise("teach", "littles-law", "--no-simulation")
    assert status == 0
    assert "L = λ W" in page
    assert "simulated (99 %)" not in page


def test_the_experiment_as_json(routerwise):
    status, out, _ = routerwise("teach", "littles-law", "--json", "--replications", "5")
    assert status == 0
    found = json.loads(out)
    assert found["lesson"] == "littles-law"
    assert {row["claim"] for row in found["rows"]} == {"agrees", "differs", "none"}


def test_exercises_and_solutions(routerwise):
    _, questions, _ = routerwise("teach", "littles-law", "--exercises")
    _, solutions, _ = routerwise("teach", "littles-law", "--solutions")
    assert "1." in questions
    assert "20 / 2.5" not in questions
    assert "20 / 2.5 = 8" in " ".join(solutions.split())


@pytest.mark.parametrize(
    ("answers", "status", "expected"),
    [
        (["1=8"], 0, "Exercise 1: right."),
        (["1=8.01"], 0, "right"),
        (["1=50"], 1, "Exercise 1: 50 s is not it. Hint: L, the mean number present"),
        (["1=8", "2=21_000"], 0, "Exercise 2: right."),
        (["1=8", "2=7"], 1, "Exercise 2: 7 tokens is not it."),
    ],
)
def test_answers(answers, status, expected, routerwise):
    found, out, err = routerwise("teach", "littles-law", *(text for answer in answers for text in ("--answer", answer)))
    assert (found, err) == (status, "")
    assert expected in out
    assert len(out.splitlines()) == len(answers)


@pytest.mark.parametrize("name", lesson_names())
def test_the_answers_of_every_lesson_are_accepted(name, routerwise):
    exercises = load_lesson(name).about.exercises
    options = [
        text
        for number, exercise in enumerate(exercises, start=1)
        for text in ("--answer", f"{number}={exercise.answer}")
    ]
    assert routerwise("teach", name, *options)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("littles-lw",), "did you mean 'littles-law'"),
        (("littles-law", "--answer", "1"), "NUMBER=VALUE"),
        (("littles-law", "--answer", "one=2"), "NUMBER=VALUE"),
        (("littles-law", "--answer", "1="), "NUMBER=VALUE"),
        (("littles-law", "--answer", "1=nan"), "finite"),
        (("littles-law", "--answer", "9=1"), "exercise is 9; allowed: 1 to 4"),
        (("littles-law", "--answer", "0=1"), "exercise is 0"),
        (("littles-law", "--answer", "1=8", "--exercises"), "do not go together"),
        (("littles-law", "--exercises", "--replications", "5"), "--replications has no effect with --exercises"),
        (("littles-law", "--no-simulation", "--replications", "5"), "--no-simulation leaves out"),
        (("littles-law", "--no-simulation", "--json"), "--no-simulation leaves out"),
        (("littles-law", "--overwrite"), "no effect without --out"),
        (("--exercises",), "--exercises is of a lesson; name one of: littles-law"),
        (("littles-law", "--answer", "2=21,000"), "your answer as a plain number"),
        (("--replications", "5"), "--replications is of a lesson"),
    ],
)
def test_bad_input_is_one_line(arguments, expected, routerwise):
    status, out, err = routerwise("teach", *arguments)
    assert status == 2
    assert expected in err
    assert err.count("\n") == 1
    assert out == ""


# ---------------------------------------------------------------------- a student's folder


@pytest.fixture
def without_jupyter(monkeypatch):
    """Pretend that the packages of the extra are missing."""
    monkeypatch.setattr(scenarios.lessons.student_folder, "JUPYTER_PACKAGES", ("no_such_package",))


def test_a_folder_without_jupyter(routerwise, tmp_path, without_jupyter):
    out = tmp_path / "lesson"
    status, text, err = routerwise("teach", "littles-law", "--out", out)
    assert status == 0
    assert f"Lesson: {out}" in text
    assert "no_such_package" in err
    assert "pip install 'routerwise[teach]'" in err
    assert sorted(path.name for path in out.iterdir()) == [
        "exercises.md", "manifest.json", "notebook.py", "page.md", "scenario.yaml",
    ]  # fmt: skip
    exercises = (out / "exercises.md").read_text()
    assert "**1.**" in exercises
    assert "20 / 2.5" not in exercises
    with pytest.raises(InputError, match="no_such_package"):
        execute_notebook(out / "notebook.py", out / "notebook.ipynb")


def test_the_scenario_of_a_folder_runs(routerwise, tmp_path, without_jupyter):
    routerwise("teach", "burstiness", "--out", tmp_path / "lesson")
    scenario = tmp_path / "lesson" / "scenario.yaml"
    options = ("--set", "workload.requests=50", "--warmup", "0", "--out", tmp_path / "run")
    assert routerwise("run", scenario, *options)[0] == 0


def test_a_folder_is_not_replaced_unasked(routerwise, tmp_path, without_jupyter):
    out = tmp_path / "lesson"
    routerwise("teach", "littles-law", "--out", out)
    (out / "notes.txt").write_text("mine")
    status, _, err = routerwise("teach", "littles-law", "--out", out)
    assert status == 2
    assert "exists already" in err
    assert (out / "notes.txt").exists()
    assert routerwise("teach", "littles-law", "--out", out, "--overwrite")[0] == 0
    assert not (out / "notes.txt").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    assert routerwise("teach", "littles-law", "--out", tmp_path / "thesis", "--overwrite")[0] == 2
    assert (tmp_path / "thesis" / "chapter.tex").exists()


NOTEBOOK = """# %% [markdown]
# # A lesson
# with a picture

# %%
from matplotlib import pyplot as plt

from scenarios.lessons.notebook_setting import show_picture

figure, axes = plt.subplots()
show_picture(figure, "curve")

# %%
print(open("scenario.yaml").readline())
assert {claim}, "theory is off"
"""


@pytest.fixture
def small_lesson(tmp_path, monkeypatch):
    """A lesson whose notebook takes no time; its last cell asserts what it is told to."""

    def make(claim):
        original, folder = load_lesson("littles_law"), tmp_path / "lessons" / "small"
        folder.mkdir(parents=True)
        for name in ("page.md", "scenario.yaml", "lesson.yaml"):
            (folder / name).write_bytes((original.folder / name).read_bytes())
        (folder / "notebook.py").write_text(NOTEBOOK.replace("{claim}", claim))
        monkeypatch.setattr(scenarios.lessons.lesson, "FOLDER", tmp_path / "lessons")
        return load_lesson("small")

    return make


@needs_jupyter
def test_an_executed_notebook(small_lesson, tmp_path, capfd):
    assert missing_packages() == []
    found = write_student_folder(small_lesson("1 < 2"), tmp_path / "out", overwrite=False)
    assert found == tmp_path / "out" / "notebook.ipynb"
    assert capfd.readouterr().err == ""  # of the kernel, which is another process
    notebook = json.loads((tmp_path / "out" / "notebook.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [1, 2]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert any("extends: mm1" in "".join(output.get("text", [])) for output in outputs)
    assert not list((tmp_path / "out").glob("*.png"))


@needs_jupyter
def test_a_notebook_that_fails_leaves_nothing(small_lesson, tmp_path):
    lesson = small_lesson("1 > 2")
    with pytest.raises(NotebookFailed, match="theory is off"):
        write_student_folder(lesson, tmp_path / "out", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["lessons"]


@needs_jupyter
@pytest.mark.parametrize("way", ["ended twice", "found dead", "not yet there"])
def test_ctrl_c_while_a_notebook_runs(way, small_lesson, routerwise, tmp_path, monkeypatch):
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    def interrupted(client, *arguments, **options):
        # As nbclient does where Ctrl-C made it end the kernel.
        if way == "ended twice":
            raise AssertionError
        if way == "not yet there":
            raise asyncio.CancelledError
        client._async_cleanup_kernel_future = object()
        raise DeadKernelError("Kernel died")

    small_lesson("1 < 2")
    monkeypatch.setattr(NotebookClient, "execute", interrupted)
    status, _, err = routerwise("teach", "small", "--out", tmp_path / "out")
    assert status == 130
    assert "interrupted" in err
    assert [path.name for path in tmp_path.iterdir()] == ["lessons"]
