"""Setting up .venv: once, whole, one at a time, and in plain words when it cannot be done.

The set-up's files run in a small repository of their own with a pip that only pretends.
"""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autograder import setup_env, setup_facts, setup_venv
from autograder.lesson import REPOSITORY

PYPROJECT = """
[project]
dependencies = ["demo>=1.0"]
[project.optional-dependencies]
dev = ["tool>=2"]
demo = ["page>=3", "later>=1; python_version >= '3.99'"]
"""
CONSTRAINTS = "# tested\ndemo==1.2\nlater==1.0\npage==3.1\ntool==2.5\n"
FAKE_PIP = """
import json, os, pathlib, site, sys, time
if "--version" in sys.argv:
    sys.exit(0)
here = pathlib.Path.cwd()
with open(here / "calls", "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
print(os.environ.get("FAKE_WORDS", "Collecting demo"))
if "FAKE_WORDS" in os.environ:
    sys.exit(1)
packages = pathlib.Path(site.getsitepackages()[0])
versions = dict(l.strip().split("==") for l in open(here / "constraints.txt") if "==" in l)
named = dict(word.split("==") for word in sys.argv if "==" in word)
versions = named or {name: versions[name] for name in ("demo", "tool")}
for old in packages.glob("*.dist-info"):
    if named and old.name.split("-")[0] not in {*named, "t2i"}:
        continue
    for file in old.iterdir():
        file.unlink()
    old.rmdir()
for name, version in {**versions, "t2i": "0.1"}.items():
    (packages / f"{name}.py").write_text("")
    info = packages / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    (info / "RECORD").write_text(f"{name}.py,,0\\n")
(info / "direct_url.json").write_text(json.dumps({"url": here.as_uri()}))
"""
# Runs the set-up with an environment that is made in a moment, and the pretending pip in it.
DRIVER = f"""
import pathlib, subprocess, sys
sys.path[0] = str(pathlib.Path(__file__).resolve().parent)
from autograder import setup_env, setup_venv

def create():
    folder = setup_venv.VENV
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    version = "python%d.%d" % sys.version_info[:2]
    pip = folder / "lib" / version / "site-packages" / "pip"
    pip.mkdir()
    (pip / "__init__.py").write_text("")
    (pip / "__main__.py").write_text({FAKE_PIP!r})

setup_venv.create = create
sys.exit(setup_env.main(sys.argv[1:]))
"""
posix = pytest.mark.skipif(os.name != "posix", reason="the pretended environment has lib/pythonX.Y")


class Repository:
    """A small repository whose set-up can be run, and what it printed."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "autograder").mkdir(parents=True)
        for name in ("__init__", "setup_env", "setup_facts", "setup_venv"):
            source = REPOSITORY / "autograder" / f"{name}.py"
            shutil.copy(source, folder / "autograder" / f"{name}.py")
        (folder / "pyproject.toml").write_text(PYPROJECT)
        (folder / "constraints.txt").write_text(CONSTRAINTS)
        (folder / "driver.py").write_text(DRIVER)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen:
        kept = {
            key: value for key, value in os.environ.items() if key not in ("VENV", "PYTHONPATH")
        }
        command = [sys.executable, str(self.folder / "driver.py"), *arguments]
        return subprocess.Popen(
            command,
            env=kept | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str]:
        process = self.start(*arguments, **variables)
        said, _ = process.communicate(timeout=120)
        return process.returncode, said

    @property
    def calls(self) -> int:
        path = self.folder / "calls"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "a clone")  # with a space, as on many a learner's disk


@posix
def test_the_first_run_sets_up_and_the_second_only_looks(repository):
    status, said = repository.run("run", "-c", "import demo, sys; print('in', sys.prefix)")
    assert status == 0, said
    assert "Setting up the course's environment" in said and "Set up in" in said
    assert f"in {repository.folder / '.venv'}" in said
    call = (repository.folder / "calls").read_text()
    assert "--constraint" in call and "[dev]" in call
    status, said = repository.run("run", "-c", "print('again')")
    assert (status, said, repository.calls) == (0, "again\n", 1)


@posix
def test_a_look_takes_less_than_two_seconds(repository):
    repository.run()
    before = os.times()
    repository.run()
    after = os.times()
    used = after.children_user + after.children_system
    assert used - before.children_user - before.children_system < 2


@posix
def test_arguments_status_and_standard_input_pass_through(repository):
    status, said = repository.run("run", "-c", "import sys; sys.exit(len(sys.argv))", "a b", "c")
    assert status == 3, said


@posix
def test_new_pins_are_installed_and_other_settings_are_not(repository):
    repository.run()
    with open(repository.folder / "pyproject.toml", "a") as file:
        file.write("[tool.ruff]\nline-length = 99\n")
    repository.run()
    assert repository.calls == 1
    (repository.folder / "constraints.txt").write_text(CONSTRAINTS.replace("1.2", "1.3"))
    status, said = repository.run()
    assert status == 0 and "Completing" in said and repository.calls == 2


@posix
def test_an_environment_that_fits_is_adopted_without_pip(repository):
    repository.run()
    (repository.folder / ".venv" / setup_venv.STAMP).unlink()
    assert repository.run() == (0, "")
    assert repository.calls == 1
    assert (repository.folder / ".venv" / setup_venv.STAMP).exists()


@posix
def test_a_killed_set_up_is_repaired_by_the_next(repository):
    process = repository.start(FAKE_SECONDS="60")
    deadline = time.monotonic() + 60
    while repository.calls == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (repository.folder / ".venv" / setup_venv.UNDERWAY).exists()
    status, said = repository.run("run", "-c", "import demo")
    assert status == 0, said
    assert "Completing" in said and repository.calls == 2
    assert not (repository.folder / ".venv" / setup_venv.UNDERWAY).exists()


@posix
def test_the_demos_packages_come_on_its_first_use_and_alone(repository):
    repository.run()
    status, said = repository.run("demo", "-c", "import page, demo; print('drawn')")
    assert status == 0 and said.endswith("drawn\n") and "Installing what `make demo` needs" in said
    call = (repository.folder / "calls").read_text().splitlines()[-1]
    assert call.endswith("install --no-deps page==3.1")
    assert repository.run("demo", "-c", "print('again')") == (0, "again\n")
    assert repository.run("run", "-c", "print('whole')") == (0, "whole\n")
    assert repository.calls == 2


@posix
def test_the_demos_packages_that_cannot_be_had_are_one_sentence(repository):
    repository.run()
    status, said = repository.run("demo", "-c", "print('drawn')", FAKE_WORDS="getaddrinfo failed")
    assert status == 2 and "`make demo` lacks packages: the package index cannot" in said
    assert repository.run("run", "-c", "print('whole')") == (0, "whole\n")


def _break_python(venv: Path) -> None:
    for path in (venv / "bin").glob("python*"):
        path.unlink()
        path.symlink_to("/nowhere/python3")


def _remove_pip(venv: Path) -> None:
    (venv / setup_venv.UNDERWAY).touch()
    (venv / setup_venv.STAMP).unlink()
    for pip in venv.glob("lib/*/site-packages/pip"):
        shutil.rmtree(pip)


def _other_version(venv: Path) -> None:
    for folder in (venv / "lib").iterdir():
        folder.rename(folder.parent / "python3.2")


@posix
@pytest.mark.parametrize("damage", [_break_python, _remove_pip, _other_version])
def test_a_broken_environment_is_made_again(repository, damage):
    repository.run()
    damage(repository.folder / ".venv")
    status, said = repository.run("run", "-c", "import demo")
    assert status == 0, said
    assert "beginning again" in said and repository.calls == 2


@posix
def test_a_moved_clone_is_set_up_again(repository, tmp_path):
    repository.run()
    repository.folder = repository.folder.rename(tmp_path / "moved")
    status, said = repository.run("run", "-c", "import demo")
    assert status == 0 and "was moved; beginning again" in said
    assert repository.calls == 2


@posix
def test_an_environment_behind_a_link_is_left_alone(repository, tmp_path):
    repository.run()
    other = Repository(tmp_path / "another clone")
    (other.folder / ".venv").symlink_to(repository.folder / ".venv")
    status, said = other.run("run", "-c", "import demo")
    assert status != 0 and "remove the link (rm .venv)" in said and "Traceback" not in said
    assert other.calls == 0
    assert repository.run("run", "-c", "print('still here')") == (0, "still here\n")


@posix
def test_two_at_once_set_up_once(repository):
    processes = [repository.start("run", "-c", "import demo", FAKE_SECONDS="2") for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert repository.calls == 1
    assert sum("waiting for it" in words for words in said) == 1


@posix
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("ERROR: [Errno 28] No space left on device", "the disk is full: free some space"),
        (
            "NewConnectionError: [Errno -2]\nERROR: No matching distribution found for demo",
            "cannot be reached: connect to the network and repeat, or use .* VENV=PATH",
        ),
        ("ERROR: No matching distribution found for demo==1.2", "try Python 3.11 to 3.14"),
        ("ERROR: something new\nmore", "Set-up failed: ERROR: something new"),
    ],
)
def test_a_failing_pip_is_one_sentence(repository, words, says):
    status, said = repository.run("run", "-c", "print('not reached')", FAKE_WORDS=words)
    assert status == 2 and "not reached" not in said
    lines = said.splitlines()
    assert len(lines) == 2  # what is being done, and why it failed
    assert re.search(says, lines[1]) and setup_venv.LOG in lines[1]
    status, said = repository.run("run", "-c", "print('reached')")  # and the next try goes on
    assert status == 0 and "reached" in said


def test_a_repository_that_cannot_be_written_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(setup_venv, "REPOSITORY", tmp_path / "absent")
    with pytest.raises(setup_facts.SetupError, match="cannot be written .* VENV=PATH"):
        with setup_venv.lock():
            pass


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("Error: ensurepip is not available", "apt install python3.*-venv"),
        ("/usr/bin/python3: No module named venv", "apt install python3.*-venv"),
        ("Error: [Errno 30] Read-only file system: '.venv'", "clone to a folder that you can"),
    ],
)
def test_a_venv_that_cannot_be_made_is_one_sentence(monkeypatch, tmp_path, words, says):
    def refuse(command, **_):
        return subprocess.CompletedProcess(command, 1, stdout=words, stderr="")

    monkeypatch.setattr(setup_venv, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(setup_venv.subprocess, "run", refuse)
    with pytest.raises(setup_facts.SetupError, match=says) as caught:
        setup_venv.create()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 8, 0), (2, 7, 18)])
def test_an_old_python_is_refused(monkeypatch, capsys, version):
    monkeypatch.setattr(setup_env.sys, "version_info", version)
    assert setup_env.main(["run", "-c", "pass"]) == 2
    said = capsys.readouterr().err
    assert "needs Python 3.11 or newer" in said and f"is {version[0]}.{version[1]}:" in said
    assert said.count("\n") == 1


def test_an_old_python_can_read_the_file_that_refuses_it():
    source = (REPOSITORY / "autograder" / "setup_env.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 4))
    assert 'f"' not in source and "async" not in source


@pytest.mark.parametrize("named", [sys.prefix, sys.executable])
def test_an_existing_environment_is_used_as_it_is(named):
    program = "import sys, t2i, autograder; print(sys.prefix, t2i.__file__)"
    command = [sys.executable, "autograder/setup_env.py", "run", "-c", program]
    variables = os.environ | {"VENV": named}
    result = subprocess.run(command, env=variables, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] == sys.prefix
    assert result.stdout.strip().endswith(str(REPOSITORY / "solutions" / "t2i" / "__init__.py"))


def test_mine_is_what_runs_where_it_is_asked_for(tmp_path, monkeypatch, capsys):
    """make hands `mine=yes` on; what is not of t2i, the grader above all, stays the course's."""
    started = []
    monkeypatch.setattr(setup_env, "MINE", str(tmp_path))
    monkeypatch.setattr(setup_env.os, "execve", lambda *args: started.append(args[2]))
    monkeypatch.setenv("VENV", sys.prefix)
    monkeypatch.setenv("mine", "yes")
    assert setup_env.main(["run", "-m", "t2i.apps.sample"]) == 2
    assert "run `make mine` first" in capsys.readouterr().err
    (tmp_path / "t2i").mkdir()
    for mine, module in (
        ("yes", "t2i.apps.sample"),
        ("yes", "autograder"),
        ("no", "t2i.apps.sample"),
    ):
        monkeypatch.setenv("mine", mine)
        setup_env.main(["run", "-m", module])
    first = [variables["PYTHONPATH"].split(os.pathsep)[0] for variables in started]
    reference = str(REPOSITORY / "solutions")
    assert first == [str(tmp_path), reference, reference]


def test_what_an_existing_environment_lacks_is_one_line(tmp_path, monkeypatch, capsys):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    monkeypatch.setenv("VENV", str(tmp_path / "bare"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert setup_env.main(["run", "-c", "pass"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "-m pip install 'torch>=" in said and "'einops>=" in said
    assert not (tmp_path / "bare" / setup_venv.STAMP).exists()


def _pretend(monkeypatch, found: dict, python=(3, 12, 0)) -> None:
    answer = {"python": python, "packages": found, "origin": None}
    monkeypatch.setattr(setup_facts, "probe", lambda *_: answer)


def test_what_is_only_missed_later_is_a_note(monkeypatch, capsys):
    found = setup_facts.requirements() | {"jupytext": None, "typer": "0.1.0", "ruff": None}
    _pretend(monkeypatch, found)
    setup_env.use_as_it_is(Path("python"), quietly=False)
    said = capsys.readouterr().err
    assert said.startswith("Note: ") and said.count("\n") == 1
    assert "'jupytext>=" in said and "'typer>=" in said and "torch" not in said
    assert "ruff" not in said, "no lesson and no grading needs it"
    setup_env.use_as_it_is(Path("python"), quietly=True)
    assert capsys.readouterr().err == ""


def test_an_old_existing_environment_is_refused(monkeypatch):
    _pretend(monkeypatch, setup_facts.requirements(), (3, 10, 1))
    with pytest.raises(setup_facts.SetupError, match="is Python 3.10.1, and the course needs 3.11"):
        setup_env.use_as_it_is(Path("python"), quietly=True)


def test_a_name_that_is_no_environment_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("VENV", "/nowhere/env")
    assert setup_env.main(["run", "-c", "pass"]) == 2
    assert "neither an environment's folder nor a Python" in capsys.readouterr().err


def test_something_that_is_no_python_is_one_sentence(tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    with pytest.raises(setup_facts.SetupError, match="does not run as a Python"):
        setup_facts.probe(program, [])


def test_damage_in_a_package_is_found(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    packages = next((tmp_path / "env").glob("**/site-packages"))
    for name, record in (
        ("sound", "sound.py,,0\n"),
        ("torn", "torn.py,,5\n"),
        ("gone", "g.py,,1\n"),
    ):
        info = packages / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "RECORD").write_text(record)
        (packages / f"{name}.py").write_text("")
    assert sorted(setup_facts.damaged(setup_facts.python_in(tmp_path / "env"))) == ["gone", "torn"]


def test_make_lists_its_targets_one_line_each():
    if shutil.which("make") is None:
        pytest.skip("needs make")
    result = subprocess.run(["make"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    groups = [part.splitlines() for part in result.stdout.split("\n\n")]
    assert len(groups) > 3 and all(heading.endswith(":") for heading, *_ in groups)
    assert "To learn" in groups[1][0], "what a learner needs stands first"
    lines = [line for _, *listed in groups for line in listed]
    targets = [line.split()[0] for line in lines]
    assert {"grade", "test", "lab", "solve", "progress", "mine", "doctor"} <= set(targets)
    assert all(len(line) < 100 and len(line.split()) > 2 for line in lines)
    for target in targets:  # each can be asked for: make knows a rule
        command = ["make", "-n", target, "lesson=1", "out=x", "PYTHON=python3"]
        subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_lab_opens_the_lesson_whoever_asks(tmp_path):
    """As root too, as in most containers: JupyterLab alone would refuse."""
    options = f"options=--no-browser --port 0 --ServerApp.root_dir={REPOSITORY}"
    command = ["make", "lab", "lesson=1", f"VENV={sys.prefix}", options]
    places = {name: str(tmp_path) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    lab = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=os.environ | places,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said = []
        for line in lab.stdout:  # ends as soon as the lab refuses
            said.append(line)
            if "http://" in line:
                break
        assert "/lab/tree/lessons/01_noise_schedules/" in said[-1], "".join(said)
    finally:
        os.killpg(lab.pid, signal.SIGKILL)
        lab.wait()


def test_versions_compare_as_numbers():
    assert setup_facts.numbers("2.14.1+cpu") == (2, 14, 1)
    assert setup_facts.numbers("0.10") > setup_facts.numbers("0.9.6")
