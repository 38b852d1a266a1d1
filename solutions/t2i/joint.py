"""Lesson 9. Words and patches in one sequence: the joint block of Stable Diffusion 3, in small.

Same numbers as diffusers' JointTransformerBlock. In lesson 6 the picture looked at the words, and
the words never changed. Here both are tokens: each looks at all, and both are changed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.attention import merge_heads, split_heads
from t2i.dit import FinalLayer, check_picture, mlp, modulate, plain_norm, zero_linear
from t2i.patches import check_patches, patchify, sincos_position_embedding_2d, unpatchify
from t2i.unet_blocks import timestep_embedding


class Stream(nn.Module):
    """What one kind of token has for itself in a joint block: all its weights.

    Args:
        dim: channels of a token and length of the condition.
        num_heads: heads of the attention; divides dim.
        ends: these tokens are looked at for the last time, so nothing is made of what they see.
        qk_norm: bring queries and keys to one length first, as Stable Diffusion 3.5 does.

    Source: Esser et al. 2024, arXiv:2403.03206, figure 2b and section 5.3.2 (qk_norm).
    """

    def __init__(self, dim: int, num_heads: int, ends: bool = False, qk_norm: bool = False):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads {num_heads} must divide dim {dim}")
        self.num_heads = num_heads
        self.modulation = nn.Sequential(nn.SiLU(), zero_linear(dim, (2 if ends else 6) * dim))
        self.norm1 = plain_norm(dim)
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        d = dim // num_heads
        self.norm_q = nn.RMSNorm(d, eps=1e-6) if qk_norm else nn.Identity()
        self.norm_k = nn.RMSNorm(d, eps=1e-6) if qk_norm else nn.Identity()
        if not ends:
            self.to_out, self.norm2, self.mlp = nn.Linear(dim, dim), plain_norm(dim), mlp(dim)

    def offer(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Tokens (B, N, dim) -> query, key, value (B, heads, N, d), and the wishes for `take`."""
        # rest: gate1, shift2, scale2, gate2; nothing where the stream ends
        shift, scale, *rest = self.modulation(c).split(x.shape[-1], dim=-1)
        h = modulate(self.norm1(x), shift, scale)
        layers = (self.to_q, self.to_k, self.to_v)
        query, key, value = (split_heads(layer(h), self.num_heads) for layer in layers)
        return self.norm_q(query), self.norm_k(key), value, rest

    def take(self, x: Tensor, seen: Tensor, rest: list[Tensor]) -> Tensor:
        """Add to tokens (B, N, dim) what they saw, (B, heads, N, d), then let each think."""
        gate1, shift2, scale2, gate2 = rest
        x = x + gate1[:, None] * self.to_out(merge_heads(seen))
        return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))


class JointAttentionBlock(nn.Module):
    """Patches and words look at each other and at themselves, in one attention over all tokens.

    query = [query of patches, query of words], and so key and value;
    seen = attention(query, key, value), cut in two again; each stream takes its own part.

    Args:
        dim: channels of a patch and of a word, and length of the condition.
        num_heads: heads of the attention.
        context_pre_only: the last block of a network: the words are looked at, and end here.
        qk_norm: as in Stream.

    Source: Esser et al. 2024, arXiv:2403.03206, section 4 and figure 2b (MM-DiT).
    """

    def __init__(
        self, dim: int, num_heads: int, context_pre_only: bool = False, qk_norm: bool = False
    ):
        super().__init__()
        self.context_pre_only = context_pre_only
        self.patches = Stream(dim, num_heads, qk_norm=qk_norm)
        self.words = Stream(dim, num_heads, ends=context_pre_only, qk_norm=qk_norm)

    def forward(
        self, x: Tensor, context: Tensor, c: Tensor, context_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Patches and words in, patches and words out.

        Args:
            x: (B, N, dim) patches.
            context: (B, L, dim) words.
            c: (B, dim) condition.
            context_mask: (B, L) bool, True = this word may be looked at; None: all of them.
                Patches may always be looked at.

        Returns:
            x: (B, N, dim) and context: (B, L, dim), or None after a block with context_pre_only.
        """
        patches, words = x.shape[1], context.shape[1]
        query_x, key_x, value_x, rest_x = self.patches.offer(x, c)
        query_w, key_w, value_w, rest_w = self.words.offer(context, c)
        query = torch.cat([query_x, query_w], dim=2)  # (B, heads, N + L, d)
        key = torch.cat([key_x, key_w], dim=2)
        value = torch.cat([value_x, value_w], dim=2)
        mask = joint_mask(context_mask, patches)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        seen_x, seen_w = seen.split([patches, words], dim=2)
        x = self.patches.take(x, seen_x, rest_x)
        return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)


def joint_mask(context_mask: Tensor | None, patches: int) -> Tensor | None:
    """Who may be looked at: all patches, and the words of the mask.

    Args:
        context_mask: (B, L) bool, True = look at this word; or None.
        patches: N.

    Returns:
        (B, 1, 1, N + L) bool, as attention wants it; None for None.
    """
    if context_mask is None:
        return None
    if context_mask.ndim != 2 or context_mask.dtype != torch.bool:
        raise ValueError(
            f"context_mask must be (B, L) bool (True = look at this word), got "
            f"{tuple(context_mask.shape)} {context_mask.dtype}"
        )
    return F.pad(context_mask, (patches, 0), value=True)[:, None, None, :]


def check_told(
    context: Tensor, mask: Tensor | None, cond: Tensor | None, batch: int, context_in: nn.Linear
) -> None:
    """Say which of the words, their mask and the condition does not fit B pictures."""
    context_dim, dim = context_in.in_features, context_in.out_features
    if context.ndim != 3 or len(context) != batch or context.shape[-1] != context_dim:
        raise ValueError(
            f"context must be (B, L, {context_dim}) with B = {batch}, got {tuple(context.shape)}"
        )
    if mask is not None and mask.shape != context.shape[:2]:
        raise ValueError(
            f"context_mask must be (B, L) = {tuple(context.shape[:2])}, got {tuple(mask.shape)}"
        )
    if cond is not None and cond.shape != (batch, dim):
        raise ValueError(f"cond must be (B, dim) = {(batch, dim)}, got {tuple(cond.shape)}")


class JointDiT(nn.Module):
    """Stable Diffusion 3's transformer in small; called like lesson 6's TextUNet.

    What `DiT` does not have is marked `new`.

    Args:
        in_channels: channels of the picture.
        out_channels: channels of the prediction; None: as many.
        context_dim: length of a word's vector.
        sample_size: height and width in pixels (or one number for both).
        patch_size: side of a patch.
        dim, depth, num_heads: channels of a token, number of blocks, heads of each.
        qk_norm: as in Stream.

    Source: Esser et al. 2024, arXiv:2403.03206, figure 2a.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int | None = None,
        context_dim: int = 64,
        sample_size: int | tuple[int, int] = 32,
        patch_size: int = 4,
        dim: int = 128,
        depth: int = 4,
        num_heads: int = 4,
        qk_norm: bool = True,
    ):
        super().__init__()
        size = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        check_patches(*size, patch_size)
        grid = (size[0] // patch_size, size[1] // patch_size)
        self.picture, self.patch_size = (in_channels, *size), patch_size
        self.patch_in = nn.Linear(patch_size**2 * in_channels, dim)
        self.context_in = nn.Linear(context_dim, dim)  # new
        table = sincos_position_embedding_2d(dim, *grid)
        self.register_buffer("positions", table, persistent=False)  # (N, dim)
        self.time_mlp = nn.Sequential(nn.Linear(256, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.blocks = nn.ModuleList(  # new: your JointAttentionBlock
            JointAttentionBlock(dim, num_heads, i == depth - 1, qk_norm) for i in range(depth)
        )
        self.final = FinalLayer(dim, patch_size**2 * (out_channels or in_channels))

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        context: Tensor,  # new
        context_mask: Tensor | None = None,  # new
        cond: Tensor | None = None,  # new
    ) -> Tensor:
        """Noisy pictures, their steps and their words in, one prediction a pixel out.

        Args:
            x_t: (B, in_channels, H, W), of the size that the network was built for.
            t: (B,) steps.
            context: (B, L, context_dim), the words.
            context_mask: (B, L) bool, True = look at this word; None: at all of them.
            cond: (B, dim), added to the time vector: the words' mean, say; None adds nothing.

        Returns:
            (B, out_channels, H, W).

        Raises:
            ValueError: another size, or t, context, mask or cond that do not fit x_t.
        """
        check_picture(x_t, t, self.picture)
        check_told(context, context_mask, cond, len(x_t), self.context_in)
        # SD3's clocks are lesson 2's own; those of DiT, time_clocks, run a little slower
        c = self.time_mlp(timestep_embedding(t, 256).to(x_t.dtype))
        c = c if cond is None else c + cond  # new
        x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
        context = self.context_in(context)  # new
        for block in self.blocks:
            x, context = block(x, context, c, context_mask)  # new
        return unpatchify(self.final(x, c), self.patch_size, *x_t.shape[2:])
