"""Denial: time, memory, processes, disk and output without end, and processes that just end."""

from autograder.tests.attacks import Attack, snr

SHRUGS = """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, lambda *args: None)
    except (OSError, ValueError):
        pass
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
"""
FORKS = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
SPAWNS = """
import ctypes, subprocess
libc = ctypes.CDLL(None, use_errno=True)
libc.vfork.restype = ctypes.c_int
for _ in range(50):
    for start in (lambda: subprocess.Popen(["/bin/sleep", "1000"]),
                  lambda: __import__("os").posix_spawn("/bin/sleep", ["sleep", "1000"], {}),
                  lambda: __import__("multiprocessing").Process(target=print).start()):
        try:
            start()
        except OSError:
            continue
        raise SystemExit(3)
return alphas_cumprod
"""
THREADS = """
import threading, time
threading.stack_size(32768)
count = 0
while count < 5000:
    try:
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        count += 1
    except RuntimeError:
        break
if count > 1000:
    raise RuntimeError("thousands of threads")
return alphas_cumprod
"""
EATS = """
held = []
while True:
    held.append(bytearray(b"x" * 50_000_000))
"""
FILLS = """
import os
written = 0
for number in range(100_000):
    try:
        with open(f"/tmp/{number}", "wb") as file:
            written += file.write(b"x" * 8_000_000)
    except OSError:
        break
if written > 1_000_000_000:
    raise RuntimeError("a gigabyte on the disk")
return alphas_cumprod
"""
FILES = """
import os
os.chdir("/tmp")
for _ in range(2000):
    os.mkdir("d")
    os.chdir("d")
return alphas_cumprod
"""
MANY_FILES = """
import os
os.mkdir("/tmp/many")
for number in range(20_000):
    open(f"/tmp/many/{number}", "w").close()
os.chmod("/tmp/many", 0)
return alphas_cumprod
"""
DESCRIPTORS = """
import os
while True:
    os.pipe()
"""
PRINTS = """
import os, sys
line = "x" * 10_000_000
for _ in range(100):
    print(line)
    print(line, file=sys.stderr)
    for number in (0, 1, 2):
        try:
            os.write(number, line.encode())
        except OSError:
            pass
return alphas_cumprod
"""
HANGS_IN_STR = """
class Slow(Exception):
    def __str__(self):
        while True:
            pass
raise Slow
"""
RECURSES = """
import ctypes, sys
sys.setrecursionlimit(10**9)
def deeper(n):
    return deeper(n + 1) + 1
deeper(0)
"""
LIST = """
inner = []
for _ in range(5000):
    inner = [inner]
return inner
"""
ITSELF = """
around = []
around.append(around)
return around
"""
MANY_ANSWERS = """
return [[float(i)] * 1000 for i in range(3000)]
"""
STAYS_AT_LOADING = """
import time


def rest(seconds=time.sleep(10**6)):
    return seconds
"""
NEEDS_REST = {"snr": "def snr(alphas_cumprod):\n    return rest(alphas_cumprod)\n"}


def does(name: str, tries: str, body: str, **more) -> Attack:
    return Attack(name, tries, snr(body), **more)


ATTACKS = [
    does("endless-loop", "a loop without end", "while True: pass", says="never ends"),
    does("shrugs-signals-off", "a loop that ignores every signal", SHRUGS, says="never ends|crash"),
    does("sleeps", "a sleep without end", "import time; time.sleep(10**9)", says="No answer"),
    Attack(
        "sleeps-at-loading",
        "no test of the notebook ever begins",
        NEEDS_REST,
        cells=(STAYS_AT_LOADING,),
        score=0,
        says="No answer",
    ),
    does("computes-for-ever", "one instruction that takes years", "return 9 ** 9 ** 9 ** 9"),
    does(
        "matches-for-ever",
        "a pattern that takes years",
        "import re\nre.match('(a|aa)+$', 'a' * 100 + 'b')",
    ),
    does("hangs-in-str", "an error that never says what it is", HANGS_IN_STR, says="never ends"),
    does("fork-bomb", "processes without end", FORKS),
    does("spawns", "other programs", SPAWNS),
    does("thread-bomb", "threads without end", THREADS),
    does("hundred-gigabytes", "100 GB at once", "return torch.zeros(25_000_000_000)"),
    does("eats-memory", "all the memory there is", EATS),
    does(
        "expanded-tensor",
        "a tensor of a trillion elements that takes no memory",
        "return torch.zeros(1).expand(10**12)",
        says="larger|more data",
    ),
    does("large-answer", "an answer of 250 MB", "return torch.zeros(10**7 * 6)"),
    does("many-answers", "an answer of three million numbers", MANY_ANSWERS),
    does("deep-answer", "a list in a list in a list", LIST),
    does("endless-answer", "a list that holds itself", ITSELF),
    does("fills-the-disk", "a full disk", FILLS),
    does("deep-folders", "folders too deep to be removed", FILES),
    does("many-files", "files that nobody may remove", MANY_FILES),
    does(
        "many-descriptors", "no file left to open", DESCRIPTORS, says="Too many open files|EMFILE"
    ),
    does("prints-gigabytes", "gigabytes of output", PRINTS),
    does("long-message", "an error message of a gigabyte", "raise ValueError('x' * 10**9)"),
    does(
        "segfault", "a crash in C", "import ctypes; ctypes.string_at(0)", says="SIGSEGV", quick=True
    ),
    does("leaves-at-once", "an end without a word", "import os; os._exit(0)", says="ended Python"),
    does("kills-itself", "a violent end", "import os; os.kill(os.getpid(), 9)", says="SIGKILL"),
    does(
        "stops-itself",
        "a stop without an end",
        "import os; os.kill(os.getpid(), 19)",
        says="No answer",
    ),
    does("aborts", "a core dump", "import os; os.abort()", says="SIGABRT"),
    does(
        "becomes-another",
        "another program in its place",
        "import os; os.execv('/bin/sleep', ['sleep', '1000'])",
    ),
    does(
        "recurses",
        "a stack without end",
        RECURSES,
        says="recursion|SIGSEGV|crash|No answer|never ends",
    ),
]
