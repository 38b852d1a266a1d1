"""Due dates, and what a late submission costs.

nbgrader keeps a lesson's due date in the gradebook and takes the time of each submission from the
collection. Its own plugin then takes off nothing or everything; the one here takes off some percent
for each day that has begun.
"""

import datetime
import math
import re
from zoneinfo import ZoneInfo

from nbgrader.plugins import BasePlugin
from traitlets import Float

from autograder.lesson import LESSONS, get_lesson

DAY = 24 * 60 * 60
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)(?::\d\d)?(?: (\S+))?")


class DueDateError(ValueError):
    """A due date that cannot be read; the message says how to write it."""


class DailyPenalty(BasePlugin):
    """Takes off some percent of the points for each day that has begun."""

    percent = Float(10.0, min=0.0, max=100.0, help="Percent of the points, a day.").tag(config=True)

    def late_submission_penalty(
        self, student_id: str, score: float, total_seconds_late: float
    ) -> float | None:
        """The points that a submission loses; nbgrader calls this for late ones."""
        days = math.ceil(total_seconds_late / DAY)
        return min(score, score * days * self.percent / 100)


class PenaltyError(ValueError):
    """A penalty that cannot be taken off; the message names the setting."""


def expect_penalty(config) -> None:
    """Refuse settings of lateness that nbgrader would stumble over in the middle of a class.

    Raises:
        PenaltyError: one of them cannot be used.
    """
    method = config.LateSubmissionPlugin.get("penalty_method", "none")
    if method not in ("none", "zero"):
        said = 'it must be "none" or "zero"'
        raise PenaltyError(f"c.LateSubmissionPlugin.penalty_method is {method!r}: {said}")
    percent = config.DailyPenalty.get("percent", 10)
    number = isinstance(percent, int | float) and not isinstance(percent, bool)
    if not number or not 0 <= percent <= 100:
        said = "it must be a number from 0 to 100"
        raise PenaltyError(f"c.DailyPenalty.percent is {percent!r}: {said}")


def due(text: str, zone: datetime.tzinfo | None = None) -> datetime.datetime:
    """A due date as `2026-11-30 23:59`, or with a time zone after it.

    Args:
        text: what was written.
        zone: where the text names none; by default this machine's.

    Raises:
        DueDateError: it cannot be read.
    """
    match = _TIME.fullmatch(text.strip())
    try:
        when = datetime.datetime.fromisoformat(f"{match[1]} {match[2]}")
        zone = ZoneInfo(match[3]) if match[3] else zone
    except (TypeError, ValueError, KeyError, OSError):
        said = "write it as 2026-11-30 23:59, or as 2026-11-30 23:59 Europe/Berlin"
        raise DueDateError(f"{text!r} is no due date: {said}") from None
    when = when.replace(tzinfo=zone) if zone else when
    return when.astimezone(datetime.UTC)


def set_due(course, lesson: int, when: datetime.datetime | None) -> None:
    """Note a lesson's due date in the gradebook; None takes it away.

    Args:
        course: a Course.
        lesson: its number.
        when: with a time zone.
    """
    text = when.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if when else None
    with course.gradebook() as gradebook:
        gradebook.update_or_create_assignment(get_lesson(lesson).slug, duedate=text)


def expect_unconfigured(course, lesson: int) -> None:
    """Refuse a due date on the command line where the configuration names one, which would win.

    Raises:
        DueDateError: it does.
    """
    slug = get_lesson(lesson).slug
    if slug in course.config.get("DueDates", {}):
        raise DueDateError(
            f"c.DueDates.{slug} in nbgrader_config.py says when lesson {lesson} is due: change it "
            "there, or take that line away"
        )


def set_configured(course) -> None:
    """Note the due dates that a course's configuration names (`c.DueDates.unet = "…"`).

    Raises:
        DueDateError: one cannot be read, or is no lesson's.
    """
    slugs = {lesson.slug: lesson.number for lesson in LESSONS}
    for slug, text in course.config.get("DueDates", {}).items():
        if slug not in slugs:
            known = ", ".join(slugs)
            raise DueDateError(f"c.DueDates.{slug} is no lesson's; the lessons are {known}")
        set_due(course, slugs[slug], due(text) if text else None)
