"""What a lesson must provide so that its exercises can be written and run in the notebook."""

import ast
import builtins
import re
import symtable
from pathlib import Path

from nbformat import NotebookNode

from autograder import splice
from autograder.lesson import Lesson, LessonError

PROVIDED = {"display", "get_ipython", "grade", "quiz", "__name__"} | set(dir(builtins))


def check(lesson: Lesson, cells: list[NotebookNode], lines: dict[str, int], package: Path) -> None:
    """Look through the built cells for what would trip a learner.

    Args:
        lesson: whose cells they are.
        cells: of the notebook with solutions.
        lines: exercise -> line of its directive in the lesson's source.
        package: the folder of the reference package's modules.

    Raises:
        LessonError: a solution uses a name that no cell provides, or the notebook imports an
            exercise's solution.
    """
    where = str(lesson.source)
    sources = [plain(cell.source) for cell in cells if cell.cell_type == "code"]
    provided = PROVIDED.union(*(bound(source) for source in sources))
    for exercise in lesson.exercises:
        shown = splice.definition(
            package.joinpath(f"{exercise.module}.py").read_text(encoding="utf-8"),
            exercise.name.partition(".")[0],
        )
        private = {name for name in used(shown) if name.startswith("_")}
        missing = sorted(used(shown) - provided - private)
        if missing:
            raise LessonError(
                f"{where}:{lines[exercise.name]}: the reference of {exercise.name} uses "
                f"{', '.join(missing)}, which no cell of the lesson imports or defines"
            )
    heads = {(exercise.module, exercise.name.partition(".")[0]) for exercise in lesson.exercises}
    for module, name in sorted(heads & set().union(*map(imports_of_package, sources))):
        raise LessonError(f"{where}: imports {name} from t2i.{module}, but it is an exercise here")


def private_helpers(module: str, shown: str) -> list[str]:
    """The module's private definitions (`_name`) that a definition leans on, in their order.

    They belong to the reference's way of writing it, so the learner's cell does not show them.
    """
    private = [name for name in splice.names(module) if name.startswith("_")]
    found: set[str] = set()
    queue = [shown]
    while queue:
        for name in used(queue.pop()) & set(private) - found:
            found.add(name)
            queue.append(splice.definition(module, name))
    return [name for name in private if name in found]


def used(source: str) -> set[str]:
    """The global names that a piece of source uses without binding them itself."""
    top = symtable.symtable(source, "cell", "exec")
    names: set[str] = set()
    queue = [top]
    while queue:
        table = queue.pop()
        queue += table.get_children()
        for symbol in table.get_symbols():
            outside = symbol.is_global() or table is top
            if outside and symbol.is_referenced():
                names.add(symbol.get_name())
    return names - bound(source)


def bound(source: str) -> set[str]:
    """The names that a cell binds at its top level, imports included."""
    table = symtable.symtable(source, "cell", "exec")
    return {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
    }


def imports_of_package(source: str) -> set[tuple[str, str]]:
    """(module, name) of each `from t2i.module import name`."""
    return {
        (node.module.removeprefix("t2i."), alias.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("t2i.")
        for alias in node.names
    }


def plain(source: str) -> str:
    """A cell's source with IPython's magics taken out, or nothing if Python cannot read it."""
    without = re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)
    try:
        ast.parse(without)
    except SyntaxError:
        return ""
    return without
