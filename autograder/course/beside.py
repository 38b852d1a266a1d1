"""What lies beside a submitted notebook is neither looked at nor copied: it is set aside.

nbgrader copies everything that was handed in, follows links, and copies once more to the pages that
students get back. Grading needs the notebook alone.
"""

import os
from pathlib import Path

from nbgrader.utils import parse_utc

FOLDER = "set_aside"
STAMP = "timestamp.txt"  # nbgrader's own note of when it was handed in


def set_aside(submission: Path) -> list[Path]:
    """Move what is no notebook, and every link, to a folder of the course's.

    Args:
        submission: COURSE/submitted/<student>/<lesson>.

    Returns:
        what was moved, each by its new path: COURSE/set_aside/<student>/<lesson>/<number>/…
    """
    course, student = submission.parents[2], submission.parent
    home = course / FOLDER / student.name / submission.name
    for link in (student, submission):
        if link.is_symlink():
            return [_move(link, home)]
    entries = sorted(submission.iterdir()) if submission.is_dir() else []
    return [_move(entry, home) for entry in entries if not _is_expected(entry)]


def is_link(notebook: Path) -> bool:
    """Whether a submitted notebook, its folder or its student's folder is only a link."""
    return any(path.is_symlink() for path in (notebook, *notebook.parents[:2]))


def _is_expected(entry: Path) -> bool:
    if entry.is_symlink() or not entry.is_file():
        return entry.suffix == ".ipynb"  # no copy is made of it, and the grader says what it is
    return entry.suffix == ".ipynb" or (entry.name == STAMP and _is_stamp(entry))


def _is_stamp(path: Path) -> bool:
    try:
        if path.stat().st_size > 200:
            return False
        parse_utc(path.read_text(encoding="utf-8").strip())
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _move(entry: Path, home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    place = home / str(len(list(home.iterdir())) + 1)
    place.mkdir()
    os.rename(entry, place / entry.name)  # a link is moved, not what it leads to
    return place / entry.name
