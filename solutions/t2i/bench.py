"""Bench: are our networks as fast as diffusers' of the same size, on this machine, now?

Lesson 2's UNet beside UNet2DModel, lesson 6's TextUNet beside UNet2DConditionModel, lesson 9's DiT
beside DiTTransformer2DModel. Both of a pair have the same weights, and must give the same numbers
before anything is timed. The two take turns; a ratio below 1 is in our favour.

    python -m t2i.bench [--json FILE] [--only dit]         (the same as `make bench`)

On a GPU the sizes are larger, and both run in bfloat16, compiled, with channels last.
"""

import argparse
import json
import os
import platform
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from tqdm.auto import tqdm

from t2i.bench_pairs import PAIRS, build_pair, largest_difference
from t2i.bench_speed import Settings, peak_flops, time_pair
from t2i.checkpoint import write_atomically
from t2i.recipes import noise_loss, recipe
from t2i.training import Batches, train


def compare(
    name: str, how: Settings, runs: int = 5, steps: int = 3, batch_size: int | None = None
) -> dict:
    """One of our networks beside diffusers'.

    Args:
        name: "unet", "text_unet" or "dit".
        how: see Settings; on a GPU the pair is the large one.
        runs, steps: as in time_pair.
        batch_size: rows of a batch; None: what suits the size.

    Raises:
        ValueError: the two do not give the same numbers.
    """
    pair = build_pair(name, how.device.type == "cuda", batch_size)
    difference = largest_difference(pair)
    return {
        "title": pair.title,
        "batch_size": len(pair.inputs[0]),
        "parameters": {who: count_parameters(model) for who, model in pair.models.items()},
        "largest_difference": difference,
        "runs": runs,
        **time_pair(pair, how, runs, steps),
    }


def count_parameters(model: torch.nn.Module) -> int:
    """Learnt numbers of a network."""
    return sum(parameter.numel() for parameter in model.parameters())


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
    console = Console()
    for found in result["pairs"].values():
        table = Table(title=f"{found['title']}, batch {found['batch_size']}")
        for column in ("step", "ours", "diffusers", "ratio", "own time", "GFLOP/s", "MFU"):
            table.add_column(column, justify="left" if column == "step" else "right")
        for kind in ("training", "sampling"):
            values = found[kind]
            share, own = values["model_flop_utilisation"], values["processor_ratio"]
            table.add_row(
                kind,
                *(spread(values["seconds"][who]) for who in ("ours", "diffusers")),
                f"{values['ratio']:.3f}",
                "" if own is None else f"{own:.3f}",
                f"{values['model_flops_per_second'] / 1e9:.0f}",
                "unknown" if share is None else f"{share:.1%}",
            )
        console.print(table)
        compiled = "compiled" if found["compiled"] else "not compiled"
        console.print(f"same numbers to {found['largest_difference']:.1g}; both {compiled}")
    for tier, speed in result["recipe_images_per_second"].items():
        console.print(f"lesson 3, {tier} recipe: {speed:.0f} training images a second")
    console.print(result["machine"])
    console.print(result["note"])


def spread(seconds: list[float]) -> str:
    """The median over the runs, and the fastest and slowest of them."""
    low, middle, high = (1000 * of(seconds) for of in (min, statistics.median, max))
    digits = 0 if middle >= 100 else 2
    return f"{middle:.{digits}f} ms\n({low:.{digits}f} to {high:.{digits}f})"


def describe(how: Settings) -> dict:
    """The machine and how the networks are run on it, in words."""
    on_gpu = how.device.type == "cuda"
    name = torch.cuda.get_device_name(how.device) if on_gpu else platform.machine()
    layout = "channels last" if how.channels_last else "channels first"
    number = "bfloat16 by autocast" if how.bfloat16 else "float32"
    peak = peak_flops(how.device)
    note = f"{number}, {layout}, fused AdamW. MFU (model FLOP utilisation): "
    if peak:
        note += f"of {peak / 1e12:.0f} TFLOP/s, {name}'s peak for dense bfloat16."
    else:
        note += f"unknown, for no peak of {name} is in bench_speed.PEAK_FLOPS."
    if not on_gpu:
        note += " Own time: the ratio of the processor's seconds, whatever else ran meanwhile."
    return {
        "machine": f"{name}, {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, Python {platform.python_version()}",
        "note": note,
    }


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m t2i.bench", description=__doc__)
    parser.add_argument("--only", choices=list(PAIRS), help="this pair alone")
    parser.add_argument("--runs", type=int, default=5, help="alternating runs")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each in a run")
    parser.add_argument("--batch-size", type=int, help="rows of a batch")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    how = Settings.for_device(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    names = [options.only] if options.only else list(PAIRS)
    result: dict = describe(how) | {"pairs": {}, "recipe_images_per_second": {}}
    try:
        for name in tqdm(names, unit="pair"):
            result["pairs"][name] = compare(
                name, how, options.runs, options.steps, options.batch_size
            )
    except ValueError as error:
        sys.exit(str(error))
    if not options.only:
        for tier in ("cpu", "gpu") if how.device.type == "cuda" else ("cpu",):
            result["recipe_images_per_second"][tier] = recipe_speed(tier, how.device)
    show(result)
    if options.json:
        write_atomically(options.json, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
