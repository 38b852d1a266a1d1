"""How many pictures show what their prompts ask for, all of it and part by part."""

from collections.abc import Sequence

import numpy as np

from t2i.files.results import share_of
from t2i.judging.scene_judge import View, in_order, shows, sized_and_placed
from t2i.world.captions import Scene


def count_views(views: Sequence[View], asked: Sequence[Scene]) -> dict[str, dict]:
    """Shares of pictures with all colours, all objects, the relation, the background, and all.

    Relation, size and place, and background are counted where the prompt tells them.
    """
    order = np.random.default_rng(len(asked)).permutation(len(asked))
    rows = list(zip(views, asked, strict=True))
    hits = {
        "satisfied": [shows(view, scene) for view, scene in rows],
        "colour": [
            {t.colour for t in scene.things} == {t.colour for t in view.things}
            for view, scene in rows
        ],
        "object": [
            sorted(t.kind for t in scene.things) == sorted(t.kind for t in view.things)
            for view, scene in rows
        ],
        "relation": [_related(view, scene) for view, scene in rows if scene.relation],
        "size and place": [
            len(view.things) == 1 and sized_and_placed(view, scene.things[0])
            for view, scene in rows
            if scene.things[0].size or scene.things[0].place
        ],
        "background": [
            view.background == scene.background for view, scene in rows if scene.background
        ],
        "shuffled": [shows(views[i], asked[j]) for i, j in enumerate(order)],
    }
    return {name: share_of(right) | {"n": len(right)} for name, right in hits.items() if right}


def _related(view: View, scene: Scene) -> bool:
    """Whether things of the colours asked for stand as asked, whatever they are."""
    where = {thing.colour: place for thing, place in zip(view.things, view.places, strict=True)}
    there = all(thing.colour in where for thing in scene.things)
    return there and in_order([where[thing.colour] for thing in scene.things], scene.relation)
