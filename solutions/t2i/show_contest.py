"""Drawing for lesson 9: UNet against DiT, from what `python -m t2i.dit_runs` measured."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from IPython.display import Markdown

from t2i.dit_recipes import SIZES, WEIGHTS
from t2i.show import BLACK, BLUE, VERMILLION, Picture, panels

KIND = {"unet": ("UNet", VERMILLION, "--"), "dit": ("DiT", BLUE, "-")}
MARKERS = dict(zip(SIZES, "os^", strict=True))
NOT_YET = "Not measured yet: `python -m t2i.dit_runs` does it (about an hour on one core)."


def measured(path: Path = WEIGHTS) -> Mapping[str, dict]:
    """What `python -m t2i.dit_runs` has found so far: "kind/size" to figures."""
    path = path.with_suffix(".json")
    return json.loads(path.read_text(encoding="utf-8"))["cells"] if path.exists() else {}


def loss_chart(cells: Mapping[str, dict]) -> Picture:
    """Loss on unseen scenes against compute, a line for each network."""
    figure, (axes,) = panels(1, 1, 8, 3.8)
    words = []
    for name, cell in cells.items():
        kind, size = name.split("/")
        label, colour, dashes = KIND[kind]
        compute, loss = zip(*cell["curve"], strict=True)
        label = f"{label}, {cell['parameters'] / 1e6:.2g} million weights"
        axes.plot(compute, loss, color=colour, ls=dashes, marker=MARKERS[size], ms=5, label=label)
        words.append(f"{label}: {loss[-1]:.4f} after {compute[-1]:.1e}")
    axes.set(xscale="log", yscale="log", xlabel="floating-point operations of the training")
    axes.set_ylabel("loss on unseen scenes")
    if cells:
        axes.legend(fontsize=8)
    return Picture(figure, "Falling lines. " + "; ".join(words) + ".")


def distance_chart(cells: Mapping[str, dict], size: str = SIZES[-1]) -> Picture:
    """How far patches look in each layer, UNet beside DiT; a dot is a head."""
    found = [kind for kind in KIND if f"{kind}/{size}" in cells]
    figure, axes = panels(1, max(1, len(found)), 8, 3.4)
    words = []
    for panel, kind in zip(axes, found, strict=False):
        label, colour, _ = KIND[kind]
        layers = cells[f"{kind}/{size}"]["layers"]
        at = range(len(layers))
        panel.bar(at, [row["distance"] for row in layers], color=colour, alpha=0.35, width=0.7)
        for i, row in zip(at, layers, strict=True):
            panel.plot([i] * len(row["heads"]), row["heads"], "o", color=colour, ms=4)
            panel.plot([i - 0.4, i + 0.4], [row["even"]] * 2, color=BLACK, lw=1.2, ls=":")
        panel.set_xticks(at, [short_name(row["layer"]) for row in layers], fontsize=8)
        panel.set(
            title=label, ylim=(0, 22), ylabel="mean distance, pixels" if kind == found[0] else ""
        )
        told = ", ".join(f"{row['distance']:.1f}" for row in layers)
        words.append(f"{label}: {told} pixels from the first layer to the last")
    return Picture(
        figure, ". ".join(words) + ".", "dotted: looking at all patches alike; dots: heads"
    )


def short_name(layer: str) -> str:
    """A layer's place in its network, in a word or two."""
    parts = layer.split(".")
    for stage in ("down", "mid", "up"):
        if stage in parts:
            number = parts[parts.index("attentions") + 1]
            return "middle" if stage == "mid" else f"{stage}\n{number}"
    return f"block\n{parts[-1] if parts[-1].isdigit() else parts[-2]}"


def contest_table(cells: Mapping[str, dict]) -> Markdown:
    """Sizes and losses of all networks, as a table."""
    if not cells:
        return Markdown(NOT_YET)
    rows = [("network", "weights", "operations", "scenes seen", "loss at the end")]
    rows.append(("---", "--:", "--:", "--:", "--:"))
    for name, cell in cells.items():
        kind, size = name.split("/")
        compute, loss = cell["curve"][-1]
        rows.append((
            f"{KIND[kind][0]}, {size}", f"{cell['parameters'] / 1e6:.2f} million",
            f"{compute:.1e}", f"{cell['images_seen']:,}", f"{loss:.4f}",
        ))  # fmt: skip
    return _table(rows)


def relation_table(cells: Mapping[str, dict]) -> Markdown:
    """How often two things stand as the caption wants, as a table with 95 % intervals."""
    if not cells:
        return Markdown(NOT_YET)
    rows = [("network", "captions", "n", "both colours", "and right", "right, if both", "chance",
             "all satisfied")]  # fmt: skip
    rows.append(("---",) * 8)
    for name, cell in cells.items():
        kind, size = name.split("/")
        for key, captions in (("relations", "seen"), ("unseen_relations", "unseen relations")):
            rows.append((f"{KIND[kind][0]}, {size}", captions, *_relation_cells(cell[key])))
    real = next(iter(cells.values()))["relations"]["rendered"]
    rows.append(("real scenes", "seen", *_relation_cells(real)))
    return _table(rows)


def _relation_cells(found: dict) -> tuple[str, ...]:
    def share(name: str) -> str:
        part = found[name]
        return f"{part['share']:.0%} ({part['low']:.0%} to {part['high']:.0%})"

    names = ("both", "placed", "placed_of_both")
    chance = f"{found['any_relation']:.0%}"
    return (str(found["n"]), *map(share, names), chance, share("satisfied"))


def _table(rows: Sequence[Sequence[str]]) -> Markdown:
    return Markdown("\n".join(f"| {' | '.join(row)} |" for row in rows))
