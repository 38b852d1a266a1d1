"""Stable Diffusion with random weights, written by diffusers itself: to compare and to measure.

    write_random("sd15_random", SD15)                 # 4.3 GB; the true sizes, no meaning
    write_random("small", TINY, max_shard_size="100KB", variant="fp16")

diffusers and transformers write the folder, so that what our code reads is their layout, not our
idea of it. Only the names, sizes and files are real: such a model paints nothing.
"""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from t2i.bpe import Tokenizer, save_tokenizer
from t2i.byte_words import WORD_END, byte_symbols

# Everything that Stable Diffusion 1.5 has, and nothing of its size.
TINY = {
    "unet": {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (32, 64, 64),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 24,
        "norm_num_groups": 16,
        "sample_size": 8,
    },
    "vae": {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": (16, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "sample_size": 16,
    },
    "text_encoder": {
        "vocab_size": 600,
        "hidden_size": 24,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "hidden_act": "quick_gelu",
        "bos_token_id": 598,
        "eos_token_id": 599,
    },
}
SCHEDULER = {  # Stable Diffusion 1.5's scheduler_config.json
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def made_up_tokenizer(size: int) -> Tokenizer:
    """A tokenizer with as many numbers as CLIP's, or any number above 514, whose pieces are pairs.

    Args:
        size: how many numbers: 512 symbols, a merge for each more, start and end.

    Raises:
        ValueError: fewer than 514, or more pairs than there are.
    """
    symbols = byte_symbols()
    pairs = [*product(symbols, symbols), *product(symbols, (s + WORD_END for s in symbols))]
    known = [(first, second) for first, second in (("r", "e"), ("s", "e"), ("n", "o" + WORD_END))]
    merges = list(dict.fromkeys([*known, *pairs]))[: size - 514]
    if size < 514 or len(merges) != size - 514:
        raise ValueError(f"size must lie between 514 and {514 + len(pairs)}, got {size}")
    return Tokenizer(merges)


def random_pipeline(sizes: Mapping[str, Mapping[str, Any]], seed: int = 0):
    """diffusers' StableDiffusionPipeline of these sizes, with random weights.

    Args:
        sizes: as SD15 or TINY.
        seed: of the weights.
    """
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline
    from diffusers import UNet2DConditionModel as UNet
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    text = sizes["text_encoder"]
    with torch.random.fork_rng(devices=[]), TemporaryDirectory() as scratch:
        torch.manual_seed(seed)
        save_tokenizer(made_up_tokenizer(text["vocab_size"]), scratch)
        return StableDiffusionPipeline(
            vae=AutoencoderKL(**sizes["vae"]).eval(),
            text_encoder=CLIPTextModel(CLIPTextConfig(**text)).eval(),
            tokenizer=CLIPTokenizer.from_pretrained(
                scratch, model_max_length=text["max_position_embeddings"]
            ),
            unet=UNet(**sizes["unet"]).eval(),
            scheduler=PNDMScheduler(skip_prk_steps=True, **SCHEDULER),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def write_random(
    folder: str | Path, sizes: Mapping[str, Mapping[str, Any]], seed: int = 0, **saving
) -> None:
    """Write such a pipeline, with the tokenizer's two files as Stable Diffusion 1.5 has them.

    Args:
        folder: made if it is missing.
        sizes, seed: as in random_pipeline.
        **saving: of diffusers' save_pretrained: max_shard_size, variant.
    """
    random_pipeline(sizes, seed).save_pretrained(folder, **saving)
    tokenizer = made_up_tokenizer(sizes["text_encoder"]["vocab_size"])
    save_tokenizer(tokenizer, Path(folder, "tokenizer"))
