"""The judge of scenes: what does a picture show, and is it what the caption asked for?

    seen = look(images)                   # for each picture a View: things, background, sureness
    shows(seen[0], parse("a red seven"))  # True if that, and nothing else, is in picture 0
    satisfied(images, captions)           # the same for a whole batch: (B,) True or False

The judge is a small network (scene_judge_net.py). It learned from other handwriting than the
generator's, and it learned to see nothing in noise, blends and half-made things. `python -m
t2i.judging.scene_judge train --side 64` trains the one for 64 pixels anew, `check` in place of
`train` measures it.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from t2i.judging.scene_judge_net import ABSENT, WEIGHTS, JudgeNet, answers
from t2i.world.caption_reading import parse
from t2i.world.captions import BACKGROUNDS, COLOURS, KINDS, Scene, Thing

STEPS = {32: 4000, 64: 12_000}
SURE = 0.5  # from this probability on an answer counts
LARGE = 0.55  # a lone thing higher than this share of the picture is large
CENTRE = 0.12  # a lone thing nearer than this to the middle is in the middle
APART = 0.12  # a thing is left of another from this distance on


@dataclass(frozen=True)
class View:
    """What the judge sees in one picture.

    Args:
        things: colour and kind of each, the surest first; none in a broken picture.
        places: (y, x) of each in [0, 1].
        heights: of each, in pictures.
        background: one of BACKGROUNDS.
        confidence: the least probability among the answers about the eight colours.
    """

    things: tuple[Thing, ...]
    places: tuple[tuple[float, float], ...]
    heights: tuple[float, ...]
    background: str
    confidence: float


def look(images: Tensor, model: JudgeNet | None = None) -> list[View]:
    """What each picture shows.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        model: another judge than the committed one.

    Returns:
        B views; a colour counts as there if its likeliest object is not ABSENT and has a
        probability of SURE or more.
    """
    found = answers(images, model)
    sure, kind = found["kind"].max(dim=2)  # (B, 8)
    views = []
    for row in range(len(images)):
        there = [c for c in sure[row].argsort(descending=True).tolist() if kind[row, c] != ABSENT]
        there = [c for c in there if sure[row, c] >= SURE]
        views.append(
            View(
                things=tuple(Thing(COLOURS[c], KINDS[kind[row, c]]) for c in there),
                places=tuple(tuple(found["place"][row, c].tolist()) for c in there),
                heights=tuple(found["height"][row, c].item() for c in there),
                background=BACKGROUNDS[found["background"][row].argmax()],
                confidence=sure[row].min().item(),
            )
        )
    return views


def shows(view: View, asked: Scene) -> bool:
    """Whether a picture is what was asked for: all of it, and nothing besides.

    Args:
        view: what the judge sees.
        asked: what the caption says; what is None in it may be anything.
    """
    wanted = [(thing.colour, thing.kind) for thing in asked.things]
    seen = [(thing.colour, thing.kind) for thing in view.things]
    if sorted(wanted) != sorted(seen):
        return False
    if asked.background not in (None, view.background):
        return False
    if len(wanted) == 1:
        return sized_and_placed(view, asked.things[0])
    places = [view.places[seen.index(thing)] for thing in wanted]
    return asked.relation is None or in_order(places, asked.relation)


def in_order(places: Sequence[tuple[float, float]], relation: str) -> bool:
    """Whether each place is left of (or above) the next, and more so than anything else.

    Args:
        places: (y, x) of each thing.
        relation: "left of" or "above".
    """
    along, across = (1, 0) if relation == "left of" else (0, 1)
    for first, second in zip(places, places[1:], strict=False):
        distance = second[along] - first[along]
        if distance < APART or distance < abs(second[across] - first[across]):
            return False
    return True


def sized_and_placed(view: View, lone: Thing) -> bool:
    """Whether the one thing in a picture is as large, and where, as was asked for."""
    size, place = size_and_place(view.heights[0], view.places[0])
    return lone.size in (None, size) and lone.place in (None, place)


def size_and_place(height: float, place: tuple[float, float]) -> tuple[str, str]:
    """The words for how large a lone thing is and where: ("small", "top")."""
    y, x = place[0] - 0.5, place[1] - 0.5
    size = "large" if height > LARGE else "small"
    if max(abs(y), abs(x)) < CENTRE:
        return size, "middle"
    if abs(y) > abs(x):
        return size, "top" if y < 0 else "bottom"
    return size, "left" if x < 0 else "right"


def satisfied(
    images: Tensor, asked: Sequence[str | Scene], model: JudgeNet | None = None
) -> Tensor:
    """Which pictures show what was asked for.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        asked: B captions, or Scenes.
        model: another judge than the committed one.

    Returns:
        (B,) bool.

    Raises:
        ValueError: not a caption each.
        CaptionError: a caption that cannot be understood.
    """
    if isinstance(asked, str) or len(images) != len(asked):
        raise ValueError(f"a caption each: got {len(images)} images and {len(asked)} captions")
    wanted = [parse(each) if isinstance(each, str) else each for each in asked]
    views = look(images, model)
    return torch.tensor([shows(view, scene) for view, scene in zip(views, wanted, strict=True)])


def main() -> None:
    """`train` makes a judge's weights anew (minutes, or half an hour), `check` measures them."""
    parser = argparse.ArgumentParser(
        prog="python -m t2i.judging.scene_judge", description=main.__doc__
    )
    parser.add_argument("command", nargs="?", choices=("train", "check"), default="check")
    parser.add_argument("--side", type=int, choices=tuple(WEIGHTS), default=32)
    parser.add_argument("--weights", type=Path, help="a file; usually the committed one")
    parser.add_argument("--steps", type=int, help="4,000, or 12,000 for the larger pictures")
    parser.add_argument("--count", type=int, default=4000, help="pictures a figure, in check")
    options = parser.parse_args()
    from t2i.judging.scene_judge_data import check_judge, train_judge  # they stand on this module

    weights, side = options.weights or WEIGHTS[options.side], options.side
    if options.command == "train":
        train_judge(weights, options.steps or STEPS[side], side=side)
    print(json.dumps(check_judge(weights, options.count, side=side), indent=1))


if __name__ == "__main__":
    main()
