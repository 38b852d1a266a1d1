"""Lesson 4, given. SDE-DPM-Solver++(2M): the memory of DPM-Solver++(2M), the fresh noise of DDPM.

    timesteps = spaced_timesteps(1000, 20)                    # 999, 949, ..., 49
    samples = sample_sde_dpmpp_2m(model, x_T, alphas_cumprod, timesteps, generator=generator)

Many programs call it "DPM++ 2M SDE" (an SDE is a differential equation with noise in it). Fresh
noise washes out errors that the network made earlier on the road.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from t2i.dpm_solver import dpmpp_2m_step, half_log_snr
from t2i.sampler_parts import alpha_bar_at, check_pictures, pairs
from t2i.samplers import convert_prediction
from t2i.schedules import gather


def sde_dpmpp_2m_step(
    x_t: Tensor,
    x_0_pred: Tensor,
    t: Tensor,
    t_prev: Tensor,
    alphas_cumprod: Tensor,
    noise: Tensor,
    x_0_pred_last: Tensor | None = None,
    t_last: Tensor | None = None,
) -> Tensor:
    """Walk further down than asked, to e^(-h) times the noise of t_prev; fill up with fresh noise.

    With signal = √ᾱ, sigma = √(1 - ᾱ), λ = log(signal/sigma), h = λ_prev - λ_t, and aim as in
    dpmpp_2m_step:
    x_prev = sigma_prev/sigma_t · e^(-h) · x_t + signal_prev · (1 - e^(-2h)) · aim
             + sigma_prev · √(1 - e^(-2h)) · noise

    Where aim is x_0_pred itself this is ddim_step with eta = 1, and so DDPM: at the first step,
    and at the step to the clean end, where h = ∞ and x_0_pred is all that is left.

    Args:
        x_t, x_0_pred: (B, ...) noisy pictures and the clean ones guessed from them.
        t, t_prev: (B,) int64 steps, from and to; t_prev in [-1, t), -1 is the clean end.
        alphas_cumprod: (T,).
        noise: (B, ...) fresh standard Gaussian noise.
        x_0_pred_last: (B, ...) the guess made at the step before this one; None at the first.
        t_last: (B,) int64 the step at which it was made, above t; None at the first.

    Returns:
        x_prev: (B, ...) at step t_prev.

    Raises:
        ValueError: as dpmpp_2m_step, for noise too.

    Source: Lu et al. 2022, arXiv:2211.01095, SDE-DPM-Solver++(2M); diffusers'
        DPMSolverMultistepScheduler with algorithm_type="sde-dpmsolver++", the rest as there.
    """
    check_pictures(x_t=x_t, noise=noise)
    # The step without noise holds the aim: smooth = sigma_prev/sigma_t · x_t
    # + signal_prev · (1 - e^(-h)) · aim. As 1 - e^(-2h) = (1 - e^(-h)) · (1 + e^(-h)), one walks on
    # past it by (smooth · e^(-h) - sigma_prev/sigma_t · x_t), and that is the equation above.
    smooth = dpmpp_2m_step(x_t, x_0_pred, t, t_prev, alphas_cumprod, x_0_pred_last, t_last)
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = alpha_bar_at(alphas_cumprod, t_prev, like=x_t)
    h = half_log_snr(alpha_bar_prev) - half_log_snr(alpha_bar_t)
    sigma_t, sigma_prev = (1 - alpha_bar_t).sqrt(), (1 - alpha_bar_prev).sqrt()
    further = smooth + torch.exp(-h) * smooth - sigma_prev / sigma_t * x_t
    return further + sigma_prev * (-torch.expm1(-2 * h)).sqrt() * noise


@torch.no_grad()
def sample_sde_dpmpp_2m(
    model: nn.Module,
    x_T: Tensor,
    alphas_cumprod: Tensor,
    timesteps: Tensor,
    clip_sample: bool = True,
    prediction_type: str = "epsilon",
    generator: torch.Generator | None = None,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """From pure noise to pictures with SDE-DPM-Solver++(2M): sample_dpmpp_2m with fresh noise.

    Args:
        model, x_T, alphas_cumprod, timesteps, clip_sample, prediction_type, on_step: as in
            sample_dpmpp_2m.
        generator: source of the fresh noise, for repeatable pictures.

    Returns:
        x_0: (B, ...).

    Raises:
        ValueError: as sde_dpmpp_2m_step; timesteps outside the schedule or not descending.

    Source: Lu et al. 2022, arXiv:2211.01095, SDE-DPM-Solver++(2M).
    """
    x, x_0_pred_last, t_last = x_T, None, None
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = (torch.full((len(x),), s, device=x.device) for s in (step, step_prev))
        prediction = model(x, t)
        x_0_pred = convert_prediction(prediction, x, t, alphas_cumprod, prediction_type, "sample")
        if clip_sample:
            x_0_pred = x_0_pred.clamp(-1, 1)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = sde_dpmpp_2m_step(x, x_0_pred, t, t_prev, alphas_cumprod, noise, x_0_pred_last, t_last)
        x_0_pred_last, t_last = x_0_pred, t
        if on_step is not None:
            on_step(step, x, x_0_pred)
    return x
