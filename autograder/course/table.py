"""All points as a plain table, for people and for the upload to a learning-management system."""

import csv
from collections.abc import Sequence
from pathlib import Path

from nbgrader.api import MissingEntry

from autograder.course.archive import BY_HAND, counting_rows
from autograder.course.folder import Course
from autograder.course.ungraded import FAILED, ungraded
from autograder.lesson import LESSONS, Lesson

COLUMNS = ("student", "name", "lesson", "points", "max", "late", "flag")
FORMULA = ("=", "+", "-", "@", "\t")


def rows(course: Course, lessons: Sequence[Lesson] = LESSONS) -> list[dict[str, str]]:
    """One row a student and released lesson, those included who handed in nothing.

    `points` is what counts, penalties taken off; nothing where the grader failed. `late` is the
    hours after the due date, rounded up, or `yes` where only the learning system says so; `flag`
    why a person must look at it.
    """
    found = []
    with course.gradebook() as gradebook:
        known = {each.name: each for each in gradebook.assignments}
        for lesson in (each for each in lessons if each.slug in known):
            flags, collected = course.flagged(lesson.number), counting_rows(course.folder, lesson)
            for student in gradebook.students:
                handed = collected.get(student.id, {})
                marked, note = handed.get("late") == "yes", handed.get("note", "")
                row = {"student": student.id, "lesson": lesson.slug, "flag": ""}
                row["name"] = " ".join(filter(None, (student.first_name, student.last_name)))
                row["max"] = f"{known[lesson.slug].max_score:g}"
                try:
                    handed_in = gradebook.find_submission(lesson.slug, student.id)
                except MissingEntry:
                    row |= {"points": "0", "late": "", "flag": "nothing was graded"}
                else:
                    points = handed_in.score - (handed_in.late_submission_penalty or 0)
                    seconds = handed_in.total_seconds_late
                    late = str(-int(-seconds // 3600)) if seconds > 0 else "yes" if marked else ""
                    flag = flags.get(student.id) or ("" if note == BY_HAND else note)
                    points = "" if FAILED in flag else f"{max(0, points):g}"
                    row |= {"points": points, "late": late, "flag": flag}
                found.append({column: _harmless(row[column]) for column in COLUMNS})
    return found


def line(row: dict[str, str]) -> str:
    """A row for the terminal: the student, the points that count, and how late."""
    late = {"": "", "yes": "  late"}.get(row["late"], f"  {row['late']} h late")
    return f"{row['student']:30} {row['points'] or '-':>5}{late}"


def write(course: Course, to: Path) -> Path:
    """Write the table."""
    with to.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows(course))
    return to


def export(course: Course, to: Path) -> Path:
    """Write nbgrader's own table, without a score where the grader failed."""
    course.export(to)
    with to.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        columns, found = reader.fieldnames, list(reader)
    slugs = {row["assignment"] for row in found}
    failed = {each.slug: ungraded(course, each.number) for each in LESSONS if each.slug in slugs}
    for row in found:
        if row["student_id"] in failed.get(row["assignment"], ()):
            row["score"] = ""
    with to.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(found)
    return to


def _harmless(text: str) -> str:
    """A text that no table program takes for a formula, and no reader for two lines."""
    line = " ".join(text.split())
    return f"'{line}" if line.startswith(FORMULA) else line
