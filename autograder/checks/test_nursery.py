"""One loaded torch for many submissions, and nothing that passes from one to the next."""

import os
import shutil
import time
from pathlib import Path

import psutil
import pytest

from autograder import sandbox
from autograder.extract import Piece, Submission
from autograder.lesson import get_lesson
from autograder.nursery import Nursery
from autograder.process import Worker, WorkerUnavailable
from autograder.remote import RemoteCrash, RemoteError, Student

PROBE = """
import os, time

def write():
    made = []
    for folder in ("/tmp", "/dev/shm", "/dev", "/proc", "/stage", "/", "/usr", "/etc", os.getcwd()):
        try:
            with open(folder + "/left_behind", "w") as file:
                file.write("x")
            made.append(folder)
        except OSError:
            pass
    return made

def listed(folder):
    return sorted(os.listdir(folder))

def facts():
    return [os.getppid(), os.getuid(), os.getpid()]

def refused():
    import ctypes, socket
    libc, found = ctypes.CDLL(None), []
    calls = {"mount": (b"x", b"/tmp", b"tmpfs", 0, None), "unshare": (0x10000000,),
             "chroot": (b"/tmp",), "sethostname": (b"x", 1), "umount2": (b"/proc", 2)}
    return [name for name, arguments in calls.items() if getattr(libc, name)(*arguments) == -1]

def open_files():
    found = []
    for number in range(3, 256):
        try:
            os.fstat(number)
            found.append(number)
        except OSError:
            pass
    return found

def ends():
    os._exit(3)

def sleeps():
    time.sleep(1000)
"""


@pytest.fixture(scope="module")
def nursery():
    if not sandbox.detect().is_sandbox:
        pytest.skip("there is no bubblewrap here")
    with Nursery(get_lesson(1)) as nursery:
        if not nursery.is_shared:
            pytest.skip(f"namespaces cannot be nested here: {nursery.why_slow}")
        yield nursery


@pytest.fixture
def student(nursery):
    """A submission's own worker, with the probe as its answer."""
    with nursery.worker() as worker:
        yield Student(worker, Submission((Piece("cell 1", PROBE),)))


def test_only_tmp_can_be_written(student):
    assert set(student.write()) == {"/tmp"}


def test_a_submission_finds_nothing_of_the_last(nursery):
    submission = Submission((Piece("cell 1", PROBE),))
    with nursery.worker() as first:
        assert "/tmp" in Student(first, submission).write()
        with nursery.worker() as beside:  # while the first one still runs
            assert Student(beside, submission).listed("/tmp") == []
    with nursery.worker() as after:
        assert Student(after, submission).listed("/tmp") == []


def test_it_sees_no_process_but_its_own(student):
    assert not [name for name in student.listed("/proc") if name.isdigit() or name == "self"]
    parent, user, own = student.facts()
    assert parent == 1 and own < 10 and user == 65534


def test_it_has_no_rights_and_no_open_files(student):
    assert set(student.refused()) == {"mount", "unshare", "chroot", "sethostname", "umount2"}
    assert len(student.open_files()) <= 1  # its line to the worker


def test_the_zygote_shares_no_writable_memory(nursery):
    """Memory that is mapped as shared would cross forks; files that nobody can write do not."""
    zygote = _zygote(nursery)
    lines = Path(f"/proc/{zygote.pid}/maps").read_text().splitlines()
    assert [line for line in lines if line.split()[1][1] == "w" and line.split()[1][3] == "s"] == []


def test_one_that_ends_itself_harms_nobody(nursery):
    submission = Submission((Piece("cell 1", PROBE),))
    with nursery.worker() as worker:
        with pytest.raises(RemoteCrash, match="exit status 3"):
            Student(worker, submission).ends()
        assert Student(worker, submission).listed("/tmp") == []
    with nursery.worker() as worker:
        assert Student(worker, submission).facts()[0] == 1


def test_what_hangs_ends_with_its_connection(nursery):
    zygote = _zygote(nursery)
    worker = nursery.worker()
    hanging = Student(worker, Submission((Piece("cell 1", PROBE),)))
    hanging._connection.send({"do": "call", "name": "sleeps", "args": [], "kwargs": {}})
    assert zygote.children()
    worker.close()
    deadline = time.monotonic() + 60
    while any(each.status() != psutil.STATUS_ZOMBIE for each in zygote.children(recursive=True)):
        assert time.monotonic() < deadline, "the worker outlives its connection"
        time.sleep(0.05)


def test_the_address_is_not_shown(student, nursery):
    assert nursery._address.exists()
    with pytest.raises(RemoteError, match="FileNotFoundError"):
        student.listed(str(nursery._address.parent))


def test_without_a_zygote_each_submission_loads_torch_itself(tiny):
    with Nursery(tiny, sandbox.Mode("plain", "for this test")) as nursery:
        assert not nursery.is_shared and "plain" in nursery.why_slow
        with nursery.worker() as worker:
            assert type(worker) is Worker


@pytest.mark.skipif(not shutil.which("bwrap"), reason="there is no bubblewrap here")
def test_an_environment_that_forks_would_not_see_gets_no_zygote(tiny, monkeypatch):
    monkeypatch.setattr(sandbox, "python_folders", lambda: ["/opt/python", "/tmp/course/.venv"])
    with Nursery(tiny, sandbox.Mode("bubblewrap", "for this test")) as nursery:
        assert not nursery.is_shared and "/tmp/course/.venv lies in /tmp" in nursery.why_slow
        with nursery.worker() as worker:
            assert type(worker) is Worker


def test_a_zygote_that_is_gone_is_named(nursery):
    worker = nursery.worker()
    worker._address = Path(os.devnull)
    with pytest.raises(WorkerUnavailable, match="does not answer"):
        worker.begin_session()


def _zygote(nursery: Nursery) -> psutil.Process:
    """The Python process inside the two of bubblewrap."""
    inside = psutil.Process(nursery._process.pid).children(recursive=True)
    return next(each for each in inside if "python" in each.name())
