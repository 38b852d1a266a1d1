"""Folders of pictures: every kind of file is read or named, and what is held out is never shown."""

import ast
import itertools
import json
import os
import shutil
import socket
import sys
import unicodedata
from dataclasses import dataclass, fields, replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import webdataset as wds
from PIL import Image

from t2i.byte_words import split_words
from t2i.engine.train_config import TrainConfig
from t2i.files import picture_folder
from t2i.files.checkpoint import CheckpointError, load_tensors
from t2i.files.folders import FilesError
from t2i.files.picture_files import picture_pixels
from t2i.files.picture_folder import read_folder
from t2i.files.shard_files import LATENT, POOLED, read_shard
from t2i.latents import BlockMeans, LatentSpace
from t2i.runs import text_to_image_runs, workshop
from t2i.runs.clip_recipes import ClipRecipe
from t2i.runs.heldout_names import split_names
from t2i.runs.picture_recipes import PicturesInOrder, picture_recipe
from t2i.runs.picture_runs import train_on_pictures
from t2i.runs.text_to_image_recipes import CHECKPOINT, RECIPES, encode_scenes, text_to_image_recipe
from t2i.runs.text_to_image_runs import train_all
from t2i.text_to_image import TextToImage, encode_prompt

EMOJI = Path(os.environ.get("T2I_DATA", "nowhere")) / "noto-emoji"
needs_emoji = pytest.mark.skipif(
    not EMOJI.is_dir(), reason="T2I_DATA names no folder with noto-emoji"
)
WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


@pytest.fixture(autouse=True)
def alone(tmp_path_factory, monkeypatch):
    """No network, and a cache that is not the user's."""
    asked = []

    def refuse(*given, **_):
        asked.append(given)  # whoever asks may pass over the error in silence
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))
    yield
    assert not asked


def write_rows(folder: Path, *rows) -> Path:
    """metadata.jsonl: rows that are no text become JSON."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def row(name: str, caption="a square") -> dict:
    return {"file_name": name, "text": caption}


def two_halves(mode: str, left, right, size: int = 8) -> Image.Image:
    """A picture whose left half has one colour and whose right half another."""
    image = Image.new(mode, (size, size), left)
    image.paste(Image.new(mode, (size // 2, size), right), (size // 2, 0))
    return image


def palette(transparency: int | None = None) -> Image.Image:
    image = two_halves("P", 0, 1)
    image.putpalette([*RED, *BLUE])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def sixteen(black: int, white: int) -> Image.Image:
    values = np.full((8, 8), black, np.uint16)
    values[:, 4:] = white
    return Image.fromarray(values)


GREY = (128, 128, 128)
KINDS = {  # file -> picture, colour of its left half, of its right half
    "rgb.png": (two_halves("RGB", RED, BLUE), RED, BLUE),
    "palette.png": (palette(), RED, BLUE),
    "see_through_palette.png": (palette(transparency=0), WHITE, BLUE),
    "palette.gif": (palette(), RED, BLUE),
    "grey.png": (two_halves("L", 0, 128), (0, 0, 0), GREY),
    "grey_alpha.png": (two_halves("LA", (0, 0), (0, 255)), WHITE, (0, 0, 0)),
    "bits.png": (two_halves("1", 0, 1), (0, 0, 0), WHITE),
    "sixteen.png": (sixteen(0, 128 * 257), (0, 0, 0), GREY),
    "sixteen.tif": (sixteen(128 * 257, 65535), GREY, WHITE),
    "float.tif": (two_halves("F", 0.0, 1.0), (0, 0, 0), WHITE),
    "whole.tif": (two_halves("I", 0, 65535), (0, 0, 0), WHITE),
    "alpha.png": (two_halves("RGBA", (0, 0, 255, 0), (255, 0, 0, 255)), WHITE, RED),
    "half_alpha.png": (two_halves("RGBA", (0, 0, 0, 127), (255, 0, 0, 255)), GREY, RED),
    "cmyk.tif": (two_halves("CMYK", (0, 255, 255, 0), (255, 255, 0, 0)), RED, BLUE),
    "UPPER.PNG": (two_halves("RGB", RED, BLUE), RED, BLUE),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_becomes_three_colours_on_white(tmp_path, name):
    image, left, right = KINDS[name]
    image.save(tmp_path / name)
    folder = read_folder(write_rows(tmp_path, row(name)), 8)
    assert folder.levels.dtype == torch.uint8 and folder.levels.shape == (1, 3, 8, 8)
    for columns, colour in ((slice(0, 4), left), (slice(4, 8), right)):
        found = folder.levels[0, :, :, columns].flatten(1).T.int()
        assert (found - torch.tensor(colour)).abs().max() <= 1, (found[0], colour)
    alone = picture_pixels(Image.open(tmp_path / name), 8)
    assert torch.equal(alone, folder.images()), "a picture that comes by itself is read alike"
    white, black = (folder.images()[folder.levels == level] for level in (255, 0))
    assert (white == 1).all() and (black == -1).all()


def test_what_was_done_is_told_with_the_files_names(tmp_path):
    for name, (image, *_) in KINDS.items():
        image.save(tmp_path / name)
    report = read_folder(write_rows(tmp_path, *map(row, KINDS)), 8).report
    assert report.used == len(KINDS) and not report.skipped
    assert report.handled["palette made RGB"][:2] == ["palette.png", "see_through_palette.png"]
    assert report.handled["CMYK made RGB"] == ["cmyk.tif"]
    assert report.handled["16 or 32 bits made 8"] == ["sixteen.png", "sixteen.tif", "whole.tif"]
    see_through = ["see_through_palette.png", "grey_alpha.png", "alpha.png", "half_alpha.png"]
    assert report.handled["transparent, put on white"] == see_through
    assert "transparent, put on white: 4 (see_through_palette.png, " in str(report)


def test_a_wide_picture_gets_white_above_and_below_and_loses_nothing(tmp_path):
    two_halves("RGB", RED, BLUE, 16).crop((0, 0, 16, 8)).save(tmp_path / "wide.png")
    folder = read_folder(write_rows(tmp_path, row("wide.png")), 16)
    picture = folder.levels[0].permute(1, 2, 0)
    assert (picture[:4] == 255).all() and (picture[12:] == 255).all()
    assert picture[8, 0].tolist() == list(RED) and picture[8, 15].tolist() == list(BLUE)
    assert folder.report.handled == {"not square, white added at two sides": ["wide.png"]}


def test_a_photo_is_turned_upright_and_of_a_film_the_first_frame_is_taken(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    two_halves("RGB", BLUE, RED).save(tmp_path / "photo.png", exif=exif)
    first, second = two_halves("RGB", RED, BLUE), two_halves("RGB", BLUE, RED)
    first.save(tmp_path / "film.gif", save_all=True, append_images=[second], duration=100)
    folder = read_folder(write_rows(tmp_path, row("photo.png"), row("film.gif")), 8)
    alone = picture_pixels(Image.open(tmp_path / "photo.png"), 8)
    assert torch.equal(alone, folder.images()[:1])
    for picture in folder.levels:
        assert picture[:, 0, 0].tolist() == list(RED) and picture[:, 0, 7].tolist() == list(BLUE)
    assert folder.report.handled["turned as its EXIF data say"] == ["photo.png"]
    assert folder.report.handled["of several frames, the first taken"] == ["film.gif"]


def test_what_cannot_be_used_is_counted_and_named(tmp_path):
    image, odd = Image.new("RGB", (8, 8)), "test [1] *#%.png"
    for name in ("good.png", "empty.png", "blank.png", "number.png", "list.png", "half.png", odd):
        image.save(tmp_path / name)
    for name in ("unnamed.png", "sub/test.png", "sub/test/deep.png", ".hidden.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / name)
    Image.effect_noise((64, 64), 50).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "words.png").write_text("no picture at all")
    (tmp_path / "nothing.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("a text")
    Image.new("RGB", (90, 10)).save(tmp_path / "line.png")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    write_rows(
        tmp_path,
        row("good.png", "first"),
        {"file_name": "empty.png"},
        row("blank.png", "  "),
        row("number.png", 7),
        row("list.png", ["a", "b"]),
        row("half.png", "\ud83d alone"),
        row("lost.png"),
        row("../good.png"),
        row(".hidden.png"),
        row("notes.txt"),
        row("cut.png"),
        row("words.png"),
        row("nothing.jpg"),
        {"text": "a name is missing"},
        "",
        row("sub/test.png", "second"),
        row("sub//./test/deep.png", "third"),
        row("line.png"),
        {"file_name": odd, "text": " ", "caption": "fourth"},
    )
    folder = read_folder(tmp_path, 8)
    assert folder.captions == ["first", "second", "third", "fourth"]
    assert folder.report.used == 4
    skipped = dict(folder.report.skipped)
    broken = skipped.pop("not readable as a picture")
    assert [each.split(":")[0] for each in broken] == [
        "cut.png",
        "words.png",
        "nothing.jpg",
        "line.png",
    ]
    assert "90 × 10 pixels: too narrow" in broken[-1]
    assert skipped == {
        "without a caption": ["empty.png", "blank.png"],
        "with a caption that is no text": ["number.png", "list.png", "half.png"],
        "not in the folder": ["lost.png"],
        "outside of the folder": ["../good.png"],
        "hidden, or of no kind that imagefolder reads": [".hidden.png", "notes.txt"],
        "without a file_name": ["line 14 of metadata.jsonl"],
        "without a row in metadata.jsonl": ["unnamed.png"],
    }
    told = str(folder.report)
    assert f"{tmp_path}: 4 pictures with captions." in told
    assert "skipped, without a caption: 2 (empty.png, blank.png)" in told
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert after == before | {tmp_path / "metadata.jsonl": after[tmp_path / "metadata.jsonl"]}


def test_accents_are_the_same_however_they_are_written(tmp_path):
    composed, apart = (unicodedata.normalize(form, "piñata.png") for form in ("NFC", "NFD"))
    assert composed != apart
    two_halves("RGB", RED, BLUE).save(tmp_path / apart)
    folder = read_folder(write_rows(tmp_path, row(composed, apart)), 8)
    assert folder.captions == [composed] and len(folder.levels) == 1
    assert folder.report.handled == {"found under another spelling of its name": [composed]}


def test_a_picture_that_changed_is_read_anew_and_a_new_one_is_found(tmp_path):
    Image.new("RGB", (8, 8), RED).save(tmp_path / "a.png")
    write_rows(tmp_path, row("a.png"))
    assert read_folder(tmp_path, 8).levels[0, :, 0, 0].tolist() == list(RED)
    Image.new("RGB", (8, 8), BLUE).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8), RED).save(tmp_path / "b.png")
    write_rows(tmp_path, row("a.png"), row("b.png"))
    assert read_folder(tmp_path, 8).levels[:, :, 0, 0].tolist() == [list(BLUE), list(RED)]


SENTENCES = {
    "no such folder": "There is no folder .*nowhere: give one that holds metadata.jsonl",
    "no metadata": "metadata.jsonl is missing: each of its lines names a picture",
    "metadata below": "metadata.jsonl is missing: did you mean .*train",
    "broken line": "metadata.jsonl, line 3, is not JSON",
    "no row": r"metadata.jsonl, line 1, must be like \{",
    "columns": "must have the columns file_name and text .or caption., it has image, label",
    "nothing left": "No picture of .* can be used: 1 not in the folder, 1 without a row in",
    "empty": "No picture of .* can be used: metadata.jsonl is empty",
    "odd name": "datasets cannot list the pictures of .*is there a file name with :: in it",
}


@pytest.mark.parametrize("case", SENTENCES)
def test_what_is_wrong_with_a_folder_is_said_in_one_sentence(tmp_path, case):
    folder = tmp_path / "pictures"
    (folder / "train").mkdir(parents=True)
    if case == "no such folder":
        folder = tmp_path / "nowhere"
    elif case == "metadata below":
        write_rows(folder / "train", row("a.png"))
    elif case == "empty":
        write_rows(folder)
    elif case != "no metadata":
        Image.new("RGB", (8, 8)).save(folder / ("a::b.png" if case == "odd name" else "a.png"))
        rows = {
            "broken line": (row("a.png"), "", '{"file_name": "a.png", '),
            "no row": ('["a.png", "a square"]',),
            "columns": ({"image": "a.png", "label": "a square"},),
            "nothing left": (row("b.png"),),
        }
        write_rows(folder, *rows.get(case, (row("a.png"),)))
    with pytest.raises(FilesError, match=SENTENCES[case]) as caught:
        read_folder(folder, 8)
    assert "\n" not in str(caught.value)


def test_no_module_waits_for_datasets_before_it_has_a_folder():
    for path in Path(picture_folder.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:  # not within functions
            named = [alias.name for alias in getattr(node, "names", [])]
            assert "datasets" not in [*named, getattr(node, "module", "")], path.name


# --- what is held out


def one_word_away(name: str, other: str) -> bool:
    pairs = list(zip(split_words(name), split_words(other), strict=True))
    return sum(a != b for a, b in pairs) == 1


def check_split(names: list[str]) -> tuple:
    """The promises of a split, by brute force."""
    split = split_names(names)
    words = [tuple(split_words(name)) for name in names]
    seen = {words[i] for i in split.seen}
    assert sorted(split.seen + split.held_out) == list(range(len(names)))
    assert not seen & {words[i] for i in split.held_out}
    vocabulary = {word for name in seen for word in name}
    for row, near in zip(split.held_out, split.neighbours, strict=True):
        assert near in split.seen and one_word_away(names[row], names[near])
        assert vocabulary >= set(words[row])
    assert set(split.held_out) <= set(split.candidates)
    assert split_names(names) == split
    return split


def test_names_are_held_out_where_one_exchange_leads_there_and_another_shows_it():
    names = [f"{colour} {kind}" for colour in ("red", "blue") for kind in ("heart", "square")]
    strangers = ["wine glass", "magnifying glass", "heart", "a", "green apple pie"]
    split = check_split(names + strangers)
    assert split.candidates == [0, 1, 2, 3] and split.held_out == []  # 5 % of four are none
    found = split_names(names + strangers, share=1.0)
    assert len(found.held_out) == 1  # the other three are what it stands on
    assert {*found.held_out, *found.neighbours} <= {0, 1, 2, 3}


def test_the_same_words_are_held_out_together():
    names = [f"{c} {k}" for c in ("rotes", "blaues", "grünes") for k in ("Herz", "Haus", "Tor")]
    again = [unicodedata.normalize("NFD", name.upper()) for name in names]
    found = split_names(names + again, share=0.2)
    assert found.held_out and len(found.held_out) % 2 == 0
    assert {row + 9 for row in found.held_out if row < 9} <= set(found.held_out)


def test_a_share_that_is_none_is_named():
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\], got 1.5"):
        split_names(["a b"], share=1.5)


@needs_emoji
def test_the_emoji_that_are_held_out_differ_in_one_attribute():
    lines = (EMOJI / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    names = [json.loads(line)["text"] for line in lines]
    split = check_split(names)
    assert len(names) == 3543
    assert len(split.held_out) == round(0.05 * len(split.candidates)) > 100
    pairs = zip(split.held_out, split.neighbours, strict=True)
    exchanged = {
        frozenset(split_words(names[row])) ^ frozenset(split_words(names[near]))
        for row, near in pairs
    }
    # several kinds of attribute are among them: gender, tone of skin, a thing's size
    assert {frozenset(pair) for pair in (("man", "woman"), ("dark", "light"))} <= exchanged
    assert len(exchanged) > 10


# --- training on a folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """32 pictures, left or right half in one of four colours, and one that is broken."""
    folder, rows = tmp_path_factory.mktemp("pictures"), []
    colours = {"red": RED, "blue": BLUE, "white": WHITE, "green": (0, 255, 0)}
    for sort, side, colour in itertools.product(range(4), ("left", "right"), colours):
        image = Image.new("RGB", (40, 40), (60 * sort, 0, 60))
        image.paste(colours[colour], (20 * (side == "right"), 0, 20 + 20 * (side == "right"), 40))
        image.save(folder / f"{sort}_{side}_{colour}.png")
        rows.append(row(f"{sort}_{side}_{colour}.png", f"{colour} {'abcd'[sort]} {side}"))
    (folder / "broken.png").write_text("no picture")
    return write_rows(folder, *rows, row("broken.png"))


@pytest.fixture(scope="module")
def tiny():
    """The smoke tier in four steps a part."""
    few, smoke = TrainConfig(steps=4, save_every=2), RECIPES["smoke"]
    vae, clip = (replace(part, training=few) for part in (smoke.vae, smoke.clip))
    RECIPES["tiny_pictures"] = replace(smoke, vae=vae, clip=clip, training=few)
    yield "tiny_pictures"
    del RECIPES["tiny_pictures"]


@pytest.fixture(scope="module")
def trained(tiny, pictures, tmp_path_factory):
    place, cache = tmp_path_factory.mktemp("run"), datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = str(place / "cache")
    pipe, out = train_on_pictures(pictures, tiny, place / "model", place / "parts")
    datasets.config.HF_DATASETS_CACHE = cache
    return pipe, out, place / "parts"


def test_a_model_of_a_folder_draws_and_remembers_what_it_never_saw(trained, pictures):
    _, out, _ = trained
    log = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert log["pictures"] == 30 and len(log["held_out"]) == 2
    assert log["skipped"] == {"not readable as a picture": 1}
    again = TextToImage.from_pretrained(out)
    assert again(log["held_out"], 2)[0].size == (32, 32)
    assert len(again.tokenizer.encode("green left")) == 4  # start, a piece a word, end
    assert {path.suffix for path in pictures.iterdir()} == {".png", ".jsonl"}


def test_all_three_learn_from_the_same_pictures_and_from_no_held_out_one(pictures, tiny):
    plan, everything = picture_recipe(tiny, pictures), read_folder(pictures, 32)
    picture_of = dict(zip(everything.captions, everything.images(), strict=True))
    assert len(plan.source) == 30 and len(plan.source.held_out) == 2
    assert {*plan.source.captions, *plan.source.held_out} == picture_of.keys()
    hidden = [picture_of[caption] for caption in plan.source.held_out]
    several = [plan.vae.batches(), plan.clip.batches(), plan.encoded()]
    for batches in several:
        for _ in range(1 if batches is several[-1] else 4):
            for picture, told in zip(*next(batches), strict=True):
                caption = plan.clip.tokenizer.decode(told.tolist())
                assert caption in plan.source.captions
                assert torch.equal(picture, picture_of[caption])
                assert not any(torch.equal(picture, each) for each in hidden)
    parts = PicturesInOrder(plan.source, 7)
    assert [len(next(parts)[0]) for _ in range(5)] == [7, 7, 7, 7, 2]
    assert torch.equal(plan.some(1)[0], picture_of[plan.source.captions[0]])


def test_a_gpu_does_not_paint_scenes_in_place_of_a_folder(pictures):
    assert text_to_image_recipe("gpu").stored and not picture_recipe("gpu", pictures).stored


def test_every_picture_is_encoded_once_in_its_order(pictures, tiny):
    plan = picture_recipe(tiny, pictures)
    space = LatentSpace(BlockMeans(4, logvar=-30.0), 2.0)
    in_parts = PicturesInOrder(plan.source, 7)
    z_0, tokens = encode_scenes(space, in_parts, plan.scenes)
    assert plan.scenes == 30 and torch.equal(tokens, plan.source.tokens)
    means = torch.nn.functional.avg_pool2d(plan.some(), 4)
    torch.testing.assert_close(z_0.float(), 2 * means, atol=2e-3, rtol=1e-3)


def test_few_pictures_make_small_batches_and_one_is_too_few(pictures, tiny, tmp_path):
    for name in ("0_left_red.png", "1_left_red.png", "2_right_blue.png"):
        shutil.copy(pictures / name, tmp_path / name)
    write_rows(tmp_path, *(row(name, f"{name} {'long ' * 30}") for name in os.listdir(tmp_path)))
    plan = picture_recipe(tiny, tmp_path)
    images, tokens = next(plan.clip.batches())
    assert len(images) == 3 and tokens.shape == (3, 24)
    assert (tokens[:, -1] == plan.clip.tokenizer.end).all()
    assert len(plan.source.report.handled["caption cut to 24 tokens"]) == 3
    assert len(next(plan.batches(torch.zeros(3, 4, 8, 8), tokens))[0]) == 3
    write_rows(tmp_path, row("0_left_red.png", "alone"))
    with pytest.raises(FilesError, match="has 1 picture to train on, and 2 or more are needed"):
        picture_recipe(tiny, tmp_path)


@dataclass(frozen=True)
class OddClip(ClipRecipe):
    """A tier may have its own kind of recipe, with scenes of its own."""

    share: float = 0.5

    def batches(self, tokenizer=None):
        raise AssertionError("scenes were asked for")


def test_a_tiers_own_kind_of_recipe_gives_way_to_the_pictures(pictures, tiny, monkeypatch):
    plan = RECIPES[tiny]
    given = {field.name: getattr(plan.clip, field.name) for field in fields(ClipRecipe)}
    monkeypatch.setitem(RECIPES, "odd", replace(plan, clip=OddClip(**given)))
    made = picture_recipe("odd", pictures)
    assert next(made.clip.batches())[0].shape[1:] == (3, 32, 32)
    assert made.clip.length == plan.clip.length and made.clip.training == plan.clip.training


class Stop(Exception):
    pass


def test_stopped_and_run_again_it_ends_at_the_same_weights(
    trained, pictures, tiny, tmp_path, monkeypatch
):
    real = workshop.train

    def three_steps(*given, **more):
        for number, state in enumerate(real(*given, **more)):
            yield state
            if number == 2:
                raise Stop

    monkeypatch.setattr(workshop, "train", three_steps)
    stops = 0
    while not (tmp_path / "model" / "model_index.json").exists():
        try:
            train_on_pictures(pictures, tiny, tmp_path / "model", tmp_path / "parts")
        except Stop:
            stops += 1
            assert stops < 10 and not (tmp_path / "model").exists()
    assert stops == 3  # after step 3 of each part, and step 4 is made anew from step 2
    for part in ("vae", "clip", "latents", "transformer"):
        ours, expected = (
            load_tensors(folder / f"{part}.safetensors")[0]
            for folder in (tmp_path / "parts", trained[2])
        )
        assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_what_belongs_to_other_pictures_or_to_scenes_is_refused(trained, pictures, tiny, tmp_path):
    _, out, parts = trained
    other = tmp_path / "other"
    shutil.copytree(pictures, other)
    Image.new("RGB", (40, 40), RED).save(other / "0_left_red.png")
    with pytest.raises(CheckpointError, match="with data 30 pictures .*, the recipe has 30 pict"):
        train_on_pictures(other, tiny, out, parts)
    with pytest.raises(CheckpointError, match="with data 30 pictures .*, the recipe has scenes"):
        train_all(tiny, out, parts)
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    (scenes / "vae.safetensors").touch()
    with pytest.raises(CheckpointError, match="with data scenes, the recipe has 30 pictures"):
        train_on_pictures(pictures, tiny, out, scenes)
    moved = tmp_path / "moved"
    shutil.copytree(pictures, moved)
    assert picture_recipe(tiny, moved).data == picture_recipe(tiny, pictures).data


def test_it_writes_neither_among_the_pictures_nor_over_the_courses_model(pictures, tiny, tmp_path):
    with pytest.raises(FilesError, match="lies in the folder of the pictures"):
        train_on_pictures(pictures, tiny, pictures / "model", tmp_path)
    with pytest.raises(FilesError, match="holds the course's own model"):
        train_on_pictures(pictures, tiny, CHECKPOINT, tmp_path)
    with pytest.raises(FilesError, match="lies in the folder of the pictures"):
        train_on_pictures(pictures, tiny, tmp_path / "a", tmp_path, shards=pictures / "shards")


def test_shards_of_a_folder_hold_its_pictures_and_captions_and_none_held_out(
    trained, pictures, tiny, tmp_path, monkeypatch
):
    pipe, _, parts = trained
    plan, shards = picture_recipe(tiny, pictures), tmp_path / "shards"
    work = shutil.copytree(parts, tmp_path / "parts")
    for part in ("latents", "transformer"):
        (work / f"{part}.safetensors").unlink()
    how = {"shards": shards, "lanes": 2}
    drawn = train_on_pictures(pictures, tiny, tmp_path / "model", work, **how)[0]
    assert len(drawn("a red circle", num_inference_steps=2)) == 1
    with torch.no_grad():
        posterior = pipe.space.vae.encode(next(plan.encoded())[0])
        told = encode_prompt(plan.clip.tokenizer, pipe.text, plan.source.captions)
    first = 0
    for number in range(2):
        path = shards / f"{number:06d}.tar"
        found, problems = read_shard(path, plan.clip.length)
        captions = [each["txt"].decode() for each in wds.WebDataset(str(path), shardshuffle=False)]
        part = slice(first, first + len(captions))
        first += len(captions)
        assert not problems and captions == plan.source.captions[part]
        assert not set(captions) & set(plan.source.held_out)
        noise = found[LATENT] / pipe.space.scaling_factor - posterior.mean[part]
        noise = noise / posterior.std[part]
        assert noise.mean().abs() < 0.1 and (noise.std() - 1).abs() < 0.1  # one draw of each
        torch.testing.assert_close(found[POOLED], told.pooled[part], rtol=1e-3, atol=2e-3)
    assert first == len(plan.source) == 30
    monkeypatch.setitem(RECIPES, "wide", replace(RECIPES[tiny], batch_size=32))
    with pytest.raises(FilesError, match="30 pictures are too few for 32 shards"):
        how = {"shards": tmp_path / "more", "lanes": 32}
        (work / "transformer.safetensors").unlink()
        train_on_pictures(pictures, "wide", tmp_path / "model", work, **how)


def test_the_command_trains_on_a_folder_or_says_in_one_sentence_why_not(
    trained, pictures, tiny, tmp_path, monkeypatch, capsys
):
    _, out, parts = trained
    command = ["runs", "train", "--tier", tiny, "--out", str(out), "--work", str(parts)]
    monkeypatch.setattr(sys, "argv", [*command, "--data", str(pictures)])
    text_to_image_runs.main()
    told = capsys.readouterr().out
    assert f"{pictures}: 32 pictures with captions." in told
    assert "skipped, not readable as a picture: 1 (broken.png: cannot identify image" in told
    assert "held out of training, a word from a seen name: 2 (" in told
    assert "Learning from 30 of them; 2 are held out." in told
    assert f"--model {out}" in told.splitlines()[-1]
    monkeypatch.setattr(sys, "argv", [*command, "--data", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match="^There is no folder .*nowhere"):
        text_to_image_runs.main()
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match="the recipe has scenes"):
        text_to_image_runs.main()
