"""Lesson 10's trainings on a folder of pictures: `make train data=my_pictures`.

    pipe = train_on_pictures("my_pictures", "cpu", "my_model")
    pipe("a sleeping cat")[0]

It reads the folder anew each time, says what it found, and goes on where it was stopped. Where
pictures or captions have changed since, it says so and stops.
"""

from pathlib import Path
from typing import Any

from t2i.engine.distributed import ALONE
from t2i.files.folders import FilesError
from t2i.files.places import DATA
from t2i.runs.picture_recipes import picture_recipe
from t2i.runs.text_to_image_recipes import CHECKPOINT
from t2i.runs.text_to_image_runs import train_all
from t2i.text_to_image import TextToImage


def train_on_pictures(
    data: str | Path,
    tier: str,
    out: str | Path | None = None,
    work: str | Path | None = None,
    **how: Any,
) -> tuple[TextToImage, Path]:
    """Train the three parts on a folder, or go on, and write the whole model.

    Args:
        data: the folder, as read_folder takes it; nothing is written into it.
        tier: one of the recipes.
        out: the model's folder; None: data/runs/NAME_TIER/model.
        work: of what is finished so far; None: data/runs/NAME_TIER.
        **how: device, team, shards and so on, as train_all takes them.

    Returns:
        the model, and the folder that it was written to.

    Raises:
        FilesError: there is nothing to learn from in the folder, or `out` is a bad place.
        CheckpointError: what is finished so far was made of other pictures.
    """
    data = Path(data)
    home = DATA / "runs" / f"{data.resolve().name}_{tier}"
    work, out = Path(work or home), Path(out or home / "model")
    for place in filter(None, (work, out, how.get("shards"))):
        _check_place(Path(place).resolve(), data.resolve())
    say = print if how.get("team", ALONE).is_first else lambda *_: None
    say(f"Reading the pictures of {data}.")
    plan = picture_recipe(tier, data)
    count = len(plan.source.tokens)  # made now, so that the report tells of captions that are cut
    say(plan.source.report)
    say(f"Learning from {count} of them; {len(plan.source.held_out)} are held out.")
    return train_all(tier, out, work, plan=plan, **how), out


def _check_place(place: Path, data: Path) -> None:
    """Refuse to write where the pictures are, or over the course's own model."""
    if place.is_relative_to(data):
        raise FilesError(f"{place} lies in the folder of the pictures: give another place.")
    if place == CHECKPOINT.resolve():
        raise FilesError(f"{place} holds the course's own model: give another place with out=.")
