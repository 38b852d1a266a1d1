"""A picture for lesson 10's sums: where the hours go."""

from collections.abc import Mapping

from t2i.show import BLACK, BLUE, ORANGE, Picture, panels

DAY, YEAR = 24, 24 * 365.25
COLOURS = (BLUE, ORANGE)


def hours_chart(hours: Mapping[str, Mapping[str, float]]) -> Picture:
    """Hours of each piece of work as bars; each line to the right means ten times as many.

    Args:
        hours: what does the work (two at most) -> piece of work -> hours.
    """
    works = list(dict.fromkeys(work for each in hours.values() for work in each))
    figure, (axes,) = panels(1, 1, 8, 0.9 + 0.62 * len(works))
    thick, told = 0.8 / len(hours), []
    for row, (who, each) in enumerate(hours.items()):
        for work, amount in each.items():
            y = works.index(work) + (row - (len(hours) - 1) / 2) * thick
            label = who if work == next(iter(each)) else None
            axes.barh(y, amount, 0.92 * thick, color=COLOURS[row], label=label)
            words = axes.text(1.15 * amount, y, span_in_words(amount), va="center", fontsize=8.5)
            words.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})  # over a line
        told.append(f"{who}: " + ", ".join(f"{w} {span_in_words(a)}" for w, a in each.items()))
    least, most = (f(a for each in hours.values() for a in each.values()) for f in (min, max))
    axes.set(xscale="log", xlim=(min(0.5, least / 3), 30 * most), xlabel="hours of one device")
    axes.set_yticks(range(len(works)), works)
    axes.invert_yaxis()
    for amount, name in ((DAY, "a day"), (YEAR, "a year")):
        axes.axvline(amount, color=BLACK, lw=0.8, ls=":")
        axes.text(amount, -0.62, name, ha="center", va="bottom", fontsize=8.5)
    axes.legend(loc="center right", fontsize=8.5)
    alt = "Bars of hours, each line ten times the one before. " + "; ".join(told).replace("\n", " ")
    return Picture(figure, alt)


def span_in_words(hours: float) -> str:
    """Hours, days or years, whichever is easiest to imagine."""
    if hours < 2 * DAY:
        return f"{hours:.3g} hours"
    return f"{hours / DAY:.3g} days" if hours < YEAR else f"{hours / YEAR:,.3g} years"
