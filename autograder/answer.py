"""The grader behind a notebook's `grade`: loads everything, then waits for one question.

The question comes on stdin, as JSON: an exercise's name and a notebook. The result goes to stdout.
`t2i.classroom.standby` asks.
"""

import contextlib
import json
import os
import runpy
import select
import sys

from autograder.lesson import Lesson
from autograder.process import Worker

WAIT_SECONDS = 600.0


def main(lesson: Lesson) -> None:
    """Answer one question, or end without a word if none comes.

    Raises:
        LessonError: no such exercise.
        WorkerUnavailable: the worker cannot be started on this machine.
    """
    with Worker(lesson) as worker:  # loads torch while we load the tests
        from autograder import grader

        with contextlib.redirect_stdout(sys.stderr):
            with contextlib.suppress(Exception):  # grading will say what is wrong with them
                runpy.run_path(str(lesson.hidden_tests))  # for what it imports
            question = _question()
            if not question:
                return
            asked = json.loads(question)
            result = grader.grade(
                asked["notebook"].encode(),
                lesson,
                only=asked["exercise"],
                worker=worker,
                pictures=True,
            )
    print(json.dumps(result.as_dict()))


def _question() -> bytes:
    """All of stdin; nothing if it stays silent, or the notebook's kernel has ended."""
    if os.name != "nt" and not select.select([sys.stdin], [], [], WAIT_SECONDS)[0]:
        return b""
    return sys.stdin.buffer.read()
