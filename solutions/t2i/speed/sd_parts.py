"""What Stable Diffusion consists of, counted: weights and multiplications, by lesson.

    parts = empty_parts()                  # the true sizes, without any memory
    weights_by_lesson(parts["unet"])       # {"lesson 2: residual blocks": 537670400, …}
    flops_by_lesson(call)                  # the same for the operations of one call

Nothing here is measured; it follows from the sizes alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from t2i.pretrained.sd_sizes import SD15, text_from_config, unet_from_config
from t2i.pretrained.vae_files import autoencoder_from_config
from t2i.speed.flops import flops_by_module

BUILDERS = {
    "text_encoder": text_from_config,
    "unet": unet_from_config,
    "vae": autoencoder_from_config,
}
# What a module belongs to, by the last words of its name in the UNet.
KINDS = {
    "blocks": "lesson 2: residual blocks",
    "resize": "lesson 2: downsample, upsample",
    "attn1": "lesson 6: self-attention",
    "attn2": "lesson 6: cross-attention",
    "ff": "lesson 6: GEGLU",
    "proj_in": "lesson 6: proj_in, proj_out",
    "proj_out": "lesson 6: proj_in, proj_out",
    "time_mlp": "lesson 2: time embedding",
}
OTHERS = "first and last layers, norms"


def empty_parts(sizes: Mapping[str, Mapping[str, Any]] = SD15) -> dict[str, nn.Module]:
    """The lessons' modules at these sizes, on the device "meta": shapes without numbers."""
    with torch.device("meta"):
        return {name: build(sizes[name]).eval() for name, build in BUILDERS.items()}


def kind_of(name: str) -> str:
    """Which lesson's piece a weight or module of the UNet belongs to: the innermost that is one."""
    words = name.split(".")
    if "attentions" in words:  # a transformer's list of blocks has the name of the ResBlocks'
        words = words[words.index("attentions") :]
        words = [word for word in words if word != "blocks"]
    return next((KINDS[word] for word in reversed(words) if word in KINDS), OTHERS)


def weights_by_lesson(unet: nn.Module) -> dict[str, int]:
    """How many of the UNet's weights are in which lesson's pieces; the most first."""
    counts: dict[str, int] = {}
    for name, parameter in unet.named_parameters():
        counts[kind_of(name)] = counts.get(kind_of(name), 0) + parameter.numel()
    return dict(sorted(counts.items(), key=lambda pair: -pair[1]))


def flops_by_lesson(call: Callable[[], Tensor]) -> dict[str, int]:
    """The operations of one call by lesson's pieces: 2 for each product that is added.

    Args:
        call: runs a TextUNet once.
    """
    with torch.no_grad():
        total = flops_by_module(call)
    total.pop("Global")
    own = dict(total)  # what a module does itself, without those inside it
    for name in total:
        parent = name.rpartition(".")[0]
        while parent and parent not in total:
            parent = parent.rpartition(".")[0]
        if parent:
            own[parent] -= total[name]
    counts: dict[str, int] = {}
    for name, count in own.items():
        kind = kind_of(name.partition(".")[2])
        counts[kind] = counts.get(kind, 0) + count
    return dict(sorted(counts.items(), key=lambda pair: -pair[1]))
