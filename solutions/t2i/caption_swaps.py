"""Lesson 10. A CLIP that hears who is which: trained on captions in which two things changed roles.

Among a hundred random captions hardly two hold the same words in another order, so plain CLIP
finds the right caption by its words alone: "a red seven above a blue star" and "a blue star above
a red seven" get nearly the same vector, and a painter told so paints either. Here each scene of
several things is also shown captions that are wrong by their order only.

    plan = PairClipRecipe(...)                        # as ClipRecipe
    for state in train(plan.build(), plan.loss, plan.batches(), plan.training):
        ...

Source: Yuksekgonul et al. 2022, arXiv:2210.01936, sections 2 and 4.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.bpe import Tokenizer
from t2i.clip import CLIP, MAX_SCALE, check_features, contrastive_loss
from t2i.clip_recipes import ClipBatches, ClipRecipe, captions_of
from t2i.scene_specs import Specs, draw_specs, heldout
from t2i.scenes import paint

UNSEEN = 10  # seed of the scenes to measure with; training's is 0
PLAIN_SHARE = 0.2  # of the training, at its start: things are told in the order of the picture


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
        unseen = np.logical_or(*heldout(other.kind, other.colour, other.direction, other.count))
        rows.append(whose[~unseen])
        captions += other.take(np.flatnonzero(~unseen)).captions()
    return np.concatenate(rows), captions


def _exchanged(specs: Specs, columns: tuple[str, ...]) -> Specs:
    changed = {name: getattr(specs, name).copy() for name in columns}
    for values in changed.values():
        values[:, :2] = values[:, 1::-1]
    return replace(specs, **changed)


def order_loss(
    image_features: Tensor, text_features: Tensor, swapped_features: Tensor, logit_scale: Tensor
) -> Tensor:
    """Each picture must prefer its caption to one that is wrong by its order only.

    loss = mean of -log sigmoid(min(exp(logit_scale), 100) · image · (text - swapped)), with all
    vectors brought to length 1: the cross entropy of choosing between the two

    Args:
        image_features, text_features, swapped_features: (S, D), of any length; row by row a
            picture, its caption and a wrong one.
        logit_scale: as in contrastive_loss.

    Returns:
        a scalar; log(2) where order is not heard; 0 for no rows.

    Raises:
        ValueError: the shapes do not fit, or something is NaN or infinite.

    Source: Yuksekgonul et al. 2022, arXiv:2210.01936, section 4 (there the wrong captions join
        those of the batch).
    """
    check_features(image_features, text_features)
    check_features(image_features, swapped_features)
    if not image_features.shape == text_features.shape == swapped_features.shape:
        raise ValueError(
            f"image_features, text_features and swapped_features must have one row a picture, got "
            f"{tuple(image_features.shape)}, {tuple(text_features.shape)} and "
            f"{tuple(swapped_features.shape)}"
        )
    if not len(image_features):
        return logit_scale * 0
    images, texts, swapped = (
        F.normalize(x, dim=-1) for x in (image_features, text_features, swapped_features)
    )
    margin = logit_scale.exp().clamp(max=MAX_SCALE) * (images * (texts - swapped)).sum(dim=-1)
    return F.softplus(-margin).mean()


class PairBatches(ClipBatches):
    """ClipBatches with wrong captions: (images, tokens, rows, swapped), never one scene twice.

    rows (S,) says to which of the batch's pictures each row of swapped (S, L) belongs.

    "A above B" and "B below A" mean one thing, so whether the thing told first is the upper one
    depends on a second word: neither word alone says anything, and learning stands still (it is
    the exclusive or). In the first batches, therefore, the upper or left thing is told first.

    Args:
        plain: batches at the start in which things are told in the order of the picture.
        others: as in ClipBatches.
    """

    def __init__(self, *others, plain: int = 0, **named):
        super().__init__(*others, **named)
        self.plain = plain

    def __next__(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        share, start = self.batch_size // len(self.worlds), self.position
        numbers = range(start * share, (start + 1) * share)
        self.position += 1
        images, captions, rows, swapped = [], [], [], []
        for world in self.worlds:
            specs = draw_specs(numbers, world=world, seed=self.seed)
            if start < self.plain:
                specs.phrasing[:, 6] = 1.0  # this number decides whether a caption is turned
            whose, wrong = swapped_captions(specs)
            rows.append(torch.from_numpy(whose) + len(captions))
            captions += captions_of(specs)
            swapped += wrong
            images.append(paint(specs, self.size))
        tokens = self._tokens(captions)
        wrong_tokens = self._tokens(swapped) if swapped else tokens[:0]
        return torch.cat(images), tokens, torch.cat(rows), wrong_tokens


@dataclass(frozen=True)
class PairClipRecipe(ClipRecipe):
    """A ClipRecipe whose CLIP learns order as well."""

    def batches(self, tokenizer: Tokenizer | None = None) -> PairBatches:
        """Scenes, captions and wrong captions, without what is held out."""
        kind = {"worlds": self.worlds, "size": self.size, "length": self.length}
        plain = round(PLAIN_SHARE * self.training.steps)
        return PairBatches(self.batch_size, tokenizer or self.tokenizer, plain=plain, **kind)

    def measure(self, model: CLIP, count: int = 1000) -> dict[str, float]:
        """How often a trained model prefers a picture's caption to one that is wrong by its order.

        Args:
            model: on the CPU.
            count: scenes that training has not shown.

        Returns:
            order_heard: the share of the wrong captions that are found out; chance is 0.5.
        """
        specs = draw_specs(range(count), world=self.worlds[-1], seed=UNSEEN)
        rows, wrong = swapped_captions(specs)
        tokens = self.tokenizer([*specs.captions(), *wrong], self.length)
        with torch.no_grad():
            pictures = F.normalize(model.encode_images(paint(specs, self.size, "test")), dim=-1)
            texts = F.normalize(model.encode_texts(tokens), dim=-1)
        right, swapped = texts[:count][rows], texts[count:]
        margin = (pictures[rows] * (right - swapped)).sum(dim=-1)
        return {"order_heard": (margin > 0).float().mean().item()}

    def loss(self, model: CLIP, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """What train minimises: contrastive_loss + order_loss.

        Args:
            model: has the encoders.
            batch: as PairBatches gives it.
        """
        images, tokens, rows, swapped = batch
        pictures = model.encode_images(images)
        texts, wrong = model.encode_texts(torch.cat([tokens, swapped])).split(
            [len(tokens), len(swapped)]
        )
        found = contrastive_loss(pictures, texts, model.logit_scale)
        return found + order_loss(pictures[rows], texts[rows], wrong, model.logit_scale)
