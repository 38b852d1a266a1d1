"""What a learner has reached: recorded at each grading, shown by `make progress`."""

import hashlib
import json
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from autograder.cells import UnreadableNotebook
from autograder.extract import Submission, extract
from autograder.lesson import LESSONS, REPOSITORY, Lesson, LessonError

RESULTS = REPOSITORY / ".t2i" / "results"


def record(lesson: Lesson, notebook: bytes, result, folder: Path | None = None) -> Path:
    """Write down a grading, with the sources of what passed, for `make progress` and `make mine`.

    Of a grading of some exercises only those are renewed.

    Args:
        lesson: which one.
        notebook: the bytes that were graded.
        result: a `grader.Result`, or the same as a dictionary.
        folder: where results are kept.

    Returns:
        the file; where it cannot be written, that is said on stderr and nothing else happens.
    """
    result = result if isinstance(result, dict) else result.as_dict()
    kept = read(lesson, folder) or {"exercises": [], "sources": {}}
    try:
        submission = extract(notebook, lesson)
    except UnreadableNotebook:
        submission = Submission(())
    entries = {entry["name"]: entry for entry in kept["exercises"]}
    sources = dict(kept["sources"])
    for row in result["exercises"]:
        fields = ("name", "status", "points", "maximum", "message")
        entries[row["name"]] = {field: row[field] for field in fields}
        sources.pop(row["name"], None)
        if row["status"] == "passed":
            sources[row["name"]] = _source(submission, lesson, row["name"])
    order = [exercise.name for exercise in lesson.exercises]
    return _write(
        lesson,
        {
            "lesson": lesson.number,
            "notebook_sha256": hashlib.sha256(notebook).hexdigest(),
            "suite_version": result["suite_version"],
            "exercises": [entries[name] for name in order if name in entries],
            "sources": {name: sources[name] for name in order if name in sources},
        },
        folder,
    )


def read(lesson: Lesson, folder: Path | None = None) -> dict | None:
    """What was recorded of a lesson; None if nothing was, or the record is damaged."""
    path = path_of(lesson, folder)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        names = [entry["name"] for entry in found["exercises"]]
        complete = all(isinstance(found["sources"].get(name, ""), str) for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if complete else None


def passed(lesson: Lesson, folder: Path | None = None) -> list[str]:
    """The exercises of a lesson that passed, as recorded."""
    found = read(lesson, folder) or {"exercises": []}
    return [entry["name"] for entry in found["exercises"] if entry["status"] == "passed"]


def table(lessons: tuple[Lesson, ...] = LESSONS, folder: Path | None = None) -> Table:
    """All lessons with the points reached."""
    made = Table(title="Your progress", title_justify="left")
    made.add_column("", justify="right")
    made.add_column("lesson", no_wrap=True)
    made.add_column("points", justify="right", no_wrap=True)
    made.add_column("", no_wrap=True)
    made.add_column("next")
    for lesson in lessons:
        points, bar, note = _row(lesson, folder)
        made.add_row(str(lesson.number), lesson.title, points, bar, note)
    return made


def main() -> int:
    """`make progress`."""
    Console().print(table())
    return 0


def _row(lesson: Lesson, folder: Path | None) -> tuple[str, str, str]:
    if not lesson.exists:
        return "", "", "[dim]in preparation[/]"
    try:
        exercises = lesson.exercises
    except LessonError as error:
        return "", "", f"[red]{error}[/]"
    done, found = set(passed(lesson, folder)), read(lesson, folder)
    points = sum(exercise.points for exercise in exercises if exercise.name in done)
    bar = "".join("[green]●[/]" if each.name in done else "[dim]○[/]" for each in exercises)
    if found is None:
        return "", bar, f"not started: make lab lesson={lesson.number}"
    left = [exercise.name for exercise in exercises if exercise.name not in done]
    return f"{points}/100", bar, left[0] if left else "[green]complete[/]"


def _source(submission: Submission, lesson: Lesson, name: str) -> str:
    from autograder.own import cut

    head = name.partition(".")[0]
    heads = {exercise.name.partition(".")[0] for exercise in lesson.exercises}
    return cut(submission, head, heads - {head})


def path_of(lesson: Lesson, folder: Path | None = None) -> Path:
    """Where a lesson's last grading is recorded."""
    return (folder or RESULTS) / f"lesson_{lesson.number:02d}.json"


def _write(lesson: Lesson, content: dict, folder: Path | None) -> Path:
    """Write whole or not at all."""
    path = path_of(lesson, folder)
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    except OSError as error:  # a grading is worth showing even where nothing can be kept
        print(f"The points were not recorded: {path.parent}: {error.strerror}.", file=sys.stderr)
    return path
