"""A grader that has started before it is asked, so that a notebook's `grade` answers in a second.

Nearly all the time that grading takes is loading: torch and the libraries to compare with for the
hidden tests, and torch again in the sandbox for the learner's code. So after each answer the next
grader is started; it loads all that, and waits. It ends when it was not asked for ten minutes
(`autograder.answer`), and when the notebook's kernel ends.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

QUIET_SECONDS = 3.0
LONGEST_SECONDS = 180.0


@dataclass
class Standby:
    """A grader of one lesson; it can be asked once."""

    lesson: int
    environment: dict[str, str]  # what it was started with
    process: subprocess.Popen


_waiting: Standby | None = None


def ask(lesson: int, exercise: str, notebook: str) -> tuple[dict | None, str]:
    """Grade one exercise.

    Args:
        lesson: number of the lesson.
        exercise: its name.
        notebook: text of an .ipynb file.

    Returns:
        (the grader's result, "") or (None, why there is none).
    """
    question = json.dumps({"exercise": exercise, "notebook": notebook}).encode()
    grader = _take(lesson)
    said = _converse(grader.process, question)
    if said == (0, "", ""):  # it had just stopped waiting
        said = _converse(_start(lesson).process, question)
    _prepare(lesson)
    code, answer, complaint = said
    if code is None:
        return None, f"it took longer than {LONGEST_SECONDS:.0f} s"
    with contextlib.suppress(ValueError):
        result = json.loads(answer)
        return (None, result["problem"]) if result.get("problem") else (result, "")
    lines = complaint.strip().splitlines() or [f"the grader stopped with code {code}"]
    return None, lines[-1]


def command(lesson: int) -> list[str]:
    """What starts a grader."""
    return [sys.executable, "-m", "autograder", "answer", str(lesson)]


def end() -> None:
    """Let the grader that waits, if there is one, end and tidy up; nobody waits for that."""
    global _waiting
    grader, _waiting = _waiting, None
    if grader is not None:  # communicate closes its stdin: it is not going to be asked
        threading.Thread(target=grader.process.communicate, daemon=True).start()


def _take(lesson: int) -> Standby:
    """The grader that waits, if it would do what a new one does; else a new one."""
    global _waiting
    grader = _waiting
    fits = grader is not None and grader.lesson == lesson and grader.environment == os.environ
    if not fits or grader.process.poll() is not None:
        end()
        return _start(lesson)
    _waiting = None
    return grader


def _prepare(lesson: int) -> None:
    global _waiting
    end()
    _waiting = _start(lesson)


def _start(lesson: int) -> Standby:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command(lesson),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,  # interrupting a cell does not end it
    )
    return Standby(lesson, dict(os.environ), process)


def _converse(process: subprocess.Popen, question: bytes) -> tuple[int | None, str, str]:
    """(exit code, answer, complaint); a row of dots grows while it takes long, and None ends it."""
    dots, deadline = 0, time.monotonic() + LONGEST_SECONDS
    with ThreadPoolExecutor(1) as thread:
        said = thread.submit(process.communicate, question)
        try:
            while time.monotonic() < deadline:
                try:
                    answer, complaint = said.result(timeout=1.0 if dots else QUIET_SECONDS)
                except TimeoutError:
                    dots += 1
                    print("\rgrading " + "." * dots, end="", flush=True)
                else:
                    code = process.returncode
                    return code, answer.decode(errors="replace"), complaint.decode(errors="replace")
            return None, "", ""
        finally:
            if dots:
                print()
            process.kill()
