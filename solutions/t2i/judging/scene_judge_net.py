"""The network of the judge of scenes: which object has each of the eight colours, and where?

    found = answers(images)          # probabilities and places, by the judge of the pictures' size
    judge = load_judge(64)           # or one judge

There are two of it: one for pictures of 32 pixels, in which a digit among three things is some ten
pixels high, and one for 64. What follows from the answers stands in scene_judge.py, how it learned
in scene_judge_data.py.
"""

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.files.checkpoint import load_weights
from t2i.files.places import DATA
from t2i.world.captions import BACKGROUNDS, COLOURS, KINDS

WEIGHTS = {32: DATA / "scene_judge.safetensors", 64: DATA / "scene_judge_64.safetensors"}
ABSENT = len(KINDS)  # the answer "nothing has this colour"


class JudgeNet(nn.Module):
    """For each colour: which object has it, and where.

    Args:
        side: height and width of the pictures it looks at, 32 or a multiple of it. Of larger ones
            each block of pixels becomes the channels of one, and there are more channels.
    """

    def __init__(self, side: int = 32):
        super().__init__()
        self.side, self.fold, width = side, side // 32, side // 2
        sizes = ((3 * self.fold**2, width, 1), (width, 2 * width, 2), (2 * width, 3 * width, 1))
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
            images: (B, 3, side, side) in [-1, 1].

        Returns:
            kind: (B, 8, 17) logits, for each colour which object, the last is ABSENT.
            place: (B, 8, 2) y and x in [0, 1].  height: (B, 8) in pictures.
            weights: (B, 8, 64) how much it looked at each cell of an 8 × 8 grid.
            background: (B, 4) logits.
        """
        h = self.features(images)  # (B, C, 8, 8)
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

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, side, side) in [-1, 1] -> (B, C, 8, 8), what it sees before it answers."""
        return self.body(F.pixel_unshuffle(images, self.fold))


@cache
def load_judge(side: int = 32, path: Path | None = None) -> JudgeNet:
    """The trained judge of pictures of a size.

    Args:
        side: one of WEIGHTS.
        path: other weights than the committed ones.

    Raises:
        CheckpointError: the weights are missing or damaged.
    """
    model = JudgeNet(side)
    load_weights(path or WEIGHTS[side], model)
    return model.eval().requires_grad_(False)


def judge_of(images: Tensor) -> JudgeNet:
    """The judge that is made for pictures (B, 3, H, W): the largest that need not enlarge them."""
    return load_judge(max([32, *(side for side in WEIGHTS if side <= min(images.shape[2:]))]))


@torch.no_grad()
def answers(images: Tensor, model: JudgeNet | None = None) -> dict[str, Tensor]:
    """The network's answers for many pictures, a part at a time, with probabilities for logits.

    Args:
        images: (B, 3, H, W), 16 pixels or more each way; values outside [-1, 1] are clipped.
        model: another judge than the committed one for pictures of this size.

    Raises:
        ValueError: another shape, or a value that is not a number.
    """
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < 16:
        raise ValueError(f"images must be (B, 3, H, W), 16 or more, got {tuple(images.shape)}")
    if not len(images):
        raise ValueError("images must hold one picture or more, they hold none")
    if not images.isfinite().all():
        raise ValueError("images must be finite, they contain NaN or infinity")
    model = model or judge_of(images)
    parts = [model(as_judged(part, model.side)) for part in images.split(500)]
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return found | {name: found[name].softmax(dim=-1) for name in ("kind", "background")}


def as_judged(images: Tensor, side: int) -> Tensor:
    """(B, 3, H, W) -> (B, 3, side, side) in [-1, 1] on the CPU: what a judge was trained on."""
    images = images.detach().cpu().float().clamp(-1, 1)
    if images.shape[2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)
