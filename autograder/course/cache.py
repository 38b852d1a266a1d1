"""Results of a course by content: what was graded once is never graded again.

A result depends on the notebook's bytes, the suite and the grader, the seed, and on how learners'
code is shut in; the name of its file is a digest of all of them. So a changed test, package or seed
finds nothing here and grades anew, and there is nothing to clear by hand. Each file carries a
checksum: one that was cut off or altered counts as absent.

A submitted file also has a *ticket*, the digest of its own bytes and of what it is rebuilt on. It
says that the file is settled, without rebuilding it, or why a person has to look at it.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.lesson import PACKAGE, REPOSITORY, Lesson

FOLDER = "results"  # in the course's folder; may be deleted at any time
_LIBRARIES = ("torch", "numpy", "diffusers", "transformers", "pytest")


@dataclass(frozen=True)
class Cache:
    """The results of one lesson under one suite, seed and way to shut code in.

    Args:
        folder: the course's folder of results.
        lesson: whose results.
        seed: of the hidden inputs.
        mode: the name of the sandbox.
    """

    folder: Path
    lesson: Lesson
    seed: int
    mode: str

    def key(self, notebook: bytes) -> str:
        """The name of a result: a digest of all that it depends on."""
        return _digest(notebook, self._circumstances)

    def ticket(self, submitted: bytes, released: bytes) -> str:
        """The name of a submitted file's state: of its bytes and of the released notebook's."""
        return _digest(submitted, hashlib.sha256(released).digest(), self._circumstances)

    def get(self, key: str) -> Any:
        """The `Result` of that name; None where there is none, or a damaged one."""
        stored = self._read("graded", key)
        if stored is None:
            return None
        from autograder.grader import ExerciseResult, Result  # loads torch

        try:
            rows = [
                ExerciseResult(**row | {"waits_for": tuple(row["waits_for"])})
                for row in stored["exercises"]
            ]
            return Result(**stored | {"exercises": tuple(rows)})
        except (TypeError, KeyError):  # of another version
            return None

    def put(self, key: str, result: Any) -> None:
        self._write("graded", key, result.as_dict())

    def settle(
        self, ticket: str, key: str | None, problem: str | None = None, layout: Any = None
    ) -> None:
        """Note what became of a submitted file.

        Args:
            ticket: of the file.
            key: of its result; None where it cannot be rebuilt, so that none is needed.
            problem: why it was not graded though it should be; a person has to look.
            layout: what `rebuild.layout` made of it, for nbgrader's pass.
        """
        self._write("settled", ticket, {"key": key, "problem": problem, "layout": layout})

    def is_settled(self, ticket: str) -> bool:
        """Whether nothing is left to do for a file. One with a problem is tried again."""
        state = self._read("settled", ticket)
        if state is None or state["problem"]:
            return False
        return state["key"] is None or self._read("graded", state["key"]) is not None

    def state(self, ticket: str) -> dict:
        """What `settle` noted of a file, by the names of its arguments; else nothing."""
        return self._read("settled", ticket) or {}

    def problem(self, ticket: str) -> str | None:
        """Why the batch could not grade a file, if it could not."""
        return self.state(ticket).get("problem")

    @functools.cached_property
    def _circumstances(self) -> bytes:
        from_outside = f"{self.seed} {self.mode} {_versions()}"
        return hashlib.sha256(_grader(self.lesson) + from_outside.encode()).digest()

    def _path(self, kind: str, name: str) -> Path:
        return self.folder / self.lesson.slug / kind / name[:2] / f"{name}.json"

    def _read(self, kind: str, name: str) -> dict | None:
        try:
            stored = json.loads(self._path(kind, name).read_bytes())
            content = stored["content"]
            if stored["checksum"] == _checksum(name, content):
                return content
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def _write(self, kind: str, name: str, content: dict) -> None:
        """In one step, under a name of its own first: two graders may write the same result."""
        path = self._path(kind, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"checksum": _checksum(name, content), "content": content})
        number, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with open(number, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:".encode() + part)
    return digest.hexdigest()[:40]


def _checksum(name: str, content: dict) -> str:
    return hashlib.sha256((name + json.dumps(content, sort_keys=True)).encode()).hexdigest()


def _grader(lesson: Lesson) -> bytes:
    """The tests, the lesson, the grader and the package that it lays out, as one digest."""
    files = [lesson.hidden_tests, lesson.source]
    files += sorted((REPOSITORY / "autograder").glob("*.py")) + sorted(PACKAGE.rglob("*.py"))
    states = [(str(path), path.stat()) for path in files]
    return _digest_of(tuple((path, state.st_mtime_ns, state.st_size) for path, state in states))


@functools.lru_cache(maxsize=16)
def _digest_of(states: tuple) -> bytes:
    """Of files by their contents; read again where one was written since."""
    digest = hashlib.sha256()
    for path, *_ in states:
        digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return digest.digest()


@functools.cache
def _versions() -> str:
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES)
