"""Scenes: the same number is the same picture, and the held-out ones never come up in training."""

from itertools import combinations

import numpy as np
import pytest
import torch

from t2i import data
from t2i.engine.batches import uniforms
from t2i.world import scene_ink, scenes
from t2i.world.caption_reading import parse
from t2i.world.captions import BACKGROUNDS, COLOURS, KINDS
from t2i.world.scene_heldout import HELDOUT_PAIRS, HELDOUT_TRIPLES, heldout
from t2i.world.scene_ink import DIGIT_PARTS, digit_bank
from t2i.world.scene_news import what_is_new
from t2i.world.scene_sheet import show_scenes
from t2i.world.scene_specs import SPLITS, draw_specs
from t2i.world.scenes import PALETTE, SceneBatches, paint

MANY = 50_000


def triples_of(specs):
    """(kind, direction, kind) of every two things that stand in relation."""
    found = set()
    for first, second in ((0, 1), (1, 2), (0, 2)):
        rows = specs.count > second
        columns = (specs.kind[rows, first], specs.direction[rows], specs.kind[rows, second])
        found |= set(zip(*(column.tolist() for column in columns), strict=True))
    return found


def pairs_of(specs):
    """(colour, kind) of every thing."""
    there = np.arange(3)[None, :] < specs.count[:, None]
    return set(zip(specs.colour[there].tolist(), specs.kind[there].tolist(), strict=True))


HELDOUT_PAIR_SET = set(zip(*np.nonzero(HELDOUT_PAIRS), strict=True))
HELDOUT_TRIPLE_SET = set(zip(*np.nonzero(HELDOUT_TRIPLES), strict=True))


@pytest.mark.parametrize("world", ["one", "pair", "many"])
def test_training_never_shows_what_is_held_out(world):
    specs = draw_specs(range(MANY), "train", world)
    assert not pairs_of(specs) & HELDOUT_PAIR_SET
    assert not triples_of(specs) & HELDOUT_TRIPLE_SET
    assert not any(specs.how(row).is_heldout(specs.count[row]) for row in range(0, MANY, 5))
    assert len(pairs_of(specs)) == len(COLOURS) * len(KINDS) - len(HELDOUT_PAIR_SET)  # all others


def test_training_shows_every_kind_on_both_sides_of_every_relation():
    seen = triples_of(draw_specs(range(MANY), "train", "many"))
    for direction in (0, 1):
        assert {a for a, d, _ in seen if d == direction} == set(range(len(KINDS)))
        assert {b for _, d, b in seen if d == direction} == set(range(len(KINDS)))


def test_captions_tell_nothing_held_out_either():
    """The same proof by another way: read the captions and look at what they ask for."""
    specs = draw_specs(range(4000), "train", "many")
    for caption in specs.captions():
        for thing in parse(caption).things:
            pair = COLOURS.index(thing.colour), KINDS.index(thing.kind)
            assert pair not in HELDOUT_PAIR_SET, caption


def test_heldout_splits_hold_what_they_say():
    for world in ("one", "pair", "many"):
        specs = draw_specs(range(1000), "heldout_pairs", world)
        assert all(heldout_in(specs, row) for row in range(1000))
        assert pairs_of(specs) >= HELDOUT_PAIR_SET
        assert not triples_of(specs) & HELDOUT_TRIPLE_SET
        told = draw_specs(range(1000), "heldout_phrasings", world)
        assert all(told.how(row).is_heldout() for row in range(1000))
        assert not pairs_of(told) & HELDOUT_PAIR_SET
    specs = draw_specs(range(4000), "heldout_triples", "many")
    assert triples_of(specs) >= HELDOUT_TRIPLE_SET and not pairs_of(specs) & HELDOUT_PAIR_SET
    pairs, triples = heldout(specs.kind, specs.colour, specs.direction, specs.count)
    assert triples.all() and not pairs.any()
    assert all(parse(caption).relation for caption in specs.captions()[:200])


def heldout_in(specs, row):
    things = zip(specs.colour[row], specs.kind[row], strict=True)
    return any(pair in HELDOUT_PAIR_SET for pair in list(things)[: specs.count[row]])


def test_new_pairs_are_those_that_training_never_shows():
    seen, specs = (
        draw_specs(range(300), "train"),
        draw_specs(range(300), "heldout_pairs", "many", 5),
    )
    for row in range(300):
        assert not what_is_new(seen, row)
        things = specs.scene(row).things
        held_out = [
            (COLOURS.index(t.colour), KINDS.index(t.kind)) in HELDOUT_PAIR_SET for t in things
        ]
        named = [f"{t.colour} {t.kind}" for t, new in zip(things, held_out, strict=True) if new]
        assert named and what_is_new(specs, row) == named


def test_new_relations_and_phrasings_are_named_as_training_never_has_them():
    seen = draw_specs(range(4000), "train", "many")
    met = {
        f"{first.kind} {scene.relation} {second.kind}"
        for scene in map(seen.scene, range(4000))
        for first, second in combinations(scene.things, 2)
    }
    for split in ("heldout_triples", "heldout_phrasings"):
        specs = draw_specs(range(200), split, "many", 5)
        new = [news for row in range(200) for news in what_is_new(specs, row)]
        assert len(new) >= 200 and len(set(new)) >= 4
        if split == "heldout_triples":
            assert not met.intersection(new) and all(len(each.split()) in (3, 4) for each in new)
        else:
            assert {each.partition(" + ")[0] for each in new} == {
                "a picture of", "there is", "a drawing of", "here you see",
            }  # fmt: skip


def test_held_out_pairs_are_spread_evenly():
    assert HELDOUT_PAIRS.sum(axis=0).tolist() == [1] * len(KINDS)
    assert HELDOUT_PAIRS.sum(axis=1).tolist() == [2] * len(COLOURS)
    assert 0.05 < HELDOUT_TRIPLES.mean() < 0.15


@pytest.mark.parametrize("split", SPLITS)
def test_captions_say_what_is_in_the_picture(split):
    specs = draw_specs(range(500), split, "many")
    for row in range(500):
        told, scene = parse(specs.caption(row)), specs.scene(row)
        assert told == specs.told(row)
        assert [(t.colour, t.kind) for t in told.things] == [
            (t.colour, t.kind) for t in scene.things
        ]
        assert told.relation in (None, scene.relation)
        assert told.background in (None, scene.background)


@pytest.mark.parametrize("world", ["one", "pair", "many"])
def test_a_number_is_a_picture_whatever_the_batch(world):
    images, captions = scenes.scenes(range(40), world=world, seed=5)
    later, later_captions = scenes.scenes([31, 7, 39], world=world, seed=5)
    torch.testing.assert_close(later, images[[31, 7, 39]], rtol=0, atol=1e-6)
    assert later_captions == [captions[row] for row in (31, 7, 39)]
    other, _ = scenes.scenes(range(40), world=world, seed=6)
    assert not torch.equal(images, other)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_pictures_have_the_promised_form(size):
    images, captions = scenes.scenes(range(9), world="many", size=size)
    assert images.shape == (9, 3, size, size) and images.dtype == torch.float32
    assert images.min() >= -1 and images.max() <= 1 and len(captions) == 9


def test_the_background_is_behind_and_the_colour_in_front():
    specs = draw_specs(range(300), "any", "many")
    images = (paint(specs) + 1) / 2
    y, x, *_ = scenes.place(specs)
    for row in range(300):
        scene = specs.scene(row)
        corner = torch.tensor(scenes.BACKGROUND_PALETTE[scene.background])
        torch.testing.assert_close(images[row, :, 0, 0], corner, rtol=0, atol=0.25)
        for slot, thing in enumerate(scene.things):
            if thing.kind not in ("circle", "square", "cross", "heart", "star", "triangle"):
                continue
            at = images[row, :, int(32 * y[row, slot]), int(32 * x[row, slot])]
            colour = torch.tensor(PALETTE[thing.colour])
            nearest = min(PALETTE, key=lambda n: (torch.tensor(PALETTE[n]) - at).norm().item())
            assert nearest == thing.colour, (thing, at, colour)


def test_relations_hold_in_the_layout():
    specs = draw_specs(range(2000), "any", "many")
    y, x, height, _ = scenes.place(specs)
    for slot in (0, 1):
        rows = torch.from_numpy(specs.count > slot + 1)
        across = torch.from_numpy(specs.direction == 0) & rows
        down = torch.from_numpy(specs.direction == 1) & rows
        assert (x[across, slot + 1] - x[across, slot] > 0.25).all()
        assert (y[down, slot + 1] - y[down, slot] > 0.25).all()
    there = torch.arange(3)[None] < torch.from_numpy(specs.count)[:, None]
    for centre in (y[there], x[there]):  # everything is inside the picture
        assert (centre - height[there] / 2 > -0.05).all()
        assert (centre + height[there] / 2 < 1.05).all()


def test_no_digit_is_shared():
    banks = {part: digit_bank(part) for part in DIGIT_PARTS}
    for bank, starts in banks.values():
        assert bank.dtype == torch.uint8 and starts[0] == 0 and starts[-1] == len(bank)
    prints = {part: {d.numpy().tobytes() for d in banks[part][0]} for part in banks}
    assert len(prints["train"] & prints["judge"]) <= 10  # MNIST itself holds a few twins
    assert len(prints["train"] & prints["test"]) <= 10


def test_scenes_without_mnist(monkeypatch):
    monkeypatch.setattr(scene_ink, "mnist", data._digits)
    caches = (digit_bank, scene_ink._pixels)
    for cached in caches:
        cached.cache_clear()
    try:
        for part in DIGIT_PARTS:
            bank, starts = digit_bank(part)
            assert (starts.diff() > 10).all()
        assert paint(draw_specs(range(20))).isfinite().all()
    finally:
        for cached in caches:
            cached.cache_clear()


def test_batches_go_on_where_they_stood():
    batches = SceneBatches(6, length=12)
    next(batches)
    state = batches.state()
    images, tokens, mask = next(batches)
    assert images.shape == (6, 3, 32, 32) and tokens.shape == mask.shape == (6, 12)
    again = SceneBatches(6, length=12)
    again.restore(state)
    for first, second in zip((images, tokens, mask), next(again), strict=True):
        assert torch.equal(first, second)
    with pytest.raises(ValueError, match="seed"):
        SceneBatches(6, seed=1).restore(state)


def test_random_numbers_are_uniform_and_independent():
    u = uniforms(7, np.arange(20_000), 3, 4)
    assert u.shape == (20_000, 4) and u.min() >= 0 and u.max() < 1
    assert np.abs(u.mean(axis=0) - 0.5).max() < 0.01
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.03
    assert abs(np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]) < 0.03
    assert np.array_equal(uniforms(7, np.array([123]), 4, 2), u[123:124, 1:3])


def test_backgrounds_all_come_up():
    specs = draw_specs(range(400), "train", "many")
    assert set(specs.background) == set(range(len(BACKGROUNDS)))
    assert set(draw_specs(range(100)).background) == {0}


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: draw_specs([0], split="test"), "split must be one of train"),
        (lambda: draw_specs([0], world="two"), "world of one, lone, pair, many"),
        (lambda: draw_specs([-1]), "0 or more"),
        (lambda: draw_specs([0.5]), "whole numbers"),
        (lambda: draw_specs([0], "heldout_triples", "one"), "needs two things"),
        (lambda: scenes.scenes([0], size=8), "16 or more, got 8"),
        (lambda: scenes.scenes([0], digits="mine"), "digits must be one of train"),
        (lambda: SceneBatches(0), "batch_size must be 1 or more"),
        (lambda: SceneBatches(4, split="all"), "split must be one of"),
        (lambda: show_scenes(torch.zeros(2, 3, 32, 32), ["one"]), "a caption each"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_sheet_shows_and_says():
    images, captions = scenes.scenes(range(4))
    picture = show_scenes(images, captions, columns=3)
    assert captions[0] in picture.alt
