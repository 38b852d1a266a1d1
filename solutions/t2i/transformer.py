"""Lesson 6, its second half: the transformer block, and the way from a picture to a list and back.

Same layers and numbers as diffusers' BasicTransformerBlock and Transformer2DModel. The attention
inside is lesson 6's own, in `attention`.
"""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from t2i.attention import CrossAttention


class GEGLU(nn.Module):
    """Two linear layers in one: the first half is the content, the second half opens the gate.

    How far each channel of the content is let through, the exact GELU of its gate says.

    Args:
        dim_in: channels that come in.
        dim_out: channels that go out; the linear layer `proj` makes twice as many.

    Source: Shazeer 2020, arXiv:2002.05202; Hendrycks and Gimpel 2016, arXiv:1606.08415 (GELU).
    """

    def __init__(self, dim_in: int, dim_out: int):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim_in) -> (..., dim_out)."""
        content, gate = self.proj(x).chunk(2, dim=-1)
        return content * F.gelu(gate)


class TransformerBlock(nn.Module):
    """Three corrections in turn: look at the picture, look at the words, think it over.

    attn1, attn2 and ff read x through norm1, norm2 and norm3; each adds what it found to x.

    Args:
        dim: channels of x.
        num_heads, head_dim: heads of both attentions, and channels of one head.
        context_dim: channels of the words.

    Source: Rombach et al. 2021, arXiv:2112.10752, appendix E.2.1 (table 16; the order is that of
        Stable Diffusion's code, in the table ff comes before attn2).
    """

    def __init__(self, dim: int, num_heads: int, head_dim: int, context_dim: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = CrossAttention(dim, None, num_heads, head_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = CrossAttention(dim, context_dim, num_heads, head_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = nn.Sequential(GEGLU(dim, 4 * dim), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, context: Tensor, context_mask: Tensor | None = None) -> Tensor:
        """(B, N, dim) and words (B, L, context_dim), masked as in CrossAttention -> (B, N, dim)."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context, context_mask)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks for a picture: its pixels become a list, and then a picture again.

    out = x + proj_out(blocks(proj_in(norm(x)), context))

    Args:
        channels: channels of the picture, a multiple of norm_groups.
        num_heads, head_dim: heads of every attention; num_heads · head_dim channels inside.
        context_dim: channels of the words.
        depth: how many transformer blocks.
        norm_groups: groups of the group normalisation (its eps is 1e-6, as in Stable Diffusion).

    Source: Rombach et al. 2021, arXiv:2112.10752, appendix E.2.1 (table 16; the group norm is that
        of Stable Diffusion's code).
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        head_dim: int,
        context_dim: int,
        depth: int = 1,
        norm_groups: int = 32,
    ):
        super().__init__()
        inner_dim = num_heads * head_dim
        self.norm = nn.GroupNorm(norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, inner_dim, 1)
        self.blocks = nn.ModuleList(
            TransformerBlock(inner_dim, num_heads, head_dim, context_dim) for _ in range(depth)
        )
        self.proj_out = nn.Conv2d(inner_dim, channels, 1)
        nn.init.zeros_(self.proj_out.weight)  # a calm start: the picture passes as it is
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, context: Tensor, context_mask: Tensor | None = None) -> Tensor:
        """(B, channels, H, W) and words (B, L, context_dim) -> (B, channels, H, W).

        Raises:
            ValueError: x is not a picture of that many channels, or the words do not fit.
        """
        if x.ndim != 4 or x.shape[1] != self.norm.num_channels:
            raise ValueError(f"x must be (B, {self.norm.num_channels}, H, W), got {tuple(x.shape)}")
        height, width = x.shape[2:]
        h = self.proj_in(self.norm(x))
        h = rearrange(h, "b c h w -> b (h w) c")
        for block in self.blocks:
            h = block(h, context, context_mask)
        h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
        return x + self.proj_out(h)
