"""Lesson 6's recipe: the network fits the scenes, and the figures count what they say."""

import json

import numpy as np
import pytest
import torch

from t2i.files.results import share_told
from t2i.judging.scene_judge import View
from t2i.runs import scene_runs
from t2i.runs.scene_recipes import (
    LENGTH,
    WEIGHTS,
    ByTokens,
    draw_captions,
    scene_loss,
    scene_recipe,
)
from t2i.runs.scene_runs import count_lone_views, prompts, summary
from t2i.text_unet import SceneDenoiser
from t2i.world.caption_reading import PADDING, VOCABULARY, encode, parse
from t2i.world.captions import SHAPES, Thing
from t2i.world.scene_heldout import HELDOUT_PAIRS
from t2i.world.scene_specs import draw_specs

TINY = {
    "block_channels": (8, 16),
    "attention_levels": (False, True),
    "layers_per_block": 1,
    "head_channels": 8,
    "norm_groups": 4,
    "context_dim": 8,
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SceneDenoiser(len(VOCABULARY), max_length=LENGTH, **TINY).eval()


def test_every_caption_of_one_object_fits():
    for split in ("train", "heldout_phrasings", "heldout_pairs"):
        encode(draw_specs(range(2000), split, "one").captions(), LENGTH)


def test_the_loss_reaches_the_words(model):
    loss = scene_loss(model, next(scene_recipe("smoke").batches()))
    loss.backward()
    assert loss.isfinite() and loss.ndim == 0
    touched = [p for p in model.words.parameters() if p.grad is not None]
    assert touched
    model.zero_grad(set_to_none=True)


def test_tokens_alone_are_the_condition(model):
    x_t, t = torch.randn(3, 3, 32, 32), torch.tensor([0, 500, 999])
    tokens, mask = encode(["a red seven", "a star in blue", "there is a pink 8"], LENGTH)
    torch.testing.assert_close(ByTokens(model)(x_t, t, tokens), model(x_t, t, tokens, mask))
    nothing = torch.full_like(tokens, PADDING)
    unasked = ByTokens(model)(x_t, t, nothing)
    torch.testing.assert_close(unasked, model(x_t, t, tokens, torch.zeros_like(mask)))


def test_the_seed_decides_the_picture(model):
    drawn = [draw_captions(model, ["a red 7"], seed, num_inference_steps=2) for seed in (1, 1, 2)]
    assert drawn[0].shape == (1, 3, 32, 32)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_prompts_take_every_pair_in_turn():
    specs = prompts(HELDOUT_PAIRS, 48, "train", seed=0)
    pairs, times = np.unique(
        np.stack([specs.colour[:, 0], specs.kind[:, 0]]), axis=1, return_counts=True
    )
    assert pairs.shape == (2, 16) and (times == 3).all()
    assert HELDOUT_PAIRS[specs.colour[:, 0], specs.kind[:, 0]].all()
    assert not any(specs.how(row).is_heldout() for row in range(48))
    told = prompts(~HELDOUT_PAIRS, 112, "heldout_phrasings", seed=0)
    assert all(told.how(row).is_heldout() for row in range(112))


def test_figures_count_what_they_say(monkeypatch):
    specs = prompts(~HELDOUT_PAIRS, 112, "train", seed=0)
    asked = [parse(caption) for caption in specs.captions()]

    def view(thing):
        return View((thing,), ((0.5, 0.5),), (0.5,), "black", 1.0)

    monkeypatch.setattr(scene_runs, "look", lambda _: [view(s.things[0]) for s in asked])
    views = [view(scene.things[0]) for scene in asked]
    wrong_colour = "blue" if asked[0].things[0].colour == "red" else "red"
    views[0] = view(Thing(wrong_colour, asked[0].things[0].kind))
    views[1] = View((), (), (), "black", 1.0)
    found = count_lone_views(views, asked, specs)
    assert found["n"] == 112 and found["nothing_seen"] == pytest.approx(1 / 112)
    shares = {name: found[name]["share"] for name in ("colour", "object", "satisfied", "rendered")}
    wanted = {"colour": 110, "object": 111, "satisfied": 110, "rendered": 112}
    assert shares == pytest.approx({name: hits / 112 for name, hits in wanted.items()})
    assert found["shuffled"]["share"] < 0.1 and len(found["failures"]) == 2
    assert found["satisfied"]["low"] < 110 / 112 < found["satisfied"]["high"]
    (row,) = summary({"captions": {"seen_pairs": found}})
    assert row[:2] == ("seen pairs", "112") and len(row) == 7


def test_bad_input():
    with pytest.raises(ValueError, match="tier must be one of smoke"):
        scene_recipe("huge")
    with pytest.raises(ValueError, match="count of 1 or more"):
        prompts(HELDOUT_PAIRS, 0, "train", 0)


@pytest.fixture(scope="module")
def figures() -> dict:
    return json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))


def test_committed_figures_are_this_recipes_and_stand_beside_floor_and_ceiling(figures):
    assert figures["steps"] == scene_recipe("cpu").training.steps
    seen, new = figures["captions"]["seen_pairs"], figures["captions"]["heldout_pairs"]
    assert seen["n"] >= 1000 and new["n"] >= 500
    for row in (seen, new):
        assert row["shuffled"]["share"] < 0.1 < row["satisfied"]["share"]
        assert row["rendered"]["share"] >= 0.98
        assert row["satisfied"]["share"] <= row["object"]["share"]


def test_committed_figures_reach_the_aim(figures):
    assert figures["captions"]["seen_pairs"]["satisfied"]["share"] >= 0.97
    assert figures["captions"]["heldout_pairs"]["satisfied"]["share"] >= 0.95


def test_the_page_of_measurements_says_what_was_measured(figures):
    page = (WEIGHTS.parents[1] / "lessons/06_cross_attention/more.md").read_text(encoding="utf-8")
    smooth, fresh = (
        share_told(found)
        for found in (
            figures["satisfied_without_fresh_noise"],
            figures["captions"]["seen_pairs"]["satisfied"],
        )
    )
    assert f"without fresh noise **{smooth}**, with it **{fresh}**" in page
    failures = [pair for found in figures["captions"].values() for pair in found["failures"]]
    nothing = sum(not seen for _, seen in failures)
    assert f"All {len(failures)} failures were digits. In {nothing} of them" in page
    assert not {caption.split()[-1] for caption, _ in failures} & set(SHAPES)
