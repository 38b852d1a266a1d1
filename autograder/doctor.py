"""`make doctor`: what this machine's set-up looks like, what is broken, and how to mend it.

Looks first at what can be seen without importing anything, then imports torch in a process of its
own, so that a broken package is a line of the report and not the end of it. Standard library only.
"""

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[:1] = [str(REPOSITORY), str(REPOSITORY / "solutions")]

from autograder.doctor_probe import install, pair  # noqa: E402
from autograder.setup_facts import (  # noqa: E402
    VENV,
    damaged,
    numbers,
    pins,
    probe,
    requirements,
)

Finding = tuple[bool, str, str]  # sound?, what was looked at, what was found (and the mend)
LEAST_MEMORY, LEAST_DISK = 4.0, 1.0  # GB


def main() -> int:
    """Print one line a finding; 1 if something is broken, else 0."""
    broken = 0
    for sound, topic, text in findings():
        broken += not sound
        print(f"{'OK' if sound else '!!'}  {topic:<11} {text}", flush=True)
    print("Something needs mending: see !! above." if broken else "All is well.")
    return 1 if broken else 0


def findings() -> Iterator[Finding]:
    """Everything, the quick things first; of packages nothing before they are installed."""
    steps: list[Callable[[], Iterator[Finding]]] = [
        look_at_python,
        look_at_environment,
        look_at_packages,
        look_at_machine,
        look_at_notebooks,
        look_at_imports,
    ]
    for step in steps:
        if step in (look_at_packages, look_at_imports) and is_untouched():
            continue
        yield from step()


def is_untouched() -> bool:
    """Whether nothing was set up yet: what this Python lacks is what `make setup` will install."""
    return is_elsewhere() and importlib.util.find_spec("torch") is None


def is_elsewhere() -> bool:
    """Whether this Python is neither `make setup`'s nor one that VENV names."""
    return not os.environ.get("VENV") and Path(sys.prefix) != VENV and not VENV.exists()


def look_at_python() -> Iterator[Finding]:
    version = platform.python_version()
    where = f"{version} ({sys.executable})"
    if sys.maxsize < 2**32:
        yield False, "Python", f"{where} is a 32-bit build: torch needs a 64-bit Python"
    else:
        yield True, "Python", where


def look_at_environment() -> Iterator[Finding]:
    from autograder.setup_venv import UNDERWAY, is_whole

    named = os.environ.get("VENV")
    if named:
        yield True, "environment", f"VENV={named}, used as it is"
    elif is_untouched():
        yield False, "environment", "not set up yet: make setup (any other target does it too)"
    elif is_elsewhere():
        yield True, "environment", f"{sys.prefix}, your own (make needs VENV={sys.prefix})"
    elif (VENV / UNDERWAY).exists():
        yield False, "environment", ".venv is half made (its set-up was interrupted): make setup"
    elif not is_whole():
        yield False, "environment", ".venv is not up to date, or was moved: make setup"
    else:
        yield True, "environment", f"{VENV}, whole"
    if os.environ.get("PYTHONPATH") and not named:
        value = os.environ["PYTHONPATH"]
        yield True, "environment", f"note: PYTHONPATH={value} comes before the installed packages"


def look_at_packages() -> Iterator[Finding]:
    """Installed versions against what is needed and what was tested, from metadata alone."""
    wanted, tested = requirements(), pins()
    found = probe(Path(sys.executable), list(wanted))["packages"]
    absent = [name for name in wanted if found[name] is None]
    spare = [name for name in absent if name not in requirements(dev=False)]
    if spare and os.environ.get("VENV"):
        absent = [name for name in absent if name not in spare]
        yield True, "packages", f"not there, and used by make test alone: {', '.join(spare)}"
    old = [n for n in wanted if found[n] and numbers(found[n]) < numbers(wanted[n])]
    if absent or old:
        specifiers = " ".join(f"'{name}>={wanted[name]}'" for name in absent + old)
        parts = [f"missing: {', '.join(absent)}"] * bool(absent)
        parts += [f"too old: {', '.join(f'{name} {found[name]}' for name in old)}"] * bool(old)
        yield False, "packages", f"{'; '.join(parts)}; mend: {install(specifiers)}"
    other = [
        f"{name} {found[name]} (tested: {tested[name]})"
        for name in wanted
        if found[name] and name not in old and numbers(found[name]) != numbers(tested[name])
    ]
    if other:
        yield True, "packages", f"in range, but not the tested set: {', '.join(other)}"
    elif not absent + old:
        yield True, "packages", f"all {sum(map(bool, found.values()))} at their pins"
    yield from look_at_pair(found["torch"], found["torchvision"])
    torn = damaged(Path(sys.executable))
    if torn:
        again = f"--force-reinstall --no-deps {' '.join(torn)}"
        yield False, "packages", f"damaged files in {', '.join(torn)}; mend: {install(again)}"


def look_at_pair(torch: str | None, torchvision: str | None) -> Iterator[Finding]:
    """torch 2.N goes with torchvision 0.(N + 15), and a CPU build with a CPU build."""
    if torch is None or torchvision is None:
        return
    text = f"torch {torch} and torchvision {torchvision}"
    minors = numbers(torch)[1], numbers(torchvision)[1]
    mend = install(pair())
    if minors[0] + 15 != minors[1]:
        yield False, "torch", f"{text} are not a pair; mend: {mend}"
    elif ("+cpu" in torch) != ("+cpu" in torchvision):
        yield False, "torch", f"{text} are builds of different kinds; mend: {mend}"


def look_at_machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    total = memory()
    text = f"{total:.1f} GB of memory, {cores} CPU cores" if total else f"{cores} CPU cores"
    if total and total < LEAST_MEMORY - 0.3:
        text += f": lessons need {LEAST_MEMORY:.0f} GB; close other programs, or use T2I_TIER=smoke"
    yield not total or total >= LEAST_MEMORY - 0.3, "memory", text
    free = shutil.disk_usage(REPOSITORY).free / 1e9
    text = f"{free:.1f} GB free"
    if free < LEAST_DISK:
        text += f": data and checkpoints need {LEAST_DISK:.0f} GB; free some space"
    yield free >= LEAST_DISK, "disk", text


def memory() -> float | None:
    """This machine's memory in GB, or a container's limit if that is lower; None if unknown."""
    limits = []
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (AttributeError, OSError, ValueError):
        pass
    return min(limits) / 1e9 if limits else None


def look_at_notebooks() -> Iterator[Finding]:
    """The lessons' notebooks must be notebooks: a bad merge or a full disk breaks them."""
    paths = sorted((REPOSITORY / "lessons").glob("*/*.ipynb"))
    sound = 0
    for path in paths:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            assert content["nbformat"] >= 4 and all(cell["cell_type"] for cell in content["cells"])
            sound += 1
        except (OSError, ValueError, KeyError, TypeError, AssertionError):
            short = path.relative_to(REPOSITORY)
            mend = f"keep a copy, then: git checkout -- {short}"
            yield False, "notebooks", f"{short} is not a readable notebook; mend: {mend}"
    if not paths:
        yield False, "notebooks", "there are none in lessons/: make build"
    elif sound:
        yield True, "notebooks", f"{sound} of {len(paths)} readable"


def look_at_imports() -> Iterator[Finding]:
    """Import for real, each thing in one process that reports as it goes."""
    command = [sys.executable, str(REPOSITORY / "autograder" / "doctor_probe.py")]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        yield (
            False,
            "torch",
            "importing takes more than 5 minutes: is the disk or network drive ill?",
        )
        return
    for line in filter(lambda line: line.startswith("{"), result.stdout.splitlines()):
        report = json.loads(line)
        yield report["sound"], report["topic"], report["text"]
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        crash = f"Python itself crashed there (status {result.returncode}: {last})"
        yield False, "imports", f"{crash}; mend: {install(pair())}"


if __name__ == "__main__":
    sys.exit(main())
