"""Drawing for lesson 9: what a transformer of words and patches paints, and who looks at whom.

Without a trained network each function answers with one sentence.
"""

import textwrap
from collections.abc import Sequence

import torch
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.image import AxesImage
from torch import Tensor, nn

from t2i.drawing.show_dit import HEAT
from t2i.engine.watching import watching
from t2i.runs.dit_recipes import dit_contest, load_joint
from t2i.runs.dit_studies import joint_weights
from t2i.runs.relation_studies import draw_scenes
from t2i.runs.scene_recipes import GUIDANCE_SCALE
from t2i.schedules import add_noise
from t2i.show import VERMILLION, Picture, panels, show_images, to_array
from t2i.world.caption_reading import FILLERS, MAX_LENGTH, CaptionError, encode, words_of

NO_WEIGHTS = (
    "The trained weights of this network cannot be used; `python -m t2i.runs.dit_runs` makes them. "
    "What needs a trained network is left out below."
)
LEFT_OUT = "Left out: there is no trained network to look at yet."


def painter(network: type[nn.Module]) -> nn.Module | None:
    """The committed weights round a network of one's own class; every name finds its place.

    Args:
        network: JointDiT, or a class that is built like it.

    Returns:
        the JointDenoiser; None, and a printed sentence, where there are no weights.
    """
    try:
        trained, info = load_joint()
    except (OSError, ValueError, RuntimeError) as error:
        print(f"{NO_WEIGHTS} Why: {str(error)[:200]}")
        return None
    model = dit_contest(info["tier"]).build("dit", info["size"], network=network)
    model.load_state_dict(trained.state_dict())
    return model.eval().requires_grad_(False)


def painted(model: nn.Module | None, captions: Sequence[str], steps: int) -> Picture | Markdown:
    """A picture for each caption, three in a row.

    Args:
        model: a trained JointDenoiser; None: there is none.
        captions: what is asked for.
        steps: of the sampler.
    """
    if model is None:
        return Markdown(LEFT_OUT)
    side = model.denoiser.network.picture[1]
    try:
        drawn = draw_scenes(model, captions, steps, side, GUIDANCE_SCALE)
    except CaptionError as error:
        return Markdown(f"Not painted: {error}.")
    return show_images(
        drawn,
        [textwrap.fill(caption, 24) for caption in captions],
        columns=3,
        width=6.5,
        alt="Painted by your transformer: " + "; ".join(captions),
    )


@torch.no_grad()
def looks(model: nn.Module | None, image: Tensor, caption: str, step: int) -> list[Tensor]:
    """Who looks at whom in each joint block, while the model looks at a noisy picture.

    Args:
        model: a trained JointDenoiser; None: there is none.
        image: (3, H, W) a scene.
        caption: what is said about it.
        step: t, how much noise is added to it.

    Returns:
        for each block (N + L, N + L): all patches and the caption's own words, averaged over the
        heads; rows look at columns. Nothing where there is no model.
    """
    if model is None:
        return []
    tokens, mask = encode([caption], MAX_LENGTH)
    t = torch.tensor([step])
    noise = torch.randn(image[None].shape, generator=torch.Generator().manual_seed(1))
    keep = len(model.denoiser.network.positions) + len(words_of(caption))
    tables = []

    def record(_, layer: nn.Module, inputs: tuple) -> None:
        weights = joint_weights(layer, inputs)
        if weights is not None:
            tables.append(weights.mean(1)[0, :keep, :keep])

    with watching(model, record):
        model(add_noise(image[None], noise, t, model.alphas_cumprod), t, tokens, mask)
    return tables


def joint_table(tables: Sequence[Tensor], caption: str) -> Picture | Markdown:
    """Who looks at whom in the middle block: four fields of one table; a word is drawn wider.

    Args:
        tables: from `looks`.
        caption: whose words are the last tokens.
    """
    if not tables:
        return Markdown(LEFT_OUT)
    weights, words = tables[len(tables) // 2], words_of(caption)
    patches = len(weights) - len(words)
    side = round(patches**0.5)
    figure, (axes,) = panels(1, 1, 7.4, 6.0)
    wide = 2.6 * patches / 64
    edges = [*range(patches), *(patches + wide * i for i in range(len(words) + 1))]
    norm = PowerNorm(0.5, vmin=0, vmax=float(weights.max()))  # so that small shares can be seen
    seen = axes.pcolormesh(edges, edges, weights.numpy(), cmap=HEAT, norm=norm)
    label = "share of a look (its square root is drawn)"
    figure.colorbar(seen, ax=axes, label=label, shrink=0.8)
    axes.invert_yaxis()
    for draw in (axes.axhline, axes.axvline):
        draw(patches, color="white", lw=1.5)
    at = [n + 0.5 for n in range(0, patches, side)]
    at += [patches + wide * (i + 0.5) for i in range(len(words))]
    names = [*(f"patch {n}" for n in range(0, patches, side)), *words]
    axes.set_xticks(at, names, rotation=90, fontsize=8)
    axes.set_yticks(at, names, fontsize=8)
    axes.set(xlabel="… looks at", ylabel="who looks …", aspect="equal")
    for name, place in (("patches", patches / 2), ("words", (patches + edges[-1]) / 2)):
        axes.text(place, -1, name, ha="center", va="bottom")
        axes.text(edges[-1] + 1, place, name, rotation=270, va="center")
    axes.grid(False)
    fields = {
        "patches look at patches": weights[:patches, :patches],
        "at words": weights[:patches, patches:],
        "words look at patches": weights[patches:, :patches],
    }
    shares = "; ".join(f"{name}: {part.sum(1).mean():.0%}" for name, part in fields.items())
    return Picture(figure, f"A square table in four fields. Shares of the look: {shares}.", shares)


def word_looks(tables: Sequence[Tensor], image: Tensor, caption: str) -> Picture | Markdown:
    """Two fields of the table laid out beside the picture, in the middle block.

    Words that only make the sentence whole have no map.

    Args:
        tables: from `looks`.
        image: (3, H, W) the scene that was looked at.
        caption: its words.
    """
    if not tables:
        return Markdown(LEFT_OUT)
    weights, words = tables[len(tables) // 2], words_of(caption)
    patches = len(weights) - len(words)
    told = [i for i, word in enumerate(words) if word not in FILLERS] or list(range(len(words)))
    at = [patches + i for i in told]
    rows = {"look at": weights[:patches, at].T, "looked at by": weights[at, :patches]}
    figure, axes = panels(2, len(told) + 1, 8, 3.2)
    half, alt, tops = len(told), [], []
    for start, (name, values) in zip((0, half + 1), rows.items(), strict=True):
        axes[start].imshow(to_array(image), interpolation="nearest")
        axes[start].set_title(f"{name} …", fontsize=9)
        own, top = axes[start + 1 : start + 1 + half], float(values.max())
        for panel, i, shares in zip(own, told, values, strict=True):
            seen, most = _word_map(panel, shares, top)
            panel.set_title(words[i], fontsize=9)
            alt.append(f"{words[i]}: patch {most}")
        tops.append(f"{top:.0%}")
        figure.colorbar(seen, ax=own, shrink=0.9, format="{x:.0%}").ax.tick_params(labelsize=7)
    for panel in axes:
        panel.axis("off")
    return Picture(
        figure,
        f"The picture and two maps for each word. Patches that look at it most: "
        f"{', '.join(alt[:half])}. Patches that it looks at most: {', '.join(alt[half:])}.",
        "upper row: which patches look at the word; lower row: which patches the word looks at; "
        f"rings: most of all. Each row has its own colours: upper row up to {tops[0]}, lower row "
        f"up to {tops[1]} of a look.",
    )


def _word_map(panel: Axes, shares: Tensor, top: float) -> tuple[AxesImage, int]:
    """One word's shares (N,) as a map of the picture, the largest of them ringed."""
    side, most = round(len(shares) ** 0.5), int(shares.argmax())
    seen = panel.imshow(shares.view(side, side).numpy(), cmap=HEAT, vmin=0, vmax=top)
    y, x = divmod(most, side)
    panel.plot(x, y, "o", mfc="none", mec=VERMILLION, ms=8, mew=1.5)
    return seen, most
