"""Recipes of lesson 3: which network, trained how, for each size of machine.

    plan = recipe("cpu")                              # "smoke", "cpu" or "gpu"
    model = plan.build()                              # model(x_t, t) -> noise_pred, 28×28 pixels
    batches = Batches(images, batch_size=plan.batch_size)
    for state in train(model, digit_loss, batches, plan.training, checkpoint="ddpm.safetensors"):
        ...
    denoiser, info = load_ddpm()                      # or start from the committed weights

`python -m t2i.recipes train` makes the committed weights, `python -m t2i.recipes evaluate`
measures them with the true 1000-step sampler.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.checkpoint import load_into, load_tensors
from t2i.diffusion import ddpm_loss
from t2i.practice import heard_by_noise, middle_steps, random_steps
from t2i.schedules import alphas_cumprod, cosine_betas, gather
from t2i.train_config import TrainConfig
from t2i.unet import UNet

DATA = Path(__file__).resolve().parents[2] / "data"
WEIGHTS, LONG_WEIGHTS = DATA / "ddpm_cpu.safetensors", DATA / "ddpm_long.safetensors"
EMPTY = -1.0  # the value of a pixel without ink
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

    def build(self, seed: int = 0) -> "FoldedUNet":
        """A fresh network whose first weights depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return FoldedUNet(fold=self.fold, margin=self.margin, **self.unet)


class FoldedUNet(nn.Module):
    """A UNet with three helps for small machines: folded pixels, a margin, a first guess.

    Each fold × fold block of pixels becomes the channels of one big pixel: nothing is lost, and
    the network has fold² times fewer places to visit. It does not visit the margin at all: where
    there is never any ink x_0 is known, and with it the noise. And it need not copy the noise that
    it can see: near the end of the forward process x_t is almost pure noise, so x_t is the first
    guess,

    noise_pred = √(1 - ᾱ_t) · x_t + √ᾱ_t · unet(x_t, t)

    which makes the UNet's own output the `v_pred` of lesson 4.

    Args:
        channels: channels of the picture, in and out.
        fold: side of a block; height and width are multiples of it.
        kind: the class of the network inside; lesson 6 puts its own here.
        margin: pixels at each edge that are always EMPTY.
        **unet: further arguments of the UNet.

    Source: Shi et al. 2016, arXiv:1609.05158 (pixel shuffle); Salimans and Ho 2022,
        arXiv:2202.00512, appendix D (v).
    """

    def __init__(
        self,
        channels: int = 1,
        fold: int = 2,
        kind: type[UNet] = UNet,
        margin: int = 0,
        **unet,
    ):
        super().__init__()
        self.fold, self.margin = fold, margin
        self.unet = kind(channels * fold**2, channels * fold**2, **unet)
        nn.init.zeros_(self.unet.conv_out.weight)  # a calm start: the first guess alone
        nn.init.zeros_(self.unet.conv_out.bias)
        schedule = alphas_cumprod(cosine_betas())
        self.register_buffer("alphas_cumprod", schedule, persistent=False)

    def forward(self, x_t: Tensor, t: Tensor, *conditions: Tensor | None) -> Tensor:
        """(B, channels, H, W) and (B,) -> (B, channels, H, W), the noise in x_t.

        What else is given, a label's vector or words, goes to the network inside as it is.
        """
        if not self.margin:
            return self.inside(x_t, t, *conditions)
        alpha_bar_t = gather(self.alphas_cumprod, t, like=x_t)
        noise_pred = (x_t - alpha_bar_t.sqrt() * EMPTY) / (1 - alpha_bar_t).sqrt()
        self.middle(noise_pred).copy_(self.inside(self.middle(x_t), t, *conditions))
        return noise_pred

    def middle(self, x: Tensor) -> Tensor:
        """Pictures (B, C, H, W) without their margin."""
        m = self.margin
        return x[..., m : x.shape[-2] - m, m : x.shape[-1] - m]

    def inside(self, x_t: Tensor, t: Tensor, *conditions: Tensor | None) -> Tensor:
        """As forward, for pictures that have no margin, or none any more."""
        folded = F.pixel_unshuffle(x_t, self.fold)  # (B, channels · fold², H/fold, W/fold)
        correction = F.pixel_shuffle(self.unet(folded, t, *conditions), self.fold)
        alpha_bar_t = gather(self.alphas_cumprod, t, like=x_t)
        return (1 - alpha_bar_t).sqrt() * x_t + alpha_bar_t.sqrt() * correction


def noise_loss(model: "FoldedUNet", x_0: Tensor) -> Tensor:
    """ddpm_loss at a random step for each picture; what the later lessons train with.

    Args:
        model: knows its schedule as model.alphas_cumprod, and its margin, if it has one.
        x_0: (B, C, H, W) clean pictures.
    """
    predict = model
    if getattr(model, "margin", 0):  # nothing can be learned there
        x_0, predict = model.middle(x_0), model.inside
    t = random_steps(x_0, len(model.alphas_cumprod))
    return ddpm_loss(predict, x_0, t, torch.randn_like(x_0), model.alphas_cumprod)


def digit_loss(model: "FoldedUNet", x_0: Tensor) -> Tensor:
    """What lesson 3 trains with: ddpm_loss at middle_steps, heard by the noise.

    Args:
        model: its margin, if it has one, is left out.
        x_0: (B, 1, 28, 28) digits.
    """
    x_0 = model.middle(x_0)
    t = middle_steps(x_0, len(model.alphas_cumprod))
    predict = heard_by_noise(model.inside, model.alphas_cumprod)
    return ddpm_loss(predict, x_0, t, torch.randn_like(x_0), model.alphas_cumprod)


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
        path: weights that `python -m t2i.recipes train` wrote. LONG_WEIGHTS are of eight times as
            many steps, for lesson 4.

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
    from t2i import recipe_runs  # it stands on this module

    tiers = (*RECIPES, "long")
    recipe_runs.command_line("t2i.recipes", recipe_runs, "ddpm", 4000, "samples to measure", tiers)


if __name__ == "__main__":
    main()
