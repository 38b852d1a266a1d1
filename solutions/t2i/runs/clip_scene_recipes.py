"""Lesson 6's denoiser reads through lesson 7's CLIP: its word vectors are swapped for an encoder.

    plan = clip_scene_recipe("cpu")
    model = plan.build()                              # model(x_t, t, tokens) -> noise_pred
    for state in train(model, clip_scene_loss, plan.batches(), plan.training):
        ...
    denoiser, info = load_clip_scenes()               # or start from the committed weights
    pictures = draw_told(denoiser, ["a crimson vii", "an azure disc"])

It is trained on lesson 6's plain captions alone, as long as lesson 6's denoiser was. The words
"crimson", "vii", "azure" and "disc" it never saw; CLIP did, below pictures.
`python -m t2i.runs.clip_scene_recipes train` makes the committed weights, `... evaluate` compares.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from t2i.clip import TextTransformer
from t2i.clip_layers import words_mask
from t2i.engine.train_config import TrainConfig
from t2i.files.places import DATA
from t2i.folded_unet import FoldedUNet, noise_loss
from t2i.guidance import drop_condition
from t2i.runs.class_recipes import COND_DROP_PROB, Told
from t2i.runs.clip_batches import LENGTH, caption_tokenizer
from t2i.runs.clip_recipes import clip_recipe, load_clip
from t2i.runs.recipes import load_trained
from t2i.runs.scene_recipes import SIZE, draw_tokens, scene_recipe
from t2i.text_unet import SMALL, TextUNet
from t2i.world.scenes import SceneBatches

WEIGHTS = DATA / "clip_scenes_cpu.safetensors"


class ClipSceneDenoiser(nn.Module):
    """Tokens and a noisy picture in, the noise out; a frozen CLIP reads the tokens.

    The vectors of all tokens up to the end token are what each place of the picture looks at; the
    end token's vector, which has read them all, is added to the time vector.

    Args:
        text: the encoder; it is not trained here.
        **unet: arguments of TextUNet, as lesson 6's SceneDenoiser takes them.
    """

    def __init__(self, text: TextTransformer, **unet):
        super().__init__()
        unet = SMALL | unet
        unet.pop("context_dim", None)
        width = text.norm.weight.numel()
        self.text = text.requires_grad_(False)
        self.to_cond = nn.Linear(width, 4 * unet["block_channels"][0])
        self.denoiser = FoldedUNet(3, 2, TextUNet, context_dim=width, **unet)

    @property
    def alphas_cumprod(self) -> Tensor:
        """(T,): the schedule that the denoiser was built for."""
        return self.denoiser.alphas_cumprod

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """(B, 3, H, W), (B,) and (B, L), as the captions' tokenizer gives them -> (B, 3, H, W)."""
        hidden, pooled = self.text(tokens)
        mask = words_mask(tokens, self.text.end_token)
        return self.denoiser(x_t, t, hidden, mask, self.to_cond(pooled))


@dataclass(frozen=True)
class ClipSceneRecipe:
    """One tier's network and training: lesson 6's, with CLIP in the place of its word vectors."""

    tier: str
    model: dict
    batch_size: int
    training: TrainConfig

    def build(self, seed: int = 0) -> ClipSceneDenoiser:
        """A fresh network round the committed CLIP; the smoke tier's CLIP is fresh, too."""
        smoke = self.tier == "smoke"
        clip = clip_recipe("smoke").build() if smoke else load_clip()[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return ClipSceneDenoiser(clip.text, **self.model)

    def batches(self) -> SceneBatches:
        """Lesson 6's scenes and plain captions, as CLIP's tokens: x_0 and tokens (B, LENGTH)."""
        return SceneBatches(self.batch_size, LENGTH, size=SIZE, encoder=caption_tokenizer())


def empty_caption() -> Tensor:
    """(L,): the tokens of "", the caption that asks for nothing."""
    return caption_tokenizer()([""], LENGTH)[0]


def clip_scene_loss(model: ClipSceneDenoiser, batch: tuple[Tensor, Tensor]) -> Tensor:
    """What train minimises: lesson 6's loss; a dropped caption is the empty one.

    Args:
        model: the network.
        batch: x_0 (B, 3, H, W) and tokens (B, L), as the recipe's batches give them.
    """
    x_0, tokens = batch
    kept = drop_condition(tokens, empty_caption().to(tokens.device), COND_DROP_PROB)
    return noise_loss(Told(model, kept), x_0)


def draw_told(model: ClipSceneDenoiser, captions: Sequence[str], seed: int = 0) -> Tensor:
    """A picture for each caption, drawn as lesson 6 draws them: (B, 3, 32, 32).

    Args:
        model: trained.
        captions: B texts in any words; those that CLIP has not learnt from will mislead it.
        seed: of the noise; the same seed and place in the list give lesson 6's noise.
    """
    tokens = caption_tokenizer()(captions, LENGTH)
    return draw_tokens(model, tokens, empty_caption(), seed)


def clip_scene_recipe(tier: str) -> ClipSceneRecipe:
    """The recipe of a tier: lesson 6's network, steps and batches."""
    plan = scene_recipe(tier)
    return ClipSceneRecipe(tier, plan.model, plan.batch_size, plan.training)


def load_clip_scenes(path: str | Path = WEIGHTS) -> tuple[ClipSceneDenoiser, dict]:
    """The committed denoiser that reads through CLIP, ready to draw with.

    Args:
        path: weights that `python -m t2i.runs.clip_scene_recipes train` wrote; CLIP's are in them.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return load_trained(path, clip_scene_recipe)


def main() -> None:
    """Train a recipe, or measure the weights that came out."""
    from t2i.runs import clip_scene_runs, recipe_runs  # they stand on this module

    recipe_runs.command_line(
        "t2i.runs.clip_scene_recipes", clip_scene_runs, "clip_scenes", 560, "captions of each kind"
    )


if __name__ == "__main__":
    main()
