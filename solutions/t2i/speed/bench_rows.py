"""Bench: which rows there are, the most telling first, and how one of them is measured.

rows = plan(["dit"], ["small", "real"], ["eager", "compiled"])
measure(rows[0], Job(device))  # {"title": ..., "training": {...}, "sampling": {...}}
"""

import gc
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch

from t2i.engine.precision import fastest_precision
from t2i.engine.recorded import compile_blocks
from t2i.folded_unet import noise_loss
from t2i.runs.recipes import recipe
from t2i.runs.text_to_image_recipes import CHECKPOINT
from t2i.speed.bench_clock import peak_bytes, timed
from t2i.speed.bench_pairs import PAIRS, build_pair, largest_difference
from t2i.speed.bench_sizes import NETWORKS
from t2i.speed.bench_speed import Settings, time_pair
from t2i.training import Batches, train
from t2i.world.captions import COLOURS, DIGITS

MODES = ("eager", "compiled")
NAMES = (*PAIRS, "capstone", "recipe")
PICTURES, WALK = 512, 20  # the capstone's: pictures of a call, steps of each


class Row(NamedTuple):
    """What is measured: a pair at a size in a mode; the capstone in a mode; a tier's recipe."""

    name: str
    size: str = ""
    mode: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in self if part)


FIRST = tuple(
    Row(*told)
    for told in (
        ("dit", "real", "compiled"),
        ("capstone", "", "compiled"),
        ("dit", "real", "eager"),
        ("text_unet", "real", "eager"),
        ("vae", "real", "eager"),
        ("clip", "real", "eager"),
        ("text_unet", "small", "eager"),
        ("dit", "small", "eager"),
        ("vae", "small", "eager"),
        ("clip", "small", "eager"),
        ("unet", "small", "eager"),
        ("clip", "real", "compiled"),
        ("text_unet", "real", "compiled"),
        ("dit", "small", "compiled"),
        ("clip", "small", "compiled"),
        ("text_unet", "small", "compiled"),
    )
)


@dataclass(frozen=True)
class Job:
    """How all rows are measured.

    Args:
        device: where.
        runs: alternating runs.
        steps: turns of each network in a run.
        batch_size: rows of a batch; None: what suits each size.
        peak_flops: operations a second that the device can do; None: not known.
        model: the capstone's folder.
    """

    device: torch.device
    runs: int = 5
    steps: int = 3
    batch_size: int | None = None
    peak_flops: float | None = None
    model: Path = CHECKPOINT


def plan(
    names: Sequence[str], sizes: Sequence[str], modes: Sequence[str], gpu: bool = False
) -> list[Row]:
    """The rows of these names, sizes and modes, the most telling first.

    Args:
        names: of NAMES.
        sizes: of SIZES; left out where a network has none such.
        modes: of MODES.
        gpu: with the GPU's recipe, which takes long on a processor.
    """
    pairs = (Row(name, size, mode) for mode, size, name in product(modes, sizes, PAIRS))
    rows = [row for row in pairs if row.size in NETWORKS[row.name]]
    rows += [Row("capstone", mode=mode) for mode in modes]
    rows += [Row("recipe", "cpu"), *([Row("recipe", "gpu")] if gpu else [])]
    wanted = [row for row in rows if row.name in names]
    return sorted(wanted, key=lambda row: FIRST.index(row) if row in FIRST else len(FIRST))


def measure(row: Row, job: Job) -> dict:
    """What one row comes to.

    Raises:
        ValueError: the two of a pair do not give the same numbers.
    """
    if row.name == "capstone":
        return capstone(job, row.mode == "compiled")
    if row.name == "recipe":
        speed = recipe_speed(row.size, job.device)
        return {"title": f"lesson 3, {row.size} recipe, training", "images_per_second": speed}
    return compare(row, job)


def tidy(device: torch.device) -> None:
    """Nothing of the last row stays in the memory."""
    if "torch._dynamo" in sys.modules:  # only where something was compiled
        torch._dynamo.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def compare(row: Row, job: Job) -> dict:
    """One of our networks beside diffusers' or transformers'.

    Raises:
        ValueError: the two do not give the same numbers.
    """
    pair = build_pair(row.name, row.size, job.batch_size, job.device)
    difference = largest_difference(pair)
    how = Settings.for_device(job.device, row.mode == "compiled")
    return {
        "title": f"{pair.title}, {row.mode}",
        "batch_size": len(pair.inputs[0]),
        "parameters": {who: count_parameters(model) for who, model in pair.models.items()},
        "largest_difference": difference,
        "runs": job.runs,
        **time_pair(pair, how, job.runs, job.steps, job.peak_flops),
    }


def count_parameters(model: torch.nn.Module) -> int:
    """Learnt numbers of a network."""
    return sum(parameter.numel() for parameter in model.parameters())


def capstone(job: Job, compiled: bool = False) -> dict:
    """Lesson 10's whole call, from prompts to PIL pictures, with guidance, in WALK steps."""
    from t2i.text_to_image import TextToImage

    pipe = TextToImage.from_pretrained(job.model).to(job.device)
    if compiled:
        compile_blocks(pipe.transformer)
    told = [f"a {colour} {digit}" for digit, colour in product(DIGITS, COLOURS)]
    prompts = [told[i % len(told)] for i in range(job.batch_size or PICTURES)]

    def draw(seed: int) -> None:
        with fastest_precision(job.device):
            pictures = pipe(prompts, num_inference_steps=WALK, seed=seed)
        assert len(pictures) == len(prompts)

    draw(0)
    parts = (pipe.text, pipe.transformer, pipe.space)
    kept = [each for part in parts for each in part.state_dict().values()]
    memory = peak_bytes(draw, 1, kept, job.device)
    seconds = [
        spent.wall for run in range(2, job.runs + 2) for spent in timed(draw, [run], job.device)
    ]
    return {
        "title": f"lesson 10, a call: {len(prompts)} prompts, {WALK} steps, guided"
        + (", compiled" if compiled else ""),
        "compiled": compiled,
        "batch_size": len(prompts),
        "seconds": seconds,
        "images_per_second": len(prompts) / statistics.median(seconds),
        "peak_memory_bytes": memory,
    }


def recipe_speed(tier: str, device: torch.device, steps: int = 12) -> float:
    """Training images a second with the recipe of lesson 3: the median over some steps."""
    plan = recipe(tier)
    images = torch.randn(2 * plan.batch_size, 1, 28, 28)
    batches = Batches(images, batch_size=plan.batch_size)
    config = replace(plan.training, steps=steps)  # the recipe's own optimisers
    states = train(plan.build().to(device), noise_loss, batches, config, progress=False)
    return statistics.median(state.images_per_second for state in list(states)[2:])
