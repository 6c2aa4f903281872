"""``routerwise teach``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from latency_models.errors import InputError
from scenarios.lessons.exercises import exercises_page, judge, parse_answer
from scenarios.lessons.lesson import Lesson, lesson_names, load_lesson
from scenarios.lessons.notebook_setting import FEWEST_REPLICATIONS
from scenarios.lessons.plain_math import page_for_terminal
from scenarios.lessons.student_folder import missing_packages, write_student_folder
from scenarios.theory.table import print_rows

WRONG_ANSWER = 1
"""Exit status if an answer to an exercise is wrong."""


@click.command()
@click.argument("lesson_name", metavar="[LESSON]", required=False)
@click.option("--exercises", is_flag=True, help="Print the exercises instead of the page.")
@click.option(
    "--answer", "answers", multiple=True, metavar="NUMBER=VALUE", help="Check an answer, e.g. 2=0.83; may be repeated."
)
@click.option("--solutions", is_flag=True, help="Print the exercises with answers and solutions.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write a folder for a student: page, exercises, scenario, notebook, and the notebook executed.",
)
@click.option("--overwrite", is_flag=True, help="With --out: replace an earlier such folder.")
@click.option("--no-simulation", is_flag=True, help="Print the page without the experiment.")
@click.option(
    "--replications",
    type=click.IntRange(FEWEST_REPLICATIONS, 1000),
    help="Of the experiment; default: as the lesson needs to be clear.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the list of lessons, or a lesson's experiment, as JSON.")
def teach(
    lesson_name: str | None,
    exercises: bool,
    answers: tuple[str, ...],
    solutions: bool,
    out: Path | None,
    overwrite: bool,
    no_simulation: bool,
    replications: int | None,
    as_json: bool,
) -> None:
    """List the lessons of the course in queueing, or give one: its page, then theory beside simulation.

    Exit status with --answer: 0 if every answer is right, 1 if one is wrong. See docs/teach.md.
    """
    _check_options(
        {"--exercises": exercises, "--answer": bool(answers), "--solutions": solutions, "--out": out is not None},
        {
            "--no-simulation": no_simulation,
            "--replications": replications is not None,
            "--overwrite": overwrite,
            "--json": as_json,
        },
        lesson_name,
    )
    if lesson_name is None:
        _list(as_json)
        return
    lesson = load_lesson(lesson_name)
    if answers:
        _check(lesson, answers)
    elif exercises or solutions:
        _print_markdown(exercises_page(lesson, solutions=solutions))
    elif out is not None:
        _write(lesson, out, overwrite)
    else:
        _give(lesson, no_simulation, replications, as_json)


def _check_options(actions: dict[str, bool], settings: dict[str, bool], lesson_name: str | None) -> None:
    """Refuse options that would have no effect."""
    chosen = [name for name, given in actions.items() if given]
    given = [name for name, is_given in settings.items() if is_given]
    if lesson_name is None and (chosen or [name for name in given if name != "--json"]):
        raise InputError(f"{(chosen + given)[0]} is of a lesson; name one of: {', '.join(map(_shown, lesson_names()))}")
    if len(chosen) > 1:
        raise InputError(f"{' and '.join(chosen)} do not go together; give one of them")
    of_experiment = [name for name in given if name != "--overwrite"]
    if chosen and of_experiment:
        raise InputError(f"{of_experiment[0]} has no effect with {chosen[0]}; leave it out")
    if "--overwrite" in given and chosen != ["--out"]:
        raise InputError("--overwrite has no effect without --out; leave it out")
    if settings["--no-simulation"] and (settings["--replications"] or settings["--json"]):
        raise InputError("--no-simulation leaves out the experiment, of which --replications and --json are")


def _list(as_json: bool) -> None:
    lessons = [load_lesson(name) for name in lesson_names()]
    if as_json:
        listed = [
            {
                "lesson": _shown(lesson.name),
                "title": lesson.about.title,
                "question": lesson.about.question,
                "minutes": lesson.about.minutes,
                "needs": [_shown(name) for name in lesson.about.needs],
            }
            for lesson in lessons
        ]
        click.echo(json.dumps(listed, indent=2))
        return
    for number, lesson in enumerate(lessons, start=1):
        click.echo(f"{number:2}. {_shown(lesson.name)}  ({lesson.about.minutes} min)")
        click.echo(f"    {lesson.about.title}")
        click.echo(click.wrap_text(lesson.about.question, width=100, initial_indent="    ", subsequent_indent="    "))
    click.echo("\nrouterwise teach LESSON gives one; --exercises, --answer 2=0.83, --solutions, --out FOLDER")


def _give(lesson: Lesson, no_simulation: bool, replications: int | None, as_json: bool) -> None:
    if not as_json:
        _print_markdown(page_for_terminal(lesson.page))
    if no_simulation:
        return
    with _status("Simulating"):
        rows = lesson.experiment(replications=replications)
    if as_json:
        values = {"lesson": _shown(lesson.name), "rows": [row.as_dict() for row in rows]}
        click.echo(json.dumps(values, indent=2, allow_nan=False))
    else:
        print_rows("Theory beside simulation", rows)
        name = _shown(lesson.name)
        click.echo(
            f"\nExercises: routerwise teach {name} --exercises    Notebook: routerwise teach {name} --out FOLDER"
        )


def _check(lesson: Lesson, answers: tuple[str, ...]) -> None:
    judged = [judge(lesson, *parse_answer(text)) for text in answers]
    for _, message in judged:
        click.echo(message)
    if not all(right for right, _ in judged):
        sys.exit(WRONG_ANSWER)


def _write(lesson: Lesson, out: Path, overwrite: bool) -> None:
    with _status("Executing the notebook"):
        notebook = write_student_folder(lesson, out, overwrite=overwrite)
    click.echo(f"Lesson: {out}")
    if notebook is None:
        click.echo(
            f"Note: the notebook is not executed, since {', '.join(missing_packages())} is not installed; "
            "pip install 'routerwise[teach]', or run python notebook.py in the folder",
            err=True,
        )


def _shown(name: str) -> str:
    return name.replace("_", "-")


def _print_markdown(text: str) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text, code_theme="bw"))


@contextmanager
def _status(text: str) -> Iterator[None]:
    """Say on a terminal what takes time; stay silent in a pipe."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
