"""Captions of the scenes: words, several phrasings for one scene, and the way back.

    scene = Scene((Thing("red", "seven"), Thing("blue", "circle")), relation="left of")
    phrase(scene)                                 # "a red seven to the left of a blue circle"
    parse("a circle in blue right of a red 7")    # the very same scene
    tokens, mask = encode(["a red seven"], 12)    # (1, 12) numbers, (1, 12) True where a word is

The grammar is small on purpose: one can say exactly what a caption asks for, so one can count how
often a model gives it.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
BACKGROUNDS = ("black", "grey", "white", "brown")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
KINDS = DIGITS + SHAPES
SIZES = ("small", "large")
PLACES = {  # where a lone object is, and how one says it
    "middle": "in the middle",
    "top": "at the top",
    "bottom": "at the bottom",
    "left": "on the left",
    "right": "on the right",
}
RELATIONS = {  # two wordings of each
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
CONVERSE = {"left of": "right of", "above": "below", "right of": "left of", "below": "above"}
ORDERS = {  # how a row of several objects is told
    "left of": "from left to right",
    "right of": "from right to left",
    "above": "from top to bottom",
    "below": "from bottom to top",
}
FRAMES = ("{}", "a picture of {}", "there is {}", "a drawing of {}", "here you see {}")
FORMS = ("plain", "in", "that is", "sort")
# (frame, form) of the captions that training never shows; each word of them it does show.
HELDOUT_PHRASINGS = frozenset({(1, 1), (2, 3), (3, 2), (4, 0)})
MAX_LENGTH = 32  # words of the longest caption that the grammar makes, rounded up

PADDING = 0  # the token where there is no word; nothing but padding is "no caption at all"
_FILLERS = "a an the in on at to of is that there here you see picture drawing digit shape and from"
_FIGURES = {str(number): word for number, word in enumerate(DIGITS)}
VOCABULARY = ("<padding>",) + tuple(
    dict.fromkeys(
        [*_FILLERS.split(), *COLOURS, *KINDS, *_FIGURES, *SIZES, *PLACES, "background"]
        + [*BACKGROUNDS, "above", "over", "below", "under"]
    )
)
_NUMBER = {word: number for number, word in enumerate(VOCABULARY)}
_PLACE_OF = {words: name for name, words in PLACES.items()}  # from the words back to the meaning
_ORDER_OF = {words: name for name, words in ORDERS.items()}
_RELATION_OF = {name: name for name in RELATIONS} | {"over": "above", "under": "below"}


class CaptionError(ValueError):
    """A caption that cannot be understood; the message says which word, and what would do."""


@dataclass(frozen=True)
class Thing:
    """One coloured object; what is None is not told, so it may be anything."""

    colour: str
    kind: str
    size: str | None = None
    place: str | None = None

    def __post_init__(self):
        _one_of("colour", self.colour, COLOURS)
        _one_of("kind", self.kind, KINDS)
        _one_of("size", self.size, (*SIZES, None))
        _one_of("place", self.place, (*PLACES, None))


@dataclass(frozen=True)
class Scene:
    """What is in a picture, or what a caption asks for.

    Args:
        things: one to three, from left to right or from top to bottom where there is a relation.
        relation: of each thing to the next: "left of", "above", or None where it is not told
            ("right of" and "below" are taken too: the things are turned round).
        background: one of BACKGROUNDS, or None where it is not told.
    """

    things: tuple[Thing, ...]
    relation: str | None = None
    background: str | None = None

    def __post_init__(self):
        things = self.things if isinstance(self.things, tuple) else ()
        if not 1 <= len(things) <= 3 or not all(isinstance(t, Thing) for t in things):
            raise ValueError(f"things must be a tuple of one to three Things, got {self.things!r}")
        if len(things) > 1 and any(thing.size or thing.place for thing in things):
            raise ValueError(f"a size and a place belong to a thing alone, got {things}")
        _one_of("relation", self.relation, (*RELATIONS, None))
        _one_of("background", self.background, (*BACKGROUNDS, None))
        if self.relation and len(self.things) == 1:
            raise ValueError(f"relation {self.relation!r} needs two things, and there is one")
        if self.relation in ("right of", "below"):
            object.__setattr__(self, "things", tuple(reversed(self.things)))
            object.__setattr__(self, "relation", CONVERSE[self.relation])


@dataclass(frozen=True)
class Phrasing:
    """How a scene is put into words.

    Args:
        frame: number in FRAMES.
        forms: for each thing a number in FORMS: "a red seven", "a seven in red", "a seven that
            is red", "a red digit seven".
        figures: for each thing whether a digit is written 7 instead of seven.
        turned: tell the last thing first, and so "right of" instead of "left of".
        wording: which of a relation's two wordings.
    """

    frame: int = 0
    forms: tuple[int, int, int] = (0, 0, 0)
    figures: tuple[bool, bool, bool] = (False, False, False)
    turned: bool = False
    wording: int = 0

    def __post_init__(self):
        if not len(self.forms) == len(self.figures) == 3:
            raise ValueError(f"forms and figures must be three each, got {self}")

    def is_heldout(self, count: int = 1) -> bool:
        """Whether training never shows this phrasing of `count` things."""
        return any((self.frame, form) in HELDOUT_PHRASINGS for form in self.forms[:count])


def phrase(scene: Scene, phrasing: Phrasing | None = None) -> str:
    """Put a scene into words; what is None in it stays unsaid.

    Args:
        scene: what to say.
        phrasing: how to say it; None is the plainest way.

    Returns:
        the caption, lower case, without a full stop.
    """
    how = phrasing or Phrasing()
    things, relation = scene.things, scene.relation
    if relation and how.turned:
        things, relation = tuple(reversed(things)), CONVERSE[relation]
    ways = zip(things, how.forms, how.figures, strict=False)
    told = [_name(thing, form, figure) for thing, form, figure in ways]
    if relation and len(told) == 2:
        words = f"{told[0]} {RELATIONS[relation][how.wording]} {told[1]}"
    else:
        words = " and ".join(filter(None, (", ".join(told[:-1]), told[-1])))
        words += f", {ORDERS[relation]}" if relation else ""
    words = FRAMES[how.frame].format(words)
    return words + (f" on a {scene.background} background" if scene.background else "")


def parse(caption: str) -> Scene:
    """What a caption asks for, in any of the phrasings, held out or not.

    Args:
        caption: for example "a drawing of a red 7 above a blue circle".

    Returns:
        the Scene; equal scenes were asked for in equal meaning.

    Raises:
        CaptionError: an empty caption, an unknown word (the message offers near ones), a thing
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
            near = difflib.get_close_matches(word, VOCABULARY[1:], n=3, cutoff=0.7)
            hint = f"did you mean {' or '.join(near)}?" if near else "see captions.VOCABULARY"
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


def _name(thing: Thing, form: int, figure: bool) -> str:
    """One thing with its article: "a small red seven", "an 8 in pink", …"""
    digit = thing.kind in DIGITS
    kind = str(DIGITS.index(thing.kind)) if digit and figure else thing.kind
    words = {
        "plain": f"{thing.colour} {kind}",
        "in": f"{kind} in {thing.colour}",
        "that is": f"{kind} that is {thing.colour}",
        "sort": f"{thing.colour} digit {kind}" if digit else f"{thing.colour} {kind} shape",
    }[FORMS[form]]
    words = f"{thing.size} {words}" if thing.size else words
    place = f" {PLACES[thing.place]}" if thing.place else ""
    return f"{article(words)} {words}{place}"


def article(words: str) -> str:
    """The one that belongs before words as they are said: "an 8", "an amber …", "a one"."""
    heard = words.startswith(("a", "e", "i", "o", "u", "8")) and not words.startswith("one")
    return "an" if heard else "a"


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


def _one_of(name: str, value: str | None, allowed: Sequence[str | None]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
