"""Three submissions for trying a course: everything solved, half of it, nothing."""

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from autograder.build import build, write
from autograder.lesson import Lesson, LessonError
from autograder.solve import solved

STUDENTS = ("full", "half", "blank")


def write_submissions(lesson: Lesson, downloads: Path) -> None:
    """`full`, `half` (the first half solved, one wrong answer, the rest blank) and `blank`."""
    downloads.mkdir(parents=True)
    everything, student = solved(lesson), build(lesson)[1]
    (downloads / "full.ipynb").write_text(write(everything), encoding="utf-8")
    (downloads / "blank.ipynb").write_text(write(student), encoding="utf-8")
    middle = (len(lesson.exercises) + 1) // 2
    for exercise in lesson.exercises[:middle]:
        _cell(student, exercise.grade_id).source = _cell(everything, exercise.grade_id).source
    if len(lesson.exercises) > 1:
        exercise = lesson.exercises[-1]
        wrong = _wrong_answer(lesson, exercise.name)
        if wrong:
            _cell(student, exercise.grade_id).source = wrong
    (downloads / "half.ipynb").write_text(write(student), encoding="utf-8")


def _wrong_answer(lesson: Lesson, name: str) -> str | None:
    """An answer of the catalogue that must not pass, as the source of its cell."""
    if not lesson.catalogue.exists():
        return None
    from autograder import catalogue

    for entry in catalogue.entries(lesson):
        if entry.exercise == name and not entry.right:
            notebook = nbformat.reads(catalogue.notebook_with(lesson, (entry,)), as_version=4)
            return _cell(notebook, lesson.exercise(name).grade_id).source
    return None


def _cell(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id:
            return cell
    raise LessonError(f"the notebook has no cell {grade_id}")
