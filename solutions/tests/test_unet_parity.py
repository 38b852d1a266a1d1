"""Our UNet with diffusers' weights gives diffusers' numbers."""

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D

from t2i.attention import CrossAttention
from t2i.pretrained.convert import attention_state_dict, resnet_block_state_dict, unet2d_state_dict
from t2i.text_unet import TextUNet
from t2i.unet import UNet
from t2i.unet_blocks import ResBlock, SelfAttention2d

SIZES = [  # block_channels, layers_per_block, attention_levels, head_channels, (B, C, H, W)
    ((32,), 1, (False,), 8, (3, 1, 7, 9)),
    ((32,), 2, (True,), 8, (1, 3, 5, 6)),
    ((32, 64), 1, (False, True), 16, (3, 1, 14, 14)),
    ((32, 64), 2, (True, False), 32, (2, 4, 6, 10)),
    ((32, 48, 64), 1, (False, True, False), 16, (3, 3, 12, 20)),
    ((64, 32, 96), 3, (False, True, True), 32, (1, 1, 8, 16)),
]


def scattered(module: torch.nn.Module) -> torch.nn.Module:
    """Every weight random, so that no part can hide behind a zero or a one."""
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 0.5 * parameter.data + 0.05 * noise
    return module.eval()


def pair(block_channels, layers, attention_levels, head_channels, channels, groups=16):
    down = ["AttnDownBlock2D" if look else "DownBlock2D" for look in attention_levels]
    up = ["AttnUpBlock2D" if look else "UpBlock2D" for look in reversed(attention_levels)]
    theirs = UNet2DModel(
        in_channels=channels,
        out_channels=channels,
        block_out_channels=block_channels,
        layers_per_block=layers,
        down_block_types=down,
        up_block_types=up,
        attention_head_dim=head_channels,
        norm_num_groups=groups,
        norm_eps=1e-5,
        flip_sin_to_cos=True,
        freq_shift=0,
    )
    ours = UNet(channels, channels, block_channels, layers, attention_levels, head_channels, groups)
    scattered(theirs)
    ours.load_state_dict(unet2d_state_dict(theirs.state_dict()))
    return ours.eval(), theirs


@pytest.mark.parametrize("block_channels, layers, levels, head, shape", SIZES)
def test_unet_equals_diffusers(block_channels, layers, levels, head, shape):
    ours, theirs = pair(block_channels, layers, levels, head, shape[1])
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(shape, generator=generator)
    t = torch.randint(1000, (shape[0],), generator=generator)
    with torch.no_grad():
        expected = theirs(x_t, t).sample
        assert expected.std() > 0.05, "the comparison needs an output that is not nearly zero"
        torch.testing.assert_close(ours(x_t, t), expected, rtol=1e-5, atol=1e-5)
        other = ours(x_t, t.roll(1) if len(t) > 1 else t + 400)
        assert (other - expected).abs().max() > 1e-3, "the time must matter in this comparison"


@pytest.mark.parametrize(
    "shape, steps, match",
    [
        ((2, 1, 14, 15), 2, r"H and W divisible by 2, got \(2, 1, 14, 15\)"),
        ((1, 14, 14), 1, r"x_t must be \(B, C, H, W\)"),
        ((2, 1, 14, 14), 1, r"t must be one step a sample, \(2,\), got \(1,\)"),
    ],
)
def test_pictures_and_steps_of_another_shape_are_named(shape, steps, match):
    network = UNet(1, 1, (32, 64), attention_levels=(False, False))
    with pytest.raises(ValueError, match=match):
        network(torch.zeros(shape), torch.arange(steps))


@pytest.mark.parametrize(
    "block_channels, levels, head",
    [((64, 96), (False, True), 64), ((16, 32), (True, False), 32), ((16,), (False,), 32)],
)
def test_attention_that_was_asked_for_is_not_left_out(block_channels, levels, head):
    with pytest.raises(ValueError, match=f"head_channels {head} must divide"):
        UNet(1, 1, block_channels, attention_levels=levels, head_channels=head, norm_groups=8)
    usual = dict.fromkeys(("norm_groups", "context_dim"), 8)
    common = {"block_channels": block_channels, "attention_levels": levels} | usual
    with pytest.raises(ValueError, match=f"head_channels {head} must divide"):
        TextUNet(head_channels=head, **common)
    with pytest.raises(ValueError, match="num_heads 5 must divide"):
        TextUNet(num_heads=5, **common)
    made = TextUNet(num_heads=2, **common).modules()  # head_channels is not asked for then
    heads = [each.num_heads for each in made if isinstance(each, CrossAttention)]
    looks = 1 + 5 * sum(levels)  # in the middle, and per level 2 on the way down and 3 up
    assert heads == [2] * 2 * looks


def test_unet_gradients_equal_diffusers():
    ours, theirs = pair((32, 64), 1, (False, True), 16, 1)
    x_t, t = torch.randn(3, 1, 8, 12), torch.tensor([0, 500, 999])
    weights = torch.randn(3, 1, 8, 12)
    (ours(x_t, t) * weights).sum().backward()
    (theirs(x_t, t).sample * weights).sum().backward()
    expected = unet2d_state_dict({n: p.grad for n, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-3, msg=name)


def test_every_weight_has_a_place_and_strangers_are_named():
    ours, theirs = pair((32, 64), 2, (False, True), 16, 3)
    assert set(unet2d_state_dict(theirs.state_dict())) == set(ours.state_dict())
    with pytest.raises(KeyError, match="class_embedding"):
        unet2d_state_dict({"class_embedding.weight": torch.zeros(1)})


@pytest.mark.parametrize("channels", [(32, 32), (32, 64), (96, 32)])
def test_res_block_equals_diffusers(channels):
    theirs = scattered(
        ResnetBlock2D(
            in_channels=channels[0],
            out_channels=channels[1],
            temb_channels=24,
            groups=16,
            eps=1e-5,
        )
    )
    ours = ResBlock(*channels, emb_channels=24, norm_groups=16).eval()
    ours.load_state_dict(resnet_block_state_dict(theirs.state_dict()))
    x, emb = torch.randn(3, channels[0], 5, 8), torch.randn(3, 24)
    torch.testing.assert_close(ours(x, emb), theirs(x, emb), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_self_attention_equals_diffusers(heads):
    theirs = scattered(
        Attention(
            query_dim=32,
            heads=heads,
            dim_head=32 // heads,
            norm_num_groups=8,
            bias=True,
            eps=1e-5,
            residual_connection=True,
        )
    )
    ours = SelfAttention2d(32, heads, 8).eval()
    ours.load_state_dict(attention_state_dict(theirs.state_dict()))
    x = torch.randn(3, 32, 5, 8)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
