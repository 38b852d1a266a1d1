"""Lesson 2. The denoiser: a UNet that looks at a noisy picture and says which noise is in it.

Same layers and numbers as diffusers' UNet2DModel; the names are the lesson's own. Its parts are in
`unet_blocks`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.unet_blocks import Downsample, ResBlock, SelfAttention2d, Upsample, timestep_embedding


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

        Raises:
            ValueError: x_t or t has another shape.
        """
        _check_input(x_t, t, 2 ** (len(self.down) - 1))
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


def _check_input(x_t: Tensor, t: Tensor, side: int) -> None:
    if x_t.ndim != 4 or x_t.shape[-2] % side or x_t.shape[-1] % side:
        raise ValueError(
            f"x_t must be (B, C, H, W) with H and W divisible by {side}, got {tuple(x_t.shape)}"
        )
    if t.shape != x_t.shape[:1]:
        raise ValueError(f"t must be one step a sample, ({len(x_t)},), got {tuple(t.shape)}")
