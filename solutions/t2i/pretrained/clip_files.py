"""CLIP's published files: their names and ours, read from a folder or from the Hugging Face hub.

    model, tokenizer = load_clip_files("openai/clip-vit-base-patch32")      # needs a network
    model, tokenizer = load_clip_files("folder/with/its/files")             # needs none
    encoder = load_text_encoder("stable-diffusion-v1-5/text_encoder")       # the text half alone
    save_clip_files("my_clip", model, tokenizer)           # transformers' CLIPModel reads it

A folder holds config.json, model.safetensors, vocab.json and merges.txt. Old CLIPs were published
as a pickle, pytorch_model.bin. It is read where there is nothing else, its numbers alone.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from t2i.bpe import Tokenizer, load_tokenizer, save_tokenizer
from t2i.clip import CLIP, ImageEncoder, TextTransformer
from t2i.files.folders import FilesError, filled, find_folder, read_folder, read_json, write_folder
from t2i.pretrained.clip_names import from_transformers, to_transformers

WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"
TOKENIZER = ("vocab.json", "merges.txt")


def load_clip_files(source: str | Path) -> tuple[CLIP, Tokenizer]:
    """A whole CLIP and its tokenizer.

    Args:
        source: a folder, or a name on the Hugging Face hub such as
            "openai/clip-vit-base-patch32", which is downloaded once.

    Raises:
        FilesError: there is no such folder and no network, a file is missing or damaged, or the
            weights are not exactly a CLIP's; the message names them.
    """
    folder, config, state = _read(source)
    state = from_transformers(state)
    halves = {"text": ("text_config", _text), "image": ("vision_config", _image)}
    made = {
        name: build(_below(name, state), config.get(key, {}), folder)
        for name, (key, build) in halves.items()
    }
    projection = _tensor(state, "text_projection.weight", folder)
    with torch.device("meta"):
        model = CLIP(made["text"], made["image"], len(projection))
    return filled(model, state, folder), _tokenizer(folder)


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        return load_tokenizer(folder)
    except (ValueError, OSError) as error:
        raise FilesError(f"{folder} cannot be read as CLIP's tokenizer: {error}") from error


def load_text_encoder(source: str | Path) -> TextTransformer:
    """The text half alone: of a whole CLIP's folder, or of Stable Diffusion's text_encoder.

    Args:
        source: as in load_clip_files. A projection beside the encoder is left out.

    Raises:
        FilesError: as in load_clip_files.
    """
    folder, config, state = _read(source)
    state.pop("text_projection.weight", None)
    return text_encoder_of(config, state, folder)


def text_encoder_of(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    folder: Path,
    dtype: torch.dtype = torch.float32,
) -> TextTransformer:
    """The text half with these weights.

    Args:
        config: its config.json, or a whole CLIP's.
        state: transformers' names and tensors.
        folder: where they came from, for the message.
        dtype: of the weights.

    Raises:
        FilesError: the weights are not exactly a text encoder's.
    """
    state = from_transformers({k: v for k, v in state.items() if not _places(k)})
    state = _below("text", state) or state
    return filled(_text(state, config.get("text_config", config), folder), state, folder, dtype)


def save_clip_files(folder: str | Path, model: CLIP, tokenizer: Tokenizer) -> None:
    """Write a CLIP so that transformers' CLIPModel and CLIPTokenizer read it.

    Args:
        folder: made if it is missing.
        model, tokenizer: ours.
    """
    text, image = model.text, model.image
    config = {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": model.text_projection.out_features,
        "text_config": _text_config(text, tokenizer),
        "vision_config": _sizes(image)
        | {
            "image_size": image.size,
            "patch_size": image.conv_in.kernel_size[0],
            "num_channels": image.conv_in.in_channels,
        },
    }
    write_folder(folder, "model", config, to_transformers(model.state_dict()))
    save_tokenizer(tokenizer, folder)


def save_text_encoder(
    folder: str | Path, text: TextTransformer, tokenizer: Tokenizer, dtype: torch.dtype
) -> None:
    """Write a text encoder alone so that transformers' CLIPTextModel reads it.

    Args:
        folder: made if it is missing.
        text: ours.
        tokenizer: that it was trained with; only its start token is written down.
        dtype: of the weights in the file.
    """
    config = {"model_type": "clip_text_model", "architectures": ["CLIPTextModel"]}
    config |= _text_config(text, tokenizer)
    state = to_transformers({f"text.{name}": p for name, p in text.state_dict().items()})
    write_folder(folder, "model", config, state, dtype)


def wanted_files(names: Iterable[str]) -> list[str]:
    """Which of a repository's files are needed, and the weights once."""
    weights = WEIGHTS if WEIGHTS in names else PICKLE
    return ["config.json", weights, *TOKENIZER]


def _read(source: str | Path) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    """The folder of a CLIP, its config.json and its weights; a pickle, if there is nothing else."""
    folder = find_folder(source, wanted_files, "clip")
    pickle = folder / PICKLE
    if pickle.is_file() and not any(folder.glob("*.safetensors")):
        config, state = read_json(folder / "config.json"), _numbers_of(pickle)
    else:
        config, state = read_folder(folder, "model")
    return folder, config, {k: v for k, v in state.items() if not _places(k)}


def _numbers_of(pickle: Path) -> dict[str, Tensor]:
    """The tensors of a pickle; weights_only lets torch read numbers and run nothing."""
    try:
        return torch.load(pickle, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can fail in as many ways as it can be broken
        raise FilesError(
            f"{pickle} is damaged, or holds more than numbers ({error}): fetch it again."
        ) from error


def _places(name: str) -> bool:
    """Whether a tensor only counts 0, 1, 2, …, as old files do."""
    return name.endswith("position_ids")


def _text(state: dict[str, Tensor], config: dict, folder: Path) -> TextTransformer:
    """An empty text encoder of the sizes that its weights have."""
    vocabulary = _tensor(state, "tokens.weight", folder)
    end = config.get("eos_token_id", 2)
    with torch.device("meta"):
        return TextTransformer(
            len(vocabulary),
            len(vocabulary) - 1 if end == 2 else end,  # 2 stands in old files, and is wrong there
            width=vocabulary.shape[1],
            max_length=len(_tensor(state, "positions", folder)),
            **_depth(state, config, 8, folder),
        )


def _image(state: dict[str, Tensor], config: dict, folder: Path) -> ImageEncoder:
    """An empty image encoder of the sizes that its weights have."""
    width, channels, patch, _ = _tensor(state, "conv_in.weight", folder).shape
    side = round((len(_tensor(state, "positions", folder)) - 1) ** 0.5)
    with torch.device("meta"):
        return ImageEncoder(
            side * patch, patch, width, channels=channels, **_depth(state, config, 12, folder)
        )


def _depth(state: dict[str, Tensor], config: dict, heads: int, folder: Path) -> dict[str, int]:
    """Layers and width of the MLP from the weights; heads from config.json, or as usual."""
    activation = config.get("hidden_act", "quick_gelu")
    if activation != "quick_gelu":
        raise FilesError(f"{folder} was trained with {activation!r}; our CLIP has quick_gelu.")
    wide = _tensor(state, "layers.0.fc1.weight", folder)  # (mlp_width, width)
    heads = config.get("num_attention_heads", heads)
    if not isinstance(heads, int) or heads < 1 or wide.shape[1] % heads:
        raise FilesError(
            f"num_attention_heads in {folder} must divide {wide.shape[1]}, it is {heads!r}."
        )
    return {
        "num_layers": len({name.split(".")[1] for name in state if name.startswith("layers.")}),
        "num_heads": heads,
        "mlp_width": len(wide),
    }


def _text_config(text: TextTransformer, tokenizer: Tokenizer) -> dict[str, Any]:
    return _sizes(text) | {
        "vocab_size": text.tokens.num_embeddings,
        "max_position_embeddings": len(text.positions),
        "bos_token_id": tokenizer.start,
        "eos_token_id": text.end_token,
        "pad_token_id": text.end_token,
    }


def _sizes(encoder: TextTransformer | ImageEncoder) -> dict[str, Any]:
    layer = encoder.layers[0]
    return {
        "hidden_size": layer.fc1.in_features,
        "intermediate_size": layer.fc1.out_features,
        "num_hidden_layers": len(encoder.layers),
        "num_attention_heads": layer.attn.num_heads,
        "hidden_act": "quick_gelu",
    }


def _below(part: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _tensor(state: Mapping[str, Tensor], name: str, folder: Path) -> Tensor:
    if name not in state:
        raise FilesError(f"The weights in {folder} do not fit: 1 missing ({name}).")
    return state[name]
