"""Draw what a prompt says, with lesson 10's model.

    make sample prompt="a red seven above a blue star" out=picture.png seed=0
    make sample prompt="a red seven above a pink nine" out=other.png image=picture.png strength=0.7
    python -m t2i.apps.sample "a red seven above a blue star" --out picture.png --film

Writes a PNG, enlarged so that one sees it; with --film also a GIF of the whole way from noise, with
where each word is looked at. With --image the way begins in that picture, see t2i.apps.edit.
"""

import argparse
import io
import math
import sys
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm

from t2i.apps.edit import redraw, steps_taken
from t2i.drawing.prompt_film import PromptFilm
from t2i.files.checkpoint import write_atomically
from t2i.files.picture_files import read_picture, to_images
from t2i.runs.known_words import remarks, words_known
from t2i.runs.text_to_image_recipes import CHECKPOINT, GUIDANCE_SCALE, INFERENCE_STEPS
from t2i.text_to_image import TextToImage, to_pil

SHOWN = 256  # pixels a picture in the file


def sheet(pictures: list[Image.Image], side: int = SHOWN, gap: int = 4) -> Image.Image:
    """Pictures beside each other, at most four a row, enlarged without smoothing."""
    columns = min(4, len(pictures))
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * (side + gap) - gap, rows * (side + gap) - gap), "white")
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        large = picture.resize((side, side), Image.Resampling.NEAREST)
        whole.paste(large, (column * (side + gap), row * (side + gap)))
    return whole


def read_image(path: Path, size: int) -> Image.Image:
    """A file of any kind as a picture of this size.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        levels, _ = read_picture(path, size)
    except Exception as error:  # a broken file raises whatever its reader does
        raise ValueError(f"{path} cannot be read as a picture: {error}") from None
    return to_pil(to_images(levels)[None])[0]


def draw(
    pipe: TextToImage, options: argparse.Namespace
) -> tuple[list[Image.Image], PromptFilm | None]:
    """The pictures, and the film if one is wanted."""
    film = PromptFilm(pipe, options.prompt, options.count) if options.film else None
    usual = (options.steps, options.guidance, options.seed, options.count)
    steps = options.steps
    if options.image is not None:
        steps = steps_taken(steps, options.strength)
    with tqdm(total=steps, unit="step", desc="drawing") as bar, film or bar:

        def on_step(*seen) -> None:
            bar.update()
            if film is not None:
                film(*seen)

        if options.image is None:
            return pipe(options.prompt, *usual, on_step), film
        begin = read_image(options.image, pipe.size)
        return redraw(pipe, begin, options.prompt, options.strength, None, *usual, on_step), film


def write(path: Path, pictures: list[Image.Image], film: PromptFilm | None) -> None:
    """The PNG, and beside it the GIF if there is a film."""
    content = io.BytesIO()
    sheet(pictures).save(content, "PNG")
    write_atomically(path, content.getvalue())
    print(f"Wrote {path}.")
    if film is not None:
        from t2i.drawing.show_attention import film_file  # matplotlib: only a film needs it

        path = path.with_suffix(".gif")
        write_atomically(path, film_file(film))
        print(f"Wrote {path}.")


def main() -> None:
    """Read the options, draw, write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m t2i.apps.sample", description=__doc__.split("\n")[0]
    )
    parser.add_argument("prompt", help="what to draw, for example: a red seven")
    parser.add_argument("--out", type=Path, required=True, help="the PNG file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--count", type=int, default=1, help="pictures to draw")
    parser.add_argument(
        "--steps", type=int, default=INFERENCE_STEPS, help="steps from noise to picture"
    )
    parser.add_argument("--guidance", type=float, default=GUIDANCE_SCALE, help="1 is off")
    parser.add_argument("--image", type=Path, help="a picture to begin with, not pure noise")
    parser.add_argument("--strength", type=float, default=0.6, help="how much of it is covered")
    parser.add_argument("--film", action="store_true", help="write a GIF of the way, too")
    parser.add_argument("--model", type=Path, default=CHECKPOINT, help="the model's folder")
    options = parser.parse_args()
    if options.out.suffix.lower() != ".png":
        parser.error(f"--out must be a PNG file like picture.png, got {options.out}")
    if not math.isfinite(options.guidance):
        parser.error(f"--guidance must be a number, got {options.guidance}")
    if not 0 < options.strength <= 1:
        parser.error(f"--strength must lie above 0, and be 1 at most, got {options.strength}")
    try:
        pipe = TextToImage.from_pretrained(options.model)
        said = remarks(pipe, options.prompt, words_known(options.model))
        if said:
            print(said, file=sys.stderr)
        pictures, film = draw(pipe.to("cuda" if torch.cuda.is_available() else "cpu"), options)
        write(options.out, pictures, film)
    except (OSError, ValueError) as error:  # FilesError is one of them
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
