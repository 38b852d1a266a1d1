"""Bench: the clock, the memory and the matmul rate of a device.

timed(step, [batch, batch], device)      # seconds of each step; on a GPU by its own events
peak_bytes(step, batch, kept, device)    # the most memory that the step needs
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Spent(NamedTuple):
    """Seconds of a step by the clock, and the processor's own; on a GPU the latter are 0.

    The processor's own leave out what other programs took meanwhile, and so tell more where it
    is shared.
    """

    wall: float
    own: float = 0.0


def timed(call: Callable[[Any], object], batches: Sequence, device: torch.device) -> list[Spent]:
    """What each call took, one for each batch, in a row."""
    if device.type == "cuda":
        return timed_by_events(call, batches, device)
    spent = []
    for batch in batches:
        started = time.perf_counter(), time.process_time()
        call(batch)
        spent.append(Spent(time.perf_counter() - started[0], time.process_time() - started[1]))
    return spent


def timed_by_events(call: Callable[[Any], object], batches: Sequence, device) -> list[Spent]:
    """The same by a GPU's events: it works on by itself, and is waited for at the end alone."""
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in batches]
    torch.cuda.synchronize(device)
    for batch, (before, after) in zip(batches, marks, strict=True):
        before.record()
        call(batch)
        after.record()
    torch.cuda.synchronize(device)
    return [Spent(before.elapsed_time(after) / 1000) for before, after in marks]


def peak_bytes(
    call: Callable[[Any], object], batch: Any, kept: Sequence[Tensor], device: torch.device
) -> int | None:
    """The most memory that one network needs in a step, what it keeps included; None off a GPU.

    Args:
        call, batch: the step and what it is called with.
        kept: tensors that the network keeps from step to step. All else that lies in the memory
            is the other network's, and does not count.
        device: where.
    """
    if device.type != "cuda":
        return None
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call(batch)
    torch.cuda.synchronize(device)
    rise = torch.cuda.max_memory_allocated(device) - before
    return rise + sum(each.nbytes for each in kept if each.device.type == "cuda")


def matmul_rate(device: torch.device, side: int = 8192, repeats: int = 20) -> float:
    """Operations a second of this device's own bfloat16 matrix product of random matrices."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    timed(lambda _: a @ b, range(repeats), device)  # until the clock rate has risen
    spent = timed(lambda _: a @ b, range(repeats), device)
    return 2 * side**3 / statistics.median(step.wall for step in spent)


def plain_float32() -> None:
    """No TF32: in float32 a GPU, too, multiplies with all 24 bits. What autocast does stays."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
