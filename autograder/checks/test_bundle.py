"""What a class gets for a lesson: nothing of a solution or a hidden test, and all that it needs."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import types
import zipfile
from functools import cache
from pathlib import Path

import pytest

from autograder import splice
from autograder.build import write
from autograder.course.bundle import without_solutions, write_bundle
from autograder.course.leaks import secrets, squeeze, text_of
from autograder.lesson import LESSONS, PACKAGE, REPOSITORY, LessonError, get_lesson
from autograder.solve import solved
from t2i.classroom import grading, handover

TEXT = {".py", ".ipynb", ".md", ".toml", ".txt", ".yml"}
CHEAP = (1, 3)  # whose notebooks run to their first exercise in every `make test`
ALL = [pytest.param(n, marks=() if n in CHEAP else pytest.mark.thorough) for n in range(1, 11)]

# Runs a notebook's code cells as its kernel would, without the packages that the environment adds
# by .pth files: the repository is one of them.
RUNNER = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    tag = cell["metadata"].get("nbgrader", {})
    if sys.argv[2] == "blank" and tag.get("solution"):
        break
    if cell["cell_type"] == "code":
        shell.run_cell("".join(cell["source"])).raise_error()
loaded = [m for m in list(sys.modules.values()) if m.__name__.partition(".")[0] == "t2i"]
print("LOADED", *sorted({getattr(m, "__file__", "") for m in loaded}), sep="\\n")
assert "autograder" not in sys.modules
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """bundle(3): the folder of lesson 3, made from the committed notebook."""
    home = tmp_path_factory.mktemp("bundles")

    @cache
    def made(number: int) -> Path:
        lesson = get_lesson(number)
        released = home / f"release_{number}"
        ignore = shutil.ignore_patterns("*.py", "__pycache__", ".*", "*.safetensors")
        shutil.copytree(lesson.folder, released, ignore=ignore)
        return write_bundle(lesson, released, home / f"lesson_{number}")

    return made


known = cache(secrets)


@cache
def squeezed_lines(path: Path, changed: int) -> frozenset[str]:
    return frozenset(squeeze(line) for line in text_of(path).splitlines())


def leaks(folder: Path, number: int) -> list[str]:
    """Lines and whole bodies of this and later lessons' solutions and tests in a folder."""
    files = [path for path in folder.rglob("*") if path.suffix in TEXT]
    lines = {line: path for path in files for line in squeezed_lines(path, path.stat().st_mtime_ns)}
    shown = squeeze(get_lesson(number).source.read_text(encoding="utf-8"))
    found = []
    for lesson in LESSONS[number - 1 :]:
        secret = known(lesson).hidden_tests | known(lesson).solutions
        found += [f"{lines[key].name}: {secret[key]}" for key in secret.keys() & lines.keys()
                  if key not in shown]  # fmt: skip
    secret_bodies = {dump for lesson in LESSONS[number - 1 :] for dump in answers(lesson)}
    for path in folder.rglob("*.py"):
        here = bodies(path.read_text(encoding="utf-8"))
        found += [f"{path.name}: the body of {here[k]}" for k in secret_bodies & here.keys()]
    return found


@cache
def bodies(source: str) -> dict[str, str]:
    """The body of every function in a source, as a dump without its docstring -> its name."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            skip = 1 if ast.get_docstring(node, clean=False) is not None else 0
            found["\n".join(map(ast.dump, node.body[skip:]))] = node.name
    return found


@cache
def answers(lesson) -> frozenset[str]:
    found = set()
    for exercise in lesson.exercises:
        source = PACKAGE.joinpath(f"{exercise.module}.py").read_text(encoding="utf-8")
        found |= bodies(splice.definition(source, exercise.name)).keys()
    return frozenset(found)


@pytest.mark.parametrize("number", range(1, 11))
def test_nothing_of_this_or_a_later_lesson_is_in_the_bundle(bundle, number):
    folder = bundle(number)
    assert leaks(folder, number) == []
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert not [name for name in names if re.search(r"autograder|/tests|wrong_answers|lesson\.py$",
                name.replace("t2i/lesson.py", ""))]  # fmt: skip
    later = {module for lesson in LESSONS[number:] for module in lesson.modules}
    there = {path.stem for path in (folder / "package" / "t2i").rglob("*.py")}
    assert not there & later
    unwritten = json.loads((folder / "package/t2i/bundle.json").read_text())["unwritten"]
    heads = {exercise.name.partition(".")[0] for exercise in get_lesson(number).exercises}
    assert {name for names in unwritten.values() for name in names} <= heads
    text = "".join(text_of(path) for path in folder.rglob("*") if path.suffix in TEXT)
    assert splice.BEGIN not in text


def test_a_leak_is_found(bundle, tmp_path):
    folder = tmp_path / "leaky"
    shutil.copytree(bundle(3), folder)
    module = folder / "package" / "t2i" / "diffusion.py"
    module.write_bytes((PACKAGE / "diffusion.py").read_bytes())
    assert len(leaks(folder, 3)) > 10
    module.write_text("")
    tests = known(get_lesson(7)).hidden_tests.values()
    hidden = next(line for line in tests if '"' not in line)
    (folder / "package" / "t2i" / "show.py").write_text(f'"""\n{hidden}\n"""\n')
    assert leaks(folder, 3) == [f"show.py: {hidden}"]


def test_private_helpers_of_the_answers_go_with_them():
    text = without_solutions("samplers", [get_lesson(4)])
    assert "_check_types" not in text
    assert 'raise NotImplementedError("ddim_step is not written yet")' in text
    compile(text, "samplers.py", "exec")


def run_cells(folder: Path, notebook: Path, until: str, home: Path) -> list[str]:
    """Run a notebook of a bundle with nothing of the repository within reach; files loaded."""
    paths = [str(folder / "package"), sysconfig.get_paths()["purelib"]]
    variables = {"PYTHONPATH": os.pathsep.join(paths), "MPLBACKEND": "Agg", "HOME": str(home)}
    variables |= {"T2I_TIER": "smoke", "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    variables |= {key: os.environ[key] for key in ("T2I_DATA",) if key in os.environ}
    variables["IPYTHONDIR"] = str(home / "ipython")
    command = [sys.executable, "-S", "-c", RUNNER, str(notebook), until]
    done = subprocess.run(command, cwd=notebook.parent, env=variables, capture_output=True,
                          text=True, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.rpartition("LOADED\n")[2].split("\n")


@pytest.mark.parametrize("number", ALL)
def test_the_blank_notebook_runs_to_its_first_exercise_from_the_bundle(bundle, number, tmp_path):
    folder = bundle(number)
    (notebook,) = (folder / "lessons").glob("*/*.ipynb")
    files = [file for file in run_cells(folder, notebook, "blank", tmp_path) if file]
    assert len(files) > 3
    assert all(Path(file).is_relative_to(folder) for file in files)


@pytest.mark.thorough
@pytest.mark.parametrize("number", range(1, 11))
def test_the_solved_notebook_runs_from_the_bundle_to_its_end(bundle, number, tmp_path):
    """What the package lacks comes from the notebook: nothing of it is left unwritten."""
    folder = tmp_path / "bundle"
    shutil.copytree(bundle(number), folder)
    (notebook,) = (folder / "lessons").glob("*/*.ipynb")
    notebook.write_text(write(solved(get_lesson(number))), encoding="utf-8")
    run_cells(folder, notebook, "whole", tmp_path)


def test_the_package_takes_what_it_lacks_from_the_notebook(monkeypatch, tmp_path):
    home, user = types.ModuleType("t2i.tiny"), types.ModuleType("t2i.tiny_user")
    exec('def answer():\n    raise NotImplementedError("answer is not written yet")', vars(home))
    user.answer = home.answer
    monkeypatch.setitem(sys.modules, "t2i.tiny", home)
    monkeypatch.setitem(sys.modules, "t2i.tiny_user", user)
    file = tmp_path / "bundle.json"
    file.write_text(json.dumps({"title": "Tiny", "unwritten": {"tiny": ["answer"]}}))
    monkeypatch.setattr(handover, "FILE", file)
    callbacks = {"post_run_cell": []}
    events = types.SimpleNamespace(
        callbacks=callbacks,
        register=lambda name, callback: callbacks[name].append(callback),
        unregister=lambda name, callback: callbacks[name].remove(callback),
    )
    shell = types.SimpleNamespace(events=events, user_ns={})
    handover.begin(shell)
    handover.begin(shell)
    (after_cell,) = callbacks["post_run_cell"]
    after_cell("a result")
    with pytest.raises(NotImplementedError):
        user.answer()
    for value in (1, 2):  # written, then written anew
        exec(
            f"def answer():\n    return {value}",
            shell.user_ns | (space := {"__name__": "__main__"}),
        )
        exec(f"def answer():\n    return {value}", space)
        shell.user_ns["answer"] = space["answer"]
        after_cell("a result")
        assert (home.answer(), user.answer()) == (value, value)
    user.answer = other = object()  # of the same name, but not the exercise
    after_cell("a result")
    assert user.answer is other


def test_in_a_bundle_only_visible_checks_are_promised(monkeypatch, tmp_path):
    file = tmp_path / "bundle.json"
    file.write_text('{"unwritten": {}}')
    monkeypatch.setattr(handover, "FILE", file)
    monkeypatch.setitem(sys.modules, "autograder.lesson", None)
    assert "only the checks below run here" in grading._unknown(1, "linear_betas")


def test_environment_files_name_what_the_lesson_imports(bundle):
    project = tomllib.loads((bundle(4) / "pyproject.toml").read_text())
    named = {re.split("[<>=]", each)[0] for each in project["project"]["dependencies"]}
    assert named >= {"torch", "diffusers", "jupyter", "safetensors", "matplotlib"}
    assert not named & {"nbgrader", "pytest", "datasets", "transformers"}
    conda = (bundle(4) / "environment.yml").read_text()
    assert "  - pytorch>=" in conda and "nbgrader" not in conda
    assert project["tool"]["setuptools"]["package-dir"] == {"t2i": "package/t2i"}
    data = {path.name for path in (bundle(4) / "data").iterdir()}
    assert data >= {"ddpm_cpu.safetensors", "samplers_cpu.json"}
    assert "vae_cpu.safetensors" not in data


def test_a_zip_holds_the_same_in_one_folder(bundle, tmp_path):
    lesson = get_lesson(1)
    (released,) = (bundle(1) / "lessons").iterdir()
    to = write_bundle(lesson, released, tmp_path / "lesson_1.zip")
    with zipfile.ZipFile(to) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    files = [path for path in bundle(1).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    there = {path.relative_to(bundle(1)).as_posix() for path in files}
    assert names == {f"lesson_1/{name}" for name in there}
    with pytest.raises(LessonError, match="is there already"):
        write_bundle(lesson, released, to)
    with pytest.raises(LessonError, match="release the lesson first"):
        write_bundle(lesson, tmp_path, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lesson_1.zip"]


def test_the_repository_itself_is_no_bundle():
    assert not handover.FILE.exists() and handover.read() == {}
    assert not list(REPOSITORY.glob("**/t2i/bundle.json"))
