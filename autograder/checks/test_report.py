"""An instructor's report, of a class whose mistakes are known; and its students' feedback pages."""

import csv
import html
import io
import json
import re

import pytest

from autograder import catalogue, sandbox
from autograder.build import build, write
from autograder.course import archive, cycle, report
from autograder.course.causes import likely, wrong_answers
from autograder.course.folder import CourseError, make_course
from autograder.course.report import Outcome, gather, held_up, main
from autograder.lesson import get_lesson

pytestmark = pytest.mark.thorough  # a class is graded first

LESSON = get_lesson(1)
SLUG = LESSON.slug
SCRIPT = "<script>alert(1)</script>"
MISTAKES = {  # student -> the wrong answers of the catalogue that their notebook holds
    "anna": (),
    "ben": ("linear_betas: end_left_out", "snr: upside_down"),
    "cem": ("linear_betas: end_left_out", "alphas_cumprod: product_of_betas"),
    "dora": ("linear_betas: scaled_linear", "snr: upside_down", "add_noise: no_roots"),
}
POINTS = {exercise.name: exercise.points for exercise in LESSON.exercises}


def mistaken(*labels: str) -> bytes:
    known = {f"{each.exercise}: {each.name}": each for each in catalogue.entries(LESSON)}
    return catalogue.notebook_with(LESSON, tuple(known[label] for label in labels))


def raising() -> bytes:
    """The first exercise stops with words of the student's own; the rest is right."""
    notebook = json.loads(mistaken())
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "linear_betas":
            cell["source"] = f"def linear_betas(*args):\n    raise ValueError('=1+1 {SCRIPT}')"
    return json.dumps(notebook).encode()


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A class of seven, graded."""
    folder = tmp_path_factory.mktemp("class")
    downloads = folder / "downloads"
    downloads.mkdir()
    for student, labels in MISTAKES.items():
        (downloads / f"{student}.ipynb").write_bytes(mistaken(*labels))
    (downloads / "eva.ipynb").write_text(write(build(LESSON)[1]), encoding="utf-8")
    (downloads / "finn.ipynb").write_bytes(raising())
    (downloads / "gus.ipynb").write_bytes(b"this is no notebook")
    with cycle.isolated(folder):
        trust = not sandbox.detect().is_sandbox
        made = make_course(folder / "course", [1], trust_submissions=trust)
        with pytest.raises(CourseError, match="run autograde first"):
            main(made, 1)
        made.release(1)
        made.collect(1, downloads)
        made.autograde(1)
        made.feedback(1)
        yield made


@pytest.fixture(scope="module")
def written(course):
    page, table = main(course, 1)
    return page.read_text(encoding="utf-8"), list(csv.DictReader(io.StringIO(table.read_text())))


def test_the_causes_are_counted(course):
    found = {
        (cause.exercise, cause.names): cause.students for cause in gather(course, LESSON).causes()
    }
    assert found == {
        ("linear_betas", ("end_left_out",)): ["ben", "cem"],
        ("snr", ("upside_down",)): ["ben", "dora"],
        ("linear_betas", ("scaled_linear",)): ["dora"],
        ("linear_betas", ()): ["finn"],
        ("alphas_cumprod", ("product_of_betas",)): ["cem"],
        ("add_noise", ("no_roots",)): ["dora"],
    }


def test_every_exercise_is_counted(course):
    report = gather(course, LESSON)
    wrong = {"linear_betas": 4, "snr": 2, "alphas_cumprod": 1, "add_noise": 1}
    for exercise in LESSON.exercises:
        counts = report.counts(exercise)
        failed = wrong.get(exercise.name, 0)
        assert counts["wrong, known"] == failed - (exercise.name == "linear_betas")
        assert counts["wrong, other"] == (exercise.name == "linear_betas")
        assert counts["not written"] == 1 and counts["not graded"] == 1
        assert counts["right"] == 5 - failed


def test_points_and_flags(course):
    report = gather(course, LESSON)
    lost = {"anna": (), "ben": ("linear_betas", "snr"), "cem": ("linear_betas", "alphas_cumprod"),
            "dora": ("linear_betas", "snr", "add_noise"), "finn": ("linear_betas",)}  # fmt: skip
    expected = {who: 100 - sum(POINTS[name] for name in names) for who, names in lost.items()}
    assert report.points == expected | {"eva": 0, "gus": 0}
    assert list(report.flagged) == ["eva", "gus"], "as autograde names them"
    assert report.flagged["eva"] == "nothing is written in it yet"
    assert "could not be graded" in report.flagged["gus"]
    assert report.summary().startswith("7 handed in, 7 graded.")


def test_whose_points_wait_is_to_look_at():
    kinds = {"linear_betas": "wrong, known", "snr": "waits", "add_noise": "waits"}
    outcomes = [Outcome("anna", name, kind) for name, kind in kinds.items()]
    found = held_up([*outcomes, Outcome("ben", "snr", "right")], LESSON)
    waiting = POINTS["snr"] + POINTS["add_noise"]
    assert found == {"anna": f"{waiting} points wait for another exercise: snr, add_noise."}


def test_what_collect_noted_is_to_look_at_unless_it_was_chosen_by_hand(course, monkeypatch):
    said = "nothing is written in it yet"
    rows = {"anna": {"note": said}, "ben": {"note": archive.BY_HAND}, "cem": {"note": ""}}
    monkeypatch.setattr(report, "counting_rows", lambda *_: rows)
    found = report.flagged(course, LESSON)
    assert found["anna"] == said and not {"ben", "cem"} & found.keys()


def test_what_is_flagged_in_the_formgrader_is_to_look_at(course):
    with course.gradebook() as gradebook:
        gradebook.find_submission_notebook(SLUG, SLUG, "anna").flagged = True
        gradebook.db.commit()
    try:
        assert gather(course, LESSON).flagged["anna"] == "flagged in the formgrader"
    finally:
        with course.gradebook() as gradebook:
            gradebook.find_submission_notebook(SLUG, SLUG, "anna").flagged = False
            gradebook.db.commit()


def test_the_page_says_what_the_report_knows(written):
    page, _ = written
    words = html.unescape(re.sub(r"<[^>]*>", " ", page))
    for text in ("end left out", "ben, cem", "7 handed in", "Your code raised ValueError", "gus"):
        assert text in words
    assert page.count("data:image/png;base64,") == 2 and page.count('alt="') == 2
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_the_table_has_the_same_counts(written):
    rows = written[1]
    known = {row["wrong_answer"]: row["count"] for row in rows if row["outcome"] == "wrong, known"}
    assert known == {"end_left_out": "2", "scaled_linear": "1", "upside_down": "2",
                     "product_of_betas": "1", "no_roots": "1"}  # fmt: skip
    assert all(row["graded"] == "7" for row in rows)
    for exercise in LESSON.exercises:
        own = [int(row["count"]) for row in rows if row["exercise"] == exercise.name]
        assert sum(own) == 7
    assert not any(value[:1] in ("=", "+", "-", "@") for row in rows for value in row.values())


def test_a_wrong_answers_own_pattern_finds_it():
    for entry in wrong_answers(LESSON)["snr"]:
        plain = re.sub(r"\\(.)", r"\1", entry.says.partition("|")[0])
        if re.search(entry.says, plain):
            assert entry.name in likely(LESSON, "snr", f"The ratio is not right. {plain}.")
    assert likely(LESSON, "snr", "Something nobody thought of.") == ()


def test_a_feedback_page_shows_the_picture_and_no_markup_of_the_students(course):
    def page(student):
        return (course.folder / "feedback" / student / SLUG / f"{SLUG}.html").read_text("utf-8")

    assert html.escape(SCRIPT, quote=False) in page("finn") and SCRIPT not in page("finn")
    for student, pictures in {"anna": 0, "dora": 3, "eva": 0}.items():
        shown = re.findall(r"<img [^>]*Your answer beside the expected one[^>]*>", page(student))
        assert len(shown) == pictures, student
        assert all("width=" in each and 'src="data:image/png;base64,' in each for each in shown)
