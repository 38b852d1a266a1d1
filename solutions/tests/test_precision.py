"""The numbers of a training on a processor: bfloat16 where it has it, and attention as products."""

import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F

from t2i.clip import CLIP, ImageEncoder, TextTransformer, contrastive_loss
from t2i.engine import precision
from t2i.engine.precision import MultipliedOut, fastest_precision, gpu_precision, multiplied_out

QUERY, KEY, VALUE = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 4)
SEEN = torch.tensor([True, True, False, True, False, True, True]).expand(2, 1, 1, 7)


NOWHERE = SEEN & torch.tensor([True, False])[:, None, None, None]  # the second row sees nothing


@pytest.mark.parametrize("mask", [None, SEEN, NOWHERE, torch.rand(5, 7) < 0.5])
def test_multiplied_out_is_torchs_attention(mask):
    wanted = F.scaled_dot_product_attention(QUERY, KEY, VALUE, attn_mask=mask)
    torch.testing.assert_close(multiplied_out(QUERY, KEY, VALUE, mask), wanted)


def test_attention_is_multiplied_out_while_it_lasts_and_only_plain_attention(monkeypatch):
    calls = []
    monkeypatch.setattr(precision, "multiplied_out", lambda *args, **named: calls.append(named))
    with MultipliedOut():
        F.scaled_dot_product_attention(QUERY, KEY, VALUE, attn_mask=SEEN)
        F.scaled_dot_product_attention(QUERY, KEY, VALUE, attn_mask=torch.zeros(5, 7))
        seen = F.scaled_dot_product_attention(QUERY, KEY, VALUE, is_causal=True)
        F.scaled_dot_product_attention(QUERY, KEY, VALUE, SEEN)
        F.scaled_dot_product_attention(QUERY, KEY, VALUE, None, 0.0)
        F.scaled_dot_product_attention(QUERY, KEY, VALUE, torch.zeros(5, 7))
    assert [list(named) for named in calls] == [["attn_mask"], []]
    torch.testing.assert_close(
        seen, F.scaled_dot_product_attention(QUERY, KEY, VALUE, None, 0, True)
    )
    F.scaled_dot_product_attention(QUERY, KEY, VALUE)
    assert len(calls) == 2


def test_only_a_gpu_draws_in_bfloat16(monkeypatch):
    """On a processor that is fast at bfloat16, too, pictures are float32's."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    with gpu_precision(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    asked = []
    monkeypatch.setattr(precision, "fastest_precision", lambda d: asked.append(d) or nullcontext())
    for name in ("cpu", "cuda"):
        with gpu_precision(torch.device(name)):
            pass
    assert asked == [torch.device("cuda")]


def test_clips_logits_keep_their_differences_under_autocast():
    """Pictures of one kind, almost alike, at the largest scale: bfloat16 is wrong by 1 %."""
    torch.manual_seed(0)
    images, texts = (torch.randn(16) + 0.05 * torch.randn(8, 16) for _ in "it")
    scale = torch.tensor(math.log(100.0))
    expected = contrastive_loss(images.double(), texts.double(), scale.double())
    model = CLIP(TextTransformer(3, 2, 8, 1, 2), ImageEncoder(8, 8, 8, 1, 2), 16)
    model.logit_scale.data = scale
    model.encode_images, model.encode_texts = lambda _: images, lambda _: texts
    with torch.autocast("cpu", torch.bfloat16):
        found = model(images, texts)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_gradients_agree_in_bfloat16(monkeypatch):
    """As near to float32's as torch's own attention comes, within its rounding."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    query = QUERY.clone().requires_grad_()
    F.scaled_dot_product_attention(query, KEY, VALUE, attn_mask=SEEN).square().sum().backward()
    exact, query.grad = query.grad, None
    with fastest_precision(torch.device("cpu")):
        F.scaled_dot_product_attention(query, KEY, VALUE, attn_mask=SEEN).square().sum().backward()
    assert (query.grad - exact).norm() < 0.02 * exact.norm() and query.grad.dtype == torch.float32
