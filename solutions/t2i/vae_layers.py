"""Lesson 8. The layers of the autoencoder: lesson 2's, without the time and with another border.

Same numbers as diffusers' blocks of these kinds; the names are the lesson's own.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from t2i.unet_blocks import SelfAttention2d

EPS = 1e-6  # of all group norms in Stable Diffusion's VAE; lesson 2's UNet has 1e-5


class ConvBlock(nn.Module):
    """Lesson 2's ResBlock without a time: an autoencoder's pictures are not noisy.

    h = conv1(silu(norm1(x)));  out = skip(x) + conv2(silu(norm2(h)))

    Args:
        in_channels, out_channels: channels before and after, multiples of norm_groups.
        norm_groups: groups of the group normalisation.
    """

    def __init__(self, in_channels: int, out_channels: int, norm_groups: int = 32):
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, in_channels, eps=EPS)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(norm_groups, out_channels, eps=EPS)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.skip(x) + h


class PaddedDownsample(nn.Module):
    """Halve height and width; the border of zeros stands below and to the right only.

    out = self.conv(pad(x)), a 3×3 convolution with stride 2 and no padding of its own

    Args:
        channels: channels in and out.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ⌊H/2⌋, ⌊W/2⌋)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """What happens at one resolution: blocks, then a resize.

    Args:
        in_channels, out_channels: before the first block, and after every block.
        num_blocks: how many ConvBlocks; the first one changes the channels.
        resize: the PaddedDownsample or Upsample that leaves this resolution, or None.
        norm_groups: as in ConvBlock.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int,
        resize: nn.Module | None = None,
        norm_groups: int = 32,
    ):
        super().__init__()
        widths = [in_channels] + [out_channels] * num_blocks
        self.blocks = nn.ModuleList(ConvBlock(a, b, norm_groups) for a, b in pairwise(widths))
        self.resize = resize

    def forward(self, h: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H', W')."""
        for block in self.blocks:
            h = block(h)
        return h if self.resize is None else self.resize(h)


class Middle(nn.Module):
    """At the smallest resolution: a block, one look of every place at every other, a block.

    Args:
        channels: channels in and out.
        norm_groups: as in ConvBlock.
    """

    def __init__(self, channels: int, norm_groups: int = 32):
        super().__init__()
        self.block1 = ConvBlock(channels, channels, norm_groups)
        self.attention = SelfAttention2d(channels, num_heads=1, norm_groups=norm_groups)
        self.attention.norm.eps = EPS
        self.block2 = ConvBlock(channels, channels, norm_groups)

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.block2(self.attention(self.block1(h)))
