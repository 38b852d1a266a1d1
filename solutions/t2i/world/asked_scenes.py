"""The scenes that lesson 10's model is asked for: combinations that it saw, and those held out."""

import numpy as np

from t2i.engine.batches import stream_seed
from t2i.world.scene_specs import Specs, draw_specs

UNSEEN = 10  # seed of the scenes that are asked for; training's is 0
NUMBERS = ("one", "two", "three")
HELDOUT = {
    "heldout_pairs": "heldout_pairs",
    "heldout_relations": "heldout_triples",
    "heldout_phrasings": "heldout_phrasings",
}


def asked_for(world: str, count: int) -> dict[str, Specs]:
    """The scenes to ask for: seen combinations by number of things, and all that was held out.

    Held-out pairs and phrasings belong beside seen_mixed, which has as many things as they have,
    held-out relations beside seen_two.

    Args:
        world: of the training.
        count: scenes of each set.
    """
    seen = draw_specs(range(6 * count), "train", world, UNSEEN)
    sets = {}
    for number, name in enumerate(NUMBERS, 1):
        rows = np.flatnonzero(seen.count == number)[:count]
        if len(rows):
            sets[f"seen_{name}"] = seen.take(rows)
    sets["seen_mixed"] = draw_specs(range(count), "train", world, UNSEEN + 2)
    for name, split in HELDOUT.items():
        sets[name] = draw_specs(range(count), split, world, UNSEEN)
    return sets


def hardest(world: str, count: int) -> tuple[Specs, int]:
    """The first of those scenes that have the most things, and the seed they are drawn with.

    Args:
        world: of the training.
        count: how many.
    """
    sets = asked_for(world, count)
    number = max(i for i, name in enumerate(NUMBERS) if f"seen_{name}" in sets)
    return sets[f"seen_{NUMBERS[number]}"], stream_seed(UNSEEN, number)
