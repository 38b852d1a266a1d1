"""What the page of lesson 10 works with: a wish that was understood, and the way to its picture.

    wish = read_wish("a red seven", 5.0, 25, 0)
    for film, number in drawn(pipe, wish):                # after each step
        html = picture_html(film, number, wish), words_html(film, number)

Nothing here knows Gradio.
"""

import base64
import difflib
import html
import io
import queue
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image
from torch import Tensor

from t2i.captions import BACKGROUNDS, COLOURS, DIGITS, PLACES, SHAPES, SIZES, words_of
from t2i.folders import read_json
from t2i.prompt_film import PromptFilm
from t2i.sample import sheet
from t2i.scene_specs import draw_specs
from t2i.show import to_array
from t2i.show_attention import HEAT, clock
from t2i.text_to_image import TextToImage
from t2i.text_to_image_recipes import RECIPES, text_to_image_recipe

LONGEST = 300  # letters of a prompt
SCENES = 3000  # whose captions are looked through for the words that a model knows
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


def words_known(folder: Path) -> frozenset[str]:
    """The words of the captions that a model learnt from; empty if its folder does not tell.

    Args:
        folder: a model's; `training.json` in it names the tier, and what was held out where it
            learnt from other pictures than scenes.
    """
    log = read_json(folder / "training.json") if (folder / "training.json").is_file() else {}
    if log.get("tier") not in RECIPES or "held_out" in log:
        return frozenset()
    specs = draw_specs(range(SCENES), "train", text_to_image_recipe(log["tier"]).world)
    return frozenset(word for caption in specs.captions() for word in words_of(caption))


def told_words(known: frozenset[str]) -> str:
    """A sentence on the words of scenes that a model knows."""
    places = tuple(PLACES.values()) if "middle" in known else ()  # else left belongs to a relation
    parts = (
        ("the colours", COLOURS),
        ("the digits (or 0 to 9)", DIGITS),
        ("the shapes", SHAPES),
        ("the sizes", SIZES),
        ("the places", places),
        ("and", ("left of", "right of", "above", "below")),
        ("on backgrounds that are", BACKGROUNDS),
    )
    told = []
    for name, words in parts:
        here = [word for word in words if known.issuperset(word.split())]
        if here:
            told.append(f"{name} {', '.join(here)}")
    return f"It knows {'; '.join(told)}."


def remarks(pipe: TextToImage, wish: Wish, known: frozenset[str]) -> str:
    """What to say about a prompt that is drawn all the same; often nothing."""
    told = []
    strange = [word for word in _words(wish.prompt) if known and word not in known]
    if strange:
        near = {word: difflib.get_close_matches(word, known, 1, 0.75) for word in strange}
        hints = [f"{words[0]} instead of {word}" for word, words in near.items() if words]
        hint = f" Did you mean {' and '.join(hints)}?" if hints else ""
        names = " or ".join(f"“{word}”" for word in strange)
        told.append(
            f"No caption that the model learnt from has {names}: it draws all the same, and can "
            f"only go by the rest.{hint} {told_words(known)}"
        )
    length = len(pipe.text.positions)
    if len(pipe.tokenizer.encode(wish.prompt)) > length:
        told.append(f"The prompt is long: the model reads its first {length - 2} pieces only.")
    return " ".join(told)


def _words(text: str) -> list[str]:
    """The words of a prompt, lower case, each one once."""
    return list(dict.fromkeys(re.findall(r"[^\s,.:;!?\"()]+", text.lower())))


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
