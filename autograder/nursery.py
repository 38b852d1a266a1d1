"""Workers for many submissions of one lesson: torch is loaded once, every submission is alone.

    with Nursery(lesson) as nursery:
        for notebook in notebooks:
            with nursery.worker() as worker:
                grade(notebook, lesson, worker=worker)

Where bubblewrap works and lets namespaces be nested, a zygote (see `zygote`) forks a worker into
namespaces of its own for each submission: some 30 ms in place of the seconds that torch takes.
Elsewhere each submission gets a worker that loads torch itself: slower, and as safe as it was.
"""

import contextlib
import io
import os
import socket
import subprocess
import tempfile
from collections import deque
from pathlib import Path

from autograder import sandbox
from autograder.lesson import Lesson
from autograder.process import Worker, WorkerUnavailable

END_SECONDS = 10.0
OWN = "/tmp"  # of `zygote.WRITABLE`: what lies below it here is hidden from the forks


class Nursery:
    """Makes workers of one lesson, each for one submission.

    Args:
        lesson: whose package modules they may see.
        mode: how they are shut in; the safest that works here if None.
    """

    def __init__(self, lesson: Lesson, mode: sandbox.Mode | None = None):
        self.lesson = lesson
        self.mode = mode or sandbox.detect()
        self.why_slow = f"{self.mode} has no zygote"  # empty: there is one
        self._folder = tempfile.TemporaryDirectory(prefix="t2i-nursery-")
        self._address = Path(self._folder.name, "zygote")
        self._process: subprocess.Popen | None = None
        self._listener: socket.socket | None = None
        if self.mode.name == "bubblewrap" and hasattr(os, "pidfd_open"):
            hidden = [f for f in sandbox.python_folders() if Path(f).is_relative_to(OWN)]
            if hidden:
                self.why_slow = f"{hidden[0]} lies in {OWN}, and each fork gets one of its own"
            else:
                self._start()

    @property
    def is_shared(self) -> bool:
        """Whether torch is loaded once for all submissions."""
        return not self.why_slow

    def worker(self) -> Worker:
        """A worker for one submission; close it afterwards."""
        if not self.is_shared:
            return Worker(self.lesson, self.mode)
        return BoxedWorker(self.lesson, self.mode, self._address)

    def close(self) -> None:
        if self._process is not None:
            with self._listener, contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._listener.shutdown(socket.SHUT_RDWR)  # the zygote then ends by itself
                self._process.wait(timeout=END_SECONDS)
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        """Start the zygote, and try whether it can make a worker here."""
        folder = Path(self._folder.name, "stage")
        folder.mkdir()
        stage = sandbox.stage(self.lesson, folder)
        listener = self._listener = socket.socket(socket.AF_UNIX)
        with tempfile.TemporaryFile() as said:
            listener.bind(str(self._address))
            listener.listen(64)
            self._process = subprocess.Popen(
                sandbox.zygote_command(stage, listener.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=sandbox.environment(self.mode),
                cwd=stage,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
            try:
                with BoxedWorker(self.lesson, self.mode, self._address) as worker:
                    worker.begin_session()
                    worker.end_session()
                self.why_slow = ""
            except WorkerUnavailable:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                self.why_slow = lines[-1][:200] if lines else "the zygote gave no reason"


class BoxedWorker(Worker):
    """One submission's worker: the far end of a connection to the zygote."""

    def __init__(self, lesson: Lesson, mode: sandbox.Mode, address: Path):
        self.lesson, self.mode, self.fork = lesson, mode, True
        self._address = address
        self._process = None  # connects when the first test wants it

    def start(self) -> None:
        self._ready = False
        self._bytes = deque()
        try:
            self._process = _Connection(self._address)
        except OSError as error:
            raise WorkerUnavailable(f"the zygote does not answer ({error.strerror})") from error

    def close(self) -> None:
        self._stop()

    def _stop(self) -> None:
        connection, self._process = self._process, None
        if connection is not None:
            connection.kill()


class _Connection:
    """A connection with the parts of a process that `Worker` uses."""

    def __init__(self, address: Path):
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(address))
        except OSError:
            self._socket.close()
            raise
        self.stdin = self.stdout = self._socket
        self.stderr = io.BytesIO()

    def poll(self) -> int | None:
        return None  # that it has ended shows when we read

    def kill(self) -> None:
        self._socket.close()  # its keeper sees that, and ends the worker
