"""Weights of diffusers' AutoencoderKL under our names, Stable Diffusion's own among them.

    vae, scaling_factor = load_autoencoder("stable-diffusion-v1-5/vae")     # a folder on the disk
    save_autoencoder("my_vae", vae, scaling_factor)       # diffusers' AutoencoderKL reads it

Nothing is computed here but names; every number is copied as it is.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from t2i.files.folders import MISFITS, FilesError, filled, read_folder, write_folder
from t2i.pretrained.convert import ATTENTION, RESNET
from t2i.vae import AutoencoderKL

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "proj"}
MIDDLE = {"resnets.0": "block1", "attentions.0": "attention", "resnets.1": "block2"}
SAME = {"conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out"}
LEVEL = re.compile(r"(down|up)_blocks\.(\d+)\.resnets\.(\d+)\.(.+)")
RESIZE = re.compile(r"(down|up)_blocks\.(\d+)\.(?:down|up)samplers\.0\.conv")
MID = re.compile(r"mid_block\.((?:resnets|attentions)\.\d)\.(.+)")
OUR_LEVEL = re.compile(r"(down|up)\.(\d+)\.blocks\.(\d+)\.(.+)")
OUR_RESIZE = re.compile(r"(down|up)\.(\d+)\.resize\.conv")
OUR_MID = re.compile(r"mid\.(block1|attention|block2)\.(.+)")
FILE = "diffusion_pytorch_model"
USUAL = ("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention")


def autoencoder_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' AutoencoderKL under the names of ours.

    Args:
        state: AutoencoderKL(...).state_dict(); both models have the same sizes. The older names
            and shapes of the attention, as Stable Diffusion 1.5's file has them, are understood.

    Returns:
        what our AutoencoderKL(...).load_state_dict takes.

    Raises:
        KeyError: a tensor that ours has no place for.
    """
    renamed = {}
    for name, tensor in state.items():
        module, _, parameter = name.rpartition(".")
        ours = f"{our_name(module)}.{parameter}"
        if ".attention." in ours and tensor.ndim == 4:  # a 1×1 convolution in the oldest files
            tensor = tensor[:, :, 0, 0]
        renamed[ours] = tensor
    return renamed


def autoencoder_from_config(config: Mapping[str, Any]) -> AutoencoderKL:
    """A fresh autoencoder of lesson 8 of the sizes that its config.json tells."""
    return AutoencoderKL(
        config["in_channels"],
        config["latent_channels"],
        block_channels=config["block_out_channels"],
        layers_per_block=config["layers_per_block"],
        norm_groups=config["norm_num_groups"],
    )


def load_autoencoder(
    folder: str | Path, dtype: torch.dtype = torch.float32
) -> tuple[AutoencoderKL, float]:
    """An autoencoder that diffusers saved, in our code, and its scaling factor.

    Args:
        folder: holds config.json and diffusion_pytorch_model.safetensors, as
            AutoencoderKL.save_pretrained writes them, or the folder `vae` of Stable Diffusion 1.5.
        dtype: of the weights.

    Raises:
        FilesError: a file is missing or damaged, it is another kind of autoencoder than ours, or
            the weights are not exactly such a one's.
    """
    config, state = read_folder(folder, FILE)
    kinds = {config.get("act_fn"), *config.get("down_block_types", ())}
    kinds |= set(config.get("up_block_types", ()))
    usual = all(config.get(name, True) for name in USUAL)
    usual &= all(config.get(name) is None for name in ("shift_factor", "latents_mean"))
    if kinds != {"silu", "DownEncoderBlock2D", "UpDecoderBlock2D"} or not usual:
        raise FilesError(f"{folder} holds another kind of autoencoder than Stable Diffusion's.")
    try:
        state = autoencoder_state_dict(state)
    except KeyError as error:
        raise FilesError(f"The weights in {folder} do not fit: 1 unknown ({error}).") from None
    try:
        scaling_factor = float(config.get("scaling_factor", 0.18215))
        if not 0 < scaling_factor < math.inf:
            raise ValueError(f"its scaling_factor is {scaling_factor}")
        with torch.device("meta"):
            vae = autoencoder_from_config(config)
    except MISFITS as error:
        raise FilesError(f"{folder}/config.json describes no autoencoder: {error}.") from None
    return filled(vae, state, folder, dtype), scaling_factor


def save_autoencoder(
    folder: str | Path,
    vae: AutoencoderKL,
    scaling_factor: float,
    dtype: torch.dtype | None = None,
) -> None:
    """Write an autoencoder so that diffusers' AutoencoderKL reads it.

    Args:
        folder: made if it is missing.
        vae: ours.
        scaling_factor: of its latents.
        dtype: of the weights in the file; None: as they are.
    """
    encoder = vae.encoder
    widths = [level.blocks[-1].conv2.out_channels for level in encoder.down]
    config = {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "in_channels": encoder.conv_in.in_channels,
        "out_channels": encoder.conv_in.in_channels,
        "latent_channels": vae.post_quant_conv.in_channels,
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": len(encoder.down[0].blocks),
        "norm_num_groups": encoder.norm_out.num_groups,
        "scaling_factor": scaling_factor,
    }
    named = (name.rpartition(".") + (tensor,) for name, tensor in vae.state_dict().items())
    state = {f"{their_name(module)}.{end}": tensor for module, _, end, tensor in named}
    write_folder(folder, FILE, config, state, dtype)


def our_name(module: str) -> str:
    """What a module of diffusers' AutoencoderKL is called in ours; KeyError if it is nowhere."""
    if module in ("quant_conv", "post_quant_conv"):
        return module
    side, _, name = module.partition(".")
    if side not in ("encoder", "decoder"):
        raise KeyError(module)
    try:
        return f"{side}.{_inside(name)}"
    except KeyError:
        raise KeyError(module) from None


def _inside(name: str) -> str:
    if name in SAME:
        return SAME[name]
    if found := LEVEL.fullmatch(name):
        return f"{found[1]}.{found[2]}.blocks.{found[3]}.{RESNET[found[4]]}"
    if found := RESIZE.fullmatch(name):
        return f"{found[1]}.{found[2]}.resize.conv"
    if found := MID.fullmatch(name):
        inside = RESNET if found[1].startswith("resnets") else ATTENTION | OLD_ATTENTION
        return f"mid.{MIDDLE[found[1]]}.{inside[found[2]]}"
    raise KeyError(name)


def their_name(module: str) -> str:
    """The way back: what a module of ours is called in diffusers' AutoencoderKL."""
    side, _, name = module.partition(".")
    if not name:
        return module
    if found := OUR_LEVEL.fullmatch(name):
        return f"{side}.{found[1]}_blocks.{found[2]}.resnets.{found[3]}.{_back(RESNET, found[4])}"
    if found := OUR_RESIZE.fullmatch(name):
        return f"{side}.{found[1]}_blocks.{found[2]}.{found[1]}samplers.0.conv"
    if found := OUR_MID.fullmatch(name):
        inside = ATTENTION if found[1] == "attention" else RESNET
        return f"{side}.mid_block.{_back(MIDDLE, found[1])}.{_back(inside, found[2])}"
    return f"{side}.{_back(SAME, name)}"


def _back(names: Mapping[str, str], ours: str) -> str:
    return next(theirs for theirs, name in names.items() if name == ours)
