"""Schedules and the DDPM sampler against diffusers and against a closed form."""

import pytest
import torch
from diffusers import DDPMScheduler

from t2i.diffusion import ddpm_step, predict_x_0, sample_ddpm
from t2i.schedules import (
    add_noise,
    alphas_cumprod,
    cosine_betas,
    gather,
    linear_betas,
    rescale_zero_terminal_snr,
)

X, T = torch.zeros(2, 1, 3, 3), torch.tensor([5, 9])


@pytest.mark.parametrize("steps", [10, 250, 1000])
@pytest.mark.parametrize(
    "ours, theirs", [(linear_betas, "linear"), (cosine_betas, "squaredcos_cap_v2")]
)
def test_schedules_equal_diffusers(steps, ours, theirs):
    scheduler = DDPMScheduler(num_train_timesteps=steps, beta_schedule=theirs)
    torch.testing.assert_close(ours(steps), scheduler.betas, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        alphas_cumprod(ours(steps)), scheduler.alphas_cumprod, rtol=1e-4, atol=1e-7
    )


def test_zero_terminal_snr_equals_diffusers():
    theirs = DDPMScheduler(beta_schedule="linear", rescale_betas_zero_snr=True)
    ours = rescale_zero_terminal_snr(linear_betas())
    assert ours[-1] == 1
    torch.testing.assert_close(ours, theirs.betas, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("must be at least 1", lambda: linear_betas(0)),
        ("must be at least 1", lambda: cosine_betas(0)),
        ("betas must grow", lambda: linear_betas(3, 5, -2)),
        ("betas must grow", lambda: linear_betas(3, 0.02, 1e-4)),
        ("must be at least 2", lambda: rescale_zero_terminal_snr(linear_betas(1))),
        ("must be above 0", lambda: rescale_zero_terminal_snr(torch.zeros(5))),
        ("s must be 0 or more", lambda: cosine_betas(10, s=-0.5)),
        ("t must be whole numbers", lambda: add_noise(X, X, 3, linear_betas(5))),
        ("t must be whole numbers", lambda: add_noise(X, X, T.float(), linear_betas(5))),
        ("too coarse", lambda: add_noise(X, X, T, linear_betas(5).half())),
        (
            "must be above 0, also at its end",
            lambda: sample_ddpm(None, X, torch.tensor([0.5, 0.0])),
        ),
        ("noise .* x_t's shape", lambda: ddpm_step(X, X, T, X[:1], alphas_cumprod(cosine_betas()))),
    ],
)
def test_bad_input_is_named(match, call):
    with pytest.raises(ValueError, match=match):
        call()


def test_add_noise_equals_diffusers():
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    x_0, noise = torch.randn(3, 2, 5, 4), torch.randn(3, 2, 5, 4)
    t = torch.tensor([0, 431, 999])
    torch.testing.assert_close(
        add_noise(x_0, noise, t, scheduler.alphas_cumprod),
        scheduler.add_noise(x_0, noise, t),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("clip_sample", [True, False])
@pytest.mark.parametrize("t", [0, 1, 250, 998])
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_ddpm_step_equals_diffusers(t, schedule, clip_sample):
    scheduler = DDPMScheduler(beta_schedule=schedule, clip_sample=clip_sample)
    scheduler.set_timesteps(1000)
    x_t, noise_pred = torch.randn(3, 1, 6, 4), torch.randn(3, 1, 6, 4)
    noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)  # the noise that diffusers draws is ours
    expected = scheduler.step(noise_pred, t, x_t, generator=generator).prev_sample
    actual = ddpm_step(
        x_t, noise_pred, torch.full((3,), t), noise, scheduler.alphas_cumprod, clip_sample
    )
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)
    if t > 0:
        other = ddpm_step(
            x_t, noise_pred, torch.full((3,), t), -noise, scheduler.alphas_cumprod, clip_sample
        )
        assert not torch.allclose(other, expected, atol=1e-4), "the noise must matter here"


def gaussian_model(mean: float, std: float, ac: torch.Tensor):
    """The exact noise prediction when every pixel of the data is N(mean, std²)."""

    def model(x_t, t):
        alpha_bar = gather(ac, t, x_t)
        variance = alpha_bar * std**2 + 1 - alpha_bar
        return (1 - alpha_bar).sqrt() * (x_t - alpha_bar.sqrt() * mean) / variance

    return model


def closed_form(mean: float, std: float, ac: torch.Tensor) -> tuple[float, float]:
    """Mean and spread that the chain ends with: each step is x_prev = a·x + b + c·noise."""
    ac = ac.double()
    m, variance = 0.0, 1.0
    for step in reversed(range(len(ac))):
        bar, prev = float(ac[step]), float(ac[step - 1]) if step else 1.0
        alpha, total = bar / prev, bar * std**2 + 1 - bar
        to_x_0 = prev**0.5 * (1 - alpha) / (1 - bar)
        to_x_t = alpha**0.5 * (1 - prev) / (1 - bar)
        gain = bar**0.5 * std**2 / total  # the best guess of x_0 is gain · x_t + offset
        offset = mean * (1 - bar) / total
        a, b = to_x_0 * gain + to_x_t, to_x_0 * offset
        c = (1 - alpha) * (1 - prev) / (1 - bar)
        m, variance = a * m + b, a * a * variance + c
    return m, variance**0.5


@pytest.mark.parametrize("betas", [cosine_betas(100), linear_betas(100, 1e-3, 0.2)])
def test_sampler_ends_where_the_closed_form_does(betas):
    ac = alphas_cumprod(betas)
    mean, std = 0.4, 0.25
    x_T = torch.randn(200, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    samples = sample_ddpm(
        gaussian_model(mean, std, ac), x_T, ac, torch.Generator().manual_seed(1), clip_sample=False
    )
    expected_mean, expected_std = closed_form(mean, std, ac)
    assert abs(expected_mean - mean) < 0.02 and abs(expected_std - std) < 0.05
    count = samples.numel()
    assert abs(samples.mean().item() - expected_mean) < 5 * expected_std / count**0.5
    assert abs(samples.std().item() - expected_std) < 5 * expected_std / (2 * count) ** 0.5


def test_true_noise_gives_the_clean_picture_back():
    ac = alphas_cumprod(cosine_betas())
    x_0, noise, t = torch.randn(3, 1, 5, 4), torch.randn(3, 1, 5, 4), torch.tensor([0, 300, 900])
    found = predict_x_0(add_noise(x_0, noise, t, ac), noise, t, ac)
    torch.testing.assert_close(found, x_0, rtol=1e-4, atol=1e-4)
