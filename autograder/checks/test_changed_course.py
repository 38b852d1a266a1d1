"""What an instructor changes in a course: own questions, a new source, dates, ids, points."""

import json
import re

import nbformat
import pytest
from typer.testing import CliRunner

from autograder.course import cycle, table, told
from autograder.course.__main__ import app
from autograder.course.config import FILE
from autograder.course.folder import CourseError, make_course
from autograder.tests.mishaps import ANSWERS, LESSON, cell_of

SLUG = LESSON.slug
ESSAY = "Why is the sum of many noises again a Gaussian?"
ANSWER = """Since 1 < 2, *cumulants* add up. <script>alert(2)</script> <img src=x onerror=alert(3)>
<a href="javascript:alert(4)">a</a> [b](javascript:alert(5)) <javascript:alert(6)> [c][d] [d]

[d]: javascript:alert(7)
"""
TAG = {"schema_version": 3, "task": False, "locked": False}


def by_hand(name: str, cell_type: str, source: str) -> nbformat.NotebookNode:
    """A question as nbgrader's Manually graded answer."""
    tag = TAG | {"grade_id": name, "grade": True, "solution": True, "points": 4}
    make = getattr(nbformat.v4, f"new_{cell_type}_cell")
    return make(source, metadata={"nbgrader": tag | {"cell_type": cell_type}})


def add(course, *cells) -> None:
    """Put cells at the end of the course's source notebook."""
    path = course.folder / "source" / SLUG / f"{SLUG}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells += cells
    nbformat.write(notebook, path)


@pytest.fixture
def course(tmp_path):
    with cycle.isolated(tmp_path):
        yield make_course(tmp_path / "course", [1], trust_submissions=True)


def hand_in(course, student: str, notebook: dict) -> None:
    path = course.folder / "submitted" / student / SLUG / f"{SLUG}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook))


def released(course) -> dict:
    return json.loads((course.folder / "release" / SLUG / f"{SLUG}.ipynb").read_text())


def by_id(notebook: dict, name: str) -> dict:
    tags = [cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in notebook["cells"]]
    return notebook["cells"][tags.index(name)]


def test_answers_to_own_questions_are_kept_and_points_by_hand_explained(course):
    add(course, by_hand("why", "markdown", ESSAY), by_hand("plot", "code", "### BEGIN SOLUTION\n1"))
    course.release(1)
    notebook = released(course)
    by_id(notebook, "why")["source"] = ANSWER
    second = by_id(notebook, "why") | {"id": "again", "source": "A second half, `a<b`."}
    notebook["cells"] += [second, second | {"id": "empty", "source": " "}]
    by_id(notebook, "plot")["source"] = ["import os\n", "os._exit(1)  # shown, never run"]
    cell_of(notebook, "snr")["source"] = ANSWERS["snr"]
    hand_in(course, "ann", notebook)
    assert course.autograde(1) == {}
    assert course.scores(1)["ann"]["snr"] == 10
    assert course.flagged(1)["ann"] == "why is to be graded by hand. plot is to be graded by hand."
    graded = json.loads((course.folder / "autograded" / "ann" / SLUG / f"{SLUG}.ipynb").read_text())
    answers = ["".join(by_id(graded, name)["source"]) for name in ("why", "plot")]
    assert answers[0].startswith("Since 1 < 2, *cumulants*") and answers[1].startswith("import os")
    assert answers[0].endswith("\n\nA second half, `a< b`."), "a cell that was split"
    assert not by_id(graded, "plot")["outputs"]

    with course.gradebook() as gradebook:
        book = gradebook.find_submission_notebook(SLUG, SLUG, "ann")
        for grade in book.grades:
            points = {"why": 3, "plot": 4, "check-add_noise": 2}.get(grade.name)
            grade.manual_score, grade.needs_manual_grade = points, False
        for comment in book.comments:
            if comment.name == "why":
                comment.manual_comment = "see List<int> <script>alert(1)</script>"
        gradebook.db.commit()
    assert course.flagged(1) == {}
    course.feedback(1)
    page = (course.folder / "feedback" / "ann" / SLUG / f"{SLUG}.html").read_text()
    assert "List&lt;int&gt;" in page and "<script>alert(1)" not in page
    assert "<em>cumulants</em>" in page and "javascript:alert(4)" in page, "the answer is shown"
    assert "<script>alert(2)" not in page and "<img src=x" not in page
    assert not re.search(r"<[^>&]*javascript", page), "in words, and in no tag"

    cell_of(notebook, "add_noise")["source"] = ANSWERS["add_noise"]
    hand_in(course, "ann", notebook)
    course.autograde(1)
    (row,) = table.rows(course, [LESSON])
    full = next(e.points for e in LESSON.exercises if e.name == "add_noise")
    kept = f"add_noise keeps the 2 points given by hand; the tests give {full:g} now."
    assert kept in row["flag"] and "why keeps the 3 points given by hand." in row["flag"]
    assert "List" not in row["flag"], "a comment to the student is no reason to look"


@pytest.mark.parametrize(
    "kind",
    [
        {"grade": True, "solution": False, "points": 5},
        {"grade": False, "solution": True},
        {"grade": False, "solution": False, "task": True, "points": 5},
    ],
    ids=["test", "answer", "task"],
)
def test_a_question_that_nobody_would_grade_is_refused(course, kind):
    course.release(1)
    before = released(course)
    tag = TAG | {"grade_id": "bonus"} | kind
    add(course, nbformat.v4.new_code_cell("assert bonus() == 1", metadata={"nbgrader": tag}))
    with pytest.raises(CourseError, match="bonus belongs to no exercise of lesson 1"):
        course.release(1)
    (course.folder / "source" / SLUG / f"{SLUG}.ipynb").write_bytes(b"\xff{")
    with pytest.raises(CourseError, match="cannot be read"):
        course.release(1)
    assert released(course) == before


def test_a_release_that_fails_leaves_the_earlier_one(course):
    course.release(1)
    before = released(course)
    hand_in(course, "ann", before)
    course.autograde(1)
    add(course, by_hand("why", "markdown", ESSAY))
    with pytest.raises(CourseError, match=r"The earlier release stays.*db assignment remove"):
        course.release(1)
    assert released(course) == before


def test_make_keeps_a_source_that_was_edited(course):
    runner = CliRunner()
    again = runner.invoke(app, ["make", str(course.folder), "1"])
    assert again.exit_code == 0 and "another notebook" not in again.output
    add(course, by_hand("why", "markdown", ESSAY))
    again = runner.invoke(app, ["make", str(course.folder), "1"])
    (kept,) = (course.folder / "replaced").iterdir()
    assert ESSAY in kept.read_text() and kept.name in again.output.replace("\n", "")
    assert ESSAY not in (course.folder / "source" / SLUG / f"{SLUG}.ipynb").read_text()


def test_a_due_date_of_the_configuration_is_not_set_twice(course):
    with (course.folder / FILE).open("a") as stream:
        stream.write(f'\nc.DueDates.{SLUG} = "2026-11-27 12:00 UTC"\n')
    for due in ("none", "2026-11-30 12:00"):
        done = CliRunner().invoke(app, ["release", str(course.folder), "1", "--due", due])
        assert done.exit_code == 2 and f"c.DueDates.{SLUG}" in done.output
    assert CliRunner().invoke(app, ["release", str(course.folder), "1"]).exit_code == 0


def test_answers_of_a_lesson_without_a_due_date_are_spoken_of(tmp_path):
    with cycle.isolated(tmp_path):
        course = make_course(tmp_path / "course", [1, 2], trust_submissions=True)
        course.release(1)
        course.release(2)
        (line,) = told.bundled(course, 2)
    assert "answers of lesson 1, which is due at no time" in line


def test_ids_of_an_earlier_list_of_students_are_in_no_table(course):
    course.release(1)
    hand_in(course, "ann", released(course))
    course.autograde(1)
    with course.gradebook() as gradebook:
        for name in ("bob", "old"):
            gradebook.update_or_create_student(name)
    assert [row["student"] for row in table.rows(course, [LESSON])] == ["ann", "bob", "old"]
    assert [row["student"] for row in table.rows(course, [LESSON], "b*")] == ["bob"]
    (course.folder / "students.csv").write_text("name,id\nBob,bob\n")
    assert [row["student"] for row in table.rows(course, [LESSON])] == ["ann", "bob"]
    (course.folder / "students.csv").write_text("no such table")
    assert len(table.rows(course, [LESSON])) == 3
