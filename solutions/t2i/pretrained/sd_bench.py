"""Stable Diffusion by our code and by diffusers: the same numbers, in what time and memory?

    python -m t2i.pretrained.sd_bench                   # random weights, true sizes: 4.3 GB
    python -m t2i.pretrained.sd_bench --model FOLDER    # any folder in diffusers' layout
    python -m t2i.pretrained.sd_bench --tiny            # seconds; says nothing about speed

Each draws in a process of its own, by turns, so neither has the other's memory. Peak memory is the
most that the process held, files that it has mapped counted in. A ratio below 1 is in our favour.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file

from t2i.files.checkpoint import write_atomically
from t2i.files.results import machine, peak_memory

WHO = ("ours", "diffusers")
PROMPT, NEGATIVE, GUIDANCE = "a red seven above a blue star", "grey", 7.5
SIDE = 512
TOLERANCE = 1e-4
ROWS = {
    "loading": "load, seconds",
    "text": "read the prompts, seconds",
    "step": "a step, seconds",
    "step_own": "a step, processor's seconds",
    "decoding": "decode the picture, seconds",
    "loaded": "loaded, above the imports', GB",
    "peak": "peak memory, GB",
    "above_imports": "peak above the imports', GB",
}


class Watch:
    """Seconds since the last look, by the clock and of the processor."""

    def __init__(self):
        self.look()

    def look(self) -> tuple[float, float]:
        now = time.perf_counter(), time.process_time()
        before, self.last = getattr(self, "last", now), now
        return now[0] - before[0], now[1] - before[1]


@torch.no_grad()
def draw_ours(folder: Path, steps: int, side: int) -> dict:
    """Draw with our code; what was measured, and the tensors."""
    from t2i.pretrained.stable_diffusion import StableDiffusion

    imports, watch, times = peak_memory(), Watch(), []
    sd = StableDiffusion.from_pretrained(folder)
    loading = (*watch.look(), peak_memory() - imports)
    words = sd.read([PROMPT, NEGATIVE])
    text = watch.look()
    z_0 = sd.walk(
        sd.noise(1, (side, side), torch.Generator().manual_seed(0)),
        words[:1],
        words[1],
        sd.schedule.timesteps("ddim", steps),
        GUIDANCE,
        "ddim",
        lambda *_: times.append(watch.look()),
    )
    pictures = sd.decode(z_0)
    return _measured(imports, loading, text, times, watch.look(), z_0, pictures)


@torch.no_grad()
def draw_theirs(folder: Path, steps: int, side: int) -> dict:
    """The same with diffusers' pipeline."""
    from diffusers import DDIMScheduler
    from diffusers import StableDiffusionPipeline as Theirs

    imports, watch, times = peak_memory(), Watch(), []
    pipe = Theirs.from_pretrained(folder, dtype=torch.float32, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    loading = (*watch.look(), peak_memory() - imports)
    wanted, unwanted = pipe.encode_prompt(PROMPT, "cpu", 1, True, NEGATIVE)
    text = watch.look()

    def look(_, __, ___, told):
        times.append(watch.look())
        return told

    z_0 = pipe(
        prompt_embeds=wanted,
        negative_prompt_embeds=unwanted,
        height=side,
        width=side,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        callback_on_step_end=look,
    ).images
    watch.look()
    pictures = pipe.vae.decode(z_0 / pipe.vae.config.scaling_factor, return_dict=False)[0]
    return _measured(imports, loading, text, times, watch.look(), z_0, pictures)


def _measured(imports, loading, text, times, decoding, z_0, pictures) -> dict:
    later = times[1:] or times  # the first step reads the weights from the disk
    return {
        "loading": loading[0],
        "text": text[0],
        "step": statistics.median(wall for wall, _ in later),
        "step_own": statistics.median(own for _, own in later),
        "decoding": decoding[0],
        "loaded": loading[2] / 1e9,
        "peak": peak_memory() / 1e9,
        "above_imports": (peak_memory() - imports) / 1e9,
        "tensors": {"z_0": z_0.contiguous(), "pictures": pictures.contiguous()},
    }


def one(who: str, folder: Path, steps: int, side: int, out: Path) -> None:
    """In a process of its own: draw, and leave tensors and figures in `out`."""
    found = (draw_ours if who == "ours" else draw_theirs)(folder, steps, side)
    save_file(found.pop("tensors"), out.with_suffix(".safetensors"))
    out.write_text(json.dumps(found), encoding="utf-8")


def compare(folder: Path, steps: int, side: int, rounds: int) -> dict:
    """Both by turns, each in a new process.

    Args:
        folder: in diffusers' layout.
        steps: of DDIM; the median of all but the first counts.
        side: of the picture in pixels.
        rounds: pictures that each draws.

    Returns:
        figures: of each, a list a row of ROWS; largest_difference of latents and of pictures;
            steps, side and machine.

    Raises:
        ValueError: the two do not draw the same.
    """
    figures: dict = {who: {row: [] for row in ROWS} for who in WHO}
    with TemporaryDirectory() as scratch:
        for turn in range(rounds):
            for who in WHO if turn % 2 == 0 else reversed(WHO):
                out = Path(scratch, f"{who}.json")
                options = ["--one", who, "--model", folder, "--out", out, "--steps", steps]
                options += ["--side", side]
                command = [sys.executable, "-m", "t2i.pretrained.sd_bench", *options]
                subprocess.run([str(part) for part in command], check=True)
                for row, value in json.loads(out.read_text(encoding="utf-8")).items():
                    figures[who][row].append(value)
        ours, theirs = (load_file(Path(scratch, f"{who}.safetensors")) for who in WHO)
    difference = {name: (ours[name] - theirs[name]).abs().max().item() for name in ours}
    wrong = {name: far for name, far in difference.items() if not far <= TOLERANCE}
    if wrong:
        raise ValueError(f"The two do not draw the same: they lie {wrong} apart.")
    return {
        "figures": figures,
        "largest_difference": difference,
        "steps": steps,
        "side": side,
        "machine": machine(torch.device("cpu")),
    }


def show(result: dict) -> None:
    """Print what was measured."""
    console, figures = Console(), result["figures"]
    table = Table("", *WHO, "ratio", title=f"{result['side']} × {result['side']} pixels, DDIM")
    for row, words in ROWS.items():
        middle = [statistics.median(figures[who][row]) for who in WHO]
        spread = [f"{min(figures[who][row]):.2f} to {max(figures[who][row]):.2f}" for who in WHO]
        cells = [f"{value:.2f}\n({both})" for value, both in zip(middle, spread, strict=True)]
        table.add_row(words, *cells, f"{middle[0] / middle[1]:.3f}")
    console.print(table)
    far = ", ".join(f"{name} {value:.1g}" for name, value in result["largest_difference"].items())
    console.print(f"Largest difference: {far}. float32, {torch.get_num_threads()} threads.")


def main() -> None:
    """Measure and print; with --one, be one of the two."""
    about = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m t2i.pretrained.sd_bench", description=about)
    parser.add_argument("--model", type=Path, help="a folder; none: random weights")
    parser.add_argument("--tiny", action="store_true", help="random weights of tiny sizes")
    parser.add_argument("--steps", type=int, default=3, help="of DDIM")
    parser.add_argument("--rounds", type=int, default=2, help="pictures that each draws")
    parser.add_argument("--side", type=int, help="of the picture in pixels")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--one", choices=WHO, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    side = options.side or (32 if options.tiny else SIDE)
    if options.one:
        one(options.one, options.model, options.steps, side, options.out)
        return
    with TemporaryDirectory() as scratch:
        folder = options.model
        if folder is None:
            folder = Path(scratch, "random")
            print("Writing random weights …", flush=True)
            write_in_a_process(folder, options.tiny)
        try:
            result = compare(folder, options.steps, side, options.rounds)
        except (ValueError, subprocess.CalledProcessError) as error:
            sys.exit(f"{error}")
    show(result)
    if options.json:
        write_atomically(options.json, (json.dumps(result, indent=1) + "\n").encode())


def write_in_a_process(folder: Path, tiny: bool) -> None:
    """Random weights, written by a process that ends, so that its memory is free again."""
    sizes = "TINY" if tiny else "SD15"
    code = (
        "import sys; from t2i.pretrained.sd_sizes import SD15; "
        "from t2i.pretrained.sd_random import TINY, write_random; "
        f"write_random(sys.argv[1], {sizes})"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=os.environ.copy())


if __name__ == "__main__":
    main()
