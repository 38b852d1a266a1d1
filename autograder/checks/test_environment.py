"""pyproject.toml, environment.yml and constraints.txt say the same."""

import json
import os
import re
import sys
import tomllib
from pathlib import Path

import yaml

from autograder import selftest, setup_facts
from autograder.lesson import REPOSITORY

CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
NOT_PINNED = re.compile(r"nvidia-|cuda-|triton|^pip$|^t2i$")


def _conda() -> dict[str, str]:
    content = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))
    pairs = dict((line + ">=").split(">=")[:2] for line in content["dependencies"])
    return {CONDA_NAMES.get(name, name): version for name, version in pairs.items()}


def test_conda_and_pip_install_the_same():
    conda = _conda()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f">={conda.pop('python')}" == project["requires-python"]
    assert conda.pop("pip") == ""
    assert conda == setup_facts.requirements()


def test_every_requirement_is_pinned_within_its_range():
    pins = setup_facts.pins()
    for name, lowest in setup_facts.requirements().items():
        assert name in pins, f"{name} has no pin in constraints.txt"
        assert setup_facts.numbers(pins[name]) >= setup_facts.numbers(lowest), name


def test_the_demos_packages_are_pinned_and_burden_no_lesson():
    old, new = (setup_facts.extra("demo", python) for python in ("3.11", "3.13"))
    assert set(new) - set(old) == {"audioop-lts"} and "gradio" in old
    assert not set(new) & set(setup_facts.requirements())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in project["optional-dependencies"]["demo"]:
        name, lowest = line.partition(";")[0].split(">=")
        assert setup_facts.numbers(new[name]) >= setup_facts.numbers(lowest), name


def test_what_postgresql_needs_is_pinned_and_burdens_no_lesson():
    found = setup_facts.extra("postgres", "3.11")
    assert set(found) == {"psycopg", "psycopg-binary"}
    assert not set(found) & set(setup_facts.requirements())
    assert found["psycopg"] == found["psycopg-binary"]  # they must be of one version


def test_a_test_run_that_cannot_have_the_extras_goes_on(monkeypatch, capsys):
    def nothing(name):
        raise setup_facts.SetupError("No network.")

    monkeypatch.setattr(selftest.setup_venv, "add", nothing)
    monkeypatch.setattr(selftest.setup_facts, "VENV", Path(sys.prefix))
    monkeypatch.delenv("VENV", raising=False)
    selftest.add_extras()
    assert capsys.readouterr().out.splitlines() == [
        "Note: No network. The page's test is skipped.",
        "Note: No network. The tests with PostgreSQL are skipped.",
    ]
    monkeypatch.setenv("VENV", "system")
    selftest.add_extras()
    assert capsys.readouterr().out == ""


def test_older_pairs_of_torch_are_admitted():
    lowest = setup_facts.requirements()
    assert setup_facts.numbers(lowest["torch"]) <= (2, 11)
    assert setup_facts.numbers(lowest["torchvision"]) <= (0, 26)
    assert setup_facts.numbers(lowest["transformers"]) <= (5, 17)


def test_the_pins_of_torch_are_a_pair():
    pins = setup_facts.pins()
    torch, torchvision = (setup_facts.numbers(pins[name]) for name in ("torch", "torchvision"))
    assert torch[1] + 15 == torchvision[1]


def test_pins_hold_on_every_platform():
    assert [name for name in setup_facts.pins() if NOT_PINNED.search(name)] == []


def test_pins_are_sorted_exact_and_single():
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line) for line in lines)
    names = [line.split("==")[0].lower().replace("_", "-") for line in lines]
    assert len(set(names)) == len(names)


def test_the_readme_points_to_what_is_there():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text)
    for target in (link or picture for link, picture in targets):
        assert target.startswith("http") or (REPOSITORY / target).exists(), target


def test_the_readme_tells_the_measured_time_and_memory_of_each_notebook():
    measured = json.loads((REPOSITORY / "data" / "notebooks.json").read_text("utf-8"))["cpu"]
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for number in range(1, 11):
        (row,) = re.findall(rf"^\| {number} \| .*", text, re.M)
        found = measured[str(number)]
        minutes, memory = found["seconds"] / 60, found["peak_memory_bytes"] / 1e9
        assert f"| {minutes:.1f} min, {memory:.1f} GB |" in row, row


def test_the_readme_tells_what_was_measured_on_a_gpu_and_what_was_not():
    measured = json.loads((REPOSITORY / "data" / "notebooks.json").read_text("utf-8"))["gpu"]
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for number in range(1, 11):
        (row,) = re.findall(rf"^\| {number} \| .*", text, re.M)
        *_, told, hardware = (cell.strip() for cell in row.strip("| ").split("|"))
        if found := measured.get(str(number)):
            minutes, memory = found["seconds"] / 60, found["gpu_memory_bytes"] / 1e9
            assert told == f"{minutes:.1f} min, {memory:.1f} GB", row
        else:
            assert told == ("not measured" if "GPU" in hardware else "–"), row


def test_ci_runs_the_readmes_test_command():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Tests")[2]
    command = re.search(r"```sh\n(.+)\n```", section)[1]
    script = REPOSITORY / ".ci" / "run"
    assert f"exec {command} " in script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)


def test_tests_run_two_at_a_time_where_xdist_is(monkeypatch):
    assert selftest.parallel(1) == []
    monkeypatch.setattr(selftest.importlib.util, "find_spec", lambda name: None)
    assert selftest.parallel(2) == []
    monkeypatch.setattr(selftest.importlib.util, "find_spec", lambda name: name)
    assert selftest.parallel(2)[:2] == ["-n", "2"]
