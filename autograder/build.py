"""Build the notebooks: a lesson's text source and the package in, the student's notebook out.

The source notebook holds the reference as nbgrader's solutions; nbgrader itself then makes the
student's version of it. The same input gives the same bytes, on every machine.
"""

import hashlib
import logging
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_notebook

from autograder import source as lesson_source
from autograder.lesson import LESSONS, PACKAGE, Lesson, LessonError

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def build(lesson: Lesson, package: Path = PACKAGE) -> tuple[NotebookNode, NotebookNode]:
    """Both notebooks of a lesson.

    Args:
        lesson: which one.
        package: the folder of the reference package's modules.

    Returns:
        source: with solutions, for instructors.
        student: what nbgrader releases of it.

    Raises:
        LessonError: the lesson's source is malformed; the message names file and line.
    """
    source = release_source(lesson, package)
    return source, release(source, lesson.slug)


def release_source(lesson: Lesson, package: Path = PACKAGE) -> NotebookNode:
    """The notebook with solutions that an nbgrader course keeps in its `source` folder.

    Args:
        lesson, package: as in `build`.

    Raises:
        LessonError: the lesson's source is malformed; the message names file and line.
    """
    return assembled(lesson.slug, lesson_source.cells(lesson, package))


def release(source: NotebookNode, name: str) -> NotebookNode:
    """What nbgrader makes of a source notebook for students: its own release step, run in a
    scratch course without a database.

    Args:
        source: a notebook with solutions, as `release_source` gives it.
        name: nbgrader's name of the notebook.

    Raises:
        LessonError: nbgrader refuses the notebook.
    """
    from nbgrader.converters import GenerateAssignment, NbGraderException
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import Config

    from autograder.clear import release_preprocessors

    with tempfile.TemporaryDirectory(prefix="t2i-build-") as root:
        folder = Path(root, "source", "lesson")
        folder.mkdir(parents=True)
        folder.joinpath(f"{name}.ipynb").write_text(nbformat.writes(source), encoding="utf-8")
        config = Config()
        config.CourseDirectory.root = root
        config.CourseDirectory.assignment_id = "lesson"
        config.SaveCells.enabled = False
        config.GenerateAssignment.no_database = True
        config.GenerateAssignment.preprocessors = release_preprocessors()
        log = logging.getLogger("autograder.build")
        log.setLevel(logging.ERROR)
        course = CourseDirectory(config=config, log=log)
        converter = GenerateAssignment(coursedir=course, config=config, log=log)
        try:
            converter.start()
        except NbGraderException as error:
            raise LessonError(f"nbgrader cannot release {name}: {error}") from error
        return _tidy(nbformat.read(Path(root, "release", "lesson", f"{name}.ipynb"), 4))


def write(notebook: NotebookNode) -> str:
    """A notebook as text: sorted keys, one trailing newline, the same bytes every time."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def available() -> tuple[list[Lesson], list[Lesson]]:
    """The lessons that have a source, and those that are still in preparation."""
    ready = [lesson for lesson in LESSONS if lesson.exists]
    return ready, [lesson for lesson in LESSONS if not lesson.exists]


def build_all(check: bool = False, lessons: list[Lesson] | None = None) -> list[Lesson]:
    """Write the student notebooks of all lessons that have a source.

    Args:
        check: write nothing, only compare with what lies there.
        lessons: these and no others.

    Returns:
        the lessons whose notebook differs from the built one (after writing: differed).
    """
    changed = []
    for lesson in available()[0] if lessons is None else lessons:
        text = write(build(lesson)[1])
        there = lesson.notebook.exists() and lesson.notebook.read_bytes() == text.encode()
        if not there:
            changed.append(lesson)
            if not check:
                lesson.notebook.write_bytes(text.encode())
    return changed


def assembled(slug: str, cells: list[NotebookNode]) -> NotebookNode:
    """A notebook whose cell ids depend on what the cells are, not on where they stand."""
    seen: dict[str, int] = {}
    for cell in cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        text = f"{slug}\n{cell.cell_type}\n{cell.source}"
        key = grade_id or hashlib.sha256(text.encode()).hexdigest()[:12]
        seen[key] = seen.get(key, 0) + 1
        cell.id = key if seen[key] == 1 else f"{key}-{seen[key]}"
    metadata = {"kernelspec": dict(KERNEL), "language_info": {"name": "python"}}
    notebook = new_notebook(cells=cells, metadata=metadata)
    notebook.nbformat_minor = 5
    return notebook


def _tidy(notebook: NotebookNode) -> NotebookNode:
    """Nothing but what the build put there: no traces of the converter's version."""
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": dict(KERNEL), "language_info": {"name": "python"}}
    )
    notebook.nbformat_minor = 5
    return notebook


def main(check: bool = False) -> int:
    """`make build`, and with `check` the test that what is committed is what the build makes."""
    from autograder.appendix import build_appendices  # it stands on this module

    ready, missing = available()
    try:
        changed = build_all(check=check, lessons=ready)
        others = build_appendices(check=check)
    except LessonError as error:
        print(error)
        return 2
    for notebook, differs in others.items():
        state = "up to date" if not differs else "differs from the build: run make build"
        print(f"{notebook.name}: {state if check or not differs else 'written'}")
    for lesson in ready:
        differs = "differs from the build: run make build" if check else "written"
        print(f"{lesson.notebook.name}: {differs if lesson in changed else 'up to date'}")
    if missing:
        print("in preparation: lessons " + ", ".join(str(lesson.number) for lesson in missing))
    return 1 if check and (changed or any(others.values())) else 0
