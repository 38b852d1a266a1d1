"""Hidden tests of lesson 3: DDPM.

One step is compared with diffusers' `DDPMScheduler` given the same noise, sample by sample, since
diffusers takes one t a batch. Whole chains are compared with Gaussian data: for x_0 ~ N(m, s²) the
best possible noise prediction is known exactly, so no training is needed.
"""

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from autograder.remote import RemoteError
from autograder.testing import exercise, expect, expect_close, expect_steps, fail
from autograder.testing_modules import UNLEARNT
from autograder.testing_samplers import (
    expect_fresh_noise,
    expect_tidy,
    expect_untouched,
    forward_may_be_called,
    in_order,
    likeness,
    small_model,
)

SHAPES = ((5, 2, 3, 4), (3, 1, 5, 2))  # odd batches, pictures that are not square
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4}
PARENTS = "It stands on your predict_x_0 and posterior_mean_variance: are both graded as passed?"


class Scheduler(DDPMScheduler):
    """diffusers' scheduler on any alphas_cumprod, with the noise that we hand in."""

    def __init__(self, alphas_cumprod: Tensor, **config):
        super().__init__(num_train_timesteps=len(alphas_cumprod), clip_sample=False)
        self.register_to_config(variance_type="fixed_small", **config)
        self.alphas_cumprod = alphas_cumprod

    def each(self, prediction: Tensor, x_t: Tensor, t: Tensor, seed: int | None):
        """(x_prev, x_0_pred, noise) with a t of its own for every sample; seed None: no noise."""
        rows = []
        for i in range(len(x_t)):
            shape, dtype = x_t[i : i + 1].shape, x_t.dtype
            here, there = (torch.Generator().manual_seed((seed or 0) + i) for _ in range(2))
            step = self.step(prediction[i : i + 1], int(t[i]), x_t[i : i + 1], generator=here)
            noise = torch.randn(shape, generator=there, dtype=dtype)
            x_prev = step.prev_sample
            if seed is None and int(t[i]):
                x_prev = x_prev - self._get_variance(int(t[i])).to(dtype) ** 0.5 * noise
            rows.append((x_prev, step.pred_original_sample, noise))
        return [torch.cat(column) for column in zip(*rows, strict=True)]


class Setting:
    """A short random schedule and everything a step needs; short, so that neighbours differ."""

    def __init__(self, rng, shape=SHAPES[0], dtype=torch.float64, steps=15, t=None):
        betas = 0.03 + 0.25 * torch.rand(steps, generator=rng, dtype=torch.float64)
        self.ac = torch.cumprod(1 - betas, 0).to(dtype)
        self.t = 1 + torch.randperm(steps - 2, generator=rng)[: shape[0]] if t is None else t
        self.x_0 = (2 * torch.rand(shape, generator=rng, dtype=torch.float64) - 1).to(dtype)
        draw = [torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype) for _ in range(3)]
        self.noise, self.prediction, self.x_t = draw
        self.seed = int(torch.randint(2**30, (), generator=rng))
        self.tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}

        def at(values, shift=0):
            return values[(self.t + shift).clamp(0, steps - 1)].reshape(-1, 1, 1, 1)

        before = torch.cat([self.ac.new_ones(1), self.ac[:-1]])
        self.a, self.a_prev, self.a_next = at(self.ac), at(before), at(self.ac, 1)
        self.alpha = self.a / self.a_prev
        self.beta = 1 - self.alpha
        self.variance = self.beta * (1 - self.a_prev) / (1 - self.a)


def ask(function, *arguments, **options):
    """Call the learner's function; to an error that t makes, add what usually helps."""
    try:
        return function(*arguments, **options)
    except RemoteError as error:
        text = str(error)
        if "must match" in text or "broadcast" in text:
            fail(
                f"{text} What is made from t (ᾱ_t, or a mask) must have shape (B, 1, 1, 1), to "
                "reach all pixels of its own sample: gather(alphas_cumprod, t, like=x_t) gives ᾱ_t "
                "that shape, .reshape(-1, 1, 1, 1) anything else."
            )
        if "Boolean value of Tensor" in text:
            fail(
                f"{text} t holds a step for each sample, so `if t == 0` has no single answer. No "
                "`if` is needed: at t = 0 previous(alphas_cumprod) gives 1, and the variance is 0."
            )
        if "same number of dimensions" in text and "previous" in text:
            fail(f"{text} previous takes the whole schedule, (T,): gather from what it returns.")
        if "t must lie in" in text and "-1" in text:
            fail(f"{text} For the step before, gather from previous(alphas_cumprod), at t itself.")
        raise


def settings(rng):
    return [Setting(rng, SHAPES[0]), Setting(rng, SHAPES[1], torch.float32, steps=7)]


# --- ddpm_loss


@exercise("ddpm_loss")
def test_model_sees_noisy_picture(student, rng):
    for s in settings(rng):
        seen = []

        def model(*arguments, s=s, seen=seen, **named):
            seen.append(in_order(arguments, named))
            return s.prediction

        for _ in range(2):
            ask(student.ddpm_loss, model, s.x_0, s.t, s.noise, s.ac)
        expect(len(seen) == 2, "ddpm_loss must call the model once, and compare its one answer.")
        expect(
            len(seen[0]) == 2,
            "The model must be called as model(x_t, t): noisy pictures and their steps, no more.",
        )
        (x_t, t), (again, _) = seen
        expect(
            isinstance(t, Tensor) and t.shape == s.t.shape and torch.equal(t.to(s.t), s.t),
            "The model must get the steps t just as they came, one whole number a sample: "
            "not drawn anew, not scaled, not shifted, not reshaped.",
        )
        expect(
            isinstance(x_t, Tensor) and isinstance(again, Tensor) and torch.equal(x_t, again),
            "Two calls with the same arguments showed the model two different pictures: mix in the "
            "argument `noise`, and draw none inside. (The noise is the right answer; the loss "
            "must compare with the very noise that is in x_t.)",
        )
        a, x_0, noise = s.a, s.x_0, s.noise
        right = DDPMScheduler(num_train_timesteps=len(s.ac))
        right.alphas_cumprod = s.ac
        expect_close(
            x_t,
            right.add_noise(x_0, noise, s.t),
            "the picture that the model is shown",
            causes={
                "The model is shown x_0, the clean picture: there is no noise in it to find. "
                "Algorithm 1 of DDPM shows it x_t.": x_0,
                "The model is shown pure noise, without the picture in it.": noise,
                "The square roots are missing: ᾱ and 1 - ᾱ are shares of the variance, so the "
                "picture and the noise are scaled by their roots (equation 4).": a * x_0
                + (1 - a) * noise,
                "Picture and noise have changed places in the mixture.": (
                    a.sqrt() * noise + (1 - a).sqrt() * x_0
                ),
                "The schedule is read one step too late (t + 1).": (
                    s.a_next.sqrt() * x_0 + (1 - s.a_next).sqrt() * noise
                ),
                "The schedule is read one step too early: ᾱ_t is alphas_cumprod[t], t from 0.": (
                    s.a_prev.sqrt() * x_0 + (1 - s.a_prev).sqrt() * noise
                ),
                "The noise is added at full strength: it is scaled by √(1 - ᾱ_t).": x_0 + noise,
                "Every sample was mixed with the first sample's t; each has its own.": (
                    a[:1].sqrt() * x_0 + (1 - a[:1]).sqrt() * noise
                ),
            },
            otherwise="It should be x_t = √ᾱ_t · x_0 + √(1 - ᾱ_t) · noise: lesson 1's add_noise.",
            **s.tolerance,
        )


def answering(prediction):
    """A model that says the same whatever it is shown."""
    return lambda *_, **__: prediction


@exercise("ddpm_loss")
def test_loss(student, rng):
    for s in settings(rng):
        x_t = s.a.sqrt() * s.x_0 + (1 - s.a).sqrt() * s.noise
        loss = ask(student.ddpm_loss, answering(s.prediction), s.x_0, s.t, s.noise, s.ac)
        expect(loss is not None, "ddpm_loss returns None: is the `return` missing?")
        error = (s.prediction - s.noise) ** 2
        expect(
            isinstance(loss, Tensor),
            "The loss must stay a tensor (no .item(), no float()): training calls loss.backward().",
        )
        if loss.ndim:
            fail(
                f"The loss has shape {tuple(loss.shape)}: it must be a single number, the mean "
                "over samples, channels and pixels, so that loss.backward() works."
            )
        expect_close(
            loss,
            torch.nn.functional.mse_loss(s.prediction, s.noise),
            "the loss",
            causes={
                "It is a sum where a mean belongs: it would grow with the size of the picture, "
                "and 'always zero' would no longer score 1.": error.sum(),
                "It is summed over the pixels and averaged over the batch only; average over "
                "both, so that 'always zero' scores 1.": error.flatten(1).sum(1).mean(),
                "The prediction is compared with x_0. This model predicts the noise "
                "(equation 14).": ((s.prediction - s.x_0) ** 2).mean(),
                "The prediction is compared with x_t. The right answer is the noise in it "
                "(equation 14).": ((s.prediction - x_t) ** 2).mean(),
                "The square is missing: it is the mean absolute error.": error.sqrt().mean(),
                "There is a root over the mean: the loss is the mean of the squares.": (
                    error.mean().sqrt()
                ),
                "There is a factor ½ that equation 14 does not have.": error.mean() / 2,
                "The steps are weighted. Equation 14 counts every step the same.": (
                    (s.a / (1 - s.a) * error).mean()
                ),
                "The batch's samples are added up before squaring, so errors cancel.": (
                    (s.prediction - s.noise).mean() ** 2
                ),
            },
            otherwise="It should be the mean, over everything, of (noise - prediction)².",
            **s.tolerance,
        )


@exercise("ddpm_loss")
def test_loss_trains_the_model(student, rng):
    s = Setting(rng, dtype=torch.float32)
    model = small_model(student, s.x_0.shape[1])
    with forward_may_be_called():
        loss = student.new("ddpm_loss", model, s.x_0, s.t, s.noise, s.ac)
        expect(
            not loss.get("is_leaf"),  # made from nothing that has gradients, so it hands none on
            f"The number is right, but the loss is cut off from the model's weights. {UNLEARNT}",
        )


@exercise("ddpm_loss")
def test_loss_leaves_its_arguments_alone(student, rng):
    s = Setting(rng)
    model = answering(s.prediction)
    expect_untouched(
        lambda *given: student.ddpm_loss(model, *given),
        student,
        x_0=s.x_0,
        t=s.t,
        noise=s.noise,
        alphas_cumprod=s.ac,
    )


# --- predict_x_0


@exercise("predict_x_0")
def test_predict_x_0(student, rng):
    for s in settings(rng):
        x, noise, a = s.x_t, s.prediction, s.a
        expect_close(
            ask(student.predict_x_0, x, noise, s.t, s.ac),
            Scheduler(s.ac).each(noise, x, s.t, None)[1],
            "the predicted clean picture",
            causes={
                "The two roots have changed places: √(1 - ᾱ_t) belongs to the noise, √ᾱ_t stands "
                "under the fraction.": (x - a.sqrt() * noise) / (1 - a).sqrt(),
                "The root over 1 - ᾱ_t is missing.": (x - (1 - a) * noise) / a.sqrt(),
                "The root over ᾱ_t, under the fraction, is missing.": (
                    (x - (1 - a).sqrt() * noise) / a
                ),
                "Both square roots are missing.": (x - (1 - a) * noise) / a,
                "The noise is taken away but the picture is not made bright again: "
                "something is missing under the fraction.": x - (1 - a).sqrt() * noise,
                "The noise is added where it should be taken away.": (
                    (x + (1 - a).sqrt() * noise) / a.sqrt()
                ),
                "Only one part is divided by √ᾱ_t: mind the brackets.": (
                    x - (1 - a).sqrt() * noise / a.sqrt()
                ),
                "The result is multiplied by √ᾱ_t where it must be divided.": (
                    (x - (1 - a).sqrt() * noise) * a.sqrt()
                ),
                "alpha_t, the share kept in one step, stands where ᾱ_t belongs, the share left "
                "since the start.": (
                    (s.x_t - (1 - s.alpha).sqrt() * s.prediction) / s.alpha.sqrt()
                ),
                "beta_t stands where 1 - ᾱ_t belongs.": (
                    (s.x_t - s.beta.sqrt() * s.prediction) / s.a.sqrt()
                ),
                "The schedule is read one step too late (t + 1).": (
                    (s.x_t - (1 - s.a_next).sqrt() * s.prediction) / s.a_next.sqrt()
                ),
                "The schedule is read one step too early: ᾱ_t is alphas_cumprod[t].": (
                    (s.x_t - (1 - s.a_prev).sqrt() * s.prediction) / s.a_prev.sqrt()
                ),
                "Every sample was treated with the first sample's t; each has its own.": (
                    (x - (1 - a[:1]).sqrt() * noise) / a[:1].sqrt()
                ),
                "It is clipped to [-1, 1]. Clipping is ddpm_step's job, which can switch it off.": (
                    (x - (1 - a).sqrt() * noise) / a.sqrt()
                ).clamp(-1, 1),
            },
            otherwise="Solve x_t = √ᾱ_t · x_0 + √(1 - ᾱ_t) · noise for x_0 (equation 15).",
            **s.tolerance,
        )


@exercise("predict_x_0")
def test_undoes_add_noise(student, rng):
    betas = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2").betas
    ac = torch.cumprod(1 - betas.double(), 0)
    s = Setting(rng, (5, 1, 3, 2))
    t = torch.tensor([0, 1, 2, 500, 999])[torch.randperm(5, generator=rng)]
    a = ac[t].reshape(-1, 1, 1, 1)
    x_t = a.sqrt() * s.x_0 + (1 - a).sqrt() * s.noise
    expect_close(
        ask(student.predict_x_0, x_t, s.noise, t, ac),
        s.x_0,
        "the clean picture, predicted from the true noise at the first and last steps of 1000",
        otherwise="Given the true noise, it must give back x_0 exactly, at every t from 0 on: is "
        "a divisor kept from getting small (clamp, or + 1e-8), or a number of steps written in?",
        rtol=1e-2,
        atol=2e-2,
    )


@exercise("predict_x_0")
def test_predict_x_0_leaves_its_arguments_alone(student, rng):
    s = Setting(rng)
    expect_untouched(
        student.predict_x_0,
        student,
        x_t=s.x_t,
        noise_pred=s.prediction,
        t=s.t,
        alphas_cumprod=s.ac,
    )


# --- posterior_mean_variance


def posterior(student, s):
    answer = ask(student.posterior_mean_variance, s.x_0, s.x_t, s.t, s.ac)
    expect(
        isinstance(answer, (tuple, list)) and len(answer) == 2,
        "posterior_mean_variance must return two things: mean, variance.",
    )
    shapes = [getattr(part, "shape", None) for part in answer]
    if shapes == [s.a.shape, s.x_t.shape]:
        fail("The mean comes first, then the variance; yours are the other way round.")
    return answer


def posterior_causes(s):
    a, a_prev, alpha, beta = s.a, s.a_prev, s.alpha, s.beta
    w_0, w_t = a_prev.sqrt() * beta / (1 - a), alpha.sqrt() * (1 - a_prev) / (1 - a)
    return {
        "The two weights have changed places: x_0's weight holds beta_t, x_t's holds "
        "1 - ᾱ_{t-1}.": w_t * s.x_0 + w_0 * s.x_t,
        "The root over ᾱ_{t-1} in x_0's weight is missing.": (
            a_prev * beta / (1 - a) * s.x_0 + w_t * s.x_t
        ),
        "The root over alpha_t in x_t's weight is missing.": (
            w_0 * s.x_0 + alpha * (1 - a_prev) / (1 - a) * s.x_t
        ),
        "Both square roots are missing.": (
            a_prev * beta / (1 - a) * s.x_0 + alpha * (1 - a_prev) / (1 - a) * s.x_t
        ),
        "x_0's weight has ᾱ_t where ᾱ_{t-1} belongs: the goal is step t - 1.": (
            a.sqrt() * beta / (1 - a) * s.x_0 + w_t * s.x_t
        ),
        "x_t's weight has ᾱ_t where alpha_t belongs, the share kept in one step.": (
            w_0 * s.x_0 + a.sqrt() * (1 - a_prev) / (1 - a) * s.x_t
        ),
        "alpha_t was taken as ᾱ_t, and beta_t as 1 - ᾱ_t; they are one step's: alpha_t = "
        "ᾱ_t / ᾱ_{t-1}.": a_prev.sqrt() * s.x_0 + a.sqrt() * (1 - a_prev) / (1 - a) * s.x_t,
        "Brackets are missing round 1 - ᾱ_{t-1} in x_t's weight.": (
            w_0 * s.x_0 + (alpha.sqrt() * 1 - a_prev) / (1 - a) * s.x_t
        ),
        "1 - ᾱ_{t-1} in x_t's weight has become 1 - ᾱ_t.": w_0 * s.x_0 + alpha.sqrt() * s.x_t,
        "beta_t was taken as 1 - ᾱ_t. That is the noise since the start; beta_t is one "
        "step's.": a_prev.sqrt() * s.x_0 + w_t * s.x_t,
        "x_t's weight was made as 1 minus x_0's; the two do not add up to 1.": (
            w_0 * s.x_0 + (1 - w_0) * s.x_t
        ),
        "The division by 1 - ᾱ_t is missing.": (w_0 * s.x_0 + w_t * s.x_t) * (1 - a),
        "This is the mean of x_{t-1} when only x_0 is known; it must use x_t too.": (
            a_prev.sqrt() * s.x_0
        ),
    }


@exercise("posterior_mean_variance")
def test_posterior_mean(student, rng):
    for s in settings(rng):
        mean, _ = posterior(student, s)
        expect_close(
            mean,
            Scheduler(s.ac, prediction_type="sample").each(s.x_0, s.x_t, s.t, None)[0],
            "the posterior's mean",
            causes=posterior_causes(s),
            otherwise="Compare with equation 7: two weights, one on x_0, one on x_t, both over "
            "1 - ᾱ_t. Is alpha_t = ᾱ_t / ᾱ_{t-1}, taken at the right step?",
            **s.tolerance,
        )


@exercise("posterior_mean_variance")
def test_posterior_variance(student, rng):
    for s in settings(rng):
        _, variance = posterior(student, s)
        scheduler = Scheduler(s.ac)
        right = torch.stack([scheduler._get_variance(int(t)) for t in s.t]).reshape(-1, 1, 1, 1)
        if isinstance(variance, Tensor) and variance.shape != right.shape:
            fail(
                f"The variance has shape {tuple(variance.shape)}: it must be (B, 1, 1, 1), one "
                "number a sample that multiplies the whole picture. (gather gives that shape.)"
            )
        expect_close(
            variance,
            right.to(s.x_t.dtype),
            "the posterior's variance",
            causes={
                "It is beta_t. Knowing x_0 leaves less in doubt, so equation 7 makes it "
                "smaller.": s.beta,
                "It is the standard deviation; the variance is its square.": s.variance.sqrt(),
                "It is the logarithm of the variance.": s.variance.log(),
                "It is squared once too often.": s.variance**2,
                "The fraction is upside down: 1 - ᾱ_{t-1} stands above 1 - ᾱ_t, since less noise "
                "is left.": s.beta * (1 - s.a) / (1 - s.a_prev),
                "1 - ᾱ_t stands where beta_t belongs.": 1 - s.a_prev,
                "The 1 - is missing in the fraction: it is noise over noise.": (
                    s.beta * s.a_prev / s.a
                ),
                "It is the variance of x_t, as seen from x_0.": 1 - s.a,
                "The factor (1 - ᾱ_{t-1})/(1 - ᾱ_t) is there, but beta_t is not.": (
                    (1 - s.a_prev) / (1 - s.a)
                ),
                "The variance belongs to the step after: ᾱ_{t-1} is alphas_cumprod[t - 1].": (
                    (1 - s.a_next / s.a) * (1 - s.a) / (1 - s.a_next)
                ),
            },
            otherwise="Compare with equation 7: beta_t · (1 - ᾱ_{t-1}) / (1 - ᾱ_t), with "
            "beta_t = 1 - ᾱ_t / ᾱ_{t-1}.",
            **s.tolerance,
        )


@exercise("posterior_mean_variance")
def test_posterior_at_first_step(student, rng):
    s = Setting(rng, t=torch.tensor([0, 6, 0, 14, 1]))
    mean, variance = posterior(student, s)
    for value, name in ((mean, "mean"), (variance, "variance")):
        expect(
            isinstance(value, Tensor) and bool(torch.isfinite(value).all()),
            f"The {name} is not a finite number at t = 0 or beside it: is something divided by 0 "
            "there? Before the first step nothing has been added: ᾱ_{-1} = 1.",
        )
    last, clamped = s.ac[-1], s.ac[0]
    at_zero = (s.t == 0).nonzero().flatten()
    wrapped_variance = (1 - clamped / last) * (1 - last) / (1 - clamped)
    message = "At t = 0 the step before is the clean picture: ᾱ_{-1} = 1, no noise at all. "
    expect_close(
        variance.flatten()[at_zero],
        torch.zeros(len(at_zero), dtype=s.ac.dtype),
        "the variance at t = 0",
        causes={
            message + "alphas_cumprod[t - 1] with t = 0 wraps round to the last element, the "
            "noisiest.": wrapped_variance.expand(len(at_zero)),
            message + "The variance there must be exactly 0, not beta_0.": (1 - clamped).expand(
                len(at_zero)
            ),
        },
        otherwise=message + "So nothing is left to decide, and the variance is 0. Does "
        "alphas_cumprod[t - 1] wrap round, or stop at t = 0?",
        rtol=0,
        atol=1e-7,
    )
    expect_close(
        variance,
        s.variance,
        "the posterior's variance in a batch in which some samples are at t = 0",
        causes={
            "One sample at t = 0 has switched off the variance of the whole batch: every sample "
            "has its own t.": torch.zeros_like(s.variance),
        },
        otherwise="It is right at t = 0. At the other steps, the last one T - 1 included, it is "
        "equation 7 as it stands: every sample of a batch has its own t.",
        **s.tolerance,
    )
    expect_close(
        mean,
        Scheduler(s.ac, prediction_type="sample").each(s.x_0, s.x_t, s.t, None)[0],
        "the posterior's mean in a batch in which some samples are at t = 0",
        otherwise=message + "So at t = 0 the mean is x_0 itself; other samples of the batch keep "
        "their own t.",
        **s.tolerance,
    )


CONSTANT = (
    "It is right for short schedules but not for 1000 steps: is a number of steps, a beta or a "
    "limit written into the code as a constant?"
)


@exercise("posterior_mean_variance")
def test_posterior_of_long_schedule(student, rng):
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    s = Setting(rng, t=torch.tensor([999, 0, 400, 1, 700]), dtype=torch.float32)
    s.ac = scheduler.alphas_cumprod
    mean, variance = posterior(student, s)
    exact = Scheduler(s.ac, prediction_type="sample").each(s.x_0, s.x_t, s.t, None)[0]
    expect(
        bool(torch.isfinite(mean).all() and torch.isfinite(variance).all()),
        "With the cosine schedule of 1000 steps in float32 something becomes nan or infinite.",
    )
    expect_close(
        mean,
        exact,
        "the posterior's mean in the cosine schedule of 1000 steps",
        otherwise=CONSTANT,
        rtol=2e-2,
        atol=3e-2,
    )
    exact = Scheduler(s.ac.double())
    expect_close(
        variance,
        torch.stack([exact._get_variance(int(t)) for t in s.t]).reshape(-1, 1, 1, 1).float(),
        "the posterior's variance in the cosine schedule of 1000 steps",
        otherwise=CONSTANT,
        rtol=2e-2,
        atol=1e-6,
    )


@exercise("posterior_mean_variance")
def test_posterior_remembers_nothing(student, rng):
    for s in (Setting(rng), Setting(rng)):  # two schedules of one length
        mean, variance = posterior(student, s)
        right = Scheduler(s.ac, prediction_type="sample").each(s.x_0, s.x_t, s.t, None)[0]
        for value, expected, name in ((mean, right, "mean"), (variance, s.variance, "variance")):
            expect_close(
                value,
                expected,
                f"the posterior's {name} in a second schedule of the same length",
                otherwise="Something is remembered from the schedule of an earlier call: work it "
                "out anew from alphas_cumprod.",
                **s.tolerance,
            )


@exercise("posterior_mean_variance")
def test_posterior_leaves_its_arguments_alone(student, rng):
    s = Setting(rng)
    expect_untouched(
        student.posterior_mean_variance,
        student,
        x_0=s.x_0,
        x_t=s.x_t,
        t=s.t,
        alphas_cumprod=s.ac,
    )


# --- ddpm_step


def step_causes(s, x_t, noise, noise_pred, clip):
    """What the usual mistakes of one step would give."""
    a, a_prev, alpha, beta = s.a, s.a_prev, s.alpha, s.beta
    w_0, w_t = a_prev.sqrt() * beta / (1 - a), alpha.sqrt() * (1 - a_prev) / (1 - a)
    guess = (x_t - (1 - a).sqrt() * noise_pred) / a.sqrt()
    kept, other = (guess.clamp(-1, 1), guess) if clip else (guess, guess.clamp(-1, 1))
    std = s.variance.sqrt()

    def mean(x_0):
        return w_0 * x_0 + w_t * x_t

    clipping = (
        "The guess of the clean picture is not clipped to [-1, 1]."
        if clip
        else "It clips although clip_sample is False."
    )
    return {
        clipping: mean(other) + std * noise,
        "The noise is scaled by the variance; it needs the standard deviation, its root.": (
            mean(kept) + s.variance * noise
        ),
        "No fresh noise is added: this is the mean alone.": mean(kept),
        "The noise has the size √beta_t; here it is the posterior's variance, which is "
        "smaller.": mean(kept) + beta.sqrt() * noise,
        "The fresh noise has full strength: scale it by the root of the variance.": (
            mean(kept) + noise
        ),
        "The fresh noise is subtracted.": mean(kept) - std * noise,
        "The model's predicted noise is added where the fresh noise belongs.": (
            mean(kept) + std * noise_pred
        ),
        "The fresh noise stands where the predicted noise belongs.": (
            mean(((x_t - (1 - a).sqrt() * noise) / a.sqrt()).clamp(-1, 1)) + std * noise
        ),
        "x_{t-1} is clipped. Only the guess of x_0 may be: x_{t-1} still holds noise, which "
        "reaches beyond [-1, 1].": (mean(guess) + std * noise).clamp(-1, 1),
        "x_{t-1} is clipped, as well as the guess of x_0. It still holds noise, which reaches "
        "beyond [-1, 1].": (mean(kept) + std * noise).clamp(-1, 1),
        "The mean is clipped. Clip the guess of x_0, before the mean is taken.": (
            mean(guess).clamp(-1, 1) + std * noise
        ),
        "The predicted noise is clipped. Clip the guess of x_0 instead.": (
            mean((x_t - (1 - a).sqrt() * noise_pred.clamp(-1, 1)) / a.sqrt()) + std * noise
        ),
        "The clipping is to [0, 1]; pictures live in [-1, 1].": (
            mean(guess.clamp(0, 1)) + std * noise
        ),
        "It jumps to the guess of x_0 itself; step to the posterior's mean, between x_0 and "
        "x_t.": kept + std * noise,
        "It puts new noise on the guess of x_0 up to step t - 1 and forgets where x_t was; use "
        "the posterior.": a_prev.sqrt() * kept + (1 - a_prev).sqrt() * noise,
        "posterior_mean_variance gets its arguments the wrong way round: the guess of x_0 comes "
        "first, then x_t.": w_0 * x_t + w_t * kept + std * noise,
        "The posterior gets the predicted noise where the guess of x_0 belongs.": (
            mean(noise_pred) + std * noise
        ),
    }


@exercise("ddpm_step")
def test_step(student, rng):
    for s in settings(rng):
        for clip in (True, False):
            x_t, noise_pred = 2 * s.x_t, s.prediction
            config = {"clip_sample": clip, "clip_sample_range": 1.0}
            x_prev, _, noise = Scheduler(s.ac, **config).each(noise_pred, x_t, s.t, s.seed)
            once, again = (
                ask(student.ddpm_step, x_t, noise_pred, s.t, noise, s.ac, clip_sample=clip)
                for _ in range(2)
            )
            expect(
                not isinstance(once, Tensor) or torch.equal(once, torch.as_tensor(again)),
                "Two calls with the same arguments give two different results: ddpm_step draws "
                "noise of its own. The fresh noise comes in as the argument `noise`; use that.",
            )
            expect_close(
                once,
                x_prev,
                f"the result of one step with clip_sample={clip}",
                causes=step_causes(s, x_t, noise, noise_pred, clip),
                otherwise="The order is: guess x_0, clip the guess (if asked), posterior's mean, "
                f"plus the root of the variance times noise. {PARENTS}",
                **s.tolerance,
            )


@exercise("ddpm_step")
def test_clips_by_default(student, rng):
    s = Setting(rng)
    config = {"clip_sample": True, "clip_sample_range": 1.0}
    x_prev, _, noise = Scheduler(s.ac, **config).each(s.prediction, 2 * s.x_t, s.t, s.seed)
    expect_close(
        student.ddpm_step(2 * s.x_t, s.prediction, s.t, noise, s.ac),
        x_prev,
        "the result of one step when clip_sample is not given",
        otherwise="Not given, clip_sample is True, as the signature says.",
        **s.tolerance,
    )


@exercise("ddpm_step")
def test_no_noise_at_last_step(student, rng):
    s = Setting(rng, t=torch.tensor([0, 4, 0, 13, 1]))
    x_prev, x_0_pred, noise = Scheduler(s.ac).each(s.prediction, s.x_t, s.t, s.seed)
    actual = student.ddpm_step(s.x_t, s.prediction, s.t, noise, s.ac, clip_sample=False)
    message = "At t = 0 noise is added. It is the last step: nobody would remove that noise again. "
    zero = (s.t == 0).reshape(-1, 1, 1, 1)
    expect_close(
        actual,
        x_prev,
        "the result of one step in a batch in which some samples are at t = 0, their last step,",
        causes={
            message + "The variance at t = 0 is 0.": torch.where(
                zero, x_0_pred + (1 - s.a).sqrt() * noise, x_prev
            ),
            message + "A floor under the variance must be tiny, or not there.": torch.where(
                zero, x_0_pred + 1e-2 * noise, x_prev
            ),
            message + "Scale it by 0 there.": torch.where(zero, x_0_pred + noise, x_prev),
            "One sample at t = 0 has switched off the noise of the whole batch: every sample has "
            "its own t.": x_prev - torch.where(zero, 0, s.variance.sqrt()) * noise,
        },
        otherwise="At t = 0 the result is the guess of x_0 itself, without noise; samples at "
        f"other steps of the same batch keep theirs. {PARENTS}",
        **s.tolerance,
    )


@exercise("ddpm_step")
def test_step_leaves_its_arguments_alone(student, rng):
    s = Setting(rng)
    expect_untouched(
        student.ddpm_step,
        student,
        x_t=s.x_t,
        noise_pred=s.prediction,
        t=s.t,
        noise=s.noise,
        alphas_cumprod=s.ac,
    )


# --- sample_ddpm


class Gaussian:
    """The best possible noise predictor for x_0 ~ N(m, s²); writes down how it was called."""

    def __init__(self, ac, m=0.0, s=1.0):
        self.ac, self.m, self.s, self.xs, self.ts = ac, m, s, [], []

    def __call__(self, *arguments, **named):
        arguments = in_order(arguments, named)
        x, t = arguments if len(arguments) == 2 else (arguments[0], torch.zeros(1))
        self.xs.append(x)
        self.ts.append(t)
        step = int(torch.as_tensor(t).flatten()[0]) if torch.as_tensor(t).numel() else 0
        a = self.ac[max(0, min(step, len(self.ac) - 1))]
        gap = x - a.sqrt() * self.m
        return (1 - a).sqrt() * gap / (a * self.s**2 + 1 - a)


def linear(steps, top=20.0):
    return torch.cumprod(1 - torch.linspace(1e-1 / steps, top / steps, steps), 0)


def check_steps(model, batch):
    """The steps at which the model was asked, from T - 1 down to 0, each once, as (B,) int64."""
    total = len(model.ac)
    for t in model.ts:
        expect(
            isinstance(t, Tensor),
            f"The model got t as a Python {type(t).__name__}. It wants one step a sample: a "
            "tensor of shape (B,), for instance made by torch.full.",
        )
        expect(
            t.shape == (batch,),
            f"The model got t of shape {tuple(t.shape)}. It wants one step a sample: shape (B,).",
        )
        expect(t.dtype == torch.int64, f"t must be whole numbers, int64; the model got {t.dtype}.")
        expect(
            bool((t == t[0]).all()), "All samples walk together: the same t for the whole batch."
        )
    steps = [int(t[0]) for t in model.ts]
    if steps == list(range(total))[::-1]:
        return
    if steps == list(range(total)):
        fail(
            "The loop runs upwards. Sampling starts in pure noise, at the largest t, and goes down."
        )
    if steps and max(steps) > total:
        fail(
            f"The model is asked at t = {max(steps)}, in a schedule of {total} steps: is a number "
            "of steps written into the code? len(alphas_cumprod) is the right one."
        )
    if steps and max(steps) >= total:
        fail("The loop starts at T. Steps count from 0, so the noisiest of T steps is T - 1.")
    if steps and min(steps) < 0:
        fail("The loop goes below t = 0, which is the last step.")
    if len(steps) == 1 < total:
        fail("The model is asked only once: does `return` stand inside the loop?")
    if steps == list(range(total - 1, 0, -1)):
        fail("The loop stops before t = 0: the last, finest step is missing.")
    if steps == list(range(total - 2, -1, -1)):
        fail("The loop starts too low: the noisiest step is T - 1, and it is missing.")
    if len(steps) > total and sorted(set(steps)) == list(range(total)):
        fail("The model is asked more than once a step; one prediction a step is enough.")
    fail("The model must be asked once at each step, from T - 1 down to 0.")


def sample(student, model, x_T, seed, **options):
    """Run the learner's loop; if it breaks, first say what was wrong with the steps."""
    generator = student.generator(seed)
    try:
        result = student.sample_ddpm(model, x_T, model.ac, generator=generator, **options)
    except Exception:
        if model.ts:
            partly = [t for t in model.ts if isinstance(t, Tensor) and t.shape == (len(x_T),)]
            if len(partly) < len(model.ts) or any(int(t.max()) >= len(model.ac) for t in partly):
                check_steps(model, len(x_T))
        raise
    check_steps(model, len(x_T))
    return result


@exercise("sample_ddpm")
def test_asks_at_every_step(student, rng):
    for steps, shape in ((9, (3, 2, 5, 4)), (1, (2, 1, 3, 3))):
        x_T = torch.randn(shape, generator=rng)
        model = Gaussian(linear(steps, 0.5 * steps))
        result = sample(student, model, x_T, seed=1)
        expect(
            isinstance(result, Tensor) and result.shape == x_T.shape,
            "sample_ddpm must return the pictures, in the shape of x_T.",
        )
        expect_close(
            model.xs[0],
            x_T,
            "the first picture that the model is shown",
            otherwise="The walk must start from the argument x_T, unchanged.",
        )


def noises_exchanged(a, x, x_prev, noise_pred):
    """Whether the last step took fresh noise for the predicted one."""
    z = (x - a.sqrt() * x_prev) / (1 - a).sqrt()  # what was taken off
    standard = abs(float(z.std()) - 1) < 0.12 and abs(float(z.mean())) < 0.12
    return standard and abs(likeness(z, noise_pred)) < 0.1


@exercise("sample_ddpm")
def test_walks_by_ddpm_step(student, rng):
    shape = (5, 2, 15, 16)
    x_T = torch.randn(shape, generator=rng)
    model = Gaussian(linear(12, 3.0), m=0.4, s=0.3)
    result = sample(student, model, x_T, 3, clip_sample=False)
    scheduler = Scheduler(model.ac)
    walk = [*model.xs[1:], result]
    fresh, predicted, before = [], [], x_T
    for x, x_prev, t in zip(model.xs, walk, model.ts, strict=True):
        predicted.append(Gaussian(model.ac, 0.4, 0.3)(x, t))
        mean = scheduler.each(predicted[-1], x, t, None)[0]
        if int(t[0]) == 0:
            if noises_exchanged(model.ac[0], x, x_prev, predicted[-1]):
                fail(
                    "noise_pred and the fresh noise have changed places in the call of ddpm_step: "
                    "it is ddpm_step(x_t, noise_pred, t, noise, …)."
                )
            expect_close(
                x_prev,
                mean,
                "the result of the last step",
                causes={
                    "The loop returns the pictures before the last step.": x,
                    "It is clipped although clip_sample is False: hand clip_sample on to "
                    "ddpm_step, and clip nothing yourself.": mean.clamp(-1, 1),
                },
                otherwise="The last step adds no noise, and its result is what is returned. "
                f"{PARENTS} And ddpm_step?",
                rtol=1e-3,
                atol=1e-3,
            )
            break
        expect(
            not torch.allclose(x_prev, x),
            "The model is shown the same picture at every step: carry each step's result on.",
        )
        fresh.append((x_prev - mean) / scheduler._get_variance(int(t[0])).sqrt())
    for z, noise_pred, t in zip(fresh, predicted, model.ts, strict=False):
        last = "the last step, at t = 0,"
        expect_fresh_noise(z, int(t[0]), noise_pred, before, "ddpm_step", last)
        before = z
    every = torch.stack(fresh)
    size = float(every.std())
    if abs(size - 1) > 0.06 or abs(float(every.mean())) > 0.06:
        kind = "too much" if size > 1 else "too little"
        fail(
            f"The fresh noise of a step is wrong: {kind}. It should be standard Gaussian "
            f"(torch.randn), scaled inside ddpm_step and nowhere else. {PARENTS}"
        )


@exercise("sample_ddpm")
def test_gaussian_data(student, rng):
    x_T = torch.randn(501, 1, 3, 2, generator=rng)
    m, s = -0.6 + 0.5 * float(torch.rand((), generator=rng)), 0.5
    result = sample(student, Gaussian(linear(150), m, s), x_T, 5, clip_sample=False)
    mean, std = float(result.mean()), float(result.std())
    expect(
        abs(mean - m) < 0.06,
        "With a perfect model of Gaussian data the samples' mean is off: is x_0's guess handed on?",
    )
    expect(
        0.44 < std < 0.56,
        "With a perfect model of Gaussian data the samples spread too "
        f"{'little' if std < s else 'much'}: look at the noise that each step adds. {PARENTS}",
    )


@exercise("sample_ddpm")
def test_generator(student, rng):
    x_T = torch.randn(3, 1, 4, 5, generator=rng)
    ac = linear(6, 2.0)
    once, again, other = (sample(student, Gaussian(ac), x_T, seed) for seed in (7, 7, 8))
    expect(
        torch.equal(once, again),
        "The same generator seed gave different pictures: pass `generator` on to torch.randn, so "
        "that pictures can be made again.",
    )
    expect(
        not torch.allclose(once, other),
        "Two generators with different seeds gave the same pictures: the noise must come from "
        "`generator`, without a seed of its own.",
    )
    free, more = (student.sample_ddpm(Gaussian(ac), x_T, ac) for _ in range(2))
    expect(
        isinstance(free, Tensor) and not torch.allclose(free, once),
        "Without a generator the pictures should differ from run to run.",
    )
    expect(
        not torch.equal(free, more),
        "Two calls without a generator gave the same pictures. A torch.Generator that you make "
        "always begins with the same seed: hand on None, and torch.randn draws anew each time.",
    )


@exercise("sample_ddpm")
def test_sampling_keeps_to_itself(student, rng):
    x_T = torch.randn(3, 1, 4, 5, generator=rng)
    expect_tidy(student, "sample_ddpm", x_T=x_T, alphas_cumprod=linear(6, 2.0))


@exercise("sample_ddpm")
def test_clip_and_on_step(student, rng):
    x_T = torch.randn(3, 1, 4, 5, generator=rng)
    ac = linear(8, 2.4)
    clipped = sample(student, Gaussian(ac, 3.0, 0.1), x_T, 1)
    free = sample(student, Gaussian(ac, 3.0, 0.1), x_T, 1, clip_sample=False)
    expect(
        float(clipped.max()) <= 1.001 and float(free.mean()) > 2,
        "clip_sample does not reach ddpm_step: hand it on, so that True clips and False does not.",
    )
    calls, model = [], Gaussian(ac)
    result = sample(student, model, x_T, 2, on_step=lambda *call: calls.append(call))
    expect(
        len(calls) == len(ac) and all(len(call) == 3 for call in calls),
        "on_step must be called once after each step, as on_step(step, x_prev, noise_pred).",
    )
    expect_steps(
        [step for step, _, _ in calls], range(len(ac))[::-1], "is the step t that was just taken"
    )
    for after, (_, x_prev, noise_pred), x, t in zip(
        [*model.xs[1:], result], calls, model.xs, model.ts, strict=True
    ):
        expect(
            torch.equal(x_prev, after),
            "on_step must get the pictures after the step (x_prev), then the predicted noise.",
        )
        expect(
            torch.allclose(noise_pred, Gaussian(ac)(x, t)),
            "on_step's third argument is the noise that the model predicted at this step.",
        )


# --- ema_update


def flat(state):
    return torch.cat([state[name].flatten().double() for name in sorted(state)])


def pair(student, rng, kind, *arguments):
    """A slow and a fast module of the same kind, with random weights and buffers."""
    modules = [student.new_torch(kind, *arguments) for _ in range(2)]
    for i, module in enumerate(modules):
        state = {
            name: torch.rand(value.shape, generator=rng) + 0.1
            if value.is_floating_point()
            else torch.full_like(value, 3 + 4 * i)
            for name, value in module.state().items()
        }
        module.load_state(state)
    return modules


def update(student, slow, fast, decay):
    try:
        student.ema_update(slow, fast, decay)
    except Exception as error:
        if "requires grad" in str(error):
            fail(
                "torch records these changes for gradients, and so forbids them: keep "
                "@torch.no_grad() above ema_update."
            )
        if "'Long'" in str(error) or "result type Float" in str(error):
            fail(
                "The buffers are averaged like the weights, and one of them counts in whole "
                "numbers, which has no average: copy buffers as they are (copy_)."
            )
        raise


@exercise("ema_update")
def test_moves_weights(student, rng):
    for decay in (0.75, 0.999, 0.0, 1.0):
        slow, fast = pair(student, rng, "Linear", 3, 5)
        old, new = flat(slow.state()), flat(fast.state())
        first = len(slow.state()["bias"])
        update(student, slow, fast, decay)
        right = decay * old + (1 - decay) * new
        expect(
            torch.equal(flat(fast.state()), new),
            "The model being trained was changed. Only the slow copy may move.",
        )
        expect_close(
            flat(slow.state()),
            right,
            "the weights of the slow copy, after one update,",
            causes={
                "They have not moved. Change the parameters in place (copy_, lerp_, mul_ and "
                "add_): `slow = …` only renames a variable.": old,
                "The decay is on the wrong side: it is the share of the slow copy that is kept.": (
                    1 - decay
                )
                * old
                + decay * new,
                "The slow copy has become the model, without memory.": new,
                "The shares do not add up to 1: the old weights are not scaled by the decay.": old
                + (1 - decay) * new,
                "The new weights are not scaled by 1 - decay.": decay * old + new,
                "They moved away from the model: a sign is wrong.": old - (1 - decay) * (new - old),
                "Only some of the parameters moved; go through all of them.": torch.cat(
                    [old[:first], right[first:]]
                ),
            },
            otherwise="Each weight becomes decay · (its old value) + (1 - decay) · (the model's).",
            rtol=1e-5,
            atol=1e-6,
        )


@exercise("ema_update")
def test_copies_buffers(student, rng):
    slow, fast = pair(student, rng, "BatchNorm2d", 4)
    before, state = slow.state(), fast.state()
    update(student, slow, fast, 0.8)
    after = slow.state()
    expect(
        torch.equal(flat(fast.state()), flat(state)),
        "The model being trained was changed. Only the slow copy may move.",
    )
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        expect_close(
            after[name].double(),
            state[name].double(),
            f"the {name} of the slow copy",
            causes={
                "The buffers are forgotten: besides parameters(), a module has buffers(), such as "
                "the running mean of a BatchNorm; copy them.": before[name].double(),
                "The buffers are averaged; they are to be copied as they are.": (
                    0.8 * before[name] + 0.2 * state[name]
                ).double(),
            },
            otherwise="Copy the model's buffers as they are, in place.",
            rtol=1e-6,
            atol=1e-6,
        )
    expect_close(
        after["weight"],
        0.8 * before["weight"] + 0.2 * state["weight"],
        "the weights of the slow copy",
        otherwise="With buffers present the parameters must still move as before.",
        rtol=1e-5,
        atol=1e-6,
    )


@exercise("ema_update")
def test_stays_apart(student, rng):
    slow, fast = pair(student, rng, "BatchNorm2d", 3)
    start, goal = slow.state()["weight"], fast.state()["weight"]
    for _ in range(3):
        update(student, slow, fast, 0.5)
    expect_close(
        slow.state()["weight"],
        goal + 0.5**3 * (start - goal),
        "the weights of the slow copy, after three updates,",
        otherwise="One update is right but three are not: does something besides the weights "
        "remember the past?",
        rtol=1e-5,
        atol=1e-6,
    )
    update(student, slow, fast, 0.0)
    kept = flat(slow.state())
    fast.load_state({name: value + 1 for name, value in fast.state().items()})
    expect(
        torch.equal(flat(slow.state()), kept),
        "The slow copy now shares its memory with the model: what trains the one changes the "
        "other. Copy the values; do not assign the tensors.",
    )


@exercise("ema_update")
def test_layers_within_layers(student, rng):
    modules, inner = pair(student, rng, "Linear", 3, 2), pair(student, rng, "BatchNorm2d", 3)
    for module, within in zip(modules, inner, strict=True):
        module.call("add_module", "inner", within)
    old, new = modules[0].state(), modules[1].state()
    update(student, *modules, 0.8)
    after = modules[0].state()
    for name in ("weight", "inner.weight", "inner.running_mean"):
        expect_close(
            after[name],
            new[name] if "running" in name else 0.8 * old[name] + 0.2 * new[name],
            f"in a slow copy that holds a layer within a layer, the tensor {name}",
            causes={
                "It has not moved: parameters() and buffers() of the whole model hold those of "
                "all layers within it too, whatever their names.": old[name],
            },
            otherwise="All layers move alike, however deep they lie and whatever they are called.",
            rtol=1e-5,
            atol=1e-6,
        )
