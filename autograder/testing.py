"""What hidden tests are written with: the exercise marker, and comparisons that teach."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import pytest
import torch
from torch import Tensor

from autograder.remote import Handle
from autograder.wire import Foreign

TOLERANCES = {torch.float64: 1e-7, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


class Teaching(AssertionError):
    """A wrong answer, said in a sentence that teaches."""


def exercise(name: str) -> pytest.MarkDecorator:
    """Say which exercise a test belongs to. An exercise passes when all its tests do."""
    return pytest.mark.exercise(name)


def fail(message: str) -> NoReturn:
    """The answer is wrong; `message` is what the learner reads."""
    raise Teaching(" ".join(message.split()))


def expect(condition: bool | Tensor, message: str) -> None:
    """Fail with `message` unless the condition holds."""
    if isinstance(condition, Handle | Foreign) or not bool(condition):
        fail(message)


def expect_steps(heard: Sequence, wanted: Sequence[int], which: str) -> None:
    """Fail unless on_step heard these steps, each as one number: `which` says whose step it is."""
    expect(
        all(torch.as_tensor(step).numel() == 1 for step in heard),
        "on_step's first argument is the plain number of the step, an int; yours is the tensor t "
        "with a row for each sample.",
    )
    expect([int(step) for step in heard] == list(wanted), f"on_step's first argument {which}.")


def expect_close(
    actual: object,
    expected: Tensor | float,
    what: str,
    causes: Mapping[str, Tensor | Callable[[], Tensor]] | None = None,
    otherwise: str = "",
    rtol: float | None = None,
    atol: float | None = None,
    check_dtype: bool = False,
) -> None:
    """Compare a learner's tensor with the right one; say what is wrong, never what is right.

    Args:
        actual: whatever the learner's code returned.
        expected: the right values.
        what: the thing compared, in words: "the variance at every step".
        causes: for a likely mistake, the sentence that names it, and the values that it gives.
        otherwise: advice where none of the causes fits.
        rtol, atol: tolerances; by default what the right values' dtype can hold, or float32 where
            the learner's is coarser: nobody is judged more mildly for bfloat16.
        check_dtype: whether another floating dtype is a mistake.
    """
    expected = torch.as_tensor(expected)
    actual = _as_tensor(actual, expected, what)
    if actual.shape != expected.shape:
        found = _first_cause(actual, causes, rtol, atol)
        fail(
            f"{_capital(what)} should have shape {tuple(expected.shape)}, "
            f"yours has {tuple(actual.shape)}. {found or otherwise}"
        )
    if check_dtype and actual.dtype != expected.dtype:
        fail(f"{_capital(what)} should be {expected.dtype}, yours is {actual.dtype}. {otherwise}")
    if actual.is_floating_point() != expected.is_floating_point():
        fail(f"{_capital(what)} should be {expected.dtype}, yours is {actual.dtype}. {otherwise}")
    if matches(actual, expected, rtol, atol):
        return
    found = _first_cause(actual, causes, rtol, atol) or otherwise
    broken = ~torch.isfinite(actual) if actual.is_floating_point() else torch.zeros(1)
    if broken.any() and torch.isfinite(expected.double()).all():
        fail(f"{_capital(what)} should be finite, yours contains NaN or infinity. {found}")
    told = found != otherwise and actual.numel() == 1  # any one number is a multiple of another
    symptom = "" if told else f" ({_symptom(actual, expected)})"
    fail(f"{_capital(what)} {_is_or_are(what)} not right{symptom}. {found}")


def matches(
    actual: Tensor, expected: Tensor, rtol: float | None = None, atol: float | None = None
) -> bool:
    """Whether two tensors have one shape and, within the tolerance, the same values."""
    own = min(TOLERANCES.get(actual.dtype, 0.0), TOLERANCES[torch.float32])
    coarsest = max(TOLERANCES.get(expected.dtype, 0.0), own)
    rtol = coarsest if rtol is None else rtol
    atol = coarsest if atol is None else atol
    try:
        torch.testing.assert_close(
            actual.double(), expected.double(), rtol=rtol, atol=atol, equal_nan=True
        )
    except AssertionError:
        return False
    return True


def _first_cause(actual, causes, rtol, atol) -> str:
    for sentence, value in (causes or {}).items():
        try:
            value = torch.as_tensor(value() if callable(value) else value)
        except Exception:  # a mistake that cannot even be made with these inputs
            continue
        if actual.shape == value.shape and matches(actual, value, rtol, atol):
            return sentence
    return ""


def _as_tensor(actual: object, expected: Tensor, what: str) -> Tensor:
    if isinstance(actual, Tensor):
        return actual
    if expected.ndim == 0 and isinstance(actual, int | float) and not isinstance(actual, bool):
        return torch.tensor(actual, dtype=expected.dtype)
    if actual is None:
        fail(f"Your code returned None where {what} should be. Is a return statement missing?")
    name = "other object" if isinstance(actual, Handle) else type(actual).__name__
    name = actual.type_name if isinstance(actual, Foreign) else name
    article = "an" if name[:1] in "aeiou" else "a"
    cure = " torch.tensor(...) or torch.stack(...) makes one." if name in ("list", "tuple") else ""
    fail(f"{_capital(what)} should be a torch.Tensor, yours is {article} {name}.{cure}")


def _symptom(actual: Tensor, expected: Tensor) -> str:
    """What is off, without giving numbers of the right answer away."""
    actual, expected = actual.double().flatten(), expected.double().flatten()
    wrong = ~torch.isclose(actual, expected, rtol=1e-4, atol=1e-6)
    share = wrong.double().mean().item()
    if 0 < share < 0.995 and len(wrong) > 1:
        return f"{max(share, 0.01):.0%} of the values differ"
    ratio = (actual[wrong] / expected[wrong]) if share else (actual / expected)
    ratio = ratio[torch.isfinite(ratio)]
    if len(ratio) and ratio.std(correction=0) < 0.01 * ratio.mean().abs():
        factor = ratio.mean().item()
        if factor < 0 and abs(abs(factor) - 1) < 0.01:
            return "the sign is wrong"
        if abs(abs(factor) - 1) < 1e-4:
            return "close to the right values, but not equal" if len(actual) > 1 else "close"
        everywhere = "everywhere " if len(actual) > 1 else ""
        digits = 4 if 0.95 < abs(factor) < 1.05 else 2
        size = f"{abs(factor):.0f}" if abs(factor) >= 10 else f"{abs(factor):.{digits}g}"
        return f"{everywhere}{size} times the right value"
    return "all values differ" if len(actual) > 1 else "another number"


def _capital(text: str) -> str:
    """As a sentence begins; a name from the code (`x_t`, `snr()`) stays what it is."""
    word = text.split(" ")[0]
    named = "_" in word or "(" in word or not word.isascii()  # ᾱ
    return text if named else text[:1].upper() + text[1:]


def _is_or_are(what: str) -> str:
    if what.startswith("what "):  # what decode gives is one thing
        return "is"
    subject = re.split(" of | at | in | with | when ", what)[0]
    return "are" if subject.rstrip().endswith("s") and not subject.endswith("ss") else "is"
