"""Lesson 9's networks and how long each is trained: UNet against DiT on the same scenes.

    contest = dit_contest("cpu")                      # "smoke", "cpu" or "gpu"
    model = contest.build("dit", "large")             # model(x_t, t, tokens, mask) -> noise_pred
    for state in train(model, scene_loss, contest.batches(), contest.training("dit", "large")): ...
    denoiser, info = load_joint()                     # or start from the committed weights

Two networks of one size have the same number of weights (within 10 %) and get the same compute: the
cheaper one sees more scenes for it. `python -m t2i.runs.dit_runs` trains and measures all of them.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from t2i.engine.train_config import TrainConfig
from t2i.files.checkpoint import load_into, load_tensors
from t2i.files.places import DATA
from t2i.joint import JointDiT
from t2i.runs.joint_denoiser import JointDenoiser
from t2i.runs.recipes import of_tier
from t2i.runs.scene_recipes import scene_loss
from t2i.speed.flops import count_flops
from t2i.text_unet import SceneDenoiser
from t2i.world.caption_reading import MAX_LENGTH, VOCABULARY
from t2i.world.scenes import SceneBatches

WEIGHTS = DATA / "dit_cpu.safetensors"
KINDS, SIZES = ("unet", "dit"), ("small", "medium", "large")


@dataclass(frozen=True)
class Contest:
    """UNet against DiT in one tier.

    Args:
        models: for each kind and size the arguments of SceneDenoiser or JointDenoiser.
        compute: for each size the floating-point operations of its training.
        batch_size: scenes a step.
        side: height and width of a scene in pixels.
        rates: learning rates, for TrainConfig.
        count: pictures that the relations are counted on.
        inference_steps: steps of the sampler there.
        world: of the scenes, one of WORLDS.
    """

    models: dict[str, dict[str, dict]]
    compute: dict[str, float]
    batch_size: int
    side: int
    rates: dict[str, dict[str, float]]
    count: int
    inference_steps: int
    world: str = "many"

    def build(
        self, kind: str, size: str, seed: int = 0, network: type[nn.Module] = JointDiT
    ) -> SceneDenoiser | JointDenoiser:
        """A fresh network whose first weights depend on the seed alone.

        Args:
            kind, size: of KINDS and SIZES.
            seed: of its weights.
            network: the class inside a "dit"; the lesson puts the learner's own here.
        """
        arguments = self.models[kind][size]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if kind == "unet":
                return SceneDenoiser(len(VOCABULARY), max_length=MAX_LENGTH, **arguments)
            return JointDenoiser(len(VOCABULARY), kind=network, sample_size=self.side, **arguments)

    def batches(self, seed: int = 0) -> SceneBatches:
        """Scenes of the contest's world, without anything that is held out."""
        return SceneBatches(self.batch_size, world=self.world, seed=seed, size=self.side)

    def training(self, kind: str, size: str) -> TrainConfig:
        """As many steps as the compute of this size is enough for."""
        step = flops_of_step(self.build(kind, size), next(self.batches()))
        steps = max(2, round(self.compute[size] / step))
        return TrainConfig(steps=steps, save_every=200, **self.rates[kind])


def flops_of_step(model: nn.Module, batch: tuple[Tensor, ...]) -> int:
    """Floating-point operations of one training step, forward and backward.

    Counted where they are made; a multiplication and an addition are two. The optimiser's own work
    is left out.
    """
    device = next(model.parameters()).device
    batch = tuple(tensor.to(device) for tensor in batch)
    with torch.random.fork_rng(devices=[]):
        count = count_flops(lambda: scene_loss(model, batch).backward())
    model.zero_grad()
    return count


def dit_contest(tier: str) -> Contest:
    """The contest of a tier: "smoke" (seconds, no meaning), "cpu" (an hour), "gpu" (hours)."""
    return of_tier(CONTESTS, tier)


def _unet(block_channels: tuple[int, ...], **others) -> dict:
    usual = {"layers_per_block": 1, "attention_levels": (False, True), "norm_groups": 8}
    return {"block_channels": block_channels, "head_channels": 16} | usual | others


def _dit(dim: int, depth: int, num_heads: int, patch_size: int = 4) -> dict:
    return {"dim": dim, "depth": depth, "num_heads": num_heads, "patch_size": patch_size}


MUON = {"learning_rate": 3e-3, "muon_rate": 0.02}
LARGE_UNET = {
    "layers_per_block": 2,
    "attention_levels": (False, True, True),
    "norm_groups": 32,
    "head_channels": 32,
}
CONTESTS = {
    "smoke": Contest(
        {
            "unet": dict.fromkeys(SIZES, _unet((16, 16))),
            "dit": dict.fromkeys(SIZES, _dit(32, 2, 2, patch_size=8)),
        },
        dict.fromkeys(SIZES, 1.5e9),
        batch_size=8,
        side=32,
        rates={"unet": MUON, "dit": MUON},
        count=8,
        inference_steps=2,
    ),
    "cpu": Contest(
        {
            "unet": {
                "small": _unet((24, 48), head_channels=24),  # lesson 6's own network
                "medium": _unet((48, 64)),
                "large": _unet((48, 96)),
            },
            "dit": {"small": _dit(64, 4, 4), "medium": _dit(96, 4, 4), "large": _dit(128, 4, 4)},
        },
        {"small": 1.5e13, "medium": 3e13, "large": 6e13},
        batch_size=32,
        side=32,
        rates={"unet": MUON, "dit": MUON},
        count=320,
        inference_steps=12,
        world="pair",  # one thing or two: what small networks can learn in minutes
    ),
    "gpu": Contest(
        {
            "unet": {
                "small": _unet((96, 128, 192), **LARGE_UNET),
                "medium": _unet((128, 224, 320), **LARGE_UNET),
                "large": _unet((192, 320, 448), **LARGE_UNET),
            },
            "dit": {
                "small": _dit(256, 8, 4),
                "medium": _dit(384, 9, 6),
                "large": _dit(512, 10, 8),
            },
        },
        {"small": 5e16, "medium": 1e17, "large": 2e17},
        batch_size=256,
        side=64,
        rates=dict.fromkeys(KINDS, {"learning_rate": 4e-4, "ema_horizon": 0.05}),
        count=1024,
        inference_steps=25,
    ),
}


def load_joint(path: str | Path = WEIGHTS) -> tuple[JointDenoiser, dict]:
    """The committed transformer of lesson 9 (the largest), and how it was trained.

    Args:
        path: weights that `python -m t2i.runs.dit_runs` wrote.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    tensors, info = load_tensors(path)
    model = dit_contest(info.get("tier", "cpu")).build("dit", info.get("size", "large"))
    load_into(model, tensors, path)
    return model.eval().requires_grad_(False), info
