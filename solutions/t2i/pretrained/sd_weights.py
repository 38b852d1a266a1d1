"""Stable Diffusion's weights in the lessons' modules: what is called what, and what does not fit.

    unet = load_unet("stable-diffusion-v1-5/unet")             # lesson 6's TextUNet
    text = load_text("stable-diffusion-v1-5/text_encoder")     # lesson 7's TextTransformer
    python -m t2i.pretrained.sd_weights stable-diffusion-v1-5  # the table of all keys, to read

The names are those of lessons 6 to 8: `convert` knows the UNet's, `clip_files` the text encoder's,
`vae_files` the autoencoder's. Nothing is computed but names. A key that nothing of ours takes, and
one that ours lacks, is an error which names it.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from t2i.clip import TextTransformer
from t2i.files.folders import filled, read_folder, read_weights
from t2i.pretrained.clip_files import text_encoder_of
from t2i.pretrained.clip_names import from_transformers
from t2i.pretrained.convert import unet2d_condition_state_dict
from t2i.pretrained.dit_files import dit_state_dict
from t2i.pretrained.sd_sizes import unet_from_config
from t2i.pretrained.vae_files import autoencoder_state_dict
from t2i.text_unet import TextUNet

# Each part of a folder: the name of its file, what it becomes here, and the way from name to name.
PARTS: dict[str, tuple[str, str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]]] = {
    "text_encoder": ("model", "lesson 7's TextTransformer", from_transformers),
    "unet": ("diffusion_pytorch_model", "lesson 6's TextUNet", unet2d_condition_state_dict),
    "vae": ("diffusion_pytorch_model", "lesson 8's AutoencoderKL", autoencoder_state_dict),
    "transformer": ("diffusion_pytorch_model", "lesson 9's DiT", dit_state_dict),
}


def load_unet(folder: str | Path, dtype: torch.dtype = torch.float32) -> TextUNet:
    """diffusers' UNet2DConditionModel as lesson 6's TextUNet.

    Args:
        folder: holds config.json and the weights.
        dtype: of the weights.

    Raises:
        FilesError: a file is missing or damaged, the UNet makes another choice than ours, or the
            weights are not exactly such a one's; the message names them.
    """
    config, state = read_folder(folder, PARTS["unet"][0])
    with torch.device("meta"):
        unet = unet_from_config(config, f"{folder}/config.json")
    return filled(unet, renamed(state, unet2d_condition_state_dict), folder, dtype)


def load_text(folder: str | Path, dtype: torch.dtype = torch.float32) -> TextTransformer:
    """transformers' CLIPTextModel as lesson 7's TextTransformer, from safetensors alone.

    Raises:
        FilesError: as load_unet.
    """
    config, state = read_folder(folder, PARTS["text_encoder"][0])
    return text_encoder_of(config, state, Path(folder), dtype)


def renamed(
    state: Mapping[str, Tensor], convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """The tensors under our names; a name that means nothing to us stays, and is told later."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        try:
            found |= convert({name: tensor})
        except KeyError:
            found[name] = tensor
    return found


def key_table(part: str, state: Mapping[str, Tensor]) -> list[tuple[str, str, tuple[int, ...]]]:
    """Each key of a part's file, what it is called in ours, and its shape there.

    Args:
        part: a key of PARTS.
        state: the tensors of its file.
    """
    convert = PARTS[part][2]
    rows = []
    for theirs, tensor in state.items():
        ours = ", ".join(renamed({theirs: tensor}, convert))
        rows.append((theirs, ours, tuple(tensor.shape)))
    return rows


def folded(rows: Iterable[tuple[str, str, tuple]]) -> dict[tuple[str, str], int]:
    """Keys that differ in their numbers alone as one pair with * for them, and how many it is."""
    counts: dict[tuple[str, str], int] = {}
    for theirs, ours, _ in rows:
        pair = tuple(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in (theirs, ours))
        counts[pair] = counts.get(pair, 0) + 1
    return counts


def main() -> None:
    """Print what each key of a folder becomes."""
    about = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m t2i.pretrained.sd_weights", description=about)
    parser.add_argument("folder", type=Path, help="in diffusers' layout")
    parser.add_argument("--every", action="store_true", help="each layer by itself, with its shape")
    options = parser.parse_args()
    if not options.folder.is_dir():
        sys.exit(f"There is no folder {options.folder.absolute()}.")
    parts = [name for name in PARTS if (options.folder / name).is_dir()]
    if not parts:
        folders = ", ".join(PARTS)
        sys.exit(f"{options.folder} is no model in diffusers' layout: it has none of {folders}.")
    for part in parts:
        file, what, _ = PARTS[part]
        try:
            rows = key_table(part, read_weights(options.folder / part, file))
        except ValueError as error:  # FilesError is one
            sys.exit(f"{error}")
        table = Table("in the file", "in ours", "shape" if options.every else "how many")
        for first, second, last in (
            rows if options.every else [(*pair, n) for pair, n in folded(rows).items()]
        ):
            table.add_row(first, second, str(last))
        Console().print(f"{part}: {what}", table)


if __name__ == "__main__":
    main()
