"""Pictures of failed exercises: of public inputs only, harmless, and none of a right answer."""

import ast
import base64
import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as Pixels

from autograder import catalogue, suite
from autograder.build import write
from autograder.checks.conftest import TESTS, TinyLesson
from autograder.course.verdict import outputs
from autograder.extract import extract
from autograder.grader import grade
from autograder.lesson import LESSONS, get_lesson
from autograder.picture import Curve, Image, NotDrawable, draw
from autograder.process import Worker
from autograder.solve import solved
from autograder.suite import ExerciseResult, Suite
from autograder.wire import Foreign
from t2i.classroom import grading

LINE = torch.linspace(0, 1, 1000)
PICTURE = """
from autograder.picture import Curve, pictured

@pictured("linear_betas")
def test_picture(student, draw):
    expected = torch.linspace(1e-4, 0.02, 100)
    draw(Curve("betas", student.linear_betas(100), expected, "t", "beta"), inputs="for 100 steps")
"""


def curve(yours, expected=LINE, **options) -> Curve:
    return Curve("a line", yours, expected, "t", "y", **options)


def drawn_functions(lesson) -> dict[str, ast.FunctionDef]:
    """The functions of a suite that draw, by their exercise."""
    found = {}
    for node in ast.parse(lesson.hidden_tests.read_text(encoding="utf-8")).body:
        for mark in getattr(node, "decorator_list", ()):
            if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "pictured":
                found[ast.literal_eval(mark.args[0])] = node
    return found


WITH_PICTURES = [lesson.number for lesson in LESSONS if drawn_functions(lesson)]


def pixels(png: str) -> Pixels.Image:
    return Pixels.open(io.BytesIO(base64.b64decode(png))).convert("RGB")


# Drawing


@pytest.mark.parametrize(
    "panels",
    [
        (curve(2 * LINE),),
        (curve(LINE[:900]), curve(LINE)),
        (curve(LINE.long().bool()),),
        (curve(torch.full((1000,), 1e300, dtype=torch.float64)),),
        (curve(torch.where(LINE > 0.5, torch.nan, LINE)),),
        (curve(-LINE - 1, LINE + 1, yscale="log"),),
        (Image("a table", torch.eye(4), torch.ones(4, 4)),),
        (Image("a table", torch.eye(3), torch.ones(4, 4)),),
    ],
)
def test_a_wrong_answer_is_drawn(panels):
    made = draw(*panels, inputs="for a line")
    assert pixels(made.png).width > 600 and len(base64.b64decode(made.png)) < 60_000
    assert "Drawn for a line." in made.caption
    assert draw(*panels, inputs="for a line").png == made.png


def test_yours_and_the_expected_are_told_apart():
    from t2i.show import VERMILLION

    goal = tuple(bytes.fromhex(VERMILLION[1:]))

    def dashes(made):
        flat = np.asarray(pixels(made.png)).reshape(-1, 3).astype(int)
        return (abs(flat - goal).max(1) < 40).sum()

    assert dashes(draw(curve(LINE**3))) > 200
    assert "outside the picture" in draw(curve(50 * LINE)).caption
    assert "outside" not in draw(curve(LINE**3)).caption


@pytest.mark.parametrize(
    "yours", [LINE.clone(), LINE.double(), LINE + 1e-3, LINE.bfloat16(), LINE[:-1]]
)
def test_what_cannot_be_told_apart_is_not_drawn(yours):
    assert draw(curve(yours)) is None


@pytest.mark.parametrize(
    "yours",
    [None, "text", 3.0, Foreign("ndarray"), torch.tensor(1.0), torch.ones(2, 1000), LINE[:0],
     torch.ones(50_000), LINE.to(torch.complex64), LINE * torch.nan],
)  # fmt: skip
def test_what_is_no_curve_is_not_drawn(yours):
    with pytest.raises(NotDrawable):
        draw(curve(yours))


# In a result


@pytest.fixture(scope="module")
def pictured_lesson(tmp_path_factory, tiny):
    home = tmp_path_factory.mktemp("pictured")
    (home / "lesson.py").write_text(tiny.source.read_text())
    (home / "tiny_tests.py").write_text(TESTS + PICTURE)
    lesson = TinyLesson(1, "noise_schedules", "schedules", "Tiny")
    object.__setattr__(lesson, "home", home)
    return lesson


def answer(make_notebook, right, body: str) -> bytes:
    source = f"def linear_betas(n):\n    {body}"
    return make_notebook("import torch, time", source, right["snr"])


@pytest.fixture(scope="module")
def graded(pictured_lesson, worker, make_notebook, right):
    def run(body: str, **options):
        notebook = answer(make_notebook, right, body)
        return grade(notebook, pictured_lesson, worker=worker, **options)

    return run


def test_a_picture_comes_where_it_is_asked_for_and_changes_no_score(graded):
    wrong = "return torch.linspace(0.02, 1e-4, n)"
    plain, other, shown = graded(wrong), graded(wrong, seed=9, pictures=True), graded(
        wrong, pictures=True
    )  # fmt: skip
    assert plain.scores() == shown.scores() == {"linear_betas": 0, "snr": 60}
    assert [row.message for row in plain.exercises] == [row.message for row in shown.exercises]
    assert [bool(row.picture) for row in plain.exercises] == [False, False]
    assert [bool(row.picture) for row in shown.exercises] == [True, False]
    assert shown.as_dict()["exercises"][0]["caption"].endswith("Drawn for 100 steps.")
    assert other.exercises[0].picture == shown.exercises[0].picture  # no drawn input is hidden


def test_a_right_answer_is_not_drawn(graded):
    result = graded("return torch.linspace(1e-4, 0.02, n)", pictures=True)
    assert result.score == 100 and not any(row.picture for row in result.exercises)


@pytest.mark.parametrize(
    "body",
    [
        "if n == 100:\n        while True: pass\n    return torch.zeros(n)",
        "if n == 100:\n        import os; os._exit(0)\n    return torch.zeros(n)",
        "return torch.zeros(n) if n != 100 else {'a': 'picture'}",
        "return torch.zeros(n) if n != 100 else torch.zeros(1000, 1000)",
        "return torch.zeros(n) if n != 100 else 1 / 0",
    ],
)
def test_an_answer_that_cannot_be_drawn_loses_nothing_else(graded, monkeypatch, body):
    monkeypatch.setattr(suite, "PICTURE_SECONDS", 1.0)
    result = graded(body, pictures=True)
    assert result.scores() == {"linear_betas": 0, "snr": 60}
    assert result.exercises[0].status == "failed" and not result.exercises[0].picture


def test_the_picture_stands_in_the_test_cells_outputs(graded):
    row = graded("return torch.linspace(0.02, 1e-4, n)", pictures=True).exercises[0]
    error, picture, caption = outputs(row, 40)
    assert error.output_type == "error" and picture.data["image/png"] == row.picture
    assert picture.metadata["image/png"]["width"] == 480
    assert row.caption in picture.metadata["image/png"]["alt"] and row.caption in caption.text


def test_a_notebook_shows_the_picture_below_the_sentence(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    made = draw(curve(2 * LINE), inputs="for a < b")
    grading._show(made.png, made.caption)
    assert shown == []  # outside a notebook
    monkeypatch.setattr(grading, "ipython", lambda: SimpleNamespace(kernel=True))
    grading._show(made.png, made.caption)
    (data,) = shown
    assert made.png in data["text/html"] and "width:480px" in data["text/html"]
    assert "for a &lt; b" in data["text/html"] and "a < b" not in data["text/html"]


def test_a_long_sentence_is_wrapped_for_the_page_and_kept_whole():
    text = "The linear betas are not right. " + "See equation 17, and mind the square. " * 9
    (error,) = outputs(ExerciseResult("snr", 0, 10, "failed", text.strip()), 10)
    assert max(map(len, error.traceback[0].splitlines())) < 100
    assert " ".join(error.traceback[0].split()) == error.evalue == text.strip()


# The suites' own pictures


def test_a_suites_pictures_know_no_hidden_input():
    assert sum(len(drawn_functions(get_lesson(number))) for number in WITH_PICTURES) >= 6
    for number in WITH_PICTURES:
        lesson = get_lesson(number)
        for name, node in drawn_functions(lesson).items():
            lesson.exercise(name)
            assert [argument.arg for argument in node.args.args] == ["student", "draw"], name
            assert not re.search(r"\brng\b|\brand|manual_seed", ast.unparse(node)), name


@pytest.mark.thorough
@pytest.mark.parametrize("number", WITH_PICTURES)
def test_a_suite_draws_wrong_answers_and_not_the_reference(number, monkeypatch):
    monkeypatch.setenv("T2I_DEBUG_GRADER", "1")  # a broken picture stops the test
    lesson = get_lesson(number)
    names = list(drawn_functions(lesson))
    with Worker(lesson) as worker:
        submission = extract(write(solved(lesson)).encode(), lesson)
        right = Suite(worker, submission, 1, names, pictures=True)
        right.failures = {name: ("failed", "for this test") for name in names}
        suite.run(lesson, right)
        assert right.drawn == {}
        for name in names:
            assert any(_is_drawn(lesson, worker, entry) for entry in _wrong(lesson, name)), name


def _wrong(lesson, name):
    return [each for each in catalogue.entries(lesson) if each.exercise == name and not each.right]


def _is_drawn(lesson, worker, entry) -> bool:
    notebook = catalogue.notebook_with(lesson, (entry,))
    result = grade(notebook, lesson, only=entry.exercise, worker=worker, pictures=True)
    return bool(result.exercises[0].picture)
