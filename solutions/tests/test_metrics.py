"""The metrics: that each can tell good from bad, and equals an outside computation."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from t2i.data import mnist
from t2i.files.places import DATA
from t2i.judging.digit_net import CLASSIFIER, JUDGE, DigitNet, load_network, predict
from t2i.judging.judge_data import NEGATIVES, negatives
from t2i.metrics import (
    digit_features,
    frechet_distance,
    nearest_distances,
    print_report,
    read_digits,
    recognisability,
    report,
)


@pytest.fixture(scope="module")
def test_digits():
    images, labels = mnist("test")
    if len(images) != 10_000:
        pytest.skip("the real MNIST is not here (T2I_DATA points to it)")
    return images, labels


@pytest.mark.parametrize("name", [CLASSIFIER, JUDGE])
def test_networks_are_small_and_right_on_99_of_100_digits(name, test_digits):
    assert (DATA / name).stat().st_size < 1_000_000
    count, least = (10_000, 0.99) if name == CLASSIFIER else (2_000, 0.96)  # the judge may doubt
    images, labels = test_digits[0][:count], test_digits[1][:count]
    guesses = predict(load_network(name), images).argmax(dim=1)
    assert (guesses == labels).float().mean() >= least


def test_judge_knows_real_digits(test_digits):
    assert recognisability(test_digits[0][-2000:]) > 0.9


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("clipped", [True, False])
def test_noise_scores_zero(scale, clipped):
    noise = scale * torch.randn(1000, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    assert recognisability(noise.clamp(-1, 1) if clipped else noise) == 0


def test_constant_pictures_score_zero():
    greys = torch.linspace(-1, 1, 21).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    assert recognisability(greys) == 0


@pytest.mark.parametrize("make", NEGATIVES, ids=lambda make: make.__name__)
def test_judge_refuses_every_kind_of_no_digit(make, test_digits):
    torch.manual_seed(1)
    images, labels = test_digits
    made = make(images[:1000], labels[:1000])
    assert made.shape == (1000, 1, 28, 28) and made.isfinite().all()
    assert recognisability(made) < 0.2  # a cut 7 may well be a 1: not 0 for every kind


def test_negatives_are_made_of_all_kinds():
    torch.manual_seed(0)
    digits = torch.rand(22, 1, 28, 28) * 2 - 1
    made = negatives(digits, torch.arange(22) % 10)
    assert made.shape == digits.shape and made.isfinite().all()
    assert not any(torch.equal(a, b) for a, b in zip(made, digits, strict=True))


def test_confidence_is_a_probability(test_digits):
    digit, confidence = read_digits(test_digits[0][:100])
    assert digit.dtype == torch.int64 and 0 <= digit.min() and digit.max() <= 10
    assert 0 < confidence.min() and confidence.max() <= 1


def test_a_plain_classifier_is_fooled_by_noise_and_the_judge_is_not():
    noise = torch.randn(500, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    sure = predict(load_network(CLASSIFIER), noise).softmax(dim=1).amax(dim=1) > 0.9
    assert sure.float().mean() > 0.05 and recognisability(noise) == 0


def test_frechet_distance_equals_scipys_square_root():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(300, 12, generator=generator) @ torch.randn(12, 12, generator=generator)
    b = torch.randn(200, 12, generator=generator) + 0.5
    cov_a, cov_b = np.cov(a.double().numpy().T), np.cov(b.double().numpy().T)
    root = sqrtm(cov_a @ cov_b).real
    means = ((a.double().mean(0) - b.double().mean(0)) ** 2).sum().item()
    expected = means + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)


def test_frechet_distance_stands_dead_features():
    a = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    a[:, 2] = 0  # a feature that never fires: the covariance has no inverse
    shifted = a.clone()
    shifted[:, 0] += 2
    assert frechet_distance(a, shifted) == pytest.approx(4, abs=1e-6)


def test_nearest_distances_equal_the_plain_way():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(7, 1, 5, 4, generator=generator)
    training = torch.rand(30, 1, 5, 4, generator=generator)
    expected = torch.cdist(images.flatten(1), training.flatten(1)).min(dim=1)
    distances, indices = nearest_distances(images, training, chunk=3)
    torch.testing.assert_close(distances, expected.values)
    assert torch.equal(indices, expected.indices)
    copies, places = nearest_distances(training[4:9], training)
    assert torch.equal(places, torch.arange(4, 9)) and copies.max() == 0


def test_report_tells_digits_copies_and_noise_apart(test_digits, capsys):
    n = 200
    measured = report(test_digits[0][:n])
    assert measured.n == n
    assert measured.recognisability > 0.9 and measured.recognisability_noise == 0
    assert measured.frechet < 3 * measured.frechet_floor + 1
    assert measured.frechet_noise > 100 * measured.frechet
    assert measured.nearest_noise > 2 * measured.nearest_real
    assert sum(measured.classes) == pytest.approx(1)
    print_report(measured)
    assert "nearest" in capsys.readouterr().out

    noise = torch.randn(n, 1, 28, 28).clamp(-1, 1)
    bad = report(torch.cat([noise, mnist("train")[0][:n]]))  # half noise, half copies
    assert 0.4 < bad.recognisability < 0.51 and bad.frechet > 10 * bad.frechet_floor
    assert report(mnist("train")[0][:100]).nearest == 0
    with pytest.raises(ValueError, match="100 to 5000"):
        report(torch.zeros(5, 1, 28, 28))
    bad = torch.zeros(100, 1, 28, 28)
    bad[99, 0, 27, 27] = math.nan
    with pytest.raises(ValueError, match="images must be numbers, they contain NaN"):
        report(bad)


def test_features_are_the_classifiers_last_hidden_layer():
    network = DigitNet(10).eval()
    images = torch.randn(3, 1, 28, 28)
    torch.testing.assert_close(network.head(network.features(images)), network(images))
    assert digit_features(images).shape == (3, 64)
