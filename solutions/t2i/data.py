"""Where the pictures come from: MNIST, checksummed, or scikit-learn's digits in its place.

MNIST is looked for in the data folder: the one that the environment variable `T2I_DATA` names
(it holds `MNIST/raw`, and may be read-only), else `data/` of the repository. If it is not there,
torchvision downloads it once (`T2I_OFFLINE=1` forbids that). Importing this module does none of it.

The captioned pictures of lessons 6 to 10 are painted from these digits: see `t2i.world.scenes`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.files.mnist_fetch import fetch, fetch_again, torchvision_mnist, why_without
from t2i.files.mnist_files import SPLITS, DataError, check_files, data_folder, mnist_folder

_DIGITS_FOR_TRAINING = 1_500  # of scikit-learn's 1,797


def mnist(split: str = "train") -> tuple[Tensor, Tensor]:
    """The handwritten digits, as the course uses them.

    Args:
        split: "train" (60,000 pictures) or "test" (10,000).

    Returns:
        images: `(N, 1, 28, 28)`, float32 in [-1, 1]; the background is -1.
        labels: `(N,)`, int64, 0 to 9.

    Raises:
        DataError: a data folder is damaged, incomplete or cannot be written.

    Source: LeCun, Cortes, Burges (1998), "The MNIST database of handwritten digits".
    """
    if split not in SPLITS:
        raise ValueError(f'split is "train" or "test", not {split!r}')
    try:
        folder = mnist_folder()
        if folder is not None:
            check_files(folder, split)
    except DataError as error:
        folder = fetch_again(error)
    folder = folder or fetch()
    if folder is None:
        return _digits(split)
    data = torchvision_mnist()(folder, train=split == "train")
    images = data.data.float().div_(127.5).sub_(1).unsqueeze(1)
    return images, data.targets.long()


def data_source() -> str:
    """Where `mnist()` takes its pictures from, in one line; downloads nothing.

    Raises:
        DataError: a data folder is damaged or incomplete.
    """
    folder = mnist_folder()
    if folder is not None:
        for split in SPLITS:
            check_files(folder, split)
        return f"MNIST, 60,000 + 10,000 digits, checksums right, in {folder}"
    if why_without() is not None:
        return f"scikit-learn's 1,797 digits, enlarged, because {why_without()}"
    return f"no MNIST yet: the first use downloads it (11 MB) to {data_folder()}"


def _digits(split: str) -> tuple[Tensor, Tensor]:
    """scikit-learn's handwritten digits, 8x8, enlarged; the last 297 are the test split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    cut = _DIGITS_FOR_TRAINING
    part = slice(0, cut) if split == "train" else slice(cut, None)
    small = torch.tensor(digits.images[part], dtype=torch.float32).unsqueeze(1) / 16  # (N, 1, 8, 8)
    images = F.interpolate(small, size=(28, 28), mode="bicubic", align_corners=False)
    labels = torch.tensor(digits.target[part], dtype=torch.int64)
    return images.clamp_(0, 1).mul_(2).sub_(1), labels
