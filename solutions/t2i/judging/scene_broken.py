"""Pictures that show no scene: what the judge of scenes must see nothing in.

    made = halves(images, others, specs, digits)      # as each of BROKEN is called

A network that saw only good pictures calls a half-red, half-blue seven red, or blue. So these are
broken in the ways that generated pictures are.

Args of each:
    images: (B, 3, size, size) scenes in [-1, 1], of specs.
    others: the same scenes in another order.
    specs: what the scenes show.
    digits: whose handwriting, if one is painted again.

Returns:
    (B, 3, size, size) in [-1, 1], about.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.judging.judge_data import blur
from t2i.world.captions import BACKGROUNDS, COLOURS
from t2i.world.scene_specs import Specs
from t2i.world.scenes import BACKGROUND_PALETTE, paint

BACKGROUND_TENSOR = torch.tensor([BACKGROUND_PALETTE[name] for name in BACKGROUNDS]) * 2 - 1


def noise(images: Tensor, others: Tensor, specs: Specs, digits: str) -> Tensor:
    """Noise of any strength around any colour."""
    grey = 2 * torch.rand(len(images), 3, 1, 1) - 1
    strength = 0.1 + 1.2 * torch.rand(len(images), 1, 1, 1)
    return (grey + strength * torch.randn_like(images)).clamp(-1, 1)


def clouds(images: Tensor, others: Tensor, specs: Specs, digits: str) -> Tensor:
    """Noise blurred into coloured blobs."""
    cloud = _blur(torch.randn_like(images), float(1 + 3 * torch.rand(())))
    return torch.tanh(4 * cloud / cloud.std(dim=(1, 2, 3), keepdim=True))


def blends(images: Tensor, others: Tensor, specs: Specs, digits: str) -> Tensor:
    """Two scenes shining through each other."""
    share = 0.35 + 0.3 * torch.rand(len(images), 1, 1, 1)
    return share * images + (1 - share) * others


def halves(images: Tensor, others: Tensor, specs: Specs, digits: str) -> Tensor:
    """The upper half of one lone thing and the lower half of another scene."""
    cut = _pixels(16 + int(torch.randint(-3, 4, ())), images)
    mixed = torch.cat([images[:, :, :cut], others[:, :, cut:]], dim=2)
    return _if_in_the_middle(specs, mixed, blends(images, others, specs, digits))


def two_coloured(images: Tensor, others: Tensor, specs: Specs, digits: str) -> Tensor:
    """A lone thing that changes its colour half-way down."""
    shift = 1 + int(torch.randint(len(COLOURS) - 1, ()))
    cut = _pixels(16 + int(torch.randint(-2, 3, ())), images)
    other = replace(specs, colour=(specs.colour + shift) % len(COLOURS))
    again = paint(other, images.shape[2], digits)
    mixed = torch.cat([images[:, :, :cut], again[:, :, cut:]], dim=2)
    return _if_in_the_middle(specs, mixed, blends(images, others, specs, digits))


def _if_in_the_middle(specs: Specs, these: Tensor, those: Tensor) -> Tensor:
    """These where one thing stands alone in the middle, else those: a cut spares nothing there."""
    lone = torch.from_numpy((specs.count == 1) & (specs.place <= 0))
    return torch.where(lone[:, None, None, None], these, those)


def shuffled(images: Tensor, others: Tensor, specs: Specs, digits: str) -> Tensor:
    """Squares of the picture in a random order."""
    size = _pixels((4, 8)[int(torch.randint(2, ()))], images)
    patches = F.unfold(images, size, stride=size)  # (B, 3 · size², patches)
    order = torch.rand(len(images), 1, patches.shape[2]).argsort(dim=2)
    return F.fold(patches.gather(2, order.expand_as(patches)), images.shape[2], size, stride=size)


def drowned(images: Tensor, others: Tensor, specs: Specs, digits: str) -> Tensor:
    """Scenes with much more noise than picture."""
    alpha_bar = 0.01 + 0.14 * torch.rand(len(images), 1, 1, 1)
    noisy = alpha_bar.sqrt() * images + (1 - alpha_bar).sqrt() * torch.randn_like(images)
    return noisy.clamp(-1, 1)


def smeared(images: Tensor, others: Tensor, specs: Specs, digits: str) -> Tensor:
    """Scenes out of focus until their things are smudges."""
    edge = images[:, :, :1, :1]
    return _blur(images - edge, float(4 + 2 * torch.rand(()))) + edge


def empty(images: Tensor, others: Tensor, specs: Specs, digits: str) -> Tensor:
    """A background and nothing on it."""
    plain = BACKGROUND_TENSOR[torch.from_numpy(specs.background.copy())]
    grain = 0.1 * torch.rand(len(images), 1, 1, 1) * torch.randn_like(images)
    return (plain[:, :, None, None] + grain).clamp(-1, 1)


def _pixels(of_32: int, images: Tensor) -> int:
    """As many pixels as are the same part of these pictures as of_32 is of 32."""
    return of_32 * images.shape[2] // 32


def _blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of sigma thirty-seconds of a picture, each channel (B, 3, H, W) for itself."""
    small = F.interpolate(images, (32, 32), mode="area").flatten(0, 1)[:, None]
    soft = blur(small, sigma).view(*images.shape[:2], 32, 32)
    return F.interpolate(soft, images.shape[2:], mode="bicubic")


BROKEN = (noise, clouds, blends, halves, two_coloured, shuffled, drowned, smeared, empty)
