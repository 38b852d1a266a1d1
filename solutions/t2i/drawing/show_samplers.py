"""Lesson 4's own pictures: spacings, roads in two dimensions, orders, quality against steps."""

from collections.abc import Mapping, Sequence
from statistics import mean

import torch
from torch import Tensor

from t2i.show import BLACK, BLUE, COLOURS, DASHES, GREEN, GREY, SKY, VERMILLION, Picture, panels

NAMES = {
    "ddpm": "DDPM, respaced (= DDIM, η = 1)",
    "ddim": "DDIM (η = 0)",
    "dpmpp_2m": "DPM-Solver++(2M)",
    "sde_dpmpp_2m": "SDE-DPM-Solver++(2M)",
}
LOOKS = {  # a colour for each row of the lesson's table, dashes for each column
    "ddpm": (VERMILLION, "--", "s"),
    "ddim": (BLUE, "--", "o"),
    "dpmpp_2m": (BLUE, "-", "D"),
    "sde_dpmpp_2m": (VERMILLION, "-", "^"),
}


def slerp(start: Tensor, end: Tensor, weights: Tensor) -> Tensor:
    """Walk from one noise to another along the sphere on which Gaussian noise lies.

    slerp(w) = sin((1 - w)·θ)/sin(θ) · start + sin(w·θ)/sin(θ) · end, θ the angle between them

    Args:
        start, end: (...) of one shape, not on one line through 0.
        weights: (N,) in [0, 1], 0 gives start and 1 gives end.

    Returns:
        (N, ...).

    Raises:
        ValueError: shapes that differ, or an angle of 0 or 180 degrees.

    Source: Shoemake 1985, "Animating rotation with quaternion curves".
    """
    if start.shape != end.shape:
        raise ValueError(f"end {tuple(end.shape)} must have start's shape {tuple(start.shape)}")
    cosine = (start * end).sum() / (start.norm() * end.norm())
    if not cosine.abs() < 1 - 1e-6:
        raise ValueError("start and end must not point the same way, nor opposite ways")
    angle = torch.acos(cosine)
    w = weights.to(start).reshape(-1, *[1] * start.ndim)
    return (((1 - w) * angle).sin() * start + (w * angle).sin() * end) / angle.sin()


def spacing_picture(spacings: Mapping[str, Tensor], num_train_timesteps: int) -> Picture:
    """One line a spacing, from noise at the left to the clean end: a dot a step, an arc a jump.

    What lies above the first dot is never visited (orange-red), and so is the way from the last dot
    on, which is one jump (green if it is longer than the others' would be).
    """
    figure, (axes,) = panels(1, 1, 8, 1 + 0.95 * len(spacings))
    for row, (name, timesteps) in enumerate(spacings.items()):
        y, steps = -row, timesteps.tolist()
        axes.plot([num_train_timesteps - 1, -1], [y, y], color=GREY, lw=1)
        for step, after in zip(steps, [*steps[1:], -1], strict=True):
            x = torch.linspace(0, 1, 40)
            height = 0.0022 * (step - after)
            axes.plot(step + (after - step) * x, y + height * 4 * x * (1 - x), color=SKY, lw=1.5)
        if steps[0] < num_train_timesteps - 1:
            axes.plot([num_train_timesteps - 1, steps[0]], [y, y], color=VERMILLION, lw=6)
        if steps[-1] > 0:
            axes.plot([steps[-1], -1], [y, y], color=GREEN, lw=6)
        axes.plot(steps, [y] * len(steps), "o", color=BLUE, ms=7, zorder=3)
        axes.text(num_train_timesteps + 25, y, name, ha="right", va="center", fontsize=11)
        for step in steps:
            axes.text(step, y - 0.13, str(step), ha="center", va="top", fontsize=9)
    bottom = -len(spacings) + 0.35
    axes.text(num_train_timesteps - 1, bottom, "pure noise", ha="center", fontsize=10)
    axes.text(-1, bottom, "clean", ha="center", fontsize=10)
    axes.set(xlim=(1.22 * num_train_timesteps, -0.06 * num_train_timesteps))
    axes.set(ylim=(bottom - 0.1, 0.75))
    axes.axis("off")
    ends = "; ".join(f"{name}: {s[0]} down to {s[-1]}" for name, s in spacings.items())
    return Picture(
        figure,
        f"The steps visited by each spacing, noise at the left, clean at the right. {ends}. "
        "Leading leaves a gap at the noisy end; trailing ends with a long jump.",
        "Red: noise levels that are skipped before the first step. Green: the last jump, all at "
        "once to the clean end.",
    )


def roads_picture(roads: Mapping[str, Tensor], data: Tensor) -> Picture:
    """Points walking from noise to data in the plane, a panel a sampler.

    Args:
        roads: title to (steps + 1, B, 2), where each point was.
        data: (N, 2) what the points should end in.
    """
    figure, axes = panels(1, len(roads), 8, 8 / len(roads) + 0.4)
    edge = 1.08 * max(road[[0, -1]].abs().max().item() for road in roads.values())
    for panel, (title, road) in zip(axes, roads.items(), strict=True):
        few = len(road) < 30
        how = {"lw": 0.9, "alpha": 0.75} if few else {"lw": 0.6, "alpha": 0.4}
        panel.plot(*data.T, ".", color=SKY, ms=2, alpha=0.35)
        for i in range(road.shape[1]):
            panel.plot(*road[:, i].T, color=BLUE, **how)
            if few:
                panel.plot(*road[:, i].T, ".", color=BLUE, ms=3)
        panel.plot(*road[0].T, "o", color=GREY, ms=4)
        panel.plot(*road[-1].T, "o", color=VERMILLION, ms=5)
        panel.set(title=title, xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal")
        panel.set(xticks=[], yticks=[])
        panel.title.set_fontsize(10)
    return Picture(
        figure,
        f"Roads of some points from noise to three clouds, for {', '.join(roads)}.",
        "Grey: where a point starts. Orange-red: where it ends. Pale: the data.",
    )


def order_picture(counts: Sequence[int], errors: Mapping[str, Sequence[float]]) -> Picture:
    """Error against the number of steps, both logarithmic, with each line's slope.

    Args:
        counts: numbers of steps.
        errors: label to one error a count, above 0.
    """
    figure, (axes,) = panels(1, 1, 8, 3.4)
    for i, (label, values) in enumerate(errors.items()):
        y = torch.as_tensor(values)
        slope = (y[-1] / y[-2]).log() / torch.tensor(counts[-1] / counts[-2]).log()
        axes.loglog(
            counts,
            y,
            DASHES[i],
            marker="oDs^"[i],
            color=COLOURS[i],
            lw=2,
            label=f"{label}: slope {slope:.2f} at the end",
        )
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set(xlabel="number of steps", ylabel="distance from the exact road")
    axes.legend()
    return Picture(
        figure,
        "Error against number of steps on logarithmic axes: with many steps DPM-Solver++(2M) falls "
        "twice as steeply as DDIM. "
        + " ".join(
            f"{label}: {values[0]:.2g} at {counts[0]} steps, {values[-1]:.2g} at {counts[-1]}."
            for label, values in errors.items()
        ),
    )


def quality_picture(
    lines: Mapping[str, Mapping[int, Sequence[float]]], floor: float, n: int, caption: str = ""
) -> Picture:
    """Fréchet distance against the number of steps, a line a sampler, the floor dashed.

    Args:
        lines: sampler (one of NAMES) to steps to one distance a seed.
        floor: the distance of as many real digits.
        n: samples in each crowd.
        caption: what else to say.
    """
    figure, (axes,) = panels(1, 1, 8, 3.8)
    for sampler, points in lines.items():
        colour, dashes, marker = LOOKS[sampler]
        middle, steps = [mean(values) for values in points.values()], list(points)
        how = {"ls": dashes, "marker": marker, "color": colour, "lw": 2}
        axes.plot(steps, middle, label=NAMES[sampler], **how)
        low, high = ([pick(values) for values in points.values()] for pick in (min, max))
        axes.fill_between(steps, low, high, color=colour, alpha=0.25, lw=0)
    axes.axhline(floor, color=BLACK, lw=1.2, ls=":", label="floor: as many real digits")
    every = sorted({steps for points in lines.values() for steps in points})
    axes.set(xscale="log", yscale="log", xlabel="number of steps (calls of the network)")
    axes.set(ylabel="Fréchet distance")
    axes.set_xticks(every, [f"{steps:,}" for steps in every])
    marks = [mark for mark in (0.5, 1, 2, 5, 10, 20, 50, 100, 200) if mark > floor / 2]
    marks = [mark for mark in marks if mark < 1.5 * axes.get_ylim()[1]]
    axes.set_yticks(marks, [f"{mark:g}" for mark in marks])
    axes.minorticks_off()
    axes.legend(loc="best", handlelength=4, markerscale=0.7)
    return Picture(
        figure,
        "Fréchet distance against the number of steps for each sampler, both axes logarithmic, "
        "with the floor of real digits below. "
        + _in_words({NAMES[sampler]: points for sampler, points in lines.items()}),
        "Blue: the same noise all the way; orange-red: fresh noise. Dashed: one guess a step; "
        f"solid: two. {n:,} samples each. {caption}".strip(),
    )


def _in_words(lines: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    """The first and the last point of each line, for those who cannot see it."""
    parts = []
    for name, points in lines.items():
        ends = [(steps, mean(values)) for steps, values in points.items()]
        parts += [f"{name}: " + ", ".join(f"{d:.1f} at {s} steps" for s, d in (ends[0], ends[-1]))]
    return "; ".join(parts) + "."
