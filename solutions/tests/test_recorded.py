"""A recorded step, without a GPU: small stand-ins for CUDA's graphs and streams."""

import contextlib
import copy
import importlib.util
import shutil
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from t2i.diffusion import ema_update
from t2i.engine.batches import changed, tensors_of
from t2i.engine.optim import Muon, inner_matrices
from t2i.engine.recorded import AS_ALWAYS, RecordedStep, can_compile, compile_blocks, values_at_hand
from t2i.folded_unet import digit_loss
from t2i.runs.class_recipes import class_loss, class_recipe
from t2i.runs.clip_recipes import clip_loss, clip_recipe
from t2i.runs.latent_recipes import latent_recipe
from t2i.runs.recipes import recipe
from t2i.runs.scene_recipes import scene_loss, scene_recipe
from t2i.runs.text_to_image_recipes import text_to_image_recipe
from t2i.runs.vae_recipes import vae_recipe


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
    made.modes = ["default"]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: made.modes[-1])

    def set_mode(mode):
        warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)
        made.modes.append(mode)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
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


def test_a_step_that_looks_at_values_goes_on_as_always(update):
    """CUDA warns of each wait, where it is asked to; here the update does it in CUDA's place."""

    def looks(batch):
        if update.modes[-1] == "warn":
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("of something else", stacklevel=1)
        return update(batch)

    step, wanted = RecordedStep(looks), torch.zeros(2)
    for number in range(1, 8):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            step(batch_of(number))
        wanted += batch_of(number)["x"]
        torch.testing.assert_close(update.total, wanted)
        told = [str(each.message) for each in said if "job by job" in str(each.message)]
        assert len(told) == (number == AS_ALWAYS)  # once, and then never again
    assert update.calls == [(False, "side")] * 7 and step.graph is None
    assert update.modes == ["default", "warn", "default"]


def test_other_warnings_do_not_keep_a_step_from_being_recorded(update):
    def talks(batch):
        warnings.warn("a step has something to say", stacklevel=1)
        return update(batch)

    step = RecordedStep(talks)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for number in range(5):
            step(batch_of(number))
    assert step.graph is not None
    assert {str(each.message) for each in said} == {"a step has something to say"}


class OnTheGpuAlone(TorchDispatchMode):
    """Refuses to bring numbers from the processor, as a recording would."""

    def __torch_dispatch__(self, job, types, args=(), kwargs=None):
        source = args[1:2] if job is torch.ops.aten.copy_.default else args[:1]
        brings = {"copy_", "_to_copy", "lift_fresh"}
        if job.overloadpacket.__name__ in brings and source[0].device.type == "cpu":
            raise RuntimeError(f"{job} brings {tuple(source[0].shape)} from the processor")
        return job(*args, **(kwargs or {}))


DIGITS = torch.zeros(4, 1, 28, 28), torch.zeros(4, dtype=torch.int64)
LATENTS = torch.zeros(4, 4, 8, 8), torch.ones(4, 12, dtype=torch.int64)
TRAININGS = {
    "lesson 3": lambda: (recipe("gpu").build(), digit_loss, DIGITS[0]),
    "lesson 5": lambda: (class_recipe("gpu").build(), class_loss, DIGITS),
    "lesson 6": lambda: _as_planned(scene_recipe("smoke"), scene_loss),
    "lesson 7": lambda: _as_planned(clip_recipe("smoke"), clip_loss),
    "lesson 8": lambda: _as_planned(vae_recipe("smoke"), vae_recipe("smoke").loss),
    "in latents": lambda: (latent_recipe("smoke").build(), latent_recipe("smoke").loss, LATENTS),
}


def _as_planned(plan, loss):
    return plan.build(), loss, next(plan.batches())


@pytest.mark.parametrize("name", TRAININGS)
def test_the_courses_own_trainings_look_at_no_value(name, monkeypatch):
    """On a device without values whatever looks at one stops with an error."""
    model, loss_fn, batch = TRAININGS[name]()
    model, batch = model.to("meta"), changed(batch, lambda tensor: tensor.to("meta"))
    autocast = torch.autocast  # does not know that device
    monkeypatch.setattr(torch, "autocast", lambda kind, **how: autocast("cpu", **how))
    slow, muon = copy.deepcopy(model), Muon(inner_matrices(model))
    with OnTheGpuAlone():
        loss_fn(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step()
        ema_update(slow, model, torch.zeros((), device="meta"))


@pytest.mark.parametrize("look", [torch.Tensor.item, bool, lambda x: torch.tensor(1.0).to(x)])
def test_a_look_at_a_value_is_found_out_by_that_test(look):
    with pytest.raises(RuntimeError, match="meta tensor|from the processor"), OnTheGpuAlone():
        look(torch.zeros((), device="meta"))


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
