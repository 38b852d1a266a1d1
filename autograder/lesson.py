"""The syllabus, and what a lesson's text source says about its exercises.

A lesson is written once, in `lessons/NN_slug/lesson.py` (jupytext's percent format). Cells whose
first line starts with `#|` are directives; those that name an exercise are read here, so points,
minutes and hints have one home.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "solutions" / "t2i"

_CELL = re.compile(r"^# %%(.*)$", re.M)
_DIRECTIVE = re.compile(r"^#\|\s*([a-z_]+)\s*:\s*(.*)$")


class LessonError(Exception):
    """A lesson's source is malformed; the message names the file and what to mend."""


@dataclass(frozen=True)
class Exercise:
    """One thing to write: where its reference stands, and what it is worth."""

    name: str
    target: str  # "schedules.cosine_betas": module and definition in the package
    points: int
    difficulty: int
    minutes: int
    hints: tuple[str, ...]

    @property
    def module(self) -> str:
        return self.target.partition(".")[0]

    @property
    def grade_id(self) -> str:
        """nbgrader's id of the solution cell; nbgrader allows no dots in it."""
        return self.name.replace(".", "-")


@dataclass(frozen=True)
class Directive:
    """A directive cell: its kind, its argument, its options in order, the code below it."""

    kind: str
    argument: str
    options: tuple[tuple[str, str], ...]
    body: str
    line: int = field(compare=False, default=0)

    def option(self, key: str, where: str) -> str:
        for name, value in self.options:
            if name == key:
                return value
        raise LessonError(f"{where}:{self.line}: '#| {self.kind}' needs a line '#| {key}: …'")


@dataclass(frozen=True)
class Lesson:
    """One of the ten lessons."""

    number: int
    slug: str
    module: str
    title: str

    @property
    def folder(self) -> Path:
        return REPOSITORY / "lessons" / f"{self.number:02d}_{self.slug}"

    @property
    def source(self) -> Path:
        return self.folder / "lesson.py"

    @property
    def notebook(self) -> Path:
        return self.folder / f"{self.slug}.ipynb"

    @property
    def hidden_tests(self) -> Path:
        return REPOSITORY / "autograder" / "tests" / f"lesson_{self.number:02d}.py"

    @property
    def catalogue(self) -> Path:
        return REPOSITORY / "autograder" / "wrong_answers" / f"lesson_{self.number:02d}.py"

    @property
    def exists(self) -> bool:
        return self.source.exists()

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """The modules that hold the lesson's exercises, its own first; just that one, if none."""
        found = [exercise.module for exercise in self.exercises] if self.exists else []
        return tuple(dict.fromkeys([self.module, *found]))

    @cached_property
    def exercises(self) -> tuple[Exercise, ...]:
        """The exercises in the order of the notebook.

        Raises:
            LessonError: the source is missing or an exercise directive is malformed.
        """
        if not self.exists:
            raise LessonError(f"lesson {self.number} ({self.title}) is still in preparation")
        where = str(self.source)
        found = []
        for directive in directives(self.source.read_text(encoding="utf-8"), where):
            if directive.kind == "exercise":
                found.append(_exercise(directive, where))
        names = [exercise.name for exercise in found]
        for name in names:
            if names.count(name) > 1:
                raise LessonError(f"{where}: the exercise {name} stands there twice")
        total = sum(exercise.points for exercise in found)
        if total != 100:
            raise LessonError(f"{where}: the exercises' points sum to {total}, not 100")
        return tuple(found)

    def exercise(self, name: str) -> Exercise:
        """The exercise of that name.

        Raises:
            LessonError: there is none; the message lists those there are.
        """
        for exercise in self.exercises:
            if exercise.name == name:
                return exercise
        names = ", ".join(exercise.name for exercise in self.exercises)
        raise LessonError(f"lesson {self.number} has no exercise {name!r}; it has: {names}")


LESSONS = (
    Lesson(1, "noise_schedules", "schedules", "Noise schedules"),
    Lesson(2, "unet", "unet", "The denoiser: a UNet"),
    Lesson(3, "ddpm", "diffusion", "DDPM on MNIST"),
    Lesson(4, "samplers", "samplers", "Faster samplers"),
    Lesson(5, "guidance", "guidance", "Classes and guidance"),
    Lesson(6, "cross_attention", "attention", "Cross-attention"),
    Lesson(7, "clip", "clip", "CLIP text encoding"),
    Lesson(8, "vae", "vae", "VAE latents"),
    Lesson(9, "dit", "dit", "UNet to DiT"),
    Lesson(10, "text_to_image", "text_to_image", "Text to image"),
)


def exercise_modules(lessons: Iterable[Lesson] = LESSONS) -> set[str]:
    """The modules of these lessons in which something is to be written."""
    return {module for lesson in lessons for module in lesson.modules}


def get_lesson(number: int) -> Lesson:
    """The lesson of that number, 1 to 10."""
    if not 1 <= number <= len(LESSONS):
        raise LessonError(f"there are lessons 1 to {len(LESSONS)}; {number} is not one of them")
    return LESSONS[number - 1]


def code_cells(source: str) -> list[tuple[int, str]]:
    """(line, text) of every code cell of a lesson's source, directives among them."""
    marks = list(_CELL.finditer(source))
    ends = [mark.start() for mark in marks[1:]] + [len(source)]
    return [
        (source.count("\n", 0, mark.start()) + 2, source[mark.end() + 1 : end])
        for mark, end in zip(marks, ends, strict=True)
        if "[markdown]" not in mark.group(1)
    ]


def directives(source: str, where: str = "lesson.py") -> list[Directive]:
    """Every directive cell of a lesson's source, in order."""
    parsed = (parse_directive(text, where, line) for line, text in code_cells(source))
    return [directive for directive in parsed if directive is not None]


def parse_directive(cell: str, where: str = "lesson.py", line: int = 0) -> Directive | None:
    """The directive that a code cell's source is, or None for an ordinary cell."""
    lines = cell.strip("\n").splitlines()
    if not lines or not lines[0].startswith("#|"):
        return None
    options = []
    while lines and lines[0].startswith("#|"):
        match = _DIRECTIVE.match(lines[0])
        if match is None:
            raise LessonError(f"{where}:{line}: cannot read the directive line {lines[0]!r}")
        options.append((match.group(1), match.group(2).strip()))
        lines.pop(0)
    (kind, argument), *rest = options
    if kind not in {"exercise", "check", "given", "quiz", "table"}:
        raise LessonError(f"{where}:{line}: there is no directive '#| {kind}: …'")
    return Directive(kind, argument, tuple(rest), "\n".join(lines).strip("\n"), line)


def _exercise(directive: Directive, where: str) -> Exercise:
    module, _, name = directive.argument.partition(".")
    if not name:
        raise LessonError(f"{where}:{directive.line}: write 'module.definition' in '#| exercise:'")
    return Exercise(
        name=name,
        target=f"{module}.{name}",
        points=int(directive.option("points", where)),
        difficulty=int(directive.option("difficulty", where)),
        minutes=int(directive.option("minutes", where)),
        hints=tuple(value for key, value in directive.options if key == "hint"),
    )
