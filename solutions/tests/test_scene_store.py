"""Scenes painted once are the scenes painted meanwhile; nothing held out is among them."""

import json
import re
import shutil
from dataclasses import fields, replace

import pytest
import torch

from t2i.engine.train_config import TrainConfig
from t2i.files.checkpoint import load_tensors
from t2i.files.picture_files import to_images
from t2i.runs import scene_store, text_to_image_runs, workshop
from t2i.runs.clip_batches import caption_tokenizer, token_rows
from t2i.runs.pair_clip import PairBatches
from t2i.runs.scene_store import WRONG, SceneStore, StoredPairs, tell_scenes
from t2i.runs.stored_recipes import stored_recipe
from t2i.runs.text_to_image_recipes import RECIPES, text_to_image_recipe
from t2i.runs.text_to_image_runs import train_all
from t2i.world.caption_reading import parse
from t2i.world.caption_synonyms import PLAIN_OF
from t2i.world.captions import COLOURS, KINDS, Scene
from t2i.world.scene_heldout import HELDOUT_PAIRS, HELDOUT_TRIPLES
from t2i.world.scene_specs import DIRECTIONS, draw_specs
from t2i.world.scenes import scenes

COUNT, PLAIN, LENGTH = 300, 60, 32


def a_store(count: int = COUNT, world: str = "many", size: int = 32) -> SceneStore:
    return SceneStore(count, world, size, caption_tokenizer(world), LENGTH)


@pytest.fixture(scope="module")
def store():
    """Painted and told in three parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene_store, "PART", 128)
        made = a_store()
        made.levels, made.told  # noqa: B018
    return made


@pytest.fixture(scope="module", params=["pair", "many"])
def told(request):
    """Scenes, their captions and the wrong ones, as Scenes; the first hundred told plainly."""
    rows, tokenizer = range(400, 1000), caption_tokenizer(request.param)
    right, wrong = tell_scenes(rows, request.param, tokenizer, LENGTH, plain=500)
    specs = draw_specs(rows, world=request.param)
    read = [[meant(tokenizer.decode(tokens)) for tokens in these] for these in wrong]
    return specs, [meant(tokenizer.decode(tokens)) for tokens in right], read


def meant(caption: str) -> Scene:
    """What a caption asks for; other words for colours and things are understood."""
    words = re.findall(r"\w+|,", caption)
    return parse(" ".join(PLAIN_OF.get(word, word) for word in words))


def named(scene: Scene) -> list[tuple[str, str]]:
    return [(thing.colour, thing.kind) for thing in scene.things]


def describes(asked: Scene, scene: Scene) -> bool:
    """Whether a scene has these things, and in this order if the caption tells one."""
    if sorted(named(asked)) != sorted(named(scene)):
        return False
    order = (scene.relation, named(scene))
    return asked.relation is None or (asked.relation, named(asked)) == order


def test_the_pictures_are_those_of_scenes(store):
    images, _ = scenes(range(COUNT), world="many", size=32)
    assert store.levels.shape == (COUNT, 3, 32, 32) and store.levels.dtype == torch.uint8
    assert (to_images(store.levels) - images).abs().max() <= 0.5 / 127.5 + 1e-6


def test_captions_and_wrong_captions_are_those_of_pair_batches(store):
    """PairBatches has as many wrong captions as there are; here each scene has three."""
    kind = {"worlds": ("many",), "size": 32, "length": LENGTH, "plain": 1}
    batches, filled = PairBatches(PLAIN, store.tokenizer, **kind), 0
    assert store.plain == PLAIN and store.tokens.dtype == torch.int64
    captions = {tuple(row) for row in store.tokens.tolist()}
    for first in range(0, COUNT, PLAIN):
        _, tokens, rows, wrong = next(batches)
        assert torch.equal(store.tokens[first : first + PLAIN], tokens)
        for row in range(PLAIN):
            known, found = wrong[rows == row], store.told[1][first + row].long()
            assert torch.equal(found[: len(known)], known)
            assert captions.issuperset(map(tuple, found[len(known) :].tolist()))
            filled += WRONG - len(known)
    assert COUNT < filled < 2 * COUNT  # of each scene with one thing all, of the others a few


def test_captions_tell_the_picture_and_wrong_ones_do_not(told):
    specs, right, wrong = told
    for row, caption in enumerate(right):
        assert describes(caption, specs.scene(row))
        assert len(wrong[row]) == WRONG
        assert not any(describes(each, specs.scene(row)) for each in wrong[row])


def test_the_first_scenes_are_told_in_the_order_of_the_picture():
    tokenizer = caption_tokenizer("many")
    right, _ = tell_scenes(range(400, 1000), "many", tokenizer, LENGTH, plain=500)
    turned = re.compile(r"right of|below|under|from right|from bottom")
    found = [bool(turned.search(tokenizer.decode(row))) for row in right]
    assert not any(found[:100]) and 0.15 < sum(found[100:]) / 500 < 0.45


def test_nothing_held_out_is_among_right_or_wrong_captions(told):
    _, right, wrong = told
    told_order = 0
    for scene in right + sum(wrong, []):
        things = [(COLOURS.index(colour), KINDS.index(kind)) for colour, kind in named(scene)]
        assert not any(HELDOUT_PAIRS[thing] for thing in things)
        for first, second in ((0, 1), (1, 2), (0, 2)):
            if scene.relation and second < len(things):
                direction = DIRECTIONS.index(scene.relation)
                assert not HELDOUT_TRIPLES[things[first][1], direction, things[second][1]]
                told_order += 1
    assert told_order > 600


def test_token_rows_are_the_tokenizers_own_and_fit_into_int16():
    tokenizer = caption_tokenizer("many")
    texts = ["a red seven, an 8 in pink and a blue star", "", "a  Red Größe größe", "a red a red"]
    for length in (2, 6, 32):
        found = torch.from_numpy(token_rows(texts, tokenizer, length))
        assert torch.equal(found.long(), tokenizer(texts, length))
    known = {}
    for _ in range(2):  # the second time every word is known
        found = torch.from_numpy(token_rows(texts, tokenizer, 32, known))
        assert torch.equal(found.long(), tokenizer(texts, 32))
    assert sorted(known) == sorted({word for text in texts for word in text.split()})
    assert len(tokenizer) <= torch.iinfo(found.dtype).max


def test_a_last_part_of_one_scene_finds_wrong_captions_too(monkeypatch):
    monkeypatch.setattr(scene_store, "PART", 4)
    right, wrong = a_store(5).told
    assert len(right) == len(wrong) == 5
    assert not (wrong == right[:, None]).all(dim=2).any()
    assert torch.equal(right[4:], a_store(9).told[0][4:5])  # the same number, the same caption
    lone = draw_specs(range(100), world="many").count.tolist().index(1)
    with pytest.raises(ValueError, match="1 scenes are too few"):
        tell_scenes(range(lone, lone + 1), "many", caption_tokenizer("many"), LENGTH, 0)


def test_stored_pairs_begin_with_what_is_told_plainly_and_never_show_it_again(store):
    row_of = {picture.numpy().tobytes(): row for row, picture in enumerate(store.levels)}
    batches, shown = StoredPairs(store, 20, steps=15), []
    for _ in range(15):
        images, tokens, rows, wrong = next(batches)
        picked = [row_of[(127.5 * (each + 1)).round().byte().numpy().tobytes()] for each in images]
        assert torch.equal(tokens, store.tokens[picked]) and tokens.shape == (20, LENGTH)
        assert rows.tolist() == [row for row in range(20) for _ in range(WRONG)]
        for row, number in enumerate(picked):
            assert torch.equal(wrong[rows == row], store.told[1][number].long())
        shown.append(picked)
    early, late = sum(shown[:3], []), sum(shown[3:], [])
    assert sorted(early) == list(range(PLAIN)), "all plain ones once, before any comes again"
    assert sorted(late) == list(range(PLAIN, COUNT))


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_stored_pairs_go_on_where_they_stood(store, stop):
    batches, again = (StoredPairs(store, 20, steps=15) for _ in "it")
    for _ in range(stop):
        next(batches)
    again.restore(json.loads(json.dumps(batches.state())))
    for _ in range(3):
        for one, other in zip(next(batches), next(again), strict=True):
            assert torch.equal(one, other)


def test_stored_pairs_of_other_scenes_are_refused(store):
    state = StoredPairs(store, 20, steps=15).state()
    others = {
        "world": (a_store(world="pair"), 20, 15),
        "size": (a_store(size=64), 20, 15),
        "plain": (store, 20, 30),
        "batch_size": (store, 10, 15),
        "has size 60": (a_store(200), 20, 15),
    }
    for word, given in others.items():
        with pytest.raises(ValueError, match=word):
            StoredPairs(*given).restore(state)


# --- the three trainings


@pytest.fixture(scope="module")
def painted():
    """The smoke tier on a hundred scenes, three steps a part."""
    few, smoke = TrainConfig(steps=3, save_every=2), RECIPES["smoke"]
    vae, clip = (replace(part, training=few) for part in (smoke.vae, smoke.clip))
    return replace(smoke, vae=vae, clip=clip, training=few, scenes=100)


@pytest.fixture(scope="module")
def plan(painted):
    """The same, stored."""
    return stored_recipe(painted, "cpu")


@pytest.fixture(scope="module")
def trained(plan, tmp_path_factory):
    work, seen = tmp_path_factory.mktemp("work"), []

    def watch(pipe, state, seconds):
        seen.append((pipe.transformer is state.ema_model, state.step, seconds))

    pipe = train_all("smoke", work / "model", work / "parts", plan=plan, watch=watch)
    return pipe, work, seen


def test_all_three_learn_from_the_store(plan, trained):
    pipe, work, _ = trained
    kept, _ = load_tensors(work / "parts" / "latents.safetensors")
    assert torch.equal(kept["tokens"], plan.source.tokens)
    images, _ = scenes(range(100), world="pair", size=32)
    means = pipe.space.scaling_factor * pipe.space.vae.encode(images).mean
    noise = kept["z_0"].float() - means
    others = kept["z_0"].float() - means.roll(1, 0)
    assert noise.square().mean() < 0.9 * others.square().mean(), "each scene in its own row"
    levels, tokens = next(plan.vae.batches())
    captions = plan.source.tokens.tolist()
    for picture, told in zip(levels, tokens.tolist(), strict=True):
        assert torch.equal(picture, to_images(plan.source.levels[captions.index(told)]))
    log = json.loads((work / "model" / "training.json").read_text(encoding="utf-8"))
    assert [log[name]["steps"] for name in ("vae", "clip", "transformer")] == [3, 3, 3]


def test_watch_is_told_of_each_step_and_of_the_seconds_of_all_parts(trained):
    _, work, seen = trained
    log = json.loads((work / "model" / "training.json").read_text(encoding="utf-8"))
    assert [(same, step) for same, step, _ in seen] == [(True, 1), (True, 2), (True, 3)]
    seconds = [spent for *_, spent in seen]
    before = log["vae"]["seconds"] + log["clip"]["seconds"]
    assert before < seconds[0] < seconds[1] < seconds[2]
    assert seconds[2] <= before + log["transformer"]["seconds"] + 0.1  # those are rounded


def test_finished_parts_of_a_store_are_not_made_again(painted, trained, tmp_path, monkeypatch):
    pipe, work, _ = trained
    monkeypatch.setattr(workshop, "train", None)
    monkeypatch.setattr(scene_store, "paint", None)
    fresh = stored_recipe(painted, "cpu")
    again = train_all("smoke", tmp_path / "model", work / "parts", plan=fresh)
    for name, value in pipe.transformer.state_dict().items():
        assert torch.equal(again.transformer.state_dict()[name], value)


def test_to_be_watched_does_not_freeze_a_model_without_a_slow_copy(plan, trained, tmp_path):
    shutil.copytree(trained[1] / "parts", tmp_path / "parts")
    (tmp_path / "parts" / "transformer.safetensors").unlink()
    plan = replace(plan, training=replace(plan.training, ema_horizon=0))
    frozen = []

    def watch(pipe, state, seconds):
        frozen.append(not all(p.requires_grad for p in state.model.parameters()))

    train_all("smoke", tmp_path / "model", tmp_path / "parts", plan=plan, watch=watch)
    assert frozen == [False] * 3


def test_a_stored_recipe_is_the_recipe():
    plan = text_to_image_recipe("gpu")
    stored = stored_recipe(plan, "cpu")
    pairs = ((plan, stored), (plan.vae, stored.vae), (plan.clip, stored.clip))
    for ours, theirs in pairs:
        assert isinstance(theirs, type(ours))
        for field in fields(ours):
            if field.name not in ("vae", "clip") or ours is plan.vae:
                assert getattr(theirs, field.name) == getattr(ours, field.name), field.name
    source = stored.source
    assert source is stored.vae.source is stored.clip.source and stored.data == source.data
    assert (len(source), source.world, source.size) == (plan.scenes, plan.world, plan.vae.size)


def test_what_is_stored_already_is_not_stored_again(plan):
    assert stored_recipe(plan, "cpu") is plan


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("stored", [False, True])
def test_scenes_are_stored_only_on_a_gpu_and_only_where_a_recipe_asks_for_it(
    tmp_path, monkeypatch, stored, device
):
    asked = []

    def stop(shop, data):
        raise InterruptedError

    monkeypatch.setattr(workshop.Workshop, "claim", stop)
    monkeypatch.setattr(
        text_to_image_runs, "stored_recipe", lambda plan, where: asked.append(where) or plan
    )
    plan = replace(RECIPES["smoke"], stored=stored)
    with pytest.raises(InterruptedError):
        train_all("smoke", tmp_path / "model", tmp_path, device, plan=plan)
    assert asked == (["cuda"] if stored and device == "cuda" else [])
