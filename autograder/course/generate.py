"""A class that nobody teaches: submissions of mixed quality, some of them hostile.

Every file differs from every other in what is graded, so that none finds its result in the cache.
"""

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from autograder import catalogue
from autograder.build import build, write
from autograder.lesson import Lesson
from autograder.solve import solved

# What a class hands in, in shares of 100: hostile are five, and two cannot be read.
KINDS = {"solved": 25, "right": 18, "wrong": 30, "half": 14, "blank": 6, "unreadable": 2}
KINDS |= {"hostile": 5}
HOSTILE = {
    "endless": "while True:\n    pass",
    "sleeps": "import time\ntime.sleep(1e6)",
    "memory": "held = []\nwhile True:\n    held.append(bytearray(200_000_000))",
    "ends": "import os\nos._exit(0)",
    "crashes": "import ctypes\nctypes.string_at(0)",
    "kills": "import os\nfor _ in range(9):\n    os.kill(os.getppid(), 9)\nos.kill(-1, 9)",
    "floods": "print('x' * 10**8)\nreturn 'x' * 10**8",
    "equals": "class Same:\n    __eq__ = __ge__ = __le__ = lambda *_: True\nreturn Same()",
    "patches": "import torch\ntorch.allclose = torch.testing.assert_close = lambda *a, **k: True",
    "writes": "open('/tmp/left', 'w').write('x')\nreturn open('/stage/worker.py', 'a')",
}
UNREADABLE = (b"", b'{"cells": [{"cell_ty', b"\xff\xfe\x00not a notebook", b"[1, 2, 3]")


@dataclass(frozen=True)
class Made:
    """One submission of a generated class."""

    student: str
    kind: str
    content: bytes


def class_of(lesson: Lesson, count: int, seed: int = 0) -> Iterator[Made]:
    """A class of `count` students; the same seed makes the same one.

    Args:
        lesson: what they hand in.
        count: how many.
        seed: of the choices.
    """
    maker = Maker(lesson, seed)
    kinds = [kind for kind, share in KINDS.items() for _ in range(share)]
    for start in range(0, count, len(kinds)):
        size = min(len(kinds), count - start)
        chosen = kinds[:] if size == len(kinds) else _spread(kinds, size)
        maker.rng.shuffle(chosen)
        for number, kind in enumerate(chosen, start + 1):
            yield Made(f"s{number:05}", kind, maker.make(kind, number))


def write_class(lesson: Lesson, count: int, folder: Path, seed: int = 0) -> dict[str, str]:
    """Write a class's files, `<student>.ipynb`; returns each student's kind."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {}
    for made in class_of(lesson, count, seed):
        (folder / f"{made.student}.ipynb").write_bytes(made.content)
        kinds[made.student] = made.kind
    return kinds


class Maker:
    """Makes submissions of one lesson."""

    def __init__(self, lesson: Lesson, seed: int = 0):
        self.lesson, self.rng = lesson, random.Random(f"class {seed}")
        self.entries = catalogue.entries(lesson)
        self._solved, self._blank = json.loads(write(solved(lesson))), build(lesson)[1]

    def make(self, kind: str, number: int) -> bytes:
        """One submission of a kind, which differs from all with another number."""
        if kind == "unreadable":
            return self.rng.choice(UNREADABLE)
        notebook = self._notebook(kind, number)
        for cell in self._exercises(notebook):
            cell["source"] = f"# {kind} {number}\n" + _text(cell)
        return json.dumps(notebook).encode()

    def _notebook(self, kind: str, number: int) -> dict:
        if kind in ("right", "wrong"):
            listed = [entry for entry in self.entries if entry.right == (kind == "right")]
            chosen = self.rng.sample(listed, min(len(listed), self.rng.randint(1, 3)))
            alone = {entry.exercise: entry for entry in chosen}  # one answer to an exercise
            return json.loads(catalogue.notebook_with(self.lesson, tuple(alone.values())))
        if kind == "hostile":
            name = sorted(HOSTILE)[number % len(HOSTILE)]
            return self._attacked(HOSTILE[name])
        if kind == "solved":
            return copy.deepcopy(self._solved)
        notebook = json.loads(write(self._blank))
        if kind == "half":
            answers = [_text(cell) for cell in self._exercises(self._solved)]
            cells = self._exercises(notebook)
            for index in self.rng.sample(range(len(cells)), len(cells) // 2):
                cells[index]["source"] = answers[index]
        return notebook

    def _attacked(self, body: str) -> dict:
        """The solved notebook, one function of which does something else."""
        notebook = copy.deepcopy(self._solved)
        cells = [cell for cell in self._exercises(notebook) if _text(cell).startswith("def ")]
        cell = self.rng.choice(cells)
        name = _text(cell).partition("(")[0].removeprefix("def ")
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        cell["source"] = f"def {name}(*args, **kwargs):\n{lines}"
        return notebook

    def _exercises(self, notebook: dict | NotebookNode) -> list[dict]:
        names = {exercise.grade_id for exercise in self.lesson.exercises}
        tags = [cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in notebook["cells"]]
        return [c for c, tag in zip(notebook["cells"], tags, strict=True) if tag in names]


def _spread(kinds: list[str], count: int) -> list[str]:
    """Some of the kinds in the shares of all of them."""
    return [kinds[int((index + 0.5) * len(kinds) / count)] for index in range(count)]


def _text(cell: dict) -> str:
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
