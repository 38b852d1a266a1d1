"""Drawing for lesson 10: roads from noise to data, in a flat world of three clouds."""

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from torch import Tensor

from t2i.show import BLACK, BLUE, GREY, ORANGE, VERMILLION, Picture, panels

CENTRES = torch.tensor([[-1.0, -0.6], [1.0, -0.6], [0.0, 1.15]])
CLOUD = 0.2  # standard deviation of a cloud of the flat world


def draw_world(axes: Axes, title: str = "", reach: float = 2.2) -> None:
    """The clouds as rings, in a square panel without ticks."""
    angle = torch.linspace(0, 2 * torch.pi, 60)
    for x, y in CENTRES.tolist():
        for size in (1, 2):
            ring = size * CLOUD
            axes.plot(x + ring * angle.cos(), y + ring * angle.sin(), color=ORANGE, lw=1)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    axes.set_title(title)


def crowd(x_0: Tensor, noise: Tensor, x_t: Tensor, t: float) -> Picture:
    """Many points on their ways from clouds to noise, as draw_crowd draws them."""
    figure, (axes,) = panels(1, 1, 4.2, 4.4)
    draw_crowd(axes, x_0, noise, x_t, t)
    return Picture(figure, f"A crowd of points at t = {t:.2f}, between three clouds and noise.")


def draw_crowd(axes: Axes, x_0: Tensor, noise: Tensor, x_t: Tensor, t: float) -> None:
    """The same in a given panel, with a few of the ways.

    Args:
        axes: the panel.
        x_0, noise: (B, 2), the ends of the ways.
        x_t: (B, 2), where the points are at time t.
        t: for the title.
    """
    draw_world(axes, f"t = {t:.2f}", 3.0)
    axes.plot(*torch.stack([x_0[:12], noise[:12]]).permute(2, 0, 1), color=GREY, lw=0.8, alpha=0.7)
    axes.plot(*x_t.T, ".", color=BLUE, ms=3, alpha=0.4)
    axes.plot(*x_t[:12].T, "o", color=VERMILLION, ms=4)


def roads(walks: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> Picture:
    """Walks in a few steps over the roads that they should keep to, a panel each.

    Args:
        walks: title -> (N + 1, B, 2), where the walkers stood after each step.
        exact: the same titles -> (M, B, 2), the same walks in very small steps.
    """
    figure, axes = panels(1, len(walks), 8, 8 / len(walks) + 0.35)
    words = []
    for panel, (title, steps) in zip(axes, walks.items(), strict=True):
        draw_world(panel, title)
        panel.plot(*exact[title].permute(2, 0, 1), color=GREY, lw=1)
        panel.plot(*exact[title][-1].T, "o", color=BLACK, ms=3)
        panel.plot(*steps.permute(2, 0, 1), color=BLUE, lw=1, marker="o", ms=3)
        panel.plot(*steps[-1].T, "x", color=VERMILLION, ms=6, mew=1.6)
        missed = (steps[-1] - exact[title][-1]).square().sum(-1).mean().sqrt()
        words.append(f"{title}: {missed:.2f} beside the goal (root mean square)")
    told = "; ".join(words)
    alt = f"Grey roads from noise to three clouds, and walks along them in few steps. {told}"
    return Picture(figure, alt, f"crosses: where the walk ends. {told}")
