"""Where the pictures come from: MNIST, checksummed, or scikit-learn's digits in its place.

MNIST is looked for in the data folder: the one that the environment variable `T2I_DATA` names
(it holds `MNIST/raw`, and may be read-only), else `data/` of the repository. If it is not there,
torchvision downloads it once (`T2I_OFFLINE=1` forbids that). Importing this module does none of it.

The captioned pictures of lessons 6 to 10 are painted from these digits: see `t2i.scenes`.
"""

import hashlib
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

import torch
import torch.nn.functional as F
from torch import Tensor

# The four files of MNIST, unpacked: size in bytes and MD5 (torchvision's kind of checksum).
MNIST_FILES = {
    "train-images-idx3-ubyte": (47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (60_008, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (10_008, "27ae3e4e09519cfbb04c329615203637"),
}
NETWORK_SECONDS = 8.0  # how long a silent network may take before the course goes on without it
_PREFIX = {"train": "train-", "test": "t10k-"}
_DIGITS_FOR_TRAINING = 1_500  # of scikit-learn's 1,797
_NOTICE = (
    "NOTICE: MNIST cannot be had here ({why}), so scikit-learn's 1,797 small digits, enlarged to "
    "28x28, stand in for it: everything runs, but results will differ from the lesson's."
)
_without_mnist: str | None = None  # why, once it is known that this process goes without


class DataError(ValueError):
    """A data folder cannot be used; the message names the file and how to mend it."""


def mnist(split: str = "train") -> tuple[Tensor, Tensor]:
    """The handwritten digits, as the course uses them.

    Args:
        split: "train" (60,000 pictures) or "test" (10,000).

    Returns:
        images: `(N, 1, 28, 28)`, float32 in [-1, 1]; the background is -1.
        labels: `(N,)`, int64, 0 to 9.

    Raises:
        DataError: a data folder is damaged, incomplete or cannot be written.

    Source: LeCun, Cortes, Burges (1998), "The MNIST database of handwritten digits".
    """
    if split not in _PREFIX:
        raise ValueError(f'split is "train" or "test", not {split!r}')
    try:
        folder = _mnist_folder()
        if folder is not None:
            _check(folder, split)
    except DataError as error:
        folder = _fetch_again(error)
    folder = folder or _fetch()
    if folder is None:
        return _digits(split)
    data = _torchvision_mnist()(folder, train=split == "train")
    images = data.data.float().div_(127.5).sub_(1).unsqueeze(1)
    return images, data.targets.long()


def data_source() -> str:
    """Where `mnist()` takes its pictures from, in one line; downloads nothing.

    Raises:
        DataError: a data folder is damaged or incomplete.
    """
    folder = _mnist_folder()
    if folder is not None:
        for split in _PREFIX:
            _check(folder, split)
        return f"MNIST, 60,000 + 10,000 digits, checksums right, in {folder}"
    if _without_mnist is not None:
        return f"scikit-learn's 1,797 digits, enlarged, because {_without_mnist}"
    return f"no MNIST yet: the first use downloads it (11 MB) to {_data_folder()}"


def _data_folder() -> Path:
    named = os.environ.get("T2I_DATA")
    if not named:
        return Path(__file__).resolve().parents[2] / "data"
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"T2I_DATA names {folder}, which is not a folder: point it to the folder that holds "
            f"MNIST/raw, or unset it."
        )
    return folder


def _mnist_folder() -> Path | None:
    """The folder that holds all four files; None if there is no trace of MNIST in it."""
    folder = _data_folder()
    raw = folder / "MNIST" / "raw"
    missing = [name for name in MNIST_FILES if not (raw / name).is_file()]
    if not missing:
        return folder
    if len(missing) == len(MNIST_FILES):
        return None
    raise DataError(f"{raw / missing[0]} is missing while its neighbours are there: {_mend(raw)}")


def _check(folder: Path, split: str) -> None:
    """Compare the files of one split with MNIST's sizes and checksums."""
    raw = folder / "MNIST" / "raw"
    for name, (size, checksum) in MNIST_FILES.items():
        if not name.startswith(_PREFIX[split]):
            continue
        try:
            content = (raw / name).read_bytes()
        except OSError as error:
            raise DataError(f"{raw / name} cannot be read ({error}): {_mend(raw)}") from None
        if len(content) < size:
            fault = f"is truncated ({len(content):,} of {size:,} bytes)"
        elif len(content) > size:
            fault = f"has the wrong size ({len(content):,} bytes where MNIST has {size:,})"
        elif hashlib.md5(content, usedforsecurity=False).hexdigest() != checksum:
            fault = "is corrupt (its checksum is not MNIST's)"
        else:
            continue
        raise DataError(f"{raw / name} {fault}: {_mend(raw)}")


def _is_whole(folder: Path) -> bool:
    with suppress(DataError):
        found = _mnist_folder()
        for split in _PREFIX:
            _check(folder, split)
        return found is not None
    return False


def _mend(raw: Path) -> str:
    if os.environ.get("T2I_DATA"):
        return "put a whole copy there, or unset T2I_DATA and MNIST is downloaded."
    return f"delete {raw} and run again with a network, and it is downloaded afresh."


def _fetch_again(error: DataError) -> Path:
    """Replace a damaged copy in the repository's own data folder; elsewhere, pass the error on."""
    if os.environ.get("T2I_DATA"):
        raise error
    print(f"{error} Trying to download it now.", file=sys.stderr)
    folder = _fetch()
    if folder is None:
        raise error
    return folder


def _fetch() -> Path | None:
    """Download MNIST beside its place, check it, then move it there in one step.

    Returns:
        The data folder; None, after the notice, where the network does not give it.
    """
    if _without_mnist is not None:
        return None
    folder = _data_folder()
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
        if _is_whole(folder):
            return
        with suppress(OSError):  # somebody was quicker: look again
            if place.exists():
                place.rename(damaged)
            whole.rename(place)
    if not _is_whole(folder):
        raise DataError(f"{place} cannot be replaced by a whole copy: delete it and run again.")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:100]


def _go_without(why: str) -> None:
    global _without_mnist
    _without_mnist = why
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


def _torchvision_mnist() -> type:
    from torchvision import datasets  # a second's import, for those who load MNIST alone

    return datasets.MNIST


def _answering_mirror() -> str | None:
    """The first of torchvision's mirrors to answer within `NETWORK_SECONDS`, if one does."""
    if os.environ.get("T2I_OFFLINE"):
        return None
    answers: queue.Queue[str | None] = queue.Queue()
    mirrors, smallest = _torchvision_mnist().mirrors, _torchvision_mnist().resources[-1][0]
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
    source = type("MNIST", (_torchvision_mnist(),), {"mirrors": [mirror]})
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_SECONDS)
    try:
        source(scratch, download=True)
    finally:
        socket.setdefaulttimeout(patience)
    for archive in (scratch / "MNIST" / "raw").glob("*.gz"):
        archive.unlink()
    for split in _PREFIX:
        _check(scratch, split)


def _digits(split: str) -> tuple[Tensor, Tensor]:
    """scikit-learn's handwritten digits, 8x8, enlarged; the last 297 are the test split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    cut = _DIGITS_FOR_TRAINING
    part = slice(0, cut) if split == "train" else slice(cut, None)
    small = torch.tensor(digits.images[part], dtype=torch.float32).unsqueeze(1) / 16  # (N, 1, 8, 8)
    images = F.interpolate(small, size=(28, 28), mode="bicubic", align_corners=False)
    labels = torch.tensor(digits.target[part], dtype=torch.int64)
    return images.clamp_(0, 1).mul_(2).sub_(1), labels
