"""What an environment holds, and what it should hold; read without importing any package."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
VENV = REPOSITORY / ".venv"
PROBE = """
import importlib.metadata as metadata, json, sys
sys.path.pop(0)  # the current folder: what lies there is not installed
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        found[name] = None
try:
    origin = json.loads(metadata.distribution("t2i").read_text("direct_url.json") or "{}")
except metadata.PackageNotFoundError:
    origin = {}
print(json.dumps({"python": sys.version_info[:3], "packages": found, "origin": origin.get("url")}))
"""
DAMAGE = """
import importlib.metadata as metadata
for package in metadata.distributions():
    for file in package.files or ():
        if file.size is None or file.suffix == ".pyc":
            continue
        try:
            whole = package.locate_file(file).stat().st_size == file.size
        except OSError:
            whole = False
        if not whole:
            print(package.metadata["Name"])
            break
"""


class SetupError(Exception):
    """The environment cannot be used; the message is one line, with the mend."""


def python_in(folder: Path) -> Path:
    """Where an environment keeps its Python, on every system."""
    for part in ("bin/python", "Scripts/python.exe", "python.exe", "bin/python3"):
        if os.path.exists(folder / part):  # false, too, for one that we may not look at
            return folder / part
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def external(named: str) -> Path:
    """The Python that `VENV=` means: "system", an environment's folder, or a Python itself."""
    if named == "system":
        return Path(sys.executable)
    path = Path(named).expanduser()
    if path.is_dir():
        path = python_in(path)
    elif not os.path.exists(path):
        path = Path(shutil.which(named) or path)
    if not os.path.exists(path):
        raise SetupError(
            f"VENV={named} is neither an environment's folder nor a Python: give the folder that "
            f"holds bin/python, or VENV=system, or leave VENV= away and .venv is made."
        )
    return path.absolute()


def starts() -> str | None:
    """The version of .venv's Python, such as "3.11"; None if it does not start."""
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    command = [str(python_in(VENV)), "-I", "-S", "-c", program]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = result.stdout.strip()
    there = (VENV / "lib" / f"python{version}").is_dir() or (VENV / "Lib").is_dir()
    return version if version and there else None


def probe(python: Path, names: list[str]) -> dict:
    """Versions of packages in an environment (None: absent), read without importing any."""
    command = [str(python), "-c", PROBE] + names
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return json.loads(result.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        raise SetupError(f"{python} does not run as a Python: is it whole?") from None


def damaged(python: Path) -> list[str]:
    """Names of the packages of which a file is missing or has the wrong size."""
    command = [str(python), "-I", "-c", DAMAGE]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def requirements(dev: bool = True) -> dict[str, str]:
    """Package -> lowest version, out of pyproject.toml; `dev`: what only `make test` uses, too."""
    lines = _project()["dependencies"] + _project()["optional-dependencies"]["dev"] * dev
    return dict(line.split(">=") for line in lines)


def extra(name: str, python: str) -> dict[str, str]:
    """Package -> pin of an extra in pyproject.toml, those that a Python such as "3.11" needs."""
    pinned, wanted = pins(), {}
    for line in _project()["optional-dependencies"][name]:
        package = re.match(r"[\w.-]+", line)[0]
        since = re.search(r"python_version >= '([\d.]+)'", line)
        if since is None or numbers(python) >= numbers(since[1]):
            wanted[package] = pinned[package]
    return wanted


def _project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins() -> dict[str, str]:
    """Package -> tested version, out of constraints.txt."""
    lines = constraints().read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def constraints() -> Path:
    return REPOSITORY / "constraints.txt"


def fingerprint() -> str:
    """What the environment depends on: requirements, pins, place."""
    content = json.dumps([1, requirements(), pins(), str(REPOSITORY)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def numbers(version: str) -> tuple[int, ...]:
    """ "2.14.1+cpu" -> (2, 14, 1), for comparing."""
    return tuple(map(int, re.findall(r"\d+", version.split("+")[0])[:3]))
