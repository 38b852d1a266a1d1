"""The protocol: what crosses unchanged, and what a hostile sender cannot do."""

import io

import pytest
import torch

from autograder.wire import Connection, Foreign, Reference, WireError, pack


def across(message: dict) -> dict:
    stream = io.BytesIO(pack(message))
    return Connection(lambda size, _: stream.read(size), None).receive()


@pytest.mark.parametrize(
    "value",
    [None, True, -3, 2.5, float("inf"), "ᾱ", [1, [2.0, "x"]], (1, (2,)), {"a": {"b": None}}],
)
def test_plain_values_cross_unchanged(value):
    assert across({"value": value})["value"] == value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("shape", [(), (0,), (3, 1, 5)])
def test_tensors_cross_bit_for_bit(dtype, shape):
    sent = torch.arange(15).to(dtype)[: max(1, torch.Size(shape).numel())]
    sent = sent[: torch.Size(shape).numel()].reshape(shape).requires_grad_(dtype.is_floating_point)
    got = across({"value": sent})["value"]
    assert got.dtype == dtype and got.shape == shape and torch.equal(got, sent)


def test_a_transposed_tensor_crosses_with_its_values():
    sent = torch.arange(6.0).reshape(2, 3).T
    assert torch.equal(across({"value": sent})["value"], sent)


def test_two_views_of_one_tensor_cross():
    whole = torch.arange(4.0)
    got = across({"value": [whole, whole[1:]]})["value"]
    assert torch.equal(got[1], whole[1:])


def test_what_cannot_cross_is_named():
    got = across({"value": object()})["value"]
    assert isinstance(got, Foreign) and got.type_name == "object"
    assert across({"value": Reference("handle", 3)})["value"].number == 3


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        b"\x02\0\0\0\0\0\0\0[]",
        b"\x04\0\0\0\0\0\0\0null",
        b'\x10\0\0\0\0\0\0\0{"$tensor": "0"}',
        b"\x02\0\0\0\x05\0\0\0{}hello",
    ],
)
def test_nonsense_raises_a_wire_error(data):
    stream = io.BytesIO(data)
    with pytest.raises(WireError):
        Connection(lambda size, _: stream.read(size), None).receive()
