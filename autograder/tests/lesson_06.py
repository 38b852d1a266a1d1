"""Hidden tests of lesson 6: cross-attention.

The functions are compared with PyTorch's and diffusers' own. Where an exercise runs the learner's
other pieces, it is judged by calling those same pieces from here, one by one, in the right order:
a split_heads that gives wrong numbers costs the points of split_heads and no others. (One that
raises stops whatever calls it.)
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from diffusers import Transformer2DModel
from diffusers.models.activations import GEGLU as TheirGEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor

from autograder import testing_modules
from autograder.picture import Image, pictured
from autograder.remote import Handle, RemoteError
from autograder.testing import exercise, expect, expect_close, fail, matches
from autograder.testing_modules import (
    IN_PLACE,
    OTHER_PIECES,
    PIECE_STOPS,
    Parts,
    ask,
    check_with_ours,
    every_parameter_learns,
    expect_gradients,
    expect_input_gradients,
    normal,
    runs,
    unchanged,
)
from autograder.wire import Foreign
from t2i import transformer
from t2i.pretrained import convert

CLOSE = {"rtol": 1e-4, "atol": 2e-5}


# Larger weights than lesson 2's: attention must be sharp, else its mistakes hardly show.
shuffled = partial(testing_modules.shuffled, gain=1.2)
shuffle_weights = partial(testing_modules.shuffle_weights, gain=1.2)
load = partial(testing_modules.load, other="another size")


def some_words(rng: torch.Generator, batch: int, length: int) -> Tensor:
    """A mask with words of any number; every picture has at least one word and one masked."""
    mask = torch.rand(batch, length, generator=rng) < 0.5
    mask[:, 0], mask[:, 1] = True, False
    return mask


# --- scaled_dot_product_attention -----------------------------------------------------------------


def lookup(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, wrong: str = ""):
    """(output, weights); `wrong` makes one well-known mistake."""
    d = q.shape[-1]
    q, k = (k, q) if wrong == "q and k" else (q, k)
    size = {"no scale": 1.0, "scale by d": d**2, "scale by L": k.shape[-2], "times": d**-1.0}
    size["scale by value"] = v.shape[-1]
    scores = q @ k.transpose(-1, -2) / size.get(wrong, d) ** 0.5
    worst = torch.finfo(scores.dtype).min
    if mask is not None:
        if wrong in ("inverted", "inverted before"):
            scores = scores.masked_fill(mask, worst)
        elif wrong == "added":
            scores = scores + mask.to(scores.dtype)
        elif wrong == "times mask":
            scores = scores * mask
        elif wrong == "infinity":
            scores = scores.masked_fill(~mask, -torch.inf)
        elif wrong not in ("ignored", "after", "after inverted"):
            scores = scores.masked_fill(~mask, worst)
    axis = {"softmax axis": -2, "softmax heads": 1, "softmax batch": 0}.get(wrong, -1)
    weights = scores if wrong == "no softmax" else scores.softmax(axis)
    if wrong == "sigmoid":
        weights = scores.sigmoid()
    if wrong == "plain sum":
        weights = scores / scores.sum(-1, keepdim=True)
    if mask is not None and wrong == "after inverted":
        weights = weights.masked_fill(mask, 0)
    elif mask is not None and wrong not in ("inverted", "added", "ignored", "infinity", "even"):
        weights = weights.masked_fill(~mask, 0)
    return weights @ v, weights


LOOKUP_MISTAKES = {
    "no scale": "The scale is missing: the scores are divided by √d before the softmax.",
    "scale by d": "The scores are divided by d, and should be by its square root √d.",
    "scale by L": "The scores are divided by the root of the number of words; it is √d, with d the "
    "length of a query (query.shape[-1]).",
    "scale by value": "The scores are divided by the root of the channels of a value; it is √d, "
    "with d the query's channels (query.shape[-1]).",
    "times": "The scores are multiplied by √d, and should be divided by it.",
    "softmax axis": "The softmax runs over the wrong axis: over the places. Each place has one "
    "look to share out among the words, so each row (the last axis) sums to 1.",
    "softmax heads": "The softmax runs over the heads, the wrong axis: name the last one, dim=-1, "
    "the words.",
    "softmax batch": "The softmax runs over the batch, the wrong axis: name the last one, dim=-1, "
    "the words.",
    "no softmax": "The softmax is missing: scores are not yet shares that sum to 1.",
    "sigmoid": "There is a sigmoid where the softmax belongs: the shares of a place must sum to 1.",
    "plain sum": "The scores are divided by their sum; the softmax takes their exponentials first.",
}
MASK_MISTAKES = {
    "inverted": "The mask is inverted: True means look at this word, so it is ~mask that gets the "
    "very negative score.",
    "inverted before": "The mask is inverted before the softmax (after it, it is right), so no "
    "weight is left: True means look at this word, so it is ~mask that gets the very negative "
    "score.",
    "ignored": "The mask is not used: a masked word must get the weight 0.",
    "after": "The mask acts after the softmax only: then what is left no longer sums to 1. Masked "
    "words need a hugely negative score before the softmax.",
    "after inverted": "The mask acts after the softmax, and inverted: set the scores where ~mask "
    "holds before the softmax.",
    "added": "The mask was turned into 0 and 1 and added to the scores: that changes next to "
    "nothing. Masked words need a hugely negative score.",
    "times mask": "The scores of masked words are set to 0, as if multiplied by the mask. But 0 is "
    "an ordinary score: they need a hugely negative one.",
}
LOOKUP_HINTS = {
    "transpose(1, 2)": "Count axes from the end: key.transpose(-1, -2) turns round the last two, "
    "however many stand before them.",
    "transpose(2, 1)": "Count axes from the end: key.transpose(-1, -2) turns round the last two, "
    "however many stand before them.",
    "must match the size": "query is (..., N, d), key (..., L, d), a mask broadcasts to (..., N, "
    "L); any number of axes may stand before, and N, L and the length of a value all differ.",
    "Expected size": "Turn round only the last two axes of key: key.transpose(-1, -2).",
    "only supports": "Turn round only the last two axes: key.transpose(-1, -2), not .T or .t().",
    "Dimension out of range": "Count axes from the end (-1, -2): any number may stand before them.",
    "mat1 and mat2 shapes": "The scores are query times key with its last two axes turned round: "
    "key.transpose(-1, -2).",
    "": "The scores are query @ key.transpose(-1, -2); any number of axes may stand before.",
}


def pair_of(answer: object) -> tuple:
    """(output, weights) as the learner's function gave them."""
    if not isinstance(answer, list | tuple) or len(answer) != 2:
        if answer is None:
            fail("Your code returned None. Is a return statement missing?")
        found = "one tensor" if isinstance(answer, Tensor) else type(answer).__name__
        found = answer.type_name if isinstance(answer, Foreign) else found
        fail(f"Two things should come back, output and weights; yours gave {found}.")
    return tuple(answer)


def check_lookup(student, q, k, v, mask=None, mistakes=None, advice="") -> None:
    args = (q, k, v) if mask is None else (q, k, v, mask)
    answer = ask(lambda: student.scaled_dot_product_attention(*args), LOOKUP_HINTS)
    output, weights = pair_of(answer)
    mistakes = LOOKUP_MISTAKES if mistakes is None else mistakes
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    table = lookup(q, k, v, mask)[1]
    if matches(output, table, **CLOSE) and not matches(expected, table, **CLOSE):
        fail("The two results come back in the wrong order: first the output, then the weights.")

    if isinstance(weights, Tensor) and mask is not None and weights.ndim > table.ndim:
        fail(
            f"The table of weights has {weights.ndim} axes, the scores have {table.ndim}. The mask "
            "broadcasts to the scores as it comes: give it no further axes here."
        )

    def causes(part: int) -> dict:
        return {
            sentence: (lambda wrong=wrong: lookup(q, k, v, mask, wrong)[part])
            for wrong, sentence in mistakes.items()
        }

    expect_close(
        weights,
        table,
        "the table of weights",
        causes=causes(1),
        otherwise=advice or "Compare with softmax(query·keyᵀ / √d), over the words.",
        **CLOSE,
    )
    expect_close(
        output,
        expected,
        "the output",
        causes=causes(0),
        otherwise="The weights are right, so it is the mixture: weights @ value.",
        **CLOSE,
    )


@exercise("scaled_dot_product_attention")
def test_lookup_without_a_mask(student, rng):
    check_lookup(student, normal(rng, 3, 5, 6), normal(rng, 3, 7, 6), normal(rng, 3, 7, 4))


@exercise("scaled_dot_product_attention")
def test_lookup_with_heads(student, rng):
    shapes = ((3, 2, 5, 6), (3, 2, 4, 6), (3, 2, 4, 7))
    check_lookup(student, *(normal(rng, *shape, dtype=torch.float64) for shape in shapes))
    check_lookup(student, normal(rng, 4, 3), normal(rng, 1, 3), normal(rng, 1, 2))


@exercise("scaled_dot_product_attention")
def test_lookup_with_a_mask(student, rng):
    q, k, v = normal(rng, 3, 2, 5, 6), normal(rng, 3, 2, 7, 6), normal(rng, 3, 2, 7, 4)
    mask = some_words(rng, 3, 7)[:, None, None, :]
    advice = "It is right without a mask. Where ~mask holds, the score becomes hugely negative."
    check_lookup(student, q, k, v, mask, MASK_MISTAKES | LOOKUP_MISTAKES, advice)
    each = torch.rand(3, 1, 5, 7, generator=rng) < 0.5
    each[..., 0] = True
    check_lookup(student, q, k, v, each, MASK_MISTAKES, "Here each place has a mask of its own.")


@exercise("scaled_dot_product_attention")
def test_lookup_with_large_scores(student, rng):
    q, k, v = 40 * normal(rng, 2, 3, 8), 40 * normal(rng, 2, 5, 8), normal(rng, 2, 5, 4)
    advice = (
        "With large scores it goes wrong: e to the power of a large score overflows. torch.softmax "
        "takes the largest score away first."
    )
    check_lookup(student, q, k, v, advice=advice)
    mask = some_words(rng, 2, 5)[:, None, :]
    advice = (
        "With large scores a masked word still takes its share of the look in the softmax: its "
        "score must be hopeless before it, like torch.finfo(scores.dtype).min, and not only "
        "somewhat negative. To set its weight to 0 after the softmax alone, or to stretch what is "
        "left to 1, is too late."
    )
    check_lookup(student, q, k, v, mask, {}, advice)
    check_lookup(student, 15 * q, 15 * k, v, mask, {}, advice)


@exercise("scaled_dot_product_attention")
def test_lookup_with_nothing_to_look_at(student, rng):
    q, k, v = normal(rng, 3, 4, 6), normal(rng, 3, 5, 6), normal(rng, 3, 5, 2)
    mask = some_words(rng, 3, 5)[:, None, :]
    mask[1] = False
    output, weights = pair_of(student.scaled_dot_product_attention(q, k, v, mask))
    for name, value in (("weights", weights[1]), ("output", output[1])):
        expect(
            not value.isnan().any(),
            f"Where every word is masked the {name} are NaN: the softmax of a row that is minus "
            "infinity throughout. Use the smallest finite number instead, and set masked weights "
            "to 0 once more after the softmax.",
        )
        expect(
            not value.any(),
            f"Where every word is masked the {name} should be 0: there is nothing to look at. "
            "Yours shares the look out among words that are not there; set the masked weights to 0 "
            "once more after the softmax.",
        )
    expected, table = lookup(q, k, v, mask)
    advice = "The picture without words spoils the others in its batch."
    expect_close(weights, table, "the table of weights", otherwise=advice, **CLOSE)
    expect_close(output, expected, "the output", otherwise=advice, **CLOSE)


@exercise("scaled_dot_product_attention")
def test_lookup_leaves_its_arguments(student, rng):
    q, k, v = normal(rng, 2, 4, 6), normal(rng, 2, 5, 6), normal(rng, 2, 5, 2)
    mask = some_words(rng, 2, 5)[:, None, :]
    call = student.scaled_dot_product_attention
    unchanged(student, lambda held: call(held, k, v, mask), q, "query")
    unchanged(student, lambda held: call(q, held, v, mask), k, "key")
    unchanged(student, lambda held: call(q, k, held, mask), v, "value")
    unchanged(student, lambda held: call(q, k, v, held), mask, "the mask")


@pictured("scaled_dot_product_attention")
def test_lookup_picture(student, draw):
    """Places and words on two half circles, the last two words masked."""
    angles = [torch.linspace(0, torch.pi, n) for n in (8, 6)]
    q, k = (3 * torch.stack([a.cos(), a.sin()], 1)[None] for a in angles)
    mask = (torch.arange(6) < 4)[None, None]
    yours = pair_of(student.scaled_dot_product_attention(q, k, k, mask))[1]
    yours = yours[0] if isinstance(yours, Tensor) and yours.ndim == 3 else yours
    panel = Image("weights", yours, lookup(q, k, k, mask)[1][0], "words", "places")
    draw(panel, inputs="for eight places and six words, of which the last two are masked")


# --- split_heads and merge_heads ------------------------------------------------------------------


def split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


@exercise("split_heads")
def test_split_heads(student, rng):
    for shape, heads in (((3, 5, 12), 4), ((2, 6, 8), 2), ((1, 4, 6), 1)):
        x = normal(rng, *shape)
        b, n, c = shape
        d = c // heads
        advice = "With einops: 'b n (heads d) -> b heads n d'."
        expect_close(
            ask(lambda x=x, heads=heads: student.split_heads(x, heads), {"": advice}),
            split(x, heads),
            "what the heads hold",
            causes={
                "This is a plain reshape: it cuts the list of places into pieces. First make "
                "(B, N, heads, d), then exchange the axes of places and heads.": x.reshape(
                    b, heads, n, d
                ),
                "The heads' axis still stands behind the places: the two axes must be "
                "exchanged.": x.reshape(b, n, heads, d),
                "The channels are dealt out like cards, (d heads); a head holds d neighbouring "
                "channels, (heads d).": x.reshape(b, n, d, heads).permute(0, 3, 1, 2),
                "Places and the channels of a head have changed places: (B, heads, N, d) is "
                "wanted.": split(x, heads).transpose(2, 3),
                "The heads' axis comes first, before the batch.": split(x, heads).transpose(0, 1),
                "The axes are exchanged and then flattened together with the batch; four axes are "
                "wanted.": split(x, heads).flatten(0, 1),
            },
            otherwise=advice,
            **CLOSE,
        )


@exercise("split_heads")
def test_split_heads_that_do_not_share_evenly(student, rng):
    for channels, word in ((10, "Ten"), (6, "Six")):
        try:
            student.split_heads(normal(rng, 2, 3, channels), 4)
        except RemoteError as error:
            if error.type_name == "NotImplementedError":
                raise
            continue
        fail(
            f"{word} channels cannot be shared out evenly among four heads, and your code does it "
            "without complaint: channels are lost, or there are fewer heads than asked for. Use "
            "reshape, unflatten or rearrange with the exact sizes, or raise a ValueError."
        )


@exercise("split_heads")
def test_split_heads_passes_gradients(student, rng):
    x = normal(rng, 2, 3, 4)
    given = {"x": x, "num_heads": 2}
    expect_gradients(student, "split_heads", given, {"x": torch.ones_like(x)}, "Not through NumPy.")


@exercise("merge_heads")
def test_merge_heads(student, rng):
    for shape in ((3, 4, 5, 3), (2, 2, 6, 4), (1, 1, 4, 6)):
        x = normal(rng, *shape)
        b, heads, n, d = shape
        advice = "With einops: 'b heads n d -> b n (heads d)'."
        hints = {
            "contiguous": "view needs the values in order in memory: use reshape or rearrange.",
            "at least one dimension spans": "view needs the values in order in memory: use reshape "
            "or rearrange.",
            "": advice,
        }
        expect_close(
            ask(lambda x=x: student.merge_heads(x), hints),
            merge(x),
            "the merged channels",
            causes={
                "This is a plain reshape, so places and heads are mixed up: exchange the axes of "
                "heads and places first.": x.reshape(b, n, heads * d),
                "The channels of the heads are shuffled into one another, (d heads); they should "
                "stand side by side, (heads d).": x.permute(0, 2, 3, 1).flatten(2),
                "Places and channels have changed places: (B, N, heads·d) is wanted.": merge(
                    x
                ).transpose(1, 2),
                "The heads are averaged; their channels should stand side by side.": x.mean(1),
                "The heads are added up; their channels should stand side by side.": x.sum(1),
            },
            otherwise=advice,
            **CLOSE,
        )


@exercise("merge_heads")
def test_merge_heads_passes_gradients(student, rng):
    x = normal(rng, 2, 2, 3, 4)
    expect_gradients(
        student, "merge_heads", {"x": x}, {"x": torch.ones_like(x)}, "Not through NumPy."
    )


# --- CrossAttention.forward -----------------------------------------------------------------------


def attend(s: dict, x: Tensor, context, mask, heads: int, wrong: str = "", tools=None) -> Tensor:
    """CrossAttention from its weights; `wrong` makes one well-known mistake.

    Args:
        tools: (split, attention, merge) to use instead of the right ones.
    """
    cut, look, join = tools or (split, lambda *args: lookup(*args, wrong)[0], merge)
    source = x if context is None or wrong == "all from x" else context
    c = s["to_q.weight"].shape[0]
    parts = c // heads if wrong == "head size" else heads

    def to(name: str, values: Tensor) -> Tensor:
        out = F.linear(values, s[f"{name}.weight"])
        if wrong == "split by reshape":
            return out.reshape(len(out), heads, -1, c // heads)
        if wrong == "interleaved":
            return out.unflatten(2, (c // heads, heads)).permute(0, 3, 1, 2)
        return out[:, None] if wrong == "one head" else cut(out, parts)

    q = to("to_q", source if wrong == "query from context" else x)
    k = to("to_k", x if wrong == "key from x" else source)
    v = to("to_v", x if wrong == "value from x" else source)
    v = to("to_k", source) if wrong == "value by key" else v
    if wrong == "scale by all":
        q = q / heads**0.5
    mask = None if mask is None else mask[:, None, None, :]
    if wrong == "mask of the first":
        mask = mask[:1]
    if wrong == "mask of any":
        mask = mask.any(0, keepdim=True)
    if wrong == "mask by head" and mask is not None and len(mask) == heads:
        mask = mask[:, 0]  # (B, 1, L), which only then meets (B, heads, N, L) without an error
    if wrong == "heads early" and mask is not None:
        mask = None
    looked = look(q, k, v, mask)
    merged = looked.reshape(*x.shape[:2], c) if wrong == "merge by reshape" else join(looked)
    out = F.linear(merged, s["to_out.weight"], s["to_out.bias"])
    out = merged if wrong == "no to_out" else out
    return x + out if wrong == "residual" else out


ATTEND_MISTAKES = {
    "inverted": "The mask is inverted: True means look at this word. "
    "(F.scaled_dot_product_attention means it the same way.)",
    "ignored": "context_mask is not used: masked words must not matter.",
    "after": "The mask acts after the softmax only: the weights of the words that are left must "
    "sum to 1.",
    "added": "The mask reached the attention as a float: then it is added to the scores, 1 and 0. "
    "Hand it over as bool.",
    "times mask": "Masked words, or their scores, were set to 0. But 0 is an ordinary score, so "
    "they still get a share of every look: hand the mask to the attention, which makes their "
    "scores hopeless.",
    "mask of the first": "Every picture got the mask of the first one: context_mask has one row a "
    "picture.",
    "mask of any": "Every picture got one common mask, with the words that any of them has: "
    "context_mask has one row a picture.",
    "mask by head": "The mask lined up with the heads and not with the pictures: it needs two axes "
    "in the middle, (B, 1, 1, L).",
    "all from x": "The context is not used: key and value are read from x. They come from the "
    "words.",
    "key from x": "The key is read from x; it comes from the words, context.",
    "value from x": "The value is read from x; it comes from the words, context.",
    "query from context": "The query is read from the context; it is the picture x that asks.",
    "value by key": "The value is made by to_k; it has a layer of its own, to_v.",
    "no scale": "The scale is missing: the scores are divided by √d.",
    "scale by all": "The scale is the root of all channels; it is √d, with the d channels of one "
    "head.",
    "scale by d": "The scores are divided by d, not by its square root √d.",
    "softmax axis": "The softmax runs over the wrong axis: each place's weights over the words "
    "sum to 1.",
    "softmax heads": "The softmax runs over the heads; it must run over the words.",
    "no softmax": "The softmax is missing.",
    "q and k": "query and key have changed places.",
    "head size": "The second argument of split_heads is how many heads there are, self.num_heads; "
    "yours got how many channels one head has.",
    "one head": "The heads are not split: split_heads(…, self.num_heads) is missing.",
    "split by reshape": "The heads are split by a plain reshape, which mixes places and channels.",
    "interleaved": "The channels are dealt out to the heads like cards; a head holds neighbours.",
    "merge by reshape": "The heads come back by a plain reshape, which mixes places and heads.",
    "no to_out": "The last layer, to_out, is missing.",
    "residual": "x is added at the end. That is right for the block, which comes later; here only "
    "what was found is returned.",
    "infinity": "Pictures whose words are all masked come out wrong.",
}
ATTEND_HINTS = {
    "Boolean value": "`or` and a bare `if` ask whether the numbers in a tensor are true. Ask "
    "whether there is a context at all: context is None.",
    "tuple": "Your scaled_dot_product_attention returns two things, the output and the weights: "
    "merge_heads gets the first alone.",
    "NoneType": "context and context_mask may be None: without a context, x looks at itself; "
    "without a mask, at everything.",
    "expanded size": "The mask is (B, L) and the scores are (B, heads, N, L): "
    "context_mask[:, None, None, :] fits.",
    "must match the size": "The mask is (B, L) and the scores are (B, heads, N, L): "
    "context_mask[:, None, None, :] fits.",
    "mat1 and mat2 shapes": "x has query_dim channels, the context context_dim: the query is made "
    "from x, key and value from the context. to_out comes last: it wants the merged heads, (B, N, "
    "num_heads · head_dim).",
    "attr": "Look up the names in __init__: to_q, to_k, to_v, to_out, num_heads.",
    "expected scalar type": "Everything should stay in x's dtype.",
    "": "Query from x, key and value from the context; split, attend, merge, to_out.",
}
PIECES_STOP = (
    "CrossAttention.forward runs your split_heads and merge_heads, so it cannot be judged yet: "
    "mend those exercises first."
)


class Judge:
    """One CrossAttention of the learner's, with diffusers' weights."""

    def __init__(self, student, rng, query_dim, context_dim, heads, head_dim, dtype=torch.float32):
        self.student, self.heads = student, heads
        theirs = Attention(query_dim, context_dim, heads, dim_head=head_dim)
        self.theirs = shuffle_weights(theirs, rng).to(dtype)
        with torch.no_grad():
            self.theirs.to_q.weight.mul_(3)  # so that places are choosy, and mistakes show
        self.state = convert.transformer_state_dict(self.theirs.state_dict())
        self.layer = student.new("CrossAttention", query_dim, context_dim, heads, head_dim)
        if dtype is torch.float64:
            self.layer.call("double")
        load(self.layer, self.state)

    def expected(self, x: Tensor, context, mask) -> Tensor:
        if mask is None:
            return self.theirs(x, context).detach()
        bias = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, -10_000.0)
        out = self.theirs(x, context, attention_mask=bias[:, None]).detach()
        out[~mask.any(1)] = self.state["to_out.bias"]  # nothing to look at
        return out

    def with_own_pieces(self, x: Tensor, context, mask) -> list[Tensor]:
        """What comes out with the learner's split_heads, attention and merge_heads."""
        s = self.student

        def own(*args):
            return s.scaled_dot_product_attention(*args)[0]

        found = []
        for look in (F.scaled_dot_product_attention, own):
            try:
                tools = (s.split_heads, look, s.merge_heads)
                found.append(attend(self.state, x, context, mask, self.heads, "", tools))
            except Exception:
                continue
        return found

    def check(self, x: Tensor, context=None, mask=None, what="the result", advice="") -> None:
        args = (x,) if context is None else (x, context)
        args = args if mask is None else (x, context, mask)
        expected = self.expected(x, context, mask)
        hints = ATTEND_HINTS
        if mask is None:  # then the mask is not what fails to fit
            fit = (
                "Compare the shapes of query, key and value: each is split into self.num_heads "
                "heads, (B, num_heads, …, head_dim)."
            )
            hints = hints | {"expanded size": fit, "must match the size": fit}
        try:
            actual = ask(lambda: self.layer(*args), hints)
        except AssertionError:
            if not self.with_own_pieces(x, context, mask):
                fail(PIECES_STOP)
            raise
        if isinstance(actual, Tensor) and not matches(actual, expected, **CLOSE):
            if any(matches(actual, own, **CLOSE) for own in self.with_own_pieces(x, context, mask)):
                return  # the mistake is in a piece that has an exercise of its own
        expect_close(
            actual,
            expected,
            what,
            causes={
                sentence: (
                    lambda wrong=wrong: attend(self.state, x, context, mask, self.heads, wrong)
                )
                for wrong, sentence in ATTEND_MISTAKES.items()
            },
            otherwise=advice
            or "Compare with to_out(merge(attention(split(to_q(x)), split(to_k("
            "context)), split(to_v(context))))).",
            **CLOSE,
        )


@exercise("CrossAttention.forward")
def test_attention_looks_at_the_words(student, rng):
    judge = Judge(student, rng, 8, 8, 2, 4)
    judge.check(
        normal(rng, 3, 5, 8),
        normal(rng, 3, 5, 8),
        what="the result where there are five words to look at",
    )
    judge = Judge(student, rng, 6, 10, 3, 4)
    judge.check(normal(rng, 3, 4, 6), normal(rng, 3, 7, 10))
    judge.check(normal(rng, 1, 4, 6), normal(rng, 1, 1, 10), what="the result for a single word")


@exercise("CrossAttention.forward")
def test_attention_minds_the_mask(student, rng):
    judge = Judge(student, rng, 6, 10, 3, 4)
    x, context, mask = normal(rng, 3, 4, 6), normal(rng, 3, 7, 10), some_words(rng, 3, 7)
    mask[0, 2], mask[1, 2] = False, True  # no row has all the words that others have
    judge.check(x, context, mask, "the result with a mask")
    judge.check(
        *(normal(rng, 3, 3, 6), normal(rng, 3, 3, 10), some_words(rng, 3, 3)),
        "the result with as many words as pictures",
        "context_mask[:, None, None, :] puts the words last and the pictures first.",
    )


@exercise("CrossAttention.forward")
def test_attention_without_any_word(student, rng):
    judge = Judge(student, rng, 6, 10, 2, 3)
    mask = some_words(rng, 3, 4)
    mask[1] = False
    judge.check(
        *(normal(rng, 3, 5, 6), normal(rng, 3, 4, 10), mask),
        "the result for a picture whose words are all masked",
        "With nothing to look at, the attention gives 0, and to_out makes its bias of that.",
    )


@exercise("CrossAttention.forward")
def test_attention_to_itself(student, rng):
    judge = Judge(student, rng, 8, None, 2, 3, torch.float64)
    what = "the result without a context, where x looks at itself,"
    judge.check(normal(rng, 3, 5, 8, dtype=torch.float64), what=what)


NO_PATH = {
    "does not require grad": "The result has no gradient at all: no torch.no_grad(), .detach() or "
    ".data on the way.",
    "inplace operation": IN_PLACE["inplace operation"],
}
NO_PATH_ATTENTION = NO_PATH | {
    "inplace operation": "A value that the gradients still need was changed in place, here or in "
    "your own attention (with +=, or a method that ends in _): masked_fill, not masked_fill_.",
}


@exercise("CrossAttention.forward")
def test_attention_learns_and_leaves_its_input(student, rng):
    judge = Judge(student, rng, 6, 10, 2, 3)
    x, context, mask = normal(rng, 2, 4, 6), normal(rng, 2, 5, 10), some_words(rng, 2, 5)
    judge.check(x, context, mask, "the result of a first call")
    judge.check(
        *(x, normal(rng, 2, 5, 10), mask),
        "the result of a second call, with other words,",
        "Keys and values are made anew in each call: keep none of them in self.",
    )
    unchanged(student, lambda held: judge.layer(x, held, mask), context, "context")
    every_parameter_learns(
        ask(lambda: judge.layer.grad(x, context), NO_PATH_ATTENTION), "the attention"
    )
    found = ask(lambda: judge.layer.grad(x, context, mask), NO_PATH_ATTENTION)
    every_parameter_learns(found, "the attention with a mask")

    def right(x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        return attend(judge.state, x, context, mask, judge.heads)

    if matches(found["output"], judge.expected(x, context, mask), **CLOSE):  # else a piece is wrong
        expect_input_gradients(found, right, (x, context, mask), ("x", "context", "context_mask"))
    unchanged(student, lambda held: judge.layer(held, context, mask), x, "x")
    unchanged(student, lambda held: judge.layer(x, context, held), mask, "context_mask")


# --- GEGLU ----------------------------------------------------------------------------------------

ONE_LINEAR = "It holds one layer: self.proj = nn.Linear(dim_in, 2 * dim_out), with a bias."


@exercise("GEGLU")
def test_geglu(student, rng):
    theirs = shuffle_weights(TheirGEGLU(6, 10), rng)
    layer = load(student.new("GEGLU", 6, 10), theirs.state_dict(), ONE_LINEAR)
    for shape in ((3, 5, 6), (7, 6)):
        x = 2 * normal(rng, *shape)
        content, gate = theirs.proj(x).detach().chunk(2, -1)
        mistakes = {
            "Content and gate have changed places: the first half is the content, the second half "
            "goes through gelu.": F.gelu(content) * gate,
            "The gate goes through SiLU; here it is GELU.": content * F.silu(gate),
            "This is the tanh approximation of GELU; the exact one is F.gelu's default.": content
            * F.gelu(gate, approximate="tanh"),
            "The gate goes through x·sigmoid(1.702 x), a quick approximation of GELU; the exact "
            "one is F.gelu.": content * gate * torch.sigmoid(1.702 * gate),
            "The gate goes through a sigmoid; here it is GELU.": content * gate.sigmoid(),
            "The gate goes through ReLU; here it is GELU.": content * gate.relu(),
            "The gate goes through Φ(z); GELU is z·Φ(z), F.gelu.": content
            * torch.special.ndtr(gate),
            "The activation is missing: content · gelu(gate).": content * gate,
            "Both halves go through gelu; only the gate does.": F.gelu(content) * F.gelu(gate),
            "Content and gelu(gate) are added; the gate multiplies.": content + F.gelu(gate),
            "The gate is not used: content · gelu(gate).": content,
            "The content is not used: content · gelu(gate).": F.gelu(gate),
            "gelu runs over the product; it runs over the gate alone.": F.gelu(content * gate),
            "Content and gate are taken alternately; they are two halves, one behind the other: "
            "chunk(2, dim=-1).": _alternating(theirs.proj(x).detach()),
        }
        expect_close(
            ask(
                lambda x=x: layer(x),
                {
                    "inplace": "Make a new tensor, content * F.gelu(gate), instead of *= or mul_.",
                    "": "Cut the last axis in two with chunk(2, dim=-1).",
                },
            ),
            theirs(x).detach(),
            "the output of GEGLU",
            causes=mistakes,
            otherwise="Compare with content · gelu(gate), content and gate being the two halves "
            "of proj(x).",
            rtol=1e-5,
            atol=1e-5,
        )
    x = normal(rng, 3, 6)
    found = ask(lambda: layer.grad(x), NO_PATH)
    every_parameter_learns(found, "GEGLU")
    expect_input_gradients(found, theirs, (x,), ("x",))


def _alternating(both: Tensor) -> Tensor:
    return both[..., ::2] * F.gelu(both[..., 1::2])


# --- TransformerBlock.forward ---------------------------------------------------------------------


def new(student, rng, name: str, *args, **kwargs) -> Handle:
    """A learner's module with random weights everywhere, whatever its pieces are like."""
    module = ask(lambda: student.new(name, *args, **kwargs), {"": OTHER_PIECES})
    module.eval()
    module.load_state(shuffled(module.state(), rng))
    return module


def block_forward(parts: Parts, x: Tensor, context: Tensor, mask, wrong: str = "") -> Tensor:
    """TransformerBlock.forward; `wrong` makes one well-known mistake."""

    def look(name: str, h: Tensor) -> Tensor:
        if name == "attn1":
            words = (context,) if wrong == "self looks at words" else ()
            words = (None, mask) if wrong == "mask for attn1" else words
            return parts(name, h, *words)
        if wrong == "attn1 twice":
            return parts("attn1", h, context) if mask is None else parts("attn1", h, context, mask)
        if wrong == "cross looks at itself":
            return parts(name, h)
        if mask is None or wrong == "mask lost":
            return parts(name, h, context)
        return parts(name, h, context, ~mask if wrong == "mask inverted" else mask)

    order = [("norm1", "attn1"), ("norm2", "attn2"), ("norm3", "ff")]
    if wrong == "words first":
        order = [order[1], order[0], order[2]]
    if wrong == "thinks first":
        order = [order[2], order[0], order[1]]
    start = after_first = x
    for norm, layer in order:
        if wrong == f"no {layer}":
            continue
        read = {
            "norms mixed": {"norm2": "norm1", "norm1": "norm2"}.get(norm, norm),
            "norm1 always": "norm1",
            "norm2 twice": {"norm3": "norm2"}.get(norm, norm),
        }.get(wrong)
        after = wrong in ("post norm", "norm of the answer")
        h = x if after or wrong == f"no {norm}" else parts(read or norm, x)
        source = h if wrong == "normed sum" else x
        source = start if wrong == "side by side" else source
        if wrong == "side by side":
            h = parts(norm, start)
        if wrong == f"{layer} reads the start":
            h = parts(norm, start)
        if wrong == "ff reads after attn1" and layer == "ff":
            h = parts(norm, after_first)
        found = parts("ff", h) if layer == "ff" else look(layer, h)
        found = parts(norm, found) if wrong == "norm of the answer" else found
        if wrong == "side by side":
            x = x + found
        else:
            x = found if wrong == f"no sum {layer}" else source + found
        x = parts(norm, x) if wrong == "post norm" else x
        if wrong == "last sum from the start" and layer == "ff":
            x = start + found
        after_first = x if layer == "attn1" else after_first
    if wrong == "start twice":
        return start + x
    return x


BLOCK_MISTAKES = {
    "no sum attn1": "The first sum is missing: x + attn1(norm1(x)).",
    "no sum attn2": "The second sum is missing: x + attn2(norm2(x), …).",
    "no sum ff": "The third sum is missing: x + ff(norm3(x)).",
    "normed sum": "What is added to is norm(x); it must be x as it was. Only the layer reads "
    "norm(x).",
    "post norm": "The norms stand after the sums; here they stand before the layers: "
    "x + layer(norm(x)).",
    "no norm1": "norm1 is not used: attn1 reads norm1(x).",
    "no norm2": "norm2 is not used: attn2 reads norm2(x).",
    "no norm3": "norm3 is not used: ff reads norm3(x).",
    "norm of the answer": "Each norm stands behind its layer; it belongs before: "
    "x + layer(norm(x)).",
    "norms mixed": "norm1 and norm2 have changed places.",
    "norm1 always": "norm1 stands in all three lines: each correction has a norm of its own.",
    "no attn1": "attn1 is left out: the picture looks at itself first.",
    "no attn2": "attn2 is left out: the picture never looks at the words.",
    "no ff": "ff is left out: thinking it over is the third correction.",
    "words first": "The words come first; the order is: the picture (attn1), the words (attn2), "
    "then ff.",
    "thinks first": "ff comes first; the order is attn1, attn2, ff.",
    "side by side": "All three corrections read the x of the beginning; each must read what the "
    "one before it left.",
    "self looks at words": "attn1 got the context: it is the self-attention, and gets x alone.",
    "cross looks at itself": "attn2 did not get the context, so it looks at the picture.",
    "mask lost": "The mask is not handed on to attn2.",
    "mask inverted": "The mask is inverted on its way to attn2: True means look at this word.",
    "attn2 reads the start": "attn2 reads norm2 of the x of the beginning; it must read the x that "
    "attn1 was added to.",
    "ff reads the start": "ff reads norm3 of the x of the beginning; it must read the x that attn2 "
    "was added to.",
    "ff reads after attn1": "ff reads the x before attn2 was added; it must read the x after.",
    "last sum from the start": "The last sum begins with the x of the beginning; it must begin "
    "with the x that attn2 was added to.",
    "norm2 twice": "norm2 stands in the third line too; it has norm3.",
    "attn1 twice": "attn1 stands in the second line too; the words are looked at by attn2.",
    "start twice": "x is added once more at the end; each correction has added it already.",
}


HANDED_ON = (
    "Your layers run when they are called in the right order with the right things. So if the line "
    "is not in this exercise, that layer was handed something else from here: compare the shapes."
)
MASK_FOR_ATTN1 = (
    "attn1 got the mask of the words: it looks at the picture, and gets x alone, neither context "
    "nor context_mask."
)


def run_block(block: Handle, args: tuple, wrong: Callable[[], Tensor]) -> Tensor:
    """The block's answer; where it raises as `wrong` does, that is the mistake."""
    try:
        return block(*args)
    except RemoteError as error:
        found = str(error)
    try:
        wrong()
    except RemoteError as error:
        if str(error) == found:
            fail(f"{found} {MASK_FOR_ATTN1}")
    return ask(lambda: block(*args), {"": HANDED_ON})


def check_block(student, rng, dim, heads, context_dim, sizes, masked) -> None:
    batch, places, length = sizes
    block = new(student, rng, "TransformerBlock", dim, heads, dim // heads, context_dim)
    parts = Parts(block)
    x, context = normal(rng, batch, places, dim) + 0.3, normal(rng, batch, length, context_dim)
    mask = some_words(rng, batch, length) if masked else None
    args = (x, context, mask) if masked else (x, context)
    expected = ask(lambda: block_forward(parts, x, context, mask), {"": PIECE_STOPS})
    expect_close(
        run_block(block, args, lambda: block_forward(parts, x, context, mask, "mask for attn1")),
        expected,
        "the answer of the block (compared with your own layers called in the right order)",
        causes={
            sentence: (lambda wrong=wrong: block_forward(parts, x, context, mask, wrong))
            for wrong, sentence in BLOCK_MISTAKES.items()
        },
        otherwise="Compare with x + attn1(norm1(x)), then + attn2(norm2(x), context, "
        "context_mask), then + ff(norm3(x)).",
        **CLOSE,
    )
    unchanged(student, lambda held: block(held, *args[1:]), x, "x")
    unchanged(student, lambda held: block(x, held, *args[2:]), context, "context")


@exercise("TransformerBlock.forward")
def test_block_without_a_mask(student, rng):
    check_block(student, rng, 8, 2, 8, (3, 5, 4), masked=False)


@exercise("TransformerBlock.forward")
def test_block_with_a_mask(student, rng):
    check_block(student, rng, 6, 3, 10, (3, 4, 7), masked=True)


@exercise("TransformerBlock.forward")
def test_block_same_as_diffusers(student, rng):
    """With pieces of ours where the learner's are wrong: their mistakes are told elsewhere."""
    theirs = shuffle_weights(BasicTransformerBlock(8, 2, 4, cross_attention_dim=6), rng)
    block = new(student, rng, "TransformerBlock", 8, 2, 4, 6)
    state = convert.transformer_state_dict(theirs.state_dict())
    x, context, mask = normal(rng, 3, 5, 8), normal(rng, 3, 4, 6), some_words(rng, 3, 4)
    ours = shuffle_weights(transformer.TransformerBlock(8, 2, 4, 6), rng)
    layers = ["norm1", "attn1", "norm2", "attn2", "norm3", "ff"]
    if {k: v.shape for k, v in block.state().items()} != {k: v.shape for k, v in state.items()}:
        return check_with_ours(block, ours, layers, x, context, mask)
    block.load_state(state)
    parts = Parts(block)
    bias = torch.zeros(3, 1, 4).masked_fill(~mask[:, None], -10_000.0)
    right = {
        "attn1": ((x,), theirs.attn1(x)),
        "attn2": ((x, context, mask), theirs.attn2(x, context, attention_mask=bias)),
        "ff": ((x,), theirs.ff(x)),
    }
    for name, (args, expected) in right.items():
        if not matches(
            ask(lambda n=name, a=args: parts(n, *a), {"": PIECE_STOPS}), expected.detach(), **CLOSE
        ):
            return check_with_ours(block, ours, layers, x, context, mask)
    expect_close(
        block(x, context, mask),
        theirs(x, encoder_hidden_states=context, encoder_attention_mask=bias).detach(),
        "the answer of the block with the weights of diffusers' BasicTransformerBlock",
        otherwise="Every layer is right by itself, so it is the wiring of the block.",
        **CLOSE,
    )
    found = ask(lambda: block.grad(x, context), IN_PLACE)
    every_parameter_learns(found, "the block")
    pieces = {"attn1": (x,), "attn2": (x, context), "ff": (x,)}
    if all(passes_back(parts.layer(n), theirs.get_submodule(n), pieces[n]) for n in pieces):
        expect_input_gradients(
            found,
            lambda x, words: theirs(x, encoder_hidden_states=words),
            (x, context),
            ("x", "context"),
        )


def passes_back(layer: Handle, right: torch.nn.Module, args: tuple) -> bool:
    """Whether the gradients for a layer's inputs are right; where not, it has its own exercise."""
    try:
        expect_input_gradients(layer.grad(*args), right, args, ("x", "context")[: len(args)])
    except (AssertionError, RemoteError):
        return False
    return True


# --- SpatialTransformer.forward -------------------------------------------------------------------


def picture_forward(parts: Parts, config, x, context, mask, state, wrong: str = "") -> Tensor:
    """SpatialTransformer.forward; `wrong` makes one well-known mistake."""
    channels, inner, depth, groups = config
    b, _, height, width = x.shape
    normed = parts("norm", x)
    if wrong == "eps":
        normed = F.group_norm(x, groups, state["norm.weight"], state["norm.bias"], eps=1e-5)
    h = x if wrong == "no norm" else normed
    h = h if wrong == "no proj_in" else parts("proj_in", h)
    if wrong in ("list by reshape", "both by reshape"):
        h = h.reshape(b, height * width, inner)
    elif wrong == "columns first":
        h = h.transpose(2, 3).flatten(2).transpose(1, 2)
    else:
        h = h.flatten(2).transpose(1, 2)
    given = (context,) if mask is None or wrong == "mask lost" else (context, mask)
    given = (context, ~mask) if wrong == "mask inverted" and mask is not None else given
    before = h
    for i in range(1 if wrong == "first block" else depth):
        index = depth - 1 - i if wrong == "backwards" else i
        h = parts(f"blocks.{index}", before if wrong == "blocks side by side" else h, *given)
        h = before if wrong == "no blocks" else h
    h = before + h if wrong == "inner sum" else h
    if wrong in ("picture by reshape", "both by reshape"):
        h = h.reshape(b, inner, height, width)
    elif wrong == "sides exchanged":
        h = h.transpose(1, 2).reshape(b, inner, width, height).transpose(2, 3)
    else:
        h = h.transpose(1, 2).reshape(b, inner, height, width)
    out = h if wrong == "no proj_out" else parts("proj_out", h)
    if wrong == "no sum":
        return out
    return out + (normed if wrong == "normed sum" else x)


PICTURE_MISTAKES = {
    "no sum": "x is not added at the end: x + proj_out(…).",
    "normed sum": "norm(x) is added at the end; it must be x as it came in.",
    "no norm": "norm is not used: proj_in reads norm(x).",
    "eps": "The group norm has another eps: use self.norm, whose eps is 1e-6 as in Stable "
    "Diffusion.",
    "no proj_in": "proj_in is left out.",
    "no proj_out": "proj_out is left out.",
    "list by reshape": "(B, C, H, W) became (B, H·W, C) by a plain reshape, which mixes channels "
    "with places: exchange the axes, as rearrange does.",
    "picture by reshape": "On the way back (B, H·W, C) became (B, C, H, W) by a plain reshape, "
    "which mixes channels with places: exchange the axes first.",
    "both by reshape": "Both ways, to the list and back, are a plain reshape, which mixes channels "
    "with places: exchange the axes each time, as rearrange does.",
    "sides exchanged": "Height and width are exchanged on the way back: that works for square "
    "pictures only.",
    "columns first": "The list goes through the picture by columns, and back by rows; both ways "
    "must keep one order, '(h w)'.",
    "first block": "Only the first block runs; self.blocks may hold several.",
    "no blocks": "What the blocks answer is not used.",
    "backwards": "The blocks run in the wrong order, the last one first.",
    "blocks side by side": "Every block reads the list of the beginning; each must read what the "
    "one before it left.",
    "inner sum": "The list is added again after the blocks; they have their own sums.",
    "mask lost": "The mask is not handed on to the blocks.",
    "mask inverted": "The mask is inverted on its way to the blocks: True means look at this word.",
}
INNER = (
    "Inside, between proj_in and proj_out, there are C′ = num_heads · head_dim channels, which "
    "need not be x's C"
)
PICTURE_HINTS = {
    "Error while processing rearrange": "Picture to list: 'b c h w -> b (h w) c'. Back: "
    f"'b (h w) c -> b c h w', and einops wants to know h and w. {INNER}: give no c.",
    "is invalid for input of size": f"{INNER}: take them from the list's own last axis.",
    "contiguous": "view needs the values in order in memory: use reshape or rearrange.",
    "must match the size": "Height and width differ. Perhaps they are exchanged on the way back; "
    "x.shape holds them in the order (B, C, H, W).",
    "": HANDED_ON,
}


def check_picture(student, rng, channels, heads, head_dim, depth, shape, masked, scale=1.0):
    groups, context_dim = 2, 5
    args = (channels, heads, head_dim, context_dim, depth, groups)
    layer = new(student, rng, "SpatialTransformer", *args)
    state, parts = layer.state(), Parts(layer)
    config = (channels, heads * head_dim, depth, groups)
    batch, height, width, length = shape
    x = scale * (normal(rng, batch, channels, height, width) + 0.3)
    context = normal(rng, batch, length, context_dim)
    mask = some_words(rng, batch, length) if masked else None
    given = (x, context, mask) if masked else (x, context)

    def right(wrong: str = "") -> Tensor:
        return picture_forward(parts, config, x, context, mask, state, wrong)

    expect_close(
        ask(lambda: layer(*given), PICTURE_HINTS) if runs(right) else fail(PIECE_STOPS),
        right(),
        "the answer of the layer (compared with your own layers called in the right order)",
        causes={
            sentence: (lambda wrong=wrong: right(wrong))
            for wrong, sentence in PICTURE_MISTAKES.items()
        },
        otherwise="The order is: norm, proj_in, picture to list, every block, list to picture, "
        "proj_out, plus the x that came in (before norm and proj_in).",
        **CLOSE,
    )
    unchanged(student, lambda held: layer(held, *given[1:]), x, "x")
    unchanged(student, lambda held: layer(x, held, *given[2:]), context, "context")


@exercise("SpatialTransformer.forward")
def test_picture_with_one_block(student, rng):
    check_picture(student, rng, 6, 2, 3, 1, (3, 4, 5, 4), masked=False)


@exercise("SpatialTransformer.forward")
def test_picture_with_two_blocks_and_a_mask(student, rng):
    check_picture(student, rng, 8, 3, 2, 2, (3, 5, 2, 6), masked=True)


@exercise("SpatialTransformer.forward")
def test_picture_that_is_nearly_black(student, rng):
    """Values so small that the group norm's eps is seen."""
    check_picture(student, rng, 6, 1, 4, 1, (1, 3, 4, 2), masked=True, scale=3e-3)


@exercise("SpatialTransformer.forward")
def test_picture_same_as_diffusers(student, rng):
    """With blocks of ours where the learner's are wrong: their mistakes are told elsewhere."""
    theirs = shuffle_weights(
        Transformer2DModel(2, 4, in_channels=6, cross_attention_dim=5, norm_num_groups=2), rng
    )
    state = convert.transformer_state_dict(theirs.state_dict())
    layer = new(student, rng, "SpatialTransformer", 6, 2, 4, 5, 1, 2)
    rows, context, mask = normal(rng, 3, 7, 8), normal(rng, 3, 4, 5), some_words(rng, 3, 4)
    x, layers = normal(rng, 3, 6, 5, 3), ["proj_in", "blocks.0", "proj_out"]
    ours = shuffle_weights(transformer.SpatialTransformer(6, 2, 4, 5, 1, 2), rng)
    own = {name: value for name, value in layer.state().items() if name.startswith("norm.")}
    ours.load_state_dict(own, strict=False)  # its norm stays: a forward may ask how wide it is
    if {k: v.shape for k, v in layer.state().items()} != {k: v.shape for k, v in state.items()}:
        return check_with_ours(layer, ours, layers, x, context, mask)
    layer.load_state(state)
    ours.load_state_dict({name: state[name] for name in own}, strict=False)
    bias = torch.zeros(3, 1, 4).masked_fill(~mask[:, None], -10_000.0)
    block = theirs.transformer_blocks[0]
    expected = block(rows, encoder_hidden_states=context, encoder_attention_mask=bias).detach()
    own = ask(lambda: Parts(layer)("blocks.0", rows, context, mask), {"": PIECE_STOPS})
    if not matches(own, expected, **CLOSE):
        return check_with_ours(layer, ours, layers, x, context, mask)
    expect_close(
        layer(x, context, mask),
        theirs(x, context, encoder_attention_mask=mask.long(), return_dict=False)[0].detach(),
        "the answer of the layer with the weights of diffusers' Transformer2DModel",
        otherwise="The block is right by itself, so it is the wiring of SpatialTransformer.",
        **CLOSE,
    )
    every_parameter_learns(ask(lambda: layer.grad(x, context), IN_PLACE), "the layer")
