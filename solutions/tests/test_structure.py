"""The package's imports are the syllabus: a lesson leans on earlier ones, a floor on lower ones."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

import t2i
from autograder.lesson import LESSONS

PACKAGE = Path(t2i.__file__).parent
FLOORS = [
    "classroom engine files",
    "",
    "world",
    "judging",
    "pretrained",
    "runs speed",
    "drawing",
    "apps",
]
HEIGHT = {folder: floor for floor, names in enumerate(FLOORS) for folder in names.split(" ")}
UPWARDS = {  # what these modules import from higher floors, all of it knowingly
    "metrics": {"judging"},
    "show": {"drawing"},
    "text_to_image": {"pretrained"},  # from_pretrained and save_pretrained
}


def names() -> set[str]:
    files = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return {".".join(file.parts) for file in files if file.name != "__init__"}


@cache
def imported(name: str, lazily: bool = True) -> frozenset[str]:
    """The package's modules that a module imports, at its top or, lazily, anywhere."""
    source = PACKAGE.joinpath(*name.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    found = set()
    for node in ast.walk(tree) if lazily else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(each.removeprefix("t2i.") for each in found) & names()


def reached(name: str) -> set[str]:
    """All that is imported with a module."""
    found, queue = set(), [name]
    while queue:
        new = imported(queue.pop(), lazily=False) - found
        found |= new
        queue += new
    return found


@pytest.mark.parametrize("number", range(1, 11))
def test_a_lesson_leans_on_no_later_one(number):
    later = {module for lesson in LESSONS[number:] for module in lesson.modules}
    for module in LESSONS[number - 1].modules:
        assert not reached(module) & later, module


def floor(name: str) -> int:
    return HEIGHT[name.rpartition(".")[0]]


@pytest.mark.parametrize("name", sorted(names()))
def test_a_module_leans_on_its_own_floor_or_lower_ones(name):
    allowed = UPWARDS.get(name, set())
    higher = {other for other in imported(name) if floor(other) > floor(name)}
    assert {other.rpartition(".")[0] for other in higher} <= allowed


def test_every_folder_says_what_it_holds_and_is_installed():
    project = PACKAGE.parents[1] / "pyproject.toml"
    listed = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert {"t2i", *(f"t2i.{each.name}" for each in folders if each != PACKAGE)} <= set(listed)
    for each in folders:
        docstring = ast.get_docstring(ast.parse((each / "__init__.py").read_text(encoding="utf-8")))
        assert docstring and docstring.endswith(".")


def test_the_package_lists_its_modules_and_folders():
    listed = set(re.findall(r"\w+", t2i.__doc__))
    assert {name.partition(".")[0] for name in names()} <= listed
    table = t2i.__doc__.partition("modules\n")[2].partition("\n\n")[0]
    rows = [set(re.findall(r"\w+", row[28:])) for row in table.splitlines()]
    for lesson, row in zip(LESSONS, rows, strict=True):
        assert set(lesson.modules) <= row, lesson.number


def test_every_command_that_is_told_names_a_module():
    repository = PACKAGE.parents[1]
    pages = [repository / "Makefile", *repository.glob("*.md"), *repository.glob("data/*.md")]
    pages += [*repository.glob("lessons/*/*.md"), *repository.glob("lessons/*/*.py")]
    told = set()
    for page in [*pages, *PACKAGE.rglob("*.py")]:
        told |= set(re.findall(r"-m t2i\.([\w.]+\w)", page.read_text(encoding="utf-8")))
    loop = re.search(r"for one in (.*); do", pages[0].read_text(encoding="utf-8"))
    told |= {f"runs.{name}" for name in loop[1].split()}
    told.remove("runs")  # of -m t2i.runs.$$one
    assert len(told) > 20 and told <= names(), told - names()
