"""Lesson 10's figures: what training and evaluation wrote beside the model, drawn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from IPython.display import Markdown
from matplotlib.ticker import PercentFormatter

from t2i.files.results import figures_in, share_told, table
from t2i.runs.scene_runs import set_name
from t2i.runs.text_to_image_recipes import CHECKPOINT, EMOJI
from t2i.show import BLACK, BLUE, SKY, Picture, panels, plain_marks

NO_TRAINING = "No training has been recorded yet: `make train` does it."
NO_EVALUATION = "Not measured yet: `make evaluate` does it."
PARTS = {"vae": "autoencoder", "clip": "CLIP", "transformer": "transformer"}
BESIDE = ("shuffled", "rendered", "vae")  # told without their intervals: the table is wide
COLUMNS = ("satisfied", "colour", "object", "relation", "size and place", "background", *BESIDE)


def read(folder: Path, name: str) -> dict[str, Any]:
    """What lies beside a model as `name`.json, "training" or "evaluation"; {} without it."""
    return figures_in(Path(folder) / f"{name}.json")


def training_chart(folder: Path = CHECKPOINT) -> Picture | Markdown:
    """The losses of the three trainings that made the model, from its log."""
    log = read(folder, "training")
    parts = {name: log[name] for name in PARTS if log.get(name)}
    if not parts:
        return Markdown(NO_TRAINING)
    figure, axes = panels(1, len(parts), 8, 2.7)
    for panel, (name, part) in zip(axes, parts.items(), strict=True):
        steps, losses = zip(*part["losses"], strict=True)
        panel.plot(steps, losses, color=BLUE, lw=1.5)
        title = f"{PARTS[name]}, at last {losses[-1]:.2g}"
        panel.set(title=title, xlabel="step", yscale="log")
        plain_marks(panel)
    axes[0].set_ylabel("loss")
    told = "; ".join(
        f"{PARTS[name]}: {part['parameters'] / 1e6:.2g} million weights, {part['steps']:,} steps, "
        f"{part['images_per_second']:,.0f} pictures a second"
        for name, part in parts.items()
    )
    ends = {
        PARTS[name]: (part["losses"][0][1], part["losses"][-1][1]) for name, part in parts.items()
    }
    ways = ", ".join(
        f"{name} from {first:.2g} to {last:.2g}" for name, (first, last) in ends.items()
    )
    return Picture(figure, f"Three losses against their steps: {ways}. {told}", told)


def captions_heard(folder: Path = CHECKPOINT) -> Markdown:
    """How often the text encoder's CLIP finds out a caption that is wrong by one thing only."""
    log = read(folder, "training").get("clip", {})
    if not {"order_heard", "kind_heard"} <= set(log):
        return Markdown(NO_TRAINING)
    return Markdown(
        "The right caption scored higher than the wrong one in "
        f"**{log['order_heard']:.1%}** of the cases where colours or things had changed places, "
        f"and in **{log['kind_heard']:.1%}** of those where one thing was another. Guessing: 50 %."
    )


def one_pass(count: float, folder: Path = CHECKPOINT) -> Markdown:
    """How long the training of this model would take to see so many pictures, once and five times.

    Args:
        count: pictures.
        folder: the model's.
    """
    log = read(folder, "training").get("transformer", {})
    if not log.get("images_per_second"):
        return Markdown(NO_TRAINING)
    rate = log["images_per_second"]
    hours = count / rate / 3600
    unit, often = ("days", hours / 24) if hours > 48 else ("hours", hours)
    where = f" ({log['machine']})" if isinstance(log.get("machine"), str) else ""
    return Markdown(
        f"And the course's own, small transformer? It learnt from {rate:,.0f} latents a second, of "
        f"pictures of 64 × 64 pixels, when it was made{where}. "
        f"To see {count / 1e6:,.0f} million once would take it **{often:,.1f} {unit}**, five "
        f"times {5 * often:,.0f}."
    )


def results_table(folder: Path = CHECKPOINT) -> Markdown:
    """What the repository's command measured of the model: a line for each set of prompts."""
    measured = read(folder, "evaluation")
    sets = measured.get("sets", {})
    if not sets:
        return Markdown(NO_EVALUATION)
    kept = [name for name in COLUMNS if any(name in found for found in sets.values())]
    rows = []
    for name, found in sets.items():
        cells = [_share(found.get(column), column not in BESIDE) for column in kept]
        rows.append((set_name(name), *cells))
    counts = sorted({found["n"] for found in sets.values() if "n" in found})
    told = f"{' or '.join(f'{n:,}' for n in counts)} prompts a line. {_on_likeness(measured)}"
    return table(("prompts", *kept), rows, told, right=True)


def _on_likeness(measured: Mapping[str, Any]) -> str:
    """Fréchet distance and nearest training scene, each beside what it is to be read by."""
    if "likeness" not in measured:
        return ""
    like = measured["likeness"]
    return (
        f"Fréchet distance to real scenes, in the judge's features: {like['frechet']:.2f} (floor, "
        f"as many real scenes: {like['frechet_floor']:.2f}; n = {like['n']:,}). Median distance to "
        f"the nearest of {like['training_scenes_searched']:,} training scenes: drawn "
        f"{like['nearest']:.1f}, real scenes {like['nearest_real']:.1f}. Drawn on "
        f"{measured['machine']}."
    )


def satisfied_chart(folder: Path = CHECKPOINT) -> Picture | Markdown:
    """Of each set of prompts the share satisfied, with its interval, beside the two ceilings."""
    sets = read(folder, "evaluation").get("sets", {})
    if not sets:
        return Markdown(NO_EVALUATION)
    figure, (axes,) = panels(1, 1, 8, 2.8)
    places, satisfied = range(len(sets)), [found["satisfied"] for found in sets.values()]
    lowest = min(each["low"] for each in satisfied)
    for name, colour in (("rendered", BLACK), ("vae", SKY)):
        ceiling = [found[name]["share"] for found in sets.values()]
        lowest = min(lowest, *ceiling)
        axes.plot(places, ceiling, "_", color=colour, ms=20, mew=2, label=name)
    shares = [each["share"] for each in satisfied]
    below = [each["share"] - each["low"] for each in satisfied]
    above = [each["high"] - each["share"] for each in satisfied]
    axes.errorbar(places, shares, (below, above), fmt="o", color=BLUE, capsize=4, label="satisfied")
    names = [set_name(name) for name in sets]
    axes.set_xticks(places, [name.replace(" ", "\n") for name in names])
    axes.set(ylabel="satisfied", xlim=(-0.5, len(sets) - 0.5), ylim=(lowest - 0.02, 1.003))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="lower left", ncols=3)
    luck = max(found["shuffled"]["share"] for found in sets.values())
    told = "; ".join(f"{name} {share:.1%}" for name, share in zip(names, shares, strict=True))
    note = f"The axis does not begin at 0: shuffled prompts get {luck:.1%} at most."
    return Picture(figure, f"Share of prompts satisfied: {told}. {note}", note)


def _share(found: Mapping[str, float] | None, interval: bool = True) -> str:
    if not found or "share" not in found:
        return "–"
    return share_told(found) if interval and "low" in found else f"{found['share']:.1%}"


def names_table(folder: Path = EMOJI) -> Markdown:
    """What picture_eval found of a model that learned from a folder: seen and held-out names."""
    sets = read(folder, "evaluation").get("sets", {})
    if not sets:
        return Markdown("Not measured yet: `make evaluate data=… model=…` does it.")
    head = ("names", "how many", "its own picture is the nearest", "by chance", "ceiling")
    head += ("it is among the nearest ten", "by chance")
    rows = [
        (
            set_name(name),
            f"{found['n']:,}",
            share_told(found["drawn"]["nearest"]),
            _share(found["shuffled"]["nearest"], False),
            _share(found["vae"]["nearest"], False),
            share_told(found["drawn"]["near"]),
            _share(found["shuffled"]["near"], False),
        )
        for name, found in sets.items()
    ]
    return table(head, rows, _on_held_out(sets.get("held_out", {})), right=True)


def _on_held_out(found: Mapping[str, Any]) -> str:
    """Does it compose or repeat? In a sentence."""
    if not found.get("composed", {}).get("n"):
        return ""
    return (
        f"Held-out pictures that are nearer to what was asked than to the seen neighbour: "
        f"**{share_told(found['composed'])}**; pictures drawn for another name are, by luck, "
        f"{_share(found['composed_shuffled'], False)}."
    )
