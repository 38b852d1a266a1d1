"""The judge of scenes: its logic in closed form, its committed weights on pictures it never saw."""

import json

import pytest
import torch

from t2i.data import data_source
from t2i.judging import scene_judge_data
from t2i.judging.scene_broken import BROKEN
from t2i.judging.scene_judge import View, in_order, look, satisfied, shows, size_and_place
from t2i.judging.scene_judge_data import JudgeBatches, bent, cell_shares, check_judge, targets
from t2i.judging.scene_judge_net import ABSENT, WEIGHTS, JudgeNet, answers, judge_of, load_judge
from t2i.world.caption_reading import CaptionError, parse
from t2i.world.captions import COLOURS, KINDS, Thing
from t2i.world.scene_specs import draw_specs
from t2i.world.scenes import paint, place, scenes

needs_mnist = pytest.mark.skipif(
    not data_source().startswith("MNIST, 60,000"), reason=f"needs real MNIST, has {data_source()}"
)


def view(*things, places=None, background="black", height=0.5):
    found = tuple(Thing(*words.split()) for words in things)
    places = places or tuple((0.5, 0.25 + 0.5 * i) for i in range(len(found)))
    return View(found, tuple(places), (height,) * len(found), background, 1.0)


@pytest.mark.parametrize(
    "seen, caption, right",
    [
        (view("red seven"), "a red seven", True),
        (view("red seven"), "a drawing of a 7 in red", True),
        (view("red one"), "a red seven", False),
        (view("pink seven"), "a red seven", False),
        (view(), "a red seven", False),
        (view("red seven", "blue star"), "a red seven", False),
        (view("blue star", "red seven"), "a red seven and a blue star", True),
        (view("red seven", "blue star"), "a red seven left of a blue star", True),
        (view("red seven", "blue star"), "a blue star right of a red seven", True),
        (view("red seven", "blue star"), "a red seven right of a blue star", False),
        (view("red seven", "blue star"), "a red seven above a blue star", False),
        (view("blue seven", "red star"), "a red seven left of a blue star", False),
        (view("red seven"), "a red seven on a white background", False),
        (view("red seven", background="white"), "a red seven on a white background", True),
        (view("red seven", height=0.4), "a small red seven", True),
        (view("red seven", height=0.4), "a large red seven", False),
        (view("red seven", places=[(0.5, 0.26)]), "a red seven on the left", True),
        (view("red seven", places=[(0.5, 0.26)]), "a red seven in the middle", False),
    ],
)
def test_what_counts_as_shown(seen, caption, right):
    assert shows(seen, parse(caption)) is right


def test_order_and_place():
    row = [(0.5, 0.2), (0.45, 0.5), (0.5, 0.8)]
    assert in_order(row, "left of") and not in_order(row, "above")
    assert not in_order(row[::-1], "left of")
    assert not in_order([(0.2, 0.2), (0.8, 0.4)], "left of")  # rather above than left
    assert size_and_place(0.7, (0.5, 0.55)) == ("large", "middle")
    assert size_and_place(0.4, (0.2, 0.55)) == ("small", "top")
    assert size_and_place(0.4, (0.5, 0.8)) == ("small", "right")


def test_rendered_sizes_and_places_have_the_judges_names():
    specs = draw_specs(range(3000), "any", "many", seed=9)
    y, x, height, _ = place(specs)
    for row in range(3000):
        if specs.count[row] == 1:
            thing = specs.scene(row).things[0]
            where = (y[row, 0].item(), x[row, 0].item())
            assert size_and_place(height[row, 0].item(), where) == (thing.size, thing.place)
        else:
            places = list(zip(y[row].tolist(), x[row].tolist(), strict=True))
            assert in_order(places[: specs.count[row]], specs.scene(row).relation)


@pytest.mark.parametrize("side", WEIGHTS)
def test_network_and_targets_fit_together(side):
    specs = draw_specs(range(12), "any", "many")
    found, truth = JudgeNet(side)(paint(specs, side)), targets(specs)
    assert found["kind"].shape == (12, len(COLOURS), len(KINDS) + 1)
    assert found["place"].shape == (*truth["kind"].shape, 2) == truth["place"].shape
    assert found["height"].shape == truth["height"].shape
    there = truth["kind"] != ABSENT
    assert there.sum(dim=1).tolist() == specs.count.tolist()
    for row in range(12):
        for thing in specs.scene(row).things:
            assert truth["kind"][row, COLOURS.index(thing.colour)] == KINDS.index(thing.kind)


def test_cell_shares_keep_the_place():
    places = 0.1 + 0.8 * torch.rand(20, 2)
    share = cell_shares(places, 64).view(20, 8, 8)
    centres = (torch.arange(8) + 0.5) / 8
    torch.testing.assert_close(share.sum(dim=(1, 2)), torch.ones(20))
    torch.testing.assert_close((share.sum(dim=2) * centres).sum(dim=1), places[:, 0])
    torch.testing.assert_close((share.sum(dim=1) * centres).sum(dim=1), places[:, 1])


@pytest.mark.parametrize("side", WEIGHTS)
def test_training_batches_hold_broken_pictures_too(side):
    batch = next(JudgeBatches(batch_size=80, side=side))
    assert batch["images"].shape == (80, 3, side, side)
    broken = batch["background"] == -1
    assert broken.sum() == 20 and (batch["kind"][broken] == ABSENT).all()
    assert batch["images"].isfinite().all() and batch["images"].abs().max() <= 1.0001
    for make in BROKEN:
        specs = draw_specs(range(6), "any", "one")
        images = paint(specs, side, digits="judge")
        made = make(images, images.roll(1, 0), specs, "judge")
        assert made.shape == images.shape
        assert ((made - images).abs().amax(dim=(1, 2, 3)) > 0.1).all(), make.__name__


JUDGED = {32: ("one",), 64: ("one", "many")}  # where each attribute is read in 99 % or more


@needs_mnist
@pytest.mark.parametrize("side", WEIGHTS)
def test_the_committed_judge_is_right(side):
    """The figures beside its weights hold here, on fewer pictures and other scenes."""
    recorded = json.loads(WEIGHTS[side].with_suffix(".json").read_text())["rendered"]
    for world in JUDGED[side]:
        specs = draw_specs(range(600), "any", world, seed=77)
        measured = scene_judge_data.attribute_accuracy(load_judge(side), specs)
        for name in ("colour", "object", "background"):
            assert measured[name] > 0.98, measured
            assert recorded[world][name] >= 0.99
    assert WEIGHTS[side].stat().st_size < 2_000_000


@pytest.mark.parametrize("side", WEIGHTS)
def test_the_committed_judge_sees_nothing_in_noise(side):
    noise = torch.randn(300, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert sum(bool(v.things) for v in look(noise)) <= 3
    assert not satisfied(torch.zeros(2, 3, side, side), ["a red seven", "a blue star"]).any()


@pytest.mark.parametrize("size, side", [(16, 32), (32, 32), (63, 32), (64, 64), (80, 64)])
def test_pictures_are_judged_by_the_judge_of_their_size(size, side):
    """No detail is thrown away that a judge could use, and none is made up for a larger one."""
    images = torch.zeros(2, 3, size, size + 3)
    assert judge_of(images).side == side
    seen = []
    model = JudgeNet(side).eval()
    model.register_forward_hook(lambda _, given, found: seen.append(given[0].shape))
    answers(images, model)
    assert seen == [(2, 3, side, side)]


def test_no_pixel_of_a_larger_picture_is_lost():
    """64 pixels differ from the same picture at 32: one bright pixel moved by one is seen."""
    judge = JudgeNet(64).eval()
    dot, moved = torch.zeros(2, 1, 3, 64, 64)
    dot[..., 20, 20], moved[..., 20, 21] = 1.0, 1.0
    assert (judge.features(dot) - judge.features(moved)).abs().max() > 1e-6


@needs_mnist
def test_satisfied_reads_captions_or_scenes_at_any_size():
    images, captions = scenes(range(60), split="any", size=64, digits="test")
    right = satisfied(images, captions)
    assert right.dtype == torch.bool and right.float().mean() > 0.9
    assert torch.equal(right, satisfied(images, [parse(caption) for caption in captions]))
    assert satisfied(images, captions[1:] + captions[:1]).float().mean() < 0.2


@pytest.mark.parametrize(
    "images, says",
    [
        (torch.zeros(2, 1, 32, 32), r"must be \(B, 3, H, W\)"),
        (torch.zeros(2, 3, 8, 8), "16 or more"),
        (torch.zeros(0, 3, 32, 32), "one picture or more"),
        (torch.full((1, 3, 32, 32), float("nan")), "NaN"),
    ],
)
def test_pictures_that_cannot_be_looked_at(images, says):
    with pytest.raises(ValueError, match=says):
        answers(images, JudgeNet().eval())


def test_captions_that_do_not_fit():
    with pytest.raises(ValueError, match="a caption each"):
        satisfied(torch.zeros(2, 3, 32, 32), ["a red seven"])
    with pytest.raises(ValueError, match="a caption each"):
        satisfied(torch.zeros(1, 3, 32, 32), "a red seven")
    with pytest.raises(CaptionError, match="unknown"):
        satisfied(torch.zeros(1, 3, 32, 32), ["a red zebra"])


@pytest.mark.parametrize("side", WEIGHTS)
def test_check_reports_every_figure(tmp_path, monkeypatch, side):
    monkeypatch.setattr(scene_judge_data, "load_judge", lambda side, path: JudgeNet(side).eval())
    found = check_judge(tmp_path / "judge.safetensors", count=24, side=side)
    assert {"n", "colour", "object", "background", "all"} <= found["rendered"]["one"].keys()
    assert len(found["nothing_seen_in_broken"]) == len(BROKEN) + 1
    assert json.loads((tmp_path / "judge.json").read_text()) == found


def test_where_a_thing_is_bends_with_its_picture():
    """A dot is painted at each place; after the bend it lies where the judge is told that it is."""
    generator = torch.Generator().manual_seed(0)
    place = 0.25 + 0.5 * torch.rand(40, 1, 2, generator=generator)
    axis = (torch.arange(64) + 0.5) / 64
    y, x = axis[:, None] - place[:, :1, :1], axis[None, :] - place[:, :1, 1:]
    dots = torch.exp(-(y**2 + x**2) / (2 * 0.03**2))[:, None].expand(-1, 3, -1, -1)
    batch = {"images": dots, "place": place, "height": torch.full((40, 1), 0.4)}
    found, again = bent(batch, seed=3), bent(batch, seed=3)
    assert torch.equal(found["images"], again["images"])
    weight = found["images"][:, 0]
    total = weight.sum((1, 2))
    centre_y = (weight.sum(2) @ axis) / total
    centre_x = (weight.sum(1) @ axis) / total
    moved = torch.stack([centre_y, centre_x], dim=1)
    torch.testing.assert_close(found["place"][:, 0], moved, atol=3e-3, rtol=0)
    assert (moved - place[:, 0]).norm(dim=1).mean() > 0.01  # it does bend
    heights = found["height"].flatten() / 0.4
    assert heights.min() > 1 / 1.09 and heights.max() < 1 / 0.91 and heights.std() > 0.02
