"""Drawing for lesson 2: the UNet from its own shapes, clocks, heat maps, attention.

Nothing here is needed to build or train a network; it only looks at one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from torch import Tensor, nn

from t2i import show
from t2i.engine.watching import watching

DIVERGING = LinearSegmentedColormap.from_list("blue-red", [show.BLUE, "#FFFFFF", show.VERMILLION])
COLOURS = {"conv": show.GREY, "block": show.BLUE, "attention": show.PURPLE, "resize": show.GREEN}
WORDS = {
    "conv": "convolution",
    "block": "ResBlock",
    "attention": "ResBlock + attention",
    "resize": "Down- or Upsample",
}


@dataclass
class Slab:
    """One layer of a network as it was seen at work.

    Args:
        name: its name in the network, for instance "down.0.blocks.1".
        kind: "conv", "block" (with attention: "attention") or "resize".
        went_in, came_out: shapes (C, H, W).
    """

    name: str
    kind: str
    went_in: tuple[int, ...]
    came_out: tuple[int, ...]


@torch.no_grad()
def watch(model: nn.Module, x_t: Tensor, t: Tensor) -> list[Slab]:
    """Run a UNet once and note the shapes at every layer, in the order of work.

    Args:
        model: a UNet of lesson 2.
        x_t, t: what to run it on.
    """
    slabs: list[Slab] = []

    def note(name: str, _: nn.Module, inputs: tuple, output: Tensor) -> None:
        parent, _, last = name.rpartition(".")
        kind = "conv" if name in ("conv_in", "conv_out") else ""
        kind = "resize" if last == "resize" else kind
        if parent.endswith(".blocks"):
            attention = model.get_submodule(name.replace("blocks", "attentions"))
            kind = "block" if isinstance(attention, nn.Identity) else "attention"
        if kind:
            slabs.append(Slab(name, kind, tuple(inputs[0].shape[1:]), tuple(output.shape[1:])))

    with watching(model, after=note):
        model(x_t, t)
    return slabs


def draw_unet(model: nn.Module, x_t: Tensor, t: Tensor, width: float = 8.5) -> show.Picture:
    """The network as a U, from the shapes that really flowed through it.

    Args:
        model: a UNet of lesson 2.
        x_t, t: what to run it on.
        width: size in inches.
    """
    slabs = watch(model, x_t, t)
    heights = sorted({slab.came_out[1] for slab in slabs}, reverse=True)
    figure, (axes,) = show.panels(1, 1, width, 0.8 + 1.5 * len(heights))
    places = []
    for i, slab in enumerate(slabs):
        y = -2.0 * heights.index(slab.came_out[1])
        places.append((i, y))
        _slab(axes, i, y, slab, _height(slab, heights[0]))
    for (x0, y0), (x1, y1) in zip(places, places[1:], strict=False):
        _arrow(axes, (x0 + 0.22, y0), (x1 - 0.22, y1), show.BLACK)
    top = _skips(axes, slabs, places)
    for kind in dict.fromkeys(slab.kind for slab in slabs):
        axes.scatter([], [], marker="s", s=70, color=COLOURS[kind], label=WORDS[kind])
    axes.plot([], [], color=show.ORANGE, ls="--", label="skip connection")
    axes.legend(
        loc="lower center", ncols=5, bbox_to_anchor=(0.5, -0.04), fontsize=8.5, frameon=False
    )
    axes.set(xlim=(-0.7, len(slabs) - 0.3), ylim=(min(y for _, y in places) - 1.4, top + 0.1))
    axes.axis("off")
    alt = "The UNet as a U of slabs, each with its channels and size: " + "; ".join(
        f"{slab.name} {'×'.join(map(str, slab.came_out))}" for slab in slabs
    )
    caption = (
        "Under each slab: channels, then height × width. Read 48→16 as: 48 went in, 16 came out."
    )
    return show.Picture(figure, alt, caption)


def _height(slab: Slab, largest: int) -> float:
    return (slab.came_out[1] / largest) ** 0.6


def _slab(axes: Axes, x: float, y: float, slab: Slab, height: float) -> None:
    box = FancyBboxPatch(
        (x - 0.2, y - height / 2),
        0.4,
        height,
        boxstyle="round,pad=0,rounding_size=0.06",
        color=COLOURS[slab.kind],
    )
    axes.add_patch(box)
    channels = f"{slab.came_out[0]}"
    if slab.went_in[0] != slab.came_out[0]:
        channels = f"{slab.went_in[0]}→{slab.came_out[0]}"
    text = f"{channels}\n{slab.came_out[1]}×{slab.came_out[2]}"
    axes.text(x, y - height / 2 - 0.08, text, ha="center", va="top", fontsize=8.5)


def _skips(axes: Axes, slabs: list[Slab], places: list[tuple[float, float]]) -> float:
    """Numbered bridges from layers on the way down to the blocks that read them; the highest y."""
    kept = [i for i, slab in enumerate(slabs) if slab.name.startswith(("conv_in", "down."))]
    readers = [i for i, s in enumerate(slabs) if s.name.startswith("up.") and s.kind != "resize"]
    on_row: dict[float, int] = {}
    numbers = range(len(kept), 0, -1)  # the last one kept is the first one read
    for number, start, end in zip(numbers, reversed(kept), readers, strict=True):
        (x0, y), (x1, _) = places[start], places[end]
        nth = on_row.get(y, 0)
        on_row[y] = nth + 1
        top = y + 0.72 + 0.2 * nth
        axes.plot([x0, x0, x1], [y, top, top], color=show.ORANGE, ls="--", lw=1.3, zorder=0)
        ends = y + _height(slabs[end], slabs[0].came_out[1]) / 2
        _arrow(axes, (x1, top), (x1, ends), show.ORANGE, ls="--")
        for x in (x0, x1):
            plate = {"boxstyle": "circle,pad=0.2", "fc": "white", "ec": show.ORANGE}
            axes.text(x, top, number, ha="center", va="center", fontsize=8, bbox=plate)
    return 0.72 + 0.2 * max(on_row.get(0.0, 1) - 1, 0)


def _arrow(axes: Axes, start: tuple, end: tuple, colour: str, **style: object) -> None:
    how = {"arrowstyle": "->", "mutation_scale": 11, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, color=colour, **how, **style))


def clocks(embeddings: Tensor, labels: Sequence[str], width: float = 8.0) -> show.Picture:
    """Embeddings as rows of clocks: hand i points to (cosine, sine) number i.

    Args:
        embeddings: (N, dim), cosines first, then sines.
        labels: one a row.
        width: size in inches.
    """
    rows, half = len(embeddings), embeddings.shape[1] // 2
    size = (width - 0.9) / half
    figure, (axes,) = show.panels(1, 1, width, rows * size + 0.5)
    for row, (embedding, label) in enumerate(zip(embeddings.tolist(), labels, strict=True)):
        axes.text(-0.65, -row, label, ha="right", va="center")
        for i in range(half):
            x, y = 0.4 * embedding[i], 0.4 * embedding[i + half]
            axes.add_patch(Circle((i, -row), 0.44, fill=False, color=show.GREY, lw=1))
            axes.plot([i, i + x], [-row, y - row], color=show.BLUE, lw=2.5)
            axes.plot([i], [-row], "o", color=show.BLUE, ms=3)
    for i in range(half):
        axes.text(i, 0.55, f"{i}", ha="center", fontsize=9, color=show.GREY)
    axes.set(xlim=(-0.65 - 0.9 / size, half - 0.4), ylim=(0.4 - rows, 0.9), aspect="equal")
    axes.axis("off")
    alt = f"{rows} rows of {half} clock faces: {', '.join(labels)}. The hands on the left differ "
    alt += "from row to row; those on the far right hardly move."
    return show.Picture(figure, alt, "Each clock runs slower than its left neighbour.")


def heat_map(axes: Axes, values: Tensor, limit: float | None = 1.0, **labels: object) -> None:
    """A table of numbers as colours: blue below 0, white at 0, red above.

    Args:
        axes: the panel.
        values: (rows, columns).
        limit: the value of the strongest colour; None for the largest that occurs.
        labels: anything that matplotlib's `axes.set` takes.
    """
    values = values.detach().float().cpu()
    limit = limit or max(values.abs().max().item(), 1e-9)
    image = axes.imshow(
        values, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    axes.grid(False)
    axes.set(**labels)
    axes.figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)


@torch.no_grad()
def attention_weights(layer: nn.Module, x: Tensor) -> Tensor:
    """How much each pixel listens to each other one in a SelfAttention2d.

    Args:
        layer: a SelfAttention2d of lesson 2.
        x: (1, C, H, W) what it reads.

    Returns:
        (H·W, H, W): for each asking pixel a map that sums to 1, averaged over the heads.
    """
    height, width = x.shape[2:]
    pixels = layer.norm(x).flatten(2).transpose(1, 2)
    split = (layer.num_heads, x.shape[1] // layer.num_heads)
    q, k = (to(pixels).unflatten(2, split).transpose(1, 2) for to in (layer.to_q, layer.to_k))
    weights = torch.softmax(q @ k.transpose(-1, -2) / split[1] ** 0.5, dim=-1)
    return weights.mean(1)[0].unflatten(1, (height, width))


def attention_map(
    picture: Tensor, maps: Tensor, asking: Sequence[tuple[int, int]], alt: str, caption: str = ""
) -> show.Picture:
    """Beside a picture, where some of its pixels look.

    Args:
        picture: (1, H, W) in [-1, 1], at any resolution.
        maps: (h·w, h, w) as attention_weights gives them.
        asking: (row, column) of each asking pixel on the h by w grid.
        alt, caption: as in Picture.
    """
    height, width = maps.shape[1:]
    figure, axes = show.panels(1, len(asking) + 1, 8.0, 8.0 / (len(asking) + 1) + 0.35)
    box = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes[0].imshow(show.to_array(picture), cmap="gray", vmin=0, vmax=1, extent=box)
    axes[0].set_title("who asks")
    for number, ((row, column), panel) in enumerate(zip(asking, axes[1:], strict=True)):
        colour = show.COLOURS[1 + number]
        axes[0].plot(column, row, "s", ms=9, mfc="none", mec=colour, mew=2.5)
        label = axes[0].text(column + 1, row, str(number + 1), color=colour, va="center", size=9)
        label.set_bbox({"facecolor": "black", "edgecolor": "none", "pad": 0.6})
        panel.imshow(maps[row * width + column], cmap="cividis")
        panel.plot(column, row, "s", ms=9, mfc="none", mec=colour, mew=2.5)
        panel.set_title(f"where pixel {number + 1} looks")
    for panel in axes:
        panel.axis("off")
    return show.Picture(figure, alt, caption)
