"""What the evaluation of a folder's names counts, on drawn pictures that are known."""

import itertools
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from t2i.drawing import show_measured
from t2i.files.checkpoint import CheckpointError, digest, save_weights
from t2i.files.folders import FilesError
from t2i.files.picture_folder import read_folder
from t2i.runs import picture_eval, text_to_image_eval
from t2i.runs.heldout_names import NameFrames, split_names
from t2i.runs.picture_eval import (
    OFTEN,
    asked_names,
    composed,
    evaluate_names,
    eyes_of,
    found_among,
    nearer_than_own,
)
from t2i.runs.picture_recipes import picture_recipe
from t2i.runs.text_to_image_recipes import CHECKPOINT, EMOJI

PICTURES_OF_EMOJI = Path(os.environ.get("T2I_DATA", "nowhere")) / "noto-emoji"
needs_emoji = pytest.mark.skipif(
    not PICTURES_OF_EMOJI.is_dir(), reason="T2I_DATA names no folder with noto-emoji"
)
PICTURES = torch.tensor([0.0, 1.0, 3.0, 3.0]).reshape(4, 1, 1, 1).expand(4, 3, 8, 8)


def test_how_many_are_nearer_than_the_own_one():
    drawn = torch.tensor([0.1, 0.9, 3.1, 9.0]).reshape(4, 1, 1, 1).expand(4, 3, 8, 8)
    assert nearer_than_own(drawn, PICTURES, [0, 1, 2, 3]).tolist() == [0, 0, 0, 0]  # twins count
    assert nearer_than_own(drawn, PICTURES, [1, 0, 0, 0]).tolist() == [1, 1, 3, 3]
    found = found_among(drawn, PICTURES, [1, 1, 2, 0])
    assert found["nearest"]["share"] == 0.5 and found["near"]["share"] == 1


def test_composed_and_repeated():
    own, near = [0, 1, 2], [1, 0, 3]
    assert composed(PICTURES[own], PICTURES, own, near) == {
        "share": 1.0,
        "low": pytest.approx(0.342, abs=1e-3),  # Wilson's interval of 2 in 2
        "high": 1.0,
        "n": 2,  # rows 2 and 3 are the same picture
    }
    assert composed(PICTURES[near], PICTURES, own, near)["share"] == 0
    assert composed(PICTURES[[2]], PICTURES, [2], [3]) == {"n": 0}


def test_no_name_is_asked_for_twice_and_none_as_seen_that_was_held_out():
    names = [f"{a} {b}" for a, b in itertools.product(("red", "blue", "green"), "abcdefgh")]
    split = split_names(names, share=0.2)
    asked = asked_names(split, 1000)
    assert asked.held_out == split.held_out and asked.neighbours == split.neighbours
    assert sorted(asked.seen + asked.held_out) == list(range(24)) and asked.held_out
    few = asked_names(split, 2)
    assert len(few.seen) == len(set(few.seen)) == len(few.held_out) == len(few.neighbours) == 2


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder of 40 patches of colour, a model's folder, and a painter of one's choice."""
    data, rows = tmp_path / "data", []
    data.mkdir()
    for (i, colour), (j, place) in itertools.product(
        enumerate(("red", "blue", "green", "grey")), enumerate("abcdefghij")
    ):
        image = Image.new("RGB", (8, 8), "white")
        image.paste((60 * i, 40, 200 - 60 * i), (0, 0, 8, 1 + j % 7))
        image.paste((20 * j, 20 * j, 20 * j), (4, 7, 8, 8))
        image.save(data / f"{i}_{j}.png")
        rows.append({"file_name": f"{i}_{j}.png", "text": f"{colour} {place}"})
    (data / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    folder, model = read_folder(data, 8), tmp_path / "model"
    split = split_names(folder.captions)
    held_out = [folder.captions[row] for row in split.held_out]
    model.mkdir()
    (model / "training.json").write_text(json.dumps({"held_out": held_out, "data": "40 pictures"}))

    def use(painter):
        pipe = SimpleNamespace(size=8, space=SimpleNamespace(vae=None), to=lambda _: pipe)
        monkeypatch.setattr(picture_eval, "load_text_to_image", lambda _: pipe)
        monkeypatch.setattr(picture_eval, "there_and_back", lambda _, images, seed: (images, None))
        monkeypatch.setattr(
            picture_eval, "draw", lambda _, said, *__: torch.stack([painter(one) for one in said])
        )

    of = dict(zip(folder.captions, folder.images(), strict=True))
    near = {
        folder.captions[row]: folder.captions[other]
        for row, other in zip(split.held_out, split.neighbours, strict=True)
    }
    return SimpleNamespace(data=data, model=model, use=use, of=of, near=near)


def test_a_painter_who_composes(world):
    world.use(world.of.get)
    found = evaluate_names(world.model, world.data, 1000, torch.device("cpu"))
    assert json.loads((world.model / "evaluation.json").read_text()) == found
    seen, held_out = found["sets"]["seen"], found["sets"]["held_out"]
    assert seen["n"] + held_out["n"] == 40 and held_out["n"] == len(world.near) > 0
    for part in (seen, held_out):
        assert part["drawn"]["nearest"]["share"] == part["vae"]["nearest"]["share"] == 1
        assert part["nearest"] == pytest.approx(part["nearest_real"])
    assert seen["shuffled"]["nearest"]["share"] == 0 == seen["nearest"]
    assert held_out["composed"]["share"] == 1


def test_a_painter_who_repeats_what_he_saw(world):
    world.use(lambda said: world.of[world.near.get(said, said)])
    held_out = evaluate_names(world.model, world.data, 1000, torch.device("cpu"))["sets"][
        "held_out"
    ]
    assert held_out["composed"]["share"] == 0 == held_out["drawn"]["nearest"]["share"]
    assert held_out["nearest"] == 0 < held_out["nearest_real"]


def test_a_folder_and_a_model_that_do_not_belong_together(world, monkeypatch, capsys):
    world.use(world.of.get)
    (world.model / "training.json").write_text('{"held_out": ["blue k"], "data": "1 picture"}')
    with pytest.raises(FilesError, match="holds other captions than the model in"):
        evaluate_names(world.model, world.data, 10, torch.device("cpu"))
    with pytest.raises(FilesError, match="learned from 1 picture: say which with data="):
        text_to_image_eval.evaluate(world.model, 10, torch.device("cpu"))
    arguments = ["eval", "--model", str(CHECKPOINT), "--data", str(world.data)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as end:
        text_to_image_eval.main()
    assert end.value.code == 2 and "learned from scenes, not from" in capsys.readouterr().err


def test_what_a_clip_sees_is_compared_as_well(world, tmp_path):
    (world.model / "training.json").write_text(
        json.dumps(json.loads((world.model / "training.json").read_text()) | {"tier": "smoke"})
    )
    clip = picture_recipe("smoke", world.data).clip.build(seed=3)
    file = tmp_path / "clip.safetensors"
    save_weights(file, clip, {}, torch.float32)
    see = eyes_of(file, "smoke", world.data)
    images = torch.rand(3, 3, 32, 32)
    expected = torch.nn.functional.normalize(clip.eval().encode_images(images), dim=-1)
    torch.testing.assert_close(see(images), expected.detach(), atol=1e-5, rtol=0)
    with pytest.raises(CheckpointError, match="nowhere"):
        eyes_of(tmp_path / "nowhere", "smoke", world.data)


def test_eyes_that_see_brightness_alone_take_all_of_one_brightness_for_the_same(world, monkeypatch):
    """Drawn are the own pictures with their pixels in another order: no pixel of them is right."""
    world.use(lambda said: world.of[said].flatten(1).flip(1).reshape(world.of[said].shape))
    dim = {}
    monkeypatch.setattr(
        picture_eval, "eyes_of", lambda *how: dim.update(how=how) or (lambda x: x.mean(dim=(2, 3)))
    )
    log = json.loads((world.model / "training.json").read_text()) | {"tier": "cpu"}
    (world.model / "training.json").write_text(json.dumps(log))
    clip = world.model / "training.json"  # any file: it is only named
    found = evaluate_names(world.model, world.data, 1000, torch.device("cpu"), clip)
    assert dim["how"] == (clip, "cpu", world.data) and found["clip"] == digest(clip)
    for part in found["sets"].values():
        assert (
            part["drawn"]["nearest"]["share"] < 1 == part["features"]["drawn"]["nearest"]["share"]
        )
        assert part["features"]["shuffled"]["nearest"]["share"] < 1


def test_how_often_an_exchange_was_seen(world):
    frames = NameFrames([("red", "a"), ("blue", "a"), ("red", "b"), ("blue", "b"), ("red", "c")])
    assert frames.exchanges(("blue", "c"), ("red", "c")) == 2
    assert frames.exchanges(("red", "d"), ("red", "a")) == 0
    with pytest.raises(ValueError, match="more than one word"):
        frames.exchanges(("blue", "c"), ("red", "a"))
    world.use(world.of.get)
    held_out = evaluate_names(world.model, world.data, 1000, torch.device("cpu"))["sets"][
        "held_out"
    ]
    rows = held_out["by_exchange"]  # of 40 names, a colour is exchanged in at most ten places
    assert [row["at_least"] for row in rows] == [1, 5, 50] and rows[2]["n"] == 0
    assert sum(row["n"] for row in rows) == held_out["n"] == sum(row["nearest"] for row in rows)


# --- the committed model of emoji


@pytest.fixture(scope="module")
def measured() -> dict:
    return json.loads((EMOJI / "evaluation.json").read_text(encoding="utf-8"))


def test_committed_figures_are_of_the_committed_model(measured):
    log = json.loads((EMOJI / "training.json").read_text(encoding="utf-8"))
    assert measured["weights"] == text_to_image_eval.weights_of(EMOJI)
    assert measured["data"] == log["data"] and measured["sets"]["seen"]["n"] >= 1000
    assert measured["sets"]["held_out"]["n"] == len(log["held_out"])


def test_committed_figures_say_that_it_composes(measured):
    held_out = measured["sets"]["held_out"]
    assert held_out["composed"]["low"] > held_out["composed_shuffled"]["high"]
    assert held_out["drawn"]["nearest"]["low"] > held_out["shuffled"]["nearest"]["high"]
    seen = held_out["features"]
    assert seen["drawn"]["nearest"]["low"] > seen["shuffled"]["nearest"]["high"]
    table = show_measured.names_table().data
    assert f"seen neighbour: **{held_out['composed']['share']:.1%} (" in table
    assert f"| held-out | {held_out['n']} | {held_out['drawn']['nearest']['share']:.1%} (" in table


def test_the_page_of_measurements_says_what_was_measured(measured):
    page = Path(__file__).parents[2] / "lessons/10_text_to_image/more.md"
    told, held_out = page.read_text(encoding="utf-8"), measured["sets"]["held_out"]
    often = ["1 to 4 names", "5 to 49 names", "50 names or more"]
    assert [row["at_least"] for row in held_out["by_exchange"]] == list(OFTEN) == [1, 5, 50]
    for words, row in zip(often, held_out["by_exchange"], strict=True):
        assert f"| {words} | {row['n']} | {row['nearest']} |" in told
    features = held_out["features"]
    own, other = (features[kind]["nearest"] for kind in ("drawn", "shuffled"))
    nearest = f"{own['share']:.1%} ({own['low']:.1%} to {own['high']:.1%})".replace("%", " %")
    assert f"the own picture is the nearest to {nearest} of them" in told
    assert f"drawn for another name: {other['share']:.1%}".replace("%", " %") in told
    near, real = held_out["nearest"], held_out["nearest_real"]
    assert f"is {near:.1f} for what was drawn, {real:.1f} for the held-out pictures" in told
    assert f"All figures are of the {held_out['n']} held-out names" in told


@needs_emoji
def test_the_committed_model_draws_names_that_it_never_saw():
    folder = read_folder(PICTURES_OF_EMOJI, 32)
    rows = split_names(folder.captions).held_out[::8]
    pipe = text_to_image_eval.load_text_to_image(EMOJI)
    images = text_to_image_eval.draw(pipe, [folder.captions[row] for row in rows], seed=7)
    right = nearer_than_own(images, folder.images(), rows) == 0
    assert right.sum() > len(rows) / 2  # by chance one in 3,543 is
