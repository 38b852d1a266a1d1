"""The nbgrader course: the whole cycle, odd submissions, and files that are no notebooks."""

import copy
import csv
import json
import random
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbgrader.utils import determine_grade, is_grade, is_solution
from typer.testing import CliRunner

from autograder import sandbox
from autograder.build import build
from autograder.cells import MAX_NOTEBOOK_BYTES, UnreadableNotebook
from autograder.course import cycle, kept
from autograder.course.__main__ import app
from autograder.course.folder import Course, CourseError
from autograder.course.leaks import secrets, text_of
from autograder.course.rebuild import rebuild, signature, to_bytes
from autograder.course.report import gather
from autograder.course.samples import write_submissions
from autograder.course.verdict import outputs
from autograder.extract import extract
from autograder.grader import ExerciseResult, grade
from autograder.lesson import get_lesson
from autograder.process import Worker

LESSON = get_lesson(1)
SLUG = LESSON.slug


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """The cycle, run once: its report and its course."""
    folder = tmp_path_factory.mktemp("course")
    with cycle.isolated(folder):
        report = cycle.run(LESSON, folder)
        yield report, Course(folder / "course")


@pytest.fixture(scope="module")
def released():
    return build(LESSON)[1]


@pytest.fixture(scope="module")
def submissions(tmp_path_factory):
    downloads = tmp_path_factory.mktemp("samples") / "downloads"
    write_submissions(LESSON, downloads)
    return {name: json.loads((downloads / f"{name}.ipynb").read_text()) for name in cycle.STUDENTS}


@pytest.fixture(scope="module")
def worker():
    with Worker(LESSON) as worker:
        yield worker


# The cycle


def test_cycle_gives_the_scores_of_grade_and_shows_no_secret(trial):
    report, _ = trial
    assert report.problems == []
    assert [report.exported[name] for name in ("full", "blank")] == [100, 0]
    assert report.lines > 50 and report.files >= 8


def test_release_is_the_committed_notebook(trial, released):
    made = nbformat.read(trial[1].folder / "release" / SLUG / f"{SLUG}.ipynb", as_version=4)
    assert [cell.source for cell in made.cells] == [cell.source for cell in released.cells]


def test_a_page_names_the_exercises_and_is_one_file(trial):
    report, course = trial
    page = (course.folder / "feedback" / "half" / SLUG / f"{SLUG}.html").read_text("utf-8")
    for row in report.graded["half"]["exercises"]:
        tag = LESSON.exercise(row["name"]).grade_id
        said = (
            rf'<a href="#check-{tag}">{row["name"]}</a></td>\s*<td class="number">{row["points"]}<'
        )
        assert re.search(said, page), row
    assert f"Lesson 1 · {LESSON.title}: {report.graded['half']['score']:g} of" in " ".join(
        page.split()
    )
    images = re.findall(r'<img[^>]*? src="(.{9})', page)
    assert len(images) > 3 and set(images) == {"data:imag"}


def test_nbgrader_commands_work_in_the_folder(trial):
    course = trial[1]
    command = [sys.executable, "-m", "nbgrader", "autograde", SLUG, "--student=blank", "--force"]
    done = subprocess.run(command, cwd=course.folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert sum(course.scores(1)["blank"].values()) == 0


def test_secrets_are_found_where_they_stand():
    known = secrets(LESSON)
    line = next(iter(known.hidden_tests.values()))
    assert known.found_in(f"…\n    {line}\n…")
    assert not known.found_in(line, own=line)
    answer = next(iter(known.solutions.values()))
    assert known.found_in(answer.replace(" ", "\n  ")) == [f"solution: {answer}"]


def test_secrets_are_found_in_marked_up_pages(tmp_path):
    known = secrets(LESSON)
    line = next(line for line in known.solutions.values() if "=" in line)
    page = tmp_path / "page.html"
    page.write_text("".join(f"<span>{'&lt;' if c == '<' else c}</span>" for c in line))
    assert known.found_in(text_of(page))


# Files that cannot be read

UNREADABLE = {
    "empty": b"",
    "truncated": b'{"cells": [{"cell_type": "code", "sou',
    "prose": "I forgot, sorry. Dürfte ich später?".encode("latin-1"),
    "a_list": b"[1, 2, 3]",
    "deep": b"[" * 200_000,
    "format_3": json.dumps({"nbformat": 3, "worksheets": [{"cells": []}], "metadata": {}}).encode(),
    "huge": b" " * (MAX_NOTEBOOK_BYTES + 1),
}


@pytest.fixture(scope="module")
def graded_with_unreadable(trial):
    """The same course with files that are no notebooks among the submissions, graded again."""
    course = trial[1]
    downloads = course.folder.parent / "unreadable"
    downloads.mkdir()
    for name, content in UNREADABLE.items():
        (downloads / f"{name}.ipynb").write_bytes(content)
    course.collect(1, downloads)
    folder = course.folder / "submitted" / "folder" / SLUG / f"{SLUG}.ipynb"
    folder.mkdir(parents=True)
    course.autograde(1)
    course.feedback(1)
    return course


@pytest.mark.parametrize("name", [*UNREADABLE, "folder"])
def test_unreadable_file_scores_0_with_a_reason(graded_with_unreadable, name):
    course = graded_with_unreadable
    with course.gradebook() as gradebook:
        grades = gradebook.find_submission_notebook(SLUG, SLUG, name).grades
        assert len(grades) == len(LESSON.exercises)
        assert all(each.auto_score == 0 and each.needs_manual_grade for each in grades)
    reason = course.flagged(1)[name]
    assert re.search("could not be graded: .+", reason)
    assert reason in text_of(course.folder / "feedback" / name / SLUG / f"{SLUG}.html")


def test_other_submissions_keep_their_scores(trial, graded_with_unreadable):
    report, course = trial
    scores = course.scores(1)
    for name in cycle.STUDENTS:
        assert sum(scores[name].values()) == report.exported[name]
        assert name not in course.flagged(1)


def test_regrade_replaces_what_stood_there(graded_with_unreadable, submissions):
    course = graded_with_unreadable
    target = course.folder / "submitted" / "empty" / SLUG / f"{SLUG}.ipynb"
    target.write_text(json.dumps(submissions["full"]))
    course.autograde(1, "empty")
    assert sum(course.scores(1)["empty"].values()) == 100
    assert "empty" not in course.flagged(1)
    target.write_bytes(b"")
    course.autograde(1, "empty")
    assert sum(course.scores(1)["empty"].values()) == 0
    assert "the file is empty" in course.flagged(1)["empty"]


def test_renamed_file_is_graded_and_two_are_not(trial, submissions):
    course = trial[1]
    folder = course.folder / "submitted" / "renamed" / SLUG
    folder.mkdir(parents=True)
    (folder / "my answers (1).ipynb").write_text(json.dumps(submissions["blank"]))
    course.autograde(1, "renamed")
    assert "renamed" not in course.flagged(1)
    shutil.copy(folder / "my answers (1).ipynb", folder / "copy.ipynb")
    course.autograde(1, "renamed")
    assert f"no file {SLUG}.ipynb" in course.flagged(1)["renamed"]


def test_a_failing_grader_flags_one_submission_and_goes_on(trial, monkeypatch, tmp_path):
    course, tries = trial[1], []

    def fails(*args, **kwargs):
        tries.append(args)
        raise RuntimeError("out of order")

    def said(code, *words):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == code, done.output
        return done.output

    shutil.rmtree(course.folder / "results")
    page = course.folder / "feedback" / "blank" / SLUG / f"{SLUG}.html"
    assert page.exists()  # of the grading before
    monkeypatch.setattr(kept, "grade", fails)
    failed = said(1, "autograde", course.folder, 1, "--student", "blank")
    monkeypatch.undo()
    assert "not graded, the grader failed: blank" in failed and len(tries) == 2
    assert "out of order" in course.flagged(1)["blank"]
    assert "no page for blank" in said(0, "feedback", course.folder, 1)
    assert not page.exists() and page.parents[2].joinpath("full", SLUG, page.name).exists()
    report = gather(course, LESSON)
    assert "blank" not in report.points and "out of order" in report.flagged["blank"]
    assert all(sum(report.counts(e).values()) == len(report.points) for e in LESSON.exercises)
    for column, form in (("score", []), ("points", ["--plain"])):
        said(0, "export", course.folder, tmp_path / "grades.csv", *form)
        with (tmp_path / "grades.csv").open(newline="") as stream:
            rows = {row.get("student_id") or row["student"]: row for row in csv.DictReader(stream)}
        assert rows["blank"][column] == "" and float(rows["full"][column]) == 100
    assert "out of order" in rows["blank"]["flag"]
    said(0, "autograde", course.folder, 1, "--student", "blank")
    assert "blank" not in course.flagged(1)
    said(0, "feedback", course.folder, 1)


def test_a_grader_that_fails_once_is_tried_again(trial, monkeypatch):
    course, tries = trial[1], []

    def fails_once(*args, **kwargs):
        tries.append(args)
        if len(tries) == 1:
            raise RuntimeError("out of order")
        return grade(*args, **kwargs)

    shutil.rmtree(course.folder / "results")
    monkeypatch.setattr(kept, "grade", fails_once)
    assert course.autograde(1, "blank") == {}
    assert len(tries) == 2 and "blank" not in course.flagged(1)


def test_no_sandbox_no_grades(trial, monkeypatch):
    monkeypatch.setattr(sandbox, "detect", lambda: sandbox.Mode("plain", "for this test"))
    with pytest.raises(CourseError, match="trust_submissions"):
        trial[1].autograde(1, "blank")
    monkeypatch.undo()
    trial[1].autograde(1, "blank")


def test_course_without_its_release_folder_still_grades(trial, monkeypatch):
    course = trial[1]
    (course.folder / "release").rename(course.folder / "elsewhere")
    try:
        course.autograde(1, "half")
    finally:
        (course.folder / "elsewhere").rename(course.folder / "release")
    assert sum(course.scores(1)["half"].values()) == trial[0].graded["half"]["score"]


# Verdicts


@pytest.mark.parametrize("points, maximum", [(0, 20), (20, 20), (5, 20), (1, 3), (0, 0)])
def test_outputs_give_nbgrader_the_same_points(points, maximum):
    status = "passed" if points == maximum else "failed"
    result = ExerciseResult("snr", points, maximum, status, "A <b>sentence</b>.\x1b[31m")
    tag = {"grade": True, "solution": False, "grade_id": "check-snr", "points": maximum}
    cell = nbformat.v4.new_code_cell("", metadata={"nbgrader": tag})
    cell.outputs = outputs(result, maximum)
    assert determine_grade(cell) == (pytest.approx(points, abs=1e-5), maximum)
    assert "\x1b" not in json.dumps(cell.outputs)


def test_no_verdict_is_no_points():
    tag = {"grade": True, "solution": False, "grade_id": "check-snr", "points": 20}
    cell = nbformat.v4.new_code_cell("", metadata={"nbgrader": tag})
    cell.outputs = outputs(None, 20)
    assert determine_grade(cell) == (0, 20)


# Mangled notebooks

EXTRA = (
    "import torch\nfrom torch import Tensor\nprint(torch.ones(3))",
    "import warnings\nimport sys\nwarnings.warn('noise')\nprint('noise', file=sys.stderr)",
    "HELPER = 3\n\n\ndef helper(x):\n    return x * HELPER",
    "%matplotlib inline\n!echo hello\nx = helper(2)",
    "this is no Python (",
    "import functools\nshort = functools.partial(linear_betas, 10)",
    "def shorter(betas=linear_betas):\n    return betas(10)",
    "raise SystemExit",
    "",
)


def duplicate(cells, rng):
    for _ in range(4):
        cells.insert(rng.randrange(len(cells)), copy.deepcopy(rng.choice(cells)))


def swap(cells, rng):
    for _ in range(6):
        a, b = rng.randrange(len(cells)), rng.randrange(len(cells))
        cells[a], cells[b] = cells[b], cells[a]


def add_cells(cells, rng):
    for source in EXTRA:
        cells.insert(rng.randrange(len(cells)), _code(source))


def drop_metadata(cells, rng):
    for cell in cells:
        cell["metadata"] = {}


def retag(cells, rng):
    tagged = [cell for cell in cells if "nbgrader" in cell["metadata"]]
    tags = [cell["metadata"].pop("nbgrader") for cell in tagged]
    rng.shuffle(tags)
    for cell, tag in zip(tagged, tags, strict=True):
        cell["metadata"]["nbgrader"] = tag | {"points": 1000, "locked": rng.random() < 0.5}


def turn(cells, rng):
    for cell in rng.sample(cells, 6):
        cell["cell_type"] = "code" if cell["cell_type"] == "markdown" else "markdown"


def drop_cells(cells, rng):
    for cell in rng.sample(cells, 6):
        cells.remove(cell)


def drop_tests(cells, rng):
    cells[:] = [cell for cell in cells if not cell["metadata"].get("nbgrader", {}).get("grade")]


def merge(cells, rng):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    one, two = rng.sample(code, 2)
    one["source"] = _text(one) + "\n\n" + _text(two)
    cells.remove(two)


def break_one(cells, rng):
    written = [cell for cell in cells if "def " in _text(cell) and cell["cell_type"] == "code"]
    if written:
        cell = rng.choice(written)
        cell["source"] = _text(cell).replace("return ", "return )", 1)


def forge(cells, rng):
    for cell in cells:
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "100 points"}]
            cell["source"] = _text(cell).replace("\n", "\r\n")


MANGLES = (duplicate, swap, add_cells, drop_metadata, retag, turn, drop_cells, drop_tests, merge)
MANGLES += (break_one, forge)


def mangled(notebook, seed):
    """A notebook after one mangle, or after several in a row."""
    rng, notebook = random.Random(seed), copy.deepcopy(notebook)
    number = seed if seed < len(MANGLES) else None
    chosen = [MANGLES[number]] if number is not None else rng.sample(MANGLES, rng.randint(2, 5))
    for mangle in chosen:
        mangle(notebook["cells"], rng)
    return json.dumps(notebook).encode()


@pytest.mark.parametrize("name", cycle.STUDENTS)
@pytest.mark.parametrize("seed", range(25))
def test_rebuilt_notebook_holds_what_was_submitted(submissions, released, name, seed):
    submitted = mangled(submissions[name], seed)
    rebuilt = rebuild(submitted, LESSON, released)
    nbformat.validate(rebuilt)
    assert signature(extract(to_bytes(rebuilt), LESSON)) == signature(extract(submitted, LESSON))
    again = rebuild(nbformat.writes(rebuilt).encode(), LESSON, released)
    assert signature(extract(to_bytes(again), LESSON)) == signature(extract(submitted, LESSON))


@pytest.mark.parametrize("seed", [1, 2, 4, 30, 31])
def test_rebuilt_notebook_has_the_grade_of_the_submitted(submissions, released, worker, seed):
    submitted = mangled(submissions["half"], seed)
    expected = grade(submitted, LESSON, worker=worker)
    rebuilt = rebuild(submitted, LESSON, released)
    for notebook in (to_bytes(rebuilt), nbformat.writes(rebuilt).encode()):
        actual = grade(notebook, LESSON, worker=worker)
        assert _without_places(actual) == _without_places(expected)


def test_rebuilt_notebook_is_the_released_one(submissions, released):
    rebuilt = rebuild(mangled(submissions["full"], 40), LESSON, released)
    tests = [cell.source for cell in released.cells if is_grade(cell)]
    assert [cell.source for cell in rebuilt.cells if is_grade(cell)] == tests
    ids = [cell.metadata.nbgrader for cell in released.cells if is_solution(cell)]
    assert [cell.metadata.nbgrader for cell in rebuilt.cells if is_solution(cell)] == ids
    assert all(not cell.outputs for cell in rebuilt.cells if cell.cell_type == "code")
    code = [cell for cell in rebuilt.cells if cell.cell_type == "code"]
    gathered = [cell for cell in code if cell.id.startswith("gathered-")]
    assert len(code) == len(gathered) + len(tests) + len(ids)


def test_a_helper_that_fails_ends_its_own_cell_only(submissions, released, worker):
    notebook = copy.deepcopy(submissions["full"])
    notebook["cells"].insert(0, _code("limit = limit"))  # a NameError, before all imports
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "snr":
            cell["source"] = "def snr(alphas_cumprod):\n    return limit"
    submitted = json.dumps(notebook).encode()
    expected = grade(submitted, LESSON, worker=worker)
    assert {row.name for row in expected.exercises if not row.points} == {"snr"}
    found = grade(to_bytes(rebuild(submitted, LESSON, released)), LESSON, worker=worker)
    assert [row.points for row in found.exercises] == [row.points for row in expected.exercises]
    assert "in line 1 of cell" in found.exercises[4].message


def test_rebuilding_what_is_no_notebook_says_why(released):
    for content in UNREADABLE.values():
        with pytest.raises(UnreadableNotebook):
            rebuild(content, LESSON, released)


def _without_places(result):
    return [
        (row.name, row.points, row.status, re.sub(r"line \d+ of the cell of \w+", "", row.message))
        for row in result.exercises
    ]


def _code(source):
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": []}


def _text(cell):
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
