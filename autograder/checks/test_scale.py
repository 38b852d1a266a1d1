"""Grading a class: a cache by content, a batch that survives anything, a cluster, one pass."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import submitit
import tqdm

from autograder.build import build
from autograder.cells import UnreadableNotebook
from autograder.course import batch, cluster, generate, kept, parallel
from autograder.course.cache import Cache
from autograder.course.forked import reference
from autograder.course.rebuild import rebuild, to_bytes
from autograder.course.work import Work
from autograder.grader import ExerciseResult, Result, grade
from autograder.lesson import LESSONS, get_lesson
from autograder.process import Worker

LESSON = get_lesson(1)


def a_result(points=40):
    row = ExerciseResult("linear_betas", points, 40, "passed", "Right.", 0.1, waits_for=("snr",))
    return Result(1, points, 100, "version", 7, "bubblewrap", (row,))


@pytest.fixture
def cache(tmp_path, tiny):
    return Cache(tmp_path / "results", tiny, 7, "bubblewrap")


@pytest.fixture
def work(tmp_path):
    """Twelve small files of a class, and nothing graded."""
    (tmp_path / "files").mkdir()
    (tmp_path / "released.ipynb").write_text("{}")
    files = [tmp_path / "files" / f"{number:02}.ipynb" for number in range(12)]
    for number, path in enumerate(files):
        path.write_text(f'{{"cells": [], "number": {number}}}')
    names = tuple(map(str, files))
    return Work(1, 7, str(tmp_path / "results"), str(tmp_path / "released.ipynb"), names, jobs=2)


# The cache


def test_a_result_comes_back_as_it_was(cache):
    key = cache.key(b"notebook")
    assert cache.get(key) is None
    cache.put(key, a_result())
    assert cache.get(key) == a_result()
    assert [path.suffix for path in cache.folder.rglob("*.*")] == [".json"]


def test_everything_that_a_result_depends_on_changes_its_name(cache, tiny, monkeypatch):
    names = [cache.key(b"notebook"), cache.key(b"another"), replace(cache, seed=8).key(b"notebook")]
    names.append(replace(cache, mode="plain").key(b"notebook"))
    text = tiny.hidden_tests.read_text()
    try:
        tiny.hidden_tests.write_text(text + "\n# a stricter test\n")
        names.append(replace(cache).key(b"notebook"))
    finally:
        tiny.hidden_tests.write_text(text)
    assert len(set(names)) == 5
    assert replace(cache).key(b"notebook") == names[0]


@pytest.mark.parametrize("harm", ["cut", "altered", "empty", "renamed"])
def test_a_damaged_entry_counts_as_absent(cache, harm):
    key = cache.key(b"notebook")
    cache.put(key, a_result())
    (path,) = cache.folder.rglob("*.json")
    text = path.read_text()
    harmed = {"cut": text[:-30], "altered": text.replace('"points": 40', '"points": 99')}
    path.write_text(harmed.get(harm, "") if harm != "renamed" else text)
    if harm == "renamed":
        key = cache.key(b"another")
        path.rename(path.with_name(f"{key}.json"))
    assert harm in ("empty", "renamed") or harmed[harm] != text
    assert cache.get(key) is None
    cache.put(key, a_result())
    assert cache.get(key) == a_result()


def test_what_is_in_the_cache_is_not_graded_again(cache, monkeypatch):
    cache.put(cache.key(b"notebook"), a_result())
    monkeypatch.setattr(kept, "grade", None)
    assert kept.graded(b"notebook", cache) == a_result()
    with pytest.raises(TypeError):
        kept.graded(b"another", cache)


def test_a_file_is_settled_as_long_as_its_result_is_there(cache):
    ticket, key = cache.ticket(b"file", b"released"), cache.key(b"notebook")
    cache.settle(ticket, key)
    assert not cache.is_settled(ticket)
    cache.put(key, a_result())
    assert cache.is_settled(ticket)
    assert not cache.is_settled(cache.ticket(b"file", b"released anew"))
    cache.settle(ticket, None, "its process ended")
    assert not cache.is_settled(ticket) and "ended" in cache.problem(ticket)


# The pool of forks


class Fake:
    """Settles a file without grading; some files fail. Leaves a line for each try in a log."""

    def __init__(self, work, log, seconds=0.0, bad=None):
        self.cache, self.log, self.seconds, self.bad = work.cache(), log, seconds, bad or {}

    def grade(self, file, ticket):
        with open(self.log, "a") as log:
            log.write(Path(file).stem + "\n")
        time.sleep(self.seconds)
        what = self.bad.get(Path(file).stem)
        if what == "hangs":
            time.sleep(1000)
        if what == "dies" or (what == "dies once" and self.log.read_text().count("03") == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "raises":
            self.cache.settle(ticket, None, "LessonError: out of order")
            return 1
        self.cache.settle(ticket, None)
        return 0


def pool(work, log, **settings):
    with tqdm.tqdm(total=len(work.files), disable=True) as bar:
        batch.Pool(work, Fake(work, log, **settings), bar).run(work.pending())


def test_what_ends_a_grader_is_tried_twice_then_flagged_and_the_rest_goes_on(work, tmp_path):
    bad = {"01": "dies", "03": "dies once", "05": "raises", "07": "hangs"}
    pool(replace(work, seconds=6.0), tmp_path / "log", bad=bad)
    tries = (tmp_path / "log").read_text().split()
    assert {name for name in tries if tries.count(name) == 2} == set(bad)
    assert len(tries) == 12 + len(bad)
    cache, problems = work.cache(), {}
    for file, ticket in work.tickets():
        if not cache.is_settled(ticket):
            problems[Path(file).stem] = cache.problem(ticket)
    assert set(problems) == {"01", "05", "07"}
    assert "SIGKILL" in problems["01"] and "out of order" in problems["05"]
    assert "not through" in problems["07"]


def test_one_that_hangs_does_not_keep_others_from_starting(work, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "SLOW_SECONDS", 0.2)
    bad = {"00": "hangs", "01": "hangs"}
    pool(replace(work, jobs=1, seconds=6.0), tmp_path / "log", bad=bad)
    tries = (tmp_path / "log").read_text().split()
    assert tries.index("11") < len(tries) - 1 - tries[::-1].index("00")


def test_equal_files_are_graded_once(work, tmp_path):
    Path(work.files[1]).write_bytes(Path(work.files[0]).read_bytes())
    pool(work, tmp_path / "log")
    assert len((tmp_path / "log").read_text().split()) == 11
    assert work.pending() == {}


INTERRUPTED = """
import sys
sys.path.insert(0, {here!r})
import test_scale
from pathlib import Path
work = test_scale.Work.read({work!r})
test_scale.pool(work, Path({log!r}), seconds=0.15)
"""


@pytest.mark.thorough
def test_a_killed_batch_goes_on_where_it_stopped(work, tmp_path):
    path, log = work.write(tmp_path / "work.json"), tmp_path / "log"
    script = INTERRUPTED.format(here=str(Path(__file__).parent), work=str(path), log=str(log))
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    deadline = time.monotonic() + 120
    while len(work.pending()) > 8:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.3)  # its forks die with it: nothing goes on in the background
    left, tried = work.pending(), log.read_text().split()
    time.sleep(0.3)
    assert left and work.pending() == left
    pool(work, log)
    assert work.pending() == {}
    again = log.read_text().split()[len(tried) :]
    assert sorted(again) == sorted(Path(file).stem for file in left)
    assert len(set(tried) & set(again)) <= work.jobs  # those that it was at


# The whole batch


def kinds_of(everything):
    lessons = LESSONS if everything else (LESSON,)
    return [(lesson, everything) for lesson in lessons]


def pytest_generate_tests(metafunc):
    if "whole" in metafunc.fixturenames:
        everything = metafunc.config.getoption("--all", False)
        cases = kinds_of(everything)
        metafunc.parametrize("whole", cases, ids=[lesson.slug for lesson, _ in cases])


def mixed(lesson, everything):
    """{name: bytes}: the reference, blank, wrong, right, hostile and unreadable ones."""
    maker = generate.Maker(lesson, seed=3)
    counts = {"solved": 1, "blank": 1, "half": 1, "wrong": 1, "right": 1, "unreadable": 2}
    if everything:
        counts |= {"wrong": 12, "right": 4}
    found = {f"{kind}{n}": maker.make(kind, n) for kind in counts for n in range(counts[kind])}
    quick = ("ends", "crashes", "kills", "equals", "patches", "writes")
    names = sorted(generate.HOSTILE) if everything and lesson.number == 1 else quick[:2]
    for name in names:
        found[name] = json.dumps(maker._attacked(generate.HOSTILE[name])).encode()
    return found


def test_the_batch_gives_what_grade_gives(whole, tmp_path):
    lesson, everything = whole
    released, submissions = build(lesson)[1], mixed(lesson, everything)
    (tmp_path / "released.ipynb").write_text(nbformat.writes(released))
    for name, content in submissions.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
    work = Work(
        lesson=lesson.number,
        seed=99,
        results=str(tmp_path / "results"),
        released=str(tmp_path / "released.ipynb"),
        files=tuple(str(tmp_path / f"{name}.txt") for name in submissions),
        trust=True,
    )
    parallel.fill(work)
    assert work.pending() == {}
    cache, statuses = work.cache(), set()
    with Worker(lesson) as worker:
        for content in submissions.values():
            try:
                notebook = to_bytes(rebuild(content, lesson, released))
            except UnreadableNotebook:
                continue
            found = cache.get(cache.key(notebook))
            expected = grade(notebook, lesson, seed=99, worker=worker, pictures=True)
            assert without_seconds(found) == without_seconds(expected)
            statuses |= {row.status for row in found.exercises}
    assert {"passed", "failed", "crashed"} <= statuses


def without_seconds(result):
    """A result without its times, and without shares: an answer may draw from its own chance."""
    rows = [
        replace(row, seconds=0.0, message=re.sub(r"\d+% of", "some of", row.message))
        for row in result.exercises
    ]
    return replace(result, exercises=tuple(rows))


def test_a_settled_class_starts_nothing(work, tmp_path, monkeypatch):
    pool(work, tmp_path / "log")
    monkeypatch.setattr(parallel.subprocess, "run", None)
    parallel.fill(replace(work, trust=True))


def test_a_batch_whose_process_ends_twice_flags_what_is_left(work, monkeypatch):
    calls = []
    killed = SimpleNamespace(returncode=-9, stdout=b"")
    monkeypatch.setattr(parallel.subprocess, "run", lambda *a, **k: calls.append(a) or killed)
    parallel.fill(replace(work, trust=True))
    assert len(calls) == 2
    problems = [work.cache().problem(ticket) for _, ticket in work.tickets()]
    assert all("status -9" in problem for problem in problems)


def test_a_machine_that_cannot_grade_fails_nobody(work, monkeypatch):
    said = b"Nothing was graded: the reference of lesson 1 gets 90 of 100 points on this machine."
    broken = SimpleNamespace(returncode=2, stdout=said)
    monkeypatch.setattr(parallel.subprocess, "run", lambda *a, **k: broken)
    with pytest.raises(parallel.NothingGraded, match="90 of 100"):
        parallel.fill(replace(work, trust=True))
    assert len(work.pending()) == 12
    assert all(work.cache().problem(ticket) is None for _, ticket in work.tickets())


@pytest.mark.parametrize(
    "lesson",
    [
        pytest.param(each, id=each.slug, marks=[] if each.number == 4 else pytest.mark.thorough)
        for each in LESSONS
    ],
)
def test_the_reference_that_a_batch_begins_with_is_right(lesson):
    result = grade(reference(lesson), lesson, seed=5)
    assert result.score == 100, [row.message for row in result.exercises if not row.points]


# The serial pass


class FakeCourse:
    """A course whose nbgrader only notes whom it is asked to write, and may be killed."""

    def __init__(self, folder, count=5):
        self.folder, self.config = folder, {"late": None}
        self.written, self.dies_at, self.fails = [], None, set()
        self.api = SimpleNamespace(
            coursedir=SimpleNamespace(submitted_directory="submitted"), autograde=self._autograde
        )
        for number in range(count):
            path = folder / "submitted" / f"s{number}" / LESSON.slug / f"{LESSON.slug}.ipynb"
            path.parent.mkdir(parents=True)
            path.write_text(f"{{{number}}}")

    def _autograde(self, slug, student):
        if len(self.written) == self.dies_at:
            raise KeyboardInterrupt
        self.written.append(student)
        failed = student in self.fails
        return {"success": not failed, "error": f"{student} failed" if failed else ""}

    def work(self, tmp_path):
        files = parallel.submitted(self, LESSON.slug).values()
        (tmp_path / "released.ipynb").write_text("{}")
        results = str(tmp_path / "results")
        names = tuple(map(str, files))
        return Work(1, 7, results, str(tmp_path / "released.ipynb"), names)


@pytest.fixture
def course(tmp_path):
    return FakeCourse(tmp_path / "course")


def interrupt(course, tmp_path, at=3):
    course.dies_at = at
    with pytest.raises(KeyboardInterrupt):
        parallel.write_gradebook(course, course.work(tmp_path), LESSON)
    course.dies_at = None
    first, course.written = course.written, []
    return first


def test_an_interrupted_pass_goes_on_where_it_stopped(course, tmp_path):
    first = interrupt(course, tmp_path)
    assert parallel.write_gradebook(course, course.work(tmp_path), LESSON) == []
    assert [*first, *course.written] == ["s0", "s1", "s2", "s3", "s4"]
    course.written = []
    parallel.write_gradebook(course, course.work(tmp_path), LESSON)  # a new pass writes everybody
    assert len(course.written) == 5


def test_a_submission_that_changed_meanwhile_is_written_again(course, tmp_path):
    first = interrupt(course, tmp_path)
    parallel.submitted(course, LESSON.slug)[first[0]].write_text("{new}")
    parallel.write_gradebook(course, course.work(tmp_path), LESSON)
    assert course.written == [first[0], "s3", "s4"]


def test_a_pass_under_other_settings_starts_anew(course, tmp_path):
    interrupt(course, tmp_path)
    course.config = {"late": "zero"}
    parallel.write_gradebook(course, course.work(tmp_path), LESSON)
    assert len(course.written) == 5


def test_a_line_that_was_cut_off_does_not_count(course, tmp_path):
    interrupt(course, tmp_path)
    (path,) = (tmp_path / "results").rglob("journal.txt")
    path.write_text(path.read_text().rstrip()[:-2])
    parallel.write_gradebook(course, course.work(tmp_path), LESSON)
    assert course.written == ["s2", "s3", "s4"]


def test_whom_nbgrader_cannot_write_is_told_and_the_others_are_written(course, tmp_path):
    course.fails = {"s1"}
    assert parallel.write_gradebook(course, course.work(tmp_path), LESSON) == ["s1 failed"]
    course.fails, course.written = set(), []
    parallel.write_gradebook(course, course.work(tmp_path), LESSON)
    assert course.written == ["s1"]


# Many machines


@pytest.fixture
def executor(tmp_path):
    made = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="local")
    made.update_parameters(timeout_min=5)
    return made


def settling(then="", first_only=True):
    """What a job runs in these tests: settles its files, after having done something else."""
    code = textwrap.dedent(then)

    def function(path):
        import os  # noqa: F401  for `then`
        import signal  # noqa: F401
        import time  # noqa: F401

        from autograder.course.work import Work

        work = Work.read(path)
        for number, (_, ticket) in enumerate(work.tickets()):
            if number == 1 and ("-1-" in path or not first_only):
                exec(code)
            work.cache().settle(ticket, None)

    return function


def fill(work, executor, function, patience=300.0, part=12):
    cluster.fill(work, executor, part=part, patience=patience, function=function, poll=0.1)


@pytest.mark.thorough
def test_jobs_get_paths_and_settle_a_class(work, executor, tmp_path):
    fill(work, executor, settling(), part=6)
    assert work.pending() == {}
    listed = [Work.read(path) for path in sorted((tmp_path / "results" / "jobs").glob("*.json"))]
    assert [len(each.files) for each in listed] == [6, 6]
    assert not list((tmp_path / "results").rglob("*.tmp"))


@pytest.mark.thorough
def test_a_job_that_dies_is_done_by_another(work, executor):
    fill(work, executor, settling("os.kill(os.getpid(), signal.SIGKILL)"))
    assert work.pending() == {}


@pytest.mark.thorough
def test_jobs_that_always_die_keep_what_they_did_and_flag_the_rest(work, executor):
    fill(work, executor, settling("raise MemoryError('no room')", first_only=False))
    cache = work.cache()
    problems = [cache.problem(ticket) for ticket in work.pending().values()]
    assert len(problems) == 10  # each of two jobs settled one file before it died
    assert all("no job on the cluster graded it" in problem for problem in problems)
    assert all("no room" in problem for problem in problems)


@pytest.mark.thorough
def test_a_machine_that_never_answers_is_given_up(work, executor):
    fill(work, executor, settling("time.sleep(600)"), patience=20.0)
    assert work.pending() == {}


def test_a_cluster_that_takes_no_job_fails_nobody(work, monkeypatch):
    class Refuses:
        def map_array(self, *arguments):
            raise submitit.core.utils.FailedJobError("sbatch: error: invalid partition")

    monkeypatch.setattr(cluster.time, "sleep", lambda seconds: None)
    with pytest.raises(parallel.NothingGraded, match="invalid partition"):
        fill(work, Refuses(), settling())
    assert len(work.pending()) == 12
    assert all(work.cache().problem(ticket) is None for _, ticket in work.tickets())


def test_slurms_settings_are_submitits_own(tmp_path, monkeypatch):
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    executor = cluster.slurm(tmp_path, slurm_partition="cpu", cpus_per_task=4)
    text = executor._executor._make_submission_file_text("run", "id")
    assert "--partition=cpu" in text and "--cpus-per-task=4" in text


# A generated class


def test_a_generated_class_is_mixed_and_no_file_is_there_twice():
    made = list(generate.class_of(LESSON, 40, seed=1))
    kinds = [each.kind for each in made]
    assert kinds.count("hostile") == 2 and set(kinds) == set(generate.KINDS)
    readable = [each.content for each in made if each.kind != "unreadable"]
    assert len(set(readable)) == len(readable)
    assert [each.content for each in generate.class_of(LESSON, 40, seed=1)] == [
        each.content for each in made
    ]
