"""Drawing for lesson 8: what latents look like, what they cost, what was measured.

Nothing here is needed to build or train a network.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from IPython.display import Markdown
from torch import Tensor

from t2i.files.results import figures_in, how_trained, share_told, table
from t2i.runs.vae_recipes import WEIGHTS
from t2i.runs.vae_studies import FIGURES
from t2i.show import BLUE, VERMILLION, Picture, panels, to_array

RESULTS = ("how many", "PSNR", "worst 5 %", "judge: originals", "judge: came back", "points lost")
SHADES = "cividis"  # dark blue to yellow: the same for colour-blind eyes
MISSING = (
    "The trained weights data/vae_cpu.safetensors cannot be used (make train-vae makes them), "
    "so what follows comes from a network of a few minutes' training."
)


def cost_bars(measured: Mapping[str, Mapping[str, float]]) -> Picture:
    """A panel a quantity, a bar a name; under each panel how many times more the first one is.

    Args:
        measured: what was measured -> name -> value; every panel has the same two names.
    """
    figure, axes = panels(1, len(measured), 8, 2.3)
    words = []
    for panel, (title, values) in zip(axes, measured.items(), strict=True):
        first, second = values.values()
        bars = panel.barh(list(values), list(values.values()), color=[VERMILLION, BLUE])
        panel.bar_label(bars, [_short(first), _short(second)], padding=3)
        panel.invert_yaxis()
        panel.margins(x=0.25)
        panel.set(title=f"{title}: {first / second:.0f} times more")
        panel.grid(axis="y", visible=False)
        panel.xaxis.set_ticklabels([])
        words.append(f"{title}: {first / second:.1f} to 1")
    for panel in axes[1:]:
        panel.set_yticklabels([])
    return Picture(figure, "Bars of what one denoising step costs. " + "; ".join(words))


def _short(value: float) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}" if value >= 1 else f"{1000 * value:.3g} ms"


def channel_strip(images: Tensor, latents: Tensor, back: Tensor) -> Picture:
    """A row a picture: the picture, each channel of its latent in shades, what comes back.

    Args:
        images, back: (B, 3, H, W) in [-1, 1].
        latents: (B, c, h, w); the shades run over the same values everywhere.
    """
    rows, channels = latents.shape[:2]
    most = latents.abs().max().item()
    figure, axes = panels(rows, channels + 2, 1.15 * (channels + 2), 1.15 * rows + 0.3)
    for row in range(rows):
        line = axes[row * (channels + 2) : (row + 1) * (channels + 2)]
        line[0].imshow(to_array(images[row]), interpolation="nearest")
        line[-1].imshow(to_array(back[row]), interpolation="nearest")
        for panel, values in zip(line[1:-1], latents[row], strict=True):
            panel.imshow(values.cpu().numpy(), cmap=SHADES, vmin=-most, vmax=most)
    titles = ["picture", *(f"channel {i}" for i in range(channels)), "came back"]
    for panel, title in zip(axes, titles, strict=False):
        panel.set_title(title, fontsize=9)
    for panel in axes:
        panel.axis("off")
    alt = f"{rows} scenes, the {channels} channels of their latents, and what comes back of each."
    return Picture(figure, alt)


def in_colour(latents: Tensor) -> Tensor:
    """Latents (B, c, h, w) as false colours (B, 3, h, w) in [-1, 1]: their three main directions.

    The colours mean nothing; each of red, green and blue is a mixture of all channels.
    """
    flat = latents.movedim(1, -1).flatten(0, 2)
    flat = flat - flat.mean(dim=0)
    main = torch.linalg.svd(flat, full_matrices=False)[2][:3]  # (3, c)
    seen = (flat @ main.T) / (flat @ main.T).std(dim=0) / 2
    return seen.unflatten(0, (len(latents), *latents.shape[2:])).movedim(-1, 1).clamp(-1, 1)


def results_table(path: Path = WEIGHTS) -> Markdown:
    """What the repository's command measured of the CPU recipe, as a table.

    Args:
        path: the weights; the figures are in the .json beside them.
    """
    from t2i.runs.vae_runs import summary  # it stands on much that only this table needs

    measured = figures_in(path.with_suffix(".json"))
    if "scenes" not in measured:
        return Markdown("Not measured yet: `make measure-vae` does it.")
    head = ("CPU tier, 32 × 32 pixels, latents of 8 × 8", *RESULTS)
    return table(head, summary(measured), how_trained(measured, "scenes"), right=True)


def study_table(kind: str, path: Path = FIGURES) -> Markdown:
    """The short trainings that differ in one thing.

    Args:
        kind: "f" (the compression; two whole trainings, where measured, stand below the short
            ones) or "kl_weight".
        path: the figures of t2i.runs.vae_studies.
    """
    figures = figures_in(path)
    if "compare" not in figures:
        return Markdown("Not measured yet: `make study-vae` does it.")
    study, long = figures["compare"], figures.get("whole", {"runs": {}})
    runs = {name: run for name, run in study["runs"].items() if name.startswith(kind)}
    usual = study["runs"]["f = 4"]
    note = f"{study['steps']} steps each"
    note += (
        f"{'' if kind == 'kl_weight' else ' where nothing else is told'}; on {usual['n']} scenes."
    )
    if kind == "kl_weight":
        runs[f"kl_weight = {usual['kl_weight']:g}"] = usual
        runs = dict(sorted(runs.items(), key=lambda run: run[1]["kl_weight"]))
    else:
        runs |= {f"{name}, {long['steps']} steps": run for name, run in long["runs"].items()}
        note += f" Of the originals the judge recognises {share_told(usual['originals'])}."
    head = ("", "latent values", "nats a picture", "idle", "PSNR", "judge: came back")
    rows = [
        (
            name,
            f"{run['latent_numbers']}",
            f"{run['nats']:.0f}",
            f"{run['idle']:.0%}",
            f"{run['psnr']:.1f} ± {run['psnr_within']:.1f} dB",
            share_told(run["reconstructions"]),
        )
        for name, run in runs.items()
    ]
    if (
        kind == "kl_weight"
    ):  # all have as many values, and the judge can read next to nothing of any
        head, rows = (head[0], *head[2:-1]), [(row[0], *row[2:-1]) for row in rows]
    return table(head, rows, note, right=True)


def scaling_table(path: Path = FIGURES) -> Markdown:
    """Lesson 6's network on latents of several scales."""
    study = figures_in(path).get("diffuse")
    if study is None:
        return Markdown("Not measured yet: `make study-latents` does it.")
    head = ("standard deviation of the latents", "how many", "satisfied", "nothing recognised")
    rows = []
    for run in study["runs"].values():
        told = share_told(run["satisfied"])
        rows.append((f"{run['spread']:g}", f"{run['n']}", told, f"{run['nothing_seen']:.1%}"))
    return table(head, rows, right=True)
