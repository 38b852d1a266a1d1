"""Draw the figures of lesson 9: python lessons/09_dit/make_figures.py

Three of them explain and need nothing; the charts are drawn from data/dit_cpu.json, which
`python -m t2i.dit_runs` writes. Where that is missing, one sentence says so.
"""

from pathlib import Path

import torch
from matplotlib.axes import Axes

from t2i import show, show_contest, show_dit
from t2i.dit import DiTBlock
from t2i.scenes import scenes
from t2i.show_dit import MIDDLE, arrow, box

FIGURES = Path(__file__).parent / "figures"


def exploded() -> show.Picture:
    """A scene of two things, its patches, and the row of patches and words."""
    pictures, captions = scenes(range(200), world="many")
    rows = [i for i, caption in enumerate(captions) if "left of" in caption]
    row = min(rows, key=lambda i: len(captions[i]))
    return show_dit.exploded(pictures[row], 4, captions[row].split())


def block() -> show.Picture:
    """The DiT block with the shapes of eight digits."""
    return show_dit.draw_block(DiTBlock(64, 4), torch.randn(8, 49, 64), torch.randn(8, 64))


def stream(axes: Axes, x: float, name: str, shape: str, colour: str) -> None:
    """One column of the joint block: what a kind of token has for itself."""
    axes.text(x, 0.0, f"{name}: {shape}", fontsize=11, color=colour, **MIDDLE)
    box(axes, x, 1.2, "norm1, modulate", colour, 4.2, 0.7)
    box(axes, x, 2.4, "to_q   to_k   to_v", colour, 4.2, 0.7)
    box(axes, x, 6.3, "to_out,  · gate1,  + itself", colour, 4.2, 0.7)
    box(axes, x, 7.5, "norm2, modulate, mlp,  · gate2,  + itself", colour, 5.9, 0.7)
    axes.text(x, 8.7, name, fontsize=11, color=colour, **MIDDLE)
    for start, end in ((0.3, 0.8), (1.6, 2.0), (2.8, 3.65), (5.1, 5.9), (6.7, 7.1), (7.9, 8.4)):
        arrow(axes, (x, start), (x, end), colour)


def joint() -> show.Picture:
    """Two streams of weights, one attention."""
    figure, (axes,) = show.panels(1, 1, 8, 4.7)
    axes.set(xlim=(0, 16), ylim=(9.1, -0.5))
    axes.axis("off")
    stream(axes, 3.6, "patches", "(B, N, D)", show.BLUE)
    stream(axes, 12.4, "words", "(B, L, D)", show.VERMILLION)
    box(
        axes,
        8,
        4.4,
        "one attention over N + L tokens: each looks at all",
        show.GREEN,
        13.6,
        1.3,
        11,
    )
    axes.text(8, 3.2, "one behind the other", fontsize=9, color=show.GREY, **MIDDLE)
    axes.text(8, 5.5, "cut in two again", fontsize=9, color=show.GREY, **MIDDLE)
    box(axes, 8, 1.2, "c: time\n(B, D)", show.ORANGE, 1.8, 1.0)
    arrow(axes, (7.05, 1.2), (5.8, 1.2), show.ORANGE)
    arrow(axes, (8.95, 1.2), (10.2, 1.2), show.ORANGE)
    return show.Picture(figure, "")


def charts() -> None:
    """The pictures of the measurements."""
    cells = show_contest.measured()
    if not cells:
        print(show_contest.NOT_YET)
        return
    show_contest.loss_chart(cells).save(FIGURES / "compute.png", dpi=100)
    show_contest.distance_chart(cells).save(FIGURES / "distance.png", dpi=100)
    gates = cells["dit/large"]["gates"] if "dit/large" in cells else []
    if gates:
        steps, sizes = zip(*gates, strict=True)
        show_dit.gate_chart(steps, sizes).save(FIGURES / "gates.png", dpi=100)


def main() -> None:
    FIGURES.mkdir(exist_ok=True)
    for draw in (exploded, block, joint):
        draw().save(FIGURES / f"{draw.__name__}.png", dpi=100)
    charts()
    for path in sorted(FIGURES.iterdir()):
        print(f"{path.name:20} {path.stat().st_size / 1000:6.0f} kB")


if __name__ == "__main__":
    main()
