"""Draw the figures of lesson 1: python lessons/01_noise_schedules/make_figures.py [name ...]"""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from t2i import show
from t2i.data import mnist
from t2i.drawing.figure_files import draw_figures
from t2i.schedules import (
    add_noise,
    alphas_cumprod,
    cosine_betas,
    linear_betas,
    rescale_zero_terminal_snr,
)

FIGURES = Path(__file__).parent / "figures"
STABLE_DIFFUSION = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
SCHEDULES = {
    "linear": linear_betas(1000),
    "cosine": cosine_betas(1000),
    "Stable\nDiffusion,\nrepaired": rescale_zero_terminal_snr(STABLE_DIFFUSION),
}
STOPS = (
    ("noise\nschedules", "the UNet", "DDPM:\nfirst digits"),
    ("faster\nsamplers", "classes and\nguidance"),
    ("cross-\nattention", "CLIP reads\nwords"),
    ("VAE\nlatents", "UNet to\nDiT", "text to\nimage"),
)
STAGES = ("from noise to digits", "faster, on demand", "words", "pictures from words")


def hero() -> tuple[Tensor, Tensor]:
    """The digit of the lesson and a fixed picture of noise, both (1, 1, 28, 28)."""
    images, labels = mnist("train")
    noise = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    return images[labels == 3][:1], noise


def strips(steps: list[int]) -> dict[str, Tensor]:
    """The digit at these steps under each schedule, always with the same noise."""
    x_0, noise = hero()
    t, shape = torch.tensor(steps), (len(steps), -1, -1, -1)
    return {
        name: add_noise(x_0.expand(shape), noise.expand(shape), t, alphas_cumprod(betas))
        for name, betas in SCHEDULES.items()
    }


def film(steps: list[int], width: float = 8.0) -> show.Picture:
    return show.film_strip(strips(steps), [f"t = {t}" for t in steps], alt="", width=width)


def opening() -> show.Picture:
    return film([0, 100, 200, 300, 400, 500, 600, 700, 850, 999])


def slider() -> show.Picture:
    return film([0, 200, 400, 600, 800, 999], width=6.5)


def ten_lessons() -> show.Picture:
    """The map of the course: ten stops on one road, in four stages."""
    figure, (axes,) = show.panels(1, 1, 8.0, 1.5)
    x, number = 0.0, 1
    for stage, stops in enumerate(STOPS):
        colour = show.COLOURS[stage]
        right = x + len(stops) - 1
        axes.plot([x - 0.42, right + 0.42], [1, 1], color=colour, lw=6, solid_capstyle="round")
        axes.text((x + right) / 2, 1.42, STAGES[stage], ha="center", weight="bold")
        for stop in stops:
            axes.plot(x, 1, "o", ms=19, color="white", mec=colour, mew=3, zorder=3)
            axes.text(x, 0.985, number, ha="center", va="center", weight="bold", zorder=4)
            axes.text(x, 0.66, stop, ha="center", va="top", fontsize=9)
            x, number = x + 1, number + 1
        x += 0.12
    axes.set(xlim=(-0.6, x - 0.5), ylim=(0.2, 1.65))
    axes.axis("off")
    return show.Picture(figure, alt="")


def draw_image(axes: Axes, image: Tensor, title: str = "") -> None:
    axes.imshow(show.to_array(image), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title)
    axes.axis("off")


def gaussian() -> show.Picture:
    """The bell curve with its middle two thirds shaded, and a picture of noise."""
    figure, axes = show.panels(1, 2, 7.0, 2.6)
    x = torch.linspace(-4, 4, 401)
    y = torch.exp(-(x**2) / 2) / (2 * torch.pi) ** 0.5
    show.draw_curves(axes[0], x, {"N(0, 1)": y}, xlabel="value of a pixel", ylim=(0, 0.45))
    axes[0].set(ylabel="how common", yticks=[])
    middle = x.abs() <= 1
    axes[0].fill_between(x[middle], 0, y[middle], color=show.SKY, alpha=0.6)
    axes[0].text(0, 0.13, "68 %", ha="center")
    draw_image(axes[1], hero()[1][0], "28 × 28 such values")
    return show.Picture(figure, alt="")


def mix() -> show.Picture:
    """One step of the forward process as an equation made of pictures."""
    x_0, noise = hero()
    beta = 0.1
    figure = Figure(figsize=(8.0, 1.9))
    axes = [figure.add_axes((left, 0.02, 0.19, 0.8)) for left in (0.155, 0.49, 0.765)]
    images = (x_0[0], noise[0], ((1 - beta) ** 0.5 * x_0 + beta**0.5 * noise)[0])
    signs = ("√(1−β) ×", "+  √β ×", "=")
    for panel, image, title, sign in zip(
        axes, images, ("the picture before", "fresh noise", "the picture after"), signs, strict=True
    ):
        draw_image(panel, image, title)
        panel.text(-0.12, 0.5, sign, transform=panel.transAxes, ha="right", va="center", size=14)
    return show.Picture(figure, alt="")


def counting() -> show.Picture:
    """The chain of steps with its numbers: the clean picture, then t = 0, 1, …, T − 1."""
    x_0, noise = hero()
    alpha_bar, shape = torch.tensor([1.0, 0.96, 0.9, 0.0]), (4, -1, -1, -1)
    x = add_noise(x_0.expand(shape), noise.expand(shape), torch.arange(4), alpha_bar)
    figure = Figure(figsize=(8.0, 1.75))
    canvas = figure.add_axes((0, 0, 1, 1))
    canvas.set(xlim=(0, 8), ylim=(0, 1.75))
    canvas.axis("off")
    places = (0.2, 2.15, 4.1, 6.6)
    titles = ("clean: $x_0$", "t = 0", "t = 1", "t = T − 1")
    for image, left, title in zip(x, places, titles, strict=True):
        panel = figure.add_axes((left / 8, 0.08, 1.2 / 8, 1.2 / 1.75))
        draw_image(panel, image, title)
    steps = (
        (1.45, 2.1, "step 0\nβ₀"),
        (3.4, 4.05, "step 1\nβ₁"),
        (5.9, 6.55, "step T − 1\n$β_{T-1}$"),
    )
    for start, end, words in steps:
        arrow = {"arrowstyle": "-|>", "color": show.BLUE, "lw": 2}
        canvas.annotate("", (end, 0.74), (start, 0.74), arrowprops=arrow)
        canvas.text((start + end) / 2, 0.86, words, ha="center", va="bottom", size=9)
    canvas.text(5.6, 0.74, "…", ha="center", va="center", size=16)
    return show.Picture(figure, alt="")


if __name__ == "__main__":
    draw_figures(FIGURES, opening, slider, ten_lessons, gaussian, mix, counting, dpi=130)
