"""A workshop of trained parts: what is finished stays, what is half-done goes on.

    shop = Workshop(folder, device)
    vae = shop.part("vae", Part(model, loss_fn, batches, training))   # now, or from its file
    data = shop.tensors("latents", make, vae=digest(...))             # likewise
    dit = shop.part("dit", Part(model, loss_fn, batches, training), vae=digest(...))

Lesson 10 trains its three parts in one; so does a folder of pictures.
"""

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from t2i.engine.distributed import ALONE, Team
from t2i.engine.train_config import TrainConfig
from t2i.files.checkpoint import (
    CheckpointError,
    load_into,
    load_tensors,
    save_tensors,
    save_weights,
)
from t2i.files.folders import read_json, write_json
from t2i.files.results import machine, peak_memory
from t2i.runs.recipe_runs import curve
from t2i.training import TrainState, train


@dataclass
class Part:
    """What is to be trained, and how.

    Args:
        model: fresh; it gets the part's trained weights.
        loss_fn, training: as train takes them.
        batches: makes the batches, only if there is something to train.
        finish: what to measure of the trained part and write down.
        team: the processes that train it together.
        watch: called after each step with where the training stands, and the seconds that the part
            has taken so far; its own do not count.
    """

    model: nn.Module
    loss_fn: Callable
    batches: Callable[[], Any]
    training: TrainConfig
    finish: Callable[[nn.Module], dict] = lambda model: {}
    team: Team = ALONE
    watch: Callable[[TrainState, float], None] | None = None


@dataclass
class Workshop:
    """Where the parts are made: what is finished stays, what is half-done goes on.

    Args:
        folder: of the finished parts and of the checkpoints.
        device: where to train.
    """

    folder: Path
    device: torch.device
    log: dict[str, Any] = field(default_factory=dict)

    def part(self, name: str, part: Part, **made_of: Any) -> nn.Module:
        """A trained part: from its file, or by training it now.

        Args:
            name: of the part, and of its file.
            part: what to train.
            **made_of: what else it depends on; its file and its checkpoint remember it.

        Raises:
            CheckpointError: its file is of a training of another length, or made of something else.
        """
        file, model = self.folder / f"{name}.safetensors", part.model
        if not file.exists():
            self._train(file, part, made_of)
        tensors, info = load_tensors(file)
        same_or_refuse(file, info, {"steps": part.training.steps})
        same_or_refuse(file, info.get("made_of", made_of), made_of)  # older files do not tell
        load_into(model.cpu(), tensors, file)
        self.log[name] = {key: value for key, value in info.items() if key != "format"}
        return model.eval().requires_grad_(False).to(self.device)

    def _train(self, file: Path, part: Part, made_of: dict[str, Any]) -> None:
        """Train a copy of a part and write its file, from the first process of the team."""
        team, running = part.team, file.with_suffix(".run.safetensors")
        if team.is_first:
            print(f"Training {file.stem}: {part.training.steps} steps.")
        started = time.perf_counter()
        learner = copy.deepcopy(part.model)
        if not team.fsdp:  # FSDP moves the weights itself, a block at a time
            learner = learner.to(self.device)
        batches = part.batches()
        before, speeds = time.perf_counter() - started, []
        how = {"checkpoint": running, "team": team, "made_of": made_of}
        for state in train(learner, part.loss_fn, batches, part.training, **how):
            speeds.append(state.images_per_second)
            if part.watch:
                part.watch(state, before + state.seconds)
        trained = team.gathered(state.ema_model.state_dict())
        team.wait()  # all have read what they go on from
        if team.is_first:
            part.model.load_state_dict(trained)
            info = self._told(part, state, speeds, before + state.seconds)
            info |= {"made_of": made_of} | part.finish(part.model.eval().requires_grad_(False))
            save_weights(file, part.model, info, torch.float32)
            running.unlink(missing_ok=True)
        team.wait()

    def _told(self, part: Part, state: TrainState, speeds: list[float], seconds: float) -> dict:
        """What to remember of a training."""
        return {
            "steps": part.training.steps,
            "parameters": sum(p.numel() for p in part.model.parameters()),
            "images_per_second": round(statistics.median(speeds), 1),
            "seconds": round(seconds, 1),
            "machine": machine(self.device),
            "processes": part.team.size,
            "peak_memory_bytes": peak_memory(self.device),
            "losses": curve(state.losses),
        }

    def claim(self, data: str) -> None:
        """Say that what is made here is made of this data; nobody else's work is gone on with.

        Args:
            data: "scenes", or what a folder of pictures calls itself.

        Raises:
            CheckpointError: there are parts that were made of other data.
        """
        file, parts = self.folder / "data.json", list(self.folder.glob("*.safetensors"))
        found = read_json(file).get("data") if file.exists() else "scenes" if parts else data
        same_or_refuse(self.folder, {"data": found}, {"data": data})
        if data != "scenes":
            write_json(file, {"data": data})

    def tensors(
        self, name: str, make: Callable[[], dict[str, Tensor]], **made_of: Any
    ) -> dict[str, Tensor]:
        """Tensors that take long to make: from their file, or made now.

        Args:
            name: of their file.
            make: makes them.
            **made_of: what they depend on; it is written down beside them.

        Raises:
            CheckpointError: the file was made of something else.
        """
        file = self.folder / f"{name}.safetensors"
        if not file.exists():
            save_tensors(file, make(), made_of)
        found, info = load_tensors(file)
        same_or_refuse(file, info, made_of)
        return found


def same_or_refuse(file: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """CheckpointError, if a file was made with something else than what is wanted now."""
    for what, value in wanted.items():
        if found.get(what) != value:
            raise CheckpointError(
                f"{file} was made with {what} {found.get(what)}, the recipe has {value}: delete "
                f"it to make it anew, or give the run another folder."
            )
