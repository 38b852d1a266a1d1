"""A learner's definition: cut out of a notebook with what it leans on, fitted into a module."""

import ast
import os
import re
import subprocess
import symtable
import sys
from collections.abc import Mapping
from pathlib import Path

from autograder import lint, splice
from autograder.extract import Submission
from autograder.lesson import LESSONS
from autograder.splice import SpliceError
from autograder.text import DEFINITIONS, FUNCTIONS, Text

SECONDS = 120  # for one import of the package


def cut(submission: Submission, head: str, others: set[str]) -> str:
    """One definition and the imports, helpers and constants that it leans on.

    Args:
        submission: what grading took from a notebook.
        head: name of the function or class.
        others: the names of the other exercises; they are left to stand for themselves.

    Raises:
        SpliceError: there is no such definition.
    """
    parts = [part for piece in submission.pieces for part in _statements(piece.source)]
    provider: dict[str, int] = {}
    for index, (node, _) in enumerate(parts):
        provider.update(dict.fromkeys(_binds(node), index))
    if not isinstance(parts[provider[head]][0] if head in provider else None, DEFINITIONS):
        raise SpliceError(f"there is no definition of {head}")
    taken: set[int] = set()
    queue = [provider[head], *([provider["*"]] if "*" in provider else [])]
    while queue:
        index = queue.pop()
        if index not in taken:
            taken.add(index)
            needs = lint.used(parts[index][1]) - others
            queue += [provider[name] for name in needs if name in provider]
    return "\n".join(parts[index][1] for index in sorted(taken))


def fit(
    module: str, path: str, head: str, own: str, elsewhere: Mapping[str, str] | None = None
) -> str:
    """Put a learner's definition, and what it leans on, in the place of the reference's.

    What the module has already is not put in twice. A helper, constant or import of the learner
    whose name means something else in the module gets another name, so that nobody's code is
    changed by it.

    Args:
        module: the module's source.
        path: its dotted name, `t2i.schedules`.
        head: name of the function or class.
        own: the learner's source, as `cut` gives it.
        elsewhere: the lesson's exercises in other modules, name -> module. A helper may lean on
            them, and is told where they are.

    Returns:
        the new source of the module.

    Raises:
        SpliceError: it cannot be done without changing the meaning of somebody's code.
    """
    there = _bindings(module)
    parts = _statements(own)
    *_, target = [i for i, (node, _) in enumerate(parts) if getattr(node, "name", "") == head]
    kept, renamed = [], {}
    for index, (node, text) in enumerate(parts):
        if index == target:
            kept.append(text)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            kept += _fit_import(node, path, head, there, renamed)
        elif any(there.get(name) != _meaning(node) for name in _binds(node)):
            clash = {name: f"{name}_of_{head}" for name in _binds(node) if name in there}
            if clash and isinstance(node, ast.Try):
                raise SpliceError(f"its import hides the module's own {', '.join(clash)}")
            renamed.update(clash)
            kept.append(text)
    new = "\n\n".join(_rename(text, renamed) for text in kept)
    at_hand = there.keys() | {name for node, _ in parts for name in _binds(node)}
    for name in sorted(lint.used(new) & (elsewhere or {}).keys() - at_hand):
        new = f"from t2i.{elsewhere[name]} import {name}\n\n{new}"
    return splice.replace(module, head, new)


def import_error(folder: Path, changed: set[str]) -> str:
    """Why the changed modules of `folder/t2i` do not import, or nothing."""
    if not changed:
        return ""
    names = [
        name
        for lesson in LESSONS
        for name in lesson.modules
        if folder.joinpath("t2i", f"{name}.py").exists()
    ]
    names += sorted(changed - set(names))
    code = "import sys; sys.path.insert(0, sys.argv[1])\nimport importlib\n"
    code += "for name in sys.argv[2:]: importlib.import_module('t2i.' + name)\n"
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run = subprocess.run(
            [sys.executable, "-c", code, str(folder), *names],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"the import takes longer than {SECONDS} s"
    if run.returncode == 0:
        return ""
    return (run.stderr.strip().splitlines() or [f"exit {run.returncode}"])[-1]


def _fit_import(node, path: str, head: str, there: dict, renamed: dict) -> list[str]:
    """The lines of an import that the module lacks."""
    lines = []
    for alias in node.names:
        if alias.name == "*":
            raise SpliceError(
                f"it needs 'from {node.module} import *'; import the names one by one"
            )
        name = alias.asname or alias.name.partition(".")[0]
        meaning = _import_meaning(node, alias)
        if getattr(node, "module", None) == path:  # the module itself: the name is at hand
            if name != alias.name:
                renamed[name] = alias.name
            continue
        if there.get(name) == meaning:
            continue
        new = alias
        if name in there:
            if isinstance(node, ast.Import) and "." in alias.name and not alias.asname:
                raise SpliceError(f"its import of {alias.name} hides the module's own {name}")
            renamed[name] = f"{name}_of_{head}"
            new = ast.alias(alias.name, renamed[name])
        made = ast.Import([new])
        if isinstance(node, ast.ImportFrom):
            made = ast.ImportFrom(node.module, [new], node.level)
        lines.append(ast.unparse(made))
    return lines


def _statements(source: str) -> list[tuple[ast.stmt, str]]:
    """Each top-level statement with its text."""
    text = Text.read(source)
    found = []
    for node in text.tree.body:
        start = text.start(node) if isinstance(node, DEFINITIONS) else node.lineno
        end = text.end(node) if isinstance(node, DEFINITIONS) else node.end_lineno
        lines = "".join(text.between(start, end))
        alone = len(ast.parse(lines).body) == 1
        found.append((node, lines if alone else ast.unparse(node) + "\n"))
    return found


def _binds(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.Try):
        return [name for child in node.body for name in _binds(child)]
    return splice.bound(node)


def _bindings(module: str) -> dict[str, str]:
    """What each name of a module means: equal texts mean the same."""
    found = {}
    for node in ast.parse(module).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                found[name] = _import_meaning(node, alias)
        else:
            found.update(dict.fromkeys(_binds(node), _meaning(node)))
    return found


def _import_meaning(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    if isinstance(node, ast.ImportFrom):
        return f"import {node.module}.{alias.name}"
    whole = alias.name if alias.asname else alias.name.partition(".")[0]
    return f"import {whole}"


def _meaning(node: ast.stmt) -> str:
    """A statement without what does not change what it does: docstrings, comments, spacing."""
    copy = ast.parse(ast.unparse(node))
    for inner in ast.walk(copy):
        if isinstance(inner, DEFINITIONS) and ast.get_docstring(inner) is not None:
            inner.body = inner.body[1:] or [ast.Pass()]
    return ast.dump(copy)


def _rename(source: str, names: dict[str, str]) -> str:
    """Give global names another name, wherever they stand in a piece of source."""
    names = {old: new for old, new in names.items() if old in source}
    if not names:
        return source
    _refuse_locals(symtable.symtable(source, "own", "exec"), set(names), top=True)
    text = Text.read(source)
    places = []
    for node in ast.walk(text.tree):
        if isinstance(node, ast.Name) and node.id in names:
            places.append((node.lineno, node.col_offset, node.id))
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)) and node.name in names:
            line = text.lines[node.lineno - 1]
            found = re.search(rf"\b(?:def|class)\s+({node.name})\b", line)
            places.append((node.lineno, len(line[: found.start(1)].encode()), node.name))
    for number, column, old in sorted(places, reverse=True):
        line = text.lines[number - 1].encode()
        end = column + len(old.encode())
        text.lines[number - 1] = (line[:column] + names[old].encode() + line[end:]).decode()
    return "".join(text.lines)


def _refuse_locals(table: symtable.SymbolTable, names: set[str], top: bool = False) -> None:
    """A name that is also a local variable cannot be told apart safely."""
    for symbol in table.get_symbols():
        if not top and symbol.get_name() in names and not symbol.is_global():
            name = symbol.get_name()
            raise SpliceError(f"its helper {name} has the name of something in the module")
    for child in table.get_children():
        _refuse_locals(child, names)
