"""Lesson 6's figures: what the repository's command measured of its recipe."""

from collections import Counter
from pathlib import Path

from IPython.display import Markdown

from t2i.files.results import figures_in, how_trained, table
from t2i.runs.scene_recipes import WEIGHTS
from t2i.runs.scene_runs import summary

UNMEASURED = "Not measured yet: `python -m t2i.runs.scene_recipes evaluate` does it."


def results_table(path: Path = WEIGHTS) -> Markdown:
    """What the repository's command measured of the CPU recipe, as a table.

    Args:
        path: the weights; the figures are in the .json beside them.
    """
    measured = figures_in(path.with_suffix(".json"))
    if "captions" not in measured:
        return Markdown(UNMEASURED)
    head = ("captions", "how many", "colour", "object", "both", "shuffled", "ceiling")
    note = f"{_failed(measured)} {how_trained(measured, 'scenes')}"
    return table(head, summary(measured), note)


def _failed(measured: dict) -> str:
    """Which object is got wrong most often, in a sentence."""
    failures = [pair for found in measured["captions"].values() for pair in found["failures"]]
    if not failures:
        return "*Both* was never wrong."
    kinds = Counter(caption.split()[-1] for caption, _ in failures)  # "a purple two"
    worst, times = kinds.most_common(1)[0]
    return f"*Both* was wrong {len(failures)} times; {times} of these were to show a {worst}."
