"""Lesson 4. Faster samplers: the same network, a few large steps in place of a thousand small ones.

    timesteps = spaced_timesteps(1000, 20)                    # 999, 949, ..., 49
    samples = sample_ddim(model, x_T, alphas_cumprod, timesteps)

A step goes from t to t_prev, which may lie far below; t_prev = -1 is the clean end, where nothing
but picture is left: ᾱ_{-1} = 1. Pictures may have any shape (B, ...).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from t2i.diffusion import predict_x_0
from t2i.sampler_parts import alpha_bar_at, check_pictures, check_signal, check_step, pairs
from t2i.schedules import gather

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")
SPACINGS = ("leading", "trailing", "linspace")


def convert_prediction(
    prediction: Tensor, x_t: Tensor, t: Tensor, alphas_cumprod: Tensor, source: str, target: str
) -> Tensor:
    """Say what a network predicted in another way: as noise, as clean picture, or as v.

    x_t = √ᾱ_t · x_0 + √(1 - ᾱ_t) · noise and v = √ᾱ_t · noise - √(1 - ᾱ_t) · x_0. From
    x_t and v, x_0 and the noise follow without a division.

    Args:
        prediction: (B, ...) what the network said, of type `source`.
        x_t: (B, ...) the noisy pictures that it was shown.
        t: (B,) int64 steps.
        alphas_cumprod: (T,), at every t asked for above 0 if `source` is "epsilon", and below 1
            if it is "sample".
        source, target: "epsilon" (the noise), "sample" (x_0) or "v_prediction".

    Returns:
        (B, ...) the same statement as a prediction of type `target`.

    Raises:
        ValueError: an unknown type, different shapes, values that are not finite, t outside the
            schedule, or ᾱ_t = 0 where `source` is "epsilon".

    Source: Salimans and Ho 2022, arXiv:2202.00512, appendix D.
    """
    _check_types(source=source, target=target)
    check_pictures(x_t=x_t, prediction=prediction)
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    signal, sigma = alpha_bar_t.sqrt(), (1 - alpha_bar_t).sqrt()
    if source == target:
        return prediction
    if source == "epsilon":
        check_signal(alpha_bar_t)
        noise = prediction
        x_0 = (x_t - sigma * noise) / signal
    elif source == "sample":
        x_0 = prediction
        noise = (x_t - signal * x_0) / sigma
    else:
        x_0 = signal * x_t - sigma * prediction
        noise = sigma * x_t + signal * prediction
    if target == "epsilon":
        return noise
    return x_0 if target == "sample" else signal * noise - sigma * x_0


def spaced_timesteps(
    num_train_timesteps: int, num_inference_steps: int, spacing: str = "trailing"
) -> Tensor:
    """Which few of the training's steps a fast sampler visits, evenly spaced, from noisy to clean.

    With T training steps and N to take: leading goes from 0 upwards in strides of ⌊T/N⌋; trailing
    from T downwards in strides of T/N, rounded, and less 1; linspace has N equally distant numbers
    from 0 to T - 1, both included, rounded, and only 0 if N = 1.

    Args:
        num_train_timesteps: T.
        num_inference_steps: N, in [1, T].
        spacing: "leading" begins below T - 1, "trailing" ends above 0, "linspace" does neither,
            with larger strides.

    Returns:
        timesteps: (N,) int64, strictly descending, in [0, T).

    Raises:
        ValueError: an unknown spacing, or N no whole number in [1, T].

    Source: Lin et al. 2023, arXiv:2305.08891, table 2; diffusers' DDIMScheduler.set_timesteps.
        (DPMSolverMultistepScheduler's "linspace" and "leading" make N + 1 and drop the lowest.)
    """
    total, steps = num_train_timesteps, num_inference_steps
    if steps % 1 or not 1 <= steps <= total:
        raise ValueError(f"num_inference_steps must be a whole number in [1, {total}], got {steps}")
    if spacing not in SPACINGS:
        raise ValueError(f"spacing must be one of {', '.join(SPACINGS)}, got {spacing!r}")
    i = torch.arange(steps, dtype=torch.float64)
    if spacing == "leading":
        timesteps = i * (total // steps)
    elif spacing == "trailing":
        timesteps = ((i + 1) * total / steps).round() - 1
    else:
        timesteps = (i * (total - 1) / max(steps - 1, 1)).round()
    return timesteps.long().flip(0)


def ddim_step(
    x_t: Tensor,
    noise_pred: Tensor,
    t: Tensor,
    t_prev: Tensor,
    alphas_cumprod: Tensor,
    eta: float = 0.0,
    noise: Tensor | None = None,
    clip_sample: bool = True,
) -> Tensor:
    """Jump from t to t_prev: guess the clean picture, mix it anew with less of the same noise.

    x_prev = √ᾱ_prev · x_0_pred + √(1 - ᾱ_prev - σ²) · noise_pred + σ · noise
    σ = eta · √((1 - ᾱ_prev)/(1 - ᾱ_t)) · √(1 - ᾱ_t/ᾱ_prev)

    Where the guess was clipped, noise_pred is worked out anew, so that both still make up x_t.
    eta = 1 and t_prev = t - 1 is ddpm_step.

    Args:
        x_t, noise_pred: (B, ...) noisy pictures and the noise predicted in them.
        t, t_prev: (B,) int64 steps, from and to; t_prev in [-1, t), -1 is the clean end.
        alphas_cumprod: (T,), above 0 at every t.
        eta: share of DDPM's fresh noise, in [0, 1]; at 0 nothing is left to chance.
        noise: (B, ...) fresh standard Gaussian noise; may be None if eta is 0.
        clip_sample: keep the guess of the clean picture within [-1, 1].

    Returns:
        x_prev: (B, ...) at step t_prev.

    Raises:
        ValueError: shapes that differ, values that are not finite, steps outside the schedule or
            not descending, ᾱ = 0 at a t, eta outside [0, 1], or noise missing.

    Source: Song et al. 2021, arXiv:2010.02502, equations 12 and 16; diffusers' DDIMScheduler with
        set_alpha_to_one=True, steps_offset=0 and step(use_clipped_model_output=True).
    """
    check_step(x_t, noise_pred, t, t_prev, eta, noise)
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    check_signal(alpha_bar_t)
    alpha_bar_prev = alpha_bar_at(alphas_cumprod, t_prev, like=x_t)
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0_pred = x_0_pred.clamp(-1, 1)
        noise_pred = (x_t - alpha_bar_t.sqrt() * x_0_pred) / (1 - alpha_bar_t).sqrt()
    variance = (1 - alpha_bar_prev) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_prev)
    sigma = eta * variance.sqrt()
    direction = (1 - alpha_bar_prev - sigma**2).clamp(min=0).sqrt() * noise_pred
    x_prev = alpha_bar_prev.sqrt() * x_0_pred + direction
    return x_prev + sigma * noise if eta > 0 else x_prev


@torch.no_grad()
def sample_ddim(
    model: nn.Module,
    x_T: Tensor,
    alphas_cumprod: Tensor,
    timesteps: Tensor,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    clip_sample: bool = True,
    prediction_type: str = "epsilon",
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """From pure noise to pictures through the given steps only, one call of the model at each.

    Args:
        model: called as model(x_t, t) with t (B,) int64, returns a prediction.
        x_T: (B, ...) standard Gaussian noise to start from, float32 or better.
        alphas_cumprod: (T,), above 0 at every timestep.
        timesteps: (N,) int64, strictly descending, as spaced_timesteps gives them; the last step
            goes from timesteps[-1] to the clean end.
        eta, clip_sample: see ddim_step.
        generator: source of the fresh noise when eta is above 0, for repeatable pictures; with
            None every call draws other noise.
        prediction_type: what the model predicts: "epsilon", "sample" or "v_prediction".
        on_step: called after each step as on_step(step, x_prev, noise_pred), with step as an int.

    Returns:
        x_0: (B, ...), made without gradients (hence the no_grad above).

    Raises:
        ValueError: as ddim_step; timesteps outside the schedule or not descending.

    Source: Song et al. 2021, arXiv:2010.02502, section 4.2.
    """
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = (torch.full((len(x),), s, device=x.device) for s in (step, step_prev))
        prediction = model(x, t)
        noise_pred = convert_prediction(
            prediction, x, t, alphas_cumprod, prediction_type, "epsilon"
        )
        noise = None
        if eta > 0:
            noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, eta, noise, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x


def _check_types(**types: str) -> None:
    for name, value in types.items():
        if value not in PREDICTION_TYPES:
            raise ValueError(f"{name} must be one of {', '.join(PREDICTION_TYPES)}, got {value!r}")
