"""Runs a lesson's hidden tests with pytest, in this process, against one submission."""

import hashlib
import os
import sys
from dataclasses import dataclass

import pytest
import torch

from autograder.extract import Submission
from autograder.lesson import Exercise, Lesson, LessonError
from autograder.process import Worker
from autograder.remote import RemoteCrash, RemoteError, RemoteTimeout, Student
from autograder.testing import Teaching

STATUSES = ("passed", "failed", "timeout", "crashed", "unreadable")


@dataclass(frozen=True)
class ExerciseResult:
    """What became of one exercise."""

    name: str
    points: int
    maximum: int
    status: str  # one of STATUSES
    message: str
    seconds: float = 0.0
    written: bool = True
    waits_for: tuple[str, ...] = ()  # exercises that it calls and that are not right yet


def run(lesson: Lesson, suite: "Suite") -> None:
    """Run the tests of the suite's exercises.

    Raises:
        LessonError: the hidden tests themselves are broken; the message says by what.
    """
    quiet = ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:logging"]
    quiet += ["-p", "no:warnings", "--capture=no", "--noconftest", "--import-mode=importlib"]
    # These two collect garbage five times at the end of a run, half a second beside torch.
    quiet += ["-p", "no:unraisableexception", "-p", "no:threadexception"]
    root = ["--rootdir", str(lesson.hidden_tests.parent), "-c", os.devnull]
    before = set(sys.modules)
    code = pytest.main([*quiet, *root, str(lesson.hidden_tests)], plugins=[suite])
    for name in set(sys.modules) - before:
        if name.endswith(lesson.hidden_tests.stem):
            del sys.modules[name]
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise LessonError(
            f"The hidden tests of lesson {lesson.number} do not run ({suite.error}): see whether "
            f"`make doctor` names a package that is missing or too old."
        )


class Suite:
    """Runs the tests of some exercises against one submission and keeps what happened."""

    def __init__(self, worker: Worker, submission: Submission, seed: int, names: list[str]):
        self.worker, self.submission, self.seed = worker, submission, seed
        self.failures: dict[str, tuple[str, str]] = {}
        self.seconds = dict.fromkeys(names, 0.0)
        self.passes = dict.fromkeys(names, 0)
        self.error = "pytest collected nothing"

    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", "exercise(name): the exercise a test belongs to")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            lines = str(report.longrepr).strip().splitlines()
            self.error = lines[-1].removeprefix("E").strip() if lines else self.error

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if _exercise_of(item) in self.seconds]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        return True if _exercise_of(item) in self.failures else None  # one failure settles it

    @pytest.fixture
    def rng(self, request: pytest.FixtureRequest) -> torch.Generator:
        text = f"{self.seed}:{request.node.name}".encode()
        number = int.from_bytes(hashlib.sha256(text).digest()[:6], "big")
        return torch.Generator().manual_seed(number)

    @pytest.fixture
    def student(self):
        try:
            yield Student(self.worker, self.submission)
        finally:
            self.worker.end_session()

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> None:
        name = _exercise_of(item)
        self.seconds[name] += call.duration
        if call.excinfo is not None and name not in self.failures:
            self.failures[name] = _verdict(call.excinfo.value)
        elif call.when == "call":
            self.passes[name] += 1

    def result(self, exercise: Exercise) -> ExerciseResult:
        name, maximum = exercise.name, exercise.points
        seconds = round(self.seconds[name], 3)
        if name in self.failures:
            status, message = self.failures[name]
            return ExerciseResult(name, 0, maximum, status, message, seconds)
        if not self.passes[name]:
            raise RuntimeError(f"there is no hidden test of {name}")
        return ExerciseResult(name, maximum, maximum, "passed", "Right.", seconds)


def _verdict(error: BaseException) -> tuple[str, str]:
    if isinstance(error, Teaching | RemoteError):
        return "failed", str(error)
    if isinstance(error, RemoteTimeout):
        return "timeout", str(error)
    if isinstance(error, RemoteCrash):
        return "crashed", str(error)
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise error
    kind = type(error).__name__
    if os.environ.get("T2I_DEBUG_GRADER"):
        raise error
    return (
        "failed",
        f"What your code returned could not be used ({kind}). Check its type and shape.",
    )


def _exercise_of(item: pytest.Item) -> str:
    marker = item.get_closest_marker("exercise")
    if marker is None:
        raise RuntimeError(f"{item.name}: mark the test with @exercise(...)")
    return marker.args[0]
