"""What goes wrong with notebooks without anybody meaning harm, and the points that each deserves.

Every mishap begins with the same notebook of lesson 1: four exercises answered rightly (60 points),
one wrongly and one not at all. So a mishap that costs nothing must leave exactly 60 points, and one
that gains something would be seen as well. `checks/test_mishaps.py` hands each one in through
`grade` and, all of them in one run, through nbgrader.
"""

import copy
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from autograder.lesson import Lesson, get_lesson

MODULES = ("files", "formats", "editors", "sources")
LESSON = get_lesson(1)
ANSWERS = {
    "linear_betas": """def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    if num_train_timesteps < 1:
        raise ValueError("at least one step")
    return torch.linspace(beta_start, beta_end, num_train_timesteps)
""",
    "alphas_cumprod": """def alphas_cumprod(betas):
    return torch.cumprod(1 - betas, dim=0)
""",
    "add_noise": """def add_noise(x_0, noise, t, alphas_cumprod):
    if noise.shape != x_0.shape:
        raise ValueError("noise and picture must have one shape")
    a = gather(alphas_cumprod, t, x_0)
    return a.sqrt() * x_0 + (1 - a).sqrt() * noise
""",
    "snr": """def snr(alphas_cumprod):
    return alphas_cumprod / (1 - alphas_cumprod)
""",
    "rescale_zero_terminal_snr": """def rescale_zero_terminal_snr(betas):
    return betas.clone()
""",
}
RIGHT = 60
POINTS = {exercise.name: exercise.points for exercise in LESSON.exercises}


@dataclass(frozen=True)
class Mishap:
    """One thing that happens to people.

    Args:
        name: a word or two, as a file may be called.
        happened: what the person did or did not notice.
        change: what it does to the notebook, as its JSON.
        content: what it does to the file.
        score: what the work deserves.
        flagged: whether a person has to look at it.
        says: a pattern that one message matches.
        quick: one of those that `make test` runs.
    """

    name: str
    happened: str
    change: Callable[[dict], None] | None = None
    content: Callable[[bytes], bytes] | None = None
    score: int = RIGHT
    flagged: bool = False
    says: str = ""
    quick: bool = False

    def notebook(self) -> bytes:
        """The file that is handed in."""
        content = copy.deepcopy(begun())
        if self.change is not None:
            self.change(content)
        raw = json.dumps(content, ensure_ascii=False, indent=1).encode()
        return self.content(raw) if self.content is not None else raw


@cache
def begun(lesson: Lesson = LESSON) -> dict:
    """The notebook that every mishap happens to."""
    notebook = json.loads(lesson.notebook.read_text(encoding="utf-8"))
    for name, source in ANSWERS.items():
        cell_of(notebook, name)["source"] = source
    return notebook


def cell_of(notebook: dict, name: str) -> dict:
    """The cell of an exercise, or with `check-` before it that of its checks."""
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == name:
            return cell
    raise KeyError(name)


def code(source: str, **more) -> dict:
    """A code cell that somebody added."""
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    return cell | {"source": source} | more


def put(notebook: dict, source: str, before: str = "linear_betas", after: str = "") -> None:
    """Add a code cell before or after that of an exercise."""
    at = notebook["cells"].index(cell_of(notebook, after or before)) + bool(after)
    notebook["cells"].insert(at, code(source))


def corpus() -> list[Mishap]:
    """All mishaps."""
    return [m for name in MODULES for m in importlib.import_module(f"{__name__}.{name}").MISHAPS]
