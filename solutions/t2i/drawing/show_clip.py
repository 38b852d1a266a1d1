"""Drawing for lesson 7: pieces of words, who fits whom, and where vectors lie.

Nothing here is needed to build or train a model; it only looks at one, from outside.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from t2i.bpe import Tokenizer, merge_pair
from t2i.byte_words import END, START, WORD_END, byte_symbols, split_words, start_pieces
from t2i.show import BLACK, BLUE, GREY, SKY, VERMILLION, Picture, panels, to_array

HEAT = "cividis"  # dark blue to yellow: the same for colour-blind eyes
MISSING = (
    "The trained weights data/clip_cpu.safetensors cannot be used (python -m t2i.runs.clip_recipes "
    "train makes them), so what follows is shown by a model of two minutes' training."
)


def readable(piece: str) -> str:
    """A piece as one would write it: é and not Ã©, and · where the word ends."""
    if piece in (START, END):
        return "start" if piece == START else "end"
    symbols = piece.removesuffix(WORD_END)
    numbers = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    data = bytes(numbers[symbol] for symbol in symbols)
    try:
        text = data.decode()
    except UnicodeDecodeError:  # half a letter
        text = " ".join(f"{byte:02x}" for byte in data)
    return text + ("·" if piece.endswith(WORD_END) else "")


def pieces_after(text: str, merges: Sequence[tuple[str, str]], count: int) -> list[str]:
    """The pieces of a text when only the first `count` merges are known."""
    pieces = []
    for word in split_words(text):
        parts = start_pieces(word)
        for pair in merges[:count]:
            parts = merge_pair(parts, pair)
        pieces += parts
    return pieces


def merging(text: str, merges: Sequence[tuple[str, str]], counts: Sequence[int]) -> Picture:
    """A text as its pieces, a line for each number of merges that are known.

    Args:
        text: to be cut up.
        merges: as train_bpe gives them.
        counts: how many of the merges each line knows.
    """
    lines = [[readable(piece) for piece in pieces_after(text, merges, n)] for n in counts]
    figure, (axes,) = panels(1, 1, 8, 0.46 * len(lines) + 0.25)
    most = max(sum(0.62 + 0.3 * len(piece) for piece in line) for line in lines)
    for row, (line, count) in enumerate(zip(lines, counts, strict=True)):
        x = 0.0
        axes.text(-0.4, -row, f"{count} merges", ha="right", va="center", color=GREY)
        for i, piece in enumerate(line):
            width = 0.5 + 0.3 * len(piece)
            _box(axes, x, -row, width, piece, (BLUE, VERMILLION)[i % 2])
            x += width + 0.12
        axes.text(x + 0.2, -row, f"{len(line)} pieces", va="center", color=GREY)
    axes.set(xlim=(-3.6, most + 2.6), ylim=(0.55 - len(lines), 0.5))
    axes.axis("off")
    told = "; ".join(f"{n}: {' '.join(line)}" for n, line in zip(counts, lines, strict=True))
    return Picture(figure, f"The pieces of a text by the number of merges known. {told}")


def similarity_matrix(images: Tensor, captions: Sequence[str], similarities: Tensor) -> Picture:
    """Pictures down the side, captions along the top, and how well each two fit.

    Args:
        images: (N, 3, H, W).
        captions: M texts.
        similarities: (N, M) cosines, of picture i with caption j.
    """
    rows, columns = len(images), len(captions)
    figure, (axes,) = panels(1, 1, min(8, 2.4 + 0.55 * columns), 0.42 * rows + 1.9)
    axes.imshow(similarities.detach().cpu(), cmap=HEAT, aspect="auto")
    middle = (similarities.max() + similarities.min()).item() / 2
    for i in range(rows):
        for j in range(columns):
            value = similarities[i, j].item()
            ink = "black" if value > middle else "white"
            axes.text(j, i, f"{value:z.1f}", ha="center", va="center", color=ink, fontsize=8)
        _thumbnail(axes, images[i], (-0.5, i), 0.85, (-16, 0))
    for j, caption in enumerate(captions):
        text = caption.replace(" of ", " of\n").replace(" that ", "\nthat ")
        axes.text(j - 0.2, -0.62, text, fontsize=8, rotation=40, rotation_mode="anchor")
    axes.set_yticks([])
    axes.set_xticks([])
    axes.grid(False)
    best = "; ".join(captions[int(row.argmax())] for row in similarities.detach())
    return Picture(figure, f"How well {rows} pictures fit {columns} captions. Best fits: {best}.")


def zero_shot_bars(images: Tensor, probabilities: Tensor, names: Sequence[str]) -> Picture:
    """A picture above, and below it how probable each class is.

    Args:
        images: (N, 3, H, W), six or fewer.
        probabilities: (N, K).
        names: K classes.
    """
    figure, axes = panels(1, len(images), 8, 0.9 + 0.19 * len(names))
    for i, (axis, row) in enumerate(zip(axes, probabilities.detach().cpu(), strict=True)):
        colours = [BLUE if value == row.max() else SKY for value in row]
        axis.barh(range(len(names)), row, color=colours)
        axis.set(xlim=(0, 1.05), ylim=(len(names) - 0.4, -0.6), xticks=(0, 1))
        axis.set_yticks(range(len(names)), names if i == 0 else [""] * len(names), fontsize=8)
        axis.set_title(" ", pad=30)
        _thumbnail(axis, images[i], (0.5, -0.6), 1.3, (0, 25))
    axes[0].set_xlabel("probability")
    best = ", ".join(names[int(row.argmax())] for row in probabilities)
    return Picture(figure, f"For each picture a bar a class. The most probable ones: {best}.")


def embedding_map(
    images: Tensor, image_features: Tensor, texts: Sequence[str], text_features: Tensor
) -> Picture:
    """The common space from its two broadest sides: pictures where they lie, words where they lie.

    Pictures and texts live in two separate parts of the space, so each is centred by itself.

    Args:
        images: (N, 3, H, W).
        image_features: (N, D).
        texts: M labels.
        text_features: (M, D).
    """
    groups = [F.normalize(features.detach().cpu(), dim=-1) for features in
              (image_features, text_features)]  # fmt: skip
    centred = [group - group.mean(dim=0) for group in groups]
    _, _, axes_of = torch.linalg.svd(centred[1], full_matrices=False)
    spots, words = (group @ axes_of[:2].T for group in centred)
    every = torch.cat([spots, words])
    low, high = every.amin(0), every.amax(0)
    low, high = low - 0.1 * (high - low), high + 0.1 * (high - low)
    figure, (axes,) = panels(1, 1, 8, 5.2)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes.set(xlabel="first direction", ylabel="second direction")
    for image, spot in zip(images, spots, strict=True):
        _thumbnail(axes, image, tuple(spot.tolist()), 0.55, (0, 0))
    inches = torch.tensor([7.2, 4.7]) / (high - low)  # what the axes take up of the figure
    places = _beside(words * inches, texts, spots * inches, low * inches, high * inches) / inches
    for text, spot, place in zip(texts, words.tolist(), places.tolist(), strict=True):
        style = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": GREY, "lw": 0.8}
        lines = {"arrowstyle": "-", "color": GREY, "lw": 1, "shrinkB": 0}
        axes.annotate(
            text, spot, place, fontsize=9, ha="center", va="center", bbox=style, arrowprops=lines
        )
        axes.plot(*spot, "o", color=BLACK, mec="white", mew=0.8, ms=5, zorder=5)
    return Picture(figure, f"A map of {len(images)} pictures and of the texts {', '.join(texts)}.")


def tokens_table(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Markdown:
    """Texts, their pieces and their numbers, as a table."""
    rows = ["| text | pieces | numbers |", "|---|---|---|"]
    for text in texts:
        numbers = tokenizer.encode(text, length)
        pieces = " ".join(f"`{readable(tokenizer.pieces[number])}`" for number in numbers)
        rows.append(f"| {text} | {pieces} | {numbers} |")
    return Markdown("\n".join(rows))


def _beside(
    spots: Tensor, texts: Sequence[str], pictures: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Places (M, 2) for labels: near their spots, on no picture, no dot, no line and no label.

    Args:
        spots: (M, 2) what the labels belong to, in inches.
        texts: M labels.
        pictures: (N, 2) the middles of the pictures.
        low, high: (2,) the corners of the map.
    """
    ring = torch.arange(24) * math.pi / 12
    ring = torch.stack([ring.cos(), ring.sin()], dim=-1)
    tries = torch.cat([0.1 * step * ring for step in range(3, 30)])
    middles = torch.cat([pictures, spots])  # of all that is taken, and half its width and height
    halves = torch.cat([torch.full_like(pictures, 0.15), torch.full_like(spots, 0.05)])
    labels, places = torch.zeros(0, dtype=torch.int64), []
    for spot, text in zip(spots, texts, strict=True):
        size = torch.tensor([0.04 * len(text) + 0.08, 0.13])
        place = spot + tries[:, None]  # (tries, 1, 2)
        free = ((place - middles).abs() > size + halves).any(-1).all(-1)
        line = spot + torch.linspace(0.1, 0.9, 9)[:, None] * tries[:, None]  # (tries, 9, 2)
        clear = ((line[:, :, None] - middles[labels]).abs() > halves[labels]).any(-1).all(-1)
        inside = ((place - size > low) & (place + size < high)).all(-1)[:, 0]
        best = int((free & clear.all(-1) & inside).int().argmax())  # the first, so the nearest
        labels = torch.cat([labels, torch.tensor([len(middles)])])
        middles = torch.cat([middles, place[best], line[best]])
        halves = torch.cat([halves, size[None], torch.full((9, 2), 0.03)])
        places.append(place[best, 0])
    return torch.stack(places)


def _box(axes: Axes, x: float, y: float, width: float, text: str, colour: str) -> None:
    style = "round,pad=0,rounding_size=0.12"
    patch = FancyBboxPatch((x, y - 0.33), width, 0.66, boxstyle=style, fc=colour + "22", ec=colour)
    axes.add_patch(patch)
    axes.text(x + width / 2, y, text, ha="center", va="center", fontsize=8.5)


def _thumbnail(axes: Axes, image: Tensor, spot: tuple, zoom: float, shift: tuple) -> None:
    picture = OffsetImage(to_array(image), zoom=zoom, interpolation="nearest")
    axes.add_artist(
        AnnotationBbox(
            picture,
            spot,
            xybox=shift,
            boxcoords="offset points",
            frameon=False,
            pad=0,
            annotation_clip=False,
        )
    )
