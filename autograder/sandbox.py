"""Where the worker runs: shut in by bubblewrap if it is there, else a plain process with limits.

Bubblewrap gives the worker its own namespaces (no network, own process table), an unprivileged
user, a read-only view of the Python environment, and nothing else of the machine: not the
repository, not the home folder, not the other submissions.
"""

import ast
import functools
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from autograder import splice
from autograder.lesson import LESSONS, PACKAGE, Lesson, exercise_modules

HERE = Path(__file__).resolve().parent
SYSTEM_FOLDERS = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
# Of the packages: they hold answers.
HIDDEN = ("diffusers", "transformers", "tokenizers", "t2i", "autograder")
BOUND = "67108864"  # bytes that a test may write in /tmp
_MODES = {
    "bubblewrap": "bubblewrap (no network, read-only, own user)",
    "plain": "plain process with limits, not a sandbox",
}


@dataclass(frozen=True)
class Mode:
    """How learners' code is shut in."""

    name: str  # "bubblewrap" or "plain"
    reason: str = ""  # why it is not a sandbox, and how to get one

    @property
    def is_sandbox(self) -> bool:
        return self.name != "plain"

    def __str__(self) -> str:
        return _MODES[self.name] + (f": {self.reason}" if self.reason else "")


@functools.cache
def detect() -> Mode:
    """The safest mode that works here, tried for real once.

    `T2I_SANDBOX=plain` asks for the plain mode (for tests of it, and where namespaces hang).
    """
    if os.environ.get("T2I_SANDBOX") == "plain":
        return Mode("plain", "asked for by T2I_SANDBOX=plain")
    program = shutil.which("bwrap")
    if program is None:
        return Mode("plain", "bubblewrap is not installed (Debian, Ubuntu: apt install bubblewrap)")
    if (folder := _shown_too_much()) is not None:
        words = f"this course or your home lies in {folder}, which it would show: move the course"
        return Mode("plain", f"bubblewrap cannot be used, since {words}")
    trial = [program, *_isolation(), *_system(), "/usr/bin/env", "true"]
    try:
        result = subprocess.run(trial, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Mode("plain", f"bubblewrap does not start here ({error})")
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        return Mode("plain", f"bubblewrap does not start here ({lines[-1][:120]})")
    return Mode("bubblewrap")


def command(mode: Mode, stage: Path, fork: bool = True) -> list[str]:
    """The command line that starts a worker on a staged folder (see `stage`)."""
    options = ["--quiet"] + ([] if fork else ["--no-fork"]) + _modules(stage)
    if mode.name == "plain":
        return [sys.executable, "-I", str(stage / "worker.py"), *options]
    return _boxed(stage, "worker.py", options)


def zygote_command(stage: Path, listener: int) -> list[str]:
    """The command line that starts a zygote (see `nursery`) which listens on an open socket.

    Nothing can be written in its box, so what it forks can leave nothing behind there.
    """
    return _boxed(stage, "zygote.py", [f"--listen={listener}", *_modules(stage)], ("/dev", "/"))


def _boxed(
    stage: Path, script: str, options: list[str], read_only: tuple = ("/dev", "/proc", "/")
) -> list[str]:
    inside = [*_hidden(stage), "--ro-bind", str(stage), "/stage", "--chdir", "/tmp"]
    inside += [part for path in read_only for part in ("--remount-ro", path)]
    python = [sys.executable, "-I", f"/stage/{script}", "--own-pids", *options]
    return ["bwrap", *_isolation(), *_system(), *_environment(), *inside, *python]


def _modules(stage: Path) -> list[str]:
    """The staged modules that a worker loads in advance."""
    names = [path.stem for path in sorted((stage / "t2i").glob("*.py"))]
    return [f"t2i.{name}" for name in names if name in exercise_modules()]


def environment(mode: Mode) -> dict[str, str]:
    """The environment variables that the worker gets: none of the caller's secrets."""
    kept = ("PATH", "LANG", "SYSTEMROOT", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE")
    variables = {key: os.environ[key] for key in kept if key in os.environ}
    home = "/tmp" if mode.is_sandbox else tempfile.gettempdir()
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return variables | threads | {"HOME": home, "PYTHONDONTWRITEBYTECODE": "1"}


def stage(lesson: Lesson, folder: Path) -> Path:
    """Lay out what a worker may see: the worker, and the package without this lesson's answers.

    Modules of earlier lessons are whole; in this lesson's modules every exercise is a stub;
    modules of later lessons, and whatever imports them, are absent.
    """
    for name in ("worker.py", "zygote.py", "seccomp.py", "session.py", "wire.py"):
        shutil.copy(HERE / name, folder / name)
    (folder / "empty").mkdir()  # shown in the place of what is hidden
    absent = {f"t2i.{name}" for name in exercise_modules(LESSONS[lesson.number :])}
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        place = path.relative_to(PACKAGE)
        name = ".".join(place.with_suffix("").parts)
        if f"t2i.{name}" in absent or _imported(source) & absent:
            continue
        for exercise in lesson.exercises:
            if exercise.module == name:
                head = exercise.name.partition(".")[0]
                stub = splice.stub(splice.definition(source, head), exercise.name, mark=False)
                source = splice.replace(source, head, stub)
        target = folder / "t2i" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source, encoding="utf-8")
    folder.chmod(0o755)
    return folder


def _imported(source: str) -> set[str]:
    """Modules of the package that a module imports when it is itself imported."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def _isolation() -> list[str]:
    return [
        *("--unshare-all", "--die-with-parent", "--new-session"),
        *("--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"),
    ]


def _system() -> list[str]:
    binds = [part for folder in SYSTEM_FOLDERS for part in ("--ro-bind-try", folder, folder)]
    return [*binds, "--proc", "/proc", "--dev", "/dev", *_bounded(), "--tmpfs", "/tmp"]


@functools.cache
def _bounded() -> list[str]:
    """Bounds what is written to /tmp; bubblewrap can do that from 0.7 on."""
    said = subprocess.run(["bwrap", "--help"], capture_output=True, timeout=20, check=False)
    return ["--size", BOUND] if b"--size" in said.stdout + said.stderr else []


def _environment() -> list[str]:
    """Read-only binds of the Python that runs us and of its packages."""
    return [part for path in python_folders() for part in ("--ro-bind", path, path)]


def python_folders() -> list[str]:
    """Where the Python that runs us and its packages lie, apart from the system's."""
    paths = {sys.prefix, sys.base_prefix, sysconfig.get_path("purelib"), sys.exec_prefix}
    paths |= {str(Path(sys.executable).resolve().parent.parent)}
    return sorted(path for path in paths if not path.startswith("/usr/") and path != "/usr")


def _hidden(stage: Path) -> list[str]:
    """An empty folder in the place of each package that holds what exercises ask for."""
    places = {*site.getsitepackages(), *map(sysconfig.get_path, ("purelib", "platlib"))}
    paths = [Path(place, name) for place in sorted(places) for name in HIDDEN]
    empty = str(stage / "empty")
    return [part for path in paths if path.is_dir() for part in ("--ro-bind", empty, str(path))]


def _shown_too_much() -> str | None:
    """A folder that the sandbox must show, and in which the tests or the home folder lie."""
    home = Path(os.path.expanduser("~"))
    for folder in (*SYSTEM_FOLDERS, *python_folders()):
        if HERE.is_relative_to(folder) or home.is_relative_to(folder):
            return folder
    return None
