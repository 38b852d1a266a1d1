"""Bench: seconds of a training step and of a sampling step, and what share of the GPU they use.

how = Settings.for_device(torch.device("cuda"))
found = time_pair(pair, how, runs=5, steps=3)     # {"training": {...}, "sampling": {...}}
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.bench_pairs import Pair
from t2i.flops import count_flops

# Highest bfloat16 operations a second with dense matrices, by the name that torch gives the GPU.
# Source: NVIDIA's data sheets and architecture white papers, the figures without sparsity.
PEAK_FLOPS = {
    "NVIDIA A10": 125e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA GeForce RTX 3090": 71e12,
    "NVIDIA GeForce RTX 4090": 165e12,
}


@dataclass(frozen=True)
class Settings:
    """How both networks are run.

    Args:
        device: where.
        bfloat16: autocast to it.
        compile: torch.compile both; where one of them cannot be, neither is.
        channels_last: this memory layout for networks of convolutions.
    """

    device: torch.device
    bfloat16: bool = False
    compile: bool = False
    channels_last: bool = False

    @classmethod
    def for_device(cls, device: torch.device) -> "Settings":
        """All that is fast on a GPU; plain float32 on a processor."""
        fast = device.type == "cuda"
        return cls(device, bfloat16=fast, compile=fast, channels_last=fast)

    def precision(self):
        """A context in which the networks run."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()


def time_pair(pair: Pair, how: Settings, runs: int, steps: int) -> dict:
    """Both kinds of step of both networks, by turns; the medians and what they come to.

    Args:
        pair: on the CPU; its networks are moved to the device, and trained.
        how: see Settings.
        runs: each gives one number a network, the median of its steps.
        steps: timed steps of each network in a run. The two take turns, so that whatever else
            the machine does falls on both.
    """
    flops = {kind: pair_flops(pair, kind) for kind in ("training", "sampling")}
    models, inputs, compiled = placed(pair, how)
    result: dict = {"compiled": compiled}
    for kind, make in (("sampling", sampling_step), ("training", training_step)):
        calls = {name: make(model, inputs, how) for name, model in models.items()}
        seconds = {name: [] for name in calls}
        busy = {name: [] for name in calls}
        for times in alternating(calls, how.device, runs, steps):
            for name, values in times.items():
                wall, processor = zip(*values, strict=True)
                seconds[name].append(statistics.median(wall))
                busy[name].append(statistics.median(processor))
        result[kind] = judged(seconds, busy, flops[kind], how.device)
    return result


def judged(
    seconds: dict[str, list[float]], busy: dict[str, list[float]], flops: int, device: torch.device
) -> dict:
    """Medians, their ratio, and our network's operations a second beside the GPU's peak.

    Args:
        seconds: of each run by the clock.
        busy: the processor's own seconds. They leave out what other programs took meanwhile, and
            so tell more on a processor that is shared; on a GPU they mean nothing.
        flops: of a step.
        device: where it was taken.
    """
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    own = {name: statistics.median(values) for name, values in busy.items()}
    speed, peak = flops / medians["ours"], peak_flops(device)
    on_processor = device.type == "cpu"
    return {
        "seconds": seconds,
        "processor_seconds": busy if on_processor else None,
        "processor_ratio": own["ours"] / own["diffusers"] if on_processor else None,
        "ours_median": medians["ours"],
        "diffusers_median": medians["diffusers"],
        "ratio": medians["ours"] / medians["diffusers"],
        "model_flops": flops,
        "model_flops_per_second": speed,
        "model_flop_utilisation": speed / peak if peak else None,
    }


def alternating(
    calls: dict[str, Callable[[], None]], device: torch.device, runs: int, steps: int
) -> Iterator[dict[str, list[tuple[float, float]]]]:
    """The seconds of every call, by the clock and of the processor, run by run.

    Who is first changes from step to step.
    """
    for call in calls.values():
        call()  # the first one allocates memory, compiles, and is not timed
    wait_for(device)
    names = list(calls)
    for _ in range(runs):
        times = {name: [] for name in calls}
        for step in range(steps):
            for name in names if step % 2 == 0 else reversed(names):
                started = time.perf_counter(), time.process_time()
                calls[name]()
                wait_for(device)
                ended = time.perf_counter(), time.process_time()
                times[name].append((ended[0] - started[0], ended[1] - started[1]))
        names.reverse()
        yield times


def training_step(model: nn.Module, inputs: tuple[Tensor, ...], how: Settings) -> Callable:
    """Forward, loss, backward, fused AdamW: the same for every network."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    target = torch.randn_like(inputs[0])

    def step() -> None:
        with how.precision():
            loss = F.mse_loss(model(*inputs), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def sampling_step(model: nn.Module, inputs: tuple[Tensor, ...], how: Settings) -> Callable:
    """One look at a noisy picture, as every step of a sampler takes it."""

    @torch.no_grad()
    def step() -> None:
        with how.precision():
            model(*inputs)

    return step


def placed(pair: Pair, how: Settings) -> tuple[dict[str, nn.Module], tuple[Tensor, ...], bool]:
    """Networks and inputs on the device, in the layout that suits them, compiled if that works."""
    layout = torch.preserve_format
    if how.channels_last and pair.convolutional:
        layout = torch.channels_last
    models = {name: m.to(how.device, memory_format=layout) for name, m in pair.models.items()}
    x_t, *others = (each.to(how.device) for each in pair.inputs)
    inputs = (x_t.contiguous(memory_format=layout) if layout != torch.preserve_format else x_t,)
    inputs += tuple(others)
    if not how.compile:
        return models, inputs, False
    compiled = {name: torch.compile(model) for name, model in models.items()}
    try:
        for model in compiled.values():
            with how.precision():
                model(*inputs).mean().backward()
            model.zero_grad()
    except Exception as error:  # no compiler here, or a layer that it does not know
        print(f"torch.compile does not work here, so neither is compiled ({error!s:.120})")
        return models, inputs, False
    return compiled, inputs, True


def pair_flops(pair: Pair, kind: str) -> int:
    """Operations of one step of our network, "training" (there and back) or "sampling"."""
    rows = [each[:1] for each in pair.inputs]

    def step() -> None:
        out = pair.ours(*rows)
        if kind == "training":
            out.mean().backward()

    with torch.set_grad_enabled(kind == "training"):
        count = count_flops(step)
    pair.ours.zero_grad()
    return count * len(pair.inputs[0])


def peak_flops(device: torch.device) -> float | None:
    """The most that this GPU can do, or None for a processor or where it is not known."""
    if device.type != "cuda":
        return None
    return PEAK_FLOPS.get(torch.cuda.get_device_name(device))


def wait_for(device: torch.device) -> None:
    """A GPU works on by itself: wait until it has done all."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
