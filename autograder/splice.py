"""Take definitions out of Python source, and put definitions in.

Everything works on the text, guided by `ast`: comments, spacing and quotes stay as the author
wrote them. A name is a top-level function or class (`cosine_betas`, `Downsample`) or one method
(`UNet.forward`).
"""

from __future__ import annotations

import ast
import re
import textwrap

from autograder.text import (
    DEFINITIONS,
    FUNCTIONS,
    SpliceError,
    Text,
    all_methods,
    body_of,
    colon,
    has_docstring,
    lines_of,
    methods,
    shift,
)

BEGIN = "### BEGIN SOLUTION"
END = "### END SOLUTION"


def definition(source: str, name: str) -> str:
    """The text of one definition: decorators, comments and all, without what is around it.

    Args:
        source: a module.
        name: `function`, `Class` or `Class.method`. Of several with one name the last counts,
            as it does when Python runs the module.

    Returns:
        the text from the first decorator to the last line; a method is moved to the left margin.

    Raises:
        SpliceError: there is no such definition, or the source cannot be parsed.
    """
    text = Text.read(source)
    node = text.find(name)
    lines = text.between(text.start(node), text.end(node))
    if "." in name:
        lines = shift(lines, remove=text.indent(node))
    return "".join(lines).rstrip("\n") + "\n"


def stub(source: str, name: str, mark: bool = True) -> str:
    """The same definition with its bodies marked as the solution, or taken away.

    Args:
        source: a definition as `definition` gives it; for a method, that of its whole class.
        name: the exercise. A function's body, all bodies of a class, or one method's body.
        mark: put the body between nbgrader's solution marks; otherwise it gives way to
            `raise NotImplementedError("... is not written yet")`.

    Returns:
        the definition, signature and docstring untouched.

    Raises:
        SpliceError: there is no such definition, or it has no body to write.
    """
    text = Text.read(source)
    node = text.find(name)
    functions = [node] if isinstance(node, FUNCTIONS) else all_methods(node)
    functions = [function for function in functions if body_of(function)]
    if not functions:
        raise SpliceError(f"{name} has no body that a learner could write")
    for function in sorted(functions, key=lambda each: each.lineno, reverse=True):
        text.lines[:] = _with_stub(text, function, not_written(name) if not mark else None)
    return "".join(text.lines)


def not_written(name: str) -> str:
    """The line that stands where the learner has not written anything yet."""
    return f'raise NotImplementedError("{name} is not written yet")'


def replace(source: str, name: str, new_source: str) -> str:
    """Put a definition in the place of the old one, and leave the rest as it is.

    Args:
        source: the module.
        name: which definition goes: `function`, `Class` or `Class.method`.
        new_source: what comes. Either the definition itself (for a method: its whole class, or
            only methods), and with it whatever it needs: imports, constants, helpers. Methods
            replace those of the same name, others with `self` are added to the class; what is
            no method stands before the class.

    Returns:
        the module, in its own line endings.

    Raises:
        SpliceError: nothing of that name is in `source` or in `new_source`.
    """
    text = Text.read(source)
    new = Text.read(_dedent(new_source))
    owner = text.find(name.partition(".")[0])
    if new.has(owner.name):
        lines = _blank_free(new.lines)
    elif isinstance(owner, ast.ClassDef):
        lines = _class_with(text, owner, new, name)
    else:
        raise SpliceError(f"{name} is not defined in what should replace it")
    future, lines = _without_future(lines)
    start, end = text.start(owner), text.end(owner)
    text.lines[start - 1 : end] = lines
    return text.write(_with_future("".join(text.lines), future))


def names(source: str) -> list[str]:
    """The names that a module binds at its top level, in order: definitions and constants.

    Args:
        source: a module.

    Returns:
        names, each once; imported names are left out.
    """
    found: dict[str, None] = {}
    for node in Text.read(source).tree.body:
        found.update(dict.fromkeys(bound(node)))
    return list(found)


def bound(node: ast.stmt) -> list[str]:
    """The names that one top-level statement binds, imports apart."""
    if isinstance(node, DEFINITIONS):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if not isinstance(node, (ast.Assign, ast.AnnAssign)):
        return []
    return [
        leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)
    ]


def _dedent(source: str) -> str:
    return textwrap.dedent(source) if source[:1].isspace() else source


def _blank_free(lines: list[str]) -> list[str]:
    text = "".join(lines).strip("\n")
    return lines_of(text + "\n")


def _with_stub(text: Text, function: ast.FunctionDef, line: str | None) -> list[str]:
    """The lines of the text with one function's body marked (line None) or replaced by a line."""
    first, last = body_of(function)[0], text.end(function)
    if text.before(first).strip():  # the body shares a line with the signature or the docstring
        indent = text.indent(function) + "    "
        head = text.between(1, function.lineno - 1) + _signature(text, function, indent)
        source = text.lines[first.lineno - 1].encode()
        rest = text.between(first.lineno + 1, last)
        body = [indent + source[first.col_offset :].decode(), *rest]
    else:
        indent = text.before(first)
        docstring = function.body[0].end_lineno if has_docstring(function) else 0
        head_end = docstring or colon(text, function)[0]
        head, body = text.between(1, head_end), text.between(head_end + 1, last)
    marked = [f"{indent}{BEGIN}\n", *body, f"{indent}{END}\n"]
    return head + (marked if line is None else [f"{indent}{line}\n"]) + text.lines[last:]


def _signature(text: Text, function: ast.FunctionDef, indent: str) -> list[str]:
    """Signature and docstring, of a function whose body shares a line with one of them."""
    line, column = colon(text, function)
    lines = text.between(function.lineno, line)
    lines[-1] = lines[-1][: column + 1] + "\n"
    if has_docstring(function):
        docstring = ast.get_source_segment("".join(text.lines), function.body[0])
        lines.append(f"{indent}{docstring}\n")
    return lines


def _class_with(text: Text, owner: ast.ClassDef, new: Text, name: str) -> list[str]:
    """A class in which the new methods stand, with everything else before it."""
    old = {method.name: method for method in methods(owner)}
    found = [node for node in new.tree.body if isinstance(node, FUNCTIONS)]
    found = [node for node in found if node.name in old or _looks_like_method(node)]
    wanted = name.partition(".")[2]
    if not found or (wanted and wanted not in {method.name for method in found}):
        raise SpliceError(f"{name} is not defined in what should replace it")
    indent = text.before(owner.body[0])
    lines = text.between(text.start(owner), text.end(owner))
    offset = text.start(owner) - 1
    blocks = {node.name: new.between(new.start(node), new.end(node)) for node in found}
    added = [block for method, block in blocks.items() if method not in old]
    for block in added:
        lines += ["\n", *shift(block, add=indent)]
    for method in sorted(old.values(), key=lambda node: node.lineno, reverse=True):
        if method.name in blocks and old[method.name] is method:
            first, last = text.start(method) - 1 - offset, text.end(method) - offset
            lines[first:last] = shift(blocks[method.name], add=indent)
    taken = {n for node in found for n in range(new.start(node), new.end(node) + 1)}
    rest = [line for number, line in enumerate(new.lines, start=1) if number not in taken]
    before = _blank_free(rest) if "".join(rest).strip() else []
    return [*before, *(["\n", "\n"] if before else []), *lines]


def _looks_like_method(node: ast.FunctionDef) -> bool:
    arguments = node.args.posonlyargs + node.args.args
    marks = {"staticmethod", "classmethod", "property"}
    decorators = {each.id for each in node.decorator_list if isinstance(each, ast.Name)}
    return bool(decorators & marks) or bool(arguments and arguments[0].arg == "self")


FUTURE = re.compile(r"from __future__ import [^\n;]+\n")


def _without_future(lines: list[str]) -> tuple[list[str], list[str]]:
    """`from __future__` must open a module: the lines that do that, and the others."""
    future = [line for line in lines if FUTURE.fullmatch(line)]
    return future, [line for line in lines if not FUTURE.fullmatch(line)]


def _with_future(source: str, future: list[str]) -> str:
    missing = [line for line in future if line not in source]
    if not missing:
        return source
    tree = ast.parse(source)
    at = tree.body[0].end_lineno if tree.body and ast.get_docstring(tree) is not None else 0
    lines = lines_of(source)
    return "".join([*lines[:at], *missing, *lines[at:]])
