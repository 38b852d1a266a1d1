"""The reference runs of lesson 8's recipes: train, bring unseen scenes back, measure what is lost.

Called by `python -m t2i.runs.vae_recipes train` and `... evaluate`; what they find goes to the JSON
file beside the weights, from which the lesson's own table is made.
"""

import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from t2i.files.checkpoint import digest, save_weights
from t2i.files.results import machine, share_of, share_told, update_json
from t2i.judging.scene_judge import satisfied
from t2i.latents import latent_scaling_factor
from t2i.runs.recipe_runs import train_weights
from t2i.runs.scene_runs import set_name
from t2i.runs.vae_recipes import load_vae, vae_recipe
from t2i.world.scene_specs import draw_specs
from t2i.world.scenes import paint, scenes

SPLITS = ("train", "heldout_pairs", "heldout_triples")
UNSEEN = 8  # seed of the scenes that are measured; training's is 0
PART = 100  # pictures at once


def train_recipe(tier: str, out: Path, device: torch.device) -> dict:
    """Train a tier's recipe on scenes, measure the scaling factor, write weights and JSON."""
    plan = vae_recipe(tier)
    info = {"tier": tier, "kl_weight": plan.kl_weight, "size": plan.size}
    result = train_weights(plan, plan.batches(), plan.loss, out, device, **info)
    vae, known = load_vae(out)
    known |= {"scaling_factor": measure_scaling_factor(vae, plan.size)}
    save_weights(out, vae, known)
    update_json(out.with_suffix(".json"), {"scaling_factor": known["scaling_factor"]})
    return result | known


def measure_scaling_factor(
    vae: nn.Module, size: int, count: int = 1000, world: str = "many"
) -> float:
    """The scaling factor of a trained autoencoder, from scenes of the training kind.

    Args:
        vae: the autoencoder.
        size: height and width of its pictures.
        count, world: of the scenes.
    """
    return scaling_factor_of(vae, scenes(range(count), "train", world, size=size)[0])


def scaling_factor_of(vae: nn.Module, images: Tensor) -> float:
    """The scaling factor of a trained autoencoder, from pictures of the training kind.

    Args:
        vae: the autoencoder.
        images: (N, 3, H, W) in [-1, 1].
    """
    generator = torch.Generator().manual_seed(0)
    latents = []
    for part in images.split(PART):
        posterior = vae.encode(part)
        latents.append(posterior.sample(torch.randn(posterior.mean.shape, generator=generator)))
    return round(latent_scaling_factor(torch.cat(latents)).item(), 5)


def evaluate(path: Path, count: int, device: torch.device, seed: int = UNSEEN) -> dict:
    """Bring unseen scenes back through a drawn latent; measure, and let the judge read them.

    Args:
        path: the weights; the figures go to the .json beside them.
        count: scenes of each split, 1000 or more for figures to quote; digits are of MNIST's test
            set, which no training saw.
        device: where the autoencoder runs.
        seed: of the scenes and of the noise.
    """
    vae, info = load_vae(path)
    started = time.perf_counter()
    result = {
        "weights": digest(path),
        "scenes": measure_splits(vae.to(device), vae_recipe(info["tier"]).size, count, seed),
        "measuring_seconds": round(time.perf_counter() - started, 1),
        "measuring_machine": machine(device),
    }
    update_json(path.with_suffix(".json"), result)
    return result


def measure_splits(
    vae: nn.Module, size: int, count: int, seed: int = UNSEEN, world: str = "many"
) -> dict[str, dict]:
    """What an autoencoder loses of unseen scenes: `measure` of each split, and its nats.

    Args:
        vae: the autoencoder.
        size: height and width of its pictures.
        count, seed: as in evaluate.
        world: of the scenes.
    """
    found = {}
    for split in SPLITS:
        specs = draw_specs(range(count), split, world, seed)
        images = paint(specs, size, digits="test")
        back, kl = there_and_back(vae, images, seed)
        found[split] = measure(images, back, specs.captions()) | {"nats": kl.mean().item()}
        print(split, found[split], flush=True)
    return found


@torch.no_grad()
def there_and_back(vae: nn.Module, images: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures through drawn latents.

    Args:
        vae: the autoencoder.
        images: (B, 3, H, W) in [-1, 1].
        seed: of the noise.

    Returns:
        (B, 3, H, W) clipped to [-1, 1] and (B,) the KL in nats, both on the CPU.
    """
    generator, device = torch.Generator().manual_seed(seed), next(vae.parameters()).device
    pictures, nats = [], []
    for part in images.split(PART):
        posterior = vae.encode(part.to(device))
        noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
        pictures.append(vae.decode(posterior.sample(noise)).clamp(-1, 1).cpu())
        nats.append(posterior.kl().cpu())
    return torch.cat(pictures), torch.cat(nats)


def psnr(images: Tensor, back: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in decibels: 10 · log10(2² / mean square error).

    Args:
        images, back: (B, C, H, W) in [-1, 1].

    Returns:
        (B,); each 6 more halve the error. At most 100.
    """
    error = (images - back).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(4 / error.clamp(min=4e-10))


def measure(images: Tensor, back: Tensor, captions: list[str]) -> dict:
    """What is lost on the way: in decibels, and in what the judge reads.

    Returns:
        n; PSNR's mean, spread over pictures, 95 % interval of the mean and 5 % worst; how many of
        the originals and of the reconstructions satisfy their captions (with 95 % intervals), and
        the points lost with the 95 % interval of the paired difference.
    """
    decibels, n = psnr(images, back), len(images)
    before, after = satisfied(images, captions), satisfied(back, captions)
    lost = 100 * (before.double() - after.double())
    return {
        "n": n,
        "psnr": round(decibels.mean().item(), 3),
        "psnr_spread": round(decibels.std().item(), 3),
        "psnr_within": round(1.96 * decibels.std().item() / math.sqrt(n), 3),
        "psnr_worst_5_percent": round(decibels.quantile(0.05).item(), 3),
        "originals": share_of(before.tolist()),
        "reconstructions": share_of(after.tolist()),
        "points_lost": round(lost.mean().item(), 2),
        "points_lost_within": round(1.96 * lost.std().item() / math.sqrt(n), 2),
    }


def summary(measured: dict) -> list[tuple[str, ...]]:
    """The figures of evaluate as rows of text: split, n, PSNR, worst, judge before and after."""
    rows = []
    for name, s in measured["scenes"].items():
        shares = [s[key] for key in ("originals", "reconstructions")]
        cells = [share_told(each) for each in shares]
        decibels = f"{s['psnr']:.1f} ± {s['psnr_within']:.1f} dB (spread {s['psnr_spread']:.1f})"
        lost = f"{s['points_lost']:.1f} ± {s['points_lost_within']:.1f}"
        worst = f"{s['psnr_worst_5_percent']:.1f} dB"
        told = "as in training" if name == "train" else set_name(name)
        rows.append((told, str(s["n"]), decibels, worst, *cells, lost))
    return rows
