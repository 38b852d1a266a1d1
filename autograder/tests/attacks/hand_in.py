"""What attackers and their honest neighbours hand in, and the place where they do it."""

import contextlib
import copy
import ctypes
import functools
import json
import os
import platform
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from autograder import remote
from autograder.build import build, write
from autograder.course.cycle import isolated
from autograder.lesson import REPOSITORY, Lesson, get_lesson
from autograder.solve import solved
from autograder.tests.attacks import Attack

SEED = 771_204_993_165_028_443  # a private one: no student may see it
CANARY = "a-secret-of-the-instructor-3f9c1e"
OWN_WORK = "# the neighbour's own work 8b1d44"
HONEST = {1: ("linear_betas",)}  # what every attacker answers rightly
NEIGHBOURS = ("a_neighbour", "m_neighbour", "zz_neighbour")  # before, between and after
NEIGHBOURS_ANSWER = {1: ("linear_betas", "snr"), 2: ("timestep_embedding",), 9: ("modulate",)}
CLOCK_SECONDS = 12.0  # in the place of remote.CALL_SECONDS: nobody here is honest and slow


@dataclass
class Place:
    """What an attack may try to reach: a home, a course, the repository."""

    home: Path
    course: Path
    port: int  # somebody listens there, and on the socket "t2i-<port>"

    def fill(self, text: str) -> str:
        """The text with this machine's paths in the place of their marks."""
        marks = {"@HOME@": self.home, "@COURSE@": self.course, "@REPOSITORY@": REPOSITORY}
        for mark, value in (marks | {"@PORT@": self.port}).items():
            text = text.replace(mark, str(value))
        return text


@contextlib.contextmanager
def place(folder: Path) -> Iterator[Place]:
    """A home and a keyring with a secret in them, a private seed, open doors, less patience."""
    with (
        isolated(folder),
        secret_key(),
        socket.create_server(("127.0.0.1", 0)) as door,
        socket.socket(socket.AF_UNIX) as line,
    ):
        port = door.getsockname()[1]
        line.bind(f"\0t2i-{port}")
        line.listen()
        home = Path(os.environ["HOME"])
        (home / ".secret").write_text(CANARY)
        secrets = {"T2I_CANARY": CANARY, "GRADER_SEED": str(SEED)}
        with (  # one place may lie in another: each leaves what it found
            patch.dict(os.environ, secrets),
            patch.object(remote, "CALL_SECONDS", CLOCK_SECONDS),
        ):
            yield Place(home, folder / "course", port)


@contextlib.contextmanager
def secret_key() -> Iterator[None]:
    """A key in the session's keyring, which processes hand on to those that they start."""
    call = ctypes.CDLL(None).syscall
    known = platform.machine() == "x86_64"
    key = call(248, b"user", b"t2i-secret", CANARY.encode(), len(CANARY), -3) if known else -1
    yield
    if key > 0:
        call(250, 9, key, -3, 0, 0)  # taken out of the ring


def notebook(attack: Attack, where: Place) -> bytes:
    """The file that the attacker hands in."""
    lesson = get_lesson(attack.lesson)
    content = _with(lesson, HONEST.get(lesson.number, ()))
    for name, source in attack.answers.items():
        _cell(content, lesson, name)["source"] = where.fill(source)
    extra = [_code(where.fill(source)) for source in attack.cells]
    content["cells"] = extra + content["cells"]
    if attack.change is not None:
        attack.change(content)
    data = json.dumps(content).encode()
    return attack.content(data) if attack.content is not None else data


def neighbour(lesson: Lesson) -> bytes:
    """An honest student's file, worth some of the points."""
    content = _with(lesson, NEIGHBOURS_ANSWER[lesson.number])
    content["cells"][0]["source"] = OWN_WORK
    for name in NEIGHBOURS_ANSWER[lesson.number]:
        cell = _cell(content, lesson, name)
        cell["source"] = f"{OWN_WORK}\n{cell['source']}"
    return json.dumps(content).encode()


def honest_score(lesson: Lesson) -> int:
    return sum(lesson.exercise(name).points for name in NEIGHBOURS_ANSWER[lesson.number])


def lay(attack: Attack, folder: Path, where: Place) -> Path:
    """Write what the attacker hands in into a folder; the notebook's path."""
    folder.mkdir(parents=True)
    path = folder / f"{get_lesson(attack.lesson).slug}.ipynb"
    path.write_bytes(notebook(attack, where))
    if attack.beside is not None:
        others = path.parents[2] / NEIGHBOURS[0] / path.parent.name / path.name
        attack.beside(folder, {"home": where.home, "course": where.course, "neighbour": others})
    return path


def _with(lesson: Lesson, names: tuple[str, ...]) -> dict:
    """The blank notebook with the reference's answers to these exercises in it."""
    blank, full = (json.loads(text) for text in _notebooks(lesson))
    content = copy.deepcopy(blank)
    for name in names:
        _cell(content, lesson, name)["source"] = _cell(full, lesson, name)["source"]
    return content


def _cell(content: dict, lesson: Lesson, exercise: str) -> dict:
    grade_id = lesson.exercise(exercise).grade_id
    for cell in content["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == grade_id:
            cell["source"] = "".join(cell["source"])
            return cell
    raise KeyError(grade_id)


def _code(source: str) -> dict:
    empty = {"metadata": {}, "outputs": [], "execution_count": None}
    return {"cell_type": "code", "source": source} | empty


@functools.cache
def _notebooks(lesson: Lesson) -> tuple[str, str]:
    return write(build(lesson)[1]), write(solved(lesson))
