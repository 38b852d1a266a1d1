"""The solved notebook, and running a notebook from top to bottom."""

import copy
import os
import re
import time
from pathlib import Path

from nbformat import NotebookNode

from autograder import splice
from autograder.build import build, write
from autograder.lesson import PACKAGE, Lesson, LessonError
from t2i.classroom import quiz


class NotebookFailed(Exception):
    """A cell raised, or the notebook took too long; the message names the cell."""


def solved(lesson: Lesson, package: Path = PACKAGE) -> NotebookNode:
    """The student's notebook with the reference's bodies and the right quiz answers in it.

    Args:
        lesson: which one.
        package: the folder of the reference package's modules.

    Raises:
        LessonError: the lesson's source is malformed.
    """
    source, student = build(lesson, package)
    bodies = {
        cell.id: without_marks(cell.source)
        for cell in source.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }
    notebook = copy.deepcopy(student)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = bodies.get(cell.id) or _answered(cell.source, lesson)
    return notebook


def without_marks(source: str) -> str:
    """A solution cell without nbgrader's marks, the solution left in."""
    marks = (splice.BEGIN, splice.END)
    return "\n".join(line for line in source.split("\n") if line.strip() not in marks)


def execute(
    notebook: NotebookNode, tier: str = "smoke", timeout: float = 600, folder: Path | None = None
) -> float:
    """Run a notebook from top to bottom in a kernel of its own; the outputs go into it.

    Args:
        notebook: changed in place.
        tier: "smoke", "cpu" or "gpu".
        timeout: seconds for the whole notebook.
        folder: where it runs, usually the lesson's folder.

    Returns:
        seconds that it took.

    Raises:
        NotebookFailed: a cell raised, the kernel died, or the time was up.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    start = time.monotonic()
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout_func=lambda _: max(1, int(timeout - (time.monotonic() - start))),
        resources={"metadata": {"path": str(folder or Path.cwd())}},
    )
    environment = os.environ | {"T2I_TIER": tier}
    try:
        client.execute(env=environment)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        number = sum(cell.get("execution_count") is not None for cell in notebook.cells)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
        raise NotebookFailed(f"after {number} cells: {plain}") from None
    return time.monotonic() - start


def main(lesson: Lesson, out: Path, execute: bool = False) -> int:
    """`make solve lesson=N out=FILE`."""
    try:
        notebook = solved(lesson)
    except LessonError as error:
        print(error)
        return 2
    status = _try(notebook, lesson) if execute else 0
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(write(notebook).encode())
    print(f"wrote {out}")
    return status


def _try(notebook: NotebookNode, lesson: Lesson) -> int:
    tier = os.environ.get("T2I_TIER", "cpu")
    try:
        seconds = execute(notebook, tier, folder=lesson.folder)
    except NotebookFailed as error:
        print(error)
        return 1
    print(f"ran from top to bottom in {seconds:.0f} s ({tier} tier)")
    return 0


def _answered(source: str, lesson: Lesson) -> str:
    """A quiz cell with the right answer in it; any other cell as it is."""
    match = re.fullmatch(r'quiz\("(\w+)", answer=""\)', source.strip())
    if match is None:
        return source
    question = quiz.load(lesson.folder, match.group(1))
    return f'quiz("{question.name}", answer="{question.right}")'
