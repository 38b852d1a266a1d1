"""Recipes of lesson 8: an autoencoder for scenes of one to three things.

    plan = vae_recipe("cpu")                          # "smoke", "cpu" or "gpu"
    model = plan.build()                              # model.encode(x_0), model.decode(z)
    for state in train(model, plan.loss, plan.batches(), plan.training, checkpoint="..."):
        ...
    vae, info = load_vae()                            # or start from the committed weights
    space = load_space()                              # the same with its scaling factor

`python -m t2i.runs.vae_recipes train` makes the committed weights, `python -m t2i.runs.vae_recipes
evaluate` measures how well they bring pictures back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from t2i.engine.train_config import TrainConfig
from t2i.files.places import DATA
from t2i.latents import LatentSpace, vae_loss
from t2i.runs.recipes import load_trained, of_tier
from t2i.vae import AutoencoderKL
from t2i.world.scenes import SceneBatches

WEIGHTS = DATA / "vae_cpu.safetensors"
KL_WEIGHT = 1e-3
CALM = -6.0  # first log-variance: little noise, so that the decoder sees what it is to learn


@dataclass(frozen=True)
class VaeRecipe:
    """One tier's autoencoder and training.

    Args:
        vae: AutoencoderKL's arguments.
        size: height and width of the pictures.
        batch_size: scenes a step.
        training: steps, learning rate and so on.
        kl_weight: price of a nat.
        world: of the scenes, as in scenes.
    """

    vae: dict
    size: int
    batch_size: int
    training: TrainConfig
    kl_weight: float = KL_WEIGHT
    world: str = "many"

    def build(self, seed: int = 0, kind: type = AutoencoderKL) -> AutoencoderKL:
        """A fresh autoencoder whose first weights depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = kind(**self.vae)
        means = model.quant_conv.out_channels // 2
        nn.init.constant_(model.quant_conv.bias.data[means:], CALM)
        return model

    def batches(self) -> SceneBatches:
        """Scenes of the world, without the held-out pairs and triples."""
        return SceneBatches(self.batch_size, split="train", world=self.world, size=self.size)

    def loss(self, model: AutoencoderKL, batch: Sequence[Tensor]) -> Tensor:
        """What train minimises; the first of the batch are the pictures, captions are not read."""
        return autoencoder_loss(model, batch[0], self.kl_weight)


def autoencoder_loss(model: AutoencoderKL, x_0: Tensor, kl_weight: float) -> Tensor:
    """One way there and back through a drawn latent, and what it costs.

    Args:
        model: the autoencoder.
        x_0: (B, C, H, W) in [-1, 1].
        kl_weight: price of a nat.
    """
    posterior = model.encode(x_0)
    reconstruction = model.decode(posterior.sample(torch.randn_like(posterior.mean)))
    return vae_loss(x_0, reconstruction, posterior.mean, posterior.logvar, kl_weight)


def vae_recipe(tier: str) -> VaeRecipe:
    """The recipe of a tier: "smoke" (seconds, no meaning), "cpu" (10 minutes), "gpu"."""
    return of_tier(RECIPES, tier)


SMALL = {"block_channels": (16, 32, 64), "layers_per_block": 1, "norm_groups": 8}
FAST = {"learning_rate": 3e-3, "muon_rate": 0.02}
RECIPES = {
    "smoke": VaeRecipe(SMALL, 32, 8, TrainConfig(steps=20)),
    "cpu": VaeRecipe(SMALL, 32, 8, TrainConfig(steps=7500, decay="linear", save_every=500, **FAST)),
    "gpu": VaeRecipe(
        {"block_channels": (32, 64, 96), "layers_per_block": 1, "norm_groups": 8},
        64,
        128,
        TrainConfig(steps=1750, decay="linear", save_every=500, on_gpu="recorded", **FAST),
    ),
}


def load_vae(path: str | Path = WEIGHTS) -> tuple[AutoencoderKL, dict]:
    """The committed autoencoder of lesson 8, and how it was trained.

    Args:
        path: weights that `python -m t2i.runs.vae_recipes train` wrote.

    Returns:
        vae: frozen.
        info: its tier, its `scaling_factor` and more.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return load_trained(path, vae_recipe)


def load_space(path: str | Path = WEIGHTS) -> LatentSpace:
    """The room in which latent diffusion works: the committed autoencoder at its scale.

    Args:
        path: as in load_vae.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    vae, info = load_vae(path)
    return LatentSpace(vae, info["scaling_factor"])


def main() -> None:
    """Train a recipe, or measure the weights that came out."""
    from t2i.runs import recipe_runs, vae_runs  # they stand on this module

    recipe_runs.command_line("t2i.runs.vae_recipes", vae_runs, "vae", 1000, "scenes of each split")


if __name__ == "__main__":
    main()
