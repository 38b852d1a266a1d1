"""Lesson 9. DiT: a denoiser without convolutions, made of transformer blocks over patches.

Same layers and numbers as diffusers' DiTTransformer2DModel. `patches` turns pictures into lists and
back; `joint` holds the block of Stable Diffusion 3, in which words and patches look at each other.
"""

import math

import torch
from torch import Tensor, nn

from t2i.clip_layers import SelfAttention
from t2i.guidance import LabelEmbedding
from t2i.patches import check_patches, patchify, sincos_position_embedding_2d, unpatchify


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Stretch and shift each channel of all patches, as the condition wishes.

    out = x · (1 + scale) + shift

    Args:
        x: (B, N, D), normalised patches.
        shift, scale: (B, D), one row a picture; 0 leaves x as it is.

    Returns:
        (B, N, D).

    Raises:
        ValueError: shift or scale has not one number for each channel of each picture.

    Source: Perez et al. 2017, arXiv:1709.07871 (FiLM); Peebles and Xie 2022, arXiv:2212.09748.
    """
    for name, tensor in (("shift", shift), ("scale", scale)):
        if x.ndim != 3 or tensor.shape != (len(x), x.shape[-1]):
            raise ValueError(
                f"x must be (B, N, D) and {name} (B, D), got {tuple(x.shape)} "
                f"and {tuple(tensor.shape)}"
            )
    return x * (1 + scale[:, None]) + shift[:, None]


def plain_norm(dim: int, eps: float = 1e-6) -> nn.LayerNorm:
    """A layer norm without weights of its own: the condition brings scale and shift."""
    return nn.LayerNorm(dim, eps, elementwise_affine=False)


def mlp(dim: int) -> nn.Sequential:
    """Each patch thinks for itself: dim -> 4 · dim -> dim. (GELU by tanh, as in DiT and SD3.)"""
    return nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU("tanh"), nn.Linear(4 * dim, dim))


def zero_linear(dim_in: int, dim_out: int) -> nn.Linear:
    """A linear layer that answers 0 until it has learnt better.

    Source: Peebles and Xie 2022, arXiv:2212.09748, section 3.2 (the Zero in adaLN-Zero).
    """
    layer = nn.Linear(dim_in, dim_out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class DiTBlock(nn.Module):
    """A transformer block that the condition steers, and that begins by doing nothing at all.

    shift1, scale1, gate1, shift2, scale2, gate2 = modulation(c)
    x = x + gate1 · attn(modulate(norm1(x), shift1, scale1))
    x = x + gate2 · mlp(modulate(norm2(x), shift2, scale2))

    Args:
        dim: channels of a patch and length of the condition.
        num_heads: heads of the attention.
        norm_eps: eps of norm2; norm1's is always 1e-6. (The paper's code has 1e-6 twice,
            diffusers' ready-made models have 1e-5 here.)

    Source: Peebles and Xie 2022, arXiv:2212.09748, section 3.2 (adaLN-Zero).
    """

    def __init__(self, dim: int, num_heads: int, norm_eps: float = 1e-6):
        super().__init__()
        self.norm1 = plain_norm(dim)
        self.attn = SelfAttention(dim, num_heads)
        self.norm2 = plain_norm(dim, norm_eps)
        self.mlp = mlp(dim)
        self.modulation = nn.Sequential(nn.SiLU(), zero_linear(dim, 6 * dim))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Patches (B, N, dim), steered by the condition c (B, dim) -> (B, N, dim)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
        x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
        return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))


class FinalLayer(nn.Module):
    """From patches as vectors back to patches as pixels, steered by the condition.

    out = linear(modulate(norm(x), shift, scale))

    Args:
        dim: channels of a patch and length of the condition.
        out_dim: numbers of a patch of the result, p · p · C.
    """

    def __init__(self, dim: int, out_dim: int):
        super().__init__()
        self.norm = plain_norm(dim)
        self.modulation = nn.Sequential(nn.SiLU(), zero_linear(dim, 2 * dim))
        self.patch_out = zero_linear(dim, out_dim)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """(B, N, dim) and the condition (B, dim) -> (B, N, out_dim)."""
        shift, scale = self.modulation(c).chunk(2, dim=-1)
        return self.patch_out(modulate(self.norm(x), shift, scale))


class DiT(nn.Module):
    """The diffusion transformer: patches in, blocks steered by time and class, patches out.

    Nothing is initialised again once the blocks are built, so their zeros stay zeros.

    Args:
        in_channels: channels of the picture.
        out_channels: channels of the prediction; None: as many.
        sample_size: height and width in pixels (or one number for both).
        patch_size: side of a patch.
        dim, depth, num_heads: channels of a patch, number of blocks, heads of each.
        num_classes: classes; label num_classes means "no class".
        norm_eps: as in DiTBlock.

    Source: Peebles and Xie 2022, arXiv:2212.09748, figure 3.
    """

    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int | None = None,
        sample_size: int | tuple[int, int] = 32,
        patch_size: int = 2,
        dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        num_classes: int = 1000,
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        size = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        check_patches(*size, patch_size)
        self.picture, self.patch_size = (in_channels, *size), patch_size
        self.patch_in = nn.Linear(patch_size**2 * in_channels, dim)
        grid = (size[0] // patch_size, size[1] // patch_size)
        table = sincos_position_embedding_2d(dim, *grid)
        self.register_buffer("positions", table, persistent=False)  # (N, dim)
        self.time_mlp = nn.Sequential(nn.Linear(256, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.null = num_classes
        self.labels = LabelEmbedding(num_classes, dim)
        self.blocks = nn.ModuleList(DiTBlock(dim, num_heads, norm_eps) for _ in range(depth))
        self.final = FinalLayer(dim, patch_size**2 * (out_channels or in_channels))

    def forward(self, x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Noisy pictures, their steps and their classes in, one prediction a pixel out.

        Args:
            x_t: (B, in_channels, H, W), of the size that the DiT was built for.
            t: (B,) steps.
            label: (B,) int64 in [0, num_classes].

        Returns:
            (B, out_channels, H, W).

        Raises:
            ValueError: another size, or t or label that do not fit x_t.
        """
        check_picture(x_t, t, self.picture, label)
        height, width = x_t.shape[2:]
        c = self.time_mlp(time_clocks(t).to(x_t.dtype)) + self.labels(label)  # (B, dim)
        x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions  # (B, N, dim)
        for block in self.blocks:
            x = block(x, c)
        x = self.final(x, c)  # (B, N, p · p · out_channels)
        return unpatchify(x, self.patch_size, height, width)


def time_clocks(t: Tensor) -> Tensor:
    """The time as diffusers' DiT is told it: (B,) -> (B, 256), lesson 2's clocks but for a detail.

    Cosines first, as in lesson 2. There the exponents are i / 128, and here i / 127, so that the
    slowest clock needs 2π · 10,000 steps for one turn: it runs a little slower. (diffusers calls
    these choices flip_sin_to_cos=True and downscale_freq_shift=1.)
    """
    steps = torch.arange(128, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(-math.log(10_000) * steps / 127)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def check_picture(
    x_t: Tensor, t: Tensor, picture: tuple[int, int, int], label: Tensor | None = None
) -> None:
    """Say which argument of a transformer's forward does not fit."""
    if x_t.ndim != 4 or x_t.shape[1:] != picture:
        wanted = ", ".join(map(str, picture))
        raise ValueError(f"x_t must be (B, {wanted}), got {tuple(x_t.shape)}")
    if t.shape != x_t.shape[:1]:
        raise ValueError(f"t must be (B,) = ({len(x_t)},), got {tuple(t.shape)}")
    if label is not None and label.shape != t.shape:
        raise ValueError(f"label must be (B,) = ({len(x_t)},), got {tuple(label.shape)}")
