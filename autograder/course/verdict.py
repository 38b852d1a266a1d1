"""What became of an exercise, as outputs of its test cell."""

import base64
import re
import struct
import textwrap

import nbformat
from nbformat import NotebookNode

from autograder.grader import ExerciseResult
from autograder.picture import DPI
from autograder.plain import plain

WIDTH = 96  # characters of a line on a feedback page


def outputs(
    result: ExerciseResult | None, points: float, problem: str | None = None
) -> list[NotebookNode]:
    """Outputs of a test cell that nbgrader's `determine_grade` turns into the result's points.

    Args:
        result: what became of the exercise; None if it was not graded.
        points: what the test cell is worth.
        problem: why nothing was graded.
    """
    if problem or result is None:
        return [_error("NotGraded", problem or "There is no verdict on this exercise.")]
    share = result.points / result.maximum if result.maximum else 1.0
    if share <= 0:
        return [_error(result.status.capitalize(), result.message), *_picture(result)]
    text = plain(result.message) + "\n"
    made = [nbformat.v4.new_output("stream", name="stdout", text=text)]
    if share < 1:
        data = {"text/plain": repr(round(share * points, 6))}
        made.append(nbformat.v4.new_output("execute_result", data=data, execution_count=None))
    return made


def readable(result: ExerciseResult, nb: NotebookNode) -> ExerciseResult:
    """The result with cells called by their exercise, since the rebuilt ones have new numbers."""

    def name(match: re.Match) -> str:
        index = int(match[1]) - 1
        cell = nb.cells[index] if index < len(nb.cells) else None
        if cell is None or cell.cell_type != "code":
            return match[0]
        tag = cell.metadata.get("nbgrader", {}).get("grade_id")
        return f"the cell of {tag}" if tag else cell.id.replace("gathered-", "gathered cell ")

    fields = vars(result) | {"message": re.sub(r"\bcell (\d{1,6})\b", name, result.message)}
    return ExerciseResult(**fields)


def _picture(result: ExerciseResult) -> list[NotebookNode]:
    """What the grader drew of a failed exercise, and the line below it."""
    if not result.picture:
        return []
    size = struct.unpack(">I", base64.b64decode(result.picture)[16:20])[0]  # a PNG's own width
    alt = f"Your answer beside the expected one. {result.caption}"
    shown = {"width": round(size * 100 / DPI), "alt": alt}
    data = {"image/png": result.picture, "text/plain": alt}
    picture = nbformat.v4.new_output("display_data", data, metadata={"image/png": shown})
    caption = nbformat.v4.new_output("stream", name="stdout", text=result.caption + "\n")
    return [picture, caption]


def _error(name: str, message: str) -> NotebookNode:
    text = plain(message)
    lines = [textwrap.fill(line, WIDTH, break_on_hyphens=False) for line in text.splitlines()]
    shown = "\n".join(lines)  # nbgrader's pages don't wrap it, and cut off what is longer
    return nbformat.v4.new_output("error", ename=name, evalue=text, traceback=[shown])
