"""Draw the figures of lesson 10: python lessons/10_text_to_image/make_figures.py [name ...]

Three of them explain and need nothing. The losses, the gallery and the film are of the trained
model (which comes with the course); where that is missing, one sentence says so. `emoji` needs the
emoji's pictures as well, in T2I_DATA/noto-emoji.
"""

import os
import textwrap
from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor

from t2i import show
from t2i.apps.edit import redraw
from t2i.drawing import show_measured, show_roads, show_text_to_image, show_tiers
from t2i.drawing.figure_files import draw_figures
from t2i.drawing.prompt_film import PromptFilm
from t2i.drawing.show_attention import film_file
from t2i.drawing.show_blocks import arrow
from t2i.files.picture_files import to_tensor
from t2i.files.picture_folder import read_folder
from t2i.files.places import DATA
from t2i.flow import flow_point
from t2i.judging.scene_judge import look, shows
from t2i.latents import LatentSpace
from t2i.mixture import FlowMixture
from t2i.runs.heldout_names import split_names
from t2i.runs.text_to_image_eval import draw
from t2i.runs.text_to_image_recipes import EMOJI, load_text_to_image, text_to_image_recipe
from t2i.text_to_image import TextToImage, to_pil
from t2i.world.asked_scenes import asked_for, hardest

FIGURES = Path(__file__).parent / "figures"
PROMPT = "a red seven above a blue star"
CENTRES, CLOUD = show_roads.CENTRES, show_roads.CLOUD


def system() -> show.Picture:
    """The whole with the shapes of the course's own model; no weights are needed for that."""
    plan = text_to_image_recipe("gpu")
    text, space = plan.clip.build().text, LatentSpace(plan.vae.build(), 1.0)
    pipe = TextToImage(plan.clip.tokenizer, text, plan.build(), space, plan.vae.size)
    return show_text_to_image.system(pipe, PROMPT)


# --- roads


def mixed(axes: Axes, title: str, ways: Tensor) -> None:
    """Ways (steps, 4, 2) from picture to noise, with dots at equal times."""
    for way in ways.unbind(1):
        axes.plot(*way.T, color=show.BLUE, lw=1.4)
        axes.plot(*way[::10].T, "o", color=show.BLUE, ms=3.2)
        axes.plot(*way[0], "s", color=show.ORANGE, ms=8)
        axes.plot(*way[-1], "X", color=show.GREY, ms=8)
    axes.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xticks=[], yticks=[], aspect="equal", title=title)


def roads() -> show.Picture:
    """Arcs, straight lines, and where the lines cross."""
    figure, (arcs, lines, crossing) = show.panels(1, 3, 8, 2.95)
    x_0 = torch.tensor([[-1.6, 1.5], [0.2, 1.0], [-1.9, -0.4], [-0.3, -0.5]])
    noise = torch.tensor([[1.8, 1.2], [2.0, -1.3], [-0.3, -2.0], [1.5, 0.3]])
    t = torch.linspace(0, 1, 61)
    angle = t[:, None, None] * torch.pi / 2
    mixed(arcs, "until now: arcs", angle.cos() * x_0 + angle.sin() * noise)
    straight = [flow_point(x_0, noise, torch.full((4,), each)) for each in t.tolist()]
    mixed(lines, "here: straight lines", torch.stack(straight))
    arcs.plot([], [], "s", color=show.ORANGE, label="picture")
    arcs.plot([], [], "X", color=show.GREY, label="noise")
    arcs.legend(loc="lower right", fontsize=8)
    generator = torch.Generator().manual_seed(4)
    show_roads.draw_world(crossing, "through one point: many", 2.2)
    place, time = torch.tensor([[0.7, 0.75]]), 0.7
    which = torch.arange(18) % 3
    starts = CENTRES[which] + CLOUD * torch.randn(18, 2, generator=generator)
    ends = (place - (1 - time) * starts) / time  # so that all lines meet there at that time
    crossing.plot(*torch.stack([starts, ends]).permute(2, 0, 1), color=show.SKY, lw=1)
    crossing.plot(*ends.T, "X", color=show.GREY, ms=4)
    mean = FlowMixture(CENTRES, CLOUD)(place, torch.tensor([time]))[0]
    goal = place[0] - time * mean
    arrow(crossing, tuple(place[0].tolist()), tuple(goal.tolist()), show.VERMILLION, 3)
    crossing.plot(*place[0], "o", color=show.VERMILLION, ms=6)
    told = "the arrow: minus the mean direction,\nthe way that we walk"
    crossing.text(0, -1.75, told, fontsize=7.5, color=show.VERMILLION, ha="center", va="center")
    return show.Picture(figure, "")


def slider() -> show.Picture:
    """Four moments of the crowd."""
    figure, axes = show.panels(1, 4, 8, 2.3)
    generator = torch.Generator().manual_seed(0)
    starts = CENTRES[torch.arange(600) % 3] + CLOUD * torch.randn(600, 2, generator=generator)
    ends = torch.randn(600, 2, generator=generator)
    for panel, t in zip(axes, (0.0, 0.33, 0.67, 1.0), strict=True):
        x_t = flow_point(starts, ends, torch.full((600,), t))
        show_roads.draw_crowd(panel, starts, ends, x_t, t)
    return show.Picture(figure, "")


# --- how the model was trained, and what it paints


def training() -> show.Picture:
    """The three losses of the committed model."""
    return show_measured.training_chart()


def satisfied() -> show.Picture:
    """The committed evaluation, a dot a set of prompts."""
    return show_measured.satisfied_chart()


def gallery() -> show.Picture:
    """Every prompt of the list, seed 0, the first picture that came."""
    prompts = list(show_text_to_image.PROMPTS)
    return show_text_to_image.gallery(load_text_to_image()(prompts), prompts)


def changed() -> show.Picture:
    """One picture, three other prompts, five strengths, other noise than its own: all that came."""
    pipe = load_text_to_image()
    (before,) = pipe(PROMPT, seed=1)
    wishes = ["a green seven above a blue star", "a red three above a blue star"]
    wishes += ["a red seven above a blue circle"]
    columns = {"before": [before] * len(wishes)}
    for strength in (0.2, 0.4, 0.6, 0.8, 1.0):
        columns[f"strength {strength}"] = redraw(pipe, before, wishes, strength, seed=2)
    return show_text_to_image.sweep(columns, wishes)


def heldout(count: int = 32) -> show.Picture:
    """The first prompts of the held-out pairs, none left out, and which the judge calls right."""
    specs = asked_for("many", count)["heldout_pairs"]
    pictures, told = load_text_to_image()(specs.captions()), range(count)
    right = [shows(view, specs.told(row)) for row, view in enumerate(look(to_tensor(pictures)))]
    titles = [f"{'' if right[row] else '✗ '}{specs.caption(row)}" for row in told]
    return show_text_to_image.gallery(pictures, titles, columns=8, width=13)


def failures(count: int = 600) -> show.Picture:
    """Of the first prompts with three things, all that the judge calls wrong."""
    specs, seed = hardest("many", count)
    images = draw(load_text_to_image(), specs.captions(), seed, "failures")
    views = look(images)
    wrong = [row for row, view in enumerate(views) if not shows(view, specs.told(row))]
    titles = [show_text_to_image.read_as(specs.caption(row), views[row]) for row in wrong]
    return show_text_to_image.gallery(to_pil(images[wrong]), titles, columns=5, width=9)


def race() -> show.Picture:
    """How soon the model drew what was asked for."""
    return show_tiers.race_chart()


def emoji(count: int = 8) -> show.Picture:
    """Names that the emoji's model never saw, evenly chosen, and what it draws for them."""
    folder = read_folder(Path(os.environ.get("T2I_DATA", DATA)) / "noto-emoji", 32)
    split, images = split_names(folder.captions), folder.images()
    every = slice(0, None, -(-len(split.held_out) // count))
    own, near = split.held_out[every], split.neighbours[every]
    names = [folder.captions[row] for row in own]
    drawn = show_text_to_image.to_tensor(load_text_to_image(EMOJI)(names))
    rows = {"drawn": drawn, "the emoji": images[own], "a seen name,\none word off": images[near]}
    return show.film_strip(rows, [textwrap.fill(name, 12) for name in names], alt="", width=9.5)


def film() -> bytes:
    """From noise to picture, and where each word is looked at."""
    pipe = load_text_to_image()
    seen = PromptFilm(pipe, PROMPT)
    with seen:
        pipe(PROMPT, on_step=seen)
    return film_file(seen)


if __name__ == "__main__":
    measured = (training, race, satisfied, gallery, changed, heldout, failures, emoji, film)
    draw_figures(FIGURES, system, roads, slider, *measured)
