"""Lesson 10. Rectified flow: learn the straight way from noise to picture, and walk it.

loss = rectified_flow_loss(model, x_0, t, noise)       # t from 0 (picture) to 1 (noise)
x_0 = sample_euler(model, noise, euler_times(25))      # 25 steps from noise to picture

A point on the way is x_t = (1 - t) · x_0 + t · noise. The model says in which direction and how
fast it moves when t grows; `model(x_t, t)` has the shape of x_t. This is how Stable Diffusion 3
and Flux are trained.
"""

import math
from collections.abc import Callable
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.engine.recorded import values_at_hand


def flow_point(x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """A point on the straight line from a picture to noise.

    x_t = (1 - t) · x_0 + t · noise

    Args:
        x_0: (B, ...) pictures or latents.
        noise: (B, ...) standard Gaussian noise.
        t: (B,) in [0, 1]; 0 is the picture, 1 the noise.

    Returns:
        x_t: (B, ...).

    Raises:
        ValueError: shapes that do not fit, whole numbers in place of pictures, or t outside [0, 1].

    Source: Liu et al. 2022, arXiv:2209.03003, equation 1 (there the time runs the other way).
    """
    _check_ends(x_0, noise)
    if t.shape != x_0.shape[:1]:
        raise ValueError(f"t must be (B,) = ({len(x_0)},), got {tuple(t.shape)}")
    check_t(t)
    t = t.to(x_0.dtype).reshape(-1, *[1] * (x_0.ndim - 1))
    return (1 - t) * x_0 + t * noise


def flow_target(x_0: Tensor, noise: Tensor) -> Tensor:
    """How a point moves along the line when t grows: the slope dx_t / dt, the same everywhere.

    Args:
        x_0, noise: (B, ...), the two ends of the lines.

    Returns:
        (B, ...).

    Raises:
        ValueError: the shapes differ, or there are whole numbers in place of pictures.

    Source: Liu et al. 2022, arXiv:2209.03003, equation 1; Esser et al. 2024, arXiv:2403.03206,
        equation 13.
    """
    _check_ends(x_0, noise)
    return noise - x_0


def rectified_flow_loss(model: nn.Module, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """How wrong the model's directions are, averaged over all values.

    loss = mean((flow_target - model(x_t, t))²)

    Args:
        model: called as model(x_t, t), returns (B, ...) like x_t.
        x_0: (B, ...) pictures or latents.
        t: (B,) in [0, 1].
        noise: (B, ...) standard Gaussian noise.

    Returns:
        a scalar.

    Raises:
        ValueError: the model's answer has another shape than x_t.

    Source: Liu et al. 2022, arXiv:2209.03003, equation 1.
    """
    direction = model(flow_point(x_0, noise, t), t)
    _check_direction(direction, x_0)
    return F.mse_loss(direction, flow_target(x_0, noise))


def logit_normal_times(gaussian: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Times to train on that come up most often in the middle of the way.

    The logit of t, log(t / (1 - t)), is Gaussian with this mean and this standard deviation.

    Args:
        gaussian: (B,) standard Gaussian numbers, to make them of.
        mean: above 0 there is more noise in training, below 0 less.
        std: above 0; how widely the times are spread. 1.7 is close to uniform.

    Returns:
        t: (B,) between 0 and 1.

    Raises:
        ValueError: std is not above 0.

    Source: Esser et al. 2024, arXiv:2403.03206, equation 19.
    """
    if not std > 0:
        raise ValueError(f"std must be above 0, got {std}")
    return torch.sigmoid(mean + std * gaussian)


def euler_times(num_inference_steps: int, shift: float = 1.0) -> Tensor:
    """The times at which a walk from noise to picture stops.

    t_i = shift · u_i / (1 + (shift - 1) · u_i), u_i = 1 - i / N

    Args:
        num_inference_steps: N, 1 or more.
        shift: above 1: more of the steps are taken where there is much noise. 1: all equally long.

    Returns:
        (N + 1,) float32, descending from 1 to 0.

    Raises:
        ValueError: no step, part of a step, or shift not above 0 or infinite.

    Source: Esser et al. 2024, arXiv:2403.03206, equation 23.
    """
    if not isinstance(num_inference_steps, Integral) or num_inference_steps < 1:
        raise ValueError(
            f"num_inference_steps must be a whole number, 1 or more, got {num_inference_steps}"
        )
    if not 0 < shift < math.inf:
        raise ValueError(f"shift must be above 0 and finite, got {shift}")
    u = torch.linspace(1, 0, num_inference_steps + 1, dtype=torch.float64)
    return (shift * u / (1 + (shift - 1) * u)).float()  # float32 would miss 1 by its rounding


@torch.no_grad()
def sample_euler(
    model: Callable[[Tensor, Tensor], Tensor],
    x_1: Tensor,
    times: Tensor,
    on_step: Callable[[float, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """From noise to pictures in straight steps: look where it goes, walk a piece, look again.

    x ← x + (t_next - t) · model(x, t)

    Args:
        model: called as model(x_t, t) with t (B,) on x_t's device, returns the direction (B, ...).
        x_1: (B, ...) standard Gaussian noise.
        times: (N + 1,) strictly descending within [0, 1], as euler_times gives them.
        on_step: called after each step as on_step(t_next, x, direction), to draw or to count;
            t_next is a plain number, and x stays as it is afterwards.

    Returns:
        x: (B, ...), where the walk ends.

    Raises:
        ValueError: times that do not descend, or leave [0, 1]; or an answer of another shape.

    Source: Liu et al. 2022, arXiv:2209.03003, section 2.1.
    """
    check_times(times)
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        direction = model(x, torch.full((len(x),), t, device=x.device))
        _check_direction(direction, x)
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x


def check_t(t: Tensor) -> None:
    """Say what is wrong with the times of points on the way; nothing otherwise."""
    if values_at_hand(t) and not ((t >= 0) & (t <= 1)).all():
        raise ValueError(
            f"t must lie in [0, 1] in a flow (no step numbers), got {t.min():g} to {t.max():g}"
        )


def _check_ends(x_0: Tensor, noise: Tensor) -> None:
    """Say that a line's two ends do not belong together, or are no pictures; nothing otherwise."""
    if noise.shape != x_0.shape:
        raise ValueError(f"noise must be {tuple(x_0.shape)} like x_0, got {tuple(noise.shape)}")
    if not x_0.is_floating_point():
        raise ValueError(f"x_0 must be floats, as a rule in [-1, 1], got {x_0.dtype}")


def _check_direction(direction: Tensor, x_t: Tensor) -> None:
    """Say that a model's answer is not one direction for each value; nothing otherwise."""
    if direction.shape != x_t.shape:
        raise ValueError(
            f"the model must answer {tuple(x_t.shape)} like x_t, got {tuple(direction.shape)}"
        )


def check_times(times: Tensor) -> None:
    """Say what is wrong with the times of a walk; nothing otherwise."""
    if times.ndim != 1 or len(times) < 2 or not (times[1:] < times[:-1]).all():
        raise ValueError(
            f"times must be (N + 1,) and descend strictly from noise to picture, got {times}"
        )
    if times[0] > 1 or times[-1] < 0:
        raise ValueError(f"times must lie in [0, 1], got {times[0]:g} to {times[-1]:g}")
