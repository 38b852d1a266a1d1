"""A folder of captioned pictures, whatever lies in it, as one tensor and a list of texts.

    folder = read_folder("my_pictures", size=32)
    folder.images()                       # (N, 3, 32, 32) in [-1, 1]
    folder.captions                       # N texts
    print(folder.report)                  # what was done to which file, and which were left out

    my_pictures/metadata.jsonl            {"file_name": "cats/one.png", "text": "a sleeping cat"}
    my_pictures/cats/one.png              (the `imagefolder` convention of Hugging Face datasets)

Nothing is written into the folder, and nothing is asked of the network. picture_files says what
becomes of a picture.
"""

import contextlib
import glob
import json
import posixpath
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from t2i.files.folders import FilesError
from t2i.files.picture_files import read_picture, to_images

METADATA, CAPTION_COLUMNS = "metadata.jsonl", ("text", "caption")
TOLD = 10  # names that a report prints of each kind


@dataclass
class Report:
    """What became of a folder's pictures: how many are used, which were changed or skipped."""

    folder: Path
    used: int = 0
    handled: dict[str, list[str]] = field(default_factory=dict)  # what was done -> files
    skipped: dict[str, list[str]] = field(default_factory=dict)  # why -> files or lines

    def handle(self, what: str, name: str) -> None:
        """Note what was done to a file that is used."""
        self.handled.setdefault(what, []).append(_printable(name))

    def skip(self, why: str, name: str) -> None:
        """Note why a file or a line is not used."""
        self.skipped.setdefault(why, []).append(_printable(name))

    def counts(self) -> dict[str, int]:
        """How many were skipped, by reason."""
        return {why: len(names) for why, names in self.skipped.items()}

    def __str__(self) -> str:
        lines = [f"{self.folder}: {self.used} pictures with captions."]
        for title, found in (("handled", self.handled), ("skipped", self.skipped)):
            for what, names in found.items():
                more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
                lines.append(f"  {title}, {what}: {len(names)} ({', '.join(names[:TOLD])}{more})")
        return "\n".join(lines)


@dataclass(frozen=True)
class PictureFolder:
    """Pictures with their captions and file names, and how they were had."""

    levels: Tensor  # (N, 3, size, size) uint8, a quarter of the room that images() needs
    captions: list[str]
    names: list[str]
    report: Report

    def images(self, rows: Sequence[int] | slice = slice(None)) -> Tensor:
        """Some of the pictures, or all: (B, 3, size, size) float32 in [-1, 1]."""
        return to_images(self.levels[rows])


def read_folder(folder: str | Path, size: int) -> PictureFolder:
    """Read all that can be read; what cannot is in the report.

    Args:
        folder: holds metadata.jsonl and pictures, in subfolders too.
        size: height and width that each picture is brought to.

    Raises:
        FilesError: no such folder, no metadata.jsonl, a line of it that is no JSON, columns
            missing, or no picture left.

    Source: https://huggingface.co/docs/datasets/image_dataset, "ImageFolder".
    """
    folder = Path(folder)
    rows = read_rows(folder)
    report, levels, captions, names = Report(folder), [], [], []
    for name, path, caption in tqdm(usable_rows(rows, folder, report), "pictures", unit="picture"):
        try:
            picture, done = read_picture(path, size)
        except Exception as error:  # a broken file can fail in as many ways as it can be broken
            report.skip("not readable as a picture", f"{name}: {error or type(error).__name__}")
            continue
        levels.append(picture)
        captions.append(caption)
        names.append(name)
        for what in done:
            report.handle(what, name)
    report.used = len(levels)
    if not levels:
        why = ", ".join(f"{count} {reason}" for reason, count in report.counts().items())
        raise FilesError(f"No picture of {folder} can be used: {why or f'{METADATA} is empty'}.")
    return PictureFolder(torch.stack(levels), captions, names, report)


def read_rows(folder: Path) -> list[tuple[int, dict]]:
    """The rows of metadata.jsonl, each with its line's number; FilesError where it is broken."""
    path = folder / METADATA
    if not folder.is_dir():
        raise FilesError(f"There is no folder {folder}: give one that holds {METADATA}.")
    if not path.is_file():
        below = [found.parent for found in sorted(folder.glob(f"*/{METADATA}"))]
        hint = f"did you mean {below[0]}?" if below else "each of its lines names a picture."
        raise FilesError(f"{path} is missing: {hint}")
    rows = []
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise FilesError(f"{path}, line {number}, is not JSON ({error}): mend it.") from None
        if not isinstance(row, dict):
            raise FilesError(f'{path}, line {number}, must be like {{"file_name": …, "text": …}}.')
        rows.append((number, row))
    columns = {column for _, row in rows for column in row}
    if rows and not ("file_name" in columns and columns & {*CAPTION_COLUMNS}):
        raise FilesError(
            f"{path} must have the columns file_name and text (or caption), it has "
            f"{', '.join(sorted(columns)) or 'none'}."
        )
    return rows


def usable_rows(
    rows: Sequence[tuple[int, dict]], folder: Path, report: Report
) -> list[tuple[str, Path, str]]:
    """File name, path and caption of each row that has them; the others are noted."""
    there = list_pictures(folder)
    alike = {_plain(name): name for name in there}
    usable, named = [], set()
    for number, row in rows:
        name = row.get("file_name")
        if not isinstance(name, str) or not name.strip():
            report.skip("without a file_name", f"line {number} of {METADATA}")
            continue
        found = name if name in there else alike.get(_plain(name))
        named.add(found)
        told = (row.get(each) for each in CAPTION_COLUMNS)
        caption = next((each for each in told if str(each or "").strip()), None)
        wrong = _wrong_caption(caption) or (None if found else _why_not_there(folder, name))
        if wrong:
            report.skip(wrong, name)
            continue
        if found != name:
            report.handle("found under another spelling of its name", name)
        usable.append((name, there[found], unicodedata.normalize("NFC", caption)))
    for name in [name for name in there if name not in named]:
        report.skip(f"without a row in {METADATA}", name)
    return usable


def list_pictures(folder: Path) -> dict[str, Path]:
    """The pictures below a folder by their names in it, as `imagefolder` finds them.

    Their captions are not read by it, and nothing is decoded: one row with a number for a text, one
    "../" in a file name or one broken file, and it would give no row at all.

    Raises:
        FilesError: they cannot be listed.
    """
    import datasets  # seconds, for those who have a folder alone

    root = folder.resolve()
    files = {"train": [f"{glob.escape(str(root))}/**"]}  # else "test" in a name would mean a split
    try:
        with _offline():
            kind = {"drop_metadata": True, "drop_labels": True, "split": "train"}
            found = datasets.load_dataset(
                "imagefolder", data_dir=str(root), data_files=files, **kind
            ).cast_column("image", datasets.Image(decode=False))
        paths = [Path(image["path"]) for image in found["image"]]
    except Exception as error:
        if "corresponds to no data" in str(error):  # not one picture
            return {}
        raise FilesError(
            f"Hugging Face datasets cannot list the pictures of {folder} ({error}): is there a "
            f"file name with :: in it, or can its cache (HF_HOME) not be written?"
        ) from error
    return {path.relative_to(root).as_posix(): path for path in paths if root in path.parents}


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Without network and without bars that speak of downloading.

    load_dataset tells a server that it was called, even where all files are at hand.
    """
    import datasets

    was, silent = datasets.config.HF_HUB_OFFLINE, datasets.are_progress_bars_disabled()
    datasets.config.HF_HUB_OFFLINE = True
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = was
        if not silent:
            datasets.enable_progress_bars()


def _wrong_caption(caption) -> str | None:
    """What is wrong with a caption, if anything."""
    if caption is None or isinstance(caption, str) and not caption.strip():
        return "without a caption"
    if not isinstance(caption, str) or caption != _printable(caption):
        return "with a caption that is no text"
    return None


def _why_not_there(folder: Path, name: str) -> str:
    if posixpath.isabs(name) or _plain(name).startswith("../"):
        return "outside of the folder"
    there = folder.joinpath(name).is_file()
    return "hidden, or of no kind that imagefolder reads" if there else "not in the folder"


def _plain(name: str) -> str:
    """One way to write a file's name: accents composed, / between folders, no detours."""
    return posixpath.normpath(unicodedata.normalize("NFC", name.replace("\\", "/")))


def _printable(text: str) -> str:
    """A text as it is, but for halves of letters, which no encoding can write."""
    return text.encode("utf-8", "backslashreplace").decode()
