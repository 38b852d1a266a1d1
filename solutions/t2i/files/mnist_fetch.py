"""MNIST, fetched once through torchvision, or a notice that the course goes on without it."""

import os
import queue
import shutil
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

from t2i.files.mnist_files import SPLITS, DataError, check_files, data_folder, is_whole

NETWORK_SECONDS = 8.0  # how long a silent network may take before the course goes on without it
_NOTICE = (
    "NOTICE: MNIST cannot be had here ({why}), so scikit-learn's 1,797 small digits, enlarged to "
    "28x28, stand in for it: everything runs, but results will differ from the lesson's."
)
_why_without: str | None = None  # why, once it is known that this process goes without


def fetch_again(error: DataError) -> Path:
    """Replace a damaged copy in the repository's own data folder; elsewhere, pass the error on."""
    if os.environ.get("T2I_DATA"):
        raise error
    print(f"{error} Trying to download it now.", file=sys.stderr)
    folder = fetch()
    if folder is None:
        raise error
    return folder


def fetch() -> Path | None:
    """Download MNIST beside its place, check it, then move it there in one step.

    Returns:
        The data folder; None, after the notice, where the network does not give it.
    """
    if _why_without is not None:
        return None
    folder = data_folder()
    with _scratch(folder) as scratch:
        mirror = _answering_mirror()
        if mirror is None:
            return _go_without("there is neither a copy nor a network")
        print(f"Downloading MNIST (11 MB) to {folder}", file=sys.stderr)
        try:
            _download(scratch, mirror)
        except (OSError, EOFError, RuntimeError, HTTPException, DataError) as error:
            return _go_without(f"the download failed: {_first_line(error)}")
        _move_into_place(scratch / "MNIST" / "raw", folder, scratch / "damaged")
    return folder


def _move_into_place(whole: Path, folder: Path, damaged: Path) -> None:
    """Put a whole copy where it belongs, unless another process has just done so."""
    place = folder / "MNIST" / "raw"
    place.parent.mkdir(exist_ok=True)
    for _ in range(3):
        if is_whole(folder):
            return
        with suppress(OSError):  # somebody was quicker: look again
            if place.exists():
                place.rename(damaged)
            whole.rename(place)
    if not is_whole(folder):
        raise DataError(f"{place} cannot be replaced by a whole copy: delete it and run again.")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:100]


def why_without() -> str | None:
    """Why this process goes without MNIST, once that is known."""
    return _why_without


def _go_without(why: str) -> None:
    global _why_without
    _why_without = why
    print(_NOTICE.format(why=why), file=sys.stderr, flush=True)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder beside the data that vanishes afterwards, and what a killed run left of one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".mnist-", dir=folder))
    except OSError as error:
        raise DataError(
            f"{folder} holds no MNIST/raw and cannot be written ({error.strerror}): set T2I_DATA "
            f"to a folder that holds MNIST/raw, or to one that can be written."
        ) from None
    for left in folder.glob(".mnist-*"):
        with suppress(FileNotFoundError):  # another process was quicker
            if left.stat().st_mtime < time.time() - 3600:
                shutil.rmtree(left, ignore_errors=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def torchvision_mnist() -> type:
    """torchvision's MNIST."""
    from torchvision import datasets  # a second's import, for those who load MNIST alone

    return datasets.MNIST


def _answering_mirror() -> str | None:
    """The first of torchvision's mirrors to answer within `NETWORK_SECONDS`, if one does."""
    if os.environ.get("T2I_OFFLINE", "0") not in ("", "0"):
        return None
    answers: queue.Queue[str | None] = queue.Queue()
    mirrors, smallest = torchvision_mnist().mirrors, torchvision_mnist().resources[-1][0]
    for mirror in mirrors:
        threading.Thread(target=_knock, args=(mirror, smallest, answers), daemon=True).start()
    deadline = time.monotonic() + NETWORK_SECONDS
    for _ in mirrors:
        try:
            answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None
        if answer is not None:
            return answer
    return None


def _knock(mirror: str, smallest: str, answers: "queue.Queue[str | None]") -> None:
    try:
        urllib.request.urlopen(mirror + smallest, timeout=NETWORK_SECONDS).close()
    except (OSError, ValueError, HTTPException):  # URLError is an OSError
        answers.put(None)
    else:
        answers.put(mirror)


def _download(scratch: Path, mirror: str) -> None:
    """Let torchvision fetch and unpack the four files into `scratch/MNIST/raw`; check them."""
    source = type("MNIST", (torchvision_mnist(),), {"mirrors": [mirror]})
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_SECONDS)
    try:
        source(scratch, download=True)
    finally:
        socket.setdefaulttimeout(patience)
    for archive in (scratch / "MNIST" / "raw").glob("*.gz"):
        archive.unlink()
    for split in SPLITS:
        check_files(scratch, split)
