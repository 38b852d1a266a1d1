"""Whom a person must look at, and why; among them those whom the grader itself failed."""

import html
from collections.abc import Iterator

from nbgrader.api import SubmittedNotebook

FAILED = "The grader failed ("
NOT_JUDGED = FAILED + "{}). Nothing is said about the work: autograde it again."
NO_RESPONSE = "No response."  # nbgrader's own comment on a cell that stands as it was given out


def ungraded(course, lesson: int) -> dict[str, str]:
    """For each student whom the grader failed, why.

    Args:
        course: a `folder.Course`.
        lesson: its number.
    """
    return {name: why for name, why in course.flagged(lesson).items() if FAILED in why}


def reasons(book: SubmittedNotebook) -> Iterator[str]:
    """Why nbgrader wants a submission looked at, in sentences."""
    problems = [each.auto_comment for each in book.comments]
    problems = [each for each in problems if each and each != NO_RESPONSE]
    if problems:  # it could not be graded at all
        yield from map(html.unescape, problems)
        return
    for grade in book.grades:
        name = grade.name.removeprefix("check-")
        if grade.needs_manual_grade and grade.manual_score is not None:
            now = "" if grade.auto_score is None else f"; the tests give {grade.auto_score:g} now"
            yield f"{name} keeps the {grade.manual_score:g} points given by hand{now}."
        elif grade.needs_manual_grade:
            yield f"{name} is to be graded by hand."
