"""The file of a half-done training: everything that the next start needs, in one.

save_run(path, run, optimizers, batches, plain_config(config), team)
load_run(path, run, optimizers, batches, plain_config(config))     # changes the three

`run` is a TrainState and `config` a TrainConfig; what batches must be able to do, `train` tells.
"""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from t2i.engine.distributed import Team, part_like
from t2i.files.checkpoint import CheckpointError, load_into, load_tensors, save_tensors


def save_run(path, run, optimizers, batches, same: dict, team: Team) -> None:
    """Write everything that the next start needs into one file, the same for any team."""
    tensors = {f"model/{name}": value for name, value in run.model.state_dict().items()}
    if run.ema_model is not run.model:
        tensors |= {f"ema/{name}": value for name, value in run.ema_model.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            start = f"optimizer/{number}/{index}"
            tensors |= {f"{start}/{name}": value for name, value in values.items()}
    info = {"format": "t2i-training", "step": run.step, "loss": run.loss, "losses": run.losses}
    info |= {"images_per_second": run.images_per_second, "seconds": run.seconds}
    info |= {"batches": batches.state(), "config": same}
    tensors = team.gathered(tensors)
    if team.is_first:
        save_tensors(path, tensors, info)


def load_run(path, run, optimizers, batches, same: dict) -> None:
    """Put everything back as it was, or say in one sentence why that cannot be."""
    tensors, info = load_tensors(path)
    if info.get("format") != "t2i-training":
        raise CheckpointError(f"{path} is not a training checkpoint: give this run another name.")
    for name, wanted in same.items():
        if info["config"].get(name) != wanted:
            raise CheckpointError(
                f"{path} belongs to a run with {name}={info['config'].get(name)}, this one has "
                f"{name}={wanted}: delete it to start anew, or give this run another file name."
            )
    try:
        batches.restore(info["batches"])
    except ValueError as error:
        raise CheckpointError(f"{path} belongs to a run over other data: {error}.") from None
    load_into(run.model, _below("model", tensors), path)
    if run.ema_model is not run.model:
        load_into(run.ema_model, _below("ema", tensors), path)
    for number, optimizer in enumerate(optimizers):
        _load_optimizer(optimizer, _below(f"optimizer/{number}", tensors))
    run.step, run.loss, run.losses = info["step"], info["loss"], list(info["losses"])
    for name in ("images_per_second", "seconds"):
        setattr(run, name, info.get(name, 0.0))  # older files do not tell


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give each parameter its running averages back, in the parameter's own memory layout."""
    for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
        for name, value in _below(str(index), tensors).items():
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter).copy_(part_like(value, parameter)).detach()
            else:
                value = value.to(parameter.device, copy=True)  # out of the file: see load_tensors
            optimizer.state[parameter][name] = value


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name[len(prefix) + 1 :]: value
        for name, value in tensors.items()
        if name.startswith(prefix + "/")
    }


def plain_config(config) -> dict[str, Any]:
    """What must be the same when a run goes on; how often it saves, and how fast, need not be."""
    values = asdict(config)
    del values["save_every"], values["on_gpu"]
    return values | {"betas": list(config.betas)}
