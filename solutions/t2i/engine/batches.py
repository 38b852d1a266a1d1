"""Batches: endless, shuffled anew in each epoch, and able to go on where they stood.

And the random numbers of the trainings: made from (seed, number), not taken from a stream.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from numbers import Integral
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Batches:
    """Endless batches, in a new order each epoch, that know where they are.

    The order of an epoch depends on (seed, epoch) alone, so `position` says everything.

    Args:
        tensors: (N, ...) each; with one tensor a batch is a tensor, with several a tuple.
        batch_size: samples in a batch; the incomplete batch at an epoch's end is left out.
        seed: of the orders.

    Raises:
        ValueError: the tensors differ in length, or hold less than one batch; or batch_size is no
            whole number.
    """

    def __init__(self, *tensors: Tensor, batch_size: int, seed: int = 0):
        if len({len(tensor) for tensor in tensors}) != 1:
            raise ValueError(f"tensors differ in length: {[len(tensor) for tensor in tensors]}")
        if not isinstance(batch_size, Integral) or not 1 <= batch_size <= len(tensors[0]):
            raise ValueError(
                f"batch_size must be a whole number in [1, {len(tensors[0])}], got {batch_size}"
            )
        self.tensors, self.batch_size, self.seed = tensors, batch_size, seed
        self.position = 0
        self._order = (-1, torch.empty(0))

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Tensor | tuple[Tensor, ...]:
        epoch, place = divmod(self.position, len(self.tensors[0]) // self.batch_size)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(stream_seed(self.seed, epoch))
            self._order = (epoch, torch.randperm(len(self.tensors[0]), generator=generator))
        picked = self._order[1][place * self.batch_size : (place + 1) * self.batch_size]
        self.position += 1
        batch = tuple(tensor[picked.to(tensor.device)] for tensor in self.tensors)
        return batch if len(batch) > 1 else batch[0]

    def state(self) -> dict[str, int]:
        """What restore needs to go on from here."""
        size = len(self.tensors[0])
        return {
            "size": size,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "position": self.position,
        }

    def restore(self, state: dict[str, int]) -> None:
        """Go on where such a Batches stood.

        Raises:
            ValueError: it had another number of samples, batch_size or seed. What the samples are
                is not compared.
        """
        refuse_other_data(self.state(), state)
        self.position = state["position"]


def refuse_other_data(here: dict[str, Any], state: dict[str, Any]) -> None:
    """ValueError, if a state was of other data than these; how far it had come may differ.

    Args:
        here: what state() says of the batches that are to go on.
        state: what it said of those that were stopped.
    """
    for name, value in here.items():
        if name != "position" and state.get(name) != value:
            raise ValueError(f"its data has {name} {state.get(name)}, this run's has {value}")


def stream_seed(*parts: int | str) -> int:
    """One 63-bit seed made from several parts, so that (0, 1) and (1, 0) share nothing.

    Raises:
        ValueError: a part that is neither a text nor a whole number (NumPy's, too).
    """
    try:
        parts = tuple(part if isinstance(part, str) else int(index(part)) for part in parts)
    except TypeError:
        raise ValueError(f"a seed is made of whole numbers and texts, got {parts}") from None
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def uniforms(key: int, indices: np.ndarray, first: int, count: int) -> np.ndarray:
    """Random numbers by hashing: (B, count) in [0, 1), from (key, index, place) alone.

    Args:
        key: which family of numbers.
        indices: (B,) whole numbers.
        first: place of the first of `count` numbers.

    Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"
        (the mixing function, in Stafford's variant 13).
    """
    steps = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        rows = _mix(indices.astype(np.uint64) * steps + np.uint64(key))
        places = (np.arange(first, first + count, dtype=np.uint64) + np.uint64(1)) * steps
        mixed = _mix(_mix(rows[:, None] + places[None, :]) ^ rows[:, None])
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@contextlib.contextmanager
def random_stream(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Random numbers that depend on (seed, step) alone, whatever was drawn before or meanwhile.

    This is why a checkpoint needs no generator's inner state: the step number is enough.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(stream_seed(seed, step))
        yield


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch (a tensor, or a tuple or dictionary of them) on the device."""
    return changed(batch, lambda tensor: tensor.to(device))


def changed(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A batch of the same make, with every tensor changed; what is no tensor stays as it is."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, dict):
        return {name: changed(value, change) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        values = [changed(value, change) for value in batch]
        return type(batch)(*values) if hasattr(batch, "_fields") else type(batch)(values)
    return batch


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """All tensors of a batch, from the first to the last."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, dict | list | tuple):
        for part in batch.values() if isinstance(batch, dict) else batch:
            yield from tensors_of(part)


def batch_length(batch: Any) -> int:
    """How many samples a batch holds."""
    return len(next(tensors_of(batch)))
