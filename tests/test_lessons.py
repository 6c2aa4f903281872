"""The course: every lesson is complete, its exercises have the answers they say, and theory and simulation meet."""

import runpy

import pytest

from analysis.queueing.many_servers import erlang_c
from analysis.statistics import Interval
from latency_models.errors import InputError
from scenarios.lessons.lesson import FILES, FOLDER, LessonFile, lesson_names, load_lesson
from scenarios.lessons.notebook_setting import FEWEST_REPLICATIONS, REPLICATIONS_VARIABLE, replications
from scenarios.lessons.plain_math import page_for_terminal, plain_math
from scenarios.scenario_files import load_scenario
from scenarios.theory.evidence import Row, check_rows

LESSONS = lesson_names()
FEW = FEWEST_REPLICATIONS
"""Replications in tests: a lesson shows what it claims with so few, with wider intervals."""


def test_the_course_is_there():
    assert LESSONS[:5] == [
        "littles_law",
        "mm1_to_mg1",
        "processor_sharing_and_batching",
        "utilisation_and_the_knee",
        "burstiness",
    ]
    assert sorted(LESSONS) == sorted(path.parent.name for path in FOLDER.glob("*/lesson.yaml"))
    orders = [load_lesson(name).about.order for name in LESSONS]
    assert len(set(orders)) == len(orders)


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_is_complete(name):
    lesson = load_lesson(name)
    for file in (*FILES, "__init__.py"):
        assert (lesson.folder / file).is_file(), file
    assert "?" in lesson.about.question
    assert 3 <= len(lesson.about.exercises) <= 5
    for before in lesson.about.needs:
        assert load_lesson(before).about.order < lesson.about.order
    assert load_scenario(str(lesson.scenario)).description
    page = lesson.page
    assert page.startswith("# ")
    for heading in ("## What to try", "## Pitfalls", "## Sources"):
        assert heading in page


@pytest.mark.parametrize("name", LESSONS)
def test_answers_of_the_exercises_are_computed(name):
    lesson = load_lesson(name)
    computed = lesson.answers()
    numbers = range(1, len(lesson.about.exercises) + 1)
    assert sorted(computed) == sorted(str(number) for number in numbers)
    for number in numbers:
        exercise = lesson.exercise(number)
        # What is printed as the answer is right to a part of what a student may be off.
        assert abs(exercise.answer - computed[str(number)]) <= exercise.tolerance / 2 * abs(computed[str(number)])
        assert exercise.accepts(computed[str(number)])
        assert not exercise.accepts(exercise.answer * (1 + 2 * exercise.tolerance))
        assert not exercise.accepts(-exercise.answer)


@pytest.mark.parametrize("name", LESSONS)
def test_theory_and_simulation_are_where_the_lesson_says(name):
    rows = load_lesson(name).experiment(replications=FEW)
    assert [row.quantity for row in rows if not row.holds] == []
    claims = [row.claim for row in rows]
    assert claims.count("agrees") >= 2
    assert all(row.source for row in rows if row.theory is not None)
    # Nothing agrees because its interval is wide enough for everything.
    for row in rows:
        if row.claim == "agrees" and row.theory:
            assert row.simulated.half_width < 2.5 * abs(row.theory), row.quantity


@pytest.mark.parametrize("name", LESSONS)
def test_every_notebook_runs(name, tmp_path, monkeypatch, capsys):
    lesson = load_lesson(name)
    for file in ("scenario.yaml", "notebook.py"):
        (tmp_path / file).write_bytes((lesson.folder / file).read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv(REPLICATIONS_VARIABLE, str(FEW))
    runpy.run_path("notebook.py")
    assert list(tmp_path.glob("*.png"))
    text = (lesson.folder / "notebook.py").read_text(encoding="utf-8")
    assert "check_rows(" in text
    assert "\nassert " in text
    assert text.count("# %% [markdown]") >= 3


@pytest.mark.parametrize("name", LESSONS)
def test_pages_are_readable_on_a_terminal(name):
    text = page_for_terminal(load_lesson(name).page)
    assert "$" not in text
    assert "\\" not in text


# ---------------------------------------------------------------------- formulas on a terminal


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (r"L = \lambda W", "L = λ W"),
        (r"\frac{\lambda}{1 - \lambda} \cdot S", "λ / (1 - λ) · S"),
        (r"\sqrt{R + 1}", "√(R + 1)"),
        (r"x^2 + x^{10} + x^{a b}", "x² + x¹⁰ + x^(a b)"),
        (r"\lambda_i w_{i j}", "λ_i w_(i j)"),
        (r"P(\text{wait}) \le 1", "P(wait) ≤ 1"),
        (r"\left( a \right)", "( a )"),
        (r"\unknown{x}", "unknownx"),
        (r"\frac12", "1 / 2"),
        (r"\frac{f(x)}{E[X^2] + 1}", "f(x) / (E[X²] + 1)"),
        (r"50\,\%", "50 %"),
    ],
)
def test_formulas_become_text(formula, expected):
    assert plain_math(formula) == expected


def test_dollars_that_are_money_and_code_stay():
    page = "It costs 5$ or $6 a day.\n\n```\n$x$\n```\n\nBut $x$ and\n\n$$\ny = \\frac{1}{2}\n$$\n"
    text = page_for_terminal(page)
    assert "5$ or $6 a day" in text
    assert "```\n$x$\n```" in text
    assert "But `x` and" in text
    assert "y = 1 / 2" in text


# ---------------------------------------------------------------------- rows


def interval(low, high):
    return Interval(estimate=(low + high) / 2, low=low, high=high, confidence=0.99, count=5)


@pytest.mark.parametrize(
    ("theory", "low", "high", "claim", "tolerance", "holds"),
    [
        (1.0, 0.9, 1.1, "agrees", 0.0, True),
        (1.2, 0.9, 1.1, "agrees", 0.0, False),
        (1.2, 0.9, 1.1, "agrees", 0.1, True),
        (1.2, 0.9, 1.1, "differs", 0.0, True),
        (1.2, 0.9, 1.1, "differs", 0.1, False),
        (1.0, 0.9, 1.1, "differs", 0.0, False),
        (9.0, 0.9, 1.1, "none", 0.0, True),
    ],
)
def test_what_a_row_claims(theory, low, high, claim, tolerance, holds):
    row = Row(quantity="wait", unit="s", theory=theory, simulated=interval(low, high), claim=claim, tolerance=tolerance)
    assert row.holds is holds
    if holds:
        check_rows([row])
    else:
        with pytest.raises(AssertionError, match="wait: theory"):
            check_rows([row])


def test_a_claim_needs_both_sides():
    with pytest.raises(InputError, match="claim"):
        Row(quantity="wait", unit="s", theory=1.0)
    with pytest.raises(InputError, match="tolerance"):
        Row(quantity="wait", unit="s", theory=1.0, simulated=interval(1, 2), tolerance=-0.1)


# ---------------------------------------------------------------------- settings and faults


def test_replications_of_a_notebook(monkeypatch):
    monkeypatch.delenv(REPLICATIONS_VARIABLE, raising=False)
    assert replications(8) == 8
    monkeypatch.setenv(REPLICATIONS_VARIABLE, "5")
    assert replications(8) == 5
    for bad in ("3", "many", "-4", "2.5"):
        monkeypatch.setenv(REPLICATIONS_VARIABLE, bad)
        with pytest.raises(InputError, match=REPLICATIONS_VARIABLE):
            replications(8)


@pytest.mark.parametrize("name", ["nobody", "", "../lessons/littles_law", "__init__", "lesson"])
def test_unknown_lessons(name):
    with pytest.raises(InputError, match="unknown lesson"):
        load_lesson(name)


def test_unknown_lessons_are_named_as_the_course_lists_them():
    with pytest.raises(InputError, match="kv-memory, littles-law"):
        load_lesson("nobody")


def test_the_square_root_rule_is_as_far_off_as_its_row_allows():
    # With enough replications the simulation is Erlang C; the row must hold then, too.
    rows = {row.quantity: row for row in load_lesson("utilisation-and-the-knee").experiment(replications=4)}
    rule = rows["the same by the square-root rule"]
    assert abs(100 * erlang_c(36.0, 43) - rule.theory) < rule.tolerance * rule.theory


def test_names_are_forgiving():
    assert load_lesson("Littles-Law ").name == "littles_law"


def test_an_exercise_without_a_tolerance_to_speak_of():
    exercise = {"text": "a", "answer": 1.0, "hint": "b", "solution": "c"}
    about = {"title": "t", "order": 1, "question": "q?", "minutes": 5, "exercises": [exercise] * 3}
    LessonFile.model_validate(about)
    for change in ({"answer": 0.0}, {"tolerance": 0.0}, {"tolerance": 1.0}, {"hint": ""}):
        with pytest.raises(ValueError, match="exercises"):
            LessonFile.model_validate(about | {"exercises": [exercise, exercise, exercise | change]})
