"""The grader that has started before it is asked: `t2i.classroom.standby`, `autograder.answer`."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autograder import splice
from autograder.lesson import PACKAGE, get_lesson
from t2i.classroom import grading, standby

SNR = splice.definition(PACKAGE.joinpath("schedules.py").read_text(encoding="utf-8"), "snr")
CELLS = ["", "import torch\nfrom torch import Tensor\n", SNR]


@pytest.fixture(autouse=True)
def none_waits():
    yield
    standby.end()


def ask(exercise: str = "snr", cells=CELLS) -> tuple[dict | None, str]:
    return standby.ask(1, exercise, grading.as_notebook(cells, exercise).decode())


def scripts(monkeypatch, *scripts: str) -> None:
    """Let these stand for the graders that are started, one after the other; the last for all."""
    left = list(scripts)

    def command(lesson: int) -> list[str]:
        return [sys.executable, "-c", left.pop(0) if len(left) > 1 else left[0]]

    monkeypatch.setattr(standby, "command", command)


def test_the_next_grader_waits_and_answers_for_the_cells_of_then():
    wrong = SNR.replace("/ (1 - alphas_cumprod)", "/ (1 - alphas_cumprod).sqrt()")
    assert wrong != SNR
    result, problem = ask(cells=[*CELLS[:2], wrong])
    assert problem == "" and result["score"] == 0 and result["exercises"][0]["picture"]
    waiting = standby._waiting.process
    assert waiting.poll() is None
    result, problem = ask()
    assert problem == "" and result["score"] == get_lesson(1).exercise("snr").points
    assert waiting.returncode == 0, "the one that waited has answered"
    assert standby._waiting.process.pid != waiting.pid


def test_one_that_was_started_with_other_variables_or_for_another_lesson_is_not_asked(monkeypatch):
    said = "import json, os, sys; sys.stdin.read(); print(json.dumps({'problem': None, 'seed': "
    scripts(monkeypatch, said + "os.environ.get('GRADER_SEED')}))")
    monkeypatch.delenv("GRADER_SEED", raising=False)
    assert ask()[0]["seed"] is None
    old = standby._waiting.process
    monkeypatch.setenv("GRADER_SEED", "77")
    assert ask()[0]["seed"] == "77"
    assert old.wait(timeout=60) is not None, "nothing is left behind"
    waiting = standby._waiting.process
    standby.ask(2, "ResBlock", "{}")
    assert waiting.wait(timeout=60) is not None and standby._waiting.lesson == 2


@pytest.mark.parametrize("pause", [0, 1.5], ids=["before", "while it is asked"])
def test_one_that_has_stopped_waiting_is_replaced(pause, monkeypatch):
    answer = "import sys; sys.stdin.read(); print('{\"score\": 5}')"
    scripts(monkeypatch, answer, f"import time; time.sleep({pause})", answer)
    assert ask()[0] == {"score": 5}
    if not pause:
        standby._waiting.process.wait(timeout=60)
    assert ask() == ({"score": 5}, "")


def test_one_that_fails_is_told_in_one_line(monkeypatch):
    fails = "import sys; sys.stdin.read(); print('one\\nthe reason', file=sys.stderr); sys.exit(2)"
    scripts(monkeypatch, fails)
    assert ask() == (None, "the reason")
    standby.end()
    scripts(monkeypatch, "import sys; sys.stdin.read(); sys.exit(7)")
    assert ask() == (None, "the grader stopped with code 7")
    assert ask("snrr")[0] is None


def test_the_grader_names_what_it_lacks():
    result, problem = ask("snrr")
    assert result is None and "no exercise 'snrr'" in problem
    result, problem = standby.ask(1, "snr", "not a notebook")
    assert result is None and "notebook" in problem


def test_dots_show_while_it_takes_long_and_it_ends(monkeypatch, capsys):
    monkeypatch.setattr(standby, "QUIET_SECONDS", 0.2)
    monkeypatch.setattr(standby, "LONGEST_SECONDS", 2.0)
    scripts(monkeypatch, "import sys, time; sys.stdin.read(); time.sleep(60)")
    result, problem = standby.ask(1, "snr", "x" * 1_000_000)
    assert result is None and "longer than 2 s" in problem
    assert "grading .." in capsys.readouterr().out


def test_a_long_notebook_reaches_a_grader_that_is_slow_to_read(monkeypatch):
    monkeypatch.setattr(standby, "QUIET_SECONDS", 0.2)
    slow = "import json, sys, time; time.sleep(1.5); size = len(sys.stdin.read()); "
    scripts(monkeypatch, slow + "print(json.dumps({'size': size}))")
    result, _ = standby.ask(1, "snr", "x" * 1_000_000)  # more than a pipe holds
    assert result["size"] > 1_000_000


def test_one_that_is_not_asked_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    standby._prepare(1)
    process, deadline = standby._waiting.process, time.monotonic() + 60
    while not list(tmp_path.glob("t2i-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.glob("t2i-*")), "the sandbox's folder"
    standby.end()
    assert process.wait(timeout=120) == 0
    assert list(tmp_path.glob("t2i-*")) == []


def test_it_ends_when_nobody_asks():
    script = "from autograder import answer, lesson; answer.WAIT_SECONDS = 0.1; "
    command = [sys.executable, "-c", script + "answer.main(lesson.get_lesson(1))"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.wait(timeout=120) == 0  # its stdin is open all the time
        assert process.stdout.read() == b""


def test_it_ends_with_the_kernel_even_if_that_is_killed():
    script = "import os, signal; from t2i.classroom import standby; standby._prepare(1); "
    script += "print(standby._waiting.process.pid, flush=True); os.kill(os.getpid(), 9)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    number, deadline = int(run.stdout), time.monotonic() + 120
    while is_running(number) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not is_running(number)


def is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{number}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")
