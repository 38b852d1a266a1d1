"""Attacks on the grader, each in both routes: see autograder/tests/attacks."""

import re
import zipfile

import pytest

from autograder import sandbox
from autograder.course.collect import collect
from autograder.grader import PUBLIC_SEED, grade
from autograder.lesson import get_lesson
from autograder.process import Worker
from autograder.tests.attacks import CATEGORIES, corpus, hand_in, runner

ALL = corpus()
QUICK = [attack for attack in ALL if attack.quick]
BATCH = 12  # attackers in one class
SMALL_CLASS = ("patched-comparisons", "reads-files", "script-in-an-error")
needs_sandbox = pytest.mark.skipif(
    not sandbox.detect().is_sandbox, reason=f"attacks need the sandbox: {sandbox.detect()}"
)


@pytest.fixture(scope="module")
def grading(tmp_path_factory):
    """A place to attack, and one worker a lesson that all of them share."""
    folder, workers = tmp_path_factory.mktemp("attacked"), {}

    def worker(lesson: int) -> Worker:
        if lesson not in workers:
            workers[lesson] = Worker(get_lesson(lesson))
        return workers[lesson]

    with hand_in.place(folder) as where:
        where.course.mkdir()
        yield where, folder / "submitted", worker
    for each in workers.values():
        each.close()


def batches():
    """Classes of attackers, as parameters: a small one, and thorough ones of all others."""
    first = [attack for attack in QUICK if attack.name in SMALL_CLASS]
    yield pytest.param(first, id="small")
    others = [attack for attack in ALL if attack not in first]
    for category in CATEGORIES:
        for lesson in sorted({attack.lesson for attack in others}):
            some = [a for a in others if (a.category, a.lesson) == (category, lesson)]
            for start in range(0, len(some), BATCH):
                name = f"{category}-{lesson}-{start // BATCH}"
                part = some[start : start + BATCH]
                yield pytest.param(part, id=name, marks=pytest.mark.thorough)


@needs_sandbox
@pytest.mark.parametrize(
    "attack",
    [pytest.param(a, id=a.name, marks=[] if a.quick else pytest.mark.thorough) for a in ALL],
)
def test_attack_on_grade(attack, grading):
    where, folder, worker = grading
    assert runner.by_grade(attack, where, folder, worker(attack.lesson)) == []


@needs_sandbox
@pytest.mark.parametrize("attacks", list(batches()))
def test_attack_on_a_class(attacks, tmp_path):
    assert runner.by_class(attacks, tmp_path) == []


@needs_sandbox
def test_public_seed_is_no_secret_and_a_private_one_is(grading):
    attack = next(attack for attack in ALL if attack.name == "remembers-the-public-seed")
    where, _, worker = grading
    notebook = hand_in.notebook(attack, where)
    scores = [grade(notebook, 1, seed, worker=worker(1)).score for seed in (PUBLIC_SEED, 4711)]
    assert scores == [20, 10]


NAMES = (
    "<img src=x onerror=alert(1)>",
    "..",
    "..%2f..%2fevil",
    "*",
    "[a-z]",
    "-rf",
    "a\nb",
    "$(id)",
)


def test_file_names_lead_nowhere_and_hold_no_markup(tmp_path):
    downloads, course = tmp_path / "downloads", tmp_path / "course"
    downloads.mkdir()
    for name in NAMES:
        (downloads / f"{name}.ipynb").write_bytes(b"{}")
    with zipfile.ZipFile(downloads / "more.zip", "w") as archive:
        for name in ("../../../evil.ipynb", "/etc/evil.ipynb", "a/../../b.ipynb", "C:\\evil.ipynb"):
            archive.writestr(name, b"{}")
    before = {path for path in tmp_path.rglob("*") if downloads in path.parents}
    collect(course, get_lesson(1), downloads)
    for path in set(tmp_path.rglob("*")) - before - {downloads, course}:
        assert course in path.parents
    for student in (course / "submitted").iterdir():
        assert re.fullmatch(r"\w[\w.@-]*", student.name), student


def test_corpus_is_large_enough_and_every_attack_is_told_apart():
    names = [attack.name for attack in ALL]
    assert len(names) == len(set(names)) >= 60
    assert {attack.category for attack in ALL} == set(CATEGORIES)
    assert len(QUICK) >= len(ALL) / 10
