"""Lesson 9. Pictures as lists of patches, and a vector for the place of each."""

import torch
from einops import rearrange
from torch import Tensor

from t2i.unet_blocks import timestep_embedding


def patchify(x: Tensor, patch_size: int) -> Tensor:
    """Cut pictures into square patches and lay each patch out as one long vector.

    Patches go row by row over the picture; inside a patch pixels go row by row, each with all its
    channels: the order (row, column, channel).

    Args:
        x: (B, C, H, W), H and W multiples of patch_size.
        patch_size: p, side of a patch in pixels.

    Returns:
        (B, N, p · p · C) with N = (H / p) · (W / p).

    Raises:
        ValueError: x is no batch of pictures, or does not fall into whole patches.

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.1; Peebles and Xie 2022,
        arXiv:2212.09748, section 3.2.
    """
    if x.ndim != 4:
        raise ValueError(f"x must have shape (B, C, H, W), got {tuple(x.shape)}")
    check_patches(*x.shape[2:], patch_size)
    return rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=patch_size, q=patch_size)


def unpatchify(patches: Tensor, patch_size: int, height: int, width: int) -> Tensor:
    """Put patches back where they came from: the way back from patchify.

    Args:
        patches: (B, N, p · p · C).
        patch_size: p, side of a patch in pixels.
        height, width: of the picture, in pixels.

    Returns:
        (B, C, height, width).

    Raises:
        ValueError: the patches do not make a picture of that size.
    """
    check_patches(height, width, patch_size)
    rows, columns = height // patch_size, width // patch_size
    if patches.ndim != 3 or patches.shape[1] != rows * columns or patches.shape[2] % patch_size**2:
        raise ValueError(
            f"patches must be (B, {rows * columns}, {patch_size**2} · C) for a picture of "
            f"{height} × {width}, got {tuple(patches.shape)}"
        )
    return rearrange(
        patches, "b (h w) (p q c) -> b c (h p) (w q)", h=rows, p=patch_size, q=patch_size
    )


def sincos_position_embedding_2d(dim: int, height: int, width: int) -> Tensor:
    """A vector for each place of a grid: half of it tells the column, the other half the row.

    table[y · width + x] = [clocks(x), clocks(y)]

    Args:
        dim: length of each vector, a multiple of 4.
        height, width: of the grid, in patches.

    Returns:
        (height · width, dim) float32 in [-1, 1], places row by row.

    Raises:
        ValueError: dim is no multiple of 4, or the grid is empty.

    Source: Peebles and Xie 2022, arXiv:2212.09748, section 3.2; He et al. 2021, arXiv:2111.06377,
        appendix A.1 (the column first, as in their code and in diffusers).
    """
    if dim % 4 or min(dim, height, width) < 1:
        raise ValueError(
            f"dim must be a multiple of 4 (sines and cosines of two numbers) and the grid not "
            f"empty, got dim {dim} and {height} × {width}"
        )
    x = torch.arange(width).repeat(height)  # 0 1 2 0 1 2
    y = torch.arange(height).repeat_interleave(width)  # 0 0 0 1 1 1
    return torch.cat([clocks(x, dim // 2), clocks(y, dim // 2)], dim=-1)


def clocks(position: Tensor, dim: int) -> Tensor:
    """Lesson 2's clocks for whole numbers (N,) -> (N, dim), here with all the sines first.

    (Which half comes first is mere custom: lesson 2's and diffusers' time has the cosines first,
    `flip_sin_to_cos=True`; diffusers' positions have the sines first.)
    """
    cosines, sines = timestep_embedding(position, dim).chunk(2, dim=-1)
    return torch.cat([sines, cosines], dim=-1)


def check_patches(height: int, width: int, patch_size: int) -> None:
    """Say so where a picture does not fall into whole patches."""
    if patch_size < 1 or height % patch_size or width % patch_size or not height * width:
        raise ValueError(
            f"a picture of {height} × {width} pixels does not fall into whole patches of "
            f"{patch_size} × {patch_size}"
        )
