"""The race against the clock: when it looks, what it counts, and what takes no time."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from t2i.engine.batches import Batches
from t2i.engine.train_config import TrainConfig
from t2i.files.picture_files import to_tensor
from t2i.judging.scene_judge import satisfied
from t2i.runs import race, workshop
from t2i.runs.race import GOAL, STEPS, Observer
from t2i.runs.text_to_image_recipes import GUIDANCE_SCALE
from t2i.runs.workshop import Part, Workshop
from t2i.text_to_image import to_pil
from t2i.world.caption_reading import parse
from t2i.world.captions import COLOURS, DIGITS, KINDS
from t2i.world.scene_heldout import HELDOUT_PAIRS
from t2i.world.scene_specs import draw_specs
from t2i.world.scenes import paint


class Painter:
    """A pipeline that draws these pictures, whatever it is asked."""

    device = torch.device("cpu")

    def __init__(self, images: torch.Tensor):
        self.images, self.asked = images, []

    def __call__(self, *asked) -> list:
        self.asked.append(asked)
        return to_pil(self.images)


class Clock:
    """Stands where time.perf_counter stands; it moves only when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 50.0
        monkeypatch.setattr(workshop.time, "perf_counter", lambda: self.now)

    def spend(self, seconds: float) -> None:
        self.now += seconds


def test_the_share_is_the_judges_own():
    specs = draw_specs(range(100))
    specs = specs.take(np.flatnonzero(specs.kind[:, 0] >= len(DIGITS))[:30])  # read without MNIST
    images, captions = paint(specs), specs.captions()
    observer = Observer(captions, every=1.0)
    half = torch.cat([images[:15], images[15:].roll(1, 0)])
    painter = Painter(half)
    observer(painter, SimpleNamespace(step=7), 2.04)
    (look,) = observer.looks
    hits = satisfied(to_tensor(to_pil(half)), captions)
    assert 0.3 < hits.float().mean() < 0.7, "some right, some wrong"
    assert look["share"] == pytest.approx(hits.float().mean().item())
    assert look["low"] < look["share"] < look["high"]
    assert (look["seconds"], look["step"]) == (2.0, 7)
    assert painter.asked == [(captions, STEPS, GUIDANCE_SCALE)]


@pytest.fixture
def judged(monkeypatch):
    """observed(seconds, shares) looks at ten prompts; the judge finds these shares right."""

    def observed(every: float, seconds: list[float], shares: list[float]) -> Observer:
        left = iter(shares)

        def judge(images, prompts):
            right = round(next(left) * len(prompts))
            return torch.arange(len(prompts)) < right

        monkeypatch.setattr(race, "satisfied", judge)
        observer = Observer(["a red seven"] * 10, every)
        for step, spent in enumerate(seconds):
            observer(Painter(torch.zeros(10, 3, 32, 32)), SimpleNamespace(step=step), spent)
        return observer

    return observed


def test_it_looks_no_more_often_than_every(judged):
    spent = [0.5, 9.9, 10.2, 15.0, 20.1, 20.2, 47.0, 50.1, 57.0]
    looks = judged(10.0, spent, [0.1] * 9).looks
    assert [look["step"] for look in looks] == [2, 5, 6, 8]
    assert [look["seconds"] for look in looks] == [10.2, 20.2, 47.0, 57.0]


@pytest.mark.parametrize(
    ("shares", "when"),
    [([0.8, 0.9, 0.5, 1.0], 2.0), ([0.3, 0.8, 0.5, 0.8], None), ([1.0, 0.1, 0.1, 0.1], 1.0)],
)
def test_the_goal_is_reached_at_the_first_look_that_shows_it(judged, shares, when):
    assert GOAL == 0.9
    assert judged(1.0, [1.0, 2.0, 3.0, 4.0], shares).seconds_to_goal == when


class Line:
    """A part whose every job takes its time: five seconds for the data, two for a step."""

    def __init__(self, monkeypatch):
        self.clock = Clock(monkeypatch)
        self.told: list[tuple[int, float]] = []
        training = TrainConfig(steps=3, save_every=1)
        self.part = Part(nn.Linear(3, 1), self.loss, self.batches, training, watch=self.watch)

    def batches(self) -> Batches:
        self.clock.spend(5)
        return Batches(torch.ones(4, 3), batch_size=2)

    def loss(self, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        self.clock.spend(2)
        return model(x).square().mean()

    def watch(self, state, seconds: float) -> None:
        self.told.append((state.step, seconds))
        self.clock.spend(100)


def test_a_parts_seconds_hold_its_data_and_its_steps_but_not_the_watching(tmp_path, monkeypatch):
    line, shop = Line(monkeypatch), Workshop(tmp_path, torch.device("cpu"))
    shop.part("line", line.part)
    assert line.told == [(1, 7), (2, 9), (3, 11)]
    assert shop.log["line"]["seconds"] == 11
    assert shop.log["line"]["images_per_second"] == 1.0  # two images in two seconds


def test_a_parts_seconds_go_on_where_it_was_stopped(tmp_path, monkeypatch):
    line, shop = Line(monkeypatch), Workshop(tmp_path, torch.device("cpu"))
    watch = line.part.watch

    def stopped(state, seconds: float) -> None:
        watch(state, seconds)
        if state.step == 2 and len(line.told) == 2:
            raise KeyboardInterrupt

    line.part.watch = stopped
    with pytest.raises(KeyboardInterrupt):
        shop.part("line", line.part)
    shop.part("line", line.part)
    assert line.told == [(1, 7), (2, 9), (3, 11)]
    assert shop.log["line"]["seconds"] == 11


def test_a_race_asks_for_seen_combinations_and_writes_down_when_it_was_good(tmp_path, monkeypatch):
    given = {}

    def train_all(tier, out, work, device, watch):
        given.update(tier=tier, out=out, work=work, device=device, prompts=watch.prompts)
        images = torch.zeros(len(watch.prompts), 3, 32, 32)
        for step in range(1, 4):
            watch(Painter(images), SimpleNamespace(step=step), 3.0 * step)

    monkeypatch.setattr(race, "train_all", train_all)
    monkeypatch.setattr(race, "satisfied", lambda images, prompts: torch.ones(len(prompts)) > 0)
    monkeypatch.setattr(race, "DATA", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", "race --tier smoke --count 60 --every 5 --out there".split())
    race.main()
    found = json.loads((tmp_path / "race_smoke.json").read_text(encoding="utf-8"))
    assert [look["step"] for look in found["looks"]] == [2] and found["seconds_to_goal"] == 6.0
    assert (found["tier"], found["prompts"], found["goal"]) == ("smoke", 60, GOAL)
    assert (given["tier"], str(given["out"]), given["device"]) == ("smoke", "there", "cpu")
    assert given["work"].name == "work" and not given["work"].parent.exists()
    things = [thing for prompt in given["prompts"] for thing in parse(prompt).things]
    assert len(given["prompts"]) == 60 < len(things)  # the smoke tier's world: one or two
    assert not any(HELDOUT_PAIRS[COLOURS.index(t.colour), KINDS.index(t.kind)] for t in things)
