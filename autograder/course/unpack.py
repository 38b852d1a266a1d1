"""The files of a download: of a folder, or of a zip with zips in it, read with care.

A zip comes from outside. Names in it may point anywhere, and a small file may unpack to one that
fills the disk. So nothing is unpacked in place: names are cleaned, only notebooks and zips are
read, and each of them only as far as a notebook may be long.
"""

import datetime
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from autograder.cells import MAX_NOTEBOOK_BYTES
from autograder.course.who import is_notebook

MAX_INNER_ZIP_BYTES = 200_000_000  # of one zip inside another, packed and unpacked
MAX_INNER_FILES = 5_000
MAX_DEPTH = 3  # zips in zips in the zip
_NOISE = {"__MACOSX", ".ipynb_checkpoints", "__pycache__", ".git", ".venv"}


@dataclass(frozen=True)
class Found:
    """One file of a download; `content` is None where it is no notebook or was not read."""

    path: PurePosixPath  # cleaned, below the folder or the zip
    when: datetime.datetime | None  # with a time zone
    content: Path | None = None  # a copy of the notebook, at most a byte longer than is read
    inside: PurePosixPath | None = None  # its place in a zip that lies at `path`
    problem: str = ""  # why a notebook or a zip was not read

    @property
    def name(self) -> str:
        """The file's own name, without the folders around it."""
        return (self.inside or self.path).name


@dataclass
class Reader:
    """Reads a download; the notebooks' copies go into a folder of the caller's.

    Args:
        scratch: an empty folder for them.
        zone: of the times in a zip, which say none; by default this machine's.
    """

    scratch: Path
    zone: datetime.tzinfo | None = None
    count: int = 0

    def files(self, download: Path) -> Iterator[Found]:
        """Every file of a folder or a zip, and of the zips in it; noise of systems is left out.

        Args:
            download: a folder or a .zip file.

        Raises:
            zipfile.BadZipFile: the download is a file, but no zip.
        """
        if download.is_dir():
            yield from self._of_folder(download)
        else:
            with zipfile.ZipFile(download) as archive:
                yield from self._of_zip(archive, depth=1)

    def _of_folder(self, folder: Path) -> Iterator[Found]:
        for top, folders, names in os.walk(folder):
            folders[:] = sorted(each for each in folders if each not in _NOISE)
            for name in sorted(names):
                path = Path(top, name)
                place = PurePosixPath(path.relative_to(folder).as_posix())
                if name.startswith(".") or _noise(place):
                    continue
                status = path.lstat()
                if not stat.S_ISREG(status.st_mode):
                    yield Found(place, None, problem="it is a link or no ordinary file")
                    continue
                when = datetime.datetime.fromtimestamp(status.st_mtime, tz=datetime.UTC)
                try:
                    with path.open("rb") as stream:
                        yield from self._read(place, when, stream, depth=0)
                except OSError as error:
                    yield Found(place, when, problem=f"it cannot be read ({error.strerror})")

    def _of_zip(self, archive: zipfile.ZipFile, depth: int) -> Iterator[Found]:
        for info in archive.infolist():
            place = _cleaned(info)
            if info.is_dir() or place is None or _noise(place):
                continue
            when = _time(info, self.zone)
            if stat.S_ISLNK(info.external_attr >> 16):
                yield Found(place, when, problem="it is a link")
            elif info.flag_bits & 1:
                yield Found(place, when, problem="it is encrypted")
            else:
                try:
                    with archive.open(info) as stream:
                        yield from self._read(place, when, stream, depth)
                except Exception as error:  # a damaged zip fails in many ways
                    yield Found(place, when, problem=f"it cannot be unpacked ({error})")

    def _read(
        self,
        place: PurePosixPath,
        when: datetime.datetime | None,
        stream: IO[bytes],
        depth: int,
    ) -> Iterator[Found]:
        kind = place.suffix.lower()
        if is_notebook(place.name):
            self.count += 1
            copy = self.scratch / f"{self.count:06d}.ipynb"
            copy.write_bytes(stream.read(MAX_NOTEBOOK_BYTES + 1))
            yield Found(place, when, copy)
        elif kind == ".zip" and depth >= MAX_DEPTH:
            yield Found(place, when, problem=f"more than {MAX_DEPTH} zips lie in one another")
        elif kind == ".zip":
            yield from self._inner(place, when, stream, depth)
        else:
            yield Found(place, when)

    def _inner(
        self,
        place: PurePosixPath,
        when: datetime.datetime | None,
        stream: IO[bytes],
        depth: int,
    ) -> Iterator[Found]:
        """What lies in a zip that somebody handed in: all of it was handed in when the zip was."""
        with tempfile.TemporaryFile() as copy:
            left = MAX_INNER_ZIP_BYTES
            while chunk := stream.read(min(1 << 20, left + 1)):
                left -= len(chunk)
                if left < 0:
                    limit = MAX_INNER_ZIP_BYTES // 10**6
                    yield Found(place, when, problem=f"the zip is larger than {limit} MB")
                    return
                copy.write(chunk)
            try:
                with zipfile.ZipFile(copy) as archive:
                    if len(archive.infolist()) > MAX_INNER_FILES:
                        said = f"the zip holds more than {MAX_INNER_FILES} files"
                        yield Found(place, when, problem=said)
                        return
                    left = MAX_INNER_ZIP_BYTES
                    for found in self._of_zip(archive, depth + 1):
                        left -= found.content.stat().st_size if found.content else 0
                        if left < 0:
                            limit = MAX_INNER_ZIP_BYTES // 10**6
                            said = f"its notebooks unpack to more than {limit} MB"
                            yield Found(place, when, problem=said)
                            return
                        inside = found.path / (found.inside or "")
                        yield Found(place, when, found.content, inside, found.problem)
            except (zipfile.BadZipFile, ValueError, OSError) as error:
                yield Found(place, when, problem=f"the zip is damaged ({error})")


def _cleaned(info: zipfile.ZipInfo) -> PurePosixPath | None:
    """A name of a zip as a path below it: no root, no drive, no `..`; readable where it can be."""
    name = info.orig_filename.split("\0")[0]
    if not info.flag_bits & 0x800:  # nobody said UTF-8, but most write it
        try:
            name = name.encode("cp437").decode("utf-8")
        except (UnicodeEncodeError, UnicodeDecodeError):
            pass
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if parts and parts[0].endswith(":"):
        parts = parts[1:]
    return PurePosixPath(*parts) if parts else None


def _noise(place: PurePosixPath) -> bool:
    hidden = place.name.startswith("._") or place.name in (".DS_Store", "Thumbs.db")
    return hidden or bool(_NOISE & set(place.parts))


def _time(info: zipfile.ZipInfo, zone: datetime.tzinfo | None) -> datetime.datetime | None:
    try:
        local = datetime.datetime(*info.date_time)
    except ValueError:
        return None
    if local.year <= 1980:  # the year of those who know no time
        return None
    local = local.replace(tzinfo=zone) if zone else local
    return local.astimezone(datetime.UTC)
