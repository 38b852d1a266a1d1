"""A step of training, recorded once on a GPU and played again from then on.

    step = RecordedStep(update)      # update(batch) computes a step and returns its loss
    loss = step(batch)               # the first three as always; the fourth is recorded and played

A step of a small network is some thousand little jobs for the GPU. Python calls them out one after
the other, and needs longer for that than the GPU for doing them. But every step is the same jobs on
the same places of the memory, only with other numbers in them. So they are written down once (a
CUDA graph), and all of them are started with one call. Whatever changes from step to step must
therefore stand in the GPU's memory: the batch, the learning rates, the state of the random numbers.
And nothing may look at a value and decide by it: the recording knows no "if".

Source: Ansel et al. 2024, "PyTorch 2", section 3 (torch.compile) and the notes on CUDA graphs in
    PyTorch's manual, "CUDA semantics".
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

AS_ALWAYS = 3  # steps before the recording: libraries choose their ways, memory is set aside


def values_at_hand(tensor: Tensor) -> bool:
    """Whether a check may look at a tensor's values: not if they lie on a GPU (or nowhere: meta).

    A GPU works on by itself, and Python would have to wait for it; while a step is recorded, there
    are no values at all. (What is out of range stops a GPU too, with a message of its own.)
    """
    return not (tensor.is_cuda or tensor.is_meta)


class RecordedStep:
    """Call it like the update that it was made from.

    Args:
        update: batch in, loss out; everything that it does happens on one GPU.
    """

    def __init__(self, update: Callable[[Any], Tensor]):
        self.update, self.calls = update, 0
        self.graph, self.batch, self.loss = None, None, None

    def __call__(self, batch: Any) -> Tensor:
        """One step; batches must all have the same shapes. The loss is overwritten by the next."""
        self.calls += 1
        if self.calls <= AS_ALWAYS:
            return self._aside(batch)
        if self.graph is None:
            self._record(batch)
        for place, value in zip(tensors_of(self.batch), tensors_of(batch), strict=True):
            place.copy_(value)
        self.graph.replay()
        return self.loss

    def _aside(self, batch: Any) -> Tensor:
        """A step on a side road of the GPU, as the recording will be on one."""
        side, main = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(main)
        with torch.cuda.stream(side):
            loss = self.update(batch)
        main.wait_stream(side)
        return loss

    def _record(self, batch: Any) -> None:
        """Write down what a step does, without doing it."""
        self.batch = _copied(batch)
        self.graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self.graph):
                self.loss = self.update(self.batch)
        except RuntimeError as error:
            raise RuntimeError(
                "This step cannot be recorded, most likely because something in it looks at a "
                'value (an `if`, an assert, `.item()`): train with on_gpu="plain". '
                f"The GPU said: {error!s:.300}"
            ) from error


def compile_blocks(model: nn.Module) -> None:
    """Let torch.compile make one program of each repeated block of a network, in place.

    Blocks that are alike share a program, so this takes seconds where the whole takes a minute.
    """
    for lists in model.modules():
        for block in lists if isinstance(lists, nn.ModuleList) else ():
            block.compile(dynamic=False)


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """All tensors of a batch (a tensor, or a tuple or dictionary of them)."""
    if isinstance(batch, Tensor):
        yield batch
        return
    for part in batch.values() if isinstance(batch, dict) else batch:
        yield from tensors_of(part)


def _copied(batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return batch.clone()
    if isinstance(batch, dict):
        return {name: _copied(value) for name, value in batch.items()}
    return tuple(_copied(value) for value in batch)
