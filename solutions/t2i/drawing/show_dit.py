"""Drawing for lesson 9: patches pulled apart, places that are alike, gates that open.

Nothing here is needed to build or train a network; it only looks at one, from outside.
"""

from collections.abc import Sequence

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from t2i.drawing.show_blocks import MIDDLE, arrow, box
from t2i.show import BLUE, COLOURS, DASHES, GREY, VERMILLION, Picture, panels, to_array

HEAT = "cividis"


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
    figure, (left, middle) = panels(1, 2, 8, 4.4)
    figure.set_layout_engine("none")
    left.set_position((0.0, 0.36, 0.36, 0.62))
    middle.set_position((0.46, 0.36, 0.54, 0.62))
    below = figure.add_axes((0.0, 0.0, 1.0, 0.30))
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
    _ways(figure)
    for axes in (left, middle, below):
        axes.axis("off")
    alt = (
        f"Left: a picture. Right: its {rows} × {columns} patches of {patch_size} × {patch_size} "
        "pixels, pulled apart. Below: the same patches in one row"
        + (f", followed by the words {' '.join(words)}." if words else ".")
    )
    return Picture(figure, alt)


def _ways(figure: Figure) -> None:
    """The two arrows: from the picture to its patches, and from there to the row."""
    over = figure.add_axes((0, 0, 1, 1))
    over.set(xlim=(0, 1), ylim=(0, 1))
    over.axis("off")
    arrow(over, (0.36, 0.67), (0.52, 0.67))
    over.text(0.44, 0.70, "cut", fontsize=10, **MIDDLE)
    arrow(over, (0.53, 0.37), (0.33, 0.27))
    over.text(0.50, 0.305, "row by row", fontsize=10, **MIDDLE)


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
    axes.text(x / 2, 2.2, f"{len(pieces)} patches", fontsize=10, color=BLUE, **MIDDLE)
    start = x
    for word in words:
        width = 0.45 + 0.27 * len(word)
        box(axes, x + width / 2, 0.5, word, VERMILLION, width, 0.8)
        x += width + 0.3
    if words:
        label = f"{len(words)} words"
        axes.text((start + x) / 2, 2.2, label, fontsize=10, color=VERMILLION, **MIDDLE)
    axes.set(xlim=(0, max(x, 21)), ylim=(2.6, -0.2), aspect="equal")


def similarity_map(
    table: Tensor, height: int, width: int, places: Sequence[tuple[int, int]]
) -> Picture:
    """How alike one place's vector is to all others: a panel for each place (row, column).

    Args:
        table: (height · width, dim), a vector for each place, row by row.
        height, width: of the grid.
        places: the places that are compared with all others.
    """
    figure, axes = panels(1, len(places), 8, 7.3 / len(places) + 0.3)
    alike = [torch.cosine_similarity(table, table[y * width + x][None]) for y, x in places]
    low = min(float(values.min()) for values in alike)
    for panel, (y, x), values in zip(axes, places, alike, strict=True):
        seen = panel.imshow(values.view(height, width).numpy(), cmap=HEAT, vmin=low, vmax=1)
        panel.plot(x, y, "o", mfc="none", mec=VERMILLION, ms=12, mew=2)
        panel.set_title(f"row {y}, column {x}", fontsize=9)
        panel.axis("off")
    figure.colorbar(seen, ax=axes, label="cosine", shrink=0.9)
    alt = "A map for each of some places: brightest at the place itself and bright along its row "
    return Picture(figure, alt + "and its column, darker further away.")


def gate_chart(steps: Sequence[int], sizes: Sequence[Sequence[tuple[float, float]]]) -> Picture:
    """How far each block's two gates are open, over the training; both halves to one scale.

    Args:
        steps: S training steps.
        sizes: S times one pair (attention, MLP) a block, as gate_sizes gives them.
    """
    figure, axes = panels(1, 2, 8, 3.0)
    top = 1.05 * max(max(max(pair) for pair in pairs) for pairs in sizes) or 1.0
    blocks = len(sizes[0])
    told = range(blocks) if blocks <= len(COLOURS) else (0, blocks // 2, blocks - 1)
    for panel, which, title in zip(axes, (0, 1), ("gate1: attention", "gate2: MLP"), strict=True):
        for block in range(blocks):
            line = [pairs[block][which] for pairs in sizes]
            if blocks <= len(COLOURS):
                how = {"color": COLOURS[block], "ls": DASHES[block]}
            else:  # too many to tell apart: from the first to the last they grow lighter
                how = {"color": colormaps["cividis"](0.9 * block / (blocks - 1))}
            label = f"block {block}" if block in told else None
            panel.plot(steps, line, lw=2, label=label, **how)
        panel.set(title=title, xlabel="training step", ylabel="mean |gate|", ylim=(0, top))
    axes[0].legend(fontsize=8)
    ends = "; ".join(
        f"block {block}, attention {first:.2f}, MLP {second:.2f}"
        for block, (first, second) in enumerate(sizes[-1])
    )
    first, second = (sum(half) / len(half) for half in zip(*sizes[-1], strict=True))
    return Picture(
        figure,
        f"All gates begin at 0 and open while training goes on; at the end: {ends}.",
        f"mean |gate| of all blocks at the end: attention {first:.2f}, MLP {second:.2f}",
    )
