"""The page of `make demo` in a real browser: typed, pressed, looked at, nothing asked elsewhere."""

import contextlib
import importlib.metadata
import importlib.util
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from autograder.checks.browser import CHROMIUM, Browser, wait
from t2i.apps import demo, demo_drawing
from t2i.latents import LatentSpace
from t2i.runs import known_words, text_to_image_runs
from t2i.runs.text_to_image_recipes import text_to_image_recipe
from t2i.text_to_image import TextToImage
from t2i.world.caption_reading import VOCABULARY

GRADIO = importlib.util.find_spec("gradio")
needs_gradio = pytest.mark.skipif(GRADIO is None, reason="needs Gradio: make demo installs it")
needs_browser = pytest.mark.skipif(
    GRADIO is None or CHROMIUM is None,
    reason="needs Gradio (make demo installs it) and Chromium (Debian: apt install chromium)",
)
STATE = """(() => {
    const image = document.querySelector('#guess');
    return {
        pixels: image && image.complete && image.naturalWidth ? image.src : '',
        step: document.querySelector('#step')?.textContent ?? '',
        button: document.querySelector('#draw')?.innerText ?? '',
        remark: document.querySelector('#remark')?.innerText.trim() ?? '',
        tiles: [...document.querySelectorAll('#words figcaption')].map(e => e.innerText),
        maps: [...document.querySelectorAll('#words img')].map(e => e.src).join(),
    };
})()"""


class DemoBrowser(Browser):
    """A browser that knows the demo's page."""

    def press(self):
        """A click on the button."""
        self.run("document.querySelector('#draw').click()")

    def state(self, **wanted):
        """What the page shows, once it shows what is wanted (regular expressions by name)."""

        def look():
            self.seen = self.run(STATE)
            return all(re.search(pattern, self.seen[name]) for name, pattern in wanted.items())

        wait(look, lambda: f"wanted {wanted}, the page shows {self.seen}")
        return self.seen


@pytest.fixture(scope="module")
def pipe():
    """A model that learnt nothing: what it draws is arbitrary, but it draws."""
    plan = text_to_image_recipe("smoke")
    vae, clip, transformer = plan.vae.build(), plan.clip.build(), plan.build()
    return TextToImage(
        plan.clip.tokenizer, clip.text, transformer, LatentSpace(vae, 1.0), plan.vae.size
    )


@contextlib.contextmanager
def page_of(folder):
    """The page of a model, served as `make demo` does, and its address."""
    command = [sys.executable, "-m", "t2i.apps.demo", "--model", str(folder), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        said = server.stdout.readline()
        try:
            yield re.search(r"http://127\.0\.0\.1:\d+/", said)[0]
        finally:
            server.terminate()


@needs_browser
def test_the_page_in_a_browser(tmp_path):
    text_to_image_runs.train_all("smoke", tmp_path / "model", tmp_path / "work")
    (tmp_path / "profile").mkdir()
    with (
        page_of(tmp_path / "model") as address,
        contextlib.closing(DemoBrowser(tmp_path / "profile")) as browser,
    ):
        browser.tell("Page.navigate", url=address)
        browser.until("document.querySelector('#draw') !== null")
        wait(lambda: browser.run("1") and any("heartbeat" in url for url in browser.asked))

        browser.press()  # nothing typed
        assert "type what you want to see" in browser.state(remark="Please")["remark"]
        assert browser.run(STATE)["pixels"] == ""

        browser.type("#prompt textarea", "a red seven above a blue star")
        browser.type("#steps input[type=number]", "9")
        browser.press()
        first = browser.state(step="^9 of 9$", button="^Draw$")
        assert first["pixels"].startswith("data:image/png") and first["remark"] == ""
        words = [tile.split("\n")[0] for tile in first["tiles"]]
        assert words == ["a", "red", "seven", "above", "a", "blue", "star"]

        browser.type("#moment input[type=number]", "2")
        early = browser.state(step="^2 of 9$")
        assert early["pixels"] != first["pixels"] and early["maps"] != first["maps"]

        browser.type("#seed input", "1")
        browser.press()
        second = browser.state(step="^9 of 9$", button="^Draw$")
        assert second["pixels"] not in ("", first["pixels"])

        browser.type("#seed input", "-3")
        browser.press()
        assert "from 0 to 999,999, not -3" in browser.state(remark="The seed")["remark"]
        assert browser.run(STATE)["pixels"] == second["pixels"]

        browser.type("#seed input", "0")
        browser.type("#steps input[type=number]", "8")
        browser.type("#prompt textarea", "a <b>dragon</b> abowe a star")
        browser.press()
        strange = browser.state(remark="dragon", step="^8 of 8$", button="^Draw$", pixels="^data:")
        assert "It knows the colours red" in strange["remark"]
        assert "above instead of abowe" in strange["remark"]
        assert "<b>dragon</b>" in strange["remark"]  # shown as typed, not as a tag
        assert strange["pixels"] not in (first["pixels"], second["pixels"])

        asked = [url for url in browser.asked if not url.startswith(("data:", "blob:"))]
        assert any(url.startswith(address) for url in asked)
        assert [url for url in asked if not url.startswith(address)] == []
        assert browser.errors == []
    assert not Path(demo.__file__).with_name("demo_page.pyi").exists()  # Gradio likes to write


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["demo", "--model", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match=r"^There is no folder .*none: train a model with [^\n]+$"):
        demo.main()


def test_a_missing_gradio_is_one_sentence(pipe, tmp_path, monkeypatch):
    pipe.save_pretrained(tmp_path)
    monkeypatch.setattr(sys, "argv", ["demo", "--model", str(tmp_path)])
    monkeypatch.delitem(sys.modules, "t2i.apps.demo_page", raising=False)
    monkeypatch.delattr("t2i.apps.demo_page", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SystemExit, match="^The page needs Gradio, and gradio is missing: `make d"):
        demo.main()


@needs_gradio
def test_a_port_that_is_taken_is_one_sentence(pipe, tmp_path, monkeypatch):
    pipe.save_pretrained(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        monkeypatch.setattr(sys, "argv", ["demo", "--model", str(tmp_path), "--port", port])
        with pytest.raises(SystemExit, match=f"^[^\n]*{port}[^\n]*$"):
            demo.main()


@needs_gradio
def test_what_is_installed_is_what_gradio_needs():
    """The packages go in without pip's solver, so their bounds are looked at here."""
    pending, seen, misfits = ["gradio"], set(), set()
    while pending:
        name = pending.pop()
        for line in importlib.metadata.requires(name) or ():
            need = Requirement(line)
            if need.marker and not need.marker.evaluate({"extra": ""}):
                continue
            if importlib.metadata.version(need.name) not in need.specifier:
                misfits.add(need.name.lower())
            if need.name not in seen:
                seen.add(need.name)
                pending.append(need.name)
    assert misfits <= {"pillow"}  # Gradio's bound is older than Pillow 13, and it works with it


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (("", 3, 25, 0), "Please type"),
        ((" \n ", 3, 25, 0), "Please type"),
        ((None, 3, 25, 0), "Please type"),
        (("word " * 100, 3, 25, 0), "within 300"),
        (("a red seven", 11, 25, 0), "Guidance must be a number from 0 to 10, not 11."),
        (("a red seven", None, 25, 0), "Guidance must be a number from 0 to 10."),
        (("a red seven", 3, 0, 0), "Steps must be a whole number from 1 to 100, not 0."),
        (("a red seven", 3, 2.5, 0), "Steps must be a whole number from 1 to 100, not 2.5."),
        (("a red seven", 3, 25, 1e6), "The seed must be a whole number from 0 to 999,999, not"),
        (("a red seven", 3, 25, float("nan")), "The seed must be"),
    ],
)
def test_what_cannot_be_drawn_is_said(told, says):
    with pytest.raises(demo_drawing.WishError, match=re.escape(says)):
        demo_drawing.read_wish(*told)


def test_words_that_no_caption_had_are_named(pipe):
    known = frozenset(VOCABULARY[1:])
    assert known_words.remarks(pipe, "A red 7, to the left of a blue star!", known) == ""
    assert known_words.remarks(pipe, "a red dragon", frozenset()) == ""
    told = known_words.remarks(pipe, "a red dragon or a circel", known)
    assert "“dragon” or “or” or “circel”" in told and "circle instead of circel" in told
    assert "reads its first 22 pieces" in known_words.remarks(pipe, "a red seven " * 9, known)


def test_known_words_are_those_of_the_models_training(tmp_path):
    assert known_words.words_known(tmp_path) == frozenset()
    (tmp_path / "training.json").write_text('{"tier": "cpu"}')
    pair = known_words.words_known(tmp_path)
    assert {"seven", "7", "above", "background"} <= pair and not {"small", "top"} & pair
    assert "sizes" not in known_words.told_words(pair)
    (tmp_path / "training.json").write_text('{"tier": "gpu"}')
    many = known_words.words_known(tmp_path)
    assert pair < many and "; the sizes small, large; " in known_words.told_words(many)
    assert "crimson" in many and "crimson" not in pair, "stored scenes are told with synonyms"
    assert known_words.OF_THREE in known_words.examples_of(tmp_path)
    (tmp_path / "training.json").write_text('{"tier": "cpu"}')
    assert known_words.examples_of(tmp_path) == known_words.SCENE_EXAMPLES


def test_a_model_of_a_folder_knows_that_folders_words(pipe, tmp_path):
    (tmp_path / "training.json").write_text('{"tier": "cpu", "held_out": ["a sleeping cat"]}')
    assert known_words.words_known(tmp_path) == frozenset(), "an older one does not tell"
    assert known_words.examples_of(tmp_path) == ("a sleeping cat",)
    told = {"tier": "cpu", "held_out": [], "words": ["a", "cat", "dog", "red"]}
    (tmp_path / "training.json").write_text(json.dumps(told))
    known = known_words.words_known(tmp_path)
    said = known_words.remarks(pipe, "a red catt", known)
    assert "has “catt”" in said and said.endswith("Did you mean cat instead of catt?")


def test_the_last_guess_is_the_picture(pipe):
    asked = wish("a red seven", steps=4, seed=5)
    *_, (film, number) = demo_drawing.drawn(pipe, asked)
    assert number == len(film.steps) == 4
    picture = pipe(asked.prompt, 4, asked.guidance, 5)[0]
    guess = demo_drawing.picture_html(film, number, asked)
    assert demo_drawing._source(demo_drawing.sheet([picture])) in guess
    assert demo_drawing.words_html(film, 2).count("<img") == 3


def test_what_goes_wrong_while_drawing_reaches_the_page(pipe, monkeypatch):
    monkeypatch.setattr(pipe.space, "decode", lambda z: torch.zeros(1)[2])
    with pytest.raises(IndexError):
        list(demo_drawing.drawn(pipe, wish("a red seven")))


def test_drawing_stops_when_nobody_looks(pipe):
    drawing = demo_drawing.drawn(pipe, wish("a red seven", steps=100))
    film, _ = next(drawing)
    drawing.close()
    for _ in demo_drawing.drawn(pipe, wish("a star", steps=1)):  # waits until the model is free
        pass
    assert len(film.steps) < 100
    assert not any("forward" in vars(layer) for layer in pipe.transformer.modules()), "looks away"


def wish(prompt, steps=3, seed=0):
    return demo_drawing.read_wish(prompt, 3.0, steps, seed)
