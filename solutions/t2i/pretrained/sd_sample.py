"""Draw what a prompt says, with Stable Diffusion's weights and the course's code.

    make stable-diffusion model=FOLDER prompt="a red fox in the snow" out=fox.png seed=0
    python -m t2i.pretrained.sd_sample "in oil" --model FOLDER --image fox.png --out oil.png

FOLDER is in diffusers' layout, or a name on the Hugging Face hub. It needs about 8 GB of memory.
"""

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from t2i.files.checkpoint import write_atomically
from t2i.pretrained.sd_schedule import SAMPLERS, start_of
from t2i.pretrained.stable_diffusion import StableDiffusion


def parsed() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(
        prog="python -m t2i.pretrained.sd_sample", description=__doc__.split("\n")[0]
    )
    parser.add_argument("prompt", help="what to draw, for example: a red fox in the snow")
    parser.add_argument("--model", required=True, help="a folder in diffusers' layout, or hub name")
    parser.add_argument("--out", type=Path, required=True, help="the PNG file to write")
    parser.add_argument("--negative", default="", help="what to lead away from")
    parser.add_argument("--image", type=Path, help="a picture to begin with")
    parser.add_argument("--strength", type=float, default=0.8, help="how much of it is forgotten")
    parser.add_argument("--steps", type=int, default=25, help="steps from noise to picture")
    parser.add_argument("--guidance", type=float, default=7.5, help="1 is off")
    parser.add_argument("--sampler", choices=SAMPLERS, default="dpmpp_2m")
    parser.add_argument("--size", type=int, nargs="+", help="height and width, or one for both")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    return parser.parse_args()


def draw(
    sd: StableDiffusion,
    prompt: str,
    negative_prompt: str = "",
    steps: int = 25,
    *,
    sampler: str = "dpmpp_2m",
    image: Image.Image | None = None,
    strength: float = 0.8,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
    **more,
) -> Image.Image:
    """One picture, with a progress bar.

    Args:
        sd, prompt, negative_prompt, steps, sampler, image, strength, on_step: as in
            StableDiffusion.__call__, whose num_inference_steps is steps.
        **more: its other arguments: guidance_scale, seed, size.
    """
    if not isinstance(prompt, str):
        raise ValueError(f"prompt must be one text, got {prompt!r}")
    timesteps = sd.schedule.timesteps(sampler, steps)
    if image is not None:
        timesteps = start_of(timesteps, strength)
    with tqdm(total=len(timesteps), unit="step", desc="drawing") as bar:

        def seen(t: int, z: Tensor, prediction: Tensor) -> None:
            bar.update()
            if on_step is not None:
                on_step(t, z, prediction)

        more |= {"sampler": sampler, "image": image, "strength": strength}
        (picture,) = sd(prompt, negative_prompt, steps, on_step=seen, **more)
    return picture


def draw_typed(options: argparse.Namespace) -> Image.Image:
    """Load the weights, half as large on a GPU, and draw what was typed."""
    if options.image and not options.image.is_file():
        raise FileNotFoundError(f"There is no picture {options.image} to begin with.")
    image = Image.open(options.image) if options.image else None
    on_gpu = torch.cuda.is_available()
    dtype = torch.float16 if on_gpu else torch.float32
    sd = StableDiffusion.from_pretrained(options.model, dtype).to("cuda" if on_gpu else "cpu")
    return draw(
        sd,
        options.prompt,
        options.negative,
        options.steps,
        sampler=options.sampler,
        image=image,
        strength=options.strength,
        guidance_scale=options.guidance,
        seed=options.seed,
        size=options.size and tuple(2 * options.size if len(options.size) == 1 else options.size),
    )


def main() -> None:
    """Draw and write the file."""
    options = parsed()
    if options.out.suffix.lower() != ".png":
        sys.exit(f"--out must be a PNG file like picture.png, got {options.out}")
    try:
        content = io.BytesIO()
        draw_typed(options).save(content, "PNG")
        write_atomically(options.out, content.getvalue())
    except (OSError, ValueError) as error:  # FilesError is one of them
        sys.exit(f"{error}")
    print(f"Wrote {options.out}.")


if __name__ == "__main__":
    main()
