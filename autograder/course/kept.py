"""What nbgrader's steps and the batch share: the released notebook, and the course's results."""

import json
import logging
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade, is_solution

from autograder import sandbox
from autograder.course.cache import FOLDER, Cache
from autograder.grader import Result, default_seed, grade
from autograder.lesson import Lesson


def graded(notebook: bytes, cache: Cache) -> Result:
    """What was found before; else the notebook is graded now, and the result is kept."""
    key = cache.key(notebook)
    result = cache.get(key)
    if result is None:
        result = grade(notebook, cache.lesson, seed=cache.seed, pictures=True)
        cache.put(key, result)
    return result


def cache_of(coursedir: CourseDirectory, lesson: Lesson, seed: int | None) -> Cache:
    """The results of a lesson that a course keeps, under its seed and the sandbox of now."""
    seed = default_seed() if seed is None else seed
    return Cache(Path(coursedir.root, FOLDER), lesson, seed, sandbox.detect().name)


def coursedir_of(step: NbGraderPreprocessor) -> CourseDirectory | None:
    """The course in which a step of nbgrader's runs; None outside of one."""
    return getattr(getattr(step.parent, "parent", None), "coursedir", None)


def released_notebook(
    gradebook: Gradebook, coursedir: CourseDirectory | None, names: dict, log: logging.Logger
) -> NotebookNode:
    """The notebook as it was given out; without it, the graded cells that the gradebook knows.

    Args:
        gradebook: nbgrader's, open.
        coursedir: where the course lies, if that is known.
        names: of the assignment and of its notebook, as in nbgrader's resources.
        log: told where the notebook is not there.
    """
    known = _cells_in_gradebook(gradebook, names)
    if coursedir is not None:
        folder = coursedir.format_path(coursedir.release_directory, ".", names["assignment"])
        path = Path(folder, f"{names['notebook']}.ipynb")
        if path.exists():
            released = nbformat.read(path, as_version=4)
            if _grade_ids(released.cells) == _grade_ids(known):
                return released
    log.warning("the released %s is not there: its graded cells only", names["notebook"])
    return nbformat.v4.new_notebook(cells=known)


def written(released: NotebookNode) -> bytes:
    """The released notebook as bytes, the same each time."""
    return json.dumps(released, sort_keys=True).encode()


def _grade_ids(cells: list[NotebookNode]) -> set[tuple]:
    """The graded cells by name and worth."""
    tags = [c.metadata.nbgrader for c in cells if is_grade(c) or is_solution(c)]
    return {(tag.grade_id, float(tag.get("points", 0))) for tag in tags}


def _cells_in_gradebook(gradebook: Gradebook, names: dict) -> list[NotebookNode]:
    notebook = gradebook.find_notebook(names["notebook"], names["assignment"])
    points = {cell.name: cell.max_score for cell in notebook.grade_cells}
    solutions = {cell.name for cell in notebook.solution_cells}
    cells = []
    for known in notebook.source_cells:
        tag = {"grade_id": known.name, "schema_version": 3, "task": False, "locked": known.locked}
        tag |= {"grade": known.name in points, "solution": known.name in solutions}
        tag |= {"checksum": known.checksum, "cell_type": known.cell_type}
        if known.name in points:
            tag["points"] = points[known.name]
        make = getattr(nbformat.v4, f"new_{known.cell_type}_cell")
        cells.append(make(known.source, metadata={"nbgrader": tag}))
    return cells
