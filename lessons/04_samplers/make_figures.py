"""Draw the figures of lesson 4: python lessons/04_samplers/make_figures.py [name ...]

The digits come from lesson 3's committed weights; the thousand steps of the first row take some
minutes on two cores. `quality` needs data/samplers_cpu.json (`make measure-samplers`).
"""

import io
import math
from pathlib import Path

import torch
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from t2i import dpm_sde, dpm_solver, samplers, show
from t2i.data import mnist
from t2i.diffusion import sample_ddpm
from t2i.drawing import sampler_tables, show_samplers
from t2i.drawing.figure_files import draw_figures
from t2i.mixture import Mixture
from t2i.runs.recipes import LONG_WEIGHTS, WEIGHTS, load_ddpm
from t2i.schedules import add_noise, alphas_cumprod, cosine_betas

FIGURES = Path(__file__).parent / "figures"
AC = alphas_cumprod(cosine_betas(1000))
FEW = samplers.spaced_timesteps(1000, 20)


def noise(count: int, seed: int) -> Tensor:
    """Standard Gaussian noise that is the same at every run."""
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def headline() -> show.Picture:
    """The same noise through four samplers."""
    model, _ = load_ddpm()
    x_T = noise(10, seed=3)
    slow = sample_ddpm(model, x_T, AC, torch.Generator().manual_seed(4))
    fresh = {"generator": torch.Generator().manual_seed(4)}
    rows = {
        "DDPM,\n1,000 steps": slow,
        "DDIM,\n20 steps": samplers.sample_ddim(model, x_T, AC, FEW),
        "DPM-Solver++\n(2M), 20 steps": dpm_solver.sample_dpmpp_2m(model, x_T, AC, FEW),
        "SDE-DPM-Solver\n++(2M), 20 steps": dpm_sde.sample_sde_dpmpp_2m(
            model, x_T, AC, FEW, **fresh
        ),
    }
    return show.film_strip(rows, alt="")


def longer() -> show.Picture:
    """The same noise, the same twenty smooth steps, a short and a long training."""
    x_T = noise(10, seed=3)
    rows = {
        f"{name}\ntraining": dpm_solver.sample_dpmpp_2m(load_ddpm(file)[0], x_T, AC, FEW)
        for name, file in {"lesson 3's": WEIGHTS, "8 times the": LONG_WEIGHTS}.items()
    }
    return show.film_strip(rows, alt="")


def walk(frames: int = 48) -> bytes:
    """A closed walk from code to code and back, a row of three walks as a film."""
    model, _ = load_ddpm()
    codes, films = noise(6, seed=11), []
    for i in (0, 2, 4):
        weights = torch.linspace(0, 1, frames // 2)
        way = show_samplers.slerp(codes[i], codes[i + 1], weights)
        pictures = dpm_solver.sample_dpmpp_2m(model, way, AC, FEW)
        films.append(torch.cat([pictures, pictures.flip(0)]))
    shown = []
    for moment in zip(*films, strict=True):
        picture = show.show_images(list(moment), columns=3, width=4.5, alt="")
        image = Image.open(io.BytesIO(picture.png(dpi=100))).convert("L")
        shown.append(image.quantize(16))
    file, (first, *rest) = io.BytesIO(), shown
    first.save(file, "gif", save_all=True, append_images=rest, duration=90, loop=0)
    return file.getvalue()


# --- the arc


def draw_arc(axes: Axes) -> None:
    """A quarter circle between the clean picture and the noise."""
    angle = torch.linspace(0, math.pi / 2, 100)
    axes.plot(angle.cos(), angle.sin(), color=show.GREY, lw=1.5)
    arrow(axes, (0, 0), (1, 0), show.BLUE)
    arrow(axes, (0, 0), (0, 1), show.ORANGE)
    axes.set(xlim=(-0.42, 1.3), ylim=(-0.14, 1.2), aspect="equal")
    axes.axis("off")


def arrow(axes: Axes, start: tuple, end: tuple, colour: str, style: str = "-", lw=2.5) -> None:
    how = {"arrowstyle": "-|>,head_width=0.3,head_length=0.6", "color": colour, "lw": lw}
    how |= {"shrinkA": 0, "shrinkB": 0, "ls": style}
    axes.annotate("", end, start, arrowprops=how)


def at(degrees: float, length: float = 1.0) -> tuple[float, float]:
    angle = math.radians(degrees)
    return length * math.cos(angle), length * math.sin(angle)


def circle() -> show.Picture:
    """x_t on the arc, its two parts, and v: at the tip of x_t, and paler at the origin."""
    figure, (axes,) = show.panels(1, 1, 6.4, 4.0)
    draw_arc(axes)
    x, y = at(55)
    arrow(axes, (0, 0), (x, y), show.BLACK)
    arrow(axes, (x, y), (x - y, y + x), show.VERMILLION)
    arrow(axes, (0, 0), (-y, x), "#F0B79A")
    corner = torch.tensor([(0.09, 0.0), (0.09, 0.09), (0.0, 0.09)])
    turned = corner[:, :1] * torch.tensor([x, y]) + corner[:, 1:] * torch.tensor([-y, x])
    axes.plot(*turned.T, color=show.GREY, lw=1)
    axes.plot([x, x, 0], [0, y, y], color=show.GREY, lw=1, ls="--")
    small = torch.linspace(0, math.radians(55), 30)
    axes.plot(0.22 * small.cos(), 0.22 * small.sin(), color=show.BLACK, lw=1)
    axes.text(*at(27, 0.3), "φ", fontsize=13, ha="center", va="center")
    axes.text(1.03, 0, "$x_0$, clean picture", color=show.BLUE, va="center", fontsize=11)
    axes.text(0, 1.06, "noise", color="#9A6A00", ha="center", fontsize=11)
    axes.text(x + 0.05, y + 0.02, "$x_t$", fontsize=14)
    axes.text(x - y + 0.06, y + x - 0.01, "$v$", color=show.VERMILLION, fontsize=14)
    axes.text(x, -0.09, r"$\cos\varphi=\sqrt{\bar\alpha_t}$", ha="center", fontsize=12)
    axes.text(
        -0.03, y, r"$\sin\varphi=\sqrt{1-\bar\alpha_t}$", ha="right", va="center", fontsize=12
    )
    axes.set(xlim=(-0.95, 1.5), ylim=(-0.2, 1.5))
    return show.Picture(figure, "")


def ddim_step() -> show.Picture:
    """One step down the arc: with the same noise, and with part of it swapped."""
    figure, panels = show.panels(1, 2, 8, 3.3)
    start, end = at(68), at(32)
    before, after = end[0] ** 2, start[0] ** 2  # ᾱ_prev, ᾱ_t
    sigma = math.sqrt((1 - before) / (1 - after) * (1 - after / before))  # η = 1
    kept, away = math.sqrt(1 - before - sigma**2), sigma / math.sqrt(2)
    for axes, fresh in zip(panels, (False, True), strict=True):
        draw_arc(axes)
        axes.plot(*start, "o", color=show.BLACK, ms=8)
        axes.text(start[0] + 0.03, start[1] + 0.06, "$x_t$", fontsize=13)
        axes.text(1.04, 0, r"$\hat x_0$", color=show.BLUE, va="center", fontsize=13)
        axes.text(0, 1.05, "predicted noise", color="#9A6A00", ha="center", fontsize=10)
        foot = (end[0], 0)
        arrow(axes, (0, 0), foot, show.BLUE, lw=4)
        if fresh:
            middle, x_prev = (end[0], kept), (end[0] + away, kept + away)
            arrow(axes, foot, middle, show.ORANGE, lw=4)
            arrow(axes, middle, x_prev, show.GREEN, lw=4)
            axes.text(
                middle[0] + 0.2, kept + 0.02, "fresh noise · σ", color=show.GREEN, fontsize=10
            )
            axes.set_title("η = 1: part of the noise is swapped")
        else:
            x_prev = end
            arrow(axes, foot, end, show.ORANGE, lw=4)
            angle = torch.linspace(math.radians(68), math.radians(35), 30)
            axes.plot(angle.cos(), angle.sin(), color=show.VERMILLION, lw=3.5)
            axes.set_title("η = 0: the same noise, less of it")
        axes.plot(*x_prev, "o", color=show.VERMILLION, ms=8, zorder=4)
        axes.text(x_prev[0] + 0.04, x_prev[1] + 0.05, r"$x_{\mathrm{prev}}$", fontsize=13)
    return show.Picture(figure, "")


# --- the guess as it changes


def heading() -> show.Picture:
    """The guess of one pixel against λ: what DDIM and 2M take it to be during one step."""
    few = samplers.spaced_timesteps(1000, 9).tolist()
    clouds = Mixture(torch.tensor([[-0.7], [0.8]]), 0.15, AC.double())
    fine, guesses = list(range(999, -1, -1)), {}
    x = torch.tensor([[0.35]], dtype=torch.float64)
    for step in fine:
        t, t_prev = torch.tensor([step]), torch.tensor([step - 1])
        noise_pred = clouds(x, t)
        args = (x, t, AC.double(), "epsilon", "sample")
        guesses[step] = samplers.convert_prediction(noise_pred, *args).item()
        x = samplers.ddim_step(x, noise_pred, t, t_prev, AC.double(), clip_sample=False)
    lam = dpm_solver.half_log_snr(AC.double())
    last, now, after = few[3:6]
    figure, (axes,) = show.panels(1, 1, 8, 3.3)
    axes.plot(lam[fine], [guesses[s] for s in fine], color=show.GREY, lw=3, label="the guess")
    a, b, c = (lam[s].item() for s in (last, now, after))
    slope = (guesses[now] - guesses[last]) / (b - a)
    middle = (b + c) / 2
    axes.plot([b, c], [guesses[now]] * 2, "--", color=show.BLUE, lw=2.5, label="DDIM takes this")
    line = [guesses[last], guesses[now] + slope * (c - b)]
    axes.plot([a, c], line, ":", color=show.VERMILLION, lw=2)
    aim = guesses[now] + slope * (middle - b)
    axes.plot([b, c], [aim, aim], color=show.VERMILLION, lw=2.5, label="2M takes this")
    axes.plot([a, b], [guesses[last], guesses[now]], "o", color=show.BLACK, ms=7, zorder=4)
    axes.plot(middle, aim, "D", color=show.VERMILLION, ms=7, zorder=4)
    for place, name in ((a, "step before"), (b, "now: $t$"), (c, r"$t_{\mathrm{prev}}$")):
        axes.axvline(place, color=show.GREY, lw=0.8, ls="--")
        axes.text(place, 1.04, name, ha="center", transform=axes.get_xaxis_transform())
    low, high = sorted((guesses[last], guesses[after]))
    room = 0.25 * (high - low)
    axes.set(xlim=(a - 0.4, c + 0.5), ylim=(low - room, high + room))
    axes.set(xlabel="λ: noise at the left, clean at the right", ylabel="guess of the clean pixel")
    axes.legend(loc="upper left")
    return show.Picture(figure, "")


# --- further down than asked, and back


def there_and_back() -> show.Picture:
    """A step of length h in λ, with fresh noise: twice as far down, then h back up."""
    lam = dpm_solver.half_log_snr(AC.double())
    digit = mnist("test")[0][4:5]
    t, t_prev, below = (torch.tensor([(lam - place).abs().argmin()]) for place in (-1.2, 0, 1.2))
    x_t = add_noise(digit, noise(1, 0), t, AC)
    further = add_noise(digit, noise(1, 0), below, AC)
    x_prev = dpm_sde.sde_dpmpp_2m_step(x_t, digit, t, t_prev, AC, noise(1, 1))
    figure, (axes,) = show.panels(1, 1, 8, 2.8)
    axes.set(xlim=(-1, 11), ylim=(-1.5, 2.6), aspect="equal")
    axes.axis("off")
    axes.plot([-0.8, 10.8], [0, 0], color=show.GREY, lw=1)
    shown = ((1, x_t, "$x_t$"), (5, x_prev, r"$x_{\mathrm{prev}}$"), (9, further, "further"))
    for place, image, name in shown:
        box = (place - 0.85, place + 0.85, 0.75, 2.45)
        axes.imshow(image[0, 0], cmap="gray", vmin=-1.5, vmax=1.5, extent=box, zorder=3)
        axes.plot(place, 0, "o", color=show.BLACK, ms=7, zorder=4)
        axes.text(place, 0.2, name, fontsize=12, ha="center")
    bend = {"arrowstyle": "-|>,head_width=0.3,head_length=0.6", "shrinkA": 4, "shrinkB": 4}
    for ends, colour, rad in (((1, 9), show.VERMILLION, 0.24), ((9, 5), show.GREEN, -0.22)):
        (start, end), how = ends, f"arc3,rad={rad}"
        how = bend | {"color": colour, "lw": 2.5, "connectionstyle": how}
        axes.annotate("", (end, 0), (start, 0), arrowprops=how, zorder=2)
    words = {"ha": "center", "fontsize": 11}
    axes.text(5, -1.35, "walk twice as far as asked: 2h", color=show.VERMILLION, **words)
    axes.text(7.05, 0.2, "fresh noise: h back", color=show.GREEN, **words)
    axes.text(10.8, -0.35, "λ", **words)
    return show.Picture(figure, "")


def quality() -> show.Picture | None:
    picture = sampler_tables.reference_chart()
    return picture if isinstance(picture, show.Picture) else None


if __name__ == "__main__":
    ideas = (circle, ddim_step, heading, there_and_back)
    draw_figures(FIGURES, *ideas, headline, longer, walk, quality)
