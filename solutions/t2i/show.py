"""Drawing for every lesson: small pictures with colours that colour-blind people can tell apart.

Each helper returns a `Picture`. A notebook shows it when it is a cell's last line (or through
`display(...)`), with an `alt` text for readers who cannot see it and a caption below it.
"""

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from t2i.drawing.image_grid import image_grid
from t2i.drawing.image_grid import to_array as to_array  # a helper of this module's too
from t2i.drawing.in_words import in_words

# Okabe and Ito 2008, "Color Universal Design": the one home of the course's colours.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, YELLOW, BLACK = "#CC79A7", "#56B4E9", "#F0E442", "#000000"
GREY = "#6F6F6F"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), "-")
FEW = 10  # so many values of a curve are marked one by one

_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
}


@dataclass
class Picture:
    """A drawn figure, the sentence that says what is in it, and what to notice.

    Args:
        figure: what was drawn; its inches times 100 are its width on the page in pixels.
        alt: what a sighted reader sees, in a sentence or two.
        caption: a line shown below the picture.
    """

    figure: Figure
    alt: str
    caption: str = ""

    def png(self, dpi: int = 160) -> bytes:
        """The picture as a PNG file's bytes."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        return buffer.getvalue()

    def save(self, path: str | Path, dpi: int = 130) -> Path:
        """Write the picture to a PNG file; the same drawing gives the same bytes."""
        path = Path(path)
        path.write_bytes(self.png(dpi))
        return path

    def _repr_html_(self) -> str:
        width = round(self.figure.get_size_inches()[0] * 100)
        data = base64.b64encode(self.png()).decode()
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        return (
            f'<figure style="margin:0"><img src="data:image/png;base64,{data}" '
            f'alt="{html.escape(self.alt)}" style="width:{width}px;max-width:100%">'
            f"{caption}</figure>"
        )

    def __repr__(self) -> str:
        return f"Picture: {self.alt}"


def panels(
    rows: int = 1, columns: int = 1, width: float = 8.0, height: float = 3.0
) -> tuple[Figure, list[Axes]]:
    """An empty figure in the course's style (8 inches fill a notebook) and the list of its axes."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def plain_marks(axes: Axes) -> None:
    """Label a logarithmic y axis, once all is drawn: 1, 2, 5, 10 … or, if these are few, more."""
    low, high = axes.get_ylim()
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        marks = [digit * 10.0**power for power in range(-6, 7) for digit in digits]
        marks = [mark for mark in marks if low <= mark <= high]
        if len(marks) > 2:
            break
    axes.set_yticks(marks, [f"{mark:g}" for mark in marks])
    axes.yaxis.set_minor_formatter("")


def film_strip(
    rows: Mapping[str, Tensor | Sequence[Tensor]],
    column_titles: Sequence[str] = (),
    *,
    alt: str,
    caption: str = "",
    width: float = 8.0,
) -> Picture:
    """One row of images a label, so that the same moment stands in the same column.

    Args:
        rows: label to (N, C, H, W) images in [-1, 1]; a row may be shorter than the others.
        column_titles: a word above each column, for instance its step t.
        alt, caption, width: see `Picture`; inches.
    """
    titles = [list(column_titles)] + [[]] * (len(rows) - 1)
    return Picture(image_grid(list(rows.values()), titles, list(rows), width), alt, caption)


def show_images(
    images: Tensor | Sequence[Tensor],
    titles: Sequence[str] = (),
    *,
    alt: str,
    caption: str = "",
    columns: int = 8,
    width: float = 8.0,
) -> Picture:
    """Images (N, C, H, W) in [-1, 1] side by side, `columns` in a row, each with its own title."""
    starts = range(0, len(images), columns)
    rows = [images[i : i + columns] for i in starts]
    return Picture(
        image_grid(rows, [titles[i : i + columns] for i in starts], [], width), alt, caption
    )


def curves(
    x: Tensor | Sequence[float],
    lines: Mapping[str, Tensor | Sequence[float]],
    *,
    alt: str = "",
    caption: str = "",
    width: float = 8.0,
    height: float = 3.0,
    **labels: object,
) -> Picture:
    """One panel of named lines; `labels` are matplotlib's: title, xlabel, ylabel, yscale, ylim.

    Without an `alt`, some of the lines' values stand in its place.
    """
    figure, (axes,) = panels(1, 1, width, height)
    draw_curves(axes, x, lines, **labels)
    names = {key: labels[key] for key in ("xlabel", "ylabel") if key in labels}
    return Picture(figure, alt or in_words(x, lines, **names), caption)


def draw_curves(
    axes: Axes,
    x: Tensor | Sequence[float],
    lines: Mapping[str, Tensor | Sequence[float]],
    **labels: object,
) -> None:
    """Lines (label to (N,) values over x) in a given panel, told apart by colour and by dashes.

    Few values are marked by dots: the line between them is no measurement.
    """
    dots = "o" if len(x) <= FEW else ""
    for i, (label, y) in enumerate(lines.items()):
        colour, dashes = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
        x, y = torch.as_tensor(x), torch.as_tensor(y)
        axes.plot(x, y, color=colour, ls=dashes, marker=dots, ms=5, lw=2, label=label)
    axes.set(**labels)
    if len(lines) > 1:
        axes.legend()


def draw_histogram(
    axes: Axes,
    values: Tensor,
    *,
    bins: int = 80,
    limits: tuple[float, float] = (-4.0, 4.0),
    normal: bool = True,
    **labels: object,
) -> None:
    """How often each value occurs, any shape; with `normal`, the curve of N(0, 1) over it."""
    numbers = values.detach().float().flatten().cpu().numpy()
    axes.hist(numbers, bins=bins, range=limits, density=True, color=SKY)
    if normal:
        x = np.linspace(*limits, 200)
        y = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
        axes.plot(x, y, color=VERMILLION, lw=2, label="N(0, 1)")
        axes.legend(loc="upper right")
    axes.set(**labels)


def slider(draw: Callable[..., Picture], **controls: object) -> None:
    """Redraw a picture while the reader moves a slider; without a live kernel it stands still.

    The picture is a widget of its own. What `ipywidgets.interactive` captures does not reach the
    page with every version of the kernel.

    Args:
        draw: makes the picture from the sliders' values.
        controls: name to (start, stop, step) or to a list of choices, as in ipywidgets.
    """
    from IPython.display import display
    from ipywidgets import HTML, VBox, interactive

    knobs = {name: interactive.widget_from_abbrev(given) for name, given in controls.items()}
    page = HTML()

    def redraw(_: object = None) -> None:
        page.value = draw(**{name: knob.value for name, knob in knobs.items()})._repr_html_()

    def redraw_or_say(_: object) -> None:  # an error in a moved slider would only reach a log
        try:
            redraw()
        except Exception as error:
            page.value = f"<pre>{html.escape(f'{type(error).__name__}: {error}')}</pre>"

    for name, knob in knobs.items():
        knob.description = name
        knob.observe(redraw_or_say, "value")
    redraw()
    display(VBox([*knobs.values(), page]))
