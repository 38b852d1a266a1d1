"""Hidden tests of lesson 8: the autoencoder and its latents.

Layers are compared with diffusers' own that hold the same weights, the divergence with
torch.distributions. `Encoder.forward` and `vae_loss` are judged with our PaddedDownsample and our
kl_divergence in the place of the learner's: a mistake there costs no other exercise its points.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import Decoder as TheirDecoder
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as torch_kl

from autograder.remote import Handle
from autograder.testing import exercise, expect, expect_close, fail, matches
from autograder.testing_modules import (
    UNLEARNT,
    Parts,
    ask,
    every_parameter_learns,
    expect_gradients,
    load,
    normal,
    shuffle_weights,
    unchanged,
)
from autograder.testing_modules import shuffled as random_weights
from t2i import latents, vae
from t2i.pretrained.vae_files import our_name

CLOSE = {"rtol": 1e-4, "atol": 2e-5}


def causes_of(wrong_ways: dict[str, str], make: Callable[[str], Tensor]) -> dict[str, Callable]:
    """The sentence of each mistake, with the values that it gives.

    Two mistakes may share a sentence; spaces behind it, which no message keeps, tell them apart.
    """
    causes: dict[str, Callable] = {}
    for way, sentence in wrong_ways.items():
        while sentence in causes:
            sentence += " "
        causes[sentence] = lambda way=way: make(way)
    return causes


# --- PaddedDownsample -----------------------------------------------------------------------------

ONE_CONV = "It holds one layer, self.conv: 3×3, stride 2, from channels to channels, with a bias."
BORDERS = {
    "all round": "There is a border on all sides, as in lesson 2. Here it stands below and to the "
    "right only: the convolution gets padding 0, and F.pad does the rest.",
    "left above": "The border stands on the left and above; it belongs on the right and below. "
    "F.pad takes (left, right, top, bottom).",
    "right only": "There is a column of zeros on the right, but no row below: F.pad takes (left, "
    "right, top, bottom).",
    "below only": "There is a row of zeros below, but no column on the right: F.pad takes (left, "
    "right, top, bottom), the width first.",
    "both ways": "There is a border on all sides: F.pad got four ones, or pads besides the "
    "convolution's own padding.",
    "repeated": "The border repeats the edge's pixels; it is made of zeros.",
    "mirrored": "The border mirrors the picture; it is made of zeros.",
    "ones": "The border is not made of zeros.",
    "none": "There is no border: each side loses a pixel. F.pad puts zeros below and right.",
}


def shrink(s: dict, x: Tensor, way: str = "") -> Tensor:
    """PaddedDownsample from its weights, with another border."""
    borders = {
        "all round": (1, 1, 1, 1),
        "both ways": (1, 2, 1, 2),
        "left above": (1, 0, 1, 0),
        "right only": (0, 1, 0, 0),
        "below only": (0, 0, 0, 1),
        "none": (0, 0, 0, 0),
    }
    mode = {"repeated": "replicate", "mirrored": "reflect"}.get(way, "constant")
    value = {"value": 1.0} if way == "ones" else {}
    padded = F.pad(x, borders.get(way, (0, 1, 0, 1)), mode=mode, **value)
    return F.conv2d(padded, s["conv.weight"], s["conv.bias"], stride=2)


def check_downsample(student, rng, shape: tuple, dtype: torch.dtype = torch.float32) -> None:
    theirs = shuffle_weights(Downsample2D(shape[1], use_conv=True, padding=0), rng).to(dtype)
    layer = ask(lambda: student.new("PaddedDownsample", shape[1]), {"": ONE_CONV})
    if dtype is torch.float64:
        layer.call("double")
    state = {f"conv.{name}": p for name, p in theirs.conv.state_dict().items()}
    load(layer, state, ONE_CONV)
    x = 2 + normal(rng, *shape, dtype=dtype)
    expect_close(
        ask(lambda: layer(x), {"": "Pad with F.pad(x, …), then convolve."}),
        theirs(x).detach(),
        "the halved picture",
        causes=causes_of(BORDERS, lambda way: shrink(state, x, way)),
        otherwise="Put one column of zeros on the right and one row below, then convolve with "
        "stride 2 and no padding.",
        **CLOSE,
    )
    unchanged(student, layer, x, "x")


@exercise("PaddedDownsample")
def test_downsample_of_odd_sizes(student, rng):
    check_downsample(student, rng, (2, 3, 7, 5), torch.float64)


@exercise("PaddedDownsample")
def test_downsample_of_even_sizes(student, rng):
    check_downsample(student, rng, (3, 4, 6, 10))


@exercise("PaddedDownsample")
def test_downsample_learns(student, rng):
    layer = student.new("PaddedDownsample", 3)
    every_parameter_learns(layer.grad(normal(rng, 2, 3, 6, 4)), "PaddedDownsample")


# --- Encoder.forward ------------------------------------------------------------------------------

ENCODER_HINTS = {
    "does not require grad": f"The result has no gradient at all. {UNLEARNT}",
    "in-place": "Do not change x_0 in place: it belongs to the caller.",
    "Expected weight to be a vector": "A layer got another number of channels than it is made for. "
    "The order is conv_in, all levels of self.down, and only then mid, norm_out and conv_out.",
    "": "Go through conv_in, all levels of self.down, mid, norm_out and conv_out.",
}
ENCODER_MISTAKES = {
    "no mid": "The middle is left out: self.mid comes after the levels.",
    "mid first": "The middle comes first; in the encoder it comes last, at the smallest size.",
    "no silu": "The activation before conv_out is missing: norm, SiLU, convolution.",
    "no norm": "norm_out is not used: conv_out reads silu(norm_out(h)).",
    "neither": "Norm and activation before conv_out are both missing: conv_out(silu(norm_out(h))).",
    "silu first": "The activation comes before the norm: it is silu(norm(h)).",
    "relu": "The activation is ReLU where the network has SiLU.",
    "silu in": "There is an activation after conv_in; the levels begin with a norm by themselves.",
    "silu last": "There is an activation after conv_out; means and log-variances may be negative.",
    "silu between": "There is an activation between the levels; their blocks bring their own.",
    "silu before mid": "There is an activation before the middle, which begins with a norm.",
    "one level": "Not every level is run: go through all of self.down.",
    "skip": "Something is added that should not be: there are no skips round the levels.",
    "twice mid": "The middle runs twice; once is enough.",
    "halves": "Means and log-variances have changed places: return what conv_out gives.",
    "means only": "Only half of the channels come back: all 2 · latent_channels do.",
    "clamped": "What comes out is clamped; that is done later, and to the log-variances alone.",
}


def encode(part: Parts, x: Tensor, levels: int, wrong: str = "") -> Tensor:
    """Encoder.forward from the learner's parts; `wrong` makes one well-known mistake."""
    h = part("conv_in", x)
    h = F.silu(h) if wrong == "silu in" else h
    h = part("mid", h) if wrong == "mid first" else h
    for level in range(1 if wrong == "one level" else levels):
        before, h = h, part(f"down.{level}", h)
        h = F.silu(h) if wrong == "silu between" else h
        h = h + before if wrong == "skip" else h
    h = F.silu(h) if wrong == "silu before mid" else h
    for _ in range({"no mid": 0, "mid first": 0, "twice mid": 2}.get(wrong, 1)):
        h = part("mid", h)
    if wrong == "silu first":
        h = part("norm_out", F.silu(h))
    else:
        h = h if wrong in ("no norm", "neither") else part("norm_out", h)
        h = h if wrong in ("no silu", "neither") else F.relu(h) if wrong == "relu" else F.silu(h)
    out = part("conv_out", h)
    mean, logvar = out.chunk(2, dim=1)
    late = {"silu last": F.silu(out), "clamped": out.clamp(-30, 20), "means only": mean}
    return torch.cat([logvar, mean], dim=1) if wrong == "halves" else late.get(wrong, out)


def an_encoder(student, rng, resize: nn.Module | None = None, **sizes) -> Handle:
    """A learner's encoder with random weights everywhere, and our PaddedDownsample in it.

    Args:
        resize: what stands at the end of each level but the last; None: a new PaddedDownsample.
        sizes: the encoder's.
    """
    student.lend("PaddedDownsample", lambda width: resize or vae.PaddedDownsample(width))
    return with_random_weights(student, rng, **sizes)


def with_random_weights(student, rng, **sizes) -> Handle:
    module = ask(lambda: student.new("Encoder", **sizes), ENCODER_HINTS)
    module.eval()
    module.load_state(random_weights(module.state(), rng))
    return module


@exercise("Encoder.forward")
def test_encoder_runs_its_parts_in_order(student, rng):
    for widths, layers, shape in (((4, 8, 4), 1, (3, 3, 8, 12)), ((6,), 2, (1, 3, 5, 3))):
        sizes = {"block_channels": widths, "layers_per_block": layers, "norm_groups": 2}
        module = an_encoder(student, rng, in_channels=3, latent_channels=2, **sizes)
        part, x = Parts(module), normal(rng, *shape)
        actual = ask(lambda module=module, x=x: module(x), ENCODER_HINTS)
        expect(
            not isinstance(actual, tuple | list),
            "Means and log-variances come back as two; leave conv_out's channels together: whoever "
            "calls the encoder parts them.",
        )
        levels = len(widths)
        expect_close(
            actual,
            encode(part, x, levels),
            "what conv_out gives",
            causes=causes_of(
                ENCODER_MISTAKES,
                lambda way, part=part, x=x, levels=levels: encode(part, x, levels, way),
            ),
            otherwise="Compare with conv_in, the levels, mid, then conv_out(silu(norm_out(h))).",
            **CLOSE,
        )


@exercise("Encoder.forward")
def test_encoder_equals_diffusers(student, rng):
    sizes = {"block_channels": (4, 8), "layers_per_block": 1, "norm_groups": 2}
    reference = shuffle_weights(vae.Encoder(3, 2, **sizes), rng)
    resize = reference.down[0].resize
    module = an_encoder(student, rng, resize, in_channels=3, latent_channels=2, **sizes)
    load(module, {k: p for k, p in reference.state_dict().items() if ".resize." not in k})
    x = normal(rng, 3, 3, 6, 10)
    actual = ask(lambda: module(x), ENCODER_HINTS)
    expect_close(actual, reference(x).detach(), "what conv_out gives", **CLOSE)


@exercise("Encoder.forward")
def test_encoder_learns_and_leaves_its_input(student, rng):
    widths = (4, 4) if lets_gradients_through(student, rng) else (4,)
    sizes = {"block_channels": widths, "layers_per_block": 1, "norm_groups": 2}
    module = with_random_weights(student, rng, in_channels=2, latent_channels=1, **sizes)
    x = normal(rng, 2, 2, 4, 6)
    gradients = ask(lambda: module.grad(x), ENCODER_HINTS)
    every_parameter_learns(gradients, "the encoder")
    unchanged(student, module, x, "x_0")


def lets_gradients_through(student, rng) -> bool:
    """Whether the learner's PaddedDownsample, which has an exercise of its own, can learn."""
    try:
        layer = student.new("PaddedDownsample", 4)
        gradients = layer.grad(normal(rng, 2, 4, 4, 6))
        every_parameter_learns({"params": {"x": gradients["inputs"][0], **gradients["params"]}}, "")
    except Exception:
        return False
    return True


# --- Decoder.__init__ -----------------------------------------------------------------------------

DECODER_ADVICE = (
    "Turn the encoder round: the channels in reverse, the middle first, layers_per_block + 1 "
    "blocks a level, and an Upsample at the end of each level but the last."
)
WIDE = {"block_channels": (8, 4, 12), "layers_per_block": 2, "norm_groups": 2}


def their_decoder(rng, channels: int, latent: int, sizes: dict) -> TheirDecoder:
    """diffusers' decoder with random weights everywhere."""
    widths = sizes["block_channels"]
    theirs = TheirDecoder(
        in_channels=latent,
        out_channels=channels,
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=sizes["layers_per_block"],
        norm_num_groups=sizes["norm_groups"],
    )
    return shuffle_weights(theirs, rng)


def in_our_names(theirs: TheirDecoder) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in theirs.state_dict().items():
        module, _, parameter = name.rpartition(".")
        renamed[f"{our_name(f'decoder.{module}').removeprefix('decoder.')}.{parameter}"] = tensor
    return renamed


def plan_mistakes(have: dict[str, tuple], sizes: dict) -> str:
    """What the shapes of the learner's weights say about the plan."""
    widths, layers = sizes["block_channels"], sizes["layers_per_block"]
    first = have.get("conv_in.weight")
    levels = {int(name.split(".")[1]) for name in have if name.startswith("up.")}
    blocks = {int(name.split(".")[3]) for name in have if name.startswith("up.0.blocks.")}
    resized = {int(name.split(".")[1]) for name in have if ".resize." in name}
    if first is not None and first[0] == widths[0] != widths[-1]:
        return "The channels are not turned round: the decoder starts with the coarsest level's."
    level = have.get("up.0.blocks.0.conv1.weight")
    if level is not None and level[0] == widths[0] != widths[-1]:
        return "The levels are not turned round: the first one should be the coarsest."
    if levels and len(levels) != len(widths):
        return f"There are {len(levels)} levels for {len(widths)} block_channels: one each."
    if blocks and len(blocks) == layers:
        return "Each level has layers_per_block blocks; the decoder has one more, + 1."
    if len(widths) - 1 in resized and 0 not in resized:
        return "The first level has no Upsample and the last has one; it is the other way round."
    if len(widths) - 1 in resized:
        return "The last level has an Upsample too: there all pixels are there already, so None."
    last = (have.get(f"up.{len(widths) - 1}.blocks.0.norm1.weight") or (0,))[0]
    if last == widths[-1] and blocks:
        return "Each level takes in what the one before gave out: channels = width after each."
    if have.get("norm_out.weight") == (widths[-1],):
        return "norm_out has the coarsest level's channels; what comes last is the finest's."
    if first is not None and first[2:] != (3, 3):
        return f"conv_in is {first[2]}×{first[3]}, and should be 3×3 with padding 1."
    if levels and not resized:
        return "No level has an Upsample: every one but the last ends with Upsample(width)."
    return ""


@exercise("Decoder.__init__")
def test_decoder_has_the_right_parts(student, rng):
    state = in_our_names(their_decoder(rng, 3, 2, WIDE))
    module = a_decoder(student, 3, 2, WIDE)
    have = {name: tuple(p.shape) for name, p in module.state().items()}
    wrong = plan_mistakes(have, WIDE)
    if wrong and have != {name: tuple(p.shape) for name, p in state.items()}:
        fail(wrong)
    if not any(name.startswith("up.") for name in have):
        fail("self.up is a plain list, or missing: a module finds layers in an nn.ModuleList only.")
    load(module, state, DECODER_ADVICE, other="other channels or another kernel size")


def a_decoder(student, channels: int, latent: int, sizes: dict) -> Handle:
    hints = {
        "super": "",
        "divisible": "A norm's channels must be multiples of norm_groups: hand norm_groups on to "
        "Middle, Level and GroupNorm.",
        "object is not": "block_channels may be a tuple: list(reversed(block_channels)).",
        "": DECODER_ADVICE,
    }
    module = ask(lambda: student.new("Decoder", channels, latent, **sizes), hints)
    module.eval()
    return module


def check_decoder(student, rng, channels, latent, sizes, shape, flat: bool = False) -> None:
    theirs = their_decoder(rng, channels, latent, sizes)
    module = load(
        a_decoder(student, channels, latent, sizes),
        in_our_names(theirs),
        f"{DECODER_ADVICE} out_channels and latent_channels are arguments.",
        other="other channels or another kernel size",
    )
    z = (1e-3 if flat else 1.0) * normal(rng, *shape)
    if flat:  # so small that the norms' eps decides
        for p in theirs.parameters():
            p.data *= 0.05
        module.load_state(in_our_names(theirs))
    hints = {
        "attribute": "forward needs conv_in, mid, up, norm_out and conv_out.",
        "Kernel size": "Is padding=1 missing at a 3×3 convolution, or does a level shrink the "
        "picture? The decoder's levels end with Upsample.",
        "": "",
    }
    expect_close(
        ask(lambda: module(z), hints),
        theirs(z).detach(),
        "the decoded picture" if not flat else "the picture of very faint latents",
        otherwise="All weights fit, so it is a setting: the norms' groups (norm_groups) and their "
        "eps (EPS), the padding of the convolutions, or the place of an Upsample.",
        rtol=1e-3 if flat else 1e-4,
        atol=1e-6 if flat else 2e-5,
    )


@exercise("Decoder.__init__")
def test_decoder_equals_diffusers(student, rng):
    check_decoder(student, rng, 3, 2, WIDE, (3, 2, 2, 3))
    one = {"block_channels": (6,), "layers_per_block": 1, "norm_groups": 3}
    check_decoder(student, rng, 1, 5, one, (2, 5, 3, 2))


@exercise("Decoder.__init__")
def test_decoder_of_faint_latents(student, rng):
    sizes = {"block_channels": (4, 4), "layers_per_block": 1, "norm_groups": 2}
    norm = a_decoder(student, 2, 2, sizes).get("norm_out")
    if isinstance(norm, Handle) and norm.get("eps") == 1e-5:  # what a norm has that is not told
        fail("norm_out has eps = 1e-5, as every norm that is not told otherwise; here it is EPS.")
    check_decoder(student, rng, 2, 2, sizes, (1, 2, 2, 2), flat=True)


@exercise("Decoder.__init__")
def test_decoder_defaults_are_stable_diffusions(student, rng):
    given = [4, 6]
    sizes = {"block_channels": student.hold(given), "layers_per_block": 1, "norm_groups": 2}
    module = ask(lambda: student.new("Decoder", **sizes), {"": DECODER_ADVICE})
    gradients = module.grad(normal(rng, 1, 4, 2, 2))
    every_parameter_learns(gradients, "the decoder")
    expect(gradients["output"].shape == (1, 3, 4, 4), DECODER_ADVICE)
    now = sizes["block_channels"].call("copy")
    expect(now == given, "block_channels must not be reversed in place.")


# --- reparameterize -------------------------------------------------------------------------------


def draw(mean: Tensor, logvar: Tensor, noise: Tensor, way: str = "") -> Tensor:
    half = torch.exp(0.5 * logvar)
    return {
        "variance": mean + logvar.exp() * noise,
        "logvar": mean + logvar * noise,
        "half logvar": mean + 0.5 * logvar * noise,
        "squared": mean + torch.exp(2 * logvar) * noise,
        "minus": mean - half * noise,
        "inverse": mean + torch.exp(-0.5 * logvar) * noise,
        "no noise": mean,
        "no mean": half * noise,
        "times mean": mean * half * noise,
        "all times": (mean + noise) * half,
        "one draw": mean + half * noise[:1],
        "root of logvar": mean + logvar.abs().sqrt() * noise,
        "root of a negative": mean + logvar.sqrt() * noise,  # NaN where logvar is negative
        "sum times": (mean + half) * noise,
    }.get(way, mean + half * noise)


DRAW_MISTAKES = {
    "variance": "The noise is multiplied by the variance; it is the standard deviation, its square "
    "root: exp(logvar / 2).",
    "logvar": "The noise is multiplied by logvar itself: take exp(logvar / 2).",
    "half logvar": "The exponential is missing: the standard deviation is exp(logvar / 2).",
    "squared": "The exponent is doubled, and should be halved: exp(logvar / 2).",
    "minus": "The noise is taken away; it is added. (The cloud is the same, but the same noise "
    "should give the same draw as everybody's.)",
    "inverse": "The noise is divided by the standard deviation; it is multiplied by it.",
    "no noise": "Only the mean comes back: the noise is missing.",
    "no mean": "The mean is missing: the cloud lies round 0.",
    "times mean": "The mean is multiplied in; it is added.",
    "all times": "The mean is multiplied by the standard deviation too; only the noise is.",
    "one draw": "Every picture got the noise of the first one.",
    "root of logvar": "The square root is taken of logvar; the variance is exp(logvar).",
    "sum times": "The mean is multiplied by the noise too; only the standard deviation is.",
    "root of a negative": "The square root is taken of logvar, which may be negative: NaN. The "
    "variance is exp(logvar).",
}


@exercise("reparameterize")
def test_draws_use_the_given_noise_and_leave_it(student, rng):
    mean, logvar, noise = (normal(rng, 3, 2, 2, 2) for _ in range(3))
    first, second = (student.reparameterize(mean, logvar, noise) for _ in range(2))
    expect(
        not isinstance(first, Tensor) or not isinstance(second, Tensor) or matches(first, second),
        "The same noise gave two different draws: use the noise that comes in, and draw none.",
    )
    expect_close(
        first,
        mean + (logvar / 2).exp() * noise,
        "the draw",
        causes=causes_of(DRAW_MISTAKES, lambda way: draw(mean, logvar, noise, way)),
        otherwise="Compare with mean + exp(logvar / 2) · noise.",
    )
    unchanged(student, lambda held: student.reparameterize(held, logvar, noise), mean, "mean")
    unchanged(student, lambda held: student.reparameterize(mean, logvar, held), noise, "noise")
    unchanged(student, lambda held: student.reparameterize(mean, held, noise), logvar, "logvar")


@exercise("reparameterize")
def test_draws(student, rng):
    for shape, dtype in (((3, 4, 2, 5), torch.float32), ((5, 3), torch.float64)):
        mean, logvar, noise = (normal(rng, *shape, dtype=dtype) for _ in range(3))
        logvar = (6 * logvar - 1).clamp(-25, 15)
        posterior = DiagonalGaussianDistribution(torch.cat([mean, logvar], dim=1))
        expect_close(
            student.reparameterize(mean, logvar, noise),
            posterior.mean + posterior.std * noise,
            "the draw",
            causes=causes_of(
                DRAW_MISTAKES,
                lambda way, m=mean, v=logvar, n=noise: draw(m, v, n, way),
            ),
            otherwise="Compare with mean + exp(logvar / 2) · noise. The draw has mean's dtype.",
            check_dtype=True,
        )


@exercise("reparameterize")
def test_draws_carry_gradients(student, rng):
    mean, logvar, noise = (normal(rng, 3, 4) for _ in range(3))
    expect_gradients(
        student,
        "reparameterize",
        {"mean": mean, "logvar": logvar, "noise": noise},
        {"mean": torch.ones(3, 4), "logvar": 0.5 * (0.5 * logvar).exp() * noise},
        "That a slope reaches mean and logvar is the whole point of the trick.",
    )


# --- kl_divergence --------------------------------------------------------------------------------


def nats(mean: Tensor, logvar: Tensor, way: str = "") -> Tensor:
    variance = logvar.exp()
    terms = {
        "no one": mean**2 + variance - logvar,
        "no logvar": mean**2 + variance - 1,
        "no variance": mean**2 - 1 - logvar,
        "no mean": variance - 1 - logvar,
        "mean unsquared": mean + variance - 1 - logvar,
        "plus logvar": mean**2 + variance - 1 + logvar,
        "std": mean**2 + (0.5 * logvar).exp() - 1 - logvar,
        "log std": mean**2 + variance - 1 - 0.5 * logvar,
        "std twice": mean**2 + (0.5 * logvar).exp() - 1 - 0.5 * logvar,
        "variance squared": mean**2 + variance**2 - 1 - logvar,
        "logvar as variance": mean**2 + logvar - 1 - logvar.log(),  # nothing but NaN
        "minus": -(mean**2 + variance - 1 - logvar),
        "turned": (1 + mean**2) / variance - 1 + logvar,
        "plus one": mean**2 + variance + 1 - logvar,
    }.get(way, mean**2 + variance - 1 - logvar)
    if way == "each":
        return 0.5 * terms
    if way == "no half":
        return terms.flatten(1).sum(1)
    if way == "mean of values":
        return 0.5 * terms.flatten(1).mean(1)
    if way == "one number":
        return 0.5 * terms.sum()
    if way == "mean of pictures":
        return 0.5 * terms.flatten(1).sum(1).mean()
    if way == "mean of all":
        return 0.5 * terms.mean()
    if way == "channels only":
        return 0.5 * terms.sum(1)
    if way == "over the batch":
        return 0.5 * terms.sum(0)
    return 0.5 * terms.flatten(1).sum(1)


KL_MISTAKES = {
    "no half": "The half in front is missing: everything is twice too large.",
    "mean of values": "The mean over the latent values is taken; it is their sum: a picture's "
    "message is as long as all its parts together.",
    "one number": "All pictures are added up; each has a number of its own, the result is (B,).",
    "mean of pictures": "The mean over the pictures is taken; each has a number of its own, (B,).",
    "mean of all": "The mean over everything is taken: sum over the latent values of each picture, "
    "and keep the pictures apart.",
    "channels only": "Only the channels are added up; all latent values of a picture are.",
    "over the batch": "The sum runs over the pictures; it runs over everything else.",
    "each": "The sum over the latent values is missing.",
    "no one": "The −1 is missing: a standard Gaussian must cost nothing.",
    "plus one": "The 1 is added; it is taken away, so that a standard Gaussian costs nothing.",
    "no logvar": "The logarithm of the variance is missing: without it, narrow clouds are free.",
    "no variance": "The variance itself is missing: exp(logvar).",
    "no mean": "The mean is missing: its square is added.",
    "mean unsquared": "The mean is not squared.",
    "plus logvar": "The logarithm of the variance has the wrong sign: it is taken away.",
    "std": "There is the standard deviation where the variance belongs: exp(logvar).",
    "log std": "There is the logarithm of the standard deviation (half of logvar) where that of "
    "the variance belongs.",
    "std twice": "Is your variance exp(logvar / 2)? That is the standard deviation; the variance "
    "is exp(logvar).",
    "variance squared": "The variance is squared: exp(logvar) is the variance already.",
    "logvar as variance": "Is logvar treated as the variance? It is its logarithm already; the "
    "variance is logvar.exp().",
    "minus": "The sign is wrong: a divergence is never below 0. (The papers' formula gives −KL.)",
    "turned": "This is the divergence the other way round, of the standard Gaussian from the "
    "picture's.",
}


@exercise("kl_divergence")
def test_kl_equals_torch(student, rng):
    shapes = ((3, 4, 2, 5), (2, 3, 3, 2), (5, 6), (1, 3, 2, 2))
    for shape in shapes:
        dtype = torch.float64 if shape == (2, 3, 3, 2) else torch.float32
        mean, logvar = normal(rng, *shape, dtype=dtype), normal(rng, *shape, dtype=dtype) - 1
        ours = Independent(Normal(mean, (logvar / 2).exp()), len(shape) - 1)
        zeros = torch.zeros_like(mean)
        expected = torch_kl(ours, Independent(Normal(zeros, zeros + 1), len(shape) - 1))
        hints = {
            "Dimension out of range": "Latents may have two dimensions or four: flatten(1), then "
            "sum(dim=1).",
            "": "The terms have mean's shape; sum them over all axes but the first.",
        }
        actual = ask(lambda m=mean, v=logvar: student.kl_divergence(m, v), hints)
        if shape[0] == 1 and isinstance(actual, Tensor) and actual.ndim == 0:
            fail("One picture in a batch of its own gives (1,), not (): is there a squeeze()?")
        expect_close(
            actual,
            expected,
            "the divergence of each picture",
            causes=causes_of(KL_MISTAKES, lambda way, m=mean, v=logvar: nats(m, v, way)),
            otherwise="Compare with ½ · Σ (mean² + variance − 1 − log variance), summed over all "
            "latent values of a picture.",
            rtol=1e-4,
            atol=1e-4,
        )


@exercise("kl_divergence")
def test_kl_of_narrow_clouds(student, rng):
    mean, logvar = normal(rng, 3, 2, 3, 3), -20 - 5 * torch.rand(3, 2, 3, 3, generator=rng)
    actual = student.kl_divergence(mean, logvar)
    advice = (
        "It goes wrong for very narrow clouds (logvar below −20): use logvar itself, neither "
        "clamped nor as log(exp(logvar)) nor with a small number added."
    )
    expect_close(actual, nats(mean, logvar), "the divergence", otherwise=advice)
    expect_close(
        student.kl_divergence(0 * mean, 0 * logvar),
        torch.zeros(3),
        "the divergence of the standard Gaussian from itself",
        otherwise="It must be 0.",
    )
    unchanged(student, lambda held: student.kl_divergence(held, logvar), mean, "mean")
    unchanged(student, lambda held: student.kl_divergence(mean, held), logvar, "logvar")


@exercise("kl_divergence")
def test_kl_carries_gradients(student, rng):
    check_kl_gradients(student, normal(rng, 3, 4), normal(rng, 3, 4))


def check_kl_gradients(student, mean: Tensor, logvar: Tensor) -> None:
    slopes = {"mean": mean, "logvar": (logvar.exp() - 1) / 2}
    expect_gradients(student, "kl_divergence", {"mean": mean, "logvar": logvar}, slopes)


# --- vae_loss -------------------------------------------------------------------------------------


def price(x, back, mean, logvar, weight: float, way: str = "") -> Tensor:
    wrong, kl = (x - back).square().flatten(1).sum(1), latents.kl_divergence(mean, logvar)
    numbers = x[0].numel()
    if way == "absolute":
        wrong = (x - back).abs().flatten(1).sum(1)
    if way == "no square":
        wrong = (x - back).flatten(1).sum(1)
    if way == "half":
        wrong = wrong / 2
    if way == "root":
        wrong = numbers * (x - back).square().flatten(1).mean(1).sqrt()
    if way == "kl per latent":
        return (wrong / numbers + weight * kl / mean[0].numel()).mean()
    if way == "kl whole":
        return (wrong / numbers + weight * kl).mean()
    if way == "not divided":
        return (wrong + weight * kl).mean()
    if way == "all summed":
        return (wrong + weight * kl).sum()
    if way == "pictures summed":
        return (wrong + weight * kl).sum() / numbers
    if way == "kl summed":
        return wrong.mean() / numbers + weight * kl.sum() / numbers
    if way == "divided twice":
        return (wrong + weight * kl).mean() / x.numel()
    if way == "pixels":
        return (wrong + weight * kl).mean() / x[0, 0].numel()
    if way == "as in the cell":
        return (wrong + weight * kl).mean() / 192
    if way == "latents":
        return (wrong + weight * kl).mean() / mean[0].numel()
    if way == "no kl":
        return wrong.mean() / numbers
    if way == "no weight":
        return (wrong + kl).mean() / numbers
    if way == "minus":
        return (wrong - weight * kl).mean() / numbers
    if way == "weight on both":
        return weight * (wrong + kl).mean() / numbers
    if way == "weight on error":
        return (weight * wrong + kl).mean() / numbers
    if way == "kl only":
        return weight * kl.mean() / numbers
    if way == "each":
        return (wrong + weight * kl) / numbers
    return (wrong + weight * kl).mean() / numbers


LOSS_MISTAKES = {
    "absolute": "The absolute error is taken; here it is the square, (x_0 − reconstruction)².",
    "no square": "The square is missing: errors upward and downward cancel out.",
    "half": "The squared error is halved; here it counts in full.",
    "root": "The root of the square is taken; here it is the square itself.",
    "kl per latent": "The KL is divided by the number of latent values, the error by that of "
    "colour values: then the price of a nat depends on the sizes. Divide both by C · H · W.",
    "kl whole": "Only the error is divided by C · H · W; the KL must be, too. Like this a nat is "
    "charged thousands of times over, and the posterior all but collapses: blur.",
    "not divided": "Nothing is divided: both sums go through C · H · W, x_0[0].numel().",
    "pictures summed": "The pictures are added up; take their mean.",
    "all summed": "Everything is added up, and nothing divided: take the mean over the pictures, "
    "and divide by C · H · W, x_0[0].numel().",
    "kl summed": "The KL of all pictures is added up; take the mean of both over the pictures.",
    "divided twice": "It is divided by all numbers of the batch after the mean over the pictures: "
    "that counts the batch twice. C · H · W is x_0[0].numel().",
    "pixels": "It is divided by H · W; the colours count too: C · H · W.",
    "as in the cell": "It is divided by 192, whatever the pictures' size: take x_0[0].numel().",
    "latents": "It is divided by the number of latent values; C · H · W is that of colour values, "
    "x_0[0].numel().",
    "no kl": "The KL is missing.",
    "no weight": "kl_weight is not used.",
    "minus": "The KL is taken away, and should be added: like this the network is paid for writing "
    "as much as it can.",
    "weight on both": "kl_weight multiplies the error too; it belongs to the KL alone.",
    "weight on error": "kl_weight multiplies the error; it belongs to the KL.",
    "kl only": "The error is missing.",
    "each": "Each picture has its own loss here; the mean over them is missing.",
}


def check_loss(student, rng, shape, latent, weight: float, dtype=torch.float32) -> None:
    x, back = normal(rng, *shape, dtype=dtype), normal(rng, *shape, dtype=dtype)
    mean, logvar = normal(rng, *latent, dtype=dtype), normal(rng, *latent, dtype=dtype)
    arguments = (x, back, mean, logvar)
    student.lend("kl_divergence", latents.kl_divergence)  # it has an exercise of its own
    expected = price(*arguments, weight)
    call = lambda: student.vae_loss(*arguments, weight)  # noqa: E731
    actual = ask(call, {"": "Two numbers a picture, added; then the mean over the pictures."})
    expect_close(
        actual,
        expected,
        "the loss",
        causes=causes_of(LOSS_MISTAKES, lambda way: price(*arguments, weight, way)),
        otherwise="Compare with the mean over the pictures of (Σ (x_0 − reconstruction)² + "
        "kl_weight · KL) / (C · H · W).",
        rtol=1e-4,
        atol=1e-6,
    )


@exercise("vae_loss")
def test_loss(student, rng):
    check_loss(student, rng, (5, 3, 4, 6), (5, 4, 3, 3), 7.0)
    check_loss(student, rng, (1, 1, 8, 4), (1, 2, 2, 1), 0.3, torch.float64)


@exercise("vae_loss")
def test_loss_without_kl(student, rng):
    check_loss(student, rng, (2, 3, 4, 4), (2, 4, 2, 2), 0.0)
    x, mean = normal(rng, 2, 3, 4, 4), normal(rng, 2, 4, 2, 2)
    student.lend("kl_divergence", latents.kl_divergence)
    expect_close(
        student.vae_loss(x, x, 1e4 * mean, mean, 0.0),
        torch.zeros(()),
        "the loss of right pictures, however much is written, at a price of 0",
        otherwise="Is 0 taken for a weight that was not given (kl_weight or …)?",
    )
    usual = student.vae_loss(x, x, mean, mean)
    expect_close(
        usual,
        price(x, x, mean, mean, 1e-6),
        "the loss with the usual weight",
        otherwise="kl_weight has the default 1e-6; it must be used, and left as it is.",
        rtol=1e-3,
        atol=1e-12,
    )


@exercise("vae_loss")
def test_loss_leaves_its_arguments(student, rng):
    x, back, mean = normal(rng, 2, 1, 4, 2), normal(rng, 2, 1, 4, 2), normal(rng, 2, 2, 2, 1)
    student.lend("kl_divergence", lambda mean, logvar: torch.zeros(2))  # held, they stay there
    unchanged(student, lambda held: student.vae_loss(held, back, mean, mean), x, "x_0")
    unchanged(student, lambda held: student.vae_loss(x, held, mean, mean), back, "reconstruction")
    unchanged(student, lambda held: student.vae_loss(x, back, held, mean), mean, "mean")


@exercise("vae_loss")
def test_loss_carries_gradients(student, rng):
    x, back, mean, logvar = (normal(rng, 2, 3, 4, 4) for _ in range(4))
    arguments = {"x_0": x, "reconstruction": back, "mean": mean, "logvar": logvar}
    leaves = {name: arguments[name].clone().requires_grad_() for name in list(arguments)[1:]}
    price(x, *leaves.values(), 2.0).backward()
    slopes = {name: leaf.grad for name, leaf in leaves.items()}
    if not same_kl(student, mean, logvar):  # ours lets no gradient through
        student.lend("kl_divergence", latents.kl_divergence)
        slopes = {"reconstruction": slopes["reconstruction"]}
    loss = ask(lambda: student.vae_loss(*arguments.values(), 2.0), {"": ""})
    expect(not isinstance(loss, float), f"The loss is a plain number, no tensor. {UNLEARNT}")
    expect_gradients(student, "vae_loss", arguments | {"kl_weight": 2.0}, slopes)


def same_kl(student, mean: Tensor, logvar: Tensor) -> bool:
    """Whether the learner's kl_divergence is right, with its gradients."""
    try:
        check_kl_gradients(student, mean, logvar)
        return matches(student.kl_divergence(mean, logvar), latents.kl_divergence(mean, logvar))
    except Exception:
        return False


# --- latent_scaling_factor ------------------------------------------------------------------------


def scale_of(z: Tensor, way: str = "") -> Tensor:
    ways = {
        "std": z.std(),
        "variance": 1 / z.var(),
        "root of std": 1 / z.std().sqrt(),
        "channels": 1 / z.std(dim=(0, 2, 3)),
        "channels kept": 1 / z.std(dim=(0, 2, 3), keepdim=True),
        "mean of channels": (1 / z.std(dim=(0, 2, 3))).mean(),
        "mean of channels' stds": 1 / z.std(dim=(0, 2, 3)).mean(),
        "mean of channels' variances": 1 / z.var(dim=(0, 2, 3)).mean().sqrt(),
        "within channels": 1 / z.var(dim=(0, 2, 3), correction=0).mean().sqrt(),
        "pictures": 1 / z.flatten(1).std(dim=1),
        "mean of pictures": (1 / z.flatten(1).std(dim=1)).mean(),
        "mean of stds": 1 / z.flatten(1).std(dim=1).mean(),
        "root mean square": 1 / z.square().mean().sqrt(),
        "largest": 1 / z.abs().max(),
        "mean size": 1 / z.abs().mean(),
        "range": 1 / (z.max() - z.min()),
        "places": 1 / z.std(dim=0),
        "first": 1 / z[:1].std(),
        "stable diffusion": torch.tensor(0.18215, dtype=z.dtype),
        "mean of places": 1 / z.std(dim=0).mean(),
    }
    return ways.get(way, 1 / z.std())


SCALE_MISTAKES = {
    "std": "This is the standard deviation; the factor, by which one multiplies, is 1 divided by "
    "it.",
    "variance": "This is 1 / variance; it is 1 / standard deviation: a factor acts squared on the "
    "variance.",
    "root of std": "The square root is taken once too often: std() is the root already.",
    "channels": "Each channel has a factor of its own here; it is one number for all values.",
    "channels kept": "Each channel has a factor of its own here; it is one number for all values.",
    "mean of channels": "The channels are measured one by one and averaged; take all values "
    "together: channels with different means spread further.",
    "mean of channels' stds": "The channels' spreads are averaged; take all values together: "
    "channels with different means spread further.",
    "mean of channels' variances": "The channels' variances are averaged; take all values "
    "together: channels with different means spread further.",
    "within channels": "Each channel is measured from its own mean; measure all values from one: "
    "channels with different means spread further.",
    "pictures": "Each picture has a factor of its own; it is one number for all values.",
    "mean of pictures": "The pictures are measured one by one and averaged; take all values "
    "together.",
    "mean of stds": "The pictures are measured one by one and averaged; take all values together.",
    "root mean square": "This is measured from 0; a standard deviation is measured from the mean.",
    "largest": "This brings the largest value to 1; the standard deviation should become 1.",
    "mean size": "This takes the mean size; the standard deviation should become 1.",
    "range": "This brings the range to 1; the standard deviation should become 1.",
    "places": "Each place has a factor of its own; it is one number for all values.",
    "mean of places": "Each place is measured by itself, and averaged; take all values together.",
    "first": "Only the first picture is measured; take all of them.",
    "stable diffusion": "0.18215 is Stable Diffusion's factor. Each autoencoder has its own: "
    "measure these latents.",
}


@exercise("latent_scaling_factor")
def test_factor(student, rng):
    spreads = torch.tensor([0.5, 2.0, 4.0])[None, :, None, None]
    for dtype, size in ((torch.float32, 5.0), (torch.float64, 0.1)):
        z = normal(rng, 41, 3, 4, 5, dtype=dtype) * spreads + 2 + 3 * normal(rng, 41, 1, 1, 1)
        z = z + torch.tensor([-4.0, 1.0, 6.0])[None, :, None, None]
        z = (size * z).to(dtype)
        actual = student.latent_scaling_factor(z)
        if isinstance(actual, float):
            actual = torch.tensor(actual, dtype=dtype)
        expect_close(
            actual,
            scale_of(z),
            "the scaling factor",
            causes=causes_of(SCALE_MISTAKES, lambda way, z=z: scale_of(z, way)),
            otherwise="It is 1 / the standard deviation of all latent values together.",
            rtol=5e-4,  # with n or with n − 1 below the fraction, both are right
            atol=0,
        )


@exercise("latent_scaling_factor")
def test_factor_leaves_the_latents(student, rng):
    z = 3 * normal(rng, 9, 2, 3, 2)
    unchanged(student, student.latent_scaling_factor, z, "latents")


# --- LatentSpace ----------------------------------------------------------------------------------

SPACE_HINTS = {
    "and 'Callback'": "Brackets are missing: mode is a method of the posterior, posterior.mode().",
    "is ambiguous": "Ask whether there is noise by `noise is None`.",
    "has no attribute 'clone'": "scaling_factor may be a float: torch.as_tensor(scaling_factor).",
    "super": "Call super().__init__() first: without it a module cannot hold others.",
    "cannot assign module": "Call super().__init__() first.",
    "scaling_factor": 'The factor is a buffer: self.register_buffer("scaling_factor", tensor).',
    "NoneType": "Without noise take the likeliest latents, posterior.mode().",
    "": "encode: scaling_factor · draw; decode: vae.decode(z_0 / scaling_factor).",
}


STD = 0.6


def a_space(student, factor: float, x: Tensor, seen: list | None = None) -> Handle:
    """The learner's room round an autoencoder without weights: means of 2 × 2 pixels, and back.

    It lives in the learner's process, but its parts answer from here; x is what it may encode, and
    `seen` gets what it does encode.
    """
    mean = F.avg_pool2d(x, 2)

    def answering(**parts) -> Handle:
        thing = student.hold(lambda *_: None)
        for name, part in parts.items():
            thing.call("__setattr__", name, part)
        return thing

    def encoded(pictures: Tensor | Handle) -> Handle:
        expect(
            isinstance(pictures, Handle) or torch.equal(pictures, x),
            "vae.encode should get the pictures as they came, x_0.",
        )
        if seen is not None:
            seen.append(pictures)
        return posterior

    def sampled(noise: Tensor | None = None) -> Tensor:
        if noise is None:
            fail("posterior.sample needs the noise: sample(noise).")
        return mean + STD * noise

    posterior = answering(
        mean=mean,
        std=torch.full_like(mean, STD),
        logvar=torch.full_like(mean, STD).log() * 2,
        mode=lambda: mean,
        sample=sampled,
    )
    vae = answering(encode=encoded, decode=painted)
    return ask(lambda: student.new("LatentSpace", vae, factor), SPACE_HINTS)


def painted(z: Tensor | Handle) -> Tensor:
    """Each latent value as 2 × 2 pixels; bent, so that a factor outside is not one inside."""
    if isinstance(z, Handle):  # the caller's own tensor, in `unchanged`: nobody reads the picture
        return torch.zeros(())
    z = z + 0.2 * z**3
    return z.repeat_interleave(2, 2).repeat_interleave(2, 3)


def latents_of(answer: object, what: str) -> Tensor:
    """What encode gave, if it is a tensor."""
    if answer is None:
        fail(f"Your code returned None where {what} should be. Is a return statement missing?")
    if isinstance(answer, tuple | list):
        fail("encode should return the latents alone.")
    if not isinstance(answer, Tensor):
        fail(
            "encode should return latents, a tensor, and not the posterior: take its mode() or a "
            "sample(noise)."
        )
    return answer


@exercise("LatentSpace")
def test_space_encodes(student, rng):
    x, seen = normal(rng, 3, 2, 4, 6), []
    space = a_space(student, 0.25, x, seen)
    mean = F.avg_pool2d(x, 2)
    noise = normal(rng, *mean.shape)
    drawn = mean + STD * noise
    first, second = (ask(lambda: space.call("encode", x, noise), SPACE_HINTS) for _ in range(2))
    first, second = (latents_of(each, "what encode gives") for each in (first, second))
    expect(
        len(seen) > 1,
        "encode keeps what vae.encode said of earlier pictures; ask it anew in each call.",
    )
    expect(
        matches(first, second),
        "With the same noise encode gives another answer each time: it is to use the noise that "
        "comes in, posterior.sample(noise), and draw none of its own.",
    )
    expect_close(
        first,
        0.25 * drawn,
        "what encode gives",
        causes={
            "The latents are divided by the factor on the way in; they are multiplied.": drawn
            / 0.25,
            "The factor is forgotten on the way in.": drawn,
            "The mean is scaled, the noise is not: draw first, then scale.": 0.25 * mean
            + STD * noise,
            "The noise is not used: draw from the posterior, sample(noise).": 0.25 * mean,
            "The noise is added at its own size: posterior.sample(noise) knows the spread.": 0.25
            * (mean + noise),
            "The noise is added after scaling: draw first, then scale.": 0.25 * mean + noise,
            "The factor is used twice.": 0.0625 * drawn,
        },
        otherwise="encode gives scaling_factor · posterior.sample(noise).",
    )


@exercise("LatentSpace")
def test_space_encodes_without_noise(student, rng):
    x = normal(rng, 2, 3, 4, 4)
    space = a_space(student, 3.0, x)
    mean = F.avg_pool2d(x, 2)
    noise = normal(rng, *mean.shape)
    ask(lambda: space.call("encode", x, noise), SPACE_HINTS)  # of which nothing may be kept
    first, second = (ask(lambda: space.call("encode", x), SPACE_HINTS) for _ in range(2))
    first, second = (latents_of(z, "what encode gives without noise") for z in (first, second))
    expect(
        matches(first, second),
        "Without noise encode gives another answer each time: take the likeliest latents, mode().",
    )
    expect_close(
        first,
        3 * mean,
        "what encode gives without noise",
        causes={
            "The factor is forgotten where there is no noise.": mean,
            "The noise of an earlier call is still used: keep none.": 3 * (mean + STD * noise),
            "The latents are divided by the factor; they are multiplied.": mean / 3,
        },
        otherwise="Without noise it is scaling_factor · posterior.mode().",
    )
    unchanged(student, lambda held: space.call("encode", held), x, "x_0")


@exercise("LatentSpace")
def test_space_decodes(student, rng):
    space, z = a_space(student, 0.5, torch.zeros(1, 1, 2, 2)), normal(rng, 3, 2, 3, 2)
    expect_close(
        ask(lambda: space.call("decode", z), SPACE_HINTS),
        painted(z / 0.5),
        "what decode gives",
        causes={
            "The latents are multiplied by the factor on the way out; they are divided.": painted(
                z * 0.5
            ),
            "The factor is forgotten on the way out: the decoder gets latents of a size that it "
            "never met.": painted(z),
            "The pictures are clipped here; what the decoder gives is returned as it is.": painted(
                z / 0.5
            ).clamp(-1, 1),
            "The factor is used twice on the way out.": painted(z / 0.25),
            "The picture is divided by the factor; the latents are, before they are decoded.": (
                painted(z) / 0.5
            ),
        },
        otherwise="decode gives vae.decode(z_0 / scaling_factor).",
    )
    unchanged(student, lambda held: space.call("decode", held), z, "z_0")


def would_learn(student, module: Handle, name: str) -> bool:
    """Whether training would change a tensor of the learner's: a format's dots read attributes."""
    return student.hold(f"{{0.{name}.requires_grad}}").call("format", module) == "True"


@exercise("LatentSpace")
def test_space_keeps_its_factor_and_freezes(student, rng):
    frozen = student.new_torch("Conv2d", 1, 1, 1)
    space = ask(lambda: student.new("LatentSpace", frozen, torch.tensor(0.5)), SPACE_HINTS)
    state = space.state()
    expect(
        "scaling_factor" in state,
        "The factor is not saved with the module: register it as a buffer called scaling_factor "
        "(a plain attribute is neither saved nor moved to the GPU; with persistent=False a buffer "
        "is not saved either).",
    )
    expect_close(state["scaling_factor"], torch.tensor(0.5), "the saved factor")
    expect(
        "vae.weight" in state,
        "The autoencoder is not kept as self.vae: under that name others look for it.",
    )
    expect(
        not would_learn(student, space, "vae.weight"),
        "The autoencoder is not frozen: vae.requires_grad_(False). The denoiser's training must "
        "not change it.",
    )
    expect(
        not would_learn(student, space, "scaling_factor"),
        "The factor would be learnt: a parameter is. Keep it as a buffer: "
        'self.register_buffer("scaling_factor", tensor).',
    )
    expect(
        not space.get("vae").get("training"),
        "The autoencoder is not in eval mode: vae.eval(). It is done, nothing of it is trained.",
    )
