"""The real Stable Diffusion where this machine can have it; otherwise a small one that is random.

sd, why = real_or_random("stable-diffusion-v1-5/stable-diffusion-v1-5")
print(why)
both = draw_both(steps=5, side=64)      # a tiny one, by our code and by diffusers
"""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from t2i.files.folders import FilesError
from t2i.latents import LatentSpace
from t2i.lesson import tier
from t2i.pretrained.sd_random import SCHEDULER, TINY, made_up_tokenizer, write_random
from t2i.pretrained.sd_schedule import schedule_from_config
from t2i.pretrained.sd_sizes import text_from_config, trained_size, unet_from_config
from t2i.pretrained.stable_diffusion import StableDiffusion
from t2i.pretrained.vae_files import autoencoder_from_config

SD15_NAME = "stable-diffusion-v1-5/stable-diffusion-v1-5"
NEEDED = 8.0  # GB: 4.3 of weights, and what a picture of 512 × 512 takes on its way
SCALING_FACTOR = 0.18215


def real_or_random(source: str | Path = SD15_NAME) -> tuple[StableDiffusion, str]:
    """Stable Diffusion with its own weights, if they, the memory and the time are there.

    Args:
        source: a folder in diffusers' layout, or a name on the hub.

    Returns:
        the model, and a sentence: what it is, and why.
    """
    if tier() == "smoke":
        return random_model(), "A small model with random weights: this is the smoke tier."
    free = free_gigabytes()
    if free < NEEDED:
        why = f"{free:.0f} GB of memory are free, and {NEEDED:.0f} are needed"
        return random_model(), f"A small model with random weights: {why}."
    on_gpu = torch.cuda.is_available()
    try:
        sd = StableDiffusion.from_pretrained(source, torch.float16 if on_gpu else torch.float32)
    except FilesError as error:
        return random_model(), f"A small model with random weights, because: {error}"
    where = "on the GPU, half precision" if on_gpu else "on the processor: minutes a picture"
    return sd.to("cuda" if on_gpu else "cpu"), f"{source}, {where}."


def random_model(sizes: Mapping[str, Mapping[str, Any]] = TINY, seed: int = 0) -> StableDiffusion:
    """Every part in the lessons' code with fresh weights: it runs, and its pictures mean nothing.

    Args:
        sizes: as SD15 or TINY.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StableDiffusion(
            made_up_tokenizer(sizes["text_encoder"]["vocab_size"]),
            text_from_config(sizes["text_encoder"]),
            unet_from_config(sizes["unet"]),
            LatentSpace(autoencoder_from_config(sizes["vae"]), SCALING_FACTOR),
            schedule_from_config(SCHEDULER),
            trained_size(sizes["unet"], 2 ** (len(sizes["vae"]["block_out_channels"]) - 1)),
        )


def draw_both(steps: int, side: int) -> dict[str, tuple[Tensor, Tensor]]:
    """A tiny model with random weights, drawn with by our code and by diffusers.

    Returns:
        z_0 and pictures: ours and theirs.
    """
    from t2i.pretrained.sd_bench import draw_ours, draw_theirs  # diffusers takes seconds to import

    keep_quiet()
    with TemporaryDirectory() as scratch:
        write_random(scratch, TINY)
        ours, theirs = (draw(Path(scratch), steps, side) for draw in (draw_ours, draw_theirs))
    return {name: (z, theirs["tensors"][name]) for name, z in ours["tensors"].items()}


def keep_quiet() -> None:
    """No bars and no warnings of theirs: about packages that are not here, or a cut prompt."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def is_random(sd: StableDiffusion) -> bool:
    """Whether it is the small one."""
    return sd.text.positions.shape[1] == TINY["text_encoder"]["hidden_size"]


def free_gigabytes() -> float:
    """Memory that a program may take now; endless where the system does not tell."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / 1e9 + 4  # half precision needs 4 GB less
    free = [float("inf")]
    try:
        told = Path("/proc/meminfo").read_text(encoding="ascii")
        free.append(1024 * int(re.search(r"MemAvailable:\s+(\d+) kB", told)[1]))
        most, now = (Path("/sys/fs/cgroup", f"memory.{name}") for name in ("max", "current"))
        free.append(int(most.read_text(encoding="ascii")) - int(now.read_text(encoding="ascii")))
    except (OSError, TypeError, ValueError):  # no limit, or another system
        pass
    return min(free) / 1e9
