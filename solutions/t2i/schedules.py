"""Lesson 1. Noise schedules: how fast a picture drowns.

The forward process mixes a picture with Gaussian noise, a little more at each of T steps.
A schedule is the list of the T mixing strengths, `betas`.
"""

import math

import torch
from torch import Tensor


def linear_betas(
    num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Tensor:
    """Noise strengths that grow by the same amount at every step.

    beta_t goes in equal strides from beta_start at t = 0 to beta_end at t = T - 1.

    Args:
        num_train_timesteps: T, the number of steps.
        beta_start: noise variance added at the first step, in (0, 1).
        beta_end: noise variance added at the last step, in (0, 1).

    Returns:
        betas: (T,) float32, ascending.

    Raises:
        ValueError: no steps, or betas that do not grow within (0, 1).

    Source: Ho et al. 2020, arXiv:2006.11239, section 4.
    """
    _check_num_train_timesteps(num_train_timesteps)
    if not 0 < beta_start <= beta_end < 1:
        raise ValueError(f"betas must grow within (0, 1), got {beta_start} to {beta_end}")
    return torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float32)


def cosine_betas(
    num_train_timesteps: int = 1000, s: float = 0.008, max_beta: float = 0.999
) -> Tensor:
    """Noise strengths chosen so that what is left of the picture follows a squared cosine.

    f(u) = cos²((u + s) / (1 + s) · π/2);  beta_t = min(1 - f((t + 1)/T) / f(t/T), max_beta)

    Args:
        num_train_timesteps: T, the number of steps, at least 1.
        s: a small offset, 0 or more, that keeps the first betas from being vanishingly small.
        max_beta: upper limit of a single beta; without it the last one would be 1.

    Returns:
        betas: (T,) float32, ascending.

    Raises:
        ValueError: no steps, or s below 0.

    Source: Nichol and Dhariwal 2021, arXiv:2102.09672, equation 17.
    """
    _check_num_train_timesteps(num_train_timesteps)
    if s < 0:
        raise ValueError(f"s must be 0 or more, got {s}")
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    signal = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    betas = 1 - signal[1:] / signal[:-1]
    return betas.clamp(max=max_beta).float()


def alphas_cumprod(betas: Tensor) -> Tensor:
    """How much of the original picture's variance is left after each step.

    ᾱ_t = (1 - beta_0)(1 - beta_1) ··· (1 - beta_t)

    Args:
        betas: (T,) noise strengths in [0, 1].

    Returns:
        (T,) like betas: descending, from almost 1 (clean) to almost 0 (noise).

    Source: Ho et al. 2020, arXiv:2006.11239, equation 4.
    """
    return torch.cumprod(1 - betas, dim=0)


def add_noise(x_0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Jump from a clean picture straight to step t, without walking the steps between.

    x_t = √ᾱ_t · x_0 + √(1 - ᾱ_t) · noise

    Args:
        x_0: (B, C, H, W) clean images in [-1, 1].
        noise: (B, C, H, W) standard Gaussian noise.
        t: (B,) int64, 0 the least noisy, T - 1 the noisiest; every sample has its own.
        alphas_cumprod: (T,) ᾱ, the picture's share of the variance at each step.

    Returns:
        x_t: (B, C, H, W) in x_0's dtype; half precision may become float32.

    Raises:
        ValueError: noise has another shape than x_0, or t lies outside the schedule.

    Source: Ho et al. 2020, arXiv:2006.11239, equation 4.
    """
    if noise.shape != x_0.shape:
        raise ValueError(f"noise {tuple(noise.shape)} must have x_0's shape {tuple(x_0.shape)}")
    alpha_bar_t = gather(alphas_cumprod, t, like=x_0)
    return alpha_bar_t.sqrt() * x_0 + (1 - alpha_bar_t).sqrt() * noise


def snr(alphas_cumprod: Tensor) -> Tensor:
    """Signal-to-noise ratio: how many times stronger the picture is than the noise.

    SNR_t = ᾱ_t / (1 - ᾱ_t)

    Args:
        alphas_cumprod: (T,) ᾱ, the picture's share of the variance at each step, in [0, 1).

    Returns:
        (T,) like alphas_cumprod: the ratio of variances (no unit, at least 0), 1 where both are
            equally strong.

    Source: Kingma et al. 2021, arXiv:2107.00630, equation 2.
    """
    return alphas_cumprod / (1 - alphas_cumprod)


def rescale_zero_terminal_snr(betas: Tensor) -> Tensor:
    """Repair a schedule so that at its last step nothing of the picture is left.

    new_t = ((√ᾱ_t - last) · first / (first - last))², with first and last the ends of √ᾱ:
    √ᾱ shifted to end at 0 and scaled to keep its start, then squared. new is the new ᾱ.

    Args:
        betas: (T,) noise strengths in [0, 1), T at least 2, not all of them 0.

    Returns:
        betas: (T,) like betas; the last is exactly 1, so the last ᾱ is exactly 0.

    Raises:
        ValueError: fewer than two steps, or no noise at all after the first.

    Source: Lin et al. 2023, arXiv:2305.08891, algorithm 1.
    """
    _check_num_train_timesteps(len(betas), at_least=2)
    alpha_bar_sqrt = torch.cumprod(1 - betas, dim=0).sqrt()
    first, last = alpha_bar_sqrt[0], alpha_bar_sqrt[-1]
    if first == last:
        raise ValueError("betas must be above 0 somewhere after the first, all are 0 there")
    alpha_bar = ((alpha_bar_sqrt - last) * first / (first - last)) ** 2
    alphas = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    return 1 - alphas


def gather(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """Pick each sample's value and shape it so that it multiplies that sample.

    Args:
        values: (T,) one value a step, float32 or float64.
        t: (B,) int64 steps in [0, T).
        like: (B, ...) the tensor that the values will multiply.

    Returns:
        (B, 1, ..., 1) with as many dimensions as `like`, on its device, in its dtype; in float32
        where that is half precision, in which 1 - ᾱ is 0 at the first steps.

    Raises:
        ValueError: t is not (B,), not made of whole numbers, or lies outside [0, T); or values in
            half precision.
    """
    if not isinstance(t, Tensor) or t.is_floating_point():
        raise ValueError(f"t must be whole numbers, one step a sample, (B,) int64: got {t!r}")
    if values.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(f"values must be float32 or float64, got {values.dtype}: too coarse")
    if t.shape != like.shape[:1]:
        raise ValueError(f"t {tuple(t.shape)} must be one step a sample: ({like.shape[0]},)")
    known = t.numel() and t.device.type == "cpu"  # a GPU would have to stop for a look
    if known and (t.min() < 0 or t.max() >= len(values)):
        raise ValueError(
            f"t must lie in [0, {len(values)}): got {t.min().item()} to {t.max().item()}"
        )
    dtype = torch.promote_types(like.dtype, torch.float32)
    picked = values.to(like.device)[t.to(like.device)].to(dtype)
    return picked.reshape(-1, *[1] * (like.ndim - 1))


def _check_num_train_timesteps(num_train_timesteps: int, at_least: int = 1) -> None:
    if num_train_timesteps < at_least:
        raise ValueError(
            f"num_train_timesteps must be at least {at_least}, got {num_train_timesteps}"
        )
