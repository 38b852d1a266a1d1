"""Hidden tests of lesson 4: faster samplers.

Steps are compared with diffusers' DDIMScheduler and DPMSolverMultistepScheduler on the same noise,
sample by sample, since diffusers takes one t a batch. Orders of convergence are measured on
Gaussian data, for which the best noise prediction and the exact road are known.
"""

import math

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from autograder.picture import Curve, drawable, pictured
from autograder.remote import RemoteError
from autograder.testing import exercise, expect, expect_close, expect_steps, fail
from autograder.testing_samplers import (
    expect_fresh_noise,
    expect_tidy,
    expect_untouched,
    in_order,
    likeness,
)

SHAPES = ((5, 2, 3, 4), (4, 1, 5, 2), (3, 2))  # odd batches, not square, points in the plane
TYPES = ("epsilon", "sample", "v_prediction")
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-4}


class Setting:
    """A short random schedule and everything a step needs; short, so that neighbours differ."""

    def __init__(self, rng, shape=SHAPES[0], dtype=torch.float64, steps=16, last=False):
        betas = 0.03 + 0.22 * torch.rand(steps, generator=rng, dtype=torch.float64)
        self.ac = torch.cumprod(1 - betas, 0).to(dtype)
        order = 4 + torch.randperm(steps - 7, generator=rng)[: shape[0]]
        self.t, self.t_last = order, order + 2
        self.t_prev = order - 2 - torch.randint(0, 2, order.shape, generator=rng)
        if last:
            self.t_prev[::2] = -1
        draw = [torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype) for _ in range(4)]
        self.x, self.prediction, self.noise, self.before = draw
        self.tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
        self.a, self.a_prev, self.a_last = (self.at(t) for t in (self.t, self.t_prev, self.t_last))

    def at(self, t: Tensor) -> Tensor:
        """ᾱ at each sample's step, 1 at -1, shaped to multiply the pictures."""
        bars = torch.cat([self.ac.new_ones(1), self.ac])[t + 1]
        return bars.reshape(-1, *[1] * (self.x.ndim - 1))


def settings(rng, **options):
    dtypes = (torch.float64, torch.float32, torch.float64)
    return [
        Setting(rng, shape, dtype, **options) for shape, dtype in zip(SHAPES, dtypes, strict=True)
    ]


def ask(function, *arguments, **options):
    """Call the learner's function; to an error that t makes, add what usually helps."""
    try:
        answer = function(*arguments, **options)
    except RemoteError as error:
        text = str(error)
        if "must match" in text or "broadcast" in text:
            fail(
                f"{text} ᾱ_t must have one dimension for each of x_t's, to reach all values of its "
                "own sample: gather(alphas_cumprod, t, like=x_t) does that."
            )
        if "t must lie in" in text and "-1" in text:
            fail(f"{text} Step -1 is the clean end, ᾱ = 1: alpha_bar_at knows it, gather does not.")
        if "NoneType" in text:
            fail(
                f"{text} None says that something is not there: no noise where eta is 0, no guess "
                "before the first step. Use it only where it is."
            )
        raise
    shape = arguments[0].shape  # of the pictures
    if isinstance(answer, Tensor) and answer.ndim > len(shape):
        fail(
            f"For pictures of shape {tuple(shape)} the result has shape {tuple(answer.shape)}. "
            "Pictures may have any shape (B, …), so ᾱ needs as many dimensions as x_t: gather and "
            "alpha_bar_at see to that, .view(-1, 1, 1, 1) does not."
        )
    return answer


# --- convert_prediction


def converted(x, p, source, target, signal, sigma, v_sign=1.0):
    """What the formulas give with these coefficients; right or wrong."""
    if source == "epsilon":
        noise, x_0 = p, (x - sigma * p) / signal
    elif source == "sample":
        x_0, noise = p, (x - signal * p) / sigma
    else:
        x_0, noise = signal * x - v_sign * sigma * p, sigma * x + v_sign * signal * p
    v = v_sign * (signal * noise - sigma * x_0)
    return {"epsilon": noise, "sample": x_0, "v_prediction": v}[target]


def conversion_causes(s, source, target):
    a, x, p = s.a, s.x, s.prediction
    signal, sigma = a.sqrt(), (1 - a).sqrt()
    alpha = a / s.at(s.t - 1)

    def result(signal, sigma, v_sign=1.0):
        return converted(x, p, source, target, signal, sigma, v_sign)

    sign = "The sign of v is the other way round: "
    sign += (
        "from v, the picture is √ᾱ_t · x_t - √(1 - ᾱ_t) · v, "
        "and the noise is √(1 - ᾱ_t) · x_t + √ᾱ_t · v."
        if source == "v_prediction"
        else "v = √ᾱ_t · noise - √(1 - ᾱ_t) · x_0, plus before the noise."
    )
    causes = {
        "The prediction comes back unchanged.": p,
        sign: result(signal, sigma, -1.0),
        "The square roots are missing: ᾱ and 1 - ᾱ are shares of the variance.": (result(a, 1 - a)),
        "√ᾱ_t and √(1 - ᾱ_t) have changed places.": result(sigma, signal),
        "The schedule is read one step too late (t + 1).": result(
            s.at(s.t + 1).sqrt(), (1 - s.at(s.t + 1)).sqrt()
        ),
        "The schedule is read one step too early: ᾱ_t is alphas_cumprod[t].": result(
            s.at(s.t - 1).sqrt(), (1 - s.at(s.t - 1)).sqrt()
        ),
        "alpha_t, the share kept in one step, stands where ᾱ_t belongs.": result(
            alpha.sqrt(), (1 - alpha).sqrt()
        ),
        "Every sample was treated with the first sample's t; each has its own.": result(
            signal[:1], sigma[:1]
        ),
    }
    for other in TYPES:
        name = {"epsilon": "the noise", "sample": "the clean picture", "v_prediction": "v"}[other]
        if other not in (source, target):
            causes[f"What comes back is {name}: look again at what `target` asks for."] = converted(
                x, p, source, other, signal, sigma
            )
            causes[f"The prediction was taken for {name}: look again at what `source` says."] = (
                converted(x, p, other, target, signal, sigma)
            )
        causes.setdefault(
            f"`source` and `target` seem to have changed places ({name}).",
            converted(x, p, target, source, signal, sigma),
        )
    causes["Both signs in the formulas for v are off."] = (
        signal * x + sigma * p if target == "sample" else sigma * x - signal * p
    )
    causes["It is clipped to [-1, 1]. Clipping is the sampler's job, which can switch it off."] = (
        converted(x, p, source, target, signal, sigma).clamp(-1, 1)
    )
    return causes


FORMULAS = {
    ("epsilon", "sample"): "x_0 = (x_t - √(1 - ᾱ_t) · noise) / √ᾱ_t",
    ("sample", "epsilon"): "noise = (x_t - √ᾱ_t · x_0) / √(1 - ᾱ_t)",
    ("v_prediction", "sample"): "x_0 = √ᾱ_t · x_t - √(1 - ᾱ_t) · v",
    ("v_prediction", "epsilon"): "noise = √(1 - ᾱ_t) · x_t + √ᾱ_t · v",
}


def conversion_advice(source, target):
    """The formula for one conversion; v is made of both, of which one is given."""
    if target != "v_prediction":
        return f"It is {FORMULAS[source, target]}."
    other = FORMULAS[source, "sample" if source == "epsilon" else "epsilon"]
    return f"It is v = √ᾱ_t · noise - √(1 - ᾱ_t) · x_0, with {other}."


def check_conversion(student, rng, pairs):
    for s in settings(rng):
        scheduler = DDIMScheduler(num_train_timesteps=len(s.ac))
        scheduler.alphas_cumprod = s.ac
        for source, target in pairs:
            expected = converted(s.x, s.prediction, source, target, s.a.sqrt(), (1 - s.a).sqrt())
            if source == "epsilon" and target == "v_prediction":
                x_0 = (s.x - (1 - s.a).sqrt() * s.prediction) / s.a.sqrt()
                expected = scheduler.get_velocity(x_0, s.prediction, s.t)
            expect_close(
                ask(student.convert_prediction, s.prediction, s.x, s.t, s.ac, source, target),
                expected,
                f"a prediction of type {source!r} said as {target!r}",
                causes=conversion_causes(s, source, target),
                otherwise=conversion_advice(source, target),
                **s.tolerance,
            )


@exercise("convert_prediction")
def test_noise_and_picture(student, rng):
    check_conversion(student, rng, [("epsilon", "sample"), ("sample", "epsilon")])


@exercise("convert_prediction")
def test_to_v(student, rng):
    check_conversion(student, rng, [("epsilon", "v_prediction"), ("sample", "v_prediction")])


@exercise("convert_prediction")
def test_from_v(student, rng):
    check_conversion(student, rng, [("v_prediction", "sample"), ("v_prediction", "epsilon")])


@exercise("convert_prediction")
def test_to_itself(student, rng):
    s = Setting(rng)
    for kind in TYPES:
        expect_close(
            ask(student.convert_prediction, s.prediction, s.x, s.t, s.ac, kind, kind),
            s.prediction,
            f"a prediction of type {kind!r} said as {kind!r}",
            causes={"Its sign was turned round.": -s.prediction},
            otherwise="Where source and target are the same, it must come back as it went in.",
            **s.tolerance,
        )


@exercise("convert_prediction")
def test_v_at_the_noisiest_step(student, rng):
    """ᾱ = 0: x_0 can be read from v, though not from the noise."""
    s = Setting(rng)
    ac = torch.cat([s.ac[:-1], s.ac.new_zeros(1)])
    t = torch.full_like(s.t, len(ac) - 1)
    expect_close(
        ask(student.convert_prediction, s.prediction, s.x, t, ac, "v_prediction", "sample"),
        -s.prediction,
        "the clean picture read from v at a step with ᾱ_t = 0",
        otherwise="From v, x_0 = √ᾱ_t · x_t - √(1 - ᾱ_t) · v holds at every step. Do not go by way "
        "of a division by √ᾱ_t, which is 0 here.",
    )


@exercise("convert_prediction")
def test_conversion_leaves_its_arguments_alone(student, rng):
    s = Setting(rng)
    for source in TYPES:
        for target in TYPES:
            expect_untouched(
                lambda *given, names=(source, target): student.convert_prediction(*given, *names),
                student,
                prediction=s.prediction,
                x_t=s.x,
                t=s.t,
                alphas_cumprod=s.ac,
            )


# --- spaced_timesteps


def theirs(total, steps, spacing):
    """diffusers' steps; None where a tie in rounding would decide.

    Its range of a broken stride may overshoot (1000 in strides of 1000/61 gives 62 numbers, the
    surplus one being -1): that is cut off.
    """
    stride = (total - 1) / max(1, steps - 1) if spacing == "linspace" else total / steps
    ties = np.abs(np.arange(steps) * stride % 1 - 0.5).min() < 1e-6
    if ties and spacing != "leading":
        return None
    scheduler = DDIMScheduler(num_train_timesteps=total, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    return scheduler.timesteps[:steps]


def sizes(rng):
    """Some (total, steps), among them strides that are not whole, and some that overshoot."""
    pairs = [(1000, 20), (1000, 7), (1000, 61), (1000, 103)]
    for _ in range(4):
        total = int(torch.randint(30, 1200, (), generator=rng))
        pairs.append((total, int(torch.randint(3, total // 3, (), generator=rng))))
    return [*pairs, (37, 35)]


def spacing_causes(total, steps):
    i = torch.arange(steps, dtype=torch.float64)
    down = i.flip(0)
    return {
        "It rises. A sampler walks from noise to clean, so the largest step comes first.": None,
        "These are the steps of 'leading': i · ⌊T/N⌋.": down * (total // steps),
        "These are the steps of 'trailing'.": ((down + 1) * total / steps).round() - 1,
        "These are the steps of 'linspace'.": (down * (total - 1) / max(1, steps - 1)).round(),
        "The decimals are cut off where the table says round: some steps are one too low.": (
            (down * (total - 1) / max(1, steps - 1)).floor()
        ),
        "The decimals are cut off where the table says round, so some steps are one too low.": (
            ((down + 1) * total / steps).floor() - 1
        ),
        "The stride is cut to a whole number (//) before it is multiplied. Only leading does that; "
        "trailing rounds the whole product (i + 1) · T/N.": (down + 1) * (total // steps) - 1,
        "The stride is cut to a whole number (//) before it is multiplied. Only leading does that; "
        "linspace rounds the whole product i · (T - 1)/(N - 1).": (
            down * ((total - 1) // max(1, steps - 1))
        ),
        "The steps count from 1: the noisiest of T steps is T - 1, so 1 must be taken off.": (
            ((down + 1) * total / steps).round()
        ),
        "The stride is rounded before it is multiplied; multiply first, then round.": (
            (down + 1) * round(total / steps) - 1
        ),
        "Linspace must end at T - 1, the noisiest step; this goes up to T.": (
            (down * total / max(1, steps - 1)).round()
        ),
        "Linspace has N - 1 strides between N steps; this divides by N.": (
            (down * (total - 1) / steps).round()
        ),
        "Leading multiplies by the whole number ⌊T/N⌋ (in Python T // N), not by T/N.": (
            (down * total / steps).floor()
        ),
        "Leading multiplies by the whole number ⌊T/N⌋ (T // N); this rounds T/N · i.": (
            (down * total / steps).round()
        ),
        "There is 1 too much: leading ends at step 0.": down * (total // steps) + 1,
    }


def check_spacing(student, rng, spacing):
    for total, steps in sizes(rng):
        expected = theirs(total, steps, spacing)
        if expected is None:
            continue
        actual = student.spaced_timesteps(total, steps, spacing)
        causes = {text: value for text, value in spacing_causes(total, steps).items()}
        rising = next(text for text, value in causes.items() if value is None)
        causes[rising] = expected.flip(0)
        if total != 1000 and (fixed := theirs(1000, steps, spacing)) is not None:
            causes["1000 is written into the code where num_train_timesteps belongs."] = fixed
        causes = {
            text: value.long()
            for text, value in causes.items()
            if not torch.equal(value.long(), expected)
        }
        if isinstance(actual, Tensor) and actual.is_floating_point():
            fail("Steps are whole numbers: make them int64, for instance with .long().")
        if isinstance(actual, Tensor) and actual.ndim == 1 and len(actual) != len(expected):
            room = "in strides of ⌊T/N⌋ may have room for more than N steps"
            if spacing != "leading":
                room = "whose stride is not whole may overshoot its end, by rounding"
            fail(
                f"spaced_timesteps should give exactly num_inference_steps steps with {spacing!r}; "
                f"yours are {'more' if len(actual) > len(expected) else 'fewer'} for {steps} of "
                f"{total}. (A range {room}: count N steps first, then multiply by the stride"
                f"{', which is T/N, not T // N' if spacing == 'trailing' else ''}.)"
            )
        if isinstance(actual, Tensor) and actual.shape == expected.shape:
            found = [text for text, value in causes.items() if torch.equal(actual.long(), value)]
            if found:
                fail(f"With {spacing!r} spacing the timesteps are not right. {found[0]}")
            if len(actual.unique()) < len(actual):
                fail(f"With {spacing!r} some steps come twice; each must be visited once.")
            wrong = int((actual != expected).sum())
            if wrong:
                where = "some of the" if wrong < len(expected) else "all"
                fail(
                    f"With {spacing!r} spacing {where} timesteps are not right, of {total} and "
                    f"{steps}. Compare with its row in the lesson's table: is there a round() "
                    "where it says round, of the whole product, and // only in 'leading'?"
                )
        expect_close(
            actual,
            expected,
            f"with {spacing!r} spacing, the timesteps",
            causes=causes,
            otherwise="Compare with its row in the lesson's table; they run from noisy to clean.",
            check_dtype=True,
        )


@exercise("spaced_timesteps")
def test_leading(student, rng):
    check_spacing(student, rng, "leading")


@exercise("spaced_timesteps")
def test_trailing(student, rng):
    check_spacing(student, rng, "trailing")


@exercise("spaced_timesteps")
def test_linspace(student, rng):
    check_spacing(student, rng, "linspace")


@exercise("spaced_timesteps")
def test_ends_and_default(student, rng):
    total, steps = 1000, 25
    expect_close(
        student.spaced_timesteps(total, steps),
        theirs(total, steps, "trailing"),
        "with no spacing given, the timesteps",
        causes={text: v for text, v in spacing_causes(total, steps).items() if v is not None},
        otherwise="Not given, spacing is 'trailing', as the signature says.",
    )
    for spacing in ("leading", "trailing", "linspace"):
        every = student.spaced_timesteps(9, 9, spacing)
        expect(
            isinstance(every, Tensor) and every.tolist() == list(range(9))[::-1],
            f"With as many steps to take as there are, {spacing!r} must visit every step once, "
            "from T - 1 down to 0.",
        )
        one = student.spaced_timesteps(9, 1, spacing)
        expect(
            isinstance(one, Tensor) and one.tolist() == [8 if spacing == "trailing" else 0],
            f"With a single step (N = 1), {spacing!r} does not give the step that the formulas ask "
            "for; for linspace the docstring says which.",
        )


@exercise("spaced_timesteps")
def test_unknown_spacing(student, rng):
    try:
        student.spaced_timesteps(100, 5, "evenly")
    except RemoteError as error:
        expect(
            error.type_name == "ValueError",
            f"An unknown spacing should raise a ValueError that says so. {error}",
        )
        return
    fail("An unknown spacing, such as a misspelt one, is accepted in silence: raise a ValueError.")


@pictured("spaced_timesteps")
def test_spaced_timesteps_picture(student, draw):
    total, steps = 32, 6  # no tie in rounding
    panels = []
    for spacing in ("leading", "trailing", "linspace"):
        yours = student.spaced_timesteps(total, steps, spacing)
        expected = theirs(total, steps, spacing)
        panels.append(Curve(spacing, yours, expected, "number of the step", "t", dots=True))
    draw(*panels, inputs=f"for {steps} of {total} steps")


# --- ddim_step


class Ddim(DDIMScheduler):
    """diffusers' scheduler on any alphas_cumprod, from any t to any t_prev."""

    def __init__(self, ac, clip=False):
        super().__init__(num_train_timesteps=len(ac), clip_sample=clip)
        self.alphas_cumprod, self.num_inference_steps = ac, 1

    def each(self, x, noise_pred, t, t_prev, eta, noise):
        """x_prev with steps of its own for every sample."""
        rows = []
        for i in range(len(x)):
            self.register_to_config(num_train_timesteps=int(t[i] - t_prev[i]))
            one = [value[i : i + 1] for value in (noise_pred, x, noise)]
            step = self.step(
                one[0],
                int(t[i]),
                one[1],
                eta,
                use_clipped_model_output=True,
                variance_noise=one[2] if eta else None,
            )
            rows.append(step.prev_sample)
        return torch.cat(rows)


def mix(s, eta, x_0=None, e=None, p=None, sigma=None, direction=None, signal=None):
    """DDIM's sum with some of its parts replaced; right where nothing is."""
    a, p = s.a, s.a_prev if p is None else p
    e = s.prediction if e is None else e
    x_0 = (s.x - (1 - a).sqrt() * s.prediction) / a.sqrt() if x_0 is None else x_0
    sigma = eta * ((1 - p) / (1 - a) * (1 - a / p)).sqrt() if sigma is None else sigma
    direction = (1 - p - sigma**2).clamp(min=0).sqrt() if direction is None else direction
    signal = p.sqrt() if signal is None else signal
    return signal * x_0 + direction * e + sigma * s.noise


def ddim_causes(s, eta):
    a, p = s.a, s.a_prev
    variance = (1 - p) / (1 - a) * (1 - a / p)
    sigma = eta * variance.sqrt()
    x_0 = (s.x - (1 - a).sqrt() * s.prediction) / a.sqrt()
    one_back, too_late, too_early = (
        s.at(s.t - 1),
        s.at(s.t_prev + 1),
        s.at((s.t_prev - 1).clamp(min=-1)),
    )
    one_step = 1 - a / s.at(s.t - 1)
    causes = {
        "It lands at t - 1, one step down. The step must land at t_prev, wherever that is.": mix(
            s, eta, p=one_back
        ),
        "The schedule is read one step too late at the landing point: ᾱ_prev is the ᾱ of t_prev "
        "itself, not of t_prev + 1.": mix(s, eta, p=too_late),
        "The schedule is read one step too early at the landing point: ᾱ_prev is the ᾱ of t_prev "
        "itself.": mix(s, eta, p=too_early),
        "σ stands as the coefficient of the predicted noise (the direction); there belongs "
        "√(1 - ᾱ_prev - σ²).": mix(s, eta, direction=sigma),
        "The coefficient of the predicted noise does not land at t_prev: it uses ᾱ_t.": mix(
            s, eta, direction=(1 - a - sigma**2).sqrt()
        ),
        "The root over 1 - ᾱ_prev - σ² is missing.": mix(s, eta, direction=1 - p - sigma**2),
        "The root over ᾱ_prev, before the clean guess, is missing.": mix(s, eta, signal=p),
        "The clean guess is scaled by √ᾱ_t; it must be scaled for where the step lands, "
        "√ᾱ_prev.": mix(s, eta, signal=a.sqrt()),
        "The clean guess is not scaled: it is multiplied by √ᾱ_prev.": mix(s, eta, signal=1.0),
        "The direction is taken away where it must be added.": mix(s, eta, e=-s.prediction),
        "x_t itself is mixed in where the guess of the clean picture belongs.": mix(
            s, eta, x_0=s.x
        ),
        "Every sample was treated with the first sample's t_prev; each has its own.": mix(
            s, eta, p=p[:1]
        ),
    }
    if eta:
        causes |= {
            "σ² is not taken off under the root: fresh noise comes on top of the old, and the "
            "picture gets too noisy. Their variances must add up to 1 - ᾱ_prev.": mix(
                s, eta, direction=(1 - p).sqrt()
            ),
            "σ, not σ², is taken off under the root.": mix(
                s, eta, direction=(1 - p - sigma).clamp(min=0).sqrt()
            ),
            "The root over the variance is missing: σ is eta times √((1 - ᾱ_prev)/(1 - ᾱ_t)) "
            "times √(1 - ᾱ_t/ᾱ_prev).": mix(s, eta, sigma=eta * variance),
            "eta went under the root: σ is eta times the root of the variance.": mix(
                s, eta, sigma=(eta * variance).sqrt()
            ),
            "Only one of the two factors of σ has its root.": mix(
                s, eta, sigma=eta * ((1 - p) / (1 - a)) * (1 - a / p).sqrt()
            ),
            "eta is squared: σ is eta times the root of the variance.": mix(
                s, eta, sigma=eta**2 * variance.sqrt()
            ),
            "eta is ignored: the fresh noise is always at full strength.": mix(
                s, eta, sigma=variance.sqrt()
            ),
            "eta is ignored: no fresh noise is added.": mix(s, 0.0),
            "The fresh noise is not scaled by σ.": mix(s, eta) + (1 - sigma) * s.noise,
            "The third term takes the predicted noise once more; there belongs the argument "
            "`noise`, which is new.": mix(s, eta) + sigma * (s.prediction - s.noise),
            "Fresh noise is missing, though room was made for it: the third term, σ · noise.": mix(
                s, eta
            )
            - sigma * s.noise,
            "1 - ᾱ_t/ᾱ_prev was taken over one step only (beta_t). For a long step it is the "
            "ratio of the ᾱ at its two ends.": mix(
                s, eta, sigma=eta * ((1 - p) / (1 - a) * one_step).sqrt()
            ),
            "In σ the fraction is upside down: it is (1 - ᾱ_prev)/(1 - ᾱ_t).": mix(
                s, eta, sigma=eta * ((1 - a) / (1 - p) * (1 - a / p)).sqrt()
            ),
            "This steps to the posterior's mean with the fresh noise of eta = 1, as DDPM does; "
            "σ must follow eta.": mix(s, 1.0),
        }
    else:
        causes |= {
            "Fresh noise is added although eta is 0.": mix(s, 1.0),
            "Room is made for fresh noise although eta is 0: eta is ignored in σ.": (
                mix(s, 1.0) - variance.sqrt() * s.noise
            ),
            "The predicted noise is forgotten: only the clean guess is left.": p.sqrt() * x_0,
        }
    return causes


def check_ddim(student, s, eta, what, clip=False, causes=None, omit=()):
    expected = Ddim(s.ac, clip).each(s.x, s.prediction, s.t, s.t_prev, eta, s.noise)
    options = {"eta": eta, "noise": s.noise, "clip_sample": clip}
    options = {name: value for name, value in options.items() if name not in omit}
    given = s.x, s.prediction, s.t, s.t_prev, s.ac
    actual = ask(student.ddim_step, *given, **options)
    if isinstance(actual, Tensor) and eta and actual.shape == expected.shape:
        expect(
            torch.equal(actual, torch.as_tensor(ask(student.ddim_step, *given, **options))),
            "Two calls with the same arguments give two different results: ddim_step draws noise "
            "of its own. The fresh noise comes in as the argument `noise`; use that.",
        )
    expect_close(
        actual,
        expected,
        what,
        causes=ddim_causes(s, eta) if causes is None else causes,
        otherwise="It is √ᾱ_prev · x_0_pred + √(1 - ᾱ_prev - σ²) · noise_pred + σ · noise "
        "(equation 12 of DDIM), with σ = η · √((1 - ᾱ_prev)/(1 - ᾱ_t)) · √(1 - ᾱ_t/ᾱ_prev).",
        **s.tolerance,
    )


@exercise("ddim_step")
def test_same_noise(student, rng):
    for s in settings(rng):
        check_ddim(student, s, 0.0, "the result of a step with eta = 0", omit=("eta", "noise"))


@exercise("ddim_step")
def test_fresh_noise(student, rng):
    for s in settings(rng):
        for eta in (0.6, 1.0):
            check_ddim(student, s, eta, f"the result of a step with eta = {eta:g}")


@exercise("ddim_step")
def test_clean_end(student, rng):
    for eta in (0.0, 0.8):
        s = Setting(rng, last=True)
        end = (s.t_prev == -1).reshape(-1, 1, 1, 1)
        right = mix(s, eta)
        message = "At t_prev = -1, the clean end, "
        causes = {
            message + "noise is added: nobody would remove it again. σ is 0 there.": torch.where(
                end, right + eta * ((1 - s.a) / 2).sqrt() * s.noise, right
            ),
            message + "the schedule was read with alphas_cumprod[-1], which is the noisiest step. "
            "ᾱ is 1 there: alpha_bar_at knows that.": mix(
                s, eta, p=torch.where(end, s.ac[-1], s.a_prev)
            ),
            message + "ᾱ of step 0 was used; it is 1 there: alpha_bar_at knows that.": mix(
                s, eta, p=torch.where(end, s.ac[0], s.a_prev)
            ),
            "One sample at the clean end has switched off the noise of the whole batch: every "
            "sample has its own steps.": mix(s, 0.0),
            "One sample goes to the clean end, and the whole batch was sent there: every sample "
            "has its own t_prev.": mix(s, eta, p=torch.ones_like(s.a)),
        }
        last = mix(s, eta)
        for scale in (eta, 1.0):
            full = scale * (1 - s.a / 1).sqrt()
            causes[
                f"{message}noise of size {'eta · ' if scale != 1 else ''}√(1 - ᾱ_t) is added."
            ] = torch.where(end, last + full * s.noise, last)
            causes[
                f"{message}noise is added{' at full strength' if scale == 1 else ''}: nobody "
                "would remove it again."
            ] = torch.where(end, last + scale * s.noise, last)
        check_ddim(
            student, s, eta, "the result of steps of which some go to the clean end", causes=causes
        )


@exercise("ddim_step")
def test_clipping(student, rng):
    for s in settings(rng):
        s.x = 2 * s.x
        for eta in (0.0, 0.6):
            a, p = s.a, s.a_prev
            kept = ((s.x - (1 - a).sqrt() * s.prediction) / a.sqrt()).clamp(-1, 1)
            again = (s.x - a.sqrt() * kept) / (1 - a).sqrt()
            causes = {
                "The guess is clipped but the noise stays as it was, so the two no longer make up "
                "x_t: after clipping, work noise_pred out anew from x_t and the guess.": mix(
                    s, eta, x_0=kept
                ),
                "Nothing is clipped, though clip_sample is True.": mix(s, eta),
                "x_prev is clipped. Clip the guess of the clean picture; x_prev still holds noise "
                "and may lie outside.": mix(s, eta).clamp(-1, 1),
                "The guess is clipped to [0, 1]; black is -1.": mix(
                    s,
                    eta,
                    x_0=kept.clamp(min=0),
                    e=(s.x - a.sqrt() * kept.clamp(min=0)) / (1 - a).sqrt(),
                ),
                "The noise is worked out anew without the division by √(1 - ᾱ_t).": mix(
                    s, eta, x_0=kept, e=s.x - a.sqrt() * kept
                ),
                "The noise is worked out anew with ᾱ_prev; it must make up x_t, so ᾱ_t.": mix(
                    s, eta, x_0=kept, e=(s.x - p.sqrt() * kept) / (1 - p).sqrt()
                ),
                "The noise is worked out anew from the clipped guess, but the guess itself is used "
                "as it was.": mix(s, eta, e=again),
            }
            check_ddim(student, s, eta, "the result of a step with clip_sample=True", True, causes)
    s = Setting(rng)
    check_ddim(
        student,
        s,
        0.0,
        "the result of a step when clip_sample is not given",
        True,
        {"Not given, clip_sample is True, as the signature says.": mix(s, 0.0)},
        omit=("clip_sample",),
    )


AS_THE_END = "Step 0 was taken for the clean end, which is step -1: ᾱ_0 is below 1."


@exercise("ddim_step")
def test_lands_at_0(student, rng):
    s = Setting(rng)
    s.t_prev = torch.zeros_like(s.t)
    s.a_prev = s.at(s.t_prev)
    causes = {AS_THE_END: mix(s, 0.6, p=torch.ones_like(s.a_prev))} | ddim_causes(s, 0.6)
    check_ddim(student, s, 0.6, "the result of a step that lands at t_prev = 0", causes=causes)


@exercise("ddim_step")
def test_ddim_step_leaves_its_arguments_alone(student, rng):
    s = Setting(rng)
    expect_untouched(
        lambda *given: student.ddim_step(*given[:5], eta=0.6, noise=given[5]),
        student,
        x_t=s.x,
        noise_pred=s.prediction,
        t=s.t,
        t_prev=s.t_prev,
        alphas_cumprod=s.ac,
        noise=s.noise,
    )


@exercise("ddim_step")
def test_rounding_near_pure_noise(student, rng):
    """At t = 999 of the cosine schedule ᾱ_t is 2e-9, and 1 - ᾱ_prev - σ² is 0 but for rounding."""
    u = torch.arange(1001, dtype=torch.float64) / 1000
    bars = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    ac = torch.cumprod(1 - (1 - bars[1:] / bars[:-1]).clamp(max=0.999), 0).float()
    t_prev = torch.cat([torch.tensor([799]), torch.arange(0, 999, 7)])
    t, shape = torch.full_like(t_prev, 999), (len(t_prev), 2, 3)
    x, noise, away = (torch.randn(shape, generator=rng) for _ in range(3))
    noise_pred = x + torch.where(away < 0, -0.5, 0.5) + 0.1 * away  # far off, so the guess is ±1
    expected = Ddim(ac.double(), True).each(
        x.double(), noise_pred.double(), t, t_prev, 1.0, noise.double()
    )
    expect_close(
        ask(student.ddim_step, x, noise_pred, t, t_prev, ac, eta=1.0, noise=noise),
        expected.float(),
        "the result of steps from t = 999 with eta = 1, in float32,",
        otherwise="There 1 - ᾱ_prev - σ² is nearly 0, and rounding can push it below zero, where "
        "the root is NaN: clamp it to at least 0 before taking the root.",
        rtol=3e-3,
        atol=3e-3,
    )


@pictured("ddim_step")
def test_ddim_step_picture(student, draw):
    """Where one step from t = 900 lands, for every t_prev below it."""
    ac = DDIMScheduler().alphas_cumprod.double()
    t_prev = torch.arange(-1, 900, 9)
    t, ones = torch.full_like(t_prev, 900), torch.ones(len(t_prev), 1, dtype=torch.float64)
    x, noise_pred, noise = 0.6 * ones, 0.8 * ones, -0.7 * ones
    panels = []
    for eta in (0.0, 0.6):
        s = placed(x, noise_pred, t, t_prev, ac, noise)
        options = {"eta": eta, "noise": noise, "clip_sample": False}
        yours = drawable(student.ddim_step(x, noise_pred, t, t_prev, ac, **options))
        yours = yours[:, 0] if yours.shape == x.shape else yours
        title = f"one step from t = 900, eta = {eta:g}"
        panels.append(Curve(title, yours, mix(s, eta)[:, 0], "where it lands, t_prev", "x_prev",
                            t_prev))  # fmt: skip
    draw(*panels, inputs="for one pixel on the linear schedule, without clipping")


# --- dpmpp_2m_step


class Dpm(DPMSolverMultistepScheduler):
    """diffusers' solver on any schedule; one step for each sample, with or without memory."""

    def each(self, s, memory):
        rows = []
        for i in range(len(s.x)):
            bars = torch.stack([v.flatten()[i].double() for v in (s.a_last, s.a, s.a_prev)])
            self.sigmas, self._step_index = ((1 - bars) / bars).sqrt(), 1
            x, m0, m1 = (v[i : i + 1].double() for v in (s.x, s.prediction, s.before))
            if memory and bars[2] < 1:
                row = self.multistep_dpm_solver_second_order_update([m1, m0], sample=x)
            else:
                row = self.dpm_solver_first_order_update(m0, sample=x)
            rows.append(row)
        return torch.cat(rows).to(s.x.dtype)


def lam(bar):
    return (bar / (1 - bar)).log() / 2


def solve(s, aim=None, h=None, keep=None, signal=None):
    """The solver's sum with some of its parts replaced; first order where nothing is."""
    p, a = s.a_prev, s.a
    h = lam(p) - lam(a) if h is None else h
    keep = ((1 - p) / (1 - a)).sqrt() if keep is None else keep
    signal = p.sqrt() if signal is None else signal
    return keep * s.x + signal * (1 - torch.exp(-h)) * (s.prediction if aim is None else aim)


def solver_causes(s, factor):
    """For aim = guess + factor · (guess - guess before)."""
    p, a, x_0 = s.a_prev, s.a, s.prediction
    h, trend = lam(p) - lam(a), s.prediction - s.before
    right = x_0 + factor * trend
    noise = (s.x - a.sqrt() * x_0) / (1 - a).sqrt()
    full = torch.log(p / (1 - p)) - torch.log(a / (1 - a))
    return {
        "h has the wrong sign: it is λ_prev - λ_t, above 0, since λ grows as the picture "
        "appears.": solve(s, right, h=-h),
        "The ½ in λ is missing: λ is the logarithm of √ᾱ/√(1 - ᾱ), half the log-SNR "
        "(half_log_snr).": solve(s, right, h=full),
        "The first term must shrink the noise, √(1 - ᾱ_prev)/√(1 - ᾱ_t), and not scale the "
        "signal, √ᾱ_prev/√ᾱ_t.": solve(s, right, keep=(p / a).sqrt()),
        "The roots in the first term are missing.": solve(s, right, keep=(1 - p) / (1 - a)),
        "The first term is upside down: √(1 - ᾱ_prev)/√(1 - ᾱ_t).": solve(
            s, right, keep=((1 - a) / (1 - p)).sqrt()
        ),
        "x_t is not scaled: the first term is √(1 - ᾱ_prev)/√(1 - ᾱ_t) · x_t.": solve(
            s, right, keep=1.0
        ),
        "The root over ᾱ_prev in the second term is missing.": solve(s, right, signal=p),
        "The second term is scaled by √ᾱ_t; it must be scaled for where the step lands.": solve(
            s, right, signal=a.sqrt()
        ),
        "The second term is scaled by √(1 - ᾱ_prev), which belongs to a solver that follows the "
        "noise; this one follows the clean guess: √ᾱ_prev.": solve(s, right, signal=(1 - p).sqrt()),
        "This is the formula for predicted noise (DPM-Solver without ++), given a clean picture: "
        "mind which of the two is predicted.": (
            (p / a).sqrt() * s.x - (1 - p).sqrt() * (torch.exp(h) - 1) * right
        ),
        "It works with the noise where the clean guess belongs.": solve(s, noise),
        "The sign of the second term is wrong: e^(-h) is below 1, so 1 - e^(-h) is above 0.": (
            solve(s, -right)
        ),
        "e^(-h) - 1 and 1 - e^(-h) have been mixed up, or h and -h.": solve(s, -right, h=-h),
        "The aim is clipped to [-1, 1]. Clipping is the loop's job, which can switch it off.": (
            solve(s, right.clamp(-1, 1))
        ),
        "Every sample was treated with the first sample's h; each has its own steps.": solve(
            s, right, h=h[:1]
        ),
        "The roots in the first term are not right: √(1 - ᾱ_prev)/√(1 - ᾱ_t) has one above and "
        "one below.": solve(s, right, keep=(1 - p).sqrt() / (1 - a)),
        "It lands at t - 1, one step down; the step must land at t_prev.": landed(
            s, s.t - 1, factor
        ),
        "The schedule is read one step too late at the landing point: ᾱ_prev is the ᾱ of t_prev "
        "itself.": landed(s, s.t_prev + 1, factor),
    }


def landed(s, t_prev, factor):
    p = s.at(t_prev)
    aim = s.prediction + factor * (s.prediction - s.before)
    return solve(
        s,
        aim,
        h=lam(p) - lam(s.a),
        keep=((1 - p) / (1 - s.a)).sqrt(),
        signal=p.sqrt(),
    )


SOLVER = (
    "It is √(1 - ᾱ_prev)/√(1 - ᾱ_t) · x_t + √ᾱ_prev · (1 - e^(-h)) · aim, with h = λ_prev - λ_t "
    "and λ = log(√ᾱ/√(1 - ᾱ)), the natural logarithm (half_log_snr)."
)


@exercise("dpmpp_2m_step")
def test_first_step(student, rng):
    for s in settings(rng):
        expect_close(
            ask(student.dpmpp_2m_step, s.x, s.prediction, s.t, s.t_prev, s.ac),
            Dpm().each(s, memory=False),
            "the result of a first step, which has no guess before it,",
            causes=solver_causes(s, 0.0),
            otherwise=f"{SOLVER} Without a guess before it, the aim is x_0_pred itself.",
            **s.tolerance,
        )


@exercise("dpmpp_2m_step")
def test_second_order(student, rng):
    for s in settings(rng):
        h, h_last = lam(s.a_prev) - lam(s.a), lam(s.a) - lam(s.a_last)
        trend, factor = s.prediction - s.before, h / (2 * h_last)

        def aimed(factor, s=s, trend=trend):
            return solve(s, s.prediction + factor * trend)

        in_t = ((s.t - s.t_prev) / (2.0 * (s.t_last - s.t))).reshape(h.shape).to(s.x.dtype)
        causes = {
            "The guess before it changes nothing: this is the first-order step (DDIM). Aim at "
            "x_0_pred + h/(2·h_last) · (x_0_pred - x_0_pred_last).": aimed(0.0),
            "The ratio is upside down: it is h, this step, over h_last, the step before.": aimed(
                h_last / (2 * h)
            ),
            "The ½ is missing: aim at the middle of the step, h/(2·h_last).": aimed(h / h_last),
            "h / 2 * h_last divides by 2 only and multiplies by h_last: mind the brackets, "
            "h / (2 * h_last).": aimed(h / 2 * h_last),
            "There is a 2 too much, or the ½ is squared: the factor is h/(2·h_last).": aimed(
                h / (4 * h_last)
            ),
            "The factor ½ stands there alone: it is h/(2·h_last), since steps differ in length.": (
                aimed(0.5)
            ),
            "It aims away from where the guess is heading: the difference is x_0_pred minus "
            "x_0_pred_last, and h_last is λ at t minus λ at t_last. One of them is turned "
            "round.": aimed(-factor),
            "It aims at the mean of the two guesses, between them; go on beyond the newer one.": (
                solve(s, (s.prediction + s.before) / 2)
            ),
            "It aims at the older guess.": solve(s, s.before),
            "The step lengths are measured in t. They must be measured in λ (half_log_snr).": aimed(
                in_t
            ),
            "h_last is measured from t_prev, over both steps; it is λ_t - λ_last alone.": aimed(
                h / (2 * (h + h_last))
            ),
            "The line is drawn from the older guess: start from x_0_pred, the newer one.": solve(
                s, s.before + factor * trend
            ),
            "h_last has the wrong sign, or t and t_last have changed places.": aimed(-factor),
        } | solver_causes(s, factor)
        expect_close(
            ask(
                student.dpmpp_2m_step,
                s.x,
                s.prediction,
                s.t,
                s.t_prev,
                s.ac,
                s.before,
                s.t_last,
            ),
            Dpm().each(s, memory=True),
            "the result of a step with a guess before it",
            causes=causes,
            otherwise="Aim at x_0_pred + h/(2·h_last) · (x_0_pred - x_0_pred_last), with "
            "h = λ_prev - λ_t and h_last = λ_t - λ_last (of t_last, not of t_prev).",
            **s.tolerance,
        )


@exercise("dpmpp_2m_step")
def test_solver_lands_at_0(student, rng):
    s = Setting(rng)
    s.t_prev = torch.zeros_like(s.t)
    s.a_prev = s.at(s.t_prev)
    given = s.x, s.prediction, s.t, s.t_prev, s.ac
    for memory in (False, True):
        expect_close(
            ask(student.dpmpp_2m_step, *given, *((s.before, s.t_last) if memory else ())),
            Dpm().each(s, memory=memory),
            "the result of a step that lands at t_prev = 0",
            causes={
                AS_THE_END: s.prediction,
                "This is the first-order step. Only a step to -1 has no middle; one to step 0 "
                "aims at where the guess is heading, like all others.": Dpm().each(s, False),
            },
            otherwise="Only step -1 is the clean end; step 0 is a step like all others.",
            **s.tolerance,
        )


@exercise("dpmpp_2m_step")
def test_solver_leaves_its_arguments_alone(student, rng):
    s = Setting(rng)
    expect_untouched(
        student.dpmpp_2m_step,
        student,
        x_t=s.x,
        x_0_pred=s.prediction,
        t=s.t,
        t_prev=s.t_prev,
        alphas_cumprod=s.ac,
        x_0_pred_last=s.before,
        t_last=s.t_last,
    )


@exercise("dpmpp_2m_step")
def test_step_to_the_clean_end(student, rng):
    s = Setting(rng, last=True)
    end = (s.t_prev == -1).reshape(-1, 1, 1, 1)
    first = Dpm().each(s, memory=False)
    expect_close(
        ask(student.dpmpp_2m_step, s.x, s.prediction, s.t, s.t_prev, s.ac, s.before, s.t_last),
        Dpm().each(s, memory=True),
        "the result of steps of which some go to the clean end",
        causes={
            "One sample at the clean end has made the whole batch first order: every sample has "
            "its own steps.": first,
            "At the clean end the guess is pushed on although h is infinite there: the result is "
            "x_0_pred itself.": torch.where(end, 1.5 * s.prediction - 0.5 * s.before, first),
        },
        otherwise="At t_prev = -1, ᾱ_prev is 1 and h infinite; e^(-h) is 0 and the factor before "
        "the difference must be set to 0, so that x_0_pred itself is returned (with torch.where: "
        "infinity times 0 is NaN). The other samples of a batch keep their second order.",
        **s.tolerance,
    )


# --- the loops


class Gaussian:
    """The best possible prediction for x_0 ~ N(m, s²); writes down how it was called."""

    def __init__(self, ac, m=0.0, s=1.0, kind="epsilon"):
        self.ac, self.m, self.s, self.kind, self.xs, self.ts, self.said = ac, m, s, kind, [], [], []

    def __call__(self, *arguments, **named):
        arguments = in_order(arguments, named)
        x, t = arguments if len(arguments) == 2 else (arguments[0], torch.zeros(1))
        self.xs.append(x)
        self.ts.append(t)
        step = int(torch.as_tensor(t).flatten()[0]) if torch.as_tensor(t).numel() else 0
        a = self.ac[max(0, min(step, len(self.ac) - 1))].to(x.dtype)
        noise = (1 - a).sqrt() * (x - a.sqrt() * self.m) / (a * self.s**2 + 1 - a)
        answer = converted(x, noise, "epsilon", self.kind, a.sqrt(), (1 - a).sqrt())
        self.said.append(answer)
        return answer


def linear(steps, top=8.0):
    return torch.cumprod(1 - torch.linspace(0.4 / steps, top / steps, steps).double(), 0)


def check_steps(model, few, batch):
    """The model must be asked at each of the given steps once, in their order, with (B,) int64."""
    for t in model.ts:
        expect(
            isinstance(t, Tensor) and t.shape == (batch,) and t.dtype == torch.int64,
            "The model wants one step a sample: t as an int64 tensor of shape (B,), for instance "
            "made by torch.full.",
        )
    steps, wanted = [int(t[0]) for t in model.ts], few.tolist()
    if steps == wanted:
        return
    if len(steps) == 1 < len(wanted) and steps[0] == wanted[0]:
        fail("The model is asked only once: does `return` stand inside the loop?")
    if steps and steps == wanted[::-1][: len(steps)]:
        fail("The loop runs upwards; walk through `timesteps` as they stand, from noise to clean.")
    if steps == wanted[:-1]:
        fail("The last of the timesteps is left out: from there the step goes to the clean end.")
    if steps == wanted[1:]:
        fail("The first of the timesteps, the noisiest, is left out.")
    if steps == [*wanted[1:], -1] or -1 in steps:
        fail("The model is asked at the step where the jump lands; ask it where the jump starts.")
    if len(steps) == len(model.ac):
        fail("The model is asked at every step of the schedule; visit those in `timesteps` only.")
    if len(steps) > len(wanted) and sorted(set(steps)) == sorted(wanted):
        fail("The model is asked more than once a step; one prediction a step is enough.")
    if steps and steps == list(range(len(wanted)))[::-1]:
        fail("The model gets the position in the list; it wants the step itself.")
    fail("The model must be asked once at each of the timesteps, in their order.")


def walked(function, model, x_T, few, batch, **options):
    """Run the learner's loop; if it breaks, first say what was wrong with the steps."""
    try:
        result = function(model, x_T, model.ac, few, **options)
    except Exception:
        if model.ts:
            odd = [t for t in model.ts if not isinstance(t, Tensor) or t.shape != (batch,)]
            if odd or [int(t[0]) for t in model.ts] != few.tolist()[: len(model.ts)]:
                check_steps(model, few, batch)
        raise
    check_steps(model, few, batch)
    expect(
        isinstance(result, Tensor) and result.shape == x_T.shape,
        "The sampler must return the pictures, in the shape of x_T.",
    )
    expect_close(
        model.xs[0],
        x_T,
        "the first picture that the model is shown",
        otherwise="The walk must start from the argument x_T, unchanged.",
    )
    return result


PARENTS = "It stands on your convert_prediction and {}: are both graded as passed?"


def follow(model, few, result, step, name, otherwise=""):
    """Compare each step of the walk with diffusers', from the place where the learner stood."""
    walk, ends = [*model.xs[1:], result], [*few.tolist()[1:], -1]
    for i, (x, x_prev, t, end) in enumerate(zip(model.xs, walk, model.ts, ends, strict=True)):
        expected, causes = step(i, x, t, torch.full_like(t, end))
        where = "the walk's final step" if end == -1 else f"step {i + 1} of a walk of {len(few)}"
        expect_close(
            x_prev,
            expected,
            f"the result of {where}",
            causes={"The step's result is not carried on to the next.": x} | causes,
            otherwise=otherwise
            or f"Each step goes from one of the timesteps to the one after it, the final one to "
            f"-1. {PARENTS.format(name)}",
            rtol=1e-4,
            atol=1e-4,
        )


def placed(x, noise_pred, t, t_prev, ac, noise=None, before=None, t_last=None):
    """What `mix`, `solve` and diffusers' classes above need, made from a walk."""
    s = Setting.__new__(Setting)
    s.x, s.prediction, s.t, s.t_prev, s.ac = x, noise_pred, t, t_prev, ac
    s.noise = torch.zeros_like(x) if noise is None else noise
    s.before, s.t_last = before, t_last
    s.a, s.a_prev = s.at(t), s.at(t_prev)
    s.a_last = None if t_last is None else s.at(t_last)
    return s


@exercise("sample_ddim")
def test_ddim_walk(student, rng):
    for kind, clip in (("epsilon", False), ("v_prediction", True), ("sample", False)):
        few = torch.tensor([18, 13, 9, 5, 2])
        model = Gaussian(linear(20), 0.4, 0.3, kind)
        x_T = 1.5 * torch.randn(3, 2, 5, 4, generator=rng, dtype=torch.float64)
        result = walked(
            student.sample_ddim, model, x_T, few, 3, clip_sample=clip, prediction_type=kind
        )

        def step(i, x, t, t_prev, model=model, kind=kind, clip=clip, result=result):
            a, said = model.ac[t[0]], model.said[i]
            signal, sigma = a.sqrt(), (1 - a).sqrt()
            noise_pred = converted(x, said, kind, "epsilon", signal, sigma)
            expected = Ddim(model.ac, clip).each(x, noise_pred, t, t_prev, 0.0, torch.zeros_like(x))

            def wrongly(noise_pred=noise_pred, t_prev=t_prev, clip=clip):
                return Ddim(model.ac, clip).each(x, noise_pred, t, t_prev, 0.0, torch.zeros_like(x))

            def translated(source, target, at=a):
                return wrongly(converted(x, said, source, target, at.sqrt(), (1 - at).sqrt()))

            def noisy(after=[*model.xs[1:], result][i]):
                """The learner's own result, if it is this one with fresh noise."""
                s = placed(x, noise_pred, t, t_prev, model.ac)
                size = ((1 - s.a_prev) / (1 - s.a) * (1 - s.a / s.a_prev)).sqrt()
                z = (after - mix(s, 1.0)) / size
                fresh = abs(float(z.std()) - 1) < 0.25 and abs(likeness(z, noise_pred)) < 0.3
                return after if fresh else expected

            final = not clip and int(t_prev[0]) < 0
            or_at_the_end = ", or what the loop returns is clipped" if final else ""
            return expected, {
                "prediction_type is not heeded: translate what the model says to noise "
                "(convert_prediction).": lambda: wrongly(said),
                "The wrong thing is asked for: ddim_step wants the noise (convert_prediction to "
                "'epsilon'), not the clean picture.": lambda: translated(kind, "sample"),
                "`source` and `target` have changed places in the call of convert_prediction: "
                "from prediction_type, to 'epsilon'.": lambda: translated("epsilon", kind),
                "convert_prediction is asked with t_prev; the model spoke about x at t.": (
                    lambda: translated(kind, "epsilon", model.ac[t_prev[0].clamp(min=0)])
                ),
                "Fresh noise is added although eta is 0: hand eta on as it is.": noisy,
                "The step lands at t - 1. It must land at the next of the timesteps, the final one "
                "at -1.": lambda: wrongly(t_prev=t - 1),
                "The final step lands at step 0; it must go to the clean end, -1.": (
                    lambda: wrongly(t_prev=t_prev.clamp(min=0))
                ),
                f"clip_sample is not handed on to ddim_step{or_at_the_end}.": (
                    lambda: wrongly(clip=not clip)
                ),
                "The result is clipped, though clip_sample is False.": (
                    lambda: expected.clamp(-1, 1)
                ),
            }

        follow(model, few, result, step, "ddim_step")


@exercise("sample_ddim")
def test_ddim_fresh_noise(student, rng):
    few, eta = torch.tensor([17, 12, 8, 3]), 0.7
    model = Gaussian(linear(20), 0.4, 0.3)
    x_T = torch.randn(4, 2, 15, 16, generator=rng, dtype=torch.float64)
    options = {"eta": eta, "clip_sample": False, "generator": student.generator(3)}
    result = walked(student.sample_ddim, model, x_T, few, 4, **options)
    fresh, before = [], x_T
    for i, x_prev in enumerate([*model.xs[1:], result]):
        end = few[i + 1] if i + 1 < len(few) else torch.tensor(-1)
        s = placed(model.xs[i], model.said[i], model.ts[i], end.expand(4), model.ac)
        middle = mix(s, eta)
        if end == -1:
            expect_close(
                x_prev,
                middle,
                "the result of the final step",
                otherwise="The final step goes to -1 and adds no noise.",
                rtol=1e-4,
                atol=1e-4,
            )
            break
        p, a = s.a_prev, s.a
        sigma = eta * ((1 - p) / (1 - a) * (1 - a / p)).sqrt()
        if torch.allclose(x_prev, mix(s, 0.0), atol=1e-6):
            fail("eta has no effect in the loop: draw fresh noise and hand on eta and noise.")
        z = (x_prev - middle) / sigma
        last = "the final step, to -1,"
        expect_fresh_noise(z, int(few[i]), model.said[i], before, "ddim_step", last)
        fresh.append(z)
        before = z
    every = torch.stack(fresh)
    expect(
        abs(float(every.std()) - 1) < 0.06 and abs(float(every.mean())) < 0.06,
        "The fresh noise of a step is wrong. It should be standard Gaussian (torch.randn), scaled "
        f"inside ddim_step and nowhere else; eta must be handed on. {PARENTS.format('ddim_step')}",
    )


@exercise("sample_ddim")
def test_ddim_generator(student, rng):
    few, ac = torch.tensor([9, 5, 2]), linear(10)
    x_T = torch.randn(3, 1, 4, 5, generator=rng)

    def run(eta, seed):
        return student.sample_ddim(
            Gaussian(ac), x_T, ac, few, eta=eta, generator=student.generator(seed)
        )

    once, again, other = run(0.8, 7), run(0.8, 7), run(0.8, 8)
    expect(
        torch.equal(once, again),
        "The same generator seed gave different pictures: pass `generator` on to torch.randn.",
    )
    expect(
        not torch.allclose(once, other),
        "Two generators with different seeds gave the same pictures: the noise must come from "
        "`generator`.",
    )
    expect(
        torch.equal(run(0.0, 1), run(0.0, 2)),
        "With eta = 0 nothing is left to chance: the same x_T must give the same pictures.",
    )
    free = [student.sample_ddim(Gaussian(ac), x_T, ac, few, eta=0.8) for _ in range(2)]
    expect(
        not torch.equal(*free),
        "Two calls without a generator gave the same pictures. A torch.Generator that you make "
        "always begins with the same seed: hand on None, and torch.randn draws anew each time.",
    )


@exercise("sample_ddim")
def test_ddim_surroundings(student, rng):
    check_surroundings(student, "sample_ddim", rng)


def check_surroundings(student, name, rng):
    """One step, points in the plane, the default of clip_sample, and what must stay as it was."""
    sampler, ac, few = getattr(student, name), linear(10), torch.tensor([9, 5, 2])
    for shape in ((3, 1, 4, 5), (3, 2)):
        x_T = torch.randn(shape, generator=rng, dtype=torch.float64)
        model, one = Gaussian(ac), few[:1]
        try:
            result = walked(sampler, model, x_T, one, 3, clip_sample=False)
        except RemoteError as error:
            fail(
                f"{error} Here `timesteps` holds a single step, and x_T has shape {shape}: any "
                "number of steps and any shape (B, …) will do."
            )
        a = ac[9]
        expect_close(
            result,
            converted(x_T, model.said[0], "epsilon", "sample", a.sqrt(), (1 - a).sqrt()),
            "the result of a walk of a single step",
            causes={"The step is not taken: what comes back is x_T.": x_T},
            otherwise="It goes from there to the clean end at once: the guess of the clean picture "
            "is what is left.",
        )
    x_T = torch.randn(3, 1, 4, 5, generator=rng)
    clipped = sampler(Gaussian(ac, 3.0, 0.1), x_T, ac, few)
    expect(
        isinstance(clipped, Tensor) and float(clipped.max()) < 1.001,
        "Not given, clip_sample is True, as the signature says.",
    )
    expect_tidy(student, name, x_T=x_T, alphas_cumprod=ac.float(), timesteps=few)


def check_on_step(student, function, rng, says):
    few, ac = torch.tensor([9, 5, 2, 0]), linear(10)
    x_T = torch.randn(3, 1, 4, 5, generator=rng, dtype=torch.float64)
    kind = "v_prediction"  # so that what the model says is neither of the two
    calls, model = [], Gaussian(ac, 0.4, 0.3, kind)
    options = {"clip_sample": False, "prediction_type": kind}
    result = walked(
        function, model, x_T, few, 3, **options, on_step=lambda *call: calls.append(call)
    )
    third = "noise_pred" if says == "epsilon" else "x_0_pred"
    expect(
        len(calls) == len(few) and all(len(call) == 3 for call in calls),
        f"on_step must be called once after each step, as on_step(step, x_prev, {third}).",
    )
    expect_steps(
        [step for step, _, _ in calls], few.tolist(), "is the step t that the jump started from"
    )
    for i, (x_after, (_, x_prev, said)) in enumerate(
        zip([*model.xs[1:], result], calls, strict=True)
    ):
        expect(
            torch.equal(x_prev, x_after),
            f"on_step must get the pictures after the step (x_prev), then {third}.",
        )
        a = ac[few[i]]
        right = converted(model.xs[i], model.said[i], kind, says, a.sqrt(), (1 - a).sqrt())
        expect(
            not (isinstance(said, Tensor) and torch.equal(said, model.said[i])),
            f"on_step gets what the model said as it came; its third argument is {third}, after "
            "convert_prediction.",
        )
        expect(
            isinstance(said, Tensor) and torch.allclose(said, right, atol=1e-5),
            f"on_step's third argument is {third}, of this step.",
        )


@pictured("sample_ddim")
def test_sample_ddim_picture(student, draw):
    """The way of one pixel from noise to data that are known exactly."""
    ac, few = DDIMScheduler().alphas_cumprod.double(), torch.arange(999, -1, -111)
    x = torch.full((1, 1, 1, 1), -1.5, dtype=torch.float64)
    model, best = Gaussian(ac, 0.4, 0.3), Gaussian(ac, 0.4, 0.3)
    result = drawable(student.sample_ddim(model, x, ac, few, clip_sample=False))
    for t, t_prev in zip(few.tolist(), [*few.tolist()[1:], -1], strict=True):
        at = torch.tensor([t]), torch.tensor([t_prev])
        x = mix(placed(x, best(x, at[0]), *at, ac), 0.0)
    yours = torch.stack([each.flatten()[0] for each in (*model.xs, result)])
    expected = torch.stack([each.flatten()[0] for each in (*best.xs, x)])
    panel = Curve("one pixel's way", yours, expected, "steps taken", "x", dots=True)
    draw(panel, inputs=f"for {len(few)} steps on the linear schedule, towards data around 0.4")


@exercise("sample_ddim")
def test_ddim_on_step(student, rng):
    check_on_step(student, student.sample_ddim, rng, "epsilon")


# --- sample_dpmpp_2m


@exercise("sample_dpmpp_2m")
def test_dpm_walk(student, rng):
    # Each kind without clipping first: if only the rest fails, clipping is to blame.
    free = [(kind, False) for kind in TYPES]
    for kind, clip in (*free, ("v_prediction", True), ("sample", True)):
        few = torch.tensor([18, 14, 9, 5, 2])
        model = Gaussian(linear(20), 0.9, 0.5, kind)
        x_T = 1.5 * torch.randn(3, 2, 5, 4, generator=rng, dtype=torch.float64)
        options = {"clip_sample": clip, "prediction_type": kind}
        try:
            result = walked(student.sample_dpmpp_2m, model, x_T, few, 3, **options)
        except Exception:
            check_memory_of_t(model.xs)
            raise
        check_memory_of_t([*model.xs, result])
        guesses = []

        def step(i, x, t, t_prev, model=model, kind=kind, clip=clip, few=few, guesses=guesses):
            a, said = model.ac[t[0]], model.said[i]
            signal, sigma = a.sqrt(), (1 - a).sqrt()
            free = converted(x, said, kind, "sample", signal, sigma)
            guesses.append((free.clamp(-1, 1) if clip else free, free))
            taken = converted(x, said, "epsilon", "sample", signal, sigma)
            taken = taken.clamp(-1, 1) if clip else taken

            def with_guess(k, before=None, t_prev=t_prev, last=None):
                """k: 0 the right guess, 1 the other sort of clipping."""
                guess = free if k else guesses[i][0]
                if k and not clip:
                    guess = free.clamp(-1, 1)
                last = few[i - 1].expand(len(x)) if last is None else last
                s = placed(x, guess, t, t_prev, model.ac, before=before, t_last=last)
                if before is None:
                    s.before, s.a_last = guess, s.a
                return Dpm().each(s, memory=before is not None)

            def clips_x():
                """x is clipped after the step, the guess is not."""
                s = placed(x, free, t, t_prev, model.ac, before=free, t_last=t + 1)
                if i:
                    s = placed(
                        x,
                        free,
                        t,
                        t_prev,
                        model.ac,
                        before=guesses[i - 1][1],
                        t_last=few[i - 1].expand(len(x)),
                    )
                return Dpm().each(s, memory=i > 0).clamp(-1, 1)

            def in_0_1():
                """The guesses are clipped to [0, 1] where they should be to [-1, 1]."""
                if not clip:
                    return with_guess(0, before)
                s = placed(x, free.clamp(0, 1), t, t_prev, model.ac, before=free, t_last=t + 1)
                if i:
                    s.before, s.a_last = guesses[i - 1][1].clamp(0, 1), s.at(few[i - 1].expand(3))
                return Dpm().each(s, memory=i > 0)

            def translated_late():
                b = model.ac[t_prev[0].clamp(min=0)]
                guess = converted(x, said, kind, "sample", b.sqrt(), (1 - b).sqrt())
                s = placed(x, guess, t, t_prev, model.ac, before=guess, t_last=t + 1)
                return Dpm().each(s, memory=False)

            before = guesses[i - 1][0] if i else None
            causes = {
                "This is the first-order step: hand on the guess of the step before and the step "
                "it was made at, and remember them after each step.": lambda: with_guess(0),
                "prediction_type is not heeded: what the model says is always taken for noise. "
                "Hand prediction_type on to convert_prediction.": lambda: Dpm().each(
                    placed(x, taken, t, t_prev, model.ac, before=taken, t_last=t + 1), memory=False
                ),
                "prediction_type is not heeded, or the wrong thing is asked for: this solver wants "
                "the clean picture (convert_prediction to 'sample').": lambda: Dpm().each(
                    placed(
                        x, said, t, t_prev, model.ac,
                        before=model.said[i - 1] if i else said,
                        t_last=few[max(i - 1, 0)].expand(len(x)),
                    ),
                    memory=i > 0,
                ),
                "The guess is clipped to [0, 1]; black is -1.": in_0_1,
                "convert_prediction is asked with t_prev; the model spoke about x at t.": (
                    translated_late
                ),
                "What is remembered is x. Remember the guess of the clean picture.": (
                    lambda: with_guess(0, model.xs[i - 1] if i else before)
                ),
                "What is remembered is what the model said. Remember the guess of the clean "
                "picture, after convert_prediction.": (
                    lambda: with_guess(0, model.said[i - 1] if i else before)
                ),
                "What is remembered is x after the step. Remember the guess of the clean "
                "picture.": lambda: with_guess(0, x if i else before),
                "x is clipped. Without clipping your walk is right; with clip_sample=True it is "
                "the guess that must be clipped, not x, before it is used and remembered.": clips_x,
                "clip_sample is not heeded: clip the guess, and only if asked.": (
                    lambda: with_guess(1, None if before is None else guesses[i - 1][1])
                ),
                "The guess is remembered before it is clipped; remember the clipped one.": (
                    lambda: with_guess(0, guesses[i - 1][1])
                ),
                "The memory does not hold the guess of the step before (but the first step's, or "
                "this step's own). Renew it after each step.": (
                    lambda: with_guess(0, guesses[0][0], last=few[0].expand(len(x)))
                ),
                "t_last is not renewed: it must be the step at which the remembered guess was "
                "made.": lambda: with_guess(0, before, last=few[0].expand(len(x))),
                "The step lands at t - 1. It must land at the next of the timesteps, the final one "
                "at -1.": lambda: with_guess(0, before, t - 1),
                "The final step lands at step 0; it must go to the clean end, -1.": (
                    lambda: with_guess(0, before, t_prev.clamp(min=0))
                ),
            }  # fmt: skip
            return with_guess(0, before), causes

        advice = (
            "Without clipping your walk is right. With clip_sample=True it is the guess that is "
            "clipped, not x nor what the model said, before it is used and remembered."
        )
        follow(model, few, result, step, "dpmpp_2m_step", advice if clip else "")


def check_memory_of_t(walk):
    """A second step that is not finite after a first one that is: h_last is 0 there."""
    if len(walk) > 2 and walk[1].isfinite().all() and not walk[2].isfinite().all():
        fail(
            "The first step's result is finite, the second step's is not: its h_last is 0, if "
            "t_last is where the step before landed (its t_prev). Remember the t at which the "
            "guess was made, where that step began."
        )


@exercise("sample_dpmpp_2m")
def test_dpm_surroundings(student, rng):
    check_surroundings(student, "sample_dpmpp_2m", rng)
    ac, few = linear(10), torch.tensor([9, 5, 2])
    x_T = torch.randn(3, 1, 4, 5, generator=rng)
    free = student.sample_dpmpp_2m(Gaussian(ac, 3.0, 0.1), x_T, ac, few, False)
    expect(
        isinstance(free, Tensor) and float(free.mean()) > 1.5,
        "The fifth argument is clip_sample, as the signature says: this sampler has no eta.",
    )


@exercise("sample_dpmpp_2m")
def test_dpm_on_step(student, rng):
    check_on_step(student, student.sample_dpmpp_2m, rng, "sample")


@exercise("sample_dpmpp_2m")
def test_dpm_order(student, rng):
    """Twice the steps, a quarter of the error."""
    total, m, s = 320, 0.3, 0.5
    u = torch.linspace(0, 1, total + 1, dtype=torch.float64)
    bars = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    ac = (bars / bars[0])[1:].clamp(min=1e-8)
    x_T = torch.randn(20, 3, generator=rng, dtype=torch.float64)
    exact = m + s * (x_T - ac[-1].sqrt() * m) / (ac[-1] * s**2 + 1 - ac[-1]).sqrt()
    errors = []
    for steps in (40, 80):
        few = (torch.arange(steps) * (total - 1) / (steps - 1)).round().long().flip(0)
        found = student.sample_dpmpp_2m(Gaussian(ac, m, s), x_T, ac, few, clip_sample=False)
        expect(isinstance(found, Tensor), "The sampler must return the pictures.")
        errors.append(float((found - exact).abs().mean()))
    slope = math.log(errors[0] / errors[1]) / math.log(2)
    expect(
        slope > 1.5,
        "On Gaussian data the error falls too slowly when there are more steps: the sampler is of "
        f"order {max(slope, 0):.1f}, and should be of order 2. Is the guess of the step "
        "before really used?",
    )
