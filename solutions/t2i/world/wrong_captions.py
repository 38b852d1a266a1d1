"""Lesson 10. What makes a CLIP hear everything: captions that are wrong in one thing.

Plain CLIP has to find the right caption among a hundred random ones, and stops listening where
that works. Hardly two of them hold the same words in another order, so "a red seven above a blue
star" and "a blue star above a red seven" get nearly the same vector. And the thing told first,
with the colours, is enough to find the caption: whether the second is a four or a nine leaves no
trace. A painter told so paints either.

    rows, captions = swapped_captions(specs)            # two things have exchanged roles
    rows, captions = replaced_captions(specs, chances)  # one thing is another
    loss = wrong_caption_loss(pictures[rows], texts[rows], wrong, logit_scale)

Source: Yuksekgonul et al. 2022, arXiv:2210.01936, sections 2 and 4 (order); Doveh et al. 2023,
    arXiv:2211.11733, section 3.1 (one word replaced).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from t2i.clip import MAX_SCALE, check_features
from t2i.engine.batches import stream_seed, uniforms
from t2i.world.captions import KINDS
from t2i.world.scene_heldout import suits
from t2i.world.scene_specs import Specs


def swapped_captions(specs: Specs) -> tuple[np.ndarray, list[str]]:
    """Captions of what the pictures do not show, in the words of what they do.

    The first two things exchange their kinds ("a red star above a blue seven" for "a red seven
    above a blue star"), and in a second caption, if their order is told, their places ("a blue
    star above a red seven"). What training must not show is left out, as a wrong caption too.

    Args:
        specs: B scenes.

    Returns:
        rows: (S,) the scene of each caption, and the S captions.
    """
    several = np.flatnonzero(specs.count > 1)
    in_order = np.array([r for r in several if specs.told(r).relation is not None], dtype=int)
    rows, captions = [], []
    for whose, columns in ((several, ("kind",)), (in_order, ("kind", "colour"))):
        other = _exchanged(specs.take(whose), columns)
        seen = _may_occur(other)
        rows.append(whose[seen])
        captions += other.take(seen).captions()
    return np.concatenate(rows), captions


def replaced_captions(specs: Specs, chances: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Captions in which one thing is of another kind: "a red nine above a blue star".

    Args:
        specs: B scenes.
        chances: (B, 2) in [0, 1): which thing it is, and what it becomes.

    Returns:
        as swapped_captions; a lone thing has none, nor has a scene that would hold two alike or
        what training must not show.
    """
    several = np.flatnonzero(specs.count > 1)
    other, rows = specs.take(several), np.arange(len(several))
    thing = (chances[several, 0] * other.count).astype(int)
    steps = 1 + (chances[several, 1] * (len(KINDS) - 1)).astype(int)
    kind = other.kind.copy()
    kind[rows, thing] = (kind[rows, thing] + steps) % len(KINDS)
    other = replace(other, kind=kind)
    seen = _may_occur(other)
    return several[seen], other.take(seen).captions()


def wrong_chances(numbers: Sequence[int], world: str, seed: int) -> np.ndarray:
    """(B, 2) in [0, 1), for replaced_captions, from the scenes' numbers alone."""
    return uniforms(stream_seed("wrong", seed, world), np.asarray(numbers), 0, 2)


def _may_occur(specs: Specs) -> np.ndarray:
    """The rows that training may show."""
    columns = (specs.kind, specs.colour, specs.direction, specs.count)
    return np.flatnonzero(suits(*columns, "train"))


def _exchanged(specs: Specs, columns: tuple[str, ...]) -> Specs:
    changed = {name: getattr(specs, name).copy() for name in columns}
    for values in changed.values():
        values[:, :2] = values[:, 1::-1]
    return replace(specs, **changed)


def wrong_caption_loss(
    image_features: Tensor, text_features: Tensor, wrong_features: Tensor, logit_scale: Tensor
) -> Tensor:
    """Each picture must prefer its caption to a wrong one.

    loss = mean of -log sigmoid(min(exp(logit_scale), 100) · image · (text - wrong)), with all
    vectors brought to length 1: the cross entropy of choosing between the two

    Args:
        image_features, text_features, wrong_features: (S, D), of any length; row by row a
            picture, its caption and a wrong one.
        logit_scale: as in contrastive_loss.

    Returns:
        a scalar; log(2) where the two are not told apart; 0 for no rows.

    Raises:
        ValueError: the shapes do not fit, or something is NaN or infinite.

    Source: Yuksekgonul et al. 2022, arXiv:2210.01936, section 4 (there the wrong captions join
        those of the batch).
    """
    check_features(image_features, text_features)
    check_features(image_features, wrong_features)
    if not image_features.shape == text_features.shape == wrong_features.shape:
        raise ValueError(
            f"image_features, text_features and wrong_features must have one row a picture, got "
            f"{tuple(image_features.shape)}, {tuple(text_features.shape)} and "
            f"{tuple(wrong_features.shape)}"
        )
    if not len(image_features):
        return logit_scale * 0
    images, texts, wrong = (
        F.normalize(x, dim=-1) for x in (image_features, text_features, wrong_features)
    )
    margin = logit_scale.exp().clamp(max=MAX_SCALE) * (images * (texts - wrong)).sum(dim=-1)
    return F.softplus(-margin).mean()
