"""CLIP's weights under transformers' names and under ours."""

import re
from collections.abc import Mapping

from torch import Tensor

NAMES = {  # transformers' parts of a name, and ours
    "text_model": "text",
    "vision_model": "image",
    "visual_projection": "image_projection",
    "embeddings.token_embedding.weight": "tokens.weight",
    "embeddings.position_embedding.weight": "positions",
    "embeddings.class_embedding": "class_vector",
    "embeddings.patch_embedding": "conv_in",
    "pre_layrnorm": "norm_in",  # their spelling
    "post_layernorm": "norm_out",
    "final_layer_norm": "norm",
    "encoder.layers": "layers",
    "self_attn.q_proj": "attn.to_q",
    "self_attn.k_proj": "attn.to_k",
    "self_attn.v_proj": "attn.to_v",
    "self_attn.out_proj": "attn.to_out",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
}


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of transformers' CLIPModel under our names.

    Those of a half alone (CLIPTextModel, CLIPVisionModel, with projection or without) come out
    under the names of our TextTransformer or ImageEncoder, whether they have a prefix or not.
    """
    named = {_renamed(name, NAMES): tensor for name, tensor in state.items()}
    halves = {half for half in ("text.", "image.") if any(name.startswith(half) for name in named)}
    if len(halves) == 2:
        return named
    return {name.removeprefix(*halves or [""]): tensor for name, tensor in named.items()}


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The way back: our CLIP's weights under the names of transformers' CLIPModel."""
    ours = {ours: theirs for theirs, ours in NAMES.items()}
    return {_renamed(name, ours): tensor for name, tensor in state.items()}


def _renamed(name: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        name = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", new, name)
    return name
