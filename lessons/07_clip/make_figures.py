"""Draw the figures of lesson 7: python lessons/07_clip/make_figures.py [name ...]

Four of them explain and need no weights. The others look into the committed ones (`make train-clip`
and `make train-clip-scenes` make them); where these are missing, one sentence says so.
"""

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from t2i import show
from t2i.clip import CLIP
from t2i.drawing import show_clip
from t2i.drawing.figure_files import draw_figures
from t2i.runs.clip_batches import LENGTH, caption_tokenizer, captions_of
from t2i.runs.clip_recipes import load_clip
from t2i.runs.clip_scene_recipes import load_clip_scenes
from t2i.runs.clip_scene_runs import by_clip, by_words, draw
from t2i.runs.scene_recipes import load_scenes
from t2i.world.captions import COLOURS, KINDS
from t2i.world.scene_specs import Specs, draw_specs
from t2i.world.scenes import paint

FIGURES = Path(__file__).parent / "figures"
MIDDLE = {"ha": "center", "va": "center"}
CAPTION = "there is a crimson fünf"
WISHES = (
    "a red circle",
    "a crimson disc",
    "a scarlet ball",
    "an azure valentine",
    "a golden vii",
    "an emerald plus",
)


def box(axes: Axes, x: float, y: float, text: str, colour: str, width=1.6, height=0.6) -> None:
    """A rounded box round a text, centred at (x, y)."""
    patch = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0.02,rounding_size=0.1",
        facecolor=colour + "22",
        edgecolor=colour,
        lw=1.6,
    )
    axes.add_patch(patch)
    axes.text(x, y, text, fontsize=10, **MIDDLE)


def arrow(axes: Axes, start: tuple, end: tuple, colour: str = show.BLACK) -> None:
    style = {"arrowstyle": "-|>,head_width=0.25,head_length=0.5", "color": colour, "lw": 1.6}
    axes.annotate("", end, start, arrowprops=style | {"shrinkA": 0, "shrinkB": 0})


def blank(width: float, height: float, xlim: tuple, ylim: tuple):
    """A figure without axes."""
    figure, (axes,) = show.panels(1, 1, width, height)
    axes.set(xlim=xlim, ylim=ylim)
    axes.axis("off")
    return figure, axes


# --- ideas


def merging() -> show.Picture:
    """A caption in pieces, with more and more merges known."""
    merges = caption_tokenizer().merges
    return show_clip.merging(CAPTION, merges, [0, 10, 40, 100, 160, len(merges)])


def causal() -> show.Picture:
    """Who may look at whom in the text encoder."""
    names = ("start", "a", "red", "seven", "end", "end", "end")
    count = len(names)
    figure, axes = blank(4.6, 4.0, (-2.2, count + 0.1), (count + 0.9, -1.5))
    for i in range(count):
        for j in range(count):
            colour = show.BLUE if j <= i else "white"
            cell = Rectangle((j + 0.04, i + 0.04), 0.92, 0.92, fc=colour, ec=show.GREY, lw=0.8)
            cell.set_alpha(0.75)
            axes.add_patch(cell)
        axes.text(-0.15, i + 0.5, names[i], ha="right", va="center", fontsize=10)
        axes.text(i + 0.5, -0.15, names[i], ha="center", va="bottom", fontsize=9, rotation=45)
    frame = Rectangle((0, 4), count, 1, fill=False, ec=show.VERMILLION, lw=2.6)
    axes.add_patch(frame)
    axes.text(count / 2, count + 0.5, "columns: what may be looked at", color=show.GREY, **MIDDLE)
    axes.text(-1.9, count / 2, "rows: who looks", color=show.GREY, rotation=90, **MIDDLE)
    axes.set_aspect("equal")
    return show.Picture(figure, "")


def vit() -> show.Picture:
    """A picture becomes a list of patches, with the class place in front."""
    figure, axes = blank(8, 3.1, (0, 16), (0, 6.2))
    specs = draw_specs(range(40), "train", "one", seed=11)
    star = next(row for row in range(40) if KINDS[specs.kind[row, 0]] == "star")
    image = show.to_array(paint(specs)[star])
    side = len(image) // 4
    axes.imshow(image, extent=(0.3, 4.3, 1.4, 5.4), interpolation="nearest", zorder=0)
    for k in range(5):
        axes.plot([0.3 + k, 0.3 + k], [1.4, 5.4], color="white", lw=1.5)
        axes.plot([0.3, 4.3], [1.4 + k, 1.4 + k], color="white", lw=1.5)
    arrow(axes, (4.5, 3.4), (5.3, 3.4))
    for patch in range(16):
        row, column = divmod(patch, 4)
        axes.text(0.36 + column, 5.34 - row, f"{patch}", color="white", fontsize=8, va="top")
    axes.text(2.3, 0.9, "4 · 4 patches", fontsize=10, **MIDDLE)
    picked = {0: 7.5, 1: 8.65, 5: 10.35, 6: 11.5, 15: 13.2}  # patch: where it is drawn
    box(axes, 6.1, 4.85, "class", show.VERMILLION, 1.15, 0.8)
    for patch, x in picked.items():
        row, column = divmod(patch, 4)
        part = image[row * side : (row + 1) * side, column * side : (column + 1) * side]
        axes.imshow(part, extent=(x - 0.45, x + 0.45, 4.4, 5.3), interpolation="nearest")
        axes.text(x, 5.55, f"patch {patch}", fontsize=9, **MIDDLE)
        axes.text(x + 0.12, 3.85, f"{patch + 1}", fontsize=9, ha="left", va="center")
        arrow(axes, (x, 4.3), (x, 3.35), show.BLUE)
    for x in (9.5, 12.35):
        axes.text(x, 4.85, "…", fontsize=14, **MIDDLE)
    arrow(axes, (6.1, 4.3), (6.1, 3.35), show.VERMILLION)
    axes.text(5.98, 3.85, "place 0", fontsize=9, ha="right", va="center")
    box(axes, 10, 2.85, "+ positions, norm_in, layers", show.GREEN, 9.3, 0.8)
    arrow(axes, (6.1, 2.4), (6.1, 1.3), show.VERMILLION)
    box(axes, 7.6, 0.85, "norm_out: the picture's vector", show.VERMILLION, 4.6, 0.8)
    axes.set(xlim=(0, 16), ylim=(0, 6.2), aspect="equal")
    return show.Picture(figure, "")


def contrast() -> show.Picture:
    """Four pairs: the right answers lie on the diagonal; rows and columns are questions."""
    specs = draw_specs([1, 6, 9, 12], world="one", seed=3)
    images, texts = paint(specs), specs.captions()
    figure, axes = blank(7.6, 4.0, (-5.4, 6.7), (5.7, -1.2))
    for i in range(4):
        axes.imshow(show.to_array(images[i]), extent=(-1.0, -0.1, i + 0.95, i + 0.05), zorder=2)
        axes.text(i + 0.5, -0.15, f"text {i}", ha="center", va="bottom", fontsize=10)
        axes.text(-1.15, i + 0.5, f"picture {i}", ha="right", va="center", fontsize=10)
        for j in range(4):
            right = i == j
            colour = show.BLUE if right else show.SKY
            cell = Rectangle((j + 0.04, i + 0.04), 0.92, 0.92, fc=colour, ec=show.GREY, lw=0.8)
            cell.set_alpha(0.9 if right else 0.25)
            axes.add_patch(cell)
            if right:
                axes.text(j + 0.5, i + 0.5, "right", color="white", fontsize=9, **MIDDLE)
    axes.plot([0, 4, 4, 0, 0], [1, 1, 2, 2, 1], color=show.VERMILLION, lw=2.6)
    axes.text(4.2, 1.5, "a row asks: which text\nbelongs to this picture?", va="center", fontsize=9)
    axes.plot([2, 3, 3, 2, 2], [0, 0, 4, 4, 0], color=show.GREEN, lw=2.6, ls="--")
    axes.text(2.5, 4.5, "a column asks: which picture\nbelongs to this text?", fontsize=9, **MIDDLE)
    for i, text in enumerate(texts):
        axes.text(4.2, 2.7 + 0.5 * i, f"text {i}: {text}", fontsize=8, color=show.GREY)
    axes.set(xlim=(-2.6, 8.6), ylim=(5.0, -0.7), aspect="equal")
    return show.Picture(figure, "")


# --- the trained model


@cache
def trained() -> CLIP:
    return load_clip()[0]


@torch.no_grad()
def matrix() -> show.Picture:
    """Nine pictures of unseen handwriting and their captions."""
    model = trained()
    told = draw_specs(range(40), "train", "one", seed=11)
    rows = _different(told, 9)
    images, texts = paint(told, digits="test")[rows], [captions_of(told)[row] for row in rows]
    tokens = caption_tokenizer()(texts, LENGTH)
    pictures = F.normalize(model.encode_images(images), dim=-1)
    return show_clip.similarity_matrix(
        images, texts, pictures @ F.normalize(model.encode_texts(tokens), dim=-1).T
    )


def _different(specs: Specs, count: int) -> list[int]:
    """The first rows that differ in object, with every colour before any comes again."""
    rows: list[int] = []
    for row in range(len(specs)):
        kinds = {int(specs.kind[r, 0]) for r in rows}
        colours = [int(specs.colour[r, 0]) for r in rows]
        new = int(specs.colour[row, 0]) not in colours or len(set(colours)) == len(COLOURS)
        if int(specs.kind[row, 0]) not in kinds and new and len(rows) < count:
            rows.append(row)
    return rows


@torch.no_grad()
def colour_map() -> show.Picture:
    """Pictures and colour words in the common space."""
    model = trained()
    names = ["red", "crimson", "scarlet", "orange", "yellow", "lemon", "green", "emerald", "cyan"]
    names += ["blue", "azure", "purple", "pink"]
    objects = ("circle", "star", "seven", "heart")
    crowd = draw_specs(range(60), "train", "one", seed=6)
    images = paint(crowd, digits="test")
    tokens = [caption_tokenizer()([f"a {n} {o}" for o in objects], LENGTH) for n in names]
    words = torch.stack([F.normalize(model.encode_texts(t), dim=-1).mean(0) for t in tokens])
    return show_clip.embedding_map(images, model.encode_images(images), names, words)


def told() -> show.Picture:
    """Plain and other words, painted from the same noise by both painters."""
    readers = {
        "one vector per word": by_words(load_scenes()[0]),
        "CLIP": by_clip(load_clip_scenes()[0]),
    }
    rows = {name: draw(read, WISHES, seed=3) for name, read in readers.items()}
    return show.film_strip(rows, ["\n".join(wish.rsplit(" ", 1)) for wish in WISHES], alt="")


if __name__ == "__main__":
    draw_figures(FIGURES, merging, causal, vit, contrast, matrix, told, map=colour_map)
