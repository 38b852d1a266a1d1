"""The drawing helpers: right values, alt texts, reproducible files."""

import numpy as np
import pytest
import torch

from t2i import show


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


def test_saved_file_is_reproducible(tmp_path):
    def draw():
        return show.curves([0, 1, 2], {"up": [0, 1, 2], "down": [2, 1, 0]}, alt="x", xlabel="t")

    files = [draw().save(tmp_path / name) for name in ("a.png", "b.png")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_histogram_has_unit_area():
    figure, axes = show.panels(1, 2)
    show.draw_histogram(axes[0], torch.randn(1000), bins=20)
    assert sum(bar.get_height() * bar.get_width() for bar in axes[0].patches) == pytest.approx(1)
