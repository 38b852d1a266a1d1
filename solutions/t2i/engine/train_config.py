"""What decides how a training run goes: its length, its rates from step to step, its slow copy.

    config = TrainConfig(steps=2000, learning_rate=2e-3)     # `training.train` takes it

Nothing here knows of a model or of data.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides how a training run goes, apart from model, loss and data.

    Args:
        steps: updates of the weights in the whole run.
        learning_rate: its highest value, reached at the end of the warm-up.
        muon_rate: the same for Muon, which then moves the matrices; 0: AdamW moves everything.
        warmup: share of the steps in which the learning rates rise from 0.
        betas: memory of AdamW's two running averages.
        decay: how the learning rates fall to 0 after the warm-up, "cosine" or "linear".
        weight_decay: pull of the weights towards 0.
        clip_norm: gradients longer than this are shortened to it.
        ema_horizon: the slow copy averages about the last ema_horizon · steps updates; 0: no
            slow copy, state.ema_model is the model itself, in training mode.
        seed: of all randomness inside the loop.
        save_every: steps between two checkpoints.
        on_gpu: how a GPU is told what to do. "plain": by Python, job by job. "recorded": the step
            is recorded once and then replayed, see recorded.py; all batches must have one shape,
            and a step that looks at values stays plain. "compiled": the network's blocks are
            compiled first, too, where there is a compiler. A processor, and a team, know only
            "plain".
    """

    steps: int
    learning_rate: float = 2e-3
    muon_rate: float = 0.0
    warmup: float = 0.05
    decay: str = "cosine"
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_horizon: float = 0.07
    seed: int = 0
    save_every: int = 100
    on_gpu: str = "plain"

    def __post_init__(self):
        least = {"steps": 0, "save_every": 1, "muon_rate": 0, "weight_decay": 0}
        for name, value in least.items():
            if not getattr(self, name) >= value:
                raise ValueError(f"{name} must be {value} or more, got {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("warmup", "ema_horizon"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.on_gpu not in ("plain", "recorded", "compiled"):
            raise ValueError(
                f'on_gpu must be "plain", "recorded" or "compiled", got {self.on_gpu!r}'
            )
        if self.decay not in ("cosine", "linear"):
            raise ValueError(f'decay must be "cosine" or "linear", got {self.decay!r}')


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """The learning rate of one update: a straight climb, then half a cosine or a line down to 0.

    Args:
        step: updates made so far, from 0.
        config: its steps, warmup, decay and learning_rate are used.

    Source: Loshchilov and Hutter 2016, arXiv:1608.03983, equation 5 (cosine); Bergsma et al. 2025,
        arXiv:2502.15938 (linear).
    """
    warm = max(1, round(config.warmup * config.steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, config.steps - warm)
    left = 1 - done if config.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * left


def ema_decay_at(step: int, config: TrainConfig) -> float:
    """How much of the slow copy one update keeps: little at first, so that it forgets the start.

    decay = min(1 - 1 / horizon, (1 + step) / (10 + step)), horizon = ema_horizon · steps
    """
    horizon = max(1.0, config.ema_horizon * config.steps)
    return min(1 - 1 / horizon, (1 + step) / (10 + step))


def is_time_to_save(step: int, config: TrainConfig) -> bool:
    """Whether a checkpoint follows the update that made it `step` updates."""
    return step % config.save_every == 0 or step == config.steps
