"""The reference runs of lesson 4: one network, every sampler, every number of steps, measured.

    python -m t2i.runs.sampler_runs                    # hours; goes on where it was stopped
    python -m t2i.runs.sampler_runs headline           # few cells, 4 times the samples, 3 seeds
    python -m t2i.runs.sampler_runs headline --long    # the same of the network trained longer
    python -m t2i.runs.sampler_runs --count 200 --seeds 1 --steps 5 10 20 --out scratch.json

Each cell (sampler, steps, spacing, seed) goes to data/samplers_cpu.json as soon as it is measured;
the lesson's chart is drawn from there. Its thousand samples a cell show how the lines run, and are
too few to tell 10 %: with another seed the same sampler's distance differs by more than that. So
the headline has a file of its own. Cells of other weights or another count are thrown away.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from t2i.data import mnist
from t2i.diffusion import sample_ddpm
from t2i.dpm_sde import sample_sde_dpmpp_2m
from t2i.dpm_solver import sample_dpmpp_2m
from t2i.engine.batches import stream_seed
from t2i.engine.precision import fastest_precision
from t2i.files.checkpoint import CheckpointError, digest, load_into, load_tensors
from t2i.files.places import DATA
from t2i.files.results import changing_json, figures_in, machine, only_of
from t2i.folded_unet import FoldedUNet
from t2i.lesson import tier
from t2i.metrics import digit_features, frechet_distance, recognisability
from t2i.runs.recipes import LONG_WEIGHTS, WEIGHTS, load_ddpm, recipe
from t2i.samplers import sample_ddim, spaced_timesteps

RESULTS = DATA / "samplers_cpu.json"
STEPS = (5, 10, 20, 50, 250, 1000)
SMOOTH = ("dpmpp_2m", "ddim")
NOISY = ("ddpm", "sde_dpmpp_2m")  # ddpm, respaced, is DDIM with eta = 1 (a test proves it)
SAMPLERS = SMOOTH + NOISY
OTHER_SPACINGS, OTHER_STEPS = ("leading", "linspace"), (5, 10, 20)  # the rest is "trailing"
HEADLINE = DATA / "samplers_headline_cpu.json"
HEADLINE_LONG = DATA / "samplers_headline_long.json"  # the same, of LONG_WEIGHTS
HEADLINE_COUNT, HEADLINE_SEEDS = 4000, 3  # lesson 3's count, so that its 1000 steps serve here
HEADLINE_CELLS = (  # sampler, steps
    ("ddpm", 1000),
    ("ddpm", 50),
    ("dpmpp_2m", 50),
    ("dpmpp_2m", 20),
    ("sde_dpmpp_2m", 20),
)
BATCH = 250
TABLES = ("floor", "cells")


@dataclass(frozen=True)
class Cell:
    """One thing to measure."""

    sampler: str
    steps: int
    spacing: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.sampler}/{self.spacing}/{self.steps}/{self.seed}"


def cells(samplers: tuple[str, ...], steps: tuple[int, ...], seeds: int) -> list[Cell]:
    """Everything to measure, the quick ones first."""
    found = [
        Cell(sampler, n, spacing, seed)
        for n in sorted(steps)
        for seed in range(seeds)
        for spacing in ("trailing", *OTHER_SPACINGS)
        for sampler in samplers
    ]
    return [
        cell
        for cell in found
        if cell.spacing == "trailing" or (cell.steps in OTHER_STEPS and cell.sampler in SMOOTH)
    ]


def headline_cells(seeds: int) -> list[Cell]:
    """What the headline compares, the quick ones first."""
    quick = sorted(HEADLINE_CELLS, key=lambda cell: cell[1])
    return [Cell(name, n, "trailing", seed) for name, n in quick for seed in range(seeds)]


@torch.no_grad()
def draw(sampler: str, model: FoldedUNet, timesteps: Tensor, x_T: Tensor, seed: int) -> Tensor:
    """Samples by one sampler through the given steps, the network in `fastest_precision`.

    Args:
        sampler: "ddpm" (lesson 3's, on the schedule of these steps alone), "ddim", "dpmpp_2m",
            "sde_dpmpp_2m".
        model: called as model(x_t, t), knows its schedule as model.alphas_cumprod.
        timesteps: (N,) int64, descending.
        x_T: (B, C, H, W) noise to start from.
        seed: of the fresh noise that ddpm and sde_dpmpp_2m add.

    Raises:
        ValueError: an unknown sampler.
    """
    ac = model.alphas_cumprod
    bar = tqdm(total=len(timesteps), unit="step", leave=False)
    with bar, fastest_precision(x_T.device):
        watch = {"on_step": lambda *_: bar.update()}
        if sampler == "ddim":
            return sample_ddim(model, x_T, ac, timesteps, **watch)
        if sampler == "dpmpp_2m":
            return sample_dpmpp_2m(model, x_T, ac, timesteps, **watch)
        if sampler not in NOISY:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}")
        generator = torch.Generator(x_T.device).manual_seed(seed)
        if sampler == "sde_dpmpp_2m":
            return sample_sde_dpmpp_2m(model, x_T, ac, timesteps, generator=generator, **watch)
        rising = timesteps.flip(0).to(x_T.device)
        few = ac[rising]
        return sample_ddpm(lambda x, t: model(x, rising[t]), x_T, few, generator, **watch)


class Ruler:
    """Measures samples by their Fréchet distance to real digits, exactly as `metrics.report` does.

    Args:
        n: samples in each crowd.
        seed: which real digits.
    """

    def __init__(self, n: int, seed: int):
        test, _ = mnist("test")
        if not 50 <= n <= len(test) // 2:
            raise ValueError(f"n must lie in [50, {len(test) // 2}], got {n}")
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
        self.reference = digit_features(test[order[len(test) // 2 :]])
        self.floor = self.distance(test[order[:n]])

    def distance(self, images: Tensor) -> float:
        """Fréchet distance of (N, 1, 28, 28) images, clipped to [-1, 1]."""
        return frechet_distance(digit_features(images.clamp(-1, 1)), self.reference)


def measure(cell: Cell, model: FoldedUNet, n: int, ruler: Ruler) -> dict:
    """Draw n samples as the cell says and measure them. Noise depends on the seed alone."""
    device, started = model.alphas_cumprod.device, time.perf_counter()
    timesteps = spaced_timesteps(len(model.alphas_cumprod), cell.steps, cell.spacing)
    parts = []
    for part, size in enumerate([BATCH] * (n // BATCH) + [n % BATCH] * bool(n % BATCH)):
        seed = stream_seed(cell.seed, part)
        x_T = torch.randn(size, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
        parts.append(draw(cell.sampler, model, timesteps, x_T.to(device), seed + 1).cpu())
    seconds = time.perf_counter() - started
    samples = torch.cat(parts)
    return {
        "frechet": round(ruler.distance(samples), 3),
        "recognisability": round(recognisability(samples.clamp(-1, 1)), 4),
        "seconds": round(seconds, 1),
    }


def run(todo: list[Cell], weights: Path, n: int, out: Path) -> dict:
    """Measure what is not yet in the file; write after each cell.

    Returns:
        everything in the file: weights (SHA-256), n, machine, floor by seed, cells by key.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_ddpm(weights)[0].to(device)
    head = {"weights": digest(weights), "n": n}
    rulers: dict[int, Ruler] = {}
    for cell in todo:
        if cell.key in only_of(figures_in(out), head, *TABLES)["cells"]:
            continue
        if cell.seed not in rulers:
            rulers[cell.seed] = Ruler(n, cell.seed)
        ruler = rulers[cell.seed]
        result = _from_lesson_3(cell, weights, head) or measure(cell, model, n, ruler)
        with changing_json(out) as known:
            only_of(known, head, *TABLES)["cells"][cell.key] = result
            known["floor"][str(cell.seed)] = round(ruler.floor, 3)
            known["machine"] = machine(device)
        print(f"{cell.key:28} Fréchet {result['frechet']:8.2f}   {result['seconds']:7.1f} s")
    return only_of(figures_in(out), head, *TABLES)


def _from_lesson_3(cell: Cell, weights: Path, head: dict) -> dict | None:
    """Lesson 3's own figures, if they are of these weights: its 1000 steps need no second run."""
    file = weights.with_suffix(".json")
    if cell.key != "ddpm/trailing/1000/0" or not file.exists():
        return None
    found = json.loads(file.read_text(encoding="utf-8"))
    if any(found.get(name) != value for name, value in head.items()):
        return None
    figures = {name: round(found[name], 4) for name in ("frechet", "recognisability")}
    return figures | {"seconds": found["sampling_seconds"]}


def load_denoiser() -> tuple[FoldedUNet, str]:
    """The learner's own denoiser of lesson 3 if its training came to an end, else the committed.

    Returns:
        model: ready to sample with.
        words: which one it is, for the reader.
    """
    digits = len(mnist("train")[0])  # where there is no MNIST, fewer; part of the file's name
    file = DATA / "runs" / f"lesson_3_{tier()}_{digits}.safetensors"
    if tier() != "smoke" and file.exists():
        try:
            tensors, info = load_tensors(file)
            if info["step"] >= info["config"]["steps"]:
                model = recipe(tier()).build()
                slow = {name[4:]: x for name, x in tensors.items() if name.startswith("ema/")}
                load_into(model, slow, file)
                return model.eval().requires_grad_(False), "the network that you trained"
        except (CheckpointError, KeyError):
            pass  # of another recipe, or half a file: the committed one will do
    return load_ddpm()[0], "the course's own network from lesson 3"


def main() -> None:
    """Measure every sampler at every number of steps with the committed network of lesson 3."""
    name = "python -m t2i.runs.sampler_runs"
    parser = argparse.ArgumentParser(prog=name, description=main.__doc__)
    parser.add_argument("what", nargs="?", choices=("chart", "headline"), default="chart")
    parser.add_argument("--count", type=int, help="samples a cell: 1000, for the headline 4000")
    parser.add_argument("--seeds", type=int, help="repetitions with other noise: 2, or 3")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="of the chart")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SAMPLERS)
    parser.add_argument("--long", action="store_true", help="headline of the long training")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.what == "headline":
        seeds, count = HEADLINE_SEEDS, HEADLINE_COUNT
        weights, out = (LONG_WEIGHTS, HEADLINE_LONG) if options.long else (WEIGHTS, HEADLINE)
        todo = headline_cells(options.seeds or seeds)
    else:
        seeds, count, weights, out = 2, 1000, WEIGHTS, RESULTS
        todo = cells(tuple(options.samplers), tuple(options.steps), options.seeds or seeds)
    run(todo, options.weights or weights, options.count or count, options.out or out)


if __name__ == "__main__":
    main()
