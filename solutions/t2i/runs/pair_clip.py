"""Lesson 10's CLIP: a ClipRecipe that learns from wrong captions as well.

plan = PairClipRecipe(...)                        # as ClipRecipe
for state in train(plan.build(), plan.loss, plan.batches(), plan.training):
    ...
plan.measure(model)                               # how many wrong captions it finds out
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.bpe import Tokenizer
from t2i.clip import CLIP, contrastive_loss
from t2i.engine.precision import full_precision
from t2i.runs.clip_batches import ClipBatches, captions_of
from t2i.runs.clip_recipes import ClipRecipe
from t2i.world.scene_specs import Specs, draw_specs
from t2i.world.scenes import paint
from t2i.world.wrong_captions import (
    replaced_captions,
    swapped_captions,
    wrong_caption_loss,
    wrong_chances,
)

UNSEEN = 10  # seed of the scenes to measure with; training's is 0
PLAIN_SHARE = 0.2  # of the training, at its start: things are told in the order of the picture


def tell_plainly(specs: Specs, count: int | None = None) -> None:
    """Let the first `count` scenes, or all, be told in the order of the picture; in place."""
    specs.phrasing[:count, 6] = 1.0  # this number decides whether a caption is turned


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
        parts, captions, rows, wrong = [], [], [], []
        for world in self.worlds:
            specs = draw_specs(numbers, world=world, seed=self.seed)
            if start < self.plain:
                tell_plainly(specs)
            chances = wrong_chances(numbers, world, self.seed)
            for whose, told in (swapped_captions(specs), replaced_captions(specs, chances)):
                rows.append(torch.from_numpy(whose) + len(captions))
                wrong += told
            captions += captions_of(specs)
            parts.append(specs)
        tokens = self._tokens(captions)
        wrong_tokens = self._tokens(wrong) if wrong else tokens[:0]
        return self._paint(parts), tokens, torch.cat(rows), wrong_tokens

    def state(self) -> dict:
        """What restore needs to go on from here."""
        return super().state() | {"plain": self.plain}


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
        pictures, scale = model.encode_images(images), model.logit_scale
        texts, wrong = model.encode_texts(torch.cat([tokens, wrong_tokens])).split(
            [len(tokens), len(wrong_tokens)]
        )
        found = full_precision(contrastive_loss)(pictures, texts, scale)
        preferred = full_precision(wrong_caption_loss)
        return found + preferred(pictures[rows], texts[rows], wrong, scale)
