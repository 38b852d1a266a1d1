"""Autograding a class: a batch fills the cache, then one serial pass writes the gradebook.

The batch runs in a process of its own (`batch`), on this machine or, by `cluster`, on many. The
pass is nbgrader's own, a student at a time; it finds each result in the cache. Both go on where
they were interrupted: the batch by the cache, the pass by a journal that it keeps until it is
through. Nothing is lost, since a student counts as written only after nbgrader says so; nothing is
doubled, since writing a student twice leaves the same grades.
"""

import contextlib
import functools
import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import tqdm
from nbgrader import api
from sqlalchemy.exc import SAWarning

from autograder import sandbox
from autograder.course.cache import FOLDER
from autograder.course.ungraded import ungraded
from autograder.course.work import Work
from autograder.lesson import Lesson

FEW = 4  # so many are graded sooner one after another than a batch has loaded torch
TRIES = 2
ENDED = "the process that grades the class ended twice with status {}"


class NothingGraded(Exception):
    """This machine cannot grade; the gradebook is as it was."""


def work_of(course, lesson: Lesson, student: str = "*", jobs: int | None = None) -> Work:
    """What is to be graded in a course.

    Args:
        course: a `folder.Course`.
        lesson: whose submissions.
        student: only this one, or a pattern.
        jobs: how many at a time.
    """
    from autograder.course.kept import released_notebook, written
    from autograder.grader import default_seed

    directory, slug = course.api.coursedir, lesson.slug
    with course.gradebook() as gradebook:
        names = {"assignment": slug, "notebook": slug}
        released = released_notebook(gradebook, directory, names, course.log)
    results = course.folder / FOLDER
    path = results / slug / "released.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written(released))
    settings = course.config.SandboxedGrade
    seed = settings.get("seed", None)
    return Work(
        lesson=lesson.number,
        seed=default_seed() if seed is None else seed,
        results=str(results),
        released=str(path),
        files=tuple(str(path) for path in submitted(course, slug, student).values()),
        jobs=jobs,
        trust=bool(settings.get("trust_submissions", False)),
    )


def submitted(course, slug: str, student: str = "*") -> dict[str, Path]:
    """For each student the file that is graded, be it there or under another name.

    Raises:
        NothingGraded: nobody has handed in anything.
    """
    root = course.folder / course.api.coursedir.submitted_directory
    folders = sorted(each for each in root.glob(f"{student}/{slug}") if each.is_dir())
    folders = [each for each in folders if any(each.glob("*.ipynb"))]
    if not folders:
        who = "" if student == "*" else f" by {student}"
        raise NothingGraded(f"there is no submission of {slug}{who} in {root}: collect first")
    return {each.parent.name: each / f"{slug}.ipynb" for each in folders}


def fill(work: Work) -> None:
    """Settle every file in the cache, in a process of its own; what ends it twice is flagged.

    Raises:
        NothingGraded: this machine cannot grade.
    """
    mode = sandbox.detect()
    if not (mode.is_sandbox or work.trust):
        raise NothingGraded(
            f"{mode}. Submitted code would run with your rights. Set "
            "c.SandboxedGrade.trust_submissions = True in nbgrader_config.py if you trust it."
        )
    pending, cache = work.pending(), work.cache()
    again = any(cache.problem(ticket) for ticket in pending.values())
    if not hasattr(os, "fork") or (len(pending) < FEW and not again):
        return
    path = work.write(Path(work.results, "work.json"))
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for _ in range(TRIES):
        command = [sys.executable, "-m", "autograder.course.batch", str(path)]
        done = subprocess.run(
            command, env=os.environ | threads, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        if done.returncode == 0:
            return
        if done.returncode == 2:
            raise NothingGraded(done.stdout.decode(errors="replace").strip())
    for ticket in work.pending().values():
        cache.settle(ticket, None, ENDED.format(done.returncode))


def autograde(
    course, lesson: Lesson, student: str, fill: Callable[[Work], None]
) -> tuple[list[str], dict[str, str]]:
    """Grade and write; whom the grader failed is tried once more, when all others are through.

    Returns:
        what nbgrader said about students whom it could not write, and for each student whom the
        grader failed twice, why.
    """
    work = work_of(course, lesson, student)
    fill(work)
    failures = write_gradebook(course, work, lesson, student)
    files = submitted(course, lesson.slug, student)
    again = [name for name in ungraded(course, lesson.number) if name in files]
    if again:
        work = work.with_files(str(files[name]) for name in again)
        with contextlib.suppress(NothingGraded):
            fill(work)
        for name in again:
            failures += write_gradebook(course, work, lesson, name)
    failed = ungraded(course, lesson.number)
    return failures, {name: why for name, why in failed.items() if name in again}


def write_gradebook(course, work: Work, lesson: Lesson, student: str = "*") -> list[str]:
    """The serial pass: each student's grades, as nbgrader writes them.

    Returns:
        what nbgrader said about students whom it could not write.
    """
    slug, failures = lesson.slug, []
    files = submitted(course, slug, student)
    tickets = dict(work.tickets())
    with Journal.open(course, work, slug) as journal, _one_engine():
        left = {name: tickets[str(file)] for name, file in files.items()}
        left = {name: ticket for name, ticket in left.items() if not journal.has(name, ticket)}
        word = "grading" if len(files) < FEW else "writing grades"
        bar = tqdm.tqdm(left.items(), word, len(files), initial=len(files) - len(left))
        for name, ticket in bar:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SAWarning)  # nbgrader's, about its own gradebook
                done = course.api.autograde(slug, name)
            if done["success"]:
                journal.add(name, ticket)
            else:
                failures.append(done.get("error") or done.get("log") or f"{name}: no reason given")
        if not failures:
            journal.forget()
    return failures


@contextlib.contextmanager
def _one_engine() -> Iterator[None]:
    """nbgrader makes an engine for each look at its gradebook; one keeps what it has compiled."""
    original = api.create_engine
    api.create_engine = functools.lru_cache(maxsize=4)(original)
    try:
        yield
    finally:
        api.create_engine = original


class Journal:
    """Whom an unfinished pass has written: lines in a file that is gone when a pass is through."""

    def __init__(self, path: Path, circumstances: str):
        self.path, self.circumstances = path, circumstances
        self._done = set()
        with contextlib.suppress(OSError, ValueError):
            first, *lines = path.read_text(encoding="utf-8").splitlines()
            if first == circumstances:
                self._done = {line for line in lines if line.endswith(".")}
        if not self._done:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(circumstances + "\n", encoding="utf-8")
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  closed by `open` below

    @classmethod
    @contextlib.contextmanager
    def open(cls, course, work: Work, slug: str) -> Iterator["Journal"]:
        """The journal of a pass under the course's configuration of now."""
        settings = json.dumps([str(course.config), work.seed, slug])
        digest = hashlib.sha256(settings.encode()).hexdigest()
        journal = cls(Path(work.results, slug, "journal.txt"), digest)
        try:
            yield journal
        finally:
            journal._file.close()

    def has(self, student: str, ticket: str) -> bool:
        return self._line(student, ticket) in self._done

    def add(self, student: str, ticket: str) -> None:
        self._file.write(self._line(student, ticket) + "\n")
        self._file.flush()

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)

    def _line(self, student: str, ticket: str) -> str:
        return f"{ticket} {json.dumps(student)}."  # a line that was cut off has no full stop
