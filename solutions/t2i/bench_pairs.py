"""Bench: our networks beside diffusers' of the same size, with the same weights.

    pair = build_pair("dit", gpu=False)          # "unet", "text_unet" or "dit"
    largest_difference(pair)                      # raises ValueError where they do not agree

A small size is for a processor, a large one for a GPU; both networks of a pair always have one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from t2i.convert import unet2d_condition_state_dict, unet2d_state_dict
from t2i.dit_files import dit_from_config, dit_state_dict, share_embedding
from t2i.text_unet import TextUNet
from t2i.unet import UNet

HEAD = 32  # channels of an attention head in the UNets
WORDS = 24  # words of a caption
TOLERANCE = 1e-4  # how far the two answers may lie apart, in float32


class Plain(nn.Module):
    """diffusers' network, called as ours is: it takes the same inputs and gives a tensor.

    Args:
        model: diffusers' own.
        mask_name: what it calls the mask that our network takes last; None: there is none.
    """

    def __init__(self, model: nn.Module, mask_name: str | None = None):
        super().__init__()
        self.model, self.mask_name = model, mask_name

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs as ours -> the prediction (B, C, H, W)."""
        if self.mask_name is None:
            return self.model(*inputs, return_dict=False)[0]
        named = {self.mask_name: inputs[-1], "return_dict": False}
        return self.model(*inputs[:-1], **named)[0]


@dataclass(frozen=True)
class Pair:
    """Two networks with the same weights, and a batch for both.

    Args:
        title: what they are.
        ours, theirs: called alike, as model(*inputs).
        inputs: of one batch; the pictures (B, C, H, W) first.
        convolutional: whether channels-last suits them.
    """

    title: str
    ours: nn.Module
    theirs: nn.Module
    inputs: tuple[Tensor, ...]
    convolutional: bool

    @property
    def models(self) -> dict[str, nn.Module]:
        """Both by name."""
        return {"ours": self.ours, "diffusers": self.theirs}


def unet_pair(gpu: bool) -> Pair:
    """Lesson 2's UNet and UNet2DModel, on pictures of 28 × 28."""
    from diffusers import UNet2DModel  # takes seconds to import, and only the bench needs it

    channels, looks = ((128, 256), (True, True)) if gpu else ((64, 128), (False, True))
    theirs = UNet2DModel(
        in_channels=1,
        out_channels=1,
        block_out_channels=channels,
        layers_per_block=2,
        down_block_types=["AttnDownBlock2D" if look else "DownBlock2D" for look in looks],
        up_block_types=["AttnUpBlock2D" if look else "UpBlock2D" for look in reversed(looks)],
        attention_head_dim=HEAD,
    )
    ours = UNet(1, 1, channels, 2, looks, HEAD)
    ours.load_state_dict(unet2d_state_dict(theirs.state_dict()))
    inputs = pictures_and_steps(256 if gpu else 16, 1, 28)
    return Pair(f"UNet {channels} against UNet2DModel", ours, Plain(theirs), inputs, True)


def text_unet_pair(gpu: bool) -> Pair:
    """Lesson 6's TextUNet and UNet2DConditionModel, on latents, with masked words."""
    from diffusers import UNet2DConditionModel

    channels, context_dim = ((128, 256, 384), 512) if gpu else ((64, 96), 64)
    layers, groups = (2, 32) if gpu else (1, 16)
    theirs = UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=layers,
        down_block_types=["CrossAttnDownBlock2D"] * len(channels),
        up_block_types=["CrossAttnUpBlock2D"] * len(channels),
        cross_attention_dim=context_dim,
        attention_head_dim=tuple(width // HEAD for width in channels),  # their name for num_heads
        norm_num_groups=groups,
    )
    ours = TextUNet(
        4,
        4,
        context_dim,
        head_channels=HEAD,
        norm_groups=groups,
        block_channels=channels,
        layers_per_block=layers,
        attention_levels=(True,) * len(channels),
    )
    ours.load_state_dict(unet2d_condition_state_dict(theirs.state_dict()))
    x_t, t = pictures_and_steps(64 if gpu else 16, 4, 32 if gpu else 16)
    context = torch.randn(len(x_t), WORDS, context_dim)
    mask = torch.arange(WORDS) < torch.randint(1, WORDS + 1, (len(x_t), 1))  # (B, L)
    wrapped = Plain(theirs, "encoder_attention_mask")
    title = f"TextUNet {channels} against UNet2DConditionModel"
    return Pair(title, ours, wrapped, (x_t, t, context, mask), True)


def dit_pair(gpu: bool) -> Pair:
    """Lesson 9's DiT and DiTTransformer2DModel, on latents: DiT-B/2 on a GPU, else smaller."""
    from diffusers import DiTTransformer2DModel

    heads, depth, size, classes = (12, 12, 32, 1000) if gpu else (6, 6, 16, 10)
    theirs = DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=64 if gpu else HEAD,
        in_channels=4,
        num_layers=depth,
        sample_size=size,
        patch_size=2,
        num_embeds_ada_norm=classes,
    )
    theirs.load_state_dict(share_embedding(theirs.state_dict()))
    ours = dit_from_config(theirs.config)
    ours.load_state_dict(dit_state_dict(theirs.state_dict()))
    x_t, t = pictures_and_steps(64 if gpu else 16, 4, size)
    label = torch.randint(classes, (len(x_t),))
    dim = theirs.config.num_attention_heads * theirs.config.attention_head_dim
    title = f"DiT {dim} × {depth} against DiTTransformer2DModel"
    return Pair(title, ours, Plain(theirs), (x_t, t, label), False)


PAIRS: dict[str, Callable[[bool], Pair]] = {
    "unet": unet_pair,
    "text_unet": text_unet_pair,
    "dit": dit_pair,
}


def build_pair(name: str, gpu: bool = False, batch_size: int | None = None) -> Pair:
    """A pair whose weights and inputs depend on its name and size alone, on the CPU.

    Nothing is dropped out in either: both are in evaluation mode, which changes no gradient.

    Args:
        name: a key of PAIRS.
        gpu: the large size.
        batch_size: rows of the inputs; None: what suits the size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pair = PAIRS[name](gpu)
    count = len(pair.inputs[0])
    rows = torch.arange(batch_size or count) % count
    inputs = tuple(each[rows] for each in pair.inputs)
    return Pair(pair.title, pair.ours.eval(), pair.theirs.eval(), inputs, pair.convolutional)


def pictures_and_steps(count: int, channels: int, size: int) -> tuple[Tensor, Tensor]:
    """Noise in the place of pictures (B, C, H, W), and steps (B,)."""
    return torch.randn(count, channels, size, size), torch.randint(1000, (count,))


@torch.no_grad()
def largest_difference(pair: Pair) -> float:
    """How far the answers of both networks lie apart, on the first rows of the batch.

    Raises:
        ValueError: further than TOLERANCE, so that comparing their speed would mean nothing.
    """
    rows = [each[:2] for each in pair.inputs]
    ours, theirs = pair.ours(*rows), pair.theirs(*rows)
    difference = (ours - theirs).abs().max().item()
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{pair.title}: the answers lie {difference:.2g} apart with the same weights, and "
            f"{TOLERANCE:g} is allowed. Nothing is timed; see solutions/tests/test_*parity.py."
        )
    return difference
