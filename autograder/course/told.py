"""What a collection and a bundle have to say to an instructor, a line for each thing."""

import datetime
import shlex
from collections.abc import Iterator

from autograder.course import archive
from autograder.course.bundle import answered
from autograder.course.collect import Collection
from autograder.course.folder import Course


def collected(course: Course, lesson: int, found: Collection) -> Iterator[str]:
    """Who handed in something, what is left over, what to look at, and who is missing.

    Args:
        course: into which was collected.
        lesson: its number.
        found: what became of the download.
    """
    use = f"python -m autograder.course use {shlex.quote(str(course.folder))} {lesson}"
    word = "submission" if len(found.copies) == 1 else "submissions"
    yield f"{len(found.copies)} {word}: {', '.join(found.copies) or 'none'}"
    for file in found.left_over:
        if file.refused:
            hint = f"To count it all the same: {use} {found.number(file)}"
            yield f"not taken from {file.student}: {file.place}: {file.note}. {hint}"
        else:
            yield f"left over: {file.place}: {file.note}"
    for file in found.files:
        another = file.note == archive.ANOTHER
        if file.student in found.copies and not file.counts and not another:
            yield f"note on {file.student}: {file.place}: {file.note}"
        if file.counts and file.note:
            yield f"look at {file.student}: {file.place}: {file.note}"
        if file.counts and file.origin.late:
            yield f"note on {file.student}: marked as late by the learning system"
    for student, row in _late_over(course, lesson).items():
        if student in found.copies:
            said = f"a late file replaces {row['file']}, which came in time ({row['time']})"
            yield f"note on {student}: {said}. If that should count: {use} {row['number']}"
    for number, name in found.missing.items():
        yield f"nothing from {name} ({number})"


def _late_over(course: Course, lesson: int) -> dict[str, dict[str, str]]:
    """Whose late file counts though one came in time, with the row of that one."""
    chosen = course.lesson(lesson)
    due = _due_dates(course).get(chosen.slug)
    return archive.late_over(course.folder, chosen, due) if due else {}


def bundled(course: Course, lesson: int) -> Iterator[str]:
    """Which lessons are still open whose answers a lesson's bundle holds."""
    chosen, due_dates = course.lesson(lesson), _due_dates(course)
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    for each in answered(chosen, course.folder / "release" / chosen.slug):
        if each.slug not in due_dates:
            continue
        due, said = due_dates[each.slug], f"it holds the answers of lesson {each.number}, which is"
        if due is None:
            yield f"careful: {said} due at no time. Give it out when that lesson is over"
        elif due > now:
            yield f"careful: {said} due {due:%Y-%m-%d %H:%M} UTC. Give it out after that"


def _due_dates(course: Course) -> dict[str, datetime.datetime | None]:
    """In UTC, for each released lesson; None: at no time."""
    with course.gradebook() as gradebook:
        return {each.name: each.duedate for each in gradebook.assignments}
