"""What a worker may see of the package."""

import ast

import pytest

from autograder import sandbox
from autograder.extract import is_stub
from autograder.lesson import LESSONS, Lesson

WRITTEN = [lesson for lesson in LESSONS if lesson.exists]


@pytest.mark.parametrize("lesson", WRITTEN, ids=lambda lesson: lesson.slug)
def test_a_worker_sees_no_answer_of_its_lesson_nor_of_a_later_one(lesson: Lesson, tmp_path):
    package = sandbox.stage(lesson, tmp_path) / "t2i"
    for other in WRITTEN:
        for exercise in other.exercises:
            file, head = package / f"{exercise.module}.py", exercise.name.partition(".")[0]
            if other.number > lesson.number:
                assert not file.exists(), exercise.target
                continue
            found = [n for n in ast.parse(file.read_text()).body if getattr(n, "name", "") == head]
            assert len(found) == 1, exercise.target
            assert is_stub(found[0], exercise.name) == (other is lesson), exercise.target
