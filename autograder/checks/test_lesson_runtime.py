"""What a learner meets in a notebook: start, tier, pick, grade, quiz."""

import json
import subprocess
import sys
import types

import pytest
import torch

from autograder import progress, splice
from autograder.checks import fake_lesson
from autograder.lesson import PACKAGE, get_lesson
from t2i import lesson
from t2i.classroom import grading, quiz, standby

SCHEDULES = PACKAGE.joinpath("schedules.py").read_text(encoding="utf-8")
IMPORTS = "import torch\nfrom torch import Tensor\n"


@pytest.fixture
def shell(monkeypatch, tmp_path):
    """A notebook's shell without a notebook: cells go in, sentences come out."""
    made = types.SimpleNamespace(
        user_ns={}, history_manager=types.SimpleNamespace(input_hist_raw=[""]), said=[]
    )
    made.run = made.history_manager.input_hist_raw.append
    monkeypatch.setattr(grading, "ipython", lambda: made)
    monkeypatch.setattr(grading, "say", lambda right, text: made.said.append((right, text)))
    monkeypatch.setattr(progress, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(lesson, "_number", None)
    monkeypatch.setenv("T2I_TIER", "cpu")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield made
    standby.end()


@pytest.mark.parametrize("tier", ["smoke", "cpu", "gpu"])
def test_the_tier_and_what_is_picked_for_it(tier: str, monkeypatch):
    monkeypatch.setenv("T2I_TIER", f" {tier.upper()} ")
    assert lesson.tier() == tier
    assert lesson.pick(smoke="smoke", cpu="cpu", gpu="gpu") == tier
    assert lesson.pick(cpu=None, smoke=1) == (1 if tier == "smoke" else None)


def test_without_the_variable_a_gpu_decides(monkeypatch):
    import torch

    monkeypatch.delenv("T2I_TIER", raising=False)
    for there, expected in ((True, "gpu"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert lesson.tier() == expected


def test_an_unknown_tier_is_refused_with_the_choices(monkeypatch):
    monkeypatch.setenv("T2I_TIER", "fast")
    with pytest.raises(ValueError, match="smoke, cpu, gpu; it is 'fast'"):
        lesson.tier()


def test_start_says_what_it_runs_on_and_gives_grade_and_quiz(shell, capsys):
    lesson.start(3)
    lines = capsys.readouterr().out.strip().split("\n")
    assert lines[0] == "Lesson 3 · DDPM on MNIST"
    assert lines[1].startswith("Tier: cpu (T2I_TIER), ") and "thread" in lines[1]
    assert lines[2].startswith("Data: ")
    assert lines[3].startswith("Lesson 3 stands on: the reference's lessons 1 and 2 (yours: not")
    assert shell.user_ns == {"grade": lesson.grade, "quiz": lesson.quiz}


def test_damaged_data_is_told_and_stops_nothing(shell, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("T2I_DATA", str(tmp_path / "nowhere"))
    lesson.start(1)
    assert "Data: cannot be used: T2I_DATA names" in capsys.readouterr().out


OWN = """
import sys
from pathlib import Path
from autograder import mine
file = Path(sys.argv[1], "schedules.py")
mine.own_modules = lambda number: ({"schedules": file} if number > 1 else {}, "your own lesson 1")
from t2i.lesson import start
start(2)
import t2i.unet
from t2i import schedules, diffusion
print(schedules.gather(1, 2, 3), schedules.__name__, t2i.schedules is schedules)
print(diffusion.add_noise is schedules.add_noise, diffusion.__file__ != str(file))
start(2)
del sys.modules["t2i.schedules"]
start(1)
from importlib import import_module
print("own" if import_module("t2i.schedules").__file__ == str(file) else "reference")
start(2)
"""


def test_earlier_lessons_come_from_the_learners_package(tmp_path):
    own = splice.replace(SCHEDULES, "gather", "def gather(values, t, like):\n    return 'mine'\n")
    tmp_path.joinpath("schedules.py").write_text(own, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-c", OWN, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.split("\n")
    assert "mine t2i.schedules True" in lines and "True True" in lines and "reference" in lines
    standing = [line for line in lines if "stands on" in line]
    assert standing[:2] == ["Lesson 2 stands on: your own lesson 1"] * 2
    assert standing[2].endswith("; restart the kernel to use your own schedules")


SLOW = """
import importlib.util, sys
sys.path.insert(0, sys.argv[1])
from t2i.lesson import start
start(1)
start(1)
print("found", importlib.util.find_spec("transformers") is not None)
from diffusers import DDPMScheduler
import transformers
print("and then", DDPMScheduler.__name__)
"""


def test_a_slow_library_is_announced_once_before_it_is_loaded(tmp_path):
    for name in ("diffusers", "transformers"):
        tmp_path.joinpath(name).mkdir()
        tmp_path.joinpath(name, "__init__.py").write_text(f"print('inside {name}')\n")
    with tmp_path.joinpath("diffusers", "__init__.py").open("a") as file:
        file.write("import transformers\nclass DDPMScheduler: pass\n")
    run = subprocess.run(
        [sys.executable, "-c", SLOW, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().split("\n")[-5:] == [
        "found True",
        "Loading diffusers, the library we compare with: up to half a minute ...",
        "inside diffusers",
        "inside transformers",
        "and then DDPMScheduler",
    ]


def test_grading_in_the_notebook_says_what_the_grader_says(shell):
    right = splice.definition(SCHEDULES, "snr")
    lesson.start(1)
    with pytest.raises(grading.NotPassed):
        lesson.grade("snr")
    assert shell.said.pop() == (
        None, "snr is not defined yet: run the cell in which you write it, then this one."
    )  # fmt: skip
    shell.run(IMPORTS)
    shell.run(right.replace("/ (1 - alphas_cumprod)", "/ (1 - alphas_cumprod).sqrt()"))
    with pytest.raises(grading.NotPassed):
        lesson.grade("snr")
    verdict, text = shell.said.pop()
    assert verdict is False and text.startswith("snr: 0/") and len(text) > 30
    shell.run(right)
    lesson.grade("snr")
    points = get_lesson(1).exercise("snr").points
    assert shell.said == [(True, f"snr: {points}/{points} points. Right.")]
    assert progress.passed(get_lesson(1)) == ["snr"], "recorded for make progress"


def test_after_the_graders_sentence_a_cell_ends_with_one_line(monkeypatch, capsys):
    """In IPython's own shell: no traceback stands between the sentence and its reader."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    monkeypatch.setattr(grading, "ipython", lambda: shell)
    monkeypatch.setattr(lesson, "_number", 1)
    monkeypatch.setenv("T2I_TIER", "cpu")
    for passed, reached in ((False, False), (None, True), (True, True)):
        monkeypatch.setattr(grading, "grade_exercise", lambda number, name, is_so=passed: is_so)
        shell.user_ns.update(grade=lesson.grade)
        capsys.readouterr()
        code = 'grade("snr")\nassert reached, "not yet"\nreached = True'
        shell.user_ns.update(reached=passed is not False)
        done = shell.run_cell(code, store_history=True)
        said = capsys.readouterr().out
        assert done.success is reached and shell.user_ns["reached"] is reached
        line = 'The rest of this cell runs once grade("snr") passes. '
        line += "The first check in it that fails: not yet"
        assert said.strip() == ("" if reached else line)


CELL = """
noise = torch.rand(1)
grade("half")
assert torch.equal(torch.rand(1), torch.rand(1)) is False
print("loud")
assert half(4) == 2, "half of four is two"
raise SystemExit
"""


@pytest.mark.parametrize(
    "body, said",
    [
        ("x", "The first check in it that fails: half of four is two"),
        ("x / 2", "Its checks would all pass, but they ask less than the grader does."),
        ("x / 0", "Its checks stop with ZeroDivisionError: division by zero"),
        ("x / y", "Its checks stop with NameError: name 'y' is not defined"),
    ],
)
def test_a_cell_that_ends_tells_what_its_checks_would_say(shell, capsys, monkeypatch, body, said):
    shell.user_ns.update(torch=torch, half=eval(f"lambda x: {body}"))
    shell.run(CELL if body != "x / 2" else CELL.replace("raise SystemExit", "half = None"))
    state = torch.get_rng_state()
    assert grading.told_by_checks("half") == said
    assert torch.equal(torch.get_rng_state(), state) and capsys.readouterr().out == ""
    assert shell.user_ns["half"] is not None and "noise" not in shell.user_ns
    shell.run("def half(:")
    assert grading.told_by_checks("half") == ""
    shell.run('grade("half")\nnoise = 1 / 0')
    assert grading.told_by_checks("half") == "", "no checks"
    monkeypatch.setattr(grading, "CHECK_SECONDS", 0.1)
    shell.run('grade("half")\nwhile True: pass\nassert 0, "never"')
    assert grading.told_by_checks("half") == "", "it ends"
    exec("def knows(x): seen.append(x)", shell.user_ns)  # of an earlier cell
    shell.user_ns["seen"] = kept = []
    shell.run('grade("half")\nseen = []\nknows(3)\nassert seen == [3], "not seen"')
    assert grading.told_by_checks("half").startswith("Its checks would all pass")
    assert shell.user_ns["seen"] is kept
    shell.run("half(3)")
    assert grading.told_by_checks("half") == "", "no grade in it"


def test_a_wrong_name_lists_the_right_ones(shell):
    lesson.grade("snr")
    assert "start(…)" in shell.said.pop()[1]
    lesson.start(1)
    lesson.grade("snrr")
    right, text = shell.said.pop()
    assert right is None and "no exercise 'snrr'" in text and "linear_betas" in text


def test_grading_is_skipped_in_the_smoke_tier(shell, monkeypatch, capsys):
    monkeypatch.setenv("T2I_TIER", "smoke")
    lesson.start(1)
    lesson.grade("snr")
    assert "snr: grading is skipped in the smoke tier" in capsys.readouterr().out


def test_without_the_autograder_one_sentence_says_so(shell, monkeypatch):
    lesson.start(1)
    monkeypatch.setitem(sys.modules, "autograder.lesson", None)
    lesson.grade("snr")
    assert "autograder is not installed" in shell.said.pop()[1]


def test_the_history_becomes_a_notebook_whose_cells_keep_their_numbers():
    cells = ["", "a = 1", "def f():\n    return 1", "a = 1", "def f():\n    return 2", "f()"]
    sources = _sources(grading.as_notebook(cells, "f"))
    assert sources == ["", cells[2], "a = 1", cells[4], "f()"]
    cells += ["class Box:\n    pass", "def f(:"]
    sources = _sources(grading.as_notebook(cells, "f"))
    assert sources[1] == sources[3] == "" and sources[-1] == "def f(:" and "class" in sources[5]
    stub = "def f():\n    raise NotImplementedError('write it')"
    assert _sources(grading.as_notebook(["", "def f():\n    return 1", stub], "f")) == ["", stub]
    sources = _sources(grading.as_notebook(["", "class Box:\n    x = 1", "class Box(:"], "Box.x"))
    assert sources == ["", "class Box(:"]


def _sources(notebook: bytes) -> list[str]:
    return [cell["source"] for cell in json.loads(notebook)["cells"]]


def test_sentences_are_shown_as_text_and_as_a_page(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(grading, "ipython", lambda: types.SimpleNamespace(kernel=1))
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    grading.say(False, "a < b")
    assert shown[0]["text/plain"] == "✘ a < b" and "a &lt; b" in shown[0]["text/html"]
    monkeypatch.setattr(grading, "ipython", lambda: None)
    grading.say(True, "a < b")
    assert capsys.readouterr().out == "✔ a < b\n"


def test_questions_are_answered(shell, tmp_path, monkeypatch):
    monkeypatch.chdir(fake_lesson.make(tmp_path / "fake").folder)
    for answer in ("", "a", " B) ", "z"):
        lesson.quiz("chain", answer=answer)
    lesson.quiz("chian")
    rights, texts = zip(*shell.said, strict=True)
    assert rights == (None, False, True, None, None)
    assert "a, b" in texts[0] and "There is one." in texts[1] and "Right. So it is." in texts[2]
    assert "no option 'z'" in texts[3] and "it has: chain" in texts[4]


def test_questions_are_found_from_elsewhere_or_missed_clearly(shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lesson.quiz("chain", answer="a")
    assert "quiz.toml is not here" in shell.said.pop()[1]
    lesson.start(1)
    lesson.quiz("no such question")
    assert "it has: " in shell.said.pop()[1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[chain", "cannot be read"),
        ("[chain]\nright = 'a'", "needs a question"),
        ("[chain]\nquestion = 'q'\nright = 'c'\noptions = {a = ['x', 'y'], b = ['x', 'y']}", "'c'"),
        ("[chain]\nquestion = 'q'\nright = 'a'\noptions = {a = 'x', b = ['x', 'y']}", "option a"),
    ],
)
def test_a_malformed_question_is_named(text: str, says: str, tmp_path):
    tmp_path.joinpath("quiz.toml").write_text(text)
    with pytest.raises(quiz.QuizError, match=says):
        quiz.load(tmp_path, "chain")
