"""A notebook's code cells as syntax: what each statement binds, reads, and may bring along."""

import ast
import json
import re
from dataclasses import dataclass

MAX_NOTEBOOK_BYTES = 20_000_000
MAX_CODE = 1_000_000  # characters in all code cells
MAX_CELLS = 2_000  # of code
MAX_DEPTH = 150  # of brackets, blocks and terms in each other; deeper ones exhaust Python's stack

_CONSTANT_CALLS = {"float", "int", "tuple", "list", "range", "dict", "frozenset", "set"}
_CONSTANT_MODULES = {"math", "torch", "np", "numpy", "functools"}
# IPython's own lines: magics, shell commands, what they say kept in a name, calls for help.
_MAGIC = re.compile(
    r"^([^\S\n]*)(?=\S)(?:[%!?].*|[\w, ]+=[ \t]*[%!].*|[\w.]+[ \t]*\?{1,2}[ \t]*)$", re.MULTILINE
)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class UnreadableNotebook(Exception):
    """The file is not a notebook that can be graded; the message says why in one line."""


@dataclass
class Cell:
    label: str
    grade_id: str | None
    source: str
    nodes: list[ast.stmt]
    error: str | None = None


def code_cells(notebook: bytes) -> list[tuple[str, str | None, str]]:
    """(label, nbgrader's grade_id, source) of every code cell.

    Raises:
        UnreadableNotebook: not a notebook.
    """
    if len(notebook) > MAX_NOTEBOOK_BYTES:
        raise UnreadableNotebook(
            f"the notebook is larger than {MAX_NOTEBOOK_BYTES // 10**6} MB: clear its outputs"
        )
    if not notebook.strip():
        raise UnreadableNotebook("the file is empty")
    try:
        content = json.loads(_text(notebook))
    except (ValueError, RecursionError) as error:
        raise UnreadableNotebook("the file is not a notebook (its JSON is broken)") from error
    content = _upgraded(content) if isinstance(content, dict) else {}
    if not isinstance(content.get("cells"), list):
        raise UnreadableNotebook("the file is not a notebook (it has no cells)")
    found = []
    for number, cell in enumerate(content["cells"], start=1):
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source", "")
        if isinstance(source, list):
            source = "".join(part for part in source if isinstance(part, str))
        if not isinstance(source, str):
            continue
        metadata = cell.get("metadata")
        tag = metadata.get("nbgrader") if isinstance(metadata, dict) else None
        grade_id = tag.get("grade_id") if isinstance(tag, dict) else None
        source = source.encode("utf-8", "replace").decode()  # half a character fits in no file
        found.append((f"cell {number}", grade_id if isinstance(grade_id, str) else None, source))
    if not found:
        raise UnreadableNotebook("the notebook has no code cells")
    if len(found) > MAX_CELLS or sum(len(source) for _, _, source in found) > MAX_CODE:
        raise UnreadableNotebook(
            f"it has more than {MAX_CELLS} code cells or {MAX_CODE // 10**6} million characters "
            "of code"
        )
    return found


def _text(notebook: bytes) -> str:
    """The file as text: UTF-8 or UTF-16, with or without a mark, and what an editor made of it."""
    return notebook.decode(json.detect_encoding(notebook), errors="replace").removeprefix("\ufeff")


def _upgraded(content: dict) -> dict:
    """A notebook of format 3, as far as it is looked at, in the form of format 4."""
    sheets = content.get("worksheets")
    if "cells" in content or not isinstance(sheets, list):
        return content
    cells = []
    for sheet in sheets:
        listed = sheet.get("cells") if isinstance(sheet, dict) else None
        cells += listed if isinstance(listed, list) else []
    for cell in cells:
        if isinstance(cell, dict) and "input" in cell:
            cell["source"] = cell["input"]
    return {"cells": cells}


def parse(label: str, grade_id: str | None, source: str) -> Cell:
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    try:
        return Cell(label, grade_id, source, _nodes(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    plain = _MAGIC.sub(r"\1pass", source)
    try:
        return Cell(label, grade_id, plain, _nodes(plain))
    except SyntaxError as error:
        return Cell(label, grade_id, source, [], f"line {error.lineno}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Cell(label, grade_id, source, [], f"Python cannot read it ({error})")


def _nodes(source: str) -> list[ast.stmt]:
    """The statements of a source, none of them too deep for what walks through it later."""
    body, depth = ast.parse(source).body, 0
    level: list[ast.AST] = list(body)
    while level:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested {depth} deep, at most {MAX_DEPTH} is graded")
    return body


def binds(node: ast.stmt) -> list[str]:
    """The names that a statement makes, if it is of a kind that grading takes."""
    if isinstance(node, DEFINITIONS):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.Try) and all(binds(child) for child in node.body):
        return [name for child in node.body for name in binds(child)]
    if isinstance(node, ast.Assign) and _is_constant(node.value):
        targets = [t for target in node.targets for t in getattr(target, "elts", [target])]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and node.value is not None and _is_constant(node.value):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    return []


def _is_constant(value: ast.expr) -> bool:
    """Whether an expression only computes with literals, names and a few harmless calls."""
    if isinstance(value, ast.Lambda):
        return True
    for child in ast.walk(value):
        if isinstance(child, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
            return False
        if isinstance(child, ast.Call):
            function = child.func
            base = function.value if isinstance(function, ast.Attribute) else None
            module = base.id if isinstance(base, ast.Name) else None
            name = function.id if isinstance(function, ast.Name) else None
            if module not in _CONSTANT_MODULES and name not in _CONSTANT_CALLS:
                return False
    return True


def names_read(node: ast.AST) -> set[str]:
    """The names that a statement reads from outside itself (rather one too many)."""
    if isinstance(node, ast.ClassDef):  # what one method calls its own is not so in the next
        parts = [*node.decorator_list, *node.bases, *node.keywords, *node.body]
        return set().union(*map(names_read, parts))
    names = [child for child in ast.walk(node) if isinstance(child, ast.Name)]
    inside = {child.arg for child in ast.walk(node) if isinstance(child, ast.arg)}
    if isinstance(node, ast.FunctionDef):
        inside |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
    return {name.id for name in names if isinstance(name.ctx, ast.Load)} - inside


def last_definition(nodes: list[ast.stmt], name: str) -> ast.stmt | None:
    found = [n for n in nodes if isinstance(n, DEFINITIONS) and n.name == name]
    return found[-1] if found else None


def masked(source: str, nodes: list[ast.stmt]) -> str:
    lines = source.split("\n")  # as Python counts: not at form feeds and the like
    kept = [""] * len(lines)
    for node in nodes:
        first = min([node.lineno] + [d.lineno for d in getattr(node, "decorator_list", [])])
        for index in range(first - 1, node.end_lineno):
            kept[index] = lines[index]
    masked = "\n".join(kept).rstrip() + "\n"
    if len(ast.parse(masked).body) == len(nodes):
        return masked
    return "\n".join(ast.unparse(node) for node in nodes) + "\n"  # several statements on one line
