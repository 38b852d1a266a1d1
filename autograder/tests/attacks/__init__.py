"""What was tried against the grader: a corpus of attacks, and what each must not achieve.

Every attack is a notebook of a lesson with something hostile in it. `runner.py` hands each one in
between honest neighbours, through `grade` and through nbgrader's autograde, and looks at the score,
at everything that was written, at the neighbours, at the machine and at what still runs.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

CATEGORIES = {
    "points": ("objects", "reference", "notebooks", "conversation", "layers"),
    "leaks": ("leaks",),
    "damage": ("damage", "state"),
    "denial": ("denial", "bombs"),
    "browser": ("browser",),
}


@dataclass(frozen=True)
class Attack:
    """One attempt.

    The notebook is the lesson's blank one with one honest answer in it (`runner.HONEST`, 10 points
    in lesson 1) and the answers given here. In its texts @HOME@, @COURSE@ and @REPOSITORY@ become
    the paths of this machine, so nothing has to be guessed.
    """

    name: str
    tries: str  # what it must not achieve
    answers: dict[str, str] = field(default_factory=dict)  # exercise -> the source of its cell
    cells: tuple[str, ...] = ()  # code cells put before all others
    change: Callable[[dict], None] | None = None  # of the notebook, as its JSON
    content: Callable[[bytes], bytes] | None = None  # of the file itself
    beside: Callable[[Path, dict[str, Path]], None] | None = None  # of the folder handed in
    lesson: int = 1
    score: int = 10  # what it deserves
    flagged: bool = False  # a person has to look at it
    never: tuple[str, ...] = ()  # what nothing that is written may contain
    says: str = ""  # a pattern that one of the messages matches
    limit: str = ""  # what cannot be prevented in principle, why, and what bounds it
    quick: bool = False  # one of the tenth that `make test` runs
    category: str = ""  # filled in by `corpus`


def snr(body: str, before: str = "") -> dict[str, str]:
    """An answer to lesson 1's exercise snr, which is worth 10 points."""
    lines = "".join(f"    {line}\n" for line in body.strip("\n").splitlines())
    return {"snr": f"{before}def snr(alphas_cumprod):\n{lines}"}


def corpus() -> list[Attack]:
    """All attacks, category by category."""
    found = []
    for category, modules in CATEGORIES.items():
        for name in modules:
            listed = importlib.import_module(f"{__name__}.{name}").ATTACKS
            found += [replace(attack, category=category) for attack in listed]
    return found
