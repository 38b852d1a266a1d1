"""nbgrader's formgrader on a course, in a Jupyter server of its own.

The server starts in the course folder, with a configuration made for it in a temporary folder. It
neither reads nor changes the instructor's own Jupyter and nbgrader settings.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from autograder.course.cycle import isolated
from autograder.course.folder import Course, CourseError

START_SECONDS = 120.0
EXTENSIONS = ("nbgrader.server_extensions.formgrader", "jupyterlab", "notebook")
PAGE = "formgrader/manage_assignments"


def main(course: Course, port: int = 0, browser: bool = True) -> None:
    """Open the formgrader and wait until it is stopped: with Ctrl+C, or as its terminal closes.

    Args:
        course: which one.
        port: where the server listens, on this machine alone; 0 takes a free one.
        browser: whether to open the page as well.
    """
    for name in ("SIGTERM", "SIGHUP"):  # else they would end this process and leave the server
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), serving(course, port) as (address, process):
        text = f"The formgrader of {course.folder} is at\n\n    {address}\n\nStop it with Ctrl+C."
        print(text, flush=True)
        if browser:
            webbrowser.open(address)
        process.wait()


@contextlib.contextmanager
def serving(course: Course, port: int = 0) -> Iterator[tuple[str, subprocess.Popen]]:
    """A Jupyter server with the formgrader of a course, ended at the end.

    Yields:
        the page's address, with the token that lets one in; and the process.

    Raises:
        CourseError: the server does not start; the message says what it said.
    """
    with tempfile.TemporaryDirectory(prefix="t2i-formgrader-") as folder:
        with isolated(Path(folder)):
            environment = dict(os.environ)
        place = Path(folder, "server.json")
        place.write_text(json.dumps(_configuration(course, port)), encoding="utf-8")
        log = Path(folder, "log")
        with log.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "jupyter_server", f"--config={place}"],
                cwd=course.folder,  # nbgrader looks for its configuration where it starts
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        try:
            runtime = Path(environment["JUPYTER_RUNTIME_DIR"], f"jpserver-{process.pid}.json")
            yield _address(runtime, process, log), process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _configuration(course: Course, port: int) -> dict:
    """The server's settings; those of the course stand in its own nbgrader_config.py."""
    server = {
        "root_dir": str(course.folder),
        "ip": "127.0.0.1",
        "port": port,
        "open_browser": False,
        "answer_yes": True,
        "allow_root": not hasattr(os, "geteuid") or os.geteuid() == 0,
        "jpserver_extensions": dict.fromkeys(EXTENSIONS, True),
    }
    return {
        "ServerApp": server,
        "Exchange": {"root": course.config.Exchange.root},
        "FormgradeExtension": {"debug": False},  # else the page shows the seed
    }


def _address(runtime: Path, process: subprocess.Popen, log: Path) -> str:
    """Wait for the file that a server writes when it listens, and read its address there."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(runtime.read_text(encoding="utf-8"))
            return f"{told['url']}{PAGE}?token={told['token']}"
        time.sleep(0.1)
    lines = log.read_text(errors="replace").strip().splitlines()[-5:]
    raise CourseError("the Jupyter server did not start: " + " ".join(lines or ["it said nothing"]))
