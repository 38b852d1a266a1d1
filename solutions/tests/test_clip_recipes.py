"""Lesson 7's recipes: what CLIP and the painter read, and that the figures count what they say."""

import json

import numpy as np
import pytest
import torch

from t2i.runs import clip_runs, clip_scene_runs
from t2i.runs.clip_batches import LENGTH, WORLDS, ClipBatches, caption_tokenizer, captions_of
from t2i.runs.clip_recipes import WEIGHTS, clip_loss, clip_recipe
from t2i.runs.clip_scene_recipes import WEIGHTS as TOLD
from t2i.runs.clip_scene_recipes import (
    clip_scene_loss,
    clip_scene_recipe,
    draw_tokens,
    empty_caption,
)
from t2i.runs.pair_clip import PairBatches
from t2i.runs.scene_recipes import scene_recipe
from t2i.world.caption_reading import PADDING, VOCABULARY, encode, parse
from t2i.world.caption_synonyms import PLAIN_OF, SYNONYMS, WORDS, say_otherwise
from t2i.world.captions import COLOURS, DIGITS, KINDS
from t2i.world.scene_specs import draw_specs


def test_other_names_are_new_and_mean_one_thing():
    assert not set(WORDS) & set(VOCABULARY) and len(set(WORDS)) == len(WORDS)
    assert set(SYNONYMS) == {*COLOURS, *KINDS}


def test_captions_said_otherwise_mean_the_same():
    specs = draw_specs(range(400), world="lone")
    plain, other = captions_of(specs, 0.0), captions_of(specs, 1.0)
    assert plain == specs.captions()
    figures = {str(number): word for number, word in enumerate(DIGITS)}
    for before, after in zip(plain, other, strict=True):
        words = [figures.get(word, word) for word in before.split()]
        back = [PLAIN_OF.get(word, word) for word in after.split()]
        articles = ("a", "an")
        assert [w for w in back if w not in articles] == [w for w in words if w not in articles]
        assert sum(word in PLAIN_OF for word in after.split()) == 2
    assert say_otherwise("an orange seven", (0.0, 0.0)) == "an amber vii"
    assert say_otherwise("there is an orange 8", (0.9, 0.2), 0.5) == "there is an orange viii"
    assert say_otherwise("a one in red", (0.2, 0.7), 0.5) == "a one in crimson"
    assert say_otherwise("an 8 in pink", (0.2, 0.7), 0.5) == "an 8 in rose"
    half = [sum(word in PLAIN_OF for word in c.split()) for c in captions_of(specs)]
    assert 0.9 < np.mean(half) < 1.1


def test_every_caption_fits_into_a_row():
    for world in WORLDS:
        for split in ("train", "heldout_pairs", "heldout_phrasings"):
            captions = captions_of(draw_specs(range(1000), split, world), 1.0)
            longest = max(len(caption_tokenizer().encode(caption)) for caption in captions)
            assert longest <= LENGTH


def test_batches_are_half_of_each_world_and_go_on_where_they_stood():
    batches = ClipBatches(6)
    first, second = next(batches), next(batches)
    assert first[0].shape == (6, 3, 32, 32) and first[1].shape == (6, LENGTH)
    assert not torch.equal(first[0], second[0])
    one = draw_specs(range(3), world="one")
    assert first[1][:3].tolist() == caption_tokenizer()(captions_of(one), LENGTH).tolist()
    again, state = ClipBatches(6), json.loads(json.dumps(batches.state()))
    again.restore(state | {"position": 1})
    assert all(torch.equal(a, b) for a, b in zip(next(again), second, strict=True))
    with pytest.raises(ValueError, match="multiple of 2"):
        ClipBatches(5)
    with pytest.raises(ValueError, match="tier must be one of smoke"):
        clip_recipe("huge")


@pytest.mark.parametrize("kind", [ClipBatches, PairBatches])
def test_batches_do_not_go_on_with_other_data(kind):
    more = {"plain": 5} if kind is PairBatches else {}
    state = json.loads(json.dumps(kind(6, **more).state()))
    others = {"batch_size": 8, "seed": 1, "worlds": ("pair", "many"), "size": 64, "length": 24}
    for name, value in (others | ({"plain": 6} if more else {})).items():
        other = kind(**{"batch_size": 6} | more | {name: value})
        with pytest.raises(ValueError, match=f"its data has {name} "):
            other.restore(state)


@pytest.fixture(scope="module")
def model():
    return clip_recipe("smoke").build().eval()


def test_the_loss_starts_near_chance_and_reaches_every_weight(model):
    loss = clip_loss(model, next(ClipBatches(16)))
    loss.backward()
    assert np.log(16) - 0.5 < loss.item() < np.log(16) + 2
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(name.endswith("to_k.bias") for name in silent)
    model.zero_grad(set_to_none=True)


def test_recognition_counts_what_it_says(model, monkeypatch):
    specs = draw_specs(range(64), "train", "one", seed=3)
    right = torch.from_numpy(specs.kind[:, 0])

    def knows_objects(images, features):
        return right if features.shape[0] == len(KINDS) else torch.zeros(64, dtype=torch.int64)

    monkeypatch.setattr(clip_runs, "closest_class", knows_objects)
    found = clip_runs.zero_shot(model, caption_tokenizer(), specs)
    assert found["object"]["share"] == found["object said otherwise"]["share"] == 1.0
    assert found["colour"]["share"] < 0.4 and found["pair"]["chance"] == 0.0078
    texts = clip_runs.class_texts(True)
    assert [len(texts[name]) for name in ("colour", "object", "pair")] == [8, 16, 128]
    assert "an azure circle" in texts["colour"][COLOURS.index("blue")]


def test_what_is_true_of_what():
    specs = draw_specs(range(200), "train", "lone", seed=2)
    true, fitting = clip_runs.truths(specs)
    assert true.diagonal().all()
    scenes = [specs.scene(row) for row in range(200)]
    for i, j in ((i, j) for i in range(0, 200, 7) for j in range(200)):
        told, thing = parse(specs.caption(j)), scenes[i].things[0]
        wanted = told.things[0]
        fits = (wanted.colour, wanted.kind) == (thing.colour, thing.kind)
        fits &= wanted.size in (None, thing.size) and wanted.place in (None, thing.place)
        fits &= told.background in (None, scenes[i].background)
        assert fits == true[i, j]
    for j in range(0, 200, 7):
        told = parse(specs.caption(j))
        detail = told.things[0]
        there = [
            detail.size in (None, scene.things[0].size)
            and detail.place in (None, scene.things[0].place)
            and told.background in (None, scene.background)
            for scene in scenes
        ]
        assert fitting[j] == pytest.approx(sum(there) / 200)


def test_a_perfect_reader_finds_what_can_be_found(model, monkeypatch):
    specs = draw_specs(range(100), "train", "lone", seed=2)
    own = torch.eye(100)
    monkeypatch.setattr(clip_runs, "image_features", lambda *_: own)
    monkeypatch.setattr(clip_runs, "text_features", lambda *_: own[None])
    for way in ("picture to caption", "caption to picture"):
        found = clip_runs.retrieval(model, caption_tokenizer(), specs)[way]
        assert found["first"] == found["true"] == 1.0 and 0.5 < found["perfect"] <= 1.0
        assert found["chance"] == 0.01


@pytest.fixture(scope="module")
def painter():
    return clip_scene_recipe("smoke").build().eval()


def test_the_painters_batches_are_lesson_6s_scenes_as_tokens_and_go_on_where_they_stood():
    plan = clip_scene_recipe("smoke")
    batches, plain = plan.batches(), scene_recipe("smoke").batches()
    next(batches), next(plain)
    state = batches.state()
    images, tokens = next(batches)
    assert images.equal(next(plain)[0]) and tokens.shape == (plan.batch_size, LENGTH)
    captions = draw_specs(range(plan.batch_size, 2 * plan.batch_size)).captions()
    assert tokens.equal(caption_tokenizer()(captions, LENGTH))
    again = plan.batches()
    again.restore(state)
    for first, second in zip((images, tokens), next(again), strict=True):
        assert first.equal(second)


def test_the_painter_reads_tokens_and_leaves_clip_alone(painter):
    torch.nn.init.normal_(painter.denoiser.unet.conv_out.weight, std=0.1)
    loss = clip_scene_loss(painter, next(clip_scene_recipe("smoke").batches()))
    loss.backward()
    assert loss.isfinite()
    assert not any(p.requires_grad for p in painter.text.parameters())
    assert painter.to_cond.weight.grad.any()
    painter.zero_grad(set_to_none=True)
    tokens = caption_tokenizer()(["a red seven", "an azure disc"], LENGTH)
    x_t, t = torch.randn(2, 3, 32, 32), torch.tensor([10, 900])
    with torch.no_grad():
        before = painter(x_t, t, tokens)
        assert before.shape == x_t.shape
        swapped = painter(x_t, t, tokens.flip(0))
        cut = painter(x_t, t, tokens[:, :8])  # what stands behind the end must not matter
    assert (swapped - before).abs().max() > 1e-6
    torch.testing.assert_close(cut, before, rtol=1e-4, atol=1e-5)
    drawn = draw_tokens(painter, tokens, empty_caption(), 1, num_inference_steps=2)
    assert drawn.shape == (2, 3, 32, 32)


def test_unknown_words_get_vectors_of_their_own():
    told = ["a red seven", "there is a blue 8"]
    assert clip_scene_runs.word_tokens(told).equal(encode(told, 12)[0])
    other = clip_scene_runs.word_tokens(["a crimson vii"])
    assert (other >= len(VOCABULARY)).sum() == 2 and (other != PADDING).sum() == 3
    model = scene_recipe("smoke").build()
    old = model.words.words.weight.detach().clone()
    read, tokens, null = clip_scene_runs.by_words(model)(["a crimson vii"])
    assert null == PADDING and model.words.words.weight[: len(old)].equal(old)
    assert read(torch.randn(1, 3, 32, 32), torch.tensor([5]), tokens).shape == (1, 3, 32, 32)
    with pytest.raises(ValueError, match="no vector for 'ultramarine'"):
        clip_scene_runs.word_tokens(["an ultramarine seven"])


@pytest.fixture(scope="module")
def figures() -> dict:
    return json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))


def test_committed_figures_are_this_recipes(figures):
    assert figures["steps"] == clip_recipe("cpu").training.steps
    for found in figures["zero_shot"].values():
        assert found["n"] >= 1000 and found["pair"]["chance"] < 0.01
    for found in figures["retrieval"].values():
        assert found["n"] == 512


def test_the_page_of_measurements_says_what_was_measured(figures):
    page = (WEIGHTS.parents[1] / "lessons" / "07_clip" / "more.md").read_text(encoding="utf-8")
    rows = [
        [found["picture to caption"][name] for name in ("first", "perfect", "true")]
        for found in figures["retrieval"].values()
    ]
    for found in figures["batch_sizes"]["runs"].values():
        seen, new = found["train"], found["heldout_pairs"]["object"]["share"]
        first = found["retrieval"]["picture to caption"]["first"]
        rows.append([seen["colour"]["share"], seen["object"]["share"], new, first])
    for row in rows:
        assert "| " + " | ".join(f"{share:.1%}" for share in row) + " |" in page
    lesson = (WEIGHTS.parents[1] / "lessons" / "07_clip" / "lesson.py").read_text(encoding="utf-8")
    found = figures["retrieval"]["lone/train"]["picture to caption"]
    first, perfect = (f"{found[name]:.1%}".replace("%", " %") for name in ("first", "perfect"))
    assert f"our CLIP finds {first}; a reader who makes no mistake would find {perfect}" in lesson


def test_committed_figures_reach_the_aim(figures):
    seen, new = (figures["zero_shot"][f"one/{split}"] for split in ("train", "heldout_pairs"))
    assert min(seen["colour"]["share"], seen["object"]["share"]) >= 0.9
    assert min(new["colour"]["share"], new["object"]["share"]) >= 0.8


def test_the_painter_with_clip_understands_words_that_it_never_saw():
    drawn = json.loads(TOLD.with_suffix(".json").read_text(encoding="utf-8"))["drawn"]
    shares = {
        (reader, kind): found["satisfied"]
        for reader, sets in drawn.items()
        for kind, found in sets.items()
    }
    with_clip = shares["CLIP", "said otherwise"]
    without = shares["one vector per word", "said otherwise"]
    assert with_clip["low"] > without["high"]


def test_a_wish_that_cannot_be_read_leaves_its_own_picture_empty_and_no_other(capsys):
    read = clip_scene_runs.by_words(scene_recipe("smoke").build().eval())
    wishes = ["a red circle", "a crimsn seven", "an azure disc"]
    drawn = clip_scene_runs.draw_readable(read, wishes, seed=3, name="words")
    assert "words paints nothing for 'a crimsn seven'" in capsys.readouterr().out
    alone = clip_scene_runs.draw(read, [wishes[0], wishes[0], wishes[2]], seed=3)
    assert (drawn[1] == 0).all()
    torch.testing.assert_close(drawn[[0, 2]], alone[[0, 2]])
    with pytest.raises(ValueError, match="no vector for 'crimsn'"):
        clip_scene_runs.draw_readable(read, wishes[1:2], seed=3)
