"""What the forks of a batch have in common: everything loaded, and one submission graded."""

import gc
import json
import re
from pathlib import Path

import nbformat

from autograder import grader
from autograder.course.rebuild import filled, layout, to_bytes
from autograder.course.submitted import read_submission
from autograder.course.work import BatchError, Work
from autograder.lesson import PACKAGE, Lesson, get_lesson
from autograder.nursery import Nursery

NOT_ALL = (
    "Nothing was graded: the reference of lesson {} gets {} of {} points on this machine. "
    "{}: {} See `make doctor`."
)


class Grader:
    """Grades one submission after another, each in a fork of the process that made this.

    Args:
        work: what is graded.

    Raises:
        BatchError: there is no sandbox, or the reference does not get all points here.
    """

    def __init__(self, work: Work):
        self.work = work
        self.lesson = get_lesson(work.lesson)
        self.cache = work.cache()
        self.released = nbformat.read(work.released, as_version=4)
        self.nursery = Nursery(self.lesson)
        try:
            self._refuse()
            self._warm_up()
        except BaseException:
            self.nursery.close()
            raise

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        self.nursery.close()

    def grade(self, file: str, ticket: str) -> int:
        """Rebuild and grade one file: 0, or 1 with the grader's own failure in the cache."""
        try:
            sources = layout(read_submission(Path(file)), self.lesson, self.released)
        except Exception:  # UnreadableNotebook, and what a hostile file provokes in a parser
            self.cache.settle(ticket, None)  # nbgrader's pass meets it again, and says why
            return 0
        try:
            key = self._graded(to_bytes(filled(self.released, self.lesson, sources)))
        except Exception as error:
            self.cache.settle(ticket, None, f"{type(error).__name__}: {error}")
            return 1
        self.cache.settle(ticket, key, layout=sources)
        return 0

    def _graded(self, notebook: bytes) -> str:
        """The key of a rebuilt notebook's result, which then is in the cache."""
        key = self.cache.key(notebook)
        if self.cache.get(key) is None:
            with self.nursery.worker() as worker:
                result = grader.grade(
                    notebook, self.lesson, self.work.seed, worker=worker, pictures=True
                )
            self.cache.put(key, result)
        return key

    def _refuse(self) -> None:
        if not (self.nursery.mode.is_sandbox or self.work.trust):
            raise BatchError(f"Nothing was graded: {self.nursery.mode}.")

    def _warm_up(self) -> None:
        """Grade the reference, which also loads all that a suite and its pictures need."""
        with self.nursery.worker() as worker:
            result = grader.grade(
                reference(self.lesson), self.lesson, self.work.seed, worker=worker
            )
        for row in result.exercises:
            if row.status != "passed":
                counts = (self.lesson.number, result.score, result.maximum)
                raise BatchError(NOT_ALL.format(*counts, row.name, row.message))
        if "@pictured(" in self.lesson.hidden_tests.read_text(encoding="utf-8"):
            from t2i import show  # noqa: F401  matplotlib
        gc.collect()
        gc.freeze()  # forks then share the memory that they do not write


def reference(lesson: Lesson) -> bytes:
    """A notebook that holds the lesson's modules as they stand in the package, one cell each.

    What one of them imports of another is defined above; an import would bring the unwritten one.
    """
    sources = [(PACKAGE / f"{name}.py").read_text(encoding="utf-8") for name in lesson.modules]
    own = rf"^from t2i\.({'|'.join(lesson.modules)}) import (\([^)]*\)|.*)$"
    texts = [re.sub(own, "", text, flags=re.M) for text in sources]
    cells = [{"cell_type": "code", "metadata": {}, "source": text} for text in texts]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()
