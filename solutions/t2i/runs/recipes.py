"""Recipes of lesson 3: which network, trained how, for each size of machine.

    plan = recipe("cpu")                              # "smoke", "cpu" or "gpu"
    model = plan.build()                              # model(x_t, t) -> noise_pred, 28×28 pixels
    batches = Batches(images, batch_size=plan.batch_size)
    for state in train(model, digit_loss, batches, plan.training, checkpoint="ddpm.safetensors"):
        ...
    denoiser, info = load_ddpm()                      # or start from the committed weights

`python -m t2i.runs.recipes train` makes the committed weights, `python -m t2i.runs.recipes
evaluate` measures them with the true 1000-step sampler.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from t2i.engine.train_config import TrainConfig
from t2i.files.checkpoint import load_into, load_tensors
from t2i.files.places import DATA
from t2i.folded_unet import FoldedUNet

WEIGHTS, LONG_WEIGHTS = DATA / "ddpm_cpu.safetensors", DATA / "ddpm_long.safetensors"
MARGIN = 2  # of a digit's 28 pixels, at each edge: 0.24 % of all ink lies there


@dataclass(frozen=True)
class Recipe:
    """One tier's network and training.

    Args:
        unet: the UNet's arguments, apart from in_channels and out_channels.
        fold: side of the pixel blocks that are folded into channels; 1 folds nothing.
        batch_size: pictures a step.
        training: steps, learning rate and so on.
        margin: pixels at each edge that are left empty.
    """

    unet: dict
    fold: int
    batch_size: int
    training: TrainConfig
    margin: int = 0

    def build(self, seed: int = 0) -> FoldedUNet:
        """A fresh network whose first weights depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return FoldedUNet(fold=self.fold, margin=self.margin, **self.unet)


def recipe(tier: str) -> Recipe:
    """The recipe of a tier: "smoke" (seconds, no meaning), "cpu" (4 to 9 minutes), "gpu".

    And "long": the one of "cpu", with eight times as many steps. Lesson 4 asks what that changes.
    """
    return of_tier(RECIPES | {"long": LONG}, tier)


def of_tier(known: Mapping[str, Any], tier: str) -> Any:
    """What there is for a tier; a ValueError names the tiers for which there is something."""
    if tier not in known:
        raise ValueError(f"tier must be one of {', '.join(known)}, got {tier!r}")
    return known[tier]


SMALL = {
    "block_channels": (32, 64),
    "layers_per_block": 1,
    "attention_levels": (False, True),
    "head_channels": 32,
    "norm_groups": 8,
}
NARROW = SMALL | {"block_channels": (24, 48), "head_channels": 24}  # lesson 5's
LARGE = {
    "block_channels": (64, 128, 128),
    "layers_per_block": 2,
    "attention_levels": (False, True, False),
    "head_channels": 32,
    "norm_groups": 32,
}
RECIPES = {
    "smoke": Recipe(SMALL, 2, batch_size=32, training=TrainConfig(steps=20), margin=MARGIN),
    "cpu": Recipe(
        SMALL,
        fold=2,
        batch_size=128,
        training=TrainConfig(
            steps=2600,
            learning_rate=4e-3,
            muon_rate=0.028,
            decay="linear",
            ema_horizon=0.15,
            save_every=250,
        ),
        margin=MARGIN,
    ),
    "gpu": Recipe(
        LARGE,
        fold=1,
        batch_size=256,
        training=TrainConfig(
            steps=3000,
            learning_rate=3e-3,
            muon_rate=0.02,
            decay="linear",
            ema_horizon=0.15,
            save_every=500,
            on_gpu="recorded",
        ),
    ),
}


_CPU = RECIPES["cpu"]
LONG = replace(_CPU, training=replace(_CPU.training, steps=8 * _CPU.training.steps))


def load_ddpm(path: str | Path = WEIGHTS) -> tuple[FoldedUNet, dict]:
    """The committed denoiser of lesson 3, ready to sample with, and how it was trained.

    Args:
        path: weights that `python -m t2i.runs.recipes train` wrote. LONG_WEIGHTS are of eight times
            as many steps, for lesson 4.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return load_trained(path, recipe)


def load_trained(path: str | Path, plan_of: Callable[[str], Any]) -> tuple[Any, dict]:
    """A recipe's network with the weights from a file, frozen, and what is written beside them.

    Args:
        path: weights that recipe_runs.train_weights wrote.
        plan_of: the recipe of a tier, as `recipe` gives it.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    tensors, info = load_tensors(path)
    model = plan_of(info.get("tier", "cpu")).build()
    load_into(model, tensors, path)
    return model.eval().requires_grad_(False), info


def main() -> None:
    """Train a recipe, or measure the weights that came out."""
    from t2i.runs import recipe_runs  # it stands on this module

    tiers = (*RECIPES, "long")
    recipe_runs.command_line(
        "t2i.runs.recipes", recipe_runs, "ddpm", 4000, "samples to measure", tiers
    )


if __name__ == "__main__":
    main()
