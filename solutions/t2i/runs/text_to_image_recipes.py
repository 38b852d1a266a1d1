"""Recipes of lesson 10: the three trainings, one after the other, that make a text-to-image model.

    plan = text_to_image_recipe("cpu")                # "smoke", "cpu" or "gpu"
    vae, clip = plan.vae, plan.clip                   # recipes as in lessons 8 and 7
    model = plan.build()                              # a TextDiT
    loss = plan.loss(text)                            # loss(model, (z_0, tokens)), for train()
    pipe = load_text_to_image()                       # or start from the committed model

`make train` (= `python -m t2i.runs.text_to_image_runs train`) runs all three and writes the model.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from t2i.clip import TextTransformer
from t2i.clip_layers import words_mask
from t2i.engine.batches import Batches
from t2i.engine.distributed import ALONE, Team
from t2i.engine.train_config import TrainConfig
from t2i.files.places import DATA
from t2i.flow import rectified_flow_loss
from t2i.latents import LatentSpace, seeded_latents
from t2i.runs.clip_recipes import ClipRecipe
from t2i.runs.flow_training import flow_draws
from t2i.runs.pair_clip import PairClipRecipe
from t2i.runs.recipes import of_tier
from t2i.runs.vae_recipes import VaeRecipe, vae_recipe
from t2i.text_to_image import TextDiT, TextToImage
from t2i.world.scenes import SceneBatches, scenes

CHECKPOINT = DATA / "checkpoints" / "scenes"
EMOJI = DATA / "checkpoints" / "emoji"  # the CPU tier's recipe, of a folder of emoji with names
PART = 250  # scenes encoded at once
INFERENCE_STEPS, GUIDANCE_SCALE = 25, 5.0  # TextToImage's own, where nothing else is asked for


@dataclass(frozen=True)
class TextToImageRecipe:
    """One tier's three trainings.

    Args:
        vae, clip: recipes of lessons 8 and 7, on this lesson's scenes.
        dit: JointDiT's arguments, apart from context_dim and the latents' shape.
        scenes: how many are encoded, once, to train the transformer on.
        batch_size: latents a step.
        training: the transformer's steps, learning rate and so on.
        shift: of the sampler's times.
        stored: the scenes are painted once and kept on the device, see stored_recipes.
    """

    vae: VaeRecipe
    clip: ClipRecipe
    dit: dict
    scenes: int
    batch_size: int
    training: TrainConfig
    shift: float = 1.0
    stored: bool = False

    @property
    def world(self) -> str:
        """Which scenes all three learn from."""
        return self.vae.world

    def build(self, seed: int = 0) -> TextDiT:
        """A fresh transformer whose first weights depend on the seed alone."""
        compression = 2 ** (len(self.vae.vae["block_channels"]) - 1)
        kind = {"in_channels": 4, "sample_size": self.vae.size // compression}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return TextDiT(self.clip.text["width"], **kind, **self.dit)

    @property
    def data(self) -> str:
        """What is learned from, in a few words that nothing else is called by."""
        return "scenes"

    def about(self) -> dict:
        """What to remember of it beside the model."""
        return {}

    def some(self, count: int = 1000) -> Tensor:
        """Pictures of the training kind, (count, 3, size, size) in [-1, 1]."""
        return self.rows(range(count))[0]

    def rows(self, rows: range) -> tuple[Tensor, list[str]]:
        """Pictures of the training kind, (N, 3, size, size) in [-1, 1], and their captions."""
        return scenes(rows, "train", self.world, size=self.vae.size)

    def encoded(self) -> SceneBatches:
        """Scenes and tokens in the order in which they are encoded, PART at a time."""
        return SceneBatches(
            PART,
            self.clip.length,
            world=self.world,
            size=self.vae.size,
            encoder=self.clip.tokenizer,
        )

    def batches(self, z_0: Tensor, tokens: Tensor) -> Batches:
        """Batches of encoded scenes."""
        return Batches(z_0, tokens, batch_size=self.batch_size)

    def loss(
        self, text: TextTransformer, team: Team = ALONE
    ) -> Callable[[TextDiT, tuple[Tensor, Tensor]], Tensor]:
        """What train minimises; the text encoder reads, and is not trained."""
        nothing = self.clip.tokenizer([""], self.clip.length)[0].to(text.positions.device)
        return lambda model, batch: text_flow_loss(model, text, *batch, nothing, team)


def text_flow_loss(
    model: TextDiT,
    text: TextTransformer,
    z_0: Tensor,
    tokens: Tensor,
    nothing: Tensor,
    team: Team = ALONE,
) -> Tensor:
    """The rectified flow's loss with prompts, one in ten of them replaced by the empty one.

    Args:
        model: the transformer.
        text: the frozen text encoder.
        z_0: (B, c, h, w) scaled latents.
        tokens: (B, L) of their captions.
        nothing: (L,) the tokens of the empty prompt.
        team: who shares the batch.
    """
    told, t, noise = flow_draws(z_0, team)
    kept = torch.where(told[:, None], tokens, nothing)
    with torch.no_grad():
        context, pooled = text(kept)
    mask = words_mask(kept, text.end_token)
    return rectified_flow_loss(lambda z_t, t: model(z_t, t, context, mask, pooled), z_0, t, noise)


@torch.no_grad()
def encode_scenes(
    space: LatentSpace, batches: SceneBatches, count: int, progress: Callable = iter
) -> tuple[Tensor, Tensor]:
    """Scenes as scaled latents, each drawn once from its Gaussian, and their captions' tokens.

    Args:
        space: of a trained autoencoder.
        batches: gives pictures and tokens.
        count: how many scenes.
        progress: wraps the loop, for example tqdm.

    Returns:
        z_0: (count, c, h, w) float16 and tokens: (count, L), on the CPU.
    """
    device, latents, tokens = space.scaling_factor.device, [], []
    for part in progress(range(-(-count // batches.batch_size))):
        left = count - part * batches.batch_size  # of the last part some may be too many
        images, told = (each[:left] for each in next(batches))
        latents.append(seeded_latents(space, images.to(device), seed=part).half().cpu())
        tokens.append(told.cpu())
    return torch.cat(latents), torch.cat(tokens)


def text_to_image_recipe(tier: str) -> TextToImageRecipe:
    """The recipe of a tier: "smoke" (seconds, no meaning), "cpu" (an hour or two), "gpu"."""
    return of_tier(RECIPES, tier)


def short_recipe(plan: TextToImageRecipe) -> TextToImageRecipe:
    """The same, but for a transformer and a training in the CPU tier's sizes.

    It learns from the same latents and captions, in minutes, enough to see it begin.
    """
    cpu = RECIPES["cpu"]
    dit = cpu.dit | {"patch_size": plan.dit["patch_size"]}
    return replace(plan, dit=dit, batch_size=cpu.batch_size, training=cpu.training, stored=False)


MUON = {"learning_rate": 3e-3, "muon_rate": 0.02}
VAE = {"block_channels": (16, 32, 64), "layers_per_block": 1, "norm_groups": 8}
TEXT = {"width": 96, "num_layers": 3, "num_heads": 3}
IMAGE = {"patch": 8, "width": 128, "num_layers": 3, "num_heads": 4}
PAIR = {"worlds": ("pair",), "length": 24}
RECIPES = {
    "smoke": TextToImageRecipe(
        VaeRecipe(VAE, 32, 8, TrainConfig(steps=10), world="pair"),
        PairClipRecipe(TEXT, IMAGE, 64, 16, TrainConfig(steps=10), **PAIR),
        {"patch_size": 2, "dim": 32, "depth": 2, "num_heads": 2},
        scenes=250,
        batch_size=16,
        training=TrainConfig(steps=10),
    ),
    "cpu": TextToImageRecipe(
        VaeRecipe(VAE, 32, 8, TrainConfig(steps=15_000, save_every=500, **MUON), world="pair"),
        PairClipRecipe(
            TEXT, IMAGE, 128, 128, TrainConfig(steps=2500, save_every=250, **MUON), **PAIR
        ),
        {"patch_size": 1, "dim": 128, "depth": 6, "num_heads": 4},
        scenes=150_000,
        batch_size=64,
        training=TrainConfig(steps=5500, decay="linear", save_every=250, **MUON),
    ),
    "gpu": TextToImageRecipe(
        vae_recipe("gpu"),
        PairClipRecipe(
            {"width": 128, "num_layers": 4, "num_heads": 4},
            {"patch": 8, "width": 192, "num_layers": 4, "num_heads": 4},
            128,
            1024,
            TrainConfig(steps=2000, save_every=1000, on_gpu="compiled", **MUON),
            worlds=("many",),
            size=64,
            length=32,
        ),
        {"patch_size": 2, "dim": 192, "depth": 6, "num_heads": 6},
        scenes=400_000,
        batch_size=512,
        training=TrainConfig(
            steps=11_000, decay="linear", save_every=2500, on_gpu="compiled", **MUON
        ),
        stored=True,
    ),
}


def load_text_to_image(folder: str | Path = CHECKPOINT) -> TextToImage:
    """The committed model of lesson 10, ready to draw.

    Args:
        folder: that `make train` wrote.

    Raises:
        FilesError: a file is missing or damaged.
    """
    return TextToImage.from_pretrained(folder)
