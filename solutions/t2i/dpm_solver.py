"""Lesson 4. DPM-Solver++(2M): DDIM that aims at where the guess of the picture is heading.

    timesteps = spaced_timesteps(1000, 20)                    # 999, 949, ..., 49
    samples = sample_dpmpp_2m(model, x_T, alphas_cumprod, timesteps)

It remembers one guess, and so its error falls with the square of the step's length.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from t2i.sampler_parts import alpha_bar_at, check_pictures, check_step, pairs
from t2i.samplers import convert_prediction
from t2i.schedules import gather


def dpmpp_2m_step(
    x_t: Tensor,
    x_0_pred: Tensor,
    t: Tensor,
    t_prev: Tensor,
    alphas_cumprod: Tensor,
    x_0_pred_last: Tensor | None = None,
    t_last: Tensor | None = None,
) -> Tensor:
    """Jump from t to t_prev as DDIM does, but aim at where the guess of the picture is heading.

    With signal = √ᾱ, sigma = √(1 - ᾱ), λ = log(signal/sigma), h = λ_prev - λ_t,
    h_last = λ_t - λ_last:
    aim = x_0_pred + h/(2·h_last) · (x_0_pred - x_0_pred_last)
    x_prev = sigma_prev/sigma_t · x_t + signal_prev · (1 - e^(-h)) · aim

    The first step has no guess before it, and the step to the clean end has h = ∞: both aim at
    x_0_pred itself.

    Args:
        x_t, x_0_pred: (B, ...) noisy pictures and the clean ones guessed from them.
        t, t_prev: (B,) int64 steps, from and to; t_prev in [-1, t), -1 is the clean end.
        alphas_cumprod: (T,); it may end in 0.
        x_0_pred_last: (B, ...) the guess made at the step before this one; None at the first.
        t_last: (B,) int64 the step at which it was made, above t; None at the first.

    Returns:
        x_prev: (B, ...) at step t_prev.

    Raises:
        ValueError: shapes that differ, values that are not finite, steps outside the schedule or
            not descending, or only one of x_0_pred_last and t_last.

    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 2; diffusers' DPMSolverMultistepScheduler
        with algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint",
        final_sigmas_type="zero" (lower_order_final then changes nothing).
    """
    check_step(x_t, x_0_pred, t, t_prev, name="x_0_pred")
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = alpha_bar_at(alphas_cumprod, t_prev, like=x_t)
    h = half_log_snr(alpha_bar_prev) - half_log_snr(alpha_bar_t)
    aim = x_0_pred
    if x_0_pred_last is not None or t_last is not None:
        _check_last(x_0_pred, x_0_pred_last, t, t_last)
        alpha_bar_last = gather(alphas_cumprod, t_last, like=x_t)
        h_last = half_log_snr(alpha_bar_t) - half_log_snr(alpha_bar_last)
        trend = torch.where(h.isinf(), 0, h / (2 * h_last))
        aim = x_0_pred + trend * (x_0_pred - x_0_pred_last)
    keep = (1 - alpha_bar_prev).sqrt() / (1 - alpha_bar_t).sqrt()
    return keep * x_t - alpha_bar_prev.sqrt() * torch.expm1(-h) * aim


@torch.no_grad()
def sample_dpmpp_2m(
    model: nn.Module,
    x_T: Tensor,
    alphas_cumprod: Tensor,
    timesteps: Tensor,
    clip_sample: bool = True,
    prediction_type: str = "epsilon",
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """From pure noise to pictures with DPM-Solver++(2M): each step remembers the guess before it.

    Args:
        model: called as model(x_t, t) with t (B,) int64, returns a prediction.
        x_T: (B, ...) standard Gaussian noise to start from, float32 or better.
        alphas_cumprod: (T,).
        timesteps: (N,) int64, strictly descending, as spaced_timesteps gives them; the last step
            goes from timesteps[-1] to the clean end.
        clip_sample: keep each guess of the clean picture within [-1, 1].
        prediction_type: what the model predicts: "epsilon", "sample" or "v_prediction".
        on_step: called after each step as on_step(step, x_prev, x_0_pred), with step as an int;
            x_0_pred is the guess that was used, so clipped if asked.

    Returns:
        x_0: (B, ...), made without gradients (hence the no_grad above).

    Raises:
        ValueError: as dpmpp_2m_step; timesteps outside the schedule or not descending.

    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 2. clip_sample is diffusers'
        thresholding=True with sample_max_value=1.
    """
    x, x_0_pred_last, t_last = x_T, None, None
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = (torch.full((len(x),), s, device=x.device) for s in (step, step_prev))
        prediction = model(x, t)
        x_0_pred = convert_prediction(prediction, x, t, alphas_cumprod, prediction_type, "sample")
        if clip_sample:
            x_0_pred = x_0_pred.clamp(-1, 1)
        x = dpmpp_2m_step(x, x_0_pred, t, t_prev, alphas_cumprod, x_0_pred_last, t_last)
        x_0_pred_last, t_last = x_0_pred, t
        if on_step is not None:
            on_step(step, x, x_0_pred)
    return x


def half_log_snr(alpha_bar: Tensor) -> Tensor:
    """λ = log(√ᾱ / √(1 - ᾱ)), half the logarithm of the signal-to-noise ratio; ∞ where ᾱ is 1."""
    return (alpha_bar.log() - (1 - alpha_bar).log()) / 2


def _check_last(x_0_pred, x_0_pred_last, t, t_last) -> None:
    if x_0_pred_last is None or t_last is None:
        raise ValueError("x_0_pred_last and t_last belong together: give both or neither")
    check_pictures(x_0_pred=x_0_pred, x_0_pred_last=x_0_pred_last)
    if t_last.shape != t.shape or (t_last <= t).any():
        raise ValueError(f"t_last must lie above t, one a sample: got {t_last} and {t}")
