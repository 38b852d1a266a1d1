"""How long the solved notebooks take from top to bottom, and how much memory.

`make time-notebooks` runs them one after the other and writes data/notebooks.json. Run it while
nothing else runs.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from autograder.build import write
from autograder.lesson import Lesson
from autograder.solve import NotebookFailed, execute, solved
from t2i.files.results import changing_json

FIGURES = Path(__file__).resolve().parents[1] / "data" / "notebooks.json"
LIMIT = 3600.0  # seconds; ten minutes are the aim, and what takes longer should be seen too
ASK = """
import json, torch
from t2i.files.results import machine, peak_memory
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
told = {"peak_memory_bytes": peak_memory(), "machine": machine(device)}
if device.type == "cuda":
    told["gpu_memory_bytes"] = peak_memory(device)
print(json.dumps(told))
"""


def time_notebook(lesson: Lesson, tier: str, keep: Path | None = None, grades: bool = True) -> dict:
    """Run a lesson's solved notebook as a student would, in a kernel and a folder of its own.

    Args:
        lesson: which one.
        tier: "smoke", "cpu" or "gpu".
        keep: write the notebook into this folder, as far as it ran, with all that it shows.
        grades: with the cells that grade, which take the same seconds on every card.

    Returns:
        seconds from the kernel's start to its last cell, peak_memory_bytes of the kernel's
        process, machine; and gpu_memory_bytes where there is a GPU.

    Raises:
        NotebookFailed: a cell raised, the kernel died, or the hour was up.
    """
    notebook = solved(lesson) if grades else without_grades(solved(lesson))
    notebook.cells.append(new_code_cell(ASK.strip()))
    with tempfile.TemporaryDirectory() as new:  # no training of an earlier run to go on with
        folder = shutil.copytree(lesson.folder, Path(new) / lesson.folder.name)
        try:
            seconds = execute(notebook, tier, timeout=LIMIT, folder=folder)
        finally:
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / lesson.notebook.name).write_bytes(write(notebook).encode())
    return {"seconds": round(seconds, 1)} | json.loads(printed(notebook.cells[-1]))


def printed(cell: NotebookNode) -> str:
    """What a cell printed, which may come in parts, and beside warnings."""
    return "".join(each.text for each in cell.outputs if each.get("name") == "stdout")


def without_grades(notebook: NotebookNode) -> NotebookNode:
    """The same notebook, in which nothing is graded; what else such a cell does, it does."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(r'^grade\("[^"]*"\)$', "", cell.source, flags=re.MULTILINE)
    return notebook


def main(
    lessons: Sequence[Lesson],
    tier: str = "cpu",
    figures: Path = FIGURES,
    keep: Path | None = None,
    grades: bool = True,
) -> int:
    """Time lessons and write down what came out, each as soon as it is known."""
    status = 0
    for lesson in lessons:
        print(f"lesson {lesson.number}: ", end="", flush=True)
        try:
            found = time_notebook(lesson, tier, keep, grades)
        except NotebookFailed as error:
            print(error)
            status = 1
            continue
        with changing_json(figures) as known:
            known.setdefault(tier, {})[str(lesson.number)] = found
        memory = found.get("gpu_memory_bytes", found["peak_memory_bytes"]) / 1e9
        print(f"{found['seconds'] / 60:.1f} minutes, {memory:.1f} GB on {found['machine']}")
    return status
