"""The UNet of lesson 2 with words: UNet2DConditionModel's architecture in small.

    denoiser = SceneDenoiser(vocabulary_size=80)
    noise_pred = denoiser(x_t, t, tokens, mask)       # tokens, mask from caption_reading.encode

`TextUNet` is lesson 2's UNet with a SpatialTransformer where it had self-attention. `WordEncoder`
turns words into vectors, in the simplest way there is; lesson 7 brings a better one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.engine.recorded import values_at_hand
from t2i.folded_unet import FoldedUNet
from t2i.transformer import SpatialTransformer
from t2i.unet import UNet
from t2i.unet_blocks import timestep_embedding

# A UNet that two CPU cores train in minutes: 16×16 folded pixels, then 8×8.
SMALL = {
    "block_channels": (64, 96),
    "layers_per_block": 1,
    "attention_levels": (True, True),
    "head_channels": 32,
    "norm_groups": 16,
}


def look(
    attention: nn.Module, h: Tensor, context: Tensor, context_mask: Tensor | None = None
) -> Tensor:
    """A SpatialTransformer reads the words; where a level has no attention, h passes as it is."""
    return h if isinstance(attention, nn.Identity) else attention(h, context, context_mask)


def check_inputs(x_t: Tensor, t: Tensor, context: Tensor, cond: Tensor | None = None) -> None:
    """Say which argument of TextUNet.forward does not fit."""
    if x_t.ndim != 4 or t.shape != x_t.shape[:1]:
        raise ValueError(
            f"x_t must be (B, C, H, W) and t (B,), got {tuple(x_t.shape)} and {tuple(t.shape)}"
        )
    given = {"x_t": x_t, "t": t, "context": context}
    if cond is not None:
        given["cond"] = cond
        if len(cond) != len(x_t):
            raise ValueError(
                f"cond must be (B, ...) like x_t's {len(x_t)}, got {tuple(cond.shape)}"
            )
    for name, tensor in given.items():
        if values_at_hand(tensor) and not tensor.isfinite().all():
            raise ValueError(f"{name} must be finite, it contains NaN or infinity")


class TextUNet(UNet):
    """The UNet of lesson 2, whose attentions look at the picture and then at the words.

    The two changes that matter are marked `new`.

    Args:
        in_channels, out_channels: channels of the noisy picture and of the prediction.
        context_dim: length of a word's vector.
        depth: transformer blocks in each SpatialTransformer.
        num_heads: heads of every attention, as in Stable Diffusion, which has 8 of them at every
            width; None: one for each head_channels channels.
        head_channels, norm_groups, **unet: as in UNet.

    Source: Rombach et al. 2021, arXiv:2112.10752, section 3.3.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        context_dim: int = 64,
        depth: int = 1,
        head_channels: int = 32,
        norm_groups: int = 32,
        num_heads: int | None = None,
        **unet,
    ):
        head_channels = 1 if num_heads else head_channels  # num_heads alone decides
        super().__init__(
            in_channels, out_channels, head_channels=head_channels, norm_groups=norm_groups, **unet
        )
        self.context_dim = context_dim
        # new: a SpatialTransformer in the place of each self-attention
        for stage in (*self.down, self.mid, *self.up):
            for i, layer in enumerate(stage.attentions):
                if isinstance(layer, nn.Identity):
                    continue
                channels = stage.blocks[i].conv2.out_channels
                heads = num_heads or channels // head_channels
                if channels % heads:
                    raise ValueError(f"num_heads {heads} must divide a level's {channels} channels")
                stage.attentions[i] = SpatialTransformer(
                    channels, heads, channels // heads, context_dim, depth, norm_groups
                )

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        context: Tensor,  # new
        context_mask: Tensor | None = None,  # new
        cond: Tensor | None = None,
    ) -> Tensor:
        """Noisy pictures, their steps and their words in, one prediction a pixel out.

        Args:
            x_t: (B, in_channels, H, W); H and W divisible by 2^(resolutions - 1).
            t: (B,) steps.
            context: (B, L, context_dim), the words.
            context_mask: (B, L) bool, True = look at this word; None: at all of them.
            cond: (B, 4 · block_channels[0]), added to the time vector; None adds nothing.

        Returns:
            (B, out_channels, H, W), in x_t's dtype.

        Raises:
            ValueError: t, context or cond do not fit x_t, or something is NaN.
        """
        check_inputs(x_t, t, context, cond)
        emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
        if cond is not None:
            emb = emb + cond
        h = self.conv_in(x_t)
        skips = [h]
        for stage in self.down:
            for block, attention in zip(stage.blocks, stage.attentions, strict=True):
                h = look(attention, block(h, emb), context, context_mask)  # new
                skips.append(h)
            if stage.resize is not None:
                h = stage.resize(h)
                skips.append(h)
        for block, attention in zip(self.mid.blocks, self.mid.attentions, strict=True):
            h = look(attention, block(h, emb), context, context_mask)  # new
        for stage in self.up:
            for block, attention in zip(stage.blocks, stage.attentions, strict=True):
                h = block(torch.cat([h, skips.pop()], dim=1), emb)
                h = look(attention, h, context, context_mask)  # new
            if stage.resize is not None:
                h = stage.resize(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class WordEncoder(nn.Module):
    """A vector for each word: one that belongs to the word, plus one that belongs to its place.

    Args:
        vocabulary_size: how many words there are, padding (token 0) included.
        dim: length of a vector.
        max_length: words that a caption has at most.
    """

    def __init__(self, vocabulary_size: int, dim: int, max_length: int):
        super().__init__()
        self.words = nn.Embedding(vocabulary_size, dim)
        self.places = nn.Parameter(0.1 * torch.randn(max_length, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) int64 -> (B, L, dim).

        Raises:
            ValueError: tokens of another shape or dtype, too many of them, or unknown ones.
        """
        most, size = len(self.places), self.words.num_embeddings
        if tokens.ndim != 2 or tokens.dtype != torch.int64 or not 1 <= tokens.shape[1] <= most:
            raise ValueError(
                f"tokens must be (B, L) int64 with L from 1 to {most}, got {tuple(tokens.shape)} "
                f"{tokens.dtype}"
            )
        known = len(tokens) and values_at_hand(tokens)
        if known and (tokens.min() < 0 or tokens.max() >= size):
            raise ValueError(
                f"tokens must lie in 0..{size - 1} (the vocabulary), "
                f"got {tokens.min().item()}..{tokens.max().item()}"
            )
        return self.words(tokens) + self.places[: tokens.shape[1]]


class SceneDenoiser(nn.Module):
    """Words and a noisy picture in, the noise out: what lesson 6 trains.

    The words steer in two ways: each place of the picture looks at them (cross-attention), and
    their mean is added to the time vector, which says to every block roughly what is wanted.
    A caption is taken away by masking all its words.

    Args:
        vocabulary_size: words, padding (token 0) included.
        context_dim: length of a word's vector.
        max_length: words that a caption has at most.
        channels, fold: of the picture, as in FoldedUNet.
        kind: the class of the network inside.
        **unet: further arguments of TextUNet, as in `SMALL`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        context_dim: int = 64,
        max_length: int = 32,
        channels: int = 3,
        fold: int = 2,
        kind: type[UNet] = TextUNet,
        **unet,
    ):
        super().__init__()
        unet = SMALL | unet
        self.words = WordEncoder(vocabulary_size, context_dim, max_length)
        self.to_cond = nn.Linear(context_dim, 4 * unet["block_channels"][0])
        self.denoiser = FoldedUNet(channels, fold, kind, context_dim=context_dim, **unet)

    @property
    def alphas_cumprod(self) -> Tensor:
        """(T,): the schedule that the denoiser was built for."""
        return self.denoiser.alphas_cumprod

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """What is noise in pictures that these words describe.

        Args:
            x_t: (B, channels, H, W).
            t: (B,) steps.
            tokens: (B, L) int64, 0 where there is no word.
            mask: (B, L) bool, True = a word; all False: no caption.

        Returns:
            noise_pred: (B, channels, H, W).
        """
        context = self.words(tokens)
        if mask.shape != tokens.shape or mask.dtype != torch.bool:
            raise ValueError(
                f"mask must be {tuple(tokens.shape)} bool like tokens (True = a word), "
                f"got {tuple(mask.shape)} {mask.dtype}"
            )
        cond = self.to_cond(mean_word(context, mask))
        return self.denoiser(x_t, t, context, mask, cond)


def mean_word(context: Tensor, mask: Tensor) -> Tensor:
    """The mean of the words that count: (B, L, D) and (B, L) bool -> (B, D); 0 without words."""
    kept = context * mask[..., None]
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
