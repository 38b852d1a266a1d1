"""The ink of the scenes: where digits of MNIST and simple shapes cover a pixel, and how much.

Digits are sampled from real handwriting; shapes are computed from the distance to their edge, so
both can be drawn at any size, place and turn.
"""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.data import mnist
from t2i.world.captions import DIGITS, SHAPES

DIGIT_PARTS = ("train", "judge", "test")  # whose handwriting: the three share no digit
_INKED = 20  # of MNIST's 28 pixels, the digit itself fills 20


def coverage(
    kind: Tensor, u: Tensor, v: Tensor, height: Tensor, pick: Tensor, bank: Tensor, starts: Tensor
) -> Tensor:
    """How much ink lies on each pixel.

    Args:
        kind: (B,) position in KINDS.
        u, v: (B, S, S) each pixel's place in the thing's own coordinates, -1 to 1 over the thing.
        height: (B,) of the thing, in pixels.
        pick: (B,) in [0, 1), which of the written digits.
        bank, starts: what digit_bank gives.

    Returns:
        (B, S, S) in [0, 1].
    """
    ink = torch.zeros_like(u)
    is_digit = kind < len(DIGITS)
    for small in (False, True):  # a small digit is first made coarser, or its strokes have gaps
        rows = (is_digit & ((height < 0.75 * _INKED) == small)).nonzero().flatten()
        if not len(rows):
            continue
        first, last = starts[kind[rows]], starts[kind[rows] + 1]
        written = bank[first + (pick[rows] * (last - first)).long()][:, None].float() / 255
        written = F.avg_pool2d(written, 2) if small else written
        grid = torch.stack([u[rows], v[rows]], dim=-1) * (_INKED / 28)
        found = F.grid_sample(written, grid, align_corners=False)[:, 0]
        ink[rows] = (found * (1.4 if small else 1.15)).clamp(max=1)
    for number, shape in enumerate(_OUTLINES, start=len(DIGITS)):
        rows = (kind == number).nonzero().flatten()
        if len(rows):
            pixels = shape(u[rows], v[rows]) * (height[rows] / 2)[:, None, None]
            ink[rows] = (0.5 - pixels).clamp(0, 1)
    return ink


@cache
def digit_bank(part: str) -> tuple[Tensor, Tensor]:
    """The written digits of one part of MNIST, in the order of what they are.

    Returns:
        bank: (N, 28, 28) uint8.
        starts: (11,) int64; digit d is bank[starts[d]:starts[d + 1]].
    """
    if part not in DIGIT_PARTS:
        raise ValueError(f"digits must be one of {', '.join(DIGIT_PARTS)}, got {part!r}")
    images, labels = _pixels("test" if part == "test" else "train")
    half = len(images) // 2
    chosen = {"train": slice(0, half), "judge": slice(half, None), "test": slice(None)}[part]
    images, labels = images[chosen], labels[chosen]
    order = labels.argsort(stable=True)
    bank = _centred(images[order])
    starts = torch.zeros(len(DIGITS) + 1, dtype=torch.int64)
    starts[1:] = labels.bincount(minlength=len(DIGITS)).cumsum(0)
    return bank, starts


@cache
def _pixels(split: str) -> tuple[Tensor, Tensor]:
    """MNIST as (N, 28, 28) uint8, a quarter of the memory, and its labels."""
    images, labels = mnist(split)
    return images[:, 0].add_(1).mul_(127.5).round_().to(torch.uint8), labels


def _centred(written: Tensor) -> Tensor:
    """Move each digit (N, 28, 28) so that as much is empty above it as below, left as right."""
    for axis in (1, 2):
        inked = (written > 0).any(dim=3 - axis).int()  # (N, 28)
        before, after = inked.argmax(dim=1), inked.flip(1).argmax(dim=1)
        source = (torch.arange(28)[None, :] + ((before - after) // 2)[:, None]) % 28
        source = source.unsqueeze(3 - axis).expand_as(written)
        written = written.gather(axis, source)
    return written


# Each shape gives the distance to its edge, negative inside, in halves of its height.
# Source: I. Quilez, "2D distance functions" (heart); the others are half-planes.
def _circle(u: Tensor, v: Tensor) -> Tensor:
    return torch.hypot(u, v) - 0.92


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.85


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(v - 0.85, (1.85 * u.abs() - v - 1.0) / 2.1)


def _star(u: Tensor, v: Tensor) -> Tensor:
    fifth = 2 * torch.pi / 5
    angle = (torch.atan2(u, -v) + fifth / 2).remainder(fifth) - fifth / 2
    radius = torch.hypot(u, v)
    along, aside = radius * angle.cos() - 1.05, radius * angle.sin().abs()
    inner_x, inner_y = 0.45 * np.cos(fifth / 2) - 1.05, 0.45 * np.sin(fifth / 2)
    return (aside * -inner_x + along * inner_y) / float(np.hypot(inner_x, inner_y))


def _cross(u: Tensor, v: Tensor) -> Tensor:
    u, v = u.abs(), v.abs()
    return torch.maximum(torch.maximum(u, v) - 0.92, torch.minimum(u, v) - 0.3)


def _heart(u: Tensor, v: Tensor) -> Tensor:
    x, y = 0.6 * u.abs(), 0.55 - 0.6 * v
    lobe = torch.hypot(x - 0.25, y - 0.75) - 2**0.5 / 4
    fold = (x + y).clamp(min=0) / 2
    point = torch.minimum(torch.hypot(x, y - 1), torch.hypot(x - fold, y - fold))
    return torch.where(x + y > 1, lobe, point * (x - y).sign()) / 0.6


_OUTLINES = (_circle, _square, _triangle, _star, _cross, _heart)
assert len(_OUTLINES) == len(SHAPES)
