"""Hidden tests of lesson 2: the denoiser.

Every block is compared with diffusers' block that holds the same weights. `UNet.forward` runs the
learner's other blocks, so its wiring is judged by calling those same blocks from here, one by one,
in the right order: a mistake in ResBlock costs the points of ResBlock and no others.
"""

import math
import re
from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from autograder.remote import Handle, RemoteError
from autograder.testing import Teaching, exercise, expect, expect_close, fail, matches
from autograder.testing_modules import (
    UNLEARNT,
    Parts,
    ask,
    check_with_ours,
    every_parameter_learns,
    expect_input_gradients,
    load,
    normal,
    runs,
    shuffle_weights,
    shuffled,
    unchanged,
)
from t2i import unet, unet_blocks
from t2i.pretrained import convert

CLOSE = {"rtol": 1e-4, "atol": 2e-5}
CUT_OFF = {"does not require grad": f"The result has no gradient at all. {UNLEARNT}"}
IN_PLACE = (
    "A tensor was changed in place (with +=, or a method that ends in _) though its caller or the "
    "gradients still need it: write x = x + … instead."
)


# --- timestep_embedding ---------------------------------------------------------------------------


def embedding(t: Tensor, dim: int, max_period: float = 1e4) -> Tensor:
    return get_timestep_embedding(
        t, dim, flip_sin_to_cos=True, downscale_freq_shift=0, max_period=max_period
    )


def embedding_mistakes(t: Tensor, dim: int, max_period: float = 1e4) -> dict[str, Callable]:
    half = dim // 2
    i = torch.arange(half, dtype=torch.float64)

    def waves(frequencies: Tensor, steps: Tensor = t) -> tuple[Tensor, Tensor]:
        angles = steps.double()[:, None] * frequencies
        return angles.cos().float(), angles.sin().float()

    def both(frequencies: Tensor, steps: Tensor = t) -> Tensor:
        return torch.cat(waves(frequencies, steps), 1)

    right = max_period ** (-i / half)
    return {
        "The sines stand before the cosines. The course (and diffusers' UNets) put all the cosines "
        "first; saved weights expect that order.": lambda: torch.cat(waves(right)[::-1], 1),
        "Cosines and sines alternate. Put them one after the other: first all cosines, then all "
        "sines.": lambda: torch.stack(waves(right), -1).flatten(1),
        "The frequencies are upside down: the exponent's sign is wrong, so each clock runs faster "
        "than the one before instead of slower.": lambda: both(max_period ** (i / half)),
        "The logarithm is missing: max_period^(-x) is exp(-log(max_period)·x), "
        "not exp(-max_period·x).": lambda: both(torch.exp(-max_period * i / half)),
        "The factor 2 is missing in the exponent -2i/dim: i should be divided by the number of "
        "clocks, dim / 2, and not by dim.": lambda: both(max_period ** (-i / dim)),
        "The clocks are numbered from 1; the first one is i = 0, with the frequency 1.": lambda: (
            both(max_period ** (-(i + 1) / half))
        ),
        "Your slowest clock has the speed 1/max_period itself: you divide by dim/2 - 1, as if "
        "both ends were included. Here the last one stops before it.": lambda: both(
            max_period ** (-i / (half - 1))
        ),
        "Every frequency is 2π times too large: ω is already in radians per step.": lambda: both(
            right * 2 * torch.pi
        ),
        "max_period is not used: 10,000 is written into the formula.": lambda: both(
            1e4 ** (-i / half)
        ),
        "The steps lose their fraction: t must not be turned into whole numbers.": lambda: both(
            right, t.long()
        ),
        "t is divided by 1000 first. The equation takes t as it is, in steps.": lambda: both(
            right, t / 1000
        ),
        "All clocks run at one speed: the exponents are all 0. Was i / (dim/2) rounded down to "
        "whole numbers?": lambda: both(torch.ones(half, dtype=torch.float64)),
        "The exponent -2i/dim is rounded down to a whole number: divide with /, not with //.": (
            lambda: both(torch.where(i > 0, 1 / max_period, 1.0))
        ),
        "log10 is not the logarithm that belongs to exp: use math.log.": lambda: both(
            torch.exp(-math.log10(max_period) * i / half)
        ),
        "The factor 2 stands there twice: -2i/dim is the same as -i/(dim/2).": lambda: both(
            max_period ** (-2 * i / half)
        ),
        "The frequencies themselves are missing: all steps get the frequencies, "
        "not t times them.": lambda: both(right, torch.ones_like(t)),
    }


def check_embedding(student, t: Tensor, dim: int, max_period: float, advice: str) -> None:
    hints = {
        "dtype": "Turn t into float before you multiply (t.float()).",
        "must match the size": "Every step needs its own row: multiply a column (B, 1) by a row "
        "(1, dim/2). `t[:, None]` makes the column.",
        "must be Tensor": "torch.log and torch.exp take tensors; for a single number there are "
        "math.log and math.exp.",
        "raise ValueError": "Yet this dim is even: only an odd one is refused.",
        "": "t is (B,), the result (B, dim).",
    }
    actual = ask(lambda: student.timestep_embedding(t, dim, max_period), hints)
    expect_close(
        actual,
        embedding(t, dim, max_period),
        "the embedding of the steps",
        causes=embedding_mistakes(t, dim, max_period),
        otherwise=advice,
        rtol=0,
        atol=3e-3,
    )


@exercise("timestep_embedding")
def test_embedding_of_whole_steps(student, rng):
    t = torch.randint(3, 1000, (7,), generator=rng)
    advice = "Compare with ω_i = max_period^(-2i/dim): cosines of t·ω_i first, then sines."
    check_embedding(student, t, 34, 1e4, advice)
    small = student.timestep_embedding(t, 8)
    expect_close(small, embedding(t, 8), "an embedding of another length", rtol=0, atol=3e-3)
    expect(small.dtype == torch.float32, "The embedding should be float32, whatever dtype t has.")


@exercise("timestep_embedding")
def test_embedding_of_other_steps(student, rng):
    t = 100 * torch.rand(3, generator=rng) + 0.5
    advice = "This t has fractions, and max_period is not 10,000: both must enter the formula."
    check_embedding(student, t, 12, 500.0 + 100 * torch.rand((), generator=rng).item(), advice)
    check_embedding(student, t[:1], 12, 1e4, "It went wrong with a batch of one.")
    fractions = torch.tensor([0.25, 7.5, 300.0])
    unchanged(student, lambda held: student.timestep_embedding(held, 12), fractions, "t")


@exercise("timestep_embedding")
def test_embedding_refuses_an_odd_length(student, rng):
    student.timestep_embedding(torch.arange(3), 8)  # what is not written yet stops here
    try:
        student.timestep_embedding(torch.arange(3), 7)
    except RemoteError as error:
        if error.type_name == "ValueError":
            return
        fail(f"An odd dim should raise a ValueError with a sentence; yours: {error}")
    fail(
        "An odd dim cannot be split into cosines and sines: the docstring promises a ValueError. "
        "Raise it, `raise ValueError(…)`: to return or print it does not stop the caller."
    )


# --- ResBlock.forward -----------------------------------------------------------------------------


def resblock(s: dict[str, Tensor], x: Tensor, emb: Tensor, groups: int, wrong: str = "") -> Tensor:
    """The block from its weights; `wrong` makes one well-known mistake."""

    def norm(h: Tensor, name: str) -> Tensor:
        if wrong == "no " + name:
            return h
        return F.group_norm(h, groups, s[f"{name}.weight"], s[f"{name}.bias"])

    def act(h: Tensor, name: str) -> Tensor:
        if wrong == "relu everywhere" or (wrong == "relu" and name != "emb"):
            return F.relu(h)
        if wrong in ("gelu", "sigmoid"):
            return F.gelu(h) if wrong == "gelu" else torch.sigmoid(h)
        return h if wrong == "no silu " + name else F.silu(h)

    def conv(h: Tensor, name: str, padding: int = 1) -> Tensor:
        return F.conv2d(h, s[f"{name}.weight"], s[f"{name}.bias"], padding=padding)

    if wrong in ("norm1 twice", "conv1 twice"):
        name = wrong.split()[0]
        s = s | {name.replace("1", "2") + end: s[name + end] for end in (".weight", ".bias")}
    late = wrong == "silu after time"
    time = F.linear(emb if late else act(emb, "emb"), s["time_proj.weight"], s["time_proj.bias"])[
        :, :, None, None
    ]
    time = F.silu(time) if late else time
    time = 0 * time if wrong == "no time" else time[:1] if wrong == "time of one" else time
    h = norm(x, "norm1")
    if wrong == "conv first":
        h = act(norm(conv(x, "conv1"), "norm1"), "1")
    elif wrong == "silu first":
        h = conv(norm(act(x, "1"), "norm1"), "conv1")
    elif wrong == "silu last":
        h = act(conv(h, "conv1"), "1")
    else:
        h = conv(act(h, "1"), "conv1")
    h = norm(h if wrong in ("time late", "time later still") else h + time, "norm2")
    h = h + time if wrong == "time late" else h
    if wrong == "time times":
        h = norm(conv(act(norm(x, "norm1"), "1"), "conv1") * time, "norm2")
    h = act(h, "2")
    h = conv(h + time if wrong == "time later still" else h, "conv2")
    if wrong == "silu first twice":
        before = conv(norm(act(x, "1"), "norm1"), "conv1") + time
        h = conv(norm(act(before, "2"), "norm2"), "conv2")
    if wrong == "time last":
        h = conv(act(norm(conv(act(norm(x, "norm1"), "1"), "conv1"), "norm2"), "2"), "conv2") + time
    shortcut = norm(x, "norm1") if wrong in ("normed skip", "activated skip") else x
    shortcut = act(shortcut, "1") if wrong == "activated skip" else shortcut
    if wrong.startswith("own skip") and "skip.weight" not in s:
        shortcut = conv(act(norm(x, "norm1"), "1"), "conv1")
        shortcut = shortcut + time if wrong == "own skip, time" else shortcut
    if wrong == "skip of the change" and "skip.weight" not in s:
        return 2 * h
    if "skip.weight" in s:
        shortcut = conv(shortcut, "skip", 0)
    if wrong == "skip silu":
        return F.silu(h + shortcut)
    return h if wrong == "no skip" else h + shortcut


RESBLOCK_MISTAKES = {
    "no skip": "What came in is not added at the end: skip(x) + … is missing (He et al.: the "
    "block learns only the change).",
    "no time": "The time vector is not used: h + time_proj(silu(emb)) comes after conv1.",
    "no silu emb": "The activation on emb is missing: it is time_proj(silu(emb)).",
    "no silu 1": "The first SiLU is missing: conv1 reads silu(norm1(x)).",
    "no silu 2": "The second SiLU is missing: conv2 reads silu(norm2(h)).",
    "no norm1": "norm1 is not used: conv1 reads silu(norm1(x)).",
    "no norm2": "norm2 is not used: conv2 reads silu(norm2(h)).",
    "relu": "The activation is ReLU where the text has SiLU.",
    "relu everywhere": "The activation is ReLU; the text has SiLU.",
    "gelu": "The activation is GELU; the text has SiLU.",
    "sigmoid": "The activation is the bare sigmoid; silu(x) is x·sigmoid(x): F.silu.",
    "norm1 twice": "norm1 is used twice: the second normalisation is norm2.",
    "conv1 twice": "conv1 is used twice: the second convolution is conv2.",
    "silu after time": "SiLU comes after time_proj, and belongs before it: time_proj(silu(emb)).",
    "silu first twice": "The activations come before the normalisations: it is silu(norm(x)), not "
    "norm(silu(x)).",
    "conv first": "The order is turned round: normalise, activate, then convolve (not conv first).",
    "silu last": "The first SiLU comes after conv1; it belongs before it: conv1 reads "
    "silu(norm1(x)).",
    "silu first": "The activation comes before the normalisation: it is silu(norm(x)), "
    "not norm(silu(x)).",
    "time late": "The time is added after norm2; it must be added before: norm2 reads "
    "conv1(…) + time.",
    "time later still": "The time is added after norm2 and its SiLU; it must be added before: "
    "norm2 reads conv1(…) + time.",
    "time times": "The time is multiplied in; here it is added.",
    "time last": "The time is added at the very end; it belongs between conv1 and norm2.",
    "time of one": "Every picture got the time of the first: emb has one row a picture.",
    "normed skip": "The skip carries norm1(x); it must carry x as it came in.",
    "activated skip": "The skip carries silu(norm1(x)); it must carry x as it came in: give what "
    "conv1 reads a name of its own.",
    "own skip": "The skip carries what conv1 made of x: skip must get the x that came in. Give "
    "what comes out of conv1 a name of its own.",
    "own skip, time": "The skip carries what conv1 made of x: skip must get the x that came in. "
    "Give what comes out of conv1 another name.",
    "skip of the change": "The change is added to itself: skip must get the x that came in, not "
    "what conv2 made.",
    "skip silu": "There is an activation after the sum; the sum is returned as it is.",
}
RESBLOCK_HINTS = CUT_OFF | {
    "Given groups=1, weight of size": "A convolution got another number of channels than it was "
    "built for. Does skip get the x that came in, or have you overwritten x?",
    "non-singleton dimension 1": "At a sum the channels differ. The time must be (B, C, 1, 1), one "
    "number for each picture and channel; the skip must bring x to out_channels: self.skip(x).",
    "must match the size": "time_proj(…) is (B, C); to be added to (B, C, H, W) it needs two more "
    "dimensions of size 1 at the end.",
    "leaf Variable": "Do not change x in place (+=): it belongs to the caller.",
    "inplace": "Do not change a tensor in place that is still needed.",
    "": "Follow the equation from the inside out: norm, SiLU, convolution.",
}


DROPS = (
    "In eval mode values are still dropped, others at each call. Use the layer self.dropout: it "
    "knows whether the model trains; F.dropout(h) drops always."
)


def check_resblock(student, rng, c_in, c_out, groups, shape, dtype=torch.float32) -> None:
    theirs = ResnetBlock2D(
        in_channels=c_in, out_channels=c_out, temb_channels=10, groups=groups, eps=1e-5
    )
    shuffle_weights(theirs, rng).to(dtype)
    state = convert.resnet_block_state_dict(theirs.state_dict())
    block = student.new("ResBlock", c_in, c_out, emb_channels=10, norm_groups=groups)
    block.eval()
    if dtype is torch.float64:
        block.call("double")
    load(block, state)
    batch, height, width = shape
    x = 1.5 * normal(rng, batch, c_in, height, width, dtype=dtype) + 0.5
    emb = 2 * normal(rng, batch, 10, dtype=dtype)
    out = ask(lambda: block(x, emb), RESBLOCK_HINTS)
    if isinstance(out, Tensor):
        expect(matches(block(x, emb), out), DROPS)
    expect_close(
        out,
        theirs(x, emb).detach(),
        "the output of the block",
        causes={
            sentence: (lambda wrong=wrong: resblock(state, x, emb, groups, wrong))
            for wrong, sentence in RESBLOCK_MISTAKES.items()
        },
        otherwise="Compare with h = conv1(silu(norm1(x))) + time; out = skip(x) + "
        "conv2(dropout(silu(norm2(h)))), one term after the other.",
        **CLOSE,
    )


@exercise("ResBlock.forward")
def test_block_with_equal_channels(student, rng):
    check_resblock(student, rng, 12, 12, 4, (3, 7, 5))


@exercise("ResBlock.forward")
def test_block_that_changes_the_channels(student, rng):
    check_resblock(student, rng, 6, 10, 2, (5, 4, 9))
    check_resblock(student, rng, 16, 8, 4, (1, 6, 3), torch.float64)


@exercise("ResBlock.forward")
def test_block_leaves_its_inputs_alone(student, rng):
    block = student.new("ResBlock", 4, 4, emb_channels=6, norm_groups=2)
    x, emb = normal(rng, 2, 4, 5, 3), normal(rng, 2, 6)
    name = "x, which is also skip(x) where the channels stay the same,"
    unchanged(student, lambda held: ask(lambda: block(held, emb), RESBLOCK_HINTS), x, name)
    unchanged(student, lambda held: ask(lambda: block(x, held), RESBLOCK_HINTS), emb, "emb")


@exercise("ResBlock.forward")
def test_block_drops_values_in_training_only(student, rng):
    p = 0.3
    block = student.new("ResBlock", 4, 4, emb_channels=6, norm_groups=2, dropout=p)
    ours = shuffle_weights(unet_blocks.ResBlock(4, 4, 6, norm_groups=2), rng)
    nn.init.dirac_(ours.conv2.weight)
    nn.init.constant_(ours.conv2.bias, 0.5)  # so that out - x - 0.5 is what goes into conv2
    x, emb = normal(rng, 8, 4, 9, 8), normal(rng, 8, 6)
    expected = ours(x, emb).detach()
    load(block, ours.state_dict())
    block.eval()
    expect(matches(block(x, emb), expected, **CLOSE), DROPS)
    block.train()
    trained = block(x, emb)
    expect(
        not matches(trained, expected, **CLOSE),
        "In training nothing is dropped: self.dropout belongs before conv2.",
    )
    expect(
        ((trained - x).abs() < 1e-7).float().mean() < 0.2,
        "There is a dropout after conv2; the only one belongs before it: conv2(dropout(…)).",
    )
    expect(
        (trained.abs() < 1e-7).float().mean() < 0.2,
        "Dropout falls on the sum and erases the skip; it belongs before conv2.",
    )
    h = ours.conv1(F.silu(ours.norm1(x))) + ours.time_proj(F.silu(emb))[:, :, None, None]
    check_dropped(trained - x - 0.5, ours.norm2(h).detach(), p)


def check_dropped(read: Tensor, normed: Tensor, p: float) -> None:
    """Look at what conv2 read in training, beside norm2's answer: is it dropout(silu(normed))?"""
    whole = F.silu(normed)
    gone, large = read.abs() < 1e-5, whole.abs() > 0.1  # small ones say little
    kept = large & ~gone
    before = matches(read[kept], F.silu(normed / (1 - p))[kept], rtol=1e-3, atol=1e-4)
    expect(
        not before or not gone.any(),
        "Dropout stands before the second SiLU, and belongs after it: dropout(silu(norm2(h))).",
    )
    share, factor = gone[large].float().mean(), read[kept] / whole[kept]
    alike = len(factor) > 0 and (factor - factor.median()).abs().max() < 1e-2
    expect(
        share > 0.02 and alike,
        "Dropout stands in another place than the equation has it, or in a second one: only the "
        "values that go into conv2 are dropped, after norm2 and SiLU.",
    )
    channels = gone.flatten(2).float().mean(-1)
    expect(
        0 < channels.min() and channels.max() < 1,
        "Whole channels are dropped (dropout2d), or none of their values; here each value is "
        "dropped or kept by itself: self.dropout.",
    )
    expect(
        abs(share - p) < 0.1,
        "The right values are dropped, but too many or too few: the block's own rate is missing. "
        "Use self.dropout, or F.dropout with p=self.dropout.p.",
    )
    expect(
        abs(factor.median() - 1 / (1 - p)) < 0.02,
        "The values that are kept must be divided by 1 - p, as self.dropout does it.",
    )


@exercise("ResBlock.forward")
def test_block_can_learn(student, rng):
    reference = shuffle_weights(unet_blocks.ResBlock(6, 4, 8, norm_groups=2), rng).double()
    block = student.new("ResBlock", 6, 4, emb_channels=8, norm_groups=2)
    block.call("double")
    load(block, reference.state_dict())
    x, emb = normal(rng, 3, 6, 5, 4, dtype=torch.float64), normal(rng, 3, 8, dtype=torch.float64)
    gradients = ask(lambda: block.grad(x, emb), RESBLOCK_HINTS)
    every_parameter_learns(gradients, "the block")
    expect_input_gradients(gradients, reference, (x, emb), ("x", "emb"))


# --- SelfAttention2d.forward ----------------------------------------------------------------------


def attention(s: dict[str, Tensor], x: Tensor, heads: int, groups: int, wrong: str = "") -> Tensor:
    """The layer from its weights; `wrong` makes one well-known mistake."""
    b, c, height, width = x.shape
    heads = 2 if wrong == "two heads" else heads
    normed = F.group_norm(x, groups, s["norm.weight"], s["norm.bias"])
    source = x if wrong == "no norm" else normed
    pixels = source.flatten(2).transpose(1, 2)
    if wrong in ("reshape pixels", "reshape both", "reshape everywhere"):
        pixels = source.reshape(b, height * width, c)
    if wrong == "width first":
        pixels = source.transpose(2, 3).flatten(2).transpose(1, 2)
    d = c // heads

    def to(name: str) -> Tensor:
        out = F.linear(pixels, s[f"{name}.weight"], s[f"{name}.bias"])
        if wrong in ("heads by reshape", "heads by reshape twice", "reshape everywhere"):
            return out.reshape(b, heads, -1, d)
        if wrong in ("heads interleaved", "heads interleaved twice"):
            return out.unflatten(2, (d, heads)).permute(0, 3, 1, 2)
        if wrong == "one head":
            return out[:, None]
        return out.unflatten(2, (heads, d)).transpose(1, 2)

    q, k, v = to("to_q"), to("to_k"), to("to_v")
    q, k = (k, q) if wrong == "q and k" else (q, k)
    k = q if wrong == "k from q" else k
    v = k if wrong == "v from k" else v
    if wrong == "v unnormed":
        pixels = x.flatten(2).transpose(1, 2)
        v = to("to_v")
    if wrong == "between heads":
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    sizes = {"no scale": 1.0, "scale by C": c, "scale by d": d**2, "one head": c}
    sizes |= {"scale by heads": heads, "scale halved": (2 * d) ** 2}
    size = sizes.get(wrong, d)
    scores = q @ k.transpose(-1, -2) / size**0.5
    weights = scores.softmax(-2 if wrong == "softmax axis" else -1)
    weights = scores.softmax(1) if wrong == "softmax heads" else weights
    weights = scores if wrong == "no softmax" else weights
    weights = weights.transpose(-1, -2) if wrong == "transposed" else weights
    looked = weights @ v
    looked = looked.transpose(1, 2) if wrong == "between heads" else looked
    merged = looked.transpose(1, 2).reshape(b, -1, c)
    if wrong in ("merge by reshape", "heads by reshape twice", "reshape everywhere"):
        merged = looked.reshape(b, -1, c)
    if wrong in ("merge interleaved", "heads interleaved twice"):
        merged = looked.permute(0, 2, 3, 1).reshape(b, -1, c)
    out = merged
    if wrong != "no proj":
        out = F.linear(merged, s["proj.weight"], s["proj.bias"])
    if wrong in ("back by reshape", "reshape both", "reshape everywhere"):
        out = out.reshape(b, c, height, width)
    elif wrong == "height and width":
        out = out.transpose(1, 2).reshape(b, c, width, height).transpose(2, 3)
    else:
        out = out.transpose(1, 2).reshape(b, c, height, width)
    if wrong == "no residual":
        return out
    return out + (normed if wrong == "normed residual" else x)


ATTENTION_MISTAKES = {
    "no residual": "The input is not added at the end: out = x + proj(…).",
    "normed residual": "norm(x) is added at the end; it must be x as it came in.",
    "no norm": "The normalisation is missing: q, k and v are read from norm(x).",
    "no scale": "The scale is missing: the scores are divided by √d before the softmax.",
    "scale by C": "The scale is √C with all the channels C; it must be √d, with the d = C / heads "
    "channels of one head.",
    "scale by heads": "The scale is √heads; it must be √d, with the d = C / heads channels of one "
    "head.",
    "scale by d": "The scores are divided by d, not by its square root √d. "
    "(F.scaled_dot_product_attention divides by √d itself.)",
    "scale halved": "`d**1/2` is d / 2, since powers come before division: write d**0.5.",
    "k from q": "The keys are made by to_q; they come from to_k.",
    "v from k": "The values are the keys; they come from to_v.",
    "v unnormed": "The values are read from x; like q and k they are read from norm(x).",
    "between heads": "The heads of one pixel attend to each other: the axis of pixels must stand "
    "next to the last one, (B, heads, N, d).",
    "two heads": "There are always two heads: heads=self.num_heads.",
    "softmax axis": "The softmax runs over the wrong axis: each asking pixel's weights over all "
    "answering pixels (the last axis of q·kᵀ) sum to 1.",
    "softmax heads": "The softmax runs over the wrong axis: over the heads instead of over the "
    "pixels that answer.",
    "no softmax": "The softmax is missing: the scores are not yet weights that sum to 1.",
    "transposed": "The weights are transposed: they must be (asking pixel, answering pixel) when "
    "they meet v.",
    "q and k": "q and k have changed places: the row of a pixel is made from its own q and "
    "everybody's k.",
    "heads by reshape": "The heads are mixed by a plain reshape: (B, N, C) must become "
    "(B, N, heads, d) first, and then its axes are exchanged, so that a head keeps d "
    "neighbouring channels of the same pixel.",
    "heads by reshape twice": "The heads are mixed by plain reshapes, there and back: (B, N, C) "
    "must become (B, N, heads, d) first, then its axes are exchanged; the same on the way back.",
    "reshape everywhere": "All moves are plain reshapes, which mix channels, places and heads: an "
    "axis that goes to another place must be exchanged, with rearrange or transpose.",
    "heads interleaved": "The channels of the heads are interleaved (d heads): a head has d "
    "neighbouring channels, '(heads d)'.",
    "heads interleaved twice": "The channels of the heads are interleaved, (d heads), there and "
    "back: a head has d neighbouring channels, '(heads d)'.",
    "merge interleaved": "The heads are joined interleaved, (d heads): the channels of one head "
    "stay side by side, '(heads d)'.",
    "merge by reshape": "The heads come back mixed by a plain reshape: exchange the axes of heads "
    "and pixels first.",
    "one head": "num_heads is not used: there is one big head instead.",
    "no proj": "The last layer, proj, is missing.",
    "reshape pixels": "(B, C, H, W) became (B, H·W, C) by a plain reshape, which mixes channels "
    "with places: the axes must be exchanged, not only renamed.",
    "reshape both": "(B, C, H, W) became (B, H·W, C) by a plain reshape, and came back by one: "
    "that mixes channels with places. Exchange the axes: rearrange, or flatten(2).transpose(1, 2).",
    "back by reshape": "On the way back (B, N, C) became (B, C, H, W) by a plain reshape, which "
    "mixes channels with places: exchange the axes first.",
    "height and width": "Height and width are exchanged on the way back: it only works for square "
    "pictures.",
    "width first": "The pixels are read in another order, (w h), than they are put back, (h w): "
    "each answer lands at another pixel's place.",
}
ATTENTION_HINTS = CUT_OFF | {
    "leaf Variable": IN_PLACE,
    "inplace": IN_PLACE,
    "contiguous": "view needs the values in order in memory: use reshape or rearrange.",
    "": "Check the shapes: pixels are (B, N, C) with N = H·W, heads are (B, heads, N, d). For the "
    "scores only the last two axes of k change places: k.transpose(-1, -2).",
}


def check_attention(student, rng, channels, heads, groups, shape, dtype=torch.float32) -> None:
    theirs = Attention(
        channels,
        heads=heads,
        dim_head=channels // heads,
        norm_num_groups=groups,
        eps=1e-5,
        bias=True,
        residual_connection=True,
        _from_deprecated_attn_block=True,
    )
    shuffle_weights(theirs, rng).to(dtype)
    with torch.no_grad():
        theirs.to_q.weight.mul_(3)  # so that pixels look at few others, and mistakes show
    state = convert.attention_state_dict(theirs.state_dict())
    layer = student.new("SelfAttention2d", channels, num_heads=heads, norm_groups=groups)
    layer.eval()
    if dtype is torch.float64:
        layer.call("double")
    load(layer, state)
    batch, height, width = shape
    x = 1.5 * normal(rng, batch, channels, height, width, dtype=dtype) - 0.5
    expect_close(
        ask(lambda: layer(x), ATTENTION_HINTS),
        theirs(x).detach(),
        "the output of the attention",
        causes={
            sentence: (lambda wrong=wrong: attention(state, x, heads, groups, wrong))
            for wrong, sentence in ATTENTION_MISTAKES.items()
        },
        otherwise="Compare with x + proj(softmax(q·kᵀ / √d)·v), with q, k, v read from norm(x).",
        **CLOSE,
    )


@exercise("SelfAttention2d.forward")
def test_attention_with_several_heads(student, rng):
    check_attention(student, rng, 12, 3, 4, (3, 3, 5))
    check_attention(student, rng, 8, 4, 2, (1, 2, 5), torch.float64)


@exercise("SelfAttention2d.forward")
def test_attention_with_one_head(student, rng):
    check_attention(student, rng, 8, 1, 2, (3, 4, 3))


@exercise("SelfAttention2d.forward")
def test_attention_can_learn(student, rng):
    reference = shuffle_weights(unet_blocks.SelfAttention2d(6, 2, norm_groups=2), rng)
    layer = load(student.new("SelfAttention2d", 6, 2, norm_groups=2), reference.state_dict())
    x = normal(rng, 2, 6, 3, 4)
    unchanged(student, lambda held: ask(lambda: layer(held), ATTENTION_HINTS), x, "x")
    gradients = ask(lambda: layer.grad(x), ATTENTION_HINTS)
    expect(
        matches(gradients["output"], reference(x).detach(), **CLOSE),
        "While it trains, the layer answers otherwise than in eval mode. Nothing in it may depend "
        "on that: there is no dropout here.",
    )
    gradients["params"].pop("to_k.bias", None)  # the same for all answers: softmax ignores it
    every_parameter_learns(gradients, "the attention")
    expect_input_gradients(gradients, reference, (x,), ("x",))


# --- Downsample and Upsample ----------------------------------------------------------------------

ONE_CONV = (
    "Both resizing layers hold one convolution with a 3×3 kernel and a bias, called self.conv."
)


def check_resize(student, rng, name: str, theirs: nn.Module, mistakes: dict, advice: str) -> None:
    """Compare on even, odd and single-row sizes, in two dtypes.

    Args:
        mistakes: sentence to function of (x, weight, bias).
    """
    shuffle_weights(theirs, rng)
    state = {f"conv.{key}": theirs.state_dict()[f"conv.{key}"] for key in ("weight", "bias")}
    other = "another kind of layer, another kernel size or another number of channels"
    layer = load(student.new(name, 5), state, ONE_CONV, other)
    for shape, dtype in (
        ((3, 5, 8, 6), torch.float32),
        ((1, 5, 7, 4), torch.float32),
        ((2, 5, 3, 9), torch.float64),
    ):
        if dtype is torch.float64:
            layer.call("double")
            theirs.double()
        x = normal(rng, *shape, dtype=dtype)
        weight, bias = (tensor.to(dtype) for tensor in state.values())
        expect_close(
            ask(lambda x=x: layer(x), UPSAMPLE_HINTS),
            theirs(x).detach(),
            f"the output of {name} for {'odd' if shape[-1] % 2 or shape[-2] % 2 else 'even'} sizes",
            causes={
                sentence: (lambda f=f, x=x, w=weight, b=bias: f(x, w, b))
                for sentence, f in mistakes.items()
            },
            otherwise=advice,
            **CLOSE,
        )
    x = normal(rng, 2, 5, 4, 6, dtype=torch.float64)
    unchanged(student, layer, x, "x")
    gradients = ask(lambda: layer.grad(x), CUT_OFF | {"": ""})
    every_parameter_learns(gradients, name)
    expect_input_gradients(gradients, theirs, (x,), ("x",))


@exercise("Downsample")
def test_downsample(student, rng):
    def conv(stride=2, padding=1):
        return lambda x, w, b: F.conv2d(x, w, b, stride=stride, padding=padding)

    def padded(sides, mode="constant"):
        return lambda x, w, b: F.conv2d(F.pad(x, sides, mode=mode), w, b, stride=2)

    mistakes = {
        "The stride is missing: with stride 1 the convolution visits every pixel, and nothing "
        "gets smaller.": conv(1),
        "The padding is 0, so a row and a column are lost at the border: a 3×3 kernel needs a "
        "border of 1.": conv(2, 0),
        "The padding and the stride are both missing.": conv(1, 0),
        "The padding is 2, one too many: a 3×3 kernel reaches one pixel beyond.": conv(2, 2),
        "The windows stand one pixel too far right and down, as if only the right and lower border "
        "were padded: padding=1 pads all sides, and the first window stands on the first "
        "pixel.": padded((0, 1, 0, 1)),
        "The border is padded with the picture's own pixels; plain padding=1 pads "
        "with zeros.": padded((1, 1, 1, 1), "replicate"),
        "The border is padded with the mirrored picture; plain padding=1 pads with zeros.": padded(
            (1, 1, 1, 1), "reflect"
        ),
        "The border is padded with the picture's other side; plain padding=1 pads "
        "with zeros.": padded((1, 1, 1, 1), "circular"),
        "The picture is averaged after the convolution; here the convolution itself takes "
        "strides of 2.": lambda x, w, b: F.avg_pool2d(F.conv2d(x, w, b, padding=1), 2),
        "The picture is averaged before the convolution; here the convolution itself takes "
        "strides of 2.": lambda x, w, b: F.conv2d(F.avg_pool2d(x, 2), w, b, padding=1),
        "The largest of each four pixels is taken (max pooling); here the convolution itself "
        "takes strides of 2.": lambda x, w, b: F.max_pool2d(F.conv2d(x, w, b, padding=1), 2),
        "The convolution reads a picture that lost every second pixel before it could be "
        "seen: convolve with stride 2 instead.": lambda x, w, b: F.conv2d(
            x[:, :, ::2, ::2], w, b, padding=1
        ),
        "Every second pixel is kept, but the wrong ones: begin with the first.": lambda x, w, b: (
            F.conv2d(x, w, b, padding=1)[:, :, 1::2, 1::2]
        ),
        "The stride is 3: the kernel is 3 wide, but it moves by 2.": conv(3),
        "There is an activation after the convolution; a resize has none.": lambda x, w, b: F.silu(
            F.conv2d(x, w, b, stride=2, padding=1)
        ),
        "The input is added again; a resize has no skip.": lambda x, w, b: (
            F.conv2d(x, w, b, stride=2, padding=1) + x[:, :, ::2, ::2]
        ),
    }
    theirs = Downsample2D(5, use_conv=True, padding=1, name="op")
    advice = "One 3×3 convolution: stride 2, padding 1, and nothing else."
    check_resize(student, rng, "Downsample", theirs, mistakes, advice)


UPSAMPLE_HINTS = {
    "should be the same": "The dtype of what you make must be that of x: dtype=x.dtype.",
    "": "x is (B, C, H, W), of any height and width.",
}


@exercise("Upsample")
def test_upsample(student, rng):
    def conv(x, w, b):
        return F.conv2d(x, w, b, padding=1)

    def enlarged(**how):
        return lambda x, w, b: conv(F.interpolate(x, scale_factor=2, **how), w, b)

    def holes(x):
        out = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
        out[:, :, ::2, ::2] = x
        return out

    def twice(x):
        return F.interpolate(x, scale_factor=2, mode="nearest")

    transposed = {"stride": 2, "padding": 1, "output_padding": 1}
    mistakes = {
        "The pixels are blended (bilinear); here every pixel is repeated: nearest.": enlarged(
            mode="bilinear"
        ),
        "The pixels are blended (bilinear, align_corners); here every pixel is repeated: "
        "nearest.": enlarged(mode="bilinear", align_corners=True),
        "The pixels are blended (bicubic); here every pixel is repeated: nearest.": enlarged(
            mode="bicubic"
        ),
        "The convolution comes before the repetition, so the blocks of equal pixels stay visible: "
        "repeat first, then convolve.": lambda x, w, b: twice(conv(x, w, b)),
        "The convolution is missing: its weights are never used.": lambda x, w, b: twice(x),
        "The repetition is missing: the size stays as it was.": conv,
        "The whole picture is tiled (x.repeat); every single pixel should be repeated in its "
        "place.": lambda x, w, b: conv(x.repeat(1, 1, 2, 2), w, b),
        "New pixels are filled with zeros; they should repeat their neighbour.": lambda x, w, b: (
            conv(holes(x), w, b)
        ),
        "This is a transposed convolution, which leaves a checkerboard: repeat the pixels, then "
        "use an ordinary convolution.": lambda x, w, b: F.conv_transpose2d(x, w, b, **transposed),
        "After the repetition comes a transposed convolution, whose kernel works turned round: use "
        "an ordinary one.": lambda x, w, b: F.conv_transpose2d(twice(x), w, b, padding=1),
        "The padding is missing: the convolution eats the border.": lambda x, w, b: F.conv2d(
            twice(x), w, b
        ),
        "There is an activation after the convolution; a resize has none.": lambda x, w, b: F.silu(
            conv(twice(x), w, b)
        ),
        "Only one direction is doubled.": lambda x, w, b: conv(x.repeat_interleave(2, 2), w, b),
        "Only one direction is doubled: the width.": lambda x, w, b: conv(
            x.repeat_interleave(2, 3), w, b
        ),
        "The input is added again; a resize has no skip.": lambda x, w, b: (
            conv(twice(x), w, b) + twice(x)
        ),
    }
    theirs = Upsample2D(5, use_conv=True)
    advice = "Repeat every pixel twice in both directions, then one 3×3 convolution with padding 1."
    check_resize(student, rng, "Upsample", theirs, mistakes, advice)


# --- UNet.forward ---------------------------------------------------------------------------------

BLOCK_STOPS = (
    "UNet.forward runs that block, so it cannot be judged yet: mend the other exercise first."
)
OTHER_BLOCKS = "If the line is not in UNet.forward, mend that block first: UNet.forward runs it."
CHANNELS = (
    "A block got another number of channels than it was built for: every block on the way up reads "
    "h and exactly one skip (the last one kept first), concatenated along the channels (dim=1). "
    "The first that is kept is what conv_in gives, not x_t."
)
UNET_HINTS = CUT_OFF | {
    "not implemented for": "A block reads whole numbers. Its second argument is emb, the time "
    "vector that comes out of time_mlp, not t.",
    "leaf Variable": IN_PLACE,
    "inplace operation": IN_PLACE,
    "pop from empty list": "More skips are taken than were kept. Keep one after conv_in, one after "
    "every block on the way down, and one after every resize on the way down.",
    "pop index out of range": "More skips are taken than were kept. Keep one after conv_in, one "
    "after every block, and one after every resize on the way down.",
    "same dtype": "The embedding is float32; bring it to x_t's dtype before the MLP.",
    "mat1 and mat2 shapes": "The time must go through timestep_embedding (length "
    "self.embedding_channels) and then through self.time_mlp; the blocks take what comes out.",
    "non-singleton dimension 1": "Two vectors of different length meet. cond is as long as what "
    "time_mlp gives out, four times the embedding: it is added after the MLP.",
    "Sizes of tensors must match": "Two pictures of different size meet in torch.cat: the skips "
    "are consumed last in, first out, and a resize on the way down is a skip too. On both ways the "
    "resize comes after its stage's blocks.",
    "weight of size": CHANNELS,
    "number of channels": CHANNELS,
    "to have": CHANNELS,
    'required "forward"': "A Stage only holds layers and does nothing by itself: go through its "
    ".blocks and .attentions, self.mid's too.",
    "positional argument": "A block wants two things, block(h, emb); an attention and a resize "
    "want one, h. If the line is not in UNet.forward, mend that block first.",
    "Boolean value of Tensor": "Whether a cond was given is asked by `cond is not None`: `if cond` "
    "asks for the truth of its numbers.",
    "'NoneType' object is not callable": "stage.resize is None where a resolution is not followed "
    "by a resize: ask `is not None` first.",
    "": OTHER_BLOCKS,
}


class UNetParts(Parts):
    """The learner's own layers of a UNet, and the way through them."""

    def __init__(self, student, net: Handle, config: dict):
        super().__init__(net)
        self.config, self.student = config, student

    def forward(self, x: Tensor, t: Tensor, wrong: str = "", cond: Tensor | None = None) -> Tensor:
        """UNet.forward; `wrong` makes one well-known mistake."""
        levels = len(self.config["block_channels"])
        steps = torch.zeros_like(t) if wrong == "no time" else t
        steps = t[:1].expand_as(t) if wrong == "time of one" else steps
        steps = t / 1000 if wrong == "time scaled" else t + 1 if wrong == "time later" else steps
        emb = self.student.timestep_embedding(steps, self.config["block_channels"][0])
        emb = t[:, None].expand_as(emb) if wrong == "bare time" else emb
        emb = self("time_mlp", emb.to(x.dtype))
        emb = F.silu(emb) if wrong == "silu emb" else emb
        if cond is not None:
            emb = cond if wrong == "cond alone" else emb + cond
        h = self("conv_in", x)
        skips = [h]
        for level in range(levels):
            for i in range(self.config["layers_per_block"]):
                h = self._block(f"down.{level}", i, h, emb, level, wrong, skips)
                skips += [] if wrong == "skip early" else [h]
            if level < levels - 1:
                h = self(f"down.{level}.resize", h)
                skips.append(h)
        if wrong != "no mid":
            h = self("mid.blocks.0", h, emb)
            h = h if wrong in ("no attention", "no mid attention") else self("mid.attentions.0", h)
            h = h if wrong == "half mid" else self("mid.blocks.1", h, emb)
        for up, level in enumerate(reversed(range(levels))):
            for i in range(self.config["layers_per_block"] + 1):
                skip = skips[-1] if wrong == "peek" else None
                skip = skips.pop(0 if wrong == "first in" else -1) if skip is None else skip
                skip = torch.zeros_like(skip) if wrong == "no skips" else skip
                both = [skip, h] if wrong == "skip first" else [h, skip]
                both = [h, h] if wrong == "h twice" else both
                h = self._block(f"up.{up}", i, torch.cat(both, 1), emb, level, wrong, [])
            h = self(f"up.{up}.resize", h) if level else h
        return self._end(h, x, wrong)

    def _block(self, stage, i, h, emb, level, wrong, skips) -> Tensor:
        forgotten = ("no attention", f"no {stage.partition('.')[0]} attention")
        attention = self.config["attention_levels"][level] and wrong not in forgotten
        if attention and wrong == "attention first" and stage.startswith("down"):
            return self(f"{stage}.blocks.{i}", self(f"{stage}.attentions.{i}", h), emb)
        h = self(f"{stage}.blocks.{i}", h, emb)
        skips += [h] if wrong == "skip early" and stage.startswith("down") else []
        last = i == self.config["layers_per_block"] - (0 if stage.startswith("up") else 1)
        if attention and (last or wrong != "one attention"):
            h = self(f"{stage}.attentions.{i}", h)
        return h

    def _end(self, h: Tensor, x: Tensor, wrong: str) -> Tensor:
        if wrong == "silu before norm":
            return self("conv_out", self("norm_out", F.silu(h)))
        h = h if wrong in ("no norm", "conv alone") else self("norm_out", h)
        h = h if wrong in ("no silu", "conv alone") else F.silu(h)
        h = self("conv_out", h)
        return x - h if wrong == "minus" else x + h if wrong == "plus" else h


UNET_MISTAKES = {
    "skip first": "The concatenation is the other way round: h first, then the skip "
    "(saved weights expect that order).",
    "first in": "The skips are consumed in the wrong order: the last one kept is the first to be "
    "used, so that sizes and details match.",
    "peek": "Every block gets the same skip: `skips[-1]` leaves it on the stack, `skips.pop()` "
    "takes it off.",
    "no skips": "The skips carry nothing.",
    "h twice": "h is concatenated with itself: the second half must be a skip from the way down.",
    "no silu": "The SiLU before conv_out is missing: conv_out(silu(norm_out(h))).",
    "no norm": "norm_out is not used: conv_out(silu(norm_out(h))).",
    "conv alone": "norm_out and SiLU are missing at the end: conv_out(silu(norm_out(h))).",
    "silu before norm": "SiLU comes before norm_out, and belongs after it: "
    "conv_out(silu(norm_out(h))).",
    "no down attention": "The attentions of the way down are never called.",
    "no up attention": "The attentions of the way up are never called.",
    "no time": "The time is not used: every t gives the same answer.",
    "time of one": "Every picture got the time of the first one: embed the whole (B,) tensor t.",
    "time scaled": "t is divided by 1000 first; timestep_embedding takes t as it is.",
    "bare time": "time_mlp reads t itself: it must read timestep_embedding(t, "
    "self.embedding_channels).",
    "time later": "1 is added to t; timestep_embedding takes t as it is, counted from 0.",
    "silu emb": "There is a SiLU on the time vector after time_mlp: each ResBlock does that "
    "already.",
    "no mid": "The middle stage is left out.",
    "half mid": "The middle stage has two blocks; the second is left out.",
    "no mid attention": "The attention of the middle stage is left out.",
    "no attention": "The attentions are never called.",
    "one attention": "Attention runs once a stage; it comes after every block.",
    "skip early": "The skip is kept before the attention has run; keep what comes out of it.",
    "attention first": "Attention runs before the block; it comes after it.",
    "plus": "x_t is added at the end: the network should answer with the noise alone.",
    "minus": "The noise is subtracted from x_t at the end: the network should answer with the "
    "noise alone.",
}
ONE_LEVEL = {
    "in_channels": 2,
    "out_channels": 3,
    "block_channels": (8,),
    "layers_per_block": 2,
    "attention_levels": (True,),
    "head_channels": 4,
    "norm_groups": 2,
}
TWO_LEVELS = {
    "in_channels": 1,
    "out_channels": 1,
    "block_channels": (4, 8),
    "layers_per_block": 1,
    "attention_levels": (True, False),
    "head_channels": 4,
    "norm_groups": 2,
}


def new_unet(student, rng, config: dict, dtype: torch.dtype = torch.float32) -> Handle:
    """The learner's UNet with random weights everywhere, whatever its blocks are like."""
    net = ask(lambda: student.new("UNet", **config), {"": OTHER_BLOCKS})
    if dtype is torch.float64:
        net.call("double")
    net.eval()
    net.load_state(shuffled(net.state(), rng))
    return net


def blocks_keep_their_inputs(student, net: Handle, rng, config: dict, dtype=torch.float32) -> bool:
    """Whether the learner's layers leave alone what they are given: else they spoil the skips."""
    first, last = config["block_channels"][0], config["block_channels"][-1]
    x, emb = normal(rng, 2, last, 4, 4, dtype=dtype), normal(rng, 2, 4 * first, dtype=dtype)
    calls = {"mid.blocks.0": (x, emb), "mid.attentions.0": (x,)}
    if len(config["block_channels"]) > 1:
        calls["down.0.resize"] = (normal(rng, 2, first, 4, 4, dtype=dtype),)
    for name, args in calls.items():
        layer, held = net.call("get_submodule", name), [student.hold(each) for each in args]
        ran = runs(lambda layer=layer, held=held: layer(*held))
        kept = (torch.equal(far.call("clone"), a) for far, a in zip(held, args, strict=True))
        if ran and not all(kept):
            return False
    return True


def check_wiring(student, rng, config: dict, shape: tuple, dtype=torch.float32) -> None:
    net = new_unet(student, rng, config, dtype)
    if not blocks_keep_their_inputs(student, net, rng, config, dtype):
        return _same_with_our_blocks(student, rng, config)
    parts = UNetParts(student, net, config)
    x = normal(rng, shape[0], config["in_channels"], *shape[1:], dtype=dtype)
    t = torch.randperm(1000, generator=rng)[: shape[0]]
    expected = ask(lambda: parts.forward(x, t), {"": BLOCK_STOPS})
    expect_close(
        ask(lambda: net(x, t), UNET_HINTS),
        expected,
        "the answer of the UNet (compared with your own blocks called in the right order)",
        causes={
            sentence: (lambda wrong=wrong: parts.forward(x, t, wrong))
            for wrong, sentence in UNET_MISTAKES.items()
        },
        otherwise="The order in UNet.forward differs: conv_in, keep, down (block, attention, keep; "
        "resize, keep), mid, up (concatenate, block, attention; resize), then norm_out, SiLU, "
        "conv_out. As many skips are kept as are used: none is left at the end.",
        **CLOSE,
    )


@exercise("UNet.forward")
def test_wiring_at_one_resolution(student, rng):
    check_wiring(student, rng, ONE_LEVEL, (3, 5, 3))


@exercise("UNet.forward")
def test_wiring_at_two_resolutions(student, rng):
    check_wiring(student, rng, TWO_LEVELS, (3, 6, 4), torch.float64)


@exercise("UNet.forward")
def test_wiring_at_three_resolutions(student, rng):
    three = dict(TWO_LEVELS, block_channels=(4, 4, 8), attention_levels=(False, True, False))
    check_wiring(student, rng, three, (2, 8, 4))


@exercise("UNet.forward")
def test_cond_is_added_to_the_time(student, rng):
    net = new_unet(student, rng, TWO_LEVELS)
    if not blocks_keep_their_inputs(student, net, rng, TWO_LEVELS):
        return
    parts = UNetParts(student, net, TWO_LEVELS)
    x, t, cond = normal(rng, 3, 1, 4, 6), torch.tensor([2, 400, 998]), normal(rng, 3, 16)
    hints = {
        "positional argument": "The signature has a third argument: cond=None.",
        "mat1 and mat2 shapes": "cond is added to what time_mlp gives, which is as long as cond: "
        "not concatenated, and not sent through time_mlp.",
    }
    hints |= {word: hint for word, hint in UNET_HINTS.items() if word not in hints}
    for each in (cond, -cond):
        check_cond(net, parts, (x, t, each), hints)


def check_cond(net: Handle, parts: UNetParts, args: tuple, hints: dict[str, str]) -> None:
    x, t, cond = args
    expect_close(
        ask(lambda: net(x, t, cond), hints),
        ask(lambda: parts.forward(x, t, cond=cond), {"": BLOCK_STOPS}),
        "the answer of the UNet when cond is given",
        causes={
            "cond is not used: what is given is added to the time vector.": (
                lambda: parts.forward(x, t)
            ),
            "cond takes the time's place: it is added to the time vector.": (
                lambda: parts.forward(x, t, "cond alone", cond)
            ),
        },
        otherwise="When cond is not None, emb = emb + cond, after time_mlp and before the blocks.",
        **CLOSE,
    )


@exercise("UNet.forward")
def test_unet_leaves_its_inputs_alone(student, rng):
    net = new_unet(student, rng, TWO_LEVELS)
    x, t, cond = normal(rng, 2, 1, 4, 4), torch.tensor([11, 605]), normal(rng, 2, 16)
    unchanged(student, lambda held: ask(lambda: net(held, t, cond), UNET_HINTS), x, "x_t")
    unchanged(student, lambda held: ask(lambda: net(x, t, held), UNET_HINTS), cond, "cond")


@exercise("UNet.forward")
def test_the_time_reaches_every_block(student, rng):
    net = new_unet(student, rng, TWO_LEVELS)
    if not blocks_keep_their_inputs(student, net, rng, TWO_LEVELS):
        return
    x, t = normal(rng, 2, 1, 4, 4), torch.tensor([11, 605])
    gradients = ask(lambda: net.grad(x, t), UNET_HINTS)
    gradients["params"] = {
        name: gradient for name, gradient in gradients["params"].items() if "to_k.bias" not in name
    }
    every_parameter_learns(gradients, "the UNet (or in a block that it runs)")


@exercise("UNet.forward")
def test_same_as_diffusers(student, rng):
    """With blocks of ours where the learner's are wrong: their mistakes are told elsewhere."""
    config = dict(TWO_LEVELS, attention_levels=(False, True), layers_per_block=2)
    net = new_unet(student, rng, config)
    right = _blocks_are_right(student, net, shuffle_weights(unet.UNet(**config), rng), rng)
    if not right or not blocks_keep_their_inputs(student, net, rng, config):
        return _same_with_our_blocks(student, rng, config)
    theirs = UNet2DModel(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(4, 8),
        layers_per_block=2,
        attention_head_dim=4,
        norm_num_groups=2,
    )
    shuffle_weights(theirs, rng)
    load(net, convert.unet2d_state_dict(theirs.state_dict()))
    x, t = normal(rng, 3, 1, 8, 6), torch.randperm(1000, generator=rng)[:3]
    expect_close(
        net(x, t),
        theirs(x, t).sample.detach(),
        "the answer of the UNet with the weights of diffusers' UNet2DModel",
        otherwise="Every block is right by itself, so it is the wiring of UNet.forward.",
        rtol=1e-4,
        atol=5e-5,
    )


@exercise("UNet.forward")
def test_every_input_gets_its_gradient(student, rng):
    """Where the learner's blocks pass gradients on; else their own exercises say so."""
    config = dict(TWO_LEVELS, attention_levels=(False, True), layers_per_block=2)
    net, ours = new_unet(student, rng, config), shuffle_weights(unet.UNet(**config), rng)
    if not _blocks_are_right(student, net, ours, rng) or not _blocks_pass_gradients(net, ours, rng):
        return
    args = normal(rng, 2, 1, 8, 4), torch.tensor([7, 420]), normal(rng, 2, 16)
    gradients = ask(lambda: net.grad(*args), UNET_HINTS)
    expect_input_gradients(gradients, ours, args, ("x_t", "t", "cond"))


def _same_with_our_blocks(student, rng, config: dict) -> None:
    student.lend("timestep_embedding", unet_blocks.timestep_embedding)
    net, ours = new_unet(student, rng, config), shuffle_weights(unet.UNet(**config), rng)
    layers = re.compile(
        r"time_mlp|conv_in|norm_out|conv_out|.*\.(blocks|attentions)\.\d|.*\.resize"
    )
    names = [name for name, _ in ours.named_modules() if layers.fullmatch(name)]
    t = torch.randperm(1000, generator=rng)[:3]
    check_with_ours(net, ours, names, normal(rng, 3, config["in_channels"], 8, 4), t)


def _blocks_are_right(student, net: Handle, reference: unet.UNet, rng) -> bool:
    state = reference.state_dict()
    if {k: v.shape for k, v in net.state().items()} != {k: v.shape for k, v in state.items()}:
        return False
    net.load_state(state)
    t = torch.tensor([3, 500])
    right = matches(student.timestep_embedding(t, 8), embedding(t, 8), rtol=0, atol=1e-3)
    for name, args in _block_calls(rng).items():
        actual = net.call("get_submodule", name)(*args)
        right = right and matches(actual, reference.get_submodule(name)(*args).detach(), **CLOSE)
    return right


def _blocks_pass_gradients(net: Handle, reference: unet.UNet, rng) -> bool:
    for name, args in _block_calls(rng).items():
        layer, ours = net.call("get_submodule", name), reference.get_submodule(name)
        try:
            expect_input_gradients(layer.grad(*args), ours, args, ("x", "emb")[: len(args)])
        except (RemoteError, Teaching):
            return False
    return True


def _block_calls(rng) -> dict[str, tuple]:
    """One layer of each kind in a UNet with the channels 4 and 8, and what to call it with."""
    return {
        "down.1.blocks.0": (normal(rng, 2, 4, 4, 6), normal(rng, 2, 16)),
        "mid.blocks.0": (normal(rng, 2, 8, 4, 6), normal(rng, 2, 16)),
        "down.1.attentions.0": (normal(rng, 2, 8, 4, 6),),
        "down.0.resize": (normal(rng, 2, 4, 4, 6),),
        "up.0.resize": (normal(rng, 2, 8, 4, 6),),
    }
