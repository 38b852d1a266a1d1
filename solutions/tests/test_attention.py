"""Our attention with diffusers' weights gives diffusers' numbers; masks keep their promise."""

import math

import pytest
import torch
import torch.nn.functional as F
from diffusers import Transformer2DModel, UNet2DConditionModel
from diffusers.models.activations import GEGLU as TheirGEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor

from t2i.attention import CrossAttention, merge_heads, scaled_dot_product_attention, split_heads
from t2i.pretrained.convert import transformer_state_dict, unet2d_condition_state_dict
from t2i.text_unet import SceneDenoiser, TextUNet, WordEncoder, mean_word
from t2i.transformer import GEGLU, SpatialTransformer, TransformerBlock

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SHAPES = [  # B, heads, head_dim, N or (H, W), L, context_dim
    (1, 1, 8, (4, 4), 5, 8),
    (3, 2, 8, (5, 3), 7, 12),
    (2, 4, 16, (2, 9), 1, 24),
    (5, 3, 4, (3, 2), 11, 6),
]


def scattered(module: torch.nn.Module) -> torch.nn.Module:
    """Every weight random, so that no part can hide behind a zero or a one."""
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 0.5 * parameter.data + 0.1 * noise
    return module.eval()


def some_words(batch: int, length: int) -> torch.Tensor:
    """A mask that leaves each picture at least one word, and most of them not all."""
    mask = torch.rand(batch, length, generator=torch.Generator().manual_seed(length)) < 0.6
    mask[:, 0] = True
    return mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("lead", [(3,), (3, 2), (1, 4)])
def test_attention_equals_torch(lead, masked, dtype):
    query, key = torch.randn(*lead, 6, 5, dtype=dtype), torch.randn(*lead, 9, 5, dtype=dtype)
    value = torch.randn(*lead, 9, 7, dtype=dtype)
    mask = torch.rand(lead[0], *[1] * (len(lead) - 1), 1, 9) < 0.5 if masked else None
    output, weights = scaled_dot_product_attention(query, key, value, mask)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(output, expected, **CLOSE)
    assert weights.shape == (*lead, 6, 9)
    sums = torch.ones(*lead, 6, dtype=dtype)
    if masked:
        sums = mask.any(-1).expand(*lead, 6).to(dtype)
        assert not weights.masked_select(~mask.expand_as(weights)).any()
    torch.testing.assert_close(weights.sum(-1), sums, **CLOSE)


def test_attention_is_a_lookup_and_a_mean():
    """Sharp queries fetch one value; a zero query fetches the mean of all."""
    key, value = 50 * torch.eye(4), torch.randn(4, 3)
    output, weights = scaled_dot_product_attention(key[[2, 0]], key, value)
    torch.testing.assert_close(output, value[[2, 0]], **CLOSE)
    output, _ = scaled_dot_product_attention(torch.zeros(1, 4), key, value)
    torch.testing.assert_close(output[0], value.mean(0), **CLOSE)


def test_the_order_of_the_words_does_not_matter():
    query, key, value = torch.randn(2, 6, 4), torch.randn(2, 5, 4), torch.randn(2, 5, 3)
    order = torch.tensor([3, 1, 4, 0, 2])
    output, weights = scaled_dot_product_attention(query, key, value)
    shuffled = scaled_dot_product_attention(query, key[:, order], value[:, order])
    torch.testing.assert_close(shuffled[0], output, **CLOSE)
    torch.testing.assert_close(shuffled[1], weights[..., order], **CLOSE)


def test_nothing_to_look_at_gives_zero_and_finite_gradients():
    tensors = [torch.randn(2, 5, 4, requires_grad=True) for _ in range(3)]
    mask = torch.tensor([[[False] * 5], [[True] * 5]])
    output, weights = scaled_dot_product_attention(*tensors, mask)
    assert not output[0].any() and not weights[0].any() and output[1].abs().min() > 0
    output.sum().backward()
    assert all(tensor.grad.isfinite().all() for tensor in tensors)
    attention = scattered(CrossAttention(8, 6, 2, 4))
    none = torch.zeros(2, 3, dtype=torch.bool)
    out = attention(torch.randn(2, 4, 8), torch.randn(2, 3, 6), none)
    torch.testing.assert_close(out, attention.to_out.bias.expand(2, 4, 8))


def test_heads_keep_their_channels():
    x = torch.arange(2 * 3 * 8).reshape(2, 3, 8)
    heads = split_heads(x, 4)
    assert heads.shape == (2, 4, 3, 2)
    assert torch.equal(heads[1, 2, 0], x[1, 0, 4:6])
    assert torch.equal(merge_heads(heads), x)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch, heads, head_dim, size, length, context_dim", SHAPES)
def test_cross_attention_equals_diffusers(
    batch, heads, head_dim, size, length, context_dim, masked
):
    query_dim = 10
    theirs = scattered(
        Attention(query_dim, context_dim, heads, dim_head=head_dim, processor=AttnProcessor())
    )
    ours = CrossAttention(query_dim, context_dim, heads, head_dim)
    ours.load_state_dict(transformer_state_dict(theirs.state_dict()))
    x = torch.randn(batch, size[0] * size[1], query_dim)
    context = torch.randn(batch, length, context_dim)
    mask, bias = None, None
    if masked:
        mask = some_words(batch, length)
        bias = (1 - mask.float())[:, None] * -10_000.0
    expected = theirs(x, context, attention_mask=bias)
    torch.testing.assert_close(ours(x, context, mask), expected, **CLOSE)


def test_self_attention_equals_diffusers():
    theirs = scattered(Attention(12, None, 3, dim_head=4))
    ours = CrossAttention(12, None, 3, 4)
    ours.load_state_dict(transformer_state_dict(theirs.state_dict()))
    x = torch.randn(3, 7, 12)
    torch.testing.assert_close(ours(x), theirs(x), **CLOSE)


def test_geglu_equals_diffusers():
    theirs = scattered(TheirGEGLU(6, 10))
    ours = GEGLU(6, 10)
    ours.load_state_dict(theirs.state_dict())
    x = 3 * torch.randn(3, 5, 6)
    torch.testing.assert_close(ours(x), theirs(x), **CLOSE)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch, heads, head_dim, size, length, context_dim", SHAPES)
def test_transformer_block_equals_diffusers(
    batch, heads, head_dim, size, length, context_dim, masked
):
    dim = heads * head_dim
    theirs = scattered(BasicTransformerBlock(dim, heads, head_dim, cross_attention_dim=context_dim))
    ours = TransformerBlock(dim, heads, head_dim, context_dim)
    ours.load_state_dict(transformer_state_dict(theirs.state_dict()))
    x, context = torch.randn(batch, size[0] * size[1], dim), torch.randn(batch, length, context_dim)
    before = x.clone()
    mask = some_words(batch, length) if masked else None
    bias = None if mask is None else ((1 - mask.float()) * -10_000.0)[:, None]
    expected = theirs(x, encoder_hidden_states=context, encoder_attention_mask=bias)
    torch.testing.assert_close(ours(x, context, mask), expected, **CLOSE)
    assert torch.equal(x, before)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("batch, heads, head_dim, size, length, context_dim", SHAPES)
def test_spatial_transformer_equals_diffusers(
    batch, heads, head_dim, size, length, context_dim, depth, masked
):
    channels = 12  # not heads · head_dim: proj_in and proj_out have work to do
    theirs = scattered(
        Transformer2DModel(
            heads,
            head_dim,
            in_channels=channels,
            num_layers=depth,
            cross_attention_dim=context_dim,
            norm_num_groups=4,
        )
    )
    ours = SpatialTransformer(channels, heads, head_dim, context_dim, depth, norm_groups=4)
    ours.load_state_dict(transformer_state_dict(theirs.state_dict()))
    x = 1e-3 * torch.randn(batch, channels, *size)  # small: eps 1e-5 would be seen
    context = torch.randn(batch, length, context_dim)
    mask = some_words(batch, length) if masked else None
    bias = None if mask is None else mask.long()
    expected = theirs(x, context, encoder_attention_mask=bias, return_dict=False)[0]
    torch.testing.assert_close(ours(x, context, mask), expected, **CLOSE)


def test_a_new_spatial_transformer_changes_nothing():
    x = torch.randn(2, 8, 3, 5)
    out = SpatialTransformer(8, 2, 4, 6, norm_groups=4)(x, torch.randn(2, 3, 6))
    assert torch.equal(out, x)


@pytest.mark.parametrize(
    "channels, layers, levels",
    [((32, 48), 1, (True, True)), ((16, 32, 32), 2, (False, True, False))],
)
def test_text_unet_equals_diffusers(channels, layers, levels):
    down = ["CrossAttnDownBlock2D" if look else "DownBlock2D" for look in levels]
    up = ["CrossAttnUpBlock2D" if look else "UpBlock2D" for look in reversed(levels)]
    theirs = scattered(
        UNet2DConditionModel(
            in_channels=3,
            out_channels=3,
            block_out_channels=channels,
            layers_per_block=layers,
            down_block_types=down,
            up_block_types=up,
            cross_attention_dim=20,
            attention_head_dim=tuple(c // 16 for c in channels),  # their name for num_heads
            norm_num_groups=8,
        )
    )
    ours = TextUNet(3, 3, 20, head_channels=16, norm_groups=8, block_channels=channels,
                    layers_per_block=layers, attention_levels=levels).eval()  # fmt: skip
    state = unet2d_condition_state_dict(theirs.state_dict())
    assert set(state) == set(ours.state_dict())
    ours.load_state_dict(state)
    x_t, t = torch.randn(3, 3, 8, 12), torch.tensor([0, 400, 999])
    context, mask = torch.randn(3, 5, 20), some_words(3, 5)
    with torch.no_grad():
        expected = theirs(x_t, t, context, encoder_attention_mask=mask.long()).sample
        torch.testing.assert_close(ours(x_t, t, context, mask), expected, **CLOSE)
        assert (ours(x_t, t, context) - expected).abs().max() > 1e-3, "the mask must matter"


TINY = {"block_channels": (16, 32), "head_channels": 8, "norm_groups": 8, "context_dim": 12}


def test_scene_denoiser_listens_to_its_words():
    model = scattered(SceneDenoiser(vocabulary_size=9, max_length=6, **TINY))
    x_t, t = torch.randn(3, 3, 8, 8), torch.tensor([5, 500, 999])
    tokens = torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0], [6, 0, 0, 0]])
    noise_pred = model(x_t, t, tokens, tokens != 0)
    assert noise_pred.shape == x_t.shape and model.alphas_cumprod.shape == (1000,)
    swapped = tokens.clone()
    swapped[0, 1] = 7
    changed = (model(x_t, t, swapped, tokens != 0) - noise_pred).abs().amax(dim=(1, 2, 3))
    assert changed[0] > 1e-4 and not changed[1:].any(), "a word steers its own picture only"
    padded = F.pad(tokens, (0, 2))
    torch.testing.assert_close(model(x_t, t, padded, padded != 0), noise_pred, **CLOSE)
    nothing = torch.zeros_like(tokens, dtype=torch.bool)
    assert torch.equal(model(x_t, t, tokens, nothing), model(x_t, t, swapped, nothing))


def test_the_mean_word_counts_words_only():
    context = torch.tensor([[[1.0], [3.0], [100.0]], [[5.0], [7.0], [9.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_word(context, mask).tolist() == [[2.0], [0.0]]


def test_scores_do_not_overflow_in_half_precision():
    """64 products of 40 · 40 come to more than float16 holds; divided by √64 first, they fit."""
    query = torch.full((1, 2, 64), 40.0, dtype=torch.float16)
    key = query * torch.tensor([1.0, 0.5])[:, None].half()
    value = torch.randn(1, 2, 3).half()
    output, weights = scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(output, F.scaled_dot_product_attention(query, key, value))
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2).half())


def tensors(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    return [torch.randn(shape) for shape in shapes]


ATTEND = CrossAttention(8, 6, 2, 4)
PICTURE = SpatialTransformer(8, 2, 4, 6, norm_groups=4)
X, CONTEXT = tensors((2, 5, 8), (2, 3, 6))
NAN = torch.full((2, 5, 4), float("nan"))
LOOKUP = tensors((2, 5, 4), (2, 3, 4), (2, 3, 4))
BAD = [
    ("same last size", lambda: scaled_dot_product_attention(*tensors((2, 4), (3, 5), (3, 5)))),
    ("one row a word", lambda: scaled_dot_product_attention(*tensors((2, 4), (3, 4), (2, 4)))),
    ("at least one", lambda: scaled_dot_product_attention(*tensors((2, 4), (0, 4), (0, 4)))),
    ("query needs two", lambda: scaled_dot_product_attention(*tensors((4,), (3, 4), (3, 4)))),
    ("query must be finite", lambda: scaled_dot_product_attention(NAN, *LOOKUP[1:])),
    ("mask must be bool", lambda: scaled_dot_product_attention(*LOOKUP, torch.ones(2, 5, 3))),
    ("mask must broadcast", lambda: scaled_dot_product_attention(*LOOKUP, torch.ones(2, 5, 4) > 0)),
    ("mask must broadcast", lambda: scaled_dot_product_attention(*LOOKUP, torch.ones(2, 4, 3) > 0)),
    ("mask must broadcast", lambda: scaled_dot_product_attention(*LOOKUP, torch.ones(3, 1, 3) > 0)),
    (
        "mask must broadcast",
        lambda: scaled_dot_product_attention(*LOOKUP, torch.ones(4, 1, 1, 1) > 0),
    ),
    (
        "all sizes but",
        lambda: scaled_dot_product_attention(*tensors((2, 5, 4), (3, 3, 4), (3, 3, 4))),
    ),
    ("x must have shape", lambda: split_heads(torch.zeros(4, 8), 2)),
    ("must divide", lambda: split_heads(X, 3)),
    ("must divide", lambda: split_heads(X, 0)),
    ("x must have shape", lambda: merge_heads(X)),
    ("x must be", lambda: ATTEND(torch.zeros(2, 5, 6), CONTEXT)),
    ("context must be", lambda: ATTEND(X, torch.zeros(2, 3, 8))),
    ("at least one word", lambda: ATTEND(X, torch.zeros(2, 0, 6))),
    ("words for 3", lambda: ATTEND(X, torch.zeros(3, 3, 6))),
    ("context_mask must be bool", lambda: ATTEND(X, CONTEXT, torch.ones(2, 3))),
    ("context_mask must be", lambda: ATTEND(X, CONTEXT, torch.ones(2, 4) > 0)),
    ("x must be", lambda: PICTURE(X, CONTEXT)),
    ("x must be", lambda: PICTURE(torch.zeros(2, 6, 3, 3), CONTEXT)),
]


@pytest.mark.parametrize("message, call", BAD)
def test_bad_input_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_bad_words_are_named():
    words = WordEncoder(5, 4, max_length=3)
    assert words(torch.zeros(0, 2).long()).shape == (0, 2, 4), "no captions are no mistake"
    for tokens in (torch.tensor([[5]]), torch.tensor([[-1]])):
        with pytest.raises(ValueError, match=r"0\.\.4 \(the vocabulary\)"):
            words(tokens)
    for tokens in (torch.zeros(1, 4).long(), torch.zeros(1, 2), torch.zeros(2, 0).long()):
        with pytest.raises(ValueError, match="tokens must be"):
            words(tokens)
    model = SceneDenoiser(5, max_length=3, **TINY)
    x_t, t, tokens = torch.randn(1, 3, 8, 8), torch.tensor([3]), torch.tensor([[1, 2]])
    with pytest.raises(ValueError, match="mask must be"):
        model(x_t, t, tokens, torch.ones(1, 2))
    with pytest.raises(ValueError, match="x_t must be finite"):
        model(x_t * float("nan"), t, tokens, tokens > 0)
    unet, context = model.denoiser.unet, torch.randn(1, 2, 64)
    picture, cond = torch.randn(1, 12, 4, 4), torch.randn(1, 4 * unet.embedding_channels)
    with pytest.raises(ValueError, match="t must be finite"):
        unet(picture, torch.tensor([math.nan]), context)
    with pytest.raises(ValueError, match="cond must be finite"):
        unet(picture, t, context, cond=cond * math.nan)
    with pytest.raises(ValueError, match=r"cond must be \(B, \.\.\.\) like x_t's 2"):
        unet(picture.expand(2, -1, -1, -1), t.expand(2), context.expand(2, -1, -1), cond=cond)
    with pytest.raises(ValueError, match="x_t must be .* and t"):
        model.denoiser.unet(torch.randn(1, 12, 4, 4), torch.tensor([1, 2]), torch.randn(1, 2, 12))
