"""Recipes of lesson 6: coloured digits and shapes, painted as the caption says.

    plan = scene_recipe("cpu")                        # "smoke", "cpu" or "gpu"
    model = plan.build()                              # model(x_t, t, tokens, mask) -> noise_pred
    for state in train(model, scene_loss, plan.batches(), plan.training, checkpoint="..."):
        ...
    denoiser, info = load_scenes()                    # or start from the committed weights
    pictures = draw_captions(denoiser, ["a red seven", "a star that is blue"])

`python -m t2i.runs.scene_recipes train` makes the committed weights, `python -m
t2i.runs.scene_recipes evaluate` counts how many captions the pictures satisfy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from t2i.engine.train_config import TrainConfig
from t2i.files.places import DATA
from t2i.folded_unet import noise_loss
from t2i.guidance import drop_condition, guided_prediction
from t2i.runs.class_recipes import COND_DROP_PROB, Told
from t2i.runs.recipes import NARROW, load_trained, of_tier
from t2i.samplers import sample_ddim, spaced_timesteps
from t2i.text_unet import SceneDenoiser
from t2i.world.caption_reading import PADDING, VOCABULARY, encode
from t2i.world.scenes import SceneBatches

WEIGHTS = DATA / "scenes_cpu.safetensors"
LENGTH = 12  # words of a caption of one object, at most
SIZE = 32
GUIDANCE_SCALE, INFERENCE_STEPS, ETA = 3.0, 25, 1.0


@dataclass(frozen=True)
class SceneRecipe:
    """One tier's network and training.

    Args:
        model: SceneDenoiser's arguments, apart from the vocabulary and the length.
        batch_size: scenes a step.
        training: steps, learning rate and so on.
    """

    model: dict
    batch_size: int
    training: TrainConfig

    def build(self, seed: int = 0) -> SceneDenoiser:
        """A fresh network whose first weights depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return SceneDenoiser(len(VOCABULARY), max_length=LENGTH, **self.model)

    def batches(self) -> SceneBatches:
        """Scenes of one object, without the held-out pairs and phrasings."""
        return SceneBatches(self.batch_size, LENGTH, split="train", world="one", size=SIZE)


class ByTokens(nn.Module):
    """A SceneDenoiser that is called as model(x_t, t, tokens): the mask follows from the padding.

    So tokens alone are the condition, and nothing but padding is the condition that asks for
    nothing: lesson 5's drop_condition and guided_prediction take them with null = 0.
    """

    def __init__(self, model: SceneDenoiser):
        super().__init__()
        self.model = model

    @property
    def denoiser(self) -> nn.Module:
        """What knows the schedule."""
        return self.model.denoiser

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """(B, 3, H, W), (B,) and (B, L) -> (B, 3, H, W)."""
        return self.model(x_t, t, tokens, tokens != PADDING)


def scene_loss(model: SceneDenoiser, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """What train minimises: lesson 3's loss, with the caption told to nine samples in ten.

    Args:
        model: the network.
        batch: x_0 (B, 3, H, W), tokens (B, L) and mask (B, L), as SceneBatches gives them.
    """
    x_0, tokens, _ = batch
    kept = drop_condition(tokens, PADDING, COND_DROP_PROB)
    return noise_loss(Told(ByTokens(model), kept), x_0)


def draw_captions(
    model: SceneDenoiser, captions: Sequence[str], seed: int = 0, **options: Any
) -> Tensor:
    """A picture for each caption.

    Args:
        model: lesson 6's network, trained.
        captions: B texts.
        seed: of the noise; the same seed and list give the same pictures.
        **options: guidance_scale, num_inference_steps, eta, on_step, as in draw_tokens.

    Returns:
        (B, 3, 32, 32) on the CPU.

    Raises:
        CaptionError: an empty caption, or a word that the vocabulary lacks.
    """
    return draw_tokens(ByTokens(model), encode(captions, LENGTH)[0], PADDING, seed, **options)


def draw_tokens(
    model: nn.Module,
    tokens: Tensor,
    null: int | Tensor,
    seed: int = 0,
    guidance_scale: float = GUIDANCE_SCALE,
    num_inference_steps: int = INFERENCE_STEPS,
    eta: float = ETA,
    size: int = SIZE,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """A picture for each row of tokens: lesson 5's guided prediction in lesson 4's sample_ddim.

    Args:
        model: called as model(x_t, t, tokens), knows its schedule as
            model.denoiser.alphas_cumprod.
        tokens: (B, L) what is wanted.
        null: the tokens that ask for nothing.
        seed: of all noise.
        guidance_scale: 1 is off.
        num_inference_steps: steps of the sampler.
        eta: share of DDPM's fresh noise, which washes out errors made earlier on the road.
        size: height and width of the pictures.
        on_step: see sample_ddim.

    Returns:
        (B, 3, size, size) on the CPU.
    """
    ac = model.denoiser.alphas_cumprod
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(tokens), 3, size, size, generator=generator).to(ac.device)
    fresh = torch.Generator(ac.device).manual_seed(seed + 1)
    tokens = tokens.to(ac.device)

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        return guided_prediction(model, x_t, t, tokens, null, guidance_scale)

    timesteps = spaced_timesteps(len(ac), num_inference_steps)
    return sample_ddim(guided, noise, ac, timesteps, eta, fresh, on_step=on_step).cpu()


def scene_recipe(tier: str) -> SceneRecipe:
    """The recipe of a tier: "smoke" (seconds, no meaning), "cpu" (10 minutes), "gpu"."""
    return of_tier(RECIPES, tier)


RECIPES = {
    "smoke": SceneRecipe(NARROW, 16, TrainConfig(steps=20)),
    "cpu": SceneRecipe(
        NARROW, 48, TrainConfig(steps=2300, learning_rate=3e-3, muon_rate=0.02, save_every=250)
    ),
    "gpu": SceneRecipe(
        {"block_channels": (96, 192), "layers_per_block": 2, "context_dim": 128},
        256,
        TrainConfig(
            steps=2000, learning_rate=3e-3, muon_rate=0.02, save_every=500, on_gpu="recorded"
        ),
    ),
}


def load_scenes(path: str | Path = WEIGHTS) -> tuple[SceneDenoiser, dict]:
    """The committed denoiser of lesson 6, ready to draw with, and how it was trained.

    Args:
        path: weights that `python -m t2i.runs.scene_recipes train` wrote.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return load_trained(path, scene_recipe)


def main() -> None:
    """Train a recipe, or measure the weights that came out."""
    from t2i.runs import recipe_runs, scene_runs  # they stand on this module

    recipe_runs.command_line(
        "t2i.runs.scene_recipes", scene_runs, "scenes", 1120, "captions of seen pairs"
    )


if __name__ == "__main__":
    main()
