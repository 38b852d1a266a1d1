"""Which scenes there are: drawn by number, and some combinations held out from training.

    specs = draw_specs(range(1000), split="train", world="one", seed=0)
    specs.scene(3), specs.caption(3)      # what is in picture 3, and one way to say it

Scene i of a seed is the same scene whatever was drawn before it: all its random numbers are made
from (seed, i) by a hash, not taken from a stream. The split decides what may occur:

    train                what a model may see
    heldout_pairs        scenes with a colour and an object that training never brings together
    heldout_triples      scenes with an object-relation-object that training never shows
    heldout_phrasings    scenes of the training kind, told in a way that training never tells
    any                  everything, for the judge, who has to know it all
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from t2i.engine.batches import stream_seed, uniforms
from t2i.world.captions import (
    BACKGROUNDS,
    COLOURS,
    FORMS,
    FRAMES,
    HELDOUT_PHRASINGS,
    KINDS,
    PLACES,
    SIZES,
    Phrasing,
    Scene,
    Thing,
    phrase,
)
from t2i.world.scene_heldout import suits

SPLITS = ("train", "heldout_pairs", "heldout_triples", "heldout_phrasings", "any")
DIRECTIONS = ("left of", "above")  # the two relations; "right of" and "below" are these, turned


@dataclass(frozen=True)
class World:
    """How much may happen in a scene.

    Args:
        counts: how many things, each entry equally likely.
        backgrounds: the colours behind them; half of the captions tell it, if there are several.
        details: lone things vary in size and place, and half of the captions tell each of them;
            else every thing is as large as there is room for.
    """

    counts: tuple[int, ...]
    backgrounds: tuple[str, ...]
    details: bool


WORLDS = {
    "one": World((1,), ("black",), False),  # lesson 6
    "lone": World((1,), BACKGROUNDS, True),  # lesson 7
    "pair": World((1, 2), BACKGROUNDS, False),  # lesson 10 on a CPU
    "many": World((1, 2, 2, 3), BACKGROUNDS, True),
}

_COMBINATIONS = [(a, b) for a in range(len(FRAMES)) for b in range(len(FORMS))]
_USUAL = np.array([c for c in _COMBINATIONS if c not in HELDOUT_PHRASINGS])
_HELDOUT = np.array(sorted(HELDOUT_PHRASINGS))

# Places of the random numbers of one scene; the layout and the caption have their own.
_SLOTS, _LAYOUT, _CAPTION, _ATTEMPTS = 10, 1_000_000, 2_000_000, 10_000
LAYOUT_NUMBERS = 6  # of each thing: two of the position, size, turn, brightness, which digit


@dataclass
class Specs:
    """B scenes as columns of numbers; rows of `kind` and `colour` are filled up to `count`.

    Args:
        count: (B,) 1 to 3.
        kind, colour: (B, 3) positions in KINDS and COLOURS.
        direction: (B,) position in DIRECTIONS.
        background: (B,) position in BACKGROUNDS.
        size, place: (B,) of a lone thing, positions in SIZES and PLACES; -1: neither is meant.
        layout: (B, 3, LAYOUT_NUMBERS) in [0, 1), for the painter.
        phrasing: (B, 14) in [0, 1), for the caption.
        split, world: of SPLITS and WORLDS.
    """

    count: np.ndarray
    kind: np.ndarray
    colour: np.ndarray
    direction: np.ndarray
    background: np.ndarray
    size: np.ndarray
    place: np.ndarray
    layout: np.ndarray
    phrasing: np.ndarray
    split: str
    world: str

    def __len__(self) -> int:
        return len(self.count)

    @property
    def details(self) -> bool:
        """Whether lone things vary in size and place."""
        return WORLDS[self.world].details

    def take(self, rows: np.ndarray) -> "Specs":
        """Some of the scenes: those with these positions, in this order."""
        columns = {k: v[rows] for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        return replace(self, **columns)

    def scene(self, row: int) -> Scene:
        """Everything that is in picture `row`."""
        size, place = int(self.size[row]), int(self.place[row])
        things = tuple(
            Thing(
                COLOURS[self.colour[row, i]],
                KINDS[self.kind[row, i]],
                SIZES[size] if size >= 0 else None,
                tuple(PLACES)[place] if place >= 0 else None,
            )
            for i in range(self.count[row])
        )
        relation = DIRECTIONS[self.direction[row]] if len(things) > 1 else None
        return Scene(things, relation, BACKGROUNDS[self.background[row]])

    def told(self, row: int) -> Scene:
        """What the caption of picture `row` says of it: parse(caption(row)) is the same."""
        scene, u = self.scene(row), self.phrasing[row]
        size, place, background = u[10:13] < 0.5
        background &= len(WORLDS[self.world].backgrounds) > 1
        lone = scene.things[0]
        kept = Thing(
            lone.colour, lone.kind, lone.size if size else None, lone.place if place else None
        )
        return Scene(
            scene.things if len(scene.things) > 1 else (kept,),
            scene.relation if u[13] < 0.8 or self.split == "heldout_triples" else None,
            scene.background if background else None,
        )

    def how(self, row: int) -> Phrasing:
        """In which of the phrasings picture `row` is told."""
        u = self.phrasing[row]
        choices = _HELDOUT if self.split == "heldout_phrasings" else _USUAL
        frame, form = choices[int(u[0] * len(choices))]
        forms = [form]
        usual = _USUAL[_USUAL[:, 0] == frame, 1]
        forms += [usual[int(v * len(usual))] for v in u[1:3]]
        figures = tuple(bool(v < 0.5) for v in u[3:6])
        return Phrasing(
            int(frame), tuple(int(f) for f in forms), figures, bool(u[6] < 0.5), int(u[7] < 0.5)
        )

    def caption(self, row: int) -> str:
        """The caption of picture `row`."""
        return phrase(self.told(row), self.how(row))

    def captions(self) -> list[str]:
        """All captions."""
        return [self.caption(row) for row in range(len(self))]


def draw_specs(
    indices: Sequence[int], split: str = "train", world: str = "one", seed: int = 0
) -> Specs:
    """The scenes with these numbers.

    Args:
        indices: B numbers, 0 or more.
        split: one of SPLITS.
        world: one of WORLDS.
        seed: of all scenes; each (seed, split, world) has its own.

    Raises:
        ValueError: an unknown split or world, a negative number, or triples held out in a world
            whose scenes have one thing.
    """
    if split not in SPLITS or world not in WORLDS:
        names = (f"split must be one of {', '.join(SPLITS)}", f"world of {', '.join(WORLDS)}")
        raise ValueError(f"{' and '.join(names)}; got {split!r} and {world!r}")
    rules = WORLDS[world]
    numbers = np.asarray(indices)
    if numbers.ndim != 1 or (
        numbers.size and (numbers.dtype.kind not in "iu" or numbers.min() < 0)
    ):
        raise ValueError("indices must be whole numbers, 0 or more")
    counts = np.array([n for n in rules.counts if n > 1 or split != "heldout_triples"])
    if not len(counts):
        raise ValueError(f"split 'heldout_triples' needs two things, world {world!r} shows one")
    key = stream_seed("scenes", seed, split, world)
    u = uniforms(key, numbers, 0, 4)
    count = counts[(u[:, 0] * len(counts)).astype(int)]
    kind, colour, direction = _combinations(key, numbers, count, split)
    backgrounds = np.array([BACKGROUNDS.index(name) for name in rules.backgrounds])
    lone = (count == 1) & rules.details
    size = np.where(lone, (u[:, 2] * 2).astype(int), -1)
    place = np.where(size == 0, (u[:, 3] * len(PLACES)).astype(int), np.where(lone, 0, -1))
    return Specs(
        count=count,
        kind=kind,
        colour=colour,
        direction=direction,
        background=backgrounds[(u[:, 1] * len(backgrounds)).astype(int)],
        size=size,
        place=place,  # a large thing is always in the middle: there is no room elsewhere
        layout=uniforms(key, numbers, _LAYOUT, 3 * LAYOUT_NUMBERS).reshape(-1, 3, LAYOUT_NUMBERS),
        phrasing=uniforms(key, numbers, _CAPTION, 14),
        split=split,
        world=world,
    )


def _combinations(key: int, numbers: np.ndarray, count: np.ndarray, split: str):
    """Draw kinds, colours and directions again and again until each row suits the split."""
    shape = (len(numbers), 3)
    kind, colour = np.zeros(shape, dtype=int), np.zeros(shape, dtype=int)
    direction, open_rows = np.zeros(len(numbers), dtype=int), np.arange(len(numbers))
    for attempt in range(1, _ATTEMPTS):
        if not len(open_rows):
            break
        u = uniforms(key, numbers[open_rows], attempt * _SLOTS, 7)
        kind[open_rows] = (u[:, :3] * len(KINDS)).astype(int)
        colour[open_rows] = (u[:, 3:6] * len(COLOURS)).astype(int)
        direction[open_rows] = (u[:, 6] * len(DIRECTIONS)).astype(int)
        rows = [values[open_rows] for values in (kind, colour, direction, count)]
        open_rows = open_rows[~suits(*rows, split)]
    return kind, colour, direction
