"""What of a scene, or of the way in which it is told, training never shows: in words.

what_is_new(specs, 0)      # ["yellow eight"], ["four above one"] or ["here you see + colour thing"]
"""

from itertools import combinations

from t2i.world.captions import COLOURS, FORMS, FRAMES, HELDOUT_PHRASINGS, KINDS, SHAPES
from t2i.world.scene_heldout import HELDOUT_PAIRS, HELDOUT_TRIPLES
from t2i.world.scene_specs import DIRECTIONS, Specs

# One for each of captions.FORMS; of a shape the last is "colour thing shape".
ORDERS = ("colour thing", "thing in colour", "thing that is colour", "colour digit thing")


def what_is_new(specs: Specs, row: int) -> list[str]:
    """A few words for each pair, relation and phrasing of picture `row` that training never shows.

    Args:
        specs: of any split.
        row: which of its scenes.
    """
    things = range(specs.count[row])
    colour, kind, direction = specs.colour[row], specs.kind[row], specs.direction[row]
    pairs = [i for i in things if HELDOUT_PAIRS[colour[i], kind[i]]]
    new = [f"{COLOURS[colour[i]]} {KINDS[kind[i]]}" for i in pairs]
    new += [
        f"{KINDS[kind[i]]} {DIRECTIONS[direction]} {KINDS[kind[j]]}"
        for i, j in combinations(things, 2)
        if HELDOUT_TRIPLES[kind[i], direction, kind[j]]
    ]
    how, told = specs.how(row), specs.told(row)
    opening = FRAMES[how.frame].replace("{}", "").strip()
    in_turn = told.things[::-1] if told.relation and how.turned else told.things
    for thing, form in zip(in_turn, how.forms, strict=False):
        if (how.frame, form) in HELDOUT_PHRASINGS:
            is_named = FORMS[form] == "sort" and thing.kind in SHAPES
            new.append(f"{opening} + {'colour thing shape' if is_named else ORDERS[form]}")
    return new
