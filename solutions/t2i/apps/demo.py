"""A small web page that draws what one types, with lesson 10's model.

    make demo
    python -m t2i.apps.demo --model data/checkpoints/scenes --port 7860 --no-browser

One sees the picture after each step, and which word each patch looked at. The page is for this
computer alone, and needs no network.
"""

import argparse
import sys
from pathlib import Path

import torch

from t2i.runs.known_words import examples_of, words_known
from t2i.runs.text_to_image_recipes import CHECKPOINT
from t2i.text_to_image import TextToImage

MISSING = (
    "The page needs Gradio, and {name} is missing: `make demo` installs it into .venv by itself; "
    "elsewhere, `python -m pip install gradio`."
)


def main() -> None:
    """Read the options, load the model, show the page."""
    parser = argparse.ArgumentParser(
        prog="python -m t2i.apps.demo", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--model", type=Path, default=CHECKPOINT, help="the model's folder")
    parser.add_argument("--port", type=int, help="of the page; the first free one from 7860 on")
    parser.add_argument("--no-browser", action="store_true", help="only say where the page is")
    options = parser.parse_args()
    try:
        pipe = TextToImage.from_pretrained(options.model)
        from t2i.apps import demo_page  # Gradio: not everybody has it, and it takes long

        pipe = pipe.to("cuda" if torch.cuda.is_available() else "cpu")
        page = demo_page.build(pipe, words_known(options.model), examples_of(options.model))
        demo_page.serve(page, options.port, not options.no_browser)
    except ModuleNotFoundError as error:
        sys.exit(MISSING.format(name=error.name))
    except (OSError, ValueError) as error:  # FilesError is one of them
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
