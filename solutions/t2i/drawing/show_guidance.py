"""Lesson 5's own pictures: a flat world in which guidance can be seen, and what the scale costs."""

from collections.abc import Callable, Sequence

import torch
from IPython.display import Markdown
from torch import Tensor

from t2i.files.places import DATA
from t2i.files.results import figures_in, how_trained, table
from t2i.mixture import Mixture
from t2i.schedules import alphas_cumprod, cosine_betas
from t2i.show import BLACK, BLUE, COLOURS, GREY, ORANGE, SKY, VERMILLION, Picture, panels

RESULTS = DATA / "guidance_cpu.json"
MARKS = ("o", "s", "^")  # of the three classes, for readers who see no colours
Guide = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def flat_world() -> Mixture:
    """Three clouds of points in the plane that overlap, and 100 steps of noise."""
    angles = torch.tensor([0.25, 0.25 + 1 / 3, 0.25 + 2 / 3]) * 2 * torch.pi
    centres = 1.0 * torch.stack([angles.cos(), angles.sin()], dim=1)
    return Mixture(centres, 0.45, alphas_cumprod(cosine_betas(100)))


def field_picture(
    guide: Guide, world: Mixture, scales: Sequence[float], label: int = 0, step: int = 20
) -> Picture:
    """Where each point of the plane is sent, for several guidance scales side by side.

    Args:
        guide: called as guide(x_t, t, label, scale), returns the guided noise prediction.
        world: the clouds.
        scales: one panel each.
        label: the class that is asked for.
        step: at which the field is drawn.
    """
    figure, axes = panels(1, len(scales), 8, 8 / len(scales) + 0.35)
    line = torch.linspace(-2.4, 2.4, 7)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=2).reshape(-1, 2)
    t, wish = torch.full((len(grid),), step), torch.full((len(grid),), label)
    for panel, scale in zip(axes, scales, strict=True):
        draw_clouds(panel, world, label, float(world.alphas_cumprod[step]))
        arrows = -guide(grid, t, wish, scale)
        style = {"color": BLACK, "angles": "xy", "width": 0.007, "pivot": "tail"}
        panel.quiver(*grid.T, *arrows.T, scale_units="xy", scale=9, **style)
        panel.set(title=f"scale {scale:g}")
    return Picture(
        figure,
        "Arrows over three overlapping clouds, one panel for each guidance scale. At 0 they point "
        "to all clouds, at 1 to the asked one, above 1 to it and away from the others, and they "
        "get longer.",
    )


def ends_picture(ends: dict[float, Tensor], world: Mixture, label: int = 0) -> Picture:
    """Where samples end up, for several guidance scales side by side.

    Args:
        ends: guidance scale to (N, 2) samples.
        world: the clouds.
        label: the class that was asked for.
    """
    figure, axes = panels(1, len(ends), 8, 8 / len(ends) + 0.35)
    for panel, (scale, points) in zip(axes, ends.items(), strict=True):
        draw_clouds(panel, world, label)
        panel.plot(*points.T, "x", color=BLACK, ms=3.5, mew=0.9)
        panel.set(title=f"scale {scale:g}")
    return Picture(
        figure,
        "Samples as crosses over the three clouds. At scale 0 they lie in all clouds, at 1 they "
        "fill the asked one, above 1 they move away from the others and crowd together.",
    )


def draw_clouds(panel, world: Mixture, label: int, alpha_bar: float = 1.0) -> None:
    """The asked class in orange, the others in blue, as they are spread after some noise."""
    others = iter((SKY, BLUE))
    for each in range(world.null):
        clean = world.points(each, 250, seed=50)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(each))
        points = alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * noise
        colour = ORANGE if each == label else next(others)
        panel.plot(*points.T, MARKS[each % 3], color=colour, ms=2.6, alpha=0.5, mew=0)
    panel.set(xlim=(-2.9, 2.9), ylim=(-2.9, 2.9), xticks=[], yticks=[], aspect="equal")


def results() -> dict:
    """What the repository's command measured of the CPU recipe; empty where it never ran."""
    return figures_in(RESULTS)


def trade_picture(rows: Sequence[dict], real: dict, n: int) -> Picture:
    """What a larger scale buys, and what it costs: fidelity against diversity.

    Args:
        rows: of each scale, what class_runs.measure found, with its guidance_scale.
        real: the same of real digits.
        n: samples a scale.
    """
    figure, (axes,) = panels(1, 1, 8, 3.6)
    rows = [row for row in rows if row["guidance_scale"] >= 1 and not row.get("guidance_rescale")]
    x, y = ([row[key] for row in rows] for key in ("diversity", "asked"))
    below = [row["asked"] - row["asked_low"] for row in rows]
    above = [row["asked_high"] - row["asked"] for row in rows]
    axes.errorbar(x, y, (below, above), color=BLUE, marker="o", lw=2, capsize=3, label="samples")
    for row in rows:
        place = (row["diversity"], row["asked_low"])
        axes.annotate(
            f"{row['guidance_scale']:g}", place, (0, -13), textcoords="offset points", ha="center"
        )
    style = {"marker": "*", "ms": 15, "ls": "", "color": VERMILLION}
    axes.plot(real["diversity"], real["asked"], label="real test digits", **style)
    low = min(row["asked_low"] for row in rows)
    axes.set(
        xlabel="diversity: spread within a digit, as a share of real digits'",
        ylabel="read as the asked digit",
        xlim=(0, 1.1 * max(1, *x)),
        ylim=(low - 0.25 * (1.02 - low), 1 + 0.1 * (1.02 - low)),
    )
    axes.legend(loc="lower left")
    return Picture(
        figure,
        "A curve with one point for each guidance scale: as the scale grows, the share of samples "
        "that are read as the asked digit rises, and their diversity falls.",
        f"{n:,} samples a scale; the numbers at the points are guidance scales. Bars: 95 % "
        "intervals.",
    )


def contrast_picture(columns: dict[str, Tensor]) -> Picture:
    """How dark and bright the pixels are before they are cut off at -1 and 1.

    Args:
        columns: label to pictures (N, C, H, W) of any range.

    Counted as outside is what lies beyond ±1.05. The bars at -3 and 3 hold all that is beyond.
    """
    figure, axes = panels(1, len(columns), 8, 2.5)
    for panel, (name, pictures), colour in zip(axes, columns.items(), COLOURS, strict=False):
        values = 0.9999 * pictures.flatten().clamp(-3, 3).numpy()  # 1 itself lies inside
        panel.hist(values, 60, (-3, 3), color=colour, density=True, log=True)
        for edge in (-1, 1):
            panel.axvline(edge, color=GREY, ls="--", lw=1)
            panel.axvspan(edge, 3 * edge, color=GREY, alpha=0.15, lw=0)
        outside = (pictures.abs() > 1.05).float().mean()
        title = f"{name}\n{outside:.0%} beyond ±1.05"
        panel.set(title=title, ylim=(1e-4, 20), yticks=[], xlabel="pixel value")
        panel.minorticks_off()
    axes[0].set_ylabel("how often (log)")
    return Picture(
        figure,
        "Histograms of pixel values; grey lies outside -1 and 1, where no real pixel is.",
        "Upwards: how often a value occurs, on a logarithmic scale, so that rare values show.",
    )


def results_table() -> Markdown:
    """The lesson's own table, read from what the repository's commands measured."""
    r = results()
    if "scales" not in r:
        train, evaluate = (
            f"`python -m t2i.runs.class_recipes {do}`" for do in ("train", "evaluate")
        )
        return Markdown(f"Nobody has measured this recipe here yet: {train}, then {evaluate}.")
    head = ("guidance scale", "asked digit read (95 %)", "judge is sure", "diversity", "Fréchet")
    rows = []
    for row in r["scales"]:
        name = f"{row['guidance_scale']:g}"
        if row["guidance_rescale"]:
            name += f", rescale {row['guidance_rescale']:g}"
        rows.append((name, *_figures(row)))
    rows.append(("*real test digits*", *_figures(r["real"])))
    note = (
        f"{r['n']:,} samples a row, 100 of each digit where there are 1,000, from the same noise "
        f"in every row, {r['inference_steps']} DDIM steps. {how_trained(r, 'digits')}"
    )
    return table(head, rows, note, right=True)


def _figures(row: dict) -> tuple[str, ...]:
    return (
        f"{row['asked']:.1%} ({row['asked_low']:.1%} to {row['asked_high']:.1%})",
        f"{row['recognisability']:.1%}",
        f"{row['diversity']:.2f}",
        f"{row['frechet']:.2f}",
    )
