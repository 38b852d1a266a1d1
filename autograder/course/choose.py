"""Which of one student's files counts, and what keeps the one that the course has."""

import datetime
import re
from dataclasses import dataclass, replace
from pathlib import Path

from autograder.cells import UnreadableNotebook, code_cells
from autograder.course import archive
from autograder.course.unpack import Found
from autograder.course.who import Origin, is_lesson
from autograder.lesson import Lesson

STAMP = "%Y-%m-%d %H:%M:%S.%f UTC"
NEVER = datetime.datetime.min.replace(tzinfo=datetime.UTC)


@dataclass(frozen=True)
class File:
    """One file, whose it is, and what becomes of it."""

    found: Found
    student: str = ""  # empty: nobody's
    origin: Origin | None = None
    when: datetime.datetime | None = None
    counts: bool = False
    refused: bool = False  # it would count, but the course keeps the one that it has
    note: str = ""

    @property
    def place(self) -> str:
        inside = f" > {self.found.inside}" if self.found.inside else ""
        return f"{self.found.path}{inside}"

    @property
    def row(self) -> dict[str, str]:
        """Its row in `collected.csv`, but for what `archive.keep` adds."""
        return {
            "student": self.student,
            "file": self.place,
            "time": f"{self.when:{archive.TIME}}" if self.when else "",
            "counts": "yes" if self.counts else "no",
            "late": "yes" if self.origin and self.origin.late else "",
            "note": self.note,
        }


def chosen(
    files: list[File], lesson: Lesson, target: Path, before: dict[str, str] | None = None
) -> list[File]:
    """The files of one student, at most one of them marked as the one that counts.

    Args:
        files: all that a download holds of this student.
        lesson: whose notebook is looked for.
        target: where the course has the one that counts, if it has one.
        before: the row of that one in `collected.csv`.
    """
    books = [file for file in files if file.found.content is not None]
    if not books:
        return [replace(file, note=file.found.problem or "no notebook") for file in files]
    lacks = {id(file): lacking(file.found.content, lesson) for file in books}
    ranks = {id(file): (not lacks[id(file)], *_rank(file, lesson)) for file in books}
    best = max(ranks.values())
    first = [file for file in books if ranks[id(file)] == best]
    if len({file.found.content.read_bytes() for file in first}) > 1:
        said = f"{len(first)} notebooks, and nothing says which of them counts"
        return [replace(file, note=said if file in first else "older") for file in files]
    lack = lacks[id(first[0])]
    refused, kept = _kept(first[0], lack, lesson, target, before)
    marked = []
    for file in files:
        if file is first[0] and kept:
            marked.append(replace(file, refused=refused, note=kept))
        elif file is first[0]:
            marked.append(replace(file, counts=True, note=lack))
        else:
            other = (lacks[id(file)] or archive.ANOTHER) if file in books else "no notebook"
            marked.append(replace(file, note=file.found.problem or other))
    return marked


def lacking(path: Path, lesson: Lesson) -> str:
    """Why a file is no answer to a lesson: unreadable, none of its exercises, all as released."""
    try:
        cells = code_cells(path.read_bytes())
    except UnreadableNotebook as error:
        return str(error)
    heads = "|".join(re.escape(each.name.partition(".")[0]) for each in lesson.exercises)
    defined = re.compile(rf"^\s*(async\s+def|def|class)\s+({heads})\b", re.M)
    tags = {each.grade_id for each in lesson.exercises}
    held = [(tag, source) for _, tag, source in cells if tag in tags or defined.search(source)]
    if not held:
        return f"it holds no exercise of lesson {lesson.number}"
    released = {tag: source.strip() for _, tag, source in code_cells(lesson.notebook.read_bytes())}
    if all(tag in tags and source.strip() == released.get(tag) for tag, source in held):
        return "nothing is written in it yet"
    return ""


def _kept(
    file: File, lack: str, lesson: Lesson, target: Path, before: dict[str, str] | None
) -> tuple[bool, str]:
    """Whether the file is refused, and why the course keeps the one that it has; else nothing."""
    if not target.exists():
        return False, ""
    if before and before["note"] == archive.BY_HAND:
        same = before["file"] == file.place and before["time"] == file.row["time"]
        return not same, "the one in the course was chosen by hand"
    has = not lacking(target, lesson)
    if lack and has:
        return True, f"{lack}; the course keeps the one that it has"
    stamp = stamp_of(target)
    if stamp and file.when and stamp > file.when and (has or lack):
        return False, f"the course has a newer one ({stamp:%Y-%m-%d %H:%M:%S} UTC)"
    return False, ""


def _rank(file: File, lesson: Lesson) -> tuple:
    """Of the notebooks that hold this lesson's exercises the newest ranks first."""
    named = is_lesson(file.origin.file, lesson.slug) or is_lesson(file.found.name, lesson.slug)
    when = file.when or NEVER
    told = when if file.origin.when is not None else NEVER
    return told, file.origin.attempt, when, named


def stamp_of(target: Path) -> datetime.datetime | None:
    """When the submission that the course has was handed in."""
    try:
        text = target.with_name("timestamp.txt").read_text(encoding="utf-8").strip()
        return datetime.datetime.strptime(text, STAMP).replace(tzinfo=datetime.UTC)
    except (OSError, ValueError):
        return None
