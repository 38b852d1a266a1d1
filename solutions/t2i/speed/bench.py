"""Bench: are our networks as fast as diffusers' of the same size, on this machine, now?

Lesson 2's UNet beside UNet2DModel, lesson 6's TextUNet beside UNet2DConditionModel, lesson 7's text
encoder beside transformers' CLIPTextModel, lesson 8's autoencoder beside AutoencoderKL, lesson 9's
DiT beside DiTTransformer2DModel. Both of a pair have the same weights, and must give the same
numbers before anything is timed. The two take turns; a ratio below 1 is in our favour.

    python -m t2i.speed.bench [--json FILE] [--only dit vae]     (the same as `make bench`)

On a GPU there are two sizes, up to Stable Diffusion 1.5's and DiT-B/2, eager and compiled, both
networks in bfloat16 with channels last; and lesson 10's whole call. What is measured is printed,
and written, row by row: `--budget 200` begins no row after 200 seconds.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from t2i.engine.bounded import at_most
from t2i.files.checkpoint import write_atomically
from t2i.runs.text_to_image_recipes import CHECKPOINT
from t2i.speed.bench_clock import matmul_rate, plain_float32
from t2i.speed.bench_rows import MODES, NAMES, Job, Row, measure, plan, tidy
from t2i.speed.bench_sizes import SIZES

UNBOUNDED = 1e6  # seconds
BOTH = ("ours", "diffusers")


def show(console: Console, found: dict) -> None:
    """Print what was measured of a row."""
    if "training" not in found:
        console.print(f"{found['title']}: {found['images_per_second']:.0f} images a second")
        return
    lines = {kind: cells(found[kind]) for kind in ("training", "sampling")}
    table = Table(title=f"{found['title']}, batch {found['batch_size']}")
    table.add_column("step")
    for column in lines["training"]:
        table.add_column(column, justify="right")
    for kind, line in lines.items():
        table.add_row(kind, *line.values())
    console.print(table)
    console.print(f"same numbers to {found['largest_difference']:.1g}")


def cells(values: dict) -> dict[str, str]:
    """One line of a table, by column; a processor's tells other things than a GPU's."""
    seconds = (spread(values["seconds"][who]) for who in BOTH)
    line = dict(zip(("ours", "theirs"), seconds, strict=True)) | {"ratio": f"{values['ratio']:.3f}"}
    if values["processor_ratio"] is not None:
        line["own time"] = f"{values['processor_ratio']:.3f}"
    line["images/s"] = "\n".join(f"{values['images_per_second'][who]:.0f}" for who in BOTH)
    memory = [values["peak_memory_bytes"][who] for who in BOTH]
    if None not in memory:
        line["GB"] = "\n".join(f"{each / 1e9:.2f}" for each in memory)
    line["GFLOP/s"] = f"{values['model_flops_per_second'] / 1e9:.0f}"
    if values["model_flop_utilisation"] is not None:
        line["MFU"] = f"{values['model_flop_utilisation']:.1%}"
    return line


def spread(seconds: list[float]) -> str:
    """The median over the runs, and the fastest and slowest of them."""
    low, middle, high = (1000 * of(seconds) for of in (min, statistics.median, max))
    digits = 0 if middle >= 100 else 2
    return f"{middle:.{digits}f} ms\n{low:.{digits}f} to {high:.{digits}f}"


def describe(device: torch.device, peak: float | None) -> dict:
    """The machine and how the networks are run on it, in words.

    Args:
        device: where they run.
        peak: operations a second of its matrix product; None: not measured.
    """
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else platform.machine()
    note = "float32, channels first, fused AdamW. Model FLOP utilisation (MFU) is unknown. "
    note += "Own time: the ratio of the processor's seconds, whatever else ran meanwhile."
    if on_gpu:
        note = (
            "Training: bfloat16 by autocast, fused AdamW. Sampling: weights in bfloat16. UNets "
            "and VAEs channels last, no TF32. Compiled: the repeated blocks of both "
            "(transformer blocks; residual ones where there are none), dynamic=False. The VAE "
            "goes there and back in both steps. Real sizes agree to 1e-4 of the largest output, "
            "in float32. Time by device events. MFU (model FLOP utilisation): of "
            f"{(peak or 0) / 1e12:.0f} TFLOP/s, this card's own rate for random 8192 × 8192 "
            "matrices in bfloat16."
        )
    return {
        "machine": f"{name}, {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, Python {platform.python_version()}",
        "note": note,
        "matmul_flops_per_second": peak,
    }


def measured(rows: list[Row], job: Job, budget: float, result: dict) -> Iterator[dict]:
    """Measure row by row into `result`; what goes wrong in one does not keep another from it.

    Args:
        rows, job: as in measure.
        budget: seconds, after which no row is begun, and the last one ends.
        result: what was measured is added to its rows, what was not to `errors` and `skipped`.

    Yields:
        what was measured of each row; {} where nothing was.
    """
    end = time.monotonic() + budget
    for row in rows:
        left, started = end - time.monotonic(), time.monotonic()
        if left <= 0:
            result["skipped"].append(str(row))
            yield {}
            continue
        print(f"{row} …", flush=True)
        found: dict = {}
        try:
            with at_most(min(left, UNBOUNDED)):
                found = measure(row, job)
            result["rows"][str(row)] = found | {"took": time.monotonic() - started}
        except Exception as error:  # out of memory, no compiler, other numbers
            told = f"{type(error).__name__}: {error!s:.500}"
            if time.monotonic() >= end:  # a compiler has its own name for a TimeoutError
                result["skipped"].append(f"{row} (not done in the {left:.0f} seconds left)")
            else:
                result["errors"][str(row)] = told
                print(f"{row} failed, and the next one follows: {told:.200}", flush=True)
        tidy(job.device)
        yield found


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m t2i.speed.bench", description=__doc__)
    names = [name for name in NAMES if gpu or name != "capstone"]
    parser.add_argument("--only", nargs="+", choices=NAMES, default=names, help="these alone")
    sizes = ["small", "real"] if gpu else ["tiny"]
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=sizes)
    modes = list(MODES) if gpu else ["eager"]
    parser.add_argument("--modes", nargs="+", choices=MODES, default=modes)
    parser.add_argument("--budget", type=float, default=UNBOUNDED, help="seconds for all of it")
    parser.add_argument("--runs", type=int, default=5, help="alternating runs")
    parser.add_argument("--steps", type=int, default=1 if gpu else 3, help="turns in a run")
    parser.add_argument("--batch-size", type=int, help="rows of a batch")
    parser.add_argument("--model", type=Path, default=CHECKPOINT, help="the capstone's folder")
    parser.add_argument("--json", type=Path, help="write the result to this file, row by row")
    return parser.parse_args(arguments)


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    options = options_of()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plain_float32()
    peak = matmul_rate(device) if device.type == "cuda" else None
    job = Job(device, options.runs, options.steps, options.batch_size, peak, options.model)
    result: dict = describe(device, peak) | {"rows": {}, "errors": {}, "skipped": []}
    console = Console()
    console.print(result["machine"], result["note"], sep="\n")
    rows = plan(options.only, options.sizes, options.modes, device.type == "cuda")
    for found in measured(rows, job, options.budget, result):
        if found:
            show(console, found)
        if options.json:
            write_atomically(options.json, (json.dumps(result, indent=2) + "\n").encode())
    if result["skipped"]:
        print("Not measured, for the time was spent: " + "; ".join(result["skipped"]))
    if result["errors"]:
        sys.exit("\n".join(f"{row}: {error}" for row, error in result["errors"].items()))


if __name__ == "__main__":
    main()
