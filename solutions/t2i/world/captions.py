"""Captions of the scenes: what a scene is, and the several phrasings in which one says it.

    scene = Scene((Thing("red", "seven"), Thing("blue", "circle")), relation="left of")
    phrase(scene)                                 # "a red seven to the left of a blue circle"

The grammar is small on purpose: one can say exactly what a caption asks for, so one can count how
often a model gives it. `caption_reading` is the way back, and makes tokens of the words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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


def _one_of(name: str, value: str | None, allowed: Sequence[str | None]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
