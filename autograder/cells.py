"""A notebook's code cells as syntax: what each statement binds, reads, and may bring along."""

import ast
import json
import re
from dataclasses import dataclass

MAX_NOTEBOOK_BYTES = 20_000_000

_CONSTANT_CALLS = {"float", "int", "tuple", "list", "range", "dict", "frozenset", "set"}
_CONSTANT_MODULES = {"math", "torch", "np", "numpy", "functools"}
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
        content = json.loads(notebook.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UnreadableNotebook("the file is not a notebook (its JSON is broken)") from error
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise UnreadableNotebook("the file is not a notebook of format 4 (it has no cells)")
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
        found.append((f"cell {number}", grade_id if isinstance(grade_id, str) else None, source))
    return found


def parse(label: str, grade_id: str | None, source: str) -> Cell:
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    try:
        return Cell(label, grade_id, source, ast.parse(source).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    plain = re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)  # IPython's magics
    try:
        return Cell(label, grade_id, plain, ast.parse(plain).body)
    except SyntaxError as error:
        return Cell(label, grade_id, source, [], f"line {error.lineno}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Cell(label, grade_id, source, [], f"Python cannot read it ({error})")


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
    lines = source.splitlines()
    kept = [""] * len(lines)
    for node in nodes:
        first = min([node.lineno] + [d.lineno for d in getattr(node, "decorator_list", [])])
        for index in range(first - 1, node.end_lineno):
            kept[index] = lines[index]
    masked = "\n".join(kept).rstrip() + "\n"
    if len(ast.parse(masked).body) == len(nodes):
        return masked
    return "\n".join(ast.unparse(node) for node in nodes) + "\n"  # several statements on one line
