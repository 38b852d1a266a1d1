"""Ordinary mishaps, each in both routes: see autograder/tests/mishaps."""

import json
import re

import pytest

from autograder import sandbox
from autograder.course import cycle
from autograder.course.folder import make_course
from autograder.grader import grade
from autograder.process import Worker
from autograder.tests.mishaps import LESSON, RIGHT, begun, corpus

ALL = corpus()
QUICK = [mishap for mishap in ALL if mishap.quick]
SLUG = LESSON.slug


@pytest.fixture(scope="module")
def worker():
    with Worker(LESSON) as worker:
        yield worker


@pytest.mark.parametrize(
    "mishap",
    [pytest.param(m, id=m.name, marks=[] if m.quick else pytest.mark.thorough) for m in ALL],
)
def test_mishap_gets_what_it_deserves(mishap, worker):
    result = grade(mishap.notebook(), LESSON, worker=worker)
    assert (result.score, bool(result.problem)) == (mishap.score, mishap.flagged)
    said = [result.problem or "", *(each.message for each in result.exercises)]
    assert re.search(mishap.says, "\n".join(said))
    assert all(text.count("\n") <= 2 and len(text) < 1000 for text in said)


@pytest.mark.parametrize(
    "mishaps",
    [
        pytest.param(QUICK, id="quick"),
        pytest.param([m for m in ALL if not m.quick], id="all", marks=pytest.mark.thorough),
    ],
)
def test_a_class_of_mishaps(mishaps, tmp_path):
    """All of them in one run of nbgrader, and what happens to names beside them."""
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    for mishap in mishaps:
        (downloads / f"{mishap.name}.ipynb").write_bytes(mishap.notebook())
    whole = json.dumps(begun())
    (downloads / "renamed").mkdir()
    (downloads / "renamed" / "lesson (1).ipynb").write_text(whole)
    (downloads / "Ünal Çelik" / "extra" / ".ipynb_checkpoints").mkdir(parents=True)
    (downloads / "Ünal Çelik" / f"{SLUG}.ipynb").write_text(whole)
    (downloads / "Ünal Çelik" / "extra" / "scratch.ipynb").write_text('{"cells": []}')
    (downloads / "Ünal Çelik" / "extra" / ".ipynb_checkpoints" / "x.ipynb").write_text("")
    with cycle.isolated(tmp_path):
        trust = not sandbox.detect().is_sandbox
        course = make_course(tmp_path / "course", [1], trust_submissions=trust)
        course.release(1)
        found = course.collect(1, downloads)
        assert len(found.copies) == len(mishaps) + 2
        course.autograde(1)
        points = {name: sum(scores.values()) for name, scores in course.scores(1).items()}
        flags = course.flagged(1)
    assert points == {m.name: m.score for m in mishaps} | {"renamed": RIGHT, "Ünal_Çelik": RIGHT}
    assert flags.keys() == {m.name for m in mishaps if m.flagged}
    for mishap in mishaps:
        if mishap.flagged:
            assert re.search(f"could not be graded: .*{mishap.says}", flags[mishap.name])


def test_the_corpus_is_large_enough_and_every_mishap_is_told_apart():
    names = [mishap.name for mishap in ALL]
    assert len(names) == len(set(names)) >= 40
    assert all(mishap.happened for mishap in ALL)
    assert len(QUICK) >= 5
