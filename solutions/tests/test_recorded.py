"""A recorded step, without a GPU: small stand-ins for CUDA's graphs and streams."""

import contextlib
import importlib.util
import shutil

import pytest
import torch
from torch import Tensor, nn

from t2i.batches import tensors_of
from t2i.clip_recipes import clip_recipe
from t2i.recorded import (
    AS_ALWAYS,
    RecordedStep,
    can_compile,
    compile_blocks,
    values_at_hand,
)
from t2i.text_to_image_recipes import text_to_image_recipe


class Streams:
    """Notes who waits for whom, and on which stream something is done."""

    def __init__(self):
        self.notes, self.here = [], "main"

    def stream(self, name: str):
        made = type("Stream", (), {"name": name})()
        made.wait_stream = lambda other: self.notes.append((name, "waits for", other.name))
        return made

    @contextlib.contextmanager
    def on(self, stream):
        before, self.here = self.here, stream.name
        yield
        self.here = before


class Graph:
    """What is written down while a Sum is recorded; replay does it."""

    def __init__(self):
        self.jobs = []

    def replay(self):
        for job in self.jobs:
            job()


class Sum:
    """An update: adds up what it is given, in place, as an optimiser does."""

    def __init__(self, streams: Streams):
        self.total, self.loss = torch.zeros(2), torch.zeros(())
        self.streams, self.graph, self.calls = streams, None, []

    def __call__(self, batch: dict) -> Tensor:
        self.calls.append((self.graph is not None, self.streams.here))

        def job():
            self.total.add_(batch["x"])
            self.loss.copy_(batch["more"][0] + self.total.sum())

        if self.graph:
            self.graph.jobs.append(job)  # a recording does nothing by itself
        else:
            job()
        return self.loss


@pytest.fixture
def update(monkeypatch):
    """A Sum where CUDA's graphs and streams are stand-ins."""
    streams = Streams()
    made = Sum(streams)

    @contextlib.contextmanager
    def recording(graph):
        made.graph = graph
        yield
        made.graph = None

    monkeypatch.setattr(torch.cuda, "Stream", lambda: streams.stream("side"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: streams.stream("main"))
    monkeypatch.setattr(torch.cuda, "stream", streams.on)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    return made


def batch_of(number: int) -> dict:
    return {"x": torch.tensor([1.0, 10.0]) * number, "more": (torch.tensor(0.5 * number),)}


def test_three_steps_as_always_then_one_recording_that_is_played_with_each_batch(update):
    step, given, wanted = RecordedStep(update), [], torch.zeros(2)
    for number in range(1, 8):
        given.append(batch_of(number))
        loss = step(given[-1])
        wanted += given[-1]["x"]
        torch.testing.assert_close(update.total, wanted)  # no step is left out, none is done twice
        assert loss.item() == pytest.approx(0.5 * number + wanted.sum().item())
    assert AS_ALWAYS == 3
    assert update.calls == [(False, "side")] * 3 + [(True, "main")]
    for number, batch in enumerate(given, start=1):  # the recording has places of its own
        for mine, fresh in zip(tensors_of(batch), tensors_of(batch_of(number)), strict=True):
            assert torch.equal(mine, fresh)


def test_a_step_beside_the_main_stream_waits_and_is_waited_for(update):
    RecordedStep(update)(batch_of(1))
    wanted = [("side", "waits for", "main"), ("main", "waits for", "side")]
    assert update.streams.notes == wanted


def test_a_batch_of_other_parts_is_refused_once_the_step_is_recorded(update):
    step = RecordedStep(update)
    for number in range(4):
        step(batch_of(number))
    with pytest.raises(ValueError, match="zip"):
        step(batch_of(4) | {"extra": torch.zeros(2)})


def test_a_batch_of_another_shape_is_refused_and_not_spread(update):
    step = RecordedStep(update)
    for number in range(4):
        step(batch_of(number))
    with pytest.raises(ValueError, match=r"recorded with \(2,\), a batch has \(1,\)"):
        step(batch_of(4) | {"x": torch.ones(1)})


def test_a_step_that_cannot_be_recorded_says_what_to_do(update):
    step, inner = RecordedStep(update), RuntimeError("operation not permitted when capturing")
    for number in range(3):
        step(batch_of(number))

    def looks(batch):
        raise inner

    step.update = looks
    with pytest.raises(RuntimeError, match='on_gpu="plain"') as caught:
        step(batch_of(3))
    assert caught.value.__cause__ is inner


@pytest.mark.parametrize(
    ("triton", "found", "told", "able"),
    [
        (True, {"gcc"}, None, True),
        (True, {"clang"}, None, True),
        (True, {"mine"}, "mine", True),
        (True, set(), None, False),
        (False, {"gcc"}, None, False),
    ],
)
def test_a_gpus_programs_are_compiled_where_there_is_a_compiler(
    monkeypatch, triton, found, told, able
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if triton else None)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in found else None)
    monkeypatch.delenv("CC", raising=False)
    if told:
        monkeypatch.setenv("CC", told)
    assert can_compile() is able


def test_values_are_at_hand_on_a_processor_only():
    assert values_at_hand(torch.zeros(2)) and not values_at_hand(torch.zeros(2, device="meta"))


@pytest.mark.parametrize("part", ["transformer", "clip"])
def test_exactly_the_repeated_blocks_are_compiled(monkeypatch, part):
    plan, compiled = text_to_image_recipe("smoke"), []
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, **how: compiled.append((id(self), how["dynamic"]))
    )
    if part == "transformer":
        model = plan.build()
        blocks = [*model.network.blocks]
    else:
        model = clip_recipe("smoke").build()
        blocks = [*model.text.layers, *model.image.layers]
    compile_blocks(model)
    assert sorted(compiled) == sorted((id(block), False) for block in blocks)
    assert len(blocks) > 1
