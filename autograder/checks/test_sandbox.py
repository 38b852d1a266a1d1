"""What a worker may see of the package, and what the kernel refuses to a test."""

import ast
import platform
import shutil
import subprocess
import sys

import pytest

from autograder import sandbox, seccomp
from autograder.extract import stubs
from autograder.lesson import LESSONS, Lesson

WRITTEN = [lesson for lesson in LESSONS if lesson.exists]


@pytest.mark.parametrize("lesson", WRITTEN, ids=lambda lesson: lesson.slug)
def test_a_worker_sees_no_answer_of_its_lesson_nor_of_a_later_one(lesson: Lesson, tmp_path):
    package = sandbox.stage(lesson, tmp_path) / "t2i"
    for other in WRITTEN:
        for exercise in other.exercises:
            file, head = package / f"{exercise.module}.py", exercise.name.partition(".")[0]
            if other.number > lesson.number:
                assert not file.exists(), exercise.target
                continue
            found = [n for n in ast.parse(file.read_text()).body if getattr(n, "name", "") == head]
            assert len(found) == 1, exercise.target
            assert bool(stubs(found[0], exercise.name)) == (other is lesson), exercise.target


REFUSED = """
import os, resource, socket, subprocess, sys, threading
sys.path.insert(0, sys.argv[1])
import seccomp
parent = os.getppid()
seccomp.refuse()

def is_refused(call):
    try:
        call()
    except (OSError, RuntimeError):
        return True
    return False

calls = {
    "fork": os.fork,
    "thread": threading.Thread(target=print).start,
    "program": lambda: subprocess.run([sys.executable, "--version"]),
    "exec": lambda: os.execv(sys.executable, [sys.executable, "--version"]),
    "signal": lambda: os.kill(parent, 0),
    "everybody": lambda: os.kill(-1, 0),
    "limit": lambda: resource.prlimit(parent, resource.RLIMIT_CORE),
    "priority": lambda: os.setpriority(os.PRIO_PROCESS, parent, 19),
    "socket": socket.socket,
    "namespace": lambda: os.unshare(0x10000000) if hasattr(os, "unshare") else os.fork(),
}
print([name for name, call in calls.items() if not is_refused(call)])
os.kill(os.getpid(), 0)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print(open(seccomp.__file__).read(3))
"""
WORKS_HERE = sys.platform == "linux" and platform.machine() in seccomp.ARCHITECTURES


@pytest.mark.skipif(not WORKS_HERE, reason="seccomp is Linux's, and known here on two processors")
def test_a_test_may_reach_nobody_but_itself():
    command = [sys.executable, "-c", REFUSED, str(sandbox.HERE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.split("\n")[:2], done.stderr) == (["[]", '"""'], "")


@pytest.mark.parametrize("machine", list(seccomp.ARCHITECTURES))
def test_the_filter_allows_what_it_does_not_name_and_nothing_twice(machine):
    column = list(seccomp.ARCHITECTURES).index(machine)
    listed = [*seccomp.REFUSED.values(), *seccomp.ONLY_ITSELF.values()]
    numbers = [each[column] for each in listed if each[column] is not None]
    assert len(numbers) == len(set(numbers))
    program = seccomp.instructions(machine, process=77)

    def verdict(number: int, argument: int = 0, architecture: str = machine) -> int:
        """What the kernel would make of a call."""
        seen = {
            seccomp.NUMBER: number,
            seccomp.ARCHITECTURE: seccomp.ARCHITECTURES[architecture],
            seccomp.FIRST_ARGUMENT: argument,
        }
        place = value = 0
        while True:
            code, yes, no, constant = program[place]
            if code == seccomp.RETURN:
                return constant
            if code == seccomp.LOAD:
                value = seen[constant]
                place += 1
            else:
                is_true = value == constant if code == seccomp.IF_EQUAL else value >= constant
                place += 1 + (yes if is_true else no)

    for numbers in seccomp.REFUSED.values():
        if numbers[column] is not None:
            assert verdict(numbers[column]) == seccomp.REFUSE
    for numbers in seccomp.ONLY_ITSELF.values():
        allowed = [verdict(numbers[column], argument) for argument in (0, 77)]
        assert allowed == [seccomp.ALLOW] * 2
        assert verdict(numbers[column], 78) == verdict(numbers[column], -1) == seccomp.REFUSE
    read = {"x86_64": 0, "aarch64": 63}[machine]
    assert verdict(read, 78) == seccomp.ALLOW
    other = next(each for each in seccomp.ARCHITECTURES if each != machine)
    assert verdict(read, architecture=other) == seccomp.REFUSE


def test_without_bubblewrap_it_says_how_to_get_it(monkeypatch):
    monkeypatch.delenv("T2I_SANDBOX", raising=False)
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    mode = sandbox.detect.__wrapped__()
    assert not mode.is_sandbox and "apt install bubblewrap" in str(mode)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_a_home_that_the_sandbox_would_show_is_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("T2I_SANDBOX", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "python" / "home"))
    monkeypatch.setattr(sandbox.sys, "base_prefix", str(tmp_path / "python"))
    mode = sandbox.detect.__wrapped__()
    assert not mode.is_sandbox and f"lies in {tmp_path / 'python'}" in str(mode)
