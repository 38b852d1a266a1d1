"""Hidden tests of lesson 5: classes and guidance.

Guidance is tested on mixtures of Gaussians, where the best noise prediction is the gradient of a
log density: the guided prediction must be that of p(x)^(1-s) · p(x|c)^s, which autograd gives.
Rescaling and the sampler are compared with diffusers.
"""

import torch
from diffusers import DDIMScheduler
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from autograder.picture import Curve, drawable, pictured
from autograder.remote import Handle, RemoteError
from autograder.testing import exercise, expect, expect_close, expect_steps, fail, matches
from autograder.testing_modules import ask, unchanged
from autograder.wire import Foreign

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
STEPS = 60


def number(rng, low: int, high: int) -> int:
    return int(torch.randint(low, high, (), generator=rng))


# --- LabelEmbedding


@exercise("LabelEmbedding")
def test_every_label_has_its_vector(student, rng):
    classes, dim = number(rng, 3, 7), number(rng, 5, 9)
    table = student.new("LabelEmbedding", classes, dim)
    try:
        rows = table(torch.arange(classes + 1))
    except RemoteError as error:
        sizes = [value.shape for value in table.state().values()]
        if "index out of range" in str(error) and (classes + 1, dim) in sizes:
            fail(
                f"{error} The table has enough rows, num_classes + 1, but was asked for a row "
                "beyond them: use the label as it is, classes are numbered from 0."
            )
        if "index out of range" in str(error):
            fail(
                f"{error} The labels go up to num_classes, the null class: the table needs one "
                "row more than there are classes."
            )
        raise
    expect(isinstance(rows, Tensor), "forward must return a tensor: one vector for each label.")
    expect(
        rows.shape == (classes + 1, dim),
        f"For B labels the result should have shape (B, dim), yours is {tuple(rows.shape)} "
        f"for {classes + 1} labels and dim {dim}.",
    )
    expect(rows.is_floating_point(), "The vectors are learnt, so they must be floating-point.")
    other = torch.randperm(classes + 1, generator=rng)[: classes - 1].repeat(2)
    expect_close(
        table(other),
        rows[other],
        "the vectors of some labels",
        otherwise="The same label must always get the same vector, wherever it stands in the "
        "batch: look its row up.",
    )
    same = torch.cdist(rows.double(), rows.double()) < 1e-6
    expect(
        int(same.sum()) == classes + 1,
        "Two different labels got the same vector. Each class needs a row of its own, and the "
        "null class (number num_classes) one more: do not wrap or clamp the label.",
    )
    line = rows[2] - rows[1]
    expect(
        not torch.allclose(rows[1] - rows[0], line, atol=1e-5),
        "The vectors of 0, 1 and 2 lie on one line: the label was used as a quantity. Classes "
        "have no order; look rows up in a table (nn.Embedding).",
    )


@exercise("LabelEmbedding")
def test_every_row_learns(student, rng):
    classes, dim = number(rng, 3, 7), 4
    table = student.new("LabelEmbedding", classes, dim)
    state = table.state()
    expect(
        bool(state),
        "The table is not part of the module's state: it would neither be trained nor saved. Make "
        "it an nn.Embedding or nn.Parameter, an attribute of self.",
    )
    for label, name in ((0, "class 0"), (classes - 1, "the last class"), (classes, "null")):
        found = ask(
            lambda at=label: table.grad(torch.full((3,), at)),
            {
                "does not require grad": "The vectors have no gradient, so the table would never "
                "learn: no .detach(), .data, torch.no_grad() or requires_grad = False."
            },
        )["params"]
        learns = any(g is not None and bool(g.abs().sum() > 0) for g in found.values())
        name = "the null class" if name == "null" else name
        expect(
            learns,
            f"The vector of {name} gets no gradient, so it is never trained. It must be an "
            "ordinary row of the table: no padding_idx, no detach, no fixed zeros.",
        )


@exercise("LabelEmbedding")
def test_as_many_rows_as_classes(student, rng):
    classes, dim = number(rng, 300, 400), 2
    table = student.new("LabelEmbedding", classes, dim)
    beyond = (
        f"Here there are {classes} classes. The table needs a row for each of num_classes classes "
        "and one for null, however many they are: no 10 or 11 of your own."
    )
    ask(lambda: table(torch.tensor([classes - 1, classes])), {"index out of range": beyond})
    learnt = sum(value.numel() for value in table.state().values())
    expect(
        learnt >= (classes + 1) * dim,
        f"Your module has {learnt} learnt numbers for {classes} classes and dim {dim}; a row of "
        "its own for each class and for null takes (num_classes + 1) · dim. A label is a name, no "
        "quantity: do not compute with it.",
    )
    one = table(torch.tensor([classes]))
    expect(
        isinstance(one, Tensor) and one.shape == (1, dim),
        "For a batch of one label the shape should be (1, dim): no squeeze().",
    )


# --- ClassUNet.forward


@exercise("ClassUNet.forward")
def test_denoiser_hears_label(student, rng):
    classes, dim, shape = 4, 6, (3, 1, 4, 2)
    x_t, answer = torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)
    t = torch.randint(1000, (3,), generator=rng)
    label = torch.tensor([classes, 1, 3])[torch.randperm(3, generator=rng)]
    seen = []

    def denoiser(*args, **kwargs):
        seen.append((args, kwargs))
        return answer

    model = student.new("ClassUNet", denoiser, num_classes=classes, dim=dim)
    hints = {
        "must match": "The label's vector is not added here: the UNet adds it to the time's by "
        "itself. Hand it over as the third argument."
    }
    result = ask(lambda: model(x_t, t, label), hints)
    expect(
        len(seen) == 1,
        f"forward must call self.denoiser once; it was called {len(seen)} times.",
    )
    args, kwargs = seen[0]
    given = dict(zip(("x_t", "t", "cond"), args, strict=False)) | kwargs
    cond = given.get("cond")
    expect(
        len(args) + len(kwargs) == 3 and cond is not None,
        "The denoiser wants three things, denoiser(x_t, t, cond). Without the third, the label's "
        "vector, it never hears what is wanted.",
    )
    expect(
        isinstance(cond, Tensor) and cond.shape == (3, dim),
        "The denoiser must get one vector a sample, shape (B, dim): the label's row of "
        "self.label_embedding, and not the bare label.",
    )
    vectors = model.get("label_embedding")(label)
    others = {
        "Labels were changed on the way: the null class and the others go in as they are.": (
            lambda: model.get("label_embedding")(label.clamp(max=classes - 1))
        ),
        "All samples were told the first sample's label.": vectors[:1].expand(3, -1),
    }
    expect_close(
        cond,
        vectors,
        "the vector that the denoiser is told",
        causes=others,
        otherwise="It must be self.label_embedding(label), as it is; the UNet adds it to the "
        "time's vector by itself.",
    )
    expect_close(given["x_t"], x_t, "the picture that the denoiser is shown", otherwise="It goes "
                 "in as it came.")  # fmt: skip
    expect(
        isinstance(given["t"], Tensor) and torch.equal(given["t"].to(t), t),
        "The denoiser must get the steps t just as they came.",
    )
    expect_close(
        result, answer, "forward's result", otherwise="It is what the denoiser answers, unchanged."
    )


# --- drop_condition


def as_tensor(result: object, what: str) -> Tensor:
    if result is None:
        fail(f"drop_condition must return {what}. Is a return statement missing?")
    kind = result.type_name if isinstance(result, Foreign) else type(result).__name__
    kind = "other object" if isinstance(result, Handle) else kind
    expect(
        isinstance(result, Tensor),
        f"drop_condition must return {what} and nothing else, one tensor; yours: {kind}.",
    )
    return result


@exercise("drop_condition")
def test_drops_whole_conditions(student, rng):
    many, length, dim = 301, 3, 4
    context = torch.randn(many, length, dim, generator=rng)
    null = torch.randn(length, dim, generator=rng)
    p = 0.3 + 0.3 * float(torch.rand((), generator=rng))
    hints = {
        "must match": "The conditions are sentences here, (B, L, D): one True or False a sample "
        "reaches all of a sample's numbers in the shape (B, 1, 1)."
    }
    got = as_tensor(ask(lambda: student.drop_condition(context, null, p), hints), "the conditions")
    expect(
        got.shape == context.shape,
        f"Conditions of shape (B, L, D) must keep their shape; yours is {tuple(got.shape)}. "
        "Samples are not removed from the batch: the null takes the condition's place.",
    )
    is_null, is_own = got == null, got == context
    known = is_null | is_own
    if not known.all():
        zeros = (got == 0) | is_own
        fail(
            "What was dropped became zeros; put `null` in its place, the condition that asks for "
            "nothing."
            if zeros.all()
            else "Some conditions are neither the sample's own nor the null. Each sample has "
            "either all of its condition or the null, unmixed."
        )
    whole = is_null.flatten(1).all(1) | is_own.flatten(1).all(1)
    if not whole.all():
        by_token = (is_null.all(2) | is_own.all(2)).all()
        fail(
            f"Samples have lost {'single words' if by_token else 'single numbers'} of their "
            "condition. Conditions are dropped whole: draw one random number a sample, and give "
            "it the shape (B, 1, ..., 1)."
        )
    expect(
        bool(is_null.any()) and bool(is_own.flatten(1).all(1).any()),
        "Of 301 samples with a drop probability of about a half either all or none lost their "
        "condition. Each sample needs a random number of its own, not one for the batch.",
    )


@exercise("drop_condition")
def test_share_of_labels(student, rng):
    many, classes = 3000, number(rng, 6, 12)
    label = torch.randint(classes, (many,), generator=rng)
    p = 0.1 + 0.1 * float(torch.rand((), generator=rng))
    got = as_tensor(student.drop_condition(label, classes, p), "the labels")
    expect(
        got.shape == label.shape,
        f"Labels of shape (B,) must keep their shape; yours is {tuple(got.shape)}. Give the drop "
        "as many dimensions as the condition has.",
    )
    expect(
        got.dtype == label.dtype,
        f"Labels must stay {label.dtype}, yours became {got.dtype}: they look rows up.",
    )
    changed = got != label
    expect(
        bool((got[changed] == classes).all()),
        "A dropped label did not become `null`. The null class comes in as an argument; it is "
        "neither 0 (a digit like others) nor -1.",
    )
    share = changed.double().mean().item()
    high = as_tensor(student.drop_condition(label, classes, 0.9), "the labels") != label
    expect(
        abs(high.double().mean().item() - share) > 0.04,
        "The same share is dropped whatever cond_drop_prob is: the argument has no effect. Compare "
        "the random numbers with cond_drop_prob, not with a number of your own.",
    )
    expect(
        abs(share - (1 - p)) > 0.05 or abs(share - p) < 0.05,
        "The share that was dropped is 1 - cond_drop_prob: kept and dropped have changed places. "
        "A sample is dropped when its random number is *below* cond_drop_prob.",
    )
    expect(
        abs(share - p) < 0.04,
        f"The share of dropped labels is {'too small' if share < p else 'too large'}. Over many "
        "samples it should be cond_drop_prob, with uniform random numbers (torch.rand) of which a "
        "share p lies below p.",
    )
    where = torch.cat([changed[: many // 2].double().mean()[None], changed[many // 2 :].double()
                       .mean()[None]])  # fmt: skip
    again = as_tensor(student.drop_condition(label, classes, p), "the labels") != label
    counts = {int(changed.sum()), int(again.sum())}
    expect(
        bool((where > 0).all()),
        "Only one end of the batch loses its conditions: every sample must run the same risk.",
    )
    expect(
        not torch.equal(changed, again),
        "Two calls dropped the very same samples. The choice must be drawn anew in each call.",
    )
    third = as_tensor(student.drop_condition(label, classes, p), "the labels") != label
    counts.add(int(third.sum()))
    expect(
        len(counts) > 1,
        "Every call drops exactly the same number of samples. Each sample decides for itself, so "
        "the number varies.",
    )


@exercise("drop_condition")
def test_extremes(student, rng):
    label = torch.randint(5, (40,), generator=rng)
    for p, what in ((0.0, "nobody may lose the condition"), (1.0, "everybody must lose it")):
        got = student.drop_condition(label, 5, p)
        expected = label if p == 0 else torch.full_like(label, 5)
        expect_close(
            got,
            expected,
            f"the labels for cond_drop_prob = {p:.0f}",
            otherwise=f"At {p:.0f} {what}.",
        )


@exercise("drop_condition")
def test_callers_labels_stay(student, rng):
    label = torch.randint(5, (60,), generator=rng)
    held = student.hold(label)
    got = student.drop_condition(held, 5, 0.5)
    expect(
        torch.equal(held.call("clone"), label),
        "The caller's own labels were changed. Make a new tensor (torch.where does), since the "
        "caller may need the labels again: in place, they'd be lost bit by bit.",
    )
    expect(not isinstance(got, Handle), "The result must be a new tensor, not the caller's own.")
    words, null = torch.randn(40, 3, 4, generator=rng), torch.zeros(3, 4)
    held = student.hold(words)
    got = student.drop_condition(held, null, 0.5)
    expect(
        torch.equal(held.call("clone"), words),
        "The caller's own sentences were changed. Make a new tensor (torch.where does).",
    )
    got = as_tensor(got, "the conditions")
    expect(
        got.dtype == words.dtype,
        f"Sentences must stay {words.dtype}, yours became {got.dtype}: the model computes in it.",
    )


@exercise("drop_condition")
def test_other_conditions(student, rng):
    """Anything with one entry a sample; and a number for null."""
    for shape, what in (((90, 3, 4), "sentences (B, L, D) with a number for null"),
                        ((90, 5), "conditions (B, D) with a number for null")):  # fmt: skip
        given = 1 + torch.rand(shape, generator=rng)
        hint = {"": f"Here it was given {what}; null may be a number, whatever the shape."}
        got = as_tensor(ask(lambda g=given: student.drop_condition(g, 0, 0.5), hint), "conditions")
        expect(
            got.shape == given.shape, f"The shape changes for {what}: yours is {tuple(got.shape)}."
        )
        own, gone = (got == given).flatten(1).all(1), (got == 0).flatten(1).all(1)
        expect(
            bool((own | gone).all() and own.any() and gone.any()),
            f"It goes wrong for {what}: each sample keeps all of its own, or all becomes null.",
        )


@exercise("drop_condition")
def test_generator(student, rng):
    label = torch.randint(5, (200,), generator=rng)
    seed = number(rng, 0, 2**30)
    first, again, other = (
        student.drop_condition(label, 5, 0.5, student.generator(s)) for s in (seed, seed, seed + 1)
    )
    expect_close(
        again,
        first,
        "the choice of labels with the same generator",
        otherwise="The same seed must make the same choice: hand `generator` to torch.rand.",
    )
    words, null = torch.randn(200, 2, 2, generator=rng), torch.zeros(2, 2)
    first_words, again_words = (
        student.drop_condition(words, null, 0.5, student.generator(seed)) for _ in range(2)
    )
    expect_close(
        again_words,
        first_words,
        "the choice of sentences with the same generator",
        otherwise="The same seed must make the same choice: hand `generator` to torch.rand.",
    )
    expect(
        not torch.equal(first, other),
        "Two generators with different seeds made the same choice: hand `generator` to "
        "torch.rand, and fix no seed inside.",
    )


# --- guidance on mixtures of Gaussians


class World:
    """Classes in the plane, each a cloud; what the best model answers, by autograd."""

    def __init__(self, rng, batch: int = 3):
        self.classes = 3
        self.centres = torch.randn(3, 2, generator=rng, dtype=torch.float64)
        self.spread = 0.3 + 0.4 * torch.rand(3, 2, generator=rng, dtype=torch.float64)
        betas = 0.02 + 0.1 * torch.rand(STEPS, generator=rng, dtype=torch.float64)
        self.ac = torch.cumprod(1 - betas, 0)
        self.x_t = torch.randn(batch, 2, 1, 1, generator=rng, dtype=torch.float64)
        self.t = torch.randperm(STEPS, generator=rng)[:batch]
        self.label = torch.randperm(3, generator=rng).repeat(2)[:batch]
        self.null = torch.full_like(self.label, self.classes)
        self.calls = []

    def noisy(self, bar: Tensor) -> Normal:
        """The clouds (B, classes, 2) at each sample's noise level."""
        bar = bar[:, None, None]
        return Normal(bar.sqrt() * self.centres, (bar * self.spread**2 + 1 - bar).sqrt())

    def log_prob(self, x: Tensor, bar: Tensor, label: Tensor) -> Tensor:
        """log p(x | label) at the noise level of bar; the null label asks for all classes."""
        clouds = self.noisy(bar)
        each = Independent(clouds, 1)
        weights = Categorical(torch.ones(len(x), self.classes, dtype=torch.float64))
        of_all = MixtureSameFamily(weights, each).log_prob(x)
        of_one = each.log_prob(x[:, None]).gather(1, label.clamp(max=self.classes - 1)[:, None])
        return torch.where(label == self.classes, of_all, of_one[:, 0])

    def noise(self, log_density, x_t: Tensor, t: Tensor) -> Tensor:
        """ε = -√(1 - ᾱ_t) · ∇ log p_t(x_t)."""
        bar = self.ac[t]
        x = x_t.detach().reshape(-1, 2).requires_grad_()
        with torch.enable_grad():
            (score,) = torch.autograd.grad(log_density(x, bar).sum(), x)
        return (-(1 - bar).sqrt()[:, None] * score).reshape(x_t.shape)

    def predict(self, x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return self.noise(lambda x, bar: self.log_prob(x, bar, label), x_t, t)

    def model(self, *arguments) -> Tensor:
        """What the learner's code calls; remembers with what."""
        expect(
            len(arguments) == 3 and all(isinstance(a, Tensor) for a in arguments),
            "The model must be called as model(x_t, t, condition), with three tensors.",
        )
        x_t, t, label = arguments
        expect(
            x_t.ndim == self.x_t.ndim,
            f"The model was shown x_t with {x_t.ndim} dimensions; it has {self.x_t.ndim}. Double "
            "it with torch.cat([x_t, x_t]), which fits pictures and points alike.",
        )
        expect(
            t.shape == (len(x_t),) and label.shape == (len(x_t),),
            "Pictures, steps and conditions must have the same length when the model is called: "
            f"there are {len(x_t)} pictures, t is {tuple(t.shape)}, the conditions are "
            f"{tuple(label.shape)}. Double all three of them.",
        )
        expect(
            not label.is_floating_point(),
            "The labels reached the model as floating-point numbers; they must stay whole "
            "numbers. (Make null with condition's dtype.)",
        )
        expect(
            bool(((label >= 0) & (label <= self.classes)).all()),
            "The model was given a label that does not exist. The null condition comes in as the "
            "argument `null`.",
        )
        self.calls.append((x_t, t.long(), label.long()))
        return self.predict(x_t, t.long(), label.long())

    def sharpened(self, scale: Tensor | float) -> Tensor:
        """The prediction for p(x)^(1-s) · p(x|c)^s."""
        s = torch.as_tensor(scale, dtype=torch.float64)

        def log_density(x, bar):
            of_all = self.log_prob(x, bar, self.null)
            return (1 - s) * of_all + s * self.log_prob(x, bar, self.label)

        return self.noise(log_density, self.x_t, self.t)

    def answers(self) -> tuple[Tensor, Tensor]:
        """uncond and cond."""
        null, label = self.null, self.label
        return self.predict(self.x_t, self.t, null), self.predict(self.x_t, self.t, label)


def guidance_causes(world: World, s: Tensor | float) -> dict:
    """What the likely mistakes would give at scale s, a number or (B,)."""
    uncond, cond = world.answers()
    s = torch.as_tensor(s, dtype=torch.float64).reshape(-1, 1, 1, 1)

    def by_channel(*both: Tensor) -> Tensor:
        first, second = torch.cat(both).chunk(2, dim=1)
        return first + s * (second - first)

    def every_second(*both: Tensor) -> Tensor:
        joined = torch.cat(both)
        return joined[::2] + s * (joined[1::2] - joined[::2])

    torn = (
        "The answer was cut into every second row; the two halves lie one after the other, as they "
        "were joined: .chunk(2)."
    )
    chunk = (
        "The answer was cut along the channels; the two halves lie one after the other along the "
        "batch (dimension 0)."
    )
    return {
        "This is the other convention, where 0 is off: (1 + w) · cond - w · uncond. Here it is "
        "uncond + s · (cond - uncond), and 1 is off.": cond + s * (cond - uncond),
        "uncond and cond have changed places: start at uncond and go towards cond. Are the two "
        "halves taken apart in the order in which they were joined?": cond + s * (uncond - cond),
        "The guided prediction is cond alone: the scale has no effect.": cond,
        "The guided prediction is uncond alone: the condition has no effect.": uncond,
        "The difference is scaled, but not added to uncond.": s * (cond - uncond),
        "cond itself is scaled. Only the difference cond - uncond is.": uncond + s * cond,
        "The prediction is scaled as a whole; it should be uncond + s · (cond - uncond).": s * cond,
        "The scale is one too small: this is cond + (s - 1) · ... with a slip, or w = s - 1 was "
        "put where s belongs.": uncond + (s - 1) * (cond - uncond),
        "uncond and cond are averaged with weights s and 1 - s, the wrong way round.": (
            s * uncond + (1 - s) * cond
        ),
        torn: lambda: every_second(uncond, cond),
        torn + " ": lambda: every_second(cond, uncond),
        chunk: lambda: by_channel(uncond, cond),
        chunk + " ": lambda: by_channel(cond, uncond),
    }


def check_pairs(world: World, scale_is_one: bool) -> None:
    """Every sample was shown with its own step, once for the wish and once for nothing."""
    calls, world.calls = world.calls, []
    total, wanted = sum(len(x) for x, _, _ in calls), len(world.x_t) * (1 if scale_is_one else 2)
    if scale_is_one:
        nulls = any(bool((label == world.classes).any()) for _, _, label in calls)
        expect(
            not nulls and total == wanted,
            "At scale 1 guidance is off: the model should be called with the conditions alone, "
            "and not be asked for the null at all. (It costs half the time.)",
        )
        return
    if len(calls) == 2 and total == wanted:
        fail(
            "The model was called twice. Ask for both answers in one call, with the batch twice as "
            "long: torch.cat the pictures, the steps and the conditions."
        )
    expect(len(calls) == 1, f"The model must be called once; it was called {len(calls)} times.")
    x_t, t, label = calls[0]
    expect(
        total == wanted,
        "In its one call the model must see each picture twice, 2·B in all: once with the null, "
        f"once with its condition. It saw {total} for B = {len(world.x_t)}.",
    )
    seen = {(tuple(x.flatten().tolist()), int(s), int(c)) for x, s, c in zip(x_t, t, label, strict=True)}  # fmt: skip  # noqa: E501
    own = [
        (tuple(x.flatten().tolist()), int(s), int(c))
        for x, s, c in zip(world.x_t, world.t, world.label, strict=True)
    ]
    right = {each for x, s, c in own for each in ((x, s, c), (x, s, world.classes))}
    if {(x, s) for x, s, _ in seen} != {(x, s) for x, s, _ in right}:
        fail(
            "In the doubled batch pictures and steps do not belong together any more. "
            "torch.cat([x_t, x_t]) goes with torch.cat([t, t]); repeat_interleave orders otherwise."
        )
    if int((label == world.classes).sum()) != len(world.x_t):
        fail(
            "Half of the doubled batch must be told the null condition, the other half what is "
            f"wanted. {int((label == world.classes).sum())} of {len(label)} were told the null."
        )
    expect(
        seen == right,
        "In the doubled batch pictures and conditions do not belong together: each picture must "
        "be there once with its own condition and once with the null.",
    )


REACH = (
    "The scale must reach all pixels of its own sample: for pictures shape (B, 1, 1, 1), or "
    "(1, 1, 1, 1) for a single number."
)
ONE_A_SAMPLE = (
    "`pairs` gives plain numbers; the model and ddim_step want one step a sample: "
    "torch.full((len(x),), step, device=x.device)."
)
ASKED = {
    "must match": REACH,
    "broadcast": REACH,
    "Boolean value of Tensor": "The scale may be one for each sample, (B,). Guidance is off only "
    "if all of them are 1: (scale == 1).all().",
    "noise must be given": "ddim_step's sixth argument is eta: give it clip_sample by name, "
    "clip_sample=clip_sample.",
    "'int' object has no attribute 'shape'": ONE_A_SAMPLE,
    "expected Tensor as element": ONE_A_SAMPLE,
}


def call(function, *arguments, **options):
    """Call what guides; to an error add what usually helps."""
    return ask(lambda: function(*arguments, **options), ASKED)


RESCALED = {
    "must match": "A standard deviation a sample has to reach all of its pixels: keepdim=True "
    "keeps its shape (B, 1, 1, 1).",
    "Dimension out of range": "Predictions may be points, (B, 2), as well as pictures: the "
    "dimensions of one sample are tuple(range(1, guided.ndim)).",
}


# --- guided_prediction


@exercise("guided_prediction")
def test_one_call(student, rng):
    world = World(rng, batch=number(rng, 3, 6))
    given = (world.model, world.x_t, world.t, world.label, world.classes)
    student.guided_prediction(*given, 2.5)
    check_pairs(world, scale_is_one=False)
    result = student.guided_prediction(*given, 1.0)
    check_pairs(world, scale_is_one=True)
    expect_close(result, world.answers()[1], "the prediction at scale 1", otherwise="It is the "
                 "model's answer for the condition, as it is.", **CLOSE)  # fmt: skip


@exercise("guided_prediction")
def test_field_of_sharpened_density(student, rng):
    for index in range(3):
        world = World(rng, batch=5)
        scale = (2.0, 7.5, 0.0)[index] + float(torch.rand((), generator=rng))
        got = call(
            student.guided_prediction,
            world.model, world.x_t, world.t, world.label, world.classes, scale,
        )  # fmt: skip
        if scale < 1 and isinstance(got, Tensor) and matches(got, world.answers()[1], **CLOSE):
            fail(BELOW_ONE)
        expect_close(
            got,
            world.sharpened(scale),
            "the guided prediction",
            causes=guidance_causes(world, scale),
            otherwise="It should be uncond + guidance_scale · (cond - uncond).",
            **CLOSE,
        )


@exercise("guided_prediction")
def test_scale_of_each_sample(student, rng):
    scales = torch.tensor([0.0, 1.0, 2.0, 6.0]) + torch.rand(4, generator=rng)
    check_scales(student, World(rng, batch=4), scales)
    check_scales(student, World(rng, batch=4), torch.where(scales < 1, 1.0, scales))


@exercise("guided_prediction")
def test_scale_zero_and_ones(student, rng):
    world = World(rng, batch=3)
    given = (world.model, world.x_t, world.t, world.label, world.classes)
    uncond, cond = world.answers()
    expect_close(
        call(student.guided_prediction, *given, 0.0),
        uncond,
        "the guided prediction at scale 0",
        causes={
            "It is cond, as if guidance were off. Only the scale 1 is off; 0 ignores the "
            "condition. (`if not scale` and `if scale` take 0 for nothing.)": cond,
        },
        otherwise="At scale 0 the condition is ignored: it is uncond.",
        **CLOSE,
    )
    ones = call(student.guided_prediction, *given, torch.ones(3))
    expect_close(ones, cond, "the prediction where every sample has the scale 1", **CLOSE)


BELOW_ONE = (
    "Below scale 1 your answer is cond. Only at exactly 1 guidance is off; between 0 and 1 it lies "
    "between uncond and cond, and at 0 it is uncond. (diffusers' scale > 1 is another rule.)"
)


def check_scales(student, world: World, scales: Tensor) -> None:
    given = (world.model, world.x_t, world.t, world.label, world.classes, scales)
    shape = (
        "Here each sample has a scale of its own, (B,); a single number passes. Give the scale the "
        "shape (B, 1, 1, 1) before it is multiplied, whichever line the error names."
    )
    got = ask(lambda: student.guided_prediction(*given), ASKED | {"": shape})
    uncond, cond = world.answers()
    if isinstance(got, Tensor) and (scales == 1).any() and matches(got, cond, **CLOSE):
        fail(
            "One sample has the scale 1, and guidance was switched off for the whole batch. It is "
            "off only if all scales are 1: (scale == 1).all()."
        )
    causes = {
        "Every sample was guided with the first sample's scale; each has its own.": (
            uncond + float(scales[0]) * (cond - uncond)
        ),
        "The samples were all guided with the mean of the scales; each has its own.": (
            uncond + scales.double().mean() * (cond - uncond)
        ),
    }
    expect_close(
        got,
        world.sharpened(scales),
        "the guided prediction, with a scale for each sample,",
        causes=causes | guidance_causes(world, scales),
        otherwise="guidance_scale may be a tensor (B,): give it the shape (B, 1, 1, 1), so that "
        "each sample gets its own.",
        **CLOSE,
    )


@exercise("guided_prediction")
def test_sentences_as_conditions(student, rng):
    shape, length, dim = (3, 2, 3, 4), 4, 5
    x_t, t = torch.randn(shape, generator=rng), torch.tensor([3, 1, 2])
    context = torch.randn(3, length, dim, generator=rng)
    null = torch.randn(length, dim, generator=rng)
    scale = 1.5 + 3 * float(torch.rand((), generator=rng))

    def model(x_t, t, context):
        expect(
            isinstance(context, Tensor) and context.shape[1:] == (length, dim),
            "Conditions may also be sentences, (B, L, D), with a null of shape (L, D). Repeat the "
            "null for each sample (expand_as), so that both halves have the same shape.",
        )
        meaning = context.double().square().mean(dim=(1, 2)).to(x_t)
        return x_t * meaning.reshape(-1, 1, 1, 1) + t.reshape(-1, 1, 1, 1)

    uncond, cond = model(x_t, t, null.expand(3, -1, -1)), model(x_t, t, context)
    hints = {
        "": "The condition was a batch of sentences, (B, L, D), with a null of shape (L, D): both "
        "halves must have the condition's shape, whatever it is."
    }
    got = ask(lambda: student.guided_prediction(model, x_t, t, context, null, scale), ASKED | hints)
    expect_close(
        got,
        uncond + scale * (cond - uncond),
        "the guided prediction for sentences (B, L, D)",
        otherwise="The null has the shape of one sample's condition: expand it to the batch. The "
        "result keeps x_t's dtype: give the scale dtype=x_t.dtype.",
        check_dtype=True,
        rtol=1e-4,
        atol=1e-4,
    )


@exercise("guided_prediction")
def test_flat_points(student, rng):
    """x_t may be (B, 2): the flat world of sections 6 and 9."""
    scales = 1.5 + 4 * torch.rand(4, generator=rng)
    for scale in (float(scales[0]), scales):
        world = World(rng, batch=4)
        world.x_t = world.x_t.reshape(4, 2)
        help_ = (
            "x_t was a batch of points, (B, 2), as in the flat world. Give the scale as many "
            "dimensions as x_t has, scale.reshape(-1, *[1] * (x_t.ndim - 1)), instead of "
            "(-1, 1, 1, 1), which fits only pictures."
        )
        try:
            got = student.guided_prediction(
                world.model, world.x_t, world.t, world.label, world.classes, scale
            )
        except RemoteError as error:
            fail(f"{error} {help_}")
        expect(
            isinstance(got, Tensor) and got.shape == world.x_t.shape,
            f"Points (B, 2) must come back as (B, 2). {help_}",
        )
        expect_close(
            got,
            world.sharpened(scale),
            "the guided prediction for points (B, 2)",
            otherwise=f"It should be uncond + guidance_scale · (cond - uncond). {help_}",
            **CLOSE,
        )


@exercise("guided_prediction")
def test_rescale_is_used(student, rng):
    world = World(rng, batch=4)
    strength = 0.3 + 0.5 * float(torch.rand((), generator=rng))
    given = (world.model, world.x_t, world.t, world.label, world.classes)
    got = call(student.guided_prediction, *given, 5.0, guidance_rescale=strength)
    uncond, cond = world.answers()
    guided = uncond + 5.0 * (cond - uncond)
    expect_close(
        got,
        rescale_noise_cfg(guided, cond, strength),
        "the guided prediction with guidance_rescale",
        causes={
            "guidance_rescale has no effect.": guided,
            "It was rescaled at full strength, whatever guidance_rescale says.": (
                rescale_noise_cfg(guided, cond, 1.0)
            ),
            "It was rescaled with the default strength 0.7: hand guidance_rescale on, third.": (
                rescale_noise_cfg(guided, cond, 0.7)
            ),
            "It was rescaled to the contrast of cond - uncond. Was cond changed in place?": (
                rescale_noise_cfg(guided, cond - uncond, strength)
            ),
            "uncond was rescaled before the guidance; the guided prediction should be.": (
                rescale_noise_cfg(uncond, cond, strength)
                + 5.0 * (cond - rescale_noise_cfg(uncond, cond, strength))
            ),
            "It was rescaled to the contrast of uncond; cond's is wanted.": (
                rescale_noise_cfg(guided, uncond, strength)
            ),
            "The arguments of rescale_guidance have changed places: guided first, then cond.": (
                rescale_noise_cfg(cond, guided, strength)
            ),
        },
        otherwise="After the guidance: rescale_guidance(guided, cond, guidance_rescale).",
        **CLOSE,
    )


@pictured("guided_prediction")
def test_guided_prediction_picture(student, draw):
    """One number, 0.2 without the condition and 1 with it, under growing scales."""
    x_t, t = torch.zeros(1, 1, 1, 1), torch.zeros(1, dtype=torch.int64)
    scales = torch.arange(0, 8.5, 0.5)

    def model(x_t, t, label):
        return torch.where(label == 3, 0.2, 1.0).reshape(-1, 1, 1, 1)

    yours = []
    for scale in scales.tolist():
        got = drawable(student.guided_prediction(model, x_t, t, t + 1, 3, scale))
        yours.append(got.flatten()[0])
    expected = 0.2 + scales * (1.0 - 0.2)
    panel = Curve("guided", torch.stack(yours), expected, "guidance_scale", "prediction", scales)
    draw(panel, inputs="where the model says 0.2 without the condition and 1 with it")


# --- rescale_guidance


def rescale_causes(guided: Tensor, cond: Tensor, phi: float) -> dict:
    within = list(range(1, guided.ndim))

    def mixed(rescaled: Tensor) -> Tensor:
        return phi * rescaled + (1 - phi) * guided

    def size(x: Tensor) -> Tensor:
        return x.std(dim=within, keepdim=True)

    factor = size(cond) / size(guided)
    mean = guided.mean(dim=within, keepdim=True)
    causes = {
        "The standard deviation was taken over the whole batch, so samples change each other. Each "
        "sample has its own: std over all dimensions but the first.": (
            mixed(guided * (cond.std() / guided.std()))
        ),
        "The mixture is the wrong way round: guidance_rescale is the share of the rescaled "
        "prediction.": (1 - phi) * guided * factor + phi * guided,
        "The quotient is upside down: it is std(cond) / std(guided).": mixed(guided / factor),
        "The variance was taken where the standard deviation belongs.": mixed(guided * factor**2),
        "The mean was taken away before scaling, and put back or left away. The rescaling is one "
        "multiplication; the mean is scaled along.": mixed((guided - mean) * factor + mean),
        "The mean was taken away and is lost. The rescaling is one multiplication.": (
            mixed((guided - mean) * factor)
        ),
        "It was mixed with cond. The mixture is of the rescaled and the guided prediction.": (
            phi * guided * factor + (1 - phi) * cond
        ),
        "cond was rescaled; the guided prediction should be.": phi * cond / factor
        + (1 - phi) * guided,
        "It is rescaled at full strength: guidance_rescale has no effect, or guided was changed in "
        "place before the mixture.": guided * factor,
        "Nothing was rescaled.": guided,
        "Only samples with more contrast than cond were rescaled. The formula also strengthens "
        "those with less: no clamp, no minimum.": mixed(guided * factor.clamp(max=1)),
        "The result is only the factor's share: the unscaled part (1 - guidance_rescale) · guided "
        "is missing.": phi * guided * factor,
    }
    if guided.ndim == 4:
        causes[
            "The standard deviation was taken for each channel. Take it over all of a sample."
        ] = (  # noqa: E501
            lambda: mixed(
                guided * cond.std((2, 3), keepdim=True) / guided.std((2, 3), keepdim=True)
            )  # noqa: E501
        )
        causes[
            "The standard deviation was taken over the batch for each pixel. Take it over all "
            "of one sample."
        ] = lambda: mixed(  # fmt: skip
            guided * cond.std(0, keepdim=True) / guided.std(0, keepdim=True)
        )
    return causes


@exercise("rescale_guidance")
def test_rescale_equals_diffusers(student, rng):
    for shape, dtype in (((3, 2, 5, 4), torch.float64), ((5, 3, 2, 3), torch.float32)):
        sizes = (1 + 4 * torch.rand(shape[0], 1, 1, 1, generator=rng)).to(dtype)
        sizes[0] = 0.4  # a sample that has less contrast than cond
        guided = sizes * torch.randn(shape, generator=rng).to(dtype) + 0.7
        cond = torch.randn(shape, generator=rng).to(dtype) - 0.3
        phi = 0.55 + 0.35 * float(torch.rand((), generator=rng))
        got = ask(lambda g=guided, c=cond, p=phi: student.rescale_guidance(g, c, p), RESCALED)
        expect_close(
            got,
            rescale_noise_cfg(guided, cond, phi),
            "the rescaled prediction",
            causes=rescale_causes(guided, cond, phi),
            otherwise="Equations 15 and 16 of Lin et al.: guided · std(cond)/std(guided), then "
            "guidance_rescale parts of that and the rest of guided; std over all of a sample.",
            rtol=1e-4,
            atol=1e-5,
        )


@exercise("rescale_guidance")
def test_ends_and_other_shapes(student, rng):
    guided, cond = 3 * torch.randn(4, 6, generator=rng), torch.randn(4, 6, generator=rng)
    for phi in (0.0, 1.0):
        expect_close(
            ask(lambda phi=phi: student.rescale_guidance(guided, cond, phi), RESCALED),
            rescale_noise_cfg(guided, cond, phi),
            f"the rescaled prediction at guidance_rescale = {phi:.0f}, for points (B, D),",
            causes=rescale_causes(guided, cond, phi),
            otherwise="Predictions of any shape (B, ...) should work: take std over "
            "tuple(range(1, guided.ndim)).",
            rtol=1e-4,
            atol=1e-5,
        )


@exercise("rescale_guidance")
def test_rescale_leaves_its_arguments(student, rng):
    guided, cond = 3 * torch.randn(3, 6, generator=rng), torch.randn(3, 6, generator=rng)
    unchanged(student, lambda held: student.rescale_guidance(held, cond, 0.6), guided, "guided")
    unchanged(student, lambda held: student.rescale_guidance(guided, held, 0.6), cond, "cond")
    got = student.rescale_guidance(guided, cond, 0.6)
    expect(
        isinstance(got, Tensor) and got.dtype == guided.dtype,
        f"The result should keep guided's dtype, {guided.dtype}: if you compute more exactly "
        "inside, lead back at the end, .to(guided.dtype).",
    )


@pictured("rescale_guidance")
def test_rescale_guidance_picture(student, draw):
    """The contrast of two samples as guidance_rescale grows."""
    wave = torch.linspace(0, 12, 64, dtype=torch.float64).sin().reshape(1, 1, 8, 8)
    guided = wave * torch.tensor([2.0, 4.0]).reshape(2, 1, 1, 1) + 0.5
    cond, strengths = torch.cat([wave, wave.flip(2)]), torch.linspace(0, 1, 11)
    yours, expected = [], []
    for strength in strengths.tolist():
        yours.append(drawable(student.rescale_guidance(guided, cond, strength)))
        expected.append(rescale_noise_cfg(guided, cond, strength))
    panels = []
    for sample, name in enumerate(("a strong sample", "a stronger sample")):
        both = [torch.stack([each[sample].std() for each in some]) for some in (yours, expected)]
        panels.append(Curve(name, *both, "guidance_rescale", "standard deviation", strengths))
    draw(*panels, inputs="for waves of two sizes")


# --- sample_guided


class Sampler:
    """diffusers' DDIM with a guided prediction, and the detours that mistakes take."""

    def __init__(self, world: World, count: int, clip: bool):
        self.world, self.clip = world, clip
        self.timesteps = list(range(STEPS - 1, -1, -STEPS // count))

    def run(self, scale: float, rescale: float = 0.0, **slip) -> Tensor:
        world, x = self.world, self.world.x_t
        scheduler = DDIMScheduler(STEPS, clip_sample=slip.get("clip", self.clip))
        scheduler.alphas_cumprod = world.ac
        scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
        scheduler.num_inference_steps = STEPS if slip.get("by one") else len(self.timesteps)
        for step in self.timesteps[: slip.get("stop")]:
            t = torch.full_like(world.label, step + slip.get("shift", 0))
            null = slip.get("null", world.null)
            if slip.get("zero") and step == self.timesteps[-1]:
                scheduler.final_alpha_cumprod = world.ac[0]
            now, x = x, world.x_t if slip.get("asks about x_T") else x
            uncond, cond = world.predict(x, t, null), world.predict(x, t, world.label)
            if slip.get("late"):
                uncond, cond = self.reclipped(x, t, uncond), self.reclipped(x, t, cond)
            guided = uncond + scale * (cond - uncond)
            if rescale:
                guided = rescale_noise_cfg(guided, cond, rescale)
            x = world.x_t if slip.get("steps from x_T") else now
            x = scheduler.step(guided, step, x, use_clipped_model_output=True).prev_sample
        return x

    def reclipped(self, x, t, noise_pred):
        """The noise that belongs to the clipped guess of the clean picture."""
        bar = self.world.ac[t].reshape(-1, 1, 1, 1)
        guess = ((x - (1 - bar).sqrt() * noise_pred) / bar.sqrt()).clamp(-1, 1)
        return (x - bar.sqrt() * guess) / (1 - bar).sqrt()


def sampled(student, world: World, sampler: Sampler, *rest, **options):
    steps = torch.tensor(sampler.timesteps)
    return call(
        student.sample_guided,
        world.model, world.x_t, world.label, world.classes, world.ac, steps, *rest, **options,
    )  # fmt: skip


def sampler_causes(sampler: Sampler, scale: float, rescale: float) -> dict:
    return {
        "The samples are those of scale 1: guidance_scale does not reach guided_prediction.": (
            lambda: sampler.run(1.0, rescale)
        ),
        "The samples are those of the default scale: hand guidance_scale on.": (
            lambda: sampler.run(3.0, rescale)
        ),
        "guidance_rescale does not reach guided_prediction.": lambda: sampler.run(scale),
        "clip_sample does not reach ddim_step.": (
            lambda: sampler.run(scale, rescale, clip=not sampler.clip)
        ),
        "Each of the two guesses was clipped before guidance. Guide the noise first; "
        "ddim_step then clips the one guess.": (lambda: sampler.run(scale, rescale, late=True)),
        "Every ddim_step goes from t to t - 1; it goes to the next of the timesteps, as "
        "pairs(...) says.": lambda: sampler.run(scale, rescale, **{"by one": True}),
        "The last step is missing: from the last timestep it goes to the clean end, t = -1.": (
            lambda: sampler.run(scale, rescale, stop=-1)
        ),
        "The last step goes to step 0; it goes to -1, the clean end, as pairs(...) says.": (
            lambda: sampler.run(scale, rescale, zero=True)
        ),
        "The model is shown x_T at every step; show it the x of the step before.": (
            lambda: sampler.run(scale, rescale, **{"asks about x_T": True})
        ),
        "Every ddim_step begins at x_T; it goes on from the x of the step before.": (
            lambda: sampler.run(scale, rescale, **{"steps from x_T": True})
        ),
        "The model is asked one step too early or too late: at each step it gets t itself.": (
            lambda: sampler.run(scale, rescale, shift=-1)
        ),
    }


@exercise("sample_guided")
def test_visits_the_timesteps(student, rng):
    world = World(rng)
    sampler, seen = Sampler(world, 4, clip=False), []

    def on_step(*arguments):
        seen.append(arguments)

    got = sampled(student, world, sampler, 2.0, on_step=on_step)
    steps = [sorted(set(t.tolist())) for _, t, _ in world.calls]
    expect(
        all(len(each) == 1 for each in steps) and all(len(x) >= 3 for x, _, _ in world.calls),
        "At each step all samples have the same t: torch.full((len(x),), step).",
    )
    visited = [each[0] for each in steps]
    expect(
        visited == sampler.timesteps or sorted(set(visited), reverse=True) == sampler.timesteps,
        "The model should be asked at exactly the given timesteps, from the first to the last, "
        "and nowhere else. pairs(timesteps, alphas_cumprod) gives each with the one after it.",
    )
    expect(
        any(bool((label == world.classes).any()) for _, _, label in world.calls),
        "At scale 2 the model was never asked for the null condition: ask guided_prediction, not "
        "the model, and hand it the null.",
    )
    expect(
        len(seen) == len(sampler.timesteps),
        f"on_step should be called after each of the {len(sampler.timesteps)} steps; it was "
        f"called {len(seen)} times.",
    )
    expect(
        all(len(arguments) == 3 for arguments in seen),
        "on_step wants three things: on_step(step, x_prev, noise_pred).",
    )
    expect_steps(
        [arguments[0] for arguments in seen],
        sampler.timesteps,
        "should be the step t that was just left behind",
    )
    expect(
        isinstance(got, Tensor) and matches(got, seen[-1][1]),
        "What on_step saw last should be what sample_guided returns: call it after the step, with "
        "the new x.",
    )


@exercise("sample_guided")
def test_noise_is_guided_first(student, rng):
    world = World(rng)
    world.centres = 3 * world.centres  # many guesses of the clean picture lie outside [-1, 1]
    sampler, seen, scale = Sampler(world, 4, clip=True), [], 4 + number(rng, 0, 3)
    sampled(student, world, sampler, float(scale), on_step=lambda *seen_now: seen.append(seen_now))
    x, t = world.x_t, torch.full_like(world.label, sampler.timesteps[0])
    uncond, cond = world.predict(x, t, world.null), world.predict(x, t, world.label)
    u, c = sampler.reclipped(x, t, uncond), sampler.reclipped(x, t, cond)
    expect_close(
        seen[0][2],
        uncond + scale * (cond - uncond),
        "the noise that on_step is given after the first step",
        causes={
            "Each of the two guesses was clipped before guidance. Guide the noise first; ddim_step "
            "then clips the one guess.": u + scale * (c - u),
            "It is the noise without guidance.": cond,
            "It is x itself: convert_prediction takes the prediction first, then x.": x,
            "It is the new x: on_step(step, x_prev, noise_pred) gets the noise last.": seen[0][1],
            "It is the noise for the default scale: hand guidance_scale on.": (
                uncond + 3 * (cond - uncond)
            ),
        },
        otherwise="It should be what guided_prediction answered.",
        **CLOSE,
    )


@exercise("sample_guided")
def test_equals_diffusers(student, rng):
    for scale, rescale, clip in ((3.0, 0.0, False), (4.0, 0.0, True), (5.0, 0.6, False)):
        world = World(rng)
        scale += float(torch.rand((), generator=rng))
        sampler = Sampler(world, 5, clip)
        options = {"clip_sample": clip} | ({"guidance_rescale": rescale} if rescale else {})
        got = sampled(student, world, sampler, scale, **options)
        expect_close(
            got,
            sampler.run(scale, rescale),
            "the samples",
            causes=sampler_causes(sampler, scale, rescale),
            otherwise="Each step: guided_prediction at t, then ddim_step from t to the next "
            "timestep (eta 0).",
            rtol=1e-4,
            atol=1e-5,
        )


@exercise("sample_guided")
def test_other_prediction_types(student, rng):
    """Guidance is the same in every language: x_0 and v give the samples that the noise gives."""
    for kind in ("sample", "v_prediction"):
        world = World(rng)
        sampler, scale = Sampler(world, 4, clip=False), 2 + number(rng, 0, 3)

        def speaker(x_t, t, label, world=world, kind=kind):
            bar = world.ac[t.long()].reshape(-1, 1, 1, 1)
            noise = world.model(x_t, t, label)
            x_0 = (x_t - (1 - bar).sqrt() * noise) / bar.sqrt()
            return x_0 if kind == "sample" else bar.sqrt() * noise - (1 - bar).sqrt() * x_0

        steps, seen = torch.tensor(sampler.timesteps), []
        got = call(
            student.sample_guided,
            speaker, world.x_t, world.label, world.classes, world.ac, steps, float(scale),
            clip_sample=False, prediction_type=kind, on_step=lambda *told, s=seen: s.append(told),
        )  # fmt: skip
        expect_close(
            got,
            sampler.run(float(scale)),
            f"the samples of a model with prediction_type = {kind!r}",
            otherwise="The guided prediction is not always noise: convert_prediction(prediction, "
            'x, t, alphas_cumprod, prediction_type, "epsilon") makes it noise for ddim_step. '
            '(Noise comes out, so "epsilon" stands last.)',
            rtol=1e-4,
            atol=1e-5,
        )
        t = torch.full_like(world.label, sampler.timesteps[0])
        uncond, cond = (world.predict(world.x_t, t, each) for each in (world.null, world.label))
        expect_close(
            seen[0][2],
            uncond + scale * (cond - uncond),
            f"what on_step is given last, with prediction_type = {kind!r}",
            otherwise="on_step(step, x_prev, noise_pred) is always given noise: what "
            "convert_prediction made of the guided prediction.",
            rtol=1e-4,
            atol=1e-5,
        )


@exercise("sample_guided")
def test_closed_form(student, rng):
    """For p(x) = N(m, σ²) and p(x|c) = N(μ, σ²), guidance asks for N(m + s(μ - m), σ²)."""
    world = World(rng, batch=3)
    betas = torch.linspace(0.03, 0.45, STEPS, dtype=torch.float64) ** 2
    world.ac = torch.cumprod(1 - betas, 0)
    scale, std, mean = 1.5 + float(torch.rand((), generator=rng)), 0.4, 0.3
    means = torch.cat([torch.tensor([-0.7, 0.1, 0.9]), torch.tensor([mean])]).double()

    def model(x_t, t, label):
        bar = world.ac[t.long()].reshape(-1, 1, 1, 1)
        gap = x_t - bar.sqrt() * means[label.long()].reshape(-1, 1, 1, 1)
        return (1 - bar).sqrt() * gap / (bar * std**2 + 1 - bar)

    steps = torch.arange(STEPS - 1, -1, -1)
    got = student.sample_guided(
        model, world.x_t, world.label, 3, world.ac, steps, scale, clip_sample=False
    )
    wanted = (mean + scale * (means[world.label] - mean)).reshape(-1, 1, 1, 1)
    last = world.ac[-1]
    size = std / (last * std**2 + 1 - last).sqrt()
    expect_close(
        got,
        wanted + size * (world.x_t - last.sqrt() * wanted),
        "the samples from Gaussian data, where the goal of guidance is known exactly,",
        otherwise="Guided samples should lie around m + s·(μ - m), as widely spread as the data. "
        "Is fresh noise added (eta must be 0)?",
        rtol=0,
        atol=0.08,
    )


@exercise("sample_guided")
def test_scale_one_and_gradients(student, rng):
    world = World(rng)
    sampler = Sampler(world, 3, clip=False)
    sampled(student, world, sampler, 1.0, clip_sample=False)
    expect(
        sum(len(x) for x, _, _ in world.calls) == 3 * len(world.x_t),
        "At scale 1 the model should see each sample once a step, not twice: guided_prediction "
        "takes care of it.",
    )


@exercise("sample_guided")
def test_no_gradients_and_x_T_stays(student, rng):
    world = World(rng)
    sampler = Sampler(world, 3, clip=False)
    steps = torch.tensor(sampler.timesteps)
    rest = (world.label, world.classes, world.ac, steps)
    unchanged(
        student,
        lambda x_T: student.sample_guided(world.model, x_T, *rest, 2.0, clip_sample=False),
        world.x_t,
        "x_T",
    )
    held = student.hold(world.x_t)
    held.call("requires_grad_")
    result = student.new("sample_guided", world.model, held, *rest, 2.0, clip_sample=False)
    expect(
        result.get("requires_grad") is False,
        "Gradients are kept through all the steps, which costs memory and is never used: the line "
        "@torch.no_grad() belongs above the def.",
    )
    scales = 1 + 3 * torch.rand(len(world.x_t), generator=rng)
    expect_close(
        sampled(student, world, sampler, scales, clip_sample=False),
        sampler.run(scales.double().reshape(-1, 1, 1, 1)),
        "the samples with a scale for each sample",
        otherwise="guidance_scale may be a tensor (B,): hand it on as it is.",
        rtol=1e-4,
        atol=1e-5,
    )


@exercise("sample_guided")
def test_defaults_and_dtype(student, rng):
    world = World(rng)
    world.centres = 3 * world.centres  # so that clipping shows
    sampler = Sampler(world, 3, clip=True)
    expect_close(
        sampled(student, world, sampler),
        sampler.run(3.0),
        "the samples of the defaults alone",
        otherwise="The line of the def stays as it was given: guidance_scale=3.0, "
        "guidance_rescale=0.0, clip_sample=True.",
        rtol=1e-4,
        atol=1e-5,
    )
    x_T, steps = world.x_t.float(), torch.tensor(sampler.timesteps)
    got = student.sample_guided(
        lambda x_t, t, label: 0.1 * x_t, x_T, world.label, world.classes, world.ac.float(), steps
    )
    expect(
        isinstance(got, Tensor) and got.dtype == x_T.dtype,
        "From noise in float32 should come samples in float32, as the model computes in it: start "
        "with x = x_T as it is.",
    )
