"""Images side by side on one pair of axes; `show.film_strip` and `show.show_images` are made of it.

figure = image_grid(rows, titles, labels, width=8.0)
pixels = to_array(image)                          # (C, H, W) in [-1, 1], as matplotlib wants it
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

_FRAME = {"fill": False, "edgecolor": "#BBBBBB", "lw": 0.7}
_PIXELS = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}


def to_array(image: Tensor) -> np.ndarray:
    """An image (C, H, W) in [-1, 1] as (H, W) or (H, W, 3) in [0, 1]; the rest is clipped."""
    image = image.detach().float().cpu()
    if image.ndim == 3:
        image = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    return ((image + 1) / 2).clamp(0, 1).numpy()


def _melts(pixels: np.ndarray) -> bool:
    """Whether an image, as to_array has it, ends in white: on a page nobody would see where."""
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    return bool(np.mean([edge.mean() for edge in edges]) > 0.9)


def image_grid(
    rows: Sequence[Sequence[Tensor]],
    titles: Sequence[Sequence[str]],
    labels: Sequence[str],
    width: float,
) -> Figure:
    """All images on one pair of axes (many small axes would be slow); an image is one unit wide."""
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    margin = 0.08 * longest + 0.15 if labels else 0.0  # inches for the labels on the left
    cells = max(len(row) for row in rows)
    size = min((width - margin) / cells, 2.0)  # inches an image
    ratio = rows[0][0].shape[-2] / rows[0][0].shape[-1]
    above = [0.2 * max((1 + t.count("\n") for t in row), default=0) / size for row in titles]
    height = sum(above) + len(rows) * (ratio + 0.04)
    full = margin + cells * size
    figure = Figure(figsize=(full, height * size))
    axes = figure.add_axes((margin / full, 0, cells * size / full, 1))
    for i, row in enumerate(rows):
        y = sum(above[: i + 1]) + i * (ratio + 0.04)
        for j, image in enumerate(row):
            box = (j + 0.02, j + 0.98, y + 0.96 * ratio, y)
            pixels = to_array(image)
            axes.imshow(pixels, extent=box, **_PIXELS)
            if _melts(pixels):
                axes.add_patch(Rectangle((box[0], y), 0.96, 0.96 * ratio, **_FRAME))
        for j, title in enumerate(titles[i]):
            axes.text(j + 0.5, y - 0.04 / size, title, ha="center", va="bottom")
        for label in labels[i : i + 1]:
            axes.text(-0.07 / size, y + ratio / 2, label, ha="right", va="center")
    axes.set(xlim=(0, cells), ylim=(height, 0), aspect="auto")
    axes.axis("off")
    return figure
