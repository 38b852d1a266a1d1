"""What all samplers share: a step and the one after it, ᾱ there, and what a step refuses."""

import torch
from torch import Tensor

from t2i.schedules import gather


def alpha_bar_at(alphas_cumprod: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """ᾱ_t for each sample, shaped to multiply it, where t = -1 is the clean end: ᾱ_{-1} = 1."""
    return gather(torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod]), t + 1, like)


def pairs(timesteps: Tensor, alphas_cumprod: Tensor) -> list[tuple[int, int]]:
    """Each step with the one after it, the last with -1: (999, 499) -> [(999, 499), (499, -1)].

    Raises:
        ValueError: timesteps that are not whole numbers, not descending or not in the schedule.
    """
    steps = torch.as_tensor(timesteps)
    if steps.ndim != 1 or steps.is_floating_point() or not len(steps):
        raise ValueError("timesteps must be a list of whole numbers, (N,) int64")
    steps = steps.tolist()
    if any(step <= after for step, after in zip(steps, steps[1:], strict=False)):
        raise ValueError(f"timesteps must be strictly descending, got {steps[:4]} ...")
    if steps[0] >= len(alphas_cumprod) or steps[-1] < 0:
        raise ValueError(
            f"timesteps must lie in [0, {len(alphas_cumprod)}), got {steps[0]} to {steps[-1]}"
        )
    return list(zip(steps, [*steps[1:], -1], strict=True))


def check_pictures(**pictures: Tensor) -> None:
    """Say which of the pictures has not the first one's shape, or is not finite."""
    (first, like), *_ = pictures.items()
    for name, value in pictures.items():
        if value.shape != like.shape:
            raise ValueError(
                f"{name} {tuple(value.shape)} must have {first}'s shape {tuple(like.shape)}"
            )
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} must be finite, but holds NaN or infinity")


def check_signal(alpha_bar_t: Tensor) -> None:
    """Say that predicted noise alone does not tell the picture where nothing is left of it."""
    if (alpha_bar_t == 0).any():
        raise ValueError(
            "alphas_cumprod must be above 0 at every t here, the last ones are 0: where x_t is "
            "noise alone, noise_pred says nothing of the picture (a network that predicts v or the "
            "picture can begin there, with sample_dpmpp_2m)"
        )


def check_step(x_t, prediction, t, t_prev, eta=0.0, noise=None, name="noise_pred") -> None:
    extra = {} if noise is None else {"noise": noise}
    check_pictures(**{"x_t": x_t, name: prediction, **extra})
    if t_prev.shape != t.shape or (t_prev >= t).any() or (t_prev < -1).any():
        raise ValueError(f"t_prev must lie in [-1, t) for each t, one a sample: got {t_prev}")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}")
    if eta > 0 and noise is None:
        raise ValueError("noise must be given when eta is above 0")
