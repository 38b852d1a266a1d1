"""A whole text-to-image model in one folder, laid out as diffusers' pipelines are.

    pipe.save_pretrained("my_model")
    pipe = TextToImage.from_pretrained("my_model")

    my_model/model_index.json                       which parts there are, picture size, and
                                                    whether a PromptEncoder reads the prompt
    my_model/tokenizer/                             vocab.json, merges.txt (CLIPTokenizer's)
    my_model/text_encoder/                          config.json, model.safetensors (CLIPTextModel's)
    my_model/vae/                                   as AutoencoderKL's; its scaling_factor
    my_model/transformer/                           TextDiT's arguments and weights
    my_model/scheduler/scheduler_config.json        FlowMatchEulerDiscreteScheduler's

Only the transformer is ours alone; the other parts open in transformers and diffusers.
"""

import math
from pathlib import Path

import torch

from t2i.bpe import Tokenizer, load_tokenizer, save_tokenizer
from t2i.clip import TextTransformer
from t2i.files.folders import (
    MISFITS,
    FilesError,
    filled,
    read_folder,
    read_json,
    refuse_misfits,
    write_folder,
    write_json,
)
from t2i.latents import LatentSpace
from t2i.pretrained.clip_files import save_text_encoder, text_encoder_of
from t2i.pretrained.vae_files import load_autoencoder, save_autoencoder
from t2i.prompt_encoder import PromptEncoder
from t2i.text_to_image import TIME_SCALE, TextDiT, TextToImage

INDEX, FORMAT = "model_index.json", "t2i-text-to-image"
TRANSFORMER = "diffusion_pytorch_model"
PARTS = ("tokenizer", "text_encoder", "vae", "transformer", "scheduler")


def save_folder(pipe: TextToImage, folder: str | Path, dtype: torch.dtype) -> None:
    """Write every part; the index comes last, so a folder with an index is whole.

    Args:
        pipe: what to write.
        folder: made if it is missing.
        dtype: of the weights in the files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath(INDEX).unlink(missing_ok=True)
    save_tokenizer(pipe.tokenizer, folder / "tokenizer")
    shortcut = isinstance(pipe.text, PromptEncoder)
    text = pipe.text.text if shortcut else pipe.text
    save_text_encoder(folder / "text_encoder", text, pipe.tokenizer, dtype)
    save_autoencoder(folder / "vae", pipe.space.vae, pipe.space.scaling_factor.item(), dtype)
    config = {"_class_name": "TextDiT", **pipe.transformer.config}
    write_folder(folder / "transformer", TRANSFORMER, config, pipe.transformer.state_dict(), dtype)
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": pipe.shift}
    scheduler |= {"num_train_timesteps": int(TIME_SCALE)}
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    index = {"_class_name": FORMAT, "size": pipe.size, "prompt_encoder": shortcut, "parts": PARTS}
    write_json(folder / INDEX, index)


def load_folder(folder: str | Path, kind: type[TextToImage] = TextToImage) -> TextToImage:
    """Read every part, and say which does not fit.

    Args:
        folder: that save_folder wrote.
        kind: what to make of the parts; the notebook's own class has the same arguments.

    Raises:
        FilesError: no such folder, a file is missing or damaged, or parts of different models.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FilesError(f"There is no folder {folder}: train a model with `make train`.")
    if not (folder / INDEX).is_file():
        raise FilesError(f"{folder / INDEX} is missing: is that a folder that `make train` made?")
    index = read_json(folder / INDEX)
    found = index.get("_class_name", "something unknown")
    if found != FORMAT:
        raise FilesError(f"{folder} holds {found}, not a model of lesson 10 ({FORMAT}).")
    try:
        tokenizer = load_tokenizer(folder / "tokenizer")
    except (ValueError, OSError) as error:
        raise FilesError(f"{folder / 'tokenizer'} cannot be read: {error}") from error
    text_folder = _part(folder, "text_encoder")
    text = text_encoder_of(*read_folder(text_folder, "model"), text_folder)
    vae, scaling_factor = load_autoencoder(folder / "vae")
    config, state = read_folder(folder / "transformer", TRANSFORMER)
    config.pop("_class_name", None)
    try:
        empty = TextDiT(**config)
    except MISFITS as error:
        raise FilesError(
            f"{folder}/transformer/config.json does not fit TextDiT: {error}"
        ) from None
    transformer = filled(empty, state, folder / "transformer")
    shift = read_json(folder / "scheduler" / "scheduler_config.json").get("shift", 1.0)
    if not isinstance(shift, int | float) or not 0 < shift < math.inf:
        raise FilesError(f"shift in {folder}/scheduler must be a number above 0, it is {shift!r}.")
    parts = (tokenizer, text, transformer, LatentSpace(vae, scaling_factor), index.get("size"))
    _check_together(folder, *parts)
    if index.get("prompt_encoder"):
        parts = (tokenizer, PromptEncoder(text), *parts[2:])
    return kind(*parts, shift)


def _check_together(
    folder: Path,
    tokenizer: Tokenizer,
    text: TextTransformer,
    transformer: TextDiT,
    space: LatentSpace,
    size: int,
) -> None:
    """Say which parts cannot have been made for each other."""
    channels, *sides = transformer.network.picture
    fits = {
        "tokenizer and text_encoder": (tokenizer.end, len(tokenizer))
        == (text.end_token, text.tokens.num_embeddings),
        "text_encoder and transformer": text.positions.shape[1] == transformer.config["width"],
        "transformer and vae": channels == space.vae.post_quant_conv.in_channels,
        f"transformer, vae and the size {size} in {INDEX}": sides
        == [size / space.vae.compression if isinstance(size, int) else None] * 2,
    }
    refuse_misfits(folder, fits)


def _part(folder: Path, name: str) -> Path:
    if not (folder / name).is_dir():
        raise FilesError(f"{folder / name} is missing.")
    return folder / name
