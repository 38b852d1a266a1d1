"""The process in which a learner's code runs. It holds no test and no reference.

It loads torch once, then answers the grader's frames on its standard input and output: "run"
forks a child for one test and passes that test's bytes to and fro; "kill" ends the child. Where
there is no fork (Windows), the process serves one test itself and is then thrown away.
This file is copied into the sandbox beside wire.py.
"""

import contextlib
import functools
import importlib
import os
import select
import signal
import socket
import struct
import sys
import traceback

FRAME = struct.Struct("<cI")  # kind, length
RUN, KILL, DATA, ENDED, READY = b"R", b"K", b"D", b"E", b"Y"
MAX_FRAME = 1 << 16
CPU_SECONDS = 10
MEMORY = 4 << 30  # bytes that a test may use beyond what is loaded
ENDING = struct.Struct("<i?")  # a child's exit status; whether something of it is left
WRITABLE = ("/tmp", "/dev/shm")  # where a sandbox lets a test write
MOST_FILES = 10_000


def main() -> None:
    """Serve the grader until it hangs up."""
    stdin, stdout = _claim_standard_streams()
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    if sys.platform == "linux":
        forbid_inspection()
    preload()
    if "--no-fork" in sys.argv or not hasattr(os, "fork"):
        return _serve_here(stdin, stdout)
    return serve(stdin, stdout)


def serve(stdin: int, stdout: int) -> None:
    """Say that we are ready, and fork a child for each test until the grader hangs up."""
    _write(stdout, FRAME.pack(READY, 0))
    while True:
        kind, _ = _read_frame(stdin)
        if kind == b"":
            return
        if kind == RUN:
            _run_child(stdin, stdout)


def _as_it_is(function=None, **_):
    """What stands for torch.compile, called or as a decorator: the same numbers, only slower."""
    return (lambda later: later) if function is None else function


def preload() -> None:
    """Load torch and the modules named on the command line."""
    import torch

    torch.set_num_threads(1)
    torch.compile = _as_it_is  # its compiler is a program, and none may be started here
    ours = ("wire", "session", "seccomp")
    for name in ("numpy", "einops", "torch.nn.functional", "safetensors.torch", *ours):
        importlib.import_module(name)
    for name in sys.argv[1:]:
        if not name.startswith("--"):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    _address_space()


def _run_child(stdin: int, stdout: int) -> None:
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ours.close()
            os.close(stdin)
            os.close(stdout)
            os.setsid()
            _limit()
            if "--own-pids" in sys.argv:
                import seccomp

                seccomp.refuse()
            import session

            session.serve(theirs.recv, theirs.sendall)
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    _relay(ours, stdin, stdout)
    ours.close()
    _kill_all(child)
    _, status = os.waitpid(child, 0)
    left = "--own-pids" in sys.argv and not all(map(_swept, WRITABLE))
    ending = ENDING.pack(os.waitstatus_to_exitcode(status), left)
    _write(stdout, FRAME.pack(ENDED, len(ending)) + ending)


def _relay(child: socket.socket, stdin: int, stdout: int) -> None:
    """Carry bytes both ways until the child hangs up or the grader says kill."""
    while True:
        ready, _, _ = select.select([child, stdin], [], [])
        if child in ready:
            try:
                data = child.recv(MAX_FRAME)
            except OSError:
                data = b""
            if not data:
                return
            _write(stdout, FRAME.pack(DATA, len(data)) + data)
        if stdin in ready:
            kind, data = _read_frame(stdin)
            if kind != DATA:
                return
            child.settimeout(20)
            try:
                child.sendall(data)
            except OSError:
                return


def _kill_all(child: int) -> None:
    """End the child and whatever it started."""
    for kill, target in ((os.killpg, child), (os.kill, child)):
        with contextlib.suppress(OSError):
            kill(target, signal.SIGKILL)
    if "--own-pids" in sys.argv:  # alone in our process namespace: everybody else is the learner's
        with contextlib.suppress(OSError):
            os.kill(-1, signal.SIGKILL)


def _swept(place: str) -> bool:
    """Remove what a test has written, so that the next finds no trace; False if some is left."""
    with contextlib.suppress(OSError):
        os.chmod(place, 0o1777)  # a test may have shut it
    count = 0
    with contextlib.suppress(OSError, RecursionError):
        for folder, folders, files in os.walk(place, topdown=False):
            count += len(folders) + len(files)
            if count > MOST_FILES:
                return False
            for name in [*files, *folders]:
                path = os.path.join(folder, name)
                is_folder = name in folders and not os.path.islink(path)
                os.rmdir(path) if is_folder else os.remove(path)
        return not os.path.isdir(place) or not os.listdir(place)
    return False


def _serve_here(stdin: int, stdout: int) -> None:
    import session

    _write(stdout, FRAME.pack(READY, 0))

    pending = bytearray()

    def receive(size: int) -> bytes:
        while not pending:
            kind, data = _read_frame(stdin)
            if kind in (b"", KILL):
                os._exit(0)
            if kind == DATA:
                pending.extend(data)
        part = bytes(pending[:size])
        del pending[:size]
        return part

    def send(data: bytes) -> None:
        _write(stdout, FRAME.pack(DATA, len(data)) + data)

    session.serve(receive, send)


def _limit() -> None:
    """Bound what one test may use: processor time, memory, files, core dumps.

    Processor time, not the clock, catches an endless loop, so a busy machine punishes nobody.
    """
    import resource

    limits = {
        resource.RLIMIT_CPU: (CPU_SECONDS, CPU_SECONDS + 2),
        resource.RLIMIT_AS: (_address_space() + MEMORY,) * 2,
        resource.RLIMIT_FSIZE: (32 << 20,) * 2,
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_NOFILE: (256, 256),
    }
    for which, limit in limits.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(which, limit)


@functools.cache  # of the process that loaded torch
def _address_space() -> int:
    """Bytes of memory that this process has mapped, used or not."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 8 << 30


def forbid_inspection() -> None:
    """Children must not read this process's memory (prctl PR_SET_DUMPABLE)."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)


def _claim_standard_streams() -> tuple[int, int]:
    """Keep the pipes for ourselves; what the learner's code prints goes nowhere."""
    stdin, stdout = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2) if "--quiet" in sys.argv else (0, 1):
        os.dup2(nowhere, number)
    if os.name == "nt":
        import msvcrt

        for number in (stdin, stdout):
            msvcrt.setmode(number, os.O_BINARY)
    return stdin, stdout


def _read_frame(stdin: int) -> tuple[bytes, bytes]:
    head = _read(stdin, FRAME.size)
    if len(head) < FRAME.size:
        return b"", b""
    kind, size = FRAME.unpack(head)
    return kind, _read(stdin, size)


def _read(stream: int, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = os.read(stream, size - len(parts))
        if not part:
            return parts
        parts += part
    return parts


def _write(stream: int, data: bytes) -> None:
    while data:
        data = data[os.write(stream, data) :]


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        sys.exit(1)
