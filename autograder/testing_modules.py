"""What hidden tests of layers share: weights for a learner's module, and its errors."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from autograder.remote import Handle, RemoteError
from autograder.testing import expect, expect_close, fail

PIECE_STOPS = (
    "A piece that this exercise runs raises an error, so it cannot be judged yet: mend the other "
    "exercise first."
)
OTHER_PIECES = "If the line is not in this exercise, mend the other exercise first: it runs here."
IN_PLACE = {  # hints for `ask`
    "inplace operation": "A value that the gradients still need was changed in place (with +=, or "
    "a method that ends in _): write x = x + … instead.",
    "": OTHER_PIECES,
}


def normal(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)


def shuffled(
    state: dict[str, Tensor], rng: torch.Generator, gain: float = 0.7
) -> dict[str, Tensor]:
    """Random weights everywhere, norms and biases too, so that none of them is idle.

    Args:
        gain: spread of a layer's answer for inputs of spread 1.
    """
    new = {}
    for name, p in state.items():
        scale = gain / max(1, p[0].numel()) ** 0.5 if p.ndim > 1 else 0.4
        is_norm = p.ndim == 1 and "norm" in name and "weight" in name  # no layer named after one
        middle = 1.0 if is_norm else 0.0
        new[name] = scale * normal(rng, *p.shape, dtype=p.dtype) + middle
    return new


def shuffle_weights(module: nn.Module, rng: torch.Generator, gain: float = 0.7) -> nn.Module:
    module.load_state_dict(shuffled(module.state_dict(), rng, gain))
    return module.eval()


def ask(call: Callable, hints: dict[str, str]):
    """Run a call into the learner's code; where it raises, add what is known about such errors.

    Args:
        call: what to do.
        hints: a word of the error's message (or "" for any) to the sentence that explains it.
    """
    try:
        return call()
    except RemoteError as error:
        text = str(error)
        torchs = "Module [" in text or "not implemented for" in text
        if error.type_name == "NotImplementedError" and not torchs:
            raise  # not written yet
        found = [hint for word, hint in hints.items() if word in text]
        fail(f"{text} {found[0] if found else ''}")


UNLEARNT = (
    "So training would not change what it should: no .item(), float(), .detach(), .data and no "
    "torch.no_grad() on the way."
)


def expect_gradients(
    student, name: str, arguments: dict[str, object], expected: dict[str, Tensor], advice: str = ""
) -> None:
    """Compare the gradients of a function of the learner's with the right ones.

    Args:
        name: of the function; where its result is not one number, the gradients are its sum's.
        arguments: by name, in the function's order.
        expected: the right gradient for some of them.
        advice: what to say beside the mistake.
    """
    held = {word: student.hold(arguments[word]) for word in expected}
    for tensor in held.values():
        tensor.call("requires_grad_")
    hints = {
        "does not require grad": f"The result has no gradient at all. {UNLEARNT}",
        "in-place": "It changes its arguments in place; make new tensors.",
        "": "",
    }
    result = ask(lambda: student.new(name, *(arguments | held).values()), hints)
    ask(result.backward, hints)
    for word, right in expected.items():
        found = held[word].get("grad")
        expect(isinstance(found, Tensor), f"No gradient reaches {word}. {UNLEARNT} {advice}")
        expect_close(
            found,
            right,
            f"the gradient for {word}",
            otherwise=f"The result itself is right. {UNLEARNT} {advice}",
            rtol=1e-3,
            atol=1e-5,
        )


class Parts:
    """The learner's own layers of one module, called one at a time from the grader."""

    def __init__(self, module: Handle):
        self.module = module
        self.layers: dict[str, Handle] = {}

    def layer(self, name: str) -> Handle:
        if name not in self.layers:
            self.layers[name] = self.module.call("get_submodule", name)
        return self.layers[name]

    def __call__(self, name: str, *args: Tensor) -> Tensor:
        return self.layer(name)(*args)


def runs(call: Callable) -> bool:
    """Whether a call into the learner's code comes back without an error."""
    try:
        call()
    except RemoteError as error:
        if error.type_name == "NotImplementedError":
            raise
        return False
    return True


def unchanged(student, call: Callable, value: Tensor, name: str) -> None:
    """Run `call` on a tensor that lives in the learner's process, and see that it stayed."""
    held = student.hold(value.clone())
    call(held)
    still_is(held, value, name)


def still_is(held: Handle, value: Tensor, name: str) -> None:
    """See that a tensor in the learner's process is what it was."""
    expect(
        torch.equal(held.call("clone"), value),
        f"Your code changes {name} in place (with +=, {name}[:] = …, or a method that ends in _). "
        "It belongs to the caller: make a new tensor instead.",
    )


def load(
    handle: Handle,
    state: dict[str, Tensor],
    advice: str = "",
    other: str = "another kind of layer or another kernel size",
) -> Handle:
    """Give a learner's module our weights, or say which layers it should have."""
    mine, theirs = {k: v.shape for k, v in state.items()}, handle.state()
    for name, shape in mine.items():
        if name not in theirs:
            fail(f"Saved weights need a tensor called {name}, your module has none. {advice}")
        if theirs[name].shape != shape:
            fail(
                f"{name} has shape {tuple(theirs[name].shape)}: {other} than the text "
                f"describes. {advice}"
            )
    extra = [name for name in theirs if name not in mine]
    if extra:
        fail(f"Your module has a weight that does not belong there: {extra[0]}. {advice}")
    handle.load_state(state)
    return handle


def check_with_ours(handle: Handle, ours: nn.Module, names: list[str], *args: Tensor) -> None:
    """Judge a module's own wiring by layers that the grader keeps, where the learner's are wrong.

    Wrong layers cost the points of their own exercises. They cannot be all that the wiring is
    compared with: layers that do nothing agree with a forward that does nothing.

    Args:
        handle: the learner's module.
        ours: the reference's, with weights that nobody knows.
        names: the layers of ours that take the place of the learner's.
        args: what both are called with.
    """
    ours.eval()
    for name in names:
        layer = ours.get_submodule(name)
        ask(lambda n=name, f=layer: handle.call("set_submodule", n, f), {"": PIECE_STOPS})
    with torch.no_grad():
        expected = ours(*args)
        actual = ask(lambda: handle(*args), {"": OTHER_PIECES})
    pairs = [(actual, expected)]
    if isinstance(expected, tuple):
        same = isinstance(actual, tuple | list) and len(actual) == len(expected)
        expect(same, f"forward should return {len(expected)} things.")
        pairs = list(zip(actual, expected, strict=True))
    for each, right in pairs:
        expect_close(
            each,
            right,
            "the answer, with right layers in the place of yours",
            otherwise="The layers are called in another order, or with something else.",
            rtol=1e-4,
            atol=5e-5,
        )


def expect_input_gradients(gradients: dict, ours: nn.Module, args: tuple, names: tuple) -> None:
    """Compare the inputs' gradients that `Handle.grad` brought with those of a right module."""
    leaves = [a.detach().clone().requires_grad_() if a.is_floating_point() else a for a in args]
    out = ours(*leaves)
    (out.flatten() * torch.linspace(-1, 1, out.numel(), dtype=out.dtype)).sum().backward()
    for found, leaf, name in zip(gradients["inputs"], leaves, names, strict=True):
        if leaf.grad is None:
            continue
        expect(isinstance(found, Tensor), f"No gradient reaches {name}. {UNLEARNT}")
        expect_close(
            found,
            leaf.grad,
            f"the gradient for {name}",
            otherwise=f"The result itself is right, but part of the way back is cut, so earlier "
            f"layers would learn wrongly. {UNLEARNT}",
            rtol=1e-3,
            atol=1e-4,
        )


def every_parameter_learns(gradients: dict, what: str) -> None:
    for name, gradient in gradients["params"].items():
        if gradient is None or not gradient.abs().sum() > 0:
            fail(
                f"No gradient reaches {name} in {what}, so it would never learn. Is that layer "
                "left out, or is the path to it cut by detach(), .data or no_grad()?"
            )
