"""One command that proves the nbgrader course: the whole cycle on a scratch course.

Three submissions (everything solved, half of it, nothing) go through generate, autograde,
feedback and export. The scores must be those of `grade`, and nothing secret may be shown.
"""

import contextlib
import csv
import io
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from autograder import sandbox
from autograder.course.folder import Course, make_course
from autograder.course.leaks import Secrets, secrets, squeeze, text_of
from autograder.course.samples import STUDENTS, write_submissions
from autograder.lesson import Lesson, LessonError, get_lesson

_TEXT = {".ipynb", ".html", ".csv", ".toml", ".txt", ".py", ".md", ".json", ".svg"}


@dataclass
class Report:
    """What the cycle showed."""

    lesson: Lesson
    graded: dict[str, dict] = field(default_factory=dict)  # student -> result of `grade --json`
    recorded: dict[str, dict[str, float]] = field(default_factory=dict)  # in the gradebook
    exported: dict[str, float] = field(default_factory=dict)  # in the table
    problems: list[str] = field(default_factory=list)
    files: int = 0
    lines: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    say: Callable[[str], None] = lambda step: None  # told what begins

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        self.say(f"{step} …")
        start = time.monotonic()
        yield
        self.seconds[step] = time.monotonic() - start


def main(lesson: int = 1) -> int:
    """`python -m autograder course-check`: 0 where everything agrees, 1 where not, 2 if it
    cannot be tried."""
    console = Console()
    try:
        chosen = get_lesson(lesson)
        with tempfile.TemporaryDirectory(prefix="t2i-course-") as folder, isolated(Path(folder)):
            report = run(chosen, Path(folder), say=lambda step: console.print(step, style="dim"))
    except LessonError as error:
        console.print(str(error), markup=False)
        return 2
    show(report, console)
    return 1 if report.problems else 0


def run(
    lesson: Lesson,
    folder: Path,
    trust_submissions: bool | None = None,
    db_url: str | None = None,
    say: Callable[[str], None] = lambda step: None,
) -> Report:
    """The cycle in a folder, which is left as it is for a closer look.

    Args:
        lesson: which one.
        folder: an empty folder.
        trust_submissions: by default only where there is no sandbox: these submissions are ours.
        db_url: of the gradebook; by default a file in the course.
        say: told of each step as it begins.
    """
    if trust_submissions is None:
        trust_submissions = not sandbox.detect().is_sandbox
    report = Report(lesson, say=say)
    downloads = folder / "downloads"
    with report.timed("generate"):
        write_submissions(lesson, downloads)
        course = make_course(
            folder / "course",
            [lesson.number],
            trust_submissions=trust_submissions,
            db_url=db_url,
        )
        course.release(lesson.number)
    with report.timed("autograde"):
        course.collect(lesson.number, downloads)
        course.autograde(lesson.number)
        report.recorded = course.scores(lesson.number)
    with report.timed("feedback"):
        course.feedback(lesson.number)
    with report.timed("export"):
        report.exported = _read_table(course.export(course.folder / "grades.csv"))
    with report.timed("grade"):
        report.graded = {s: _grade_on_command_line(lesson, downloads, s) for s in STUDENTS}
    with report.timed("leaks"):
        _compare_scores(report)
        _compare_pages(report, course)
        _look_for_leaks(report, course, downloads)
    return report


@contextlib.contextmanager
def isolated(folder: Path) -> Iterator[None]:
    """Neither read nor touch the caller's own Jupyter and nbgrader set-up meanwhile."""
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "HOME")
    values = {name: str(folder / "home" / name.lower()) for name in names}
    values["JUPYTER_NO_CONFIG"] = "1"
    for name in names:
        Path(values[name]).mkdir(parents=True, exist_ok=True)
    dropped = ("JUPYTER_CONFIG_PATH", "JUPYTER_PATH", "NBGRADER_EXECUTION")
    before = {name: os.environ.get(name) for name in (*values, *dropped)}
    for name in dropped:
        os.environ.pop(name, None)
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def show(report: Report, console: Console) -> None:
    """Print the table of scores and what disagrees."""
    lesson = report.lesson
    table = Table(title=f"nbgrader's cycle · lesson {lesson.number} · {lesson.title}")
    table.add_column("submission")
    for column in ("grade", "gradebook", "exported", "of"):
        table.add_column(column, justify="right")
    for student in STUDENTS:
        result = report.graded[student]
        recorded = sum(report.recorded.get(student, {}).values())
        row = (result["score"], recorded, report.exported.get(student, float("nan")))
        table.add_row(student, *(f"{value:g}" for value in row), f"{result['maximum']}")
    console.print(table)
    for problem in report.problems:
        console.print(f"✘ {problem}", markup=False, highlight=False)
    if not report.problems:
        console.print("✔ every exercise has the same points and the same sentence on both routes")
        console.print(
            f"✔ none of {report.lines} lines of hidden tests and solutions in {report.files} files"
        )
    mode = sandbox.detect()
    if not mode.is_sandbox:
        told = f"! tried without a sandbox; autograde of a class refuses here ({mode})"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    times = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in report.seconds.items())
    total = sum(report.seconds.values())
    console.print(f"{total:.0f} s: {times}", style="dim", highlight=False)


def _grade_on_command_line(lesson: Lesson, downloads: Path, student: str) -> dict:
    """What `python -m autograder grade N --notebook FILE --json FILE` says."""
    from autograder.__main__ import app

    target = downloads / f"{student}.json"
    arguments = ["grade", str(lesson.number), "--notebook", str(downloads / f"{student}.ipynb")]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        app([*arguments, "--json", str(target)], prog_name="python -m autograder")
    return json.loads(target.read_text(encoding="utf-8"))


def _compare_scores(report: Report) -> None:
    expected = {"full": 100, "blank": 0}
    for student in STUDENTS:
        result = report.graded[student]
        if result["score"] != expected.get(student, result["score"]):
            report.problems.append(f"{student}: grade gives {result['score']} points")
        recorded = report.recorded.get(student, {})
        for row in result["exercises"]:
            points = recorded.get(report.lesson.exercise(row["name"]).grade_id)
            if points != row["points"]:
                said = f"nbgrader {points}, grade {row['points']}"
                report.problems.append(f"{student}: {row['name']}: {said}")
        if report.exported.get(student) != result["score"]:
            said = f"exported {report.exported.get(student)}, grade {result['score']}"
            report.problems.append(f"{student}: {said}")
    if not 0 < report.graded["half"]["score"] < 100:
        report.problems.append("half: the submission should get some of the points")


def _compare_pages(report: Report, course: Course) -> None:
    """Each feedback page shows the sentence that `grade` says."""
    for student in STUDENTS:
        page = squeeze(text_of(_paths(course, report.lesson, student)["feedback"]))
        for row in report.graded[student]["exercises"]:
            for part in re.split(r"\bcell \d+\b", row["message"]):  # cells have other numbers there
                if squeeze(part) not in page:
                    report.problems.append(f"{student}: the page of {row['name']} lacks: {part}")


def _look_for_leaks(report: Report, course: Course, downloads: Path) -> None:
    known: Secrets = secrets(report.lesson)
    report.lines = len(known.hidden_tests) + len(known.solutions)
    if not known.hidden_tests or not known.solutions:
        report.problems.append("there are no secret lines to look for")
    own = {student: text_of(downloads / f"{student}.ipynb") for student in STUDENTS}
    looked_at = {path: "" for path in (course.folder / "release").rglob("*")}
    looked_at[report.lesson.notebook] = ""
    for step in ("autograded", "feedback"):
        for student in STUDENTS:
            for path in (course.folder / step / student).rglob("*"):
                looked_at[path] = own[student]
    for path, written in sorted(looked_at.items()):
        if path.is_file() and path.suffix in _TEXT:
            report.files += 1
            for line in known.found_in(text_of(path), written):
                report.problems.append(f"{path.parent.parent.name}/{path.name} shows a {line}")


def _paths(course: Course, lesson: Lesson, student: str) -> dict[str, Path]:
    return {
        "autograded": course.folder.joinpath(
            "autograded", student, lesson.slug, f"{lesson.slug}.ipynb"
        ),
        "feedback": course.folder.joinpath("feedback", student, lesson.slug, f"{lesson.slug}.html"),
    }


def _read_table(path: Path) -> dict[str, float]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
