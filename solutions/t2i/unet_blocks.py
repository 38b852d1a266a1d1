"""Lesson 2, the parts of the UNet: the clock, the residual block, attention, down and up.

Same layers and numbers as diffusers' ResnetBlock2D, Attention, Downsample2D and Upsample2D; the
names are the lesson's own.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def timestep_embedding(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Turn step numbers into vectors: a row of clocks, each slower than the one before.

    emb_i = cos(t · ω_i), emb_{i + dim/2} = sin(t · ω_i), ω_i = max_period^(-2i / dim)

    Args:
        t: (B,) steps, integer or float.
        dim: length of each vector, even.
        max_period: a clock of speed 1/max_period would come next after the slowest one.

    Returns:
        (B, dim) float32 in [-1, 1]: all the cosines, then all the sines.

    Raises:
        ValueError: dim is odd.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5; Ho et al. 2020, appendix B.
    """
    if dim % 2:
        raise ValueError(f"dim must be even (cosines and sines in pairs), got {dim}")
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
    frequencies = torch.exp(-math.log(max_period) * exponents)
    angles = t.float()[:, None] * frequencies[None, :]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResBlock(nn.Module):
    """Two convolutions that are told the time, added to what came in.

    h = conv1(silu(norm1(x))) + time_proj(silu(emb))
    out = skip(x) + conv2(dropout(silu(norm2(h))))

    Args:
        in_channels, out_channels: channels before and after, multiples of norm_groups.
        emb_channels: length of the time vector.
        norm_groups: groups of the group normalisation.
        dropout: share of values set to zero before the second convolution, in training.

    Source: He et al. 2015, arXiv:1512.03385; Ho et al. 2020, arXiv:2006.11239, appendix B.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        norm_groups: int = 32,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_proj = nn.Linear(emb_channels, out_channels)
        self.norm2 = nn.GroupNorm(norm_groups, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """(B, in_channels, H, W) and (B, emb_channels) -> (B, out_channels, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_proj(F.silu(emb))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return self.skip(x) + h


class SelfAttention2d(nn.Module):
    """Every pixel looks at every other pixel and takes over what it finds useful.

    out = x + proj(softmax(q·kᵀ / √d) · v), with q, k, v read from norm(x), d channels a head

    Args:
        channels: channels of the picture, a multiple of num_heads and of norm_groups.
        num_heads: independent looks at the picture.
        norm_groups: groups of the group normalisation.

    Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1.
    """

    def __init__(self, channels: int, num_heads: int = 1, norm_groups: int = 32):
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"channels {channels} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.norm = nn.GroupNorm(norm_groups, channels)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        height, width = x.shape[2:]
        pixels = rearrange(self.norm(x), "b c h w -> b (h w) c")
        q, k, v = (
            rearrange(to(pixels), "b n (heads d) -> b heads n d", heads=self.num_heads)
            for to in (self.to_q, self.to_k, self.to_v)
        )
        looked = F.scaled_dot_product_attention(q, k, v)  # (B, heads, H·W, d)
        out = self.proj(rearrange(looked, "b heads n d -> b n (heads d)"))
        return x + rearrange(out, "b (h w) c -> b c h w", h=height, w=width)


class Downsample(nn.Module):
    """Halve height and width with a convolution that visits every second pixel.

    Args:
        channels: channels in and out.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ⌈H/2⌉, ⌈W/2⌉)."""
        return self.conv(x)


class Upsample(nn.Module):
    """Double height and width: repeat every pixel, then smooth with a convolution.

    Args:
        channels: channels in and out.

    Source: Odena et al. 2016, "Deconvolution and checkerboard artifacts", distill.pub.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
