"""The two small networks that read digits: a plain classifier, and the judge, who may say "none".

    model = load_network(JUDGE)                       # trained by `python -m t2i.metrics train`
    logits = predict(model, images)                   # (N, 1, 28, 28) -> (N, 11)

`metrics` asks them about samples.
"""

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.files.checkpoint import load_weights
from t2i.files.places import DATA

CLASSIFIER, JUDGE = "mnist_classifier.safetensors", "mnist_judge.safetensors"


class DigitNet(nn.Module):
    """A small convolutional network that names the digit in a picture.

    Args:
        outputs: 10 for a plain classifier, 11 for the judge, who may say "no digit".
        width: channels of the first layer.
    """

    def __init__(self, outputs: int = 10, width: int = 16):
        super().__init__()
        sizes = ((1, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 1))
        sizes += ((2 * width, 4 * width, 2), (4 * width, 4 * width, 1))
        self.body = nn.Sequential(*(self._layer(*size) for size in sizes))
        self.to_features = nn.Linear(4 * width * 9, 4 * width)
        self.head = nn.Linear(4 * width, outputs)

    @staticmethod
    def _layer(c_in: int, c_out: int, stride: int) -> nn.Module:
        conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())

    def features(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [-1, 1] -> (B, 64): what the network sees, before it names it."""
        h = self.body(images)  # (B, 64, 7, 7)
        h = F.adaptive_avg_pool2d(h, 3).flatten(1)
        return F.relu(self.to_features(h))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [-1, 1] -> (B, outputs) logits."""
        return self.head(self.features(images))


@cache
def load_network(name: str, folder: Path = DATA) -> DigitNet:
    """The frozen classifier or judge, from the weights in data/."""
    model = DigitNet(11 if name == JUDGE else 10)
    load_weights(folder / name, model)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, batch_size: int = 500) -> Tensor:
    """Run a network over many images, a batch at a time: (N, ...) -> (N, outputs) on the CPU."""
    device, trains = next(model.parameters()).device, model.training
    model.eval()
    outputs = torch.cat([model(part.to(device)).cpu() for part in images.split(batch_size)])
    model.train(trains)
    return outputs
