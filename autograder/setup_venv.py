"""Making and mending the course's environment in .venv, one process at a time."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

from autograder.setup_facts import (
    REPOSITORY,
    VENV,
    SetupError,
    constraints,
    damaged,
    extra,
    fingerprint,
    pins,
    probe,
    python_in,
    requirements,
    starts,
)

STAMP = "t2i-setup.json"  # written last: with it the environment is whole
UNDERWAY = "t2i-setup-underway"  # there while pip works
LOG = "t2i-setup.log"
TROUBLE = (  # what pip says -> what a person can do about it
    ("No space left on device", "the disk is full: free some space (about 7 GB are needed)"),
    (
        "NewConnectionError|name resolution|getaddrinfo|ConnectTimeout|Max retries|ProxyError"
        "|Read timed out|Connection refused|IncompleteRead",
        "the package index cannot be reached: connect to the network and repeat, or use an "
        "environment that has the packages with VENV=PATH",
    ),
    (
        "No matching distribution|Could not find a version|Requires-Python",
        "a package has no build for this Python or machine: try Python 3.11 to 3.14 "
        "(make PYTHON=python3.12 ...), or your own environment with VENV=PATH",
    ),
)


def is_whole() -> bool:
    """Whether .venv was set up to its end, for these pins, in this place, and still starts."""
    seen = stamp()
    return bool(seen) and seen["fingerprint"] == fingerprint() and seen["python"] == starts()


def stamp() -> dict:
    """What the last finished set-up wrote down; empty if there was none."""
    try:
        return json.loads((VENV / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def set_up() -> None:
    """Make or mend .venv, one process at a time.

    Raises:
        SetupError: .venv is a link: whatever is behind it is not ours to change.
    """
    refuse_link()
    with lock():
        if is_whole():  # another make did it while this one waited
            return
        start = time.monotonic()
        if not (VENV / UNDERWAY).exists() and fits():
            finish()
            return
        if VENV.exists() and beyond_repair():
            say("The environment in .venv is broken, half made or was moved; beginning again.")
            remove()
        install()
        if damaged(python_in(VENV)):
            say("Some packages arrived damaged; beginning again.")
            remove()
            install()
        finish()
        say(f"Set up in {time.monotonic() - start:.0f} s.")


def refuse_link() -> None:
    """Raise SetupError where .venv is a link."""
    if VENV.is_symlink():
        raise SetupError(
            f".venv is a link to {os.readlink(str(VENV))}, which may belong to another copy of "
            f"the course: remove the link (rm .venv), or use what it leads to as it is with "
            f"VENV=PATH."
        )


def add(name: str) -> None:
    """Let .venv hold an extra of pyproject.toml as well, one process at a time.

    Its packages go in at their pins and without pip's solver, so that they change no other one.

    Raises:
        SetupError: they cannot be had.
    """
    with lock():
        wanted = extra(name, starts() or "")
        found = probe(python_in(VENV), list(wanted))["packages"]
        lacking = [f"{each}=={pin}" for each, pin in wanted.items() if found[each] != pin]
        if not lacking:
            return
        refuse_link()
        what = f"`make {name}`" if name == "demo" else f"the extra {name}"
        say(f"Installing what {what} needs on top (once, a minute or less).")
        trouble = pip("install", "--no-deps", *lacking)
        if trouble is not None:
            raise SetupError(f"{what} lacks packages: {explain(trouble)}.")


def beyond_repair() -> bool:
    """Whether pip cannot put .venv right: no Python, no pip, or scripts that point elsewhere."""
    moved = stamp().get("place", str(REPOSITORY)) != str(REPOSITORY)
    return moved or starts() is None or pip("--version") is not None


def install() -> None:
    """Create .venv if it is not there and let pip bring it to the pinned state."""
    again = VENV.exists()
    say(
        f"{'Completing' if again else 'Setting up'} the course's environment in .venv "
        f"(once; 3 to 10 minutes, up to 7 GB with the GPU libraries)."
    )
    free = shutil.disk_usage(str(REPOSITORY)).free / 1e9
    if not again and free < 7:
        say(f"Note: {free:.1f} GB are free on this disk; up to 7 GB are needed.")
    if not again:
        create()
    (VENV / STAMP).unlink(missing_ok=True)
    (VENV / UNDERWAY).touch()
    specifier = f"{REPOSITORY}[dev]"
    trouble = pip("install", "--constraint", str(constraints()), "--editable", specifier)
    if trouble is not None:
        raise SetupError(f"Set-up failed: {explain(trouble)} (all of it: {VENV / LOG}).")


def create() -> None:
    """`python -m venv`, and a sentence where Debian has left that out of Python."""
    command = [sys.executable, "-m", "venv", str(VENV)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SetupError(f"Set-up failed: {sys.executable} does not start ({error}).") from None
    if result.returncode == 0:
        return
    said = (result.stdout + result.stderr).strip()
    remove()
    if "ensurepip" in said or "No module named venv" in said:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        raise SetupError(
            f"Set-up failed: this Python lacks its venv part: apt install {package} (Debian, "
            f"Ubuntu), then repeat."
        )
    last = said.splitlines()[-1] if said else "no reason given"
    raise SetupError(
        f"Set-up failed: .venv cannot be made here ({last}): clone to a folder that you can "
        f"write to, or use an environment that has the packages with VENV=PATH."
    )


def pip(*arguments: str) -> str | None:
    """Run pip in .venv, its words in the log; None if it succeeded, else what it said."""
    command = [str(python_in(VENV)), "-m", "pip", "--disable-pip-version-check", *arguments]
    cleared = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")
    variables = {key: value for key, value in os.environ.items() if key not in cleared}
    variables.update(PIP_NO_INPUT="1", PYTHONUNBUFFERED="1")
    said = []
    with (
        open(VENV / LOG, "w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=variables,
            cwd=str(REPOSITORY),
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        for line in process.stdout:
            log.write(line)
            said.append(line)
            follow(line.strip())
    clear()
    return None if process.returncode == 0 else "".join(said)


def follow(line: str) -> None:
    """Show where pip is: on a terminal in one changing line, elsewhere only the long parts."""
    if line.startswith("Installing collected packages"):
        say("Unpacking the packages ...")
    elif sys.stderr.isatty() and line.startswith(("Collecting", "Downloading", "Using cached")):
        width = shutil.get_terminal_size().columns - 1
        print("\r\x1b[K" + line[:width], end="", file=sys.stderr, flush=True)


def clear() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def say(text: str) -> None:
    clear()
    print(text, file=sys.stderr, flush=True)


def explain(said: str) -> str:
    """What went wrong and the mend, out of pip's many words."""
    for pattern, mend in TROUBLE:
        if re.search(pattern, said):
            return mend
    errors = [line for line in said.splitlines() if line.startswith("ERROR")]
    lines = errors or said.strip().splitlines() or ["pip gave no reason"]
    return lines[-1][:300]


def finish() -> None:
    """Stamp the environment as whole, in one step."""
    fresh = VENV / (STAMP + ".new")
    content = {"fingerprint": fingerprint(), "python": starts(), "place": str(REPOSITORY)}
    fresh.write_text(json.dumps(content), encoding="utf-8")
    os.replace(str(fresh), str(VENV / STAMP))
    (VENV / UNDERWAY).unlink(missing_ok=True)


def remove() -> None:
    shutil.rmtree(str(VENV), ignore_errors=True)


def fits() -> bool:
    """Whether .venv already holds every requirement at its pin, and this very course."""
    if starts() is None:
        return False
    pinned, wanted = pins(), requirements()
    state = probe(python_in(VENV), sorted(set(pinned) | set(wanted)))
    found = state["packages"]
    at_pin = all(found[name] in (None, version) for name, version in pinned.items())
    return at_pin and all(map(found.get, wanted)) and state["origin"] == REPOSITORY.as_uri()


@contextlib.contextmanager
def lock():
    """Hold the set-up lock; the system lets go of it however the process ends."""
    try:
        file = open(REPOSITORY / ".venv.lock", "a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise SetupError(
            f"{REPOSITORY} cannot be written ({error.strerror}), so .venv cannot be made there: "
            f"use an environment that has the packages with VENV=PATH."
        ) from None
    with file:
        if not try_lock(file):
            say("Another make is setting up .venv; waiting for it.")
            while not try_lock(file):
                time.sleep(0.5)
        yield


def try_lock(file) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return getattr(error, "errno", None) not in (11, 13, 35, 36)  # else no locks here: go on
    return True
