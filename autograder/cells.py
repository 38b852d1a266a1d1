"""A notebook's code cells as syntax: what each statement binds, reads, and may bring along."""

import ast
import functools
import json
import re
import symtable
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_NOTEBOOK_BYTES = 20_000_000
MAX_CODE = 1_000_000  # characters in all code cells
MAX_CELLS = 2_000  # of code
MAX_DEPTH = 150  # of brackets, blocks and terms in each other; deeper ones exhaust Python's stack

_CONSTANT_CALLS = set(
    "abs bool bytes complex dict enumerate filter float frozenset int len list map max min range "
    "round set slice sorted str sum tuple zip "
    "partial namedtuple Counter OrderedDict defaultdict deque NewType TypeVar".split()
)
_CONSTANT_MODULES = set(
    "math torch nn F np numpy functools itertools operator collections typing logging re "
    "string".split()
)
_CHANGES = set(
    "add append clear discard extend insert pop remove reverse setdefault sort update".split()
)
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
    found = [
        (f"cell {number}", grade_id, source)
        for number, kind, grade_id, source in all_cells(notebook)
        if kind == "code"
    ]
    if not found:
        raise UnreadableNotebook("the notebook has no code cells")
    if len(found) > MAX_CELLS or sum(len(source) for _, _, source in found) > MAX_CODE:
        raise UnreadableNotebook(
            f"it has more than {MAX_CELLS} code cells or {MAX_CODE // 10**6} million characters "
            "of code"
        )
    return found


def all_cells(notebook: bytes) -> Iterator[tuple[int, object, str | None, str]]:
    """(number from 1, type, nbgrader's grade_id, source) of every cell that has a source.

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
    for number, cell in enumerate(content["cells"], start=1):
        if not isinstance(cell, dict):
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
        grade_id = grade_id if isinstance(grade_id, str) else None
        yield number, cell.get("cell_type"), grade_id, source


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
    body = ast.parse(source).body
    if (depth := _depth(source)) > MAX_DEPTH:
        raise ValueError(f"it is nested {depth} deep, at most {MAX_DEPTH} is graded")
    return body


def known_by_source(function: Callable) -> Callable:
    """Remembers what a function found for a cell: a lesson's own cells come again and again.

    Sources that are long, or of many statements, are not kept: nobody's notebook fills the memory.
    """
    remembered = functools.lru_cache(maxsize=1024)(function)

    def known(source: str):
        short = len(source) < 20_000 and source.count("\n") + source.count(";") < 300
        return (remembered if short else function)(source)

    return known


@known_by_source
def _depth(source: str) -> int:
    """How deep a source is nested, modules not counted."""
    level, depth = ast.parse(source).body, 0
    while level:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


@known_by_source
def reads_of(source: str) -> dict[tuple[int, int], frozenset[str]]:
    """The names that each statement of a source reads, by the statement's line and column."""
    nodes = ast.parse(source).body
    return {(node.lineno, node.col_offset): frozenset(names_read(node)) for node in nodes}


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


def changes(node: ast.stmt) -> list[str]:
    """The names whose values a statement changes without making them, if it does no more.

    `NAMES += [1]`, `NAMES.append(1)`, `TABLE["a"] = 1`, `Block.forward = other`, and a definition
    that its decorator may have written down somewhere.
    """
    changed: list[ast.expr] = []
    if isinstance(node, DEFINITIONS):
        changed = node.decorator_list
    elif isinstance(node, ast.AugAssign) and _is_constant(node.value):
        changed = [node.target]
    elif isinstance(node, ast.Assign) and _is_constant(node.value):
        changed = [t for t in node.targets if isinstance(t, ast.Subscript | ast.Attribute)]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        method, told = node.value.func, [*node.value.args, *node.value.keywords]
        if getattr(method, "attr", "") in _CHANGES and all(map(_is_constant, told)):
            changed = [method.value]
    roots = map(_root, changed)
    return [root.id for root in roots if isinstance(root, ast.Name)]


def _root(value: ast.expr) -> ast.expr:
    """What an expression begins with: `torch` in `torch.cuda.is_available()`."""
    while isinstance(value, ast.Attribute | ast.Subscript | ast.Call):
        value = value.func if isinstance(value, ast.Call) else value.value
    return value


def _is_constant(value: ast.AST) -> bool:
    """Whether an expression only computes with literals, names and a few harmless calls."""
    if isinstance(value, ast.Lambda):
        return True
    for child in ast.walk(value):
        if isinstance(child, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
            return False
        if isinstance(child, ast.Call):
            root = _root(child.func)
            known = _CONSTANT_CALLS if root is child.func else _CONSTANT_MODULES | _CONSTANT_CALLS
            if isinstance(root, ast.Lambda) or (
                isinstance(root, ast.Name) and root.id not in known
            ):
                return False
    return True


def names_read(node: ast.AST) -> set[str]:
    """The names that a statement reads from outside itself (rather one too many)."""
    try:
        return _outside(symtable.symtable(ast.unparse(node), "cell", "exec"))
    except (SyntaxError, ValueError, RecursionError):
        return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def _outside(scope: symtable.SymbolTable) -> set[str]:
    """The names that a scope, or one within it, looks up among those of the notebook."""
    if scope.get_type() == "module":
        found = {symbol.get_name() for symbol in scope.get_symbols() if symbol.is_referenced()}
    else:
        found = {symbol.get_name() for symbol in scope.get_symbols() if symbol.is_global()}
    return found.union(*map(_outside, scope.get_children()))


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
