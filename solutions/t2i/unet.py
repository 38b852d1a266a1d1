"""Lesson 2. The denoiser: a UNet that looks at a noisy picture and says which noise is in it.

Same layers and numbers as diffusers' UNet2DModel; the names are the lesson's own.
"""

import math
from collections.abc import Sequence

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
        max_period: sets the slowest clock: one turn takes it up to 2π · max_period steps (the
            larger dim, the nearer).

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


class Stage(nn.Module):
    """What happens at one resolution: blocks, attention after each if wanted, then a resize.

    Args:
        block_channels: (in, out) channels of each ResBlock.
        resize: the Downsample or Upsample that leaves this resolution, or None.
        head_channels: channels of one head of the attention after each block; 0 leaves
            attention out.
        emb_channels, norm_groups, dropout: as in ResBlock.
    """

    def __init__(
        self,
        block_channels: Sequence[tuple[int, int]],
        resize: nn.Module | None,
        head_channels: int,
        emb_channels: int,
        norm_groups: int,
        dropout: float,
    ):
        super().__init__()
        self.blocks = nn.ModuleList(
            ResBlock(c_in, c_out, emb_channels, norm_groups, dropout)
            for c_in, c_out in block_channels
        )
        self.attentions = nn.ModuleList(
            SelfAttention2d(c_out, c_out // head_channels, norm_groups)
            if head_channels
            else nn.Identity()
            for _, c_out in block_channels
        )
        self.resize = resize


class UNet(nn.Module):
    """Predict the noise in a picture: down to see the whole, up to place it, skips for detail.

    Args:
        in_channels, out_channels: channels of the noisy picture and of the prediction.
        block_channels: channels at each resolution, the finest first.
        layers_per_block: ResBlocks a resolution on the way down (one more on the way up).
        attention_levels: whether each resolution has self-attention.
        head_channels: channels of one attention head; divides them wherever there is attention.
        norm_groups: groups of the group normalisations.
        dropout: share of values set to zero inside the ResBlocks, in training.

    Raises:
        ValueError: attention_levels and block_channels differ in length, or head_channels does
            not divide.

    Source: Ronneberger et al. 2015, arXiv:1505.04597; Ho et al. 2020, arXiv:2006.11239,
        appendix B.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        block_channels: Sequence[int] = (64, 128),
        layers_per_block: int = 2,
        attention_levels: Sequence[bool] = (False, True),
        head_channels: int = 32,
        norm_groups: int = 32,
        dropout: float = 0.0,
    ):
        super().__init__()
        if len(attention_levels) != len(block_channels):
            raise ValueError(
                f"attention_levels {tuple(attention_levels)} needs one entry for each of the "
                f"{len(block_channels)} block_channels"
            )
        for width, looks in zip(block_channels, [*attention_levels[:-1], True], strict=True):
            if looks and width % head_channels:
                raise ValueError(
                    f"head_channels {head_channels} must divide {width}, the channels of a "
                    "resolution with attention (the last one always has it, in the middle)"
                )
        self.embedding_channels = block_channels[0]
        emb_channels = 4 * block_channels[0]
        self.time_mlp = nn.Sequential(
            nn.Linear(block_channels[0], emb_channels),
            nn.SiLU(),
            nn.Linear(emb_channels, emb_channels),
        )
        self.conv_in = nn.Conv2d(in_channels, block_channels[0], 3, padding=1)
        common = {"emb_channels": emb_channels, "norm_groups": norm_groups, "dropout": dropout}

        skip_channels = [block_channels[0]]
        channels = block_channels[0]
        self.down = nn.ModuleList()
        for level, width in enumerate(block_channels):
            pairs = [(channels, width)] + [(width, width)] * (layers_per_block - 1)
            last = level == len(block_channels) - 1
            head = head_channels if attention_levels[level] else 0
            self.down.append(Stage(pairs, None if last else Downsample(width), head, **common))
            skip_channels += [width] * (layers_per_block + (not last))
            channels = width

        self.mid = Stage([(channels, channels)] * 2, None, head_channels, **common)
        self.mid.attentions[1] = nn.Identity()  # one look is enough: block, attention, block

        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(block_channels))):
            pairs = []
            for _ in range(layers_per_block + 1):
                pairs.append((channels + skip_channels.pop(), width))
                channels = width
            head = head_channels if attention_levels[level] else 0
            self.up.append(Stage(pairs, Upsample(width) if level else None, head, **common))

        self.norm_out = nn.GroupNorm(norm_groups, channels)
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Noisy pictures and their steps in, one prediction a pixel out.

        Args:
            x_t: (B, in_channels, H, W); H and W divisible by 2^(resolutions - 1).
            t: (B,) steps.
            cond: (B, 4 · block_channels[0]), added to the time vector; None adds nothing.
                Lesson 5 says with it which digit is wanted.

        Returns:
            (B, out_channels, H, W), in x_t's dtype.
        """
        emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
        if cond is not None:
            emb = emb + cond
        h = self.conv_in(x_t)
        skips = [h]
        for stage in self.down:
            for block, attention in zip(stage.blocks, stage.attentions, strict=True):
                h = attention(block(h, emb))
                skips.append(h)
            if stage.resize is not None:
                h = stage.resize(h)
                skips.append(h)
        for block, attention in zip(self.mid.blocks, self.mid.attentions, strict=True):
            h = attention(block(h, emb))
        for stage in self.up:
            for block, attention in zip(stage.blocks, stage.attentions, strict=True):
                h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
            if stage.resize is not None:
                h = stage.resize(h)
        return self.conv_out(F.silu(self.norm_out(h)))
