"""What grading takes from a notebook: the exercises, and the definitions that they lean on.

Names decide, not positions or tags: an exercise is wherever its definition stands, so a cell that
was copied, moved, retagged or deleted costs nothing and gains nothing. No other code is taken, so
no training cell ever runs to grade.
"""

import ast
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from autograder import splice
from autograder.cells import (
    DEFINITIONS,
    Cell,
    binds,
    code_cells,
    last_definition,
    masked,
    names_read,
    parse,
)
from autograder.lesson import PACKAGE, Exercise, Lesson, parse_directive
from autograder.lesson import code_cells as code_cells_of


@dataclass(frozen=True)
class Piece:
    """Part of one cell, everything that is not taken blanked, so line numbers stay true."""

    label: str  # "cell 7": its place in the notebook
    source: str
    title: str = ""  # "the cell of cosine_betas": how to speak of it

    @property
    def name(self) -> str:
        return self.title or self.label


class Provider(NamedTuple):
    """A statement that binds a name, and the names that it reads itself."""

    node: ast.stmt
    reads: frozenset[str]


@dataclass(frozen=True)
class Submission:
    """What a learner handed in, reduced to what is graded."""

    pieces: tuple[Piece, ...]
    unwritten: frozenset[str] = frozenset()  # exercises whose stub still raises
    missing: frozenset[str] = frozenset()  # exercises whose definition is nowhere
    broken: dict[str, str] = field(default_factory=dict)  # exercise -> why its cell can't be read
    uses: dict[str, frozenset[str]] = field(default_factory=dict)  # exercise -> others it calls
    unreached: frozenset[str] = frozenset()  # of the unwritten: code stands below the raise

    def source(self) -> str:
        """All pieces as one module's text."""
        return "\n\n".join(_squeeze(piece.source) for piece in self.pieces) + "\n"


def extract(notebook: bytes, lesson: Lesson) -> Submission:
    """Reduce a notebook to the pieces that the lesson's exercises need.

    Args:
        notebook: the bytes of an .ipynb file, nbformat 4.
        lesson: whose exercises to look for.

    Raises:
        UnreadableNotebook: not a notebook.
    """
    cells = [parse(*cell) for cell in code_cells(notebook)]
    chosen, unwritten, unreached, missing, broken = {}, set(), set(), set(), {}
    for exercise in lesson.exercises:
        cell = _find(cells, exercise)
        if cell is None:
            missing.add(exercise.name)
        elif cell.error is not None:
            broken[exercise.name] = cell.error
        else:
            chosen[_head(exercise.name)] = cell
            left = stubs(last_definition(cell.nodes, _head(exercise.name)), exercise.name)
            if left:
                unwritten.add(exercise.name)
            if any(stub.body[-1] is not _raise(stub) for stub in left):
                unreached.add(exercise.name)
    cells = _completed(cells, _given(lesson, cells))
    providers = _providers(cells, chosen)
    pieces = _pieces(cells, _reachable(providers, list(chosen)))
    uses = {}
    for exercise in lesson.exercises:
        head = _head(exercise.name)
        nodes = _reachable(providers, [head] if head in chosen else [])
        reached = {node.name for node in nodes if isinstance(node, DEFINITIONS)} - {head}
        uses[exercise.name] = frozenset(
            other.name for other in lesson.exercises if _head(other.name) in reached
        )
    verdicts = frozenset(unwritten), frozenset(missing), broken
    return Submission(tuple(pieces), *verdicts, uses, frozenset(unreached))


def stubs(node: ast.stmt | None, name: str) -> list[ast.FunctionDef]:
    """The functions of the exercise `name`, defined by `node`, that raise NotImplementedError
    before they do anything."""
    for part in name.split(".")[1:]:
        node = last_definition(getattr(node, "body", []), part)
    if isinstance(node, ast.ClassDef):
        methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
        return [stub for method in methods for stub in stubs(method, method.name)]
    if not isinstance(node, ast.FunctionDef) or _raise(node) is None:
        return []
    raised = _raise(node).exc
    raised = raised.func if isinstance(raised, ast.Call) else raised
    found = isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    return [node] if found else []


def _raise(function: ast.FunctionDef) -> ast.Raise | None:
    """The function's first statement below its docstring, if that is a raise."""
    documented = ast.get_docstring(function, clean=False) is not None
    first = function.body[1 if documented else 0 :][:1]
    return first[0] if first and isinstance(first[0], ast.Raise) else None


def _find(cells: list[Cell], exercise: Exercise) -> Cell | None:
    """The cell whose definition counts: its own cell first, a written one before a stub."""
    head = _head(exercise.name)
    holders = [cell for cell in cells if _gives(cell.nodes, head)]
    holders.sort(key=lambda cell: cell.grade_id == exercise.grade_id)  # stable: its own cells last
    written = [c for c in holders if not stubs(last_definition(c.nodes, head), exercise.name)]
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


def _gives(nodes: list[ast.stmt], head: str) -> bool:
    """Whether statements define a name, or give it to something by an assignment."""
    assigned = (n for n in nodes if isinstance(n, ast.Assign | ast.AnnAssign) and head in binds(n))
    return last_definition(nodes, head) is not None or any(assigned)


def _given(lesson: Lesson, cells: list[Cell]) -> list[Cell]:
    """The lesson's own imports and definitions, for those that the learner's notebook lost."""
    present = {name for cell in cells for node in cell.nodes for name in binds(node)}
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
        cell = parse("a given cell", None, text)
        cell.nodes = [n for n in cell.nodes if "*" in binds(n) or not present & {*binds(n)}]
        given.append(cell)
    return given


def _completed(cells: list[Cell], given: list[Cell]) -> list[Cell]:
    """The learner's cells with the lesson's: imports first, definitions before the learner's own.

    A definition may need the learner's imports (for its annotations), theirs may need it.
    """

    def defines(cell: Cell) -> bool:
        return any(isinstance(node, DEFINITIONS) for node in cell.nodes)

    first = next((place for place, cell in enumerate(cells) if defines(cell)), len(cells))
    imports = [cell for cell in given if not defines(cell)]
    definitions = [cell for cell in given if defines(cell)]
    return [*imports, *cells[:first], *definitions, *cells[first:]]


def _providers(cells: list[Cell], chosen: dict[str, Cell]) -> dict[str, list[Provider]]:
    """For each name the statements that bind it, with the names that each of them reads."""
    providers: dict[str, list[Provider]] = {}
    for cell in cells:
        for node in cell.nodes:
            provider = Provider(node, frozenset(names_read(node)))
            for name in binds(node):
                if name not in chosen or chosen[name] is cell:
                    providers.setdefault(name, []).append(provider)
    return providers


def _reachable(providers: dict[str, list[Provider]], roots: list[str]) -> list[ast.stmt]:
    """The definitions `roots`, and every definition, constant and import that they lead to."""
    queue = [provider for head in roots for provider in providers[head][-1:]]
    queue += providers.get("*", []) if roots else []
    taken: dict[int, ast.stmt] = {}
    followed: set[str] = set()
    while queue:
        provider = queue.pop()
        if id(provider.node) not in taken:
            taken[id(provider.node)] = provider.node
            for name in provider.reads - followed:
                queue += providers.get(name, [])  # all of them: a decorator may need an early one
            followed |= provider.reads
    return list(taken.values())


def _pieces(cells: list[Cell], taken: list[ast.stmt]) -> list[Piece]:
    """Those statements, cell by cell in the notebook's order."""
    wanted = {id(node) for node in taken}
    pieces = []
    for cell in cells:
        nodes = [node for node in cell.nodes if id(node) in wanted]
        if nodes:
            defined = [node.name for node in nodes if isinstance(node, DEFINITIONS)]
            title = f"the cell of {defined[-1]}" if defined else ""
            pieces.append(Piece(cell.label, masked(cell.source, nodes), title))
    return pieces


def _squeeze(source: str) -> str:
    return re.sub(r"\n{4,}", "\n\n\n", source).strip("\n")


def _head(name: str) -> str:
    return name.partition(".")[0]
