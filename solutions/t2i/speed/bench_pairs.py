"""Bench: our networks beside diffusers' and transformers' of the same size and the same weights.

pair = build_pair("dit", "tiny")              # a name and a size of bench_sizes.NETWORKS
largest_difference(pair)                      # raises ValueError where they do not agree
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from t2i.pretrained.clip_names import from_transformers
from t2i.pretrained.convert import unet2d_condition_state_dict, unet2d_state_dict
from t2i.pretrained.dit_files import dit_from_config, dit_state_dict, share_embedding
from t2i.pretrained.sd_sizes import text_from_config, unet_from_config
from t2i.pretrained.vae_files import autoencoder_from_config, autoencoder_state_dict
from t2i.speed.bench_sizes import HEAD, NETWORKS, Size
from t2i.text_unet import TextUNet
from t2i.unet import UNet

TOLERANCE = 1e-4  # how far the two answers may lie apart, in float32
Inputs = tuple[Tensor, ...]


class Plain(nn.Module):
    """A network, called as ours is: it takes the same inputs and gives the first that it gives.

    Args:
        model: diffusers' or transformers' own, or ours where it gives more than one tensor.
        mask_name: what it calls the mask that our network takes last; None: there is none.
        more: named arguments of every call; None: those that make diffusers give a tuple.
    """

    def __init__(
        self,
        model: nn.Module,
        mask_name: str | None = None,
        more: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.model, self.mask_name = model, mask_name
        self.more = {"return_dict": False} if more is None else more

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs as ours -> the prediction, of any shape."""
        if self.mask_name is None:
            return self.model(*inputs, **self.more)[0]
        return self.model(*inputs[:-1], **{self.mask_name: inputs[-1]}, **self.more)[0]


@dataclass(frozen=True)
class Pair:
    """Two networks with the same weights, and a batch for both.

    Args:
        title: what they are.
        ours, theirs: called alike, as model(*inputs).
        draw: called as draw(count), gives random inputs on torch's default device.
        convolutional: whether channels-last suits them.
        inputs: of one batch, every one with a row for each of it.
        relative: whether they may lie apart by TOLERANCE of the largest number that comes out,
            as with real sizes, whose sums are long; else by TOLERANCE itself.
    """

    title: str
    ours: nn.Module
    theirs: nn.Module
    draw: Callable[[int], Inputs]
    convolutional: bool = False
    inputs: Inputs = ()
    relative: bool = False

    @property
    def models(self) -> dict[str, nn.Module]:
        """Both by name."""
        return {"ours": self.ours, "diffusers": self.theirs}


def unet_pair(size: Size) -> Pair:
    """Lesson 2's UNet and UNet2DModel, on pictures of 28 × 28."""
    from diffusers import UNet2DModel  # takes seconds to import, and only the bench needs it

    theirs, widths = UNet2DModel(**size.config), size.config["block_out_channels"]
    looks = [kind.startswith("Attn") for kind in size.config["down_block_types"]]
    ours = UNet(1, 1, widths, size.config["layers_per_block"], looks, HEAD)
    ours.load_state_dict(unet2d_state_dict(theirs.state_dict()))
    draw = partial(pictures_and_steps, channels=1, side=size.side)
    return Pair(f"UNet {widths} against UNet2DModel", ours, Plain(theirs), draw, True)


def text_unet_pair(size: Size) -> Pair:
    """Lesson 6's TextUNet and UNet2DConditionModel, on latents; the real one without a mask."""
    from diffusers import UNet2DConditionModel

    config, real = size.config, size is NETWORKS["text_unet"]["real"]
    theirs = UNet2DConditionModel(**config)
    ours = unet_from_config(config) if real else small_text_unet(config)
    ours.load_state_dict(unet2d_condition_state_dict(theirs.state_dict()))

    def draw(count: int) -> Inputs:
        context = torch.randn(count, size.words, config["cross_attention_dim"])
        said = torch.arange(size.words) < torch.randint(1, size.words + 1, (count, 1))  # (B, L)
        return *pictures_and_steps(count, 4, size.side), context, *([] if real else [said])

    wrapped = Plain(theirs, None if real else "encoder_attention_mask")
    title = f"TextUNet {config['block_out_channels']} against UNet2DConditionModel"
    return Pair(title, ours, wrapped, draw, True)


def small_text_unet(config: Mapping[str, Any]) -> TextUNet:
    """Lesson 6's, with more heads where it is wider."""
    widths = config["block_out_channels"]
    return TextUNet(
        4,
        4,
        config["cross_attention_dim"],
        head_channels=HEAD,
        norm_groups=config["norm_num_groups"],
        block_channels=widths,
        layers_per_block=config["layers_per_block"],
        attention_levels=(True,) * len(widths),
    )


def dit_pair(size: Size) -> Pair:
    """Lesson 9's DiT and DiTTransformer2DModel, on latents."""
    from diffusers import DiTTransformer2DModel

    config = size.config
    theirs = DiTTransformer2DModel(**config)
    theirs.load_state_dict(share_embedding(theirs.state_dict()))
    ours = dit_from_config(theirs.config)
    ours.load_state_dict(dit_state_dict(theirs.state_dict()))

    def draw(count: int) -> Inputs:
        label = torch.randint(config["num_embeds_ada_norm"], (count,))
        return *pictures_and_steps(count, 4, size.side), label

    dim = config["num_attention_heads"] * config["attention_head_dim"]
    title = f"DiT {dim} × {config['num_layers']} against DiTTransformer2DModel"
    return Pair(title, ours, Plain(theirs), draw)


def vae_pair(size: Size) -> Pair:
    """Lesson 8's autoencoder and diffusers', there and back through the likeliest latent."""
    from diffusers import AutoencoderKL

    theirs, ours = AutoencoderKL(**size.config), autoencoder_from_config(size.config)
    ours.load_state_dict(autoencoder_state_dict(theirs.state_dict()))
    widths = size.config["block_out_channels"]
    title = f"VAE {widths} against diffusers' AutoencoderKL, there and back"
    return Pair(title, ours, Plain(theirs), partial(pictures, side=size.side), True)


def clip_pair(size: Size) -> Pair:
    """Lesson 7's text encoder and CLIPTextModel, on texts of every length, filled up."""
    from transformers import CLIPTextConfig, CLIPTextModel

    end = size.config["eos_token_id"]
    theirs = CLIPTextModel(CLIPTextConfig(**size.config))
    ours = text_from_config(size.config)
    ours.load_state_dict(from_transformers(theirs.state_dict()))

    def draw(count: int) -> Inputs:
        tokens = torch.randint(end - 1, (count, size.words))
        length = torch.randint(1, size.words, (count, 1))
        return (tokens.masked_fill(torch.arange(size.words) >= length, end),)

    width, layers = size.config["hidden_size"], size.config["num_hidden_layers"]
    title = f"CLIP text {width} × {layers} against transformers' CLIPTextModel"
    return Pair(title, Plain(ours, more={}), Plain(theirs), draw)


PAIRS: dict[str, Callable[[Size], Pair]] = {
    "unet": unet_pair,
    "text_unet": text_unet_pair,
    "dit": dit_pair,
    "vae": vae_pair,
    "clip": clip_pair,
}


def build_pair(
    name: str,
    size: str = "tiny",
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
) -> Pair:
    """A pair whose weights and inputs depend on its name, its size and the kind of device alone.

    Nothing is dropped out in either: both are in evaluation mode, which changes no gradient.

    Args:
        name: a key of PAIRS.
        size: one that NETWORKS has of it.
        batch_size: rows of the inputs; None: what suits the size.
        device: where all of it is made at once.
    """
    device, chosen = torch.device(device), NETWORKS[name][size]
    with torch.random.fork_rng([device] if device.type == "cuda" else []), device:
        torch.manual_seed(0)
        pair = PAIRS[name](chosen)
        rows = torch.arange(batch_size or chosen.batch_size) % chosen.batch_size
        inputs = tuple(each[rows] for each in pair.draw(chosen.batch_size))
    models = pair.ours.eval(), pair.theirs.eval()
    return Pair(pair.title, *models, pair.draw, pair.convolutional, inputs, size == "real")


def pictures(count: int, channels: int = 3, side: int = 32) -> Inputs:
    """Noise in the place of pictures (B, C, H, W)."""
    return (torch.randn(count, channels, side, side),)


def pictures_and_steps(count: int, channels: int, side: int) -> Inputs:
    """Noise in the place of pictures (B, C, H, W), and steps (B,)."""
    return *pictures(count, channels, side), torch.randint(1000, (count,))


@torch.no_grad()
def largest_difference(pair: Pair) -> float:
    """How far the answers of both networks lie apart, on the first rows of the batch.

    Raises:
        ValueError: further than TOLERANCE, so that comparing their speed would mean nothing.
    """
    rows = [each[:2] for each in pair.inputs]
    ours, theirs = pair.ours(*rows), pair.theirs(*rows)
    difference = (ours - theirs).abs().max().item()
    allowed = TOLERANCE * (theirs.abs().max().item() if pair.relative else 1)
    if not difference <= allowed:
        raise ValueError(
            f"{pair.title}: the answers lie {difference:.2g} apart with the same weights, and "
            f"{allowed:.2g} is allowed. Nothing is timed; see solutions/tests/test_*parity.py."
        )
    return difference
