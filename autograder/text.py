"""A module's text beside its syntax tree, so that text can be cut where the tree says."""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)


class SpliceError(ValueError):
    """A definition that is not there, or source that Python cannot read."""


@dataclass
class Text:
    """A module as lines (each ending in a plain newline) and as a tree."""

    lines: list[str]
    tree: ast.Module
    newline: str

    @classmethod
    def read(cls, source: str) -> Text:
        newline = "\r\n" if "\r\n" in source else "\n"
        plain = source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        if plain and not plain.endswith("\n"):
            plain += "\n"
        try:
            tree = ast.parse(plain)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            where = f" (line {line})" if line else ""
            raise SpliceError(f"Python cannot read this: {error.args[0]}{where}") from None
        return cls(lines_of(plain), tree, newline)

    def write(self, plain: str) -> str:
        return plain if self.newline == "\n" else plain.replace("\n", self.newline)

    def has(self, name: str) -> bool:
        return any(isinstance(node, DEFINITIONS) and node.name == name for node in self.tree.body)

    def find(self, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef:
        node: ast.AST = self.tree
        for part in name.split("."):
            found = [
                child
                for child in getattr(node, "body", [])
                if isinstance(child, DEFINITIONS) and child.name == part
            ]
            if not found or (isinstance(node, FUNCTIONS)):
                raise SpliceError(f"there is no definition of {name}")
            node = found[-1]
        return node

    def between(self, first: int, last: int) -> list[str]:
        return self.lines[first - 1 : last]

    def start(self, node: ast.AST) -> int:
        """First line of a definition, its decorators included."""
        return min([node.lineno, *(each.lineno for each in node.decorator_list)])

    def end(self, node: ast.AST) -> int:
        """Last line of a definition, with the indented comments that close it."""
        indent, last = len(self.indent(node)), node.end_lineno
        for number in range(node.end_lineno, len(self.lines)):
            line = self.lines[number]
            stripped = line.strip()
            if not stripped:
                continue
            if not stripped.startswith("#") or len(line) - len(line.lstrip()) <= indent:
                break
            last = number + 1
        return last

    def indent(self, node: ast.AST) -> str:
        line = self.lines[node.lineno - 1]
        return line[: len(line) - len(line.lstrip())]

    def before(self, node: ast.stmt) -> str:
        """What stands on a statement's first line in front of it."""
        line = self.lines[node.lineno - 1].encode()
        return line[: node.col_offset].decode()


def lines_of(plain: str) -> list[str]:
    # str.splitlines would also split at form feeds and other signs that Python does not count
    return io.StringIO(plain, newline="\n").readlines()


def methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    return [child for child in node.body if isinstance(child, FUNCTIONS)]


def all_methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """The methods of a class and of the classes inside it."""
    inner = [child for child in node.body if isinstance(child, ast.ClassDef)]
    return methods(node) + [method for child in inner for method in all_methods(child)]


def has_docstring(node: ast.AST) -> bool:
    first = node.body[0]
    return (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )


def body_of(function: ast.FunctionDef) -> list[ast.stmt]:
    """The statements after the docstring."""
    return function.body[1:] if has_docstring(function) else function.body


def colon(text: Text, function: ast.FunctionDef) -> tuple[int, int]:
    """Line and column of the colon that ends a signature."""
    lines = iter(text.lines[function.lineno - 1 :])
    depth = 0
    for token in tokenize.generate_tokens(lambda: next(lines, "")):
        if token.type != tokenize.OP:
            continue
        depth += (token.string in "([{") - (token.string in ")]}")
        if token.string == ":" and depth == 0:
            return function.lineno + token.start[0] - 1, token.start[1]
    raise SpliceError(f"the signature of {function.name} has no end")  # pragma: no cover


def shift(lines: list[str], remove: str = "", add: str = "") -> list[str]:
    """Move lines to the left or to the right, but not what stands inside longer strings."""
    fixed = _inside_strings("".join(lines))
    shifted = []
    for number, line in enumerate(lines, start=1):
        if number in fixed or not line.strip():
            shifted.append(line)
        else:
            shifted.append(add + line.removeprefix(remove))
    return shifted


def _inside_strings(source: str) -> set[int]:
    """Lines that begin inside a string, docstrings apart: moving them would change a value."""
    nested = source[:1].isspace()
    tree = ast.parse("if 1:\n" + source if nested else source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, DEFINITIONS) and has_docstring(node)
    }
    return {
        number - nested
        for node in ast.walk(tree)
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in docstrings
        if isinstance(getattr(node, "value", ""), (str, bytes))
        for number in range(node.lineno + 1, node.end_lineno + 1)
    }
