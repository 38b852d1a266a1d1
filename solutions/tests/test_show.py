"""The drawing helpers: right values, alt texts, reproducible files."""

import numpy as np
import pytest
import torch

from t2i import show
from t2i.drawing.in_words import in_words


def test_to_array_maps_minus_one_to_black_and_one_to_white():
    image = torch.tensor([[[-1.0, 0.0], [1.0, 3.0]]])
    np.testing.assert_allclose(show.to_array(image), [[0, 0.5], [1, 1]])
    assert show.to_array(torch.zeros(3, 4, 5)).shape == (4, 5, 3)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 24)])
def test_every_picture_is_drawn_once_and_carries_its_alt_text(shape):
    images = torch.rand(5, *shape) * 2 - 1
    picture = show.film_strip({"a": images, "b": images[:3]}, list("12345"), alt='a "b" <c>')
    assert len(picture.figure.axes[0].images) == 8
    page = picture._repr_html_()
    assert 'alt="a &quot;b&quot; &lt;c&gt;"' in page and "<figcaption>" not in page
    assert show.show_images(list(images), alt="x", columns=2).png()[1:4] == b"PNG"


@pytest.mark.parametrize(("value", "framed"), [(1.0, 1), (0.98, 1), (0.5, 0), (-1.0, 0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_that_ends_in_white_has_a_frame_around_its_pixels(value, framed, channels):
    image = torch.full((channels, 8, 8), value)
    image[:, 2:6, 2:6] = -1
    (axes,) = show.show_images([image], alt="x").figure.axes
    assert len(axes.patches) == framed
    for frame in axes.patches:
        left, right, bottom, top = axes.images[0].get_extent()
        assert frame.get_bbox().extents == pytest.approx([left, top, right, bottom])


def test_saved_file_is_reproducible(tmp_path):
    def draw():
        return show.curves([0, 1, 2], {"up": [0, 1, 2], "down": [2, 1, 0]}, alt="x", xlabel="t")

    files = [draw().save(tmp_path / name) for name in ("a.png", "b.png")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_histogram_has_unit_area():
    figure, axes = show.panels(1, 2)
    show.draw_histogram(axes[0], torch.randn(1000), bins=20)
    assert sum(bar.get_height() * bar.get_width() for bar in axes[0].patches) == pytest.approx(1)


@pytest.fixture
def moved_slider(monkeypatch):
    """A slider from 0 to 3 whose drawing fails at 3: its knob, its page, the values drawn."""
    shown, drawn = [], []
    monkeypatch.setattr("IPython.display.display", shown.append)

    def draw(t: int) -> show.Picture:
        drawn.append(t)
        if t == 3:
            raise ValueError("t must be <below> 3")
        return show.show_images(torch.full((1, 1, 2, 2), t / 2 - 1), alt=f"step {t}")

    show.slider(draw, t=(0, 3, 1))
    knob, page = shown[0].children
    return knob, page, drawn


def test_a_slider_shows_its_picture_and_another_when_it_is_moved(moved_slider):
    knob, page, drawn = moved_slider
    assert knob.description == "t" and f'alt="step {knob.value}"' in page.value
    before = page.value
    knob.value = 2 - knob.value % 2 * 2
    assert drawn[-1] == knob.value and f'alt="step {knob.value}"' in page.value
    assert page.value != before


def test_an_error_behind_a_slider_is_shown_in_place_of_the_picture(moved_slider):
    knob, page, _ = moved_slider
    knob.value = 3
    assert "ValueError: t must be &lt;below&gt; 3" in page.value and "<img" not in page.value


def test_names_on_a_map_lie_on_no_picture_and_on_no_other_name():
    from t2i.drawing.show_clip import _beside

    generator = torch.Generator().manual_seed(0)
    low, high = torch.zeros(2), torch.tensor([7.0, 4.5])
    pictures = high * torch.rand(40, 2, generator=generator)
    names = ["red", "crimson", "scarlet", "azure", "emerald", "lemon"]
    spots = torch.tensor([3.5, 2.0]) + 0.05 * torch.rand(6, 2, generator=generator)  # on one heap
    places = _beside(spots, names, pictures, low, high)
    sizes = torch.tensor([[0.04 * len(name) + 0.08, 0.13] for name in names])
    assert ((places - sizes > low) & (places + sizes < high)).all()
    for i in range(len(names)):
        others = torch.cat([pictures, places[:i]])
        halves = torch.cat([torch.full_like(pictures, 0.15), sizes[:i]])
        assert ((places[i] - others).abs() > sizes[i] + halves).any(-1).all(), names[i]


def test_curves_without_an_alt_text_are_told_in_words():
    steps = range(0, 900, 9)  # 100 of them
    lines = {"up": torch.arange(100) / 2, "level": [3.0] * 100}
    page = show.curves(steps, lines, xlabel="step t")._repr_html_()
    up = "0 at 0, 12 at 225, 25 at 450, 37 at 666, 50 at 891"  # halves of the places 0, 25, 50 ...
    level = "3 at 0, 3 at 225, 3 at 450, 3 at 666, 3 at 891"
    assert f"value against step t. up: {up}; level: {level}." in page
    assert in_words([1, 2], {"loss": [0.5, float("nan")]}) == (
        "value against x. loss: 0.5 at 1, nan at 2."
    )
