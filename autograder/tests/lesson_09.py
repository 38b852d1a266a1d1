"""Hidden tests of lesson 9: patches, places, DiT and the joint block.

Compared with torch's unfold, closed forms and diffusers. Where an exercise runs the learner's other
pieces, it is judged by calling those same pieces from here, one by one, in the right order: a
mistake in modulate costs the points of modulate and no others.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from diffusers import DiTTransformer2DModel
from diffusers.models.attention import JointTransformerBlock
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import Tensor, nn

from autograder import testing_modules
from autograder.picture import Image, drawable, pictured
from autograder.remote import Handle, RemoteError
from autograder.testing import exercise, expect, expect_close, fail, matches
from autograder.testing_modules import (
    IN_PLACE,
    OTHER_PIECES,
    PIECE_STOPS,
    UNLEARNT,
    Parts,
    ask,
    check_with_ours,
    every_parameter_learns,
    expect_gradients,
    normal,
    unchanged,
)
from t2i import dit as reference
from t2i.joint import JointAttentionBlock, joint_mask
from t2i.pretrained.dit_files import (
    dit_from_config,
    dit_state_dict,
    joint_state_dict,
    share_embedding,
)
from t2i.unet_blocks import timestep_embedding

CLOSE = {"rtol": 1e-4, "atol": 2e-5}

shuffled = partial(testing_modules.shuffled, gain=1.0)
shuffle_weights = partial(testing_modules.shuffle_weights, gain=1.0)


load = partial(testing_modules.load, other="another size")


def piece(call: Callable):
    """Run the learner's other pieces; where one stops, this exercise cannot be judged."""
    try:
        return call()
    except RemoteError as error:
        if error.type_name == "NotImplementedError":
            raise
        return fail(PIECE_STOPS)


# --- patchify and unpatchify ----------------------------------------------------------------------


def cut(x: Tensor, p: int, inside: str = "pqc", patches: str = "hw") -> Tensor:
    """patchify, with the axes inside a patch and of the patches in any order."""
    b, c, height, width = x.shape
    pieces = x.reshape(b, c, height // p, p, width // p, p)
    at = {"c": 1, "h": 2, "p": 3, "w": 4, "q": 5}
    pieces = pieces.permute(0, *(at[axis] for axis in patches + inside))
    return pieces.reshape(b, -1, p * p * c)


CUT_HINTS = {
    "Shape mismatch": "A size is written down that these pictures do not have: channels, height, "
    "width and patch_size all come with the arguments.",
    "Error while processing rearrange": "einops wants to know the side of a patch twice, as p and "
    "as q, and each axis must stand on both sides of the arrow.",
    "is invalid for input of size": "Sizes come from x.shape, the channels too: height and width "
    "differ, there are H / p rows and W / p columns of patches.",
    "view size is not compatible": "view needs the values in order in memory: use reshape.",
    "": "Split height into (h p) and width into (w q), then put the axes in order.",
}
CUT_MISTAKES = {
    "Inside a patch the channel comes first; the order is (row, column, channel): 'p q c'.": "cpq",
    "Inside a patch rows and columns have changed places: the order is 'p q c', row by row.": "qpc",
    "Inside a patch the order is (column, channel, row); it should be 'p q c'.": "qcp",
    "Inside a patch the order is (row, channel, column); it should be 'p q c'.": "pcq",
}


@exercise("patchify")
def test_patchify(student, rng):
    for shape, p in (((3, 2, 6, 4), 2), ((1, 3, 6, 9), 3), ((2, 5, 3, 2), 1), ((2, 1, 4, 12), 4)):
        x = normal(rng, *shape)
        b, c, height, width = shape
        expected = F.unfold(x, p, stride=p).unflatten(1, (c, p * p)).permute(0, 3, 2, 1).flatten(2)
        causes = {text: cut(x, p, inside) for text, inside in CUT_MISTAKES.items()}
        causes |= {
            "The patches go column by column; they should go row by row: '(h w)'.": cut(
                x, p, patches="wh"
            ),
            "This is a plain reshape: it has the right shape, but takes whole rows of pixels "
            "where patches should be. The axes must be exchanged, as rearrange does.": x.reshape(
                b, -1, p * p * c
            ),
            "Rows of patches and rows inside a patch are confused: with einops it is (h p), the "
            "patch first, not (p h).": x.reshape(b, c, p, height // p, p, width // p)
            .permute(0, 3, 5, 2, 4, 1)
            .reshape(b, -1, p * p * c),
            "The result has a grid of patches, (B, H/p, W/p, …); it should be a list, "
            "(B, N, …): '(h w)'.": cut(x, p).unflatten(1, (height // p, width // p)),
        }
        expect_close(
            ask(lambda x=x, p=p: student.patchify(x, p), CUT_HINTS),
            expected,
            "the list of patches",
            causes=causes,
            otherwise="Patches go row by row; inside a patch pixels go row by row, each with all "
            "its channels.",
            **CLOSE,
        )


@exercise("patchify")
def test_patchify_whole_patches_only(student, rng):
    for shape in ((2, 3, 6, 8), (2, 3, 8, 6)):
        try:
            student.patchify(normal(rng, *shape), 4)
        except RemoteError as error:
            if error.type_name == "NotImplementedError":
                raise
            continue
        fail(
            "A side of 6 pixels does not fall into whole patches of 4, and your code takes it "
            "without complaint: pixels are lost, or added by filling up. Use reshape or rearrange "
            "with the exact sizes, or raise a ValueError."
        )


@exercise("patchify")
def test_patchify_keeps_its_dtype_and_its_input(student, rng):
    x = normal(rng, 2, 3, 4, 6, dtype=torch.float64)
    patches = ask(lambda: student.patchify(x, 2), CUT_HINTS)
    advice = "Nothing is computed here: every number keeps its value and its dtype."
    expect_close(patches, cut(x, 2), "the list of patches", otherwise=advice, check_dtype=True)
    unchanged(student, lambda held: student.patchify(held, 2), x, "x")


JOIN_HINTS = {
    "Shape mismatch": "h counts rows of patches and w columns of patches, not pixels: h = height "
    "// patch_size, w = width // patch_size.",
    "Error while processing rearrange": "einops cannot know how many rows of patches there are "
    "(h, which is height // patch_size), nor the side of a patch, p and q.",
    "is invalid for input of size": "There are height // patch_size rows of patches and width // "
    "patch_size columns: height and width count pixels, and they differ. The channels are what is "
    "left: patches.shape[-1] // patch_size**2.",
    "view size is not compatible": "view needs the values in order in memory: use reshape.",
    "": "Give rows and columns of patches an axis each, and those inside a patch; then put them "
    "in order.",
}
ROWS_AND_COLUMNS = "Rows and columns of patches are exchanged: (h w) means h rows of w patches."


def joined(
    patches: Tensor, p: int, height: int, width: int, inside="pqc", grid="hw", shape="chpwq"
) -> Tensor:
    """unpatchify, with the axes read in any order."""
    b, c = len(patches), patches.shape[2] // p**2
    size = {"h": height // p, "w": width // p, "p": p, "q": p, "c": c}
    names = grid + inside
    pieces = patches.reshape(b, *(size[name] for name in names))
    pieces = pieces.permute(0, *(names.index(name) + 1 for name in shape))
    return pieces.reshape(b, c, height, width)


def guessed_square(patches: Tensor, p: int, height: int, width: int) -> Tensor:
    """unpatchify with h = int(√N) and w = N // h, whatever height and width say."""
    h = int(patches.shape[1] ** 0.5)
    return joined(patches, p, h * p, patches.shape[1] // h * p)


def turned(patches: Tensor, p: int, height: int, width: int) -> Tensor:
    """unpatchify, with the patches' rows laid along the width: '(w p) (h q)'."""
    b, c = len(patches), patches.shape[2] // p**2
    pieces = patches.reshape(b, height // p, width // p, p, p, c)
    return pieces.permute(0, 5, 2, 3, 1, 4).reshape(b, c, width, height)


@exercise("unpatchify")
def test_unpatchify(student, rng):
    cases = (
        ((3, 12, 8), 2, 12, 4),  # 6 × 2: a guess from 12 would be 3 × 4
        ((2, 6, 27), 3, 6, 9),
        ((2, 6, 5), 1, 2, 3),
        ((1, 4, 16), 4, 4, 16),
    )
    for shape, p, height, width in cases:
        patches = normal(rng, *shape)
        c = shape[2] // p**2
        columns = patches.unflatten(2, (p * p, c)).permute(0, 3, 2, 1).flatten(1, 2)
        expected = F.fold(columns, (height, width), p, stride=p)
        sizes = (patches, p, height, width)
        expect_close(
            ask(lambda sizes=sizes: student.unpatchify(*sizes), JOIN_HINTS),
            expected,
            "the picture",
            causes={
                "Inside a patch the channel is read first; the order is (row, column, channel): "
                "'p q c'.": lambda s=sizes: joined(*s, inside="cpq"),
                "Inside a patch rows and columns have changed places.": lambda s=sizes: joined(
                    *s, inside="qpc"
                ),
                "The patches are put down column by column; they go row by row: "
                "'(h w)'.": lambda s=sizes: joined(*s, grid="wh"),
                ROWS_AND_COLUMNS: lambda s=sizes: turned(*s),
                "This is a plain reshape: it has the right shape, but the pixels of a patch end "
                "up in a line. The axes must be exchanged.": lambda s=sizes: s[0].reshape(
                    len(s[0]), -1, *s[2:]
                ),
                "Patches and pixels inside them are confused: it is (h p), the patch first, not "
                "(p h).": lambda s=sizes: joined(*s, shape="cphqw"),
                "The grid is guessed from the number of patches; height and width say how many "
                "rows and columns there are, and they differ.": lambda s=sizes: guessed_square(*s),
                "Height and width have changed places.": lambda s=sizes: joined(
                    s[0], s[1], s[3], s[2]
                ),
                "The channel is the last axis; a picture is (B, C, height, "
                "width).": lambda s=sizes: joined(*s).permute(0, 2, 3, 1),
            },
            otherwise="The list goes row by row over the patches, and a patch row by row over its "
            "pixels, each with all its channels. height and width count pixels: there are height "
            "// patch_size rows of patches. A picture's row is a row of patches and one inside "
            "them, (h p); so these two axes must come to stand side by side.",
            **CLOSE,
        )


@exercise("unpatchify")
def test_unpatchify_keeps_its_dtype_and_its_input(student, rng):
    patches = normal(rng, 2, 6, 12, dtype=torch.float64)
    picture = ask(lambda: student.unpatchify(patches, 2, 4, 6), JOIN_HINTS)
    advice = "Nothing is computed here: every number keeps its value and its dtype."
    expected = joined(patches, 2, 4, 6)
    expect_close(picture, expected, "the picture", otherwise=advice, check_dtype=True)
    unchanged(student, lambda held: student.unpatchify(held, 2, 4, 6), patches, "patches")


@exercise("unpatchify")
def test_unpatchify_lets_gradients_through(student, rng):
    values = {"patches": normal(rng, 2, 6, 12), "patch_size": 2, "height": 4, "width": 6}
    expect_gradients(student, "unpatchify", values, {"patches": torch.ones(2, 6, 12)})


@pictured("unpatchify")
def test_unpatchify_picture(student, draw):
    """A ring on a ramp, cut into patches and put together again."""
    height, width, p = 24, 32, 4
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ring = (((x - 11) ** 2 + (y - 11) ** 2).sqrt() - 7).abs() < 1.6
    picture = (x / width + ring).float()
    yours = drawable(student.unpatchify(cut(picture[None, None], p), p, height, width))
    yours = yours[0, 0] if yours.ndim == 4 and yours.shape[:2] == (1, 1) else yours
    panel = Image("put together", yours, picture, "pixels across", "pixels down")
    draw(panel, inputs="for a ring on a ramp in patches of 4 × 4")


# --- sincos_position_embedding_2d -----------------------------------------------------------------


def table(dim: int, height: int, width: int, wrong: str = "") -> Tensor:
    """The table by its closed form; `wrong` makes one well-known mistake."""
    places = [(y, x) for y in range(height) for x in range(width)]
    if wrong == "columns first":
        places = [(y, x) for x in range(width) for y in range(height)]
    if wrong == "both repeat":
        places = [(i % height, i % width) for i in range(height * width)]
    y, x = (torch.tensor([place[i] for place in places]).double() for i in (0, 1))
    if wrong in ("counted from one", "columns from one"):
        x = x + 1
    if wrong in ("counted from one", "rows from one"):
        y = y + 1
    if wrong == "fractions":
        y, x = y / height, x / width
    first, second = (y, x) if wrong == "row first" else (x, y)
    first, second = (x, x) if wrong == "only x" else (first, second)
    first, second = (y, y) if wrong == "only y" else (first, second)
    quarter = dim // 4
    count = 2 * quarter if wrong == "slow clocks" else quarter
    omega = 10_000.0 ** (-torch.arange(quarter).double() / count)

    def clocks(position: Tensor) -> tuple[Tensor, Tensor]:
        angles = position[:, None] * omega
        return (angles.cos(), angles.sin()) if wrong == "cosines" else (angles.sin(), angles.cos())

    if wrong == "index":
        flat = torch.arange(height * width).double()
        angles = flat[:, None] * 10_000.0 ** (-torch.arange(2 * quarter).double() / (2 * quarter))
        return torch.cat([angles.sin(), angles.cos()], 1).float()
    if wrong == "summed":
        omega = 10_000.0 ** (-torch.arange(2 * quarter).double() / (2 * quarter))
        return (torch.cat(clocks(x), 1) + torch.cat(clocks(y), 1)).float()
    if wrong == "interleaved":
        (a, b), (c, d) = clocks(x), clocks(y)
        return torch.stack([torch.cat([a, b], 1), torch.cat([c, d], 1)], 2).flatten(1).float()
    return torch.cat([*clocks(first), *clocks(second)], 1).float()


TABLE_MISTAKES = {
    "row first": "In yours the row y comes first; the first half of the channels should tell the "
    "column x.",
    "columns first": "The places go column by column; they should go row by row, as patchify cuts: "
    "x runs 0 1 2 0 1 2.",
    "both repeat": "x is right, but y runs 0 1 2 0 1 2 as well: a row's number stays for a whole "
    "row, 0 0 0 1 1 1 (repeat_interleave, or a division of whole numbers).",
    "only x": "Both halves tell the column x; the second half should tell the row y.",
    "only y": "Both halves tell the row y; the first half should tell the column x.",
    "cosines": "In each half the cosines come first; here the sines come first. `clocks` does it.",
    "index": "The number of the patch (0, 1, 2, … over all) is turned into one set of clocks. A "
    "place is two numbers: half of the channels for x, half for y.",
    "summed": "The clocks of x and y are added up; they should stand side by side, dim // 2 "
    "channels each.",
    "slow clocks": "The clocks turn at another pace: each half has dim // 2 channels, so it is "
    "clocks(…, dim // 2).",
    "counted from one": "Rows and columns are counted from 1; the first of each is 0.",
    "columns from one": "The columns x are counted from 1; the first is 0.",
    "rows from one": "The rows y are counted from 1; the first is 0.",
    "fractions": "Rows and columns were divided by the size of the grid; they are the whole "
    "numbers 0, 1, 2, …",
    "interleaved": "The channels of x and y are shuffled into one another; x has the first half.",
}
TABLE_HINTS = {
    "NameError": OTHER_PIECES,
    "must match": "There are height · width places, so x and y need that many numbers each: "
    "repeat one of them and repeat_interleave the other.",
    "Sizes of tensors": "There are height · width places, so x and y need that many numbers each: "
    "repeat one of them and repeat_interleave the other.",
    "": "x = the column and y = the row of each patch, row by row; clocks of both, side by side.",
}


def check_table(student, dim: int, height: int, width: int, expected: Tensor) -> None:
    expect_close(
        ask(lambda: student.sincos_position_embedding_2d(dim, height, width), TABLE_HINTS),
        expected,
        f"the table of places of a grid with {'as many' if height == width else 'other'} rows "
        f"{'as' if height == width else 'than'} columns",
        causes={
            sentence: (lambda wrong=wrong: table(dim, height, width, wrong))
            for wrong, sentence in TABLE_MISTAKES.items()
        },
        otherwise="table[y · width + x] = [clocks(x, dim // 2), clocks(y, dim // 2)].",
        rtol=1e-4,
        atol=1e-4,
        check_dtype=True,
    )


@exercise("sincos_position_embedding_2d")
def test_places_of_any_grid(student, rng):
    for dim, height, width in ((8, 2, 3), (24, 5, 4), (16, 1, 6)):
        check_table(student, dim, height, width, table(dim, height, width))


@exercise("sincos_position_embedding_2d")
def test_places_same_as_diffusers(student, rng):
    for dim, size in ((32, 4), (12, 7)):
        theirs = get_2d_sincos_pos_embed(dim, size, base_size=size, output_type="pt")
        check_table(student, dim, size, size, theirs.float())


@pictured("sincos_position_embedding_2d")
def test_places_picture(student, draw):
    yours = student.sincos_position_embedding_2d(32, 4, 6)
    panel = Image("the table", yours, table(32, 4, 6), "channel", "place, row by row")
    draw(panel, inputs="for a grid of 4 rows and 6 columns, 32 channels")


# --- modulate -------------------------------------------------------------------------------------

MODULATE_HINTS = {
    "must match the size": "x is (B, N, D), shift and scale are (B, D): give them an axis for the "
    "patches, scale[:, None].",
    "": "x is (B, N, D), shift and scale (B, D): x * (1 + scale[:, None]) + shift[:, None].",
}


def check_modulate(student, x: Tensor, shift: Tensor, scale: Tensor) -> None:
    a, b = shift[:, None], scale[:, None]
    expect_close(
        ask(lambda: student.modulate(x, shift, scale), MODULATE_HINTS),
        torch.addcmul(x + a, x, b),
        "the answer of modulate",
        causes={
            "The 1 is missing: with scale alone, a scale of 0 wipes x out. It is 1 + scale.": x * b
            + a,
            "shift and scale have changed places.": x * (1 + a) + b,
            "The shift comes before the scale; it is x · (1 + scale) + shift.": (x + a) * (1 + b),
            "The shift is missing.": x * (1 + b),
            "The scale is missing.": x + a,
            "The shift is taken away; it is added.": x * (1 + b) - a,
            "It is 1 - scale; it should be 1 + scale.": x * (1 - b) + a,
            "The scale is made positive by exp; it is 1 + scale.": x * b.exp() + a,
            "x is added once more: the 1 in 1 + scale has done that already.": x + x * (1 + b) + a,
            "shift and scale met the wrong axis: each *picture* has one wish for all its patches, "
            "so the new axis stands second, scale[:, None].": lambda: x * (1 + scale) + shift,
            "Only the first picture's wish is used; each picture has its own.": x * (1 + b[:1])
            + a[:1],
        },
        otherwise="x · (1 + scale) + shift, with shift and scale as (B, 1, D).",
        **CLOSE,
    )


@exercise("modulate")
def test_modulate(student, rng):
    for b, n, d in ((3, 3, 5), (2, 6, 4), (1, 4, 1), (4, 1, 3)):
        check_modulate(student, normal(rng, b, n, d), normal(rng, b, d), normal(rng, b, d))


@exercise("modulate")
def test_modulate_leaves_its_arguments(student, rng):
    x, shift, scale = (normal(rng, *s, dtype=torch.float64) for s in ((2, 3, 4), (2, 4), (2, 4)))
    check_modulate(student, x, shift, scale)
    unchanged(student, lambda held: student.modulate(held, shift, scale), x, "x")
    unchanged(student, lambda held: student.modulate(x, held, scale), shift, "shift")
    unchanged(student, lambda held: student.modulate(x, shift, held), scale, "scale")


@exercise("modulate")
def test_modulate_lets_gradients_through(student, rng):
    x, shift, scale = normal(rng, 2, 3, 4), normal(rng, 2, 4), normal(rng, 2, 4)
    expected = {
        "x": (1 + scale)[:, None].expand_as(x),
        "shift": torch.full((2, 4), 3.0),
        "scale": x.sum(1),
    }
    expect_gradients(student, "modulate", {"x": x, "shift": shift, "scale": scale}, expected)


# --- DiTBlock -------------------------------------------------------------------------------------


BLOCK_PARTS = (
    "The block has norm1 and norm2 (plain_norm), attn (SelfAttention), mlp, and modulation, an "
    "nn.Sequential of nn.SiLU() and one linear layer from dim to 6 · dim."
)
BLOCK_NEW = {
    "NameError": OTHER_PIECES,
    "unexpected keyword": "Keep the arguments of __init__: dim, num_heads, norm_eps.",
    "": BLOCK_PARTS,
}


def new_block(student, rng, dim: int, heads: int, **more) -> Handle:
    block = ask(lambda: student.new("DiTBlock", dim, heads, **more), BLOCK_NEW)
    block.eval()
    state = shuffled(reference.DiTBlock(dim, heads).state_dict(), rng)
    return load(block, state, BLOCK_PARTS)


def block_forward(student, parts: Parts, x: Tensor, c: Tensor, wrong: str = "") -> Tensor:
    """DiTBlock.forward from the learner's own parts; `wrong` makes one well-known mistake."""
    names = ["shift1", "scale1", "gate1", "shift2", "scale2", "gate2"]
    order = {
        "scale first": ["scale1", "shift1", "gate1", "scale2", "shift2", "gate2"],
        "scale first in 1": ["scale1", "shift1", *names[2:]],
        "scale first in 2": [*names[:3], "scale2", "shift2", "gate2"],
        "gate first": ["gate1", "shift1", "scale1", "gate2", "shift2", "scale2"],
        "gate in the middle": ["shift1", "gate1", "scale1", "shift2", "gate2", "scale2"],
        "shift last": ["scale1", "gate1", "shift1", "scale2", "gate2", "shift2"],
        "backwards": ["gate1", "scale1", "shift1", "gate2", "scale2", "shift2"],
        "by kind": ["shift1", "shift2", "scale1", "scale2", "gate1", "gate2"],
        "gates last": ["shift1", "scale1", "shift2", "scale2", "gate1", "gate2"],
        "by kind, scales first": ["scale1", "scale2", "shift1", "shift2", "gate1", "gate2"],
        "halves exchanged": names[3:] + names[:3],
    }.get(wrong, names)
    said = parts("modulation", F.silu(c) if wrong == "silu twice" else c).chunk(6, dim=-1)
    wish = dict(zip(order, said, strict=True))
    if wrong == "first wishes twice":
        wish |= {"shift2": wish["shift1"], "scale2": wish["scale1"], "gate2": wish["gate1"]}
    start = x
    halves = [("1", "norm1", "attn"), ("2", "norm2", "mlp")]
    if wrong == "mlp first":
        halves.reverse()
    other = {"norm1": "norm2", "norm2": "norm1"}
    for number, norm, layer in halves:
        if wrong == f"no {layer}":
            continue
        if wrong in (f"{other[norm]} twice", "norms exchanged"):
            norm = other[norm]
        source = start if wrong == "side by side" else x
        h = source if wrong == f"no {norm}" else parts(norm, source)
        normed = h
        if wrong != f"no modulate{number}":
            more = 1 if wrong == "scale plus one" else 0
            h = student.modulate(h, wish[f"shift{number}"], more + wish[f"scale{number}"])
        found = parts(layer, h)
        gate = wish[f"gate{number}"][:, None]
        gate = {"one plus gate": 1 + gate, "gate through sigmoid": gate.sigmoid()}.get(wrong, gate)
        gate = torch.ones(()) if wrong == f"no gate{number}" else gate
        found = gate * found
        if wrong == "gate around the sum":
            x = x + found - (1 - gate) * x
        elif wrong == f"no sum{number}":
            x = found
        else:
            x = (normed if wrong == "normed sum" else x) + found
    return x


WISHES = (
    "The six wishes are unpacked in another order: they come as shift1, scale1, gate1, shift2, "
    "scale2, gate2."
)
BLOCK_MISTAKES = {
    "no gate1": "gate1 is not used: x + gate1 · attn(…).",
    "no gate2": "gate2 is not used: x + gate2 · mlp(…).",
    "one plus gate": "The gate is 1 + gate; that belongs to the scale. A gate of 0 has to shut.",
    "gate through sigmoid": "The gate goes through a sigmoid, so 0 leaves it half open. It is "
    "used as it is.",
    "gate around the sum": "The gate also multiplies x; it belongs to what is added, and x itself "
    "passes untouched.",
    "no modulate1": "attn reads norm1(x) without shift1 and scale1: modulate it.",
    "no modulate2": "mlp reads norm2(x) without shift2 and scale2: modulate it.",
    "no norm1": "norm1 is not used: attn reads modulate(norm1(x), …).",
    "no norm2": "norm2 is not used: mlp reads modulate(norm2(x), …).",
    "norm1 twice": "Both halves use norm1. The second has a norm of its own, norm2, and its eps "
    "may be another: mlp reads modulate(norm2(x), …).",
    "norm2 twice": "Both halves use norm2. The first has a norm of its own, norm1, and its eps "
    "may be another: attn reads modulate(norm1(x), …).",
    "norms exchanged": "The norms are exchanged: norm1 stands before attn, norm2 before mlp.",
    "no sum1": "The first sum is missing: x + gate1 · attn(…).",
    "no sum2": "The second sum is missing: x + gate2 · mlp(…).",
    "normed sum": "What is added to is norm(x); it must be x as it was.",
    "no attn": "attn is left out: the patches never look at each other.",
    "no mlp": "mlp is left out.",
    "mlp first": "mlp comes first; the order is attn, then mlp.",
    "side by side": "Both halves read the x of the beginning; mlp must read what attn left.",
    "scale first": f"{WISHES} Yours have scale and shift exchanged.",
    "scale first in 1": "shift1 and scale1 are exchanged: they are unpacked as shift1, scale1, "
    "gate1, and modulate(x, shift, scale) gets the shift first.",
    "scale first in 2": "shift2 and scale2 are exchanged: they are unpacked as shift2, scale2, "
    "gate2, and modulate(x, shift, scale) gets the shift first.",
    "scale plus one": "modulate gets 1 + scale, and adds a 1 itself: give it scale as it is.",
    "gate first": f"{WISHES} Yours have the gate first.",
    "gate in the middle": f"{WISHES} Yours have gate and scale exchanged.",
    "shift last": f"{WISHES} Yours have the shift last.",
    "backwards": f"{WISHES} Yours have gate and shift exchanged.",
    "by kind": f"{WISHES} Yours are sorted by kind.",
    "gates last": f"{WISHES} Yours have both gates at the end; each stands behind its scale.",
    "by kind, scales first": f"{WISHES} Yours are sorted by kind, and the scales come first.",
    "halves exchanged": f"{WISHES} The first three are attn's, the last three mlp's; yours are "
    "exchanged.",
    "silu twice": "c goes through a SiLU once more in forward: modulation has one, so it gets c as "
    "it is.",
    "first wishes twice": "mlp got attn's wishes; it has its own, shift2, scale2 and gate2.",
}
BLOCK_HINTS = {
    "must match the size": "A gate is (B, dim) and has to multiply (B, N, dim): gate1[:, None]. "
    "modulate takes shift and scale as they are.",
    "must be (B, N, D)": "modulate takes shift and scale as (B, dim): only the gates get the new "
    "axis, gate1[:, None].",
    "not enough values": "modulation gives 6 · dim channels: chunk(6, dim=-1).",
    "too many values": "modulation gives 6 · dim channels: chunk(6, dim=-1).",
    "attr": BLOCK_PARTS,
    "": OTHER_PIECES,
}


def silu_stands_in_forward(block: Handle, rng, found: str) -> bool:
    """Whether a block without a SiLU in its modulation answers as if there were one."""
    ours = shuffle_weights(reference.DiTBlock(8, 2), rng)
    state = {k.replace("modulation.1.", found): v for k, v in ours.state_dict().items()}
    x, c = normal(rng, 3, 5, 8), normal(rng, 3, 8)
    try:
        block.load_state(state)
        return matches(block(x, c), ours(x, c).detach(), **CLOSE)
    except RemoteError:
        return False


def silu_stands_behind(block: Handle, rng, found: str) -> bool:
    """Whether modulation is the linear layer, and the SiLU after it."""
    state, c = block.state(), normal(rng, 3, 8)
    state[found + "weight"] = normal(rng, *state[found + "weight"].shape)
    try:
        block.load_state(state)
        linear = F.linear(c, state[found + "weight"], state.get(found + "bias"))
        return matches(Parts(block)("modulation", c), F.silu(linear), **CLOSE)
    except RemoteError:
        return False


@exercise("DiTBlock")
def test_a_new_block_does_nothing(student, rng):
    block = ask(lambda: student.new("DiTBlock", 8, 2), BLOCK_NEW)
    x, c = normal(rng, 3, 5, 8), normal(rng, 3, 8)
    state = block.state()
    for found in ("modulation.0.", "modulation."):
        if found + "weight" in state:
            place = "is missing"
            if silu_stands_in_forward(block, rng, found):
                place = "stands in the wrong place, in forward; it belongs into modulation"
            elif silu_stands_behind(block, rng, found):
                place = "stands behind the linear layer; it comes before it"
            fail(
                f"The SiLU {place}: modulation is an nn.Sequential of nn.SiLU() first, and then "
                "the linear layer, so saved weights look for modulation.1.weight."
            )
    for name, what in (("weight", "weights"), ("bias", "biases")):
        values = state.get(f"modulation.1.{name}")
        if values is None:
            fail(f"Saved weights need a tensor called modulation.1.{name}. {BLOCK_PARTS}")
        expect(
            not values.any(),
            f"The {what} of the linear layer in modulation should begin at 0 (adaLN-Zero): then "
            "all wishes are 0, the gates are shut, and a new block hands x on as it is. "
            "zero_linear makes such a layer.",
        )
    for name in ("attn.to_out.weight", "mlp.2.weight"):
        expect(
            name not in state or state[name].any(),
            f"{name} begins at 0, and so does the gate that multiplies it: then neither ever gets "
            "a gradient, and this half never learns. Only the linear layer in modulation begins "
            "at 0.",
        )
    expect_close(
        ask(lambda: block(x, c), BLOCK_HINTS),
        x,
        "the answer of a new block",
        otherwise="All wishes are 0 at first, so with the gates shut x should pass unchanged: "
        "x + gate · (…), with the gate as it is.",
    )


@exercise("DiTBlock")
def test_block(student, rng):
    # an eps so large that norm2 differs from norm1 whatever it reads
    for (dim, heads), (b, n), eps in (((8, 2), (3, 5), 0.3), ((6, 3), (2, 1), 1e-6)):
        block = new_block(student, rng, dim, heads, norm_eps=eps)
        parts = Parts(block)
        x, c = normal(rng, b, n, dim) + 0.3, normal(rng, b, dim)
        weight, bias = (block.state()[f"modulation.1.{name}"] for name in ("weight", "bias"))
        expect_close(
            ask(lambda p=parts, c=c: p("modulation", c), {"": BLOCK_PARTS}),
            F.linear(F.silu(c), weight, bias),
            "the answer of modulation to the condition",
            causes={
                "The SiLU before the linear layer is missing.": F.linear(c, weight, bias),
                "The SiLU stands behind the linear layer; it comes before it.": F.silu(
                    F.linear(c, weight, bias)
                ),
                "There is a GELU where the SiLU belongs.": F.linear(F.gelu(c), weight, bias),
            },
            otherwise="It is nn.Sequential(nn.SiLU(), a linear layer).",
            **CLOSE,
        )
        state = block.state()
        inner = F.linear(x, state["mlp.0.weight"], state["mlp.0.bias"])
        out = partial(F.linear, weight=state["mlp.2.weight"], bias=state["mlp.2.bias"])
        expect_close(
            ask(lambda p=parts, x=x: p("mlp", x), {"": BLOCK_PARTS}),
            out(F.gelu(inner, approximate="tanh")),
            "the answer of mlp",
            causes={
                "Its GELU is the exact one. Saved weights were made with the approximation, "
                'nn.GELU("tanh"): the given mlp(dim) has it.': out(F.gelu(inner)),
                "There is a SiLU in mlp where its GELU belongs.": out(F.silu(inner)),
                "There is a ReLU in mlp where its GELU belongs.": out(F.relu(inner)),
                "There is nothing between mlp's two linear layers; a GELU belongs there.": (
                    out(inner)
                ),
            },
            otherwise="It is the given mlp(dim).",
            rtol=1e-5,
            atol=1e-5,
        )
        right = partial(block_forward, student, parts, x, c)
        expected = piece(right)
        expect_close(
            ask(lambda block=block, x=x, c=c: block(x, c), BLOCK_HINTS),
            expected,
            "the answer of the block (compared with your own parts called in the right order)",
            causes={
                sentence: (lambda wrong=wrong, right=right: right(wrong))
                for wrong, sentence in BLOCK_MISTAKES.items()
            },
            otherwise="Compare with x + gate1 · attn(modulate(norm1(x), shift1, scale1)), then "
            "+ gate2 · mlp(modulate(norm2(x), shift2, scale2)).",
            **CLOSE,
        )
    block.train()
    expect(
        matches(block(x, c), right(), **CLOSE),
        "In training the block answers something else than in eval: there is no dropout in it.",
    )
    block.eval()
    unchanged(student, lambda held: block(held, c), x, "x")
    unchanged(student, lambda held: block(x, held), c, "c")


@exercise("DiTBlock")
def test_block_norms(student, rng):
    """Small values, so that the eps of each norm is seen."""
    block = new_block(student, rng, 8, 2, norm_eps=1e-3)
    x, parts = 0.02 * normal(rng, 2, 4, 8), Parts(block)
    for name, eps in (("norm1", 1e-6), ("norm2", 1e-3)):
        expect_close(
            ask(lambda name=name: parts(name, x), {"": BLOCK_PARTS}),
            F.layer_norm(x, (8,), eps=eps),
            f"the answer of {name}",
            causes={
                "norm2 gets the eps that was asked for, plain_norm(dim, norm_eps).": F.layer_norm(
                    x, (8,), eps=1e-6
                ),
                "norm_eps is meant for norm2; norm1 is plain_norm(dim).": F.layer_norm(
                    x, (8,), eps=1e-3
                ),
                "Its eps is nn.LayerNorm's own; use plain_norm.": F.layer_norm(x, (8,), eps=1e-5),
            },
            otherwise="It is plain_norm: a layer norm over the channels, without weights.",
            **CLOSE,
        )


class Given(nn.Module):
    """Stands where diffusers embeds time and class, and answers with our condition."""

    def __init__(self, c: Tensor):
        super().__init__()
        self.c = c

    def forward(self, *_, **__) -> Tensor:
        return self.c


@exercise("DiTBlock")
def test_block_same_as_diffusers(student, rng):
    """With our modulate where the learner's is wrong: its mistakes are told elsewhere."""
    for heads in (2, 4):
        block_same_as_diffusers(student, rng, heads)


def block_same_as_diffusers(student, rng, heads: int) -> None:
    theirs = DiTTransformer2DModel(
        heads, 8 // heads, 3, num_layers=1, sample_size=4, num_embeds_ada_norm=5
    )
    theirs = shuffle_weights(theirs, rng)
    state = dit_state_dict(theirs.state_dict())
    state = {
        name.removeprefix("blocks.0."): value
        for name, value in state.items()
        if name.startswith("blocks.0.")
    }
    block = new_block(student, rng, 8, heads, norm_eps=1e-5)
    block.load_state(state)
    x, c = normal(rng, 3, 5, 8), normal(rng, 3, 8)
    own = ask(lambda: student.modulate(x, c, c), {"": PIECE_STOPS})
    own_is_right = matches(own, reference.modulate(x, c, c), **CLOSE)
    if not own_is_right:
        student.lend("modulate", reference.modulate)
    inner = theirs.transformer_blocks[0]
    leaves = [x.clone().requires_grad_(), c.clone().requires_grad_()]
    inner.norm1.emb = Given(leaves[1])
    expected = inner(leaves[0], timestep=None, class_labels=None)
    expect_close(
        block(x, c),
        expected.detach(),
        f"the answer of a block of {heads} heads with the weights of diffusers' "
        "BasicTransformerBlock",
        otherwise="Every part is right by itself, so it is the wiring of the block, or num_heads "
        "does not reach attn.",
        **CLOSE,
    )
    if own_is_right:
        found = ask(lambda: block.grad(x, c), IN_PLACE)
        every_parameter_learns(found, "the block")
        gradients_come_back(found, leaves, [expected], ("x", "c"))


def gradients_come_back(found: dict, leaves: list, outputs: list, names: tuple) -> None:
    """The gradients that `Handle.grad` brought, beside those of right outputs for the leaves."""
    weights = [torch.linspace(-1, 1, part.numel()) for part in outputs]
    sum((p.flatten() * w).sum() for p, w in zip(outputs, weights, strict=True)).backward()
    for mine, leaf, name in zip(found["inputs"], leaves, names, strict=True):
        expect(
            isinstance(mine, Tensor) and matches(mine, leaf.grad, rtol=1e-3, atol=1e-4),
            f"The answer is right, but not all of the gradient comes back to {name}: what stands "
            f"before the block would not learn. {UNLEARNT}",
        )


# --- DiT.forward ----------------------------------------------------------------------------------

SIZES = {"in_channels": 2, "out_channels": 3, "patch_size": 2, "dim": 8, "num_heads": 2}


def new_dit(student, rng, size: tuple[int, int], depth: int, **more) -> Handle:
    dit = ask(
        lambda: student.new("DiT", **SIZES, sample_size=size, depth=depth, num_classes=4, **more),
        {"": OTHER_PIECES},
    )
    dit.eval()
    dit.load_state(shuffled(dit.state(), rng))
    return dit


def dit_forward(student, parts: Parts, x_t, t, label, depth: int, wrong: str = "") -> Tensor:
    """DiT.forward from the learner's own parts; `wrong` makes one well-known mistake."""
    height, width = x_t.shape[2:]
    told = {
        "lesson 2's clocks": lambda: timestep_embedding(t, 256),
        "sines first": lambda: torch.cat(reference.time_clocks(t).chunk(2, -1)[::-1], -1),
    }.get(wrong, lambda: reference.time_clocks(t))()
    label = label.clamp(max=3) if wrong == "no class clamped" else label
    time, what = parts("time_mlp", told), parts("labels", label)
    c = {"no time": what, "no label": time, "multiplied": time * what}.get(wrong, time + what)
    c = F.silu(c) if wrong == "silu of c" else c
    positions = parts.module.get("positions")
    x = parts("patch_in", student.patchify(x_t, SIZES["patch_size"]))
    x = x if wrong == "no positions" else x + positions
    x = x + positions if wrong == "positions twice" else x
    before, order = x, range(depth)
    order = {"first block": [0], "no blocks": [], "backwards": reversed(order)}.get(wrong, order)
    for i in order:
        x = parts(f"blocks.{i}", before if wrong == "side by side" else x, c)
        x = x + positions if wrong == "positions in each block" else x
    x = x + before if wrong == "outer sum" else x
    out = parts("final", x, {"final told time": time, "final told class": what}.get(wrong, c))
    return student.unpatchify(out, SIZES["patch_size"], height, width)


DIT_MISTAKES = {
    "no positions": "The positions are not added: the network cannot know where a patch is.",
    "positions twice": "The positions are added twice.",
    "positions in each block": "The positions are added again in each block; once, at the "
    "beginning, is enough.",
    "no time": "The time does not reach the blocks: c = time_mlp(time_clocks(t)) + labels(label).",
    "no label": "The class does not reach the blocks: c = time_mlp(…) + labels(label).",
    "final told time": "final gets the time alone; it gets the same c as the blocks, with the "
    "class.",
    "final told class": "final gets the class alone; it gets the same c as the blocks, with the "
    "time.",
    "no class clamped": "The label num_classes, which means no class, is taken for the last class: "
    "the table has a row of its own for it.",
    "multiplied": "Time and class are multiplied; they are added.",
    "lesson 2's clocks": "The time is told by lesson 2's timestep_embedding; here it is "
    "time_clocks(t), whose slowest clock is a little slower.",
    "sines first": "The time has its sines first; time_clocks has the cosines first.",
    "silu of c": "c goes through a SiLU; the modulation of each block does that itself.",
    "first block": "Only the first block runs; self.blocks may hold several.",
    "no blocks": "What the blocks answer is not used.",
    "backwards": "The blocks run in the wrong order, the last one first.",
    "side by side": "Every block reads the patches of the beginning; each must read what the one "
    "before it left.",
    "outer sum": "The patches are added again after the blocks; the blocks have their own sums.",
}
RIGHT_PIECES = "Called in the right order all pieces run: look at what this forward gives them."
NO_CLOCKS = "time_mlp does not read t itself, but the 256 numbers that time_clocks(t) makes of it."
DIT_HINTS = {  # the pieces have run before: an error is about what forward gives them
    "(256)": "time_clocks gives 256 numbers a picture; send them through time_mlp, which makes dim "
    "of them.",
    "but got Long": NO_CLOCKS,
    "256x8": NO_CLOCKS,
    "NoneType": "patchify, unpatchify or a block gave None: is a return missing there?",
    "mat1 and mat2": "The order is: patchify, then patch_in; the blocks; then final; then "
    "unpatchify with the picture's height and width.",
    "a (2) must match the size of tensor b (3)": "x_t and the prediction may have different "
    "numbers of channels: the DiT answers with its prediction alone, x_t is not added.",
    "must match the size": "positions is (N, dim): it is added after patch_in, to the patches.",
    "attr": "Look up the names in __init__: patch_size, patch_in, positions, time_mlp, labels, "
    "blocks, final.",
    "unpatchify": "unpatchify runs where it gets the right things: what final gave, the patch "
    "size, and the picture's height and width in pixels, in this order.",
    "": RIGHT_PIECES,
}


def check_dit(student, rng, size: tuple[int, int], depth: int, batch: int) -> None:
    dit = new_dit(student, rng, size, depth)
    parts = Parts(dit)
    x_t = normal(rng, batch, SIZES["in_channels"], *size)
    t = torch.randint(200, 1000, (batch,), generator=rng)
    label = torch.randint(5, (batch,), generator=rng)
    label[0] = 4  # no class
    right = partial(dit_forward, student, parts, x_t, t, label, depth)
    expected = piece(right)
    actual = ask(lambda: dit(x_t, t, label), DIT_HINTS)
    if isinstance(actual, Tensor) and actual.shape == expected.mT.shape != expected.shape:
        fail("Height and width have changed places: unpatchify gets the height first.")
    expect_close(
        actual,
        expected,
        "the answer of the DiT (compared with your own pieces called in the right order)",
        causes={
            "x_t is added at the end; the DiT answers with its prediction alone.": lambda: (
                expected + x_t
            ),
            **{
                sentence: (lambda wrong=wrong: right(wrong))
                for wrong, sentence in DIT_MISTAKES.items()
            },
        },
        otherwise="The order is: c from time and class; patchify, patch_in, plus positions; every "
        "block with x and c; final with x and c; unpatchify.",
        **CLOSE,
    )
    dit.train()
    many = (x_t.repeat(100, 1, 1, 1), t.repeat(100), label.repeat(100))  # some would be dropped
    expect(
        matches(dit(*many), expected.repeat(100, 1, 1, 1), **CLOSE),
        "In training the DiT answers something else than in eval: no dropout, and labels are "
        "taken away by the loss (drop_condition), not by forward.",
    )
    dit.eval()
    unchanged(student, lambda held: dit(held, t, label), x_t, "x_t")


@exercise("DiT.forward")
def test_dit(student, rng):
    check_dit(student, rng, (4, 6), 2, 3)


@exercise("DiT.forward")
def test_dit_of_another_shape(student, rng):
    check_dit(student, rng, (8, 2), 3, 1)


@exercise("DiT.forward")
def test_dit_same_as_diffusers(student, rng):
    """With pieces of ours where the learner's are wrong: their mistakes are told elsewhere."""
    theirs = DiTTransformer2DModel(
        2, 4, 2, 3, num_layers=2, sample_size=6, patch_size=2, num_embeds_ada_norm=4
    )
    theirs = shuffle_weights(theirs, rng)
    theirs.load_state_dict(share_embedding(theirs.state_dict()))
    state = dit_state_dict(theirs.state_dict())
    ours = dit_from_config(theirs.config).eval()
    ours.load_state_dict(state)
    dit = new_dit(student, rng, (6, 6), 2, norm_eps=1e-5)
    if {k: v.shape for k, v in dit.state().items()} != {k: v.shape for k, v in state.items()}:
        return _same_with_our_pieces(student, dit, ours, rng)
    dit.load_state(state)
    parts, x_t = Parts(dit), normal(rng, 3, 2, 6, 6)
    t, label = torch.tensor([999, 3, 411]), torch.tensor([4, 0, 2])
    patches, c, long = normal(rng, 3, 9, 8), normal(rng, 3, 8), normal(rng, 3, 9, 12)
    pieces = [
        (lambda: student.patchify(x_t, 2), cut(x_t, 2)),
        (lambda: student.unpatchify(long, 2, 6, 6), joined(long, 2, 6, 6)),
        (lambda: dit.get("positions"), ours.positions),
        (lambda: parts("blocks.1", patches, c), ours.blocks[1](patches, c).detach()),
        (lambda: parts("final", patches, c), ours.final(patches, c).detach()),
    ]
    for call, expected in pieces:
        if not matches(piece(call), expected, **CLOSE):
            return _same_with_our_pieces(student, dit, ours, rng)
    expect_close(
        dit(x_t, t, label),
        theirs(x_t, t, label).sample.detach(),
        "the answer of the DiT with the weights of diffusers' DiTTransformer2DModel",
        otherwise="Every piece is right by itself, so it is the wiring of DiT.forward.",
        **CLOSE,
    )
    hints = {"does not require grad": f"The answer has no gradient at all. {UNLEARNT}", **IN_PLACE}
    every_parameter_learns(ask(lambda: dit.grad(x_t, t, label), hints), "the DiT")


def _same_with_our_pieces(student, dit: Handle, ours: reference.DiT, rng) -> None:
    student.lend("patchify", reference.patchify)
    student.lend("unpatchify", reference.unpatchify)
    dit.call("__setattr__", "positions", ours.positions)
    names = ["patch_in", "time_mlp", "labels", "final"]
    names += [f"blocks.{number}" for number in range(len(ours.blocks))]
    t, label = torch.tensor([7, 803]), torch.tensor([1, 4])
    check_with_ours(dit, ours, names, normal(rng, 2, 2, 6, 6), t, label)


# --- JointAttentionBlock --------------------------------------------------------------------------

JOINT_PARTS = (
    "The block has two streams: patches, Stream(dim, num_heads, qk_norm=qk_norm), and words, the "
    "same with ends=context_pre_only."
)
JOINT_NEW = {
    "unexpected keyword": "Keep the arguments of __init__: dim, num_heads, context_pre_only, "
    "qk_norm.",
    "": JOINT_PARTS,
}


def new_joint(student, rng, dim: int, heads: int, ends=False, qk_norm=False) -> Handle:
    make = partial(student.new, "JointAttentionBlock", dim, heads)
    block = ask(lambda: make(context_pre_only=ends, qk_norm=qk_norm), JOINT_NEW)
    block.eval()
    state = shuffled(JointAttentionBlock(dim, heads, ends, qk_norm).state_dict(), rng)
    made = " This block was made with context_pre_only=True." if ends and not qk_norm else ""
    loaded = load(block, state, JOINT_PARTS + made)
    kept = loaded.state()
    if torch.equal(kept["words.to_q.weight"], kept["patches.to_q.weight"]):
        fail(
            "Patches and words share one stream: what one learns, the other has to do as well. "
            "Make two, a Stream for each."
        )
    return loaded


def joint_forward(parts: Parts, x, context, c, mask, ends: bool, wrong: str = "") -> tuple:
    """JointAttentionBlock.forward from its own streams; `wrong` makes one well-known mistake."""
    n, length = x.shape[1], context.shape[1]
    patches, words = parts.layer("patches"), parts.layer("words")
    asked = (patches, words)
    if wrong == "streams exchanged" and not ends:
        asked = (words, patches)
    *of_x, rest_x = asked[0].call("offer", x, c)
    of_words = patches if wrong == "one stream" else asked[1]
    *of_w, rest_w = of_words.call("offer", context, 0 * c if wrong == "words without c" else c)
    order = (of_w, of_x) if wrong == "words first" else (of_x, of_w)
    query, key, value = (torch.cat(pair, dim=2) for pair in zip(*order, strict=True))
    if wrong == "value by key":
        value = key
    if wrong == "values the other way":
        value = torch.cat([of_w[2], of_x[2]], dim=2)
    seen_by = joint_mask(mask, n)
    if mask is not None and wrong == "mask ignored":
        seen_by = None
    if mask is not None and wrong == "mask inverted":
        seen_by = joint_mask(~mask, n)
    if mask is not None and wrong == "whole mask inverted":
        seen_by = ~joint_mask(mask, n)
    if mask is not None and wrong == "patches masked":
        seen_by = F.pad(mask, (n, 0), value=False)[:, None, None, :]
    if mask is not None and wrong == "mask behind":
        seen_by = F.pad(mask, (0, n), value=True)[:, None, None, :]
    if wrong == "no self":  # patches see words alone, words see patches alone
        kind = torch.arange(n + length) < n
        apart = kind[:, None] != kind[None, :]
        seen_by = apart if seen_by is None else seen_by & apart
    if wrong == "cross only":  # lesson 6: words see nothing but themselves
        kind = torch.arange(n + length) < n
        apart = kind[:, None] | ~kind[None, :]
        seen_by = apart if seen_by is None else seen_by & apart
    d = query.shape[-1]
    scale = {"no scale": 1.0, "scale of dim": x.shape[-1] ** -0.5}.get(wrong, d**-0.5)
    if seen_by is not None and wrong == "mask added":
        seen_by = seen_by.to(query.dtype)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=seen_by, scale=scale)
    scores = query @ key.mT * d**-0.5
    if seen_by is not None and wrong == "mask times scores":
        seen = (scores * seen_by).softmax(-1) @ value
    if seen_by is not None and wrong == "mask times weights":
        seen = (scores.softmax(-1) * seen_by) @ value
    if wrong == "softmax over askers":
        scores = scores if seen_by is None else scores.masked_fill(~seen_by, float("-inf"))
        seen = scores.softmax(-2) @ value
    if wrong in ("words first", "split as if words first"):
        seen_w, seen_x = seen.split([length, n], dim=2)
    else:
        seen_x, seen_w = seen.split([n, length], dim=2)
    if wrong == "words first, split as patches":
        query, key, value = (torch.cat(pair, dim=2) for pair in zip(of_w, of_x, strict=True))
        seen = F.scaled_dot_product_attention(query, key, value)
        seen_x, seen_w = seen.split([n, length], dim=2)
    rest_x = rest_w if wrong == "the words' rest twice" else rest_x
    rest_w = rest_x if wrong == "the patches' rest twice" else rest_w
    out = patches.call("take", x, seen_x, rest_x)
    out = x + out if wrong == "added again" else out
    if ends:
        return out, None
    said = words.call("take", context, seen_w, rest_w)
    if wrong == "words unchanged":
        said = context
    if mask is not None and wrong == "masked words kept":
        said = torch.where(mask[..., None], said, context)
    return out, said


JOINT_MISTAKES = {
    "words first": "Your sequence has the words first; the mask has the patches first, and so "
    "should the sequence.",
    "split as if words first": "What was seen is cut in the wrong place: the first N tokens are "
    "the patches', the other L the words'.",
    "words first, split as patches": "The words stand first in the sequence, but it is cut as if "
    "the patches did.",
    "mask ignored": "Masked words are looked at all the same: context_mask is not used, or it lies "
    "on the axis of those who look. It says who may be looked at, so it belongs to the last, as "
    "joint_mask gives it.",
    "mask inverted": "The mask is inverted, as by ~context_mask: True means that a word may be "
    "looked at, so context_mask goes to joint_mask as it is.",
    "whole mask inverted": "The mask is inverted, as by ~mask: True means that a token may be "
    "looked at, so what joint_mask gives goes to the attention as it is.",
    "patches masked": "The mask hides the patches: they may always be looked at.",
    "mask behind": "The mask has its words first; in the sequence the patches stand first.",
    "no self": "Patches look at words and words at patches, but neither at their own kind; there "
    "is one attention over all tokens.",
    "cross only": "The words do not look at the patches: their queries belong into the one "
    "attention over all tokens, too.",
    "no scale": "The scores are not divided by √d; F.scaled_dot_product_attention does it.",
    "scale of dim": "The scores are divided by the root of dim; d is what one head has, "
    "query.shape[-1].",
    "mask added": "The mask was made numbers, so it is added to the scores; it stays bool.",
    "mask times scores": "Masked scores become 0, which is a score like any other; they must be "
    "−∞ before the softmax. attn_mask=… does it.",
    "mask times weights": "The mask comes after the softmax, so the weights no longer sum to 1; "
    "it belongs before it. attn_mask=… does it.",
    "softmax over askers": "The softmax runs over those who look; it runs over those looked at, "
    "the last axis.",
    "masked words kept": "Masked words come back unchanged; the mask says who may be looked at, "
    "not who looks.",
    "values the other way": "The values are joined words first; queries, keys and values all have "
    "the patches first.",
    "words without c": "The words' stream gets no condition: words.offer(context, c).",
    "value by key": "The values are the keys; each stream offers query, key and value.",
    "streams exchanged": "The streams have changed places: self.patches offers for x, self.words "
    "for the context.",
    "one stream": "The words are sent through the patches' stream; they have their own, "
    "self.words.",
    "the patches' rest twice": "The words take the patches' rest (gate1, shift2, scale2, gate2); "
    "each stream takes what it offered itself.",
    "the words' rest twice": "The patches take the words' rest; each stream takes what it offered "
    "itself.",
    "added again": "x is added once more; `take` adds already.",
    "words unchanged": "The words come back as they were: self.words.take gives the new ones.",
}
JOINT_HINTS = {  # the streams have run before: an error is about what forward gives them
    "must have shape (B, num_heads": "take gets what was seen with its heads apart, (B, heads, N, "
    "d): it puts them side by side itself.",
    "self.to_out(merge_heads(seen))": "What was seen is cut in the wrong place: the first N tokens "
    "are the patches', the other L the words': seen.split([N, L], dim=2).",
    "(expected 2)": "What was seen is cut into more than two parts: seen.split([N, L], dim=2) "
    "gives the patches' and the words'.",
    "Sizes of tensors must match": "Tokens stand on axis 2: (B, heads, tokens, d). Join there, "
    "torch.cat([…], dim=2).",
    "must match the size": "The mask has to fit N + L tokens: joint_mask(context_mask, "
    "N) makes it.",
    "split_with_sizes": "What was seen has N + L tokens on axis 2: seen.split([N, L], dim=2).",
    "no attribute 'to_out'": "With context_pre_only the words' stream takes nothing any more: "
    "return None for the words.",
    "has no attribute 'mlp'": "With context_pre_only the words' stream takes nothing any more: "
    "return None for the words.",
    "not enough values to unpack (expected 4, got 0)": "With context_pre_only the words' stream "
    "takes nothing any more: return None for the words.",
    "not enough values": "offer gives four things: query, key, value and the rest for take.",
    "too many values": "offer gives four things: query, key, value and the rest for take.",
    "attr": JOINT_PARTS,
    "": RIGHT_PIECES,
}
JOINT_ADVICE = (
    "Both streams offer; queries, keys and values are joined, patches first; one attention; cut "
    "into N and L; each stream takes its own."
)


def pair_of(answer: object) -> tuple:
    if not isinstance(answer, list | tuple) or len(answer) != 2:
        found = "None" if answer is None else type(answer).__name__
        fail(f"Two things should come back, the patches and the words; yours gave {found}.")
    return tuple(answer)


def check_joint(student, rng, sizes, masked=False, ends=False, qk_norm=False) -> None:
    (dim, heads), (batch, n, length) = sizes
    block = new_joint(student, rng, dim, heads, ends, qk_norm)
    parts = Parts(block)
    x, context = normal(rng, batch, n, dim), normal(rng, batch, length, dim)
    c, mask = normal(rng, batch, dim), None
    if masked:
        mask = torch.rand(batch, length, generator=rng) < 0.5
        mask[:, 0], mask[:, 1] = True, False
        mask[-1] = False  # a picture without words
    args = (x, context, c, mask) if masked else (x, context, c)
    right = partial(joint_forward, parts, x, context, c, mask, ends)
    expected = piece(right)
    out, words = pair_of(ask(lambda: block(*args), JOINT_HINTS))
    swapped = isinstance(words, Tensor) and words.shape == expected[0].shape != context.shape
    if swapped and matches(words, expected[0], **CLOSE):
        fail("The two results come back in the wrong order: first the patches, then the words.")
    for which, (actual, name) in enumerate(((out, "the new patches"), (words, "the new words"))):
        if which and ends:
            expect(words is None, "With context_pre_only the words end here: return None for them.")
            continue
        expect_close(
            actual,
            expected[which],
            name + (" in a block with a mask" if masked else ""),
            causes={
                sentence: (lambda wrong=wrong, which=which: right(wrong)[which])
                for wrong, sentence in JOINT_MISTAKES.items()
            },
            otherwise=JOINT_ADVICE,
            **CLOSE,
        )
    unchanged(student, lambda held: block(held, *args[1:]), x, "x")
    unchanged(student, lambda held: block(x, held, *args[2:]), context, "context")


@exercise("JointAttentionBlock")
def test_joint_block(student, rng):
    check_joint(student, rng, ((8, 2), (3, 5, 4)))


@exercise("JointAttentionBlock")
def test_joint_block_with_a_mask(student, rng):
    check_joint(student, rng, ((6, 3), (3, 2, 4)), masked=True)


@exercise("JointAttentionBlock")
def test_joint_block_where_the_words_end(student, rng):
    check_joint(student, rng, ((8, 2), (2, 3, 3)), ends=True)
    check_joint(student, rng, ((8, 2), (3, 2, 4)), masked=True, ends=True, qk_norm=True)


@exercise("JointAttentionBlock")
def test_joint_block_with_qk_norm(student, rng):
    check_joint(student, rng, ((8, 4), (1, 4, 2)), qk_norm=True)


@exercise("JointAttentionBlock")
def test_joint_block_same_as_diffusers(student, rng):
    """With our modulate where the learner's is wrong: its mistakes are told elsewhere."""
    theirs = shuffle_weights(JointTransformerBlock(8, 2, 4, context_pre_only=False), rng)
    block = new_joint(student, rng, 8, 2)
    block.load_state(joint_state_dict(theirs.state_dict()))
    x, context, c = normal(rng, 3, 5, 8), normal(rng, 3, 4, 8), normal(rng, 3, 8)
    own = ask(lambda: student.modulate(x, c, c), {"": PIECE_STOPS})
    if not matches(own, reference.modulate(x, c, c), **CLOSE):
        student.lend("modulate", reference.modulate)
    leaves = [value.clone().requires_grad_() for value in (x, context, c)]
    both = theirs(*leaves)[::-1]  # the words come first there
    expected, expected_words = (value.detach() for value in both)
    out, words = pair_of(block(x, context, c))
    for actual, value, name in ((out, expected, "patches"), (words, expected_words, "words")):
        expect_close(
            actual,
            value,
            f"the new {name}, with the weights of diffusers' JointTransformerBlock,",
            otherwise="Both streams are right by themselves, so it is the wiring of the block.",
            **CLOSE,
        )
    if matches(own, reference.modulate(x, c, c), **CLOSE):
        hints = {"does not require grad": f"There is no gradient at all. {UNLEARNT}", **IN_PLACE}
        found = ask(lambda: block.grad(x, context, c), hints)
        every_parameter_learns(found, "the block")
        gradients_come_back(found, leaves, list(both), ("x", "context", "c"))
