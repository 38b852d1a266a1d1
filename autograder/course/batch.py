"""Grades many submissions in parallel into the cache: `python -m autograder.course.batch WORK`.

This process loads torch, the hidden tests and what they compare with once, and grades the
reference, which must get all points: a broken machine fails nobody. Then it forks for each
submission. The fork rebuilds and grades one file, writes one result and ends; learners' code runs
in no fork but in a sandbox that the fork asks the `Nursery` for, fresh for each submission. So the
memory stays flat, and what goes wrong with one submission is over with it.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass

import tqdm

from autograder.course.cache import Cache
from autograder.course.work import BatchError, Work

TRIES = 2
SLOW_SECONDS = 20.0  # after which a submission no longer keeps others from starting
POLL_SECONDS = 0.01
PR_SET_PDEATHSIG = 1


@dataclass
class Attempt:
    """A submission that is being graded."""

    file: str
    ticket: str
    number: int
    started: float = 0.0


def main(arguments: list[str] | None = None) -> int:
    """Grade what a work file lists: 0, or 2 with a sentence where this machine cannot."""
    from autograder.lesson import LessonError
    from autograder.process import WorkerUnavailable

    (path,) = sys.argv[1:] if arguments is None else arguments
    try:
        run(Work.read(path))
    except (BatchError, LessonError, WorkerUnavailable) as error:
        print(error)
        return 2
    return 0


def run(work: Work) -> None:
    """Settle every file of a work in its cache, those with a problem included.

    Raises:
        BatchError: there is no sandbox, or the reference does not get all points here.
    """
    pending = work.pending()
    tqdm.tqdm.monitor_interval = 0  # no thread: we fork
    total = len(work.files)
    with tqdm.tqdm(total=total, initial=total - len(pending), unit="submission") as bar:
        bar.set_description("loading torch")
        if pending:
            from autograder.course.forked import Grader

            with Grader(work) as grader:
                bar.set_description("grading")
                bar.unpause()
                Pool(work, grader, bar).run(pending)


class Pool:
    """Forks for each submission, as many at a time as there are cores.

    Args:
        work: what is graded.
        grader: does one submission, in the fork.
        bar: shows progress, and the time left.
    """

    def __init__(self, work: Work, grader, bar):
        self.work, self.grader, self.bar = work, grader, bar
        self.cache: Cache = work.cache()
        self.jobs = work.jobs or cores()
        self.running: dict[int, Attempt] = {}

    def run(self, pending: dict[str, str]) -> None:
        """Grade these files, each at most twice."""
        waiting = deque(Attempt(file, ticket, 1) for file, ticket in pending.items())
        try:
            while waiting or self.running:
                while waiting and self._has_room():
                    self._start(waiting.popleft())
                time.sleep(POLL_SECONDS)
                for attempt, problem in self._ended():
                    if problem and attempt.number < TRIES:
                        waiting.append(Attempt(attempt.file, attempt.ticket, attempt.number + 1))
                        continue
                    if problem:
                        self.cache.settle(attempt.ticket, None, problem)
                    self.bar.update()
        finally:
            for process in self.running:
                _kill(process)

    def _has_room(self) -> bool:
        """One that hangs keeps its core, maybe, but not the class: others start beside it."""
        now = time.monotonic()
        quick = sum(now - each.started < SLOW_SECONDS for each in self.running.values())
        return quick < self.jobs and len(self.running) < 3 * self.jobs

    def _start(self, attempt: Attempt) -> None:
        attempt.started = time.monotonic()
        process = os.fork()
        if process == 0:
            status = 1
            try:
                _follow_parent()
                status = self.grader.grade(attempt.file, attempt.ticket)
            finally:
                os._exit(status)
        self.running[process] = attempt

    def _ended(self) -> list[tuple[Attempt, str | None]]:
        """Those that are through, with what went wrong."""
        found = []
        for process, attempt in list(self.running.items()):
            ended, status = os.waitpid(process, os.WNOHANG)
            if not ended and time.monotonic() - attempt.started > self.work.seconds:
                _kill(process)
                problem = f"it was not through after {self.work.seconds:.0f} s"
            elif not ended:
                continue
            else:
                problem = self._problem(attempt, os.waitstatus_to_exitcode(status))
            del self.running[process]
            found.append((attempt, problem))
        return found

    def _problem(self, attempt: Attempt, status: int) -> str | None:
        if status == 0:
            return None
        if status < 0:
            return f"its process ended with {signal.Signals(-status).name}"
        return self.cache.problem(attempt.ticket) or f"its process ended with status {status}"


def cores() -> int:
    """How many cores this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def _follow_parent() -> None:
    """In a fork: end with the batch; and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _kill(process: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(process, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.waitpid(process, 0)


if __name__ == "__main__":
    sys.exit(main())
