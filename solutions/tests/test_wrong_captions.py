"""Captions that are wrong by their order or by one thing, and the CLIP that learns from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from t2i.clip import contrastive_loss
from t2i.runs.clip_batches import caption_tokenizer
from t2i.runs.clip_recipes import clip_recipe
from t2i.runs.pair_clip import PairBatches, PairClipRecipe
from t2i.world.caption_reading import parse
from t2i.world.captions import COLOURS, KINDS, Scene
from t2i.world.scene_heldout import HELDOUT_PAIRS
from t2i.world.scene_specs import draw_specs
from t2i.world.wrong_captions import (
    replaced_captions,
    swapped_captions,
    wrong_caption_loss,
    wrong_chances,
)

SPECS = draw_specs(range(600), world="pair")


def exchanged(scene: Scene, *names: str) -> Scene:
    """The scene after its first two things have exchanged these attributes."""
    first, second, *rest = scene.things
    a = replace(first, **{name: getattr(second, name) for name in names})
    b = replace(second, **{name: getattr(first, name) for name in names})
    return replace(scene, things=(a, b, *rest))


@pytest.mark.parametrize("world", ["pair", "many"])
def test_swapped_captions_ask_for_what_is_not_there(world):
    specs = draw_specs(range(300), world=world)
    rows, captions = swapped_captions(specs)
    kinds, places = set(), set()
    for row, caption in zip(rows, captions, strict=True):
        told, asked = specs.told(row), parse(caption)
        assert asked != told
        if asked == exchanged(told, "kind"):
            kinds.add(row)
        else:
            assert told.relation and asked == exchanged(told, "kind", "colour")
            places.add(row)
    assert len(rows) == len(kinds) + len(places)
    several = np.flatnonzero(specs.count > 1)
    assert len(kinds) > 0.6 * len(several) and len(places) > 0.6 * len(several)
    assert not (kinds | places) & set(np.flatnonzero(specs.count == 1))


@pytest.mark.parametrize("world", ["pair", "many"])
def test_replaced_captions_change_one_kind_and_nothing_else(world):
    specs = draw_specs(range(600), world=world)
    rows, captions = replaced_captions(specs, wrong_chances(range(600), world, 0))
    places, became = [], set()
    for row, caption in zip(rows, captions, strict=True):
        told, asked = specs.told(row), parse(caption)
        pairs = list(zip(told.things, asked.things, strict=True))
        (place,) = [i for i, (mine, other) in enumerate(pairs) if mine != other]
        kind = asked.things[place].kind
        assert asked.things[place] == replace(told.things[place], kind=kind)
        assert kind not in {thing.kind for thing in told.things}
        assert replace(asked, things=told.things) == told
        places.append(place)
        became.add(kind)
    several = specs.count > 1
    assert len(rows) == len(set(rows)) > 0.6 * several.sum() and several[rows].all()
    assert became == set(KINDS)
    for place in range(specs.count.max()):
        there = (specs.count[rows] > place).sum()
        assert 0.2 * there < places.count(place) < 0.65 * there


def test_held_out_pairs_are_no_wrong_captions_either():
    _, captions = swapped_captions(SPECS)
    replaced = replaced_captions(SPECS, wrong_chances(range(len(SPECS)), "pair", 0))
    for caption in captions + replaced[1]:
        for thing in parse(caption).things:
            assert not HELDOUT_PAIRS[COLOURS.index(thing.colour), KINDS.index(thing.kind)]


def test_wrong_caption_loss_is_the_cross_entropy_of_choosing_between_two():
    torch.manual_seed(0)
    images, texts, swapped = torch.randn(3, 7, 5)
    scale = torch.tensor(1.3)
    unit = [F.normalize(x, dim=-1) for x in (images, texts, swapped)]
    logits = scale.exp() * torch.stack([(unit[0] * x).sum(-1) for x in unit[1:]], dim=1)
    wanted = F.cross_entropy(logits, torch.zeros(7, dtype=torch.long))
    torch.testing.assert_close(wrong_caption_loss(images, 3 * texts, swapped, scale), wanted)
    torch.testing.assert_close(
        wrong_caption_loss(images, texts, texts, scale), torch.tensor(2.0).log()
    )
    none = torch.zeros(0, 5)
    assert wrong_caption_loss(none, none, none, scale) == 0


def test_wrong_caption_loss_says_what_does_not_fit():
    x = torch.ones(3, 5)
    with pytest.raises(ValueError, match="one row a picture"):
        wrong_caption_loss(x, x, x[:2], torch.tensor(0.0))
    with pytest.raises(ValueError, match="finite"):
        wrong_caption_loss(x, x, x / 0, torch.tensor(0.0))


def test_captions_follow_the_picture_at_first(monkeypatch):
    told = []
    monkeypatch.setattr(PairBatches, "_tokens", lambda self, captions: told.append(list(captions)))
    batches = PairBatches(64, caption_tokenizer("pair"), worlds=("pair",), length=24, plain=1)
    next(batches), next(batches)
    turned = ("right of", "below", "under")
    early, late = ([any(w in c for w in turned) for c in captions] for captions in told[::2])
    assert not any(early) and 0.1 < np.mean(late) < 0.4


def test_batches_hold_scenes_captions_and_wrong_captions():
    tokenizer = caption_tokenizer("pair")
    batches = PairBatches(32, tokenizer, worlds=("one", "pair"), length=24)
    images, tokens, rows, wrong = next(batches)
    assert images.shape == (32, 3, 32, 32) and tokens.shape == (32, 24)
    assert rows.min() >= 16  # the lone digits of the first world have no order
    specs = draw_specs(range(16), world="pair")
    whose, captions = swapped_captions(specs)
    others, replaced = replaced_captions(specs, wrong_chances(range(16), "pair", 0))
    assert torch.equal(rows, torch.from_numpy(np.concatenate([whose, others])) + 16)
    assert torch.equal(wrong, tokenizer(captions + replaced, 24))
    state = batches.state()
    later = next(batches)
    batches.restore(state)
    assert all(torch.equal(a, b) for a, b in zip(later, next(batches), strict=True))


def test_the_recipes_loss_is_both_losses():
    small = clip_recipe("smoke")
    plan = PairClipRecipe(**vars(small) | {"worlds": ("pair",), "length": 24})
    assert plan.batches().plain == round(0.2 * small.training.steps)
    model, batch = plan.build(), next(plan.batches())
    images, tokens, rows, wrong_tokens = batch
    pictures, texts = model.encode_images(images), model.encode_texts(tokens)
    wrong = model.encode_texts(wrong_tokens)
    wanted = contrastive_loss(pictures, texts, model.logit_scale)
    wanted += wrong_caption_loss(pictures[rows], texts[rows], wrong, model.logit_scale)
    torch.testing.assert_close(plan.loss(model, batch), wanted)


def test_wrong_captions_are_found_half_of_the_time_by_chance_and_always_by_one_who_knows():
    plan = PairClipRecipe(**vars(clip_recipe("smoke")) | {"worlds": ("pair",), "length": 24})
    chance = plan.measure(plan.build(), 300)
    assert set(chance) == {"order_heard", "kind_heard"}
    assert all(0.3 < share < 0.7 for share in chance.values())
    specs = draw_specs(range(300), world="pair", seed=10)
    right = {tuple(row) for row in plan.tokenizer(specs.captions(), 24).tolist()}

    class Knows:
        def encode_images(self, images):
            return torch.ones(len(images), 1)

        def encode_texts(self, tokens):
            return torch.tensor([[1.0 if tuple(t) in right else -1.0] for t in tokens.tolist()])

    assert set(plan.measure(Knows(), 300).values()) == {1.0}
