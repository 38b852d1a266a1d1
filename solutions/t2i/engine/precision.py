"""In which numbers a training computes: bfloat16 where the hardware is fast at it."""

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def native_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 itself; imitated, it is many times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return able.get("amx_bf16", False) or able.get("avx512_bf16", False)


@contextlib.contextmanager
def fastest_precision(device: torch.device) -> Iterator[None]:
    """bfloat16 where the hardware multiplies it natively, else plain float32.

    On a processor, torch's fused attention learns slowly in bfloat16 (2.14: the way back takes
    five times as long as in float32), and its plain one guards every row of the softmax against
    looking nowhere, which costs a sixth of a transformer's step. So there attention is
    multiplied out.
    """
    with contextlib.ExitStack() as stack:
        if native_bf16(device):
            stack.enter_context(torch.autocast(device.type, torch.bfloat16))
            if device.type == "cpu":
                stack.enter_context(MultipliedOut())
        yield


@contextlib.contextmanager
def gpu_precision(device: torch.device) -> Iterator[None]:
    """`fastest_precision` on a GPU; on a processor float32, so that all draw the same pictures."""
    with fastest_precision(device) if device.type == "cuda" else contextlib.nullcontext():
        yield


def full_precision(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same function of tensors, in float32 even where autocast would take bfloat16.

    For large numbers whose differences count: from 64 to 128 bfloat16 knows halves only.
    """

    def wide(*tensors: Tensor) -> Tensor:
        with torch.autocast(tensors[0].device.type, enabled=False):
            return function(*(x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors))

    return wide


def multiplied_out(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    """The same as F.scaled_dot_product_attention.

    softmax(query · keyᵀ / √d) · value

    Args:
        query: (..., N, d).  key: (..., L, d).  value: (..., L, e).
        attn_mask: bool, broadcasts to (..., N, L), True = may be looked at. A place that may look
            nowhere gets 0.

    Returns:
        (..., N, e).
    """
    scores = query * (1 / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)
    if attn_mask is None:
        return scores.softmax(dim=-1) @ value
    scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    seen, somewhere = scores.softmax(dim=-1) @ value, attn_mask.any(dim=-1, keepdim=True)
    return seen if somewhere.all() else seen.masked_fill(~somewhere, 0.0)


class MultipliedOut(TorchFunctionMode):
    """While it lasts, F.scaled_dot_product_attention is `multiplied_out`, if it asks no more."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and _asks_no_more(*args, **kwargs):
            return multiplied_out(*args, **kwargs)
        return func(*args, **kwargs)


def _asks_no_more(query, key, value, attn_mask=None, *more, **others) -> bool:
    """Whether multiplied_out does all that a call of torch's attention asks for."""
    return not more and not others and (attn_mask is None or attn_mask.dtype == torch.bool)
