"""One test's conversation, on the learner's side: load their definitions, answer calls.

This file is copied into the sandbox beside wire.py.
"""

import contextlib
import linecache
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from wire import Connection, Reference, WireError

TORCH_CLASSES = {"Linear", "Conv2d", "BatchNorm2d", "HuberLoss"}
MAX_TEXT = 600
NOTEBOOK = "notebook"  # the module in which the learner's code believes itself
PLACE = "<notebook: "


class Callback(nn.Module):
    """A function of the grader's: calling it asks the grader."""

    def __init__(self, session: "Session", number: int):
        super().__init__()
        self._ask = lambda args, kwargs: session.ask(number, args, kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask(args, kwargs)


class Session:
    """Answers the grader's requests about one submission."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self.names: dict[str, Any] = {"__name__": NOTEBOOK}
        self.objects: list[Any] = []

    def serve(self) -> None:
        while True:
            request = self.connection.receive()
            try:
                operation = getattr(self, "do_" + request.pop("do"))
                reply = {"value": self.out(operation(**self.into(request)))}
            except Exception as error:
                reply = {"error": describe(error)}
            try:
                self.connection.send(reply)
            except WireError as error:
                self.connection.send({"error": describe(error)})

    def do_load(self, pieces: list[list[str]]) -> list[dict]:
        """Run the learner's definitions; a piece that fails doesn't stop the next."""
        module = type(sys)("notebook")
        module.__dict__.update(self.names)
        self.names = module.__dict__
        sys.modules["notebook"] = module
        failures = []
        for label, source in pieces:
            linecache.cache[f"{PLACE}{label}>"] = (
                len(source),
                None,
                source.splitlines(True),
                label,
            )
            try:
                exec(compile(source, f"{PLACE}{label}>", "exec"), self.names)
            except Exception as error:
                failures.append(describe(error))
        return failures

    def do_call(self, name: str, args: list, kwargs: dict) -> Any:
        if name not in self.names:
            raise NameError(f"name '{name}' is not defined")
        return self.names[name](*args, **kwargs)

    def do_new(self, name: str, args: list, kwargs: dict) -> Reference:
        return self.keep(self.do_call(name, args, kwargs))

    def do_new_torch(self, name: str, args: list, kwargs: dict) -> Reference:
        if name not in TORCH_CLASSES:
            raise ValueError(f"no torch class {name}")
        return self.keep(getattr(nn, name)(*args, **kwargs))

    def do_generator(self, seed: int) -> Reference:
        return self.keep(torch.Generator().manual_seed(seed))

    def do_hold(self, value: Tensor) -> Reference:
        return self.keep(value)

    def do_lend(self, name: str, function: Any) -> None:
        """From now on the notebook's code calls the grader's function of that name."""
        self.names[name] = function

    def do_elsewhere(self, value: Tensor) -> Reference:
        """The meta device has shapes and no numbers, and mixes with no other, like a GPU."""
        return self.keep(value.to("meta"))

    def do_method(self, target: Any, name: str, args: list, kwargs: dict) -> Any:
        return getattr(target, name)(*args, **kwargs)

    def do_get(self, target: Any, name: str) -> Any:
        return getattr(target, name)

    def do_pixels(self, target: Any) -> Tensor:
        """A PIL image as (height, width, channels)."""
        return torch.from_numpy(numpy.array(target))

    def do_state(self, target: nn.Module) -> dict:
        return dict(nn.Module.state_dict(target))

    def do_load_state(self, target: nn.Module, state: dict) -> None:
        nn.Module.load_state_dict(target, state)

    def do_grad(self, target: nn.Module, args: list, kwargs: dict) -> dict:
        """Output (a tensor, or several) and gradients of a fixed weighted sum of it."""
        leaves = [
            a.requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a
            for a in args
        ]
        target.zero_grad()
        output = target(*leaves, **kwargs)
        parts = output if isinstance(output, tuple | list) else (output,)
        weights = [torch.linspace(-1, 1, part.numel(), dtype=part.dtype) for part in parts]
        sum((p.flatten() * w).sum() for p, w in zip(parts, weights, strict=True)).backward()
        inputs = [a.grad if isinstance(a, Tensor) else None for a in leaves]
        parameters = {name: p.grad for name, p in target.named_parameters()}
        return {"output": output, "inputs": inputs, "params": parameters}

    def do_backward(self, target: Tensor) -> None:
        """From the sum: a gradient of one's own makes torch load 486 modules first (0.4 s)."""
        target.sum().backward()

    def ask(self, number: int, args: tuple, kwargs: dict) -> Any:
        """Call one of the grader's functions and wait for its answer."""
        message = {"callback": number, "args": self.out(list(args)), "kwargs": self.out(kwargs)}
        self.connection.send(message)
        reply = self.connection.receive()
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return self.into(reply["value"])

    def keep(self, thing: Any) -> Reference:
        self.objects.append(thing)
        return Reference("handle", len(self.objects) - 1)

    def into(self, value: Any) -> Any:
        """Turn references that came over the wire into what they stand for."""
        if isinstance(value, Reference):
            if value.kind == "handle":
                return self.objects[value.number]
            return Callback(self, value.number)
        if isinstance(value, list | tuple):
            return type(value)(self.into(item) for item in value)
        if isinstance(value, dict):
            return {key: self.into(item) for key, item in value.items()}
        return value

    def out(self, value: Any) -> Any:
        """Turn objects that cannot cross into references or leave them to be named."""
        for number, thing in enumerate(self.objects):
            if value is thing:
                return Reference("handle", number)
        if isinstance(value, nn.Module) or is_picture(value):  # a layer of a model, say
            return self.keep(value)
        if type(value) in (list, tuple):
            return type(value)(self.out(item) for item in value)
        return value


def is_picture(value: Any) -> bool:
    """Whether it is a PIL image; where there is one, PIL is loaded."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def describe(error: Exception) -> dict[str, Any]:
    """An exception as plain values: its type, its text, and the learner's line."""
    where = None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(PLACE):
            where = frame
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(PLACE):
        label, line, text = error.filename[len(PLACE) : -1], error.lineno, error.text
    elif where is not None:
        label, line, text = where.filename[len(PLACE) : -1], where.lineno, where.line
    else:
        label = line = text = None
    # a class of the learner's own counts as what it is made from: class Odd(ValueError)
    kind = next(each for each in type(error).__mro__ if each.__module__ != NOTEBOOK)
    try:
        message = str(error)[:MAX_TEXT]
    except Exception:
        message = ""
    return {
        "type": kind.__name__[:80],
        "message": message,
        "label": label,
        "line": line,
        "text": (text or "").strip()[:160],
    }


def serve(receive: Callable[[int], bytes], send: Callable[[bytes], None]) -> None:
    """Answer one test's requests until the grader hangs up."""
    connection = Connection(lambda size, _: receive(size), lambda data, _: send(data))
    with contextlib.suppress(WireError, OSError):
        Session(connection).serve()
