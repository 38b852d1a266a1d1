"""A world in which the best answer is known: data made of a few round Gaussian clouds.

Samplers can be judged in it without training: whatever error there is, the sampler made it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.schedules import gather


class Mixture:
    """Data of a few round Gaussian clouds: the best possible noise prediction in closed form.

        clouds = Mixture(torch.tensor([[-1.0, 0.5], [1.0, 0.5]]), 0.2, alphas_cumprod)
        noise_pred = clouds(x_t, t)
        noise_pred = clouds(x_t, t, label)  # the same if one knows from which cloud x_t comes

    A label is a cloud's number; K, one past the K clouds (`null`), says nothing.

    Args:
        centres: (K, D), all equally likely.
        std: of each cloud.
        alphas_cumprod: (T,).
    """

    def __init__(self, centres: Tensor, std: float, alphas_cumprod: Tensor):
        self.centres, self.std, self.alphas_cumprod = centres, std, alphas_cumprod
        self.null = len(centres)

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, D) noisy points, (B,) steps and labels -> (B, D), the noise to expect in x_t."""
        a = gather(self.alphas_cumprod, t, like=x_t)  # (B, 1)
        width = a * self.std**2 + 1 - a  # variance of one cloud at step t
        gaps = x_t[:, None] - a.sqrt()[..., None] * self.centres.to(x_t)  # (B, K, D)
        share = torch.softmax(-gaps.square().sum(-1) / (2 * width), dim=1)  # (B, K)
        if label is not None:
            told = F.one_hot(label, self.null + 1)[:, :-1].to(share)
            share = torch.where(label[:, None] == self.null, share, told)
        return (1 - a).sqrt() / width * (share[..., None] * gaps).sum(1)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """(n, D) points of the data themselves."""
        which = torch.randint(len(self.centres), (n,), generator=generator)
        noise = torch.randn(n, self.centres.shape[1], generator=generator)
        return self.centres[which] + self.std * noise

    def points(self, label: int, count: int, seed: int = 0) -> Tensor:
        """(count, D) points of one cloud."""
        generator = torch.Generator().manual_seed(seed + label)
        noise = torch.randn(count, self.centres.shape[1], generator=generator)
        return self.centres[label] + self.std * noise


class FlowMixture:
    """The same world for lesson 10's straight roads: the best possible direction in closed form.

        direction = FlowMixture(torch.tensor([[-1.0, 0.5], [1.0, 0.5]]), 0.2)(x_t, t)

    Among the points of one cloud x_t has the mean (1 - t) · centre and, in each coordinate, the
    variance w = (1 - t)² · std² + t²; there the mean of noise - x_0 is
    (t - (1 - t) · std²) / w · (x_t - (1 - t) · centre) - centre. A cloud counts as much as it is
    likely at x_t.

    Args:
        centres: (K, D), all equally likely.
        std: of each cloud.
    """

    def __init__(self, centres: Tensor, std: float):
        self.centres, self.std = centres, std

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """(B, D) points and (B,) times in [0, 1] -> (B, D), the mean of noise - x_0 given x_t."""
        t, centres = t.to(x_t)[:, None], self.centres.to(x_t)
        width = (1 - t) ** 2 * self.std**2 + t**2  # (B, 1)
        gaps = x_t[:, None] - (1 - t)[..., None] * centres  # (B, K, D)
        share = torch.softmax(-gaps.square().sum(-1) / (2 * width), dim=1)
        each = ((t - (1 - t) * self.std**2) / width)[..., None] * gaps - centres
        return (share[..., None] * each).sum(1)
