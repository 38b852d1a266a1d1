"""A submission, built anew on the notebook that was released.

Only sources travel: what the learner wrote for each exercise goes into that exercise's cell of the
released notebook, and what it leans on (imports, helpers, constants) into cells before them. These
are as many as the learner's were, since a statement that fails ends its cell and no other.
Metadata, outputs, tags and the order of the submitted cells are left behind, so they can neither
cost points nor gain any. Code cells that are not part of grading are left out.

An instructor may have added questions that are graded by hand: the answers to them travel as well.
"""

import ast
import copy
import hashlib
import json
import re
from collections import defaultdict

import nbformat
from nbformat import NotebookNode
from nbgrader.utils import is_grade, is_solution

from autograder.cells import all_cells, binds, code_cells, parse
from autograder.extract import Submission, extract
from autograder.lesson import Exercise, Lesson

GATHERED = "Taken from the rest of the notebook: what the exercises below lean on."
MISSING = "# The submitted notebook holds no definition of {name}."
ABOVE = "# What was submitted for {name} stands in one of the cells that gather the rest, above."
LEFT_OUT = {"cell_type": "markdown"}

# The gathered cells; and by exercise, or by grade_id for questions of others, a cell's source.
Layout = tuple[list[str], dict[str, str]]


def rebuild(submitted: bytes, lesson: Lesson, released: NotebookNode) -> NotebookNode:
    """The released notebook with the learner's sources in it, worth the same points.

    Args:
        submitted: the bytes of the notebook that was handed in.
        lesson: whose notebook it is.
        released: the notebook that was given out, or at least its graded cells.

    Raises:
        UnreadableNotebook: the submission is no notebook that can be graded.
    """
    return filled(released, lesson, layout(submitted, lesson, released))


def layout(submitted: bytes, lesson: Lesson, released: NotebookNode) -> Layout:
    """Which source goes into which cell of the rebuilt notebook; arguments as of `rebuild`."""
    submission = extract(submitted, lesson)
    sources = {label: source for label, _, source in code_cells(submitted)}
    neat = _neat(submission, sources, lesson)
    notebook = filled(released, lesson, neat)
    if signature(_extracted(notebook, lesson)) != signature(submission):
        neat = _all_above(submission, neat[1], lesson)
    gathered, cells = neat
    return gathered, cells | _answers_by_hand(submitted, lesson, released)


def blank(released: NotebookNode) -> NotebookNode:
    """The released notebook's own cells, for a submission that cannot be read."""
    return _skeleton(released)


def to_bytes(notebook: NotebookNode) -> bytes:
    """A rebuilt notebook as it is graded: its sources alone, every cell at its number.

    Without test cells, outputs and what nbgrader writes into metadata, so that the same work gives
    the same bytes at every step.
    """
    cells = []
    for cell in notebook.cells:
        counts = cell.cell_type == "code" and not is_grade(cell)
        tag = cell.metadata.get("nbgrader", {}).get("grade_id") if counts else None
        kind = {"cell_type": "code", "outputs": [], "execution_count": None} if counts else LEFT_OUT
        metadata = {"nbgrader": {"grade_id": tag}} if tag else {}
        cells.append(kind | {"metadata": metadata, "source": cell.source if counts else ""})
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def _neat(submission: Submission, sources: dict[str, str], lesson: Lesson) -> Layout:
    """Each exercise's cell as the learner wrote it, the rest gathered."""
    homes = _homes(submission, lesson)
    shared = [label for label in homes.values() if list(homes.values()).count(label) > 1]
    heads = {_head(exercise) for exercise in lesson.exercises}
    cells = {}
    for exercise in lesson.exercises:
        label = homes.get(exercise.name)
        if label is None:
            cells[exercise.name] = _without_home(exercise, submission, sources)
        elif label in shared:
            piece = next(piece for piece in submission.pieces if piece.label == label)
            cells[exercise.name] = _statements(piece.source, only={_head(exercise)})
        else:
            cells[exercise.name] = sources[label]
    kept = {label for label in homes.values() if label not in shared}
    rest = [
        _statements(piece.source, without=heads) if piece.label in shared else piece.source
        for piece in submission.pieces
        if piece.label not in kept
    ]
    return _written(rest), cells


def _all_above(submission: Submission, neat: dict[str, str], lesson: Lesson) -> Layout:
    """Everything in the gathered cells, in the order of the submission: for tangled notebooks."""
    homes = _homes(submission, lesson)
    cells = {
        name: ABOVE.format(name=name) if name in homes else source for name, source in neat.items()
    }
    return _written([piece.source for piece in submission.pieces]), cells


def _homes(submission: Submission, lesson: Lesson) -> dict[str, str]:
    """For each exercise that can be read, the label of the piece that defines it."""
    homes = {}
    for exercise in lesson.exercises:
        for piece in submission.pieces:
            defined = {name for node in ast.parse(piece.source).body for name in binds(node)}
            if _head(exercise) in defined and exercise.name not in submission.broken:
                homes[exercise.name] = piece.label
    return homes


def _without_home(exercise: Exercise, submission: Submission, sources: dict[str, str]) -> str:
    """The source of an exercise's cell that Python cannot read, or a note that there is none."""
    reason = submission.broken.get(exercise.name)
    for source in reversed(sources.values()):
        if reason is None or _head(exercise) not in source:
            continue
        if parse("", None, source).error == reason:
            return source
    return MISSING.format(name=exercise.name)


def _answers_by_hand(submitted: bytes, lesson: Lesson, released: NotebookNode) -> dict[str, str]:
    """What was answered, by grade_id, to questions that the lesson does not know."""
    asked = {
        cell.metadata.nbgrader.grade_id
        for cell in released.cells
        if is_solution(cell) and exercise_of(cell, lesson) is None
    }
    if not asked:
        return {}
    found: dict[str, list[str]] = {}
    for _, _, tag, source in all_cells(submitted):
        if tag in asked and source.strip():
            found.setdefault(tag, []).append(source.strip("\n"))
    return {tag: "\n\n".join(parts) for tag, parts in found.items()}  # a cell may have been split


def filled(released: NotebookNode, lesson: Lesson, sources: Layout) -> NotebookNode:
    """The released notebook with these sources in its cells."""
    gathered, cells = sources
    notebook = _skeleton(released)
    solutions = [index for index, cell in enumerate(notebook.cells) if is_solution(cell)]
    for index in solutions:
        cell = notebook.cells[index]
        name = exercise_of(cell, lesson)
        tag = cell.metadata.nbgrader.grade_id
        if name is not None:
            cell.source = cells[name]
        elif tag in cells:
            is_text = cell.cell_type == "markdown"
            cell.source = plain_text(cells[tag]) if is_text else cells[tag]
    place = solutions[0] if solutions else 0
    new = [nbformat.v4.new_markdown_cell(GATHERED, id="gathered")] if gathered else []
    for number, source in enumerate(gathered, 1):
        new.append(nbformat.v4.new_code_cell(source, id=f"gathered-{number}"))
    notebook.cells[place:place] = new
    return notebook


def plain_text(markdown: str) -> str:
    """A student's text without tags and links that hide where they lead.

    They would run on the page of whoever reads it. A space where one would begin is enough, and
    hardly shows in code and formulas either.
    """
    return re.sub(r"\](?=[(:])", "] ", re.sub(r"<(?=[A-Za-z/!?])", "< ", markdown))


def exercise_of(cell: NotebookNode, lesson: Lesson) -> str | None:
    """The exercise that a cell of the released notebook belongs to: its own or its test cell."""
    grade_id = cell.metadata.nbgrader.grade_id.removeprefix("check-")
    for exercise in lesson.exercises:
        if grade_id == exercise.grade_id:
            return exercise.name
    return None


def _skeleton(released: NotebookNode) -> NotebookNode:
    notebook = copy.deepcopy(released)
    notebook.cells = [
        cell
        for cell in notebook.cells
        if cell.cell_type != "code" or is_grade(cell) or is_solution(cell)
    ]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def _extracted(notebook: NotebookNode, lesson: Lesson) -> Submission:
    return extract(to_bytes(notebook), lesson)


def signature(submission: Submission) -> tuple:
    """All that running a submission's pieces in order depends on, and nothing else.

    Two submissions with the same signature bind the same names to the same things: the same
    statements, the same binders of each name in the same order, and the same names known when a
    statement reads them at once (a decorator, a default value, a base class).
    """
    bound: dict[str, str] = defaultdict(str)  # name -> a digest of its binders in their order
    statements = []
    for piece in submission.pieces:
        for node in ast.parse(piece.source).body:
            text = _digest(ast.dump(node))
            known = tuple((name, bound[name]) for name in sorted(_read_at_once(node)))
            statements.append((text, known))
            for name in _binds(node):
                bound[name] = _digest(bound[name] + text)
    verdicts = (
        submission.unwritten,
        submission.unreached,
        submission.missing,
        frozenset(submission.broken.items()),
    )
    return sorted(statements), dict(bound), verdicts


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read_at_once(node: ast.AST) -> set[str]:
    """The names that a statement reads when it is run, not when its functions are called."""
    inner = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        later = node.body if isinstance(node.body, list) else [node.body]
        inner = [child for child in inner if child not in later]
    own = {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else set()
    return own.union(*(_read_at_once(child) for child in inner))


def _binds(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    names = {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
    aliases = [child for child in ast.walk(node) if isinstance(child, ast.alias)]
    return names | {alias.asname or alias.name.partition(".")[0] for alias in aliases}


def _statements(source: str, only: set[str] = frozenset(), without: set[str] = frozenset()) -> str:
    """The statements that define one of `only`, or all those that define none of `without`."""
    kept = []
    for node in ast.parse(source).body:
        name = getattr(node, "name", None)
        if (name in only) if only else (name not in without):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            kept.append("\n".join(source.split("\n")[first - 1 : node.end_lineno]))
    return "\n\n\n".join(kept)


def _written(sources: list[str]) -> list[str]:
    return [source.strip("\n") for source in sources if source.strip()]


def _head(exercise: Exercise) -> str:
    return exercise.name.partition(".")[0]
