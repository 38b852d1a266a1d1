"""Lesson 3. DDPM: learn to predict noise, then remove it step by step.

Every function takes the schedule as `alphas_cumprod` (T,), the signal left at each step; the
step before the first is the clean picture, ᾱ_{-1} = 1.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.schedules import add_noise, gather


def ddpm_loss(
    model: nn.Module, x_0: Tensor, t: Tensor, noise: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    """How wrong the model's guess of the noise is, averaged over all pixels.

    loss = mean((noise - model(x_t, t))²)

    Args:
        model: called as model(x_t, t), returns (B, C, H, W).
        x_0: (B, C, H, W) clean images in [-1, 1].
        t: (B,) int64 steps.
        noise: (B, C, H, W) the noise to mix in, and the answer that the model should give.
        alphas_cumprod: (T,).

    Returns:
        scalar, at least 0; 1 is what a model that always answers zero gets.

    Raises:
        ValueError: the model's answer has another shape than the pictures.

    Source: Ho et al. 2020, arXiv:2006.11239, equation 14 and algorithm 1.
    """
    noise_pred = model(add_noise(x_0, noise, t, alphas_cumprod), t)
    _check_shapes(x_0=x_0, noise_pred=noise_pred)
    return F.mse_loss(noise_pred, noise)


def predict_x_0(x_t: Tensor, noise_pred: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """What the clean picture would be if the predicted noise were exactly right.

    x_0_pred = (x_t - √(1 - ᾱ_t) · noise_pred) / √ᾱ_t

    Args:
        x_t, noise_pred: (B, C, H, W) noisy images and the noise predicted in them.
        t: (B,) int64 steps.
        alphas_cumprod: (T,), above 0 at every t asked for.

    Returns:
        x_0_pred: (B, C, H, W), not clipped.

    Source: Ho et al. 2020, arXiv:2006.11239, equation 15.
    """
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    return (x_t - (1 - alpha_bar_t).sqrt() * noise_pred) / alpha_bar_t.sqrt()


def posterior_mean_variance(
    x_0: Tensor, x_t: Tensor, t: Tensor, alphas_cumprod: Tensor
) -> tuple[Tensor, Tensor]:
    """Where x_{t-1} lies when both ends are known: between the clean picture and x_t.

    mean = √ᾱ_{t-1}·beta_t/(1 - ᾱ_t) · x_0 + √alpha_t·(1 - ᾱ_{t-1})/(1 - ᾱ_t) · x_t
    variance = beta_t · (1 - ᾱ_{t-1})/(1 - ᾱ_t)

    Args:
        x_0, x_t: (B, C, H, W) clean (or predicted clean) and noisy images.
        t: (B,) int64 steps.
        alphas_cumprod: (T,).

    Returns:
        mean: (B, C, H, W).
        variance: (B, 1, 1, 1).

    Source: Ho et al. 2020, arXiv:2006.11239, equations 6 and 7.
    """
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = gather(previous(alphas_cumprod), t, like=x_t)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    weight_x_0 = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t)
    weight_x_t = alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    variance = beta_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    return weight_x_0 * x_0 + weight_x_t * x_t, variance


def ddpm_step(
    x_t: Tensor,
    noise_pred: Tensor,
    t: Tensor,
    noise: Tensor,
    alphas_cumprod: Tensor,
    clip_sample: bool = True,
) -> Tensor:
    """One step of the reverse process: guess the clean picture, then step a little towards it.

    x_prev = mean + √variance · noise; at t = 0 the variance is 0 and no noise is added.

    Args:
        x_t, noise_pred: (B, C, H, W) noisy images and the noise predicted in them.
        t: (B,) int64 steps.
        noise: (B, C, H, W) fresh standard Gaussian noise.
        alphas_cumprod: (T,).
        clip_sample: keep the guess of the clean picture within [-1, 1].

    Returns:
        x_prev: (B, C, H, W) at step t - 1.

    Raises:
        ValueError: noise or noise_pred has another shape than x_t.

    Source: Ho et al. 2020, arXiv:2006.11239, algorithm 2 and section 3.2.
    """
    _check_shapes(x_t=x_t, noise=noise, noise_pred=noise_pred)
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0_pred = x_0_pred.clamp(-1, 1)
    mean, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    return mean + variance.sqrt() * noise


@torch.no_grad()
def sample_ddpm(
    model: nn.Module,
    x_T: Tensor,
    alphas_cumprod: Tensor,
    generator: torch.Generator | None = None,
    clip_sample: bool = True,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """From pure noise to pictures: T steps of predicting noise and removing a little of it.

    Args:
        model: called as model(x_t, t) with t (B,) int64, returns the predicted noise.
        x_T: (B, C, H, W) standard Gaussian noise to start from, float32 or better: half
            precision cannot hold the schedule's ends (a model may compute in it by autocast).
        alphas_cumprod: (T,), above 0 to its end.
        generator: source of the fresh noise of each step, for repeatable pictures; with None
            every call draws other noise.
        clip_sample: keep each guess of the clean picture within [-1, 1].
        on_step: called after each step as on_step(step, x_prev, noise_pred), with step as an int.

    Returns:
        x_0: (B, C, H, W), made without gradients (hence the no_grad above).

    Raises:
        ValueError: a schedule that ends at 0: in noise alone there is no noise to be told.

    Source: Ho et al. 2020, arXiv:2006.11239, algorithm 2.
    """
    if alphas_cumprod[-1] == 0:
        raise ValueError("alphas_cumprod must be above 0, also at its end")
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64, device=x.device)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x


@torch.no_grad()
def ema_update(ema_model: nn.Module, model: nn.Module, decay: float) -> None:
    """Move a slow copy of the model a small way towards the model, in place.

    ema = decay · ema + (1 - decay) · weights; buffers are copied as they are.

    Args:
        ema_model: the slow copy, same architecture; changed in place.
        model: the model being trained; left as it is.
        decay: in [0, 1]; how much of the slow copy is kept.

    Source: Ho et al. 2020, arXiv:2006.11239, appendix B; Polyak and Juditsky 1992.
    """
    for slow, fast in zip(ema_model.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast.to(slow.dtype), 1 - decay)
    for slow, fast in zip(ema_model.buffers(), model.buffers(), strict=True):
        slow.copy_(fast)


def _check_shapes(**pictures: Tensor) -> None:
    (first, like), *others = pictures.items()
    for name, value in others:
        if value.shape != like.shape:
            raise ValueError(
                f"{name} {tuple(value.shape)} must have {first}'s shape {tuple(like.shape)}"
            )


def previous(alphas_cumprod: Tensor) -> Tensor:
    """The signal left one step earlier: ᾱ_{t-1} at place t, with ᾱ_{-1} = 1. (T,) -> (T,)."""
    return torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
