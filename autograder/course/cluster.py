"""Grading a class on many machines: Slurm job arrays, submitted by submitit.

Each job gets one thing, the path of a work file (see `work`), and grades what that lists into the
cache of the course, which lies on a disk that all machines share. What a job did before it died is
kept; what it did not do goes into a new array once more, and what is missing then is flagged for a
person. A job that runs and settles nothing for a long time counts as dead: should its machine wake
up again, it can only write results that are right.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tqdm

from autograder.course.cache import FOLDER, Cache
from autograder.course.parallel import TRIES, NothingGraded
from autograder.course.work import Work

PART = 50  # submissions to a job: a minute of work, beside some seconds of loading torch
PATIENCE = 3600.0  # seconds that a running job may settle nothing
POLL_SECONDS = 5.0
WAITING = ("PENDING", "REQUEUED", "READY")  # a job that waits for a machine is not late
GIVEN_UP = "no job on the cluster graded it: {}"


def grade_part(path: str) -> None:
    """What a job runs, on its machine: grade what a work file lists.

    Raises:
        RuntimeError: the machine cannot grade, or its process ended.
    """
    command = [sys.executable, "-m", "autograder.course.batch", path]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=os.environ | threads, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()
        raise RuntimeError(said or f"the batch ended with status {done.returncode}")


def slurm(folder: Path, **parameters):
    """submitit's executor for Slurm.

    Args:
        folder: for scripts and logs; all machines must see it.
        parameters: as `submitit.AutoExecutor.update_parameters` takes them: cpus_per_task,
            timeout_min, mem_gb, slurm_partition, slurm_array_parallelism, …
    """
    import submitit

    executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
    executor.update_parameters(**{"name": "t2i-grade", "timeout_min": 120} | parameters)
    return executor


def filler(course: Path, options: Iterable[str]) -> Callable[[Work], None]:
    """What grades a work on Slurm, for `Course.autograde`.

    Args:
        course: the course's folder, on a disk that all machines share.
        options: "name=value" for `slurm`; numbers are read as such.
    """
    settings = dict(option.partition("=")[::2] for option in options)
    numbers = {name: int(value) for name, value in settings.items() if value.isdecimal()}
    return lambda work: fill(work, slurm(course / FOLDER / "jobs", **settings | numbers))


@dataclass
class Part:
    """One job of an array, and when it last got on."""

    job: object
    open: list[str]  # the tickets of what it has not settled yet
    heard: float


def fill(
    work: Work,
    executor,
    part: int = PART,
    patience: float = PATIENCE,
    function: Callable[[str], None] = grade_part,
    poll: float = POLL_SECONDS,
) -> None:
    """Settle every file of a work by arrays of jobs; what two arrays leave open is flagged.

    Args:
        work: what is to be graded.
        executor: a submitit executor.
        part: how many submissions a job gets.
        patience: seconds that a running job may settle nothing.
        function: what a job runs, given the path of its work file.
        poll: seconds between two looks.

    Raises:
        NothingGraded: the cluster takes no job, or no job could grade anything.
    """
    reason, total = "", len(work.files)
    for number in range(1, TRIES + 1):
        pending = work.pending()
        if not pending:
            return
        parts = _submit(work, pending, executor, part, function, number)
        with tqdm.tqdm(total=total, initial=total - len(pending), desc=f"array {number}") as bar:
            for why in _watch(parts, work.cache(), patience, poll, bar):
                reason = why
    missing = work.pending()
    if len(missing) == total and total:
        raise NothingGraded(f"The cluster graded nothing: {reason}")
    cache = work.cache()
    for ticket in missing.values():
        cache.settle(ticket, None, GIVEN_UP.format(reason))


def _submit(
    work: Work, pending: dict[str, str], executor, size: int, function: Callable, number: int
) -> list[Part]:
    """One array for all files, a job for each `size` of them."""
    files = list(pending)
    shares = [files[first : first + size] for first in range(0, len(files), size)]
    folder = Path(work.results, "jobs")
    paths = [
        str(work.with_files(share).write(folder / f"{os.getpid()}-{number}-{index}.json"))
        for index, share in enumerate(shares)
    ]
    for last in (False, True):
        try:
            jobs = executor.map_array(function, paths)
            break
        except Exception as error:  # whatever sbatch or the shared disk does
            if last:
                raise NothingGraded(f"The cluster takes no job: {error}") from error
            time.sleep(2)
    now = time.monotonic()
    return [
        Part(job, [pending[file] for file in share], now)
        for job, share in zip(jobs, shares, strict=True)
    ]


def _watch(parts: list[Part], cache: Cache, patience: float, poll: float, bar) -> Iterator[str]:
    """Wait until every job has ended or is given up; yields why some of them failed."""
    while parts:
        time.sleep(poll)
        for part in list(parts):
            ended = part.job.done()  # before we look at what it has done
            left, now = [each for each in part.open if not cache.is_settled(each)], time.monotonic()
            if len(left) < len(part.open):
                bar.update(len(part.open) - len(left))
            if len(left) < len(part.open) or part.job.state.upper() in WAITING:
                part.heard = now
            part.open = left
            silent = now - part.heard > patience
            if not left or ended or silent:
                parts.remove(part)
            if left and ended:
                yield _why(part.job)
            elif left and silent:
                part.job.cancel(check=False)
                yield f"its machine did not answer for {patience:.0f} s"


def _why(job) -> str:
    try:
        error = job.exception()
    except Exception as unreadable:  # a log that is not there
        error = unreadable
    lines = str(error or "it left some out").strip().splitlines()
    said = [line for line in lines if re.match(r"\w*(Error|Exception)\b", line)] or lines
    return f"job {job.job_id}: {said[-1][:300]}"  # submitit tells where its logs lie below that
