"""Mishaps of the format: versions of nbformat, ids, metadata, and what a notebook carries."""

import copy

from autograder.tests.mishaps import Mishap, cell_of, code


def minor(number: int):
    def change(notebook: dict) -> None:
        notebook["nbformat_minor"] = number
        if number < 5:
            for cell in notebook["cells"]:
                cell.pop("id", None)

    return change


def third(notebook: dict) -> None:
    """Saved "as version 3": worksheets, inputs instead of sources, headings of their own."""
    cells = notebook.pop("cells")
    for cell in cells:
        cell.pop("id", None)
        if cell["cell_type"] == "code":
            cell["input"] = cell.pop("source")
            cell["language"] = "python"
            cell["prompt_number"] = cell.pop("execution_count", None)
    heading = {"cell_type": "heading", "level": 1, "metadata": {}, "source": "Lesson 1"}
    notebook["worksheets"] = [{"cells": [heading, *cells], "metadata": {}}]
    notebook.update(nbformat=3, nbformat_minor=0)


def no_version(notebook: dict) -> None:
    del notebook["nbformat"], notebook["nbformat_minor"]


def same_ids(notebook: dict) -> None:
    for cell in notebook["cells"]:
        cell["id"] = "the-same"


def odd_ids(notebook: dict) -> None:
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = [None, 7, "", "a b ä", "x" * 200][number % 5]


def no_ids(notebook: dict) -> None:
    for cell in notebook["cells"]:
        cell.pop("id", None)


def no_metadata(notebook: dict) -> None:
    notebook["metadata"] = {}
    for cell in notebook["cells"]:
        cell["metadata"] = {}


def null_metadata(notebook: dict) -> None:
    notebook["metadata"] = None
    for cell in notebook["cells"]:
        cell["metadata"] = None


def lost_keys(notebook: dict) -> None:
    notebook.pop("metadata")
    for cell in notebook["cells"]:
        for key in ("metadata", "outputs", "execution_count"):
            cell.pop(key, None)


def odd_cells(notebook: dict) -> None:
    notebook["cells"][3:3] = [
        None,
        "text",
        {},
        {"cell_type": "heading", "level": 2, "source": "?", "metadata": {}},
        code(None),
        code(["x = 1\n", None, 3]),
        code({"x": 1}),
    ]


def lines(notebook: dict) -> None:
    for cell in notebook["cells"]:
        source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        cell["source"] = source.splitlines(keepends=True)


def carriage_returns(mark: str):
    def change(notebook: dict) -> None:
        for cell in notebook["cells"]:
            source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
            cell["source"] = source.replace("\n", mark)

    return change


def outputs(notebook: dict) -> None:
    picture = {"image/png": "iVBORw0KGgo" * 10_000, "text/plain": "<Figure>"}
    for number, cell in enumerate(c for c in notebook["cells"] if c["cell_type"] == "code"):
        cell["execution_count"] = number
        cell["outputs"] = [
            {"output_type": "stream", "name": "stderr", "text": "Warning: noise\n" * 3000},
            {"output_type": "display_data", "data": picture, "metadata": {}},
        ]


def failed_run(notebook: dict) -> None:
    error = {"output_type": "error", "ename": "NameError", "evalue": "x", "traceback": ["x"]}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [copy.deepcopy(error)]


def running(notebook: dict) -> None:
    """Saved in the middle of a run: some cells have a number, one a star, the rest nothing."""
    number = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            number += 1
            cell["execution_count"] = number if number < 9 else None
            cell["metadata"]["execution"] = {"iopub.status.busy": "2026-11-30T23:58:59.12Z"}
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "10%|█ "}]


def widgets(notebook: dict) -> None:
    state = {f"{n:032x}": {"model_name": "FloatProgressModel", "state": {"value": float("nan")}}
             for n in range(2000)}  # fmt: skip
    kind = "application/vnd.jupyter.widget-state+json"
    notebook["metadata"]["widgets"] = {kind: {"state": state, "version_major": 2}}
    cell_of(notebook, "snr")["outputs"] = [
        {"output_type": "display_data", "metadata": {}, "data": {
            "application/vnd.jupyter.widget-view+json": {"model_id": "f" * 32}}}
    ]  # fmt: skip


def no_code(notebook: dict) -> None:
    notebook["cells"] = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]


def no_cells(notebook: dict) -> None:
    notebook["cells"] = []


MISHAPS = [
    *(
        Mishap(f"format-4.{number}", f"saved by a Jupyter of version 4.{number}", minor(number))
        for number in range(6)
    ),
    Mishap("format-3", "saved by a program of 2014", third, quick=True),
    Mishap("format-5", "saved by a program to come", lambda nb: nb.update(nbformat=5)),
    Mishap(
        "format-in-words", "a program that writes it as text", lambda nb: nb.update(nbformat="4")
    ),
    Mishap("no-version", "a program that forgets it", no_version),
    Mishap("same-ids", "cells copied with their ids", same_ids),
    Mishap("odd-ids", "ids that no notebook may have", odd_ids),
    Mishap("no-ids", "a program that drops the ids of 4.5", no_ids),
    Mishap("no-metadata", "metadata stripped before a commit", no_metadata),
    Mishap("null-metadata", "a converter that writes null", null_metadata),
    Mishap("lost-keys", "cells without outputs, metadata and counts", lost_keys),
    Mishap("odd-cells", "a converter that left rubbish between the cells", odd_cells),
    Mishap("sources-as-lines", "sources as lists of lines", lines),
    Mishap("crlf-in-cells", "Windows' line ends inside the cells", carriage_returns("\r\n")),
    Mishap("cr-in-cells", "an old Mac's line ends inside the cells", carriage_returns("\r")),
    Mishap("large-outputs", "megabytes of warnings and pictures", outputs),
    Mishap("failed-run", "every cell shows an error", failed_run),
    Mishap("saved-while-running", "handed in before it had run through", running),
    Mishap("widgets", "the state of two thousand progress bars", widgets),
    Mishap("no-code", "only the text is left", no_code, None, 0, True, "no code"),
    Mishap("no-cells", "a fresh, empty notebook", no_cells, None, 0, True, "no code"),
]
