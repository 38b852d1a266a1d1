"""Draw the figures of lesson 9: python lessons/09_dit/make_figures.py [name ...]

The last four show what the course measured, for those who read without a kernel; the notebook
draws the same from the same files.
"""

from functools import cache
from pathlib import Path

import torch
from matplotlib.axes import Axes

from t2i import show
from t2i.dit import modulate as modulated
from t2i.drawing import show_contest, show_dit, show_joint
from t2i.drawing.figure_files import draw_figures
from t2i.drawing.show_blocks import MIDDLE, arrow, bent_arrow, block_diagram, box
from t2i.runs.dit_recipes import load_joint
from t2i.world.scenes import scenes

FIGURES = Path(__file__).parent / "figures"
DASHED = (0, (3, 2))


@cache
def example() -> tuple[torch.Tensor, str]:
    """The lesson's scene of two things, and its caption."""
    pictures, captions = scenes(range(200), world="many")
    rows = [i for i, caption in enumerate(captions) if "left of" in caption]
    row = min(rows, key=lambda i: len(captions[i]))
    return pictures[row], captions[row]


def exploded() -> show.Picture:
    """A scene of two things, its patches, and the row of patches and words."""
    picture, caption = example()
    return show_dit.exploded(picture, 4, caption.split())


def numbers(axes: Axes, left: float, top: float, values: torch.Tensor) -> None:
    """A table of numbers, each column in its own colour."""
    colours = (show.BLUE, show.VERMILLION, show.GREEN)
    for i, row in enumerate(values.tolist()):
        for j, value in enumerate(row):
            place = (left + 0.5 + j, top + 0.5 + i)
            box(axes, *place, f"{value:.1f}".replace("-", "−"), colours[j], 0.86, 0.8, 10)


def modulate() -> show.Picture:
    """Three patches with three channels, and what the wish of their picture makes of them."""
    figure, (axes,) = show.panels(1, 1, 8, 2.6)
    axes.set(xlim=(0, 16), ylim=(5.2, 0))
    axes.axis("off")
    x = torch.tensor([[1.2, -1.2, 0.0], [-1.4, 0.7, 0.7], [0.2, 1.1, -1.3]])  # each row: norm's
    scale, shift = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    axes.text(3.3, 0.5, "x: three patches", fontsize=10, **MIDDLE)
    numbers(axes, 1.8, 1.2, x)
    for i in range(3):
        axes.text(1.7, 1.7 + i, f"patch {i}", fontsize=8, color=show.GREY, ha="right", va="center")
        axes.text(2.3 + i, 4.55, f"channel\n{i}", fontsize=8, color=show.GREY, **MIDDLE)
    for name, wish, top in (("scale", scale, 1.2), ("shift", shift, 3.2)):
        axes.text(6.4, top + 0.5, name, fontsize=10, ha="right", va="center")
        numbers(axes, 6.6, top, wish)
    axes.text(8.1, 0.5, "one wish a picture", fontsize=10, **MIDDLE)
    axes.text(13.5, 0.5, "x · (1 + scale) + shift", fontsize=10, **MIDDLE)
    numbers(axes, 12, 1.2, modulated(x[None], shift, scale)[0])
    for j, text in enumerate(("left\nalone", "doubled", "lifted\nby 1")):
        axes.text(12.5 + j, 4.7, text, fontsize=8, color=show.GREY, **MIDDLE)
    arrow(axes, (10.1, 2.7), (11.6, 2.7))
    return show.Picture(figure, "")


def block() -> show.Picture:
    """The DiT block, with the shapes as symbols."""
    return block_diagram()


def dit() -> show.Picture:
    """The whole DiT for eight digits of 28 × 28 pixels in patches of 4 × 4, 64 channels."""
    figure, (axes,) = show.panels(1, 1, 8, 4.6)
    axes.set(xlim=(0, 16), ylim=(9.2, -0.5))
    axes.axis("off")
    main, side = 5.0, 12.6
    steps = (
        ("patchify", "8×49×16", show.BLUE), ("patch_in", "8×49×64", show.BLUE),
        ("+ positions", "8×49×64", show.BLUE), ("block 0, block 1, …", "8×49×64", show.GREEN),
        ("final", "8×49×16", show.BLUE), ("unpatchify", "8×1×28×28", show.BLUE),
    )  # fmt: skip
    axes.text(main, 0, "x_t: 8×1×28×28", fontsize=10, **MIDDLE)
    for i, (text, shape, colour) in enumerate(steps):
        y = 1.4 + 1.4 * i
        box(axes, main, y, text, colour, 4.6, 0.75, 10)
        axes.text(main - 2.5, y, shape, fontsize=9, color=show.GREY, ha="right", va="center")
        arrow(axes, (main, y - 1.05), (main, y - 0.42))
    axes.text(side - 1.5, 0, "t: 8", fontsize=10, **MIDDLE)
    axes.text(side + 1.6, 0, "label: 8", fontsize=10, **MIDDLE)
    box(axes, side - 1.5, 1.4, "time_clocks\n8×256", show.ORANGE, 2.6, 1.0)
    box(axes, side - 1.5, 3.3, "time_mlp\n8×64", show.ORANGE, 2.6, 1.0)
    box(axes, side + 1.6, 3.3, "labels\n8×64", show.ORANGE, 2.6, 1.0)
    for x, start, end in ((-1.5, 0.35, 0.85), (-1.5, 1.95, 2.75), (1.6, 0.35, 2.75)):
        arrow(axes, (side + x, start), (side + x, end), show.ORANGE)
    for x in (-1.5, 1.6):
        arrow(axes, (side + x, 3.85), (side + 0.2 * x, 5.15), show.ORANGE)
    box(axes, side, 5.6, "c = sum: 8×64", show.ORANGE, 3.0, 0.75, 10)
    arrow(axes, (side - 1.55, 5.6), (main + 2.4, 5.6), show.ORANGE)
    bent_arrow(axes, [(side, 6.0), (side, 7.0), (main + 2.4, 7.0)], show.ORANGE)
    return show.Picture(figure, "")


def stream(axes: Axes, left: bool) -> None:
    """One column of the joint block, and beside it what the condition says to it."""
    x, bar = (5.4, 0.9) if left else (14.6, 19.1)
    name, colour = ("patches", show.BLUE) if left else ("words", show.VERMILLION)
    late = "-" if left else DASHED  # what the last block leaves out
    axes.text(
        x, 0.1, f"{name}: (B, {'N' if left else 'L'}, D)", fontsize=10, color=colour, **MIDDLE
    )
    rows = (
        (1.5, "norm1, modulate", "shift1,\nscale1", "-"), (2.9, "to_q   to_k   to_v", "", "-"),
        (7.2, "to_out,  · gate1,  + itself", "gate1", late),
        (8.8, "norm2, modulate, mlp,\n· gate2,  + itself", "shift2,\nscale2, gate2", late),
    )  # fmt: skip
    towards = 1 if left else -1
    for y, text, wish, line in rows:
        box(axes, x, y, text, colour, 4.4, 1.1 if "\n" in text else 0.75, 9, line)
        if wish:
            start, end = bar + towards * 0.4, x - towards * 2.25
            arrow(axes, (start, y), (end, y), show.ORANGE, 1.4, line)
            axes.text((start + end) / 2, y - 0.12, wish, fontsize=7.5, ha="center", va="bottom")
    box(axes, bar, 5.15, "modulation of c: SiLU, Linear", show.ORANGE, 0.75, 8.4, 9, "-", 90)
    moves = ((0.4, 1.1), (1.9, 2.5), (3.3, 4.25), (5.9, 6.8), (7.6, 8.2), (9.4, 9.9))
    for number, (start, end) in enumerate(moves):
        arrow(axes, (x, start), (x, end), colour, 1.4, late if number > 2 else "-")
    axes.text(x, 10.2, name, fontsize=10, color=colour, **MIDDLE)


def joint() -> show.Picture:
    """Two streams of weights, one attention."""
    figure, (axes,) = show.panels(1, 1, 8, 5.4)
    axes.set(xlim=(0, 20), ylim=(10.6, -0.9))
    axes.axis("off")
    for left in (True, False):
        stream(axes, left)
        x = 0.9 if left else 19.1
        bent_arrow(axes, [(8.65 if left else 11.35, -0.3), (x, -0.3), (x, 0.85)], show.ORANGE)
    box(axes, 10, -0.1, "c: condition\n(B, D)", show.ORANGE, 2.6, 1.1)
    text = "one attention, each token looks at all\n(B, heads, N + L, d)"
    box(axes, 10, 5.1, text, show.GREEN, 13.6, 1.5, 10)
    axes.text(10, 3.8, "one behind the other", fontsize=9, color=show.GREY, **MIDDLE)
    axes.text(10, 6.35, "cut in two again", fontsize=9, color=show.GREY, **MIDDLE)
    axes.text(10, 8.0, "dashed: not in\nthe last block", fontsize=9, color=show.GREY, **MIDDLE)
    return show.Picture(figure, "")


@cache
def looks() -> list[torch.Tensor]:
    """Who looks at whom, in the lesson's scene under noise."""
    return show_joint.looks(load_joint()[0], *example(), step=400)


def who_looks() -> show.Picture:
    return show_joint.joint_table(looks(), example()[1])


def word_looks() -> show.Picture:
    return show_joint.word_looks(looks(), *example())


def losses() -> show.Picture:
    return show_contest.loss_chart(show_contest.measured())


def distances() -> show.Picture:
    return show_contest.distance_chart(show_contest.measured())


if __name__ == "__main__":
    measured = (who_looks, word_looks, losses, distances)
    draw_figures(FIGURES, exploded, modulate, block, dit, joint, *measured)
