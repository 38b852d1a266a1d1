"""What grading takes from a notebook: the exercises, and the definitions that they lean on.

Names decide, not positions or tags: an exercise is wherever its definition stands, so a cell that
was copied, moved, retagged or deleted costs nothing and gains nothing. No other code is taken, so
no training cell ever runs to grade.
"""

import ast
import re
from dataclasses import dataclass, field

from autograder import splice
from autograder.cells import (
    DEFINITIONS,
    Cell,
    binds,
    code_cells,
    last_definition,
    masked,
    parse,
)
from autograder.lesson import PACKAGE, Exercise, Lesson, parse_directive
from autograder.lesson import code_cells as code_cells_of
from autograder.reach import Provider, changers_of, providers_of, reachable


@dataclass(frozen=True)
class Piece:
    """Part of one cell, everything that is not taken blanked, so line numbers stay true."""

    label: str  # "cell 7": its place in the notebook
    source: str
    title: str = ""  # "the cell of cosine_betas": how to speak of it

    @property
    def name(self) -> str:
        return self.title or self.label


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
    providers = providers_of(cells, chosen)
    changers = changers_of(cells, chosen, providers)
    pieces = _pieces(cells, reachable(providers, changers, list(chosen)))
    uses, lost = {}, _lost_with(cells, broken) | {name: {_head(name)} for name in missing}
    for exercise in lesson.exercises:
        head = _head(exercise.name)
        found = reachable(providers, changers, [head] if head in chosen else [])
        reached = {each.node.name for each in found if isinstance(each.node, DEFINITIONS)} - {head}
        read = {name for each in found for name in each.reads}
        uses[exercise.name] = frozenset(
            other.name
            for other in lesson.exercises
            if _head(other.name) in reached or read & lost.get(other.name, set())
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


def _lost_with(cells: list[Cell], broken: dict[str, str]) -> dict[str, set[str]]:
    """For each exercise whose cell Python cannot read, the names that are lost with it."""
    lost: dict[str, set[str]] = {}
    for name in broken:
        head = rf"^(?:def|class)\s+{re.escape(_head(name))}\b"
        texts = [each.source for each in cells if each.error and re.search(head, each.source, re.M)]
        made = re.findall(r"^(?:def|class)\s+(\w+)|^(\w+)\s*=", "\n".join(texts), re.M)
        lost[name] = {defined or assigned for defined, assigned in made}
    return lost


def _pieces(cells: list[Cell], taken: list[Provider]) -> list[Piece]:
    """Those statements, cell by cell in the notebook's order; imports before all others.

    Who moves a cell above the imports has run them before, and so do we.
    """
    wanted, imports, pieces = {id(each.node) for each in taken}, [], []
    for cell in cells:
        nodes = [node for node in cell.nodes if id(node) in wanted]
        first = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        rest = [node for node in nodes if node not in first]
        if first:
            imports.append(Piece(cell.label, masked(cell.source, first)))
        if rest:
            defined = [node.name for node in rest if isinstance(node, DEFINITIONS)]
            title = f"the cell of {defined[-1]}" if defined else ""
            pieces.append(Piece(cell.label, masked(cell.source, rest), title))
    return [*imports, *pieces]


def _squeeze(source: str) -> str:
    return re.sub(r"\n{4,}", "\n\n\n", source).strip("\n")


def _head(name: str) -> str:
    return name.partition(".")[0]
