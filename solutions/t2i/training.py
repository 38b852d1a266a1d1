"""Training: one small visible loop that every lesson uses.

    batches = Batches(images, batch_size=128)                # shuffled anew in each epoch
    config = TrainConfig(steps=2000, learning_rate=2e-3)

    def loss_fn(model, x_0):                                 # one batch in, one number out
        t = torch.randint(len(ac), (len(x_0),), device=x_0.device)
        return ddpm_loss(model, x_0, t, torch.randn_like(x_0), ac)

    for state in train(model, loss_fn, batches, config, checkpoint="ddpm.safetensors"):
        ...                                                  # plot state.losses, sample, stop
    samples = sample_ddpm(state.ema_model, torch.randn(16, 1, 28, 28), ac)

Stop it whenever you like, even with the power switch: the same cell run again goes on from the
last checkpoint and ends at the very same weights, bit for bit.
"""

import copy
import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from t2i.engine.batches import Batches, batch_length, random_stream, to_device
from t2i.engine.distributed import ALONE, Team, whole
from t2i.engine.optim import make_optimizers, set_learning_rates
from t2i.engine.precision import fastest_precision
from t2i.engine.recorded import RecordedStep, can_compile, compile_blocks
from t2i.engine.train_config import TrainConfig, ema_decay_at, is_time_to_save, learning_rate_at
from t2i.engine.training_files import load_run, plain_config, save_run

# Under autocast torch tells of every RMSNorm that its weights are float32. So they should be.
warnings.filterwarnings("ignore", "Mismatch dtype between input and weight", UserWarning)


@dataclass
class TrainState:
    """Where a run stands after `step` updates; train yields it after each of them.

    Its seconds are those of all its starts, without what the caller does between two updates.
    """

    step: int
    loss: float
    learning_rate: float
    images_per_second: float
    model: nn.Module
    ema_model: nn.Module
    losses: list[float] = field(default_factory=list)  # of all steps, before a resume too
    seconds: float = 0.0


def train(
    model: nn.Module,
    loss_fn: Callable[[nn.Module, Any], Tensor],
    batches: Batches,
    config: TrainConfig,
    checkpoint: str | Path | None = None,
    ema_update: Callable[[nn.Module, nn.Module, float], None] | None = None,
    progress: bool = True,
    team: Team = ALONE,
    made_of: Mapping[str, Any] | None = None,
) -> Iterator[TrainState]:
    """Make the loss smaller, one batch at a time, and yield where the run stands.

    Args:
        model: changed in place; its device is where the training happens.
        loss_fn: called as loss_fn(model, batch), returns a scalar. It may draw random numbers:
            each step has its own stream, fixed by (config.seed, step).
        batches: a Batches, or anything with __next__, state() and restore(state).
        config: see TrainConfig.
        checkpoint: a file to save to and, when it is there already, to go on from.
        ema_update: moves the slow copy, as in lesson 3 (the default is t2i's own). Its decay is
            a number, in a recorded step a tensor with one number.
        progress: show a progress bar.
        team: the processes that train the model together; `batches` gives this one's rows.
        made_of: what else must be the same when a run goes on, as JSON holds it.

    Raises:
        CheckpointError: the checkpoint is damaged or belongs to another run.
        FloatingPointError: the loss or its gradient became infinite or not a number.
    """
    since = time.perf_counter()
    device, progress = next(model.parameters()).device, progress and team.is_first
    recorded = config.on_gpu != "plain" and device.type == "cuda" and team.size == 1
    if recorded:
        model.to(memory_format=torch.channels_last)  # as convolutions like it there
    ema_model = copy.deepcopy(model).eval().requires_grad_(False) if config.ema_horizon else model
    network = team.wrap(model)  # the model itself, where one process trains
    if ema_model is not model:
        team.shard(ema_model)
    if recorded and config.on_gpu == "compiled" and can_compile():
        compile_blocks(model)
    same = plain_config(config) | dict(made_of or {})
    run = TrainState(0, math.nan, 0.0, 0.0, model, ema_model)
    update = Update(run, network, loss_fn, config, ema_update, team, recorded)
    if checkpoint is not None and Path(checkpoint).exists():
        load_run(checkpoint, run, update.optimizers, batches, same)
        since -= run.seconds
        if progress:
            print(f"Going on from step {run.step} of {checkpoint}; delete it to train anew.")
    if run.step >= config.steps:
        yield run  # nothing left to do: hand over what was trained
    with tqdm(initial=run.step, total=config.steps, disable=not progress, unit="step") as bar:
        for step in range(run.step, config.steps):
            started = time.perf_counter()
            batch = to_device(next(batches), device)
            run.learning_rate = learning_rate_at(step, config)
            run.loss = update(batch, step)
            run.step = step + 1
            run.losses.append(run.loss)
            images = batch_length(batch) * team.size
            now = time.perf_counter()
            run.images_per_second, run.seconds = images / (now - started), now - since
            if checkpoint is not None and is_time_to_save(run.step, config):
                save_run(checkpoint, run, update.optimizers, batches, same, team)
            bar.set_postfix(loss=f"{run.loss:.4f}", refresh=False)
            bar.update()
            paused = time.perf_counter()
            yield dataclasses.replace(run)
            since += time.perf_counter() - paused


class Update:
    """One update of the weights, and of their slow copy.

    Args:
        run: has the learning rate, the model and the slow copy, which may be the model itself.
        network: what the loss calls in the model's place.
        loss_fn, config, ema_update, team: as train takes them.
        recorded: a GPU records the update, and plays it from then on.
    """

    def __init__(self, run, network, loss_fn, config, ema_update, team, recorded: bool):
        self.run, self.network, self.loss_fn, self.config = run, network, loss_fn, config
        self.ema_update, self.team, self.recorded = ema_update, team, recorded
        self.device = next(run.model.parameters()).device
        rates = (config.learning_rate, config.muon_rate, config.betas, config.weight_decay)
        self.optimizers = make_optimizers(run.model, *rates, recorded)
        self.decay = torch.zeros((), device=self.device) if recorded else 0.0
        self.all = RecordedStep(self._all) if recorded else self._all

    def __call__(self, batch: Any, step: int) -> float:
        """A batch in, its loss out, the mean over the team."""
        set_learning_rates(self.optimizers, self.run.learning_rate / self.config.learning_rate)
        decay = ema_decay_at(step, self.config)
        self.decay = self.decay.fill_(decay) if self.recorded else decay
        with random_stream(self.config.seed, step, self.device):
            loss = self.all(batch)
        return _finite(loss.item(), step) if self.recorded else self.run.loss

    def _all(self, batch: Any) -> Tensor:
        model, slow = self.run.model, self.run.ema_model
        with fastest_precision(self.device):
            loss = self.loss_fn(self.network.train(), batch)
        if not self.recorded:  # now, before anything is spoilt
            self.run.loss = _finite(self.team.mean(loss), self.run.step)
        model.zero_grad()
        loss.backward()
        length = whole(nn.utils.clip_grad_norm_(model.parameters(), self.config.clip_norm))
        if not self.recorded:
            _finite(length.item(), self.run.step, "The gradient's length")
        for optimizer in self.optimizers:
            optimizer.step()
        if slow is not model:
            (self.ema_update or _default_ema_update())(slow, model, self.decay)
        return loss.detach().masked_fill(~length.isfinite(), math.nan)  # a recording looks later


def _finite(value: float, step: int, what: str = "The loss") -> float:
    if not math.isfinite(value):
        raise FloatingPointError(
            f"{what} became {value} at step {step}: a smaller learning rate usually helps."
        )
    return value


def _default_ema_update() -> Callable:
    from t2i.diffusion import ema_update  # here, because lesson 2 trains without lesson 3

    return ema_update
