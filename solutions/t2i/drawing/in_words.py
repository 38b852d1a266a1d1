"""Curves in words, for readers who hear a page: their values at a few places."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

PLACES = 5  # evenly spread, both ends among them


def in_words(
    x: Tensor | Sequence[float],
    lines: Mapping[str, Tensor | Sequence[float]],
    xlabel: str = "x",
    ylabel: str = "value",
) -> str:
    """Say where lines go: "value against step t. ᾱ: 1 at 0, 0.52 at 250, …, 4e-05 at 999."

    Args:
        x: (N,), as in show.curves.
        lines: label to (N,) values.
        xlabel, ylabel: the names of the axes.
    """
    places = torch.linspace(0, len(x) - 1, min(PLACES, len(x))).round().int().tolist()
    at = torch.as_tensor(x).tolist()
    told = []
    for label, values in lines.items():
        y = torch.as_tensor(values).tolist()
        told.append(f"{label}: " + ", ".join(f"{y[i]:.2g} at {at[i]:.4g}" for i in places))
    return f"{ylabel} against {xlabel}. {'; '.join(told)}."
