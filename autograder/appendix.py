"""Appendices: notebooks to read and to run, built from text as the lessons are, without exercises.

`lessons/appendix_NAME/lesson.py` (jupytext's percent format) becomes `NAME.ipynb` beside it.
"""

from pathlib import Path

import jupytext
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from autograder.build import assembled, write
from autograder.lesson import REPOSITORY, LessonError

SOURCE = "lesson.py"


def folders() -> list[Path]:
    """The folders of all appendices."""
    return sorted(path.parent for path in REPOSITORY.glob(f"lessons/appendix_*/{SOURCE}"))


def notebook_of(folder: Path) -> Path:
    """The notebook that the build makes of a folder's text."""
    return folder / f"{folder.name.removeprefix('appendix_')}.ipynb"


def build_appendix(folder: Path) -> NotebookNode:
    """The notebook of one appendix, without outputs.

    Args:
        folder: holds its text.

    Raises:
        LessonError: there is an exercise in it, or another directive.
    """
    path, cells = folder / SOURCE, []
    for cell in jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent").cells:
        source = cell.source.strip("\n")
        if cell.cell_type == "code" and source.startswith("#|"):
            line = source.split("\n")[0]
            raise LessonError(f"{path}: an appendix has no directives, but this one: {line}")
        new = new_code_cell if cell.cell_type == "code" else new_markdown_cell
        cells.append(new(source))
    return assembled(folder.name, cells)


def build_appendices(check: bool = False) -> dict[Path, bool]:
    """Write all appendices' notebooks; which of them differed from what lay there.

    Args:
        check: write nothing.
    """
    differs = {}
    for folder in folders():
        notebook, made = notebook_of(folder), write(build_appendix(folder)).encode()
        differs[notebook] = not notebook.exists() or notebook.read_bytes() != made
        if differs[notebook] and not check:
            notebook.write_bytes(made)
    return differs
