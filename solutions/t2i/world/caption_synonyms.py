"""Other words for the colours and the objects of the captions.

    say_otherwise("an orange seven on a black background", [0.2, 0.2])     # "an amber vii on a …"

Lesson 7's CLIP reads them beside the plain words, below the same pictures. Lesson 6's denoiser
never does: whether it understands them all the same is what lesson 7 measures.
"""

import re
from collections.abc import Sequence

from t2i.world.captions import COLOURS, DIGITS, KINDS, article

COLOUR_SYNONYMS = {
    "red": ("crimson", "scarlet"),
    "orange": ("amber", "tangerine"),
    "yellow": ("golden", "lemon"),
    "green": ("emerald", "lime"),
    "cyan": ("turquoise", "aqua"),
    "blue": ("azure", "cobalt"),
    "purple": ("violet", "lilac"),
    "pink": ("rose", "salmon"),
}
KIND_SYNONYMS = {
    "zero": ("nought", "null"),  # the digits: in Roman figures, and in German
    "one": ("i", "eins"),
    "two": ("ii", "zwei"),
    "three": ("iii", "drei"),
    "four": ("iv", "vier"),
    "five": ("v", "fünf"),
    "six": ("vi", "sechs"),
    "seven": ("vii", "sieben"),
    "eight": ("viii", "acht"),
    "nine": ("ix", "neun"),
    "circle": ("disc", "ball"),
    "square": ("box", "block"),
    "triangle": ("wedge", "pyramid"),
    "star": ("asterisk", "pentagram"),
    "cross": ("plus", "crucifix"),
    "heart": ("valentine", "cardioid"),
}
SYNONYMS = COLOUR_SYNONYMS | KIND_SYNONYMS
WORDS = tuple(word for words in SYNONYMS.values() for word in words)
PLAIN_OF = {word: plain for plain, words in SYNONYMS.items() for word in words}

_FIGURES = {str(number): word for number, word in enumerate(DIGITS)}
_WORD = re.compile(r"[a-z0-9]+")


def say_otherwise(caption: str, draws: Sequence[float], share: float = 1.0) -> str:
    """A caption of one object with other words for its colour and its object.

    Args:
        caption: as captions.phrase makes it.
        draws: two numbers in [0, 1): what becomes of the colour and of the object. Below `share`
            the word is replaced, and the number decides by which of its synonyms.
        share: of the words to replace; 1: all.

    Returns:
        the caption with "a" and "an" where they belong. A figure counts as its word.
    """
    colour, kind = draws

    def other(found: re.Match) -> str:
        word = found[0]
        plain = _FIGURES.get(word, word)
        draw = colour if plain in COLOURS else kind
        if plain not in (*COLOURS, *KINDS) or draw >= share:
            return word
        choices = SYNONYMS[plain]
        return choices[int(draw / share * len(choices))]

    said = _WORD.sub(other, caption)
    if said == caption:
        return caption
    return re.sub(r"\ban? (?=(\w+))", lambda found: f"{article(found[1])} ", said)
