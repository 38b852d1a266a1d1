"""Draw what a prompt says, with Stable Diffusion's weights and the course's code.

    make stable-diffusion model=FOLDER prompt="a red fox in the snow" out=fox.png seed=0
    python -m t2i.sd_sample "a fox, oil on canvas" --model FOLDER --image fox.png --out oil.png

FOLDER is in diffusers' layout, or a name on the Hugging Face hub. It needs about 8 GB of memory.
"""

import argparse
import io
import sys
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm

from t2i.checkpoint import write_atomically
from t2i.sd_schedule import SAMPLERS, start_of
from t2i.stable_diffusion import StableDiffusion


def parsed() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(
        prog="python -m t2i.sd_sample", description=__doc__.split("\n")[0]
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
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), help="height and width")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    return parser.parse_args()


def draw(options: argparse.Namespace) -> Image.Image:
    """Load the weights, half as large on a GPU, and draw one picture."""
    on_gpu = torch.cuda.is_available()
    dtype = torch.float16 if on_gpu else torch.float32
    sd = StableDiffusion.from_pretrained(options.model, dtype).to("cuda" if on_gpu else "cpu")
    image = Image.open(options.image) if options.image else None
    timesteps = sd.schedule.timesteps(options.sampler, options.steps)
    if image is not None:
        timesteps = start_of(timesteps, options.strength)
    with tqdm(total=len(timesteps), unit="step", desc="drawing") as bar:
        (picture,) = sd(
            options.prompt,
            options.negative,
            options.steps,
            options.guidance,
            options.seed,
            size=tuple(options.size),
            sampler=options.sampler,
            image=image,
            strength=options.strength,
            on_step=lambda *_: bar.update(),
        )
    return picture


def main() -> None:
    """Draw and write the file."""
    options = parsed()
    if options.out.suffix.lower() != ".png":
        sys.exit(f"--out must be a PNG file like picture.png, got {options.out}")
    try:
        content = io.BytesIO()
        draw(options).save(content, "PNG")
        write_atomically(options.out, content.getvalue())
    except (OSError, ValueError) as error:  # FilesError is one of them
        sys.exit(f"{error}")
    print(f"Wrote {options.out}.")


if __name__ == "__main__":
    main()
