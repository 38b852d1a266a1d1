"""What one test leaves for the next: counting calls, and reaching other submissions.

The answer is right. It raises where it finds a trace of an earlier test; snr has two tests, and
every attack is graded between neighbours.
"""

from autograder.tests.attacks import Attack, snr

RIGHT = "return alphas_cumprod / (1 - alphas_cumprod)"
FOUND = "a trace of an earlier test is left"
SYSCALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
"""
IN_FILES = """
import os
home = os.path.expanduser("~")
for folder in {"/tmp", "/dev/shm", "/dev", "/var/tmp", "/stage", "/", home, "/run"}:
    path = os.path.join(folder, "trace")
    if os.path.exists(path):
        raise RuntimeError("@@")
    try:
        os.makedirs(os.path.join(folder, "a", "b"), exist_ok=True)
        open(path, "w").write("x")
        os.chmod(folder, 0o500)
    except OSError:
        pass
"""
IN_SHARED_MEMORY = (
    SYSCALL
    + """
if libc.shmget(4711, 4096, 0) >= 0 or libc.msgget(4711, 0) >= 0 or libc.semget(4711, 1, 0) >= 0:
    raise RuntimeError("@@")
libc.shmget(4711, 4096, 0o1666), libc.msgget(4711, 0o1666), libc.semget(4711, 1, 0o1666)
"""
)
IN_A_QUEUE = (
    SYSCALL
    + """
import os
libc.syscall(240, b"trace", os.O_CREAT | os.O_RDWR, 0o600, 0)
"""
)
IN_KEYS = (
    SYSCALL
    + """
for ring in (-3, -4, -5):
    if libc.syscall(250, 10, ring, b"user", b"t2i-trace", 0) > 0:
        raise RuntimeError("@@")
for ring in (-3, -4, -5):
    libc.syscall(248, b"user", b"t2i-trace", b"x", 1, ring)
"""
)
IN_MODULES = """
import builtins, sys, torch
if hasattr(torch, "trace_") or hasattr(builtins, "trace_") or "trace_" in sys.modules:
    raise RuntimeError("@@")
torch.trace_ = builtins.trace_ = sys.modules["trace_"] = "x"
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
torch.nn.Module.forward = None
"""
IN_THE_PARENT = """
import os
seen = {}
for path in ("/proc/%d/comm" % os.getppid(), "/proc/%d/oom_score_adj" % os.getppid(),
             "/proc/%d/coredump_filter" % os.getppid(), "/proc/%d/timerslack_ns" % os.getppid()):
    try:
        if "77" in open(path).read():
            raise RuntimeError("@@")
        open(path, "w").write("77")
    except OSError:
        pass
"""
AT_THE_END = """
import atexit, gc, signal, sys, weakref
class Stays:
    def __del__(self):
        Stays.again = self
        while True:
            pass
def later(*args):
    while True:
        pass
torch.stays = Stays()
torch.stays.itself = torch.stays
atexit.register(later)
sys.exitfunc = later
signal.signal(signal.SIGTERM, later)
"""
IN_THREADS = """
import threading
def spin():
    while True:
        pass
for _ in range(4):
    try:
        threading.Thread(target=spin, daemon=False).start()
    except RuntimeError:
        pass
"""


def leaves(name: str, tries: str, body: str, **more) -> Attack:
    body = body.replace("@@", FOUND)
    return Attack(name, tries, snr(body + RIGHT), score=20, never=(FOUND,), **more)


ATTACKS = [
    leaves("trace-in-files", "a file for the next test", IN_FILES, quick=True),
    leaves("trace-in-shared-memory", "shared memory for the next test", IN_SHARED_MEMORY),
    leaves("trace-in-a-queue", "a message queue for the next test", IN_A_QUEUE),
    leaves("trace-in-keys", "the kernel's keyring for the next test", IN_KEYS, quick=True),
    leaves("trace-in-modules", "changed modules for the next test", IN_MODULES),
    leaves(
        "trace-in-the-parent", "the worker's own entries in /proc for the next test", IN_THE_PARENT
    ),
    leaves("acts-at-the-end", "code that runs when its process ends", AT_THE_END),
    leaves("threads", "threads that go on after the answer", IN_THREADS),
]
