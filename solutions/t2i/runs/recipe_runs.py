"""The reference runs of lesson 3's recipes: train, sample with the true sampler, measure.

Called by `python -m t2i.runs.recipes train`, `time` and `evaluate`; what they find goes to the JSON
file beside the weights, from which the lesson's own table is made.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from t2i.data import mnist
from t2i.diffusion import sample_ddpm
from t2i.engine.batches import Batches, stream_seed
from t2i.engine.precision import fastest_precision
from t2i.files.checkpoint import digest, save_weights
from t2i.files.places import DATA
from t2i.files.results import changing_json, machine, peak_memory, update_json
from t2i.folded_unet import FoldedUNet, digit_loss
from t2i.lesson import TIERS
from t2i.metrics import check_count, print_report, report
from t2i.runs.recipes import load_ddpm, recipe
from t2i.training import train

OF_OTHERS = ("batch_sizes",)  # what is measured of other weights than the file's own


def train_recipe(tier: str, out: Path, device: torch.device) -> dict:
    """Train a tier's recipe on MNIST, write weights (fp16) and how the training went (JSON)."""
    plan = recipe(tier)
    batches = Batches(mnist("train")[0], batch_size=plan.batch_size)
    return train_weights(plan, batches, digit_loss, out, device, tier=tier)


def train_weights(
    plan: Any, batches: Any, loss_fn: Callable, out: Path, device: torch.device, **info: Any
) -> dict:
    """Train the network of a recipe of any lesson; write its slow copy and how it went.

    Args:
        plan: has build(), batch_size and training, like Recipe.
        batches, loss_fn: as train takes them.
        out: the file of the weights (fp16); the figures go to the .json beside it.
        device: where to train.
        **info: what else to write down with the weights; `tier` is needed to load them again.

    Returns:
        what was written to the JSON file: info, machine, seconds, memory, losses.
    """
    started = time.perf_counter()
    state_file = out.with_suffix(".run.safetensors")
    state_file.unlink(missing_ok=True)  # the time of a resumed run would say too little
    model, losses = plan.build().to(device), []
    for state in train(model, loss_fn, batches, plan.training, checkpoint=state_file):
        losses.append(state.loss)
    seconds = time.perf_counter() - started
    info |= {
        "steps": plan.training.steps,
        "images_seen": plan.training.steps * plan.batch_size,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    save_weights(out, state.ema_model, info)
    state_file.unlink()
    result = info | {
        "machine": machine(device),
        "training_seconds": round(seconds, 1),
        "peak_memory_bytes": peak_memory(device),
        "losses": curve(losses),
    }
    with changing_json(out.with_suffix(".json")) as known:
        kept = {name: known[name] for name in OF_OTHERS if name in known}
        known.clear()  # whatever else stood there was measured of the weights before these
        known |= result | kept
    return result


def time_training(runs: Any, tier: str, weights: Path, device: torch.device) -> dict:
    """Train once more into a folder that is thrown away, and write down only how long it took.

    The weights stay, and all that was measured of them. Run it while nothing else runs.

    Args:
        runs: has train_recipe, like this module.
        tier: of the recipe.
        weights: the file of the weights; the clock's figures go to the .json beside it.
        device: where to train.

    Returns:
        machine, training_seconds and peak_memory_bytes, as they were written down.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = runs.train_recipe(tier, Path(folder) / weights.name, device)
    clock = {name: found[name] for name in ("machine", "training_seconds", "peak_memory_bytes")}
    update_json(weights.with_suffix(".json"), {"clock": clock})
    return clock


def evaluate(path: Path, count: int, device: torch.device, seed: int = 0) -> dict:
    """Sample with all 1000 steps of DDPM, measure, and add the figures to the JSON file.

    Args:
        path: the weights; the samples' figures go to the .json beside them.
        count: samples, 1000 or more for figures to quote.
        seed: of the noise.

    Raises:
        ValueError: fewer than 100, or more than half of the test set.
    """
    check_count(count, len(mnist("test")[0]))
    model, started = load_ddpm(path)[0].to(device), time.perf_counter()
    sizes = [250] * (count // 250) + [count % 250] * bool(count % 250)
    parts = [draw(model, size, stream_seed(seed, part)) for part, size in enumerate(sizes)]
    seconds = time.perf_counter() - started
    measured = report(torch.cat(parts), seed)
    print_report(measured)
    result = {"weights": digest(path), "sampling_seconds": round(seconds, 1)}
    result |= {"sampling_machine": machine(device)}
    result |= asdict(measured)
    update_json(path.with_suffix(".json"), result)
    return result


def draw(model: FoldedUNet, size: int, seed: int) -> Tensor:
    """`size` samples with every step of the schedule, the network in `fastest_precision`.

    The seed alone decides which. They come back to the CPU.
    """
    ac = model.alphas_cumprod
    generator = torch.Generator(ac.device).manual_seed(seed)
    x_T = torch.randn(size, 1, 28, 28, generator=generator, device=ac.device)
    bar = tqdm(total=len(ac), unit="step", desc=f"{size} samples")
    with bar, fastest_precision(ac.device):
        samples = sample_ddpm(model, x_T, ac, generator, on_step=lambda *_: bar.update())
    return samples.cpu()


def command_line(
    module: str, runs: Any, name: str, count: int, counted: str, tiers: Sequence[str] = TIERS
) -> None:
    """What `python -m t2i.runs.recipes` and its sisters do: train a recipe, time that, or measure.

    Args:
        module: its name, for the help text.
        runs: has train_recipe and evaluate, like this module.
        name: of the weights: data/NAME_TIER.safetensors.
        count: how many to measure, if nothing else is asked for.
        counted: of what, in words.
        tiers: that have a recipe.
    """
    about = "Train a recipe, time its training, or measure the weights that came out."
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("command", choices=("train", "time", "evaluate"))
    parser.add_argument("--tier", choices=tiers, default="cpu")
    parser.add_argument("--weights", type=Path, help=f"file of the weights (data/{name}_TIER…)")
    parser.add_argument("--count", type=int, default=count, help=counted)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    weights = options.weights or DATA / f"{name}_{options.tier}.safetensors"
    if options.command == "train":
        result = runs.train_recipe(options.tier, weights, device)
    elif options.command == "time":
        result = time_training(runs, options.tier, weights, device)
    else:
        result = runs.evaluate(weights, options.count, device)
    print(json.dumps({key: value for key, value in result.items() if key != "losses"}, indent=1))


def curve(losses: list[float], points: int = 60) -> list[tuple[int, float]]:
    """(step, mean loss since the point before), about `points` of them."""
    stride = max(1, round(len(losses) / points))
    ends = range(stride, len(losses) + 1, stride)
    return [(end, round(sum(losses[end - stride : end]) / stride, 5)) for end in ends]
