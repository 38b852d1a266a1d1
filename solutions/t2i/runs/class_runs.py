"""The reference runs of lesson 5's recipes: train, sample at each guidance scale, measure.

Called by `python -m t2i.runs.class_recipes train` and `... evaluate`; what they find goes to the
JSON file beside the weights, from which the lesson's table and curves are made.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from t2i.data import mnist
from t2i.engine.batches import Batches, stream_seed
from t2i.files.checkpoint import digest
from t2i.files.results import machine, update_json, wilson
from t2i.guidance import ClassUNet, sample_guided
from t2i.judging.digit_net import CLASSIFIER, load_network, predict
from t2i.metrics import digit_features, frechet_distance, recognisability
from t2i.runs.class_recipes import (
    COND_DROP_PROB,
    NUM_CLASSES,
    AsPicture,
    class_loss,
    class_recipe,
    load_class_unet,
)
from t2i.runs.recipe_runs import train_weights
from t2i.samplers import spaced_timesteps

SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
RESCALED = (8.0, 0.7)  # one more run: this scale, tamed by this guidance_rescale
INFERENCE_STEPS = 25


@dataclass(frozen=True)
class Reference:
    """What samples are measured against: real test digits, as many of each class as of samples."""

    images: Tensor  # (N, 1, 28, 28)
    labels: Tensor  # (N,)
    features: Tensor  # (N, 64) theirs
    others: Tensor  # (M, 64) features of the other half of the test set, for the Fréchet distance


def train_recipe(tier: str, out: Path, device: torch.device) -> dict:
    """Train a tier's recipe on MNIST, write weights (fp16) and how the training went (JSON)."""
    plan = class_recipe(tier)
    batches = Batches(*mnist("train"), batch_size=plan.batch_size)
    info = {"tier": tier, "cond_drop_prob": COND_DROP_PROB}
    return train_weights(plan, batches, class_loss, out, device, **info)


def evaluate(path: Path, count: int, device: torch.device, seed: int = 0) -> dict:
    """Sample at every guidance scale from the same noise, measure, add it all to the JSON file.

    Args:
        path: the weights; the figures go to the .json beside them.
        count: samples a scale, a multiple of the ten classes; 1000 for figures to quote.
        seed: of the noise, and of the choice of real digits.
    """
    model, started = load_class_unet(path)[0].to(device), time.perf_counter()
    real = reference(count, seed)
    runs = [(scale, 0.0) for scale in SCALES] + [RESCALED]
    rows = []
    for scale, rescale in runs:
        samples = draw(model, real.labels, scale, rescale, seed)
        row = {"guidance_scale": scale, "guidance_rescale": rescale}
        rows.append(row | measure(samples, real.labels, real))
        print({name: round(value, 4) for name, value in rows[-1].items()})
    result = {
        "n": count,
        "inference_steps": INFERENCE_STEPS,
        "scales": rows,
        "real": measure(real.images, real.labels, real),
        "sampling_seconds": round(time.perf_counter() - started, 1),
        "sampling_machine": machine(device),
        "weights": digest(path),
    }
    update_json(path.with_suffix(".json"), result)
    return result


def reference(count: int, seed: int = 0) -> Reference:
    """`count` real test digits, as many of each class, in the order 0, 0, …, 9, 9.

    Raises:
        ValueError: count is not a multiple of the classes, or the test set has too few.
    """
    images, labels = mnist("test")
    each, rest = divmod(count, NUM_CLASSES)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    first, second = order.tensor_split(2)
    picked = [first[labels[first] == label][:each] for label in range(NUM_CLASSES)]
    if rest or each < 2 or min(map(len, picked)) < each:
        fewest = min(int((labels[first] == label).sum()) for label in range(NUM_CLASSES))
        raise ValueError(
            f"count must be a multiple of {NUM_CLASSES} from {2 * NUM_CLASSES} to "
            f"{NUM_CLASSES * fewest}, got {count}"
        )
    chosen = torch.cat(picked)
    return Reference(
        images[chosen],
        labels[chosen],
        digit_features(images[chosen]),
        digit_features(images[second]),
    )


def draw(
    model: ClassUNet, labels: Tensor, scale: float, rescale: float = 0.0, seed: int = 0
) -> Tensor:
    """One sample for each label, on the CPU; the noise depends on the seed alone, not on the scale.

    Args:
        model: lesson 5's network.
        labels: (N,) the digits to ask for.
        scale, rescale: guidance_scale and guidance_rescale; rescaled are guesses of the picture.
        seed: of the noise.
    """
    ac = model.denoiser.alphas_cumprod
    timesteps, samples = spaced_timesteps(len(ac), INFERENCE_STEPS), []
    speaker, kind = (AsPicture(model), "sample") if rescale else (model, "epsilon")
    for part, label in enumerate(tqdm(labels.split(125), desc=f"scale {scale:g}", unit="batch")):
        generator = torch.Generator().manual_seed(stream_seed(seed, part))
        x_T = torch.randn(len(label), 1, 28, 28, generator=generator).to(ac.device)
        wish = label.to(ac.device), model.null
        options = {"guidance_rescale": rescale, "prediction_type": kind}
        samples.append(sample_guided(speaker, x_T, *wish, ac, timesteps, scale, **options).cpu())
    return torch.cat(samples)


def measure(samples: Tensor, labels: Tensor, real: Reference) -> dict[str, float]:
    """All figures of one set of pictures, or of the real digits themselves.

    Args:
        samples: (N, 1, 28, 28) in [-1, 1].
        labels: (N,) what was asked for.
        real: what to compare with.

    Returns:
        asked: share in which the plain classifier reads the asked digit, with asked_low and
            asked_high, its 95 % interval; recognisability: the judge's; diversity: the spread
            within a class as a share of real digits'; frechet: beside it, the real digits' own
            is the floor; grey: share of pixels that are neither ink nor paper.
    """
    samples = samples.clamp(-1, 1)
    hits = int((predict(load_network(CLASSIFIER), samples).argmax(1) == labels).sum())
    low, high = wilson(hits, len(labels))
    features = digit_features(samples)
    return {
        "asked": hits / len(labels),
        "asked_low": low,
        "asked_high": high,
        "recognisability": recognisability(samples),
        "diversity": spread(features, labels) / spread(real.features, real.labels),
        "frechet": frechet_distance(features, real.others),
        "grey": (samples.abs() < 0.9).float().mean().item(),
    }


def spread(features: Tensor, labels: Tensor) -> float:
    """How different the pictures of one class are: mean, over the classes, of the summed variance.

    Args:
        features: (N, D).
        labels: (N,) at least two of each class that occurs.
    """
    classes = [features[labels == label] for label in labels.unique()]
    return torch.stack([each.var(dim=0).sum() for each in classes]).mean().item()
