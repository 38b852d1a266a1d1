"""Draw the figures of lesson 3: python lessons/03_ddpm/make_figures.py [name ...]

The digits come from the committed weights (`python -m t2i.runs.recipes train` makes them), sampled
with all 1000 steps: some minutes on two cores.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from tqdm import tqdm

from t2i import diffusion, show
from t2i.data import mnist
from t2i.drawing import show_ddpm
from t2i.drawing.figure_files import draw_figures
from t2i.metrics import nearest_distances
from t2i.runs.recipes import load_ddpm, recipe
from t2i.schedules import add_noise, alphas_cumprod, cosine_betas, gather, linear_betas

FIGURES = Path(__file__).parent / "figures"
AC, LINEAR = alphas_cumprod(cosine_betas(1000)), alphas_cumprod(linear_betas(1000))
POSTERIOR_STEPS = (30, 4, 1)  # of 60
Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def seeded(*shape: int, seed: int) -> Tensor:
    """Standard Gaussian noise that is the same at every run."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def walk(model: nn.Module, step_fn: Step, x: Tensor) -> Tensor:
    """The sampler's loop with any step in it."""
    generator = torch.Generator().manual_seed(1)
    for step in tqdm(range(len(AC) - 1, -1, -1), desc=step_fn.__name__):
        t = torch.full((len(x),), step)
        x = step_fn(x, model(x, t), t, torch.randn(x.shape, generator=generator), AC)
    return x


# --- the gallery "training, or broken?": the sampler's step with a bug each


def noise_at_the_end(x_t, noise_pred, t, noise, ac):
    x_prev = diffusion.ddpm_step(x_t, noise_pred, t, noise, ac)
    return x_prev + 0.3 * noise if t[0] == 0 else x_prev


def no_fresh_noise(x_t, noise_pred, t, noise, ac):
    return diffusion.ddpm_step(x_t, noise_pred, t, torch.zeros_like(noise), ac)


def another_schedule(x_t, noise_pred, t, noise, ac):
    return diffusion.ddpm_step(x_t, noise_pred, t, noise, LINEAR)


def from_guess(guess, x_t, t, noise, ac):
    mean, variance = diffusion.posterior_mean_variance(guess, x_t, t, ac)
    return mean + variance.sqrt() * noise


def clipped_to_0_1(x_t, noise_pred, t, noise, ac):
    guess = diffusion.predict_x_0(x_t, noise_pred, t, ac)
    return from_guess(guess.clamp(0, 1), x_t, t, noise, ac)


def no_roots(x_t, noise_pred, t, noise, ac):
    a = gather(ac, t, like=x_t)
    return from_guess(((x_t - (1 - a) * noise_pred) / a).clamp(-1, 1), x_t, t, noise, ac)


def broken() -> show.Picture:
    """The gallery: one row per bug, all from the same noise."""
    model, x_T = load_ddpm()[0], seeded(8, 1, 28, 28, seed=21)
    rows = {"healthy": walk(model, diffusion.ddpm_step, x_T)}
    for letter, step_fn in zip("ABDEF", BUGS, strict=True):
        rows[letter] = walk(model, step_fn, x_T)
    rows["C"] = walk(recipe("cpu").build().eval(), diffusion.ddpm_step, x_T)  # never trained
    order = ["healthy", *"ABCDEF"]
    return show.film_strip({name: rows[name] for name in order}, alt="", width=6.5)


BUGS = (another_schedule, noise_at_the_end, no_fresh_noise, clipped_to_0_1, no_roots)


# --- the digits


def film(which: int = 6) -> show.Picture:
    seen, _ = recorded()
    moments = seen.steps[::3]
    rows = {
        "x_t": [seen.x[t][which] for t in moments],
        "guess\nof x_0": [seen.guess[t][which] for t in moments],
    }
    return show.film_strip(rows, [f"t = {t}" for t in moments], alt="")


def neighbours() -> show.Picture:
    training, made = mnist("train")[0], recorded()[1][8:16]
    distances, nearest = nearest_distances(made, training)
    rows = {"sample": made, "nearest\nof 60,000": training[nearest]}
    return show.film_strip(rows, [f"distance\n{distance:.1f}" for distance in distances], alt="")


def two_roads(which: int = 3) -> show.Picture:
    """One road between digit and noise, walked in both directions."""
    seen, _ = recorded()
    steps = [0, 125, 250, 417, 583, 750, 999]
    steps = [min(seen.steps, key=lambda known: abs(known - step)) for step in steps]
    figure, (axes,) = show.panels(1, 1, 8, 2.1)
    for i, step in enumerate(steps):
        axes.imshow(
            show.to_array(seen.x[step][which]),
            cmap="gray",
            extent=(i + 0.04, i + 0.96, 0, 0.92),
        )
    n = len(steps)
    arrow(axes, (0.1, 1.12), (n - 0.1, 1.12), show.BLUE)
    arrow(axes, (n - 0.1, -0.2), (0.1, -0.2), show.VERMILLION)
    middle = {"ha": "center", "fontsize": 11}
    axes.text(n / 2, 1.2, "lesson 1: add noise (a formula)", color=show.BLUE, **middle)
    axes.text(
        n / 2,
        -0.28,
        "this lesson: remove noise (learnt)",
        color=show.VERMILLION,
        va="top",
        **middle,
    )
    axes.set(xlim=(0, n), ylim=(-0.55, 1.5), aspect="equal")
    axes.axis("off")
    return show.Picture(figure, "")


def arrow(axes: Axes, start: tuple, end: tuple, colour: str) -> None:
    style = {"arrowstyle": "-|>,head_width=0.35,head_length=0.7", "color": colour, "lw": 2.5}
    axes.annotate("", end, start, arrowprops=style | {"shrinkA": 0, "shrinkB": 0})


# --- ideas


def two_of_three() -> show.Picture:
    """x_t = 0.71 · x_0 + 0.71 · noise, in pictures."""
    x_0, noise = mnist("test")[0][4:5], seeded(1, 1, 28, 28, seed=2)
    t = (AC - 0.5).abs().argmin().reshape(1)
    x_t = add_noise(x_0, noise, t, AC)
    figure, (axes,) = show.panels(1, 1, 8, 2.6)
    names = ("noisy picture $x_t$", "clean picture $x_0$", "noise (drawn paler)")
    for i, (image, name) in enumerate(zip((x_t, x_0, noise), names, strict=True)):
        left = 2.1 * i
        scaled = image[0] / 3 if name == names[2] else image[0]
        axes.imshow(
            show.to_array(scaled), cmap="gray", vmin=0, vmax=1, extent=(left, left + 1, 0, 1)
        )
        axes.text(left + 0.5, 1.06, name, ha="center", va="bottom", fontsize=11)
    for x, sign in ((1.55, "=  0.71 ×"), (3.65, "+  0.71 ×")):
        axes.text(x, 0.5, sign, ha="center", va="center", fontsize=15)
    axes.text(
        2.6,
        -0.2,
        "Know the noisy picture and one of the other two, and the third follows.",
        ha="center",
        fontsize=11,
    )
    axes.set(xlim=(-0.1, 5.3), ylim=(-0.35, 1.3), aspect="equal")
    axes.axis("off")
    return show.Picture(figure, "")


def slow_copy() -> show.Picture:
    """A jittery walk round a target and its exponential moving average."""
    pull, target = 0.12, torch.tensor([0.0, 0.0])
    place = slow = torch.tensor([-3.2, 1.6])
    walked, averaged = [place], [slow]
    for kick in seeded(160, 2, seed=9):
        place = place + pull * (target - place) + 0.22 * kick
        slow = 0.94 * slow + 0.06 * place
        walked.append(place)
        averaged.append(slow)
    figure, (axes,) = show.panels(1, 1, 8, 2.9)
    axes.plot(*torch.stack(walked).T, color=show.SKY, lw=1.2, label="the weights")
    axes.plot(*torch.stack(averaged).T, color=show.VERMILLION, lw=3, label="the slow copy (EMA)")
    axes.plot(*target, "*", color=show.BLACK, ms=15, label="the best weights")
    axes.plot(*walked[0], "o", color=show.BLACK, ms=6)
    axes.annotate("start", walked[0], (6, 4), textcoords="offset points")
    axes.set(xlabel="one weight", ylabel="another weight", xticks=[], yticks=[], aspect="equal")
    axes.legend(loc="lower left")
    return show.Picture(figure, "")


def posterior() -> show.Picture:
    """Where x_{t-1} lies between x_0 and x_t, for one pixel, at three steps of a short schedule."""
    ac = alphas_cumprod(cosine_betas(60))
    x_0, x_t = -0.8, 1.2
    values = torch.linspace(-1.6, 2.2, 400)
    figure, panels = show.panels(1, 3, 8, 2.4)
    for axes, step in zip(panels, POSTERIOR_STEPS, strict=True):
        one = torch.ones(1, 1, 1, 1)
        t = torch.tensor([step])
        mean, variance = diffusion.posterior_mean_variance(x_0 * one, x_t * one, t, ac)
        bell = torch.exp(-((values - mean.item()) ** 2) / (2 * variance.item()))
        axes.fill_between(values, bell, color=show.ORANGE, alpha=0.5, lw=0)
        axes.plot(values, bell, color=show.ORANGE, lw=2)
        for x, colour, name in ((x_0, show.BLUE, "$x_0$"), (x_t, show.VERMILLION, "$x_t$")):
            axes.plot([x, x], [0, 1.1], color=colour, lw=2, ls="--")
            axes.text(x, 1.13, name, color=colour, ha="center", va="bottom", fontsize=12)
        axes.text(mean.item(), -0.06, "$x_{t-1}$", ha="center", va="top", fontsize=12)
        axes.set(title=f"t = {step} of 60", ylim=(-0.3, 1.42), xticks=[], yticks=[])
        axes.grid(False)
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_position(("data", 0))
    return show.Picture(figure, "")


def why_noise() -> show.Picture:
    """One-pixel data with two bumps: the reverse walk with fresh noise, and without."""
    steps, many = 100, 4000
    ac = alphas_cumprod(cosine_betas(steps))
    centres, spread = torch.tensor([-0.9, 0.6]), 0.25
    pick = torch.rand(many, generator=torch.Generator().manual_seed(0)) < 0.4
    data = torch.where(pick, *centres) + spread * seeded(many, seed=1)

    def exact(x: Tensor, t: Tensor) -> Tensor:
        """The best noise prediction for these data, known in closed form."""
        a = gather(ac, t, like=x)
        width = a * spread**2 + 1 - a
        weights = torch.tensor([0.4, 0.6])
        gaps = [x - a.sqrt() * centre for centre in centres]
        log = [w.log() - gap**2 / (2 * width) for w, gap in zip(weights, gaps, strict=True)]
        share = torch.softmax(torch.stack(log), 0)
        return (1 - a).sqrt() * (share[0] * gaps[0] + share[1] * gaps[1]) / width

    figure, panels = show.panels(1, 2, 8, 3.1)
    for axes, noisy in zip(panels, (1.0, 0.0), strict=True):
        x, path = seeded(many, 1, 1, 1, seed=2), []
        generator = torch.Generator().manual_seed(3)
        for step in reversed(range(steps)):
            path.append(x.flatten())
            t = torch.full((many,), step)
            noise = noisy * torch.randn(x.shape, generator=generator)
            x = diffusion.ddpm_step(x, exact(x, t), t, noise, ac, clip_sample=False)
        draw_paths(axes, torch.stack([*path, x.flatten()]), data)
        axes.set_title("with fresh noise" if noisy else "without: all end at one value")
    return show.Picture(figure, "")


def draw_paths(axes: Axes, path: Tensor, data: Tensor) -> None:
    """Thirty paths from left to right, and at their end how often each value came out."""
    time = torch.linspace(0, 1, len(path))
    axes.plot(time, path[:, :30], color=show.GREY, lw=0.6, alpha=0.7)
    for values, colour, label in ((data, show.SKY, "data"), (path[-1], show.VERMILLION, "ends")):
        counts = torch.histc(values, 60, -2, 2) / len(values) * 2.2
        grid = torch.linspace(-2, 2, 60)
        if colour == show.SKY:
            axes.fill_betweenx(grid, 1.03, 1.03 + counts, color=colour, label=label)
        else:
            axes.plot(1.03 + counts, grid, color=colour, lw=2, label=label)
    axes.set(xlim=(0, 1.55), ylim=(-2.4, 2.4), xticks=[0, 1], xticklabels=["noise", "t = 0"])
    axes.set(ylabel="the pixel's value")
    axes.legend(loc="upper right", fontsize=9)


def loss() -> show.Picture:
    steps, losses = zip(*show_ddpm.results()["losses"], strict=True)
    return show_ddpm.loss_picture(losses, steps=steps, label="the course's own training")


@cache
def recorded() -> tuple[show_ddpm.Film, Tensor]:
    """Forty digits on their way from noise, and where they arrive."""
    x_T, generator = seeded(40, 1, 28, 28, seed=3), torch.Generator().manual_seed(4)
    watch = show_ddpm.Film(x_T, diffusion.predict_x_0, AC)
    return watch, diffusion.sample_ddpm(load_ddpm()[0], x_T, AC, generator, on_step=watch)


def samples() -> show.Picture:
    return show.show_images(recorded()[1], columns=10, alt="")


if __name__ == "__main__":
    ideas = (two_of_three, slow_copy, posterior, why_noise)
    digits = (loss, samples, film, two_roads, neighbours, broken)
    draw_figures(FIGURES, *ideas, *digits)
