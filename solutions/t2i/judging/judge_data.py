"""Pictures that are not digits, and the training of the two small networks that judge digits.

A plain digit classifier is sure of itself on anything, even on pure noise: it never learned to
say "none of these". The judge learns that as an eleventh class, from the pictures made here.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.data import mnist
from t2i.engine.train_config import TrainConfig
from t2i.files.checkpoint import save_weights
from t2i.judging.digit_net import CLASSIFIER, JUDGE, DigitNet, load_network, predict
from t2i.metrics import NO_DIGIT, recognisability
from t2i.schedules import add_noise
from t2i.training import Batches, train


def gaussian_noise(digits: Tensor, labels: Tensor) -> Tensor:
    """Noise of any strength around any grey, half of it clipped to [-1, 1]."""
    scale, shift, clip = _rand(digits, 0.05, 1.5), _rand(digits, -1, 1), _rand(digits, 0, 1) < 0.5
    noise = shift + scale * torch.randn_like(digits)
    return torch.where(clip, noise.clamp(-1, 1), noise)


def blobs(digits: Tensor, labels: Tensor) -> Tensor:
    """Noise blurred into clouds, some of them hardened into ink of about a digit's amount."""
    cloud = blur(torch.randn_like(digits), sigma=float(torch.empty(()).uniform_(1.0, 4.0)))
    cloud = cloud / cloud.std(dim=(1, 2, 3), keepdim=True)
    return torch.tanh(_rand(digits, 0.5, 6) * (cloud - _rand(digits, 0, 1.8)))


def shuffled(digits: Tensor, labels: Tensor) -> Tensor:
    """Digits cut into squares that are put back in a random order."""
    size = (4, 7, 14)[int(torch.randint(3, ()))]
    patches = F.unfold(digits, size, stride=size)  # (B, size², patches)
    order = torch.rand(len(digits), 1, patches.shape[2], device=digits.device).argsort(dim=2)
    return F.fold(patches.gather(2, order.expand_as(patches)), 28, size, stride=size)


def overlaid(digits: Tensor, labels: Tensor) -> Tensor:
    """Two digits of different classes drawn over each other."""
    return torch.maximum(digits, shift(_of_other_class(digits, labels), 3))


def halves(digits: Tensor, labels: Tensor) -> Tensor:
    """The upper (or left) half of one digit, the other half of a digit of another class."""
    cut = int(torch.randint(11, 18, ()))
    other = _of_other_class(digits, labels)
    dim = 2 + int(torch.randint(2, ()))
    first, second = digits.narrow(dim, 0, cut), other.narrow(dim, cut, 28 - cut)
    return torch.cat([first, second], dim=dim)


def half_denoised(digits: Tensor, labels: Tensor) -> Tensor:
    """Digits with much noise left in them, as a sampler that stopped too early leaves them."""
    signal = torch.linspace(0.005, 0.6, 100, device=digits.device)  # ᾱ at 100 levels
    t = torch.randint(100, (len(digits),), device=digits.device)
    noisy = add_noise(digits, torch.randn_like(digits), t, signal)
    return noisy.clamp(-1, 1) if torch.rand(()) < 0.5 else noisy


def broken(digits: Tensor, labels: Tensor) -> Tensor:
    """Strokes with 3 to 6 of 10 little squares rubbed out: dashes instead of lines."""
    size = int(torch.randint(3, 6, ()))
    cells = torch.rand(len(digits), 1, 10, 10, device=digits.device)
    mask = F.interpolate(cells, scale_factor=size)[..., :28, :28]
    return torch.where(mask < _rand(digits, 0.3, 0.6), -torch.ones_like(digits), digits)


def erased(digits: Tensor, labels: Tensor) -> Tensor:
    """A straight cut through the digit's middle, and one side rubbed out."""
    angle, offset = _rand(digits, 0, 6.283), _rand(digits, -2, 2)
    axis = torch.arange(28, device=digits.device) - 13.5
    side = axis.view(1, 1, 28, 1) * angle.sin() + axis.view(1, 1, 1, 28) * angle.cos()
    return torch.where(side > offset, -torch.ones_like(digits), digits)


def blurred(digits: Tensor, labels: Tensor) -> Tensor:
    """Digits out of focus until only a smudge is left."""
    smudge = blur(digits + 1, sigma=float(torch.empty(()).uniform_(3.0, 5.0)))
    return smudge / smudge.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-3) * 2 - 1


def scribbles(digits: Tensor, labels: Tensor) -> Tensor:
    """Random smooth curves with several bends, drawn with a pen of a digit's thickness."""
    waves = torch.arange(1, 6, device=digits.device).float()
    u = torch.linspace(0, 1, 60, device=digits.device)
    phase = 6.283 * torch.rand(len(digits), 2, 5, 1, device=digits.device)
    height = torch.randn_like(phase) * 7 / waves[:, None].sqrt()
    path = (height * torch.sin(3.1416 * waves[:, None] * u + phase)).sum(dim=2)  # (B, 2, 60)
    path = (path - path.mean(dim=2, keepdim=True)).clamp(-11, 11)
    axis = torch.arange(28, device=digits.device) - 13.5
    near_y = (axis[None, :, None] - path[:, 0, None, :]).square()[:, :, None]
    near_x = (axis[None, :, None] - path[:, 1, None, :]).square()[:, None]
    distance = (near_y + near_x).amin(dim=3)[:, None]  # (B, 1, 28, 28), in pixels, squared
    return torch.tanh(2.5 - distance / _rand(digits, 0.5, 1.5))


def empty(digits: Tensor, labels: Tensor) -> Tensor:
    """One grey everywhere, and a few specks."""
    specks = (torch.rand_like(digits) < 0.02) & (_rand(digits, 0, 1) < 0.5)
    grey = torch.where(_rand(digits, 0, 1) < 0.5, _rand(digits, -1, 1), -torch.ones_like(digits))
    return torch.where(specks, torch.ones_like(digits), grey)


NEGATIVES = (
    gaussian_noise,
    blobs,
    shuffled,
    overlaid,
    halves,
    half_denoised,
    broken,
    erased,
    blurred,
    scribbles,
    empty,
)


def negatives(digits: Tensor, labels: Tensor) -> Tensor:
    """As many pictures that are no digit as there are digits, all kinds in equal parts."""
    kinds = torch.arange(len(digits)) % len(NEGATIVES)
    made = torch.empty_like(digits)
    for index, make in enumerate(NEGATIVES):
        made[kinds == index] = make(digits[kinds == index], labels[kinds == index])
    return made


def shift(images: Tensor, most: int) -> Tensor:
    """Move the whole batch by up to `most` pixels in each direction; what comes in is empty."""
    dy, dx = torch.randint(2 * most + 1, (2,)).tolist()
    padded = F.pad(images, [most] * 4, value=-1)
    return padded[..., dy : dy + images.shape[2], dx : dx + images.shape[3]]


def rewritten(digits: Tensor) -> Tensor:
    """The same digits by a less steady hand: turned, stretched, moved and a little shaky.

    A person still reads every one of them, so the judge has to as well: how *real* a stroke looks
    is the Fréchet distance's business.
    """
    turn, slant = _rand(digits, -0.2, 0.2).view(-1), _rand(digits, -0.15, 0.15).view(-1)
    size, moved = _rand(digits, 0.87, 1.15).view(-1), 0.14 * (torch.rand(len(digits), 2) * 2 - 1)
    rows = (size * turn.cos(), slant - turn.sin(), moved[:, 0])
    rows += (turn.sin(), size * turn.cos(), moved[:, 1])
    theta = torch.stack(rows, dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(digits.shape), align_corners=False)  # (B, 28, 28, 2)
    for cells, pixels in ((5, 1.0), (14, 0.5)):  # slow and quick shaking
        shake = torch.randn(len(digits), 2, cells, cells) * pixels * 2 / 28 * _rand(digits, 0, 1)
        shake = F.interpolate(shake, size=28, mode="bilinear", align_corners=True)
        grid = grid + shake.permute(0, 2, 3, 1)
    return F.grid_sample(digits + 1, grid, align_corners=False) - 1


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `sigma` pixels."""
    reach = torch.arange(-10, 11, device=images.device)
    weights = torch.exp(-reach.square() / (2 * sigma**2))
    weights = (weights / weights.sum()).to(images.dtype)
    images = F.conv2d(images, weights.view(1, 1, -1, 1), padding=(10, 0))
    return F.conv2d(images, weights.view(1, 1, 1, -1), padding=(0, 10))


def classifier_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy over the ten digits, each batch moved about by up to two pixels."""
    digits, labels = batch
    return F.cross_entropy(model(shift(digits, 2)), labels)


def judge_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy over ten digits and "no digit", a third of the pictures being no digit."""
    digits, labels = shift(batch[0], 2), batch[1]
    again = _rand(digits, 0, 1) < 0.5  # the other half stays exactly as it is in MNIST
    digits = torch.where(again, rewritten(digits), digits)
    count = len(digits) // 2
    pictures = torch.cat([digits, negatives(digits[:count], labels[:count])])
    grain = _rand(pictures, -0.2, 0.2).clamp(min=0)  # half of them, digits or not, have a little
    pictures = pictures + grain * torch.randn_like(pictures)
    answers = torch.cat([labels, torch.full_like(labels[:count], NO_DIGIT)])
    return F.cross_entropy(model(pictures), answers)


def train_networks(folder: Path, epochs: float = 4, seed: int = 0) -> dict[str, float]:
    """Train classifier and judge and write their weights; minutes on two processor cores.

    Returns:
        accuracy of each on the 10,000 test digits, in [0, 1].
    """
    images, labels = mnist("train")
    test_images, test_labels = mnist("test")
    accuracy = {}
    for name, outputs, loss_fn in ((CLASSIFIER, 10, classifier_loss), (JUDGE, 11, judge_loss)):
        torch.manual_seed(seed)
        model = DigitNet(outputs).to(memory_format=torch.channels_last)
        batches = Batches(images, labels, batch_size=128, seed=seed)
        steps = int(epochs * len(images) / 128)
        config = TrainConfig(steps=steps, learning_rate=4e-3, weight_decay=0.05, seed=seed)
        *_, state = train(model, loss_fn, batches, config)
        guesses = predict(state.ema_model, test_images).argmax(dim=1)
        accuracy[name] = (guesses == test_labels).float().mean().item()
        info = {"outputs": outputs, "test_accuracy": accuracy[name], "steps": steps, "seed": seed}
        save_weights(folder / name, state.ema_model, info)
    return accuracy


def _rand(like: Tensor, low: float, high: float) -> Tensor:
    """One random number a picture, (B, 1, 1, 1), in [low, high)."""
    return low + (high - low) * torch.rand(len(like), 1, 1, 1, device=like.device)


def _of_other_class(digits: Tensor, labels: Tensor) -> Tensor:
    """For each digit another one of the batch, of another class wherever the batch has one."""
    differs = (labels[:, None] != labels[None, :]).float()
    chosen = (differs + 1e-6 * torch.ones_like(differs)).multinomial(1).squeeze(1)
    return digits[chosen]


def check_networks() -> dict[str, float]:
    """Print how good both networks are: on real test digits, and on every kind of no digit."""
    images, labels = mnist("test")
    found = {}
    for name in (CLASSIFIER, JUDGE):
        guesses = predict(load_network(name), images).argmax(dim=1)
        found[f"accuracy of {name}"] = (guesses == labels).float().mean().item()
    found["recognisability of real test digits"] = recognisability(images)
    torch.manual_seed(0)
    for make in NEGATIVES:
        found[f"recognisability of {make.__name__}"] = recognisability(
            make(images[:2000], labels[:2000])
        )
    for name, value in found.items():
        print(f"{value:8.2%}  {name}")
    return found
