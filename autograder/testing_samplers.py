"""What hidden tests of samplers and losses share: models to call, fresh noise, untouched inputs."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from autograder.remote import Handle, RemoteError
from autograder.testing import expect, fail
from autograder.testing_modules import still_is


def in_order(arguments: tuple, named: dict) -> tuple:
    """What a model was called with, as (x_t, t), also where it was called as model(x_t, t=t)."""
    others = [value for name, value in named.items() if name != "t"]
    return (*arguments, *others, *([named["t"]] if "t" in named else []))


def small_model(student, channels: int) -> Handle:
    """A layer with weights in the learner's process, to be called as model(x_t, t)."""
    layer = student.new_torch("Conv2d", channels, channels, 1)

    def without_t(module, arguments, named):
        return in_order(arguments, named)[:1], {}

    layer.call("register_forward_pre_hook", without_t, with_kwargs=True)
    return layer


def expect_untouched(function: Callable, student, **arguments: object) -> None:
    """Call a function, and see that it changed none of the tensors that it was given.

    Args:
        function: of the learner's.
        arguments: by name, in the function's order.
    """
    tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    held = {name: student.hold(value.clone()) for name, value in tensors.items()}
    function(*(arguments | held).values())
    for name, value in tensors.items():
        still_is(held[name], value, name)


@contextlib.contextmanager
def forward_may_be_called() -> Iterator[None]:
    """Let model.forward(x_t, t) pass: it goes past the hook of `small_model`, but is no mistake."""
    try:
        yield
    except RemoteError as error:
        if "forward() takes" not in str(error):
            raise


def expect_tidy(student, name: str, **arguments: Tensor) -> None:
    """See that a sampler's pictures keep no gradients, and that it changes no argument.

    Args:
        name: of the learner's function.
        arguments: those after the model, by name; x_T (B, C, H, W) float32 among them.
    """
    model = small_model(student, arguments["x_T"].shape[1])
    with forward_may_be_called():
        expect(
            not student.new(name, model, *arguments.values()).get("requires_grad"),
            f"The pictures hang on the model's weights: what {name} computed at every step is "
            "kept for gradients, until memory is full. Keep @torch.no_grad() above it.",
        )
        sampler = getattr(student, name)
        expect_untouched(lambda *given: sampler(model, *given), student, **arguments)


def likeness(a: Tensor, b: Tensor) -> float:
    """The correlation of two pictures' pixels: 1 the same, 0 unrelated."""
    both = torch.stack([a.flatten(), b.flatten()])
    return float(torch.corrcoef(both)[0, 1].nan_to_num())


def expect_fresh_noise(
    z: Tensor, t: int, noise_pred: Tensor, before: Tensor, step: str, last: str
) -> None:
    """See that a step's noise is standard Gaussian, and new for each step, sample and pixel.

    Args:
        z: (B, C, H, W) what the step added, divided by the size that it should have; at least
            two samples and channels, and some hundred pixels.
        t: the step.
        noise_pred: (B, C, H, W) what the model predicted there.
        before: (B, C, H, W) the noise of the step before.
        step: the name of the function that scales the noise.
        last: which step adds none, in words.
    """
    strength = float(z.square().mean().sqrt())
    if strength < 0.02:
        counted = " (The paper's `t > 1` counts from 1, our steps from 0.)" if t == 1 else ""
        fail(f"At t = {t} no fresh noise is added. Only {last} goes without.{counted}")
    expect(
        not torch.allclose(z, noise_pred, atol=1e-2),
        f"The noise that the model predicted is added again at each step. {step} wants fresh "
        "noise from torch.randn, which has nothing to do with the picture.",
    )
    whole = "draw it in the whole shape of x, torch.randn(x.shape, …)."
    spread = float((z - z.mean((1, 2, 3), keepdim=True)).square().mean().sqrt())
    expect(spread > 0.1 * strength, f"All pixels of a sample get the same fresh noise: {whole}")
    expect(likeness(z[0], z[1]) < 0.3, f"All samples get the same fresh noise: {whole}")
    expect(likeness(z[:, 0], z[:, 1]) < 0.3, f"All channels get the same fresh noise: {whole}")
    expect(
        likeness(z, before) < 0.3,
        "The same noise is added at several steps (or x_T itself is). Draw fresh noise at "
        "every step, inside the loop.",
    )
    size, middle = float(z.std()), float(z.mean())
    if abs(size - 1) > 0.12 or abs(middle) > 0.12:
        kind = "too strong" if size > 1.12 else "too weak" if size < 0.88 else "not around 0"
        fail(
            f"The fresh noise at t = {t} is {kind}. It should be standard Gaussian (torch.randn), "
            f"scaled inside {step} and nowhere else."
        )
