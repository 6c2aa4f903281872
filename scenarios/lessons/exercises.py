"""A lesson's exercises as Markdown, and answers to them."""

from __future__ import annotations

import math

from latency_models.errors import InputError, invalid
from scenarios.lessons.lesson import Lesson


def exercises_page(lesson: Lesson, *, solutions: bool) -> str:
    """All exercises, with their solutions if wanted, as Markdown."""
    lines = [f"# {lesson.about.title}: exercises", ""]
    for number, exercise in enumerate(lesson.about.exercises, start=1):
        lines += [f"**{number}.** {exercise.text.strip()}", ""]
        if solutions:
            answer = f"{exercise.answer:,.6g} {exercise.unit}".strip()
            lines += [f"*Answer: {answer}.* {exercise.solution.strip()}", ""]
    return "\n".join(lines)


def parse_answer(text: str) -> tuple[int, float]:
    """Number of the exercise and the value of ``NUMBER=VALUE``.

    Raises
    ------
    InputError
        It is no such text, or the value is no finite number.
    """
    number, separator, value = text.partition("=")
    try:
        found = int(number), float(value.replace("_", ""))
    except ValueError:
        raise invalid(
            "--answer", text, "NUMBER=VALUE, the exercise and your answer as a plain number, such as 2=0.83"
        ) from None
    if not separator or not math.isfinite(found[1]):
        raise InputError(f"--answer is {text!r}; allowed: a finite number after the =")
    return found


def judge(lesson: Lesson, number: int, value: float) -> tuple[bool, str]:
    """Whether an answer is right, and what to tell the student.

    Raises
    ------
    InputError
        The lesson has no such exercise.
    """
    exercise = lesson.exercise(number)
    if exercise.accepts(value):
        return True, f"Exercise {number}: right."
    return (
        False,
        f"Exercise {number}: {value:g} {exercise.unit}".rstrip() + f" is not it. Hint: {exercise.hint.strip()}",
    )
