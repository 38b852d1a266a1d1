"""Recipes of lesson 5: the digits of lesson 3, told which digit they should be.

    plan = class_recipe("cpu")                        # "smoke", "cpu" or "gpu"
    model = plan.build()                              # model(x_t, t, label) -> noise_pred
    batches = Batches(images, labels, batch_size=plan.batch_size)
    for state in train(model, class_loss, batches, plan.training, checkpoint="classes.safetensors"):
        ...
    denoiser, info = load_class_unet()                # or start from the committed weights

`python -m t2i.runs.class_recipes train` makes the committed weights, `python -m
t2i.runs.class_recipes evaluate` measures what each guidance scale does.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from t2i.diffusion import predict_x_0
from t2i.files.places import DATA
from t2i.folded_unet import FoldedUNet, noise_loss
from t2i.guidance import ClassUNet, drop_condition
from t2i.runs.recipes import NARROW, Recipe, load_trained, of_tier, recipe

WEIGHTS = DATA / "guidance_cpu.safetensors"
NUM_CLASSES = 10
COND_DROP_PROB = 0.1
STEPS = {"smoke": 20, "cpu": 2200, "gpu": 3000}


@dataclass(frozen=True)
class ClassRecipe(Recipe):
    """A network like lesson 3's with a table of labels, and a training of its own."""

    def denoiser(self, seed: int = 0) -> FoldedUNet:
        """The network alone, which knows of no labels yet."""
        return super().build(seed)

    def build(self, seed: int = 0) -> ClassUNet:
        """A fresh network whose first weights depend on the seed alone."""
        denoiser = self.denoiser(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return ClassUNet(denoiser, NUM_CLASSES, 4 * denoiser.unet.embedding_channels)


def class_recipe(tier: str) -> ClassRecipe:
    """The recipe of a tier: "smoke" (seconds, no meaning), "cpu" (6 to 8 minutes), "gpu"."""
    steps, plan = of_tier(STEPS, tier), recipe(tier)
    training = replace(plan.training, steps=steps, decay="cosine")
    unet = plan.unet if tier == "gpu" else NARROW  # a label helps so much that less is enough
    return ClassRecipe(unet, plan.fold, plan.batch_size, training)


class Told(nn.Module):
    """A model that has been told its condition, and so can be called as model(x_t, t)."""

    def __init__(self, model: ClassUNet, condition: Tensor):
        super().__init__()
        self.model, self.condition = model, condition
        self.alphas_cumprod = model.denoiser.alphas_cumprod

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.model(x_t, t, self.condition)


class AsPicture(nn.Module):
    """A model of the noise that answers with the clean picture: "sample" in place of "epsilon"."""

    def __init__(self, model: ClassUNet):
        super().__init__()
        self.model = model
        self.alphas_cumprod = model.denoiser.alphas_cumprod

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return predict_x_0(x_t, self.model(x_t, t, condition), t, self.alphas_cumprod)


def class_loss(model: ClassUNet, batch: tuple[Tensor, Tensor]) -> Tensor:
    """What train minimises: lesson 3's loss, with the label told to nine samples in ten.

    Args:
        model: the network.
        batch: x_0 (B, C, H, W) clean pictures, and label (B,) int64.
    """
    x_0, label = batch
    return noise_loss(Told(model, drop_condition(label, model.null, COND_DROP_PROB)), x_0)


def load_class_unet(path: str | Path = WEIGHTS) -> tuple[ClassUNet, dict]:
    """The committed denoiser of lesson 5, ready to sample with, and how it was trained.

    Args:
        path: weights that `python -m t2i.runs.class_recipes train` wrote.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return load_trained(path, class_recipe)


def main() -> None:
    """Train a recipe, or measure the weights that came out."""
    from t2i.runs import class_runs, recipe_runs  # they stand on this module

    recipe_runs.command_line(
        "t2i.runs.class_recipes", class_runs, "guidance", 1000, "samples a guidance scale"
    )


if __name__ == "__main__":
    main()
