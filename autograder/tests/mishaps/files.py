"""Mishaps of the file: what was handed in is cut off, of another kind, or differently encoded."""

import json

from autograder.cells import MAX_NOTEBOOK_BYTES
from autograder.tests.mishaps import Mishap


def unreadable(name: str, happened: str, content, says: str, quick: bool = False) -> Mishap:
    if isinstance(content, bytes):
        return Mishap(
            name, happened, None, lambda _: content, 0, flagged=True, says=says, quick=quick
        )
    return Mishap(name, happened, None, content, 0, flagged=True, says=says, quick=quick)


def as_script(raw: bytes) -> bytes:
    cells = json.loads(raw)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code").encode()


def merged(raw: bytes) -> bytes:
    lines = raw.decode().split("\n")
    lines[40:40] = ["<<<<<<< HEAD", lines[40], "=======", lines[40], ">>>>>>> mine"]
    return "\n".join(lines).encode()


def in_latin_1(raw: bytes) -> bytes:
    """Re-encoded by an old editor: what Latin-1 has is one byte now, the rest a question mark."""
    return raw.decode().replace("Noise", "Lärm").encode("latin-1", errors="replace")


MISHAPS = [
    unreadable("empty", "an upload of no bytes", b"", "the file is empty", quick=True),
    unreadable("blank", "a file of spaces and line ends", b" \r\n\t\n", "the file is empty"),
    unreadable("zeros", "a disk that failed while it saved", bytes(4096), "JSON is broken"),
    unreadable(
        "cut-in-half", "a broken upload", lambda raw: raw[: len(raw) // 2], "JSON is broken"
    ),
    unreadable(
        "last-bracket", "cut off just before the end", lambda raw: raw[:-2], "JSON is broken"
    ),
    unreadable("saved-twice", "two notebooks in one file", lambda raw: raw * 2, "JSON is broken"),
    unreadable("prose", "an excuse", "I forgot, sorry. Später?".encode(), "JSON is broken"),
    unreadable("pdf", "the printed notebook", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "JSON"),
    unreadable("word", "a document of a word processor", b"PK\x03\x04\x14\x00\x06\x00", "JSON"),
    unreadable("page", "saved from the browser", b"<!DOCTYPE html><html></html>", "JSON is broken"),
    unreadable("script", "exported as Python", as_script, "JSON is broken"),
    unreadable("merge-conflict", "git's marks left in", merged, "JSON is broken"),
    unreadable("a-list", "JSON, but of something else", b"[1, 2]", "not a notebook"),
    unreadable("an-object", "another JSON file", b'{"name": "package.json"}', "not a notebook"),
    unreadable("null", "a program that wrote nothing", b"null", "not a notebook"),
    unreadable(
        "too-large",
        "a hundred pictures in the outputs",
        lambda raw: raw + b" " * MAX_NOTEBOOK_BYTES,
        "larger than 20 MB: clear its outputs",
    ),
    Mishap("byte-order-mark", "saved by Windows' editor", None, lambda raw: b"\xef\xbb\xbf" + raw),
    Mishap(
        "utf-16",
        "saved by Windows' editor as Unicode",
        None,
        lambda raw: raw.decode().encode("utf-16"),
        quick=True,
    ),
    Mishap(
        "utf-16-without-mark",
        "the same, its mark lost",
        None,
        lambda raw: raw.decode().encode("utf-16-le"),
    ),  # fmt: skip
    Mishap("latin-1", "saved by an old editor", None, in_latin_1),
    Mishap("crlf", "Windows' line ends in the file", None, lambda raw: raw.replace(b"\n", b"\r\n")),
    Mishap("trailing-space", "a line added at the end", None, lambda raw: raw + b"\n\n \n"),
    Mishap(
        "one-line",
        "written without any line end",
        None,
        lambda raw: json.dumps(json.loads(raw), separators=(",", ":")).encode(),
    ),  # fmt: skip
]
