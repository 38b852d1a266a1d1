"""Loads torch once for many submissions, and never runs learners' code itself.

It sits in a bubblewrap box in which nothing can be written, and waits. For each connection it
forks, and the fork moves into namespaces of its own before it becomes that submission's worker:
own processes, own mounts, own user without rights, no network, a fresh and bounded /tmp. So the
worker of one submission can neither see, signal nor write anything that another
one meets; when its connection closes, the kernel ends every process in it.
This file is copied into the sandbox beside worker.py.
"""

import contextlib
import ctypes
import gc
import os
import platform
import select
import signal
import socket
import sys

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER = 0x08000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
EVERYTHING = (
    *(CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC),
    *(CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET),
)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_PRIVATE_ALL = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE
PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 24, 38
CAPABILITY_VERSION_3 = 0x20080522
KEYCTL = {"x86_64": 250, "aarch64": 219}  # the system call's number
KEYCTL_JOIN_SESSION_KEYRING = 1
WRITABLE = {"/tmp": b"size=64m,mode=1777"}  # as large as sandbox.BOUND
FACTS = ("cpuinfo", "meminfo", "stat", "version", "filesystems")  # of /proc: all that is shown
_LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Fork one worker for each connection, until the grader ends us."""
    number = next(a for a in sys.argv if a.startswith("--listen=")).partition("=")[2]
    listener = socket.socket(fileno=int(number))
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import worker

    worker.forbid_inspection()
    worker.preload()
    gc.collect()
    gc.freeze()  # forks then share the memory that they do not write
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the grader has shut it
            return
        if os.fork() == 0:
            try:
                listener.close()
                _keep(connection)
            except OSError as error:
                print(error, file=sys.stderr, flush=True)
            finally:
                os._exit(0)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _keep(connection: socket.socket) -> None:
    """Make a worker in namespaces of its own, and end it when the grader hangs up."""
    uid, gid = os.geteuid(), os.getegid()
    _check(_LIBC.unshare(sum(EVERYTHING)), "unshare")
    _LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # our own /proc files are ours for a moment
    own = {"setgroups": "deny", "uid_map": f"{uid} {uid} 1", "gid_map": f"{gid} {gid} 1"}
    for name, text in own.items():
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    _LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    inner = os.fork()  # process 1 of the new namespace
    if inner == 0:
        try:
            _enter()
            _become_worker(connection)
        except OSError as error:
            print(error, file=sys.stderr, flush=True)
        finally:
            os._exit(0)
    try:
        waiting = select.poll()
        waiting.register(connection, select.POLLRDHUP | select.POLLHUP)
        waiting.register(os.pidfd_open(inner), select.POLLIN)
        waiting.poll()
    finally:
        os.kill(inner, signal.SIGKILL)  # and with process 1 all others of its namespace
        os.waitpid(inner, 0)


def _enter() -> None:
    """Fresh places to write, nothing to read of other processes, and no rights left."""
    _mount(None, "/", None, MS_PRIVATE_ALL, None)
    for path, options in WRITABLE.items():
        _mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options)
    os.chdir("/tmp")
    with contextlib.suppress(OSError), open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")  # there is no way back to rights through a namespace of one's own
    facts = {}
    for name in FACTS:
        with contextlib.suppress(OSError), open(f"/proc/{name}", "rb") as file:
            facts[name] = file.read()
    _mount("tmpfs", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, b"size=1m,mode=0755")
    for name, content in facts.items():
        with open(f"/proc/{name}", "wb") as file:
            file.write(content)
    _mount(None, "/proc", None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, None)
    if platform.machine() in KEYCTL:  # keys of the kernel's would outlive us in a shared ring
        _LIBC.syscall(KEYCTL[platform.machine()], KEYCTL_JOIN_SESSION_KEYRING, None)
    _drop_rights()


def _drop_rights() -> None:
    _LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in range(64):
        _LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    _check(_LIBC.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def _become_worker(connection: socket.socket) -> None:
    """Answer the grader as any worker does; the connection is the only thing that is open."""
    import worker

    stdin, stdout = 3, 4
    moved = os.dup2(connection.detach(), 63)
    for stream in (stdin, stdout):
        os.dup2(moved, stream)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # what learners' code prints goes nowhere
        os.dup2(nowhere, stream)
    os.closerange(5, os.sysconf("SC_OPEN_MAX"))
    worker.forbid_inspection()
    worker.serve(stdin, stdout)


def _mount(source, target: str, kind, flags: int, options: bytes | None) -> None:
    arguments = (each.encode() if each else None for each in (source, target, kind))
    _check(_LIBC.mount(*arguments, ctypes.c_ulong(flags), options), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
