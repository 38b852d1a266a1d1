"""One picture file of any kind as a square of three colours.

    levels, changed = read_picture("cat.png", size=32)     # (3, 32, 32) uint8, ["grey made RGB"]
    to_images(levels)                                      # float32 in [-1, 1]

What is transparent shows white behind it. What is not square gets white at two sides, since a cut
could take away what the caption names (Podell et al. 2023, arXiv:2307.01952, figure 4, show models
that learned from cut pictures to cut heads off). Of several frames the first counts.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

ORIENTATION = 0x0112  # EXIF's tag; 1 is upright
MODES = {"P": "palette", "L": "grey", "LA": "grey", "1": "black and white", "F": "float"}
TOPS = {"I": (255, 65535, 2**31), "F": (1, 255, 65535)}  # what white may be where no file says it


def to_images(levels: Tensor) -> Tensor:
    """Whole numbers from 0 to 255 as float32 in [-1, 1]."""
    return levels.float() / 127.5 - 1


def to_tensor(pictures: Sequence[Image.Image]) -> Tensor:
    """PIL images of one size as (B, 3, H, W) in [-1, 1]."""
    levels = torch.stack([torch.from_numpy(np.array(each)) for each in pictures])
    return to_images(levels.permute(0, 3, 1, 2))


def picture_pixels(image: Image.Image, multiple: int) -> Tensor:
    """A picture as (1, 3, H, W) in [-1, 1], its sides rounded down to a multiple of `multiple`.

    It is turned as its EXIF data say, and what is transparent shows white behind it.

    Raises:
        ValueError: it is no picture, or smaller than that.
    """
    if not isinstance(image, Image.Image):
        raise ValueError(f"image must be a picture, PIL.Image.open(file), got {image!r}")
    upright = ImageOps.exif_transpose(image)
    width, height = (side // multiple * multiple for side in upright.size)
    if not width or not height:
        raise ValueError(
            f"image must be at least {multiple} pixels high and wide, "
            f"got {upright.height} × {upright.width}"
        )
    return to_tensor([to_rgb(upright).resize((width, height), Image.Resampling.LANCZOS)])


def read_picture(path: str | Path, size: int) -> tuple[Tensor, list[str]]:
    """One picture, and what had to be done to it.

    Args:
        path: of the file.
        size: height and width that it is brought to.

    Returns:
        (3, size, size) uint8, and a few words for each change.

    Raises:
        Exception: of many kinds, where the file is broken.
    """
    with Image.open(path) as image:
        image.load()
        done = list(changes(image))
        upright = ImageOps.exif_transpose(image)
    if max(upright.size) > size * min(upright.size):
        raise ValueError(
            f"{image.width} × {image.height} pixels: too narrow, nothing would be left"
        )
    square = ImageOps.pad(to_rgb(upright), (size, size), color="white")
    return torch.from_numpy(np.array(square)).permute(2, 0, 1), done


def changes(image: Image.Image) -> Iterator[str]:
    """What has to be done to an open picture, in words."""
    if image.mode.startswith("I"):
        yield "16 or 32 bits made 8"
    elif image.mode not in ("RGB", "RGBA"):
        yield f"{MODES.get(image.mode, image.mode)} made RGB"
    if is_transparent(image):
        yield "transparent, put on white"
    if getattr(image, "n_frames", 1) > 1:
        yield "of several frames, the first taken"
    if image.getexif().get(ORIENTATION, 1) != 1:
        yield "turned as its EXIF data say"
    if image.width != image.height:
        yield "not square, white added at two sides"


def is_transparent(image: Image.Image) -> bool:
    """Whether something of what is behind a picture is to be seen."""
    if not image.has_transparency_data or image.mode[0] in TOPS:
        return False
    return image.convert("RGBA").getextrema()[3][0] < 255


def to_rgb(image: Image.Image) -> Image.Image:
    """Any kind of picture as RGB, 8 bits a colour, on white where it is transparent."""
    if image.mode[0] in TOPS:
        return eight_bits(image).convert("RGB")
    if not is_transparent(image):
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits, 32 bits or floats with 8 bits (convert would make its top white).

    Raises:
        ValueError: its numbers are in no range that is known.
    """
    values = np.asarray(image, dtype=np.float64)
    tops = (65535,) if image.mode.startswith("I;16") else TOPS[image.mode[0]]
    top = min((top for top in tops if values.max() <= top), default=None)
    if top is None:
        raise ValueError(f"its numbers go up to {values.max()}")
    return Image.fromarray((255 * values / top).round().clip(0, 255).astype(np.uint8))
