"""Damage: the gradebook, other submissions, the instructor's home, the grader itself."""

from autograder.tests.attacks import Attack, snr

RIGHT = "return alphas_cumprod / (1 - alphas_cumprod)"
OVERWRITE = """
import glob, os, shutil
paths = ["@COURSE@/gradebook.db", "@COURSE@/nbgrader_config.py", "@HOME@/.bashrc",
         "@REPOSITORY@/autograder/tests/lesson_01.py"]
paths += glob.glob("@COURSE@/**/*.ipynb", recursive=True)
done = []
for path in paths:
    for mode in ("r+", "w", "a"):
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, mode).write("damaged")
        except OSError:
            pass
try:
    shutil.rmtree("@COURSE@")
except OSError:
    pass
"""
CONFIGURE = """
import os
for path in (".jupyter/jupyter_config.py", ".ipython/profile_default/startup/00.py", ".profile",
             ".bashrc", ".config/pip/pip.conf", ".local/lib/python3.11/site-packages/torch.pth"):
    for home in ("@HOME@", os.path.expanduser("~"), "/root"):
        try:
            os.makedirs(os.path.dirname(os.path.join(home, path)), exist_ok=True)
            open(os.path.join(home, path), "a").write("import os; os.abort()\\n")
        except OSError:
            pass
"""
ENVIRONMENT = """
import os, sys, torch
for path in (torch.__file__, "/stage/worker.py", "/stage/session.py", sys.executable, "/bin/sh",
             os.path.join(sys.prefix, "evil.pth"), "/etc/ld.so.preload", "/dev/shm/x", "/dev/x"):
    try:
        open(path, "a").write("damaged")
        wrote = path
    except OSError:
        continue
    raise RuntimeError("wrote to " + wrote)
"""
MOUNT = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for call in (lambda: libc.unshare(0x10000000 | 0x00020000),  # a user and a mount namespace
             lambda: libc.mount(b"none", b"/stage", None, 32 | 4096, None),
             lambda: libc.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, None),
             lambda: libc.umount2(b"/stage", 2), lambda: libc.chroot(b"/tmp"),
             lambda: libc.setuid(0), lambda: libc.syscall(272, 0x10000000),
             lambda: libc.syscall(321, 5, 0, 0), lambda: libc.syscall(425, 8, 0)):
    if call() >= 0:
        raise RuntimeError("got more rights than it had")
"""
DAEMON = """
import os, time
for _ in range(3):
    try:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while True:
                    time.sleep(1)
            os._exit(0)
    except OSError:
        pass
"""
KILL = """
import os, signal
for pid in (os.getppid(), 1, -1):
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except OSError:
            pass
"""
STOP = """
import os, signal, time
for pid in (1, 2, 3, os.getppid()):
    try:
        os.kill(pid, signal.SIGSTOP)
    except OSError:
        pass
"""
LIMITS = """
import os, resource
for pid in (os.getppid(), 1, 2):
    for which in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE,
                  resource.RLIMIT_CPU, resource.RLIMIT_STACK):
        try:
            resource.prlimit(pid, which, (1, 1))
            limited = True
        except OSError:
            continue
"""
SLOWED = """
import os
for pid in {os.getppid(), 1, 2}:
    for call in (lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
                 lambda: os.sched_setaffinity(pid, {0}),
                 lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))):
        try:
            call()
        except OSError:
            continue
        raise RuntimeError("slowed its parent down")
"""
TERMINAL = """
import fcntl, os
for path in ("/dev/tty", "/dev/pts/0", "/dev/console", "/proc/self/fd/0", "/proc/self/fd/2"):
    try:
        with open(path, "w") as terminal:
            for letter in "touch damaged\\n":
                fcntl.ioctl(terminal, 0x5412, letter.encode())
    except OSError:
        continue
    raise RuntimeError("typed into the terminal")
"""
WORDS = """
title = "\\x1b]0;title\\x07\\x1b]52;c;ZXZpbA==\\x07\\x1b[2J"
raise ValueError(title + "\\u202eevil\\x9b31m\\x00\\ud800")
"""
OUT_OF_MEMORY = """
import os
for path in ("/proc/self/oom_score_adj", "/proc/%d/oom_score_adj" % os.getppid()):
    for value in ("-1000", "0", "-17"):
        try:
            with open(path, "w") as file:
                file.write(value)
        except OSError:
            continue
        raise RuntimeError("made itself the last to be ended")
"""


ATTACKS = [
    Attack(
        "overwrites",
        "gradebook, other submissions and tests overwritten",
        snr(OVERWRITE + RIGHT),
        score=20,
        quick=True,
    ),
    Attack(
        "configures", "start-up files in the instructor's home", snr(CONFIGURE + RIGHT), score=20
    ),
    Attack(
        "changes-packages",
        "a changed torch for all who come after",
        snr(ENVIRONMENT + RIGHT),
        score=20,
    ),
    Attack("mounts", "new namespaces, mounts and rights", snr(MOUNT + RIGHT), score=20),
    Attack(
        "daemon", "processes that outlive the grading", snr(DAEMON + RIGHT), score=20, quick=True
    ),
    Attack("kills-the-parent", "the worker killed", snr(KILL + RIGHT), score=20),
    Attack(
        "stops-the-parent",
        "the worker stopped, so that everybody waits",
        snr(STOP + RIGHT),
        score=20,
    ),
    Attack(
        "limits-the-parent",
        "limits set for the worker, so that others fail",
        snr(LIMITS + RIGHT),
        score=20,
    ),
    Attack(
        "slows-the-parent", "the worker at the end of every queue", snr(SLOWED + RIGHT), score=20
    ),
    Attack(
        "types-into-the-terminal",
        "commands typed for the instructor",
        snr(TERMINAL + RIGHT),
        score=20,
    ),
    Attack(
        "speaks-to-the-terminal",
        "control sequences in the terminal and the pages",
        snr(WORDS),
        never=("\x1b", "\x9b", "\u202e", "\ud800"),
    ),
    Attack(
        "last-to-be-ended",
        "another process ended where memory is short",
        snr(OUT_OF_MEMORY + RIGHT),
        score=20,
    ),
]
