"""What a notebook's definitions lean on: which statements have to run before them."""

import ast
import builtins
from typing import NamedTuple

from autograder.cells import DEFINITIONS, Cell, binds, changes, names_read, reads_of


class Provider(NamedTuple):
    """A statement that binds a name, and the names that it reads itself."""

    node: ast.stmt
    reads: frozenset[str]


def providers_of(cells: list[Cell], chosen: dict[str, Cell]) -> dict[str, list[Provider]]:
    """For each name the statements that bind it, with the names that each of them reads."""
    providers: dict[str, list[Provider]] = {}
    for cell in cells:
        reads = reads_of(cell.source) if cell.nodes else {}
        for node in cell.nodes:
            provider = Provider(node, reads[node.lineno, node.col_offset])
            for name in binds(node):
                if name not in chosen or chosen[name] is cell:
                    providers.setdefault(name, []).append(provider)
    return providers


def changers_of(
    cells: list[Cell], chosen: dict[str, Cell], providers: dict[str, list[Provider]]
) -> dict[str, list[Provider]]:
    """For each name that the notebook makes itself the statements that change its value.

    Those that lean on what is not taken are left out: they would only fail.
    """
    imports = ast.Import | ast.ImportFrom | ast.Try
    known = providers.keys() | set(dir(builtins))
    own = {name for name, found in providers.items() if not isinstance(found[-1].node, imports)}
    changers: dict[str, list[Provider]] = {}
    for cell in cells:
        for node in cell.nodes:
            if chosen.get(getattr(node, "name", ""), cell) is not cell:
                continue  # an exercise's other copy
            changed = own.intersection(changes(node))
            if isinstance(node, DEFINITIONS):  # a decorator may write into what it reads
                kept = {read for name in changed for each in providers[name] for read in each.reads}
                changed |= own & kept
            provider = Provider(node, frozenset(names_read(node) if changed else ()))
            for name in changed if provider.reads <= known else ():
                changers.setdefault(name, []).append(provider)
    return changers


def reachable(
    providers: dict[str, list[Provider]], changers: dict[str, list[Provider]], roots: list[str]
) -> list[Provider]:
    """The definitions `roots`, and every definition, constant and import that they lead to."""
    queue = [p for head in roots for p in (*providers[head][-1:], *changers.get(head, []))]
    queue += providers.get("*", []) if roots else []
    taken: dict[int, Provider] = {}
    followed: set[str] = set()
    while queue:
        provider = queue.pop()
        if id(provider.node) not in taken:
            taken[id(provider.node)] = provider
            for name in provider.reads - followed:  # all of them: a decorator may need an early one
                queue += [*providers.get(name, []), *changers.get(name, [])]
            followed |= provider.reads
    return list(taken.values())
