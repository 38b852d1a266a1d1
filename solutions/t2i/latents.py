"""Lesson 8. Latents: codes with a spread, what they cost, and the scale that diffusion wants.

posterior = vae.encode(x_0)                        # a Gaussian for every latent value
z = posterior.sample(torch.randn_like(posterior.mean))
loss = vae_loss(x_0, vae.decode(z), posterior.mean, posterior.logvar, kl_weight=1e-6)

space = LatentSpace(vae, latent_scaling_factor(z)) # the room in which diffusion works
z_0 = space.encode(x_0, noise)                     # variance about 1
x_0 = space.decode(z_0)
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOGVAR_RANGE = (-30.0, 20.0)  # diffusers' too: exp of it is neither 0 nor infinite in float32


def reparameterize(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """Draw from a Gaussian so that gradients still reach its mean and its spread.

    The noise, stretched to the Gaussian's standard deviation, is added to its mean.

    Args:
        mean: (B, ...) of the Gaussians.
        logvar: (B, ...) logarithm of their variance.
        noise: (B, ...) standard Gaussian.

    Returns:
        z: (B, ...), of mean's dtype.

    Raises:
        ValueError: the three shapes differ.

    Source: Kingma and Welling 2013, arXiv:1312.6114, section 2.4.
    """
    _same_shape(mean, logvar=logvar, noise=noise)
    return mean + torch.exp(0.5 * logvar) * noise


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """How far each picture's Gaussian is from the standard Gaussian, in nats.

    KL = ½ · Σ (mean² + variance - 1 - log variance)

    Args:
        mean: (B, ...) of the Gaussians.
        logvar: (B, ...) logarithm of their variance.

    Returns:
        (B,), 0 or more; 0 only where mean is 0 and variance 1 everywhere.

    Raises:
        ValueError: the two shapes differ.

    Source: Kingma and Welling 2013, arXiv:1312.6114, appendix B.
    """
    _same_shape(mean, logvar=logvar)
    terms = mean**2 + logvar.exp() - 1 - logvar
    return 0.5 * terms.flatten(1).sum(dim=1)


def vae_loss(
    x_0: Tensor, reconstruction: Tensor, mean: Tensor, logvar: Tensor, kl_weight: float = 1e-6
) -> Tensor:
    """What a VAE pays: for each colour that it gets wrong, and for each nat that it writes down.

    loss = mean over pictures of (Σ (x_0 - reconstruction)² + kl_weight · KL) / (C · H · W)

    Both sums are divided by the same number, so the weight means the same at every picture size.
    It is 2s² for a decoder that expects to miss each colour by about s.

    Args:
        x_0: (B, C, H, W) pictures in [-1, 1].
        reconstruction: (B, C, H, W) what came back.
        mean, logvar: (B, c, h, w) of the posterior.
        kl_weight: price of a nat, 0 or more.

    Returns:
        a scalar.

    Raises:
        ValueError: the shapes do not fit, or kl_weight is negative.

    Source: Kingma and Welling 2013, arXiv:1312.6114, equation 10; Rombach et al. 2021,
        arXiv:2112.10752, appendix G, add an adversarial loss, and their code a perceptual one.
    """
    _same_shape(x_0, reconstruction=reconstruction)
    if kl_weight < 0:
        raise ValueError(f"kl_weight must be 0 or more, got {kl_weight}")
    if len(mean) != len(x_0):
        raise ValueError(f"mean must have x_0's batch size {len(x_0)}, got {len(mean)}")
    wrong = (x_0 - reconstruction).square().flatten(1).sum(dim=1)  # (B,)
    each = wrong + kl_weight * kl_divergence(mean, logvar)
    return each.mean() / x_0[0].numel()


def latent_scaling_factor(latents: Tensor) -> Tensor:
    """The number to multiply latents by so that they spread like standard Gaussian noise.

    All values together, of all pictures, channels and places, then have standard deviation 1.

    Args:
        latents: (B, c, h, w) sampled latents of many pictures.

    Returns:
        a scalar.

    Raises:
        ValueError: fewer than two values, NaN or infinity among them, or all of them alike.

    Source: Rombach et al. 2021, arXiv:2112.10752, appendices D.1 and G. Stable Diffusion 1.5 has
        0.18215.
    """
    if latents.numel() < 2 or not latents.isfinite().all():
        raise ValueError(f"latents must be finite numbers, two or more, got {tuple(latents.shape)}")
    spread = latents.std()
    if not spread > 0:
        raise ValueError("latents are all alike, no factor can give them variance 1")
    return 1 / spread


@dataclass
class Posterior:
    """What an encoder says of each latent value: not a number, but a Gaussian.

    Args:
        mean: (B, c, h, w).
        logvar: (B, c, h, w) logarithm of the variance.
    """

    mean: Tensor
    logvar: Tensor

    @classmethod
    def of(cls, moments: Tensor) -> "Posterior":
        """From an encoder's output (B, 2c, h, w): first the means, then the log-variances."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(*LOGVAR_RANGE))

    @property
    def std(self) -> Tensor:
        """(B, c, h, w) the standard deviations."""
        return torch.exp(0.5 * self.logvar)

    def sample(self, noise: Tensor) -> Tensor:
        """A latent drawn with this noise, (B, c, h, w)."""
        return reparameterize(self.mean, self.logvar, noise)

    def mode(self) -> Tensor:
        """The likeliest latent: the mean."""
        return self.mean

    def kl(self) -> Tensor:
        """(B,) divergence from the standard Gaussian, in nats."""
        return kl_divergence(self.mean, self.logvar)


class BlockMeans(nn.Module):
    """An autoencoder without a single weight: a latent is the mean colour of f × f pixels.

    Args:
        compression: f, the side of a block.
        logvar: log-variance of every latent value.
    """

    def __init__(self, compression: int, logvar: float = -6.0):
        super().__init__()
        self.compression, self.logvar = compression, logvar

    def encode(self, x_0: Tensor) -> Posterior:
        """(B, C, H, W) -> a Gaussian round each block's mean, (B, C, H/f, W/f)."""
        mean = F.avg_pool2d(x_0, self.compression)
        return Posterior(mean, torch.full_like(mean, self.logvar))

    def decode(self, z: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, f · h, f · w), every block in one colour."""
        return F.interpolate(z, scale_factor=self.compression, mode="nearest")


class LatentSpace(nn.Module):
    """The room in which latent diffusion works: a VAE's latents at the scale of the noise.

    z_0 = scaling_factor · sample of the posterior;  x_0 = vae.decode(z_0 / scaling_factor)

    Args:
        vae: has encode(x_0) -> Posterior and decode(z); it is frozen here.
        scaling_factor: as latent_scaling_factor gives it.

    Source: Rombach et al. 2021, arXiv:2112.10752, section 3.
    """

    def __init__(self, vae: nn.Module, scaling_factor: Tensor | float):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        factor = torch.as_tensor(scaling_factor, dtype=torch.float32)
        if factor.ndim or not factor > 0 or not factor.isfinite():
            raise ValueError(f"scaling_factor must be one number above 0, got {scaling_factor}")
        self.register_buffer("scaling_factor", factor)

    def encode(self, x_0: Tensor, noise: Tensor | None = None) -> Tensor:
        """Pictures in, scaled latents out.

        Args:
            x_0: (B, C, H, W) in [-1, 1].
            noise: (B, c, h, w) standard Gaussian; None takes the likeliest latents.

        Returns:
            z_0: (B, c, h, w), of variance about 1.
        """
        posterior = self.vae.encode(x_0)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0: Tensor) -> Tensor:
        """Scaled latents (B, c, h, w) in, pictures (B, C, H, W) out."""
        return self.vae.decode(z_0 / self.scaling_factor)


def seeded_latents(space: LatentSpace, x_0: Tensor, seed: int) -> Tensor:
    """Pictures (B, C, H, W) in, a draw of their scaled latents out, the same on every device."""
    posterior = space.vae.encode(x_0)
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(seed))
    return space.scaling_factor * posterior.sample(noise.to(x_0.device))


def _same_shape(first: Tensor, **others: Tensor) -> None:
    for name, tensor in others.items():
        if tensor.shape != first.shape:
            raise ValueError(
                f"{name} must have shape {tuple(first.shape)}, got {tuple(tensor.shape)}"
            )
