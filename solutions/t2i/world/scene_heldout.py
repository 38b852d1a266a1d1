"""Which combinations of colour, kind and relation training never shows.

    pairs, triples = heldout(kind, colour, direction, count)   # which scenes hold such a one
    fine = suits(kind, colour, direction, count, "train")      # which may occur in a split

A model that only memorises fails where they are asked for; one that composes does not. Which ways
of telling are held out stands in captions.py.
"""

import numpy as np

from t2i.world.captions import COLOURS, KINDS

_kind = np.arange(len(KINDS))
# (colour, kind): one colour of each kind is held out, each colour is held out in two kinds.
HELDOUT_PAIRS = np.zeros((len(COLOURS), len(KINDS)), dtype=bool)
HELDOUT_PAIRS[(5 * _kind + 2) % len(COLOURS), _kind] = True
# (kind, direction, kind): about one in eleven, spread over all kinds on both sides.
HELDOUT_TRIPLES = (
    7 * _kind[:, None, None] + 5 * np.arange(2)[None, :, None] + 3 * _kind[None, None, :]
) % 11 == 3
HELDOUT_TRIPLES &= _kind[:, None, None] != _kind[None, None, :]


def heldout(kind: np.ndarray, colour: np.ndarray, direction: np.ndarray, count: np.ndarray):
    """Which scenes hold a pair, and which a triple, that training never shows.

    Args:
        kind, colour: (B, 3).  direction, count: (B,).

    Returns:
        pairs, triples: (B,) bool each. The first and the last of three are in relation, too.
    """
    there = np.arange(3)[None, :] < count[:, None]
    pairs = (HELDOUT_PAIRS[colour, kind] & there).any(axis=1)
    triples = np.zeros(len(count), dtype=bool)
    for first, second in ((0, 1), (1, 2), (0, 2)):
        triples |= HELDOUT_TRIPLES[kind[:, first], direction, kind[:, second]] & there[:, second]
    return pairs, triples


def suits(
    kind: np.ndarray, colour: np.ndarray, direction: np.ndarray, count: np.ndarray, split: str
) -> np.ndarray:
    """Which scenes may occur: things of one scene differ in kind and in colour, and so on.

    Args:
        kind, colour: (B, 3).  direction, count: (B,).
        split: one of SPLITS, which has its say.

    Returns:
        (B,) bool.
    """
    fine = np.ones(len(count), dtype=bool)
    for first, second in ((0, 1), (1, 2), (0, 2)):
        alike = (kind[:, first] == kind[:, second]) | (colour[:, first] == colour[:, second])
        fine &= ~alike | (second >= count)
    if split == "any":
        return fine
    pairs, triples = heldout(kind, colour, direction, count)
    fine &= pairs == (split == "heldout_pairs")
    return fine & (triples == (split == "heldout_triples"))
