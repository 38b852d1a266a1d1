"""Lesson 8. The autoencoder: a picture becomes a small latent picture, and a picture again.

Same layers and numbers as diffusers' AutoencoderKL, the VAE of Stable Diffusion; the names are the
lesson's own. Its layers stand in `vae_layers`, what is done with the latents in `latents`.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from t2i.latents import Posterior
from t2i.unet_blocks import Upsample
from t2i.vae_layers import EPS, Level, Middle, PaddedDownsample


class Encoder(nn.Module):
    """A picture becomes the means and log-variances of a small latent picture.

    Args:
        in_channels: channels of the picture.
        latent_channels: channels of the latent picture; twice as many come out.
        block_channels: channels at each resolution, the finest first.
        layers_per_block: ConvBlocks a resolution.
        norm_groups: as in ConvBlock.

    Source: Rombach et al. 2021, arXiv:2112.10752, section 3.1; Esser et al. 2020,
        arXiv:2012.09841, appendix B (table 7).
    """

    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 4,
        block_channels: Sequence[int] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        norm_groups: int = 32,
    ):
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, block_channels[0], 3, padding=1)
        self.down = nn.ModuleList()
        channels = block_channels[0]
        for level, width in enumerate(block_channels):
            last = level == len(block_channels) - 1
            resize = None if last else PaddedDownsample(width)
            self.down.append(Level(channels, width, layers_per_block, resize, norm_groups))
            channels = width
        self.mid = Middle(channels, norm_groups)
        self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
        self.conv_out = nn.Conv2d(channels, 2 * latent_channels, 3, padding=1)

    def forward(self, x_0: Tensor) -> Tensor:
        """Pictures in, their latents' means and log-variances out, f = 2^(resolutions - 1) smaller.

        Args:
            x_0: (B, in_channels, H, W) in [-1, 1].

        Returns:
            (B, 2 · latent_channels, H/f, W/f).
        """
        h = self.conv_in(x_0)  # (B, block_channels[0], H, W)
        for level in self.down:
            h = level(h)
        h = self.mid(h)  # (B, block_channels[-1], H/f, W/f)
        return self.conv_out(F.silu(self.norm_out(h)))


class Decoder(nn.Module):
    """A latent picture becomes a picture: the encoder in a mirror.

    Args:
        out_channels: channels of the picture.
        latent_channels: channels of the latent picture.
        block_channels: channels at each resolution, the finest first, as in the encoder.
        layers_per_block: ConvBlocks a resolution in the encoder; here it is one more.
        norm_groups: as in ConvBlock.

    Source: Rombach et al. 2021, arXiv:2112.10752, section 3.1; Esser et al. 2020,
        arXiv:2012.09841, appendix B (table 7).
    """

    def __init__(
        self,
        out_channels: int = 3,
        latent_channels: int = 4,
        block_channels: Sequence[int] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        norm_groups: int = 32,
    ):
        super().__init__()
        widths = list(reversed(block_channels))
        self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        self.mid = Middle(widths[0], norm_groups)
        self.up = nn.ModuleList()
        channels = widths[0]
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            resize = None if last else Upsample(width)
            self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
            channels = width
        self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Latents in, pictures out.

        Args:
            z: (B, latent_channels, h, w).

        Returns:
            (B, out_channels, f · h, f · w), f = 2^(resolutions - 1).
        """
        h = self.mid(self.conv_in(z))  # (B, block_channels[-1], h, w)
        for level in self.up:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class AutoencoderKL(nn.Module):
    """A variational autoencoder: encode to a Gaussian for each latent value, decode one draw.

    Args:
        channels: of the picture.
        latent_channels, block_channels, layers_per_block, norm_groups: as in Encoder. The defaults
            are Stable Diffusion's.

    Source: Kingma and Welling 2013, arXiv:1312.6114; Rombach et al. 2021, arXiv:2112.10752.
    """

    def __init__(self, channels: int = 3, latent_channels: int = 4, **sizes):
        super().__init__()
        self.encoder = Encoder(channels, latent_channels, **sizes)
        self.decoder = Decoder(channels, latent_channels, **sizes)
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        self.compression = 2 ** (len(self.encoder.down) - 1)  # f: how much smaller latents are

    def encode(self, x_0: Tensor) -> Posterior:
        """Pictures in, a Gaussian for each latent value out.

        Args:
            x_0: (B, C, H, W) in [-1, 1]; H and W multiples of compression.

        Raises:
            ValueError: x_0 has another number of channels or another size.
        """
        channels, f = self.encoder.conv_in.in_channels, self.compression
        if x_0.ndim != 4 or x_0.shape[1] != channels or x_0.shape[2] % f or x_0.shape[3] % f:
            raise ValueError(
                f"x_0 must be (B, {channels}, H, W), H and W multiples of {f}, "
                f"got {tuple(x_0.shape)}"
            )
        return Posterior.of(self.quant_conv(self.encoder(x_0)))

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, latent_channels, h, w) in, pictures (B, C, f · h, f · w) out.

        Raises:
            ValueError: z has another number of channels.
        """
        channels = self.post_quant_conv.in_channels
        if z.ndim != 4 or z.shape[1] != channels:
            raise ValueError(f"z must be (B, {channels}, h, w), got {tuple(z.shape)}")
        return self.decoder(self.post_quant_conv(z))

    def forward(self, x_0: Tensor, noise: Tensor | None = None) -> Tensor:
        """There and back: with noise through a drawn latent, without it through the likeliest."""
        posterior = self.encode(x_0)
        return self.decode(posterior.mode() if noise is None else posterior.sample(noise))
