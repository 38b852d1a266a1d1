"""A worker process: started in its sandbox, asked to fork one child per test, always ended.

Imports nothing heavy, so that the worker can load torch while the grader still does.
"""

import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from autograder import sandbox
from autograder.lesson import Lesson
from autograder.worker import DATA, ENDED, ENDING, FRAME, KILL, MAX_FRAME, READY, RUN

START_SECONDS = 180.0
SESSION_SECONDS = 90.0  # where there is no fork; elsewhere the deadlines of `remote` hold


class HungUp(OSError):
    """The worker ended or sent nonsense."""


class WorkerUnavailable(Exception):
    """The worker process could not be started: nothing can be graded."""


class Worker:
    """A process in a sandbox that has torch loaded and forks for each test.

    Args:
        lesson: whose package modules it may see.
        mode: how it is shut in; the safest that works here if None.
        fork: False serves each test with a fresh process, as on Windows.
    """

    _ended: int | None = None  # the exit status of the last child, once it is known
    _spoilt = False  # a frame was cut off, or the child left something behind

    def __init__(self, lesson: Lesson, mode: sandbox.Mode | None = None, fork: bool = True):
        self.lesson = lesson
        self.mode = mode or sandbox.detect()
        self.fork = fork and hasattr(os, "fork")
        self._folder = tempfile.TemporaryDirectory(prefix="t2i-grade-")
        self._stage = sandbox.stage(lesson, Path(self._folder.name))
        self._process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        """Start the process without waiting until it is ready."""
        self._ready = False
        self._bytes: deque[bytes] = deque()
        self._process = subprocess.Popen(
            sandbox.command(self.mode, self._stage, self.fork),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=sandbox.environment(self.mode),
            cwd=self._stage,
            bufsize=0,
            start_new_session=True,
        )

    def close(self) -> None:
        self._stop()
        self._folder.cleanup()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin_session(self) -> None:
        """Fork a fresh child; `read` and `write` then talk to it.

        Raises:
            WorkerUnavailable: no worker can be started.
        """
        if self._process is None or self._process.poll() is not None:
            self._stop()
            self.start()
        if not self._ready:
            self._await_ready()
        self._bytes.clear()
        self._ended, self._spoilt = None, False
        if not self.fork:  # no child to limit: the process itself gets a clock
            self._alarm = threading.Timer(SESSION_SECONDS, self._process.kill)
            self._alarm.daemon = True
            self._alarm.start()
        self._send_frame(RUN, b"", None)

    def end_session(self) -> int | None:
        """End the child; its exit status where it is known."""
        if not self.fork:
            self._alarm.cancel()
            self._stop()
            return None
        if self._process is None:  # stopped already
            return self._ended
        deadline = time.monotonic() + 5
        try:
            if self._ended is None:
                self._send_frame(KILL, b"", deadline)
            while self._ended is None:
                self._receive_frame(deadline)
        except OSError:
            self._spoilt = True
        if self._spoilt:  # the next test gets a process of its own, and no rest of this one's
            self._stop()
        return self._ended

    def read(self, size: int, deadline: float | None) -> bytes:
        """Bytes from the child; b"" when it has ended."""
        while not self._bytes:
            if self._ended is not None:
                return b""
            self._receive_frame(deadline)
        part = self._bytes.popleft()
        if len(part) > size:
            self._bytes.appendleft(part[size:])
        return part[:size]

    def write(self, data: bytes, deadline: float | None) -> None:
        for start in range(0, len(data), MAX_FRAME):
            self._send_frame(DATA, data[start : start + MAX_FRAME], deadline)

    def _receive_frame(self, deadline: float | None) -> None:
        kind, size = FRAME.unpack(self._raw(FRAME.size, deadline))
        if size > MAX_FRAME:
            raise HungUp("the worker sent nonsense")
        data = self._raw(size, deadline)
        if kind == DATA:
            self._bytes.append(data)
        elif kind == ENDED:
            self._ended, left = ENDING.unpack(data)
            self._spoilt = self._spoilt or left

    def _send_frame(self, kind: bytes, data: bytes, deadline: float | None) -> None:
        stream, data = self._process.stdin.fileno(), FRAME.pack(kind, len(data)) + data
        while data:
            if os.name != "nt":  # a stuck child must not block us for ever
                wait = 30.0 if deadline is None else max(0.0, deadline - time.monotonic())
                if not select.select([], [stream], [], wait)[1]:
                    self._spoilt = True
                    raise TimeoutError
            data = data[os.write(stream, data[: select.PIPE_BUF if os.name != "nt" else None]) :]

    def _raw(self, size: int, deadline: float | None) -> bytes:
        stream, parts = self._process.stdout.fileno(), b""
        while len(parts) < size:
            if os.name != "nt" and deadline is not None:
                wait = max(0.0, deadline - time.monotonic())
                if not select.select([stream], [], [], wait)[0]:
                    self._spoilt = True
                    raise TimeoutError
            part = os.read(stream, size - len(parts))
            if not part:
                raise HungUp("the worker ended")
            parts += part
        return parts

    def _await_ready(self) -> None:
        try:
            head = self._raw(FRAME.size, time.monotonic() + START_SECONDS)
        except OSError:
            head = b""
        if head[:1] == READY:
            self._ready = True
            return
        self._process.kill()
        tail = self._process.stderr.read()[-2000:].decode(errors="replace").strip()
        self._stop()
        reason = tail.splitlines()[-1] if tail else "it gave no reason"
        raise WorkerUnavailable(f"the grading worker did not start ({self.mode.name}): {reason}")

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None and os.name != "nt":
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
