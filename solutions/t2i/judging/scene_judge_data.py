"""The training and testing of the judge of scenes.

It learns from scenes, and from the broken pictures of scene_broken.py, in which it has to answer
that nothing is there.
"""

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.engine.batches import stream_seed
from t2i.engine.train_config import TrainConfig
from t2i.files.checkpoint import save_weights
from t2i.files.results import machine, update_json
from t2i.judging.scene_broken import BROKEN
from t2i.judging.scene_judge import look, shows
from t2i.judging.scene_judge_net import ABSENT, JudgeNet, answers, load_judge
from t2i.training import train
from t2i.world.captions import COLOURS, KINDS
from t2i.world.scene_specs import Specs, draw_specs
from t2i.world.scenes import paint, place


class JudgeBatches:
    """Endless batches for the judge: good pictures of both worlds, and broken ones.

    Args:
        batch_size: pictures; a quarter of them broken.
        seed: of the scenes.
        side: height and width of the pictures.
        is_bent: bend them, so that 30,000 digits look like more.
    """

    def __init__(self, batch_size: int = 128, seed: int = 1, side: int = 32, is_bent: bool = False):
        self.batch_size, self.seed, self.side, self.position = batch_size, seed, side, 0
        self.is_bent = is_bent

    def __next__(self) -> dict[str, Tensor]:
        count = self.batch_size // 2
        first = self.position * count
        self.position += 1
        parts = [self._part(world, first, count) for world in ("one", "many")]
        batch = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return bent(batch, stream_seed(self.seed, self.position)) if self.is_bent else batch

    def _part(self, world: str, first: int, count: int) -> dict[str, Tensor]:
        specs = draw_specs(range(first, first + count), "any", world, self.seed)
        images, truth = paint(specs, self.side, "judge"), targets(specs)
        generator = np.random.default_rng((self.seed, first, world == "one"))
        chosen, others = generator.permutation(count)[: count // 4], images.roll(1, 0)
        for make, rows in zip(BROKEN, np.array_split(chosen, len(BROKEN)), strict=True):
            images[rows] = make(images[rows], others[rows], specs.take(rows), "judge")
            truth["kind"][rows] = ABSENT
            truth["background"][rows] = -1
        return {"images": images} | truth


def bent(batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Turn each picture by up to 10°, slant it by 0.15 and stretch it by 8 % each way.

    Args:
        batch: images, place and height, as JudgeBatches has them.
        seed: of the bends.

    Returns:
        the batch with these three changed; what comes in from outside is the border's colour.
    """
    images, generator = batch["images"], torch.Generator().manual_seed(seed)
    draws = 2 * torch.rand(4, len(images), generator=generator) - 1
    scale = torch.tensor([math.radians(10), 0.15, 0.08, 0.08])
    turn, slant, wider, taller = draws * scale[:, None]
    zero = torch.zeros_like(turn)
    turned = _matrices(turn.cos(), -turn.sin(), turn.sin(), turn.cos())
    back = turned @ _matrices(1 + wider, slant, zero, 1 + taller)  # from where a pixel gets its own
    theta = torch.cat([back, torch.zeros(len(images), 2, 1)], dim=2)
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    ahead = torch.linalg.inv(back).transpose(1, 2)
    place = (2 * batch["place"].flip(2) - 1) @ ahead  # (x, y) from the middle, in [-1, 1]
    place = ((place + 1) / 2).flip(2).clamp(0.01, 0.99)
    height = batch["height"] / (1 + taller)[:, None]
    moved = moved.contiguous(memory_format=torch.channels_last)
    return batch | {"images": moved, "place": place, "height": height}


def _matrices(*rows: Tensor) -> Tensor:
    """Four numbers (B,) each as (B, 2, 2)."""
    return torch.stack(rows, dim=1).unflatten(1, (2, 2))


def targets(specs: Specs) -> dict[str, Tensor]:
    """What the judge should answer: for each colour kind, place and height, and the background."""
    rows, slots = np.nonzero(np.arange(3)[None, :] < specs.count[:, None])
    colours = specs.colour[rows, slots]
    kind = torch.full((len(specs), len(COLOURS)), ABSENT)
    kind[rows, colours] = torch.from_numpy(specs.kind[rows, slots])
    y, x, height, _ = place(specs)
    where, tall = torch.zeros(len(specs), len(COLOURS), 2), torch.zeros(len(specs), len(COLOURS))
    where[rows, colours] = torch.stack([y, x], dim=2)[rows, slots]
    tall[rows, colours] = height[rows, slots]
    background = torch.from_numpy(specs.background.copy())
    return {"kind": kind, "place": where, "height": tall, "background": background}


def judge_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of kinds, backgrounds and where to look; and the distance of heights."""
    images = batch["images"]
    grain = (0.4 * torch.rand(len(images), 1, 1, 1) - 0.2).clamp(min=0)
    found = model(images + grain * torch.randn_like(images))
    there = batch["kind"] != ABSENT
    loss = F.cross_entropy(found["kind"].flatten(0, 1), batch["kind"].flatten(), reduction="none")
    loss = (loss * (1 + 3 * there.flatten())).mean()  # most colours are absent
    loss = loss + F.cross_entropy(found["background"], batch["background"], ignore_index=-1)
    height_error = F.smooth_l1_loss(found["height"][there], batch["height"][there], beta=0.05)
    share = cell_shares(batch["place"][there], found["weights"].shape[2])  # (M, 64)
    looked = -(share * found["weights"][there].clamp(min=1e-6).log()).sum(dim=1).mean()
    return loss + height_error + 0.2 * looked


def cell_shares(places: Tensor, cells: int) -> Tensor:
    """How places (M, 2) fall between the nearest cells of a square grid: (M, cells), sums of 1."""
    side = round(cells**0.5)
    centres = (torch.arange(side, device=places.device) + 0.5) / side
    near = (1 - side * (places[:, :, None] - centres).abs()).clamp(min=0)  # (M, 2, side)
    share = (near[:, 0, :, None] * near[:, 1, None, :]).flatten(1)
    return share / share.sum(dim=1, keepdim=True)


def train_judge(out: Path, steps: int, seed: int = 0, side: int = 32) -> None:
    """Train the judge on the second half of MNIST's training digits, and write its weights."""
    started = time.perf_counter()
    torch.manual_seed(seed)
    model = JudgeNet(side).to(memory_format=torch.channels_last)
    config = TrainConfig(steps=steps, learning_rate=4e-3, weight_decay=0.05, seed=seed)
    batches = JudgeBatches(side=side, is_bent=side > 32)
    *_, state = train(model, judge_loss, batches, config)
    recalibrate(state.ema_model)
    info = {"steps": steps, "seed": seed, "parameters": sum(p.numel() for p in model.parameters())}
    save_weights(out, state.ema_model, info)
    seconds = round(time.perf_counter() - started, 1)
    trained = {"training_seconds": seconds, "machine": machine(torch.device("cpu"))}
    update_json(out.with_suffix(".json"), info | trained)


@torch.no_grad()
def recalibrate(model: nn.Module, batches: int = 40) -> None:
    """Let the slow copy's normalisations measure their own means and variances."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over what follows
    model.train()
    source = JudgeBatches(seed=2, side=model.side)
    for _ in range(batches):
        model(next(source)["images"])
    model.eval()


def check_judge(weights: Path, count: int = 4000, seed: int = 3, side: int = 32) -> dict:
    """How often the judge is right on rendered scenes of unseen test digits, and on broken ones.

    Args:
        weights: the judge's; the figures go to the .json beside them.
        count: scenes of each world; of each kind of broken picture a quarter as many.
        seed: of the scenes.
        side: height and width of the pictures it is made for.

    Returns:
        for each world n and the accuracy of every attribute; for each kind of broken picture the
        share in which the judge sees nothing.
    """
    model, found = load_judge(side, weights), {}
    for world in ("one", "many"):
        found[world] = attribute_accuracy(model, draw_specs(range(count), "any", world, seed))
    torch.manual_seed(seed)
    specs = draw_specs(range(count // 4), "any", "one", seed)
    images, broken = paint(specs, side, "test"), {}
    for make in BROKEN:
        views = look(make(images, images.roll(1, 0), specs, "test"), model)
        broken[make.__name__] = sum(not view.things for view in views) / len(views)
    result = {"rendered": found, "nothing_seen_in_broken": {"n": count // 4, **broken}}
    update_json(weights.with_suffix(".json"), result)
    return result


def attribute_accuracy(model: JudgeNet, specs: Specs) -> dict[str, float]:
    """Accuracy of each attribute on rendered test digits; `all` is what a caption could ask for."""
    images, truth = paint(specs, model.side, "test"), targets(specs)
    found, views = answers(images, model), look(images, model)
    kind, there = found["kind"].argmax(dim=2), truth["kind"] != ABSENT
    rows = range(len(specs))
    right = [shows(view, specs.scene(row)) for view, row in zip(views, rows, strict=True)]
    many = [row for row in rows if specs.count[row] > 1]
    plain = [replace(specs.scene(row), background=None) for row in rows]
    pairs = [
        shows(view, replace(scene, relation=None)) for view, scene in zip(views, plain, strict=True)
    ]
    result = {
        "n": len(specs),
        "colour": _share((kind != ABSENT) == there),
        "object": _share((kind == truth["kind"])[there]),
        "background": _share(found["background"].argmax(dim=1) == truth["background"]),
        "all": sum(right) / len(right),
    }
    known = [row for row in many if pairs[row]]
    if known:
        result["relation"] = sum(shows(views[row], plain[row]) for row in known) / len(known)
    for name, index in (("zero to nine", slice(0, 10)), ("shapes", slice(10, len(KINDS)))):
        mine = torch.isin(truth["kind"], torch.arange(len(KINDS))[index])
        result[name] = _share((kind == truth["kind"])[mine])
    return {name: round(value, 5) for name, value in result.items()}


def _share(hits: Tensor) -> float:
    """Mean of yes and no; a row of several answers is right when all of them are."""
    return (hits.all(dim=1) if hits.ndim == 2 else hits).float().mean().item()
