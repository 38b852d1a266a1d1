"""Weights of diffusers' AutoencoderKL under our names, Stable Diffusion's own among them.

    vae, scaling_factor = load_autoencoder("stable-diffusion-v1-5/vae")     # a folder on the disk

Nothing is computed here but names; every number is copied as it is.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from t2i.convert import ATTENTION, RESNET
from t2i.vae import AutoencoderKL

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "proj"}
MIDDLE = {"resnets.0": "block1", "attentions.0": "attention", "resnets.1": "block2"}
SAME = {"conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out"}
LEVEL = re.compile(r"(down|up)_blocks\.(\d+)\.resnets\.(\d+)\.(.+)")
RESIZE = re.compile(r"(down|up)_blocks\.(\d+)\.(?:down|up)samplers\.0\.conv")
MID = re.compile(r"mid_block\.((?:resnets|attentions)\.\d)\.(.+)")
FILE = "diffusion_pytorch_model.safetensors"


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


def load_autoencoder(folder: str | Path) -> tuple[AutoencoderKL, float]:
    """An autoencoder that diffusers saved, in our code, and its scaling factor.

    Args:
        folder: holds config.json and diffusion_pytorch_model.safetensors, as
            AutoencoderKL.save_pretrained writes them, or the folder `vae` of Stable Diffusion 1.5.

    Raises:
        FileNotFoundError: one of the two files is not there.
        ValueError: a kind of autoencoder that ours is not.
    """
    folder = Path(folder)
    config = json.loads(folder.joinpath("config.json").read_text(encoding="utf-8"))
    kinds = {config["act_fn"], *config["down_block_types"], *config["up_block_types"]}
    usual = config.get("use_quant_conv", True) and config.get("mid_block_add_attention", True)
    if kinds != {"silu", "DownEncoderBlock2D", "UpDecoderBlock2D"} or not usual:
        raise ValueError(f"{folder} holds another kind of autoencoder than Stable Diffusion's")
    vae = AutoencoderKL(
        config["in_channels"],
        config["latent_channels"],
        block_channels=config["block_out_channels"],
        layers_per_block=config["layers_per_block"],
        norm_groups=config["norm_num_groups"],
    )
    vae.load_state_dict(autoencoder_state_dict(load_file(folder / FILE)))
    return vae.eval().requires_grad_(False), config.get("scaling_factor", 0.18215)


def our_name(module: str) -> str:
    """What a module of diffusers' AutoencoderKL is called in ours; KeyError if it is nowhere."""
    if module in ("quant_conv", "post_quant_conv"):
        return module
    side, _, name = module.partition(".")
    if side not in ("encoder", "decoder"):
        raise KeyError(module)
    return f"{side}.{_inside(name)}"


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
