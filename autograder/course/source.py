"""A lesson's source in a course: what nbgrader makes the released notebook of."""

import shutil
from pathlib import Path

from autograder import build
from autograder.lesson import Lesson

_LEFT_OUT = {".ipynb_checkpoints", "__pycache__"}


def write_source(lesson: Lesson, source: Path) -> None:
    """The notebook with solutions, and the files that it shows or asks."""
    folder = source / lesson.slug
    folder.mkdir(parents=True, exist_ok=True)
    text = build.write(build.release_source(lesson))
    (folder / f"{lesson.slug}.ipynb").write_text(text, encoding="utf-8")
    for path in lesson.folder.iterdir():
        if path.name in _LEFT_OUT or path.suffix in (".py", ".ipynb"):
            continue
        if path.is_dir():
            ignore = shutil.ignore_patterns(*_LEFT_OUT)
            shutil.copytree(path, folder / path.name, dirs_exist_ok=True, ignore=ignore)
        else:
            shutil.copyfile(path, folder / path.name)
