"""Tries attacks on both routes and says what each of them achieved."""

import functools
import hashlib
import json
import re
import time
from pathlib import Path

import psutil

from autograder.cells import UnreadableNotebook
from autograder.course.folder import Course, CourseError, make_course
from autograder.course.leaks import secrets, text_of
from autograder.course.submitted import read_submission
from autograder.grader import grade
from autograder.lesson import Lesson, get_lesson
from autograder.process import Worker
from autograder.tests.attacks import Attack
from autograder.tests.attacks.hand_in import (
    CANARY,
    NEIGHBOURS,
    OWN_WORK,
    SEED,
    Place,
    honest_score,
    lay,
    neighbour,
    notebook,
    place,
)
from autograder.tests.attacks.pages import Active, formgrader_page


def by_grade(attack: Attack, where: Place, folder: Path, worker: Worker) -> list[str]:
    """Grade the attacker and then an honest neighbour in one worker; what went wrong."""
    lesson, found, before = get_lesson(attack.lesson), [], _running()
    path = lay(attack, folder / attack.name / lesson.slug, where)
    try:
        content = read_submission(path)
    except UnreadableNotebook:
        content = b""
    home = _tree(where.home)
    result = grade(content, lesson, seed=SEED, worker=worker)
    said = "\n".join(row.message for row in result.exercises)
    if result.score != attack.score:
        found.append(f"scores {result.score}, not {attack.score}: {said[:500]}")
    if attack.flagged != (result.problem is not None):
        found.append(f"flagged: {result.problem}")
    if attack.says and not re.search(attack.says, said):
        found.append(f"says {said[:500]}")
    found += [f"says {word!r}" for word in attack.never if word in said]
    found += _leaked(lesson, said, content.decode(errors="replace"))
    after = grade(neighbour(lesson), lesson, seed=SEED, worker=worker)
    if after.score != honest_score(lesson):
        words = [row.message for row in after.exercises]
        found.append(f"the neighbour gets {after.score}: {words}")
    found += ["the home folder changed"] if _tree(where.home) != home else []
    return found + _left_running(before, allowed=1)


def by_class(attacks: list[Attack], folder: Path) -> list[str]:
    """Autograde a class of these attackers and honest neighbours; what went wrong."""
    lesson = get_lesson(attacks[0].lesson)
    with place(folder) as where:
        course = make_course(where.course, [lesson.number], seed=SEED)
        course.release(lesson.number)
        _hand_in_neighbours(course, lesson)
        for attack in attacks:  # those who get 0 handed something better in before
            path = _submitted(course, lesson, attack.name)
            if attack.score == 0:
                path.parent.mkdir(parents=True)
                path.write_bytes(neighbour(lesson))
        if any(attack.score == 0 for attack in attacks):
            course.autograde(lesson.number)
        for attack in attacks:
            path = _submitted(course, lesson, attack.name)
            if path.exists():
                path.unlink()
                path.parent.rmdir()
            lay(attack, path.parent, where)
        return _autograded(attacks, course, lesson, where)


def _autograded(attacks: list[Attack], course: Course, lesson: Lesson, where: Place) -> list[str]:
    kept = [course.folder / "source", course.folder / "release", where.home]
    kept += [course.folder / "submitted" / name for name in NEIGHBOURS]
    trees, before, found = [_tree(path) for path in kept], _running(), []
    try:
        course.autograde(lesson.number)
        course.feedback(lesson.number)
    except CourseError as error:
        found.append(f"the batch: {str(error)[-1500:]}")
    found += _left_running(before)
    found += [f"{p.name} changed" for p, tree in zip(kept, trees, strict=True) if _tree(p) != tree]
    scores, flagged = course.scores(lesson.number), course.flagged(lesson.number)
    for name in NEIGHBOURS:
        if sum(scores.get(name, {}).values()) != honest_score(lesson) or name in flagged:
            found.append(f"{name} gets {scores.get(name)}")
    table = course.export(course.folder / "grades.csv").read_text()
    for attack in attacks:
        said = "\n".join(_messages(course, lesson, attack.name))
        score = sum(scores.get(attack.name, {"none": float("nan")}).values())
        wrong = [] if score == attack.score else [f"scores {score}, not {attack.score}"]
        wrong += [] if (attack.name in flagged) == attack.flagged else ["flagged, or not"]
        wrong += (
            [] if re.search(rf"{attack.name}.*\b{attack.score}\.0", table) else ["not exported"]
        )
        wrong += [f"says {word!r}" for word in attack.never if word in said]
        wrong += _shown(attack, course, lesson, where)
        found += [f"{attack.name}: {problem}: {said[:300]}" for problem in wrong]
    return found


def _shown(attack: Attack, course: Course, lesson: Lesson, where: Place) -> list[str]:
    """What stands in the attacker's files that must not."""
    own, found = notebook(attack, where).decode(errors="replace"), []
    own = own.encode().decode("unicode_escape", errors="replace") + own
    for step in ("autograded", "feedback"):
        for path in sorted((course.folder / step / attack.name).rglob("*")):
            if path.is_symlink() or not path.is_file():
                found += [f"{step} holds the link {path.name}"] if path.is_symlink() else []
            elif path.suffix in (".ipynb", ".html", ".txt", ".db", ".bin", ".py"):
                found += _leaked(lesson, text_of(path) + path.read_text(errors="replace"), own)
    page = course.folder / "feedback" / attack.name / lesson.slug / f"{lesson.slug}.html"
    if not page.exists():
        return [*found, "no feedback page"]
    honest = course.folder / "feedback" / NEIGHBOURS[0] / lesson.slug / page.name
    active = Active.of(page.read_text()) - Active.of(honest.read_text())
    if attack.category == "browser":
        active |= _active_in_formgrader(course, lesson, attack.name)
    return found + [f"active: {item}" for item in sorted(active)]


def _active_in_formgrader(course: Course, lesson: Lesson, student: str) -> set[str]:
    pages = []
    for name in (student, NEIGHBOURS[0]):
        path = course.folder / "autograded" / name / lesson.slug / f"{lesson.slug}.ipynb"
        pages.append(Active.of(formgrader_page(path, "somebody")))
    return pages[0] - pages[1]


def _leaked(lesson: Lesson, text: str, own: str) -> list[str]:
    known = {"the secret": CANARY, "another's work": OWN_WORK, "the seed": str(SEED)}
    found = [f"leaks {what}" for what, word in known.items() if word in text]
    return found + [f"leaks a {line}" for line in _secrets(lesson).found_in(text, own)]


def _messages(course: Course, lesson: Lesson, student: str) -> list[str]:
    path = course.folder / "autograded" / student / lesson.slug / f"{lesson.slug}.ipynb"
    if not path.exists():
        return ["no autograded notebook"]
    found = []
    for cell in json.loads(path.read_text())["cells"]:
        for output in cell.get("outputs", []):
            found.append("".join(output.get("text", output.get("evalue", ""))))
    return found


def _hand_in_neighbours(course: Course, lesson: Lesson) -> None:
    for name in NEIGHBOURS:
        path = _submitted(course, lesson, name)
        path.parent.mkdir(parents=True)
        path.write_bytes(neighbour(lesson))


def _submitted(course: Course, lesson: Lesson, student: str) -> Path:
    return course.folder / "submitted" / student / lesson.slug / f"{lesson.slug}.ipynb"


def _running() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def _left_running(before: set[int], allowed: int = 0) -> list[str]:
    """Processes of ours that are new; `allowed` workers may stay, of three processes each."""
    for _ in range(50):
        left = _running() - before
        if len(left) <= 3 * allowed:
            return []
        time.sleep(0.1)
    return [f"left running: {[psutil.Process(pid).cmdline()[:3] for pid in left]}"]


def _tree(folder: Path) -> dict[str, str]:
    """Every file of a folder, by a digest of what it holds; our own caches are left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        is_cache = path.relative_to(folder).parts[0] == ".cache"  # matplotlib's, of fonts
        if path.is_file() and not path.is_symlink() and not is_cache:
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@functools.cache
def _secrets(lesson: Lesson):
    return secrets(lesson)
