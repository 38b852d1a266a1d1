"""Recipes of lesson 7: a small CLIP that learns which caption belongs to which scene.

    plan = clip_recipe("cpu")                         # "smoke", "cpu" or "gpu"
    model = plan.build()                              # a CLIP; model(images, tokens) -> loss
    for state in train(model, clip_loss, plan.batches(), plan.training, checkpoint="..."):
        ...
    model, tokenizer, info = load_clip()              # or start from the committed weights

`python -m t2i.clip_recipes train` makes the committed weights, `python -m t2i.clip_recipes
evaluate` measures what they recognise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from t2i.batches import refuse_other_data
from t2i.bpe import Tokenizer, train_bpe
from t2i.caption_synonyms import say_otherwise
from t2i.clip import CLIP, ImageEncoder, TextTransformer
from t2i.recipes import DATA, load_trained, of_tier
from t2i.scene_specs import Specs, draw_specs
from t2i.scenes import paint
from t2i.train_config import TrainConfig

WEIGHTS = DATA / "clip_cpu.safetensors"
WORLDS = ("one", "lone")  # half of a batch from each: large things on black, and all the rest
SIZE, LENGTH = 32, 20  # of the scenes, in pixels; of the captions, in tokens
NUM_MERGES = 400  # fewer come out: then each word is one piece
SYNONYM_SHARE = 0.5  # of the colours and objects in the training captions


@dataclass(frozen=True)
class ClipRecipe:
    """One tier's encoders and training.

    Args:
        text, image: TextTransformer's and ImageEncoder's arguments, but for vocabulary and size.
        dim: length of the common vectors.
        batch_size: pairs a step.
        training: steps, learning rate and so on.
        worlds: whose scenes are shown, an equal share of a batch from each.
        size: of the scenes, in pixels.
        length: of the captions, in tokens.
    """

    text: dict
    image: dict
    dim: int
    batch_size: int
    training: TrainConfig
    worlds: tuple[str, ...] = WORLDS
    size: int = SIZE
    length: int = LENGTH

    @property
    def tokenizer(self) -> Tokenizer:
        """That of the last world's captions."""
        return caption_tokenizer(self.worlds[-1])

    def build(self, seed: int = 0) -> CLIP:
        """A fresh model whose first weights depend on the seed alone."""
        size, end = len(self.tokenizer), self.tokenizer.end
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            text = TextTransformer(size, end, max_length=self.length, **self.text)
            return CLIP(text, ImageEncoder(self.size, **self.image), self.dim)

    def batches(self, tokenizer: Tokenizer | None = None) -> "ClipBatches":
        """Scenes and captions, without the held-out pairs and phrasings."""
        kind = {"worlds": self.worlds, "size": self.size, "length": self.length}
        return ClipBatches(self.batch_size, tokenizer or self.tokenizer, **kind)

    def loss(self, model: CLIP, batch: tuple[Tensor, ...]) -> Tensor:
        """What train minimises, for batches as `batches` gives them."""
        return clip_loss(model, batch)

    def measure(self, model: CLIP) -> dict[str, float]:
        """What to write down of the trained model; nothing here."""
        return {}


@cache
def caption_tokenizer(world: str = WORLDS[-1]) -> Tokenizer:
    """The tokenizer of a world's captions: BPE trained on 4000 of the training captions."""
    return Tokenizer(train_bpe(captions_of(draw_specs(range(4000), world=world)), NUM_MERGES))


def captions_of(specs: Specs, share: float = SYNONYM_SHARE) -> list[str]:
    """The captions of scenes, in which other words stand for some colours and lone objects.

    Args:
        specs: what is to be told.
        share: of the colours and of the objects that get another name; 0: none, 1: all.
    """
    draws = specs.phrasing[:, 8:10]  # the two numbers that the phrasing itself leaves unused
    told = zip(specs.captions(), draws, specs.count == 1, strict=True)
    return [
        say_otherwise(caption, tuple(pair), share) if lone else caption
        for caption, pair, lone in told
    ]


class ClipBatches:
    """Endless batches of scenes and the tokens of their captions for train(), never one twice.

    Args:
        batch_size: pairs in a batch, as many from each world.
        tokenizer: of the captions; None: that of the last world's.
        seed: of the scenes.
        worlds, size, length: as in ClipRecipe.
    """

    def __init__(
        self,
        batch_size: int,
        tokenizer: Tokenizer | None = None,
        seed: int = 0,
        worlds: Sequence[str] = WORLDS,
        size: int = SIZE,
        length: int = LENGTH,
    ):
        if batch_size < 2 or batch_size % len(worlds):
            raise ValueError(
                f"batch_size must be 2 or more and a multiple of {len(worlds)} (as many scenes "
                f"from each world), got {batch_size}"
            )
        self.worlds, self.size, self.length, self.device = tuple(worlds), size, length, "cpu"
        self.batch_size, self.seed, self.position = batch_size, seed, 0
        self._tokenizer = tokenizer or caption_tokenizer(worlds[-1])
        self._words: dict[str, list[int]] = {}  # those that came up before

    def on(self, device: str | torch.device) -> "ClipBatches":
        """The same batches, from now on painted on this device, where the pictures stay."""
        self.device = device
        return self

    def __iter__(self) -> "ClipBatches":
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        share = self.batch_size // len(self.worlds)
        numbers = range(self.position * share, (self.position + 1) * share)
        parts = [draw_specs(numbers, world=world, seed=self.seed) for world in self.worlds]
        self.position += 1
        captions = [caption for specs in parts for caption in captions_of(specs)]
        return self._paint(parts), self._tokens(captions)

    def _paint(self, parts: Sequence[Specs]) -> Tensor:
        return torch.cat([paint(specs, self.size, device=self.device) for specs in parts])

    def _tokens(self, captions: Sequence[str]) -> Tensor:
        rows = token_rows(captions, self._tokenizer, self.length, self._words)
        return torch.from_numpy(rows).long()

    def state(self) -> dict:
        """What restore needs to go on from here."""
        kind = {"worlds": list(self.worlds), "size": self.size, "length": self.length}
        return kind | {"batch_size": self.batch_size, "seed": self.seed, "position": self.position}

    def restore(self, state: dict) -> None:
        """Go on where such a ClipBatches stood; ValueError when its scenes were others."""
        refuse_other_data(self.state(), state)
        self.position = state["position"]


def token_rows(
    captions: Sequence[str],
    tokenizer: Tokenizer,
    length: int,
    known: dict[str, list[int]] | None = None,
) -> np.ndarray:
    """The numbers of captions as the tokenizer has them, but every word is looked up only once.

    Args:
        captions: B texts.
        tokenizer: of at most 32,768 pieces.
        length: L.
        known: the words of earlier calls with their numbers; new ones are added.

    Returns:
        (B, L) int16.
    """
    known = {} if known is None else known
    rows = np.full((len(captions), length), tokenizer.end, dtype=np.int16)
    rows[:, 0] = tokenizer.start
    for row, caption in zip(rows, captions, strict=True):
        numbers = []
        for word in caption.split():
            if word not in known:
                known[word] = tokenizer.encode(word)[1:-1]
            numbers += known[word]
        numbers = numbers[: length - 2]
        row[1 : 1 + len(numbers)] = numbers
    return rows


def clip_loss(model: CLIP, batch: tuple[Tensor, Tensor]) -> Tensor:
    """What train minimises.

    Args:
        model: called as model(images, tokens).
        batch: images (B, 3, H, W) and tokens (B, L), as ClipBatches gives them.
    """
    return model(*batch)


def clip_recipe(tier: str) -> ClipRecipe:
    """The recipe of a tier: "smoke" (seconds, no meaning), "cpu" (10 minutes), "gpu"."""
    return of_tier(RECIPES, tier)


TEXT = {"width": 64, "num_layers": 2, "num_heads": 2}
IMAGE = {"patch": 8, "width": 128, "num_layers": 3, "num_heads": 4}
RECIPES = {
    "smoke": ClipRecipe(TEXT, IMAGE, 64, 32, TrainConfig(steps=10)),
    "cpu": ClipRecipe(
        TEXT,
        IMAGE,
        64,
        128,
        TrainConfig(steps=3000, learning_rate=3e-3, muon_rate=0.02, save_every=250),
    ),
    "gpu": ClipRecipe(
        {"width": 256, "num_layers": 4, "num_heads": 4},
        {"patch": 4, "width": 256, "num_layers": 6, "num_heads": 4},
        128,
        1024,
        TrainConfig(
            steps=800, learning_rate=3e-3, muon_rate=0.02, save_every=200, on_gpu="recorded"
        ),
    ),
}


def load_clip(path: str | Path = WEIGHTS) -> tuple[CLIP, Tokenizer, dict]:
    """The committed CLIP of lesson 7, its tokenizer, and how it was trained.

    Args:
        path: weights that `python -m t2i.clip_recipes train` wrote.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    model, info = load_trained(path, clip_recipe)
    return model, caption_tokenizer(), info


def main() -> None:
    """Train a recipe, or measure the weights that came out."""
    from t2i import clip_runs, recipe_runs  # they stand on this module

    recipe_runs.command_line("t2i.clip_recipes", clip_runs, "clip", 2048, "pictures to recognise")


if __name__ == "__main__":
    main()
