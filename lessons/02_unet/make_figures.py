"""Draw the figures of lesson 2: python lessons/02_unet/make_figures.py [name ...]"""

from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import Tensor

from t2i import show
from t2i.data import mnist
from t2i.drawing import show_unet
from t2i.drawing.figure_files import draw_figures
from t2i.schedules import add_noise, alphas_cumprod, cosine_betas, gather
from t2i.unet import UNet
from t2i.unet_blocks import timestep_embedding

FIGURES = Path(__file__).parent / "figures"
ALPHA_BAR = alphas_cumprod(cosine_betas(1000))
STEPS = 160


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """The lesson's batch: (x_t, t, noise)."""
    x_0 = mnist("train")[0][:8]
    t = torch.linspace(100, 800, 8).long()
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
    return add_noise(x_0, noise, t, ALPHA_BAR), t, noise


def opening() -> show.Picture:
    """Overfit the lesson's batch; show what goes in, the truth, the answers, the result."""
    x_t, t, noise = batch()
    torch.manual_seed(0)
    net = UNet(block_channels=(16, 32), layers_per_block=1, head_channels=16, norm_groups=8)
    with torch.no_grad():
        before = net(x_t, t)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    cooling = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
    for _ in range(STEPS):
        loss = F.mse_loss(net(x_t, t), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cooling.step()
    with torch.no_grad():
        after = net(x_t, t)
    a = gather(ALPHA_BAR, t, like=x_t)
    rows = {
        "what it sees": x_t,
        "the true noise": noise / 3,
        "answer, untrained": before / 3,
        "answer, trained": after / 3,
        "noise taken off": (x_t - (1 - a).sqrt() * after) / a.sqrt(),
    }
    return show.film_strip(rows, [f"t = {i}" for i in t.tolist()], alt="")


def question() -> show.Picture:
    """x_t = √ᾱ · ? + √(1-ᾱ) · ?, in pictures."""
    x_t, t, noise = batch()
    clean = mnist("train")[0][4]
    figure, (axes,) = show.panels(1, 1, 8.0, 2.35)
    mixed = add_noise(clean[None], noise[4:5], torch.tensor([496]), ALPHA_BAR)[0]
    for x, image, mark in ((0.7, mixed, ""), (3.4, clean, "?"), (6.1, noise[4] / 3, "?")):
        box = (x - 0.7, x + 0.7, -0.7, 0.7)
        axes.imshow(show.to_array(image), cmap="gray", vmin=0, vmax=1, extent=box, origin="upper")
        if mark:
            axes.text(x + 0.78, 0.55, "?", fontsize=20, color=show.VERMILLION, weight="bold")
    for x, word in ((0.7, "$x_t$: given"), (3.4, "$x_0$: unknown"), (6.1, "noise: unknown")):
        axes.text(x, 0.78, word, ha="center", va="bottom", fontsize=11)
    axes.text(2.05, 0, "=  0.71 ·", ha="center", va="center", fontsize=14)
    axes.text(4.8, 0, "+  0.71 ·", ha="center", va="center", fontsize=14)
    words = "find either of the two, and the other follows by subtraction"
    axes.text(3.4, -0.98, words, ha="center", va="center", fontsize=11, color=show.VERMILLION)
    axes.set(xlim=(-0.1, 7.3), ylim=(-1.15, 1.1), aspect="equal")
    axes.axis("off")
    return show.Picture(figure, "")


def clocks() -> show.Picture:
    """Five positions of the slider."""
    t = torch.tensor([0, 1, 10, 100, 500])
    labels = [f"t = {i}" for i in t.tolist()]
    return show_unet.clocks(timestep_embedding(t, 16), labels)


def unet() -> show.Picture:
    """The lesson's network as a U, its skips numbered."""
    x_t, t, _ = batch()
    net = UNet(block_channels=(16, 32), layers_per_block=1, head_channels=16, norm_groups=8)
    return show_unet.draw_unet(net, x_t, t)


def node(axes: Axes, x: float, y: float, word: str, colour: str, width: float = 0.86) -> None:
    """A labelled box."""
    box = (x - width / 2, y - 0.22)
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch(box, width, 0.44, boxstyle=style, color=colour))
    axes.text(x, y, word, ha="center", va="center", color="white", fontsize=10)


def arrow(axes: Axes, start: tuple, end: tuple, colour: str = show.BLACK, width=1.6) -> None:
    how = {"arrowstyle": "->", "mutation_scale": 14, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, color=colour, lw=width, **how))


def plus(axes: Axes, x: float, y: float) -> None:
    axes.add_patch(Circle((x, y), 0.17, fill=False, lw=1.8))
    axes.text(x, y - 0.01, "+", ha="center", va="center", fontsize=14)


def resblock() -> show.Picture:
    """The brick: main road, the time from below, the skip above."""
    figure, (axes,) = show.panels(1, 1, 9.0, 2.5)
    road = ["norm1", "SiLU", "conv1", "+", "norm2", "SiLU", "dropout", "conv2", "+"]
    colours = {"norm": show.GREEN, "conv": show.BLUE, "SiLU": "#B04A00", "drop": show.GREY}
    places, x = [], 1.0
    for word in road:
        x += 0.72 if word == "+" else 0.56
        places.append(x)
        if word == "+":
            plus(axes, x, 0)
        else:
            node(axes, x, 0, word, next(c for k, c in colours.items() if word.startswith(k)))
        x += 0.2 if word == "+" else 0.5
    halves = [0.17 if word == "+" else 0.43 for word in road]
    ends = zip(places, places[1:], halves, halves[1:], strict=False)
    for a, b, half_a, half_b in ends:
        arrow(axes, (a + half_a, 0), (b - half_b, 0))
    arrow(axes, (0.4, 0), (places[0] - 0.43, 0))
    arrow(axes, (places[-1] + 0.17, 0), (places[-1] + 0.7, 0))
    axes.text(0.3, 0, "x", ha="right", va="center", fontsize=13, style="italic")
    axes.text(places[-1] + 0.78, 0, "out", ha="left", va="center", fontsize=12, style="italic")
    axes.plot([0.7, 0.7, places[-1]], [0, 1.0, 1.0], color=show.ORANGE, lw=2.5)
    arrow(axes, (places[-1], 1.0), (places[-1], 0.17), show.ORANGE, 2.5)
    words = "skip: x itself (or a 1 × 1 convolution, if the channels change)"
    axes.text((0.7 + places[-1]) / 2, 1.08, words, ha="center", va="bottom", fontsize=10.5)
    node(axes, places[3], -1.0, "time_proj", "#8A3F6B", 1.1)
    node(axes, places[3] - 1.35, -1.0, "SiLU", colours["SiLU"])
    arrow(axes, (places[3], -0.78), (places[3], -0.17))
    arrow(axes, (places[3] - 0.92, -1.0), (places[3] - 0.55, -1.0))
    arrow(axes, (places[3] - 2.3, -1.0), (places[3] - 1.78, -1.0))
    axes.text(places[3] - 2.4, -1.0, "emb", ha="right", va="center", fontsize=12, style="italic")
    note = "one number for each channel,\nadded to all its pixels"
    axes.text(places[3] + 0.7, -1.0, note, va="center", fontsize=10)
    axes.set(xlim=(0, places[-1] + 1.3), ylim=(-1.3, 1.4), aspect="equal")
    axes.axis("off")
    return show.Picture(figure, "")


def grid(axes: Axes, x: float, values: Tensor, size: float) -> None:
    """A little picture as a grid of squares of side `size`, vertically centred."""
    n = len(values)
    for row in range(n):
        for column in range(n):
            corner = (x + column * size, (n / 2 - row - 1) * size)
            shade = str(values[row, column].item())
            axes.add_patch(Rectangle(corner, size, size, fc=shade, ec="white", lw=1))


def resize() -> show.Picture:
    """Down: every second pixel is visited. Up: each pixel becomes four, then a smoothing."""
    figure, (axes,) = show.panels(1, 1, 8.0, 2.2)
    torch.manual_seed(3)
    big, small = 0.25 + 0.65 * torch.rand(6, 6), 0.25 + 0.65 * torch.rand(3, 3)
    grid(axes, 0, big, 0.3)
    for row in range(3):
        for column in range(3):
            centre = (0.3 * (2 * column + 0.5), 0.9 - 0.3 * (2 * row + 0.5))
            axes.plot(*centre, "o", color=show.VERMILLION, ms=6)
    axes.add_patch(Rectangle((0.3, -0.3), 0.9, 0.9, fill=False, ec=show.VERMILLION, lw=2.2))
    arrow(axes, (1.95, 0), (2.4, 0))
    grid(axes, 2.55, F.avg_pool2d(big[None], 2)[0], 0.3)
    arrow_x = 4.35
    grid(axes, arrow_x, small, 0.3)
    arrow(axes, (arrow_x + 1.05, 0), (arrow_x + 1.5, 0))
    repeated = small.repeat_interleave(2, 0).repeat_interleave(2, 1)
    grid(axes, arrow_x + 1.65, repeated, 0.3)
    arrow(axes, (arrow_x + 3.6, 0), (arrow_x + 4.05, 0))
    padded = F.pad(repeated[None, None], (1, 1, 1, 1), mode="replicate")
    grid(axes, arrow_x + 4.2, F.avg_pool2d(padded, 3, 1)[0, 0], 0.3)
    for x, word in (
        (0.9, "dots: where the\nwindow stops"),
        (3.0, "half the size"),
        (arrow_x + 0.45, "small"),
        (arrow_x + 2.55, "every pixel\nrepeated"),
        (arrow_x + 5.1, "then smoothed by\na convolution"),
    ):
        axes.text(x, -1.0, word, ha="center", va="top", fontsize=9.5)
    axes.text(1.7, 1.12, "Downsample", ha="center", fontsize=12, color=show.GREEN, weight="bold")
    where = (arrow_x + 2.9, 1.12)
    axes.text(*where, "Upsample", ha="center", fontsize=12, color=show.GREEN, weight="bold")
    axes.set(xlim=(-0.1, arrow_x + 6.2), ylim=(-1.5, 1.4), aspect="equal")
    axes.axis("off")
    return show.Picture(figure, "")


def attention() -> show.Picture:
    """One asking pixel, whom it listens to, and the three moves."""
    picture = F.avg_pool2d(mnist("train")[0][2:3], 2)[0, 0]
    figure, (axes,) = show.panels(1, 1, 8.0, 3.0)
    box = (0, 3, 0, 3)
    axes.imshow((picture + 1) / 2, cmap="gray", vmin=0, vmax=1, extent=box, origin="upper")
    size = 3 / 14

    def centre(row: int, column: int) -> tuple[float, float]:
        return (column + 0.5) * size, 3 - (row + 0.5) * size

    asks = centre(4, 2)
    others = [((3, 10), 3.2), ((7, 7), 3.2), ((11, 9), 3.2), ((1, 6), 0.8), ((12, 2), 0.8)]
    for place, width in others:
        axes.plot(*zip(centre(*place), asks, strict=True), color=show.SKY, lw=width)
        axes.plot(*centre(*place), "o", color=show.SKY, ms=5)
    axes.plot(*asks, "s", ms=11, mfc="none", mec=show.VERMILLION, mew=2.5)
    rows = (
        ("1  ask", "its query q meets everybody's key k:\nscores = q · k / √d", show.VERMILLION),
        ("2  weigh", "softmax makes the scores positive,\nand their sum 1", show.BLUE),
        ("3  listen", "answer = mean of all values v,\nwith these weights", show.GREEN),
    )
    for i, (head, text, colour) in enumerate(rows):
        y = 2.55 - 1.05 * i
        axes.text(3.5, y, head, fontsize=13, color=colour, weight="bold", va="center")
        axes.text(4.75, y, text, fontsize=11, va="center")
    axes.set(xlim=(-0.05, 8.1), ylim=(-0.05, 3.05), aspect="equal")
    axes.axis("off")
    return show.Picture(figure, "")


if __name__ == "__main__":
    draw_figures(FIGURES, question, clocks, resblock, resize, attention, unet, opening, dpi=130)
