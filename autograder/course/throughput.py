"""How fast a class is graded, beside nbgrader's own way: `python -m autograder.course.throughput`.

A scratch course gets a generated class (see `generate`), of which five in a hundred are hostile.
Measured are the whole autograde, its two halves, processor time and memory, for several sizes; and
in the same run nbgrader as it comes, with its `Execute`, on some honest submissions of that class:
half of them before ours and half after, so that a busy machine slows both. nbgrader runs visible
checks alone there, at the lesson's smallest size; ours runs all the hidden tests.
"""

import argparse
import contextlib
import json
import os
import platform
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import tqdm
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

from autograder.course import cycle, parallel
from autograder.course.batch import cores
from autograder.course.folder import Course, make_course
from autograder.course.generate import write_class
from autograder.lesson import Lesson, get_lesson

HONEST = ("solved", "right", "wrong", "half", "blank")
SAMPLE_SECONDS = 3.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m autograder.course.throughput")
    parser.add_argument("--lesson", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 200, 1000])
    parser.add_argument("--beside", type=int, default=200, help="the size nbgrader is beside")
    parser.add_argument("--sample", type=int, default=10, help="how many nbgrader grades")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    lesson, found = get_lesson(options.lesson), machine()
    found["lesson"] = lesson.number
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="t2i-class-") as folder:
            sample = options.sample if size == options.beside else 0
            found[str(size)] = measure(lesson, size, Path(folder), sample)
        print(json.dumps({size: found[str(size)]}, indent=1), flush=True)
        if options.json:
            text = json.dumps(found, indent=1, sort_keys=True) + "\n"
            options.json.write_text(text, encoding="utf-8")
    return 0


def measure(lesson: Lesson, size: int, folder: Path, sample: int = 0) -> dict:
    """Grade a generated class of `size` in a folder, and `sample` of its honest ones by nbgrader.

    Returns:
        seconds, processor time and memory; `ratio` is nbgrader's seconds for a submission
        divided by ours.
    """
    downloads = folder / "downloads"
    kinds = write_class(lesson, size, downloads)
    with cycle.isolated(folder):
        course = make_course(folder / "course", [lesson.number])
        course.release(lesson.number)
        course.collect(lesson.number, downloads)
        honest = [name for kind in HONEST for name in kinds if kinds[name] == kind]
        chosen = honest[:: max(1, len(honest) // sample)][:sample] if sample else []
        theirs = _nbgrader(lesson, folder, downloads, chosen)
        times = [*_timed(theirs, chosen[::2])]
        found = _ours(course, lesson)
        times += _timed(theirs, chosen[1::2])
        scores = course.scores(lesson.number)
    points = [sum(scores[name].values()) for name in kinds]
    found |= {"submissions": size, "mean points": round(sum(points) / size, 1)}
    found["of each kind"] = {kind: list(kinds.values()).count(kind) for kind in set(kinds.values())}
    found["seconds each"] = round(found["seconds"] / size, 3)
    found["processor seconds each"] = round(found["processor seconds"] / size, 3)
    if times:
        clock, processor = (sum(column) / len(times) for column in zip(*times, strict=True))
        found["nbgrader"] = {
            "submissions": len(times),
            "seconds each": round(clock, 2),
            "processor seconds each": round(processor, 2),
        }
        found["ratio"] = round(clock / found["seconds each"], 1)
        found["ratio of processor time"] = round(processor / found["processor seconds each"], 1)
    return found


def machine() -> dict:
    """Where this was measured."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {
        "cores": cores(),
        "processor": names[0] if names else platform.processor(),
        "memory in GB": round(psutil.virtual_memory().total / 2**30),
        "load before": round(os.getloadavg()[0], 2),
    }


def _ours(course: Course, lesson: Lesson) -> dict:
    before, start = _processor_time(), time.monotonic()
    with memory() as peak:
        work = parallel.work_of(course, lesson)
        parallel.fill(work)
        filled = time.monotonic()
        failures = parallel.write_gradebook(course, work, lesson)
    if failures:
        raise SystemExit("\n".join(failures))
    end = time.monotonic()
    return {
        "seconds": round(end - start, 1),
        "grading": round(filled - start, 1),
        "writing the gradebook": round(end - filled, 1),
        "processor seconds": round(_processor_time() - before, 1),
        "memory in MB": {
            "peak": max(peak),
            "first third": max(peak[: len(peak) // 3 + 1]),
            "last third": max(peak[-(len(peak) // 3 + 1) :]),
        },
        "flagged": len(course.flagged(lesson.number)),
    }


def _nbgrader(lesson: Lesson, folder: Path, downloads: Path, students: list[str]) -> NbGraderAPI:
    """A course as nbgrader makes one, with its own settings, and these students' submissions."""
    course = make_course(folder / "theirs", [lesson.number])
    course.release(lesson.number)
    for student in students:
        target = course.folder / "submitted" / student / lesson.slug / f"{lesson.slug}.ipynb"
        target.parent.mkdir(parents=True)
        target.write_bytes((downloads / f"{student}.ipynb").read_bytes())
    config = Config()
    config.CourseDirectory.root = str(course.folder)
    config.CourseDirectory.course_id = "theirs"
    config.Execute.timeout = config.Execute.startup_timeout = 900  # however busy the machine is
    directory = CourseDirectory(config=config, log=course.log)
    return NbGraderAPI(coursedir=directory, config=config, log=course.log)


def _timed(api: NbGraderAPI, students: list[str]) -> Iterator[tuple[float, float]]:
    """Of nbgrader's autograde for each student, one at a time: seconds by the clock, and of
    processor time."""
    (assignment,) = api.get_source_assignments()
    tier = os.environ.get("T2I_TIER")
    os.environ["T2I_TIER"] = "smoke"
    try:
        for student in tqdm.tqdm(students, "nbgrader's own"):
            start, before = time.monotonic(), _processor_time()
            done = api.autograde(assignment, student)
            if not done["success"]:
                raise SystemExit(f"nbgrader: {done.get('error') or done.get('log')}")
            yield time.monotonic() - start, _processor_time() - before
    finally:
        os.environ.pop("T2I_TIER") if tier is None else os.environ.update(T2I_TIER=tier)


@contextlib.contextmanager
def memory() -> Iterator[list[int]]:
    """MB that all our processes use together, every few seconds; shared pages count once."""
    found, stop = [0], threading.Event()

    def look() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            total = 0
            me = psutil.Process()
            for process in [me, *me.children(recursive=True)]:
                with contextlib.suppress(psutil.Error, OSError):
                    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                    total += int(text.partition("\nPss:")[2].split()[0])
            found.append(total // 1024)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def _processor_time() -> float:
    """Of this process and of all that it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)


if __name__ == "__main__":
    raise SystemExit(main())
