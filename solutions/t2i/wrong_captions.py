"""Lesson 10. A CLIP that hears everything: trained on captions in which one thing is wrong.

Plain CLIP has to find the right caption among a hundred random ones, and stops listening where
that works. Hardly two of them hold the same words in another order, so "a red seven above a blue
star" and "a blue star above a red seven" get nearly the same vector. And the thing told first,
with the colours, is enough to find the caption: whether the second is a four or a nine leaves no
trace. A painter told so paints either. Here each scene of several things is also shown captions
that are wrong by their order only, or by one thing only.

    plan = PairClipRecipe(...)                        # as ClipRecipe
    for state in train(plan.build(), plan.loss, plan.batches(), plan.training):
        ...

Source: Yuksekgonul et al. 2022, arXiv:2210.01936, sections 2 and 4 (order); Doveh et al. 2023,
    arXiv:2211.11733, section 3.1 (one word replaced).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.batches import stream_seed
from t2i.bpe import Tokenizer
from t2i.captions import KINDS
from t2i.clip import CLIP, MAX_SCALE, check_features, contrastive_loss
from t2i.clip_recipes import ClipBatches, ClipRecipe, captions_of
from t2i.scene_specs import Specs, draw_specs, heldout, uniforms
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
        seen = _may_be_shown(other)
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
    others = np.arange(3)[None, :] < other.count[:, None]
    others[rows, thing] = False
    alone = ~((kind == kind[rows, thing][:, None]) & others).any(axis=1)
    other = replace(other, kind=kind)
    seen = np.flatnonzero(alone & np.isin(rows, _may_be_shown(other)))
    return several[seen], other.take(seen).captions()


def wrong_chances(numbers: Sequence[int], world: str, seed: int) -> np.ndarray:
    """(B, 2) in [0, 1), for replaced_captions, from the scenes' numbers alone."""
    return uniforms(stream_seed("wrong", seed, world), np.asarray(numbers), 0, 2)


def _may_be_shown(specs: Specs) -> np.ndarray:
    """The rows that hold nothing that training must not show."""
    return np.flatnonzero(
        ~np.logical_or(*heldout(specs.kind, specs.colour, specs.direction, specs.count))
    )


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


class PairBatches(ClipBatches):
    """ClipBatches with wrong captions: (images, tokens, rows, wrong), never one scene twice.

    rows (S,) says to which of the batch's pictures each row of wrong (S, L) belongs.

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
        images, captions, rows, wrong = [], [], [], []
        for world in self.worlds:
            specs = draw_specs(numbers, world=world, seed=self.seed)
            if start < self.plain:
                specs.phrasing[:, 6] = 1.0  # this number decides whether a caption is turned
            chances = wrong_chances(numbers, world, self.seed)
            for whose, told in (swapped_captions(specs), replaced_captions(specs, chances)):
                rows.append(torch.from_numpy(whose) + len(captions))
                wrong += told
            captions += captions_of(specs)
            images.append(paint(specs, self.size))
        tokens = self._tokens(captions)
        wrong_tokens = self._tokens(wrong) if wrong else tokens[:0]
        return torch.cat(images), tokens, torch.cat(rows), wrong_tokens


@dataclass(frozen=True)
class PairClipRecipe(ClipRecipe):
    """A ClipRecipe whose CLIP learns from wrong captions as well."""

    def batches(self, tokenizer: Tokenizer | None = None) -> PairBatches:
        """Scenes, captions and wrong captions, without what is held out."""
        kind = {"worlds": self.worlds, "size": self.size, "length": self.length}
        plain = round(PLAIN_SHARE * self.training.steps)
        return PairBatches(self.batch_size, tokenizer or self.tokenizer, plain=plain, **kind)

    def measure(self, model: CLIP, count: int = 1000) -> dict[str, float]:
        """How often a trained model prefers a picture's caption to a wrong one.

        Args:
            model: on the CPU.
            count: scenes that training has not shown.

        Returns:
            order_heard, kind_heard: the share found out of captions that are wrong by their order,
            and by one thing's kind; chance is 0.5.
        """
        world = self.worlds[-1]
        specs = draw_specs(range(count), world=world, seed=UNSEEN)
        replaced = replaced_captions(specs, wrong_chances(range(count), world, UNSEEN))
        with torch.no_grad():
            pictures = F.normalize(model.encode_images(paint(specs, self.size, "test")), dim=-1)

            def match(rows: np.ndarray, captions: list[str]) -> Tensor:
                texts = model.encode_texts(self.tokenizer(captions, self.length))
                return (pictures[rows] * F.normalize(texts, dim=-1)).sum(dim=-1)

            right = match(np.arange(count), specs.captions())
            return {
                name: (right[rows] > match(rows, wrong)).float().mean().item()
                for name, (rows, wrong) in (
                    ("order_heard", swapped_captions(specs)),
                    ("kind_heard", replaced),
                )
            }

    def loss(self, model: CLIP, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """What train minimises: contrastive_loss + wrong_caption_loss.

        Args:
            model: has the encoders.
            batch: as PairBatches gives it.
        """
        images, tokens, rows, wrong_tokens = batch
        pictures = model.encode_images(images)
        texts, wrong = model.encode_texts(torch.cat([tokens, wrong_tokens])).split(
            [len(tokens), len(wrong_tokens)]
        )
        found = contrastive_loss(pictures, texts, model.logit_scale)
        return found + wrong_caption_loss(pictures[rows], texts[rows], wrong, model.logit_scale)
