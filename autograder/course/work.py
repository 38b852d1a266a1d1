"""A part of a class to grade, as a file: what one machine, or one job of a cluster, is told."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from autograder import sandbox
from autograder.cells import UnreadableNotebook
from autograder.course.cache import Cache
from autograder.course.submitted import read_submission
from autograder.lesson import get_lesson

SECONDS = 900.0


class BatchError(Exception):
    """This machine cannot grade; nothing is said about any submission."""


@dataclass(frozen=True)
class Work:
    """Submitted files of one lesson, and all that grading them needs, as paths.

    Args:
        lesson: its number.
        seed: of the hidden inputs.
        results: the folder of the `Cache`.
        released: the notebook on which submissions are rebuilt.
        files: the submitted files.
        jobs: how many to grade at a time; by default one for each core that we may use.
        seconds: after which one submission is given up.
        trust: grade even where there is no sandbox.
    """

    lesson: int
    seed: int
    results: str
    released: str
    files: tuple[str, ...]
    jobs: int | None = None
    seconds: float = SECONDS
    trust: bool = False

    @classmethod
    def read(cls, path: Path | str) -> "Work":
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(**content | {"files": tuple(content["files"])})

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")
        return path

    def with_files(self, files: Iterable[str]) -> "Work":
        return dataclasses.replace(self, files=tuple(files))

    def cache(self) -> Cache:
        lesson = get_lesson(self.lesson)
        return Cache(Path(self.results), lesson, self.seed, sandbox.detect().name)

    def tickets(self) -> Iterator[tuple[str, str]]:
        """(file, its ticket in the cache) for each submitted file."""
        cache, released = self.cache(), Path(self.released).read_bytes()
        for file in self.files:
            yield file, cache.ticket(content_of(file), released)

    def pending(self) -> dict[str, str]:
        """The files that are not settled yet, with their tickets; equal files count once."""
        cache, found = self.cache(), {}
        for file, ticket in self.tickets():
            if ticket not in found and not cache.is_settled(ticket):
                found[ticket] = file
        return {file: ticket for ticket, file in found.items()}


def content_of(file: str | Path) -> bytes:
    """What a ticket is made of: the file as `read_submission` gives it, or why it does not."""
    try:
        return read_submission(Path(file))
    except UnreadableNotebook as error:
        return f"unreadable: {error}".encode()
