"""Whom the grader itself failed: nothing is said about their work until it is graded."""

FAILED = "The grader failed ("
NOT_JUDGED = FAILED + "{}). Nothing is said about the work: autograde it again."


def ungraded(course, lesson: int) -> dict[str, str]:
    """For each student whom the grader failed, why.

    Args:
        course: a `folder.Course`.
        lesson: its number.
    """
    return {name: why for name, why in course.flagged(lesson).items() if FAILED in why}
