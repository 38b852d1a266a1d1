"""What grading takes from a notebook: the exercises, and the definitions that they lean on.

Names decide, not positions or tags: an exercise is wherever its definition stands, so a cell that
was copied, moved, retagged or deleted costs nothing and gains nothing. No other code is taken, so
no training cell ever runs to grade.
"""

import ast
import json
import re
from dataclasses import dataclass, field

from autograder import splice
from autograder.lesson import PACKAGE, Exercise, Lesson, parse_directive
from autograder.lesson import code_cells as code_cells_of

MAX_NOTEBOOK_BYTES = 20_000_000

_CONSTANT_CALLS = {"float", "int", "tuple", "list", "range", "dict", "frozenset", "set"}
_CONSTANT_MODULES = {"math", "torch", "np", "numpy", "functools"}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class UnreadableNotebook(Exception):
    """The file is not a notebook that can be graded; the message says why in one line."""


@dataclass(frozen=True)
class Piece:
    """Part of one cell, everything that is not taken blanked, so line numbers stay true."""

    label: str
    source: str


@dataclass(frozen=True)
class Submission:
    """What a learner handed in, reduced to what is graded."""

    pieces: tuple[Piece, ...]
    unwritten: frozenset[str] = frozenset()  # exercises whose stub is untouched
    missing: frozenset[str] = frozenset()  # exercises whose definition is nowhere
    broken: dict[str, str] = field(default_factory=dict)  # exercise -> why its cell can't be read
    uses: dict[str, frozenset[str]] = field(default_factory=dict)  # exercise -> others it calls

    def source(self) -> str:
        """All pieces as one module's text."""
        return "\n\n".join(_squeeze(piece.source) for piece in self.pieces) + "\n"


@dataclass
class _Cell:
    label: str
    grade_id: str | None
    source: str
    nodes: list[ast.stmt]
    error: str | None = None


def extract(notebook: bytes, lesson: Lesson) -> Submission:
    """Reduce a notebook to the pieces that the lesson's exercises need.

    Args:
        notebook: the bytes of an .ipynb file, nbformat 4.
        lesson: whose exercises to look for.

    Raises:
        UnreadableNotebook: not a notebook.
    """
    cells = [_parse(*cell) for cell in code_cells(notebook)]
    chosen, unwritten, missing, broken = {}, set(), set(), {}
    for exercise in lesson.exercises:
        cell = _find(cells, exercise)
        if cell is None:
            missing.add(exercise.name)
        elif cell.error is not None:
            broken[exercise.name] = cell.error
        else:
            chosen[_head(exercise.name)] = cell
            if is_stub(_last(cell.nodes, _head(exercise.name)), exercise.name):
                unwritten.add(exercise.name)
    cells = [*_given(lesson, cells), *cells]
    pieces = _pieces(cells, _reachable(cells, chosen, list(chosen)))
    uses = {}
    for exercise in lesson.exercises:
        head = _head(exercise.name)
        nodes = _reachable(cells, chosen, [head] if head in chosen else [])
        reached = {node.name for node in nodes if isinstance(node, _DEFINITIONS)} - {head}
        uses[exercise.name] = frozenset(
            other.name for other in lesson.exercises if _head(other.name) in reached
        )
    return Submission(tuple(pieces), frozenset(unwritten), frozenset(missing), broken, uses)


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


def is_stub(node: ast.stmt | None, name: str) -> bool:
    """Whether the exercise `name`, defined by `node`, still raises NotImplementedError only."""
    for part in name.split(".")[1:]:
        node = _last(getattr(node, "body", []), part)
    if isinstance(node, ast.ClassDef):
        methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
        return any(is_stub(method, method.name) for method in methods)
    if not isinstance(node, ast.FunctionDef):
        return False
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    if not body or not isinstance(body[0], ast.Raise):
        return False
    raised = body[0].exc
    raised = raised.func if isinstance(raised, ast.Call) else raised
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"


def _parse(label: str, grade_id: str | None, source: str) -> _Cell:
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    try:
        return _Cell(label, grade_id, source, ast.parse(source).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    plain = re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)  # IPython's magics
    try:
        return _Cell(label, grade_id, plain, ast.parse(plain).body)
    except SyntaxError as error:
        return _Cell(label, grade_id, source, [], f"line {error.lineno}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return _Cell(label, grade_id, source, [], f"Python cannot read it ({error})")


def _find(cells: list[_Cell], exercise: Exercise) -> _Cell | None:
    """The cell whose definition counts: its own cell first, a written one before a stub."""
    head = _head(exercise.name)
    holders = [cell for cell in cells if _last(cell.nodes, head) is not None]
    holders.sort(key=lambda cell: cell.grade_id == exercise.grade_id)  # stable: its own cells last
    written = [c for c in holders if not is_stub(_last(c.nodes, head), exercise.name)]
    unreadable = [
        cell
        for cell in cells
        if cell.error is not None
        and re.search(rf"^(def|class)\s+{re.escape(head)}\b", cell.source, re.M)
    ]
    for group in (written, unreadable, holders):
        if group:
            return group[-1]
    return None


def _given(lesson: Lesson, cells: list[_Cell]) -> list[_Cell]:
    """The lesson's own imports and definitions, for those that the learner's notebook lost."""
    present = {name for cell in cells for node in cell.nodes for name in _binds(node)}
    present |= {_head(exercise.name) for exercise in lesson.exercises}
    given = []
    for line, text in code_cells_of(lesson.source.read_text(encoding="utf-8")):
        directive = parse_directive(text, str(lesson.source), line)
        if directive is not None and directive.kind != "given":
            continue
        if directive is not None:
            targets = [target.partition(".") for target in directive.argument.split()]
            text = "\n\n".join(
                splice.definition((PACKAGE / f"{module}.py").read_text(encoding="utf-8"), name)
                for module, _, name in targets
            )
        cell = _parse("a given cell", None, text)
        cell.nodes = [n for n in cell.nodes if "*" in _binds(n) or not present & {*_binds(n)}]
        given.append(cell)
    return given


def _reachable(cells: list[_Cell], chosen: dict[str, _Cell], roots: list[str]) -> list[ast.stmt]:
    """The definitions `roots`, and every definition, constant and import that they lead to."""
    providers: dict[str, list[ast.stmt]] = {}
    for cell in cells:
        for node in cell.nodes:
            for name in _binds(node):
                if name not in chosen or chosen[name] is cell:
                    providers.setdefault(name, []).append(node)
    queue = [node for head in roots for node in providers[head][-1:]]
    queue += providers.get("*", []) if roots else []
    taken: dict[int, ast.stmt] = {}
    while queue:
        node = queue.pop()
        if id(node) not in taken:
            taken[id(node)] = node
            for name in _names(node):
                queue += providers.get(name, [])  # all of them: a decorator may need an early one
    return list(taken.values())


def _pieces(cells: list[_Cell], taken: list[ast.stmt]) -> list[Piece]:
    """Those statements, cell by cell in the notebook's order."""
    wanted = {id(node) for node in taken}
    pieces = []
    for cell in cells:
        nodes = [node for node in cell.nodes if id(node) in wanted]
        if nodes:
            pieces.append(Piece(cell.label, _masked(cell.source, nodes)))
    return pieces


def _binds(node: ast.stmt) -> list[str]:
    """The names that a statement makes, if it is of a kind that grading takes."""
    if isinstance(node, _DEFINITIONS):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.Try) and all(_binds(child) for child in node.body):
        return [name for child in node.body for name in _binds(child)]
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


def _names(node: ast.stmt) -> set[str]:
    """The names that a statement reads from outside itself (rather one too many)."""
    names = [child for child in ast.walk(node) if isinstance(child, ast.Name)]
    inside = {child.arg for child in ast.walk(node) if isinstance(child, ast.arg)}
    if isinstance(node, ast.FunctionDef):
        inside |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
    return {name.id for name in names if isinstance(name.ctx, ast.Load)} - inside


def _last(nodes: list[ast.stmt], name: str) -> ast.stmt | None:
    found = [n for n in nodes if isinstance(n, _DEFINITIONS) and n.name == name]
    return found[-1] if found else None


def _masked(source: str, nodes: list[ast.stmt]) -> str:
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


def _squeeze(source: str) -> str:
    return re.sub(r"\n{4,}", "\n\n\n", source).strip("\n")


def _head(name: str) -> str:
    return name.partition(".")[0]
