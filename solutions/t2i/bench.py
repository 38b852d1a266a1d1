"""Bench: is our UNet as fast as diffusers' of the same size, on this machine, now?

Both have the same weights and take the same training step (forward, loss, backward, AdamW). The
runs alternate, so that whatever else the machine does falls on both; the median is reported.

    python -m t2i.bench [--json FILE]         (the same as `make bench`)
"""

import argparse
import json
import os
import platform
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from t2i.checkpoint import write_atomically
from t2i.convert import unet2d_state_dict
from t2i.recipes import noise_loss, recipe
from t2i.training import Batches, train
from t2i.unet import UNet

BLOCK_CHANNELS, LAYERS, LEVELS, HEAD = (64, 128), 2, (False, True), 32


class Plain(nn.Module):
    """diffusers' model, called as ours is: model(x_t, t) gives a tensor."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.model(x_t, t).sample


def same_models() -> tuple[nn.Module, nn.Module]:
    """Our UNet and diffusers' UNet2DModel, of one size, with one set of weights."""
    from diffusers import UNet2DModel  # takes seconds to import, and only the bench needs it

    torch.manual_seed(0)
    theirs = UNet2DModel(
        in_channels=1,
        out_channels=1,
        block_out_channels=BLOCK_CHANNELS,
        layers_per_block=LAYERS,
        down_block_types=["AttnDownBlock2D" if look else "DownBlock2D" for look in LEVELS],
        up_block_types=["AttnUpBlock2D" if look else "UpBlock2D" for look in reversed(LEVELS)],
        attention_head_dim=HEAD,
    )
    ours = UNet(1, 1, BLOCK_CHANNELS, LAYERS, LEVELS, HEAD)
    ours.load_state_dict(unet2d_state_dict(theirs.state_dict()))
    return ours, Plain(theirs)


def seconds_per_step(model: nn.Module, images: Tensor, steps: int) -> float:
    """Median time of one training step.

    Args:
        model: called as model(x_t, t).
        images: (B, C, H, W) the batch of every step.
        steps: timed steps, after one that is not timed.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    noise, t = torch.randn_like(images), torch.randint(1000, (len(images),), device=images.device)
    times = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        F.mse_loss(model(images, t), noise).backward()
        optimizer.step()
        optimizer.zero_grad()
        if images.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def compare(runs: int, batch_size: int, steps: int, device: torch.device) -> dict:
    """Alternate our UNet and diffusers', and compare the medians over the runs."""
    models = dict(zip(("ours", "diffusers"), same_models(), strict=True))
    images = torch.randn(batch_size, 1, 28, 28, device=device)
    times = {name: [] for name in models}
    for run in range(runs):
        order = ("ours", "diffusers") if run % 2 == 0 else ("diffusers", "ours")
        for name in order:  # who is first changes too
            times[name].append(seconds_per_step(models[name].to(device), images, steps))
    ours, theirs = statistics.median(times["ours"]), statistics.median(times["diffusers"])
    return {
        "runs": runs,
        "batch_size": batch_size,
        "seconds": times,
        "ours_median": ours,
        "diffusers_median": theirs,
        "ratio": ours / theirs,
    }


def recipe_speed(tier: str, device: torch.device, steps: int = 12) -> float:
    """Training images a second with the recipe of lesson 3: the median over some steps."""
    plan = recipe(tier)
    images = torch.randn(2 * plan.batch_size, 1, 28, 28)
    batches = Batches(images, batch_size=plan.batch_size)
    config = replace(plan.training, steps=steps)  # the recipe's own optimisers
    states = train(plan.build().to(device), noise_loss, batches, config, progress=False)
    return statistics.median(state.images_per_second for state in list(states)[2:])


def show(result: dict) -> None:
    """Print what was measured."""
    table = Table(title=f"One training step, batch {result['unet']['batch_size']}")
    for name in ("model", "median", "each run"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for name in ("ours", "diffusers"):
        each = " ".join(f"{1000 * value:.0f}" for value in result["unet"]["seconds"][name])
        median = result["unet"][f"{name}_median"]
        table.add_row(f"{name}: UNet {BLOCK_CHANNELS}", f"{1000 * median:.0f} ms", f"{each} ms")
    console = Console()
    console.print(table)
    console.print(f"ratio ours / diffusers: {result['unet']['ratio']:.3f}")
    for tier, speed in result["recipe_images_per_second"].items():
        console.print(f"lesson 3, {tier} recipe: {speed:.0f} training images a second")
    console.print(result["machine"])


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m t2i.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each model")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5, help="timed steps in a run")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tiers = ("cpu", "gpu") if device.type == "cuda" else ("cpu",)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    result = {
        "machine": f"{name}, {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, Python {platform.python_version()}",
        "unet": compare(options.runs, options.batch_size, options.steps, device),
        "recipe_images_per_second": {tier: recipe_speed(tier, device) for tier in tiers},
    }
    show(result)
    if options.json:
        write_atomically(options.json, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
