"""Reading captions: the words there are, their numbers, and the scene that a caption asks for.

    parse("a circle in blue right of a red 7")    # the Scene; captions.phrase goes the other way
    tokens, mask = encode(["a red seven"], 12)    # (1, 12) numbers, (1, 12) True where a word is

Tokens are positions in VOCABULARY, which has every word that the grammar can say.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from t2i.world.captions import (
    BACKGROUNDS,
    COLOURS,
    DIGITS,
    KINDS,
    ORDERS,
    PLACES,
    RELATIONS,
    SIZES,
    Scene,
    Thing,
)

MAX_LENGTH = 32  # words of the longest caption that the grammar makes, rounded up
PADDING = 0  # the token where there is no word; nothing but padding is "no caption at all"
FILLERS = (  # words that only make the sentence whole
    *("a", "an", "the", "in", "on", "at", "to", "of", "is", "that", "there", "here", "you", "see"),
    *("picture", "drawing", "digit", "shape", "and", "from"),
)
_FIGURES = {str(number): word for number, word in enumerate(DIGITS)}
VOCABULARY = ("<padding>",) + tuple(
    dict.fromkeys(
        [*FILLERS, *COLOURS, *KINDS, *_FIGURES, *SIZES, *PLACES, "background"]
        + [*BACKGROUNDS, "above", "over", "below", "under"]
    )
)

_NUMBER = {word: number for number, word in enumerate(VOCABULARY)}
_PLACE_OF = {words: name for name, words in PLACES.items()}  # from the words back to the meaning
_ORDER_OF = {words: name for name, words in ORDERS.items()}
_RELATION_OF = {name: name for name in RELATIONS} | {"over": "above", "under": "below"}
_KNOWN = (
    f"the colours are {', '.join(COLOURS)}; the objects are {', '.join(KINDS)} (digits also as "
    f"figures)"
)


class CaptionError(ValueError):
    """A caption that cannot be understood; the message says which word, and what would do."""


def parse(caption: str) -> Scene:
    """What a caption asks for, in any of the phrasings, held out or not.

    Args:
        caption: for example "a drawing of a red 7 above a blue circle".

    Returns:
        the Scene; equal scenes were asked for in equal meaning.

    Raises:
        CaptionError: an empty caption, an unknown word (the message says which would do), a thing
            without a colour or a colour without a thing.
    """
    text = " ".join(words_of(caption))
    text, background = _take(text, rf"\bon a ({'|'.join(BACKGROUNDS)}) background\b")
    text, place = _take(text, rf"\b({'|'.join(_PLACE_OF)})\b(?! of)")
    text, order = _take(text, rf"\b({'|'.join(_ORDER_OF)})$")
    pieces = re.split(rf"\b({'|'.join(_RELATION_OF)})\b", text)
    groups = [_things(piece, caption) for piece in pieces[::2]]
    told = {_RELATION_OF[words] for words in pieces[1::2]} | (
        {_ORDER_OF[order]} if order else set()
    )
    if len(told) > 1 or (len(pieces) > 1 and any(len(group) != 1 for group in groups)):
        raise CaptionError(f"caption {caption!r}: one relation between each two things, please")
    things = tuple(thing for group in groups for thing in group)
    details = place or any(thing.size for thing in things)
    if len(things) > 3 or (details and len(things) > 1) or (told and len(things) == 1):
        raise CaptionError(
            f"caption {caption!r} names {len(things)} things: a scene has one to three, a size and "
            f"a place belong to one alone, a relation to two or more"
        )
    if place:
        things = (replace(things[0], place=_PLACE_OF[place]),)
    return Scene(things, told.pop() if told else None, background)


def words_of(caption: str) -> list[str]:
    """The words of a caption, lower case, each one known.

    Raises:
        CaptionError: not a text, no word in it, or a word that the vocabulary lacks.
    """
    if not isinstance(caption, str):
        raise CaptionError(f"a caption must be a text, got {type(caption).__name__}")
    words = re.findall(r"[^\s,.:;!?]+", caption.lower())
    if not words:
        raise CaptionError(
            "the caption is empty: write for example 'a red seven' (to ask for nothing, mask all)"
        )
    for word in words:
        if word not in _NUMBER or word.startswith("<"):
            near = difflib.get_close_matches(word, VOCABULARY[1:], n=3, cutoff=0.8)
            hint = f"did you mean {' or '.join(near)}" if near else _KNOWN
            raise CaptionError(f"the word {word!r} of caption {caption!r} is unknown: {hint}")
    return words


def encode(captions: Sequence[str], length: int = MAX_LENGTH) -> tuple[Tensor, Tensor]:
    """Captions as numbers, one a word, all rows equally long.

    Args:
        captions: B texts.
        length: L, at least the number of words of the longest.

    Returns:
        tokens: (B, L) int64, positions in VOCABULARY; 0 after the caption's end.
        mask: (B, L) bool, True where there is a word.

    Raises:
        CaptionError: an empty caption, an unknown word, a caption of more than `length` words.
    """
    if isinstance(captions, str):
        raise CaptionError("captions must be a list of texts, got one text: put [ ] around it")
    tokens = torch.zeros(len(captions), length, dtype=torch.int64)
    for row, caption in enumerate(captions):
        numbers = [_NUMBER[word] for word in words_of(caption)]
        if len(numbers) > length:
            raise CaptionError(f"caption {caption!r} has {len(numbers)} words, length is {length}")
        tokens[row, : len(numbers)] = torch.tensor(numbers)
    return tokens, tokens != PADDING


def _take(text: str, pattern: str) -> tuple[str, str | None]:
    """Cut the pattern out of the text: what is left, and what its group was."""
    found = re.search(pattern, text)
    if found is None:
        return text, None
    return (text[: found.start()] + text[found.end() :]).strip(), found[1]


def _things(text: str, caption: str) -> list[Thing]:
    """The things in a piece of caption: each is one colour and one kind, and perhaps a size."""
    things, here = [], {}
    elsewhere = (*PLACES, "background", *BACKGROUNDS)
    attributes = {"colour": COLOURS, "kind": KINDS, "size": SIZES, "nothing": elsewhere}
    for word in text.split():
        word = _FIGURES.get(word, word)
        name = next((name for name, words in attributes.items() if word in words), None)
        if name is None:
            continue  # a word that only makes the sentence whole
        if name == "nothing" or name in here:
            raise CaptionError(f"caption {caption!r}: the word {word!r} is out of place")
        here[name] = word
        if "colour" in here and "kind" in here:
            things.append(Thing(**here))
            here = {}
    if here or not things:
        missing = "an object" if "colour" in here or not here else "a colour"
        raise CaptionError(f"caption {caption!r} lacks {missing}: say for example 'a red seven'")
    return things
