"""Lesson 10's straight roads: diffusers' scheduler step by step, closed forms, bad input."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor
from torch.autograd.functional import jvp
from torch.distributions import Normal, SigmoidTransform, TransformedDistribution

from t2i.flow import (
    euler_times,
    flow_point,
    flow_target,
    logit_normal_times,
    rectified_flow_loss,
    sample_euler,
)

CENTRE, SPREAD = 0.7, 0.3  # of Gaussian data
SHAPES = [(3, 2, 4, 5), (1, 7), (5,), (2, 3, 1, 2, 2)]


def draw(seed: int, *shape: int, dtype=torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def best(x_t: Tensor, t: Tensor) -> Tensor:
    """E[noise - x_0 | x_t] for x_0 ~ N(CENTRE, SPREAD²): the best direction, in closed form."""
    t = t.to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    width = (1 - t) ** 2 * SPREAD**2 + t**2  # variance of x_t
    return (t - (1 - t) * SPREAD**2) / width * (x_t - (1 - t) * CENTRE) - CENTRE


# --- the line


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_points_equal_diffusers_and_lie_on_a_straight_line(shape, dtype):
    x_0, noise = draw(0, *shape, dtype=dtype), draw(1, *shape, dtype=dtype)
    scheduler = FlowMatchEulerDiscreteScheduler()
    steps = torch.arange(0, 1000, 1000 // shape[0])[: shape[0]]
    timesteps = scheduler.timesteps[steps]
    x_t = flow_point(x_0, noise, timesteps / 1000)
    assert x_t.dtype == dtype
    torch.testing.assert_close(x_t, scheduler.scale_noise(x_0, timesteps, noise))
    first, last = torch.zeros(shape[0]), torch.ones(shape[0])
    assert torch.equal(flow_point(x_0, noise, first), x_0)
    assert torch.equal(flow_point(x_0, noise, last), noise)


def test_the_target_is_the_derivative_and_the_same_everywhere():
    x_0, noise = (draw(seed, 3, 2, 4, dtype=torch.float64) for seed in (0, 1))
    for time in (0.0, 0.3, 1.0):
        t = torch.full((3,), time, dtype=torch.float64)
        _, slope = jvp(partial(flow_point, x_0, noise), t, torch.ones_like(t))
        torch.testing.assert_close(flow_target(x_0, noise), slope)


# --- the loss


def test_loss_of_models_that_are_understood():
    x_0, noise = draw(0, 4, 2, 3), draw(1, 4, 2, 3)
    t = torch.tensor([0.0, 0.2, 0.9, 1.0])
    target = noise - x_0
    assert rectified_flow_loss(lambda *_: target, x_0, t, noise) == 0
    nothing = rectified_flow_loss(lambda x_t, _: torch.zeros_like(x_t), x_0, t, noise)
    torch.testing.assert_close(nothing, target.square().mean())
    seen = []
    rectified_flow_loss(lambda *given: seen.extend(given) or target, x_0, t, noise)
    assert torch.equal(seen[1], t)
    torch.testing.assert_close(seen[0][1], 0.8 * x_0[1] + 0.2 * noise[1])


def test_no_model_beats_the_closed_form_on_gaussian_data():
    """What is left at time t is the variance of noise - x_0 given x_t: s² / w."""
    n = 200_000
    x_0, noise = CENTRE + SPREAD * draw(0, n, 1), draw(1, n, 1)
    for time in (0.2, 0.5, 0.9):
        t = torch.full((n,), time)
        width = (1 - time) ** 2 * SPREAD**2 + time**2
        loss = rectified_flow_loss(best, x_0, t, noise)
        assert loss.item() == pytest.approx(SPREAD**2 / width, rel=0.02)
        worse = rectified_flow_loss(lambda x, t: best(x, t) + 0.1, x_0, t, noise)
        assert (worse - loss).item() == pytest.approx(0.01, abs=0.003)


# --- times to train on


@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (0.8, 0.5), (-1.0, 1.7)])
def test_times_are_logit_normal(mean, std):
    law = TransformedDistribution(Normal(mean, std), SigmoidTransform())
    share = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
    t = logit_normal_times(Normal(0.0, 1.0).icdf(share), mean, std)
    assert t.dtype == torch.float64 and ((t > 0) & (t < 1)).all()
    torch.testing.assert_close(law.cdf(t), share, rtol=0, atol=1e-6)


def test_a_std_of_1_7_is_close_to_uniform():
    t = logit_normal_times(draw(0, 100_000), std=1.7)
    assert (
        torch.histc(t[(t > 0.1) & (t < 0.9)], 8, 0.1, 0.9).div(100_000).sub(0.1).abs().max() < 0.03
    )


# --- the walk


@pytest.mark.parametrize("steps", [1, 2, 7, 30])
@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
def test_times_equal_diffusers(steps, shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    torch.testing.assert_close(euler_times(steps, shift), scheduler.sigmas)
    torch.testing.assert_close(1000 * euler_times(steps, shift)[:-1], scheduler.timesteps)


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 0.4], [0.95, 0.9, 0.35, 0.3, 0.02]])
@pytest.mark.parametrize("shift", [1.0, 2.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_walk_equals_diffusers_step_by_step(sigmas, shift, shape):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=sigmas)
    x_1, seen = draw(0, *shape), []
    end = sample_euler(best, x_1, scheduler.sigmas, lambda *step: seen.append(step))
    x = x_1
    for step, moment in zip(seen, scheduler.timesteps, strict=True):
        direction = best(x, (moment / 1000).expand(len(x)))
        torch.testing.assert_close(step[2], direction, rtol=1e-4, atol=1e-5)
        x = scheduler.step(direction, moment, x).prev_sample
        torch.testing.assert_close(step[1], x, rtol=1e-4, atol=1e-5)
    assert [step[0] for step in seen] == scheduler.sigmas[1:].tolist()
    assert torch.equal(end, seen[-1][1])


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_walk_converges_with_order_1(shift):
    """The true way keeps each point's place among the others: it ends at CENTRE + SPREAD · x_1."""
    x_1 = draw(0, 100, 2, dtype=torch.float64)
    errors = []
    for steps in (20, 40, 80):
        end = sample_euler(best, x_1, euler_times(steps, shift))
        errors.append((end - CENTRE - SPREAD * x_1).abs().mean().item())
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert 0.8 < math.log2(coarse / fine) < 1.2


def test_a_straight_road_needs_one_step():
    x_0, noise = draw(0, 3, 2, 2), draw(1, 3, 2, 2)
    for steps in (1, 5):
        end = sample_euler(lambda x, t: noise - x_0, noise, euler_times(steps))
        torch.testing.assert_close(end, x_0, rtol=0, atol=1e-6)


def test_the_walk_tells_every_sample_its_time_and_leaves_x_1():
    x_1, seen = draw(0, 3, 2, dtype=torch.float64), []
    before = x_1.clone()
    end = sample_euler(lambda x, t: seen.append(t) or x, x_1, torch.tensor([1.0, 0.5, 0.25]))
    assert [t.tolist() for t in seen] == [[1.0] * 3, [0.5] * 3]
    torch.testing.assert_close(end, 0.5 * 0.75 * before)
    assert torch.equal(x_1, before) and end.dtype == torch.float64 and not end.requires_grad


# --- bad input


def test_bad_input_is_named():
    x, t = torch.zeros(2, 3), torch.tensor([0.1, 0.2])
    for call, word in (
        (lambda: flow_point(x, x[:, :2], t), r"noise must be \(2, 3\) like x_0, got \(2, 2\)"),
        (lambda: flow_point(x, x, t[:1]), r"t must be \(B,\) = \(2,\), got \(1,\)"),
        (lambda: flow_point(x, x, 10 * t), r"t must lie in \[0, 1\].*no step numbers.*1 to 2"),
        (lambda: flow_point(x, x, t * math.nan), r"t must lie in \[0, 1\]"),
        (lambda: flow_point(x.byte(), x, t), "x_0 must be floats, .*uint8"),
        (lambda: flow_target(x.long(), x), "x_0 must be floats, .*int64"),
        (lambda: euler_times(3, shift=math.inf), "shift must be above 0 and finite"),
        (lambda: flow_target(x, x[:1]), r"noise must be \(2, 3\) like x_0"),
        (lambda: rectified_flow_loss(None, x, -t, x), r"t must lie in \[0, 1\]"),
        (lambda: logit_normal_times(t, std=0.0), "std must be above 0, got 0.0"),
        (lambda: logit_normal_times(t, std=math.nan), "std must be above 0, got nan"),
        (lambda: euler_times(0), "num_inference_steps must be a whole number, 1 or more"),
        (lambda: euler_times(2.5), "num_inference_steps must be a whole number"),
        (lambda: euler_times(3, shift=0.0), "shift must be above 0"),
        (lambda: rectified_flow_loss(lambda x, t: x[:1], x, t / 2, x), "must answer .2, 3. like x"),
        (
            lambda: sample_euler(lambda x, t: x[:1], x, euler_times(2)),
            "must answer .2, 3. like x_t",
        ),
        (lambda: sample_euler(best, x, torch.tensor([0.0, 1.0])), "descend strictly"),
        (lambda: sample_euler(best, x, torch.tensor([1.0])), r"times must be \(N \+ 1,\)"),
        (lambda: sample_euler(best, x, torch.tensor([1.0, 0.5, 0.5])), "descend strictly"),
        (lambda: sample_euler(best, x, torch.tensor([5.0, 0.0])), r"times must lie in \[0, 1\]"),
        (lambda: sample_euler(best, x, torch.tensor([1.0, -0.1])), r"times must lie in \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=word):
            call()


def test_any_shift_begins_at_1_and_ends_at_0():
    """1 and 0 exactly: a walk that begins at 1.0000001 is refused."""
    for shift in torch.arange(0.05, 12, 0.01).tolist():
        times = euler_times(25, shift)
        assert times[0] == 1 and times[-1] == 0 and (times[1:] < times[:-1]).all()
