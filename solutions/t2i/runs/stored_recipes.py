"""Lesson 10's three trainings on scenes that are painted once: what the GPU tier does.

    plan = stored_recipe(text_to_image_recipe("gpu"), "cuda")    # a recipe like the one given

Sizes, steps and learning rates stay. A recipe paints its scenes while it trains, which keeps a
processor busy; a GPU would wait for them most of the time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from t2i.bpe import Tokenizer
from t2i.engine.batches import Batches
from t2i.runs.clip_recipes import ClipRecipe
from t2i.runs.pair_clip import PairClipRecipe
from t2i.runs.picture_recipes import PicturesInOrder, PictureVae, arguments_of
from t2i.runs.scene_store import SceneStore, StoredPairs
from t2i.runs.text_to_image_recipes import TextToImageRecipe
from t2i.runs.vae_recipes import VaeRecipe

PART = 2000  # pictures encoded at once


@dataclass(frozen=True)
class StoredClip(PairClipRecipe):
    """A PairClipRecipe whose batches come from a store."""

    source: SceneStore | None = None

    def batches(self, tokenizer: Tokenizer | None = None) -> StoredPairs:
        """Scenes, captions and wrong captions; there is no other tokenizer than the store's."""
        return StoredPairs(self.source, self.batch_size, self.training.steps)


@dataclass(frozen=True)
class StoredRecipe(TextToImageRecipe):
    """A TextToImageRecipe whose three trainings learn from a store."""

    source: SceneStore | None = None

    def encoded(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each scene once."""
        return PicturesInOrder(self.source, PART)

    def batches(self, z_0: Tensor, tokens: Tensor) -> Batches:
        """Batches of encoded scenes, which lie where the store lies."""
        where = self.source.device
        return Batches(z_0.to(where), tokens.to(where), batch_size=self.batch_size)


def stored_recipe(plan: TextToImageRecipe, device: str | torch.device) -> StoredRecipe:
    """The same recipe, but its scenes are painted once and kept. One that has them stays as it is.

    Args:
        plan: of scenes; its CLIP learns from wrong captions.
        device: where the scenes are kept.
    """
    if isinstance(plan, StoredRecipe):
        return plan
    clip, size = plan.clip, plan.vae.size
    source = SceneStore(plan.scenes, plan.world, size, clip.tokenizer, clip.length, device)
    return StoredRecipe(
        **vars(plan)
        | {
            "vae": PictureVae(**arguments_of(VaeRecipe, plan.vae), source=source),
            "clip": StoredClip(**arguments_of(ClipRecipe, clip), source=source),
            "source": source,
        }
    )
