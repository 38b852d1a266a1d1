"""The bytes of a submitted file, which may be anything."""

import os
import stat
from pathlib import Path

from autograder.cells import MAX_NOTEBOOK_BYTES, UnreadableNotebook
from autograder.course.beside import is_link


def read_submission(path: Path) -> bytes:
    """The bytes of a submitted file, which may be anything.

    Raises:
        UnreadableNotebook: it is no ordinary file, or too large to be looked at.
    """
    try:
        path = path if os.path.lexists(path) else _only_notebook_beside(path)
        if is_link(path):
            raise UnreadableNotebook("it is a link, not a file of its own")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableNotebook("it is not an ordinary file")
        if status.st_size > MAX_NOTEBOOK_BYTES:
            limit = MAX_NOTEBOOK_BYTES // 10**6
            raise UnreadableNotebook(f"the notebook is larger than {limit} MB: clear its outputs")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableNotebook(f"the file cannot be opened ({error.strerror})") from error


def _only_notebook_beside(path: Path) -> Path:
    others = sorted(path.parent.glob("*.ipynb"))
    if len(others) != 1:
        raise UnreadableNotebook(f"there is no file {path.name} among those handed in")
    return others[0]
