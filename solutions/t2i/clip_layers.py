"""What both of CLIP's encoders are built from, and what is said about wrong input.

Same layers and numbers as transformers' CLIPEncoderLayer.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.attention import merge_heads, split_heads
from t2i.engine.recorded import values_at_hand


def quick_gelu(x: Tensor) -> Tensor:
    """A quick stand-in for GELU: let x through as far as a sigmoid opens.

    out is x times a gate, the sigmoid made 1.702 times as steep: close to GELU's own gate.

    Args:
        x: any shape.

    Returns:
        the same shape and dtype.

    Source: Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2.
    """
    return x * torch.sigmoid(1.702 * x)


class SelfAttention(nn.Module):
    """Places look at each other: lesson 6's CrossAttention without words, and with biases.

    Args:
        width: channels of a place: of a token in lesson 7, of a patch in lesson 9.
        num_heads: how many looks are taken at once; divides width.
    """

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        if width % num_heads:
            raise ValueError(f"num_heads {num_heads} must divide the {width} channels")
        self.num_heads = num_heads
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, width), mask (L, L) bool: True at [i, j] = place i may look at place j."""
        query = split_heads(self.to_q(x), self.num_heads)  # (B, heads, L, d)
        key = split_heads(self.to_k(x), self.num_heads)
        value = split_heads(self.to_v(x), self.num_heads)
        looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.to_out(merge_heads(looked))


class EncoderLayer(nn.Module):
    """Look around, then think it over; both times x is normalised first and corrected.

    x = x + attn(norm1(x));  x = x + fc2(quick_gelu(fc1(norm2(x))))

    Args:
        width: channels.
        num_heads: of the attention.
        mlp_width: channels between fc1 and fc2; None: 4 · width.
    """

    def __init__(self, width: int, num_heads: int, mlp_width: int | None = None):
        super().__init__()
        mlp_width = mlp_width or 4 * width
        self.norm1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, mlp_width)
        self.fc2 = nn.Linear(mlp_width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, width) -> (B, L, width), masked as in SelfAttention."""
        x = x + self.attn(self.norm1(x), mask)
        return x + self.fc2(quick_gelu(self.fc1(self.norm2(x))))


def words_mask(tokens: Tensor, end_token: int) -> Tensor:
    """Which tokens say something: all up to the first end token, and it; the rest fills up.

    Args:
        tokens: (B, L) int64.
        end_token: its number.

    Returns:
        (B, L) bool.
    """
    ends = (tokens == end_token).int()
    return ends.cumsum(dim=1) - ends == 0  # no end token before this one


def check_tokens(tokens: Tensor, size: int, most: int, end_token: int) -> None:
    """Say what is wrong with the tokens of TextTransformer.forward."""
    if tokens.ndim != 2 or tokens.dtype != torch.int64 or not 1 <= tokens.shape[1] <= most:
        raise ValueError(
            f"tokens must be (B, L) int64 with L from 1 to {most}, got {tuple(tokens.shape)} "
            f"{tokens.dtype}"
        )
    if not values_at_hand(tokens):
        return
    if len(tokens) and (tokens.min() < 0 or tokens.max() >= size):
        raise ValueError(
            f"tokens must lie in 0..{size - 1} (the vocabulary), "
            f"got {tokens.min().item()}..{tokens.max().item()}"
        )
    if not (tokens == end_token).any(dim=1).all():
        raise ValueError(f"tokens must hold the end token {end_token} in every row")


def check_images(images: Tensor, channels: int, size: int) -> None:
    """Say what is wrong with the pictures of ImageEncoder.forward."""
    if images.ndim != 4 or images.shape[1:] != (channels, size, size):
        raise ValueError(
            f"images must be (B, {channels}, {size}, {size}), got {tuple(images.shape)}"
        )


def check_features(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor | None = None
) -> None:
    """Say which features are no vectors of one length, or none, and what is not finite."""
    if image_features.ndim != 2 or image_features.shape[-1] != text_features.shape[-1]:
        raise ValueError(
            f"image_features must be (B, D) with the D of text_features, got "
            f"{tuple(image_features.shape)} and {tuple(text_features.shape)}"
        )
    named = {"image_features": image_features, "text_features": text_features}
    if logit_scale is not None:
        named["logit_scale"] = logit_scale
        if not image_features.numel() or not text_features.numel():
            raise ValueError("image_features and text_features must hold something, one is empty")
    for name, values in named.items():
        if values_at_hand(values) and not values.isfinite().all():
            raise ValueError(f"{name} must be finite, it contains NaN or infinity")
