"""Draw what a prompt says, with lesson 10's model.

    make sample prompt="a red seven above a blue star" out=picture.png seed=0
    python -m t2i.apps.sample "a red seven above a blue star" --out picture.png --film

Writes a PNG, enlarged so that one sees it; with --film also a GIF of the whole way from noise, with
where each word is looked at.
"""

import argparse
import io
import math
import sys
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm

from t2i.drawing.prompt_film import PromptFilm
from t2i.files.checkpoint import write_atomically
from t2i.runs.known_words import remarks, words_known
from t2i.runs.text_to_image_recipes import CHECKPOINT, GUIDANCE_SCALE, INFERENCE_STEPS
from t2i.text_to_image import TextToImage

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


def draw(
    pipe: TextToImage, options: argparse.Namespace
) -> tuple[list[Image.Image], PromptFilm | None]:
    """The pictures, and the film if one is wanted."""
    film = PromptFilm(pipe, options.prompt, options.count) if options.film else None
    with tqdm(total=options.steps, unit="step", desc="drawing") as bar, film or bar:

        def on_step(*seen) -> None:
            bar.update()
            if film is not None:
                film(*seen)

        pictures = pipe(
            options.prompt, options.steps, options.guidance, options.seed, options.count, on_step
        )
    return pictures, film


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
    parser.add_argument("--film", action="store_true", help="write a GIF of the way, too")
    parser.add_argument("--model", type=Path, default=CHECKPOINT, help="the model's folder")
    options = parser.parse_args()
    if options.out.suffix.lower() != ".png":
        parser.error(f"--out must be a PNG file like picture.png, got {options.out}")
    if not math.isfinite(options.guidance):
        parser.error(f"--guidance must be a number, got {options.guidance}")
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
