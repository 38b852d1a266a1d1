"""Drawing for lesson 9: boxes and arrows, and a DiT block with the shapes that went through it."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from t2i.engine.watching import watching
from t2i.show import BLACK, GREEN, GREY, ORANGE, PURPLE, Picture, panels

MIDDLE = {"ha": "center", "va": "center"}
SYMBOLS = {  # the shapes as NOTATION.md writes them
    "x": "(B, N, D)",
    "c": "(B, D)",
    "modulation": "(B, 6 · D)",
    "out": "(B, N, D)",
}


def box(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    colour: str,
    width: float,
    height: float,
    size: float = 9,
    line: str = "-",
    rotation: float = 0,
) -> None:
    """A rounded box round a text, centred at (x, y); `line` is the style of its edge."""
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0.02,rounding_size=0.08"
    look = {"facecolor": colour + "22", "edgecolor": colour, "lw": 1.5, "ls": line}
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, **look))
    axes.text(x, y, text, fontsize=size, rotation=rotation, **MIDDLE)


def arrow(
    axes: Axes, start: tuple, end: tuple, colour: str = BLACK, lw: float = 1.4, line: str = "-"
) -> None:
    """A straight arrow."""
    style = {"arrowstyle": "-|>,head_width=0.22,head_length=0.4", "color": colour, "lw": lw}
    axes.annotate("", end, start, arrowprops=style | {"shrinkA": 0, "shrinkB": 0, "ls": line})


def bent_arrow(axes: Axes, points: Sequence[tuple], colour: str = BLACK, lw: float = 1.4) -> None:
    """A line through some points; its last piece is an arrow."""
    axes.plot(*zip(*points[:-1], strict=True), color=colour, lw=lw, solid_joinstyle="round")
    arrow(axes, points[-2], points[-1], colour, lw)


@torch.no_grad()
def block_shapes(block: nn.Module, x: Tensor, c: Tensor) -> dict[str, str]:
    """Run a DiTBlock once; what came out of each of its parts, as "8×49×64"."""
    shapes = {"x": x.shape, "c": c.shape}

    def note(name: str, _: nn.Module, __: tuple, output: Tensor) -> None:
        if name in ("norm1", "attn", "norm2", "mlp", "modulation"):
            shapes[name] = output.shape

    with watching(block, after=note):
        shapes["out"] = block(x, c).shape
    return {name: "×".join(map(str, shape)) for name, shape in shapes.items()}


def draw_block(block: nn.Module, x: Tensor, c: Tensor) -> Picture:
    """The DiT block as a diagram, with the shapes that were seen when it ran.

    Args:
        block: a DiTBlock.
        x: (B, N, dim) patches.
        c: (B, dim) condition.
    """
    return block_diagram(block_shapes(block, x, c))


def block_diagram(seen: Mapping[str, str] = SYMBOLS) -> Picture:
    """The DiT block as a diagram.

    Args:
        seen: the shape of x, c, modulation and out, and of whatever else is known.
    """
    figure, (axes,) = panels(1, 1, 8, 5.4)
    axes.set(xlim=(0, 16), ylim=(11.2, -0.3))
    axes.axis("off")
    main, row = 4.2, {}
    steps = (
        ("norm1", "norm1", GREY), ("modulate1", "modulate: · (1 + scale1) + shift1", ORANGE),
        ("attn", "attn: every patch looks at every patch", GREEN), ("gate1", "· gate1", ORANGE),
        ("norm2", "norm2", GREY), ("modulate2", "modulate: · (1 + scale2) + shift2", ORANGE),
        ("mlp", "mlp: each patch thinks for itself", PURPLE), ("gate2", "· gate2", ORANGE),
    )  # fmt: skip
    y = 1.2
    for name, text, colour in steps:
        box(axes, main, y, text, colour, 5.4, 0.62)
        shape = seen.get(name, seen["x"])
        axes.text(main - 2.85, y, shape, fontsize=8, color=GREY, ha="right", va="center")
        arrow(axes, (main, y - 0.78), (main, y - 0.35))
        row[name], y = y, y + (1.1 if not name.startswith("gate") else 1.75)
    for name in ("gate1", "gate2"):
        start = 0.25 if name == "gate1" else row["gate1"] + 0.95
        plus = row[name] + 0.75
        arrow(axes, (main, row[name] + 0.35), (main, plus - 0.2))
        axes.text(main, plus, "+", fontsize=15, **MIDDLE)
        bent_arrow(axes, [(main, start), (7.4, start), (7.4, plus), (main + 0.25, plus)])
        axes.text(7.55, start + 0.22, "x itself", fontsize=8, color=GREY, va="center")
    axes.text(main, -0.05, f"x: {seen['x']}", fontsize=10, **MIDDLE)
    axes.text(main, row["gate2"] + 1.25, f"x: {seen['out']}", fontsize=10, **MIDDLE)
    middle = (row["attn"] + row["norm2"]) / 2
    box(axes, 13.4, middle, f"modulation\nSiLU, Linear\n(zero at first)\n{seen['modulation']}",
        ORANGE, 3.0, 1.9)  # fmt: skip
    axes.text(13.4, middle - 2.0, f"c: time + class\n{seen['c']}", fontsize=10, **MIDDLE)
    arrow(axes, (13.4, middle - 1.5), (13.4, middle - 1.0), ORANGE)
    for name in ("modulate1", "gate1", "modulate2", "gate2"):
        arrow(axes, (11.85, middle), (main + 2.8, row[name]), ORANGE, 1.1)
    alt = (
        f"A column of boxes from x {seen['x']} down: norm1, modulate, attention, gate1, plus x; "
        "norm2, modulate, mlp, gate2, plus x. From the side the condition c, through SiLU and a "
        f"linear layer that is zero at first, gives {seen['modulation']}: shifts, scales, gates."
    )
    return Picture(figure, alt)
