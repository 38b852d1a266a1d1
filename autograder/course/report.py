"""What a class did in a lesson: which exercises fail, of what, who must be looked at, the points.

It reads what autograding left: the sentences in the autograded notebooks, the points in the
gradebook.
"""

import csv
import io
import re
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbgrader.api import MissingEntry
from nbgrader.utils import is_grade

from autograder.course.archive import counting_rows, noted
from autograder.course.causes import NOT_WRITTEN, likely, waits, without_numbers
from autograder.course.folder import Course, CourseError
from autograder.course.rebuild import exercise_of
from autograder.course.ungraded import ungraded
from autograder.lesson import Exercise, Lesson
from t2i.files.checkpoint import write_atomically

KINDS = ("right", "wrong, known", "wrong, other", "waits", "not written", "not graded")
NOT_GRADED = "NotGraded"  # as `verdict` names it


@dataclass(frozen=True)
class Outcome:
    """What became of one exercise of one student."""

    student: str
    exercise: str
    kind: str  # one of KINDS
    message: str = ""
    names: tuple[str, ...] = ()  # wrong answers of the catalogue that the message speaks of


@dataclass
class Cause:
    """A reason for which an exercise failed, and who met it."""

    exercise: str
    kind: str
    message: str
    names: tuple[str, ...]
    students: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The catalogue's name of it in words, or several of them."""
        return " or ".join(name.replace("_", " ") for name in self.names)


@dataclass
class Report:
    """A class in a lesson."""

    lesson: Lesson
    outcomes: list[Outcome]
    points: dict[str, float]  # of whom the grader did not fail; those given by hand included
    flagged: dict[str, str]  # student -> why a person must look at it
    handed_in: int

    def counts(self, exercise: Exercise) -> Counter:
        """How many of each kind an exercise has."""
        return Counter(each.kind for each in self.outcomes if each.exercise == exercise.name)

    def causes(self) -> list[Cause]:
        """Why exercises failed, the most frequent first."""
        groups: dict[tuple, list[Outcome]] = defaultdict(list)
        for each in self.outcomes:
            if each.kind.startswith("wrong"):
                same = each.names or without_numbers(each.message)
                groups[each.exercise, each.kind, same].append(each)
        order = [exercise.name for exercise in self.lesson.exercises]
        found = []
        for (exercise, kind, _), some in groups.items():
            said = Counter(without_numbers(each.message) for each in some).most_common(1)[0][0]
            students = sorted(each.student for each in some)
            found.append(Cause(exercise, kind, said, some[0].names, students))
        return sorted(found, key=lambda c: (-len(c.students), order.index(c.exercise), c.message))

    def summary(self) -> str:
        """The class in a line or two."""
        text = f"{self.handed_in} handed in, {len(self.points)} graded."
        if self.points:
            middle = statistics.median(self.points.values())
            text += f" Half of them have at least {middle:g} of 100 points."
        number = len(self.flagged)
        return text + (f" {number} to look at (below)." if number else " Nobody needs a look.")


def main(course: Course, lesson: int) -> list[Path]:
    """Write the report of a lesson as a page and as a table.

    Raises:
        CourseError: no submission of the lesson was graded.
    """
    from autograder.course import report_page

    chosen = course.lesson(lesson)
    made = gather(course, chosen)
    if not made.points:
        raise CourseError(
            f"no submission of lesson {lesson} is graded in {course.folder}: run autograde first"
        )
    texts = {".html": report_page.page(made), ".csv": table(made)}
    written = []
    for suffix, text in texts.items():
        path = course.folder / "report" / f"{chosen.slug}{suffix}"
        write_atomically(path, text.encode("utf-8"))
        written.append(path)
    return written


def gather(course: Course, lesson: Lesson) -> Report:
    """Everything that a report tells."""
    slug = lesson.slug
    failed = ungraded(course, lesson.number)
    points = {
        name: sum(each.values())
        for name, each in course.scores(lesson.number).items()
        if name not in failed
    }
    outcomes = []
    for student in sorted(points):
        path = course.folder / "autograded" / student / slug / f"{slug}.ipynb"
        if path.exists():
            outcomes += _outcomes(nbformat.read(path, as_version=4), lesson, student)
    handed_in = len(list((course.folder / "submitted").glob(f"*/{slug}")))
    look_at = flagged(course, lesson)
    for student, why in held_up(outcomes, lesson).items():
        look_at[student] = " ".join(filter(None, (look_at.get(student), why)))
    return Report(lesson, outcomes, points, dict(sorted(look_at.items())), handed_in)


def held_up(outcomes: list[Outcome], lesson: Lesson) -> dict[str, str]:
    """Whose points wait because an exercise that others call is not right."""
    points, found = {each.name: each.points for each in lesson.exercises}, defaultdict(list)
    for each in outcomes:
        if each.kind == "waits":
            found[each.student].append(each.exercise)
    return {
        student: f"{sum(map(points.get, names))} points wait for another exercise: "
        f"{', '.join(names)}."
        for student, names in found.items()
    }


def flagged(course: Course, lesson: Lesson) -> dict[str, str]:
    """Who must be looked at: what could not be graded, what was flagged in the formgrader, and
    what `collect` noted of the file that counts."""
    found = course.flagged(lesson.number)
    with course.gradebook() as gradebook:
        for student in gradebook.students:
            try:
                book = gradebook.find_submission_notebook(lesson.slug, lesson.slug, student.id)
            except MissingEntry:
                continue
            if book.flagged:
                found.setdefault(student.id, "flagged in the formgrader")
    for student, row in counting_rows(course.folder, lesson).items():
        if noted(row):
            found.setdefault(student, noted(row))
    return {name: reason or "needs grading by hand" for name, reason in sorted(found.items())}


def table(report: Report) -> str:
    """The report as comma-separated values, a row for each exercise and cause."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["exercise", "outcome", "wrong_answer", "count", "graded", "message", "students"])
    causes = report.causes()
    for exercise in report.lesson.exercises:
        counts, graded = report.counts(exercise), len(report.points)
        for kind in KINDS:
            if not kind.startswith("wrong"):
                rows.writerow([exercise.name, kind, "", counts[kind], graded, "", ""])
        for cause in causes:
            if cause.exercise == exercise.name:
                row = [cause.exercise, cause.kind, " or ".join(cause.names), len(cause.students)]
                who = " ".join(map(_cell, cause.students))
                rows.writerow([*row, graded, _cell(cause.message), who])
    return text.getvalue()


def _outcomes(notebook: nbformat.NotebookNode, lesson: Lesson, student: str) -> list[Outcome]:
    found = []
    for cell in notebook.cells:
        name = exercise_of(cell, lesson) if is_grade(cell) else None
        if name is not None:
            errors = [each for each in cell.outputs if each.output_type == "error"]
            found.append(_outcome(lesson, student, name, errors))
    return found


def _outcome(lesson: Lesson, student: str, name: str, errors: list) -> Outcome:
    if not errors:
        return Outcome(student, name, "right")
    kind, message = errors[0].ename, str(errors[0].evalue)
    if kind == NOT_GRADED or kind == "Unreadable":
        return Outcome(student, name, "not graded", message)
    if message == NOT_WRITTEN:
        return Outcome(student, name, "not written", message)
    if waits(message):
        return Outcome(student, name, "waits", message)
    names = likely(lesson, name, message)
    return Outcome(student, name, "wrong, known" if names else "wrong, other", message, names)


def _cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula: some of it is the learner's own."""
    return f"'{text}" if re.match(r"[=+\-@\t\r]", text) else text
