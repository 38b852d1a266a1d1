"""Runs a lesson's hidden tests with pytest, in this process, against one submission."""

import hashlib
import os
import sys
from dataclasses import dataclass, replace

import pytest
import torch

from autograder.extract import Submission
from autograder.lesson import Exercise, Lesson, LessonError
from autograder.picture import Drawn, NotDrawable, draw, is_picture
from autograder.plain import plain
from autograder.process import Worker, WorkerUnavailable
from autograder.remote import RemoteCrash, RemoteError, RemoteSilence, RemoteTimeout, Student
from autograder.testing import Teaching

_LEARNERS = (RemoteError, RemoteTimeout, RemoteCrash)  # what a learner's code can bring about
STATUSES = ("passed", "failed", "timeout", "crashed", "unreadable")
PICTURE_SECONDS = 10.0
AFTER_SILENCE = 15.0  # seconds a test may take, once the same submission let the clock run out
PATIENCE = 300.0  # seconds that all its tests may take together before that holds, too
HURRY = 1.0  # seconds a test may take after twice that time


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
    picture: str = ""  # a PNG file in base64: theirs beside the expected one, for public inputs
    caption: str = ""  # what is in it


def run(lesson: Lesson, suite: "Suite") -> None:
    """Run the tests of the suite's exercises.

    Raises:
        LessonError: the hidden tests themselves are broken; the message says by what.
        WorkerUnavailable: a worker could not be started.
    """
    quiet = ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:logging"]
    quiet += ["-p", "no:warnings", "--capture=no", "--noconftest", "--import-mode=importlib"]
    quiet += ["--assert=plain"]  # no hidden test has a bare assert that would need rewriting
    # These two collect garbage five times at the end of a run, half a second beside torch.
    quiet += ["-p", "no:unraisableexception", "-p", "no:threadexception"]
    root = ["--rootdir", str(lesson.hidden_tests.parent), "-c", os.devnull]
    before = set(sys.modules)
    code = pytest.main([*quiet, *root, str(lesson.hidden_tests)], plugins=[suite])
    for name in set(sys.modules) - before:
        if name.endswith(lesson.hidden_tests.stem):
            del sys.modules[name]
    if suite.unavailable is not None:
        raise suite.unavailable
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise LessonError(
            f"The hidden tests of lesson {lesson.number} do not run ({suite.error}): see whether "
            f"`make doctor` names a package that is missing or too old."
        )


class Suite:
    """Runs the tests of some exercises against one submission and keeps what happened.

    Args:
        worker: where the learner's code runs.
        submission: what `extract` took from the notebook.
        seed: where inputs come from.
        names: of the exercises.
        pictures: whether to draw what failed, where the suite says how.
    """

    def __init__(
        self,
        worker: Worker,
        submission: Submission,
        seed: int,
        names: list[str],
        pictures: bool = False,
    ):
        self.worker, self.submission, self.seed = worker, submission, seed
        self.pictures = pictures
        self.drawn: dict[str, Drawn] = {}
        self.failures: dict[str, tuple[str, str]] = {}
        self.seconds = dict.fromkeys(names, 0.0)
        self.passes = dict.fromkeys(names, 0)
        self.error = "pytest collected nothing"
        self.unavailable: WorkerUnavailable | None = None
        self.was_silent = False

    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", "exercise(name): the exercise a test belongs to")
        config.option.tbstyle = "native"  # nobody reads it, and the others parse the whole file

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            lines = str(report.longrepr).strip().splitlines()
            self.error = lines[-1].removeprefix("E").strip() if lines else self.error

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        wanted = [item for item in items if _exercise_of(item) in self.seconds]
        if not self.pictures:
            wanted = [item for item in wanted if not is_picture(item)]
        items[:] = sorted(wanted, key=is_picture)  # a picture where the tests have settled it

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        name = _exercise_of(item)
        if is_picture(item):
            return None if self.failures.get(name, ("",))[0] == "failed" else True
        return True if name in self.failures else None  # one failure settles it

    @pytest.fixture
    def rng(self, request: pytest.FixtureRequest) -> torch.Generator:
        text = f"{self.seed}:{request.node.name}".encode()
        number = int.from_bytes(hashlib.sha256(text).digest()[:6], "big")
        return torch.Generator().manual_seed(number)

    @pytest.fixture
    def student(self, request: pytest.FixtureRequest):
        spent = sum(self.seconds.values())
        limits = {"seconds": AFTER_SILENCE} if self.was_silent or spent > PATIENCE else {}
        limits = {"seconds": HURRY} if spent > 2 * PATIENCE else limits
        limits = {"seconds": PICTURE_SECONDS} if is_picture(request.node) else limits
        try:
            yield Student(self.worker, self.submission, **limits)
        finally:
            self.worker.end_session()

    @pytest.fixture
    def draw(self, request: pytest.FixtureRequest):
        """What a suite's picture calls with its panels."""

        def keep(*panels, **words) -> None:
            drawn = draw(*panels, **words)
            if drawn is not None:
                self.drawn[_exercise_of(request.node)] = drawn

        return keep

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> None:
        name = _exercise_of(item)
        if is_picture(item):
            _only_learners_fault(call.excinfo)
            return
        self.seconds[name] += call.duration
        if call.excinfo is not None and name not in self.failures:
            error = call.excinfo.value
            if call.when != "call" and not isinstance(error, _LEARNERS):  # nobody's fault
                self.unavailable = WorkerUnavailable(str(error) or type(error).__name__)
                item.session.shouldstop = str(self.unavailable)
                return
            self.was_silent = self.was_silent or isinstance(error, RemoteSilence)
            status, message = _verdict(error)
            self.failures[name] = status, plain(message)
        elif call.when == "call":
            self.passes[name] += 1

    def result(self, exercise: Exercise) -> ExerciseResult:
        name, maximum = exercise.name, exercise.points
        seconds = round(self.seconds[name], 3)
        if name in self.failures:
            status, message = self.failures[name]
            failed = ExerciseResult(name, 0, maximum, status, message, seconds)
            drawn = self.drawn.get(name)
            return replace(failed, picture=drawn.png, caption=drawn.caption) if drawn else failed
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


def _only_learners_fault(raised: pytest.ExceptionInfo | None) -> None:
    """A picture that the learner's code does not allow is left out; a broken suite is not hidden.

    Raises:
        Exception: what went wrong on our side, where T2I_DEBUG_GRADER is set.
    """
    known = (NotDrawable, Teaching, RemoteError, RemoteTimeout, RemoteCrash)
    if raised is None or isinstance(raised.value, known):
        return
    interrupted = isinstance(raised.value, KeyboardInterrupt | SystemExit)
    if interrupted or os.environ.get("T2I_DEBUG_GRADER"):
        raise raised.value


def _exercise_of(item: pytest.Item) -> str:
    marker = item.get_closest_marker("exercise")
    if marker is None:
        raise RuntimeError(f"{item.name}: mark the test with @exercise(...)")
    return marker.args[0]
