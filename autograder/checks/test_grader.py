"""The grader: what it gives points for, what it says, and what it survives."""

import io
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from autograder import report, sandbox, suite
from autograder.extract import Piece, Submission
from autograder.grader import grade
from autograder.lesson import LESSONS, LessonError
from autograder.process import Worker
from autograder.remote import Handle, RemoteError, Student
from autograder.wire import Foreign
from autograder.worker import CPU_SECONDS

IMPORT = "import torch"


def row(result, name):
    return next(exercise for exercise in result.exercises if exercise.name == name)


def test_the_right_answers_get_all_points(tiny, worker, make_notebook, right):
    result = grade(make_notebook(IMPORT, *right.values()), tiny, worker=worker)
    assert (result.score, result.maximum) == (100, 100)
    assert result.scores() == {"linear_betas": 40, "snr": 60}


def test_a_wrong_answer_loses_its_exercise_and_hears_why(tiny, worker, make_notebook, right):
    swapped = "def linear_betas(n):\n    return torch.linspace(0.02, 1e-4, n)"
    result = grade(make_notebook(IMPORT, swapped, right["snr"]), tiny, worker=worker)
    assert result.scores() == {"linear_betas": 0, "snr": 60}
    assert "The ends are swapped." in row(result, "linear_betas").message


def test_an_exercise_passes_only_when_all_its_tests_do(tiny, worker, make_notebook, right):
    uneven = "def linear_betas(n):\n    return torch.linspace(1e-2, 2**0.5 / 10, n) ** 2"
    result = grade(make_notebook(IMPORT, uneven, right["snr"]), tiny, worker=worker)
    assert row(result, "linear_betas").points == 0
    assert "Even strides" in row(result, "linear_betas").message


def test_one_seed_gives_one_result(tiny, worker, make_notebook, right):
    notebook = make_notebook(IMPORT, "def snr(a):\n    return a", right["linear_betas"])
    first, second = (grade(notebook, tiny, seed=7, worker=worker) for _ in range(2))
    assert first.scores() == second.scores()
    assert [e.message for e in first.exercises] == [e.message for e in second.exercises]


def test_a_compiled_helper_is_no_mistake(tiny, worker, make_notebook, right):
    helper = "@torch.compile\ndef ratio(a, b):\n    return a / b\nquick = torch.compile(ratio)"
    own = "def snr(a):\n    return quick(a, ratio(1 - a, 1))"
    result = grade(make_notebook(IMPORT, helper, own, right["linear_betas"]), tiny, worker=worker)
    assert result.scores() == {"linear_betas": 40, "snr": 60}


def test_who_is_slow_in_every_test_gets_no_hour(tiny, worker, make_notebook, right, monkeypatch):
    monkeypatch.setattr(suite, "PATIENCE", 0.2)
    monkeypatch.setattr(suite, "HURRY", 0.1)
    nap = "):\n    import time; time.sleep(0.5)\n"
    slow = [each.replace("):\n", nap, 1) for each in right.values()]
    result = grade(make_notebook(IMPORT, *slow), tiny, worker=worker)
    assert row(result, "snr").status == "timeout", "half a second, which nobody minds before"


@pytest.mark.parametrize("only", [None, "snr"])
def test_what_fails_because_of_another_exercise_says_so(tiny, worker, make_notebook, only):
    wrong = "def linear_betas(n):\n    return helper(n)\ndef helper(n):\n    return torch.ones(n)"
    leaning = "def snr(a):\n    return a / (1 - a) * linear_betas(7)[0] / 1e-4"
    result = grade(make_notebook(IMPORT, wrong, leaning), tiny, only=only, worker=worker)
    assert row(result, "snr").message.startswith("It uses linear_betas, not right yet")
    right_alone = "def snr(a):\n    return a / (1 - a)"
    result = grade(make_notebook(IMPORT, wrong, right_alone), tiny, only=only, worker=worker)
    assert row(result, "snr").points == 60


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("    import os; os._exit(0)", "crashed", "ended Python"),
        ("    import os; os.kill(os.getpid(), 11)", "crashed", "SIGSEGV"),
        (
            "    raise ValueError('too steep')",
            "failed",
            "ValueError.*line 2 of the cell of snr.*too steep",
        ),
        (
            "    raise Steep('too steep')\nclass Slope(ValueError):\n    pass\n"
            "class Steep(Slope):\n    pass",
            "failed",
            "ValueError.*line 2 of the cell of Steep.*too steep",  # who wants one has one
        ),
        ("    return undefined_name", "failed", "undefined_name.*imports"),
        (
            "    return Net()\nclass Net(torch.nn.Module):\n    def __init__(self):\n"
            "        self.a = torch.nn.Linear(1, 1)",
            "failed",
            r"Begin __init__ with super",
        ),
        ("    return None", "failed", "None"),
        ("    return [1.0]", "failed", "list"),
        ("    return torch.full((7,), float('nan'))", "failed", "NaN"),
        ("    return torch.zeros(10**9)", "failed|crashed|timeout", "larger|crash|No answer"),
        ("    return torch.zeros(3)", "failed", "shape"),
        ("    class Box:\n        pass\n    return Box()", "failed", "a Box"),
        ("    while True: pass", "timeout", "never ends"),
    ],
)
def test_whatever_happens_only_that_exercise_suffers(
    tiny, worker, make_notebook, right, body, status, says
):
    notebook = make_notebook(IMPORT, f"def snr(a):\n{body}", right["linear_betas"])
    result = grade(notebook, tiny, worker=worker)
    assert result.scores() == {"linear_betas": 40, "snr": 0}
    assert re.fullmatch(status, row(result, "snr").status)
    assert re.search(says, row(result, "snr").message), row(result, "snr").message


def test_a_picture_stays_with_the_learner_and_shows_its_pixels(worker):
    code = """
from PIL import Image
def draw():
    return [Image.new("RGB", (3, 2), (255, 7, 0)), "no picture"]
"""
    student = Student(worker, Submission((Piece("cell 1", code),)))
    try:
        picture, other = student.draw()
        assert isinstance(picture, Handle) and picture.get("size") == (3, 2)
        expected = torch.tensor([255, 7, 0], dtype=torch.uint8).expand(2, 3, 3)
        assert torch.equal(picture.pixels(), expected) and other == "no picture"
        with pytest.raises(RemoteError):
            student.hold("no picture").pixels()
    finally:
        worker.end_session()


def test_what_lies_elsewhere_is_told_from_what_lies_on_the_cpu(worker):
    """torch's meta device stands for a GPU: a tensor made without device= shows."""
    code = """
import torch
def beside(x):
    return torch.ones(3, device=x.device)
def forgotten(x):
    return torch.ones(3)
def mixed(x):
    return x + torch.ones(3)
"""
    student = Student(worker, Submission((Piece("cell 1", code),)))
    try:
        x = student.elsewhere(torch.zeros(3))
        assert isinstance(student.beside(x), Foreign)
        assert torch.equal(student.forgotten(x), torch.ones(3))
        with pytest.raises(RemoteError, match="device"):
            student.mixed(x)
    finally:
        worker.end_session()


def test_a_notebook_of_another_lesson_is_called_that(tiny, worker, make_notebook):
    result = grade(make_notebook("x = 1"), tiny, worker=worker)
    assert {each.message for each in result.exercises} == {
        "The notebook holds no exercise of lesson 1: is it another's?"
    }


def test_an_untouched_notebook_is_blank(tiny, worker, make_notebook):
    stubs = [
        f"def {name}(x):\n    raise NotImplementedError('{name} is not written yet')"
        for name in ("linear_betas", "snr")
    ]
    result = grade(make_notebook(IMPORT, *stubs), tiny, worker=worker)
    assert result.score == 0
    assert all(not e.written and "Not yet written" in e.message for e in result.exercises)


def test_an_unreadable_notebook_gets_0_and_a_reason(tiny):
    result = grade(b"garbage", tiny)
    assert result.score == 0 and result.maximum == 100 and "JSON" in result.problem
    assert {e.status for e in result.exercises} == {"unreadable"}


def test_without_fork_the_scores_are_the_same(tiny, make_notebook, right):
    notebook = make_notebook(IMPORT, right["linear_betas"], "def snr(a):\n    return a")
    with Worker(tiny, fork=False) as worker:
        assert grade(notebook, tiny, worker=worker).scores() == {"linear_betas": 40, "snr": 0}


def test_in_the_plain_mode_the_scores_are_the_same(tiny, make_notebook, right):
    with Worker(tiny, sandbox.Mode("plain", "a test")) as worker:
        result = grade(make_notebook(IMPORT, *right.values()), tiny, worker=worker)
    assert result.score == 100 and result.sandbox == "plain"


@pytest.mark.skipif(not sandbox.detect().is_sandbox, reason=f"no sandbox: {sandbox.detect()}")
@pytest.mark.parametrize(
    "reach",
    [
        "open('{repository}/autograder/testing.py').read()",
        "open('{repository}/solutions/t2i/schedules.py').read()",
        "__import__('autograder')",
        "__import__('socket').create_connection(('127.0.0.1', 22), timeout=2)",
        "open('/stage/worker.py', 'w')",
        "__import__('t2i.unet')",
    ],
)
def test_the_sandbox_keeps_the_rest_of_the_machine_out(tiny, worker, make_notebook, right, reach):
    reach = reach.format(repository=sandbox.HERE.parent)
    code = f"def snr(a):\n    {reach}\n    return a / (1 - a)"
    result = grade(make_notebook(IMPORT, code, right["linear_betas"]), tiny, worker=worker)
    assert row(result, "snr").points == 0
    assert "Error" in row(result, "snr").message


def test_the_reference_of_the_lesson_itself_is_not_in_the_worker(
    tiny, worker, make_notebook, right
):
    code = "def snr(a):\n    from t2i.schedules import snr\n    return snr(a)"
    result = grade(make_notebook(IMPORT, code, right["linear_betas"]), tiny, worker=worker)
    assert row(result, "snr").points == 0


def test_the_endless_loop_is_measured_in_processor_time():
    assert CPU_SECONDS <= 15  # six endless loops must not hold a class up


def test_hidden_tests_that_do_not_run_are_one_sentence(
    tiny, worker, make_notebook, right, monkeypatch, tmp_path
):
    broken = tmp_path / "broken_tests.py"
    broken.write_text("import a_package_that_is_not_there\n")
    monkeypatch.setattr(type(tiny), "hidden_tests", broken)
    with pytest.raises(LessonError, match="a_package_that_is_not_there.*make doctor") as caught:
        grade(make_notebook(IMPORT, *right.values()), tiny, worker=worker)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["grade", "11"], 2, "lessons 1 to 10"),
        (["grade", "1", "--notebook", "nowhere.ipynb"], 2, "cannot be read"),
        (["grade", "1", "--only", "nothing"], 2, "no exercise 'nothing'"),
    ],
)
def test_the_command_says_in_one_line_what_cannot_be_graded(arguments, code, says):
    command = [sys.executable, "-m", "autograder", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code
    assert says in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("score", "make", "told"), [(3, True, True), (10, True, False), (3, False, False)]
)
def test_who_sees_makes_error_is_told_what_it_means(monkeypatch, score, make, told):
    monkeypatch.delenv("MAKELEVEL", raising=False)
    if make:
        monkeypatch.setenv("MAKELEVEL", "0")
    seen = Console(file=io.StringIO(), width=120)
    result = SimpleNamespace(
        problem=None, exercises=[], score=score, maximum=10, sandbox="not needed", seed=1
    )
    report.show(result, LESSONS[0], None, seen)
    text = seen.file.getvalue()
    assert f"{score} of 10 points" in text and ("make says Error 1" in text) == told


def test_what_calls_an_exercise_that_is_gone_says_so(tiny, worker, make_notebook):
    leaning = "def snr(a):\n    return a / (1 - a) * linear_betas(7)[0] / 1e-4"
    result = grade(make_notebook(IMPORT, leaning), tiny, worker=worker)
    assert row(result, "snr").message.startswith("It uses linear_betas, not right yet")
