"""Lesson 10 on paper: what many pictures take in storage, operations and hours.

    stored = 400e6 * (latent_bytes(512) + prompt_bytes(77, 768))            # bytes
    each = joint_flops(dim=1536, depth=24, patches=1024, words=77)          # one picture, forward
    share = utilisation(3 * ours, pictures_per_second, measured_peak())     # of this machine
    hours = gpu_hours(5 * 400e6, 3 * each, share * H100)

An operation is one multiplication or one addition of two numbers.
"""

import time

import torch

from t2i.engine.precision import native_bf16

HALF = 2  # bytes of a number in float16 or bfloat16
BLOCK, NPY_HEADER = 512, 128  # bytes: tar's unit, and what stands before an array's numbers
H100 = 989e12  # operations a second, bfloat16 without sparsity, from NVIDIA's data sheet (SXM)


def latent_bytes(size: int, compression: int = 8, channels: int = 4) -> int:
    """Bytes of one picture's latents in half precision.

    bytes = 2 · channels · (size / compression)²

    Args:
        size: height and width of the picture in pixels.
        compression: f.
        channels: of the latents.
    """
    return HALF * channels * (size // compression) ** 2


def prompt_bytes(words: int, width: int) -> int:
    """Bytes of one caption's vectors in half precision: one for each token, one for the whole.

    bytes = 2 · (words + 1) · width
    """
    return HALF * (words + 1) * width


def tar_bytes(*arrays: int, caption: int = 0) -> int:
    """Bytes that a sample takes in a shard: every member has a header and is filled up.

    Args:
        arrays: bytes of each array's numbers.
        caption: bytes of the text.
    """
    contents = [NPY_HEADER + size for size in arrays] + [caption]
    return sum(BLOCK + BLOCK * -(-size // BLOCK) for size in contents)


def joint_flops(dim: int, depth: int, patches: int, words: int) -> float:
    """Operations of one picture through a JointDiT, forward.

    flops = depth · (24 · dim² · tokens + 4 · dim · tokens²), tokens = patches + words

    A token meets 12 · dim² weights in a block: query, key, value and what comes out of attention
    (4), and the two layers of the MLP (8); each costs a multiplication and an addition. The second
    term is attention itself. Left out is what is done once a picture, and both ends.

    Args:
        dim, depth: of the network.
        patches: N of a picture.
        words: L of a caption.

    Source: Kaplan et al. 2020, arXiv:2001.08361, section 2.1, where attention's share is smaller.
    """
    tokens = patches + words
    return depth * (24 * dim**2 * tokens + 4 * dim * tokens**2)


def text_flops(width: int, num_layers: int, words: int) -> float:
    """Operations of reading one caption: a text encoder's blocks are like a JointDiT's."""
    return joint_flops(width, num_layers, 0, words)


def training_flops(forward: float) -> float:
    """Operations of one picture in training: once forward, twice as much backward.

    Backward computes two gradients where forward computed one product: of weights and of inputs.
    """
    return 3 * forward


def utilisation(flops: float, pictures_per_second: float, peak: float) -> float:
    """Share of the hardware's peak that a training makes use of (MFU).

    share = operations a picture · pictures a second / peak

    Source: Chowdhery et al. 2022, arXiv:2204.02311, section 4.1 and appendix B (PaLM: 0.46).
    """
    return flops * pictures_per_second / peak


def gpu_hours(pictures: float, flops: float, flops_per_second: float) -> float:
    """Hours of one device.

    hours = pictures · operations a picture / (operations a second · 3600)
    """
    return pictures * flops / (flops_per_second * 3600)


def measured_peak(
    device: torch.device | str = "cpu", size: int = 512, seconds: float = 0.5
) -> float:
    """Operations a second that this machine reaches in large matrix products, measured now.

    Args:
        device: which one.
        size: of the square matrices; on a GPU 8192 is right.
        seconds: how long to measure.
    """
    device = torch.device(device)
    dtype = torch.bfloat16 if native_bf16(device) else torch.float32
    a = torch.randn(size, size, device=device, dtype=dtype)
    best, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < seconds:
        started = time.perf_counter()
        (a @ a).sum().item()  # .item() waits until a GPU is done
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best
