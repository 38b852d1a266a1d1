"""Drawing for lesson 9: patches pulled apart, a block with its shapes, gates and looks.

Nothing here is needed to build or train a network; it only looks at one, from outside.
"""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from t2i.show import (
    BLACK,
    COLOURS,
    DASHES,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    Picture,
    panels,
    to_array,
)

HEAT = "cividis"
MIDDLE = {"ha": "center", "va": "center"}


def exploded(image: Tensor, patch_size: int, words: Sequence[str] = (), gap: float = 0.35):
    """A picture, its patches pulled apart, and the row of tokens that a transformer gets.

    Args:
        image: (C, H, W) in [-1, 1].
        patch_size: side of a patch in pixels.
        words: tokens that follow the patches in the row.
        gap: between patches, in patches.
    """
    _, height, width = image.shape
    rows, columns = height // patch_size, width // patch_size
    figure, (left, middle) = panels(1, 2, 8, 4.1)
    figure.set_layout_engine("none")
    left.set_position((0.0, 0.30, 0.36, 0.66))
    middle.set_position((0.40, 0.30, 0.60, 0.66))
    below = figure.add_axes((0.0, 0.0, 1.0, 0.26))
    left.imshow(to_array(image), interpolation="nearest", cmap="gray", vmin=0, vmax=1)
    pieces = image.unflatten(2, (columns, patch_size)).unflatten(1, (rows, patch_size))
    for i in range(rows):
        for j in range(columns):
            x, y = j * (1 + gap), i * (1 + gap)
            _tile(middle, pieces[:, i, :, j], x, y)
    middle.set(xlim=(-0.2, columns * (1 + gap)), ylim=(rows * (1 + gap), -0.2), aspect="equal")
    _token_row(
        below, [pieces[:, n // columns, :, n % columns] for n in range(rows * columns)], words
    )
    for axes in (left, middle, below):
        axes.axis("off")
    alt = (
        f"Left: a picture. Right: its {rows} × {columns} patches of {patch_size} × {patch_size} "
        "pixels, pulled apart. Below: the same patches in one row"
        + (f", followed by the words {' '.join(words)}." if words else ".")
    )
    return Picture(figure, alt)


def _tile(axes: Axes, piece: Tensor, x: float, y: float, size: float = 1.0) -> None:
    where = (x, x + size, y + size, y)
    axes.imshow(to_array(piece), extent=where, interpolation="nearest", cmap="gray", vmin=0, vmax=1)


def _token_row(axes: Axes, pieces: Sequence[Tensor], words: Sequence[str]) -> None:
    """The first patches, the most colourful five in a row, the last one, and then the words."""
    busy = torch.stack([piece.var() for piece in pieces]).unfold(0, 5, 1).sum(1)
    first = int(busy[2:-3].argmax()) + 2 if len(pieces) > 10 else 2
    shown = sorted({0, 1, *range(first, first + 5), len(pieces) - 1})
    x, last = 0.3, -1
    for n in shown:
        if n != last + 1:
            axes.text(x + 0.25, 0.5, "···", fontsize=14, **MIDDLE)
            x += 0.8
        _tile(axes, pieces[n], x, 0)
        axes.text(x + 0.5, 1.35, str(n), fontsize=8, color=GREY, **MIDDLE)
        x, last = x + 1.25, n
    for word in words:
        width = 0.45 + 0.27 * len(word)
        box(axes, x + width / 2, 0.5, word, VERMILLION, width, 0.8)
        x += width + 0.3
    axes.set(xlim=(0, max(x, 21)), ylim=(1.9, -0.2), aspect="equal")


def box(
    axes: Axes, x: float, y: float, text: str, colour: str, width: float, height: float, size=9
) -> None:
    """A rounded box round a text, centred at (x, y)."""
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0.02,rounding_size=0.08"
    patch = FancyBboxPatch(
        corner, width, height, boxstyle=style, facecolor=colour + "22", edgecolor=colour, lw=1.5
    )
    axes.add_patch(patch)
    axes.text(x, y, text, fontsize=size, **MIDDLE)


def arrow(axes: Axes, start: tuple, end: tuple, colour: str = BLACK, lw: float = 1.4) -> None:
    """A straight arrow."""
    style = {"arrowstyle": "-|>,head_width=0.22,head_length=0.4", "color": colour, "lw": lw}
    axes.annotate("", end, start, arrowprops=style | {"shrinkA": 0, "shrinkB": 0})


@torch.no_grad()
def block_shapes(block: nn.Module, x: Tensor, c: Tensor) -> dict[str, tuple[int, ...]]:
    """Run a DiTBlock once; what came out of each of its parts."""
    shapes = {"x": tuple(x.shape), "c": tuple(c.shape)}
    parts = ("norm1", "attn", "norm2", "mlp", "modulation")
    hooks = [
        getattr(block, name).register_forward_hook(
            lambda _, __, out, name=name: shapes.update({name: tuple(out.shape)})
        )
        for name in parts
    ]
    shapes["out"] = tuple(block(x, c).shape)
    for hook in hooks:
        hook.remove()
    return shapes


def draw_block(block: nn.Module, x: Tensor, c: Tensor) -> Picture:
    """The DiT block as a diagram, with the shapes that were seen when it ran.

    Args:
        block: a DiTBlock.
        x: (B, N, dim) patches.
        c: (B, dim) condition.
    """
    seen = {name: "×".join(map(str, shape)) for name, shape in block_shapes(block, x, c).items()}
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
        shape = seen.get(name) or seen["x"]
        axes.text(main - 2.85, y, shape, fontsize=8, color=GREY, ha="right", va="center")
        arrow(axes, (main, y - 0.78), (main, y - 0.35))
        row[name], y = y, y + (1.1 if not name.startswith("gate") else 1.75)
    for name in ("gate1", "gate2"):
        start = 0.25 if name == "gate1" else row["gate1"] + 0.95
        plus = row[name] + 0.75
        arrow(axes, (main, row[name] + 0.35), (main, plus - 0.2))
        axes.text(main, plus, "+", fontsize=15, **MIDDLE)
        axes.plot([main, 7.4, 7.4], [start, start, plus], color=BLACK, lw=1.4)
        arrow(axes, (7.4, plus), (main + 0.25, plus))
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


def gate_chart(steps: Sequence[int], sizes: Sequence[Sequence[tuple[float, float]]]) -> Picture:
    """How far each block's two gates are open, over the training.

    Args:
        steps: S training steps.
        sizes: S times one pair (attention, MLP) a block, as gate_sizes gives them.
    """
    figure, axes = panels(1, 2, 8, 3.0)
    for panel, which, title in zip(axes, (0, 1), ("gate1: attention", "gate2: MLP"), strict=True):
        for block in range(len(sizes[0])):
            line = [pairs[block][which] for pairs in sizes]
            colour, dashes = COLOURS[block % 7], DASHES[block % 7]
            panel.plot(steps, line, color=colour, ls=dashes, lw=2, label=f"block {block}")
        panel.set(title=title, xlabel="training step", ylabel="mean |gate|")
        panel.set_ylim(bottom=0)
    axes[0].legend(fontsize=8)
    ends = ", ".join(f"{first:.2f} and {second:.2f}" for first, second in sizes[-1])
    return Picture(
        figure, f"All gates begin at 0 and open while training goes on; at the end {ends}."
    )


def similarity_map(table: Tensor, height: int, width: int, places: Sequence[tuple[int, int]]):
    """How alike one place's vector is to all others: a panel for each place (row, column)."""
    figure, axes = panels(1, len(places), 8, 8 / len(places) + 0.3)
    for panel, (y, x) in zip(axes, places, strict=True):
        alike = torch.cosine_similarity(table, table[y * width + x][None], dim=1)
        panel.imshow(alike.view(height, width).numpy(), cmap=HEAT, vmin=float(alike.min()), vmax=1)
        panel.plot(x, y, "o", mfc="none", mec=VERMILLION, ms=12, mew=2)
        panel.set_title(f"row {y}, column {x}", fontsize=9)
        panel.axis("off")
    alt = "A map for each of some places: brightest at the place itself and bright along its row "
    return Picture(figure, alt + "and its column, darker further away.")


def joint_table(weights: Tensor, patches: int, words: Sequence[str]) -> Picture:
    """Who looks at whom in a joint block: four fields of one table.

    Args:
        weights: (N + L, N + L), rows look at columns.
        patches: N.
        words: L labels.
    """
    figure, (axes,) = panels(1, 1, 6.4, 5.6)
    axes.imshow(weights.sqrt().numpy(), cmap=HEAT, interpolation="nearest")
    for draw in (axes.axhline, axes.axvline):
        draw(patches - 0.5, color="white", lw=1.5)
    names = ["patches", *words]
    at = [patches / 2, *(patches + i for i in range(len(words)))]
    axes.set_xticks(at, names, rotation=90, fontsize=8)
    axes.set_yticks(at, names, fontsize=8)
    axes.set(xlabel="… looks at", ylabel="who looks …")
    axes.grid(False)
    fields = {
        "patches look at patches": weights[:patches, :patches],
        "at words": weights[:patches, patches:],
        "words look at patches": weights[patches:, :patches],
    }
    shares = "; ".join(f"{name}: {part.sum(1).mean():.0%}" for name, part in fields.items())
    return Picture(figure, f"A square table in four fields. Shares of the look: {shares}.", shares)
