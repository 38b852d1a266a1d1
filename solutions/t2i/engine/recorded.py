"""A step of training, recorded once on a GPU and played again from then on.

    step = RecordedStep(update)      # update(batch) computes a step and returns its loss
    loss = step(batch)               # the first three as always; the fourth is recorded and played

A step of a small network is some thousand little jobs for the GPU. Python calls them out one after
the other, and often the GPU waits for the next. But every step is the same jobs on the same places
of the memory, only with other numbers in them. So they are written down once (a CUDA graph), and
all of them are started with one call. Whatever changes from step to step must therefore stand in
the GPU's memory: the batch, the learning rates, the state of the random numbers. And nothing may
look at a value and decide by it: the recording knows no "if". A step that does look is found out
before, and goes on as always. What recording saved is in data/benchmarks.md.

Source: Ansel et al. 2024, "PyTorch 2", section 3 (torch.compile) and the notes on CUDA graphs in
    PyTorch's manual, "CUDA semantics".
"""

import contextlib
import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from t2i.engine.batches import changed, tensors_of

AS_ALWAYS = 3  # steps before the recording: libraries choose their ways, memory is set aside
NO_RECORDING = (
    'This step cannot be recorded. Something in it looks at a value, as "if loss > 1" or .item() '
    'do; with on_gpu="plain" it can be trained all the same.'
)
LOOKS = (
    'Something in this step looks at a value, as "if loss > 1" or .item() do, or brings a tensor '
    "from the processor. So the GPU takes the step job by job: the same learning, but slower."
)


def values_at_hand(tensor: Tensor) -> bool:
    """Whether a check may look at a tensor's values: not if they lie on a GPU (or nowhere: meta).

    A GPU works on by itself, and Python would have to wait for it; while a step is recorded, there
    are no values at all. (A token out of range stops a GPU too, with a message of its own; whatever
    is NaN or infinite is found in the loss.)
    """
    return not (tensor.is_cuda or tensor.is_meta)


@contextlib.contextmanager
def waiting_noted() -> Iterator[list]:
    """The list that it gives fills with warnings where Python has to wait for the GPU."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as noted:
        warnings.filterwarnings("ignore")  # PyTorch warns of the warnings, too
        warnings.filterwarnings("always", ".*synchronizing CUDA operation")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield noted
        finally:
            torch.cuda.set_sync_debug_mode(before)


class RecordedStep:
    """Call it like the update that it was made from.

    Args:
        update: batch in, loss out; everything that it does happens on one GPU. If it looks at
            values, it is never recorded, and a warning says so.
    """

    def __init__(self, update: Callable[[Any], Tensor]):
        self.update, self.calls, self.looks = update, 0, False
        self.graph, self.batch, self.loss = None, None, None

    def __call__(self, batch: Any) -> Tensor:
        """One step; the next one overwrites its loss.

        Raises:
            ValueError: a batch of other shapes than the one that was recorded.
            RuntimeError: the update cannot be recorded, though it was not seen to look at values.
        """
        self.calls += 1
        if self.calls < AS_ALWAYS or self.looks:
            return self._aside(batch)
        if self.calls == AS_ALWAYS:
            with waiting_noted() as noted:
                loss = self._aside(batch)
            if noted:
                self.looks = True
                warnings.warn(LOOKS, stacklevel=2)
            return loss
        if self.graph is None:
            self._record(batch)
        for place, value in zip(tensors_of(self.batch), tensors_of(batch), strict=True):
            if place.shape != value.shape:
                recorded, given = tuple(place.shape), tuple(value.shape)
                raise ValueError(f"the step was recorded with {recorded}, a batch has {given}")
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
        self.batch = changed(batch, Tensor.clone)
        self.graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self.graph):
                self.loss = self.update(self.batch)
        except RuntimeError as error:
            raise RuntimeError(NO_RECORDING) from error


def can_compile() -> bool:
    """Whether torch.compile finds what it needs for a GPU: Triton, and a C compiler for that."""
    compilers = filter(None, (os.environ.get("CC"), "gcc", "clang"))
    return importlib.util.find_spec("triton") is not None and any(map(shutil.which, compilers))


def compile_blocks(model: nn.Module) -> None:
    """Let torch.compile make one program of each repeated block of a network, in place.

    Blocks that are alike share a program, so this takes seconds where the whole takes a minute.
    """
    for lists in model.modules():
        for block in lists if isinstance(lists, nn.ModuleList) else ():
            block.compile(dynamic=False)
