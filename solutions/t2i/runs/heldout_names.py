"""Names to hold out: those that differ from a seen name in one attribute only.

    split = split_names(captions)                 # of a folder of pictures
    split.seen, split.held_out                    # which to train on, which to ask for
    split.neighbours                              # of each held-out one a seen one, a word away

Nobody has to list the attributes. A word counts as one where exchanging it for another word leads
to another name, and the same exchange does so in a second place:

    seen: "red heart", "blue heart", "red square"          held out: "blue square"

So every word of a held-out name was seen, and all but one of them side by side. A model that draws
it has put together what it learned apart. "Wine glass" and "magnifying glass" differ in one word,
too, but nothing else turns from wine to magnifying: that is no attribute, and neither is held out.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from t2i.byte_words import split_words

SHARE = 0.05  # of the names that could be held out
MAX_WORDS = 16  # a longer text is no name, but a description; there are hardly two alike

Words = tuple[str, ...]
Frame = tuple[int, Words]  # where a word was taken out of a name, and what was left


class NameSplit(NamedTuple):
    """Which names are seen and which are held out; all numbers are rows."""

    seen: list[int]
    held_out: list[int]
    neighbours: list[int]  # of each held-out row a seen one whose name differs in one word
    candidates: list[int]  # rows that could have been held out


class NameFrames:
    """Names, and which of them an exchange of one word turns into each other.

    Args:
        names: each as its words, all different.
    """

    def __init__(self, names: Sequence[Words]):
        self.fillings: dict[Frame, dict[str, Words]] = {}  # frame -> word -> the whole name
        self.places: dict[str, list[Frame]] = {}  # word -> the frames that it fills
        for name in names:
            for frame, word in frames(name):
                self.fillings.setdefault(frame, {})[word] = name
                self.places.setdefault(word, []).append(frame)

    def witnesses(self, name: Words, hidden: set[Words]) -> tuple[Words, Words, Words] | None:
        """Three seen names from which one could guess a name: "red heart + blue - red".

        Args:
            name: "blue square".
            hidden: names that do not count as seen.

        Returns:
            its neighbour "red square", then "blue heart" and "red heart"; None if there are none.
            An attribute has few values, so the frame that the fewest words fill is tried first.
        """
        hidden = hidden | {name}
        for frame, word in sorted(frames(name), key=lambda each: len(self.fillings[each[0]])):
            for other, neighbour in self.fillings[frame].items():
                if neighbour in hidden:
                    continue
                for elsewhere in self.places[word]:
                    filled = self.fillings[elsewhere]
                    if elsewhere == frame or other not in filled:
                        continue
                    if not hidden & {filled[word], filled[other]}:
                        return neighbour, filled[word], filled[other]
        return None

    def exchanges(self, name: Words, other: Words) -> int:
        """In how many frames both words stand that turn one of these two names into the other."""
        (before, after), *more = [
            pair for pair in zip(name, other, strict=True) if len({*pair}) > 1
        ]
        if more:
            raise ValueError(f"{name} and {other} differ in more than one word")
        return sum(before in filled and after in filled for filled in self.fillings.values())


def frames(name: Words) -> list[tuple[Frame, str]]:
    """Each word of a name, and what is left without it; a name of one word has no frame."""
    if not 2 <= len(name) <= MAX_WORDS:
        return []
    return [((place, name[:place] + name[place + 1 :]), word) for place, word in enumerate(name)]


def split_names(names: Sequence[str], share: float = SHARE, seed: int = 0) -> NameSplit:
    """Hold out some of the names that differ from a seen one in one attribute only.

    Names and seed alone decide. Names of the same words (in upper or lower case, or with an accent
    written otherwise) are held out together.

    Args:
        names: N texts.
        share: of the names that could be held out. Fewer are, where one needs the other.
        seed: of the choice.

    Raises:
        ValueError: share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    rows: dict[Words, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(tuple(split_words(name)), []).append(row)
    known = NameFrames(list(rows))
    candidates = [name for name in rows if known.witnesses(name, set())]
    neighbour_of: dict[Words, Words] = {}  # of the names that are held out
    kept: set[Words] = set()  # what they stand on stays seen
    for name in sorted(candidates, key=lambda name: _number(seed, name)):
        if len(neighbour_of) == round(share * len(candidates)):
            break
        told = None if name in kept else known.witnesses(name, set(neighbour_of))
        if told:
            neighbour_of[name] = told[0]
            kept.update(told)
    pairs = [(row, rows[near][0]) for name, near in neighbour_of.items() for row in rows[name]]
    pairs.sort()
    held_out = [row for row, _ in pairs]
    seen = sorted(set(range(len(names))) - set(held_out))
    could = sorted(row for name in candidates for row in rows[name])
    return NameSplit(seen, held_out, [near for _, near in pairs], could)


def _number(seed: int, name: Words) -> str:
    """The place of a name in the order of a seed, whatever other names there are."""
    return hashlib.sha256(repr((seed, name)).encode()).hexdigest()
