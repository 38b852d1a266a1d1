"""Looking on from outside: all layers are seen, however they are called, and left as they were."""

import pytest
import torch
from torch import Tensor, nn

from t2i.dit import DiTBlock, modulate
from t2i.drawing.show_blocks import block_shapes
from t2i.drawing.show_unet import watch
from t2i.engine.watching import watching
from t2i.unet import UNet
from t2i.unet_blocks import ResBlock


class Sum(nn.Module):
    def forward(self, first, second=None, third=3):
        return first + (0 if second is None else second) + third


class Calls(nn.Module):
    """Calls its layer in three ways."""

    def __init__(self):
        super().__init__()
        self.layer = Sum()

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        x = self.layer.forward(x, second=x)
        return self.layer(third=2 * x, first=x)


def test_all_calls_are_seen_in_order_with_their_inputs_in_order():
    model, seen = Calls(), []
    note = lambda *what: seen.append(what)  # noqa: E731
    with watching(model, before=note, after=note):
        out = model(torch.ones(2))
    assert out.tolist() == [33, 33] == model(torch.ones(2)).tolist()  # 1, 4, 11, 11 + 22
    one, four, eleven = (torch.full((2,), float(n)) for n in (1, 4, 11))
    layer = model.layer
    expected = [
        ("", model, (one,)),
        ("layer", layer, (one,)), ("layer", layer, (one,), four),
        ("layer", layer, (four, four, 3)), ("layer", layer, (four, four, 3), eleven),
        ("layer", layer, (eleven, None, 2 * eleven)),
        ("layer", layer, (eleven, None, 2 * eleven), out),
        ("", model, (one,), out),
    ]  # fmt: skip
    torch.testing.assert_close([w[2:] for w in seen], [w[2:] for w in expected])
    assert [w[:2] for w in seen] == [w[:2] for w in expected]


def test_afterwards_nothing_is_left_even_after_an_error():
    model, seen = Calls(), []
    own = lambda x: x  # noqa: E731
    model.layer.forward = own
    look = lambda *_: seen.append(1)  # noqa: E731
    with pytest.raises(RuntimeError, match="mine"), watching(model, look):
        with watching(model, look):  # inside another one
            model.layer(torch.ones(1))
        assert len(seen) == 2
        model.layer(torch.ones(1))
        assert len(seen) == 3
        raise RuntimeError("mine")
    assert model.layer.forward is own and "forward" not in vars(model)


def test_a_wrong_call_fails_as_it_would_without_a_watcher():
    model = Sum()
    with pytest.raises(TypeError, match="fourth"), watching(model, print):
        model(torch.ones(1), fourth=1)


def test_lesson_9_sees_the_parts_of_a_block_that_calls_forward_itself(monkeypatch):
    def forward(self, x, c):
        modulation = self.modulation.forward(c).chunk(6, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation
        seen = self.attn.forward(modulate(self.norm1.forward(x), shift1, scale1))
        x = x + gate1[:, None] * seen
        return x + gate2[:, None] * self.mlp.forward(modulate(self.norm2(x), shift2, scale2))

    block, x, c = DiTBlock(8, 2), torch.randn(3, 5, 8), torch.randn(3, 8)
    shapes = block_shapes(block, x, c)
    assert shapes["modulation"] == "3×48" and len(shapes) == 8
    monkeypatch.setattr(DiTBlock, "forward", forward)
    assert block_shapes(block, x, c) == shapes


def test_lesson_2_sees_blocks_that_are_called_by_forward(monkeypatch):
    small = {"block_channels": (8, 16), "attention_levels": (False, True), "norm_groups": 4}
    model = UNet(1, 1, layers_per_block=1, head_channels=8, **small)
    x_t, t = torch.randn(2, 1, 8, 8), torch.tensor([3, 5])
    slabs = watch(model, x_t, t)
    assert [slab.kind for slab in slabs].count("resize") == 2 and slabs[0].name == "conv_in"
    past_the_hooks = lambda self, *inputs: self.forward(*inputs)  # noqa: E731
    monkeypatch.setattr(ResBlock, "__call__", past_the_hooks)
    assert watch(model, x_t, t) == slabs
