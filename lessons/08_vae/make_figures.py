"""Draw the figures of lesson 8: python lessons/08_vae/make_figures.py [name ...]

Three of them explain and need nothing. The others look into the committed weights (`make train-vae`
makes them) and at the pictures that the short trainings left (`make study-vae`,
`make study-latents`); where these are missing, one sentence says so. `painted` trains section 7's
network, for some minutes.
"""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from t2i import show
from t2i.drawing import show_vae
from t2i.drawing.figure_files import draw_figures
from t2i.runs.latent_recipes import draw_latents, latent_recipe
from t2i.runs.vae_recipes import load_space, load_vae
from t2i.runs.vae_studies import WISHES, kept
from t2i.training import train
from t2i.world.scenes import scenes

FIGURES = Path(__file__).parent / "figures"
MIDDLE = {"ha": "center", "va": "center"}
SHOWN = 6
MISSED = (3, 7, 10)  # points beside which a denoiser ends


def blank(width: float, height: float, xlim: tuple, ylim: tuple, columns: int = 1):
    """A figure without axes."""
    figure, panels = show.panels(1, columns, width, height)
    for axes in panels:
        axes.set(xlim=xlim, ylim=ylim, aspect="equal")
        axes.axis("off")
    return figure, panels


def box(
    axes: Axes, x: float, y: float, text: str, colour: str, width: float = 1.5, height: float = 0.9
) -> None:
    """A rounded box round a text, centred at (x, y)."""
    corner, style = (x - width / 2, y - height / 2), "round,pad=0.02,rounding_size=0.1"
    look = {"facecolor": colour + "22", "edgecolor": colour, "lw": 1.6}
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, **look))
    axes.text(x, y, text, fontsize=8.5, **MIDDLE)


def arrow(axes: Axes, start: tuple, end: tuple, colour: str = show.BLACK) -> None:
    style = {"arrowstyle": "-|>,head_width=0.25,head_length=0.5", "color": colour, "lw": 1.5}
    axes.annotate("", end, start, arrowprops=style | {"shrinkA": 0, "shrinkB": 0})


# --- ideas


def autoencoder() -> show.Picture:
    """Encoder, posterior and decoder with the shapes of the CPU recipe."""
    figure, (axes,) = blank(8, 3.6, (0, 16), (-0.2, 6.8))
    ways = (("encoder", "down", 5.6, 1, show.BLUE), ("decoder", "up", 1.2, -1, show.VERMILLION))
    shapes = ("16 × 32 × 32", "32 × 16 × 16", "64 × 8 × 8", "64 × 8 × 8")
    for name, way, y, turn, colour in ways:
        labels = [f"{way} level\n{'1 block' if turn > 0 else '2 blocks'}"] * 3 + ["middle"]
        axes.text(0.2, y + 0.85, name, fontsize=12, color=colour, va="center")
        box(axes, 1.0, y, "picture\n3 × 32 × 32", show.BLACK, 1.75)
        for i, (label, shape) in enumerate(zip(labels, shapes, strict=True)):
            x = 3.6 + 2.3 * i
            box(axes, x, y, label, colour, 1.7)
            axes.text(x, y - 0.75, shape, fontsize=8, color=show.GREY, **MIDDLE)
            ends = (x - 1.4 if i else 1.95, y), (x - 0.9, y)
            arrow(axes, *ends[::turn])
    box(axes, 13.1, 5.6, "2·4 × 8 × 8", show.GREY, 1.6)
    arrow(axes, (11.4, 5.6), (12.25, 5.6))
    box(axes, 13.1, 4.4, "mean\n4 × 8 × 8", show.GREEN, 1.6)
    box(axes, 14.9, 4.4, "logvar\n4 × 8 × 8", show.GREEN, 1.6)
    arrow(axes, (13.1, 5.1), (13.1, 4.9))
    arrow(axes, (13.6, 5.1), (14.5, 4.9))
    box(axes, 14.0, 2.9, "z = mean + σ · noise", show.PURPLE, 3.3, 0.8)
    arrow(axes, (13.1, 3.9), (13.4, 3.35))
    arrow(axes, (14.9, 3.9), (14.6, 3.35))
    axes.plot([14.0, 14.0], [2.45, 1.2], color=show.BLACK, lw=1.5)
    arrow(axes, (14.0, 1.2), (11.4, 1.2))
    axes.text(14.2, 1.55, "4 × 8 × 8", fontsize=8, color=show.GREY, va="center")
    axes.text(6.5, 3.4, "no skip connections: all of it goes through z", fontsize=10, **MIDDLE)
    return show.Picture(figure, "")


def padding() -> show.Picture:
    """Where the first and the last window stand, with a border all round and below and right."""
    figure, both = blank(7.2, 3.8, (-1.5, 7.5), (7.3, -2.0), columns=2)
    sides = (("lesson 2: border all round", (0, 0), -1), ("here: below and right", (1, 1), 0))
    for axes, (title, _, start) in zip(both, sides, strict=True):
        first, last = start, start + 4
        border = range(-1, 7) if start else range(7)
        for y in border:
            for x in border:
                real = 0 <= x < 6 and 0 <= y < 6
                colour = show.SKY if real else "#DDDDDD"
                axes.add_patch(Rectangle((x, y), 0.94, 0.94, facecolor=colour, lw=0))
                if not real:
                    axes.text(x + 0.47, y + 0.5, "0", color=show.GREY, fontsize=8, **MIDDLE)
        for place, colour, name in ((first, show.VERMILLION, "first"), (last, show.BLUE, "last")):
            frame = {"fill": False, "edgecolor": colour, "lw": 3}
            axes.add_patch(Rectangle((place, place), 2.94, 2.94, **frame))
            axes.text(place + 1.47, place + 1.47, name, color=show.BLACK, fontsize=11, **MIDDLE)
        axes.text(3, -1.5, title, fontsize=12, **MIDDLE)
    return show.Picture(figure, "")


def clouds() -> show.Picture:
    """Points that the decoder knows, small misses beside them, and clouds that hold the misses."""
    figure, both = blank(7.6, 3.5, (-3.3, 3.3), (-3.2, 3.2), columns=2)
    turn = 2.4 * torch.arange(14)  # the golden angle: evenly spread, like a sunflower's seeds
    spots = torch.sqrt(torch.arange(14) + 0.6)[:, None] * torch.stack([turn.cos(), turn.sin()], 1)
    spots = spots + 0.25 * torch.randn(14, 2, generator=torch.Generator().manual_seed(5))
    both[0].set_title("an autoencoder: points")
    both[1].set_title("a variational autoencoder: clouds")
    for axes, shrink in zip(both, (0.78, 0.62), strict=True):
        for number, (x, y) in enumerate((shrink * spots).tolist()):
            axes.plot(x, y, "o", ms=5, color=show.BLUE)
            if number in MISSED:
                axes.plot(x + 0.22, y + 0.14, "x", ms=7, mew=2, color=show.VERMILLION)
    for number, (x, y) in enumerate((0.78 * spots).tolist()):
        if number in MISSED:
            both[0].text(x + 0.55, y + 0.3, "?", fontsize=16, color=show.VERMILLION, **MIDDLE)
    for x, y in (0.62 * spots).tolist():
        for radius in (0.42, 0.32, 0.22):
            both[1].add_patch(Circle((x, y), radius, facecolor=show.BLUE, alpha=0.12, lw=0))
    ring = {"fill": False, "edgecolor": show.GREY, "ls": "--", "lw": 1.5}
    both[1].add_patch(Circle((0, 0), 2.75, **ring))
    both[1].text(0, -3.05, "farther out costs more", color=show.GREY, fontsize=10, **MIDDLE)
    both[0].text(0, -3.05, "× a small miss", color=show.VERMILLION, fontsize=10, **MIDDLE)
    return show.Picture(figure, "")


# --- what was trained


def opening() -> show.Picture:
    """Scenes, their latents in false colours at their own size, and what comes back."""
    vae, _ = load_vae()
    pictures, _ = scenes(range(SHOWN), "train", "many", seed=8, digits="test")
    means = vae.encode(pictures).mean
    f = vae.compression
    seen = show_vae.in_colour(means)
    small = torch.ones_like(pictures)  # white, with the latent in the middle at its true size
    edge = (pictures.shape[2] - pictures.shape[2] // f) // 2
    small[:, :, edge : edge + seen.shape[2], edge : edge + seen.shape[3]] = seen
    rows = {"pictures": pictures, "latents": small, "came back": vae.decode(means)}
    return show.film_strip(rows, alt="")


def compressions() -> show.Picture:
    """What comes back from latents of several sizes."""
    figures, pictures = kept()
    runs = figures["compare"]["runs"]
    rows = {"pictures": pictures["originals"][:SHOWN]}
    for name in ("f = 2", "f = 4", "f = 8"):
        rows[f"{name}\n{runs[name]['psnr']:.1f} dB"] = pictures[name][:SHOWN]
    return show.film_strip(rows, alt="")


def weights() -> show.Picture:
    """What comes back where a nat costs too much."""
    figures, pictures = kept()
    runs = figures["compare"]["runs"]
    rows = {"pictures": pictures["originals"][:SHOWN]}
    names = ["f = 4", *(name for name in runs if name.startswith("kl"))]
    for name in sorted(names, key=lambda name: runs[name]["kl_weight"]):
        rows[f"weight {runs[name]['kl_weight']:g}\n{runs[name]['psnr']:.1f} dB"] = pictures[name][
            :SHOWN
        ]
    return show.film_strip(rows, alt="")


def scaling() -> show.Picture:
    """What lesson 6's network paints among latents of several scales."""
    figures, pictures = kept()
    rows = {}
    for name, run in figures["diffuse"]["runs"].items():
        rows[f"spread {run['spread']:.2g}\n{run['satisfied']['share']:.0%}"] = pictures[name]
    titles = ["\n".join(wish.rsplit(" ", 1)) for wish in WISHES]
    return show.film_strip(rows, titles, alt="")


def painted() -> show.Picture:
    """What section 7's network paints after its whole training."""
    space, plan = load_space(), latent_recipe("cpu")
    for state in train(plan.build(), plan.loss, plan.batches(space), plan.training):
        model = state.ema_model
    drawn = draw_latents(model, space, WISHES, 1, size=plan.size)
    return show.show_images(drawn, WISHES, columns=4, width=7, alt="")


if __name__ == "__main__":
    trained = (opening, compressions, weights, scaling, painted)
    draw_figures(FIGURES, autoencoder, padding, clouds, *trained)
