"""Drawing for lesson 10: the whole system, the pictures that it paints, what was measured of it.

Nothing here is needed to train or to draw. What is not there yet is told in a sentence.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from IPython.display import Markdown
from PIL import Image
from torch import Tensor

from t2i.drawing.show_blocks import arrow, bent_arrow, box
from t2i.drawing.show_measured import read
from t2i.files.folders import FilesError
from t2i.files.picture_files import to_tensor
from t2i.judging.scene_judge import View, shows
from t2i.latents import LatentSpace
from t2i.runs.text_to_image_recipes import (
    CHECKPOINT,
    TextToImageRecipe,
    load_text_to_image,
    text_to_image_recipe,
)
from t2i.show import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILLION,
    Picture,
    film_strip,
    panels,
    show_images,
)
from t2i.text_to_image import TextToImage, encode_prompt
from t2i.world.scene_news import what_is_new
from t2i.world.scene_specs import Specs

MISSING = (
    "The course's own model data/checkpoints/scenes is not there (`make train tier=gpu "
    "out=data/checkpoints/scenes` makes it), so what follows is painted by an untrained network "
    "and means nothing."
)
UNWRITTEN = (
    "In your copy, the call that draws is yours to write, in section 6. Until then, this is what "
    "the course's own model drew:\n\n![Twelve prompts, each with its picture](figures/gallery.png)"
)
# Chosen before there was a model, so nothing here is picked for its looks.
PROMPTS = (
    "a red seven",
    "a blue star",
    "a pink heart on a white background",
    "here you see a yellow 3",
    "a red seven above a blue star",
    "a green circle left of a purple eight",
    "a purple heart to the right of a green 4",
    "an orange triangle below a cyan cross",
    "a pink 2 over a yellow square on a black background",
    "a cyan five and a red zero",
    "a drawing of a blue triangle under an orange nine",
    "a yellow star left of a pink circle on a brown background",
)


# --- the trained model, and pictures that it made


def ready_model(folder: Path = CHECKPOINT) -> tuple[TextToImage, TextToImageRecipe]:
    """The trained model and its recipe; or, with one sentence, an untrained one that can run."""
    try:
        return load_text_to_image(folder), text_to_image_recipe(read(folder, "training")["tier"])
    except (FilesError, KeyError) as error:
        print(MISSING if not folder.exists() else f"{error} So an untrained network paints.")
    plan = text_to_image_recipe("smoke")
    space = LatentSpace(plan.vae.build(), 1.0)
    text = plan.clip.build().text
    return TextToImage(plan.clip.tokenizer, text, plan.build(), space, plan.vae.size), plan


def gallery(
    pictures: Sequence[Image.Image], titles: Sequence[str], columns: int = 4, width: float = 8.0
) -> Picture:
    """Pictures side by side, their prompts above them in lines that fit."""
    letters = int(12.5 * width / columns)
    told = [textwrap.fill(title, letters) for title in titles]
    alt = f"{len(pictures)} pictures, painted for: {'; '.join(dict.fromkeys(titles))}."
    return show_images(to_tensor(pictures), told, columns=columns, width=width, alt=alt)


def judged(specs: Specs, views: Sequence[View]) -> list[str]:
    """Prompts as titles: is the picture right, what of it is new, and what was read if it is wrong.

    Args:
        specs: what was asked for.
        views: what the judge saw in each picture.
    """
    titles = []
    for row, view in enumerate(views):
        new = " and ".join(what_is_new(specs, row))
        title = specs.caption(row) + f" [new: {new}]" * bool(new)
        right = shows(view, specs.told(row))
        titles.append(f"✓ {title}" if right else f"✗ {read_as(title, view)}")
    return titles


def read_as(title: str, view: View) -> str:
    """A title, and behind it what the judge read."""
    return f"{title} [read: {', '.join(f'{each.colour} {each.kind}' for each in view.things)}]"


def first_look(pipe: TextToImage, prompts: Sequence[str], steps: int) -> Picture | Markdown:
    """What a pipe draws; where its call is not written yet (a class's copy), what another drew."""
    try:
        return gallery(pipe(prompts, steps), prompts, columns=3, width=6)
    except NotImplementedError:
        return Markdown(UNWRITTEN)


def sweep(columns: Mapping[str, Sequence[Image.Image]], prompts: Sequence[str]) -> Picture:
    """A line a prompt, a column for each way to draw it.

    Args:
        columns: title -> a picture of each prompt.
        prompts: what stands at the left.
    """
    seen = [to_tensor(pictures) for pictures in columns.values()]
    rows = {textwrap.fill(told, 17): [each[i] for each in seen] for i, told in enumerate(prompts)}
    alt = f"The prompts {'; '.join(prompts)}, each with {', '.join(columns)}."
    return film_strip(rows, list(columns), alt=alt)


def system(pipe: TextToImage, prompt: str) -> Picture:
    """All parts from prompt to picture, with the shapes that this model really has.

    Args:
        pipe: what is drawn.
        prompt: read, to see what comes out.
    """
    read = encode_prompt(pipe.tokenizer, pipe.text, [prompt])
    seen = {name: _shape(value) for name, value in read._asdict().items()}
    latent = _shape(pipe.noise(1, 0))
    figure, (axes,) = panels(1, 1, 8, 4.7)
    axes.set(xlim=(0, 16), ylim=(9.4, 0))
    axes.axis("off")
    for x, y, width, height, colour, text in (
        (2.1, 1.1, 3.7, 1.9, GREY, f"prompt\n{textwrap.fill(prompt, 20)}"),
        (6.8, 1.1, 3.2, 1.9, VERMILLION, f"tokenizer\n(1, {read.mask.shape[1]}) tokens\nlesson 7"),
        (12.6, 1.1, 5.8, 1.9, VERMILLION, f"text encoder\ncontext {seen['context']}, mask "
            f"{seen['mask']},\npooled {seen['pooled']}\nlesson 7"),
        (2.1, 4.6, 3.2, 1.7, BLUE, f"noise\n{latent}\nlesson 1"),
        (8.6, 4.6, 6.8, 2.2, BLUE, "transformer, with and without the prompt\nlesson 9\n"
            "guidance: one direction of two\nlesson 5"),
        (14.3, 8.0, 3.0, 1.7, BLUE, f"latent picture\n{latent}\nlesson 8"),
        (2.1, 8.0, 3.2, 1.4, ORANGE, "clocks of the time t\nlesson 2"),
        (8.25, 8.0, 6.1, 1.4, GREEN, "Euler's step: x ← x + (t_next − t) · direction\n"
            "N times, lesson 10"),
        (14.3, 4.6, 3.0, 1.7, BLUE, f"decoder\n{pipe.size} × {pipe.size} picture\nlesson 8"),
    ):  # fmt: skip
        box(axes, x, y, text, colour, width, height, 8.5)
    for start, end, colour in (
        ((4.0, 1.1), (5.15, 1.1), BLACK), ((8.45, 1.1), (9.65, 1.1), BLACK),
        ((3.75, 4.6), (5.15, 4.6), BLACK), ((11.35, 8.0), (12.75, 8.0), BLACK),
        ((14.3, 7.1), (14.3, 5.5), BLACK), ((3.75, 7.6), (5.4, 5.75), ORANGE),
        ((9.6, 5.75), (9.6, 7.25), GREEN), ((7.6, 7.25), (7.6, 5.75), GREEN),
    ):  # fmt: skip
        arrow(axes, start, end, colour)
    bent_arrow(axes, [(12.6, 2.1), (12.6, 2.75), (8.6, 2.75), (8.6, 3.45)], VERMILLION)
    axes.text(9.75, 6.5, "direction", fontsize=8.5, color=GREEN, va="center")
    axes.text(12.05, 7.5, "after\nN steps", fontsize=8.5, ha="center", va="center")
    axes.text(7.45, 6.5, "x, a little cleaner", fontsize=8.5, color=GREEN, ha="right", va="center")
    alt = (
        f"The prompt goes through tokenizer and text encoder of lesson 7: {seen['context']}. "
        f"Noise {latent} goes round between lesson 9's transformer, with lesson 5's guidance, and "
        f"this lesson's Euler step, N times; the result goes through lesson 8's decoder."
    )
    return Picture(figure, alt)


# --- what was measured


def same_or_not(prompts: Sequence[str], vectors: Tensor) -> Picture:
    """How alike prompts are to their reader: the cosines of their vectors, as numbers and colours.

    Args:
        prompts: B prompts.
        vectors: (B, D), one a prompt.
    """
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    alike = (unit @ unit.T).numpy()
    figure, (axes,) = panels(1, 1, 5.6, 2.2)
    axes.imshow(alike, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    numbers = [str(place) for place in range(1, len(prompts) + 1)]
    names = [f"{number}: {prompt}" for number, prompt in zip(numbers, prompts, strict=True)]
    axes.set_yticks(range(len(prompts)), names)
    axes.set_xticks(range(len(prompts)), numbers)
    axes.tick_params(length=0)
    axes.grid(False)
    for (row, column), value in np.ndenumerate(alike):
        colour = "black" if value > 0.6 else "white"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
    rows, columns = np.triu_indices(len(prompts), 1)
    told = [
        f"{numbers[i]} and {numbers[j]}: {alike[i, j]:.2f}"
        for i, j in zip(rows, columns, strict=True)
    ]
    return Picture(figure, f"How alike the reader finds {'; '.join(names)}: {', '.join(told)}.")


def _shape(value: Tensor) -> str:
    return f"({', '.join(map(str, value.shape))})"
