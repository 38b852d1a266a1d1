"""Submissions into the course: whose each file is, which of several counts, and what is left over.

`downloaded/<lesson>/archive/` keeps what was collected, `submitted/<student>/<lesson>/`
gets the notebook that counts, and `downloaded/<lesson>/collected.csv` says of every file what
became of it. Nothing is deleted, and the download itself is not touched.
"""

import datetime
import os
import shutil
import tempfile
import zipfile
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from autograder.course import archive
from autograder.course.choose import STAMP, File, chosen
from autograder.course.unpack import Found, Reader
from autograder.course.who import Origin, Roster, is_lesson, is_notebook, origin, student_id
from autograder.lesson import Lesson


class CollectError(Exception):
    """Nothing was collected; the message says why."""


@dataclass
class Collection:
    """What became of a download."""

    copies: dict[str, Path] = field(default_factory=dict)  # student -> the copy in the course
    files: list[File] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # of the list: id -> name
    first: int = 1  # the number of the first file in collected.csv

    def number(self, file: File) -> int:
        """The number of a file in collected.csv, by which `use` knows it."""
        return self.first + self.files.index(file)

    @property
    def left_over(self) -> list[File]:
        """Files that are nobody's, and those of students of whom nothing counts."""
        return [file for file in self.files if file.student not in self.copies and not file.counts]


def collect(
    course: Path,
    lesson: Lesson,
    download: Path,
    roster: Roster | None = None,
    zone: datetime.tzinfo | None = None,
) -> Collection:
    """Copy what was handed in for a lesson into the course.

    Args:
        course: its folder.
        lesson: which one.
        download: a folder or a zip; see `who` for the names that are understood.
        roster: the students; with it, a file whose name is not in it is left over.
        zone: of the times that a zip or a name tells; by default this machine's.

    Raises:
        CollectError: the download is not there, or no zip.
    """
    if not download.exists():
        raise CollectError(f"{download} is not there")
    folder = course / "downloaded" / lesson.slug
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as scratch:
        try:
            found = list(Reader(Path(scratch), zone).files(download))
        except zipfile.BadZipFile as error:
            raise CollectError(f"{download} is neither a folder nor a zip ({error})") from None
        result = _assigned(found, course, lesson, download, roster, zone)
        result.first += len(archive.rows(folder))
        archive.keep(folder, download, result.files)
    return result


def use(course: Path, lesson: Lesson, number: int) -> dict[str, str]:
    """Let a file that was collected count, whatever the course has, with its original time.

    Args:
        course: its folder.
        lesson: which one.
        number: of the file, in `collected.csv`.

    Returns:
        the file's row of `collected.csv`.

    Raises:
        CollectError: there is no such file, it is nobody's, or no notebook.
    """
    folder = course / "downloaded" / lesson.slug
    rows = archive.rows(folder)
    if not 1 <= number <= len(rows):
        raise CollectError(f"{folder / archive.TABLE} has no file {number}")
    row = rows[number - 1]
    if not row["student"]:
        raise CollectError(f"file {number} ({row['file']}) is nobody's: {row['note']}")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as scratch:
        content = archive.original(folder, row, Path(scratch))
        if content is None:
            raise CollectError(
                f"file {number} ({row['file']}) is not kept: no notebook came. "
                "Mend or rename it, put it into a folder of its own, and collect that"
            )
        when = datetime.datetime.strptime(row["time"], archive.TIME) if row["time"] else None
        when = when.replace(tzinfo=datetime.UTC) if when else None
        _write(_target(course, row["student"], lesson), content, when)
    for other in rows:
        if other["student"] == row["student"] and other["counts"] == "yes":
            other |= {"counts": "no", "note": archive.ANOTHER}
    row |= {"counts": "yes", "note": archive.BY_HAND}
    archive.write(folder, rows)
    return row


def _assigned(
    found: list[Found],
    course: Path,
    lesson: Lesson,
    download: Path,
    roster: Roster | None,
    zone: datetime.tzinfo | None,
) -> Collection:
    told = _told(found, is_zip=not download.is_dir())
    files = [_whose(each, who, roster, zone) for each, who in zip(found, told, strict=True)]
    files = _without_namesakes(files) if roster is None else files
    before = archive.counting_rows(course, lesson)
    result = Collection(missing=dict(roster.names) if roster else {})
    by_student: dict[str, list[File]] = defaultdict(list)
    for file in files:
        by_student[file.student].append(file)
    result.files += by_student.pop("", [])
    for student, own in sorted(by_student.items()):
        target = _target(course, student, lesson)
        own = chosen(own, lesson, target, before.get(student))
        result.files += own
        for file in own:
            if file.counts:
                _write(target, file.found.content, file.when)
                result.copies[student] = target
    for student in list(result.missing):
        if _target(course, student, lesson).exists():  # now or from an earlier collection
            del result.missing[student]
    return result


def _target(course: Path, student: str, lesson: Lesson) -> Path:
    return course / "submitted" / student / lesson.slug / f"{lesson.slug}.ipynb"


def _told(found: list[Found], is_zip: bool) -> list[Origin | None]:
    """Who handed in each file, a folder around all of them left aside."""
    paths = [each.path for each in found]
    while paths and len({path.parts[0] for path in paths}) == 1:
        books = [path for path in paths if is_notebook(path.name)]
        flat = is_zip and len(books) > 1 and not any(is_lesson(path.name) for path in books)
        if min(len(path.parts) for path in paths) < (2 if flat else 3):
            break
        paths = [PurePosixPath(*path.parts[1:]) for path in paths]
    return [_told_by(each, path) for each, path in zip(found, paths, strict=True)]


def _told_by(found: Found, path: PurePosixPath) -> Origin | None:
    """By the file's place, or, in a system's zip that lies in the folder, by its place in that."""
    outside = origin(path)
    inside = origin(found.inside) if found.inside and len(path.parts) == 1 else None
    return inside if inside and inside.key and not (outside and outside.key) else outside


def _whose(
    found: Found, who: Origin | None, roster: Roster | None, zone: datetime.tzinfo | None
) -> File:
    when = found.when
    if who is not None and who.when is not None:
        local = who.when.replace(tzinfo=zone) if zone else who.when
        when = local.astimezone(datetime.UTC)
    if who is None:
        return File(found, when=when, note="its name does not say whose it is")
    if roster is not None:
        student, note = roster.find(who)
    else:
        student = student_id(who.key if who.by_key else who.person)
        note = "" if student else "its name does not say whose it is"
    return File(found, student or "", who, when, note=note)


def _without_namesakes(files: list[File]) -> list[File]:
    """Leave out those whom only the system's numbers tell apart: a list must say who is who."""
    keys: dict[str, set[str]] = defaultdict(set)
    for file in files:
        if file.origin is not None and file.origin.key and not file.origin.by_key:
            keys[file.student].add(file.origin.key)
    checked = []
    for file in files:
        if file.student and len(keys[file.student]) > 1:
            said = f"{len(keys[file.student])} people are called {file.origin.person}: give a list"
            file = replace(file, student="", note=f"{said} (--students) with their numbers as ids")
        checked.append(file)
    return checked


def _write(target: Path, content: Path, when: datetime.datetime | None) -> None:
    """The notebook and nbgrader's own note of when it was handed in, each whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.new")
    shutil.copyfile(content, new)
    os.replace(new, target)
    stamp = target.with_name("timestamp.txt")
    if when is None:
        stamp.unlink(missing_ok=True)
    else:
        stamp.write_text(when.astimezone(datetime.UTC).strftime(STAMP) + "\n", "utf-8")
