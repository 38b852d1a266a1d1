"""Bench: seconds of a training step and of a sampling step, memory, and what share of the GPU.

how = Settings.for_device(torch.device("cuda"), compiled=False)
found = time_pair(pair, how, runs=5, steps=3)     # {"training": {...}, "sampling": {...}}
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.speed.bench_clock import Spent, peak_bytes, timed
from t2i.speed.bench_pairs import Inputs, Pair
from t2i.speed.flops import count_flops

# What is compiled: the blocks that a network repeats, ours and theirs of the same kind; residual
# ones where there are no others. diffusers names BasicTransformerBlock itself, for
# compile_repeated_blocks of its UNet2DConditionModel.
REPEATED = (
    {"TransformerBlock", "DiTBlock", "EncoderLayer", "BasicTransformerBlock", "CLIPEncoderLayer"},
    {"ResBlock", "ConvBlock", "ResnetBlock2D"},
)
BURST_SECONDS, LONGEST_BURST = 0.1, 20  # short steps are taken many in a row


@dataclass(frozen=True)
class Settings:
    """How both networks are run.

    Args:
        device: where.
        bfloat16: training by autocast to it; sampling with the weights themselves in it.
        compile: torch.compile the repeated blocks of both.
        channels_last: this memory layout for networks of convolutions.
        bursts: take short steps many in a row, so that a GPU is never waited for in between.
    """

    device: torch.device
    bfloat16: bool = False
    compile: bool = False
    channels_last: bool = False
    bursts: bool = False

    @classmethod
    def for_device(cls, device: torch.device, compiled: bool = False) -> "Settings":
        """All that is fast on a GPU; plain float32 on a processor."""
        fast = device.type == "cuda"
        return cls(device, fast, compiled, channels_last=fast, bursts=fast)

    def precision(self):
        """A context in which the networks are trained."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()


@dataclass
class Step:
    """One network's step, as call(inputs), and the tensors that it keeps from step to step."""

    call: Callable[[Inputs], None]
    kept: Callable[[], list[Tensor]]


def time_pair(
    pair: Pair, how: Settings, runs: int, steps: int, peak_flops: float | None = None
) -> dict:
    """Both kinds of step of both networks, by turns; the medians and what they come to.

    Args:
        pair: its networks are moved to the device, and trained.
        how: see Settings.
        runs: each gives one number a network, the median of its steps.
        steps: turns that each network has in a run. So whatever else the machine does falls on
            both.
        peak_flops: operations a second that the device can do; None: not known.
    """
    flops = {kind: pair_flops(pair, kind) for kind in ("training", "sampling")}
    models = placed(pair, how)
    result: dict = {"compiled": how.compile}
    for kind, make in (("sampling", sampling_step), ("training", training_step)):
        made = {name: make(model, pair.inputs, how) for name, model in models.items()}
        calls = {name: step.call for name, step in made.items()}
        draw = drawing(pair, how, kind)
        for call in 2 * list(calls.values()):  # allocates memory, compiles, and does not count
            call(draw())
        burst = burst_of([timed(call, [draw()], how.device) for call in calls.values()], how)
        memory = {
            name: peak_bytes(step.call, draw(), step.kept(), how.device)
            for name, step in made.items()
        }
        turns = list(alternating(calls, draw, how.device, runs, steps, burst))
        result[kind] = judged(turns, flops[kind], len(pair.inputs[0]), peak_flops)
        result[kind] |= {"steps_in_a_turn": burst, "peak_memory_bytes": memory}
        del made, calls
    return result


def burst_of(first: list[list[Spent]], how: Settings) -> int:
    """How many steps in a row fill a moment."""
    longest = max(step.wall for steps in first for step in steps)
    return min(LONGEST_BURST, 1 + int(BURST_SECONDS / longest)) if how.bursts else 1


def judged(turns: list[dict[str, list[Spent]]], flops: int, rows: int, peak: float | None) -> dict:
    """Medians, their ratio, and our network's operations a second beside what the GPU can do.

    Args:
        turns: of each run, the steps of both.
        flops: of a step of ours.
        rows: of a batch.
        peak: operations a second that the device can do; None: not known.
    """
    each = {who: [of_run[who] for of_run in turns] for who in turns[0]}
    seconds, busy = {}, {}
    for who, found in each.items():
        seconds[who] = [statistics.median(step.wall for step in steps) for steps in found]
        busy[who] = [statistics.median(step.own for step in steps) for steps in found]
    medians = {who: statistics.median(values) for who, values in seconds.items()}
    own = {who: statistics.median(values) for who, values in busy.items()}
    on_processor = all(own.values())
    return {
        "seconds": seconds,
        "processor_seconds": busy if on_processor else None,
        "processor_ratio": own["ours"] / own["diffusers"] if on_processor else None,
        "ours_median": medians["ours"],
        "diffusers_median": medians["diffusers"],
        "ratio": medians["ours"] / medians["diffusers"],
        "images_per_second": {who: rows / value for who, value in medians.items()},
        "model_flops": flops,
        "model_flops_per_second": flops / medians["ours"],
        "model_flop_utilisation": flops / medians["ours"] / peak if peak else None,
    }


def alternating(
    calls: dict[str, Callable[[Inputs], None]],
    draw: Callable[[], Inputs],
    device: torch.device,
    runs: int,
    steps: int,
    burst: int = 1,
) -> Iterator[dict[str, list[Spent]]]:
    """What every call took, run by run, on inputs drawn anew for each.

    Who is first changes from turn to turn; in a turn each takes `burst` steps in a row.
    """
    names = list(calls)
    for _ in range(runs):
        spent: dict[str, list[Spent]] = {name: [] for name in calls}
        for turn in range(steps):
            batches = [draw() for _ in range(burst)]
            for name in names if turn % 2 == 0 else reversed(names):
                spent[name] += timed(calls[name], batches, device)
        names.reverse()
        yield spent


def training_step(model: nn.Module, inputs: Inputs, how: Settings) -> Step:
    """Forward, loss, backward, fused AdamW: the same for every network."""
    model.float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    with torch.no_grad(), how.precision():
        target = torch.randn_like(model(*inputs), dtype=torch.float32)

    def step(inputs: Inputs) -> None:
        with how.precision():
            loss = F.mse_loss(model(*inputs), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def kept() -> list[Tensor]:
        moments = [each for state in optimizer.state.values() for each in state.values()]
        return [*model.parameters(), *model.buffers(), *moments, target]

    return Step(step, kept)


def sampling_step(model: nn.Module, inputs: Inputs, how: Settings) -> Step:
    """One look at a noisy picture, as every step of a sampler takes it."""
    model.to(torch.bfloat16 if how.bfloat16 else torch.float32)

    @torch.no_grad()
    def step(inputs: Inputs) -> None:
        model(*inputs)

    return Step(step, lambda: [*model.parameters(), *model.buffers()])


def drawing(pair: Pair, how: Settings, kind: str) -> Callable[[], Inputs]:
    """What draws a new batch on the device, in the layout and the numbers that a step takes."""
    count = len(pair.inputs[0])

    def ready(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point() and how.bfloat16 and kind == "sampling":
            tensor = tensor.to(torch.bfloat16)
        last = tensor.ndim == 4 and how.channels_last and pair.convolutional
        return tensor.contiguous(memory_format=torch.channels_last) if last else tensor

    def draw() -> Inputs:
        with how.device:
            return tuple(ready(each) for each in pair.draw(count))

    return draw


def placed(pair: Pair, how: Settings) -> dict[str, nn.Module]:
    """Networks on the device, in the layout that suits them, their blocks compiled if asked for."""
    layout = torch.preserve_format
    if how.channels_last and pair.convolutional:
        layout = torch.channels_last
    models = {name: m.to(how.device, memory_format=layout) for name, m in pair.models.items()}
    if how.compile:
        torch._dynamo.config.recompile_limit = 64  # one version for each width and resolution
        for model in models.values():
            compile_repeated(model)
    return models


def compile_repeated(model: nn.Module) -> None:
    """Compile every repeated block by itself, as diffusers' compile_repeated_blocks does.

    Raises:
        ValueError: there is none.
    """
    for kinds in REPEATED:
        blocks = [each for each in model.modules() if type(each).__name__ in kinds]
        for block in blocks:
            block.compile(dynamic=False)
        if blocks:
            return
    raise ValueError(f"{type(model).__name__} repeats none of the blocks that are compiled")


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
