"""Looking on, from outside, while a network works: what goes into each layer, and what comes out.

    with watching(model, after=lambda name, layer, inputs, output: print(name, output.shape)):
        model(x_t, t)

torch's forward hooks do the same, but layer.forward(x) goes past them; and who writes a network of
their own may well call its layers so.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

Before = Callable[[str, nn.Module, tuple], object]
After = Callable[[str, nn.Module, tuple, Tensor | tuple], object]


@contextmanager
def watching(
    model: nn.Module, before: Before | None = None, after: After | None = None
) -> Iterator[None]:
    """Look at the model and at each of its layers whenever they run, for a while.

    Args:
        model: is called as usual meanwhile, and is afterwards what it was.
        before: called with (name, layer, inputs) before a layer runs; the model's own name is "".
            What was given by name is among the inputs at its place in the layer's signature.
        after: called with (name, layer, inputs, output) when it has run.
    """
    layers = dict(model.named_modules())
    own = {name: vars(layer).get("forward") for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.forward = _watched(name, layer, before, after)
    try:
        yield
    finally:
        for name, layer in layers.items():
            del layer.forward  # the class's own comes back
            if own[name] is not None:
                layer.forward = own[name]


def _watched(
    name: str, layer: nn.Module, before: Before | None, after: After | None
) -> Callable[..., Tensor]:
    forward = layer.forward

    def look_on(*inputs, **named) -> Tensor:
        given = _in_order(forward, inputs, named) if named else inputs
        if before is not None:
            before(name, layer, given)
        output = forward(*inputs, **named)
        if after is not None:
            after(name, layer, given, output)
        return output

    return look_on


def _in_order(forward: Callable, inputs: tuple, named: dict) -> tuple:
    bound = inspect.signature(forward).bind(*inputs, **named)
    bound.apply_defaults()
    return tuple(bound.arguments.values())
