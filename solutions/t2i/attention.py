"""Lesson 6. Cross-attention: every place of the picture looks at the words it needs.

Same layers and numbers as diffusers' Attention. `transformer` puts it into the block from which
Stable Diffusion's UNet is built. One convention for masks: True = look at this word.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Look things up softly: compare each query with all keys, mix the values accordingly.

    weights = softmax(query · keyᵀ / √d);  output = weights · value

    Args:
        query: (..., N, d), what each of N places looks for.
        key: (..., L, d), what each of L words offers to be found by.
        value: (..., L, e), what each word hands over.
        mask: bool, broadcasts to (..., N, L), True = look at this word. None: look at all.

    Returns:
        output: (..., N, e) and weights: (..., N, L). The weights of a place sum to 1; where the
        mask leaves it no word at all, its weights and its output are 0.

    Raises:
        ValueError: the shapes do not fit, mask is not bool, or something is NaN or infinite.

    Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1.
    """
    _check_lookup(query, key, value, mask)
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)  # (..., N, L)
    if mask is None:
        weights = scores.softmax(dim=-1)
    else:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1).masked_fill(~mask, 0.0)
    return weights @ value, weights


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Give each head its own share of the channels: head 0 the first d of them, and so on.

    Args:
        x: (B, N, num_heads · d).
        num_heads: how many looks are taken at once; divides the channels.

    Returns:
        (B, num_heads, N, d).

    Raises:
        ValueError: x has not three dimensions, or its channels cannot be shared out evenly.
    """
    if x.ndim != 3:
        raise ValueError(f"x must have shape (B, N, channels), got {tuple(x.shape)}")
    if num_heads < 1 or x.shape[-1] % num_heads:
        raise ValueError(f"num_heads must divide x's {x.shape[-1]} channels, got {num_heads}")
    return rearrange(x, "b n (heads d) -> b heads n d", heads=num_heads)


def merge_heads(x: Tensor) -> Tensor:
    """Put the heads' channels side by side again: the way back from split_heads.

    Args:
        x: (B, num_heads, N, d).

    Returns:
        (B, N, num_heads · d).

    Raises:
        ValueError: x has not four dimensions.
    """
    if x.ndim != 4:
        raise ValueError(f"x must have shape (B, num_heads, N, d), got {tuple(x.shape)}")
    return rearrange(x, "b heads n d -> b n (heads d)")


class CrossAttention(nn.Module):
    """Each place of x asks, the words answer. Without words x asks itself: self-attention.

    out = to_out(merge(attention(split(to_q(x)), split(to_k(context)), split(to_v(context)))))

    Args:
        query_dim: channels of x and of the result.
        context_dim: channels of the words; None for self-attention.
        num_heads: how many looks are taken at once.
        head_dim: channels of one head, d.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2; Rombach et al. 2021,
        arXiv:2112.10752, section 3.3.
    """

    def __init__(
        self,
        query_dim: int,
        context_dim: int | None = None,
        num_heads: int = 8,
        head_dim: int = 64,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.context_dim = query_dim if context_dim is None else context_dim
        inner_dim = num_heads * head_dim
        self.to_q = nn.Linear(query_dim, inner_dim, bias=False)
        self.to_k = nn.Linear(self.context_dim, inner_dim, bias=False)
        self.to_v = nn.Linear(self.context_dim, inner_dim, bias=False)
        self.to_out = nn.Linear(inner_dim, query_dim)

    def forward(
        self, x: Tensor, context: Tensor | None = None, context_mask: Tensor | None = None
    ) -> Tensor:
        """Places (B, N, query_dim) look at words (B, L, context_dim) -> (B, N, query_dim).

        Args:
            x: (B, N, query_dim).
            context: (B, L, context_dim); None: x looks at itself.
            context_mask: (B, L) bool, True = look at this word; None: at all of them. A picture
                whose words are all masked gets to_out(0), which is to_out's bias.

        Raises:
            ValueError: shapes that do not fit, or a mask that is not bool.
        """
        if context is None:
            context = x
        _check_context(x, context, context_mask, self.to_q.in_features, self.context_dim)
        query = split_heads(self.to_q(x), self.num_heads)  # (B, heads, N, d)
        key = split_heads(self.to_k(context), self.num_heads)  # (B, heads, L, d)
        value = split_heads(self.to_v(context), self.num_heads)
        mask = None if context_mask is None else context_mask[:, None, None, :]
        # the same numbers as ours, without ever keeping all the weights in memory
        looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.to_out(merge_heads(looked))


def _check_lookup(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    """Say which argument of scaled_dot_product_attention does not fit."""
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.ndim < 2:
            raise ValueError(f"{name} needs two dimensions or more, got {tuple(tensor.shape)}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name} must be finite, it contains NaN or infinity")
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(
            f"query and key must have the same last size d, got {tuple(query.shape)} "
            f"and {tuple(key.shape)}"
        )
    if key.shape[-2] != value.shape[-2] or not key.shape[-2]:
        raise ValueError(
            f"key and value must have one row a word, at least one, got {tuple(key.shape)} "
            f"and {tuple(value.shape)}"
        )
    if not query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        raise ValueError(
            f"query, key and value must agree in all sizes but the last two, got "
            f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
        )
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool (True = look at this word), got {mask.dtype}")
    scores = (*query.shape[:-1], key.shape[-2])  # (..., N, L)
    sizes = zip(reversed(mask.shape), reversed(scores), strict=False)
    if mask.ndim > len(scores) or any(size not in (1, wanted) for size, wanted in sizes):
        raise ValueError(f"mask must broadcast to (..., N, L) = {scores}, got {tuple(mask.shape)}")


def _check_context(
    x: Tensor, context: Tensor, mask: Tensor | None, query_dim: int, context_dim: int
) -> None:
    """Say which argument of CrossAttention.forward does not fit."""
    if x.ndim != 3 or x.shape[-1] != query_dim:
        raise ValueError(f"x must be (B, N, {query_dim}), got {tuple(x.shape)}")
    if context.ndim != 3 or context.shape[-1] != context_dim or not context.shape[1]:
        raise ValueError(
            f"context must be (B, L, {context_dim}) with at least one word, "
            f"got {tuple(context.shape)}"
        )
    if len(context) != len(x):
        raise ValueError(f"x has {len(x)} pictures, but context has words for {len(context)}")
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise ValueError(f"context_mask must be bool (True = look at this word), got {mask.dtype}")
    if mask.shape != context.shape[:2]:
        raise ValueError(
            f"context_mask must be (B, L) = {tuple(context.shape[:2])}, got {tuple(mask.shape)}"
        )
