"""Weights from diffusers, under our names: the proof that our parts are the real ones.

Nothing is computed here but names; every number is copied as it is.
"""

import re
from collections.abc import Callable, Mapping

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
PART = re.compile(r"(down_blocks\.|mid_block|up_blocks\.)(\d*)\.(.+)")
INSIDE = (("transformer_blocks.", "blocks."), ("ff.net.0.", "ff.0."), ("ff.net.2", "ff.1"))
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


def transformer_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' Attention, BasicTransformerBlock or Transformer2DModel under our names.

    They become our CrossAttention, TransformerBlock and SpatialTransformer.
    """
    return _renamed(state, _transformer_name)


def unet2d_condition_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' UNet2DConditionModel under the names of our TextUNet.

    Raises:
        KeyError: a tensor that our TextUNet has no place for.
    """
    return _renamed(state, lambda name: _unet_name(name, _transformer_name))


def _transformer_name(name: str) -> str:
    for theirs, ours in INSIDE:
        name = name.replace(theirs, ours)
    return name.removesuffix(".0") if name.endswith("to_out.0") else name


def _unet_name(name: str, inside: Callable[[str], str] = ATTENTION.__getitem__) -> str:
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
    if block[1] == "resnets":
        return f"{stage}.blocks.{block[2]}.{RESNET[block[3]]}"
    return f"{stage}.attentions.{block[2]}.{inside(block[3])}"


def _renamed(state: Mapping[str, Tensor], rename) -> dict[str, Tensor]:
    """Rename modules, keep the last word: `…weight` stays `…weight`."""
    renamed = {}
    for name, tensor in state.items():
        module, _, parameter = name.rpartition(".")
        renamed[f"{rename(module)}.{parameter}"] = tensor
    return renamed
