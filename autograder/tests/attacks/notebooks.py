"""Undeserved points by the notebook itself: cells, ids, tags, metadata, outputs and names."""

import copy
import json
from pathlib import Path

from autograder.tests.attacks import Attack, snr

WRONG = snr("return alphas_cumprod")
RIGHT = snr("return alphas_cumprod / (1 - alphas_cumprod)")["snr"]
MARK = "the-code-beside-the-notebook-ran"


def tagged(notebook: dict, grade: bool) -> list[dict]:
    """The test cells, or the solution cells."""
    found = [cell for cell in notebook["cells"] if "nbgrader" in cell["metadata"]]
    return [cell for cell in found if cell["metadata"]["nbgrader"]["grade"] == grade]


def code(source: str, **metadata) -> dict:
    return {
        "cell_type": "code",
        "source": source,
        "metadata": metadata,
        "outputs": [],
        "execution_count": 1,
    }


def retag(notebook: dict) -> None:
    """The honest answer's cell carries the ids of all the other exercises in turn."""
    cells = tagged(notebook, grade=False)
    ids = [cell["metadata"]["nbgrader"]["grade_id"] for cell in cells]
    for cell, grade_id in zip(cells, ids[1:] + ids[:1], strict=True):
        cell["metadata"]["nbgrader"]["grade_id"] = grade_id


def same_id(notebook: dict) -> None:
    """Every cell is the exercise that was answered."""
    for grade in (True, False):
        cells = tagged(notebook, grade)
        for cell in cells:
            cell["metadata"]["nbgrader"] = dict(cells[0]["metadata"]["nbgrader"])


def duplicate_tests(notebook: dict) -> None:
    for cell in tagged(notebook, grade=True)[:1] * 20:
        notebook["cells"].append(copy.deepcopy(cell))


def delete_tests(notebook: dict) -> None:
    tests = {id(cell) for cell in tagged(notebook, grade=True)}
    notebook["cells"] = [cell for cell in notebook["cells"] if id(cell) not in tests]


def swap(notebook: dict) -> None:
    """Test cells in the place of solutions, and the other way round."""
    for test, solution in zip(tagged(notebook, True), tagged(notebook, False), strict=True):
        test["source"], solution["source"] = solution["source"], test["source"]


def worth(points):
    def change(notebook: dict) -> None:
        for cell in tagged(notebook, grade=True):
            cell["metadata"]["nbgrader"]["points"] = points

    return change


def tests_as_solutions(notebook: dict) -> None:
    """nbgrader gives no score of its own to a test cell that is a solution, a person does."""
    for cell in tagged(notebook, grade=True):
        cell["metadata"]["nbgrader"] |= {"solution": True, "locked": False}
        cell["source"] = "pass"


def forge_outputs(notebook: dict) -> None:
    result = {"output_type": "execute_result", "data": {"text/plain": "100"}, "metadata": {}}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [result | {"execution_count": 1}]
            cell["metadata"]["nbgrader"] = cell["metadata"].get("nbgrader", {}) | {
                "score": 100,
                "comment": "Full marks.",
            }


def forge_metadata(notebook: dict) -> None:
    notebook["metadata"] |= {
        "t2i": {"suite_version": "0", "sandbox": "bubblewrap", "score": 100},
        "kernelspec": {"name": "evil", "display_name": "evil", "language": "bash"},
        "language_info": {"name": "bash", "pygments_lexer": "bash"},
        "celltoolbar": "Create Assignment",
        "nbgrader": {"score": 100},
    }
    for cell in notebook["cells"]:
        cell["metadata"].setdefault("nbgrader", {})["checksum"] = "0" * 32


def executable_metadata(notebook: dict) -> None:
    notebook["metadata"]["kernelspec"] = {
        "name": "../../../../tmp/kernel",
        "display_name": "kernel",
        "argv": ["/bin/sh", "-c", f"touch $HOME/{MARK}"],
    }
    notebook["metadata"]["jupytext"] = {"formats": "ipynb,../../../../evil//py"}


def modules_beside(folder: Path, places: dict[str, Path]) -> None:
    """Everything that some program might take up from the folder that it stands in."""
    run = f"import pathlib, os; pathlib.Path(os.path.expanduser('~'), '{MARK}').touch()\n"
    names = ("torch", "numpy", "sitecustomize", "usercustomize", "conftest", "pytest", "t2i")
    for name in (*names, "nbgrader_config", "jupyter_nbconvert_config", "safetensors", "diffusers"):
        (folder / f"{name}.py").write_text(run)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --collect-only\n")
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = ["/bin/sh", "-c", f"touch $HOME/{MARK}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "language": "python"}))
    (folder / ".ipython" / "profile_default" / "startup").mkdir(parents=True)
    (folder / ".ipython" / "profile_default" / "startup" / "00.py").write_text(run)


def results_beside(folder: Path, places: dict[str, Path]) -> None:
    """What a grader might have left, forged."""
    forged = {"lesson": 1, "score": 100, "maximum": 100, "exercises": []}
    for name in ("result.json", "grades.json", "score.json", "lesson_01.json"):
        (folder / name).write_text(json.dumps(forged))
    (folder / "gradebook.db").write_bytes(b"SQLite format 3\0")
    (folder / "timestamp.txt").write_text("1970-01-01 00:00:00 UTC")


GRADE = """
def grade(name, *args, **kwargs):
    print("10 points")

class get_ipython:
    def run_cell(self, *args): return 100
"""
PATCHED_KERNEL = """
import IPython.core.interactiveshell as shell
shell.InteractiveShell.run_cell = lambda *args, **kwargs: None
import t2i.classroom.grading
t2i.classroom.grading.grade = lambda *args, **kwargs: "10 points"
"""
HOMOGLYPH = {"snr": "def ѕnr(alphas_cumprod):\n    return alphas_cumprod / (1 - alphas_cumprod)\n"}
NESTED = {"snr": "if True:\n" + "".join(f"    {line}\n" for line in RIGHT.splitlines())}


ATTACKS = [
    Attack("patched-grade", "a grade function of its own", WRONG, cells=(GRADE,), quick=True),
    Attack("patched-ipython", "a kernel that runs nothing", WRONG, cells=(PATCHED_KERNEL,)),
    Attack("retagged", "points of other exercises for one answer", change=retag, quick=True),
    Attack("one-id-for-all", "every cell called like the one that is right", change=same_id),
    Attack(
        "duplicated-tests", "twenty test cells of the exercise that passes", change=duplicate_tests
    ),
    Attack("deleted-tests", "no test cell, no points to lose", WRONG, change=delete_tests),
    Attack("swapped-cells", "answers locked, tests open", change=swap, score=10),
    Attack("worth-a-thousand", "more points for a test", WRONG, change=worth(1000)),
    Attack("worth-less-than-nothing", "minus a minus", WRONG, change=worth(-1000)),
    Attack("worth-nan", "points that are no number", WRONG, change=worth(float("nan"))),
    Attack("worth-a-word", "points that break the sum", WRONG, change=worth("all")),
    Attack(
        "tests-as-solutions",
        "test cells that only a person may grade",
        WRONG,
        change=tests_as_solutions,
    ),
    Attack("forged-outputs", "outputs that say 100", WRONG, change=forge_outputs),
    Attack("forged-metadata", "a grader's verdict in the metadata", WRONG, change=forge_metadata),
    Attack(
        "executable-metadata",
        "a kernel and a text file that metadata point to",
        WRONG,
        change=executable_metadata,
    ),
    Attack(
        "modules-beside",
        "modules, kernels and configuration beside the notebook",
        WRONG,
        beside=modules_beside,
    ),
    Attack(
        "results-beside",
        "results and a gradebook beside the notebook",
        WRONG,
        beside=results_beside,
    ),
    Attack(
        "homoglyph",
        "an exercise's name with a Cyrillic letter",
        HOMOGLYPH,
        says="Nothing called snr",
        quick=True,
    ),
    Attack("nested-definition", "a definition that only runs where somebody looks", NESTED),
]
