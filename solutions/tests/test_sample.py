"""The command line draws a PNG and a film, and says in one sentence what is wrong."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from t2i.apps import sample
from t2i.latents import LatentSpace
from t2i.runs.text_to_image_recipes import text_to_image_recipe
from t2i.text_to_image import TextToImage

PROMPT = "a tiny yellow triangle left of an orange seven"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The smoke tier's sizes, as if they had learnt something."""
    torch.manual_seed(0)
    plan = text_to_image_recipe("smoke")
    text, transformer = plan.clip.build().text, plan.build()
    nn.init.normal_(transformer.network.final.patch_out.weight)
    space = LatentSpace(plan.vae.build(), 1.0)
    folder = tmp_path_factory.mktemp("model")
    TextToImage(plan.clip.tokenizer, text, transformer, space, 32).save_pretrained(folder)
    return folder


@pytest.fixture
def run(monkeypatch, model):
    """Runs the command here, with the model above unless another is named."""

    def command(*words) -> None:
        words = [*map(str, words)]
        words += [] if "--model" in words else ["--model", str(model)]
        monkeypatch.setattr(sys, "argv", ["sample", *words])
        sample.main()

    return command


def test_a_png_is_written_and_the_same_seed_writes_it_again(run, tmp_path, capsys):
    first, again, other = (tmp_path / "new" / f"{name}.png" for name in "abc")
    for path, seed in ((first, 3), (again, 3), (other, 4)):
        run(PROMPT, "--out", path, "--steps", 2, "--count", 6, "--seed", seed)
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    with Image.open(first) as picture:
        side, gap = sample.SHOWN, 4
        assert picture.size == (4 * side + 3 * gap, 2 * side + gap)
        assert picture.getpixel((side + 1, 0)) == (255, 255, 255)  # between two pictures
    assert f"Wrote {first}.\n" in capsys.readouterr().out
    assert sorted(path.name for path in first.parent.iterdir()) == ["a.png", "b.png", "c.png"]


def test_it_can_begin_with_a_picture(run, tmp_path):
    begin, cat = Image.new("RGB", (90, 90), (30, 200, 90)), tmp_path / "cat.gif"
    begin.save(cat)
    for name, strength in (("a", 0.25), ("b", 0.9), ("c", 0.9)):
        out = tmp_path / f"{name}.png"
        run(PROMPT, "--out", out, "--steps", 8, "--image", cat, "--strength", strength)
    a, b, c = (torch.from_numpy(np.array(Image.open(tmp_path / f"{n}.png"))).float() for n in "abc")
    assert torch.equal(b, c) and not torch.equal(a, b)


def test_a_film_shows_every_step_and_stands_still_at_the_end(run, tmp_path):
    run(PROMPT, "--out", tmp_path / "a.PNG", "--steps", 3, "--film", "--guidance", 1)
    with Image.open(tmp_path / "a.gif") as film:
        durations = []
        for frame in range(film.n_frames):
            film.seek(frame)
            durations.append(film.info["duration"])
        assert len(durations) == 3 and durations[-1] > 3 * durations[0]
        assert film.size[0] > 400
    with Image.open(tmp_path / "a.PNG") as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    "words, code, sentence",
    [
        (["a star", "--model", "nowhere"], 1, "There is no folder nowhere"),
        (["a star", "--model", "."], 1, "model_index.json is missing"),
        (["a star", "--count", "0"], 1, "num_images must be a whole number, 1 or more, got 0"),
        (["a star", "--steps", "0"], 1, "num_inference_steps must be a whole number, 1 or more"),
        (["a star", "--out", "/dev/null/a.png"], 1, "/dev/null"),
        (["a star", "--out", "a.jpg"], 2, "--out must be a PNG file"),
        (["a star", "--guidance", "nan"], 2, "--guidance must be a number"),
        (["a star", "--image", "cat.png"], 1, "cat.png cannot be read as a picture: "),
        (["a star", "--strength", "0"], 2, "--strength must lie above 0"),
        (["a star", "--steps", "few"], 2, "invalid int value"),
        ([], 2, "required: prompt"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    run, tmp_path, monkeypatch, capsys, words, code, sentence
):
    monkeypatch.chdir(tmp_path)
    words = words if "--out" in words else [*words, "--out", "a.png"]
    with pytest.raises(SystemExit) as ended:
        run(*words)
    if code == 1:  # Python prints a text that sys.exit is given, and ends with 1
        assert sentence in ended.value.code and ended.value.code.count("\n") == 0
    else:
        assert ended.value.code == code
        assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_shell_sees_the_sentence_and_no_traceback(tmp_path):
    command = [
        sys.executable,
        "-m",
        "t2i.apps.sample",
        "a star",
        "--out",
        "a.png",
        "--model",
        "nowhere",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.startswith("There is no folder nowhere")
    assert len(ended.stderr.splitlines()) == 1


def test_a_sheet_has_at_most_four_a_row():
    pictures = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in range(5)]
    for count, size in ((1, (10, 10)), (3, (34, 10)), (4, (46, 10)), (5, (46, 22))):
        whole = sample.sheet(pictures[:count], side=10, gap=2)
        assert whole.size == size
        places = [(x, y) for y in (5, 17) for x in (5, 17, 29, 41)]
        assert [whole.getpixel(place)[0] for place in places[:count]] == list(range(count))
