"""MNIST's four files: where they are, and whether they are whole."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from t2i.files.places import DATA

# The four files of MNIST, unpacked: size in bytes and MD5 (torchvision's kind of checksum).
MNIST_FILES = {
    "train-images-idx3-ubyte": (47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (60_008, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (10_008, "27ae3e4e09519cfbb04c329615203637"),
}
SPLITS = {"train": "train-", "test": "t10k-"}


class DataError(ValueError):
    """A data folder cannot be used; the message names the file and how to mend it."""


def data_folder() -> Path:
    """What T2I_DATA names, else `data/` of the repository; DataError if there is no such folder."""
    named = os.environ.get("T2I_DATA")
    if not named:
        return DATA
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"T2I_DATA names {folder}, which is not a folder: point it to the folder that holds "
            f"MNIST/raw, or unset it."
        )
    return folder


def mnist_folder() -> Path | None:
    """The folder that holds all four files; None if there is no trace of MNIST in it."""
    folder = data_folder()
    raw = folder / "MNIST" / "raw"
    missing = [name for name in MNIST_FILES if not (raw / name).is_file()]
    if not missing:
        return folder
    if len(missing) == len(MNIST_FILES):
        return None
    raise DataError(f"{raw / missing[0]} is missing while its neighbours are there: {_mend(raw)}")


def check_files(folder: Path, split: str) -> None:
    """Compare the files of one split with MNIST's sizes and checksums."""
    raw = folder / "MNIST" / "raw"
    for name, (size, checksum) in MNIST_FILES.items():
        if not name.startswith(SPLITS[split]):
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


def is_whole(folder: Path) -> bool:
    """Whether all four files lie there, as they should be."""
    with suppress(DataError):
        for split in SPLITS:
            check_files(folder, split)
        return True
    return False


def _mend(raw: Path) -> str:
    if os.environ.get("T2I_DATA"):
        return "put a whole copy there, or unset T2I_DATA and MNIST is downloaded."
    return f"delete {raw} and run again with a network, and it is downloaded afresh."
