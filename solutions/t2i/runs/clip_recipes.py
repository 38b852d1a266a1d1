"""Recipes of lesson 7: a small CLIP that learns which caption belongs to which scene.

    plan = clip_recipe("cpu")                         # "smoke", "cpu" or "gpu"
    model = plan.build()                              # a CLIP; model(images, tokens) -> loss
    for state in train(model, clip_loss, plan.batches(), plan.training, checkpoint="..."):
        ...
    model, tokenizer, info = load_clip()              # or start from the committed weights

`python -m t2i.runs.clip_recipes train` makes the committed weights, `python -m
t2i.runs.clip_recipes evaluate` measures what they recognise.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from t2i.bpe import Tokenizer
from t2i.clip import CLIP, ImageEncoder, TextTransformer
from t2i.engine.train_config import TrainConfig
from t2i.files.places import DATA
from t2i.runs.clip_batches import LENGTH, SIZE, WORLDS, ClipBatches, caption_tokenizer
from t2i.runs.recipes import load_trained, of_tier

WEIGHTS = DATA / "clip_cpu.safetensors"


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
        path: weights that `python -m t2i.runs.clip_recipes train` wrote.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    model, info = load_trained(path, clip_recipe)
    return model, caption_tokenizer(), info


def main() -> None:
    """Train a recipe, or measure the weights that came out."""
    from t2i.runs import clip_runs, recipe_runs  # they stand on this module

    recipe_runs.command_line(
        "t2i.runs.clip_recipes", clip_runs, "clip", 2048, "pictures to recognise"
    )


if __name__ == "__main__":
    main()
