"""Checkpoints: files that are whole or absent, never half-written, and never pickles.

Tensors lie in a safetensors file; everything else is JSON in that file's own metadata, so one
checkpoint is one file and one rename makes it appear.
"""

import contextlib
import glob
import hashlib
import json
import os
import platform
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import safetensors.torch
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from t2i.engine.distributed import part_like

HOST = platform.node().partition(".")[0]  # processes of other machines may write here, too


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message says which file, why, and what to do."""


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    The bytes go to a temporary file in the same folder, are forced to the disk, and then take
    the place of `path` in one rename. Of several writers, the last one's file stays.

    Args:
        path: the file to write; its folder is made if it is missing.
        content: all of its bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    writer = f"{HOST}.{os.getpid()}.{threading.get_ident()}"  # nobody else writes under this name
    temporary = path.with_name(f"{path.name}.{writer}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def lock_of(path: str | Path) -> FileLock:
    """For reading a file, changing it and writing it: in `with lock_of(path):` one is alone.

    Whoever comes second waits. The lock is one of the whole folder, and ends with its process.

    Args:
        path: the file; its folder is made if it is missing.
    """
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock")


def digest(path: str | Path) -> str:
    """SHA-256 of a file, by which figures say which weights they belong to."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write tensors and their description into one safetensors file, atomically.

    Args:
        path: the file, usually `….safetensors`.
        tensors: by name; any device and memory layout.
        info: anything that JSON can hold.
    """
    plain = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
    write_atomically(path, safetensors.torch.save(plain, {"info": json.dumps(info)}))


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what save_tensors wrote.

    Args:
        path: the file.

    Returns:
        tensors: by name, on the CPU. They may lie in the file itself, which Windows does not let
            anybody replace while one of them is in use.
        info: the description.

    Raises:
        CheckpointError: the file is missing, damaged, or was not written by save_tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            info = json.loads((file.metadata() or {})["info"])
            return {name: file.get_tensor(name) for name in file.keys()}, info
    except KeyError:
        raise CheckpointError(f"{path} is a safetensors file that t2i did not write.") from None
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint ({error}): delete it and run again."
        ) from error


def save_weights(
    path: str | Path,
    model: nn.Module,
    info: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a model's weights alone, for others to start from.

    Args:
        path: the file.
        model: whose state_dict is written.
        info: what to remember beside them, for example how they were trained.
        dtype: precision of the floating-point weights in the file.

    Raises:
        ValueError: a weight is too large for dtype.
    """
    weights = model.state_dict()
    tensors = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    for name, tensor in tensors.items():
        if (tensor.isinf() & weights[name].isfinite()).any():
            raise ValueError(f"{name} holds a weight too large for {dtype}: save it as float32")
    save_tensors(path, tensors, {"format": "t2i-weights", **(info or {})})


def load_weights(path: str | Path, model: nn.Module) -> dict[str, Any]:
    """Put saved weights into a model of the same architecture, in place.

    Args:
        path: a file that save_weights wrote.
        model: keeps its own dtype and device.

    Returns:
        info: what was remembered beside the weights.

    Raises:
        CheckpointError: unreadable file, or weights of another architecture.
    """
    tensors, info = load_tensors(path)
    load_into(model, tensors, path)
    return info


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Copy tensors into a model, or say in one sentence why they do not fit.

    Args:
        model: changed in place.
        tensors: its whole state_dict.
        path: where they came from, for the message.

    Raises:
        CheckpointError: names or shapes differ.
    """
    own = model.state_dict()
    both = own.keys() & tensors.keys()
    wrong = sorted(own.keys() ^ tensors.keys())
    wrong += sorted(name for name in both if own[name].shape != tensors[name].shape)
    if wrong:
        raise CheckpointError(
            f"{path} holds the weights of another model ({len(wrong)} tensors do not fit, the "
            f"first is {wrong[0]}): delete it, or give this run another file name."
        )
    model.load_state_dict({name: part_like(value, own[name]) for name, value in tensors.items()})


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of writers on this machine that were killed."""
    name = glob.escape(f"{path.name}.{HOST}")
    for file in path.parent.glob(f"{name}.[0-9]*.[0-9]*.tmp"):
        if not psutil.pid_exists(int(file.name.split(".")[-3])):
            file.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Force the rename itself to the disk, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):  # Windows cannot open a folder; the rename stands anyway
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
