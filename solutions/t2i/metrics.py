"""Metrics: are the samples digits, are they spread like real digits, and are they copies?

    measured = report(samples)          # (N, 1, 28, 28) in [-1, 1]
    print_report(measured)

Every figure stands beside the same figure for real digits, because alone it says nothing.
`python -m t2i.metrics train` trains the two small networks again (minutes on two cores),
`python -m t2i.metrics` measures them.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from t2i.data import mnist
from t2i.files.places import DATA
from t2i.judging.digit_net import CLASSIFIER, JUDGE, load_network, predict

NO_DIGIT = 10  # the judge's eleventh class
SURE = 0.9  # the probability from which the judge counts as sure


@dataclass(frozen=True)
class Report:
    """All figures of one set of samples, each beside its reference; n samples in each."""

    n: int
    recognisability: float
    recognisability_real: float
    recognisability_noise: float
    frechet: float
    frechet_floor: float
    nearest: float
    nearest_real: float
    frechet_noise: float
    nearest_noise: float
    classes: tuple[float, ...]


def read_digits(images: Tensor) -> tuple[Tensor, Tensor]:
    """What the judge reads in each picture, and how sure it is.

    Args:
        images: (N, 1, 28, 28) in [-1, 1].

    Returns:
        digit: (N,) int64, 0 to 9, or 10 for "no digit".
        confidence: (N,) in [0, 1].
    """
    confidence, digit = predict(load_network(JUDGE), images).softmax(dim=1).max(dim=1)
    return digit, confidence


def recognisability(images: Tensor) -> float:
    """Share of the pictures that the judge reads as one digit and is sure of it (p > 0.9).

    Args:
        images: (N, 1, 28, 28) in [-1, 1].

    Returns:
        share in [0, 1]; quote it beside the figures for real test digits and for noise.
    """
    digit, confidence = read_digits(images)
    return ((digit != NO_DIGIT) & (confidence > SURE)).float().mean().item()


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """How far apart two clouds of features lie, each taken as a Gaussian.

    d² = |μ_a - μ_b|² + trace(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½)

    Args:
        features_a, features_b: (N, D), N well above D.

    Returns:
        d², at least 0, in squared feature units. It grows when N shrinks: compare it only with
        a figure at the same N.

    Source: Heusel et al. 2017, arXiv:1706.08500, equation 6.
    """
    a, b = features_a.double(), features_b.double()
    covariance_a, covariance_b = a.T.cov(), b.T.cov()
    # Σ_a Σ_b has the eigenvalues of Σ_a^½ Σ_b Σ_a^½, which is symmetric: easier, and exact.
    values, vectors = torch.linalg.eigh(covariance_a)
    root_a = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root_a @ covariance_b @ root_a).clamp(min=0).sqrt().sum()
    means = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    distance = means + covariance_a.trace() + covariance_b.trace() - 2 * cross
    return max(0.0, distance.item())


def digit_features(images: Tensor) -> Tensor:
    """(N, 1, 28, 28) -> (N, 64): the classifier's features, the space of the Fréchet distance."""
    classifier = load_network(CLASSIFIER)
    with torch.no_grad():
        return torch.cat([classifier.features(part.cpu()) for part in images.split(500)])


def nearest_distances(images: Tensor, training: Tensor, chunk: int = 250) -> tuple[Tensor, Tensor]:
    """Distance of each image to the training image most like it, and which one that is.

    Args:
        images: (N, 1, H, W).
        training: (M, 1, H, W).
        chunk: images handled at once; memory is chunk · M numbers.

    Returns:
        distances: (N,) Euclidean, over all pixels.
        indices: (N,) int64 into training.
    """
    flat = training.flatten(1)
    norms = flat.square().sum(dim=1)
    found = []
    for part in images.flatten(1).split(chunk):
        squared = norms - 2 * part @ flat.T  # |a - b|² without |a|², the same for all b
        index = squared.argmin(dim=1)
        found.append(((part - flat[index]).norm(dim=1), index))
    distances, indices = zip(*found, strict=True)
    return torch.cat(distances), torch.cat(indices)


def check_count(count: int, real: int) -> None:
    """Refuse too few samples for a report, or more than half of the `real` test digits."""
    most = real // 2
    if not 100 <= count <= most:
        raise ValueError(f"a report needs 100 to {most} images, got {count}")


def report(images: Tensor, seed: int = 0) -> Report:
    """All figures of a set of samples, with those of as many real digits and of noise.

    Args:
        images: (N, 1, 28, 28) in [-1, 1], N at most 5,000.
        seed: picks the real digits and draws the noise.

    Returns:
        a Report. Real digits are from the test set, and so is the cloud that samples and real
        digits are both compared with in the Fréchet distance (its other half).

    Raises:
        ValueError: fewer than 100 images, more than half of the test set, or one that holds NaN.
    """
    if images.isnan().any():
        raise ValueError("images must be numbers, they contain NaN")
    training, (test, _) = mnist("train")[0], mnist("test")
    n = len(images)
    check_count(n, len(test))
    images = images.cpu().float().clamp(-1, 1)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(test), generator=generator)
    real, reference = test[order[:n]], digit_features(test[order[len(test) // 2 :]])
    noise = torch.randn(images.shape, generator=generator)
    digit, _ = read_digits(images)
    return Report(
        n=n,
        recognisability=recognisability(images),
        recognisability_real=recognisability(real),
        recognisability_noise=recognisability(noise),
        frechet=frechet_distance(digit_features(images), reference),
        frechet_floor=frechet_distance(digit_features(real), reference),
        nearest=nearest_distances(images, training)[0].median().item(),
        nearest_real=nearest_distances(real, training)[0].median().item(),
        frechet_noise=frechet_distance(digit_features(noise), reference),
        nearest_noise=nearest_distances(noise, training)[0].median().item(),
        classes=tuple((digit == label).float().mean().item() for label in range(11)),
    )


def print_report(measured: Report) -> None:
    """The report as a table: samples, real digits, noise."""
    table = Table(title=f"{measured.n} samples beside {measured.n} real test digits")
    for name in ("figure", "samples", "real digits", "noise"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    r = measured
    share = r.recognisability / r.recognisability_real if r.recognisability_real else float("nan")
    read = (r.recognisability, r.recognisability_real, r.recognisability_noise)
    frechet = (r.frechet, r.frechet_floor, r.frechet_noise)
    nearest = (r.nearest, r.nearest_real, r.nearest_noise)
    rows = (
        ("read as a digit with confidence", "{:.1%}", read),
        ("… as a share of real digits'", "{:.1%}", (share, 1)),
        ("Fréchet distance to other real digits", "{:,.2f}", frechet),
        ("median distance to nearest training digit", "{:.2f}", nearest),
    )
    for name, form, figures in rows:
        table.add_row(name, *(form.format(figure) for figure in figures))
    Console().print(table)


def main() -> None:
    """`train` makes the networks' weights anew; without it, the committed ones are measured."""
    parser = argparse.ArgumentParser(prog="python -m t2i.metrics", description=main.__doc__)
    parser.add_argument("command", nargs="?", choices=("train", "check"), default="check")
    parser.add_argument("--out", type=Path, default=DATA, help="folder of the weights")
    parser.add_argument("--epochs", type=float, default=4)
    options = parser.parse_args()
    if options.command == "train":
        from t2i.judging.judge_data import train_networks

        print(json.dumps(train_networks(options.out, options.epochs)))
    else:
        from t2i.judging.judge_data import check_networks

        check_networks()


if __name__ == "__main__":
    main()
