"""What a class gets to work on one lesson: a folder that needs nothing of this repository.

    lessons/03_ddpm/      the notebook as nbgrader released it, its figures and questions
    package/t2i/          the modules that the notebook leads to, without what it is to write
    data/                 the trained weights and measurements that those modules read
    README.md, pyproject.toml, environment.yml, constraints.txt, NOTATION.md, LICENSE

The modules of earlier lessons are the reference's. In those of this lesson the bodies of the
exercises are taken out, as in the notebook, and with them the private helpers that only the
reference's answers use; while the student works, `t2i.classroom.handover` puts the notebook's own
definitions there. No module of a later lesson and nothing of the autograder comes along.
"""

import ast
import json
import os
import re
import shutil
import tempfile
import tomllib
from functools import cache
from pathlib import Path

import nbformat

from autograder import lint, splice
from autograder.lesson import LESSONS, PACKAGE, REPOSITORY, Lesson, LessonError
from autograder.text import Text

DATA = REPOSITORY / "data"
INIT = "__init__.py"
NOTEBOOKS_NEED = {"jupyter", "ipywidgets", "torch"}  # besides what the modules import
IMPORTED_AS = {"scikit-learn": "sklearn", "pytorch": "torch", "matplotlib-base": "matplotlib"}
_README = """# Lesson {number}: {title}

Everything that you need to work on this lesson. Start in this folder.

## Once: the environment

You need Python 3.11 or newer. It takes 3 to 10 minutes, and up to 7 GB on Linux.

```sh
python -m venv .venv
source .venv/bin/activate               # Windows: .venv\\Scripts\\activate
python -m pip install -c constraints.txt -e .
```

With conda: `conda env create -f environment.yml`, `conda activate t2i`, then
`python -m pip install --no-deps -e .`. If you have the environment from an earlier lesson, activate
it and run only `python -m pip install --no-deps -e .` here: it then uses this lesson's package.

## Work

```sh
jupyter lab lessons/{folder}/{slug}.ipynb
```

- Write the exercises in the notebook. The cell below each exercise holds checks that you can see;
  run it as often as you like. There are more tests, hidden ones, where your work is graded; here
  the line `grade("...")` of that cell only says so.
- The first run of the notebook may download MNIST (about 12 MB) into `data`. The variable
  `T2I_DATA` names another folder, so that all lessons can share one copy.
- `package/t2i` is the course's package: earlier lessons complete, this lesson's exercises without
  their bodies. As soon as you have written and run an exercise, the package uses yours.
- `NOTATION.md` lists all symbols and names.
- There is no `make` in this folder. Where a text speaks of `make …`, it means the course's own
  repository.

## Hand in

Save the notebook, and hand in the one file `lessons/{folder}/{slug}.ipynb`, under any name. Do not
rename the definitions that you were asked to write; everything else in it is yours to change.
What is graded are these definitions, and what they use of the notebook: imports, other functions
and classes, and constants (`SIZES = [8, 16]`, `SIZES.append(32)`). What a cell computes, a trained
model for instance, is not there: hand it to a function as an argument.
"""


def write_bundle(lesson: Lesson, released: Path, to: Path) -> Path:
    """Write a lesson's bundle: a folder, or a zip file if `to` ends with `.zip`.

    Args:
        lesson: which one.
        released: nbgrader's folder with the released notebook and the files beside it.
        to: must not be there yet; it appears whole or not at all.

    Returns:
        `to`.

    Raises:
        LessonError: there is no released notebook, or something lies at `to` already.
    """
    notebook = released / f"{lesson.slug}.ipynb"
    if not notebook.exists():
        raise LessonError(f"{notebook} is not there: release the lesson first")
    if to.exists():
        raise LessonError(f"{to} is there already: name another place, or remove it first")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".bundle-") as scratch:
        top = Path(scratch, to.stem if to.suffix == ".zip" else to.name)
        _fill(top, lesson, released, nbformat.read(notebook, as_version=4))
        if to.suffix == ".zip":
            made = Path(shutil.make_archive(str(Path(scratch, "made")), "zip", scratch, top.name))
        else:
            made = top
        os.replace(made, to)
    return to


def modules_for(sources: list[str], package: Path = PACKAGE) -> list[str]:
    """The modules of the package that these cells import, and those that these import, and so on.

    Args:
        sources: of code cells.
        package: the folder of the reference package's modules.
    """
    found: set[str] = {"lesson"}
    queue = set().union(found, *(_imports(lint.plain(source)) for source in sources))
    while queue:
        name = queue.pop()
        path = package / _file(name)
        if path.exists():
            found.add(name)
            queue |= _imports(path.read_text(encoding="utf-8")) - found
    return sorted(found)


def answered(lesson: Lesson, released: Path) -> list[Lesson]:
    """The earlier lessons whose answers a lesson's bundle holds."""
    notebook = nbformat.read(released / f"{lesson.slug}.ipynb", as_version=4)
    held = set(modules_for([c.source for c in notebook.cells if c.cell_type == "code"]))
    return [each for each in LESSONS[: lesson.number - 1] if held & set(each.modules)]


def without_solutions(module: str, lessons: list[Lesson], package: Path = PACKAGE) -> str:
    """A module's text with the exercises of some lessons unwritten.

    Args:
        module: its name.
        lessons: whose exercises lose their bodies.
        package: the folder of the reference package's modules.
    """
    source = package.joinpath(_file(module)).read_text(encoding="utf-8")
    names = [e.name for lesson in lessons for e in lesson.exercises if e.module == module]
    helpers = [
        helper
        for name in names
        for helper in lint.private_helpers(source, splice.definition(source, name))
    ]
    for name in names:
        source = splice.stub(source, name, mark=False)
    for helper in reversed(dict.fromkeys(helpers)):  # a helper may use one above it
        if len(re.findall(rf"\b{helper}\b", source)) == 1:
            source = _removed(source, helper)
    return source


def _fill(top: Path, lesson: Lesson, released: Path, notebook: nbformat.NotebookNode) -> None:
    ignore = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", ".*")
    shutil.copytree(released, top / "lessons" / lesson.folder.name, ignore=ignore)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    unwritten = _write_package(top / "package" / "t2i", lesson, cells)
    facts = {"lesson": lesson.number, "title": lesson.title, "unwritten": unwritten}
    text = json.dumps(facts, indent=1, sort_keys=True) + "\n"
    (top / "package" / "t2i" / "bundle.json").write_text(text, encoding="utf-8")
    modules = [path.read_text(encoding="utf-8") for path in (top / "package").rglob("*.py")]
    _write_data(top / "data", "\n".join([*cells, *modules]))
    _write_environment(top, "\n".join([*map(lint.plain, cells), *modules]))
    for name in ("NOTATION.md", "LICENSE"):
        shutil.copyfile(REPOSITORY / name, top / name)
    words = {"number": lesson.number, "title": lesson.title, "slug": lesson.slug}
    readme = _README.format(folder=lesson.folder.name, **words)
    (top / "README.md").write_text(readme, encoding="utf-8")


def _write_package(folder: Path, lesson: Lesson, cells: list[str]) -> dict[str, list[str]]:
    """Write the modules; for each, the definitions whose bodies are taken out."""
    open_lessons = [each for each in LESSONS if each.number >= lesson.number and each.exists]
    unwritten: dict[str, list[str]] = {}
    for module in modules_for(cells):
        target = folder / _file(module)
        for parent in (folder, target.parent):
            parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PACKAGE / parent.relative_to(folder) / INIT, parent / INIT)
        text = without_solutions(module, open_lessons)
        target.write_text(text, encoding="utf-8", newline="\n")
        for each in open_lessons:
            for exercise in each.exercises:
                if exercise.module == module:
                    heads = unwritten.setdefault(module, [])
                    head = exercise.name.partition(".")[0]
                    heads += [head] if head not in heads else []
    return unwritten


def _write_data(folder: Path, text: str) -> None:
    """The small files of the repository's data folder that some module names."""
    folder.mkdir()
    for path in sorted(DATA.iterdir()):
        if path.suffix in (".safetensors", ".json") and re.search(rf"\b{path.stem}\b", text):
            shutil.copyfile(path, folder / path.name)
    if '"checkpoints"' in text:
        shutil.copytree(DATA / "checkpoints", folder / "checkpoints")
    shutil.copyfile(DATA / "README.md", folder / "README.md")


def _write_environment(top: Path, text: str) -> None:
    """The repository's environment files, reduced to what this lesson imports."""
    imported = {
        name.partition(".")[0] for name in re.findall(r"^\s*(?:from|import) (\S+)", text, re.M)
    }

    def needed(requirement: str) -> bool:
        name = re.split(r"[<>=;\[ ]", requirement.strip())[0]
        return name in NOTEBOOKS_NEED or IMPORTED_AS.get(name, name.replace("-", "_")) in imported

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = "".join(f'    "{each}",\n' for each in project["dependencies"] if needed(each))
    (top / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n\n'
        f'[project]\nname = "t2i"\nversion = "{project["version"]}"\n'
        f'requires-python = "{project["requires-python"]}"\ndependencies = [\n{listed}]\n\n'
        f"[tool.setuptools]\npackages = {_packages(top / 'package')}\n"
        'package-dir = { t2i = "package/t2i" }\n',
        encoding="utf-8",
    )
    lines = (REPOSITORY / "environment.yml").read_text(encoding="utf-8").splitlines()
    kept = [
        line
        for line in lines
        if not line.startswith(("  - ", "#", "  #"))
        or re.match(r"  - (conda-forge|python|pip)\b", line)
        or (line.startswith("  - ") and needed(line.removeprefix("  - ")))
    ]
    (top / "environment.yml").write_text("\n".join(kept) + "\n", encoding="utf-8")
    shutil.copyfile(REPOSITORY / "constraints.txt", top / "constraints.txt")


@cache
def _imports(source: str) -> frozenset[str]:
    """Every name that stands after `t2i.` in an import, wherever it stands in the source.

    Not each is a module: of `from t2i.runs.recipes import recipe` it is "runs.recipes", and also
    "runs.recipes.recipe".
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name.removeprefix("t2i.") for name in found if name.startswith("t2i."))


def _file(module: str) -> Path:
    """Where a module lies in the package: "runs.recipes" in runs/recipes.py."""
    return Path(*module.split(".")).with_suffix(".py")


def _packages(folder: Path) -> str:
    """The packages below a folder, as a TOML list."""
    found = sorted(path.parent.relative_to(folder).parts for path in folder.rglob(INIT))
    return json.dumps([".".join(parts) for parts in found])


def _removed(source: str, name: str) -> str:
    """A module's text without one definition or constant of its top level."""
    text = Text.read(source)
    for node in text.tree.body:
        if name in splice.bound(node):
            first = text.start(node) if hasattr(node, "decorator_list") else node.lineno
            last = text.end(node) if hasattr(node, "decorator_list") else node.end_lineno
            del text.lines[first - 1 : last]
    return re.sub(r"\n{4,}", "\n\n\n", "".join(text.lines)).rstrip("\n") + "\n"
