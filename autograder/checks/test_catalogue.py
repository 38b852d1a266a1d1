"""The reference scores 100, the blank 0, wrong answers are caught, right variants are not.

`make test` takes the first wrong answers of each exercise, `make test-all` and `make catalogue`
take all of them.
"""

from collections import Counter

import pytest

from autograder.catalogue import Entry, ends, entries, label, problems, rounds
from autograder.lesson import LESSONS, Lesson, get_lesson
from autograder.process import Worker

WRITTEN = [lesson for lesson in LESSONS if lesson.exists]
FIRST = 8  # wrong answers of an exercise


def listed(lesson: Lesson) -> list:
    """All rounds of a lesson; what goes beyond the first of an exercise is for `--all`."""
    found, count = [], Counter()
    for together in rounds(entries(lesson)):
        entry = together[0]
        count[entry.exercise] += not entry.right
        late = not entry.right and count[entry.exercise] > FIRST
        marks = [pytest.mark.thorough] if late else []
        name = f"{lesson.number}-{label(together)}"
        found.append(pytest.param(lesson.number, together, id=name, marks=marks))
    return found


ENTRIES = [each for lesson in WRITTEN for each in listed(lesson)]


@pytest.fixture(scope="session")
def workers():
    """One worker a lesson, started when first asked for."""
    started: dict[int, Worker] = {}

    def get(number: int) -> Worker:
        if number not in started:
            started[number] = Worker(get_lesson(number))
        return started[number]

    yield get
    for worker in started.values():
        worker.close()


@pytest.mark.parametrize("written", [True, False], ids=["reference", "blank"])
@pytest.mark.parametrize("lesson", WRITTEN, ids=lambda lesson: lesson.slug)
def test_the_reference_scores_100_and_the_blank_0(lesson: Lesson, written: bool, workers):
    assert ends(lesson, workers(lesson.number), written) == []


@pytest.mark.parametrize(("number", "together"), ENTRIES)
def test_the_grader_knows_right_from_wrong(number: int, together: tuple[Entry, ...], workers):
    assert problems(get_lesson(number), together, workers(number)) == []


@pytest.mark.parametrize("lesson", WRITTEN, ids=lambda lesson: lesson.slug)
def test_every_exercise_has_five_wrong_answers_and_three_right_variants(lesson: Lesson):
    listed = entries(lesson)
    for exercise in lesson.exercises:
        own = [entry for entry in listed if entry.exercise == exercise.name]
        assert sum(not entry.right for entry in own) >= 5, exercise.name
        assert sum(entry.right for entry in own) >= 3, exercise.name
        assert all(entry.says for entry in own if not entry.right), exercise.name
    assert {entry.exercise for entry in listed} == {exercise.name for exercise in lesson.exercises}
