"""Definitions go out of source and back in, and nothing else changes."""

import ast
from pathlib import Path

import pytest

from autograder import splice
from autograder.lesson import PACKAGE
from autograder.splice import SpliceError
from autograder.text import FUNCTIONS

MODULES = sorted(PACKAGE.rglob("*.py"))
ODD = '''\
"""A module."""
import math  # why not

X = 1


@decorator(lambda: 0)  # twice
@other
def decorated(a: int = {1: 2}[1], *, b="):") -> "dict[str, int]":  # the signature
    """One line."""

    # think first
    return a  # done
    # an afterthought

# not part of it
def one_line(x): return x + 1
def one_line_doc(x): "A docstring."; y = x; return y
def only_doc():
    """Nothing else."""
def split(
    a,
    b,
): return (
    a + b
)

class Box:
    """A box."""
    size = 3

    @property
    def text(self):
        value = """
  kept as it is
"""
        def inner(y):
            return y
        return inner(value)

    class Lid:
        def shut(self): return "shut"


async def later():
    return 1

def one_line(x):
    return x + 2
'''


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_package_survives_a_round_trip(path: Path):
    source = path.read_text(encoding="utf-8")
    for name in _names(source):
        taken = splice.definition(source, name)
        ast.parse(taken)
        assert splice.replace(source, name, taken) == source, name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_stubs_keep_signature_and_docstring_and_nothing_else(path: Path):
    source = path.read_text(encoding="utf-8")
    for name in _names(source):
        shown = splice.definition(source, name.partition(".")[0])
        functions = _functions(shown, name)
        if not functions:
            continue
        marked = splice.stub(shown, name).split("\n")
        lines = [line for line in marked if line.strip() not in (splice.BEGIN, splice.END)]
        assert "\n".join(lines) == shown, name
        stubbed = splice.stub(shown, name, mark=False)
        for before, after in zip(functions, _functions(stubbed, name), strict=True):
            (line,) = after.body[ast.get_docstring(after) is not None :]
            assert ast.dump(line) == ast.dump(ast.parse(splice.not_written(name)).body[0])
            assert ast.get_docstring(before) == ast.get_docstring(after)
            assert ast.dump(before.args) == ast.dump(after.args)


def test_definitions_with_comments_and_decorators():
    taken = splice.definition(ODD, "decorated")
    assert taken.startswith("@decorator") and taken.endswith("# an afterthought\n")
    assert splice.definition(ODD, "one_line").endswith("x + 2\n"), "the last of two counts"
    text = splice.definition(ODD, "Box.text")
    assert text.startswith("@property\ndef text") and "\n  kept as it is\n" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("decorated", '"""One line."""\n    raise NotImplementedError("decorated is not'),
        ("one_line_doc", 'def one_line_doc(x):\n    "A docstring."\n    raise NotImpl'),
        ("split", 'def split(\n    a,\n    b,\n):\n    raise NotImplementedError("split'),
        ("later", "async def later():\n    raise NotImplementedError"),
    ],
)
def test_stubs_of_odd_definitions(name: str, expected: str):
    shown = splice.definition(ODD, name)
    stubbed = splice.stub(shown, name, mark=False)
    assert expected in stubbed
    assert "return" not in stubbed and "#" not in stubbed.partition("signature")[2]
    ast.parse(splice.stub(shown, name))


def test_a_stub_of_a_class_empties_inner_classes_too():
    stubbed = splice.stub(splice.definition(ODD, "Box"), "Box", mark=False)
    assert stubbed.count("Box is not written yet") == 2
    assert "return" not in stubbed and "size = 3" in stubbed


def test_a_body_of_only_a_docstring_cannot_be_an_exercise():
    with pytest.raises(SpliceError, match="no body"):
        splice.stub(splice.definition(ODD, "only_doc"), "only_doc")


@pytest.mark.parametrize("name", ["nothing", "Box.nothing", "decorated.inner", "X"])
def test_unknown_names_are_named(name: str):
    with pytest.raises(SpliceError, match=f"no definition of {name}"):
        splice.definition(ODD, name)


def test_replace_leaves_the_rest_alone():
    source = ODD.replace("\n", "\r\n")
    changed = splice.replace(source, "decorated", "import re\n\n\ndef decorated():\n\treturn re\n")
    assert "import re\r\n\r\n\r\ndef decorated():\r\n\treturn re\r\n" in changed
    assert "afterthought" not in changed and "# not part of it\r\n" in changed
    assert "\n" not in changed.replace("\r\n", "")
    ast.parse(changed)


def test_methods_alone_go_into_the_class():
    new = (
        "import re\n\ndef helper():\n    return 3\n\n"
        "def text(self):\n    return '''\n a\n''' * helper()\n\ndef more(self):\n    return re\n"
    )
    changed = splice.replace(ODD, "Box.text", new)
    space: dict = {"decorator": lambda _: lambda f: f, "other": lambda f: f}
    exec(changed, space)
    box = space["Box"]()
    assert box.text() == "\n a\n" * 3 and box.more().__name__ == "re" and box.size == 3
    assert box.Lid().shut() == "shut"


def test_a_whole_class_goes_in_the_place_of_the_old():
    changed = splice.replace(ODD, "Box.text", "class Box:\n    text = 'new'\n")
    assert splice.definition(changed, "Box") == "class Box:\n    text = 'new'\n"


@pytest.mark.parametrize("new", ["x = 1\n", "def other(a):\n    return a\n"])
def test_replacing_with_something_else_is_refused(new: str):
    with pytest.raises(SpliceError, match="not defined in what should replace it"):
        splice.replace(ODD, "Box.text", new)
    with pytest.raises(SpliceError):
        splice.replace(ODD, "one_line", new)


def test_future_imports_move_to_the_top():
    new = "from __future__ import annotations\n\ndef only_doc() -> Nowhere:\n    return 1\n"
    changed = splice.replace(ODD, "only_doc", new)
    compile(changed, "module", "exec")
    assert changed.index("__future__") < changed.index("import math")


def test_source_that_python_cannot_read_names_the_line():
    with pytest.raises(SpliceError, match="line 2"):
        splice.definition("x = 1\ndef f(:\n", "f")


def _names(source: str) -> list[str]:
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            found.append(node.name)
        if isinstance(node, ast.ClassDef):
            found += [f"{node.name}.{each.name}" for each in node.body if _has_body(each)]
    return found


def _functions(source: str, name: str) -> list:
    """The functions that a stub empties."""
    found = ast.parse(source)
    for part in name.split("."):
        found = [each for each in found.body if getattr(each, "name", None) == part][-1]
    return [found] if _has_body(found) else [each for each in found.body if _has_body(each)]


def _has_body(node: ast.AST) -> bool:
    if not isinstance(node, FUNCTIONS):
        return False
    return len(node.body) > (ast.get_docstring(node) is not None)
