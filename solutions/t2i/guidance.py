"""Lesson 5. Classes and guidance: say what you want, and how much you want it.

A condition is what a picture should show: a label (B,) here, words (B, L, D) from lesson 6 on. Each
kind has its null, the condition that asks for nothing: one more label, the empty caption.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from t2i.sampler_parts import pairs
from t2i.samplers import convert_prediction, ddim_step


class LabelEmbedding(nn.Module):
    """A table with one learnt vector for each class, and one more for "no class at all".

    Args:
        num_classes: classes, numbered from 0; the null class has the number num_classes.
        dim: length of each vector.

    Source: Ho and Salimans 2022, arXiv:2207.12598, section 3.2 (the null token).
    """

    def __init__(self, num_classes: int, dim: int):
        super().__init__()
        self.null = num_classes
        self.table = nn.Embedding(num_classes + 1, dim)

    def forward(self, label: Tensor) -> Tensor:
        """(B,) int64 in [0, num_classes] -> (B, dim).

        Raises:
            ValueError: labels that are no whole numbers, or lie outside.
        """
        if label.is_floating_point():
            raise ValueError(f"label must be whole numbers (int64), got {label.dtype}")
        known = label.numel() and label.device.type == "cpu"  # a GPU would have to stop for a look
        if known and not 0 <= label.min() <= label.max() <= self.null:
            raise ValueError(
                f"label must lie in [0, {self.null}], where {self.null} is the null class; "
                f"got {label.min().item()} to {label.max().item()}"
            )
        return self.table(label)


def drop_condition(
    condition: Tensor,
    null: int | Tensor,
    cond_drop_prob: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Take the condition away from some samples, so that the model learns to do without.

    Args:
        condition: (B, ...) labels (B,), words (B, L, D), or anything with one entry a sample;
            not changed.
        null: what stands in the place of a dropped condition: a number, or condition's shape
            without B.
        cond_drop_prob: in [0, 1], how likely a sample loses its whole condition; 0: none does.
        generator: source of the random choice, for repeatable training.

    Returns:
        (B, ...) like condition.

    Raises:
        ValueError: cond_drop_prob lies outside [0, 1], or null does not fit a sample's condition.

    Source: Ho and Salimans 2022, arXiv:2207.12598, algorithm 1.
    """
    if not 0 <= cond_drop_prob <= 1:
        raise ValueError(f"cond_drop_prob must lie in [0, 1], got {cond_drop_prob}")
    chance = torch.rand(len(condition), generator=generator, device=condition.device)
    drop = (chance < cond_drop_prob).reshape(-1, *[1] * (condition.ndim - 1))
    return torch.where(drop, _null_like(condition, null), condition)


class ClassUNet(nn.Module):
    """A denoiser that is told which class is wanted.

    The label's vector is added to the vector of the time: both are orders for every ResBlock.

    Args:
        denoiser: called as denoiser(x_t, t, cond) with cond (B, dim), like lesson 2's UNet.
        num_classes: classes, numbered from 0; the number num_classes asks for none of them.
        dim: length of the denoiser's time vector.

    Source: Dhariwal and Nichol 2021, arXiv:2105.05233, section 3.1.
    """

    def __init__(self, denoiser: nn.Module, num_classes: int, dim: int):
        super().__init__()
        self.denoiser = denoiser
        self.null = num_classes
        self.label_embedding = LabelEmbedding(num_classes, dim)

    def forward(self, x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """(B, C, H, W), (B,) and (B,) -> (B, C, H, W), the noise in x_t, given the class."""
        _check_lengths(x_t, t, label)
        return self.denoiser(x_t, t, self.label_embedding(label))


def rescale_guidance(guided: Tensor, cond: Tensor, guidance_rescale: float = 0.7) -> Tensor:
    """Give a guided prediction the contrast that the plain prediction has.

    rescaled = guided · std(cond) / std(guided)
    result = guidance_rescale · rescaled + (1 - guidance_rescale) · guided

    Args:
        guided: (B, ...) the prediction with guidance.
        cond: (B, ...) the same without guidance (guidance_scale 1).
        guidance_rescale: in [0, 1]; 0 changes nothing, 1 takes the contrast of cond.

    Returns:
        (B, ...) like guided, which is not changed; each sample is scaled by a number of its own,
        from its own standard deviations. A sample of guided without any contrast stays as it is.

    Raises:
        ValueError: the shapes differ, or guidance_rescale lies outside [0, 1].

    Source: Lin et al. 2023, arXiv:2305.08891, equations 15 and 16.
    """
    if guided.shape != cond.shape:
        raise ValueError(f"guided {tuple(guided.shape)} and cond {tuple(cond.shape)} differ")
    if not 0 <= guidance_rescale <= 1:
        raise ValueError(f"guidance_rescale must lie in [0, 1], got {guidance_rescale}")
    within = tuple(range(1, guided.ndim))  # everything but the batch
    contrast = guided.std(dim=within, keepdim=True)
    factor = torch.where(contrast > 0, cond.std(dim=within, keepdim=True) / contrast, 1)
    return guidance_rescale * (guided * factor) + (1 - guidance_rescale) * guided


def guided_prediction(
    model: nn.Module,
    x_t: Tensor,
    t: Tensor,
    condition: Tensor,
    null: int | Tensor,
    guidance_scale: float | Tensor,
    guidance_rescale: float = 0.0,
) -> Tensor:
    """Ask the model twice, without and with the condition, and go on past the second answer.

    guided = uncond + guidance_scale · (cond - uncond), then rescale_guidance if wanted

    Args:
        model: called as model(x_t, t, condition). Once for both answers, with the batch twice as
            long; and with the conditions alone where every scale is 1.
        x_t: (B, ...) noisy pictures (B, C, H, W), or points (B, 2).
        t: (B,) int64 steps.
        condition: (B, ...) what is wanted.
        null: the condition that asks for nothing: a number, or condition's shape without B.
        guidance_scale: a number, or (B,) one for each sample; 1 is off, 0 ignores the condition.
        guidance_rescale: in [0, 1], see rescale_guidance; 0 leaves the prediction as it is.

    Returns:
        (B, ...) like x_t, whichever kind of prediction the model makes.

    Raises:
        ValueError: lengths differ, null does not fit, or a scale is not a finite number.

    Source: Ho and Salimans 2022, arXiv:2207.12598, equation 6, whose w is guidance_scale - 1.
    """
    _check_lengths(x_t, t, condition)
    scale = _scale_like(x_t, guidance_scale)
    if (scale == 1).all():
        return model(x_t, t, condition)
    nothing = _null_like(condition, null).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([nothing, condition]))
    uncond, cond = both.chunk(2)
    guided = uncond + scale * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided


@torch.no_grad()
def sample_guided(
    model: nn.Module,
    x_T: Tensor,
    condition: Tensor,
    null: int | Tensor,
    alphas_cumprod: Tensor,
    timesteps: Tensor,
    guidance_scale: float | Tensor = 3.0,
    guidance_rescale: float = 0.0,
    clip_sample: bool = True,
    prediction_type: str = "epsilon",
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """From pure noise to the pictures that were asked for: DDIM with a guided prediction.

    Args:
        model: called as model(x_t, t, condition), returns a prediction.
        x_T: (B, ...) standard Gaussian noise to start from, float32 or better: pictures
            (B, C, H, W), or points.
        condition: (B, ...) what is wanted of each picture.
        null: the condition that asks for nothing.
        alphas_cumprod: (T,), above 0 at every timestep.
        timesteps: (N,) int64, strictly descending, as lesson 4's spaced_timesteps gives them.
        guidance_scale, guidance_rescale: see guided_prediction.
        clip_sample: keep each guess of the clean picture within [-1, 1].
        prediction_type: what the model predicts: "epsilon", "sample" or "v_prediction". Guidance
            is the same in all three; rescaling tames the contrast of pictures in the last two.
        on_step: called after each step as on_step(step, x_prev, noise_pred), with step as an int.

    Returns:
        x_0: (B, ...) like x_T.

    Raises:
        ValueError: as guided_prediction and ddim_step.

    Source: Ho and Salimans 2022, arXiv:2207.12598, algorithm 2; Song et al. 2021.
    """
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = (torch.full((len(x),), s, device=x.device) for s in (step, step_prev))
        guided = guided_prediction(model, x, t, condition, null, guidance_scale, guidance_rescale)
        noise_pred = convert_prediction(guided, x, t, alphas_cumprod, prediction_type, "epsilon")
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x


def _check_lengths(x_t: Tensor, t: Tensor, condition: Tensor) -> None:
    if t.shape != (len(x_t),) or condition.shape[:1] != (len(x_t),):
        raise ValueError(
            f"x_t, t and condition must have one entry a sample: x_t has {len(x_t)}, "
            f"t is {tuple(t.shape)}, condition is {tuple(condition.shape)}"
        )


def _scale_like(x_t: Tensor, guidance_scale: float | Tensor) -> Tensor:
    """guidance_scale in a shape that multiplies x_t."""
    scale = torch.as_tensor(guidance_scale, dtype=x_t.dtype, device=x_t.device)
    if scale.shape not in {(), (len(x_t),)} or not scale.isfinite().all():
        wanted = f"a finite number or ({len(x_t)},) of them"
        raise ValueError(f"guidance_scale must be {wanted}, got {guidance_scale}")
    return scale.reshape(-1, *[1] * (x_t.ndim - 1))


def _null_like(condition: Tensor, null: int | Tensor) -> Tensor:
    """null as a tensor that fits each sample of condition."""
    if not isinstance(null, Tensor):
        return condition.new_full((), null)
    null = null.to(condition)
    if null.ndim and null.shape != condition.shape[1:]:
        fit = f"a number or fit one sample's condition: {tuple(condition.shape[1:])}"
        raise ValueError(f"null {tuple(null.shape)} must be {fit}")
    return null
