"""A lesson's source in a course, what nbgrader makes the released notebook of, and its release."""

import contextlib
import datetime
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbgrader.utils import is_grade, is_solution, is_task

from autograder import build
from autograder.course.rebuild import exercise_of
from autograder.lesson import Lesson

REPLACED = "replaced"  # the folder of a course that keeps source notebooks of before
CELLS_CHANGED = (
    "graded cells were added to {0} or taken out of it, and the gradebook has submissions of it, "
    "which nbgrader would not know how to count. The earlier release stays. To begin that lesson's "
    "gradebook anew (its due date, points given by hand and comments are lost, what was handed in "
    "is not): nbgrader db assignment remove {0} --force, in the course folder; then release, with "
    "--due, and autograde."
)
_LEFT_OUT = {".ipynb_checkpoints", "__pycache__"}


class SourceError(ValueError):
    """A source notebook asks what nobody would grade; the message says which cell."""


def write_source(lesson: Lesson, source: Path) -> Path | None:
    """The notebook with solutions, and the files that it shows or asks.

    Args:
        lesson: whose.
        source: the course's folder of sources.

    Returns:
        where the notebook is kept that lay there, if it was another one.
    """
    folder = source / lesson.slug
    folder.mkdir(parents=True, exist_ok=True)
    content = build.write(build.release_source(lesson)).encode()
    path, kept = folder / f"{lesson.slug}.ipynb", None
    if path.exists() and path.read_bytes() != content:
        now = datetime.datetime.now().strftime("%Y-%m-%d %H%M%S")
        kept = source.parent / REPLACED / f"{lesson.slug} {now}.ipynb"
        kept.parent.mkdir(exist_ok=True)
        shutil.move(path, kept)
    path.write_bytes(content)
    for path in lesson.folder.iterdir():
        if path.name in _LEFT_OUT or path.suffix in (".py", ".ipynb"):
            continue
        if path.is_dir():
            ignore = shutil.ignore_patterns(*_LEFT_OUT)
            shutil.copytree(path, folder / path.name, dirs_exist_ok=True, ignore=ignore)
        else:
            shutil.copyfile(path, folder / path.name)
    return kept


def expect_gradable(lesson: Lesson, source: Path) -> None:
    """Refuse a source notebook with a question that nobody would grade.

    Raises:
        SourceError: it has one, or it cannot be read.
    """
    path = source / lesson.slug / f"{lesson.slug}.ipynb"
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read ({type(error).__name__})") from None
    for cell in notebook.cells:
        by_hand = is_grade(cell) and is_solution(cell)
        asks = is_grade(cell) or is_solution(cell) or is_task(cell)
        if asks and not by_hand and exercise_of(cell, lesson) is None:
            raise SourceError(
                f"the cell {cell.metadata.nbgrader.grade_id} belongs to no exercise of lesson "
                f"{lesson.number}, and only their hidden tests are run here. Make it a question "
                "that you grade by hand (nbgrader: Manually graded answer)."
            )


@contextlib.contextmanager
def put_back(folder: Path) -> Iterator[None]:
    """Put a folder back that is gone after an error: a release first takes the old one away."""
    with tempfile.TemporaryDirectory() as aside:
        copy = Path(aside, folder.name)
        if folder.is_dir():
            shutil.copytree(folder, copy)
        try:
            yield
        except BaseException:
            if copy.is_dir() and not folder.exists():
                shutil.copytree(copy, folder)
            raise
