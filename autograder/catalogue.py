"""The grader proves itself: every wrong answer is caught and explained, no right one is punished.

`wrong_answers/lesson_NN.py` holds both kinds as source text. An entry takes the place of its
exercise in the solved notebook; the rest of the notebook is the reference. Wrong answers are
graded one by one. Right ones are graded in rounds, one of each exercise together in a notebook:
so they have to bear each other's company too, and a lesson is graded four times, not twenty.
"""

import ast
import functools
import re
import runpy
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from autograder import splice
from autograder.build import build, write
from autograder.grader import Result, grade
from autograder.lesson import Lesson
from autograder.process import Worker
from autograder.solve import solved


@dataclass(frozen=True)
class Entry:
    """One answer: `right`, or wrong with a pattern that its message must match."""

    exercise: str
    name: str
    code: str
    right: bool
    says: str = ""
    also_breaks: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.exercise}: {self.name} ({'right' if self.right else 'wrong'})"


def entries(lesson: Lesson) -> list[Entry]:
    """All entries of a lesson's catalogue."""
    content = runpy.run_path(str(lesson.catalogue))
    found = []
    for right, listed in ((False, content["WRONG"]), (True, content["RIGHT"])):
        for item in listed:
            item = dict(item, also_breaks=tuple(item.get("also_breaks", ())))
            found.append(Entry(right=right, **item))
    return found


def rounds(listed: list[Entry]) -> list[tuple[Entry, ...]]:
    """What is graded together: each wrong answer alone, the right ones one of each exercise."""
    alone = [(entry,) for entry in listed if not entry.right]
    own: dict[str, list[Entry]] = {}
    for entry in listed:
        if entry.right:
            own.setdefault(entry.exercise, []).append(entry)
    together = zip_longest(*own.values())
    return [*alone, *(tuple(entry for entry in some if entry) for some in together)]


def label(together: tuple[Entry, ...]) -> str:
    """A name for what is graded together."""
    if len(together) == 1:
        return together[0].label
    return "right: " + ", ".join(f"{entry.exercise} {entry.name}" for entry in together)


def notebook_with(lesson: Lesson, together: tuple[Entry, ...]) -> bytes:
    """The solved notebook with each entry in the place of its exercise."""
    notebook = _solved(lesson)
    by_id = {lesson.exercise(entry.exercise).grade_id: entry for entry in together}
    for cell in notebook.cells:
        entry = by_id.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if entry:
            cell.source = merged(cell.source, entry)
    return write(notebook).encode()


def with_right_variants(lesson: Lesson) -> NotebookNode:
    """The solved notebook, in which every right variant meets the visible checks, too.

    Each stands in a cell of its own before the checks of its exercise, together with them; then
    comes the reference once more, with which the notebook goes on.
    """
    notebook, found = _solved(lesson), []
    variants = [entry for entry in entries(lesson) if entry.right]
    for cell, name, answer in with_answers(notebook, lesson):
        if name:
            for entry in (entry for entry in variants if entry.exercise == name):
                source = f"# {entry.label}\n{merged(answer, entry)}\n\n{cell.source}"
                found.append(new_code_cell(source))
            found.append(new_code_cell(answer))
        found.append(cell)
    notebook.cells = found
    return notebook


def with_answers(notebook: NotebookNode, lesson: Lesson) -> Iterator[tuple[NotebookNode, str, str]]:
    """Each cell; with the checks of an exercise come its name and the answer that stands there."""
    names = {exercise.grade_id: exercise.name for exercise in lesson.exercises}
    name = answer = ""
    for cell in notebook.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        if grade_id in names:
            name, answer = names[grade_id], cell.source
        its = bool(name) and f'grade("{name}")' in cell.source
        yield cell, name if its else "", answer


def _solved(lesson: Lesson) -> NotebookNode:
    return nbformat.reads(_solved_text(lesson), as_version=4)


@functools.cache
def _solved_text(lesson: Lesson) -> str:
    return write(solved(lesson))


def problems(lesson: Lesson, together: tuple[Entry, ...], worker: Worker) -> list[str]:
    """What the grader got wrong about the entries of one notebook; empty where it did well."""
    notebook = notebook_with(lesson, together)
    entry = together[0]
    if entry.right or entry.also_breaks:
        return _judge(grade(notebook, lesson, worker=worker), entry)
    return _judge(grade(notebook, lesson, only=entry.exercise, worker=worker), entry)


def check(lesson: Lesson, worker: Worker) -> Iterator[tuple[str, list[str]]]:
    """Run the whole catalogue: (label, what went wrong) for each notebook graded."""
    yield "reference", ends(lesson, worker, written=True)
    yield "blank", ends(lesson, worker, written=False)
    for together in rounds(entries(lesson)):
        yield label(together), problems(lesson, together, worker)


def ends(lesson: Lesson, worker: Worker, written: bool) -> list[str]:
    """What went wrong with the solved notebook, or with the untouched one."""
    notebook = solved(lesson) if written else build(lesson)[1]
    result = grade(write(notebook).encode(), lesson, worker=worker)
    if result.score == (100 if written else 0):
        return []
    lines = [f"{e.name}: {e.message}" for e in result.exercises if e.status != "passed"]
    return [f"scores {result.score}", *lines]


def _judge(result: Result, entry: Entry) -> list[str]:
    found = []
    for exercise in result.exercises:
        if exercise.name == entry.exercise and not entry.right:
            if exercise.points:
                found.append("not caught")
            elif not re.search(entry.says, exercise.message, re.IGNORECASE):
                found.append(f"message does not match /{entry.says}/: {exercise.message}")
        elif exercise.name not in entry.also_breaks and exercise.status != "passed":
            found.append(f"{exercise.name} lost its points: {exercise.message}")
    return found


def merged(cell: str, entry: Entry) -> str:
    """The entry's source as a cell; bare methods go into the class that the cell holds."""
    code = textwrap.dedent(entry.code).strip("\n") + "\n"
    head = entry.exercise.partition(".")[0]
    nodes = ast.parse(code).body
    if any(isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == head for n in nodes):
        return code
    methods = [n for n in nodes if isinstance(n, ast.FunctionDef) and _is_method(n)]
    for node in methods:
        cell = splice.replace(cell, f"{head}.{node.name}", splice.definition(code, node.name))
    others = [n for n in nodes if n not in methods]
    return "\n\n".join([*(ast.get_source_segment(code, node) for node in others), cell])


def _is_method(node: ast.FunctionDef) -> bool:
    return bool(node.args.args) and node.args.args[0].arg == "self"
