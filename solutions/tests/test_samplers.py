"""Lesson 4's samplers: diffusers' schedulers step by step, orders of convergence, bad input."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from t2i.diffusion import ddpm_step, sample_ddpm
from t2i.dpm_sde import sample_sde_dpmpp_2m, sde_dpmpp_2m_step
from t2i.dpm_solver import dpmpp_2m_step, half_log_snr, sample_dpmpp_2m
from t2i.drawing.show_samplers import slerp
from t2i.guidance import sample_guided
from t2i.mixture import Mixture
from t2i.samplers import (
    PREDICTION_TYPES,
    SPACINGS,
    convert_prediction,
    ddim_step,
    sample_ddim,
    spaced_timesteps,
)
from t2i.schedules import add_noise, alphas_cumprod, cosine_betas, gather, linear_betas

LINEAR, COSINE = alphas_cumprod(linear_betas()), alphas_cumprod(cosine_betas())
SHAPE = (3, 1, 5, 4)


def draw(seed: int, *shape: int, dtype=torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape or SHAPE, generator=generator, dtype=torch.float64).to(dtype)


def network(x: Tensor, t: Tensor) -> Tensor:
    """Some smooth function of picture and step, in place of a trained model."""
    phase = t.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1)) / 300
    return torch.sin(1.7 * x + phase) + 0.3 * x


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    """To 1e-5 of the largest value in sight (and of 1)."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=1e-5)


# --- conversions


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conversions_know_the_truth_and_go_round(dtype):
    ac, t = LINEAR.to(dtype), torch.tensor([0, 250, 600])
    x_0, noise = draw(0, dtype=dtype), draw(1, dtype=dtype)
    x_t, a = add_noise(x_0, noise, t, ac), gather(ac, t, x_0)
    truth = {
        "epsilon": noise,
        "sample": x_0,
        "v_prediction": a.sqrt() * noise - (1 - a) ** 0.5 * x_0,
    }
    for source, prediction in truth.items():
        for target, expected in truth.items():
            found = convert_prediction(prediction, x_t, t, ac, source, target)
            tolerance = 1e-9 if dtype == torch.float64 else 2e-4
            torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    v = draw(2, dtype=torch.float64)  # no truth in it: any prediction must survive the round trip
    x_t, ac = draw(3, dtype=torch.float64), LINEAR.double()
    noise = convert_prediction(v, x_t, t, ac, "v_prediction", "epsilon")
    x_0 = convert_prediction(noise, x_t, t, ac, "epsilon", "sample")
    torch.testing.assert_close(convert_prediction(x_0, x_t, t, ac, "sample", "v_prediction"), v)


def test_v_equals_diffusers_velocity():
    t = torch.tensor([3, 400, 950])
    x_0, noise = draw(0), draw(1)
    expected = DDIMScheduler().get_velocity(x_0, noise, t)
    x_t = add_noise(x_0, noise, t, LINEAR)
    assert_equal(convert_prediction(x_0, x_t, t, LINEAR, "sample", "v_prediction"), expected)


# --- spacings


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("total", [1000, 250, 37])
def test_spacing_equals_diffusers(spacing, total):
    scheduler = DDIMScheduler(num_train_timesteps=total, timestep_spacing=spacing)
    compared = 0
    for steps in range(1, total + 1, 1 + total // 100):
        exact = np.arange(steps) * (
            (total - 1) / max(1, steps - 1) if spacing == "linspace" else total / steps
        )
        ties = np.abs(exact % 1 - 0.5).min() < 1e-6  # there diffusers' rounding error decides
        ours = spaced_timesteps(total, steps, spacing)
        assert ours.dtype == torch.int64 and len(ours) == steps
        assert (ours[:-1] > ours[1:]).all() and ours[-1] >= 0 and ours[0] < total
        scheduler.set_timesteps(steps)
        if len(scheduler.timesteps) == steps and (spacing == "leading" or not ties):
            assert ours.tolist() == scheduler.timesteps.tolist()
            compared += 1
    assert compared > 15


@pytest.mark.parametrize("steps", [2, 5, 20, 50])
def test_spacing_of_diffusers_dpm_solver(steps):
    for spacing, ours in (
        ("trailing", spaced_timesteps(1000, steps)),
        ("linspace", spaced_timesteps(1000, steps + 1, "linspace")[:-1]),
        ("leading", spaced_timesteps(1000, steps + 1, "leading")[:-1]),
    ):
        scheduler = DPMSolverMultistepScheduler(timestep_spacing=spacing)
        scheduler.set_timesteps(steps)
        assert ours.tolist() == scheduler.timesteps.tolist()


def test_spacing_ends():
    assert spaced_timesteps(1000, 4, "leading").tolist() == [750, 500, 250, 0]
    assert spaced_timesteps(1000, 4, "trailing").tolist() == [999, 749, 499, 249]
    assert spaced_timesteps(1000, 4, "linspace").tolist() == [999, 666, 333, 0]
    for spacing in SPACINGS:
        assert spaced_timesteps(7, 7, spacing).tolist() == [6, 5, 4, 3, 2, 1, 0]


# --- DDIM


@pytest.mark.parametrize("steps", [1, 4, 20, 50])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_ddim_step_equals_diffusers(prediction_type, spacing, eta, steps):
    for clip in (True, False):
        scheduler = DDIMScheduler(
            prediction_type=prediction_type, timestep_spacing=spacing, clip_sample=clip
        )
        scheduler.set_timesteps(steps)
        scheduler.alphas_cumprod = ac = LINEAR.double()
        for i, step in enumerate(scheduler.timesteps.tolist()):
            x, noise = (1.5 * draw(k, dtype=torch.float64) for k in (i, 100 + i))
            t = torch.full((len(x),), step)
            t_prev = (t - 1000 // steps).clamp(min=-1)  # diffusers' rule, for every spacing
            prediction = network(x, t)
            expected = scheduler.step(
                prediction, step, x, eta, use_clipped_model_output=True, variance_noise=noise
            ).prev_sample
            noise_pred = convert_prediction(prediction, x, t, ac, prediction_type, "epsilon")
            actual = ddim_step(x, noise_pred, t, t_prev, ac, eta, noise, clip)
            assert_equal(actual, expected)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_sample_ddim_equals_diffusers(prediction_type, spacing):
    scheduler = DDIMScheduler(prediction_type=prediction_type, timestep_spacing=spacing)
    scheduler.set_timesteps(20)
    scheduler.alphas_cumprod = LINEAR.double()
    x_T = expected = draw(0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(4)
    for step in scheduler.timesteps:
        prediction = network(expected, step.expand(len(x_T)))
        expected = scheduler.step(
            prediction, step, expected, 0.7, use_clipped_model_output=True, generator=generator
        ).prev_sample
    actual = sample_ddim(
        network, x_T, LINEAR.double(), spaced_timesteps(1000, 20, spacing), 0.7,
        torch.Generator().manual_seed(4), prediction_type=prediction_type,
    )  # fmt: skip
    assert_equal(actual, expected)


@pytest.mark.parametrize("clip", [True, False])
def test_eta_1_is_ddpm(clip):
    ac = COSINE.double()
    x, noise_pred, noise = (draw(i, dtype=torch.float64) for i in range(3))
    for t in (torch.tensor([0, 1, 500]), torch.tensor([999, 2, 998])):
        expected = ddpm_step(x, noise_pred, t, noise, ac, clip)
        assert_equal(ddim_step(x, noise_pred, t, t - 1, ac, 1.0, noise, clip), expected)
    few = spaced_timesteps(1000, 8)  # and DDPM on the schedule of those 8 steps alone
    steps = few.flip(0)
    expected = sample_ddpm(
        lambda x, t: network(x, steps[t]), x, ac[steps], torch.Generator().manual_seed(1), clip
    )
    found = sample_ddim(network, x, ac, few, 1.0, torch.Generator().manual_seed(1), clip)
    assert_equal(found, expected)


def test_every_sample_has_its_own_steps_and_any_shape():
    x, noise_pred, last, noise = (draw(i, 4, 2) for i in range(4))
    t, t_prev = torch.tensor([0, 900, 300, 40]), torch.tensor([-1, -1, 299, 10])
    t_last = torch.tensor([10, 999, 700, 41])
    ddim = ddim_step(x, noise_pred, t, t_prev, LINEAR, 0.5, noise)
    dpm = dpmpp_2m_step(x, noise_pred, t, t_prev, LINEAR, last, t_last)
    sde = sde_dpmpp_2m_step(x, noise_pred, t, t_prev, LINEAR, noise, last, t_last)
    for i in range(4):
        one = [value[i : i + 1] for value in (x, noise_pred, t, t_prev)]
        assert_equal(ddim[i : i + 1], ddim_step(*one, LINEAR, 0.5, noise[i : i + 1]))
        memory = last[i : i + 1], t_last[i : i + 1]
        assert_equal(dpm[i : i + 1], dpmpp_2m_step(*one, LINEAR, *memory))
        fresh = noise[i : i + 1]
        assert_equal(sde[i : i + 1], sde_dpmpp_2m_step(*one, LINEAR, fresh, *memory))


def test_on_step_and_the_last_step_without_noise():
    seen = []
    few = torch.tensor([700, 300, 20])
    found = sample_ddim(network, draw(0), LINEAR, few, 1.0, on_step=lambda *call: seen.append(call))
    assert [call[0] for call in seen] == [700, 300, 20]
    assert torch.equal(seen[-1][1], found)
    x, t = seen[1][1], few[2:].expand(3)
    guess = convert_prediction(network(x, t), x, t, LINEAR, "epsilon", "sample")
    assert_equal(found, guess.clamp(-1, 1))


# --- DPM-Solver++(2M)


@pytest.mark.parametrize("steps", [2, 5, 14, 15, 30])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("clip", [True, False])
def test_dpmpp_2m_equals_diffusers(clip, prediction_type, spacing, steps):
    scheduler = DPMSolverMultistepScheduler(
        prediction_type=prediction_type, timestep_spacing=spacing, thresholding=clip
    )
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps.tolist()
    x, memory = draw(0), ()
    for step, step_prev in zip(timesteps, [*timesteps[1:], -1], strict=True):
        t, t_prev = torch.full((3,), step), torch.full((3,), step_prev)
        prediction = network(x, t)
        expected = scheduler.step(prediction, step, x).prev_sample
        x_0_pred = convert_prediction(prediction, x, t, LINEAR, prediction_type, "sample")
        x_0_pred = x_0_pred.clamp(-1, 1) if clip else x_0_pred
        actual = dpmpp_2m_step(x, x_0_pred, t, t_prev, LINEAR, *memory)
        assert_equal(actual, expected)
        x, memory = expected, (x_0_pred, t)
    whole = sample_dpmpp_2m(network, draw(0), LINEAR, scheduler.timesteps, clip, prediction_type)
    torch.testing.assert_close(whole, x, rtol=1e-3, atol=1e-3 * x.abs().max().item())


def test_first_order_is_ddim():
    t, t_prev = torch.tensor([900, 500, 30]), torch.tensor([400, 100, -1])
    x, x_0_pred = draw(0), draw(1)
    noise_pred = convert_prediction(x_0_pred, x, t, LINEAR, "sample", "epsilon")
    expected = ddim_step(x, noise_pred, t, t_prev, LINEAR, clip_sample=False)
    assert_equal(dpmpp_2m_step(x, x_0_pred, t, t_prev, LINEAR), expected)


def test_zero_terminal_snr():
    ac = torch.cat([COSINE[:-1], torch.zeros(1)])
    for sample in (sample_dpmpp_2m, sample_sde_dpmpp_2m):
        found = sample(
            network, draw(0), ac, spaced_timesteps(1000, 10), prediction_type="v_prediction"
        )
        assert torch.isfinite(found).all()
        with pytest.raises(ValueError, match="noise_pred says nothing of the picture"):
            sample(network, draw(0), ac, spaced_timesteps(1000, 10), clip_sample=True)
    for steps in (1, 4):
        few, v = spaced_timesteps(1000, steps), {"prediction_type": "v_prediction"}
        with pytest.raises(ValueError, match="alphas_cumprod must be above 0 at every t"):
            sample_ddim(network, draw(0), ac, few, **v)
        with pytest.raises(ValueError, match="alphas_cumprod must be above 0 at every t"):
            sample_guided(
                lambda x, t, _: network(x, t), draw(0), torch.zeros(3), 0, ac, few, 1.0, **v
            )


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("step", [0, 1, 5])
def test_the_first_steps_in_half_precision_are_those_of_float32(half, step):
    """There 1 - ᾱ is 0.0001 to 0.001, and bfloat16 has no number between 0.996 and 1."""
    x_0, noise, fresh = (draw(seed).to(half) for seed in range(3))
    t = torch.full((3,), step)
    x_t = add_noise(x_0, noise, t, LINEAR)
    steps = (
        lambda x, n, f: add_noise(x, n, t, LINEAR),
        lambda x, n, f: ddpm_step(x, n, t, f, LINEAR),
        lambda x, n, f: ddim_step(x, n, t, t - 1, LINEAR, 0.5, f),
        lambda x, n, f: dpmpp_2m_step(x, n, t, t - 1, LINEAR),
    )
    for jump in steps:
        found = jump(x_t.to(half), noise, fresh)
        expected = jump(x_t.to(half).float(), noise.float(), fresh.float())
        torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-5)


# --- SDE-DPM-Solver++(2M)


@pytest.mark.parametrize("steps", [2, 14, 15])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("clip", [True, False])
def test_sde_dpmpp_2m_equals_diffusers(clip, prediction_type, spacing, steps):
    scheduler = DPMSolverMultistepScheduler(
        algorithm_type="sde-dpmsolver++", prediction_type=prediction_type,
        timestep_spacing=spacing, thresholding=clip,
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps.tolist()
    x, memory, generator = draw(0), (), torch.Generator().manual_seed(7)
    for step, step_prev in zip(timesteps, [*timesteps[1:], -1], strict=True):
        t, t_prev = torch.full((3,), step), torch.full((3,), step_prev)
        prediction, noise = network(x, t), torch.randn(SHAPE, generator=generator)
        expected = scheduler.step(prediction, step, x, variance_noise=noise).prev_sample
        x_0_pred = convert_prediction(prediction, x, t, LINEAR, prediction_type, "sample")
        x_0_pred = x_0_pred.clamp(-1, 1) if clip else x_0_pred
        actual = sde_dpmpp_2m_step(x, x_0_pred, t, t_prev, LINEAR, noise, *memory)
        assert_equal(actual, expected)
        x, memory = expected, (x_0_pred, t)
    whole = sample_sde_dpmpp_2m(
        network, draw(0), LINEAR, scheduler.timesteps, clip, prediction_type,
        torch.Generator().manual_seed(7),
    )  # fmt: skip
    torch.testing.assert_close(whole, x, rtol=1e-3, atol=1e-3 * x.abs().max().item())


def test_without_memory_the_sde_step_is_ddpm():
    t, t_prev = torch.tensor([900, 500, 30]), torch.tensor([400, 499, -1])
    ac = COSINE.double()
    x, x_0_pred, noise, noisier = (draw(i, dtype=torch.float64) for i in range(4))
    noise_pred = convert_prediction(x_0_pred, x, t, ac, "sample", "epsilon")
    expected = ddim_step(x, noise_pred, t, t_prev, ac, 1.0, noise, clip_sample=False)
    assert_equal(sde_dpmpp_2m_step(x, x_0_pred, t, t_prev, ac, noise), expected)
    last = noisier, t + 50  # a memory changes it, but not the step to the clean end
    found = sde_dpmpp_2m_step(x, x_0_pred, t, t_prev, ac, noise, *last)
    assert (found - expected)[0].abs().max() > 0.1
    assert_equal(found[2], x_0_pred[2])


@pytest.mark.parametrize("t_last", [None, 700])
def test_the_sde_step_keeps_one_point_exactly(t_last):
    """Data that are one point: x_prev must have the mean and the spread of add_noise at t_prev."""
    point, n, ac = 0.6, 40_000, LINEAR.double()
    t, t_prev = torch.full((n,), 400), torch.full((n,), 150)
    x_0 = torch.full((n, 1), point, dtype=torch.float64)
    x_t = add_noise(x_0, draw(0, n, 1, dtype=torch.float64), t, ac)
    memory = () if t_last is None else (x_0, torch.full((n,), t_last))
    noise = draw(1, n, 1, dtype=torch.float64)
    x_prev = sde_dpmpp_2m_step(x_t, x_0, t, t_prev, ac, noise, *memory)
    a = ac[150].item()
    assert abs(x_prev.mean() - a**0.5 * point) < 4 * ((1 - a) / n) ** 0.5
    assert abs(x_prev.var() / (1 - a) - 1) < 4 * (2 / n) ** 0.5
    # and of the noise that was in x_t the share e^(-h) is still there: exactly, without any draw
    smooth = sde_dpmpp_2m_step(x_t, x_0, t, t_prev, ac, torch.zeros_like(x_t), *memory)
    left = (smooth - a**0.5 * x_0) / (x_t - ac[400].sqrt() * x_0)
    ratio = ((1 - a) / a) ** 0.5 / ((1 - ac[400]) / ac[400]) ** 0.5
    expected = ratio * ((1 - a) / (1 - ac[400])) ** 0.5
    torch.testing.assert_close(left, expected.expand(n, 1))


def test_sde_samples_of_gaussian_data_have_its_mean_and_spread():
    ac, mean, std = COSINE.double(), 0.4, 0.3
    few = spaced_timesteps(1000, 100)
    x_T, generator = draw(0, 4000, 1, dtype=torch.float64), torch.Generator().manual_seed(5)
    found = sample_sde_dpmpp_2m(gaussian(mean, std, ac), x_T, ac, few, False, generator=generator)
    assert abs(found.mean() - mean) < 0.03 and abs(found.std() - std) < 0.02
    assert abs(torch.corrcoef(torch.stack([x_T[:, 0], found[:, 0]]))[0, 1]) < 0.1  # forgotten


# --- Gaussian data, where the exact noise and the exact road are known


def gaussian(mean: float, std: float, ac: Tensor):
    def model(x: Tensor, t: Tensor) -> Tensor:
        a = gather(ac, t, x)
        return (1 - a).sqrt() * (x - a.sqrt() * mean) / (a * std**2 + 1 - a)

    return model


def road(x: Tensor, start: float, end: float, mean: float, std: float) -> Tensor:
    """Where the exact road without noise leads from x, between two values of ᾱ."""
    width_start, width_end = (math.sqrt(a * std**2 + 1 - a) for a in (start, end))
    return end**0.5 * mean + width_end / width_start * (x - start**0.5 * mean)


def slopes(errors: list[float], counts: list[int]) -> list[float]:
    """How fast the error falls as the steps grow, between neighbours: log over log."""
    pairs = zip(errors, errors[1:], counts, counts[1:], strict=False)
    return [math.log(e / after) / math.log(m / n) for e, after, n, m in pairs]


@pytest.mark.parametrize("ac", [LINEAR.double(), COSINE.double()], ids=["linear", "cosine"])
@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.5), (0.5, 0.25)])
def test_order_over_the_whole_road(ac, mean, std):
    x_T, counts = draw(0, 50, 3, dtype=torch.float64), [100, 200]
    exact = road(x_T, float(ac[-1]), 1.0, mean, std)
    for sample, order in ((sample_ddim, 1), (sample_dpmpp_2m, 2)):
        errors = []
        for count in counts:
            few = spaced_timesteps(1000, count, "linspace")
            found = sample(gaussian(mean, std, ac), x_T, ac, few, clip_sample=False)
            errors.append((found - exact).abs().mean().item())
        assert all(order - 0.1 < slope < order + 0.3 for slope in slopes(errors, counts)), errors


@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.5), (-0.4, 1.0), (0.5, 0.25)])
def test_order_away_from_the_ends(mean, std):
    """Between two steps far from both ends nothing but the step's own order counts."""
    ac = alphas_cumprod(cosine_betas(12_801).double())
    high, low, counts = 10_400, 2400, [40, 80, 160]
    model, x = gaussian(mean, std, ac), draw(0, 20, 3, dtype=torch.float64)
    exact = road(x, float(ac[high]), float(ac[low]), mean, std)
    for solver, order in (("ddim", 1), ("dpmpp_2m", 2)):
        errors = []
        for count in counts:
            steps = torch.arange(high, low - 1, -(high - low) // count)
            now, memory = x, ()
            for step, step_prev in zip(steps, steps[1:], strict=False):
                t, t_prev = step.expand(len(x)), step_prev.expand(len(x))
                noise_pred = model(now, t)
                if solver == "ddim":
                    now = ddim_step(now, noise_pred, t, t_prev, ac, clip_sample=False)
                    continue
                guess = convert_prediction(noise_pred, now, t, ac, "epsilon", "sample")
                now, memory = dpmpp_2m_step(now, guess, t, t_prev, ac, *memory), (guess, t)
            errors.append((now - exact).abs().mean().item())
        assert all(abs(slope - order) < 0.25 for slope in slopes(errors, counts)), (solver, errors)


def test_ddim_with_noise_keeps_the_spread_of_gaussian_data():
    ac, mean, std = COSINE, 0.4, 0.3
    for eta in (0.0, 0.5, 1.0):
        found = sample_ddim(
            gaussian(mean, std, ac), draw(0, 4000, 1), ac, spaced_timesteps(1000, 200), eta,
            torch.Generator().manual_seed(5), clip_sample=False,
        )  # fmt: skip
        assert abs(found.mean() - mean) < 0.03 and abs(found.std() - std) < 0.02


# --- the small helpers


def test_half_log_snr_equals_diffusers():
    scheduler = DPMSolverMultistepScheduler()
    torch.testing.assert_close(half_log_snr(LINEAR), scheduler.lambda_t, rtol=1e-4, atol=1e-4)
    assert half_log_snr(torch.ones(1)).isinf().all()


def test_slerp_keeps_the_length():
    start, end = draw(0, 1, 28, 28), draw(1, 1, 28, 28)
    way = slerp(start, end, torch.linspace(0, 1, 5))
    assert way.shape == (5, 1, 28, 28)
    assert_equal(way[0], start)
    assert_equal(way[-1], end)
    lengths = way.flatten(1).norm(dim=1)
    assert (lengths - start.norm()).abs().max() < (start.norm() - end.norm()).abs() + 0.2


def test_mixture_is_exact():
    """Against the average over many draws of the noise that is in points near one place."""
    clouds = Mixture(torch.tensor([[-1.0, 0.5], [0.8, -0.4]]), 0.3, LINEAR)
    generator = torch.Generator().manual_seed(0)
    x_0 = clouds.draw(400_000, generator)
    noise = torch.randn(x_0.shape, generator=generator)
    x_t = add_noise(x_0, noise, torch.full((len(x_0),), 350), LINEAR)
    place = torch.tensor([0.3, 0.1])
    near = (x_t - place).norm(dim=1) < 0.1
    found = clouds(place[None], torch.tensor([350]))[0]
    assert (noise[near].mean(0) - found).abs().max() < 0.05 and near.sum() > 1000


# --- bad input


X, T5, P5 = torch.zeros(2, 3), torch.tensor([5, 5]), torch.tensor([4, -1])
NAN, TYPES = torch.full((2, 3), math.nan), ("sample", "epsilon")


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("source must be one of", lambda: convert_prediction(X, X, T5, LINEAR, "eps", "sample")),
        ("target must be one of", lambda: convert_prediction(X, X, T5, LINEAR, "sample", "x")),
        ("prediction .* x_t's", lambda: convert_prediction(X[:1], X, T5, LINEAR, *TYPES)),
        ("prediction must be fin", lambda: convert_prediction(NAN, X, T5, LINEAR, *TYPES)),
        ("t must lie", lambda: convert_prediction(X, X, T5 + 995, LINEAR, *TYPES)),
        ("num_inference_steps", lambda: spaced_timesteps(10, 11)),
        ("num_inference_steps", lambda: spaced_timesteps(10, 0)),
        ("spacing must be one of", lambda: spaced_timesteps(10, 5, "even")),
        ("noise_pred .* x_t's", lambda: ddim_step(X, X[:, :2], T5, P5, LINEAR)),
        ("x_t must be finite", lambda: ddim_step(NAN, X, T5, P5, LINEAR)),
        ("t_prev must lie", lambda: ddim_step(X, X, T5, T5, LINEAR)),
        ("whole number in", lambda: spaced_timesteps(1000, 20.5)),
        ("t_prev must lie", lambda: ddim_step(X, X, T5, P5 - 1, LINEAR)),
        ("eta must lie", lambda: ddim_step(X, X, T5, P5, LINEAR, 1.5, X)),
        ("noise must be given", lambda: ddim_step(X, X, T5, P5, LINEAR, 0.5)),
        ("noise .* x_t's", lambda: ddim_step(X, X, T5, P5, LINEAR, 0.5, X[:1])),
        ("x_0_pred .* x_t's", lambda: dpmpp_2m_step(X, X[:1], T5, P5, LINEAR)),
        ("belong together", lambda: dpmpp_2m_step(X, X, T5, P5, LINEAR, X)),
        ("belong together", lambda: dpmpp_2m_step(X, X, T5, P5, LINEAR, None, T5 + 1)),
        ("t_last must lie", lambda: dpmpp_2m_step(X, X, T5, P5, LINEAR, X, T5)),
        ("noise .* x_t's", lambda: sde_dpmpp_2m_step(X, X, T5, P5, LINEAR, X[:1])),
        ("noise must be finite", lambda: sde_dpmpp_2m_step(X, X, T5, P5, LINEAR, NAN)),
        ("x_0_pred .* x_t's", lambda: sde_dpmpp_2m_step(X, X[:1], T5, P5, LINEAR, X)),
        ("belong together", lambda: sde_dpmpp_2m_step(X, X, T5, P5, LINEAR, X, X)),
        ("t_prev must lie", lambda: sde_dpmpp_2m_step(X, X, T5, T5, LINEAR, X)),
        ("strictly desc", lambda: sample_sde_dpmpp_2m(network, X, LINEAR, torch.tensor([3, 7]))),
        ("strictly desc", lambda: sample_ddim(network, X, LINEAR, torch.tensor([3, 3]))),
        ("strictly desc", lambda: sample_dpmpp_2m(network, X, LINEAR, torch.tensor([3, 7]))),
        ("timesteps must lie", lambda: sample_ddim(network, X, LINEAR, torch.tensor([1000, 7]))),
        ("whole numbers", lambda: sample_ddim(network, X, LINEAR, torch.tensor([3.0]))),
        ("source must be", lambda: sample_ddim(network, X, LINEAR, T5[:1], prediction_type="v")),
        ("same way", lambda: slerp(X + 1, X + 1, torch.ones(1))),
    ],
)  # fmt: skip
def test_bad_input_is_named(match, call):
    with pytest.raises(ValueError, match=match):
        call()
