"""Drawing for lesson 9: UNet against DiT, from what `python -m t2i.runs.dit_runs` measured so far.

What is not measured yet, or says nothing yet, is told in a sentence.
"""

import time
from collections.abc import Mapping
from pathlib import Path

from IPython.display import Markdown

from t2i.files.results import figures_in, share_gap, table
from t2i.runs.dit_recipes import KINDS, SIZES, WEIGHTS, Contest, flops_of_step
from t2i.runs.scene_recipes import scene_loss
from t2i.show import BLACK, BLUE, VERMILLION, Picture, panels, plain_marks

KIND = {"unet": ("UNet", VERMILLION, "--"), "dit": ("DiT", BLUE, "-")}
MARKERS = dict(zip(SIZES, "os^", strict=True))
NOT_YET = "Not measured yet: `python -m t2i.runs.dit_runs` does it (about an hour on one core)."
ENOUGH = 30  # pictures with both colours, before their places can tell anything


def measured(path: Path = WEIGHTS) -> Mapping[str, dict]:
    """What `python -m t2i.runs.dit_runs` has found so far: "kind/size" to figures."""
    return figures_in(path.with_suffix(".json")).get("cells", {})


def full_name(cell: str) -> str:
    """ "dit/small" as a reader says it."""
    kind, size = cell.split("/")
    return f"{KIND[kind][0]}, {size}"


def step_table(contest: Contest, size: str = SIZES[0]) -> Markdown:
    """What one training step of each network costs, counted and timed on this machine, now."""
    head = (
        "network",
        "weights",
        f"operations a step ({contest.batch_size} scenes)",
        "a weight works at … places",
        "seconds a step",
    )
    rows = []
    for kind in KINDS:
        model, batch = contest.build(kind, size), next(contest.batches())
        weights, flops = sum(p.numel() for p in model.parameters()), flops_of_step(model, batch)
        seconds = []
        for _ in range(3):
            begun = time.perf_counter()
            scene_loss(model, batch).backward()
            seconds.append(time.perf_counter() - begun)
        places = flops / (6 * weights * len(batch[0]))  # forward once, backward twice, · and +
        rows.append((
            full_name(f"{kind}/{size}"), f"{weights / 1e6:.2f} million", f"{flops:.1e}",
            f"{places:.0f}", f"{min(seconds):.2f}",
        ))  # fmt: skip
    return table(head, rows, right=True)


def contest_table(cells: Mapping[str, dict] | None = None) -> Markdown:
    """Sizes and losses of the networks trained so far, and who was ahead."""
    cells = measured() if cells is None else cells
    if not cells:
        return Markdown(NOT_YET)
    head = ("network", "weights", "operations", "steps", "scenes seen", "seconds")
    head, rows = (*head, "loss at the end"), []
    for name, cell in cells.items():
        compute, loss = cell["curve"][-1]
        rows.append((
            full_name(name), f"{cell['parameters'] / 1e6:.2f} million", f"{compute:.1e}",
            f"{cell['steps']:,}", f"{cell['images_seen']:,}", f"{cell['seconds']:,.0f}",
            f"{loss:.4f}",
        ))  # fmt: skip
    said = []
    pairs = {s: [cells[f"{kind}/{s}"]["curve"][-1][1] for kind in KINDS] for s in _complete(cells)}
    for size, (unet, dit) in pairs.items():
        first, second = ("DiT", "UNet") if dit < unet else ("UNet", "DiT")
        low, high = sorted((unet, dit))
        said.append(f"{size}, the {first} is ahead: {low:.4f} against the {second}'s {high:.4f}")
    missing = [f"{k}/{s}" for s in SIZES for k in KINDS if f"{k}/{s}" not in cells]
    words = f"At the end of the training: {'; '.join(said)}." if said else ""
    if missing:
        words += f" Not trained yet: {'; '.join(map(full_name, missing))}."
    return table(head, rows, words, right=True)


def loss_chart(cells: Mapping[str, dict]) -> Picture | Markdown:
    """Loss on unseen scenes against compute, a line for each network."""
    if not cells:
        return Markdown(NOT_YET)
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
    plain_marks(axes)
    axes.legend(fontsize=8)
    return Picture(figure, "Falling lines. " + "; ".join(words) + ".")


def distance_chart(cells: Mapping[str, dict]) -> Picture | Markdown:
    """How far patches look in each layer, for the largest size that both networks have."""
    if not _complete(cells):
        return Markdown(NOT_YET)
    size = _complete(cells)[-1]
    figure, axes = panels(1, 2, 8, 3.4)
    words, heads = [], []
    for panel, kind in zip(axes, KINDS, strict=True):
        label, colour, _ = KIND[kind]
        layers = cells[f"{kind}/{size}"]["layers"]
        at = range(len(layers))
        panel.bar(at, [row["distance"] for row in layers], color=colour, alpha=0.35, width=0.7)
        for i, row in zip(at, layers, strict=True):
            count = len(row["heads"])  # dots beside each other, so that none hides another
            beside = [i + 0.1 * (head - (count - 1) / 2) for head in range(count)]
            panel.plot(beside, sorted(row["heads"]), "o", color=colour, ms=4)
            panel.plot([i - 0.4, i + 0.4], [row["even"]] * 2, color=BLACK, lw=1.2, ls=":")
            heads += [(head / row["even"], label) for head in row["heads"]]
        panel.set_xticks(at, [short_name(row["layer"]) for row in layers], fontsize=8)
        panel.set(title=f"{label}, {size}", ylim=(0, 22))
        told = ", ".join(f"{row['distance']:.1f}" for row in layers)
        words.append(f"{label}: {told} pixels from the first layer to the last")
    axes[0].set_ylabel("mean distance, pixels")
    (near, who), (far, other) = min(heads), max(heads)
    caption = (
        f"dots: heads; dotted: all patches looked at alike. The nearest head (of the {who}) looks "
        f"{near:.0%} as far as the dotted line, the farthest (of the {other}) {far:.0%}."
    )
    return Picture(figure, ". ".join(words) + ".", caption)


def short_name(layer: str) -> str:
    """A layer's place in its network, in a word or two."""
    parts = layer.split(".")
    for stage in ("down", "mid", "up"):
        if stage in parts:
            number = parts[parts.index("attentions") + 1]
            return "middle" if stage == "mid" else f"{stage}\n{number}"
    return f"block\n{parts[-1] if parts[-1].isdigit() else parts[-2]}"


def relation_table(cells: Mapping[str, dict] | None = None, every: bool = False) -> Markdown:
    """How often two things stand as the caption wants, with 95 % intervals, and what that tells.

    Args:
        cells: from `measured`.
        every: all networks; else only the largest size that both kinds have.
    """
    cells = measured() if cells is None else cells
    if not cells:
        return Markdown(NOT_YET)
    if not every and _complete(cells):
        size = _complete(cells)[-1]
        cells = {f"{kind}/{size}": cells[f"{kind}/{size}"] for kind in KINDS}
    head = ("network", "captions", "n", "both colours", "and right", "right, if both", "chance")
    head, rows = (*head, "all satisfied"), []
    for name, cell in cells.items():
        for key, captions in (("relations", "seen"), ("unseen_relations", "unseen relations")):
            rows.append((full_name(name), captions, *_relation_cells(cell[key])))
    real = next(iter(cells.values()))["relations"]["rendered"]
    rows.append(("real scenes", "seen", *_relation_cells(real)))
    both = {full_name(name): _with_both(cell["relations"]) for name, cell in cells.items()}
    few = [f"{name} ({count})" for name, count in both.items() if count < ENOUGH]
    words = ""
    if len(few) == len(both):
        most = max(both.values())
        words = f"No network drew more than {most} pictures with both colours. "
        words = words if most else "No network drew a picture with both colours. "
        words += "**At this budget nothing can be said about relations**, of UNet or DiT."
    elif few:
        words = f"Too few pictures with both colours to say anything: {', '.join(few)}."
    return table(head, rows, f"{words} {_readers(cells)} {_gap(cells)}".strip())


def _complete(cells: Mapping[str, dict]) -> list[str]:
    """The sizes in which both networks were trained, the smallest first."""
    return [size for size in SIZES if all(f"{kind}/{size}" in cells for kind in KINDS)]


def _readers(cells: Mapping[str, dict]) -> str:
    """Who places things by the caption for certain: all of its interval lies above chance."""
    sure = []
    for name, cell in cells.items():
        found = cell["relations"]
        enough = _with_both(found) >= ENOUGH
        if enough and found["placed_of_both"]["low"] > found["any_relation"]:
            sure.append(full_name(name))
    who = f"for certain: {'; '.join(sure)}" if sure else "for certain: by none"
    return f"*Right, if both* is above chance {who}."


def _gap(cells: Mapping[str, dict]) -> str:
    """Of the largest pair: how much more often the DiT's two things stand right, and how sure."""
    if not _complete(cells):
        return ""
    size = _complete(cells)[-1]
    counts = []
    for kind in ("dit", "unet"):
        found = [cells[f"{kind}/{size}"][key] for key in ("relations", "unseen_relations")]
        right = sum(round(part["placed"]["share"] * part["n"]) for part in found)
        counts += [right, sum(map(_with_both, found))]
    right, both, other_right, other_both = counts
    if min(both, other_both) < ENOUGH:
        return ""
    low, high = share_gap(*counts)
    return (
        f"Seen and unseen together: {right} of the {size} DiT's {both} pictures with both colours "
        f"are right, and {other_right} of the UNet's {other_both}. The difference is "
        f"{100 * (right / both - other_right / other_both):.0f} points "
        f"({100 * low:.0f} to {100 * high:.0f})."
    )


def _with_both(found: dict) -> int:
    return round(found["both"]["share"] * found["n"])


def _relation_cells(found: dict) -> tuple[str, ...]:
    def share(name: str) -> str:
        part = found[name]
        return f"{part['share']:.0%} ({part['low']:.0%} to {part['high']:.0%})"

    right, chance = "– (no picture had both)", "–"
    if _with_both(found):
        right, chance = share("placed_of_both"), f"{found['any_relation']:.0%}"
    return (str(found["n"]), share("both"), share("placed"), right, chance, share("satisfied"))
