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

from autograder import build
from autograder.course.config import FILE, configuration
from autograder.lesson import Lesson, get_lesson

_LEFT_OUT = {".ipynb_checkpoints", "__pycache__"}


class CourseError(Exception):
    """A step of the course failed; the message says which, and what nbgrader said."""


def make_course(
    folder: Path | str,
    lessons: Iterable[int],
    course_id: str = "text-to-image",
    trust_submissions: bool = False,
    seed: int | None = None,
) -> "Course":
    """Lay out a course: nbgrader's configuration, and a source notebook for each lesson.

    Args:
        folder: where; made if it is not there. A configuration that lies there already is kept.
        lessons: their numbers.
        course_id: nbgrader's name of the course.
        trust_submissions: grade even on a machine without a sandbox.
        seed: where the hidden inputs come from; keep it to yourself.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    if not path.exists():
        text = configuration(course_id, trust_submissions, seed)
        path.write_text(text, encoding="utf-8")
    for number in lessons:
        _write_source(get_lesson(number), folder / "source")
    return Course(folder)


@dataclass
class Course:
    """A course folder; each step returns what nbgrader logged."""

    folder: Path
    log: logging.Logger = field(default_factory=lambda: _quiet_logger())

    def __post_init__(self) -> None:
        self.folder = Path(self.folder).resolve()
        if not (self.folder / FILE).exists():
            raise CourseError(f"{self.folder} is no course: it has no {FILE}")
        self.config: Config = PyFileConfigLoader(FILE, path=str(self.folder)).load_config()
        self.config.CourseDirectory.root = str(self.folder)
        self.config.Exchange.setdefault("root", str(self.folder / "exchange"))
        directory = CourseDirectory(config=self.config, log=self.log)
        self.api = NbGraderAPI(coursedir=directory, config=self.config, log=self.log)

    def release(self, lesson: int) -> str:
        """Make the student notebook: release/./<lesson>."""
        slug = get_lesson(lesson).slug
        return self._step("release", self.api.generate_assignment, slug)

    def collect(self, lesson: int, downloads: Path | str) -> dict[str, Path]:
        """Copy submissions into the course.

        Args:
            lesson: its number.
            downloads: a folder with one notebook `<student>.ipynb` or one folder `<student>/` for
                each student; a folder's notebook may have any name.

        Returns:
            for each student, the copy. Students whose folder holds no single notebook are left out.
        """
        slug = get_lesson(lesson).slug
        copies = {}
        for student, path in sorted(_submissions(Path(downloads), slug).items()):
            target = self.folder / "submitted" / student / slug / f"{slug}.ipynb"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            when = datetime.datetime.fromtimestamp(path.stat().st_mtime, tz=datetime.UTC)
            stamp = when.strftime("%Y-%m-%d %H:%M:%S.%f UTC")
            target.with_name("timestamp.txt").write_text(stamp + "\n", encoding="utf-8")
            copies[student] = target
        return copies

    def autograde(self, lesson: int, student: str = "*") -> str:
        """Grade the submissions of a lesson, again where they were graded before."""
        slug = get_lesson(lesson).slug
        return self._step("autograde", self.api.autograde, slug, student)

    def feedback(self, lesson: int, student: str = "*") -> str:
        """Make each student's feedback page: feedback/<student>/<lesson>."""
        slug = get_lesson(lesson).slug
        return self._step("feedback", self.api.generate_feedback, slug, student)

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
        """For each submission that a person must look at, the comment that says why."""
        slug, found = get_lesson(lesson).slug, {}
        with self.gradebook() as gradebook:
            for submission in gradebook.assignment_submissions(slug):
                for book in submission.notebooks:
                    if book.needs_manual_grade:
                        said = [each.comment for each in book.comments if each.comment]
                        found[submission.student.id] = " ".join(said)
        return found

    def _step(self, name: str, function: Callable[..., dict], *arguments: str) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # nbgrader's, about its own gradebook
            result = function(*arguments)
        if not result["success"]:
            said = result.get("log") or result.get("error") or "no reason given"
            raise CourseError(f"{name} failed: {said.strip()[-3000:]}")
        return result.get("log", "")


def _write_source(lesson: Lesson, source: Path) -> None:
    """The notebook with solutions, and the files that it shows or asks."""
    folder = source / lesson.slug
    folder.mkdir(parents=True, exist_ok=True)
    text = build.write(build.release_source(lesson))
    (folder / f"{lesson.slug}.ipynb").write_text(text, encoding="utf-8")
    for path in lesson.folder.iterdir():
        if path.name in _LEFT_OUT or path.suffix in (".py", ".ipynb"):
            continue
        if path.is_dir():
            ignore = shutil.ignore_patterns(*_LEFT_OUT)
            shutil.copytree(path, folder / path.name, dirs_exist_ok=True, ignore=ignore)
        else:
            shutil.copyfile(path, folder / path.name)


def _submissions(downloads: Path, slug: str) -> dict[str, Path]:
    found = {}
    for path in downloads.iterdir():
        if path.is_file() and path.suffix == ".ipynb":
            found[path.stem] = path
        elif path.is_dir():
            notebooks = [each for each in path.rglob("*.ipynb") if each.is_file()]
            notebooks = [each for each in notebooks if ".ipynb_checkpoints" not in each.parts]
            own = [each for each in notebooks if each.stem == slug] or notebooks
            if len(own) == 1:
                found[path.name] = own[0]
    return found


def _quiet_logger() -> logging.Logger:
    """A logger that only nbgrader's own captures listen to."""
    log = logging.getLogger("autograder.course")
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    return log
