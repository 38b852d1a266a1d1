"""Captioned scenes: coloured digits and shapes, painted when they are asked for, without end.

    images, captions = scenes(range(8), split="train")     # (8, 3, 32, 32) and 8 texts
    batches = SceneBatches(64, length=12)                   # what train() wants; next(batches) is
    images, tokens, mask = next(batches)                    # (64, 3, 32, 32), (64, 12), (64, 12)

Picture i of a seed is always the same picture. `scene_sheet` shows them with their captions.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from t2i.engine.batches import refuse_other_data
from t2i.world.caption_reading import MAX_LENGTH, encode
from t2i.world.captions import BACKGROUNDS, COLOURS
from t2i.world.scene_ink import coverage, digit_bank
from t2i.world.scene_specs import Specs, draw_specs

PALETTE = {  # red, green, blue in [0, 1]
    "red": (0.90, 0.06, 0.10),
    "orange": (1.00, 0.50, 0.00),
    "yellow": (0.98, 0.84, 0.05),
    "green": (0.08, 0.65, 0.16),
    "cyan": (0.00, 0.80, 0.88),
    "blue": (0.14, 0.32, 1.00),
    "purple": (0.60, 0.18, 0.88),
    "pink": (1.00, 0.48, 0.74),
}
BACKGROUND_PALETTE = {
    "black": (0.00, 0.00, 0.00),
    "grey": (0.28, 0.28, 0.28),
    "white": (1.00, 1.00, 1.00),
    "brown": (0.28, 0.14, 0.04),
}


def scenes(
    indices: Sequence[int],
    split: str = "train",
    world: str = "one",
    seed: int = 0,
    size: int = 32,
    digits: str = "train",
    device: str | torch.device = "cpu",
) -> tuple[Tensor, list[str]]:
    """The pictures with these numbers and a caption for each.

    Args:
        indices: B whole numbers, 0 or more.
        split: "train", "heldout_pairs", "heldout_triples", "heldout_phrasings" or "any".
        world: "one" (one object on black, lesson 6), "lone" (one object, all the rest, lesson 7),
            "pair" (one or two, large, all backgrounds) or "many" (one to three, all the rest).
        seed: of the whole endless collection.
        size: height and width in pixels, 16 or more.
        digits: whose handwriting: "train" (first half of MNIST's training digits), "judge" (its
            other half, for the judge's own training) or "test".
        device: where to paint; the pictures stay there.

    Returns:
        images: (B, 3, size, size) float32 in [-1, 1].
        captions: B texts.

    Raises:
        ValueError: an argument outside its range.
    """
    specs = draw_specs(indices, split, world, seed)
    return paint(specs, size, digits, device), specs.captions()


def paint(
    specs: Specs, size: int = 32, digits: str = "train", device: str | torch.device = "cpu"
) -> Tensor:
    """Paint scenes, all rows at once.

    Args:
        specs: B scenes, from draw_specs.
        size: height and width in pixels, 16 or more.
        digits: one of DIGIT_PARTS.
        device: where to paint; the pictures stay there.

    Returns:
        (B, 3, size, size) float32 in [-1, 1].
    """
    if not isinstance(size, int) or size < 16:
        raise ValueError(f"size must be a whole number of pixels, 16 or more, got {size!r}")

    def there(values: np.ndarray | Tensor) -> Tensor:
        return torch.as_tensor(values).to(device)

    bank, starts = (there(each) for each in digit_bank(digits))
    behind = torch.tensor([BACKGROUND_PALETTE[name] for name in BACKGROUNDS])
    canvas = there(behind[torch.from_numpy(specs.background)])[:, :, None, None]
    canvas = canvas.expand(-1, -1, size, size).clone()  # (B, 3, size, size) in [0, 1]
    y, x, height, turn = (there(each) for each in place(specs))
    palette = torch.tensor([PALETTE[name] for name in COLOURS])
    for slot in range(int(specs.count.max(initial=0))):
        of = np.flatnonzero(specs.count > slot)
        rows, kind = there(of), there(specs.kind[of, slot])
        at = [values[rows, slot] for values in (y, x, height, turn)]
        u, v = _own_coordinates(size, *at)
        pick = there(specs.layout[of, slot, 5])
        ink = coverage(kind, u, v, at[2] * size, pick, bank, starts)[:, None]  # (b, 1, S, S)
        light = torch.from_numpy(specs.layout[of, slot, 4]).float()[:, None]
        colour = there(palette[torch.from_numpy(specs.colour[of, slot])] * (0.9 + 0.1 * light))
        canvas[rows] += ink * (colour[:, :, None, None] - canvas[rows])
    return canvas.mul_(2).sub_(1)


def place(specs: Specs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where each thing is: (B, 3) centre's y and x, height, all in pictures, and turn in radians.

    Two or three things stand in a row or in a column, each in its own part of the picture.
    """
    count, lone = specs.count[:, None], specs.count[:, None] == 1
    jitter = 2 * specs.layout[:, :, :2] - 1  # (B, 3, 2): across the row, along the row
    # height of a thing by how many there are, and how far a lone one strays from the middle
    heights, wiggle = ((0.57, 0.36, 0.27), 0.07) if specs.details else ((0.76, 0.39, 0.3), 0.03)
    middle = np.array(heights)[count - 1]
    middle = np.where(specs.size[:, None] == 0, 0.40, middle)
    middle = np.where(specs.size[:, None] == 1, 0.70, middle)
    height = middle * (0.92 + 0.16 * specs.layout[:, :, 2])
    wiggle = np.where(lone, wiggle, np.array([0, 0.04, 0.01])[count - 1])
    wiggle = np.where(specs.size[:, None] >= 0, 0.05, wiggle)
    along = (np.arange(3)[None, :] + 0.5) / count + wiggle * jitter[:, :, 1]
    across = 0.5 + np.where(lone, wiggle, 0.1) * jitter[:, :, 0]
    row = (specs.direction[:, None] == 0) | lone
    y, x = np.where(row, across, along), np.where(row, along, across)
    down = np.array([0, -1, 1, 0, 0, 0])[specs.place][:, None]  # middle, top, bottom, left, right
    right = np.array([0, 0, 0, -1, 1, 0])[specs.place][:, None]
    turn = 0.24 * specs.layout[:, :, 3] - 0.12
    numbers = (y + 0.24 * down, x + 0.24 * right, height, turn)
    return tuple(torch.from_numpy(np.ascontiguousarray(value)).float() for value in numbers)


class SceneBatches:
    """Endless batches of scenes and encoded captions for train(), never one scene twice.

    Args:
        batch_size: scenes in a batch.
        length: tokens a caption is filled up to.
        split, world, seed, size, digits: as in scenes.
        encoder: called as encoder(captions, length); the tensor or tensors that it gives follow
            the pictures in a batch. By default lesson 6's tokens and mask, (B, length) each.
    """

    def __init__(
        self,
        batch_size: int,
        length: int = MAX_LENGTH,
        split: str = "train",
        world: str = "one",
        seed: int = 0,
        size: int = 32,
        digits: str = "train",
        encoder: Callable[[Sequence[str], int], Tensor | tuple[Tensor, ...]] = encode,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
        self.batch_size, self.length, self.position = batch_size, length, 0
        self.encoder, self.device = encoder, "cpu"
        self.kind = {"split": split, "world": world, "seed": seed, "size": size, "digits": digits}
        draw_specs([0], split, world, seed)  # says at once what is wrong

    def on(self, device: str | torch.device) -> "SceneBatches":
        """The same batches, from now on painted on this device, where the pictures stay."""
        self.device = device
        return self

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> tuple[Tensor, ...]:
        first = self.position * self.batch_size
        numbers = range(first, first + self.batch_size)
        images, captions = scenes(numbers, **self.kind, device=self.device)
        self.position += 1
        told = self.encoder(captions, self.length)
        return (images, told) if isinstance(told, Tensor) else (images, *told)

    def state(self) -> dict:
        """What restore needs to go on from here."""
        return self.kind | {"batch_size": self.batch_size, "position": self.position}

    def restore(self, state: dict) -> None:
        """Go on where such a SceneBatches stood; ValueError when its scenes were others."""
        refuse_other_data(self.state(), state)
        self.position = state["position"]


def _own_coordinates(size: int, y: Tensor, x: Tensor, height: Tensor, turn: Tensor):
    """(B, S, S) u and v: 0 in a thing's centre, 1 at its edge, turned as the thing is turned."""
    axis = (torch.arange(size, device=y.device) + 0.5) / size
    dy = (axis[None, :, None] - y[:, None, None]) * (2 / height)[:, None, None]
    dx = (axis[None, None, :] - x[:, None, None]) * (2 / height)[:, None, None]
    c, s = turn.cos()[:, None, None], turn.sin()[:, None, None]
    return dx * c + dy * s, dy * c - dx * s
