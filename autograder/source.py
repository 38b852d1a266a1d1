"""From a lesson's text source to the cells of its notebook with solutions."""

import difflib
from dataclasses import dataclass, field
from pathlib import Path

import jupytext
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from autograder import lint, splice, tables
from autograder.lesson import Directive, Exercise, Lesson, LessonError, directives
from t2i.classroom import quiz

OPTIONS = {"points", "difficulty", "minutes", "hint"}


def cells(lesson: Lesson, package: Path) -> list[NotebookNode]:
    """All cells of a lesson's notebook, solutions marked, in order.

    Args:
        lesson: which one.
        package: the folder of the reference package's modules.

    Raises:
        LessonError: the source is malformed; the message names file and line.
    """
    if not lesson.exists:
        raise LessonError(f"lesson {lesson.number} has no {lesson.source.name} yet")
    text = lesson.source.read_text(encoding="utf-8")
    reader = _Reader(lesson, package, directives(text, str(lesson.source)))
    made = reader.read(text)
    lint.check(lesson, made, reader.lines, package)
    return made


def header(exercise: Exercise) -> str:
    """The markdown above an exercise: how hard, how long, how much, and folded hints."""
    dots = "●" * exercise.difficulty + "○" * (5 - exercise.difficulty)
    lines = [
        f"### Exercise · `{exercise.name}`",
        "",
        f"difficulty {dots} · about {exercise.minutes} minutes · {exercise.points} points",
    ]
    for number, hint in enumerate(exercise.hints, start=1):
        lines += ["", f"<details><summary>Hint {number}</summary>", "", hint, "", "</details>"]
    return "\n".join(lines)


def nbgrader_metadata(grade_id: str, points: int | None = None) -> dict:
    """nbgrader's metadata of a solution cell, or, with points, of a locked test cell."""
    graded = points is not None
    metadata = {"schema_version": 3, "grade_id": grade_id, "grade": graded, "locked": graded}
    metadata |= {"solution": not graded, "task": False}
    return metadata | ({"points": points} if graded else {})


@dataclass
class _Reader:
    lesson: Lesson
    package: Path
    directives: list[Directive]
    lines: dict[str, int] = field(default_factory=dict)  # exercise -> line of its directive
    checked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for directive in self.directives:
            if directive.kind == "exercise":
                self._validate(directive)
                self.lines[directive.argument.partition(".")[2]] = directive.line
        self._points()
        self.exercises = {exercise.name: exercise for exercise in self.lesson.exercises}

    def read(self, text: str) -> list[NotebookNode]:
        """Cells of the notebook, from the text of the source."""
        pending, made = list(self.directives), []
        for cell in jupytext.reads(text, fmt="py:percent").cells:
            source = cell.source.strip("\n")
            if cell.cell_type == "code" and source.startswith("#|") and pending:
                directive = pending.pop(0)
                made += getattr(self, f"_{directive.kind}")(directive)
            else:
                new = new_code_cell if cell.cell_type == "code" else new_markdown_cell
                made.append(new(source))
        self._complete(text)
        return made

    def _exercise(self, directive: Directive) -> list[NotebookNode]:
        exercise = self.exercises[directive.argument.partition(".")[2]]
        code = new_code_cell(self._solution(exercise, directive))
        code.metadata["nbgrader"] = nbgrader_metadata(exercise.grade_id)
        return [new_markdown_cell(header(exercise)), code]

    def _solution(self, exercise: Exercise, directive: Directive) -> str:
        """What the learner sees, bodies marked; the reference's private helpers stand before."""
        module, _, name = exercise.target.partition(".")
        shown = self._definition(f"{module}.{name.partition('.')[0]}", directive)
        self._definition(exercise.target, directive)
        source = self.package.joinpath(f"{module}.py").read_text(encoding="utf-8")
        try:
            marked = splice.stub(shown, name)
        except splice.SpliceError as problem:
            raise self._error(directive, str(problem)) from None
        helpers = [splice.definition(source, each) for each in lint.private_helpers(source, shown)]
        if helpers:
            kept = "\n\n".join(helpers).strip("\n")
            marked = f"{splice.BEGIN}\n{kept}\n\n\n{splice.END}\n{marked}"
        return marked.strip("\n")

    def _check(self, directive: Directive) -> list[NotebookNode]:
        name = directive.argument
        if self.lines.get(name, directive.line) >= directive.line:
            known = ", ".join(self.lines) or "none"
            message = (
                f"a check of {name}, but no such exercise stands above it (there are: {known})"
            )
            raise self._error(directive, message)
        if name in self.checked:
            raise self._error(directive, f"a second check of {name}")
        self.checked.add(name)
        body = directive.body.strip("\n")
        gap = "\n\n\n" if body.startswith(("def ", "class ", "@")) else "\n"
        cell = new_code_cell(f'grade("{name}"){gap}{body}'.strip("\n"))
        exercise = self.exercises[name]
        cell.metadata["nbgrader"] = nbgrader_metadata(
            f"check-{exercise.grade_id}", points=exercise.points
        )
        return [cell]

    def _given(self, directive: Directive) -> list[NotebookNode]:
        targets = directive.argument.split()
        parts = [self._definition(target, directive).strip("\n") for target in targets]
        parts += [directive.body.strip("\n")] if directive.body.strip() else []
        return [new_code_cell("\n\n\n".join(parts))]

    def _quiz(self, directive: Directive) -> list[NotebookNode]:
        try:
            question = quiz.load(self.lesson.folder, directive.argument)
        except quiz.QuizError as error:
            raise self._error(directive, str(error)) from None
        code = f'quiz("{directive.argument}", answer="")'
        return [new_markdown_cell(question.markdown()), new_code_cell(code)]

    def _table(self, directive: Directive) -> list[NotebookNode]:
        try:
            return [new_markdown_cell(tables.table(directive))]
        except tables.TableError as error:
            raise self._error(directive, str(error)) from None

    def _definition(self, target: str, directive: Directive) -> str:
        module, _, name = target.partition(".")
        path = self.package / f"{module}.py"
        if not name or not path.exists():
            raise self._error(directive, f"{target} names no module of the package")
        source = path.read_text(encoding="utf-8")
        try:
            return splice.definition(source, name)
        except splice.SpliceError:
            near = difflib.get_close_matches(name, splice.names(source), n=1)
            hint = f"; is it {near[0]}?" if near else ""
            raise self._error(directive, f"{path.name} has no definition {name}{hint}") from None

    def _validate(self, directive: Directive) -> None:
        name = directive.argument.partition(".")[2]
        if name in self.lines:
            first = self.lines[name]
            raise self._error(directive, f"{name} stands there twice (first on line {first})")
        for key, value in directive.options:
            if key not in OPTIONS:
                raise self._error(directive, f"an exercise has no '#| {key}:'")
            if key != "hint" and not value.isdecimal():
                raise self._error(directive, f"'#| {key}:' must be a whole number, not {value!r}")
            if key == "difficulty" and not 1 <= int(value) <= 5:
                raise self._error(directive, f"difficulty goes from 1 to 5, not {value}")
        if directive.body.strip():
            raise self._error(directive, f"code under '#| exercise: {directive.argument}': the "
                              "package is where an exercise's code is written")  # fmt: skip

    def _points(self) -> None:
        exercises = [each for each in self.directives if each.kind == "exercise"]
        points = [int(each.option("points", str(self.lesson.source))) for each in exercises]
        if sum(points) != 100:
            last = exercises[-1] if exercises else Directive("exercise", "", (), "", 1)
            terms = " + ".join(map(str, points)) or "no exercise"
            raise self._error(last, f"the points sum to {sum(points)}, not 100 ({terms})")

    def _complete(self, text: str) -> None:
        for name, line in self.lines.items():
            if name not in self.checked:
                raise LessonError(f"{self.lesson.source}:{line}: {name} has no '#| check: {name}'")
        known = {
            number
            for each in self.directives
            for number in range(each.line, each.line + len(each.options) + 1)
        }
        for number, line in enumerate(text.split("\n"), start=1):
            if line.startswith("#|") and number not in known:
                raise LessonError(
                    f"{self.lesson.source}:{number}: a directive must open its cell: {line}"
                )

    def _error(self, directive: Directive, message: str) -> LessonError:
        return LessonError(f"{self.lesson.source}:{directive.line}: {message}")
