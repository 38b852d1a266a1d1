"""Weights from diffusers, under our names: the proof that our parts are the real ones.

Nothing is computed here but names; every number is copied as it is.
"""

import re
from collections.abc import Mapping

from torch import Tensor

RESNET = {
    "norm1": "norm1",
    "conv1": "conv1",
    "time_emb_proj": "time_proj",
    "norm2": "norm2",
    "conv2": "conv2",
    "conv_shortcut": "skip",
}
ATTENTION = {
    "group_norm": "norm",
    "to_q": "to_q",
    "to_k": "to_k",
    "to_v": "to_v",
    "to_out.0": "proj",
}
OUTSIDE = {
    "time_embedding.linear_1": "time_mlp.0",
    "time_embedding.linear_2": "time_mlp.2",
    "conv_in": "conv_in",
    "conv_norm_out": "norm_out",
    "conv_out": "conv_out",
}
STAGES = {"down_blocks.": "down.", "mid_block": "mid", "up_blocks.": "up."}
BLOCKS = {"resnets": ("blocks", RESNET), "attentions": ("attentions", ATTENTION)}
PART = re.compile(r"(down_blocks\.|mid_block|up_blocks\.)(\d*)\.(.+)")
BLOCK = re.compile(r"(resnets|attentions)\.(\d+)\.(.+)")
RESIZE = re.compile(r"(?:downsamplers|upsamplers)\.0\.conv")


def resnet_block_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' ResnetBlock2D under the names of our ResBlock."""
    return _renamed(state, lambda name: RESNET[name])


def attention_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' Attention (with group norm and bias) under the names of our SelfAttention2d."""
    return _renamed(state, lambda name: ATTENTION[name])


def unet2d_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' UNet2DModel under the names of our UNet.

    Args:
        state: UNet2DModel(...).state_dict(); both models have the same sizes.

    Returns:
        what UNet(...).load_state_dict takes.

    Raises:
        KeyError: a tensor that our UNet has no place for.
    """
    return _renamed(state, _unet_name)


def _unet_name(name: str) -> str:
    if name in OUTSIDE:
        return OUTSIDE[name]
    part = PART.fullmatch(name)
    if not part:
        raise KeyError(name)
    stage, rest = STAGES[part[1]] + part[2], part[3]
    if RESIZE.fullmatch(rest):
        return f"{stage}.resize.conv"
    block = BLOCK.fullmatch(rest)
    if not block:
        raise KeyError(name)
    kind, names = BLOCKS[block[1]]
    return f"{stage}.{kind}.{block[2]}.{names[block[3]]}"


def _renamed(state: Mapping[str, Tensor], rename) -> dict[str, Tensor]:
    """Rename modules, keep the last word: `…weight` stays `…weight`."""
    renamed = {}
    for name, tensor in state.items():
        module, _, parameter = name.rpartition(".")
        renamed[f"{rename(module)}.{parameter}"] = tensor
    return renamed
