"""Lesson 4's chart and tables: what the repository's command measured of every sampler."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from IPython.display import Markdown

from t2i.drawing.show_samplers import NAMES, quality_picture
from t2i.files.results import figures_in, table
from t2i.runs.sampler_runs import HEADLINE, HEADLINE_CELLS, HEADLINE_LONG, RESULTS
from t2i.samplers import SPACINGS
from t2i.show import Picture

AIM = 1.1  # at most this many times the Fréchet distance of DDPM's 1,000 steps
COMMAND = "make measure-samplers"
MEASURE_HEADLINE = "make measure-headline"
MISSING = f"Nobody has measured the samplers on this network yet: `{COMMAND}` does."


def results(file: Path = RESULTS) -> dict:
    """What the repository's command measured of every sampler; empty where it never ran."""
    return figures_in(file)


def measured(
    known: Mapping, sampler: str, spacing: str = "trailing", figure: str = "frechet"
) -> dict[int, list[float]]:
    """Steps -> the figure of each seed, as far as it was measured."""
    found: dict[int, list[float]] = {}
    for key, cell in sorted(known.get("cells", {}).items()):
        name, how, steps, _ = key.split("/")
        if (name, how) == (sampler, spacing):
            found.setdefault(int(steps), []).append(cell[figure])
    return dict(sorted(found.items()))


def reference_chart() -> Picture | Markdown:
    """The lesson's chart, from what the repository's command measured."""
    known = results()
    lines = {name: measured(known, name) for name in NAMES}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return Markdown(MISSING)
    seeds = max(len(values) for points in lines.values() for values in points.values())
    floor = mean(known["floor"].values())
    caption = f"Bands: from the lowest to the highest of up to {seeds} seeds." if seeds > 1 else ""
    return quality_picture(lines, floor, known["n"], f"{caption} {known['machine']}.")


def headline() -> Markdown:
    """How few steps of DPM-Solver++(2M), smooth and with fresh noise, compare with DDPM's 1,000."""
    known = results(HEADLINE)
    slow = _of(known, ("ddpm", 1000))
    if not slow:
        return Markdown(f"DDPM's 1,000 steps were not measured yet: `{MEASURE_HEADLINE}` does.")
    rows = [f"| DDPM, 1,000 steps | {_with_range(slow)} | | |"]
    for name, steps in HEADLINE_CELLS:
        values = _of(known, (name, steps))[: len(slow)]  # of the same seeds alone
        if values and (name, steps) != ("ddpm", 1000):
            ratio = mean(values) / mean(slow[: len(values)])
            more = f"{100 * abs(ratio - 1):.0f} % {'more' if ratio > 1 else 'less'}"
            verdict = "**reached**" if ratio <= AIM else "**not reached**"
            rows.append(
                f"| {NAMES[name]}, {steps} steps | {_with_range(values)} | {more} | {verdict} |"
            )
    head = (
        f"| | Fréchet distance | against DDPM | our aim, at most {100 * (AIM - 1):.0f} % more |\n"
    )
    floors = [known["floor"][str(seed)] for seed in range(len(slow))]
    note = (
        f"{known['n']:,} samples for each seed, {len(slow)} seeds, in brackets the lowest and the "
        f"highest. The floor is {mean(floors):.2f}. Compared are the means before they are rounded."
    )
    return Markdown(head + "|---|---|---|---|\n" + "\n".join(rows) + f"\n\n{note}")


def longer() -> Markdown:
    """The headline's samplers with lesson 3's network, and with the one that was trained longer."""
    pair = [results(file) for file in (HEADLINE, HEADLINE_LONG)]
    found = [{each: _of(known, each) for each in HEADLINE_CELLS} for known in pair]
    slow = [cells[HEADLINE_CELLS[0]] for cells in found]
    if not all(slow):
        return Markdown(f"Not measured yet: `{MEASURE_HEADLINE} long=yes` does it.")
    rows = []
    for name, steps in HEADLINE_CELLS:
        cells = []
        for values, ddpm in zip((each[name, steps] for each in found), slow, strict=True):
            cells += [_with_range(values), f"{mean(values) / mean(ddpm):.2f}"]
        told = "DDPM" if steps == 1000 else NAMES[name]
        rows.append((f"{told}, {steps:,} steps", *cells))
    head = ("", "lesson 3's training", "DDPM = 1", "eight times the training", "DDPM = 1")
    seeds = " and ".join(dict.fromkeys(f"{len(each)}" for each in slow))
    note = (
        f"Fréchet distances; {pair[1]['n']:,} samples for each seed, {seeds} seeds, in brackets "
        f"the lowest and the highest. The floor is {mean(pair[0]['floor'].values()):.2f}."
    )
    return table(head, rows, note, right=True)


def _of(known: Mapping, cell: tuple[str, int]) -> list[float]:
    """The Fréchet distance of each seed, for one of the headline's cells."""
    return measured(known, cell[0]).get(cell[1], [])


def _with_range(values: Sequence[float]) -> str:
    """The mean over the seeds, and how far they lie apart."""
    apart = f"{min(values):.2f} to {max(values):.2f}" if len(values) > 1 else "one seed"
    return f"{mean(values):.2f} ({apart})"


def spacing_table(sampler: str = "ddim") -> Markdown:
    """Fréchet distance of each spacing, from what the repository's command measured."""
    known, rows = results(), []
    columns = {how: measured(known, sampler, how) for how in SPACINGS}
    for steps in columns["leading"]:
        if all(steps in points for points in columns.values()):
            cells = [f"{mean(points[steps]):.1f}" for points in columns.values()]
            rows.append(f"| {NAMES[sampler]}, {steps} steps | {' | '.join(cells)} |")
    if not rows:
        return Markdown(MISSING)
    head = f"| Fréchet distance | {' | '.join(SPACINGS)} |\n|---|--:|--:|--:|\n"
    note = f"\n\nMeans of two seeds, {known['n']:,} samples each."
    return Markdown(head + "\n".join(rows) + note)
