"""A lesson: a folder with a lecture page, a scenario, a notebook, an experiment and exercises.

Each folder below ``scenarios/lessons/`` is a package that holds

- ``lesson.yaml``: what the lesson is (:class:`LessonFile`);
- ``page.md``: the lecture, Markdown with formulas between dollars (``$...$`` in a line, ``$$...$$`` as a paragraph);
- ``scenario.yaml``: a scenario, which may extend one of the library;
- ``notebook.py``: the same story as a Jupyter notebook in percent format, which runs as plain Python in the lesson's
  folder and ends in assertions;
- ``experiment.py``: ``experiment(*, replications)``, theory beside simulation as a list of
  :class:`~scenarios.theory.evidence.Row`, and ``answers()``, the exercises' answers computed from the public API, by
  the exercise's number.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from latency_models.errors import InputError, check_count, invalid, unknown_name
from latency_models.yaml_files import read_yaml
from scenarios.lessons.notebook_setting import FEWEST_REPLICATIONS
from scenarios.schema_errors import describe
from scenarios.section import Count, Section
from scenarios.theory.evidence import Row

FOLDER = Path(str(files("scenarios") / "lessons"))
"""Folder of the lessons that come with the package."""

FILES = ("lesson.yaml", "page.md", "scenario.yaml", "notebook.py", "experiment.py")
"""What a lesson's folder holds."""

_Text = Annotated[str, Field(min_length=1)]


class Exercise(Section):
    """A question with one number for an answer."""

    text: _Text
    """The question, Markdown; says in which unit the answer is wanted."""
    answer: float
    """The right answer, in ``unit``."""
    unit: str = ""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Share of the answer by which a right one may be off."""
    hint: _Text
    """Shown after a wrong answer."""
    solution: _Text
    """How to find it, with the number."""

    @model_validator(mode="after")
    def _tolerance_means_something(self) -> Exercise:
        if self.answer == 0:
            raise ValueError("answer is 0, of which no share is a tolerance; ask for something else")
        return self

    def accepts(self, value: float) -> bool:
        """Whether ``value`` is right."""
        return abs(value - self.answer) <= self.tolerance * abs(self.answer)


class LessonFile(Section):
    """The content of ``lesson.yaml``."""

    title: _Text
    order: Count
    """Place in the course; lessons are listed by it."""
    question: _Text
    """A surprising question that the lesson answers, on one line."""
    minutes: Count
    """How long it takes with its exercises."""
    needs: tuple[str, ...] = ()
    """Names of lessons to read before."""
    replications: Annotated[int, Field(ge=FEWEST_REPLICATIONS, strict=True)] = 16
    """Of the experiment, unless told otherwise."""
    exercises: Annotated[tuple[Exercise, ...], Field(min_length=3)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A lesson that comes with the package."""

    name: str
    """Name of its folder and package."""
    about: LessonFile

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return FOLDER / self.name

    @property
    def scenario(self) -> Path:
        """Its scenario file."""
        return self.folder / "scenario.yaml"

    @property
    def page(self) -> str:
        """The lecture, Markdown with dollar math."""
        return (self.folder / "page.md").read_text(encoding="utf-8")

    def experiment(self, *, replications: int | None = None) -> list[Row]:
        """Theory beside simulation.

        Parameters
        ----------
        replications : int, optional
            At least :data:`FEWEST_REPLICATIONS`; default: as the lesson says.
        """
        count = self.about.replications if replications is None else replications
        rows: list[Row] = self._module.experiment(
            replications=check_count("replications", count, minimum=FEWEST_REPLICATIONS)
        )
        return rows

    def answers(self) -> dict[str, float]:
        """Answers of the exercises by their number, "1", "2", ..., computed anew."""
        found: dict[str, float] = self._module.answers()
        return found

    def exercise(self, number: int) -> Exercise:
        """Exercise ``number``, from 1 on."""
        exercises = self.about.exercises
        if not 1 <= number <= len(exercises):
            raise invalid("exercise", number, f"1 to {len(exercises)}, those of lesson {self.name.replace('_', '-')}")
        return exercises[number - 1]

    @property
    def _module(self) -> ModuleType:
        return importlib.import_module(f"scenarios.lessons.{self.name}.experiment")


def lesson_names() -> list[str]:
    """Names of all lessons, in the order of the course."""
    found = [load_lesson(path.parent.name) for path in FOLDER.glob("*/lesson.yaml")]
    return [lesson.name for lesson in sorted(found, key=lambda lesson: (lesson.about.order, lesson.name))]


def load_lesson(name: str) -> Lesson:
    """Read a lesson.

    Parameters
    ----------
    name : str
        As `routerwise teach` lists it; a dash counts as an underscore.

    Raises
    ------
    InputError
        There is no such lesson (the nearest name is suggested), or its ``lesson.yaml`` does not follow the schema.
    """
    folder = name.strip().lower().replace("-", "_")
    path = FOLDER / folder / "lesson.yaml"
    if not folder.isidentifier() or not path.is_file():
        raise unknown_name(
            "lesson", name, (entry.parent.name.replace("_", "-") for entry in FOLDER.glob("*/lesson.yaml"))
        )
    values = read_yaml(path, "lesson")
    try:
        about = LessonFile.model_validate(values)
    except ValidationError as error:
        raise InputError(describe(error, LessonFile, values, str(path))) from None
    return Lesson(name=folder, about=about)
