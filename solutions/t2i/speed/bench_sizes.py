"""Bench: the sizes of the networks that are compared.

    NETWORKS["dit"]["real"].config      # what diffusers is told: here DiT-B/2
    NETWORKS["dit"]["real"].batch_size  # rows of a batch that suit the size

"tiny" is for a processor; "small" and "real" are for a GPU. Real are Stable Diffusion 1.5's three
parts, the text encoder being that of CLIP ViT-L/14, and DiT-B/2. Lesson 2's plain UNet has no
counterpart of a real size, for Stable Diffusion's reads words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from t2i.pretrained.sd_sizes import SD15

SIZES = ("tiny", "small", "real")
HEAD = 32  # channels of an attention head in the UNets that are not real


@dataclass(frozen=True)
class Size:
    """A network's size, and a batch that suits it.

    Args:
        config: keyword arguments of diffusers' or transformers' class.
        batch_size: rows of a batch.
        side: height and width of its pictures or latents.
        words: length of a text; 0 where there is none.
    """

    config: Mapping[str, Any]
    batch_size: int
    side: int = 0
    words: int = 0


def plain_unet(widths: tuple[int, ...], looks: tuple[bool, ...]) -> dict[str, Any]:
    """What UNet2DModel is told: channels at each resolution, and which of them have attention."""
    return {
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": widths,
        "layers_per_block": 2,
        "down_block_types": ["AttnDownBlock2D" if look else "DownBlock2D" for look in looks],
        "up_block_types": ["AttnUpBlock2D" if look else "UpBlock2D" for look in reversed(looks)],
        "attention_head_dim": HEAD,
    }


def text_unet(widths: tuple[int, ...], layers: int, context: int, groups: int) -> dict[str, Any]:
    """What UNet2DConditionModel is told."""
    return {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D"] * len(widths),
        "up_block_types": ["CrossAttnUpBlock2D"] * len(widths),
        "cross_attention_dim": context,
        "attention_head_dim": tuple(width // HEAD for width in widths),  # their name for num_heads
        "norm_num_groups": groups,
    }


def dit(heads: int, head_dim: int, depth: int, side: int, classes: int) -> dict[str, Any]:
    """What DiTTransformer2DModel is told."""
    return {
        "num_attention_heads": heads,
        "attention_head_dim": head_dim,
        "in_channels": 4,
        "num_layers": depth,
        "sample_size": side,
        "patch_size": 2,
        "num_embeds_ada_norm": classes,
    }


def vae(widths: tuple[int, ...], layers: int, groups: int) -> dict[str, Any]:
    """What AutoencoderKL is told: Stable Diffusion's, with other widths."""
    return SD15["vae"] | {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": layers,
        "norm_num_groups": groups,
    }


def clip(vocabulary: int, width: int, layers: int, heads: int, length: int) -> dict[str, Any]:
    """What CLIPTextConfig is told."""
    return SD15["text_encoder"] | {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": length,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }


NETWORKS: dict[str, dict[str, Size]] = {
    "unet": {
        "tiny": Size(plain_unet((64, 128), (False, True)), 16, 28),
        "small": Size(plain_unet((128, 256), (True, True)), 256, 28),
    },
    "text_unet": {
        "tiny": Size(text_unet((64, 96), 1, 64, 16), 16, 16, words=24),
        "small": Size(text_unet((128, 256, 384), 2, 512, 32), 64, 32, words=24),
        "real": Size(SD15["unet"], 8, 64, words=77),
    },
    "dit": {
        "tiny": Size(dit(6, HEAD, 6, 16, 10), 16, 16),
        "small": Size(dit(6, 64, 12, 32, 1000), 128, 32),  # DiT-S/2
        "real": Size(dit(12, 64, 12, 32, 1000), 256, 32),  # DiT-B/2, and its paper's batch
    },
    "vae": {
        "tiny": Size(vae((32, 64), 1, 16), 4, 32),
        "small": Size(vae((64, 128, 128), 1, 32), 32, 128),
        "real": Size(SD15["vae"], 8, 256),
    },
    "clip": {
        "tiny": Size(clip(1000, 64, 2, 4, 24), 16, words=24),
        "small": Size(clip(49408, 512, 12, 8, 77), 128, words=77),  # of CLIP ViT-B/32
        "real": Size(SD15["text_encoder"], 128, words=77),  # of CLIP ViT-L/14
    },
}
