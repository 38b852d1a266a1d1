"""Which mistake of the catalogue a failed exercise looks like, by the sentence that it was given.

Each wrong answer of the catalogue has a pattern that its own sentence matches, which CI proves. A
sentence that matches the pattern of one wrong answer is put down to it; where several match, to
those that the longest piece of the sentence speaks of. This is a likeness, not a proof: another
mistake may have earned the same sentence.
"""

import functools
import re
from collections import defaultdict

from autograder import catalogue
from autograder.lesson import Lesson

NOT_WRITTEN = "Not yet written."
_SYMPTOM = re.compile(r"^.{0,300}? not right \([^()]*(?:\([^()]*\)[^()]*)*\)\. (?=\S)", re.S)
_RAISED = re.compile(r"^Your code raised (\w+)")
_WAITS = re.compile(r"^It uses .+, not right yet: mend that first")


@functools.cache
def wrong_answers(lesson: Lesson) -> dict[str, list[catalogue.Entry]]:
    """The catalogue's wrong answers by their exercise."""
    found = defaultdict(list)
    if lesson.catalogue.exists():
        for entry in catalogue.entries(lesson):
            if not entry.right:
                found[entry.exercise].append(entry)
    return dict(found)


def likely(lesson: Lesson, exercise: str, message: str) -> tuple[str, ...]:
    """The names of the wrong answers that a sentence speaks of; () where the catalogue has none."""
    lengths: dict[str, int] = {}
    for entry in wrong_answers(lesson).get(exercise, ()):
        match = re.search(entry.says, message, re.IGNORECASE)
        if match:
            lengths[entry.name] = len(match[0])
    longest = max(lengths.values(), default=0)
    return tuple(name for name, length in lengths.items() if length == longest)


def waits(message: str) -> bool:
    """Whether the sentence says that another exercise must be mended first."""
    return _WAITS.match(message) is not None


def without_numbers(message: str) -> str:
    """The part of a sentence that is the same for everybody who makes the same mistake."""
    raised = _RAISED.match(message)
    return f"Your code raised {raised[1]}." if raised else _SYMPTOM.sub("", message)
