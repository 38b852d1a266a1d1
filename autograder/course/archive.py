"""What was collected, kept as it came, and a table that says of each file what became of it.

`downloaded/<lesson>/archive/` holds the originals of every collection. In `collected.csv` beside it
a student has one file that counts; one that a later collection replaced is marked so.
"""

import csv
import datetime
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from autograder.course.unpack import Reader
from autograder.lesson import Lesson

TABLE = "collected.csv"
COLUMNS = ("number", "student", "file", "time", "counts", "late", "note", "archive")
TIME = "%Y-%m-%d %H:%M:%S UTC"
ANOTHER = "another counts"
REPLACED = "a later collection replaced it"
BY_HAND = "chosen by hand"


def keep(folder: Path, download: Path, files: Sequence) -> None:
    """Keep the zip, or a folder's notebooks, and note what became of all files.

    Args:
        folder: `downloaded/<lesson>` of a course.
        download: what was collected.
        files: all that was found in it, each a `choose.File`.
    """
    archive = folder / "archive"
    archive.mkdir(parents=True, exist_ok=True)
    number = len(list(archive.iterdir())) + 1
    place = archive / f"{number:03d}_{download.resolve().name}"
    if download.is_dir():
        for file in files:
            if file.found.content is not None:
                copy = place / file.found.path / (file.found.inside or "")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.found.content, copy)
    else:
        shutil.copy2(download, place)
    now = {file.student for file in files if file.counts}
    before = rows(folder)
    for row in before:
        if row["counts"] == "yes" and row["student"] in now:
            row |= {"counts": "no", "note": REPLACED}
    write(folder, [*before, *(file.row | {"archive": place.name} for file in files)])


def noted(row: dict[str, str]) -> str:
    """What a person should know of the file of a row; nothing where one chose it by hand."""
    note = row.get("note", "")
    return "" if note == BY_HAND else note


def counting_rows(course: Path, lesson: Lesson) -> dict[str, dict[str, str]]:
    """For each student, the row of `collected.csv` whose file counts."""
    found = rows(course / "downloaded" / lesson.slug)
    return {row["student"]: row for row in found if row["counts"] == "yes"}


def late_over(course: Path, lesson: Lesson, due: datetime.datetime) -> dict[str, dict[str, str]]:
    """Whose late file counts though one came in time: for each, the row of the newest such one."""
    folder, limit = course / "downloaded" / lesson.slug, f"{due:{TIME}}"
    late = {name for name, row in counting_rows(course, lesson).items() if row["time"] > limit}
    found: dict[str, dict[str, str]] = {}
    for row in rows(folder):
        name = row["student"]
        in_time = "" < row["time"] <= limit and row["note"] in (ANOTHER, REPLACED)
        if name in late and in_time and row["time"] >= found.get(name, row)["time"]:
            found[name] = row
    return found


def rows(folder: Path) -> list[dict[str, str]]:
    """The table of `downloaded/<lesson>`, its rows numbered from 1."""
    if not (folder / TABLE).exists():
        return []
    with (folder / TABLE).open(encoding="utf-8", newline="") as stream:
        listed = list(csv.DictReader(stream))
    empty = dict.fromkeys(COLUMNS, "")
    return [empty | row | {"number": str(number)} for number, row in enumerate(listed, 1)]


def write(folder: Path, listed: Iterable[dict[str, str]]) -> None:
    """Write the table, whole or not at all."""
    new = folder / f".{TABLE}.new"
    with new.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(row | {"number": number} for number, row in enumerate(listed, 1))
    os.replace(new, folder / TABLE)


def original(folder: Path, row: dict[str, str], scratch: Path) -> Path | None:
    """The notebook of a row of the table, as it was collected; None where it was none.

    Args:
        folder: `downloaded/<lesson>` of a course.
        row: of its table.
        scratch: an empty folder for what is unpacked.
    """
    kept = folder / "archive" / row["archive"]
    if not row["archive"] or not kept.exists():
        return None
    place = row["file"].split(" > ")
    if kept.is_dir():
        path = kept.joinpath(*place)
        return path if path.is_file() else None
    for found in Reader(scratch).files(kept):
        inside = [str(found.inside)] if found.inside else []
        if [str(found.path), *inside] == place:
            return found.content
    return None
