"""The training loop: what it yields, that it resumes exactly, that its files are whole."""

import copy
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from t2i.engine.batches import changed, tensors_of
from t2i.engine.train_config import TrainConfig, ema_decay_at, learning_rate_at
from t2i.files.checkpoint import (
    HOST,
    CheckpointError,
    load_tensors,
    load_weights,
    save_tensors,
    save_weights,
    write_atomically,
)
from t2i.training import Batches, fastest_precision, train


@pytest.fixture(autouse=True)
def one_thread():
    """Bits are only the same with the same number of threads, and a child process has one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.2), nn.Conv2d(8, 1, 3))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def loss_fn(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return (
        (model(images + 0.1 * torch.randn_like(images)) - images[..., 2:-2, 2:-2]).square().mean()
    )


def data() -> Batches:
    images = torch.randn(50, 1, 9, 7, generator=torch.Generator().manual_seed(1))
    return Batches(images, batch_size=8, seed=5)  # 6 batches an epoch: 20 steps cross three


CONFIG = TrainConfig(steps=20, learning_rate=1e-2, save_every=3)


def weights(state) -> dict[str, torch.Tensor]:
    return {f"model.{n}": v.clone() for n, v in state.model.state_dict().items()} | {
        f"ema.{n}": v.clone() for n, v in state.ema_model.state_dict().items()
    }


def finish(config=CONFIG, **options):
    *_, state = train(network(), loss_fn, data(), config, progress=False, **options)
    return state


def assert_same_bits(actual: dict, expected: dict) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        assert torch.equal(actual[name], expected[name]), name


def test_yields_every_step_and_learns():
    states = list(train(network(), loss_fn, data(), TrainConfig(steps=150), progress=False))
    assert [state.step for state in states] == list(range(1, 151))
    assert sum(s.loss for s in states[-20:]) < 0.9 * sum(s.loss for s in states[:20])
    assert all(state.images_per_second > 0 for state in states)


def test_learning_rate_climbs_then_falls_to_zero():
    config = TrainConfig(steps=200, learning_rate=0.5, warmup=0.1)
    rates = [learning_rate_at(step, config) for step in range(200)]
    assert rates[0] == pytest.approx(0.5 / 20) and rates[19] == pytest.approx(0.5)
    assert max(rates) == pytest.approx(0.5) and rates[-1] < 0.001
    assert rates[:20] == sorted(rates[:20]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[110] == pytest.approx(0.25)  # half of the way down
    assert rates[65] == pytest.approx(0.25 * (1 + 0.5**0.5))  # a quarter: the cosine of 45°


def test_learning_rate_can_fall_in_a_straight_line():
    config = TrainConfig(steps=200, learning_rate=0.5, warmup=0.1, decay="linear")
    rates = [learning_rate_at(step, config) for step in range(200)]
    assert rates[19] == pytest.approx(0.5) == rates[20]
    assert [rates[20 + 45], rates[110], rates[20 + 135]] == pytest.approx([0.375, 0.25, 0.125])
    with pytest.raises(ValueError, match="decay"):
        TrainConfig(steps=1, decay="line")


WRONG = {"steps": -1, "save_every": 0, "learning_rate": 0.0, "clip_norm": -1.0}
WRONG |= {"muon_rate": -0.1, "weight_decay": -1.0, "warmup": 2.0, "ema_horizon": -1.0}


@pytest.mark.parametrize("wrong", [{name: value} for name, value in WRONG.items()])
def test_a_config_that_makes_no_training_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        TrainConfig(**({"steps": 10} | wrong))


def test_ema_is_an_average_of_the_weights():
    model, seen = network(), []
    config = TrainConfig(steps=15, learning_rate=1e-2, ema_horizon=0.5)
    expected = copy.deepcopy(model[0].weight.detach())
    for step, state in enumerate(train(model, loss_fn, data(), config, progress=False)):
        decay = ema_decay_at(step, config)
        expected = decay * expected + (1 - decay) * state.model[0].weight.detach()
        seen.append(decay)
    torch.testing.assert_close(state.ema_model[0].weight, expected)
    assert seen == sorted(seen) and seen[0] == pytest.approx(0.1) and seen[-1] < 1 - 1 / 7.5 + 1e-9
    assert not torch.equal(state.ema_model[0].weight, state.model[0].weight)


def test_own_ema_update_is_used_and_zero_horizon_means_none():
    calls = []
    finish(ema_update=lambda slow, fast, decay: calls.append(decay))
    assert len(calls) == CONFIG.steps
    state = finish(TrainConfig(steps=3, ema_horizon=0))
    assert state.ema_model is state.model


def test_gradients_are_clipped():
    config = TrainConfig(steps=1, learning_rate=1e-2, clip_norm=1e-3)
    model = network()
    for _ in train(model, lambda m, x: 1e4 * loss_fn(m, x), data(), config, progress=False):
        norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_what_happens_between_steps_does_not_matter():
    expected = weights(finish())
    for state in train(network(), loss_fn, data(), CONFIG, progress=False):
        torch.randn(state.step)
        state.model.eval()
    assert_same_bits(weights(state), expected)


@pytest.mark.parametrize("muon_rate", [0.0, 0.02], ids=["adamw", "muon"])
@pytest.mark.parametrize("stop", [1, 3, 4, 6, 11, 18, 20])
def test_resume_ends_at_the_same_bits(tmp_path, stop, muon_rate):
    config = dataclasses.replace(CONFIG, muon_rate=muon_rate)
    expected, path = weights(finish(config)), tmp_path / "run.safetensors"
    for state in train(network(), loss_fn, data(), config, checkpoint=path, progress=False):
        if state.step == stop:
            break
    torch.manual_seed(random.randrange(1000))  # another process would stand elsewhere
    steps = []
    for state in train(network(), loss_fn, data(), config, checkpoint=path, progress=False):
        steps.append(state.step)
    assert steps[0] == (stop // 3 * 3 + 1 if stop < 20 else 20), "it must go on, not start anew"
    assert_same_bits(weights(state), expected)


def test_a_finished_run_still_says_how_fast_it_was(tmp_path):
    path, config = tmp_path / "run.safetensors", TrainConfig(steps=2)
    for state in train(network(), loss_fn, data(), config, path, progress=False):
        speed = state.images_per_second
    (again,) = train(network(), loss_fn, data(), config, path, progress=False)
    assert again.images_per_second == speed > 0


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="tells which files are mapped")
def test_after_a_resume_nothing_lies_in_the_checkpoint_any_more(tmp_path):
    """Windows lets nobody replace a file that is mapped, so the next save would fail there."""
    path = tmp_path / "run.safetensors"
    next(train(network(), loss_fn, data(), TrainConfig(20, save_every=1), path, progress=False))
    run = train(network(), loss_fn, data(), TrainConfig(20, save_every=9), path, progress=False)
    assert next(run).step == 2 and str(path) not in Path("/proc/self/maps").read_text()


def test_different_seeds_differ():
    first, second = finish(), finish(TrainConfig(steps=20, learning_rate=1e-2, seed=1))
    assert not torch.equal(first.model[0].weight, second.model[0].weight)


RUN = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from test_training import CONFIG, data, loss_fn, network
from t2i.training import train
from t2i.engine.train_config import TrainConfig
config = TrainConfig(steps=400, learning_rate=1e-2, save_every=1)
for state in train(network(), loss_fn, data(), config, checkpoint={path!r}, progress=False):
    pass
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_at_random_moments_it_ends_at_the_same_bits(tmp_path):
    path = tmp_path / "run.safetensors"
    code = RUN.format(tests=str(Path(__file__).parent), path=str(path))
    config = TrainConfig(steps=400, learning_rate=1e-2, save_every=1)
    expected = weights(finish(config))
    found, moments = [], random.Random()
    for _ in range(3):
        before = path.stat().st_mtime_ns if path.exists() else 0
        run = subprocess.Popen([sys.executable, "-c", code])
        while run.poll() is None and not (path.exists() and path.stat().st_mtime_ns > before):
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.2))  # it trains and saves now: any moment is possible
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        found.append(load_tensors(path)[1]["step"])  # raises if the file is not whole
    assert 0 < found[0] < found[1] < found[2], found
    assert_same_bits(weights(finish(config, checkpoint=path)), expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.safetensors"]


WRITERS = """
import sys
from pathlib import Path
from t2i.files.checkpoint import write_atomically
from t2i.files.results import update_json
for number in range(60):
    write_atomically(sys.argv[1] + "/whole", sys.argv[2].encode() * 300_000)
    update_json(Path(sys.argv[1], "all.json"), {f"{sys.argv[2]}{number}": number})
"""


def test_of_two_writers_at_once_nothing_is_torn_and_nothing_is_lost(tmp_path):
    commands = [[sys.executable, "-c", WRITERS, str(tmp_path), who] for who in "ab"]
    running = [subprocess.Popen(command) for command in commands]
    while any(each.poll() is None for each in running):
        if (tmp_path / "whole").exists():
            found = (tmp_path / "whole").read_bytes()
            assert len(found) == 300_000 and len(set(found)) == 1
    assert [each.returncode for each in running] == [0, 0]
    kept = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert kept == {f"{who}{number}": number for who in "ab" for number in range(60)}
    assert not list(tmp_path.glob("*.tmp"))


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [
        f"a.json.{host}.{pid}.1.tmp"
        for host in (HOST, "another-machine")
        for pid in (ended.pid, os.getpid())
    ]
    for name in names:
        (tmp_path / name).touch()
    write_atomically(tmp_path / "a.json", b"{}")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a.json", *names[1:]])


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"x": torch.ones(3)}, {"n": 1})

    def full_disk(handle):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_tensors(path, {"x": torch.zeros(3)}, {"n": 2})
    tensors, info = load_tensors(path)
    assert info == {"n": 1} and torch.equal(tensors["x"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_checkpoint_is_one_safetensors_file_with_json(tmp_path):
    finish(checkpoint=tmp_path / "run.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    with safe_open(tmp_path / "run.safetensors", framework="pt") as file:
        info = json.loads(file.metadata()["info"])
    assert info["step"] == 20 and info["batches"]["position"] == 20


def damaged(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "foreign":
        save_file({"x": torch.ones(2)}, path)
    else:
        path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "text": b"hello\n"}[how])


@pytest.mark.parametrize("how", ["empty", "half", "text", "foreign"])
def test_damaged_checkpoint_is_one_clear_sentence(tmp_path, how):
    path = tmp_path / "run.safetensors"
    finish(checkpoint=path)
    damaged(path, how)
    with pytest.raises(CheckpointError, match="run.safetensors") as caught:
        finish(checkpoint=path)
    assert "\n" not in str(caught.value)


def test_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    finish(checkpoint=path)
    with pytest.raises(CheckpointError, match="learning_rate=0.01"):
        finish(TrainConfig(steps=20, learning_rate=3e-2), checkpoint=path)
    with pytest.raises(CheckpointError, match="another model"):
        list(train(nn.Conv2d(1, 1, 3), loss_fn, data(), CONFIG, checkpoint=path, progress=False))
    other = Batches(torch.randn(40, 1, 9, 7), batch_size=8, seed=5)
    with pytest.raises(CheckpointError, match="size 50"):
        list(train(network(), loss_fn, other, CONFIG, checkpoint=path, progress=False))
    save_weights(path, network())
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        finish(checkpoint=path)


def test_how_a_gpu_is_told_is_one_of_three_and_no_matter_of_the_run(tmp_path):
    """A run that was begun in one way goes on in another; a processor knows only one."""
    with pytest.raises(ValueError, match="on_gpu must be .*compiled.*got 'graph'"):
        TrainConfig(steps=1, on_gpu="graph")
    path, expected = tmp_path / "run.safetensors", weights(finish())
    for state in train(network(), loss_fn, data(), CONFIG, checkpoint=path, progress=False):
        if state.step == 7:
            break
    config = dataclasses.replace(CONFIG, on_gpu="recorded")
    steps = []
    for state in train(network(), loss_fn, data(), config, checkpoint=path, progress=False):
        steps.append(state.step)
    assert steps[0] == 7, "it must go on from the sixth"
    assert_same_bits(weights(state), expected)


def test_weights_alone_come_back(tmp_path):
    model, other = network(), nn.Sequential(*copy.deepcopy(list(network())))
    nn.init.normal_(model[0].weight)
    save_weights(tmp_path / "w.safetensors", model, {"steps": 7}, dtype=torch.float32)
    assert load_weights(tmp_path / "w.safetensors", other)["steps"] == 7
    assert_same_bits(other.state_dict(), model.state_dict())
    nn.init.constant_(model[0].bias, 1e5)
    with pytest.raises(ValueError, match="0.bias holds a weight too large for torch.float16"):
        save_weights(tmp_path / "w.safetensors", model)


def test_batches_visit_every_sample_once_an_epoch():
    batches = Batches(torch.arange(48), torch.arange(48) * 2, batch_size=8, seed=2)
    epochs = [[next(batches) for _ in range(6)] for _ in range(2)]
    orders = [torch.cat([first for first, _ in epoch]) for epoch in epochs]
    assert all(torch.equal(order.sort().values, torch.arange(48)) for order in orders)
    assert not torch.equal(*orders)
    assert all(torch.equal(second, 2 * first) for epoch in epochs for first, second in epoch)


def test_batches_refuse_what_cannot_work():
    with pytest.raises(ValueError, match="differ in length"):
        Batches(torch.zeros(3), torch.zeros(4), batch_size=1)
    for size in (4, 2.5):
        with pytest.raises(ValueError, match="batch_size"):
            Batches(torch.zeros(3), batch_size=size)


def test_a_batch_may_hold_texts_and_have_names():
    class Pair(NamedTuple):
        images: torch.Tensor
        captions: list[str]

    def twice(batch):
        return changed(batch, lambda tensor: 2 * tensor)

    pair = Pair(torch.ones(3), ["a", "b", "c"])
    assert isinstance(twice(pair), Pair) and twice(pair).captions == pair.captions
    assert twice(pair).images.tolist() == [2, 2, 2] and len(list(tensors_of(pair))) == 1
    assert twice({"x": torch.ones(1), "what": "a"})["what"] == "a"
    assert isinstance(twice([torch.ones(1)]), list)


def test_a_gradient_without_a_value_stops_before_it_spoils_the_checkpoint(tmp_path):
    """The root's slope at 0 is infinite, times a square's slope of 0: not a number."""
    model, file, calls = network(), tmp_path / "run.safetensors", []

    def breaks(model, images):
        calls.append(1)
        nothing = (model[0](images) - model[0](images)).square().sum().sqrt()
        return loss_fn(model, images) + (nothing if len(calls) == 5 else 0)

    config = dataclasses.replace(CONFIG, save_every=1)
    with pytest.raises(FloatingPointError, match="The gradient's length became nan at step 4"):
        list(train(model, breaks, data(), config, file, progress=False))
    assert all(value.isfinite().all() for value in model.state_dict().values())
    *_, state = train(network(), loss_fn, data(), config, file, progress=False)  # goes on
    assert state.step == 20 and all(w.isfinite().all() for w in weights(state).values())


def test_nan_stops_with_advice():
    with pytest.raises(FloatingPointError, match="smaller learning rate"):
        list(train(network(), lambda m, x: loss_fn(m, x) * torch.nan, data(), CONFIG))


def test_bfloat16_only_where_the_processor_has_it(monkeypatch):
    for able, expected in (({}, torch.float32), ({"avx512_bf16": True}, torch.bfloat16)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        with fastest_precision(torch.device("cpu")):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected
