"""Stable Diffusion's noise schedule out of lesson 1, and the steps that lesson 4's samplers take.

    schedule = schedule_from_config(json.load(open("scheduler/scheduler_config.json")))
    timesteps = schedule.timesteps("ddim", 25)            # (25,): 961, 921, ..., 1

A folder's scheduler_config.json may name any of diffusers' samplers. What counts of it is how the
network was trained: its betas, and what it predicts. Which sampler walks is up to whoever draws.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from t2i.samplers import PREDICTION_TYPES, SPACINGS, spaced_timesteps
from t2i.schedules import alphas_cumprod, cosine_betas, linear_betas

SAMPLERS = ("ddim", "dpmpp_2m")
DEFAULT_SPACING = {"ddim": "leading", "dpmpp_2m": "linspace"}  # diffusers' own, each class's
USUAL = {"trained_betas": None, "rescale_betas_zero_snr": False, "thresholding": False}


@dataclass(frozen=True)
class Schedule:
    """How a network was trained, and how to walk back.

    Args:
        alphas_cumprod: (T,).
        prediction_type: what the network predicts, as in lesson 4's convert_prediction.
        spacing: of spaced_timesteps; None: each sampler's usual one.
        offset: added to every step where the spacing is "leading". Stable Diffusion has 1.
        clip_sample: keep each guess within [-1, 1]. Right for pixels, wrong for latents.
        ends_clean: DDIM's last step goes to ᾱ = 1; otherwise to ᾱ_0, as in Stable Diffusion.
    """

    alphas_cumprod: Tensor
    prediction_type: str = "epsilon"
    spacing: str | None = None
    offset: int = 0
    clip_sample: bool = False
    ends_clean: bool = True

    def timesteps(self, sampler: str, num_inference_steps: int) -> Tensor:
        """(N,) int64, falling: the same as diffusers' scheduler of that kind visits.

        Args:
            sampler: "ddim" or "dpmpp_2m".
            num_inference_steps: N.

        Raises:
            ValueError: an unknown sampler, or more steps than there are.
        """
        if sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}")
        total, spacing = len(self.alphas_cumprod), self.spacing or DEFAULT_SPACING[sampler]
        more = int(sampler == "dpmpp_2m" and spacing != "trailing")  # it leaves out the lowest
        most = total - more - (self.offset if spacing == "leading" else 0)
        if not 1 <= num_inference_steps <= most:
            raise ValueError(
                f"num_inference_steps must lie in [1, {most}], got {num_inference_steps}"
            )
        steps = spaced_timesteps(total, num_inference_steps + more, spacing)
        steps = steps[:num_inference_steps]
        return steps + self.offset if spacing == "leading" else steps


def schedule_from_config(config: Mapping[str, Any]) -> Schedule:
    """The schedule of a scheduler_config.json, whichever sampler of diffusers it names.

    Args:
        config: what the file holds.

    Raises:
        ValueError: a choice that is not ours; the message names it.
    """
    kind = config.get("_class_name", "")
    if "Flow" in kind:
        raise ValueError(f"{kind} is for straight roads (lesson 10), not for a noise schedule")
    for name, value in USUAL.items():
        if config.get(name, value) != value:
            raise ValueError(f"{name} is {config[name]!r}, our samplers know {value!r} alone")
    prediction, spacing = config.get("prediction_type", "epsilon"), config.get("timestep_spacing")
    if prediction not in PREDICTION_TYPES:
        known = ", ".join(PREDICTION_TYPES)
        raise ValueError(f"prediction_type must be one of {known}, got {prediction!r}")
    if spacing is not None and spacing not in SPACINGS:
        raise ValueError(f"timestep_spacing must be one of {', '.join(SPACINGS)}, got {spacing!r}")
    return Schedule(
        alphas_cumprod(_betas(config)),
        prediction,
        spacing,
        config.get("steps_offset", 0),
        config.get("clip_sample", False),
        config.get("set_alpha_to_one", True),
    )


def _betas(config: Mapping[str, Any]) -> Tensor:
    """(T,): linear, linear in their square roots (Stable Diffusion's), or cosine."""
    total = config.get("num_train_timesteps", 1000)
    start, end = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    kind = config.get("beta_schedule", "linear")
    if kind == "scaled_linear":
        return linear_betas(total, start**0.5, end**0.5).square()
    if kind == "linear":
        return linear_betas(total, start, end)
    if kind == "squaredcos_cap_v2":
        return cosine_betas(total)
    raise ValueError(f"beta_schedule is {kind!r}, ours are scaled_linear, linear and cosine")


def start_of(timesteps: Tensor, strength: float) -> Tensor:
    """The last steps of a walk, for a picture that is to be changed and not made anew.

    Args:
        timesteps: (N,) of the whole walk.
        strength: share of it that is walked, in (0, 1]: how much is forgotten.

    Returns:
        the last ⌊N · strength⌋ of the steps.

    Raises:
        ValueError: strength outside (0, 1], or so small that no step is left.

    Source: Meng et al. 2021, arXiv:2108.01073 (SDEdit).
    """
    kept = int(len(timesteps) * strength) if 0 < strength <= 1 else 0  # 0.29 · 100: 28, as theirs
    if not kept:
        raise ValueError(
            f"strength must lie in (0, 1] and leave a step to take: of {len(timesteps)} steps, "
            f"strength {strength} leaves none"
        )
    return timesteps[len(timesteps) - kept :]
