"""The sizes of Stable Diffusion's parts, and empty modules of the lessons of such sizes.

    unet = unet_from_config(SD15["unet"])    # lesson 6's TextUNet with 860 million weights
    with torch.device("meta"):               # the same without any memory
        unet = unet_from_config(SD15["unet"])

A config is what a part's config.json holds in diffusers' layout. What it says and ours do not do is
an error that names it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from t2i.clip import TextTransformer
from t2i.files.folders import MISFITS, FilesError
from t2i.text_unet import TextUNet

# What UNet2DConditionModel may be told, and what TextUNet always does. Not given counts as this.
USUAL = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "dropout": 0.0,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_only_cross_attention": None,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_eps": 1e-5,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "reverse_transformer_layers_per_block": None,
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "use_linear_projection": False,
}

# The sizes of Stable Diffusion 1.5, as they stand in its config.json files.
SD15 = {
    "unet": {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "attention_head_dim": 8,  # diffusers' name for the number of heads, by an old mistake
        "cross_attention_dim": 768,
        "norm_num_groups": 32,
        "sample_size": 64,
    },
    "vae": {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "sample_size": 512,
    },
    "text_encoder": {
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "bos_token_id": 49406,
        "eos_token_id": 49407,
    },
}


def unet_from_config(config: Mapping[str, Any], where: str = "config") -> TextUNet:
    """A fresh TextUNet of the sizes of a UNet2DConditionModel.

    Args:
        config: what its config.json holds.
        where: it came from, for the message.

    Raises:
        FilesError: a choice that TextUNet does not have, or sizes that make no UNet.
    """
    for name, value in USUAL.items():
        found = config.get(name, value)
        if found != value:
            raise FilesError(f"{where} has {name} {found!r}; lesson 6's UNet has {value!r}.")
    try:
        widths = tuple(config["block_out_channels"])
        looks = _levels(config["down_block_types"], "DownBlock2D", where)
        if _levels(config["up_block_types"], "UpBlock2D", where) != looks[::-1]:
            raise FilesError(f"{where}: up_block_types must mirror down_block_types, as ours do.")
        heads = config.get("num_attention_heads") or config["attention_head_dim"]
        if not isinstance(heads, int):
            raise FilesError(f"{where} has other numbers of heads at each width: {heads}.")
        return TextUNet(
            config["in_channels"],
            config["out_channels"],
            config["cross_attention_dim"],
            config.get("transformer_layers_per_block", 1),
            norm_groups=config.get("norm_num_groups", 32),
            num_heads=heads,
            block_channels=widths,
            layers_per_block=config["layers_per_block"],
            attention_levels=looks,
        )
    except FilesError:
        raise
    except MISFITS as error:
        raise FilesError(f"{where} describes no UNet of ours: {error}.") from None


def trained_size(config: Mapping[str, Any], compression: int) -> tuple[int, int]:
    """Height and width in pixels of the pictures that a UNet2DConditionModel was trained on.

    Args:
        config: what its config.json holds; without a sample_size, Stable Diffusion 1.5's counts.
        compression: pixels on a side of each latent.
    """
    side = config.get("sample_size") or SD15["unet"]["sample_size"]
    height, width = (side, side) if isinstance(side, int) else side
    return height * compression, width * compression


def text_from_config(config: Mapping[str, Any]) -> TextTransformer:
    """A fresh text encoder of lesson 7 of the sizes that its config.json tells."""
    return TextTransformer(
        config["vocab_size"],
        config["eos_token_id"],
        config["hidden_size"],
        config["num_hidden_layers"],
        config["num_attention_heads"],
        config["max_position_embeddings"],
        config["intermediate_size"],
    )


def _levels(kinds: Iterable[str], plain: str, where: str) -> tuple[bool, ...]:
    """Whether each level has attention."""
    looks = {plain: False, f"CrossAttn{plain}": True}
    unknown = [kind for kind in kinds if kind not in looks]
    if unknown:
        raise FilesError(f"{where} has {unknown[0]}; ours are {' and '.join(looks)}.")
    return tuple(looks[kind] for kind in kinds)
