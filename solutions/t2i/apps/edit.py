"""Change a picture that is there: start in the middle of the way, or keep a part of it.

    green = redraw(pipe, picture, "a green seven above a blue star", strength=0.6)
    above = torch.arange(64)[:, None].expand(64, 64) < 32             # the upper half
    nine = redraw(pipe, picture, "a red seven above a pink nine", strength=1.0, keep=above)

Nothing is trained for it: both are lesson 10's straight line, used once more.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from t2i.files.picture_files import to_tensor
from t2i.flow import euler_times, flow_point, flow_target, sample_euler
from t2i.guidance import guided_prediction
from t2i.text_to_image import TextToImage, encode_prompt, repeat_prompts, to_pil


@torch.no_grad()
def redraw(
    pipe: TextToImage,
    picture: Image.Image,
    prompt: str | Sequence[str],
    strength: float = 0.6,
    keep: Tensor | None = None,
    num_inference_steps: int = 25,
    guidance_scale: float = 5.0,
    seed: int = 0,
    num_images: int = 1,
    on_step: Callable[[float, Tensor, Tensor], None] | None = None,
) -> list[Image.Image]:
    """Draw what the prompt says, but out of a picture in place of pure noise.

    z = flow_point(z_0, noise, strength), then the walk goes on from there
    direction = noise - z_0 for what is kept: its way is known; else the model's

    Args:
        pipe: lesson 10's model.
        picture: of pipe.size pixels on each side.
        prompt: a text, or several: what the picture is to show.
        strength: in (0, 1], how much of picture the noise covers; 1: nothing of it is left. The
            last ⌊N · strength⌋ of N steps are taken.
        keep: (size, size) bool, True where the picture stays; None: nowhere. A latent is kept if
            all its pixels are.
        num_inference_steps: N, steps of the whole way.
        guidance_scale, seed, num_images, on_step: as TextToImage's.

    Returns:
        num_images PIL images of each prompt, those of the first prompt first.

    Raises:
        ValueError: a picture or keep of another size, a strength outside, or too small for a step.

    Source: Meng et al. 2021, arXiv:2108.01073 (start in the middle); Song et al. 2020,
        arXiv:2011.13456, appendix I.2 (keep a part).
    """
    _check(pipe, picture, keep)
    times = later_times(euler_times(num_inference_steps, pipe.shift), strength)
    prompts = repeat_prompts(prompt, num_images)
    read = encode_prompt(pipe.tokenizer, pipe.text, [*prompts, ""])
    wanted, nothing = torch.arange(len(prompts), device=pipe.device), len(prompts)

    pixels = to_tensor([picture.convert("RGB")]).to(pipe.device)
    z_0 = pipe.space.encode(pixels).expand(len(prompts), -1, -1, -1)
    noise = pipe.noise(len(prompts), seed)
    kept = _latents_kept(keep, z_0)

    def told(z_t: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        return pipe.transformer(z_t, t, *(part[rows] for part in read))

    def direction(z_t: Tensor, t: Tensor) -> Tensor:
        asked = guided_prediction(told, z_t, t, wanted, nothing, guidance_scale)
        return torch.where(kept, flow_target(z_0, noise), asked)

    start = flow_point(z_0, noise, times[:1].to(z_0).expand(len(z_0)))
    return to_pil(pipe.space.decode(sample_euler(direction, start, times, on_step)))


def later_times(times: Tensor, strength: float) -> Tensor:
    """The stops of the last steps of a walk; times is (N + 1,), as euler_times gives them."""
    return times[-steps_taken(len(times) - 1, strength) - 1 :]


def steps_taken(num_inference_steps: int, strength: float) -> int:
    """⌊N · strength⌋ of N steps.

    Raises:
        ValueError: strength outside (0, 1], or not enough for one step.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength must lie in (0, 1], got {strength}")
    steps = int(num_inference_steps * strength + 1e-6)  # 0.29 · 100 is 28.999…
    if not steps:
        told = f"strength {strength} of {num_inference_steps} steps"
        raise ValueError(f"{told} is less than one step: take more of one")
    return steps


def _latents_kept(keep: Tensor | None, z_0: Tensor) -> Tensor:
    """(1, 1, h, w) bool: True where all the pixels of a latent are kept."""
    if keep is None:
        return z_0.new_zeros(1, 1, 1, 1, dtype=torch.bool)
    f = keep.shape[-1] // z_0.shape[-1]
    changed = F.max_pool2d((~keep)[None, None].float(), f)
    return (changed == 0).to(z_0.device)


def _check(pipe: TextToImage, picture: Image.Image, keep: Tensor | None) -> None:
    side = (pipe.size, pipe.size)
    if not isinstance(picture, Image.Image) or picture.size != side:
        got = picture.size if isinstance(picture, Image.Image) else picture
        raise ValueError(f"picture must be a PIL image of {side[0]} × {side[1]} pixels, got {got}")
    if keep is not None and (keep.shape != side or keep.dtype != torch.bool):
        raise ValueError(
            f"keep must be {side} bool (True = stays), got {tuple(keep.shape)} {keep.dtype}"
        )
