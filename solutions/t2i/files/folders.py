"""Folders of a model: config.json and weights in safetensors, as transformers and diffusers do.

write_folder(folder, "model", {"width": 64}, state)    # config.json and model.safetensors
config, state = read_folder(folder, "model")           # the same; sharded or fp16 files too
model = filled(model, state, folder)                   # all of these weights, and no others

Whatever is missing, damaged, left over or of another shape is named. Only safetensors are read: a
pickle can run any program when it is opened. (The one exception is in clip_files, with its reason.)
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from t2i.files.checkpoint import write_atomically

Model = TypeVar("Model", bound=nn.Module)


# What building a model raises where a config.json tells sizes that there cannot be.
MISFITS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError)
HUB_SECONDS = 10  # how long the hub may take to say what it has


class FilesError(ValueError):
    """Files that cannot be had or used; the message says which, why, and what to do."""


def find_folder(
    source: str | Path, wanted: Callable[[Iterable[str]], list[str]], local: str
) -> Path:
    """The folder itself, or the one into which the hub's files were downloaded, once.

    Args:
        source: a folder, or a name on the Hugging Face hub.
        wanted: called with the names of all files of a repository; gives those to fetch.
        local: what to call the folder where one has to fetch it by hand.

    Raises:
        FilesError: it is neither, or cannot be had; the message says what to do.
    """
    name = str(source).strip()
    if not name:
        raise FilesError("Say which folder, or which name on the Hugging Face hub.")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise FilesError(
            f"There is no folder {folder.absolute()}, and it is no hub name like owner/model."
        )
    import huggingface_hub as hub  # takes a second to import, and only a hub name needs it

    try:
        told = hub.model_info(name, timeout=HUB_SECONDS)  # tries once; listing files, five times
        patterns = wanted(file.rfilename for file in told.siblings)
        return Path(hub.snapshot_download(name, allow_patterns=patterns))
    except FilesError:
        raise
    except Exception as error:  # the library has dozens of kinds, for every way to have no file
        try:
            return Path(hub.snapshot_download(name, local_files_only=True))  # fetched before
        except Exception:
            raise FilesError(
                f"There is no folder {folder.absolute()}, and {name} cannot be had from the "
                f"Hugging Face hub here ({type(error).__name__}). Where there is a network, run: "
                f"hf download {name} --local-dir {local}; copy that folder to this machine, and "
                f"give its whole path in place of the name."
            ) from error


def refuse_misfits(folder: str | Path, fits: Mapping[str, bool]) -> None:
    """FilesError, if parts of a folder cannot have been made for each other.

    Args:
        folder: for the message.
        fits: for some parts, as they are told to people, whether they go together.
    """
    for names, fit in fits.items():
        if not fit:
            raise FilesError(f"Parts of different models lie in {folder}: {names} do not fit.")


def write_folder(
    folder: str | Path,
    name: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model's description and weights, each file whole or not at all.

    Args:
        folder: made if it is missing.
        name: of the file of the weights, without `.safetensors`.
        config: anything that JSON can hold.
        state: the weights by name.
        dtype: of floating-point weights in the file; None: as they are.
    """
    tensors = {}
    for key, tensor in state.items():
        tensor = tensor.detach().to("cpu", copy=True).contiguous()
        tensors[key] = tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor
    content = safetensors.torch.save(tensors, {"format": "pt"})
    write_atomically(Path(folder) / f"{name}.safetensors", content)
    write_json(Path(folder) / "config.json", config)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a description, whole or not at all."""
    write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())


def read_folder(folder: str | Path, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What write_folder wrote, or transformers or diffusers.

    Args:
        folder: holds config.json and NAME.safetensors, or NAME.safetensors.index.json and the
            shards that it lists. Where these are missing, the half-precision files will do, which
            have `.fp16` in their names.
        name: of the file of the weights, without its ending.

    Raises:
        FilesError: a file is missing or damaged, or the weights are a pickle.
    """
    folder = Path(folder)
    return read_json(folder / "config.json"), read_weights(folder, name)


def read_json(path: Path) -> dict[str, Any]:
    """A description; FilesError where it is missing or damaged."""
    if not path.is_file():
        raise FilesError(f"{path} is missing.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FilesError(f"{path} is damaged ({error}): fetch or write it again.") from error
    if not isinstance(found, dict):
        raise FilesError(f"{path} must hold names and values, it holds a {type(found).__name__}.")
    return found


def read_weights(folder: Path, name: str) -> dict[str, Tensor]:
    """The weights of a folder, from one file or from all shards of its index."""
    for index, whole in (
        (f"{name}.safetensors.index.json", f"{name}.safetensors"),
        (f"{name}.safetensors.index.fp16.json", f"{name}.fp16.safetensors"),
    ):
        if (folder / index).is_file():
            return _load_shards(folder / index)
        if (folder / whole).is_file():
            return _load(folder / whole)
    raise FilesError(f"{folder / name}.safetensors is missing{_about_pickles(folder)}.")


def filled(
    model: Model,
    state: Mapping[str, Tensor],
    folder: str | Path,
    dtype: torch.dtype = torch.float32,
) -> Model:
    """The model with these weights in one precision, frozen: all of them and no others.

    The tensors themselves become the model's. Those of a file in this precision stay in the file
    and are read when they are first needed, so there is never a second copy. While the model is in
    use, Windows does not let this file be written anew: save the model to another folder.

    Args:
        model: of the right sizes; it may lie on the device "meta".
        state: its weights.
        folder: where they came from, for the message.
        dtype: the precision.

    Raises:
        FilesError: names or shapes differ; the message says which.
    """
    own = model.state_dict()
    wrong = {
        "missing": sorted(own.keys() - state.keys()),
        "unknown": sorted(state.keys() - own.keys()),
        "of another shape": sorted(
            name for name in own.keys() & state.keys() if own[name].shape != state[name].shape
        ),
    }
    told = [f"{len(names)} {how} ({', '.join(names[:3])})" for how, names in wrong.items() if names]
    if told:
        raise FilesError(f"The weights in {folder} do not fit: {'; '.join(told)}.")
    state = {name: tensor.to(dtype) for name, tensor in state.items()}
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def _load_shards(index: Path) -> dict[str, Tensor]:
    """Every tensor of every file that an index names."""
    folder = index.parent
    shards = sorted(set(read_json(index).get("weight_map", {}).values()))
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        raise FilesError(
            f"{folder} lacks {len(missing)} of {len(shards)} shards: {', '.join(missing[:3])}."
        )
    return {key: value for shard in shards for key, value in _load(folder / shard).items()}


def _about_pickles(folder: Path) -> str:
    """What to say of a pickle that lies where safetensors should: why not, and what to do."""
    for pickle in sorted([*folder.glob("*.bin"), *folder.glob("*.ckpt")]):
        return (
            f"; {pickle.name} is a pickle, which can run any program when it is opened, so it is "
            f"not read. Convert it: safetensors.torch.save_file(torch.load({pickle.name!r}, "
            f"weights_only=True), {pickle.with_suffix('.safetensors').name!r})"
        )
    return ""


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # a broken file can fail in as many ways as it can be broken
        raise FilesError(f"{path} is damaged ({error}): fetch or write it again.") from error
