"""The grader's side of one test's conversation with a learner's code."""

import signal
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from autograder.extract import Submission
from autograder.process import Worker
from autograder.wire import Connection, Reference, WireError
from autograder.worker import CPU_SECONDS

CALL_SECONDS = 60.0  # by the clock; the child's own limit is in processor time
TEST_SECONDS = 90.0
_ENDLESS = "No answer after {} s. Is there a loop that never ends?"


class RemoteError(Exception):
    """The learner's code raised; `args[0]` is a sentence about it."""

    def __init__(self, sentence: str, type_name: str = ""):
        super().__init__(sentence)
        self.type_name = type_name


class RemoteTimeout(Exception):
    """The learner's code took longer than it may."""


class RemoteSilence(RemoteTimeout):
    """It let the clock run out without using the processor: it sleeps, or is stopped."""


class RemoteCrash(Exception):
    """The learner's process ended before it answered."""


class Student:
    """The learner's definitions in a fresh child: `student.cosine_betas(10)` calls one.

    Args:
        worker: the process to fork.
        submission: what `extract` took from the notebook.
        seconds: how long the whole conversation may take.
    """

    def __init__(self, worker: Worker, submission: Submission, seconds: float = TEST_SECONDS):
        worker.begin_session()
        self._worker = worker
        self._connection = Connection(worker.read, worker.write)
        self._callbacks: list[Callable] = []
        self._seconds, self._test_deadline = seconds, time.monotonic() + seconds
        pieces = [[piece.name, piece.source] for piece in submission.pieces]
        failures = self.request("load", pieces=pieces)
        failures = failures if isinstance(failures, list) else []  # it may speak for itself
        self._load_failures = [_sentence(each) for each in failures if isinstance(each, dict)]

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.request("call", name=name, args=args, kwargs=kwargs)

    def new(self, name: str, *args: Any, **kwargs: Any) -> "Handle":
        """Build an object of a class of the learner's."""
        return self.request("new", name=name, args=args, kwargs=kwargs)

    def new_torch(self, name: str, *args: Any, **kwargs: Any) -> "Handle":
        """Build one of torch's own layers in the learner's process."""
        return self.request("new_torch", name=name, args=args, kwargs=kwargs)

    def generator(self, seed: int) -> "Handle":
        """A seeded torch.Generator in the learner's process."""
        return self.request("generator", seed=seed)

    def hold(self, value: Any) -> "Handle":
        """Put a tensor there to stay: `.call("clone")` says what became of it."""
        return self.request("hold", value=value)

    def lend(self, name: str, function: Callable) -> None:
        """Let the learner's code call our function in the place of its own of that name.

        Gradients do not pass through it.
        """
        self.request("lend", name=name, function=function)

    def elsewhere(self, value: Tensor) -> "Handle":
        """Put a tensor of this shape there on torch's meta device, which stands for a GPU.

        What lies there comes back as a Foreign; a tensor that comes back lies on the CPU.
        """
        return self.request("elsewhere", value=value)

    def request(self, do: str, **message: Any) -> Any:
        """Ask the child for one thing; serve its calls of our functions meanwhile.

        Raises:
            RemoteError, RemoteTimeout, RemoteCrash: what became of it.
        """
        deadline = min(time.monotonic() + CALL_SECONDS, self._test_deadline)
        pending: BaseException | None = None
        try:
            self._connection.send({"do": do} | self._out(message), deadline)
            while "callback" in (reply := self._connection.receive(deadline)):
                answer, error = self._serve_callback(reply)
                pending = pending or error
                self._connection.send(answer, deadline)
        except TimeoutError:
            seconds = self._seconds if deadline == self._test_deadline else CALL_SECONDS
            raise RemoteSilence(_ENDLESS.format(round(seconds))) from pending
        except (WireError, OSError) as error:
            status = self._worker.end_session()
            if status is not None and status == -getattr(signal, "SIGXCPU", 0):
                raise RemoteTimeout(_ENDLESS.format(CPU_SECONDS)) from pending
            raise RemoteCrash(_obituary(status, error)) from pending
        if pending is not None:
            raise pending
        if "error" in reply:
            raise self._error(reply["error"])
        return self._into(reply.get("value"))

    def _serve_callback(self, reply: dict) -> tuple[dict, BaseException | None]:
        try:
            function = self._callbacks[int(reply["callback"])]
            value = function(*self._into(reply["args"]), **self._into(reply["kwargs"]))
            return {"value": self._out(value)}, None
        except (Exception, AssertionError) as error:
            return {
                "error": f"the model was called in a way it does not understand: {error}"
            }, error

    def _error(self, error: Any) -> RemoteError:
        if not isinstance(error, dict):
            return RemoteError("Your code raised an error that could not be read.")
        sentence = _sentence(error)
        if error.get("type") == "NameError":  # the definition itself may have failed earlier
            name = str(error.get("message")).split("'")[1:2]
            causes = [f for f in self._load_failures if name and name[0] in f]
            sentence = causes[0] if causes else sentence
        return RemoteError(sentence, str(error.get("type")))

    def _out(self, value: Any) -> Any:
        if isinstance(value, Handle):
            return value._reference
        if callable(value) and not isinstance(value, type):
            self._callbacks.append(value)
            return Reference("callback", len(self._callbacks) - 1)
        if type(value) in (list, tuple):
            return type(value)(self._out(item) for item in value)
        if isinstance(value, dict):
            return {key: self._out(item) for key, item in value.items()}
        return value

    def _into(self, value: Any) -> Any:
        if isinstance(value, Reference):
            return Handle(self, value)
        if type(value) in (list, tuple):
            return type(value)(self._into(item) for item in value)
        if isinstance(value, dict):
            return {key: self._into(item) for key, item in value.items()}
        return value


class Handle:
    """An object that lives in the learner's process; calling it runs its forward."""

    def __init__(self, student: Student, reference: Reference):
        self._student, self._reference = student, reference

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call("__call__", *args, **kwargs)

    forward = __call__

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._request("method", name=name, args=args, kwargs=kwargs)

    def get(self, name: str) -> Any:
        return self._request("get", name=name)

    def train(self) -> None:
        self._request("method", name="train", args=[], kwargs={})

    def eval(self) -> None:
        self._request("method", name="eval", args=[], kwargs={})

    def state(self) -> dict:
        """The state dict, as tensors of ours."""
        return self._request("state")

    def pixels(self) -> Tensor:
        """A PIL image as (height, width, channels) uint8."""
        return self._request("pixels")

    def load_state(self, state: dict) -> None:
        self._request("load_state", state=dict(state))

    def backward(self) -> None:
        """Let a tensor's sum send its gradients back."""
        self._request("backward")

    def grad(self, *args: Any, **kwargs: Any) -> dict:
        """Output, and the gradients of its weighted sum: see session.Session.do_grad."""
        return self._request("grad", args=args, kwargs=kwargs)

    def _request(self, do: str, **message: Any) -> Any:
        return self._student.request(do, target=self._reference, **message)


def _sentence(error: dict) -> str:
    kind, text = str(error.get("type", "error")), str(error.get("message", ""))
    place = ""
    if isinstance(error.get("line"), int):
        place = f" in line {error['line']} of {error.get('label')}"
        if error.get("text"):
            place += f", `{error['text']}`"
    if kind == "NameError":
        text += (
            ". The grader runs your definitions alone. So a function can use its own arguments, "
            "and of the notebook only imports, definitions and plain constants: nothing that a "
            "cell computed, even if that works here"
        )
    if kind == "UnboundLocalError":
        text += (
            ". A name that a function assigns to is its own from the first line on, and hides what "
            "has this name outside. Give your result another name"
        )
    if "before Module.__init__()" in text:
        text += ". Begin __init__ with super().__init__()"
    return f"Your code raised {kind}{place}: {text.rstrip('.') or 'no message'}."


def _obituary(status: int | None, error: Exception) -> str:
    if isinstance(error, WireError) and "too large" in str(error):
        return "Your code returned far more data than was asked for. Check the shapes it makes."
    if status is not None and status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        why = " (it used too much memory or time?)" if name in ("SIGKILL", "SIGXCPU") else ""
        return f"Your code made Python crash with {name}{why}."
    if status is None:
        return "Your code ended the process that it runs in."
    return f"Your code ended Python itself (exit status {status}). Remove exit() or os._exit()."
