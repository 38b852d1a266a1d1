"""Mishaps of editors and services: Colab, VS Code, other kernels, cells moved, split and lost."""

import copy

from autograder.tests.mishaps import ANSWERS, POINTS, RIGHT, Mishap, cell_of, code, put

COLAB = """from google.colab import drive, files
drive.mount("/content/drive")
%cd /content/drive/MyDrive
!pip install -q diffusers
uploaded = files.upload()
"""


def colab(notebook: dict) -> None:
    """Opened in Colab: its own metadata everywhere, ids moved, a badge and its imports on top."""
    notebook["metadata"] = {
        "colab": {"provenance": [], "toc_visible": True, "gpuType": "T4"},
        "accelerator": "GPU",
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
    }
    notebook.update(nbformat=4, nbformat_minor=0)
    for number, cell in enumerate(notebook["cells"]):
        cell["metadata"] = {"id": f"{number:012x}", "colab": {"base_uri": "https://localhost:8080"}}
        cell.pop("id", None)
    badge = {"cell_type": "markdown", "metadata": {"id": "view-in-github"}, "source": "<a></a>"}
    notebook["cells"][:0] = [badge, code(COLAB)]


def colab_imports(notebook: dict) -> None:
    """Colab's imports in the very cell of the lesson's own."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "import torch" in source:
            cell["source"] = (
                "from google.colab import drive\nimport google.colab.data_table\n" + source
            )
            return


def colab_in_exercise(notebook: dict) -> None:
    cell = cell_of(notebook, "snr")
    cell["source"] = COLAB + cell["source"]


def vs_code(notebook: dict) -> None:
    notebook["metadata"] = {
        "kernelspec": {"display_name": ".venv (3.13.1)", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "version": "3.13.1", "file_extension": ".py"},
        "orig_nbformat": 4,
    }
    for cell in notebook["cells"]:
        cell["metadata"]["vscode"] = {"languageId": "python"}


def kernel(name: str, language: str):
    def change(notebook: dict) -> None:
        spec = {"name": name, "display_name": name, "language": language}
        notebook["metadata"] = {"kernelspec": spec, "language_info": {"name": language}}

    return change


def paired(notebook: dict) -> None:
    notebook["metadata"]["jupytext"] = {"formats": "ipynb,py:percent", "main_language": "python"}
    put(notebook, "# %% [markdown]\n# notes\n# +\n# -")


def pasted_twice(notebook: dict) -> None:
    notebook["cells"] = [each for cell in notebook["cells"] for each in (cell, copy.deepcopy(cell))]


def whole_twice(notebook: dict) -> None:
    """The blank lesson pasted once more below the solved one."""
    blank = copy.deepcopy(notebook["cells"])
    for cell in blank:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if name in ANSWERS:
            cell["source"] = f'def {name}(*args):\n    raise NotImplementedError("not yet")\n'
    notebook["cells"] += blank


def old_attempt_kept(notebook: dict) -> None:
    put(notebook, "def snr(alphas_cumprod):\n    return alphas_cumprod  # first try", before="snr")


def split_with_helper(notebook: dict) -> None:
    """The exercise's cell split between a helper and the definition."""
    source = "def snr(alphas_cumprod):\n    return _ratio(alphas_cumprod)\n"
    cell_of(notebook, "snr")["source"] = "def _ratio(a):\n    return a / (1 - a)\n"
    put(notebook, source, after="snr")


def split_inside(notebook: dict) -> None:
    """Split in the middle of the function: neither half is what was asked for."""
    head, body = ANSWERS["snr"].rstrip("\n").split("\n")
    cell_of(notebook, "snr")["source"] = f'{head}\n    """Signal to noise."""\n'
    put(notebook, body, after="snr")


def merged(notebook: dict) -> None:
    """An exercise and its checks in one cell."""
    check = cell_of(notebook, "check-snr")
    cell_of(notebook, "snr")["source"] += "\n\n" + "".join(check["source"])
    notebook["cells"].remove(check)


def turned_to_text(notebook: dict) -> None:
    cell = cell_of(notebook, "snr")
    cell["cell_type"] = "markdown"
    for key in ("outputs", "execution_count"):
        cell.pop(key, None)


def lost(*names: str):
    def change(notebook: dict) -> None:
        for name in names:
            notebook["cells"].remove(cell_of(notebook, name))

    return change


def checks_lost(notebook: dict) -> None:
    lost(*(f"check-{name}" for name in POINTS))(notebook)


def moved(notebook: dict) -> None:
    """The exercises and checks in the opposite order, at the end."""
    graded = [cell for cell in notebook["cells"] if "nbgrader" in cell["metadata"]]
    rest = [cell for cell in notebook["cells"] if "nbgrader" not in cell["metadata"]]
    notebook["cells"] = rest + graded[::-1]


def elsewhere(notebook: dict) -> None:
    """Answered in a new cell, the stub left as it was."""
    put(notebook, ANSWERS["snr"], after="snr")
    stub = 'def snr(alphas_cumprod):\n    raise NotImplementedError("snr is not written yet")\n'
    cell_of(notebook, "snr")["source"] = stub


def given_cells_lost(notebook: dict) -> None:
    """All cells that were given are gone: imports, `gather`, pictures."""
    kept = [cell for cell in notebook["cells"] if "nbgrader" in cell["metadata"]]
    notebook["cells"] = kept


MISHAPS = [
    Mishap("colab", "worked in Colab", colab, quick=True),
    Mishap("colab-imports", "Colab's imports beside the lesson's", colab_imports),
    Mishap("colab-in-exercise", "Colab's lines in an exercise's cell", colab_in_exercise),
    Mishap("vs-code", "worked in VS Code", vs_code),
    Mishap("kernel-of-a-venv", "a kernel that nobody else has", kernel("my-venv-3.14", "python")),
    Mishap("kernel-r", "the wrong kernel chosen", kernel("ir", "R")),
    Mishap("paired", "paired with a script by jupytext", paired),
    Mishap("pasted-twice", "every cell pasted twice", pasted_twice),
    Mishap("blank-below", "the blank lesson pasted below the solved one", whole_twice),
    Mishap("old-attempt-kept", "the first attempt kept above", old_attempt_kept),
    Mishap("split-with-helper", "a cell split between helper and answer", split_with_helper),
    Mishap(
        "split-inside",
        "a cell split inside its function",
        split_inside,
        score=RIGHT - POINTS["snr"],
    ),  # fmt: skip
    Mishap("merged-cells", "an exercise merged with its checks", merged),
    Mishap(
        "turned-to-text",
        "an exercise's cell turned into text by a key",
        turned_to_text,
        score=RIGHT - POINTS["snr"],
        says="Nothing called snr is defined",
    ),
    Mishap(
        "lost-exercise",
        "an exercise's cell deleted",
        lost("snr"),
        score=RIGHT - POINTS["snr"],
        says="Nothing called snr is defined",
        quick=True,
    ),
    Mishap("lost-checks", "all cells with checks deleted", checks_lost),
    Mishap("moved", "the exercises moved to the end, in another order", moved),
    Mishap("answered-elsewhere", "answered in a new cell below the stub", elsewhere),
    Mishap("given-cells-lost", "only the exercises kept", given_cells_lost),
]
