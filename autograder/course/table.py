"""All points as a plain table, for people and for the upload to a learning-management system."""

import csv
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from nbgrader.api import Gradebook, MissingEntry, Student

from autograder.course.archive import counting_rows, noted
from autograder.course.folder import STUDENTS, Course
from autograder.course.ungraded import FAILED
from autograder.course.who import Roster, RosterError
from autograder.lesson import LESSONS, Lesson

COLUMNS = ("student", "name", "lesson", "points", "max", "late", "flag")
FORMULA = ("=", "+", "-", "@", "\t")


def came_in(course: Course, lessons: Sequence[Lesson] = LESSONS) -> dict[Lesson, bool]:
    """Which of these lessons are released, and whether anything was handed in for them."""
    with course.gradebook() as gradebook:
        known = {each.name for each in gradebook.assignments}
    root = course.folder / course.api.coursedir.submitted_directory
    released = [each for each in lessons if each.slug in known]
    return {each: any(root.glob(f"*/{each.slug}/*")) for each in released}


def rows(
    course: Course, lessons: Sequence[Lesson] = LESSONS, who: str = "*"
) -> list[dict[str, str]]:
    """One row a student and collected lesson, those included who handed in nothing.

    `who` is an id, or a pattern of ids.

    `points` is what counts, penalties taken off; nothing where nothing was graded or the grader
    failed. `late` is the hours after the due date, rounded up, or `yes` where only the learning
    system says so; `flag` why a person must look at it.
    """
    found, there = [], came_in(course, lessons)
    with course.gradebook() as gradebook:
        known = {each.name: each for each in gradebook.assignments}
        students = [s for s in expected(course, gradebook) if fnmatchcase(s.id, who)]
        for lesson in (each for each, any_came in there.items() if any_came):
            flags, collected = course.flagged(lesson.number), counting_rows(course.folder, lesson)
            for student in students:
                handed = collected.get(student.id, {})
                marked = handed.get("late") == "yes"
                row = {"student": student.id, "lesson": lesson.slug, "flag": ""}
                row["name"] = " ".join(filter(None, (student.first_name, student.last_name)))
                row["max"] = f"{known[lesson.slug].max_score:g}"
                try:
                    handed_in = gradebook.find_submission(lesson.slug, student.id)
                except MissingEntry:
                    why = "nothing was graded" if handed else "nothing came in"
                    row |= {"points": "", "late": "", "flag": why}
                else:
                    points = handed_in.score - (handed_in.late_submission_penalty or 0)
                    seconds = handed_in.total_seconds_late
                    late = str(-int(-seconds // 3600)) if seconds > 0 else "yes" if marked else ""
                    flag = flags.get(student.id) or noted(handed)
                    points = "" if FAILED in flag else f"{max(0, points):g}"
                    row |= {"points": points, "late": late, "flag": flag}
                found.append({column: _harmless(row[column]) for column in COLUMNS})
    return found


def expected(course: Course, gradebook: Gradebook) -> list[Student]:
    """The students that a table speaks of: without those of an earlier list of students, whose ids
    are in it no more, if nothing was graded for them."""
    try:
        names = Roster.read(course.folder / STUDENTS).names
    except (OSError, RosterError):  # there is none, or `collect` says what is wrong with it
        names = {}
    return [
        student
        for student in gradebook.students
        if not names or student.id in names or gradebook.student_submissions(student.id)
    ]


def line(row: dict[str, str]) -> str:
    """A row for the terminal: the student, the points that count, and how late."""
    late = {"": "", "yes": "  late"}.get(row["late"], f"  {row['late']} h late")
    return f"{row['student']:30} {row['points'] or '-':>5}{late}"


def write(course: Course, to: Path, lessons: Sequence[Lesson] = LESSONS) -> Path:
    """Write the table."""
    with to.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows(course, lessons))
    return to


def export(course: Course, to: Path, lessons: Sequence[Lesson] = LESSONS) -> Path:
    """Write nbgrader's own table of the same rows; its scores are blank where `points` is."""
    points = {(row["student"], row["lesson"]): row["points"] for row in rows(course, lessons)}
    course.export(to)
    with to.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        columns, found = reader.fieldnames, list(reader)
    with to.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        for row in found:
            key = _harmless(row["student_id"]), row["assignment"]
            if key in points:
                writer.writerow(row if points[key] else row | {"score": ""})
    return to


def _harmless(text: str) -> str:
    """A text that no table program takes for a formula, and no reader for two lines."""
    line = " ".join(text.split())
    return f"'{line}" if line.startswith(FORMULA) else line
