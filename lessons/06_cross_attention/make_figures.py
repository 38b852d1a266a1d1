"""Draw the figures of lesson 6: python lessons/06_cross_attention/make_figures.py [name ...]

Five of them explain and need nothing. The others look into the committed weights (`python -m
t2i.runs.scene_recipes train` makes them); where these are missing, one sentence says so.
"""

from functools import cache
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor

from t2i import show
from t2i.drawing import show_attention
from t2i.drawing.figure_files import draw_figures
from t2i.runs.scene_recipes import LENGTH, draw_captions, load_scenes
from t2i.samplers import sample_ddim, spaced_timesteps
from t2i.text_unet import SceneDenoiser
from t2i.world.caption_reading import encode

FIGURES = Path(__file__).parent / "figures"
FILM_CAPTIONS, FILM_SEED = ("a drawing of a pink heart", "a star that is blue"), 5
WISHES = ("a red seven", "a star that is blue", "a drawing of a pink heart", "a green 4")
WISHES += ("a yellow circle", "an orange two")
SWAPS = ("a red seven", "a blue seven", "a green seven", "a red star", "a red two", "a blue star")
MIDDLE = {"ha": "center", "va": "center"}


def box(
    axes: Axes, x: float, y: float, text: str, colour: str, width: float = 1.6, height: float = 0.6
) -> None:
    """A rounded box round a text, centred at (x, y)."""
    patch = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0.02,rounding_size=0.1",
        facecolor=colour + "22",
        edgecolor=colour,
        lw=1.6,
    )
    axes.add_patch(patch)
    axes.text(x, y, text, fontsize=10, **MIDDLE)


def arrow(axes: Axes, start: tuple, end: tuple, colour: str = show.BLACK, lw: float = 1.6) -> None:
    style = {"arrowstyle": "-|>,head_width=0.25,head_length=0.5", "color": colour, "lw": lw}
    axes.annotate("", end, start, arrowprops=style | {"shrinkA": 0, "shrinkB": 0})


def blank(width: float, height: float, xlim: tuple, ylim: tuple, columns: int = 1):
    """A figure without axes."""
    figure, panels = show.panels(1, columns, width, height)
    for axes in panels:
        axes.set(xlim=xlim, ylim=ylim)
        axes.axis("off")
    return figure, panels


# --- ideas


def lookup() -> show.Picture:
    """A dictionary's hard look-up, and attention's soft one."""
    figure, (left, right) = blank(8, 3.1, (0, 8), (0, 5.4), columns=2)
    keys = (("“a”", show.GREY), ("“red”", show.VERMILLION), ("“seven”", show.BLUE))
    hard, soft = ("no", "no", "yes"), (0.1, 0.2, 0.7)
    for axes, title in ((left, "a dictionary: one answer"), (right, "attention: a mixture")):
        axes.text(4, 5.2, title, fontsize=12, **MIDDLE)
        for x, name in ((0.9, "query"), (3.7, "keys"), (6.4, "values")):
            axes.text(x, 4.5, name, color=show.GREY, fontsize=10, **MIDDLE)
    box(left, 0.9, 2.6, "“seven”", show.BLACK, 1.6)
    box(right, 0.95, 2.6, "which\ndigit is it?", show.BLACK, 1.75, 1.0)
    for i, (word, colour) in enumerate(keys):
        y = 3.8 - 1.2 * i
        for axes in (left, right):
            box(axes, 3.7, y, word, colour, 1.6)
            box(axes, 6.5, y, f"what {word}\nmeans", colour, 2.3, 0.85)
        if hard[i] == "yes":
            arrow(left, (1.75, 2.6), (2.85, y), colour, 2.5)
            arrow(left, (4.55, y), (5.3, y), colour, 2.5)
        arrow(right, (1.87, 2.6), (2.85, y), colour, 5 * soft[i] + 0.4)
        arrow(right, (4.55, y), (5.3, y), colour, 5 * soft[i] + 0.4)
        right.text(4.97, y + 0.28, f"{soft[i]}", fontsize=10, color=colour, **MIDDLE)
    left.text(4, 0.25, "answer: the value of “seven”", fontsize=10, **MIDDLE)
    right.text(4, 0.25, "answer: a little of all three values", fontsize=10, **MIDDLE)
    return show.Picture(figure, "")


def heads() -> show.Picture:
    """Two pictures of three places: their channels shared out among two heads, and put together."""
    figure, (axes,) = blank(8, 4.2, (-2.6, 34.4), (-1.6, 16.2))
    colours, inks = (show.BLUE, show.ORANGE), ("white", "black")

    def table(left: float, top: float, picture: int, channels: range) -> None:
        for place in range(3):
            for column, channel in enumerate(channels):
                x, y, head = left + column, top - 1 - place, channel // 4
                cell = Rectangle((x, y), 0.94, 0.94, facecolor=colours[head], alpha=0.75, lw=0)
                axes.add_patch(cell)
                text = f"{picture}{place}{channel}"
                axes.text(x + 0.47, y + 0.45, text, color=inks[head], size=7.5, **MIDDLE)

    for left, side in ((0, "right"), (23.8, "left")):
        for picture, top in enumerate((11.2, 5.2)):
            table(left, top, picture, range(8))
            x = left - 0.3 if side == "right" else left + 8.2
            text = f"picture\n{picture}"
            axes.text(x, top - 1.5, text, fontsize=8.5, color=show.GREY, ha=side, va="center")
    for block, top in enumerate((13.7, 10.2, 6.2, 2.7)):
        picture, head = divmod(block, 2)
        table(13, top, picture, range(4 * head, 4 * head + 4))
        text = f"picture {picture}\nhead {head}"
        axes.text(17.2, top - 1.5, text, fontsize=8.5, color=show.GREY, va="center")
    for x, name, axis in (
        (4, "(2, 3, 8)", "(B, N, heads · d)"),
        (15, "(2, 2, 3, 4)", "(B, heads, N, d)"),
        (27.8, "(2, 3, 8)", "(B, N, heads · d)"),
    ):
        axes.text(x, 15.6, name, fontsize=11, fontweight="bold", **MIDDLE)
        axes.text(x, 14.6, axis, fontsize=9.5, **MIDDLE)
    for start, end, name in ((8.7, 12.4, "split_heads\n(x, 2)"), (20.2, 23.0, "merge_heads")):
        arrow(axes, (start, 6.7), (end, 6.7))
        axes.text((start + end) / 2, 7.7, name, fontsize=8.5, **MIDDLE)
    text = "in each cell: the picture, the place, the channel"
    axes.text(15, -1.1, text, fontsize=9, color=show.GREY, **MIDDLE)
    return show.Picture(figure, "")


def cross() -> show.Picture:
    """Where query, key and value come from."""
    figure, (axes,) = blank(8, 3.2, (0, 13), (0, 5.4))
    box(axes, 1.3, 4.2, "x: the picture\n(B, N, query_dim)", show.BLUE, 2.3, 1.0)
    box(axes, 1.3, 1.4, "context: the words\n(B, L, context_dim)", show.VERMILLION, 2.3, 1.0)
    for y, name, result, colour in (
        (4.2, "to_q", "query", show.BLUE),
        (2.3, "to_k", "key", show.VERMILLION),
        (0.6, "to_v", "value", show.VERMILLION),
    ):
        box(axes, 4.3, y, name, show.GREY, 1.2)
        box(axes, 6.4, y, result, colour, 1.3)
        arrow(axes, (2.5, 4.2 if y > 4 else 1.4), (3.65, y), colour)
        arrow(axes, (4.95, y), (5.7, y), colour)
        arrow(axes, (7.1, y), (8.0, 2.4 + 0.35 * (y - 2.3)), colour)
    box(axes, 8.95, 2.5, "look up\nin each head", show.GREEN, 1.8, 1.9)
    box(axes, 11.8, 2.5, "to_out\n(B, N, query_dim)", show.GREY, 2.2, 1.0)
    arrow(axes, (9.9, 2.5), (10.65, 2.5))
    axes.text(8.95, 0.55, "mask: which words\nare there", fontsize=9, color=show.GREY, **MIDDLE)
    arrow(axes, (8.95, 0.95), (8.95, 1.5), show.GREY)
    return show.Picture(figure, "")


def spatial() -> show.Picture:
    """The way from a picture to a list and back, with shapes."""
    figure, (axes,) = blank(8, 2.9, (0, 17.4), (0, 5.2))
    steps = (
        ("norm", "(B, C, H, W)", show.GREY),
        ("proj_in", "(B, C′, H, W)", show.GREY),
        ("to a list", "(B, H·W, C′)", show.PURPLE),
        ("transformer\nblocks", "(B, H·W, C′)", show.GREEN),
        ("to a picture", "(B, C′, H, W)", show.PURPLE),
        ("proj_out", "(B, C, H, W)", show.GREY),
    )
    axes.text(0.35, 2.6, "x", fontsize=13, **MIDDLE)
    for i, (name, shape, colour) in enumerate(steps):
        x = 2.0 + 2.6 * i
        arrow(axes, (x - 1.45 if i else 0.6, 2.6), (x - 1.08, 2.6))
        box(axes, x, 2.6, name, colour, 2.1, 1.1)
        axes.text(x, 1.75, shape, fontsize=8.5, color=show.GREY, **MIDDLE)
    arrow(axes, (16.1, 2.6), (16.5, 2.6))
    axes.text(16.8, 2.6, "+", fontsize=16, **MIDDLE)
    axes.plot([0.35, 0.35, 16.8], [2.95, 4.6, 4.6], color=show.BLACK, lw=1.6)
    arrow(axes, (16.8, 4.6), (16.8, 2.95))
    axes.text(8.6, 4.85, "x itself", fontsize=10, **MIDDLE)
    arrow(axes, (9.8, 0.6), (9.8, 1.5), show.VERMILLION)
    axes.text(9.8, 0.35, "the words, and their mask", fontsize=10, color=show.VERMILLION, **MIDDLE)
    return show.Picture(figure, "")


def ways() -> show.Picture:
    """The two ways of the words into the UNet: looked at word by word, and as their mean."""
    figure, (axes,) = blank(8, 3.4, (0.2, 18.4), (0.5, 7.5))
    for i, word in enumerate(("a", "red", "seven", "·")):
        y = 5.0 - 0.9 * i
        box(axes, 1.0, y, word, show.GREY if word == "·" else show.BLACK, 1.3, 0.62)
        arrow(axes, (1.75, y), (2.5, y), show.GREY if word == "·" else show.BLACK)
    axes.text(1.0, 1.65, "padding", fontsize=9, color=show.GREY, **MIDDLE)
    box(axes, 3.45, 3.65, "Word-\nEncoder", show.GREEN, 1.7, 3.6)
    # above: the mean, with the time
    mean, look_at = show.BLUE, show.VERMILLION
    box(axes, 6.1, 5.9, "mean of the\nreal words", mean, 2.2, 1.0)
    box(axes, 8.45, 5.9, "to_cond", mean, 1.5, 0.7)
    arrow(axes, (4.4, 4.9), (4.95, 5.6), mean)
    arrow(axes, (7.25, 5.9), (7.65, 5.9), mean)
    arrow(axes, (9.25, 5.9), (9.75, 5.9), mean)
    axes.text(10.05, 5.9, "+", fontsize=17, **MIDDLE)
    axes.text(10.05, 7.15, "the time's vector", fontsize=9.5, **MIDDLE)
    arrow(axes, (10.05, 6.9), (10.05, 6.3))
    # below: each word
    box(axes, 7.0, 1.4, "context: one vector per\nword, and the mask", look_at, 4.4, 1.05)
    arrow(axes, (4.4, 2.4), (5.0, 1.95), look_at)
    # the UNet: its blocks hear the sum, its transformers look at the words
    for i, name in enumerate(("down", "mid", "up")):
        x = 11.95 + 2.45 * i
        frame = Rectangle((x - 1.19, 2.2), 2.38, 2.9, fill=False, edgecolor=show.BLACK, lw=1.2)
        axes.add_patch(frame)
        axes.text(x, 3.75, name, fontsize=10, **MIDDLE)
        box(axes, x, 4.55, "ResBlock", mean, 2.14, 0.65)
        box(axes, x, 2.85, "Spatial-\nTransformer", look_at, 2.14, 1.0)
        arrow(axes, (x, 5.9), (x, 4.92), mean)
        arrow(axes, (x, 1.4), (x, 2.3), look_at)
    axes.plot([10.35, 16.85], [5.9, 5.9], color=mean, lw=1.6)
    axes.plot([9.25, 16.85], [1.4, 1.4], color=look_at, lw=1.6)
    axes.text(9.85, 3.75, "x_t", fontsize=11, **MIDDLE)
    arrow(axes, (10.2, 3.75), (10.75, 3.75))
    arrow(axes, (18.05, 3.75), (18.4, 3.75))
    axes.text(14.4, 6.35, "one message to all places", fontsize=9.5, color=mean, **MIDDLE)
    axes.text(14.4, 0.85, "each place looks at each word", fontsize=9.5, color=look_at, **MIDDLE)
    return show.Picture(figure, "")


# --- the trained network


@cache
def painter() -> SceneDenoiser:
    return load_scenes()[0]


@cache
def record() -> show_attention.WordFilm:
    """Captions drawn in 25 steps, with a look at every word: the lesson's own recording."""
    seen = show_attention.WordFilm(painter(), FILM_CAPTIONS)
    with seen:
        draw_captions(painter(), FILM_CAPTIONS, seed=FILM_SEED, on_step=seen)
    return seen


@torch.no_grad()
def paint(tokens: Tensor, mask: Tensor, x_T: Tensor) -> Tensor:
    """Guided pictures with any mask, as in the lesson."""
    model, nothing = painter(), torch.zeros_like(mask)
    ac = model.alphas_cumprod

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        cond, uncond = (model(x_t, t, tokens, words) for words in (mask, nothing))
        return uncond + 3.0 * (cond - uncond)

    return sample_ddim(guided, x_T, ac, spaced_timesteps(len(ac), 25))


def noise(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def mask() -> show.Picture:
    """The same noise with the mask, with the mask inverted, and without words."""
    tokens, real = encode(WISHES, LENGTH)
    x_T = noise(len(WISHES), 2)
    rows = {
        "right": paint(tokens, real, x_T),
        "inverted": paint(tokens, ~real, x_T),
        "no words": paint(tokens, torch.zeros_like(real), x_T),
    }
    titles = [wish.replace(" of ", " of\n").replace(" that ", "\nthat ") for wish in WISHES]
    return show.film_strip(rows, titles, alt="")


def swapped() -> show.Picture:
    """One noise, one word swapped."""
    x_T = noise(1, 9).expand(len(SWAPS), -1, -1, -1)
    return show.show_images(paint(*encode(SWAPS, LENGTH), x_T), SWAPS, columns=6, alt="")


def film() -> bytes:
    """Where each word is looked at, step by step."""
    seen = record()
    return show_attention.animation(
        lambda step: show_attention.word_maps(seen, 0, step), seen.steps
    )


def maps() -> show.Picture:
    return show_attention.map_strip(record(), 0, moments=7)


if __name__ == "__main__":
    draw_figures(FIGURES, lookup, heads, cross, spatial, ways, film, maps, mask, swapped)
