"""The files of a lesson's figures."""

import re

import pytest
from matplotlib.figure import Figure
from PIL import Image

from t2i.drawing.figure_files import draw_figures
from t2i.show import Picture


def square() -> Picture:
    return Picture(Figure(figsize=(2, 1)), "an empty square")


def walk() -> bytes:
    return b"GIF89a"


def lost() -> Picture:
    raise FileNotFoundError("no weights here")


def unmeasured() -> None:
    return None


def test_each_figure_becomes_a_file_of_its_name(tmp_path, capsys):
    folder = tmp_path / "figures"
    draw_figures(folder, square, walk, lost, unmeasured, names=[], small=square, dpi=50)
    assert {path.name for path in folder.iterdir()} == {"square.png", "walk.gif", "small.png"}
    assert Image.open(folder / "small.png").size == (100, 50)
    assert (folder / "walk.gif").read_bytes() == b"GIF89a"
    said = capsys.readouterr().out
    assert "lost is not drawn: FileNotFoundError no weights here" in said
    assert "unmeasured is not drawn" in said and re.search(r"square.png +\d+ kB", said)


def test_names_choose_and_a_wrong_one_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["make_figures.py", "walk"])
    draw_figures(tmp_path, square, walk)
    assert [path.name for path in tmp_path.iterdir()] == ["walk.gif"]
    with pytest.raises(SystemExit, match="No figure is named cube; there are square, walk"):
        draw_figures(tmp_path, square, walk, names=["cube"])
