"""The judge of scenes: what does a picture show, and is it what the caption asked for?

    seen = look(images)                   # for each picture a View: things, background, sureness
    shows(seen[0], parse("a red seven"))  # True if that, and nothing else, is in picture 0
    satisfied(images, captions)           # the same for a whole batch: (B,) True or False

The judge is a small network that answers, for each of the eight colours: which object has this
colour, if any, and where is it? It learned from other handwriting than the generator's, and it
learned to see nothing in noise, blends and half-made things. `python -m t2i.scene_judge train`
trains it anew, `python -m t2i.scene_judge check` measures it.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.captions import BACKGROUNDS, COLOURS, KINDS, Scene, Thing, parse
from t2i.checkpoint import load_weights

DATA = Path(__file__).resolve().parents[2] / "data"
WEIGHTS = DATA / "scene_judge.safetensors"
ABSENT = len(KINDS)  # the answer "nothing has this colour"
SURE = 0.5  # from this probability on an answer counts
SIDE = 32  # pixels; other sizes are scaled to it
LARGE = 0.55  # a lone thing higher than this share of the picture is large
CENTRE = 0.12  # a lone thing nearer than this to the middle is in the middle
APART = 0.12  # a thing is left of another from this distance on


class JudgeNet(nn.Module):
    """For each colour: which object has it, and where.

    Args:
        width: channels of the first layer.
    """

    def __init__(self, width: int = 16):
        super().__init__()
        sizes = ((3, width, 1), (width, 2 * width, 2), (2 * width, 3 * width, 1))
        sizes += ((3 * width, 5 * width, 2), (5 * width, 5 * width, 1), (5 * width, 5 * width, 1))
        self.body = nn.Sequential(*(self._layer(*size) for size in sizes))
        self.where = nn.Conv2d(5 * width, len(COLOURS), 1)
        self.colours = nn.Parameter(0.1 * torch.randn(len(COLOURS), 5 * width))
        self.mix = nn.Linear(5 * width, 10 * width)
        self.kind = nn.Linear(10 * width, len(KINDS) + 1)
        self.height = nn.Linear(10 * width, 1)
        self.background = nn.Linear(5 * width, len(BACKGROUNDS))

    @staticmethod
    def _layer(c_in: int, c_out: int, stride: int) -> nn.Module:
        conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Look at pictures.

        Args:
            images: (B, 3, 32, 32) in [-1, 1].

        Returns:
            kind: (B, 8, 17) logits, for each colour which object, the last is ABSENT.
            place: (B, 8, 2) y and x in [0, 1].  height: (B, 8) in pictures.
            weights: (B, 8, 64) how much it looked at each cell of an 8 × 8 grid.
            background: (B, 4) logits.
        """
        h = self.body(images)  # (B, C, 8, 8)
        weights = self.where(h).flatten(2).softmax(dim=2)  # (B, 8, 64): where a colour is
        axis = (torch.arange(8, device=h.device) + 0.5) / 8
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).flatten(0, 1)
        found = weights @ h.flatten(2).transpose(1, 2)  # (B, 8, C): what is there
        found = F.relu(self.mix(found + self.colours))
        return {
            "kind": self.kind(found),
            "place": weights @ grid.to(h.dtype),
            "weights": weights,
            "height": self.height(found).squeeze(2),
            "background": self.background(h.mean(dim=(2, 3))),
        }


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


@cache
def load_judge(path: Path = WEIGHTS) -> JudgeNet:
    """The trained judge.

    Raises:
        CheckpointError: the weights are missing or damaged.
    """
    model = JudgeNet()
    load_weights(path, model)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def answers(images: Tensor, model: JudgeNet | None = None) -> dict[str, Tensor]:
    """The network's answers for many pictures, a part at a time, with probabilities for logits.

    Args:
        images: (B, 3, H, W), 16 pixels or more each way; values outside [-1, 1] are clipped.
        model: another judge than the committed one.

    Raises:
        ValueError: another shape, or a value that is not a number.
    """
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < 16:
        raise ValueError(f"images must be (B, 3, H, W), 16 or more, got {tuple(images.shape)}")
    if not len(images):
        raise ValueError("images must hold one picture or more, they hold none")
    if not images.isfinite().all():
        raise ValueError("images must be finite, they contain NaN or infinity")
    model = model or load_judge()
    parts = [model(as_judged(part)) for part in images.split(500)]
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return found | {name: found[name].softmax(dim=-1) for name in ("kind", "background")}


def as_judged(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 3, SIDE, SIDE) in [-1, 1] on the CPU: what the judge was trained on."""
    images = images.detach().cpu().float().clamp(-1, 1)
    if images.shape[2:] == (SIDE, SIDE):
        return images
    return F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)


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
        size, place = size_and_place(view.heights[0], view.places[0])
        lone = asked.things[0]
        return lone.size in (None, size) and lone.place in (None, place)
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
    """`train` makes the judge's weights anew (minutes), `check` measures them."""
    parser = argparse.ArgumentParser(prog="python -m t2i.scene_judge", description=main.__doc__)
    parser.add_argument("command", nargs="?", choices=("train", "check"), default="check")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--count", type=int, default=4000, help="pictures a figure, in check")
    options = parser.parse_args()
    from t2i.scene_judge_data import check_judge, train_judge  # they stand on this module

    if options.command == "train":
        train_judge(options.weights, options.steps)
    print(json.dumps(check_judge(options.weights, options.count), indent=1))


if __name__ == "__main__":
    main()
