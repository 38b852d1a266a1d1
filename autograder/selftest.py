"""`make test` and `make test-all`: style, committed notebooks, every test; how time divides."""

import argparse
import importlib.util
import os
import subprocess
import sys
import time

from autograder import sandbox, setup_facts, setup_venv
from autograder.lesson import REPOSITORY

QUICK = (
    ("style", ["-m", "ruff", "check", "."]),
    ("format", ["-m", "ruff", "format", "--check", "."]),
    ("build", ["-m", "autograder", "build", "--check"]),
)
EXTRAS = {
    "demo": "The page's test is skipped.",
    "postgres": "The tests with PostgreSQL are skipped.",
}
PYTEST = ["-m", "pytest", "-q", "--durations=15", "-rs", "solutions/tests", "autograder/checks"]


def main(arguments: list[str] | None = None) -> int:
    """Run everything, even after a failure; pytest last, so that its closing line ends it all."""
    parser = argparse.ArgumentParser(prog="python -m autograder.selftest", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time (default: 2)")
    parser.add_argument("--all", action="store_true", help="the tests marked thorough as well")
    options = parser.parse_args(arguments)
    print(f"Sandbox: {sandbox.detect()}", flush=True)
    add_extras()
    seconds, failed = {}, []
    for name, command in QUICK:
        start = time.monotonic()
        if run(command):
            failed.append(name)
        seconds[name] = time.monotonic() - start
    print("Time: " + ", ".join(f"{name} {taken:.0f} s" for name, taken in seconds.items()))
    print("Next: the tests, with the slowest fifteen named at the end.", flush=True)
    status = run(PYTEST + parallel(options.jobs) + (["--all"] if options.all else []))
    if failed:
        print(f"FAILED before the tests: {', '.join(failed)} (see above).")
    return 1 if failed else status


def add_extras() -> None:
    """Let .venv hold what the page of `make demo` and a gradebook in PostgreSQL need.

    Without them, and in an environment of somebody's own, their tests are skipped and say so.
    """
    ours = setup_facts.VENV
    if not ours.exists() or not os.path.samefile(sys.prefix, ours) or os.environ.get("VENV"):
        return
    for name, skipped in EXTRAS.items():
        try:
            setup_venv.add(name)
        except setup_facts.SetupError as error:
            print(f"Note: {error} {skipped}", flush=True)


def parallel(jobs: int) -> list[str]:
    """pytest-xdist's options, or none where it is not installed or not wanted."""
    if jobs < 2 or importlib.util.find_spec("xdist") is None:
        return []
    return ["-n", str(jobs), "--dist", "worksteal"]


def run(command: list[str]) -> int:
    """One step: a process with one thread, so that two at a time do not get in each other's way."""
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    variables = os.environ | threads
    return subprocess.run([sys.executable, *command], env=variables, cwd=REPOSITORY).returncode


if __name__ == "__main__":
    sys.exit(main())
