"""What was collected, kept as it came, and a table that says of each file what became of it.

`downloaded/<lesson>/archive/` holds the originals of every collection. In `collected.csv` beside it
a student has one file that counts; one that a later collection replaced is marked so.
"""

import csv
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from autograder.lesson import Lesson

TABLE = "collected.csv"
COLUMNS = ("student", "file", "time", "counts", "late", "note")


def keep(folder: Path, download: Path, files: Sequence) -> None:
    """Keep the zip, or a folder's notebooks, and note what became of all files.

    Args:
        folder: `downloaded/<lesson>` of a course.
        download: what was collected.
        files: all that was found in it, each a `collect.File`.
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
    before = _read_table(folder)
    for row in before:
        if row["counts"] == "yes" and row["student"] in now:
            row |= {"counts": "no", "note": "a later collection replaced it"}
    new = folder / f".{TABLE}.new"
    with new.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows([*before, *(file.row for file in files)])
    os.replace(new, folder / TABLE)


def counting_rows(course: Path, lesson: Lesson) -> dict[str, dict[str, str]]:
    """For each student, the row of `collected.csv` whose file counts."""
    rows = _read_table(course / "downloaded" / lesson.slug)
    return {row["student"]: row for row in rows if row["counts"] == "yes"}


def _read_table(folder: Path) -> list[dict[str, str]]:
    if not (folder / TABLE).exists():
        return []
    with (folder / TABLE).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
