"""Drawing for lesson 6: who looks at which word, and how that changes while a picture is made.

Nothing here is needed to build or train a network; it only looks at one, from outside.
"""

import io
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
import torch.nn.functional as F
from IPython.display import Image
from matplotlib.axes import Axes
from torch import Tensor, nn

from t2i.attention import scaled_dot_product_attention, split_heads
from t2i.diffusion import predict_x_0
from t2i.engine.watching import watching
from t2i.show import BLUE, SKY, Picture, panels, to_array
from t2i.world.caption_reading import words_of

HEAT = "cividis"  # dark blue to yellow: the same for colour-blind eyes
MISSING = (
    "The trained weights data/scenes_cpu.safetensors cannot be used (python -m "
    "t2i.runs.scene_recipes train makes them), so what follows is painted by your network of two "
    "minutes' training."
)


def word_weights(
    layer: nn.Module, x: Tensor, context: Tensor, context_mask: Tensor | None = None
) -> Tensor:
    """How much each place looks at each word in a CrossAttention: (B, heads, N, L).

    The layer itself never keeps these numbers, so they are worked out again from its weights.
    """
    query = split_heads(layer.to_q(x), layer.num_heads)
    key = split_heads(layer.to_k(context), layer.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    return scaled_dot_product_attention(query, key, key, mask)[1]


def spread(weights: Tensor, size: int) -> Tensor:
    """Weights (B, N, L) of square maps with N places, as maps (B, L, size, size) on the CPU."""
    side = round(weights.shape[1] ** 0.5)
    maps = weights.transpose(1, 2).unflatten(2, (side, side))
    return F.interpolate(maps, (size, size), mode="nearest").cpu()


class WordFilm:
    """Looks on while pictures are made, and keeps how much each place looked at each word.

        film = WordFilm(denoiser, captions)
        with film:
            pictures = draw_captions(denoiser, captions, on_step=film)
        film.steps, film.maps[t], film.guess[t]

    Args:
        model: a SceneDenoiser; its layers called attn2 are watched.
        captions: what is drawn, B of them. Where the model is asked more at once (guidance asks
            it without words, too), the last B answers count.
        size: height and width of the maps, in pixels.
    """

    def __init__(self, model: nn.Module, captions: Sequence[str], size: int = 32):
        self.words = [words_of(caption) for caption in captions]
        self.model, self.size = model, size
        self.steps: list[int] = []
        self.maps: dict[int, Tensor] = {}  # t -> (B, L, size, size), mean of layers and heads
        self.guess: dict[int, Tensor] = {}  # t -> (B, 3, size, size), the picture as guessed at t
        self._seen: list[Tensor] = []
        self._x_t: Tensor | None = None
        self._watching = ExitStack()

    def __enter__(self) -> "WordFilm":
        self._watching.enter_context(watching(self.model, before=self._look))
        return self

    def __exit__(self, *_) -> None:
        self._watching.close()

    def __call__(self, step: int, x_prev: Tensor, noise_pred: Tensor) -> None:
        """What `on_step` is: put away what was seen at this step."""
        count = len(self.words)
        self.steps.append(step)
        self.maps[step] = torch.stack(self._seen).mean(0)
        t = torch.full((count,), step, device=noise_pred.device)
        guess = predict_x_0(self._x_t, noise_pred, t, self.model.alphas_cumprod)
        self.guess[step] = guess.clamp(-1, 1).cpu()

    @torch.no_grad()
    def _look(self, name: str, layer: nn.Module, inputs: tuple) -> None:
        count = len(self.words)
        if layer is self.model:
            self._seen, self._x_t = [], inputs[0][-count:]
        elif name.endswith("attn2"):
            last = [part if part is None else part[-count:] for part in inputs]
            self._seen.append(spread(word_weights(layer, *last).mean(1), self.size))


def draw_map(axes: Axes, values: Tensor, most: float = 1.0) -> None:
    """One word's map (H, W): dark where nobody looks at it, yellow where `most` do."""
    axes.imshow(values, cmap=HEAT, vmin=0, vmax=most, interpolation="nearest")
    axes.axis("off")


def clock(step: int | float) -> str:
    """How a moment is written: a step's number as it is, a time from 0 to 1 with two digits."""
    return f"t = {step}" if isinstance(step, int) else f"t = {step:.2f}"


def brightest(film: WordFilm, row: int, word: int) -> float:
    """The largest share of a look that a word ever gets: what its maps call bright."""
    return max(maps[row][word].max().item() for maps in film.maps.values())


def word_maps(
    film: WordFilm, row: int, step: int | float, width: float = 8.0, cells: int = 8
) -> Picture:
    """One moment of one picture: the guess, and beside it each word's map.

    Args:
        film: what was recorded, a WordFilm or lesson 10's PromptFilm.
        row: which picture.
        step: which moment, one of film.steps.
        width: inches.
        cells: maps in a line at most, the guess included.
    """
    words = film.words[row]
    rows = -(-(len(words) + 1) // cells)
    columns = min(cells, len(words) + 1)
    size = min(width / columns, 1.5)
    figure, axes = panels(rows, columns, columns * size, rows * (size + 0.3) + 0.1)
    for empty in axes[len(words) + 1 :]:
        empty.axis("off")
    axes[0].imshow(to_array(film.guess[step][row]), interpolation="nearest")
    axes[0].set_title(f"guess, {clock(step)}", fontsize=9)
    axes[0].axis("off")
    for i, word in enumerate(words):
        most = brightest(film, row, i)
        draw_map(axes[i + 1], film.maps[step][row][i], most)
        title = f"{word} (≤ {most:.0%})"
        axes[i + 1].set_title(title, fontsize=min(8, 130 / len(title)))  # a long word fits, too
    alt = f"The picture as guessed at {clock(step)}, and where it looks at: {', '.join(words)}."
    return Picture(figure, alt)


def map_strip(film: WordFilm, row: int, moments: int = 6, width: float = 8.0) -> Picture:
    """A word a line, from noise to picture: above them the picture as guessed at these moments."""
    last = len(film.steps) - 1
    steps = [film.steps[round(i * last / (moments - 1))] for i in range(moments)]
    words = film.words[row]
    cell = 0.72
    figure, axes = panels(
        len(words) + 1, moments, min(width, 1.1 + moments * cell), (len(words) + 1) * cell + 0.3
    )
    most = [brightest(film, row, i) for i in range(len(words))]
    for column, step in enumerate(steps):
        top = axes[column]
        top.imshow(to_array(film.guess[step][row]), interpolation="nearest")
        top.set_title(clock(step), fontsize=9)
        top.axis("off")
        for i in range(len(words)):
            draw_map(axes[(i + 1) * moments + column], film.maps[step][row][i], most[i])
    labels = [f"{word}\n(≤ {share:.0%})" for word, share in zip(words, most, strict=True)]
    for i, label in enumerate(["guess", *labels]):
        first = axes[i * moments]
        first.text(
            -0.12,
            0.5,
            label,
            ha="right",
            va="center",
            fontsize=9,
            transform=axes[i * moments].transAxes,
        )
    alt = f"Top: the guess at {moments} moments. Below, a line a word: where it is looked at."
    return Picture(figure, alt)


def animation(
    draw: Callable[[int | float], Picture],
    moments: Sequence[int | float],
    hold: int = 6,
    dpi: int = 80,
) -> bytes:
    """A GIF that shows one picture a moment and stands still at the end.

    Args:
        draw: makes the picture of a moment; all of one size.
        moments: what to call it with, in order.
        hold: how many frames the last picture stays.
        dpi: pixels an inch.
    """
    from PIL import Image as PIL

    frames = [PIL.open(io.BytesIO(draw(moment).png(dpi))).convert("RGB") for moment in moments]
    how = {"method": PIL.Quantize.MAXCOVERAGE, "dither": PIL.Dither.NONE}  # keeps rare colours
    frames = [frame.quantize(256, **how) for frame in frames]
    buffer = io.BytesIO()
    durations = [180] * (len(frames) - 1) + [180 * hold]
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0
    )
    return buffer.getvalue()


def film_file(film: WordFilm, row: int = 0) -> bytes:
    """The recording of one picture as a GIF to keep: larger than a notebook's, four in a line."""
    return animation(lambda step: word_maps(film, row, step, cells=4), film.steps, dpi=110)


def show_film(film: WordFilm, row: int) -> Image:
    """The whole recording of one picture as an animation, for a notebook."""
    alt = f"From noise to picture, and where it looks at each word: {' '.join(film.words[row])}."
    data = animation(lambda step: word_maps(film, row, step), film.steps)
    return Image(data=data, format="gif", alt=alt)


def weight_bars(weights: Tensor, words: Sequence[str], titles: Sequence[str]) -> Picture:
    """A bar a word, a panel a query: how the look is shared out.

    Args:
        weights: (N, L).
        words: L labels.
        titles: N headings.
    """
    figure, axes = panels(1, len(weights), 8, 2.2)
    for panel, row, title in zip(axes, weights, titles, strict=True):
        colours = [BLUE if value == row.max() else SKY for value in row]
        panel.bar(range(len(words)), row, color=colours)
        panel.set_xticks(range(len(words)), words)
        panel.set(ylim=(0, 1.05), title=title)
    axes[0].set_ylabel("weight")
    shares = "; ".join(
        f"{t}: {[round(w.item(), 2) for w in r]}" for t, r in zip(titles, weights, strict=True)
    )
    return Picture(figure, f"Weights of {', '.join(words)}. {shares}")
