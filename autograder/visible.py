"""Which wrong answers of a catalogue pass the checks that a learner can read.

    make visible lesson=6

Where a class works from a bundle, these checks are all that runs on the students' machines; this
says which mistakes they let through. The solved notebook runs here, in the smoke tier, cell by
cell. Before the checks of an exercise, a fork for each wrong answer of the catalogue takes it in
the reference's place and meets them. There is no sandbox, since the catalogue is ours.
"""

import ast
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import torch

from autograder.catalogue import Entry, entries, merged, with_answers
from autograder.lesson import Lesson
from autograder.solve import solved

SECONDS = 60  # for one answer, and its checks


def main(lesson: Lesson) -> int:
    """Print the wrong answers that pass, and how many there are."""
    met = passed = 0
    for entry, said in look(lesson):
        met, passed = met + 1, passed + (not said)
        if not said:
            print(f"passes {entry.exercise}: {entry.name}  (grader: /{entry.says}/)", flush=True)
    print(f"lesson {lesson.number}: {passed} of {met} wrong answers pass the visible checks")
    return 0


def look(lesson: Lesson) -> Iterator[tuple[Entry, str]]:
    """Each wrong answer whose exercise has visible checks, and which error stops it; "" if none."""
    torch.set_num_threads(1)  # a fork has none of the others, and would wait for them
    wrong = [entry for entry in entries(lesson) if not entry.right]
    held = {"__name__": "__main__"} | dict.fromkeys(("grade", "quiz", "display"), _nothing)
    with _a_copy_of(lesson.folder), warnings.catch_warnings(action="ignore"):
        for cell, name, answer in with_answers(solved(lesson), lesson):
            if cell.cell_type != "code":
                continue
            tree = ast.parse(cell.source)
            if name and any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
                for entry in (entry for entry in wrong if entry.exercise == name):
                    yield entry, _said(merged(answer, entry), cell.source, held)
            with open(os.devnull, "w") as out, redirect_stdout(out), redirect_stderr(out):
                exec(compile(tree, "cell", "exec"), held)


def _said(answer: str, checks: str, held: dict) -> str:
    """What stops the checks, in a process of their own; "" where nothing does."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1), os.dup2(nowhere, 2)
        signal.alarm(SECONDS)
        said = ""
        try:
            exec(compile(answer, "answer", "exec"), held)
            exec(compile(checks, "checks", "exec"), held)
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as stream:
        said = stream.read()
    status = os.waitpid(child, 0)[1]
    return said or (f"ended with status {status}" if status else "")


@contextmanager
def _a_copy_of(folder: Path) -> Iterator[None]:
    """In the smoke tier and in a copy of the lesson's folder, for what its cells write."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        chdir(shutil.copytree(folder, Path(scratch, folder.name))),
        mock.patch.dict(os.environ, T2I_TIER="smoke", MPLBACKEND="Agg"),
    ):
        yield


def _nothing(*_: object, **__: object) -> None:
    """Stands for what a notebook offers to every cell."""
