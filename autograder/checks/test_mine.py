"""The learner's own package, from what passed; and the record that it is made of."""

import io
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from rich.console import Console

from autograder import mine, own, progress, splice
from autograder.checks import fake_lesson
from autograder.lesson import Lesson
from autograder.splice import SpliceError

SCHEDULES = '''\
"""Lesson 1."""

import math

LIMIT = 5


def first(x):
    """One."""
    return x + 1


def second(x):
    return first(x) * 2


def plus(x):
    return _private(x)


def _private(x):
    return math.floor(x) + LIMIT
'''
DIFFUSION = '''\
"""Lesson 2."""

from t2i.schedules import first


class Box:
    """A box."""

    size = 3

    def add(self, x):
        return first(x) + self.size
'''
DIRECTIVES = """
# %%
#| exercise: {target}
#| points: {points}
#| difficulty: 1
#| minutes: 1
#| hint: none
"""


@pytest.fixture
def package(tmp_path) -> Path:
    folder = tmp_path / "reference" / "t2i"
    folder.mkdir(parents=True)
    folder.joinpath("__init__.py").write_text("")
    folder.joinpath("schedules.py").write_text(SCHEDULES)
    folder.joinpath("diffusion.py").write_text(DIFFUSION)
    return folder


@pytest.fixture
def lessons(tmp_path) -> tuple[Lesson, ...]:
    points = {"schedules.first": 60, "schedules.second": 40, "diffusion.Box.add": 100}
    cells = {
        target: DIRECTIVES.format(target=target, points=worth) for target, worth in points.items()
    }
    one = cells["schedules.first"] + cells["schedules.second"]
    return (
        fake_lesson.make(tmp_path / "one", one, 1, "one", "schedules"),
        fake_lesson.make(tmp_path / "two", cells["diffusion.Box.add"], 2, "two", "diffusion"),
        fake_lesson.make(tmp_path / "none", "", 3, "none", "samplers"),
    )


@pytest.fixture
def space(tmp_path, package, lessons):
    """record(lesson, passed names, cells) and assemble(), in the test's folders."""
    lessons[2].source.unlink()
    folders = {"results": tmp_path / "results", "package": package, "lessons": lessons}
    target = tmp_path / "mine"

    class Space:
        def record(self, number: int, passed: list[str], *cells: str, names=None) -> Path:
            lesson = lessons[number - 1]
            rows = []
            for exercise in lesson.exercises:
                if names is None or exercise.name in names:
                    right = exercise.name in passed
                    rows.append(
                        {
                            "name": exercise.name,
                            "status": "passed" if right else "failed",
                            "points": exercise.points if right else 0,
                            "maximum": exercise.points,
                            "message": "",
                        }
                    )
            made = [{"cell_type": "code", "metadata": {}, "source": each} for each in cells]
            notebook = json.dumps({"cells": made, "metadata": {}, "nbformat": 4}).encode()
            result = {"exercises": rows, "suite_version": "0"}
            return progress.record(lesson, notebook, result, folders["results"])

        def assemble(self):
            return {share.lesson.number: share for share in mine.assemble(target, **folders)}

        def own_modules(self, before: int):
            return mine.own_modules(before, target, **folders)

        def run(self, code: str) -> str:
            run = subprocess.run(
                [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(target)!r}); {code}"],
                capture_output=True,
                text=True,
            )
            assert run.returncode == 0, run.stderr
            return run.stdout.strip()

    Space.target, Space.results = target, folders["results"]
    return Space()


def test_what_passed_takes_the_references_place_and_runs(space):
    cells = (
        "import math\nimport statistics as st\nUNUSED = 3\nFACTOR = 10",
        "def helper(x):\n    # mine\n    return st.mean([x, x]) * FACTOR",
        "def first(x):\n    return helper(x)",
        "def second(x):\n    return first(x) + 0.5",
        "raise RuntimeError('training cells never run')",
    )
    space.record(1, ["first"], *cells)
    share = space.assemble()[1]
    assert share.own == ["first"] and share.reference == ["second"] and not share.complete
    text = space.target.joinpath("t2i", "schedules.py").read_text()
    assert "# mine" in text and "UNUSED" not in text and "+ 0.5" not in text
    assert text.count("import math") == 1 and "import statistics as st" in text
    code = "from t2i import schedules, diffusion; print(schedules.__file__); "
    out = space.run(code + "print(schedules.second(2), diffusion.Box().add(2))").split("\n")
    assert out[0] == str(space.target / "t2i" / "schedules.py") and out[1] == "40 23"


def test_a_method_comes_with_its_whole_class(space):
    space.record(
        2,
        ["Box.add"],
        "from t2i.schedules import first",
        "class Box:\n    size = 4\n    def add(self, x):\n        return first(x) * self.size",
    )
    assert space.assemble()[2].complete
    assert space.run("from t2i.diffusion import Box; print(Box().add(1))") == "8"


def test_a_definition_that_breaks_the_import_is_named_and_left_out(space):
    broken = "import no_such_package\n\ndef second(x, y=no_such_package.z):\n    return x"
    space.record(1, ["first", "second"], broken, "def first(x):\n    return 7")
    share = space.assemble()[1]
    assert share.own == ["first"] and share.reference == ["second"]
    assert "no_such_package" in share.left_out["second"]
    assert space.run("from t2i.schedules import second; print(second(1))") == "14"


def test_an_import_that_kills_the_process_is_left_out_too(space):
    deadly = "import os\n\ndef first(x, y=os._exit(9)):\n    return x"
    space.record(1, ["first"], deadly)
    assert "exit 9" in space.assemble()[1].left_out["first"]


def test_assembling_again_replaces_what_stood_there(space):
    space.record(1, ["first"], "def first(x):\n    return 100")
    space.assemble()
    space.target.joinpath("t2i", "stray.py").write_text("")
    space.record(1, [], "def first(x):\n    return 100")
    assert space.assemble()[1].own == []
    assert space.target.joinpath("t2i", "schedules.py").read_text() == SCHEDULES
    left = sorted(path.name for path in space.target.rglob("*") if "__pycache__" not in str(path))
    assert left == ["__init__.py", "diffusion.py", "own.json", "schedules.py", "t2i"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("LIMIT = 50\ndef first(x):\n    return x + LIMIT", "51 6"),
        ("def plus(x):\n    return x\ndef first(x):\n    return plus(x) + plus(x)", "2 6"),
        ("from math import ceil as math\ndef first(x):\n    return math(x)", "1 6"),
        (
            "import numbers as math\ndef first(x):\n    return +isinstance(x, math.Real)",
            "1 6",
        ),
        ("from t2i.schedules import plus\ndef first(x):\n    return plus(x)", "6 6"),
        ("from t2i.schedules import plus as p\ndef first(x):\n    return p(x) + 1", "7 6"),
        ("import math\nLIMIT = 5  # same\ndef first(x):\n    return math.ceil(x) + LIMIT", "6 6"),
    ],
)
def test_a_learners_helper_never_changes_the_references_code(source: str, expected: str):
    fitted = own.fit(SCHEDULES, "t2i.schedules", "first", source)
    check = f"{fitted}\nprint(first(1), plus(1))"
    run = subprocess.run(
        [sys.executable, "-c", check.replace("from t2i.schedules import", "from __main__ import")],
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == expected, run.stderr + fitted


def test_a_helper_finds_an_exercise_of_another_module():
    own_box = "def given(x):\n    return second(x)\nclass Box:\n    def add(self, x):\n"
    own_box += "        return given(x) + first(x)"
    elsewhere = {"second": "schedules", "first": "schedules", "unused": "schedules"}
    fitted = own.fit(DIFFUSION, "t2i.diffusion", "Box", own_box, elsewhere)
    assert "from t2i.schedules import second" in fitted and "unused" not in fitted
    assert fitted.count("from t2i.schedules import first") == 1, "the module has it already"
    code = SCHEDULES + re.sub(r"from t2i.schedules import \w+", "", fitted)
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(Box().add(2))"], capture_output=True, text=True
    )
    assert run.stdout.strip() == "9", run.stderr


def test_what_cannot_be_told_apart_is_refused():
    hidden = "LIMIT = 1\ndef first(x, LIMIT=LIMIT):\n    return x + LIMIT"
    with pytest.raises(SpliceError, match="LIMIT has the name"):
        own.fit(SCHEDULES, "t2i.schedules", "first", hidden)
    with pytest.raises(SpliceError, match="one by one"):
        own.fit(SCHEDULES, "t2i.schedules", "first", "from math import *\ndef first(x): return 1")


def test_the_same_helper_of_two_exercises_stands_there_once():
    helper = "def helper(x):\n    return x\n"
    text = own.fit(SCHEDULES, "t2i.schedules", "first", f"{helper}def first(x): return helper(x)")
    text = own.fit(text, "t2i.schedules", "second", f"{helper}def second(x): return helper(x)")
    assert text.count("def helper(x)") == 1
    assert splice.definition(text, "second") == "def second(x): return helper(x)\n"


def test_a_lesson_counts_as_own_only_when_all_of_it_passed(space):
    assert space.own_modules(1) == ({}, "")
    assert space.own_modules(2)[1] == "the reference's lesson 1 (yours: not graded yet)"
    assert not space.target.exists(), "nothing is assembled without need"
    cells = "def first(x):\n    return 1", "def second(x):\n    return 2"
    space.record(1, ["first"], *cells)
    assert space.own_modules(2) == ({}, "the reference's lesson 1 (yours: 1 of 2 passed)")
    space.record(1, ["second"], *cells, names=["second"])
    files, words = space.own_modules(3)
    assert files == {"schedules": space.target / "t2i" / "schedules.py"}
    assert words.startswith("your own lesson 1 (2 of 2), the reference's lesson 2 (yours: not")
    assert "return 2" in files["schedules"].read_text()


def test_like_lessons_in_a_row_are_told_as_one():
    unseen, ours, theirs = "yours: not graded yet", "your own", "the reference's"
    standing = [(1, ours, "6 of 6"), (2, ours, "7 of 7"), (3, theirs, "yours: 1 of 5 passed")]
    standing += [(number, theirs, unseen) for number in (4, 5, 6)] + [(7, ours, "7 of 7")]
    assert mine._told(standing) == (
        "your own lessons 1 and 2 (all passed), the reference's lesson 3 (yours: 1 of 5 passed), "
        "the reference's lessons 4 to 6 (yours: not graded yet), your own lesson 7 (7 of 7)"
    )
    assert mine._told([]) == ""


def test_a_change_of_the_reference_or_the_results_is_noticed(space, package):
    cells = "def first(x):\n    return 1", "def second(x):\n    return 2"
    space.record(1, ["first", "second"], *cells)
    file = space.own_modules(2)[0]["schedules"]
    stamp = file.stat().st_mtime_ns
    assert space.own_modules(2)[0]["schedules"].stat().st_mtime_ns == stamp, "kept as it is"
    package.joinpath("schedules.py").write_text(SCHEDULES + "\nNEW = 1\n")
    assert "NEW = 1" in space.own_modules(2)[0]["schedules"].read_text()


def test_a_record_keeps_what_was_not_graded_now(space, lessons):
    path = space.record(1, ["first"], "def first(x):\n    return 1")
    space.record(1, ["second"], "def second(x):\n    return 2", names=["second"])
    found = json.loads(path.read_text())
    assert [row["status"] for row in found["exercises"]] == ["passed", "passed"]
    assert set(found["sources"]) == {"first", "second"} and found["lesson"] == 1
    space.record(1, [], "def second(x):\n    return 3", names=["second"])
    assert progress.passed(lessons[0], space.results) == ["first"]
    assert "second" not in json.loads(path.read_text())["sources"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"exercises": 3}', '{"exercises": [{}]}'])
def test_a_damaged_record_counts_as_none(space, lessons, damage: str):
    path = space.record(1, ["first"], "def first(x):\n    return 1")
    path.write_text(damage)
    assert progress.read(lessons[0], space.results) is None
    assert space.assemble()[1].own == []


def test_where_nothing_can_be_written_one_line_says_so(space, lessons, tmp_path, capsys):
    space.results.write_text("a file where a folder should be")
    space.record(1, ["first"], "def first(x):\n    return 1")
    assert capsys.readouterr().err.startswith("The points were not recorded: ")


def test_the_table_shows_points_and_what_comes_next(space, lessons):
    space.record(1, ["first"], "def first(x):\n    return 1")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(progress.table(lessons, space.results))
    rows = [line.split("│") for line in console.export_text().split("\n") if "│" in line]
    assert [part.strip() for part in rows[0][3:6]] == ["60/100", "●○", "second"]
    assert "not started" in rows[1][5] and "in preparation" in rows[2][5]


def test_a_cut_takes_what_is_needed_and_nothing_else():
    from autograder.extract import Piece, Submission

    source = textwrap.dedent("""
        import math, os
        A = 1
        def deep(): return A
        def helper(): return deep()
        def other(): return 5
        def wanted(): return helper() + other() + math.pi
        def unused(): return os
    """)
    taken = own.cut(Submission((Piece("cell 1", source),)), "wanted", {"other"})
    assert set(splice.names(taken)) == {"A", "deep", "helper", "wanted"}
    with pytest.raises(SpliceError):
        own.cut(Submission((Piece("cell 1", source),)), "missing", set())
