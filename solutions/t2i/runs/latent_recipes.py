"""Latent diffusion in small: lesson 6's network paints latents, and the autoencoder shows them.

    space = load_space()
    plan = latent_recipe("cpu")
    batches = plan.batches(space)                     # scenes, encoded once
    for state in train(plan.build(), plan.loss, batches, plan.training):
        ...
    pictures = draw_latents(state.ema_model, space, ["a red seven"])

Nothing in the network, the loss or the sampler is new: what was a picture is a latent picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from t2i.engine.batches import Batches
from t2i.engine.train_config import TrainConfig
from t2i.guidance import sample_guided
from t2i.latents import LatentSpace, seeded_latents
from t2i.runs.recipes import of_tier
from t2i.runs.scene_recipes import LENGTH, ByTokens, scene_loss
from t2i.samplers import spaced_timesteps
from t2i.text_unet import SceneDenoiser
from t2i.world.caption_reading import PADDING, VOCABULARY, encode
from t2i.world.scenes import scenes

PART = 250  # scenes encoded at once


@dataclass(frozen=True)
class LatentRecipe:
    """One tier's denoiser of latents and its training.

    Args:
        model: SceneDenoiser's arguments, apart from the words'.
        scenes: how many are encoded, once, to train on.
        size: height and width of the pictures.
        batch_size: latents a step.
        training: steps, learning rate and so on.
    """

    model: dict
    scenes: int
    size: int
    batch_size: int
    training: TrainConfig

    def build(self, seed: int = 0, channels: int = 4) -> SceneDenoiser:
        """A fresh network for latents whose first weights depend on the seed alone."""
        kind = {"channels": channels, "fold": 1, "max_length": LENGTH}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return SceneDenoiser(len(VOCABULARY), **kind, **self.model)

    def batches(self, space: LatentSpace) -> Batches:
        """(z_0, tokens) of scenes of one object, latents drawn once and scaled."""
        return Batches(*encoded_scenes(space, self.scenes, self.size), batch_size=self.batch_size)

    def loss(self, model: SceneDenoiser, batch: Sequence[Tensor]) -> Tensor:
        """What train minimises: lesson 6's loss, on latents."""
        z_0, tokens = batch
        return scene_loss(model, (z_0, tokens, tokens != PADDING))


@torch.no_grad()
def encoded_scenes(space: LatentSpace, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Scenes of one object as scaled latents (N, c, h, w), and their captions' tokens (N, L)."""
    device = next(space.vae.parameters()).device
    latents, tokens = [], []
    for first in range(0, count, PART):
        part = range(first, min(count, first + PART))
        images, captions = scenes(part, "train", "one", size=size, device=device)
        tokens.append(encode(captions, LENGTH)[0])
        latents.append(seeded_latents(space, images, seed=first).cpu().contiguous())
    return torch.cat(latents), torch.cat(tokens)


def draw_latents(
    model: SceneDenoiser,
    space: LatentSpace,
    captions: Sequence[str],
    seed: int = 0,
    guidance_scale: float = 3.0,
    num_inference_steps: int = 25,
    size: int = 32,
) -> Tensor:
    """A picture for each caption: guided DDIM among the latents, then one decoding.

    Args:
        model: a denoiser of latents.
        space: where they lie.
        captions: B texts.
        seed: of the noise.
        guidance_scale: 1 is off.
        num_inference_steps: steps of the sampler.
        size: height and width of the pictures.

    Returns:
        (B, 3, size, size) on the CPU, clipped to [-1, 1].
    """
    ac, side = model.alphas_cumprod, size // space.vae.compression
    tokens = encode(captions, LENGTH)[0].to(ac.device)
    channels = space.vae.post_quant_conv.in_channels
    generator = torch.Generator().manual_seed(seed)
    z_T = torch.randn(len(tokens), channels, side, side, generator=generator).to(ac.device)
    timesteps = spaced_timesteps(len(ac), num_inference_steps)
    z_0 = sample_guided(  # clip_sample off: latents are not colours, they leave [-1, 1]
        ByTokens(model), z_T, tokens, PADDING, ac, timesteps, guidance_scale, clip_sample=False
    )
    return space.decode(z_0).clamp(-1, 1).cpu()


def latent_recipe(tier: str) -> LatentRecipe:
    """The recipe of a tier: "smoke", "cpu" (5 minutes on one core) or "gpu"."""
    return of_tier(RECIPES, tier)


SMALL = {
    "block_channels": (32, 64),
    "layers_per_block": 1,
    "attention_levels": (True, True),
    "head_channels": 32,
    "norm_groups": 16,
}
RECIPES = {
    "smoke": LatentRecipe(SMALL, 64, 32, 16, TrainConfig(steps=10)),
    "cpu": LatentRecipe(
        SMALL, 12_000, 32, 48, TrainConfig(steps=1200, learning_rate=3e-3, muon_rate=0.02)
    ),
    "gpu": LatentRecipe(
        {"block_channels": (96, 192), "layers_per_block": 2},
        60_000,
        64,
        256,
        TrainConfig(steps=1500, learning_rate=3e-3, muon_rate=0.02, on_gpu="recorded"),
    ),
}
