"""A failed exercise as a picture: the learner's curve or image beside the expected one.

A suite says what to draw in a function of its own, `@pictured("snr") def test_snr_picture(student,
draw)`. It asks the learner's code about *public* inputs, such as the notebook's own schedule, since
its picture goes on feedback pages. It runs where the exercise failed, and settles no points.
"""

import base64
import functools
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from autograder.testing import matches

DPI = 150
MAX_POINTS = 400  # of a curve; more are not told apart at this size
MAX_SIDE = 128  # of an image
VISIBLE = 0.01  # of the expected range: smaller differences cannot be seen
MARGIN = 0.6  # of the expected range: how far beyond it a wrong curve is followed


class NotDrawable(Exception):
    """What the learner's code gave is no curve, or no image, of this kind."""


@dataclass(frozen=True)
class Curve:
    """One panel: two lines over the same axis.

    Args:
        title: what is compared, and for which public input.
        yours, expected: (N,) values.
        xlabel, ylabel: of the axes.
        x: (N,) where the values stand; by default 0, 1, 2, …
        yscale: "linear" or "log".
        dots: draw each value as a dot.
    """

    title: str
    yours: object
    expected: object
    xlabel: str
    ylabel: str
    x: object = None
    yscale: str = "linear"
    dots: bool = False


@dataclass(frozen=True)
class Image:
    """Two panels: tables of numbers (H, W) as images, on one scale of grey.

    Args:
        title: what is compared, and for which public input.
        yours, expected: (H, W) values.
        xlabel, ylabel: what runs along the columns and the rows.
    """

    title: str
    yours: object
    expected: object
    xlabel: str = ""
    ylabel: str = ""


@dataclass(frozen=True)
class Drawn:
    """A picture as it travels in a result."""

    png: str  # base64
    caption: str


def pictured(name: str) -> pytest.MarkDecorator:
    """Say of which exercise a function of a suite draws a picture."""
    return pytest.mark.exercise(name, picture=True)


def is_picture(item: pytest.Item) -> bool:
    """Whether an item that pytest collected draws, and tests nothing."""
    marker = item.get_closest_marker("exercise")
    return marker is not None and bool(marker.kwargs.get("picture"))


def draw(*panels: Curve | Image, inputs: str = "") -> Drawn | None:
    """Draw panels side by side; None where nothing can be seen in them.

    Args:
        panels: what to draw, at most three.
        inputs: the public inputs, in words.

    Raises:
        NotDrawable: what the learner's code gave cannot be drawn.
    """
    if all(_same(panel) for panel in panels):
        return None
    cleaned = tuple(_cleaned(panel) for panel in panels)
    if not any(_seen(panel) for panel in cleaned):
        return None
    if isinstance(panels[0], Image):
        caption = "Left: yours. Right: what is expected."
    else:
        caption = "Dashed: yours. Wide and pale: what is expected."
    caption += f" Drawn {inputs}." if inputs else ""
    if any(isinstance(panel, Curve) and _leaves(panel) for panel in cleaned):
        caption += " Part of yours lies outside the picture."
    return Drawn(_png(cleaned), caption)


def drawable(value: object) -> Tensor:
    """What the learner's code returned, as a tensor to reckon with.

    Raises:
        NotDrawable: it is none, or not of real numbers.
    """
    if not isinstance(value, Tensor) or value.is_complex():
        raise NotDrawable
    return value.double()


def _same(panel: Curve | Image) -> bool:
    expected, yours = torch.as_tensor(panel.expected), drawable(panel.yours)
    return matches(yours, expected, rtol=1e-3, atol=1e-6)


def _cleaned(panel: Curve | Image) -> Curve | Image:
    """The panel with plain numbers in it, and not too many."""
    dims = 2 if isinstance(panel, Image) else 1
    expected = torch.as_tensor(panel.expected).double()
    yours = _numbers(panel.yours, dims, expected)
    if isinstance(panel, Image):
        return replace(panel, yours=_tuples(yours), expected=_tuples(expected))
    x = torch.arange(max(len(yours), len(expected))) if panel.x is None else panel.x
    x = torch.as_tensor(x).double()
    if panel.x is not None and len(yours) != len(x):
        raise NotDrawable
    every = math.ceil(len(x) / MAX_POINTS)
    thin = [_tuples(values[::every]) for values in (x, yours, expected)]
    return replace(panel, x=thin[0], yours=thin[1], expected=thin[2])


def _numbers(value: object, dims: int, expected: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim != dims or not value.numel():
        raise NotDrawable
    longest = MAX_SIDE if dims == 2 else 2 * len(expected) + 1
    if value.is_complex() or max(value.shape) > longest:
        raise NotDrawable
    value = value.double()
    if not torch.isfinite(value).any():
        raise NotDrawable
    return value.nan_to_num(nan=math.nan, posinf=math.nan, neginf=math.nan)


def _tuples(values: Tensor) -> tuple:
    rounded = [float(f"{number:.5g}") for number in values.flatten().tolist()]
    if values.ndim == 1:
        return tuple(rounded)
    width = values.shape[1]
    return tuple(tuple(rounded[i : i + width]) for i in range(0, len(rounded), width))


def _scaled(panel: Curve, values: Sequence[float]) -> list[float]:
    if panel.yscale == "log":
        return [math.log10(value) for value in values if value > 0]
    return [value for value in values if not math.isnan(value)]


def _seen(panel: Curve | Image) -> bool:
    """Whether the two are far enough apart to be told apart in a picture of this size."""
    if isinstance(panel, Image):
        return True
    expected, yours = _scaled(panel, panel.expected), _scaled(panel, panel.yours)
    if abs(len(expected) - len(yours)) > VISIBLE * len(expected):
        return True
    span = max(expected) - min(expected) or 1.0
    return any(abs(a - b) > VISIBLE * span for a, b in zip(expected, yours, strict=False))


def _limits(panel: Curve) -> tuple[float, float]:
    """The range to draw, in the panel's own scale: all of the expected, much of yours."""
    expected, yours = _scaled(panel, panel.expected), _scaled(panel, panel.yours)
    low, high = min(expected), max(expected)
    span = high - low or 1.0
    low = min([low, *(max(value, low - MARGIN * span) for value in yours)])
    high = max([high, *(min(value, high + MARGIN * span) for value in yours)])
    return low - 0.05 * span, high + 0.05 * span


def _leaves(panel: Curve) -> bool:
    low, high = _limits(panel)
    return any(not low <= value <= high for value in _scaled(panel, panel.yours))


@functools.lru_cache(maxsize=256)  # a class makes the same mistakes
def _png(panels: tuple) -> str:
    from t2i import show  # matplotlib takes a while: only where something is drawn

    columns = sum(2 if isinstance(panel, Image) else 1 for panel in panels)
    width = {1: 4.8, 2: 6.8}.get(columns, 9.0)
    figure, axes = show.panels(1, columns, width=width, height=2.6)
    free = iter(axes)
    for panel in panels:
        if isinstance(panel, Image):
            _draw_image(panel, next(free), next(free))
        else:
            _draw_curve(panel, next(free))
    return base64.b64encode(_small(show.Picture(figure, "").png(DPI))).decode()


def _small(png: bytes) -> bytes:
    """The same picture with a palette: a fifth of the bytes, and a class has many of them."""
    from PIL import Image as Pixels

    with Pixels.open(io.BytesIO(png)) as picture:
        smaller = picture.convert("RGB").quantize(96, dither=Pixels.Dither.NONE)
    buffer = io.BytesIO()
    smaller.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _draw_curve(panel: Curve, axes) -> None:
    from t2i.show import BLUE, VERMILLION

    low, high = _limits(panel)
    dots = {"marker": "o", "markersize": 4} if panel.dots else {}
    lines = (("expected", BLUE, "-", 5, 0.35), ("yours", VERMILLION, "--", 1.8, 1.0))
    for name, colour, dashes, thick, alpha in lines:
        y = getattr(panel, name)
        style = {"color": colour, "ls": dashes, "lw": thick, "alpha": alpha, "label": name}
        axes.plot(panel.x[: len(y)], y, **style, **dots)
    limits = (10**low, 10**high) if panel.yscale == "log" else (low, high)
    axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel, yscale=panel.yscale, ylim=limits)
    axes.set_title(panel.title, fontsize=10)
    axes.legend(fontsize=9)


def _draw_image(panel: Image, left, right) -> None:
    flat = [value for row in panel.expected for value in row]
    for axes, name in ((left, "yours"), (right, "expected")):
        scale = {"vmin": min(flat), "vmax": max(flat), "cmap": "gray"}
        axes.imshow(getattr(panel, name), interpolation="nearest", aspect="auto", **scale)
        axes.grid(False)
        axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
        axes.set_title(f"{name}: {panel.title}", fontsize=10)
