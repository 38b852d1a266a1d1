"""Lesson 7's tables: what the repository's commands measured, read from the files of figures."""

from pathlib import Path

from IPython.display import Markdown

from t2i.files.results import figures_in, how_trained, share_told, table
from t2i.runs.clip_recipes import WEIGHTS
from t2i.world.captions import SIZES


def zero_shot_table(path: Path = WEIGHTS) -> Markdown:
    """What the committed CLIP recognises, as measured by the repository's command."""
    measured = figures_in(path.with_suffix(".json"))
    if "zero_shot" not in measured:
        return Markdown("Not measured yet: `python -m t2i.runs.clip_recipes evaluate` does it.")
    names = ("colour", "object", "pair", "colour said otherwise", "object said otherwise")
    head, rows = ("scenes", "pairs of colour and object", "how many", *names), []
    for key, found in measured["zero_shot"].items():
        world, split = key.split("/")
        shares = [share_told(found[name]) for name in names]
        rows.append((_WORLDS[world], _SPLITS[split], str(found["n"]), *shares))
    chances = [f"{found[name]['chance']:.1%}" for name in names]
    rows.append(("*chance*", "", "", *chances))
    sizes = measured["zero_shot"]["lone/train"]
    shares = [f"{sizes[f'object, {size}']['share']:.1%} of the {size} ones" for size in SIZES]
    note = f"Objects in scenes of all sizes (seen pairs): {' and '.join(shares)} are recognised."
    return table(head, rows, f"{note} {how_trained(measured, 'scenes')}")


def told_table(path: Path | None = None) -> Markdown:
    """Lesson 6's denoiser with one vector per word and with CLIP, on plain and on other words.

    Below it stands how many pictures showed nothing.
    """
    from t2i.runs.clip_scene_recipes import (
        WEIGHTS as TOLD,  # stands on much that only this table needs
    )
    from t2i.runs.clip_scene_runs import summary

    measured = figures_in((path or TOLD).with_suffix(".json"))
    if "drawn" not in measured:
        return Markdown(
            "Not measured yet: `python -m t2i.runs.clip_scene_recipes evaluate` does it."
        )
    head = ("captions", "read by", "how many", "colour", "object", "both", "shuffled")
    blank = [
        f"{sets['said otherwise']['nothing_seen']:.1%} ({name})"
        for name, sets in measured["drawn"].items()
    ]
    note = f"Said otherwise, the judge sees no object at all in {' and '.join(blank)}."
    return table(head, summary(measured), note)


_WORLDS = {"one": "large, on black", "lone": "all sizes, places, backgrounds"}
_SPLITS = {"train": "seen", "heldout_pairs": "held-out pairs"}
