"""Hidden tests of lesson 1, noise schedules.

Compared with diffusers' DDPMScheduler, with closed forms, and with a walk along the chain.
"""

import math

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from autograder.picture import Curve, drawable, pictured
from autograder.remote import RemoteError
from autograder.testing import exercise, expect, expect_close, fail
from autograder.testing_modules import ask, still_is

FLOAT32 = "The docstring asks for float32; NumPy and Python count in float64 unless told otherwise."
DEFAULTS = "Leave the defaults of the signature as they are."
SHADOWED = (
    "Inside this function `alphas_cumprod` is its argument, the tensor of all ᾱ, and not your "
    "function of that name: use it as it is."
)
HALVED = (
    "`** 1/2` takes the power 1 and then halves, since powers come before division: write "
    "`** 0.5` or `.sqrt()`."
)


def randint(rng: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high, (), generator=rng))


def uniform(rng: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng, dtype=torch.float64))


def rising_betas(rng: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """A schedule that nobody can have hard-coded."""
    betas = torch.rand(randint(rng, 14, 40), generator=rng, dtype=torch.float64).sort().values
    return (0.01 + 0.2 * betas).to(dtype)


def scheduler(betas: Tensor) -> DDPMScheduler:
    return DDPMScheduler(num_train_timesteps=len(betas), trained_betas=betas.numpy())


def usual() -> Tensor:
    """ᾱ of the linear schedule with its 1,000 steps, which pictures are drawn for."""
    return DDPMScheduler().alphas_cumprod


USUAL = "for the linear schedule with 1,000 steps"


def advice_on_defaults(actual: object, values: str) -> str:
    """What to say where a schedule with its default arguments differs.

    Args:
        actual: what the learner's function returned.
        values: advice where the dtype is right, so that the values must be wrong.
    """
    right_dtype = getattr(actual, "dtype", torch.float32) == torch.float32
    return values if right_dtype else FLOAT32


# linear_betas


@exercise("linear_betas")
def test_linear_betas_values(student, rng):
    steps = randint(rng, 20, 60)
    start, end = uniform(rng, 1e-3, 5e-3), uniform(rng, 0.05, 0.2)
    t = torch.arange(steps)
    line = DDPMScheduler(steps, beta_start=start, beta_end=end, beta_schedule="linear").betas
    expect_close(
        student.linear_betas(steps, start, end),
        line,
        "the linear betas",
        causes={
            "The last beta falls short of beta_end: T values have only T - 1 strides between "
            "them, and both ends belong to the schedule.": start + (end - start) * t / steps,
            "The first beta is already one stride too large: t counts from 0, so the first beta "
            "is beta_start itself.": start + (end - start) * (t + 1) / steps,
            "You go in equal strides from √beta_start to √beta_end and square: that is Stable "
            "Diffusion's scaled_linear schedule, here the betas themselves lie on a line.":
                torch.linspace(start**0.5, end**0.5, steps) ** 2,
            "Each beta is the same factor times the one before (a geometric series); here it is "
            "the same amount more.":
                torch.logspace(math.log10(start), math.log10(end), steps),
            "These are the default strengths: beta_start and beta_end are arguments, use them.":
                torch.linspace(1e-4, 0.02, steps),
            "These are the alphas, 1 - beta; the function returns the betas.": 1 - line,
            "The schedule runs backwards: t = 0 is the least noisy step.": line.flip(0),
            "There is one value too many: T steps need T betas.":
                torch.linspace(start, end, steps + 1),
            "The last value is missing: torch.arange leaves out its end, as range does, and "
            "beta_end belongs to the schedule.": line[:-1],
        },
        otherwise="They should rise from beta_start to beta_end by the same amount at each step "
        "(Ho et al. 2020, section 4).",
    )  # fmt: skip


@exercise("linear_betas")
def test_linear_betas_defaults(student):
    actual = student.linear_betas()
    expect_close(
        actual,
        DDPMScheduler().betas,
        "linear_betas() with its default arguments",
        otherwise=advice_on_defaults(actual, DEFAULTS),
        rtol=1e-4,
        atol=1e-7,
        check_dtype=True,
    )


@pictured("linear_betas")
def test_linear_betas_picture(student, draw):
    expected = DDPMScheduler().betas
    panel = Curve("linear_betas()", student.linear_betas(), expected, "step t", "beta")
    draw(panel, inputs="with the default arguments")


# cosine_betas


def cosine_signal(steps: int, s: float = 0.008, power: int = 2, angle: float = math.pi / 2):
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    return torch.cos((u + s) / (1 + s) * angle) ** power


def cosine_mistakes(steps: int, s: float, max_beta: float) -> dict[str, Tensor]:
    f = cosine_signal(steps, s)
    ratio = f[1:] / f[:-1]
    no_square = cosine_signal(steps, s, power=1)
    no_s = cosine_signal(steps, 0.0)
    whole = cosine_signal(steps, s, angle=math.pi)
    short = cosine_signal(steps - 1, s)
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    loose = torch.cos(u + s / (1 + s) * math.pi / 2) ** 2
    undivided = cosine_signal(steps, s, angle=(1 + s) * math.pi / 2)
    below = torch.cos((u + s) / 1 + s * math.pi / 2) ** 2
    below_too = torch.cos(((u + s) / 1 + s) * math.pi / 2) ** 2
    inside = torch.cos(((u + s) / (1 + s) * math.pi / 2) ** 2)
    counted = torch.cos((u * steps + s) / (1 + s) * math.pi / 2) ** 2
    thousandths = torch.cos((u * steps / 1000 + s) / (1 + s) * math.pi / 2) ** 2
    return {
        "The square is missing: f is cos², not cos.":
            (1 - no_square[1:] / no_square[:-1]).clamp(max=max_beta),
        "The small offset s is missing: f looks at (u + s) / (1 + s), not at u alone.":
            (1 - no_s[1:] / no_s[:-1]).clamp(max=max_beta),
        "The last beta is 1: the upper limit max_beta is missing.": 1 - ratio,
        "You return ᾱ, what is left of the picture; one more step turns it into betas: a beta is "
        "what one step takes away, 1 - ᾱ_t / ᾱ_(t-1).": f[1:] / f[0],
        "You return f itself, what is left of the picture; one more step turns it into betas: a "
        "beta is what one step takes away, 1 - ᾱ_t / ᾱ_(t-1).": f[1:],
        "You return f itself, what is left of the picture; one more step turns it into betas: a "
        "beta is what one step takes away, 1 - ᾱ_t / ᾱ_(t-1). ": f[:-1],
        "You return 1 - f, the noise gathered since the beginning; a beta is the noise of one "
        "step alone, 1 - ᾱ_t / ᾱ_(t-1).": (1 - f[1:]).clamp(max=max_beta),
        "You return 1 - ᾱ, the noise gathered since the beginning; a beta is the noise of one "
        "step alone, 1 - ᾱ_t / ᾱ_(t-1).": (1 - f[1:] / f[0]).clamp(max=max_beta),
        "You subtract neighbouring values of f; a beta compares them by division, "
        "1 - ᾱ_t / ᾱ_(t-1).": (f[:-1] - f[1:]).clamp(max=max_beta),
        "You return the alphas, f((t+1)/T) / f(t/T); beta is 1 minus that.": ratio,
        "The angle runs too far: it should end at π/2, where the cosine reaches 0.":
            (1 - whole[1:] / whole[:-1]).clamp(max=max_beta),
        "The first beta compares f(1/T) with 1: it is 1 - f(1/T) / f(0), and f(0), with its "
        "offset s, is not quite 1.":
            (1 - f[1:] / torch.cat([torch.ones(1), f[1:-1]])).clamp(max=max_beta),
        "A 1 stands before T values of f: the first ratio compares f(1/T) with f(0), so take "
        "f at T + 1 values of u and divide neighbours.":
            (1 - short / torch.cat([torch.ones(1), short[:-1]])).clamp(max=max_beta),
        "The betas are one step late: the first compares f(1/T) with f(0), not f(0) with itself.":
            torch.cat([torch.zeros(1), (1 - ratio[:-1])]).clamp(max=max_beta),
        "The betas are one step late: the first compares f(1/T) with f(0), and the last one f(1) "
        "with the one before it. Do you need T + 1 values of u?":
            torch.cat([1 - f[:1], (1 - ratio[:-1])]).clamp(max=max_beta),
        "There is one beta too few: T betas are ratios of neighbours, so f is needed at T + 1 "
        "points, both ends included.": (1 - short[1:] / short[:-1]).clamp(max=max_beta),
        "There is one beta too few: u stops at (T - 1)/T. T ratios need T + 1 values of u, and the "
        "last of them is 1.": (1 - ratio[:-1]).clamp(max=max_beta),
        "Brackets are missing: all of (u + s), not s alone, is divided by 1 + s and multiplied by "
        "π/2.": (1 - loose[1:] / loose[:-1]).clamp(max=max_beta),
        "There is a beta more than steps: leave out what does not compare two neighbours.":
            torch.cat([torch.zeros(1), (1 - ratio).clamp(max=max_beta)]),
        "Brackets are missing below the line: `(u + s) / 1 + s` divides by 1 and then adds s. It "
        "is (u + s) / (1 + s).": (1 - below[1:] / below[:-1]).clamp(max=max_beta),
        "Brackets are missing below the line: `(u + s) / 1 + s` divides by 1 and then adds s. It "
        "is (u + s) / (1 + s). ": (1 - below_too[1:] / below_too[:-1]).clamp(max=max_beta),
        "You square the angle; f is the square of the cosine, torch.cos(…) ** 2.":
            (1 - inside[1:] / inside[:-1]).clamp(max=max_beta),
        "u counts whole steps; divide it by T (num_train_timesteps), so that it ends at 1.":
            (1 - counted[1:] / counted[:-1]).clamp(max=max_beta),
        "You divide by 1000, whatever T is: u must end at 1, so divide by num_train_timesteps.":
            (1 - thousandths[1:] / thousandths[:-1]).clamp(max=max_beta),
        "The limit works from below: the first argument of clamp is the lower limit. An upper one "
        "is clamp(max=max_beta), or torch.minimum.": (1 - ratio).clamp(min=max_beta),
        "The ratio is upside down: it is the later f over the earlier one.":
            (1 - f[:-1] / f[1:]).clamp(max=max_beta),
        "You return ratio - 1; a beta is 1 minus the ratio, the later f over the earlier one.":
            (1 / ratio - 1).clamp(max=max_beta),
        "f looks at (u + s) / (1 + s); the division by 1 + s is missing.":
            (1 - undivided[1:] / undivided[:-1]).clamp(max=max_beta),
        "The square root of the ratio went in: f is ᾱ already, and beta is 1 - f((t+1)/T) / f(t/T)"
        " without a root.": (1 - ratio.sqrt()).clamp(max=max_beta),
    }  # fmt: skip


COSINE_HINTS = {
    "Boolean value of Tensor": "Python's min compares two numbers, not each number of a tensor: "
    "use .clamp(max=max_beta).",
    "converted to": "What takes one number (math.cos, float) got a whole tensor; torch.cos takes "
    "all of u at once.",
    "": "",
}


@exercise("cosine_betas")
def test_cosine_betas_values(student, rng):
    steps = randint(rng, 20, 60)
    expect_close(
        ask(lambda: student.cosine_betas(steps), COSINE_HINTS),
        DDPMScheduler(steps, beta_schedule="squaredcos_cap_v2").betas,
        "the cosine betas",
        causes=cosine_mistakes(steps, 0.008, 0.999),
        otherwise="Compare with the formula in section 7, piece by piece: the list of u, f, the "
        "ratio of neighbouring values of f (the later over the earlier), 1 minus that, the limit.",
        rtol=3e-4,
        atol=1e-6,
    )


@exercise("cosine_betas")
def test_cosine_betas_arguments(student, rng):
    steps = randint(rng, 20, 60)
    s, max_beta = uniform(rng, 0.03, 0.1), uniform(rng, 0.2, 0.5)
    f, usual = cosine_signal(steps, s), cosine_signal(steps)
    betas = 1 - f[1:] / f[:-1]
    replaced = betas.clone()
    replaced[-1] = max_beta
    student.cosine_betas(steps)  # nothing of this call may be kept for the next
    expect_close(
        student.cosine_betas(steps, s=s, max_beta=max_beta),
        betas.clamp(max=max_beta).float(),
        "the cosine betas of another s and another max_beta",
        causes={
            "Here s is not 0.008, but you use 0.008: s is an argument. Is it written into the "
            "formula, or is f kept from an earlier call?":
                (1 - usual[1:] / usual[:-1]).clamp(max=max_beta),
            "You limit the betas by a number of your own: max_beta is an argument.":
                betas.clamp(max=0.999),
            "You limit the betas by a number of your own: max_beta is an argument. ":
                betas.clamp(max=0.9999),
            "Only the last beta is limited: each one that is larger than max_beta is cut to it.":
                replaced,
            "You shrink the whole schedule until it fits below max_beta; only the betas that are "
            "too large are cut.": betas * (max_beta / betas.max()),
        },
        otherwise="Do both arguments, s and max_beta, have an effect?",
        rtol=3e-4,
        atol=1e-6,
    )  # fmt: skip


@exercise("cosine_betas")
def test_cosine_betas_defaults(student):
    f = cosine_signal(1000)
    betas = 1 - f[1:] / f[:-1]
    actual = student.cosine_betas()
    exact = (
        "With many steps the last betas divide tiny numbers: compute in float64 with math.pi, and "
        f"only then .float(). {DEFAULTS}"
    )
    expect_close(
        actual,
        DDPMScheduler(beta_schedule="squaredcos_cap_v2").betas,
        "cosine_betas() with its default arguments",
        causes={
            "The smallest betas are cut off from below; there is only an upper limit.":
                betas.clamp(1e-4, 0.999),
            "The smallest betas are cut off from below; there is only an upper limit. ":
                betas.clamp(1e-4, 0.9999),
            "The smallest betas are cut off from below; there is only an upper limit.  ":
                betas.clamp(1e-3, 0.999),
        },
        otherwise=advice_on_defaults(actual, exact),
        rtol=3e-4,
        atol=1e-6,
        check_dtype=True,
    )  # fmt: skip


@pictured("cosine_betas")
def test_cosine_betas_picture(student, draw):
    yours, expected = student.cosine_betas(), DDPMScheduler(beta_schedule="squaredcos_cap_v2").betas
    panel = Curve("cosine_betas()", yours, expected, "step t", "beta", yscale="log")
    draw(panel, inputs="with the default arguments")


# alphas_cumprod


@exercise("alphas_cumprod")
def test_alphas_cumprod_values(student, rng):
    betas = rising_betas(rng)
    right = scheduler(betas).alphas_cumprod
    expect_close(
        student.alphas_cumprod(betas),
        right,
        "the picture's share after each step",
        causes={
            "You multiply the betas; the share that a step leaves is 1 - beta.": betas.cumprod(0),
            "You multiply the betas and subtract from 1; each beta must be subtracted from 1 "
            "before multiplying.": 1 - betas.cumprod(0),
            "You add the factors up (cumsum); what is left after several steps is their product.":
                (1 - betas).cumsum(0),
            "You add the betas up and subtract; each step takes a share of what is left, so the "
            "shares multiply (cumprod, not cumsum).": 1 - betas.cumsum(0),
            "You add the betas up in the exponent: close for tiny betas, but the product of "
            "1 - beta is not exactly exp(-sum of beta).": torch.exp(-betas.cumsum(0)),
            "These are the alphas of single steps; ᾱ_t multiplies all of them up to step t.":
                1 - betas,
            "You return the square root of ᾱ; the root is taken later, in add_noise.": right.sqrt(),
            "Every value is one step late: ᾱ_0 already includes the first step, 1 - beta_0.":
                torch.cat([torch.ones(1), right[:-1]]),
            "There is an extra 1 in front: ᾱ has one value a step.":
                torch.cat([torch.ones(1), right]),
            "You return a single number, the product over all steps; the running product after "
            "each step is needed.": right[-1],
            "The product runs backwards, from the last step: it should start at t = 0.":
                (1 - betas).flip(0).cumprod(0).flip(0),
            "You return 1 - ᾱ, the share of noise; the function returns that of the picture.":
                1 - right,
        },
        otherwise="ᾱ_t is the product of 1 - beta over the steps 0 to t (Ho et al. 2020, "
        "equation 4). The result has the dtype of betas.",
        check_dtype=True,
    )  # fmt: skip


@exercise("alphas_cumprod")
def test_alphas_cumprod_closed_form(student, rng):
    steps, beta = randint(rng, 30, 90), uniform(rng, 0.01, 0.1)
    betas = torch.full((steps,), beta, dtype=torch.float64)
    expect_close(
        student.alphas_cumprod(betas),
        (1 - beta) ** torch.arange(1, steps + 1, dtype=torch.float64),
        "ᾱ of a schedule in float64",
        otherwise="The docstring promises a result like betas: the same length and the same dtype.",
        check_dtype=True,
    )


@exercise("alphas_cumprod")
def test_alphas_cumprod_of_a_thousand_steps(student):
    hints = {
        "recursion": "A function that calls itself once a step stops after about a thousand "
        "calls, and the course's schedules have 1,000 steps: use a loop, or cumprod.",
        "": "",
    }
    betas = DDPMScheduler().betas
    expect_close(
        ask(lambda: student.alphas_cumprod(betas), hints),
        usual(),
        f"ᾱ {USUAL}",
        otherwise="With few steps your values are right; does each product go on to the next?",
    )


@exercise("alphas_cumprod")
def test_alphas_cumprod_leaves_betas_alone(student, rng):
    betas = rising_betas(rng)
    far = student.hold(betas)
    student.alphas_cumprod(far)
    still_is(far, betas, "betas")


@pictured("alphas_cumprod")
def test_alphas_cumprod_picture(student, draw):
    yours = student.alphas_cumprod(DDPMScheduler().betas)
    draw(Curve("what is left of the picture", yours, usual(), "step t", "ᾱ"), inputs=USUAL)


# add_noise


def noisy_inputs(rng, shape, dtype=torch.float32):
    betas = rising_betas(rng)
    x_0 = (torch.rand(shape, generator=rng, dtype=torch.float64) * 2 - 1).to(dtype)
    noise = torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)
    t = torch.randperm(len(betas) - 2, generator=rng)[: shape[0]] + 1
    return betas, x_0, noise, t


def call_add_noise(student, *args) -> Tensor:
    try:
        return student.add_noise(*args)
    except RemoteError as error:
        text = str(error)
        if "must match" in text or "broadcast" in text:
            fail(
                "PyTorch cannot multiply your values of ᾱ with the images: their shapes do not "
                "fit. A value a sample, (B,), must become (B, 1, 1, 1) to reach all pixels of "
                "its own image; `gather` does that."
            )
        if "Half" in text or "scalar" in text:
            fail(f"{text} Each sample has its own t: index with the whole tensor.")
        if "must be one step a sample" in text:
            fail(
                f"{text} That cell is given; what you hand to gather does not fit. First come all "
                "values, then the steps, then the pictures: gather(alphas_cumprod, t, like=x_0)."
            )
        if "not callable" in text and "alphas_cumprod(" in text:
            fail(f"{text} {SHADOWED}")
        raise


def add_noise_mistakes(x_0: Tensor, noise: Tensor, t: Tensor, ac: Tensor) -> dict:
    def mix(alpha_bar: Tensor, signal=torch.sqrt, rest=lambda a: (1 - a).sqrt()):
        return lambda: signal(alpha_bar) * x_0 + rest(alpha_bar) * noise

    a = ac[t].view(-1, 1, 1, 1)
    return {
        "Both square roots are missing: ᾱ and 1 - ᾱ are shares of variance, and what multiplies a "
        "picture is the root of that.": mix(a, lambda a: a, lambda a: 1 - a),
        "The square root on the picture is missing: ᾱ is a share of variance, √ᾱ multiplies x_0.":
            mix(a, lambda a: a),
        "The square root on the noise is missing: 1 - ᾱ is a share of variance, √(1 - ᾱ) "
        "multiplies the noise.": mix(a, rest=lambda a: 1 - a),
        HALVED: mix(a, lambda a: a / 2, lambda a: (1 - a) / 2),
        "The noise is multiplied by 1 - √ᾱ, it should be √(1 - ᾱ): first subtract, then take the "
        "root.": mix(a, rest=lambda a: 1 - a.sqrt()),
        "Picture and noise have changed places: √ᾱ belongs to x_0.":
            mix(1 - a),
        "All samples get the step of the first one: each sample has its own t.": mix(ac[t[0]]),
        "All samples get the step of the last one: each sample has its own t.": mix(ac[t[-1]]),
        "Your values of ᾱ run along the width of the image instead of along the batch: reshape "
        "them from (B,) to (B, 1, 1, 1), or use `gather`.": mix(ac[t]),
        "Your values of ᾱ run along the height of the image instead of along the batch: reshape "
        "them from (B,) to (B, 1, 1, 1), or use `gather`.": lambda: mix(ac[t].view(-1, 1))(),
        "Your values of ᾱ run along the channels instead of along the batch: reshape them from "
        "(B,) to (B, 1, 1, 1), or use `gather`.": lambda: mix(ac[t].view(-1, 1, 1))(),
        "The step is off by one (one too early): t counts from 0, and alphas_cumprod[t] already "
        "is the share at step t.": mix(ac[t - 1].view(-1, 1, 1, 1)),
        "The step is off by one (one too late): t counts from 0, and alphas_cumprod[t] already "
        "is the share at step t.": mix(ac[t + 1].view(-1, 1, 1, 1)),
        "You take the running product once more: alphas_cumprod is ᾱ already.":
            lambda: mix(ac.cumprod(0)[t].view(-1, 1, 1, 1))(),
        "You treat alphas_cumprod as betas: what arrives is ᾱ already.":
            lambda: mix((1 - ac).cumprod(0)[t].view(-1, 1, 1, 1))(),
        "√ᾱ multiplies the noise as well: it belongs to x_0 alone, outside of the bracket.":
            lambda: a.sqrt() * (x_0 + (1 - a).sqrt() * noise),
        "The noise is subtracted; add_noise adds it.":
            mix(a, rest=lambda a: -((1 - a).sqrt())),
        "x_t is cut off at -1 and 1. Noise goes beyond, and nothing limits it: no clamp.":
            lambda: mix(a)().clamp(-1, 1),
        "The picture is at full strength and the noise comes on top, so the variance grows: "
        "x_0 must be multiplied by √ᾱ.": mix(a, torch.ones_like),
    }  # fmt: skip


MIX = "x_t = √ᾱ_t · x_0 + √(1 - ᾱ_t) · noise, each sample with its own t (Ho et al. 2020, eq. 4)."


@exercise("add_noise")
def test_add_noise_values(student, rng):
    betas, x_0, noise, t = noisy_inputs(rng, (5, 3, 7, 9))
    reference = scheduler(betas)
    ac = reference.alphas_cumprod
    actual = call_add_noise(student, x_0, noise, t, ac)
    if isinstance(actual, Tensor) and actual.shape == x_0.shape:
        expect(
            torch.equal(call_add_noise(student, x_0, noise, t, ac), actual),
            "The same inputs give another result each time: you draw noise of your own. The noise "
            "comes in as an argument, use that.",
        )
    expect_close(
        actual,
        reference.add_noise(x_0, noise, t),
        "the noisy images",
        causes=add_noise_mistakes(x_0, noise, t, ac),
        otherwise=MIX,
    )


@exercise("add_noise")
def test_add_noise_as_wide_as_the_batch(student, rng):
    betas, x_0, noise, t = noisy_inputs(rng, (6, 6, 6, 6))
    reference = scheduler(betas)
    expect_close(
        call_add_noise(student, x_0, noise, t, reference.alphas_cumprod),
        reference.add_noise(x_0, noise, t),
        "the noisy images of a batch as large as an image is wide",
        causes=add_noise_mistakes(x_0, noise, t, reference.alphas_cumprod),
        otherwise=MIX,
    )


@exercise("add_noise")
def test_add_noise_of_one_picture(student, rng):
    betas, x_0, noise, t = noisy_inputs(rng, (1, 1, 4, 6))
    reference = scheduler(betas)
    hint = "squeeze() takes a batch of one away; index with [:, None, None, None], or use gather."
    expect_close(
        ask(
            lambda: call_add_noise(student, x_0, noise, t, reference.alphas_cumprod),
            {"": f"That was a batch of one picture. {hint}"},
        ),
        reference.add_noise(x_0, noise, t),
        "the noisy image of a batch of one",
        causes=add_noise_mistakes(x_0, noise, t, reference.alphas_cumprod),
        otherwise=f"{MIX} {hint}",
    )


@exercise("add_noise")
def test_add_noise_agrees_with_the_chain(student, rng):
    """Walk the chain with numbers instead of samples: the mean and the variance of each step."""
    betas = rising_betas(rng, torch.float64)
    mean, variance, means, variances = 1.0, 0.0, [], []
    for beta in betas.tolist():
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        means.append(mean)
        variances.append(variance)
    ac = (1 - betas).cumprod(0)
    t = torch.arange(len(betas))
    one = torch.ones(len(betas), 1, 2, 3, dtype=torch.float64)
    picture = call_add_noise(student, one, torch.zeros_like(one), t, ac)
    spread = call_add_noise(student, torch.zeros_like(one), one, t, ac)
    hint = f"One jump to step t must give what walking t + 1 small steps gives. {MIX}"
    expected = torch.tensor(means, dtype=torch.float64).view(-1, 1, 1, 1) * one
    expect_close(picture, expected, "what is left of the picture at every step, first and last "
                 "included", otherwise=hint)  # fmt: skip
    expected = torch.tensor(variances, dtype=torch.float64).sqrt().view(-1, 1, 1, 1) * one
    expect_close(spread, expected, "the strength of the noise at every step, first and last "
                 "included", otherwise=hint)  # fmt: skip


@exercise("add_noise")
def test_add_noise_dtypes(student, rng):
    for dtype in (torch.float64, torch.bfloat16):
        betas, x_0, noise, t = noisy_inputs(rng, (3, 1, 5, 4), dtype)
        reference = scheduler(betas)
        expected = reference.add_noise(x_0.double(), noise.double(), t).to(dtype)
        expect_close(
            call_add_noise(student, x_0, noise, t, reference.alphas_cumprod),
            expected,
            f"x_t of images in {dtype}",
            otherwise="The result should have x_0's dtype, whatever that of alphas_cumprod is: "
            "convert the gathered ᾱ with .to(x_0.dtype), or use `gather`.",
            rtol=3e-2 if dtype is torch.bfloat16 else 1e-6,
            atol=3e-2 if dtype is torch.bfloat16 else 1e-6,
            check_dtype=dtype is torch.float64,  # with bfloat16 a float32 ᾱ may win: no mistake
        )


@exercise("add_noise")
def test_add_noise_leaves_its_inputs_alone(student, rng):
    betas, x_0, noise, t = noisy_inputs(rng, (3, 1, 4, 4))
    ac = scheduler(betas).alphas_cumprod
    far = [student.hold(value) for value in (x_0, noise, ac)]
    call_add_noise(student, far[0], far[1], t, far[2])
    for value, before, name in zip(
        far, (x_0, noise, ac), ("x_0", "noise", "alphas_cumprod"), strict=True
    ):
        still_is(value, before, name)


@pictured("add_noise")
def test_add_noise_picture(student, draw):
    ac, t = usual(), torch.arange(1000)
    one = torch.ones(1000, 1, 1, 1)
    left = drawable(student.add_noise(one, torch.zeros_like(one), t, ac))
    noise = drawable(student.add_noise(torch.zeros_like(one), one, t, ac))
    flat = [each.flatten() if each.shape == one.shape else each for each in (left, noise)]
    draw(
        Curve("what is left of the picture", flat[0], ac.sqrt(), "step t", "times x_0"),
        Curve("how strong the noise is", flat[1], (1 - ac).sqrt(), "step t", "times the noise"),
        inputs=USUAL,
    )


# snr


@exercise("snr")
def test_snr_values(student, rng):
    ac = scheduler(rising_betas(rng)).alphas_cumprod
    ratio = (ac.double().sqrt() / (1 - ac.double()).sqrt()) ** 2
    expect_close(
        ask(lambda: student.snr(ac), {"alphas_cumprod(": SHADOWED, "": ""}),
        ratio.float(),
        "the signal-to-noise ratio",
        causes={
            "It is upside down: signal over noise, ᾱ / (1 - ᾱ), is large where the picture is "
            "clear.": 1 / ratio,
            "You return its logarithm; the plot takes the log later.": ratio.log(),
            "You return its logarithm (base 10); the plot takes the log later.": ratio.log10(),
            "You return decibels, ten times the logarithm; the ratio itself is asked for.":
                10 * ratio.log10(),
            "You return the square root of the ratio: SNR compares variances, ᾱ and 1 - ᾱ, "
            "without a root.": ratio.sqrt(),
            "The ratio is squared once too often: ᾱ and 1 - ᾱ already are variances.": ratio**2,
            "You divide by √(1 - ᾱ): the noise's variance is 1 - ᾱ, without a root.":
                ac / (1 - ac).sqrt(),
            "You divide √ᾱ by 1 - ᾱ: the signal's variance is ᾱ, without a root.":
                ac.sqrt() / (1 - ac),
            "The signal, ᾱ, is missing above the line.": 1 / (1 - ac),
            "You divide by ᾱ twice or subtract 1 where it does not belong: noise is 1 - ᾱ.":
                (1 - ac) / ac - 1,
            "Brackets are missing: ᾱ / 1 - ᾱ is read as (ᾱ / 1) - ᾱ.": ac / 1 - ac,
            "You take the running product once more: alphas_cumprod is ᾱ already.":
                ac.cumprod(0) / (1 - ac.cumprod(0)),
            "You treat alphas_cumprod as betas: what arrives is ᾱ already.":
                (1 - ac).cumprod(0) / (1 - (1 - ac).cumprod(0)),
        },
        otherwise="SNR_t = ᾱ_t / (1 - ᾱ_t): the picture's variance over the noise's. It has the "
        "dtype of alphas_cumprod.",
        rtol=1e-3,
        atol=1e-6,
        check_dtype=True,
    )  # fmt: skip


@exercise("snr")
def test_snr_special_values(student, rng):
    ac = torch.rand(randint(rng, 3, 9), generator=rng, dtype=torch.float64) * 0.9
    ac[0], ac[-1] = 0.5, 0.0
    ac = ac.sort(descending=True).values
    expect_close(
        student.snr(ac),
        ac / (1 - ac),
        "the signal-to-noise ratio in float64, pure noise included",
        otherwise="It is 1 where picture and noise are equally strong, 0 where no picture is "
        "left, and it keeps the dtype of alphas_cumprod.",
        check_dtype=True,
    )


@exercise("snr")
def test_snr_of_nearly_clean_pictures(student):
    ac = torch.tensor([0.9998, 0.998, 0.98], dtype=torch.float64)
    expect_close(
        student.snr(ac),
        torch.tensor([4999.0, 499.0, 49.0], dtype=torch.float64),
        "the signal-to-noise ratio where the picture is nearly clean",
        otherwise="There it is in the thousands, and nothing limits it: no clamp.",
        rtol=1e-4,
    )


@exercise("snr")
def test_snr_leaves_its_input_alone(student, rng):
    ac = scheduler(rising_betas(rng)).alphas_cumprod
    far = student.hold(ac)
    student.snr(far)
    still_is(far, ac, "alphas_cumprod")


@pictured("snr")
def test_snr_picture(student, draw):
    ac = usual()
    panel = Curve("signal over noise", student.snr(ac), ac / (1 - ac), "step t", "SNR", None, "log")
    draw(panel, inputs=USUAL)


# rescale_zero_terminal_snr


def rescale_mistakes(betas: Tensor) -> dict[str, Tensor]:
    ab = (1 - betas).cumprod(0)
    root = ab.sqrt()
    first, last = root[0], root[-1]

    def back(alpha_bar: Tensor) -> Tensor:
        return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])

    right = ((root - last) * first / (first - last)) ** 2
    forced = betas.clone()
    forced[-1] = 1
    cut = ab.clone()
    cut[-1] = 0
    return {
        "The betas come back unchanged.": betas,
        "Only the last step was overwritten, so the picture vanishes in one jump; all of √ᾱ is "
        "shifted, so that every step takes its part.": forced,
        "Only the last ᾱ was set to 0, so the picture vanishes in one jump; all of √ᾱ is "
        "shifted, so that every step takes its part.": back(cut),
        "The start has moved: after the shift, √ᾱ must be scaled so that its first value is what "
        "it was.": back((root - last) ** 2),
        "The first beta is 0, so the first step adds no noise. Two ways lead to it: a scale by "
        "which √ᾱ begins with 1 (its old first value is due), or comparing ᾱ_0 with itself "
        "(nothing came before it, so the first alpha is ᾱ_0).":
            torch.cat([torch.zeros_like(betas[:1]), back(right)[1:]]),
        "You shift and scale ᾱ itself; it is its square root, √ᾱ, that is shifted and scaled.":
            back((ab - ab[-1]) * ab[0] / (ab[0] - ab[-1])),
        HALVED: back(((ab - ab[-1]) / 2 * ab[0] / (ab[0] - ab[-1])) ** 2),
        "You divide by 1 - last, as if √ᾱ began with 1; it begins with first, so the scale is "
        "first / (first - last).": back(((root - last) / (1 - last)) ** 2),
        "Brackets are missing below the line: `first / first - last` divides first and then "
        "subtracts. The scale is first / (first - last).":
             back(((root - last) * first / first - last) ** 2),
        "The square is missing on the way back from √ᾱ to ᾱ.": back(right.sqrt()),
        "You return ᾱ; one more step turns it back into betas.": right,
        "You return √ᾱ; two more steps turn it back into betas: square it, then compare "
        "neighbours.": right.sqrt(),
        "You return the alphas; beta is 1 - alpha.": 1 - back(right),
        "There is one beta too few: the first alpha is ᾱ_0 itself, put it in front of the ratios.":
            back(right)[1:],
        "The first value is ᾱ_0; the first beta is 1 - ᾱ_0. (Its alpha is ᾱ_0: put that in front "
        "of the ratios, then take 1 minus all of them.)":
            torch.cat([right[:1], back(right)[1:]]),
        "The betas are scaled until the last is 1; it is √ᾱ that has to be shifted and scaled.":
            betas / betas[-1],
        "You return 1 - ᾱ, the noise gathered since the beginning; beta is the noise of one step: "
        "1 - ᾱ_t / ᾱ_(t-1).": 1 - right,
        "You subtract neighbouring values of ᾱ; an alpha is their ratio, ᾱ_t / ᾱ_(t-1).":
            torch.cat([1 - right[:1], right[:-1] - right[1:]]),
        "Brackets are missing: first subtract last from √ᾱ, then multiply the difference.":
            back((root - last * first / (first - last)) ** 2),
        "Scaled, but not shifted: the last value of √ᾱ has to be subtracted first.":
            back((root * first / (first - last)) ** 2),
    }  # fmt: skip


def call_rescale(student, betas) -> Tensor:
    try:
        return student.rescale_zero_terminal_snr(betas)
    except RemoteError as error:
        if "single memory location" in str(error):
            fail(
                "You change √ᾱ in place while it is read: root[-1] is a part of root, so "
                "`root -= root[-1]` would change what it subtracts. `root - root[-1]` makes a "
                "new tensor."
            )
        raise


ALGORITHM = (
    "Algorithm 1 of Lin et al. 2023 in words: take √ᾱ; shift it so that it ends at 0; scale it so "
    "that it starts where it did; square; divide neighbours to get the alphas; return the betas."
)


@exercise("rescale_zero_terminal_snr")
def test_rescale_values(student, rng):
    steps = randint(rng, 15, 50)
    options = {"beta_start": uniform(rng, 1e-3, 5e-3), "beta_end": uniform(rng, 0.05, 0.15)}
    betas = DDPMScheduler(steps, **options).betas
    expect_close(
        call_rescale(student, betas),
        DDPMScheduler(steps, rescale_betas_zero_snr=True, **options).betas,
        "the repaired betas",
        causes=rescale_mistakes(betas),
        otherwise=ALGORITHM,
        rtol=1e-3,
        atol=1e-6,
    )


@exercise("rescale_zero_terminal_snr")
def test_rescale_stable_diffusion(student):
    options = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    actual = call_rescale(student, DDPMScheduler(**options).betas)
    expect_close(
        actual,
        DDPMScheduler(rescale_betas_zero_snr=True, **options).betas,
        "the repaired betas of Stable Diffusion's schedule",
        otherwise=ALGORITHM,
        rtol=2e-3,
        atol=2e-6,
        check_dtype=True,
    )
    expect(
        actual[-1] == 1,
        "The last beta is close to 1 but not exactly 1, so a trace of the picture is left. Do you "
        "cut the betas with a clamp, or leave a small floor under ᾱ? Subtract the last √ᾱ itself, "
        "then the last ᾱ is exactly 0 and its beta exactly 1.",
    )


@exercise("rescale_zero_terminal_snr")
def test_rescale_invariants(student, rng):
    betas = rising_betas(rng, torch.float64)
    actual = call_rescale(student, betas)
    root = (1 - betas).cumprod(0).sqrt()
    line = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), line**2])
    expect_close(
        actual,
        1 - alpha_bar[1:] / alpha_bar[:-1],
        "the repaired betas of a schedule in float64",
        otherwise=f"{ALGORITHM} Nothing else is cut or clamped, and the result has the dtype of "
        "betas: make new tensors from betas itself, or with torch.zeros_like(betas).",
        check_dtype=True,
    )
    start = "The repair must leave the start of the schedule as it was."
    expect_close(actual[0], betas[0], "the first beta after the repair", otherwise=start)


@exercise("rescale_zero_terminal_snr")
def test_rescale_leaves_betas_alone(student, rng):
    betas = rising_betas(rng)
    far = student.hold(betas)
    call_rescale(student, far)
    still_is(far, betas, "betas")


@pictured("rescale_zero_terminal_snr")
def test_rescale_picture(student, draw):
    def left(betas: Tensor) -> Tensor:
        return (1 - betas.double()).cumprod(0).clamp(min=0).sqrt()

    yours = drawable(call_rescale(student, DDPMScheduler().betas))
    expected = DDPMScheduler(rescale_betas_zero_snr=True).betas
    draw(
        Curve("√ᾱ after the repair", left(yours), left(expected), "step t", "√ᾱ"),
        Curve("its last 100 steps", left(yours)[-100:], left(expected)[-100:], "step t", "√ᾱ",
              torch.arange(900, 1000)),
        inputs=USUAL,
    )  # fmt: skip
