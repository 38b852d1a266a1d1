"""What passes between the grader and a worker: a JSON header and raw tensor bytes, never pickle.

This file is copied into the sandbox, so it imports nothing of the project.
"""

import json
import math
import struct
import time
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

MAX_HEADER = 4_000_000  # bytes
MAX_PAYLOAD = 256_000_000  # bytes
MAX_DEPTH = 20
DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_LENGTHS = struct.Struct("<II")


class WireError(Exception):
    """The other side sent something that cannot be read, or hung up."""


class Foreign:
    """Stands for a value that cannot cross: only the name of its type is known."""

    def __init__(self, type_name: str):
        self.type_name = type_name

    def __repr__(self) -> str:
        return f"<a {self.type_name}>"


class Reference:
    """Stands for an object that stays on the other side: kind "handle" or "callback"."""

    def __init__(self, kind: str, number: int):
        self.kind, self.number = kind, number


def pack(message: dict[str, Any]) -> bytes:
    """Turn a message of plain values, tensors and references into bytes."""
    tensors: dict[str, Tensor] = {}
    header = json.dumps(_encode(message, tensors, 0)).encode()
    payload = save(tensors) if tensors else b""
    if len(header) > MAX_HEADER or len(payload) > MAX_PAYLOAD:
        raise WireError(f"a message of {(len(header) + len(payload)) / 1e6:.0f} MB is too large")
    return _LENGTHS.pack(len(header), len(payload)) + header + payload


class Connection:
    """Messages over a pair of byte functions.

    Args:
        read: read(n, deadline) returns 1 to n bytes, b"" at the end; raises TimeoutError.
        write: write(data, deadline) writes all of it.
    """

    def __init__(self, read, write):
        self._read, self._write = read, write

    def send(self, message: dict[str, Any], deadline: float | None = None) -> None:
        self._write(pack(message), deadline)

    def receive(self, deadline: float | None = None) -> dict[str, Any]:
        """The next message.

        Args:
            deadline: time.monotonic() after which to raise TimeoutError, or None to wait.

        Raises:
            WireError: the other side hung up or sent nonsense.
        """
        header_size, payload_size = _LENGTHS.unpack(self._exactly(_LENGTHS.size, deadline))
        if header_size > MAX_HEADER or payload_size > MAX_PAYLOAD:
            raise WireError("the answer is too large")
        header = self._exactly(header_size, deadline)
        payload = self._exactly(payload_size, deadline)
        try:
            tensors = {k: _truthful(t) for k, t in load(payload).items()} if payload else {}
            message = _decode(json.loads(header), tensors, 0)
        except Exception as error:  # whatever a hostile sender can provoke in a parser
            raise WireError("the answer is malformed") from error
        if not isinstance(message, dict):
            raise WireError("the answer is malformed")
        return message

    def _exactly(self, size: int, deadline: float | None) -> bytes:
        parts = []
        while size:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError
            part = self._read(min(size, 1 << 20), deadline)
            if not part:
                raise WireError("the other side hung up")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _encode(value: Any, tensors: dict[str, Tensor], depth: int) -> Any:
    if depth > MAX_DEPTH:
        return {"$foreign": "deeply nested container"}
    if value is None or isinstance(value, bool | str):
        return value
    if type(value) is int:
        return value if abs(value) < 2**63 else {"$foreign": "huge int"}
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, Tensor):
        return _encode_tensor(value, tensors)
    if isinstance(value, torch.dtype):
        return {"$dtype": str(value).removeprefix("torch.")}
    if isinstance(value, Reference):
        return {"$" + value.kind: value.number}
    if type(value) is list:
        return [_encode(item, tensors, depth + 1) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [_encode(item, tensors, depth + 1) for item in value]}
    if isinstance(value, dict):
        items = [[str(key), _encode(item, tensors, depth + 1)] for key, item in value.items()]
        return {"$dict": items}
    return {"$foreign": type(value).__name__[:80]}


def _encode_tensor(value: Tensor, tensors: dict[str, Tensor]) -> Any:
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        return {"$foreign": f"{value.layout} tensor on {value.device}"}
    if value.numel() * value.element_size() > MAX_PAYLOAD:
        raise WireError(f"a tensor of shape {tuple(value.shape)} is far larger than expected")
    key = str(len(tensors))
    tensors[key] = torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
    return {"$tensor": key}


def _truthful(tensor: Tensor) -> Tensor:
    """The tensor; truth values of 0 and 1 only, for a sender can put other bytes there."""
    return tensor.view(torch.uint8) != 0 if tensor.dtype == torch.bool else tensor


def _decode(value: Any, tensors: dict[str, Tensor], depth: int) -> Any:
    if depth > 2 * MAX_DEPTH + 2:
        raise WireError("the answer is nested too deeply")
    if isinstance(value, list):
        return [_decode(item, tensors, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    if tag == "$tensor":
        return tensors[content]
    if tag == "$tuple":
        return tuple(_decode(item, tensors, depth + 1) for item in content)
    if tag == "$dict":
        return {str(key): _decode(item, tensors, depth + 1) for key, item in content}
    if tag == "$float":
        return float(content)
    if tag == "$dtype":
        return DTYPES[content]
    if tag in ("$handle", "$callback"):
        return Reference(tag[1:], int(content))
    if tag == "$foreign":
        return Foreign(str(content)[:80])
    raise WireError("the answer is malformed")
