"""Does a page or a notebook show what it must not: a line of a hidden test or of a solution?"""

import ast
import html
import json
import re
from dataclasses import dataclass
from pathlib import Path

from autograder import splice
from autograder.lesson import PACKAGE, Lesson

SHORTEST = 25  # shorter lines stand in any program


@dataclass(frozen=True)
class Secrets:
    """Lines that must not be shown, each squeezed to what is left without white space."""

    hidden_tests: dict[str, str]  # squeezed -> as it stands in the file
    solutions: dict[str, str]

    def found_in(self, text: str, own: str = "") -> list[str]:
        """The secret lines that stand in a text, except those that its author wrote himself."""
        shown, written = squeeze(text), squeeze(own)
        found = []
        for kind, lines in (("hidden test", self.hidden_tests), ("solution", self.solutions)):
            for key, line in lines.items():
                if key in shown and key not in written:
                    found.append(f"{kind}: {line}")
        return found


def secrets(lesson: Lesson) -> Secrets:
    """The secret lines of a lesson: what its text and the rest of the package show is none."""
    package = "\n".join(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py")))
    answers: list[str] = []
    for exercise in lesson.exercises:
        module = PACKAGE.joinpath(f"{exercise.module}.py").read_text(encoding="utf-8")
        answers += _body_lines(splice.definition(module, exercise.name))
    elsewhere = package.splitlines()
    for line in answers:
        elsewhere.remove(next(each for each in elsewhere if each.strip() == line.strip()))
    text = lesson.source.read_text(encoding="utf-8")
    shown = squeeze(text) + squeeze(text.replace("`", ""))  # prose and hints say much; as pages do
    public = {squeeze(line) for line in elsewhere}
    public |= {key for key in map(squeeze, answers) if key in shown}
    hidden = lesson.hidden_tests.read_text(encoding="utf-8").splitlines()
    around = squeeze("\n".join(elsewhere))
    public |= {key for key in map(squeeze, hidden) if key in shown or key in around}
    return Secrets(_significant(hidden, public), _significant(answers, public))


def text_of(path: Path) -> str:
    """What a file shows to a reader: of a notebook all its strings, of a page its plain text."""
    raw = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".ipynb":
        try:
            return "\n".join(_strings(json.loads(raw)))
        except ValueError:
            return raw
    if path.suffix == ".html":
        return html.unescape(re.sub(r"<[^>]*>", "", raw))
    return raw


def squeeze(text: str) -> str:
    """The text without any white space, so that wrapping and indenting hide nothing."""
    return "".join(text.split())


def _significant(lines: list[str], public: set[str]) -> dict[str, str]:
    lines = [line.strip() for line in lines if not re.match(r"\s*(from|import) ", line)]
    kept = {squeeze(line): line for line in lines if len(line) >= SHORTEST}
    return {key: line for key, line in kept.items() if key not in public}


def _body_lines(definition: str) -> list[str]:
    """The lines of all bodies in a definition, without docstrings and signatures."""
    lines = definition.splitlines()
    found = {}
    for node in ast.walk(ast.parse(definition)):
        if isinstance(node, ast.FunctionDef):
            skip = 1 if ast.get_docstring(node, clean=False) is not None else 0
            for statement in node.body[skip:]:
                found |= {
                    n: lines[n - 1] for n in range(statement.lineno, statement.end_lineno + 1)
                }
    return [found[number] for number in sorted(found) if found[number].strip()]


def _strings(value: object) -> list[str]:
    """Every string in a parsed notebook; lists of lines are joined."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return ["".join(value)]
        return [text for item in value for text in _strings(item)]
    return []
