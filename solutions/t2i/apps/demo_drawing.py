"""What the page of lesson 10 works with: a wish that was understood, and the way to its picture.

    wish = read_wish("a red seven", 5.0, 25, 0)
    for film, number in drawn(pipe, wish):                # after each step
        html = picture_html(film, number, wish), words_html(film, number)

Nothing here knows Gradio.
"""

import base64
import html
import io
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image
from torch import Tensor

from t2i.apps.sample import sheet
from t2i.drawing.prompt_film import PromptFilm
from t2i.drawing.show_attention import HEAT, clock
from t2i.show import to_array
from t2i.text_to_image import TextToImage

LONGEST = 300  # letters of a prompt
GUIDANCE, STEPS, SEEDS = (0.0, 10.0), (1, 100), (0, 999_999)  # lowest and highest
_ONE_AT_A_TIME = threading.Lock()  # a film looks at the whole model


class WishError(ValueError):
    """What was asked for cannot be drawn; the message is for the page."""


@dataclass(frozen=True)
class Wish:
    """What to draw, and how."""

    prompt: str
    guidance: float
    steps: int
    seed: int


class _Left(Exception):
    """Nobody looks at the picture any more."""


def read_wish(prompt: str, guidance: float, steps: float, seed: float) -> Wish:
    """What was typed, if it can be drawn.

    Raises:
        WishError: an empty or endless prompt, a number that is missing or out of range.
    """
    prompt = " ".join((prompt or "").split())
    if not prompt:
        raise WishError("Please type what you want to see, for example: a red seven.")
    if len(prompt) > LONGEST:
        raise WishError(
            f"The prompt has {len(prompt)} letters; please keep it within {LONGEST}: the model "
            f"reads only a sentence."
        )
    return Wish(
        prompt,
        float(_number("Guidance", guidance, *GUIDANCE, whole=False)),
        int(_number("Steps", steps, *STEPS)),
        int(_number("The seed", seed, *SEEDS)),
    )


def _number(name: str, value: float | None, lowest: float, highest: float, whole=True) -> float:
    kind = "a whole number" if whole else "a number"
    told = isinstance(value, int | float) and lowest <= value <= highest
    if not told or (whole and value != int(value)):
        given = "" if value is None else f", not {value}"
        raise WishError(f"{name} must be {kind} from {lowest:,g} to {highest:,g}{given}.")
    return value


def drawn(pipe: TextToImage, wish: Wish) -> Iterator[tuple[PromptFilm, int]]:
    """Draw, and give what was seen and the number of steps so far, after each step.

    The model works in a thread of its own; it stops at its next step when nobody asks any more.
    """
    film, news = PromptFilm(pipe, wish.prompt), queue.SimpleQueue()
    left = threading.Event()

    def on_step(*seen) -> None:
        if left.is_set():
            raise _Left
        film(*seen)
        news.put(len(film.steps))

    def work() -> None:
        try:
            with _ONE_AT_A_TIME, film:
                pipe(wish.prompt, wish.steps, wish.guidance, wish.seed, on_step=on_step)
            news.put(None)
        except Exception as error:  # it belongs to whoever waits
            news.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while (number := news.get()) is not None:
            if isinstance(number, Exception):
                raise number
            yield film, number
    finally:
        left.set()


def picture_html(film: PromptFilm, number: int, wish: Wish) -> str:
    """The picture as guessed after so many steps, and how far it is."""
    guess = film.guess[film.steps[number - 1]][0]
    picture = sheet([Image.fromarray(_bytes(to_array(guess)))])
    count = f"{number} of {wish.steps}"
    alt = html.escape(f"The picture as guessed at step {count}: {wish.prompt}", quote=True)
    return (
        f'<figure class="guess"><img id="guess" alt="{alt}" src="{_source(picture)}">'
        f'<figcaption>Step <span id="step">{count}</span>'
        f"<small>{clock(film.steps[number - 1])}</small></figcaption></figure>"
    )


def words_html(film: PromptFilm, number: int) -> str:
    """A tile a word: the picture in grey, and over it how much each patch looks at the word."""
    steps = film.steps[:number]
    guess = to_array(film.guess[steps[-1]][0]).mean(-1)
    tiles = []
    for place, word in enumerate(film.words[0]):
        most = max(film.maps[step][0][place].max().item() for step in steps)
        tile = heat_over(guess, film.maps[steps[-1]][0][place], most)
        word = html.escape(word, quote=True)
        tiles.append(
            f'<figure><img alt="Where the picture looks at: {word}" src="{_source(tile)}">'
            f"<figcaption>{word}<small>≤ {most:.0%}</small></figcaption></figure>"
        )
    return f'<div class="words">{"".join(tiles)}</div>'


def heat_over(grey: np.ndarray, looks: Tensor, most: float) -> Image.Image:
    """A word's map over a picture: dark where nobody looks at it, yellow where `most` do.

    Args:
        grey: (H, W) in [0, 1].
        looks: (H, W), shares.
        most: the share that is brightest.
    """
    heat = matplotlib.colormaps[HEAT](looks.numpy() / max(most, 1e-9))[..., :3]
    return Image.fromarray(_bytes(0.75 * heat + 0.25 * grey[..., None]))


def _bytes(pixels: np.ndarray) -> np.ndarray:
    return (255 * pixels).round().astype("uint8")


def _source(picture: Image.Image) -> str:
    """A picture as an address that holds all of it, so that the page asks for nothing else."""
    content = io.BytesIO()
    picture.save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
