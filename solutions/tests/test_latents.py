"""The posterior, its divergence and the scale of latents, beside torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as torch_kl

from t2i.latents import (
    BlockMeans,
    LatentSpace,
    Posterior,
    kl_divergence,
    latent_scaling_factor,
    reparameterize,
    seeded_latents,
    vae_loss,
)
from t2i.vae import AutoencoderKL

SHAPES = [(1, 4, 2, 2), (3, 2, 5, 3), (7, 6)]


def gaussian(mean, logvar):
    return Independent(Normal(mean, (logvar / 2).exp()), mean.ndim - 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_kl_equals_torch(shape, dtype):
    mean, logvar = torch.randn(shape, dtype=dtype), 2 * torch.randn(shape, dtype=dtype)
    standard = gaussian(torch.zeros_like(mean), torch.zeros_like(mean))
    expected = torch_kl(gaussian(mean, logvar), standard)
    torch.testing.assert_close(kl_divergence(mean, logvar), expected)


def test_kl_is_zero_for_the_standard_gaussian_and_positive_else():
    zeros = torch.zeros(3, 4, 2, 2)
    assert not kl_divergence(zeros, zeros).any()
    assert (kl_divergence(0.1 * torch.randn_like(zeros), zeros) > 0).all()
    assert (kl_divergence(zeros, 0.1 * torch.randn_like(zeros)) > 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_are_torchs_and_carry_gradients(shape):
    mean, logvar = torch.randn(shape), torch.randn(shape)
    noise = torch.randn(shape)
    expected = Normal(mean, (logvar / 2).exp())
    z = reparameterize(mean.requires_grad_(), logvar.requires_grad_(), noise)
    torch.testing.assert_close(z, expected.loc + expected.scale * noise)
    z.sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones(shape))
    torch.testing.assert_close(logvar.grad, 0.5 * (logvar / 2).exp().detach() * noise)


def test_many_samples_have_the_mean_and_variance():
    mean, logvar = torch.tensor([[1.5, -2.0]]), torch.tensor([[-1.0, 1.0]])
    noise = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    z = reparameterize(mean.expand_as(noise), logvar.expand_as(noise), noise)
    torch.testing.assert_close(z.mean(0), mean[0], rtol=0, atol=0.02)
    torch.testing.assert_close(z.var(0).log(), logvar[0], rtol=0, atol=0.02)


def test_loss_is_both_sums_over_the_pictures_numbers():
    x_0, back = torch.randn(3, 3, 4, 6), torch.randn(3, 3, 4, 6)
    mean, logvar = torch.randn(3, 4, 2, 3), torch.randn(3, 4, 2, 3)
    expected = (x_0 - back).square().mean() + 0.5 * kl_divergence(mean, logvar).mean() / 72
    torch.testing.assert_close(vae_loss(x_0, back, mean, logvar, 0.5), expected)
    alone = vae_loss(x_0, back, mean, logvar, 0.0)
    torch.testing.assert_close(alone, torch.nn.functional.mse_loss(back, x_0))


def test_the_best_price_for_one_gaussian_is_known():
    """With |x - z| ~ distance and KL, the optimum of the variance alone is at logvar = 0."""
    logvar = torch.zeros(1, 1, requires_grad=True)
    kl_divergence(torch.zeros(1, 1), logvar).sum().backward()
    assert logvar.grad.item() == 0


@pytest.mark.parametrize("spread", [0.02, 1.0, 7.5])
def test_scaled_latents_have_variance_one(spread):
    latents = 3 + spread * torch.randn(50, 4, 3, 5)
    factor = latent_scaling_factor(latents)
    assert factor.ndim == 0
    assert (factor * latents).var().item() == pytest.approx(1, rel=1e-4)
    assert latent_scaling_factor(5 * latents).item() == pytest.approx(factor.item() / 5)


def test_latent_space_there_and_back():
    vae = AutoencoderKL(block_channels=(8, 8), layers_per_block=1, norm_groups=4)
    space, x_0 = LatentSpace(vae, 0.25), torch.randn(3, 3, 4, 6)
    posterior = vae.encode(x_0)
    noise = torch.randn_like(posterior.mean)
    torch.testing.assert_close(space.encode(x_0), 0.25 * posterior.mean)
    torch.testing.assert_close(space.encode(x_0, noise), 0.25 * posterior.sample(noise))
    torch.testing.assert_close(space.decode(space.encode(x_0)), vae(x_0))
    torch.testing.assert_close(space.decode(space.encode(x_0, noise)), vae(x_0, noise))
    assert not any(p.requires_grad for p in space.parameters()) and not vae.training
    assert "scaling_factor" in space.state_dict()


def test_block_means_are_an_autoencoder():
    means, x_0 = BlockMeans(2, logvar=0.0), torch.rand(3, 1, 4, 6)
    posterior = means.encode(x_0)
    torch.testing.assert_close(posterior.mean[0, 0, 1, 2], x_0[0, 0, 2:, 4:].mean())
    assert not posterior.logvar.any()
    back = means.decode(posterior.mean)
    assert back.shape == x_0.shape
    torch.testing.assert_close(means.encode(back).mean, posterior.mean)


def test_moments_are_means_then_logvars_within_bounds():
    moments = torch.cat([torch.ones(2, 3, 2, 2), torch.full((2, 3, 2, 2), 99.0)], dim=1)
    posterior = Posterior.of(moments)
    assert (posterior.mean == 1).all() and (posterior.logvar == 20).all()
    assert (Posterior.of(-moments).logvar == -30).all()
    assert posterior.std.max().item() == pytest.approx(math.exp(10), rel=1e-5)


def test_bad_input_is_named():
    a, b = torch.zeros(2, 4), torch.zeros(2, 3)
    with pytest.raises(ValueError, match="logvar"):
        kl_divergence(a, b)
    with pytest.raises(ValueError, match="noise"):
        reparameterize(a, a, b)
    with pytest.raises(ValueError, match="reconstruction"):
        vae_loss(a, b, a, a)
    with pytest.raises(ValueError, match="kl_weight"):
        vae_loss(a, a, a, a, -1.0)
    with pytest.raises(ValueError, match="batch"):
        vae_loss(a, a, a[:1], a[:1])
    with pytest.raises(ValueError, match="alike"):
        latent_scaling_factor(a)
    with pytest.raises(ValueError, match="finite"):
        latent_scaling_factor(torch.tensor([1.0, math.nan]))
    with pytest.raises(ValueError, match="above 0"):
        LatentSpace(torch.nn.Identity(), 0.0)


def test_a_seeded_draw_is_the_scaled_draw_with_that_noise():
    space, x_0 = LatentSpace(BlockMeans(4, logvar=-1.0), 0.3), torch.rand(2, 3, 8, 12)
    noise = torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(seeded_latents(space, x_0, seed=5), space.encode(x_0, noise))
