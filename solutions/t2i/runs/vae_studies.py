"""The short trainings behind lesson 8's pictures: what compression costs, and what goes wrong.

    python -m t2i.runs.vae_studies compare  # autoencoders of several sizes and KL weights
    python -m t2i.runs.vae_studies whole    # an eighth of the height and width, by the whole recipe
    python -m t2i.runs.vae_studies diffuse  # words to latents, at the right scale and at wrong ones
    python -m t2i.runs.vae_studies cost     # one denoising step in pixels and in latents

Figures go to data/vae_studies.json, pictures to data/vae_studies.safetensors. The trainings are
short (`whole` apart): their figures are to be compared with each other and with nothing else.
"""

import argparse
import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from t2i.files.checkpoint import digest, load_tensors, save_tensors
from t2i.files.places import DATA
from t2i.files.results import machine, share_of, update_json
from t2i.judging.scene_judge import look, satisfied
from t2i.latents import LatentSpace
from t2i.runs.latent_recipes import draw_latents, latent_recipe
from t2i.runs.scene_runs import prompts
from t2i.runs.vae_recipes import KL_WEIGHT, SMALL, WEIGHTS, load_space, load_vae, vae_recipe
from t2i.runs.vae_runs import UNSEEN, measure, there_and_back
from t2i.speed.flops import count_flops, time_in_turn
from t2i.training import TrainState, train
from t2i.unet import UNet
from t2i.world.caption_reading import parse
from t2i.world.scene_heldout import HELDOUT_PAIRS
from t2i.world.scene_specs import draw_specs
from t2i.world.scenes import paint

FIGURES = DATA / "vae_studies.json"
COMPRESSIONS = {2: (16, 64), 4: (16, 32, 64), 8: (16, 32, 64, 64)}  # f: block_channels
KL_WEIGHTS = (0.0, 1.0, 1000.0)  # one buys all it can for nothing, two pay too much
SPREADS = (0.2, 1.0, 5.49)  # of latents that a denoiser learns from
SHOWN = 8  # pictures kept of each run
WISHES = ("a red seven", "a star that is blue", "a pink heart", "a green 4")
WISHES += ("a yellow circle", "an orange two", "a cyan cross", "a purple 8")


def compare(steps: int, count: int = 500) -> dict:
    """Short trainings of autoencoders that differ in one thing, on the same unseen scenes.

    Args:
        steps: of each training.
        count: scenes that each is measured on.
    """
    images, captions = unseen(count)
    runs = {f"f = {f}": (widths, KL_WEIGHT) for f, widths in COMPRESSIONS.items()}
    runs |= {f"kl_weight = {weight:g}": (COMPRESSIONS[4], weight) for weight in KL_WEIGHTS}
    found, pictures = {}, {"originals": images[:SHOWN]}
    for name, (widths, weight) in runs.items():
        found[name], back = measured(trained(steps, widths, weight), images, captions)
        found[name]["kl_weight"] = weight
        pictures[name] = back[:SHOWN]
        print(name, found[name], flush=True)
    seen = {"steps": steps, "batch_size": vae_recipe("cpu").batch_size}
    keep({"compare": seen | {"runs": found}}, pictures)
    return found


def whole(count: int = 500) -> dict:
    """An eighth of the height and width by the whole recipe, beside the committed weights.

    Args:
        count: scenes that both are measured on, those of `compare`.
    """
    images, captions = unseen(count)
    steps = vae_recipe("cpu").training.steps
    vaes = {"f = 4": load_vae()[0], "f = 8": trained(steps, COMPRESSIONS[8], KL_WEIGHT)}
    runs = {name: measured(vae, images, captions)[0] for name, vae in vaes.items()}
    made_of = {"steps": steps, "weights": digest(WEIGHTS)}  # those of f = 4
    keep({"whole": made_of | {"runs": runs}})
    print(runs)
    return runs


def unseen(count: int) -> tuple[Tensor, list[str]]:
    """Scenes of up to three things that no training shows, and their captions."""
    specs = draw_specs(range(count), "train", "many", UNSEEN)
    return paint(specs, digits="test"), specs.captions()


def measured(vae: nn.Module, images: Tensor, captions: list[str]) -> tuple[dict, Tensor]:
    """What an autoencoder brings back and writes for it, and the pictures (N, 3, H, W)."""
    back, kl = there_and_back(vae, images)
    spread = vae.encode(images).std  # (N, c, h, w) of each latent value's Gaussian
    found = measure(images, back, captions) | {
        "latent_numbers": spread[0].numel(),
        "nats": round(kl.mean().item(), 1),
        "idle": round((spread > 0.9).float().mean().item(), 4),  # values that carry nothing
    }
    return found, back


def trained(steps: int, widths: tuple[int, ...], kl_weight: float) -> nn.Module:
    """An autoencoder after a short training like the CPU recipe's."""
    usual = vae_recipe("cpu")
    training = replace(usual.training, steps=steps)
    plan = replace(usual, vae=SMALL | {"block_channels": widths}, training=training)
    plan = replace(plan, kl_weight=kl_weight)
    return last(train(plan.build(), plan.loss, plan.batches(), plan.training)).ema_model


def last(states: Iterable[TrainState]) -> TrainState:
    """Where a training ended."""
    return deque(states, maxlen=1).pop()


def diffuse(steps: int, count: int = 560, spreads: tuple[float, ...] = SPREADS) -> dict:
    """Lesson 6's network on latents whose standard deviation is right, and on others.

    Args:
        steps: of each training.
        count: captions that each is measured on.
        spreads: standard deviation of the latents; 1 is what the scaling factor makes of them,
            5.49 is Stable Diffusion's without its factor.
    """
    space = load_space()
    factor = space.scaling_factor.item()
    specs = prompts(~HELDOUT_PAIRS, count, "train", UNSEEN)
    captions, found, pictures = specs.captions(), {}, {}
    scales = {f"spread {spread:g}": spread * factor for spread in spreads}
    for name, scale in scales.items():
        found[name], pictures[name] = diffuse_once(LatentSpace(space.vae, scale), steps, captions)
        found[name]["spread"] = round(scale / factor, 4)
        print(name, found[name], flush=True)
    made_of = {"steps": steps, "weights": digest(WEIGHTS), "scaling_factor": factor}
    keep({"diffuse": made_of | {"runs": found}}, pictures)
    return found


def diffuse_once(space: LatentSpace, steps: int, captions: list[str]) -> tuple[dict, Tensor]:
    """Train a denoiser of these latents; how many captions do its pictures satisfy?"""
    usual = latent_recipe("cpu")
    plan = replace(usual, training=replace(usual.training, steps=steps))
    model = last(train(plan.build(), plan.loss, plan.batches(space), plan.training)).ema_model
    parts = [captions[first : first + 70] for first in range(0, len(captions), 70)]
    drawn = torch.cat([draw_latents(model, space, part, i) for i, part in enumerate(parts)])
    right, views = satisfied(drawn, [parse(caption) for caption in captions]), look(drawn)
    result = {
        "n": len(right),
        "satisfied": share_of(right.tolist()),
        "nothing_seen": sum(not view.things for view in views) / len(views),
    }
    return result, draw_latents(model, space, WISHES, seed=1)


def cost(repeats: int = 9, batch: int = 8) -> dict:
    """One call of one UNet on pictures and on their latents, in turn: seconds and FLOPs."""
    found = {}
    for size, f in ((32, 4), (64, 4), (64, 8)):
        shapes = {"pixels": (3, size), "latents": (4, size // f)}
        calls = {
            name: denoising_step(channels, side, batch) for name, (channels, side) in shapes.items()
        }
        middle = time_in_turn(calls, repeats)
        flops = {name: count_flops(call) / batch for name, call in calls.items()}
        found[f"{size} pixels, f = {f}"] = {
            "seconds": {name: round(value / batch, 5) for name, value in middle.items()},
            "flops": flops,
            "times_faster": round(middle["pixels"] / middle["latents"], 1),
            "times_fewer_flops": round(flops["pixels"] / flops["latents"], 1),
        }
        print(size, f, found[f"{size} pixels, f = {f}"], flush=True)
    keep({"cost": {"machine": machine(torch.device("cpu")), "batch": batch, "runs": found}})
    return found


def denoising_step(channels: int, side: int, batch: int) -> Callable[[], Tensor]:
    """A call of lesson 2's UNet, of one size whatever it looks at."""
    unet = UNet(channels, channels, (32, 64), 1, (False, True), norm_groups=8).eval()
    x_t, t = torch.randn(batch, channels, side, side), torch.zeros(batch, dtype=torch.int64)

    def call() -> Tensor:
        with torch.no_grad():
            return unet(x_t, t)

    call()  # the first call warms up
    return call


def keep(figures: dict, pictures: dict[str, Tensor] | None = None, path: Path = FIGURES) -> None:
    """Add figures to the JSON file, and pictures (as bytes) to the file beside it."""
    update_json(path, figures)
    if pictures:
        file = path.with_suffix(".safetensors")
        known = load_tensors(file)[0] if file.exists() else {}
        small = {name: ((x + 1) * 127.5).round().to(torch.uint8) for name, x in pictures.items()}
        save_tensors(file, known | small, {"what": "pictures of t2i.runs.vae_studies, 0 to 255"})


def kept(path: Path = FIGURES) -> tuple[dict, dict[str, Tensor]]:
    """The figures and the pictures (N, 3, H, W) in [-1, 1] of all studies so far."""
    figures = json.loads(path.read_text(encoding="utf-8"))
    tensors, _ = load_tensors(path.with_suffix(".safetensors"))
    return figures, {name: x.float() / 127.5 - 1 for name, x in tensors.items()}


def main() -> None:
    """Run one of the studies."""
    parser = argparse.ArgumentParser(
        prog="python -m t2i.runs.vae_studies", description=main.__doc__
    )
    parser.add_argument("command", choices=("compare", "whole", "diffuse", "cost"))
    parser.add_argument("--steps", type=int, help="of each training (400 or 500)")
    options = parser.parse_args()
    if options.command == "compare":
        compare(options.steps or 400)
    elif options.command == "whole":
        whole()
    elif options.command == "diffuse":
        diffuse(options.steps or 500)
    else:
        cost()


if __name__ == "__main__":
    main()
