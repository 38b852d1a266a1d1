"""Hidden tests of lesson 10: rectified flow, and the whole from prompt to picture.

Compared with closed forms (for Gaussian data the best direction is known), torch.distributions,
diffusers' FlowMatchEulerDiscreteScheduler and transformers' CLIP. The parts that encode_prompt and
TextToImage work with answer from here, so all that they are asked is seen.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor
from torch.distributions import Normal, SigmoidTransform
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from autograder.remote import Handle, RemoteError
from autograder.testing import exercise, expect, expect_close, fail, matches
from autograder.testing_modules import (
    OTHER_PIECES,
    PIECE_STOPS,
    ask,
    normal,
    shuffle_weights,
    unchanged,
)
from autograder.wire import Foreign
from t2i.bpe import Tokenizer, train_bpe
from t2i.flow import euler_times
from t2i.pretrained.clip_names import from_transformers
from t2i.text_to_image import to_pil

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def causes_of(wrong_ways: dict[str, str], make: Callable[[str], Tensor]) -> dict[str, Callable]:
    """The sentence of each mistake, with the values that it gives."""
    return {sentence: (lambda way=way: make(way)) for way, sentence in wrong_ways.items()}


def own(call: Callable):
    """Run the learner's other pieces; where one stops, this exercise cannot be judged."""
    try:
        return call()
    except RemoteError as error:
        if error.type_name == "NotImplementedError":
            raise
        return fail(PIECE_STOPS)


def between(rng: torch.Generator, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(count,) times from 0 to 1."""
    return torch.rand(count, generator=rng, dtype=torch.float64).to(dtype)


# --- flow_point -----------------------------------------------------------------------------------


def point(x_0: Tensor, noise: Tensor, t: Tensor, wrong: str = "") -> Tensor:
    """flow_point; `wrong` makes one well-known mistake."""
    t = t.to(x_0.dtype)
    t = {"first": t[:1], "mean": t.mean()[None], "squared": t**2, "steps": t / 1000}.get(wrong, t)
    if wrong != "last axis":
        t = t.reshape(-1, *[1] * (3 if wrong == "four axes" else x_0.ndim - 1))
    ways = {
        "swapped": lambda: t * x_0 + (1 - t) * noise,
        "circle": lambda: (1 - t).sqrt() * x_0 + t.sqrt() * noise,
        "minus": lambda: (1 - t) * x_0 - t * noise,
        "whole picture": lambda: x_0 + t * noise,
        "whole noise": lambda: (1 - t) * x_0 + noise,
        "too far": lambda: x_0 + t * (noise + x_0),
        "back": lambda: x_0 + t * (x_0 - noise),
        "no noise": lambda: (1 - t) * x_0,
    }
    return ways.get(wrong, lambda: torch.lerp(x_0, noise, t))()


POINT_MISTAKES = {
    "swapped": "t and 1 − t have changed places: t = 0 should be the picture, t = 1 the noise.",
    "circle": "The shares go through a square root, as in lesson 1. Here the road is straight: the "
    "shares are 1 − t and t themselves.",
    "minus": "The noise is taken away; it is added.",
    "whole picture": "The picture keeps its whole size, so at t = 1 it is still there: its share "
    "is 1 − t.",
    "whole noise": "The noise comes in whole: its share is t.",
    "too far": "From x_0 the way to the noise is noise − x_0; yours goes along noise + x_0.",
    "back": "From x_0 it goes towards the noise; yours goes the other way, along x_0 − noise.",
    "no noise": "The noise is missing.",
    "first": "The first sample's t is used for all; each sample has its own.",
    "mean": "One t, the mean, is used for all; each sample has its own.",
    "squared": "t is squared; the shares are 1 − t and t.",
    "steps": "t is divided by 1000: here it runs from 0 to 1 already.",
    "four axes": "t has the shape (B, 1, 1, 1), which fits pictures alone. Samples may have any "
    "number of axes, so count them: x_0.ndim − 1 axes of size 1 belong behind t's own.",
    "last axis": "t met the wrong axis: it holds one number a *sample*, and ran along the last "
    "axis. Give it axes of size 1 behind: (B, 1, …, 1).",
}
POINT_HINTS = {
    "must match the size": "t is (B,) and meets (B, …): give it axes of size 1 behind the first, "
    "x_0.ndim − 1 of them.",
    "is invalid for input of size": "Samples may have any number of axes, so count them: "
    "x_0.ndim − 1 axes of size 1 belong behind t's own.",
    "": "x_t = (1 − t) · x_0 + t · noise, with t as (B, 1, …, 1).",
}


def check_point(student, x_0: Tensor, noise: Tensor, t: Tensor, where: str) -> None:
    expect_close(
        ask(lambda: student.flow_point(x_0, noise, t), POINT_HINTS),
        point(x_0, noise, t),
        f"the point {where}",
        causes=causes_of(POINT_MISTAKES, lambda way: point(x_0, noise, t, way)),
        otherwise="x_t = (1 − t) · x_0 + t · noise, in the dtype of x_0.",
        check_dtype=True,
    )


@exercise("flow_point")
def test_points_of_any_shape(student, rng):
    for shape in ((5, 2, 4, 3), (5, 3), (3, 3), (1, 4, 2, 6), (4,), (2, 3, 2, 2, 1)):
        ends = normal(rng, *shape), normal(rng, *shape)
        axes = len(shape) - 1
        where = f"of samples with {axes} {'axis' if axes == 1 else 'axes'}"
        check_point(student, *ends, between(rng, shape[0]), where)


@exercise("flow_point")
def test_points_of_any_dtype(student, rng):
    for dtype in (torch.float64, torch.bfloat16):
        ends = normal(rng, 3, 2, 2, dtype=dtype), normal(rng, 3, 2, 2, dtype=dtype)
        check_point(student, *ends, between(rng, 3, dtype), f"in {dtype}")


@exercise("flow_point")
def test_both_ends_of_the_line(student, rng):
    x_0, noise = normal(rng, 3, 2, 3), normal(rng, 3, 2, 3)
    check_point(student, x_0, noise, torch.zeros(3), "at t = 0")
    check_point(student, x_0, noise, torch.ones(3), "at t = 1")
    t = between(rng, 3)
    unchanged(student, lambda held: student.flow_point(held, noise, t), x_0, "x_0")
    unchanged(student, lambda held: student.flow_point(x_0, held, t), noise, "noise")
    unchanged(student, lambda held: student.flow_point(x_0, noise, held), t, "t")


# --- flow_target ----------------------------------------------------------------------------------


def slope(x_0: Tensor, noise: Tensor, wrong: str = "") -> Tensor:
    ways = {
        "sign": lambda: x_0 - noise,
        "sum": lambda: x_0 + noise,
        "noise": lambda: noise,
        "picture": lambda: x_0,
        "minus picture": lambda: -x_0,
        "absolute": lambda: (noise - x_0).abs(),
        "half": lambda: (noise - x_0) / 2,
        "square": lambda: (noise - x_0) ** 2,
        "unit": lambda: (noise - x_0) / (noise - x_0).flatten(1).norm(dim=1).view(-1, 1, 1),
        "mean": lambda: (noise - x_0).mean(),
    }
    return ways.get(wrong, lambda: noise - x_0)()


SLOPE_MISTAKES = {
    "sign": "It points from the noise to the picture; when t grows, the point moves from the "
    "picture to the noise.",
    "sum": "The two are added; the way from x_0 to the noise is their difference.",
    "noise": "This is the noise alone, lesson 3's target. The picture fades at the same time: "
    "−x_0 is missing.",
    "picture": "This is the picture. The target is how x_t moves: the derivative of "
    "(1 − t) · x_0 + t · noise.",
    "minus picture": "The derivative of (1 − t) · x_0 is there, that of t · noise is missing.",
    "absolute": "The absolute value is taken; directions have signs.",
    "half": "It is halved; from t = 0 to t = 1 the point goes the whole way.",
    "square": "It is squared already here; squaring belongs into the loss.",
    "unit": "The direction is brought to length 1; its length tells how fast the point moves.",
    "mean": "The mean over all values is taken; the target has a value for each value of x_0.",
}


@exercise("flow_target")
def test_target_is_the_slope_of_the_line(student, rng):
    for dtype in (torch.float32, torch.float64):
        x_0, noise = normal(rng, 3, 2, 5, dtype=dtype), normal(rng, 3, 2, 5, dtype=dtype)
        early, late = (
            point(x_0.double(), noise.double(), torch.full((3,), t)) for t in (0.25, 0.75)
        )
        expect_close(
            ask(lambda x_0=x_0, noise=noise: student.flow_target(x_0, noise), {"": ""}),
            ((late - early) / 0.5).to(dtype),
            "the target",
            causes=causes_of(
                SLOPE_MISTAKES, lambda way, x_0=x_0, noise=noise: slope(x_0, noise, way)
            ),
            otherwise="It is the derivative of (1 − t) · x_0 + t · noise with respect to t.",
            check_dtype=True,
            **CLOSE,
        )


@exercise("flow_target")
def test_target_leads_from_end_to_end(student, rng):
    x_0, noise = normal(rng, 4, 3), normal(rng, 4, 3)
    target = student.flow_target(x_0, noise)
    expect_close(target, noise - x_0, "the target of points (B, D)", **CLOSE)
    unchanged(student, lambda held: student.flow_target(held, noise), x_0, "x_0")
    unchanged(student, lambda held: student.flow_target(x_0, held), noise, "noise")


# --- rectified_flow_loss --------------------------------------------------------------------------


class Guess:
    """A model that answers with a smooth function of x_t and t, and remembers what it was asked."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Tensor] | None = None):
        self.answer = answer or (lambda x_t, t: torch.sin(1.3 * x_t + column(t, x_t)))
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x_t=None, t=None, *more, **names) -> Tensor:
        if more or names or not isinstance(x_t, Tensor) or not isinstance(t, Tensor):
            fail("The model is called as model(x_t, t), with two tensors.")
        if t.ndim > 1 and x_t.shape == t.shape[:1]:
            fail("x_t and t have changed places: the model is called as model(x_t, t).")
        if t.shape != x_t.shape[:1]:
            fail(
                f"The model wants one t a sample, (B,) = ({len(x_t)},); it got {tuple(t.shape)}: "
                "torch.full((len(x),), t) makes them from a number."
            )
        self.calls.append((x_t, t))
        return self.answer(x_t, t)


def unnamed(function: Callable, call: str = "model(x_t, t)") -> Callable:
    """The function; whoever calls it with its arguments by name reads how it is called."""

    def called(*given, **names):
        if names:
            fail(f"It is called as {call}, without names: its own may be others.")
        return function(*given)

    return called


def column(t: Tensor, like: Tensor) -> Tensor:
    """t as (B, 1, …, 1), in the dtype of `like`."""
    return t.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def loss_of(answer: Callable, x_0, t, noise, wrong: str = "", line=point, target=slope) -> Tensor:
    """rectified_flow_loss; `wrong` makes one well-known mistake."""
    x_t = line(x_0, noise, t)
    x_t = {"sees picture": x_0, "sees noise": noise}.get(wrong, x_t)
    if wrong == "swapped line":
        x_t = line(noise, x_0, t)
    asked = {"t of lesson 3": 1000 * t, "1 - t": 1 - t}.get(wrong, t)
    right = target(x_0, noise)
    right = {"sign": -right, "epsilon": noise, "sample": x_0, "point": x_t}.get(wrong, right)
    off = right - answer(x_t, asked)
    ways = {
        "no square": lambda: off.mean(),
        "absolute": lambda: off.abs().mean(),
        "sum": lambda: off.square().sum(),
        "sum of a sample": lambda: off.square().flatten(1).sum(1).mean(),
        "root": lambda: off.square().mean().sqrt(),
        "half": lambda: off.square().mean() / 2,
        "each": lambda: off.square().flatten(1).mean(1),
        "all": lambda: off.square(),
    }
    return ways.get(wrong, lambda: off.square().mean())()


LOSS_MISTAKES = {
    "sign": "The model is compared with x_0 − noise; the direction is noise − x_0.",
    "epsilon": "The model is compared with the noise, as in lesson 3. Here it tells the direction, "
    "flow_target(x_0, noise).",
    "sample": "The model is compared with the picture; it tells the direction, "
    "flow_target(x_0, noise).",
    "point": "The model is compared with x_t; it tells the direction, flow_target(x_0, noise).",
    "sees picture": "The model is shown the picture x_0 itself; it should see the point x_t.",
    "sees noise": "The model is shown the noise alone; it should see the point x_t.",
    "swapped line": "The model is shown the point at 1 − t: picture and noise have changed places.",
    "t of lesson 3": "The model gets 1000 · t; it wants t as it is, from 0 to 1.",
    "1 - t": "The model gets 1 − t; it wants the t of the point that it sees.",
    "no square": "The square is missing: errors upward and downward cancel out.",
    "absolute": "The absolute error is taken; here it is the square.",
    "sum": "The squares are added up; take their mean.",
    "sum of a sample": "The squares of a sample are added up; take the mean over all values.",
    "root": "The root of the mean square is taken; here it is the mean square itself.",
    "half": "The loss is halved; here it counts in full.",
    "each": "Each sample has its own loss here; the mean over them is missing.",
    "all": "Each value has its own loss here; the mean is missing.",
}
LOSS_HINTS = {
    "must match the size": "The model gets x_t and t (B,) as it came; only flow_point gives t more "
    "axes.",
    "": "Three steps: the point, what the model says there, the mean square of what is off. "
    + OTHER_PIECES,
}


def check_loss(student, x_0: Tensor, t: Tensor, noise: Tensor, what: str, answer=None) -> None:
    model = Guess(answer)
    loss = partial(loss_of, model.answer, x_0, t, noise)
    actual = ask(lambda: student.rectified_flow_loss(model, x_0, t, noise), LOSS_HINTS)
    if isinstance(actual, float):
        fail("The loss is a plain number, so nothing can be learnt from it: leave .item() out.")
    expect(model.calls, "The model is never called.")
    expect(len(model.calls) == 1, "The model is called more than once; one call is enough.")
    if isinstance(actual, Tensor) and not matches(actual, loss(), **CLOSE):
        theirs = with_own_pieces(student, loss)
        if theirs is not None and matches(actual, theirs, **CLOSE):
            return  # the mistake is in one of them, and has an exercise of its own
    advice = "It is mean((noise − x_0 − model(x_t, t))²)."
    if not torch.allclose(model.calls[0][1].to(t), t):
        advice += " And the model is asked at other times than the t that is given."
    if isinstance(actual, Tensor) and not matches(actual, loss(), **CLOSE):
        ask(lambda: student.rectified_flow_loss(model, x_0, t, noise), LOSS_HINTS)
    first, again = model.calls[0][0], model.calls[-1][0]
    if not torch.equal(first, again):
        advice += (
            " And two calls with the same arguments showed the model two different points: you "
            "draw noise or times of your own, and both come in as arguments."
        )
    expect_close(
        actual, loss(), what, causes=causes_of(LOSS_MISTAKES, loss), otherwise=advice, **CLOSE
    )


def with_own_pieces(student, loss: Callable) -> Tensor | None:
    """The loss with the learner's flow_point and flow_target in it."""
    try:
        return loss(line=student.flow_point, target=student.flow_target)
    except Exception:
        return None


@exercise("rectified_flow_loss")
def test_loss(student, rng):
    for shape, dtype in (((5, 2, 3, 4), torch.float32), ((3, 2), torch.float64)):
        x_0, noise = 2 + normal(rng, *shape, dtype=dtype), normal(rng, *shape, dtype=dtype)
        check_loss(student, x_0, between(rng, shape[0], dtype), noise, "the loss")


@exercise("rectified_flow_loss")
def test_loss_of_models_that_are_understood(student, rng):
    x_0, noise, t = normal(rng, 3, 2, 4), normal(rng, 3, 2, 4), between(rng, 3)
    right = noise - x_0
    for what, answer in (
        ("the loss of a model that is always right", lambda *_: right),
        ("the loss of a model that is off by 2 everywhere", lambda *_: right + 2),
        ("the loss of a model that always answers 0", lambda x_t, _: torch.zeros_like(x_t)),
    ):
        check_loss(student, x_0, t, noise, what, answer)
    model = Guess(lambda *_: right)
    for place, name in ((0, "x_0"), (1, "t"), (2, "noise")):
        values = [x_0, t, noise]

        def run(held, values=values, place=place):
            student.rectified_flow_loss(
                unnamed(lambda *_: right), *values[:place], held, *values[place + 1 :]
            )

        unchanged(student, run, values[place], name)
    loss = student.rectified_flow_loss(model, x_0.bfloat16(), t.bfloat16(), noise.bfloat16())
    expect(isinstance(loss, Tensor) and loss.isfinite().all(), "The loss in bfloat16 is no number.")


@exercise("rectified_flow_loss")
def test_the_loss_teaches_the_model(student, rng):
    """A slope has to come back through the model; that of the target alone teaches nothing."""
    x_0, noise, t = normal(rng, 3, 3), normal(rng, 3, 3), between(rng, 3)
    try:
        usable = matches(student.flow_point(x_0, noise, t), point(x_0, noise, t))
        usable &= matches(student.flow_target(x_0, noise), slope(x_0, noise))
    except Exception:
        usable = False
    if not usable:
        return  # the mistake is in one of them, and has an exercise of its own
    weight, bias = normal(rng, 3, 3), normal(rng, 3)
    held = student.hold(weight)
    held.call("requires_grad_")
    layer = student.new_torch("Linear", 3, 3)
    layer.call("register_forward_pre_hook", lambda _, given: given[:1])  # it reads x_t alone
    layer.call("load_state_dict", {"weight": weight, "bias": bias})
    layer.call("__delattr__", "weight")
    layer.call("__setattr__", "weight", held)
    loss = ask(lambda: student.new("rectified_flow_loss", layer, x_0, t, noise), LOSS_HINTS)
    cut = (
        "The loss does not teach the model anything: the way back through the model's answer is "
        "cut, by no_grad(), detach() or .data. (x_t and the target may be made without gradients.)"
    )
    ask(loss.backward, {"": cut})
    leaf = weight.clone().requires_grad_()
    said = F.linear(point(x_0, noise, t), leaf, bias)
    (slope(x_0, noise) - said).square().mean().backward()
    found = held.get("grad")
    expect(isinstance(found, Tensor) and matches(found, leaf.grad, **CLOSE), cut)


# --- logit_normal_times ---------------------------------------------------------------------------


def times_of(gaussian: Tensor, mean: float, std: float, wrong: str = "") -> Tensor:
    """logit_normal_times; `wrong` makes one well-known mistake."""
    z = mean + std * gaussian
    unit = Normal(torch.zeros((), dtype=z.dtype), 1)
    ways = {
        "no sigmoid": lambda: z,
        "normal cdf": lambda: unit.cdf(z),
        "mean outside": lambda: mean + torch.sigmoid(std * gaussian),
        "std outside": lambda: std * torch.sigmoid(mean + gaussian),
        "both outside": lambda: mean + std * torch.sigmoid(gaussian),
        "mean scaled": lambda: torch.sigmoid(std * (mean + gaussian)),
        "divided": lambda: torch.sigmoid((gaussian - mean) / std),
        "only divided": lambda: torch.sigmoid(mean + gaussian / std),
        "variance": lambda: torch.sigmoid(mean + math.sqrt(std) * gaussian),
        "squared": lambda: torch.sigmoid(mean + std**2 * gaussian),
        "minus": lambda: torch.sigmoid(std * gaussian - mean),
        "no mean": lambda: torch.sigmoid(std * gaussian),
        "no std": lambda: torch.sigmoid(mean + gaussian),
        "neither": lambda: torch.sigmoid(gaussian),
        "reversed": lambda: 1 - torch.sigmoid(z),
        "exp": lambda: z.exp(),
        "tanh": lambda: z.tanh(),
        "half tanh": lambda: (z.tanh() + 1) / 2,
        "softmax": lambda: z.softmax(0),
        "clamp": lambda: z.clamp(0, 1),
        "logit": lambda: (z / (1 - z)).log(),
    }
    return ways.get(wrong, lambda: SigmoidTransform()(z))()


TIMES_MISTAKES = {
    "no sigmoid": "The sigmoid is missing: Gaussian numbers leave [0, 1].",
    "normal cdf": "The Gaussian numbers went through the normal distribution's own curve; with "
    "mean 0 and std 1 that makes uniform times. It is the sigmoid, 1 / (1 + exp(−z)).",
    "mean outside": "The mean is added behind the sigmoid, so times leave [0, 1]: shift first, "
    "then squeeze.",
    "std outside": "std multiplies behind the sigmoid: spread first, then squeeze.",
    "both outside": "mean and std come behind the sigmoid: shift and spread first, then squeeze.",
    "mean scaled": "std multiplies the mean too: it is mean + std · gaussian.",
    "divided": "This takes mean and std away, as one normalises data; here they are given: "
    "mean + std · gaussian.",
    "only divided": "It is divided by std; a larger std spreads the times further: multiply.",
    "variance": "The root of std is taken; std is a standard deviation already.",
    "squared": "std is squared; it multiplies as it is.",
    "minus": "The mean is taken away; above 0 it should lead to more noise, to larger t.",
    "no mean": "mean is not used.",
    "no std": "std is not used.",
    "neither": "mean and std are not used.",
    "reversed": "Time runs backwards: with a mean above 0 there should be more noise, larger t.",
    "exp": "exp gives numbers above 1; what squeezes into (0, 1) is the sigmoid.",
    "tanh": "tanh squeezes into (−1, 1); what squeezes into (0, 1) is the sigmoid.",
    "half tanh": "(tanh + 1) / 2 is a sigmoid of twice the number; it is the sigmoid itself.",
    "softmax": "softmax makes the times of a batch share a sum of 1; each goes through the sigmoid "
    "by itself.",
    "clamp": "The numbers are cut off at 0 and 1, so half of the times are the ends; the sigmoid "
    "squeezes them.",
    "logit": "This is the logit, the way back; it is the sigmoid.",
}
TIMES_HINTS = {"": "t = sigmoid(mean + std · gaussian): torch.sigmoid works on tensors."}


def check_times(student, what: str, gaussian: Tensor, *given: float) -> None:
    mean, std = (*given, 0.0, 1.0)[:2] if len(given) != 1 else (given[0], 1.0)
    actual = ask(lambda: student.logit_normal_times(gaussian, *given), TIMES_HINTS)
    if isinstance(actual, Tensor) and actual.shape == gaussian.shape and actual.isfinite().all():
        again = student.logit_normal_times(gaussian, *given)
        if isinstance(again, Tensor) and not torch.equal(actual, again):
            fail(
                "The same numbers give other times in another call: yours draws numbers of its "
                "own. The randomness comes in as `gaussian`."
            )
    expect_close(
        actual,
        times_of(gaussian, mean, std),
        what,
        causes=causes_of(TIMES_MISTAKES, lambda way: times_of(gaussian, mean, std, way)),
        otherwise="t = sigmoid(mean + std · gaussian). (Its inverse, the logit, takes numbers "
        "between 0 and 1 only.)",
        **CLOSE,
    )


@exercise("logit_normal_times")
def test_times_of_any_mean_and_spread(student, rng):
    for count, dtype, mean, std in (
        (7, torch.float32, 0.4, 1.7),
        (5, torch.float64, -0.8, 0.6),
        (1, torch.float32, 1.3, 2.5),
    ):
        check_times(student, "the times", normal(rng, count, dtype=dtype), mean, std)


@exercise("logit_normal_times")
def test_times_as_usual(student, rng):
    check_times(student, "the times with the usual mean and std", normal(rng, 9))
    gaussian = normal(rng, 4)
    unchanged(student, lambda h: student.logit_normal_times(h, 0.5, 2.0), gaussian, "gaussian")


@exercise("logit_normal_times")
def test_median_and_quartiles(student, rng):
    quartiles = Normal(0.0, 1.0).icdf(torch.tensor([0.25, 0.5, 0.75]))
    check_times(student, "the quartiles and the median of the times", quartiles, -0.5, 1.2)
    check_times(student, "the median of the times", torch.zeros(1), 0.7, 0.9)


# --- sample_euler ---------------------------------------------------------------------------------

CENTRE, SPREAD = 0.6, 0.4  # of Gaussian data


def best(x_t: Tensor, t: Tensor | float) -> Tensor:
    """E[noise − x_0 | x_t] for x_0 ~ N(CENTRE, SPREAD²), all values independent: no model knows
    better."""
    t = column(t, x_t) if isinstance(t, Tensor) else t
    width = (1 - t) ** 2 * SPREAD**2 + t**2
    return (t - (1 - t) * SPREAD**2) / width * (x_t - (1 - t) * CENTRE) - CENTRE


def walk(model: Callable, x: Tensor, times: Tensor, wrong: str = "") -> Tensor:
    """sample_euler; `wrong` makes one well-known mistake."""
    times = times.tolist()
    pairs, start, kept = list(zip(times, times[1:], strict=False)), x, None
    pairs = {
        "last left out": pairs[:-1],
        "first left out": pairs[1:],
        "one too many": [*pairs, (times[-1], 0.0)],
        "to zero": [*pairs[:-1], (pairs[-1][0], 0.0)],
        "backwards": [(b, a) for a, b in reversed(pairs)],
    }.get(wrong, pairs)
    for t, t_next in pairs:
        asked = {"t_next": t_next, "middle": (t + t_next) / 2, "1 - t": 1 - t}.get(wrong, t)
        x = start if wrong == "always from the start" else x
        at = start if wrong == "asked at the start" else x
        direction = model(at, 1000 * t if wrong == "t of lesson 3" else asked)
        kept = direction if kept is None else kept
        direction = kept if wrong == "asked once" else direction
        length = {
            "sign": t - t_next,
            "equal steps": -1 / len(pairs),
            "all the way": -t,
            "positive": abs(t_next - t),
            "t for a step": t,
            "whole step": -1.0,
        }.get(wrong, t_next - t)
        new = (start if wrong == "from the start" else x) + length * direction
        if wrong == "twice":
            new = x + length * (direction + model(new, t_next)) / 2
        x = length * direction if wrong == "no sum" else new
    return x


WALK_MISTAKES = {
    "sign": "Each step goes the wrong way: t falls, so t_next − t is negative, and the point moves "
    "against the direction.",
    "positive": "Each step goes the wrong way: t_next − t is negative, leave abs out.",
    "t_next": "The model is asked about t_next, where the step ends; it stands at t.",
    "middle": "The model is asked about the middle of the step; Euler asks where the step begins.",
    "1 - t": "The model is asked about 1 − t; here t = 1 is the noise, and it gets t itself.",
    "t of lesson 3": "The model gets 1000 · t; it wants t as it is, from 0 to 1.",
    "equal steps": "All steps are 1 / N long; each is as long as from t to t_next.",
    "all the way": "Each step goes all the way to t = 0; it ends at t_next.",
    "whole step": "The whole direction is added; it counts for one unit of t, the step is "
    "t_next − t.",
    "t for a step": "Each step is t long; it is t_next − t.",
    "last left out": "The last step is left out: N + 1 times make N steps.",
    "first left out": "The first step is left out: the walk starts at times[0].",
    "one too many": "There is a step too many behind the last time: the walk ends at times[-1].",
    "to zero": "The last step goes to 0; it ends at times[-1].",
    "backwards": "The times are walked from the last to the first; they descend already.",
    "asked once": "The model is asked once, and its first answer used for all steps: look again "
    "after each.",
    "asked at the start": "The model is always asked about x_1, where the walk began; ask about "
    "the x of the moment.",
    "always from the start": "Each step starts again from x_1, and asks the model there; it goes "
    "on from where the last one ended.",
    "from the start": "Each step starts again from x_1; it goes on from where the last one ended.",
    "no sum": "x is lost in each step: x + (t_next − t) · direction.",
    "twice": "The model is asked twice a step (Heun's method); Euler asks once, where the step "
    "begins.",
}
WALK_HINTS = {
    "must match the size": "The direction has the shape of x, and the step t_next − t is a number.",
    "Boolean value of Tensor": "Take the times as numbers: times.tolist().",
    "'NoneType' object is not callable": "on_step may be None: call it only where it is not.",
    "index": "N + 1 times make N steps, from times[i] to times[i + 1].",
    "": "x ← x + (t_next − t) · model(x, t) for each pair of neighbouring times.",
}
UNEVEN = torch.tensor([0.95, 0.8, 0.45, 0.4, 0.1])


def check_walk(student, x_1: Tensor, times: Tensor, expected: Tensor, what: str) -> None:
    model = Guess(best)
    steps = len(times) - 1
    expect_close(
        ask(lambda: student.sample_euler(model, x_1, times), WALK_HINTS),
        expected,
        what,
        causes=causes_of(WALK_MISTAKES, lambda way: walk(best, x_1, times, way)),
        otherwise="x ← x + (t_next − t) · model(x, t) for each pair of neighbouring times, in the "
        "dtype of x_1.",
        check_dtype=True,
        **CLOSE,
    )
    expect(
        len(model.calls) == steps,
        f"The walk of {steps} steps asks the model {len(model.calls)} times: once a step.",
    )


@exercise("sample_euler")
def test_walk_of_uneven_steps(student, rng):
    for shape, dtype in (((3, 2, 4, 5), torch.float32), ((5, 2), torch.float64)):
        x_1 = normal(rng, *shape, dtype=dtype)
        check_walk(student, x_1, UNEVEN, walk(best, x_1, UNEVEN), "the end of the walk")


@exercise("sample_euler")
def test_walk_same_as_diffusers(student, rng):
    for steps, shift in ((1, 1.0), (4, 1.0), (6, 3.0)):
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
        x = x_1 = normal(rng, 3, 1, 2, 3)
        for moment, t in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
            x = scheduler.step(best(x, t.item()), moment, x).prev_sample
        what = f"the end of a walk of {steps} step{'s' * (steps > 1)} (compared with diffusers)"
        check_walk(student, x_1, scheduler.sigmas, x, what)


@exercise("sample_euler")
def test_walk_reports_each_step(student, rng):
    model, seen = Guess(best), []
    on_step = unnamed(lambda *given: seen.append(given), "on_step(t_next, x, direction)")
    x_1 = normal(rng, 3, 2, 2)
    end = ask(
        lambda: student.sample_euler(model, x_1, UNEVEN, on_step),
        {"NoneType": "on_step may be None: call it only if it is not.", **WALK_HINTS},
    )
    expect(
        len(seen) == 4 and all(len(given) == 3 for given in seen),
        "on_step should be called once after each step, as on_step(t_next, x, direction).",
    )
    expect(
        all(isinstance(given, Tensor) for _, *rest in seen for given in rest),
        "on_step gets a number and two tensors: on_step(t_next, x, direction).",
    )
    moments = [float(t) for t, _, _ in seen if isinstance(t, float | int | Tensor)]
    numbers = not any(isinstance(t, Tensor) for t, _, _ in seen)
    if len(moments) == 4 and matches(torch.tensor(moments), UNEVEN[:-1]):
        fail("on_step is told where the step began; it wants t_next, where the step has ended.")
    expect(
        len(moments) == 4 and matches(torch.tensor(moments), UNEVEN[1:]),
        "on_step's first argument is t_next, the time at which the step has ended.",
    )
    expect(
        numbers,
        "on_step is told the time as a tensor; it wants a plain number, as .tolist() and .item() "
        "give it.",
    )
    after = [*(x for x, _ in model.calls[1:]), end]
    for (_, x, direction), (before, t), right in zip(seen, model.calls, after, strict=True):
        if matches(x, before) and not matches(before, right):
            fail("on_step gets x as it was before the step; it wants the new one.")
        if matches(x, best(before, t)) and matches(direction, right):
            fail("x and the direction have changed places: on_step(t_next, x, direction).")
        expect(matches(x, right), "on_step's second argument is x after the step.")
        expect(
            matches(direction, best(before, t)),
            "on_step's third argument is the direction, as the model gave it.",
        )


@exercise("sample_euler")
def test_walk_converges_with_order_1(student, rng):
    """On Gaussian data the true end of each way is known: CENTRE + SPREAD · x_1."""
    x_1 = normal(rng, 40, 3, dtype=torch.float64)
    ends = [
        ask(lambda n=n: student.sample_euler(best, x_1, euler_times(n)), WALK_HINTS)
        for n in (20, 40)
    ]
    off = [(end - CENTRE - SPREAD * x_1).abs().mean().item() for end in ends]
    order = math.log2(off[0] / off[1])
    expect(
        0.7 < order < 1.4,
        f"With twice the steps the error should fall to a half on Gaussian data; your walk is of "
        f"order {order:.1f} in place of 1. Does each step ask at its own t, and is it t_next − t "
        f"long?",
    )


@exercise("sample_euler")
def test_walk_leaves_its_arguments(student, rng):
    x_1 = normal(rng, 3, 2)
    steady = torch.ones_like(x_1)
    still = unnamed(lambda *_: steady)
    unchanged(student, lambda held: student.sample_euler(still, held, UNEVEN), x_1, "x_1")
    unchanged(student, lambda h: student.sample_euler(best, x_1, h), UNEVEN, "times")


@exercise("sample_euler")
def test_walk_on_another_device(student, rng):
    """As on a GPU: the times lie on the CPU, the points elsewhere."""
    x_1, asked = student.elsewhere(normal(rng, 3, 2)), []

    def model(x_t=None, t=None):
        asked.append(t)
        return x_1  # a direction that lies there, too

    answer_of(lambda: student.sample_euler(model, x_1, UNEVEN))
    expect(
        not any(isinstance(t, Tensor) for t in asked),
        "On a GPU the model would get an x there and a t on the CPU, and stop. t belongs where x "
        "is: whoever makes a tensor says device=x.device.",
    )


def answer_of(call: Callable) -> object:
    """What comes back, or None: code that looks at numbers stops where there are none."""
    try:
        return call()
    except RemoteError:
        return None


# --- encode_prompt --------------------------------------------------------------------------------

WIDTH, LENGTH = 12, 9
TEXTS = ["a red seven above a blue star", "a lower green eight", "two stars, one seven"]


def thing(student, call: Callable, **parts) -> Handle:
    """A module in the learner's process: calling it asks us, and so does calling its parts."""
    made = student.hold(call)
    for name, part in parts.items():
        made.call("__setattr__", name, part)
    return made


class Reader:
    """A tokenizer and a text encoder for the learner; transformers' own give the answers."""

    def __init__(self, student, rng):
        ours = Tokenizer(train_bpe(TEXTS, 40))
        self.theirs = CLIPTokenizer(ours.vocabulary, ours.merges)
        special = {"bos_token_id": ours.start, "eos_token_id": ours.end, "pad_token_id": ours.end}
        sizes = {"hidden_size": WIDTH, "num_attention_heads": 2, "num_hidden_layers": 1}
        config = CLIPTextConfig(
            vocab_size=len(ours),
            intermediate_size=16,
            max_position_embeddings=LENGTH,
            **sizes,
            **special,
        )
        self.model = shuffle_weights(CLIPTextModel(config), rng)
        self.texts: list[str] = []  # all that were read
        ends = {"start": ours.start, "end": ours.end}
        self.tokenizer = thing(student, self.numbers, encode=self.numbers_of_one, **ends)
        self.text = thing(
            student,
            self.vectors,
            positions=from_transformers(self.model.state_dict())["positions"],
            tokens=student.new_torch("Linear", WIDTH, len(ours), bias=False),
            end_token=ours.end,
        )

    def rows(self, texts: Sequence[str]):
        return self.theirs(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=LENGTH,
            return_tensors="pt",
        )

    def numbers(self, texts=None, length=None, *_, **__) -> Tensor:
        """What the learner's tokenizer(prompts, length) gives."""
        if isinstance(texts, str):
            fail("The tokenizer takes a list of texts; it got one text.")
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            fail("The tokenizer should get the prompts as they came, a list of texts.")
        self.check_length(length)
        self.texts += texts
        return self.rows(texts).input_ids

    def numbers_of_one(self, text=None, length=None) -> list[int]:
        return self.numbers([text], length)[0].tolist()

    def check_length(self, length) -> None:
        expect(
            length == LENGTH,
            "The tokenizer is asked for rows of another length: the encoder reads as many tokens "
            "as it has positions, len(text.positions).",
        )

    @torch.no_grad()
    def vectors(self, tokens=None, *_, **__) -> tuple[Tensor, Tensor]:
        """What the learner's text(tokens) gives."""
        if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64 or tokens.ndim != 2:
            fail("The text encoder takes the tokens that the tokenizer gave, (B, L) int64.")
        said = self.model(tokens)
        return said.last_hidden_state, said.pooler_output

    def read(self, texts: Sequence[str], wrong: str = "") -> tuple[Tensor, Tensor, Tensor]:
        """encode_prompt; `wrong` makes one well-known mistake."""
        rows = self.rows(texts)
        tokens, mask = rows.input_ids, rows.attention_mask.bool()
        context, pooled = self.vectors(tokens)
        ends = tokens == self.theirs.eos_token_id
        first = torch.zeros_like(mask)
        first[:, 0] = True
        mask = {
            "inverted": ~mask,
            "end left out": ~ends,
            "all": torch.ones_like(mask),
            "only ends": ends,
            "first end": ends & mask,
            "start left out": mask & ~first,
            "only words": ~ends & ~first,
            "all but the last": torch.ones_like(mask) & (torch.arange(LENGTH) < LENGTH - 1),
        }.get(wrong, mask)
        weights = rows.attention_mask[..., None].float()
        pooled = {
            "of the start": context[:, 0],
            "of the last place": context[:, -1],
            "mean": context.mean(1),
            "mean of words": (context * weights).sum(1) / weights.sum(1),
            "largest": context.amax(1),
            "first of all": pooled[:1].expand_as(pooled),
        }.get(wrong, pooled)
        if wrong == "blanked":
            context = context * weights
        if wrong == "pooled for all":
            context = pooled[:, None].expand_as(context)
        if wrong == "embeddings":
            context = self.model.get_input_embeddings()(tokens).detach()
        return context, mask, pooled


CONTEXT_MISTAKES = {
    "blanked": "The vectors behind the end are set to 0; leave them, the mask keeps them out.",
    "pooled for all": "Every place holds the vector of the whole prompt; each token has its own.",
    "embeddings": "These are the tokens' first vectors; the context is what the encoder makes of "
    "them.",
}
MASK_MISTAKES = {
    "inverted": "The mask is inverted: True means that a token may be looked at.",
    "end left out": "The end token itself is masked; it has read the whole prompt: the mask is "
    "True up to the first end token, and there.",
    "all": "All places are True, those that only fill up, too: True up to the first end token.",
    "only ends": "The mask is True at the end tokens alone; it should be True up to the first.",
    "first end": "The mask is True at the end alone; it should be True up to there.",
    "start left out": "The start token is masked; the mask is True from the first place on.",
    "only words": "Start and end are masked; the mask is True from the first place to the first "
    "end token.",
    "all but the last": "Only the last place is masked; everything behind the first end token "
    "fills up.",
}
POOLED_MISTAKES = {
    "of the start": "It is the start token's vector: that one has read nothing, for tokens see "
    "only those before them. The encoder gives the end token's as its second answer.",
    "of the last place": "It is the vector in the last place, which only fills up; it should be "
    "that of the first end token.",
    "mean": "It is the mean over all places; it should be the vector of the first end token.",
    "mean of words": "It is the mean over the words; it should be the vector of the first end "
    "token.",
    "largest": "It is the largest value over the places; it should be the vector of the first end "
    "token.",
    "first of all": "All prompts got the first one's vector.",
}
READ_HINTS = {
    "not enough values": "text(tokens) gives two things, context and pooled.",
    "too many values": "text(tokens) gives two things, context and pooled.",
    "words_mask": "words_mask(tokens, text.end_token) takes the numbers, not the vectors.",
    "has no attribute": "tokenizer(prompts, length) gives numbers, text(tokens) vectors; the "
    "encoder reads len(text.positions) tokens and ends at text.end_token.",
    "": "In order: the numbers of the prompts, their vectors, and which of the numbers count.",
}


def three_of(answer: object, expected: Sequence[Tensor]) -> Sequence:
    """The three parts of a Prompt, or a sentence on what came in their place."""
    if answer is None:
        fail("Your code returned None where a Prompt should be. Is a return statement missing?")
    if isinstance(answer, Handle | Foreign | Tensor) or len(answer) != 3:
        fail("A Prompt holds three things: return Prompt(context, mask, pooled).")
    answer = list(answer.values()) if isinstance(answer, dict) else answer
    found = [part.shape if isinstance(part, Tensor) else None for part in answer]
    wanted = [part.shape for part in expected]
    if found != wanted and sorted(map(str, found)) == sorted(map(str, wanted)):
        fail("The three come in another order: Prompt(context, mask, pooled).")
    return answer


def check_reading(student, rng, texts: Sequence[str], what: str) -> None:
    reader = Reader(student, rng)
    expected = reader.read(texts)
    answer = ask(lambda: student.encode_prompt(reader.tokenizer, reader.text, texts), READ_HINTS)
    context, mask, pooled = three_of(answer, expected)
    order = "The prompts come back in another order: row i belongs to prompts[i]."
    expect_close(
        context,
        expected[0],
        f"the context of {what}",
        causes=causes_of(CONTEXT_MISTAKES, lambda way: reader.read(texts, way)[0])
        | {order: lambda: reader.read(texts[::-1])[0]},
        otherwise="It is the first answer of text(tokens), a vector for each token.",
        **CLOSE,
    )
    if isinstance(mask, Tensor) and mask.dtype != torch.bool:
        fail(f"The mask should be bool, True where a token counts; yours is {mask.dtype}.")
    expect_close(
        mask,
        expected[1],
        f"the mask of {what}",
        causes=causes_of(MASK_MISTAKES, lambda way: reader.read(texts, way)[1])
        | {order: lambda: reader.read(texts[::-1])[1]},
        otherwise="It is True from the first place up to the first end token, and there.",
    )
    expect_close(
        pooled,
        expected[2],
        f"the pooled vectors of {what}",
        causes=causes_of(POOLED_MISTAKES, lambda way: reader.read(texts, way)[2])
        | {order: lambda: reader.read(texts[::-1])[2]},
        otherwise="It is the second answer of text(tokens), a vector for each prompt.",
        **CLOSE,
    )


@exercise("encode_prompt")
def test_prompts_of_several_lengths(student, rng):
    texts = [TEXTS[1], "a star", "", "stars, lowest"]
    check_reading(
        student,
        rng,
        texts,
        "prompts of several lengths (compared with Hugging Face's transformers)",
    )


@exercise("encode_prompt")
def test_one_prompt_that_is_too_long(student, rng):
    check_reading(student, rng, [" ".join(TEXTS)], "a prompt that is too long")


@exercise("encode_prompt")
def test_empty_prompts(student, rng):
    check_reading(student, rng, ["", "", ""], "empty prompts")


@exercise("encode_prompt")
def test_the_three_parts_have_names(student, rng):
    reader = Reader(student, rng)
    made = ask(
        lambda: student.new("encode_prompt", reader.tokenizer, reader.text, TEXTS[:2]), READ_HINTS
    )
    for name in ("context", "mask", "pooled"):
        ask(
            lambda name=name: made.get(name),
            {"": f"What comes back has no .{name}: return Prompt(context, mask, pooled)."},
        )


@exercise("encode_prompt")
def test_reading_on_another_device(student, rng):
    """As on a GPU: the tokenizer counts on the CPU, the encoder lies elsewhere."""
    reader, given = Reader(student, rng), []
    context, pooled, positions = (
        student.elsewhere(normal(rng, *shape, WIDTH)) for shape in ((2, LENGTH), (2,), (LENGTH,))
    )

    def vectors(tokens=None, *_, **__):
        given.append(tokens)
        return context, pooled

    layer = student.new_torch("Linear", WIDTH, 5, bias=False).call("to", "meta")
    end = reader.theirs.eos_token_id
    text = thing(student, vectors, positions=positions, tokens=layer, end_token=end)
    answer = answer_of(lambda: student.encode_prompt(reader.tokenizer, text, TEXTS[:2]))
    expect(
        not any(isinstance(tokens, Tensor) for tokens in given),
        "On a GPU the encoder would get tokens that lie on the CPU, and stop. Move them to where "
        "its weights are, text.positions.device.",
    )
    expect(
        not (isinstance(answer, list | tuple) and any(isinstance(p, Tensor) for p in answer)),
        "On a GPU a part of the Prompt would be left on the CPU. Each belongs where the encoder's "
        "weights are, text.positions.device.",
    )


# --- TextToImage.__call__ -------------------------------------------------------------------------


class Studio:
    """The learner's TextToImage round parts that answer from here, and all that they were asked."""

    def __init__(self, student, rng, picture=(2, 3, 5), shift: float = 1.0):
        self.student, self.shift, self.factor = student, shift, 0.25
        self.reader = Reader(student, rng)
        self.pattern, self.colours = normal(rng, 2, *picture), normal(rng, 3, picture[0])
        self.asked: list[tuple[Tensor, Tensor]] = []  # x_t and t of each call of the transformer
        self.decoded: list[Tensor] = []
        self.unscaled: list[Tensor] = []
        nobody = partial(thing, student, lambda *_: None)
        transformer = thing(student, self.direction, network=nobody(picture=picture))
        space = nobody(
            decode=self.decode,
            vae=nobody(decode=self.decode_unscaled),
            scaling_factor=torch.tensor(self.factor),
        )
        parts = (self.reader.tokenizer, self.reader.text, transformer, space)
        self.pipe = ask(
            lambda: student.new("TextToImage", *parts, size=2 * picture[1], shift=shift),
            {"": "Leave the rest of the class as it is: only __call__ is yours."},
        )

    def direction(
        self, x_t=None, t=None, context=None, mask=None, pooled=None, *more, **names
    ) -> Tensor:
        """What the learner's self.transformer(z_t, t, context, mask, pooled) gives."""
        given = (x_t, t, context, mask, pooled)
        if more or names or not all(isinstance(each, Tensor) for each in given):
            fail(
                "The transformer is called as transformer(z_t, t, context, mask, pooled), with "
                "five tensors; the last three are a Prompt's."
            )
        axes = [each.ndim for each in given[2:]]
        if axes != [3, 2, 2] or mask.dtype != torch.bool:
            fail(
                "The transformer is called as transformer(z_t, t, context, mask, pooled), with the "
                f"three of a Prompt in that order; it got some of {axes[0]}, {axes[1]} and "
                f"{axes[2]} axes, and a mask of {mask.dtype}."
            )
        if x_t.shape[1:] != self.pattern.shape[1:]:
            fail(
                f"The transformer draws latents of {tuple(self.pattern.shape[1:])}; it was shown "
                f"some of {tuple(x_t.shape[1:])}. self.noise knows the shape."
            )
        counts = [len(each) if each.ndim else 0 for each in given]
        if len(set(counts)) > 1:
            found = "The transformer got {} latents, {} times and {} prompts; ".format(*counts)
            found += "it wants as many of each. "
            if counts[0] == counts[1] > counts[2]:
                fail(f"{found}Each picture wants an empty prompt of its own beside its prompt.")
            fail(f"{found}Who asks for both halves at once doubles z_t and t, too.")
        self.asked.append((x_t, t))
        return self.field(*given)

    def field(self, x_t: Tensor, t: Tensor, context: Tensor, mask: Tensor, pooled: Tensor):
        """A smooth function of all that it is told, each row by itself."""
        seen = (context * mask[..., None]).sum((1, 2)) / 4
        told = column(seen + pooled.mean(1), x_t) * self.pattern[0]
        return 0.6 * torch.sin(x_t + column(t, x_t)) + told + 0.3 * self.pattern[1]

    def decode(self, z_0: Tensor) -> Tensor:
        self.decoded.append(z_0)
        return self.painted(z_0 / self.factor)

    def decode_unscaled(self, z: Tensor) -> Tensor:
        self.unscaled.append(z)
        return self.painted(z)

    def painted(self, z: Tensor) -> Tensor:
        """Latents (B, c, h, w) as pictures (B, 3, 2h, 2w), a little beyond [-1, 1]."""
        images = 1.1 * torch.tanh(torch.einsum("kc,bchw->bkhw", self.colours, z))
        return images.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def mixed(self, wanted: tuple, nothing: tuple, scale: float, wrong: str = "") -> Callable:
        """The direction with guidance; `wrong` makes one well-known mistake."""

        def direction(x_t: Tensor, t: Tensor | float) -> Tensor:
            t = t if isinstance(t, Tensor) else torch.full((len(x_t),), t)
            cond, uncond = self.field(x_t, t, *wanted), self.field(x_t, t, *nothing)
            ways = {
                "1 + w": uncond + (1 + scale) * (cond - uncond),
                "exchanged": cond + scale * (uncond - cond),
                "no guidance": cond,
                "only empty": uncond,
                "no difference": uncond + scale * cond,
                "difference alone": scale * (cond - uncond),
                "scaled cond": scale * cond,
                "scale 3": uncond + 3.0 * (cond - uncond),
                "scale 5": uncond + 5.0 * (cond - uncond),
                "minus": uncond - scale * (cond - uncond),
            }
            return ways.get(wrong, uncond + scale * (cond - uncond))

        return direction


GUIDANCE_MISTAKES = {
    "no guidance": "There is no guidance: the answer with the empty prompt is missing, or it is "
    "not asked for at this scale.",
    "1 + w": "Guidance is one too strong (the papers' 1 + w, or a start from cond): here a scale "
    "of 1 is off, uncond + s · (cond − uncond).",
    "exchanged": "The two halves have changed places: the empty prompt's answer is uncond, the "
    "prompt's is cond. Which half is which, the order in your batch says.",
    "only empty": "The prompt has no influence: only the empty prompt's answer is used.",
    "no difference": "It is uncond + s · cond; the difference is missing: "
    "uncond + s · (cond − uncond).",
    "difference alone": "The uncond in front is missing: uncond + s · (cond − uncond).",
    "scaled cond": "The prompt's answer is multiplied by the scale; it is "
    "uncond + s · (cond − uncond).",
    "scale 3": "guidance_scale is not used: it is always 3.",
    "scale 5": "guidance_scale is not used: it is always 5.",
    "minus": "The difference is taken away; it is added.",
}
CALL_HINTS = {
    "got an unexpected keyword": "Keep the arguments of __call__ as they are.",
    "must match the size": "Do both halves and the latents have as many rows?",
    "has no attribute 'shape'": "guided_prediction wants tensors as the two conditions, not a "
    "Prompt: row numbers, for example, and a model that picks those rows of what was read.",
    "Cannot handle this data type": "to_pil wants pictures of three colours; are the latents never "
    "decoded?",
    "zero dimensional": "Prompts are joined field by field: torch.cat of the two contexts, of the "
    "two masks, of the two pooled vectors.",
    "": "Prompts and empty prompts are read, noise is drawn, the walk goes along the direction, "
    f"its end is decoded and becomes pictures: which of these stops? {OTHER_PIECES}",
}


def check_call(
    studio: Studio, prompt, steps: int, scale: float, seed: int, each: int, watch: bool = False
) -> list:
    """One call of the learner's TextToImage, looked at from all sides."""
    student, pipe, reader = studio.student, studio.pipe, studio.reader
    for kept in (studio.asked, studio.decoded, studio.unscaled, reader.texts):
        kept.clear()
    seen: list[tuple] = []
    more = {"on_step": lambda *given: seen.append(given)} if watch else {}
    pictures = ask(lambda: pipe(prompt, steps, scale, seed, each, **more), CALL_HINTS)
    asked, silence_read = list(studio.asked), "" in reader.texts
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    texts = [text for text in prompts for _ in range(each)]
    decoded = latents_of(studio)
    if watch and reports(student):
        check_reports(seen, decoded, steps)
    noise = pipe.call("noise", len(texts), seed)
    check_start(asked, noise, pipe.call("noise", len(texts), 0))
    if len(decoded) != len(texts):
        fail(
            f"{len(prompts)} prompt{'s' * (len(prompts) > 1)} with {each} picture"
            f"{'s' * (each > 1)} of each make {len(texts)} pictures; yours decodes {len(decoded)}."
        )
    wanted, nothing = (
        own(lambda told=told: student.encode_prompt(reader.tokenizer, reader.text, told))
        for told in (texts, [""] * len(texts))
    )
    mixed = partial(studio.mixed, nothing=nothing, scale=scale)
    times = euler_times(steps, studio.shift)
    advice = "Row by row: the noise, the walk along uncond + s · (cond − uncond), its end."
    if scale != 1 and not silence_read:
        advice = 'Guidance compares with the empty prompt, "": yours never reads it.'
    expect_close(
        decoded,
        own(lambda: student.sample_euler(mixed(wanted), noise, times)),
        f"the latents at the end (guidance_scale {scale:g})",
        causes={
            **causes_of(
                GUIDANCE_MISTAKES, lambda way: walk(mixed(wanted, wrong=way), noise, times)
            ),
            **other_ends(studio, mixed, wanted, noise, steps),
            "The prompts are repeated in the wrong order: all pictures of the first prompt come "
            "first, then those of the second.": lambda: walk(
                mixed(reader.read(prompts * each)), noise, times
            ),
        },
        otherwise=advice,
        **CLOSE,
    )
    if scale == 1 and sum(len(x_t) for x_t, _ in asked) > steps * len(texts):
        fail(
            "With guidance_scale 1 the transformer should be asked once for each picture and step, "
            "and only with the prompt: the empty one cancels out. (It costs half the time.)"
        )
    check_pictures(pictures, to_pil(studio.painted(decoded / studio.factor)))
    return pictures


def other_ends(
    studio: Studio, mixed: Callable, wanted: tuple, noise: Tensor, steps: int
) -> dict[str, Callable]:
    """Where one arrives with the right direction and a mistake around it."""

    def end(steps: int = steps, shift: float = studio.shift) -> Tensor:
        return walk(mixed(wanted), noise, euler_times(steps, shift))

    wrong_scale = {}
    if studio.unscaled:
        sentence = (
            "The latents go to the autoencoder at the wrong scale: decode with self.space.decode, "
            "which divides by the scaling factor."
        )
        wrong_scale = {
            sentence: lambda: end() * studio.factor,
            sentence + " ": lambda: end() * studio.factor**2,
        }
    return wrong_scale | {
        "self.shift is not used: euler_times takes it as its second argument.": lambda: end(
            shift=1.0
        ),
        "num_inference_steps is not used: it is always 25.": lambda: end(25),
        "There is a step too few.": lambda: end(steps - 1),
        "There is a step too many.": lambda: end(steps + 1),
        "The latents are divided by the scaling factor once too often: space.decode does "
        "it.": lambda: end() / studio.factor,
        "The latents are multiplied by the scaling factor; space.decode does what is "
        "needed.": lambda: end() * studio.factor,
        "The latents are clipped; they may be as large as they like.": lambda: end().clamp(-1, 1),
        "The noise is decoded as it was drawn: the walk's end is not used.": lambda: noise,
    }


def latents_of(studio: Studio) -> Tensor:
    """All latents that the learner's code decoded, or a sentence on what it did with them."""
    expect(studio.asked, "The transformer is never asked, so nothing can be drawn.")
    found = [*studio.decoded, *(z * studio.factor for z in studio.unscaled)]
    expect(found, "The latents are never decoded: self.space.decode(z_0).")
    return torch.cat(found)


def check_start(asked: list, noise: Tensor, usual: Tensor) -> None:
    """Each row of noise should be where one of the walks began."""
    shown = torch.cat([x_t for x_t, _ in asked])

    def began(rows: Tensor) -> bool:
        gaps = (shown[:, None] - rows[None]).flatten(2).abs().amax(2)  # (shown, rows)
        return bool((gaps.amin(0) < 1e-5).all())

    if began(noise):
        return
    start = "The walk should begin at t = 1 with self.noise, a row for each picture, of this seed"
    if began(usual):
        fail(f"{start}; yours has the noise of seed 0 whatever the seed is.")
    if began(noise[:1]):
        fail(
            f"{start}; yours has too few rows of it, or the same for several pictures. Does "
            "repeat_prompts make the list of prompts, num_images of each, and has the noise as "
            "many rows?"
        )
    fail(f"{start}; yours begins somewhere else.")


def reports(student) -> bool:
    """Whether the learner's sample_euler calls on_step; where not, that is its own mistake."""
    seen: list = []
    times, x_1 = torch.tensor([1.0, 0.5]), torch.ones(1, 1)
    own(lambda: student.sample_euler(lambda x, _: x, x_1, times, lambda *given: seen.append(given)))
    return len(seen) == 1 and len(seen[0]) == 3


def check_reports(seen: list[tuple], decoded: Tensor, steps: int) -> None:
    expect(
        len(seen) == steps,
        f"on_step should be called once after each of {steps} steps, yours is called {len(seen)} "
        "times: hand it on to sample_euler.",
    )
    expect(
        len(seen[-1]) == 3 and matches(torch.as_tensor(seen[-1][1]), decoded, **CLOSE),
        "on_step should see the latents on the way: hand it on to sample_euler.",
    )


def check_pictures(pictures: object, expected: list) -> None:
    if not isinstance(pictures, list | tuple):
        found = "None" if pictures is None else getattr(pictures, "type_name", "something else")
        found = "a tensor" if isinstance(pictures, Tensor) else found
        fail(f"A list of PIL images should come back, yours is {found}: to_pil makes it.")
    if not all(isinstance(picture, Handle) for picture in pictures):
        fail("The list should hold PIL images: to_pil(images) makes them.")
    expect(
        len(pictures) == len(expected),
        f"{len(expected)} pictures were asked for, {len(pictures)} come back.",
    )
    for number, (picture, right) in enumerate(zip(pictures, expected, strict=True)):
        expect_close(
            picture.pixels().float(),
            torch.from_numpy(np.array(right)).float(),
            f"picture {number} of {len(expected)}",
            otherwise="The latents are right; the picture should be what self.space.decode makes "
            "of them, by to_pil, in the same order.",
            rtol=0,
            atol=1,
        )


@exercise("TextToImage.__call__")
def test_one_picture_of_one_prompt(student, rng):
    studio = Studio(student, rng)
    check_call(studio, TEXTS[1], steps=3, scale=2.5, seed=7, each=1)


@exercise("TextToImage.__call__")
def test_several_pictures_of_several_prompts(student, rng):
    studio = Studio(student, rng, picture=(3, 4, 2), shift=2.0)
    check_call(studio, ["a red star", TEXTS[2], "a star"], steps=4, scale=4.0, seed=11, each=2)


@exercise("TextToImage.__call__")
def test_guidance_off_and_without_a_prompt(student, rng):
    studio = Studio(student, rng)
    for scale in (1, 1.0, 0.0):
        check_call(studio, ["a red star", "one seven"], steps=2, scale=scale, seed=3, each=1)


@exercise("TextToImage.__call__")
def test_the_seed_decides(student, rng):
    studio = Studio(student, rng, picture=(1, 2, 2), shift=3.0)
    few = check_call(studio, TEXTS[0], steps=2, scale=3.0, seed=5, each=2)
    many = check_call(studio, (TEXTS[0],), steps=2, scale=3.0, seed=5, each=3)
    for one, other in zip(few, many, strict=False):
        expect(
            torch.equal(one.pixels(), other.pixels()),
            "The same seed gives other pictures when more of them are drawn.",
        )


@exercise("TextToImage.__call__")
def test_every_step_is_reported(student, rng):
    studio = Studio(student, rng, picture=(2, 2, 2))
    check_call(studio, ["a star"], steps=5, scale=1.5, seed=1, each=2, watch=True)
