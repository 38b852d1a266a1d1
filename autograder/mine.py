"""The learner's own package: a copy of the reference with what passed in its place."""

import hashlib
import itertools
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from autograder import own, progress
from autograder.lesson import LESSONS, PACKAGE, REPOSITORY, Lesson, LessonError
from autograder.splice import SpliceError

MINE = REPOSITORY / "mine"
RECORD = "own.json"


@dataclass
class Share:
    """What of one lesson is the learner's."""

    lesson: Lesson
    own: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # passed, but why it is not in

    @property
    def reference(self) -> list[str]:
        return [each.name for each in self.lesson.exercises if each.name not in self.own]

    @property
    def complete(self) -> bool:
        return not self.reference


@dataclass(frozen=True)
class _Part:
    share: Share
    name: str
    module: str
    source: str


def assemble(
    target: Path | None = None,
    results: Path | None = None,
    package: Path = PACKAGE,
    lessons: tuple[Lesson, ...] = LESSONS,
) -> list[Share]:
    """Write the learner's package to `target/t2i`, in the place of what stood there.

    Args:
        target: the folder that will hold `t2i`.
        results: where gradings are recorded.
        package: the reference.
        lessons: whose exercises to look at.

    Returns:
        for each lesson that has a source, what is the learner's.
    """
    target = target or MINE
    shares = [Share(lesson) for lesson in lessons if lesson.exists]
    parts = [part for share in shares for part in _parts(share, results)]
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".new-") as scratch:
        modules = _fitted(parts, package)
        _put(modules, package, Path(scratch, "t2i"))
        if own.import_error(Path(scratch), set(modules)):
            modules = _one_by_one(parts, package, Path(scratch))
        _swap(Path(scratch, "t2i"), target / "t2i")
    record = {
        "key": key(results, package, lessons),
        "lessons": {str(share.lesson.number): share.own for share in shares},
    }
    text = json.dumps(record, indent=1) + "\n"
    target.joinpath(RECORD).write_text(text, encoding="utf-8")
    return shares


def key(results: Path | None, package: Path, lessons: tuple[Lesson, ...] = LESSONS) -> str:
    """Changes whenever the learner's package has to be assembled again."""
    digest = hashlib.sha256()
    recorded = [
        (results or progress.RESULTS) / f"lesson_{each.number:02d}.json" for each in lessons
    ]
    for path in [*recorded, *sorted(package.rglob("*.py"))]:
        digest.update(path.name.encode())
        digest.update(path.read_bytes() if path.exists() else b"-")
    return digest.hexdigest()


def own_modules(
    before: int,
    target: Path | None = None,
    results: Path | None = None,
    package: Path = PACKAGE,
    lessons: tuple[Lesson, ...] = LESSONS,
) -> tuple[dict[str, Path], str]:
    """The modules that a lesson's notebook takes from the learner, and what to say about it.

    A lesson counts as the learner's when all its exercises passed.

    Args:
        before: the lesson that is being worked on; only earlier ones are looked at.
        target, results, package, lessons: as in `assemble`.

    Returns:
        files: module name -> the learner's file.
        sentence: what the lesson stands on, without a full stop; empty for the first lesson.
    """
    target = target or MINE
    earlier = [each for each in lessons if each.exists and each.number < before]
    counts = {each.number: len(progress.passed(each, results)) for each in earlier}
    owned: dict[str, list[str]] = {}
    if any(counts[each.number] == len(each.exercises) for each in earlier):
        owned = _owned(target, results, package, lessons)
    files, standing = {}, []
    for lesson in earlier:
        total, count = len(lesson.exercises), counts[lesson.number]
        if len(owned.get(str(lesson.number), [])) == total == count:
            files |= {name: target / "t2i" / f"{name}.py" for name in lesson.modules}
            standing.append((lesson.number, "your own", f"{count} of {total}"))
        else:
            recorded = progress.read(lesson, results) is not None
            yours = f"yours: {count} of {total} passed" if recorded else "yours: not graded yet"
            standing.append((lesson.number, "the reference's", yours))
    return files, _told(standing)


def _told(standing: list[tuple[int, str, str]]) -> str:
    """Number, whose, and how far of each lesson, as one sentence; the like ones in a row as one."""

    def kind(each: tuple[int, str, str]) -> tuple[str, str]:
        return each[1], "" if each[1] == "your own" else each[2]

    words = []
    for (whose, _), group in itertools.groupby(standing, kind):
        numbers, _, how = zip(*group, strict=True)
        if len(numbers) == 1:
            words.append(f"{whose} lesson {numbers[0]} ({how[0]})")
        else:
            far = "all passed" if whose == "your own" else how[0]
            between = "and" if len(numbers) == 2 else "to"
            words.append(f"{whose} lessons {numbers[0]} {between} {numbers[-1]} ({far})")
    return ", ".join(words)


def main() -> int:
    """`make mine`."""
    console = Console()
    try:
        shares = assemble()
    except (OSError, LessonError) as error:
        console.print(f"[red]Nothing was put together:[/] {error}", highlight=False)
        return 2
    total = sum(len(share.lesson.exercises) for share in shares)
    count = sum(len(share.own) for share in shares)
    table = Table(title="Your own t2i", title_justify="left")
    for column in ("lesson", "yours", "still the reference's"):
        table.add_column(column)
    for share in shares:
        names = ", ".join(share.own) or "none yet", ", ".join(share.reference) or "nothing"
        table.add_row(f"{share.lesson.number} · {share.lesson.title}", *names)
    console.print(table)
    for share in shares:
        for name, reason in share.left_out.items():
            console.print(f"[red]left out[/] {name}: {reason}", highlight=False)
    console.print(f"[bold]{count} of {total} definitions are yours.[/]")
    command = 'make sample prompt="a red seven" out=seven.png mine=yes'
    console.print(f"The package lies in {os.path.relpath(MINE)}/t2i. Try it: {command}")
    if not count:
        console.print("None of it is yours yet: write an exercise, grade it, and come back.")
    return 0


def _parts(share: Share, results: Path | None) -> list[_Part]:
    """What passed in one lesson, with its recorded source."""
    found = progress.read(share.lesson, results) or {"sources": {}}
    names = progress.passed(share.lesson, results)
    return [
        _Part(share, each.name, each.module, found["sources"][each.name])
        for each in share.lesson.exercises
        if each.name in names and found["sources"].get(each.name)
    ]


def _fitted(parts: list[_Part], package: Path) -> dict[str, str]:
    """The changed modules with all parts put in; notes in the shares what fitted."""
    modules: dict[str, str] = {}
    for part in parts:
        path = package / f"{part.module}.py"
        try:
            before = modules.get(part.module) or path.read_text(encoding="utf-8")
            head = part.name.partition(".")[0]
            elsewhere = {
                each.name.partition(".")[0]: each.module
                for each in part.share.lesson.exercises
                if each.module != part.module
            }
            where = f"t2i.{part.module}"
            modules[part.module] = own.fit(before, where, head, part.source, elsewhere)
        except (SpliceError, OSError) as error:
            part.share.left_out[part.name] = str(error)
        else:
            part.share.own.append(part.name)
    return modules


def _one_by_one(parts: list[_Part], package: Path, scratch: Path) -> dict[str, str]:
    """Put the parts in one after the other, and leave out those with which nothing imports."""
    for share in {id(part.share): part.share for part in parts}.values():
        share.own.clear()
    good: list[_Part] = []
    modules: dict[str, str] = {}
    for part in parts:
        if part.name in part.share.left_out:
            continue
        for each in [*good, part]:
            each.share.own.clear()
        tried = _fitted([*good, part], package)
        _put(tried, package, scratch / "t2i")
        problem = own.import_error(scratch, set(tried))
        if problem:
            part.share.left_out[part.name] = f"with it the package does not import ({problem})"
            part.share.own = [name for name in part.share.own if name != part.name]
        else:
            good.append(part)
            modules = tried
    _put(modules, package, scratch / "t2i")
    return modules


def _put(modules: dict[str, str], package: Path, folder: Path) -> None:
    """Copy the package, the changed modules in their new form."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(package, folder, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for name, source in modules.items():
        folder.joinpath(f"{name}.py").write_text(source, encoding="utf-8", newline="\n")


def _swap(new: Path, old: Path) -> None:
    aside = new.with_name("old")
    if old.exists():
        os.replace(old, aside)
    os.replace(new, old)


def _owned(target: Path, results: Path | None, package: Path, lessons: tuple[Lesson, ...]) -> dict:
    """Which exercises of which lesson stand in the learner's package, assembled if it is old."""
    try:
        record = json.loads(target.joinpath(RECORD).read_text(encoding="utf-8"))
        if record["key"] == key(results, package, lessons):
            return record["lessons"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {
        str(share.lesson.number): share.own for share in assemble(target, results, package, lessons)
    }
