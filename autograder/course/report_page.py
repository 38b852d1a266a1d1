"""A lesson's report as one HTML page: it needs no other file and no network."""

import base64
import statistics

from jinja2 import Environment

from autograder.course.report import KINDS, Report
from t2i.show import BLUE, GREY, ORANGE, SKY, VERMILLION, Picture, panels

COLOURS = dict(zip(KINDS, (BLUE, VERMILLION, ORANGE, SKY, "#D9D9D9", GREY), strict=True))
WORDS = {
    "right": "right",
    "wrong, known": "wrong, as in the catalogue",
    "wrong, other": "wrong, otherwise",
    "waits": "waits for another exercise",
    "not written": "not written",
    "not graded": "could not be graded",
}
SHOWN = 12  # students named for a cause; the rest is in the table of values
_PAGE = Environment(autoescape=True).from_string("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Lesson {{ lesson.number }}: how the class did</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222 }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem;
  border-bottom: 1px solid #ddd }
th.number, td.number { text-align: right }
figure { margin: 1rem 0 } img { max-width: 100% } figcaption, .small { color: #555 }
.small { font-size: .85rem } code { font-size: .9rem }
</style>
</head>
<body>
<h1>Lesson {{ lesson.number }} · {{ lesson.title }}</h1>
<p>{{ report.summary() }}</p>

<h2>Which exercises fail</h2>
<figure><img src="data:image/png;base64,{{ exercises.png }}" alt="{{ exercises.alt }}"
 width="{{ exercises.width }}"></figure>
<table>
<tr><th>exercise</th><th class="number">points</th>
{% for kind in kinds %}<th class="number">{{ words[kind] }}</th>{% endfor %}</tr>
{% for exercise in lesson.exercises %}{% set counts = report.counts(exercise) %}
<tr><td><code>{{ exercise.name }}</code></td><td class="number">{{ exercise.points }}</td>
{% for kind in kinds %}<td class="number">{{ counts[kind] }}</td>{% endfor %}</tr>
{% endfor %}
</table>

<h2>Why they fail</h2>
{% if causes %}
<p>What the hidden tests said, the most frequent first. Where the sentence is that of a wrong answer
in the catalogue, its name stands with it. That is a likeness: another mistake may have earned the
same sentence.</p>
<table>
<tr><th class="number">students</th><th>exercise</th><th>wrong answer</th>
<th>what they read</th></tr>
{% for cause in causes %}
<tr><td class="number">{{ cause.students|length }}</td><td><code>{{ cause.exercise }}</code></td>
<td>{{ cause.name or "not in the catalogue" }}</td>
<td>{{ cause.message }}<div class="small">{{ cause.students[:shown]|join(", ")
}}{% if cause.students|length > shown %} and {{ cause.students|length - shown }} more{% endif %}
</div></td></tr>
{% endfor %}
</table>
{% else %}<p>No exercise that was written is wrong.</p>{% endif %}

<h2>Points</h2>
<figure><img src="data:image/png;base64,{{ points.png }}" alt="{{ points.alt }}"
 width="{{ points.width }}"><figcaption>{{ points.alt }}</figcaption></figure>

<h2>To look at</h2>
{% if report.flagged %}
<table>
<tr><th>student</th><th>why</th></tr>
{% for student, reason in report.flagged.items() %}
<tr><td>{{ student }}</td><td>{{ reason }}</td></tr>
{% endfor %}
</table>
{% else %}<p>Nobody.</p>{% endif %}
</body>
</html>
""")


def page(report: Report) -> str:
    """The page's text; whatever a student may have written is escaped in it."""
    kinds = [kind for kind in KINDS if any(report.counts(e)[kind] for e in report.lesson.exercises)]
    return _PAGE.render(
        report=report,
        lesson=report.lesson,
        causes=report.causes(),
        kinds=kinds,
        words=WORDS,
        shown=SHOWN,
        exercises=_embedded(_exercises(report, kinds)),
        points=_embedded(_points(report)),
    )


def _exercises(report: Report, kinds: list[str]) -> Picture:
    """For each exercise a bar of the class, in the order of the lesson."""
    exercises = report.lesson.exercises
    figure, (axes,) = panels(1, 1, width=9.0, height=1.3 + 0.38 * len(exercises))
    names = [exercise.name for exercise in exercises]
    left = [0] * len(exercises)
    for kind in kinds:
        counts = [report.counts(exercise)[kind] for exercise in exercises]
        bars = axes.barh(names, counts, left=left, color=COLOURS[kind], label=WORDS[kind])
        ink = "white" if kind in ("right", "wrong, known", "not graded") else "black"
        axes.bar_label(bars, [count or "" for count in counts], label_type="center", color=ink)
        left = [start + count for start, count in zip(left, counts, strict=True)]
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("students")
    axes.set_xlim(0, max([*left, 1]))
    axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    wrong = {e.name: sum(n for k, n in report.counts(e).items() if k.startswith("wrong"))
             for e in exercises}  # fmt: skip
    worst = max(wrong, key=wrong.get)
    alt = f"Bars of how many students got each exercise right. Most often wrong: {worst}."
    return Picture(figure, alt if wrong[worst] else "Bars: no exercise is wrong.")


def _points(report: Report) -> Picture:
    points = list(report.points.values())
    figure, (axes,) = panels(1, 1, width=6.5, height=2.4)
    axes.hist(points, bins=range(0, 111, 10), color=BLUE, edgecolor="white")
    axes.set(xlabel="points", ylabel="students", xlim=(0, 111), xticks=range(0, 101, 10))
    axes.yaxis.get_major_locator().set_params(integer=True)
    middle, mean = statistics.median(points), statistics.mean(points)
    alt = (
        f"How many students have how many points: from {min(points):g} to {max(points):g}, "
        f"median {middle:g}, mean {mean:.1f}. A bar holds ten points, the last one 100."
    )
    return Picture(figure, alt)


def _embedded(picture: Picture) -> dict:
    return {
        "png": base64.b64encode(picture.png()).decode(),
        "alt": picture.alt,
        "width": round(picture.figure.get_size_inches()[0] * 100),
    }
