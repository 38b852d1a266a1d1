"""Draw the figures of lesson 5: python lessons/05_guidance/make_figures.py [name ...]

The digits come from the committed weights (`python -m t2i.runs.class_recipes train` makes them) and
the curve from the figures beside them (`python -m t2i.runs.class_recipes evaluate`): a minute on
two cores.
"""

from functools import cache
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor

from t2i import show
from t2i.data import mnist
from t2i.drawing import show_guidance
from t2i.drawing.figure_files import draw_figures
from t2i.guidance import ClassUNet, sample_guided
from t2i.runs.class_recipes import AsPicture, load_class_unet
from t2i.samplers import spaced_timesteps
from t2i.schedules import add_noise

FIGURES = Path(__file__).parent / "figures"
SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)


def seeded(*shape: int, seed: int) -> Tensor:
    """Standard Gaussian noise that is the same at every run."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@cache
def trained() -> ClassUNet:
    return load_class_unet()[0]


def order(wish: Tensor, x_T: Tensor, scale: float, **options) -> Tensor:
    """Pictures of the digits in `wish`, in 25 steps."""
    model = trained()
    ac = model.denoiser.alphas_cumprod
    given = (x_T, wish, model.null, ac, spaced_timesteps(len(ac), 25), scale)
    return sample_guided(AsPicture(model), *given, prediction_type="sample", **options)


# --- the digits


def asked() -> show.Picture:
    """Ten rows, one for each digit that was asked for."""
    wish = torch.arange(10).repeat_interleave(16)
    samples = order(wish, seeded(160, 1, 28, 28, seed=11), 3.0)
    rows = {f"{digit}": samples[wish == digit] for digit in range(10)}
    return show.film_strip(rows, alt="", width=6.4)


def sweep() -> show.Picture:
    """One row a scale, the same noise in each, and the same as in the notebook."""
    x_T = seeded(40, 1, 28, 28, seed=1)[:10]
    rows = {f"scale {s:g}": order(torch.arange(10), x_T, s) for s in SCALES}
    return show.film_strip(rows, [f"{digit}" for digit in range(10)], alt="", width=6.4)


def unclipped() -> dict[str, Tensor]:
    """Scale 8 without clipping, rescaled, and clipped, beside scale 1, as in the notebook."""
    wish, x_T = torch.arange(10), seeded(40, 1, 28, 28, seed=1)[:10]
    return {
        "scale 1": order(wish, x_T, 1.0, clip_sample=False),
        "scale 8": order(wish, x_T, 8.0, clip_sample=False),
        "8, rescaled": order(wish, x_T, 8.0, clip_sample=False, guidance_rescale=0.7),
        "8, clipped": order(wish, x_T, 8.0),
    }


def too_much() -> show.Picture:
    return show.film_strip(unclipped(), alt="", width=6.4)


def outside() -> show.Picture:
    """How many of these pictures' pixels lie outside [-1, 1]."""
    return show_guidance.contrast_picture(unclipped())


# --- the flat world


def arrows() -> show.Picture:
    """One point: uncond, cond, and the line through both that guidance walks along."""
    world = show_guidance.flat_world()
    figure, (axes,) = show.panels(1, 1, 5.2, 4.3)
    show_guidance.draw_clouds(axes, world, 0, float(world.alphas_cumprod[20]))
    x, t = torch.tensor([[-1.75, 0.55]]), torch.tensor([20])
    uncond = -world(x, t, torch.tensor([world.null]))[0]
    cond = -world(x, t, torch.tensor([0]))[0]
    start, size = x[0], 0.55
    tips = {s: start + size * (uncond + s * (cond - uncond)) for s in (0, 1, 2, 3)}
    axes.plot(*torch.stack([tips[0], tips[3]]).T, "--", color=show.GREY, lw=1.5, zorder=2)
    places = {0: (8, -8, "left"), 1: (8, -6, "left"), 2: (8, -6, "left"), 3: (8, -6, "left")}
    names = {0: "uncond (0)", 1: "cond (1)", 2: "guided, 2", 3: "guided, 3"}
    colours = {0: show.GREY, 1: show.BLACK, 2: show.VERMILLION, 3: show.VERMILLION}
    for s, tip in tips.items():
        style = {"arrowstyle": "-|>,head_width=0.3,head_length=0.6", "lw": 2.2}
        style |= {"color": colours[s], "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", tip.tolist(), start.tolist(), arrowprops=style)
        dx, dy, side = places[s]
        axes.annotate(
            names[s], tip.tolist(), (dx, dy), textcoords="offset points", ha=side,
            color=colours[s], fontsize=10.5, fontweight="bold",
            bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 1},
        )  # fmt: skip
    axes.plot(*start, "o", color=show.BLACK, ms=7, zorder=5)
    axes.set(xlim=(-2.7, 2.5), ylim=(-1.6, 2.6), aspect="equal")
    return show.Picture(figure, "")


# --- ideas


def box(axes: Axes, x: float, y: float, wide: float, high: float, colour: str, text: str) -> None:
    shape = FancyBboxPatch(
        (x, y), wide, high, "round,pad=0,rounding_size=0.08", fc=colour, ec=show.BLACK, lw=1
    )
    axes.add_patch(shape)
    axes.text(x + wide / 2, y + high / 2, text, ha="center", va="center", fontsize=10)


def arrow(axes: Axes, start: tuple, end: tuple) -> None:
    style = {"arrowstyle": "-|>,head_width=0.3,head_length=0.6", "color": show.BLACK, "lw": 1.8}
    axes.annotate("", end, start, arrowprops=style | {"shrinkA": 0, "shrinkB": 0})


def strip(axes: Axes, x: float, y: float, values: Tensor, wide: float, high: float) -> None:
    """A vector as a row of coloured squares."""
    box_ = (x, x + wide, y, y + high)
    axes.imshow(values[None], cmap="cividis", vmin=-2, vmax=2, extent=box_, aspect="auto")
    axes.add_patch(Rectangle((x, y), wide, high, fill=False, ec=show.BLACK, lw=0.8))


def orders() -> show.Picture:
    """Label to row of the table, plus the time's vector, into the blocks."""
    figure, (axes,) = show.panels(1, 1, 8, 3.7)
    rows, time = seeded(11, 14, seed=3), seeded(14, seed=4)
    for label in range(11):
        y = 3.3 - 0.3 * label
        strip(axes, 1.0, y, rows[label], 2.2, 0.24)
        name = "nothing" if label == 10 else f"{label}"
        colour = show.VERMILLION if label == 3 else show.BLACK
        axes.text(0.9, y + 0.12, name, ha="right", va="center", color=colour, fontsize=10)
    y = 3.3 - 0.3 * 3
    axes.add_patch(Rectangle((0.97, y - 0.03), 2.26, 0.3, fill=False, ec=show.VERMILLION, lw=2.5))
    axes.text(2.1, 3.72, "LabelEmbedding: the table", ha="center", fontsize=10.5)
    arrow(axes, (3.3, y + 0.12), (4.32, 1.68))
    axes.text(4.55, 1.55, "+", ha="center", va="center", fontsize=22)
    strip(axes, 3.55, 0.2, time, 1.9, 0.24)
    axes.text(4.55, -0.05, "the time's vector", ha="center", fontsize=10)
    arrow(axes, (4.55, 0.55), (4.55, 1.32))
    arrow(axes, (4.78, 1.55), (5.55, 1.55))
    for i, (name, high) in enumerate((("down", 2.2), ("mid", 1.4), ("up", 2.2))):
        box(axes, 5.65 + 0.85 * i, 1.55 - high / 2, 0.7, high, "#CFE8F6", name)
    axes.text(6.75, 2.85, "every ResBlock of the UNet hears the sum", ha="center", fontsize=10)
    axes.set(xlim=(0, 8.4), ylim=(-0.3, 3.95), aspect="auto")
    axes.axis("off")
    return show.Picture(figure, "")


def dropped() -> show.Picture:
    """Sentences of 24 numbers, a row each; dropped whole, and dropped by numbers."""
    samples, numbers = 8, 24
    context = seeded(samples, numbers, seed=5)
    generator = torch.Generator().manual_seed(8)
    torn = torch.rand(samples, numbers, generator=generator) < 0.17
    whole = torch.zeros(samples, numbers, dtype=torch.bool)
    whole[[2, 6]] = True
    figure, axes = show.panels(1, 3, 8, 2.7)
    titles = ("before", "right: two lost all", "wrong: all are torn")
    for panel, title, mask in zip(axes, titles, (None, whole, torn), strict=True):
        panel.imshow(context, cmap="cividis", vmin=-2, vmax=2, aspect="auto")
        if mask is not None:
            for i, j in mask.nonzero().tolist():
                square = (j - 0.5, i - 0.5), 1, 1
                panel.add_patch(Rectangle(*square, fc="white", ec=show.VERMILLION, lw=0.6))
        panel.set(title=title, xticks=[], xlabel="all numbers of its condition")
        panel.set(yticks=range(samples), yticklabels=range(1, samples + 1))
        panel.grid(False)
    axes[0].set_ylabel("sample")
    return show.Picture(figure, "")


@torch.no_grad()
def one_call() -> show.Picture:
    """Three samples doubled, asked once, cut in halves, guided: every row of every step."""
    model = trained()
    figure, (axes,) = show.panels(1, 1, 8, 3.9)
    images, labels = (values[:3] for values in mnist("test"))
    t, null = torch.tensor([150, 350, 550]), torch.full_like(labels, model.null)
    x_t = add_noise(images, seeded(3, 1, 28, 28, seed=6), t, model.denoiser.alphas_cumprod)
    both = (torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([null, labels]))
    answer = model(*both)
    uncond, cond = answer.chunk(2)
    upper, lower, alone = (3.2, 2.65, 2.1), (1.35, 0.8, 0.25), (2.3, 1.75, 1.2)
    middle = 2.0
    told_rows(axes, 0.05, alone, (x_t, t, labels), model.null)
    told_rows(axes, 2.5, upper + lower, both, model.null)
    for x, heights, tiles in (
        (5.65, upper + lower, answer), (8.7, alone, uncond + 3 * (cond - uncond)),
    ):  # fmt: skip
        for y, image in zip(heights, tiles, strict=True):
            tile(axes, x, y, image)
    for x, y, name in ((5.9, upper[0], "noise_pred"), (8.95, alone[0], "guided")):
        axes.text(x, y + 0.6, name, ha="center", fontsize=9)
    for start, end in ((1.85, 2.4), (4.3, 4.55), (5.35, 5.6)):
        arrow(axes, (start, middle), (end, middle))
    box(axes, 4.6, middle - 0.5, 0.7, 1.0, "#CFE8F6", "model")
    for half, name, colour in ((upper, "uncond", show.VERMILLION), (lower, "cond", show.BLUE)):
        bottom, top = half[-1], half[0] + 0.5
        axes.plot([6.2, 6.3, 6.3, 6.2], [bottom, bottom, top, top], color=colour, lw=2)
        y = (bottom + top) / 2
        axes.text(6.4, y, f"{name}\n(3, 1, 28, 28)", va="center", fontsize=9, color=colour)
        arrow(axes, (7.5, y), (8.5, middle + 0.25 * (1 if y > middle else -1)))
    axes.text(8.8, 3.25, "uncond +\ns · (cond − uncond)", ha="center", fontsize=9)
    for x, name in ((0.9, "what is given"), (3.4, "1. join"), (4.95, "2. ask"), (6.5, "3. cut"),
                    (8.95, "4. guide")):  # fmt: skip
        axes.text(x, 4.35, name, ha="center", fontsize=10.5, fontweight="bold")
    for x, shape in ((0.9, "(3, 1, 28, 28), (3,), (3,)"), (3.4, "(6, 1, 28, 28), (6,), (6,)"),
                     (5.9, "(6, 1, 28, 28)"), (8.95, "(3, 1, 28, 28)")):  # fmt: skip
        axes.text(x, -0.15, shape, ha="center", fontsize=8.5, color=show.GREY)
    axes.set(xlim=(0, 9.7), ylim=(-0.3, 4.6))
    axes.axis("off")
    return show.Picture(figure, "")


def tile(axes: Axes, x: float, y: float, image: Tensor) -> None:
    """A small picture, its lower left corner at (x, y)."""
    box_ = (x, x + 0.5, y, y + 0.5)
    axes.imshow(show.to_array(image), cmap="gray", vmin=0, vmax=1, extent=box_, aspect="auto")


def told_rows(axes: Axes, x: float, heights: tuple, batch: tuple, null: int) -> None:
    """What a model is given, a row a sample: the noisy picture, its step, its label."""
    for name, place in (("x_t", 0.25), ("t", 0.83), ("label", 1.43)):
        axes.text(x + place, heights[0] + 0.6, name, ha="center", fontsize=9)
    for y, image, step, label in zip(heights, *batch, strict=True):
        tile(axes, x, y, image)
        box(axes, x + 0.58, y + 0.06, 0.5, 0.38, "#FFFFFF", f"{step}")
        empty = label == null
        box(axes, x + 1.16, y + 0.06, 0.55, 0.38, "#E5E5E5" if empty else "#FBE3B0",
            "null" if empty else f"{label}")  # fmt: skip


def trade() -> show.Picture:
    found = show_guidance.results()
    return show_guidance.trade_picture(found["scales"], found["real"], found["n"])


if __name__ == "__main__":
    ideas = (orders, dropped, arrows)
    draw_figures(FIGURES, *ideas, asked, sweep, too_much, outside, one_call, trade)
