"""Who handed in a file, and when: read off the names that learning-management systems give.

Moodle      Surname Name_12345_assignsubmission_file_/lesson.ipynb, or all in one file's name
Canvas      surnamename_LATE_123_456_lesson (1)-2.ipynb
Blackboard  Assignment 1_user_attempt_2026-11-30-23-59-12_lesson.ipynb
ILIAS       Surname_Name_user_1234/20261130235912_lesson.ipynb
anything    student.ipynb, or student/any name.ipynb
"""

import csv
import datetime
import difflib
import io
import itertools
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from autograder.lesson import LESSONS

_MOODLE = re.compile(r"(?P<name>.+?)_(?P<key>\d+)_assignsubmission_[a-z]+_?(?P<file>.*)")
_CANVAS = re.compile(r"(?P<name>[^_]+)_((?P<late>LATE)_)?(?P<key>\d+)_(?P<number>\d+)_(?P<file>.+)")
_BLACKBOARD = re.compile(
    r".+_(?P<key>[^_]+)_attempt_(?P<when>\d{4}(?:-\d\d){5})(?:_(?P<file>.+)|\.txt)"
)
_ILIAS = re.compile(r"(?P<name>[^_]+_[^_]+)_(?P<key>[^_]+)_\d+")
_ILIAS_FILE = re.compile(r"(?P<when>\d{14})_(?P<file>.+)")
_BOOK = re.compile(r"(.+)\.ipynb(\.txt|\.json)?", re.I)  # some browsers add an ending of theirs
_COPY = re.compile(r"( ?\(\d+\)| ?[-_] ?(copy|kopie|copie)\d*|[-_ ]\d{1,2})+$", re.I)
_SPELT_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae"})
_PLAIN = str.maketrans(
    {"ı": "i", "ł": "l", "ø": "o", "đ": "d", "ð": "d", "ß": "ss", "æ": "ae", "œ": "oe", "þ": "th"}
)
_LONGEST = 80


class RosterError(ValueError):
    """The list of students cannot be used; the message says what to mend."""


@dataclass(frozen=True)
class Origin:
    """What a file's place and name say about it."""

    person: str  # a name, or the student's id
    key: str = ""  # the system's number or user name of this person
    file: str = ""  # the name under which it was handed in
    when: datetime.datetime | None = None  # without a time zone, where a name told it
    attempt: int = 0
    late: bool = False  # the system says so
    by_key: bool = False  # the key is a user name, by which a course can know people

    @property
    def words(self) -> str:
        """How to speak of this person."""
        return (
            f"{self.person} ({self.key})" if self.key and self.key != self.person else self.person
        )


def origin(place: PurePosixPath) -> Origin | None:
    """Who handed in the file at a place below a download; None where nothing tells.

    Args:
        place: a file's path, without what its download has around all of them.
    """
    *folders, name = place.parts
    for folder in reversed(folders):
        if match := _MOODLE.fullmatch(folder):
            return Origin(match["name"], match["key"], name)
        if match := _ILIAS.fullmatch(folder):
            person = match["name"].replace("_", " ")
            told = _ILIAS_FILE.fullmatch(name)
            when = told and _parsed(told["when"], "%Y%m%d%H%M%S")
            own = told["file"] if told else name
            return Origin(person, match["key"], own, when or None, by_key=True)
    if match := _MOODLE.fullmatch(name):
        return Origin(match["name"], match["key"], match["file"])
    if match := _BLACKBOARD.fullmatch(name):
        when = _parsed(match["when"], "%Y-%m-%d-%H-%M-%S")
        return Origin(match["key"], match["key"], match["file"] or "", when, by_key=True)
    if match := _CANVAS.fullmatch(name):
        again = re.search(r"-(\d+)$", stem(match["file"]))
        attempt = int(match["number"]) * 1000 + min(int(again[1]) if again else 0, 999)
        late = bool(match["late"])
        return Origin(match["name"], match["key"], match["file"], None, attempt, late)
    if folders:
        return Origin(folders[0], file=name)
    person = stem(name)
    for slug in (lesson.slug for lesson in LESSONS):
        person = re.sub(rf"[-_ ]+{slug}$", "", person)
    return None if is_lesson(name) else Origin(person, file=name)


def is_notebook(name: str) -> bool:
    """Whether a file is called like a notebook, also where a browser added .txt or .json."""
    return _BOOK.fullmatch(name) is not None


def stem(name: str) -> str:
    """A file's name without its ending, or without both of them."""
    book = _BOOK.fullmatch(name)
    return book[1] if book else PurePosixPath(name).stem


def is_lesson(name: str, slug: str | None = None) -> bool:
    """Whether a file is called like a lesson's notebook, or like a copy of it."""
    called = _COPY.sub("", stem(name)).strip().casefold().replace(" ", "_")
    slugs = [slug] if slug else [lesson.slug for lesson in LESSONS]
    return called in slugs


def student_id(words: str) -> str:
    """A name as nbgrader can use it for a folder: no spaces, no signs that mean something there."""
    joined = "_".join(unicodedata.normalize("NFC", words).split())
    kept = "".join(sign for sign in joined if sign.isalnum() or sign in "-_.@")
    return kept.strip("._-")[:_LONGEST]


@dataclass
class Roster:
    """The students of a course, by the names that a system may give them."""

    names: dict[str, str] = field(default_factory=dict)  # id -> name
    known: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # key -> ids

    @classmethod
    def read(cls, path: Path) -> "Roster":
        """From a table with the columns `name` and `id`, others are skipped.

        Raises:
            RosterError: it is no such table, or an id stands there twice.
        """
        raw = path.read_bytes()
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        first = text.partition("\n")[0]
        mark = max(",;\t", key=first.count)
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark)
        columns = {(title or "").strip().lower(): title for title in rows.fieldnames or []}
        if not {"name", "id"} <= columns.keys():
            there = ", ".join(columns) or "nothing"
            raise RosterError(
                f"{path.name} needs the columns name and id; its first line has {there}"
            )
        roster = cls()
        for row in rows:
            name = (row[columns["name"]] or "").strip()
            number = (row[columns["id"]] or "").strip()
            if not name and not number:
                continue
            if not number or student_id(number) != number:
                said = f"the id {number!r} of {name or 'nobody'}"
                raise RosterError(f"{path.name}, line {rows.line_num}: {said} must be a plain word")
            if number in roster.names:
                raise RosterError(f"{path.name}, line {rows.line_num}: {number} stands there twice")
            roster._add(name, number)
        return roster

    def _add(self, name: str, number: str) -> None:
        self.names[number] = name
        self.known["".join(_words(number))].add(number)
        for words in (_words(name), _words(name.casefold().translate(_SPELT_OUT))):
            orders = itertools.permutations(words) if len(words) <= 4 else [words]
            for order in orders:
                self.known["".join(order)].add(number)

    def find(self, origin: Origin) -> tuple[str | None, str]:
        """(the student's id, "") or (None, why not)."""
        for words in (origin.key, f"{origin.person}{origin.key}", origin.person):
            ids = self.known.get("".join(_words(words)), set()) if words else set()
            if len(ids) == 1:
                return next(iter(ids)), ""
            if ids:
                return None, f"{origin.words} may be {' or '.join(sorted(ids))}"
        near = difflib.get_close_matches("".join(_words(origin.person)), self.known, 1, cutoff=0.8)
        ids = sorted(self.known[near[0]]) if near else []
        names = " or ".join(f"{self.names[number]} ({number})" for number in ids)
        hint = f"; the nearest name in it is {names}" if names else ""
        return None, f"{origin.words} is not in the list of students{hint}"


def _words(name: str) -> list[str]:
    """The parts of a name without accents, case and punctuation."""
    plain = unicodedata.normalize("NFKD", name.casefold()).translate(_PLAIN)
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return re.findall(r"[^\W_]+", plain)


def _parsed(text: str, form: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.strptime(text, form)
    except ValueError:
        return None
