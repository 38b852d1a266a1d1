"""Our DiT and our joint block with diffusers' weights give diffusers' numbers; zeros stay zeros."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import DiTTransformer2DModel
from diffusers.models.attention import JointTransformerBlock
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import nn

from t2i.clip_layers import EncoderLayer
from t2i.dit import DiT, DiTBlock, FinalLayer, modulate, time_clocks
from t2i.joint import JointAttentionBlock, JointDiT, joint_mask
from t2i.patches import patchify, sincos_position_embedding_2d, unpatchify
from t2i.pretrained.dit_files import (
    dit_from_config,
    dit_state_dict,
    joint_state_dict,
    share_embedding,
)

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def scattered(module: nn.Module) -> nn.Module:
    """Every weight random, the zeros of adaLN-Zero too, so that no part can hide."""
    generator = torch.Generator().manual_seed(3)
    for p in module.parameters():
        spread = 0.8 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.2
        p.data = 0.5 * p.data + spread * torch.randn(p.shape, generator=generator)
    return module.eval()


# --- patches and places


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (3, 2, 6, 10), (2, 5, 2, 8)])
@pytest.mark.parametrize("patch_size", [1, 2])
def test_patches_are_what_a_convolution_sees(shape, patch_size):
    x, p = torch.randn(shape), patch_size
    patches = patchify(x, p)
    assert torch.equal(unpatchify(patches, p, *shape[2:]), x)
    weight = torch.randn(7, shape[1], p, p)
    expected = F.conv2d(x, weight, stride=p).flatten(2).transpose(1, 2)
    ours = F.linear(patches, weight.permute(0, 2, 3, 1).flatten(1))
    torch.testing.assert_close(ours, expected, **CLOSE)
    columns = F.unfold(x, p, stride=p).unflatten(1, (shape[1], p * p))  # (B, C, p·p, N)
    assert torch.equal(patches, columns.permute(0, 3, 2, 1).flatten(2))


@pytest.mark.parametrize("dim, size", [(8, 1), (32, 4), (96, 7), (1152, 16)])
def test_positions_equal_diffusers(dim, size):
    expected = get_2d_sincos_pos_embed(dim, size, base_size=size, output_type="pt").float()
    torch.testing.assert_close(sincos_position_embedding_2d(dim, size, size), expected, **CLOSE)


def test_positions_of_a_grid_that_is_not_square():
    """Closed form: sines and cosines of the column, then of the row."""
    table, omega = sincos_position_embedding_2d(8, 2, 3), torch.tensor([1.0, 0.01])
    for y in range(2):
        for x in range(3):
            parts = [f(n * omega) for n in (x, y) for f in (torch.sin, torch.cos)]
            torch.testing.assert_close(table[3 * y + x], torch.cat(parts), **CLOSE)


def test_the_same_step_looks_the_same_everywhere():
    """The scalar product of two places depends on the distance alone."""
    table = sincos_position_embedding_2d(64, 6, 6).double().unflatten(0, (6, 6))
    moved = (table[1:, 2:] * table[:-1, :-2]).sum(-1)
    torch.testing.assert_close(moved, moved[0, 0].expand_as(moved), rtol=1e-5, atol=1e-5)


def test_modulate():
    x, shift, scale = torch.randn(2, 5, 3), torch.randn(2, 3), torch.randn(2, 3)
    out = modulate(x, shift, scale)
    torch.testing.assert_close(out[1, 4], x[1, 4] * (1 + scale[1]) + shift[1])
    assert torch.equal(modulate(x, 0 * shift, 0 * scale), x)


# --- the same numbers as diffusers

SIZES = [  # heads, head_dim, channels, out_channels, layers, sample_size, patch_size, classes
    (2, 8, 4, None, 2, 8, 2, 10),
    (3, 16, 3, 6, 1, 6, 1, 4),
    (4, 12, 1, None, 3, 16, 4, 1000),
    (6, 64, 4, 8, 1, 8, 2, 1000),  # the width of DiT-S
]


def their_dit(heads, head_dim, channels, out, layers, size, patch, classes, **config):
    return DiTTransformer2DModel(
        heads,
        head_dim,
        channels,
        out,
        layers,
        sample_size=size,
        patch_size=patch,
        num_embeds_ada_norm=classes,
        **config,
    )


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("config", [{}, {"norm_eps": 1e-6}])
def test_dit_equals_diffusers(sizes, config):
    theirs = scattered(their_dit(*sizes, **config))
    theirs.load_state_dict(share_embedding(theirs.state_dict()))
    ours = dit_from_config(theirs.config).eval()
    ours.load_state_dict(dit_state_dict(theirs.state_dict()))
    classes, size = sizes[7], sizes[5]
    x_t, t = torch.randn(3, sizes[2], size, size), torch.tensor([0, 413, 999])
    label = torch.tensor([0, classes - 1, classes])  # the last: no class
    with torch.no_grad():
        expected = theirs(x_t, t, label).sample
        torch.testing.assert_close(ours(x_t, t, label), expected, **CLOSE)
    assert expected.std() > 0.3


def test_released_sizes_have_the_same_tensors():
    """DiT-XL/2 (675 million weights), built without memory: names and shapes alone."""
    sizes = (16, 72, 4, 8, 28, 32, 2, 1000)
    with torch.device("meta"):
        theirs, ours = their_dit(*sizes), dit_from_config(their_dit(*sizes).config)
    renamed = {}
    for name, tensor in share_embedding(theirs.state_dict()).items():
        renamed[name] = torch.zeros(1).expand(tensor.shape)
    found = {name: tensor.shape for name, tensor in dit_state_dict(renamed).items()}
    assert found == {name: tensor.shape for name, tensor in ours.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == 674_834_720


def test_other_embeddings_in_other_blocks_are_refused():
    theirs = scattered(their_dit(2, 8, 4, None, 2, 8, 2, 10))
    with pytest.raises(ValueError, match="differs from the first block"):
        dit_state_dict(theirs.state_dict())
    with pytest.raises(ValueError, match="our DiT knows True alone"):
        dit_from_config(dict(theirs.config) | {"attention_bias": False})


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize(
    "batch, heads, head_dim, patches, words", [(2, 2, 8, 6, 3), (3, 3, 4, 1, 7)]
)
def test_joint_block_equals_diffusers(batch, heads, head_dim, patches, words, ends, qk_norm):
    dim = heads * head_dim
    theirs = scattered(
        JointTransformerBlock(dim, heads, head_dim, ends, qk_norm="rms_norm" if qk_norm else None)
    )
    ours = JointAttentionBlock(dim, heads, ends, qk_norm).eval()
    ours.load_state_dict(joint_state_dict(theirs.state_dict()))
    x, context = torch.randn(batch, patches, dim), torch.randn(batch, words, dim)
    c, before = torch.randn(batch, dim), (x.clone(), context.clone())
    with torch.no_grad():
        expected_context, expected = theirs(x, context, c)
        out, out_context = ours(x, context, c)
    torch.testing.assert_close(out, expected, **CLOSE)
    assert (out_context is None) == ends
    if not ends:
        torch.testing.assert_close(out_context, expected_context, **CLOSE)
    assert torch.equal(x, before[0]) and torch.equal(context, before[1])


# --- adaLN-Zero


def test_a_new_block_changes_nothing():
    x, context, c = torch.randn(2, 5, 16), torch.randn(2, 3, 16), torch.randn(2, 16)
    assert torch.equal(DiTBlock(16, 2)(x, c), x)
    out, out_context = JointAttentionBlock(16, 2)(x, context, c)
    assert torch.equal(out, x) and torch.equal(out_context, context)
    assert not FinalLayer(16, 12)(x, c).any()


def test_nothing_undoes_the_zeros_of_a_whole_network():
    """A later re-initialisation of all layers is the classic mistake."""
    x_t, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 700])
    dit = DiT(3, sample_size=8, dim=16, depth=3, num_heads=2, num_classes=5)
    joint = JointDiT(3, context_dim=6, sample_size=8, dim=16, depth=3, num_heads=2)
    assert not dit(x_t, t, torch.tensor([0, 5])).any()
    assert not joint(x_t, t, torch.randn(2, 4, 6)).any()
    for model in (dit, joint):
        last = [m[1] for n, m in model.named_modules() if n.endswith("modulation")]
        assert len(last) == (4 if model is dit else 7)
        assert not any(p.any() for layer in last for p in layer.parameters())


def test_every_weight_learns_once_the_gates_are_open():
    dit = scattered(DiT(3, sample_size=(4, 6), dim=16, depth=2, num_heads=2, num_classes=5))
    joint = scattered(JointDiT(3, None, 6, (4, 6), 2, dim=16, depth=2, num_heads=2))
    x_t, t = torch.randn(2, 3, 4, 6), torch.tensor([3, 700])
    dit(x_t, t, torch.tensor([0, 5])).square().sum().backward()
    joint(x_t, t, torch.randn(2, 4, 6)).square().sum().backward()
    idle = [n for m in (dit, joint) for n, p in m.named_parameters() if not p.grad.any()]
    # the last block's words ask nothing any more: their query reaches nobody's eyes
    assert idle == [f"blocks.1.words.{n}" for n in ("to_q.weight", "to_q.bias", "norm_q.weight")]


# --- words


def test_masked_words_do_not_matter_and_no_words_are_fine():
    model = scattered(JointDiT(3, None, 6, 8, 4, dim=16, depth=2, num_heads=2))
    x_t, t, context = torch.randn(2, 3, 8, 8), torch.tensor([3, 700]), torch.randn(2, 4, 6)
    mask = torch.tensor([[True, True, False, False], [False] * 4])
    changed = torch.where(mask[..., None], context, 9.0)
    out = model(x_t, t, context, mask)
    torch.testing.assert_close(model(x_t, t, changed, mask), out, **CLOSE)
    assert (model(x_t, t, context) - out).abs().max() > 1e-3
    torch.testing.assert_close(model(x_t[:1], t[:1], context[:1, :2]), out[:1], **CLOSE)
    assert joint_mask(None, 4) is None
    assert joint_mask(mask, 2)[0, 0, 0].tolist() == [True] * 4 + [False] * 2


def test_words_look_at_the_picture():
    """What cross-attention cannot do: another picture, and the words change."""
    block = scattered(JointAttentionBlock(16, 2))
    x, context, c = torch.randn(2, 5, 16), torch.randn(2, 3, 16), torch.randn(2, 16)
    _, words = block(x, context, c)
    _, others = block(x.flip(0), context, c)
    assert (words - others).abs().amax(dim=(1, 2)).min() > 1e-3


DIT = DiT(3, sample_size=8, dim=16, depth=1, num_heads=2, num_classes=5)
JOINT = JointDiT(3, context_dim=6, sample_size=8, dim=16, depth=1, num_heads=2)
X, WORDS, SEEN = torch.randn(2, 3, 8, 8), torch.randn(2, 4, 6), torch.ones(2, 4) > 0
T, LABEL = torch.tensor([3, 7]), torch.tensor([0, 5])
BAD = [
    (r"x must have shape", lambda: patchify(X[0], 2)),
    ("whole patches", lambda: patchify(X, 3)),
    ("whole patches", lambda: patchify(X, 0)),
    ("patches must be", lambda: unpatchify(torch.zeros(2, 15, 12), 2, 8, 8)),
    ("patches must be", lambda: unpatchify(torch.zeros(2, 16, 11), 2, 8, 8)),
    ("whole patches", lambda: unpatchify(torch.zeros(2, 16, 12), 2, 8, 9)),
    ("multiple of 4", lambda: sincos_position_embedding_2d(6, 2, 2)),
    ("not empty|empty", lambda: sincos_position_embedding_2d(8, 0, 2)),
    (r"shift \(B, D\)", lambda: modulate(torch.zeros(2, 5, 3), torch.zeros(2, 4), LABEL)),
    (r"scale \(B, D\)", lambda: modulate(*(torch.zeros(s) for s in ((2, 5, 3), (2, 3), (3,))))),
    ("x_t must be", lambda: DIT(X[:, :, :6], T, LABEL)),
    ("t must be", lambda: DIT(X, T[:1], LABEL)),
    ("label must lie", lambda: DIT(X, T, LABEL + 1)),
    (r"label must be \(B,\) = \(2,\)", lambda: DIT(X, T, LABEL[:1])),
    (r"label must be \(B,\) = \(2,\)", lambda: DIT(X, T, LABEL[0])),
    ("context_mask must be", lambda: joint_mask(torch.ones(2, 3), 4)),
    ("whole patches", lambda: DiT(3, sample_size=9)),
    ("whole patches", lambda: JointDiT(3, sample_size=9)),
    ("num_heads 3 must divide the 10 channels", lambda: DiTBlock(10, 3)),
    ("num_heads 3 must divide dim 10", lambda: JointAttentionBlock(10, 3)),
    ("num_heads 3 must divide the 10 channels", lambda: EncoderLayer(10, 3)),
    (r"context must be \(B, L, 6\) with B = 2", lambda: JOINT(X, T, WORDS[:, :, :5])),
    (r"context must be \(B, L, 6\) with B = 2", lambda: JOINT(X, T, WORDS[:1])),
    (r"context_mask must be \(B, L\) = \(2, 4\)", lambda: JOINT(X, T, WORDS, SEEN[:, :3])),
    (r"context_mask must be \(B, L\) = \(2, 4\)", lambda: JOINT(X, T, WORDS, SEEN[:1])),
    (r"cond must be \(B, dim\) = \(2, 16\)", lambda: JOINT(X, T, WORDS, SEEN, X[:1, 0, 0, :1])),
    (r"cond must be \(B, dim\) = \(2, 16\)", lambda: JOINT(X, T, WORDS, SEEN, torch.ones(1, 16))),
]


@pytest.mark.parametrize("message, call", BAD)
def test_bad_input_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_clocks_of_diffusers_dit():
    from diffusers.models.embeddings import get_timestep_embedding

    t = torch.tensor([0, 1, 57, 999])
    expected = get_timestep_embedding(t, 256, flip_sin_to_cos=True, downscale_freq_shift=1)
    torch.testing.assert_close(time_clocks(t), expected, rtol=0, atol=0)
