"""A course folder that nbgrader works on, and nbgrader's steps as functions.

    course = make_course(folder, [1, 2, 3])
    course.release(1)
    course.collect(1, downloads)
    course.autograde(1)
    course.feedback(1)
    course.export(folder / "grades.csv")

Everything is nbgrader's own: the same folder works with its commands and its formgrader.
"""

import datetime
import logging
import shutil
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from nbgrader.plugins import CsvExportPlugin
from sqlalchemy.exc import SAWarning
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from autograder.course import late, parallel
from autograder.course.bundle import write_bundle
from autograder.course.collect import CollectError, Collection, collect, use
from autograder.course.config import FILE, configuration
from autograder.course.database import expect_server
from autograder.course.source import (
    CELLS_CHANGED,
    SourceError,
    expect_gradable,
    put_back,
    write_source,
)
from autograder.course.ungraded import reasons, ungraded
from autograder.course.who import Roster, RosterError
from autograder.lesson import Lesson, get_lesson

STUDENTS = "students.csv"


class CourseError(Exception):
    """A step of the course failed; the message says which, and what nbgrader said."""


def make_course(
    folder: Path | str,
    lessons: Iterable[int],
    course_id: str = "text-to-image",
    trust_submissions: bool = False,
    seed: int | None = None,
    db_url: str | None = None,
) -> "Course":
    """Lay out a course: nbgrader's configuration, and a source notebook for each lesson.

    A source notebook that lies there and is another one is kept in `replaced`.

    Args:
        folder: where; made if it is not there. A configuration that lies there already is kept.
        lessons: their numbers.
        course_id: nbgrader's name of the course.
        trust_submissions: grade even on a machine without a sandbox.
        seed: where the hidden inputs come from; keep it to yourself.
        db_url: of the gradebook, as SQLAlchemy writes it; by default a file in the folder.

    Raises:
        LessonError: there is no lesson of a number.
        DatabaseError: the gradebook's server does not answer; nothing was written then.
    """
    folder, lessons = Path(folder).resolve(), [get_lesson(number) for number in lessons]
    if db_url:
        expect_server(db_url)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    if not path.exists():
        text = configuration(course_id, trust_submissions, seed, db_url)
        path.write_text(text, encoding="utf-8")
    kept = [write_source(lesson, folder / "source") for lesson in lessons]
    return Course(folder, replaced=[path for path in kept if path])


@dataclass
class Course:
    """A course folder; each step returns what nbgrader logged."""

    folder: Path
    log: logging.Logger = field(default_factory=lambda: _quiet_logger())
    replaced: list[Path] = field(default_factory=list)  # source notebooks that make_course moved

    def __post_init__(self) -> None:
        self.folder = Path(self.folder).resolve()
        if not (self.folder / FILE).exists():
            raise CourseError(f"{self.folder} is no course: it has no {FILE}")
        self.config: Config = PyFileConfigLoader(FILE, path=str(self.folder)).load_config()
        self.config.CourseDirectory.root = str(self.folder)
        self.config.Exchange.setdefault("root", str(self.folder / "exchange"))
        directory = CourseDirectory(config=self.config, log=self.log)
        self.api = NbGraderAPI(coursedir=directory, config=self.config, log=self.log)

    def lesson(self, number: int) -> Lesson:
        """The lesson of that number.

        Raises:
            LessonError: there is none.
            CourseError: this course does not hold it.
        """
        lesson = get_lesson(number)
        if not Path(self.folder, self.api.coursedir.source_directory, lesson.slug).is_dir():
            raise CourseError(
                f"this course has no lesson {number} yet. It comes with: "
                f"python -m autograder.course make {self.folder} {number}"
            )
        return lesson

    def release(self, lesson: int) -> str:
        """Make the student notebook: release/./<lesson>. If that fails, the old one stays."""
        chosen = self.lesson(lesson)
        directory = self.api.coursedir
        try:
            expect_gradable(chosen, self.folder / directory.source_directory)
            with put_back(self.folder / directory.release_directory / chosen.slug):
                return self._step("release", self.api.generate_assignment, chosen.slug)
        except SourceError as error:
            raise CourseError(f"release failed: {error}") from None
        except CourseError as error:
            if "Cannot add or remove cells" not in str(error):
                raise
            raise CourseError(f"release failed: {CELLS_CHANGED.format(chosen.slug)}") from None

    def bundle(self, lesson: int, to: Path | str) -> Path:
        """Write what the class gets for a released lesson: a folder, or a zip by its name."""
        chosen = self.lesson(lesson)
        return write_bundle(chosen, self.folder / "release" / chosen.slug, Path(to).resolve())

    def collect(
        self,
        lesson: int,
        downloads: Path | str,
        students: Path | str | None = None,
        zone: datetime.tzinfo | None = None,
    ) -> Collection:
        """Copy submissions into the course; see `collect` for what a download may look like.

        Args:
            lesson: its number.
            downloads: a folder, or a zip of a learning-management system.
            students: a table of names and ids; by default `students.csv` of the course, if there.
            zone: of the times that a zip tells.
        """
        chosen = self.lesson(lesson)
        path = Path(students) if students else self.folder / STUDENTS
        try:
            roster = Roster.read(path) if students or path.exists() else None
            found = collect(self.folder, chosen, Path(downloads), roster, zone)
        except (CollectError, RosterError) as error:
            raise CourseError(f"collect failed: {error}") from None
        if roster is not None:
            with self.gradebook() as gradebook:
                for number, name in roster.names.items():
                    last, _, first = (part.strip() for part in name.partition(","))
                    first = first.replace(",", " ")  # nbgrader's table knows no quotes
                    gradebook.update_or_create_student(number, last_name=last, first_name=first)
        return found

    def use(self, lesson: int, number: int) -> dict[str, str]:
        """Let a file count that was collected, by its number in `collected.csv`; see `use`."""
        try:
            return use(self.folder, self.lesson(lesson), number)
        except CollectError as error:
            raise CourseError(f"use failed: {error}") from None

    def autograde(
        self, lesson: int, student: str = "*", fill: Callable[[parallel.Work], None] = parallel.fill
    ) -> dict[str, str]:
        """Grade the submissions of a lesson, and write what they get; see `parallel`.

        Args:
            lesson: its number.
            student: only this one, or a pattern.
            fill: grades into the cache: on this machine, or as `cluster.fill` on many.

        Returns:
            for each student whom the grader itself failed, also when tried again, why.
        """
        chosen = self.lesson(lesson)
        try:
            late.expect_penalty(self.config)
            failures, failed = parallel.autograde(self, chosen, student, fill)
        except MissingEntry:
            raise CourseError(f"lesson {lesson} is not released: release it first") from None
        except (late.PenaltyError, parallel.NothingGraded) as error:
            raise CourseError(f"autograde failed: {error}") from None
        if failures:
            raise CourseError(f"autograde failed: {' '.join(failures).strip()[-3000:]}")
        return failed

    def feedback(self, lesson: int, student: str = "*") -> list[str]:
        """Make the pages feedback/<student>/<lesson>; returns who gets none: the grader failed.

        What such a student has from an earlier grading is taken away: it may be of other work.
        """
        slug = self.lesson(lesson).slug
        folders = self.folder.glob(f"{self.api.coursedir.autograded_directory}/{student}/{slug}")
        graded = {path.parent.name for path in folders}
        if not graded:
            who = "" if student == "*" else f" of {student}"
            raise CourseError(f"no submission{who} of lesson {lesson} is graded: autograde first")
        without = graded & ungraded(self, lesson).keys()
        for name in without:
            old = self.folder / self.api.coursedir.feedback_directory / name / slug
            shutil.rmtree(old, ignore_errors=True)
        for name in sorted(graded - without) if without else [student]:
            self._step("feedback", self.api.generate_feedback, slug, name)
        return sorted(without)

    def export(self, to: Path | str) -> Path:
        """Write the gradebook as a table of comma-separated values."""
        plugin = CsvExportPlugin(config=self.config, log=self.log)
        plugin.to = str(to)
        with self.gradebook() as gradebook:
            plugin.export(gradebook)
        return Path(to)

    def gradebook(self) -> Gradebook:
        """nbgrader's gradebook, to be used in a `with` statement."""
        return self.api.gradebook

    def scores(self, lesson: int) -> dict[str, dict[str, float]]:
        """For each student with a submission, the points of each test cell by its exercise."""
        slug, found = get_lesson(lesson).slug, {}
        with self.gradebook() as gradebook:
            for student in gradebook.students:
                try:
                    book = gradebook.find_submission_notebook(slug, slug, student.id)
                except MissingEntry:
                    continue
                scores = {grade.name.removeprefix("check-"): grade.score for grade in book.grades}
                found[student.id] = scores
        return found

    def flagged(self, lesson: int) -> dict[str, str]:
        """For each submission that a person must look at, why."""
        slug, found = get_lesson(lesson).slug, {}
        with self.gradebook() as gradebook:
            for submission in gradebook.assignment_submissions(slug):
                for book in submission.notebooks:
                    if book.needs_manual_grade:
                        found[submission.student.id] = " ".join(reasons(book))
        return found

    def _step(self, name: str, function: Callable[..., dict], *arguments: str) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # nbgrader's, about its own gradebook
            result = function(*arguments)
        if not result["success"]:
            said = result.get("log") or result.get("error") or "no reason given"
            raise CourseError(f"{name} failed: {said.strip()[-3000:]}")
        return result.get("log", "")


def _quiet_logger() -> logging.Logger:
    """A logger that only nbgrader's own captures listen to."""
    log = logging.getLogger("autograder.course")
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    return log
